/* test_keepalive.c - csrc/session's keep-alive: its times, what it signs, what it leaves in the mailbox. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "support_engine.h"

#include "ibk/keepalive.h"
#include "ibk/platform.h"

#include <inttypes.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define ERROR_ANSWER "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
#define BUSY_ANSWER "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
#define KEY 42
#define TARGET "/v1/api/tickle"
#define TOKEN "live session token, 20 bytes or so"

static struct ibk_keepalive *keepalive;
static struct ibk_params headers;

static int begin_keepalive(void **state)
{
    keepalive = NULL;
    ibk_params_init(&headers);
    return begin_engine(state);
}

static int end_keepalive(void **state)
{
    ibk_keepalive_free(keepalive);
    ibk_params_clean(&headers);
    return end_engine(state);
}

#define keepalive_test(function) cmocka_unit_test_setup_teardown(function, begin_keepalive, end_keepalive)

static ibk_code make(int64_t interval_ms, int64_t backoff_ms, long timeout_ms)
{
    const struct ibk_keepalive_options options = {.key = KEY,
                                                  .method = LITERAL("POST"),
                                                  .url = url_of(TARGET),
                                                  .headers = &headers,
                                                  .interval_ms = interval_ms,
                                                  .backoff_ms = backoff_ms,
                                                  .timeout_ms = timeout_ms};
    ibk_keepalive_free(keepalive);
    return ibk_keepalive_new(desk.client, &options, &keepalive, &err);
}

static struct ibk_signer *make_signer(const char *token)
{
    struct ibk_secret *secret = secret_of(ibk_span_text(token));
    struct ibk_signer *signer;
    const struct ibk_signer_options options = {.consumer_key = LITERAL("CONSUMER9"),
                                               .access_token = LITERAL("a1b2c3d4"),
                                               .realm = LITERAL("limited_poa"),
                                               .query_signing = IBK_QUERY_OMIT,
                                               .live_session_token = secret};
    assert_ok(ibk_signer_new(&options, &signer, &err));
    ibk_secret_release(secret);
    return signer;
}

static void start(const char *token)
{
    struct ibk_signer *signer = token != NULL ? make_signer(token) : NULL;
    assert_ok(ibk_keepalive_start(keepalive, signer, &err));
    ibk_signer_release(signer);
}

static struct ibk_keepalive_status look(void)
{
    struct ibk_keepalive_status status;
    assert_ok(ibk_keepalive_look(keepalive, &status, &err));
    return status;
}

/* The next beat's outcome, and when it was there. */
static int64_t next_beat(void)
{
    forget_taken();
    take_until(1);
    assert_int_equal(desk.taken[0]->key, KEY);
    return now_ms();
}

/* The same of a beat that is made now. Tests beat by hand where the times do not matter: a busy machine has its own. */
static void beat(void)
{
    assert_ok(ibk_keepalive_beat(keepalive, &err));
    (void)next_beat();
}

#define BY_HAND 60000, 60000, 20000

/* what is sent */

/* The value of an oauth parameter in the header of request number `index`, percent-decoded as far as base64 needs. */
static ibk_span oauth_value(size_t index, const char *name)
{
    ibk_span request = server_request(bench.server, index);
    ibk_span mark = formatted("%s=\"", name);
    size_t at = ibk_span_find(request, mark);
    if (at == request.len) {
        fail_msg("%sno %s in request %zu", current_row(), name, index);
    }
    const uint8_t *start = request.data + at + mark.len;
    const uint8_t *end = memchr(start, '"', (size_t)(request.data + request.len - start));
    uint8_t *value = room((size_t)(end - start));
    size_t len = 0;
    for (const uint8_t *c = start; c < end; c++) {
        unsigned int byte = *c;
        if (*c == '%' && sscanf((const char *)c, "%%%2X", &byte) == 1) { // NOLINT(cert-err34-c)
            c += 2;
        }
        value[len++] = (uint8_t)byte;
    }
    return ibk_span_of(value, len);
}

static const char *text(ibk_span span)
{
    return (const char *)copied(span).data;
}

/* HMAC-SHA256 in base64, by OpenSSL alone. */
static const char *hmac(const char *key, ibk_span message)
{
    uint8_t mac[32];
    size_t len = 0;
    char digest[] = "SHA256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0), OSSL_PARAM_construct_end()};
    assert_non_null(
        EVP_Q_mac(NULL, "HMAC", NULL, NULL, params, key, strlen(key), message.data, message.len, mac, sizeof mac, &len));
    return base64_of(ibk_span_of(mac, len));
}

