/*
 * dh.c - Diffie-Hellman on big numbers.
 *
 * Why not EVP: one and the same path serves random exponents and the fixed ones of known answers, the group comes as it was
 * registered (no q, no named group), and the Montgomery form of the prime is computed once per group. The exponentiation is
 * OpenSSL's constant-time one.
 */
#include "ibk/dh.h"

#include "ibk/encode.h"
#include "ibk/oauth.h"
#include "ossl.h"
#include "pem.h"

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdatomic.h>

#define MAX_PRIME_SIZE (IBK_DH_MAX_BITS / 8)

struct ibk_dh_params {
    atomic_size_t references;
    BIGNUM *prime;
    BIGNUM *last;      /* prime - 1 */
    BIGNUM *base;      /* the generator */
    BN_MONT_CTX *mont; /* only read */
    unsigned long generator;
    size_t size; /* of the prime, bytes */
};

struct ibk_dh_exchange {
    struct ibk_dh_params *params;
    BIGNUM *exponent;
    atomic_bool used;
    size_t challenge_len;
    uint8_t challenge[MAX_PRIME_SIZE];
};

static void free_params(struct ibk_dh_params *params)
{
    BN_free(params->prime);
    BN_free(params->last);
    BN_free(params->base);
    BN_MONT_CTX_free(params->mont);
    ibk_free(params);
}

struct ibk_dh_params *ibk_dh_params_acquire(struct ibk_dh_params *params)
{
    if (params != NULL) {
        atomic_fetch_add_explicit(&params->references, 1, memory_order_relaxed);
    }
    return params;
}

void ibk_dh_params_release(struct ibk_dh_params *params)
{
    if (params != NULL && atomic_fetch_sub_explicit(&params->references, 1, memory_order_acq_rel) == 1) {
        free_params(params);
    }
}

static ibk_code check_numbers(const BIGNUM *prime, unsigned long generator, struct ibk_error *err)
{
    int bits = BN_num_bits(prime);
    if (bits < (int)IBK_DH_MIN_BITS) { /* its bytes were not too many */
        return ibk_fail(err, IBK_E_DH_PARAMETERS, "ibk_dh_params_load", "Diffie-Hellman prime of %d bits, expected %u to %u",
                        bits, IBK_DH_MIN_BITS, IBK_DH_MAX_BITS);
    }
    if (!BN_is_odd(prime)) {
        return ibk_fail(err, IBK_E_DH_PARAMETERS, "ibk_dh_params_load", "Diffie-Hellman prime is even, so it is no prime");
    }
    if (generator != 2 && generator != 5) {
        return ibk_fail(err, IBK_E_DH_PARAMETERS, "ibk_dh_params_load", "Diffie-Hellman generator is %lu, expected 2 (or 5)",
                        generator);
    }
    return IBK_OK;
}

ibk_code ibk_dh_params_new(ibk_span prime, unsigned long generator, struct ibk_dh_params **out, struct ibk_error *err)
{
    *out = NULL;
    while (prime.len > 0 && prime.data[0] == 0) {
        prime = ibk_span_of(prime.data + 1, prime.len - 1);
    }
    if (prime.len > MAX_PRIME_SIZE) {
        return ibk_fail(err, IBK_E_DH_PARAMETERS, __func__, "Diffie-Hellman prime of %zu bytes, expected at most %u bits",
                        prime.len, IBK_DH_MAX_BITS);
    }
    struct ibk_dh_params *made = ibk_alloc(sizeof *made);
    if (made == NULL) {
        return ibk_fail_memory(err, __func__);
    }
    *made = (struct ibk_dh_params){.generator = generator, .size = prime.len};
    atomic_init(&made->references, 1);
    made->prime = BN_bin2bn(prime.data, (int)prime.len, NULL);
    made->base = BN_new();
    ibk_code code = IBK_E_CRYPTO;
    if (made->prime == NULL || made->base == NULL || BN_set_word(made->base, generator) != 1 ||
        (made->last = BN_dup(made->prime)) == NULL) {
        code = ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "Diffie-Hellman parameters could not be set up");
        goto failed;
    }
    code = check_numbers(made->prime, generator, err);
    if (code != IBK_OK) {
        goto failed;
    }
    BN_CTX *context = BN_CTX_new();
    made->mont = BN_MONT_CTX_new();
    bool good = context != NULL && made->mont != NULL && BN_sub_word(made->last, 1) == 1 &&
                BN_MONT_CTX_set(made->mont, made->prime, context) == 1;
    BN_CTX_free(context);
    if (!good) {
        code = ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "Diffie-Hellman parameters could not be set up");
        goto failed;
    }
    *out = made;
    return IBK_OK;
