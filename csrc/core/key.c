/* key.c - private RSA keys through EVP. */
#include "ibk/key.h"

#include "ibk/encode.h"
#include "ossl.h"
#include "pem.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdatomic.h>
#include <stdio.h>

#define MAX_MODULUS_SIZE (IBK_RSA_MAX_BITS / 8)

struct ibk_rsa_key {
    atomic_size_t references;
    EVP_PKEY *pkey; /* only read */
    size_t size;    /* of the modulus, bytes */
};

/* Takes pkey over, also on failure. */
static ibk_code wrap(EVP_PKEY *pkey, struct ibk_rsa_key **out, struct ibk_error *err)
{
    struct ibk_rsa_key *key = ibk_alloc(sizeof *key);
    if (key == NULL) {
        EVP_PKEY_free(pkey);
        return ibk_fail_memory(err, "ibk_rsa_key_load");
    }
    atomic_init(&key->references, 1);
    key->pkey = pkey;
    key->size = (size_t)EVP_PKEY_get_size(pkey);
    *out = key;
    return IBK_OK;
}

struct ibk_rsa_key *ibk_rsa_key_acquire(struct ibk_rsa_key *key)
{
    if (key != NULL) {
        atomic_fetch_add_explicit(&key->references, 1, memory_order_relaxed);
    }
    return key;
}

void ibk_rsa_key_release(struct ibk_rsa_key *key)
{
    if (key != NULL && atomic_fetch_sub_explicit(&key->references, 1, memory_order_acq_rel) == 1) {
        EVP_PKEY_free(key->pkey);
        ibk_free(key);
    }
}

/*
 * Private keys are read and written here, number by number. OpenSSL's decoders and encoders would do the same, but leave the
 * whole key behind in memory that they have freed and not wiped.
 */

#define NUMBERS 8u
static const char *const number_names[NUMBERS] = {
    /* in the order of PKCS#1 RSAPrivateKey, after its version */
    OSSL_PKEY_PARAM_RSA_N,       OSSL_PKEY_PARAM_RSA_E,         OSSL_PKEY_PARAM_RSA_D,         OSSL_PKEY_PARAM_RSA_FACTOR1,
    OSSL_PKEY_PARAM_RSA_FACTOR2, OSSL_PKEY_PARAM_RSA_EXPONENT1, OSSL_PKEY_PARAM_RSA_EXPONENT2, OSSL_PKEY_PARAM_RSA_COEFFICIENT1,
};

static const uint8_t rsa_encryption[] = {0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01}; /* OID 1.2.840.113549.1.1.1 */

/* *out stays NULL where OpenSSL does not take them. params ends with OSSL_PARAM_construct_end(). */
static ibk_code key_of_numbers(OSSL_PARAM *params, EVP_PKEY **out, struct ibk_error *err)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    ibk_code code = IBK_OK;
    if (context == NULL || EVP_PKEY_fromdata_init(context) != 1) {
        code = ibk_fail_ossl(err, IBK_E_CRYPTO, "ibk_rsa_key_load", "OpenSSL provides no RSA; check its configuration");
    } else if (EVP_PKEY_fromdata(context, out, EVP_PKEY_KEYPAIR, params) != 1) {
        EVP_PKEY_free(*out);
        *out = NULL;
    }
    EVP_PKEY_CTX_free(context);
    return code;
}

/* A DER integer as OSSL_PARAM has numbers, into room for as many bytes; false for a negative one. */
static bool native_number(ibk_span number, uint8_t *room)
{
    BIGNUM *value = number.len == 0 || (number.data[0] & 0x80u) != 0 ? NULL : BN_secure_new();
    bool good = value != NULL && BN_bin2bn(number.data, (int)number.len, value) != NULL &&
                BN_bn2nativepad(value, room, (int)number.len) == (int)number.len;
    BN_clear_free(value);
    return good;
}

