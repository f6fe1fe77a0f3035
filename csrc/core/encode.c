/* encode.c - hex, base64, percent-encoding, Java bytes. */
#include "ibk/encode.h"

/*
 * Hex and base64 see secrets, so they use arithmetic instead of tables and branches: a table look-up leaves the value in
 * the cache. in_range is all ones where low <= value <= high, else zero, for values below 2^15.
 */
static unsigned int in_range(unsigned int value, unsigned int low, unsigned int high)
{
    unsigned int below = (value - low) >> 16; /* non-zero after a borrow */
    unsigned int above = (high - value) >> 16;
    return ((below | above) & 1u) - 1u;
}

static uint8_t hex_digit(unsigned int nibble)
{
    return (uint8_t)(nibble + '0' + (in_range(nibble, 10, 15) & ('a' - '0' - 10)));
}

/* 0..15, or -1 for another byte. */
static int hex_value(uint8_t digit)
{
    unsigned int decimal = in_range(digit, '0', '9');
    unsigned int letter = in_range(digit | 0x20u, 'a', 'f');
    unsigned int value = (decimal & (digit - (unsigned int)'0')) | (letter & ((digit | 0x20u) - 'a' + 10u));
    return (int)(value | ~(decimal | letter));
}

void ibk_hex_put(struct ibk_buf *buf, ibk_span bytes)
{
    size_t size;
    if (!ibk_mul_size(bytes.len, 2, &size)) {
        size = SIZE_MAX; /* over every limit */
    }
    uint8_t *text = ibk_buf_put_room(buf, size);
    for (size_t i = 0; text != NULL && i < bytes.len; i++) {
        text[2 * i] = hex_digit(bytes.data[i] >> 4);
        text[2 * i + 1] = hex_digit(bytes.data[i] & 15u);
    }
}

ibk_code ibk_hex_decode(ibk_span text, const char *what, struct ibk_buf *out, struct ibk_error *err)
{
    if (text.len % 2 != 0) {
        return ibk_fail(err, IBK_E_ENCODING, __func__, "%s has %zu hex digits, expected an even number", what, text.len);
    }
    uint8_t *bytes = ibk_buf_put_room(out, text.len / 2);
    int bad = 0;
    for (size_t i = 0; bytes != NULL && i < text.len / 2; i++) {
        int high = hex_value(text.data[2 * i]);
        int low = hex_value(text.data[2 * i + 1]);
        bad |= high | low; /* negative once one was */
        bytes[i] = (uint8_t)((unsigned int)high << 4 | (unsigned int)low);
    }
    if (bad < 0) {
        size_t position = 0;
        while (hex_value(text.data[position]) >= 0) {
            position++;
        }
        return ibk_fail(err, IBK_E_ENCODING, __func__, "%s is not hex: character %zu of %zu is none of 0-9 a-f A-F", what,
                        position + 1, text.len);
    }
    return ibk_buf_check(out, what, err);
}

ibk_code ibk_hex_decode_number(ibk_span text, const char *what, struct ibk_buf *out, struct ibk_error *err)
{
    if (text.len % 2 == 0) {
        return ibk_hex_decode(text, what, out, err);
    }
    struct ibk_buf even;
    ibk_buf_init_secret(&even, text.len < SIZE_MAX ? text.len + 1 : text.len);
    ibk_buf_put_byte(&even, '0');
    ibk_buf_put(&even, text);
    ibk_code code = ibk_buf_check(&even, what, err);
    if (code == IBK_OK) {
        code = ibk_hex_decode(ibk_buf_peek(&even), what, out, err);
    }
    ibk_buf_clean(&even);
    return code;
}

