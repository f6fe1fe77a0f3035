/* test_http.c - csrc/http on a good network: what is sent, what is refused, what is read. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "../../csrc/http/http_internal.h"
#include "support_http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define TEXT(text) ibk_span_of((text), strlen(text))

static void test_version_and_start(void **state)
{
    (void)state;
    assert_ok(ibk_http_global_init(&err));
    assert_ok(ibk_http_global_init(NULL));
    assert_int_equal(strncmp(ibk_http_library_version(), "libcurl/7.", 9) == 0 ||
                         strncmp(ibk_http_library_version(), "libcurl/8.", 10) == 0,
                     1);
    assert_non_null(strstr(ibk_http_library_version(), "OpenSSL/"));
    assert_false(ibk_http_keys_are_logged());
}

static void test_options_refused(void **state)
{
    static const struct {
        ibk_code code;
        struct ibk_http_options options;
    } table[] = {
        {IBK_E_ARGUMENT, {NULL, NULL, NULL, NULL, 1000, 1, 1}},
        {IBK_E_ARGUMENT, {NULL, NULL, NULL, "", 1000, 1, 1}},
        {IBK_E_HEADER, {NULL, NULL, NULL, "a\r\nEvil: 1", 1000, 1, 1}},
        {IBK_E_ARGUMENT, {NULL, NULL, NULL, "a", 0, 1, 1}},
        {IBK_E_ARGUMENT, {NULL, NULL, NULL, "a", -1, 1, 1}},
        {IBK_E_ARGUMENT, {NULL, NULL, NULL, "a", 1000, 0, 1}},
        {IBK_E_ARGUMENT, {NULL, NULL, NULL, "a", 1000, 1, 0}},
        {IBK_E_ARGUMENT, {NULL, NULL, "", "a", 1000, 1, 1}},
        {IBK_E_ARGUMENT, {NULL, NULL, "proxy.test:8080", "a", 1000, 1, 1}},
        {IBK_E_ARGUMENT, {NULL, NULL, "ftp://user:hunter2@proxy.test", "a", 1000, 1, 1}},
        {IBK_E_ARGUMENT, {NULL, NULL, "http://", "a", 1000, 1, 1}},
        {IBK_E_ARGUMENT, {NULL, NULL, "http://proxy.test\r\n", "a", 1000, 1, 1}},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct ibk_http_client *client = (struct ibk_http_client *)&client;
        row("line %zu", i + 1);
        assert_refused(table[i].code, ibk_http_client_new(&table[i].options, &client, &err));
        assert_row(client == NULL);
        assert_hides(ibk_span_text("hunter2"));
    }
    ibk_http_client_free(NULL);
}

/* Fails where the raw request is not this request line, these header lines in any order, and this body. */
static void assert_request(size_t index, const char *method, const char *target, const char *const *extra, ibk_span body)
{
    ibk_span raw = server_request(bench.server, index);
    size_t end = ibk_span_find(raw, TEXT("\r\n\r\n"));
    assert_row(end != raw.len);
    ibk_span head = ibk_span_of(raw.data, end + 2);
    ibk_span line = formatted("%s %s HTTP/1.1\r\n", method, target);
    assert_row(head.len > line.len);
    assert_bytes(ibk_span_of(head.data, line.len), line);

    const char *always[] = {(const char *)formatted("Host: 127.0.0.1:%u", server_port(bench.server)).data, "Accept: */*",
                            "Accept-Encoding: gzip, deflate", "User-Agent: " USER_AGENT};
    size_t expected = line.len;
    for (size_t i = 0; i < COUNT(always); i++) {
        expected += strlen(always[i]) + 2;
        assert_row(ibk_span_find(head, formatted("\r\n%s\r\n", always[i])) != head.len);
    }
    for (size_t i = 0; extra[i] != NULL; i++) {
        expected += strlen(extra[i]) + 2;
        assert_row(ibk_span_find(head, formatted("\r\n%s\r\n", extra[i])) != head.len);
    }
    if (head.len != expected) {
        fail_msg("%sother headers than expected:\n%.*s", current_row(), (int)head.len, (const char *)head.data);
    }
    assert_bytes(ibk_span_of(raw.data + end + 4, raw.len - end - 4), body);
}

static void test_methods_on_the_wire(void **state)
{
    static const struct {
        const char *method;
        const char *body;
        const char *extra[2];
    } table[] = {
        {"GET", NULL, {NULL}},
        {"POST", "{\"a\":1}", {"Content-Length: 7"}},
        {"GET", NULL, {NULL}},
        {"POST", NULL, {"Content-Length: 0"}},
        {"POST", "", {"Content-Length: 0"}},
        {"HEAD", NULL, {NULL}},
        {"PUT", NULL, {"Content-Length: 0"}},
        {"PUT", "x=1&y=2", {"Content-Length: 7"}},
        {"PATCH", NULL, {"Content-Length: 0"}},
        {"PATCH", "ab", {"Content-Length: 2"}},
        {"DELETE", NULL, {NULL}},
        {"DELETE", "abc", {"Content-Length: 3"}},
        {"DELETE", "", {"Content-Length: 0"}},
        {"OPTIONS", NULL, {NULL}},
        {"PROPFIND", NULL, {NULL}},
        {"GET", "search", {"Content-Length: 6"}},
        {"HEAD", NULL, {NULL}},
        {"GET", NULL, {NULL}},
    };
    (void)state;
    serve(NULL, 0);
    for (size_t i = 0; i < COUNT(table); i++) {
        const char *extra[] = {table[i].extra[0], NULL};
        row("line %zu, %s", i + 1, table[i].method);
        /* HEAD's "ok" is not read as a body, so the connection is closed behind it. */
        assert_ok(send_it(table[i].method, "/v1/api/x", table[i].body, false));
        assert_request(i, table[i].method, "/v1/api/x", extra, TEXT(table[i].body != NULL ? table[i].body : ""));
        assert_text(ibk_buf_peek(&bench.response.body), strcmp(table[i].method, "HEAD") == 0 ? "" : "ok");
    }
}