/* PKCS#1 RSAPrivateKey with two primes. *out stays NULL where the bytes are something else. */
static ibk_code take_pkcs1(ibk_span der, EVP_PKEY **out, struct ibk_error *err)
{
    OSSL_PARAM params[NUMBERS + 1];
    ibk_span sequence;
    ibk_span number;
    struct ibk_buf numbers;

    if (!ibk_der_take(&der, IBK_DER_SEQUENCE, &sequence) || der.len != 0 || !ibk_der_take(&sequence, IBK_DER_INTEGER, &number) ||
        number.len != 1 || number.data[0] != 0) {
        return IBK_OK;
    }
    ibk_buf_init_secret(&numbers, sequence.len);
    uint8_t *room = ibk_buf_put_room(&numbers, sequence.len);
    ibk_code code = ibk_buf_check(&numbers, "key", err);
    size_t taken = 0;
    while (room != NULL && taken < NUMBERS && ibk_der_take(&sequence, IBK_DER_INTEGER, &number) && native_number(number, room)) {
        params[taken] = OSSL_PARAM_construct_BN(number_names[taken], room, number.len);
        room += number.len;
        taken++;
    }
    if (taken == NUMBERS && sequence.len == 0) {
        params[taken] = OSSL_PARAM_construct_end();
        code = key_of_numbers(params, out, err);
    }
    ibk_buf_clean(&numbers);
    return code;
}

/* PKCS#8 PrivateKeyInfo of an RSA key, or what is in it. */
static ibk_code take_plain(ibk_span der, EVP_PKEY **out, struct ibk_error *err)
{
    ibk_span whole = der;
    ibk_span sequence;
    ibk_span element;
    ibk_span algorithm;

    if (ibk_der_take(&der, IBK_DER_SEQUENCE, &sequence) && ibk_der_take(&sequence, IBK_DER_INTEGER, &element) &&
        ibk_der_take(&sequence, IBK_DER_SEQUENCE, &element) && ibk_der_take(&element, IBK_DER_OBJECT_IDENTIFIER, &algorithm) &&
        ibk_span_equal(algorithm, ibk_span_of(rsa_encryption, sizeof rsa_encryption)) &&
        ibk_der_take(&sequence, IBK_DER_OCTET_STRING, &element)) {
        return take_pkcs1(element, out, err);
    }
    return take_pkcs1(whole, out, err);
}

/* PKCS#8 EncryptedPrivateKeyInfo of an RSA key. */
static ibk_code take_encrypted(ibk_span der, const struct ibk_secret *passphrase, EVP_PKEY **out, struct ibk_error *err)
{
    const unsigned char *data = der.data;
    const unsigned char *key;
    const ASN1_OBJECT *algorithm;
    int len;
    ibk_code code = IBK_OK;
    ibk_span phrase = ibk_secret_peek(passphrase);
    X509_SIG *sealed = d2i_X509_SIG(NULL, &data, (long)der.len);
    PKCS8_PRIV_KEY_INFO *info =
        sealed == NULL ? NULL : PKCS8_decrypt(sealed, (const char *)phrase.data, (int)phrase.len); /* wiped when it is freed */
    if (info != NULL && PKCS8_pkey_get0(&algorithm, &key, &len, NULL, info) == 1 && OBJ_obj2nid(algorithm) == NID_rsaEncryption) {
        code = take_pkcs1(ibk_span_of(key, (size_t)len), out, err);
    }
    PKCS8_PRIV_KEY_INFO_free(info);
    X509_SIG_free(sealed);
    return code;
}

static int give_passphrase(char *room, int size, int writing, void *given)
{
    const struct ibk_secret *passphrase = *(const struct ibk_secret **)given;
    ibk_span phrase = passphrase == NULL ? ibk_span_of(NULL, 0) : ibk_secret_peek(passphrase);
    (void)writing;
    if (passphrase == NULL || phrase.len > (size_t)size) {
        return -1;
    }
    if (phrase.len > 0) {
        memcpy(room, phrase.data, phrase.len);
    }
    return (int)phrase.len;
}

