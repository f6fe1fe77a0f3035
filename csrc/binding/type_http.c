/*
 * type_http.c - HttpClient: one blocking transport. Transfers run without the GIL; while the socket is quiet, signals get their
 * chance.
 */
#include "state.h"

#include "ibk/http.h"

struct client_arguments {
    PyObject *user_agent, *ca_file, *proxy;
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

static PyObject *make_client(PyTypeObject *type, const struct ibk_state *state, const struct ibk_http_options *options)
{
    struct ibk_error err;
    struct ibk_http_client *client;
    if (ibk_http_client_new(options, &client, &err) != IBK_OK) {
        return ibk_raise(state, &err);
    }
    PyObject *self = ibk_object_new(type, client);
    if (self == NULL) {
        ibk_http_client_free(client);
    }
    return self;
}

static PyObject *client_from(PyTypeObject *type, const struct client_arguments *arguments)
{
    const struct ibk_state *state = ibk_state_of_type((PyObject *)type);
    if (arguments->user_agent == NULL) {
        PyErr_SetString(PyExc_TypeError, "HttpClient() missing required keyword-only argument: 'user_agent'");
        return NULL;
    }
    if (arguments->max_header_bytes < 0 || arguments->max_body_bytes < 0) {
        struct ibk_error err;
        ibk_fail(&err, IBK_E_ARGUMENT, __func__, "max_header_bytes and max_body_bytes are not negative");
        return ibk_raise(state, &err);
    }
    struct ibk_http_options options = {
        .connect_timeout_ms = arguments->connect_timeout_ms,
        .max_header_bytes = (size_t)arguments->max_header_bytes,
        .max_body_bytes = (size_t)arguments->max_body_bytes,
    };
    PyObject *ca_file;
    if (!ibk_get_c_string(state, arguments->user_agent, "user_agent", &options.user_agent) ||
        (arguments->proxy != Py_None && !ibk_get_c_string(state, arguments->proxy, "proxy", &options.proxy)) ||
        !get_path(state, arguments->ca_file, "ca_file", &ca_file)) {
        return NULL;
    }
    options.ca_file = ca_file != NULL ? PyBytes_AsString(ca_file) : NULL;
    PyObject *self = make_client(type, state, &options);
    Py_XDECREF(ca_file);
    return self;
}

static PyObject *client_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"user_agent", "ca_file", "proxy", "connect_timeout_ms", "max_header_bytes", "max_body_bytes", NULL};
    struct client_arguments arguments = {
        .ca_file = Py_None,
        .proxy = Py_None,
        .connect_timeout_ms = 10000,
        .max_header_bytes = 65536,
        .max_body_bytes = 67108864,
    };
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOlnn:HttpClient", names, &arguments.user_agent, &arguments.ca_file,
                                     &arguments.proxy, &arguments.connect_timeout_ms, &arguments.max_header_bytes,
                                     &arguments.max_body_bytes)) {
        return NULL;
    }
    return client_from(type, &arguments);
}

/* Closing connections may take a moment. */
static void client_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    struct ibk_http_client *client = IBK_SELF(self)->native;
    PyThreadState *thread = PyEval_SaveThread();
    ibk_http_client_free(client);
    PyEval_RestoreThread(thread);
    ibk_object_free(self);
}

/* A request whose bytes nobody can change or take away while it is sent. */
struct call {
    struct ibk_http_request request;
    struct ibk_params header_text; /* copies, since the caller's list may change */
    struct ibk_http_header *headers;
    Py_buffer body; /* held; obj NULL where there is none */
};

static void call_init(struct call *call)
{
    *call = (struct call){.headers = NULL};
    ibk_params_init(&call->header_text);
}

static void call_clean(struct call *call)
{
    ibk_params_clean(&call->header_text);
    ibk_free(call->headers);
    PyBuffer_Release(&call->body);
}

