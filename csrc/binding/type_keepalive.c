/*
 * type_keepalive.c - KeepAlive: beats from the engine's thread, while Python does what it likes.
 */
#include "state.h"

#include "ibk/keepalive.h"

struct arguments {
    PyObject *client, *method, *url, *headers;
    long long key, interval_ms, backoff_ms;
    long timeout_ms;
};

static PyObject *make_keepalive(PyTypeObject *type, const struct ibk_state *state, struct ibk_engine_client *client,
                                const struct ibk_keepalive_options *options)
{
    struct ibk_error err;
    struct ibk_keepalive *keepalive;
    if (ibk_keepalive_new(client, options, &keepalive, &err) != IBK_OK) {
        return ibk_raise(state, &err);
    }
    PyObject *self = ibk_object_new(type, keepalive);
    if (self == NULL) {
        ibk_keepalive_free(keepalive);
    }
    return self;
}

static PyObject *keepalive_from(PyTypeObject *type, const struct ibk_state *state, const struct arguments *arguments)
{
    struct ibk_engine_client *client = ibk_object_native(arguments->client);
    struct ibk_params headers;
    struct ibk_keepalive_options options = {
        .key = arguments->key,
        .headers = &headers,
        .interval_ms = arguments->interval_ms,
        .backoff_ms = arguments->backoff_ms,
        .timeout_ms = arguments->timeout_ms,
    };
    PyObject *self = NULL;
    ibk_params_init(&headers);
    if (client != NULL && ibk_get_text(state, arguments->method, "method", &options.method) &&
        ibk_get_text(state, arguments->url, "url", &options.url) &&
        ibk_get_pairs(state, arguments->headers, "headers", &headers)) {
        self = make_keepalive(type, state, client, &options);
    }
    ibk_params_clean(&headers);
    return self;
}

static PyObject *keepalive_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"client", "key", "method", "url", "headers", "interval_ms", "backoff_ms", "timeout_ms", NULL};
    const struct ibk_state *state = ibk_state_of_type((PyObject *)type);
    struct arguments arguments = {.backoff_ms = 5000, .timeout_ms = 20000};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!LOOOL|Ll:KeepAlive", names, state->types[IBK_TYPE_ENGINE_CLIENT],
                                     &arguments.client, &arguments.key, &arguments.method, &arguments.url, &arguments.headers,
                                     &arguments.interval_ms, &arguments.backoff_ms, &arguments.timeout_ms)) {
        return NULL;
    }
    return keepalive_from(type, state, &arguments);
}

static void keepalive_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    ibk_keepalive_free(IBK_SELF(self)->native);
    ibk_object_free(self);
}

/* None, or the failure raised. */
static PyObject *done(PyObject *self, ibk_code code, const struct ibk_error *err)
{
    return code == IBK_OK ? Py_NewRef(Py_None) : ibk_raise(ibk_state_of(self), err);
}

static PyObject *keepalive_start(PyObject *self, PyObject *signer)
{
    struct ibk_keepalive *keepalive = ibk_object_native(self);
    struct ibk_signer *native = NULL;
    struct ibk_error err;
    if (keepalive == NULL) {
        return NULL;
    }
    if (signer != Py_None) {
        if (Py_TYPE(signer) != ibk_state_of(self)->types[IBK_TYPE_REQUEST_SIGNER]) {
            return ibk_raise_type("signer", "RequestSigner or None", signer);
        }
        native = ibk_object_native(signer);
        if (native == NULL) {
            return NULL;
        }
    }
    return done(self, ibk_keepalive_start(keepalive, native, &err), &err);
}

static PyObject *keepalive_stop(PyObject *self, PyObject *args)
{
    (void)args;
    struct ibk_keepalive *keepalive = ibk_object_native(self);
    if (keepalive == NULL) {
        return NULL;
    }
    ibk_keepalive_stop(keepalive);
    return Py_NewRef(Py_None);
}

