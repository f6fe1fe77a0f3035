/* pem.c - tolerant of form: from whatever spelling of a key file to DER. */
#include "pem.h"

#include "ibk/encode.h"
#include "ibk/key.h"

#include <openssl/crypto.h>
#include <stdio.h>

static const char begin_mark[] = "-----BEGIN ";
static const char end_mark[] = "-----END ";
static const char dashes[] = "-----";

static ibk_span rest_of(ibk_span text, size_t start)
{
    return ibk_span_of(text.data + start, text.len - start);
}

static bool is_space(uint8_t byte)
{
    return byte == ' ' || (byte >= '\t' && byte <= '\r');
}

/* Length of the white space at the start: blanks, line ends, and the two-character spellings of line ends. */
static size_t skip_space(ibk_span text)
{
    size_t i = 0;
    for (;;) {
        if (i < text.len && is_space(text.data[i])) {
            i++;
        } else if (i + 1 < text.len && text.data[i] == '\\' && strchr("nrt", text.data[i + 1]) != NULL && text.data[i + 1]) {
            i += 2;
        } else {
            return i;
        }
    }
}

static bool starts_with(ibk_span text, const char *prefix)
{
    size_t len = strlen(prefix);
    return text.len >= len && memcmp(text.data, prefix, len) == 0;
}

/* UTF-16 from its byte order mark, or from a NUL in one half of the first ASCII character. 0: no, 'l' or 'b' for the order. */
static char utf16_order(ibk_span file)
{
    if (file.len < 2 || file.len % 2 != 0) {
        return 0;
    }
    if ((file.data[0] == 0xff && file.data[1] == 0xfe) || (file.data[0] != 0 && file.data[1] == 0)) {
        return 'l';
    }
    if ((file.data[0] == 0xfe && file.data[1] == 0xff) || (file.data[0] == 0 && file.data[1] != 0)) {
        return 'b';
    }
    return 0;
}

ibk_code ibk_pem_text(ibk_span file, const char *what, ibk_code bad, struct ibk_buf *out, struct ibk_error *err)
{
    if (file.len == 0) {
        return ibk_fail(err, bad, __func__, "%s: it is empty", what);
    }
    if (file.len > IBK_KEY_FILE_MAX_SIZE) {
        return ibk_fail(err, bad, __func__, "%s: %zu bytes are over the limit of %u for a key", what, file.len,
                        IBK_KEY_FILE_MAX_SIZE);
    }
    char order = utf16_order(file);
    size_t step = order != 0 ? 2 : 1;
    for (size_t i = 0; i < file.len; i += step) {
        uint8_t low = order == 'b' ? file.data[i + 1] : file.data[i];
        uint8_t high = order == 0 ? 0 : order == 'b' ? file.data[i] : file.data[i + 1];
        ibk_buf_put_byte(out, high == 0 && low < 0x80 ? low : (uint8_t)'?');
    }
    return ibk_buf_check(out, what, err);
}

/* DER of a SEQUENCE with a long length: no text starts like this. */
static bool is_der(ibk_span file)
{
    return file.len > 4 && file.data[0] == 0x30 && (file.data[1] == 0x81 || file.data[1] == 0x82);
}

