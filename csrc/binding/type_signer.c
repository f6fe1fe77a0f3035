/*
 * type_signer.c - RequestSigner: signs protected requests with a live session token. The hot path of the package, a few
 * microseconds, so the GIL is kept.
 */
#include "signing.h"

static PyObject *make_signer(PyTypeObject *type, const struct ibk_state *state, const struct ibk_signer_options *options)
{
    struct ibk_error err;
    struct ibk_signer *signer;
    if (ibk_signer_new(options, &signer, &err) != IBK_OK) {
        return ibk_raise(state, &err);
    }
    PyObject *self = ibk_object_new(type, signer);
    if (self == NULL) {
        ibk_signer_release(signer);
    }
    return self;
}

static PyObject *signer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"consumer_key", "access_token", "live_session_token", "realm", "query_signing", NULL};
    const struct ibk_state *state = ibk_state_of_type((PyObject *)type);
    PyObject *consumer_key, *access_token, *live_session_token, *realm, *query_signing;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO!OO:RequestSigner", names, &consumer_key, &access_token,
                                     state->types[IBK_TYPE_SECRET], &live_session_token, &realm, &query_signing)) {
        return NULL;
    }
    struct ibk_signer_options options;
    options.live_session_token = ibk_object_native(live_session_token);
    if (options.live_session_token == NULL || !ibk_get_text(state, consumer_key, "consumer_key", &options.consumer_key) ||
        !ibk_get_text(state, access_token, "access_token", &options.access_token) ||
        !ibk_get_text(state, realm, "realm", &options.realm) ||
        !ibk_get_query_signing(state, query_signing, &options.query_signing)) {
        return NULL;
    }
    return make_signer(type, state, &options);
}

static void signer_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    ibk_signer_release(IBK_SELF(self)->native);
    ibk_object_free(self);
}

/* (URL to send, header). A URL to which nothing was added is the caller's own str. */
static PyObject *build_result(const struct ibk_state *state, struct ibk_signing *signing, PyObject *url)
{
    PyObject *sent = signing->url_with_query.len != 0 ? ibk_take_text(state, &signing->url_with_query, "URL") : Py_NewRef(url);
    PyObject *header = sent != NULL ? ibk_take_text(state, &signing->header, "header") : NULL;
    PyObject *result = header != NULL ? PyTuple_Pack(2, sent, header) : NULL;
    Py_XDECREF(sent);
    Py_XDECREF(header);
    return result;
}

static PyObject *signer_sign(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    const struct ibk_signer *signer = ibk_object_native(self);
    if (signer == NULL) {
        return NULL;
    }
    if (count != 2 + IBK_SIGNING_ARGUMENTS) {
        return PyErr_Format(PyExc_TypeError, "sign() takes 6 arguments (%zd given)", count);
    }
    const struct ibk_state *state = ibk_state_of(self);
    struct ibk_error err;
    struct ibk_signing_call call;
    PyObject *result = NULL;
    ibk_signing_init(&call.signing);
    if (ibk_signing_parse(state, args, args + 2, &call)) {
        result = ibk_signer_sign(signer, &call.signing, &err) == IBK_OK ? build_result(state, &call.signing, args[1])
                                                                        : ibk_raise(state, &err);
    }
    ibk_signing_clean(&call.signing);
    return result;
}

static PyObject *signer_repr(PyObject *self)
{
    (void)self;
    return PyUnicode_FromString("<RequestSigner>");
}

static PyMethodDef signer_methods[] = {
    {"sign", IBK_METHOD(signer_sign), METH_FASTCALL,
     "sign($self, method, url, params, form, nonce, timestamp, /)\n--\n\n"
     "The URL with `params` in its query, exactly as signed and to be sent, and the Authorization header's value.\n"
     "`nonce`: None for a new one. `timestamp`: seconds since 1970, an int or its digits."},
    IBK_COPY_IS_SELF,
    IBK_REFUSE_PICKLING,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot signer_slots[] = {
    {Py_tp_doc, "RequestSigner(consumer_key, access_token, live_session_token, realm, query_signing)\n--\n\n"
                "Signs protected requests with a live session token (HMAC-SHA256). Immutable; threads may share one."},
    {Py_tp_new, IBK_SLOT(signer_new)},
    {Py_tp_dealloc, IBK_SLOT(signer_dealloc)},
    {Py_tp_traverse, IBK_SLOT(ibk_object_traverse)},
    {Py_tp_repr, IBK_SLOT(signer_repr)},
    {Py_tp_methods, signer_methods},
    {0, NULL},
};

PyType_Spec ibk_request_signer_spec = {
    .name = "ibkr_oauth._core.RequestSigner",
    .basicsize = sizeof(struct ibk_object),
    .flags = IBK_TYPE_FLAGS,
    .slots = signer_slots,
};
