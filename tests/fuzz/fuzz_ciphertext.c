/*
 * fuzz_ciphertext.c - the access token secret as the server sends it: base64 of an RSA ciphertext. What decrypts fits in the
 * padding, and the check for a person (ibk_rsa_fits) and the decryption are of one mind, whichever way OpenSSL treats a wrong
 * padding. Input: a byte that chooses, then base64 text, or a block that is encrypted first.
 */
#include "fuzz.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include "ibk/encode.h"
#include "ibk/key.h"

#define SIZE 256u

/* PKCS#8 of a key that is nowhere else: always the same one, so that a finding can be replayed. */
static const char key_text[] =
    "MIIEpAIBAAKCAQEAghv3n2o0rT7NAMCC2DQYy5MO5u2U6PfRIdPuQ1ObL/GPC4Bayr61210uwKAPHJwFTncowyRjZs0c7hgREluX6Y69OaHyBmMMIgTXL5"
    "nwTtoKx1EyqFwKLv88YmMBPQuzYT1NREl4Gt+lHe5rOmBOkGsWBPJZ++ZJZ5h6YWwvVbDeOAAWlOrxorUXGjvZ8HomUdXJ28OT4VOG4rDgh7RawTiGqNAA"
    "k/nfeKVcwHWCeg7hZDxrK5SnbPhRcYNvv+mvlPpKMGHWU6apscgDVjDolXVuCoTNSqSvpMmzNErqzOUbvWMyU0ADNLFagXqy7ZasA5AKpaN5RQXx6oHU1p"
    "6PkwIDAQABAoIBAATGjQS7a7qOKw0jg8n2w5A5Uhs0zjns2q7Ariane3M7jRIRgIOfk2I9XdlxJozYxzMVmZfsDn/3+F9e38WKOh23AQgMAyur2AapodJb"
    "9p+WTj35o3/dfPwznx5HXwTEGK3xh5QBlFh8K/3YwfPPFCMl4xWEZbwivEACrz9DLsuY2HFrZLQUSFDtLPvUOjKmHMCIl0R4G2Gh6sjo8PlsqkYwXyabe9"
    "1Qp75GhONOciIwkPx0/20yK++4Lw/FlxAIIsUuIj88dF0hA1GgrEKygn/hwPaT1V7M0M1gkgzdIaffUFjq8pPCzV+6Duop9WZdKx99CYp7T48uS0KlE1K2"
    "IBUCgYEAts+i9LRjfeTavPtIXzyC6fOsiBMssYLeJYKdACVnG80qPm7AVro/eH5J+Ezt/nAogL3PYf0LoOe1hJZ7f29AZR/lLe2ICUuEotRtMjts18EdBy"
    "KG6DiFhRoWzAph+o9Idu24fYwfQMTJz6E5vQ23seq2IVEVUlT4wIQjJaPtzocCgYEAtjLnXMj1PQSf/RtdDD/TVCNF2kfwB3wsArsLiN2T47YaKlMAxGyk"
    "hrMGm/gmW7CkpIub7XAia3lhyuQ4bpKfTuS67MHYTOPNer5+NtvJvQh3LLX+pTPxxBbfBd+pIsqE1b20BMkcEAQomt51Qq1rWZhGg0TSC6QibjodjpojjZ"
    "UCgYEAs3Mm9yaL82zO+2t/I1129MhpuDl6SdW40wFftGEC0duXeCmnTHsPCuyNF9wMUxMt7xJjnECVRaGuITTGjdVbVOj2QxtDyjwDOwNjHUgQE8pRAEv4"
    "OcQh7QIrFqeqfhZgf73it/rwQtfpcpNE5jus8kz/87xwPZ2DgRc0mSJNsckCgYBBjUD2fgrVwEM7kkvA63nCDMrGBRnT55YCCX/V5zqdM9hoH+LnyNrM57"
    "5aAUbzuDMUTHJ2U+DeYBaSI9g12CTfAqZKJlgHGfLE1aKdZChKDbCq8nPCxlSWo0/sUhMNRGXUbONG0YB6NrTRO3Ze3fwAiSvdcLZNn+kPVXNq6gQenQKB"
    "gQCi3mWHxwoAT4kZlqciq2y/W4/55Q1Z5tuYsEq34TIFQlWJs5yWR2/u5FViBrhESh8ErpBMEMaQYOb3F1/k6+p6DlXbxD8Uxe3PQxkG5hYOh6DngrfPVK"
    "Rb+3lwWLDH6EaRsgEmcfa7cN06INzYiz2bbHtgCrkNhN/lYRKe1+JsnA==";

