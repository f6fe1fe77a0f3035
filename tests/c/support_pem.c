/* support_pem.c - see support_pem.h. */
#include "support_pem.h"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/decoder.h>
#include <openssl/encoder.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

/* Every occurrence of one text replaced by another. */
static ibk_span replaced(ibk_span text, const char *from, const char *to)
{
    ibk_span out = copied(ibk_span_of(NULL, 0));
    for (;;) {
        size_t position = ibk_span_find(text, ibk_span_text(from));
        out = joined(out, ibk_span_of(text.data, position));
        if (position == text.len) {
            return out;
        }
        out = joined(out, ibk_span_text(to));
        text = ibk_span_of(text.data + position + strlen(from), text.len - position - strlen(from));
    }
}

static ibk_span as_it_is(ibk_span pem)
{
    return pem;
}

static ibk_span crlf(ibk_span pem)
{
    return replaced(pem, "\n", "\r\n");
}

static ibk_span cr(ibk_span pem)
{
    return replaced(pem, "\n", "\r");
}

static ibk_span no_last_line_end(ibk_span pem)
{
    return ibk_span_of(pem.data, pem.len - 1);
}

static ibk_span indented(ibk_span pem)
{
    return joined(LITERAL("\n  "), replaced(pem, "\n", " \t\n  "));
}

static ibk_span empty_lines(ibk_span pem)
{
    return replaced(pem, "\n", "\n\n");
}

static ibk_span bom(ibk_span pem)
{
    return joined(LITERAL("\xef\xbb\xbf"), pem);
}

static ibk_span bom_crlf(ibk_span pem)
{
    return bom(crlf(pem));
}

static ibk_span utf16(ibk_span text, bool big_endian)
{
    uint8_t *out = room(2 * text.len);
    for (size_t i = 0; i < text.len; i++) {
        out[2 * i + (big_endian ? 1 : 0)] = text.data[i];
        out[2 * i + (big_endian ? 0 : 1)] = 0;
    }
    return ibk_span_of(out, 2 * text.len);
}

static ibk_span utf16_le(ibk_span pem)
{
    return utf16(pem, false);
}

static ibk_span utf16_be(ibk_span pem)
{
    return utf16(pem, true);
}

static ibk_span utf16_le_bom(ibk_span pem)
{
    return joined(LITERAL("\xff\xfe"), utf16(crlf(pem), false));
}

static ibk_span utf16_be_bom(ibk_span pem)
{
    return joined(LITERAL("\xfe\xff"), utf16(crlf(pem), true));
}

static ibk_span literal_line_ends(ibk_span pem)
{
    return replaced(pem, "\n", "\\n");
}

static ibk_span literal_crlf(ibk_span pem)
{
    return replaced(pem, "\n", "\\r\\n");
}

static ibk_span quoted_literal_line_ends(ibk_span pem)
{
    return joined(joined(LITERAL("\""), literal_line_ends(pem)), LITERAL("\""));
}

static ibk_span one_line(ibk_span pem)
{
    return replaced(pem, "\n", " ");
}

static ibk_span base64_on_one_line(ibk_span pem)
{
    return ibk_span_text(base64_of(pem));
}

static ibk_span base64_in_lines(ibk_span pem)
{
    ibk_span digits = base64_on_one_line(pem);
    ibk_span out = copied(ibk_span_of(NULL, 0));
    for (size_t i = 0; i < digits.len; i += 76) {
        size_t len = digits.len - i < 76 ? digits.len - i : 76;
        out = joined(joined(out, ibk_span_of(digits.data + i, len)), LITERAL("\n"));
    }
    return out;
}

static ibk_span base64_of_crlf(ibk_span pem)
{
    return base64_on_one_line(crlf(pem));
}

static ibk_span text_around(ibk_span pem)
{
    ibk_span before = LITERAL("Bag Attributes\n    friendlyName: key - made \xc3\xa4lter --\nKey Attributes: <No Attributes>\n");
    return joined(joined(before, pem), LITERAL("\nThat was it.\n-- \nIT department, 5:00 pm\n"));
}

