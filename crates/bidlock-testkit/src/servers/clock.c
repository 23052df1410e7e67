/* Adds an offset to the wall clock of the program that this is preloaded into. The offset, in
 * microseconds, is the first eight bytes of the file that BIDLOCK_TEST_CLOCK names; it may change
 * while the program runs. Clocks that never step are left alone. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t none = 0;
static const int64_t *offset = &none;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("BIDLOCK_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *map = mmap(NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED)
        offset = map;
}

static void shift(struct timespec *at) {
    int64_t micros = __atomic_load_n(offset, __ATOMIC_ACQUIRE);
    int64_t nanos = at->tv_nsec + micros % 1000000 * 1000;
    at->tv_sec += micros / 1000000;
    if (nanos < 0) {
        nanos += 1000000000;
        at->tv_sec -= 1;
    } else if (nanos >= 1000000000) {
        nanos -= 1000000000;
        at->tv_sec += 1;
    }
    at->tv_nsec = nanos;
}

int clock_gettime(clockid_t id, struct timespec *at) {
    long failed = syscall(SYS_clock_gettime, id, at);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        shift(at);
    return (int)failed;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return -1;
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now))
        return (time_t)-1;
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}