static void test_targets_on_the_wire(void **state)
{
    static const struct {
        const char *written;
        const char *sent;
    } table[] = {
        {"/a/b", "/a/b"},
        {"", "/"},
        {"?", "/?"},
        {"?a=1", "/?a=1"},
        {"/?a=1&a=2", "/?a=1&a=2"},
        {"/%7e%7E/~", "/%7e%7E/~"},
        {"/a//b///", "/a//b///"},
        {"/a/...;/.b/b.", "/a/...;/.b/b."},
        {"/a?x=/../y/./z", "/a?x=/../y/./z"},
        {"/a%2fb%2F..%20c?d=%20+&e=%E2%82%ac", "/a%2fb%2F..%20c?d=%20+&e=%E2%82%ac"},
        {"/a?b?c=[]&d=(e)!*'$,:@;", "/a?b?c=[]&d=(e)!*'$,:@;"},
        {"/a?conidex=1@SMART", "/a?conidex=1@SMART"},
    };
    static const char *const none[] = {NULL};
    (void)state;
    serve(NULL, 0);
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu, %s", i + 1, table[i].written);
        assert_ok(get(table[i].written));
        assert_request(i, "GET", table[i].sent, none, TEXT(""));
    }
    row("long");
    ibk_span query = joined(TEXT("/q?x="), repeated("0123456789", 1500));
    assert_ok(get((const char *)query.data));
    assert_request(COUNT(table), "GET", (const char *)query.data, none, TEXT(""));
}

static void send_headers(const struct ibk_http_header *headers, size_t count, const char *body, ibk_code expected)
{
    struct ibk_http_request request = {.method = TEXT("POST"),
                                       .url = url_of("/"),
                                       .headers = headers,
                                       .header_count = count,
                                       .body = body != NULL ? TEXT(body) : ibk_span_of(NULL, 0),
                                       .timeout_ms = 5000};
    if (expected == IBK_OK) {
        assert_ok(send_request(&request));
    } else {
        ibk_http_response_clean(&bench.response);
        assert_refused(expected, ibk_http_send(bench.client, &request, NULL, &bench.response, &err));
    }
}

static void test_headers_on_the_wire(void **state)
{
    static const struct ibk_http_header headers[] = {
        {BYTES("Authorization"), BYTES("OAuth realm=\"limited_poa\", oauth_signature=\"a%2Bb\"")},
        {BYTES("Content-Type"), BYTES("application/json")},
        {BYTES("X-Empty"), BYTES("")},
        {BYTES("X-Blank"), BYTES(" \t")},
        {BYTES("x!#$%&'*+-.^_`|~9"), BYTES("a;b: c\td")},
        {BYTES("X-Twice"), BYTES("1")},
        {BYTES("X-Twice"), BYTES("2")},
        {BYTES("X-Latin"), BYTES("caf\xe9")},
    };
    static const char *const extra[] = {"Authorization: OAuth realm=\"limited_poa\", oauth_signature=\"a%2Bb\"",
                                        "Content-Type: application/json",
                                        "X-Empty:",
                                        "X-Blank:",
                                        "x!#$%&'*+-.^_`|~9: a;b: c\td",
                                        "X-Twice: 1",
                                        "X-Twice: 2",
                                        "X-Latin: caf\xe9",
                                        "Content-Length: 2",
                                        NULL};
    (void)state;
    serve(NULL, 0);
    send_headers(headers, COUNT(headers), "{}", IBK_OK);
    assert_request(0, "POST", "/", extra, TEXT("{}"));

    /* Nothing of one request stays for the next. */
    static const char *const none[] = {"Content-Length: 0", NULL};
    send_headers(NULL, 0, NULL, IBK_OK);
    assert_request(1, "POST", "/", none, TEXT(""));
    assert_int_equal(server_connections(bench.server), 1);
}

static void test_headers_that_replace_ours(void **state)
{
    static const struct ibk_http_header headers[] = {
        {BYTES("accept-encoding"), BYTES("identity")},
        {BYTES("user-agent"), BYTES("other/2")},
        {BYTES("accept"), BYTES("text/plain")},
    };
    (void)state;
    serve(NULL, 0);
    send_headers(headers, COUNT(headers), NULL, IBK_OK);
    ibk_span raw = server_request(bench.server, 0);
    for (size_t i = 0; i < COUNT(headers); i++) {
        ibk_span line = formatted("\r\n%.*s: %.*s\r\n", (int)headers[i].name.len, (const char *)headers[i].name.data,
                                  (int)headers[i].value.len, (const char *)headers[i].value.data);
        assert_true(ibk_span_find(raw, line) != raw.len);
    }
    assert_true(ibk_span_find(raw, TEXT("*/*")) == raw.len);
    assert_true(ibk_span_find(raw, TEXT(USER_AGENT)) == raw.len);
    assert_true(ibk_span_find(raw, TEXT("gzip")) == raw.len);
}

