/*
 * test_alloc.c - out of memory at every point.
 *
 * Each operation runs again and again, with its first, second, third... allocation failing, until it succeeds. Each time it
 * must say IBK_E_NO_MEMORY, hand out nothing and give everything back. Then the same with the allocations of OpenSSL, which
 * does without some, and does not always say what it failed for.
 */
#include "support_pem.h"

#include "ibk/dh.h"
#include "ibk/encode.h"
#include "ibk/keepalive.h"
#include "ibk/lst.h"
#include "ibk/oauth.h"
#include "ibk/signer.h"

#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Made once, in peace; the operations only read it. */
static struct {
    struct ibk_rsa_key *signing, *encryption;
    struct ibk_mac_key *mac;
    struct ibk_dh_params *group;
    struct ibk_secret *secret, *token, *passphrase;
    struct ibk_params params, form;
} made;

/* Which allocation fails after arm(), and whether it is one of OpenSSL's; then, whether there were so many of those. */
static unsigned long fail_at;
static bool in_openssl, ran_out;

/* How many allocations of OpenSSL are left until one fails; 0: none will. */
static atomic_ulong countdown;

static bool told_to_fail(void)
{
    return atomic_load(&countdown) != 0 && atomic_fetch_sub(&countdown, 1) == 1;
}

static void *allocate(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return told_to_fail() ? NULL : malloc(size);
}

static void *reallocate(void *memory, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return told_to_fail() ? NULL : realloc(memory, size);
}

static void release(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    free(memory);
}

static void arm(void)
{
    if (in_openssl) {
        atomic_store(&countdown, fail_at);
    } else {
        ibk_test_fail_allocation(fail_at);
    }
}

static void disarm(void)
{
    ran_out = atomic_exchange(&countdown, 0) == 0;
    ibk_test_fail_allocation(0);
}

#define GARBAGE(type) ((type *)(void *)&made)

/* A pointer handed out: something after success, NULL after failure. */
#define assert_handed_out(code, pointer) assert_row(((code) == IBK_OK) == ((pointer) != NULL))

static ibk_span text(const json_t *object, const char *name)
{
    return ibk_span_text(text_of(object, name));
}

static ibk_span key_file(const char *format)
{
    return text(member(member(vectors(), "keys"), "signature"), format);
}

static ibk_span group_pem(void)
{
    return text(member(member(vectors(), "dh_groups"), "ffdhe2048"), "pem");
}

static ibk_span ciphertext(void)
{
    return text(member(member(vectors(), "access_token_secrets"), "typical_32"), "encrypted_base64");
}

static ibk_code run_secret_new(void)
{
    struct ibk_secret *secret = GARBAGE(struct ibk_secret);
    arm();
    ibk_code code = ibk_secret_new(LITERAL("secret"), &secret, &err);
    disarm();
    assert_handed_out(code, secret);
    ibk_secret_release(code == IBK_OK ? secret : NULL);
    return code;
}

/* Operations that put into a buffer. */
typedef ibk_code putter(struct ibk_buf *out);

static ibk_code with_buffer(putter *put)
{
    struct ibk_buf out;
    ibk_buf_init_secret(&out, 1u << 20);
    arm();
    ibk_code code = put(&out);
    disarm();
    ibk_buf_clean(&out);
    return code;
}

static ibk_code put_bytes(struct ibk_buf *out)
{
    (void)ibk_buf_grow(out, 10);
    for (int i = 0; i < 1000; i++) {
        ibk_buf_put_text(out, "text");
        ibk_buf_put_byte(out, 'x');
        ibk_buf_put(out, LITERAL("bytes"));
        (void)ibk_buf_put_room(out, 10);
    }
    return ibk_buf_check(out, "thing", &err);
}

static ibk_code put_encoded(struct ibk_buf *out)
{
    ibk_span bytes = ibk_secret_peek(made.secret);
    for (int i = 0; i < 100; i++) {
        ibk_hex_put(out, bytes);
        ibk_base64_put(out, bytes);
        ibk_percent_put(out, bytes);
        ibk_java_bytes_put(out, bytes);
    }
    return ibk_buf_check(out, "thing", &err);
}

static ibk_code put_hex_decoded(struct ibk_buf *out)
{
    return ibk_hex_decode(LITERAL("616263"), "thing", out, &err);
}

static ibk_code put_hex_number(struct ibk_buf *out)
{
    return ibk_hex_decode_number(LITERAL("12345"), "thing", out, &err);
}

