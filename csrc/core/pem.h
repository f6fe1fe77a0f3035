/*
 * pem.h - key files as people really have them, brought to one form. Internal to csrc/core.
 *
 * Accepts a byte order mark, UTF-16, CRLF, literal "\n" from environment variables, everything on one line, base64 of the
 * whole file, text around the block, and DER. What the block holds is for the caller to judge.
 */
#ifndef IBK_CORE_PEM_H
#define IBK_CORE_PEM_H

#include "ibk/buf.h"

#define IBK_PEM_LABEL_SIZE 48u
#define IBK_DEK_INFO_SIZE 96u

struct ibk_pem {
    char label[IBK_PEM_LABEL_SIZE];   /* "RSA PRIVATE KEY", or empty for DER */
    bool encrypted;                   /* pass phrase needed */
    char dek_info[IBK_DEK_INFO_SIZE]; /* "AES-256-CBC,..." where `bytes` are encrypted in PEM's own way, otherwise empty */
    struct ibk_buf bytes;             /* secret: DER */
};

/*
 * The first block whose label ends in `wanted`, else the first block. Failures are `bad` with a text that begins with `what`.
 * Initialises *out; ibk_pem_clean it even after a failure.
 */
ibk_code ibk_pem_read(ibk_span file, const char *wanted, const char *what, ibk_code bad, struct ibk_pem *out,
                      struct ibk_error *err) IBK_MUST_USE;
void ibk_pem_clean(struct ibk_pem *pem);

/* The file as ASCII without byte order mark, UTF-16 narrowed, into a secret buffer. Other bytes become '?'. */
ibk_code ibk_pem_text(ibk_span file, const char *what, ibk_code bad, struct ibk_buf *out, struct ibk_error *err) IBK_MUST_USE;

#define IBK_DER_INTEGER 0x02u
#define IBK_DER_OCTET_STRING 0x04u
#define IBK_DER_OBJECT_IDENTIFIER 0x06u
#define IBK_DER_SEQUENCE 0x30u

/* One DER element off the front of *der: its content, or false where tag or length are not as expected. */
bool ibk_der_take(ibk_span *der, uint8_t tag, ibk_span *content);
void ibk_der_put(struct ibk_buf *out, uint8_t tag, ibk_span content);
/* A number that is not negative, big-endian, without zeros in front; no bytes for 0. */
void ibk_der_put_integer(struct ibk_buf *out, ibk_span number);

/* Writes a block with 64 digits a line and LF. */
void ibk_pem_put(struct ibk_buf *out, const char *label, ibk_span der);

#endif
