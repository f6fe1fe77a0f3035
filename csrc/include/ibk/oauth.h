/*
 * oauth.h - from a request to its Authorization header, in stages that can each be called alone:
 * collect, normalise, base string, sign, header. Nonce and timestamp are inputs; making them is another function.
 */
#ifndef IBK_OAUTH_H
#define IBK_OAUTH_H

#include "ibk/key.h"
#include "ibk/mac.h"
#include "ibk/params.h"
#include "ibk/url.h"

#define IBK_BASE_STRING_MAX_SIZE (4u << 20)
#define IBK_HEADER_MAX_SIZE 65536u
#define IBK_NONCE_SIZE 32u /* lower-case hex digits: 128 random bits */

/* How the query string of a protected request takes part in the base string. */
enum ibk_query_signing {
    IBK_QUERY_OMIT,   /* not at all */
    IBK_QUERY_MERGE,  /* decoded pairs among the parameters, encoded once */
    IBK_QUERY_URL,    /* left in the URL part, as written */
    IBK_QUERY_RFC5849 /* decoded pairs among the parameters, encoded twice */
};

/* "omit", "merge", "url", "rfc5849"; false for another word. */
bool ibk_query_signing_parse(ibk_span word, enum ibk_query_signing *out);

struct ibk_base_string_input {
    ibk_span method;                 /* as sent, for instance GET */
    ibk_span url;                    /* as sent, with its query */
    const struct ibk_params *params; /* oauth_* and form parameters, without oauth_signature and realm */
    enum ibk_query_signing query_signing;
    ibk_span prepend; /* text put in front of all, or empty */
};

/*
 * METHOD & encoded URL & encoded parameters, with the prepend directly in front. For the live session token request the
 * prepend is the decrypted access token secret in hex, so `out` must be a secret buffer and the result is never shown.
 */
ibk_code ibk_base_string(const struct ibk_base_string_input *input, struct ibk_buf *out, struct ibk_error *err) IBK_MUST_USE;

/* 'OAuth realm="limited_poa", oauth_consumer_key="..."': realm first (left out where empty), the rest sorted by name, values
 * percent-encoded. Control characters, quotes and backslashes are refused (IBK_E_HEADER), naming the parameter. */
ibk_code ibk_authorization_header(const struct ibk_params *params, ibk_span realm, struct ibk_buf *out, struct ibk_error *err)
    IBK_MUST_USE;

/* Base64 of the signature over the base string. */
ibk_code ibk_sign_rsa_sha256(ibk_span base_string, const struct ibk_rsa_key *key, struct ibk_buf *out, struct ibk_error *err)
    IBK_MUST_USE;
ibk_code ibk_sign_hmac_sha256(ibk_span base_string, struct ibk_mac_key *key, struct ibk_buf *out, struct ibk_error *err)
    IBK_MUST_USE;

/* All stages in one: what a request with these parameters needs in its Authorization header. */
struct ibk_signature_input {
    ibk_span method;
    ibk_span url;
    const struct ibk_params *oauth; /* go into the header and the base string; oauth_signature_method among them */
    const struct ibk_params *form;  /* go into the base string only; NULL for none */
    enum ibk_query_signing query_signing;
    ibk_span realm;
    const struct ibk_secret *prepend;  /* decrypted access token secret (bytes), or NULL */
    const struct ibk_rsa_key *rsa_key; /* one of these two */
    struct ibk_mac_key *mac_key;
};

ibk_code ibk_sign_request(const struct ibk_signature_input *input, struct ibk_buf *header, struct ibk_error *err) IBK_MUST_USE;

/* The same without the header: base64 of the signature, for callers that send the parameters elsewhere (a JSON body). */
ibk_code ibk_request_signature(const struct ibk_signature_input *input, struct ibk_buf *signature, struct ibk_error *err)
    IBK_MUST_USE;

/* IBK_NONCE_SIZE random hex digits; another one for every attempt. */
ibk_code ibk_nonce_put(struct ibk_buf *out, struct ibk_error *err) IBK_MUST_USE;

/* Random bytes from OpenSSL's private generator. */
ibk_code ibk_random(uint8_t *out, size_t len, struct ibk_error *err) IBK_MUST_USE;

#endif
