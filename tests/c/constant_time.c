/*
 * constant_time.c - what of our own handles secrets takes the same time for all of them. Runs under valgrind (make
 * constant-time); without it there is nothing to see.
 *
 * To memcheck the secret's bytes are marked as never written. It then reports each jump and each address that depends on
 * them, which is where time and cache show a value. A function that has to end in "good" or "bad" decides once; its line in
 * the table says so. The first lines are functions that leak, so that a tool that sees nothing is noticed.
 */
#include "ibk/encode.h"
#include "ibk/lst.h"
#include "ibk/mac.h"
#include "ibk/oauth.h"

#include <stdio.h>
#include <stdlib.h>
#include <valgrind/memcheck.h>

#define SIZE 48u
#define MANY 1000u /* more decisions than a case can make */

static uint8_t secret_bytes[SIZE]; /* marked before each case, and after it no longer */
static uint8_t hex_digits[2 * SIZE];
static uint8_t base64_digits[SIZE / 3 * 4];
static struct ibk_secret *first, *second; /* equal */
static volatile unsigned int sink;

static ibk_span all_of(const uint8_t *bytes, size_t len)
{
    return ibk_span_of(bytes, len);
}

static void demand(bool condition, const char *what)
{
    if (!condition) {
        (void)fprintf(stderr, "constant_time: %s\n", what);
        exit(1);
    }
}

/* A result that everybody may know, or that the case has done with. */
#define REVEAL(pointer, size) VALGRIND_MAKE_MEM_DEFINED((pointer), (size))

static void put(void (*encode)(struct ibk_buf *, ibk_span))
{
    struct ibk_buf out;
    ibk_buf_init_secret(&out, 1000);
    encode(&out, all_of(secret_bytes, SIZE));
    REVEAL(out.data, out.len);
    demand(ibk_buf_check(&out, "text", NULL) == IBK_OK && out.len > SIZE, "an encoder failed");
    ibk_buf_clean(&out);
}

static void decode(ibk_code (*decoder)(ibk_span, const char *, struct ibk_buf *, struct ibk_error *), ibk_span text, size_t len)
{
    struct ibk_buf out;
    ibk_buf_init_secret(&out, 1000);
    ibk_code code = decoder(text, "text", &out, NULL);
    REVEAL(&code, sizeof code);
    demand(code == IBK_OK && out.len == len, "a decoder failed");
    ibk_buf_clean(&out);
}

/* Leaks: they have to be reported. */

static void leak_by_branch(void)
{
    unsigned int equal = 1;
    for (size_t i = 0; i < SIZE; i++) {
        if (*(volatile uint8_t *)&secret_bytes[i] == 'x') {
            equal++;
            sink = equal;
        }
    }
}

static void leak_by_table(void)
{
    static const volatile char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < SIZE; i++) {
        sink = (unsigned int)digits[secret_bytes[i] & 15u];
    }
}

static void leak_by_memcmp(void)
{
    for (size_t i = 0; i < SIZE && ibk_secret_peek(first).data[i] == ibk_secret_peek(second).data[i]; i++) {
        sink = (unsigned int)i;
    }
}

/* Ours. */

static void hex_put(void)
{
    put(ibk_hex_put);
}

static void base64_put(void)
{
    put(ibk_base64_put);
}

static void hex_decode(void)
{
    decode(ibk_hex_decode, all_of(hex_digits, sizeof hex_digits), SIZE);
}

static void hex_decode_number(void)
{
    decode(ibk_hex_decode_number, all_of(hex_digits, sizeof hex_digits - 1), SIZE);
}

static void base64_decode(void)
{
    decode(ibk_base64_decode, all_of(base64_digits, sizeof base64_digits), SIZE);
}

static void secret_new(void)
{
    struct ibk_secret *secret;
    demand(ibk_secret_new(all_of(secret_bytes, SIZE), &secret, NULL) == IBK_OK, "no secret");
    ibk_secret_release(secret);
}

static void secret_equal(void)
{
    bool equal = ibk_secret_equal(first, second);
    REVEAL(&equal, sizeof equal);
    demand(equal, "equal secrets are not equal");
}

static void mac_of_secret_key(void)
{
    uint8_t mac[IBK_MAC_MAX_SIZE];
    demand(ibk_mac_once(IBK_HMAC_SHA256, first, ibk_span_text("message"), mac, NULL) == IBK_OK, "no MAC");
}

static void token(void)
{
    struct ibk_secret *token;
    demand(ibk_lst_derive(first, second, &token, NULL) == IBK_OK, "no token");
    ibk_secret_release(token);
}

/* The signature that fits the token "first" for the consumer key TESTCONS. */
static char token_signature[2 * IBK_MAC_MAX_SIZE + 1];

static void verify(void)
{
    demand(ibk_lst_verify(first, ibk_span_text("TESTCONS"), ibk_span_text(token_signature), NULL) == IBK_OK, "not verified");
}

