/* Makes calls of the system fail, for programs that are run with it in LD_PRELOAD. See ../fault.rs.
 *
 * UMBRA_FAULTS holds rules with `;` between them, each of five words: the call (open, read, write or sync), the error
 * (EIO, ...), how many matching calls pass first, how many then fail (-1: all), and a part of the path.
 * A call is looked at by every rule that is for it; a file is known by the path it was opened with.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define MOST_RULES 64
#define MOST_FILES 4096

enum call { OPEN, READ, WRITE, SYNC };

static struct rule {
    enum call call;
    int error;
    long passing, failing;
    char path[512];
} rules[MOST_RULES];
static int num_rules;
static char *paths[MOST_FILES];
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int number(const char *name, const char *const *names, const int *numbers) {
    for (int at = 0; names[at]; at++)
        if (!strcmp(name, names[at])) return numbers[at];
    fprintf(stderr, "UMBRA_FAULTS: %s is unknown\n", name);
    abort();
}

static void read_rules(void) {
    static const char *const calls[] = {"open", "read", "write", "sync", NULL};
    static const int call_numbers[] = {OPEN, READ, WRITE, SYNC};
    static const char *const errors[] = {"EIO", "ENOSPC", "ESTALE", "EACCES", "EMFILE", "ENOENT", NULL};
    static const int error_numbers[] = {EIO, ENOSPC, ESTALE, EACCES, EMFILE, ENOENT};
    const char *text = getenv("UMBRA_FAULTS");
    char *copy = strdup(text ? text : ""), *rest = copy, *part;
    while ((part = strsep(&rest, ";"))) {
        char call[16], error[16];
        struct rule *rule = &rules[num_rules];
        if (!*part) continue;
        if (num_rules == MOST_RULES || sscanf(part, "%15s %15s %ld %ld %511[^\n]", call, error, &rule->passing,
                                              &rule->failing, rule->path) != 5) {
            fprintf(stderr, "UMBRA_FAULTS: cannot understand %s\n", part);
            abort();
        }
        rule->call = number(call, calls, call_numbers);
        rule->error = number(error, errors, error_numbers);
        num_rules++;
    }
    free(copy);
}

/* True if this call fails; errno is set then. */
static int fails(enum call call, const char *path) {
    int error = 0;
    pthread_once(&once, read_rules);
    if (!path) return 0;
    pthread_mutex_lock(&mutex);
    for (int at = 0; at < num_rules && !error; at++) {
        struct rule *rule = &rules[at];
        if (rule->call != call || !strstr(path, rule->path)) continue;
        if (rule->passing > 0) rule->passing--;
        else if (rule->failing != 0) {
            if (rule->failing > 0) rule->failing--;
            error = rule->error;
        }
    }
    pthread_mutex_unlock(&mutex);
    if (error) errno = error;
    return error != 0;
}

static int fd_fails(enum call call, int fd) {
    char path[1024] = "";
    pthread_mutex_lock(&mutex);
    if (fd >= 0 && fd < MOST_FILES && paths[fd]) strncpy(path, paths[fd], sizeof path - 1);
    pthread_mutex_unlock(&mutex);
    return *path && fails(call, path);
}

static void remember(int fd, const char *path) {
    if (fd < 0 || fd >= MOST_FILES) return;
    pthread_mutex_lock(&mutex);
    free(paths[fd]);
    paths[fd] = path ? strdup(path) : NULL;
    pthread_mutex_unlock(&mutex);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list list; \
        va_start(list, flags); \
        mode = va_arg(list, mode_t); \
        va_end(list); \
    }

#define OPENING(name) \
    int name(const char *path, int flags, ...) { \
        MODE(flags) \
        if (fails(OPEN, path)) return -1; \
        int fd = REAL(name)(path, flags, mode); \
        remember(fd, path); \
        return fd; \
    }
#define OPENING_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        MODE(flags) \
        if (fails(OPEN, path)) return -1; \
        int fd = REAL(name)(folder, path, flags, mode); \
        remember(fd, path); \
        return fd; \
    }
OPENING(open)
OPENING(open64)
OPENING_AT(openat)
OPENING_AT(openat64)

int close(int fd) {
    remember(fd, NULL);
    return REAL(close)(fd);
}

#define ON_FILE(result, name, call, parameters, arguments) \
    result name parameters { return fd_fails(call, fd) ? -1 : REAL(name) arguments; }
ON_FILE(ssize_t, read, READ, (int fd, void *to, size_t bytes), (fd, to, bytes))
ON_FILE(ssize_t, pread, READ, (int fd, void *to, size_t bytes, off_t at), (fd, to, bytes, at))
ON_FILE(ssize_t, pread64, READ, (int fd, void *to, size_t bytes, off64_t at), (fd, to, bytes, at))
ON_FILE(ssize_t, readv, READ, (int fd, const struct iovec *to, int parts), (fd, to, parts))
ON_FILE(ssize_t, write, WRITE, (int fd, const void *from, size_t bytes), (fd, from, bytes))
ON_FILE(ssize_t, pwrite, WRITE, (int fd, const void *from, size_t bytes, off_t at), (fd, from, bytes, at))
ON_FILE(ssize_t, pwrite64, WRITE, (int fd, const void *from, size_t bytes, off64_t at), (fd, from, bytes, at))
ON_FILE(ssize_t, writev, WRITE, (int fd, const struct iovec *from, int parts), (fd, from, parts))
ON_FILE(ssize_t, copy_file_range, WRITE, (int from, off64_t *at, int fd, off64_t *to, size_t bytes, unsigned flags),
        (from, at, fd, to, bytes, flags))
ON_FILE(int, fsync, SYNC, (int fd), (fd))
ON_FILE(int, fdatasync, SYNC, (int fd), (fd))