failed:
    free_params(made);
    return code;
}

/* PKCS#3 DHParameter: SEQUENCE { prime INTEGER, base INTEGER, privateValueLength INTEGER OPTIONAL }. */
static ibk_code load_der(ibk_span der, struct ibk_dh_params **out, struct ibk_error *err)
{
    ibk_span sequence;
    ibk_span prime;
    ibk_span base;
    ibk_span length;
    if (!ibk_der_take(&der, IBK_DER_SEQUENCE, &sequence) || der.len != 0 || !ibk_der_take(&sequence, IBK_DER_INTEGER, &prime) ||
        !ibk_der_take(&sequence, IBK_DER_INTEGER, &base) || prime.len == 0 || base.len == 0) {
        return ibk_fail(err, IBK_E_DH_PARAMETERS, "ibk_dh_params_load",
                        "Diffie-Hellman parameters: not the two integers of PKCS#3 (cut off, or another kind of file)");
    }
    if (sequence.len != 0 && (!ibk_der_take(&sequence, IBK_DER_INTEGER, &length) || sequence.len != 0 || length.len > 4)) {
        return ibk_fail(err, IBK_E_DH_PARAMETERS, "ibk_dh_params_load",
                        "Diffie-Hellman parameters: X9.42 or with other extra numbers, expected PKCS#3 with prime and generator");
    }
    if ((prime.data[0] & 0x80u) != 0 || (base.data[0] & 0x80u) != 0) {
        return ibk_fail(err, IBK_E_DH_PARAMETERS, "ibk_dh_params_load",
                        "Diffie-Hellman parameters: a negative DER integer (its leading zero byte is missing); IBKR would "
                        "accept the upload and then answer 401");
    }
    unsigned long generator = base.len == 1 ? base.data[0] : 0;
    return ibk_dh_params_new(prime, generator, out, err);
}

/* The prime in hex, as people copy it: white space and the colons of "openssl dhparam -text" are passed over. Returns the
 * position of the first other character, or text.len. */
static size_t collect_hex(ibk_span text, struct ibk_buf *out)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte = text.data[i];
        if ((byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F')) {
            ibk_buf_put_byte(out, byte);
        } else if (byte != ' ' && byte != ':' && !(byte >= '\t' && byte <= '\r')) {
            return i;
        }
    }
    return text.len;
}

static ibk_code load_hex(ibk_span digits, struct ibk_dh_params **out, struct ibk_error *err)
{
    struct ibk_buf prime;
    ibk_buf_init(&prime, IBK_KEY_FILE_MAX_SIZE);
    ibk_code code = ibk_hex_decode_number(digits, "Diffie-Hellman prime", &prime, err);
    if (code == IBK_OK) {
        code = ibk_dh_params_new(ibk_buf_peek(&prime), 2, out, err);
    }
    ibk_buf_clean(&prime);
    return code;
}

static ibk_code load_pem(ibk_span file, struct ibk_dh_params **out, struct ibk_error *err)
{
    struct ibk_pem pem;
    ibk_code code = ibk_pem_read(file, "DH PARAMETERS", "Diffie-Hellman parameters", IBK_E_DH_PARAMETERS, &pem, err);
    if (code == IBK_OK && pem.label[0] != '\0' && strcmp(pem.label, "DH PARAMETERS") != 0) {
        code = ibk_fail(err, IBK_E_DH_PARAMETERS, "ibk_dh_params_load",
                        "Diffie-Hellman parameters: the file has BEGIN %s, expected BEGIN DH PARAMETERS (PKCS#3)", pem.label);
    }
    if (code == IBK_OK) {
        code = load_der(ibk_buf_peek(&pem.bytes), out, err);
    }
    ibk_pem_clean(&pem);
    return code;
}

