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

struct ibk_pem {
    char label[IBK_PEM_LABEL_SIZE]; /* "RSA PRIVATE KEY", or empty for DER */
    bool encrypted;                 /* pass phrase needed */
    struct ibk_buf bytes;           /* secret: DER; for a legacy encrypted key its PEM, LF line ends */
    bool bytes_are_pem;
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

/* Writes a block with 64 digits a line and LF. */
void ibk_pem_put(struct ibk_buf *out, const char *label, ibk_span der);

#endif
