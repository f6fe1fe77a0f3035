/*
 * test_threads.c - what threads may share: keys, groups and secrets, without a lock of the caller's.
 *
 * Best under ThreadSanitizer. Threads do not assert (cmocka jumps out of a failed test): they note the first fault, and the
 * test looks at it after they ended.
 */
#include "support.h"

#include "ibk/dh.h"
#include "ibk/lst.h"
#include "ibk/oauth.h"

#include <pthread.h>

#define THREADS 8u
#define ROUNDS 12u

/* Shared by the threads of one test; none of it is written while they run. */
static struct {
    struct ibk_rsa_key *rsa;
    struct ibk_mac_key *mac;
    struct ibk_dh_params *group;
    struct ibk_secret *secret;
    struct ibk_params params;
    struct ibk_dh_exchange *exchange;
    ibk_span key_file, group_file;
} shared;

/* Where threads wait for the last of them, so that they all begin at once. (macOS has no pthread_barrier.) */
struct gate {
    pthread_mutex_t mutex;
    pthread_cond_t open;
    unsigned int waiting;
};

static void wait_at(struct gate *gate)
{
    (void)pthread_mutex_lock(&gate->mutex);
    if (++gate->waiting == THREADS) {
        (void)pthread_cond_broadcast(&gate->open);
    }
    while (gate->waiting < THREADS) {
        (void)pthread_cond_wait(&gate->open, &gate->mutex);
    }
    (void)pthread_mutex_unlock(&gate->mutex);
}

struct worker {
    pthread_t thread;
    struct gate *start;
    const char *(*work)(struct worker *worker); /* what went wrong, or NULL */
    const char *fault;
    struct ibk_error error;
    struct ibk_buf first;  /* what the first round gave */
    unsigned int finished; /* exchanges that this thread was the one to finish */
};

static void *run(void *argument)
{
    struct worker *worker = argument;
    wait_at(worker->start);
    for (unsigned int i = 0; worker->fault == NULL && i < ROUNDS; i++) {
        worker->fault = worker->work(worker);
    }
    return NULL;
}

/* All workers at once; afterwards those that made something made the same. Returns the sum of their `finished`. */
static unsigned int run_threads(const char *(*work)(struct worker *worker))
{
    struct worker workers[THREADS] = {0};
    struct gate start = {.mutex = PTHREAD_MUTEX_INITIALIZER, .open = PTHREAD_COND_INITIALIZER};
    unsigned int finished = 0;
    for (size_t i = 0; i < THREADS; i++) {
        workers[i].start = &start;
        workers[i].work = work;
        ibk_buf_init(&workers[i].first, IBK_HEADER_MAX_SIZE);
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run, &workers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(workers[i].thread, NULL), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        row("thread %zu", i);
        if (workers[i].fault != NULL) {
            fail_msg("%s%s: %s", current_row(), workers[i].fault, workers[i].error.text);
        }
        assert_bytes(ibk_buf_peek(&workers[i].first), ibk_buf_peek(&workers[0].first));
        finished += workers[i].finished;
    }
    for (size_t i = 0; i < THREADS; i++) {
        ibk_buf_clean(&workers[i].first);
    }
    return finished;
}

/* Keeps the first result and compares later ones with it. Takes the buffer over. */
static const char *same_as_first(struct worker *worker, struct ibk_buf *made)
{
    bool same = true;
    if (worker->first.len == 0) {
        ibk_buf_put(&worker->first, ibk_buf_peek(made));
    } else {
        same = ibk_span_equal(ibk_buf_peek(&worker->first), ibk_buf_peek(made));
    }
    ibk_buf_clean(made);
    return same ? NULL : "two rounds gave different results";
}

static const char *sign_request(struct worker *worker, struct ibk_rsa_key *rsa, struct ibk_mac_key *mac)
{
    const struct ibk_signature_input input = {
        .method = LITERAL("GET"),
        .url = LITERAL("https://api.ibkr.com/v1/api/iserver/marketdata/snapshot?fields=31,84&conids=8314"),
        .oauth = &shared.params,
        .query_signing = IBK_QUERY_MERGE,
        .realm = LITERAL("limited_poa"),
        .prepend = rsa != NULL ? shared.secret : NULL,
        .rsa_key = rsa,
        .mac_key = mac,
    };
    struct ibk_buf header;
    ibk_buf_init(&header, IBK_HEADER_MAX_SIZE);
    ibk_code code = ibk_sign_request(&input, &header, &worker->error);
    const char *fault = same_as_first(worker, &header);
    return code == IBK_OK ? fault : "ibk_sign_request";
}

