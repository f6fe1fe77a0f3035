/* test_lst.c - deriving and proving the live session token. The 29 exchanges of the vectors are in test_vectors.c. */
#include "support.h"

#include "ibk/lst.h"

/* Published by IBKR in 2020. */
#define CONSUMER LITERAL("TESTCONS")
#define SIGNATURE "543c55477d6cbb0e792d1e4f8111cec7305ba3f4"

static struct ibk_secret *published_token(void)
{
    return secret_of(bytes_of_base64("YBWbLw+9RYP2nWrPQHxHZkBb1aM="));
}

static void test_derive(void **state)
{
    /* HMAC-SHA1 in other words, so the answers of RFC 2202 serve. */
    static const struct {
        ibk_span shared, secret;
        const char *token;
    } table[] = {
        {BYTES("Jefe"), BYTES("what do ya want for nothing?"), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
        {BYTES("\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b"), BYTES("Hi There"),
         "b617318655057264e28bc0b6fb378c8ef146be00"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i);
        struct ibk_secret *shared = secret_of(table[i].shared), *secret = secret_of(table[i].secret), *token;
        assert_ok(ibk_lst_derive(shared, secret, &token, &err));
        assert_int_equal(ibk_secret_peek(token).len, IBK_LST_SIZE);
        assert_bytes(ibk_secret_peek(token), bytes_of_hex(table[i].token));
        ibk_secret_release(token);
        ibk_secret_release(shared);
        ibk_secret_release(secret);
    }
}

/* A zero byte in front is part of the key: the sign byte of Java's bytes must not get lost. */
static void test_sign_byte_counts(void **state)
{
    (void)state;
    struct ibk_secret *with = secret_of(LITERAL("\0\xff\x01")), *without = secret_of(LITERAL("\xff\x01"));
    struct ibk_secret *secret = secret_of(LITERAL("secret")), *one, *two;
    assert_ok(ibk_lst_derive(with, secret, &one, &err));
    assert_ok(ibk_lst_derive(without, secret, &two, &err));
    assert_false(ibk_secret_equal(one, two));
    ibk_secret_release(one);
    ibk_secret_release(two);
    ibk_secret_release(with);
    ibk_secret_release(without);
    ibk_secret_release(secret);
}

static void test_derive_refuses_nothing_shared(void **state)
{
    (void)state;
    struct ibk_secret *nothing = secret_of(ibk_span_of(NULL, 0)), *secret = secret_of(LITERAL("hunter2hunter2"));
    struct ibk_secret *token = secret;
    assert_refused(IBK_E_ARGUMENT, ibk_lst_derive(nothing, secret, &token, &err));
    assert_null(token);
    assert_hides(LITERAL("hunter2hunter2"));
    ibk_secret_release(nothing);
    ibk_secret_release(secret);
}

static void test_published_signature_verifies(void **state)
{
    (void)state;
    struct ibk_secret *token = published_token();
    assert_ok(ibk_lst_verify(token, CONSUMER, LITERAL(SIGNATURE), &err));
    assert_ok(ibk_lst_verify(token, CONSUMER, ibk_span_text(upper_case(SIGNATURE)), &err));
    assert_ok(ibk_lst_verify(token, CONSUMER, LITERAL(SIGNATURE), NULL));
    ibk_secret_release(token);
}

static void check_mismatch(const struct ibk_secret *token, ibk_span consumer, ibk_span signature)
{
    assert_refused(IBK_E_TOKEN_MISMATCH, ibk_lst_verify(token, consumer, signature, &err));
    assert_row(ibk_lst_verify(token, consumer, signature, NULL) == IBK_E_TOKEN_MISMATCH);
    if (signature.len > 2) {
        assert_hides(signature);
    }
    assert_hides(ibk_secret_peek(token));
}

static void test_every_digit_counts(void **state)
{
    (void)state;
    struct ibk_secret *token = published_token();
    for (size_t i = 0; i < strlen(SIGNATURE); i++) {
        row("digit %zu", i + 1);
        char changed[] = SIGNATURE;
        changed[i] = changed[i] == '0' ? '1' : '0';
        check_mismatch(token, CONSUMER, ibk_span_text(changed));
        changed[i] = 'g';
        check_mismatch(token, CONSUMER, ibk_span_text(changed));
        changed[i] = '\0';
        check_mismatch(token, CONSUMER, ibk_span_of(changed, strlen(SIGNATURE)));
    }
    ibk_secret_release(token);
}

static void test_other_lengths(void **state)
{
    static const char *const signatures[] = {
        "",
        "5",
        "54",
        "543c55477d6cbb0e792d1e4f8111cec7305ba3f",
        "543c55477d6cbb0e792d1e4f8111cec7305ba3f40",
        "543c55477d6cbb0e792d1e4f8111cec7305ba3f4\n",
        " 543c55477d6cbb0e792d1e4f8111cec7305ba3f4",
        "0x543c55477d6cbb0e792d1e4f8111cec7305ba3f4",
        "543c55477d6cbb0e792d1e4f8111cec7305ba3f4543c55477d6cbb0e792d1e4f8111cec7305ba3f4",
    };
    (void)state;
    struct ibk_secret *token = published_token();
    for (size_t i = 0; i < COUNT(signatures); i++) {
        row("\"%s\"", signatures[i]);
        check_mismatch(token, CONSUMER, ibk_span_text(signatures[i]));
        assert_says((const char *)formatted("%zu", strlen(signatures[i])).data, "40");
    }
    row("nothing");
    check_mismatch(token, CONSUMER, ibk_span_of(NULL, 0));
    ibk_secret_release(token);
}

static void test_other_consumer_or_token(void **state)
{
    (void)state;
    struct ibk_secret *token = published_token();
    static const ibk_span consumers[] = {BYTES("testcons"), BYTES("TESTCON"), BYTES("TESTCONS "), BYTES("TESTCONS\0"), {NULL, 0}};
    for (size_t i = 0; i < COUNT(consumers); i++) {
        row("consumer %zu", i);
        check_mismatch(token, consumers[i], LITERAL(SIGNATURE));
    }
    struct ibk_secret *other = secret_of(scrambled(IBK_LST_SIZE, 1));
    check_mismatch(other, CONSUMER, LITERAL(SIGNATURE));
    ibk_secret_release(other);
    ibk_secret_release(token);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_derive),
        checked(test_sign_byte_counts),
        checked(test_derive_refuses_nothing_shared),
        checked(test_published_signature_verifies),
        checked(test_every_digit_counts),
        checked(test_other_lengths),
        checked(test_other_consumer_or_token),
    };
    return cmocka_run_group_tests_name("lst", tests, NULL, NULL);
}
