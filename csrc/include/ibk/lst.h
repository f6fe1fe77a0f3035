/*
 * lst.h - the live session token: derived from the Diffie-Hellman secret, proved by the server's signature.
 */
#ifndef IBK_LST_H
#define IBK_LST_H

#include "ibk/secret.h"

#define IBK_LST_SIZE 20u /* bytes */

/* HMAC-SHA1 with the shared secret's Java bytes as key over the decrypted access token secret. */
ibk_code ibk_lst_derive(const struct ibk_secret *shared_secret, const struct ibk_secret *access_token_secret,
                        struct ibk_secret **out, struct ibk_error *err) IBK_MUST_USE;

/*
 * The server's proof: hex of HMAC-SHA1 with the token as key over the consumer key. Compared in constant time;
 * IBK_E_TOKEN_MISMATCH where it differs or is not 40 hex digits.
 */
ibk_code ibk_lst_verify(const struct ibk_secret *token, ibk_span consumer_key, ibk_span signature_hex, struct ibk_error *err)
    IBK_MUST_USE;

#endif
