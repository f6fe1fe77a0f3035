/* test_url.c - splitting URLs, the base URI, loopback. */
#include "support.h"

#include "ibk/url.h"

static void check_base(const struct ibk_url *url, const char *expected)
{
    struct ibk_buf buf;
    ibk_buf_init(&buf, 2 * IBK_URL_MAX_SIZE);
    ibk_url_put_base(url, &buf);
    assert_ok(ibk_buf_check(&buf, "base URI", &err));
    assert_text(ibk_buf_peek(&buf), expected);
    ibk_buf_clean(&buf);
}

static void test_parts(void **state)
{
    static const struct {
        const char *text, *scheme, *host, *port, *path, *query; /* query NULL: none */
        const char *base;
    } table[] = {
        {"https://api.ibkr.com/v1/api", "https", "api.ibkr.com", "", "/v1/api", NULL, "https://api.ibkr.com/v1/api"},
        {"https://h/p?a=1&b=2", "https", "h", "", "/p", "a=1&b=2", "https://h/p"},
        {"https://h", "https", "h", "", "", NULL, "https://h/"},
        {"https://h/", "https", "h", "", "/", NULL, "https://h/"},
        {"https://h?a=1", "https", "h", "", "", "a=1", "https://h/"},
        {"https://h/p?", "https", "h", "", "/p", "", "https://h/p"},
        {"https://h/p?a=/b?c//d", "https", "h", "", "/p", "a=/b?c//d", "https://h/p"},
        {"https://h/p?a=../..", "https", "h", "", "/p", "a=../..", "https://h/p"},
        {"https://h/p?u=me@home:1", "https", "h", "", "/p", "u=me@home:1", "https://h/p"},
        {"HTTPS://EXAMPLE.com/A/b", "HTTPS", "EXAMPLE.com", "", "/A/b", NULL, "https://example.com/A/b"},
        {"hTTp://LocalHost:5000/A", "hTTp", "LocalHost", "5000", "/A", NULL, "http://localhost:5000/A"},
        {"https://h:443/p", "https", "h", "443", "/p", NULL, "https://h/p"},
        {"https://h:00443/p", "https", "h", "00443", "/p", NULL, "https://h/p"},
        {"http://h:080/p", "http", "h", "080", "/p", NULL, "http://h/p"},
        {"http://h:80/p", "http", "h", "80", "/p", NULL, "http://h/p"},
        {"https://h:80/p", "https", "h", "80", "/p", NULL, "https://h:80/p"},
        {"http://h:443/p", "http", "h", "443", "/p", NULL, "http://h:443/p"},
        {"HTTPS://h:443", "HTTPS", "h", "443", "", NULL, "https://h/"},
        {"https://h:1/p", "https", "h", "1", "/p", NULL, "https://h:1/p"},
        {"https://h:65535/p", "https", "h", "65535", "/p", NULL, "https://h:65535/p"},
        {"https://h:8443?a", "https", "h", "8443", "", "a", "https://h:8443/"},
        {"http://[::1]/p", "http", "[::1]", "", "/p", NULL, "http://[::1]/p"},
        {"http://[::1]:8080/p", "http", "[::1]", "8080", "/p", NULL, "http://[::1]:8080/p"},
        {"https://[2001:DB8::A]:443/p", "https", "[2001:DB8::A]", "443", "/p", NULL, "https://[2001:db8::a]/p"},
        {"http://[::ffff:127.0.0.1]", "http", "[::ffff:127.0.0.1]", "", "", NULL, "http://[::ffff:127.0.0.1]/"},
        {"https://h/a%2Fb%2fc%20", "https", "h", "", "/a%2Fb%2fc%20", NULL, "https://h/a%2Fb%2fc%20"},
        {"https://h//a//b/", "https", "h", "", "//a//b/", NULL, "https://h//a//b/"},
        {"https://h/.a/b./..c/.../%2ea", "https", "h", "", "/.a/b./..c/.../%2ea", NULL, "https://h/.a/b./..c/.../%2ea"},
        {"https://h/a@b:c;d=e,f!$&'()*+-_~", "https", "h", "", "/a@b:c;d=e,f!$&'()*+-_~", NULL,
         "https://h/a@b:c;d=e,f!$&'()*+-_~"},
        {"https://h/p?q=a%2Ab'(!)", "https", "h", "", "/p", "q=a%2Ab'(!)", "https://h/p"},
        {"https://a-b_C.Z0z.9/p", "https", "a-b_C.Z0z.9", "", "/p", NULL, "https://a-b_c.z0z.9/p"},
        {"https://1.api.ibkr.com/v1/api/?x", "https", "1.api.ibkr.com", "", "/v1/api/", "x", "https://1.api.ibkr.com/v1/api/"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct ibk_url url;
        row("%s", table[i].text);
        ibk_span text = ibk_span_text(table[i].text);
        assert_ok(ibk_url_split(text, &url, &err));
        assert_text(url.scheme, table[i].scheme);
        assert_text(url.host, table[i].host);
        assert_text(url.port, table[i].port);
        assert_text(url.path, table[i].path);
        assert_text(url.query, table[i].query == NULL ? "" : table[i].query);
        assert_row(url.has_query == (table[i].query != NULL));
        assert_row(url.host.data >= text.data && url.host.data < text.data + text.len); /* a view, no copy */
        check_base(&url, table[i].base);
    }
}

static void check_refused(ibk_span text, const char *word)
{
    struct ibk_url url;
    assert_refused(IBK_E_URL, ibk_url_split(text, &url, &err));
    assert_says("URL", word);
    if (text.len >= strlen("https://host")) { /* which the text gives as an example */
        assert_hides(text);
    }
    assert_row(ibk_url_split(text, &url, NULL) == IBK_E_URL);
}

static void test_refused(void **state)
{
    static const struct {
        ibk_span text;
        const char *word; /* in the error text */
    } table[] = {
        {BYTES(""), "https://"},
        {BYTES("https"), "https://"},
        {BYTES("https:"), "https://"},
        {BYTES("https:/"), "https://"},
        {BYTES("https:/example.com/p"), "https://"},
        {BYTES("example.com/path"), "https://"},
        {BYTES("//example.com/path"), "https://"},
        {BYTES("/v1/api/tickle"), "https://"},
        {BYTES("ftp://example.com/p"), "https"},
        {BYTES("file:///etc/passwd/x"), "https"},
        {BYTES("httpss://example.com"), "https"},
        {BYTES("http+unix://example.com"), "https"},
        {BYTES("wss://example.com/ws"), "https"},
        {BYTES("javascript:alert(1)//"), "https"},
        {BYTES("https://"), "host"},
        {BYTES("https:///path/of/it"), "host"},
        {BYTES("https://?a=1&bcdefgh"), "host"},
        {BYTES("https://:443/path"), "host"},
        {BYTES("https://user@example.com/p"), "user"},
        {BYTES("https://user:hunter2@example.com"), "password"},
        {BYTES("https://@example.com/path"), "user"},
        {BYTES("https://example.com@evil.com/"), "user"},
        {BYTES("https://example.com/path#top"), "fragment"},
        {BYTES("https://example.com/p?a=1#"), "fragment"},
        {BYTES("https://example.com#@evil.com"), "fragment"},
        {BYTES("https://example.com/a b"), "22"},
        {BYTES("https://example.com/a\tb"), "22"},
        {BYTES("https://example.com/a\nb"), "22"},
        {BYTES("https://example.com/a\rb"), "22"},
        {BYTES("https://example.com/a\0b"), "22"},
        {BYTES("https://example.com/a\x7f"), "22"},
        {BYTES("https://example.com/a\x80"), "22"},
        {BYTES("https://example.com/\xc3\xbc"), "21"},
        {BYTES("https://b\xc3\xbc"
               "cher.example/path"),
         "10"},
        {BYTES(" https://example.com/path"), "https"},
        {BYTES("https://example.com/path "), "25"},
        {BYTES("https://example.com/path\n"), "25"},
        {BYTES("https://example.com/a\"b"), "22"},
        {BYTES("https://example.com/a\\b"), "22"},
        {BYTES("https://example.com\\@evil.com/"), "20"},
        {BYTES("https://example.com/%"), "21"},
        {BYTES("https://example.com/%4"), "21"},
        {BYTES("https://example.com/%4g"), "21"},
        {BYTES("https://example.com/%zz/path"), "21"},
        {BYTES("https://example.com/p?a=%"), "25"},
        {BYTES("https://example.com/p?a=%2&b=1"), "25"},
        {BYTES("https://example.com:/path"), "port"},
        {BYTES("https://example.com:0/path"), "port"},
        {BYTES("https://example.com:65536/path"), "65535"},
        {BYTES("https://example.com:99999999999999999999/"), "65535"},
        {BYTES("https://example.com:18446744073709551616/"), "65535"},
        {BYTES("https://example.com:4294967739/"), "65535"}, /* 2^32 + 443 */
        {BYTES("https://example.com:-1/path"), "port"},
        {BYTES("https://example.com:+443/path"), "port"},
        {BYTES("https://example.com:44x/path"), "port"},
        {BYTES("https://example.com:443:443/path"), "port"},
        {BYTES("https://[::1/path/of/it"), "URL"},
        {BYTES("https://::1/path/of/it"), "port"},
        {BYTES("https://[]/path/of/it"), "host"},
        {BYTES("https://[::1]x/path/of"), "host"},
        {BYTES("https://x[::1]/path/of"), "host"},
        {BYTES("https://[::1]]:80/path"), "URL"},
        {BYTES("https://[fe80::1%25eth0]/path"), "host"},
        {BYTES("https://exa%6Dple.com/path"), "host"},
        {BYTES("https://exa+mple.com/path"), "host"},
        {BYTES("https://exa=mple.com/path"), "host"},
        {BYTES("https://exa~mple.com/path"), "host"},
        {BYTES("https://example.com/./path"), "segment"},
        {BYTES("https://example.com/../path"), "segment"},
        {BYTES("https://example.com/path/.."), "segment"},
        {BYTES("https://example.com/path/."), "segment"},
        {BYTES("https://example.com/a/../../b?c"), "segment"},
        {BYTES("https://example.com/a/%2e%2E/b"), "segment"},
        {BYTES("https://example.com/a/.%2e"), "segment"},
        {BYTES("https://example.com/a/%2E/b"), "segment"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("%.*s", (int)table[i].text.len, (const char *)table[i].text.data);
        check_refused(table[i].text, table[i].word);
    }
}

/* Every byte that is not printable ASCII, in every part. */
static void test_bytes_outside_printable_ascii(void **state)
{
    static const char *const forms[] = {"https://exa%cmple.com/p", "https://example.com:4%c3/p", "https://example.com/p%cq",
                                        "https://example.com/p?q=%cr"};
    (void)state;
    for (size_t i = 0; i < COUNT(forms); i++) {
        for (int byte = 1; byte < 256; byte++) {
            struct ibk_url url;
            if (byte > ' ' && byte < 0x7f) {
                continue;
            }
            row("byte 0x%02x in form %zu", (unsigned int)byte, i);
            const char *hole = strstr(forms[i], "%c");
            ibk_span text = formatted("%.*s%c%s", (int)(hole - forms[i]), forms[i], byte, hole + 2);
            assert_refused(IBK_E_URL, ibk_url_split(text, &url, &err));
        }
    }
}

static void test_query_stays_out_of_the_error(void **state)
{
    (void)state;
    struct ibk_url url;
    assert_refused(IBK_E_URL, ibk_url_split(LITERAL("https://h/p?token=hunter2 x"), &url, &err));
    assert_non_null(missing_word((const char *const[]){"hunter2", NULL}));
}

static void test_length(void **state)
{
    (void)state;
    struct ibk_url url;
    ibk_span start = LITERAL("https://example.com/");
    ibk_span longest = joined(start, repeated("x", IBK_URL_MAX_SIZE - start.len));
    assert_ok(ibk_url_split(longest, &url, &err));
    assert_int_equal(url.path.len, longest.len - start.len + 1);
    assert_refused(IBK_E_URL, ibk_url_split(joined(longest, LITERAL("x")), &url, &err));
    assert_says("16385", "16384");
}

static void test_loopback(void **state)
{
    static const struct {
        const char *text;
        bool loopback;
    } table[] = {
        {"http://127.0.0.1/", true},
        {"http://127.0.0.1:5000/p", true},
        {"http://127.1.2.3", true},
        {"http://127.255.255.255", true},
        {"http://localhost", true},
        {"http://localhost:80", true},
        {"http://LOCALHOST/", true},
        {"http://LocalHost:1/", true},
        {"http://[::1]/", true},
        {"http://[::1]:8080/", true},
        {"http://127.0.0.1.evil.com/", false},
        {"http://localhost.evil.com/", false},
        {"http://evil-localhost/", false},
        {"http://localhosts/", false},
        {"http://128.0.0.1/", false},
        {"http://126.255.255.255/", false},
        {"http://1270.0.0.1/", false},
        {"http://0127.0.0.1/", false},
        {"http://127.0.0.256/", false},
        {"http://127.0.0/", false},
        {"http://127.0.0.1.1/", false},
        {"http://127.0.0.x/", false},
        {"http://127.0.0-1/", false},
        {"http://127.0.0./", false},
        {"http://127..0.1/", false},
        {"http://.127.0.0.1/", false},
        {"http://x127.0.0.1/", false},
        {"http://0.0.0.0/", false},
        {"http://10.0.0.1/", false},
        {"http://2130706433/", false},
        {"http://0x7f.0.0.1/", false},
        {"http://[::2]/", false},
        {"http://[::]/", false},
        {"http://[::11]/", false},
        {"http://[1::1]/", false},
        {"http://h/127.0.0.1", false},
        {"http://h/?localhost", false},
        {"https://api.ibkr.com/v1/api", false},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct ibk_url url;
        row("%s", table[i].text);
        assert_ok(ibk_url_split(ibk_span_text(table[i].text), &url, &err));
        assert_row(ibk_url_is_loopback(&url) == table[i].loopback);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_parts),
        checked(test_refused),
        checked(test_bytes_outside_printable_ascii),
        checked(test_query_stays_out_of_the_error),
        checked(test_length),
        checked(test_loopback),
    };
    return cmocka_run_group_tests_name("url", tests, NULL, NULL);
}
