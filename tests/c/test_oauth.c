/* test_oauth.c - base string, Authorization header, signatures, whole requests, nonces. Known answers: test_vectors.c. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "support_pem.h"

#include "ibk/oauth.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define URL "https://api.ibkr.com/v1/api/portfolio/accounts"
#define ENCODED_URL "https%3A%2F%2Fapi.ibkr.com%2Fv1%2Fapi%2Fportfolio%2Faccounts"

static const enum ibk_query_signing all_rules[] = {IBK_QUERY_OMIT, IBK_QUERY_MERGE, IBK_QUERY_URL, IBK_QUERY_RFC5849};

/* The parameters of a query string, decoded; the caller cleans. */
static struct ibk_params params_of(const char *query)
{
    struct ibk_params params;
    ibk_params_init(&params);
    assert_ok(ibk_params_add_query(&params, ibk_span_text(query), &err));
    return params;
}

static struct ibk_rsa_key *signing_key(void)
{
    struct ibk_rsa_key *key = NULL;
    const char *pem = text_of(member(member(vectors(), "keys"), "signature"), "private_pkcs8_pem");
    assert_ok(ibk_rsa_key_load(ibk_span_text(pem), NULL, "signing key", &key, &err));
    return key;
}

static struct ibk_mac_key *mac_key(enum ibk_mac mac)
{
    struct ibk_secret *secret = secret_of(scrambled(20, 11));
    struct ibk_mac_key *key = NULL;
    assert_ok(ibk_mac_key_new(mac, secret, &key, &err));
    ibk_secret_release(secret);
    return key;
}

static void test_words_of_query_signing(void **state)
{
    static const char *const words[] = {"omit", "merge", "url", "rfc5849"};
    static const ibk_span others[] = {{NULL, 0},      BYTES(""),       BYTES("OMIT"),    BYTES("omit "),   BYTES("omi"),
                                      BYTES("omitt"), BYTES("omit\0"), BYTES("default"), BYTES("rfc 5849")};
    (void)state;
    for (size_t i = 0; i < COUNT(words); i++) {
        enum ibk_query_signing rule = IBK_QUERY_RFC5849;
        row("%s", words[i]);
        assert_row(ibk_query_signing_parse(ibk_span_text(words[i]), &rule) && rule == all_rules[i]);
    }
    for (size_t i = 0; i < COUNT(others); i++) {
        enum ibk_query_signing rule = IBK_QUERY_URL;
        row("word %zu", i);
        assert_row(!ibk_query_signing_parse(others[i], &rule) && rule == IBK_QUERY_URL);
    }
}

struct base_case {
    const char *method, *url, *params;
    enum ibk_query_signing rule;
    const char *prepend, *expected;
};

static void check_base(const struct base_case *line)
{
    struct ibk_params params = params_of(line->params);
    struct ibk_buf out;
    const struct ibk_base_string_input input = {
        .method = ibk_span_text(line->method),
        .url = ibk_span_text(line->url),
        .params = &params,
        .query_signing = line->rule,
        .prepend = ibk_span_text(line->prepend),
    };
    ibk_buf_init_secret(&out, IBK_BASE_STRING_MAX_SIZE);
    assert_ok(ibk_base_string(&input, &out, &err));
    assert_text(ibk_buf_peek(&out), line->expected);
    ibk_buf_clean(&out);
    ibk_params_clean(&params);
}

