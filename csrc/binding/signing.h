/*
 * signing.h - what RequestSigner.sign and the senders that sign share: their arguments.
 */
#ifndef IBK_BINDING_SIGNING_H
#define IBK_BINDING_SIGNING_H

#include "state.h"

#include "ibk/signer.h"

#define IBK_SIGNING_ARGUMENTS 4 /* params, form, nonce, timestamp */

/* A signing and the text that it points to. */
struct ibk_signing_call {
    struct ibk_signing signing;
    char timestamp[24];
};

/* `request`: method and URL; texts are borrowed from the arguments. To be initialised before; false with an exception set. */
bool ibk_signing_parse(const struct ibk_state *state, PyObject *const *request, PyObject *const *args,
                       struct ibk_signing_call *call);

#endif
