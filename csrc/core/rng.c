/* rng.c - random bytes and nonces. OpenSSL's generator reseeds itself after fork. */
#include "ibk/encode.h"
#include "ibk/oauth.h"
#include "ibk/platform.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdatomic.h>

ibk_code ibk_random(uint8_t *out, size_t len, struct ibk_error *err)
{
    if (RAND_priv_bytes_ex(NULL, out, len, 0) != 1) {
        OPENSSL_cleanse(out, len);
        return ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "OpenSSL has no random bytes");
    }
    return IBK_OK;
}

#define DRAWN 16u /* nonces at once: a draw costs more than the rest of a nonce, and between network calls much more */

/* Each thread's own. Public bytes: each nonce is seen on the wire, once. */
static _Thread_local struct {
    uint8_t bytes[DRAWN * IBK_NONCE_SIZE / 2];
    unsigned int left;
    unsigned int generation;
} drawn;

/* A child of fork finds its parent's bytes, and must not use them too. */
static atomic_uint generation = 1;
static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
static bool forks_are_noticed;

static void on_fork(void)
{
    atomic_fetch_add(&generation, 1);
}

static void notice_forks(void)
{
    forks_are_noticed = ibk_process_on_fork(NULL, NULL, on_fork);
}

static bool draw(void)
{
    drawn.left = 0;
    if (CRYPTO_THREAD_run_once(&once, notice_forks) != 1 || RAND_bytes_ex(NULL, drawn.bytes, sizeof drawn.bytes, 0) != 1) {
        return false;
    }
    drawn.generation = atomic_load(&generation);
    drawn.left = forks_are_noticed ? DRAWN : 1;
    return true;
}

ibk_code ibk_nonce_put(struct ibk_buf *out, struct ibk_error *err)
{
    if ((drawn.left == 0 || drawn.generation != atomic_load(&generation)) && !draw()) {
        return ibk_fail_ossl(err, IBK_E_CRYPTO, __func__, "OpenSSL has no random bytes");
    }
    drawn.left--;
    ibk_hex_put(out, ibk_span_of(drawn.bytes + (size_t)drawn.left * (IBK_NONCE_SIZE / 2), IBK_NONCE_SIZE / 2));
    return ibk_buf_check(out, "nonce", err);
}
