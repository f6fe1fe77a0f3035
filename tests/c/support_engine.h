/*
 * support_engine.h - what the tests of the engine add to the bench of support_http.h: a mailbox, a client of the engine, and
 * what came out of the mailbox.
 */
#ifndef IBK_TEST_SUPPORT_ENGINE_H
#define IBK_TEST_SUPPORT_ENGINE_H

#include "ibk/engine.h"
#include "support_http.h"

#define MAX_TAKEN 1024

struct desk {
    struct ibk_mailbox *mailbox;
    struct ibk_engine_client *client;
    struct ibk_outcome *taken[MAX_TAKEN]; /* in the order of taking, each with next == NULL */
    size_t count;
};
extern struct desk desk;

/* A test that gives back memory, descriptors and the engine's thread. */
#define engine_test(function) cmocka_unit_test_setup_teardown(function, begin_engine, end_engine)
int begin_engine(void **state);
int end_engine(void **state);

/* Starts a server (as in support_http.h) and, with bench.options, a mailbox and a client. */
void open_desk(struct server_setup setup);
#define OPEN_DESK(script) open_desk((struct server_setup){.steps = (script), .step_count = COUNT(script)})
/* The client alone; the one of before is closed. */
void new_engine_client(void);
void close_engine_client(void);

/* Submits to bench.server with bench.timeout_ms; body NULL for none. */
ibk_code submit(int64_t key, const char *method, const char *target, const char *body, bool repeatable);
ibk_code submit_get(int64_t key, const char *target);
ibk_code submit_post(int64_t key, const char *target);
bool cancel(int64_t key);

/* Waits until so many have been taken in all, for 30 seconds at most. */
void take_until(size_t count);
/* Takes what is there after that time. */
void take_after(unsigned int ms);
void forget_taken(void);
/* The one taken under this key; fails the test where there is none or more than one. */
const struct ibk_outcome *taken(int64_t key);
/* Its error as `err`, for the assertions on that; fails the test where it is a response. */
void look_at_error(int64_t key);
/* How the request ended: take_until the next outcome, which has this key, and look at it; err is its error. */
ibk_code ended(int64_t key);
/* Waits until the server has seen the start of so many requests. */
void await_requests(size_t count);
/* Waits until the server has closed every connection. */
void await_closed_connections(void);

#endif
