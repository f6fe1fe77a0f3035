/*
 * fuzz_answer.c - what a server may answer: the input is sent by a real server on loopback to a real request, and then the
 * connection ends. Whatever it is, there is an answer within its limits, or an error that says what was wrong.
 */
#include "fuzz.h"

#include "ibk/http.h"
#include "loopback.h"

#define MAX_HEADER_BYTES 4096u
#define MAX_BODY_BYTES 65536u

static void check_response(const struct ibk_http_response *response)
{
    ibk_span block = ibk_buf_peek(&response->header_block);
    REQUIRE(response->status >= 100 && response->status <= 999 && response->elapsed_us >= 0);
    REQUIRE(response->body.len <= MAX_BODY_BYTES);
    REQUIRE(block.len == 0 || (block.len >= 2 && memcmp(block.data + block.len - 2, "\r\n", 2) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ibk_error err;
    struct ibk_http_client *client;
    struct ibk_http_response response;
    const struct ibk_http_options options = {
        .user_agent = "fuzz", .connect_timeout_ms = 5000, .max_header_bytes = MAX_HEADER_BYTES, .max_body_bytes = MAX_BODY_BYTES};
    ibk_span rest = ibk_span_of(data, size);
    bool repeatable = next_choice(&rest, 2) == 1;
    char url[128];
    (void)snprintf(url, sizeof url, "%s/v1/api/tickle", loopback_url());
    const struct ibk_http_request request = {.method = ibk_span_text(repeatable ? "GET" : "POST"),
                                             .url = ibk_span_text(url),
                                             .repeatable = repeatable,
                                             .timeout_ms = 5000};
    loopback_answer(0, rest, false);
    REQUIRE(ibk_http_client_new(&options, &client, &err) == IBK_OK);
    ibk_code code = ibk_http_send(client, &request, NULL, &response, &err);
    if (code == IBK_OK) {
        check_response(&response);
    } else {
        require_told(code, &err);
        REQUIRE(response.body.data == NULL && response.header_block.data == NULL);
    }
    ibk_http_response_clean(&response);
    ibk_http_client_free(client);
    return 0;
}
