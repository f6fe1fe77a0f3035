/* secret.c - reference-counted bytes, wiped on the last release. */
#include "ibk/secret.h"

#include <openssl/crypto.h>
#include <stdatomic.h>

struct ibk_secret {
    atomic_size_t references;
    size_t len;
    uint8_t bytes[];
};

ibk_code ibk_secret_new(ibk_span bytes, struct ibk_secret **out, struct ibk_error *err)
{
    *out = NULL;
    if (bytes.len > IBK_SECRET_MAX_SIZE) {
        return ibk_fail(err, IBK_E_LIMIT, __func__, "a secret of %zu bytes is over the limit of %u bytes", bytes.len,
                        IBK_SECRET_MAX_SIZE);
    }
    struct ibk_secret *secret = ibk_alloc(sizeof *secret + bytes.len);
    if (secret == NULL) {
        return ibk_fail_memory(err, __func__);
    }
    atomic_init(&secret->references, 1);
    secret->len = bytes.len;
    if (bytes.len > 0) {
        memcpy(secret->bytes, bytes.data, bytes.len);
    }
    *out = secret;
    return IBK_OK;
}

struct ibk_secret *ibk_secret_acquire(struct ibk_secret *secret)
{
    if (secret != NULL) {
        atomic_fetch_add_explicit(&secret->references, 1, memory_order_relaxed);
    }
    return secret;
}

void ibk_secret_release(struct ibk_secret *secret)
{
    if (secret != NULL && atomic_fetch_sub_explicit(&secret->references, 1, memory_order_acq_rel) == 1) {
        ibk_free_secret(secret, sizeof *secret + secret->len);
    }
}

ibk_span ibk_secret_peek(const struct ibk_secret *secret)
{
    return ibk_span_of(secret->bytes, secret->len);
}

bool ibk_secret_equal(const struct ibk_secret *a, const struct ibk_secret *b)
{
    return a->len == b->len && CRYPTO_memcmp(a->bytes, b->bytes, a->len) == 0;
}