static ibk_code put_base64_decoded(struct ibk_buf *out)
{
    return ibk_base64_decode(LITERAL("Zm9v"), "thing", out, &err);
}

static ibk_code put_percent_decoded(struct ibk_buf *out)
{
    return ibk_percent_decode(LITERAL("a%20b"), true, "thing", out, &err);
}

static ibk_code put_base_uri(struct ibk_buf *out)
{
    struct ibk_url url;
    assert_ok(ibk_url_split(LITERAL("https://api.ibkr.com/v1/api"), &url, &err));
    ibk_url_put_base(&url, out);
    return ibk_buf_check(out, "URL", &err);
}

static ibk_code put_url_with_query(struct ibk_buf *out)
{
    return ibk_url_with_query(LITERAL("https://api.ibkr.com/v1/api?x"), &made.params, out, &err);
}

static ibk_code put_query(struct ibk_buf *out)
{
    ibk_params_put_query(&made.params, out);
    return ibk_buf_check(out, "query", &err);
}

static ibk_code put_join_once(struct ibk_buf *out)
{
    return ibk_params_join(&made.params, IBK_JOIN_ONCE, out, &err);
}

static ibk_code put_join_rfc5849(struct ibk_buf *out)
{
    return ibk_params_join(&made.params, IBK_JOIN_RFC5849, out, &err);
}

static ibk_code put_base_string(struct ibk_buf *out, enum ibk_query_signing rule)
{
    const struct ibk_base_string_input input = {
        .method = LITERAL("GET"),
        .url = LITERAL("https://api.ibkr.com/v1/api/iserver/marketdata/snapshot?fields=31,84&conids=8314"),
        .params = &made.params,
        .query_signing = rule,
        .prepend = LITERAL("00ff"),
    };
    return ibk_base_string(&input, out, &err);
}

static ibk_code put_base_string_omit(struct ibk_buf *out)
{
    return put_base_string(out, IBK_QUERY_OMIT);
}

static ibk_code put_base_string_merge(struct ibk_buf *out)
{
    return put_base_string(out, IBK_QUERY_MERGE);
}

static ibk_code put_base_string_url(struct ibk_buf *out)
{
    return put_base_string(out, IBK_QUERY_URL);
}

static ibk_code put_base_string_rfc5849(struct ibk_buf *out)
{
    return put_base_string(out, IBK_QUERY_RFC5849);
}

static ibk_code put_header(struct ibk_buf *out)
{
    return ibk_authorization_header(&made.params, LITERAL("limited_poa"), out, &err);
}

static ibk_code put_rsa_signature(struct ibk_buf *out)
{
    return ibk_rsa_sign(made.signing, LITERAL("message"), out, &err);
}

static ibk_code put_rsa_sha256(struct ibk_buf *out)
{
    return ibk_sign_rsa_sha256(LITERAL("message"), made.signing, out, &err);
}

static ibk_code put_hmac_sha256(struct ibk_buf *out)
{
    return ibk_sign_hmac_sha256(LITERAL("message"), made.mac, out, &err);
}

static ibk_code put_signed_request(struct ibk_buf *out, bool rsa)
{
    const struct ibk_signature_input input = {
        .method = LITERAL("POST"),
        .url = LITERAL("https://api.ibkr.com/v1/api/iserver/auth/ssodh/init?compete=true"),
        .oauth = &made.params,
        .form = &made.form,
        .query_signing = IBK_QUERY_MERGE,
        .realm = LITERAL("limited_poa"),
        .prepend = made.secret,
        .rsa_key = rsa ? made.signing : NULL,
        .mac_key = rsa ? NULL : made.mac,
    };
    return ibk_sign_request(&input, out, &err);
}

static ibk_code put_request_with_rsa(struct ibk_buf *out)
{
    return put_signed_request(out, true);
}

static ibk_code put_request_with_hmac(struct ibk_buf *out)
{
    return put_signed_request(out, false);
}

static ibk_code put_signature_alone(struct ibk_buf *out)
{
    const struct ibk_signature_input input = {
        .method = LITERAL("POST"),
        .url = LITERAL("https://api.ibkr.com/v1/api/oauth/live_session_token"),
        .oauth = &made.params,
        .query_signing = IBK_QUERY_OMIT,
        .mac_key = made.mac,
    };
    return ibk_request_signature(&input, out, &err);
}

