/* base.c - span helpers and the one allocator of the core. */
#include "ibk/base.h"

#include <openssl/crypto.h>
#include <stdlib.h>

static uint8_t lower_ascii(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + ('a' - 'A')) : byte;
}

bool ibk_span_equal_nocase(ibk_span a, ibk_span b)
{
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (lower_ascii(a.data[i]) != lower_ascii(b.data[i])) {
            return false;
        }
    }
    return true;
}

size_t ibk_span_find(ibk_span haystack, ibk_span needle)
{
    if (needle.len == 0) {
        return 0;
    }
    for (size_t i = 0; needle.len <= haystack.len && i <= haystack.len - needle.len; i++) {
        const uint8_t *first = memchr(haystack.data + i, needle.data[0], haystack.len - needle.len - i + 1);
        if (first == NULL) {
            break;
        }
        i = (size_t)(first - haystack.data);
        if (memcmp(first, needle.data, needle.len) == 0) {
            return i;
        }
    }
    return haystack.len;
}

#ifdef IBK_TESTING
#include <stdatomic.h>

static atomic_ulong fail_countdown;
static atomic_long live_allocations;

void ibk_test_fail_allocation(unsigned long n)
{
    atomic_store(&fail_countdown, n);
}

long ibk_test_live_allocations(void)
{
    return atomic_load(&live_allocations);
}

static bool told_to_fail(void)
{
    return atomic_load(&fail_countdown) != 0 && atomic_fetch_sub(&fail_countdown, 1) == 1;
}
#endif

void *ibk_alloc(size_t size)
{
#ifdef IBK_TESTING
    if (told_to_fail()) {
        return NULL;
    }
    void *memory = malloc(size == 0 ? 1 : size);
    atomic_fetch_add(&live_allocations, (long)(memory != NULL));
    return memory;
#else
    return malloc(size == 0 ? 1 : size);
#endif
}

void ibk_free(void *memory)
{
#ifdef IBK_TESTING
    if (memory != NULL) {
        atomic_fetch_sub(&live_allocations, 1);
    }
#endif
    free(memory);
}

void ibk_free_secret(void *memory, size_t size)
{
    if (memory != NULL) {
        OPENSSL_cleanse(memory, size);
    }
    ibk_free(memory);
}
