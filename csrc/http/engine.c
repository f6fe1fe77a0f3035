/* engine.c - the callers' side of the engine: clients, requests, and when tasks are due. */
#include "engine_internal.h"

/* lists */

void ibk_jobs_remove(struct ibk_job *job)
{
    struct ibk_job_list *list = job->list;
    if (list == NULL) {
        return;
    }
    *(job->previous != NULL ? &job->previous->next : &list->first) = job->next;
    *(job->next != NULL ? &job->next->previous : &list->last) = job->previous;
    list->count--;
    job->next = NULL;
    job->previous = NULL;
    job->list = NULL;
}

void ibk_jobs_append(struct ibk_job_list *list, struct ibk_job *job)
{
    ibk_jobs_remove(job);
    job->list = list;
    job->previous = list->last;
    *(list->last != NULL ? &list->last->next : &list->first) = job;
    list->last = job;
    list->count++;
}

struct ibk_job *ibk_jobs_pop(struct ibk_job_list *list)
{
    struct ibk_job *job = list->first;
    if (job != NULL) {
        ibk_jobs_remove(job);
    }
    return job;
}

/* From the end, since most tasks have the same interval. */
void ibk_tasks_insert(struct ibk_engine *engine, struct ibk_engine_task *task)
{
    struct ibk_engine_task *before = engine->waiting_last;
    while (before != NULL && before->due_us > task->due_us) {
        before = before->previous;
    }
    task->state = IBK_TASK_WAITING;
    task->previous = before;
    task->next = before != NULL ? before->next : engine->waiting_first;
    *(before != NULL ? &before->next : &engine->waiting_first) = task;
    *(task->next != NULL ? &task->next->previous : &engine->waiting_last) = task;
}

void ibk_tasks_remove(struct ibk_engine *engine, struct ibk_engine_task *task)
{
    *(task->previous != NULL ? &task->previous->next : &engine->waiting_first) = task->next;
    *(task->next != NULL ? &task->next->previous : &engine->waiting_last) = task->previous;
    task->next = NULL;
    task->previous = NULL;
    task->state = IBK_TASK_IDLE;
}

void ibk_engine_nudge(struct ibk_engine *engine)
{
    if (engine->asleep) {
        engine->asleep = false;
        ibk_wake_raise(&engine->wake);
    }
}

static void drop(struct ibk_engine *engine, struct ibk_job *job)
{
    ibk_jobs_append(&engine->dropped, job);
    ibk_engine_nudge(engine);
}

/* How many. With a NULL client all, else the client's, with a key only those submitted under it. */
static size_t drop_from(struct ibk_engine *engine, struct ibk_job_list *list, const struct ibk_engine_client *client,
                        const int64_t *key)
{
    size_t dropped = 0;
    for (struct ibk_job *job = list->first, *next; job != NULL; job = next) {
        next = job->next;
        if ((client == NULL || job->client == client) && (key == NULL || (job->task == NULL && job->outcome->key == *key))) {
            drop(engine, job);
            dropped++;
        }
    }
    return dropped;
}

void ibk_engine_drop_all(struct ibk_engine *engine, const struct ibk_engine_client *client)
{
    (void)drop_from(engine, &engine->incoming, client, NULL);
    (void)drop_from(engine, &engine->running, client, NULL);
    for (struct ibk_engine_task *task = engine->waiting_first, *next; task != NULL; task = next) {
        next = task->next;
        if (client == NULL || task->client == client) {
            ibk_tasks_remove(engine, task);
        }
    }
}

/* clients */

static ibk_code check_process(const struct ibk_engine_client *client, const char *where, struct ibk_error *err)
{
    return client->pid == ibk_process_id()
               ? IBK_OK
               : ibk_fail(err, IBK_E_FORKED, where, "the client was made by process %ld, before a fork", client->pid);
}

static ibk_code refuse_closed(struct ibk_error *err)
{
    return ibk_fail(err, IBK_E_CANCELLED, "ibk_engine_submit", "the client is closed");
}

ibk_code ibk_engine_client_new(const struct ibk_http_options *options, struct ibk_mailbox *mailbox,
                               struct ibk_engine_client **out, struct ibk_error *err)
{
    *out = NULL;
    ibk_code code = ibk_http_global_init(err);
    if (code != IBK_OK) {
        return code;
    }
    struct ibk_engine_client *client = ibk_alloc(sizeof *client);
    if (client == NULL) {
        return ibk_fail_memory(err, __func__);
    }
    memset(client, 0, sizeof *client);
    atomic_init(&client->references, 1);
    client->pid = ibk_process_id();
    client->mailbox = ibk_mailbox_acquire(mailbox);
    code = ibk_http_settings_init(&client->settings, options, err);
    if (code == IBK_OK) {
        code = ibk_engine_join(err);
    }
    if (code != IBK_OK) {
        ibk_engine_client_release(client);
        return code;
    }
    *out = client;
    return IBK_OK;
}

struct ibk_engine_client *ibk_engine_client_acquire(struct ibk_engine_client *client)
{
    if (client != NULL) {
        atomic_fetch_add_explicit(&client->references, 1, memory_order_relaxed);
    }
    return client;
}

