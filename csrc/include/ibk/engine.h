/*
 * engine.h - one thread for each process that runs the transfers of everybody: many at once, and at their times.
 *
 * What http.h guarantees for a blocking client holds here too, with the same codes and texts. Connections are shared by all
 * clients of the process (as far as certificates and proxy agree), so a kept one is looked at in the moment before a request
 * is written to it; where it has ended meanwhile, the request goes to a fresh one.
 *
 * The thread starts with the first client and ends with the last one, or as the process exits. It knows nothing of Python and
 * has all signals blocked. After fork the child has no engine: clients made before give IBK_E_FORKED and are abandoned; the
 * first new one starts an engine of the child's own.
 */
#ifndef IBK_ENGINE_H
#define IBK_ENGINE_H

#include "ibk/mailbox.h"

struct ibk_engine_client;

/* No I/O but starting the thread. The client holds the mailbox. */
ibk_code ibk_engine_client_new(const struct ibk_http_options *options, struct ibk_mailbox *mailbox,
                               struct ibk_engine_client **out, struct ibk_error *err) IBK_MUST_USE;
/* Both accept NULL; acquire returns its argument. A client is closed before its maker releases it. */
struct ibk_engine_client *ibk_engine_client_acquire(struct ibk_engine_client *client);
void ibk_engine_client_release(struct ibk_engine_client *client);
/* Cancels all that is under way; nothing is put into the mailbox any more. May be called again. The last client's waits for
 * the thread to end, which takes a moment. */
void ibk_engine_client_close(struct ibk_engine_client *client);
/* True also in a forked child. */
bool ibk_engine_client_is_closed(struct ibk_engine_client *client);
/* Borrowed from the client. */
struct ibk_mailbox *ibk_engine_client_mailbox(const struct ibk_engine_client *client);

/*
 * Copies what the request points to and returns at once; what comes of it is put into the mailbox under `key`. A request that
 * cannot be sent is refused at once, with nothing in the mailbox: IBK_E_CANCELLED where the client is closed.
 */
ibk_code ibk_engine_submit(struct ibk_engine_client *client, int64_t key, const struct ibk_http_request *request,
                           struct ibk_error *err) IBK_MUST_USE;

/* Whether requests of this key were under way. Nothing of them will be put into the mailbox any more. */
ibk_code ibk_engine_cancel(struct ibk_engine_client *client, int64_t key, bool *out, struct ibk_error *err) IBK_MUST_USE;

/* Requests that are made on the engine's thread at their time, for instance to be signed then. */
struct ibk_engine_task;

struct ibk_engine_hooks {
    /* Called on the engine's thread. What *request points to stays valid until the next call of a hook. */
    ibk_code (*prepare)(void *context, struct ibk_http_request *request, struct ibk_error *err);
    /* Called there after a prepare, unless the task was stopped meanwhile. Owns the outcome, whose key is 0 and which is
     * NULL where there was no memory for it. Returns in how many milliseconds to prepare the next one; below 0: not until it
     * is scheduled again. */
    int64_t (*finished)(void *context, struct ibk_outcome *outcome);
    /* The last call, from any thread. */
    void (*release)(void *context);
};

/* Not scheduled yet. */
ibk_code ibk_engine_task_new(struct ibk_engine_client *client, const struct ibk_engine_hooks *hooks, void *context,
                             struct ibk_engine_task **out, struct ibk_error *err) IBK_MUST_USE;
/* Once, in delay_ms, whatever was planned before. Nothing where a request of the task is under way, since its `finished` says
 * when the next one is due. */
ibk_code ibk_engine_task_schedule(struct ibk_engine_task *task, int64_t delay_ms, struct ibk_error *err) IBK_MUST_USE;
/* Unplanned; a request that is under way is cancelled. A hook that is running goes on to its end. */
void ibk_engine_task_stop(struct ibk_engine_task *task);
/* Stops it. Accepts NULL. `release` is called now, or soon on the engine's thread. */
void ibk_engine_task_free(struct ibk_engine_task *task);

/* 1 while the thread runs in this process, else 0. */
int ibk_engine_threads(void);

#endif
