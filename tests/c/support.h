/*
 * support.h - what every C test program shares: one error record, assertions that print its text, memory that lives until
 * the test ends, known answers from vectors.json.
 *
 * A table-driven test calls row() for each line of its table, so that a failure names the line.
 */
#ifndef IBK_TEST_SUPPORT_H
#define IBK_TEST_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>

#include "ibk/error.h"
#include "ibk/secret.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* A text literal with its length, NUL bytes inside included. */
#define LITERAL(text) ibk_span_of((text), sizeof(text) - 1)
/* The same as an initialiser in a table. */
#define BYTES(text) {(const uint8_t *)(text), sizeof(text) - 1}

/* The record that the assertions below look at: pass &err to what is under test. */
extern struct ibk_error err;

/* A test that must give back every block of the core and leave OpenSSL's error queue empty. */
#define checked(function) cmocka_unit_test_setup_teardown(function, begin_test, end_test)
int begin_test(void **state);
int end_test(void **state);

/* Ends a forked child at once, and has what it ran counted where that is measured. */
_Noreturn void leave_child(int status);

/* Names the line of the table under test. */
void row(const char *format, ...) IBK_PRINTF(1, 2);
const char *current_row(void);

#define assert_ok(call)                                                                     \
    do {                                                                                    \
        ibk_code code_ = (call);                                                            \
        if (code_ != IBK_OK) {                                                              \
            fail_msg("%s%s: %s: %s", current_row(), #call, ibk_code_name(code_), err.text); \
        }                                                                                   \
    } while (0)

/* The call fails with this code and says so in err, in full, with OpenSSL's error queue empty. */
#define assert_refused(expected, call)                          \
    do {                                                        \
        poison_error();                                         \
        const char *fault_ = refusal_fault((call), (expected)); \
        if (fault_ != NULL) {                                   \
            fail_msg("%s%s: %s", current_row(), #call, fault_); \
        }                                                       \
    } while (0)
void poison_error(void);
const char *refusal_fault(ibk_code code, ibk_code expected);

/* The error text has all these words (letters of any case). */
#define assert_says(...)                                                                      \
    do {                                                                                      \
        const char *missing_ = missing_word((const char *const[]){__VA_ARGS__, NULL});        \
        if (missing_ != NULL) {                                                               \
            fail_msg("%sno \"%s\" in the error text: %s", current_row(), missing_, err.text); \
        }                                                                                     \
    } while (0)
const char *missing_word(const char *const *words);

/* The error text repeats no run of 12 bytes of the input (all of it, where it is shorter). */
#define assert_hides(input)                                                            \
    do {                                                                               \
        if (!error_hides(input)) {                                                     \
            fail_msg("%sthe error text shows the input: %s", current_row(), err.text); \
        }                                                                              \
    } while (0)
bool error_hides(ibk_span input);

#define assert_bytes(actual, expected)                                   \
    do {                                                                 \
        const char *difference_ = span_difference((actual), (expected)); \
        if (difference_ != NULL) {                                       \
            fail_msg("%s%s: %s", current_row(), #actual, difference_);   \
        }                                                                \
    } while (0)
#define assert_text(actual, expected) assert_bytes((actual), ibk_span_text(expected))
const char *span_difference(ibk_span actual, ibk_span expected);

/* A condition in a table-driven test. */
#define assert_row(condition)                            \
    do {                                                 \
        if (!(condition)) {                              \
            fail_msg("%s%s", current_row(), #condition); \
        }                                                \
    } while (0)

/* Memory that lives until the test ends. A NUL stands behind every span made here. */
uint8_t *room(size_t len);
ibk_span copied(ibk_span bytes);
ibk_span joined(ibk_span a, ibk_span b);
ibk_span formatted(const char *format, ...) IBK_PRINTF(1, 2);
ibk_span repeated(const char *piece, size_t times);
/* Bytes with a fixed, scrambled look: the same for the same seed. */
ibk_span scrambled(size_t len, uint32_t seed);

/* Encoders of their own (jansson and OpenSSL, not the core), so that a fault does not hide in both. */
ibk_span bytes_of_hex(const char *digits); /* an odd number of digits as after a zero */
ibk_span bytes_of_base64(const char *text);
const char *hex_of(ibk_span bytes);
const char *base64_of(ibk_span bytes);
const char *upper_case(const char *text);

/* The caller releases it. */
struct ibk_secret *secret_of(ibk_span bytes);

/* vectors.json: the whole, and members that have to be there. */
json_t *vectors(void);
json_t *member(const json_t *object, const char *name);
json_t *member_at(const json_t *array, size_t index);
/* Whether the member is there and not null. */
bool has(const json_t *object, const char *name);
const char *text_of(const json_t *object, const char *name);
const char *text_at(const json_t *array, size_t index);

#endif