static void test_base_string(void **state)
{
    static const struct base_case table[] = {
        {"GET", URL, "b=2&a=1", IBK_QUERY_OMIT, "", "GET&" ENCODED_URL "&a%3D1%26b%3D2"},
        {"POST", URL, "", IBK_QUERY_OMIT, "", "POST&" ENCODED_URL "&"},
        {"DELETE", URL, "a", IBK_QUERY_OMIT, "", "DELETE&" ENCODED_URL "&a%3D"},
        {"POST", URL, "a=1", IBK_QUERY_OMIT, "00ab", "00abPOST&" ENCODED_URL "&a%3D1"},
        {"GET", URL "?z=1", "a=1", IBK_QUERY_OMIT, "", "GET&" ENCODED_URL "&a%3D1"},
        {"GET", URL "?z=1", "a=1", IBK_QUERY_MERGE, "", "GET&" ENCODED_URL "&a%3D1%26z%3D1"},
        {"GET", URL "?z=1", "a=1", IBK_QUERY_URL, "", "GET&" ENCODED_URL "%3Fz%3D1&a%3D1"},
        {"GET", URL "?z=1", "a=1", IBK_QUERY_RFC5849, "", "GET&" ENCODED_URL "&a%3D1%26z%3D1"},
        /* A comma, written in both ways, and the order of a query: only "url" sees the spelling. */
        {"GET", URL "?c=1,2&b=3", "a=1", IBK_QUERY_MERGE, "", "GET&" ENCODED_URL "&a%3D1%26b%3D3%26c%3D1%2C2"},
        {"GET", URL "?c=1%2c2&b=3", "a=1", IBK_QUERY_MERGE, "", "GET&" ENCODED_URL "&a%3D1%26b%3D3%26c%3D1%2C2"},
        {"GET", URL "?c=1,2&b=3", "a=1", IBK_QUERY_RFC5849, "", "GET&" ENCODED_URL "&a%3D1%26b%3D3%26c%3D1%252C2"},
        {"GET", URL "?c=1,2&b=3", "a=1", IBK_QUERY_URL, "", "GET&" ENCODED_URL "%3Fc%3D1%2C2%26b%3D3&a%3D1"},
        {"GET", URL "?c=1%2c2&b=3", "a=1", IBK_QUERY_URL, "", "GET&" ENCODED_URL "%3Fc%3D1%252c2%26b%3D3&a%3D1"},
        {"GET", URL "?c=1+2%202", "a=1", IBK_QUERY_MERGE, "", "GET&" ENCODED_URL "&a%3D1%26c%3D1%202%202"},
        {"GET", URL "?c=1+2%202", "a=1", IBK_QUERY_URL, "", "GET&" ENCODED_URL "%3Fc%3D1%2B2%25202&a%3D1"},
        /* The same name in the query and among the parameters, sorted by value. */
        {"GET", URL "?a=3&a=1", "a=2", IBK_QUERY_MERGE, "", "GET&" ENCODED_URL "&a%3D1%26a%3D2%26a%3D3"},
        /* Odd queries. */
        {"GET", URL "?", "a=1", IBK_QUERY_OMIT, "", "GET&" ENCODED_URL "&a%3D1"},
        {"GET", URL "?", "a=1", IBK_QUERY_MERGE, "", "GET&" ENCODED_URL "&a%3D1"},
        {"GET", URL "?", "a=1", IBK_QUERY_RFC5849, "", "GET&" ENCODED_URL "&a%3D1"},
        {"GET", URL "?", "a=1", IBK_QUERY_URL, "", "GET&" ENCODED_URL "%3F&a%3D1"},
        {"GET", URL "?&b&&=c&", "a=1", IBK_QUERY_MERGE, "", "GET&" ENCODED_URL "&%3Dc%26a%3D1%26b%3D"},
        {"GET", URL "?b", "", IBK_QUERY_MERGE, "", "GET&" ENCODED_URL "&b%3D"},
        /* The URL part in its normal form, whatever the rule. */
        {"GET", "HTTPS://API.ibkr.com:443/v1/A?b=C", "a=1", IBK_QUERY_OMIT, "", "GET&https%3A%2F%2Fapi.ibkr.com%2Fv1%2FA&a%3D1"},
        {"GET", "HTTPS://API.ibkr.com:443/v1/A?b=C", "a=1", IBK_QUERY_URL, "",
         "GET&https%3A%2F%2Fapi.ibkr.com%2Fv1%2FA%3Fb%3DC&a%3D1"},
        {"GET", "http://127.0.0.1:5000", "a=1", IBK_QUERY_OMIT, "", "GET&http%3A%2F%2F127.0.0.1%3A5000%2F&a%3D1"},
        {"GET", "http://[::1]:5000/x?y", "", IBK_QUERY_MERGE, "", "GET&http%3A%2F%2F%5B%3A%3A1%5D%3A5000%2Fx&y%3D"},
        {"GET", "https://h/a%2Fb%20c", "", IBK_QUERY_OMIT, "", "GET&https%3A%2F%2Fh%2Fa%252Fb%2520c&"},
        /* RFC 5849 section 3.4.1.1. */
        {"POST", "http://EXAMPLE.COM:80/r%20v/X?id=123", "", IBK_QUERY_RFC5849, "",
         "POST&http%3A%2F%2Fexample.com%2Fr%2520v%2FX&id%3D123"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu, %s", i, table[i].url);
        check_base(&table[i]);
    }
}

static void test_base_string_refuses(void **state)
{
    static const struct {
        ibk_span method, url;
        ibk_code code;
    } table[] = {
        {BYTES(""), BYTES(URL), IBK_E_ARGUMENT},
        {{NULL, 0}, BYTES(URL), IBK_E_ARGUMENT},
        {BYTES("GET&"), BYTES(URL), IBK_E_ARGUMENT},
        {BYTES("GET "), BYTES(URL), IBK_E_ARGUMENT},
        {BYTES("GET\r\nX: y"), BYTES(URL), IBK_E_ARGUMENT},
        {BYTES("GET\0"), BYTES(URL), IBK_E_ARGUMENT},
        {BYTES("GET"), BYTES(""), IBK_E_URL},
        {BYTES("GET"), {NULL, 0}, IBK_E_URL},
        {BYTES("GET"), BYTES("/v1/api"), IBK_E_URL},
        {BYTES("GET"), BYTES("https://user:hunter2@h/"), IBK_E_URL},
        {BYTES("GET"), BYTES("https://h/?a=hunter2 hunter2"), IBK_E_URL},
        {BYTES("GET"), BYTES("https://h/?a=hunter2%zz"), IBK_E_URL},
        {BYTES("GET"), BYTES("https://h/#hunter2"), IBK_E_URL},
    };
    (void)state;
    struct ibk_params params = params_of("a=1");
    for (size_t i = 0; i < COUNT(table); i++) {
        for (size_t j = 0; j < COUNT(all_rules); j++) {
            struct ibk_buf out;
            const struct ibk_base_string_input input = {
                .method = table[i].method, .url = table[i].url, .params = &params, .query_signing = all_rules[j]};
            row("line %zu, rule %zu", i, j);
            ibk_buf_init_secret(&out, IBK_BASE_STRING_MAX_SIZE);
            assert_refused(table[i].code, ibk_base_string(&input, &out, &err));
            assert_non_null(missing_word((const char *const[]){"hunter2", NULL}));
            assert_row(ibk_base_string(&input, &out, NULL) == table[i].code);
            ibk_buf_clean(&out);
        }
    }
    ibk_params_clean(&params);
}

static void test_base_string_in_a_small_buffer(void **state)
{
    (void)state;
    struct ibk_params params = params_of("a=1");
    const struct ibk_base_string_input input = {.method = LITERAL("GET"), .url = LITERAL(URL), .params = &params};
    size_t needed = strlen("GET&" ENCODED_URL "&a%3D1");
    for (size_t limit = needed - 5; limit <= needed; limit++) {
        struct ibk_buf out;
        row("limit %zu", limit);
        ibk_buf_init_secret(&out, limit);
        ibk_code code = ibk_base_string(&input, &out, &err);
        assert_row(code == (limit < needed ? IBK_E_LIMIT : IBK_OK));
        ibk_buf_clean(&out);
    }
    ibk_params_clean(&params);
}

static void test_header(void **state)
{
    static const struct {
        const char *params, *realm, *expected;
    } table[] = {
        {"oauth_token=t&oauth_consumer_key=k", "limited_poa",
         "OAuth realm=\"limited_poa\", oauth_consumer_key=\"k\", oauth_token=\"t\""},
        {"oauth_token=t&oauth_consumer_key=k", "", "OAuth oauth_consumer_key=\"k\", oauth_token=\"t\""},
        {"zeta=1&alpha=2", "test_realm", "OAuth realm=\"test_realm\", alpha=\"2\", zeta=\"1\""},
        {"oauth_signature=a%2Bb%2Fc%3D%3D", "r", "OAuth realm=\"r\", oauth_signature=\"a%2Bb%2Fc%3D%3D\""},
        {"oauth_callback=https%3A%2F%2Fexample.com%2Fcb%3Fa%3Db", "",
         "OAuth oauth_callback=\"https%3A%2F%2Fexample.com%2Fcb%3Fa%3Db\""},
        {"a=x+y&b=%C3%BC&c=%2C%3B%27%25", "", "OAuth a=\"x%20y\", b=\"%C3%BC\", c=\"%2C%3B%27%25\""},
        {"a=", "r", "OAuth realm=\"r\", a=\"\""},
        {"a=-._~", "", "OAuth a=\"-._~\""},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct ibk_params params = params_of(table[i].params);
        struct ibk_buf out;
        row("line %zu", i);
        ibk_buf_init(&out, IBK_HEADER_MAX_SIZE);
        assert_ok(ibk_authorization_header(&params, ibk_span_text(table[i].realm), &out, &err));
        assert_text(ibk_buf_peek(&out), table[i].expected);
        ibk_buf_clean(&out);
        ibk_params_clean(&params);
    }
}

/* The byte stands in the middle, at the start and at the end of a value, of the realm, of a name. */
static void check_header_refused(uint8_t byte)
{
    static const char *const around[][2] = {{"hunter2hunter2", "hunter2hunter2"}, {"", "hunter2hunter2"}, {"hunter2hunter2", ""}};
    for (size_t i = 0; i < COUNT(around); i++) {
        struct ibk_params bad_value, bad_name, good = params_of("oauth_token=t");
        struct ibk_buf out;
        row("byte 0x%02x in place %zu", byte, i);
        ibk_span text = joined(joined(ibk_span_text(around[i][0]), ibk_span_of(&byte, 1)), ibk_span_text(around[i][1]));
        ibk_params_init(&bad_value);
        ibk_params_init(&bad_name);
        ibk_buf_init(&out, IBK_HEADER_MAX_SIZE);
        assert_ok(ibk_params_add_text(&bad_value, "oauth_verifier", text, &err));
        assert_ok(ibk_params_add(&bad_name, text, LITERAL("x"), &err));

        assert_refused(IBK_E_HEADER, ibk_authorization_header(&bad_value, LITERAL("r"), &out, &err));
        assert_says("oauth_verifier");
        assert_hides(text);
        assert_row(ibk_authorization_header(&bad_value, LITERAL("r"), &out, NULL) == IBK_E_HEADER);
        ibk_buf_clean(&out);
        assert_refused(IBK_E_HEADER, ibk_authorization_header(&good, text, &out, &err));
        assert_says("realm");
        assert_hides(text);
        ibk_buf_clean(&out);
        assert_refused(IBK_E_HEADER, ibk_authorization_header(&bad_name, LITERAL("r"), &out, &err));
        assert_hides(text);
        ibk_buf_clean(&out);
        ibk_params_clean(&bad_value);
        ibk_params_clean(&bad_name);
        ibk_params_clean(&good);
    }
}

static void test_header_injection(void **state)
{
    (void)state;
    for (int byte = 0; byte < 0x80; byte++) {
        if (byte < ' ' || byte == 0x7f || byte == '"' || byte == '\\') {
            check_header_refused((uint8_t)byte);
        }
    }
}

/* Whatever else a value is made of, nothing of it gets out of its quotes. */
static void test_header_has_only_safe_bytes(void **state)
{
    (void)state;
    for (int byte = 1; byte < 256; byte++) {
        struct ibk_params params;
        struct ibk_buf out;
        uint8_t value[3] = {'a', (uint8_t)byte, 'b'};
        if (byte < ' ' || byte == 0x7f || byte == '"' || byte == '\\') {
            continue;
        }
        row("byte 0x%02x", (unsigned int)byte);
        ibk_params_init(&params);
        ibk_buf_init(&out, IBK_HEADER_MAX_SIZE);
        assert_ok(ibk_params_add_text(&params, "oauth_callback", ibk_span_of(value, 3), &err));
        ibk_code code = ibk_authorization_header(&params, ibk_span_of(NULL, 0), &out, &err);
        assert_row(code == IBK_OK || (code == IBK_E_HEADER && byte >= 0x80));
        size_t start = strlen("OAuth oauth_callback=\"");
        for (size_t i = start; code == IBK_OK && i + 1 < out.len; i++) {
            assert_row(strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~%", out.data[i]) != NULL);
        }
        ibk_buf_clean(&out);
        ibk_params_clean(&params);
    }
}

static void test_header_refuses_names(void **state)
{
    const ibk_span names[] = {BYTES(""),        BYTES(" a"),  BYTES("a b"), BYTES("a,b"),  BYTES("a=b"),
                              BYTES("a;b"),     BYTES("a~b"), BYTES("a:b"), BYTES("a%20"), BYTES("\xc3\xbc\xc3\xbc"),
                              repeated("x", 65)};
    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        struct ibk_params params;
        struct ibk_buf out;
        row("name %zu", i);
        ibk_params_init(&params);
        ibk_buf_init(&out, IBK_HEADER_MAX_SIZE);
        assert_ok(ibk_params_add(&params, names[i], LITERAL("x"), &err));
        assert_refused(IBK_E_HEADER, ibk_authorization_header(&params, LITERAL("r"), &out, &err));
        ibk_buf_clean(&out);
        ibk_params_clean(&params);
    }
}

static void test_header_in_a_small_buffer(void **state)
{
    (void)state;
    struct ibk_params params = params_of("oauth_token=t");
    size_t needed = strlen("OAuth realm=\"r\", oauth_token=\"t\"");
    for (size_t limit = 0; limit <= needed; limit++) {
        struct ibk_buf out;
        row("limit %zu", limit);
        ibk_buf_init(&out, limit);
        ibk_code code = ibk_authorization_header(&params, LITERAL("r"), &out, &err);
        assert_row(code == (limit < needed ? IBK_E_LIMIT : IBK_OK));
        ibk_buf_clean(&out);
    }
    ibk_params_clean(&params);
}

static void test_rsa_signature(void **state)
{
    (void)state;
    struct ibk_rsa_key *key = signing_key();
    const char *pem = text_of(member(member(vectors(), "keys"), "signature"), "public_pkcs1_pem");
    EVP_PKEY *public_key = public_key_of(ibk_span_text(pem));
    struct ibk_buf out;
    ibk_buf_init(&out, 344);
    assert_ok(ibk_sign_rsa_sha256(LITERAL("GET&x&y"), key, &out, &err));
    const char *base64 = (const char *)copied(ibk_buf_peek(&out)).data;
    assert_int_equal(strlen(base64), 344);
    assert_true(signature_is_good(public_key, LITERAL("GET&x&y"), bytes_of_base64(base64)));
    assert_false(signature_is_good(public_key, LITERAL("GET&x&z"), bytes_of_base64(base64)));
    ibk_buf_clean(&out);
    ibk_buf_init(&out, 343);
    assert_refused(IBK_E_LIMIT, ibk_sign_rsa_sha256(LITERAL("GET&x&y"), key, &out, &err));
    ibk_buf_clean(&out);
    EVP_PKEY_free(public_key);
    ibk_rsa_key_release(key);
}

static void test_hmac_signature(void **state)
{
    (void)state;
    struct ibk_mac_key *key = mac_key(IBK_HMAC_SHA256);
    uint8_t mac[IBK_MAC_MAX_SIZE];
    struct ibk_buf out;
    assert_ok(ibk_mac_compute(key, LITERAL("GET&x&y"), mac, &err));
    ibk_buf_init(&out, 44);
    assert_ok(ibk_sign_hmac_sha256(LITERAL("GET&x&y"), key, &out, &err));
    assert_text(ibk_buf_peek(&out), base64_of(ibk_span_of(mac, 32)));
    ibk_buf_clean(&out);
    ibk_buf_init(&out, 43);
    assert_refused(IBK_E_LIMIT, ibk_sign_hmac_sha256(LITERAL("GET&x&y"), key, &out, &err));
    ibk_buf_clean(&out);
    ibk_mac_key_free(key);
}

/* 20 bytes of a SHA-1 key with whatever stands behind them on the stack would be no signature. */
static void test_hmac_signature_needs_a_sha256_key(void **state)
{
    (void)state;
    struct ibk_mac_key *key = mac_key(IBK_HMAC_SHA1);
    struct ibk_buf out;
    ibk_buf_init(&out, 100);
    assert_refused(IBK_E_ARGUMENT, ibk_sign_hmac_sha256(LITERAL("GET&x&y"), key, &out, &err));
    ibk_buf_clean(&out);
    ibk_mac_key_free(key);
}

/* The header that the single stages give. */
static ibk_span staged_header(const struct ibk_signature_input *input)
{
    struct ibk_params all, header;
    struct ibk_buf base, signature, out;
    ibk_params_init(&all);
    ibk_params_init(&header);
    ibk_buf_init_secret(&base, IBK_BASE_STRING_MAX_SIZE);
    ibk_buf_init(&signature, 2000);
    ibk_buf_init(&out, IBK_HEADER_MAX_SIZE);
    assert_ok(ibk_params_add_all(&all, input->oauth, &err));
    if (input->form != NULL) {
        assert_ok(ibk_params_add_all(&all, input->form, &err));
    }
    const struct ibk_base_string_input text = {
        .method = input->method,
        .url = input->url,
        .params = &all,
        .query_signing = input->query_signing,
        .prepend = ibk_span_text(input->prepend == NULL ? "" : hex_of(ibk_secret_peek(input->prepend))),
    };
    assert_ok(ibk_base_string(&text, &base, &err));
    if (input->rsa_key != NULL) {
        assert_ok(ibk_sign_rsa_sha256(ibk_buf_peek(&base), input->rsa_key, &signature, &err));
    } else {
        assert_ok(ibk_sign_hmac_sha256(ibk_buf_peek(&base), input->mac_key, &signature, &err));
    }
    assert_ok(ibk_params_add_all(&header, input->oauth, &err));
    assert_ok(ibk_params_add_text(&header, "oauth_signature", ibk_buf_peek(&signature), &err));
    assert_ok(ibk_authorization_header(&header, input->realm, &out, &err));
    ibk_span made = copied(ibk_buf_peek(&out));
    ibk_buf_clean(&base);
    ibk_buf_clean(&signature);
    ibk_buf_clean(&out);
    ibk_params_clean(&all);
    ibk_params_clean(&header);
    return made;
}

static void check_request(const struct ibk_signature_input *input)
{
    struct ibk_buf out;
    ibk_buf_init(&out, IBK_HEADER_MAX_SIZE);
    assert_ok(ibk_sign_request(input, &out, &err));
    assert_bytes(ibk_buf_peek(&out), staged_header(input));
    ibk_buf_clean(&out);
}

static void test_whole_request_is_the_sum_of_its_stages(void **state)
{
    (void)state;
    struct ibk_params oauth = params_of("oauth_token=t&oauth_nonce=n&oauth_consumer_key=K&oauth_timestamp=1"
                                        "&oauth_signature_method=HMAC-SHA256");
    struct ibk_params form = params_of("publish=true&compete=a,b%7C+c"), empty = params_of("");
    const struct ibk_params *forms[] = {NULL, &empty, &form};
    struct ibk_rsa_key *rsa = signing_key();
    struct ibk_mac_key *mac = mac_key(IBK_HMAC_SHA256);
    struct ibk_secret *prepend = secret_of(LITERAL("\0\1\xff secret"));
    for (size_t i = 0; i < COUNT(all_rules); i++) {
        for (size_t j = 0; j < COUNT(forms); j++) {
            for (int secret = 0; secret < 2; secret++) {
                struct ibk_signature_input input = {
                    .method = LITERAL("POST"),
                    .url = LITERAL(URL "?fields=31,84&b=x%20y&a"),
                    .oauth = &oauth,
                    .form = forms[j],
                    .query_signing = all_rules[i],
                    .realm = j == 0 ? ibk_span_of(NULL, 0) : LITERAL("limited_poa"),
                    .prepend = secret ? prepend : NULL,
                    .mac_key = mac,
                };
                row("rule %zu, form %zu, prepend %d, HMAC", i, j, secret);
                check_request(&input);
                input.mac_key = NULL;
                input.rsa_key = rsa;
                row("rule %zu, form %zu, prepend %d, RSA", i, j, secret);
                check_request(&input);
            }
        }
    }
    ibk_secret_release(prepend);
    ibk_mac_key_free(mac);
    ibk_rsa_key_release(rsa);
    ibk_params_clean(&oauth);
    ibk_params_clean(&form);
    ibk_params_clean(&empty);
}

static void test_request_leaves_its_inputs(void **state)
{
    (void)state;
    struct ibk_params oauth = params_of("b=2&a=1"), form = params_of("d=4&c=3");
    struct ibk_mac_key *mac = mac_key(IBK_HMAC_SHA256);
    const struct ibk_signature_input input = {
        .method = LITERAL("GET"), .url = LITERAL(URL), .oauth = &oauth, .form = &form, .mac_key = mac};
    struct ibk_buf one, two;
    ibk_buf_init(&one, IBK_HEADER_MAX_SIZE);
    ibk_buf_init(&two, IBK_HEADER_MAX_SIZE);
    assert_ok(ibk_sign_request(&input, &one, &err));
    assert_ok(ibk_sign_request(&input, &two, &err));
    assert_bytes(ibk_buf_peek(&one), ibk_buf_peek(&two));
    assert_int_equal(ibk_params_count(&oauth), 2);
    assert_text(ibk_params_peek_name(&oauth, 0), "b");
    assert_int_equal(ibk_params_count(&form), 2);
    ibk_buf_clean(&one);
    ibk_buf_clean(&two);
    ibk_mac_key_free(mac);
    ibk_params_clean(&oauth);
    ibk_params_clean(&form);
}

static void check_request_refused(ibk_code code, struct ibk_signature_input *input, ibk_span hidden)
{
    struct ibk_buf out;
    ibk_buf_init(&out, IBK_HEADER_MAX_SIZE);
    assert_refused(code, ibk_sign_request(input, &out, &err));
    assert_hides(hidden);
    assert_hides(ibk_span_text(hex_of(hidden)));
    ibk_buf_clean(&out);
    assert_row(ibk_sign_request(input, &out, NULL) == code);
    ibk_buf_clean(&out);
}

static void test_request_refused(void **state)
{
    (void)state;
    ibk_span bytes = LITERAL("the decrypted access token secret");
    struct ibk_secret *prepend = secret_of(bytes);
    struct ibk_params good = params_of("oauth_token=t"), bad = params_of("oauth_token=the+decrypted+access%0Atoken+secret");
    struct ibk_mac_key *mac = mac_key(IBK_HMAC_SHA256);
    const struct ibk_signature_input fine = {
        .method = LITERAL("GET"), .url = LITERAL(URL), .oauth = &good, .prepend = prepend, .mac_key = mac};
    struct ibk_signature_input input = fine;
    row("method");
    input.method = LITERAL("G T");
    check_request_refused(IBK_E_ARGUMENT, &input, bytes);
    input = fine;
    row("URL");
    input.url = LITERAL("https://h/#");
    check_request_refused(IBK_E_URL, &input, bytes);
    input = fine;
    row("realm");
    input.realm = LITERAL("the decrypted access token secret\"");
    check_request_refused(IBK_E_HEADER, &input, bytes);
    input = fine;
    row("value");
    input.oauth = &bad;
    check_request_refused(IBK_E_HEADER, &input, bytes);
    assert_says("oauth_token");
    struct ibk_rsa_key *rsa = signing_key();
    input = fine;
    row("two keys");
    input.rsa_key = rsa;
    check_request_refused(IBK_E_ARGUMENT, &input, bytes);
    assert_says("RSA key or", "MAC key");
    row("no key");
    input.rsa_key = NULL;
    input.mac_key = NULL;
    check_request_refused(IBK_E_ARGUMENT, &input, bytes);
    assert_says("RSA key or", "MAC key");
    ibk_rsa_key_release(rsa);
    ibk_params_clean(&good);
    ibk_params_clean(&bad);
    ibk_mac_key_free(mac);
    ibk_secret_release(prepend);
}

/* Form values go into the base string only, so they may hold anything. */
static void test_any_byte_in_a_form(void **state)
{
    (void)state;
    struct ibk_params oauth = params_of("oauth_token=t"), form;
    struct ibk_mac_key *mac = mac_key(IBK_HMAC_SHA256);
    ibk_params_init(&form);
    assert_ok(ibk_params_add_text(&form, "a\"b", LITERAL("\r\n\0\"\\"), &err));
    struct ibk_signature_input input = {
        .method = LITERAL("POST"), .url = LITERAL(URL), .oauth = &oauth, .form = &form, .mac_key = mac};
    check_request(&input);
    ibk_params_clean(&oauth);
    ibk_params_clean(&form);
    ibk_mac_key_free(mac);
}

static int compare_nonces(const void *a, const void *b)
{
    return memcmp(a, b, IBK_NONCE_SIZE);
}

static void test_nonces(void **state)
{
    (void)state;
    enum { nonces = 10000 };
    struct ibk_buf out;
    ibk_buf_init(&out, nonces * IBK_NONCE_SIZE);
    for (int i = 0; i < nonces; i++) {
        assert_ok(ibk_nonce_put(&out, &err));
    }
    assert_int_equal(out.len, nonces * IBK_NONCE_SIZE);
    for (size_t i = 0; i < out.len; i++) {
        assert_true((out.data[i] >= '0' && out.data[i] <= '9') || (out.data[i] >= 'a' && out.data[i] <= 'f'));
    }
    qsort(out.data, nonces, IBK_NONCE_SIZE, compare_nonces);
    for (size_t i = 1; i < nonces; i++) {
        assert_true(compare_nonces(out.data + (i - 1) * IBK_NONCE_SIZE, out.data + i * IBK_NONCE_SIZE) != 0);
    }
    assert_refused(IBK_E_LIMIT, ibk_nonce_put(&out, &err));
    ibk_buf_clean(&out);
}

/* Parent and child begin with the same bytes in memory. */
static void test_nonces_after_a_fork(void **state)
{
    (void)state;
    enum { nonces = 40, len = nonces * IBK_NONCE_SIZE }; /* more than are drawn at once */
    struct ibk_buf out;
    int pipe_ends[2];
    ibk_buf_init(&out, 2 * len);
    assert_ok(ibk_nonce_put(&out, &err));
    out.len = 0;
    assert_int_equal(pipe(pipe_ends), 0);
    (void)fflush(NULL);
    pid_t child = fork();
    bool good = true;
    for (int i = 0; i < nonces; i++) {
        good = good && ibk_nonce_put(&out, &err) == IBK_OK;
    }
    if (child == 0) {
        exit(good && write(pipe_ends[1], out.data, len) == len ? 0 : 1); /* not _exit, so that its coverage counts */
    }
    int status = -1;
    assert_true(good);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(read(pipe_ends[0], ibk_buf_put_room(&out, len), len), len);
    (void)close(pipe_ends[0]);
    (void)close(pipe_ends[1]);
    qsort(out.data, (size_t)2 * nonces, IBK_NONCE_SIZE, compare_nonces);
    for (size_t i = 1; i < (size_t)2 * nonces; i++) {
        assert_true(compare_nonces(out.data + (i - 1) * IBK_NONCE_SIZE, out.data + i * IBK_NONCE_SIZE) != 0);
    }
    ibk_buf_clean(&out);
}

static void test_random(void **state)
{
    (void)state;
    uint8_t one[64] = {0}, two[64] = {0}, zero[64] = {0};
    assert_ok(ibk_random(one, 0, &err));
    assert_memory_equal(one, zero, sizeof one);
    assert_ok(ibk_random(one, 63, &err));
    assert_ok(ibk_random(two, 63, &err));
    assert_memory_not_equal(one, two, 63);
    assert_memory_not_equal(one, zero, 63);
    assert_int_equal(one[63], 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_words_of_query_signing),
        checked(test_base_string),
        checked(test_base_string_refuses),
        checked(test_base_string_in_a_small_buffer),
        checked(test_header),
        checked(test_header_injection),
        checked(test_header_has_only_safe_bytes),
        checked(test_header_refuses_names),
        checked(test_header_in_a_small_buffer),
        checked(test_rsa_signature),
        checked(test_hmac_signature),
        checked(test_hmac_signature_needs_a_sha256_key),
        checked(test_whole_request_is_the_sum_of_its_stages),
        checked(test_request_leaves_its_inputs),
        checked(test_request_refused),
        checked(test_any_byte_in_a_form),
        checked(test_nonces),
        checked(test_nonces_after_a_fork),
        checked(test_random),
    };
    return cmocka_run_group_tests_name("oauth", tests, NULL, NULL);
}
