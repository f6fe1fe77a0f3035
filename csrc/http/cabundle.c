/* cabundle.c - where certificate authorities are found, looked up at run time: a wheel is built on one system and runs on
 * another, so the place compiled into libcurl may not exist. */
#include "http_internal.h"

#include <stdio.h>
#include <string.h>

static const char *const known_files[] = {
    "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Ubuntu, Arch, Gentoo */
    "/etc/pki/tls/certs/ca-bundle.crt",                  /* Fedora, RHEL */
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* Fedora, RHEL: what the one above points to */
    "/etc/ssl/ca-bundle.pem",                            /* SUSE */
    "/etc/ssl/cert.pem",                                 /* Alpine, macOS, OpenBSD, FreeBSD */
    "/usr/local/etc/ssl/cert.pem",                       /* FreeBSD ports */
    "/usr/local/share/certs/ca-root-nss.crt",            /* FreeBSD ca_root_nss */
    "/opt/homebrew/etc/ca-certificates/cert.pem",        /* Homebrew on Apple silicon */
    "/usr/local/etc/ca-certificates/cert.pem",           /* Homebrew on Intel */
    NULL,
};
static const char *const known_paths[] = {"/etc/ssl/certs", "/etc/pki/tls/certs", NULL};

/* Readable and not empty: an empty bundle would look like an unknown authority later. */
static bool is_file(const char *name)
{
    FILE *file = fopen(name, "r");
    if (file == NULL) {
        return false;
    }
    bool readable = fgetc(file) != EOF; /* a directory opens, but cannot be read */
    (void)fclose(file);
    return readable;
}

/* OpenSSL looks certificates up by names like "5ed36f99.0". */
static bool is_hashed_name(const char *name)
{
    return strspn(name, "0123456789abcdef") == 8 && name[8] == '.' && name[9] >= '0' && name[9] <= '9';
}

static bool copy(const char *text, char *target, size_t size)
{
    size_t needed = strlen(text) + 1;
    if (needed > size) {
        return false;
    }
    memcpy(target, text, needed);
    return true;
}

ibk_code ibk_ca_search(const struct ibk_ca_place *places, size_t count, char *file, size_t file_size, char *path,
                       size_t path_size, struct ibk_error *err)
{
    file[0] = '\0';
    path[0] = '\0';
    for (size_t i = 0; i < count; i++) {
        for (const char *const *name = places[i].files; *name != NULL; name++) {
            if (is_file(*name) && copy(*name, file, file_size)) {
                return IBK_OK;
            }
        }
        for (const char *const *name = places[i].paths; *name != NULL; name++) {
            if (ibk_directory_has(*name, is_hashed_name) && copy(*name, path, path_size)) {
                return IBK_OK;
            }
        }
    }
    return ibk_fail(
        err, IBK_E_CA_MISSING, "ibk_http_find_ca",
        "no file of certificate authorities on this system: neither where libcurl expects it nor in the usual places");
}

ibk_code ibk_http_find_ca(char *file, size_t file_size, char *path, size_t path_size, struct ibk_error *err)
{
    const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
    const char *const built_in_files[] = {info->cainfo, NULL};
    const char *const built_in_paths[] = {info->capath, NULL};
    const struct ibk_ca_place places[] = {{built_in_files, built_in_paths}, {known_files, known_paths}};

    if (file_size == 0 || path_size == 0) {
        return ibk_fail(err, IBK_E_ARGUMENT, "ibk_http_find_ca", "no room for the answer");
    }
    return ibk_ca_search(places, 2, file, file_size, path, path_size, err);
}

/* Both are always set, since libcurl would otherwise trust its built-in place as well as the one given. */
static ibk_code apply(struct ibk_http_handle *handle, const char *file, const char *path, struct ibk_error *err)
{
    static const CURLoption options[][2] = {{CURLOPT_CAINFO, CURLOPT_CAPATH}, {CURLOPT_PROXY_CAINFO, CURLOPT_PROXY_CAPATH}};
    CURLcode result = CURLE_OK;
    for (size_t i = 0; i < 2 && result == CURLE_OK; i++) {
        result = curl_easy_setopt(handle->easy, options[i][0], file);
        if (result == CURLE_OK) {
            result = curl_easy_setopt(handle->easy, options[i][1], path);
        }
    }
    if (result != CURLE_OK) {
        return ibk_http_setup_fail(result, "ibk_http_send", err);
    }
    handle->ca_ready = true;
    return IBK_OK;
}

/* Once for a handle: whoever takes the file away later does not end what works. */
static ibk_code look_up(struct ibk_http_handle *handle, struct ibk_error *err)
{
    const struct ibk_http_settings *settings = handle->settings;
    ibk_code code = IBK_OK;
    if (settings->ca_file != NULL && !is_file(settings->ca_file)) {
        return ibk_fail(err, IBK_E_CA_MISSING, "ibk_http_send", "certificate authorities: cannot read the file %.180s",
                        settings->ca_file);
    }
    if (settings->ca_path != NULL && !ibk_directory_is_readable(settings->ca_path)) {
        return ibk_fail(err, IBK_E_CA_MISSING, "ibk_http_send", "certificate authorities: cannot read the directory %.180s",
                        settings->ca_path);
    }
    if (settings->ca_file == NULL && settings->ca_path == NULL) {
        code = ibk_http_find_ca(handle->ca_file, sizeof handle->ca_file, handle->ca_path, sizeof handle->ca_path, err);
    }
    handle->ca_known = code == IBK_OK;
    return code;
}

ibk_code ibk_http_ca_apply(struct ibk_http_handle *handle, struct ibk_error *err)
{
    const struct ibk_http_settings *settings = handle->settings;
    if (handle->ca_ready) {
        return IBK_OK;
    }
    ibk_code code = handle->ca_known ? IBK_OK : look_up(handle, err);
    if (code != IBK_OK) {
        return code;
    }
    if (settings->ca_file != NULL || settings->ca_path != NULL) {
        return apply(handle, settings->ca_file, settings->ca_path, err);
    }
    return apply(handle, handle->ca_file[0] != '\0' ? handle->ca_file : NULL, handle->ca_path[0] != '\0' ? handle->ca_path : NULL,
                 err);
}