/* The first test of all: the algorithms of OpenSSL are fetched by all threads at once. */
static const char *mac_from_cold(struct worker *worker)
{
    uint8_t out[IBK_MAC_MAX_SIZE] = {0};
    struct ibk_buf made;
    if (ibk_mac_once(IBK_HMAC_SHA256, shared.secret, LITERAL("message"), out, &worker->error) != IBK_OK) {
        return "ibk_mac_once";
    }
    ibk_buf_init(&made, sizeof out);
    ibk_buf_put(&made, ibk_span_of(out, sizeof out));
    return same_as_first(worker, &made);
}

static const char *sign_with_rsa(struct worker *worker)
{
    return sign_request(worker, shared.rsa, NULL);
}

static const char *sign_with_hmac(struct worker *worker)
{
    const char *fault = NULL;
    for (int i = 0; fault == NULL && i < 50; i++) {
        fault = sign_request(worker, NULL, shared.mac);
    }
    return fault;
}

static const char *load_files(struct worker *worker)
{
    struct ibk_rsa_key *key = NULL;
    struct ibk_dh_params *group = NULL;
    uint8_t fingerprint[IBK_FINGERPRINT_SIZE];
    struct ibk_buf made;
    const char *fault = NULL;
    ibk_buf_init(&made, 10000);
    if (ibk_rsa_key_load(shared.key_file, NULL, "key", &key, &worker->error) != IBK_OK ||
        ibk_rsa_key_fingerprint(key, fingerprint, &worker->error) != IBK_OK) {
        fault = "key";
    } else if (ibk_dh_params_load(shared.group_file, &group, &worker->error) != IBK_OK ||
               ibk_dh_params_put_pem(group, &made, &worker->error) != IBK_OK) {
        fault = "group";
    } else {
        ibk_buf_put(&made, ibk_span_of(fingerprint, sizeof fingerprint));
    }
    ibk_rsa_key_release(key);
    ibk_dh_params_release(group);
    const char *difference = same_as_first(worker, &made);
    return fault != NULL ? fault : difference;
}

static const char *exchange_with_itself(struct worker *worker)
{
    struct ibk_dh_exchange *ours = NULL, *theirs = NULL;
    struct ibk_secret *one = NULL, *two = NULL;
    struct ibk_buf to_them, to_us;
    const char *fault = NULL;
    ibk_buf_init(&to_them, 1000);
    ibk_buf_init(&to_us, 1000);
    if (ibk_dh_exchange_new(shared.group, NULL, &ours, &worker->error) != IBK_OK ||
        ibk_dh_exchange_new(shared.group, NULL, &theirs, &worker->error) != IBK_OK) {
        fault = "ibk_dh_exchange_new";
    } else {
        ibk_dh_exchange_put_challenge(ours, &to_them);
        ibk_dh_exchange_put_challenge(theirs, &to_us);
        if (ibk_dh_exchange_finish(ours, ibk_buf_peek(&to_us), &one, &worker->error) != IBK_OK ||
            ibk_dh_exchange_finish(theirs, ibk_buf_peek(&to_them), &two, &worker->error) != IBK_OK) {
            fault = "ibk_dh_exchange_finish";
        } else if (!ibk_secret_equal(one, two)) {
            fault = "the two sides differ";
        }
    }
    ibk_secret_release(one);
    ibk_secret_release(two);
    ibk_dh_exchange_free(ours);
    ibk_dh_exchange_free(theirs);
    ibk_buf_clean(&to_them);
    ibk_buf_clean(&to_us);
    return fault;
}

/* However many threads try, one finishes. */
static const char *finish_shared_exchange(struct worker *worker)
{
    struct ibk_secret *secret = NULL;
    ibk_code code = ibk_dh_exchange_finish(shared.exchange, LITERAL("1234"), &secret, &worker->error);
    if (code == IBK_OK) {
        worker->finished++;
        ibk_secret_release(secret);
        return NULL;
    }
    return code == IBK_E_USED && secret == NULL ? NULL : "ibk_dh_exchange_finish";
}

static const char *hold_and_let_go(struct worker *worker)
{
    (void)worker;
    for (int i = 0; i < 1000; i++) {
        struct ibk_rsa_key *key = ibk_rsa_key_acquire(shared.rsa);
        struct ibk_dh_params *group = ibk_dh_params_acquire(shared.group);
        struct ibk_secret *secret = ibk_secret_acquire(shared.secret);
        bool usable = ibk_rsa_key_size(key) == 256 && ibk_dh_params_bits(group) == 2048 && ibk_secret_peek(secret).len == 32;
        ibk_rsa_key_release(key);
        ibk_dh_params_release(group);
        ibk_secret_release(secret);
        if (!usable) {
            return "an object is not what it was";
        }
    }
    return NULL;
}

