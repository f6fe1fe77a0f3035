/* engine_thread.c - what the engine's thread does: libcurl's sockets and times, tasks that are due, outcomes into mailboxes. */
#include "engine_internal.h"

#include <limits.h>

#define SWEEP_US 100000 /* how often to look for requests whose time is up before they got a connection */
#define MIN_ROOM 64u    /* sockets to poll */

/* sockets */

static bool make_room(struct ibk_engine *engine, size_t room)
{
    size_t size;
    if (room <= engine->polled_room) {
        return true;
    }
    ibk_polled *polled = ibk_mul_size(room, sizeof *polled, &size) ? ibk_alloc(size) : NULL;
    ibk_polled *ready = polled != NULL ? ibk_alloc(size) : NULL;
    if (ready == NULL) {
        ibk_free(polled);
        return false;
    }
    if (engine->polled_count > 0) {
        memcpy(polled, engine->polled, engine->polled_count * sizeof *polled);
    }
    if (engine->ready_count > 0) { /* they may be being served */
        memcpy(ready, engine->ready, engine->ready_count * sizeof *ready);
    }
    ibk_free(engine->polled);
    ibk_free(engine->ready);
    engine->polled = polled;
    engine->ready = ready;
    engine->polled_room = room;
    return true;
}

static void stop_polling(struct ibk_engine *engine, int fd)
{
    for (size_t i = 1; i < engine->polled_count; i++) {
        if (engine->polled[i].fd == fd) {
            engine->polled[i] = engine->polled[--engine->polled_count];
            return;
        }
    }
}

static void poll_for(struct ibk_engine *engine, int fd, short events)
{
    for (size_t i = 1; i < engine->polled_count; i++) {
        if (engine->polled[i].fd == fd) {
            engine->polled[i].events = events;
            return;
        }
    }
    /* Room was made when the transfer began. Where it was not enough and there is no more, the transfer times out. */
    if (engine->polled_count < engine->polled_room || make_room(engine, 2 * engine->polled_room)) {
        engine->polled[engine->polled_count++] = (ibk_polled){.fd = fd, .events = events};
    }
}

/* libcurl says what it waits for. */
static int on_interest(CURL *easy, curl_socket_t fd, int what, void *context, void *unused)
{
    static const short events[] = {
        [CURL_POLL_IN] = POLLIN, [CURL_POLL_OUT] = POLLOUT, [CURL_POLL_INOUT] = POLLIN | POLLOUT, [CURL_POLL_REMOVE] = 0};
    (void)easy;
    (void)unused;
    if (what == CURL_POLL_REMOVE) {
        stop_polling(context, fd);
    } else {
        poll_for(context, fd, events[what]);
    }
    return 0;
}

static void serve_socket(struct ibk_engine *engine, const ibk_polled *ready)
{
    int flags = 0;
    int running;
    if ((ready->revents & POLLNVAL) != 0) {
        stop_polling(engine, ready->fd); /* closed without a word */
        flags = CURL_CSELECT_ERR;
    }
    if ((ready->revents & (POLLIN | POLLHUP)) != 0) {
        flags |= CURL_CSELECT_IN;
    }
    if ((ready->revents & POLLOUT) != 0) {
        flags |= CURL_CSELECT_OUT;
    }
    if ((ready->revents & POLLERR) != 0) {
        flags |= CURL_CSELECT_ERR;
    }
    (void)curl_multi_socket_action(engine->multi, ready->fd, flags, &running);
}

/* jobs */

static void take_out(struct ibk_engine *engine, struct ibk_job *job)
{
    if (job->in_multi) {
        (void)curl_multi_remove_handle(engine->multi, job->handle.easy); /* closes where the answer is not complete */
        job->in_multi = false;
    }
}

/* A cancelled one. */
static void clear_away(struct ibk_engine *engine, struct ibk_job *job)
{
    take_out(engine, job);
    ibk_http_handle_abandon(&job->handle);
    ibk_engine_lock();
    if (job->task != NULL && job->task->job == job) { /* its client was closed */
        job->task->job = NULL;
        job->task->state = IBK_TASK_IDLE;
    }
    ibk_engine_unlock();
    ibk_job_give_back(job);
}

static void clear_away_dropped(struct ibk_engine *engine)
{
    for (;;) {
        ibk_engine_lock();
        struct ibk_job *job = ibk_jobs_pop(&engine->dropped);
        ibk_engine_unlock();
        if (job == NULL) {
            return;
        }
        clear_away(engine, job);
    }
}