static struct ibk_rsa_key *key;
static EVP_PKEY *public_key; /* of the same pair, in OpenSSL's own hands */

static void load_key(void)
{
    struct ibk_error err;
    struct ibk_buf pem;
    if (key != NULL) {
        return;
    }
    ibk_buf_init(&pem, IBK_KEY_FILE_MAX_SIZE);
    REQUIRE(ibk_rsa_key_load(ibk_span_text(key_text), NULL, "key", &key, &err) == IBK_OK && ibk_rsa_key_size(key) == SIZE);
    REQUIRE(ibk_rsa_key_put_public(key, &pem, &err) == IBK_OK);
    BIO *file = BIO_new_mem_buf(pem.data, (int)pem.len);
    public_key = PEM_read_bio_PUBKEY(file, NULL, NULL, NULL);
    REQUIRE(public_key != NULL);
    BIO_free(file);
    ibk_buf_clean(&pem);
}

static void encrypt(const uint8_t block[SIZE], struct ibk_buf *text)
{
    uint8_t cipher[SIZE];
    size_t len = sizeof cipher;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(public_key, NULL);
    REQUIRE(context != NULL && EVP_PKEY_encrypt_init(context) > 0);
    REQUIRE(EVP_PKEY_CTX_set_rsa_padding(context, RSA_NO_PADDING) > 0);
    REQUIRE(EVP_PKEY_encrypt(context, cipher, &len, block, SIZE) > 0 && len == SIZE);
    EVP_PKEY_CTX_free(context);
    ibk_base64_put(text, ibk_span_of(cipher, len));
}

/* 00 02, eight bytes or more that are not zero, 00, and the message, which is what is left (RFC 8017 section 7.2.2). */
static ibk_span message_in(const uint8_t block[SIZE])
{
    size_t end = 2;
    while (end < SIZE && block[end] != 0) {
        end++;
    }
    bool padded = block[0] == 0 && block[1] == 2 && end >= 10 && end + 1 < SIZE;
    return padded ? ibk_span_of(block + end + 1, SIZE - end - 1) : ibk_span_of(block, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ibk_error err;
    struct ibk_secret *secret;
    struct ibk_buf text;
    uint8_t block[SIZE] = {0}; /* the first byte stays zero, so that it is below the modulus */
    ibk_span rest = ibk_span_of(data, size);
    bool fits;

    load_key();
    bool made_here = next_choice(&rest, 2) == 1;
    ibk_buf_init(&text, IBK_KEY_FILE_MAX_SIZE);
    if (made_here) {
        memcpy(block + 1, rest.data, rest.len < SIZE - 1 ? rest.len : SIZE - 1);
        encrypt(block, &text);
    } else {
        ibk_buf_put(&text, rest);
    }
    ibk_code code = ibk_rsa_decrypt(key, ibk_buf_peek(&text), &secret, &err);
    if (code == IBK_OK) {
        REQUIRE(ibk_secret_peek(secret).len > 0 && ibk_secret_peek(secret).len <= SIZE - 11);
    } else {
        REQUIRE(secret == NULL && code == IBK_E_KEY_MISMATCH);
        require_told(code, &err);
    }
    ibk_code asked = ibk_rsa_fits(key, ibk_buf_peek(&text), &fits, &err);
    REQUIRE(asked == IBK_OK || (asked == code && !fits));
    REQUIRE(!fits || code == IBK_OK);
    REQUIRE(code != IBK_OK || fits || ibk_rsa_rejects_implicitly(key));
    if (made_here) {
        REQUIRE(asked == IBK_OK && fits == (message_in(block).len > 0));
        REQUIRE(!fits || ibk_span_equal(ibk_secret_peek(secret), message_in(block)));
    }
    ibk_secret_release(secret);
    ibk_buf_clean(&text);
    return 0;
}
