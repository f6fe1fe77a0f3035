/*
 * test_http_refusals.c - csrc/http where libcurl or the system refuses what it mostly gives: an option, a handle, a thread; and
 * on a libcurl of another version. Functions of libcurl stand here before its own, and mostly call them.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RTLD_NEXT, pthread_setattr_default_np */
#endif
#define CURL_DISABLE_TYPECHECK
#include "../../csrc/http/http_internal.h"
#include "support_engine.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define EXCHANGES 4

/* stand-ins */

enum call {
    NOTHING,
    ATFORK,
    EASY_INIT,
    EASY_SETOPT,
    GLOBAL_INIT,
    MULTI_ADD,
    MULTI_INFO_READ,
    MULTI_INIT,
    MULTI_PERFORM,
    MULTI_POLL,
    MULTI_SETOPT,
    MULTI_SOCKET_ACTION,
    MUTEX_INIT,
    SHARE_INIT,
    SHARE_SETOPT,
    CALLS
};

/* What is to fail: one call of one function. */
static struct {
    atomic_int call;
    atomic_int only; /* of those about this option, or 0 */
    atomic_int left; /* it is this one, counted from now */
    int code;        /* what it gives, unless that is NULL; CURLE_OK where it only says that it did */
    atomic_bool happened;
    atomic_int option;   /* that it was about */
    atomic_bool started; /* libcurl already had the request */
} refusal;

static atomic_int counts[CALLS];
static atomic_int ca_files;     /* how often an easy handle was given one */
static atomic_bool started;     /* libcurl has been given a request */
static _Atomic(CURL *) latest;  /* the easy handle that it was given last */
static void (*meanwhile)(void); /* called once, while a request is handed to libcurl */

/* What curl_version_info says instead of the truth, where it says anything. */
static struct {
    unsigned int version;
    int missing; /* features */
    bool no_tls;
    bool places; /* those below, NULL included */
    char *ca_file;
    char *ca_path;
    bool findings; /* of curl_easy_getinfo, those below */
    long verdict;  /* on the server's certificate */
    long proxy_verdict;
    long os_errno;
} pretended;

static void refuse(enum call call, int nth, int code)
{
    refusal.code = code;
    atomic_store(&refusal.happened, false);
    atomic_store(&started, false);
    atomic_store(&refusal.only, 0);
    atomic_store(&refusal.left, nth);
    atomic_store(&refusal.call, call);
}

static void refuse_option(CURLoption option, int nth)
{
    refuse(EASY_SETOPT, INT_MAX, CURLE_UNKNOWN_OPTION);
    atomic_store(&refusal.only, (int)option);
    atomic_store(&refusal.left, nth);
}

/* Whether it happened. */
static bool refuse_no_more(void)
{
    atomic_store(&refusal.call, NOTHING);
    return atomic_load(&refusal.happened);
}

static bool is_refused(enum call call, int option)
{
    atomic_fetch_add(&counts[call], 1);
    int only = atomic_load(&refusal.only);
    if (atomic_load(&refusal.call) != (int)call || (only != 0 && only != option) || atomic_fetch_sub(&refusal.left, 1) != 1) {
        return false;
    }
    atomic_store(&refusal.option, option);
    atomic_store(&refusal.started, atomic_load(&started));
    atomic_store(&refusal.happened, true);
    return true;
}

/* The function that is next in line under this name. */
#define REAL(result, name, ...)          \
    union {                              \
        void *object;                    \
        result (*function)(__VA_ARGS__); \
    } real = {.object = dlsym(RTLD_NEXT, name)}

/* Every argument that these take is as large as a pointer, and passed as one is. */
_Static_assert(sizeof(long) == sizeof(void *) && sizeof(curl_off_t) == sizeof(void *), "forwarding needs 64 bits");

#undef curl_easy_setopt
CURLcode curl_easy_setopt(CURL *easy, CURLoption option, ...)
{
    REAL(CURLcode, "curl_easy_setopt", CURL *, CURLoption, ...);
    va_list arguments;
    va_start(arguments, option);
    void *value = va_arg(arguments, void *);
    va_end(arguments);
    if (is_refused(EASY_SETOPT, (int)option)) {
        return (CURLcode)refusal.code;
    }
    if (option == CURLOPT_CAINFO) {
        atomic_fetch_add(&ca_files, 1);
    }
    if (option == CURLOPT_URL && meanwhile != NULL) {
        void (*act)(void) = meanwhile;
        meanwhile = NULL;
        act();
    }
    return real.function(easy, option, value);
}

#undef curl_easy_getinfo
CURLcode curl_easy_getinfo(CURL *easy, CURLINFO info, ...)
{
    REAL(CURLcode, "curl_easy_getinfo", CURL *, CURLINFO, ...);
    va_list arguments;
    va_start(arguments, info);
    void *out = va_arg(arguments, void *);
    va_end(arguments);
    CURLcode result = real.function(easy, info, out);
    if (pretended.findings && (info == CURLINFO_SSL_VERIFYRESULT || info == CURLINFO_PROXY_SSL_VERIFYRESULT)) {
        *(long *)out = info == CURLINFO_SSL_VERIFYRESULT ? pretended.verdict : pretended.proxy_verdict;
    } else if (pretended.findings && info == CURLINFO_OS_ERRNO) {
        *(long *)out = pretended.os_errno;
    }
    return result;
}

/* What the engine gave libcurl, to be told what to poll. */
static union {
    void *object;
    curl_socket_callback function;
} on_interest;
static void *interest_context;

#undef curl_multi_setopt
CURLMcode curl_multi_setopt(CURLM *multi, CURLMoption option, ...)
{
    REAL(CURLMcode, "curl_multi_setopt", CURLM *, CURLMoption, ...);
    va_list arguments;
    va_start(arguments, option);
    void *value = va_arg(arguments, void *);
    va_end(arguments);
    if (option == CURLMOPT_SOCKETFUNCTION) {
        on_interest.object = value;
    } else if (option == CURLMOPT_SOCKETDATA) {
        interest_context = value;
    }
    return is_refused(MULTI_SETOPT, (int)option) ? (CURLMcode)refusal.code : real.function(multi, option, value);
}

CURLMcode curl_multi_socket_action(CURLM *multi, curl_socket_t fd, int events, int *running)
{
    REAL(CURLMcode, "curl_multi_socket_action", CURLM *, curl_socket_t, int, int *);
    return is_refused(MULTI_SOCKET_ACTION, 0) ? (CURLMcode)refusal.code : real.function(multi, fd, events, running);
}

