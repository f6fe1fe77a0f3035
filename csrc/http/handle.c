/* handle.c - one easy handle, the options of libcurl that never change, and one exchange after the other. */
#include "http_internal.h"

void ibk_http_forget_openssl_errors(void)
{
    (void)ibk_fail_ossl(NULL, IBK_E_TLS, "", ""); /* it leaves the queue empty */
}

/*
 * Set explicitly even where it is libcurl's default: some of these are promises, and a build of libcurl that does not know
 * one of them must not be used. There is no way to turn verification off.
 */
static const struct {
    CURLoption option;
    long value;
} fixed_numbers[] = {
    {CURLOPT_NOSIGNAL, 1},
    {CURLOPT_SSL_VERIFYPEER, 1},
    {CURLOPT_SSL_VERIFYHOST, 2},
    {CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_2}, /* at least */
    {CURLOPT_PROXY_SSL_VERIFYPEER, 1},
    {CURLOPT_PROXY_SSL_VERIFYHOST, 2},
    {CURLOPT_PROXY_SSLVERSION, CURL_SSLVERSION_TLSv1_2},
    {CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1},
    {CURLOPT_HTTP09_ALLOWED, 0},
    {CURLOPT_PATH_AS_IS, 1},
    {CURLOPT_FOLLOWLOCATION, 0},
    {CURLOPT_NETRC, CURL_NETRC_IGNORED},
    {CURLOPT_DISALLOW_USERNAME_IN_URL, 1},
    {CURLOPT_HEADEROPT, CURLHEADER_SEPARATE}, /* our headers are not for the proxy */
    {CURLOPT_SUPPRESS_CONNECT_HEADERS, 1},
    {CURLOPT_TCP_NODELAY, 1},
    {CURLOPT_TCP_KEEPALIVE, 1},
    {CURLOPT_MAXLIFETIME_CONN, 3600}, /* seconds: certificates are checked at connect only */
};

static int on_socket(void *context, curl_socket_t socket, curlsocktype purpose)
{
    struct ibk_http_handle *handle = context;
    (void)purpose;
    ibk_socket_keep_to_process(socket);
    ibk_sockets_add(handle->sockets, socket, &handle->transfer);
    handle->transfer.socket = socket;
    handle->transfer.opened = true;
    return CURL_SOCKOPT_OK;
}

/* The connection may have outlived the handle that opened it, so the context is the table. */
static int on_close(void *context, curl_socket_t socket)
{
    ibk_sockets_remove(context, socket);
    return ibk_socket_close(socket);
}

/*
 * libcurl calls this when a connection stands and the request is about to be written. When a reused connection dies before
 * the first byte of the answer, libcurl writes the same request, POST included, to a new one: the server may see it twice,
 * and with it a nonce that is good for once. So nothing is written a second time; who repeats a request makes it anew.
 */
static int on_request(void *context, char *remote, char *local, int remote_port, int local_port)
{
    struct ibk_http_handle *handle = context;
    struct ibk_transfer *transfer = &handle->transfer;
    (void)remote;
    (void)local;
    (void)remote_port;
    if (transfer->written) {
        transfer->replay_refused = true;
        return CURL_PREREQFUNC_ABORT;
    }
    if (handle->shares_connections && !transfer->opened && !ibk_sockets_are_quiet(handle->sockets, local_port)) {
        transfer->found_dead = true;
        return CURL_PREREQFUNC_ABORT;
    }
    transfer->written = true;
    return CURL_PREREQFUNC_OK;
}

/* One by one: libcurl's checking of types works on constants only. */
static CURLcode set_callbacks(struct ibk_http_handle *handle, CURL *easy)
{
    const CURLcode results[] = {
        curl_easy_setopt(easy, CURLOPT_PRIVATE, handle),
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, handle->curl_text),
        curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_socket),
        curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA, handle),
        curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close),
        curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, handle->sockets),
        curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request),
        curl_easy_setopt(easy, CURLOPT_PREREQDATA, handle),
        curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, ibk_http_on_header),
        curl_easy_setopt(easy, CURLOPT_HEADERDATA, handle),
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, ibk_http_on_body),
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, handle),
    };
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++) {
        if (results[i] != CURLE_OK) {
            return results[i];
        }
    }
    return CURLE_OK;
}

static CURLcode set_options(struct ibk_http_handle *handle, CURL *easy)
{
    CURLcode result = CURLE_OK;

    for (size_t i = 0; result == CURLE_OK && i < sizeof fixed_numbers / sizeof fixed_numbers[0]; i++) {
        result = curl_easy_setopt(easy, fixed_numbers[i].option, fixed_numbers[i].value);
    }
    if (result == CURLE_OK) {
        result = curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, handle->settings->connect_timeout_ms);
    }
    if (result == CURLE_OK && handle->settings->proxy != NULL) { /* what the proxy sees: the server sees our own line */
        result = curl_easy_setopt(easy, CURLOPT_USERAGENT, handle->settings->user_agent);
    }
    if (result == CURLE_OK) {
        result = curl_easy_setopt(easy, CURLOPT_NOPROXY, ""); /* not the environment's */
    }
    if (result == CURLE_OK && ibk_http_decompresses()) {
        result = curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, IBK_ENCODINGS);
    }
#if LIBCURL_VERSION_NUM >= 0x075700
    /* Or a name server that does not answer would hold up timeouts and Ctrl-C: the resolver's thread is left to itself. */
    if (result == CURLE_OK) {
        result = curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
        result = result == CURLE_UNKNOWN_OPTION ? CURLE_OK : result;
    }
#endif
    return result == CURLE_OK ? set_callbacks(handle, easy) : result;
}