/* PEM's own encryption, undone in place. */
static bool open_legacy(struct ibk_pem *pem, const struct ibk_secret *passphrase)
{
    char header[sizeof "Proc-Type: 4,ENCRYPTED\nDEK-Info: \n" + IBK_DEK_INFO_SIZE];
    EVP_CIPHER_INFO cipher;
    long len = (long)pem->bytes.len;
    (void)snprintf(header, sizeof header, "Proc-Type: 4,ENCRYPTED\nDEK-Info: %s\n", pem->dek_info);
    bool opened = PEM_get_EVP_CIPHER_INFO(header, &cipher) == 1 &&
                  PEM_do_header(&cipher, pem->bytes.data, &len, give_passphrase, &passphrase) == 1;
    pem->bytes.len = opened ? (size_t)len : pem->bytes.len;
    return opened;
}

/* What else OpenSSL can read, so that it can be refused by its name: NULL where it can not. Without pass phrase the decoder
 * fails instead of asking at the terminal. */
static EVP_PKEY *decode(const struct ibk_pem *pem, int selection, const struct ibk_secret *passphrase)
{
    EVP_PKEY *pkey = NULL;
    const unsigned char *data = pem->bytes.data;
    size_t len = pem->bytes.len;
    OSSL_DECODER_CTX *context = OSSL_DECODER_CTX_new_for_pkey(&pkey, "DER", NULL, NULL, selection, NULL, NULL);
    bool ready = context != NULL;
    if (ready && passphrase != NULL) {
        ibk_span phrase = ibk_secret_peek(passphrase);
        ready = OSSL_DECODER_CTX_set_passphrase(context, phrase.data, phrase.len) == 1;
    }
    if (!ready || OSSL_DECODER_from_data(context, &data, &len) != 1) {
        EVP_PKEY_free(pkey);
        pkey = NULL;
    }
    OSSL_DECODER_CTX_free(context);
    return pkey;
}

/* *out stays NULL where the bytes hold no private key. */
static ibk_code take_key(struct ibk_pem *pem, const struct ibk_secret *passphrase, EVP_PKEY **out, struct ibk_error *err)
{
    if (pem->dek_info[0] != '\0' && !open_legacy(pem, passphrase)) {
        return IBK_OK;
    }
    ibk_code code = take_plain(ibk_buf_peek(&pem->bytes), out, err);
    if (code == IBK_OK && *out == NULL && passphrase != NULL) {
        code = take_encrypted(ibk_buf_peek(&pem->bytes), passphrase, out, err);
    }
    return code;
}

/* What people put into the place of a private key, by the label of its PEM block. */
static const char *foreign_label(const char *label)
{
    static const struct {
        const char *label;
        const char *name;
    } foreign[] = {
        {"PUBLIC KEY", "a public key"},
        {"RSA PUBLIC KEY", "a public key"},
        {"CERTIFICATE", "a certificate"},
        {"CERTIFICATE REQUEST", "a certificate request"},
        {"EC PRIVATE KEY", "an EC key"},
        {"EC PARAMETERS", "an EC key"},
        {"DSA PRIVATE KEY", "a DSA key"},
        {"OPENSSH PRIVATE KEY", "a key in OpenSSH's own format"},
        {"DH PARAMETERS", "a Diffie-Hellman parameter file"},
        {"X9.42 DH PARAMETERS", "a Diffie-Hellman parameter file"},
    };
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        if (strcmp(label, foreign[i].label) == 0) {
            return foreign[i].name;
        }
    }
    return NULL;
}

/* DER has no label that says so. */
static bool is_encrypted_der(const struct ibk_pem *pem)
{
    const unsigned char *data = pem->bytes.data;
    X509_SIG *sealed = d2i_X509_SIG(NULL, &data, (long)pem->bytes.len);
    bool encrypted = sealed != NULL;
    X509_SIG_free(sealed);
    return encrypted;
}

/* DER has no label: find out by trying. */
static const char *foreign_der(const struct ibk_pem *pem)
{
    const unsigned char *data = pem->bytes.data;
    const char *name = NULL;
    EVP_PKEY *public_key = decode(pem, EVP_PKEY_PUBLIC_KEY, NULL);
    X509 *certificate = d2i_X509(NULL, &data, (long)pem->bytes.len);
    if (certificate != NULL) {
        name = "a certificate";
    } else if (public_key != NULL) {
        name = "a public key";
    }
    X509_free(certificate);
    EVP_PKEY_free(public_key);
    return name;
}

