/* failure.c - from libcurl's result to ibk_error: which code, whether anything was sent, and a text that a person can use. */
#include "http_internal.h"

#include <errno.h>
#include <stdio.h>

#define WHAT_SIZE 224
#define PROXY_SIZE 60                  /* of its name, as it is shown */
#define CURL_TOO_LARGE ((CURLcode)100) /* CURLE_TOO_LARGE, from 8.6 on */

/* Numbers of OpenSSL's X509_V_ERR_*, which CURLINFO_SSL_VERIFYRESULT passes on. They never change. */
enum {
    VERIFY_NO_ISSUER = 2,
    VERIFY_NOT_YET_VALID = 9,
    VERIFY_EXPIRED = 10,
    VERIFY_SELF_SIGNED = 18,
    VERIFY_SELF_SIGNED_ROOT = 19,
    VERIFY_NO_LOCAL_ISSUER = 20,
    VERIFY_UNABLE = 21,
    VERIFY_WRONG_HOST = 62
};

static const char *words_of_errno(long number)
{
    switch (number) {
    case ECONNREFUSED:
        return "connection refused";
    case ECONNRESET:
        return "connection reset";
    case ETIMEDOUT:
        return "no reply";
    case EHOSTUNREACH:
        return "no route to the host";
    case ENETUNREACH:
        return "network unreachable";
    case EACCES:
    case EPERM:
        return "not permitted";
    default:
        return "no connection";
    }
}

static long number_of(CURL *easy, CURLINFO info)
{
    long number = 0;
    (void)curl_easy_getinfo(easy, info, &number);
    return number;
}

static bool is_resolved(CURL *easy)
{
    curl_off_t microseconds = 0;
    (void)curl_easy_getinfo(easy, CURLINFO_NAMELOOKUP_TIME_T, &microseconds);
    return microseconds > 0;
}

static bool uses_proxy(const struct ibk_http_handle *handle)
{
    return handle->transfer.secure && handle->settings->proxy != NULL;
}

/* What was going on when it ended. */
static const char *phase_of(const struct ibk_http_handle *handle)
{
    const struct ibk_transfer *transfer = &handle->transfer;
    if (!transfer->started) {
        return "starting";
    }
    if (transfer->queued) {
        return "waiting for a free connection";
    }
    if (transfer->header_bytes > 0) {
        return "reading the answer";
    }
    if (transfer->written) {
        curl_off_t uploaded = 0;
        (void)curl_easy_getinfo(handle->easy, CURLINFO_SIZE_UPLOAD_T, &uploaded);
        return (uint64_t)uploaded < transfer->request->body.len ? "sending the request" : "waiting for the answer";
    }
    if (!is_resolved(handle->easy)) {
        return uses_proxy(handle) ? "looking up the proxy" : "looking up the host";
    }
    if (uses_proxy(handle)) {
        return "connecting through the proxy";
    }
    return transfer->tcp_connected ? "shaking hands (TLS)" : "connecting";
}

static int cut(ibk_span text, int most)
{
    return text.len > (size_t)most ? most : (int)text.len;
}

/* Host and port of the proxy: its URL without scheme, user, password and path. */
static ibk_span proxy_name(const struct ibk_http_handle *handle)
{
    const char *start = strstr(handle->settings->proxy, "://") + 3; /* checked by ibk_http_client_new */
    const char *at = strrchr(start, '@');
    start = at != NULL ? at + 1 : start;
    return ibk_span_of(start, strcspn(start, "/"));
}

/* libcurl's own words, cut and in printable ASCII: they may quote a certificate. Only used for what happens before sending. */
static void put_curl_words(const struct ibk_http_handle *handle, CURLcode result, char *out, size_t size)
{
    const char *words = handle->curl_text[0] != '\0' ? handle->curl_text : curl_easy_strerror(result);
    (void)snprintf(out, size, "%.*s", (int)size - 1, words);
    for (char *c = out; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~') {
            *c = '?';
        }
    }
}

static void describe_tls(const struct ibk_http_handle *handle, CURLcode result, char *what)
{
    char words[100];
    char whose[PROXY_SIZE + sizeof "proxy : "] = "";
    long verdict = number_of(handle->easy, CURLINFO_SSL_VERIFYRESULT);
    const char *reason = "TLS failed";

    if (verdict == 0 && uses_proxy(handle)) { /* it has not come to the server's certificate, but perhaps to the proxy's */
        verdict = number_of(handle->easy, CURLINFO_PROXY_SSL_VERIFYRESULT);
        if (verdict != 0) {
            ibk_span name = proxy_name(handle);
            (void)snprintf(whose, sizeof whose, "proxy %.*s: ", cut(name, PROXY_SIZE), (const char *)name.data);
        }
    }
    put_curl_words(handle, result, words, sizeof words);
    switch (verdict) {
    case VERIFY_NO_ISSUER:
    case VERIFY_SELF_SIGNED:
    case VERIFY_SELF_SIGNED_ROOT:
    case VERIFY_NO_LOCAL_ISSUER:
    case VERIFY_UNABLE:
        reason = "certificate from an unknown authority";
        break;
    case VERIFY_NOT_YET_VALID:
        reason = "certificate not valid yet";
        break;
    case VERIFY_EXPIRED:
        reason = "certificate expired";
        break;
    case VERIFY_WRONG_HOST:
        reason = "certificate for another host name";
        break;
    default:
        /* libcurl compares the names itself, after OpenSSL found the chain good. */
        if (result == CURLE_PEER_FAILED_VERIFICATION && strstr(words, "subject name") != NULL) {
            reason = "certificate for another host name";
        }
    }
    (void)snprintf(what, WHAT_SIZE, "%s%s (%s)", whose, reason, words);
}

