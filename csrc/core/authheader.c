/* authheader.c - the Authorization header, and the whole way to it. */
#include "ibk/encode.h"
#include "ibk/oauth.h"

/*
 * Percent-encoding would make most of these harmless, but a line break or a quote in a consumer key or token is a mistake of
 * copying, and signing it could only end in a 401.
 */
static bool is_forbidden(uint8_t byte)
{
    return byte < ' ' || byte == 0x7f || byte == '"' || byte == '\\';
}

static size_t find_forbidden(ibk_span value)
{
    size_t i = 0;
    while (i < value.len && (ibk_unreserved[value.data[i]] || !is_forbidden(value.data[i]))) {
        i++;
    }
    return i;
}

static ibk_code check_value(ibk_span name, ibk_span value, struct ibk_error *err)
{
    size_t position = find_forbidden(value);
    if (position == value.len) {
        return IBK_OK;
    }
    return ibk_fail(err, IBK_E_HEADER, "ibk_authorization_header",
                    "%.*s: character %zu of %zu is a control character, a line break, a quote or a backslash", (int)name.len,
                    (const char *)name.data, position + 1, value.len);
}

/* Names are our own words or the caller's; those of RFC 5849 need no encoding, and others are refused. */
static ibk_code check_name(ibk_span name, struct ibk_error *err)
{
    bool good = name.len > 0 && name.len <= 64;
    for (size_t i = 0; good && i < name.len; i++) {
        good = ibk_unreserved[name.data[i]] && name.data[i] != '~';
    }
    return good ? IBK_OK
                : ibk_fail(err, IBK_E_HEADER, "ibk_authorization_header",
                           "parameter name of %zu bytes: expected 1 to 64 of A-Z a-z 0-9 _ - .", name.len);
}

static ibk_code put_pair(ibk_span name, ibk_span value, bool first, struct ibk_buf *out, struct ibk_error *err)
{
    ibk_code code = check_name(name, err);
    if (code == IBK_OK) {
        code = check_value(name, value, err);
    }
    if (code == IBK_OK) {
        ibk_buf_put_text(out, first ? "" : ", ");
        ibk_buf_put(out, name);
        ibk_buf_put_text(out, "=\"");
        ibk_percent_put(out, value);
        ibk_buf_put_byte(out, '"');
    }
    return code;
}

ibk_code ibk_authorization_header(const struct ibk_params *params, ibk_span realm, struct ibk_buf *out, struct ibk_error *err)
{
    struct ibk_params_room room;
    struct ibk_params sorted;
    ibk_params_init(&sorted);
    ibk_params_lend(&sorted, &room);
    ibk_code code = ibk_params_sorted(params, &sorted, err);
    bool first = true;

    ibk_buf_put_text(out, "OAuth ");
    if (code == IBK_OK && realm.len > 0) {
        code = put_pair(ibk_span_text("realm"), realm, first, out, err);
        first = false;
    }
    size_t count = ibk_params_count(&sorted);
    for (size_t i = 0; code == IBK_OK && i < count; i++) {
        code = put_pair(ibk_params_peek_name(&sorted, i), ibk_params_peek_value(&sorted, i), first, out, err);
        first = false;
    }
    ibk_params_clean(&sorted);
    return code == IBK_OK ? ibk_buf_check(out, "Authorization header", err) : code;
}

ibk_code ibk_sign_rsa_sha256(ibk_span base_string, const struct ibk_rsa_key *key, struct ibk_buf *out, struct ibk_error *err)
{
    struct ibk_buf signature;
    ibk_buf_init(&signature, IBK_RSA_MAX_BITS / 8);
    ibk_code code = ibk_rsa_sign(key, base_string, &signature, err);
    if (code == IBK_OK) {
        ibk_base64_put(out, ibk_buf_peek(&signature));
        code = ibk_buf_check(out, "signature", err);
    }
    ibk_buf_clean(&signature);
    return code;
}

