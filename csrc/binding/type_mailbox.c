/*
 * type_mailbox.c - Mailbox: where outcomes of the engine wait for Python.
 */
#include "transport.h"

static PyObject *mailbox_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {NULL};
    struct ibk_error err;
    struct ibk_mailbox *mailbox;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, ":Mailbox", names)) {
        return NULL;
    }
    if (ibk_mailbox_new(&mailbox, &err) != IBK_OK) {
        return ibk_raise(ibk_state_of_type((PyObject *)type), &err);
    }
    PyObject *self = ibk_object_new(type, mailbox);
    if (self == NULL) {
        ibk_mailbox_release(mailbox);
    }
    return self;
}

static void mailbox_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    ibk_mailbox_release(IBK_SELF(self)->native);
    ibk_object_free(self);
}

/* The exception that is set, as an object, no longer set. */
static PyObject *take_exception(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value;
}

/* (key, answer or exception). An answer that Python has no memory for becomes the exception that says so. */
static PyObject *build_outcome(const struct ibk_state *state, const struct ibk_outcome *outcome)
{
    PyObject *result =
        outcome->code == IBK_OK ? ibk_build_response(&outcome->response) : ibk_build_exception(state, &outcome->error);
    if (result == NULL) {
        result = take_exception();
    }
    return result != NULL ? Py_BuildValue("(LN)", (long long)outcome->key, result) : PyErr_NoMemory();
}

/* Frees what it could turn into Python's; the rest goes back. */
static PyObject *build_outcomes(const struct ibk_state *state, struct ibk_mailbox *mailbox, struct ibk_outcome *list)
{
    PyObject *result = PyList_New(0);
    while (result != NULL && list != NULL) {
        PyObject *item = build_outcome(state, list);
        if (item == NULL || PyList_Append(result, item) < 0) {
            Py_CLEAR(result);
        } else {
            struct ibk_outcome *next = list->next;
            list->next = NULL;
            ibk_outcomes_free(list);
            list = next;
        }
        Py_XDECREF(item);
    }
    if (list != NULL) {
        ibk_mailbox_put_back(mailbox, list);
    }
    return result;
}

static PyObject *mailbox_take(PyObject *self, PyObject *args)
{
    (void)args;
    struct ibk_mailbox *mailbox = ibk_object_native(self);
    if (mailbox == NULL) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_outcome *list;
    if (ibk_mailbox_take(mailbox, &list, &err) != IBK_OK) {
        return ibk_raise(ibk_state_of(self), &err);
    }
    return build_outcomes(ibk_state_of(self), mailbox, list);
}

static PyObject *mailbox_wait(PyObject *self, PyObject *timeout)
{
    struct ibk_mailbox *mailbox = ibk_object_native(self);
    if (mailbox == NULL) {
        return NULL;
    }
    long long timeout_ms = PyLong_AsLongLong(timeout);
    if (timeout_ms == -1 && PyErr_Occurred() != NULL) {
        return NULL;
    }
    struct ibk_error err;
    struct ibk_outcome *list;
    struct ibk_hook hook = {.callable = NULL};
    const struct ibk_http_hooks hooks = {.interrupt = ibk_hook_step, .context = &hook};
    hook.thread = PyEval_SaveThread();
    ibk_code code = ibk_mailbox_wait(mailbox, timeout_ms, &hooks, &list, &err);
    PyEval_RestoreThread(hook.thread);
    if (code != IBK_OK) {
        return ibk_raise(ibk_state_of(self), &err);
    }
    return build_outcomes(ibk_state_of(self), mailbox, list);
}

static PyObject *mailbox_wake(PyObject *self, PyObject *args)
{
    (void)args;
    struct ibk_mailbox *mailbox = ibk_object_native(self);
    if (mailbox == NULL) {
        return NULL;
    }
    ibk_mailbox_wake(mailbox);
    return Py_NewRef(Py_None);
}

static PyObject *mailbox_fileno(PyObject *self, PyObject *args)
{
    (void)args;
    struct ibk_mailbox *mailbox = ibk_object_native(self);
    if (mailbox == NULL) {
        return NULL;
    }
    struct ibk_error err;
    int descriptor;
    if (ibk_mailbox_descriptor(mailbox, &descriptor, &err) != IBK_OK) {
        return ibk_raise(ibk_state_of(self), &err);
    }
    return PyLong_FromLong(descriptor);
}

static PyMethodDef mailbox_methods[] = {
    {"fileno", mailbox_fileno, METH_NOARGS,
     "fileno($self, /)\n--\n\nA descriptor that is readable while there is something to take. To be watched, never read or "
     "closed."},
    {"take", mailbox_take, METH_NOARGS,
     "take($self, /)\n--\n\n(key, outcome) of all that is finished, the oldest first. Never waits."},
    {"wait", mailbox_wait, METH_O,
     "wait($self, timeout_ms, /)\n--\n\nThe same once there is something; [] after the time (-1: for ever) or a wake()."},
    {"wake", mailbox_wake, METH_NOARGS, "wake($self, /)\n--\n\nFrom any thread: lets one wait() return."},
    IBK_REFUSE_PICKLING,
    {NULL, NULL, 0, NULL},
};

static PyType_Slot mailbox_slots[] = {
    {Py_tp_doc, "Mailbox()\n--\n\nWhere what the engine has finished waits for its taker. Threads may share one."},
    {Py_tp_new, IBK_SLOT(mailbox_new)},
    {Py_tp_dealloc, IBK_SLOT(mailbox_dealloc)},
    {Py_tp_traverse, IBK_SLOT(ibk_object_traverse)},
    {Py_tp_methods, mailbox_methods},
    {0, NULL},
};

PyType_Spec ibk_mailbox_spec = {
    .name = "ibkr_oauth._core.Mailbox",
    .basicsize = sizeof(struct ibk_object),
    .flags = IBK_TYPE_FLAGS,
    .slots = mailbox_slots,
};
