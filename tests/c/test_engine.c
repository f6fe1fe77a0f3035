/* test_engine.c - csrc/http's engine: many transfers on one thread, what they end with, and how the thread comes and goes. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "support_engine.h"

#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

/* With TLS or without, answering every request with "ok". */
static void open_plain_or_tls(bool tls, const struct step *steps, size_t count)
{
    open_desk(tls_setup(tls ? certificates.identity : NULL, steps, count));
}

static bool is_readable(int fd)
{
    struct pollfd end = {.fd = fd, .events = POLLIN};
    return poll(&end, 1, 0) == 1;
}

/* transfers */

static void test_answers(void **state)
{
    static const struct step steps[] = {
        STEP(ANSWER, "HTTP/1.1 201 Created\r\nX-Name: value\r\nContent-Length: 4\r\n\r\n\1\2\3\4")};
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        row("%s", tls ? "TLS" : "plain");
        open_plain_or_tls(tls, steps, COUNT(steps));
        assert_ok(submit(-7, "POST", "/v1/orders?a=b", "{}", false));
        assert_ok(ended(-7));
        const struct ibk_http_response *response = &taken(-7)->response;
        assert_row(response->status == 201 && response->elapsed_us > 0 && !response->reused_connection);
        assert_text(ibk_buf_peek(&response->header_block), "X-Name: value\r\nContent-Length: 4\r\n");
        assert_text(ibk_buf_peek(&response->body), "\1\2\3\4");
        ibk_span request = server_request(bench.server, 0);
        assert_row(ibk_span_find(request, LITERAL("POST /v1/orders?a=b HTTP/1.1\r\n")) == 0);
        assert_row(ibk_span_find(request, LITERAL("\r\nUser-Agent: " USER_AGENT "\r\n")) < request.len);
        assert_row(ibk_span_find(request, LITERAL("\r\n\r\n{}")) < request.len);
        assert_ok(submit_get(INT64_MAX, "/"));
        assert_ok(ended(INT64_MAX));
        assert_row(taken(INT64_MAX)->response.reused_connection);
    }
}

static void test_many_in_flight(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        row("%s", tls ? "TLS" : "plain");
        open_plain_or_tls(tls, NULL, 0);
        for (int round = 0; round < 3; round++) {
            for (int64_t key = 0; key < 64; key++) {
                assert_ok(key % 2 == 0 ? submit_get(key, "/") : submit_post(key, "/"));
            }
            take_until(64);
            for (int64_t key = 0; key < 64; key++) {
                assert_row(taken(key)->code == IBK_OK && taken(key)->response.status == 200);
                assert_text(ibk_buf_peek(&taken(key)->response.body), "ok");
            }
            forget_taken();
        }
        assert_row(server_requests(bench.server) == 3 * 64);
        assert_row(server_connections(bench.server) <= 64);
    }
}

/* What it copies may change at once. */
static void test_the_request_is_copied(void **state)
{
    char method[] = "PUT", url[64], body[] = "body", name[] = "X-Name", value[] = "value";
    struct ibk_http_header header = {.name = LITERAL(name), .value = LITERAL(value)};
    (void)state;
    open_plain_or_tls(false, NULL, 0);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/path", server_port(bench.server));
    struct ibk_http_request request = {.method = LITERAL(method),
                                       .url = ibk_span_text(url),
                                       .headers = &header,
                                       .header_count = 1,
                                       .body = LITERAL(body),
                                       .timeout_ms = 20000};
    assert_ok(ibk_engine_submit(desk.client, 1, &request, &err));
    memset(method, 'X', strlen(method));
    memset(url, 'X', strlen(url));
    memset(body, 'X', strlen(body));
    memset(name, 'X', strlen(name));
    memset(value, 'X', strlen(value));
    assert_ok(ended(1));
    ibk_span seen = server_request(bench.server, 0);
    assert_true(ibk_span_find(seen, LITERAL("PUT /path HTTP/1.1\r\n")) == 0);
    assert_true(ibk_span_find(seen, LITERAL("\r\nX-Name: value\r\n")) < seen.len);
    assert_true(ibk_span_find(seen, LITERAL("\r\n\r\nbody")) < seen.len);
}

/* Refused at once, with the blocking client's code and words. */
static void test_requests_refused(void **state)
{
    struct ibk_http_header long_headers[] = {{LITERAL("A"), repeated("x", 40000)}, {LITERAL("B"), repeated("x", 40000)}};
    struct ibk_http_header reserved = {LITERAL("Host"), LITERAL("x")};
    const struct ibk_http_request table[] = {
        {.method = LITERAL("get"), .url = LITERAL("https://api.test/"), .timeout_ms = 1},
        {.method = LITERAL("GET"), .url = LITERAL("https://api.test/ "), .timeout_ms = 1},
        {.method = LITERAL("GET"), .url = LITERAL("http://192.0.2.1/"), .timeout_ms = 1},
        {.method = LITERAL("GET"), .url = LITERAL("https://api.test/"), .timeout_ms = 0},
        {.method = LITERAL("GET"), .url = LITERAL("https://api.test/"), .headers = &reserved, .header_count = 1, .timeout_ms = 1},
        {.method = LITERAL("GET"),
         .url = LITERAL("https://api.test/"),
         .headers = long_headers,
         .header_count = 2,
         .timeout_ms = 1},
        {.timeout_ms = 1},
    };
    (void)state;
    open_plain_or_tls(false, NULL, 0);
    for (size_t i = 0; i < COUNT(table); i++) {
        row("request %zu", i);
        ibk_code blocking = send_request(&table[i]);
        struct ibk_error expected = err;
        assert_refused(blocking, ibk_engine_submit(desk.client, 1, &table[i], &err));
        assert_text(ibk_span_text(err.text), expected.text);
    }
    take_after(20);
    assert_int_equal(desk.count, 0);
    assert_ok(submit_get(1, "/"));
    assert_ok(ended(1));
}

/* Sizes that no memory has: their sum must not come out small. */
static void test_requests_without_end(void **state)
{
    const struct ibk_http_request table[] = {
        {.method = LITERAL("GET"), .url = {(const uint8_t *)"h", SIZE_MAX}, .timeout_ms = 1},
        {.method = LITERAL("POST"),
         .url = LITERAL("https://api.test/"),
         .body = {(const uint8_t *)"x", SIZE_MAX},
         .timeout_ms = 1},
    };
    (void)state;
    open_plain_or_tls(false, NULL, 0);
    for (size_t i = 0; i < COUNT(table); i++) {
        row("request %zu", i);
        assert_refused(IBK_E_NO_MEMORY, ibk_engine_submit(desk.client, 1, &table[i], &err));
    }
    assert_ok(submit_get(1, "/"));
    assert_ok(ended(1));
}

static void test_no_authorities(void **state)
{
    (void)state;
    bench.options.ca_file = "/nonexistent/ca.pem";
    open_desk((struct server_setup){.steps = NULL});
    bench.origin = "https://api.test";
    assert_refused(IBK_E_CA_MISSING, submit_get(1, "/"));
    assert_says("/nonexistent/ca.pem");
    bench.origin = NULL;
    assert_ok(submit_get(1, "/"));
    assert_ok(ended(1));
}