#undef curl_share_setopt
CURLSHcode curl_share_setopt(CURLSH *share, CURLSHoption option, ...)
{
    REAL(CURLSHcode, "curl_share_setopt", CURLSH *, CURLSHoption, ...);
    va_list arguments;
    va_start(arguments, option);
    void *value = va_arg(arguments, void *);
    va_end(arguments);
    return is_refused(SHARE_SETOPT, (int)option) ? (CURLSHcode)refusal.code : real.function(share, option, value);
}

CURL *curl_easy_init(void)
{
    REAL(CURL *, "curl_easy_init", void);
    return is_refused(EASY_INIT, 0) ? NULL : real.function();
}

CURLM *curl_multi_init(void)
{
    REAL(CURLM *, "curl_multi_init", void);
    return is_refused(MULTI_INIT, 0) ? NULL : real.function();
}

CURLSH *curl_share_init(void)
{
    REAL(CURLSH *, "curl_share_init", void);
    return is_refused(SHARE_INIT, 0) ? NULL : real.function();
}

CURLcode curl_global_init(long flags)
{
    REAL(CURLcode, "curl_global_init", long);
    return is_refused(GLOBAL_INIT, 0) ? (CURLcode)refusal.code : real.function(flags);
}

CURLMcode curl_multi_add_handle(CURLM *multi, CURL *easy)
{
    REAL(CURLMcode, "curl_multi_add_handle", CURLM *, CURL *);
    if (is_refused(MULTI_ADD, 0)) {
        return (CURLMcode)refusal.code;
    }
    atomic_store(&started, true);
    atomic_store(&latest, easy);
    return real.function(multi, easy);
}

CURLMcode curl_multi_perform(CURLM *multi, int *running)
{
    REAL(CURLMcode, "curl_multi_perform", CURLM *, int *);
    return is_refused(MULTI_PERFORM, 0) ? (CURLMcode)refusal.code : real.function(multi, running);
}

CURLMcode curl_multi_poll(CURLM *multi, struct curl_waitfd *more, unsigned int count, int timeout_ms, int *ready)
{
    REAL(CURLMcode, "curl_multi_poll", CURLM *, struct curl_waitfd *, unsigned int, int, int *);
    return is_refused(MULTI_POLL, 0) ? (CURLMcode)refusal.code : real.function(multi, more, count, timeout_ms, ready);
}

/* Instead of what curl_multi_info_read has to tell: no end of a transfer, or that of an easy handle that is nobody's. */
enum { NO_MESSAGE, A_STRAY_MESSAGE, AN_END_OF_NOBODYS };
static CURLMsg stray;
static CURL *nobodys;

CURLMsg *curl_multi_info_read(CURLM *multi, int *left)
{
    REAL(CURLMsg *, "curl_multi_info_read", CURLM *, int *);
    if (!is_refused(MULTI_INFO_READ, 0)) {
        return real.function(multi, left);
    }
    stray.msg = refusal.code == A_STRAY_MESSAGE ? CURLMSG_NONE : CURLMSG_DONE;
    stray.easy_handle = refusal.code == A_STRAY_MESSAGE ? atomic_load(&latest) : nobodys;
    stray.data.result = CURLE_READ_ERROR;
    return refusal.code == NO_MESSAGE ? NULL : &stray;
}

curl_version_info_data *curl_version_info(CURLversion age)
{
    static curl_version_info_data changed;
    REAL(curl_version_info_data *, "curl_version_info", CURLversion);
    changed = *real.function(age);
    if (pretended.version != 0) {
        changed.version_num = pretended.version;
    }
    changed.features &= ~pretended.missing;
    if (pretended.no_tls) {
        changed.ssl_version = NULL;
    }
    if (pretended.places) {
        changed.cainfo = pretended.ca_file;
        changed.capath = pretended.ca_path;
    }
    return &changed;
}

int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    REAL(int, "pthread_mutex_init", pthread_mutex_t *, const pthread_mutexattr_t *);
    return is_refused(MUTEX_INIT, 0) ? ENOMEM : real.function(mutex, attributes);
}

/* There is no next one in line, and no need for any: this program forks before it starts libcurl, and not after. */
int pthread_atfork(void (*before)(void), void (*in_parent)(void), void (*in_child)(void))
{
    (void)before;
    (void)in_parent;
    (void)in_child;
    return is_refused(ATFORK, 0) ? ENOMEM : 0;
}

static void serve_plain_or_tls(bool tls, const struct step *steps, size_t count)
{
    serve_with(tls_setup(tls ? certificates.identity : NULL, steps, count));
}

/* libcurl is started once for each process: so these are children, and come first, while their parent has not done so. */

/* Fails where the child ends with anything but 0. */
static void assert_child_does_well(pid_t child)
{
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0) {
        fail_msg("%sthe child ended with %s %d", current_row(), WIFEXITED(status) ? "status" : "signal",
                 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    }
}

#define IN_A_CHILD(work)                \
    do {                                \
        (void)fflush(NULL);             \
        pid_t child_ = fork();          \
        if (child_ == 0) {              \
            leave_child(work);          \
        }                               \
        assert_child_does_well(child_); \
    } while (0)

/* Every way to begin is refused, and says why. 0 where that is so. */
static int begin_in_vain(ibk_code code, const char *says)
{
    struct ibk_http_client *client;
    struct ibk_engine_client *engine_client;
    const char *const words[] = {says, NULL};
    poison_error();
    const char *fault = refusal_fault(ibk_http_global_init(&err), code);
    if (fault != NULL || missing_word(words) != NULL) {
        print_error("%s%s: %s\n", current_row(), fault != NULL ? fault : "other words", err.text);
        return 1;
    }
    if (ibk_http_global_init(NULL) != code) {
        return 2;
    }
    poison_error();
    if (refusal_fault(ibk_http_client_new(&bench.options, &client, &err), code) != NULL || client != NULL) {
        return 3;
    }
    poison_error();
    bool good = refusal_fault(ibk_engine_client_new(&bench.options, NULL, &engine_client, &err), code) == NULL;
    return good && engine_client == NULL && missing_word(words) == NULL ? 0 : 4;
}

