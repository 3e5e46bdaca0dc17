/*
 * VFIO_IOMMU_BIND and VFIO_IOMMU_UNBIND of the 2018 series (patch 13/40, "vfio: Add support for Shared Virtual
 * Addressing"), which <linux/vfio.h> never got: after BIND, devices of the container use the process's own pointers,
 * tagged with the PASID that comes back.
 */
#ifndef IOMMUKIT_VFIO_SVA_H
#define IOMMUKIT_VFIO_SVA_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Flags of struct vfio_iommu_type1_bind, and of struct vfio_iommu_type1_bind_process. */
#define VFIO_IOMMU_BIND_PROCESS (1 << 0)
#define VFIO_IOMMU_BIND_PID (1 << 0)

struct vfio_iommu_type1_bind {
	__u32 argsz;
	__u32 flags; /* VFIO_IOMMU_BIND_PROCESS */
	__u8 data[];
};

struct vfio_iommu_type1_bind_process {
	__u32 flags; /* VFIO_IOMMU_BIND_PID: bind `pid` instead of the caller */
	__u32 pasid; /* returned */
	__s32 pid;
};

/* On a container with a type1 IOMMU: _IO(VFIO_TYPE, VFIO_BASE + 22) and + 23. */
#define VFIO_IOMMU_BIND _IO(';', 100 + 22)
#define VFIO_IOMMU_UNBIND _IO(';', 100 + 23)

#endif
