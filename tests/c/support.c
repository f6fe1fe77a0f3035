/* support.c - helpers of the C tests; see support.h. */
#include "support.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct ibk_error err;

static char row_text[160];

/* Blocks of the running test, newest first. */
struct block {
    struct block *next;
    uint8_t bytes[];
};
static struct block *blocks;
static long live_before;

static void free_blocks(void)
{
    while (blocks != NULL) {
        struct block *next = blocks->next;
        free(blocks);
        blocks = next;
    }
}

int begin_test(void **state)
{
    (void)state;
    row_text[0] = '\0';
    live_before = ibk_test_live_allocations();
    return 0;
}

int end_test(void **state)
{
    (void)state;
    ibk_test_fail_allocation(0);
    free_blocks();
    row_text[0] = '\0';
    long live = ibk_test_live_allocations();
    if (live != live_before) {
        print_error("%ld blocks of the core were not given back\n", live - live_before);
        return -1;
    }
    if (ERR_peek_error() != 0) {
        print_error("an entry was left in OpenSSL's error queue\n");
        ERR_clear_error();
        return -1;
    }
    return 0;
}

#ifdef IBK_COVERAGE
void __gcov_dump(void); // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
#endif

void leave_child(int status)
{
#ifdef IBK_COVERAGE
    __gcov_dump();
#endif
    _exit(status);
}

void row(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(row_text, sizeof row_text - 2, format, arguments);
    va_end(arguments);
    (void)strcat(row_text, ": ");
}

const char *current_row(void)
{
    return row_text;
}

void poison_error(void)
{
    err = (struct ibk_error){.code = IBK_CODE_COUNT, .native = 77, .sent = true};
}

const char *refusal_fault(ibk_code code, ibk_code expected)
{
    if (code != expected) {
        const char *text = code == IBK_OK ? "" : err.text;
        return (const char *)formatted("gave %s, expected %s: %s", ibk_code_name(code), ibk_code_name(expected), text).data;
    }
    if (err.code != expected) {
        return "the code in the error record is not the one returned";
    }
    if (err.where == NULL || err.where[0] == '\0') {
        return "the error does not say where";
    }
    if (memchr(err.text, 0, sizeof err.text) == NULL || err.text[0] == '\0') {
        return "the error has no text";
    }
    if (err.sent || (err.domain == IBK_DOMAIN_CORE && err.native != 0)) {
        return "the error record was not filled in full";
    }
    return ERR_peek_error() == 0 ? NULL : "an entry was left in OpenSSL's error queue";
}

static bool contains_nocase(ibk_span haystack, ibk_span needle)
{
    for (size_t i = 0; i + needle.len <= haystack.len; i++) {
        if (ibk_span_equal_nocase(ibk_span_of(haystack.data + i, needle.len), needle)) {
            return true;
        }
    }
    return false;
}

const char *missing_word(const char *const *words)
{
    for (; *words != NULL; words++) {
        if (!contains_nocase(ibk_span_text(err.text), ibk_span_text(*words))) {
            return *words;
        }
    }
    return NULL;
}

bool error_hides(ibk_span input)
{
    size_t window = input.len < 12 ? input.len : 12;
    ibk_span text = ibk_span_text(err.text);
    for (size_t i = 0; window > 0 && i + window <= input.len; i++) {
        if (ibk_span_find(text, ibk_span_of(input.data + i, window)) != text.len) {
            return false;
        }
    }
    return true;
}

const char *span_difference(ibk_span actual, ibk_span expected)
{
    if (ibk_span_equal(actual, expected)) {
        return NULL;
    }
    size_t same = 0;
    while (same < actual.len && same < expected.len && actual.data[same] == expected.data[same]) {
        same++;
    }
    int actual_rest = (int)(actual.len - same > 40 ? 40 : actual.len - same);
    int expected_rest = (int)(expected.len - same > 40 ? 40 : expected.len - same);
    return (const char *)formatted("%zu bytes, expected %zu; they part after %zu: \"%.*s\", expected \"%.*s\"", actual.len,
                                   expected.len, same, actual_rest, (const char *)actual.data + same, expected_rest,
                                   (const char *)expected.data + same)
        .data;
}

uint8_t *room(size_t len)
{
    struct block *block = malloc(sizeof *block + len + 1);
    if (block == NULL) {
        abort();
    }
    block->next = blocks;
    block->bytes[len] = 0;
    blocks = block;
    return block->bytes;
}

ibk_span copied(ibk_span bytes)
{
    return joined(bytes, ibk_span_of(NULL, 0));
}

ibk_span joined(ibk_span a, ibk_span b)
{
    uint8_t *out = room(a.len + b.len);
    if (a.len > 0) {
        memcpy(out, a.data, a.len);
    }
    if (b.len > 0) {
        memcpy(out + a.len, b.data, b.len);
    }
    return ibk_span_of(out, a.len + b.len);
}

ibk_span formatted(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    assert_true(len >= 0);
    char *out = (char *)room((size_t)len);
    va_start(arguments, format);
    (void)vsnprintf(out, (size_t)len + 1, format, arguments);
    va_end(arguments);
    return ibk_span_of(out, (size_t)len);
}

