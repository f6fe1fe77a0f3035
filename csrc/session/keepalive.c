/* keepalive.c - a request every so often, signed on the engine's thread. */
#include "ibk/keepalive.h"

#include "ibk/platform.h"

#include <stdio.h>

#define JITTER 20 /* one in so many parts of a wait may be left out */
#define MAX_HEADERS 128u
#define MAX_METHOD 16u           /* bytes */
#define MAX_MS INT64_C(86400000) /* a day */

/* What one request is made of, until libcurl has its own copy. The engine's thread alone uses it. */
struct beat {
    struct ibk_params headers;
    struct ibk_signing signing;
    struct ibk_http_header list[MAX_HEADERS];
};

struct ibk_keepalive {
    long pid;
    struct ibk_engine_task *task;
    struct ibk_mailbox *mailbox;      /* held */
    struct ibk_engine_client *client; /* held by the task */
    int64_t key;
    int64_t interval_ms;
    int64_t backoff_ms;
    long timeout_ms;
    struct ibk_buf method;
    struct ibk_buf url;
    struct beat *beat; /* under way, or NULL; the engine's thread's own */

    ibk_mutex lock; /* everything below; the engine's and the mailbox's locks may be taken with it held */
    struct ibk_params headers;
    struct ibk_signer *signer; /* held, or NULL */
    bool running;
    uint64_t round;      /* counts starts and stops */
    uint64_t beat_round; /* in which the beat under way began */
    bool has_clock;
    int64_t offset_ms;
    int64_t retry_ms; /* how long to wait after the next failure */
    int64_t last_good_ms;
    uint64_t random;
    struct ibk_keepalive_status status;
};

static ibk_code check_process(const struct ibk_keepalive *keepalive, const char *where, struct ibk_error *err)
{
    return keepalive->pid == ibk_process_id()
               ? IBK_OK
               : ibk_fail(err, IBK_E_FORKED, where, "the keep-alive was made by process %ld, before a fork", keepalive->pid);
}

static void lock(struct ibk_keepalive *keepalive)
{
    ibk_mutex_lock(&keepalive->lock);
}

static void unlock(struct ibk_keepalive *keepalive)
{
    ibk_mutex_unlock(&keepalive->lock);
}

/* A little less than that, by chance (xorshift: nobody gains by guessing it). With the lock held. */
static int64_t spread(struct ibk_keepalive *keepalive, int64_t ms)
{
    uint64_t x = keepalive->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    keepalive->random = x;
    return ms - (int64_t)(x % ((uint64_t)ms / JITTER + 1));
}

/* headers */

/* Views into the parameters, for the transport. */
static ibk_code list_headers(const struct ibk_params *params, struct ibk_http_header list[MAX_HEADERS], size_t *count,
                             struct ibk_error *err)
{
    *count = ibk_params_count(params);
    if (*count > MAX_HEADERS) {
        return ibk_fail(err, IBK_E_HEADER, "ibk_keepalive", "%zu headers are over the limit of %u", *count, MAX_HEADERS);
    }
    for (size_t i = 0; i < *count; i++) {
        list[i].name = ibk_params_peek_name(params, i);
        list[i].value = ibk_params_peek_value(params, i);
    }
    return IBK_OK;
}

/* Whether requests with these headers could be sent. */
static ibk_code check_request(const struct ibk_keepalive *keepalive, const struct ibk_params *headers, struct ibk_error *err)
{
    struct ibk_http_header list[MAX_HEADERS];
    struct ibk_http_request request = {.method = ibk_buf_peek(&keepalive->method),
                                       .url = ibk_buf_peek(&keepalive->url),
                                       .headers = list,
                                       .timeout_ms = keepalive->timeout_ms};
    ibk_code code = list_headers(headers, list, &request.header_count, err);
    return code == IBK_OK ? ibk_http_request_validate(&request, err) : code;
}

/* one beat */

static struct beat *beat_new(void)
{
    struct beat *beat = ibk_alloc(sizeof *beat);
    if (beat != NULL) {
        ibk_params_init(&beat->headers);
        ibk_signing_init(&beat->signing);
    }
    return beat;
}

