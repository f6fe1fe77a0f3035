/*
 * buf.h - a growing byte buffer with a hard limit.
 *
 * The buffer owns its memory and is the only one to move it; it may begin in a room that it was lent. Appending never fails on
 * the spot: the first append that would pass the limit or finds no memory marks the buffer broken, later ones do nothing, and
 * ibk_buf_check tells. So text can be put together line by line and checked once, before anybody reads it.
 *
 * A buffer made with ibk_buf_init_secret wipes what it leaves behind when it grows and when it is cleaned.
 */
#ifndef IBK_BUF_H
#define IBK_BUF_H

#include "ibk/error.h"

#include <stddef.h>

/*
 * Whoever works with many buffers lends them rooms on the stack, which are enough for each piece of a signed request as IBKR
 * has it. In tests they are soon too small, so that these see buffers leave them, and run out of memory.
 */
#ifdef IBK_TESTING
#define IBK_ROOM_SIZE 16u
#else
#define IBK_ROOM_SIZE 512u /* bytes */
#endif

struct ibk_room {
    _Alignas(max_align_t) uint8_t bytes[IBK_ROOM_SIZE];
};

struct ibk_buf {
    uint8_t *data;
    size_t len;
    size_t capacity;
    size_t limit;          /* neither len nor capacity ever passes it */
    struct ibk_room *room; /* where it begins; NULL: in memory of its own */
    bool secret;
    ibk_code broken; /* IBK_OK, IBK_E_LIMIT or IBK_E_NO_MEMORY */
};

/* No memory is taken before the first byte is put. limit in bytes. */
void ibk_buf_init(struct ibk_buf *buf, size_t limit);
void ibk_buf_init_secret(struct ibk_buf *buf, size_t limit);

/* Before the first byte is put. The room outlives the buffer, whose pointer to it stays when the buffer is cleaned. */
static inline void ibk_buf_lend(struct ibk_buf *buf, struct ibk_room *room)
{
    buf->room = room;
}

/* Gives the memory back (wiped, if secret). The buffer is then empty and may be used again. */
void ibk_buf_clean(struct ibk_buf *buf);

/* Makes room for len bytes more, and counts none of them as put. False when the buffer is broken, or is so by now. */
bool ibk_buf_grow(struct ibk_buf *buf, size_t len);

/* Room for len bytes at the end, to be written by the caller at once; counted as put. NULL when the buffer is broken. */
static inline uint8_t *ibk_buf_put_room(struct ibk_buf *buf, size_t len)
{
    /* A header is put together in dozens of pieces, nearly all of which fit. */
    bool fits = buf->broken == IBK_OK && buf->data != NULL && len <= buf->capacity - buf->len;
    if (!fits && !ibk_buf_grow(buf, len)) {
        return NULL;
    }
    uint8_t *room = buf->data + buf->len;
    buf->len += len;
    return room;
}

static inline void ibk_buf_put(struct ibk_buf *buf, ibk_span bytes)
{
    uint8_t *room = ibk_buf_put_room(buf, bytes.len);
    if (room != NULL && bytes.len > 0) {
        memcpy(room, bytes.data, bytes.len);
    }
}

static inline void ibk_buf_put_byte(struct ibk_buf *buf, uint8_t byte)
{
    ibk_buf_put(buf, ibk_span_of(&byte, 1));
}

static inline void ibk_buf_put_text(struct ibk_buf *buf, const char *text)
{
    ibk_buf_put(buf, ibk_span_text(text));
}

/* IBK_OK, or the failure that an earlier put met. `what` names the contents in the error text ("base string"). */
ibk_code ibk_buf_check(const struct ibk_buf *buf, const char *what, struct ibk_error *err) IBK_MUST_USE;

/* Borrowed: valid until the next put or clean. */
static inline ibk_span ibk_buf_peek(const struct ibk_buf *buf)
{
    return ibk_span_of(buf->data, buf->len);
}

#endif
