/* A program that shares its pointers with the accelerator, and takes memory away, or ends, in the middle of a DMA. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <iommukit/vfio-sva.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define BDF "0000:6a:01.0"
#define PAGE 4096UL
#define SIZE (256 * PAGE)
#define CHECK(condition) \
  do { \
    if (!(condition)) { \
      printf("line %d: %s (%s)\n", __LINE__, #condition, strerror(errno)); \
      exit(1); \
    } \
  } while (0)

/* As in Intel DSA; packages/pci-device, descriptor.ts. */
struct descriptor {
  uint32_t pasid, flags_opcode;
  uint64_t completion, source, destination;
  uint32_t size;
  uint16_t interrupt, reserved;
  uint64_t specific[3];
} __attribute__((aligned(64)));

struct completion {
  uint8_t status, result, fault_info, reserved;
  uint32_t completed;
  uint64_t fault_address, value, reserved2;
} __attribute__((aligned(32)));

enum { BLOCK_ON_FAULT = 1 << 1, RECORD_VALID = 1 << 2, REQUEST_RECORD = 1 << 3, MEMFILL = 4 };
enum { SUCCESS = 1, INVALID_RESPONSE = 4, WRITE_FAULT = 0x80 };

static int container, group, device;
static volatile uint64_t *portal;
static volatile struct completion *record;
static struct {
  struct vfio_iommu_type1_bind head;
  struct vfio_iommu_type1_bind_process process;
} bound = {{sizeof bound, VFIO_IOMMU_BIND_PROCESS}, {0}};

static void *map_bar(unsigned index) {
  struct vfio_region_info info = {.argsz = sizeof info, .index = index};
  CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) == 0);
  void *bar = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, (off_t)info.offset);
  CHECK(bar != MAP_FAILED);
  return bar;
}

static void *memory_of(size_t size) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  return memory;
}

static void open_all(void) {
  char link[128] = "", path[64];
  CHECK(readlink("/sys/bus/pci/devices/" BDF "/iommu_group", link, 127) > 0);
  snprintf(path, sizeof path, "/dev/vfio%s", strrchr(link, '/'));
  CHECK((container = open("/dev/vfio/vfio", O_RDWR)) >= 0 && (group = open(path, O_RDWR)) >= 0);
  CHECK(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) == 0);
  CHECK(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0);
  CHECK((device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, BDF)) >= 0);
  CHECK(ioctl(container, VFIO_IOMMU_BIND, &bound) == 0);
  struct vfio_region_info config = {.argsz = sizeof config, .index = VFIO_PCI_CONFIG_REGION_INDEX};
  uint16_t command = 6;
  CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) == 0);
  CHECK(pwrite(device, &command, 2, (off_t)config.offset + 4) == 2);
  volatile uint32_t *registers = map_bar(0);
  portal = map_bar(2);
  record = memory_of(PAGE);
  *(volatile uint64_t *)(registers + 0x400 / 4) = 16 | 7ULL << 32 | (uint64_t)bound.process.pasid << 36;
  registers[0x20 / 4] = 1 << 20;
  registers[0x20 / 4] = 6 << 20;
}

static void start_fill(void *memory, size_t size) {
  struct descriptor work = {.source = 0x5555555555555555, .destination = (uint64_t)memory, .size = (uint32_t)size};
  uint64_t words[8];
  memset((void *)record, 0, sizeof *record);
  work.flags_opcode = MEMFILL << 24 | BLOCK_ON_FAULT | RECORD_VALID | REQUEST_RECORD;
  work.completion = (uint64_t)record;
  memcpy(words, &work, sizeof work);
  for (int i = 0; i < 8; i++) portal[i] = words[i];
}

static uint8_t end_of(void) {
  for (int i = 0; record->status == 0 && i < 5000; i++) usleep(1000);
  return record->status;
}

static uint8_t fill(void *memory) {
  start_fill(memory, PAGE);
  return end_of();
}

/* Waits until the device has come to a page: it is none of the program's doing that it is there. */
static void wait_for(volatile char *page) {
  for (int i = 0; *page != 0x55 && i < 5000; i++) usleep(500);
  CHECK(*page == 0x55);
}

