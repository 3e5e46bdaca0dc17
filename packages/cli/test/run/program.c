/* What programs do with VFIO's descriptors, one subcommand each. Prints "ok" and returns 0, or says which line failed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/openat2.h>
#include <linux/vfio.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define EDU "0000:00:05.0"
#define PAGE 4096UL
#define CHECK(condition) \
  do { \
    if (!(condition)) { \
      printf("line %d: %s (%s)\n", __LINE__, #condition, strerror(errno)); \
      exit(1); \
    } \
  } while (0)

static int container, group, device;
static const char *bdf = EDU;

static int open_group(void) {
  char link[128] = "", path[64];
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/iommu_group", bdf);
  CHECK(readlink(path, link, 127) > 0);
  snprintf(path, sizeof path, "/dev/vfio%s", strrchr(link, '/'));
  return open(path, O_RDWR);
}

static void open_all(void) {
  CHECK((container = open("/dev/vfio/vfio", O_RDWR)) >= 0);
  CHECK((group = open_group()) >= 0);
  CHECK(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) == 0);
  CHECK(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) == 0);
  CHECK((device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf)) >= 0);
}

static void close_all(void) {
  CHECK(close(device) == 0 && close(group) == 0 && close(container) == 0);
}

static off_t region(unsigned index) {
  struct vfio_region_info info = {.argsz = sizeof info, .index = index};
  CHECK(ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) == 0);
  return (off_t)info.offset;
}

static void *map_bar(void) {
  void *bar = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, device, region(0));
  CHECK(bar != MAP_FAILED);
  return bar;
}

static int map_dma(void *memory, uint64_t iova, size_t size) {
  struct vfio_iommu_type1_dma_map map = {sizeof map, 3, (uintptr_t)memory, iova, size};
  return ioctl(container, VFIO_IOMMU_MAP_DMA, &map);
}

static void command(uint16_t set) {
  uint16_t value;
  off_t at = region(VFIO_PCI_CONFIG_REGION_INDEX) + 4;
  CHECK(pread(device, &value, 2, at) == 2);
  value |= set;
  CHECK(pwrite(device, &value, 2, at) == 2);
}

static void *memory_of(size_t size) {
  void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  return memory;
}

/* Container, group, device and a mapped BAR, let go in every order: afterwards the group is free again. */
static void every_order(void) {
  for (int order = 0; order < 24; order++) {
    int left[4] = {0, 1, 2, 3}, rest = order;
    open_all();
    command(6);
    CHECK(map_dma(memory_of(PAGE), 0, PAGE) == 0);
    void *bar = map_bar();
    for (int n = 4; n > 0; rest /= n, n--) {
      int pick = rest % n, what = left[pick];
      memmove(&left[pick], &left[pick + 1], (size_t)(3 - pick) * sizeof *left);
      CHECK((what == 0 ? close(container) : what == 1 ? close(group) : what == 2 ? close(device) : munmap(bar, 1 << 20)) == 0);
    }
  }
  open_all();
  close_all();
}

/* dup, fork and exec share the open file; close-on-exec does not survive. */
static void inherit(char *self) {
  open_all();
  int copy = dup(container), status;
  CHECK(close(container) == 0);
  container = copy;
  CHECK(ioctl(copy, VFIO_GET_API_VERSION) == 0);
  pid_t child = fork();
  if (child == 0) {
    char number[16], other[16];
    CHECK(map_dma(memory_of(PAGE), 0x10000, PAGE) == 0);
    snprintf(number, sizeof number, "%d", copy);
    snprintf(other, sizeof other, "%d", device);
    execl(self, self, "inherited", number, other, NULL);
    _exit(1);
  }
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  struct vfio_iommu_type1_dma_unmap unmap = {sizeof unmap, 0, 0x10000, PAGE};
  CHECK(ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap) == 0 && unmap.size == PAGE);
  close_all();
}

static void inherited(int number, int other) {
  CHECK(ioctl(number, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) == 1);
  /* GET_DEVICE_FD opens with O_CLOEXEC. */
  CHECK(ioctl(other, VFIO_DEVICE_RESET) == -1 && errno == EBADF);
}

static void *hammer(void *unused) {
  (void)unused;
  for (int i = 0; i < 200; i++)
    if (ioctl(container, VFIO_GET_API_VERSION) != 0) return "failed";
  return NULL;
}