static const struct step broken[] = {
    STEP(ANSWER_CLOSE, ""),
    STEP(ANSWER_RESET, ""),
    {ANSWER_RESET, {NULL, 0}, {NULL, 0}, 20, 0, 0, 0},
    STEP(ANSWER_CLOSE, "HTTP/1.1 2"),
    STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nX: leaked-by-server"),
    {ANSWER_RESET, BYTES("HTTP/1.1 200 OK\r\nX: leaked-by-server\r\n"), {NULL, 0}, 0, 20, 0, 0},
    STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nleaked-by-server"),
    {ANSWER_RESET, BYTES("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nleaked-by-server"), {NULL, 0}, 0, 20, 0, 0},
    STEP(ANSWER_CLOSE, "leaked-by-server leaked-by-server\r\n\r\n"),
    STEP(ANSWER, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 16\r\n\r\nleaked-by-server"),
    STEP(ANSWER_CLOSE, "HTTP/1.1 100 Continue\r\n\r\n"),
    {ANSWER_AGAIN, BYTES("HTTP/1.1 200 OK\r\n"), BYTES("X: leaked-by-server\r\n"), 0, 0, 0, 0},
    {ANSWER_AGAIN, BYTES("HTTP/1.1 200 OK\r\n\r\n"), BYTES("leaked-by-server"), 0, 0, 0, 0},
    STEP(ANSWER_STALL, "HTTP/1.1 200 OK\r\nX: "),
    STEP(ANSWER_STALL, ""),
};

/* "... after 12 ms: POST 127.0.0.1:40123/x" without the two numbers. */
static ibk_span without_numbers(const char *text)
{
    static const char digits[] = "0123456789";
    uint8_t *copy = room(strlen(text) + 1);
    size_t len = 0;
    for (const char *c = text; *c != '\0'; c++) {
        if (strchr(digits, *c) == NULL) {
            copy[len++] = (uint8_t)*c;
        }
    }
    return ibk_span_of(copy, len);
}

/* Whatever goes wrong, the engine says of it what the blocking client says, and the request was sent once. */
static void test_the_same_failures_as_blocking(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(broken); i++) {
        for (int repeatable = 0; repeatable < 2; repeatable++) {
            row("%zu, %s", i, repeatable ? "repeatable" : "once");
            const struct step twice[] = {broken[i], broken[i]};
            OPEN_DESK(twice);
            bench.timeout_ms = broken[i].deed == ANSWER_STALL ? 100 : 20000;
            ibk_code blocking = send_it("POST", "/x?secret", "leaked-by-client", repeatable);
            struct ibk_error expected = err;
            assert_ok(submit(3, "POST", "/x?secret", "leaked-by-client", repeatable));
            ibk_code code = ended(3);
            bench.timeout_ms = 20000;
            assert_row(blocking != IBK_OK && code == blocking && err.code == code);
            assert_bytes(without_numbers(err.text), without_numbers(expected.text));
            assert_row(err.sent == expected.sent && err.domain == expected.domain && err.native == expected.native);
            assert_row(strcmp(err.where, expected.where) == 0);
            assert_hides(ibk_span_text("leaked-by-server"));
            assert_hides(ibk_span_text("leaked-by-client"));
            assert_row(server_requests(bench.server) == 2);
            assert_ok(submit_get(4, "/"));
            assert_ok(ended(4));
        }
    }
}

static void test_nobody_there(void **state)
{
    static const struct {
        const char *url;
        ibk_code code;
    } table[] = {
        {"https://nowhere.test/x", IBK_E_RESOLVE},
        {"http://127.0.0.1:1/x", IBK_E_CONNECT},
        {"https://127.0.0.1:1/x", IBK_E_CONNECT},
    };
    (void)state;
    bench.options.ca_file = certificates.ca_file;
    open_desk((struct server_setup){.steps = NULL});
    for (size_t i = 0; i < COUNT(table); i++) {
        row("%s", table[i].url);
        const struct ibk_http_request request = {
            .method = LITERAL("POST"), .url = ibk_span_text(table[i].url), .timeout_ms = 2000};
        ibk_code blocking = send_request(&request);
        struct ibk_error expected = err;
        assert_ok(ibk_engine_submit(desk.client, 1, &request, &err));
        assert_row(ended(1) == table[i].code && blocking == table[i].code);
        assert_bytes(without_numbers(err.text), without_numbers(expected.text));
        assert_row(!err.sent);
    }
}

/* A name server that does not answer holds up nobody else, not even the engine's end. */
static void test_stalled_lookup(void **state)
{
    (void)state;
    bench.options.ca_file = certificates.ca_file;
    open_desk((struct server_setup){.steps = NULL});
    const struct ibk_http_request request = {
        .method = LITERAL("GET"), .url = LITERAL("https://stalled.test/"), .timeout_ms = 100};
    assert_ok(ibk_engine_submit(desk.client, 1, &request, &err));
    assert_ok(submit_get(2, "/"));
    assert_ok(ended(2));
    assert_int_equal(ended(1), IBK_E_TIMEOUT);
    assert_says("timed out while looking up the host");
    assert_ok(ibk_engine_submit(desk.client, 3, &request, &err));
    while (stalled_lookups() < 2) {
        sleep_ms(1);
    }
    int64_t start = now_ms();
    close_engine_client();
    assert_true(now_ms() - start < 10000); /* the lookup goes on until the test ends */
}

/* never twice */

/* A reused connection dies under a request that the server has read. */
static void test_no_silent_replay(void **state)
{
    static const enum deed deeds[] = {ANSWER_CLOSE, ANSWER_RESET, ANSWER_CUT};
    (void)state;
    for (size_t i = 0; i < 2 * COUNT(deeds); i++) {
        bool tls = i >= COUNT(deeds);
        const struct step steps[] = {STEP(ANSWER, OK_ANSWER), {.deed = deeds[i % COUNT(deeds)]}};
        row("%zu, once", i);
        open_plain_or_tls(tls, steps, COUNT(steps));
        assert_ok(submit_post(1, "/first"));
        assert_ok(ended(1));
        assert_ok(submit_post(2, "/order"));
        assert_row(ended(2) == IBK_E_OUTCOME_UNKNOWN && err.sent);
        assert_says("connection lost", "/order");
        assert_row(server_requests(bench.server) == 2);
        row("%zu, repeatable", i);
        open_plain_or_tls(tls, steps, COUNT(steps));
        assert_ok(submit_get(1, "/first"));
        assert_ok(ended(1));
        assert_ok(submit_get(2, "/second"));
        assert_row(ended(2) == IBK_E_PROTOCOL && err.sent);
        assert_says("connection lost", "/second");
        assert_row(server_requests(bench.server) == 2);
    }
}

/* The server closes connections that are idle: the next request goes to a fresh one, once. */
static void test_kept_connection_died(void **state)
{
    static const enum deed deeds[] = {ANSWER_CLOSE, ANSWER_RESET, ANSWER_CUT};
    (void)state;
    for (size_t i = 0; i < 4 * COUNT(deeds); i++) {
        bool tls = i % 2 == 0, repeatable = i / 2 % 2 == 0;
        const struct step steps[] = {{.deed = deeds[i / 4], .bytes = LITERAL(OK_ANSWER), .pause_ms = 5}};
        row("%zu: %s, %s", i / 4, tls ? "TLS" : "plain", repeatable ? "repeatable" : "once");
        open_plain_or_tls(tls, steps, COUNT(steps));
        assert_ok(submit_get(1, "/"));
        assert_ok(ended(1));
        await_closed_connections();
        assert_ok(submit(2, "POST", "/order", "{}", repeatable));
        assert_ok(ended(2));
        assert_row(!taken(2)->response.reused_connection);
        assert_row(server_requests(bench.server) == 2 && server_connections(bench.server) == 2);
        assert_ok(submit(3, "POST", "/order", "{}", repeatable));
        assert_ok(ended(3));
        assert_row(taken(3)->response.reused_connection);
    }
}

/* However many of them died, and whoever comes first. */
static void test_all_kept_connections_died(void **state)
{
    struct step steps[16];
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        row("%s", tls ? "TLS" : "plain");
        for (size_t i = 0; i < COUNT(steps); i++) {
            /* Each on a connection of its own, since all are under way before the first is answered. */
            steps[i] = (struct step){.deed = ANSWER_CLOSE, .bytes = LITERAL(OK_ANSWER), .after_requests = COUNT(steps)};
        }
        open_plain_or_tls(tls, steps, COUNT(steps));
        for (size_t i = 0; i < COUNT(steps); i++) {
            assert_ok(submit_get((int64_t)i, "/"));
        }
        take_until(COUNT(steps));
        await_closed_connections();
        forget_taken();
        for (size_t i = 0; i < COUNT(steps); i++) {
            assert_ok(i % 2 == 0 ? submit_get((int64_t)i, "/") : submit_post((int64_t)i, "/"));
        }
        take_until(COUNT(steps));
        for (size_t i = 0; i < COUNT(steps); i++) {
            assert_row(taken((int64_t)i)->code == IBK_OK);
        }
        assert_row(server_requests(bench.server) == 2 * COUNT(steps));
        assert_row(server_connections(bench.server) > COUNT(steps));
    }
}

