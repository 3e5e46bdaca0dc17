/* System calls on memory: BARs are mapped here, and the bridge hears of what a device might still use before it is gone. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "shim.h"

#define MMAP(name) \
  EXPORT void *name(void *address, size_t length, int prot, int flags, int fd, off_t offset) { \
    REAL(void *, name, void *, size_t, int, int, int, off_t); \
    if (flags & MAP_FIXED) forget_range(address, length); \
    uint64_t file = flags & MAP_ANONYMOUS ? 0 : file_of(fd); \
    return file ? map_region(file, address, length, prot, flags, offset) : real(address, length, prot, flags, fd, offset); \
  }
MMAP(mmap)
MMAP(mmap64)

EXPORT int munmap(void *address, size_t length) {
  REAL(int, munmap, void *, size_t);
  forget_range(address, length);
  return real(address, length);
}

static void moved(void *from, size_t length, void *to) {
  struct request request = new_request(OP_MOVE);
  struct reply reply;
  request.a = (uint64_t)from;
  request.b = length;
  request.c = (uint64_t)to;
  call(&request, NULL, &reply, NULL, 0, NULL);
}

EXPORT void *mremap(void *address, size_t length, size_t new_length, int flags, ...) {
  REAL(void *, mremap, void *, size_t, size_t, int, ...);
  va_list list;
  va_start(list, flags);
  void *target = flags & MREMAP_FIXED ? va_arg(list, void *) : NULL;
  va_end(list);
  if (is_region(address, length)) {
    errno = EFAULT; /* VM_DONTEXPAND */
    return MAP_FAILED;
  }
  if (target) forget_range(target, new_length);
  if (new_length < length) forget_range((char *)address + new_length, length - new_length);
  void *result = real(address, length, new_length, flags, target);
  if (result != MAP_FAILED && result != address && is_watched())
    moved(address, length < new_length ? length : new_length, result);
  return result;
}

EXPORT int mprotect(void *address, size_t length, int prot) {
  REAL(int, mprotect, void *, size_t, int);
  int result = real(address, length, prot);
  if (result == 0 && is_watched()) simple_call(OP_PROTECT, (uint64_t)address, length);
  return result;
}

EXPORT int madvise(void *address, size_t length, int advice) {
  REAL(int, madvise, void *, size_t, int);
  if (advice == MADV_DONTNEED || advice == MADV_REMOVE) forget_range(address, length);
  return real(address, length, advice);
}

/* Locked pages, VFIO's and the program's, count together against RLIMIT_MEMLOCK. */
static long locked_pages(void) {
  char text[8192];
  int fd = (int)kernel(SYS_openat, AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC);
  ssize_t length = fd < 0 ? -1 : kernel(SYS_read, fd, text, sizeof text - 1);
  if (fd >= 0) kernel(SYS_close, fd);
  text[length > 0 ? length : 0] = 0;
  char *line = strstr(text, "\nVmLck:");
  return line ? atol(line + 7) / (PAGE / 1024) : 0;
}

typedef int locker(const void *, size_t);

static int change_lock(locker *real, const void *address, size_t length) {
  long before = locked_pages();
  int result = real(address, length);
  if (result == 0) simple_call(OP_LOCK_ADD, (uint64_t)(locked_pages() - before), 0);
  return result;
}

EXPORT int mlock(const void *address, size_t length) {
  REAL(int, mlock, const void *, size_t);
  if (!uses_bridge()) return real(address, length);
  return simple_call(OP_LOCK_CHECK, length, 0) < 0 ? -1 : change_lock(real, address, length);
}

EXPORT int munlock(const void *address, size_t length) {
  REAL(int, munlock, const void *, size_t);
  return uses_bridge() ? change_lock(real, address, length) : real(address, length);
}