/* Our own lines have their place beside the caller's. */
static void test_as_many_headers_as_there_may_be(void **state)
{
    struct ibk_http_header many[IBK_MAX_HEADERS];
    size_t left = IBK_MAX_HEADER_TEXT - sizeof "Content-Type:" - sizeof "Expect:";
    (void)state;
    serve(NULL, 0);
    for (size_t i = 0; i < COUNT(many); i++) {
        ibk_span value = i + 1 < COUNT(many) ? repeated("1", 400) : repeated("2", left - strlen("X-Many") - sizeof ": ");
        many[i] = (struct ibk_http_header){TEXT("X-Many"), value};
        left -= strlen("X-Many") + sizeof ": " + value.len;
    }
    assert_int_equal(left, 0);
    send_headers(many, COUNT(many), "{}", IBK_OK);
    ibk_span raw = server_request(bench.server, 0);
    assert_true(ibk_span_find(raw, TEXT("\r\nUser-Agent: " USER_AGENT "\r\n")) != raw.len);
    assert_true(ibk_span_find(raw, TEXT("\r\nAccept-Encoding: gzip, deflate\r\n")) != raw.len);
    assert_true(ibk_span_find(raw, TEXT("\r\nContent-Type:")) == raw.len);
    many[0].value = repeated("1", 401);
    send_headers(many, COUNT(many), "{}", IBK_E_HEADER);
}

static void test_headers_refused(void **state)
{
    static const struct ibk_http_header table[] = {
        {BYTES("X-Evil"), BYTES("a\r\nInjected: 1")},
        {BYTES("X-Evil"), BYTES("a\nInjected: 1")},
        {BYTES("X-Evil"), BYTES("a\rInjected: 1")},
        {BYTES("X-Evil"), BYTES("secret-value\0")},
        {BYTES("X-Evil"), BYTES("\x01")},
        {BYTES("X-Evil"), BYTES("\x7f")},
        {BYTES(""), BYTES("x")},
        {BYTES("X Evil"), BYTES("x")},
        {BYTES("X-Evil:"), BYTES("x")},
        {BYTES("X-Evil;"), BYTES("x")},
        {BYTES("X-Evil\r\nInjected"), BYTES("x")},
        {BYTES("X-Evil\0"), BYTES("x")},
        {BYTES("\xc3\xa9"), BYTES("x")},
        {BYTES("Host"), BYTES("elsewhere.test")},
        {BYTES("content-length"), BYTES("5")},
        {BYTES("Transfer-Encoding"), BYTES("chunked")},
        {BYTES("CONNECTION"), BYTES("close")},
        {BYTES("Expect"), BYTES("100-continue")},
        {BYTES("Upgrade"), BYTES("h2c")},
        {BYTES("TE"), BYTES("trailers")},
        {BYTES("Trailer"), BYTES("X")},
        {BYTES("Proxy-Authorization"), BYTES("Basic eDp5")},
    };
    (void)state;
    serve(NULL, 0);
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i + 1);
        send_headers(&table[i], 1, NULL, IBK_E_HEADER);
        assert_hides(TEXT("secret-value"));
        assert_hides(TEXT("Injected: 1"));
        if (i < 6 || i > 12) {
            assert_says((const char *)table[i].name.data);
        }
    }
    row("many");
    struct ibk_http_header many[200];
    for (size_t i = 0; i < COUNT(many); i++) {
        many[i] = (struct ibk_http_header){TEXT("X-Many"), TEXT("1")};
    }
    send_headers(many, COUNT(many), NULL, IBK_E_HEADER);
    row("a long name");
    struct ibk_http_header named = {repeated("X-", 40), TEXT("a\nb")};
    send_headers(&named, 1, NULL, IBK_E_HEADER);
    assert_says((const char *)joined(repeated("X-", 30), TEXT(": ")).data);
    row("long");
    const struct ibk_http_header longer[] = {{TEXT("X-Long"), repeated("x", 70000)}, {TEXT("X-Short"), TEXT("1")}};
    send_headers(longer, 2, NULL, IBK_E_HEADER);
    /* Sizes that no memory has: their sum must not come out small. */
    const struct ibk_http_header endless[] = {
        {{longer[0].value.data, SIZE_MAX}, TEXT("1")},
        {TEXT("X"), {longer[0].value.data, SIZE_MAX}},
        {{longer[0].value.data, SIZE_MAX - sizeof "Content-Type:" - sizeof "Expect:"}, TEXT("")}};
    for (size_t i = 0; i < COUNT(endless); i++) {
        row("endless %zu", i + 1);
        send_headers(&endless[i], 1, NULL, IBK_E_HEADER);
    }
    row("after");
    assert_int_equal(server_connections(bench.server), 0);
    assert_usable();
}