void ibk_engine_client_release(struct ibk_engine_client *client)
{
    if (client == NULL || client->pid != ibk_process_id() ||
        atomic_fetch_sub_explicit(&client->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    ibk_mailbox_release(client->mailbox);
    ibk_http_settings_clean(&client->settings);
    ibk_free(client);
}

void ibk_engine_client_close(struct ibk_engine_client *client)
{
    if (client != NULL && client->pid == ibk_process_id()) {
        ibk_engine_leave(client);
    }
}

bool ibk_engine_client_is_closed(struct ibk_engine_client *client)
{
    if (client->pid != ibk_process_id()) {
        return true;
    }
    ibk_engine_lock();
    bool closed = client->closed || ibk_engine_current() == NULL;
    ibk_engine_unlock();
    return closed;
}

struct ibk_mailbox *ibk_engine_client_mailbox(const struct ibk_engine_client *client)
{
    return client->mailbox;
}

/* jobs */

void ibk_job_free(struct ibk_job *job)
{
    ibk_http_handle_clean(&job->handle);
    ibk_free(job);
}

static struct ibk_job *make_job(struct ibk_engine_client *client, struct ibk_sockets *sockets, struct ibk_error *err)
{
    struct ibk_job *job = ibk_alloc(sizeof *job);
    if (job == NULL) {
        (void)ibk_fail_memory(err, "ibk_engine_submit");
        return NULL;
    }
    memset(job, 0, sizeof *job);
    ibk_code code = ibk_http_handle_init(&job->handle, &client->settings, sockets, err);
    if (code == IBK_OK) {
        job->handle.shares_connections = true;
        job->handle.owner = job;
        return job;
    }
    ibk_job_free(job);
    return NULL;
}

/* A pooled handle of this client, the one used last first. With the lock held. */
static struct ibk_job *find_pooled(const struct ibk_engine *engine, const struct ibk_engine_client *client)
{
    struct ibk_job *job = engine->pool.last;
    while (job != NULL && job->handle.settings != &client->settings) {
        job = job->previous;
    }
    return job;
}

struct ibk_job *ibk_job_take(struct ibk_engine_client *client, struct ibk_error *err)
{
    ibk_engine_lock();
    struct ibk_engine *engine = client->closed ? NULL : ibk_engine_current();
    struct ibk_job *job = engine != NULL ? find_pooled(engine, client) : NULL;
    if (job != NULL) {
        ibk_jobs_remove(job);
    }
    ibk_engine_unlock();
    if (engine == NULL) {
        (void)refuse_closed(err);
        return NULL;
    }
    if (job == NULL) {
        job = make_job(client, &engine->sockets, err);
    }
    if (job != NULL) {
        job->client = ibk_engine_client_acquire(client);
    }
    return job;
}

/* Into one block of memory, that libcurl borrows while the request is under way. */
static ibk_code copy_request(struct ibk_job *job, const struct ibk_http_request *request, struct ibk_error *err)
{
    size_t size;
    if (!ibk_add_size(request->method.len, request->url.len, &size) || !ibk_add_size(size, request->body.len, &size) ||
        (job->copy = ibk_alloc(size)) == NULL) {
        return ibk_fail_memory(err, "ibk_engine_submit");
    }
    uint8_t *next = job->copy;
    ibk_span *const parts[] = {&job->request.method, &job->request.url, &job->request.body};
    job->request = *request;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i]->data != NULL) {
            memcpy(next, parts[i]->data, parts[i]->len);
            parts[i]->data = next;
            next += parts[i]->len;
        }
    }
    return IBK_OK;
}

ibk_code ibk_job_fill(struct ibk_job *job, int64_t key, bool latest, const struct ibk_http_request *request,
                      struct ibk_error *err)
{
    job->outcome = ibk_outcome_new(key, latest);
    if (job->outcome == NULL) {
        return ibk_fail_memory(err, "ibk_engine_submit");
    }
    ibk_code code = copy_request(job, request, err);
    if (code == IBK_OK) {
        code = ibk_http_handle_begin(&job->handle, &job->request, &job->outcome->response, err);
    }
    job->request.headers = NULL; /* the caller's; libcurl has its own copy */
    return code;
}

/* Whether the pool has it now; the one that had to go for it, or NULL, is put into *evicted. */
static bool to_pool(struct ibk_job *job, const struct ibk_engine_client *client, struct ibk_job **evicted)
{
    ibk_engine_lock();
    struct ibk_engine *engine = ibk_engine_current();
    bool pooled = engine != NULL && !client->closed;
    *evicted = pooled && engine->pool.count >= IBK_MAX_POOLED ? ibk_jobs_pop(&engine->pool) : NULL;
    if (pooled) {
        ibk_jobs_append(&engine->pool, job);
    }
    ibk_engine_unlock();
    return pooled;
}