const struct spelling spellings[] = {
    {"as it is", as_it_is},
    {"CRLF", crlf},
    {"CR", cr},
    {"no line end at the end", no_last_line_end},
    {"indented", indented},
    {"empty lines", empty_lines},
    {"byte order mark", bom},
    {"byte order mark and CRLF", bom_crlf},
    {"UTF-16 little endian", utf16_le},
    {"UTF-16 big endian", utf16_be},
    {"UTF-16 little endian with byte order mark", utf16_le_bom},
    {"UTF-16 big endian with byte order mark", utf16_be_bom},
    {"literal \\n", literal_line_ends},
    {"literal \\r\\n", literal_crlf},
    {"literal \\n in quotes", quoted_literal_line_ends},
    {"one line with spaces", one_line},
    {"base64 on one line", base64_on_one_line},
    {"base64 in lines", base64_in_lines},
    {"base64 of CRLF", base64_of_crlf},
    {"text around", text_around},
    {NULL, NULL},
};

ibk_span der_of_pem(ibk_span pem)
{
    char *name = NULL, *header = NULL;
    unsigned char *data = NULL;
    long len = 0;
    BIO *bio = BIO_new_mem_buf(pem.data, (int)pem.len);
    assert_int_equal(PEM_read_bio(bio, &name, &header, &data, &len), 1);
    ibk_span der = copied(ibk_span_of(data, (size_t)len));
    OPENSSL_free(name);
    OPENSSL_free(header);
    OPENSSL_free(data);
    BIO_free(bio);
    return der;
}

ibk_span pem_of_der(const char *label, ibk_span der)
{
    ibk_span digits = ibk_span_text(base64_of(der));
    ibk_span out = formatted("-----BEGIN %s-----\n", label);
    for (size_t i = 0; i < digits.len; i += 64) {
        size_t len = digits.len - i < 64 ? digits.len - i : 64;
        out = joined(joined(out, ibk_span_of(digits.data + i, len)), LITERAL("\n"));
    }
    return joined(out, formatted("-----END %s-----\n", label));
}

ibk_span relabelled(ibk_span pem, const char *label)
{
    return pem_of_der(label, der_of_pem(pem));
}

ibk_span truncated_body(ibk_span pem, size_t percent)
{
    size_t begin = ibk_span_find(pem, LITERAL("\n")) + 1;
    size_t end = ibk_span_find(pem, LITERAL("\n-----END"));
    size_t kept = (end - begin) * percent / 100;
    return joined(ibk_span_of(pem.data, begin + kept), ibk_span_of(pem.data + end, pem.len - end));
}

static ibk_span der_element(uint8_t tag, ibk_span content)
{
    uint8_t header[4] = {tag, (uint8_t)content.len};
    size_t len = 2;
    if (content.len >= 0x100) {
        header[1] = 0x82;
        header[2] = (uint8_t)(content.len >> 8);
        header[3] = (uint8_t)content.len;
        len = 4;
    } else if (content.len >= 0x80) {
        header[1] = 0x81;
        header[2] = (uint8_t)content.len;
        len = 3;
    }
    return joined(ibk_span_of(header, len), content);
}

ibk_span der_integer(ibk_span content)
{
    return der_element(0x02, content);
}

ibk_span der_sequence(ibk_span content)
{
    return der_element(0x30, content);
}

static EVP_PKEY *generated(const char *type, const OSSL_PARAM *params)
{
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);
    assert_true(EVP_PKEY_keygen_init(context) > 0);
    assert_true(EVP_PKEY_CTX_set_params(context, params) > 0);
    assert_true(EVP_PKEY_generate(context, &key) > 0);
    EVP_PKEY_CTX_free(context);
    return key;
}

EVP_PKEY *new_rsa(unsigned int bits)
{
    size_t size = bits;
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_PKEY_PARAM_RSA_BITS, &size), OSSL_PARAM_construct_end()};
    return generated("RSA", params);
}

EVP_PKEY *new_rsa_pss(void)
{
    size_t size = 2048;
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_PKEY_PARAM_RSA_BITS, &size), OSSL_PARAM_construct_end()};
    return generated("RSA-PSS", params);
}

