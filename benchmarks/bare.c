/*
 * bare.c - what OpenSSL alone costs: the operations of one live session token and of one signed request, with everything made
 * ready that can be, and reading a private key. Compiled when the benchmarks run; one thread, one set of keys.
 */
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <string.h>

#define MAX_SIZE 1024

struct bytes {
    unsigned char data[MAX_SIZE];
    size_t len;
};

enum result { CHALLENGE, SECRET, SIGNATURE, TOKEN, PROOF, HEADER_MAC, RESULT_COUNT };

static struct bytes results[RESULT_COUNT];

static BIGNUM *prime, *generator, *exponent, *response, *power;
static BN_CTX *numbers;
static BN_MONT_CTX *montgomery;
static EVP_PKEY_CTX *decryption;
static EVP_MD_CTX *signature_template, *signature;
static EVP_MAC_CTX *sha1, *sha256;
static struct bytes ciphertext, base_string, consumer_key, header_key;

static int keep(struct bytes *to, const unsigned char *data, size_t len)
{
    if (len > sizeof to->data) {
        return 0;
    }
    memcpy(to->data, data, len);
    to->len = len;
    return 1;
}

const char *bare_version(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}

int bare_set_group(const unsigned char *p, int p_len, unsigned long g, const unsigned char *a, int a_len, const unsigned char *b,
                   int b_len)
{
    numbers = BN_CTX_secure_new();
    montgomery = BN_MONT_CTX_new();
    prime = BN_bin2bn(p, p_len, NULL);
    exponent = BN_bin2bn(a, a_len, BN_secure_new());
    response = BN_bin2bn(b, b_len, NULL);
    generator = BN_new();
    power = BN_new();
    if (numbers == NULL || montgomery == NULL || prime == NULL || exponent == NULL || response == NULL || generator == NULL ||
        power == NULL) {
        return 0;
    }
    BN_set_flags(exponent, BN_FLG_CONSTTIME);
    return BN_set_word(generator, g) == 1 && BN_MONT_CTX_set(montgomery, prime, numbers) == 1;
}

static EVP_PKEY *read_key(const char *pem)
{
    BIO *file = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(file, NULL, NULL, NULL);
    BIO_free(file);
    return key;
}

int bare_set_keys(const char *signing_pem, const char *encryption_pem)
{
    EVP_PKEY *signing = read_key(signing_pem);
    EVP_PKEY *encryption = read_key(encryption_pem);
    if (signing == NULL || encryption == NULL) {
        return 0;
    }
    signature_template = EVP_MD_CTX_new();
    signature = EVP_MD_CTX_new();
    decryption = EVP_PKEY_CTX_new_from_pkey(NULL, encryption, NULL);
    return signature_template != NULL && signature != NULL && decryption != NULL &&
           EVP_DigestSignInit_ex(signature_template, NULL, "SHA256", NULL, NULL, signing, NULL) == 1 &&
           EVP_PKEY_decrypt_init(decryption) == 1 && EVP_PKEY_CTX_set_rsa_padding(decryption, RSA_PKCS1_PADDING) == 1;
}

int bare_set_texts(const unsigned char *secret, size_t secret_len, const unsigned char *base, size_t base_len,
                   const unsigned char *consumer, size_t consumer_len)
{
    return keep(&ciphertext, secret, secret_len) && keep(&base_string, base, base_len) &&
           keep(&consumer_key, consumer, consumer_len);
}

/* Reads it, and lets it go. */
int bare_read_key(const char *pem)
{
    EVP_PKEY *key = read_key(pem);
    EVP_PKEY_free(key);
    return key != NULL;
}

static EVP_MAC_CTX *new_hmac(char *digest, const unsigned char *key, size_t len)
{
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = EVP_MAC_CTX_new(hmac);
    const OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    EVP_MAC_free(hmac);
    return context != NULL && EVP_MAC_init(context, key, len, params) == 1 ? context : NULL;
}

int bare_set_hmac(const unsigned char *token, size_t len)
{
    char name_sha1[] = "SHA1";
    char name_sha256[] = "SHA256";
    sha1 = new_hmac(name_sha1, token, len);
    sha256 = new_hmac(name_sha256, token, len);
    return sha1 != NULL && sha256 != NULL && keep(&header_key, token, len);
}

/* key NULL: the one that is there already. */
static int hmac(EVP_MAC_CTX *context, const struct bytes *key, const struct bytes *message, struct bytes *out)
{
    return EVP_MAC_init(context, key != NULL ? key->data : NULL, key != NULL ? key->len : 0, NULL) == 1 &&
           EVP_MAC_update(context, message->data, message->len) == 1 &&
           EVP_MAC_final(context, out->data, &out->len, sizeof out->data) == 1;
}

static int power_of(const BIGNUM *base, struct bytes *out)
{
    if (BN_mod_exp_mont_consttime(power, base, exponent, prime, numbers, montgomery) != 1) {
        return 0;
    }
    out->len = (size_t)BN_bn2bin(power, out->data);
    return 1;
}

static int sign(const struct bytes *message, struct bytes *out)
{
    out->len = sizeof out->data;
    return EVP_MD_CTX_copy_ex(signature, signature_template) == 1 &&
           EVP_DigestSign(signature, out->data, &out->len, message->data, message->len) == 1;
}

/* Two powers, decryption, signature, derivation, proof. */
int bare_token(void)
{
    struct bytes shared, key = {.len = 0};
    struct bytes *secret = &results[SECRET];
    secret->len = sizeof secret->data;
    if (!power_of(generator, &results[CHALLENGE]) || !power_of(response, &shared) ||
        EVP_PKEY_decrypt(decryption, secret->data, &secret->len, ciphertext.data, ciphertext.len) != 1 ||
        !sign(&base_string, &results[SIGNATURE])) {
        return 0;
    }
    size_t sign_byte = shared.data[0] >> 7; /* Java's bytes */
    memcpy(key.data + sign_byte, shared.data, shared.len);
    key.len = shared.len + sign_byte;
    return hmac(sha1, &key, secret, &results[TOKEN]) && hmac(sha1, &results[TOKEN], &consumer_key, &results[PROOF]);
}

/* HMAC-SHA256 of the message, count times over. */
int bare_header_mac(const unsigned char *data, size_t len, long count)
{
    struct bytes message;
    /* Before 3.0.3 a context did not start anew without its key (OpenSSL's issue 17811). */
    const struct bytes *key = OpenSSL_version_num() < 0x30000030ul ? &header_key : NULL;
    int good = keep(&message, data, len);
    for (long i = 0; good && i < count; i++) {
        good = hmac(sha256, key, &message, &results[HEADER_MAC]);
    }
    return good;
}

size_t bare_result(int which, unsigned char *out)
{
    memcpy(out, results[which].data, results[which].len);
    return results[which].len;
}
