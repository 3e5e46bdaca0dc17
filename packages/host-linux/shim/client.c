/* Connections to the bridge: a few per process, each used by one thread at a time. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "shim.h"

#define SLOTS 64
/* Connections live above the descriptors that a program gets, so that those have the numbers which they always have. */
#define FIRST_PRIVATE 512

struct slot {
  atomic_int busy;
  atomic_int fd; /* -1: not connected */
};

const char *run_directory;
bool skips_sleeps;
long (*kernel)(long number, ...);
static atomic_int owner; /* the process that has the connections; a child of vfork shows its parent's */
static char key[KEY_BYTES];
static struct slot slots[SLOTS];
static atomic_int connected, watched;
static atomic_uint parent;
static struct sockaddr_un server, broker;
static struct utsname machine;

void *next_symbol(const char *name) {
  return dlsym(RTLD_NEXT, name);
}

/* Not so in a child of vfork or of a bare clone: what is said here is another process's. */
static bool is_owner(void) {
  return atomic_load(&owner) == getpid();
}

bool uses_bridge(void) {
  return atomic_load(&connected) && is_owner();
}

bool is_watched(void) {
  return atomic_load(&watched);
}

bool is_private(int fd) {
  if (fd < 0 || !uses_bridge()) return false;
  for (int i = 0; i < SLOTS; i++)
    if (atomic_load(&slots[i].fd) == fd) return true;
  return false;
}

static void close_now(int fd) {
  kernel(SYS_close, fd);
}

/* The child has the parent's connections: it must not speak on them, nor keep them open. */
static void after_fork(void) {
  if (atomic_exchange(&connected, 0)) atomic_store(&parent, (unsigned)getppid());
  atomic_store(&owner, getpid());
  atomic_store(&watched, 0);
  for (int i = 0; i < SLOTS; i++) {
    int fd = atomic_exchange(&slots[i].fd, -1);
    if (fd >= 0) close_now(fd);
    atomic_store(&slots[i].busy, 0);
  }
}

__attribute__((constructor)) static void start(void) {
  const char *directory = getenv("IOMMUKIT_RUN"), *hex = getenv("IOMMUKIT_KEY");
  for (int i = 0; i < SLOTS; i++) atomic_store(&slots[i].fd, -1);
  if (!directory || !hex || strlen(hex) != KEY_BYTES || strlen(directory) > 80) return;
  memcpy(key, hex, KEY_BYTES);
  server.sun_family = broker.sun_family = AF_UNIX;
  snprintf(server.sun_path, sizeof server.sun_path, "%s/bridge", directory);
  snprintf(broker.sun_path, sizeof broker.sun_path, "%s/broker", directory);
  pthread_atfork(NULL, NULL, after_fork);
  char seen[128];
  snprintf(seen, sizeof seen, "%s/loaded", directory);
  kernel = (long (*)(long, ...))next_symbol("syscall");
  int fd = (int)kernel(SYS_openat, AT_FDCWD, seen, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd >= 0) close_now(fd);
  atomic_store(&owner, getpid());
  skips_sleeps = getenv("IOMMUKIT_SKIP_SLEEPS") != NULL;
  run_directory = strdup(directory);
}

static bool send_all(int fd, const void *bytes, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t count = send(fd, (const char *)bytes + done, length - done, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += (size_t)count;
  }
  return true;
}

static bool receive_all(int fd, void *bytes, size_t length) {
  for (size_t done = 0; done < length;) {
    ssize_t count = recv(fd, (char *)bytes + done, length - done, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    done += (size_t)count;
  }
  return true;
}

static int dial(const struct sockaddr_un *address, int flags) {
  int fd = socket(AF_UNIX, SOCK_STREAM | flags, 0);
  if (fd < 0) return -1;
  if (connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 && send_all(fd, key, KEY_BYTES)) return fd;
  close_now(fd);
  errno = ENODEV;
  return -1;
}

struct request new_request(uint32_t op) {
  struct rlimit limit;
  getrlimit(RLIMIT_MEMLOCK, &limit);
  return (struct request){.op = op, .pid = (uint32_t)getpid(), .memlock = limit.rlim_cur, .uid = geteuid()};
}

/* Gives eventfds to the broker, which keeps them for as long as the device may signal them. */
static void hand_over(const struct handover *list, uint32_t count) {
  int fd = dial(&broker, SOCK_CLOEXEC);
  if (fd < 0) return;
  for (uint32_t i = 0; i < count; i++) {
    union {
      struct cmsghdr header;
      char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec vector = {(void *)&list[i].id, sizeof list[i].id};
    struct msghdr message = {
        .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &list[i].fd, sizeof(int));
    char taken;
    if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0 || !receive_all(fd, &taken, 1)) break;
  }
  close_now(fd);
}

/* A reply and its payload; what does not fit `into` is dropped. */
static bool receive_reply(int fd, struct reply *reply, void *into, size_t capacity, size_t *got) {
  if (!receive_all(fd, reply, sizeof *reply)) return false;
  size_t rest = reply->length;
  if (reply->handovers > 0) {
    size_t bytes = reply->handovers * sizeof(struct handover);
    struct handover list[reply->handovers];
    if (!receive_all(fd, list, bytes)) return false;
    hand_over(list, reply->handovers);
    rest -= bytes;
  }
  size_t count = rest < capacity ? rest : capacity;
  if (count > 0 && !receive_all(fd, into, count)) return false;
  if (got) *got = count;
  for (rest -= count; rest > 0;) {
    char drop[4096];
    size_t part = rest < sizeof drop ? rest : sizeof drop;
    if (!receive_all(fd, drop, part)) return false;
    rest -= part;
  }
  return true;
}

static bool exchange(
    int fd, struct request *request, const void *payload, struct reply *reply, void *into, size_t capacity, size_t *got) {
  return send_all(fd, request, sizeof *request) && send_all(fd, payload, request->length) &&
         receive_reply(fd, reply, into, capacity, got);
}

/* Yama lets a process be read by its ancestors alone, and a daemon has none: the bridge may. */
static void allow_bridge(int fd) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0) prctl(PR_SET_PTRACER, peer.pid, 0, 0, 0);
}

