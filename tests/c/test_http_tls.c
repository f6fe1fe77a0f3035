/* test_http_tls.c - csrc/http over TLS, through proxies, and against what the environment says. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "../../csrc/http/http_internal.h"
#include "support_http.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static struct authority stranger;

static int make_all(void **state)
{
    authority_init(&stranger, "Unknown CA");
    return make_certificates(state);
}

static int drop_all(void **state)
{
    authority_clean(&stranger);
    return drop_certificates(state);
}

static void serve_tls(SSL_CTX *identity, const struct step *steps, size_t count)
{
    serve_with(tls_setup(identity, steps, count));
}

static void test_good_certificate(void **state)
{
    (void)state;
    serve_tls(certificates.identity, NULL, 0);
    for (int i = 0; i < 5; i++) {
        assert_ok(post("/v1/api/orders", "{}"));
        assert_int_equal(bench.response.reused_connection, i > 0);
        assert_text(ibk_buf_peek(&bench.response.body), "ok");
    }
    assert_int_equal(server_connections(bench.server), 1);
    bench.origin = "https://127.0.0.1";
    assert_ok(get("/"));
}

/* A handshake that resumes a session is short, and sees no certificate: whoever trusts others has to make a whole one. */
static void test_sessions_are_resumed_by_those_who_trust_the_same(void **state)
{
    const struct step close = STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok");
    const struct step steps[] = {close, close, close};
    long before = SSL_CTX_sess_hits(certificates.identity);
    (void)state;
    serve_tls(certificates.identity, steps, COUNT(steps));
    for (size_t i = 0; i < COUNT(steps); i++) {
        assert_ok(post("/v1/api/orders", "{}"));
    }
    assert_int_equal(server_connections(bench.server), 3);
    assert_int_equal(SSL_CTX_sess_hits(certificates.identity), before + 2);

    bench.options.ca_file = scratch_file("stranger.pem");
    assert_true(authority_write(&stranger, bench.options.ca_file));
    new_client();
    assert_failed(IBK_E_TLS, false, post("/x", "body"));
    assert_says("unknown authority");
    assert_int_equal(SSL_CTX_sess_hits(certificates.identity), before + 2);
}

static void test_default_port_in_the_host_header(void **state)
{
    static const struct {
        const char *url;
        const char *host;
        const char *target;
    } table[] = {
        {"https://api.test/x", "Host: api.test\r\n", "GET /x "},
        {"https://api.test:443/x?y", "Host: api.test\r\n", "GET /x?y "},
        {"https://API.test:8443", "Host: API.test:8443\r\n", "GET / "},
    };
    (void)state;
    /* A proxy that tunnels every port to the one of our server. */
    serve_tls(certificates.identity, NULL, 0);
    struct server *target = bench.server;
    bench.server = NULL;
    for (size_t i = 0; i < COUNT(table); i++) {
        const struct step tunnel = {TUNNEL, BYTES("HTTP/1.1 200 OK\r\n\r\n"), {NULL, 0}, 0, 0, server_port(target), 0};
        struct server *proxy = server_start(&(struct server_setup){.steps = &tunnel, .step_count = 1});
        row("%s", table[i].url);
        bench.options.proxy = (const char *)formatted("http://127.0.0.1:%u", server_port(proxy)).data;
        new_client();
        struct ibk_http_request request = {
            .method = ibk_span_text("GET"), .url = ibk_span_text(table[i].url), .repeatable = true, .timeout_ms = 2000};
        assert_ok(send_request(&request));
        ibk_span raw = server_request(target, i);
        assert_row(ibk_span_find(raw, ibk_span_text(table[i].host)) != raw.len);
        assert_row(ibk_span_find(raw, ibk_span_text(table[i].target)) == 0);
        ibk_http_client_free(bench.client);
        bench.client = NULL;
        server_stop(proxy);
    }
    bench.server = target;
}

