/*
 * engine_internal.h - what the files of the engine share.
 *
 * One lock guards all that callers and the engine's thread both touch; it is held for moments only, never inside libcurl,
 * OpenSSL or a hook. Mailboxes have locks of their own, taken after it.
 */
#ifndef IBK_ENGINE_INTERNAL_H
#define IBK_ENGINE_INTERNAL_H

#include "http_internal.h"

#include "ibk/engine.h"

#define IBK_MAX_PER_HOST 128 /* connections to one host; more requests wait for a free one */
#define IBK_MAX_IDLE 128     /* kept connections of a process */
#define IBK_MAX_POOLED 64    /* idle easy handles of a process */
#define IBK_NEVER INT64_MAX

struct ibk_job_list {
    struct ibk_job *first;
    struct ibk_job *last;
    size_t count;
};

/* One request on its way, and the easy handle for it. */
struct ibk_job {
    struct ibk_http_handle handle;
    struct ibk_job *next; /* in a list of the engine's; guarded by the lock, as are the next two */
    struct ibk_job *previous;
    struct ibk_job_list *list;
    struct ibk_engine_client *client; /* held; NULL in the pool */
    struct ibk_engine_task *task;     /* held; NULL for what was submitted */
    struct ibk_http_request request;  /* points into copy */
    uint8_t *copy;
    struct ibk_outcome *outcome;
    bool in_multi;
    bool fresh; /* it found its kept connection dead, and is on its second try */
};

struct ibk_engine_client {
    atomic_size_t references;
    long pid;
    struct ibk_http_settings settings;
    struct ibk_mailbox *mailbox;
    bool closed; /* guarded by the lock */
};

struct ibk_engine_task {
    atomic_size_t references;
    struct ibk_engine_client *client; /* held */
    struct ibk_engine_hooks hooks;
    void *context;
    /* guarded by the lock: */
    enum {
        IBK_TASK_IDLE,
        IBK_TASK_WAITING,  /* until due_us */
        IBK_TASK_RUNNING,  /* its request is made or under way */
        IBK_TASK_FINISHING /* it hears of the end of that */
    } state;
    int64_t due_us;
    struct ibk_engine_task *next; /* in engine->waiting */
    struct ibk_engine_task *previous;
    struct ibk_job *job; /* under way */
};

struct ibk_engine {
    /* the thread's own: */
    CURLM *multi;
    struct ibk_sockets sockets;
    ibk_polled *polled; /* [0] is the wake-up */
    ibk_polled *ready;  /* of the last poll */
    size_t polled_count;
    size_t ready_count;
    size_t polled_room; /* of both */
    int64_t swept_us;
    /* set once: */
    ibk_thread thread;
    struct ibk_wake wake;
    /* guarded by the lock: */
    struct ibk_job_list incoming;          /* submitted, not yet seen by the thread */
    struct ibk_job_list running;           /* the thread has them */
    struct ibk_job_list dropped;           /* cancelled; the thread is to clear them away */
    struct ibk_job_list pool;              /* idle, the least recently used first */
    struct ibk_engine_task *waiting_first; /* by time */
    struct ibk_engine_task *waiting_last;
    size_t clients;
    bool asleep; /* polling, or about to */
    bool stopping;
};

/* engine_process.c */
void ibk_engine_lock(void);
void ibk_engine_unlock(void);
/* The engine of this process, or NULL; with the lock held. */
struct ibk_engine *ibk_engine_current(void);
/* Counts a client in or out. The first one starts the engine, the last one ends it. */
ibk_code ibk_engine_join(struct ibk_error *err) IBK_MUST_USE;
void ibk_engine_leave(struct ibk_engine_client *client);
/* Around all work of the thread but its sleep: fork waits for the end of it. */
void ibk_engine_enter(void);
void ibk_engine_exit(void);

/* engine_thread.c. What set_up made before it failed, clear takes; run takes multi along. */
ibk_code ibk_engine_set_up(struct ibk_engine *engine, struct ibk_error *err) IBK_MUST_USE;
void *ibk_engine_run(void *engine);
void ibk_engine_clear(struct ibk_engine *engine);

/* engine.c. Those that say so are called with the lock held. */
void ibk_jobs_append(struct ibk_job_list *list, struct ibk_job *job);           /* held; takes it out of its list first */
void ibk_jobs_remove(struct ibk_job *job);                                      /* held */
struct ibk_job *ibk_jobs_pop(struct ibk_job_list *list);                        /* held; NULL where it is empty */
void ibk_engine_nudge(struct ibk_engine *engine);                               /* held; wakes the thread if it sleeps */
void ibk_tasks_insert(struct ibk_engine *engine, struct ibk_engine_task *task); /* held; task->due_us is set */
void ibk_tasks_remove(struct ibk_engine *engine, struct ibk_engine_task *task); /* held */
/* All that is under way for the client, or for everybody where it is NULL; held. */
void ibk_engine_drop_all(struct ibk_engine *engine, const struct ibk_engine_client *client);
void ibk_engine_task_release(struct ibk_engine_task *task);

/* A handle for the client's next request; NULL with *err filled. */
struct ibk_job *ibk_job_take(struct ibk_engine_client *client, struct ibk_error *err);
/* Copies the request and hands it to the easy handle. */
ibk_code ibk_job_fill(struct ibk_job *job, int64_t key, bool latest, const struct ibk_http_request *request,
                      struct ibk_error *err) IBK_MUST_USE;
/* The job is in no list and no multi handle. */
void ibk_job_give_back(struct ibk_job *job);
void ibk_job_free(struct ibk_job *job);

#endif
