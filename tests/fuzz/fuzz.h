/*
 * fuzz.h - what the fuzz targets share.
 *
 * A target is one file with LLVMFuzzerTestOneInput: bytes from outside go in, and what comes out has to hold. The sanitizers
 * see what the code does to memory; REQUIRE says what must be true of its results.
 */
#ifndef IBK_FUZZ_H
#define IBK_FUZZ_H

#include <stdio.h>
#include <stdlib.h>

#include "ibk/buf.h"

/* Ends the run with file and line; the fuzzer keeps the input. */
#define REQUIRE(condition)                                                        \
    do {                                                                          \
        if (!(condition)) {                                                       \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                              \
        }                                                                         \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* An error has a code and a text without control characters, which would steer a terminal. */
static inline void require_told(ibk_code code, const struct ibk_error *err)
{
    REQUIRE(code != IBK_OK && err->code == code && err->text[0] != '\0');
    for (const char *at = err->text; *at != '\0'; at++) {
        REQUIRE((unsigned char)*at >= 0x20 && (unsigned char)*at < 0x7f);
    }
}

/* Cuts the input into pieces: what is before the next line feed, or all of the rest. */
static inline ibk_span next_line(ibk_span *rest)
{
    const uint8_t *end = rest->len == 0 ? NULL : memchr(rest->data, '\n', rest->len);
    ibk_span line = ibk_span_of(rest->data, end == NULL ? rest->len : (size_t)(end - rest->data));
    size_t taken = end == NULL ? line.len : line.len + 1;
    *rest = ibk_span_of(rest->data + taken, rest->len - taken);
    return line;
}

/* A number below `limit` out of the first byte. */
static inline unsigned int next_choice(ibk_span *rest, unsigned int limit)
{
    if (rest->len == 0) {
        return 0;
    }
    unsigned int choice = rest->data[0] % limit;
    *rest = ibk_span_of(rest->data + 1, rest->len - 1);
    return choice;
}

#endif