static int connect_slot(struct slot *slot) {
  int low = dial(&server, SOCK_CLOEXEC);
  if (low < 0) return -1;
  int fd = fcntl(low, F_DUPFD_CLOEXEC, FIRST_PRIVATE);
  if (fd < 0) fd = low;
  else close_now(low);
  allow_bridge(fd);
  struct request hello = new_request(OP_HELLO);
  struct reply reply;
  hello.a = atomic_load(&parent);
  if (!exchange(fd, &hello, NULL, &reply, &machine, sizeof machine, NULL) || reply.error != 0) {
    close_now(fd);
    errno = reply.error ? (int)reply.error : ENODEV;
    return -1;
  }
  atomic_store(&slot->fd, fd);
  atomic_store(&connected, 1);
  return fd;
}

static struct slot *take_slot(void) {
  for (int i = 0;; i = (i + 1) % SLOTS)
    if (!atomic_exchange(&slots[i].busy, 1)) return &slots[i];
}

void leave_number(int fd) {
  for (int i = 0; i < SLOTS && is_private(fd); i++) {
    if (atomic_load(&slots[i].fd) != fd) continue;
    while (atomic_exchange(&slots[i].busy, 1)) sched_yield();
    if (atomic_load(&slots[i].fd) == fd) atomic_store(&slots[i].fd, fcntl(fd, F_DUPFD_CLOEXEC, FIRST_PRIVATE));
    atomic_store(&slots[i].busy, 0);
  }
}

int64_t call(struct request *request, const void *payload, struct reply *reply, void *into, size_t capacity, size_t *got) {
  if (!is_owner()) {
    errno = ENODEV;
    return -1;
  }
  struct slot *slot = take_slot();
  int fd = atomic_load(&slot->fd);
  if (fd < 0) fd = connect_slot(slot);
  bool done = fd >= 0 && exchange(fd, request, payload, reply, into, capacity, got);
  int error = fd < 0 ? errno : EIO;
  if (fd >= 0 && !done) {
    atomic_store(&slot->fd, -1);
    close_now(fd);
  }
  atomic_store(&slot->busy, 0);
  if (done) {
    if (reply->flags & REPLY_WATCH) atomic_store(&watched, 1);
    if (reply->error == 0) return reply->result;
    error = (int)reply->error;
  }
  errno = error;
  return -1;
}

int64_t simple_call(uint32_t op, uint64_t a, uint64_t b) {
  struct request request = new_request(op);
  struct reply reply;
  request.a = a;
  request.b = b;
  return call(&request, NULL, &reply, NULL, 0, NULL);
}

int open_file(uint32_t op, uint64_t a, const char *path, int flags) {
  /* The process is known before its first file is. */
  if (!uses_bridge() && simple_call(OP_SYNC, 0, 0) < 0) return -1;
  int fd = dial(&server, flags & O_CLOEXEC ? SOCK_CLOEXEC : 0);
  if (fd < 0) return -1;
  struct stat status;
  kernel(SYS_fstat, fd, &status);
  struct request request = new_request(op);
  struct reply reply;
  request.a = a;
  request.b = status.st_ino;
  request.length = path ? (uint32_t)strlen(path) : 0;
  if (exchange(fd, &request, path, &reply, NULL, 0, NULL) && reply.error == 0) return fd;
  int error = (int)reply.error;
  close_now(fd);
  errno = error;
  return -1;
}

uint64_t file_of(int fd) {
  struct sockaddr_un peer;
  socklen_t length = sizeof peer;
  struct stat status;
  if (!run_directory || fd < 0) return 0;
  int saved = errno;
  bool ours = getpeername(fd, (struct sockaddr *)&peer, &length) == 0 && peer.sun_family == AF_UNIX &&
              strcmp(peer.sun_path, server.sun_path) == 0 && !is_private(fd) && kernel(SYS_fstat, fd, &status) == 0;
  errno = saved;
  return ours ? status.st_ino : 0;
}

bool name_of(int fd, char *into, size_t size) {
  struct request request = new_request(OP_NAME);
  struct reply reply;
  size_t got;
  request.file = file_of(fd);
  if (!request.file || call(&request, NULL, &reply, into, size - 1, &got) < 0) return false;
  into[got] = 0;
  return true;
}

/* The machine's kernel, where the machine says which one it is. */
EXPORT int uname(struct utsname *into) {
  REAL(int, uname, struct utsname *);
  int result = real(into);
  if (result < 0 || !run_directory) return result;
  if (!uses_bridge()) simple_call(OP_SYNC, 0, 0);
  if (machine.release[0]) {
    memcpy(into->release, machine.release, sizeof into->release);
    memcpy(into->version, machine.version, sizeof into->version);
    memcpy(into->machine, machine.machine, sizeof into->machine);
  }
  return 0;
}
