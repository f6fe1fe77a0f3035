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