static void describe_proxy(const struct ibk_http_handle *handle, CURLcode result, char *what)
{
    ibk_span name = proxy_name(handle);
    int shown = cut(name, PROXY_SIZE);
    long status = number_of(handle->easy, CURLINFO_HTTP_CONNECTCODE);
    long error = number_of(handle->easy, CURLINFO_OS_ERRNO); /* 0: it stood, and the proxy did not play along (8.21) */
    const char *host = (const char *)name.data;

    if (status >= 300) {
        (void)snprintf(what, WHAT_SIZE, "proxy %.*s refused the tunnel with status %ld", shown, host, status);
    } else if (result == CURLE_COULDNT_RESOLVE_PROXY) {
        (void)snprintf(what, WHAT_SIZE, "proxy %.*s: host name not found", shown, host);
    } else if (result == CURLE_COULDNT_RESOLVE_HOST) {
        (void)snprintf(what, WHAT_SIZE, "proxy %.*s: its name, or that of the host behind it, not found", shown, host);
    } else if (result == CURLE_COULDNT_CONNECT && error != 0) {
        (void)snprintf(what, WHAT_SIZE, "proxy %.*s: %s", shown, host, words_of_errno(error));
    } else {
        (void)snprintf(what, WHAT_SIZE, "proxy %.*s broke off (%s)", shown, host, curl_easy_strerror(result));
    }
}

/* The connection ended in the middle of the handshake, for no reason of TLS's: libcurl has no code of its own for that. */
static bool is_cut_off(const struct ibk_http_handle *handle, CURLcode result)
{
    static const char *const words[] = {"reset by peer", "SSL_ERROR_SYSCALL", "unexpected eof", "Broken pipe"};
    for (size_t i = 0; result == CURLE_SSL_CONNECT_ERROR && i < sizeof words / sizeof words[0]; i++) {
        if (strstr(handle->curl_text, words[i]) != NULL) {
            return true;
        }
    }
    return false;
}

/* What ended the exchange, before we ask whether it may have had an effect. */
static ibk_code classify(const struct ibk_http_handle *handle, CURLcode result)
{
    const struct ibk_transfer *transfer = &handle->transfer;
    if (transfer->stop != IBK_OK) {
        return transfer->stop;
    }
    switch (result) {
    case CURLE_OPERATION_TIMEDOUT:
        return IBK_E_TIMEOUT;
    case CURL_TOO_LARGE:
        return IBK_E_TOO_LARGE;
    case CURLE_OUT_OF_MEMORY:
        /* Before 8.6 also a header line over 100 KB. */
        return transfer->part != IBK_PART_BODY && transfer->written ? IBK_E_TOO_LARGE : IBK_E_NO_MEMORY;
    default:
        break;
    }
    if (transfer->written) {
        return strncmp(handle->curl_text, "Too large response headers", 26) == 0 ? IBK_E_TOO_LARGE : IBK_E_PROTOCOL;
    }
    if (is_cut_off(handle, result)) {
        return uses_proxy(handle) ? IBK_E_PROXY : IBK_E_CONNECT;
    }
    switch (result) {
    case CURLE_COULDNT_RESOLVE_HOST: /* behind a proxy it is the proxy's, or resolved for a SOCKS proxy */
        return uses_proxy(handle) ? IBK_E_PROXY : IBK_E_RESOLVE;
    case CURLE_URL_MALFORMAT:
        return IBK_E_URL;
    case CURLE_SSL_CACERT_BADFILE:
        return IBK_E_CA_MISSING;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ENGINE_INITFAILED:
    case CURLE_SSL_INVALIDCERTSTATUS:
    case CURLE_SSL_ISSUER_ERROR:
        return IBK_E_TLS;
    default:
        return uses_proxy(handle) ? IBK_E_PROXY : IBK_E_CONNECT;
    }
}

/* A broken exchange after sending. libcurl's error buffer is not used here: it may quote the answer. */
static void describe_broken(const struct ibk_http_handle *handle, CURLcode result, char *what)
{
    const struct ibk_transfer *transfer = &handle->transfer;
    if (transfer->replay_refused) {
        (void)snprintf(what, WHAT_SIZE, "connection lost after the request was sent");
        return;
    }
    switch (result) {
    case CURLE_GOT_NOTHING:
        (void)snprintf(what, WHAT_SIZE, "connection closed without an answer");
        break;
    case CURLE_PARTIAL_FILE:
        (void)snprintf(what, WHAT_SIZE, "answer cut off");
        break;
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_COULDNT_CONNECT:
        (void)snprintf(what, WHAT_SIZE, "connection lost while %s", phase_of(handle));
        break;
    case CURLE_BAD_CONTENT_ENCODING:
        (void)snprintf(what, WHAT_SIZE, "answer cannot be decompressed");
        break;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
        (void)snprintf(what, WHAT_SIZE, "answer is not HTTP");
        break;
    default:
        (void)snprintf(what, WHAT_SIZE, "failed while %s (%s)", phase_of(handle), curl_easy_strerror(result));
    }
}

