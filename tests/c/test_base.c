/* test_base.c - spans, checked sizes, the allocator. */
#include "support.h"

static const ibk_span nothing = {NULL, 0};

static void test_span_of_text(void **state)
{
    (void)state;
    ibk_span span = ibk_span_text("abc");
    assert_int_equal(span.len, 3);
    assert_memory_equal(span.data, "abc", 3);
    assert_int_equal(ibk_span_text("").len, 0);
}

static void test_equal(void **state)
{
    static const struct {
        ibk_span a, b;
        bool equal, nocase;
    } table[] = {
        {{NULL, 0}, {NULL, 0}, true, true},
        {BYTES(""), {NULL, 0}, true, true},
        {BYTES("a"), BYTES("a"), true, true},
        {BYTES("a"), BYTES("A"), false, true},
        {BYTES("Az"), BYTES("aZ"), false, true},
        {BYTES("a"), BYTES("ab"), false, false},
        {BYTES("ab"), BYTES("a"), false, false},
        {BYTES("a\0b"), BYTES("a\0b"), true, true},
        {BYTES("a\0b"), BYTES("a\0c"), false, false},
        {BYTES("a\0b"), BYTES("A\0B"), false, true},
        {BYTES("@"), BYTES("`"), false, false}, /* the neighbours of the letters, 32 apart as well */
        {BYTES("["), BYTES("{"), false, false},
        {BYTES("\xc3\x84"), BYTES("\xc3\xa4"), false, false}, /* capital and small a umlaut */
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i);
        assert_row(ibk_span_equal(table[i].a, table[i].b) == table[i].equal);
        assert_row(ibk_span_equal_nocase(table[i].a, table[i].b) == table[i].nocase);
    }
}

static void test_compare(void **state)
{
    /* In ascending order. */
    static const ibk_span ordered[] = {
        {NULL, 0},   BYTES("\0"), BYTES("A"), BYTES("Z"),    BYTES("a"),    BYTES("a\0"),  BYTES("a1"),
        BYTES("aa"), BYTES("ab"), BYTES("b"), BYTES("\x7f"), BYTES("\x80"), BYTES("\xff"), BYTES("\xff\xff"),
    };
    (void)state;
    for (size_t i = 0; i < COUNT(ordered); i++) {
        for (size_t j = 0; j < COUNT(ordered); j++) {
            row("%zu against %zu", i, j);
            int order = ibk_span_compare(ordered[i], ordered[j]);
            assert_row((order < 0) == (i < j) && (order > 0) == (i > j));
        }
    }
    assert_int_equal(ibk_span_compare(nothing, LITERAL("")), 0);
}

static void test_find(void **state)
{
    static const struct {
        ibk_span haystack, needle;
        size_t position;
    } table[] = {
        {BYTES("abcabc"), BYTES("abc"), 0},
        {BYTES("abcabc"), BYTES("cab"), 2},
        {BYTES("abcabc"), BYTES("abd"), 6},
        {BYTES("aaab"), BYTES("aab"), 1},
        {BYTES("abababc"), BYTES("ababc"), 2},
        {BYTES("ab"), BYTES("abc"), 2},
        {BYTES("abc"), BYTES("c"), 2},
        {BYTES("abc"), BYTES("abc"), 0},
        {BYTES("abc"), {NULL, 0}, 0},
        {{NULL, 0}, {NULL, 0}, 0},
        {{NULL, 0}, BYTES("a"), 0},
        {BYTES("a\0b\0c"), BYTES("\0c"), 3},
        {BYTES("\x80\xff"), BYTES("\xff"), 1},
        {BYTES("xyx"), BYTES("xx"), 3},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i);
        assert_row(ibk_span_find(table[i].haystack, table[i].needle) == table[i].position);
    }
}

static void test_checked_sizes(void **state)
{
    (void)state;
    size_t result = 7;
    assert_true(ibk_add_size(SIZE_MAX, 0, &result) && result == SIZE_MAX);
    assert_true(ibk_add_size(SIZE_MAX - 1, 1, &result) && result == SIZE_MAX);
    result = 7;
    assert_false(ibk_add_size(SIZE_MAX, 1, &result));
    assert_false(ibk_add_size(1, SIZE_MAX, &result));
    assert_int_equal(result, 7);

    assert_true(ibk_mul_size(0, SIZE_MAX, &result) && result == 0);
    assert_true(ibk_mul_size(SIZE_MAX, 0, &result) && result == 0);
    assert_true(ibk_mul_size(SIZE_MAX / 2, 2, &result) && result == SIZE_MAX - 1);
    result = 7;
    assert_false(ibk_mul_size(SIZE_MAX / 2 + 1, 2, &result));
    assert_false(ibk_mul_size(SIZE_MAX, SIZE_MAX, &result));
    assert_int_equal(result, 7);
}

static void test_allocations_are_counted(void **state)
{
    (void)state;
    long before = ibk_test_live_allocations();
    void *plain = ibk_alloc(10);
    void *secret = ibk_alloc(10);
    assert_non_null(plain);
    assert_non_null(secret);
    assert_int_equal(ibk_test_live_allocations(), before + 2);
    ibk_free(plain);
    ibk_free_secret(secret, 10);
    ibk_free(NULL);
    ibk_free_secret(NULL, 0);
    assert_int_equal(ibk_test_live_allocations(), before);
}

static void test_chosen_allocation_fails_once(void **state)
{
    (void)state;
    for (unsigned long n = 1; n <= 3; n++) {
        ibk_test_fail_allocation(n);
        for (unsigned long i = 1; i <= 4; i++) {
            row("allocation %lu of those of which %lu fails", i, n);
            void *memory = ibk_alloc(8);
            assert_row((memory == NULL) == (i == n));
            ibk_free(memory);
        }
    }
    ibk_test_fail_allocation(1);
    ibk_test_fail_allocation(0);
    void *memory = ibk_alloc(8);
    assert_non_null(memory);
    ibk_free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_span_of_text),
        checked(test_equal),
        checked(test_compare),
        checked(test_find),
        checked(test_checked_sizes),
        checked(test_allocations_are_counted),
        checked(test_chosen_allocation_fails_once),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