static void test_certificates_refused(void **state)
{
    SSL_CTX *expired = identity_new(&certificates.authority, "DNS:api.test", -20 * DAY, -DAY);
    SSL_CTX *future = identity_new(&certificates.authority, "DNS:api.test", DAY, 20 * DAY);
    SSL_CTX *elsewhere = identity_new(&certificates.authority, "DNS:other.example,IP:127.0.0.2", -60, DAY);
    SSL_CTX *unknown = identity_new(&stranger, "DNS:api.test", -60, DAY);
    SSL_CTX *old = identity_new(&certificates.authority, "DNS:api.test", -60, DAY);
    (void)state;
    SSL_CTX_set_security_level(old, 0);
    assert_int_equal(SSL_CTX_set_min_proto_version(old, TLS1_VERSION), 1);
    assert_int_equal(SSL_CTX_set_max_proto_version(old, TLS1_1_VERSION), 1);
    const struct {
        const char *says;
        SSL_CTX *identity;
    } table[] = {
        {"expired", expired},           {"not valid yet", future}, {"another host name", elsewhere},
        {"unknown authority", unknown}, {"TLS failed", old},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        row("%s", table[i].says);
        serve_tls(table[i].identity, NULL, 0);
        assert_failed(IBK_E_TLS, false, post("/x?secret=1", "body"));
        assert_says(table[i].says, "POST api.test:", "/x");
        assert_hides(ibk_span_text("secret=1"));
        assert_row(err.domain == IBK_DOMAIN_CURL);
        assert_row(server_requests(bench.server) == 0);
        SSL_CTX_free(table[i].identity);
    }
}

static void test_tls_1_2_will_do(void **state)
{
    SSL_CTX *older = identity_new(&certificates.authority, "DNS:api.test", -60, DAY);
    (void)state;
    assert_int_equal(SSL_CTX_set_max_proto_version(older, TLS1_2_VERSION), 1);
    serve_tls(older, NULL, 0);
    assert_usable();
    SSL_CTX_free(older);
}

static void test_no_tls_there(void **state)
{
    static const enum greeting greetings[] = {WELCOME, RESET_AT_ONCE};
    static const struct step steps[] = {{ANSWER_CLOSE, BYTES("HTTP/1.1 400 Bad Request\r\n\r\n"), {NULL, 0}, 5, 0, 0, 0}};
    (void)state;
    for (size_t i = 0; i < COUNT(greetings); i++) {
        bench.origin = "https://api.test";
        bench.options.ca_file = certificates.ca_file;
        serve_with((struct server_setup){.greeting = greetings[i], .steps = steps, .step_count = 1});
        /* A connection that is cut off in the handshake is no fault of TLS's: it may well work the next time. */
        assert_failed(greetings[i] == RESET_AT_ONCE ? IBK_E_CONNECT : IBK_E_TLS, false, post("/", "x"));
    }
}

static void test_ca_settings(void **state)
{
    const char *empty = scratch_file("empty.pem");
    const char *garbage = scratch_file("garbage.pem");
    FILE *file = fopen(garbage, "w");
    (void)state;
    assert_non_null(file);
    (void)fputs("no certificate in here\n", file);
    (void)fclose(file);
    file = fopen(empty, "w");
    assert_non_null(file);
    (void)fclose(file);
    const struct {
        ibk_code code;
        const char *says;
        const char *ca_file;
        const char *ca_path;
    } table[] = {
        {IBK_OK, "", certificates.ca_file, NULL},
        {IBK_E_CA_MISSING, "/does/not/exist.pem", "/does/not/exist.pem", NULL},
        {IBK_E_CA_MISSING, "/does/not/exist", NULL, "/does/not/exist"},
        {IBK_E_CA_MISSING, "/tmp", "/tmp", NULL},
        {IBK_E_CA_MISSING, "empty.pem", empty, NULL},
        {IBK_E_CA_MISSING, "garbage.pem", garbage, NULL},
        {IBK_E_TLS, "unknown authority", NULL, "/tmp"},
        {IBK_E_TLS, "unknown authority", NULL, NULL}, /* the system's authorities do not know ours */
        {IBK_OK, "", certificates.ca_file, "/tmp"},
        {IBK_OK, "", NULL, certificates.ca_folder},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i + 1);
        serve_tls(certificates.identity, NULL, 0);
        bench.options.ca_file = table[i].ca_file;
        bench.options.ca_path = table[i].ca_path;
        new_client();
        ibk_code code = post("/", "x");
        if (table[i].code == IBK_OK) {
            assert_ok(code);
        } else {
            assert_failed(table[i].code, false, code);
            assert_says(table[i].says);
        }
    }
}