static void test_start_refused(void **state)
{
    static const struct {
        const char *name;
        unsigned int version;
        int missing;
        enum call call;
        int nth;
        int with;
        ibk_code code;
        const char *says;
    } table[] = {
        {"too old", 0x075300, 0, NOTHING, 0, 0, IBK_E_ARGUMENT, "too old: 7.84 or newer"},
        {"start-up", 0, CURL_VERSION_THREADSAFE, NOTHING, 0, 0, IBK_E_ARGUMENT, "without thread-safe start-up"},
        {"resolver", 0, CURL_VERSION_ASYNCHDNS, NOTHING, 0, 0, IBK_E_ARGUMENT, "without a resolver"},
        {"TLS", 0, CURL_VERSION_SSL, NOTHING, 0, 0, IBK_E_ARGUMENT, "without TLS"},
        {"failure", 0, 0, GLOBAL_INIT, 1, CURLE_FAILED_INIT, IBK_E_ARGUMENT, "libcurl refused"},
        {"memory", 0, 0, GLOBAL_INIT, 1, CURLE_OUT_OF_MEMORY, IBK_E_NO_MEMORY, "memory"},
        {"no say in forks", 0, 0, ATFORK, 1, 0, IBK_E_NO_MEMORY, "memory"},
        {"no share", 0x080100, 0, SHARE_INIT, 1, 0, IBK_E_NO_MEMORY, "memory"},
        {"no lock", 0x080100, 0, SHARE_SETOPT, 1, CURLSHE_NOMEM, IBK_E_NO_MEMORY, "memory"},
        {"no unlock", 0x080100, 0, SHARE_SETOPT, 2, CURLSHE_NOMEM, IBK_E_NO_MEMORY, "memory"},
        {"no sessions", 0x080100, 0, SHARE_SETOPT, 3, CURLSHE_NOT_BUILT_IN, IBK_E_NO_MEMORY, "memory"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("%s", table[i].name);
        pretended.version = table[i].version;
        pretended.missing = table[i].missing;
        refuse(table[i].call, table[i].nth, table[i].with);
        IN_A_CHILD(begin_in_vain(table[i].code, table[i].says));
    }
    pretended.version = 0;
    pretended.missing = 0;
    (void)refuse_no_more();
}

/* The engine's own say in forks is refused: there are blocking clients only. */
static int begin_without_engine(void)
{
    struct ibk_engine_client *client;
    refuse(ATFORK, 2, 0);
    new_client();
    for (int i = 0; i < 2; i++) {
        poison_error();
        const char *fault = refusal_fault(ibk_engine_client_new(&bench.options, NULL, &client, &err), IBK_E_NO_MEMORY);
        if (fault != NULL || client != NULL) {
            print_error("%s\n", fault != NULL ? fault : "there is a client");
            return 1;
        }
    }
    return get("/") == IBK_OK && ibk_engine_threads() == 0 ? 0 : 2;
}

static void test_no_engine(void **state)
{
    (void)state;
    bench.server = server_start(&(struct server_setup){.step_count = 0});
    IN_A_CHILD(begin_without_engine());
    assert_int_equal(server_requests(bench.server), 1);
}

static int say_that_there_is_no_tls(void)
{
    pretended.no_tls = true;
    pretended.missing = CURL_VERSION_SSL;
    return ibk_http_global_init(NULL) == IBK_E_ARGUMENT && strstr(ibk_http_library_version(), "without TLS") != NULL ? 0 : 1;
}

static int look_for_a_key_log(const char *name, bool expected)
{
    (void)setenv("SSLKEYLOGFILE", name, 1);
    return ibk_http_global_init(NULL) == IBK_OK && ibk_http_keys_are_logged() == expected ? 0 : 1;
}

static void test_what_is_said_of_libcurl(void **state)
{
    (void)state;
    row("no TLS");
    IN_A_CHILD(say_that_there_is_no_tls());
    row("keys are logged");
    IN_A_CHILD(look_for_a_key_log("/dev/null", true));
    row("they are not");
    IN_A_CHILD(look_for_a_key_log("", false));
}

/* 0 where the exchanges of a client took as many easy handles as they should, and so many of them were given the authorities. */
static int exchange_on(unsigned int version, bool worn, int authorities)
{
    pretended.version = version;
    new_client();
    for (int i = 0; i < EXCHANGES; i++) {
        if (get("/") != IBK_OK || bench.response.reused_connection != (i > 0)) {
            print_error("%sexchange %d: %s\n", current_row(), i, err.text);
            return 1;
        }
    }
    int easies = atomic_load(&counts[EASY_INIT]);
    bool good = worn ? easies == EXCHANGES || easies == EXCHANGES + 1 : easies == 1; /* one may be there in advance */
    if (!good || atomic_load(&ca_files) != authorities) {
        print_error("%s%d easy handles, %d times authorities\n", current_row(), easies, atomic_load(&ca_files));
        return 2;
    }
    return 0;
}

/* Up to 8.1 each answer is for an easy handle of its own. */
static void test_easy_handles_wear_out(void **state)
{
    static const struct {
        unsigned int version;
        bool tls;
        bool worn;
        int authorities;
    } table[] = {
        {0x080100, false, true, 0},
        {0x080100, true, true, EXCHANGES},
        {0x080200, false, false, 0},
        {0x080200, true, false, 1},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("%x, %s", table[i].version, table[i].tls ? "TLS" : "plain");
        bench.origin = table[i].tls ? "https://127.0.0.1" : NULL;
        bench.options.ca_file = certificates.ca_file;
        bench.server = server_start(&(struct server_setup){.tls = table[i].tls ? certificates.identity : NULL});
        IN_A_CHILD(exchange_on(table[i].version, table[i].worn, table[i].authorities));
        assert_row(server_connections(bench.server) == 1);
        server_stop(bench.server);
        bench.server = NULL;
    }
}

static int get_without_zlib(void)
{
    pretended.missing = CURL_VERSION_LIBZ;
    new_client();
    return get("/") == IBK_OK ? 0 : 1;
}

/* Nothing is asked for that could not be read. */
static void test_no_decompression(void **state)
{
    (void)state;
    bench.server = server_start(&(struct server_setup){.step_count = 0});
    IN_A_CHILD(get_without_zlib());
    ibk_span raw = server_request(bench.server, 0);
    assert_true(ibk_span_find(raw, LITERAL("\r\nUser-Agent: " USER_AGENT "\r\n")) != raw.len);
    assert_true(ibk_span_find(raw, LITERAL("Accept-Encoding")) == raw.len);
}

/* from here on this process has started libcurl */

/* What libcurl was built to look at comes before what systems mostly have. */
static void test_authorities_of_the_build(void **state)
{
    (void)state;
    for (int folder = 0; folder < 2; folder++) {
        row("%s", folder ? "folder" : "file");
        pretended.places = true;
        pretended.ca_file = folder ? NULL : certificates.ca_file;
        pretended.ca_path = folder ? certificates.ca_folder : NULL;
        serve_plain_or_tls(true, NULL, 0);
        bench.options.ca_file = NULL;
        new_client();
        ibk_code code = get("/");
        pretended.places = false;
        assert_ok(code);
    }
}

static const struct {
    int with;
    ibk_code code;
} answers[] = {{CURLE_UNKNOWN_OPTION, IBK_E_ARGUMENT}, {CURLE_OUT_OF_MEMORY, IBK_E_NO_MEMORY}};

/* CURLOPT_QUICK_EXIT is younger than the oldest libcurl that will do. */
static bool may_be_unknown(int with)
{
    return atomic_load(&refusal.option) == CURLOPT_QUICK_EXIT && with == CURLE_UNKNOWN_OPTION;
}

/* A new easy handle without the share of sessions is none. */
static ibk_code expected_of(size_t answer)
{
    return atomic_load(&refusal.option) == CURLOPT_SHARE ? IBK_E_NO_MEMORY : answers[answer].code;
}

static void assert_names_libcurl(ibk_code code)
{
    if (code == IBK_E_ARGUMENT) {
        assert_says("libcurl refused an option");
        assert_row(err.domain == IBK_DOMAIN_CURL && err.native == CURLE_UNKNOWN_OPTION);
    }
}

/* Some options are promises: with a libcurl that does not know one of them there is no client. */
static void test_options_of_a_client(void **state)
{
    (void)state;
    bench.options.proxy = "http://proxy.test";
    for (size_t i = 0; i < COUNT(answers); i++) {
        int n = 0;
        for (bool done = false; !done;) {
            struct ibk_http_client *client = NULL;
            refuse(EASY_SETOPT, ++n, answers[i].with);
            poison_error();
            ibk_code code = ibk_http_client_new(&bench.options, &client, &err);
            done = !refuse_no_more();
            row("%zu, option %d", i, atomic_load(&refusal.option));
            if (done || may_be_unknown(answers[i].with)) {
                assert_ok(code);
            } else {
                assert_failed(expected_of(i), false, code);
                assert_row(client == NULL);
                assert_names_libcurl(code);
                refuse(EASY_SETOPT, n, answers[i].with);
                assert_row(ibk_http_client_new(&bench.options, &client, NULL) == code);
                (void)refuse_no_more();
            }
            ibk_http_client_free(client);
        }
        assert_row(n > 30);
    }
}

/* Nothing is sent where libcurl did not take all of the request. What it does not take later changes nothing. */
static void test_options_of_a_request(void **state)
{
    static const struct {
        bool tls;
        const char *method;
        const char *body;
    } table[] = {{false, "POST", "x"}, {true, "GET", NULL}, {false, "HEAD", NULL}};
    (void)state;
    for (size_t i = 0; i < COUNT(answers) * COUNT(table); i++) {
        const char *method = table[i / 2].method;
        int with = answers[i % 2].with, refused = 0;
        serve_plain_or_tls(table[i / 2].tls, NULL, 0);
        for (int n = 1;; n++) {
            new_client();
            size_t before = server_requests(bench.server);
            refuse(EASY_SETOPT, n, with);
            ibk_code code = send_it(method, "/", table[i / 2].body, false);
            if (!refuse_no_more()) {
                assert_ok(code);
                break;
            }
            row("%s, %d, option %d", method, with, atomic_load(&refusal.option));
            if (atomic_load(&refusal.started)) {
                assert_ok(code);
            } else {
                assert_failed(answers[i % 2].code, false, code);
                assert_names_libcurl(code);
                assert_row(server_requests(bench.server) == before);
                refused++;
            }
            assert_usable();
        }
        assert_row(refused >= 8);
    }
}

/* The same on the engine, where the caller hears of it at once. */
static void test_options_of_a_submitted_request(void **state)
{
    (void)state;
    open_desk((struct server_setup){.step_count = 0});
    for (size_t i = 0; i < COUNT(answers); i++) {
        int refused = 0;
        for (int n = 1;; n++) {
            new_engine_client();
            refuse(EASY_SETOPT, n, answers[i].with);
            ibk_code code = submit_post(1, "/");
            if (code == IBK_OK) {
                code = ended(1);
            }
            if (!refuse_no_more()) {
                assert_ok(code);
                break;
            }
            row("%d, option %d", answers[i].with, atomic_load(&refusal.option));
            if (atomic_load(&refusal.started) || may_be_unknown(answers[i].with)) {
                assert_ok(code);
            } else {
                assert_row(code == expected_of(i) && !err.sent);
                assert_names_libcurl(code);
                refused++;
            }
            assert_ok(submit_get(2, "/"));
            assert_ok(ended(2));
        }
        assert_row(refused > 30);
    }
}

static void test_no_handles(void **state)
{
    static const struct {
        enum call call;
        int nth;
        int with;
        bool engine;
        ibk_code code;
    } table[] = {
        {EASY_INIT, 1, 0, false, IBK_E_NO_MEMORY},
        {EASY_INIT, 1, 0, true, IBK_E_NO_MEMORY},
        {MULTI_INIT, 1, 0, false, IBK_E_NO_MEMORY},
        {MULTI_INIT, 1, 0, true, IBK_E_NO_MEMORY},
        {MULTI_SETOPT, 1, CURLM_UNKNOWN_OPTION, false, IBK_E_ARGUMENT},
        {MULTI_SETOPT, 1, CURLM_UNKNOWN_OPTION, true, IBK_E_ARGUMENT},
        {MULTI_SETOPT, 2, CURLM_UNKNOWN_OPTION, true, IBK_E_ARGUMENT},
        {MULTI_SETOPT, 3, CURLM_UNKNOWN_OPTION, true, IBK_E_ARGUMENT},
        {MULTI_SETOPT, 4, CURLM_UNKNOWN_OPTION, true, IBK_E_ARGUMENT},
    };
    (void)state;
    open_desk((struct server_setup){.step_count = 0});
    for (size_t i = 0; i < COUNT(table); i++) {
        struct ibk_http_client *client = NULL;
        row("line %zu", i + 1);
        close_engine_client();
        refuse(table[i].call, table[i].nth, table[i].with);
        poison_error();
        ibk_code code;
        if (!table[i].engine) {
            code = ibk_http_client_new(&bench.options, &client, &err);
        } else {
            code = ibk_engine_client_new(&bench.options, desk.mailbox, &desk.client, &err);
            assert_row(code == IBK_OK || (desk.client == NULL && ibk_engine_threads() == 0));
            code = code == IBK_OK ? submit_get(1, "/") : code; /* its easy handle */
        }
        assert_row(refuse_no_more());
        assert_failed(table[i].code, false, code);
        assert_names_libcurl(code);
        assert_row(client == NULL);
    }
    assert_row(server_requests(bench.server) == 0);
    new_engine_client();
    assert_ok(submit_get(2, "/"));
    assert_ok(ended(2));
}

/* libcurl fails in the middle. Once the request was handed over, nobody knows what became of it. */
static void test_transfers_refused(void **state)
{
    static const struct {
        enum call call;
        int nth;
        int with;
        ibk_code code;
        ibk_code repeatable;
    } table[] = {
        {MULTI_ADD, 1, CURLM_OUT_OF_MEMORY, IBK_E_NO_MEMORY, IBK_E_NO_MEMORY},
        {MULTI_ADD, 1, CURLM_INTERNAL_ERROR, IBK_E_CONNECT, IBK_E_CONNECT},
        {MULTI_PERFORM, 1, CURLM_OUT_OF_MEMORY, IBK_E_NO_MEMORY, IBK_E_NO_MEMORY},
        {MULTI_PERFORM, 1, CURLM_BAD_HANDLE, IBK_E_CONNECT, IBK_E_CONNECT},
        {MULTI_INFO_READ, 1, NO_MESSAGE, IBK_E_OUTCOME_UNKNOWN, IBK_E_PROTOCOL},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        for (int repeatable = 0; repeatable < 2; repeatable++) {
            row("line %zu, %s", i + 1, repeatable ? "repeatable" : "once");
            serve_plain_or_tls(false, NULL, 0);
            refuse(table[i].call, table[i].nth, table[i].with);
            ibk_code code = send_it("PUT", "/", "x", repeatable);
            assert_row(refuse_no_more());
            bool sent = table[i].code == IBK_E_OUTCOME_UNKNOWN;
            assert_failed(repeatable ? table[i].repeatable : table[i].code, sent, code);
            assert_row(server_requests(bench.server) == (sent ? 1 : 0));
            assert_usable();
        }
    }
}

/* As soon as the server has the request. */
static int fail_to_poll(void *context)
{
    (void)context;
    if (server_requests(bench.server) > 0) {
        refuse(MULTI_POLL, 1, CURLM_INTERNAL_ERROR);
    }
    return 0;
}

static void test_waiting_refused(void **state)
{
    static const struct step steps[] = {STEP(ANSWER_STALL, "")};
    (void)state;
    for (int repeatable = 0; repeatable < 2; repeatable++) {
        row("%s", repeatable ? "repeatable" : "once");
        serve_plain_or_tls(false, steps, COUNT(steps));
        bench.hooks = (struct ibk_http_hooks){.interrupt = fail_to_poll};
        ibk_code code = send_it("PUT", "/", "x", repeatable);
        bench.hooks.interrupt = NULL;
        assert_row(refuse_no_more());
        assert_failed(repeatable ? IBK_E_PROTOCOL : IBK_E_OUTCOME_UNKNOWN, true, code);
        assert_usable();
    }
}

static void test_submitted_transfers_refused(void **state)
{
    static const int codes[] = {CURLM_OUT_OF_MEMORY, CURLM_INTERNAL_ERROR};
    (void)state;
    open_desk((struct server_setup){.step_count = 0});
    for (size_t i = 0; i < COUNT(codes); i++) {
        row("%d", codes[i]);
        refuse(MULTI_ADD, 1, codes[i]);
        assert_ok(submit_post(1, "/"));
        assert_row(ended(1) == IBK_E_NO_MEMORY && !err.sent && refuse_no_more());
        assert_row(server_requests(bench.server) == i);
        assert_ok(submit_post(2, "/"));
        assert_ok(ended(2));
    }
}

/* Messages of another kind, or of a handle that is not the engine's, are passed over. */
static void test_strange_messages(void **state)
{
    (void)state;
    open_desk((struct server_setup){.step_count = 0});
    nobodys = curl_easy_init();
    assert_non_null(nobodys);
    refuse(MULTI_INFO_READ, 1, A_STRAY_MESSAGE);
    assert_ok(post("/", "x"));
    assert_true(refuse_no_more());
    assert_text(ibk_buf_peek(&bench.response.body), "ok");
    for (int kind = A_STRAY_MESSAGE; kind <= AN_END_OF_NOBODYS; kind++) {
        row("%d", kind);
        refuse(MULTI_INFO_READ, 1, kind);
        assert_ok(submit_post(1, "/"));
        assert_ok(ended(1));
        assert_row(refuse_no_more());
    }
    assert_int_equal(server_requests(bench.server), 3);
    curl_easy_cleanup(nobodys);
}

/* The second try is the last, even where libcurl does not keep to a fresh connection and finds another dead one. */
static void test_second_try_is_the_last(void **state)
{
    const struct step close = {.deed = ANSWER_CLOSE, .bytes = LITERAL(OK_ANSWER), .after_requests = 2};
    const struct step steps[] = {close, close};
    (void)state;
    open_desk(tls_setup(certificates.identity, steps, COUNT(steps)));
    assert_ok(submit_get(1, "/"));
    assert_ok(submit_get(2, "/"));
    take_until(2);
    await_closed_connections();
    refuse_option(CURLOPT_FRESH_CONNECT, 1);
    refusal.code = CURLE_OK; /* or so it says */
    assert_ok(submit_post(3, "/order"));
    ibk_code code = ended(3);
    bool tried = refuse_no_more();
    assert_true(tried ? code == IBK_E_CONNECT && !err.sent : code == IBK_OK); /* some versions see it for themselves */
    assert_int_equal(server_requests(bench.server), tried ? 2 : 3);
    assert_ok(submit_post(4, "/order"));
    assert_ok(ended(4));
}

/* The kept connection has ended, and libcurl does not take what the second try needs: nothing was sent. */
static void test_second_try_refused(void **state)
{
    static const struct step steps[] = {STEP(ANSWER_CLOSE, OK_ANSWER)};
    static const struct {
        CURLoption option;
        int nth;
    } table[] = {{CURLOPT_FRESH_CONNECT, 1}, {CURLOPT_TIMEOUT_MS, 2}};
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("%d", (int)table[i].option);
        open_desk(tls_setup(certificates.identity, steps, COUNT(steps)));
        assert_ok(submit_get(1, "/"));
        assert_ok(ended(1));
        await_closed_connections();
        refuse_option(table[i].option, table[i].nth);
        assert_ok(submit_post(2, "/order"));
        ibk_code code = ended(2);
        bool tried = refuse_no_more();
        assert_row(tried ? code == IBK_E_CONNECT && !err.sent : code == IBK_OK); /* some versions see it for themselves */
        assert_row(server_requests(bench.server) == (tried ? 1 : 2));
        assert_ok(submit_post(3, "/order"));
        assert_ok(ended(3));
    }
}

