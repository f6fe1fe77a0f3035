/*
 * mailbox.h - where what the engine has finished waits for its taker.
 *
 * Threads may share one. A descriptor can be watched instead of waiting: it is readable while there is something to take, so
 * that a burst of outcomes wakes its taker once. A mailbox made before fork gives IBK_E_FORKED in the child.
 */
#ifndef IBK_MAILBOX_H
#define IBK_MAILBOX_H

#include "ibk/http.h"

/* How one request ended. */
struct ibk_outcome {
    struct ibk_outcome *next;
    int64_t key; /* what the caller named the request */
    bool latest; /* a later one of this key takes the place of this one while nobody has taken it */
    ibk_code code;
    struct ibk_http_response response; /* where code is IBK_OK */
    struct ibk_error error;            /* otherwise */
};

/* NULL where there is no memory. */
struct ibk_outcome *ibk_outcome_new(int64_t key, bool latest);
/* The whole list. Accepts NULL. */
void ibk_outcomes_free(struct ibk_outcome *list);

struct ibk_mailbox;

ibk_code ibk_mailbox_new(struct ibk_mailbox **out, struct ibk_error *err) IBK_MUST_USE;
/* Both accept NULL; acquire returns its argument. The last release frees what was not taken. */
struct ibk_mailbox *ibk_mailbox_acquire(struct ibk_mailbox *mailbox);
void ibk_mailbox_release(struct ibk_mailbox *mailbox);

/* Made at the first call, and the mailbox's until it is gone: not to be read, written or closed by others. */
ibk_code ibk_mailbox_descriptor(struct ibk_mailbox *mailbox, int *out, struct ibk_error *err) IBK_MUST_USE;

/* All there is, the oldest first, for ibk_outcomes_free; NULL for nothing. Never waits. */
ibk_code ibk_mailbox_take(struct ibk_mailbox *mailbox, struct ibk_outcome **out, struct ibk_error *err) IBK_MUST_USE;

/*
 * The same once there is something; NULL after timeout_ms (-1: for ever) and after ibk_mailbox_wake. The hook is asked at a
 * signal and about every 50 ms; other than 0 ends the wait with IBK_E_INTERRUPTED.
 */
ibk_code ibk_mailbox_wait(struct ibk_mailbox *mailbox, int64_t timeout_ms, const struct ibk_http_hooks *hooks,
                          struct ibk_outcome **out, struct ibk_error *err) IBK_MUST_USE;

/* From any thread: one wait, under way or the next, ends without anything; so does one take. */
void ibk_mailbox_wake(struct ibk_mailbox *mailbox);

/* The mailbox owns the outcome from now on. */
void ibk_mailbox_put(struct ibk_mailbox *mailbox, struct ibk_outcome *outcome);
/* Puts back what was taken last, in front of everything. */
void ibk_mailbox_put_back(struct ibk_mailbox *mailbox, struct ibk_outcome *list);
/* Frees a `latest` outcome of this key that nobody has taken. */
void ibk_mailbox_retract(struct ibk_mailbox *mailbox, int64_t key);

#endif
