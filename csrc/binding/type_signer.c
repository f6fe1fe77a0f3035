/*
 * type_signer.c - RequestSigner: signs protected requests with a live session token. The hot path of the package, a few
 * microseconds, so the GIL is kept.
 */
#include "state.h"

#define REALM_MAX_SIZE 4096u

/* Immutable once made, so threads may share it. */
struct signer {
    struct ibk_params constant; /* the oauth parameters that are the same for every request */
    struct ibk_buf realm;
    struct ibk_mac_key *mac_key;
    enum ibk_query_signing query_signing;
};

static void signer_free(struct signer *signer)
{
    if (signer != NULL) {
        ibk_params_clean(&signer->constant);
        ibk_buf_clean(&signer->realm);
        if (signer->mac_key != NULL) {
            ibk_mac_key_free(signer->mac_key);
        }
        ibk_free(signer);
    }
}

struct signer_input {
    ibk_span consumer_key, access_token, realm;
    enum ibk_query_signing query_signing;
    const struct ibk_secret *live_session_token;
};

static ibk_code signer_fill(struct signer *signer, const struct signer_input *input, struct ibk_error *err)
{
    ibk_code code;
    ibk_params_init(&signer->constant);
    ibk_buf_init(&signer->realm, REALM_MAX_SIZE);
    signer->mac_key = NULL;
    signer->query_signing = input->query_signing;
    ibk_buf_put(&signer->realm, input->realm);
    if ((code = ibk_buf_check(&signer->realm, "realm", err)) != IBK_OK ||
        (code = ibk_params_add_text(&signer->constant, "oauth_consumer_key", input->consumer_key, err)) != IBK_OK ||
        (code = ibk_params_add_text(&signer->constant, "oauth_signature_method", ibk_span_text("HMAC-SHA256"), err)) != IBK_OK ||
        (code = ibk_params_add_text(&signer->constant, "oauth_token", input->access_token, err)) != IBK_OK) {
        return code;
    }
    return ibk_mac_key_new(IBK_HMAC_SHA256, input->live_session_token, &signer->mac_key, err);
}

static PyObject *make_signer(PyTypeObject *type, const struct ibk_state *state, const struct signer_input *input)
{
    struct ibk_error err;
    struct signer *signer = ibk_alloc(sizeof *signer);
    if (signer == NULL) {
        return PyErr_NoMemory();
    }
    PyObject *self = signer_fill(signer, input, &err) == IBK_OK ? ibk_object_new(type, signer) : ibk_raise(state, &err);
    if (self == NULL) {
        signer_free(signer);
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
    struct signer_input input;
    input.live_session_token = ibk_object_native(live_session_token);
    if (input.live_session_token == NULL || !ibk_get_text(state, consumer_key, "consumer_key", &input.consumer_key) ||
        !ibk_get_text(state, access_token, "access_token", &input.access_token) ||
        !ibk_get_text(state, realm, "realm", &input.realm) ||
        !ibk_get_query_signing(state, query_signing, &input.query_signing)) {
        return NULL;
    }
    return make_signer(type, state, &input);
}

static void signer_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    signer_free(IBK_SELF(self)->native);
    ibk_object_free(self);
}

/* One request on its way through the stages. */
struct call {
    ibk_span method, url, nonce, timestamp;
    struct ibk_params oauth, query, form;
    struct ibk_buf url_with_query, header;
};

static void call_init(struct call *call)
{
    ibk_params_init(&call->oauth);
    ibk_params_init(&call->query);
    ibk_params_init(&call->form);
    ibk_buf_init(&call->url_with_query, IBK_URL_MAX_SIZE);
    ibk_buf_init(&call->header, IBK_HEADER_MAX_SIZE);
}

static void call_clean(struct call *call)
{
    ibk_params_clean(&call->oauth);
    ibk_params_clean(&call->query);
    ibk_params_clean(&call->form);
    ibk_buf_clean(&call->url_with_query);
    ibk_buf_clean(&call->header);
}

static ibk_code call_run(struct call *call, const struct signer *signer, struct ibk_error *err)
{
    ibk_code code;
    if (ibk_params_count(&call->query) != 0) {
        if ((code = ibk_url_with_query(call->url, &call->query, &call->url_with_query, err)) != IBK_OK) {
            return code;
        }
        call->url = ibk_buf_peek(&call->url_with_query);
    }
    if ((code = ibk_params_add_all(&call->oauth, &signer->constant, err)) != IBK_OK ||
        (code = ibk_params_add_text(&call->oauth, "oauth_nonce", call->nonce, err)) != IBK_OK ||
        (code = ibk_params_add_text(&call->oauth, "oauth_timestamp", call->timestamp, err)) != IBK_OK) {
        return code;
    }
    const struct ibk_signature_input input = {
        .method = call->method,
        .url = call->url,
        .oauth = &call->oauth,
        .form = &call->form,
        .query_signing = signer->query_signing,
        .realm = ibk_buf_peek(&signer->realm),
        .mac_key = signer->mac_key,
    };
    return ibk_sign_request(&input, &call->header, err);
}

static bool call_parse(const struct ibk_state *state, PyObject *const *args, struct call *call)
{
    return ibk_get_text(state, args[0], "method", &call->method) && ibk_get_text(state, args[1], "url", &call->url) &&
           (args[2] == Py_None || ibk_get_pairs(state, args[2], "params", &call->query)) &&
           (args[3] == Py_None || ibk_get_pairs(state, args[3], "form", &call->form)) &&
           ibk_get_text(state, args[4], "nonce", &call->nonce) && ibk_get_text(state, args[5], "timestamp", &call->timestamp);
}

/* (URL to send, header). A URL to which nothing was added is the caller's own str. */
static PyObject *call_result(const struct ibk_state *state, struct call *call, PyObject *url)
{
    PyObject *sent = call->url_with_query.len != 0 ? ibk_take_text(state, &call->url_with_query, "URL") : Py_NewRef(url);
    PyObject *header = sent != NULL ? ibk_take_text(state, &call->header, "header") : NULL;
    PyObject *result = header != NULL ? PyTuple_Pack(2, sent, header) : NULL;
    Py_XDECREF(sent);
    Py_XDECREF(header);
    return result;
}

static PyObject *signer_sign(PyObject *self, PyObject *const *args, Py_ssize_t count)
{
    const struct signer *signer = ibk_object_native(self);
    if (signer == NULL) {
        return NULL;
    }
    if (count != 6) {
        return PyErr_Format(PyExc_TypeError, "sign() takes 6 arguments (%zd given)", count);
    }
    const struct ibk_state *state = ibk_state_of(self);
    struct ibk_error err;
    struct call call;
    PyObject *result = NULL;
    call_init(&call);
    if (call_parse(state, args, &call)) {
        result = call_run(&call, signer, &err) == IBK_OK ? call_result(state, &call, args[1]) : ibk_raise(state, &err);
    }
    call_clean(&call);
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
     "The URL with `params` in its query, exactly as signed and to be sent, and the Authorization header's value."},
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