static ibk_code refuse_undecoded(const struct ibk_pem *pem, const struct ibk_secret *passphrase, const char *what,
                                 struct ibk_error *err)
{
    const char *foreign = foreign_der(pem);
    bool encrypted = pem->encrypted || is_encrypted_der(pem);
    ERR_clear_error();
    if (encrypted && passphrase == NULL) {
        return ibk_fail(err, IBK_E_PASSPHRASE, "ibk_rsa_key_load", "%s: it is encrypted and no pass phrase was given", what);
    }
    if (encrypted) {
        return ibk_fail(err, IBK_E_PASSPHRASE, "ibk_rsa_key_load",
                        "%s: it is encrypted and the pass phrase does not open it (or it was cut off)", what);
    }
    if (foreign != NULL) {
        return ibk_fail(err, IBK_E_KEY_FORMAT, "ibk_rsa_key_load", "%s: this is %s, expected a private RSA key", what, foreign);
    }
    return ibk_fail(err, IBK_E_KEY_FORMAT, "ibk_rsa_key_load",
                    "%s: %zu bytes that are no private key (cut off, or changed while copying?)", what, pem->bytes.len);
}

/* For a key that OpenSSL can read, and take_key could not. */
static ibk_code refuse_foreign(EVP_PKEY *pkey, const char *what, struct ibk_error *err)
{
    BIGNUM *private_exponent = NULL;
    bool is_private = EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_D, &private_exponent) == 1;
    BN_clear_free(private_exponent);
    if (EVP_PKEY_is_a(pkey, "RSA") != 1) {
        const char *type = EVP_PKEY_get0_type_name(pkey);
        type = type == NULL ? "unknown" : type;
        return ibk_fail(err, IBK_E_KEY_FORMAT, "ibk_rsa_key_load", "%s: this is %s %.20s key, expected a private RSA key", what,
                        type[0] == 'D' ? "a" : "an", type);
    }
    if (!is_private) {
        return ibk_fail(err, IBK_E_KEY_FORMAT, "ibk_rsa_key_load", "%s: this is a public key, expected a private RSA key", what);
    }
    return ibk_fail(err, IBK_E_KEY_FORMAT, "ibk_rsa_key_load",
                    "%s: an RSA key of more than two primes, or with bytes behind it, or not in DER", what);
}

static bool is_inverse(const BIGNUM *a, const BIGNUM *b, const BIGNUM *modulus, BIGNUM *scratch, BN_CTX *context)
{
    return BN_mod_mul(scratch, a, b, modulus, context) == 1 && BN_is_one(scratch);
}

static bool is_remainder(const BIGNUM *remainder, const BIGNUM *number, const BIGNUM *modulus, BIGNUM *scratch, BN_CTX *context)
{
    return BN_mod(scratch, number, modulus, context) == 1 && BN_cmp(scratch, remainder) == 0;
}

/* RFC 8017 section 3.2. OpenSSL takes any eight numbers for a key, and finds out at most what its signatures are worth. */
static bool is_one_key(const EVP_PKEY *pkey)
{
    enum { N, E, D, P, Q, DP, DQ, QINV }; /* as number_names has them */
    BIGNUM *numbers[NUMBERS] = {NULL};
    BIGNUM *scratch = BN_secure_new();
    BN_CTX *context = BN_CTX_secure_new();
    bool good = scratch != NULL && context != NULL;
    for (size_t i = 0; i < NUMBERS; i++) {
        good = good && EVP_PKEY_get_bn_param(pkey, number_names[i], &numbers[i]) == 1;
    }
    good = good && BN_mul(scratch, numbers[P], numbers[Q], context) == 1 && BN_cmp(scratch, numbers[N]) == 0 &&
           is_inverse(numbers[QINV], numbers[Q], numbers[P], scratch, context) && BN_sub_word(numbers[P], 1) == 1 &&
           BN_sub_word(numbers[Q], 1) == 1 && is_remainder(numbers[DP], numbers[D], numbers[P], scratch, context) &&
           is_remainder(numbers[DQ], numbers[D], numbers[Q], scratch, context) &&
           is_inverse(numbers[DP], numbers[E], numbers[P], scratch, context) &&
           is_inverse(numbers[DQ], numbers[E], numbers[Q], scratch, context);
    for (size_t i = 0; i < NUMBERS; i++) {
        BN_clear_free(numbers[i]);
    }
    BN_clear_free(scratch);
    BN_CTX_free(context);
    ERR_clear_error();
    return good;
}