/* The second try has a deadline as well. */
static void test_fresh_connection_times_out(void **state)
{
    const struct step steps[] = {{.deed = ANSWER_CLOSE, .bytes = LITERAL(OK_ANSWER)}, STEP(ANSWER_STALL, "")};
    (void)state;
    OPEN_DESK(steps);
    assert_ok(submit_get(1, "/"));
    assert_ok(ended(1));
    await_closed_connections();
    bench.timeout_ms = 200;
    int64_t start = now_ms();
    assert_ok(submit_post(2, "/"));
    assert_int_equal(ended(2), IBK_E_OUTCOME_UNKNOWN);
    assert_says("timed out while waiting for the answer");
    assert_true(now_ms() - start >= 190 && now_ms() - start < 10000);
    assert_int_equal(server_requests(bench.server), 2);
}

/* time */

static void test_timeouts_of_many(void **state)
{
    struct step steps[32];
    (void)state;
    for (size_t i = 0; i < COUNT(steps); i++) {
        steps[i] = (struct step){.deed = ANSWER_STALL};
    }
    OPEN_DESK(steps);
    bench.timeout_ms = 200;
    int64_t start = now_ms();
    for (size_t i = 0; i < COUNT(steps); i++) {
        assert_ok(submit_get((int64_t)i, "/"));
    }
    take_until(COUNT(steps));
    int64_t took = now_ms() - start;
    assert_true(took >= 190 && took < 10000);
    for (size_t i = 0; i < COUNT(steps); i++) {
        look_at_error((int64_t)i);
        assert_true(err.code == IBK_E_TIMEOUT && err.sent);
    }
}

/* More requests to one host than there may be connections: they wait, but not longer than they said. */
static void test_more_than_a_host_gets(void **state)
{
    static struct step steps[129] = {STEP(ANSWER, OK_ANSWER)};
    (void)state;
    for (size_t i = 1; i < COUNT(steps); i++) {
        steps[i] = (struct step){.deed = ANSWER_STALL};
    }
    OPEN_DESK(steps);
    assert_ok(submit_get(1000, "/"));
    assert_ok(ended(1000));
    forget_taken();
    for (int64_t key = 0; key < 128; key++) { /* one of them on the connection that was kept */
        assert_ok(submit_get(key, "/"));
    }
    await_requests(129);
    bench.timeout_ms = LONG_MAX;
    assert_ok(submit_post(500, "/patient"));
    bench.timeout_ms = 100;
    int64_t start = now_ms();
    for (int64_t key = 200; key < 300; key++) {
        assert_ok(submit_post(key, "/impatient"));
    }
    take_until(100);
    assert_true(now_ms() - start < 5000); /* all of them in one go */
    for (int64_t key = 200; key < 300; key++) {
        look_at_error(key);
        assert_int_equal(err.code, IBK_E_TIMEOUT);
        assert_says("timed out while waiting for a free connection", "/impatient");
        assert_false(err.sent);
    }
    assert_int_equal(server_connections(bench.server), 128);
    for (int64_t key = 0; key < 128; key += 2) {
        assert_true(cancel(key));
    }
    assert_ok(ended(500));
    assert_int_equal(server_requests(bench.server), 130);
}

/* cancelling */

