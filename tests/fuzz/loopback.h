/*
 * loopback.h - a server on 127.0.0.1 that answers each request with the bytes it was given for it. One thread, many
 * connections. A request asks for an answer by the number at the end of its target ("/v1/api/2", 0 for any other target).
 */
#ifndef IBK_FUZZ_LOOPBACK_H
#define IBK_FUZZ_LOOPBACK_H

#include "fuzz.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOPBACK_MAX_ANSWERS 8u
#define LOOPBACK_MAX_ANSWER 65536u
#define LOOPBACK_MAX_REQUEST 131072u
#define LOOPBACK_MAX_CONNECTIONS 32u
#define LOOPBACK_IDLE_MS 3

struct loopback_connection {
    int fd;
    bool answered; /* at least once */
    bool ended;    /* only waiting for the client to close */
    size_t len;
    char request[LOOPBACK_MAX_REQUEST];
};

static struct {
    int listener;
    char url[64];
    struct loopback_connection connections[LOOPBACK_MAX_CONNECTIONS];
    size_t count;

    /* A client may be content before all of it is sent, and the next run begins: so everything is copied, under the lock. */
    pthread_mutex_t lock;
    uint8_t answers[LOOPBACK_MAX_ANSWERS][LOOPBACK_MAX_ANSWER];
    size_t sizes[LOOPBACK_MAX_ANSWERS];
    bool keeps[LOOPBACK_MAX_ANSWERS];   /* the connection is kept afterwards */
    size_t asked[LOOPBACK_MAX_ANSWERS]; /* how many requests asked for it */
    uint8_t seen[LOOPBACK_MAX_REQUEST];
    size_t seen_len;
} loopback = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Its length where all of it is there, else 0. */
static inline size_t loopback_whole(const struct loopback_connection *connection)
{
    ibk_span text = ibk_span_of(connection->request, connection->len);
    size_t head = ibk_span_find(text, ibk_span_text("\r\n\r\n"));
    size_t at = ibk_span_find(text, ibk_span_text("\r\nContent-Length: ")); /* as the transport writes it */
    if (head == text.len) {
        return 0;
    }
    size_t size = head + 4 + (at < head ? strtoul(connection->request + at + strlen("\r\nContent-Length: "), NULL, 10) : 0);
    return size <= connection->len ? size : 0;
}

/* The number of the answer that the request's target asks for. */
static inline size_t loopback_number(const struct loopback_connection *connection)
{
    ibk_span text = ibk_span_of(connection->request, connection->len);
    size_t end = ibk_span_find(text, ibk_span_text(" HTTP/1.1\r\n"));
    size_t digit = end > 0 && end < text.len ? (size_t)text.data[end - 1] - '0' : 0;
    return digit < LOOPBACK_MAX_ANSWERS ? digit : 0;
}

static inline void loopback_reply(struct loopback_connection *connection, size_t whole)
{
    size_t number = loopback_number(connection);
    REQUIRE(pthread_mutex_lock(&loopback.lock) == 0);
    loopback.seen_len = whole;
    memcpy(loopback.seen, connection->request, whole);
    loopback.asked[number]++;
    (void)send(connection->fd, loopback.answers[number], loopback.sizes[number], MSG_NOSIGNAL);
    connection->answered = true;
    connection->ended = !loopback.keeps[number];
    REQUIRE(pthread_mutex_unlock(&loopback.lock) == 0);
    if (connection->ended) {
        (void)shutdown(connection->fd, SHUT_WR);
    }
    connection->len -= whole;
    memmove(connection->request, connection->request + whole, connection->len);
}

/* False once the client has closed. */
static inline bool loopback_read(struct loopback_connection *connection)
{
    ssize_t got =
        recv(connection->fd, connection->request + connection->len, sizeof connection->request - 1 - connection->len, 0);
    if (got <= 0) {
        return false;
    }
    connection->len = connection->ended ? 0 : connection->len + (size_t)got;
    connection->request[connection->len] = '\0';
    for (size_t whole; !connection->ended && (whole = loopback_whole(connection)) > 0;) {
        loopback_reply(connection, whole);
    }
    return true;
}

