/*
 * module.c - the module, its state, and what all its objects have in common.
 */
#include "state.h"

#include "ibk/http.h"
#include "ibk/platform.h"

#include <openssl/crypto.h>

/* Of the headers of later Pythons, which this file is not compiled with. */
enum { SLOT_MULTIPLE_INTERPRETERS = 3, SLOT_GIL = 4 };
#define PER_INTERPRETER_GIL_SUPPORTED ((void *)2)
#define GIL_NOT_USED ((void *)1)

#define OPENSSL_MINIMUM 0x30000000ul

PyObject *ibk_object_new(PyTypeObject *type, void *native)
{
    /* At shutdown a module is cleared before the last of its objects is gone. */
    if (type == NULL) {
        PyErr_SetString(PyExc_SystemError, "ibkr_oauth._core is already cleared");
        return NULL;
    }
    PyObject *self = PyType_GenericAlloc(type, 0);
    if (self != NULL) {
        IBK_SELF(self)->native = native;
    }
    return self;
}

void *ibk_object_native(PyObject *self)
{
    void *native = IBK_SELF(self)->native;
    if (native == NULL) {
        PyErr_SetString(PyExc_SystemError, "object without contents");
    }
    return native;
}

void ibk_object_free(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

const struct ibk_state *ibk_state_of_module(PyObject *module)
{
    return PyModule_GetState(module);
}

const struct ibk_state *ibk_state_of_type(PyObject *type)
{
    return PyType_GetModuleState((PyTypeObject *)type);
}

const struct ibk_state *ibk_state_of(PyObject *self)
{
    return PyType_GetModuleState(Py_TYPE(self));
}

int ibk_object_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

PyObject *ibk_object_refuse_pickling(PyObject *self, PyObject *args)
{
    (void)args;
    PyObject *name = PyType_GetName(Py_TYPE(self));
    if (name != NULL) {
        PyErr_Format(PyExc_TypeError, "%U objects cannot be pickled", name);
        Py_DECREF(name);
    }
    return NULL;
}

PyObject *ibk_object_copy(PyObject *self, PyObject *args)
{
    (void)args;
    return Py_NewRef(self);
}

static int check_libraries(void)
{
    if (OpenSSL_version_num() < OPENSSL_MINIMUM) {
        PyErr_Format(PyExc_ImportError, "ibkr_oauth needs OpenSSL 3.0 or newer; %s is loaded", OpenSSL_version(OPENSSL_VERSION));
        return -1;
    }
    struct ibk_error err;
    if (ibk_http_global_init(&err) != IBK_OK) {
        PyErr_Format(PyExc_ImportError, "ibkr_oauth cannot use libcurl: %s", err.text);
        return -1;
    }
    return 0;
}

static int import_errors(struct ibk_state *state)
{
    PyObject *errors = PyImport_ImportModule("ibkr_oauth.errors");
    if (errors == NULL) {
        return -1;
    }
    state->from_core = PyObject_GetAttrString(errors, "from_core");
    Py_DECREF(errors);
    return state->from_core != NULL ? 0 : -1;
}

static int add_types(PyObject *module, struct ibk_state *state)
{
    static PyType_Spec *const specs[IBK_TYPE_COUNT] = {
        [IBK_TYPE_SECRET] = &ibk_secret_spec,
        [IBK_TYPE_RSA_KEY] = &ibk_rsa_key_spec,
        [IBK_TYPE_DH_PARAMETERS] = &ibk_dh_parameters_spec,
        [IBK_TYPE_DH_EXCHANGE] = &ibk_dh_exchange_spec,
        [IBK_TYPE_REQUEST_SIGNER] = &ibk_request_signer_spec,
        [IBK_TYPE_HTTP_CLIENT] = &ibk_http_client_spec,
        [IBK_TYPE_MAILBOX] = &ibk_mailbox_spec,
        [IBK_TYPE_ENGINE_CLIENT] = &ibk_engine_client_spec,
        [IBK_TYPE_KEEP_ALIVE] = &ibk_keep_alive_spec,
    };
    for (size_t i = 0; i < IBK_TYPE_COUNT; i++) {
        state->types[i] = (PyTypeObject *)PyType_FromModuleAndSpec(module, specs[i], NULL);
        if (state->types[i] == NULL || PyModule_AddType(module, state->types[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

static int module_exec(PyObject *module)
{
    struct ibk_state *state = PyModule_GetState(module);
    if (check_libraries() < 0 || import_errors(state) < 0) {
        return -1;
    }
    return add_types(module, state);
}

static int module_traverse(PyObject *module, visitproc visit, void *arg)
{
    struct ibk_state *state = PyModule_GetState(module);
    for (size_t i = 0; i < IBK_TYPE_COUNT; i++) {
        Py_VISIT(state->types[i]);
    }
    Py_VISIT(state->from_core);
    return 0;
}

static int module_clear(PyObject *module)
{
    struct ibk_state *state = PyModule_GetState(module);
    for (size_t i = 0; i < IBK_TYPE_COUNT; i++) {
        Py_CLEAR(state->types[i]);
    }
    Py_CLEAR(state->from_core);
    return 0;
}

static void module_free(void *module)
{
    module_clear(module);
}

/* A slot that the running Python does not know is an error, one that it misses closes subinterpreters or turns the GIL on. */
static PyModuleDef_Slot module_slots[4];

static void fill_slots(void)
{
    PyModuleDef_Slot *next = module_slots;
    *next++ = (PyModuleDef_Slot){Py_mod_exec, IBK_SLOT(module_exec)};
    if (Py_Version >= 0x030C0000) {
        *next++ = (PyModuleDef_Slot){SLOT_MULTIPLE_INTERPRETERS, PER_INTERPRETER_GIL_SUPPORTED};
    }
    if (Py_Version >= 0x030D0000) {
        *next = (PyModuleDef_Slot){SLOT_GIL, GIL_NOT_USED};
    }
}

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "ibkr_oauth._core",
    .m_doc = "The C core of ibkr_oauth. Internal: use the classes of the package.",
    .m_size = sizeof(struct ibk_state),
    .m_methods = ibk_functions,
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC PyInit__core(void)
{
    static ibk_once filled = IBK_ONCE_INIT;
    ibk_once_run(&filled, fill_slots);
    return PyModuleDef_Init(&module_def);
}