static void test_cancel(void **state)
{
    static const struct step steps[] = {STEP(ANSWER_STALL, ""),
                                        STEP(ANSWER_STALL, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")};
    (void)state;
    OPEN_DESK(steps);
    assert_false(cancel(1));
    for (size_t i = 0; i < COUNT(steps); i++) {
        assert_ok(submit_post(1, "/stalled"));
        await_requests(i + 1);
        assert_true(cancel(1));
        assert_false(cancel(1));
    }
    for (int64_t key = 0; key < 20; key++) { /* some before the engine has even seen them */
        assert_ok(submit_get(key, "/"));
        bool cancelled = cancel(key);
        take_after(0);
        assert_true(cancelled || taken(key)->code == IBK_OK);
    }
    forget_taken();
    assert_ok(submit_get(99, "/"));
    assert_ok(ended(99));
    assert_int_equal(desk.count, 1);
    assert_false(cancel(99));
}

static void test_cancel_takes_all_of_a_key_and_no_other(void **state)
{
    static const struct step steps[] = {STEP(ANSWER_STALL, ""), STEP(ANSWER_STALL, ""), STEP(ANSWER_STALL, "")};
    (void)state;
    OPEN_DESK(steps);
    bench.timeout_ms = 300;
    assert_ok(submit_get(1, "/"));
    assert_ok(submit_get(1, "/"));
    assert_ok(submit_get(2, "/"));
    await_requests(3);
    assert_true(cancel(1));
    assert_int_equal(ended(2), IBK_E_TIMEOUT);
    take_after(50);
    assert_int_equal(desk.count, 1);
}

static void test_close_with_transfers_under_way(void **state)
{
    static const struct step steps[] = {STEP(ANSWER_STALL, ""), STEP(ANSWER_STALL, "HTTP/1.1 200 OK\r\n"),
                                        STEP(ANSWER_STALL, "")};
    (void)state;
    for (int shared = 0; shared < 2; shared++) {
        row("%s", shared ? "not the last client" : "the last client");
        OPEN_DESK(steps);
        struct ibk_engine_client *other = NULL;
        if (shared) {
            assert_ok(ibk_engine_client_new(&bench.options, desk.mailbox, &other, &err));
        }
        for (int64_t key = 0; key < 3; key++) {
            assert_ok(submit_get(key, "/"));
        }
        await_requests(3);
        assert_ok(submit_get(3, "/"));
        assert_row(!ibk_engine_client_is_closed(desk.client));
        ibk_engine_client_close(desk.client);
        ibk_engine_client_close(desk.client);
        assert_row(ibk_engine_client_is_closed(desk.client));
        assert_row(ibk_engine_threads() == shared);
        assert_refused(IBK_E_CANCELLED, submit_get(4, "/"));
        assert_says("closed");
        assert_row(!cancel(1));
        take_after(30);
        for (size_t i = 0; i < desk.count; i++) {
            assert_row(desk.taken[i]->key == 3); /* answered before the close */
        }
        if (shared) {
            const struct ibk_http_request request = {.method = LITERAL("GET"), .url = url_of("/"), .timeout_ms = 20000};
            assert_ok(ibk_engine_submit(other, 5, &request, &err));
            assert_ok(ended(5));
            ibk_engine_client_close(other);
            ibk_engine_client_release(other);
        }
    }
}

static void test_clients_differ_and_share_connections(void **state)
{
    static const struct step steps[] = {STEP(ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"),
                                        STEP(ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc")};
    struct ibk_engine_client *small;
    (void)state;
    OPEN_DESK(steps);
    struct ibk_http_options options = bench.options;
    options.user_agent = "small/1";
    options.max_body_bytes = 2;
    assert_ok(ibk_engine_client_new(&options, desk.mailbox, &small, &err));
    const struct ibk_http_request request = {
        .method = LITERAL("GET"), .url = url_of("/"), .repeatable = true, .timeout_ms = 20000};
    assert_ok(submit_get(1, "/"));
    assert_ok(ended(1));
    sleep_ms(20); /* by then its handle is among the idle ones, where the other client must not take it */
    assert_ok(ibk_engine_submit(small, 2, &request, &err));
    assert_int_equal(ended(2), IBK_E_TOO_LARGE);
    assert_int_equal(server_connections(bench.server), 1);
    ibk_span seen = server_request(bench.server, 1);
    assert_true(ibk_span_find(seen, LITERAL("User-Agent: small/1\r\n")) < seen.len);
    ibk_engine_client_close(small);
    ibk_engine_client_release(small);
    assert_ok(submit_get(3, "/"));
    assert_ok(ended(3));
}

/* tasks */

/* A task of the test's: it waits in a hook where it is told to, until it may go on, and counts. */
struct errand {
    struct ibk_engine_task *task;
    ibk_span url;
    enum { NOWHERE, IN_PREPARE, IN_FINISHED } waits;
    atomic_bool is_there; /* it waits */
    atomic_bool may_go_on;
    ibk_code refuses;  /* what prepare gives */
    bool is_poor;      /* after that it has no memory for an outcome */
    int64_t again_ms;  /* what finished gives */
    atomic_int begun;  /* prepare was called so often, */
    atomic_int ended;  /* finished so often, */
    atomic_int failed; /* and with anything but a response so often */
    ibk_code code;     /* of the last outcome; IBK_E_NO_MEMORY where there was none */
    atomic_bool released;
};

static void wait_in(struct errand *errand, int hook)
{
    if ((int)errand->waits == hook) {
        atomic_store(&errand->is_there, true);
        while (!atomic_load(&errand->may_go_on)) {
            sleep_ms(1);
        }
    }
}

static ibk_code prepare(void *context, struct ibk_http_request *request, struct ibk_error *error)
{
    struct errand *errand = context;
    atomic_fetch_add(&errand->begun, 1);
    wait_in(errand, IN_PREPARE);
    *request = (struct ibk_http_request){.method = LITERAL("GET"), .url = errand->url, .repeatable = true, .timeout_ms = 20000};
    if (errand->is_poor) {
        ibk_test_fail_allocation(1);
    }
    return errand->refuses == IBK_OK ? IBK_OK : ibk_fail(error, errand->refuses, "prepare", "refused");
}

static int64_t finished(void *context, struct ibk_outcome *outcome)
{
    struct errand *errand = context;
    errand->code = outcome != NULL ? outcome->code : IBK_E_NO_MEMORY;
    atomic_fetch_add(&errand->failed, errand->code == IBK_OK ? 0 : 1);
    ibk_outcomes_free(outcome);
    atomic_fetch_add(&errand->ended, 1);
    wait_in(errand, IN_FINISHED);
    return errand->again_ms;
}

static void released(void *context)
{
    struct errand *errand = context;
    atomic_store(&errand->released, true);
}

static void new_errand(struct errand *errand)
{
    static const struct ibk_engine_hooks hooks = {prepare, finished, released};
    errand->url = url_of("/errand");
    assert_ok(ibk_engine_task_new(desk.client, &hooks, errand, &errand->task, &err));
}

/* Waits for one of an errand's flags, or for one of its counts to get so far. */
#define AWAIT(value, least)                                                                  \
    do {                                                                                     \
        for (int64_t start_ = now_ms(); (int)atomic_load(&(value)) < (least); sleep_ms(1)) { \
            if (now_ms() - start_ > 30000) {                                                 \
                fail_msg("%s%s", current_row(), #value);                                     \
            }                                                                                \
        }                                                                                    \
    } while (0)

static void test_tasks(void **state)
{
    struct errand errand = {.again_ms = 0};
    (void)state;
    open_plain_or_tls(false, NULL, 0);
    new_errand(&errand);
    ibk_engine_task_stop(errand.task);
    assert_ok(ibk_engine_task_schedule(errand.task, 60000, &err));
    assert_ok(ibk_engine_task_schedule(errand.task, 0, &err)); /* whatever was planned before */
    AWAIT(errand.ended, 3);
    ibk_engine_task_free(errand.task);
    AWAIT(errand.released, 1);
    assert_int_equal(errand.failed, 0);
    assert_true(server_requests(bench.server) >= 3);
    ibk_engine_task_free(NULL);
}

/* What happens to a task while one of its hooks runs on the engine's thread. */
static void test_tasks_that_are_stopped_meanwhile(void **state)
{
    static const struct {
        const char *name;
        int waits;
        enum { STOP, CLOSE, SCHEDULE } deed;
        ibk_code refuses;
        int64_t again_ms;
        int begun;
        int ended;
        size_t requests;
    } table[] = {
        {"stopped in prepare", IN_PREPARE, STOP, IBK_OK, 0, 1, 0, 0},
        {"stopped in a prepare that fails", IN_PREPARE, STOP, IBK_E_ARGUMENT, 0, 1, 0, 0},
        {"closed in prepare", IN_PREPARE, CLOSE, IBK_OK, 0, 1, 1, 0}, /* it hears that its request was not made */
        {"closed in a prepare that fails", IN_PREPARE, CLOSE, IBK_E_ARGUMENT, 0, 1, 1, 0},
        {"stopped in finished", IN_FINISHED, STOP, IBK_OK, 0, 1, 1, 1},
        {"closed in finished", IN_FINISHED, CLOSE, IBK_OK, 0, 1, 1, 1},
        {"scheduled in finished, which has enough", IN_FINISHED, SCHEDULE, IBK_OK, -1, 2, 2, 2},
        {"scheduled in finished, which wants more later", IN_FINISHED, SCHEDULE, IBK_OK, 60000, 2, 2, 2},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        struct errand errand = {.refuses = table[i].refuses, .again_ms = table[i].again_ms};
        struct ibk_engine_client *other;
        row("%s", table[i].name);
        errand.waits = table[i].waits;
        open_plain_or_tls(false, NULL, 0);
        assert_ok(ibk_engine_client_new(&bench.options, desk.mailbox, &other, &err)); /* the engine stays */
        new_errand(&errand);
        assert_ok(ibk_engine_task_schedule(errand.task, 0, &err));
        AWAIT(errand.is_there, 1);
        if (table[i].deed == STOP) {
            ibk_engine_task_stop(errand.task);
        } else if (table[i].deed == CLOSE) {
            ibk_engine_client_close(desk.client);
        } else {
            assert_ok(ibk_engine_task_schedule(errand.task, 0, &err));
        }
        atomic_store(&errand.may_go_on, true);
        AWAIT(errand.begun, table[i].begun);
        AWAIT(errand.ended, table[i].ended);
        sleep_ms(20);
        assert_row(errand.begun == table[i].begun && errand.ended == table[i].ended);
        assert_row(errand.failed == (table[i].ended > 0 && table[i].requests == 0 ? 1 : 0));
        assert_row(server_requests(bench.server) == table[i].requests);
        ibk_engine_task_free(errand.task);
        AWAIT(errand.released, 1);
        ibk_engine_client_close(other);
        ibk_engine_client_release(other);
    }
}

static void test_a_task_that_cannot_begin(void **state)
{
    struct errand errand = {.refuses = IBK_E_CRYPTO, .again_ms = -1};
    (void)state;
    open_plain_or_tls(false, NULL, 0);
    new_errand(&errand);
    assert_ok(ibk_engine_task_schedule(errand.task, 0, &err));
    AWAIT(errand.ended, 1);
    assert_int_equal(errand.code, IBK_E_CRYPTO);
    errand.is_poor = true;
    assert_ok(ibk_engine_task_schedule(errand.task, 0, &err));
    AWAIT(errand.ended, 2);
    assert_int_equal(errand.code, IBK_E_NO_MEMORY); /* and no outcome */
    errand.is_poor = false;
    errand.refuses = IBK_OK;
    assert_ok(ibk_engine_task_schedule(errand.task, 0, &err));
    AWAIT(errand.ended, 3);
    assert_int_equal(errand.code, IBK_OK);
    ibk_engine_task_free(errand.task);
    AWAIT(errand.released, 1);
}

/* Requests of tasks have no key: one that was submitted under 0 is another. */
static void test_cancel_leaves_tasks_alone(void **state)
{
    static const struct step steps[] = {{.deed = ANSWER, .bytes = BYTES(OK_ANSWER), .after_requests = 3}, STEP(ANSWER_STALL, "")};
    struct errand errand = {.again_ms = -1};
    (void)state;
    OPEN_DESK(steps);
    new_errand(&errand);
    assert_ok(ibk_engine_task_schedule(errand.task, 0, &err));
    await_requests(1);
    assert_false(cancel(0));
    assert_ok(submit_get(0, "/"));
    await_requests(2);
    assert_true(cancel(0));
    assert_ok(submit_get(1, "/"));
    assert_ok(ended(1));
    AWAIT(errand.ended, 1);
    assert_int_equal(errand.code, IBK_OK);
    ibk_engine_task_free(errand.task);
    AWAIT(errand.released, 1);
}

/* Closing a client takes its own tasks away, and no other's. */
static void test_close_leaves_others_tasks_alone(void **state)
{
    struct errand errands[2] = {{.again_ms = -1}, {.again_ms = -1}};
    struct ibk_engine_client *closed;
    (void)state;
    open_plain_or_tls(false, NULL, 0);
    new_errand(&errands[0]);
    closed = desk.client;
    desk.client = NULL;
    new_engine_client();
    new_errand(&errands[1]);
    for (size_t i = 0; i < COUNT(errands); i++) {
        assert_ok(ibk_engine_task_schedule(errands[i].task, 100, &err));
    }
    ibk_engine_client_close(closed);
    ibk_engine_client_release(closed);
    assert_refused(IBK_E_CANCELLED, ibk_engine_task_schedule(errands[0].task, 0, &err));
    AWAIT(errands[1].ended, 1);
    sleep_ms(20);
    assert_true(errands[0].begun == 0 && errands[1].code == IBK_OK);
    for (size_t i = 0; i < COUNT(errands); i++) {
        ibk_engine_task_free(errands[i].task);
        AWAIT(errands[i].released, 1);
    }
}

/* the thread */

static void test_comes_and_goes(void **state)
{
    (void)state;
    int fd;
    open_plain_or_tls(true, NULL, 0);
    assert_ok(ibk_mailbox_descriptor(desk.mailbox, &fd, &err));
    size_t descriptors = open_descriptors();
    for (int i = 0; i < 50; i++) {
        new_engine_client();
        assert_int_equal(ibk_engine_threads(), 1);
        assert_ok(submit_get(i, "/"));
        if (i % 2 == 0) {
            assert_ok(ended(i));
        }
        close_engine_client();
        assert_int_equal(ibk_engine_threads(), 0);
        take_after(0);
        forget_taken();
    }
    new_engine_client();
    assert_ok(submit_get(99, "/"));
    assert_ok(ended(99));
    while (open_descriptors() > descriptors + 2) { /* one connection has two ends here; the server closes the others' soon */
        sleep_ms(1);
    }
}

static void *use_the_client(void *argument)
{
    for (int64_t i = 0; i < 50; i++) {
        const struct ibk_http_request request = {
            .method = LITERAL("GET"), .url = *(ibk_span *)argument, .repeatable = true, .timeout_ms = 20000};
        struct ibk_error error;
        bool cancelled = false;
        if (ibk_engine_submit(desk.client, i, &request, &error) != IBK_OK ||
            (i % 3 == 0 && ibk_engine_cancel(desk.client, i, &cancelled, &error) != IBK_OK)) {
            return NULL;
        }
    }
    return argument;
}

static void *open_and_close(void *argument)
{
    for (int i = 0; i < 20; i++) {
        struct ibk_engine_client *client;
        struct ibk_error error;
        const struct ibk_http_request request = {
            .method = LITERAL("GET"), .url = *(ibk_span *)argument, .repeatable = true, .timeout_ms = 20000};
        if (ibk_engine_client_new(&bench.options, desk.mailbox, &client, &error) != IBK_OK ||
            ibk_engine_submit(client, 1000, &request, &error) != IBK_OK) {
            return NULL;
        }
        ibk_engine_client_close(client);
        ibk_engine_client_release(client);
    }
    return argument;
}

static void *take_now_and_then(void *argument)
{
    for (int i = 0; i < 50; i++) {
        struct ibk_outcome *list;
        struct ibk_error error;
        if (ibk_mailbox_wait(desk.mailbox, 1, NULL, &list, &error) != IBK_OK) {
            return NULL;
        }
        ibk_outcomes_free(list);
    }
    return argument;
}

static void test_threads_share_a_client(void **state)
{
    static void *(*const work[])(void *) = {use_the_client, use_the_client, open_and_close, open_and_close, take_now_and_then};
    pthread_t threads[COUNT(work)];
    (void)state;
    open_plain_or_tls(false, NULL, 0);
    ibk_span url = url_of("/");
    for (size_t i = 0; i < COUNT(work); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, work[i], &url), 0);
    }
    for (size_t i = 0; i < COUNT(work); i++) {
        void *result = NULL;
        (void)pthread_join(threads[i], &result);
        assert_non_null(result);
    }
    take_after(0);
    forget_taken();
    assert_ok(submit_get(2000, "/"));
    for (size_t seen = 0; seen == desk.count || desk.taken[seen]->key != 2000;) {
        seen += seen < desk.count ? 1 : 0;
        if (seen == desk.count) {
            take_until(desk.count + 1);
        }
    }
}

static volatile sig_atomic_t signals_seen;

static void count_signal(int number)
{
    (void)number;
    signals_seen = signals_seen + 1;
}

/* ThreadSanitizer takes it for the mistake that it is. */
#ifdef __SANITIZE_THREAD__
#define DESCRIPTORS_MAY_BE_CLOSED_BY_OTHERS false
#else
#define DESCRIPTORS_MAY_BE_CLOSED_BY_OTHERS true
#endif

/* The number of the socket with which somebody in this process is connected to the server, or -1. */
static int find_connection(void)
{
    for (int fd = 3; fd < 1024; fd++) {
        struct sockaddr_in peer;
        socklen_t size = sizeof peer;
        if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 && peer.sin_family == AF_INET &&
            ntohs(peer.sin_port) == server_port(bench.server)) {
            return fd;
        }
    }
    return -1;
}

/* Somebody closes a descriptor that is not theirs: that request fails, and the thread has its rest. */
static void test_a_descriptor_is_taken_away(void **state)
{
    static const struct step steps[] = {STEP(ANSWER_STALL, "")};
    struct errand errand = {.refuses = IBK_E_CRYPTO, .again_ms = -1};
    int fd;
    (void)state;
    if (!DESCRIPTORS_MAY_BE_CLOSED_BY_OTHERS) {
        skip();
    }
    OPEN_DESK(steps);
    new_errand(&errand);
    assert_ok(ibk_mailbox_descriptor(desk.mailbox, &fd, &err)); /* which would have that number, if it came later */
    assert_ok(submit_post(1, "/order"));
    await_requests(1);
    assert_int_equal(close(find_connection()), 0);
    assert_ok(ibk_engine_task_schedule(errand.task, 0, &err)); /* so that the thread looks */
    assert_int_equal(ended(1), IBK_E_OUTCOME_UNKNOWN);
    assert_true(err.sent);
    AWAIT(errand.ended, 1);
    assert_ok(submit_post(2, "/order"));
    assert_ok(ended(2));
    ibk_engine_task_free(errand.task);
    AWAIT(errand.released, 1);
}

static void test_nothing_is_accepted(void **state)
{
    (void)state;
    assert_null(ibk_mailbox_acquire(NULL));
    assert_null(ibk_engine_client_acquire(NULL));
    ibk_mailbox_release(NULL);
    ibk_engine_client_release(NULL);
    ibk_engine_client_close(NULL);
    assert_int_equal(ibk_engine_threads(), 0);
}

/* The engine's thread takes no signal away from the others. */
static void test_signals_are_for_others(void **state)
{
    struct sigaction action = {.sa_handler = count_signal};
    sigset_t one, before;
    (void)state;
    (void)sigemptyset(&one);
    (void)sigaddset(&one, SIGUSR1);
    open_plain_or_tls(false, NULL, 0);
    assert_ok(submit_get(1, "/"));
    assert_ok(ended(1));
    server_stop(bench.server); /* its threads would take the signal */
    bench.server = NULL;
    assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
    (void)pthread_sigmask(SIG_BLOCK, &one, &before);
    assert_int_equal(kill(getpid(), SIGUSR1), 0);
    sleep_ms(20);
    assert_int_equal(signals_seen, 0);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    assert_int_equal(signals_seen, 1);
    (void)signal(SIGUSR1, SIG_DFL);
}

/* fork and exit */

/* ThreadSanitizer does not know what to do with threads that a child of fork starts, so there the child starts none. */
#ifdef __SANITIZE_THREAD__
#define CHILDREN_MAY_START_THREADS false
#else
#define CHILDREN_MAY_START_THREADS true
#endif

/* What a child does with what it inherited, and whether an engine of its own works. 0 where all is well. */
static int be_a_child(ibk_span url, struct ibk_engine_task *task)
{
    const struct ibk_http_request request = {.method = LITERAL("GET"), .url = url, .repeatable = true, .timeout_ms = 20000};
    struct ibk_engine_client *client = desk.client;
    struct ibk_mailbox *mailbox = desk.mailbox;
    struct ibk_outcome *list;
    struct ibk_error error;
    bool cancelled;
    int fd;
    if (ibk_engine_submit(client, 1, &request, &error) != IBK_E_FORKED || error.sent ||
        ibk_engine_cancel(client, 1, &cancelled, &error) != IBK_E_FORKED ||
        ibk_mailbox_take(mailbox, &list, &error) != IBK_E_FORKED ||
        ibk_mailbox_wait(mailbox, 1000, NULL, &list, &error) != IBK_E_FORKED ||
        ibk_mailbox_descriptor(mailbox, &fd, &error) != IBK_E_FORKED ||
        ibk_engine_task_schedule(task, 0, &error) != IBK_E_FORKED || !ibk_engine_client_is_closed(client) ||
        ibk_engine_threads() != 0) {
        return 1;
    }
    size_t descriptors = open_descriptors();
    ibk_mailbox_wake(mailbox);
    ibk_engine_task_stop(task);
    ibk_engine_task_free(task);
    ibk_engine_client_close(client);
    ibk_engine_client_release(client);
    ibk_mailbox_release(mailbox);
    if (open_descriptors() != descriptors) {
        return 2;
    }
    if (!CHILDREN_MAY_START_THREADS) {
        return 0;
    }
    if (ibk_mailbox_new(&mailbox, &error) != IBK_OK ||
        ibk_engine_client_new(&bench.options, mailbox, &client, &error) != IBK_OK ||
        ibk_engine_submit(client, 1, &request, &error) != IBK_OK ||
        ibk_mailbox_wait(mailbox, 20000, NULL, &list, &error) != IBK_OK || list == NULL || list->code != IBK_OK) {
        return 3;
    }
    ibk_engine_client_close(client);
    return ibk_engine_threads() == 0 ? 0 : 4;
}

static void assert_child_does_well(pid_t child)
{
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0) {
        fail_msg("the child ended with %s %d", WIFEXITED(status) ? "status" : "signal",
                 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    }
}

static void test_fork(void **state)
{
    (void)state;
    for (int tls = 0; tls < 2; tls++) {
        struct errand errand = {.again_ms = -1};
        open_plain_or_tls(tls, NULL, 0);
        assert_ok(submit_get(1, "/"));
        assert_ok(ended(1));
        new_errand(&errand);
        assert_ok(ibk_engine_task_schedule(errand.task, 60000, &err));
        ibk_span url = url_of("/child");
        pid_t child = fork();
        if (child == 0) {
            int fault = be_a_child(url, errand.task);
            leave_child(fault == 0 && atomic_load(&errand.released) ? 5 : fault); /* its parent's it must leave alone */
        }
        assert_child_does_well(child);
        ibk_engine_task_free(errand.task);
        AWAIT(errand.released, 1);
        assert_ok(submit_get(2, "/"));
        assert_ok(ended(2));
        assert_true(taken(2)->response.reused_connection);
        assert_int_equal(server_connections(bench.server), CHILDREN_MAY_START_THREADS ? 2 : 1);
    }
}

static atomic_bool keep_going;

/* Transfers over TLS without a pause. */
static void *keep_the_engine_busy(void *argument)
{
    const struct ibk_http_request request = {
        .method = LITERAL("GET"), .url = *(ibk_span *)argument, .repeatable = true, .timeout_ms = 20000};
    while (atomic_load(&keep_going)) {
        struct ibk_outcome *list = NULL;
        struct ibk_error error;
        if (ibk_engine_submit(desk.client, 1, &request, &error) != IBK_OK ||
            ibk_mailbox_wait(desk.mailbox, 20000, NULL, &list, &error) != IBK_OK || list == NULL || list->code != IBK_OK) {
            ibk_outcomes_free(list);
            return NULL;
        }
        ibk_outcomes_free(list);
    }
    return argument;
}

static void test_fork_while_busy(void **state)
{
    pthread_t thread;
    void *result = NULL;
    (void)state;
    struct errand errand = {.again_ms = -1};
    open_plain_or_tls(true, NULL, 0);
    new_errand(&errand);
    ibk_span url = url_of("/");
    atomic_store(&keep_going, true);
    assert_int_equal(pthread_create(&thread, NULL, keep_the_engine_busy, &url), 0);
    for (int i = 0; i < 20; i++) {
        pid_t child = fork();
        if (child == 0) {
            leave_child(be_a_child(url, errand.task));
        }
        assert_child_does_well(child);
    }
    atomic_store(&keep_going, false);
    (void)pthread_join(thread, &result);
    assert_non_null(result);
    ibk_engine_task_free(errand.task);
}

/* exit() with an engine at work ends it before OpenSSL is cleaned up. */
static void test_exit_while_busy(void **state)
{
    static const struct step steps[] = {STEP(ANSWER_STALL, ""), STEP(ANSWER_STALL, "HTTP/1.1 200 OK\r\nX: ")};
    (void)state;
    if (!CHILDREN_MAY_START_THREADS) {
        skip();
    }
    open_plain_or_tls(true, steps, COUNT(steps));
    ibk_span url = url_of("/");
    (void)fflush(NULL);
    int64_t start = now_ms();
    pid_t child = fork();
    if (child == 0) {
        const struct ibk_http_request request = {.method = LITERAL("GET"), .url = url, .repeatable = true, .timeout_ms = 60000};
        struct ibk_engine_client *client;
        struct ibk_mailbox *mailbox;
        if (ibk_mailbox_new(&mailbox, &err) != IBK_OK ||
            ibk_engine_client_new(&bench.options, mailbox, &client, &err) != IBK_OK) {
            leave_child(1);
        }
        for (int64_t key = 0; key < 3; key++) {
            if (ibk_engine_submit(client, key, &request, &err) != IBK_OK) {
                leave_child(2);
            }
        }
        sleep_ms(50); /* until they are under way */
        exit(0);
    }
    assert_child_does_well(child);
    assert_true(now_ms() - start < 20000); /* its requests have a minute */
}

/* What a process does after the engine has ended with it: registered before the engine was, so called after that. */
static void (*last_words)(void);

static void say_last_words(void)
{
    if (last_words != NULL) {
        last_words();
    }
}

/* In that child. The second waits in its hook while the process begins to end; the first is due then, the third much later. */
static struct errand errands_at_exit[] = {
    {.refuses = IBK_E_CRYPTO, .waits = IN_PREPARE}, {.refuses = IBK_E_CRYPTO, .waits = IN_PREPARE}, {.again_ms = 0}};
enum { ALL_IS_WELL = 99 };

static void try_everything_once_more(void)
{
    const struct ibk_http_request request = {.method = LITERAL("GET"), .url = LITERAL("https://api.test/"), .timeout_ms = 1000};
    struct ibk_engine_client *client = NULL;
    bool cancelled = true;
    bool good = ibk_engine_threads() == 0 && ibk_engine_client_is_closed(desk.client) &&
                ibk_engine_submit(desk.client, 2, &request, &err) == IBK_E_CANCELLED &&
                ibk_engine_submit(desk.client, 2, &request, NULL) == IBK_E_CANCELLED &&
                ibk_engine_cancel(desk.client, 1, &cancelled, &err) == IBK_OK && !cancelled &&
                ibk_engine_task_schedule(errands_at_exit[2].task, 0, &err) == IBK_E_CANCELLED &&
                ibk_engine_client_new(&bench.options, desk.mailbox, &client, NULL) == IBK_E_CANCELLED && client == NULL;
    for (size_t i = 0; i < COUNT(errands_at_exit); i++) {
        struct errand *errand = &errands_at_exit[i];
        int times = i < 2 ? 1 : 0;
        good = good && atomic_load(&errand->begun) == times && atomic_load(&errand->ended) == times;
        ibk_engine_task_free(errand->task);
        good = good && atomic_load(&errand->released);
    }
    ibk_engine_client_close(desk.client);
    ibk_engine_client_release(desk.client);
    leave_child(good ? ALL_IS_WELL : 1);
}

static void *let_go_soon(void *argument)
{
    struct errand *errand = argument;
    sleep_ms(100);
    atomic_store(&errand->may_go_on, true);
    return NULL;
}

static void exit_with_tasks(void)
{
    struct errand *errands = errands_at_exit;
    pthread_t thread;
    (void)alarm(30);
    if (ibk_mailbox_new(&desk.mailbox, &err) != IBK_OK ||
        ibk_engine_client_new(&bench.options, desk.mailbox, &desk.client, &err) != IBK_OK) {
        leave_child(2);
    }
    for (size_t i = 0; i < COUNT(errands_at_exit); i++) {
        new_errand(&errands[i]);
    }
    /* What is planned while the first waits is due in one go with what the first plans as it ends. */
    if (ibk_engine_task_schedule(errands[0].task, 0, &err) != IBK_OK) {
        leave_child(3);
    }
    AWAIT(errands[0].is_there, 1);
    if (ibk_engine_task_schedule(errands[1].task, 0, &err) != IBK_OK ||
        ibk_engine_task_schedule(errands[2].task, 60000, &err) != IBK_OK) {
        leave_child(4);
    }
    atomic_store(&errands[0].may_go_on, true);
    AWAIT(errands[1].is_there, 1);
    if (pthread_create(&thread, NULL, let_go_soon, &errands[1]) != 0) {
        leave_child(5);
    }
    last_words = try_everything_once_more;
    exit(0);
}

/* exit() lets a hook that is running come to its end, and begins nothing more; later calls are refused. */
static void test_exit_with_tasks(void **state)
{
    int status = -1;
    (void)state;
    if (!CHILDREN_MAY_START_THREADS) {
        skip();
    }
    serve(NULL, 0);
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        exit_with_tasks();
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), ALL_IS_WELL);
}

/* mailboxes */

static void test_batches(void **state)
{
    int fd;
    (void)state;
    open_plain_or_tls(false, NULL, 0);
    assert_ok(ibk_mailbox_descriptor(desk.mailbox, &fd, &err));
    assert_false(is_readable(fd));
    for (int64_t key = 0; key < 20; key++) {
        assert_ok(submit_get(key, "/"));
    }
    for (size_t count = 0; count < 20; sleep_ms(1)) { /* until all can be had by one take */
        struct ibk_outcome *list;
        count = 0;
        assert_ok(ibk_mailbox_take(desk.mailbox, &list, &err));
        assert_false(is_readable(fd));
        for (const struct ibk_outcome *outcome = list; outcome != NULL; outcome = outcome->next) {
            count++;
        }
        ibk_mailbox_put_back(desk.mailbox, list);
    }
    assert_true(is_readable(fd));
    take_after(0);
    assert_int_equal(desk.count, 20);
    assert_false(is_readable(fd));
    assert_ok(submit_get(20, "/"));
    struct pollfd end = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&end, 1, 5000), 1);
    take_after(0);
    assert_ok(taken(20)->code);
    assert_false(is_readable(fd));
    take_after(0);
    assert_int_equal(desk.count, 21);
}

