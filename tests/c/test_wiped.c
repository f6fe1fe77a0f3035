/*
 * test_wiped.c - after the last release no secret is anywhere in the memory of this process: heap, stack and all.
 *
 * The secrets are made by another process, with OpenSSL alone. Here they exist masked, and in what is under test. The search
 * looks for eight bytes from the beginning, the middle and the end of each: parts of a copy are found as well.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "support.h"

#include "ibk/dh.h"
#include "ibk/encode.h"
#include "ibk/lst.h"
#include "ibk/signer.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/encoder.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define MASK 0xa5u
#define WINDOW 8u
#define MAX_PLANTS 64u
#define MAX_SIZE 4096u
#define MAX_REGION ((size_t)1 << 30) /* a sanitizer's shadow is larger, and holds no copies */

struct plant {
    char name[40];
    size_t len;
    uint8_t masked[MAX_SIZE];
};

static struct plant plants[MAX_PLANTS];
static size_t plant_count;

/* The other process: what is planted, and the public half that goes with it. */

static void plant(const char *name, const void *bytes, size_t len)
{
    static struct plant one;
    memset(&one, 0, sizeof one);
    (void)snprintf(one.name, sizeof one.name, "%s", name);
    one.len = len;
    for (size_t i = 0; i < len && i < MAX_SIZE; i++) {
        one.masked[i] = ((const uint8_t *)bytes)[i] ^ MASK;
    }
    if (len > MAX_SIZE || write(STDOUT_FILENO, &one, sizeof one) != (ssize_t)sizeof one) {
        _exit(2);
    }
}

static void plant_text(const char *name, const char *text)
{
    plant(name, text, strlen(text));
}

/* As written, and as OpenSSL holds numbers: the least significant byte first. */
static void plant_number(const char *name, const BIGNUM *number)
{
    uint8_t bytes[MAX_SIZE];
    char label[40];
    int len = BN_num_bytes(number);
    if (BN_bn2binpad(number, bytes, len) != len) {
        _exit(2);
    }
    plant(name, bytes, (size_t)len);
    (void)snprintf(label, sizeof label, "%s, reversed", name);
    if (BN_bn2lebinpad(number, bytes, len) != len) {
        _exit(2);
    }
    plant(label, bytes, (size_t)len);
}

static EVP_PKEY *key_of(const char *text)
{
    EVP_PKEY *key = NULL;
    const unsigned char *data = (const unsigned char *)text;
    size_t len = strlen(text);
    OSSL_DECODER_CTX *context = OSSL_DECODER_CTX_new_for_pkey(&key, "PEM", NULL, "RSA", 0, NULL, NULL);
    if (OSSL_DECODER_from_data(context, &data, &len) != 1) {
        _exit(2);
    }
    OSSL_DECODER_CTX_free(context);
    return key;
}

static void plant_key(const char *pem)
{
    static const char *const numbers[] = {OSSL_PKEY_PARAM_RSA_D,         OSSL_PKEY_PARAM_RSA_FACTOR1,
                                          OSSL_PKEY_PARAM_RSA_FACTOR2,   OSSL_PKEY_PARAM_RSA_EXPONENT1,
                                          OSSL_PKEY_PARAM_RSA_EXPONENT2, OSSL_PKEY_PARAM_RSA_COEFFICIENT1};
    EVP_PKEY *key = key_of(pem);
    for (size_t i = 0; i < COUNT(numbers); i++) {
        BIGNUM *number = NULL;
        if (EVP_PKEY_get_bn_param(key, numbers[i], &number) != 1) {
            _exit(2);
        }
        plant_number(numbers[i], number);
        BN_free(number);
    }
    EVP_PKEY_free(key);
    const char *line = strstr(strstr(pem, "\n") + 700, "\n") + 1; /* of the private half */
    plant("a line of the PEM text", line, 64);
}

static void plant_files(void)
{
    const json_t *key = member(member(vectors(), "keys"), "encryption");
    plant_text("PKCS#8", text_of(key, "private_pkcs8_pem"));
    plant_text("PKCS#1", text_of(key, "private_pkcs1_pem"));
    plant_text("encrypted", text_of(key, "private_pkcs8_encrypted_pem"));
    plant_text("legacy", text_of(key, "private_pkcs1_legacy_encrypted_pem"));
    plant_text("pass phrase", text_of(member(vectors(), "keys"), "encrypted_pem_passphrase"));
}

