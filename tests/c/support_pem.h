/*
 * support_pem.h - key files in all the spellings that people have them in, and keys of the wrong kind, made on the spot.
 */
#ifndef IBK_TEST_SUPPORT_PEM_H
#define IBK_TEST_SUPPORT_PEM_H

#include "support.h"

#include <openssl/evp.h>

/* One way to spell a PEM file. */
struct spelling {
    const char *name;
    ibk_span (*spell)(ibk_span pem);
};

/* All that a loader has to accept, the plain PEM itself included; ends with a NULL name. */
extern const struct spelling spellings[];

/* The DER inside the first block of a PEM file, and a block around DER. */
ibk_span der_of_pem(ibk_span pem);
ibk_span pem_of_der(const char *label, ibk_span der);
/* The same with another label. */
ibk_span relabelled(ibk_span pem, const char *label);
/* Without the digits of its body from this share on: 50 for half of it. */
ibk_span truncated_body(ibk_span pem, size_t percent);

/* DER by hand, with lengths as short as they go. */
ibk_span der_integer(ibk_span content);
ibk_span der_sequence(ibk_span content);

/* New keys; the caller frees them. */
EVP_PKEY *new_rsa(unsigned int bits);
EVP_PKEY *new_rsa_pss(void);
EVP_PKEY *new_ec(void);
EVP_PKEY *new_ed25519(void);

/* structure: "PrivateKeyInfo", "EncryptedPrivateKeyInfo", "type-specific" or "SubjectPublicKeyInfo". format: "PEM" or "DER". */
ibk_span encoded_key(const EVP_PKEY *key, const char *format, const char *structure);
/* A certificate for the key, signed by itself. */
ibk_span certificate_of(EVP_PKEY *key);

/* The key of a PEM or DER file, read by OpenSSL. */
EVP_PKEY *public_key_of(ibk_span file);
/* RSASSA-PKCS1-v1_5 with SHA-256. */
bool signature_is_good(EVP_PKEY *public_key, ibk_span message, ibk_span signature);
/* Base64 of a raw RSA block, which has to be as long as the modulus; and of a padded message. */
const char *encrypted_raw(EVP_PKEY *public_key, ibk_span block);
const char *encrypted_padded(EVP_PKEY *public_key, ibk_span message);

#endif
