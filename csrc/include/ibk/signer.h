/*
 * signer.h - signs protected requests with a live session token (HMAC-SHA256).
 */
#ifndef IBK_SIGNER_H
#define IBK_SIGNER_H

#include "ibk/oauth.h"

/* Immutable once made, so threads may share it. */
struct ibk_signer;

struct ibk_signer_options {
    ibk_span consumer_key;
    ibk_span access_token;
    ibk_span realm; /* empty: none */
    enum ibk_query_signing query_signing;
    const struct ibk_secret *live_session_token;
};

ibk_code ibk_signer_new(const struct ibk_signer_options *options, struct ibk_signer **out, struct ibk_error *err) IBK_MUST_USE;
/* Both accept NULL; acquire returns its argument. */
struct ibk_signer *ibk_signer_acquire(struct ibk_signer *signer);
void ibk_signer_release(struct ibk_signer *signer);

/* One request on its way through the stages. Stays where it was initialised. */
struct ibk_signing {
    ibk_span method;               /* the input: as sent */
    ibk_span url;                  /* without `query`; afterwards exactly as signed and to be sent */
    ibk_span nonce;                /* another one for every attempt; data NULL: made here */
    ibk_span timestamp;            /* decimal seconds since 1970, by the server's clock */
    struct ibk_params query;       /* to be put into the URL */
    struct ibk_params form;        /* form parameters of the body */
    struct ibk_buf header;         /* the result: the Authorization header's value */
    struct ibk_buf url_with_query; /* what `url` points to where there was a query, else empty */
    struct ibk_buf made_nonce;     /* in between */
    struct ibk_params oauth;
    struct ibk_room header_room, nonce_room;
    struct ibk_params_room oauth_room;
};

void ibk_signing_init(struct ibk_signing *signing);
void ibk_signing_clean(struct ibk_signing *signing);
ibk_code ibk_signer_sign(const struct ibk_signer *signer, struct ibk_signing *signing, struct ibk_error *err) IBK_MUST_USE;

#endif
