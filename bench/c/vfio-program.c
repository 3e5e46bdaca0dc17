/*
 * A VFIO program to measure: how long an ioctl and a register access take it, and memory for a device's DMA. What it has
 * measured goes to RESULT, in nanoseconds; it ends when the file DONE is there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define BDF "0000:01:00.0"
#define CALLS 20000
#define CHECK(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #condition, strerror(errno)); \
      exit(1); \
    } \
  } while (0)

static int container, group, device;
static volatile uint32_t *registers;

static long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000L + time.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  long x = *(const long *)a, y = *(const long *)b;
  return (x > y) - (x < y);
}

static long median(void (*call)(void)) {
  static long spent[CALLS];
  for (int i = 0; i < CALLS; i++) {
    long start = now();
    call();
    spent[i] = now() - start;
  }
  qsort(spent, CALLS, sizeof *spent, ascending);
  return spent[CALLS / 2];
}

static void one_ioctl(void) {
  CHECK(ioctl(container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) == 1);
}

static void one_read(void) {
  (void)registers[0];
}

static void open_all(void) {
  char link[128] = "", path[64];
  CHECK(readlink("/sys/bus/pci/devices/" BDF "/iommu_group", link, 127) > 0);
  snprintf(path, sizeof path, "/dev/vfio%s", strrchr(link, '/'));
  CHECK((container = open("/dev/vfio/vfio", O_RDWR)) >= 0 && (group = open(path, O_RDWR)) >= 0);
  CHECK(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) == 0);
  CHECK(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0);
  CHECK((device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, BDF)) >= 0);
  struct vfio_region_info config = {.argsz = sizeof config, .index = VFIO_PCI_CONFIG_REGION_INDEX};
  uint16_t command = 6;
  CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) == 0);
  CHECK(pwrite(device, &command, 2, (off_t)config.offset + 4) == 2);
  registers = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
  CHECK(registers != MAP_FAILED);
}

/* Usage: vfio-program IOVA BYTES RESULT DONE */
int main(int argc, char **argv) {
  CHECK(argc == 5);
  uint64_t iova = strtoull(argv[1], NULL, 0), size = strtoull(argv[2], NULL, 0);
  open_all();
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  CHECK(memory != MAP_FAILED);
  struct vfio_iommu_type1_dma_map map = {sizeof map, 3, (uintptr_t)memory, iova, size};
  long start = now();
  CHECK(ioctl(container, VFIO_IOMMU_MAP_DMA, &map) == 0);
  long mapped = now() - start, called = median(one_ioctl), loaded = median(one_read);
  char draft[4096];
  snprintf(draft, sizeof draft, "%s.draft", argv[3]);
  FILE *result = fopen(draft, "w");
  CHECK(result);
  fprintf(result, "{\"map\": %ld, \"ioctl\": %ld, \"load\": %ld}\n", mapped, called, loaded);
  CHECK(fclose(result) == 0 && rename(draft, argv[3]) == 0);
  while (access(argv[4], F_OK) != 0) usleep(1000);
  return 0;
}
