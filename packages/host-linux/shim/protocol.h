/*
 * What the library in the program and the bridge say to each other: fixed records over a Unix stream socket, little
 * endian, each followed by `length` bytes. src/bridge/protocol.ts is the other side.
 *
 * Every connection begins with the session's key. A connection whose first request is OPEN or ADOPT becomes an open file:
 * the program holds it as its descriptor, and when the last reference to it is closed, by close, exit or a signal, the
 * bridge sees the end of the stream. All other connections carry requests.
 */
#ifndef IOMMUKIT_PROTOCOL_H
#define IOMMUKIT_PROTOCOL_H

#include <stdint.h>

#define KEY_BYTES 32

enum op {
  OP_HELLO = 1,   /* a = pid of the parent, if this is a forked child that used the bridge */
  OP_OPEN,        /* a = flags, b = inode of this connection's socket, payload = path */
  OP_ADOPT,       /* a = token of a NEW_FILE reply, b = inode of this connection's socket */
  OP_IOCTL,       /* a = request, b = argument, c = descriptor, for the record */
  OP_READ,        /* a = bytes, b = position, or CURRENT */
  OP_WRITE,       /* b = position, or CURRENT; payload = bytes */
  OP_SEEK,        /* a = offset, b = whence */
  OP_MAP,         /* a = offset, b = bytes, c = address, d = MAP_* flags of prot and sharing */
  OP_FORGET,      /* a = address, b = bytes: about to be unmapped or replaced */
  OP_PROTECT,     /* a = address, b = bytes: other rights now */
  OP_ACCESS,      /* file = mapping, a = offset, b = width, c = value, d = 1 for a write */
  OP_LOCKED,      /* pages that VFIO has charged to this process */
  OP_LOCK_CHECK,  /* a = bytes that mlock wants */
  OP_LOCK_ADD,    /* a = pages that mlock or munlock has added or taken away */
  OP_SYNC,        /* something was closed: answers when it has been released */
  OP_NAME,        /* payload of the reply: what the file is called */
  OP_SLEEP,       /* a = nanoseconds that the program skips */
  OP_MOVE,        /* a = address, b = bytes, c = address now: the pages have moved */
};

#define CURRENT UINT64_MAX

struct request {
  uint32_t op;
  uint32_t pid;
  uint64_t file; /* inode of the file's socket */
  uint64_t a, b, c, d;
  uint64_t memlock; /* RLIMIT_MEMLOCK of the caller */
  uint32_t uid;     /* its effective user */
  uint32_t length;
};

enum reply_flags {
  REPLY_NEW_FILE = 1, /* result is the token of a file that has to be adopted */
  REPLY_WATCH = 2,    /* say FORGET and PROTECT from now on */
};

struct reply {
  int64_t result;
  uint32_t error;     /* errno; 0 when it succeeded */
  uint32_t flags;
  uint32_t handovers; /* that many struct handover lead the payload */
  uint32_t length;
};

/* An eventfd of the program which the bridge will signal: goes to the broker. */
struct handover {
  uint32_t id;
  int32_t fd;
};

/* errno of an OPEN of something that is no file of the bridge. */
#define NOT_A_NODE 4095

#endif
