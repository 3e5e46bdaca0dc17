/* Sleeps of the program that take no time (`iommukit run --skip-sleeps`): the machine's clock goes on by as much. */
#define _GNU_SOURCE
#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "shim.h"

#define SECOND 1000000000LL

static bool skip(long long nanoseconds) {
  if (!skips_sleeps || !uses_bridge()) return false;
  return simple_call(OP_SLEEP, nanoseconds > 0 ? (uint64_t)nanoseconds : 0, 0) == 0;
}

static long long count(const struct timespec *time) {
  return time->tv_sec * SECOND + time->tv_nsec;
}

EXPORT unsigned sleep(unsigned seconds) {
  REAL(unsigned, sleep, unsigned);
  return skip(seconds * SECOND) ? 0 : real(seconds);
}

EXPORT int usleep(useconds_t microseconds) {
  REAL(int, usleep, useconds_t);
  return skip(microseconds * 1000LL) ? 0 : real(microseconds);
}

EXPORT int nanosleep(const struct timespec *time, struct timespec *rest) {
  REAL(int, nanosleep, const struct timespec *, struct timespec *);
  return skip(count(time)) ? 0 : real(time, rest);
}

/* Until a moment of a clock that does not jump ahead there is nothing to skip. */
EXPORT int clock_nanosleep(clockid_t clock, int flags, const struct timespec *time, struct timespec *rest) {
  REAL(int, clock_nanosleep, clockid_t, int, const struct timespec *, struct timespec *);
  return !(flags & TIMER_ABSTIME) && skip(count(time)) ? 0 : real(clock, flags, time, rest);
}
