/*
 * type_engine.c - EngineClient: requests that run on the engine's thread, without Python, any number at once.
 *
 * Submitting takes microseconds, so the GIL is kept; closing may wait for the thread to end, so there it is released.
 */
#include "transport.h"

#include "ibk/engine.h"

static PyObject *make_client(PyTypeObject *type, const struct ibk_state *state, const struct ibk_http_options *options,
                             struct ibk_mailbox *mailbox)
{
    struct ibk_error err;
    struct ibk_engine_client *client;
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_engine_client_new(options, mailbox, &client, &err);
    PyEval_RestoreThread(thread);
    if (code != IBK_OK) {
        return ibk_raise(state, &err);
    }
    PyObject *self = ibk_object_new(type, client);
    if (self == NULL) {
        ibk_engine_client_close(client);
        ibk_engine_client_release(client);
    }
    return self;
}

static PyObject *client_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    const struct ibk_state *state = ibk_state_of_type((PyObject *)type);
    struct ibk_client_options options;
    PyObject *mailbox, *self = NULL;
    if (!ibk_get_client_options(state, "EngineClient", args, kwargs, &mailbox, &options)) {
        return NULL;
    }
    if (Py_TYPE(mailbox) != state->types[IBK_TYPE_MAILBOX]) {
        ibk_raise_type("mailbox", "Mailbox", mailbox);
    } else if (ibk_object_native(mailbox) != NULL) {
        self = make_client(type, state, &options.options, ibk_object_native(mailbox));
    }
    ibk_client_options_clean(&options);
    return self;
}

static void close_client(struct ibk_engine_client *client)
{
    PyThreadState *thread = PyEval_SaveThread();
    ibk_engine_client_close(client);
    PyEval_RestoreThread(thread);
}

static void client_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    struct ibk_engine_client *client = IBK_SELF(self)->native;
    close_client(client);
    ibk_engine_client_release(client);
    ibk_object_free(self);
}

static PyObject *submit(const struct ibk_state *state, struct ibk_engine_client *client, PyObject *const *args, Py_ssize_t count)
{
    struct ibk_error err;
    struct ibk_call call;
    ibk_code code = IBK_OK;
    int64_t key = PyLong_AsLongLong(args[0]);
    if (key == -1 && PyErr_Occurred() != NULL) {
        return NULL;
    }
    ibk_call_init(&call);
    bool parsed = ibk_call_parse(state, "submit", args + 1, count - 1, &call);
    if (parsed) {
        code = ibk_engine_submit(client, key, &call.request, &err);
    }
    ibk_call_clean(&call);
    if (!parsed) {
        return NULL;
    }
    return code == IBK_OK ? Py_NewRef(Py_None) : ibk_raise(state, &err);
}

static PyObject *client_submit(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    struct ibk_engine_client *client = ibk_object_native(self);
    if (client == NULL) {
        return NULL;
    }
    if (count < 1) {
        return PyErr_Format(PyExc_TypeError, "submit() takes a key and a request");
    }
    return submit(ibk_state_of(self), client, args, count);
}

static PyObject *client_cancel(PyObject *self, PyObject *value)
{
    struct ibk_engine_client *client = ibk_object_native(self);
    if (client == NULL) {
        return NULL;
    }
    struct ibk_error err;
    bool cancelled;
    int64_t key = PyLong_AsLongLong(value);
    if (key == -1 && PyErr_Occurred() != NULL) {
        return NULL;
    }
    if (ibk_engine_cancel(client, key, &cancelled, &err) != IBK_OK) {
        return ibk_raise(ibk_state_of(self), &err);
    }
    return PyBool_FromLong(cancelled);
}

static PyObject *client_close(PyObject *self, PyObject *args)
{
    (void)args;
    struct ibk_engine_client *client = ibk_object_native(self);
    if (client == NULL) {
        return NULL;
    }
    close_client(client);
    return Py_NewRef(Py_None);
}

static PyMethodDef client_methods[] = {
    {"submit", IBK_METHOD(client_submit), METH_FASTCALL,
     "submit($self, key, " IBK_CALL_ARGUMENTS ", /)\n--\n\n"
     "Copies the request and returns at once; its outcome is put into the mailbox under `key`."},
    {"cancel", client_cancel, METH_O,
     "cancel($self, key, /)\n--\n\nTrue: it was under way, and nothing of it is delivered any more."},
    {"close", client_close, METH_NOARGS,
     "close($self, /)\n--\n\nCancels all that is under way. Nothing is delivered any more. May be called again."},
    IBK_REFUSE_PICKLING,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot client_slots[] = {
    {Py_tp_doc, "EngineClient(mailbox, *, user_agent, ca_file=None, proxy=None, connect_timeout_ms=10000, "
                "max_header_bytes=65536, max_body_bytes=67108864)\n--\n\n"
                "Requests that run on the engine's thread, any number at once. Threads may share one."},
    {Py_tp_new, IBK_SLOT(client_new)},
    {Py_tp_dealloc, IBK_SLOT(client_dealloc)},
    {Py_tp_traverse, IBK_SLOT(ibk_object_traverse)},
    {Py_tp_methods, client_methods},
    {0, NULL},
};

PyType_Spec ibk_engine_client_spec = {
    .name = "ibkr_oauth._core.EngineClient",
    .basicsize = sizeof(struct ibk_object),
    .flags = IBK_TYPE_FLAGS,
    .slots = client_slots,
};