/* NULL where there is no memory. */
static CURL *make_easy(struct ibk_http_handle *handle, CURLcode *result)
{
    CURL *easy = ibk_http_easy_new();
    *result = easy != NULL ? set_options(handle, easy) : CURLE_OUT_OF_MEMORY;
    if (*result != CURLE_OK) {
        curl_easy_cleanup(easy);
        easy = NULL;
    }
    return easy;
}

/* An easy handle that has seen no answer. The connections are the multi handle's, and stay. */
static ibk_code take_new(struct ibk_http_handle *handle, struct ibk_error *err)
{
    CURLcode result = CURLE_OK;
    CURL *easy = handle->spare != NULL ? handle->spare : make_easy(handle, &result);
    if (easy == NULL) {
        return ibk_http_setup_fail(result, "ibk_http_client_new", err);
    }
    curl_easy_cleanup(handle->worn);
    handle->worn = handle->easy;
    handle->easy = easy;
    handle->spare = NULL;
    handle->used = false;
    handle->ca_ready = false;
    handle->scheme = IBK_SCHEME_NONE;
    return IBK_OK;
}

void ibk_http_handle_prepare(struct ibk_http_handle *handle)
{
    CURLcode result;
    if (handle->spare == NULL && ibk_http_easies_wear_out()) {
        curl_easy_cleanup(handle->worn);
        handle->worn = NULL;
        handle->spare = make_easy(handle, &result);
    }
}

ibk_code ibk_http_handle_init(struct ibk_http_handle *handle, const struct ibk_http_settings *settings,
                              struct ibk_sockets *sockets, struct ibk_error *err)
{
    memset(handle, 0, sizeof *handle);
    handle->settings = settings;
    handle->sockets = sockets;
    handle->transfer.socket = CURL_SOCKET_BAD;
    ibk_buf_init(&handle->url, 2 * IBK_URL_MAX_SIZE + 3);
    ibk_buf_init(&handle->header_text, IBK_MAX_HEADER_TEXT + strlen(settings->user_agent) + sizeof IBK_OUR_LINES);
    return take_new(handle, err);
}

void ibk_http_handle_clean(struct ibk_http_handle *handle)
{
    CURL **const easies[] = {&handle->easy, &handle->spare, &handle->worn};
    for (size_t i = 0; i < sizeof easies / sizeof easies[0]; i++) {
        curl_easy_cleanup(*easies[i]);
        *easies[i] = NULL;
    }
    ibk_buf_clean(&handle->url);
    ibk_buf_clean(&handle->header_text);
}

/* After the last use of the request and of the response. */
static void forget(struct ibk_http_handle *handle)
{
    if (handle->transfer.opened) {
        ibk_sockets_forget(handle->sockets, &handle->transfer);
    }
    ibk_http_request_release(handle);
}

ibk_code ibk_http_handle_begin(struct ibk_http_handle *handle, const struct ibk_http_request *request,
                               struct ibk_http_response *response, struct ibk_error *err)
{
    struct ibk_transfer *transfer = &handle->transfer;
    *transfer =
        (struct ibk_transfer){.request = request, .response = response, .started_us = ibk_clock_us(), .socket = CURL_SOCKET_BAD};
    memset(response, 0, sizeof *response);
    ibk_buf_init(&response->header_block, handle->settings->max_header_bytes);
    ibk_buf_init(&response->body, handle->settings->max_body_bytes);
    handle->curl_text[0] = '\0';
    ibk_code code = ibk_http_request_check(request, &transfer->url, err);
    if (code == IBK_OK && handle->used && ibk_http_easies_wear_out()) {
        code = take_new(handle, err);
    }
    if (code == IBK_OK) {
        handle->used = true;
        transfer->secure = transfer->url.scheme.len == strlen("https");
        code = ibk_http_request_apply(handle, err);
    }
    if (code != IBK_OK) {
        forget(handle);
    }
    return code;
}

static void complete(struct ibk_http_handle *handle)
{
    struct ibk_http_response *response = handle->transfer.response;
    long connects = 0;
    (void)curl_easy_getinfo(handle->easy, CURLINFO_RESPONSE_CODE, &response->status);
    (void)curl_easy_getinfo(handle->easy, CURLINFO_NUM_CONNECTS, &connects);
    response->reused_connection = connects == 0;
    response->elapsed_us = ibk_clock_us() - handle->transfer.started_us;
}

ibk_code ibk_http_handle_end(struct ibk_http_handle *handle, CURLcode result, struct ibk_error *err)
{
    struct ibk_transfer *transfer = &handle->transfer;
    ibk_code code = IBK_OK;
    if (result == CURLE_OK && transfer->part != IBK_PART_BODY) {
        result = CURLE_PARTIAL_FILE; /* libcurl is content with headers that end in the middle */
    }
    if (transfer->stop == IBK_E_PROTOCOL) { /* as libcurl says it where it sees for itself that this is no HTTP */
        transfer->stop = IBK_OK;
        result = CURLE_WEIRD_SERVER_REPLY;
    }
    if (result == CURLE_OK) {
        complete(handle);
    } else {
        code = ibk_http_transfer_fail(handle, result, err);
        ibk_http_response_clean(transfer->response);
    }
    forget(handle);
    return code;
}

void ibk_http_handle_abandon(struct ibk_http_handle *handle)
{
    if (handle->transfer.request != NULL) {
        ibk_http_response_clean(handle->transfer.response);
        forget(handle);
    }
}

void ibk_http_response_clean(struct ibk_http_response *response)
{
    ibk_buf_clean(&response->header_block);
    ibk_buf_clean(&response->body);
    memset(response, 0, sizeof *response);
}
