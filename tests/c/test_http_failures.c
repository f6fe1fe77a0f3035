/* test_http_failures.c - csrc/http when things go wrong: what is reported, what is never sent twice, what ends a transfer. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "support_http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
/* At once is within 50 ms on a quiet machine. What it must not be is the next tick without a hook, a second later. */
#define PROMPT_MS 800
#define SECRET "?oauth_token=abcdef0123456789"

/* The ways in which an exchange breaks after the request was sent. The answers' text must not get into the error's. */
static const struct {
    const char *name;
    const char *says;
    struct step step;
} broken[] = {
    {"closed without an answer", "closed", STEP(ANSWER_CLOSE, "")},
    {"reset without an answer", "lost", STEP(ANSWER_RESET, "")},
    {"reset inside the request", "lost", {ANSWER_RESET, {NULL, 0}, {NULL, 0}, 20, 0, 0, 0}},
    {"closed in the status line", "", STEP(ANSWER_CLOSE, "HTTP/1.1 2")},
    {"closed in the headers", "", STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nX: leaked-by-server")},
    {"reset in the headers", "", {ANSWER_RESET, BYTES("HTTP/1.1 200 OK\r\nX: leaked-by-server\r\n"), {NULL, 0}, 0, 20, 0, 0}},
    {"body cut off", "cut off", STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nleaked-by-server")},
    {"reset in the body",
     "lost",
     {ANSWER_RESET, BYTES("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nleaked-by-server"), {NULL, 0}, 0, 20, 0, 0}},
    {"chunk cut off", "cut off", STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nleaked-")},
    {"chunk size is no number", "",
     STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nleaked-by-server\r\n")},
    {"no HTTP", "not HTTP", STEP(ANSWER_CLOSE, "leaked-by-server leaked-by-server\r\n\r\n")},
    {"SSH", "not HTTP", STEP(ANSWER_CLOSE, "SSH-2.0-leaked-by-server\r\n")},
    {"a status of one digit", "not HTTP", STEP(ANSWER_CLOSE, "HTTP/21.10 0 OK\r\nContent-Length: 0\r\n\r\n")},
    {"no status", "not HTTP", STEP(ANSWER_CLOSE, "HTTP/x leaked-by-server\r\nContent-Length: 0\r\n\r\n")}, /* libcurl: 200 */
    {"a status in four digits", "not HTTP", STEP(ANSWER_CLOSE, "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n")},
    {"another version", "not HTTP", STEP(ANSWER_CLOSE, "HTTP/3.1 200 OK\r\nContent-Length: 0\r\n\r\n")},
    {"HTTP/0.9", "not HTTP", STEP(ANSWER_CLOSE, "<html>leaked-by-server</html>")},
    {"NUL in a header", "", STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nX: leaked-by\0server\r\nContent-Length: 0\r\n\r\n")},
    {"header without colon", "", STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nleaked-by-server\r\nContent-Length: 0\r\n\r\n")},
    {"length is no number", "not HTTP", STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: leaked-by-server\r\n\r\n")},
    {"unknown compression", "",
     STEP(ANSWER, "HTTP/1.1 200 OK\r\nContent-Encoding: leaked-by-server\r\nContent-Length: 2\r\n\r\nok")},
    {"broken compression", "decompress",
     STEP(ANSWER, "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 16\r\n\r\nleaked-by-server")},
    {"a first header that goes on from none", "",
     STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\n leaked: by-server\r\nContent-Length: 0\r\n\r\n")},
    {"only an interim answer", "", STEP(ANSWER_CLOSE, "HTTP/1.1 100 Continue\r\n\r\n")},
};

static void test_exchanges_that_break(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(broken); i++) {
        for (int repeatable = 0; repeatable < 2; repeatable++) {
            row("%s, %s", broken[i].name, repeatable ? "repeatable" : "once");
            serve(&broken[i].step, 1);
            ibk_code code = send_it("PUT", "/v1/orders" SECRET, "leaked-by-client", repeatable);
            assert_failed(repeatable ? IBK_E_PROTOCOL : IBK_E_OUTCOME_UNKNOWN, true, code);
            assert_says(broken[i].says, "PUT", "127.0.0.1:", "/v1/orders", " ms");
            assert_hides(ibk_span_text(SECRET));
            assert_hides(ibk_span_text("leaked-by-server"));
            assert_hides(ibk_span_text("leaked-by-client"));
            assert_row(err.domain == IBK_DOMAIN_CURL && err.native != 0);
            assert_row(server_requests(bench.server) == 1);
            assert_usable();
        }
    }
}

/* libcurl 7.84 to 8.1 goes on from the last header of the answer before, in memory that is freed: the sanitizer sees it. */
static void test_a_header_that_goes_on_from_the_answer_before(void **state)
{
    static const struct step steps[] = {
        STEP(ANSWER, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Last: a header of some length\r\n\r\nok"),
        STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\n and: on it goes\r\nContent-Length: 2\r\n\r\nok"),
    };
    (void)state;
    serve(steps, COUNT(steps));
    assert_int_equal(send_it("GET", "/", NULL, 1), IBK_OK);
    assert_failed(IBK_E_PROTOCOL, true, send_it("GET", "/", NULL, 1));
    assert_int_equal(server_requests(bench.server), 2);
    assert_usable();
}

/* A reused connection dies under the second request, which the server has read in full: libcurl would send it again. */
static void test_no_silent_replay(void **state)
{
    static const enum deed deeds[] = {ANSWER_CLOSE, ANSWER_RESET};
    (void)state;
    for (size_t i = 0; i < COUNT(deeds); i++) {
        const struct step steps[] = {STEP(ANSWER, OK_ANSWER), {.deed = deeds[i]}};
        row("%s", deeds[i] == ANSWER_CLOSE ? "closed" : "reset");
        SERVE(steps);
        assert_ok(post("/first", NULL));
        assert_failed(IBK_E_OUTCOME_UNKNOWN, true, post("/order", "{\"quantity\":1}"));
        assert_says("connection lost", "/order");
        assert_row(server_requests(bench.server) == 2);
        assert_usable();
        assert_row(server_requests(bench.server) == 3);

        row("%s, repeatable", deeds[i] == ANSWER_CLOSE ? "closed" : "reset");
        SERVE(steps);
        assert_ok(get("/first"));
        assert_failed(IBK_E_PROTOCOL, true, get("/second"));
        assert_says("connection lost", "/second");
        assert_row(server_requests(bench.server) == 2);
        assert_usable();
    }
}

static void *stop_server_soon(void *argument)
{
    struct server *server = argument;
    while (server_requests(server) < 2) {
        sleep_ms(1);
    }
    server_stop(server);
    return NULL;
}

/* The replay that libcurl would try cannot even connect: the request was sent all the same. */
static void test_no_replay_without_server(void **state)
{
    static const struct step steps[] = {STEP(ANSWER, OK_ANSWER), STEP(ANSWER_STALL, "")};
    (void)state;
    for (int repeatable = 0; repeatable < 2; repeatable++) {
        SERVE(steps);
        unsigned int port = server_port(bench.server);
        assert_ok(get("/"));
        struct ibk_http_request request = {.method = ibk_span_text("PUT"),
                                           .url = formatted("http://127.0.0.1:%u/", port),
                                           .repeatable = repeatable == 1,
                                           .timeout_ms = 2000};
        pthread_t killer;
        assert_int_equal(pthread_create(&killer, NULL, stop_server_soon, bench.server), 0);
        ibk_code code = send_request(&request);
        (void)pthread_join(killer, NULL);
        bench.server = NULL;
        assert_failed(repeatable ? IBK_E_PROTOCOL : IBK_E_OUTCOME_UNKNOWN, true, code);
    }
}

/* A port where nobody listens: one that was given out and taken back. */
static unsigned int dead_port(void)
{
    struct server_setup setup = {0};
    struct server *server = server_start(&setup);
    unsigned int port = server_port(server);
    server_stop(server);
    return port;
}

static void test_nobody_there(void **state)
{
    (void)state;
    serve(NULL, 0);
    struct ibk_http_request request = {
        .method = ibk_span_text("POST"), .url = formatted("http://127.0.0.1:%u/x" SECRET, dead_port()), .timeout_ms = 2000};
    assert_failed(IBK_E_CONNECT, false, send_request(&request));
    assert_says("refused", "POST 127.0.0.1:", "/x");
    assert_hides(ibk_span_text(SECRET));
    request.url = ibk_span_text("https://nowhere.test/x" SECRET);
    assert_failed(IBK_E_RESOLVE, false, send_request(&request));
    assert_says("not found", "nowhere.test:443/x");
    assert_hides(ibk_span_text(SECRET));
    assert_usable();
}

static void test_reset_at_once(void **state)
{
    (void)state;
    serve_with((struct server_setup){.greeting = RESET_AT_ONCE});
    /* Whether the request was written before the reset came is a race, so the answer has to be the careful one. */
    ibk_code code = post("/", "x");
    assert_true(code == IBK_E_OUTCOME_UNKNOWN || code == IBK_E_CONNECT);
    assert_int_equal(err.sent, code == IBK_E_OUTCOME_UNKNOWN);
}

static void test_timeouts(void **state)
{
    static const struct {
        const char *name;
        const char *says;
        struct step step;
    } table[] = {
        {"no answer", "waiting for the answer", STEP(ANSWER_STALL, "")},
        {"half a status line", "the answer", STEP(ANSWER_STALL, "HTTP/1.1 20")},
        {"half a header", "reading the answer", STEP(ANSWER_STALL, "HTTP/1.1 200 OK\r\nX: ")},
        {"half a body", "reading the answer", STEP(ANSWER_STALL, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")},
        {"dripping body",
         "reading the answer",
         {ANSWER_AGAIN, BYTES("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"), BYTES("x"), 0, 10, 0, 0}},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        for (int repeatable = 0; repeatable < 2; repeatable++) {
            row("%s, %s", table[i].name, repeatable ? "repeatable" : "once");
            serve(&table[i].step, 1);
            bench.timeout_ms = 150;
            int64_t start = now_ms();
            ibk_code code = send_it("POST", "/x" SECRET, "body", repeatable);
            int64_t took = now_ms() - start;
            bench.timeout_ms = 5000;
            assert_failed(repeatable ? IBK_E_TIMEOUT : IBK_E_OUTCOME_UNKNOWN, true, code);
            assert_says("timed out", table[i].says, "POST 127.0.0.1:", "/x");
            assert_hides(ibk_span_text(SECRET));
            assert_row(took >= 140 && took < 400);
            assert_row(server_requests(bench.server) == 1);
            assert_usable();
        }
    }
}

/* The server takes the first bytes and no more, until after the time-out. */
static void test_timeout_while_sending(void **state)
{
    static const struct step steps[] = {{.deed = ANSWER_RESET, .read_only = 20, .pause_ms = 600}};
    (void)state;
    SERVE(steps);
    struct ibk_http_request request = {
        .method = ibk_span_text("POST"),
        .url = url_of("/x" SECRET),
        .body = repeated("0123456789abcdef", 2u << 20), /* more than the system keeps on its way */
        .timeout_ms = 200,
    };
    assert_failed(IBK_E_OUTCOME_UNKNOWN, true, send_request(&request));
    assert_says("timed out while sending the request", "POST 127.0.0.1:", "/x");
    assert_int_equal(server_requests(bench.server), 1);
    assert_usable();
}

/* A listener whose queue is full: further connections get no reply. */
struct full_listener {
    int listener;
    int waiting[8];
    unsigned int port;
};

static void fill_listener(struct full_listener *full)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    full->listener = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(full->listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(full->listener, 0), 0);
    assert_int_equal(getsockname(full->listener, (struct sockaddr *)&address, &size), 0);
    for (size_t i = 0; i < COUNT(full->waiting); i++) {
        full->waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)connect(full->waiting[i], (struct sockaddr *)&address, size);
    }
    full->port = ntohs(address.sin_port);
}

static void empty_listener(const struct full_listener *full)
{
    for (size_t i = 0; i < COUNT(full->waiting); i++) {
        (void)close(full->waiting[i]);
    }
    (void)close(full->listener);
}

/* One certificate instead of the system's hundred and more, which take 35 ms to load. */
static void use_small_ca_file(void)
{
    struct authority authority;
    authority_init(&authority, "Test CA");
    bench.options.ca_file = scratch_file("ca.pem");
    assert_true(authority_write(&authority, bench.options.ca_file));
    authority_clean(&authority);
}

/* Where a request stalls before it is sent, and what is said about it. */
struct stalled {
    const char *says;
    ibk_span url;
};
enum { STALLED = 3 };

static void stall(struct full_listener *full, struct stalled out[STALLED])
{
    use_small_ca_file();
    serve_with((struct server_setup){.greeting = STALL_AT_ONCE});
    fill_listener(full);
    out[0] = (struct stalled){"connecting", formatted("http://127.0.0.1:%u/", full->port)};
    out[1] = (struct stalled){"TLS", formatted("https://127.0.0.1:%u/", server_port(bench.server))};
    out[2] = (struct stalled){"looking up", ibk_span_text("https://stalled.test/")};
}

static void test_connect_timeouts(void **state)
{
    struct full_listener full;
    struct stalled table[STALLED];
    struct ibk_http_request request = {.method = ibk_span_text("POST"), .timeout_ms = 5000};
    (void)state;
    bench.options.connect_timeout_ms = 150;
    stall(&full, table);
    for (size_t i = 0; i < COUNT(table); i++) {
        row("%s", table[i].says);
        request.url = table[i].url;
        int64_t start = now_ms();
        assert_failed(IBK_E_TIMEOUT, false, send_request(&request));
        assert_row(now_ms() - start < 3000); /* the time-out of the whole is at 5000 */
        assert_says("timed out", table[i].says);
    }
    empty_listener(&full);
}

/* What the hooks below count, and when they say stop. */
static struct {
    int asked;
    int stop_after;
    int64_t last_ms;
    int64_t longest_gap_ms;
} watch;
static volatile sig_atomic_t signalled;

static int ask(void *context)
{
    int64_t now = now_ms();
    assert_ptr_equal(context, &watch);
    if (now - watch.last_ms > watch.longest_gap_ms) {
        watch.longest_gap_ms = now - watch.last_ms;
    }
    watch.last_ms = now;
    watch.asked++;
    return watch.asked > watch.stop_after;
}

static void set_watch(int stop_after)
{
    memset(&watch, 0, sizeof watch);
    watch.stop_after = stop_after;
    watch.last_ms = now_ms();
    bench.hooks = (struct ibk_http_hooks){.interrupt = ask, .context = &watch};
}

static const struct {
    const char *name;
    struct step step;
} slow[] = {
    {"no answer", STEP(ANSWER_STALL, "")},
    {"half a body", STEP(ANSWER_STALL, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")},
    {"dripping body", {ANSWER_AGAIN, BYTES("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"), BYTES("x"), 0, 5, 0, 0}},
    {"flood", {ANSWER_AGAIN, BYTES("HTTP/1.1 200 OK\r\n\r\n"), BYTES("0123456789abcdef"), 0, 0, 0, 0}},
};

/* libcurl 7.88 closes such a socket without a word: its number may soon be somebody else's, who is to be left alone. */
static void test_sockets_that_timed_out_are_forgotten(void **state)
{
    struct full_listener full;
    int pair[2], next;
    (void)state;
    bench.options.connect_timeout_ms = 50;
    serve(NULL, 0);
    fill_listener(&full);
    next = dup(0); /* the number that the socket will have */
    (void)close(next);
    struct ibk_http_request request = {
        .method = ibk_span_text("POST"), .url = formatted("http://127.0.0.1:%u/", full.port), .timeout_ms = 5000};
    assert_failed(IBK_E_TIMEOUT, false, send_request(&request));
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    assert_true(pair[0] == next || pair[1] == next);
    assert_int_equal(write(pair[0], "to you", 6), 6);
    assert_int_equal(write(pair[1], "to you", 6), 6);
    assert_usable();
    for (size_t i = 0; i < COUNT(pair); i++) {
        char text[8];
        assert_int_equal(recv(pair[i], text, sizeof text, MSG_DONTWAIT), 6); /* neither taken away nor shut down */
    }
    assert_int_equal(write(pair[0], "to you", 6), 6);
    assert_int_equal(write(pair[1], "to you", 6), 6);
    (void)close(pair[0]);
    (void)close(pair[1]);
    empty_listener(&full);
}

static void test_interrupt(void **state)
{
    (void)state;
    bench.options.max_body_bytes = (size_t)1 << 40;
    for (size_t i = 0; i < COUNT(slow); i++) {
        for (int repeatable = 0; repeatable < 2; repeatable++) {
            row("%s, %s", slow[i].name, repeatable ? "repeatable" : "once");
            serve(&slow[i].step, 1);
            set_watch(2);
            assert_failed(IBK_E_INTERRUPTED, true, send_it("PUT", "/", "x", repeatable));
            assert_says("interrupted while", "the answer");
            assert_row(watch.asked == 3 && watch.longest_gap_ms < PROMPT_MS);
            bench.hooks.interrupt = NULL;
            assert_row(server_requests(bench.server) == 1);
            assert_usable();
        }
    }
}

static void test_interrupt_before_anything_is_sent(void **state)
{
    struct full_listener full;
    struct stalled table[STALLED];
    struct ibk_http_request request = {.method = ibk_span_text("POST"), .timeout_ms = 5000};
    (void)state;
    stall(&full, table);
    for (size_t i = 0; i < COUNT(table); i++) {
        row("%s", table[i].says);
        request.url = table[i].url;
        set_watch(0);
        int64_t start = now_ms();
        assert_failed(IBK_E_INTERRUPTED, false, send_request(&request));
        assert_row(now_ms() - start < PROMPT_MS);
        assert_says("interrupted while", table[i].says);
    }
    empty_listener(&full);
}

static int stop_if_signalled(void *context)
{
    (void)context;
    return signalled;
}

static void on_signal(int number)
{
    (void)number;
    signalled = 1;
}

/* Sends the main thread a signal a little later. */
static void *signal_soon(void *argument)
{
    const pthread_t *target = argument;
    sleep_ms(120);
    (void)pthread_kill(*target, SIGUSR1);
    return NULL;
}

static void test_signal_wakes_a_stalled_transfer(void **state)
{
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t self = pthread_self();
    pthread_t thread;
    (void)state;
    (void)sigaction(SIGUSR1, &action, NULL);
    serve(&slow[0].step, 1);
    signalled = 0;
    bench.hooks = (struct ibk_http_hooks){.interrupt = stop_if_signalled};
    int64_t start = now_ms();
    assert_int_equal(pthread_create(&thread, NULL, signal_soon, &self), 0);
    assert_failed(IBK_E_INTERRUPTED, true, post("/", "x"));
    assert_true(now_ms() - start < 120 + PROMPT_MS);
    (void)pthread_join(thread, NULL);
}

static void test_a_quick_exchange_is_not_disturbed(void **state)
{
    (void)state;
    serve(NULL, 0);
    set_watch(1000);
    int64_t start = now_ms();
    for (int i = 0; i < 20; i++) {
        assert_ok(get("/"));
    }
    /* Below the first tick of every exchange, unless the machine is slow. */
    assert_true(watch.asked <= (now_ms() - start) / 5);
}

static void *cancel_soon(void *argument)
{
    sleep_ms(60);
    ibk_http_cancel(argument);
    return NULL;
}

static void test_cancel(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(slow); i++) {
        bench.options.max_body_bytes = (size_t)1 << 40;
        for (int hooked = 0; hooked < 2; hooked++) {
            pthread_t thread;
            row("%s, hook %d", slow[i].name, hooked);
            serve(&slow[i].step, 1);
            set_watch(1000);
            if (!hooked) {
                bench.hooks.interrupt = NULL;
            }
            int64_t start = now_ms();
            assert_int_equal(pthread_create(&thread, NULL, cancel_soon, bench.client), 0);
            assert_failed(IBK_E_CANCELLED, true, post("/", "x"));
            assert_row(now_ms() - start < 60 + PROMPT_MS);
            assert_says("cancelled while", "the answer");
            (void)pthread_join(thread, NULL);
            assert_usable();
        }
    }
}

static void test_cancel_before(void **state)
{
    (void)state;
    serve(NULL, 0);
    ibk_http_cancel(bench.client);
    ibk_http_cancel(bench.client);
    assert_failed(IBK_E_CANCELLED, false, post("/", "x"));
    assert_says("cancelled while starting");
    assert_int_equal(server_connections(bench.server), 0);
    assert_usable();
}

static void *send_and_wait(void *argument)
{
    struct ibk_http_response response;
    struct ibk_http_request request = {
        .method = ibk_span_text("GET"), .url = *(ibk_span *)argument, .repeatable = true, .timeout_ms = 5000};
    struct ibk_error error;
    return ibk_http_send(bench.client, &request, NULL, &response, &error) == IBK_E_CANCELLED ? argument : NULL;
}

static void test_busy(void **state)
{
    (void)state;
    serve(&slow[0].step, 1);
    ibk_span url = url_of("/");
    pthread_t thread;
    void *result = NULL;
    assert_int_equal(pthread_create(&thread, NULL, send_and_wait, &url), 0);
    while (server_requests(bench.server) == 0) {
        sleep_ms(1);
    }
    assert_failed(IBK_E_BUSY, false, get("/"));
    ibk_http_cancel(bench.client);
    (void)pthread_join(thread, &result);
    assert_ptr_equal(result, &url);
    assert_usable();
}

static struct ibk_http_client *inner_client;

static int send_from_hook(void *context)
{
    struct ibk_http_response response;
    struct ibk_http_request request = {
        .method = ibk_span_text("GET"), .url = url_of("/"), .repeatable = true, .timeout_ms = 5000};
    (void)context;
    return ibk_http_send(inner_client, &request, NULL, &response, &err) == IBK_E_BUSY ? 7 : 0;
}

static void test_hook_that_sends(void **state)
{
    (void)state;
    serve(&slow[0].step, 1);
    inner_client = bench.client;
    bench.hooks.interrupt = send_from_hook;
    assert_failed(IBK_E_INTERRUPTED, true, get("/"));
}

static void test_fork(void **state)
{
    (void)state;
    serve(NULL, 0);
    assert_ok(get("/"));
    size_t before = open_descriptors();
    pid_t child = fork();
    if (child == 0) {
        struct ibk_http_response response;
        struct ibk_error error;
        struct ibk_http_request request = {
            .method = ibk_span_text("GET"), .url = url_of("/"), .repeatable = true, .timeout_ms = 1000};
        bool good = ibk_http_send(bench.client, &request, NULL, &response, &error) == IBK_E_FORKED && !error.sent;
        ibk_http_cancel(bench.client);
        ibk_http_client_free(bench.client);
        good = good && open_descriptors() == before;
        bench.client = NULL;
        good = good && ibk_http_client_new(&bench.options, &bench.client, &error) == IBK_OK &&
               ibk_http_send(bench.client, &request, NULL, &response, &error) == IBK_OK;
        leave_child(good ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_ok(get("/"));
    assert_true(bench.response.reused_connection);
    assert_int_equal(server_connections(bench.server), 2);
}

/* A script may have asked for SIGPIPE's default action, which is death: libcurl must not raise it. */
static void test_sigpipe_does_not_kill(void **state)
{
    struct step step = {.deed = ANSWER_RESET, .read_only = 20};
    struct authority authority;
    (void)state;
    authority_init(&authority, "Test CA");
    SSL_CTX *identity = identity_new(&authority, "IP:127.0.0.1", -60, 3600);
    assert_true(authority_write(&authority, scratch_file("ca.pem")));
    bench.options.ca_file = scratch_file("ca.pem");
    ibk_span body = repeated("0123456789abcdef", 1u << 16);
    (void)signal(SIGPIPE, SIG_DFL);
    for (int secure = 0; secure < 2; secure++) {
        serve_with((struct server_setup){.steps = &step, .step_count = 1, .tls = secure ? identity : NULL});
        bench.origin = secure ? "https://127.0.0.1" : NULL;
        struct ibk_http_request request = {.method = ibk_span_text("POST"), .url = url_of("/"), .body = body, .timeout_ms = 2000};
        assert_failed(IBK_E_OUTCOME_UNKNOWN, true, send_request(&request));
        assert_usable();
    }
    (void)signal(SIGPIPE, SIG_IGN);
    SSL_CTX_free(identity);
    authority_clean(&authority);
}

static void *send_many(void *argument)
{
    const ibk_span *url = argument;
    struct ibk_http_client *client;
    struct ibk_error error;
    bool good = ibk_http_client_new(&bench.options, &client, &error) == IBK_OK;
    for (int i = 0; good && i < 8; i++) {
        struct ibk_http_request request = {.method = ibk_span_text("GET"), .url = *url, .repeatable = true, .timeout_ms = 5000};
        struct ibk_http_response response;
        good = ibk_http_send(client, &request, NULL, &response, &error) == IBK_OK;
        ibk_http_response_clean(&response);
    }
    ibk_http_client_free(client);
    return good ? argument : NULL;
}

static void test_a_client_for_each_thread(void **state)
{
    pthread_t threads[4];
    (void)state;
    serve(NULL, 0);
    ibk_span url = url_of("/");
    for (size_t i = 0; i < COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, send_many, &url), 0);
    }
    for (size_t i = 0; i < COUNT(threads); i++) {
        void *result = NULL;
        (void)pthread_join(threads[i], &result);
        assert_non_null(result);
    }
    assert_int_equal(server_requests(bench.server), 32);
    assert_int_equal(server_connections(bench.server), 4);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        http_test(test_exchanges_that_break),
        http_test(test_a_header_that_goes_on_from_the_answer_before),
        http_test(test_no_silent_replay),
        http_test(test_no_replay_without_server),
        http_test(test_nobody_there),
        http_test(test_reset_at_once),
        http_test(test_timeouts),
        http_test(test_timeout_while_sending),
        http_test(test_connect_timeouts),
        http_test(test_sockets_that_timed_out_are_forgotten),
        http_test(test_interrupt),
        http_test(test_interrupt_before_anything_is_sent),
        http_test(test_signal_wakes_a_stalled_transfer),
        http_test(test_a_quick_exchange_is_not_disturbed),
        http_test(test_cancel),
        http_test(test_cancel_before),
        http_test(test_busy),
        http_test(test_hook_that_sends),
        http_test(test_fork),
        http_test(test_sigpipe_does_not_kill),
        http_test(test_a_client_for_each_thread),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