static void threads(void) {
  pthread_t running[8];
  open_all();
  for (int i = 0; i < 8; i++) CHECK(pthread_create(&running[i], NULL, hammer, NULL) == 0);
  for (int i = 0; i < 8; i++) {
    void *result;
    CHECK(pthread_join(running[i], &result) == 0 && result == NULL);
  }
  close_all();
}

/* edu's factorial raises an interrupt: poll sees the eventfd, also one that was closed by its number in between. */
static void interrupts(void) {
  open_all();
  command(6);
  struct {
    struct vfio_irq_set set;
    int32_t fd;
  } irqs = {{sizeof irqs, VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_PCI_MSI_IRQ_INDEX, 0, 1}, 0};
  int event = irqs.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), kept = dup(event);
  CHECK(ioctl(device, VFIO_DEVICE_SET_IRQS, &irqs) == 0);
  CHECK(close(event) == 0);
  volatile uint32_t *bar = map_bar();
  uint64_t count;
  CHECK(read(kept, &count, 8) == -1 && errno == EAGAIN);
  bar[0x60 / 4] = 1;
  struct pollfd polled = {kept, POLLIN, 0};
  CHECK(poll(&polled, 1, 5000) == 1 && read(kept, &count, 8) == 8 && count == 1);
  /* Triggered by the program itself. */
  struct vfio_irq_set trigger = {sizeof trigger, VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER, VFIO_PCI_MSI_IRQ_INDEX, 0, 1};
  CHECK(ioctl(device, VFIO_DEVICE_SET_IRQS, &trigger) == 0);
  CHECK(poll(&polled, 1, 5000) == 1);
  munmap((void *)bar, 1 << 20);
  close_all();
}

/* Registers through a mapped BAR in every width that edu takes, and memory-to-memory forms. */
static void registers(void) {
  open_all();
  command(6);
  volatile uint8_t *bar = map_bar();
  volatile uint32_t *words = (volatile uint32_t *)bar;
  volatile uint64_t *longs = (volatile uint64_t *)bar;
  CHECK((words[0] & 0xff) == 0xed);
  words[1] = 0x12345678;
  CHECK(words[1] == ~0x12345678u);
  longs[0x80 / 8] = 0x1122334455667788;
  CHECK(longs[0x80 / 8] == 0x1122334455667788);
  uint32_t value;
  CHECK(pread(device, &value, 4, region(0) + 4) == 4 && value == ~0x12345678u);
#ifdef __x86_64__
  uint64_t result = 0, flags;
  __asm__ volatile("cmpl %2, 4(%1); pushfq; popq %0" : "=r"(flags) : "r"(bar), "r"(~0x12345678u) : "memory", "cc");
  CHECK(flags & 0x40);
  __asm__ volatile("addq $8, 0x80(%0)" : : "r"(bar) : "memory", "cc");
  CHECK(longs[0x80 / 8] == 0x1122334455667790);
  __asm__ volatile("movq 0x80(%1), %%xmm3; movq %%xmm3, %0" : "=r"(result) : "r"(bar) : "xmm3", "memory");
  CHECK(result == 0x1122334455667790);
  __asm__ volatile("movq %1, %%xmm4; movq %%xmm4, 0x88(%0)" : : "r"(bar), "r"(0x8877665544332211UL) : "xmm4", "memory");
  CHECK(longs[0x88 / 8] == 0x8877665544332211);
  __asm__ volatile("xchgl %0, 4(%1)" : "+r"(value) : "r"(bar) : "memory");
  CHECK(value == ~0x12345678u && words[1] == 0x12345678u);
  uint64_t copies[2];
  void *to = copies;
  const void *from = (const void *)&longs[0x80 / 8];
  uint64_t times = 2;
  __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(times) : : "memory");
  CHECK(copies[0] == 0x1122334455667790 && copies[1] == 0x8877665544332211 && times == 0);
  int32_t wide = 0;
  __asm__ volatile("movslq 4(%1), %q0" : "=r"(wide) : "r"(bar) : "memory");
  CHECK(wide == 0x12345678);
#endif
  munmap((void *)bar, 1 << 20);
  close_all();
}

/* The C library's own copies and comparisons, with whatever vectors it uses, on a BAR that is like memory: a portal. */
static void vectors(void) {
  bdf = "0000:6a:01.0";
  open_all();
  command(6);
  char *bar = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, device, region(2)), one[60], other[60];
  CHECK(bar != MAP_FAILED);
  for (size_t size = 1; size < 60; size++) {
    for (size_t i = 0; i < size; i++) one[i] = (char)(i * 7 + size);
    memcpy(bar + PAGE, one, size);
    memset(other, 0, size);
    memcpy(other, bar + PAGE, size);
    CHECK(memcmp(one, other, size) == 0 && memcmp(bar + PAGE, one, size) == 0);
  }
  munmap(bar, 4 * PAGE);
  close_all();
}