static BIGNUM *random_number(void)
{
    BIGNUM *number = BN_new();
    if (BN_rand(number, 256, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) != 1) {
        _exit(2);
    }
    return number;
}

/* Both sides of an exchange, the shared secret and the token, by the definitions. */
static void plant_exchange(const uint8_t *access_secret, size_t access_secret_len)
{
    const json_t *group = member(member(vectors(), "dh_groups"), "ffdhe2048");
    uint8_t java[257];
    uint8_t token[EVP_MAX_MD_SIZE];
    uint8_t pad[IBK_LST_SIZE];
    unsigned int token_len;
    BIGNUM *prime = NULL, *generator = BN_new(), *ours = random_number(), *theirs = random_number(), *response = BN_new(),
           *shared = BN_new();
    BN_CTX *context = BN_CTX_new();
    BN_hex2bn(&prime, text_of(group, "prime_hex"));
    BN_set_word(generator, 2);
    BN_mod_exp(response, generator, theirs, prime, context);
    BN_mod_exp(shared, response, ours, prime, context);
    char *response_hex = BN_bn2hex(response);
    plant_text("group", text_of(group, "pem"));
    plant_text("response", response_hex);
    plant_number("exponent", ours);
    plant_number("shared secret", shared);
    int len = BN_num_bytes(shared) + (BN_num_bits(shared) % 8 == 0);
    BN_bn2binpad(shared, java, len);
    HMAC(EVP_sha1(), java, len, access_secret, access_secret_len, token, &token_len);
    plant("token", token, token_len);
    plant_text("token in base64", base64_of(ibk_span_of(token, token_len)));
    for (size_t i = 0; i < sizeof pad; i++) {
        pad[i] = token[i] ^ 0x36u;
    }
    plant("token in the inner key of HMAC", pad, sizeof pad);
    for (size_t i = 0; i < sizeof pad; i++) {
        pad[i] = token[i] ^ 0x5cu;
    }
    plant("token in the outer key of HMAC", pad, sizeof pad);
    OPENSSL_free(response_hex);
    BN_CTX_free(context);
    BIGNUM *const numbers[] = {prime, generator, ours, theirs, response, shared};
    for (size_t n = 0; n < COUNT(numbers); n++) {
        BN_free(numbers[n]);
    }
}

static void plant_all(void)
{
    const char *pem = text_of(member(member(vectors(), "keys"), "encryption"), "private_pkcs8_pem");
    uint8_t secret[32];
    uint8_t encrypted[256];
    size_t len = sizeof encrypted;
    EVP_PKEY *key = key_of(pem);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
    if (RAND_bytes(secret, sizeof secret) != 1 || EVP_PKEY_encrypt_init(context) != 1 ||
        EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) != 1 ||
        EVP_PKEY_encrypt(context, encrypted, &len, secret, sizeof secret) != 1) {
        _exit(2);
    }
    plant_files();
    plant_key(pem);
    plant("access token secret", secret, sizeof secret);
    plant_text("access token secret in hex", hex_of(ibk_span_of(secret, sizeof secret)));
    plant_text("ciphertext", base64_of(ibk_span_of(encrypted, len)));
    plant_exchange(secret, sizeof secret);
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(key);
}

/* This process. */

/* A program of its own, not a fork alone, so that nothing of it was ever here. */
static int receive_plants(void **state)
{
    (void)state;
    char self[4096];
    char command[4200];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len < 0) {
        return -1;
    }
    self[len] = '\0';
    (void)snprintf(command, sizeof command, "'%s' plant", self);
    FILE *pipe = popen(command, "r");
    if (pipe == NULL) {
        return -1;
    }
    setvbuf(pipe, NULL, _IONBF, 0);
    while (plant_count < MAX_PLANTS && fread(&plants[plant_count], sizeof plants[0], 1, pipe) == 1) {
        plant_count++;
    }
    return pclose(pipe) == 0 && plant_count > 20 ? 0 : -1;
}

static const struct plant *planted(const char *name)
{
    for (size_t i = 0; i < plant_count; i++) {
        if (strcmp(plants[i].name, name) == 0) {
            return &plants[i];
        }
    }
    fail_msg("nothing is planted as %s", name);
    return NULL;
}

