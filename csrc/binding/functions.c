/*
 * functions.c - the functions of the module: the stages of signing, live session tokens, and what is loaded.
 */
#include "state.h"

#include "ibk/encode.h"
#include "ibk/engine.h"
#include "ibk/http.h"
#include "ibk/lst.h"
#include "ibk/platform.h"
#include "transport.h"

#include <openssl/crypto.h>

#define TEXT_MAX_SIZE (16u << 20) /* bytes of a single text, encoded */
#define PATH_SIZE 4096            /* bytes */

/* The result of a stage that ended with code: its text, or the failure. Cleans the buffer. */
static PyObject *finish_text(const struct ibk_state *state, ibk_code code, struct ibk_buf *buf, const char *what,
                             const struct ibk_error *err)
{
    if (code != IBK_OK) {
        ibk_buf_clean(buf);
        return ibk_raise(state, err);
    }
    return ibk_take_text(state, buf, what);
}

static PyObject *percent_encode(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"text", NULL};
    const struct ibk_state *state = ibk_state_of_module(module);
    PyObject *text;
    ibk_span bytes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:percent_encode", names, &text) ||
        !ibk_get_text(state, text, "text", &bytes)) {
        return NULL;
    }
    struct ibk_buf encoded;
    ibk_buf_init(&encoded, TEXT_MAX_SIZE);
    ibk_percent_put(&encoded, bytes);
    return ibk_take_text(state, &encoded, "text");
}

static PyObject *decode_part(const struct ibk_state *state, ibk_span bytes, size_t index)
{
    PyObject *text = PyUnicode_DecodeUTF8(bytes.len != 0 ? (const char *)bytes.data : "", (Py_ssize_t)bytes.len, NULL);
    if (text == NULL && PyErr_ExceptionMatches(PyExc_UnicodeDecodeError)) {
        struct ibk_error err;
        PyErr_Clear();
        ibk_fail(&err, IBK_E_ENCODING, __func__, "parameter %zu of the query is not UTF-8", index + 1);
        ibk_raise(state, &err);
    }
    return text;
}

static PyObject *build_pairs(const struct ibk_state *state, const struct ibk_params *params)
{
    PyObject *pairs = PyList_New(0);
    for (size_t i = 0; pairs != NULL && i < ibk_params_count(params); i++) {
        PyObject *name = decode_part(state, ibk_params_peek_name(params, i), i);
        PyObject *value = name != NULL ? decode_part(state, ibk_params_peek_value(params, i), i) : NULL;
        PyObject *pair = value != NULL ? PyTuple_Pack(2, name, value) : NULL;
        if (pair == NULL || PyList_Append(pairs, pair) < 0) {
            Py_CLEAR(pairs);
        }
        Py_XDECREF(name);
        Py_XDECREF(value);
        Py_XDECREF(pair);
    }
    return pairs;
}

static PyObject *query_pairs(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"url", NULL};
    const struct ibk_state *state = ibk_state_of_module(module);
    PyObject *value;
    ibk_span text;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:query_pairs", names, &value) || !ibk_get_text(state, value, "url", &text)) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_url url;
    struct ibk_params params;
    ibk_params_init(&params);
    ibk_code code = ibk_url_split(text, &url, &err);
    if (code == IBK_OK) {
        code = ibk_params_add_query(&params, url.query, &err);
    }
    PyObject *pairs = code == IBK_OK ? build_pairs(state, &params) : ibk_raise(state, &err);
    ibk_params_clean(&params);
    return pairs;
}

static PyObject *url_with_query(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"url", "pairs", NULL};
    const struct ibk_state *state = ibk_state_of_module(module);
    PyObject *url, *pairs, *result = NULL;
    ibk_span text;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:url_with_query", names, &url, &pairs) ||
        !ibk_get_text(state, url, "url", &text)) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_params params;
    ibk_params_init(&params);
    if (ibk_get_pairs(state, pairs, "pairs", &params)) {
        struct ibk_buf out;
        ibk_buf_init(&out, IBK_URL_MAX_SIZE);
        result = finish_text(state, ibk_url_with_query(text, &params, &out, &err), &out, "URL", &err);
    }
    ibk_params_clean(&params);
    return result;
}