/* The task says when it wants to run again, unless somebody has said so, or stopped it, meanwhile. */
static void finish_task(struct ibk_engine *engine, struct ibk_engine_task *task, struct ibk_outcome *outcome)
{
    int64_t delay_ms = task->hooks.finished(task->context, outcome);
    ibk_engine_lock();
    if (task->state == IBK_TASK_FINISHING) {
        task->state = IBK_TASK_IDLE;
        if (delay_ms >= 0 && !task->client->closed && !engine->stopping) {
            task->due_us = ibk_clock_us() + delay_ms * 1000;
            ibk_tasks_insert(engine, task);
        }
    }
    ibk_engine_unlock();
}

/* The outcome is filled. Where the job was cancelled meanwhile, it is with those that were dropped. */
static void deliver(struct ibk_engine *engine, struct ibk_job *job)
{
    struct ibk_outcome *outcome = job->outcome;
    ibk_engine_lock();
    bool wanted = job->list == &engine->running;
    if (wanted) {
        ibk_jobs_remove(job);
        job->outcome = NULL;
        if (job->task == NULL) {
            ibk_mailbox_put(job->client->mailbox, outcome);
        } else {
            job->task->job = NULL;
            job->task->state = IBK_TASK_FINISHING;
        }
    }
    ibk_engine_unlock();
    if (wanted) {
        if (job->task != NULL) {
            finish_task(engine, job->task, outcome);
        }
        ibk_job_give_back(job);
    }
}

static void finish(struct ibk_engine *engine, struct ibk_job *job, CURLcode result)
{
    job->outcome->code = ibk_http_handle_end(&job->handle, result, &job->outcome->error);
    deliver(engine, job);
}

static void begin(struct ibk_engine *engine, struct ibk_job *job)
{
    /* Two sockets for addresses that are tried at once, one for the resolver. */
    size_t sockets = engine->polled_count + 3;
    bool added = make_room(engine, sockets < MIN_ROOM ? MIN_ROOM : sockets + sockets / 2) &&
                 curl_multi_add_handle(engine->multi, job->handle.easy) == CURLM_OK;
    if (added) {
        job->in_multi = true;
        job->handle.transfer.started = true;
    } else {
        finish(engine, job, CURLE_OUT_OF_MEMORY);
    }
}

/* Nothing was written to the kept connection, since it had ended. In the time that is left, on a connection of its own. */
static bool try_fresh(struct ibk_engine *engine, struct ibk_job *job)
{
    struct ibk_transfer *transfer = &job->handle.transfer;
    long left_ms = job->request.timeout_ms - (long)((ibk_clock_us() - transfer->started_us) / 1000);
    job->fresh = true;
    transfer->found_dead = false;
    job->handle.curl_text[0] = '\0';
    if (curl_easy_setopt(job->handle.easy, CURLOPT_FRESH_CONNECT, 1L) != CURLE_OK ||
        curl_easy_setopt(job->handle.easy, CURLOPT_TIMEOUT_MS, left_ms > 0 ? left_ms : 1L) != CURLE_OK) {
        return false;
    }
    begin(engine, job);
    return true;
}

static void collect_finished(struct ibk_engine *engine)
{
    int left;
    for (const CURLMsg *message; (message = curl_multi_info_read(engine->multi, &left)) != NULL;) {
        struct ibk_http_handle *handle = NULL;
        CURLcode result = message->data.result;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&handle);
        if (message->msg != CURLMSG_DONE || handle == NULL) {
            continue;
        }
        struct ibk_job *job = handle->owner;
        take_out(engine, job);
        if (!job->handle.transfer.found_dead || job->fresh || !try_fresh(engine, job)) {
            finish(engine, job, result);
        }
    }
}

/* libcurl keeps no time for a request that waits until one of the connections to its host is free; for all others it does. */
static bool is_overdue(const struct ibk_job *job, int64_t now_us)
{
    const struct ibk_transfer *transfer = &job->handle.transfer;
    return !transfer->opened && !transfer->written &&
           (now_us - transfer->started_us - SWEEP_US) / 1000 >= job->request.timeout_ms;
}

static struct ibk_job *find_overdue(const struct ibk_engine *engine, int64_t now_us)
{
    struct ibk_job *job = engine->running.first;
    while (job != NULL && !is_overdue(job, now_us)) {
        job = job->next;
    }
    return job;
}

static bool is_crowded(const struct ibk_engine *engine)
{
    return engine->running.count > IBK_MAX_PER_HOST;
}

