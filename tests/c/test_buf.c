/* test_buf.c - the bounded buffer. Wiping of secret buffers is in test_secret.c. */
#include "support.h"

#include "ibk/buf.h"

static void test_takes_no_memory_before_the_first_byte(void **state)
{
    (void)state;
    struct ibk_buf buf;
    long before = ibk_test_live_allocations();
    ibk_buf_init(&buf, 10);
    assert_int_equal(ibk_buf_peek(&buf).len, 0);
    assert_ok(ibk_buf_check(&buf, "thing", &err));
    assert_int_equal(ibk_test_live_allocations(), before);
    ibk_buf_clean(&buf);
}

static void test_puts_in_order(void **state)
{
    (void)state;
    struct ibk_buf buf;
    ibk_buf_init(&buf, 100);
    ibk_buf_put_text(&buf, "ab");
    ibk_buf_put_byte(&buf, 0);
    ibk_buf_put(&buf, LITERAL("cd"));
    ibk_buf_put(&buf, ibk_span_of(NULL, 0));
    ibk_buf_put_text(&buf, "");
    uint8_t *space = ibk_buf_put_room(&buf, 2);
    assert_non_null(space);
    memcpy(space, "ef", 2);
    assert_ok(ibk_buf_check(&buf, "thing", &err));
    assert_bytes(ibk_buf_peek(&buf), LITERAL("ab\0cdef"));
    ibk_buf_clean(&buf);
}

static void test_keeps_contents_while_growing(void **state)
{
    (void)state;
    for (int secret = 0; secret < 2; secret++) {
        struct ibk_buf buf;
        ibk_span expected = scrambled(100000, 1);
        (secret ? ibk_buf_init_secret : ibk_buf_init)(&buf, expected.len);
        for (size_t done = 0, step = 1; done < expected.len; done += step, step = step % 997 + 1) {
            step = step > expected.len - done ? expected.len - done : step;
            ibk_buf_put(&buf, ibk_span_of(expected.data + done, step));
        }
        assert_ok(ibk_buf_check(&buf, "thing", &err));
        assert_bytes(ibk_buf_peek(&buf), expected);
        assert_true(buf.capacity >= buf.len);
        ibk_buf_clean(&buf);
    }
}

static void test_limit_is_exact(void **state)
{
    static const size_t limits[] = {0, 1, 2, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000, 4096};
    (void)state;
    for (size_t i = 0; i < COUNT(limits); i++) {
        struct ibk_buf buf;
        row("limit %zu", limits[i]);
        ibk_buf_init(&buf, limits[i]);
        ibk_span full = repeated("x", limits[i]);
        ibk_buf_put(&buf, full);
        assert_ok(ibk_buf_check(&buf, "thing", &err));
        assert_bytes(ibk_buf_peek(&buf), full);
        ibk_buf_put_byte(&buf, 'y');
        assert_refused(IBK_E_LIMIT, ibk_buf_check(&buf, "my thing", &err));
        assert_says("my thing", (const char *)formatted("%zu", limits[i]).data);
        assert_row(buf.len <= limits[i]);
        ibk_buf_clean(&buf);
    }
}

static void test_broken_buffer_takes_nothing_more(void **state)
{
    (void)state;
    struct ibk_buf buf;
    ibk_buf_init(&buf, 4);
    ibk_buf_put_text(&buf, "ab");
    ibk_buf_put_text(&buf, "cdef");
    ibk_buf_put_text(&buf, "g"); /* would fit */
    ibk_buf_put_byte(&buf, 'h');
    ibk_buf_put(&buf, LITERAL("i"));
    assert_null(ibk_buf_put_room(&buf, 1));
    assert_null(ibk_buf_put_room(&buf, 0));
    assert_bytes(ibk_buf_peek(&buf), LITERAL("ab"));
    assert_refused(IBK_E_LIMIT, ibk_buf_check(&buf, "thing", &err));
    assert_int_equal(ibk_buf_check(&buf, "thing", NULL), IBK_E_LIMIT);
    ibk_buf_clean(&buf);
}

static void test_room_that_no_size_can_hold(void **state)
{
    (void)state;
    static const size_t sizes[] = {SIZE_MAX, SIZE_MAX - 1, SIZE_MAX / 2 + 1};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct ibk_buf buf;
        ibk_buf_init(&buf, 100);
        ibk_buf_put_text(&buf, "ab");
        assert_null(ibk_buf_put_room(&buf, sizes[i]));
        assert_refused(IBK_E_LIMIT, ibk_buf_check(&buf, "thing", &err));
        ibk_buf_clean(&buf);
    }
}

