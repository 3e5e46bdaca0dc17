/*
 * Paths. The bridge has laid out what a program finds of PCI devices and IOMMU groups as a directory tree; the paths of
 * sysfs and of /dev/vfio lead there.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
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

static bool is_shown(const char *path) {
  for (size_t i = 0; i < sizeof PREFIXES / sizeof *PREFIXES; i++)
    if (begins(path, PREFIXES[i])) return true;
  return false;
}

static bool is_node(const char *path) {
  return begins(path, "/dev/vfio") || begins(path, "/dev/kmsg");
}

/* Adds `path` to `to`, of which `used` bytes are there, without "//" and "/./". False: too long. */
static bool append(char *to, size_t used, const char *path) {
  bool relative = path[0] != '/';
  if (relative) to[used++] = '/';
  for (; *path; path++) {
    if (used > 0 && to[used - 1] == '/' && (*path == '/' || (*path == '.' && (path[1] == '/' || path[1] == 0)))) continue;
    if (used + 1 >= PATH_MAX) return false;
    to[used++] = *path;
  }
  to[used] = 0;
  return true;
}

/* Directory that relative paths begin at, behind the tree's root in `to`; its length, or 0 when there is none. */
static size_t start_of(int directory, char *to, size_t root) {
  char link[64] = "/proc/self/cwd";
  if (directory != AT_FDCWD) snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
  int saved = errno;
  long length = kernel(SYS_readlinkat, AT_FDCWD, link, to + root, PATH_MAX - root - 1);
  errno = saved;
  if (length <= 0) return 0;
  if (length < (long)root || memcmp(to, to + root, root) != 0) return root + (size_t)length;
  memmove(to, to + root, (size_t)length);
  return (size_t)length;
}

const char *locate(int directory, const char *path, struct place *place) {
  place->seen = place->node = NULL;
  if (!run_directory || !path || !*path) return path;
  size_t root = (size_t)snprintf(place->buffer, sizeof place->buffer, "%s/root", run_directory), used = root;
  if (path[0] != '/') used = start_of(directory, place->buffer, root);
  if (used == 0 || !append(place->buffer, used, path)) return path;
  const char *seen = place->buffer + root;
  if (!is_shown(seen)) return path;
  place->seen = seen;
  if (is_node(seen)) place->node = seen;
  return place->buffer;
}

/* What the program may see of a path that a call has returned: the tree's root is "/". */
static char *as_seen(char *path) {
  if (!path || !run_directory) return path;
  char root[PATH_MAX];
  size_t length = (size_t)snprintf(root, sizeof root, "%s/root", run_directory);
  if (strncmp(path, root, length) == 0 && path[length] == '/') memmove(path, path + length, strlen(path + length) + 1);
  return path;
}

void as_node(const char *path, mode_t *mode, dev_t *number) {
  *mode = S_IFCHR | (*mode & 0777);
  const char *name = strrchr(path, '/') + 1;
  *number = strcmp(name, "vfio") == 0 ? makedev(10, 196) : strcmp(name, "kmsg") == 0 ? makedev(1, 11) : makedev(511, (unsigned)atoi(name));
}

/* Devices' descriptors are anonymous inodes: rights, and no type. */
static void as_file(int fd, mode_t *mode, dev_t *number) {
  char name[PATH_MAX];
  if (!name_of(fd, name, sizeof name)) return;
  *mode = 0600;
  *number = 0;
  if (is_node(name)) as_node(name, mode, number);
}

/* A descriptor that is a file of the bridge's when `path` is empty, a node when it leads to one. */
static void as_seen_at(int directory, const char *path, int flags, const struct place *place, mode_t *mode, dev_t *number) {
  if (place->node && S_ISREG(*mode)) as_node(place->node, mode, number);
  else if (path && !*path && flags & AT_EMPTY_PATH) as_file(directory, mode, number);
}

