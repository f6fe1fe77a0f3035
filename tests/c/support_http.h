/*
 * support_http.h - the bench that the tests of csrc/http share: one scripted server, one client, one answer.
 *
 * Names under .test need no network: api.test and other.test are 127.0.0.1, nowhere.test does not exist, and looking up
 * stalled.test takes until release_resolver is called.
 */
#ifndef IBK_TEST_SUPPORT_HTTP_H
#define IBK_TEST_SUPPORT_HTTP_H

#include "ibk/http.h"
#include "support_server.h"

#define USER_AGENT "ibk-test/1"
#define HEADER_LIMIT 16384u
#define BODY_LIMIT 65536u

struct bench {
    struct ibk_http_options options; /* for the next new_client */
    struct server *server;
    struct ibk_http_client *client;
    struct ibk_http_response response; /* of the last send */
    struct ibk_http_hooks hooks;       /* for the next send */
    long timeout_ms;
    const char *origin; /* "https://api.test:%u"; NULL: http://127.0.0.1 and the server's port */
};
extern struct bench bench;

/* A test that gives back memory and descriptors. */
#define http_test(function) cmocka_unit_test_setup_teardown(function, begin_http, end_http)
int begin_http(void **state);
int end_http(void **state);

#define STEP(deed, text) {(deed), BYTES(text), {NULL, 0}, 0, 0, 0, 0}

/* Starts the server and, with bench.options, the client; those of before are done away with. */
void serve(const struct step *steps, size_t count);
void serve_with(struct server_setup setup);
#define SERVE(steps) serve((steps), COUNT(steps))
void new_client(void);

#define DAY 86400L

/* For a group of tests that has make_certificates and drop_certificates around it. */
struct certificates {
    struct authority authority;
    SSL_CTX *identity;  /* of api.test and 127.0.0.1 */
    char ca_file[64];   /* holds the authority */
    char ca_folder[64]; /* the same under OpenSSL's name for it */
};
extern struct certificates certificates;
int make_certificates(void **state);
int drop_certificates(void **state);

/* A server under this identity, or without TLS where it is NULL, and a bench that trusts our authority. */
struct server_setup tls_setup(SSL_CTX *identity, const struct step *steps, size_t count);

/* The answer of before is given back first. target is what follows host and port, body NULL for none. */
ibk_code get(const char *target);
ibk_code post(const char *target, const char *body);
ibk_code send_it(const char *method, const char *target, const char *body, bool repeatable);
ibk_code send_request(const struct ibk_http_request *request);
ibk_span url_of(const char *target);

/* The call fails with this code, and says whether something was sent. */
#define assert_failed(expected, expected_sent, call)                             \
    do {                                                                         \
        const char *fault_ = failure_fault((call), (expected), (expected_sent)); \
        if (fault_ != NULL) {                                                    \
            fail_msg("%s%s: %s", current_row(), #call, fault_);                  \
        }                                                                        \
    } while (0)
const char *failure_fault(ibk_code code, ibk_code expected, bool expected_sent);

/* The client is as good as new: a request to the same server works. */
void assert_usable(void);

int64_t now_ms(void);
void sleep_ms(unsigned int ms);
size_t open_descriptors(void);
/* A name below a folder that is removed at the end of the program. */
const char *scratch_file(const char *name);
void release_resolver(void);
/* How many lookups of stalled.test have not come back. */
int stalled_lookups(void);

#endif
