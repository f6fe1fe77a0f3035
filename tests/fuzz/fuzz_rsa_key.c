/*
 * fuzz_rsa_key.c - key files in every spelling: nothing but a private RSA key of 2048 bits or more loads, and what loads can
 * be written and loaded again.
 */
#include "fuzz.h"

#include "ibk/key.h"

static struct ibk_secret *passphrase(void)
{
    struct ibk_error err;
    static struct ibk_secret *made;
    if (made == NULL) {
        REQUIRE(ibk_secret_new(ibk_span_text("correct horse"), &made, &err) == IBK_OK);
    }
    return made;
}

static void check_key(const struct ibk_rsa_key *key)
{
    struct ibk_error err;
    struct ibk_rsa_key *again;
    struct ibk_buf pem;
    uint8_t one[IBK_FINGERPRINT_SIZE], two[IBK_FINGERPRINT_SIZE];
    REQUIRE(ibk_rsa_key_bits(key) >= 2048 && ibk_rsa_key_size(key) == (ibk_rsa_key_bits(key) + 7) / 8);
    ibk_buf_init_secret(&pem, 65536);
    REQUIRE(ibk_rsa_key_put_private(key, &pem, &err) == IBK_OK);
    REQUIRE(ibk_rsa_key_load(ibk_buf_peek(&pem), NULL, "key", &again, &err) == IBK_OK);
    REQUIRE(ibk_rsa_key_fingerprint(key, one, &err) == IBK_OK && ibk_rsa_key_fingerprint(again, two, &err) == IBK_OK);
    REQUIRE(memcmp(one, two, sizeof one) == 0);
    ibk_rsa_key_release(again);
    ibk_buf_clean(&pem);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ibk_error err;
    struct ibk_rsa_key *key;
    ibk_span rest = ibk_span_of(data, size);
    bool with_passphrase = next_choice(&rest, 2) == 1;
    ibk_code code = ibk_rsa_key_load(rest, with_passphrase ? passphrase() : NULL, "key", &key, &err);
    if (code == IBK_OK) {
        check_key(key);
        ibk_rsa_key_release(key);
    } else {
        REQUIRE(key == NULL);
        require_told(code, &err);
    }
    return 0;
}
