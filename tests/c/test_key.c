/* test_key.c - private RSA keys: every spelling taken, everything else refused by name; signing, decrypting, generating. */
#include "support_pem.h"

#include "ibk/key.h"

#include <openssl/bn.h>
#include <openssl/rsa.h>
#include <stdlib.h>

#define PASSPHRASE "vector-pass" /* of the encrypted keys in vectors.json */

static const json_t *key_pair(const char *name)
{
    return member(member(vectors(), "keys"), name);
}

static ibk_span key_file(const char *pair, const char *format)
{
    return ibk_span_text(text_of(key_pair(pair), format));
}

static struct ibk_rsa_key *load(ibk_span file, const char *passphrase)
{
    struct ibk_secret *secret = passphrase == NULL ? NULL : secret_of(ibk_span_text(passphrase));
    struct ibk_rsa_key *key = NULL;
    assert_ok(ibk_rsa_key_load(file, secret, "Albert", &key, &err));
    ibk_secret_release(secret);
    return key;
}

static struct ibk_rsa_key *load_pair(const char *pair)
{
    return load(key_file(pair, "private_pkcs8_pem"), NULL);
}

/* The fingerprint as OpenSSL has it, from the public file. */
static ibk_span fingerprint_of(ibk_span public_pem)
{
    uint8_t *out = room(IBK_FINGERPRINT_SIZE);
    ibk_span der = der_of_pem(public_pem);
    assert_int_equal(EVP_Digest(der.data, der.len, out, NULL, EVP_sha256(), NULL), 1);
    return ibk_span_of(out, IBK_FINGERPRINT_SIZE);
}

static void check_key(const struct ibk_rsa_key *key, ibk_span public_pem)
{
    uint8_t fingerprint[IBK_FINGERPRINT_SIZE];
    assert_ok(ibk_rsa_key_fingerprint(key, fingerprint, &err));
    assert_bytes(ibk_span_of(fingerprint, sizeof fingerprint), fingerprint_of(public_pem));
    assert_row(ibk_rsa_key_bits(key) == 2048 && ibk_rsa_key_size(key) == 256);
}

static void test_every_spelling_of_every_format(void **state)
{
    static const struct {
        const char *format, *passphrase;
    } formats[] = {
        {"private_pkcs1_pem", NULL},
        {"private_pkcs8_pem", NULL},
        {"private_pkcs8_encrypted_pem", PASSPHRASE},
        {"private_pkcs1_legacy_encrypted_pem", PASSPHRASE},
    };
    (void)state;
    ibk_span public_pem = key_file("signature", "public_spki_pem");
    for (size_t i = 0; i < COUNT(formats); i++) {
        for (const struct spelling *spelling = spellings; spelling->name != NULL; spelling++) {
            row("%s, %s", formats[i].format, spelling->name);
            ibk_span file = spelling->spell(key_file("signature", formats[i].format));
            struct ibk_rsa_key *key = load(file, formats[i].passphrase);
            check_key(key, public_pem);
            ibk_rsa_key_release(key);
        }
    }
}

static void test_no_line_ends_at_all(void **state)
{
    (void)state;
    ibk_span pem = key_file("signature", "private_pkcs8_pem");
    uint8_t *squeezed = room(pem.len);
    size_t len = 0;
    for (size_t i = 0; i < pem.len; i++) {
        if (pem.data[i] != '\n') {
            squeezed[len++] = pem.data[i];
        }
    }
    struct ibk_rsa_key *key = load(ibk_span_of(squeezed, len), NULL);
    check_key(key, key_file("signature", "public_spki_pem"));
    ibk_rsa_key_release(key);
}

static void test_der(void **state)
{
    static const char *const formats[] = {"private_pkcs1_pem", "private_pkcs8_pem"};
    (void)state;
    for (size_t i = 0; i < COUNT(formats); i++) {
        row("DER of %s", formats[i]);
        ibk_span der = der_of_pem(key_file("encryption", formats[i]));
        struct ibk_rsa_key *key = load(der, NULL);
        check_key(key, key_file("encryption", "public_spki_pem"));
        ibk_rsa_key_release(key);
        row("base64 of DER of %s", formats[i]);
        key = load(ibk_span_text(base64_of(der)), NULL);
        check_key(key, key_file("encryption", "public_spki_pem"));
        ibk_rsa_key_release(key);
    }
}

/* A file may hold more than the key. */
static void test_key_among_other_blocks(void **state)
{
    (void)state;
    EVP_PKEY *other = new_ec();
    ibk_span certificate = certificate_of(other);
    ibk_span private_pem = key_file("signature", "private_pkcs1_pem"), public_pem = key_file("signature", "public_spki_pem");
    ibk_span files[] = {joined(public_pem, private_pem), joined(private_pem, public_pem), joined(certificate, private_pem)};
    for (size_t i = 0; i < COUNT(files); i++) {
        row("file %zu", i);
        struct ibk_rsa_key *key = load(files[i], NULL);
        check_key(key, public_pem);
        ibk_rsa_key_release(key);
    }
    EVP_PKEY_free(other);
}

static void test_encrypted_der(void **state)
{
    (void)state;
    ibk_span der = der_of_pem(key_file("signature", "private_pkcs8_encrypted_pem"));
    struct ibk_rsa_key *key = load(der, PASSPHRASE);
    check_key(key, key_file("signature", "public_spki_pem"));
    ibk_rsa_key_release(key);
    assert_refused(IBK_E_PASSPHRASE, ibk_rsa_key_load(der, NULL, "Albert", &key, &err));
    struct ibk_secret *wrong = secret_of(LITERAL("wrong"));
    assert_refused(IBK_E_PASSPHRASE, ibk_rsa_key_load(der, wrong, "Albert", &key, &err));
    ibk_secret_release(wrong);
}