static void close_meanwhile(void)
{
    ibk_engine_client_close(desk.client);
}

static void test_closed_in_the_middle_of_a_submit(void **state)
{
    struct ibk_engine_client *other = NULL;
    (void)state;
    for (int last = 0; last < 2; last++) {
        row("%s", last ? "the last client" : "not the last client");
        open_desk((struct server_setup){.step_count = 0});
        if (!last) {
            assert_ok(ibk_engine_client_new(&bench.options, desk.mailbox, &other, &err));
        }
        meanwhile = close_meanwhile;
        assert_refused(IBK_E_CANCELLED, submit_post(1, "/"));
        assert_says("closed");
        assert_row(meanwhile == NULL && ibk_engine_threads() == (last ? 0 : 1));
        take_after(20);
        assert_row(desk.count == 0 && server_requests(bench.server) == 0);
        ibk_engine_client_close(other);
        ibk_engine_client_release(other);
        other = NULL;
    }
}

static ibk_code prepare(void *context, struct ibk_http_request *request, struct ibk_error *error)
{
    (void)error;
    *request =
        (struct ibk_http_request){.method = LITERAL("GET"), .url = *(ibk_span *)context, .repeatable = true, .timeout_ms = 20000};
    meanwhile = close_meanwhile;
    return IBK_OK;
}

