/* global.c - libcurl, once per process. */
#include "http_internal.h"

#include <stdio.h>
#include <stdlib.h>

static ibk_once once = IBK_ONCE_INIT;
static struct ibk_error outcome;
static char version_text[96] = "libcurl (not initialised)";
static bool keys_are_logged;
static ibk_mutex easy_lock = IBK_MUTEX_INIT;
static ibk_mutex share_lock = IBK_MUTEX_INIT; /* of the share itself */
static ibk_mutex sessions_lock = IBK_MUTEX_INIT;
static bool easies_wear_out;
static bool decompresses;
static CURLSH *share; /* of TLS sessions; NULL where libcurl keeps them longer than an easy handle lives */

static void lock_all(void)
{
    ibk_mutex_lock(&easy_lock);
    ibk_mutex_lock(&share_lock);
    ibk_mutex_lock(&sessions_lock);
}

static void unlock_all(void)
{
    ibk_mutex_unlock(&sessions_lock);
    ibk_mutex_unlock(&share_lock);
    ibk_mutex_unlock(&easy_lock);
}

bool ibk_http_easies_wear_out(void)
{
    return easies_wear_out;
}

bool ibk_http_decompresses(void)
{
    return decompresses;
}

CURL *ibk_http_easy_new(void)
{
    ibk_mutex_lock(&easy_lock);
    CURL *easy = curl_easy_init();
    ibk_mutex_unlock(&easy_lock);
    if (easy != NULL && share != NULL && curl_easy_setopt(easy, CURLOPT_SHARE, share) != CURLE_OK) {
        curl_easy_cleanup(easy);
        easy = NULL;
    }
    return easy;
}

static ibk_mutex *lock_of(curl_lock_data data)
{
    return data == CURL_LOCK_DATA_SSL_SESSION ? &sessions_lock : &share_lock;
}

static void lock_shared(CURL *easy, curl_lock_data data, curl_lock_access access, void *context)
{
    (void)easy;
    (void)access;
    (void)context;
    ibk_mutex_lock(lock_of(data));
}

static void unlock_shared(CURL *easy, curl_lock_data data, void *context)
{
    (void)easy;
    (void)context;
    ibk_mutex_unlock(lock_of(data));
}

/* An easy handle keeps its TLS sessions: one for each exchange would make every new connection pay a whole handshake. */
static bool share_sessions(void)
{
    share = curl_share_init();
    return share != NULL && curl_share_setopt(share, CURLSHOPT_LOCKFUNC, lock_shared) == CURLSHE_OK &&
           curl_share_setopt(share, CURLSHOPT_UNLOCKFUNC, unlock_shared) == CURLSHE_OK &&
           curl_share_setopt(share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION) == CURLSHE_OK;
}

static void describe_version(const curl_version_info_data *info)
{
    (void)snprintf(version_text, sizeof version_text, "libcurl/%s %s", info->version,
                   info->ssl_version != NULL ? info->ssl_version : "without TLS");
}

static void initialise(void)
{
    const curl_version_info_data *info = curl_version_info(CURLVERSION_NOW);
    describe_version(info);
    easies_wear_out = info->version_num < 0x080200;
    decompresses = (info->features & CURL_VERSION_LIBZ) != 0;
    if (info->version_num < 0x075400) {
        (void)ibk_fail(&outcome, IBK_E_ARGUMENT, "ibk_http_global_init", "libcurl %s is too old: 7.84 or newer is required",
                       info->version);
        return;
    }
    if ((info->features & CURL_VERSION_THREADSAFE) == 0 || (info->features & CURL_VERSION_ASYNCHDNS) == 0 ||
        (info->features & CURL_VERSION_SSL) == 0) {
        (void)ibk_fail(&outcome, IBK_E_ARGUMENT, "ibk_http_global_init",
                       "libcurl %s was built without thread-safe start-up, without a resolver that can be timed out, or "
                       "without TLS",
                       info->version);
        return;
    }
    /* libcurl opens the file here, or did so before us for another user in this process; nothing takes it back. */
    const char *key_log = getenv("SSLKEYLOGFILE"); // NOLINT(concurrency-mt-unsafe): libcurl does the same a line later
    keys_are_logged = key_log != NULL && key_log[0] != '\0';

    /* There is no curl_global_cleanup to match: others in this process may use libcurl. */
    CURLcode result = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (result != CURLE_OK) {
        (void)ibk_http_setup_fail(result, "ibk_http_global_init", &outcome);
    } else if ((easies_wear_out && !share_sessions()) || !ibk_process_on_fork(lock_all, unlock_all, unlock_all)) {
        (void)ibk_fail_memory(&outcome, "ibk_http_global_init");
    }
}

ibk_code ibk_http_global_init(struct ibk_error *err)
{
    ibk_once_run(&once, initialise);
    if (outcome.code != IBK_OK && err != NULL) {
        *err = outcome;
    }
    return outcome.code;
}

const char *ibk_http_library_version(void)
{
    return version_text;
}

bool ibk_http_keys_are_logged(void)
{
    return keys_are_logged;
}