static const char *make_token(struct worker *worker)
{
    struct ibk_secret *token = NULL;
    struct ibk_buf made;
    ibk_buf_init(&made, 100);
    if (ibk_lst_derive(shared.secret, shared.secret, &token, &worker->error) != IBK_OK) {
        return "ibk_lst_derive";
    }
    ibk_buf_put(&made, ibk_secret_peek(token));
    ibk_secret_release(token);
    return same_as_first(worker, &made);
}

static const char *make_nonces(struct worker *worker)
{
    struct ibk_buf made;
    ibk_buf_init(&made, 2 * IBK_NONCE_SIZE);
    bool good = ibk_nonce_put(&made, &worker->error) == IBK_OK && ibk_nonce_put(&made, &worker->error) == IBK_OK &&
                memcmp(made.data, made.data + IBK_NONCE_SIZE, IBK_NONCE_SIZE) != 0;
    ibk_buf_clean(&made);
    return good ? NULL : "ibk_nonce_put";
}

static void test_first_use(void **state)
{
    (void)state;
    (void)run_threads(mac_from_cold);
}

/* Loads what the others share; a test of its own so that the one before it starts with nothing fetched. */
static void test_loading(void **state)
{
    (void)state;
    shared.key_file = ibk_span_text(text_of(member(member(vectors(), "keys"), "signature"), "private_pkcs1_pem"));
    shared.group_file = ibk_span_text(text_of(member(member(vectors(), "dh_groups"), "modp2048"), "pem"));
    (void)run_threads(load_files);
}

static void with_shared_objects(const char *(*work)(struct worker *worker))
{
    shared.key_file = ibk_span_text(text_of(member(member(vectors(), "keys"), "signature"), "private_pkcs8_pem"));
    shared.group_file = ibk_span_text(text_of(member(member(vectors(), "dh_groups"), "ffdhe2048"), "pem"));
    assert_ok(ibk_rsa_key_load(shared.key_file, NULL, "key", &shared.rsa, &err));
    assert_ok(ibk_dh_params_load(shared.group_file, &shared.group, &err));
    assert_ok(ibk_mac_key_new(IBK_HMAC_SHA256, shared.secret, &shared.mac, &err));
    assert_ok(ibk_dh_exchange_new(shared.group, NULL, &shared.exchange, &err));
    ibk_params_init(&shared.params);
    assert_ok(ibk_params_add_text(&shared.params, "oauth_token", LITERAL("t"), &err));
    assert_ok(ibk_params_add_text(&shared.params, "oauth_nonce", LITERAL("n"), &err));
    unsigned int finished = run_threads(work);
    assert_int_equal(finished, work == finish_shared_exchange ? 1 : 0);
    ibk_params_clean(&shared.params);
    ibk_dh_exchange_free(shared.exchange);
    ibk_mac_key_free(shared.mac);
    ibk_dh_params_release(shared.group);
    ibk_rsa_key_release(shared.rsa);
}

static void test_rsa(void **state)
{
    (void)state;
    with_shared_objects(sign_with_rsa);
}

static void test_hmac(void **state)
{
    (void)state;
    with_shared_objects(sign_with_hmac);
}

static void test_exchanges(void **state)
{
    (void)state;
    with_shared_objects(exchange_with_itself);
}

static void test_one_exchange(void **state)
{
    (void)state;
    with_shared_objects(finish_shared_exchange);
}

static void test_references(void **state)
{
    (void)state;
    with_shared_objects(hold_and_let_go);
}

static void test_tokens(void **state)
{
    (void)state;
    with_shared_objects(make_token);
}

static void test_nonces(void **state)
{
    (void)state;
    with_shared_objects(make_nonces);
}

static int make_secret(void **state)
{
    (void)state;
    shared.secret = secret_of(scrambled(32, 1));
    return 0;
}

static int free_secret(void **state)
{
    (void)state;
    ibk_secret_release(shared.secret);
    return ibk_test_live_allocations() == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_first_use),    checked(test_loading),    checked(test_rsa),    checked(test_hmac),   checked(test_exchanges),
        checked(test_one_exchange), checked(test_references), checked(test_tokens), checked(test_nonces),
    };
    return cmocka_run_group_tests_name("threads", tests, make_secret, free_secret);
}