ibk_span repeated(const char *piece, size_t times)
{
    size_t len = strlen(piece);
    uint8_t *out = room(len * times);
    for (size_t i = 0; i < times; i++) {
        memcpy(out + i * len, piece, len);
    }
    return ibk_span_of(out, len * times);
}

ibk_span scrambled(size_t len, uint32_t seed)
{
    uint8_t *out = room(len);
    uint32_t value = seed * 2654435761u + 1u;
    for (size_t i = 0; i < len; i++) {
        value = value * 1664525u + 1013904223u;
        out[i] = (uint8_t)(value >> 24);
    }
    return ibk_span_of(out, len);
}

static uint8_t nibble(char digit)
{
    static const char digits[] = "0123456789abcdef";
    const char *found = digit == '\0' ? NULL : strchr(digits, digit >= 'A' && digit <= 'F' ? digit + 32 : digit);
    if (found == NULL) {
        fail_msg("%s is not a hex digit", digit == '\0' ? "NUL" : (const char[]){digit, '\0'});
        return 0;
    }
    return (uint8_t)(found - digits);
}

ibk_span bytes_of_hex(const char *digits)
{
    size_t len = strlen(digits);
    size_t odd = len % 2;
    uint8_t *out = room((len + 1) / 2);
    memset(out, 0, (len + 1) / 2);
    for (size_t i = 0; i < len; i++) {
        uint8_t *byte = &out[(i + odd) / 2];
        *byte = (uint8_t)((unsigned int)*byte << 4 | nibble(digits[i]));
    }
    return ibk_span_of(out, (len + 1) / 2);
}

ibk_span bytes_of_base64(const char *text)
{
    size_t len = strlen(text);
    uint8_t *out = room(len / 4 * 3 + 3);
    int written = EVP_DecodeBlock(out, (const unsigned char *)text, (int)len);
    assert_true(written >= 0 && len % 4 == 0);
    size_t padding = (size_t)(len > 0 && text[len - 1] == '=') + (size_t)(len > 1 && text[len - 2] == '=');
    out[(size_t)written - padding] = 0;
    return ibk_span_of(out, (size_t)written - padding);
}

const char *hex_of(ibk_span bytes)
{
    static const char digits[] = "0123456789abcdef";
    char *out = (char *)room(2 * bytes.len);
    for (size_t i = 0; i < bytes.len; i++) {
        out[2 * i] = digits[bytes.data[i] >> 4];
        out[2 * i + 1] = digits[bytes.data[i] & 15];
    }
    return out;
}

const char *base64_of(ibk_span bytes)
{
    unsigned char *out = room((bytes.len + 2) / 3 * 4);
    (void)EVP_EncodeBlock(out, bytes.data, (int)bytes.len);
    return (const char *)out;
}

const char *upper_case(const char *text)
{
    char *out = (char *)room(strlen(text));
    for (size_t i = 0; text[i] != '\0'; i++) {
        out[i] = text[i] >= 'a' && text[i] <= 'z' ? (char)(text[i] - 32) : text[i];
    }
    return out;
}

struct ibk_secret *secret_of(ibk_span bytes)
{
    struct ibk_secret *secret;
    assert_ok(ibk_secret_new(bytes, &secret, &err));
    return secret;
}

/* The file named by the build or by the environment, else the one of this tree, seen from the folder we run in. */
static json_t *load_vectors(void)
{
    json_error_t problem = {.text = "not found"};
#ifdef IBK_VECTORS_FILE
    const char *named = IBK_VECTORS_FILE;
#else
    const char *named = getenv("IBK_VECTORS");
#endif
    static const char deepest[] = "../../../../../../../../tests/vectors/vectors.json";
    json_t *loaded = named != NULL ? json_load_file(named, 0, &problem) : NULL;
    for (size_t level = 0; named == NULL && loaded == NULL && level <= 8; level++) {
        loaded = json_load_file(deepest + 3 * (8 - level), 0, &problem);
    }
    if (loaded == NULL) {
        fail_msg("vectors.json: %s", problem.text);
    }
    return loaded;
}

static json_t *loaded_vectors;

static void drop_vectors(void)
{
    json_decref(loaded_vectors);
}

json_t *vectors(void)
{
    if (loaded_vectors == NULL) {
        loaded_vectors = load_vectors();
        (void)atexit(drop_vectors);
    }
    return loaded_vectors;
}

json_t *member(const json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    if (value == NULL) {
        fail_msg("%sno member \"%s\" in the vectors", current_row(), name);
    }
    return value;
}

json_t *member_at(const json_t *array, size_t index)
{
    json_t *value = json_array_get(array, index);
    if (value == NULL) {
        fail_msg("%sno element %zu in the vectors", current_row(), index);
    }
    return value;
}

bool has(const json_t *object, const char *name)
{
    const json_t *value = json_object_get(object, name);
    return value != NULL && !json_is_null(value);
}

const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(member(object, name));
    if (text == NULL) {
        fail_msg("%smember \"%s\" is no text", current_row(), name);
    }
    return text;
}

const char *text_at(const json_t *array, size_t index)
{
    const char *text = json_string_value(member_at(array, index));
    if (text == NULL) {
        fail_msg("%selement %zu is no text", current_row(), index);
    }
    return text;
}