static int say_stop(void *context)
{
    (*(int *)context)++;
    return 1;
}

static void *wake_soon(void *mailbox)
{
    sleep_ms(30);
    ibk_mailbox_wake(mailbox);
    return NULL;
}

static void test_waiting(void **state)
{
    struct ibk_outcome *list;
    int asked = 0, fd;
    const struct ibk_http_hooks hooks = {.interrupt = say_stop, .context = &asked};
    pthread_t thread;
    (void)state;
    assert_ok(ibk_mailbox_new(&desk.mailbox, &err));
    int64_t start = now_ms();
    assert_ok(ibk_mailbox_wait(desk.mailbox, 120, NULL, &list, &err));
    assert_null(list);
    assert_true(now_ms() - start >= 120);
    assert_refused(IBK_E_INTERRUPTED, ibk_mailbox_wait(desk.mailbox, -1, &hooks, &list, &err));
    assert_int_equal(asked, 1);
    for (int64_t timeout = -1; timeout < 40000; timeout += 30000) {
        start = now_ms();
        assert_int_equal(pthread_create(&thread, NULL, wake_soon, desk.mailbox), 0);
        assert_ok(ibk_mailbox_wait(desk.mailbox, timeout, NULL, &list, &err));
        assert_null(list);
        (void)pthread_join(thread, NULL);
        assert_true(now_ms() - start < 20000);
    }
    /* A wake-up waits for the wait that it ends, and is used up by it. */
    ibk_mailbox_wake(desk.mailbox);
    ibk_mailbox_wake(desk.mailbox);
    assert_ok(ibk_mailbox_descriptor(desk.mailbox, &fd, &err));
    assert_true(is_readable(fd));
    assert_ok(ibk_mailbox_wait(desk.mailbox, INT64_MAX, NULL, &list, &err));
    assert_null(list);
    assert_false(is_readable(fd));
    assert_ok(ibk_mailbox_wait(desk.mailbox, 0, NULL, &list, &err));
    assert_null(list);
    ibk_mailbox_wake(desk.mailbox);
    ibk_mailbox_put(desk.mailbox, ibk_outcome_new(1, false));
    take_until(1); /* what is there goes first */
    assert_true(is_readable(fd));
    take_after(0);
    assert_false(is_readable(fd));
}