/* The base string of the live session token's request begins with the decrypted secret in hex. */
static void base_string(void)
{
    struct ibk_params params;
    struct ibk_buf out;
    ibk_params_init(&params);
    ibk_buf_init_secret(&out, 10000);
    demand(ibk_params_add_text(&params, "oauth_nonce", ibk_span_text("n"), NULL) == IBK_OK, "no parameter");
    const struct ibk_base_string_input input = {
        .method = ibk_span_text("POST"),
        .url = ibk_span_text("https://api.ibkr.com/v1/api/oauth/live_session_token"),
        .params = &params,
        .query_signing = IBK_QUERY_OMIT,
        .prepend = all_of(hex_digits, sizeof hex_digits),
    };
    demand(ibk_base_string(&input, &out, NULL) == IBK_OK, "no base string");
    ibk_buf_clean(&out);
    ibk_params_clean(&params);
}

static const struct {
    const char *name;
    void (*run)(void);
    unsigned long at_least, at_most; /* decisions that memcheck has to see */
} cases[] = {
    {"planted: a branch", leak_by_branch, SIZE, MANY},
    {"planted: a table", leak_by_table, SIZE, MANY},
    {"planted: a comparison that ends early", leak_by_memcmp, SIZE, MANY},
    {"ibk_hex_put", hex_put, 0, 0},
    {"ibk_base64_put", base64_put, 0, 0},
    {"ibk_hex_decode", hex_decode, 0, 1},
    {"ibk_hex_decode_number", hex_decode_number, 0, 1},
    {"ibk_base64_decode", base64_decode, 0, 2}, /* and whether the last digit is padding */
    {"ibk_secret_new", secret_new, 0, 0},
    {"ibk_secret_equal", secret_equal, 0, 0},
    {"ibk_mac_once", mac_of_secret_key, 0, 0},
    {"ibk_lst_derive", token, 0, 0},
    {"ibk_lst_verify", verify, 0, 1},
    {"ibk_base_string, prepend", base_string, 0, 0},
};

/* Which of the inputs are secrets. */
static void mark(bool as_secret)
{
    const struct {
        const void *data;
        size_t len;
    } inputs[] = {
        {secret_bytes, sizeof secret_bytes}, {hex_digits, sizeof hex_digits},      {base64_digits, sizeof base64_digits},
        {ibk_secret_peek(first).data, SIZE}, {ibk_secret_peek(second).data, SIZE},
    };
    for (size_t i = 0; i < sizeof inputs / sizeof inputs[0]; i++) {
        if (as_secret) {
            (void)VALGRIND_MAKE_MEM_UNDEFINED(inputs[i].data, inputs[i].len);
        } else {
            (void)REVEAL(inputs[i].data, inputs[i].len);
        }
    }
}

static void prepare(void)
{
    uint8_t mac[IBK_MAC_MAX_SIZE];
    for (size_t i = 0; i < SIZE; i++) {
        secret_bytes[i] = (uint8_t)(i * 151 + 7);
    }
    for (size_t i = 0; i < sizeof hex_digits; i++) {
        hex_digits[i] = (uint8_t)"09afAF37"[i % 8];
    }
    for (size_t i = 0; i < sizeof base64_digits; i++) {
        base64_digits[i] = (uint8_t)"Az09+/bQ"[i % 8];
    }
    demand(ibk_secret_new(all_of(secret_bytes, SIZE), &first, NULL) == IBK_OK, "no secret");
    demand(ibk_secret_new(all_of(secret_bytes, SIZE), &second, NULL) == IBK_OK, "no secret");
    demand(ibk_mac_once(IBK_HMAC_SHA1, first, ibk_span_text("TESTCONS"), mac, NULL) == IBK_OK, "no MAC");
    for (size_t i = 0; i < ibk_mac_size(IBK_HMAC_SHA1); i++) {
        (void)snprintf(token_signature + 2 * i, 3, "%02x", mac[i]);
    }
}

int main(void)
{
    int failed = 0;
    demand(RUNNING_ON_VALGRIND, "needs valgrind, since only memcheck sees anything");
    prepare();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned long before = VALGRIND_COUNT_ERRORS;
        mark(true);
        cases[i].run();
        mark(false);
        unsigned long seen = VALGRIND_COUNT_ERRORS - before;
        bool good = seen >= cases[i].at_least && seen <= cases[i].at_most;
        printf("%-40s %lu decision%s %s\n", cases[i].name, seen, seen == 1 ? " " : "s", good ? "" : "  <- FAILED");
        failed += !good;
    }
    ibk_secret_release(first);
    ibk_secret_release(second);
    printf("constant time: %zu cases, %d failed\n", sizeof cases / sizeof cases[0], failed);
    return failed != 0;
}
