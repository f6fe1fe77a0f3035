/*
 * type_rsa_key.c - RSAKey: a private key. All work with it runs without the GIL.
 */
#include "state.h"

#include "ibk/encode.h"

#define PEM_MAX_SIZE 65536u
#define SIGNATURE_MAX_SIZE 4096u /* base64 of IBK_RSA_MAX_BITS */
#define REPR_FINGERPRINT_SIZE 8  /* bytes shown */

static PyObject *take_key(const struct ibk_state *state, struct ibk_rsa_key *key)
{
    PyObject *self = ibk_object_new(state->types[IBK_TYPE_RSA_KEY], key);
    if (self == NULL) {
        ibk_rsa_key_release(key);
    }
    return self;
}

static void key_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    ibk_rsa_key_release(IBK_SELF(self)->native);
    ibk_object_free(self);
}

static PyObject *load_key(const struct ibk_state *state, PyObject *data, const struct ibk_secret *passphrase, const char *what)
{
    Py_buffer file;
    if (!ibk_get_buffer(data, "data", &file)) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_rsa_key *key;
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_rsa_key_load(ibk_buffer_span(&file), passphrase, what, &key, &err);
    PyEval_RestoreThread(thread);
    PyBuffer_Release(&file);
    return code == IBK_OK ? take_key(state, key) : ibk_raise(state, &err);
}

static PyObject *key_load(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"data", "passphrase", "what", NULL};
    const struct ibk_state *state = ibk_state_of_type(type);
    PyObject *data, *passphrase = Py_None, *what = NULL;
    const char *what_text = "private key";
    struct ibk_secret *secret;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:load", names, &data, &passphrase, &what) ||
        (what != NULL && !ibk_get_c_string(state, what, "what", &what_text)) ||
        !ibk_get_secret(state, passphrase, "passphrase", &secret)) {
        return NULL;
    }
    PyObject *key = load_key(state, data, secret, what_text);
    ibk_secret_release(secret);
    return key;
}

static PyObject *key_generate(PyObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"bits", "progress", NULL};
    const struct ibk_state *state = ibk_state_of_type(type);
    int bits = (int)IBK_RSA_MIN_BITS;
    PyObject *callable = NULL;
    struct ibk_hook hook;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|iO:generate", names, &bits, &callable) ||
        !ibk_get_progress(callable, &hook)) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_rsa_key *key;
    const struct ibk_progress progress = {.step = ibk_hook_step, .context = &hook};
    hook.thread = PyEval_SaveThread();
    /* Fewer bits than none are refused like none. */
    ibk_code code = ibk_rsa_key_generate(bits > 0 ? (unsigned int)bits : 0, &progress, &key, &err);
    PyEval_RestoreThread(hook.thread);
    if (code == IBK_OK && hook.raised) {
        ibk_rsa_key_release(key);
        return NULL;
    }
    return code == IBK_OK ? take_key(state, key) : ibk_raise(state, &err);
}

static PyObject *key_bits(PyObject *self, void *closure)
{
    (void)closure;
    const struct ibk_rsa_key *key = ibk_object_native(self);
    return key != NULL ? PyLong_FromSize_t(ibk_rsa_key_bits(key)) : NULL;
}

static bool get_fingerprint(PyObject *self, uint8_t out[IBK_FINGERPRINT_SIZE])
{
    const struct ibk_rsa_key *key = ibk_object_native(self);
    if (key == NULL) {
        return false;
    }
    struct ibk_error err;
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_rsa_key_fingerprint(key, out, &err);
    PyEval_RestoreThread(thread);
    if (code != IBK_OK) {
        ibk_raise(ibk_state_of(self), &err);
    }
    return code == IBK_OK;
}

static PyObject *key_fingerprint(PyObject *self, void *closure)
{
    (void)closure;
    uint8_t bytes[IBK_FINGERPRINT_SIZE];
    if (!get_fingerprint(self, bytes)) {
        return NULL;
    }
    return ibk_take_hex(ibk_state_of(self), ibk_span_of(bytes, sizeof bytes));
}

static PyObject *key_repr(PyObject *self)
{
    uint8_t bytes[IBK_FINGERPRINT_SIZE];
    if (!get_fingerprint(self, bytes)) {
        return NULL;
    }
    struct ibk_buf text;
    ibk_buf_init(&text, 4 * REPR_FINGERPRINT_SIZE);
    for (size_t i = 0; i < REPR_FINGERPRINT_SIZE; i++) {
        ibk_hex_put(&text, ibk_span_of(bytes + i, 1));
        ibk_buf_put_byte(&text, ':');
    }
    PyObject *start = ibk_take_text(ibk_state_of(self), &text, "fingerprint");
    if (start == NULL) {
        return NULL;
    }
    PyObject *repr = PyUnicode_FromFormat("<RSAKey %zu bits, %U%s>", ibk_rsa_key_bits(ibk_object_native(self)), start, "\u2026");
    Py_DECREF(start);
    return repr;
}

static PyObject *key_public_pem(PyObject *self, PyObject *args)
{
    (void)args;
    const struct ibk_rsa_key *key = ibk_object_native(self);
    if (key == NULL) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_buf pem;
    ibk_buf_init(&pem, PEM_MAX_SIZE);
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_rsa_key_put_public(key, &pem, &err);
    PyEval_RestoreThread(thread);
    if (code != IBK_OK) {
        ibk_buf_clean(&pem);
        return ibk_raise(ibk_state_of(self), &err);
    }
    return ibk_take_text(ibk_state_of(self), &pem, "public key");
}