/* A fault of the program's own is still one, beside a mapped BAR. */
static void segfault(void) {
  open_all();
  map_bar();
  *(volatile int *)8 = 1;
}

/* Ends in the middle of edu's DMA, with everything open. */
static void killed(void) {
  open_all();
  command(6);
  volatile uint64_t *bar = map_bar();
  CHECK(map_dma(memory_of(16 * PAGE), 0x100000, 16 * PAGE) == 0);
  bar[0x80 / 8] = 0x40000;
  bar[0x88 / 8] = 0x100000;
  bar[0x90 / 8] = 4096;
  bar[0x98 / 8] = 3;
  kill(getpid(), SIGKILL);
}

/* edu reads where nothing is mapped. */
static void stray(void) {
  open_all();
  command(6);
  volatile uint64_t *bar = map_bar();
  bar[0x80 / 8] = 0x900000;
  bar[0x88 / 8] = 0x40000;
  bar[0x90 / 8] = 64;
  bar[0x98 / 8] = 1;
  while (bar[0x98 / 8] & 1) usleep(1000);
  munmap((void *)bar, 1 << 20);
  close_all();
}

/* A process that is not the caller's child any more is served as well. */
static void daemonized(void) {
  int ends[2];
  char answer = 0;
  CHECK(pipe(ends) == 0);
  if (fork() == 0) {
    if (fork() > 0) _exit(0);
    usleep(50000);
    open_all();
    CHECK(map_dma(memory_of(PAGE), 0, PAGE) == 0);
    close_all();
    _exit(write(ends[1], "k", 1) != 1);
  }
  close(ends[1]);
  CHECK(read(ends[0], &answer, 1) == 1 && answer == 'k');
  wait(NULL);
}

/* The same paths and files by other calls: relative to a directory, openat2, by descriptor, in parts. */
static void other_calls(void) {
  struct stat status;
  struct statx extended;
  char here[4096], target[128] = "";
  uint16_t vendor = 0, id = 0;
  int nodes = open("/dev/vfio", O_RDONLY | O_DIRECTORY);
  CHECK(nodes >= 0 && (container = openat(nodes, "vfio", O_RDWR | O_CLOEXEC)) >= 0);
  CHECK(ioctl(container, VFIO_GET_API_VERSION) == 0);
  CHECK(fstat(container, &status) == 0 && S_ISCHR(status.st_mode) && status.st_rdev == makedev(10, 196));
  CHECK(fstatat(nodes, "./vfio", &status, 0) == 0 && S_ISCHR(status.st_mode));
  CHECK(statx(container, "", AT_EMPTY_PATH, STATX_TYPE, &extended) == 0 && S_ISCHR(extended.stx_mode));
  CHECK(close(container) == 0);
  struct open_how how = {.flags = O_RDWR};
  CHECK((container = (int)syscall(SYS_openat2, AT_FDCWD, "/dev//vfio/vfio", &how, sizeof how)) >= 0);
  CHECK(ioctl(container, VFIO_GET_API_VERSION) == 0 && close(container) == 0);
  CHECK(chdir("/sys/bus/pci/devices/" EDU) == 0 && getcwd(here, sizeof here) && strncmp(here, "/sys/devices/pci", 16) == 0);
  CHECK(readlink("iommu_group", target, 127) > 0 && strstr(target, "kernel/iommu_groups/") && access("vendor", R_OK) == 0);
  CHECK(chdir("/dev") == 0 && (container = open("vfio/vfio", O_RDWR)) >= 0 && close(container) == 0);
  glob_t found;
  CHECK(glob("/dev/vfio/*", 0, NULL, &found) == 0 && strcmp(found.gl_pathv[found.gl_pathc - 1], "/dev/vfio/vfio") == 0);
  globfree(&found);
  open_all();
  CHECK(fstat(device, &status) == 0 && (status.st_mode & S_IFMT) == 0);
  off_t config = region(VFIO_PCI_CONFIG_REGION_INDEX);
  struct iovec parts[2] = {{&vendor, 2}, {&id, 2}};
  CHECK(preadv(device, parts, 2, config) == 4 && vendor == 0x1234 && id == 0x11e8);
  CHECK(preadv(device, parts, 2, -1) == -1 && errno == EINVAL);
  CHECK(pread(device, &vendor, 2, -1) == -1 && errno == EINVAL);
  CHECK(pwrite(device, &vendor, 2, -4096) == -1 && errno == EINVAL);
  CHECK(lseek(device, 0, SEEK_SET) == -1 && errno == ESPIPE);
  int limit = open("/sys/module/vfio_iommu_type1/parameters/dma_entry_limit", O_RDONLY);
  CHECK(readv(limit, parts, 2) == 4 && memcmp(&vendor, "65", 2) == 0 && memcmp(&id, "53", 2) == 0 && close(limit) == 0);
  uint8_t line = 0x42, seen = 0;
  struct iovec one = {&line, 1};
  CHECK(pwritev(device, &one, 1, config + 0x3c) == 1 && pread(device, &seen, 1, config + 0x3c) == 1 && seen == 0x42);
  close_all();
}

