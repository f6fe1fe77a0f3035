/* test_params.c - collecting, writing and joining parameters. */
#include "support.h"

#include "ibk/params.h"

static void add(struct ibk_params *params, const char *name, const char *value)
{
    assert_ok(ibk_params_add_text(params, name, ibk_span_text(value), &err));
}

static void check_pair(const struct ibk_params *params, size_t index, ibk_span name, ibk_span value)
{
    assert_bytes(ibk_params_peek_name(params, index), name);
    assert_bytes(ibk_params_peek_value(params, index), value);
}

static void check_join(const struct ibk_params *params, enum ibk_join how, const char *expected)
{
    struct ibk_buf out;
    ibk_buf_init(&out, 1u << 23);
    assert_ok(ibk_params_join(params, how, &out, &err));
    assert_text(ibk_buf_peek(&out), expected);
    ibk_buf_clean(&out);
}

static void check_query(const struct ibk_params *params, const char *expected)
{
    struct ibk_buf out;
    ibk_buf_init(&out, 1u << 23);
    ibk_params_put_query(params, &out);
    assert_ok(ibk_buf_check(&out, "query", &err));
    assert_text(ibk_buf_peek(&out), expected);
    ibk_buf_clean(&out);
}

static void test_nothing(void **state)
{
    (void)state;
    struct ibk_params params;
    ibk_params_init(&params);
    assert_int_equal(ibk_params_count(&params), 0);
    check_join(&params, IBK_JOIN_ONCE, "");
    check_join(&params, IBK_JOIN_RFC5849, "");
    check_query(&params, "");
    ibk_params_clean(&params);
}

static void test_order_of_adding_is_kept(void **state)
{
    (void)state;
    struct ibk_params params;
    ibk_params_init(&params);
    add(&params, "b", "1");
    add(&params, "a", "2");
    add(&params, "b", "0");
    assert_ok(ibk_params_add(&params, LITERAL("n\0n"), LITERAL("\0"), &err));
    assert_ok(ibk_params_add(&params, ibk_span_of(NULL, 0), ibk_span_of(NULL, 0), &err));
    assert_int_equal(ibk_params_count(&params), 5);
    check_pair(&params, 0, LITERAL("b"), LITERAL("1"));
    check_pair(&params, 1, LITERAL("a"), LITERAL("2"));
    check_pair(&params, 2, LITERAL("b"), LITERAL("0"));
    check_pair(&params, 3, LITERAL("n\0n"), LITERAL("\0"));
    check_pair(&params, 4, LITERAL(""), LITERAL(""));
    ibk_params_clean(&params);
    assert_int_equal(ibk_params_count(&params), 0);
}

static void test_copies(void **state)
{
    (void)state;
    struct ibk_params params;
    char name[] = "name", value[] = "value";
    ibk_params_init(&params);
    add(&params, name, value);
    memset(name, 'x', 4);
    memset(value, 'x', 5);
    check_pair(&params, 0, LITERAL("name"), LITERAL("value"));
    ibk_params_clean(&params);
}

static void test_add_all(void **state)
{
    (void)state;
    struct ibk_params params, more;
    ibk_params_init(&params);
    ibk_params_init(&more);
    add(&params, "a", "1");
    assert_ok(ibk_params_add_all(&params, &more, &err));
    add(&more, "c", "3");
    add(&more, "b", "2");
    assert_ok(ibk_params_add_all(&params, &more, &err));
    check_query(&params, "a=1&c=3&b=2");
    check_query(&more, "c=3&b=2");
    ibk_params_clean(&params);
    ibk_params_clean(&more);
}