static ibk_code check_rsa(const EVP_PKEY *pkey, const char *what, struct ibk_error *err)
{
    int bits = EVP_PKEY_get_bits(pkey);
    if (bits < (int)IBK_RSA_MIN_BITS || bits > (int)IBK_RSA_MAX_BITS) {
        return ibk_fail(err, IBK_E_KEY_FORMAT, "ibk_rsa_key_load", "%s: RSA key of %d bits, expected %u to %u", what, bits,
                        IBK_RSA_MIN_BITS, IBK_RSA_MAX_BITS);
    }
    if (!is_one_key(pkey)) {
        return ibk_fail(err, IBK_E_KEY_FORMAT, "ibk_rsa_key_load",
                        "%s: the numbers in it do not belong together (changed while copying?)", what);
    }
    return IBK_OK;
}

ibk_code ibk_rsa_key_load(ibk_span file, const struct ibk_secret *passphrase, const char *what, struct ibk_rsa_key **out,
                          struct ibk_error *err)
{
    struct ibk_pem pem;
    EVP_PKEY *pkey = NULL;

    *out = NULL;
    ibk_code code = ibk_pem_read(file, "PRIVATE KEY", what, IBK_E_KEY_FORMAT, &pem, err);
    if (code != IBK_OK) {
        goto done;
    }
    const char *foreign = foreign_label(pem.label);
    if (foreign != NULL) {
        code = ibk_fail(err, IBK_E_KEY_FORMAT, __func__, "%s: this is %s (BEGIN %s), expected a private RSA key", what, foreign,
                        pem.label);
        goto done;
    }
    code = take_key(&pem, passphrase, &pkey, err);
    if (code == IBK_OK && pkey == NULL) {
        pkey = decode(&pem, EVP_PKEY_KEYPAIR, passphrase);
        code = pkey == NULL ? refuse_undecoded(&pem, passphrase, what, err) : refuse_foreign(pkey, what, err);
    } else if (code == IBK_OK) {
        code = check_rsa(pkey, what, err);
    }
    if (code == IBK_OK) {
        code = wrap(pkey, out, err);
        pkey = NULL;
    }
done:
    EVP_PKEY_free(pkey);
    ibk_pem_clean(&pem);
    ERR_clear_error();
    return code;
}

static int keygen_step(EVP_PKEY_CTX *context)
{
    return ibk_watch_goes_on(EVP_PKEY_CTX_get_app_data(context));
}

ibk_code ibk_rsa_key_generate(unsigned int bits, const struct ibk_progress *progress, struct ibk_rsa_key **out,
                              struct ibk_error *err)
{
    struct ibk_watch watch = {.progress = progress, .stopped = false};
    EVP_PKEY *pkey = NULL;

    *out = NULL;
    if (bits < IBK_RSA_MIN_BITS || bits > IBK_RSA_MAX_BITS) {
        return ibk_fail(err, IBK_E_ARGUMENT, __func__, "RSA key of %u bits asked for, expected %u to %u", bits, IBK_RSA_MIN_BITS,
                        IBK_RSA_MAX_BITS);
    }
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    bool good = context != NULL && EVP_PKEY_keygen_init(context) > 0 && EVP_PKEY_CTX_set_rsa_keygen_bits(context, (int)bits) > 0;
    if (good) {
        EVP_PKEY_CTX_set_app_data(context, &watch);
        EVP_PKEY_CTX_set_cb(context, keygen_step);
        good = EVP_PKEY_generate(context, &pkey) > 0;
    }
    EVP_PKEY_CTX_free(context);
    if (watch.stopped) {
        EVP_PKEY_free(pkey);
        ERR_clear_error();
        return ibk_fail(err, IBK_E_INTERRUPTED, __func__, "key generation was stopped");
    }
    if (!good) {
        return ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "RSA key could not be generated");
    }
    return wrap(pkey, out, err);
}