static void test_ca_search(void **state)
{
    static const char *const nothing[] = {"/does/not/exist", NULL};
    static const char *const none[] = {NULL};
    char file[64];
    char path[64];
    (void)state;
    const char *hashed = scratch_file("0123abcd.0");
    const char *const files[] = {"/does/not/exist", "/tmp", certificates.ca_file, hashed, NULL};
    const char *folder = certificates.ca_folder;
    const char *const folders[] = {"/does/not/exist", "/proc/self", folder, NULL};
    const struct {
        struct ibk_ca_place places[2];
        const char *file;
        const char *path;
    } table[] = {
        {{{files, folders}, {nothing, nothing}}, certificates.ca_file, ""},
        {{{nothing, none}, {files, folders}}, certificates.ca_file, ""},
        {{{none, nothing}, {nothing, folders}}, "", folder},
        {{{nothing, folders}, {files, none}}, "", folder},
        {{{nothing, nothing}, {none, nothing}}, NULL, NULL},
    };
    assert_true(authority_write(&certificates.authority, hashed));
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i + 1);
        ibk_code code = ibk_ca_search(table[i].places, 2, file, sizeof file, path, sizeof path, &err);
        if (table[i].file == NULL) {
            assert_refused(IBK_E_CA_MISSING, ibk_ca_search(table[i].places, 2, file, sizeof file, path, sizeof path, &err));
            assert_row(file[0] == '\0' && path[0] == '\0');
        } else {
            assert_ok(code);
            assert_string_equal(file, table[i].file);
            assert_string_equal(path, table[i].path);
        }
    }
    row("names that are none of OpenSSL's");
    static const char *const lookalikes[] = {"0123abcd_0", "0123abcd.", "0123abcd.-", "0123abcd.a", "0123abc.0", "0123ABCD.0"};
    const char *other = scratch_file("lookalikes");
    const char *const others[] = {other, NULL};
    const struct ibk_ca_place place = {none, others};
    assert_int_equal(mkdir(other, 0700), 0);
    for (size_t i = 0; i < COUNT(lookalikes); i++) {
        const char *name = (const char *)formatted("%s/%s", other, lookalikes[i]).data;
        FILE *one = fopen(name, "w");
        assert_non_null(one);
        (void)fclose(one);
        assert_refused(IBK_E_CA_MISSING, ibk_ca_search(&place, 1, file, sizeof file, path, sizeof path, &err));
        assert_int_equal(unlink(name), 0);
    }
    assert_int_equal(rmdir(other), 0);
    row("no room");
    assert_refused(IBK_E_CA_MISSING, ibk_ca_search(table[0].places, 1, file, 4, path, 4, &err));
    row("this system");
    char found[512];
    char directory[512];
    ibk_code code = ibk_http_find_ca(found, sizeof found, directory, sizeof directory, &err);
    assert_row(code == IBK_OK ? access(found[0] != '\0' ? found : directory, R_OK) == 0 : code == IBK_E_CA_MISSING);
    assert_refused(IBK_E_ARGUMENT, ibk_http_find_ca(found, 0, directory, 0, &err));
    assert_refused(IBK_E_ARGUMENT, ibk_http_find_ca(found, sizeof found, directory, 0, &err));
}

