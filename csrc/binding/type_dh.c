/*
 * type_dh.c - DHParameters, a group, and DHExchange, one use of it. Arithmetic runs without the GIL.
 */
#include "state.h"

#include "ibk/dh.h"
#include "ibk/encode.h"

#define PEM_MAX_SIZE 65536u
#define PRIME_MAX_SIZE (IBK_DH_MAX_BITS / 8 + 1)

static PyObject *take_params(const struct ibk_state *state, struct ibk_dh_params *params)
{
    PyObject *self = ibk_object_new(state->types[IBK_TYPE_DH_PARAMETERS], params);
    if (self == NULL) {
        ibk_dh_params_release(params);
    }
    return self;
}

static void params_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    ibk_dh_params_release(IBK_SELF(self)->native);
    ibk_object_free(self);
}

static PyObject *params_load(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"data", NULL};
    const struct ibk_state *state = ibk_state_of_type(type);
    PyObject *data;
    Py_buffer file;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:load", names, &data) || !ibk_get_buffer(data, "data", &file)) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_dh_params *params;
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_dh_params_load(ibk_buffer_span(&file), &params, &err);
    PyEval_RestoreThread(thread);
    PyBuffer_Release(&file);
    return code == IBK_OK ? take_params(state, params) : ibk_raise(state, &err);
}

/* A number that no generator can be becomes 0, which the core refuses. */
static bool get_generator(PyObject *value, unsigned long *out)
{
    if (!PyLong_Check(value)) {
        ibk_raise_type("generator", "int", value);
        return false;
    }
    *out = PyLong_AsUnsignedLong(value);
    if (PyErr_Occurred() != NULL) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return false;
        }
        PyErr_Clear();
        *out = 0;
    }
    return true;
}

static PyObject *params_from_numbers(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"prime", "generator", NULL};
    const struct ibk_state *state = ibk_state_of_type(type);
    PyObject *prime, *generator;
    unsigned long number;
    Py_buffer bytes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:from_numbers", names, &prime, &generator) ||
        !get_generator(generator, &number) || !ibk_get_buffer(prime, "prime", &bytes)) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_dh_params *params;
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_dh_params_new(ibk_buffer_span(&bytes), number, &params, &err);
    PyEval_RestoreThread(thread);
    PyBuffer_Release(&bytes);
    return code == IBK_OK ? take_params(state, params) : ibk_raise(state, &err);
}

static PyObject *params_generate(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"bits", "progress", NULL};
    const struct ibk_state *state = ibk_state_of_type(type);
    int bits = (int)IBK_DH_MIN_BITS;
    PyObject *callable = NULL;
    struct ibk_hook hook;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|iO:generate", names, &bits, &callable) ||
        !ibk_get_progress(callable, &hook)) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_dh_params *params;
    const struct ibk_progress progress = {.step = ibk_hook_step, .context = &hook};
    hook.thread = PyEval_SaveThread();
    /* Fewer bits than none are refused like none. */
    ibk_code code = ibk_dh_params_generate(bits > 0 ? (unsigned int)bits : 0, &progress, &params, &err);
    PyEval_RestoreThread(hook.thread);
    if (code == IBK_OK && hook.raised) {
        ibk_dh_params_release(params);
        return NULL;
    }
    return code == IBK_OK ? take_params(state, params) : ibk_raise(state, &err);
}

static PyObject *params_bits(PyObject *self, void *closure)
{
    (void)closure;
    const struct ibk_dh_params *params = ibk_object_native(self);
    return params != NULL ? PyLong_FromSize_t(ibk_dh_params_bits(params)) : NULL;
}

static PyObject *params_generator(PyObject *self, void *closure)
{
    (void)closure;
    const struct ibk_dh_params *params = ibk_object_native(self);
    return params != NULL ? PyLong_FromUnsignedLong(ibk_dh_params_generator(params)) : NULL;
}