/* So many hex digits at the start are no PEM, DER or base64 of either, which begin with other letters. */
#define SURELY_HEX 32u

ibk_code ibk_dh_params_load(ibk_span file, struct ibk_dh_params **out, struct ibk_error *err)
{
    struct ibk_buf text;
    struct ibk_buf digits;

    *out = NULL;
    ibk_buf_init_secret(&text, IBK_KEY_FILE_MAX_SIZE);
    ibk_buf_init(&digits, IBK_KEY_FILE_MAX_SIZE);
    ibk_code code = ibk_pem_text(file, "Diffie-Hellman parameters", IBK_E_DH_PARAMETERS, &text, err);
    if (code == IBK_OK) {
        size_t end = collect_hex(ibk_buf_peek(&text), &digits);
        bool prefixed = digits.len == 1 && digits.data[0] == '0' && end < text.len && (text.data[end] | 0x20) == 'x';
        code = ibk_buf_check(&digits, "Diffie-Hellman prime", err);
        if (code == IBK_OK && end == text.len && digits.len > 0) {
            code = load_hex(ibk_buf_peek(&digits), out, err);
        } else if (code == IBK_OK && (digits.len >= SURELY_HEX || prefixed)) {
            code = ibk_fail(err, IBK_E_DH_PARAMETERS, __func__,
                            "Diffie-Hellman prime: character %zu of %zu is no hex digit; expected 0-9 a-f, no prefix", end + 1,
                            text.len);
        } else if (code == IBK_OK) {
            code = load_pem(file, out, err);
        }
    }
    ibk_buf_clean(&text);
    ibk_buf_clean(&digits);
    return code;
}

static int prime_step(int event, int count, BN_GENCB *callback)
{
    (void)event;
    (void)count;
    return ibk_watch_goes_on(BN_GENCB_get_arg(callback));
}

/* A safe prime p with p = 23 (mod 24): then 2 generates the subgroup of order (p - 1) / 2. */
static ibk_code search_prime(unsigned int bits, struct ibk_watch *watch, BIGNUM *prime, struct ibk_error *err)
{
    BIGNUM *step = BN_new();
    BIGNUM *remainder = BN_new();
    BN_CTX *context = BN_CTX_new();
    BN_GENCB *callback = BN_GENCB_new();
    bool good = step != NULL && remainder != NULL && context != NULL && callback != NULL && BN_set_word(step, 24) == 1 &&
                BN_set_word(remainder, 23) == 1;
    if (good) {
        BN_GENCB_set(callback, prime_step, watch);
        good = BN_generate_prime_ex2(prime, (int)bits, 1, step, remainder, callback, context) == 1;
    }
    BN_GENCB_free(callback);
    BN_CTX_free(context);
    BN_free(remainder);
    BN_free(step);
    if (watch->stopped) {
        ERR_clear_error();
        return ibk_fail(err, IBK_E_INTERRUPTED, "ibk_dh_params_generate", "the search for a prime was stopped");
    }
    return good ? IBK_OK : ibk_fail_ossl(err, IBK_E_CRYPTO, "ibk_dh_params_generate", "no prime could be generated");
}

ibk_code ibk_dh_params_generate(unsigned int bits, const struct ibk_progress *progress, struct ibk_dh_params **out,
                                struct ibk_error *err)
{
    struct ibk_watch watch = {.progress = progress, .stopped = false};
    uint8_t bytes[MAX_PRIME_SIZE];

    *out = NULL;
    if (bits < IBK_DH_MIN_BITS || bits > IBK_DH_MAX_BITS) {
        return ibk_fail(err, IBK_E_ARGUMENT, __func__, "Diffie-Hellman prime of %u bits asked for, expected %u to %u", bits,
                        IBK_DH_MIN_BITS, IBK_DH_MAX_BITS);
    }
    BIGNUM *prime = BN_new();
    if (prime == NULL) {
        return ibk_fail_memory(err, __func__);
    }
    ibk_code code = search_prime(bits, &watch, prime, err);
    if (code == IBK_OK) {
        int len = BN_bn2bin(prime, bytes);
        code = ibk_dh_params_new(ibk_span_of(bytes, (size_t)len), 2, out, err);
    }
    BN_free(prime);
    return code;
}