#define STAT(name, type) \
  EXPORT int name(const char *path, struct type *into) { \
    REAL(int, name, const char *, struct type *); \
    struct place place; \
    int result = real(locate(AT_FDCWD, path, &place), into); \
    if (result == 0) as_seen_at(AT_FDCWD, path, 0, &place, &into->st_mode, &into->st_rdev); \
    return result; \
  }
STAT(stat, stat)
STAT(lstat, stat)
STAT(stat64, stat64)
STAT(lstat64, stat64)

#define XSTAT(name, type) \
  EXPORT int name(int version, const char *path, struct type *into) { \
    REAL(int, name, int, const char *, struct type *); \
    struct place place; \
    int result = real(version, locate(AT_FDCWD, path, &place), into); \
    if (result == 0) as_seen_at(AT_FDCWD, path, 0, &place, &into->st_mode, &into->st_rdev); \
    return result; \
  }
XSTAT(__xstat, stat)
XSTAT(__lxstat, stat)
XSTAT(__xstat64, stat64)
XSTAT(__lxstat64, stat64)

#define STATAT(name, type) \
  EXPORT int name(int directory, const char *path, struct type *into, int flags) { \
    REAL(int, name, int, const char *, struct type *, int); \
    struct place place; \
    int result = real(directory, locate(directory, path, &place), into, flags); \
    if (result == 0) as_seen_at(directory, path, flags, &place, &into->st_mode, &into->st_rdev); \
    return result; \
  }
STATAT(fstatat, stat)
STATAT(fstatat64, stat64)

#define XSTATAT(name, type) \
  EXPORT int name(int version, int directory, const char *path, struct type *into, int flags) { \
    REAL(int, name, int, int, const char *, struct type *, int); \
    struct place place; \
    int result = real(version, directory, locate(directory, path, &place), into, flags); \
    if (result == 0) as_seen_at(directory, path, flags, &place, &into->st_mode, &into->st_rdev); \
    return result; \
  }
XSTATAT(__fxstatat, stat)
XSTATAT(__fxstatat64, stat64)

#define FSTAT(name, type) \
  EXPORT int name(int fd, struct type *into) { \
    REAL(int, name, int, struct type *); \
    int result = real(fd, into); \
    if (result == 0 && S_ISSOCK(into->st_mode)) as_file(fd, &into->st_mode, &into->st_rdev); \
    return result; \
  }
FSTAT(fstat, stat)
FSTAT(fstat64, stat64)

#define FXSTAT(name, type) \
  EXPORT int name(int version, int fd, struct type *into) { \
    REAL(int, name, int, int, struct type *); \
    int result = real(version, fd, into); \
    if (result == 0 && S_ISSOCK(into->st_mode)) as_file(fd, &into->st_mode, &into->st_rdev); \
    return result; \
  }
FXSTAT(__fxstat, stat)
FXSTAT(__fxstat64, stat64)

EXPORT int statx(int directory, const char *restrict path, int flags, unsigned mask, struct statx *restrict into) {
  REAL(int, statx, int, const char *, int, unsigned, struct statx *);
  struct place place;
  int result = real(directory, locate(directory, path, &place), flags, mask, into);
  if (result == 0) {
    mode_t mode = into->stx_mode;
    dev_t number = makedev(into->stx_rdev_major, into->stx_rdev_minor);
    as_seen_at(directory, path, flags, &place, &mode, &number);
    into->stx_mode = (uint16_t)mode;
    into->stx_rdev_major = major(number);
    into->stx_rdev_minor = minor(number);
  }
  return result;
}

#define ACCESS(name) \
  EXPORT int name(const char *path, int mode) { \
    REAL(int, name, const char *, int); \
    struct place place; \
    return real(locate(AT_FDCWD, path, &place), mode); \
  }
ACCESS(access)
ACCESS(euidaccess)
ACCESS(eaccess)

EXPORT int faccessat(int directory, const char *path, int mode, int flags) {
  REAL(int, faccessat, int, const char *, int, int);
  struct place place;
  return real(directory, locate(directory, path, &place), mode, flags);
}

