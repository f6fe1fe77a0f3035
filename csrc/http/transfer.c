/* transfer.c - the blocking client: the loop that runs one exchange on the caller's thread. */
#include "http_internal.h"

#define TICK_MS 50        /* how long a stalled transfer waits before it asks the hook */
#define CALM_TICK_MS 1000 /* without a hook: cancelling wakes the poll, and libcurl knows its own deadlines */
#define MIN_ASK_US 5000   /* libcurl's own timers end polls early; the hook costs a turn of Python's lock */

static ibk_code fill(struct ibk_http_client *client, const struct ibk_http_options *options, struct ibk_error *err)
{
    client->pid = ibk_process_id();
    atomic_flag_clear(&client->busy);
    atomic_init(&client->cancelled, false);
    ibk_code code = ibk_http_settings_init(&client->settings, options, err);
    if (code == IBK_OK) {
        code = ibk_sockets_init(&client->sockets, err);
    }
    if (code == IBK_OK) {
        code = ibk_http_handle_init(&client->handle, &client->settings, &client->sockets, err);
    }
    if (code != IBK_OK) {
        return code;
    }
    client->multi = curl_multi_init();
    if (client->multi == NULL) {
        return ibk_fail_memory(err, "ibk_http_client_new");
    }
    if (curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long)IBK_MAX_KEPT) != CURLM_OK) {
        return ibk_http_setup_fail(CURLE_UNKNOWN_OPTION, "ibk_http_client_new", err);
    }
    return IBK_OK;
}

ibk_code ibk_http_client_new(const struct ibk_http_options *options, struct ibk_http_client **out, struct ibk_error *err)
{
    *out = NULL;
    ibk_code code = ibk_http_global_init(err);
    if (code != IBK_OK) {
        return code;
    }
    struct ibk_http_client *client = ibk_alloc(sizeof *client);
    if (client == NULL) {
        return ibk_fail_memory(err, __func__);
    }
    memset(client, 0, sizeof *client);
    code = fill(client, options, err);
    if (code != IBK_OK) {
        ibk_http_client_free(client);
        return code;
    }
    *out = client;
    return IBK_OK;
}

void ibk_http_client_free(struct ibk_http_client *client)
{
    if (client == NULL) {
        return;
    }
    /*
     * In a forked child the handles share their sockets with the parent: closing would send TLS's goodbye on the parent's
     * connection. They are abandoned, memory and descriptors included.
     */
    if (client->pid != ibk_process_id()) {
        return;
    }
    ibk_http_handle_clean(&client->handle);
    (void)curl_multi_cleanup(client->multi);
    ibk_http_forget_openssl_errors();
    ibk_sockets_clean(&client->sockets);
    ibk_http_settings_clean(&client->settings);
    ibk_free(client);
}

static bool take_cancellation(struct ibk_http_client *client)
{
    return atomic_exchange(&client->cancelled, false);
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
    int64_t now = ibk_clock_us();
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

static CURLcode run(struct ibk_http_client *client, const struct ibk_http_hooks *hooks)
{
    struct ibk_transfer *transfer = &client->handle.transfer;
    int tick = hooks != NULL && hooks->interrupt != NULL ? TICK_MS : CALM_TICK_MS;
    int64_t asked_us = transfer->started_us;
    int running = 1;
    int ready = 0;

    /*
     * libcurl looks at a kept connection before it reuses it, but some versions (7.88) take one for live that the server has
     * closed with TLS's goodbye, or reset. The next POST would be written to it, and end as "outcome unknown" every time the
     * server's idle time had run out.
     */
    ibk_sockets_end_dead(&client->sockets);
    CURLMcode trouble = curl_multi_add_handle(client->multi, client->handle.easy);
    if (trouble != CURLM_OK) {
        return of_multi(trouble);
    }
    transfer->started = true;
    while ((trouble = curl_multi_perform(client->multi, &running)) == CURLM_OK && running > 0) {
        ibk_http_handle_prepare(&client->handle);
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
    (void)curl_multi_remove_handle(client->multi,
                                   client->handle.easy); /* closes the connection where the answer is not complete */
    return result;
}

static ibk_code exchange(struct ibk_http_client *client, const struct ibk_http_request *request,
                         const struct ibk_http_hooks *hooks, struct ibk_http_response *out, struct ibk_error *err)
{
    ibk_code code = ibk_http_handle_begin(&client->handle, request, out, err);
    if (code != IBK_OK) {
        return code;
    }
    CURLcode result = CURLE_ABORTED_BY_CALLBACK;
    if (take_cancellation(client)) {
        client->handle.transfer.stop = IBK_E_CANCELLED;
    } else {
        result = run(client, hooks);
    }
    return ibk_http_handle_end(&client->handle, result, err);
}

ibk_code ibk_http_send(struct ibk_http_client *client, const struct ibk_http_request *request, const struct ibk_http_hooks *hooks,
                       struct ibk_http_response *out, struct ibk_error *err)
{
    memset(out, 0, sizeof *out);
    if (client->pid != ibk_process_id()) {
        return ibk_fail(err, IBK_E_FORKED, __func__, "the client was made by process %ld, before a fork", client->pid);
    }
    if (atomic_flag_test_and_set(&client->busy)) {
        return ibk_fail(err, IBK_E_BUSY, __func__, "the client is already in a transfer");
    }
    ibk_code code = exchange(client, request, hooks, out, err);
    if (client->handle.transfer.secure) {
        ibk_http_forget_openssl_errors();
    }
    atomic_flag_clear(&client->busy);
    return code;
}

void ibk_http_cancel(struct ibk_http_client *client)
{
    atomic_store(&client->cancelled, true);
    if (client->pid == ibk_process_id()) { /* in a forked child it would wake the parent */
        (void)curl_multi_wakeup(client->multi);
    }
}
