/* Parts of the library that programs load. */
#ifndef IOMMUKIT_SHIM_H
#define IOMMUKIT_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "protocol.h"

#define EXPORT __attribute__((visibility("default")))
/* The next definition of a function that this library wraps. */
#define REAL(result, name, ...) \
  static result (*real)(__VA_ARGS__); \
  if (!real) real = (result(*)(__VA_ARGS__))next_symbol(#name)

void *next_symbol(const char *name);

/* client.c: requests. */
extern const char *run_directory; /* NULL: not under `iommukit run`; everything passes through */
bool uses_bridge(void);           /* this process has spoken to the bridge */
bool is_watched(void);            /* its mappings matter to a device */
bool is_private(int fd);          /* a connection of the library's own */
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

/* paths.c: what the program sees under /dev and /sys. */
/* The path to use in place of `path`: itself, or one below the run directory, written to `buffer`. */
const char *redirect(const char *path, char *buffer);
bool is_device_node(const char *path);

/* mmio.c: registers in mapped BARs. */
void *map_region(uint64_t file, void *address, size_t length, int prot, int flags, off_t offset);
/* The program is about to unmap or replace a range. */
void forget_range(void *address, size_t length);

#endif