/* The device's next access to what is gone is answered with Invalid Request; what it did before stands. */
static void unmap(void) {
  char *memory = memory_of(SIZE);
  start_fill(memory, SIZE);
  wait_for(memory);
  CHECK(munmap(memory + SIZE - PAGE, PAGE) == 0);
  CHECK(end_of() == (INVALID_RESPONSE | WRITE_FAULT));
  CHECK(record->fault_address == (uint64_t)(memory + SIZE - PAGE) && record->completed == SIZE - PAGE);
  CHECK(memory[SIZE - PAGE - 1] == 0x55);
  CHECK(fill(memory) == SUCCESS);
}

/* Memory that came back is the program's new memory, not the old page. */
static void replace(void) {
  char *memory = memory_of(SIZE);
  CHECK(fill(memory) == SUCCESS && memory[0] == 0x55);
  CHECK(munmap(memory, PAGE) == 0);
  CHECK(mmap(memory, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == memory);
  CHECK(memory[0] == 0);
  CHECK(fill(memory) == SUCCESS && memory[0] == 0x55);
  CHECK(mprotect(memory, PAGE, PROT_READ) == 0);
  CHECK(fill(memory) == (INVALID_RESPONSE | WRITE_FAULT));
  CHECK(mprotect(memory, PAGE, PROT_READ | PROT_WRITE) == 0);
  CHECK(fill(memory) == SUCCESS);
}

/* A child has its own memory: the device that it drives writes the parent's, whose PASID it is. */
static void child(void) {
  char *memory = memory_of(PAGE);
  int status;
  memory[0] = 1;
  pid_t pid = fork();
  if (pid == 0) {
    start_fill(memory, PAGE);
    usleep(300000);
    _exit(memory[0] == 1 && record->status == 0 ? 0 : 1);
  }
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  CHECK(memory[0] == 0x55 && record->status == SUCCESS);
}

static int other(unsigned request, pid_t pid) {
  bound.process.flags = VFIO_IOMMU_BIND_PID;
  bound.process.pid = pid;
  int result = ioctl(container, request, &bound);
  bound.process.flags = 0;
  return result == 0 ? 0 : errno;
}

/* A child is bound by its pid, whether it has made a call before or not, whoever it is: until it has exited. */
static void foreign(void) {
  uint32_t own = bound.process.pasid;
  int hold[2], status;
  CHECK(pipe(hold) == 0);
  pid_t pid = fork();
  if (pid == 0) _exit(read(hold[0], &status, 1) == 1 ? 0 : 1);
  CHECK(other(VFIO_IOMMU_BIND, pid) == 0 && bound.process.pasid != own);
  CHECK(other(VFIO_IOMMU_UNBIND, pid) == 0 && other(VFIO_IOMMU_UNBIND, pid) == ESRCH);
  CHECK(other(VFIO_IOMMU_BIND, pid) == 0 && bound.process.pasid != own);
  CHECK(write(hold[1], "x", 1) == 1 && waitpid(pid, &status, 0) == pid && status == 0);
  CHECK(other(VFIO_IOMMU_BIND, pid) == ESRCH && other(VFIO_IOMMU_UNBIND, pid) == ESRCH);
  pid = fork();
  if (pid == 0) {
    /* Another user may not have root's memory; where nobody is root there is no other user. */
    if (getuid() != 0) _exit(0);
    _exit(setresuid(1000, 1000, 1000) == 0 && other(VFIO_IOMMU_BIND, getppid()) == EACCES ? 0 : 1);
  }
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  CHECK(other(VFIO_IOMMU_BIND, getpid()) == 0 && bound.process.pasid == own);
  CHECK(other(VFIO_IOMMU_BIND, gettid()) == 0 && other(VFIO_IOMMU_BIND, 0) == ESRCH && other(VFIO_IOMMU_BIND, -1) == ESRCH);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  open_all();
  if (!strcmp(what, "unmap")) unmap();
  else if (!strcmp(what, "replace")) replace();
  else if (!strcmp(what, "child")) child();
  else if (!strcmp(what, "foreign")) foreign();
  else if (!strcmp(what, "kill")) {
    char *memory = memory_of(SIZE);
    start_fill(memory, SIZE);
    wait_for(memory);
    kill(getpid(), SIGKILL);
  } else return 2;
  CHECK(ioctl(container, VFIO_IOMMU_UNBIND, &bound) == 0);
  CHECK(close(device) == 0 && close(group) == 0 && close(container) == 0);
  printf("ok\n");
  return 0;
}
