/*
 * fuzz_token.c - what the server sends for a live session token: its half of the exchange in hex, and its signature. What is
 * accepted, and what comes out, is what OpenSSL's plain arithmetic and its HMAC say. Input: the half, a line feed, the
 * signature.
 */
#include "fuzz.h"

#include <openssl/bn.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "ibk/dh.h"
#include "ibk/encode.h"
#include "ibk/lst.h"

/* The 2048-bit group of RFC 3526 section 3. */
static const char prime[] =
    "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f"
    "14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406b7edee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8"
    "a163bf0598da48361c55d39a69163fa8fd24cf5f83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c3290"
    "5e462e36ce3be39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d2261898fa051015728e5a8aacaa68"
    "ffffffffffffffff";

static struct ibk_dh_params *group(void)
{
    struct ibk_error err;
    static struct ibk_dh_params *made;
    if (made == NULL) {
        REQUIRE(ibk_dh_params_load(ibk_span_text(prime), &made, &err) == IBK_OK);
    }
    return made;
}

#define EXPONENT 5u /* small, so that an exchange costs microseconds */

static bool is_hex(ibk_span text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == 0 || strchr("0123456789abcdefABCDEF", text.data[i]) == NULL) {
            return false;
        }
    }
    return text.len > 0;
}

/* half ^ EXPONENT mod prime where the half is a number from 2 to prime - 2, else NULL. */
static BIGNUM *plain_power(ibk_span half)
{
    BIGNUM *modulus = NULL, *base = NULL, *exponent = BN_new(), *power = BN_new();
    BN_CTX *context = BN_CTX_new();
    char text[sizeof prime] = "";
    bool good = is_hex(half);
    while (half.len > 0 && half.data[0] == '0') { /* any number of them */
        half = ibk_span_of(half.data + 1, half.len - 1);
    }
    good = good && half.len > 0 && half.len < sizeof text;
    memcpy(text, half.data, good ? half.len : 0);
    REQUIRE(context != NULL && exponent != NULL && power != NULL && BN_hex2bn(&modulus, prime) > 0);
    good = good && BN_hex2bn(&base, text) > 0 && !BN_is_one(base);
    good = good && BN_sub_word(modulus, 1) == 1 && BN_cmp(base, modulus) < 0 && BN_add_word(modulus, 1) == 1;
    if (good) {
        REQUIRE(BN_set_word(exponent, EXPONENT) == 1 && BN_mod_exp(power, base, exponent, modulus, context) == 1);
    } else {
        BN_free(power);
        power = NULL;
    }
    BN_CTX_free(context);
    BN_free(exponent);
    BN_free(base);
    BN_free(modulus);
    return power;
}

/* The shortest bytes, and a zero in front where the top bit is set. */
static void check_shared(ibk_span bytes, const BIGNUM *power)
{
    BIGNUM *found = BN_bin2bn(bytes.data, (int)bytes.len, NULL);
    REQUIRE(found != NULL && BN_cmp(found, power) == 0);
    REQUIRE(bytes.len == (size_t)BN_num_bytes(power) + (BN_num_bits(power) % 8 == 0));
    BN_free(found);
}

static struct ibk_secret *exchange(ibk_span half)
{
    struct ibk_error err;
    struct ibk_secret *exponent, *shared;
    struct ibk_dh_exchange *made;
    REQUIRE(ibk_secret_new(ibk_span_of(&(uint8_t){EXPONENT}, 1), &exponent, &err) == IBK_OK);
    REQUIRE(ibk_dh_exchange_new(group(), exponent, &made, &err) == IBK_OK);
    ibk_secret_release(exponent);
    BIGNUM *power = plain_power(half);
    ibk_code code = ibk_dh_exchange_finish(made, half, &shared, &err);
    if (code != IBK_OK) {
        REQUIRE(shared == NULL && power == NULL);
        require_told(code, &err);
    } else {
        REQUIRE(power != NULL);
        check_shared(ibk_secret_peek(shared), power);
    }
    BN_free(power);
    struct ibk_secret *second;
    REQUIRE(ibk_dh_exchange_finish(made, half, &second, &err) == IBK_E_USED && second == NULL);
    ibk_dh_exchange_free(made);
    return shared;
}

static void hmac_sha1(ibk_span key, ibk_span message, unsigned char out[20])
{
    size_t len;
    REQUIRE(EVP_Q_mac(NULL, "HMAC", NULL, "SHA1", NULL, key.data, key.len, message.data, message.len, out, 20, &len) != NULL);
}

/* Whether text is the hex of these bytes, in any case. */
static bool is_hex_of(ibk_span text, const unsigned char bytes[20])
{
    char hex[41];
    for (size_t i = 0; i < 20; i++) {
        (void)snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
    }
    return ibk_span_equal_nocase(text, ibk_span_text(hex));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char consumer[] = "ABCDEFGHI", text[] = "access token secret";
    unsigned char expected[20], proof[20];
    struct ibk_error err;
    struct ibk_secret *secret, *token;
    ibk_span rest = ibk_span_of(data, size);
    struct ibk_secret *shared = exchange(next_line(&rest));
    if (shared == NULL) {
        REQUIRE(ibk_secret_new(ibk_span_text("0123456789abcdef"), &shared, &err) == IBK_OK);
    }
    REQUIRE(ibk_secret_new(ibk_span_text(text), &secret, &err) == IBK_OK);
    REQUIRE(ibk_lst_derive(shared, secret, &token, &err) == IBK_OK);
    hmac_sha1(ibk_secret_peek(shared), ibk_span_text(text), expected);
    REQUIRE(ibk_span_equal(ibk_secret_peek(token), ibk_span_of(expected, sizeof expected)));
    hmac_sha1(ibk_secret_peek(token), ibk_span_text(consumer), proof);
    ibk_code code = ibk_lst_verify(token, ibk_span_text(consumer), rest, &err);
    REQUIRE((code == IBK_OK) == is_hex_of(rest, proof));
    if (code != IBK_OK) {
        REQUIRE(code == IBK_E_TOKEN_MISMATCH);
        require_told(code, &err);
    }
    ibk_secret_release(token);
    ibk_secret_release(secret);
    ibk_secret_release(shared);
    return 0;
}
