/* ossl.h - what the files of csrc/core share about OpenSSL: algorithms fetched once, fingerprints, searches. */
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

/* A search for primes that can be stopped; stopped tells it from one that failed. */
struct ibk_watch {
    const struct ibk_progress *progress; /* or NULL */
    bool stopped;
};

/* False, which is how OpenSSL's callbacks stop it, from the first time on that progress says so. */
bool ibk_watch_goes_on(struct ibk_watch *watch);

#endif
