/* options.c - a client: its handles, and the options of libcurl that never change. */
#include "http_internal.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

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
    struct ibk_http_client *client = context;
    (void)purpose;
    int flags = fcntl(socket, F_GETFD);
    if (flags >= 0) {
        (void)fcntl(socket, F_SETFD, flags | FD_CLOEXEC); /* not for the programs that this process starts */
    }
    if (client->socket_count < IBK_MAX_SOCKETS) {
        client->sockets[client->socket_count++] = socket;
    }
    client->transfer.socket = socket;
    return CURL_SOCKOPT_OK;
}

static int on_close(void *context, curl_socket_t socket)
{
    struct ibk_http_client *client = context;
    struct ibk_transfer *transfer = &client->transfer;
    struct sockaddr_storage peer;
    socklen_t size = sizeof peer;

    for (size_t i = 0; i < client->socket_count; i++) {
        if (client->sockets[i] == socket) {
            client->sockets[i] = client->sockets[--client->socket_count];
            break;
        }
    }
    if (socket == transfer->socket) {
        /* For the error text: libcurl keeps to itself whether it was TCP or TLS that did not come about. */
        transfer->tcp_connected = getpeername(socket, (struct sockaddr *)&peer, &size) == 0;
        transfer->socket = CURL_SOCKET_BAD;
    }
    return close(socket);
}

/*
 * libcurl calls this when a connection stands and the request is about to be written. When a reused connection dies before
 * the first byte of the answer, libcurl writes the same request, POST included, to a new one: the server may see it twice.
 */
static int on_request(void *context, char *remote, char *local, int remote_port, int local_port)
{
    struct ibk_transfer *transfer = &((struct ibk_http_client *)context)->transfer;
    int allowed = transfer->request->repeatable ? IBK_MAX_ATTEMPTS : 1;
    (void)remote;
    (void)local;
    (void)remote_port;
    (void)local_port;
    if (transfer->attempts >= allowed) {
        transfer->replay_refused = true;
        return CURL_PREREQFUNC_ABORT;
    }
    transfer->attempts++;
    return CURL_PREREQFUNC_OK;
}

/* One by one: libcurl's checking of types works on constants only. */
static CURLcode set_callbacks(struct ibk_http_client *client)
{
    CURL *easy = client->easy;
    const CURLcode results[] = {
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, client->curl_text),
        curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, on_socket),
        curl_easy_setopt(easy, CURLOPT_SOCKOPTDATA, client),
        curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, on_close),
        curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, client),
        curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, on_request),
        curl_easy_setopt(easy, CURLOPT_PREREQDATA, client),
        curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, ibk_http_on_header),
        curl_easy_setopt(easy, CURLOPT_HEADERDATA, client),
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, ibk_http_on_body),
        curl_easy_setopt(easy, CURLOPT_WRITEDATA, client),
    };
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++) {
        if (results[i] != CURLE_OK) {
            return results[i];
        }
    }
    return CURLE_OK;
}

static CURLcode set_options(struct ibk_http_client *client)
{
    CURL *easy = client->easy;
    const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
    CURLcode result = CURLE_OK;

    for (size_t i = 0; result == CURLE_OK && i < sizeof fixed_numbers / sizeof fixed_numbers[0]; i++) {
        result = curl_easy_setopt(easy, fixed_numbers[i].option, fixed_numbers[i].value);
    }
    if (result == CURLE_OK) {
        result = curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, client->connect_timeout_ms);
    }
    if (result == CURLE_OK) {
        result = curl_easy_setopt(easy, CURLOPT_USERAGENT, client->user_agent);
    }
    if (result == CURLE_OK) {
        result = curl_easy_setopt(easy, CURLOPT_NOPROXY, ""); /* not the environment's */
    }
    if (result == CURLE_OK && (info->features & CURL_VERSION_LIBZ) != 0) {
        result = curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "gzip, deflate");
    }
#if LIBCURL_VERSION_NUM >= 0x075700
    /* Or a name server that does not answer would hold up timeouts and Ctrl-C: the resolver's thread is left to itself. */
    if (result == CURLE_OK) {
        result = curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
        result = result == CURLE_UNKNOWN_OPTION ? CURLE_OK : result;
    }
#endif
    return result == CURLE_OK ? set_callbacks(client) : result;
}

static bool is_proxy_url(const char *proxy)
{
    static const char *const schemes[] = {"http://", "https://", "socks5://", "socks5h://"};
    if (!ibk_http_is_header_value(ibk_span_text(proxy))) {
        return false;
    }
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t len = strlen(schemes[i]);
        if (strlen(proxy) > len && ibk_span_equal_nocase(ibk_span_of(proxy, len), ibk_span_text(schemes[i]))) {
            return true;
        }
    }
    return false;
}

