/*
 * Mapped BARs. The pages of a mapped region have no rights: each access of the program traps, is decoded, and becomes one
 * access of the same width on the machine's bus. What the decoder does not know ends the program with a message.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "decode.h"
#include "shim.h"

#define REGIONS 256
#define SHARED_FLAG 0x100

struct region {
  _Atomic uintptr_t start; /* 0: free */
  size_t length;
  uint64_t mapping;
};

static struct region regions[REGIONS];
static struct sigaction others; /* what the program wants done at a SIGSEGV of its own */
static atomic_int trapping;

static struct region *find_region(uintptr_t address) {
  for (int i = 0; i < REGIONS; i++) {
    uintptr_t start = atomic_load(&regions[i].start);
    if (start && address >= start && address - start < regions[i].length) return &regions[i];
  }
  return NULL;
}

static bool bus_access(const struct region *region, uintptr_t address, int width, uint64_t *value, bool write) {
  for (int done = 0; done < width; done += 8) {
    struct request request = new_request(OP_ACCESS);
    struct reply reply;
    size_t got;
    request.file = region->mapping;
    request.a = address + (uintptr_t)done - atomic_load(&region->start);
    request.b = width < 8 ? (uint64_t)width : 8;
    request.c = value[done / 8];
    request.d = write;
    uint64_t read = 0;
    if (call(&request, NULL, &reply, &read, sizeof read, &got) < 0) return false;
    if (!write) value[done / 8] = read;
  }
  return true;
}

static void give_up(const char *what, const uint8_t *code) {
  char line[160];
  int length = snprintf(line, sizeof line, "iommukit: %s (instruction bytes", what);
  for (int i = 0; i < 12; i++) length += snprintf(line + length, sizeof line - (size_t)length, " %02x", code[i]);
  length += snprintf(line + length, sizeof line - (size_t)length, ")\n");
  if (write(2, line, (size_t)length) < 0) _exit(139);
  signal(SIGSEGV, SIG_DFL);
}

static void pass_on(int number, siginfo_t *info, void *context) {
  if (others.sa_flags & SA_SIGINFO && others.sa_sigaction) return others.sa_sigaction(number, info, context);
  if (others.sa_handler != SIG_DFL && others.sa_handler != SIG_IGN) return others.sa_handler(number);
  struct sigaction standard = {.sa_handler = SIG_DFL};
  syscall(SYS_rt_sigaction, SIGSEGV, &standard, NULL, 8);
  standard.sa_handler = SIG_DFL;
  signal(SIGSEGV, SIG_DFL);
}

static void on_fault(int number, siginfo_t *info, void *context) {
  uintptr_t address = (uintptr_t)info->si_addr;
  const struct region *region = find_region(address);
  if (!region) return pass_on(number, info, context);
  int saved = errno;
  struct instruction instruction;
  if (!decode(context, &instruction)) return give_up("an access to a mapped BAR that is not known", code_at(context));
  uint64_t memory[4] = {0};
  do {
    bool fine = (!instruction.reads || bus_access(region, address, instruction.width, memory, false)) &&
                (execute(context, &instruction, memory),
                 !instruction.writes || bus_access(region, address, instruction.width, memory, true));
    if (!fine) {
      errno = saved;
      signal(SIGBUS, SIG_DFL);
      raise(SIGBUS);
      return;
    }
    address += (uintptr_t)advance(context, &instruction);
  } while (repeats(context, &instruction) && (region = find_region(address)));
  errno = saved;
}

static int real_sigaction(int number, const struct sigaction *new, struct sigaction *old) {
  REAL(int, sigaction, int, const struct sigaction *, struct sigaction *);
  return real(number, new, old);
}

EXPORT int sigaction(int number, const struct sigaction *restrict new, struct sigaction *restrict old) {
  if (number != SIGSEGV || !atomic_load(&trapping)) return real_sigaction(number, new, old);
  struct sigaction before = others;
  if (new) others = *new;
  if (old) *old = before;
  return 0;
}

EXPORT void (*signal(int number, void (*handler)(int)))(int) {
  struct sigaction new = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;
  return sigaction(number, &new, &old) < 0 ? SIG_ERR : old.sa_handler;
}

static void start_trapping(void) {
  if (atomic_exchange(&trapping, 1)) return;
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART};
  real_sigaction(SIGSEGV, &action, &others);
}

static struct region *free_region(void) {
  for (int i = 0; i < REGIONS; i++)
    if (!atomic_load(&regions[i].start)) return &regions[i];
  return NULL;
}

static void *real_mmap(void *address, size_t length, int prot, int flags) {
  REAL(void *, mmap, void *, size_t, int, int, int, off_t);
  return real(address, length, prot, flags, -1, 0);
}

void *map_region(uint64_t file, void *address, size_t length, int prot, int flags, off_t offset) {
  struct region *region = free_region();
  if (!region || !can_decode()) {
    errno = region ? ENODEV : ENOMEM;
    return MAP_FAILED;
  }
  int placement = flags & (MAP_FIXED | MAP_FIXED_NOREPLACE);
  void *place = real_mmap(address, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | placement);
  if (place == MAP_FAILED) return place;
  struct request request = new_request(OP_MAP);
  struct reply reply;
  request.file = file;
  request.a = (uint64_t)offset;
  request.b = length;
  request.c = (uint64_t)place;
  request.d = (uint64_t)prot | (flags & MAP_SHARED ? SHARED_FLAG : 0);
  int64_t mapping = call(&request, NULL, &reply, NULL, 0, NULL);
  if (mapping < 0) {
    syscall(SYS_munmap, place, length);
    return MAP_FAILED;
  }
  region->length = length;
  region->mapping = (uint64_t)mapping;
  atomic_store(&region->start, (uintptr_t)place);
  start_trapping();
  return place;
}

void forget_range(void *address, size_t length) {
  uintptr_t from = (uintptr_t)address;
  bool mapped = false;
  for (int i = 0; i < REGIONS; i++) {
    uintptr_t start = atomic_load(&regions[i].start);
    if (!start || start + regions[i].length <= from || from + length <= start) continue;
    mapped = true;
    if (from <= start && start + regions[i].length <= from + length) atomic_store(&regions[i].start, 0);
  }
  if (mapped || is_watched()) simple_call(OP_FORGET, (uint64_t)address, length);
}
