/* Parts of the library that programs load. */
#ifndef IOMMUKIT_SHIM_H
#define IOMMUKIT_SHIM_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "protocol.h"

#define PAGE 4096UL

#define EXPORT __attribute__((visibility("default")))
/* The next definition of a function that this library wraps. */
#define REAL(result, name, ...) \
  static result (*real)(__VA_ARGS__); \
  if (!real) real = (result(*)(__VA_ARGS__))next_symbol(#name)

void *next_symbol(const char *name);
/* System calls, past whatever wraps syscall(2). */
extern long (*kernel)(long number, ...);

/* client.c: requests. */
extern const char *run_directory; /* NULL: not under `iommukit run`; everything passes through */
extern bool skips_sleeps;         /* the program's sleeps take no time: the machine's clock goes on */
bool uses_bridge(void);           /* this process has spoken to the bridge */
bool is_watched(void);            /* its mappings matter to a device */
bool is_private(int fd);          /* a connection of the library's own */
void leave_number(int fd);        /* the program is about to use it: a connection there moves away */
struct request new_request(uint32_t op);
/*
 * Sends a request and `payload`; the reply's own payload goes to `into`, at most `capacity` bytes, its size to `got`.
 * Returns the result, or -1 with errno.
 */
int64_t call(struct request *request, const void *payload, struct reply *reply, void *into, size_t capacity, size_t *got);
int64_t simple_call(uint32_t op, uint64_t a, uint64_t b);
/* Opens a connection that becomes a file. Returns its descriptor, or -1 with errno. */
int open_file(uint32_t op, uint64_t a, const char *path, int flags);
/* The file that a descriptor is, 0 when it is none of the bridge's. */
uint64_t file_of(int fd);
/* Its name, in `into`. False: none of the bridge's. */
bool name_of(int fd, char *into, size_t size);

/* paths.c: what the program sees under /dev and /sys. */
struct place {
  char buffer[PATH_MAX];
  const char *seen; /* the path as the program knows it, when it is one of those; else NULL */
  const char *node; /* the same, when it is that of a device */
};
/* The path to use in place of `path`, which begins at `directory`: itself, or one below the run directory, in `place`. */
const char *locate(int directory, const char *path, struct place *place);
/* What stat says of a device's path. */
void as_node(const char *path, mode_t *mode, dev_t *number);

/* mmio.c: registers in mapped BARs. */
void *map_region(uint64_t file, void *address, size_t length, int prot, int flags, off_t offset);
bool is_region(void *address, size_t length);
/* The program is about to unmap or replace a range. */
void forget_range(void *address, size_t length);

#endif
