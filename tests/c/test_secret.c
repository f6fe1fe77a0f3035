/*
 * test_secret.c - secrets, and that they and secret buffers are wiped.
 *
 * The core wipes with OPENSSL_cleanse. This program defines its own, which the linker takes before libcrypto's, and so sees
 * what is wiped and what stood there.
 */
#include "support.h"

#include <openssl/crypto.h>

static struct {
    uint8_t bytes[4096]; /* all that was wiped since watch(), one after the other */
    size_t len;
} wiped;

void OPENSSL_cleanse(void *memory, size_t len)
{
    size_t kept = len < sizeof wiped.bytes - wiped.len ? len : sizeof wiped.bytes - wiped.len;
    if (kept > 0) {
        memcpy(wiped.bytes + wiped.len, memory, kept);
        wiped.len += kept;
    }
    volatile uint8_t *byte = memory;
    for (size_t i = 0; i < len; i++) {
        byte[i] = 0;
    }
}

static void watch(void)
{
    wiped.len = 0;
}

static bool was_wiped(ibk_span bytes)
{
    return ibk_span_find(ibk_span_of(wiped.bytes, wiped.len), bytes) != wiped.len;
}

static void test_copies_its_bytes(void **state)
{
    (void)state;
    uint8_t bytes[] = {'a', 0, 'b'};
    struct ibk_secret *secret = secret_of(ibk_span_of(bytes, sizeof bytes));
    memset(bytes, 'x', sizeof bytes);
    assert_bytes(ibk_secret_peek(secret), LITERAL("a\0b"));
    ibk_secret_release(secret);
}

static void test_any_size_up_to_the_limit(void **state)
{
    static const size_t sizes[] = {0, 1, 20, 32, 257, IBK_SECRET_MAX_SIZE};
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        row("%zu bytes", sizes[i]);
        ibk_span bytes = scrambled(sizes[i], 1);
        struct ibk_secret *secret = secret_of(bytes);
        assert_bytes(ibk_secret_peek(secret), bytes);
        ibk_secret_release(secret);
    }
    struct ibk_secret *nothing = secret_of(ibk_span_of(NULL, 0));
    assert_int_equal(ibk_secret_peek(nothing).len, 0);
    ibk_secret_release(nothing);
}

static void test_over_the_limit(void **state)
{
    (void)state;
    struct ibk_secret *secret = (struct ibk_secret *)(void *)&err;
    ibk_span bytes = repeated("very secret ", IBK_SECRET_MAX_SIZE / 12 + 1);
    assert_refused(IBK_E_LIMIT, ibk_secret_new(bytes, &secret, &err));
    assert_says((const char *)formatted("%zu", bytes.len).data, "65536");
    assert_hides(bytes);
    assert_null(secret);
    assert_int_equal(ibk_secret_new(bytes, &secret, NULL), IBK_E_LIMIT);
}

static void test_last_release_wipes(void **state)
{
    (void)state;
    ibk_span bytes = scrambled(100, 2);
    struct ibk_secret *secret = secret_of(bytes);
    assert_ptr_equal(ibk_secret_acquire(secret), secret);
    assert_ptr_equal(ibk_secret_acquire(secret), secret);
    watch();
    ibk_secret_release(secret);
    ibk_secret_release(secret);
    assert_int_equal(wiped.len, 0);
    assert_bytes(ibk_secret_peek(secret), bytes);
    ibk_secret_release(secret);
    assert_true(was_wiped(bytes));
}

static void test_null(void **state)
{
    (void)state;
    assert_null(ibk_secret_acquire(NULL));
    ibk_secret_release(NULL);
}

static void test_equal(void **state)
{
    static const struct {
        ibk_span a, b;
        bool equal;
    } table[] = {
        {BYTES(""), BYTES(""), true},          {BYTES("a"), BYTES(""), false},      {BYTES("abc"), BYTES("abc"), true},
        {BYTES("abc"), BYTES("ab"), false},    {BYTES("abc"), BYTES("Abc"), false}, {BYTES("abc"), BYTES("abd"), false},
        {BYTES("a\0b"), BYTES("a\0c"), false}, {BYTES("\0\0"), BYTES("\0"), false},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i);
        struct ibk_secret *a = secret_of(table[i].a);
        struct ibk_secret *b = secret_of(table[i].b);
        assert_row(ibk_secret_equal(a, b) == table[i].equal);
        assert_row(ibk_secret_equal(b, a) == table[i].equal);
        assert_row(ibk_secret_equal(a, a));
        ibk_secret_release(a);
        ibk_secret_release(b);
    }
}

static void test_secret_buffer_wipes_when_cleaned(void **state)
{
    (void)state;
    struct ibk_buf buf;
    ibk_span bytes = scrambled(50, 3);
    ibk_buf_init_secret(&buf, 100);
    ibk_buf_put(&buf, bytes);
    watch();
    ibk_buf_clean(&buf);
    assert_true(was_wiped(bytes));
}

static void test_secret_buffer_wipes_its_room(void **state)
{
    (void)state;
    struct ibk_room room;
    struct ibk_buf buf;
    for (size_t left = 0; left < 2; left++) {
        row("leaves it: %zu", left);
        ibk_span bytes = scrambled(IBK_ROOM_SIZE, 3);
        ibk_buf_init_secret(&buf, 4000);
        ibk_buf_lend(&buf, &room);
        ibk_buf_put(&buf, bytes);
        assert_ptr_equal(buf.data, room.bytes);
        watch();
        ibk_buf_put(&buf, repeated("x", left));
        if (left == 0) {
            ibk_buf_clean(&buf);
        }
        assert_row(was_wiped(bytes));
        assert_row(ibk_span_find(ibk_span_of(room.bytes, IBK_ROOM_SIZE), ibk_span_of(bytes.data, 4)) == IBK_ROOM_SIZE);
        ibk_buf_clean(&buf);
    }
}

static void test_secret_buffer_wipes_what_it_leaves(void **state)
{
    (void)state;
    struct ibk_buf buf;
    ibk_span first = scrambled(50, 4);
    ibk_buf_init_secret(&buf, 4000);
    ibk_buf_put(&buf, first);
    uint8_t *left = buf.data;
    watch();
    ibk_buf_put(&buf, scrambled(1000, 5));
    assert_ok(ibk_buf_check(&buf, "thing", &err));
    assert_true(buf.data != left); /* moved, and not by realloc */
    assert_true(was_wiped(first));
    ibk_buf_clean(&buf);
}

static void test_plain_buffer_is_not_wiped(void **state)
{
    (void)state;
    struct ibk_buf buf;
    ibk_buf_init(&buf, 100);
    ibk_buf_put_text(&buf, "no secret");
    watch();
    ibk_buf_clean(&buf);
    assert_int_equal(wiped.len, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_copies_its_bytes),
        checked(test_any_size_up_to_the_limit),
        checked(test_over_the_limit),
        checked(test_last_release_wipes),
        checked(test_null),
        checked(test_equal),
        checked(test_secret_buffer_wipes_when_cleaned),
        checked(test_secret_buffer_wipes_its_room),
        checked(test_secret_buffer_wipes_what_it_leaves),
        checked(test_plain_buffer_is_not_wiped),
    };
    return cmocka_run_group_tests_name("secret", tests, NULL, NULL);
}
