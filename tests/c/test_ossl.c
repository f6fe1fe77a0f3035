/*
 * test_ossl.c - an OpenSSL that fails: one that has no random bytes, and one whose configuration leaves it without algorithms.
 *
 * The latter comes last and stays, since the core fetches its algorithms once.
 */
/* For RAND_set_rand_method, the one way to a generator that fails; our own code does without what is deprecated. */
#undef OPENSSL_API_COMPAT
#undef OPENSSL_NO_DEPRECATED
#define OPENSSL_SUPPRESS_DEPRECATED
#include "support_pem.h"

#include "ibk/dh.h"
#include "ibk/lst.h"
#include "ibk/oauth.h"

#include <limits.h>
#include <openssl/rand.h>

/* Made while everything works. */
static struct {
    struct ibk_rsa_key *signing;
    struct ibk_dh_params *group;
    struct ibk_secret *secret;
} made;

static const json_t *key_pair(void)
{
    return member(member(vectors(), "keys"), "signature");
}

static ibk_span key_file(void)
{
    return ibk_span_text(text_of(key_pair(), "private_pkcs8_pem"));
}

static const json_t *group(void)
{
    return member(member(vectors(), "dh_groups"), "ffdhe2048");
}

/* no random bytes */

/* How often it was asked, and from which time on it fails; what it gives who asks first. */
static unsigned long draws, fails_from;
static ibk_span first;

static int give_some(unsigned char *out, int len)
{
    draws++;
    if (draws == 1 && first.len == (size_t)len) {
        memcpy(out, first.data, first.len);
        return 1;
    }
    if (draws < fails_from) {
        return RAND_OpenSSL()->bytes(out, len);
    }
    memset(out, 0x55, (size_t)len);
    return 0;
}

static int is_not_ready(void)
{
    return 0;
}

static int begin_without_random(void **state)
{
    static const RAND_METHOD method = {.bytes = give_some, .pseudorand = give_some, .status = is_not_ready};
    draws = 0;
    fails_from = 1;
    first = LITERAL("");
    assert_int_equal(RAND_set_rand_method(&method), 1);
    return begin_test(state);
}

static int end_without_random(void **state)
{
    assert_int_equal(RAND_set_rand_method(NULL), 1);
    return end_test(state);
}

#define without_random(function) cmocka_unit_test_setup_teardown(function, begin_without_random, end_without_random)

static void test_random(void **state)
{
    uint8_t out[40], zeros[32] = {0};
    (void)state;
    memset(out, 1, sizeof out);
    assert_refused(IBK_E_CRYPTO, ibk_random(out, 32, &err));
    assert_says("random");
    assert_memory_equal(out, zeros, 32); /* nobody takes what is there for random */
    assert_int_equal(out[32], 1);
}

static void test_nonce(void **state)
{
    struct ibk_buf out;
    (void)state;
    ibk_buf_init(&out, 2 * IBK_NONCE_SIZE);
    for (int i = 0; i < 2; i++) {
        assert_refused(IBK_E_CRYPTO, ibk_nonce_put(&out, &err));
        assert_says("random");
        assert_int_equal(out.len, 0);
    }
    assert_int_equal(RAND_set_rand_method(NULL), 1);
    assert_ok(ibk_nonce_put(&out, &err));
    assert_ok(ibk_nonce_put(&out, &err));
    assert_memory_not_equal(out.data, out.data + IBK_NONCE_SIZE, IBK_NONCE_SIZE);
    ibk_buf_clean(&out);
}

static void test_dh_exchange(void **state)
{
    struct ibk_dh_exchange *exchange = (struct ibk_dh_exchange *)(void *)&err;
    (void)state;
    assert_refused(IBK_E_CRYPTO, ibk_dh_exchange_new(made.group, NULL, &exchange, &err));
    assert_says("random");
    assert_null(exchange);
}

static void test_dh_prime(void **state)
{
    struct ibk_dh_params *params = (struct ibk_dh_params *)(void *)&err;
    (void)state;
    assert_refused(IBK_E_CRYPTO, ibk_dh_params_generate(2048, NULL, &params, &err));
    assert_says("no prime");
    assert_null(params);
}

static int count_step(void *context)
{
    int *steps = context;
    return ++*steps > 1000; /* a search takes more */
}

/* The first number that a search looks at happens to be a safe prime. */
static void test_dh_prime_at_once(void **state)
{
    int steps = 0;
    const struct ibk_progress progress = {.step = count_step, .context = &steps};
    struct ibk_dh_params *params;
    struct ibk_buf out;
    (void)state;
    fails_from = ULONG_MAX;
    first = bytes_of_hex(text_of(group(), "prime_hex"));
    assert_ok(ibk_dh_params_generate(2048, &progress, &params, &err));
    assert_true(steps > 0);
    assert_int_equal(ibk_dh_params_generator(params), 2);
    ibk_buf_init(&out, 256);
    ibk_dh_params_put_prime(params, &out);
    assert_bytes(ibk_buf_peek(&out), first);
    ibk_buf_clean(&out);
    ibk_dh_params_release(params);
}

