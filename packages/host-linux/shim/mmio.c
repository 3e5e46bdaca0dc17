/*
 * Mapped BARs. The pages of a mapped region have no rights: each access of the program traps, is decoded, and becomes one
 * access of the same width on the machine's bus. What the decoder does not know runs on a copy, a single step.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
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
static struct sigaction others, other_traps; /* what the program wants done at a SIGSEGV or SIGTRAP of its own */
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

static int real_sigaction(int number, const struct sigaction *new, struct sigaction *old) {
  REAL(int, sigaction, int, const struct sigaction *, struct sigaction *);
  return real(number, new, old);
}

/* Not ours: the program's handler, or the end of the program when the instruction runs again. */
static void pass_on(const struct sigaction *to, int number, siginfo_t *info, void *context) {
  struct sigaction standard = {.sa_handler = SIG_DFL};
  if (to->sa_flags & SA_SIGINFO) to->sa_sigaction(number, info, context);
  else if (to->sa_handler != SIG_DFL && to->sa_handler != SIG_IGN) to->sa_handler(number);
  else real_sigaction(number, &standard, NULL);
}

static void die_of(int number) {
  struct sigaction standard = {.sa_handler = SIG_DFL};
  real_sigaction(number, &standard, NULL);
  raise(number);
}

/*
 * An instruction that the decoder does not know computes on memory: vectors compared, masked, gathered. It runs for itself,
 * one step, on a copy of the bytes around the address; what it has changed there is written to the bus afterwards.
 */
#define WINDOW 128

static struct {
  atomic_int owner; /* thread; 0: nobody steps */
  const struct region *region;
  uintptr_t start;
  size_t length;
  uint64_t before[WINDOW / 8];
} stepping;

static void protect(int prot) {
  uintptr_t first = stepping.start & ~(PAGE - 1), end = (stepping.start + stepping.length + PAGE - 1) & ~(PAGE - 1);
  kernel(SYS_mprotect, first, end - first, prot);
}

static bool start_step(void *context, const struct region *region, uintptr_t address) {
  int nobody = 0, me = (int)kernel(SYS_gettid);
  while (!atomic_compare_exchange_strong(&stepping.owner, &nobody, me)) {
    nobody = 0;
    sched_yield();
  }
  uintptr_t end = atomic_load(&region->start) + region->length;
  stepping.region = region;
  stepping.start = address & ~63UL;
  stepping.length = end - stepping.start < WINDOW ? end - stepping.start : WINDOW;
  for (size_t at = 0; at < stepping.length; at += 8)
    if (!bus_access(region, stepping.start + at, 8, &stepping.before[at / 8], false)) {
      atomic_store(&stepping.owner, 0);
      return false;
    }
  protect(PROT_READ | PROT_WRITE);
  memcpy((void *)stepping.start, stepping.before, stepping.length);
  single_step(context, true);
  return true;
}

static void on_step(int number, siginfo_t *info, void *context) {
  if (atomic_load(&stepping.owner) != (int)kernel(SYS_gettid)) return pass_on(&other_traps, number, info, context);
  int saved = errno;
  uint64_t after[WINDOW / 8];
  memcpy(after, (void *)stepping.start, stepping.length);
  protect(PROT_NONE);
  single_step(context, false);
  bool fine = true;
  for (size_t i = 0; i < stepping.length / 8; i++)
    if (after[i] != stepping.before[i]) fine &= bus_access(stepping.region, stepping.start + 8 * i, 8, &after[i], true);
  atomic_store(&stepping.owner, 0);
  if (!fine) die_of(SIGBUS);
  errno = saved;
}

static void on_fault(int number, siginfo_t *info, void *context) {
  uintptr_t address = (uintptr_t)info->si_addr;
  const struct region *region = find_region(address);
  if (!region) return pass_on(&others, number, info, context);
  int saved = errno;
  struct instruction instruction;
  if (!decode(context, &instruction)) {
    if (!start_step(context, region, address)) die_of(SIGBUS);
    errno = saved;
    return;
  }
  uint64_t memory[4] = {0};
  do {
    bool fine = (!instruction.reads || bus_access(region, address, instruction.width, memory, false)) &&
                (execute(context, &instruction, memory),
                 !instruction.writes || bus_access(region, address, instruction.width, memory, true));
    if (!fine) {
      errno = saved;
      return die_of(SIGBUS);
    }
    address += (uintptr_t)advance(context, &instruction);
  } while (repeats(context, &instruction) && (region = find_region(address)));
  errno = saved;
}

/* A blocked SIGSEGV would be the end of a program that touches a register. */
static const sigset_t *without_traps(const sigset_t *set, sigset_t *copy) {
  if (!set || !run_directory) return set;
  *copy = *set;
  sigdelset(copy, SIGSEGV);
  sigdelset(copy, SIGTRAP);
  return copy;
}

#define MASK(name) \
  EXPORT int name(int how, const sigset_t *restrict new, sigset_t *restrict old) { \
    REAL(int, name, int, const sigset_t *, sigset_t *); \
    sigset_t copy; \
    return real(how, how == SIG_UNBLOCK ? new : without_traps(new, &copy), old); \
  }
MASK(sigprocmask)
MASK(pthread_sigmask)

EXPORT int sigaction(int number, const struct sigaction *restrict new, struct sigaction *restrict old) {
  struct sigaction open;
  if (new) {
    open = *new;
    without_traps(&new->sa_mask, &open.sa_mask);
    new = &open;
  }
  if ((number != SIGSEGV && number != SIGTRAP) || !atomic_load(&trapping)) return real_sigaction(number, new, old);
  struct sigaction *own = number == SIGSEGV ? &others : &other_traps, before = *own;
  if (new) *own = *new;
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
  action.sa_sigaction = on_step;
  real_sigaction(SIGTRAP, &action, &other_traps);
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
    kernel(SYS_munmap, place, length);
    return MAP_FAILED;
  }
  region->length = length;
  region->mapping = (uint64_t)mapping;
  atomic_store(&region->start, (uintptr_t)place);
  start_trapping();
  return place;
}

static bool overlaps(const struct region *region, uintptr_t from, size_t length) {
  uintptr_t start = atomic_load(&region->start);
  return start && from < start + region->length && start < from + length;
}

bool is_region(void *address, size_t length) {
  for (int i = 0; i < REGIONS; i++)
    if (overlaps(&regions[i], (uintptr_t)address, length)) return true;
  return false;
}

void forget_range(void *address, size_t length) {
  uintptr_t from = (uintptr_t)address;
  bool mapped = false;
  for (int i = 0; i < REGIONS; i++) {
    if (!overlaps(&regions[i], from, length)) continue;
    uintptr_t start = atomic_load(&regions[i].start);
    mapped = true;
    if (from <= start && start + regions[i].length <= from + length) atomic_store(&regions[i].start, 0);
  }
  if (mapped || is_watched()) simple_call(OP_FORGET, (uint64_t)address, length);
}