static void test_exchanges_that_break_over_tls(void **state)
{
    static const struct {
        const char *name;
        struct step step;
    } table[] = {
        {"closed", STEP(ANSWER_CLOSE, "")},
        {"cut", STEP(ANSWER_CUT, "")},
        {"reset", STEP(ANSWER_RESET, "")},
        {"cut in the headers", STEP(ANSWER_CUT, "HTTP/1.1 200 OK\r\nX: y\r\n")},
        {"body cut off", STEP(ANSWER_CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nthis is not all of it")},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        for (int repeatable = 0; repeatable < 2; repeatable++) {
            row("%s, %s", table[i].name, repeatable ? "repeatable" : "once");
            serve_tls(certificates.identity, &table[i].step, 1);
            assert_failed(repeatable ? IBK_E_PROTOCOL : IBK_E_OUTCOME_UNKNOWN, true, send_it("PUT", "/", "x", repeatable));
            assert_row(server_requests(bench.server) == 1);
            assert_usable();
        }
    }
}

static void test_no_silent_replay_over_tls(void **state)
{
    static const enum deed deeds[] = {ANSWER_CLOSE, ANSWER_CUT, ANSWER_RESET};
    (void)state;
    for (size_t i = 0; i < COUNT(deeds); i++) {
        const struct step steps[] = {STEP(ANSWER, OK_ANSWER), {.deed = deeds[i]}};
        row("line %zu", i + 1);
        serve_tls(certificates.identity, steps, COUNT(steps));
        assert_ok(post("/first", NULL));
        assert_failed(IBK_E_OUTCOME_UNKNOWN, true, post("/order", "{}"));
        assert_row(server_requests(bench.server) == 2);
        assert_usable();
    }
}

/* With SIGPIPE's default action, which is death: a script may have asked for it, and TLS's goodbye goes to a dead socket. */
static void test_connection_closed_while_idle_over_tls(void **state)
{
    static const enum deed deeds[] = {ANSWER_CLOSE, ANSWER_CUT, ANSWER_RESET};
    struct step steps[COUNT(deeds)];
    (void)state;
    (void)signal(SIGPIPE, SIG_DFL);
    for (size_t i = 0; i < COUNT(deeds); i++) {
        steps[i] = (struct step){.deed = deeds[i], .bytes = LITERAL(OK_ANSWER), .pause_ms = 20};
    }
    serve_tls(certificates.identity, steps, COUNT(steps));
    for (size_t i = 0; i <= COUNT(deeds); i++) {
        row("request %zu", i + 1);
        assert_ok(post("/", "x"));
        assert_row(!bench.response.reused_connection);
        sleep_ms(50);
    }
    assert_int_equal(server_requests(bench.server), COUNT(deeds) + 1);
    (void)signal(SIGPIPE, SIG_IGN);
}

/* A proxy on this machine. bench.server becomes the target, which is reached under a name that only the proxy knows. */
static struct server *start_proxy(const struct step *steps, size_t count, const char *url)
{
    struct server *proxy = server_start(&(struct server_setup){.steps = steps, .step_count = count});
    bench.options.proxy = (const char *)formatted("%s127.0.0.1:%u", url, server_port(proxy)).data;
    new_client();
    return proxy;
}

static void test_proxy_is_used(void **state)
{
    struct ibk_http_header authorization = {ibk_span_text("Authorization"), ibk_span_text("OAuth oauth_token=\"abc\"")};
    (void)state;
    serve_tls(certificates.identity, NULL, 0);
    const struct step tunnel = {
        TUNNEL, BYTES("HTTP/1.1 200 Go on\r\nX-Proxy: 1\r\n\r\n"), {NULL, 0}, 0, 0, server_port(bench.server), 0};
    struct server *proxy = start_proxy(&tunnel, 1, "http://user:hunter2@");
    struct ibk_http_request request = {.method = ibk_span_text("POST"),
                                       .url = ibk_span_text("https://api.test/x?y"),
                                       .headers = &authorization,
                                       .header_count = 1,
                                       .timeout_ms = 2000};
    for (int i = 0; i < 3; i++) {
        assert_ok(send_request(&request));
        assert_text(ibk_buf_peek(&bench.response.header_block), "Content-Length: 2\r\n");
    }
    assert_int_equal(server_requests(proxy), 1);
    ibk_span raw = server_request(proxy, 0);
    assert_true(ibk_span_find(raw, ibk_span_text("CONNECT api.test:443 HTTP/1.1\r\n")) == 0);
    assert_true(ibk_span_find(raw, ibk_span_text("Proxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n")) != raw.len);
    assert_true(ibk_span_find(raw, ibk_span_text("OAuth")) == raw.len);
    assert_true(ibk_span_find(raw, ibk_span_text("User-Agent: " USER_AGENT "\r\n")) != raw.len);
    ibk_span inner = server_request(bench.server, 0);
    assert_true(ibk_span_find(inner, ibk_span_text("User-Agent: " USER_AGENT "\r\n")) != inner.len);
    assert_true(ibk_span_find(inner, ibk_span_text("POST /x?y HTTP/1.1\r\nHost: api.test\r\n")) == 0);
    assert_true(ibk_span_find(inner, ibk_span_text("Proxy")) == inner.len);

    /* Plain http is for this machine and does not leave it through a proxy. */
    struct server *local = server_start(&(struct server_setup){.step_count = 0});
    request.url = formatted("http://127.0.0.1:%u/", server_port(local));
    assert_ok(send_request(&request));
    assert_int_equal(server_requests(local), 1);
    assert_int_equal(server_requests(proxy), 1);
    request.url = ibk_span_text("https://api.test/z");
    assert_ok(send_request(&request));
    assert_int_equal(server_requests(bench.server), 4);
    ibk_http_client_free(bench.client);
    bench.client = NULL;
    server_stop(local);
    server_stop(proxy);
}

static void test_proxy_fails(void **state)
{
    static const struct {
        const char *says;
        struct step step;
    } table[] = {
        {"status 407", STEP(ANSWER, "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n")},
        {"status 403", STEP(ANSWER_CLOSE, "HTTP/1.1 403 No\r\nContent-Length: 6\r\n\r\nleaked")},
        {"status 302", STEP(ANSWER_CLOSE, "HTTP/1.1 302 No\r\nLocation: https://api.test/\r\nContent-Length: 0\r\n\r\n")},
        {"broke off", STEP(ANSWER_CLOSE, "")},
        {"broke off", STEP(ANSWER_RESET, "")},
        {"broke off", STEP(ANSWER_CLOSE, "leaked-by-proxy\r\n\r\n")},
    };
    struct ibk_http_request request = {
        .method = ibk_span_text("POST"), .url = ibk_span_text("https://api.test/x?secret=1"), .timeout_ms = 2000};
    (void)state;
    bench.options.ca_file = certificates.ca_file;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i + 1);
        struct server *proxy = start_proxy(&table[i].step, 1, "http://user:hunter2@");
        assert_failed(IBK_E_PROXY, false, send_request(&request));
        assert_says(table[i].says, "proxy 127.0.0.1:", "POST api.test:443/x");
        assert_hides(ibk_span_text("hunter2"));
        assert_hides(ibk_span_text("leaked"));
        assert_hides(ibk_span_text("secret=1"));
        ibk_http_client_free(bench.client);
        bench.client = NULL;
        server_stop(proxy);
    }
    row("not there");
    struct server *proxy = start_proxy(NULL, 0, "http://user:hunter2@");
    server_stop(proxy);
    assert_failed(IBK_E_PROXY, false, send_request(&request));
    assert_says("proxy 127.0.0.1:", "refused");
    row("unknown");
    bench.options.proxy = "http://user:hunter2@nowhere.test:8080/";
    new_client();
    assert_failed(IBK_E_PROXY, false, send_request(&request));
    assert_says("proxy nowhere.test:8080", "not found");
    assert_hides(ibk_span_text("hunter2"));
    row("stalled");
    const struct step stall = STEP(ANSWER_STALL, "");
    proxy = start_proxy(&stall, 1, "http://");
    request.timeout_ms = 150;
    assert_failed(IBK_E_TIMEOUT, false, send_request(&request));
    assert_says("proxy");
    ibk_http_client_free(bench.client);
    bench.client = NULL;
    server_stop(proxy);
}

