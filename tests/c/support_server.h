/*
 * support_server.h - a server on 127.0.0.1 that does to an HTTP client what a test tells it to, and remembers what it saw.
 *
 * A script is a list of steps; each request that arrives, on whatever connection, takes the next one. Past the end of the
 * script every request is answered with 200 and the body "ok". Each connection has a thread of its own.
 */
#ifndef IBK_TEST_SUPPORT_SERVER_H
#define IBK_TEST_SUPPORT_SERVER_H

#include <openssl/ssl.h>

#include "support.h"

enum deed {
    ANSWER,       /* send bytes, keep the connection */
    ANSWER_CLOSE, /* send bytes, close in good order */
    ANSWER_CUT,   /* send bytes, close without TLS's goodbye */
    ANSWER_RESET, /* send bytes, reset the connection */
    ANSWER_STALL, /* send bytes, then nothing until the client leaves */
    ANSWER_AGAIN, /* send bytes, then `again` over and over until the client leaves */
    TUNNEL        /* a proxy's CONNECT: send bytes, then pump to `port` on this machine */
};

struct step {
    enum deed deed;
    ibk_span bytes;
    ibk_span again;
    size_t read_only;      /* do it as soon as this many bytes of the request are in; 0: after the whole */
    unsigned int pause_ms; /* before closing, and before each `again` */
    unsigned short port;
    size_t after_requests; /* do it once so many requests have come in all (but not later than in five seconds) */
};

/* What happens to each new connection, before any request. */
enum greeting { WELCOME, RESET_AT_ONCE, STALL_AT_ONCE };

struct server_setup {
    const struct step *steps; /* copied; what they point to is borrowed while the server runs */
    size_t step_count;
    enum greeting greeting;
    SSL_CTX *tls; /* NULL: plain */
};

struct server;

struct server *server_start(const struct server_setup *setup);
/* Ends every connection. Accepts NULL. */
void server_stop(struct server *server);

unsigned short server_port(const struct server *server);
size_t server_connections(struct server *server);
/* Those that it has not closed yet. */
size_t server_open_connections(struct server *server);
size_t server_requests(struct server *server);
/* Head and body as they came, valid until server_stop. An empty span where there is no such request. */
ibk_span server_request(struct server *server, size_t index);

/* A certificate authority made on the spot. */
struct authority {
    EVP_PKEY *key;
    X509 *certificate;
};
void authority_init(struct authority *authority, const char *name);
void authority_clean(struct authority *authority);
bool authority_write(const struct authority *authority, const char *file);

/* A server's side of TLS: a certificate for these names ("DNS:a.test,IP:127.0.0.1"), valid between now + from and now + to. */
SSL_CTX *identity_new(const struct authority *authority, const char *names, long from, long to);

#endif