static void check_passphrase_refused(ibk_span file, const struct ibk_secret *passphrase)
{
    struct ibk_rsa_key *key = (struct ibk_rsa_key *)(void *)&err;
    assert_refused(IBK_E_PASSPHRASE, ibk_rsa_key_load(file, passphrase, "Albert", &key, &err));
    assert_says("Albert", "pass phrase");
    assert_row(key == NULL);
    assert_row(ibk_rsa_key_load(file, passphrase, "Albert", &key, NULL) == IBK_E_PASSPHRASE);
}

static void test_passphrase_missing_or_wrong(void **state)
{
    static const char *const formats[] = {"private_pkcs8_encrypted_pem", "private_pkcs1_legacy_encrypted_pem"};
    static const char *const wrong[] = {"", "v", "Vector-pass", "vector-pass ", "vector-pas", "vector-passs", "hunter2hunter2"};
    (void)state;
    for (size_t i = 0; i < COUNT(formats); i++) {
        ibk_span file = key_file("signature", formats[i]);
        row("%s without pass phrase", formats[i]);
        check_passphrase_refused(file, NULL);
        for (size_t j = 0; j < COUNT(wrong); j++) {
            row("%s with \"%s\"", formats[i], wrong[j]);
            struct ibk_secret *passphrase = secret_of(ibk_span_text(wrong[j]));
            check_passphrase_refused(file, passphrase);
            assert_hides(LITERAL("hunter2hunter2"));
            ibk_secret_release(passphrase);
        }
        row("%s with a long pass phrase", formats[i]);
        struct ibk_secret *passphrase = secret_of(repeated("x", 20000));
        check_passphrase_refused(file, passphrase);
        ibk_secret_release(passphrase);
    }
}

static void test_a_cipher_that_nobody_knows(void **state)
{
    (void)state;
    ibk_span file = key_file("signature", "private_pkcs1_legacy_encrypted_pem");
    size_t name = ibk_span_find(file, LITERAL("AES-256-CBC"));
    struct ibk_secret *passphrase = secret_of(LITERAL(PASSPHRASE));
    ibk_span rest = ibk_span_of(file.data + name + 3, file.len - name - 3);
    check_passphrase_refused(joined(ibk_span_of(file.data, name), joined(LITERAL("XYZ"), rest)), passphrase);
    ibk_secret_release(passphrase);
}

/* Legacy encryption has no check but its padding, which one wrong pass phrase in 256 seems to satisfy. */
static void test_many_wrong_passphrases(void **state)
{
    (void)state;
    ibk_span file = key_file("signature", "private_pkcs1_legacy_encrypted_pem");
    struct ibk_rsa_key *key;
    for (unsigned int i = 0; i < 1000; i++) {
        row("wrong pass phrase %u", i);
        struct ibk_secret *passphrase = secret_of(formatted("wrong %u", i));
        assert_refused(IBK_E_PASSPHRASE, ibk_rsa_key_load(file, passphrase, "Albert", &key, &err));
        ibk_secret_release(passphrase);
    }
}

static void test_needless_passphrase(void **state)
{
    (void)state;
    struct ibk_rsa_key *key = load(key_file("signature", "private_pkcs8_pem"), "needless");
    check_key(key, key_file("signature", "public_spki_pem"));
    ibk_rsa_key_release(key);
}

static void check_refused(const char *name, ibk_span file, const char *word, const char *other_word)
{
    struct ibk_rsa_key *key = (struct ibk_rsa_key *)(void *)&err;
    row("%s", name);
    assert_refused(IBK_E_KEY_FORMAT, ibk_rsa_key_load(file, NULL, "Albert", &key, &err));
    assert_says("Albert", word, other_word);
    assert_row(key == NULL);
    size_t body = ibk_span_find(file, LITERAL("-----\n")); /* behind the label, which may be named */
    size_t end = ibk_span_find(file, LITERAL("\n-----END"));
    if (body < end) {
        assert_hides(ibk_span_of(file.data + body, end - body));
    }
    assert_row(ibk_rsa_key_load(file, NULL, "Albert", &key, NULL) == IBK_E_KEY_FORMAT);
}