static PyObject *keepalive_set_headers(PyObject *self, PyObject *pairs)
{
    struct ibk_keepalive *keepalive = ibk_object_native(self);
    struct ibk_params headers;
    struct ibk_error err;
    PyObject *result = NULL;
    if (keepalive == NULL) {
        return NULL;
    }
    ibk_params_init(&headers);
    if (ibk_get_pairs(ibk_state_of(self), pairs, "headers", &headers)) {
        result = done(self, ibk_keepalive_set_headers(keepalive, &headers, &err), &err);
    }
    ibk_params_clean(&headers);
    return result;
}

static PyObject *keepalive_set_clock(PyObject *self, PyObject *offset)
{
    struct ibk_keepalive *keepalive = ibk_object_native(self);
    struct ibk_error err;
    if (keepalive == NULL) {
        return NULL;
    }
    if (offset == Py_None) {
        return done(self, ibk_keepalive_set_clock(keepalive, NULL, &err), &err);
    }
    int64_t offset_ms = PyLong_AsLongLong(offset);
    if (offset_ms == -1 && PyErr_Occurred() != NULL) {
        return NULL;
    }
    return done(self, ibk_keepalive_set_clock(keepalive, &offset_ms, &err), &err);
}

static PyObject *keepalive_beat(PyObject *self, PyObject *args)
{
    (void)args;
    struct ibk_keepalive *keepalive = ibk_object_native(self);
    struct ibk_error err;
    return keepalive != NULL ? done(self, ibk_keepalive_beat(keepalive, &err), &err) : NULL;
}

static PyObject *keepalive_status(PyObject *self, PyObject *args)
{
    (void)args;
    struct ibk_keepalive *keepalive = ibk_object_native(self);
    struct ibk_keepalive_status status;
    struct ibk_error err;
    if (keepalive == NULL) {
        return NULL;
    }
    if (ibk_keepalive_look(keepalive, &status, &err) != IBK_OK) {
        return ibk_raise(ibk_state_of(self), &err);
    }
    return Py_BuildValue("(KKKLO)", (unsigned long long)status.sent, (unsigned long long)status.good,
                         (unsigned long long)status.failures, (long long)status.since_last_good_ms,
                         status.running ? Py_True : Py_False);
}

static PyMethodDef keepalive_methods[] = {
    {"start", keepalive_start, METH_O,
     "start($self, signer, /)\n--\n\nBegins, the first beat after an interval; None: unsigned. Where it runs, only the signer "
     "changes, at once."},
    {"set_headers", keepalive_set_headers, METH_O, "set_headers($self, headers, /)\n--\n\nFor the next beat on."},
    {"set_clock", keepalive_set_clock, METH_O,
     "set_clock($self, offset_ms, /)\n--\n\nThe server's clock is steady_ms() plus this; None: the wall clock."},
    {"beat", keepalive_beat, METH_NOARGS, "beat($self, /)\n--\n\nOne beat now, unless one is under way or it does not run."},
    {"stop", keepalive_stop, METH_NOARGS,
     "stop($self, /)\n--\n\nNothing is sent or delivered any more. May be called again, as may start()."},
    {"status", keepalive_status, METH_NOARGS,
     "status($self, /)\n--\n\n(beats, good ones, failures in a row, milliseconds since the last good one or -1, whether it "
     "runs)."},
    IBK_REFUSE_PICKLING,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot keepalive_slots[] = {
    {Py_tp_doc, "KeepAlive(client, key, method, url, headers, interval_ms, backoff_ms=5000, timeout_ms=20000)\n--\n\n"
                "A request every so often from the engine's thread, signed anew each time. Threads may share one."},
    {Py_tp_new, IBK_SLOT(keepalive_new)},
    {Py_tp_dealloc, IBK_SLOT(keepalive_dealloc)},
    {Py_tp_traverse, IBK_SLOT(ibk_object_traverse)},
    {Py_tp_methods, keepalive_methods},
    {0, NULL},
};

PyType_Spec ibk_keep_alive_spec = {
    .name = "ibkr_oauth._core.KeepAlive",
    .basicsize = sizeof(struct ibk_object),
    .flags = IBK_TYPE_FLAGS,
    .slots = keepalive_slots,
};