static ibk_code put_nonce(struct ibk_buf *out)
{
    return ibk_nonce_put(out, &err);
}

static ibk_code put_public_key(struct ibk_buf *out)
{
    return ibk_rsa_key_put_public(made.signing, out, &err);
}

static ibk_code put_private_key(struct ibk_buf *out)
{
    return ibk_rsa_key_put_private(made.signing, out, &err);
}

static ibk_code put_prime(struct ibk_buf *out)
{
    ibk_dh_params_put_prime(made.group, out);
    return ibk_buf_check(out, "prime", &err);
}

static ibk_code put_group_pem(struct ibk_buf *out)
{
    return ibk_dh_params_put_pem(made.group, out, &err);
}

/* Operations on a list of parameters. */
static ibk_code with_params(ibk_code (*change)(struct ibk_params *params))
{
    struct ibk_params params;
    ibk_params_init(&params);
    arm();
    ibk_code code = change(&params);
    disarm();
    ibk_params_clean(&params);
    return code;
}

static ibk_code change_by_adding(struct ibk_params *params)
{
    ibk_code code = IBK_OK;
    for (int i = 0; code == IBK_OK && i < 20; i++) {
        code = ibk_params_add_text(params, "a name of some length", LITERAL("a value of some length"), &err);
    }
    return code;
}

static ibk_code change_by_adding_all(struct ibk_params *params)
{
    return ibk_params_add_all(params, &made.params, &err);
}

static ibk_code change_by_adding_a_query(struct ibk_params *params)
{
    return ibk_params_add_query(params, LITERAL("a=1&b=2&c=3&d=4&e=5&f=6&g=7&h=8&i=9"), &err);
}

static ibk_code change_by_sorting(struct ibk_params *params)
{
    return ibk_params_sorted(&made.params, params, &err);
}

static ibk_code load_key(ibk_span file, const struct ibk_secret *passphrase)
{
    struct ibk_rsa_key *key = GARBAGE(struct ibk_rsa_key);
    arm();
    ibk_code code = ibk_rsa_key_load(file, passphrase, "key", &key, &err);
    disarm();
    assert_handed_out(code, key);
    ibk_rsa_key_release(code == IBK_OK ? key : NULL);
    return code;
}

static ibk_code run_load_pkcs1(void)
{
    return load_key(key_file("private_pkcs1_pem"), NULL);
}

static ibk_code run_load_pkcs8_der(void)
{
    return load_key(der_of_pem(key_file("private_pkcs8_pem")), NULL);
}

static ibk_code run_load_pkcs8_in_base64(void)
{
    return load_key(ibk_span_text(base64_of(key_file("private_pkcs8_pem"))), NULL);
}

static ibk_code run_load_der_in_base64(void)
{
    return load_key(ibk_span_text(base64_of(der_of_pem(key_file("private_pkcs8_pem")))), NULL);
}

static ibk_code run_load_encrypted(void)
{
    return load_key(key_file("private_pkcs8_encrypted_pem"), made.passphrase);
}

static ibk_code run_load_legacy_encrypted(void)
{
    return load_key(key_file("private_pkcs1_legacy_encrypted_pem"), made.passphrase);
}

static ibk_code run_generate_key(void)
{
    struct ibk_rsa_key *key = GARBAGE(struct ibk_rsa_key);
    arm();
    ibk_code code = ibk_rsa_key_generate(2048, NULL, &key, &err);
    disarm();
    assert_handed_out(code, key);
    ibk_rsa_key_release(code == IBK_OK ? key : NULL);
    return code;
}

static ibk_code run_decrypt(void)
{
    struct ibk_secret *secret = GARBAGE(struct ibk_secret);
    arm();
    ibk_code code = ibk_rsa_decrypt(made.encryption, ciphertext(), &secret, &err);
    disarm();
    assert_handed_out(code, secret);
    ibk_secret_release(code == IBK_OK ? secret : NULL);
    return code;
}

static ibk_code run_fits(void)
{
    bool fits = true;
    arm();
    ibk_code code = ibk_rsa_fits(made.encryption, ciphertext(), &fits, &err);
    disarm();
    assert_row(fits == (code == IBK_OK));
    return code;
}

static ibk_code run_fingerprint(void)
{
    uint8_t fingerprint[IBK_FINGERPRINT_SIZE];
    arm();
    ibk_code code = ibk_rsa_key_fingerprint(made.signing, fingerprint, &err);
    disarm();
    return code;
}