static void test_other_kinds_of_files_are_named(void **state)
{
    (void)state;
    EVP_PKEY *ec = new_ec(), *ed = new_ed25519(), *pss = new_rsa_pss();
    ibk_span spki = key_file("signature", "public_spki_pem"), pkcs1 = key_file("signature", "public_pkcs1_pem");
    ibk_span dh = ibk_span_text(text_of(member(member(vectors(), "dh_groups"), "ffdhe2048"), "pem"));
    ibk_span x942 = ibk_span_text(text_of(member(vectors(), "dh_other_formats"), "x942_pem_not_used_by_ibkr"));
    ibk_span openssh = joined(LITERAL("openssh-key-v1\0\0\0\0\4none\0\0\0\4none"), scrambled(300, 1));

    check_refused("public key", spki, "public key", "private");
    check_refused("public key of PKCS#1", pkcs1, "public key", "private");
    check_refused("public key in DER", der_of_pem(spki), "public key", "private");
    check_refused("public key of PKCS#1 in DER", der_of_pem(pkcs1), "public key", "private");
    check_refused("public EC key", encoded_key(ec, "PEM", "SubjectPublicKeyInfo"), "public key", "private");
    check_refused("certificate", certificate_of(ec), "certificate", "private");
    check_refused("certificate in DER", der_of_pem(certificate_of(ec)), "certificate", "private");
    check_refused("trusted certificate", relabelled(certificate_of(ec), "TRUSTED CERTIFICATE"), "private", "key");
    check_refused("EC key", encoded_key(ec, "PEM", "type-specific"), "EC", "RSA");
    check_refused("EC key of PKCS#8", encoded_key(ec, "PEM", "PrivateKeyInfo"), "EC", "RSA");
    check_refused("EC key of PKCS#8 in DER", encoded_key(ec, "DER", "PrivateKeyInfo"), "EC", "RSA");
    check_refused("Ed25519 key", encoded_key(ed, "PEM", "PrivateKeyInfo"), "ED25519", "RSA");
    check_refused("RSA-PSS key", encoded_key(pss, "PEM", "PrivateKeyInfo"), "RSA-PSS", "private");
    check_refused("RSA-PSS key in DER", encoded_key(pss, "DER", "PrivateKeyInfo"), "RSA-PSS", "private");
    check_refused("OpenSSH key", pem_of_der("OPENSSH PRIVATE KEY", openssh), "OpenSSH", "private");
    check_refused("DH parameters", dh, "Diffie-Hellman", "private");
    check_refused("X9.42 DH parameters", x942, "Diffie-Hellman", "private");
    check_refused("DH parameters in DER", der_of_pem(dh), "private", "key");
    check_refused("certificate and public key", joined(certificate_of(ec), spki), "certificate", "private");
    EVP_PKEY_free(ec);
    EVP_PKEY_free(ed);
    EVP_PKEY_free(pss);
}

static void test_key_of_three_primes(void **state)
{
    EVP_PKEY *pkey = NULL;
    (void)state;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
    assert_true(EVP_PKEY_keygen_init(context) > 0 && EVP_PKEY_CTX_set_rsa_keygen_bits(context, 2048) > 0 &&
                EVP_PKEY_CTX_set_rsa_keygen_primes(context, 3) > 0 && EVP_PKEY_generate(context, &pkey) > 0);
    check_refused("three primes", encoded_key(pkey, "PEM", "PrivateKeyInfo"), "primes", "RSA");
    EVP_PKEY_free(pkey);
    EVP_PKEY_CTX_free(context);
}

static void test_encrypted_keys_of_other_kinds(void **state)
{
    (void)state;
    EVP_PKEY *ec = new_ec();
    struct ibk_secret *passphrase = secret_of(LITERAL("secret"));
    struct ibk_rsa_key *key;
    ibk_span file = encoded_key(ec, "PEM", "EncryptedPrivateKeyInfo");
    assert_refused(IBK_E_KEY_FORMAT, ibk_rsa_key_load(file, passphrase, "Albert", &key, &err));
    assert_says("EC", "RSA");
    ibk_secret_release(passphrase);
    EVP_PKEY_free(ec);
}

static void test_short_and_long_keys(void **state)
{
    (void)state;
    EVP_PKEY *key = new_rsa(1024);
    check_refused("1024 bits", encoded_key(key, "PEM", "PrivateKeyInfo"), "1024", "2048");
    check_refused("1024 bits, PKCS#1", encoded_key(key, "PEM", "type-specific"), "1024", "2048");
    EVP_PKEY_free(key);
    key = new_rsa(2040);
    check_refused("2040 bits", encoded_key(key, "DER", "PrivateKeyInfo"), "2040", "2048");
    EVP_PKEY_free(key);
}

