/*
 * secret.h - bytes that are wiped when the last holder lets go.
 *
 * The decrypted access token secret, the Diffie-Hellman shared secret, the live session token and pass phrases are
 * ibk_secrets from birth to wipe. They are immutable, so threads may share one.
 */
#ifndef IBK_SECRET_H
#define IBK_SECRET_H

#include "ibk/buf.h"

#define IBK_SECRET_MAX_SIZE 65536u /* bytes; the largest secret of the protocol has 257 */

struct ibk_secret;

/* A copy of the bytes. The caller wipes its own. */
ibk_code ibk_secret_new(ibk_span bytes, struct ibk_secret **out, struct ibk_error *err) IBK_MUST_USE;

/* Both accept NULL; acquire returns its argument. */
struct ibk_secret *ibk_secret_acquire(struct ibk_secret *secret);
void ibk_secret_release(struct ibk_secret *secret);

/* Borrowed: valid while the secret is held. */
ibk_span ibk_secret_peek(const struct ibk_secret *secret);

/* Time depends on the lengths (which are public) and never on the contents. */
bool ibk_secret_equal(const struct ibk_secret *a, const struct ibk_secret *b) IBK_MUST_USE;

#endif
