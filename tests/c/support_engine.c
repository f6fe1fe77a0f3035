/* support_engine.c - the bench of the engine's tests; see support_engine.h. */
#include "support_engine.h"

struct desk desk;

int begin_engine(void **state)
{
    desk = (struct desk){.count = 0};
    int code = begin_http(state);
    /* Much may be under way at once, on a machine that has other things to do. */
    bench.options.connect_timeout_ms = 20000;
    bench.timeout_ms = 20000;
    return code;
}

void forget_taken(void)
{
    for (size_t i = 0; i < desk.count; i++) {
        ibk_outcomes_free(desk.taken[i]);
    }
    desk.count = 0;
}

void close_engine_client(void)
{
    ibk_engine_client_close(desk.client);
    ibk_engine_client_release(desk.client);
    desk.client = NULL;
}

static void clear_desk(void)
{
    close_engine_client();
    forget_taken();
    ibk_mailbox_release(desk.mailbox);
    desk.mailbox = NULL;
}

int end_engine(void **state)
{
    clear_desk();
    if (ibk_engine_threads() != 0) {
        print_error("the engine goes on without clients\n");
        return -1;
    }
    return end_http(state);
}

void new_engine_client(void)
{
    close_engine_client();
    assert_ok(ibk_engine_client_new(&bench.options, desk.mailbox, &desk.client, &err));
}

void open_desk(struct server_setup setup)
{
    clear_desk();
    serve_with(setup);
    assert_ok(ibk_mailbox_new(&desk.mailbox, &err));
    new_engine_client();
}

ibk_code submit(int64_t key, const char *method, const char *target, const char *body, bool repeatable)
{
    struct ibk_http_request request = {
        .method = ibk_span_text(method), .url = url_of(target), .repeatable = repeatable, .timeout_ms = bench.timeout_ms};
    if (body != NULL) {
        request.body = ibk_span_text(body);
    }
    poison_error();
    return ibk_engine_submit(desk.client, key, &request, &err);
}

ibk_code submit_get(int64_t key, const char *target)
{
    return submit(key, "GET", target, NULL, true);
}

ibk_code submit_post(int64_t key, const char *target)
{
    return submit(key, "POST", target, "{\"quantity\":1}", false);
}

bool cancel(int64_t key)
{
    bool cancelled;
    assert_ok(ibk_engine_cancel(desk.client, key, &cancelled, &err));
    return cancelled;
}

static void keep(struct ibk_outcome *list)
{
    while (list != NULL) {
        struct ibk_outcome *next = list->next;
        assert_true(desk.count < MAX_TAKEN);
        list->next = NULL;
        desk.taken[desk.count++] = list;
        list = next;
    }
}

void take_until(size_t count)
{
    int64_t start = now_ms();
    while (desk.count < count) {
        struct ibk_outcome *list;
        assert_ok(ibk_mailbox_wait(desk.mailbox, 1000, NULL, &list, &err));
        keep(list);
        if (now_ms() - start > 30000) {
            fail_msg("%s%zu of %zu outcomes came", current_row(), desk.count, count);
        }
    }
}

void take_after(unsigned int ms)
{
    struct ibk_outcome *list;
    sleep_ms(ms);
    assert_ok(ibk_mailbox_take(desk.mailbox, &list, &err));
    keep(list);
}

const struct ibk_outcome *taken(int64_t key)
{
    const struct ibk_outcome *found = NULL;
    for (size_t i = 0; i < desk.count; i++) {
        if (desk.taken[i]->key == key) {
            if (found != NULL) {
                fail_msg("%stwo outcomes of request %lld", current_row(), (long long)key);
            }
            found = desk.taken[i];
        }
    }
    if (found == NULL) {
        fail_msg("%sno outcome of request %lld", current_row(), (long long)key);
    }
    return found;
}

void look_at_error(int64_t key)
{
    const struct ibk_outcome *outcome = taken(key);
    if (outcome->code == IBK_OK) {
        fail_msg("%srequest %lld was answered with %ld", current_row(), (long long)key, outcome->response.status);
    }
    err = outcome->error;
}

ibk_code ended(int64_t key)
{
    forget_taken();
    take_until(1);
    const struct ibk_outcome *outcome = taken(key);
    if (outcome->code != IBK_OK) {
        err = outcome->error;
    }
    return outcome->code;
}

void await_requests(size_t count)
{
    int64_t start = now_ms();
    while (server_requests(bench.server) < count) {
        sleep_ms(1);
        if (now_ms() - start > 30000) {
            fail_msg("%sthe server saw %zu of %zu requests", current_row(), server_requests(bench.server), count);
        }
    }
}

void await_closed_connections(void)
{
    int64_t start = now_ms();
    while (server_open_connections(bench.server) > 0) {
        sleep_ms(1);
        if (now_ms() - start > 30000) {
            fail_msg("%sthe server still has %zu connections", current_row(), server_open_connections(bench.server));
        }
    }
}
