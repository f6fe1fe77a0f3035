/*
 * sockets.c - which sockets a multi handle has open. libcurl keeps idle connections to itself, and some versions do not notice
 * that one has died, so we look ourselves.
 *
 * libcurl tells us of each socket that it opens, but some versions (7.88) close one whose connect timed out without a word.
 * Its number may belong to somebody else by now, so it is looked at only while it is the same socket as before.
 */
#include "http_internal.h"

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

static bool is_same(const struct ibk_socket *entry)
{
    struct ibk_socket_identity now;
    return ibk_socket_identify(entry->fd, &now) && now.device == entry->identity.device && now.inode == entry->identity.inode;
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
    if (!ibk_socket_identify(fd, &made.identity)) {
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
    if (entry->opener != NULL && entry->opener->socket == entry->fd) {
        entry->opener->tcp_connected = ibk_socket_is_connected(entry->fd);
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
    ibk_polled end = {.fd = entry->fd, .events = POLLIN};
    return ibk_poll(&end, 1, 0) > 0;
}

void ibk_sockets_end_dead(struct ibk_sockets *sockets)
{
    for (size_t i = sockets->count; i > 0; i--) {
        struct ibk_socket *entry = &sockets->list[i - 1];
        if (!is_readable(entry)) {
            continue;
        }
        if (is_same(entry)) {
            ibk_socket_end(entry->fd); /* which every version understands */
        } else {
            drop(sockets, entry);
        }
    }
}

bool ibk_sockets_are_quiet(struct ibk_sockets *sockets, int local_port)
{
    bool found = false;
    for (size_t i = sockets->count; i > 0 && local_port > 0; i--) {
        struct ibk_socket *entry = &sockets->list[i - 1];
        if (entry->local_port == 0) {
            entry->local_port = ibk_socket_local_port(entry->fd);
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
