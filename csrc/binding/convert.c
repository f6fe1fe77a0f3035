/*
 * convert.c - Python values to C and back.
 *
 * No error text holds a value. So UnicodeEncodeError, which carries its whole str, never gets out of here.
 */
#include "state.h"

#include "ibk/encode.h"

#include <stdio.h>

static bool peek_text(PyObject *value, ibk_span *out)
{
    if (!PyUnicode_Check(value)) {
        return false;
    }
    Py_ssize_t len;
    const char *text = PyUnicode_AsUTF8AndSize(value, &len);
    if (text == NULL) {
        return false;
    }
    *out = ibk_span_of(text, (size_t)len);
    return true;
}

/* Says why peek_text failed. */
static bool refuse_text(const struct ibk_state *state, PyObject *value, const char *what)
{
    if (!PyUnicode_Check(value)) {
        ibk_raise_type(what, "str", value);
    } else if (PyErr_ExceptionMatches(PyExc_UnicodeEncodeError)) {
        struct ibk_error err;
        PyErr_Clear();
        ibk_fail(&err, IBK_E_ARGUMENT, __func__, "%s has a lone surrogate", what);
        ibk_raise(state, &err);
    }
    return false;
}

bool ibk_get_text(const struct ibk_state *state, PyObject *value, const char *what, ibk_span *out)
{
    return peek_text(value, out) || refuse_text(state, value, what);
}

bool ibk_get_c_string(const struct ibk_state *state, PyObject *value, const char *what, const char **out)
{
    ibk_span text;
    if (!ibk_get_text(state, value, what, &text)) {
        return false;
    }
    if (memchr(text.data, 0, text.len) != NULL) {
        struct ibk_error err;
        ibk_fail(&err, IBK_E_ARGUMENT, __func__, "%s has a NUL character", what);
        ibk_raise(state, &err);
        return false;
    }
    *out = (const char *)text.data;
    return true;
}

bool ibk_get_query_signing(const struct ibk_state *state, PyObject *value, enum ibk_query_signing *out)
{
    ibk_span word;
    if (!ibk_get_text(state, value, "query_signing", &word)) {
        return false;
    }
    if (!ibk_query_signing_parse(word, out)) {
        struct ibk_error err;
        ibk_fail(&err, IBK_E_ARGUMENT, __func__, "query_signing is omit, merge, url or rfc5849");
        ibk_raise(state, &err);
        return false;
    }
    return true;
}

bool ibk_get_flag(PyObject *value, const char *what, bool *out)
{
    if (!PyBool_Check(value)) {
        ibk_raise_type(what, "bool", value);
        return false;
    }
    *out = value == Py_True;
    return true;
}

bool ibk_get_buffer(PyObject *value, const char *what, Py_buffer *out)
{
    if (!PyObject_CheckBuffer(value)) {
        ibk_raise_type(what, "bytes, bytearray or memoryview", value);
        return false;
    }
    return PyObject_GetBuffer(value, out, PyBUF_SIMPLE) == 0;
}

ibk_span ibk_buffer_span(const Py_buffer *view)
{
    return ibk_span_of(view->buf != NULL ? view->buf : "", (size_t)view->len);
}

bool ibk_get_secret(const struct ibk_state *state, PyObject *value, const char *what, struct ibk_secret **out)
{
    *out = NULL;
    if (value == Py_None) {
        return true;
    }
    Py_buffer view;
    if (!ibk_get_buffer(value, what, &view)) {
        return false;
    }
    struct ibk_error err;
    ibk_code code = ibk_secret_new(ibk_buffer_span(&view), out, &err);
    PyBuffer_Release(&view);
    if (code != IBK_OK) {
        ibk_raise(state, &err);
    }
    return code == IBK_OK;
}

/*
 * A tuple of what a sequence holds: immutable and held by us, so that what other threads do to the sequence meanwhile does not
 * matter. NULL without an exception for other types. A str is a sequence of str, but never meant as one here.
 */
static PyObject *snapshot(PyObject *value)
{
    if (PyUnicode_Check(value) || PyBytes_Check(value) || !PySequence_Check(value)) {
        return NULL;
    }
    return PySequence_Tuple(value);
}

