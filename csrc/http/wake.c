/* wake.c - a descriptor that one thread polls and others make readable. */
#ifdef __linux__
#include <sys/eventfd.h>
#endif

#include "http_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

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
