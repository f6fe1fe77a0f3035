/*
 * transport.c - options, requests and answers: Python values to C and back.
 */
#include "transport.h"

#include <stdio.h>

struct arguments {
    PyObject *mailbox, *user_agent, *ca_file, *proxy;
    long connect_timeout_ms;
    Py_ssize_t max_header_bytes, max_body_bytes;
};

/* A path as the operating system spells it, owned; NULL for None. */
static bool get_path(const struct ibk_state *state, PyObject *value, const char *what, PyObject **out)
{
    *out = NULL;
    if (value == Py_None) {
        return true;
    }
    if (!PyUnicode_Check(value)) {
        ibk_raise_type(what, "str", value);
        return false;
    }
    if (PyUnicode_FSConverter(value, out)) {
        return true;
    }
    if (PyErr_ExceptionMatches(PyExc_ValueError)) {
        struct ibk_error err;
        PyErr_Clear();
        ibk_fail(&err, IBK_E_ARGUMENT, __func__, "%s is not the name of a file", what);
        ibk_raise(state, &err);
    }
    return false;
}

static bool parse(PyObject *args, PyObject *kwargs, const char *type_name, bool with_mailbox, struct arguments *out)
{
    static char *names[] = {"mailbox",          "user_agent",     "ca_file", "proxy", "connect_timeout_ms",
                            "max_header_bytes", "max_body_bytes", NULL};
    char format[64];
    bool parsed;
    *out = (struct arguments){
        .ca_file = Py_None,
        .proxy = Py_None,
        .connect_timeout_ms = 10000,
        .max_header_bytes = 65536,
        .max_body_bytes = 67108864,
    };
    (void)snprintf(format, sizeof format, "%s$OOOlnn:%s", with_mailbox ? "O|" : "|", type_name);
    if (with_mailbox) {
        parsed = PyArg_ParseTupleAndKeywords(args, kwargs, format, names, &out->mailbox, &out->user_agent, &out->ca_file,
                                             &out->proxy, &out->connect_timeout_ms, &out->max_header_bytes, &out->max_body_bytes);
    } else {
        parsed = PyArg_ParseTupleAndKeywords(args, kwargs, format, names + 1, &out->user_agent, &out->ca_file, &out->proxy,
                                             &out->connect_timeout_ms, &out->max_header_bytes, &out->max_body_bytes);
    }
    if (parsed && out->user_agent == NULL) {
        PyErr_Format(PyExc_TypeError, "%s() missing required keyword-only argument: 'user_agent'", type_name);
        return false;
    }
    return parsed;
}

static bool convert(const struct ibk_state *state, const struct arguments *arguments, struct ibk_client_options *out)
{
    if (arguments->max_header_bytes < 0 || arguments->max_body_bytes < 0) {
        struct ibk_error err;
        ibk_fail(&err, IBK_E_ARGUMENT, __func__, "max_header_bytes and max_body_bytes are not negative");
        ibk_raise(state, &err);
        return false;
    }
    out->options = (struct ibk_http_options){
        .connect_timeout_ms = arguments->connect_timeout_ms,
        .max_header_bytes = (size_t)arguments->max_header_bytes,
        .max_body_bytes = (size_t)arguments->max_body_bytes,
    };
    if (!ibk_get_c_string(state, arguments->user_agent, "user_agent", &out->options.user_agent) ||
        (arguments->proxy != Py_None && !ibk_get_c_string(state, arguments->proxy, "proxy", &out->options.proxy)) ||
        !get_path(state, arguments->ca_file, "ca_file", &out->ca_file)) {
        return false;
    }
    out->options.ca_file = out->ca_file != NULL ? PyBytes_AsString(out->ca_file) : NULL;
    return true;
}

bool ibk_get_client_options(const struct ibk_state *state, const char *type_name, PyObject *args, PyObject *kwargs,
                            PyObject **mailbox, struct ibk_client_options *out)
{
    struct arguments arguments;
    *out = (struct ibk_client_options){.ca_file = NULL};
    if (!parse(args, kwargs, type_name, mailbox != NULL, &arguments)) {
        return false;
    }
    if (mailbox != NULL) {
        *mailbox = arguments.mailbox;
    }
    return convert(state, &arguments, out);
}

void ibk_client_options_clean(struct ibk_client_options *options)
{
    Py_XDECREF(options->ca_file);
}

