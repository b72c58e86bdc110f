/* A disk that fails or is watched, for fault tests (LD_PRELOAD).

   FAULT_DIR      only files below this folder are touched
   FAULT_TRIGGER  a file that says what fails while it exists: "sync 5" (fsync and fdatasync, EIO), "write 28" (writes, ENOSPC), …
   FAULT_JOURNAL  a file to which every write, truncation, rename and sync is appended, in order:
                  kind, path length (int32), offset (int64), length (int64), path, data
                  W write · T truncate · R rename (data = new path) · U unlink · S synced                                  */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *dir, *trigger;
static size_t dir_length;
static int journal = -1;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULT_JOURNAL");
    dir = getenv("FAULT_DIR");
    trigger = getenv("FAULT_TRIGGER");
    dir_length = dir ? strlen(dir) : 0;
    if (path) journal = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int ours(int fd, char *path) {
    char link[40];
    if (!dir) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return !strncmp(path, dir, dir_length);
}

static int fails(const char *what) {
    char text[32] = "";
    if (!trigger) return 0;
    int fd = syscall(SYS_openat, AT_FDCWD, trigger, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0) return 0;
    ssize_t n = syscall(SYS_read, fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    size_t length = strlen(what);
    return n > 0 && !strncmp(text, what, length) ? atoi(text + length) : 0;
}

static void note(char kind, const char *path, int64_t offset, int64_t length, const void *data, size_t size) {
    if (journal < 0) return;
    int32_t path_length = strlen(path);
    struct iovec parts[] = {{&kind, 1}, {&path_length, 4}, {&offset, 8}, {&length, 8}, {(void *)path, path_length}, {(void *)data, size}};
    pthread_mutex_lock(&lock);
    syscall(SYS_writev, journal, parts, 6);
    pthread_mutex_unlock(&lock);
}

static ssize_t written(int fd, const void *data, size_t size, off_t offset, ssize_t (*real)(int, const void *, size_t, off_t)) {
    char path[PATH_MAX];
    if (ours(fd, path)) {
        int error = fails("write");
        if (error) { errno = error; return -1; }
        note('W', path, offset, size, data, size);
    }
    return real(fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite");
    return written(fd, data, size, offset, real);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset) {
    static ssize_t (*real)(int, const void *, size_t, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "pwrite64");
    return written(fd, data, size, offset, real);
}

ssize_t write(int fd, const void *data, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    char path[PATH_MAX];
    if (!real) real = dlsym(RTLD_NEXT, "write");
    if (fd > 2 && fd != journal && ours(fd, path)) {
        int error = fails("write");
        if (error) { errno = error; return -1; }
        note('W', path, lseek(fd, 0, SEEK_CUR), size, data, size);
    }
    return real(fd, data, size);
}

static int synced(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    int is_ours = ours(fd, path);
    if (is_ours) {
        int error = fails("sync");
        if (error) { errno = error; return -1; }
    }
    int result = real(fd);
    if (is_ours && !result) note('S', path, 0, 0, "", 0);
    return result;
}

int fsync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return synced(fd, real);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
    return synced(fd, real);
}

static int truncated(int fd, off_t length, int (*real)(int, off_t)) {
    char path[PATH_MAX];
    if (ours(fd, path)) note('T', path, 0, length, "", 0);
    return real(fd, length);
}

int ftruncate(int fd, off_t length) {
    static int (*real)(int, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "ftruncate");
    return truncated(fd, length, real);
}

int ftruncate64(int fd, off_t length) {
    static int (*real)(int, off_t);
    if (!real) real = dlsym(RTLD_NEXT, "ftruncate64");
    return truncated(fd, length, real);
}

int rename(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (!real) real = dlsym(RTLD_NEXT, "rename");
    int result = real(from, to);
    if (!result && dir && !strncmp(to, dir, dir_length)) note('R', from, 0, strlen(to), to, strlen(to));
    return result;
}

int unlink(const char *path) {
    static int (*real)(const char *);
    if (!real) real = dlsym(RTLD_NEXT, "unlink");
    int result = real(path);
    if (!result && dir && !strncmp(path, dir, dir_length)) note('U', path, 0, 0, "", 0);
    return result;
}