static int say_go_on(void *context)
{
    (*(int *)context)++;
    return 0;
}

/* A wait goes on until its time where the hook does not end it, or there is none. */
static void test_waiting_on(void **state)
{
    struct ibk_outcome *list;
    int asked = 0;
    const struct ibk_http_hooks hooks[] = {{.interrupt = say_go_on, .context = &asked}, {.interrupt = NULL}};
    (void)state;
    assert_ok(ibk_mailbox_new(&desk.mailbox, &err));
    for (size_t i = 0; i < COUNT(hooks); i++) {
        int64_t start = now_ms();
        assert_ok(ibk_mailbox_wait(desk.mailbox, 180, &hooks[i], &list, &err));
        assert_null(list);
        assert_true(now_ms() - start >= 180);
        assert_in_range(asked, 1, 5);
    }
}

static void test_no_descriptor(void **state)
{
    struct ibk_outcome *list;
    struct rlimit before, none;
    int fd, next = dup(0);
    (void)state;
    assert_ok(ibk_mailbox_new(&desk.mailbox, &err));
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = (rlim_t)next;
    (void)close(next);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    poison_error();
    ibk_code code = ibk_mailbox_descriptor(desk.mailbox, &fd, &err);
    ibk_code waited = ibk_mailbox_wait(desk.mailbox, 0, NULL, &list, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_failed(IBK_E_LIMIT, false, code);
    assert_says("too many open files");
    assert_true(err.domain == IBK_DOMAIN_SYSTEM && err.native == EMFILE);
    assert_true(fd == -1 && waited == IBK_E_LIMIT && list == NULL);
    assert_ok(ibk_mailbox_descriptor(desk.mailbox, &fd, &err));
    assert_true(fd >= 0);
}

static void test_the_latest_only(void **state)
{
    struct ibk_outcome *list;
    int fd;
    (void)state;
    assert_ok(ibk_mailbox_new(&desk.mailbox, &err));
    assert_ok(ibk_mailbox_descriptor(desk.mailbox, &fd, &err));
    for (int round = 0; round < 3; round++) {
        for (int64_t key = 0; key < 3; key++) {
            struct ibk_outcome *outcome = ibk_outcome_new(key, key != 1);
            outcome->response.status = 100 + round;
            ibk_mailbox_put(desk.mailbox, outcome);
        }
    }
    ibk_mailbox_retract(desk.mailbox, 1); /* not one of those */
    ibk_mailbox_retract(desk.mailbox, 7);
    take_after(0);
    assert_int_equal(desk.count, 5);
    assert_int_equal(taken(0)->response.status, 102);
    assert_int_equal(taken(2)->response.status, 102);
    assert_int_equal(desk.taken[4]->key, 2); /* the latest came last */
    ibk_mailbox_put(desk.mailbox, ibk_outcome_new(5, true));
    ibk_mailbox_retract(desk.mailbox, 5);
    assert_false(is_readable(fd));
    /* What is put back comes first again. */
    for (int64_t key = 10; key < 13; key++) {
        ibk_mailbox_put(desk.mailbox, ibk_outcome_new(key, false));
    }
    assert_ok(ibk_mailbox_take(desk.mailbox, &list, &err));
    ibk_mailbox_put(desk.mailbox, ibk_outcome_new(13, false));
    ibk_mailbox_put_back(desk.mailbox, list);
    ibk_mailbox_put(desk.mailbox, ibk_outcome_new(14, false));
    forget_taken();
    take_after(0);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(desk.taken[i]->key, 10 + (int64_t)i);
    }
    assert_int_equal(desk.count, 5);
    ibk_mailbox_put(desk.mailbox, ibk_outcome_new(1, false)); /* for the mailbox to free */
}