/* Unmasked, in memory that is wiped by cover(). */
static uint8_t open_bytes[MAX_SIZE];

static ibk_span uncovered(const char *name)
{
    const struct plant *found = planted(name);
    for (size_t i = 0; i < found->len; i++) {
        open_bytes[i] = found->masked[i] ^ MASK;
    }
    return ibk_span_of(open_bytes, found->len);
}

static void cover(void)
{
    OPENSSL_cleanse(open_bytes, sizeof open_bytes);
}

/*
 * Reads every byte that this process may write, also where sanitizers and valgrind would object. Byte by byte and masked, so
 * that the search makes no copy.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__clang__)
__attribute__((no_sanitize("address", "thread", "undefined")))
#endif
static size_t count_in(const volatile uint8_t *memory, size_t len, const uint8_t *masked)
{
    size_t count = 0;
    for (size_t i = 0; i + WINDOW <= len; i++) {
        size_t same = 0;
        while (same < WINDOW && (uint8_t)(memory[i + same] ^ MASK) == masked[same]) {
            same++;
        }
        count += same == WINDOW;
    }
    return count;
}

static struct {
    const uint8_t *start;
    size_t len;
} regions[4096];
static size_t region_count;

static void find_regions(void)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    assert_non_null(maps);
    region_count = 0;
    while (fgets(line, sizeof line, maps) != NULL && region_count < COUNT(regions)) {
        char *end;
        uintptr_t from = strtoull(line, &end, 16);
        uintptr_t to = strtoull(end + 1, &end, 16);
        if (strncmp(end, " rw", 3) == 0 && to - from < MAX_REGION) {
            regions[region_count].start = (const uint8_t *)from; // NOLINT(performance-no-int-to-ptr)
            regions[region_count++].len = to - from;
        }
    }
    (void)fclose(maps);
    assert_true(region_count > 3 && region_count < COUNT(regions));
}

static size_t count_of(const char *name)
{
    const struct plant *wanted = planted(name);
    const size_t windows[] = {0, (wanted->len - WINDOW) / 2, wanted->len - WINDOW};
    size_t count = 0;
    for (size_t i = 0; i < region_count; i++) {
        for (size_t w = 0; w < COUNT(windows); w++) {
            count += count_in(regions[i].start, regions[i].len, wanted->masked + windows[w]);
        }
    }
    return count;
}

/* Fails the test that finds one of these (NULL at the end) in memory, and names it. */
static void assert_gone(const char *const *names)
{
    cover();
    find_regions();
    for (; *names != NULL; names++) {
        size_t count = count_of(*names);
        if (count != 0) {
            fail_msg("%s%s is still there, %zu times", current_row(), *names, count);
        }
    }
}

static void assert_there(const char *name)
{
    cover();
    find_regions();
    if (count_of(name) == 0) {
        fail_msg("%s%s is not there", current_row(), name);
    }
}

static const char *const key_parts[] = {OSSL_PKEY_PARAM_RSA_D,
                                        OSSL_PKEY_PARAM_RSA_D ", reversed",
                                        OSSL_PKEY_PARAM_RSA_FACTOR1,
                                        OSSL_PKEY_PARAM_RSA_FACTOR1 ", reversed",
                                        OSSL_PKEY_PARAM_RSA_FACTOR2,
                                        OSSL_PKEY_PARAM_RSA_FACTOR2 ", reversed",
                                        OSSL_PKEY_PARAM_RSA_EXPONENT1,
                                        OSSL_PKEY_PARAM_RSA_EXPONENT1 ", reversed",
                                        OSSL_PKEY_PARAM_RSA_EXPONENT2,
                                        OSSL_PKEY_PARAM_RSA_EXPONENT2 ", reversed",
                                        OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
                                        OSSL_PKEY_PARAM_RSA_COEFFICIENT1 ", reversed",
                                        "a line of the PEM text",
                                        "pass phrase",
                                        NULL};

static struct ibk_secret *secret_from(const char *name)
{
    struct ibk_secret *secret = secret_of(uncovered(name));
    cover();
    return secret;
}

static struct ibk_rsa_key *key_from(const char *name, bool encrypted)
{
    struct ibk_rsa_key *key;
    struct ibk_secret *passphrase = encrypted ? secret_from("pass phrase") : NULL;
    assert_ok(ibk_rsa_key_load(uncovered(name), passphrase, "key", &key, &err));
    cover();
    ibk_secret_release(passphrase);
    return key;
}

