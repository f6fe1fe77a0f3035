/*
 * server.c - what answers the benchmarks: HTTP/1.1 with keep-alive over TLS 1.3, on loopback, all connections in one thread.
 *
 *   server CERTIFICATE KEY     two PEM files; prints its port, ends when standard input does
 *
 * It reads requests without a body, and answers every path with the same JSON, except those that end in /echo: there it answers
 * the head of the request as a JSON string, so that a test can see what each client really sends. Behind the answer to a path
 * that ends in /close it ends the connection. It verifies no signature, since its own time is part of every figure.
 */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_CONNECTIONS 4096
#define MAX_HEAD_SIZE 8192
#define MAX_BODY_SIZE (2 * MAX_HEAD_SIZE + 2) /* a head whose every character is escaped */
#define MAX_ANSWER_SIZE (MAX_BODY_SIZE + 1024)

/*
 * For so long after a request it asks for the next one without sleeping. Waking a virtual processor that sleeps takes about as
 * long as a whole call, and is nothing that a client could do well or badly.
 */
#define BUSY_NS 200000
#define RELAXATIONS 40

struct connection {
    SSL *ssl;
    time_t answered_at; /* the second that `date` tells */
    char date[64];
    size_t len; /* of `head`; more than one request where a client sends ahead */
    char head[MAX_HEAD_SIZE];
    char answer[MAX_ANSWER_SIZE];
};

static const char accounts[] =
    "[{\"id\":\"DU1234567\",\"PrepaidCrypto-Z\":false,\"PrepaidCrypto-P\":false,\"brokerageAccess\":true,"
    "\"accountId\":\"DU1234567\",\"accountVan\":\"DU1234567\",\"accountTitle\":\"Jane Doe\",\"displayName\":\"Jane Doe\","
    "\"accountAlias\":null,\"accountStatus\":1699506000000,\"currency\":\"USD\",\"type\":\"DEMO\",\"tradingType\":\"STKNOPT\","
    "\"businessType\":\"INDEPENDENT\",\"category\":\"\",\"ibEntity\":\"IBLLC-US\",\"faclient\":false,\"clearingStatus\":\"O\","
    "\"covestor\":false,\"noClientTrading\":false,\"trackVirtualFXPortfolio\":true,\"acctCustType\":\"INDIVIDUAL\","
    "\"parent\":{\"mmc\":[],\"accountId\":\"\",\"isMParent\":false,\"isMChild\":false,\"isMultiplex\":false},"
    "\"desc\":\"DU1234567\"}]";

enum { LISTENER, INPUT, FIRST_CONNECTION };

static struct pollfd sockets[MAX_CONNECTIONS];
static struct connection *connections[MAX_CONNECTIONS]; /* of the same index, from FIRST_CONNECTION on */
static nfds_t socket_count = FIRST_CONNECTION;
static SSL_CTX *context;

static void demand(int condition, const char *what)
{
    if (!condition) {
        perror(what);
        exit(1);
    }
}

static void tell_date(struct connection *connection)
{
    time_t now = time(NULL);
    struct tm parts;
    if (now != connection->answered_at && gmtime_r(&now, &parts) != NULL) {
        connection->answered_at = now;
        strftime(connection->date, sizeof connection->date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    }
}

/* As a JSON string. */
static size_t quote(char *out, const char *text, size_t len)
{
    char *end = out;
    *end++ = '"';
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '"' || text[i] == '\\') {
            *end++ = '\\';
        }
        if (text[i] == '\r' || text[i] == '\n') {
            *end++ = '\\';
            *end++ = text[i] == '\r' ? 'r' : 'n';
        } else {
            *end++ = text[i];
        }
    }
    *end++ = '"';
    return (size_t)(end - out);
}

/* `name` with the space behind it. */
static int asks_for(const char *head, const char *name)
{
    const char *line_end = strstr(head, "\r\n");
    const char *found = strstr(head, name);
    return found != NULL && found < line_end;
}

/* One record of TLS and one call of the kernel. False where the connection is to end. */
static int answer(struct connection *connection, size_t head_len)
{
    static char echo[MAX_BODY_SIZE];
    const char *body = accounts;
    size_t body_len = sizeof accounts - 1;
    int closes = asks_for(connection->head, "/close ");
    if (asks_for(connection->head, "/echo ")) {
        body = echo;
        body_len = quote(echo, connection->head, head_len);
    }
    tell_date(connection);
    int len = snprintf(connection->answer, sizeof connection->answer,
                       "HTTP/1.1 200 OK\r\n"
                       "Content-Type: application/json;charset=utf-8\r\n"
                       "Content-Length: %zu\r\n"
                       "X-Content-Type-Options: nosniff\r\n"
                       "Strict-Transport-Security: max-age=31536000\r\n"
                       "Cache-Control: no-cache, no-store\r\n"
                       "Vary: Origin\r\n"
                       "Date: %s\r\n"
                       "Connection: %s\r\n\r\n",
                       body_len, connection->date, closes ? "close" : "keep-alive");
    memcpy(connection->answer + len, body, body_len);
    int written = SSL_write(connection->ssl, connection->answer, len + (int)body_len) > 0;
    if (closes) {
        SSL_shutdown(connection->ssl);
    }
    return written && !closes;
}

