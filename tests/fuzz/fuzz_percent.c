/* fuzz_percent.c - percent-encoding: reversible, and nothing but unreserved characters and triplets comes out. */
#include "fuzz.h"

#include "ibk/encode.h"

static bool is_digit(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'F');
}

static void check_encoded(ibk_span text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] == '%') {
            REQUIRE(i + 2 < text.len && is_digit(text.data[i + 1]) && is_digit(text.data[i + 2]));
            i += 2;
        } else {
            REQUIRE(ibk_unreserved[text.data[i]]);
        }
    }
}

static void encode_and_back(ibk_span bytes)
{
    struct ibk_error err;
    struct ibk_buf encoded, decoded;
    ibk_buf_init(&encoded, 3 * bytes.len);
    ibk_buf_init(&decoded, bytes.len);
    ibk_percent_put(&encoded, bytes);
    REQUIRE(ibk_buf_check(&encoded, "encoded", &err) == IBK_OK);
    check_encoded(ibk_buf_peek(&encoded));
    for (int plus = 0; plus < 2; plus++) { /* no plus is left in it */
        decoded.len = 0;
        REQUIRE(ibk_percent_decode(ibk_buf_peek(&encoded), plus, "text", &decoded, &err) == IBK_OK);
        REQUIRE(ibk_span_equal(ibk_buf_peek(&decoded), bytes));
    }
    ibk_buf_clean(&encoded);
    ibk_buf_clean(&decoded);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ibk_error err;
    struct ibk_buf out;
    ibk_span rest = ibk_span_of(data, size);
    bool plus_is_space = next_choice(&rest, 2) == 1;

    ibk_buf_init(&out, rest.len);
    ibk_code code = ibk_percent_decode(rest, plus_is_space, "text", &out, &err);
    if (code != IBK_OK) {
        require_told(code, &err);
    } else {
        REQUIRE(out.len <= rest.len);
    }
    ibk_buf_clean(&out);
    encode_and_back(rest);
    return 0;
}
