/*
 * http_internal.h - what the files of csrc/http share.
 *
 *   global.c     libcurl, once per process
 *   options.c    what a client was asked to do: checked and copied
 *   cabundle.c   where certificate authorities are found
 *   handle.c     one easy handle, hardened, and one exchange after the other on it
 *   request.c    checking a request and handing it to libcurl
 *   response.c   collecting the answer
 *   failure.c    from libcurl's result to ibk_error
 *   sockets.c    which sockets are open, and whether an idle one has died
 *   transfer.c   the blocking client: the loop that runs one exchange on the caller's thread
 *   mailbox.c    where what is finished waits for its taker
 *   engine.c     the callers' side of the engine; engine_thread.c its own; engine_process.c start, end, fork and exit
 */
#ifndef IBK_HTTP_INTERNAL_H
#define IBK_HTTP_INTERNAL_H

#include <curl/curl.h>
#include <stdatomic.h>

#include "ibk/http.h"
#include "ibk/platform.h"
#include "ibk/url.h"

#if LIBCURL_VERSION_NUM < 0x075400
#error "libcurl 7.84 or newer is required"
#endif

#define IBK_MAX_KEPT 4 /* idle connections of a blocking client */
#define IBK_MAX_METHOD 16
#define IBK_MAX_HEADERS 128
#define IBK_MAX_HEADER_TEXT 65536u /* bytes of all lines of a request */
#define IBK_ENCODINGS "gzip, deflate"
/* With the user agent, what set_headers may add to those. */
#define IBK_OUR_LINES "User-Agent: \0Accept-Encoding: " IBK_ENCODINGS "\0"

/* Which part of the answer the header lines that arrive belong to. */
enum ibk_answer_part {
    IBK_PART_STATUS,  /* a status line comes next */
    IBK_PART_INTERIM, /* lines of a 1xx answer, which are dropped */
    IBK_PART_HEADER,  /* lines of the final answer */
    IBK_PART_BODY     /* everything later: body, and trailers, which are dropped */
};

/* The options of a client, copied. Handles borrow them. */
struct ibk_http_settings {
    char *ca_file;
    char *ca_path;
    char *proxy;
    char *user_agent;
    long connect_timeout_ms;
    size_t max_header_bytes;
    size_t max_body_bytes;
};

/* One exchange, from ibk_http_handle_begin to ibk_http_handle_end. */
struct ibk_transfer {
    const struct ibk_http_request *request;
    struct ibk_http_response *response;
    struct ibk_url url;
    int64_t started_us;
    bool written;         /* libcurl was about to write the request: it may have got there */
    bool replay_refused;  /* libcurl wanted to write it once more, and was not allowed to */
    bool found_dead;      /* nothing was written, since the kept connection had ended */
    bool secure;          /* https */
    bool started;         /* libcurl has it */
    bool queued;          /* it never got a connection, since as many as allowed were busy */
    bool opened;          /* a connection of its own: not a kept one */
    curl_socket_t socket; /* opened for it last, or CURL_SOCKET_BAD */
    bool tcp_connected;   /* that one was, when it was closed again */
    enum ibk_answer_part part;
    size_t header_bytes; /* received so far, interim answers and trailers included */
    ibk_code stop;       /* why we ended the transfer ourselves, or IBK_OK */
};

/* The sockets that one multi handle has open. */
struct ibk_socket {
    curl_socket_t fd;
    struct ibk_socket_identity identity; /* which socket that number stands for */
    int local_port;                      /* 0: not asked for yet */
    struct ibk_transfer *opener;         /* NULL once that is over */
};
struct ibk_sockets {
    struct ibk_socket *list;
    size_t count;
    size_t room;
};

/* One easy handle with the options that never change, and the exchange that it is in. It has no connections of its own. */
struct ibk_http_handle {
    CURL *easy;
    CURL *spare; /* for the next exchange, or NULL; this and the next are for versions of libcurl where easy handles wear out */
    CURL *worn;  /* of the exchange before, or NULL: not cleaned up yet */
    const struct ibk_http_settings *settings;
    struct ibk_sockets *sockets; /* of the multi handle that it runs in */
    bool shares_connections;     /* with other handles, so that a kept one is looked at just before it is written to */
    void *owner;                 /* of several handles: who has this one. libcurl has the handle itself, CURLOPT_PRIVATE */
    bool used;                   /* the easy handle, in an exchange */
    bool ca_known;               /* the authorities were looked up, and are in the settings or here */
    bool ca_ready;               /* the easy handle has them */
    char ca_file[1024];
    char ca_path[1024];
    enum { IBK_SCHEME_NONE, IBK_SCHEME_HTTP, IBK_SCHEME_HTTPS } scheme; /* what the handle is set up for */
    struct ibk_buf url;         /* and request target, with a NUL each; kept for its memory, as the next two are */
    struct ibk_buf header_text; /* "Name: value\0" lines */
    struct curl_slist header_list[IBK_MAX_HEADERS + 4]; /* see set_headers */
    struct ibk_transfer transfer;
    char curl_text[CURL_ERROR_SIZE];
};