static PyObject *normalise(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pairs", "rfc5849", NULL};
    const struct ibk_state *state = ibk_state_of_module(module);
    PyObject *pairs, *flag = Py_False, *result = NULL;
    bool rfc5849;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:normalise", names, &pairs, &flag) ||
        !ibk_get_flag(flag, "rfc5849", &rfc5849)) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_params params;
    ibk_params_init(&params);
    if (ibk_get_pairs(state, pairs, "pairs", &params)) {
        struct ibk_buf out;
        ibk_buf_init(&out, IBK_BASE_STRING_MAX_SIZE);
        ibk_code code = ibk_params_join(&params, rfc5849 ? IBK_JOIN_RFC5849 : IBK_JOIN_ONCE, &out, &err);
        result = finish_text(state, code, &out, "normalised parameters", &err);
    }
    ibk_params_clean(&params);
    return result;
}

static PyObject *base_string(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"method", "url", "pairs", "prepend", "query_signing", NULL};
    const struct ibk_state *state = ibk_state_of_module(module);
    PyObject *method, *url, *pairs, *prepend = NULL, *query_signing = NULL, *result = NULL;
    struct ibk_base_string_input input = {.prepend = ibk_span_text(""), .query_signing = IBK_QUERY_OMIT};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|OO:base_string", names, &method, &url, &pairs, &prepend,
                                     &query_signing) ||
        !ibk_get_text(state, method, "method", &input.method) || !ibk_get_text(state, url, "url", &input.url) ||
        (prepend != NULL && !ibk_get_text(state, prepend, "prepend", &input.prepend)) ||
        (query_signing != NULL && !ibk_get_query_signing(state, query_signing, &input.query_signing))) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_params params;
    ibk_params_init(&params);
    if (ibk_get_pairs(state, pairs, "pairs", &params)) {
        struct ibk_buf out;
        ibk_buf_init_secret(&out, IBK_BASE_STRING_MAX_SIZE); /* the prepend may be one */
        input.params = &params;
        result = finish_text(state, ibk_base_string(&input, &out, &err), &out, "base string", &err);
    }
    ibk_params_clean(&params);
    return result;
}

static PyObject *hmac_sha256(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"base_string", "key", NULL};
    const struct ibk_state *state = ibk_state_of_module(module);
    PyObject *text, *secret;
    ibk_span bytes;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO!:hmac_sha256", names, &text, state->types[IBK_TYPE_SECRET], &secret) ||
        !ibk_get_text(state, text, "base_string", &bytes) || ibk_object_native(secret) == NULL) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_mac_key *key;
    if (ibk_mac_key_new(IBK_HMAC_SHA256, ibk_object_native(secret), &key, &err) != IBK_OK) {
        return ibk_raise(state, &err);
    }
    struct ibk_buf out;
    ibk_buf_init(&out, 2 * IBK_MAC_MAX_SIZE);
    ibk_code code = ibk_sign_hmac_sha256(bytes, key, &out, &err);
    ibk_mac_key_free(key);
    return finish_text(state, code, &out, "signature", &err);
}

static PyObject *authorization_header(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"pairs", "realm", NULL};
    const struct ibk_state *state = ibk_state_of_module(module);
    PyObject *pairs, *realm = NULL, *result = NULL;
    ibk_span realm_text = ibk_span_text("");
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:authorization_header", names, &pairs, &realm) ||
        (realm != NULL && !ibk_get_text(state, realm, "realm", &realm_text))) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_params params;
    ibk_params_init(&params);
    if (ibk_get_pairs(state, pairs, "pairs", &params)) {
        struct ibk_buf out;
        ibk_buf_init(&out, IBK_HEADER_MAX_SIZE);
        result = finish_text(state, ibk_authorization_header(&params, realm_text, &out, &err), &out, "header", &err);
    }
    ibk_params_clean(&params);
    return result;
}

static PyObject *make_rsa_signature(const struct ibk_state *state, const struct ibk_signature_input *input)
{
    struct ibk_error err;
    struct ibk_buf out;
    ibk_buf_init(&out, IBK_HEADER_MAX_SIZE);
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_request_signature(input, &out, &err);
    PyEval_RestoreThread(thread);
    return finish_text(state, code, &out, "signature", &err);
}