static ibk_code run_mac_key_new(void)
{
    struct ibk_mac_key *key = GARBAGE(struct ibk_mac_key);
    arm();
    ibk_code code = ibk_mac_key_new(IBK_HMAC_SHA256, made.secret, &key, &err);
    disarm();
    assert_handed_out(code, key);
    ibk_mac_key_free(code == IBK_OK ? key : NULL);
    return code;
}

/* A consumer key of so many characters, and a token of twice as many. */
static const struct ibk_signer_options *signer_options(size_t times)
{
    static struct ibk_signer_options options;
    options = (struct ibk_signer_options){.consumer_key = repeated("C", times),
                                          .access_token = repeated("t", 2 * times),
                                          .realm = LITERAL("limited_poa"),
                                          .live_session_token = made.secret};
    return &options;
}

static ibk_code new_signer(size_t times)
{
    struct ibk_signer *signer = GARBAGE(struct ibk_signer);
    arm();
    ibk_code code = ibk_signer_new(signer_options(times), &signer, &err);
    disarm();
    assert_handed_out(code, signer);
    ibk_signer_release(signer);
    return code;
}

static ibk_code run_signer_new(void)
{
    return new_signer(9);
}

/* Each parameter outgrows the memory of those before it. */
static ibk_code run_signer_new_with_long_texts(void)
{
    return new_signer(490);
}

static ibk_code sign_with_signer(ibk_span nonce, ibk_span timestamp)
{
    struct ibk_signer *signer;
    struct ibk_signing signing;
    assert_ok(ibk_signer_new(signer_options(9), &signer, &err));
    ibk_signing_init(&signing);
    assert_ok(ibk_params_add_all(&signing.query, &made.params, &err));
    signing.method = LITERAL("GET");
    signing.url = LITERAL("https://api.test/v1/api/portfolio/accounts");
    signing.nonce = nonce;
    signing.timestamp = timestamp;
    arm();
    ibk_code code = ibk_signer_sign(signer, &signing, &err);
    disarm();
    ibk_signing_clean(&signing);
    ibk_signer_release(signer);
    return code;
}

static ibk_code run_signer_sign(void)
{
    return sign_with_signer(LITERAL("n"), LITERAL("1"));
}

static ibk_code run_signer_sign_with_long_texts(void)
{
    return sign_with_signer(repeated("n", 500), repeated("1", 1000));
}

static ibk_code run_mac_compute(void)
{
    uint8_t out[IBK_MAC_MAX_SIZE];
    arm();
    ibk_code code = ibk_mac_compute(made.mac, LITERAL("message"), out, &err);
    disarm();
    return code;
}

static ibk_code run_mac_once(void)
{
    uint8_t out[IBK_MAC_MAX_SIZE];
    arm();
    ibk_code code = ibk_mac_once(IBK_HMAC_SHA1, made.secret, LITERAL("message"), out, &err);
    disarm();
    return code;
}

static ibk_code load_group(ibk_span file)
{
    struct ibk_dh_params *params = GARBAGE(struct ibk_dh_params);
    arm();
    ibk_code code = ibk_dh_params_load(file, &params, &err);
    disarm();
    assert_handed_out(code, params);
    ibk_dh_params_release(code == IBK_OK ? params : NULL);
    return code;
}

static ibk_code run_load_group(void)
{
    return load_group(group_pem());
}

static ibk_code run_load_group_der(void)
{
    return load_group(der_of_pem(group_pem()));
}

static ibk_code run_load_group_in_base64(void)
{
    return load_group(ibk_span_text(base64_of(group_pem())));
}

static ibk_code run_load_prime(void)
{
    return load_group(text(member(member(vectors(), "dh_groups"), "ffdhe2048"), "prime_hex"));
}

static ibk_code run_load_odd_prime_text(void)
{
    return load_group(formatted("0%s", text_of(member(member(vectors(), "dh_groups"), "ffdhe2048"), "prime_hex")));
}

static ibk_code run_group_new(void)
{
    struct ibk_dh_params *params = GARBAGE(struct ibk_dh_params);
    ibk_span prime = bytes_of_hex(text_of(member(member(vectors(), "dh_groups"), "ffdhe2048"), "prime_hex"));
    arm();
    ibk_code code = ibk_dh_params_new(prime, 2, &params, &err);
    disarm();
    assert_handed_out(code, params);
    ibk_dh_params_release(code == IBK_OK ? params : NULL);
    return code;
}

