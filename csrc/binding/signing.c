/* signing.c - the arguments of a signature: Python values to C. */
#include "signing.h"

/* In decimal, at the end of the text. Not with snprintf, which is half a microsecond of each call. */
static ibk_span put_seconds(long long seconds, char *text, size_t size)
{
    char *end = text + size, *start = end;
    unsigned long long left = seconds < 0 ? 0 - (unsigned long long)seconds : (unsigned long long)seconds;
    do {
        *--start = (char)('0' + left % 10);
        left /= 10;
    } while (left != 0);
    if (seconds < 0) {
        *--start = '-';
    }
    return ibk_span_of(start, (size_t)(end - start));
}

/* A text, or an int of seconds. */
static bool parse_timestamp(const struct ibk_state *state, PyObject *value, struct ibk_signing_call *call)
{
    if (!PyLong_Check(value)) {
        return ibk_get_text(state, value, "timestamp", &call->signing.timestamp);
    }
    long long seconds = PyLong_AsLongLong(value);
    if (seconds == -1 && PyErr_Occurred() != NULL) {
        return false;
    }
    call->signing.timestamp = put_seconds(seconds, call->timestamp, sizeof call->timestamp);
    return true;
}

bool ibk_signing_parse(const struct ibk_state *state, PyObject *const *request, PyObject *const *args,
                       struct ibk_signing_call *call)
{
    struct ibk_signing *signing = &call->signing;
    return ibk_get_text(state, request[0], "method", &signing->method) && ibk_get_text(state, request[1], "url", &signing->url) &&
           (args[0] == Py_None || ibk_get_pairs(state, args[0], "params", &signing->query)) &&
           (args[1] == Py_None || ibk_get_pairs(state, args[1], "form", &signing->form)) &&
           (args[2] == Py_None || ibk_get_text(state, args[2], "nonce", &signing->nonce)) &&
           parse_timestamp(state, args[3], call);
}