/* Twice its capacity is no size any more, long before there is no such memory. */
static void test_room_beyond_half_of_all_memory(void **state)
{
    (void)state;
    struct ibk_buf buf;
    ibk_buf_init(&buf, SIZE_MAX);
    ibk_test_fail_allocation(1);
    assert_null(ibk_buf_put_room(&buf, SIZE_MAX));
    ibk_test_fail_allocation(0);
    assert_refused(IBK_E_NO_MEMORY, ibk_buf_check(&buf, "thing", &err));
    ibk_buf_clean(&buf);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    struct ibk_buf buf;
    ibk_buf_init(&buf, 1000);
    ibk_buf_put_text(&buf, "ab");
    ibk_test_fail_allocation(1);
    ibk_buf_put(&buf, repeated("x", 900)); /* has to grow */
    ibk_test_fail_allocation(0);
    ibk_buf_put(&buf, repeated("x", 2000)); /* over the limit, but the first failure counts */
    assert_refused(IBK_E_NO_MEMORY, ibk_buf_check(&buf, "thing", &err));
    assert_bytes(ibk_buf_peek(&buf), LITERAL("ab"));
    ibk_buf_clean(&buf);
}

static void test_usable_again_after_clean(void **state)
{
    (void)state;
    struct ibk_buf buf;
    ibk_buf_init_secret(&buf, 3);
    ibk_buf_put_text(&buf, "abcd");
    ibk_buf_clean(&buf);
    assert_int_equal(ibk_buf_peek(&buf).len, 0);
    assert_ok(ibk_buf_check(&buf, "thing", &err));
    ibk_buf_put_text(&buf, "efg");
    assert_ok(ibk_buf_check(&buf, "thing", &err));
    assert_text(ibk_buf_peek(&buf), "efg");
    assert_true(buf.secret);
    ibk_buf_put_text(&buf, "h");
    assert_refused(IBK_E_LIMIT, ibk_buf_check(&buf, "thing", &err));
    ibk_buf_clean(&buf);
    ibk_buf_clean(&buf);
}

static void test_begins_in_its_room(void **state)
{
    (void)state;
    struct ibk_room room;
    struct ibk_buf buf;
    long before = ibk_test_live_allocations();
    ibk_buf_init(&buf, 1000);
    ibk_buf_lend(&buf, &room);
    for (int turn = 0; turn < 2; turn++) { /* the second time in the same room, after cleaning */
        ibk_span full = repeated("x", IBK_ROOM_SIZE);
        ibk_buf_put(&buf, ibk_span_of(full.data, IBK_ROOM_SIZE - 1));
        ibk_buf_put_byte(&buf, 'x');
        assert_bytes(ibk_span_of(room.bytes, IBK_ROOM_SIZE), full);
        assert_bytes(ibk_buf_peek(&buf), full);
        assert_ptr_equal(buf.data, room.bytes);
        assert_int_equal(ibk_test_live_allocations(), before);
        ibk_buf_put_byte(&buf, 'x');
        assert_bytes(ibk_buf_peek(&buf), repeated("x", IBK_ROOM_SIZE + 1));
        assert_ptr_not_equal(buf.data, room.bytes);
        assert_int_equal(ibk_test_live_allocations(), before + 1);
        ibk_buf_clean(&buf);
        assert_int_equal(ibk_test_live_allocations(), before);
    }
    ibk_buf_put(&buf, repeated("x", IBK_ROOM_SIZE + 1)); /* never in it */
    assert_ptr_not_equal(buf.data, room.bytes);
    ibk_buf_clean(&buf);
}

static void test_limit_below_its_room(void **state)
{
    (void)state;
    struct ibk_room room = {.bytes = {0}};
    struct ibk_buf buf;
    ibk_buf_init(&buf, 3);
    ibk_buf_lend(&buf, &room);
    ibk_buf_put_text(&buf, "abc");
    assert_ok(ibk_buf_check(&buf, "thing", &err));
    ibk_buf_put_byte(&buf, 'd');
    assert_refused(IBK_E_LIMIT, ibk_buf_check(&buf, "thing", &err));
    assert_int_equal(room.bytes[3], 0);
    ibk_buf_clean(&buf);
}

static void test_no_memory_beyond_its_room(void **state)
{
    (void)state;
    struct ibk_room room;
    struct ibk_buf buf;
    ibk_buf_init(&buf, 1000);
    ibk_buf_lend(&buf, &room);
    ibk_test_fail_allocation(1);
    ibk_buf_put(&buf, repeated("x", IBK_ROOM_SIZE));
    assert_ok(ibk_buf_check(&buf, "thing", &err));
    ibk_buf_put_byte(&buf, 'x');
    ibk_test_fail_allocation(0);
    assert_refused(IBK_E_NO_MEMORY, ibk_buf_check(&buf, "thing", &err));
    assert_bytes(ibk_buf_peek(&buf), repeated("x", IBK_ROOM_SIZE));
    ibk_buf_clean(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_takes_no_memory_before_the_first_byte),
        checked(test_puts_in_order),
        checked(test_keeps_contents_while_growing),
        checked(test_limit_is_exact),
        checked(test_broken_buffer_takes_nothing_more),
        checked(test_room_that_no_size_can_hold),
        checked(test_room_beyond_half_of_all_memory),
        checked(test_out_of_memory),
        checked(test_usable_again_after_clean),
        checked(test_begins_in_its_room),
        checked(test_limit_below_its_room),
        checked(test_no_memory_beyond_its_room),
    };
    return cmocka_run_group_tests_name("buf", tests, NULL, NULL);
}