static struct ibk_dh_exchange *new_exchange(void)
{
    struct ibk_dh_exchange *exchange = NULL;
    assert_ok(ibk_dh_exchange_new(made.group, NULL, &exchange, &err));
    return exchange;
}

static ibk_code run_exchange_new(void)
{
    struct ibk_dh_exchange *exchange = GARBAGE(struct ibk_dh_exchange);
    arm();
    ibk_code code = ibk_dh_exchange_new(made.group, NULL, &exchange, &err);
    disarm();
    assert_handed_out(code, exchange);
    ibk_dh_exchange_free(code == IBK_OK ? exchange : NULL);
    return code;
}

static ibk_code run_challenge(void)
{
    struct ibk_dh_exchange *exchange = new_exchange();
    struct ibk_buf out;
    ibk_buf_init(&out, 1000);
    arm();
    ibk_dh_exchange_put_challenge(exchange, &out);
    disarm();
    ibk_code code = ibk_buf_check(&out, "challenge", &err);
    ibk_buf_clean(&out);
    ibk_dh_exchange_free(exchange);
    return code;
}

static ibk_code run_finish(void)
{
    struct ibk_dh_exchange *exchange = new_exchange();
    struct ibk_secret *shared = GARBAGE(struct ibk_secret), *again;
    arm();
    ibk_code code = ibk_dh_exchange_finish(exchange, LITERAL("abc"), &shared, &err);
    disarm();
    assert_handed_out(code, shared);
    ibk_secret_release(code == IBK_OK ? shared : NULL);
    assert_row(ibk_dh_exchange_finish(exchange, LITERAL("abc"), &again, NULL) == IBK_E_USED);
    ibk_dh_exchange_free(exchange);
    return code;
}

static ibk_code run_derive(void)
{
    struct ibk_secret *token = GARBAGE(struct ibk_secret);
    arm();
    ibk_code code = ibk_lst_derive(made.secret, made.passphrase, &token, &err);
    disarm();
    assert_handed_out(code, token);
    ibk_secret_release(code == IBK_OK ? token : NULL);
    return code;
}

/* That it is no prime is an answer. 3 divides it, so that it takes no time. */
static ibk_code run_group_check(void)
{
    struct ibk_dh_params *params;
    assert_ok(ibk_dh_params_new(repeated("\xff", 256), 2, &params, &err));
    poison_error();
    arm();
    ibk_code code = ibk_dh_params_check(params, &err);
    disarm();
    ibk_dh_params_release(params);
    return code == IBK_E_DH_PARAMETERS ? IBK_OK : code;
}

static int stop_at_once(void *context)
{
    (void)context;
    return 1;
}

/* That it was stopped is an answer: it had begun. */
static ibk_code run_generate_group(void)
{
    const struct ibk_progress progress = {.step = stop_at_once};
    struct ibk_dh_params *params = GARBAGE(struct ibk_dh_params);
    arm();
    ibk_code code = ibk_dh_params_generate(2048, &progress, &params, &err);
    disarm();
    assert_row(params == NULL);
    return code == IBK_E_INTERRUPTED ? IBK_OK : code;
}

static ibk_code run_group_fingerprint(void)
{
    uint8_t fingerprint[IBK_FINGERPRINT_SIZE];
    arm();
    ibk_code code = ibk_dh_params_fingerprint(made.group, fingerprint, &err);
    disarm();
    return code;
}

static ibk_code run_mailbox_new(void)
{
    struct ibk_mailbox *mailbox = GARBAGE(struct ibk_mailbox);
    arm();
    ibk_code code = ibk_mailbox_new(&mailbox, &err);
    disarm();
    assert_handed_out(code, mailbox);
    ibk_mailbox_release(mailbox);
    return code;
}

static ibk_code run_outcome_new(void)
{
    arm();
    struct ibk_outcome *outcome = ibk_outcome_new(1, false);
    disarm();
    bool made_one = outcome != NULL;
    ibk_outcomes_free(outcome);
    return made_one ? IBK_OK : ibk_fail_memory(&err, "ibk_outcome_new"); /* it says so by NULL alone */
}