/* By way of hex: the limited API of 3.11 has no other door for big integers. */
static PyObject *params_prime(PyObject *self, void *closure)
{
    (void)closure;
    const struct ibk_dh_params *params = ibk_object_native(self);
    if (params == NULL) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_buf bytes, hex;
    PyObject *prime = NULL;
    ibk_buf_init(&bytes, PRIME_MAX_SIZE);
    ibk_buf_init(&hex, 2 * PRIME_MAX_SIZE + 1);
    ibk_dh_params_put_prime(params, &bytes);
    ibk_hex_put(&hex, ibk_buf_peek(&bytes));
    ibk_buf_put_byte(&hex, 0);
    if (ibk_buf_check(&bytes, "prime", &err) != IBK_OK || ibk_buf_check(&hex, "prime", &err) != IBK_OK) {
        ibk_raise(ibk_state_of(self), &err);
    } else {
        prime = PyLong_FromString((const char *)hex.data, NULL, 16);
    }
    ibk_buf_clean(&bytes);
    ibk_buf_clean(&hex);
    return prime;
}

static PyObject *params_pem(PyObject *self, PyObject *args)
{
    (void)args;
    const struct ibk_dh_params *params = ibk_object_native(self);
    if (params == NULL) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_buf pem;
    ibk_buf_init(&pem, PEM_MAX_SIZE);
    if (ibk_dh_params_put_pem(params, &pem, &err) != IBK_OK) {
        ibk_buf_clean(&pem);
        return ibk_raise(ibk_state_of(self), &err);
    }
    return ibk_take_text(ibk_state_of(self), &pem, "DH parameters");
}

static PyObject *params_fingerprint(PyObject *self, void *closure)
{
    (void)closure;
    const struct ibk_dh_params *params = ibk_object_native(self);
    if (params == NULL) {
        return NULL;
    }
    struct ibk_error err;
    uint8_t bytes[IBK_FINGERPRINT_SIZE];
    if (ibk_dh_params_fingerprint(params, bytes, &err) != IBK_OK) {
        return ibk_raise(ibk_state_of(self), &err);
    }
    return ibk_take_hex(ibk_state_of(self), ibk_span_of(bytes, sizeof bytes));
}

static PyObject *params_check(PyObject *self, PyObject *args)
{
    (void)args;
    const struct ibk_dh_params *params = ibk_object_native(self);
    if (params == NULL) {
        return NULL;
    }
    struct ibk_error err;
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_dh_params_check(params, &err);
    PyEval_RestoreThread(thread);
    return code == IBK_OK ? Py_NewRef(Py_None) : ibk_raise(ibk_state_of(self), &err);
}

static PyObject *params_exchange(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"secret", NULL};
    const struct ibk_state *state = ibk_state_of(self);
    struct ibk_dh_params *params = ibk_object_native(self);
    PyObject *value = Py_None;
    struct ibk_secret *exponent;
    if (params == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "|O:exchange", names, &value) ||
        !ibk_get_secret(state, value, "secret", &exponent)) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_dh_exchange *exchange;
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_dh_exchange_new(params, exponent, &exchange, &err);
    ibk_secret_release(exponent);
    PyEval_RestoreThread(thread);
    if (code != IBK_OK) {
        return ibk_raise(state, &err);
    }
    PyObject *object = ibk_object_new(state->types[IBK_TYPE_DH_EXCHANGE], exchange);
    if (object == NULL) {
        ibk_dh_exchange_free(exchange);
    }
    return object;
}

static PyObject *params_repr(PyObject *self)
{
    const struct ibk_dh_params *params = ibk_object_native(self);
    if (params == NULL) {
        return NULL;
    }
    return PyUnicode_FromFormat("<DHParameters %zu bits, generator %lu>", ibk_dh_params_bits(params),
                                ibk_dh_params_generator(params));
}

static void exchange_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    ibk_dh_exchange_free(IBK_SELF(self)->native);
    ibk_object_free(self);
}

static PyObject *exchange_challenge(PyObject *self, void *closure)
{
    (void)closure;
    const struct ibk_dh_exchange *exchange = ibk_object_native(self);
    if (exchange == NULL) {
        return NULL;
    }
    struct ibk_buf hex;
    ibk_buf_init(&hex, 2 * PRIME_MAX_SIZE);
    ibk_dh_exchange_put_challenge(exchange, &hex);
    return ibk_take_text(ibk_state_of(self), &hex, "challenge");
}

