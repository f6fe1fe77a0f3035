/* response.c - collecting the answer: libcurl's callbacks, called from inside curl_multi_perform on the caller's thread. */
#include "http_internal.h"

/* A callback ends the transfer by taking fewer bytes than it was handed, which were not none. */
static size_t stop(struct ibk_transfer *transfer, ibk_code code)
{
    transfer->stop = code;
    return 0;
}

static bool is_line_end(uint8_t byte)
{
    return byte == '\r' || byte == '\n';
}

static bool is_folded(ibk_span line)
{
    return line.data[0] == ' ' || line.data[0] == '\t';
}

/*
 * A line of the final answer, which does not begin with its end: it is ended by CR LF whatever it came with. A continuation
 * line joins the one before, which there is.
 */
static void put_line(struct ibk_buf *block, ibk_span line)
{
    while (is_line_end(line.data[line.len - 1])) {
        line.len--;
    }
    if (is_folded(line)) {
        block->len -= 2;
    }
    ibk_buf_put(block, line);
    ibk_buf_put_text(block, "\r\n");
}

/* There are as many bytes as the text has. */
static bool starts_with(const uint8_t *bytes, const char *text)
{
    return memcmp(bytes, text, strlen(text)) == 0;
}

static bool is_digit(uint8_t byte)
{
    return byte >= '0' && byte <= '9';
}

/* "HTTP/1.1 200 OK" or "HTTP/1.1 200": libcurl finds a status in nearly any first line, 200 where it begins with "HTTP/". */
static bool is_status_line(ibk_span line)
{
    return line.len > 12 && starts_with(line.data, "HTTP/1.") && is_digit(line.data[7]) && line.data[8] == ' ' &&
           line.data[9] >= '1' && line.data[9] <= '9' && is_digit(line.data[10]) && is_digit(line.data[11]) &&
           (line.data[12] == ' ' || is_line_end(line.data[12]));
}

/* "HTTP/1.1 103 Early Hints". 101 is final: what follows it is no HTTP. */
static bool is_interim(ibk_span line)
{
    return line.data[9] == '1' && !starts_with(line.data + 9, "101");
}

size_t ibk_http_on_header(char *data, size_t size, size_t count, void *context)
{
    struct ibk_http_handle *handle = context;
    struct ibk_transfer *transfer = &handle->transfer;
    struct ibk_buf *block = &transfer->response->header_block;
    ibk_span line = ibk_span_of(data, size * count);

    if (line.len == 0) { /* libcurl gives whole lines */
        return 0;
    }
    bool last = is_line_end(line.data[0]);
    if (line.len > handle->settings->max_header_bytes - transfer->header_bytes) {
        return stop(transfer, IBK_E_TOO_LARGE);
    }
    transfer->header_bytes += line.len;
    switch (transfer->part) {
    case IBK_PART_STATUS:
        if (!is_status_line(line)) {
            return stop(transfer, IBK_E_PROTOCOL);
        }
        transfer->part = is_interim(line) ? IBK_PART_INTERIM : IBK_PART_HEADER;
        break;
    case IBK_PART_INTERIM:
        transfer->part = last ? IBK_PART_STATUS : IBK_PART_INTERIM;
        break;
    case IBK_PART_HEADER:
        if (last) {
            transfer->part = IBK_PART_BODY;
        } else if (is_folded(line) && block->len < 2) {
            return stop(transfer, IBK_E_PROTOCOL); /* a folded line, with nothing before it: RFC 9112 section 2.2 */
        } else {
            put_line(block, line);
        }
        break;
    case IBK_PART_BODY:
        break;
    }
    return block->broken == IBK_OK ? line.len : stop(transfer, IBK_E_NO_MEMORY);
}

size_t ibk_http_on_body(char *data, size_t size, size_t count, void *context)
{
    struct ibk_http_handle *handle = context;
    struct ibk_transfer *transfer = &handle->transfer;
    struct ibk_buf *body = &transfer->response->body;
    size_t len = size * count;

    if (len > handle->settings->max_body_bytes - body->len) {
        return stop(transfer, IBK_E_TOO_LARGE);
    }
    ibk_buf_put(body, ibk_span_of(data, len));
    return body->broken == IBK_OK ? len : stop(transfer, IBK_E_NO_MEMORY);
}
