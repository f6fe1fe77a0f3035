/* test_encode.c - hex, base64, percent-encoding, Java bytes. */
#include "support.h"

#include "ibk/encode.h"

#include <ctype.h>

/* One decoder, with percent-decoding in its two kinds. */
typedef ibk_code decoder(ibk_span text, const char *what, struct ibk_buf *out, struct ibk_error *error);

static ibk_code decode_percent(ibk_span text, const char *what, struct ibk_buf *out, struct ibk_error *error)
{
    return ibk_percent_decode(text, false, what, out, error);
}

static ibk_code decode_form(ibk_span text, const char *what, struct ibk_buf *out, struct ibk_error *error)
{
    return ibk_percent_decode(text, true, what, out, error);
}

struct good {
    ibk_span encoded, decoded;
};

static void check_decodes(decoder *decode, ibk_span encoded, ibk_span decoded)
{
    struct ibk_buf buf;
    ibk_buf_init_secret(&buf, 100000);
    assert_ok(decode(encoded, "thing", &buf, &err));
    assert_bytes(ibk_buf_peek(&buf), decoded);
    ibk_buf_clean(&buf);
}

static void check_encodes(void (*encode)(struct ibk_buf *, ibk_span), ibk_span decoded, ibk_span encoded)
{
    struct ibk_buf buf;
    ibk_buf_init(&buf, 100000);
    encode(&buf, decoded);
    assert_ok(ibk_buf_check(&buf, "thing", &err));
    assert_bytes(ibk_buf_peek(&buf), encoded);
    ibk_buf_clean(&buf);
}

/* The words are those that the error text must have beside the name. */
struct bad {
    const char *encoded;
    const char *first_word, *second_word;
};

static void check_refuses(decoder *decode, const struct bad *table, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        row("\"%s\"", table[i].encoded);
        ibk_span encoded = ibk_span_text(table[i].encoded);
        struct ibk_buf buf;
        ibk_buf_init(&buf, 1000);
        assert_refused(IBK_E_ENCODING, decode(encoded, "Albert", &buf, &err));
        assert_says("Albert", table[i].first_word, table[i].second_word);
        if (encoded.len > 4) {
            assert_hides(encoded);
        }
        assert_row(decode(encoded, "Albert", &buf, NULL) == IBK_E_ENCODING);
        ibk_buf_clean(&buf);
    }
}

static void check_limit(decoder *decode, ibk_span encoded, size_t decoded_len)
{
    struct ibk_buf buf;
    ibk_buf_init(&buf, decoded_len);
    assert_ok(decode(encoded, "Albert", &buf, &err));
    ibk_buf_clean(&buf);
    ibk_buf_init(&buf, decoded_len - 1);
    assert_refused(IBK_E_LIMIT, decode(encoded, "Albert", &buf, &err));
    assert_says("Albert", (const char *)formatted("%zu", decoded_len - 1).data);
    ibk_buf_clean(&buf);
}

/* A decoder that meets a byte where a digit belongs; the byte is good or it is named by its position. */
static void check_digit(decoder *decode, ibk_span encoded, size_t position, bool good)
{
    struct ibk_buf buf;
    ibk_buf_init(&buf, 1000);
    row("byte 0x%02x at %zu", encoded.data[position], position + 1);
    if (good) {
        assert_ok(decode(encoded, "thing", &buf, &err));
    } else {
        assert_refused(IBK_E_ENCODING, decode(encoded, "thing", &buf, &err));
        assert_says((const char *)formatted("%zu", position + 1).data);
    }
    ibk_buf_clean(&buf);
}

static void test_hex(void **state)
{
    static const struct good table[] = {
        {{NULL, 0}, {NULL, 0}},
        {BYTES("00"), BYTES("\0")},
        {BYTES("0000ff"), BYTES("\0\0\xff")},
        {BYTES("0123456789abcdef"), BYTES("\x01\x23\x45\x67\x89\xab\xcd\xef")},
        {BYTES("7f80"), BYTES("\x7f\x80")},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i);
        check_encodes(ibk_hex_put, table[i].decoded, table[i].encoded);
        check_decodes(ibk_hex_decode, table[i].encoded, table[i].decoded);
    }
    row("upper and mixed case");
    check_decodes(ibk_hex_decode, LITERAL("ABCDEFabcdef"), LITERAL("\xab\xcd\xef\xab\xcd\xef"));
    check_decodes(ibk_hex_decode, LITERAL("aBCdeF"), LITERAL("\xab\xcd\xef"));
    for (size_t len = 0; len < 70; len++) {
        row("%zu bytes", len);
        ibk_span bytes = scrambled(len, 9);
        check_encodes(ibk_hex_put, bytes, ibk_span_text(hex_of(bytes)));
        check_decodes(ibk_hex_decode, ibk_span_text(hex_of(bytes)), bytes);
    }
}