/* A proxy that is itself spoken to over TLS has to have a good certificate too. */
static void test_certificate_of_a_proxy(void **state)
{
    SSL_CTX *identities[] = {identity_new(&certificates.authority, "IP:127.0.0.1", -20 * DAY, -DAY),
                             identity_new(&certificates.authority, "DNS:other.example", -60, DAY),
                             identity_new(&stranger, "IP:127.0.0.1", -60, DAY)};
    static const char *const says[] = {"expired", "another host name", "unknown authority"};
    struct ibk_http_request request = {
        .method = ibk_span_text("POST"), .url = ibk_span_text("https://api.test/x"), .timeout_ms = 2000};
    (void)state;
    bench.options.ca_file = certificates.ca_file;
    for (size_t i = 0; i < COUNT(identities); i++) {
        row("%s", says[i]);
        serve_with((struct server_setup){.tls = identities[i]});
        bench.options.proxy = (const char *)formatted("https://user:hunter2@127.0.0.1:%u", server_port(bench.server)).data;
        new_client();
        assert_failed(IBK_E_TLS, false, send_request(&request));
        assert_says(says[i], (const char *)formatted("proxy 127.0.0.1:%u: ", server_port(bench.server)).data,
                    "POST api.test:443/x");
        assert_hides(ibk_span_text("hunter2"));
        assert_row(server_requests(bench.server) == 0);
        SSL_CTX_free(identities[i]);
    }
}

/* The certificate that counts is the target's, tunnel or not. */
static void test_proxy_cannot_read_along(void **state)
{
    SSL_CTX *unknown = identity_new(&stranger, "DNS:api.test", -60, DAY);
    (void)state;
    serve_tls(unknown, NULL, 0);
    const struct step tunnel = {TUNNEL, BYTES("HTTP/1.1 200 OK\r\n\r\n"), {NULL, 0}, 0, 0, server_port(bench.server), 0};
    struct server *proxy = start_proxy(&tunnel, 1, "http://");
    struct ibk_http_request request = {
        .method = ibk_span_text("POST"), .url = ibk_span_text("https://api.test/"), .timeout_ms = 2000};
    assert_failed(IBK_E_TLS, false, send_request(&request));
    assert_says("unknown authority");
    ibk_http_client_free(bench.client);
    bench.client = NULL;
    server_stop(proxy);
    SSL_CTX_free(unknown);
}

