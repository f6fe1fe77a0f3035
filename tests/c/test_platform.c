/* test_platform.c - what csrc/platform makes of the system where it fails, is full, or is asked about what is not there. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "support.h"

#include "ibk/platform.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_raised(const struct ibk_wake *wake)
{
    ibk_polled polled = {.fd = wake->read_end, .events = POLLIN};
    return ibk_poll(&polled, 1, 0) == 1;
}

static void test_wake(void **state)
{
    struct ibk_wake wake;
    (void)state;
    assert_ok(ibk_wake_init(&wake, &err));
    for (int raised = 0; raised < 20; raised++) {
        row("raised %d times", raised);
        for (int i = 0; i < raised; i++) {
            ibk_wake_raise(&wake);
        }
        assert_row(is_raised(&wake) == (raised > 0));
        ibk_wake_clear(&wake);
        assert_row(!is_raised(&wake));
    }
    ibk_wake_clean(&wake);
}

/* Nobody has cleared it for so long that no more goes in. */
static void test_wake_that_is_full(void **state)
{
    const uint64_t most = UINT64_MAX - 1; /* of an eventfd */
    struct ibk_wake wake;
    (void)state;
    assert_ok(ibk_wake_init(&wake, &err));
    while (write(wake.write_end, &most, sizeof most) > 0) {
    }
    assert_int_equal(errno, EAGAIN);
    ibk_wake_raise(&wake); /* does not wait */
    assert_true(is_raised(&wake));
    ibk_wake_clear(&wake);
    assert_false(is_raised(&wake));
    ibk_wake_raise(&wake);
    assert_true(is_raised(&wake));
    ibk_wake_clean(&wake);
}

static void test_no_descriptor_to_be_had(void **state)
{
    struct rlimit before;
    struct ibk_wake wake;
    (void)state;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    const struct rlimit none = {.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    poison_error();
    ibk_code code = ibk_wake_init(&wake, &err);
    ibk_code without_record = ibk_wake_init(&wake, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_null(refusal_fault(code, IBK_E_LIMIT));
    assert_says("descriptor", "too many open files");
    assert_int_equal(err.domain, IBK_DOMAIN_SYSTEM);
    assert_int_equal(err.native, EMFILE);
    assert_int_equal(without_record, IBK_E_LIMIT);
    assert_ok(ibk_wake_init(&wake, &err));
    ibk_wake_clean(&wake);
}

static int bound_socket(struct sockaddr *address, socklen_t size)
{
    int fd = socket(address->sa_family, SOCK_STREAM, 0);
    if (fd >= 0 && bind(fd, address, size) == 0 && getsockname(fd, address, &size) == 0) {
        return fd;
    }
    (void)close(fd);
    return -1;
}

static void test_local_port(void **state)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
    int pair[2];
    (void)state;
    int fd = bound_socket((struct sockaddr *)&v4, sizeof v4);
    assert_true(fd >= 0 && v4.sin_port != 0);
    assert_int_equal(ibk_socket_local_port(fd), ntohs(v4.sin_port));
    (void)close(fd);
    assert_int_equal(ibk_socket_local_port(fd), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_int_equal(ibk_socket_local_port(pair[0]), 0); /* it has none */
    (void)close(pair[0]);
    (void)close(pair[1]);
    fd = bound_socket((struct sockaddr *)&v6, sizeof v6);
    if (fd >= 0) { /* else the system has no IPv6 */
        assert_int_not_equal(v6.sin6_port, 0);
        assert_int_equal(ibk_socket_local_port(fd), ntohs(v6.sin6_port));
        (void)close(fd);
    }
}

static void test_keep_to_process(void **state)
{
    (void)state;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(fcntl(fd, F_GETFD), 0);
    for (int i = 0; i < 2; i++) {
        ibk_socket_keep_to_process(fd);
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    }
    (void)close(fd);
    ibk_socket_keep_to_process(fd);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
}

static void test_identity(void **state)
{
    struct ibk_socket_identity one, again, other;
    int pair[2];
    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_true(ibk_socket_identify(pair[0], &one) && ibk_socket_identify(pair[0], &again) &&
                ibk_socket_identify(pair[1], &other));
    assert_true(one.device == again.device && one.inode == again.inode);
    assert_false(one.device == other.device && one.inode == other.inode);
    (void)close(pair[0]);
    (void)close(pair[1]);
    assert_false(ibk_socket_identify(pair[0], &one));
}

/* What was to be read is gone, up to 64 KiB: whoever floods it does not hold up its end. */
static void test_end(void **state)
{
    static const size_t sizes[] = {0, 1, 4096, 65536, 100000};
    static uint8_t bytes[100000];
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        int pair[2];
        row("%zu bytes", sizes[i]);
        assert_row(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
        assert_row(fcntl(pair[1], F_SETFL, O_NONBLOCK) == 0);
        ssize_t sent = sizes[i] > 0 ? write(pair[1], bytes, sizes[i]) : 0; /* less, where the system takes less */
        assert_row(sent >= 0);
        ibk_socket_end(pair[0]);
        ssize_t left = 0, taken;
        while ((taken = read(pair[0], bytes, sizeof bytes)) > 0) {
            left += taken;
        }
        assert_row(taken == 0 && left == (sent > 65536 ? sent - 65536 : 0));
        assert_row(write(pair[1], bytes, 1) == -1 && errno == EPIPE);
        (void)close(pair[0]);
        (void)close(pair[1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_wake),       checked(test_wake_that_is_full), checked(test_no_descriptor_to_be_had),
        checked(test_local_port), checked(test_keep_to_process),   checked(test_identity),
        checked(test_end),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("platform", tests, NULL, NULL);
}