static void test_requests_refused(void **state)
{
    static const struct {
        ibk_code code;
        const char *method;
        const char *url; /* %u: a port where somebody listens */
        const char *body;
        long timeout_ms;
    } table[] = {
        {IBK_E_ARGUMENT, "", "http://127.0.0.1:%u/", NULL, 1000},
        {IBK_E_ARGUMENT, "get", "http://127.0.0.1:%u/", NULL, 1000},
        {IBK_E_ARGUMENT, "GET /x HTTP/1.1\r\nEvil: 1\r\n\r\nGET", "http://127.0.0.1:%u/", NULL, 1000},
        {IBK_E_ARGUMENT, "ABCDEFGHIJKLMNOPQ", "http://127.0.0.1:%u/", NULL, 1000},
        {IBK_E_ARGUMENT, "M-SEARCH", "http://127.0.0.1:%u/", NULL, 1000},
        {IBK_E_ARGUMENT, "CONNECT", "http://127.0.0.1:%u/", NULL, 1000},
        {IBK_E_ARGUMENT, "TRACE", "http://127.0.0.1:%u/", NULL, 1000},
        {IBK_E_ARGUMENT, "HEAD", "http://127.0.0.1:%u/", "body", 1000},
        {IBK_E_ARGUMENT, "GET", "http://127.0.0.1:%u/", NULL, 0},
        {IBK_E_ARGUMENT, "GET", "http://127.0.0.1:%u/", NULL, -5},
        {IBK_E_URL, "GET", "http://api.test:%u/", NULL, 1000},
        {IBK_E_URL, "GET", "HTTP://api.test:%u/", NULL, 1000},
        {IBK_E_URL, "GET", "http://127.1:%u/", NULL, 1000},
        {IBK_E_URL, "GET", "http://0x7f.0.0.1:%u/", NULL, 1000},
        {IBK_E_URL, "GET", "http://2130706433:%u/", NULL, 1000},
        {IBK_E_URL, "GET", "http://0.0.0.0:%u/", NULL, 1000},
        {IBK_E_URL, "GET", "http://[::ffff:127.0.0.1]:%u/", NULL, 1000},
        {IBK_E_URL, "GET", "http://localhost.api.test:%u/", NULL, 1000},
        {IBK_E_URL, "GET", "http://127.0.0.1.api.test:%u/", NULL, 1000},
        {IBK_E_URL, "GET", "http://api.test:%u/?127.0.0.1", NULL, 1000},
        {IBK_E_URL, "GET", "http://127.0.0.1:%u@api.test/", NULL, 1000},
        {IBK_E_URL, "GET", "http://127.0.0.1:%u\\@api.test/", NULL, 1000},
        {IBK_E_URL, "GET", "http://127.0.0.1:%u#@api.test/", NULL, 1000},
        {IBK_E_URL, "GET", "ftp://127.0.0.1:%u/", NULL, 1000},
        {IBK_E_URL, "GET", "file:///etc/passwd?%u", NULL, 1000},
        {IBK_E_URL, "GET", "127.0.0.1:%u/", NULL, 1000},
        {IBK_E_URL, "GET", "http://127.0.0.1:%u/../x", NULL, 1000},
        {IBK_E_URL, "GET", "http://127.0.0.1:%u/a/%%2E%%2e/x", NULL, 1000},
        {IBK_E_URL, "GET", "http://127.0.0.1:%u/a b", NULL, 1000},
        {IBK_E_URL, "GET", "http://127.0.0.1:%u/a\r\nEvil: 1", NULL, 1000},
        {IBK_E_URL, "GET", "", NULL, 1000},
    };
    (void)state;
    serve(NULL, 0);
    for (size_t i = 0; i < COUNT(table); i++) {
        char url[128];
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        (void)snprintf(url, sizeof url, table[i].url, server_port(bench.server));
#pragma GCC diagnostic pop
        struct ibk_http_request request = {.method = TEXT(table[i].method),
                                           .url = TEXT(url),
                                           .body = table[i].body != NULL ? TEXT(table[i].body) : ibk_span_of(NULL, 0),
                                           .repeatable = true,
                                           .timeout_ms = table[i].timeout_ms};
        row("line %zu, %s", i + 1, url);
        assert_refused(table[i].code, ibk_http_send(bench.client, &request, NULL, &bench.response, &err));
        assert_row(bench.response.body.data == NULL && bench.response.status == 0);
    }
    struct ibk_http_request nul = {.method = TEXT("GET"), .url = LITERAL("http://127.0.0.1\0/"), .timeout_ms = 1000};
    assert_refused(IBK_E_URL, ibk_http_send(bench.client, &nul, NULL, &bench.response, &err));
    assert_int_equal(server_connections(bench.server), 0);
    assert_usable();
}

#define GZIPPED "\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03\xcb\x48\xcd\xc9\xc9\x07\x00\x86\xa6\x10\x36\x05\x00\x00\x00"