static PyObject *rsa_signature(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"method", "url", "oauth", "key", "prepend", NULL};
    const struct ibk_state *state = ibk_state_of_module(module);
    PyObject *method, *url, *oauth, *key, *prepend = Py_None, *result = NULL;
    struct ibk_signature_input input = {.query_signing = IBK_QUERY_OMIT};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO!|O:rsa_signature", names, &method, &url, &oauth,
                                     state->types[IBK_TYPE_RSA_KEY], &key, &prepend) ||
        !ibk_get_text(state, method, "method", &input.method) || !ibk_get_text(state, url, "url", &input.url)) {
        return NULL;
    }
    if (prepend != Py_None && Py_TYPE(prepend) != state->types[IBK_TYPE_SECRET]) {
        return ibk_raise_type("prepend", "Secret or None", prepend);
    }
    input.rsa_key = ibk_object_native(key);
    input.prepend = prepend != Py_None ? ibk_object_native(prepend) : NULL;
    if (PyErr_Occurred() != NULL) {
        return NULL;
    }
    struct ibk_params params;
    ibk_params_init(&params);
    if (ibk_get_pairs(state, oauth, "oauth", &params)) {
        input.oauth = &params;
        result = make_rsa_signature(state, &input);
    }
    ibk_params_clean(&params);
    return result;
}

static PyObject *nonce(PyObject *module, PyObject *args)
{
    (void)args;
    struct ibk_error err;
    struct ibk_buf out;
    ibk_buf_init(&out, IBK_NONCE_SIZE);
    return finish_text(ibk_state_of_module(module), ibk_nonce_put(&out, &err), &out, "nonce", &err);
}

static PyObject *java_bytes(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"hex_digits", NULL};
    const struct ibk_state *state = ibk_state_of_module(module);
    PyObject *text, *result = NULL;
    ibk_span digits;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:java_bytes", names, &text) ||
        !ibk_get_text(state, text, "hex_digits", &digits)) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_buf number, bytes;
    ibk_buf_init_secret(&number, IBK_SECRET_MAX_SIZE);
    ibk_buf_init_secret(&bytes, IBK_SECRET_MAX_SIZE);
    ibk_code code = digits.len == 0 ? ibk_fail(&err, IBK_E_ENCODING, __func__, "hex_digits is empty")
                                    : ibk_hex_decode_number(digits, "hex_digits", &number, &err);
    if (code == IBK_OK) {
        ibk_java_bytes_put(&bytes, ibk_buf_peek(&number));
        code = ibk_buf_check(&bytes, "number", &err);
    }
    if (code != IBK_OK) {
        ibk_raise(state, &err);
    } else {
        result = PyBytes_FromStringAndSize((const char *)bytes.data, (Py_ssize_t)bytes.len);
    }
    ibk_buf_clean(&number);
    ibk_buf_clean(&bytes);
    return result;
}

static PyObject *derive_live_session_token(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"shared_secret", "access_token_secret", NULL};
    const struct ibk_state *state = ibk_state_of_module(module);
    PyObject *shared_secret, *access_token_secret;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!O!:derive_live_session_token", names, state->types[IBK_TYPE_SECRET],
                                     &shared_secret, state->types[IBK_TYPE_SECRET], &access_token_secret) ||
        ibk_object_native(shared_secret) == NULL || ibk_object_native(access_token_secret) == NULL) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_secret *token;
    if (ibk_lst_derive(ibk_object_native(shared_secret), ibk_object_native(access_token_secret), &token, &err) != IBK_OK) {
        return ibk_raise(state, &err);
    }
    return ibk_take_secret(state, token);
}

