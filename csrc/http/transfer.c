/* transfer.c - the loop that runs one exchange. */
#include "http_internal.h"

#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS 50        /* how long a stalled transfer waits before it asks the hook */
#define CALM_TICK_MS 1000 /* without a hook: cancelling wakes the poll, and libcurl knows its own deadlines */
#define MIN_ASK_US 5000   /* libcurl's own timers end polls early; the hook costs a turn of Python's lock */

int64_t ibk_http_now_us(void)
{
    struct timespec now = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void ibk_http_forget_openssl_errors(void)
{
    (void)ibk_fail_ossl(NULL, IBK_E_TLS, "", ""); /* it leaves the queue empty */
}

static bool take_cancellation(struct ibk_http_client *client)
{
    return atomic_load(&client->cancelled) && atomic_exchange(&client->cancelled, false);
}

/*
 * After a poll: is there a reason to end the transfer? The hook is asked when nothing moved, which is also how a poll ends
 * that a signal interrupted, and now and then while something keeps moving.
 */
static ibk_code reason_to_stop(struct ibk_http_client *client, const struct ibk_http_hooks *hooks, bool idle, int64_t *asked_us)
{
    if (take_cancellation(client)) {
        return IBK_E_CANCELLED;
    }
    if (hooks == NULL || hooks->interrupt == NULL) {
        return IBK_OK;
    }
    int64_t now = ibk_http_now_us();
    if (now - *asked_us < (idle ? MIN_ASK_US : TICK_MS * 1000)) {
        return IBK_OK;
    }
    *asked_us = now;
    return hooks->interrupt(hooks->context) != 0 ? IBK_E_INTERRUPTED : IBK_OK;
}

static CURLcode result_of(CURLM *multi)
{
    int left = 0;
    for (const CURLMsg *message; (message = curl_multi_info_read(multi, &left)) != NULL;) {
        if (message->msg == CURLMSG_DONE) {
            return message->data.result;
        }
    }
    return CURLE_FAILED_INIT; /* never: a transfer that runs no more has left a message */
}

static CURLcode of_multi(CURLMcode trouble)
{
    return trouble == CURLM_OUT_OF_MEMORY ? CURLE_OUT_OF_MEMORY : CURLE_FAILED_INIT;
}

/*
 * libcurl looks at a kept connection before it reuses it, but some versions (7.88) take one for live that the server has
 * closed with TLS's goodbye, or reset. The next POST would be written to it, and end as "outcome unknown" every time the
 * server's idle time had run out. On an idle HTTP/1.1 connection nothing may arrive, so one where something did is emptied
 * and shut down: what libcurl finds then is the end of the stream, which every version understands.
 */
static void retire_dead_connections(struct ibk_http_client *client)
{
    struct pollfd ends[IBK_MAX_SOCKETS];
    uint8_t dropped[4096];

    for (size_t i = 0; i < client->socket_count; i++) {
        ends[i] = (struct pollfd){.fd = client->sockets[i], .events = POLLIN};
    }
    if (client->socket_count == 0 || poll(ends, (nfds_t)client->socket_count, 0) <= 0) {
        return;
    }
    for (size_t i = 0; i < client->socket_count; i++) {
        if (ends[i].revents != 0) {
            (void)shutdown(ends[i].fd, SHUT_RDWR);
            for (int pieces = 0; pieces < 16 && recv(ends[i].fd, dropped, sizeof dropped, 0) > 0; pieces++) {
            }
        }
    }
}

static CURLcode run(struct ibk_http_client *client, const struct ibk_http_hooks *hooks)
{
    struct ibk_transfer *transfer = &client->transfer;
    int tick = hooks != NULL && hooks->interrupt != NULL ? TICK_MS : CALM_TICK_MS;
    int64_t asked_us = transfer->started_us;
    int running = 1;
    int ready = 0;

    retire_dead_connections(client);
    CURLMcode trouble = curl_multi_add_handle(client->multi, client->easy);
    if (trouble != CURLM_OK) {
        return of_multi(trouble);
    }
    transfer->started = true;
    while ((trouble = curl_multi_perform(client->multi, &running)) == CURLM_OK && running > 0) {
        trouble = curl_multi_poll(client->multi, NULL, 0, tick, &ready);
        if (trouble != CURLM_OK) {
            break;
        }
        ibk_code stop = reason_to_stop(client, hooks, ready == 0, &asked_us);
        if (stop != IBK_OK) {
            transfer->stop = stop;
            break;
        }
    }
    CURLcode result = CURLE_ABORTED_BY_CALLBACK;
    if (trouble != CURLM_OK) {
        result = of_multi(trouble);
    } else if (running == 0) {
        result = result_of(client->multi);
    }
    (void)curl_multi_remove_handle(client->multi, client->easy); /* closes the connection where the answer is not complete */
    return result;
}

static void complete(struct ibk_http_client *client)
{
    struct ibk_http_response *response = client->transfer.response;
    long connects = 0;
    (void)curl_easy_getinfo(client->easy, CURLINFO_RESPONSE_CODE, &response->status);
    (void)curl_easy_getinfo(client->easy, CURLINFO_NUM_CONNECTS, &connects);
    response->reused_connection = connects == 0;
    response->elapsed_us = ibk_http_now_us() - client->transfer.started_us;
}

static ibk_code exchange(struct ibk_http_client *client, const struct ibk_http_hooks *hooks, struct ibk_error *err)
{
    struct ibk_transfer *transfer = &client->transfer;
    ibk_code code = ibk_http_request_check(transfer->request, &transfer->url, err);
    if (code != IBK_OK) {
        return code;
    }
    transfer->secure = transfer->url.scheme.len == strlen("https");
    code = ibk_http_request_apply(client, err);
    if (code != IBK_OK) {
        return code;
    }
    client->curl_text[0] = '\0';
    CURLcode result = CURLE_ABORTED_BY_CALLBACK;
    if (take_cancellation(client)) {
        transfer->stop = IBK_E_CANCELLED;
    } else {
        result = run(client, hooks);
    }
    if (result == CURLE_OK && transfer->part != IBK_PART_BODY) {
        result = CURLE_PARTIAL_FILE; /* libcurl is content with headers that end in the middle */
    }
    if (result != CURLE_OK) {
        return ibk_http_transfer_fail(client, result, err);
    }
    complete(client);
    return IBK_OK;
}

ibk_code ibk_http_send(struct ibk_http_client *client, const struct ibk_http_request *request, const struct ibk_http_hooks *hooks,
                       struct ibk_http_response *out, struct ibk_error *err)
{
    memset(out, 0, sizeof *out);
    if (client->pid != getpid()) {
        return ibk_fail(err, IBK_E_FORKED, __func__, "the client was made by process %ld, before a fork", (long)client->pid);
    }
    if (atomic_flag_test_and_set(&client->busy)) {
        return ibk_fail(err, IBK_E_BUSY, __func__, "the client is already in a transfer");
    }
    client->transfer =
        (struct ibk_transfer){.request = request, .response = out, .started_us = ibk_http_now_us(), .socket = CURL_SOCKET_BAD};
    ibk_buf_init(&out->header_block, client->max_header_bytes);
    ibk_buf_init(&out->body, client->max_body_bytes);
    ibk_code code = exchange(client, hooks, err);
    ibk_http_request_release(client);
    if (client->transfer.secure) {
        ibk_http_forget_openssl_errors();
    }
    if (code != IBK_OK) {
        ibk_http_response_clean(out);
    }
    atomic_flag_clear(&client->busy);
    return code;
}

void ibk_http_response_clean(struct ibk_http_response *response)
{
    ibk_buf_clean(&response->header_block);
    ibk_buf_clean(&response->body);
    memset(response, 0, sizeof *response);
}

void ibk_http_cancel(struct ibk_http_client *client)
{
    atomic_store(&client->cancelled, true);
    if (client->pid == getpid()) { /* in a forked child it would wake the parent */
        (void)curl_multi_wakeup(client->multi);
    }
}
