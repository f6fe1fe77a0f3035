/*
 * sockets.c - which sockets a multi handle has open. libcurl keeps idle connections to itself, and some versions do not notice
 * that one has died, so we look ourselves.
 *
 * libcurl tells us of each socket that it opens, but some versions (7.88) close one whose connect timed out without a word.
 * Its number may belong to somebody else by now, so it is looked at only while it is the same socket as before.
 */
#include "http_internal.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define FIRST_ROOM 8u /* sockets */

ibk_code ibk_sockets_init(struct ibk_sockets *sockets, struct ibk_error *err)
{
    *sockets = (struct ibk_sockets){.room = FIRST_ROOM};
    sockets->list = ibk_alloc(FIRST_ROOM * sizeof *sockets->list);
    return sockets->list != NULL ? IBK_OK : ibk_fail_memory(err, "ibk_http_client_new");
}

void ibk_sockets_clean(struct ibk_sockets *sockets)
{
    ibk_free(sockets->list);
    *sockets = (struct ibk_sockets){.list = NULL};
}

static bool grow(struct ibk_sockets *sockets)
{
    size_t room = 2 * sockets->room;
    size_t size;
    struct ibk_socket *list = ibk_mul_size(room, sizeof *list, &size) ? ibk_alloc(size) : NULL;
    if (list == NULL) {
        return false;
    }
    memcpy(list, sockets->list, sockets->count * sizeof *list);
    ibk_free(sockets->list);
    sockets->list = list;
    sockets->room = room;
    return true;
}

/* What the system calls this very socket; no other has the same pair while it is open. */
static bool identify(curl_socket_t fd, dev_t *device, ino_t *inode)
{
    struct stat about;
    if (fstat(fd, &about) != 0) {
        return false;
    }
    *device = about.st_dev;
    *inode = about.st_ino;
    return true;
}

static bool is_same(const struct ibk_socket *entry)
{
    dev_t device;
    ino_t inode;
    return identify(entry->fd, &device, &inode) && device == entry->device && inode == entry->inode;
}

static struct ibk_socket *find(struct ibk_sockets *sockets, curl_socket_t fd)
{
    for (size_t i = 0; i < sockets->count; i++) {
        if (sockets->list[i].fd == fd) {
            return &sockets->list[i];
        }
    }
    return NULL;
}

void ibk_sockets_add(struct ibk_sockets *sockets, curl_socket_t fd, struct ibk_transfer *opener)
{
    struct ibk_socket *entry = find(sockets, fd); /* of one that is closed */
    struct ibk_socket made = {.fd = fd, .opener = opener};
    if (!identify(fd, &made.device, &made.inode)) {
        return;
    }
    if (entry != NULL) {
        *entry = made;
    } else if (sockets->count < sockets->room || grow(sockets)) {
        sockets->list[sockets->count++] = made;
    }
}

/* For the error text: libcurl keeps to itself whether it was TCP or TLS that did not come about. */
static void tell_opener(const struct ibk_socket *entry)
{
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;
    if (entry->opener != NULL && entry->opener->socket == entry->fd) {
        entry->opener->tcp_connected = getpeername(entry->fd, (struct sockaddr *)&peer, &size) == 0;
        entry->opener->socket = CURL_SOCKET_BAD;
    }
}

static void drop(struct ibk_sockets *sockets, struct ibk_socket *entry)
{
    *entry = sockets->list[--sockets->count];
}

void ibk_sockets_remove(struct ibk_sockets *sockets, curl_socket_t fd)
{
    struct ibk_socket *entry = find(sockets, fd);
    if (entry != NULL) {
        tell_opener(entry);
        drop(sockets, entry);
    }
}

void ibk_sockets_forget(struct ibk_sockets *sockets, const struct ibk_transfer *opener)
{
    for (size_t i = 0; i < sockets->count; i++) {
        if (sockets->list[i].opener == opener) {
            sockets->list[i].opener = NULL;
        }
    }
}

static bool is_readable(const struct ibk_socket *entry)
{
    struct pollfd end = {.fd = entry->fd, .events = POLLIN};
    return poll(&end, 1, 0) > 0;
}

/* Empties and shuts it down: what libcurl finds then is the end of the stream, which every version understands. */
static void end_stream(const struct ibk_socket *entry)
{
    uint8_t dropped[4096];
    (void)shutdown(entry->fd, SHUT_RDWR);
    for (int pieces = 0; pieces < 16 && recv(entry->fd, dropped, sizeof dropped, 0) > 0; pieces++) {
    }
}

void ibk_sockets_end_dead(struct ibk_sockets *sockets)
{
    for (size_t i = sockets->count; i > 0; i--) {
        struct ibk_socket *entry = &sockets->list[i - 1];
        if (!is_readable(entry)) {
            continue;
        }
        if (is_same(entry)) {
            end_stream(entry);
        } else {
            drop(sockets, entry);
        }
    }
}

static int local_port_of(curl_socket_t fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        return 0;
    }
    if (address.ss_family == AF_INET6) {
        return ntohs(((const struct sockaddr_in6 *)&address)->sin6_port);
    }
    return address.ss_family == AF_INET ? ntohs(((const struct sockaddr_in *)&address)->sin_port) : 0;
}

bool ibk_sockets_are_quiet(struct ibk_sockets *sockets, int local_port)
{
    bool found = false;
    for (size_t i = sockets->count; i > 0 && local_port > 0; i--) {
        struct ibk_socket *entry = &sockets->list[i - 1];
        if (entry->local_port == 0) {
            entry->local_port = local_port_of(entry->fd);
        }
        if (entry->local_port != local_port) {
            continue;
        }
        if (!is_same(entry)) {
            drop(sockets, entry);
        } else if (is_readable(entry)) {
            return false;
        } else {
            found = true;
        }
    }
    return found;
}