static void test_what_is_there_is_found(void **state)
{
    (void)state;
    struct ibk_secret *secret = secret_from("exponent");
    struct ibk_rsa_key *key = key_from("PKCS#8", false);
    assert_there("exponent");
    assert_there(OSSL_PKEY_PARAM_RSA_FACTOR1 ", reversed");
    ibk_rsa_key_release(key);
    ibk_secret_release(secret);
    (void)uncovered("PKCS#1"); /* in a static array: the search would see what a test forgets to cover */
    find_regions();
    assert_true(count_of("a line of the PEM text") == 0 && count_of("PKCS#1") > 0);
}

static void test_key(void **state)
{
    static const char *const files[] = {"PKCS#8", "PKCS#1", "encrypted", "legacy"};
    (void)state;
    for (size_t i = 0; i < COUNT(files); i++) {
        struct ibk_buf signature;
        row("%s", files[i]);
        struct ibk_rsa_key *key = key_from(files[i], i >= 2);
        ibk_buf_init(&signature, 1000);
        assert_ok(ibk_sign_rsa_sha256(LITERAL("message"), key, &signature, &err));
        ibk_buf_clean(&signature);
        ibk_rsa_key_release(key);
        assert_gone(key_parts);
    }
}

static void test_written_key(void **state)
{
    struct ibk_buf pem;
    (void)state;
    struct ibk_rsa_key *key = key_from("PKCS#1", false);
    ibk_buf_init_secret(&pem, MAX_SIZE);
    assert_ok(ibk_rsa_key_put_private(key, &pem, &err));
    assert_there("a line of the PEM text");
    ibk_buf_clean(&pem);
    ibk_rsa_key_release(key);
    assert_gone(key_parts);
}

static void test_refused_key(void **state)
{
    struct ibk_rsa_key *key;
    struct ibk_secret *wrong = secret_of(LITERAL("wrong"));
    (void)state;
    assert_int_equal(ibk_rsa_key_load(uncovered("encrypted"), wrong, "key", &key, &err), IBK_E_PASSPHRASE);
    ibk_span file = uncovered("PKCS#8");
    assert_int_equal(ibk_rsa_key_load(ibk_span_of(file.data, file.len - 200), NULL, "key", &key, &err), IBK_E_KEY_FORMAT);
    ibk_secret_release(wrong);
    assert_gone(key_parts);
}

static void test_key_without_memory(void **state)
{
    (void)state;
    ibk_code code = IBK_E_NO_MEMORY;
    for (unsigned long n = 1; code == IBK_E_NO_MEMORY; n++) {
        struct ibk_rsa_key *key;
        ibk_span file = uncovered("PKCS#8");
        ibk_test_fail_allocation(n);
        code = ibk_rsa_key_load(file, NULL, "key", &key, &err);
        ibk_test_fail_allocation(0);
        if (code == IBK_OK) {
            ibk_rsa_key_release(key);
        }
    }
    assert_int_equal(code, IBK_OK);
    assert_gone(key_parts);
}

static void add(struct ibk_params *params, const char *name, ibk_span value)
{
    assert_ok(ibk_params_add_text(params, name, value, &err));
}

/* The request for a live session token: its base string begins with the secret in hex. */
static void sign_with_secret(const struct ibk_secret *secret, const struct ibk_rsa_key *key)
{
    struct ibk_params oauth;
    struct ibk_buf header;
    ibk_params_init(&oauth);
    ibk_buf_init(&header, 10000);
    add(&oauth, "oauth_nonce", LITERAL("n"));
    const struct ibk_signature_input input = {
        .method = LITERAL("POST"),
        .url = LITERAL("https://api.ibkr.com/v1/api/oauth/live_session_token"),
        .oauth = &oauth,
        .query_signing = IBK_QUERY_OMIT,
        .prepend = secret,
        .rsa_key = key,
    };
    assert_ok(ibk_sign_request(&input, &header, &err));
    ibk_buf_clean(&header);
    ibk_params_clean(&oauth);
}

static struct ibk_secret *decrypt(struct ibk_rsa_key *key)
{
    struct ibk_secret *secret;
    assert_ok(ibk_rsa_decrypt(key, uncovered("ciphertext"), &secret, &err));
    cover();
    return secret;
}