/* memory */

static void test_memory_runs_out(void **state)
{
    (void)state;
    bench.options.proxy = "http://proxy.test";
    open_plain_or_tls(false, NULL, 0);
    bool done = false;
    for (unsigned long n = 1; !done; n++) {
        row("client_new, allocation %lu", n);
        close_engine_client();
        ibk_test_fail_allocation(n);
        poison_error();
        ibk_code code = ibk_engine_client_new(&bench.options, desk.mailbox, &desk.client, &err);
        ibk_test_fail_allocation(0);
        done = code == IBK_OK;
        assert_row(done || (code == IBK_E_NO_MEMORY && desk.client == NULL && n < 100));
        if (!done) {
            ibk_test_fail_allocation(n);
            assert_row(ibk_engine_client_new(&bench.options, desk.mailbox, &desk.client, NULL) == IBK_E_NO_MEMORY);
            ibk_test_fail_allocation(0);
        }
        assert_row(done || ibk_engine_threads() == 0);
    }
    for (int repeatable = 0; repeatable < 2; repeatable++) {
        unsigned long n = 1;
        for (done = false; !done; n++) {
            row("submit, allocation %lu", n);
            new_engine_client();
            size_t before = server_requests(bench.server);
            ibk_test_fail_allocation(n);
            ibk_code code = submit(1, "PUT", "/", "x", repeatable);
            bool refused = code != IBK_OK;
            code = refused ? code : ended(1);
            ibk_test_fail_allocation(0);
            bool sent = server_requests(bench.server) > before;
            done = code == IBK_OK;
            assert_row(done || code == (sent && !repeatable ? IBK_E_OUTCOME_UNKNOWN : IBK_E_NO_MEMORY));
            assert_row(done || err.sent == sent);
            assert_ok(submit_get(2, "/"));
            assert_ok(ended(2));
        }
        assert_true(n > 6);
    }
}