static int64_t never_again(void *context, struct ibk_outcome *outcome)
{
    (void)context;
    ibk_outcomes_free(outcome);
    abort(); /* nobody is to hear of it */
}

static void let_go(void *context)
{
    ((ibk_span *)context)->len = 0;
}

static void test_closed_in_the_middle_of_a_task(void **state)
{
    static const struct ibk_engine_hooks hooks = {prepare, never_again, let_go};
    struct ibk_engine_client *other;
    struct ibk_engine_task *task;
    (void)state;
    open_desk((struct server_setup){.step_count = 0});
    assert_ok(ibk_engine_client_new(&bench.options, desk.mailbox, &other, &err));
    ibk_span url = url_of("/");
    assert_ok(ibk_engine_task_new(desk.client, &hooks, &url, &task, &err));
    assert_ok(ibk_engine_task_schedule(task, 0, &err));
    while (!ibk_engine_client_is_closed(desk.client)) {
        sleep_ms(1);
    }
    ibk_engine_task_free(task);
    ibk_engine_client_close(other); /* after which the thread is gone */
    ibk_engine_client_release(other);
    assert_int_equal(url.len, 0);
    assert_int_equal(server_requests(bench.server), 0);
}

/* On the engine's thread, as a libcurl does that closes a socket without a word (7.88, where a connect timed out). */
static void want_what_is_closed(void)
{
    int fd = fcntl(0, F_DUPFD, 500); /* not the next number that somebody gets */
    (void)close(fd);
    (void)on_interest.function(NULL, fd, CURL_POLL_IN, interest_context, NULL);
}