static void test_damaged_files(void **state)
{
    (void)state;
    ibk_span pem = key_file("signature", "private_pkcs8_pem");
    ibk_span der = der_of_pem(pem);
    size_t end = ibk_span_find(pem, LITERAL("-----END"));
    ibk_span bad_digit = joined(ibk_span_of(pem.data, 500), joined(LITERAL("!"), ibk_span_of(pem.data + 501, pem.len - 501)));
    size_t first = ibk_span_find(pem, LITERAL("-----\n")) + strlen("-----");
    const char *position = (const char *)formatted("%zu", 500 - first + 1).data;

    check_refused("empty", ibk_span_of(NULL, 0), "empty", "Albert");
    check_refused("only white space", LITERAL("\n \r\n\t"), "5 bytes", "BEGIN");
    check_refused("one byte", LITERAL("x"), "1 byte", "BEGIN");
    check_refused("no key at all", LITERAL("/home/me/keys/private_signature.pem"), "35 bytes", "BEGIN");
    check_refused("half of the body", truncated_body(pem, 50), "Albert", "Albert");
    check_refused("nine tenths of the body", truncated_body(pem, 90), "Albert", "Albert");
    check_refused("no body", truncated_body(pem, 0), "Albert", "Albert");
    check_refused("no label", relabelled(pem, ""), "label", "BEGIN");
    check_refused("a label of 48 characters", relabelled(pem, (const char *)repeated("A", 48).data), "label", "BEGIN");
    check_refused("a backslash and a zero byte", joined(ibk_span_of(pem.data, first), LITERAL("\\\0\n-----END ")), "base64",
                  "character 1 ");
    check_refused("a backslash and another letter", joined(ibk_span_of(pem.data, first), LITERAL("\\x\n-----END ")), "base64",
                  "character 1 ");
    check_refused("two bytes like half a mark of UTF-16, little endian", LITERAL("\xff\xff"), "2 bytes", "BEGIN");
    check_refused("two bytes like half a mark of UTF-16, big endian", LITERAL("\xfe\xfe"), "2 bytes", "BEGIN");
    check_refused("two zero bytes", LITERAL("\0\0"), "2 bytes", "BEGIN");
    check_refused("base64 of no whole bytes", repeated("A", 65), "65 bytes", "BEGIN");
    check_refused("half of PKCS#1", truncated_body(key_file("signature", "private_pkcs1_pem"), 50), "Albert", "Albert");
    check_refused("END line cut off", ibk_span_of(pem.data, end), "END", (const char *)formatted("%zu", end).data);
    check_refused("half of the file", ibk_span_of(pem.data, pem.len / 2), "END", "BEGIN");
    check_refused("no BEGIN line", ibk_span_of(pem.data + first, pem.len - first), "BEGIN", "Albert");
    check_refused("a character that is not base64", bad_digit, "base64", position);
    check_refused("half of DER", ibk_span_of(der.data, der.len / 2), "Albert", "Albert");
    check_refused("too long for DER", joined(der, repeated("x", IBK_KEY_FILE_MAX_SIZE)), "65536", "Albert");
    check_refused("a length of three bytes", pem_of_der("PRIVATE KEY", LITERAL("\x30\x83\0\0\x03\x02\1\0")), "8 bytes", "Albert");
    check_refused("a length that is cut off", pem_of_der("PRIVATE KEY", LITERAL("\x30\x82\1")), "3 bytes", "Albert");
    ibk_span legacy = key_file("signature", "private_pkcs1_legacy_encrypted_pem");
    size_t info = ibk_span_find(legacy, LITERAL("DEK-Info"));
    check_refused("legacy encryption without its cipher",
                  joined(ibk_span_of(legacy.data, info), LITERAL("\n-----END RSA PRIVATE KEY-----\n")), "base64", "Albert");
    check_refused("legacy encryption that ends in its first header",
                  joined(ibk_span_of(legacy.data, info - 1), LITERAL("-----END RSA PRIVATE KEY-----\n")), "base64", "Albert");
    ibk_span cipher = joined(ibk_span_of(legacy.data, info), LITERAL("DEK-Info: AES-256-CBC,"));
    check_refused("legacy encryption with an endless cipher",
                  joined(cipher, joined(repeated("0", 84), LITERAL("\nAAAA\n-----END "))), "96 characters", "DEK-Info");
    check_refused("random bytes", scrambled(1700, 1), "1700 bytes", "Albert");
    check_refused("random bytes in a block", pem_of_der("PRIVATE KEY", scrambled(1200, 2)), "1200 bytes", "Albert");
    check_refused("too long", repeated("x", IBK_KEY_FILE_MAX_SIZE + 1), "65537", "65536");
    check_refused("too long with a key in front", joined(pem, repeated("x", IBK_KEY_FILE_MAX_SIZE)), "65536", "Albert");
    check_refused("endless label", joined(LITERAL("-----BEGIN "), repeated("A", 5000)), "Albert", "Albert");
}

#define NUMBERS 8u
enum { N, E, D, P, Q, DP, DQ, QINV };

/* The contents of the eight integers of PKCS#1 behind its version. */
static void take_numbers(ibk_span der, ibk_span numbers[NUMBERS])
{
    size_t at = 4 + 3; /* behind the header of the sequence and the version */
    for (size_t i = 0; i < NUMBERS; i++) {
        size_t header = der.data[at + 1] == 0x82 ? 4 : der.data[at + 1] == 0x81 ? 3 : 2;
        size_t len = der.data[at + header - 1] + (header == 4 ? (size_t)der.data[at + 2] << 8 : 0);
        numbers[i] = ibk_span_of(der.data + at + header, len);
        at += header + len;
    }
    assert_int_equal(at, der.len);
}

/* The numbers behind a version, and what else there is. */
static ibk_span pkcs1_of(ibk_span version, const ibk_span numbers[NUMBERS], ibk_span rest)
{
    ibk_span integers = der_integer(version);
    for (size_t i = 0; i < NUMBERS; i++) {
        integers = joined(integers, der_integer(numbers[i]));
    }
    return der_sequence(joined(integers, rest));
}

static ibk_span key_of(const ibk_span numbers[NUMBERS])
{
    return pkcs1_of(LITERAL("\0"), numbers, LITERAL(""));
}

/* Each of the eight numbers of PKCS#1 in turn, by one bit: it would still be a key to OpenSSL, and sign nothing that verifies. */
static void test_changed_numbers(void **state)
{
    (void)state;
    static const char *const names[] = {"n", "e", "d", "p", "q", "d mod p-1", "d mod q-1", "1/q mod p"};
    ibk_span der = der_of_pem(key_file("signature", "private_pkcs1_pem"));
    ibk_span numbers[NUMBERS];
    take_numbers(der, numbers);
    assert_bytes(key_of(numbers), der);
    for (size_t i = 0; i < COUNT(names); i++) {
        size_t end = (size_t)(numbers[i].data - der.data) + numbers[i].len;
        uint8_t *changed = room(der.len);
        memcpy(changed, der.data, der.len);
        changed[end - 1] ^= 2;
        check_refused(names[i], ibk_span_of(changed, der.len), "do not belong together", "Albert");
    }
}

static BIGNUM *bn_of(ibk_span number)
{
    BIGNUM *out = BN_bin2bn(number.data, (int)number.len, NULL);
    assert_non_null(out);
    return out;
}

