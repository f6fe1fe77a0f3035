/* ossl.c - algorithms are fetched once: a fetch takes longer than the HMAC that it is for. Never freed. */
#include "ossl.h"

#include <openssl/crypto.h>

static struct ibk_ossl fetched;
static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;

static void fetch(void)
{
    fetched.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    fetched.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

const struct ibk_ossl *ibk_ossl_get(struct ibk_error *err)
{
    if (CRYPTO_THREAD_run_once(&once, fetch) != 1 || fetched.hmac == NULL || fetched.sha256 == NULL) {
        (void)ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "OpenSSL provides no HMAC or no SHA-256; check its configuration");
        return NULL;
    }
    return &fetched;
}

ibk_code ibk_fingerprint(ibk_span bytes, uint8_t out[IBK_FINGERPRINT_SIZE], struct ibk_error *err)
{
    const struct ibk_ossl *ossl = ibk_ossl_get(err);
    if (ossl == NULL) {
        return IBK_E_CRYPTO;
    }
    bool good = EVP_Digest(bytes.data, bytes.len, out, NULL, ossl->sha256, NULL) == 1;
    return good ? IBK_OK : ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "SHA-256 failed");
}
