/* fuzz_url.c - URLs: the parts are within the text and make it up again, and the base form is stable. */
#include "fuzz.h"

#include "ibk/oauth.h"

static bool is_within(ibk_span part, ibk_span text)
{
    return part.len == 0 || (part.data >= text.data && part.data + part.len <= text.data + text.len);
}

static void check_sum(ibk_span text, const struct ibk_url *url)
{
    struct ibk_buf sum;
    ibk_buf_init(&sum, text.len);
    ibk_buf_put(&sum, url->scheme);
    ibk_buf_put_text(&sum, "://");
    ibk_buf_put(&sum, url->host);
    if (sum.len < text.len && text.data[sum.len] == ':') {
        ibk_buf_put_text(&sum, ":");
        ibk_buf_put(&sum, url->port);
    }
    ibk_buf_put(&sum, url->path);
    if (url->has_query) {
        ibk_buf_put_text(&sum, "?");
        ibk_buf_put(&sum, url->query);
    }
    REQUIRE(ibk_span_equal(ibk_buf_peek(&sum), text));
    ibk_buf_clean(&sum);
}

/* The base form of a base form is itself. */
static void check_base(const struct ibk_url *url)
{
    struct ibk_error err;
    struct ibk_url again;
    struct ibk_buf base, second;
    ibk_buf_init(&base, IBK_URL_MAX_SIZE + 1);
    ibk_buf_init(&second, IBK_URL_MAX_SIZE + 1);
    ibk_url_put_base(url, &base);
    REQUIRE(base.broken == IBK_OK);
    if (ibk_url_split(ibk_buf_peek(&base), &again, &err) == IBK_OK) { /* one more "/" may pass the limit */
        REQUIRE(!again.has_query);
        ibk_url_put_base(&again, &second);
        REQUIRE(ibk_span_equal(ibk_buf_peek(&base), ibk_buf_peek(&second)));
        REQUIRE(ibk_url_is_loopback(url) == ibk_url_is_loopback(&again));
        REQUIRE(ibk_url_may_be_sent(url) == ibk_url_may_be_sent(&again));
    } else {
        REQUIRE(base.len > IBK_URL_MAX_SIZE);
    }
    ibk_buf_clean(&base);
    ibk_buf_clean(&second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ibk_error err;
    struct ibk_url url;
    ibk_span text = ibk_span_of(data, size);
    ibk_code code = ibk_url_split(text, &url, &err);
    if (code != IBK_OK) {
        require_told(code, &err);
        return 0;
    }
    REQUIRE(is_within(url.scheme, text) && is_within(url.host, text) && is_within(url.port, text));
    REQUIRE(is_within(url.path, text) && is_within(url.query, text));
    REQUIRE(url.path.len == 0 || url.path.data[0] == '/');
    REQUIRE(url.query.len == 0 || url.has_query);
    for (size_t i = 0; i < text.len; i++) {
        REQUIRE(text.data[i] > ' ' && text.data[i] < 0x7f);
    }
    check_sum(text, &url);
    check_base(&url);
    return 0;
}