/* The blocking client. */
struct ibk_http_client {
    struct ibk_http_settings settings;
    struct ibk_sockets sockets;
    struct ibk_http_handle handle;
    CURLM *multi;
    long pid;
    atomic_flag busy;
    atomic_bool cancelled;
};

/*
 * global.c. curl_easy_init takes a spin lock of libcurl's, which would stay locked in the child of a fork at that moment: so
 * fork waits for the end of it.
 */
CURL *ibk_http_easy_new(void);
/*
 * Up to 8.1 libcurl keeps pointing at the last header of the answer before, which it has freed, and goes on writing there when
 * the first header of the next one is a folded line. With those versions no easy handle sees two answers.
 */
bool ibk_http_easies_wear_out(void);
bool ibk_http_decompresses(void);

/* options.c. The settings are zeroed first; where that fails, they still are to be cleaned. */
ibk_code ibk_http_settings_init(struct ibk_http_settings *settings, const struct ibk_http_options *options, struct ibk_error *err)
    IBK_MUST_USE;
void ibk_http_settings_clean(struct ibk_http_settings *settings);

/* sockets.c. A socket for which there is no memory is not in the table. */
ibk_code ibk_sockets_init(struct ibk_sockets *sockets, struct ibk_error *err) IBK_MUST_USE;
void ibk_sockets_clean(struct ibk_sockets *sockets);
void ibk_sockets_add(struct ibk_sockets *sockets, curl_socket_t fd, struct ibk_transfer *opener);
void ibk_sockets_remove(struct ibk_sockets *sockets, curl_socket_t fd);
/* The transfer is over: its address may become another's. */
void ibk_sockets_forget(struct ibk_sockets *sockets, const struct ibk_transfer *opener);
/* For when all are idle. On an idle HTTP/1.1 connection nothing may arrive, so one where something did has died: it is ended. */
void ibk_sockets_end_dead(struct ibk_sockets *sockets);
/* Whether all sockets with that local port are idle and alive; false where there is none. */
bool ibk_sockets_are_quiet(struct ibk_sockets *sockets, int local_port);

/*
 * handle.c. `settings` and `sockets` outlive the handle.
 *
 * An exchange: begin, then run handle->easy in a multi handle and take it out again, then end. `request` and `response`, and
 * what the request points to, live until the end. `result` is what libcurl gave. Where begin or end fails, the response is
 * clean and the handle ready for the next exchange.
 */
ibk_code ibk_http_handle_init(struct ibk_http_handle *handle, const struct ibk_http_settings *settings,
                              struct ibk_sockets *sockets, struct ibk_error *err) IBK_MUST_USE;
void ibk_http_handle_clean(struct ibk_http_handle *handle);
ibk_code ibk_http_handle_begin(struct ibk_http_handle *handle, const struct ibk_http_request *request,
                               struct ibk_http_response *response, struct ibk_error *err) IBK_MUST_USE;
ibk_code ibk_http_handle_end(struct ibk_http_handle *handle, CURLcode result, struct ibk_error *err) IBK_MUST_USE;
/* While an answer is awaited: does already what the next exchange would begin with. Where it fails, the next one will try. */
void ibk_http_handle_prepare(struct ibk_http_handle *handle);
/* Instead of the end, where nobody wants to know, or after it. */
void ibk_http_handle_abandon(struct ibk_http_handle *handle);

/* libcurl leaves entries in OpenSSL's error queue of this thread, where Python's ssl module would take them for its own. */
void ibk_http_forget_openssl_errors(void);

/* request.c. err has no `sent`: nothing has been. */
ibk_code ibk_http_request_check(const struct ibk_http_request *request, struct ibk_url *url, struct ibk_error *err) IBK_MUST_USE;
ibk_code ibk_http_request_apply(struct ibk_http_handle *handle, struct ibk_error *err) IBK_MUST_USE;
/* libcurl forgets the memory that it borrowed for the request. */
void ibk_http_request_release(struct ibk_http_handle *handle);
/* True for bytes that may stand in a header value: everything but control characters, and the tab. */
bool ibk_http_is_header_value(ibk_span value);

/* response.c: libcurl's callbacks; context is the handle. */
size_t ibk_http_on_header(char *line, size_t size, size_t count, void *context);
size_t ibk_http_on_body(char *bytes, size_t size, size_t count, void *context);

/* cabundle.c */
struct ibk_ca_place {
    const char *const *files; /* NULL-terminated, the first readable one is taken */
    const char *const *paths; /* NULL-terminated, after the files: directories with at least one hashed certificate */
};
ibk_code ibk_ca_search(const struct ibk_ca_place *places, size_t count, char *file, size_t file_size, char *path,
                       size_t path_size, struct ibk_error *err) IBK_MUST_USE;
ibk_code ibk_http_ca_apply(struct ibk_http_handle *handle, struct ibk_error *err) IBK_MUST_USE;

/* failure.c: result is what libcurl gave for the transfer. Returns the code that it put into err, never IBK_OK. */
ibk_code ibk_http_transfer_fail(struct ibk_http_handle *handle, CURLcode result, struct ibk_error *err);
/* After curl_easy_setopt or the like failed before the transfer began. */
ibk_code ibk_http_setup_fail(CURLcode result, const char *where, struct ibk_error *err);

#endif
