/* mailbox.c - where what the engine has finished waits for its taker. */
#include "http_internal.h"

#include "ibk/mailbox.h"

#define TICK_MS 50 /* how long a wait goes on before it asks the hook */

struct ibk_mailbox {
    atomic_size_t references;
    long pid;
    ibk_mutex lock; /* everything below */
    struct ibk_outcome *first;
    struct ibk_outcome **end; /* where the next one is hung */
    bool woken;               /* somebody wants a wait to end */
    bool has_bell;
    bool rung; /* the bell's descriptor is readable */
    struct ibk_wake bell;
};

struct ibk_outcome *ibk_outcome_new(int64_t key, bool latest)
{
    struct ibk_outcome *outcome = ibk_alloc(sizeof *outcome);
    if (outcome != NULL) {
        memset(outcome, 0, sizeof *outcome);
        outcome->key = key;
        outcome->latest = latest;
    }
    return outcome;
}

void ibk_outcomes_free(struct ibk_outcome *list)
{
    while (list != NULL) {
        struct ibk_outcome *next = list->next;
        ibk_http_response_clean(&list->response);
        ibk_free(list);
        list = next;
    }
}

ibk_code ibk_mailbox_new(struct ibk_mailbox **out, struct ibk_error *err)
{
    *out = NULL;
    struct ibk_mailbox *mailbox = ibk_alloc(sizeof *mailbox);
    if (mailbox == NULL) {
        return ibk_fail_memory(err, __func__);
    }
    *mailbox = (struct ibk_mailbox){.pid = ibk_process_id()};
    atomic_init(&mailbox->references, 1);
    mailbox->end = &mailbox->first;
    if (!ibk_mutex_init(&mailbox->lock)) {
        ibk_free(mailbox);
        return ibk_fail_memory(err, __func__);
    }
    *out = mailbox;
    return IBK_OK;
}

struct ibk_mailbox *ibk_mailbox_acquire(struct ibk_mailbox *mailbox)
{
    if (mailbox != NULL) {
        atomic_fetch_add_explicit(&mailbox->references, 1, memory_order_relaxed);
    }
    return mailbox;
}

void ibk_mailbox_release(struct ibk_mailbox *mailbox)
{
    /* In a forked child another thread of the parent's may have been in the middle of something: it is abandoned. */
    if (mailbox == NULL || mailbox->pid != ibk_process_id() ||
        atomic_fetch_sub_explicit(&mailbox->references, 1, memory_order_acq_rel) != 1) {
        return;
    }
    ibk_outcomes_free(mailbox->first);
    if (mailbox->has_bell) {
        ibk_wake_clean(&mailbox->bell);
    }
    ibk_mutex_clean(&mailbox->lock);
    ibk_free(mailbox);
}

/* The descriptor follows what there is to take. Called with the lock held after each change. */
static void ring(struct ibk_mailbox *mailbox)
{
    bool wanted = mailbox->first != NULL || mailbox->woken;
    if (!mailbox->has_bell || wanted == mailbox->rung) {
        return;
    }
    mailbox->rung = wanted;
    if (wanted) {
        ibk_wake_raise(&mailbox->bell);
    } else {
        ibk_wake_clear(&mailbox->bell);
    }
}

static ibk_code check_process(const struct ibk_mailbox *mailbox, const char *where, struct ibk_error *err)
{
    return mailbox->pid == ibk_process_id()
               ? IBK_OK
               : ibk_fail(err, IBK_E_FORKED, where, "the mailbox was made by process %ld, before a fork", mailbox->pid);
}

ibk_code ibk_mailbox_descriptor(struct ibk_mailbox *mailbox, int *out, struct ibk_error *err)
{
    ibk_code code = check_process(mailbox, __func__, err);
    *out = -1;
    if (code != IBK_OK) {
        return code;
    }
    ibk_mutex_lock(&mailbox->lock);
    if (!mailbox->has_bell) {
        code = ibk_wake_init(&mailbox->bell, err);
        mailbox->has_bell = code == IBK_OK;
        ring(mailbox);
    }
    if (code == IBK_OK) {
        *out = mailbox->bell.read_end;
    }
    ibk_mutex_unlock(&mailbox->lock);
    return code;
}

/* Everything, with the lock held. */
static struct ibk_outcome *empty(struct ibk_mailbox *mailbox)
{
    struct ibk_outcome *list = mailbox->first;
    mailbox->first = NULL;
    mailbox->end = &mailbox->first;
    return list;
}

ibk_code ibk_mailbox_take(struct ibk_mailbox *mailbox, struct ibk_outcome **out, struct ibk_error *err)
{
    *out = NULL;
    ibk_code code = check_process(mailbox, __func__, err);
    if (code != IBK_OK) {
        return code;
    }
    ibk_mutex_lock(&mailbox->lock);
    *out = empty(mailbox);
    mailbox->woken = false;
    ring(mailbox);
    ibk_mutex_unlock(&mailbox->lock);
    return IBK_OK;
}

