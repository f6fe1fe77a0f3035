/*
 * raise.c - from a failure of the core to a Python exception. Which class it is, errors.py decides.
 */
#include "state.h"

PyObject *ibk_build_exception(const struct ibk_state *state, const struct ibk_error *err)
{
    if (err->code == IBK_E_NO_MEMORY) {
        return PyObject_CallNoArgs(PyExc_MemoryError);
    }
    /* The text may have been cut in the middle of a character. */
    PyObject *text = PyUnicode_DecodeUTF8(err->text, (Py_ssize_t)strlen(err->text), "replace");
    if (text == NULL) {
        return NULL;
    }
    /* Not "N": where Python has no memory for the arguments, it forgets to let go of those. */
    PyObject *exception = PyObject_CallFunction(state->from_core, "sOsskO", ibk_code_name(err->code), text, err->where,
                                                ibk_domain_name(err->domain), err->native, err->sent ? Py_True : Py_False);
    Py_DECREF(text);
    return exception;
}

PyObject *ibk_raise(const struct ibk_state *state, const struct ibk_error *err)
{
    if (err->code == IBK_E_NO_MEMORY) {
        return PyErr_NoMemory();
    }
    if (err->code == IBK_E_INTERRUPTED && PyErr_Occurred() != NULL) {
        return NULL;
    }
    PyObject *exception = ibk_build_exception(state, err);
    if (exception != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
    }
    return NULL;
}

PyObject *ibk_raise_type(const char *what, const char *wanted, PyObject *found)
{
    PyObject *name = PyType_GetName(Py_TYPE(found));
    if (name != NULL) {
        PyErr_Format(PyExc_TypeError, "%s must be %s, not %U", what, wanted, name);
        Py_DECREF(name);
    }
    return NULL;
}