static void sweep(struct ibk_engine *engine)
{
    int64_t now_us = ibk_clock_us();
    while (now_us - engine->swept_us >= SWEEP_US) {
        ibk_engine_lock();
        struct ibk_job *job = is_crowded(engine) ? find_overdue(engine, now_us) : NULL;
        ibk_engine_unlock();
        if (job == NULL) {
            engine->swept_us = now_us;
            return;
        }
        take_out(engine, job);
        job->handle.transfer.queued = true;
        finish(engine, job, CURLE_OPERATION_TIMEDOUT);
    }
}

/* tasks */

/* The outcome of a task whose request could not even begin; NULL where there is no memory for it. */
static struct ibk_outcome *failed_start(const struct ibk_error *err)
{
    struct ibk_outcome *outcome = ibk_outcome_new(0, true);
    if (outcome != NULL) {
        outcome->code = err->code;
        outcome->error = *err;
    }
    return outcome;
}

/* False where it was stopped meanwhile. */
static bool enlist(struct ibk_engine *engine, struct ibk_engine_task *task, struct ibk_job *job)
{
    ibk_engine_lock();
    bool wanted = task->state == IBK_TASK_RUNNING && !task->client->closed;
    if (wanted) {
        task->job = job;
        ibk_jobs_append(&engine->running, job);
    } else {
        ibk_jobs_append(&engine->dropped, job);
    }
    ibk_engine_unlock();
    return wanted;
}

/* False where it was stopped meanwhile. */
static bool may_finish(struct ibk_engine_task *task)
{
    ibk_engine_lock();
    bool wanted = task->state == IBK_TASK_RUNNING;
    if (wanted) {
        task->state = IBK_TASK_FINISHING;
    }
    ibk_engine_unlock();
    return wanted;
}

/* The caller has counted a reference to the task, which the job takes over. */
static void run_task(struct ibk_engine *engine, struct ibk_engine_task *task)
{
    struct ibk_error err;
    struct ibk_http_request request = {.method = {NULL, 0}};
    ibk_code code = task->hooks.prepare(task->context, &request, &err);
    struct ibk_job *job = code == IBK_OK ? ibk_job_take(task->client, &err) : NULL;
    if (job != NULL) {
        code = ibk_job_fill(job, 0, true, &request, &err);
        if (code == IBK_OK) {
            job->task = task;
            if (enlist(engine, task, job)) {
                begin(engine, job);
            }
            return;
        }
        ibk_job_give_back(job);
    }
    if (may_finish(task)) {
        finish_task(engine, task, failed_start(&err));
    }
    ibk_engine_task_release(task);
}

static struct ibk_engine_task *pop_due(struct ibk_engine *engine, int64_t now_us)
{
    struct ibk_engine_task *task = engine->waiting_first;
    if (task == NULL || task->due_us > now_us || engine->stopping) {
        return NULL;
    }
    ibk_tasks_remove(engine, task);
    task->state = IBK_TASK_RUNNING;
    atomic_fetch_add_explicit(&task->references, 1, memory_order_relaxed);
    return task;
}

static void run_due_tasks(struct ibk_engine *engine)
{
    int64_t now_us = ibk_clock_us();
    for (;;) {
        ibk_engine_lock();
        struct ibk_engine_task *task = pop_due(engine, now_us);
        ibk_engine_unlock();
        if (task == NULL) {
            return;
        }
        run_task(engine, task);
    }
}

/* the loop */

static void begin_incoming(struct ibk_engine *engine)
{
    for (;;) {
        ibk_engine_lock();
        struct ibk_job *job = engine->incoming.first;
        if (job != NULL) {
            ibk_jobs_append(&engine->running, job);
        }
        ibk_engine_unlock();
        if (job == NULL) {
            return;
        }
        begin(engine, job);
    }
}

static int64_t libcurl_waits_ms(struct ibk_engine *engine)
{
    long timeout_ms = -1;
    (void)curl_multi_timeout(engine->multi, &timeout_ms);
    return timeout_ms;
}

static int sooner(int64_t a_ms, int64_t b_ms)
{
    int64_t least = a_ms < 0 || (b_ms >= 0 && b_ms < a_ms) ? b_ms : a_ms;
    return least < INT_MAX ? (int)least : INT_MAX;
}

/* How long to sleep, in milliseconds; -1: until woken. Says that the thread sleeps from now on. */
static int fall_asleep(struct ibk_engine *engine)
{
    int64_t timeout_ms = libcurl_waits_ms(engine);
    int64_t now_us = ibk_clock_us();
    ibk_engine_lock();
    if (is_crowded(engine)) {
        timeout_ms = sooner(timeout_ms, SWEEP_US / 1000);
    }
    if (engine->waiting_first != NULL) {
        int64_t task_ms = (engine->waiting_first->due_us - now_us + 999) / 1000;
        timeout_ms = sooner(timeout_ms, task_ms > 0 ? task_ms : 0);
    }
    if (engine->incoming.first != NULL || engine->dropped.first != NULL || engine->stopping) {
        timeout_ms = 0;
    }
    engine->asleep = timeout_ms != 0;
    ibk_engine_unlock();
    return sooner(timeout_ms, -1);
}