static void describe_too_large(const struct ibk_http_handle *handle, char *what)
{
    bool body = handle->transfer.part == IBK_PART_BODY;
    if (handle->transfer.stop == IBK_OK) {
        (void)snprintf(what, WHAT_SIZE, "header of the answer too large for libcurl");
    } else {
        (void)snprintf(what, WHAT_SIZE, "%s of the answer over the limit of %zu bytes", body ? "body" : "header",
                       body ? handle->settings->max_body_bytes : handle->settings->max_header_bytes);
    }
}

static void describe(const struct ibk_http_handle *handle, ibk_code code, CURLcode result, char *what)
{
    switch (code) {
    case IBK_E_INTERRUPTED:
    case IBK_E_CANCELLED:
        (void)snprintf(what, WHAT_SIZE, "%s while %s", code == IBK_E_CANCELLED ? "cancelled" : "interrupted", phase_of(handle));
        break;
    case IBK_E_TIMEOUT:
        (void)snprintf(what, WHAT_SIZE, "timed out while %s", phase_of(handle));
        break;
    case IBK_E_TOO_LARGE:
        describe_too_large(handle, what);
        break;
    case IBK_E_NO_MEMORY:
        (void)snprintf(what, WHAT_SIZE, "out of memory while %s", phase_of(handle));
        break;
    case IBK_E_RESOLVE:
        (void)snprintf(what, WHAT_SIZE, "host name not found");
        break;
    case IBK_E_TLS:
        describe_tls(handle, result, what);
        break;
    case IBK_E_CA_MISSING:
        (void)snprintf(what, WHAT_SIZE, "no certificate authorities in %.120s",
                       handle->settings->ca_file != NULL ? handle->settings->ca_file : "the file found on this system");
        break;
    case IBK_E_PROXY:
        describe_proxy(handle, result, what);
        break;
    case IBK_E_CONNECT:
        if (is_cut_off(handle, result)) {
            (void)snprintf(what, WHAT_SIZE, "connection lost while %s", phase_of(handle));
            break;
        }
        (void)snprintf(what, WHAT_SIZE, "%s", words_of_errno(number_of(handle->easy, CURLINFO_OS_ERRNO)));
        break;
    default:
        describe_broken(handle, result, what);
    }
}

/* These keep their code after sending, since the caller asked for them or set the limit; err->sent tells the rest. */
static bool keeps_code(ibk_code code)
{
    return code == IBK_E_INTERRUPTED || code == IBK_E_CANCELLED || code == IBK_E_TOO_LARGE;
}

ibk_code ibk_http_transfer_fail(struct ibk_http_handle *handle, CURLcode result, struct ibk_error *err)
{
    const struct ibk_transfer *transfer = &handle->transfer;
    const struct ibk_url *url = &transfer->url;
    bool sent = transfer->written;
    long elapsed_ms = (long)((ibk_clock_us() - transfer->started_us) / 1000);
    ibk_span port = url->port.len > 0 ? url->port : ibk_span_text(transfer->secure ? "443" : "80");
    char what[WHAT_SIZE];

    ibk_code code = classify(handle, result);
    describe(handle, code, result, what);
    if (sent && !transfer->request->repeatable && !keeps_code(code)) {
        code = IBK_E_OUTCOME_UNKNOWN;
    }
    (void)ibk_fail(err, code, "ibk_http_send", "%s after %ld ms: %.*s %.*s:%.*s%.*s", what, elapsed_ms,
                   cut(transfer->request->method, IBK_MAX_METHOD), (const char *)transfer->request->method.data,
                   cut(url->host, 80), (const char *)url->host.data, cut(port, 5), (const char *)port.data, cut(url->path, 80),
                   url->path.len > 0 ? (const char *)url->path.data : "");
    if (err != NULL) {
        err->sent = sent;
        if (transfer->stop == IBK_OK) {
            err->domain = IBK_DOMAIN_CURL;
            err->native = (unsigned long)result;
        }
    }
    return code;
}

ibk_code ibk_http_setup_fail(CURLcode result, const char *where, struct ibk_error *err)
{
    if (result == CURLE_OUT_OF_MEMORY) {
        return ibk_fail_memory(err, where);
    }
    (void)ibk_fail(err, IBK_E_ARGUMENT, where, "libcurl refused an option: %s", curl_easy_strerror(result));
    if (err != NULL) {
        err->domain = IBK_DOMAIN_CURL;
        err->native = (unsigned long)result;
    }
    return IBK_E_ARGUMENT;
}