EVP_PKEY *new_ec(void)
{
    char group[] = "P-256";
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, group, 0),
                                 OSSL_PARAM_construct_end()};
    return generated("EC", params);
}

EVP_PKEY *new_ed25519(void)
{
    const OSSL_PARAM params[] = {OSSL_PARAM_construct_end()};
    return generated("ED25519", params);
}

ibk_span encoded_key(const EVP_PKEY *key, const char *format, const char *structure)
{
    bool is_public = strcmp(structure, "SubjectPublicKeyInfo") == 0;
    int selection = is_public ? EVP_PKEY_PUBLIC_KEY : EVP_PKEY_KEYPAIR;
    unsigned char *data = NULL;
    size_t len = 0;
    OSSL_ENCODER_CTX *context = OSSL_ENCODER_CTX_new_for_pkey(key, selection, format, structure, NULL);
    if (strcmp(structure, "EncryptedPrivateKeyInfo") == 0) {
        assert_int_equal(OSSL_ENCODER_CTX_set_cipher(context, "AES-256-CBC", NULL), 1);
        assert_int_equal(OSSL_ENCODER_CTX_set_passphrase(context, (const unsigned char *)"secret", 6), 1);
    }
    assert_int_equal(OSSL_ENCODER_to_data(context, &data, &len), 1);
    ibk_span out = copied(ibk_span_of(data, len));
    OPENSSL_free(data);
    OSSL_ENCODER_CTX_free(context);
    return out;
}

ibk_span certificate_of(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);
    assert_int_equal(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0), 1);
    assert_int_equal(X509_set_issuer_name(certificate, name), 1);
    assert_non_null(X509_gmtime_adj(X509_getm_notBefore(certificate), 0));
    assert_non_null(X509_gmtime_adj(X509_getm_notAfter(certificate), 3600));
    assert_int_equal(X509_set_pubkey(certificate, key), 1);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509(bio, certificate), 1);
    char *data = NULL;
    long len = BIO_get_mem_data(bio, &data);
    ibk_span out = copied(ibk_span_of(data, (size_t)len));
    BIO_free(bio);
    X509_free(certificate);
    return out;
}

EVP_PKEY *public_key_of(ibk_span file)
{
    EVP_PKEY *key = NULL;
    const unsigned char *data = file.data;
    size_t len = file.len;
    OSSL_DECODER_CTX *context = OSSL_DECODER_CTX_new_for_pkey(&key, NULL, NULL, NULL, 0, NULL, NULL);
    assert_int_equal(OSSL_DECODER_from_data(context, &data, &len), 1);
    OSSL_DECODER_CTX_free(context);
    ERR_clear_error();
    return key;
}

bool signature_is_good(EVP_PKEY *public_key, ibk_span message, ibk_span signature)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    assert_true(EVP_DigestVerifyInit_ex(context, NULL, "SHA256", NULL, NULL, public_key, NULL) > 0);
    bool good = EVP_DigestVerify(context, signature.data, signature.len, message.data, message.len) == 1;
    EVP_MD_CTX_free(context);
    ERR_clear_error();
    return good;
}

static const char *encrypted(EVP_PKEY *public_key, int padding, ibk_span message)
{
    size_t len = (size_t)EVP_PKEY_get_size(public_key);
    uint8_t *out = room(len);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_pkey(NULL, public_key, NULL);
    assert_true(EVP_PKEY_encrypt_init(context) > 0);
    assert_true(EVP_PKEY_CTX_set_rsa_padding(context, padding) > 0);
    assert_true(EVP_PKEY_encrypt(context, out, &len, message.data, message.len) > 0);
    EVP_PKEY_CTX_free(context);
    return base64_of(ibk_span_of(out, len));
}

const char *encrypted_raw(EVP_PKEY *public_key, ibk_span block)
{
    return encrypted(public_key, RSA_NO_PADDING, block);
}

const char *encrypted_padded(EVP_PKEY *public_key, ibk_span message)
{
    return encrypted(public_key, RSA_PKCS1_PADDING, message);
}