static PyObject *verify_live_session_token(PyObject *module, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"token", "consumer_key", "signature", NULL};
    const struct ibk_state *state = ibk_state_of_module(module);
    PyObject *token, *consumer_key, *signature;
    ibk_span consumer_key_text, signature_text;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!OO:verify_live_session_token", names, state->types[IBK_TYPE_SECRET], &token,
                                     &consumer_key, &signature) ||
        ibk_object_native(token) == NULL || !ibk_get_text(state, consumer_key, "consumer_key", &consumer_key_text) ||
        !ibk_get_text(state, signature, "signature", &signature_text)) {
        return NULL;
    }
    struct ibk_error err;
    if (ibk_lst_verify(ibk_object_native(token), consumer_key_text, signature_text, &err) != IBK_OK) {
        return ibk_raise(state, &err);
    }
    return Py_NewRef(Py_None);
}

static PyObject *find_ca(PyObject *module, PyObject *args)
{
    (void)args;
    struct ibk_error err;
    char file[PATH_SIZE], path[PATH_SIZE];
    PyThreadState *thread = PyEval_SaveThread();
    ibk_code code = ibk_http_find_ca(file, sizeof file, path, sizeof path, &err);
    PyEval_RestoreThread(thread);
    if (code != IBK_OK) {
        return ibk_raise(ibk_state_of_module(module), &err);
    }
    return Py_BuildValue("(NN)", PyUnicode_DecodeFSDefault(file), PyUnicode_DecodeFSDefault(path));
}

static PyObject *versions(PyObject *module, PyObject *args)
{
    (void)module;
    (void)args;
    return Py_BuildValue("{ssss}", "openssl", OpenSSL_version(OPENSSL_VERSION), "libcurl", ibk_http_library_version());
}

static PyObject *check_request(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    const struct ibk_state *state = ibk_state_of_module(module);
    struct ibk_error err;
    struct ibk_call call;
    ibk_call_init(&call);
    bool good = ibk_call_parse(state, "check_request", args, count, &call);
    if (good && ibk_http_request_validate(&call.request, &err) != IBK_OK) {
        ibk_raise(state, &err);
        good = false;
    }
    ibk_call_clean(&call);
    return good ? Py_NewRef(Py_None) : NULL;
}

static PyObject *may_be_sent(PyObject *module, PyObject *url)
{
    const struct ibk_state *state = ibk_state_of_module(module);
    ibk_span text;
    struct ibk_url parts;
    struct ibk_error err;
    if (!ibk_get_text(state, url, "url", &text)) {
        return NULL;
    }
    if (ibk_url_split(text, &parts, &err) != IBK_OK) {
        return ibk_raise(state, &err);
    }
    return PyBool_FromLong(ibk_url_may_be_sent(&parts));
}

/* The next header of the lines of an answer, which `lines` then begins behind. A line without a colon is no header. */
static bool next_header(ibk_span *lines, ibk_span *name, ibk_span *value)
{
    while (lines->len > 0) {
        const uint8_t *line = lines->data, *behind = lines->data + lines->len;
        const uint8_t *stop = memchr(line, '\n', lines->len);
        const uint8_t *end = stop != NULL ? stop : behind;
        const uint8_t *colon = memchr(line, ':', (size_t)(end - line));
        const uint8_t *next = stop != NULL ? stop + 1 : behind;
        *lines = ibk_span_of(next, (size_t)(behind - next));
        if (colon != NULL) {
            const uint8_t *start = colon + 1;
            while (start < end && (*start == ' ' || *start == '\t')) {
                start++;
            }
            while (end > start && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r')) {
                end--;
            }
            *name = ibk_span_of(line, (size_t)(colon - line));
            *value = ibk_span_of(start, (size_t)(end - start));
            return true;
        }
    }
    return false;
}

static PyObject *decode(ibk_span text)
{
    return PyUnicode_DecodeLatin1((const char *)text.data, (Py_ssize_t)text.len, NULL);
}

/* Takes the item over; NULL is an error that was met already. */
static bool append(PyObject *list, PyObject *item)
{
    bool good = item != NULL && PyList_Append(list, item) == 0;
    Py_XDECREF(item);
    return good;
}

static ibk_span lines_of(PyObject *bytes)
{
    return ibk_span_of(PyBytes_AsString(bytes), (size_t)PyBytes_Size(bytes));
}