static void beat_free(struct beat *beat)
{
    if (beat != NULL) {
        ibk_params_clean(&beat->headers);
        ibk_signing_clean(&beat->signing);
        ibk_free(beat);
    }
}

static ibk_code sign(const struct ibk_keepalive *keepalive, struct beat *beat, struct ibk_error *err)
{
    char timestamp[24];
    int64_t now_ms = keepalive->has_clock ? ibk_clock_steady_ms() + keepalive->offset_ms : ibk_clock_wall_ms();
    (void)snprintf(timestamp, sizeof timestamp, "%lld", (long long)(now_ms / 1000));
    beat->signing.method = ibk_buf_peek(&keepalive->method);
    beat->signing.url = ibk_buf_peek(&keepalive->url);
    beat->signing.timestamp = ibk_span_text(timestamp);
    ibk_code code = ibk_signer_sign(keepalive->signer, &beat->signing, err);
    return code == IBK_OK ? ibk_params_add_text(&beat->headers, "Authorization", ibk_buf_peek(&beat->signing.header), err) : code;
}

/* With the lock held. */
static ibk_code fill(struct ibk_keepalive *keepalive, struct beat *beat, struct ibk_http_request *request, struct ibk_error *err)
{
    ibk_code code = ibk_params_add_all(&beat->headers, &keepalive->headers, err);
    if (code == IBK_OK && keepalive->signer != NULL) {
        code = sign(keepalive, beat, err);
    }
    if (code == IBK_OK) {
        code = list_headers(&beat->headers, beat->list, &request->header_count, err);
    }
    request->headers = beat->list;
    request->method = ibk_buf_peek(&keepalive->method);
    request->url = ibk_buf_peek(&keepalive->url);
    request->repeatable = true;
    request->timeout_ms = keepalive->timeout_ms;
    return code;
}

static ibk_code prepare(void *context, struct ibk_http_request *request, struct ibk_error *err)
{
    struct ibk_keepalive *keepalive = context;
    beat_free(keepalive->beat); /* of one that was stopped under way */
    keepalive->beat = beat_new();
    lock(keepalive);
    keepalive->beat_round = keepalive->round;
    ibk_code code =
        keepalive->beat != NULL ? fill(keepalive, keepalive->beat, request, err) : ibk_fail_memory(err, "ibk_keepalive");
    unlock(keepalive);
    return code;
}

static bool is_good(const struct ibk_outcome *outcome)
{
    return outcome != NULL && outcome->code == IBK_OK && outcome->response.status >= 200 && outcome->response.status < 300;
}

static bool is_maintenance(const struct ibk_outcome *outcome)
{
    long status = outcome != NULL && outcome->code == IBK_OK ? outcome->response.status : 0;
    return status >= 502 && status <= 504;
}

/* How long to wait for the next beat after one that ended so; counts it. With the lock held. */
static int64_t judge(struct ibk_keepalive *keepalive, const struct ibk_outcome *outcome)
{
    int64_t wait_ms = keepalive->interval_ms;
    keepalive->status.sent++;
    if (is_good(outcome)) {
        keepalive->status.good++;
        keepalive->status.failures = 0;
        keepalive->last_good_ms = ibk_clock_steady_ms();
        keepalive->retry_ms = keepalive->backoff_ms;
        return wait_ms;
    }
    keepalive->status.failures++;
    if (!is_maintenance(outcome)) {
        wait_ms = keepalive->retry_ms;
        keepalive->retry_ms = wait_ms < keepalive->interval_ms / 2 ? 2 * wait_ms : keepalive->interval_ms;
    }
    return wait_ms;
}

static int64_t finished(void *context, struct ibk_outcome *outcome)
{
    struct ibk_keepalive *keepalive = context;
    beat_free(keepalive->beat);
    keepalive->beat = NULL;
    lock(keepalive);
    bool counts = keepalive->running && keepalive->beat_round == keepalive->round;
    int64_t wait_ms = spread(keepalive, counts ? judge(keepalive, outcome) : keepalive->interval_ms);
    if (counts && outcome != NULL) {
        outcome->key = keepalive->key;
        ibk_mailbox_put(keepalive->mailbox, outcome);
        outcome = NULL;
    }
    bool running = keepalive->running;
    unlock(keepalive);
    ibk_outcomes_free(outcome);
    return running ? wait_ms : -1;
}