/* Whether the server could verify it: the base string is written down here by hand. */
static void assert_signed(size_t index, const char *token)
{
    ibk_span base = formatted("POST&http%%3A%%2F%%2F127.0.0.1%%3A%u%%2Fv1%%2Fapi%%2Ftickle&"
                              "oauth_consumer_key%%3DCONSUMER9%%26oauth_nonce%%3D%s%%26oauth_signature_method%%3DHMAC-SHA256"
                              "%%26oauth_timestamp%%3D%s%%26oauth_token%%3Da1b2c3d4",
                              server_port(bench.server), text(oauth_value(index, "oauth_nonce")),
                              text(oauth_value(index, "oauth_timestamp")));
    assert_text(oauth_value(index, "oauth_signature"), hmac(token, base));
    assert_text(oauth_value(index, "realm"), "limited_poa");
}

static bool request_has(size_t index, const char *words)
{
    ibk_span request = server_request(bench.server, index);
    return ibk_span_find(request, ibk_span_text(words)) < request.len;
}

static void test_signed_anew_each_time(void **state)
{
    (void)state;
    open_desk((struct server_setup){.steps = NULL});
    assert_ok(ibk_params_add_text(&headers, "X-Mine", LITERAL("mine"), &err));
    assert_ok(make(BY_HAND));
    start(TOKEN);
    for (size_t i = 0; i < 3; i++) {
        row("beat %zu", i);
        beat();
        assert_signed(i, TOKEN);
        assert_row(request_has(i, "POST " TARGET " HTTP/1.1\r\n") && request_has(i, "\r\nX-Mine: mine\r\n"));
        assert_row(request_has(i, "\r\nContent-Length: 0\r\n") && !request_has(i, "Content-Type"));
        assert_row(i == 0 || span_difference(oauth_value(i, "oauth_nonce"), oauth_value(i - 1, "oauth_nonce")) != NULL);
        assert_row(taken(KEY)->response.status == 200 && taken(KEY)->response.reused_connection == (i > 0));
        assert_text(ibk_buf_peek(&taken(KEY)->response.body), "ok");
    }
    assert_int_equal(server_connections(bench.server), 1);
}

static int64_t timestamp_of(size_t index)
{
    return strtoll(text(oauth_value(index, "oauth_timestamp")), NULL, 10);
}

static void test_timestamps(void **state)
{
    int64_t offset_ms = INT64_C(4000000000000) - ibk_clock_steady_ms();
    (void)state;
    open_desk((struct server_setup){.steps = NULL});
    assert_ok(make(BY_HAND));
    start(TOKEN);
    int64_t before = (int64_t)time(NULL);
    beat();
    assert_in_range(timestamp_of(0), before - 1, time(NULL) + 1);
    assert_ok(ibk_keepalive_set_clock(keepalive, &offset_ms, &err));
    beat();
    assert_in_range(timestamp_of(1), 4000000000, 4000000100);
    assert_signed(1, TOKEN);
    assert_ok(ibk_keepalive_set_clock(keepalive, NULL, &err));
    beat();
    assert_in_range(timestamp_of(2), before - 1, time(NULL) + 1);
}

static void test_unsigned(void **state)
{
    (void)state;
    open_desk((struct server_setup){.steps = NULL});
    assert_ok(ibk_params_add_text(&headers, "Cookie", LITERAL("session=1"), &err));
    assert_ok(make(BY_HAND));
    start(NULL);
    beat();
    assert_true(request_has(0, "\r\nCookie: session=1\r\n"));
    assert_false(request_has(0, "Authorization"));
    ibk_params_clean(&headers);
    ibk_params_init(&headers);
    assert_ok(ibk_params_add_text(&headers, "Cookie", LITERAL("session=2"), &err));
    assert_ok(ibk_keepalive_set_headers(keepalive, &headers, &err));
    beat();
    assert_true(request_has(1, "\r\nCookie: session=2\r\n"));
    assert_false(request_has(1, "session=1"));
}