static ibk_code prepare_with_a_dead_socket(void *context, struct ibk_http_request *request, struct ibk_error *error)
{
    ibk_code code = prepare(context, request, error);
    meanwhile = want_what_is_closed;
    return code;
}

static atomic_bool over;

static int64_t once(void *context, struct ibk_outcome *outcome)
{
    (void)context;
    ibk_outcomes_free(outcome);
    atomic_store(&over, true);
    return -1;
}

/* The thread does not turn in circles because of it. */
static void test_a_socket_is_closed_without_a_word(void **state)
{
    static const struct ibk_engine_hooks hooks = {prepare_with_a_dead_socket, once, let_go};
    static const struct step steps[] = {STEP(ANSWER_STALL, "")};
    struct ibk_engine_task *task;
    (void)state;
    OPEN_DESK(steps);
    ibk_span url = url_of("/");
    atomic_store(&over, false);
    assert_ok(ibk_engine_task_new(desk.client, &hooks, &url, &task, &err));
    assert_ok(ibk_engine_task_schedule(task, 0, &err));
    await_requests(1);
    int before = atomic_load(&counts[MULTI_SOCKET_ACTION]);
    sleep_ms(100);
    assert_true(atomic_load(&counts[MULTI_SOCKET_ACTION]) - before < 100);
    assert_false(atomic_load(&over));
    assert_ok(submit_get(1, "/"));
    assert_ok(ended(1));
    ibk_engine_task_free(task);
}

static void test_no_lock(void **state)
{
    struct ibk_mailbox *mailbox = desk.mailbox;
    (void)state;
    refuse(MUTEX_INIT, 1, 0);
    assert_refused(IBK_E_NO_MEMORY, ibk_mailbox_new(&mailbox, &err));
    assert_true(refuse_no_more());
    assert_null(mailbox);
}

static void test_no_thread(void **state)
{
    pthread_attr_t before, endless;
    (void)state;
    open_desk((struct server_setup){.step_count = 0});
    close_engine_client();
    assert_int_equal(pthread_getattr_default_np(&before), 0);
    assert_int_equal(pthread_getattr_default_np(&endless), 0);
    assert_int_equal(pthread_attr_setstacksize(&endless, SIZE_MAX / 4), 0);
    assert_int_equal(pthread_setattr_default_np(&endless), 0); /* nobody has so much for a stack */
    poison_error();
    ibk_code code = ibk_engine_client_new(&bench.options, desk.mailbox, &desk.client, &err);
    assert_int_equal(pthread_setattr_default_np(&before), 0);
    assert_failed(IBK_E_LIMIT, false, code);
    assert_says("no thread to be had");
    assert_null(desk.client);
    assert_int_equal(ibk_engine_threads(), 0);
    new_engine_client();
    assert_ok(submit_get(1, "/"));
    assert_ok(ended(1));
    (void)pthread_attr_destroy(&before);
    (void)pthread_attr_destroy(&endless);
}