/* A descriptor that another takes the number of is closed; the library's own connections move out of the way. */
static void duplicates(void) {
  open_all();
  int nothing = open("/dev/null", O_RDWR);
  CHECK(dup2(nothing, device) == device && dup3(nothing, group, O_CLOEXEC) == group && close(container) == 0);
  CHECK((container = open("/dev/vfio/vfio", O_RDWR)) >= 0 && (group = open_group()) >= 0);
  for (int number = 512; number < 520; number++) CHECK(dup2(nothing, number) == number);
  CHECK(ioctl(container, VFIO_GET_API_VERSION) == 0 && close(group) == 0 && close(container) == 0);
  for (int number = 512; number < 520; number++) CHECK(fcntl(number, F_GETFD) == 0 && close(number) == 0);
}

/* A thread that has every signal blocked touches registers as any other; so does a signal handler. */
static void *touch(void *registers) {
  sigset_t all;
  sigfillset(&all);
  CHECK(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
  volatile uint32_t *words = registers;
  words[1] = 0x55;
  return words[1] == ~0x55u ? NULL : "wrong";
}

static volatile uint32_t *handled;
static void on_signal(int number) {
  handled[1] = (uint32_t)number;
}

static void blocked(void) {
  pthread_t thread;
  void *result;
  open_all();
  command(6);
  void *bar = map_bar();
  CHECK(pthread_create(&thread, NULL, touch, bar) == 0 && pthread_join(thread, &result) == 0 && result == NULL);
  handled = bar;
  struct sigaction action = {.sa_handler = on_signal};
  sigfillset(&action.sa_mask);
  CHECK(sigaction(SIGUSR1, &action, NULL) == 0 && raise(SIGUSR1) == 0 && handled[1] == ~(uint32_t)SIGUSR1);
  munmap(bar, 1 << 20);
  close_all();
}

/* posix_spawn runs its child in this memory for a while: it must leave the connections alone. */
static void spawned(void) {
  char *arguments[] = {"true", NULL};
  posix_spawn_file_actions_t actions;
  int status;
  open_all();
  CHECK(posix_spawn_file_actions_init(&actions) == 0 && posix_spawn_file_actions_addclose(&actions, container) == 0);
  for (int i = 0; i < 5; i++) {
    pid_t child;
    CHECK(posix_spawnp(&child, "true", &actions, NULL, arguments, environ) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0 && ioctl(container, VFIO_GET_API_VERSION) == 0);
  }
  posix_spawn_file_actions_destroy(&actions);
  if (vfork() == 0) {
    close(device);
    _exit(0);
  }
  CHECK(ioctl(container, VFIO_GET_API_VERSION) == 0 && ioctl(device, VFIO_DEVICE_RESET) == -1 && errno == EINVAL);
  close_all();
}

/* edu's DMA between its buffer at 0x40000 and an IOVA. */
static void edu_dma(volatile uint64_t *bar, uint64_t iova, uint64_t count, bool to_memory) {
  bar[0x80 / 8] = to_memory ? 0x40000 : iova;
  bar[0x88 / 8] = to_memory ? iova : 0x40000;
  bar[0x90 / 8] = count;
  bar[0x98 / 8] = to_memory ? 3 : 1;
  while (bar[0x98 / 8] & 1) usleep(1000);
}

/* Pinned pages follow mremap to their new place, and survive what is mapped over their old one. */
static void moved(void) {
  open_all();
  command(6);
  volatile uint64_t *bar = map_bar();
  char *memory = memory_of(4 * PAGE), *other;
  strcpy(memory + PAGE, "from the program");
  CHECK(map_dma(memory, 0x100000, 4 * PAGE) == 0);
  CHECK((other = mremap(memory, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, memory_of(8 * PAGE))) != MAP_FAILED);
  edu_dma(bar, 0x100000 + PAGE, 64, false);
  strcpy(other + PAGE, "overwritten");
  edu_dma(bar, 0x100000 + 2 * PAGE, 64, true);
  CHECK(strcmp(other + 2 * PAGE, "from the program") == 0);
  CHECK(mmap(other, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == other);
  edu_dma(bar, 0x100000 + PAGE, 64, true);
  CHECK(other[PAGE] == 0);
  edu_dma(bar, 0x100000 + 2 * PAGE, 64, false);
  edu_dma(bar, 0x100000 + PAGE, 64, true);
  struct vfio_iommu_type1_dma_unmap unmap = {sizeof unmap, 0, 0x100000, 4 * PAGE};
  CHECK(ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap) == 0 && unmap.size == 4 * PAGE);
  munmap((void *)bar, 1 << 20);
  close_all();
}

/* Pages that nobody has touched are the kernel's one page of zeros, before 6.2 also when a device is to read them. */
static void untouched(long kilobytes) {
  char line[256];
  long locked = -1;
  open_all();
  struct vfio_iommu_type1_dma_map map = {sizeof map, VFIO_DMA_MAP_FLAG_READ, (uintptr_t)memory_of(16 * PAGE), 0, 16 * PAGE};
  CHECK(ioctl(container, VFIO_IOMMU_MAP_DMA, &map) == 0);
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(line, sizeof line, status))
    if (strncmp(line, "VmLck:", 6) == 0) locked = atol(line + 6);
  CHECK(status && fclose(status) == 0 && locked == kilobytes);
  close_all();
}

