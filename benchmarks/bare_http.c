/*
 * bare_http.c - what libcurl alone costs: GETs with one handle, whose answers are collected. Nothing is signed, and no Python is
 * in between. Compiled when the benchmarks run, against the libcurl that the extension module uses.
 */
#include <curl/curl.h>
#include <string.h>

#define MAX_SIZE 65536

struct text {
    size_t len;
    char data[MAX_SIZE];
};

static CURL *handle;
static struct text head, body;

static size_t collect(char *data, size_t size, size_t count, void *to)
{
    struct text *text = to;
    size_t len = size * count;
    if (len > MAX_SIZE - text->len) {
        return 0;
    }
    memcpy(text->data + text->len, data, len);
    text->len += len;
    return len;
}

const char *bare_http_version(void)
{
    return curl_version_info(CURLVERSION_NOW)->version;
}

int bare_http_open(const char *url, const char *ca_file)
{
    handle = curl_easy_init();
    return handle != NULL && curl_easy_setopt(handle, CURLOPT_URL, url) == CURLE_OK &&
           curl_easy_setopt(handle, CURLOPT_CAINFO, ca_file) == CURLE_OK &&
           curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(handle, CURLOPT_TCP_NODELAY, 1L) == CURLE_OK &&
           curl_easy_setopt(handle, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(handle, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1) == CURLE_OK &&
           curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, 10000L) == CURLE_OK &&
           curl_easy_setopt(handle, CURLOPT_HEADERFUNCTION, collect) == CURLE_OK &&
           curl_easy_setopt(handle, CURLOPT_HEADERDATA, &head) == CURLE_OK &&
           curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, collect) == CURLE_OK &&
           curl_easy_setopt(handle, CURLOPT_WRITEDATA, &body) == CURLE_OK;
}

int bare_http_get(long count)
{
    int good = 1;
    for (long i = 0; good && i < count; i++) {
        long status = 0;
        head.len = body.len = 0;
        good = curl_easy_perform(handle) == CURLE_OK &&
               curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status) == CURLE_OK && status == 200 && body.len > 0;
    }
    return good;
}

void bare_http_close(void)
{
    curl_easy_cleanup(handle);
}