/* As DER has it: with a sign byte, which does not hurt where the top bit is clear. */
static ibk_span bytes_of_bn(const BIGNUM *number)
{
    uint8_t *out = room((size_t)BN_num_bytes(number) + 1);
    out[0] = 0;
    return ibk_span_of(out, 1 + (size_t)BN_bn2bin(number, out + 1));
}

/* d and its remainders fit each other, and e for one of the two primes alone. */
static void test_an_exponent_for_one_prime(void **state)
{
    static const struct {
        int good, bad, remainder;
    } primes[] = {{P, Q, DQ}, {Q, P, DP}};
    (void)state;
    BN_CTX *context = BN_CTX_new();
    for (size_t i = 0; i < COUNT(primes); i++) {
        ibk_span numbers[NUMBERS];
        take_numbers(der_of_pem(key_file("signature", "private_pkcs1_pem")), numbers);
        BIGNUM *d = bn_of(numbers[D]), *good = bn_of(numbers[primes[i].good]), *bad = bn_of(numbers[primes[i].bad]);
        assert_true(BN_sub_word(good, 1) == 1 && BN_sub_word(bad, 1) == 1 && BN_add(d, d, good) == 1);
        numbers[D] = bytes_of_bn(d);
        assert_int_equal(BN_mod(d, d, bad, context), 1);
        numbers[primes[i].remainder] = bytes_of_bn(d);
        check_refused(i == 0 ? "for p" : "for q", key_of(numbers), "do not belong together", "Albert");
        BN_clear_free(d);
        BN_clear_free(good);
        BN_clear_free(bad);
    }
    BN_CTX_free(context);
}

static void test_a_modulus_beyond_the_limit(void **state)
{
    (void)state;
    ibk_span numbers[NUMBERS];
    take_numbers(der_of_pem(key_file("signature", "private_pkcs1_pem")), numbers);
    numbers[N] = joined(LITERAL("\1"), scrambled(IBK_RSA_MAX_BITS / 8, 1));
    check_refused("8193 bits", key_of(numbers), "8193 bits", "2048 to 8192");
}

/* Whatever OpenSSL makes of it. */
static void test_almost_pkcs1(void **state)
{
    (void)state;
    ibk_span der = der_of_pem(key_file("signature", "private_pkcs1_pem")), nothing = LITERAL("");
    ibk_span good[NUMBERS], numbers[NUMBERS];
    take_numbers(der, good);
    check_refused("version of no bytes", pkcs1_of(nothing, good, nothing), "Albert", "key");
    check_refused("version of two bytes", pkcs1_of(LITERAL("\0\0"), good, nothing), "Albert", "key");
    check_refused("version 1", pkcs1_of(LITERAL("\1"), good, nothing), "Albert", "key");
    check_refused("nine numbers", pkcs1_of(LITERAL("\0"), good, der_integer(LITERAL("\2"))), "Albert", "key");
    check_refused("a byte behind it", joined(der, LITERAL("\n")), "bytes behind it", "key");
    check_refused("a byte behind it, in PEM", pem_of_der("RSA PRIVATE KEY", joined(der, LITERAL("\0"))), "bytes behind it",
                  "key");
    memcpy(numbers, good, sizeof numbers);
    numbers[D] = nothing;
    check_refused("a number of no bytes", key_of(numbers), "Albert", "key");
    numbers[D] = LITERAL("\xfe");
    check_refused("a negative number", key_of(numbers), "Albert", "key");
    memcpy(numbers, good, sizeof numbers);
    numbers[P] = joined(LITERAL("\1"), scrambled(300, 1));
    check_refused("a prime beyond the modulus", key_of(numbers), "Albert", "changed while copying?");
}

static void test_almost_pkcs8(void **state)
{
    (void)state;
    ibk_span der = der_of_pem(key_file("signature", "private_pkcs8_pem"));
    ibk_span version = der_integer(LITERAL("\0"));
    ibk_span algorithm = LITERAL("\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00");
    ibk_span start = joined(version, algorithm);
    assert_bytes(ibk_span_of(der.data + 4, start.len), start);
    ibk_span key = ibk_span_of(der.data + 4 + start.len, der.len - 4 - start.len);
    check_refused("no key", pem_of_der("PRIVATE KEY", der_sequence(start)), "20 bytes", "no private key");
    check_refused("a key in an integer", der_sequence(joined(start, der_integer(key))), "Albert", "key");
    check_refused("an algorithm without name", der_sequence(joined(version, joined(LITERAL("\x30\x02\x05\x00"), key))), "Albert",
                  "key");
    check_refused("nothing of an algorithm", der_sequence(joined(version, key)), "Albert", "key");
}

/* In a block of its own, so that the sanitizer sees a read behind the end. */
static void check_cut(ibk_span file, size_t len, const struct ibk_secret *passphrase)
{
    struct ibk_rsa_key *key = (struct ibk_rsa_key *)(void *)&err;
    uint8_t *exact = malloc(len);
    memcpy(exact, file.data, len);
    row("cut to %zu of %zu bytes", len, file.len);
    ibk_code code = ibk_rsa_key_load(ibk_span_of(exact, len), passphrase, "Albert", &key, &err);
    free(exact);
    assert_row(code == IBK_E_KEY_FORMAT && key == NULL);
}

