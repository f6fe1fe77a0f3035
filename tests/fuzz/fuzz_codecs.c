/* fuzz_codecs.c - hex and base64, strict: what is accepted is the one spelling of what comes out. */
#include "fuzz.h"

#include "ibk/encode.h"

static void check_hex(ibk_span text)
{
    struct ibk_error err;
    struct ibk_buf bytes, again;
    ibk_buf_init(&bytes, text.len);
    ibk_buf_init(&again, text.len);
    ibk_code code = ibk_hex_decode(text, "text", &bytes, &err);
    if (code == IBK_OK) {
        ibk_hex_put(&again, ibk_buf_peek(&bytes));
        REQUIRE(ibk_span_equal_nocase(ibk_buf_peek(&again), text));
    } else {
        require_told(code, &err);
    }
    ibk_buf_clean(&bytes);
    ibk_buf_clean(&again);
}

/* An odd count of digits has a zero in front of it. */
static void check_number(ibk_span text)
{
    struct ibk_error err;
    struct ibk_buf bytes, again;
    ibk_buf_init(&bytes, text.len + 1);
    ibk_buf_init(&again, text.len + 1);
    ibk_code code = ibk_hex_decode_number(text, "number", &bytes, &err);
    if (code == IBK_OK) {
        ibk_hex_put(&again, ibk_buf_peek(&bytes));
        size_t zeros = text.len % 2;
        REQUIRE(again.len == text.len + zeros && (zeros == 0 || again.data[0] == '0'));
        REQUIRE(ibk_span_equal_nocase(ibk_span_of(again.data + zeros, text.len), text));
    } else {
        require_told(code, &err);
    }
    ibk_buf_clean(&bytes);
    ibk_buf_clean(&again);
}

static void check_base64(ibk_span text)
{
    struct ibk_error err;
    struct ibk_buf bytes, again;
    ibk_buf_init(&bytes, text.len);
    ibk_buf_init(&again, text.len);
    ibk_code code = ibk_base64_decode(text, "text", &bytes, &err);
    if (code == IBK_OK) {
        ibk_base64_put(&again, ibk_buf_peek(&bytes));
        REQUIRE(ibk_span_equal(ibk_buf_peek(&again), text));
    } else {
        require_told(code, &err);
    }
    ibk_buf_clean(&bytes);
    ibk_buf_clean(&again);
}

static void check_reversible(ibk_span bytes)
{
    struct ibk_error err;
    struct ibk_buf text, again;
    ibk_buf_init(&text, 2 * bytes.len + 4);
    ibk_buf_init(&again, bytes.len);
    ibk_hex_put(&text, bytes);
    REQUIRE(ibk_hex_decode(ibk_buf_peek(&text), "text", &again, &err) == IBK_OK);
    REQUIRE(ibk_span_equal(ibk_buf_peek(&again), bytes));
    text.len = again.len = 0;
    ibk_base64_put(&text, bytes);
    if (bytes.len > 0) {
        REQUIRE(ibk_base64_decode(ibk_buf_peek(&text), "text", &again, &err) == IBK_OK);
        REQUIRE(ibk_span_equal(ibk_buf_peek(&again), bytes));
    }
    ibk_buf_clean(&text);
    ibk_buf_clean(&again);
}

static ibk_span without_zeros(ibk_span number)
{
    while (number.len > 0 && number.data[0] == 0) {
        number = ibk_span_of(number.data + 1, number.len - 1);
    }
    return number;
}

/* As java.math.BigInteger.toByteArray has it: the shortest two's complement form of the same number, not negative. */
static void check_java_bytes(ibk_span number)
{
    struct ibk_buf out;
    ibk_buf_init(&out, number.len + 1);
    ibk_java_bytes_put(&out, number);
    ibk_span bytes = ibk_buf_peek(&out);
    REQUIRE(out.broken == IBK_OK && bytes.len > 0 && bytes.data[0] < 0x80);
    REQUIRE(bytes.len == 1 || bytes.data[0] != 0 || bytes.data[1] >= 0x80);
    REQUIRE(ibk_span_equal(without_zeros(bytes), without_zeros(number)));
    ibk_buf_clean(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ibk_span bytes = ibk_span_of(data, size);
    check_hex(bytes);
    check_number(bytes);
    check_base64(bytes);
    check_reversible(bytes);
    check_java_bytes(bytes);
    return 0;
}
