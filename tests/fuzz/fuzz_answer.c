/*
 * fuzz_answer.c - what a server may answer: the input is sent by a real server on loopback to a real request, and then the
 * connection ends. Whatever it is, there is an answer within its limits, or an error that says what was wrong.
 */
#include "fuzz.h"

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ibk/http.h"

#define MAX_HEADER_BYTES 4096u
#define MAX_BODY_BYTES 65536u

#define MAX_ANSWER 65536u

static int listener;

/* Of the exchange under way. A client may be content before all of it is sent, so the server has a copy. */
static struct {
    pthread_mutex_t lock;
    uint8_t data[MAX_ANSWER];
    size_t len;
} answer = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void set_answer(ibk_span bytes)
{
    REQUIRE(pthread_mutex_lock(&answer.lock) == 0);
    answer.len = bytes.len < MAX_ANSWER ? bytes.len : MAX_ANSWER;
    memcpy(answer.data, bytes.data, answer.len);
    REQUIRE(pthread_mutex_unlock(&answer.lock) == 0);
}

static ibk_span copy_answer(uint8_t *copy)
{
    REQUIRE(pthread_mutex_lock(&answer.lock) == 0);
    ibk_span bytes = ibk_span_of(copy, answer.len);
    memcpy(copy, answer.data, answer.len);
    REQUIRE(pthread_mutex_unlock(&answer.lock) == 0);
    return bytes;
}

static void *serve(void *unused)
{
    static uint8_t copy[MAX_ANSWER];
    (void)unused;
    for (;;) {
        char request[4096];
        int connection = accept(listener, NULL, NULL);
        REQUIRE(connection >= 0);
        if (recv(connection, request, sizeof request, 0) > 0) {
            ibk_span bytes = copy_answer(copy);
            (void)send(connection, bytes.data, bytes.len, MSG_NOSIGNAL);
        }
        (void)shutdown(connection, SHUT_WR);
        while (recv(connection, request, sizeof request, 0) > 0) {
        }
        (void)close(connection);
    }
    return NULL;
}

static const char *start(void)
{
    static char url[64];
    if (url[0] == '\0') {
        pthread_t thread;
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof address;
        listener = socket(AF_INET, SOCK_STREAM, 0);
        REQUIRE(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 64) == 0);
        REQUIRE(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
        REQUIRE(pthread_create(&thread, NULL, serve, NULL) == 0);
        (void)snprintf(url, sizeof url, "http://127.0.0.1:%u/v1/api/tickle", (unsigned int)ntohs(address.sin_port));
    }
    return url;
}

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
    const struct ibk_http_request request = {.method = ibk_span_text(repeatable ? "GET" : "POST"),
                                             .url = ibk_span_text(start()),
                                             .repeatable = repeatable,
                                             .timeout_ms = 5000};
    set_answer(rest);
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