static void test_cut_anywhere(void **state)
{
    (void)state;
    ibk_span pem = key_file("signature", "private_pkcs1_legacy_encrypted_pem");
    ibk_span der = der_of_pem(key_file("signature", "private_pkcs8_pem"));
    struct ibk_secret *passphrase = secret_of(LITERAL(PASSPHRASE));
    size_t end = ibk_span_find(pem, LITERAL("-----END ")) + strlen("-----END ");
    for (size_t len = 1; len < end; len += len < 150 || len > end - 60 ? 1 : 37) {
        check_cut(pem, len, passphrase);
    }
    for (size_t len = 1; len < der.len; len += len < 64 ? 1 : 41) {
        check_cut(der, len, NULL);
    }
    ibk_secret_release(passphrase);
}

static void test_written_again(void **state)
{
    (void)state;
    struct ibk_rsa_key *key = load(key_file("signature", "private_pkcs1_pem"), NULL);
    struct ibk_buf out;
    ibk_buf_init(&out, 10000);
    assert_ok(ibk_rsa_key_put_public(key, &out, &err));
    assert_bytes(ibk_buf_peek(&out), key_file("signature", "public_spki_pem"));
    ibk_buf_clean(&out);
    ibk_buf_init_secret(&out, 10000);
    assert_ok(ibk_rsa_key_put_private(key, &out, &err));
    assert_bytes(ibk_buf_peek(&out), key_file("signature", "private_pkcs8_pem"));
    ibk_buf_clean(&out);
    ibk_buf_init_secret(&out, 100);
    assert_refused(IBK_E_LIMIT, ibk_rsa_key_put_private(key, &out, &err));
    ibk_buf_clean(&out);
    assert_refused(IBK_E_LIMIT, ibk_rsa_key_put_public(key, &out, &err));
    ibk_buf_clean(&out);
    ibk_rsa_key_release(key);
}

static void test_references(void **state)
{
    (void)state;
    struct ibk_rsa_key *key = load_pair("signature");
    assert_ptr_equal(ibk_rsa_key_acquire(key), key);
    assert_null(ibk_rsa_key_acquire(NULL));
    ibk_rsa_key_release(key);
    check_key(key, key_file("signature", "public_spki_pem"));
    ibk_rsa_key_release(key);
}

static void test_sign(void **state)
{
    static const size_t lengths[] = {0, 1, 31, 64, 300, 5000};
    (void)state;
    struct ibk_rsa_key *key = load_pair("signature");
    EVP_PKEY *public_key = public_key_of(key_file("signature", "public_spki_pem"));
    for (size_t i = 0; i < COUNT(lengths); i++) {
        struct ibk_buf out;
        row("%zu bytes", lengths[i]);
        ibk_span message = scrambled(lengths[i], 1);
        ibk_buf_init(&out, 256);
        assert_ok(ibk_rsa_sign(key, message, &out, &err));
        assert_row(out.len == 256 && signature_is_good(public_key, message, ibk_buf_peek(&out)));
        ibk_buf_clean(&out);
        ibk_buf_init(&out, 255);
        assert_refused(IBK_E_LIMIT, ibk_rsa_sign(key, message, &out, &err));
        ibk_buf_clean(&out);
    }
    EVP_PKEY_free(public_key);
    ibk_rsa_key_release(key);
}

static void check_decrypts(const struct ibk_rsa_key *key, const char *ciphertext, ibk_span plaintext)
{
    struct ibk_secret *secret;
    bool fits = false;
    assert_ok(ibk_rsa_decrypt(key, ibk_span_text(ciphertext), &secret, &err));
    assert_bytes(ibk_secret_peek(secret), plaintext);
    ibk_secret_release(secret);
    assert_ok(ibk_rsa_fits(key, ibk_span_text(ciphertext), &fits, &err));
    assert_row(fits);
}

static void test_decrypt(void **state)
{
    static const size_t lengths[] = {1, 2, 20, 32, 100, 244, 245}; /* the longest leaves eight bytes of padding */
    (void)state;
    struct ibk_rsa_key *key = load_pair("encryption");
    EVP_PKEY *public_key = public_key_of(key_file("encryption", "public_spki_pem"));
    for (size_t i = 0; i < COUNT(lengths); i++) {
        row("%zu bytes", lengths[i]);
        ibk_span plaintext = scrambled(lengths[i], 5);
        check_decrypts(key, encrypted_padded(public_key, plaintext), plaintext);
    }
    row("zero bytes all over");
    check_decrypts(key, encrypted_padded(public_key, LITERAL("\0\0\0\0")), LITERAL("\0\0\0\0"));
    row("nothing at all");
    struct ibk_secret *secret = (struct ibk_secret *)(void *)&err;
    bool fits = true;
    ibk_span nothing = ibk_span_text(encrypted_padded(public_key, LITERAL("")));
    assert_refused(IBK_E_KEY_MISMATCH, ibk_rsa_decrypt(key, nothing, &secret, &err));
    assert_row(secret == NULL);
    assert_ok(ibk_rsa_fits(key, nothing, &fits, &err));
    assert_row(!fits);
    EVP_PKEY_free(public_key);
    ibk_rsa_key_release(key);
}

/* Refused for its form, by both functions alike. */
static void check_ciphertext(const struct ibk_rsa_key *key, ibk_span ciphertext, const char *word, const char *other_word)
{
    struct ibk_secret *secret = (struct ibk_secret *)(void *)&err;
    bool fits = true;
    assert_refused(IBK_E_KEY_MISMATCH, ibk_rsa_decrypt(key, ciphertext, &secret, &err));
    assert_says(word, other_word);
    assert_hides(ciphertext);
    assert_row(secret == NULL);
    assert_row(ibk_rsa_decrypt(key, ciphertext, &secret, NULL) == IBK_E_KEY_MISMATCH);
    assert_refused(IBK_E_KEY_MISMATCH, ibk_rsa_fits(key, ciphertext, &fits, &err));
    assert_says(word, other_word);
    assert_row(!fits);
}

