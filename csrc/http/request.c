/* request.c - checking a request and handing it to libcurl. */
#include "http_internal.h"

static const char *const where = "ibk_http_send";

static bool is_text(ibk_span span, const char *text)
{
    return ibk_span_equal(span, ibk_span_text(text));
}

static bool is_name(ibk_span span, const char *text)
{
    return ibk_span_equal_nocase(span, ibk_span_text(text));
}

static bool is_token(ibk_span name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t byte = name.data[i];
        bool letter = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9');
        if (!letter && (byte == 0 || strchr("!#$%&'*+-.^_`|~", byte) == NULL)) {
            return false;
        }
    }
    return name.len > 0;
}

bool ibk_http_is_header_value(ibk_span value)
{
    for (size_t i = 0; i < value.len; i++) {
        uint8_t byte = value.data[i];
        if ((byte < ' ' && byte != '\t') || byte == 0x7f) {
            return false;
        }
    }
    return true;
}

/* They say where the request goes and where it ends: a caller who sets one could send another request than was checked. */
static bool is_reserved(ibk_span name)
{
    static const char *const reserved[] = {
        "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive",         "Expect",
        "TE",   "Trailer",        "Proxy-Connection",  "Upgrade",    "Proxy-Authorization"};
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++) {
        if (is_name(name, reserved[i])) {
            return true;
        }
    }
    return false;
}

/* All lines in set_headers's notation, and those that it may add. */
static size_t text_size(const struct ibk_http_request *request)
{
    size_t size = sizeof "Content-Type:" + sizeof "Expect:";
    for (size_t i = 0; i < request->header_count && size <= IBK_MAX_HEADER_TEXT; i++) {
        const struct ibk_http_header *header = &request->headers[i];
        if (!ibk_add_size(size, header->name.len, &size) || !ibk_add_size(size, header->value.len, &size) ||
            !ibk_add_size(size, sizeof ": ", &size)) {
            return SIZE_MAX;
        }
    }
    return size;
}

static ibk_code check_headers(const struct ibk_http_request *request, struct ibk_error *err)
{
    if (request->header_count > IBK_MAX_HEADERS) {
        return ibk_fail(err, IBK_E_HEADER, where, "%zu headers are over the limit of %d", request->header_count, IBK_MAX_HEADERS);
    }
    if (text_size(request) > IBK_MAX_HEADER_TEXT) {
        return ibk_fail(err, IBK_E_HEADER, where, "headers: more than %u bytes", IBK_MAX_HEADER_TEXT);
    }
    for (size_t i = 0; i < request->header_count; i++) {
        ibk_span name = request->headers[i].name;
        if (!is_token(name)) {
            return ibk_fail(err, IBK_E_HEADER, where, "header %zu: the name is empty or holds a character that is not allowed",
                            i + 1);
        }
        int shown = name.len > 60 ? 60 : (int)name.len;
        if (is_reserved(name)) {
            return ibk_fail(err, IBK_E_HEADER, where, "header %.*s: set by the transport, not by the caller", shown,
                            (const char *)name.data);
        }
        if (!ibk_http_is_header_value(request->headers[i].value)) {
            return ibk_fail(err, IBK_E_HEADER, where,
                            "header %.*s: the value holds a line break, a NUL or another control character", shown,
                            (const char *)name.data);
        }
    }
    return IBK_OK;
}

static ibk_code check_method(const struct ibk_http_request *request, struct ibk_error *err)
{
    ibk_span method = request->method;
    bool good = method.len > 0 && method.len <= IBK_MAX_METHOD;
    for (size_t i = 0; good && i < method.len; i++) {
        good = method.data[i] >= 'A' && method.data[i] <= 'Z';
    }
    if (!good || is_text(method, "CONNECT") || is_text(method, "TRACE")) {
        return ibk_fail(err, IBK_E_ARGUMENT, where, "method: expected up to %d upper-case letters, not CONNECT or TRACE",
                        IBK_MAX_METHOD);
    }
    if (is_text(method, "HEAD") && request->body.data != NULL) {
        return ibk_fail(err, IBK_E_ARGUMENT, where, "method: HEAD has no body");
    }
    return IBK_OK;
}

ibk_code ibk_http_request_check(const struct ibk_http_request *request, struct ibk_url *url, struct ibk_error *err)
{
    ibk_code code = check_method(request, err);
    if (code == IBK_OK) {
        code = ibk_url_split(request->url, url, err);
    }
    if (code == IBK_OK) {
        code = check_headers(request, err);
    }
    if (code != IBK_OK) {
        return code;
    }
    if (!ibk_url_may_be_sent(url)) {
        return ibk_fail(err, IBK_E_URL, where,
                        "URL: plain http is for this machine only (127.0.0.1, [::1], localhost); use https");
    }
    if (request->timeout_ms <= 0) {
        return ibk_fail(err, IBK_E_ARGUMENT, where, "timeout_ms must be above 0, not %ld", request->timeout_ms);
    }
    return IBK_OK;
}

