/* fuzz_params.c - parameters out of a query: sorted, stable under sorting again, and reversible. */
#include "fuzz.h"

#include "ibk/params.h"

static void check_sorted(const struct ibk_params *params)
{
    struct ibk_error err;
    struct ibk_params once, twice;
    ibk_params_init(&once);
    ibk_params_init(&twice);
    REQUIRE(ibk_params_sorted(params, &once, &err) == IBK_OK);
    REQUIRE(ibk_params_sorted(&once, &twice, &err) == IBK_OK);
    size_t count = ibk_params_count(params);
    REQUIRE(ibk_params_count(&once) == count && ibk_params_count(&twice) == count);
    for (size_t i = 0; i < count; i++) {
        ibk_span name = ibk_params_peek_name(&once, i), value = ibk_params_peek_value(&once, i);
        REQUIRE(ibk_span_equal(name, ibk_params_peek_name(&twice, i)));
        REQUIRE(ibk_span_equal(value, ibk_params_peek_value(&twice, i)));
        if (i > 0) {
            int order = ibk_span_compare(ibk_params_peek_name(&once, i - 1), name);
            REQUIRE(order < 0 || (order == 0 && ibk_span_compare(ibk_params_peek_value(&once, i - 1), value) <= 0));
        }
    }
    ibk_params_clean(&once);
    ibk_params_clean(&twice);
}

/* Written as a query and read again they are the same: but for a pair without name and value, which leaves nothing. */
static void check_query(const struct ibk_params *params)
{
    struct ibk_error err;
    struct ibk_buf query;
    struct ibk_params again;
    ibk_buf_init(&query, 4 * IBK_PARAMS_MAX_TEXT);
    ibk_params_init(&again);
    ibk_params_put_query(params, &query);
    REQUIRE(query.broken == IBK_OK);
    REQUIRE(ibk_params_add_query(&again, ibk_buf_peek(&query), &err) == IBK_OK);
    REQUIRE(ibk_params_count(&again) == ibk_params_count(params));
    for (size_t i = 0; i < ibk_params_count(params); i++) {
        REQUIRE(ibk_span_equal(ibk_params_peek_name(params, i), ibk_params_peek_name(&again, i)));
        REQUIRE(ibk_span_equal(ibk_params_peek_value(params, i), ibk_params_peek_value(&again, i)));
    }
    ibk_params_clean(&again);
    ibk_buf_clean(&query);
}

static void check_join(const struct ibk_params *params, enum ibk_join how)
{
    struct ibk_error err;
    struct ibk_params sorted;
    struct ibk_buf joined, again;
    ibk_params_init(&sorted);
    ibk_buf_init(&joined, 4 * IBK_PARAMS_MAX_TEXT);
    ibk_buf_init(&again, 4 * IBK_PARAMS_MAX_TEXT);
    REQUIRE(ibk_params_join(params, how, &joined, &err) == IBK_OK);
    REQUIRE(ibk_params_sorted(params, &sorted, &err) == IBK_OK);
    REQUIRE(ibk_params_join(&sorted, how, &again, &err) == IBK_OK); /* the order of adding does not matter */
    REQUIRE(ibk_span_equal(ibk_buf_peek(&joined), ibk_buf_peek(&again)));
    ibk_params_clean(&sorted);
    ibk_buf_clean(&joined);
    ibk_buf_clean(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ibk_error err;
    struct ibk_params params;
    ibk_params_init(&params);
    ibk_code code = ibk_params_add_query(&params, ibk_span_of(data, size), &err);
    if (code != IBK_OK) {
        require_told(code, &err);
    } else {
        check_sorted(&params);
        check_query(&params);
        check_join(&params, IBK_JOIN_ONCE);
        check_join(&params, IBK_JOIN_RFC5849);
    }
    ibk_params_clean(&params);
    return 0;
}