static PyObject *exchange_finish(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"response", NULL};
    const struct ibk_state *state = ibk_state_of(self);
    struct ibk_dh_exchange *exchange = ibk_object_native(self);
    PyObject *response;
    ibk_span hex;
    if (exchange == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "O:finish", names, &response) ||
        !ibk_get_text(state, response, "response", &hex)) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_secret *shared;
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_dh_exchange_finish(exchange, hex, &shared, &err);
    PyEval_RestoreThread(thread);
    return code == IBK_OK ? ibk_take_secret(state, shared) : ibk_raise(state, &err);
}

static PyObject *exchange_repr(PyObject *self)
{
    (void)self;
    return PyUnicode_FromString("<DHExchange>");
}

static PyMethodDef params_methods[] = {
    {"load", IBK_METHOD(params_load), METH_CLASS | METH_VARARGS | METH_KEYWORDS,
     "load($type, /, data)\n--\n\nFrom PKCS#3 PEM in any spelling, its DER, or the prime in hex (generator 2)."},
    {"from_numbers", IBK_METHOD(params_from_numbers), METH_CLASS | METH_VARARGS | METH_KEYWORDS,
     "from_numbers($type, /, prime, generator)\n--\n\n`prime` in big-endian bytes."},
    {"generate", IBK_METHOD(params_generate), METH_CLASS | METH_VARARGS | METH_KEYWORDS,
     "generate($type, /, bits=2048, progress=None)\n--\n\nSearches a safe prime with generator 2: seconds to minutes. `progress` "
     "is called now and then; what it raises ends the search."},
    {"pem", params_pem, METH_NOARGS, "pem($self, /)\n--\n\nPKCS#3 PEM with LF line ends and positive DER integers."},
    {"check", params_check, METH_NOARGS, "check($self, /)\n--\n\nRaises unless the prime is prime and safe. About 0.2 s."},
    {"exchange", IBK_METHOD(params_exchange), METH_VARARGS | METH_KEYWORDS,
     "exchange($self, /, secret=None)\n--\n\n`secret`: the exponent in big-endian bytes, for tests; otherwise 256 random bits."},
    IBK_COPY_IS_SELF,
    IBK_REFUSE_PICKLING,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef params_getset[] = {
    {"bits", params_bits, NULL, "Size of the prime.", NULL},
    {"generator", params_generator, NULL, "2 or 5.", NULL},
    {"fingerprint", params_fingerprint, NULL, "SHA-256 of the DER that the PEM holds, 64 lower-case hex digits.", NULL},
    {"prime", params_prime, NULL, "The prime.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot params_slots[] = {
    {Py_tp_doc, "A Diffie-Hellman group."},
    {Py_tp_dealloc, IBK_SLOT(params_dealloc)},
    {Py_tp_traverse, IBK_SLOT(ibk_object_traverse)},
    {Py_tp_repr, IBK_SLOT(params_repr)},
    {Py_tp_methods, params_methods},
    {Py_tp_getset, params_getset},
    {0, NULL},
};

PyType_Spec ibk_dh_parameters_spec = {
    .name = "ibkr_oauth._core.DHParameters",
    .basicsize = sizeof(struct ibk_object),
    .flags = IBK_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = params_slots,
};

static PyMethodDef exchange_methods[] = {
    {"finish", IBK_METHOD(exchange_finish), METH_VARARGS | METH_KEYWORDS,
     "finish($self, /, response)\n--\n\nThe shared secret as Java's BigInteger.toByteArray, from the server's half in hex."},
    IBK_REFUSE_PICKLING,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef exchange_getset[] = {
    {"challenge", exchange_challenge, NULL, "A = g^a mod p, lower-case hex as sent.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot exchange_slots[] = {
    {Py_tp_doc, "One exchange, single use."},
    {Py_tp_dealloc, IBK_SLOT(exchange_dealloc)},
    {Py_tp_traverse, IBK_SLOT(ibk_object_traverse)},
    {Py_tp_repr, IBK_SLOT(exchange_repr)},
    {Py_tp_methods, exchange_methods},
    {Py_tp_getset, exchange_getset},
    {0, NULL},
};

PyType_Spec ibk_dh_exchange_spec = {
    .name = "ibkr_oauth._core.DHExchange",
    .basicsize = sizeof(struct ibk_object),
    .flags = IBK_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = exchange_slots,
};