ibk_code ibk_http_request_validate(const struct ibk_http_request *request, struct ibk_error *err)
{
    struct ibk_url url;
    return ibk_http_request_check(request, &url, err);
}

static bool is_blank(ibk_span value)
{
    for (size_t i = 0; i < value.len; i++) {
        if (value.data[i] != ' ' && value.data[i] != '\t') {
            return false;
        }
    }
    return true;
}

/* In libcurl's notation, where "Name:" takes a header away and "Name;" sends an empty one. */
static void put_line(struct ibk_buf *text, ibk_span name, ibk_span value)
{
    ibk_buf_put(text, name);
    if (is_blank(value)) {
        ibk_buf_put_byte(text, ';');
    } else {
        ibk_buf_put_text(text, ": ");
        ibk_buf_put(text, value);
    }
    ibk_buf_put_byte(text, '\0');
}

static void put_removal(struct ibk_buf *text, const char *name)
{
    ibk_buf_put_text(text, name);
    ibk_buf_put(text, ibk_span_of(":\0", 2));
}

/* A list for libcurl in memory that the handle keeps, instead of two allocations a header. User-Agent is always in it. */
static struct curl_slist *link_lines(struct ibk_http_handle *handle)
{
    struct curl_slist *list = handle->header_list;
    size_t count = 0;
    for (size_t start = 0; start < handle->header_text.len; count++) {
        char *line = (char *)handle->header_text.data + start;
        list[count] = (struct curl_slist){.data = line, .next = NULL};
        if (count > 0) {
            list[count - 1].next = &list[count];
        }
        start += strlen(line) + 1;
    }
    return list;
}

static CURLcode set_headers(struct ibk_http_handle *handle, bool has_body)
{
    const struct ibk_http_request *request = handle->transfer.request;
    struct ibk_buf *text = &handle->header_text;
    bool typed = false;
    bool encoded = !ibk_http_decompresses();
    bool introduced = false;

    text->len = 0;
    for (size_t i = 0; i < request->header_count; i++) {
        put_line(text, request->headers[i].name, request->headers[i].value);
        typed = typed || is_name(request->headers[i].name, "Content-Type");
        encoded = encoded || is_name(request->headers[i].name, "Accept-Encoding");
        introduced = introduced || is_name(request->headers[i].name, "User-Agent");
    }
    /* libcurl would write these two by itself, each twice, byte by byte: a twentieth of a call. */
    if (!introduced) {
        put_line(text, ibk_span_text("User-Agent"), ibk_span_text(handle->settings->user_agent));
    }
    if (!encoded) {
        put_line(text, ibk_span_text("Accept-Encoding"), ibk_span_text(IBK_ENCODINGS));
    }
    if (has_body && !typed) {
        put_removal(text, "Content-Type"); /* libcurl would call every body a form, and OAuth signs forms differently */
    }
    if (has_body) {
        put_removal(text, "Expect"); /* libcurl would wait a second for "100 Continue" before a large body */
    }
    if (text->broken != IBK_OK) {
        return CURLE_OUT_OF_MEMORY; /* the last line may be cut */
    }
    return curl_easy_setopt(handle->easy, CURLOPT_HTTPHEADER, link_lines(handle));
}

static CURLcode set_body(struct ibk_http_handle *handle)
{
    static const char nothing[] = "";
    ibk_span body = handle->transfer.request->body;
    CURLcode result = curl_easy_setopt(handle->easy, CURLOPT_POST, 1L);
    if (result == CURLE_OK) {
        result = curl_easy_setopt(handle->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.len);
    }
    if (result == CURLE_OK) {
        /* Borrowed, not copied: the span outlives the transfer. Without one libcurl would read the body from stdin. */
        result =
            curl_easy_setopt(handle->easy, CURLOPT_POSTFIELDS, body.len > 0 ? (const void *)body.data : (const void *)nothing);
    }
    return result;
}

