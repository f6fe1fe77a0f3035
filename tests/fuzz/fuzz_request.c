/*
 * fuzz_request.c - what goes out on the wire: a request made of the input is sent to a server on loopback, and what arrives
 * there is that request and nothing else, whatever bytes its parts are made of. Input: a line each for method, target, user
 * agent and body (a first byte of 0 means none), then lines in turn for names and values of headers.
 */
#include "fuzz.h"

#include "ibk/http.h"
#include "ibk/url.h"
#include "loopback.h"

#define MAX_HEADERS 16u

static struct ibk_http_header headers[MAX_HEADERS];
static size_t header_count;

static ibk_span take_line(ibk_span *rest)
{
    size_t at = ibk_span_find(*rest, ibk_span_text("\r\n"));
    REQUIRE(at < rest->len);
    ibk_span line = ibk_span_of(rest->data, at);
    *rest = ibk_span_of(rest->data + at + 2, rest->len - at - 2);
    return line;
}

static ibk_span trimmed(ibk_span value)
{
    while (value.len > 0 && (value.data[0] == ' ' || value.data[0] == '\t')) {
        value = ibk_span_of(value.data + 1, value.len - 1);
    }
    while (value.len > 0 && (value.data[value.len - 1] == ' ' || value.data[value.len - 1] == '\t')) {
        value.len--;
    }
    return value;
}

static bool is_line_of(ibk_span line, ibk_span name, ibk_span value)
{
    return line.len > name.len && ibk_span_equal(ibk_span_of(line.data, name.len), name) && line.data[name.len] == ':' &&
           ibk_span_equal(trimmed(ibk_span_of(line.data + name.len + 1, line.len - name.len - 1)), trimmed(value));
}

static bool is_given(ibk_span line)
{
    for (size_t i = 0; i < header_count; i++) {
        if (is_line_of(line, headers[i].name, headers[i].value)) {
            return true;
        }
    }
    return false;
}

/* The transport's own, which it may add. */
static bool is_own(ibk_span line, const struct ibk_http_request *request, const char *agent)
{
    static const char *const own[][2] = {{"Accept", "*/*"}, {"Accept-Encoding", "gzip, deflate"}};
    char number[32];
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        if (is_line_of(line, ibk_span_text(own[i][0]), ibk_span_text(own[i][1]))) {
            return true;
        }
    }
    (void)snprintf(number, sizeof number, "%zu", request->body.len);
    ibk_span host = ibk_span_text(loopback_url() + strlen("http://"));
    return is_line_of(line, ibk_span_text("Host"), host) || is_line_of(line, ibk_span_text("User-Agent"), ibk_span_text(agent)) ||
           is_line_of(line, ibk_span_text("Content-Length"), ibk_span_text(number));
}

static void check_arrived(const struct ibk_http_request *request, ibk_span target, const char *agent)
{
    ibk_span rest = loopback_request();
    ibk_span line = take_line(&rest);
    struct ibk_buf first;
    size_t given = 0;

    ibk_buf_init(&first, 2 * IBK_URL_MAX_SIZE);
    ibk_buf_put(&first, request->method);
    ibk_buf_put_byte(&first, ' ');
    if (target.len == 0 || target.data[0] != '/') {
        ibk_buf_put_byte(&first, '/');
    }
    ibk_buf_put(&first, target);
    ibk_buf_put_text(&first, " HTTP/1.1");
    REQUIRE(first.broken == IBK_OK && ibk_span_equal(line, ibk_buf_peek(&first)));
    ibk_buf_clean(&first);
    while ((line = take_line(&rest)).len > 0) {
        REQUIRE(is_given(line) || is_own(line, request, agent));
        given += is_given(line);
        for (size_t i = 0; i < line.len; i++) {
            REQUIRE((line.data[i] >= ' ' && line.data[i] != 0x7f) || line.data[i] == '\t');
        }
    }
    REQUIRE(given >= header_count);
    REQUIRE(ibk_span_equal(rest, request->body));
}

static void send_it(const struct ibk_http_request *request, ibk_span target, const char *agent)
{
    struct ibk_error err;
    struct ibk_http_client *client;
    struct ibk_http_response response;
    const struct ibk_http_options options = {
        .user_agent = agent, .connect_timeout_ms = 5000, .max_header_bytes = 4096, .max_body_bytes = 4096};
    ibk_code valid = ibk_http_request_validate(request, &err);
    if (valid != IBK_OK) {
        require_told(valid, &err);
    }
    ibk_code code = ibk_http_client_new(&options, &client, &err);
    if (code != IBK_OK) {
        REQUIRE(client == NULL);
        require_told(code, &err);
        return;
    }
    for (size_t i = 0; i < LOOPBACK_MAX_ANSWERS; i++) { /* whatever number the target happens to end with */
        loopback_answer(i, ibk_span_text("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"), false);
    }
    code = ibk_http_send(client, request, NULL, &response, &err);
    REQUIRE((code == IBK_OK) == (valid == IBK_OK));
    if (code == IBK_OK) {
        REQUIRE(response.status == 204);
        check_arrived(request, target, agent);
    } else {
        REQUIRE(err.code == valid && loopback_request().len == 0);
    }
    ibk_http_response_clean(&response);
    ibk_http_client_free(client);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char agent[256];
    struct ibk_buf url;
    ibk_span rest = ibk_span_of(data, size);
    struct ibk_http_request request = {.method = next_line(&rest), .headers = headers, .timeout_ms = 5000};
    ibk_span target = next_line(&rest), name = next_line(&rest), body = next_line(&rest);

    (void)snprintf(agent, sizeof agent, "%.*s", (int)(name.len < sizeof agent ? name.len : sizeof agent - 1),
                   (const char *)name.data);
    if (body.len > 0 && body.data[0] != 0) {
        request.body = body;
    }
    for (header_count = 0; rest.len > 0 && header_count < MAX_HEADERS; header_count++) {
        headers[header_count].name = next_line(&rest);
        headers[header_count].value = next_line(&rest);
    }
    request.header_count = header_count;
    ibk_buf_init(&url, 2 * IBK_URL_MAX_SIZE);
    ibk_buf_put_text(&url, loopback_url());
    ibk_buf_put(&url, target);
    if (ibk_buf_peek(&url).len < IBK_URL_MAX_SIZE && (target.len == 0 || strchr("/?", target.data[0]) != NULL)) {
        request.url = ibk_buf_peek(&url);
        send_it(&request, target, agent);
    }
    ibk_buf_clean(&url);
    return 0;
}