static bool call_parse_headers(const struct ibk_state *state, PyObject *headers, struct call *call)
{
    if (!ibk_get_pairs(state, headers, "headers", &call->header_text)) {
        return false;
    }
    size_t count = ibk_params_count(&call->header_text), size;
    if (count == 0) {
        return true;
    }
    call->headers = ibk_mul_size(count, sizeof *call->headers, &size) ? ibk_alloc(size) : NULL;
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

static bool call_parse_body(PyObject *body, struct call *call)
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

static bool call_parse(const struct ibk_state *state, PyObject *const *args, struct call *call)
{
    if (!ibk_get_text(state, args[0], "method", &call->request.method) ||
        !ibk_get_text(state, args[1], "url", &call->request.url) || !call_parse_headers(state, args[2], call) ||
        !call_parse_body(args[3], call) || !ibk_get_flag(args[4], "repeatable", &call->request.repeatable)) {
        return false;
    }
    call->request.timeout_ms = PyLong_AsLong(args[5]);
    return !(call->request.timeout_ms == -1 && PyErr_Occurred() != NULL);
}

static PyObject *decode(const uint8_t *start, const uint8_t *end)
{
    return PyUnicode_DecodeLatin1((const char *)start, end - start, NULL);
}

/* "Name: value" without line end; a line without a colon is no header and gives None. */
static PyObject *parse_header(const uint8_t *line, const uint8_t *end)
{
    const uint8_t *colon = memchr(line, ':', (size_t)(end - line));
    if (colon == NULL) {
        return Py_NewRef(Py_None);
    }
    const uint8_t *value = colon + 1;
    while (value < end && (*value == ' ' || *value == '\t')) {
        value++;
    }
    while (end > value && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r')) {
        end--;
    }
    return Py_BuildValue("(NN)", decode(line, colon), decode(value, end));
}

static PyObject *parse_headers(ibk_span block)
{
    PyObject *headers = PyList_New(0);
    const uint8_t *line = block.data, *end = block.data + block.len;
    while (headers != NULL && line < end) {
        const uint8_t *stop = memchr(line, '\n', (size_t)(end - line));
        PyObject *header = parse_header(line, stop != NULL ? stop : end);
        if (header == NULL || (header != Py_None && PyList_Append(headers, header) < 0)) {
            Py_CLEAR(headers);
        }
        Py_XDECREF(header);
        line = stop != NULL ? stop + 1 : end;
    }
    return headers;
}

static PyObject *build_response(const struct ibk_http_response *response)
{
    PyObject *headers = parse_headers(ibk_buf_peek(&response->header_block));
    if (headers == NULL) {
        return NULL;
    }
    ibk_span body = ibk_buf_peek(&response->body);
    return Py_BuildValue("(lNy#LO)", response->status, headers, body.len != 0 ? (const char *)body.data : "",
                         (Py_ssize_t)body.len, (long long)response->elapsed_us, response->reused_connection ? Py_True : Py_False);
}

static PyObject *call_run(const struct ibk_state *state, struct ibk_http_client *client, const struct call *call)
{
    struct ibk_error err;
    struct ibk_http_response response;
    struct ibk_hook hook = {.callable = NULL};
    const struct ibk_http_hooks hooks = {.interrupt = ibk_hook_step, .context = &hook};
    hook.thread = PyEval_SaveThread();
    ibk_code code = ibk_http_send(client, &call->request, &hooks, &response, &err);
    PyEval_RestoreThread(hook.thread);
    if (code != IBK_OK) {
        return ibk_raise(state, &err);
    }
    PyObject *result = hook.raised ? NULL : build_response(&response);
    ibk_http_response_clean(&response);
    return result;
}

static PyObject *client_send(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct ibk_http_client *client = ibk_object_native(self);
    if (client == NULL) {
        return NULL;
    }
    if (count != 6) {
        return PyErr_Format(PyExc_TypeError, "send() takes 6 arguments (%zd given)", count);
    }
    const struct ibk_state *state = ibk_state_of(self);
    struct call call;
    call_init(&call);
    PyObject *result = call_parse(state, args, &call) ? call_run(state, client, &call) : NULL;
    call_clean(&call);
    return result;
}

static PyObject *client_cancel(PyObject *self, PyObject *args)
{
    (void)args;
    struct ibk_http_client *client = ibk_object_native(self);
    if (client == NULL) {
        return NULL;
    }
    ibk_http_cancel(client);
    return Py_NewRef(Py_None);
}

static PyMethodDef client_methods[] = {
    {"send", IBK_METHOD(client_send), METH_FASTCALL,
     "send($self, method, url, headers, body, repeatable, timeout_ms, /)\n--\n\n"
     "Status, headers in order, inflated body, microseconds, whether the connection was reused."},
    {"cancel", client_cancel, METH_NOARGS,
     "cancel($self, /)\n--\n\nFrom any thread: ends the transfer under way, or the next one."},
    IBK_REFUSE_PICKLING,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot client_slots[] = {
    {Py_tp_doc, "HttpClient(*, user_agent, ca_file=None, proxy=None, connect_timeout_ms=10000, max_header_bytes=65536, "
                "max_body_bytes=67108864)\n--\n\nOne blocking transport, one request at a time."},
    {Py_tp_new, IBK_SLOT(client_new)},
    {Py_tp_dealloc, IBK_SLOT(client_dealloc)},
    {Py_tp_traverse, IBK_SLOT(ibk_object_traverse)},
    {Py_tp_methods, client_methods},
    {0, NULL},
};

PyType_Spec ibk_http_client_spec = {
    .name = "ibkr_oauth._core.HttpClient",
    .basicsize = sizeof(struct ibk_object),
    .flags = IBK_TYPE_FLAGS,
    .slots = client_slots,
};
