/*
 * Paths. The bridge has laid out what a program finds of PCI devices and IOMMU groups as a directory tree; the paths of
 * sysfs and of /dev/vfio lead there.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "shim.h"

static const char *const PREFIXES[] = {
    "/dev/vfio", "/dev/iommu", "/dev/kmsg", "/sys/bus/pci", "/sys/kernel/iommu_groups", "/sys/class/iommu",
    "/sys/module/vfio", "/sys/module/vfio_iommu_type1", "/sys/module/vfio_pci", "/sys/devices/pci*",
};

/* `prefix` and whole components of it; one that ends in a star may be longer. */
static bool begins(const char *path, const char *prefix) {
  size_t length = strlen(prefix);
  if (prefix[length - 1] == '*') return strncmp(path, prefix, length - 1) == 0;
  return strncmp(path, prefix, length) == 0 && (path[length] == 0 || path[length] == '/');
}

const char *redirect(const char *path, char *buffer) {
  if (!run_directory || !path || path[0] != '/') return path;
  for (size_t i = 0; i < sizeof PREFIXES / sizeof *PREFIXES; i++) {
    if (!begins(path, PREFIXES[i])) continue;
    int length = snprintf(buffer, PATH_MAX, "%s/root%s", run_directory, path);
    return length < PATH_MAX ? buffer : path;
  }
  return path;
}

bool is_device_node(const char *path) {
  return run_directory && path && (begins(path, "/dev/vfio") || begins(path, "/dev/kmsg"));
}

/* /dev/vfio/vfio has the number of its driver, groups have those of theirs. */
static void as_node(const char *path, mode_t *mode, dev_t *number) {
  if (!is_device_node(path) || !S_ISREG(*mode)) return;
  *mode = S_IFCHR | (*mode & 0777);
  const char *name = strrchr(path, '/') + 1;
  *number = strcmp(name, "vfio") == 0 ? makedev(10, 196) : makedev(511, (unsigned)atoi(name));
}

#define STAT(name, type) \
  EXPORT int name(const char *path, struct type *into) { \
    REAL(int, name, const char *, struct type *); \
    char buffer[PATH_MAX]; \
    int result = real(redirect(path, buffer), into); \
    if (result == 0) as_node(path, &into->st_mode, &into->st_rdev); \
    return result; \
  }
STAT(stat, stat)
STAT(lstat, stat)
STAT(stat64, stat64)
STAT(lstat64, stat64)

#define XSTAT(name, type) \
  EXPORT int name(int version, const char *path, struct type *into) { \
    REAL(int, name, int, const char *, struct type *); \
    char buffer[PATH_MAX]; \
    int result = real(version, redirect(path, buffer), into); \
    if (result == 0) as_node(path, &into->st_mode, &into->st_rdev); \
    return result; \
  }
XSTAT(__xstat, stat)
XSTAT(__lxstat, stat)
XSTAT(__xstat64, stat64)
XSTAT(__lxstat64, stat64)

#define STATAT(name, type) \
  EXPORT int name(int directory, const char *path, struct type *into, int flags) { \
    REAL(int, name, int, const char *, struct type *, int); \
    char buffer[PATH_MAX]; \
    int result = real(directory, redirect(path, buffer), into, flags); \
    if (result == 0) as_node(path, &into->st_mode, &into->st_rdev); \
    return result; \
  }
STATAT(fstatat, stat)
STATAT(fstatat64, stat64)

EXPORT int statx(int directory, const char *restrict path, int flags, unsigned mask, struct statx *restrict into) {
  REAL(int, statx, int, const char *, int, unsigned, struct statx *);
  char buffer[PATH_MAX];
  int result = real(directory, redirect(path, buffer), flags, mask, into);
  if (result == 0) {
    mode_t mode = into->stx_mode;
    dev_t number = makedev(into->stx_rdev_major, into->stx_rdev_minor);
    as_node(path, &mode, &number);
    into->stx_mode = (uint16_t)mode;
    into->stx_rdev_major = major(number);
    into->stx_rdev_minor = minor(number);
  }
  return result;
}

EXPORT int access(const char *path, int mode) {
  REAL(int, access, const char *, int);
  char buffer[PATH_MAX];
  return real(redirect(path, buffer), mode);
}

EXPORT int faccessat(int directory, const char *path, int mode, int flags) {
  REAL(int, faccessat, int, const char *, int, int);
  char buffer[PATH_MAX];
  return real(directory, redirect(path, buffer), mode, flags);
}

EXPORT ssize_t readlink(const char *path, char *into, size_t size) {
  REAL(ssize_t, readlink, const char *, char *, size_t);
  char buffer[PATH_MAX];
  return real(redirect(path, buffer), into, size);
}

EXPORT ssize_t readlinkat(int directory, const char *path, char *into, size_t size) {
  REAL(ssize_t, readlinkat, int, const char *, char *, size_t);
  char buffer[PATH_MAX];
  return real(directory, redirect(path, buffer), into, size);
}

EXPORT ssize_t __readlink_chk(const char *path, char *into, size_t size, size_t room) {
  if (size > room) abort();
  return readlink(path, into, size);
}

EXPORT DIR *opendir(const char *path) {
  REAL(DIR *, opendir, const char *);
  char buffer[PATH_MAX];
  return real(redirect(path, buffer));
}

typedef int (*filter)(const struct dirent *);
typedef int (*order)(const struct dirent **, const struct dirent **);
EXPORT int scandir(const char *restrict path, struct dirent ***restrict list, filter select, order compare) {
  REAL(int, scandir, const char *, struct dirent ***, filter, order);
  char buffer[PATH_MAX];
  return real(redirect(path, buffer), list, select, compare);
}

EXPORT int chdir(const char *path) {
  REAL(int, chdir, const char *);
  char buffer[PATH_MAX];
  return real(redirect(path, buffer));
}

/* A path that a link led to is the program's own again. */
EXPORT char *realpath(const char *restrict path, char *restrict into) {
  REAL(char *, realpath, const char *, char *);
  char buffer[PATH_MAX];
  char *found = real(redirect(path, buffer), into);
  if (!found || !run_directory) return found;
  size_t length = (size_t)snprintf(buffer, sizeof buffer, "%s/root", run_directory);
  if (strncmp(found, buffer, length) == 0 && found[length] == '/') memmove(found, found + length, strlen(found + length) + 1);
  return found;
}

EXPORT char *__realpath_chk(const char *restrict path, char *restrict into, size_t room) {
  if (room < PATH_MAX) abort();
  return realpath(path, into);
}

EXPORT char *canonicalize_file_name(const char *path) {
  return realpath(path, NULL);
}
