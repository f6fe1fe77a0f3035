/*
 * encode.h - strict hex, base64 and percent-encoding, and Java's bytes of a big integer.
 *
 * Encoders put into a buffer; the decoders of hex and base64 refuse everything that the encoder would not have written (letter
 * case in hex excepted) and say what they found where. `what` names the value in the error text and is never its content.
 * Hex and base64 run in time that depends on the length only, since secrets pass through them.
 */
#ifndef IBK_ENCODE_H
#define IBK_ENCODE_H

#include "ibk/buf.h"

/* Lower-case hex, two digits a byte, leading zeros kept. */
void ibk_hex_put(struct ibk_buf *buf, ibk_span bytes);
ibk_code ibk_hex_decode(ibk_span text, const char *what, struct ibk_buf *out, struct ibk_error *err) IBK_MUST_USE;

/* A number in hex, big-endian: an odd count of digits is one too ("1" is 01). Otherwise as ibk_hex_decode. */
ibk_code ibk_hex_decode_number(ibk_span text, const char *what, struct ibk_buf *out, struct ibk_error *err) IBK_MUST_USE;

/* RFC 4648 section 4, padded, without line breaks. */
void ibk_base64_put(struct ibk_buf *buf, ibk_span bytes);
ibk_code ibk_base64_decode(ibk_span text, const char *what, struct ibk_buf *out, struct ibk_error *err) IBK_MUST_USE;

/* By byte: whether percent-encoding leaves it alone (A-Z a-z 0-9 - . _ ~). */
extern const bool ibk_unreserved[256];

/* RFC 3986 section 2.1 and RFC 5849 section 3.6: all but A-Z a-z 0-9 - . _ ~ becomes %XX, upper case. */
void ibk_percent_put(struct ibk_buf *buf, ibk_span bytes);
/* Takes every character but a '%' without two hex digits. plus_is_space: as in a query string or a form ("application/x-www-form-urlencoded"). */
ibk_code ibk_percent_decode(ibk_span text, bool plus_is_space, const char *what, struct ibk_buf *out, struct ibk_error *err)
    IBK_MUST_USE;

/*
 * The bytes that Java's BigInteger.toByteArray gives for a non-negative integer: no leading zero bytes, but one in front where
 * the top bit is set, and a single zero byte for zero. IBKR keys its HMAC with these.
 */
void ibk_java_bytes_put(struct ibk_buf *buf, ibk_span big_endian);

#endif