static void test_another_signer(void **state)
{
    (void)state;
    open_desk((struct server_setup){.steps = NULL});
    assert_ok(make(BY_HAND));
    start(TOKEN);
    beat();
    start("another token");
    beat();
    assert_signed(0, TOKEN);
    assert_signed(1, "another token");
    assert_true(look().sent == 2 && look().good == 2 && look().running);
    /* What the old one left in the mailbox is taken out. */
    assert_ok(ibk_keepalive_beat(keepalive, &err));
    while (look().sent < 3) {
        sleep_ms(1);
    }
    start(TOKEN);
    forget_taken();
    take_after(0);
    assert_int_equal(desk.count, 0);
}

/* An answer to the old token says nothing about the new one. */
static void test_another_signer_while_a_beat_is_under_way(void **state)
{
    const struct step steps[] = {{.deed = ANSWER, .bytes = LITERAL(ERROR_ANSWER), .after_requests = 2}};
    (void)state;
    OPEN_DESK(steps);
    assert_ok(make(BY_HAND));
    start(TOKEN);
    assert_ok(ibk_keepalive_beat(keepalive, &err));
    await_requests(1);
    start("another token");
    assert_ok(submit_get(7, "/")); /* which lets the beat be answered */
    assert_ok(ended(7));
    forget_taken();
    while (desk.count == 0) { /* nothing is sent while the old one is under way */
        assert_ok(ibk_keepalive_beat(keepalive, &err));
        take_after(1);
    }
    assert_ok(taken(KEY)->code);
    assert_int_equal(taken(KEY)->response.status, 200);
    assert_signed(2, "another token");
    assert_int_equal(look().failures, 0);
    assert_int_equal(look().sent, look().good);
}

/* when */

static void test_the_first_beat_after_an_interval(void **state)
{
    (void)state;
    open_desk((struct server_setup){.steps = NULL});
    assert_ok(make(150, 10, 20000));
    sleep_ms(20);
    assert_false(look().running);
    int64_t begin = now_ms();
    start(TOKEN);
    start(TOKEN); /* does not put it off */
    assert_true(look().running);
    for (uint64_t i = 1; i < 4; i++) {
        (void)next_beat();
        uint64_t good = look().good;
        assert_true(good >= i && now_ms() - begin >= (int64_t)good * 142);
    }
    assert_true(now_ms() - begin < 10000);
    assert_true(look().since_last_good_ms >= 0 && look().since_last_good_ms < 10000);
}

/* Until there were so many beats in all. */
static struct ibk_keepalive_status after_beats(uint64_t count)
{
    struct ibk_keepalive_status status;
    while ((status = look()).sent < count) {
        sleep_ms(1);
    }
    return status;
}

