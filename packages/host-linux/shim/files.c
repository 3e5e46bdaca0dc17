/*
 * System calls on files. Descriptors of the bridge are sockets to it, so that dup, fork, exec, poll and the end of a process
 * are the kernel's own; what a socket cannot do goes to the bridge.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "shim.h"

/* A transfer is cut into parts of this size, as large reads of a device are. */
#define PART 65536

static bool is_status(const char *path) {
  char own[32];
  snprintf(own, sizeof own, "/proc/%d/status", getpid());
  return path && uses_bridge() && (strcmp(path, "/proc/self/status") == 0 || strcmp(path, own) == 0);
}

/* /proc/self/status with the pages in VmLck that VFIO holds. */
static int open_status(int flags) {
  static const char LINE[] = "\nVmLck:";
  char text[8192];
  int from = (int)kernel(SYS_openat, AT_FDCWD, "/proc/self/status", O_RDONLY | O_CLOEXEC);
  if (from < 0) return -1;
  ssize_t length = kernel(SYS_read, from, text, sizeof text - 1);
  kernel(SYS_close, from);
  text[length > 0 ? length : 0] = 0;
  char *line = strstr(text, LINE), *rest = line ? strchr(line + 1, '\n') : NULL;
  int fd = (int)kernel(SYS_memfd_create, "status", flags & O_CLOEXEC ? MFD_CLOEXEC : 0);
  if (fd < 0 || !rest) return fd;
  long kilobytes = (long)simple_call(OP_LOCKED, 0, 0) * (PAGE / 1024);
  *line = 0;
  dprintf(fd, "%s%s\t%8ld kB%s", text, LINE, kilobytes, rest);
  kernel(SYS_lseek, fd, 0, SEEK_SET);
  return fd;
}

typedef int opener(int directory, const char *path, int flags, mode_t mode);

static int open_any(opener *real, int directory, const char *path, int flags, mode_t mode) {
  struct place place;
  if (!run_directory) return real(directory, path, flags, mode);
  if (is_status(path)) return open_status(flags);
  const char *target = locate(directory, path, &place);
  if (place.seen && !(flags & (O_PATH | O_DIRECTORY))) {
    int fd = open_file(OP_OPEN, (uint64_t)flags, place.seen, flags);
    if (fd >= 0 || errno != NOT_A_NODE) return fd;
  }
  return real(directory, target, flags, mode);
}

static mode_t mode_of(int flags, va_list list) {
  return flags & (O_CREAT | __O_TMPFILE) ? va_arg(list, mode_t) : 0;
}

static int real_openat(int directory, const char *path, int flags, mode_t mode) {
  REAL(int, openat, int, const char *, int, ...);
  return real(directory, path, flags, mode);
}

#define OPEN(name) \
  EXPORT int name(const char *path, int flags, ...) { \
    va_list list; \
    va_start(list, flags); \
    mode_t mode = mode_of(flags, list); \
    va_end(list); \
    return open_any(real_openat, AT_FDCWD, path, flags, mode); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name) \
  EXPORT int name(int directory, const char *path, int flags, ...) { \
    va_list list; \
    va_start(list, flags); \
    mode_t mode = mode_of(flags, list); \
    va_end(list); \
    return open_any(real_openat, directory, path, flags, mode); \
  }
OPENAT(openat)
OPENAT(openat64)

EXPORT int __open_2(const char *path, int flags) {
  return open_any(real_openat, AT_FDCWD, path, flags, 0);
}
EXPORT int __open64_2(const char *path, int flags) {
  return open_any(real_openat, AT_FDCWD, path, flags, 0);
}
EXPORT int __openat_2(int directory, const char *path, int flags) {
  return open_any(real_openat, directory, path, flags, 0);
}
EXPORT int __openat64_2(int directory, const char *path, int flags) {
  return open_any(real_openat, directory, path, flags, 0);
}

static int stream_flags(const char *mode) {
  int write = strchr(mode, '+') ? O_RDWR : mode[0] == 'r' ? O_RDONLY : O_WRONLY;
  return write | (strchr(mode, 'e') ? O_CLOEXEC : 0);
}

#define FOPEN(name) \
  EXPORT FILE *name(const char *restrict path, const char *restrict mode) { \
    REAL(FILE *, name, const char *, const char *); \
    struct place place; \
    locate(AT_FDCWD, path, &place); \
    if (!place.seen && !is_status(path)) return real(path, mode); \
    int fd = open_any(real_openat, AT_FDCWD, path, stream_flags(mode), 0); \
    return fd < 0 ? NULL : fdopen(fd, mode); \
  }
FOPEN(fopen)
FOPEN(fopen64)

/* What the kernel does at close, the bridge has done when this returns. */
static int close_file(int fd) {
  bool ours = file_of(fd) != 0;
  int result = (int)kernel(SYS_close, fd);
  if (ours && result == 0) simple_call(OP_SYNC, 0, 0);
  return result;
}