static CURLcode set_method(struct ibk_http_handle *handle, bool has_body)
{
    ibk_span method = handle->transfer.request->method;
    char name[IBK_MAX_METHOD + 1] = {0};
    bool head = is_text(method, "HEAD");
    CURLcode result;

    if (has_body) {
        result = set_body(handle);
    } else if (head) {
        result = curl_easy_setopt(handle->easy, CURLOPT_NOBODY, 1L);
    } else {
        result = curl_easy_setopt(handle->easy, CURLOPT_HTTPGET, 1L);
    }
    if (result != CURLE_OK) {
        return result;
    }
    memcpy(name, method.data, method.len);
    bool implied = head || is_text(method, has_body ? "POST" : "GET");
    return curl_easy_setopt(handle->easy, CURLOPT_CUSTOMREQUEST, implied ? NULL : name);
}

/* A handle mostly speaks one scheme, so this is rarely done twice. Plain http stays on this machine: past the proxy. */
static CURLcode set_scheme(struct ibk_http_handle *handle)
{
    bool secure = handle->transfer.secure;
    if (handle->scheme == (secure ? IBK_SCHEME_HTTPS : IBK_SCHEME_HTTP)) {
        return CURLE_OK;
    }
    handle->scheme = IBK_SCHEME_NONE;
#if LIBCURL_VERSION_NUM >= 0x075500
    CURLcode result = curl_easy_setopt(handle->easy, CURLOPT_PROTOCOLS_STR, secure ? "https" : "http");
#else
    CURLcode result = curl_easy_setopt(handle->easy, CURLOPT_PROTOCOLS, (long)(secure ? CURLPROTO_HTTPS : CURLPROTO_HTTP));
#endif
    if (result == CURLE_OK) {
        /* "" and not NULL, which would let libcurl ask the environment. */
        result = curl_easy_setopt(handle->easy, CURLOPT_PROXY,
                                  secure && handle->settings->proxy != NULL ? handle->settings->proxy : "");
    }
    if (result == CURLE_OK) {
        handle->scheme = secure ? IBK_SCHEME_HTTPS : IBK_SCHEME_HTTP;
    }
    return result;
}

/* The URL, and what follows the method on the wire: newer versions of libcurl would drop a '?' with nothing behind it. */
static CURLcode set_url(struct ibk_http_handle *handle)
{
    const struct ibk_url *parts = &handle->transfer.url;
    struct ibk_buf *text = &handle->url;

    text->len = 0;
    ibk_buf_put(text, handle->transfer.request->url);
    ibk_buf_put_byte(text, '\0');
    size_t target = text->len;
    if (parts->path.len == 0) {
        ibk_buf_put_byte(text, '/');
    }
    ibk_buf_put(text, parts->path);
    if (parts->has_query) {
        ibk_buf_put_byte(text, '?');
        ibk_buf_put(text, parts->query);
    }
    ibk_buf_put_byte(text, '\0');
    if (text->broken != IBK_OK) {
        return CURLE_OUT_OF_MEMORY;
    }
    CURLcode result = curl_easy_setopt(handle->easy, CURLOPT_URL, (const char *)text->data);
    return result != CURLE_OK ? result
                              : curl_easy_setopt(handle->easy, CURLOPT_REQUEST_TARGET, (const char *)text->data + target);
}

ibk_code ibk_http_request_apply(struct ibk_http_handle *handle, struct ibk_error *err)
{
    const struct ibk_http_request *request = handle->transfer.request;
    ibk_span method = request->method;
    bool has_body = request->body.data != NULL || is_text(method, "POST") || is_text(method, "PUT") || is_text(method, "PATCH");

    if (handle->transfer.secure) {
        ibk_code code = ibk_http_ca_apply(handle, err);
        if (code != IBK_OK) {
            return code;
        }
    }
    CURLcode result = set_scheme(handle);
    if (result == CURLE_OK) {
        result = set_url(handle);
    }
    if (result == CURLE_OK) {
        result = set_method(handle, has_body);
    }
    if (result == CURLE_OK) {
        result = curl_easy_setopt(handle->easy, CURLOPT_TIMEOUT_MS, request->timeout_ms);
    }
    if (result == CURLE_OK) {
        result = set_headers(handle, has_body);
    }
    return result == CURLE_OK ? IBK_OK : ibk_http_setup_fail(result, where, err);
}

static void refresh(struct ibk_buf *buf)
{
    if (buf->broken != IBK_OK) {
        ibk_buf_clean(buf);
    }
}

void ibk_http_request_release(struct ibk_http_handle *handle)
{
    (void)curl_easy_setopt(handle->easy, CURLOPT_HTTPHEADER, NULL);
    (void)curl_easy_setopt(handle->easy, CURLOPT_POSTFIELDS, NULL);
    refresh(&handle->url);
    refresh(&handle->header_text);
    handle->transfer.request = NULL;
    handle->transfer.response = NULL;
}
