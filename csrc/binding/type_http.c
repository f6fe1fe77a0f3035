/*
 * type_http.c - HttpClient: one blocking transport. Transfers run without the GIL; while the socket is quiet, signals get their
 * chance.
 */
#include "transport.h"

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

static PyObject *client_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    const struct ibk_state *state = ibk_state_of_type((PyObject *)type);
    struct ibk_client_options options;
    if (!ibk_get_client_options(state, "HttpClient", args, kwargs, NULL, &options)) {
        return NULL;
    }
    PyObject *self = make_client(type, state, &options.options);
    ibk_client_options_clean(&options);
    return self;
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

static PyObject *call_run(const struct ibk_state *state, struct ibk_http_client *client, const struct ibk_call *call)
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
    PyObject *result = hook.raised ? NULL : ibk_build_response(&response);
    ibk_http_response_clean(&response);
    return result;
}

static PyObject *client_send(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct ibk_http_client *client = ibk_object_native(self);
    if (client == NULL) {
        return NULL;
    }
    const struct ibk_state *state = ibk_state_of(self);
    struct ibk_call call;
    ibk_call_init(&call);
    PyObject *result = ibk_call_parse(state, "send", args, count, &call) ? call_run(state, client, &call) : NULL;
    ibk_call_clean(&call);
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
     "send($self, " IBK_CALL_ARGUMENTS ", /)\n--\n\n"
     "Status, header lines, inflated body, microseconds, whether the connection was reused."},
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
