/*
 * fuzz_sign.c - the whole way of a signed request with input for every part: the first byte chooses the rule of the query,
 * then a line each for method, URL, consumer key, token, realm, nonce, timestamp, then lines in turn for names and values of
 * the query, up to an empty one, and of the form.
 */
#include "fuzz.h"

#include "ibk/encode.h"
#include "ibk/signer.h"

static void add_pairs(ibk_span *rest, struct ibk_params *params)
{
    struct ibk_error err;
    while (rest->len > 0 && ibk_params_count(params) < 64) {
        ibk_span name = next_line(rest);
        if (name.len == 0) {
            return;
        }
        ibk_code code = ibk_params_add(params, name, next_line(rest), &err);
        REQUIRE(code == IBK_OK || code == IBK_E_LIMIT);
    }
}

static void check_said(ibk_span header, const char *name, ibk_span value)
{
    struct ibk_buf pair;
    ibk_buf_init(&pair, IBK_HEADER_MAX_SIZE);
    ibk_buf_put_text(&pair, name);
    ibk_buf_put_text(&pair, "=\"");
    ibk_percent_put(&pair, value);
    ibk_buf_put_text(&pair, "\"");
    REQUIRE(pair.broken == IBK_OK && ibk_span_find(header, ibk_buf_peek(&pair)) < header.len);
    ibk_buf_clean(&pair);
}

/* What goes out on the wire is one line of printable ASCII that says what it was made of, and so is the URL. */
static void check_signed(const struct ibk_signing *signing, const struct ibk_signer_options *options)
{
    ibk_span header = ibk_buf_peek(&signing->header);
    REQUIRE(header.len > 0 && header.len <= IBK_HEADER_MAX_SIZE);
    for (size_t i = 0; i < header.len; i++) {
        REQUIRE(header.data[i] >= ' ' && header.data[i] < 0x7f);
    }
    for (size_t i = 0; i < signing->url.len; i++) {
        REQUIRE(signing->url.data[i] > ' ' && signing->url.data[i] < 0x7f);
    }
    check_said(header, "oauth_consumer_key", options->consumer_key);
    check_said(header, "oauth_token", options->access_token);
    check_said(header, "oauth_nonce", signing->nonce);
    check_said(header, "oauth_timestamp", signing->timestamp);
    check_said(header, "oauth_signature_method", ibk_span_text("HMAC-SHA256"));
    REQUIRE(ibk_span_find(header, ibk_span_text("oauth_signature=\"")) < header.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ibk_error err;
    struct ibk_secret *token;
    struct ibk_signer *signer;
    struct ibk_signing signing;
    ibk_span rest = ibk_span_of(data, size);
    struct ibk_signer_options options = {.query_signing = (enum ibk_query_signing)next_choice(&rest, 4)};

    ibk_signing_init(&signing);
    signing.method = next_line(&rest);
    signing.url = next_line(&rest);
    options.consumer_key = next_line(&rest);
    options.access_token = next_line(&rest);
    options.realm = next_line(&rest);
    signing.nonce = next_line(&rest);
    signing.timestamp = next_line(&rest);
    add_pairs(&rest, &signing.query);
    add_pairs(&rest, &signing.form);
    REQUIRE(ibk_secret_new(ibk_span_text("a live session token"), &token, &err) == IBK_OK);
    options.live_session_token = token;
    ibk_code code = ibk_signer_new(&options, &signer, &err);
    if (code == IBK_OK) {
        code = ibk_signer_sign(signer, &signing, &err);
        if (code == IBK_OK) {
            check_signed(&signing, &options);
        }
        ibk_signer_release(signer);
    }
    if (code != IBK_OK) {
        require_told(code, &err);
    }
    ibk_signing_clean(&signing);
    ibk_secret_release(token);
    return 0;
}