static void test_ciphertext_of_the_wrong_form(void **state)
{
    static const size_t lengths[] = {0, 1, 4, 128, 129, 172, 340, 343, 345, 348, 684, 100000};
    (void)state;
    struct ibk_rsa_key *key = load_pair("encryption");
    const json_t *secrets = member(vectors(), "access_token_secrets");
    const char *good = text_of(member(secrets, "typical_32"), "encrypted_base64");
    for (size_t i = 0; i < COUNT(lengths); i++) {
        row("%zu characters", lengths[i]);
        const char *length = (const char *)formatted("%zu", lengths[i]).data;
        check_ciphertext(key, repeated("A", lengths[i]), length, "344");
    }
    row("a line end behind");
    check_ciphertext(key, formatted("%s\n", good), "345", "344");
    row("a space inside");
    check_ciphertext(key, formatted("%.100s %s", good, good + 101), "character 101", "base64");
    row("URL-safe base64");
    check_ciphertext(key, formatted("%.6s-%s", good, good + 7), "character 7", "base64");
    row("hex instead of base64");
    check_ciphertext(key, ibk_span_text(hex_of(scrambled(256, 1))), "512", "344");
    row("257 bytes");
    check_ciphertext(key, ibk_span_text(base64_of(scrambled(257, 1))), "257", "256");
    row("258 bytes");
    check_ciphertext(key, ibk_span_text(base64_of(scrambled(258, 1))), "258", "256");
    row("255 bytes");
    check_ciphertext(key, ibk_span_text(base64_of(scrambled(255, 1))), "340", "344");
    ibk_rsa_key_release(key);
}

/* Before OpenSSL 3.2 an error, later random bytes, and either way ibk_rsa_fits tells. */
static void check_foreign(const struct ibk_rsa_key *key, const char *ciphertext, ibk_span plaintext)
{
    struct ibk_secret *secret = (struct ibk_secret *)(void *)&err;
    bool fits = true;
    ibk_code code = ibk_rsa_decrypt(key, ibk_span_text(ciphertext), &secret, &err);
    if (code == IBK_OK) {
        assert_row(!ibk_span_equal(ibk_secret_peek(secret), plaintext));
        ibk_secret_release(secret);
    } else {
        assert_row(code == IBK_E_KEY_MISMATCH && secret == NULL && err.text[0] != '\0');
        assert_hides(ibk_span_text(ciphertext));
    }
    assert_ok(ibk_rsa_fits(key, ibk_span_text(ciphertext), &fits, &err));
    assert_row(!fits);
}

static void test_ciphertext_for_another_key(void **state)
{
    (void)state;
    struct ibk_rsa_key *wrong = load_pair("signature"), *right = load_pair("encryption");
    EVP_PKEY *public_key = public_key_of(key_file("encryption", "public_spki_pem"));
    json_t *secrets = member(vectors(), "access_token_secrets");
    const char *name;
    json_t *entry;
    json_object_foreach(secrets, name, entry)
    {
        row("%s", name);
        check_foreign(wrong, text_of(entry, "encrypted_base64"), bytes_of_hex(text_of(entry, "plaintext_hex")));
    }
    for (uint32_t i = 0; i < 20; i++) {
        row("damaged ciphertext %u", (unsigned int)i);
        ibk_span plaintext = scrambled(32, i);
        ibk_span bytes = bytes_of_base64(encrypted_padded(public_key, plaintext));
        uint8_t *damaged = room(bytes.len);
        memcpy(damaged, bytes.data, bytes.len);
        damaged[10 * i + 3] ^= 1;
        check_foreign(right, base64_of(ibk_span_of(damaged, bytes.len)), plaintext);
    }
    EVP_PKEY_free(public_key);
    ibk_rsa_key_release(wrong);
    ibk_rsa_key_release(right);
}

/* 256 bytes: a start, padding of one byte repeated, a separator or not, and the rest of a message. */
static ibk_span padded_block(const char *start, uint8_t pad, size_t pad_len, bool separator)
{
    uint8_t *block = room(256);
    memset(block, 'm', 256);
    memcpy(block, start, 2);
    memset(block + 2, pad, pad_len);
    if (separator) {
        block[2 + pad_len] = 0;
    }
    return ibk_span_of(block, 256);
}

static void test_fits_looks_at_the_padding(void **state)
{
    static const struct {
        const char *start;
        uint8_t pad;
        size_t pad_len;
        bool separator, fits;
    } table[] = {
        {"\0\2", 'p', 221, true, true},  {"\0\2", 'p', 8, true, true},    {"\0\2", 0xff, 252, true, true},
        {"\0\2", 'p', 7, true, false},   {"\0\2", 'p', 0, true, false},   {"\0\2", 'p', 254, false, false},
        {"\0\1", 'p', 221, true, false}, {"\0\0", 'p', 221, true, false}, {"\1\2", 'p', 221, true, false},
        {"\0\3", 'p', 221, true, false}, {"\0\2", 0, 221, true, false},
    };
    (void)state;
    struct ibk_rsa_key *key = load_pair("encryption");
    EVP_PKEY *public_key = public_key_of(key_file("encryption", "public_spki_pem"));
    for (size_t i = 0; i < COUNT(table); i++) {
        bool fits = !table[i].fits;
        row("line %zu", i);
        ibk_span block = padded_block(table[i].start, table[i].pad, table[i].pad_len, table[i].separator);
        assert_ok(ibk_rsa_fits(key, ibk_span_text(encrypted_raw(public_key, block)), &fits, &err));
        assert_row(fits == table[i].fits);
    }
    EVP_PKEY_free(public_key);
    ibk_rsa_key_release(key);
}