size_t ibk_rsa_key_bits(const struct ibk_rsa_key *key)
{
    return (size_t)EVP_PKEY_get_bits(key->pkey);
}

size_t ibk_rsa_key_size(const struct ibk_rsa_key *key)
{
    return key->size;
}

ibk_code ibk_rsa_key_fingerprint(const struct ibk_rsa_key *key, uint8_t out[IBK_FINGERPRINT_SIZE], struct ibk_error *err)
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key->pkey, &der);
    if (len <= 0) {
        return ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "public key could not be encoded");
    }
    ibk_code code = ibk_fingerprint(ibk_span_of(der, (size_t)len), out, err);
    OPENSSL_free(der);
    return code;
}

ibk_code ibk_rsa_key_put_public(const struct ibk_rsa_key *key, struct ibk_buf *out, struct ibk_error *err)
{
    unsigned char *der = NULL;
    int len = i2d_PUBKEY(key->pkey, &der);
    if (len <= 0) {
        return ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "public key could not be encoded");
    }
    ibk_pem_put(out, "PUBLIC KEY", ibk_span_of(der, (size_t)len));
    OPENSSL_free(der);
    return ibk_buf_check(out, "public key", err);
}

/* PKCS#1 RSAPrivateKey of two primes. */
static ibk_code put_pkcs1(const struct ibk_rsa_key *key, struct ibk_buf *out, struct ibk_error *err)
{
    struct ibk_buf numbers;
    struct ibk_buf number;
    bool good = true;
    ibk_buf_init_secret(&numbers, IBK_KEY_FILE_MAX_SIZE);
    ibk_buf_init_secret(&number, MAX_MODULUS_SIZE);
    ibk_der_put_integer(&numbers, ibk_span_of(NULL, 0)); /* the version */
    for (size_t i = 0; good && i < NUMBERS; i++) {
        BIGNUM *value = NULL;
        good = EVP_PKEY_get_bn_param(key->pkey, number_names[i], &value) == 1;
        number.len = 0;
        uint8_t *room = good ? ibk_buf_put_room(&number, (size_t)BN_num_bytes(value)) : NULL;
        if (room != NULL) {
            (void)BN_bn2bin(value, room);
            ibk_der_put_integer(&numbers, ibk_buf_peek(&number));
        }
        BN_clear_free(value);
    }
    ibk_der_put(out, IBK_DER_SEQUENCE, ibk_buf_peek(&numbers));
    ibk_code code = good ? ibk_buf_check(&number, "private key", err)
                         : ibk_fail_ossl(err, IBK_E_CRYPTO, "ibk_rsa_key_put_private", "private key could not be encoded");
    if (code == IBK_OK) {
        code = ibk_buf_check(&numbers, "private key", err);
    }
    ibk_buf_clean(&number);
    ibk_buf_clean(&numbers);
    return code == IBK_OK ? ibk_buf_check(out, "private key", err) : code;
}