/* What needs a client of the engine. Nothing is sent. */
static ibk_code with_engine(ibk_code (*run)(struct ibk_engine_client *client))
{
    const struct ibk_http_options options = {NULL, "/ca", NULL, "ibk-test/1", 1000, 1000, 1000};
    struct ibk_mailbox *mailbox;
    struct ibk_engine_client *client;
    assert_ok(ibk_mailbox_new(&mailbox, &err));
    assert_ok(ibk_engine_client_new(&options, mailbox, &client, &err));
    poison_error();
    ibk_code code = run(client);
    ibk_engine_client_close(client);
    ibk_engine_client_release(client);
    ibk_mailbox_release(mailbox);
    return code;
}

static void let_go(void *context)
{
    (void)context;
}

static ibk_code new_task(struct ibk_engine_client *client)
{
    static const struct ibk_engine_hooks hooks = {.release = let_go};
    struct ibk_engine_task *task = GARBAGE(struct ibk_engine_task);
    arm();
    ibk_code code = ibk_engine_task_new(client, &hooks, NULL, &task, &err);
    disarm();
    assert_handed_out(code, task);
    ibk_engine_task_free(task);
    return code;
}

static ibk_code run_task_new(void)
{
    return with_engine(new_task);
}

static ibk_code set_headers(struct ibk_engine_client *client)
{
    const struct ibk_keepalive_options options = {
        .method = LITERAL("POST"),
        .url = LITERAL("https://api.test/v1/api/tickle"),
        .headers = &made.form,
        .interval_ms = 1000,
        .backoff_ms = 1000,
        .timeout_ms = 1000,
    };
    struct ibk_keepalive *keepalive;
    assert_ok(ibk_keepalive_new(client, &options, &keepalive, &err));
    poison_error();
    arm();
    ibk_code code = ibk_keepalive_set_headers(keepalive, &made.form, &err);
    disarm();
    ibk_keepalive_free(keepalive);
    return code;
}

static ibk_code run_set_headers(void)
{
    return with_engine(set_headers);
}

static ibk_code run_verify(void)
{
    arm();
    ibk_code code = ibk_lst_verify(made.token, LITERAL("TESTCONS"), LITERAL("543c55477d6cbb0e792d1e4f8111cec7305ba3f4"), &err);
    disarm();
    return code;
}