EXPORT int close(int fd) {
  REAL(int, close, int);
  if (!run_directory || !uses_bridge()) return real(fd);
  if (is_private(fd)) {
    errno = EBADF;
    return -1;
  }
  return file_of(fd) ? close_file(fd) : real(fd);
}

/* A number that is taken over is closed. */
typedef int duplicator(int from, int to, int flags);

static int duplicate(duplicator *real, int from, int to, int flags) {
  if (!uses_bridge() || from == to) return real(from, to, flags);
  leave_number(to);
  bool ours = file_of(to) != 0;
  int result = real(from, to, flags);
  if (ours && result >= 0) simple_call(OP_SYNC, 0, 0);
  return result;
}

static int real_dup2(int from, int to, int flags) {
  REAL(int, dup2, int, int);
  (void)flags;
  return real(from, to);
}

static int real_dup3(int from, int to, int flags) {
  REAL(int, dup3, int, int, int);
  return real(from, to, flags);
}

EXPORT int dup2(int from, int to) {
  return duplicate(real_dup2, from, to, 0);
}

EXPORT int dup3(int from, int to, int flags) {
  return duplicate(real_dup3, from, to, flags);
}

EXPORT int close_range(unsigned first, unsigned last, int flags) {
  REAL(int, close_range, unsigned, unsigned, int);
  if (!uses_bridge()) return real(first, last, flags);
  long limit = sysconf(_SC_OPEN_MAX);
  for (unsigned fd = first; fd <= last && fd < (unsigned)limit; fd++) {
    if (is_private((int)fd)) continue;
    if (flags & CLOSE_RANGE_CLOEXEC) fcntl((int)fd, F_SETFD, FD_CLOEXEC);
    else if (fcntl((int)fd, F_GETFD) >= 0) close((int)fd);
  }
  return 0;
}

EXPORT void closefrom(int first) {
  close_range(first < 0 ? 0 : (unsigned)first, ~0u, 0);
}

/* Requests that every file answers by itself. */
static bool is_generic(unsigned long request) {
  return request == FIOCLEX || request == FIONCLEX || request == FIONBIO || request == FIOASYNC;
}

EXPORT int ioctl(int fd, unsigned long number, ...) {
  REAL(int, ioctl, int, unsigned long, ...);
  va_list list;
  va_start(list, number);
  void *argument = va_arg(list, void *);
  va_end(list);
  uint64_t file = run_directory && !is_generic(number) ? file_of(fd) : 0;
  if (!file) return real(fd, number, argument);
  struct request request = new_request(OP_IOCTL);
  struct reply reply;
  request.file = file;
  request.a = number;
  request.b = (uint64_t)argument;
  request.c = (uint64_t)fd;
  int64_t result = call(&request, NULL, &reply, NULL, 0, NULL);
  if (result >= 0 && reply.flags & REPLY_NEW_FILE) return open_file(OP_ADOPT, (uint64_t)result, NULL, O_CLOEXEC);
  return (int)result;
}

static ssize_t read_file(uint64_t file, void *into, size_t count, uint64_t position) {
  size_t done = 0;
  do {
    struct request request = new_request(OP_READ);
    struct reply reply;
    size_t got, part = count - done < PART ? count - done : PART;
    request.file = file;
    request.a = part;
    request.b = position == CURRENT ? CURRENT : position + done;
    if (call(&request, NULL, &reply, (char *)into + done, part, &got) < 0) return done ? (ssize_t)done : -1;
    done += got;
    if (got < part) break;
  } while (done < count);
  return (ssize_t)done;
}

static ssize_t write_file(uint64_t file, const void *from, size_t count, uint64_t position) {
  size_t done = 0;
  do {
    struct request request = new_request(OP_WRITE);
    struct reply reply;
    size_t part = count - done < PART ? count - done : PART;
    request.file = file;
    request.b = position == CURRENT ? CURRENT : position + done;
    request.length = (uint32_t)part;
    int64_t wrote = call(&request, (const char *)from + done, &reply, NULL, 0, NULL);
    if (wrote < 0) return done ? (ssize_t)done : -1;
    done += (size_t)wrote;
    if ((size_t)wrote < part) break;
  } while (done < count);
  return (ssize_t)done;
}

EXPORT ssize_t read(int fd, void *into, size_t count) {
  REAL(ssize_t, read, int, void *, size_t);
  uint64_t file = file_of(fd);
  return file ? read_file(file, into, count, CURRENT) : real(fd, into, count);
}

EXPORT ssize_t write(int fd, const void *from, size_t count) {
  REAL(ssize_t, write, int, const void *, size_t);
  uint64_t file = file_of(fd);
  return file ? write_file(file, from, count, CURRENT) : real(fd, from, count);
}

