/*
 * type_secret.c - Secret: bytes that are wiped when the last holder lets go.
 */
#include "state.h"

#include "ibk/encode.h"

static PyObject *secret_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"data", NULL};
    const struct ibk_state *state = ibk_state_of_type((PyObject *)type);
    PyObject *data;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:Secret", names, &data)) {
        return NULL;
    }
    if (data == Py_None) {
        return ibk_raise_type("data", "bytes, bytearray or memoryview", data);
    }
    struct ibk_secret *secret;
    return ibk_get_secret(state, data, "data", &secret) ? ibk_take_secret(state, secret) : NULL;
}

static void secret_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    ibk_secret_release(IBK_SELF(self)->native);
    ibk_object_free(self);
}

static PyObject *secret_from_base64(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"text", "what", NULL};
    const struct ibk_state *state = ibk_state_of_type(type);
    PyObject *text, *what = NULL;
    ibk_span base64;
    const char *what_text = "secret";
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:from_base64", names, &text, &what) ||
        (what != NULL && !ibk_get_c_string(state, what, "what", &what_text)) || !ibk_get_text(state, text, what_text, &base64)) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_secret *secret = NULL;
    struct ibk_buf bytes;
    ibk_buf_init_secret(&bytes, IBK_SECRET_MAX_SIZE);
    ibk_code code = ibk_base64_decode(base64, what_text, &bytes, &err);
    if (code == IBK_OK) {
        code = ibk_secret_new(ibk_buf_peek(&bytes), &secret, &err);
    }
    ibk_buf_clean(&bytes);
    return code == IBK_OK ? ibk_take_secret(state, secret) : ibk_raise(state, &err);
}

static PyObject *secret_reveal(PyObject *self, PyObject *args)
{
    (void)args;
    const struct ibk_secret *secret = ibk_object_native(self);
    if (secret == NULL) {
        return NULL;
    }
    ibk_span bytes = ibk_secret_peek(secret);
    return PyBytes_FromStringAndSize(bytes.len != 0 ? (const char *)bytes.data : "", (Py_ssize_t)bytes.len);
}

static PyObject *secret_reveal_base64(PyObject *self, PyObject *args)
{
    (void)args;
    const struct ibk_secret *secret = ibk_object_native(self);
    if (secret == NULL) {
        return NULL;
    }
    struct ibk_buf text;
    ibk_buf_init_secret(&text, 2 * IBK_SECRET_MAX_SIZE);
    ibk_base64_put(&text, ibk_secret_peek(secret));
    return ibk_take_text(ibk_state_of(self), &text, "base64");
}

static PyObject *secret_copy_into(PyObject *self, PyObject *target)
{
    const struct ibk_secret *secret = ibk_object_native(self);
    if (secret == NULL) {
        return NULL;
    }
    Py_buffer view;
    if (PyObject_GetBuffer(target, &view, PyBUF_WRITABLE) != 0) {
        PyErr_Clear();
        return ibk_raise_type("target", "a bytearray or a writable memoryview", target);
    }
    ibk_span bytes = ibk_secret_peek(secret);
    bool fits = (size_t)view.len == bytes.len;
    if (fits && bytes.len != 0) {
        memcpy(view.buf, bytes.data, bytes.len);
    }
    Py_ssize_t len = view.len;
    PyBuffer_Release(&view);
    if (!fits) {
        return PyErr_Format(PyExc_ValueError, "target has %zd bytes, expected %zu", len, bytes.len);
    }
    return Py_NewRef(Py_None);
}

static Py_ssize_t secret_len(PyObject *self)
{
    const struct ibk_secret *secret = ibk_object_native(self);
    return secret != NULL ? (Py_ssize_t)ibk_secret_peek(secret).len : -1;
}

static PyObject *secret_compare(PyObject *self, PyObject *other, int operation)
{
    if ((operation != Py_EQ && operation != Py_NE) || Py_TYPE(self) != Py_TYPE(other)) {
        return Py_NewRef(Py_NotImplemented);
    }
    const struct ibk_secret *a = ibk_object_native(self);
    const struct ibk_secret *b = ibk_object_native(other);
    if (a == NULL || b == NULL) {
        return NULL;
    }
    return PyBool_FromLong(ibk_secret_equal(a, b) == (operation == Py_EQ));
}

static PyObject *secret_repr(PyObject *self)
{
    Py_ssize_t len = secret_len(self);
    return len >= 0 ? PyUnicode_FromFormat("<Secret %zd byte%s>", len, len == 1 ? "" : "s") : NULL;
}

static PyMethodDef secret_methods[] = {
    {"from_base64", IBK_METHOD(secret_from_base64), METH_CLASS | METH_VARARGS | METH_KEYWORDS,
     "from_base64($type, /, text, what='secret')\n--\n\nFrom strict base64 text; `what` names the value in the error."},
    {"reveal", secret_reveal, METH_NOARGS,
     "reveal($self, /)\n--\n\nThe bytes themselves: the one exit. The copy cannot be wiped any more."},
    {"reveal_base64", secret_reveal_base64, METH_NOARGS,
     "reveal_base64($self, /)\n--\n\nThe bytes as base64 text, likewise unprotected."},
    {"copy_into", secret_copy_into, METH_O,
     "copy_into($self, target, /)\n--\n\nThe bytes into a bytearray of their length, which the caller can wipe."},
    IBK_COPY_IS_SELF,
    IBK_REFUSE_PICKLING,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot secret_slots[] = {
    {Py_tp_doc, "Secret(data)\n--\n\nBytes that are wiped when the last holder lets go. `repr` hides them, `==` takes constant "
                "time, pickling is refused."},
    {Py_tp_new, IBK_SLOT(secret_new)},
    {Py_tp_dealloc, IBK_SLOT(secret_dealloc)},
    {Py_tp_traverse, IBK_SLOT(ibk_object_traverse)},
    {Py_tp_repr, IBK_SLOT(secret_repr)},
    {Py_tp_richcompare, IBK_SLOT(secret_compare)},
    {Py_tp_hash, IBK_SLOT(PyObject_HashNotImplemented)},
    {Py_sq_length, IBK_SLOT(secret_len)},
    {Py_tp_methods, secret_methods},
    {0, NULL},
};

PyType_Spec ibk_secret_spec = {
    .name = "ibkr_oauth._core.Secret",
    .basicsize = sizeof(struct ibk_object),
    .flags = IBK_TYPE_FLAGS,
    .slots = secret_slots,
};
