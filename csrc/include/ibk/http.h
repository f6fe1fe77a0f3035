/*
 * http.h - one blocking HTTP transport on libcurl with hardened defaults. Knows nothing of OAuth.
 *
 * What it guarantees: certificates and host names are always verified, TLS 1.2 or newer; https only, plain http to loopback
 * only; redirects are not followed; no netrc, no cookies, no proxy or certificate settings from the environment but those
 * passed in; answers are bounded; no request is ever sent twice, not even by libcurl itself on a reused connection that
 * died, for its signature is good for once; a client made before fork is abandoned in the child.
 *
 * A client is used by one thread at a time: a second one gets IBK_E_BUSY.
 */
#ifndef IBK_HTTP_H
#define IBK_HTTP_H

#include "ibk/buf.h"

/* Once per process, from any thread. Fails where libcurl is older than 7.84 or cannot be used by threads. */
ibk_code ibk_http_global_init(struct ibk_error *err) IBK_MUST_USE;

/* "libcurl/8.14.1 OpenSSL/3.5.4" of the library that is loaded. Static text after ibk_http_global_init. */
const char *ibk_http_library_version(void);

/*
 * Whether SSLKEYLOGFILE was set at ibk_http_global_init. libcurl then writes the keys of every TLS connection of this process
 * to that file and offers no way to stop it: callers warn. False before ibk_http_global_init.
 */
bool ibk_http_keys_are_logged(void);

struct ibk_http_options {
    const char *ca_file;     /* PEM bundle; NULL: searched at run time (see cabundle.c) */
    const char *ca_path;     /* directory of hashed certificates, or NULL */
    const char *proxy;       /* http, https, socks5 or socks5h URL; NULL for none. For https only: plain http stays here */
    const char *user_agent;  /* required: without one IBKR's edge answers 403 */
    long connect_timeout_ms; /* name, TCP and TLS */
    size_t max_header_bytes; /* of the whole answer */
    size_t max_body_bytes;   /* after inflating */
};

struct ibk_http_client;

/* No I/O. Copies what the options point to. */
ibk_code ibk_http_client_new(const struct ibk_http_options *options, struct ibk_http_client **out, struct ibk_error *err)
    IBK_MUST_USE;
/* Closes connections, except in a forked child, where the parent's are left alone. Accepts NULL. */
void ibk_http_client_free(struct ibk_http_client *client);

/*
 * Names are tokens, values free of control characters. What says where a request goes and where it ends is set by the
 * transport and refused here: Host, Content-Length, Transfer-Encoding, Connection, Expect, Upgrade, TE, Trailer, Keep-Alive,
 * Proxy-*. User-Agent, Accept and Accept-Encoding replace the transport's own.
 */
struct ibk_http_header {
    ibk_span name;
    ibk_span value;
};

struct ibk_http_request {
    ibk_span method; /* upper-case letters */
    ibk_span url;    /* sent byte for byte */
    const struct ibk_http_header *headers;
    size_t header_count;
    ibk_span body;   /* data NULL: no body. POST, PUT and PATCH then say Content-Length: 0 */
    bool repeatable; /* sending it twice does no harm (GET, HEAD): then no outcome is unknown, only an answer missing */
    long timeout_ms; /* for the whole exchange, > 0 */
};

/*
 * interrupt is asked while nothing moves on the socket, about every 50 ms, and at a signal; in a transfer that never rests
 * also every 50 ms. Never inside libcurl, so it may do what it likes but free the client. Other than 0 ends the transfer with
 * IBK_E_INTERRUPTED. It runs on the caller's thread.
 */
struct ibk_http_hooks {
    int (*interrupt)(void *context);
    void *context;
};

struct ibk_http_response {
    long status;
    struct ibk_buf header_block; /* "Name: value\r\n" lines of the final answer, without the status line */
    struct ibk_buf body;         /* inflated. Without a length and without chunks it ends where the connection does */
    int64_t elapsed_us;          /* from the call to the last byte */
    bool reused_connection;
};

/* Whether it could be sent at all: what a send would refuse before it does anything. */
ibk_code ibk_http_request_validate(const struct ibk_http_request *request, struct ibk_error *err) IBK_MUST_USE;

/* *out is zeroed first and owns nothing on failure. hooks may be NULL. */
ibk_code ibk_http_send(struct ibk_http_client *client, const struct ibk_http_request *request, const struct ibk_http_hooks *hooks,
                       struct ibk_http_response *out, struct ibk_error *err) IBK_MUST_USE;
void ibk_http_response_clean(struct ibk_http_response *response);

/* From any thread, at any time: ends the transfer that is under way, or the next one, with IBK_E_CANCELLED. */
void ibk_http_cancel(struct ibk_http_client *client);

/* The file that verification will use, or an empty string with a directory in *path; IBK_E_CA_MISSING where neither exists. */
ibk_code ibk_http_find_ca(char *file, size_t file_size, char *path, size_t path_size, struct ibk_error *err) IBK_MUST_USE;

#endif