static void test_number_beyond_the_modulus(void **state)
{
    (void)state;
    struct ibk_rsa_key *key = load_pair("encryption");
    row("all bits set");
    check_foreign(key, base64_of(repeated("\xff", 256)), LITERAL(""));
    row("zero");
    uint8_t zero[256] = {0};
    check_foreign(key, base64_of(ibk_span_of(zero, sizeof zero)), LITERAL(""));
    ibk_rsa_key_release(key);
}

struct steps {
    int allowed, taken;
};

static int take_step(void *context)
{
    struct steps *steps = context;
    return ++steps->taken > steps->allowed;
}

static void test_generate(void **state)
{
    (void)state;
    struct steps steps = {.allowed = INT32_MAX, .taken = 0};
    const struct ibk_progress progress = {.step = take_step, .context = &steps};
    struct ibk_rsa_key *one, *two;
    uint8_t first[IBK_FINGERPRINT_SIZE], second[IBK_FINGERPRINT_SIZE];
    assert_ok(ibk_rsa_key_generate(2048, &progress, &one, &err));
    assert_true(steps.taken > 0);
    assert_ok(ibk_rsa_key_generate(2048, NULL, &two, &err));
    assert_int_equal(ibk_rsa_key_bits(one), 2048);
    assert_ok(ibk_rsa_key_fingerprint(one, first, &err));
    assert_ok(ibk_rsa_key_fingerprint(two, second, &err));
    assert_memory_not_equal(first, second, sizeof first);

    struct ibk_buf pem;
    ibk_buf_init_secret(&pem, 10000);
    assert_ok(ibk_rsa_key_put_private(one, &pem, &err));
    assert_int_equal(ibk_span_find(ibk_buf_peek(&pem), LITERAL("\r")), pem.len);
    assert_memory_equal(pem.data, "-----BEGIN PRIVATE KEY-----\n", 28);
    assert_memory_equal(pem.data + pem.len - 26, "-----END PRIVATE KEY-----\n", 26);
    struct ibk_rsa_key *again;
    assert_ok(ibk_rsa_key_load(ibk_buf_peek(&pem), NULL, "Albert", &again, &err));
    assert_ok(ibk_rsa_key_fingerprint(again, second, &err));
    assert_memory_equal(first, second, sizeof first);
    ibk_buf_clean(&pem);
    ibk_rsa_key_release(one);
    ibk_rsa_key_release(two);
    ibk_rsa_key_release(again);
}

static void test_generate_is_stopped(void **state)
{
    (void)state;
    for (int allowed = 0; allowed < 3; allowed++) {
        struct steps steps = {.allowed = allowed, .taken = 0};
        const struct ibk_progress progress = {.step = take_step, .context = &steps};
        struct ibk_rsa_key *key = (struct ibk_rsa_key *)(void *)&err;
        row("stopped after %d steps", allowed);
        assert_refused(IBK_E_INTERRUPTED, ibk_rsa_key_generate(4096, &progress, &key, &err));
        assert_row(key == NULL && steps.taken == allowed + 1);
    }
}

static void test_generate_refuses_sizes(void **state)
{
    static const unsigned int sizes[] = {0, 1, 512, 1024, 2047, 8193, 16384, UINT32_MAX};
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct ibk_rsa_key *key = (struct ibk_rsa_key *)(void *)&err;
        row("%u bits", sizes[i]);
        assert_refused(IBK_E_ARGUMENT, ibk_rsa_key_generate(sizes[i], NULL, &key, &err));
        assert_says((const char *)formatted("%u", sizes[i]).data, "2048");
        assert_row(key == NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_every_spelling_of_every_format),
        checked(test_no_line_ends_at_all),
        checked(test_der),
        checked(test_key_among_other_blocks),
        checked(test_encrypted_der),
        checked(test_passphrase_missing_or_wrong),
        checked(test_a_cipher_that_nobody_knows),
        checked(test_many_wrong_passphrases),
        checked(test_needless_passphrase),
        checked(test_other_kinds_of_files_are_named),
        checked(test_key_of_three_primes),
        checked(test_encrypted_keys_of_other_kinds),
        checked(test_short_and_long_keys),
        checked(test_damaged_files),
        checked(test_changed_numbers),
        checked(test_an_exponent_for_one_prime),
        checked(test_a_modulus_beyond_the_limit),
        checked(test_almost_pkcs1),
        checked(test_almost_pkcs8),
        checked(test_cut_anywhere),
        checked(test_written_again),
        checked(test_references),
        checked(test_sign),
        checked(test_decrypt),
        checked(test_ciphertext_of_the_wrong_form),
        checked(test_ciphertext_for_another_key),
        checked(test_fits_looks_at_the_padding),
        checked(test_number_beyond_the_modulus),
        checked(test_generate),
        checked(test_generate_is_stopped),
        checked(test_generate_refuses_sizes),
    };
    return cmocka_run_group_tests_name("key", tests, NULL, NULL);
}