/* The distance from a value to its letter changes behind 25, 51, 61 and 62: each step counts where the value is past it. */
static uint8_t base64_digit(unsigned int value)
{
    unsigned int distance = 'A';
    distance += (25u - value) >> 8 & ('a' - 26u - 'A');
    distance -= (51u - value) >> 8 & ('a' - 26u - ('0' - 52u));
    distance -= (61u - value) >> 8 & ('0' - 52u - ('+' - 62u));
    distance += (62u - value) >> 8 & ('/' - 63u - ('+' - 62u));
    return (uint8_t)(value + distance);
}

/* 0..63, or -1 for another byte. */
static int base64_value(uint8_t digit)
{
    unsigned int upper = in_range(digit, 'A', 'Z');
    unsigned int lower = in_range(digit, 'a', 'z');
    unsigned int decimal = in_range(digit, '0', '9');
    unsigned int plus = in_range(digit, '+', '+');
    unsigned int slash = in_range(digit, '/', '/');
    unsigned int value = (upper & (digit - (unsigned int)'A')) | (lower & (digit - (unsigned int)'a' + 26u)) |
                         (decimal & (digit - (unsigned int)'0' + 52u)) | (plus & 62u) | (slash & 63u);
    return (int)(value | ~(upper | lower | decimal | plus | slash));
}

void ibk_base64_put(struct ibk_buf *buf, ibk_span bytes)
{
    size_t groups = bytes.len / 3 + (bytes.len % 3 != 0);
    size_t size;
    if (!ibk_mul_size(groups, 4, &size)) {
        size = SIZE_MAX;
    }
    uint8_t *text = ibk_buf_put_room(buf, size);
    for (size_t i = 0; text != NULL && i < bytes.len; i += 3, text += 4) {
        size_t left = bytes.len - i;
        unsigned int group = (unsigned int)bytes.data[i] << 16;
        group |= left > 1 ? (unsigned int)bytes.data[i + 1] << 8 : 0u;
        group |= left > 2 ? (unsigned int)bytes.data[i + 2] : 0u;
        text[0] = base64_digit(group >> 18);
        text[1] = base64_digit(group >> 12 & 63u);
        text[2] = left > 1 ? base64_digit(group >> 6 & 63u) : (uint8_t)'=';
        text[3] = left > 2 ? base64_digit(group & 63u) : (uint8_t)'=';
    }
}

/* Names the first character that base64 has not, for a text of which one is known to be there. */
static ibk_code bad_base64(ibk_span digits, size_t text_len, const char *what, struct ibk_error *err)
{
    size_t position = 0;
    while (base64_value(digits.data[position]) >= 0) {
        position++;
    }
    return ibk_fail(err, IBK_E_ENCODING, "ibk_base64_decode", "%s is not base64: character %zu of %zu is none of A-Z a-z 0-9 + /",
                    what, position + 1, text_len);
}

ibk_code ibk_base64_decode(ibk_span text, const char *what, struct ibk_buf *out, struct ibk_error *err)
{
    if (text.len % 4 != 0) {
        return ibk_fail(err, IBK_E_ENCODING, __func__, "%s has %zu characters, expected base64 in groups of 4", what, text.len);
    }
    size_t padding = 0;
    while (padding < 2 && padding < text.len && text.data[text.len - 1 - padding] == '=') {
        padding++;
    }
    ibk_span digits = ibk_span_of(text.data, text.len - padding);
    size_t size = text.len / 4 * 3 - padding;
    uint8_t *bytes = ibk_buf_put_room(out, size);
    unsigned int group = 0;
    int bad = 0;
    size_t written = 0;
    for (size_t i = 0; bytes != NULL && i < text.len; i++) {
        int value = i < digits.len ? base64_value(digits.data[i]) : 0;
        bad |= value;
        group = group << 6 | ((unsigned int)value & 63u);
        if (i % 4 == 3) {
            for (unsigned int shift = 16; written < size && shift <= 16; shift -= 8) { /* wraps past 0 and ends */
                bytes[written++] = (uint8_t)(group >> shift);
            }
            if (i + 1 < text.len) {
                group = 0;
            }
        }
    }
    if (bad < 0) {
        return bad_base64(digits, text.len, what, err);
    }
    if (padding > 0 && (group & ((1u << 8 * padding) - 1u)) != 0) {
        return ibk_fail(err, IBK_E_ENCODING, __func__, "%s is not canonical base64: unused bits before the padding are set",
                        what);
    }
    return ibk_buf_check(out, what, err);
}