/* What has arrived; false once the client has gone, or has sent what is no request. */
static int serve(struct connection *connection)
{
    do {
        size_t room = sizeof connection->head - 1 - connection->len;
        ERR_clear_error(); /* what another connection left there would be taken for ours */
        int count = SSL_read(connection->ssl, connection->head + connection->len, (int)room);
        if (count <= 0) {
            return room > 0 && SSL_get_error(connection->ssl, count) == SSL_ERROR_WANT_READ;
        }
        connection->len += (size_t)count;
        connection->head[connection->len] = '\0';
        const char *end;
        while ((end = strstr(connection->head, "\r\n\r\n")) != NULL) {
            size_t head_len = (size_t)(end - connection->head) + 4;
            if (!answer(connection, head_len)) {
                return 0;
            }
            connection->len -= head_len;
            memmove(connection->head, connection->head + head_len, connection->len + 1);
        }
    } while (SSL_has_pending(connection->ssl));
    return 1;
}

static void accept_connection(void)
{
    int yes = 1;
    struct connection *connection = calloc(1, sizeof *connection);
    demand(connection != NULL && socket_count < MAX_CONNECTIONS, "too many connections");
    int fd = accept(sockets[LISTENER].fd, NULL, NULL);
    demand(fd >= 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0, "accept");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    connection->ssl = SSL_new(context);
    demand(connection->ssl != NULL && SSL_set_fd(connection->ssl, fd) == 1, "TLS");
    SSL_set_accept_state(connection->ssl);
    sockets[socket_count] = (struct pollfd){.fd = fd, .events = POLLIN};
    connections[socket_count++] = connection;
}

static void drop_connection(nfds_t which)
{
    SSL_free(connections[which]->ssl);
    close(sockets[which].fd);
    free(connections[which]);
    sockets[which] = sockets[--socket_count];
    connections[which] = connections[socket_count];
}

static int listen_on_loopback(unsigned short *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    demand(listener >= 0, "socket");
    demand(bind(listener, (struct sockaddr *)&address, size) == 0, "bind");
    demand(listen(listener, 1024) == 0, "listen");
    demand(getsockname(listener, (struct sockaddr *)&address, &size) == 0, "getsockname");
    *port = ntohs(address.sin_port);
    return listener;
}

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Waits for about a microsecond and leaves the core to its other thread, where the client may be at work. */
static void relax(void)
{
    for (int i = 0; i < RELAXATIONS; i++) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    }
}

/* Until a socket has something to read. */
static void wait_busily(void)
{
    long long end = now_ns() + BUSY_NS;
    int ready;
    while ((ready = poll(sockets, socket_count, 0)) == 0 && now_ns() < end) {
        sched_yield(); /* to a client that waits for this processor */
        relax();
    }
    demand(ready > 0 || poll(sockets, socket_count, -1) > 0, "poll");
}

static void run(void)
{
    for (;;) {
        wait_busily();
        if (sockets[INPUT].revents != 0) {
            return;
        }
        for (nfds_t i = socket_count; i-- > FIRST_CONNECTION;) { /* backwards: the last one takes the place of one that goes */
            if (sockets[i].revents != 0 && !serve(connections[i])) {
                drop_connection(i);
            }
        }
        if (sockets[LISTENER].revents != 0) {
            accept_connection();
        }
    }
}

int main(int argument_count, char **arguments)
{
    unsigned short port;
    demand(argument_count == 3, "usage: server CERTIFICATE KEY");
    signal(SIGPIPE, SIG_IGN);
    context = SSL_CTX_new(TLS_server_method());
    demand(context != NULL && SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) == 1, "TLS 1.3");
    demand(SSL_CTX_use_certificate_chain_file(context, arguments[1]) == 1, arguments[1]);
    demand(SSL_CTX_use_PrivateKey_file(context, arguments[2], SSL_FILETYPE_PEM) == 1, arguments[2]);
    SSL_CTX_set_read_ahead(context, 1); /* one call of the kernel for a request */
    sockets[LISTENER] = (struct pollfd){.fd = listen_on_loopback(&port), .events = POLLIN};
    sockets[INPUT] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
    printf("%hu\n", port);
    fflush(stdout);
    run();
    return 0;
}