EXPORT ssize_t __read_chk(int fd, void *into, size_t count, size_t room) {
  if (count > room) abort();
  return read(fd, into, count);
}

/* A call with a position of its own: from 0 up. */
static ssize_t no_position(void) {
  errno = EINVAL;
  return -1;
}

#define PREAD(name) \
  EXPORT ssize_t name(int fd, void *into, size_t count, off_t position) { \
    REAL(ssize_t, name, int, void *, size_t, off_t); \
    uint64_t file = file_of(fd); \
    if (file && position < 0) return no_position(); \
    return file ? read_file(file, into, count, (uint64_t)position) : real(fd, into, count, position); \
  }
PREAD(pread)
PREAD(pread64)

EXPORT ssize_t __pread_chk(int fd, void *into, size_t count, off_t position, size_t room) {
  if (count > room) abort();
  return pread(fd, into, count, position);
}
EXPORT ssize_t __pread64_chk(int fd, void *into, size_t count, off_t position, size_t room) {
  return __pread_chk(fd, into, count, position, room);
}

#define PWRITE(name) \
  EXPORT ssize_t name(int fd, const void *from, size_t count, off_t position) { \
    REAL(ssize_t, name, int, const void *, size_t, off_t); \
    uint64_t file = file_of(fd); \
    if (file && position < 0) return no_position(); \
    return file ? write_file(file, from, count, (uint64_t)position) : real(fd, from, count, position); \
  }
PWRITE(pwrite)
PWRITE(pwrite64)

/* Part by part, until one comes out short. */
static ssize_t vector_file(uint64_t file, const struct iovec *parts, int count, off_t position, bool write) {
  ssize_t done = 0;
  for (int i = 0; i < count; i++) {
    uint64_t at = position < 0 ? CURRENT : (uint64_t)(position + done);
    ssize_t moved = write ? write_file(file, parts[i].iov_base, parts[i].iov_len, at)
                          : read_file(file, parts[i].iov_base, parts[i].iov_len, at);
    if (moved < 0) return done > 0 ? done : -1;
    done += moved;
    if ((size_t)moved < parts[i].iov_len) break;
  }
  return done;
}

#define VECTOR(name, write) \
  EXPORT ssize_t name(int fd, const struct iovec *parts, int count) { \
    REAL(ssize_t, name, int, const struct iovec *, int); \
    uint64_t file = file_of(fd); \
    return file ? vector_file(file, parts, count, -1, write) : real(fd, parts, count); \
  }
VECTOR(readv, false)
VECTOR(writev, true)

#define PVECTOR(name, write) \
  EXPORT ssize_t name(int fd, const struct iovec *parts, int count, off_t position) { \
    REAL(ssize_t, name, int, const struct iovec *, int, off_t); \
    uint64_t file = file_of(fd); \
    if (file && position < 0) return no_position(); \
    return file ? vector_file(file, parts, count, position, write) : real(fd, parts, count, position); \
  }
PVECTOR(preadv, false)
PVECTOR(preadv64, false)
PVECTOR(pwritev, true)
PVECTOR(pwritev64, true)

/* Here -1 is where the file stands. */
#define PVECTOR2(name, write) \
  EXPORT ssize_t name(int fd, const struct iovec *parts, int count, off_t position, int flags) { \
    REAL(ssize_t, name, int, const struct iovec *, int, off_t, int); \
    uint64_t file = file_of(fd); \
    if (file && position < -1) return no_position(); \
    return file ? vector_file(file, parts, count, position, write) : real(fd, parts, count, position, flags); \
  }
PVECTOR2(preadv2, false)
PVECTOR2(preadv64v2, false)
PVECTOR2(pwritev2, true)
PVECTOR2(pwritev64v2, true)

#define LSEEK(name) \
  EXPORT off_t name(int fd, off_t offset, int whence) { \
    REAL(off_t, name, int, off_t, int); \
    uint64_t file = file_of(fd); \
    if (!file) return real(fd, offset, whence); \
    struct request request = new_request(OP_SEEK); \
    struct reply reply; \
    request.file = file; \
    request.a = (uint64_t)offset; \
    request.b = (uint64_t)whence; \
    return call(&request, NULL, &reply, NULL, 0, NULL); \
  }
LSEEK(lseek)
LSEEK(lseek64)

/* openat2 has no function of its own in the C library. Other system calls made this way go past this library. */
EXPORT long syscall(long number, ...) {
  va_list list;
  long a[6];
  va_start(list, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
  va_end(list);
  if (!kernel) kernel = (long (*)(long, ...))next_symbol("syscall");
  const struct open_how *how = (const struct open_how *)a[2];
  if (number == SYS_openat2 && run_directory && how && (size_t)a[3] >= sizeof *how && !how->resolve)
    return open_any(real_openat, (int)a[0], (const char *)a[1], (int)how->flags, (mode_t)how->mode);
  return kernel(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