/* RFC 3986 section 2.3. A table, since base strings are long and public. */
const bool ibk_unreserved[256] = {
    ['-'] = true, ['.'] = true, ['_'] = true, ['~'] = true, ['0'] = true, ['1'] = true, ['2'] = true, ['3'] = true, ['4'] = true,
    ['5'] = true, ['6'] = true, ['7'] = true, ['8'] = true, ['9'] = true, ['A'] = true, ['B'] = true, ['C'] = true, ['D'] = true,
    ['E'] = true, ['F'] = true, ['G'] = true, ['H'] = true, ['I'] = true, ['J'] = true, ['K'] = true, ['L'] = true, ['M'] = true,
    ['N'] = true, ['O'] = true, ['P'] = true, ['Q'] = true, ['R'] = true, ['S'] = true, ['T'] = true, ['U'] = true, ['V'] = true,
    ['W'] = true, ['X'] = true, ['Y'] = true, ['Z'] = true, ['a'] = true, ['b'] = true, ['c'] = true, ['d'] = true, ['e'] = true,
    ['f'] = true, ['g'] = true, ['h'] = true, ['i'] = true, ['j'] = true, ['k'] = true, ['l'] = true, ['m'] = true, ['n'] = true,
    ['o'] = true, ['p'] = true, ['q'] = true, ['r'] = true, ['s'] = true, ['t'] = true, ['u'] = true, ['v'] = true, ['w'] = true,
    ['x'] = true, ['y'] = true, ['z'] = true,
};

void ibk_percent_put(struct ibk_buf *buf, ibk_span bytes)
{
    static const char digits[] = "0123456789ABCDEF";
    for (size_t start = 0; start < bytes.len;) {
        size_t end = start;
        while (end < bytes.len && ibk_unreserved[bytes.data[end]]) {
            end++;
        }
        if (end > start) {
            ibk_buf_put(buf, ibk_span_of(bytes.data + start, end - start));
        }
        for (; end < bytes.len && !ibk_unreserved[bytes.data[end]]; end++) {
            const char triplet[] = {'%', digits[bytes.data[end] >> 4], digits[bytes.data[end] & 15]};
            ibk_buf_put(buf, ibk_span_of(triplet, sizeof triplet));
        }
        start = end;
    }
}

ibk_code ibk_percent_decode(ibk_span text, bool plus_is_space, const char *what, struct ibk_buf *out, struct ibk_error *err)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte = text.data[i];
        if (byte == '%') {
            int high = i + 2 < text.len ? hex_value(text.data[i + 1]) : -1;
            int low = i + 2 < text.len ? hex_value(text.data[i + 2]) : -1;
            if (high < 0 || low < 0) {
                return ibk_fail(err, IBK_E_ENCODING, __func__, "%s has a '%%' at character %zu without two hex digits after it",
                                what, i + 1);
            }
            byte = (uint8_t)((unsigned int)high << 4 | (unsigned int)low);
            i += 2;
        } else if (byte == '+' && plus_is_space) {
            byte = ' ';
        }
        ibk_buf_put_byte(out, byte);
    }
    return ibk_buf_check(out, what, err);
}

void ibk_java_bytes_put(struct ibk_buf *buf, ibk_span big_endian)
{
    while (big_endian.len > 0 && big_endian.data[0] == 0) {
        big_endian = ibk_span_of(big_endian.data + 1, big_endian.len - 1);
    }
    if (big_endian.len == 0 || (big_endian.data[0] & 0x80u) != 0) {
        ibk_buf_put_byte(buf, 0);
    }
    ibk_buf_put(buf, big_endian);
}
