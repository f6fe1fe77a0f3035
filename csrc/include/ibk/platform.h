/*
 * platform.h - all that the C core asks of the operating system beside the C library: locks, threads, fork, clocks, what a
 * thread wakes another with, sockets that libcurl opened, directories. csrc/platform/posix.c does it for Linux, macOS and the
 * BSDs; a system that is not POSIX takes another file like it and its own types here. No other file calls the system.
 */
#ifndef IBK_PLATFORM_H
#define IBK_PLATFORM_H

#include "ibk/base.h"
#include "ibk/error.h"

#include <poll.h>
#include <pthread.h>
#include <sys/types.h>

/* locks and threads */

typedef pthread_mutex_t ibk_mutex;
typedef pthread_once_t ibk_once;
typedef pthread_t ibk_thread;
#define IBK_MUTEX_INIT PTHREAD_MUTEX_INITIALIZER
#define IBK_ONCE_INIT PTHREAD_ONCE_INIT

bool ibk_mutex_init(ibk_mutex *mutex) IBK_MUST_USE; /* false: no memory */
void ibk_mutex_clean(ibk_mutex *mutex);
void ibk_mutex_lock(ibk_mutex *mutex);
void ibk_mutex_unlock(ibk_mutex *mutex);

void ibk_once_run(ibk_once *once, void (*function)(void));

/* No signal is for the thread: all are blocked in it. */
bool ibk_thread_start(ibk_thread *out, void *(*function)(void *), void *context) IBK_MUST_USE;
void ibk_thread_join(ibk_thread thread);

/* processes */

/* Differs in a forked child. */
long ibk_process_id(void);

/* What to call around a fork, each may be NULL; nothing where the system has no such thing. False: no memory. */
bool ibk_process_on_fork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void)) IBK_MUST_USE;

/* clocks */

/* Microseconds on a clock that never jumps, for times within a process. */
int64_t ibk_clock_us(void);

/* Milliseconds since some moment of the past, sleep of the machine included where the system counts it. */
int64_t ibk_clock_steady_ms(void);

/* Milliseconds since 1970, by the wall clock, which people and other clocks set. */
int64_t ibk_clock_wall_ms(void);

/* A descriptor that one thread polls and others make readable. Both ends are one where the system has such. */

struct ibk_wake {
    int read_end; /* to be polled */
    int write_end;
};
ibk_code ibk_wake_init(struct ibk_wake *wake, struct ibk_error *err) IBK_MUST_USE;
void ibk_wake_clean(struct ibk_wake *wake);
void ibk_wake_raise(const struct ibk_wake *wake);
void ibk_wake_clear(const struct ibk_wake *wake);

/* sockets: numbers that libcurl gave us */

typedef struct pollfd ibk_polled;

/* How many are ready; 0 or less after the time, or a signal. */
int ibk_poll(ibk_polled *list, size_t count, int timeout_ms);

/* What the system calls the very socket behind a number; no other has the same while it is open. */
struct ibk_socket_identity {
    dev_t device;
    ino_t inode;
};
bool ibk_socket_identify(int fd, struct ibk_socket_identity *out) IBK_MUST_USE;
bool ibk_socket_is_connected(int fd);
/* Not for the programs that this process starts. */
void ibk_socket_keep_to_process(int fd);
int ibk_socket_local_port(int fd); /* 0: unknown */
/* Empties and shuts it down: what its reader finds then is the end of the stream. */
void ibk_socket_end(int fd);
int ibk_socket_close(int fd);

/* directories */

bool ibk_directory_is_readable(const char *path);
/* Whether the directory has an entry with a name that is wanted. */
bool ibk_directory_has(const char *path, bool (*wanted)(const char *name));

#endif
