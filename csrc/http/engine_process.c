/* engine_process.c - one engine for each process: its start and end, fork, and exit. */
#include "engine_internal.h"

#include <stdlib.h>

/*
 * Taken in this order. `door` is held while the engine starts or ends. Its thread holds `inside` but for its sleep, and goes
 * through `gate` on its way in, so that a fork that waits for `inside` gets it next.
 */
static ibk_mutex door = IBK_MUTEX_INIT;
static ibk_mutex gate = IBK_MUTEX_INIT;
static ibk_mutex inside = IBK_MUTEX_INIT;
static ibk_mutex lock = IBK_MUTEX_INIT;

static struct ibk_engine *current; /* guarded by lock; changed with door held as well */
static bool exiting;               /* guarded by door */
static ibk_once once = IBK_ONCE_INIT;
static bool hooked; /* by fork and exit; false: no memory */

void ibk_engine_lock(void)
{
    ibk_mutex_lock(&lock);
}

void ibk_engine_unlock(void)
{
    ibk_mutex_unlock(&lock);
}

void ibk_engine_enter(void)
{
    ibk_mutex_lock(&gate);
    ibk_mutex_lock(&inside);
    ibk_mutex_unlock(&gate);
}

void ibk_engine_exit(void)
{
    ibk_mutex_unlock(&inside);
}

struct ibk_engine *ibk_engine_current(void)
{
    return current;
}

int ibk_engine_threads(void)
{
    ibk_engine_lock();
    int threads = current != NULL ? 1 : 0;
    ibk_engine_unlock();
    return threads;
}

/* With door held, after `current` was set to NULL. */
static void end(struct ibk_engine *engine)
{
    ibk_thread_join(engine->thread);
    ibk_engine_clear(engine);
    ibk_free(engine);
}

/* The thread leaves libcurl and OpenSSL before it lets a fork happen, so the child finds none of their locks taken. */
static void before_fork(void)
{
    ibk_mutex_lock(&door);
    ibk_mutex_lock(&gate);
    ibk_mutex_lock(&inside);
    ibk_mutex_lock(&lock);
}

static void after_fork(void)
{
    ibk_mutex_unlock(&lock);
    ibk_mutex_unlock(&inside);
    ibk_mutex_unlock(&gate);
    ibk_mutex_unlock(&door);
}

/* The parent's engine is abandoned with all it has: its sockets are the parent's too. */
static void after_fork_in_child(void)
{
    current = NULL;
    after_fork();
}

static struct ibk_engine *take_current(void)
{
    ibk_engine_lock();
    struct ibk_engine *engine = current;
    current = NULL;
    if (engine != NULL) {
        engine->stopping = true;
        ibk_engine_nudge(engine);
    }
    ibk_engine_unlock();
    return engine;
}

static void at_exit(void)
{
    ibk_mutex_lock(&door);
    exiting = true;
    struct ibk_engine *engine = take_current();
    if (engine != NULL) {
        end(engine);
    }
    ibk_mutex_unlock(&door);
}

/* libcurl has started OpenSSL, whose own cleaning up at exit was thereby registered before ours, and so comes after it. */
static void hook_process(void)
{
    hooked = ibk_process_on_fork(before_fork, after_fork, after_fork_in_child) && atexit(at_exit) == 0;
}

static struct ibk_engine *start(struct ibk_error *err)
{
    struct ibk_engine *engine = ibk_alloc(sizeof *engine);
    if (engine == NULL) {
        (void)ibk_fail_memory(err, "ibk_engine_client_new");
        return NULL;
    }
    memset(engine, 0, sizeof *engine);
    ibk_code code = ibk_engine_set_up(engine, err);
    if (code == IBK_OK && !ibk_thread_start(&engine->thread, ibk_engine_run, engine)) {
        code = ibk_fail(err, IBK_E_LIMIT, "ibk_engine_client_new", "no thread to be had (too many processes and threads?)");
    }
    if (code != IBK_OK) {
        (void)curl_multi_cleanup(engine->multi);
        ibk_engine_clear(engine);
        ibk_free(engine);
        return NULL;
    }
    return engine;
}

/* With door held. */
static ibk_code join(struct ibk_error *err)
{
    struct ibk_error unread;
    err = err != NULL ? err : &unread;
    if (exiting) {
        return ibk_fail(err, IBK_E_CANCELLED, "ibk_engine_client_new", "the process is about to end");
    }
    struct ibk_engine *engine = current != NULL ? current : start(err);
    if (engine == NULL) {
        return err->code;
    }
    ibk_engine_lock();
    current = engine;
    engine->clients++;
    ibk_engine_unlock();
    return IBK_OK;
}

ibk_code ibk_engine_join(struct ibk_error *err)
{
    ibk_once_run(&once, hook_process);
    if (!hooked) {
        return ibk_fail_memory(err, "ibk_engine_client_new");
    }
    ibk_mutex_lock(&door);
    ibk_code code = join(err);
    ibk_mutex_unlock(&door);
    return code;
}

/* The client's idle handles, chained by `next`. With the lock held. */
static struct ibk_job *take_pooled(struct ibk_engine *engine, const struct ibk_engine_client *client)
{
    struct ibk_job *taken = NULL;
    for (struct ibk_job *job = engine->pool.first, *next; job != NULL; job = next) {
        next = job->next;
        if (job->handle.settings == &client->settings) {
            ibk_jobs_remove(job);
            job->next = taken;
            taken = job;
        }
    }
    return taken;
}

/* Whether it was the last one of the engine's. With door held. */
static bool leave(struct ibk_engine_client *client, struct ibk_job **pooled)
{
    ibk_engine_lock();
    bool last = false;
    if (!client->closed && current != NULL) {
        ibk_engine_drop_all(current, client);
        *pooled = take_pooled(current, client);
        last = --current->clients == 0;
    }
    client->closed = true;
    ibk_engine_unlock();
    return last;
}

void ibk_engine_leave(struct ibk_engine_client *client)
{
    struct ibk_job *pooled = NULL;
    ibk_mutex_lock(&door);
    if (leave(client, &pooled)) {
        end(take_current());
    }
    ibk_mutex_unlock(&door);
    while (pooled != NULL) {
        struct ibk_job *next = pooled->next;
        ibk_job_free(pooled);
        pooled = next;
    }
}
