/*
 * fuzz_header.c - the Authorization header: no byte of a value escapes its quotes, and what a strict reader gets out of it
 * is what went in. Input: realm, then names and values in turn, a line each.
 */
#include "fuzz.h"

#include "ibk/encode.h"
#include "ibk/oauth.h"

static ibk_span take_until(ibk_span *rest, const char *mark)
{
    size_t at = ibk_span_find(*rest, ibk_span_text(mark));
    REQUIRE(at < rest->len);
    ibk_span taken = ibk_span_of(rest->data, at);
    size_t step = at + strlen(mark);
    *rest = ibk_span_of(rest->data + step, rest->len - step);
    return taken;
}

static void check_pair(ibk_span *rest, ibk_span name, ibk_span value)
{
    struct ibk_error err;
    struct ibk_buf decoded;
    ibk_buf_init(&decoded, value.len);
    REQUIRE(ibk_span_equal(take_until(rest, "=\""), name));
    ibk_span written = take_until(rest, "\"");
    for (size_t i = 0; i < written.len; i++) {
        REQUIRE(ibk_unreserved[written.data[i]] || written.data[i] == '%');
    }
    REQUIRE(ibk_percent_decode(written, false, "value", &decoded, &err) == IBK_OK);
    REQUIRE(ibk_span_equal(ibk_buf_peek(&decoded), value));
    ibk_buf_clean(&decoded);
    if (rest->len > 0) {
        REQUIRE(take_until(rest, ", ").len == 0);
    }
}

static void check_header(ibk_span rest, ibk_span realm, const struct ibk_params *params)
{
    struct ibk_error err;
    struct ibk_params sorted;
    ibk_params_init(&sorted);
    REQUIRE(ibk_params_sorted(params, &sorted, &err) == IBK_OK);
    REQUIRE(take_until(&rest, "OAuth ").len == 0);
    if (realm.len > 0) {
        check_pair(&rest, ibk_span_text("realm"), realm);
    }
    for (size_t i = 0; i < ibk_params_count(&sorted); i++) {
        check_pair(&rest, ibk_params_peek_name(&sorted, i), ibk_params_peek_value(&sorted, i));
    }
    REQUIRE(rest.len == 0);
    ibk_params_clean(&sorted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ibk_error err;
    struct ibk_params params;
    struct ibk_buf header;
    ibk_span rest = ibk_span_of(data, size);
    ibk_span realm = next_line(&rest);

    ibk_params_init(&params);
    ibk_buf_init(&header, IBK_HEADER_MAX_SIZE);
    while (rest.len > 0 && ibk_params_count(&params) < 64) {
        ibk_span name = next_line(&rest);
        REQUIRE(ibk_params_add(&params, name, next_line(&rest), &err) == IBK_OK || err.code == IBK_E_LIMIT);
    }
    ibk_code code = ibk_authorization_header(&params, realm, &header, &err);
    if (code == IBK_OK) {
        check_header(ibk_buf_peek(&header), realm, &params);
    } else {
        require_told(code, &err);
    }
    ibk_params_clean(&params);
    ibk_buf_clean(&header);
    return 0;
}
