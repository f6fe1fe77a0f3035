/* lst.c - derive and prove the live session token. */
#include "ibk/lst.h"

#include "ibk/encode.h"
#include "ibk/mac.h"

#include <openssl/crypto.h>

ibk_code ibk_lst_derive(const struct ibk_secret *shared_secret, const struct ibk_secret *access_token_secret,
                        struct ibk_secret **out, struct ibk_error *err)
{
    uint8_t mac[IBK_MAC_MAX_SIZE];

    *out = NULL;
    ibk_code code = ibk_mac_once(IBK_HMAC_SHA1, shared_secret, ibk_secret_peek(access_token_secret), mac, err);
    if (code == IBK_OK) {
        code = ibk_secret_new(ibk_span_of(mac, IBK_LST_SIZE), out, err);
    }
    OPENSSL_cleanse(mac, sizeof mac);
    return code;
}

ibk_code ibk_lst_verify(const struct ibk_secret *token, ibk_span consumer_key, ibk_span signature_hex, struct ibk_error *err)
{
    uint8_t mac[IBK_MAC_MAX_SIZE];
    struct ibk_buf signature;

    if (signature_hex.len != (size_t)2 * IBK_LST_SIZE) {
        return ibk_fail(err, IBK_E_TOKEN_MISMATCH, __func__, "live session token signature has %zu characters, expected %u",
                        signature_hex.len, 2 * IBK_LST_SIZE);
    }
    ibk_buf_init(&signature, IBK_LST_SIZE);
    ibk_code code = ibk_hex_decode(signature_hex, "live session token signature", &signature, err);
    if (code == IBK_E_ENCODING) {
        code = ibk_fail(err, IBK_E_TOKEN_MISMATCH, __func__, "live session token signature is not hex");
    } else if (code == IBK_OK) {
        code = ibk_mac_once(IBK_HMAC_SHA1, token, consumer_key, mac, err);
    }
    if (code == IBK_OK && CRYPTO_memcmp(mac, signature.data, IBK_LST_SIZE) != 0) {
        code = ibk_fail(err, IBK_E_TOKEN_MISMATCH, __func__,
                        "the server's signature does not prove the live session token that was computed here");
    }
    ibk_buf_clean(&signature);
    return code;
}