static void destroy(void *context)
{
    struct ibk_keepalive *keepalive = context;
    beat_free(keepalive->beat);
    ibk_params_clean(&keepalive->headers);
    ibk_signer_release(keepalive->signer);
    ibk_buf_clean(&keepalive->method);
    ibk_buf_clean(&keepalive->url);
    ibk_mailbox_release(keepalive->mailbox);
    ibk_mutex_clean(&keepalive->lock);
    ibk_free(keepalive);
}

/* the owner's side */

static ibk_code check_times(const struct ibk_keepalive_options *options, struct ibk_error *err)
{
    const struct {
        const char *name;
        int64_t ms;
    } times[] = {{"interval_ms", options->interval_ms}, {"backoff_ms", options->backoff_ms}, {"timeout_ms", options->timeout_ms}};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        if (times[i].ms <= 0 || times[i].ms > MAX_MS) {
            return ibk_fail(err, IBK_E_ARGUMENT, "ibk_keepalive_new", "%s must be above 0 and at most %lld, not %lld",
                            times[i].name, (long long)MAX_MS, (long long)times[i].ms);
        }
    }
    return IBK_OK;
}

static ibk_code copy_options(struct ibk_keepalive *keepalive, const struct ibk_keepalive_options *options, struct ibk_error *err)
{
    ibk_buf_put(&keepalive->method, options->method);
    ibk_buf_put(&keepalive->url, options->url);
    ibk_code code = check_times(options, err);
    if (code == IBK_OK) {
        code = ibk_buf_check(&keepalive->method, "method", err);
    }
    if (code == IBK_OK) {
        code = ibk_buf_check(&keepalive->url, "URL", err);
    }
    if (code == IBK_OK) {
        code = ibk_params_add_all(&keepalive->headers, options->headers, err);
    }
    if (code == IBK_OK) {
        code = check_request(keepalive, &keepalive->headers, err);
    }
    if (code == IBK_OK) {
        code = ibk_random((uint8_t *)&keepalive->random, sizeof keepalive->random, err);
    }
    keepalive->random |= 1; /* xorshift never leaves 0 */
    return code;
}

ibk_code ibk_keepalive_new(struct ibk_engine_client *client, const struct ibk_keepalive_options *options,
                           struct ibk_keepalive **out, struct ibk_error *err)
{
    static const struct ibk_engine_hooks hooks = {.prepare = prepare, .finished = finished, .release = destroy};
    *out = NULL;
    struct ibk_keepalive *keepalive = ibk_alloc(sizeof *keepalive);
    if (keepalive == NULL) {
        return ibk_fail_memory(err, __func__);
    }
    *keepalive = (struct ibk_keepalive){.pid = ibk_process_id(),
                                        .client = client,
                                        .key = options->key,
                                        .interval_ms = options->interval_ms,
                                        .backoff_ms = options->backoff_ms < options->interval_ms ? options->backoff_ms
                                                                                                 : options->interval_ms,
                                        .timeout_ms = options->timeout_ms};
    ibk_buf_init(&keepalive->method, MAX_METHOD);
    ibk_buf_init(&keepalive->url, IBK_URL_MAX_SIZE);
    ibk_params_init(&keepalive->headers);
    keepalive->mailbox = ibk_mailbox_acquire(ibk_engine_client_mailbox(client));
    ibk_code code = ibk_mutex_init(&keepalive->lock) ? copy_options(keepalive, options, err) : ibk_fail_memory(err, __func__);
    if (code == IBK_OK) {
        code = ibk_engine_task_new(client, &hooks, keepalive, &keepalive->task, err);
    }
    if (code != IBK_OK) {
        destroy(keepalive);
        return code;
    }
    *out = keepalive;
    return IBK_OK;
}

