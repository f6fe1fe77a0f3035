/*
 * state.h - what the files of the binding share: the module's state, its objects, and the ways between C and Python values.
 *
 * The binding converts values, errors, lifetimes and the GIL. It has no policy and no feature of its own.
 *
 * The GIL is kept for text, hex and HMAC (a microsecond or so) and released for keys, Diffie-Hellman and transfers. Functions
 * here are called with the GIL held, unless they say otherwise.
 */
#ifndef IBK_BINDING_STATE_H
#define IBK_BINDING_STATE_H

/* One file serves every Python from 3.11 on. Free-threaded ones have no limited API and get a file of their own. */
#include <pyconfig.h>
#if !defined(Py_GIL_DISABLED) && !defined(Py_LIMITED_API)
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "ibk/oauth.h"

enum ibk_type {
    IBK_TYPE_SECRET,
    IBK_TYPE_RSA_KEY,
    IBK_TYPE_DH_PARAMETERS,
    IBK_TYPE_DH_EXCHANGE,
    IBK_TYPE_REQUEST_SIGNER,
    IBK_TYPE_HTTP_CLIENT,
    IBK_TYPE_MAILBOX,
    IBK_TYPE_ENGINE_CLIENT,
    IBK_TYPE_KEEP_ALIVE,
    IBK_TYPE_COUNT
};

/* One per interpreter. Written while the module is loaded, only read afterwards. */
struct ibk_state {
    PyTypeObject *types[IBK_TYPE_COUNT];
    PyObject *from_core; /* ibkr_oauth.errors.from_core */
};

extern PyType_Spec ibk_secret_spec, ibk_rsa_key_spec, ibk_dh_parameters_spec, ibk_dh_exchange_spec, ibk_request_signer_spec,
    ibk_http_client_spec, ibk_mailbox_spec, ibk_engine_client_spec, ibk_keep_alive_spec;
extern PyMethodDef ibk_functions[];

/* Tables of PyMethodDef and PyType_Slot want other pointer types than our functions have. */
#define IBK_METHOD(function) ((PyCFunction)(void (*)(void))(function))
#define IBK_SLOT(function) (__extension__(void *)(function))

#define IBK_TYPE_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE)

/* objects: module.c */

/* Every object is a head and one pointer into the core. */
struct ibk_object {
    PyObject ob_base; /* what PyObject_HEAD says */
    void *native;
};

#define IBK_SELF(op) ((struct ibk_object *)(op))

/* A new object that owns native; NULL with an exception set, native still the caller's, where there is no memory. */
PyObject *ibk_object_new(PyTypeObject *type, void *native);
/* The native half of one of our own objects; NULL with an exception set where it has none. */
void *ibk_object_native(PyObject *self);
/* The last step of a tp_dealloc, after PyObject_GC_UnTrack and the release of the native half. */
void ibk_object_free(PyObject *self);

const struct ibk_state *ibk_state_of_module(PyObject *module);
/* Our types are final, so an object's type is the one that the module made. */
const struct ibk_state *ibk_state_of_type(PyObject *type);
const struct ibk_state *ibk_state_of(PyObject *self);

int ibk_object_traverse(PyObject *self, visitproc visit, void *arg);
PyObject *ibk_object_refuse_pickling(PyObject *self, PyObject *args);
PyObject *ibk_object_copy(PyObject *self, PyObject *args);

/* Rows of a method table. Immutable objects are their own copies; the others cannot be copied, since that goes by pickling. */
#define IBK_REFUSE_PICKLING                                                                                               \
    {"__reduce__", ibk_object_refuse_pickling, METH_VARARGS, "__reduce__($self, /)\n--\n\nRefused."},                     \
        {"__reduce_ex__", ibk_object_refuse_pickling, METH_VARARGS, "__reduce_ex__($self, protocol, /)\n--\n\nRefused."}, \
        {"__getstate__", ibk_object_refuse_pickling, METH_VARARGS, "__getstate__($self, /)\n--\n\nRefused."}
#define IBK_COPY_IS_SELF                                                                        \
    {"__copy__", ibk_object_copy, METH_NOARGS, "__copy__($self, /)\n--\n\nThe object itself."}, \
        {"__deepcopy__", ibk_object_copy, METH_O, "__deepcopy__($self, memo, /)\n--\n\nThe object itself."}

/* failures: raise.c. Those that raise return NULL, so that "return ibk_raise(...)" reads well. */

/* The exception of `ibkr_oauth.errors` for *err, as an object. */
PyObject *ibk_build_exception(const struct ibk_state *state, const struct ibk_error *err);
/* The same, raised. One that a hook has set is left alone. */
PyObject *ibk_raise(const struct ibk_state *state, const struct ibk_error *err);
/* TypeError "what must be wanted, not <type of found>". Never shows the value. */
PyObject *ibk_raise_type(const char *what, const char *wanted, PyObject *found);

/* values: convert.c. Those that return bool give false with an exception set; `what` names the argument in it. */

/* UTF-8 of a str, borrowed while the str lives. */
bool ibk_get_text(const struct ibk_state *state, PyObject *value, const char *what, ibk_span *out);
/* The same where C needs a terminator: a NUL inside is refused. */
bool ibk_get_c_string(const struct ibk_state *state, PyObject *value, const char *what, const char **out);
/* One of the words of ibk_query_signing_parse. */
bool ibk_get_query_signing(const struct ibk_state *state, PyObject *value, enum ibk_query_signing *out);
bool ibk_get_flag(PyObject *value, const char *what, bool *out);
/* To be given back with PyBuffer_Release. */
bool ibk_get_buffer(PyObject *value, const char *what, Py_buffer *out);
ibk_span ibk_buffer_span(const Py_buffer *view);
/* A copy of bytes, to be released; NULL for None. */
bool ibk_get_secret(const struct ibk_state *state, PyObject *value, const char *what, struct ibk_secret **out);
/* Adds copies of a sequence of (name, value). */
bool ibk_get_pairs(const struct ibk_state *state, PyObject *pairs, const char *what, struct ibk_params *out);

/* The contents as text; cleans the buffer, good or bad. `what` as for ibk_buf_check. */
PyObject *ibk_take_text(const struct ibk_state *state, struct ibk_buf *buf, const char *what);
/* Lower-case hex of bytes. */
PyObject *ibk_take_hex(const struct ibk_state *state, ibk_span bytes);
/* An object that owns the secret, which is released where that fails. */
PyObject *ibk_take_secret(const struct ibk_state *state, struct ibk_secret *secret);

/* hooks: convert.c */

/*
 * For work without the GIL that asks now and then whether to go on:
 *
 *     hook.thread = PyEval_SaveThread();
 *     code = ibk_...(... {ibk_hook_step, &hook} ...);
 *     PyEval_RestoreThread(hook.thread);
 */
struct ibk_hook {
    PyThreadState *thread;
    PyObject *callable; /* called at each step, or NULL; borrowed */
    bool raised;        /* an exception is set: the work is to stop */
};

/* Called without the GIL. Gives signals their chance; 1 to stop. */
int ibk_hook_step(void *context);
/* None or a callable. */
bool ibk_get_progress(PyObject *value, struct ibk_hook *out);

#endif
