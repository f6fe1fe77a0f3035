/*
 * http_internal.h - what the files of csrc/http share.
 *
 *   global.c     libcurl, once per process
 *   options.c    a client: its handles and the options that never change
 *   cabundle.c   where certificate authorities are found
 *   request.c    checking a request and handing it to libcurl
 *   response.c   collecting the answer
 *   transfer.c   the loop that runs one exchange
 *   failure.c    from libcurl's result to ibk_error
 */
#ifndef IBK_HTTP_INTERNAL_H
#define IBK_HTTP_INTERNAL_H

/* Before any system header: -std=c11 hides fork-safe time, signals and directories otherwise. */
#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp)
#endif

#include <curl/curl.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "ibk/http.h"
#include "ibk/url.h"

#if LIBCURL_VERSION_NUM < 0x075400
#error "libcurl 7.84 or newer is required"
#endif

#define IBK_MAX_ATTEMPTS 2 /* connections that one repeatable request may be sent on */
#define IBK_MAX_KEPT 4     /* idle connections of a client */
#define IBK_MAX_SOCKETS 8  /* those, and the ones being opened */
#define IBK_MAX_METHOD 16
#define IBK_MAX_HEADERS 128
#define IBK_MAX_HEADER_TEXT 65536u /* bytes of all lines of a request */

/* Which part of the answer the header lines that arrive belong to. */
enum ibk_answer_part {
    IBK_PART_STATUS,  /* a status line comes next */
    IBK_PART_INTERIM, /* lines of a 1xx answer, which are dropped */
    IBK_PART_HEADER,  /* lines of the final answer */
    IBK_PART_BODY     /* everything later: body, and trailers, which are dropped */
};

/* One exchange, from ibk_http_send's first line to its last. */
struct ibk_transfer {
    const struct ibk_http_request *request;
    struct ibk_http_response *response;
    struct ibk_url url;
    int64_t started_us;
    int attempts;         /* how often libcurl was about to write the request */
    bool replay_refused;  /* libcurl wanted to write it once more, and was not allowed to */
    bool secure;          /* https */
    bool started;         /* libcurl has it */
    curl_socket_t socket; /* opened for it last, or CURL_SOCKET_BAD */
    bool tcp_connected;   /* that one was, when it was closed again */
    enum ibk_answer_part part;
    size_t header_bytes; /* received so far, interim answers and trailers included */
    ibk_code stop;       /* why we ended the transfer ourselves, or IBK_OK */
};

struct ibk_http_client {
    CURL *easy;
    CURLM *multi;
    pid_t pid;
    atomic_flag busy;
    atomic_bool cancelled;
    char *ca_file;
    char *ca_path;
    char *proxy;
    char *user_agent;
    long connect_timeout_ms;
    size_t max_header_bytes;
    size_t max_body_bytes;
    bool ca_ready;
    curl_socket_t sockets[IBK_MAX_SOCKETS]; /* open now, except those for which there was no room */
    size_t socket_count;
    enum { IBK_SCHEME_NONE, IBK_SCHEME_HTTP, IBK_SCHEME_HTTPS } scheme; /* what the handle is set up for */
    struct ibk_buf url;         /* and request target, with a NUL each; kept for its memory, as the next two are */
    struct ibk_buf header_text; /* "Name: value\0" lines */
    struct curl_slist header_list[IBK_MAX_HEADERS + 2];
    struct ibk_transfer transfer;
    char curl_text[CURL_ERROR_SIZE];
};

/* transfer.c. Microseconds on a clock that never jumps. */
int64_t ibk_http_now_us(void);

/* libcurl leaves entries in OpenSSL's error queue of this thread, where Python's ssl module would take them for its own. */
void ibk_http_forget_openssl_errors(void);

/* request.c. err has no `sent`: nothing has been. */
ibk_code ibk_http_request_check(const struct ibk_http_request *request, struct ibk_url *url, struct ibk_error *err) IBK_MUST_USE;
ibk_code ibk_http_request_apply(struct ibk_http_client *client, struct ibk_error *err) IBK_MUST_USE;
/* libcurl forgets the memory that it borrowed for the request. */
void ibk_http_request_release(struct ibk_http_client *client);
/* True for bytes that may stand in a header value: everything but control characters, and the tab. */
bool ibk_http_is_header_value(ibk_span value);

/* response.c: libcurl's callbacks; context is the client. */
size_t ibk_http_on_header(char *line, size_t size, size_t count, void *context);
size_t ibk_http_on_body(char *bytes, size_t size, size_t count, void *context);

/* cabundle.c */
struct ibk_ca_place {
    const char *const *files; /* NULL-terminated, the first readable one is taken */
    const char *const *paths; /* NULL-terminated, after the files: directories with at least one hashed certificate */
};
ibk_code ibk_ca_search(const struct ibk_ca_place *places, size_t count, char *file, size_t file_size, char *path,
                       size_t path_size, struct ibk_error *err) IBK_MUST_USE;
ibk_code ibk_http_ca_apply(struct ibk_http_client *client, struct ibk_error *err) IBK_MUST_USE;

/* failure.c: result is what libcurl gave for the transfer. Returns the code that it put into err, never IBK_OK. */
ibk_code ibk_http_transfer_fail(struct ibk_http_client *client, CURLcode result, struct ibk_error *err);
/* After curl_easy_setopt or the like failed before the transfer began. */
ibk_code ibk_http_setup_fail(CURLcode result, const char *where, struct ibk_error *err);

#endif
