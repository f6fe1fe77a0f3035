/*
 * keepalive.h - keeps a session alive from the engine's thread, whatever the rest of the process does: a request every so
 * often, signed anew each time.
 *
 * Threads may share one. In a forked child it gives IBK_E_FORKED, and is abandoned.
 */
#ifndef IBK_KEEPALIVE_H
#define IBK_KEEPALIVE_H

#include "ibk/engine.h"
#include "ibk/params.h"
#include "ibk/signer.h"

struct ibk_keepalive_options {
    int64_t key;     /* under which outcomes are put into the client's mailbox: the latest one until somebody takes it */
    ibk_span method; /* sending it twice does no harm */
    ibk_span url;
    const struct ibk_params *headers;
    int64_t interval_ms; /* from the end of one beat to the next, less up to 5 %, so that many do not beat as one */
    /*
     * The same after the first failure in a row (no answer, or a status other than 2xx); it doubles with each, up to
     * interval_ms. After 502, 503 and 504, which a maintenance gives, it is interval_ms at once.
     */
    int64_t backoff_ms;
    long timeout_ms; /* of one beat */
};

struct ibk_keepalive;

/* Sends nothing before it is started. It holds the client, and stops where that is closed. */
ibk_code ibk_keepalive_new(struct ibk_engine_client *client, const struct ibk_keepalive_options *options,
                           struct ibk_keepalive **out, struct ibk_error *err) IBK_MUST_USE;
/* Stops it. Accepts NULL. */
void ibk_keepalive_free(struct ibk_keepalive *keepalive);

/*
 * The first beat is due after an interval. `signer` is held; NULL: unsigned, for sessions that live in a header. Where it runs
 * already, only the signer changes: at once, for what a beat under way with the old one gives is left out of account, as is
 * what such a one left in the mailbox.
 */
ibk_code ibk_keepalive_start(struct ibk_keepalive *keepalive, struct ibk_signer *signer, struct ibk_error *err) IBK_MUST_USE;
/* Nothing is put into the mailbox any more, and what was there is taken out. May be called again. */
void ibk_keepalive_stop(struct ibk_keepalive *keepalive);

/* For the next beat on. Copied. */
ibk_code ibk_keepalive_set_headers(struct ibk_keepalive *keepalive, const struct ibk_params *headers, struct ibk_error *err)
    IBK_MUST_USE;
/* The server's clock for timestamps: ibk_clock_steady_ms() plus this many milliseconds. NULL: the wall clock. */
ibk_code ibk_keepalive_set_clock(struct ibk_keepalive *keepalive, const int64_t *offset_ms, struct ibk_error *err) IBK_MUST_USE;
/* One beat now, and the next one an interval later. Nothing where one is under way, or where it does not run. */
ibk_code ibk_keepalive_beat(struct ibk_keepalive *keepalive, struct ibk_error *err) IBK_MUST_USE;

struct ibk_keepalive_status {
    uint64_t sent;              /* beats that were tried and came to an end */
    uint64_t good;              /* those answered with 2xx */
    uint64_t failures;          /* in a row, since the last good one */
    int64_t since_last_good_ms; /* -1: there was none */
    bool running;
};
ibk_code ibk_keepalive_look(struct ibk_keepalive *keepalive, struct ibk_keepalive_status *out, struct ibk_error *err)
    IBK_MUST_USE;

#endif
