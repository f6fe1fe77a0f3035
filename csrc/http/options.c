/* options.c - what a client was asked to do: checked and copied. */
#include "http_internal.h"

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

ibk_code ibk_http_settings_init(struct ibk_http_settings *settings, const struct ibk_http_options *options, struct ibk_error *err)
{
    memset(settings, 0, sizeof *settings);
    ibk_code code = check_options(options, err);
    if (code != IBK_OK) {
        return code;
    }
    settings->connect_timeout_ms = options->connect_timeout_ms;
    settings->max_header_bytes = options->max_header_bytes;
    settings->max_body_bytes = options->max_body_bytes;
    if (!copy_text(options->ca_file, &settings->ca_file) || !copy_text(options->ca_path, &settings->ca_path) ||
        !copy_text(options->proxy, &settings->proxy) || !copy_text(options->user_agent, &settings->user_agent)) {
        return ibk_fail_memory(err, "ibk_http_client_new");
    }
    return IBK_OK;
}

void ibk_http_settings_clean(struct ibk_http_settings *settings)
{
    ibk_free(settings->ca_file);
    ibk_free(settings->ca_path);
    if (settings->proxy != NULL) {
        ibk_free_secret(settings->proxy, strlen(settings->proxy));
    }
    ibk_free(settings->user_agent);
    memset(settings, 0, sizeof *settings);
}