/* Whether the wait is over. A wake-up stays for the next wait where there was something to take. */
static bool take_what_is_there(struct ibk_mailbox *mailbox, struct ibk_outcome **out)
{
    ibk_mutex_lock(&mailbox->lock);
    *out = empty(mailbox);
    bool over = *out != NULL || mailbox->woken;
    if (*out == NULL) {
        mailbox->woken = false;
    }
    ring(mailbox);
    ibk_mutex_unlock(&mailbox->lock);
    return over;
}

/* Milliseconds to poll: until the deadline, rounded up, but no longer than a tick. */
static int poll_time(int64_t deadline_us)
{
    if (deadline_us < 0) {
        return TICK_MS;
    }
    int64_t left_ms = (deadline_us - ibk_clock_us() + 999) / 1000;
    if (left_ms <= 0) {
        return 0;
    }
    return left_ms < TICK_MS ? (int)left_ms : TICK_MS;
}

ibk_code ibk_mailbox_wait(struct ibk_mailbox *mailbox, int64_t timeout_ms, const struct ibk_http_hooks *hooks,
                          struct ibk_outcome **out, struct ibk_error *err)
{
    int64_t start_us = ibk_clock_us();
    bool for_ever = timeout_ms < 0 || timeout_ms > (INT64_MAX - start_us) / 1000;
    int64_t deadline_us = for_ever ? -1 : start_us + timeout_ms * 1000;
    ibk_polled bell = {.events = POLLIN};
    *out = NULL;
    ibk_code code = ibk_mailbox_descriptor(mailbox, &bell.fd, err);
    if (code != IBK_OK) {
        return code;
    }
    while (!take_what_is_there(mailbox, out)) {
        int time_ms = poll_time(deadline_us);
        if (time_ms == 0) {
            return IBK_OK;
        }
        if (ibk_poll(&bell, 1, time_ms) <= 0 && hooks != NULL && hooks->interrupt != NULL &&
            hooks->interrupt(hooks->context) != 0) {
            return ibk_fail(err, IBK_E_INTERRUPTED, __func__, "interrupted while waiting");
        }
    }
    return IBK_OK;
}

void ibk_mailbox_wake(struct ibk_mailbox *mailbox)
{
    if (mailbox->pid == ibk_process_id()) {
        ibk_mutex_lock(&mailbox->lock);
        mailbox->woken = true;
        ring(mailbox);
        ibk_mutex_unlock(&mailbox->lock);
    }
}

/* Where an outcome hangs that a later one replaces, or NULL. Called with the lock held. */
static struct ibk_outcome **find_latest(struct ibk_mailbox *mailbox, int64_t key)
{
    for (struct ibk_outcome **place = &mailbox->first; *place != NULL; place = &(*place)->next) {
        if ((*place)->latest && (*place)->key == key) {
            return place;
        }
    }
    return NULL;
}

static void cut_out(struct ibk_mailbox *mailbox, struct ibk_outcome **place)
{
    struct ibk_outcome *old = *place;
    *place = old->next;
    if (old->next == NULL) {
        mailbox->end = place;
    }
    old->next = NULL;
    ibk_outcomes_free(old);
}

static void retract(struct ibk_mailbox *mailbox, int64_t key)
{
    struct ibk_outcome **place = find_latest(mailbox, key);
    if (place != NULL) {
        cut_out(mailbox, place);
    }
}

void ibk_mailbox_put(struct ibk_mailbox *mailbox, struct ibk_outcome *outcome)
{
    outcome->next = NULL;
    ibk_mutex_lock(&mailbox->lock);
    if (outcome->latest) {
        retract(mailbox, outcome->key);
    }
    *mailbox->end = outcome;
    mailbox->end = &outcome->next;
    ring(mailbox);
    ibk_mutex_unlock(&mailbox->lock);
}

void ibk_mailbox_put_back(struct ibk_mailbox *mailbox, struct ibk_outcome *list)
{
    struct ibk_outcome **end = &list;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    ibk_mutex_lock(&mailbox->lock);
    if (mailbox->first == NULL) {
        mailbox->end = list != NULL ? end : &mailbox->first;
    }
    *end = mailbox->first;
    mailbox->first = list;
    ring(mailbox);
    ibk_mutex_unlock(&mailbox->lock);
}

void ibk_mailbox_retract(struct ibk_mailbox *mailbox, int64_t key)
{
    ibk_mutex_lock(&mailbox->lock);
    retract(mailbox, key);
    ring(mailbox);
    ibk_mutex_unlock(&mailbox->lock);
}