static PyObject *key_private_pem(PyObject *self, PyObject *args)
{
    (void)args;
    const struct ibk_rsa_key *key = ibk_object_native(self);
    if (key == NULL) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_secret *secret = NULL;
    struct ibk_buf pem;
    ibk_buf_init_secret(&pem, PEM_MAX_SIZE);
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_rsa_key_put_private(key, &pem, &err);
    if (code == IBK_OK) {
        code = ibk_secret_new(ibk_buf_peek(&pem), &secret, &err);
    }
    ibk_buf_clean(&pem);
    PyEval_RestoreThread(thread);
    return code == IBK_OK ? ibk_take_secret(ibk_state_of(self), secret) : ibk_raise(ibk_state_of(self), &err);
}

static PyObject *key_sign(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"message", NULL};
    const struct ibk_state *state = ibk_state_of(self);
    const struct ibk_rsa_key *key = ibk_object_native(self);
    PyObject *message;
    ibk_span text;
    if (key == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "O:sign", names, &message) ||
        !ibk_get_text(state, message, "message", &text)) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_buf signature;
    ibk_buf_init(&signature, SIGNATURE_MAX_SIZE);
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_sign_rsa_sha256(text, key, &signature, &err);
    PyEval_RestoreThread(thread);
    if (code != IBK_OK) {
        ibk_buf_clean(&signature);
        return ibk_raise(state, &err);
    }
    return ibk_take_text(state, &signature, "signature");
}

static PyObject *key_decrypt(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"ciphertext", NULL};
    const struct ibk_state *state = ibk_state_of(self);
    const struct ibk_rsa_key *key = ibk_object_native(self);
    PyObject *ciphertext;
    ibk_span text;
    if (key == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "O:decrypt", names, &ciphertext) ||
        !ibk_get_text(state, ciphertext, "ciphertext", &text)) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_secret *secret;
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_rsa_decrypt(key, text, &secret, &err);
    PyEval_RestoreThread(thread);
    return code == IBK_OK ? ibk_take_secret(state, secret) : ibk_raise(state, &err);
}

static PyObject *key_fits(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"ciphertext", NULL};
    const struct ibk_state *state = ibk_state_of(self);
    const struct ibk_rsa_key *key = ibk_object_native(self);
    PyObject *ciphertext;
    ibk_span text;
    if (key == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "O:fits", names, &ciphertext) ||
        !ibk_get_text(state, ciphertext, "ciphertext", &text)) {
        return NULL;
    }
    struct ibk_error err;
    bool fits;
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_rsa_fits(key, text, &fits, &err);
    PyEval_RestoreThread(thread);
    return code == IBK_OK ? PyBool_FromLong(fits) : ibk_raise(state, &err);
}

static PyObject *key_rejects_implicitly(PyObject *self, void *closure)
{
    (void)closure;
    const struct ibk_rsa_key *key = ibk_object_native(self);
    return key != NULL ? PyBool_FromLong(ibk_rsa_rejects_implicitly(key)) : NULL;
}

static PyMethodDef key_methods[] = {
    {"load", IBK_METHOD(key_load), METH_CLASS | METH_VARARGS | METH_KEYWORDS,
     "load($type, /, data, passphrase=None, what='private key')\n--\n\n"
     "From PEM in any spelling or DER. `what` names the key in errors (\"signing key\")."},
    {"generate", IBK_METHOD(key_generate), METH_CLASS | METH_VARARGS | METH_KEYWORDS,
     "generate($type, /, bits=2048, progress=None)\n--\n\n`progress` is called now and then; what it raises ends the search."},
    {"public_pem", key_public_pem, METH_NOARGS, "public_pem($self, /)\n--\n\nSubjectPublicKeyInfo PEM with LF line ends."},
    {"private_pem", key_private_pem, METH_NOARGS, "private_pem($self, /)\n--\n\nPKCS#8 PEM without encryption, LF line ends."},
    {"sign", IBK_METHOD(key_sign), METH_VARARGS | METH_KEYWORDS,
     "sign($self, /, message)\n--\n\nRSA-SHA256 of the UTF-8 bytes, base64."},
    {"decrypt", IBK_METHOD(key_decrypt), METH_VARARGS | METH_KEYWORDS,
     "decrypt($self, /, ciphertext)\n--\n\nRSAES-PKCS1-v1_5 of base64 text. Success does not prove the key: OpenSSL from 3.2 on "
     "gives random bytes for a wrong one."},
    {"fits", IBK_METHOD(key_fits), METH_VARARGS | METH_KEYWORDS,
     "fits($self, /, ciphertext)\n--\n\nWhether this key truly decrypts that base64 text: for diagnosis only."},
    IBK_COPY_IS_SELF,
    IBK_REFUSE_PICKLING,
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef key_getset[] = {
    {"bits", key_bits, NULL, "Size of the modulus.", NULL},
    {"fingerprint", key_fingerprint, NULL, "SHA-256 of the public half (SubjectPublicKeyInfo, DER), 64 lower-case hex digits.",
     NULL},
    {"rejects_implicitly", key_rejects_implicitly, NULL, "Whether `decrypt` gives random bytes for a ciphertext of another key.",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot key_slots[] = {
    {Py_tp_doc, "A private RSA key of 2048 bits or more."},
    {Py_tp_dealloc, IBK_SLOT(key_dealloc)},
    {Py_tp_traverse, IBK_SLOT(ibk_object_traverse)},
    {Py_tp_repr, IBK_SLOT(key_repr)},
    {Py_tp_methods, key_methods},
    {Py_tp_getset, key_getset},
    {0, NULL},
};

PyType_Spec ibk_rsa_key_spec = {
    .name = "ibkr_oauth._core.RSAKey",
    .basicsize = sizeof(struct ibk_object),
    .flags = IBK_TYPE_FLAGS | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = key_slots,
};