void ibk_job_give_back(struct ibk_job *job)
{
    struct ibk_engine_client *client = job->client;
    struct ibk_engine_task *task = job->task;
    struct ibk_job *evicted;

    ibk_outcomes_free(job->outcome);
    ibk_free(job->copy);
    job->outcome = NULL;
    job->copy = NULL;
    job->client = NULL;
    job->task = NULL;
    if (job->fresh) {
        job->fresh = false;
        (void)curl_easy_setopt(job->handle.easy, CURLOPT_FRESH_CONNECT, 0L);
    }
    if (!to_pool(job, client, &evicted)) {
        ibk_job_free(job);
    }
    if (evicted != NULL) {
        ibk_job_free(evicted);
    }
    ibk_engine_client_release(client);
    if (task != NULL) {
        ibk_engine_task_release(task);
    }
}

/* requests */

static ibk_code launch(struct ibk_job *job, struct ibk_error *err)
{
    ibk_engine_lock();
    struct ibk_engine *engine = job->client->closed ? NULL : ibk_engine_current();
    if (engine != NULL) {
        ibk_jobs_append(&engine->incoming, job);
        ibk_engine_nudge(engine);
    }
    ibk_engine_unlock();
    return engine != NULL ? IBK_OK : refuse_closed(err);
}

ibk_code ibk_engine_submit(struct ibk_engine_client *client, int64_t key, const struct ibk_http_request *request,
                           struct ibk_error *err)
{
    struct ibk_error unread;
    err = err != NULL ? err : &unread;
    ibk_code code = check_process(client, __func__, err);
    if (code != IBK_OK) {
        return code;
    }
    struct ibk_job *job = ibk_job_take(client, err);
    if (job == NULL) {
        return err->code;
    }
    code = ibk_job_fill(job, key, false, request, err);
    if (code == IBK_OK) {
        code = launch(job, err);
    }
    if (code != IBK_OK) {
        ibk_http_handle_abandon(&job->handle);
        ibk_job_give_back(job);
    }
    return code;
}

ibk_code ibk_engine_cancel(struct ibk_engine_client *client, int64_t key, bool *out, struct ibk_error *err)
{
    size_t dropped = 0;
    *out = false;
    ibk_code code = check_process(client, __func__, err);
    if (code != IBK_OK) {
        return code;
    }
    ibk_engine_lock();
    struct ibk_engine *engine = ibk_engine_current();
    if (engine != NULL) {
        dropped = drop_from(engine, &engine->incoming, client, &key) + drop_from(engine, &engine->running, client, &key);
    }
    ibk_engine_unlock();
    *out = dropped > 0;
    return IBK_OK;
}

/* tasks */

ibk_code ibk_engine_task_new(struct ibk_engine_client *client, const struct ibk_engine_hooks *hooks, void *context,
                             struct ibk_engine_task **out, struct ibk_error *err)
{
    *out = NULL;
    struct ibk_engine_task *task = ibk_alloc(sizeof *task);
    if (task == NULL) {
        return ibk_fail_memory(err, __func__);
    }
    *task = (struct ibk_engine_task){.hooks = *hooks, .context = context};
    atomic_init(&task->references, 1);
    task->client = ibk_engine_client_acquire(client);
    *out = task;
    return IBK_OK;
}

void ibk_engine_task_release(struct ibk_engine_task *task)
{
    if (atomic_fetch_sub_explicit(&task->references, 1, memory_order_acq_rel) == 1) {
        task->hooks.release(task->context);
        ibk_engine_client_release(task->client);
        ibk_free(task);
    }
}

ibk_code ibk_engine_task_schedule(struct ibk_engine_task *task, int64_t delay_ms, struct ibk_error *err)
{
    ibk_code code = check_process(task->client, __func__, err);
    if (code != IBK_OK) {
        return code;
    }
    ibk_engine_lock();
    struct ibk_engine *engine = task->client->closed ? NULL : ibk_engine_current();
    if (engine != NULL && task->state != IBK_TASK_RUNNING) {
        if (task->state == IBK_TASK_WAITING) {
            ibk_tasks_remove(engine, task);
        }
        task->due_us = ibk_clock_us() + delay_ms * 1000;
        ibk_tasks_insert(engine, task);
        if (engine->waiting_first == task) {
            ibk_engine_nudge(engine);
        }
    }
    ibk_engine_unlock();
    return engine != NULL ? IBK_OK : refuse_closed(err);
}

void ibk_engine_task_stop(struct ibk_engine_task *task)
{
    if (task->client->pid != ibk_process_id()) {
        return;
    }
    ibk_engine_lock();
    struct ibk_engine *engine = ibk_engine_current();
    if (engine != NULL && task->state == IBK_TASK_WAITING) {
        ibk_tasks_remove(engine, task);
    }
    if (engine != NULL && task->job != NULL) {
        drop(engine, task->job);
        task->job = NULL;
    }
    task->state = IBK_TASK_IDLE;
    ibk_engine_unlock();
}

void ibk_engine_task_free(struct ibk_engine_task *task)
{
    if (task != NULL && task->client->pid == ibk_process_id()) {
        ibk_engine_task_stop(task);
        ibk_engine_task_release(task);
    }
}