static void test_answers(void **state)
{
    static const struct {
        const char *name;
        struct step step;
        long status;
        const char *header_block;
        const char *body;
    } table[] = {
        {"plain", STEP(ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: 1\r\n\r\nhello"), 200, "Content-Length: 5\r\nX: 1\r\n",
         "hello"},
        {"status only", STEP(ANSWER, "HTTP/1.1 204 No Content\r\n\r\n"), 204, "", ""},
        {"error status", STEP(ANSWER, "HTTP/1.1 503 x\r\nContent-Length: 2\r\n\r\nno"), 503, "Content-Length: 2\r\n", "no"},
        {"no reason", STEP(ANSWER, "HTTP/1.1 401\r\nContent-Length: 0\r\n\r\n"), 401, "Content-Length: 0\r\n", ""},
        {"challenge", STEP(ANSWER, "HTTP/1.1 401 x\r\nWWW-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"), 401,
         "WWW-Authenticate: Basic\r\nContent-Length: 0\r\n", ""},
        {"until close", STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello"), 200, "Connection: close\r\n",
         "hello"},
        {"HTTP/1.0", STEP(ANSWER_CLOSE, "HTTP/1.0 200 OK\r\n\r\nhello"), 200, "", "hello"},
        {"chunks", STEP(ANSWER, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n"), 200,
         "Transfer-Encoding: chunked\r\n", "hello"},
        {"trailers are dropped",
         STEP(ANSWER, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: 1\r\nHTTP/1.1: 2\r\n\r\n"), 200,
         "Transfer-Encoding: chunked\r\n", "hello"},
        {"interim",
         STEP(ANSWER, "HTTP/1.1 100 Continue\r\nX: 0\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: y\r\n\r\nHTTP/1.1 200 OK\r\n"
                      "Content-Length: 2\r\n\r\nok"),
         200, "Content-Length: 2\r\n", "ok"},
        {"bare LF", STEP(ANSWER, "HTTP/1.1 200 OK\nContent-Length: 2\nX: 1\n\nok"), 200, "Content-Length: 2\r\nX: 1\r\n", "ok"},
        {"folded", STEP(ANSWER, "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok"), 200,
         "X: a b\r\nContent-Length: 2\r\n", "ok"},
        {"a header like a status line", STEP(ANSWER, "HTTP/1.1 200 OK\r\nA: 1\r\nHTTP/1.1: x\r\nContent-Length: 2\r\n\r\nok"),
         200, "A: 1\r\nHTTP/1.1: x\r\nContent-Length: 2\r\n", "ok"},
        {"gzip", STEP(ANSWER, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 25\r\n\r\n" GZIPPED), 200,
         "Content-Encoding: gzip\r\nContent-Length: 25\r\n", "hello"},
        {"redirect", STEP(ANSWER, "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/away\r\nContent-Length: 0\r\n\r\n"), 302,
         "Location: http://127.0.0.1:1/away\r\nContent-Length: 0\r\n", ""},
        {"redirect to a file", STEP(ANSWER, "HTTP/1.1 307 x\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n"), 307,
         "Location: file:///etc/passwd\r\nContent-Length: 0\r\n", ""},
        {"redirect to nonsense", STEP(ANSWER, "HTTP/1.1 301 x\r\nLocation: http://[:/ \r\nContent-Length: 0\r\n\r\n"), 301,
         "Location: http://[:/ \r\nContent-Length: 0\r\n", ""},
        {"cookie", STEP(ANSWER, "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"), 200,
         "Set-Cookie: a=b\r\nContent-Length: 0\r\n", ""},
    };
    struct step steps[COUNT(table)];
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        steps[i] = table[i].step;
    }
    SERVE(steps);
    for (size_t i = 0; i < COUNT(table); i++) {
        row("%s", table[i].name);
        assert_ok(post("/", "x"));
        assert_row(bench.response.status == table[i].status);
        assert_text(ibk_buf_peek(&bench.response.header_block), table[i].header_block);
        assert_text(ibk_buf_peek(&bench.response.body), table[i].body);
        assert_row(bench.response.elapsed_us > 0 && bench.response.elapsed_us < 2000000);
        assert_row(server_requests(bench.server) == i + 1);
    }
    row("cookies are not sent back");
    assert_usable();
    ibk_span last = server_request(bench.server, COUNT(table));
    assert_row(ibk_span_find(last, TEXT("Cookie")) == last.len);
}

/* Gives the lines to the callback, as any version of libcurl may. Whether it took them all, or stopped. */
static bool give_lines(const ibk_span *lines, size_t count)
{
    static const struct ibk_http_request request;
    struct ibk_http_handle *handle = &bench.client->handle;
    bool taken = true;
    ibk_http_response_clean(&bench.response);
    handle->transfer = (struct ibk_transfer){.request = &request, .response = &bench.response};
    ibk_buf_init(&bench.response.header_block, HEADER_LIMIT);
    for (size_t i = 0; taken && i < count && lines[i].data != NULL; i++) {
        char *line = (char *)room(lines[i].len);
        memcpy(line, lines[i].data, lines[i].len);
        taken = ibk_http_on_header(line, 1, lines[i].len, handle) == lines[i].len;
    }
    assert_row(taken == (handle->transfer.stop == IBK_OK));
    handle->transfer.request = NULL;
    handle->transfer.response = NULL;
    return taken;
}

/* What is taken for a status line, whatever libcurl makes of it. */
static void test_status_lines(void **state)
{
    static const struct {
        ibk_span line;
        enum ibk_answer_part next; /* IBK_PART_STATUS: it is refused */
    } table[] = {
        {BYTES("HTTP/1.1 200 OK\r\n"), IBK_PART_HEADER},
        {BYTES("HTTP/1.0 200\r\n"), IBK_PART_HEADER},
        {BYTES("HTTP/1.1 599\n"), IBK_PART_HEADER},
        {BYTES("HTTP/1.9 999 \r\n"), IBK_PART_HEADER},
        {BYTES("HTTP/1.1 101 Switching Protocols\r\n"), IBK_PART_HEADER}, /* what follows is no HTTP */
        {BYTES("HTTP/1.1 100 Continue\r\n"), IBK_PART_INTERIM},
        {BYTES("HTTP/1.1 103\r\n"), IBK_PART_INTERIM},
        {BYTES("HTTP/1.1 20\r"), IBK_PART_STATUS},
        {BYTES("HTTP/2.1 200 OK\r\n"), IBK_PART_STATUS},
        {BYTES("HTTP/1.x 200 OK\r\n"), IBK_PART_STATUS},
        {BYTES("HTTP/1.! 200 OK\r\n"), IBK_PART_STATUS},
        {BYTES("HTTP/1.1-200 OK\r\n"), IBK_PART_STATUS},
        {BYTES("HTTP/1.1  20 OK\r\n"), IBK_PART_STATUS},
        {BYTES("HTTP/1.1 000 OK\r\n"), IBK_PART_STATUS},
        {BYTES("HTTP/1.1 a00 OK\r\n"), IBK_PART_STATUS},
        {BYTES("HTTP/1.1 2a0 OK\r\n"), IBK_PART_STATUS},
        {BYTES("HTTP/1.1 2 0 OK\r\n"), IBK_PART_STATUS},
        {BYTES("HTTP/1.1 20a OK\r\n"), IBK_PART_STATUS},
        {BYTES("HTTP/1.1 2000 OK\r\n"), IBK_PART_STATUS},
        {BYTES("X: HTTP/1.1 200 OK\r\n"), IBK_PART_STATUS},
    };
    (void)state;
    serve(NULL, 0);
    for (size_t i = 0; i < COUNT(table); i++) {
        row("%.*s", (int)table[i].line.len, (const char *)table[i].line.data);
        bool taken = give_lines(&table[i].line, 1);
        const struct ibk_transfer *transfer = &bench.client->handle.transfer;
        assert_row(taken == (table[i].next != IBK_PART_STATUS) && transfer->part == table[i].next);
        assert_row(taken || transfer->stop == IBK_E_PROTOCOL);
    }
}

static void test_header_lines(void **state)
{
    static const struct {
        ibk_span lines[4];
        const char *header_block; /* NULL: it is refused */
    } table[] = {
        {{BYTES("HTTP/1.1 200 OK\r\n"), BYTES("A: 1\r\n"), BYTES("B: 2\n"), BYTES("C: 3")}, "A: 1\r\nB: 2\r\nC: 3\r\n"},
        {{BYTES("HTTP/1.1 200 OK\r\n"), BYTES("A: 1\r\n"), BYTES(" 2\r\n"), BYTES("\t3\r\n")}, "A: 1 2\t3\r\n"},
        {{BYTES("HTTP/1.1 200 OK\r\n"), BYTES("A: 1\r\n"), BYTES("\r\n"), BYTES("B: trailer\r\n")}, "A: 1\r\n"},
        {{BYTES("HTTP/1.1 200 OK\r\n"), BYTES(""), BYTES("A: 1\r\n"), BYTES("\n")}, "A: 1\r\n"},
        {{BYTES("HTTP/1.1 200 OK\r\n"), BYTES(" A: 1\r\n")}, NULL},
        {{BYTES("HTTP/1.1 200 OK\r\n"), BYTES("\tA: 1\r\n")}, NULL},
    };
    (void)state;
    serve(NULL, 0);
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i + 1);
        assert_row(give_lines(table[i].lines, COUNT(table[i].lines)) == (table[i].header_block != NULL));
        assert_text(ibk_buf_peek(&bench.response.header_block), table[i].header_block != NULL ? table[i].header_block : "");
    }
}

static void test_head_ignores_the_length(void **state)
{
    static const struct step steps[] = {STEP(ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n")};
    (void)state;
    SERVE(steps);
    assert_ok(send_it("HEAD", "/", NULL, true));
    assert_text(ibk_buf_peek(&bench.response.header_block), "Content-Length: 99999999\r\n");
    assert_usable();
    assert_true(bench.response.reused_connection);
}

static void test_large_bodies(void **state)
{
    const size_t size = 3u << 20;
    ibk_span big = scrambled(size, 7);
    ibk_span head = formatted("HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
    const struct step steps[] = {{.deed = ANSWER, .bytes = joined(head, big)}};
    (void)state;
    bench.options.max_body_bytes = size;
    SERVE(steps);
    struct ibk_http_request request = {.method = TEXT("POST"), .url = url_of("/"), .body = big, .timeout_ms = 5000};
    int64_t start = now_ms();
    assert_ok(send_request(&request));
    assert_true(now_ms() - start < 900); /* no second of waiting for "100 Continue" */
    assert_bytes(ibk_buf_peek(&bench.response.body), big);
    ibk_span raw = server_request(bench.server, 0);
    size_t end = ibk_span_find(raw, TEXT("\r\n\r\n")) + 4;
    assert_bytes(ibk_span_of(raw.data + end, raw.len - end), big);
    assert_true(ibk_span_find(ibk_span_of(raw.data, end), TEXT("Expect")) == end);
}

/* Appends the low `count` bits of code, most significant first, as Huffman codes stand in a deflate stream. */
static void put_bits(uint8_t *out, size_t *position, unsigned int code, unsigned int count)
{
    for (; count > 0; count--, (*position)++) {
        out[*position / 8] |= (uint8_t)(((code >> (count - 1)) & 1u) << (*position % 8));
    }
}

/* The beginning of a gzip stream: the byte '0', then `runs` times "258 more of it" in 13 bits each. */
static ibk_span gzip_bomb(size_t runs)
{
    static const uint8_t head[10] = {0x1f, 0x8b, 8};
    size_t size = sizeof head + 2 + runs * 13 / 8 + 1;
    uint8_t *out = room(size);
    size_t position = 8 * sizeof head;
    memset(out, 0, size);
    memcpy(out, head, sizeof head);
    put_bits(out, &position, 2, 3);    /* not the last block; fixed codes */
    put_bits(out, &position, 0x60, 8); /* '0' */
    for (size_t i = 0; i < runs; i++) {
        put_bits(out, &position, 0xc5, 8); /* length 258 */
        put_bits(out, &position, 0, 5);    /* distance 1 */
    }
    return ibk_span_of(out, size);
}

static ibk_span answer_with(const char *headers, ibk_span body)
{
    return joined(formatted("HTTP/1.1 200 OK\r\n%sContent-Length: %zu\r\n\r\n", headers, body.len), body);
}

static void test_limits(void **state)
{
    ibk_span bomb = gzip_bomb(40000); /* 10 MB in 65 KB */
    ibk_span chunk = joined(TEXT("400\r\n"), joined(repeated("0123456789abcdef", 64), TEXT("\r\n")));
    const struct {
        const char *name;
        const char *says;
        struct step step;
        ibk_code code;
    } table[] = {
        {"body of the limit", "", {.deed = ANSWER, .bytes = answer_with("", repeated("x", BODY_LIMIT))}, IBK_OK},
        {"one byte more", "body", {.deed = ANSWER, .bytes = answer_with("", repeated("x", BODY_LIMIT + 1))}, IBK_E_TOO_LARGE},
        {"endless body",
         "body",
         {.deed = ANSWER_AGAIN, .bytes = LITERAL("HTTP/1.1 200 OK\r\n\r\n"), .again = chunk},
         IBK_E_TOO_LARGE},
        {"endless chunks",
         "body",
         {.deed = ANSWER_AGAIN, .bytes = LITERAL("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), .again = chunk},
         IBK_E_TOO_LARGE},
        {"bomb", "body", {.deed = ANSWER, .bytes = answer_with("Content-Encoding: gzip\r\n", bomb)}, IBK_E_TOO_LARGE},
        {"endless headers",
         "header",
         {.deed = ANSWER_AGAIN, .bytes = LITERAL("HTTP/1.1 200 OK\r\n"), .again = LITERAL("X-More: 0123456789abcdef\r\n")},
         IBK_E_TOO_LARGE},
        {"endless interim answers",
         "header",
         {.deed = ANSWER_AGAIN, .again = LITERAL("HTTP/1.1 103 Early Hints\r\nLink: y\r\n\r\n")},
         IBK_E_TOO_LARGE},
        {"one line without end",
         "header",
         {.deed = ANSWER_AGAIN, .bytes = LITERAL("HTTP/1.1 200 OK\r\nX: "), .again = LITERAL("0123456789abcdef0123456789abcdef")},
         IBK_E_TOO_LARGE},
        {"status line without end",
         "",
         {.deed = ANSWER_AGAIN, .bytes = LITERAL("HTTP/1.1 200 "), .again = LITERAL("0123456789abcdef0123456789abcdef")},
         IBK_E_TOO_LARGE},
        {"headers of the limit",
         "",
         {.deed = ANSWER,
          .bytes = joined(LITERAL("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: "),
                          joined(repeated("x", HEADER_LIMIT - 17 - 19 - 3 - 4), LITERAL("\r\n\r\n")))},
         IBK_OK},
        {"one byte more",
         "header",
         {.deed = ANSWER,
          .bytes = joined(LITERAL("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: "),
                          joined(repeated("x", HEADER_LIMIT - 17 - 19 - 3 - 4 + 1), LITERAL("\r\n\r\n")))},
         IBK_E_TOO_LARGE},
        {"endless trailers",
         "",
         {.deed = ANSWER_AGAIN,
          .bytes = LITERAL("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"),
          .again = LITERAL("X-More: 0123456789abcdef\r\n")},
         IBK_E_TOO_LARGE},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        for (int repeatable = 0; repeatable < 2; repeatable++) {
            row("%s, %s", table[i].name, repeatable ? "repeatable" : "once");
            serve(&table[i].step, 1);
            int64_t start = now_ms();
            ibk_code code = send_it("PUT", "/?secret=1", "x", repeatable);
            if (table[i].code == IBK_OK) {
                assert_ok(code);
                continue;
            }
            assert_failed(table[i].code, true, code);
            assert_says(table[i].says, "PUT 127.0.0.1:");
            assert_hides(TEXT("0123456789ab"));
            assert_row(now_ms() - start < 3000); /* the time-out is at 5000 */
            assert_row(server_requests(bench.server) == 1);
            assert_usable();
        }
    }
}

static void test_keep_alive(void **state)
{
    (void)state;
    serve(NULL, 0);
    for (int i = 0; i < 20; i++) {
        assert_ok(i % 2 == 0 ? get("/") : post("/", "x"));
        assert_int_equal(bench.response.reused_connection, i > 0);
    }
    assert_int_equal(server_connections(bench.server), 1);
}

static void test_connection_closed_while_idle(void **state)
{
    static const struct step steps[] = {
        STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        {.deed = ANSWER_RESET, .bytes = BYTES("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), .pause_ms = 20}};
    (void)state;
    SERVE(steps);
    for (int i = 0; i < 3; i++) {
        assert_ok(post("/", "x"));
        assert_false(bench.response.reused_connection);
        sleep_ms(50);
    }
    assert_int_equal(server_requests(bench.server), 3);
}

/* Lets this number stand for something else, which is readable, since it is at its end. */
static void replace(int fd, bool by_socket)
{
    int ends[2];
    assert_int_equal(by_socket ? socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : pipe(ends), 0);
    assert_int_equal(dup2(ends[0], fd), fd);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

/* Two sockets that are connected with each other over TCP, so that they have ports. */
static void connect_pair(int pair[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    pair[0] = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(pair[0], (struct sockaddr *)&address, size), 0);
    pair[1] = accept(listener, NULL, NULL);
    assert_true(pair[1] >= 0);
    (void)close(listener);
}

/* Numbers of which libcurl did not say that they are closed stand for other sockets, which are left alone. */
static void test_table_of_sockets(void **state)
{
    struct ibk_sockets sockets;
    struct ibk_transfer opener = {.socket = CURL_SOCKET_BAD}, other = {.socket = CURL_SOCKET_BAD};
    int pair[2], more[9];
    (void)state;
    assert_ok(ibk_sockets_init(&sockets, &err));
    connect_pair(pair);
    int port = ibk_socket_local_port(pair[0]);
    assert_true(port > 0);
    ibk_sockets_add(&sockets, -1, &opener);
    assert_int_equal(sockets.count, 0);
    ibk_sockets_add(&sockets, pair[0], &opener);
    assert_true(ibk_sockets_are_quiet(&sockets, port));
    assert_false(ibk_sockets_are_quiet(&sockets, 0));
    assert_false(ibk_sockets_are_quiet(&sockets, port == 1 ? 2 : 1));
    ibk_sockets_end_dead(&sockets);
    assert_int_equal(write(pair[1], "x", 1), 1);
    assert_false(ibk_sockets_are_quiet(&sockets, port));

    row("another one under its number");
    replace(pair[0], true);
    assert_false(ibk_sockets_are_quiet(&sockets, port));
    assert_int_equal(sockets.count, 0);
    ibk_sockets_add(&sockets, pair[0], &opener);
    replace(pair[0], false);
    ibk_sockets_end_dead(&sockets);
    assert_int_equal(sockets.count, 0);

    row("its number is given out again");
    ibk_sockets_add(&sockets, pair[0], &opener);
    replace(pair[0], true);
    ibk_sockets_add(&sockets, pair[0], &other);
    assert_int_equal(sockets.count, 1);
    assert_ptr_equal(sockets.list[0].opener, &other);

    row("two of one transfer, which is told of its last");
    opener.socket = pair[1];
    ibk_sockets_add(&sockets, pair[1], &opener);
    sockets.list[0].opener = &opener;
    ibk_sockets_remove(&sockets, pair[0]);
    assert_int_equal(opener.socket, pair[1]);
    ibk_sockets_remove(&sockets, pair[0]); /* no more in there */
    assert_int_equal(sockets.count, 1);
    ibk_sockets_remove(&sockets, pair[1]);
    assert_int_equal(opener.socket, CURL_SOCKET_BAD);
    assert_int_equal(sockets.count, 0);

    row("no memory for one more");
    for (size_t i = 0; i < COUNT(more); i++) {
        more[i] = dup(pair[0]);
        if (sockets.count == sockets.room) {
            ibk_test_fail_allocation(1);
            ibk_sockets_add(&sockets, more[i], NULL);
            ibk_test_fail_allocation(0);
            assert_int_equal(sockets.count, i);
        }
        ibk_sockets_add(&sockets, more[i], NULL);
        assert_int_equal(sockets.count, i + 1);
    }
    assert_true(sockets.room > 8);
    for (size_t i = 0; i < COUNT(more); i++) {
        (void)close(more[i]);
    }
    (void)close(pair[0]);
    (void)close(pair[1]);
    ibk_sockets_clean(&sockets);
}

static void test_memory_runs_out(void **state)
{
    (void)state;
    serve(NULL, 0);
    bool done = false;
    for (unsigned long n = 1; !done; n++) {
        struct ibk_http_client *client;
        row("client_new, allocation %lu", n);
        ibk_test_fail_allocation(n);
        bench.options.ca_file = "/ca.pem";
        bench.options.ca_path = "/ca";
        bench.options.proxy = "http://proxy.test";
        ibk_code code = ibk_http_client_new(&bench.options, &client, &err);
        ibk_test_fail_allocation(0);
        done = code == IBK_OK;
        if (!done) {
            assert_failed(IBK_E_NO_MEMORY, false, code);
            assert_row(client == NULL);
        }
        ibk_http_client_free(client);
    }
    for (int repeatable = 0; repeatable < 2; repeatable++) {
        unsigned long n = 1;
        for (done = false; !done; n++) {
            bench.options = (struct ibk_http_options){NULL, NULL, NULL, USER_AGENT, 2000, HEADER_LIMIT, BODY_LIMIT};
            new_client();
            row("send, allocation %lu", n);
            ibk_test_fail_allocation(n);
            size_t before = server_requests(bench.server);
            ibk_code code = send_it("PUT", "/", "x", repeatable);
            ibk_test_fail_allocation(0);
            done = code == IBK_OK;
            if (!done) {
                bool sent = server_requests(bench.server) > before;
                assert_failed(sent && !repeatable ? IBK_E_OUTCOME_UNKNOWN : IBK_E_NO_MEMORY, sent, code);
                assert_usable();
            }
        }
        assert_true(n > 4);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        http_test(test_version_and_start),
        http_test(test_options_refused),
        http_test(test_methods_on_the_wire),
        http_test(test_targets_on_the_wire),
        http_test(test_headers_on_the_wire),
        http_test(test_headers_that_replace_ours),
        http_test(test_as_many_headers_as_there_may_be),
        http_test(test_headers_refused),
        http_test(test_requests_refused),
        http_test(test_answers),
        http_test(test_status_lines),
        http_test(test_header_lines),
        http_test(test_head_ignores_the_length),
        http_test(test_large_bodies),
        http_test(test_limits),
        http_test(test_keep_alive),
        http_test(test_connection_closed_while_idle),
        http_test(test_table_of_sockets),
        http_test(test_memory_runs_out),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