static struct operation {
    const char *name;
    ibk_code (*run)(void); /* one of these three */
    putter *put;
    ibk_code (*change)(struct ibk_params *params);
    bool allocates_nothing;
    ibk_code in_openssl; /* how it fails where OpenSSL's memory runs out; IBK_OK: it needs none, or is not tried */
} operations[] = {
    {.name = "ibk_secret_new", .run = run_secret_new},
    {.name = "ibk_buf_put", .put = put_bytes},
    {.name = "encoders", .put = put_encoded},
    {.name = "ibk_hex_decode", .put = put_hex_decoded},
    {.name = "ibk_hex_decode_number", .put = put_hex_number},
    {.name = "ibk_base64_decode", .put = put_base64_decoded},
    {.name = "ibk_percent_decode", .put = put_percent_decoded},
    {.name = "ibk_url_put_base", .put = put_base_uri},
    {.name = "ibk_url_with_query", .put = put_url_with_query},
    {.name = "ibk_params_put_query", .put = put_query},
    {.name = "ibk_params_join, once", .put = put_join_once},
    {.name = "ibk_params_join, RFC 5849", .put = put_join_rfc5849},
    {.name = "ibk_params_add", .change = change_by_adding},
    {.name = "ibk_params_add_all", .change = change_by_adding_all},
    {.name = "ibk_params_add_query", .change = change_by_adding_a_query},
    {.name = "ibk_params_sorted", .change = change_by_sorting},
    {.name = "ibk_base_string, omit", .put = put_base_string_omit},
    {.name = "ibk_base_string, merge", .put = put_base_string_merge},
    {.name = "ibk_base_string, url", .put = put_base_string_url},
    {.name = "ibk_base_string, rfc5849", .put = put_base_string_rfc5849},
    {.name = "ibk_authorization_header", .put = put_header},
    {.name = "ibk_sign_rsa_sha256", .put = put_rsa_sha256, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_sign_hmac_sha256", .put = put_hmac_sha256, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_sign_request, RSA", .put = put_request_with_rsa, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_sign_request, HMAC", .put = put_request_with_hmac, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_request_signature", .put = put_signature_alone, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_nonce_put", .put = put_nonce},
    {.name = "ibk_rsa_key_load, PKCS#1", .run = run_load_pkcs1, .in_openssl = IBK_E_KEY_FORMAT},
    {.name = "ibk_rsa_key_load, DER", .run = run_load_pkcs8_der, .in_openssl = IBK_E_KEY_FORMAT},
    {.name = "ibk_rsa_key_load, base64", .run = run_load_pkcs8_in_base64},
    {.name = "ibk_rsa_key_load, base64 of DER", .run = run_load_der_in_base64},
    {.name = "ibk_rsa_key_load, encrypted", .run = run_load_encrypted},
    {.name = "ibk_rsa_key_load, legacy encrypted", .run = run_load_legacy_encrypted},
    {.name = "ibk_rsa_key_generate", .run = run_generate_key},
    {.name = "ibk_rsa_key_put_public", .put = put_public_key, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_rsa_key_put_private", .put = put_private_key, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_rsa_key_fingerprint", .run = run_fingerprint, .allocates_nothing = true, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_rsa_sign", .put = put_rsa_signature, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_rsa_decrypt", .run = run_decrypt, .in_openssl = IBK_E_KEY_MISMATCH},
    {.name = "ibk_rsa_fits", .run = run_fits},
    {.name = "ibk_mac_key_new", .run = run_mac_key_new, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_signer_new", .run = run_signer_new, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_signer_new, long texts", .run = run_signer_new_with_long_texts},
    {.name = "ibk_signer_sign", .run = run_signer_sign, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_signer_sign, long texts", .run = run_signer_sign_with_long_texts},
    {.name = "ibk_mac_compute", .run = run_mac_compute, .allocates_nothing = true, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_mac_once", .run = run_mac_once, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_dh_params_load, PEM", .run = run_load_group},
    {.name = "ibk_dh_params_load, DER", .run = run_load_group_der},
    {.name = "ibk_dh_params_load, base64", .run = run_load_group_in_base64},
    {.name = "ibk_dh_params_load, hex", .run = run_load_prime},
    {.name = "ibk_dh_params_load, odd hex", .run = run_load_odd_prime_text},
    {.name = "ibk_dh_params_new", .run = run_group_new, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_dh_params_put_prime", .put = put_prime},
    {.name = "ibk_dh_params_put_pem", .put = put_group_pem},
    {.name = "ibk_dh_exchange_new", .run = run_exchange_new, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_dh_exchange_put_challenge", .run = run_challenge},
    {.name = "ibk_dh_exchange_finish", .run = run_finish, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_lst_derive", .run = run_derive, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_lst_verify", .run = run_verify, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_dh_params_fingerprint", .run = run_group_fingerprint, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_dh_params_check", .run = run_group_check, .allocates_nothing = true, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_dh_params_generate", .run = run_generate_group, .allocates_nothing = true, .in_openssl = IBK_E_CRYPTO},
    {.name = "ibk_mailbox_new", .run = run_mailbox_new},
    {.name = "ibk_outcome_new", .run = run_outcome_new},
    {.name = "ibk_engine_task_new", .run = run_task_new},
    {.name = "ibk_keepalive_set_headers", .run = run_set_headers},
};

static ibk_code perform(const struct operation *operation)
{
    if (operation->put != NULL) {
        return with_buffer(operation->put);
    }
    return operation->change != NULL ? with_params(operation->change) : operation->run();
}

static void test_operation(void **state)
{
    const struct operation *operation = *state;
    for (fail_at = 1; fail_at < 1000; fail_at++) {
        row("allocation %lu", fail_at);
        long before = ibk_test_live_allocations();
        poison_error();
        ibk_code code = perform(operation);
        assert_row(ibk_test_live_allocations() == before);
        if (code == IBK_OK) {
            break;
        }
        const char *fault = refusal_fault(code, IBK_E_NO_MEMORY);
        if (fault != NULL) {
            fail_msg("%s%s", current_row(), fault);
        }
    }
    assert_row(fail_at < 1000);
    assert_row((fail_at == 1) == operation->allocates_nothing); /* else nothing was tried */
}

/* A refusal for another reason stays what it is, and gives everything back, when memory runs out on the way. */
static void test_refusals(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        in_openssl = i == 1;
        for (fail_at = 1; fail_at < 30; fail_at++) {
            row("allocation %lu%s", fail_at, in_openssl ? " of OpenSSL" : "");
            long before = ibk_test_live_allocations();
            ibk_code key = load_key(key_file("public_spki_pem"), NULL);
            assert_row(key == IBK_E_NO_MEMORY || key == IBK_E_KEY_FORMAT);
            key = load_key(der_of_pem(key_file("public_spki_pem")), made.passphrase);
            assert_row(key == IBK_E_NO_MEMORY || key == IBK_E_KEY_FORMAT);
            key = load_key(key_file("private_pkcs8_encrypted_pem"), NULL);
            assert_row(key == IBK_E_NO_MEMORY || key == IBK_E_PASSPHRASE);
            ibk_code group = load_group(key_file("private_pkcs8_pem"));
            assert_row(group == IBK_E_NO_MEMORY || group == IBK_E_DH_PARAMETERS);
            assert_row(ibk_test_live_allocations() == before);
        }
    }
    in_openssl = false;
}

static void run_out_in_openssl(const struct operation *operation)
{
    ran_out = true;
    for (fail_at = 1; ran_out; fail_at++) {
        row("%s, allocation %lu of OpenSSL", operation->name, fail_at);
        long before = ibk_test_live_allocations();
        poison_error();
        ibk_code code = perform(operation);
        assert_row(ibk_test_live_allocations() == before);
        const char *fault = code != IBK_OK ? refusal_fault(code, code) : NULL;
        if (fault != NULL) {
            fail_msg("%s%s", current_row(), fault);
        }
        assert_row(code == IBK_OK || ran_out);
        assert_row(code == IBK_OK || code == operation->in_openssl || code == IBK_E_CRYPTO || code == IBK_E_NO_MEMORY);
        assert_row(fail_at < 5000);
    }
}

static void test_openssl_runs_out(void **state)
{
    unsigned long tried = 0;
    (void)state;
    in_openssl = true;
    for (size_t i = 0; i < COUNT(operations); i++) {
        if (operations[i].in_openssl != IBK_OK) {
            run_out_in_openssl(&operations[i]);
            tried += fail_at - 2;
        }
    }
    in_openssl = false;
    assert_true(tried > 300); /* each version does other things without memory */
}

static int make_all(void **state)
{
    (void)state;
    const json_t *keys = member(vectors(), "keys");
    ibk_span encryption = text(member(keys, "encryption"), "private_pkcs8_pem");
    assert_ok(ibk_rsa_key_load(key_file("private_pkcs8_pem"), NULL, "key", &made.signing, &err));
    assert_ok(ibk_rsa_key_load(encryption, NULL, "key", &made.encryption, &err));
    assert_ok(ibk_dh_params_load(group_pem(), &made.group, &err));
    made.secret = secret_of(scrambled(32, 1));
    made.token = secret_of(bytes_of_base64("YBWbLw+9RYP2nWrPQHxHZkBb1aM="));
    made.passphrase = secret_of(text(keys, "encrypted_pem_passphrase"));
    assert_ok(ibk_mac_key_new(IBK_HMAC_SHA256, made.secret, &made.mac, &err));
    ibk_params_init(&made.params);
    ibk_params_init(&made.form);
    for (int i = 0; i < 10; i++) {
        ibk_span name = formatted("oauth_parameter_%d", 10 - i);
        assert_ok(ibk_params_add(&made.params, name, LITERAL("a value / of some length"), &err));
        assert_ok(ibk_params_add(&made.form, name, LITERAL("x"), &err));
    }
    return 0;
}

static int free_all(void **state)
{
    (void)state;
    ibk_rsa_key_release(made.signing);
    ibk_rsa_key_release(made.encryption);
    ibk_dh_params_release(made.group);
    ibk_mac_key_free(made.mac);
    ibk_secret_release(made.secret);
    ibk_secret_release(made.token);
    ibk_secret_release(made.passphrase);
    ibk_params_clean(&made.params);
    ibk_params_clean(&made.form);
    return ibk_test_live_allocations() == 0 ? 0 : -1;
}

int main(void)
{
    struct CMUnitTest tests[COUNT(operations) + 2];
    for (size_t i = 0; i < COUNT(operations); i++) {
        tests[i] = (struct CMUnitTest){operations[i].name, test_operation, begin_test, end_test, &operations[i]};
    }
    tests[COUNT(operations)] = (struct CMUnitTest)checked(test_refusals);
    tests[COUNT(operations) + 1] = (struct CMUnitTest)checked(test_openssl_runs_out);
    if (CRYPTO_set_mem_functions(allocate, reallocate, release) != 1) { /* before OpenSSL has allocated anything */
        return 1;
    }
    return cmocka_run_group_tests_name("alloc", tests, make_all, free_all);
}
