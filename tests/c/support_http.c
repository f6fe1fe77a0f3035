/* support_http.c - the bench of the tests of csrc/http; see support_http.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RTLD_NEXT */
#endif
#include "support_http.h"

#include <dirent.h>
#include <dlfcn.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct bench bench;
struct certificates certificates;

static size_t descriptors_before;
static atomic_bool resolver_released;
static atomic_int stalled;

/* Stands before libc's, for libcurl as well. */
__attribute__((visibility("default"))) int getaddrinfo(const char *restrict name, const char *restrict service,
                                                       const struct addrinfo *restrict hints, struct addrinfo **restrict result)
{
    union {
        void *object;
        int (*function)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    } real = {.object = dlsym(RTLD_NEXT, "getaddrinfo")};

    if (name != NULL && strcmp(name, "nowhere.test") == 0) {
        return EAI_NONAME;
    }
    if (name != NULL && strcmp(name, "stalled.test") == 0) {
        atomic_fetch_add(&stalled, 1);
        while (!atomic_load(&resolver_released)) {
            sleep_ms(1);
        }
        atomic_fetch_sub(&stalled, 1);
        return EAI_AGAIN;
    }
    if (name != NULL && (strcmp(name, "api.test") == 0 || strcmp(name, "other.test") == 0)) {
        name = "127.0.0.1";
    }
    return real.function(name, service, hints, result);
}

void release_resolver(void)
{
    atomic_store(&resolver_released, true);
}

int stalled_lookups(void)
{
    return atomic_load(&stalled);
}

int64_t now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void sleep_ms(unsigned int ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&time, NULL);
}

size_t open_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    size_t count = 0;
    while (directory != NULL && readdir(directory) != NULL) {
        count++;
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
    return count;
}

static char scratch[] = "/tmp/ibk-test-XXXXXX";

static void remove_scratch(void)
{
    DIR *directory = opendir(scratch);
    for (const struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        char name[sizeof scratch + sizeof entry->d_name + 1];
        (void)snprintf(name, sizeof name, "%s/%s", scratch, entry->d_name);
        (void)unlink(name);
    }
    if (directory != NULL) {
        (void)closedir(directory);
    }
    (void)rmdir(scratch);
}

const char *scratch_file(const char *name)
{
    static bool made;
    if (!made) {
        made = true;
        if (mkdtemp(scratch) == NULL || atexit(remove_scratch) != 0) {
            abort();
        }
    }
    return (const char *)formatted("%s/%s", scratch, name).data;
}

int make_certificates(void **state)
{
    (void)state;
    authority_init(&certificates.authority, "Test CA");
    certificates.identity = identity_new(&certificates.authority, "DNS:api.test,IP:127.0.0.1", -60, DAY);
    (void)snprintf(certificates.ca_file, sizeof certificates.ca_file, "%s", scratch_file("ca.pem"));
    (void)snprintf(certificates.ca_folder, sizeof certificates.ca_folder, "%s", scratch);
    unsigned long hash = X509_subject_name_hash(certificates.authority.certificate);
    const char *hashed = scratch_file((const char *)formatted("%08lx.0", hash).data);
    bool written = authority_write(&certificates.authority, certificates.ca_file);
    return written && authority_write(&certificates.authority, hashed) ? 0 : -1;
}

int drop_certificates(void **state)
{
    (void)state;
    SSL_CTX_free(certificates.identity);
    authority_clean(&certificates.authority);
    return 0;
}

int begin_http(void **state)
{
    descriptors_before = open_descriptors();
    bench = (struct bench){
        .options = {.user_agent = USER_AGENT,
                    .connect_timeout_ms = 2000,
                    .max_header_bytes = HEADER_LIMIT,
                    .max_body_bytes = BODY_LIMIT},
        .timeout_ms = 5000,
    };
    atomic_store(&resolver_released, false);
    return begin_test(state);
}

static void clear_bench(void)
{
    ibk_http_response_clean(&bench.response);
    ibk_http_client_free(bench.client);
    bench.client = NULL;
    server_stop(bench.server);
    bench.server = NULL;
}

int end_http(void **state)
{
    release_resolver();
    clear_bench();
    for (int i = 0; i < 1000 && stalled_lookups() > 0; i++) {
        sleep_ms(1);
    }
    size_t left = open_descriptors();
    for (int i = 0; i < 1000 && left != descriptors_before; i++) { /* libcurl's own threads close theirs a moment later */
        sleep_ms(1);
        left = open_descriptors();
    }
    if (left != descriptors_before) {
        print_error("%zu descriptors were open before, %zu after\n", descriptors_before, left);
        return -1;
    }
    return end_test(state);
}

void new_client(void)
{
    ibk_http_client_free(bench.client);
    assert_ok(ibk_http_client_new(&bench.options, &bench.client, &err));
}

void serve_with(struct server_setup setup)
{
    clear_bench();
    bench.server = server_start(&setup);
    new_client();
}

struct server_setup tls_setup(SSL_CTX *identity, const struct step *steps, size_t count)
{
    bench.origin = identity != NULL ? "https://api.test" : NULL;
    bench.options.ca_file = identity != NULL ? certificates.ca_file : NULL;
    return (struct server_setup){.tls = identity, .steps = steps, .step_count = count};
}

void serve(const struct step *steps, size_t count)
{
    serve_with((struct server_setup){.steps = steps, .step_count = count});
}

ibk_span url_of(const char *target)
{
    unsigned int port = server_port(bench.server);
    const char *origin = bench.origin != NULL ? bench.origin : "http://127.0.0.1";
    return formatted("%s:%u%s", origin, port, target);
}

ibk_code send_request(const struct ibk_http_request *request)
{
    ibk_http_response_clean(&bench.response);
    poison_error();
    return ibk_http_send(bench.client, request, &bench.hooks, &bench.response, &err);
}

ibk_code send_it(const char *method, const char *target, const char *body, bool repeatable)
{
    struct ibk_http_request request = {
        .method = ibk_span_text(method), .url = url_of(target), .repeatable = repeatable, .timeout_ms = bench.timeout_ms};
    if (body != NULL) {
        request.body = ibk_span_text(body);
    }
    return send_request(&request);
}

ibk_code get(const char *target)
{
    return send_it("GET", target, NULL, true);
}

ibk_code post(const char *target, const char *body)
{
    return send_it("POST", target, body, false);
}

const char *failure_fault(ibk_code code, ibk_code expected, bool expected_sent)
{
    if (code == expected && err.sent == expected_sent) {
        bool truth = err.sent;
        err.sent = false; /* refusal_fault is for failures that sent nothing */
        const char *fault = refusal_fault(code, expected);
        err.sent = truth;
        if (fault == NULL && (bench.response.body.data != NULL || bench.response.header_block.data != NULL)) {
            return "the response owns memory after a failure";
        }
        return fault;
    }
    return (const char *)formatted("gave %s (%s), expected %s (%s): %s", ibk_code_name(code), err.sent ? "sent" : "not sent",
                                   ibk_code_name(expected), expected_sent ? "sent" : "not sent", code == IBK_OK ? "" : err.text)
        .data;
}

void assert_usable(void)
{
    ibk_code code = get("/usable");
    if (code != IBK_OK) {
        fail_msg("%sthe client is not usable any more: %s: %s", current_row(), ibk_code_name(code), err.text);
    }
    assert_row(bench.response.status == 200);
}
