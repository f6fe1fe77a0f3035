/*
 * fuzz_token.c - what the server sends for a live session token: its half of the exchange in hex, and its signature. Input:
 * the half, a line feed, the signature.
 */
#include "fuzz.h"

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

/* A small exponent, so that an exchange costs microseconds. */
static struct ibk_secret *exchange(ibk_span half)
{
    struct ibk_error err;
    struct ibk_secret *exponent, *shared;
    struct ibk_dh_exchange *made;
    REQUIRE(ibk_secret_new(ibk_span_of("\x05", 1), &exponent, &err) == IBK_OK);
    REQUIRE(ibk_dh_exchange_new(group(), exponent, &made, &err) == IBK_OK);
    ibk_secret_release(exponent);
    ibk_code code = ibk_dh_exchange_finish(made, half, &shared, &err);
    if (code != IBK_OK) {
        REQUIRE(shared == NULL);
        require_told(code, &err);
    } else {
        ibk_span bytes = ibk_secret_peek(shared);
        REQUIRE(bytes.len > 0 && bytes.len <= 257 && bytes.data[0] < 0x80);
    }
    struct ibk_secret *second;
    REQUIRE(ibk_dh_exchange_finish(made, half, &second, &err) == IBK_E_USED && second == NULL);
    ibk_dh_exchange_free(made);
    return shared;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ibk_error err;
    struct ibk_secret *secret, *token;
    ibk_span rest = ibk_span_of(data, size);
    struct ibk_secret *shared = exchange(next_line(&rest));
    if (shared == NULL) {
        REQUIRE(ibk_secret_new(ibk_span_text("0123456789abcdef"), &shared, &err) == IBK_OK);
    }
    REQUIRE(ibk_secret_new(ibk_span_text("access token secret"), &secret, &err) == IBK_OK);
    REQUIRE(ibk_lst_derive(shared, secret, &token, &err) == IBK_OK && ibk_secret_peek(token).len == 20);
    ibk_code code = ibk_lst_verify(token, ibk_span_text("ABCDEFGHI"), rest, &err);
    if (code != IBK_OK) {
        REQUIRE(code == IBK_E_TOKEN_MISMATCH);
        require_told(code, &err);
    }
    ibk_secret_release(token);
    ibk_secret_release(secret);
    ibk_secret_release(shared);
    return 0;
}
