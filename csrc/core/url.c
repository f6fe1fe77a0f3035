/* url.c - splitting URLs strictly: what is signed must be what is sent. */
#include "ibk/url.h"

#include "ibk/encode.h"

static ibk_span slice(ibk_span text, size_t start, size_t end)
{
    return ibk_span_of(text.data + start, end - start);
}

/* Position of the first such byte at or after start, or text.len. */
static size_t find(ibk_span text, size_t start, char byte)
{
    const uint8_t *found = start < text.len ? memchr(text.data + start, byte, text.len - start) : NULL;
    return found != NULL ? (size_t)(found - text.data) : text.len;
}

/* The same for whichever of the two comes first. */
static size_t find_either(ibk_span text, size_t start, char one, char other)
{
    size_t end = find(text, start, one);
    return find(slice(text, 0, end), start, other);
}

static bool is_hex(uint8_t byte)
{
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
}

/* What may stand in a URL as it is: printable ASCII but the ones that RFC 3986 leaves out, '%' and '#'. */
static bool is_plain(uint8_t byte)
{
    return ibk_unreserved[byte] || (byte >= '&' && byte <= ';') || byte == '?' || byte == '@' || byte == '=' || byte == '!' ||
           byte == '$' || byte == '[' || byte == ']';
}

static ibk_code check_characters(ibk_span text, struct ibk_error *err)
{
    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte = text.data[i];
        if (is_plain(byte)) {
            continue;
        }
        if (byte <= ' ' || byte >= 0x7f) {
            return ibk_fail(err, IBK_E_URL, "ibk_url_split",
                            "URL: character %zu is a space, a control character or not ASCII; percent-encode it", i + 1);
        }
        if (strchr("\"<>\\^`{|}", byte) != NULL) {
            return ibk_fail(err, IBK_E_URL, "ibk_url_split", "URL: character %zu ('%c') must be percent-encoded", i + 1, byte);
        }
        if (byte == '%' && !(i + 2 < text.len && is_hex(text.data[i + 1]) && is_hex(text.data[i + 2]))) {
            return ibk_fail(err, IBK_E_URL, "ibk_url_split", "URL: '%%' at character %zu without two hex digits after it", i + 1);
        }
        if (byte == '#') {
            return ibk_fail(err, IBK_E_URL, "ibk_url_split", "URL: a fragment ('#') is never sent; leave it out");
        }
    }
    return IBK_OK;
}

/* Percent-encoded dots count: curl, proxies and servers may resolve either form. */
static bool is_dot_segment(ibk_span segment)
{
    size_t dots = 0;
    for (size_t i = 0; i < segment.len; dots++) {
        if (segment.data[i] == '.') {
            i++;
        } else if (segment.len - i >= 3 && ibk_span_equal_nocase(slice(segment, i, i + 3), ibk_span_text("%2e"))) {
            i += 3;
        } else {
            return false;
        }
    }
    return dots == 1 || dots == 2;
}

static ibk_code check_path(ibk_span path, struct ibk_error *err)
{
    for (size_t start = 0; start < path.len;) {
        size_t end = find(path, start + 1, '/');
        if (is_dot_segment(slice(path, start + 1, end))) {
            return ibk_fail(err, IBK_E_URL, "ibk_url_split", "URL: the path has a '.' or '..' segment; write the path out");
        }
        start = end;
    }
    return IBK_OK;
}

static bool is_host_character(uint8_t byte)
{
    return ibk_unreserved[byte] && byte != '~';
}

static ibk_code check_host(ibk_span host, struct ibk_error *err)
{
    bool bracketed = host.len > 2 && host.data[0] == '[' && host.data[host.len - 1] == ']';
    ibk_span inner = bracketed ? slice(host, 1, host.len - 1) : host;
    if (inner.len == 0) {
        return ibk_fail(err, IBK_E_URL, "ibk_url_split", "URL: the host is missing");
    }
    for (size_t i = 0; i < inner.len; i++) {
        bool good =
            bracketed ? is_hex(inner.data[i]) || inner.data[i] == ':' || inner.data[i] == '.' : is_host_character(inner.data[i]);
        if (!good) {
            return ibk_fail(err, IBK_E_URL, "ibk_url_split", "URL: character %zu of the host cannot stand in a host name", i + 1);
        }
    }
    return IBK_OK;
}

static ibk_code check_port(ibk_span port, struct ibk_error *err)
{
    unsigned long number = 0;
    for (size_t i = 0; i < port.len; i++) {
        if (port.data[i] < '0' || port.data[i] > '9' || number > 65535) {
            number = 65536;
            break;
        }
        number = number * 10 + (unsigned long)(port.data[i] - '0');
    }
    if (number == 0 || number > 65535) {
        return ibk_fail(err, IBK_E_URL, "ibk_url_split", "URL: the port is not a number from 1 to 65535");
    }
    return IBK_OK;
}

