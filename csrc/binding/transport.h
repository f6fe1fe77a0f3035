/*
 * transport.h - what the types of the binding that send requests share: options, requests, answers, outcomes.
 */
#ifndef IBK_BINDING_TRANSPORT_H
#define IBK_BINDING_TRANSPORT_H

#include "signing.h"

#include "ibk/mailbox.h"

/* Options of a client out of keyword arguments. */
struct ibk_client_options {
    struct ibk_http_options options; /* borrows from the arguments and from ca_file */
    PyObject *ca_file;               /* owned, or NULL */
};

/*
 * `args` and `kwargs` as a tp_new gets them. With `mailbox` not NULL the first positional argument is put there, borrowed.
 * False with an exception set; true: to be cleaned.
 */
bool ibk_get_client_options(const struct ibk_state *state, const char *type_name, PyObject *args, PyObject *kwargs,
                            PyObject **mailbox, struct ibk_client_options *out);
void ibk_client_options_clean(struct ibk_client_options *options);

/* A request whose bytes nobody can change or take away while it is sent. */
struct ibk_call {
    struct ibk_http_request request;
    struct ibk_params header_text; /* copies, since the caller's list may change */
    struct ibk_http_header *headers;
    Py_buffer body; /* held; obj NULL where there is none */
    struct ibk_signing_call signed_as;
};

/* The last five all or none: with them, unless the signer is None, the request is signed on its way. */
#define IBK_CALL_ARGUMENTS \
    "method, url, headers, body, repeatable, timeout_ms, signer=None, params=None, form=None, nonce=None, timestamp=None"

void ibk_call_init(struct ibk_call *call);
void ibk_call_clean(struct ibk_call *call);
/* `name`: of the method, for the error. False with an exception set; to be cleaned in either case. */
bool ibk_call_parse(const struct ibk_state *state, const char *name, PyObject *const *args, Py_ssize_t count,
                    struct ibk_call *call);

/* (status, header lines, body, microseconds, whether the connection was reused). See functions.c for the header lines. */
PyObject *ibk_build_response(const struct ibk_http_response *response);

#endif
