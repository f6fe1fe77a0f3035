/*
 * params.h - names and values that take part in a signature: collected, sorted, joined.
 */
#ifndef IBK_PARAMS_H
#define IBK_PARAMS_H

#include "ibk/buf.h"

#define IBK_PARAMS_MAX 16384u          /* parameters in one request */
#define IBK_PARAMS_MAX_TEXT (1u << 20) /* bytes of all names and values together */

struct ibk_param_ref {
    size_t name_start, name_len, value_start, value_len; /* into text */
};

/* Holds copies of what was added, in that order; the same name may come again. */
struct ibk_params {
    struct ibk_buf text;
    struct ibk_buf refs; /* array of struct ibk_param_ref */
};

/* Room for a dozen of them: see ibk_buf_lend. */
struct ibk_params_room {
    struct ibk_room text, refs;
};

void ibk_params_init(struct ibk_params *params);
void ibk_params_lend(struct ibk_params *params, struct ibk_params_room *room);
void ibk_params_clean(struct ibk_params *params);

/* Names and values as they are, decoded. */
ibk_code ibk_params_add(struct ibk_params *params, ibk_span name, ibk_span value, struct ibk_error *err) IBK_MUST_USE;
ibk_code ibk_params_add_text(struct ibk_params *params, const char *name, ibk_span value, struct ibk_error *err) IBK_MUST_USE;
ibk_code ibk_params_add_all(struct ibk_params *params, const struct ibk_params *more, struct ibk_error *err) IBK_MUST_USE;

/* Splits "a=1&b=x%20y" at & and =, decodes each part ('+' is a space); "b" alone has an empty value, empty pieces are skipped. */
ibk_code ibk_params_add_query(struct ibk_params *params, ibk_span query, struct ibk_error *err) IBK_MUST_USE;

size_t ibk_params_count(const struct ibk_params *params);
ibk_span ibk_params_peek_name(const struct ibk_params *params, size_t index);
ibk_span ibk_params_peek_value(const struct ibk_params *params, size_t index);

/* "a=1&b=x%20y" in the order of adding: a query string or a form body that means these parameters. */
void ibk_params_put_query(const struct ibk_params *params, struct ibk_buf *buf);

/* The URL as written with the parameters at the end of its query: what is signed and sent. Checked by ibk_url_split first. */
ibk_code ibk_url_with_query(ibk_span url, const struct ibk_params *params, struct ibk_buf *out, struct ibk_error *err)
    IBK_MUST_USE;

/* The same parameters sorted by name, then by value, byte by byte; `out` is initialised and empty. */
ibk_code ibk_params_sorted(const struct ibk_params *params, struct ibk_params *out, struct ibk_error *err) IBK_MUST_USE;

enum ibk_join {
    IBK_JOIN_ONCE,   /* IBKR: name=value pairs sorted by byte and joined with & as they are; encoded by the base string, once */
    IBK_JOIN_RFC5849 /* RFC 5849 section 3.4.1.3.2: names and values encoded, then sorted and joined; encoded again */
};

/* The normalised parameters, before the base string encodes them. */
ibk_code ibk_params_join(const struct ibk_params *params, enum ibk_join how, struct ibk_buf *out, struct ibk_error *err)
    IBK_MUST_USE;

#endif
