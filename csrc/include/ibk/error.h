/*
 * error.h - what can go wrong, and the record that the caller gets of it.
 *
 * Every function that can fail returns an ibk_code and takes a caller-owned struct ibk_error last. The record is filled
 * once, where the failure happens. Its text holds sizes, names and positions; never bytes of keys, tokens, base strings,
 * header values or bodies.
 */
#ifndef IBK_ERROR_H
#define IBK_ERROR_H

#include "ibk/base.h"

/*
 * One line per code: the name is what the binding hands to Python (errors.py maps it to a class).
 */
#define IBK_CODES(X)                                                                                        \
    X(OK, "ok")                                                                                             \
    X(NO_MEMORY, "no_memory")                                                                               \
    X(LIMIT, "limit")                     /* more bytes than a bounded buffer may hold */                   \
    X(ENCODING, "encoding")               /* not hex, base64 or percent-encoding */                         \
    X(URL, "url")                         /* not a URL that can be signed and sent */                       \
    X(HEADER, "header")                   /* a value that may not stand in a header */                      \
    X(ARGUMENT, "argument")               /* another value that cannot be used */                           \
    X(KEY_FORMAT, "key_format")           /* not a private RSA key of 2048 bits or more */                  \
    X(PASSPHRASE, "passphrase")           /* encrypted key: pass phrase missing or wrong */                 \
    X(KEY_MISMATCH, "key_mismatch")       /* a secret that does not belong to this key */                   \
    X(DH_PARAMETERS, "dh_parameters")     /* unusable Diffie-Hellman group */                               \
    X(DH_RESPONSE, "dh_response")         /* the server's half is not hex or out of range */                \
    X(TOKEN_MISMATCH, "token_mismatch")   /* live session token does not verify */                          \
    X(USED, "used")                       /* a single-use object was used again */                          \
    X(CRYPTO, "crypto")                   /* OpenSSL refused or failed */                                   \
    X(INTERRUPTED, "interrupted")         /* the caller's hook asked to stop (Ctrl-C) */                    \
    X(CANCELLED, "cancelled")             /* stopped from another thread */                                 \
    X(BUSY, "busy")                       /* one client, two threads at once */                             \
    X(FORKED, "forked")                   /* object made before fork, used in the child */                  \
    X(CA_MISSING, "ca_missing")           /* no certificate authorities found or readable */                \
    X(RESOLVE, "resolve")                 /* host name unknown */                                           \
    X(CONNECT, "connect")                 /* nobody answers at that address */                              \
    X(TLS, "tls")                         /* certificate or handshake refused */                            \
    X(PROXY, "proxy")                     /* the proxy failed or refused */                                 \
    X(TIMEOUT, "timeout")                 /* deadline passed before anything was sent, or safe to repeat */ \
    X(OUTCOME_UNKNOWN, "outcome_unknown") /* sent, not safe to repeat, and no answer read */                \
    X(TOO_LARGE, "too_large")             /* answer over the limit of bytes */                              \
    X(PROTOCOL, "protocol")               /* the peer does not speak HTTP, or the answer is cut off */

typedef enum ibk_code {
#define IBK_CODE_ENUM(name, text) IBK_E_##name,
    IBK_CODES(IBK_CODE_ENUM)
#undef IBK_CODE_ENUM
        IBK_CODE_COUNT
} ibk_code;

#define IBK_OK IBK_E_OK

enum ibk_domain {
    IBK_DOMAIN_CORE,    /* native is 0 */
    IBK_DOMAIN_OPENSSL, /* native is the packed OpenSSL error */
    IBK_DOMAIN_CURL,    /* native is the CURLcode */
    IBK_DOMAIN_SYSTEM   /* native is errno */
};

#define IBK_ERROR_TEXT_SIZE 256

struct ibk_error {
    ibk_code code;
    enum ibk_domain domain;
    unsigned long native;
    const char *where; /* static string: the function that failed */
    bool sent;         /* HTTP: bytes of the request may have reached the server */
    char text[IBK_ERROR_TEXT_SIZE];
};

/* Fills *err (which may be NULL) and returns code, so that "return ibk_fail(...)" reads well. */
ibk_code ibk_fail(struct ibk_error *err, ibk_code code, const char *where, const char *format, ...) IBK_PRINTF(4, 5);

/* The same for memory that could not be had. */
ibk_code ibk_fail_memory(struct ibk_error *err, const char *where);

/* The same after an OpenSSL call failed: adds its last reason and leaves OpenSSL's error queue empty. */
ibk_code ibk_fail_ossl(struct ibk_error *err, ibk_code code, const char *where, const char *text);

/* "key_format" for IBK_E_KEY_FORMAT. */
const char *ibk_code_name(ibk_code code);

/* "core", "openssl", "curl", "system". */
const char *ibk_domain_name(enum ibk_domain domain);

#endif
