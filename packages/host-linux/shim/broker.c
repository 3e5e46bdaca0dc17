/*
 * Holds the programs' eventfds for the bridge, whose language has no call for them. Programs send them here with an id;
 * the bridge writes commands to standard input, one record each, and reads on standard output which eventfds that it
 * watches were signalled by their program.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "protocol.h"

/* src/bridge/broker.ts writes these. */
enum command { SIGNAL = 1, WATCH, DROP };

struct record {
  uint32_t command;
  uint32_t id;
};

#define EVENTS 4096
#define CLIENTS 64

struct event {
  uint32_t id; /* 0: free */
  int fd;      /* -1: the program has not sent it yet */
  int watched;
  uint64_t pending; /* signals that came before the descriptor */
};

static struct event events[EVENTS];
static struct {
  int fd;
  int known; /* has shown the key */
} clients[CLIENTS];
static const char *key;

static struct event *event_of(uint32_t id) {
  struct event *unused = NULL;
  for (int i = 0; i < EVENTS; i++) {
    if (events[i].id == id) return &events[i];
    if (!events[i].id && !unused) unused = &events[i];
  }
  if (unused) *unused = (struct event){.id = id, .fd = -1};
  return unused;
}

static void signal_event(int fd, uint64_t count) {
  if (write(fd, &count, sizeof count) < 0 && errno != EAGAIN) perror("iommukit broker: an eventfd");
}

static void obey(const struct record *record) {
  struct event *event = event_of(record->id);
  if (!event) return;
  switch (record->command) {
    case SIGNAL:
      if (event->fd < 0) event->pending++;
      else signal_event(event->fd, 1);
      break;
    case WATCH:
      event->watched = 1;
      break;
    case DROP:
      if (event->fd >= 0) close(event->fd);
      event->id = 0;
  }
}

/* One descriptor with its id. Returns 0 when the client has gone. */
static int take(int client) {
  uint32_t id;
  union {
    struct cmsghdr header;
    char room[CMSG_SPACE(sizeof(int))];
  } control;
  struct iovec vector = {&id, sizeof id};
  struct msghdr message = {
      .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
  if (recvmsg(client, &message, MSG_CMSG_CLOEXEC) != sizeof id) return 0;
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  struct event *event = event_of(id);
  if (!header || header->cmsg_type != SCM_RIGHTS || !event) return 0;
  memcpy(&event->fd, CMSG_DATA(header), sizeof(int));
  if (event->pending) signal_event(event->fd, event->pending);
  event->pending = 0;
  return send(client, "", 1, MSG_NOSIGNAL) == 1;
}

static int greet(int client) {
  char given[KEY_BYTES];
  return recv(client, given, KEY_BYTES, MSG_WAITALL) == KEY_BYTES && memcmp(given, key, KEY_BYTES) == 0;
}

static void serve(int i) {
  int fine = clients[i].known ? take(clients[i].fd) : greet(clients[i].fd);
  clients[i].known = fine;
  if (fine) return;
  close(clients[i].fd);
  clients[i].fd = -1;
}

static void welcome(int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
  for (int i = 0; i < CLIENTS && fd >= 0; i++) {
    if (clients[i].fd >= 0) continue;
    clients[i].fd = fd;
    clients[i].known = 0;
    return;
  }
  if (fd >= 0) close(fd);
}

static void tell(struct event *event) {
  uint64_t count;
  if (read(event->fd, &count, sizeof count) == sizeof count && write(1, &event->id, sizeof event->id) < 0) exit(1);
}

int main(int argc, char **argv) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  key = getenv("IOMMUKIT_KEY");
  if (argc != 2 || !key || strlen(argv[1]) >= sizeof address.sun_path) return 2;
  strcpy(address.sun_path, argv[1]);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 64) < 0) return 1;
  chmod(argv[1], 0777);
  for (int i = 0; i < CLIENTS; i++) clients[i].fd = -1;
  uint32_t ready = 0;
  if (write(1, &ready, sizeof ready) < 0) return 1;
  for (;;) {
    static struct pollfd polls[2 + CLIENTS + EVENTS];
    static int owners[2 + CLIENTS + EVENTS];
    nfds_t count = 2;
    polls[0] = (struct pollfd){.fd = 0, .events = POLLIN};
    polls[1] = (struct pollfd){.fd = listener, .events = POLLIN};
    for (int i = 0; i < CLIENTS; i++) {
      if (clients[i].fd < 0) continue;
      owners[count] = i;
      polls[count++] = (struct pollfd){.fd = clients[i].fd, .events = POLLIN};
    }
    nfds_t first = count;
    for (int i = 0; i < EVENTS; i++) {
      if (!events[i].id || !events[i].watched || events[i].fd < 0) continue;
      owners[count] = i;
      polls[count++] = (struct pollfd){.fd = events[i].fd, .events = POLLIN};
    }
    if (poll(polls, count, -1) < 0 && errno != EINTR) return 1;
    if (polls[0].revents) {
      struct record records[64];
      ssize_t got = read(0, records, sizeof records);
      if (got <= 0) return 0;
      for (ssize_t at = got % (ssize_t)sizeof *records; at > 0 && at < (ssize_t)sizeof *records;) {
        ssize_t more = read(0, (char *)records + got, sizeof *records - (size_t)at);
        if (more <= 0) return 0;
        got += more;
        at += more;
      }
      for (ssize_t i = 0; i < got / (ssize_t)sizeof *records; i++) obey(&records[i]);
      continue; /* descriptors may have gone */
    }
    if (polls[1].revents) welcome(listener);
    for (nfds_t i = 2; i < count; i++) {
      if (!polls[i].revents) continue;
      if (i < first) serve(owners[i]);
      else tell(&events[owners[i]]);
    }
  }
}
