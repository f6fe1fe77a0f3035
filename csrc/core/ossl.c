/* ossl.c - algorithms are fetched once: a fetch takes longer than the HMAC that it is for. Never freed. */
#include "ossl.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>

static struct ibk_ossl fetched;
static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;

#define PROBE_SIZE 32u

static bool probe_mac(EVP_MAC_CTX *context, uint8_t out[PROBE_SIZE])
{
    size_t len = 0;
    return EVP_MAC_update(context, out, 1) == 1 && EVP_MAC_final(context, out, &len, PROBE_SIZE) == 1 && len == PROBE_SIZE;
}

/*
 * Before 3.0.3, and in FIPS providers of that age under a newer libcrypto, EVP_MAC_init without a key reports success and does
 * nothing, so that the next MAC is wrong (OpenSSL's issue 17811). So try it.
 */
static bool probe_restart(EVP_MAC *hmac)
{
    static const uint8_t key[PROBE_SIZE] = {1};
    char sha256[] = "SHA256";
    const OSSL_PARAM digest[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, sha256, 0), OSSL_PARAM_construct_end()};
    uint8_t first[PROBE_SIZE] = {0};
    uint8_t second[PROBE_SIZE] = {0};
    EVP_MAC_CTX *context = hmac == NULL ? NULL : EVP_MAC_CTX_new(hmac);
    bool good = context != NULL && EVP_MAC_init(context, key, sizeof key, digest) == 1 && probe_mac(context, first) &&
                EVP_MAC_init(context, NULL, 0, NULL) == 1 && probe_mac(context, second);
    EVP_MAC_CTX_free(context);
    ERR_clear_error();
    return good && memcmp(first, second, PROBE_SIZE) == 0;
}

static void fetch(void)
{
    fetched.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    fetched.hmac_restarts = probe_restart(fetched.hmac);
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

bool ibk_watch_goes_on(struct ibk_watch *watch)
{
    if (!watch->stopped && watch->progress != NULL) {
        watch->stopped = watch->progress->step(watch->progress->context) != 0;
    }
    return !watch->stopped;
}