/* Texts show no value: a proxy URL may hold a password. */
static ibk_code check_options(const struct ibk_http_options *options, struct ibk_error *err)
{
    const char *where = "ibk_http_client_new";
    const char *agent = options->user_agent;
    if (agent == NULL || agent[0] == '\0') {
        return ibk_fail(err, IBK_E_ARGUMENT, where, "user_agent is missing");
    }
    if (!ibk_http_is_header_value(ibk_span_text(agent))) {
        return ibk_fail(err, IBK_E_HEADER, where, "user_agent holds a control character");
    }
    if (options->proxy != NULL && !is_proxy_url(options->proxy)) {
        return ibk_fail(err, IBK_E_ARGUMENT, where, "proxy: expected http://, https://, socks5:// or socks5h:// and a host");
    }
    if (options->connect_timeout_ms <= 0) {
        return ibk_fail(err, IBK_E_ARGUMENT, where, "connect_timeout_ms must be above 0, not %ld", options->connect_timeout_ms);
    }
    if (options->max_header_bytes == 0 || options->max_body_bytes == 0) {
        return ibk_fail(err, IBK_E_ARGUMENT, where, "max_header_bytes and max_body_bytes must be above 0");
    }
    return IBK_OK;
}

/* False where there is no memory. NULL stays NULL. */
static bool copy_text(const char *text, char **out)
{
    if (text == NULL) {
        return true;
    }
    size_t size = strlen(text) + 1;
    *out = ibk_alloc(size);
    if (*out != NULL) {
        memcpy(*out, text, size);
    }
    return *out != NULL;
}

static ibk_code fill(struct ibk_http_client *client, const struct ibk_http_options *options, struct ibk_error *err)
{
    client->pid = getpid();
    client->transfer.socket = CURL_SOCKET_BAD;
    atomic_flag_clear(&client->busy);
    atomic_init(&client->cancelled, false);
    client->connect_timeout_ms = options->connect_timeout_ms;
    client->max_header_bytes = options->max_header_bytes;
    client->max_body_bytes = options->max_body_bytes;
    ibk_buf_init(&client->url, 2 * IBK_URL_MAX_SIZE + 3);
    ibk_buf_init(&client->header_text, IBK_MAX_HEADER_TEXT);
    if (!copy_text(options->ca_file, &client->ca_file) || !copy_text(options->ca_path, &client->ca_path) ||
        !copy_text(options->proxy, &client->proxy) || !copy_text(options->user_agent, &client->user_agent)) {
        return ibk_fail_memory(err, "ibk_http_client_new");
    }
    client->easy = curl_easy_init();
    client->multi = curl_multi_init();
    if (client->easy == NULL || client->multi == NULL) {
        return ibk_fail_memory(err, "ibk_http_client_new");
    }
    if (curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, (long)IBK_MAX_KEPT) != CURLM_OK) {
        return ibk_http_setup_fail(CURLE_UNKNOWN_OPTION, "ibk_http_client_new", err);
    }
    CURLcode result = set_options(client);
    return result == CURLE_OK ? IBK_OK : ibk_http_setup_fail(result, "ibk_http_client_new", err);
}

ibk_code ibk_http_client_new(const struct ibk_http_options *options, struct ibk_http_client **out, struct ibk_error *err)
{
    *out = NULL;
    ibk_code code = ibk_http_global_init(err);
    if (code == IBK_OK) {
        code = check_options(options, err);
    }
    if (code != IBK_OK) {
        return code;
    }
    struct ibk_http_client *client = ibk_alloc(sizeof *client);
    if (client == NULL) {
        return ibk_fail_memory(err, __func__);
    }
    memset(client, 0, sizeof *client);
    code = fill(client, options, err);
    if (code != IBK_OK) {
        ibk_http_client_free(client);
        return code;
    }
    *out = client;
    return IBK_OK;
}

void ibk_http_client_free(struct ibk_http_client *client)
{
    if (client == NULL) {
        return;
    }
    /*
     * In a forked child the handles share their sockets with the parent: closing would send TLS's goodbye on the parent's
     * connection. They are abandoned, memory and descriptors included.
     */
    if (client->pid == getpid()) {
        curl_easy_cleanup(client->easy);
        (void)curl_multi_cleanup(client->multi);
        ibk_http_forget_openssl_errors();
    }
    ibk_buf_clean(&client->url);
    ibk_buf_clean(&client->header_text);
    ibk_free(client->ca_file);
    ibk_free(client->ca_path);
    if (client->proxy != NULL) {
        ibk_free_secret(client->proxy, strlen(client->proxy));
    }
    ibk_free(client->user_agent);
    ibk_free(client);
}
