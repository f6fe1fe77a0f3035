/* support_server.c - the scripted server; see support_server.h. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include "support_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 256
#define MAX_REQUESTS 65536
#define MAX_REQUEST_SIZE (4u << 20)

struct connection {
    struct server *server;
    pthread_t thread;
    int fd; /* -1 once closed */
    SSL *ssl;
};

struct server {
    struct server_setup setup;
    struct step *steps; /* what setup.steps points to */
    int listener;
    int stop_pipe[2];
    unsigned short port;
    pthread_t thread;
    pthread_mutex_t lock; /* everything below */
    struct connection connections[MAX_CONNECTIONS];
    size_t connection_count;
    uint8_t *requests[MAX_REQUESTS];
    size_t request_sizes[MAX_REQUESTS];
    size_t request_count;
};

static void demand(bool condition, const char *what)
{
    if (!condition) {
        (void)fprintf(stderr, "support_server: %s\n", what);
        abort();
    }
}

static void pause_for(unsigned int ms)
{
    struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    (void)nanosleep(&time, NULL);
}

static int read_some(struct connection *connection, void *data, size_t size)
{
    if (connection->ssl != NULL) {
        return SSL_read(connection->ssl, data, (int)size);
    }
    return (int)recv(connection->fd, data, size, 0);
}

static bool write_all(struct connection *connection, ibk_span bytes)
{
    while (bytes.len > 0) {
        int n = connection->ssl != NULL ? SSL_write(connection->ssl, bytes.data, (int)bytes.len)
                                        : (int)send(connection->fd, bytes.data, bytes.len, MSG_NOSIGNAL);
        if (n <= 0) {
            return false;
        }
        bytes = ibk_span_of(bytes.data + n, bytes.len - (size_t)n);
    }
    return true;
}