/* The list of what to poll has room for 64 at first, and grows when a request begins that might need more. */
static void test_memory_runs_out_with_many_under_way(void **state)
{
    enum { MANY = 62 };
    struct step steps[MANY];
    bool done = false;
    (void)state;
    for (size_t i = 0; i < COUNT(steps); i++) {
        steps[i] = (struct step){.deed = ANSWER_STALL};
    }
    for (unsigned long n = 1; !done; n++) {
        row("allocation %lu", n);
        OPEN_DESK(steps);
        for (int64_t key = 1; key <= MANY; key++) {
            assert_ok(submit_get(key, "/"));
            await_requests((size_t)key);
        }
        ibk_test_fail_allocation(n);
        ibk_code code = submit_post(1000, "/order");
        code = code != IBK_OK ? code : ended(1000);
        ibk_test_fail_allocation(0);
        bool sent = server_requests(bench.server) > MANY;
        done = code == IBK_OK;
        assert_row(done || (code == (sent ? IBK_E_OUTCOME_UNKNOWN : IBK_E_NO_MEMORY) && err.sent == sent));
        assert_row(n < 100);
    }
}

/* Where many begin in one go it grows when there is more to poll; what has no place there ends by its time, and no other. */
static void test_memory_runs_out_while_many_begin(void **state)
{
    enum { MANY = 80, ALLOCATIONS = 6 }; /* of the lists of sockets and of what to poll: each grows by doubling */
    (void)state;
    bench.timeout_ms = 2000;
    for (unsigned long n = 1; n <= ALLOCATIONS; n++) {
        struct errand errand = {.refuses = IBK_E_CRYPTO, .again_ms = -1, .waits = IN_PREPARE};
        size_t failed = 0;
        row("allocation %lu", n);
        open_plain_or_tls(false, NULL, 0);
        new_errand(&errand);
        assert_ok(ibk_engine_task_schedule(errand.task, 0, &err));
        AWAIT(errand.is_there, 1);
        for (int64_t key = 0; key < MANY; key++) {
            assert_ok(submit_get(key, "/"));
        }
        ibk_engine_task_stop(errand.task); /* so that it needs no memory for an outcome */
        ibk_test_fail_allocation(n);
        atomic_store(&errand.may_go_on, true);
        take_until(MANY);
        ibk_test_fail_allocation(0);
        for (int64_t key = 0; key < MANY; key++) {
            if (taken(key)->code != IBK_OK) {
                look_at_error(key);
                assert_row(err.code == IBK_E_TIMEOUT || err.code == IBK_E_NO_MEMORY);
                failed++;
            }
        }
        assert_row(failed <= 1);
        ibk_engine_task_free(errand.task);
        AWAIT(errand.released, 1);
    }
    forget_taken();
    assert_ok(submit_get(1000, "/"));
    assert_ok(ended(1000));
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        engine_test(test_answers),
        engine_test(test_many_in_flight),
        engine_test(test_the_request_is_copied),
        engine_test(test_requests_refused),
        engine_test(test_requests_without_end),
        engine_test(test_no_authorities),
        engine_test(test_the_same_failures_as_blocking),
        engine_test(test_nobody_there),
        engine_test(test_stalled_lookup),
        engine_test(test_no_silent_replay),
        engine_test(test_kept_connection_died),
        engine_test(test_all_kept_connections_died),
        engine_test(test_fresh_connection_times_out),
        engine_test(test_timeouts_of_many),
        engine_test(test_more_than_a_host_gets),
        engine_test(test_cancel),
        engine_test(test_cancel_takes_all_of_a_key_and_no_other),
        engine_test(test_close_with_transfers_under_way),
        engine_test(test_clients_differ_and_share_connections),
        engine_test(test_tasks),
        engine_test(test_tasks_that_are_stopped_meanwhile),
        engine_test(test_a_task_that_cannot_begin),
        engine_test(test_cancel_leaves_tasks_alone),
        engine_test(test_close_leaves_others_tasks_alone),
        engine_test(test_comes_and_goes),
        engine_test(test_threads_share_a_client),
        engine_test(test_a_descriptor_is_taken_away),
        engine_test(test_nothing_is_accepted),
        engine_test(test_signals_are_for_others),
        engine_test(test_fork),
        engine_test(test_fork_while_busy),
        engine_test(test_exit_while_busy),
        engine_test(test_exit_with_tasks),
        engine_test(test_batches),
        engine_test(test_waiting),
        engine_test(test_waiting_on),
        engine_test(test_no_descriptor),
        engine_test(test_the_latest_only),
        engine_test(test_memory_runs_out),
        engine_test(test_memory_runs_out_with_many_under_way),
        engine_test(test_memory_runs_out_while_many_begin),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    if (atexit(say_last_words) != 0) {
        return 1;
    }
    return cmocka_run_group_tests(tests, make_certificates, drop_certificates);
}