static PyObject *header_pairs(PyObject *module, PyObject *argument)
{
    ibk_span name, value;
    (void)module;
    if (!PyBytes_Check(argument)) {
        return ibk_raise_type("lines", "bytes", argument);
    }
    ibk_span lines = lines_of(argument);
    PyObject *pairs = PyList_New(0);
    while (pairs != NULL && next_header(&lines, &name, &value)) {
        if (!append(pairs, Py_BuildValue("(NN)", decode(name), decode(value)))) {
            Py_CLEAR(pairs);
        }
    }
    return pairs;
}

static PyObject *values_in_lines(ibk_span lines, ibk_span wanted)
{
    ibk_span name, value;
    PyObject *values = PyList_New(0);
    while (values != NULL && next_header(&lines, &name, &value)) {
        if (ibk_span_equal_nocase(name, wanted) && !append(values, decode(value))) {
            Py_CLEAR(values);
        }
    }
    return values;
}

/* 1 where the pair's name is that one, 0 where not, -1 with an exception set. */
static int is_named(const struct ibk_state *state, PyObject *pair, ibk_span name)
{
    ibk_span text;
    if (!PyTuple_Check(pair) || PyTuple_Size(pair) != 2) {
        ibk_raise_type("headers", "list of (name, value)", pair);
        return -1;
    }
    if (!ibk_get_text(state, PyTuple_GetItem(pair, 0), "header name", &text)) {
        return -1;
    }
    return ibk_span_equal_nocase(text, name);
}

static PyObject *values_in_pairs(const struct ibk_state *state, PyObject *pairs, ibk_span wanted)
{
    PyObject *values = PyList_New(0);
    for (Py_ssize_t i = 0; values != NULL && i < PyList_Size(pairs); i++) {
        PyObject *pair = PyList_GetItem(pairs, i);
        int named = is_named(state, pair, wanted);
        if (named < 0 || (named != 0 && PyList_Append(values, PyTuple_GetItem(pair, 1)) < 0)) {
            Py_CLEAR(values);
        }
    }
    return values;
}

static PyObject *header_values(PyObject *module, PyObject *const *args, Py_ssize_t count)
{
    const struct ibk_state *state = ibk_state_of_module(module);
    ibk_span wanted;
    if (count != 2) {
        return PyErr_Format(PyExc_TypeError, "header_values() takes 2 arguments (%zd given)", count);
    }
    if (!PyList_Check(args[0]) && !PyBytes_Check(args[0])) {
        return ibk_raise_type("headers", "bytes or list of (name, value)", args[0]);
    }
    if (!ibk_get_text(state, args[1], "name", &wanted)) {
        return NULL;
    }
    return PyList_Check(args[0]) ? values_in_pairs(state, args[0], wanted) : values_in_lines(lines_of(args[0]), wanted);
}

static PyObject *tls_keys_are_logged(PyObject *module, PyObject *args)
{
    (void)module;
    (void)args;
    return PyBool_FromLong(ibk_http_keys_are_logged());
}

static PyObject *steady_ms(PyObject *module, PyObject *args)
{
    (void)module;
    (void)args;
    return PyLong_FromLongLong(ibk_clock_steady_ms());
}

static PyObject *engine_threads(PyObject *module, PyObject *args)
{
    (void)module;
    (void)args;
    return PyLong_FromLong(ibk_engine_threads());
}

#ifdef IBK_TESTING
static PyObject *live_allocations(PyObject *module, PyObject *args)
{
    (void)module;
    (void)args;
    return PyLong_FromLong(ibk_test_live_allocations());
}
#endif

#define KEYWORDS (METH_VARARGS | METH_KEYWORDS)