/* what is said */

/* A transfer of the client's that has come so far, and what libcurl said in its own words. */
static void pretend_transfer(const struct ibk_http_request *request, bool written, enum ibk_answer_part part, const char *words)
{
    struct ibk_http_handle *handle = &bench.client->handle;
    ibk_http_response_clean(&bench.response);
    handle->transfer = (struct ibk_transfer){.request = request,
                                             .response = &bench.response,
                                             .started_us = ibk_clock_us(),
                                             .started = true,
                                             .written = written,
                                             .part = part,
                                             .socket = CURL_SOCKET_BAD};
    assert_ok(ibk_url_split(request->url, &handle->transfer.url, &err));
    handle->transfer.secure = handle->transfer.url.scheme.len == strlen("https");
    (void)snprintf(handle->curl_text, sizeof handle->curl_text, "%s", words);
}

static void assert_failure_says(CURLcode result, ibk_code code, bool sent, const char *says)
{
    struct ibk_http_handle *handle = &bench.client->handle;
    poison_error();
    assert_failed(code, sent, ibk_http_transfer_fail(handle, result, &err));
    assert_row(err.domain == IBK_DOMAIN_CURL && err.native == (unsigned long)result);
    assert_says(says);
    assert_row(ibk_http_transfer_fail(handle, result, NULL) == code);
}

/* Results that need a certain libcurl or network: each version and system has its own. */
static void test_results_of_any_libcurl(void **state)
{
    static const struct {
        CURLcode result;
        bool written;
        enum ibk_answer_part part;
        const char *proxy;
        const char *words;
        ibk_code code;
        const char *says;
    } table[] = {
        {(CURLcode)100, true, IBK_PART_HEADER, NULL, "", IBK_E_TOO_LARGE, "header of the answer too large for libcurl"},
        {CURLE_OUT_OF_MEMORY, true, IBK_PART_STATUS, NULL, "", IBK_E_TOO_LARGE, "too large for libcurl"}, /* up to 8.5 */
        {CURLE_RECV_ERROR, true, IBK_PART_HEADER, NULL, "Too large response headers: 307201 > 307200", IBK_E_TOO_LARGE,
         "too large for libcurl"},
        {CURLE_RECV_ERROR, true, IBK_PART_HEADER, NULL, "leaked", IBK_E_PROTOCOL, "connection lost while"},
        {CURLE_UNSUPPORTED_PROTOCOL, true, IBK_PART_STATUS, NULL, "leaked", IBK_E_PROTOCOL, "not HTTP"},
        {CURLE_WRITE_ERROR, true, IBK_PART_BODY, NULL, "leaked", IBK_E_PROTOCOL, "failed while"},
        {CURLE_OUT_OF_MEMORY, true, IBK_PART_BODY, NULL, "", IBK_E_NO_MEMORY, "out of memory while"},
        {CURLE_OUT_OF_MEMORY, false, IBK_PART_STATUS, NULL, "", IBK_E_NO_MEMORY, "out of memory while"},
        {CURLE_URL_MALFORMAT, false, IBK_PART_STATUS, NULL, "", IBK_E_URL, "failed while"},
        {CURLE_SSL_CACERT_BADFILE, false, IBK_PART_STATUS, NULL, "", IBK_E_CA_MISSING, "the file found on this system"},
        {CURLE_SSL_CONNECT_ERROR, false, IBK_PART_STATUS, NULL, "SSL_connect: Connection reset by peer", IBK_E_CONNECT,
         "connection lost while"},
        {CURLE_SSL_CONNECT_ERROR, false, IBK_PART_STATUS, NULL, "", IBK_E_TLS, "TLS failed (SSL connect error)"},
        {CURLE_SSL_CONNECT_ERROR, false, IBK_PART_STATUS, NULL,
         "a\xe9"
         "b\nc\x7f",
         IBK_E_TLS, "TLS failed (a?b?c?)"},
        {CURLE_PEER_FAILED_VERIFICATION, false, IBK_PART_STATUS, NULL, "another thing", IBK_E_TLS, "TLS failed (another thing)"},
        {CURLE_PEER_FAILED_VERIFICATION, false, IBK_PART_STATUS, NULL, "no alternative certificate subject name matches",
         IBK_E_TLS, "certificate for another host name"},
        {CURLE_SSL_CERTPROBLEM, false, IBK_PART_STATUS, "https://proxy.test", "words", IBK_E_TLS, "TLS failed (words) after"},
        {CURLE_SSL_CIPHER, false, IBK_PART_STATUS, NULL, "", IBK_E_TLS, "TLS failed"},
        {CURLE_SSL_ENGINE_INITFAILED, false, IBK_PART_STATUS, NULL, "", IBK_E_TLS, "TLS failed"},
        {CURLE_SSL_INVALIDCERTSTATUS, false, IBK_PART_STATUS, NULL, "", IBK_E_TLS, "TLS failed"},
        {CURLE_SSL_ISSUER_ERROR, false, IBK_PART_STATUS, NULL, "", IBK_E_TLS, "TLS failed"},
        {CURLE_FAILED_INIT, false, IBK_PART_STATUS, NULL, "", IBK_E_CONNECT, "no connection"},
        {CURLE_COULDNT_RESOLVE_HOST, false, IBK_PART_STATUS, "http://proxy.test:8080", "", IBK_E_PROXY,
         "proxy proxy.test:8080: its name, or that of the host behind it, not found"},
        {CURLE_COULDNT_RESOLVE_PROXY, false, IBK_PART_STATUS, "http://a:b@proxy.test/", "", IBK_E_PROXY,
         "proxy proxy.test: host name not found"},
        {CURLE_COULDNT_CONNECT, false, IBK_PART_STATUS, "http://proxy.test", "", IBK_E_PROXY, "proxy proxy.test broke off"},
        {CURLE_SSL_CONNECT_ERROR, false, IBK_PART_STATUS, "http://proxy.test", "unexpected eof", IBK_E_PROXY,
         "proxy proxy.test broke off"},
        {CURLE_COULDNT_CONNECT, false, IBK_PART_STATUS,
         "http://a-name-that-has-more-than-sixty-characters-before-its-end.proxy.example.test", "", IBK_E_PROXY,
         "proxy a-name-that-has-more-than-sixty-characters-before-its-end.pr broke off"},
        {CURLE_OPERATION_TIMEDOUT, false, IBK_PART_STATUS, "http://proxy.test", "", IBK_E_TIMEOUT, "looking up the proxy"},
    };
    const struct ibk_http_request request = {
        .method = LITERAL("PUT"), .url = LITERAL("https://api.test/x?secret=1"), .repeatable = true, .timeout_ms = 1000};
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i + 1);
        bench.options.proxy = table[i].proxy;
        new_client();
        pretend_transfer(&request, table[i].written, table[i].part, table[i].words);
        assert_failure_says(table[i].result, table[i].code, table[i].written, table[i].says);
        assert_says("PUT api.test:443/x");
        assert_hides(LITERAL("secret=1"));
        assert_row(!table[i].written || strstr(err.text, "leaked") == NULL);
        assert_row(table[i].code != IBK_E_TLS || strncmp(err.text, "proxy", 5) != 0); /* nothing is known against it */
    }
}