EXPORT ssize_t readlink(const char *path, char *into, size_t size) {
  REAL(ssize_t, readlink, const char *, char *, size_t);
  struct place place;
  return real(locate(AT_FDCWD, path, &place), into, size);
}

EXPORT ssize_t readlinkat(int directory, const char *path, char *into, size_t size) {
  REAL(ssize_t, readlinkat, int, const char *, char *, size_t);
  struct place place;
  return real(directory, locate(directory, path, &place), into, size);
}

EXPORT ssize_t __readlink_chk(const char *path, char *into, size_t size, size_t room) {
  if (size > room) abort();
  return readlink(path, into, size);
}

EXPORT ssize_t __readlinkat_chk(int directory, const char *path, char *into, size_t size, size_t room) {
  if (size > room) abort();
  return readlinkat(directory, path, into, size);
}

#define GETXATTR(name) \
  EXPORT ssize_t name(const char *path, const char *attribute, void *value, size_t size) { \
    REAL(ssize_t, name, const char *, const char *, void *, size_t); \
    struct place place; \
    return real(locate(AT_FDCWD, path, &place), attribute, value, size); \
  }
GETXATTR(getxattr)
GETXATTR(lgetxattr)

#define LISTXATTR(name) \
  EXPORT ssize_t name(const char *path, char *list, size_t size) { \
    REAL(ssize_t, name, const char *, char *, size_t); \
    struct place place; \
    return real(locate(AT_FDCWD, path, &place), list, size); \
  }
LISTXATTR(listxattr)
LISTXATTR(llistxattr)

EXPORT DIR *opendir(const char *path) {
  REAL(DIR *, opendir, const char *);
  struct place place;
  return real(locate(AT_FDCWD, path, &place));
}

#define SCANDIR(name, type) \
  EXPORT int name(const char *restrict path, struct type ***restrict list, int (*filter)(const struct type *), \
                  int (*order)(const struct type **, const struct type **)) { \
    REAL(int, name, const char *, struct type ***, int (*)(const struct type *), \
         int (*)(const struct type **, const struct type **)); \
    struct place place; \
    return real(locate(AT_FDCWD, path, &place), list, filter, order); \
  }
SCANDIR(scandir, dirent)
SCANDIR(scandir64, dirent64)

/* Names of a pattern's matches come back as the program has asked for them. */
#define GLOB(name, type) \
  EXPORT int name(const char *restrict pattern, int flags, int (*error)(const char *, int), type *restrict into) { \
    REAL(int, name, const char *, int, int (*)(const char *, int), type *); \
    struct place place; \
    int result = real(locate(AT_FDCWD, pattern, &place), flags, error, into); \
    size_t first = flags & GLOB_DOOFFS ? into->gl_offs : 0; \
    for (size_t i = 0; result == 0 && i < into->gl_pathc; i++) as_seen(into->gl_pathv[first + i]); \
    return result; \
  }
GLOB(glob, glob_t)
GLOB(glob64, glob64_t)

EXPORT int chdir(const char *path) {
  REAL(int, chdir, const char *);
  struct place place;
  return real(locate(AT_FDCWD, path, &place));
}

EXPORT char *getcwd(char *into, size_t size) {
  REAL(char *, getcwd, char *, size_t);
  return as_seen(real(into, size));
}

EXPORT char *__getcwd_chk(char *into, size_t size, size_t room) {
  if (size > room) abort();
  return getcwd(into, size);
}

/* A path that a link led to is the program's own again. */
EXPORT char *realpath(const char *restrict path, char *restrict into) {
  REAL(char *, realpath, const char *, char *);
  struct place place;
  return as_seen(real(locate(AT_FDCWD, path, &place), into));
}

EXPORT char *__realpath_chk(const char *restrict path, char *restrict into, size_t room) {
  if (room < PATH_MAX) abort();
  return realpath(path, into);
}

EXPORT char *canonicalize_file_name(const char *path) {
  return realpath(path, NULL);
}