static void test_environment_is_ignored(void **state)
{
    static const char *const names[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"};
    (void)state;
    for (size_t i = 0; i < COUNT(names); i++) {
        assert_int_equal(setenv(names[i], "http://127.0.0.1:1", 1), 0);
    }
    const char *netrc = scratch_file(".netrc");
    FILE *file = fopen(netrc, "w");
    assert_non_null(file);
    (void)fputs("machine api.test login joe password hunter2\ndefault login joe password hunter2\n", file);
    (void)fclose(file);
    assert_int_equal(setenv("NETRC", netrc, 1), 0);
    assert_int_equal(setenv("HOME", (const char *)formatted("%.*s", (int)(strrchr(netrc, '/') - netrc), netrc).data, 1), 0);
    assert_int_equal(setenv("SSL_CERT_FILE", "/dev/null", 1), 0);
    assert_int_equal(setenv("SSL_CERT_DIR", "/dev/null", 1), 0);
    assert_int_equal(setenv("CURL_CA_BUNDLE", "/dev/null", 1), 0);
    serve_tls(certificates.identity, NULL, 0);
    assert_usable();
    ibk_span raw = server_request(bench.server, 0);
    assert_true(ibk_span_find(raw, ibk_span_text("Authorization")) == raw.len);
    bench.origin = NULL;
    serve(NULL, 0);
    assert_usable();

    /* no_proxy must not take a proxy away either. */
    bench.options.proxy = NULL;
    assert_int_equal(setenv("no_proxy", "*", 1), 0);
    assert_int_equal(setenv("NO_PROXY", "*", 1), 0);
    serve_tls(certificates.identity, NULL, 0);
    const struct step tunnel = {TUNNEL, BYTES("HTTP/1.1 200 OK\r\n\r\n"), {NULL, 0}, 0, 0, server_port(bench.server), 0};
    struct server *proxy = start_proxy(&tunnel, 1, "http://");
    assert_usable();
    assert_int_equal(server_requests(proxy), 1);
    ibk_http_client_free(bench.client);
    bench.client = NULL;
    server_stop(proxy);
    for (size_t i = 0; i < COUNT(names); i++) {
        (void)unsetenv(names[i]);
    }
    (void)unsetenv("no_proxy");
    (void)unsetenv("NO_PROXY");
    (void)unsetenv("SSL_CERT_FILE");
    (void)unsetenv("SSL_CERT_DIR");
    (void)unsetenv("CURL_CA_BUNDLE");
    (void)unsetenv("NETRC");
}

static void test_descriptors_are_not_inherited(void **state)
{
    (void)state;
    serve_tls(certificates.identity, NULL, 0);
    assert_ok(get("/"));
    assert_int_equal(bench.client->sockets.count, 1);
    assert_int_equal(fcntl(bench.client->sockets.list[0].fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

/* After a fork the child lets go of the connection without a word on it. */
static void test_fork_over_tls(void **state)
{
    (void)state;
    serve_tls(certificates.identity, NULL, 0);
    assert_ok(get("/"));
    pid_t child = fork();
    if (child == 0) {
        struct ibk_http_response response;
        struct ibk_error error;
        struct ibk_http_request request = {
            .method = ibk_span_text("GET"), .url = url_of("/"), .repeatable = true, .timeout_ms = 1000};
        bool refused = ibk_http_send(bench.client, &request, NULL, &response, &error) == IBK_E_FORKED;
        ibk_http_client_free(bench.client);
        leave_child(refused ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_ok(get("/"));
    assert_true(bench.response.reused_connection);
    assert_int_equal(server_connections(bench.server), 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        http_test(test_good_certificate),
        http_test(test_sessions_are_resumed_by_those_who_trust_the_same),
        http_test(test_default_port_in_the_host_header),
        http_test(test_certificates_refused),
        http_test(test_tls_1_2_will_do),
        http_test(test_no_tls_there),
        http_test(test_ca_settings),
        http_test(test_ca_search),
        http_test(test_exchanges_that_break_over_tls),
        http_test(test_no_silent_replay_over_tls),
        http_test(test_connection_closed_while_idle_over_tls),
        http_test(test_proxy_is_used),
        http_test(test_proxy_fails),
        http_test(test_certificate_of_a_proxy),
        http_test(test_proxy_cannot_read_along),
        http_test(test_environment_is_ignored),
        http_test(test_descriptors_are_not_inherited),
        http_test(test_fork_over_tls),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, make_all, drop_all);
}
