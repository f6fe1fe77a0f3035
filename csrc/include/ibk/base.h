/*
 * base.h - the vocabulary of the C core: borrowed bytes, attributes, checked sizes.
 *
 * Ownership in names, everywhere in this library:
 *   new/free         one owner, on the heap
 *   acquire/release  reference counted
 *   init/clean       the caller provides the storage
 *   load             parses something from outside
 *   peek             borrows from the object, valid while it lives
 */
#ifndef IBK_BASE_H
#define IBK_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define IBK_MUST_USE __attribute__((warn_unused_result))
#define IBK_PRINTF(format_index, first_argument) __attribute__((format(printf, format_index, first_argument)))

/* Bytes that belong to somebody else, borrowed until the call returns. Nobody stores one. Not NUL-terminated. */
typedef struct ibk_span {
    const uint8_t *data;
    size_t len;
} ibk_span;

static inline ibk_span ibk_span_of(const void *data, size_t len)
{
    return (ibk_span){.data = data, .len = len};
}

/* A NUL-terminated string without its NUL. */
static inline ibk_span ibk_span_text(const char *text)
{
    return ibk_span_of(text, strlen(text));
}

static inline bool ibk_span_equal(ibk_span a, ibk_span b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

/* Byte order of the contents, a prefix before what it begins: the order in which OAuth sorts parameters. */
static inline int ibk_span_compare(ibk_span a, ibk_span b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    if (order != 0) {
        return order;
    }
    return (a.len > b.len) - (a.len < b.len);
}

/* ASCII letters compare without case, all other bytes exactly. */
bool ibk_span_equal_nocase(ibk_span a, ibk_span b);

/* Position of needle in haystack, or haystack.len where it does not occur. */
size_t ibk_span_find(ibk_span haystack, ibk_span needle);

/* Checked size arithmetic: false, with *sum or *product untouched, where the result does not fit. */
static inline bool ibk_add_size(size_t a, size_t b, size_t *sum)
{
    if (b > SIZE_MAX - a) {
        return false;
    }
    *sum = a + b;
    return true;
}

static inline bool ibk_mul_size(size_t a, size_t b, size_t *product)
{
    if (b != 0 && a > SIZE_MAX / b) {
        return false;
    }
    *product = a * b;
    return true;
}

/*
 * The allocator of the core. ibk_free wipes nothing: memory that held a secret goes through ibk_free_secret.
 * Builds with IBK_TESTING can make the n-th allocation fail (see ibk_test_fail_allocation).
 */
void *ibk_alloc(size_t size) IBK_MUST_USE;
void ibk_free(void *memory);
void ibk_free_secret(void *memory, size_t size);

#ifdef IBK_TESTING
/* From now on the n-th call of ibk_alloc returns NULL (1 = the next one, 0 = none). */
void ibk_test_fail_allocation(unsigned long n);
/* Blocks handed out by ibk_alloc and not yet given back, in all threads. */
long ibk_test_live_allocations(void);
#endif

#endif
