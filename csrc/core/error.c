/* error.c - filling the caller's error record. */
#include "ibk/error.h"

#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>

static const char *const code_names[] = {
#define IBK_CODE_TEXT(name, text) text,
    IBK_CODES(IBK_CODE_TEXT)
#undef IBK_CODE_TEXT
};

const char *ibk_code_name(ibk_code code)
{
    return (unsigned int)code < IBK_CODE_COUNT ? code_names[code] : "unknown";
}

const char *ibk_domain_name(enum ibk_domain domain)
{
    switch (domain) {
    case IBK_DOMAIN_CORE:
        return "core";
    case IBK_DOMAIN_OPENSSL:
        return "openssl";
    case IBK_DOMAIN_CURL:
        return "curl";
    case IBK_DOMAIN_SYSTEM:
        return "system";
    }
    return "unknown";
}

static void reset(struct ibk_error *err, ibk_code code, enum ibk_domain domain, const char *where)
{
    err->code = code;
    err->domain = domain;
    err->native = 0;
    err->where = where;
    err->sent = false;
    err->text[0] = '\0';
}

ibk_code ibk_fail(struct ibk_error *err, ibk_code code, const char *where, const char *format, ...)
{
    if (err != NULL) {
        va_list arguments;
        reset(err, code, IBK_DOMAIN_CORE, where);
        va_start(arguments, format);
        (void)vsnprintf(err->text, sizeof err->text, format, arguments);
        va_end(arguments);
    }
    return code;
}

ibk_code ibk_fail_memory(struct ibk_error *err, const char *where)
{
    ERR_clear_error(); /* it may have been OpenSSL's */
    return ibk_fail(err, IBK_E_NO_MEMORY, where, "out of memory");
}

ibk_code ibk_fail_ossl(struct ibk_error *err, ibk_code code, const char *where, const char *text)
{
    unsigned long native = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(native);

    if (err != NULL) {
        reset(err, code, IBK_DOMAIN_OPENSSL, where);
        err->native = native;
        if (reason != NULL) {
            (void)snprintf(err->text, sizeof err->text, "%s (OpenSSL: %s)", text, reason);
        } else {
            (void)snprintf(err->text, sizeof err->text, "%s", text);
        }
    }
    ERR_clear_error(); /* the queue belongs to the thread, and Python's ssl module reads it too */
    return code;
}