/* Which does not say that it is no prime. */
static void test_dh_check(void **state)
{
    (void)state;
    fails_from = ULONG_MAX;
    assert_ok(ibk_dh_params_check(made.group, &err));
    unsigned long needed = draws;
    assert_true(needed > 1);
    const unsigned long times[] = {1, needed};
    for (size_t i = 0; i < COUNT(times); i++) {
        row("time %lu of %lu", times[i], needed);
        draws = 0;
        fails_from = times[i];
        assert_refused(IBK_E_CRYPTO, ibk_dh_params_check(made.group, &err));
        assert_says("could not be checked");
    }
}

static void test_rsa_key(void **state)
{
    struct ibk_rsa_key *key = (struct ibk_rsa_key *)(void *)&err;
    (void)state;
    assert_refused(IBK_E_CRYPTO, ibk_rsa_key_generate(2048, NULL, &key, &err));
    assert_says("could not be generated");
    assert_null(key);
}

/* no algorithms */

static int take_algorithms_away(void **state)
{
    (void)state;
    assert_int_equal(EVP_set_default_properties(NULL, "provider=nobody"), 1);
    return begin_test(state);
}

#define without_algorithms(function) cmocka_unit_test_setup_teardown(function, take_algorithms_away, end_test)

static void test_hmac(void **state)
{
    struct ibk_mac_key *key = (struct ibk_mac_key *)(void *)&err;
    struct ibk_secret *token = (struct ibk_secret *)(void *)&err;
    uint8_t out[IBK_MAC_MAX_SIZE];
    (void)state;
    for (int i = 0; i < 2; i++) { /* it is not tried again, and said again */
        assert_refused(IBK_E_CRYPTO, ibk_mac_key_new(IBK_HMAC_SHA256, made.secret, &key, &err));
        assert_says("no HMAC", "configuration");
        assert_null(key);
    }
    assert_refused(IBK_E_CRYPTO, ibk_mac_once(IBK_HMAC_SHA1, made.secret, LITERAL("message"), out, &err));
    assert_says("configuration");
    assert_refused(IBK_E_CRYPTO, ibk_lst_derive(made.secret, made.secret, &token, &err));
    assert_says("configuration");
    assert_null(token);
}

static void test_fingerprints(void **state)
{
    uint8_t out[IBK_FINGERPRINT_SIZE];
    (void)state;
    assert_refused(IBK_E_CRYPTO, ibk_dh_params_fingerprint(made.group, out, &err));
    assert_says("no SHA-256", "configuration");
    assert_refused(IBK_E_CRYPTO, ibk_rsa_key_fingerprint(made.signing, out, &err));
    assert_says("no SHA-256", "configuration");
}

static void test_signing_key(void **state)
{
    struct ibk_rsa_key *key = (struct ibk_rsa_key *)(void *)&err;
    struct ibk_buf out;
    (void)state;
    ibk_buf_init(&out, 1000);
    assert_refused(IBK_E_CRYPTO, ibk_rsa_sign(made.signing, LITERAL("message"), &out, &err));
    assert_says("signature");
    assert_int_equal(out.len, 0);
    assert_refused(IBK_E_CRYPTO, ibk_rsa_key_generate(2048, NULL, &key, &err));
    assert_says("could not be generated");
    assert_null(key);
    ibk_buf_clean(&out);
}

/* The file is as good as ever: it is not the one to blame. */
static void test_key_file(void **state)
{
    struct ibk_rsa_key *key = (struct ibk_rsa_key *)(void *)&err;
    (void)state;
    assert_refused(IBK_E_CRYPTO, ibk_rsa_key_load(key_file(), NULL, "Albert", &key, &err));
    assert_says("no RSA", "configuration");
    assert_null(key);
}

static int make_all(void **state)
{
    (void)state;
    assert_ok(ibk_rsa_key_load(key_file(), NULL, "Albert", &made.signing, &err));
    assert_ok(ibk_dh_params_load(ibk_span_text(text_of(group(), "pem")), &made.group, &err));
    made.secret = secret_of(scrambled(32, 1));
    return 0;
}

static int free_all(void **state)
{
    (void)state;
    ibk_rsa_key_release(made.signing);
    ibk_dh_params_release(made.group);
    ibk_secret_release(made.secret);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        without_random(test_random),           without_random(test_nonce),
        without_random(test_dh_exchange),      without_random(test_dh_prime),
        without_random(test_dh_prime_at_once), without_random(test_dh_check),
        without_random(test_rsa_key),          without_algorithms(test_hmac),
        without_algorithms(test_fingerprints), without_algorithms(test_signing_key),
        without_algorithms(test_key_file),
    };
    return cmocka_run_group_tests_name("ossl", tests, make_all, free_all);
}
