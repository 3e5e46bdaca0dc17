/** Structures of VFIO_IOMMU_BIND and VFIO_IOMMU_UNBIND as patch 13/40 of the 2018 series defines them (F27). */
import { layout } from "@iommukit/core";
import { u32 } from "./struct.js";

const SPEC = "[PATCH v2 13/40] vfio: Add support for Shared Virtual Addressing";

/** The one mode; `flags` must equal it. */
export const VFIO_IOMMU_BIND_PROCESS = 1 << 0;

/** In BindProcess.flags: `pid` names the process; without it the caller binds itself. */
export const VFIO_IOMMU_BIND_PID = 1 << 0;

export const Bind = layout(
  { name: "vfio_iommu_type1_bind", bits: 64, spec: SPEC, summary: "head of VFIO_IOMMU_BIND and UNBIND" },
  { argsz: u32(0, "at least 20 with BIND_PROCESS"), flags: u32(4, "BIND_PROCESS") },
);

export const BindProcess = layout(
  { name: "vfio_iommu_type1_bind_process", bits: 96, spec: SPEC, summary: "follows with BIND_PROCESS" },
  {
    flags: u32(0, "BIND_PID: bind the process `pid`, not the caller"),
    pasid: u32(4, "returned: the PASID, the same on every device of the container"),
    pid: u32(8, "signed process id"),
  },
);
