/* rng.c - random bytes and nonces. OpenSSL's generator reseeds itself after fork. */
#include "ibk/encode.h"
#include "ibk/oauth.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

ibk_code ibk_random(uint8_t *out, size_t len, struct ibk_error *err)
{
    if (RAND_priv_bytes_ex(NULL, out, len, 0) != 1) {
        OPENSSL_cleanse(out, len);
        return ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "OpenSSL has no random bytes");
    }
    return IBK_OK;
}

ibk_code ibk_nonce_put(struct ibk_buf *out, struct ibk_error *err)
{
    uint8_t bytes[IBK_NONCE_SIZE / 2];
    if (RAND_bytes_ex(NULL, bytes, sizeof bytes, 0) != 1) { /* public: seen on the wire */
        return ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "OpenSSL has no random bytes");
    }
    ibk_hex_put(out, ibk_span_of(bytes, sizeof bytes));
    return ibk_buf_check(out, "nonce", err);
}