size_t ibk_dh_params_bits(const struct ibk_dh_params *params)
{
    return (size_t)BN_num_bits(params->prime);
}

unsigned long ibk_dh_params_generator(const struct ibk_dh_params *params)
{
    return params->generator;
}

void ibk_dh_params_put_prime(const struct ibk_dh_params *params, struct ibk_buf *out)
{
    uint8_t *room = ibk_buf_put_room(out, params->size);
    if (room != NULL) {
        (void)BN_bn2bin(params->prime, room);
    }
}

static ibk_code put_der(const struct ibk_dh_params *params, struct ibk_buf *out, struct ibk_error *err)
{
    struct ibk_buf prime;
    struct ibk_buf numbers;

    ibk_buf_init(&prime, MAX_PRIME_SIZE);
    ibk_buf_init(&numbers, IBK_KEY_FILE_MAX_SIZE);
    ibk_dh_params_put_prime(params, &prime);
    const uint8_t generator = (uint8_t)params->generator;
    ibk_der_put_integer(&numbers, ibk_buf_peek(&prime));
    ibk_der_put_integer(&numbers, ibk_span_of(&generator, 1));
    ibk_der_put(out, IBK_DER_SEQUENCE, ibk_buf_peek(&numbers));
    ibk_code code = ibk_buf_check(&prime, "Diffie-Hellman prime", err);
    if (code == IBK_OK) {
        code = ibk_buf_check(&numbers, "Diffie-Hellman parameters", err);
    }
    if (code == IBK_OK) {
        code = ibk_buf_check(out, "Diffie-Hellman parameters", err);
    }
    ibk_buf_clean(&prime);
    ibk_buf_clean(&numbers);
    return code;
}

ibk_code ibk_dh_params_put_pem(const struct ibk_dh_params *params, struct ibk_buf *out, struct ibk_error *err)
{
    struct ibk_buf der;
    ibk_buf_init(&der, IBK_KEY_FILE_MAX_SIZE);
    ibk_code code = put_der(params, &der, err);
    if (code == IBK_OK) {
        ibk_pem_put(out, "DH PARAMETERS", ibk_buf_peek(&der));
        code = ibk_buf_check(out, "Diffie-Hellman parameters", err);
    }
    ibk_buf_clean(&der);
    return code;
}

ibk_code ibk_dh_params_fingerprint(const struct ibk_dh_params *params, uint8_t out[IBK_FINGERPRINT_SIZE], struct ibk_error *err)
{
    struct ibk_buf der;
    ibk_buf_init(&der, IBK_KEY_FILE_MAX_SIZE);
    ibk_code code = put_der(params, &der, err);
    if (code == IBK_OK) {
        code = ibk_fingerprint(ibk_buf_peek(&der), out, err);
    }
    ibk_buf_clean(&der);
    return code;
}

ibk_code ibk_dh_params_check(const struct ibk_dh_params *params, struct ibk_error *err)
{
    BIGNUM *half = BN_dup(params->prime);
    BN_CTX *context = BN_CTX_new();
    int prime_is_prime = -1;
    int half_is_prime = -1;
    if (half != NULL && context != NULL && BN_rshift1(half, half) == 1) {
        prime_is_prime = BN_check_prime(params->prime, context, NULL);
        half_is_prime = prime_is_prime == 1 ? BN_check_prime(half, context, NULL) : 0;
    }
    BN_free(half);
    BN_CTX_free(context);
    if (prime_is_prime < 0 || half_is_prime < 0) {
        return ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "Diffie-Hellman parameters could not be checked");
    }
    if (prime_is_prime == 0) {
        return ibk_fail(err, IBK_E_DH_PARAMETERS, __func__, "Diffie-Hellman prime of %zu bits is not prime",
                        ibk_dh_params_bits(params));
    }
    if (half_is_prime == 0) {
        return ibk_fail(err, IBK_E_DH_PARAMETERS, __func__,
                        "Diffie-Hellman prime of %zu bits is not safe: (p - 1) / 2 is not prime", ibk_dh_params_bits(params));
    }
    return IBK_OK;
}