/* What is ready is copied, since libcurl changes its mind about what to poll while it is served. */
static void sleep_and_wake(struct ibk_engine *engine)
{
    int timeout_ms = fall_asleep(engine);
    ibk_engine_exit();
    int count = ibk_poll(engine->polled, engine->polled_count, timeout_ms);
    ibk_engine_enter();
    ibk_engine_lock();
    engine->asleep = false;
    ibk_engine_unlock();
    engine->ready_count = 0;
    for (size_t i = 0; count > 0 && i < engine->polled_count; i++) {
        if (engine->polled[i].revents != 0) {
            engine->ready[engine->ready_count++] = engine->polled[i];
        }
    }
}

static void serve(struct ibk_engine *engine)
{
    int running;
    for (size_t i = 0; i < engine->ready_count; i++) {
        ibk_polled end = engine->ready[i]; /* the list may move */
        if (end.fd == engine->wake.read_end) {
            ibk_wake_clear(&engine->wake);
        } else {
            serve_socket(engine, &end);
        }
    }
    if (libcurl_waits_ms(engine) == 0) {
        (void)curl_multi_socket_action(engine->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
}

static bool is_stopping(struct ibk_engine *engine)
{
    ibk_engine_lock();
    bool stopping = engine->stopping;
    if (stopping) {
        ibk_engine_drop_all(engine, NULL);
    }
    ibk_engine_unlock();
    return stopping;
}

static void close_everything(struct ibk_engine *engine)
{
    clear_away_dropped(engine);
    for (;;) {
        ibk_engine_lock();
        struct ibk_job *job = ibk_jobs_pop(&engine->pool);
        ibk_engine_unlock();
        if (job == NULL) {
            break;
        }
        ibk_job_free(job);
    }
    (void)curl_multi_cleanup(engine->multi);
    ibk_http_forget_openssl_errors();
}

void *ibk_engine_run(void *argument)
{
    struct ibk_engine *engine = argument;
    ibk_engine_enter();
    while (!is_stopping(engine)) {
        clear_away_dropped(engine);
        begin_incoming(engine);
        run_due_tasks(engine);
        sleep_and_wake(engine);
        serve(engine);
        collect_finished(engine);
        sweep(engine);
        ibk_http_forget_openssl_errors();
    }
    close_everything(engine);
    ibk_engine_exit();
    return NULL;
}

ibk_code ibk_engine_set_up(struct ibk_engine *engine, struct ibk_error *err)
{
    engine->multi = curl_multi_init();
    if (engine->multi == NULL) {
        return ibk_fail_memory(err, "ibk_engine_client_new");
    }
    if (curl_multi_setopt(engine->multi, CURLMOPT_SOCKETFUNCTION, on_interest) != CURLM_OK ||
        curl_multi_setopt(engine->multi, CURLMOPT_SOCKETDATA, engine) != CURLM_OK ||
        curl_multi_setopt(engine->multi, CURLMOPT_MAXCONNECTS, (long)IBK_MAX_IDLE) != CURLM_OK ||
        curl_multi_setopt(engine->multi, CURLMOPT_MAX_HOST_CONNECTIONS, (long)IBK_MAX_PER_HOST) != CURLM_OK) {
        return ibk_http_setup_fail(CURLE_UNKNOWN_OPTION, "ibk_engine_client_new", err);
    }
    ibk_code code = ibk_sockets_init(&engine->sockets, err);
    if (code == IBK_OK && !make_room(engine, MIN_ROOM)) {
        code = ibk_fail_memory(err, "ibk_engine_client_new");
    }
    if (code == IBK_OK) {
        code = ibk_wake_init(&engine->wake, err);
    }
    if (code == IBK_OK) {
        engine->polled[engine->polled_count++] = (ibk_polled){.fd = engine->wake.read_end, .events = POLLIN};
    }
    return code;
}

void ibk_engine_clear(struct ibk_engine *engine)
{
    if (engine->polled_count > 0) {
        ibk_wake_clean(&engine->wake);
    }
    ibk_free(engine->polled);
    ibk_free(engine->ready);
    ibk_sockets_clean(&engine->sockets);
}
