/* basestring.c - the text that is signed (PROTOCOL: IBKR joins the pairs unencoded and encodes the whole list once). */
#include "ibk/encode.h"
#include "ibk/oauth.h"

bool ibk_query_signing_parse(ibk_span word, enum ibk_query_signing *out)
{
    static const char *const words[] = {"omit", "merge", "url", "rfc5849"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (ibk_span_equal(word, ibk_span_text(words[i]))) {
            *out = (enum ibk_query_signing)i;
            return true;
        }
    }
    return false;
}

static ibk_code check_method(ibk_span method, struct ibk_error *err)
{
    bool good = method.len > 0 && method.len <= 16;
    for (size_t i = 0; good && i < method.len; i++) {
        good = method.data[i] >= 'A' && method.data[i] <= 'Z';
    }
    return good ? IBK_OK
                : ibk_fail(err, IBK_E_ARGUMENT, "ibk_base_string", "HTTP method must be 1 to 16 upper-case letters, as in GET");
}

/* The second part: scheme, host and path; under the "url" rule with the query as it is written. */
static ibk_code put_url(const struct ibk_url *url, enum ibk_query_signing query_signing, struct ibk_buf *out,
                        struct ibk_error *err)
{
    struct ibk_room room;
    struct ibk_buf base;
    ibk_buf_init(&base, IBK_URL_MAX_SIZE + 1); /* one more than its text: "/" for an empty path */
    ibk_buf_lend(&base, &room);
    ibk_url_put_base(url, &base);
    if (query_signing == IBK_QUERY_URL && url->has_query) {
        ibk_buf_put_byte(&base, '?');
        ibk_buf_put(&base, url->query);
    }
    ibk_code code = ibk_buf_check(&base, "URL", err);
    ibk_percent_put(out, ibk_buf_peek(&base));
    ibk_buf_clean(&base);
    return code;
}

/* The third part. A query that takes part is joined to the parameters first. */
static ibk_code put_params(const struct ibk_base_string_input *input, const struct ibk_url *url, struct ibk_buf *out,
                           struct ibk_error *err)
{
    enum ibk_join how = input->query_signing == IBK_QUERY_RFC5849 ? IBK_JOIN_RFC5849 : IBK_JOIN_ONCE;
    bool merged = input->query_signing == IBK_QUERY_MERGE || input->query_signing == IBK_QUERY_RFC5849;
    struct ibk_room room;
    struct ibk_params with_query;
    struct ibk_buf joined;
    ibk_code code = IBK_OK;

    ibk_params_init(&with_query);
    ibk_buf_init(&joined, IBK_BASE_STRING_MAX_SIZE);
    ibk_buf_lend(&joined, &room);
    if (merged && url->query.len > 0) {
        code = ibk_params_add_all(&with_query, input->params, err);
        if (code == IBK_OK) {
            code = ibk_params_add_query(&with_query, url->query, err);
        }
        if (code == IBK_OK) {
            code = ibk_params_join(&with_query, how, &joined, err);
        }
    } else {
        code = ibk_params_join(input->params, how, &joined, err);
    }
    ibk_percent_put(out, ibk_buf_peek(&joined));
    ibk_buf_clean(&joined);
    ibk_params_clean(&with_query);
    return code;
}

ibk_code ibk_base_string(const struct ibk_base_string_input *input, struct ibk_buf *out, struct ibk_error *err)
{
    struct ibk_url url;
    ibk_code code = check_method(input->method, err);
    if (code == IBK_OK) {
        code = ibk_url_split(input->url, &url, err);
    }
    if (code != IBK_OK) {
        return code;
    }
    ibk_buf_put(out, input->prepend);
    ibk_buf_put(out, input->method);
    ibk_buf_put_byte(out, '&');
    code = put_url(&url, input->query_signing, out, err);
    if (code == IBK_OK) {
        ibk_buf_put_byte(out, '&');
        code = put_params(input, &url, out, err);
    }
    return code == IBK_OK ? ibk_buf_check(out, "base string", err) : code;
}