/* What names the request is cut where it is long, and left out where it is not there. */
static void test_requests_are_named_in_short(void **state)
{
    static const struct {
        const char *url;
        const char *says;
    } table[] = {
        {"https://api.test", ": PUT api.test:443"},
        {"http://127.0.0.1/x", ": PUT 127.0.0.1:80/x"},
        {"https://api.test:8443/x", ": PUT api.test:8443/x"},
        {"https://a23456789.b23456789.c23456789.d23456789.e23456789.f23456789.g23456789.h23456789.test/x",
         ": PUT a23456789.b23456789.c23456789.d23456789.e23456789.f23456789.g23456789.h23456789.:443/x"},
        {"https://api.test/a23456789/b23456789/c23456789/d23456789/e23456789/f23456789/g23456789/h23456789/end",
         ": PUT api.test:443/a23456789/b23456789/c23456789/d23456789/e23456789/f23456789/g23456789/h23456789"},
    };
    (void)state;
    new_client();
    for (size_t i = 0; i < COUNT(table); i++) {
        const struct ibk_http_request request = {
            .method = LITERAL("PUT"), .url = ibk_span_text(table[i].url), .repeatable = true, .timeout_ms = 1000};
        row("line %zu", i + 1);
        pretend_transfer(&request, false, IBK_PART_STATUS, "");
        assert_failure_says(CURLE_OPERATION_TIMEDOUT, IBK_E_TIMEOUT, false, table[i].says);
        const char *end = strstr(err.text, table[i].says);
        assert_row(end != NULL && strlen(end) == strlen(table[i].says));
    }
}

/* What OpenSSL found wrong with a certificate: the server's or, where it has not come to that one, the TLS proxy's. */
static void test_verdicts(void **state)
{
    static const struct {
        long verdict;
        const char *says;
    } table[] = {
        {2, "certificate from an unknown authority"},
        {9, "certificate not valid yet"},
        {10, "certificate expired"},
        {18, "certificate from an unknown authority"},
        {19, "certificate from an unknown authority"},
        {20, "certificate from an unknown authority"},
        {21, "certificate from an unknown authority"},
        {26, "TLS failed"},
        {62, "certificate for another host name"},
    };
    const struct ibk_http_request request = {.method = LITERAL("PUT"), .url = LITERAL("https://api.test/"), .timeout_ms = 1000};
    (void)state;
    pretended.findings = true;
    for (size_t i = 0; i < 2 * COUNT(table); i++) {
        long verdict = table[i / 2].verdict;
        row("%ld of the %s", verdict, i % 2 == 0 ? "server" : "proxy");
        bench.options.proxy = i % 2 == 0 ? NULL : "https://proxy.test";
        new_client();
        pretended.verdict = i % 2 == 0 ? verdict : 0;
        pretended.proxy_verdict = i % 2 == 0 ? 0 : verdict;
        pretend_transfer(&request, false, IBK_PART_STATUS, "words of libcurl");
        assert_failure_says(CURLE_PEER_FAILED_VERIFICATION, IBK_E_TLS, false, table[i / 2].says);
        assert_says("(words of libcurl)");
        assert_row((strstr(err.text, "proxy proxy.test: ") != NULL) == (i % 2 == 1));
    }
    pretended.findings = false;
}

/* What the system said as no connection came about. */
static void test_errors_of_the_system(void **state)
{
    static const struct {
        int number;
        const char *says;
    } table[] = {
        {ECONNREFUSED, "connection refused"},
        {ECONNRESET, "connection reset"},
        {ETIMEDOUT, "no reply"},
        {EHOSTUNREACH, "no route to the host"},
        {ENETUNREACH, "network unreachable"},
        {EACCES, "not permitted"},
        {EPERM, "not permitted"},
        {EADDRNOTAVAIL, "no connection"},
    };
    const struct ibk_http_request request = {.method = LITERAL("PUT"), .url = LITERAL("https://api.test/"), .timeout_ms = 1000};
    (void)state;
    pretended.findings = true;
    for (size_t i = 0; i < 2 * COUNT(table); i++) {
        row("%s, %s", table[i / 2].says, i % 2 == 0 ? "direct" : "proxy");
        bench.options.proxy = i % 2 == 0 ? NULL : "http://proxy.test";
        new_client();
        pretended.os_errno = table[i / 2].number;
        pretend_transfer(&request, false, IBK_PART_STATUS, "");
        assert_failure_says(CURLE_COULDNT_CONNECT, i % 2 == 0 ? IBK_E_CONNECT : IBK_E_PROXY, false, table[i / 2].says);
    }
    pretended.findings = false;
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        http_test(test_start_refused),
        http_test(test_no_engine),
        http_test(test_what_is_said_of_libcurl),
        http_test(test_easy_handles_wear_out),
        http_test(test_no_decompression),
        http_test(test_authorities_of_the_build),
        http_test(test_options_of_a_client),
        http_test(test_options_of_a_request),
        engine_test(test_options_of_a_submitted_request),
        engine_test(test_no_handles),
        http_test(test_transfers_refused),
        http_test(test_waiting_refused),
        engine_test(test_submitted_transfers_refused),
        engine_test(test_strange_messages),
        engine_test(test_second_try_refused),
        engine_test(test_second_try_is_the_last),
        engine_test(test_a_socket_is_closed_without_a_word),
        engine_test(test_no_lock),
        engine_test(test_closed_in_the_middle_of_a_submit),
        engine_test(test_closed_in_the_middle_of_a_task),
        engine_test(test_no_thread),
        http_test(test_results_of_any_libcurl),
        http_test(test_requests_are_named_in_short),
        http_test(test_verdicts),
        http_test(test_errors_of_the_system),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, make_certificates, drop_certificates);
}
