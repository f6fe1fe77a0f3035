/*
 * key.h - private RSA keys: the signing key (RSA-SHA256) and the encryption key (decrypts the access token secret).
 */
#ifndef IBK_KEY_H
#define IBK_KEY_H

#include "ibk/secret.h"

#define IBK_RSA_MIN_BITS 2048u
#define IBK_RSA_MAX_BITS 8192u
#define IBK_KEY_FILE_MAX_SIZE 65536u /* bytes of key text taken at most */
#define IBK_FINGERPRINT_SIZE 32u     /* SHA-256 */

struct ibk_rsa_key;

/*
 * PEM (PKCS#1 or PKCS#8, also encrypted) or DER, tolerant of form: byte order mark, UTF-16, CRLF, literal "\n", everything
 * on one line, base64 of the PEM, text around it. Strict of substance: a public key, certificate, EC key, DH parameters or a
 * short key is refused by name, and so is one whose numbers do not belong together. Never asks at the terminal: without pass
 * phrase (NULL) an encrypted key is IBK_E_PASSPHRASE. `what` names the key in error texts ("signing key").
 */
ibk_code ibk_rsa_key_load(ibk_span file, const struct ibk_secret *passphrase, const char *what, struct ibk_rsa_key **out,
                          struct ibk_error *err) IBK_MUST_USE;

/* Asked now and then while primes are searched; a result other than 0 stops the search with IBK_E_INTERRUPTED. */
struct ibk_progress {
    int (*step)(void *context);
    void *context;
};

ibk_code ibk_rsa_key_generate(unsigned int bits, const struct ibk_progress *progress, struct ibk_rsa_key **out,
                              struct ibk_error *err) IBK_MUST_USE;

struct ibk_rsa_key *ibk_rsa_key_acquire(struct ibk_rsa_key *key);
void ibk_rsa_key_release(struct ibk_rsa_key *key);

size_t ibk_rsa_key_bits(const struct ibk_rsa_key *key);
/* Modulus size in bytes: the size of a signature and of a ciphertext. */
size_t ibk_rsa_key_size(const struct ibk_rsa_key *key);

/* SHA-256 of the public half (SubjectPublicKeyInfo, DER): the same for the private file and the public file of one pair. */
ibk_code ibk_rsa_key_fingerprint(const struct ibk_rsa_key *key, uint8_t out[IBK_FINGERPRINT_SIZE], struct ibk_error *err)
    IBK_MUST_USE;

/* PEM with LF line ends: SubjectPublicKeyInfo, and PKCS#8 without encryption (give it a secret buffer). */
ibk_code ibk_rsa_key_put_public(const struct ibk_rsa_key *key, struct ibk_buf *out, struct ibk_error *err) IBK_MUST_USE;
ibk_code ibk_rsa_key_put_private(const struct ibk_rsa_key *key, struct ibk_buf *out, struct ibk_error *err) IBK_MUST_USE;

/* RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 8.2): puts ibk_rsa_key_size bytes. */
ibk_code ibk_rsa_sign(const struct ibk_rsa_key *key, ibk_span message, struct ibk_buf *out, struct ibk_error *err) IBK_MUST_USE;

/*
 * RSAES-PKCS1-v1_5 (RFC 8017 section 7.2) of base64 text. A text that is not base64 or not as long as the modulus is
 * IBK_E_KEY_MISMATCH with both lengths. A wrong key is IBK_E_KEY_MISMATCH with OpenSSL before 3.2; newer ones give random
 * bytes instead ("implicit rejection"), so success does not prove the key: only ibk_lst_verify does.
 */
ibk_code ibk_rsa_decrypt(const struct ibk_rsa_key *key, ibk_span base64_ciphertext, struct ibk_secret **out,
                         struct ibk_error *err) IBK_MUST_USE;

/* Whether ibk_rsa_decrypt gives random bytes for a ciphertext of another key, so that only ibk_rsa_fits could tell. */
bool ibk_rsa_rejects_implicitly(const struct ibk_rsa_key *key);

/*
 * Whether this key really decrypts the ciphertext to correct padding, whatever OpenSSL does about implicit rejection. To tell
 * a person that keys are swapped or a secret is foreign; not for a service that decrypts what strangers send, whom a
 * difference in behaviour would help (Bleichenbacher).
 */
ibk_code ibk_rsa_fits(const struct ibk_rsa_key *key, ibk_span base64_ciphertext, bool *fits, struct ibk_error *err) IBK_MUST_USE;

#endif
