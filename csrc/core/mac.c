/* mac.c - HMAC: the key is set up once, in a template that computations duplicate; the last duplicate serves again. */
#include "ibk/mac.h"

#include "ossl.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <stdatomic.h>

struct ibk_mac_key {
    EVP_MAC_CTX *keyed;           /* only read after it was made */
    _Atomic(EVP_MAC_CTX *) spare; /* one duplicate that was used before, or NULL: starting it anew is cheaper than another */
    bool restarts;                /* otherwise spare stays NULL, see struct ibk_ossl */
    size_t size;
};

size_t ibk_mac_size(enum ibk_mac mac)
{
    return mac == IBK_HMAC_SHA1 ? 20 : 32;
}

size_t ibk_mac_key_size(const struct ibk_mac_key *key)
{
    return key->size;
}

ibk_code ibk_mac_key_new(enum ibk_mac mac, const struct ibk_secret *key, struct ibk_mac_key **out, struct ibk_error *err)
{
    char sha1[] = "SHA1";
    char sha256[] = "SHA256";
    ibk_span bytes = ibk_secret_peek(key);

    *out = NULL;
    const struct ibk_ossl *ossl = ibk_ossl_get(err);
    if (ossl == NULL) {
        return IBK_E_CRYPTO;
    }
    if (bytes.len == 0) {
        return ibk_fail(err, IBK_E_ARGUMENT, __func__, "an HMAC key of 0 bytes protects nothing");
    }
    struct ibk_mac_key *made = ibk_alloc(sizeof *made);
    if (made == NULL) {
        return ibk_fail_memory(err, __func__);
    }
    const OSSL_PARAM digest[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, mac == IBK_HMAC_SHA1 ? sha1 : sha256, 0),
        OSSL_PARAM_construct_end(),
    };
    *made = (struct ibk_mac_key){.restarts = ossl->hmac_restarts, .size = ibk_mac_size(mac)};
    made->keyed = EVP_MAC_CTX_new(ossl->hmac);
    atomic_init(&made->spare, NULL);
    if (made->keyed == NULL || EVP_MAC_init(made->keyed, bytes.data, bytes.len, digest) != 1) {
        ibk_mac_key_free(made);
        return ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "HMAC could not be set up");
    }
    *out = made;
    return IBK_OK;
}

void ibk_mac_key_free(struct ibk_mac_key *key)
{
    if (key != NULL) {
        EVP_MAC_CTX_free(key->keyed); /* wipes the key */
        EVP_MAC_CTX_free(atomic_load(&key->spare));
        ibk_free(key);
    }
}

/* Each context is one thread's at a time: whoever exchanges the spare for NULL has it alone. */
static EVP_MAC_CTX *take_context(struct ibk_mac_key *key)
{
    EVP_MAC_CTX *context = atomic_exchange(&key->spare, NULL);
    if (context != NULL && EVP_MAC_init(context, NULL, 0, NULL) != 1) {
        ERR_clear_error();
        EVP_MAC_CTX_free(context);
        context = NULL;
    }
    return context != NULL ? context : EVP_MAC_CTX_dup(key->keyed);
}

static void give_back(struct ibk_mac_key *key, EVP_MAC_CTX *context)
{
    EVP_MAC_CTX_free(key->restarts ? atomic_exchange(&key->spare, context) : context);
}

ibk_code ibk_mac_compute(struct ibk_mac_key *key, ibk_span message, uint8_t out[IBK_MAC_MAX_SIZE], struct ibk_error *err)
{
    size_t len = 0;
    EVP_MAC_CTX *context = take_context(key);
    bool good = context != NULL && EVP_MAC_update(context, message.data, message.len) == 1 &&
                EVP_MAC_final(context, out, &len, IBK_MAC_MAX_SIZE) == 1 && len == key->size;
    give_back(key, context);
    return good ? IBK_OK : ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "HMAC failed");
}

ibk_code ibk_mac_once(enum ibk_mac mac, const struct ibk_secret *key, ibk_span message, uint8_t out[IBK_MAC_MAX_SIZE],
                      struct ibk_error *err)
{
    struct ibk_mac_key *keyed;
    ibk_code code = ibk_mac_key_new(mac, key, &keyed, err);
    if (keyed != NULL) {
        code = ibk_mac_compute(keyed, message, out, err);
        ibk_mac_key_free(keyed);
    }
    return code;
}
