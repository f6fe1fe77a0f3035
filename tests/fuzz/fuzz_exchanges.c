/*
 * fuzz_exchanges.c - several answers one after the other over connections that are kept, to the blocking client or to the
 * engine. Each request is written once, and gets what was sent for it and nothing that was left over from another; every
 * request that is submitted comes to exactly one end. Input: a byte that chooses the client, then answers with "\n--\n" between them; the first byte of
 * each says whether the request is repeatable, and whether the server keeps the connection.
 */
#include "fuzz.h"

#include "ibk/engine.h"
#include "loopback.h"

#define MAX_HEADER_BYTES 4096u
#define MAX_BODY_BYTES 4096u
#define MAX_PIECE 8192u /* fits into a socket's buffer: nothing of it can arrive late */

static const struct ibk_http_options options = {
    .user_agent = "fuzz", .connect_timeout_ms = 5000, .max_header_bytes = MAX_HEADER_BYTES, .max_body_bytes = MAX_BODY_BYTES};

struct piece {
    ibk_span bytes;
    bool repeatable;
    bool keep;
    char url[128];
};

static size_t cut(ibk_span rest, struct piece pieces[LOOPBACK_MAX_ANSWERS])
{
    static const char mark[] = "\n--\n";
    size_t count = 0;
    while (rest.len > 0 && count < LOOPBACK_MAX_ANSWERS) {
        struct piece *piece = &pieces[count];
        size_t end = ibk_span_find(rest, ibk_span_text(mark));
        size_t taken = end < rest.len ? end + strlen(mark) : end;
        piece->bytes = ibk_span_of(rest.data, end < MAX_PIECE ? end : MAX_PIECE);
        rest = ibk_span_of(rest.data + taken, rest.len - taken);
        unsigned int flags = next_choice(&piece->bytes, 4);
        piece->repeatable = (flags & 1u) != 0;
        piece->keep = (flags & 2u) != 0;
        (void)snprintf(piece->url, sizeof piece->url, "%s/v1/api/%zu", loopback_url(), count);
        loopback_answer(count++, piece->bytes, piece->keep);
    }
    return count;
}

static struct ibk_http_request request_of(const struct piece *piece)
{
    return (struct ibk_http_request){.method = ibk_span_text(piece->repeatable ? "GET" : "POST"),
                                     .url = ibk_span_text(piece->url),
                                     .repeatable = piece->repeatable,
                                     .timeout_ms = 5000};
}

static bool contains(ibk_span text, const char *word)
{
    return ibk_span_find(text, ibk_span_text(word)) < text.len;
}

/* Signed once, so sent once: libcurl would write a request again where a kept connection dies under it. */
static void check_sent(size_t number, ibk_code code)
{
    REQUIRE(loopback_asked(number) <= 1 && (code != IBK_OK || loopback_asked(number) == 1));
}

/* Without chunks and compression the body is a part of the bytes, and the status always stands in them. */
static void check_response(const struct ibk_http_response *response, ibk_span bytes)
{
    char status[24];
    (void)snprintf(status, sizeof status, "%ld", response->status);
    REQUIRE(response->status >= 100 && response->status <= 999 && contains(bytes, status));
    REQUIRE(response->body.len <= MAX_BODY_BYTES && response->header_block.len <= MAX_HEADER_BYTES + 2);
    if (!contains(bytes, "ncoding") && !contains(bytes, "NCODING")) {
        ibk_span body = ibk_buf_peek(&response->body);
        REQUIRE(body.len == 0 || ibk_span_find(bytes, body) < bytes.len);
    }
}

static void send_blocking(const struct piece *pieces, size_t count)
{
    struct ibk_error err;
    struct ibk_http_client *client;
    REQUIRE(ibk_http_client_new(&options, &client, &err) == IBK_OK);
    for (size_t i = 0; i < count; i++) {
        struct ibk_http_response response;
        struct ibk_http_request request = request_of(&pieces[i]);
        ibk_code code = ibk_http_send(client, &request, NULL, &response, &err);
        check_sent(i, code);
        if (code == IBK_OK) {
            check_response(&response, pieces[i].bytes);
        } else {
            require_told(code, &err);
        }
        ibk_http_response_clean(&response);
    }
    ibk_http_client_free(client);
}

static void send_by_engine(const struct piece *pieces, size_t count)
{
    struct ibk_error err;
    struct ibk_mailbox *mailbox;
    struct ibk_engine_client *client;
    REQUIRE(ibk_mailbox_new(&mailbox, &err) == IBK_OK);
    REQUIRE(ibk_engine_client_new(&options, mailbox, &client, &err) == IBK_OK);
    for (size_t i = 0; i < count; i++) {
        struct ibk_outcome *outcome;
        struct ibk_http_request request = request_of(&pieces[i]);
        REQUIRE(ibk_engine_submit(client, (int64_t)i, &request, &err) == IBK_OK);
        REQUIRE(ibk_mailbox_wait(mailbox, 20000, NULL, &outcome, &err) == IBK_OK && outcome != NULL);
        REQUIRE(outcome->key == (int64_t)i && outcome->next == NULL);
        check_sent(i, outcome->code);
        if (outcome->code == IBK_OK) {
            check_response(&outcome->response, pieces[i].bytes);
        } else {
            require_told(outcome->code, &outcome->error);
        }
        ibk_outcomes_free(outcome);
    }
    ibk_engine_client_close(client);
    ibk_engine_client_release(client);
    ibk_mailbox_release(mailbox);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct piece pieces[LOOPBACK_MAX_ANSWERS];
    ibk_span rest = ibk_span_of(data, size);
    bool by_engine = next_choice(&rest, 2) == 1;
    size_t count = cut(rest, pieces);
    if (by_engine) {
        send_by_engine(pieces, count);
    } else {
        send_blocking(pieces, count);
    }
    return 0;
}