/* result = base ^ exponent mod prime, in constant time. */
static bool power(const struct ibk_dh_params *params, const BIGNUM *base, const BIGNUM *exponent, BIGNUM *result)
{
    BN_CTX *context = BN_CTX_secure_new();
    bool good = context != NULL && BN_mod_exp_mont_consttime(result, base, exponent, params->prime, context, params->mont) == 1;
    BN_CTX_free(context);
    return good;
}

static ibk_code make_exponent(const struct ibk_dh_params *params, const struct ibk_secret *given, BIGNUM **out,
                              struct ibk_error *err)
{
    uint8_t random[IBK_DH_SECRET_SIZE] = {0};
    ibk_span bytes = ibk_span_of(random, sizeof random);

    if (given != NULL) {
        bytes = ibk_secret_peek(given);
    } else {
        ibk_code code = ibk_random(random, sizeof random, err);
        if (code != IBK_OK) {
            return code;
        }
    }
    if (bytes.len > params->size) {
        return ibk_fail(err, IBK_E_ARGUMENT, "ibk_dh_exchange_new", "Diffie-Hellman secret of %zu bytes, expected at most %zu",
                        bytes.len, params->size);
    }
    BIGNUM *exponent = BN_secure_new();
    bool made = exponent != NULL && BN_bin2bn(bytes.data, (int)bytes.len, exponent) != NULL;
    OPENSSL_cleanse(random, sizeof random);
    if (!made) {
        BN_clear_free(exponent);
        return ibk_fail_ossl(err, IBK_E_CRYPTO, "ibk_dh_exchange_new", "Diffie-Hellman secret could not be set up");
    }
    if (BN_is_zero(exponent) || BN_is_one(exponent) || BN_cmp(exponent, params->last) >= 0) {
        BN_clear_free(exponent);
        return ibk_fail(err, IBK_E_ARGUMENT, "ibk_dh_exchange_new", "Diffie-Hellman secret must lie between 1 and p - 1");
    }
    BN_set_flags(exponent, BN_FLG_CONSTTIME);
    *out = exponent;
    return IBK_OK;
}

ibk_code ibk_dh_exchange_new(struct ibk_dh_params *params, const struct ibk_secret *exponent, struct ibk_dh_exchange **out,
                             struct ibk_error *err)
{
    *out = NULL;
    struct ibk_dh_exchange *made = ibk_alloc(sizeof *made);
    BIGNUM *challenge = BN_new();
    if (made == NULL || challenge == NULL) {
        ibk_free(made);
        BN_free(challenge);
        return ibk_fail_memory(err, __func__);
    }
    made->params = ibk_dh_params_acquire(params);
    made->exponent = NULL;
    atomic_init(&made->used, false);
    ibk_code code = make_exponent(params, exponent, &made->exponent, err);
    if (code == IBK_OK && !power(params, params->base, made->exponent, challenge)) {
        code = ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "Diffie-Hellman challenge could not be computed");
    }
    if (code == IBK_OK) {
        made->challenge_len = (size_t)BN_bn2bin(challenge, made->challenge);
        *out = made;
    } else {
        ibk_dh_exchange_free(made);
    }
    BN_free(challenge);
    return code;
}

void ibk_dh_exchange_free(struct ibk_dh_exchange *exchange)
{
    if (exchange != NULL) {
        BN_clear_free(exchange->exponent);
        ibk_dh_params_release(exchange->params);
        ibk_free(exchange);
    }
}

void ibk_dh_exchange_put_challenge(const struct ibk_dh_exchange *exchange, struct ibk_buf *out)
{
    ibk_span bytes = ibk_span_of(exchange->challenge, exchange->challenge_len);
    if (bytes.len > 0 && bytes.data[0] < 0x10) { /* an odd number of digits: the first byte has one */
        ibk_buf_put_byte(out, (uint8_t)"0123456789abcdef"[bytes.data[0]]);
        bytes = ibk_span_of(bytes.data + 1, bytes.len - 1);
    }
    ibk_hex_put(out, bytes);
}