ibk_code ibk_rsa_key_put_private(const struct ibk_rsa_key *key, struct ibk_buf *out, struct ibk_error *err)
{
    static const uint8_t no_parameters[] = {0x05, 0x00}; /* NULL */
    struct ibk_buf pkcs1;
    struct ibk_buf algorithm;
    struct ibk_buf parts; /* of PKCS#8 PrivateKeyInfo: version, algorithm, key */
    struct ibk_buf der;
    ibk_buf_init_secret(&pkcs1, IBK_KEY_FILE_MAX_SIZE);
    ibk_buf_init_secret(&algorithm, IBK_KEY_FILE_MAX_SIZE);
    ibk_buf_init_secret(&parts, IBK_KEY_FILE_MAX_SIZE);
    ibk_buf_init_secret(&der, IBK_KEY_FILE_MAX_SIZE);
    ibk_code code = put_pkcs1(key, &pkcs1, err);
    ibk_der_put(&algorithm, IBK_DER_OBJECT_IDENTIFIER, ibk_span_of(rsa_encryption, sizeof rsa_encryption));
    ibk_buf_put(&algorithm, ibk_span_of(no_parameters, sizeof no_parameters));
    ibk_der_put_integer(&parts, ibk_span_of(NULL, 0));
    ibk_der_put(&parts, IBK_DER_SEQUENCE, ibk_buf_peek(&algorithm));
    ibk_der_put(&parts, IBK_DER_OCTET_STRING, ibk_buf_peek(&pkcs1));
    ibk_der_put(&der, IBK_DER_SEQUENCE, ibk_buf_peek(&parts));
    struct ibk_buf *const made[] = {&algorithm, &parts, &der};
    for (size_t i = 0; code == IBK_OK && i < sizeof made / sizeof made[0]; i++) {
        code = ibk_buf_check(made[i], "private key", err);
    }
    if (code == IBK_OK) {
        ibk_pem_put(out, "PRIVATE KEY", ibk_buf_peek(&der));
        code = ibk_buf_check(out, "private key", err);
    }
    ibk_buf_clean(&pkcs1);
    ibk_buf_clean(&algorithm);
    ibk_buf_clean(&parts);
    ibk_buf_clean(&der);
    return code;
}

ibk_code ibk_rsa_sign(const struct ibk_rsa_key *key, ibk_span message, struct ibk_buf *out, struct ibk_error *err)
{
    uint8_t signature[MAX_MODULUS_SIZE];
    size_t len = sizeof signature;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = context != NULL && EVP_DigestSignInit_ex(context, NULL, "SHA256", NULL, NULL, key->pkey, NULL) > 0 &&
                EVP_DigestSign(context, signature, &len, message.data, message.len) > 0;
    EVP_MD_CTX_free(context);
    if (!good) {
        return ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "RSA signature failed");
    }
    ibk_buf_put(out, ibk_span_of(signature, len));
    return ibk_buf_check(out, "RSA signature", err);
}

/* The ciphertext's bytes, as many as the modulus has, or IBK_E_KEY_MISMATCH that says both lengths. */
static ibk_code decode_ciphertext(const struct ibk_rsa_key *key, ibk_span text, struct ibk_buf *out, struct ibk_error *err)
{
    size_t expected = (key->size + 2) / 3 * 4;
    if (text.len != expected) {
        return ibk_fail(err, IBK_E_KEY_MISMATCH, "ibk_rsa_decrypt",
                        "access token secret has %zu characters, expected %zu for this %zu-bit key", text.len, expected,
                        ibk_rsa_key_bits(key));
    }
    ibk_code code = ibk_base64_decode(text, "access token secret", out, err);
    if (code == IBK_E_ENCODING) {
        code = IBK_E_KEY_MISMATCH;
        if (err != NULL) {
            err->code = code;
        }
    } else if (code == IBK_OK && out->len != key->size) {
        code = ibk_fail(err, IBK_E_KEY_MISMATCH, "ibk_rsa_decrypt",
                        "access token secret has %zu bytes, expected %zu for this %zu-bit key", out->len, key->size,
                        ibk_rsa_key_bits(key));
    }
    return code;
}

/* OSSL_ASYM_CIPHER_PARAM_IMPLICIT_REJECTION, absent from the headers of 3.0. */
static const char implicit_rejection[] = "implicit-rejection";

static bool can_reject_implicitly(EVP_PKEY_CTX *context)
{
    const OSSL_PARAM *settable = EVP_PKEY_CTX_settable_params(context);
    return settable != NULL && OSSL_PARAM_locate_const(settable, implicit_rejection) != NULL;
}