/* Numbers, unlike bytes, may have an odd count of digits. */
static void test_hex_numbers(void **state)
{
    static const struct good table[] = {
        {{NULL, 0}, {NULL, 0}},
        {BYTES("1"), BYTES("\x01")},
        {BYTES("01"), BYTES("\x01")},
        {BYTES("fFf"), BYTES("\x0f\xff")},
        {BYTES("00001"), BYTES("\0\0\x01")},
        {BYTES("1234"), BYTES("\x12\x34")},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i);
        check_decodes(ibk_hex_decode_number, table[i].encoded, table[i].decoded);
    }
    struct ibk_buf out;
    ibk_buf_init(&out, 8);
    assert_refused(IBK_E_ENCODING, ibk_hex_decode_number(LITERAL("12x"), "thing", &out, &err));
    ibk_buf_clean(&out);
    check_limit(ibk_hex_decode_number, LITERAL("123456789"), 5);
}

static void test_hex_digits(void **state)
{
    (void)state;
    for (size_t position = 0; position < 4; position++) {
        for (int byte = 0; byte < 256; byte++) {
            uint8_t text[4] = {'1', '1', '1', '1'};
            text[position] = (uint8_t)byte;
            check_digit(ibk_hex_decode, ibk_span_of(text, 4), position, byte < 128 && isxdigit(byte));
        }
    }
}

static void test_bad_hex(void **state)
{
    static const struct bad table[] = {
        {"a", "1", "even"},     {"abcdef012", "9", "even"}, {"0x1234", "2", "6"},
        {"12345g", "6", "6"},   {"-1234567", "1", "8"},     {" 1234567", "1", "8"},
        {"123456 7", "7", "8"}, {"123456\n\n", "7", "8"},   {"12:34:56", "3", "8"},
    };
    (void)state;
    check_refuses(ibk_hex_decode, table, COUNT(table));
}

static void test_base64(void **state)
{
    static const struct good table[] = {
        {{NULL, 0}, {NULL, 0}},
        {BYTES("Zg=="), BYTES("f")},
        {BYTES("Zm8="), BYTES("fo")},
        {BYTES("Zm9v"), BYTES("foo")},
        {BYTES("Zm9vYg=="), BYTES("foob")},
        {BYTES("Zm9vYmE="), BYTES("fooba")},
        {BYTES("Zm9vYmFy"), BYTES("foobar")},
        {BYTES("AA=="), BYTES("\0")},
        {BYTES("AAAA"), BYTES("\0\0\0")},
        {BYTES("/+//"), BYTES("\xff\xef\xff")},
        {BYTES("//8="), BYTES("\xff\xff")},
        {BYTES("/w=="), BYTES("\xff")},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i);
        check_encodes(ibk_base64_put, table[i].decoded, table[i].encoded);
        check_decodes(ibk_base64_decode, table[i].encoded, table[i].decoded);
    }
    for (size_t len = 0; len < 300; len++) {
        row("%zu bytes", len);
        ibk_span bytes = scrambled(len, 7);
        check_encodes(ibk_base64_put, bytes, ibk_span_text(base64_of(bytes)));
        check_decodes(ibk_base64_decode, ibk_span_text(base64_of(bytes)), bytes);
    }
}

static void test_base64_digits(void **state)
{
    (void)state;
    for (size_t position = 0; position < 8; position++) {
        for (int byte = 0; byte < 256; byte++) {
            uint8_t text[8] = {'A', 'A', 'A', 'A', 'A', 'A', 'A', 'A'};
            text[position] = (uint8_t)byte;
            bool padding = position == 7 && byte == '=';
            bool digit = byte < 128 && (isalnum(byte) || byte == '+' || byte == '/');
            check_digit(ibk_base64_decode, ibk_span_of(text, 8), position, digit || padding);
        }
    }
}