static ibk_code split_authority(ibk_span authority, struct ibk_url *out, struct ibk_error *err)
{
    if (find(authority, 0, '@') != authority.len) {
        return ibk_fail(err, IBK_E_URL, "ibk_url_split", "URL: a user name or password ('@') is not accepted");
    }
    size_t bracket = find(authority, 0, ']');
    size_t colon = find(authority, bracket == authority.len ? 0 : bracket, ':');
    out->host = slice(authority, 0, colon);
    if (colon != authority.len) {
        out->port = slice(authority, colon + 1, authority.len);
        ibk_code code = check_port(out->port, err);
        if (code != IBK_OK) {
            return code;
        }
    }
    return check_host(out->host, err);
}

ibk_code ibk_url_split(ibk_span text, struct ibk_url *out, struct ibk_error *err)
{
    struct ibk_url url = {0};
    ibk_code code = IBK_OK;

    *out = url;
    if (text.len > IBK_URL_MAX_SIZE) {
        return ibk_fail(err, IBK_E_URL, __func__, "URL: %zu bytes are over the limit of %u", text.len, IBK_URL_MAX_SIZE);
    }
    size_t colon = find(text, 0, ':');
    url.scheme = slice(text, 0, colon);
    bool web =
        ibk_span_equal_nocase(url.scheme, ibk_span_text("https")) || ibk_span_equal_nocase(url.scheme, ibk_span_text("http"));
    if (!web || text.len - colon < 3 || memcmp(text.data + colon, "://", 3) != 0) {
        return ibk_fail(err, IBK_E_URL, __func__, "URL: expected https://host/path");
    }
    if ((code = check_characters(text, err)) != IBK_OK) {
        return code;
    }
    size_t authority = colon + 3;
    size_t path = find_either(text, authority, '/', '?');
    size_t query = find(text, path, '?');
    url.path = slice(text, path, query);
    url.has_query = query != text.len;
    url.query = slice(text, url.has_query ? query + 1 : query, text.len);
    if ((code = split_authority(slice(text, authority, path), &url, err)) != IBK_OK ||
        (code = check_path(url.path, err)) != IBK_OK) {
        return code;
    }
    *out = url;
    return IBK_OK;
}

static void put_lower(struct ibk_buf *buf, ibk_span text)
{
    uint8_t *room = ibk_buf_put_room(buf, text.len);
    for (size_t i = 0; room != NULL && i < text.len; i++) {
        uint8_t byte = text.data[i];
        room[i] = byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + ('a' - 'A')) : byte;
    }
}

/* ibk_url_split lets two schemes through, of different lengths. */
static bool is_https(const struct ibk_url *url)
{
    return url->scheme.len == strlen("https");
}

/* Leading zeros are legal in a port: "00443" is 443. */
static bool is_default_port(const struct ibk_url *url)
{
    ibk_span port = url->port;
    while (port.len > 1 && port.data[0] == '0') {
        port = slice(port, 1, port.len);
    }
    return ibk_span_equal(port, ibk_span_text(is_https(url) ? "443" : "80"));
}

void ibk_url_put_base(const struct ibk_url *url, struct ibk_buf *buf)
{
    put_lower(buf, url->scheme);
    ibk_buf_put_text(buf, "://");
    put_lower(buf, url->host);
    if (url->port.len > 0 && !is_default_port(url)) {
        ibk_buf_put_byte(buf, ':');
        ibk_buf_put(buf, url->port);
    }
    if (url->path.len == 0) {
        ibk_buf_put_byte(buf, '/');
    }
    ibk_buf_put(buf, url->path);
}

/* Four decimal numbers up to 255, the first of them 127. */
static bool is_loopback_v4(ibk_span host)
{
    unsigned int part = 0;
    size_t digits = 0;
    size_t parts = 1;
    for (size_t i = 0; i < host.len; i++) {
        if (host.data[i] == '.') {
            if (digits == 0 || (parts == 1 && part != 127)) {
                return false;
            }
            parts++;
            part = 0;
            digits = 0;
        } else if (host.data[i] >= '0' && host.data[i] <= '9' && digits < 3) {
            part = part * 10 + (unsigned int)(host.data[i] - '0');
            digits++;
        } else {
            return false;
        }
        if (part > 255) {
            return false;
        }
    }
    return parts == 4 && digits > 0;
}

bool ibk_url_is_loopback(const struct ibk_url *url)
{
    return ibk_span_equal_nocase(url->host, ibk_span_text("localhost")) || ibk_span_equal(url->host, ibk_span_text("[::1]")) ||
           is_loopback_v4(url->host);
}

bool ibk_url_may_be_sent(const struct ibk_url *url)
{
    return is_https(url) || ibk_url_is_loopback(url);
}