void ibk_keepalive_free(struct ibk_keepalive *keepalive)
{
    if (keepalive != NULL && keepalive->pid == ibk_process_id()) {
        ibk_keepalive_stop(keepalive);
        ibk_engine_task_free(keepalive->task); /* which calls destroy */
    }
}

/* Takes over the caller's reference to the signer. With the lock held; returns the signer of before, to be released. */
static struct ibk_signer *set_running(struct ibk_keepalive *keepalive, bool running, struct ibk_signer *signer)
{
    struct ibk_signer *before = keepalive->signer;
    keepalive->signer = signer;
    keepalive->running = running;
    keepalive->round++;
    keepalive->retry_ms = keepalive->backoff_ms;
    ibk_mailbox_retract(keepalive->mailbox, keepalive->key);
    return before;
}

ibk_code ibk_keepalive_start(struct ibk_keepalive *keepalive, struct ibk_signer *signer, struct ibk_error *err)
{
    ibk_code code = check_process(keepalive, __func__, err);
    if (code != IBK_OK) {
        return code;
    }
    lock(keepalive);
    if (!keepalive->running || ibk_engine_client_is_closed(keepalive->client)) { /* the latter says why not */
        code = ibk_engine_task_schedule(keepalive->task, spread(keepalive, keepalive->interval_ms), err);
    }
    struct ibk_signer *before = code == IBK_OK ? set_running(keepalive, true, ibk_signer_acquire(signer)) : NULL;
    unlock(keepalive);
    ibk_signer_release(before);
    return code;
}

void ibk_keepalive_stop(struct ibk_keepalive *keepalive)
{
    if (keepalive->pid != ibk_process_id()) {
        return;
    }
    lock(keepalive);
    ibk_engine_task_stop(keepalive->task);
    struct ibk_signer *before = set_running(keepalive, false, NULL);
    unlock(keepalive);
    ibk_signer_release(before);
}

ibk_code ibk_keepalive_set_headers(struct ibk_keepalive *keepalive, const struct ibk_params *headers, struct ibk_error *err)
{
    struct ibk_params copy;
    ibk_params_init(&copy);
    ibk_code code = check_process(keepalive, __func__, err);
    if (code == IBK_OK) {
        code = check_request(keepalive, headers, err);
    }
    if (code == IBK_OK) {
        code = ibk_params_add_all(&copy, headers, err);
    }
    if (code == IBK_OK) {
        lock(keepalive);
        struct ibk_params old = keepalive->headers;
        keepalive->headers = copy;
        unlock(keepalive);
        copy = old;
    }
    ibk_params_clean(&copy);
    return code;
}

ibk_code ibk_keepalive_set_clock(struct ibk_keepalive *keepalive, const int64_t *offset_ms, struct ibk_error *err)
{
    ibk_code code = check_process(keepalive, __func__, err);
    if (code == IBK_OK) {
        lock(keepalive);
        keepalive->has_clock = offset_ms != NULL;
        keepalive->offset_ms = offset_ms != NULL ? *offset_ms : 0;
        unlock(keepalive);
    }
    return code;
}

ibk_code ibk_keepalive_beat(struct ibk_keepalive *keepalive, struct ibk_error *err)
{
    ibk_code code = check_process(keepalive, __func__, err);
    if (code != IBK_OK) {
        return code;
    }
    lock(keepalive);
    if (keepalive->running) {
        code = ibk_engine_task_schedule(keepalive->task, 0, err);
    }
    unlock(keepalive);
    return code;
}

ibk_code ibk_keepalive_look(struct ibk_keepalive *keepalive, struct ibk_keepalive_status *out, struct ibk_error *err)
{
    ibk_code code = check_process(keepalive, __func__, err);
    if (code == IBK_OK) {
        bool closed = ibk_engine_client_is_closed(keepalive->client);
        lock(keepalive);
        *out = keepalive->status;
        out->running = keepalive->running && !closed;
        out->since_last_good_ms = out->good > 0 ? ibk_clock_steady_ms() - keepalive->last_good_ms : -1;
        unlock(keepalive);
    }
    return code;
}