/* A BAR is mapped for DMA as memory is: the device reads its own registers. */
static void peer(void) {
  open_all();
  command(6);
  volatile uint64_t *bar = map_bar();
  CHECK(map_dma((void *)bar, 0x100000, PAGE) == 0);
  edu_dma(bar, 0x100000, 4, false);
  char *memory = memory_of(PAGE);
  CHECK(map_dma(memory, 0x200000, PAGE) == 0);
  edu_dma(bar, 0x200000, 4, true);
  CHECK((*(uint32_t *)memory & 0xff) == 0xed);
  munmap((void *)bar, 1 << 20);
  close_all();
}

static void files(void) {
  struct stat status;
  char text[64] = "", resolved[4096];
  CHECK(stat("/dev/vfio/vfio", &status) == 0 && S_ISCHR(status.st_mode));
  CHECK(access("/dev/iommu", F_OK) == -1 && errno == ENOENT);
  CHECK(open("/dev/vfio/4711", O_RDWR) == -1 && errno == ENOENT);
  FILE *file = fopen("/sys/bus/pci/devices/" EDU "/vendor", "r");
  CHECK(file && fgets(text, 64, file) && strcmp(text, "0x1234\n") == 0);
  fclose(file);
  CHECK(realpath("/sys/bus/pci/devices/" EDU "/iommu_group", resolved) && strncmp(resolved, "/sys/kernel/iommu_groups/", 25) == 0);
}

static void steal(void) {
  int first = open_group();
  CHECK(first >= 0 && open_group() == -1 && errno == EBUSY);
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "";
  if (!strcmp(what, "orders")) every_order();
  else if (!strcmp(what, "inherit")) inherit(argv[0]);
  else if (!strcmp(what, "inherited")) inherited(atoi(argv[2]), atoi(argv[3]));
  else if (!strcmp(what, "threads")) threads();
  else if (!strcmp(what, "interrupts")) interrupts();
  else if (!strcmp(what, "registers")) registers();
  else if (!strcmp(what, "vectors")) vectors();
  else if (!strcmp(what, "segfault")) segfault();
  else if (!strcmp(what, "killed")) killed();
  else if (!strcmp(what, "stray")) stray();
  else if (!strcmp(what, "daemon")) daemonized();
  else if (!strcmp(what, "calls")) other_calls();
  else if (!strcmp(what, "duplicates")) duplicates();
  else if (!strcmp(what, "blocked")) blocked();
  else if (!strcmp(what, "spawned")) spawned();
  else if (!strcmp(what, "moved")) moved();
  else if (!strcmp(what, "untouched")) untouched(atol(argv[2]));
  else if (!strcmp(what, "peer")) peer();
  else if (!strcmp(what, "files")) files();
  else if (!strcmp(what, "steal")) steal();
  else return 2;
  printf("ok\n");
  return 0;
}