static bool get_half(const struct ibk_state *state, PyObject *value, const char *half, const char *what, Py_ssize_t index,
                     ibk_span *out)
{
    if (peek_text(value, out)) {
        return true;
    }
    char label[64];
    snprintf(label, sizeof label, "the %s of %s[%zd]", half, what, index);
    return refuse_text(state, value, label);
}

static bool refuse_pair(PyObject *item, Py_ssize_t len, const char *what, Py_ssize_t index)
{
    char label[64];
    snprintf(label, sizeof label, "%s[%zd]", what, index);
    if (len < 0) {
        ibk_raise_type(label, "a (name, value) tuple", item);
    } else {
        PyErr_Format(PyExc_TypeError, "%s must be a (name, value) tuple, not a sequence of %zd", label, len);
    }
    return false;
}

static bool add_pair(const struct ibk_state *state, PyObject *item, const char *what, Py_ssize_t index, struct ibk_params *out)
{
    PyObject *pair = snapshot(item);
    if (pair == NULL) {
        return PyErr_Occurred() == NULL && refuse_pair(item, -1, what, index);
    }
    ibk_span name, value;
    bool added = false;
    if (PyTuple_Size(pair) != 2) {
        refuse_pair(item, PyTuple_Size(pair), what, index);
    } else if (get_half(state, PyTuple_GetItem(pair, 0), "name", what, index, &name) &&
               get_half(state, PyTuple_GetItem(pair, 1), "value", what, index, &value)) {
        struct ibk_error err;
        added = ibk_params_add(out, name, value, &err) == IBK_OK;
        if (!added) {
            ibk_raise(state, &err);
        }
    }
    Py_DECREF(pair);
    return added;
}

bool ibk_get_pairs(const struct ibk_state *state, PyObject *pairs, const char *what, struct ibk_params *out)
{
    PyObject *all = snapshot(pairs);
    if (all == NULL) {
        if (PyErr_Occurred() == NULL) {
            ibk_raise_type(what, "a sequence of (name, value) tuples", pairs);
        }
        return false;
    }
    Py_ssize_t count = PyTuple_Size(all);
    bool added = true;
    for (Py_ssize_t i = 0; i < count && added; i++) {
        added = add_pair(state, PyTuple_GetItem(all, i), what, i, out);
    }
    Py_DECREF(all);
    return added;
}

PyObject *ibk_take_text(const struct ibk_state *state, struct ibk_buf *buf, const char *what)
{
    struct ibk_error err;
    PyObject *text = NULL;
    if (ibk_buf_check(buf, what, &err) != IBK_OK) {
        ibk_raise(state, &err);
    } else {
        ibk_span bytes = ibk_buf_peek(buf);
        text = PyUnicode_DecodeUTF8(bytes.len != 0 ? (const char *)bytes.data : "", (Py_ssize_t)bytes.len, NULL);
    }
    ibk_buf_clean(buf);
    return text;
}

PyObject *ibk_take_hex(const struct ibk_state *state, ibk_span bytes)
{
    struct ibk_buf text;
    ibk_buf_init(&text, 2 * bytes.len);
    ibk_hex_put(&text, bytes);
    return ibk_take_text(state, &text, "hex");
}

PyObject *ibk_take_secret(const struct ibk_state *state, struct ibk_secret *secret)
{
    PyObject *self = ibk_object_new(state->types[IBK_TYPE_SECRET], secret);
    if (self == NULL) {
        ibk_secret_release(secret);
    }
    return self;
}

int ibk_hook_step(void *context)
{
    struct ibk_hook *hook = context;
    if (hook->raised) {
        return 1;
    }
    PyEval_RestoreThread(hook->thread);
    PyObject *result = hook->callable != NULL ? PyObject_CallNoArgs(hook->callable) : NULL;
    hook->raised = (hook->callable != NULL && result == NULL) || PyErr_CheckSignals() != 0;
    Py_XDECREF(result);
    hook->thread = PyEval_SaveThread();
    return hook->raised;
}

bool ibk_get_progress(PyObject *value, struct ibk_hook *out)
{
    *out = (struct ibk_hook){.callable = NULL};
    if (value == NULL || value == Py_None) {
        return true;
    }
    if (!PyCallable_Check(value)) {
        ibk_raise_type("progress", "callable or None", value);
        return false;
    }
    out->callable = value;
    return true;
}