/* Of connections that are kept: a client that waits for more of an answer has waited long enough. */
static inline void loopback_end_all(void)
{
    for (size_t i = 0; i < loopback.count; i++) {
        struct loopback_connection *connection = &loopback.connections[i];
        if (connection->answered && !connection->ended) {
            connection->ended = true;
            (void)shutdown(connection->fd, SHUT_WR);
        }
    }
}

static inline void *loopback_serve(void *unused)
{
    (void)unused;
    for (;;) {
        struct pollfd watched[LOOPBACK_MAX_CONNECTIONS + 1] = {{.fd = loopback.listener, .events = POLLIN}};
        for (size_t i = 0; i < loopback.count; i++) {
            watched[i + 1] = (struct pollfd){.fd = loopback.connections[i].fd, .events = POLLIN};
        }
        if (poll(watched, (nfds_t)loopback.count + 1, loopback.count > 0 ? LOOPBACK_IDLE_MS : -1) == 0) {
            loopback_end_all();
        }
        for (size_t i = loopback.count; i > 0; i--) {
            if (watched[i].revents != 0 && !loopback_read(&loopback.connections[i - 1])) {
                (void)close(watched[i].fd);
                loopback.connections[i - 1] = loopback.connections[--loopback.count];
            }
        }
        if (watched[0].revents != 0) {
            REQUIRE(loopback.count < LOOPBACK_MAX_CONNECTIONS);
            struct loopback_connection *added = &loopback.connections[loopback.count++];
            added->fd = accept(loopback.listener, NULL, NULL);
            added->answered = added->ended = false;
            added->len = 0;
            REQUIRE(added->fd >= 0);
        }
    }
    return NULL;
}

/* "http://127.0.0.1:34567". Starts the server at the first call. */
static inline const char *loopback_url(void)
{
    if (loopback.url[0] == '\0') {
        pthread_t thread;
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof address;
        loopback.listener = socket(AF_INET, SOCK_STREAM, 0);
        REQUIRE(bind(loopback.listener, (struct sockaddr *)&address, size) == 0 && listen(loopback.listener, 64) == 0);
        REQUIRE(getsockname(loopback.listener, (struct sockaddr *)&address, &size) == 0);
        (void)snprintf(loopback.url, sizeof loopback.url, "http://127.0.0.1:%u", (unsigned int)ntohs(address.sin_port));
        REQUIRE(pthread_create(&thread, NULL, loopback_serve, NULL) == 0);
    }
    return loopback.url;
}

/* Forgets the request seen last, too. */
static inline void loopback_answer(size_t number, ibk_span bytes, bool keep)
{
    REQUIRE(number < LOOPBACK_MAX_ANSWERS && pthread_mutex_lock(&loopback.lock) == 0);
    loopback.sizes[number] = bytes.len < LOOPBACK_MAX_ANSWER ? bytes.len : LOOPBACK_MAX_ANSWER;
    memcpy(loopback.answers[number], bytes.data, loopback.sizes[number]);
    loopback.keeps[number] = keep;
    loopback.asked[number] = 0;
    loopback.seen_len = 0;
    REQUIRE(pthread_mutex_unlock(&loopback.lock) == 0);
}

static inline size_t loopback_asked(size_t number)
{
    REQUIRE(pthread_mutex_lock(&loopback.lock) == 0);
    size_t asked = loopback.asked[number];
    REQUIRE(pthread_mutex_unlock(&loopback.lock) == 0);
    return asked;
}

/* The last whole request, until the next one comes. Empty where there was none. */
static inline ibk_span loopback_request(void)
{
    REQUIRE(pthread_mutex_lock(&loopback.lock) == 0);
    ibk_span seen = ibk_span_of(loopback.seen, loopback.seen_len);
    REQUIRE(pthread_mutex_unlock(&loopback.lock) == 0);
    return seen;
}

#endif