/* B as a number in 2..p-2. */
static ibk_code read_response(const struct ibk_dh_params *params, ibk_span text, BIGNUM *out, struct ibk_error *err)
{
    struct ibk_buf bytes;
    size_t given = text.len;

    if (given == 0) {
        return ibk_fail(err, IBK_E_DH_RESPONSE, "ibk_dh_exchange_finish", "Diffie-Hellman response is empty");
    }
    while (text.len > 1 && text.data[0] == '0') {
        text = ibk_span_of(text.data + 1, text.len - 1);
    }
    if (text.len > 2 * params->size) {
        return ibk_fail(err, IBK_E_DH_RESPONSE, "ibk_dh_exchange_finish",
                        "Diffie-Hellman response has %zu characters, expected at most %zu hex digits", given, 2 * params->size);
    }
    ibk_buf_init(&bytes, MAX_PRIME_SIZE);
    ibk_code code = ibk_hex_decode_number(text, "Diffie-Hellman response", &bytes, err);
    if (code == IBK_E_ENCODING) {
        code = ibk_fail(err, IBK_E_DH_RESPONSE, "ibk_dh_exchange_finish", "Diffie-Hellman response of %zu characters is not hex",
                        given);
    } else if (code == IBK_OK && BN_bin2bn(bytes.data, (int)bytes.len, out) == NULL) {
        code = ibk_fail_memory(err, "ibk_dh_exchange_finish");
    } else if (code == IBK_OK && (BN_is_zero(out) || BN_is_one(out) || BN_cmp(out, params->last) >= 0)) {
        code = ibk_fail(err, IBK_E_DH_RESPONSE, "ibk_dh_exchange_finish",
                        "Diffie-Hellman response is out of range, expected 2 to p - 2");
    }
    ibk_buf_clean(&bytes);
    return code;
}

static ibk_code shared_bytes(const struct ibk_dh_params *params, const BIGNUM *shared, struct ibk_secret **out,
                             struct ibk_error *err)
{
    struct ibk_buf bytes;
    struct ibk_buf java;
    ibk_buf_init_secret(&bytes, MAX_PRIME_SIZE);
    ibk_buf_init_secret(&java, MAX_PRIME_SIZE + 1);
    uint8_t *room = ibk_buf_put_room(&bytes, params->size);
    if (room != NULL) {
        (void)BN_bn2binpad(shared, room, (int)params->size);
        ibk_java_bytes_put(&java, ibk_buf_peek(&bytes));
    }
    ibk_code code = ibk_buf_check(&bytes, "Diffie-Hellman secret", err);
    if (code == IBK_OK) {
        code = ibk_buf_check(&java, "Diffie-Hellman secret", err);
    }
    if (code == IBK_OK) {
        code = ibk_secret_new(ibk_buf_peek(&java), out, err);
    }
    ibk_buf_clean(&bytes);
    ibk_buf_clean(&java);
    return code;
}

ibk_code ibk_dh_exchange_finish(struct ibk_dh_exchange *exchange, ibk_span response_hex, struct ibk_secret **out,
                                struct ibk_error *err)
{
    *out = NULL;
    if (atomic_exchange(&exchange->used, true)) {
        return ibk_fail(err, IBK_E_USED, __func__, "this Diffie-Hellman exchange was finished before; start another one");
    }
    BIGNUM *response = BN_new();
    BIGNUM *shared = BN_secure_new();
    ibk_code code = response == NULL || shared == NULL ? ibk_fail_memory(err, __func__)
                                                       : read_response(exchange->params, response_hex, response, err);
    if (code == IBK_OK && !power(exchange->params, response, exchange->exponent, shared)) {
        code = ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "Diffie-Hellman secret could not be computed");
    }
    if (code == IBK_OK) {
        code = shared_bytes(exchange->params, shared, out, err);
    }
    BN_clear_free(exchange->exponent);
    exchange->exponent = NULL;
    BN_clear_free(shared);
    BN_free(response);
    return code;
}
