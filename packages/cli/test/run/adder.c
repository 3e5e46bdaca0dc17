/* Drives the device of examples/src/06-own-device.ts: four words added up in this program's memory, and the interrupt. */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define BDF "0000:00:04.0"
#define CHECK(condition) \
  do { \
    if (!(condition)) { \
      perror(#condition); \
      exit(1); \
    } \
  } while (0)

int main(void) {
  char link[128] = "", path[64];
  CHECK(readlink("/sys/bus/pci/devices/" BDF "/iommu_group", link, 127) > 0);
  snprintf(path, sizeof path, "/dev/vfio%s", strrchr(link, '/'));
  int container = open("/dev/vfio/vfio", O_RDWR), group = open(path, O_RDWR);
  CHECK(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) == 0);
  CHECK(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0);
  int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, BDF);
  struct vfio_region_info config = {.argsz = sizeof config, .index = VFIO_PCI_CONFIG_REGION_INDEX};
  CHECK(device >= 0 && ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) == 0);
  uint16_t command = 6;
  CHECK(pwrite(device, &command, 2, (off_t)config.offset + 4) == 2);
  struct {
    struct vfio_irq_set set;
    int32_t fd;
  } irqs = {{sizeof irqs, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_PCI_MSI_IRQ_INDEX, 0, 1}, eventfd(0, 0)};
  CHECK(ioctl(device, VFIO_DEVICE_SET_IRQS, &irqs) == 0);
  uint32_t *words = aligned_alloc(4096, 4096), sum, status, count = 4;
  for (uint32_t i = 0; i < count; i++) words[i] = 10 * (i + 1);
  struct vfio_iommu_type1_dma_map map = {sizeof map, 3, (uintptr_t)words, 0x10000, 4096};
  CHECK(ioctl(container, VFIO_IOMMU_MAP_DMA, &map) == 0);
  uint64_t address = 0x10000, interrupts;
  CHECK(pwrite(device, &address, 8, 0x00) == 8 && pwrite(device, &count, 4, 0x08) == 4);
  CHECK(read(irqs.fd, &interrupts, 8) == 8);
  CHECK(pread(device, &sum, 4, 0x0c) == 4 && pread(device, &status, 4, 0x10) == 4);
  printf("sum %u, status %u\n", sum, status);
  return sum == 100 && status == 0 ? 0 : 1;
}
