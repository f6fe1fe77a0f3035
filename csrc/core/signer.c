/* signer.c - a live session token with what goes into every header, ready to sign. */
#include "ibk/signer.h"

#include <stdatomic.h>

#define REALM_MAX_SIZE 4096u

struct ibk_signer {
    atomic_size_t references;
    struct ibk_params constant; /* the oauth parameters that are the same for every request */
    struct ibk_buf realm;
    struct ibk_mac_key *mac_key;
    enum ibk_query_signing query_signing;
};

static ibk_code fill(struct ibk_signer *signer, const struct ibk_signer_options *options, struct ibk_error *err)
{
    ibk_code code;
    atomic_init(&signer->references, 1);
    ibk_params_init(&signer->constant);
    ibk_buf_init(&signer->realm, REALM_MAX_SIZE);
    signer->mac_key = NULL;
    signer->query_signing = options->query_signing;
    ibk_buf_put(&signer->realm, options->realm);
    if ((code = ibk_buf_check(&signer->realm, "realm", err)) != IBK_OK ||
        (code = ibk_params_add_text(&signer->constant, "oauth_consumer_key", options->consumer_key, err)) != IBK_OK ||
        (code = ibk_params_add_text(&signer->constant, "oauth_signature_method", ibk_span_text("HMAC-SHA256"), err)) != IBK_OK ||
        (code = ibk_params_add_text(&signer->constant, "oauth_token", options->access_token, err)) != IBK_OK) {
        return code;
    }
    return ibk_mac_key_new(IBK_HMAC_SHA256, options->live_session_token, &signer->mac_key, err);
}

ibk_code ibk_signer_new(const struct ibk_signer_options *options, struct ibk_signer **out, struct ibk_error *err)
{
    *out = NULL;
    struct ibk_signer *signer = ibk_alloc(sizeof *signer);
    if (signer == NULL) {
        return ibk_fail_memory(err, __func__);
    }
    ibk_code code = fill(signer, options, err);
    if (code != IBK_OK) {
        ibk_signer_release(signer);
        return code;
    }
    *out = signer;
    return IBK_OK;
}

struct ibk_signer *ibk_signer_acquire(struct ibk_signer *signer)
{
    if (signer != NULL) {
        atomic_fetch_add_explicit(&signer->references, 1, memory_order_relaxed);
    }
    return signer;
}

void ibk_signer_release(struct ibk_signer *signer)
{
    if (signer != NULL && atomic_fetch_sub_explicit(&signer->references, 1, memory_order_acq_rel) == 1) {
        ibk_params_clean(&signer->constant);
        ibk_buf_clean(&signer->realm);
        if (signer->mac_key != NULL) {
            ibk_mac_key_free(signer->mac_key);
        }
        ibk_free(signer);
    }
}

void ibk_signing_init(struct ibk_signing *signing)
{
    signing->method = signing->url = signing->nonce = signing->timestamp = ibk_span_of(NULL, 0);
    ibk_buf_init(&signing->made_nonce, IBK_NONCE_SIZE);
    ibk_buf_lend(&signing->made_nonce, &signing->nonce_room);
    ibk_params_init(&signing->oauth);
    ibk_params_lend(&signing->oauth, &signing->oauth_room);
    ibk_params_init(&signing->query);
    ibk_params_init(&signing->form);
    ibk_buf_init(&signing->url_with_query, IBK_URL_MAX_SIZE);
    ibk_buf_init(&signing->header, IBK_HEADER_MAX_SIZE);
    ibk_buf_lend(&signing->header, &signing->header_room);
}

void ibk_signing_clean(struct ibk_signing *signing)
{
    ibk_buf_clean(&signing->made_nonce);
    ibk_params_clean(&signing->oauth);
    ibk_params_clean(&signing->query);
    ibk_params_clean(&signing->form);
    ibk_buf_clean(&signing->url_with_query);
    ibk_buf_clean(&signing->header);
}

ibk_code ibk_signer_sign(const struct ibk_signer *signer, struct ibk_signing *signing, struct ibk_error *err)
{
    ibk_code code;
    if (ibk_params_count(&signing->query) != 0) {
        if ((code = ibk_url_with_query(signing->url, &signing->query, &signing->url_with_query, err)) != IBK_OK) {
            return code;
        }
        signing->url = ibk_buf_peek(&signing->url_with_query);
    }
    if (signing->nonce.data == NULL) {
        if ((code = ibk_nonce_put(&signing->made_nonce, err)) != IBK_OK) {
            return code;
        }
        signing->nonce = ibk_buf_peek(&signing->made_nonce);
    }
    if ((code = ibk_params_add_all(&signing->oauth, &signer->constant, err)) != IBK_OK ||
        (code = ibk_params_add_text(&signing->oauth, "oauth_nonce", signing->nonce, err)) != IBK_OK ||
        (code = ibk_params_add_text(&signing->oauth, "oauth_timestamp", signing->timestamp, err)) != IBK_OK) {
        return code;
    }
    const struct ibk_signature_input input = {
        .method = signing->method,
        .url = signing->url,
        .oauth = &signing->oauth,
        .form = &signing->form,
        .query_signing = signer->query_signing,
        .realm = ibk_buf_peek(&signer->realm),
        .mac_key = signer->mac_key,
    };
    return ibk_sign_request(&input, &signing->header, err);
}
