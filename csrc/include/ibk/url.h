/*
 * url.h - take a URL apart without ever changing what is sent.
 */
#ifndef IBK_URL_H
#define IBK_URL_H

#include "ibk/buf.h"

#define IBK_URL_MAX_SIZE 16384u /* bytes */

/* Parts as written; views into the text that was split. */
struct ibk_url {
    ibk_span scheme; /* "https" or "http", in any case */
    ibk_span host;   /* with the brackets of an IPv6 address */
    ibk_span port;   /* digits, empty where none is written */
    ibk_span path;   /* empty or from '/' on */
    ibk_span query;  /* after '?', empty where there is none */
    bool has_query;
};

/*
 * Refuses what could be signed and sent differently: other schemes than http and https, user names, fragments, bytes outside
 * printable ASCII, spaces, quotes, backslashes, broken percent triplets, ports beyond 65535, dot segments in the path.
 */
ibk_code ibk_url_split(ibk_span text, struct ibk_url *out, struct ibk_error *err) IBK_MUST_USE;

/* RFC 5849 section 3.4.1.2: scheme and host in lower case, default port left out, path ("/" where empty), no query. */
void ibk_url_put_base(const struct ibk_url *url, struct ibk_buf *buf);

/* True for 127.0.0.0/8, [::1] and localhost: the only hosts that plain http may be spoken to. */
bool ibk_url_is_loopback(const struct ibk_url *url);

/* Whether the transport speaks to it: https, or plain http to loopback. */
bool ibk_url_may_be_sent(const struct ibk_url *url);

#endif
