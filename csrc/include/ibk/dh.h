/*
 * dh.h - the Diffie-Hellman exchange behind a live session token.
 */
#ifndef IBK_DH_H
#define IBK_DH_H

#include "ibk/key.h"

#define IBK_DH_MIN_BITS 2048u
#define IBK_DH_MAX_BITS 8192u
#define IBK_DH_SECRET_SIZE 32u /* bytes of the random exponent */

/* A group: prime and generator, checked for form when loaded. Immutable. */
struct ibk_dh_params;

/*
 * PEM of PKCS#3 ("DH PARAMETERS", as tolerant of form as ibk_rsa_key_load), its DER, or the prime in hex (then generator 2).
 * Refused by name: X9.42 parameters, a prime that is negative as a DER integer, even or shorter than 2048 bits, a generator
 * other than 2 or 5. The thorough check is ibk_dh_params_check.
 */
ibk_code ibk_dh_params_load(ibk_span file, struct ibk_dh_params **out, struct ibk_error *err) IBK_MUST_USE;

/* From numbers, big-endian. */
ibk_code ibk_dh_params_new(ibk_span prime, unsigned long generator, struct ibk_dh_params **out, struct ibk_error *err)
    IBK_MUST_USE;

/* Searches a safe prime for generator 2: seconds to minutes. */
ibk_code ibk_dh_params_generate(unsigned int bits, const struct ibk_progress *progress, struct ibk_dh_params **out,
                                struct ibk_error *err) IBK_MUST_USE;

struct ibk_dh_params *ibk_dh_params_acquire(struct ibk_dh_params *params);
void ibk_dh_params_release(struct ibk_dh_params *params);

size_t ibk_dh_params_bits(const struct ibk_dh_params *params);
unsigned long ibk_dh_params_generator(const struct ibk_dh_params *params);
/* Big-endian, no leading zeros. */
void ibk_dh_params_put_prime(const struct ibk_dh_params *params, struct ibk_buf *out);
/* PKCS#3 PEM with LF line ends and positive DER integers. */
ibk_code ibk_dh_params_put_pem(const struct ibk_dh_params *params, struct ibk_buf *out, struct ibk_error *err) IBK_MUST_USE;

/* SHA-256 of the DER that the PEM holds, as `openssl dhparam -outform DER | sha256sum` shows it. */
ibk_code ibk_dh_params_fingerprint(const struct ibk_dh_params *params, uint8_t out[IBK_FINGERPRINT_SIZE], struct ibk_error *err)
    IBK_MUST_USE;

/* Proves (with the usual probability) that the prime is prime and safe: (p - 1) / 2 is prime too. About 0.2 s. */
ibk_code ibk_dh_params_check(const struct ibk_dh_params *params, struct ibk_error *err) IBK_MUST_USE;

/* One exchange: one random exponent, one answer. */
struct ibk_dh_exchange;

/* exponent: big-endian, 1 < a < p - 1, for tests; NULL for IBK_DH_SECRET_SIZE random bytes. */
ibk_code ibk_dh_exchange_new(struct ibk_dh_params *params, const struct ibk_secret *exponent, struct ibk_dh_exchange **out,
                             struct ibk_error *err) IBK_MUST_USE;
void ibk_dh_exchange_free(struct ibk_dh_exchange *exchange);

/* A = g^a mod p in lower-case hex without prefix and leading zeros, as it is sent. */
void ibk_dh_exchange_put_challenge(const struct ibk_dh_exchange *exchange, struct ibk_buf *out);

/*
 * K = B^a mod p as Java bytes. B in hex of any length and case, leading zeros allowed, 2 <= B <= p - 2, else
 * IBK_E_DH_RESPONSE. Single use: good or bad, the exponent is gone afterwards and a second call is IBK_E_USED.
 */
ibk_code ibk_dh_exchange_finish(struct ibk_dh_exchange *exchange, ibk_span response_hex, struct ibk_secret **out,
                                struct ibk_error *err) IBK_MUST_USE;

#endif
