/* posix.c - the operating system, where it is POSIX. */
/* Before any system header: -std=c11 hides fork-safe time, signals and directories otherwise. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
#endif

#include "ibk/platform.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/eventfd.h>
#endif

/* locks and threads */

bool ibk_mutex_init(ibk_mutex *mutex)
{
    return pthread_mutex_init(mutex, NULL) == 0;
}

void ibk_mutex_clean(ibk_mutex *mutex)
{
    (void)pthread_mutex_destroy(mutex);
}

void ibk_mutex_lock(ibk_mutex *mutex)
{
    (void)pthread_mutex_lock(mutex);
}

void ibk_mutex_unlock(ibk_mutex *mutex)
{
    (void)pthread_mutex_unlock(mutex);
}

void ibk_once_run(ibk_once *once, void (*function)(void))
{
    (void)pthread_once(once, function);
}

/* The new thread inherits what is blocked. */
bool ibk_thread_start(ibk_thread *out, void *(*function)(void *), void *context)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int trouble = pthread_create(out, NULL, function, context);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return trouble == 0;
}

void ibk_thread_join(ibk_thread thread)
{
    (void)pthread_join(thread, NULL);
}

/* processes */

long ibk_process_id(void)
{
    return (long)getpid();
}

bool ibk_process_on_fork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void))
{
    return pthread_atfork(before, in_parent, in_child) == 0;
}

/* clocks */

#ifdef CLOCK_BOOTTIME
#define STEADY CLOCK_BOOTTIME /* goes on while the machine sleeps */
#else
#define STEADY CLOCK_MONOTONIC
#endif

static struct timespec read_clock(clockid_t clock)
{
    struct timespec now = {0};
    (void)clock_gettime(clock, &now);
    return now;
}

static int64_t read_ms(clockid_t clock)
{
    struct timespec now = read_clock(clock);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t ibk_clock_us(void)
{
    struct timespec now = read_clock(CLOCK_MONOTONIC);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int64_t ibk_clock_steady_ms(void)
{
    return read_ms(STEADY);
}

int64_t ibk_clock_wall_ms(void)
{
    return read_ms(CLOCK_REALTIME);
}

/* wake */

static ibk_code fail(struct ibk_error *err)
{
    int number = errno;
    (void)ibk_fail(err, number == ENOMEM ? IBK_E_NO_MEMORY : IBK_E_LIMIT, "ibk_wake_init",
                   "no descriptor to be had (too many open files?)");
    if (err != NULL) {
        err->domain = IBK_DOMAIN_SYSTEM;
        err->native = (unsigned long)number;
    }
    return number == ENOMEM ? IBK_E_NO_MEMORY : IBK_E_LIMIT;
}

#ifdef __linux__

ibk_code ibk_wake_init(struct ibk_wake *wake, struct ibk_error *err)
{
    wake->read_end = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    wake->write_end = wake->read_end;
    return wake->read_end >= 0 ? IBK_OK : fail(err);
}

void ibk_wake_clean(struct ibk_wake *wake)
{
    (void)close(wake->read_end);
}

#else

static bool harden(int fd)
{
    return fcntl(fd, F_SETFD, FD_CLOEXEC) == 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
}

ibk_code ibk_wake_init(struct ibk_wake *wake, struct ibk_error *err)
{
    int ends[2];
    if (pipe(ends) != 0) {
        return fail(err);
    }
    *wake = (struct ibk_wake){.read_end = ends[0], .write_end = ends[1]};
    if (!harden(ends[0]) || !harden(ends[1])) {
        ibk_code code = fail(err);
        ibk_wake_clean(wake);
        return code;
    }
    return IBK_OK;
}

void ibk_wake_clean(struct ibk_wake *wake)
{
    (void)close(wake->read_end);
    (void)close(wake->write_end);
}

#endif

/* An eventfd takes eight bytes, and a pipe does not mind. Where the write finds no room, the other side is woken already. */
void ibk_wake_raise(const struct ibk_wake *wake)
{
    const uint64_t one = 1;
    while (write(wake->write_end, &one, sizeof one) < 0 && errno == EINTR) {
    }
}

void ibk_wake_clear(const struct ibk_wake *wake)
{
    uint64_t dropped[8];
    ssize_t taken;
    do {
        taken = read(wake->read_end, dropped, sizeof dropped);
    } while ((taken < 0 && errno == EINTR) || taken == (ssize_t)sizeof dropped);
}

/* sockets */

int ibk_poll(ibk_polled *list, size_t count, int timeout_ms)
{
    return poll(list, (nfds_t)count, timeout_ms);
}

bool ibk_socket_identify(int fd, struct ibk_socket_identity *out)
{
    struct stat about;
    if (fstat(fd, &about) != 0) {
        return false;
    }
    *out = (struct ibk_socket_identity){.device = about.st_dev, .inode = about.st_ino};
    return true;
}

bool ibk_socket_is_connected(int fd)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    return getpeername(fd, (struct sockaddr *)&peer, &size) == 0;
}

void ibk_socket_keep_to_process(int fd)
{
    int flags = fcntl(fd, F_GETFD);
    if (flags >= 0) {
        (void)fcntl(fd, F_SETFD, flags | FD_CLOEXEC);
    }
}

int ibk_socket_local_port(int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        return 0;
    }
    if (address.ss_family == AF_INET6) {
        return ntohs(((const struct sockaddr_in6 *)&address)->sin6_port);
    }
    return address.ss_family == AF_INET ? ntohs(((const struct sockaddr_in *)&address)->sin_port) : 0;
}

void ibk_socket_end(int fd)
{
    uint8_t dropped[4096];
    (void)shutdown(fd, SHUT_RDWR);
    for (int pieces = 0; pieces < 16 && recv(fd, dropped, sizeof dropped, 0) > 0; pieces++) {
    }
}

int ibk_socket_close(int fd)
{
    return close(fd);
}

/* directories */

bool ibk_directory_is_readable(const char *path)
{
    return access(path, R_OK | X_OK) == 0;
}

bool ibk_directory_has(const char *path, bool (*wanted)(const char *name))
{
    DIR *directory = opendir(path);
    bool found = false;
    if (directory == NULL) {
        return false;
    }
    // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody else has this stream
    for (const struct dirent *entry = NULL; !found && (entry = readdir(directory)) != NULL;) {
        found = wanted(entry->d_name);
    }
    (void)closedir(directory);
    return found;
}