static void test_backs_off(void **state)
{
    const struct step steps[] = {STEP(ANSWER, ERROR_ANSWER),
                                 {.deed = ANSWER_CLOSE},
                                 STEP(ANSWER, "HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\n\r\n"),
                                 STEP(ANSWER, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")};
    static const int64_t passed_ms[] = {0, 0, 20, 20 + 40, 20 + 40 + 80, 20 + 40 + 80 + 160}; /* before the n-th beat */
    (void)state;
    OPEN_DESK(steps);
    assert_ok(make(60000, 20, 20000));
    assert_int_equal(look().since_last_good_ms, -1);
    int64_t begin = now_ms();
    start(TOKEN);
    assert_ok(ibk_keepalive_beat(keepalive, &err));
    for (uint64_t sent = 0; sent < 5;) { /* all of them long before the interval is over */
        struct ibk_keepalive_status status = after_beats(sent + 1);
        sent = status.sent;
        row("beat %d", (int)sent);
        assert_row(sent <= 5 && now_ms() - begin >= passed_ms[sent] * 94 / 100);
        assert_row(status.failures == (sent < 5 ? sent : 0) && status.good == (sent < 5 ? 0 : 1));
        assert_row((status.since_last_good_ms >= 0) == (status.good > 0));
    }
    sleep_ms(50); /* more than the first wait after a failure */
    assert_int_equal(look().sent, 5);
}

/* Doubled eight times, the wait would be ten seconds. */
static void test_backs_off_up_to_the_interval(void **state)
{
    struct step steps[8];
    (void)state;
    for (size_t i = 0; i < COUNT(steps); i++) {
        steps[i] = (struct step){.deed = ANSWER, .bytes = LITERAL(ERROR_ANSWER)};
    }
    OPEN_DESK(steps);
    assert_ok(make(60, 40, 20000));
    int64_t begin = now_ms();
    start(TOKEN);
    assert_int_equal(after_beats(COUNT(steps)).failures, COUNT(steps));
    assert_true(now_ms() - begin >= (60 + 40 + 6 * 60) * 94 / 100);
    assert_true(now_ms() - begin < 8000);
}

static void test_maintenance_is_waited_for(void **state)
{
    static const struct step steps[] = {STEP(ANSWER, BUSY_ANSWER), STEP(ANSWER, "HTTP/1.1 502 X\r\nContent-Length: 0\r\n\r\n"),
                                        STEP(ANSWER, "HTTP/1.1 504 X\r\nContent-Length: 0\r\n\r\n")};
    (void)state;
    OPEN_DESK(steps);
    assert_ok(make(100, 1, 20000));
    int64_t begin = now_ms();
    start(TOKEN);
    for (uint64_t i = 1; i < 5; i++) {
        row("beat %d", (int)i);
        struct ibk_keepalive_status status = after_beats(i);
        assert_row(now_ms() - begin >= (int64_t)status.sent * 94);
        assert_row(status.failures == (status.sent < 4 ? status.sent : 0));
    }
}

static void test_nobody_there(void **state)
{
    (void)state;
    open_desk((struct server_setup){.steps = NULL});
    assert_ok(make(BY_HAND));
    server_stop(bench.server);
    bench.server = NULL;
    start(TOKEN);
    for (uint64_t i = 1; i < 4; i++) {
        beat();
        look_at_error(KEY);
        assert_int_equal(err.code, IBK_E_CONNECT);
        assert_says("refused", "POST 127.0.0.1:", TARGET);
        assert_int_equal(look().failures, i);
    }
}

static void test_a_beat_that_times_out(void **state)
{
    static const struct step steps[] = {STEP(ANSWER_STALL, "")};
    (void)state;
    OPEN_DESK(steps);
    assert_ok(make(60000, 60000, 100));
    start(TOKEN);
    beat();
    look_at_error(KEY);
    assert_int_equal(err.code, IBK_E_TIMEOUT);
    assert_true(err.sent);
}

static void test_beat_now(void **state)
{
    static const struct step steps[] = {STEP(ANSWER, OK_ANSWER), STEP(ANSWER_STALL, "")};
    (void)state;
    OPEN_DESK(steps);
    assert_ok(make(60000, 60000, 300));
    assert_ok(ibk_keepalive_beat(keepalive, &err)); /* does not run yet */
    start(TOKEN);
    assert_ok(ibk_keepalive_beat(keepalive, &err));
    (void)next_beat();
    assert_ok(taken(KEY)->code);
    assert_ok(ibk_keepalive_beat(keepalive, &err));
    await_requests(2);
    assert_ok(ibk_keepalive_beat(keepalive, &err)); /* one is under way */
    (void)next_beat();
    assert_int_equal(taken(KEY)->code, IBK_E_TIMEOUT);
    assert_int_equal(look().sent, 2);
}

/* Milliseconds from the first of many first beats to the last. */
static int64_t spread_of_many(void)
{
    struct ibk_keepalive *many[40];
    for (size_t i = 0; i < COUNT(many); i++) {
        const struct ibk_keepalive_options options = {.key = (int64_t)i,
                                                      .method = LITERAL("GET"),
                                                      .url = url_of("/"),
                                                      .headers = &headers,
                                                      .interval_ms = 1000,
                                                      .backoff_ms = 1000,
                                                      .timeout_ms = 20000};
        assert_ok(ibk_keepalive_new(desk.client, &options, &many[i], &err));
    }
    int64_t begin = now_ms();
    for (size_t i = 0; i < COUNT(many); i++) {
        assert_ok(ibk_keepalive_start(many[i], NULL, &err));
    }
    forget_taken();
    take_until(1);
    int64_t first = now_ms();
    take_until(COUNT(many));
    int64_t last = now_ms();
    for (size_t i = 0; i < COUNT(many); i++) {
        ibk_keepalive_free(many[i]);
    }
    assert_true(first - begin >= 949);
    return last - first;
}

/* Thousands of sessions that start in the same moment do not beat in the same moment. */
static void test_spread(void **state)
{
    (void)state;
    open_desk((struct server_setup){.steps = NULL});
    for (int i = 0; i < 5; i++) { /* where this thread is kept from looking, all seem to come at once */
        if (spread_of_many() >= 20) {
            return;
        }
    }
    fail_msg("all beats came at once, five times");
}

/* what is left in the mailbox */

/* A process that takes nothing for hours keeps one outcome, and no more memory than after the first. */
static void test_nobody_takes(void **state)
{
    (void)state;
    open_desk((struct server_setup){.steps = NULL});
    assert_ok(make(1, 1, 20000));
    start(TOKEN);
    while (look().sent < 5) {
        sleep_ms(1);
    }
    long before = ibk_test_live_allocations();
    while (look().sent < 300) {
        sleep_ms(5);
    }
    assert_true(ibk_test_live_allocations() < before + 40); /* a beat that is under way */
    ibk_keepalive_free(keepalive);
    keepalive = NULL;
    take_after(0);
    assert_int_equal(desk.count, 0);
    assert_ok(make(1, 1, 20000));
    start(TOKEN);
    while (look().sent < 50) {
        sleep_ms(1);
    }
    take_after(0);
    assert_in_range(desk.count, 0, 1); /* 0: at the very moment when one replaces the other */
}

static void test_stop(void **state)
{
    static const struct step steps[] = {STEP(ANSWER, OK_ANSWER), STEP(ANSWER_STALL, ""), STEP(ANSWER_STALL, "")};
    (void)state;
    OPEN_DESK(steps);
    assert_ok(make(10, 10, 20000));
    ibk_keepalive_stop(keepalive);
    start(TOKEN);
    await_requests(2); /* the first one's outcome waits, the second is under way */
    ibk_keepalive_stop(keepalive);
    ibk_keepalive_stop(keepalive);
    assert_false(look().running);
    take_after(50);
    assert_int_equal(desk.count, 0);
    assert_int_equal(server_requests(bench.server), 2);
    start(TOKEN);
    await_requests(3);
    ibk_keepalive_free(keepalive); /* with one under way */
    keepalive = NULL;
    assert_ok(make(60000, 10, 20000));
    start(TOKEN); /* waiting */
    ibk_keepalive_free(keepalive);
    keepalive = NULL;
    take_after(20);
    assert_int_equal(desk.count, 0);
}

static void test_the_client_is_closed(void **state)
{
    static const struct step steps[] = {STEP(ANSWER_STALL, "")};
    (void)state;
    for (int waiting = 0; waiting < 2; waiting++) {
        OPEN_DESK(steps);
        assert_ok(make(waiting ? 60000 : 5, 5, 20000));
        start(TOKEN);
        if (!waiting) {
            await_requests(1);
        }
        ibk_engine_client_close(desk.client);
        assert_int_equal(ibk_engine_threads(), 0);
        assert_false(look().running);
        assert_refused(IBK_E_CANCELLED, ibk_keepalive_beat(keepalive, &err));
        ibk_keepalive_stop(keepalive);
        assert_ok(ibk_keepalive_beat(keepalive, &err));
        assert_refused(IBK_E_CANCELLED, ibk_keepalive_start(keepalive, NULL, &err));
        assert_false(look().running);
        take_after(10);
        assert_int_equal(desk.count, 0);
        ibk_keepalive_free(keepalive); /* after its client's maker let go */
        keepalive = NULL;
    }
}

static void test_others_are_not_delayed(void **state)
{
    static const struct step steps[] = {STEP(ANSWER_STALL, "")};
    (void)state;
    OPEN_DESK(steps);
    assert_ok(make(5, 5, 20000));
    start(TOKEN);
    await_requests(1);
    int64_t begin = now_ms();
    for (int64_t i = 0; i < 50; i++) {
        assert_ok(submit_get(100 + i, "/"));
        assert_ok(ended(100 + i));
    }
    assert_true(now_ms() - begin < 10000); /* the beat has 20 seconds */
}

/* what is refused */

static void test_options_refused(void **state)
{
    (void)state;
    open_desk((struct server_setup){.steps = NULL});
    static const struct {
        int64_t interval_ms, backoff_ms;
        long timeout_ms;
        const char *says;
    } table[] = {
        {0, 1, 1, "interval_ms"},         {-1, 1, 1, "interval_ms"}, {86400001, 1, 1, "interval_ms"},
        {INT64_MAX, 1, 1, "interval_ms"}, {1, 0, 1, "backoff_ms"},   {1, INT64_MIN, 1, "backoff_ms"},
        {1, 1, 0, "timeout_ms"},          {1, 1, -1, "timeout_ms"},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        row("%zu", i);
        assert_refused(IBK_E_ARGUMENT, make(table[i].interval_ms, table[i].backoff_ms, table[i].timeout_ms));
        assert_says(table[i].says);
        assert_null(keepalive);
    }
    struct ibk_keepalive_options options = {.key = KEY,
                                            .method = LITERAL("post"),
                                            .url = LITERAL("https://api.test/"),
                                            .headers = &headers,
                                            .interval_ms = 1,
                                            .backoff_ms = 1,
                                            .timeout_ms = 1};
    assert_refused(IBK_E_ARGUMENT, ibk_keepalive_new(desk.client, &options, &keepalive, &err));
    options.method = repeated("X", 100);
    assert_refused(IBK_E_LIMIT, ibk_keepalive_new(desk.client, &options, &keepalive, &err));
    options.method = LITERAL("GET");
    options.url = LITERAL("http://192.0.2.1/");
    assert_refused(IBK_E_URL, ibk_keepalive_new(desk.client, &options, &keepalive, &err));
    options.url = repeated("https://api.test/", 1000);
    assert_refused(IBK_E_LIMIT, ibk_keepalive_new(desk.client, &options, &keepalive, &err));
    options.url = LITERAL("https://api.test/");
    assert_ok(ibk_params_add_text(&headers, "Host", LITERAL("x"), &err));
    assert_refused(IBK_E_HEADER, ibk_keepalive_new(desk.client, &options, &keepalive, &err));
    ibk_params_clean(&headers);
    ibk_params_init(&headers);
    assert_ok(make(1000, 1, 1));
    for (int i = 0; i < 129; i++) {
        assert_ok(ibk_params_add_text(&headers, "X", LITERAL("x"), &err));
    }
    assert_refused(IBK_E_HEADER, ibk_keepalive_set_headers(keepalive, &headers, &err));
    assert_says("129 headers");
}

static void start_without_room_for_a_signature(void)
{
    open_desk((struct server_setup){.steps = NULL});
    for (int i = 0; i < 128; i++) {
        assert_ok(ibk_params_add_text(&headers, "X", LITERAL("x"), &err));
    }
    assert_ok(make(BY_HAND));
    start(TOKEN);
}

/* A beat that cannot be signed is a failure like another. */
static void test_headers_that_leave_no_room_for_a_signature(void **state)
{
    (void)state;
    start_without_room_for_a_signature();
    beat();
    look_at_error(KEY);
    assert_int_equal(err.code, IBK_E_HEADER);
    assert_int_equal(look().failures, 1);
    assert_int_equal(server_requests(bench.server), 0);
    start(NULL);
    beat();
    assert_ok(taken(KEY)->code);
}

/* Nothing can be said about it, but it is counted. */
static void test_no_memory_to_say_that_a_beat_failed(void **state)
{
    (void)state;
    start_without_room_for_a_signature();
    bool silent = false;
    for (unsigned long n = 1; !silent; n++) { /* until it is the outcome's own memory */
        row("allocation %lu", n);
        uint64_t before = look().failures;
        ibk_test_fail_allocation(n);
        assert_ok(ibk_keepalive_beat(keepalive, &err));
        while (look().failures == before) {
            sleep_ms(1);
        }
        ibk_test_fail_allocation(0);
        forget_taken();
        take_after(0);
        silent = desk.count == 0;
        assert_row(n < 100);
    }
    assert_int_equal(look().failures, look().sent);
    beat();
    look_at_error(KEY);
    assert_int_equal(err.code, IBK_E_HEADER);
}

static void test_fork(void **state)
{
    (void)state;
    open_desk((struct server_setup){.steps = NULL});
    assert_ok(make(10, 10, 20000));
    start(TOKEN);
    (void)next_beat();
    pid_t child = fork();
    if (child == 0) {
        struct ibk_keepalive_status status;
        struct ibk_error error;
        int64_t offset_ms = 0;
        bool good = ibk_keepalive_start(keepalive, NULL, &error) == IBK_E_FORKED &&
                    ibk_keepalive_beat(keepalive, &error) == IBK_E_FORKED &&
                    ibk_keepalive_look(keepalive, &status, &error) == IBK_E_FORKED &&
                    ibk_keepalive_set_headers(keepalive, &headers, &error) == IBK_E_FORKED &&
                    ibk_keepalive_set_clock(keepalive, &offset_ms, &error) == IBK_E_FORKED;
        ibk_keepalive_stop(keepalive);
        ibk_keepalive_free(keepalive);
        leave_child(good ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    (void)next_beat();
    assert_ok(taken(KEY)->code);
    assert_int_equal(server_connections(bench.server), 1);
}

static void *change_everything(void *argument)
{
    struct ibk_signer *signer = argument;
    for (int64_t i = 0; i < 200; i++) {
        struct ibk_error error;
        struct ibk_keepalive_status status;
        if (ibk_keepalive_set_headers(keepalive, &headers, &error) != IBK_OK ||
            ibk_keepalive_set_clock(keepalive, i % 2 == 0 ? &i : NULL, &error) != IBK_OK ||
            ibk_keepalive_start(keepalive, i % 3 == 0 ? NULL : signer, &error) != IBK_OK ||
            ibk_keepalive_beat(keepalive, &error) != IBK_OK || ibk_keepalive_look(keepalive, &status, &error) != IBK_OK) {
            return NULL;
        }
        if (i % 5 == 0) {
            ibk_keepalive_stop(keepalive);
        }
    }
    return argument;
}

static void test_threads_share_one(void **state)
{
    pthread_t threads[3];
    struct ibk_signer *signer = make_signer(TOKEN);
    (void)state;
    open_desk((struct server_setup){.steps = NULL});
    assert_ok(ibk_params_add_text(&headers, "X", LITERAL("x"), &err));
    assert_ok(make(1, 1, 20000));
    for (size_t i = 0; i < COUNT(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, change_everything, signer), 0);
    }
    for (size_t i = 0; i < COUNT(threads); i++) {
        void *result = NULL;
        (void)pthread_join(threads[i], &result);
        assert_non_null(result);
    }
    ibk_signer_release(signer);
    forget_taken();
    start(TOKEN);
    (void)next_beat();
}

/* Wherever memory runs out, the beat fails or succeeds, and the next one is as good as ever. */
static void test_memory_runs_out(void **state)
{
    (void)state;
    open_desk((struct server_setup){.steps = NULL});
    assert_ok(ibk_params_add_text(&headers, "X", LITERAL("x"), &err));
    bool done = false;
    for (unsigned long n = 1; !done; n++) {
        row("new, allocation %lu", n);
        ibk_keepalive_free(keepalive);
        keepalive = NULL;
        ibk_test_fail_allocation(n);
        ibk_code code = make(1000, 10, 5000);
        ibk_test_fail_allocation(0);
        done = code == IBK_OK;
        assert_row(done || (code == IBK_E_NO_MEMORY && keepalive == NULL && n < 100));
    }
    assert_ok(make(BY_HAND));
    start(TOKEN);
    bool failed = true;
    unsigned long n = 1;
    for (; failed; n++) {
        row("beat, allocation %lu", n);
        uint64_t before = look().sent;
        ibk_test_fail_allocation(n);
        assert_ok(ibk_keepalive_beat(keepalive, &err));
        while (look().sent == before) {
            sleep_ms(1);
        }
        ibk_test_fail_allocation(0);
        take_after(0);
        failed = look().failures > 0;
        beat();
        assert_row(look().failures == 0 && n < 100);
    }
    assert_true(n > 10);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        keepalive_test(test_signed_anew_each_time),
        keepalive_test(test_timestamps),
        keepalive_test(test_unsigned),
        keepalive_test(test_another_signer),
        keepalive_test(test_another_signer_while_a_beat_is_under_way),
        keepalive_test(test_the_first_beat_after_an_interval),
        keepalive_test(test_backs_off),
        keepalive_test(test_backs_off_up_to_the_interval),
        keepalive_test(test_maintenance_is_waited_for),
        keepalive_test(test_nobody_there),
        keepalive_test(test_a_beat_that_times_out),
        keepalive_test(test_beat_now),
        keepalive_test(test_spread),
        keepalive_test(test_nobody_takes),
        keepalive_test(test_stop),
        keepalive_test(test_the_client_is_closed),
        keepalive_test(test_others_are_not_delayed),
        keepalive_test(test_options_refused),
        keepalive_test(test_headers_that_leave_no_room_for_a_signature),
        keepalive_test(test_no_memory_to_say_that_a_beat_failed),
        keepalive_test(test_fork),
        keepalive_test(test_threads_share_one),
        keepalive_test(test_memory_runs_out),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