static void test_add_query(void **state)
{
    static const struct {
        const char *query;
        const char *rewritten; /* as ibk_params_put_query writes what was understood */
    } table[] = {
        {"", ""},
        {"a=1", "a=1"},
        {"a=1&b=x%20y", "a=1&b=x%20y"},
        {"b=2&a=1&b=1", "b=2&a=1&b=1"},
        {"a=x+y", "a=x%20y"},
        {"a+b=1", "a%20b=1"},
        {"a=x%2By", "a=x%2By"},
        {"a", "a="},
        {"a&b", "a=&b="},
        {"a=", "a="},
        {"=1", "=1"},
        {"=", "="},
        {"&", ""},
        {"&&a=1&&b=2&", "a=1&b=2"},
        {"a=b=c", "a=b%3Dc"},
        {"a==", "a=%3D"},
        {"a%3Db=c%26d", "a%3Db=c%26d"},
        {"conids=265598,8314&fields=31:84", "conids=265598%2C8314&fields=31%3A84"},
        {"%61=%31", "a=1"},
        {"a=%c3%bc&b=%C3%BC", "a=%C3%BC&b=%C3%BC"},
        {"a=%00", "a=%00"},
        {"a=?/;@", "a=%3F%2F%3B%40"},
        {"a;b=1", "a%3Bb=1"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct ibk_params params;
        row("\"%s\"", table[i].query);
        ibk_params_init(&params);
        assert_ok(ibk_params_add_query(&params, ibk_span_text(table[i].query), &err));
        check_query(&params, table[i].rewritten);
        ibk_params_clean(&params);
    }
}

static void test_add_query_decodes(void **state)
{
    (void)state;
    struct ibk_params params;
    ibk_params_init(&params);
    assert_ok(ibk_params_add_query(&params, LITERAL("a%26+b=%00%3d+x&c"), &err));
    assert_int_equal(ibk_params_count(&params), 2);
    check_pair(&params, 0, LITERAL("a& b"), LITERAL("\0= x"));
    check_pair(&params, 1, LITERAL("c"), LITERAL(""));
    ibk_params_clean(&params);
}

static void test_bad_query(void **state)
{
    static const struct {
        const char *query;
        const char *words[2];
    } table[] = {
        {"hunter2hunter2=%", {"value", "1"}},
        {"a=1&password=hunter2hunter2%zz", {"value", "15"}},
        {"%hunter2hunter2=1", {"name", "1"}},
        {"hunter2hunter2%4", {"name", "15"}},
        {"%3", {"name", "1"}},
        {"%3=1hunter2hunter2", {"name", "1"}}, /* the triplet may not reach over '=' */
        {"a=%4&hunter2hunter2", {"value", "1"}},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct ibk_params params;
        ibk_span query = ibk_span_text(table[i].query);
        row("\"%s\"", table[i].query);
        ibk_params_init(&params);
        assert_refused(IBK_E_ENCODING, ibk_params_add_query(&params, query, &err));
        assert_says(table[i].words[0], table[i].words[1]);
        assert_non_null(missing_word((const char *const[]){"hunter2", NULL}));
        ibk_params_clean(&params);
    }
}

/* All bytes, written and read back. */
static void test_query_round_trip(void **state)
{
    (void)state;
    for (uint32_t seed = 0; seed < 200; seed++) {
        struct ibk_params params, read;
        struct ibk_buf query;
        row("seed %u", (unsigned int)seed);
        ibk_params_init(&params);
        ibk_params_init(&read);
        ibk_buf_init(&query, 100000);
        for (uint32_t i = 0; i < seed % 7; i++) {
            ibk_span name = scrambled(1 + (seed + i) % 40, 100 * seed + i);
            assert_ok(ibk_params_add(&params, name, scrambled((seed * i) % 50, seed + i), &err));
        }
        ibk_params_put_query(&params, &query);
        assert_ok(ibk_params_add_query(&read, ibk_buf_peek(&query), &err));
        assert_int_equal(ibk_params_count(&read), ibk_params_count(&params));
        for (size_t i = 0; i < ibk_params_count(&params); i++) {
            check_pair(&read, i, ibk_params_peek_name(&params, i), ibk_params_peek_value(&params, i));
        }
        ibk_buf_clean(&query);
        ibk_params_clean(&params);
        ibk_params_clean(&read);
    }
}

static void test_url_with_query(void **state)
{
    static const struct {
        const char *url, *query, *expected;
    } table[] = {
        {"https://h/p", "", "https://h/p"},
        {"https://h/p?", "", "https://h/p?"},
        {"https://h/p?x=%2a", "", "https://h/p?x=%2a"},
        {"https://h/p", "b=2&a=x+y", "https://h/p?b=2&a=x%20y"},
        {"https://h", "a=1", "https://h?a=1"},
        {"https://h/p?", "a=1", "https://h/p?a=1"},
        {"https://h/p?x=%2a,b", "a=1", "https://h/p?x=%2a,b&a=1"},
        {"https://h/p?x=1&", "a=1&b", "https://h/p?x=1&a=1&b="},
        {"HTTPS://H:443/P", "a=%26", "HTTPS://H:443/P?a=%26"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct ibk_params params;
        struct ibk_buf out;
        row("%s with %s", table[i].url, table[i].query);
        ibk_params_init(&params);
        ibk_buf_init(&out, 1000);
        assert_ok(ibk_params_add_query(&params, ibk_span_text(table[i].query), &err));
        assert_ok(ibk_url_with_query(ibk_span_text(table[i].url), &params, &out, &err));
        assert_text(ibk_buf_peek(&out), table[i].expected);
        ibk_buf_clean(&out);
        ibk_params_clean(&params);
    }
}

static void test_url_with_query_refuses(void **state)
{
    (void)state;
    struct ibk_params params;
    struct ibk_buf out;
    ibk_params_init(&params);
    ibk_buf_init(&out, 20);
    add(&params, "a", "1234567890");
    assert_refused(IBK_E_URL, ibk_url_with_query(LITERAL("https://h/a b"), &params, &out, &err));
    assert_refused(IBK_E_URL, ibk_url_with_query(LITERAL("https://h/a#b"), &params, &out, &err));
    assert_refused(IBK_E_LIMIT, ibk_url_with_query(LITERAL("https://h/p"), &params, &out, &err));
    ibk_buf_clean(&out);
    ibk_params_clean(&params);
}

struct joining {
    const char *query; /* the parameters, as a query string */
    const char *once, *rfc5849;
};

static void test_join(void **state)
{
    static const struct joining table[] = {
        {"a=1", "a=1", "a=1"},
        {"b=1&a=2", "a=2&b=1", "a=2&b=1"},
        {"a=2&a=1&a=10", "a=1&a=10&a=2", "a=1&a=10&a=2"},
        {"a=1&a=1", "a=1&a=1", "a=1&a=1"},
        {"a=&a", "a=&a=", "a=&a="},
        {"b=1&B=2&a=3&_=4", "B=2&_=4&a=3&b=1", "B=2&_=4&a=3&b=1"}, /* bytes, not letters */
        {"a1=x&a=y", "a=y&a1=x", "a=y&a1=x"},                      /* by name first: '1' stands before '=' */
        {"a-b=x&a=y", "a=y&a-b=x", "a=y&a-b=x"},
        {"a%20b=x&a=y", "a=y&a b=x", "a=y&a%20b=x"},
        {"a=x+y&a=x", "a=x&a=x y", "a=x&a=x%20y"},
        {"q=a%2Ab", "q=a*b", "q=a%2Ab"},
        {"q=%3D%26%25", "q==&%", "q=%3D%26%25"},
        {"c%40=1&c2=2", "c2=2&c@=1", "c%40=1&c2=2"}, /* sorted before and after encoding */
        {"%C3%BC=1&z=2", "z=2&\xc3\xbc=1", "%C3%BC=1&z=2"},
        {"a=%7E&a=~~&a=%7F", "a=~&a=~~&a=\x7f", "a=%7F&a=~&a=~~"},
        {"%00=", NULL, "%00="},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct ibk_params params;
        row("\"%s\"", table[i].query);
        ibk_params_init(&params);
        assert_ok(ibk_params_add_query(&params, ibk_span_text(table[i].query), &err));
        if (table[i].once != NULL) {
            check_join(&params, IBK_JOIN_ONCE, table[i].once);
        }
        check_join(&params, IBK_JOIN_RFC5849, table[i].rfc5849);
        ibk_params_clean(&params);
    }
}

static void test_sorted(void **state)
{
    (void)state;
    struct ibk_params params, sorted;
    ibk_params_init(&params);
    for (uint32_t i = 0; i < 300; i++) {
        assert_ok(ibk_params_add(&params, scrambled(i % 3, i), scrambled(i % 5, 2 * i), &err));
    }
    ibk_params_init(&sorted);
    assert_ok(ibk_params_sorted(&params, &sorted, &err));
    assert_int_equal(ibk_params_count(&sorted), 300);
    for (size_t i = 1; i < 300; i++) {
        row("parameter %zu", i);
        int names = ibk_span_compare(ibk_params_peek_name(&sorted, i - 1), ibk_params_peek_name(&sorted, i));
        int values = ibk_span_compare(ibk_params_peek_value(&sorted, i - 1), ibk_params_peek_value(&sorted, i));
        assert_row(names < 0 || (names == 0 && values <= 0));
    }
    check_pair(&params, 299, scrambled(2, 299), scrambled(4, 598)); /* the source keeps its order */
    ibk_params_clean(&sorted);
    ibk_params_clean(&params);
}

/* Around the lengths at which runs end and are merged. */
static void test_sorting_of_each_size(void **state)
{
    (void)state;
    for (unsigned int count = 0; count <= 70; count++) {
        struct ibk_params params, sorted;
        ibk_params_init(&params);
        ibk_params_init(&sorted);
        for (unsigned int i = 0; i < count; i++) { /* 71 is prime: every number below count, once */
            assert_ok(ibk_params_add(&params, formatted("%02u", i * 71 % count), LITERAL("x"), &err));
        }
        assert_ok(ibk_params_sorted(&params, &sorted, &err));
        assert_int_equal(ibk_params_count(&sorted), count);
        for (unsigned int i = 0; i < count; i++) {
            row("%u of %u", i, count);
            assert_row(ibk_span_equal(ibk_params_peek_name(&sorted, i), formatted("%02u", i)));
        }
        ibk_params_clean(&sorted);
        ibk_params_clean(&params);
    }
}

/* Joining what is joined already changes nothing, and the order of adding does not matter. */
static void test_join_of_any_order(void **state)
{
    (void)state;
    struct ibk_params forwards, backwards;
    struct ibk_buf one, two;
    ibk_params_init(&forwards);
    ibk_params_init(&backwards);
    ibk_buf_init(&one, 100000);
    ibk_buf_init(&two, 100000);
    for (uint32_t i = 0; i < 500; i++) {
        assert_ok(ibk_params_add(&forwards, scrambled(1 + i % 4, i), scrambled(i % 9, i), &err));
        assert_ok(ibk_params_add(&backwards, scrambled(1 + (499 - i) % 4, 499 - i), scrambled((499 - i) % 9, 499 - i), &err));
    }
    for (int how = IBK_JOIN_ONCE; how <= IBK_JOIN_RFC5849; how++) {
        assert_ok(ibk_params_join(&forwards, (enum ibk_join)how, &one, &err));
        assert_ok(ibk_params_join(&backwards, (enum ibk_join)how, &two, &err));
        assert_bytes(ibk_buf_peek(&one), ibk_buf_peek(&two));
        ibk_buf_clean(&one);
        ibk_buf_clean(&two);
    }
    ibk_params_clean(&forwards);
    ibk_params_clean(&backwards);
}

static void test_most_parameters(void **state)
{
    (void)state;
    struct ibk_params params;
    struct ibk_buf out;
    ibk_params_init(&params);
    for (unsigned int i = 0; i < IBK_PARAMS_MAX; i++) {
        assert_ok(ibk_params_add(&params, formatted("%05u", IBK_PARAMS_MAX - i), LITERAL("x"), &err));
    }
    assert_int_equal(ibk_params_count(&params), IBK_PARAMS_MAX);
    ibk_buf_init(&out, 1u << 20);
    assert_ok(ibk_params_join(&params, IBK_JOIN_RFC5849, &out, &err));
    assert_int_equal(out.len, IBK_PARAMS_MAX * 8 - 1);
    assert_memory_equal(out.data, "00001=x&00002=x&", 16);
    assert_refused(IBK_E_LIMIT, ibk_params_add_text(&params, "hunter2hunter2", LITERAL("hunter2hunter2"), &err));
    assert_says("16384");
    assert_hides(LITERAL("hunter2hunter2"));
    assert_int_equal(ibk_params_count(&params), IBK_PARAMS_MAX);
    ibk_buf_clean(&out);
    ibk_params_clean(&params);
}

static void test_most_parameters_of_a_query(void **state)
{
    (void)state;
    struct ibk_params params;
    ibk_params_init(&params);
    assert_ok(ibk_params_add_query(&params, repeated("a=1&", IBK_PARAMS_MAX), &err));
    assert_int_equal(ibk_params_count(&params), IBK_PARAMS_MAX);
    ibk_params_clean(&params);
    assert_refused(IBK_E_LIMIT, ibk_params_add_query(&params, repeated("a=1&", IBK_PARAMS_MAX + 1), &err));
    assert_says("16384");
    ibk_params_clean(&params);
}

static void test_most_text(void **state)
{
    (void)state;
    struct ibk_params params;
    struct ibk_buf out;
    ibk_params_init(&params);
    assert_ok(ibk_params_add(&params, LITERAL("/"), repeated("/", IBK_PARAMS_MAX_TEXT - 1), &err));
    ibk_buf_init(&out, 4 * IBK_PARAMS_MAX_TEXT);
    assert_ok(ibk_params_join(&params, IBK_JOIN_RFC5849, &out, &err)); /* three bytes for one */
    assert_int_equal(out.len, 3 * IBK_PARAMS_MAX_TEXT + 1);
    ibk_buf_clean(&out);
    ibk_buf_init(&out, IBK_PARAMS_MAX_TEXT); /* one too small for the '=' */
    assert_refused(IBK_E_LIMIT, ibk_params_join(&params, IBK_JOIN_ONCE, &out, &err));
    ibk_buf_clean(&out);
    assert_refused(IBK_E_LIMIT, ibk_params_add_text(&params, "a", LITERAL(""), &err));
    assert_says("1048576");
    assert_int_equal(ibk_params_count(&params), 1);
    ibk_params_clean(&params);
    add(&params, "a", "1"); /* usable again */
    ibk_params_clean(&params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_nothing),
        checked(test_order_of_adding_is_kept),
        checked(test_copies),
        checked(test_add_all),
        checked(test_add_query),
        checked(test_add_query_decodes),
        checked(test_bad_query),
        checked(test_query_round_trip),
        checked(test_url_with_query),
        checked(test_url_with_query_refuses),
        checked(test_join),
        checked(test_sorted),
        checked(test_sorting_of_each_size),
        checked(test_join_of_any_order),
        checked(test_most_parameters),
        checked(test_most_parameters_of_a_query),
        checked(test_most_text),
    };
    return cmocka_run_group_tests_name("params", tests, NULL, NULL);
}