static void test_base64_trailing_bits(void **state)
{
    (void)state;
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t value = 0; value < 64; value++) {
        struct ibk_buf buf;
        ibk_buf_init(&buf, 100);
        row("last digit %c", digits[value]);
        ibk_code one = ibk_base64_decode(formatted("A%c==", digits[value]), "thing", &buf, &err);
        assert_row(one == (value % 16 == 0 ? IBK_OK : IBK_E_ENCODING));
        ibk_code two = ibk_base64_decode(formatted("AA%c=", digits[value]), "thing", &buf, &err);
        assert_row(two == (value % 4 == 0 ? IBK_OK : IBK_E_ENCODING));
        ibk_buf_clean(&buf);
    }
}

static void test_bad_base64(void **state)
{
    static const struct bad table[] = {
        {"A", "1", "4"},
        {"AA", "2", "4"},
        {"AAA", "3", "4"},
        {"Zm9vYmE", "7", "4"},
        {"Zm9v Yg=", "5", "8"},
        {"Zm9v\nYg=", "5", "8"},
        {" Zm9vYg=", "1", "8"},
        {"Zm9vYg=\n", "8", "8"},
        {"Zm9-", "4", "4"},
        {"Zm9_", "4", "4"},
        {"====", "1", "4"},
        {"A===", "2", "4"},
        {"Zg==Zg==", "3", "8"},
        {"Zm8=Zm8=", "4", "8"},
        {"Z=9v", "2", "4"},
        {"Zm=v", "3", "4"},
        {"Zh==", "Albert", "bits"},
        {"Zm9=", "Albert", "bits"},
        {"Zm9vYh==", "Albert", "bits"},
        {"Zm9v,m9v", "5", "8"},
    };
    (void)state;
    check_refuses(ibk_base64_decode, table, COUNT(table));
    /* What people copy from the portal, one character at the end missing or doubled. */
    const struct bad lengths[] = {
        {(const char *)repeated("A", 129).data, "129", "4"},
        {(const char *)repeated("A", 343).data, "343", "4"},
    };
    check_refuses(ibk_base64_decode, lengths, COUNT(lengths));
}

static bool is_unreserved(int byte)
{
    return byte < 128 && byte != 0 && (isalnum(byte) || strchr("-._~", byte) != NULL);
}

static void test_percent_of_every_byte(void **state)
{
    (void)state;
    for (int byte = 0; byte < 256; byte++) {
        row("byte 0x%02x", (unsigned int)byte);
        uint8_t plain[3] = {'a', (uint8_t)byte, 'b'};
        ibk_span decoded = ibk_span_of(plain, 3);
        ibk_span encoded = is_unreserved(byte) ? decoded : formatted("a%%%02Xb", (unsigned int)byte);
        check_encodes(ibk_percent_put, decoded, encoded);
        check_decodes(decode_percent, encoded, decoded);
        check_decodes(decode_form, encoded, decoded);
        check_decodes(decode_percent, formatted("%%%02x", (unsigned int)byte), ibk_span_of(&plain[1], 1));
    }
    row("nothing");
    check_encodes(ibk_percent_put, ibk_span_of(NULL, 0), LITERAL(""));
    check_decodes(decode_percent, ibk_span_of(NULL, 0), LITERAL(""));
    row("text");
    check_encodes(ibk_percent_put, LITERAL("a b/\xc3\xbc"), LITERAL("a%20b%2F%C3%BC"));
}

static void test_plus(void **state)
{
    (void)state;
    check_decodes(decode_form, LITERAL("a+b%2Bc++"), LITERAL("a b+c  "));
    check_decodes(decode_percent, LITERAL("a+b%2Bc++"), LITERAL("a+b+c++"));
}

/* A query as people write it is not as strict as the encoder. */
static void test_percent_decode_takes_plain_reserved_characters(void **state)
{
    (void)state;
    check_decodes(decode_form, LITERAL("filled,cancelled:@!$'()*;/?"), LITERAL("filled,cancelled:@!$'()*;/?"));
    check_decodes(decode_form, LITERAL("%41%7E"), LITERAL("A~"));
}

static void test_bad_percent(void **state)
{
    static const struct bad table[] = {
        {"%", "%", "1"},           {"abc%", "%", "4"},        {"abcdefg%4", "%", "8"},  {"%%41", "%", "1"},
        {"abcdefg%4gh", "%", "8"}, {"abcdefg%g4h", "%", "8"}, {"%41%4 2345", "%", "4"}, {"%-1", "%", "1"},
        {"%+1", "%", "1"},         {"%u0041", "%", "1"},
    };
    (void)state;
    check_refuses(decode_percent, table, COUNT(table));
    check_refuses(decode_form, table, COUNT(table));
}