/* Puts the base64 digits of text without white space; false at another character, its 1-based place in *position. */
static bool collect_digits(ibk_span text, struct ibk_buf *out, size_t *position)
{
    size_t i = 0;
    while ((i += skip_space(rest_of(text, i))) < text.len) {
        uint8_t byte = text.data[i];
        bool digit = (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z') || (byte >= '0' && byte <= '9') ||
                     byte == '+' || byte == '/' || byte == '=';
        if (!digit) {
            *position = i + 1;
            return false;
        }
        ibk_buf_put_byte(out, byte);
        i++;
    }
    return true;
}

bool ibk_der_take(ibk_span *der, uint8_t tag, ibk_span *content)
{
    size_t header = 2;
    if (der->len < 2 || der->data[0] != tag) {
        return false;
    }
    size_t len = der->data[1];
    if (len >= 0x80) {
        size_t count = len - 0x80;
        if (count == 0 || count > 2 || der->len < 2 + count) {
            return false;
        }
        len = 0;
        for (size_t i = 0; i < count; i++) {
            len = len << 8 | der->data[2 + i];
        }
        header += count;
    }
    if (len > der->len - header) {
        return false;
    }
    *content = ibk_span_of(der->data + header, len);
    *der = ibk_span_of(der->data + header + len, der->len - header - len);
    return true;
}

static void put_der_header(struct ibk_buf *out, uint8_t tag, size_t len)
{
    ibk_buf_put_byte(out, tag);
    if (len >= 0x100) { /* our limits end far below three length bytes */
        ibk_buf_put_byte(out, 0x82);
        ibk_buf_put_byte(out, (uint8_t)(len >> 8));
    } else if (len >= 0x80) {
        ibk_buf_put_byte(out, 0x81);
    }
    ibk_buf_put_byte(out, (uint8_t)len);
}

void ibk_der_put(struct ibk_buf *out, uint8_t tag, ibk_span content)
{
    put_der_header(out, tag, content.len);
    ibk_buf_put(out, content);
}

void ibk_der_put_integer(struct ibk_buf *out, ibk_span number)
{
    bool sign_byte = number.len == 0 || (number.data[0] & 0x80u) != 0;
    put_der_header(out, IBK_DER_INTEGER, number.len + sign_byte);
    ibk_java_bytes_put(out, number); /* Java's bytes are DER's: two's complement, minimal */
}

/* "Proc-Type: 4,ENCRYPTED" and "DEK-Info: AES-256-CBC,..." of a legacy encrypted key, wherever the lines were broken. */
struct legacy_headers {
    ibk_span dek_info; /* empty: not a legacy encrypted key */
    size_t len;        /* of the headers in the body */
};

static ibk_span next_word(ibk_span text)
{
    size_t len = 0;
    while (len < text.len && !is_space(text.data[len]) && text.data[len] != '\\') {
        len++;
    }
    return ibk_span_of(text.data, len);
}

static struct legacy_headers find_legacy_headers(ibk_span body)
{
    struct legacy_headers found = {{NULL, 0}, 0};
    size_t i = skip_space(body);
    if (!starts_with(rest_of(body, i), "Proc-Type:")) {
        return found;
    }
    i += strlen("Proc-Type:");
    i += skip_space(rest_of(body, i));
    i += next_word(rest_of(body, i)).len;
    i += skip_space(rest_of(body, i));
    if (!starts_with(rest_of(body, i), "DEK-Info:")) {
        return found;
    }
    i += strlen("DEK-Info:");
    i += skip_space(rest_of(body, i));
    found.dek_info = next_word(rest_of(body, i));
    found.len = i + found.dek_info.len;
    return found;
}

static void put_lines(struct ibk_buf *out, ibk_span digits)
{
    for (size_t i = 0; i < digits.len; i += 64) {
        size_t len = digits.len - i < 64 ? digits.len - i : 64;
        ibk_buf_put(out, ibk_span_of(digits.data + i, len));
        ibk_buf_put_byte(out, '\n');
    }
}

static void put_mark(struct ibk_buf *out, const char *mark, const char *label)
{
    ibk_buf_put_text(out, mark);
    ibk_buf_put_text(out, label);
    ibk_buf_put_text(out, dashes);
    ibk_buf_put_byte(out, '\n');
}

void ibk_pem_put(struct ibk_buf *out, const char *label, ibk_span der)
{
    struct ibk_buf digits;
    ibk_buf_init_secret(&digits, 2 * (size_t)IBK_KEY_FILE_MAX_SIZE);
    ibk_base64_put(&digits, der);
    put_mark(out, begin_mark, label);
    put_lines(out, ibk_buf_peek(&digits));
    put_mark(out, end_mark, label);
    if (digits.broken != IBK_OK) {
        out->broken = digits.broken;
    }
    ibk_buf_clean(&digits);
}

struct block {
    ibk_span label;
    ibk_span body;
};

/* Labels are shown in errors, so they are words as labels have them and nothing else: "X9.42 DH PARAMETERS". */
static bool is_label(ibk_span text)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte = text.data[i];
        if (!((byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') || byte == ' ' || byte == '.')) {
            return false;
        }
    }
    return text.len > 0 && text.len < IBK_PEM_LABEL_SIZE;
}

/* The next complete block at or after *position, which moves behind it. */
static bool next_block(ibk_span text, size_t *position, struct block *out)
{
    size_t begin = *position + ibk_span_find(rest_of(text, *position), ibk_span_text(begin_mark));
    if (begin >= text.len) {
        return false;
    }
    size_t label = begin + strlen(begin_mark);
    size_t label_len = ibk_span_find(rest_of(text, label), ibk_span_text(dashes));
    if (label + label_len >= text.len || !is_label(ibk_span_of(text.data + label, label_len))) {
        return false;
    }
    size_t body = label + label_len + strlen(dashes);
    size_t body_len = ibk_span_find(rest_of(text, body), ibk_span_text(end_mark));
    if (body + body_len >= text.len) {
        return false;
    }
    out->label = ibk_span_of(text.data + label, label_len);
    out->body = ibk_span_of(text.data + body, body_len);
    *position = body + body_len + strlen(end_mark);
    return true;
}

static bool ends_with(ibk_span text, const char *suffix)
{
    size_t len = strlen(suffix);
    return text.len >= len && memcmp(text.data + text.len - len, suffix, len) == 0;
}

static bool find_block(ibk_span text, const char *wanted, struct block *out)
{
    struct block block;
    size_t position = 0;
    bool any = false;
    while (next_block(text, &position, &block)) {
        bool fits = ends_with(block.label, wanted);
        if (!any || fits) {
            *out = block;
            any = true;
        }
        if (fits) {
            break;
        }
    }
    return any;
}

static ibk_code read_block(const struct block *block, const char *what, ibk_code bad, struct ibk_pem *out, struct ibk_error *err)
{
    struct legacy_headers legacy = find_legacy_headers(block->body);
    struct ibk_buf digits;
    size_t position = 0;
    ibk_code code;

    memcpy(out->label, block->label.data, block->label.len); /* shorter than the array, see next_block */
    out->label[block->label.len] = '\0';
    out->encrypted = legacy.dek_info.len > 0 || strcmp(out->label, "ENCRYPTED PRIVATE KEY") == 0;
    if (legacy.dek_info.len > 0 && legacy.dek_info.len < sizeof out->dek_info) {
        memcpy(out->dek_info, legacy.dek_info.data, legacy.dek_info.len);
    }
    ibk_buf_init_secret(&digits, IBK_KEY_FILE_MAX_SIZE);
    bool is_base64 = collect_digits(rest_of(block->body, legacy.len), &digits, &position);
    code = ibk_buf_check(&digits, what, err);
    if (code == IBK_OK && !is_base64) {
        code = ibk_fail(err, bad, "ibk_pem_read", "%s: character %zu after the BEGIN line is not base64", what,
                        legacy.len + position);
    } else if (code == IBK_OK && legacy.dek_info.len >= sizeof out->dek_info) {
        code = ibk_fail(err, bad, "ibk_pem_read", "%s: a DEK-Info line of %zu characters is none", what, legacy.dek_info.len);
    } else if (code == IBK_OK) {
        code = ibk_base64_decode(ibk_buf_peek(&digits), what, &out->bytes, err);
        code = code == IBK_E_ENCODING ? bad : code;
        if (code == bad && err != NULL) {
            err->code = bad;
        }
    }
    ibk_buf_clean(&digits);
    return code;
}

/* The whole file may be base64 of a PEM or DER file, as secret managers and containers like it. */
static ibk_code unwrap_base64(struct ibk_buf *text, bool *is_base64, struct ibk_error *err)
{
    struct ibk_buf digits;
    struct ibk_buf inner;
    size_t position;

    *is_base64 = false;
    ibk_buf_init_secret(&digits, IBK_KEY_FILE_MAX_SIZE);
    ibk_buf_init_secret(&inner, IBK_KEY_FILE_MAX_SIZE);
    bool only_digits = collect_digits(ibk_buf_peek(text), &digits, &position);
    ibk_code code = ibk_buf_check(&digits, "key", err);
    if (code == IBK_OK && only_digits && digits.len >= 64) {
        code = ibk_base64_decode(ibk_buf_peek(&digits), "key", &inner, err);
        *is_base64 = code == IBK_OK;
        code = code == IBK_E_ENCODING ? IBK_OK : code; /* then it is something else, and the caller says so */
    }
    if (*is_base64) {
        ibk_buf_clean(text);
        if (is_der(ibk_buf_peek(&inner))) {
            ibk_buf_put(text, ibk_buf_peek(&inner));
            code = ibk_buf_check(text, "key", err);
        } else {
            code = ibk_pem_text(ibk_buf_peek(&inner), "key", IBK_E_KEY_FORMAT, text, err);
        }
    }
    ibk_buf_clean(&digits);
    ibk_buf_clean(&inner);
    return code;
}

static ibk_code no_block(ibk_span text, const char *what, ibk_code bad, struct ibk_error *err)
{
    if (ibk_span_find(text, ibk_span_text(begin_mark)) != text.len) {
        return ibk_fail(err, bad, "ibk_pem_read",
                        "%s: a BEGIN line without its END line, or with a damaged label (%zu bytes: cut off?)", what, text.len);
    }
    return ibk_fail(err, bad, "ibk_pem_read", "%s: no '-----BEGIN ...-----' line in its %zu bytes", what, text.len);
}

static ibk_code take_der(ibk_span der, const char *what, struct ibk_pem *out, struct ibk_error *err)
{
    ibk_buf_put(&out->bytes, der);
    return ibk_buf_check(&out->bytes, what, err);
}

ibk_code ibk_pem_read(ibk_span file, const char *wanted, const char *what, ibk_code bad, struct ibk_pem *out,
                      struct ibk_error *err)
{
    struct ibk_buf text;
    struct block block;
    bool is_base64;
    ibk_code code;

    *out = (struct ibk_pem){.encrypted = false};
    ibk_buf_init_secret(&out->bytes, IBK_KEY_FILE_MAX_SIZE);
    if (is_der(file) && file.len <= IBK_KEY_FILE_MAX_SIZE) {
        return take_der(file, what, out, err);
    }
    ibk_buf_init_secret(&text, IBK_KEY_FILE_MAX_SIZE);
    code = ibk_pem_text(file, what, bad, &text, err);
    if (code == IBK_OK && !find_block(ibk_buf_peek(&text), wanted, &block)) {
        code = unwrap_base64(&text, &is_base64, err);
        if (code == IBK_OK && is_base64 && is_der(ibk_buf_peek(&text))) {
            code = take_der(ibk_buf_peek(&text), what, out, err);
            goto done;
        }
        if (code == IBK_OK && !find_block(ibk_buf_peek(&text), wanted, &block)) {
            code = no_block(ibk_buf_peek(&text), what, bad, err);
        }
    }
    if (code == IBK_OK) {
        code = read_block(&block, what, bad, out, err);
    }
done:
    ibk_buf_clean(&text);
    return code;
}

void ibk_pem_clean(struct ibk_pem *pem)
{
    ibk_buf_clean(&pem->bytes);
}
