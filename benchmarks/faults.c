/* Calls that change files, one of which fails or is the last, as the caller said. Loaded before the C library
   (LD_PRELOAD); counts only what concerns regular files and folders, and only once armed. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OFF, COUNT, FAIL, FULL, KILL };
static volatile long count, at, failed;
static const char *volatile first;
static volatile int mode;

void faults_arm(int how, long when) { mode = how; at = when; count = failed = 0; first = ""; }
long faults_count(void) { return count; }
long faults_failed(void) { return failed; }
const char *faults_first(void) { return first; }

/* Whether this call is to fail, and how; takes: whether it needs room on the disk. */
static int hit(const char *name, int takes) {
    if (mode == OFF) return 0;
    long now = __sync_fetch_and_add(&count, 1);
    if (mode == KILL && now == at) kill(getpid(), SIGKILL);
    int error = mode == FAIL && now == at ? EIO : mode == FULL && now >= at && takes ? ENOSPC : 0;
    if (error && __sync_fetch_and_add(&failed, 1) == 0) first = name;
    return error;
}
static int regular(int fd) {
    struct stat s;
    return mode != OFF && fd > 2 && fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
}
#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, name)
#define REFUSE(guard, takes, bad) \
    if (guard) { int e = hit(__func__, takes); if (e) { errno = e; return bad; } }

ssize_t write(int fd, const void *b, size_t n) {
    REAL(ssize_t, "write", int, const void *, size_t);
    REFUSE(regular(fd), 1, -1);
    return real(fd, b, n);
}
ssize_t pwrite(int fd, const void *b, size_t n, off_t o) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    REFUSE(regular(fd), 1, -1);
    return real(fd, b, n, o);
}
ssize_t pwrite64(int fd, const void *b, size_t n, off_t o) { return pwrite(fd, b, n, o); }
ssize_t writev(int fd, const struct iovec *v, int n) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    REFUSE(regular(fd), 1, -1);
    return real(fd, v, n);
}
ssize_t sendfile(int out, int in, off_t *o, size_t n) {
    REAL(ssize_t, "sendfile", int, int, off_t *, size_t);
    REFUSE(regular(out), 1, -1);
    return real(out, in, o, n);
}
ssize_t sendfile64(int out, int in, off_t *o, size_t n) { return sendfile(out, in, o, n); }
int fsync(int fd) {
    REAL(int, "fsync", int);
    REFUSE(mode != OFF, 0, -1);
    return real(fd);
}
int ftruncate(int fd, off_t n) {
    REAL(int, "ftruncate", int, off_t);
    REFUSE(regular(fd), 0, -1);
    return real(fd, n);
}
int ftruncate64(int fd, off_t n) { return ftruncate(fd, n); }
int posix_fallocate(int fd, off_t o, off_t n) {
    REAL(int, "posix_fallocate", int, off_t, off_t);
    if (regular(fd)) { int e = hit(__func__, 1); if (e) return e; }
    return real(fd, o, n);
}
int posix_fallocate64(int fd, off_t o, off_t n) { return posix_fallocate(fd, o, n); }
int rename(const char *a, const char *b) {
    REAL(int, "rename", const char *, const char *);
    REFUSE(mode != OFF, 0, -1);
    return real(a, b);
}
int link(const char *a, const char *b) {
    REAL(int, "link", const char *, const char *);
    REFUSE(mode != OFF, 1, -1);
    return real(a, b);
}
int mkdir(const char *p, mode_t m) {
    REAL(int, "mkdir", const char *, mode_t);
    struct stat s;
    REFUSE(mode != OFF && stat(p, &s) != 0, 1, -1);
    return real(p, m);
}
static int makes(const char *p, int flags) {
    struct stat s;
    return mode != OFF && (flags & O_CREAT) && stat(p, &s) != 0;
}
#define MODE_OF(flags) \
    mode_t m = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, flags); m = va_arg(a, mode_t); va_end(a); }
int open(const char *p, int flags, ...) {
    MODE_OF(flags)
    REAL(int, "open", const char *, int, ...);
    REFUSE(makes(p, flags), 1, -1);
    return real(p, flags, m);
}
int open64(const char *p, int flags, ...) {
    MODE_OF(flags)
    REAL(int, "open64", const char *, int, ...);
    REFUSE(makes(p, flags), 1, -1);
    return real(p, flags, m);
}