ibk_code ibk_sign_hmac_sha256(ibk_span base_string, struct ibk_mac_key *key, struct ibk_buf *out, struct ibk_error *err)
{
    uint8_t mac[IBK_MAC_MAX_SIZE];
    if (ibk_mac_key_size(key) != sizeof mac) {
        return ibk_fail(err, IBK_E_ARGUMENT, __func__, "the key was made for another MAC than HMAC-SHA256");
    }
    ibk_code code = ibk_mac_compute(key, base_string, mac, err);
    if (code == IBK_OK) {
        ibk_base64_put(out, ibk_span_of(mac, sizeof mac));
        code = ibk_buf_check(out, "signature", err);
    }
    return code;
}

/* The base string may begin with a secret, so it lives and dies here. */
static ibk_code sign_params(const struct ibk_signature_input *input, const struct ibk_params *params, struct ibk_buf *signature,
                            struct ibk_error *err)
{
    struct ibk_room room;
    struct ibk_buf prepend;
    struct ibk_buf base;
    ibk_buf_init_secret(&prepend, (size_t)2 * IBK_SECRET_MAX_SIZE);
    ibk_buf_init_secret(&base, IBK_BASE_STRING_MAX_SIZE);
    ibk_buf_lend(&base, &room);
    if (input->prepend != NULL) {
        ibk_hex_put(&prepend, ibk_secret_peek(input->prepend));
    }
    ibk_code code = ibk_buf_check(&prepend, "prepend", err);
    if (code == IBK_OK) {
        const struct ibk_base_string_input text = {
            .method = input->method,
            .url = input->url,
            .params = params,
            .query_signing = input->query_signing,
            .prepend = ibk_buf_peek(&prepend),
        };
        code = ibk_base_string(&text, &base, err);
    }
    if (code == IBK_OK) {
        code = input->rsa_key != NULL ? ibk_sign_rsa_sha256(ibk_buf_peek(&base), input->rsa_key, signature, err)
                                      : ibk_sign_hmac_sha256(ibk_buf_peek(&base), input->mac_key, signature, err);
    }
    ibk_buf_clean(&prepend);
    ibk_buf_clean(&base);
    return code;
}

ibk_code ibk_request_signature(const struct ibk_signature_input *input, struct ibk_buf *signature, struct ibk_error *err)
{
    if ((input->rsa_key == NULL) == (input->mac_key == NULL)) {
        return ibk_fail(err, IBK_E_ARGUMENT, __func__, "a request is signed with an RSA key or with a MAC key");
    }
    if (input->form == NULL || ibk_params_count(input->form) == 0) {
        return sign_params(input, input->oauth, signature, err);
    }
    struct ibk_params all;
    ibk_params_init(&all);
    ibk_code code = ibk_params_add_all(&all, input->oauth, err);
    if (code == IBK_OK) {
        code = ibk_params_add_all(&all, input->form, err);
    }
    if (code == IBK_OK) {
        code = sign_params(input, &all, signature, err);
    }
    ibk_params_clean(&all);
    return code;
}

ibk_code ibk_sign_request(const struct ibk_signature_input *input, struct ibk_buf *header, struct ibk_error *err)
{
    struct ibk_params_room params_room;
    struct ibk_room signature_room;
    struct ibk_params params;
    struct ibk_buf signature;

    ibk_params_init(&params);
    ibk_params_lend(&params, &params_room);
    ibk_buf_init(&signature, IBK_RSA_MAX_BITS / 4);
    ibk_buf_lend(&signature, &signature_room);
    ibk_code code = ibk_request_signature(input, &signature, err);
    if (code == IBK_OK) {
        code = ibk_params_add_all(&params, input->oauth, err);
    }
    if (code == IBK_OK) {
        code = ibk_params_add_text(&params, "oauth_signature", ibk_buf_peek(&signature), err);
    }
    if (code == IBK_OK) {
        code = ibk_authorization_header(&params, input->realm, header, err);
    }
    ibk_buf_clean(&signature);
    ibk_params_clean(&params);
    return code;
}