static void test_limits(void **state)
{
    (void)state;
    check_limit(ibk_hex_decode, LITERAL("0123456789"), 5);
    check_limit(ibk_base64_decode, LITERAL("Zm9vYg=="), 4);
    check_limit(decode_percent, LITERAL("a%20b"), 3);
    struct ibk_buf buf;
    ibk_buf_init(&buf, 5);
    ibk_hex_put(&buf, LITERAL("abc"));
    assert_refused(IBK_E_LIMIT, ibk_buf_check(&buf, "thing", &err));
    ibk_buf_clean(&buf);
    ibk_base64_put(&buf, LITERAL("abcd"));
    assert_refused(IBK_E_LIMIT, ibk_buf_check(&buf, "thing", &err));
    ibk_buf_clean(&buf);
    ibk_percent_put(&buf, LITERAL("a b c"));
    assert_refused(IBK_E_LIMIT, ibk_buf_check(&buf, "thing", &err));
    ibk_buf_clean(&buf);
    ibk_span endless = ibk_span_of("x", SIZE_MAX); /* twice its length is no size; nobody gets to read it */
    ibk_hex_put(&buf, endless);
    assert_refused(IBK_E_LIMIT, ibk_buf_check(&buf, "thing", &err));
    ibk_buf_clean(&buf);
    ibk_base64_put(&buf, endless);
    assert_refused(IBK_E_LIMIT, ibk_buf_check(&buf, "thing", &err));
    ibk_buf_clean(&buf);
    assert_refused(IBK_E_LIMIT, ibk_hex_decode_number(endless, "thing", &buf, &err)); /* and one digit more is none either */
    ibk_buf_clean(&buf);
    ibk_java_bytes_put(&buf, LITERAL("\xff\xff\xff\xff\xff"));
    assert_refused(IBK_E_LIMIT, ibk_buf_check(&buf, "thing", &err));
    ibk_buf_clean(&buf);
}

/* Encoders add to what is there. */
static void test_everything_appends(void **state)
{
    (void)state;
    struct ibk_buf buf;
    ibk_buf_init(&buf, 100);
    ibk_buf_put_text(&buf, ">");
    ibk_hex_put(&buf, LITERAL("a"));
    ibk_base64_put(&buf, LITERAL("a"));
    ibk_percent_put(&buf, LITERAL(" "));
    ibk_java_bytes_put(&buf, LITERAL("a"));
    assert_ok(ibk_hex_decode(LITERAL("61"), "thing", &buf, &err));
    assert_ok(ibk_base64_decode(LITERAL("YQ=="), "thing", &buf, &err));
    assert_ok(ibk_percent_decode(LITERAL("%61"), false, "thing", &buf, &err));
    assert_text(ibk_buf_peek(&buf), ">61YQ==%20aaaa");
    ibk_buf_clean(&buf);
}

static void test_java_bytes(void **state)
{
    static const struct good table[] = {
        {BYTES("\0"), {NULL, 0}},           {BYTES("\0"), BYTES("\0")},
        {BYTES("\0"), BYTES("\0\0\0")},     {BYTES("\x01"), BYTES("\x01")},
        {BYTES("\x7f"), BYTES("\x7f")},     {BYTES("\0\x80"), BYTES("\x80")},
        {BYTES("\0\xff"), BYTES("\xff")},   {BYTES("\x01"), BYTES("\0\0\x01")},
        {BYTES("\0\x80"), BYTES("\0\x80")}, {BYTES("\0\x80\0"), BYTES("\0\0\0\x80\0")},
        {BYTES("\x01\0"), BYTES("\x01\0")}, {BYTES("\x7f\xff"), BYTES("\0\x7f\xff")},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i);
        check_encodes(ibk_java_bytes_put, table[i].decoded, table[i].encoded);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_hex),
        checked(test_hex_numbers),
        checked(test_hex_digits),
        checked(test_bad_hex),
        checked(test_base64),
        checked(test_base64_digits),
        checked(test_base64_trailing_bits),
        checked(test_bad_base64),
        checked(test_percent_of_every_byte),
        checked(test_plus),
        checked(test_percent_decode_takes_plain_reserved_characters),
        checked(test_bad_percent),
        checked(test_limits),
        checked(test_everything_appends),
        checked(test_java_bytes),
    };
    return cmocka_run_group_tests_name("encode", tests, NULL, NULL);
}
