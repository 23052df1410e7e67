/* Makes the disk of the program that this is preloaded into full: while the first byte of the file
 * that BIDLOCK_TEST_DISK names is not zero, no file grows by writes at a position or by setting
 * space aside. What a file has already may be written again, as on a real disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static const char room = 0;
static const char *full = &room;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("BIDLOCK_TEST_DISK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *map = mmap(NULL, 1, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (map != MAP_FAILED)
        full = map;
}

static int refused(int file, off_t end) {
    struct stat now;
    if (!__atomic_load_n(full, __ATOMIC_ACQUIRE))
        return 0;
    return !fstat(file, &now) && S_ISREG(now.st_mode) && end > now.st_size;
}

static off_t length(const struct iovec *parts, int count) {
    off_t all = 0;
    for (int i = 0; i < count; i++)
        all += (off_t)parts[i].iov_len;
    return all;
}

/* Both names of each function: programs are built for either. */
#define PWRITE(name)                                                                               \
    ssize_t name(int file, const void *data, size_t size, off_t at) {                              \
        static ssize_t (*real)(int, const void *, size_t, off_t);                                  \
        if (!real)                                                                                 \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                             \
        if (refused(file, at + (off_t)size)) {                                                     \
            errno = ENOSPC;                                                                        \
            return -1;                                                                             \
        }                                                                                          \
        return real(file, data, size, at);                                                         \
    }

#define PWRITEV(name)                                                                              \
    ssize_t name(int file, const struct iovec *parts, int count, off_t at) {                       \
        static ssize_t (*real)(int, const struct iovec *, int, off_t);                             \
        if (!real)                                                                                 \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                             \
        if (refused(file, at + length(parts, count))) {                                            \
            errno = ENOSPC;                                                                        \
            return -1;                                                                             \
        }                                                                                          \
        return real(file, parts, count, at);                                                       \
    }

#define FALLOCATE(name)                                                                            \
    int name(int file, off_t at, off_t size) {                                                     \
        static int (*real)(int, off_t, off_t);                                                     \
        if (!real)                                                                                 \
            *(void **)&real = dlsym(RTLD_NEXT, #name);                                             \
        return refused(file, at + size) ? ENOSPC : real(file, at, size);                           \
    }

PWRITE(pwrite)
PWRITE(pwrite64)
PWRITEV(pwritev)
PWRITEV(pwritev64)
FALLOCATE(posix_fallocate)
FALLOCATE(posix_fallocate64)