void ibk_call_init(struct ibk_call *call)
{
    call->request = (struct ibk_http_request){.headers = NULL};
    call->headers = NULL;
    call->body = (Py_buffer){.obj = NULL};
    ibk_params_init(&call->header_text);
    ibk_signing_init(&call->signed_as.signing);
}

void ibk_call_clean(struct ibk_call *call)
{
    ibk_params_clean(&call->header_text);
    ibk_signing_clean(&call->signed_as.signing);
    ibk_free(call->headers);
    PyBuffer_Release(&call->body);
}

/* With room for one more. */
static bool parse_call_headers(const struct ibk_state *state, PyObject *headers, struct ibk_call *call)
{
    if (!ibk_get_pairs(state, headers, "headers", &call->header_text)) {
        return false;
    }
    size_t count = ibk_params_count(&call->header_text), size;
    call->headers = ibk_mul_size(count + 1, sizeof *call->headers, &size) ? ibk_alloc(size) : NULL;
    if (call->headers == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        call->headers[i].name = ibk_params_peek_name(&call->header_text, i);
        call->headers[i].value = ibk_params_peek_value(&call->header_text, i);
    }
    call->request.headers = call->headers;
    call->request.header_count = count;
    return true;
}

static bool parse_call_body(PyObject *body, struct ibk_call *call)
{
    if (body == Py_None) {
        return true;
    }
    if (!ibk_get_buffer(body, "body", &call->body)) {
        return false;
    }
    call->request.body = ibk_buffer_span(&call->body);
    return true;
}

static bool parse_request(const struct ibk_state *state, PyObject *const *args, struct ibk_call *call)
{
    if (!ibk_get_text(state, args[0], "method", &call->request.method) ||
        !ibk_get_text(state, args[1], "url", &call->request.url) || !parse_call_headers(state, args[2], call) ||
        !parse_call_body(args[3], call) || !ibk_get_flag(args[4], "repeatable", &call->request.repeatable)) {
        return false;
    }
    call->request.timeout_ms = PyLong_AsLong(args[5]);
    return !(call->request.timeout_ms == -1 && PyErr_Occurred() != NULL);
}

/* Signs the request and puts the header to the others. */
static bool sign(const struct ibk_state *state, PyObject *const *request, PyObject *const *args, struct ibk_call *call)
{
    struct ibk_error err;
    struct ibk_signing *signing = &call->signed_as.signing;
    if (!Py_IS_TYPE(args[0], state->types[IBK_TYPE_REQUEST_SIGNER])) {
        ibk_raise_type("signer", "RequestSigner", args[0]);
        return false;
    }
    const struct ibk_signer *signer = ibk_object_native(args[0]);
    if (signer == NULL || !ibk_signing_parse(state, request, args + 1, &call->signed_as)) {
        return false;
    }
    if (ibk_signer_sign(signer, signing, &err) != IBK_OK) {
        ibk_raise(state, &err);
        return false;
    }
    call->request.url = signing->url;
    call->headers[call->request.header_count++] =
        (struct ibk_http_header){ibk_span_text("Authorization"), ibk_buf_peek(&signing->header)};
    return true;
}

#define REQUEST_ARGUMENTS 6

bool ibk_call_parse(const struct ibk_state *state, const char *name, PyObject *const *args, Py_ssize_t count,
                    struct ibk_call *call)
{
    bool is_whole = count == REQUEST_ARGUMENTS + 1 + IBK_SIGNING_ARGUMENTS;
    if (count != REQUEST_ARGUMENTS && !is_whole) {
        PyErr_Format(PyExc_TypeError, "%s() takes %d arguments for a request, and %d more to sign it (%zd given)", name,
                     REQUEST_ARGUMENTS, 1 + IBK_SIGNING_ARGUMENTS, count);
        return false;
    }
    bool is_signed = is_whole && args[REQUEST_ARGUMENTS] != Py_None;
    return parse_request(state, args, call) && (!is_signed || sign(state, args, args + REQUEST_ARGUMENTS, call));
}

PyObject *ibk_build_response(const struct ibk_http_response *response)
{
    ibk_span headers = ibk_buf_peek(&response->header_block), body = ibk_buf_peek(&response->body);
    return Py_BuildValue("(ly#y#LO)", response->status, headers.len != 0 ? (const char *)headers.data : "",
                         (Py_ssize_t)headers.len, body.len != 0 ? (const char *)body.data : "", (Py_ssize_t)body.len,
                         (long long)response->elapsed_us, response->reused_connection ? Py_True : Py_False);
}
