/* buf.c - the bounded byte buffer. */
#include "ibk/buf.h"

#include <openssl/crypto.h>

#define FIRST_CAPACITY 512u /* bytes: a signed request grows none of its buffers */

static void init(struct ibk_buf *buf, size_t limit, bool secret)
{
    *buf = (struct ibk_buf){.limit = limit, .secret = secret, .broken = IBK_OK};
}

void ibk_buf_init(struct ibk_buf *buf, size_t limit)
{
    init(buf, limit, false);
}

void ibk_buf_init_secret(struct ibk_buf *buf, size_t limit)
{
    init(buf, limit, true);
}

static bool is_in_room(const struct ibk_buf *buf)
{
    return buf->room != NULL && buf->data == buf->room->bytes;
}

static void give_back(struct ibk_buf *buf)
{
    if (is_in_room(buf)) {
        if (buf->secret) {
            OPENSSL_cleanse(buf->data, buf->capacity);
        }
    } else if (buf->secret) {
        ibk_free_secret(buf->data, buf->capacity);
    } else {
        ibk_free(buf->data);
    }
}

void ibk_buf_clean(struct ibk_buf *buf)
{
    struct ibk_room *room = buf->room;
    give_back(buf);
    init(buf, buf->limit, buf->secret);
    buf->room = room;
}

static size_t next_capacity(const struct ibk_buf *buf, size_t needed)
{
    size_t capacity = buf->capacity < FIRST_CAPACITY ? FIRST_CAPACITY : buf->capacity;
    while (capacity < needed) {
        capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
    }
    return capacity < buf->limit ? capacity : buf->limit;
}

/* Copies into new memory instead of realloc, which may leave a secret behind where it stood. */
static void move(struct ibk_buf *buf, size_t capacity)
{
    uint8_t *data = ibk_alloc(capacity);
    if (data == NULL) {
        buf->broken = IBK_E_NO_MEMORY;
        return;
    }
    if (buf->len > 0) {
        memcpy(data, buf->data, buf->len);
    }
    give_back(buf);
    buf->data = data;
    buf->capacity = capacity;
}

bool ibk_buf_grow(struct ibk_buf *buf, size_t len)
{
    size_t needed;
    if (buf->broken != IBK_OK) {
        return false;
    }
    if (!ibk_add_size(buf->len, len, &needed) || needed > buf->limit) {
        buf->broken = IBK_E_LIMIT;
        return false;
    }
    if (buf->data == NULL && buf->room != NULL && needed <= IBK_ROOM_SIZE) {
        buf->data = buf->room->bytes;
        buf->capacity = buf->limit < IBK_ROOM_SIZE ? buf->limit : IBK_ROOM_SIZE;
    } else {
        move(buf, next_capacity(buf, needed));
    }
    return buf->broken == IBK_OK;
}

ibk_code ibk_buf_check(const struct ibk_buf *buf, const char *what, struct ibk_error *err)
{
    if (buf->broken == IBK_E_LIMIT) {
        return ibk_fail(err, IBK_E_LIMIT, __func__, "%s would pass the limit of %zu bytes", what, buf->limit);
    }
    if (buf->broken != IBK_OK) {
        return ibk_fail_memory(err, __func__);
    }
    return IBK_OK;
}