static void test_access_token_secret(void **state)
{
    static const char *const names[] = {"access token secret", "access token secret in hex", NULL};
    bool fits;
    (void)state;
    struct ibk_rsa_key *key = key_from("PKCS#8", false);
    assert_ok(ibk_rsa_fits(key, uncovered("ciphertext"), &fits, &err));
    assert_true(fits);
    struct ibk_secret *secret = decrypt(key);
    assert_there("access token secret");
    sign_with_secret(secret, key);
    ibk_secret_release(secret);
    ibk_rsa_key_release(key);
    assert_gone(names);
}

/* The exchange up to the shared secret; another one is given up before that. */
static struct ibk_secret *exchange_secret(void)
{
    struct ibk_dh_params *group;
    struct ibk_dh_exchange *exchange, *given_up;
    struct ibk_secret *shared, *exponent = secret_from("exponent");
    struct ibk_buf challenge;
    assert_ok(ibk_dh_params_load(uncovered("group"), &group, &err));
    assert_ok(ibk_dh_exchange_new(group, exponent, &exchange, &err));
    assert_ok(ibk_dh_exchange_new(group, exponent, &given_up, &err));
    ibk_secret_release(exponent);
    ibk_buf_init(&challenge, 1000);
    ibk_dh_exchange_put_challenge(exchange, &challenge);
    ibk_buf_clean(&challenge);
    assert_there("exponent, reversed");
    ibk_dh_exchange_free(given_up);
    assert_ok(ibk_dh_exchange_finish(exchange, uncovered("response"), &shared, &err));
    ibk_dh_exchange_free(exchange);
    ibk_dh_params_release(group);
    return shared;
}

static void sign_with_token(const struct ibk_secret *token)
{
    struct ibk_signing signing;
    struct ibk_signer *signer;
    const struct ibk_signer_options options = {
        .consumer_key = LITERAL("TESTCONS"),
        .access_token = LITERAL("token"),
        .realm = LITERAL("test_realm"),
        .live_session_token = token,
    };
    assert_ok(ibk_signer_new(&options, &signer, &err));
    ibk_signing_init(&signing);
    signing.method = LITERAL("GET");
    signing.url = LITERAL("https://api.ibkr.com/v1/api/portfolio/accounts");
    signing.timestamp = LITERAL("1");
    assert_ok(ibk_signer_sign(signer, &signing, &err));
    ibk_signing_clean(&signing);
    ibk_signer_release(signer);
}

static void test_live_session_token(void **state)
{
    static const char *const names[] = {"exponent",
                                        "exponent, reversed",
                                        "shared secret",
                                        "shared secret, reversed",
                                        "token",
                                        "token in base64",
                                        "token in the inner key of HMAC",
                                        "token in the outer key of HMAC",
                                        "access token secret",
                                        NULL};
    struct ibk_secret *token;
    struct ibk_buf text;
    (void)state;
    struct ibk_rsa_key *key = key_from("PKCS#8", false);
    struct ibk_secret *shared = exchange_secret();
    struct ibk_secret *secret = decrypt(key);
    assert_there("shared secret");
    assert_ok(ibk_lst_derive(shared, secret, &token, &err));
    assert_there("token");
    assert_int_equal(ibk_lst_verify(token, LITERAL("TESTCONS"), repeated("0", 40), &err), IBK_E_TOKEN_MISMATCH);
    sign_with_token(token);
    ibk_buf_init_secret(&text, 100);
    ibk_base64_put(&text, ibk_secret_peek(token));
    assert_there("token in base64");
    ibk_buf_clean(&text);
    ibk_secret_release(token);
    ibk_secret_release(secret);
    ibk_secret_release(shared);
    ibk_rsa_key_release(key);
    assert_gone(names);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        checked(test_what_is_there_is_found),
        checked(test_key),
        checked(test_written_key),
        checked(test_refused_key),
        checked(test_key_without_memory),
        checked(test_access_token_secret),
        checked(test_live_session_token),
    };
    if (argc == 2 && strcmp(argv[1], "plant") == 0) {
        plant_all();
        return 0;
    }
    return cmocka_run_group_tests_name("wiped", tests, receive_plants, NULL);
}