static void close_connection(struct connection *connection, enum deed how)
{
    bool reset = how == ANSWER_RESET;
    if (connection->ssl != NULL) {
        if (how == ANSWER_CLOSE) {
            (void)SSL_shutdown(connection->ssl);
        }
        SSL_free(connection->ssl);
        connection->ssl = NULL;
    }
    if (reset) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(connection->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    (void)pthread_mutex_lock(&connection->server->lock);
    (void)close(connection->fd);
    connection->fd = -1;
    (void)pthread_mutex_unlock(&connection->server->lock);
}

/* Until the client closes or server_stop does. */
static void wait_for_end(struct connection *connection)
{
    uint8_t dropped[4096];
    while (read_some(connection, dropped, sizeof dropped) > 0) {
    }
}

static size_t body_size(const uint8_t *head, size_t len)
{
    static const char name[] = "\r\nContent-Length:";
    size_t at = ibk_span_find(ibk_span_of(head, len), ibk_span_text(name));
    return at == len ? 0 : (size_t)strtoul((const char *)head + at + sizeof name - 1, NULL, 10);
}

/* The size of the whole request at the start of data, 0 while its head is not complete. */
static size_t whole_size(const uint8_t *data, size_t len)
{
    size_t end = ibk_span_find(ibk_span_of(data, len), ibk_span_text("\r\n\r\n"));
    return end == len ? 0 : end + 4 + body_size(data, end + 4);
}

/* Takes the step of a request that begins to arrive. */
static struct step next_step(struct server *server, size_t *out_index)
{
    static const struct step fallback = {ANSWER, BYTES("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), {NULL, 0}, 0, 0, 0, 0};
    (void)pthread_mutex_lock(&server->lock);
    size_t index = server->request_count++;
    struct step step = index < server->setup.step_count ? server->setup.steps[index] : fallback;
    demand(index < MAX_REQUESTS, "too many requests");
    (void)pthread_mutex_unlock(&server->lock);
    *out_index = index;
    return step;
}

static void remember(struct server *server, size_t index, const uint8_t *data, size_t len)
{
    uint8_t *copy = malloc(len + 1);
    demand(copy != NULL, "no memory");
    memcpy(copy, data, len);
    copy[len] = '\0'; /* for tests that scan it as text */
    (void)pthread_mutex_lock(&server->lock);
    free(server->requests[index]);
    server->requests[index] = copy;
    server->request_sizes[index] = len;
    (void)pthread_mutex_unlock(&server->lock);
}

static int connect_to(unsigned short port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    demand(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "tunnel: connect");
    return fd;
}

/* Plain proxies only: bytes go both ways until either side ends. */
static void pump(int a, int b)
{
    struct pollfd ends[2] = {{.fd = a, .events = POLLIN}, {.fd = b, .events = POLLIN}};
    uint8_t data[16384];
    for (;;) {
        (void)poll(ends, 2, -1);
        for (int i = 0; i < 2; i++) {
            if (ends[i].revents == 0) {
                continue;
            }
            ssize_t n = recv(ends[i].fd, data, sizeof data, 0);
            if (n <= 0 || send(ends[1 - i].fd, data, (size_t)n, MSG_NOSIGNAL) != n) {
                return;
            }
        }
    }
}

/* Whether the connection goes on. */
static bool perform(struct connection *connection, const struct step *step)
{
    for (int ms = 0; ms < 5000 && server_requests(connection->server) < step->after_requests; ms++) {
        pause_for(1);
    }
    bool alive = write_all(connection, step->bytes);
    switch (step->deed) {
    case ANSWER:
        return alive;
    case ANSWER_CLOSE:
    case ANSWER_CUT:
    case ANSWER_RESET:
        pause_for(step->pause_ms);
        break;
    case ANSWER_STALL:
        wait_for_end(connection);
        break;
    case ANSWER_AGAIN:
        while (alive) {
            pause_for(step->pause_ms);
            alive = write_all(connection, step->again);
        }
        break;
    case TUNNEL: {
        int other = connect_to(step->port);
        pump(connection->fd, other);
        (void)close(other);
        break;
    }
    }
    return false;
}

/* How the connection is to end. */
static enum deed converse(struct connection *connection, uint8_t *data)
{
    struct server *server = connection->server;
    size_t len = 0;
    for (;;) {
        int n = read_some(connection, data + len, len == 0 ? 1 : MAX_REQUEST_SIZE - len);
        if (n <= 0) {
            return ANSWER_CLOSE;
        }
        /* The first byte of a request takes the step, so that a step can act before the whole is in. */
        size_t index;
        struct step step = next_step(server, &index);
        len += (size_t)n;
        while (step.read_only > 0 ? len < step.read_only : whole_size(data, len) == 0 || len < whole_size(data, len)) {
            n = read_some(connection, data + len, step.read_only > 0 ? step.read_only - len : MAX_REQUEST_SIZE - len);
            if (n <= 0) {
                remember(server, index, data, len);
                return ANSWER_CLOSE;
            }
            len += (size_t)n;
        }
        remember(server, index, data, len);
        len = 0;
        if (!perform(connection, &step)) {
            return step.deed;
        }
    }
}

static void *serve(void *argument)
{
    struct connection *connection = argument;
    struct server *server = connection->server;
    uint8_t *data = malloc(MAX_REQUEST_SIZE);
    enum deed end = ANSWER_CLOSE;

    demand(data != NULL, "no memory");
    if (server->setup.greeting == RESET_AT_ONCE) {
        end = ANSWER_RESET;
    } else if (server->setup.greeting == STALL_AT_ONCE) {
        wait_for_end(connection);
    } else {
        if (server->setup.tls != NULL) {
            connection->ssl = SSL_new(server->setup.tls);
            demand(connection->ssl != NULL && SSL_set_fd(connection->ssl, connection->fd) == 1, "SSL_new");
        }
        if (connection->ssl == NULL || SSL_accept(connection->ssl) == 1) {
            end = converse(connection, data);
        }
    }
    close_connection(connection, end);
    free(data);
    return NULL;
}

static void *accept_all(void *argument)
{
    struct server *server = argument;
    struct pollfd ends[2] = {{.fd = server->listener, .events = POLLIN}, {.fd = server->stop_pipe[0], .events = POLLIN}};
    sigset_t broken_pipe;

    /* For the connections' threads as well: a test may set the client's SIGPIPE to kill. */
    (void)sigemptyset(&broken_pipe);
    (void)sigaddset(&broken_pipe, SIGPIPE);
    (void)pthread_sigmask(SIG_BLOCK, &broken_pipe, NULL);
    while (poll(ends, 2, -1) >= 0 && ends[1].revents == 0) {
        int on = 1;
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0) {
            continue;
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        (void)pthread_mutex_lock(&server->lock);
        demand(server->connection_count < MAX_CONNECTIONS, "too many connections");
        struct connection *connection = &server->connections[server->connection_count++];
        *connection = (struct connection){.server = server, .fd = fd};
        demand(pthread_create(&connection->thread, NULL, serve, connection) == 0, "pthread_create");
        (void)pthread_mutex_unlock(&server->lock);
    }
    return NULL;
}

/* They may stand on the stack of a test that is over when the last connection ends. */
static struct step *copy_steps(const struct server_setup *setup)
{
    struct step *steps = calloc(setup->step_count + 1, sizeof *steps);
    demand(steps != NULL, "no memory");
    if (setup->step_count > 0) {
        memcpy(steps, setup->steps, setup->step_count * sizeof *steps);
    }
    return steps;
}

struct server *server_start(const struct server_setup *setup)
{
    struct server *server = calloc(1, sizeof *server);
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;

    demand(server != NULL, "no memory");
    server->setup = *setup;
    server->steps = copy_steps(setup);
    server->setup.steps = server->steps;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server->listener = socket(AF_INET, SOCK_STREAM, 0);
    demand(server->listener >= 0 && bind(server->listener, (struct sockaddr *)&address, size) == 0 &&
               listen(server->listener, 64) == 0 && getsockname(server->listener, (struct sockaddr *)&address, &size) == 0,
           "listen");
    server->port = ntohs(address.sin_port);
    demand(pipe(server->stop_pipe) == 0 && pthread_mutex_init(&server->lock, NULL) == 0 &&
               pthread_create(&server->thread, NULL, accept_all, server) == 0,
           "thread");
    return server;
}

void server_stop(struct server *server)
{
    if (server == NULL) {
        return;
    }
    demand(write(server->stop_pipe[1], "", 1) == 1, "pipe");
    (void)pthread_join(server->thread, NULL);
    (void)pthread_mutex_lock(&server->lock);
    for (size_t i = 0; i < server->connection_count; i++) {
        if (server->connections[i].fd >= 0) {
            (void)shutdown(server->connections[i].fd, SHUT_RDWR);
        }
    }
    (void)pthread_mutex_unlock(&server->lock);
    for (size_t i = 0; i < server->connection_count; i++) {
        (void)pthread_join(server->connections[i].thread, NULL);
    }
    for (size_t i = 0; i < MAX_REQUESTS; i++) {
        free(server->requests[i]);
    }
    (void)close(server->listener);
    (void)close(server->stop_pipe[0]);
    (void)close(server->stop_pipe[1]);
    (void)pthread_mutex_destroy(&server->lock);
    free(server->steps);
    free(server);
}

unsigned short server_port(const struct server *server)
{
    return server->port;
}

size_t server_connections(struct server *server)
{
    (void)pthread_mutex_lock(&server->lock);
    size_t count = server->connection_count;
    (void)pthread_mutex_unlock(&server->lock);
    return count;
}

size_t server_open_connections(struct server *server)
{
    size_t count = 0;
    (void)pthread_mutex_lock(&server->lock);
    for (size_t i = 0; i < server->connection_count; i++) {
        count += server->connections[i].fd >= 0 ? 1 : 0;
    }
    (void)pthread_mutex_unlock(&server->lock);
    return count;
}

size_t server_requests(struct server *server)
{
    (void)pthread_mutex_lock(&server->lock);
    size_t count = server->request_count;
    (void)pthread_mutex_unlock(&server->lock);
    return count;
}

ibk_span server_request(struct server *server, size_t index)
{
    (void)pthread_mutex_lock(&server->lock);
    ibk_span request =
        index < MAX_REQUESTS ? ibk_span_of(server->requests[index], server->request_sizes[index]) : ibk_span_of(NULL, 0);
    (void)pthread_mutex_unlock(&server->lock);
    return request;
}

static EVP_PKEY *make_key(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    demand(key != NULL, "EVP_EC_gen");
    return key;
}

static void add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    demand(extension != NULL && X509_add_ext(certificate, extension, -1) == 1, value);
    X509_EXTENSION_free(extension);
}

static X509 *make_certificate(EVP_PKEY *key, const char *name, long from, long to)
{
    static long serial = 1;
    X509 *certificate = X509_new();
    demand(certificate != NULL && X509_set_version(certificate, X509_VERSION_3) == 1 && X509_set_pubkey(certificate, key) == 1,
           "X509_new");
    (void)ASN1_INTEGER_set(X509_get_serialNumber(certificate), serial++);
    (void)X509_gmtime_adj(X509_getm_notBefore(certificate), from);
    (void)X509_gmtime_adj(X509_getm_notAfter(certificate), to);
    (void)X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1,
                                     0);
    return certificate;
}

void authority_init(struct authority *authority, const char *name)
{
    authority->key = make_key();
    authority->certificate = make_certificate(authority->key, name, -86400L * 30, 86400L * 30);
    (void)X509_set_issuer_name(authority->certificate, X509_get_subject_name(authority->certificate));
    add_extension(authority->certificate, authority->certificate, NID_basic_constraints, "critical,CA:TRUE");
    add_extension(authority->certificate, authority->certificate, NID_key_usage, "critical,keyCertSign,cRLSign");
    add_extension(authority->certificate, authority->certificate, NID_subject_key_identifier, "hash");
    demand(X509_sign(authority->certificate, authority->key, EVP_sha256()) > 0, "X509_sign");
}

void authority_clean(struct authority *authority)
{
    X509_free(authority->certificate);
    EVP_PKEY_free(authority->key);
}

bool authority_write(const struct authority *authority, const char *name)
{
    FILE *file = fopen(name, "w");
    bool good = file != NULL && PEM_write_X509(file, authority->certificate) == 1;
    return file != NULL && fclose(file) == 0 && good;
}

SSL_CTX *identity_new(const struct authority *authority, const char *names, long from, long to)
{
    EVP_PKEY *key = make_key();
    X509 *certificate = make_certificate(key, "server", from, to);
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    (void)X509_set_issuer_name(certificate, X509_get_subject_name(authority->certificate));
    add_extension(certificate, authority->certificate, NID_subject_alt_name, names);
    add_extension(certificate, authority->certificate, NID_subject_key_identifier, "hash");
    add_extension(certificate, authority->certificate, NID_authority_key_identifier, "keyid");
    demand(X509_sign(certificate, authority->key, EVP_sha256()) > 0, "X509_sign");
    demand(context != NULL && SSL_CTX_use_certificate(context, certificate) == 1 && SSL_CTX_use_PrivateKey(context, key) == 1,
           "SSL_CTX_new");
    X509_free(certificate);
    EVP_PKEY_free(key);
    return context;
}
