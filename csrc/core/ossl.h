/* ossl.h - what the core fetches from OpenSSL once per process, immutable from then on. Internal to csrc/core. */
#ifndef IBK_CORE_OSSL_H
#define IBK_CORE_OSSL_H

#include "ibk/key.h"

#include <openssl/evp.h>

#if OPENSSL_VERSION_NUMBER < 0x30000000L
#error "ibkr_oauth needs OpenSSL 3.0 or newer"
#endif

struct ibk_ossl {
    EVP_MAC *hmac;
    bool hmac_restarts; /* EVP_MAC_init without a key starts a new message under the old one */
    EVP_MD *sha256;
};

/* NULL, with *err filled, where OpenSSL cannot give them (a broken configuration). */
const struct ibk_ossl *ibk_ossl_get(struct ibk_error *err);

/* SHA-256 of something public. */
ibk_code ibk_fingerprint(ibk_span bytes, uint8_t out[IBK_FINGERPRINT_SIZE], struct ibk_error *err) IBK_MUST_USE;

#endif