PyMethodDef ibk_functions[] = {
    {"percent_encode", IBK_METHOD(percent_encode), KEYWORDS,
     "percent_encode($module, /, text)\n--\n\nRFC 3986: all but A-Z a-z 0-9 - . _ ~ as %XX of the UTF-8 bytes."},
    {"query_pairs", IBK_METHOD(query_pairs), KEYWORDS,
     "query_pairs($module, /, url)\n--\n\nStage \"collect\": the decoded pairs of a URL's query."},
    {"url_with_query", IBK_METHOD(url_with_query), KEYWORDS,
     "url_with_query($module, /, url, pairs)\n--\n\nThe URL with the pairs percent-encoded at the end of its query."},
    {"normalise", IBK_METHOD(normalise), KEYWORDS,
     "normalise($module, /, pairs, rfc5849=False)\n--\n\n"
     "Stage \"normalise\": sorted and joined with & and =; names and values encoded first where rfc5849."},
    {"base_string", IBK_METHOD(base_string), KEYWORDS,
     "base_string($module, /, method, url, pairs, prepend='', query_signing='omit')\n--\n\nStage \"base string\"."},
    {"hmac_sha256", IBK_METHOD(hmac_sha256), KEYWORDS,
     "hmac_sha256($module, /, base_string, key)\n--\n\nStage \"sign\" with a live session token: base64."},
    {"authorization_header", IBK_METHOD(authorization_header), KEYWORDS,
     "authorization_header($module, /, pairs, realm='')\n--\n\n"
     "Stage \"header\": realm first, the rest sorted, values percent-encoded."},
    {"rsa_signature", IBK_METHOD(rsa_signature), KEYWORDS,
     "rsa_signature($module, /, method, url, oauth, key, prepend=None)\n--\n\n"
     "Base string and signature for an OAuth endpoint, base64. `prepend`: the decrypted access token secret."},
    {"nonce", nonce, METH_NOARGS, "nonce($module, /)\n--\n\n32 random lower-case hex digits."},
    {"java_bytes", IBK_METHOD(java_bytes), KEYWORDS,
     "java_bytes($module, /, hex_digits)\n--\n\n"
     "The bytes of Java's BigInteger.toByteArray for a non-negative integer in hex."},
    {"derive_live_session_token", IBK_METHOD(derive_live_session_token), KEYWORDS,
     "derive_live_session_token($module, /, shared_secret, access_token_secret)\n--\n\n"
     "HMAC-SHA1 with the shared secret as key over the decrypted access token secret."},
    {"verify_live_session_token", IBK_METHOD(verify_live_session_token), KEYWORDS,
     "verify_live_session_token($module, /, token, consumer_key, signature)\n--\n\n"
     "Raises LiveSessionTokenMismatch unless `signature` (hex) proves the token."},
    {"find_ca", find_ca, METH_NOARGS,
     "find_ca($module, /)\n--\n\n"
     "The CA file and directory that verification uses where none is given; one of them may be empty."},
    {"check_request", IBK_METHOD(check_request), METH_FASTCALL,
     "check_request($module, method, url, headers, body, repeatable, timeout_ms, /)\n--\n\n"
     "Raises what HttpClient.send would raise before it sends anything."},
    {"may_be_sent", may_be_sent, METH_O,
     "may_be_sent($module, url, /)\n--\n\nWhether the transport speaks to this URL: https, or http to loopback."},
    {"header_values", IBK_METHOD(header_values), METH_FASTCALL,
     "header_values($module, headers, name, /)\n--\n\nThe values of all headers of that name, in any case."},
    {"header_pairs", header_pairs, METH_O, "header_pairs($module, lines, /)\n--\n\nName and value of each header, in order."},
    {"tls_keys_are_logged", tls_keys_are_logged, METH_NOARGS,
     "tls_keys_are_logged($module, /)\n--\n\nWhether SSLKEYLOGFILE was set at import: libcurl then writes the keys of its "
     "connections there."},
    {"steady_ms", steady_ms, METH_NOARGS,
     "steady_ms($module, /)\n--\n\nMilliseconds on a clock that never jumps: the one that KeepAlive.set_clock refers to."},
    {"engine_threads", engine_threads, METH_NOARGS,
     "engine_threads($module, /)\n--\n\n1 while the engine runs in this process, else 0."},
    {"versions", versions, METH_NOARGS,
     "versions($module, /)\n--\n\nThe libraries that are loaded: {\"openssl\": ..., \"libcurl\": ...}."},
#ifdef IBK_TESTING
    {"_live_allocations", live_allocations, METH_NOARGS,
     "_live_allocations($module, /)\n--\n\nBlocks that the core has taken and not given back."},
#endif
    {NULL, NULL, 0, NULL},
};