/*
 * From 3.2 on OpenSSL answers a wrong key with random bytes instead of an error, where the provider has the parameter.
 * Say it explicitly, so that the behaviour does not depend on a configuration file.
 */
static bool reject_implicitly(EVP_PKEY_CTX *context)
{
    unsigned int on = 1;
    if (!can_reject_implicitly(context)) {
        return true;
    }
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_uint(implicit_rejection, &on), OSSL_PARAM_construct_end()};
    return EVP_PKEY_CTX_set_params(context, params) > 0;
}

bool ibk_rsa_rejects_implicitly(const struct ibk_rsa_key *key)
{
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
    bool implicit = context != NULL && EVP_PKEY_decrypt_init(context) > 0 && can_reject_implicitly(context);
    EVP_PKEY_CTX_free(context);
    ERR_clear_error();
    return implicit;
}

/* plaintext has MAX_MODULUS_SIZE bytes; OpenSSL insists on room for the whole modulus. */
static bool decrypt(const struct ibk_rsa_key *key, int padding, ibk_span ciphertext, uint8_t *plaintext, size_t *len)
{
    *len = MAX_MODULUS_SIZE;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, key->pkey, NULL);
    bool good = context != NULL && EVP_PKEY_decrypt_init(context) > 0 && EVP_PKEY_CTX_set_rsa_padding(context, padding) > 0 &&
                (padding != RSA_PKCS1_PADDING || reject_implicitly(context)) &&
                EVP_PKEY_decrypt(context, plaintext, len, ciphertext.data, ciphertext.len) > 0;
    EVP_PKEY_CTX_free(context);
    return good;
}

ibk_code ibk_rsa_decrypt(const struct ibk_rsa_key *key, ibk_span base64_ciphertext, struct ibk_secret **out,
                         struct ibk_error *err)
{
    uint8_t plaintext[MAX_MODULUS_SIZE];
    struct ibk_buf ciphertext;
    size_t len;

    *out = NULL;
    ibk_buf_init(&ciphertext, MAX_MODULUS_SIZE);
    ibk_code code = decode_ciphertext(key, base64_ciphertext, &ciphertext, err);
    if (code == IBK_OK && (!decrypt(key, RSA_PKCS1_PADDING, ibk_buf_peek(&ciphertext), plaintext, &len) || len == 0)) {
        ERR_clear_error(); /* one text for every cause: the reason must not be a signal */
        code = ibk_fail(err, IBK_E_KEY_MISMATCH, __func__, "access token secret does not decrypt with this key");
    }
    if (code == IBK_OK) {
        code = ibk_secret_new(ibk_span_of(plaintext, len), out, err);
    }
    OPENSSL_cleanse(plaintext, sizeof plaintext);
    ibk_buf_clean(&ciphertext);
    return code;
}

/* 00 02, at least eight padding bytes other than zero, 00, at least one byte of message (RFC 8017 section 7.2.2). */
static bool is_padded(const uint8_t *block, size_t len)
{
    size_t i = 2;
    if (block[0] != 0 || block[1] != 2) {
        return false;
    }
    while (i < len && block[i] != 0) {
        i++;
    }
    return i >= 10 && i + 1 < len;
}

ibk_code ibk_rsa_fits(const struct ibk_rsa_key *key, ibk_span base64_ciphertext, bool *fits, struct ibk_error *err)
{
    uint8_t block[MAX_MODULUS_SIZE];
    struct ibk_buf ciphertext;
    size_t len;

    *fits = false;
    ibk_buf_init(&ciphertext, MAX_MODULUS_SIZE);
    ibk_code code = decode_ciphertext(key, base64_ciphertext, &ciphertext, err);
    if (code == IBK_OK) {
        *fits = decrypt(key, RSA_NO_PADDING, ibk_buf_peek(&ciphertext), block, &len) && is_padded(block, len);
        ERR_clear_error(); /* a number beyond the modulus is an error to OpenSSL and just "no" here */
    }
    OPENSSL_cleanse(block, sizeof block);
    ibk_buf_clean(&ciphertext);
    return code;
}
