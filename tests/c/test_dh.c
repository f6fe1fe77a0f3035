/* test_dh.c - Diffie-Hellman groups and exchanges. The 29 exchanges of the vectors are in test_vectors.c. */
#include "support_pem.h"

#include "ibk/dh.h"

#include <openssl/bn.h>
#include <stdlib.h>

static const char *const group_names[] = {"ffdhe2048", "modp2048", "openssl2048"};

static const json_t *group(const char *name)
{
    return member(member(vectors(), "dh_groups"), name);
}

static ibk_span pem_of(const char *name)
{
    return ibk_span_text(text_of(group(name), "pem"));
}

static const char *hex_prime(const char *name)
{
    return text_of(group(name), "prime_hex");
}

static ibk_span prime_of(const char *name)
{
    return bytes_of_hex(hex_prime(name));
}

static struct ibk_dh_params *load(ibk_span file)
{
    struct ibk_dh_params *params = NULL;
    assert_ok(ibk_dh_params_load(file, &params, &err));
    return params;
}

static void check_group(const struct ibk_dh_params *params, ibk_span prime, unsigned long generator)
{
    struct ibk_buf out;
    ibk_buf_init(&out, 2000);
    ibk_dh_params_put_prime(params, &out);
    assert_ok(ibk_buf_check(&out, "prime", &err));
    assert_bytes(ibk_buf_peek(&out), prime);
    ibk_buf_clean(&out);
    assert_row(ibk_dh_params_generator(params) == generator);
    assert_row(ibk_dh_params_bits(params) == 8 * prime.len);
}

static void check_loads(ibk_span file, ibk_span prime, unsigned long generator)
{
    struct ibk_dh_params *params = load(file);
    check_group(params, prime, generator);
    ibk_dh_params_release(params);
}

static void check_refused(const char *name, ibk_span file, const char *word, const char *other_word)
{
    struct ibk_dh_params *params = (struct ibk_dh_params *)(void *)&err;
    row("%s", name);
    assert_refused(IBK_E_DH_PARAMETERS, ibk_dh_params_load(file, &params, &err));
    assert_says("Diffie-Hellman", word, other_word);
    assert_row(params == NULL);
    assert_row(ibk_dh_params_load(file, &params, NULL) == IBK_E_DH_PARAMETERS);
}

/* A positive DER integer of these bytes, with the sign byte where the top bit is set. */
static ibk_span positive(ibk_span bytes)
{
    bool top_bit = bytes.len > 0 && (bytes.data[0] & 0x80u) != 0;
    return der_integer(top_bit ? joined(LITERAL("\0"), bytes) : bytes);
}

static ibk_span pkcs3(ibk_span prime, const char *generator_hex)
{
    return der_sequence(joined(positive(prime), der_integer(bytes_of_hex(generator_hex))));
}

static ibk_span pkcs3_pem(ibk_span der)
{
    return pem_of_der("DH PARAMETERS", der);
}

/* An odd number of so many bits, top bit set. */
static ibk_span odd_number(size_t bits)
{
    ibk_span random = scrambled((bits + 7) / 8, 1);
    uint8_t *out = room(random.len);
    memcpy(out, random.data, random.len);
    unsigned int top = (unsigned int)((bits - 1) % 8);
    out[0] = (uint8_t)((out[0] & ((1u << top) - 1u)) | 1u << top);
    out[random.len - 1] |= 1;
    return ibk_span_of(out, random.len);
}

static ibk_span bytes_of_bn(const BIGNUM *number)
{
    uint8_t *out = room((size_t)BN_num_bytes(number));
    return ibk_span_of(out, (size_t)BN_bn2bin(number, out));
}

static void test_every_spelling(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(group_names); i++) {
        for (const struct spelling *spelling = spellings; spelling->name != NULL; spelling++) {
            row("%s, %s", group_names[i], spelling->name);
            check_loads(spelling->spell(pem_of(group_names[i])), prime_of(group_names[i]), 2);
        }
        row("%s, DER", group_names[i]);
        ibk_span der = der_of_pem(pem_of(group_names[i]));
        check_loads(der, prime_of(group_names[i]), 2);
        check_loads(ibk_span_text(base64_of(der)), prime_of(group_names[i]), 2);
        row("%s, among other blocks", group_names[i]);
        const char *key = text_of(member(member(vectors(), "keys"), "signature"), "public_spki_pem");
        check_loads(joined(ibk_span_text(key), pem_of(group_names[i])), prime_of(group_names[i]), 2);
    }
}

/* As "openssl dhparam -text" prints it. */
static ibk_span with_colons(ibk_span prime)
{
    ibk_span out = LITERAL("    00:");
    for (size_t i = 0; i < prime.len; i++) {
        const char *between = i + 1 == prime.len ? "" : i % 15 == 13 ? ":\n    " : ":";
        out = joined(out, formatted("%02x%s", (unsigned int)prime.data[i], between));
    }
    return joined(out, LITERAL("\n"));
}

static void test_hex(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(group_names); i++) {
        const char *digits = hex_prime(group_names[i]);
        ibk_span prime = prime_of(group_names[i]);
        row("%s in hex", group_names[i]);
        check_loads(ibk_span_text(digits), prime, 2);
        check_loads(ibk_span_text(upper_case(digits)), prime, 2);
        check_loads(formatted("00%s", digits), prime, 2);
        check_loads(formatted("0%s", digits), prime, 2);
        check_loads(formatted("00000000%s", upper_case(digits)), prime, 2);
        check_loads(formatted("%s\n", digits), prime, 2);
        check_loads(formatted("  %s\r\n", digits), prime, 2);
        check_loads(formatted("%.256s\n%s\n", digits, digits + 256), prime, 2);
        check_loads(with_colons(prime), prime, 2);
    }
}

static void test_third_integer(void **state)
{
    static const char *const lengths[] = {"01", "0100", "00e1", "0800"};
    (void)state;
    ibk_span prime = prime_of("ffdhe2048");
    for (size_t i = 0; i < COUNT(lengths); i++) {
        row("private value length 0x%s", lengths[i]);
        ibk_span two = joined(positive(prime), der_integer(LITERAL("\2")));
        ibk_span der = der_sequence(joined(two, der_integer(bytes_of_hex(lengths[i]))));
        check_loads(pkcs3_pem(der), prime, 2);
        check_loads(der, prime, 2);
    }
}

static void test_generators(void **state)
{
    static const char *const bad[] = {
        "00",        "01", "03", "04", "06", "0a", "7f", "0080", "0100", "0102", "020000000000000000", "010000000000000002",
        "0100000002"};
    (void)state;
    ibk_span prime = prime_of("ffdhe2048");
    check_loads(pkcs3_pem(pkcs3(prime, "02")), prime, 2);
    check_loads(pkcs3_pem(pkcs3(prime, "05")), prime, 5);
    for (size_t i = 0; i < COUNT(bad); i++) {
        check_refused(bad[i], pkcs3_pem(pkcs3(prime, bad[i])), "generator", "2");
    }
    check_refused("no generator byte at all", pkcs3_pem(pkcs3(prime, "")), "Diffie-Hellman", "PKCS#3");
    check_refused("no byte of a prime at all", pkcs3_pem(pkcs3(LITERAL(""), "02")), "Diffie-Hellman", "PKCS#3");
    for (unsigned long generator = 0; generator < 300; generator++) {
        struct ibk_dh_params *params = (struct ibk_dh_params *)(void *)&err;
        row("generator %lu as a number", generator);
        if (generator == 2 || generator == 5) {
            assert_ok(ibk_dh_params_new(prime, generator, &params, &err));
            check_group(params, prime, generator);
            ibk_dh_params_release(params);
            continue;
        }
        assert_refused(IBK_E_DH_PARAMETERS, ibk_dh_params_new(prime, generator, &params, &err));
        assert_says("generator", (const char *)formatted("%lu", generator).data);
        assert_row(params == NULL);
    }
}

static void test_negative_integers(void **state)
{
    (void)state;
    ibk_span prime = prime_of("ffdhe2048"); /* its top bit is set: without a zero byte in front it is negative */
    ibk_span der = der_sequence(joined(der_integer(prime), der_integer(LITERAL("\2"))));
    check_refused("negative prime", pkcs3_pem(der), "negative", "integer");
    check_refused("negative prime in DER", der, "negative", "integer");
    der = der_sequence(joined(positive(prime), der_integer(LITERAL("\xfe"))));
    check_refused("negative generator", pkcs3_pem(der), "Diffie-Hellman", "integer");
}

static void test_sizes(void **state)
{
    static const size_t bad[] = {2, 8, 64, 512, 1024, 1536, 2040, 2047, 8193, 8200, 16384};
    static const size_t good[] = {2048, 2049, 3072, 4096, 8191, 8192};
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        ibk_span number = odd_number(bad[i]);
        const char *bits = (const char *)formatted("%zu", bad[i]).data;
        struct ibk_dh_params *params;
        bool small = bad[i] < 2048;
        check_refused(bits, pkcs3_pem(pkcs3(number, "02")), small ? bits : "8192", small ? "2048" : "bits");
        check_refused(bits, ibk_span_text(hex_of(number)), small ? bits : "8192", small ? "2048" : "bits");
        assert_refused(IBK_E_DH_PARAMETERS, ibk_dh_params_new(number, 2, &params, &err));
    }
    for (size_t i = 0; i < COUNT(good); i++) {
        struct ibk_dh_params *params;
        row("%zu bits", good[i]);
        assert_ok(ibk_dh_params_new(odd_number(good[i]), 2, &params, &err));
        assert_row(ibk_dh_params_bits(params) == good[i]);
        ibk_dh_params_release(params);
    }
}

static void test_no_prime_at_all(void **state)
{
    (void)state;
    struct ibk_dh_params *params = (struct ibk_dh_params *)(void *)&err;
    assert_refused(IBK_E_DH_PARAMETERS, ibk_dh_params_new(ibk_span_of(NULL, 0), 2, &params, &err));
    assert_null(params);
    assert_refused(IBK_E_DH_PARAMETERS, ibk_dh_params_new(repeated("\1", 0), 2, &params, &err));
    uint8_t zeros[256] = {0};
    assert_refused(IBK_E_DH_PARAMETERS, ibk_dh_params_new(ibk_span_of(zeros, sizeof zeros), 2, &params, &err));
    assert_says("0 bits", "2048");
    check_refused("zero in hex", ibk_span_text(hex_of(ibk_span_of(zeros, sizeof zeros))), "0 bits", "2048");
    check_refused("zero as integer", pkcs3_pem(pkcs3(LITERAL("\0"), "02")), "Diffie-Hellman", "2048");
}

static void test_leading_zeros_of_a_number(void **state)
{
    (void)state;
    struct ibk_dh_params *params;
    uint8_t zeros[2000] = {0};
    ibk_span prime = prime_of("modp2048");
    assert_ok(ibk_dh_params_new(joined(ibk_span_of(zeros, sizeof zeros), prime), 2, &params, &err));
    check_group(params, prime, 2);
    ibk_dh_params_release(params);
}

static void test_even_number(void **state)
{
    (void)state;
    ibk_span prime = prime_of("ffdhe2048");
    uint8_t *even = room(prime.len);
    memcpy(even, prime.data, prime.len);
    even[prime.len - 1] &= 0xfe;
    struct ibk_dh_params *params;
    check_refused("even prime", pkcs3_pem(pkcs3(ibk_span_of(even, prime.len), "02")), "even", "prime");
    check_refused("even prime in hex", ibk_span_text(hex_of(ibk_span_of(even, prime.len))), "even", "prime");
    assert_refused(IBK_E_DH_PARAMETERS, ibk_dh_params_new(ibk_span_of(even, prime.len), 2, &params, &err));
}

static void test_other_kinds_of_files_are_named(void **state)
{
    (void)state;
    const json_t *key = member(member(vectors(), "keys"), "signature");
    ibk_span x942 = ibk_span_text(text_of(member(vectors(), "dh_other_formats"), "x942_pem_not_used_by_ibkr"));
    EVP_PKEY *ec = new_ec();
    check_refused("X9.42", x942, "X9.42", "PKCS#3");
    check_refused("X9.42 in DER", der_of_pem(x942), "X9.42", "PKCS#3");
    check_refused("X9.42 under the other label", relabelled(x942, "DH PARAMETERS"), "X9.42", "PKCS#3");
    check_refused("private RSA key", ibk_span_text(text_of(key, "private_pkcs8_pem")), "PRIVATE KEY", "DH PARAMETERS");
    check_refused("PKCS#1 key", ibk_span_text(text_of(key, "private_pkcs1_pem")), "RSA PRIVATE KEY", "DH PARAMETERS");
    check_refused("public key", ibk_span_text(text_of(key, "public_spki_pem")), "PUBLIC KEY", "DH PARAMETERS");
    check_refused("a label that would steer a terminal", relabelled(x942, "\x1b[2J"), "label", "BEGIN");
    check_refused("a label of other words", relabelled(x942, "secret words"), "label", "BEGIN");
    check_refused("certificate", certificate_of(ec), "CERTIFICATE", "DH PARAMETERS");
    check_refused("EC key", encoded_key(ec, "PEM", "type-specific"), "EC PRIVATE KEY", "DH PARAMETERS");
    check_refused("PKCS#8 in DER", der_of_pem(ibk_span_text(text_of(key, "private_pkcs8_pem"))), "PKCS#3", "integers");
    check_refused("PKCS#1 in DER", der_of_pem(ibk_span_text(text_of(key, "private_pkcs1_pem"))), "PKCS#3", "prime");
    check_refused("public PKCS#1 in DER", der_of_pem(ibk_span_text(text_of(key, "public_pkcs1_pem"))), "generator", "2");
    EVP_PKEY_free(ec);
}

static void test_damaged_files(void **state)
{
    (void)state;
    ibk_span pem = pem_of("ffdhe2048"), der = der_of_pem(pem), prime = prime_of("ffdhe2048");
    const char *digits = hex_prime("ffdhe2048");
    ibk_span integers = joined(positive(prime), der_integer(LITERAL("\2")));
    ibk_span third = joined(integers, der_integer(LITERAL("\1\0")));

    check_refused("empty", ibk_span_of(NULL, 0), "empty", "Diffie-Hellman");
    check_refused("white space", LITERAL(" \n"), "2 bytes", "Diffie-Hellman");
    check_refused("a path", LITERAL("/home/me/dhparam.pem"), "20 bytes", "BEGIN");
    check_refused("a file's name, which begins with a hex digit", LITERAL("dhparam.pem"), "11 bytes", "BEGIN");
    check_refused("the digit 0", LITERAL("0"), "0 bits", "2048");
    check_refused("half of the body", truncated_body(pem, 50), "cut off", "PKCS#3");
    check_refused("no body", truncated_body(pem, 0), "cut off", "PKCS#3");
    check_refused("END line cut off", ibk_span_of(pem.data, pem.len - 30), "END", "Diffie-Hellman");
    check_refused("half of DER", ibk_span_of(der.data, der.len / 2), "Diffie-Hellman", "PKCS#3");
    check_refused("garbage behind DER", joined(der, LITERAL("x")), "PKCS#3", "Diffie-Hellman");
    check_refused("garbage behind DER in PEM", pkcs3_pem(joined(der, LITERAL("\0"))), "PKCS#3", "Diffie-Hellman");
    check_refused("garbage in the sequence", pkcs3_pem(der_sequence(joined(integers, LITERAL("\5\0")))), "Diffie-Hellman",
                  "PKCS#3");
    check_refused("garbage behind the third integer", pkcs3_pem(der_sequence(joined(third, LITERAL("\0")))), "Diffie-Hellman",
                  "PKCS#3");
    check_refused("four integers", pkcs3_pem(der_sequence(joined(third, der_integer(LITERAL("\1"))))), "Diffie-Hellman",
                  "PKCS#3");
    check_refused("one integer", pkcs3_pem(der_sequence(positive(prime))), "Diffie-Hellman", "PKCS#3");
    check_refused("no sequence", pkcs3_pem(integers), "Diffie-Hellman", "PKCS#3");
    check_refused("empty sequence", pkcs3_pem(der_sequence(ibk_span_of(NULL, 0))), "Diffie-Hellman", "PKCS#3");
    check_refused("length beyond the end", pkcs3_pem(LITERAL("\x30\x82\xff\xff\x02\x82\xff\xff\x01")), "PKCS#3", "integers");
    check_refused("endless length", pkcs3_pem(LITERAL("\x30\x80\x02\x01\x01\x02\x01\x02\0\0")), "PKCS#3", "integers");
    check_refused("length of three bytes", pkcs3_pem(LITERAL("\x30\x83\0\0\x06\x02\x01\x01\x02\x01\x02")), "PKCS#3", "integers");
    check_refused("length cut off", pkcs3_pem(der_sequence(LITERAL("\x02\x82\x01"))), "PKCS#3", "integers");
    check_refused("huge length", LITERAL("\x30\x84\xff\xff\xff\xff\x02\x01\x01\x02"), "Diffie-Hellman", "Diffie-Hellman");
    check_refused("random bytes", scrambled(400, 3), "400 bytes", "Diffie-Hellman");
    check_refused("too long", repeated("f", IBK_KEY_FILE_MAX_SIZE + 1), "65537", "65536");
    check_refused("endless hex", repeated("f", IBK_KEY_FILE_MAX_SIZE), "8192", "bits");
    check_refused("0x prefix", formatted("0x%s", digits), "Diffie-Hellman", "Diffie-Hellman");
    check_refused("bad digit", formatted("%.100sg%s", digits, digits + 101), "Diffie-Hellman", "Diffie-Hellman");
    check_refused("minus sign", formatted("-%s", digits), "Diffie-Hellman", "Diffie-Hellman");
    check_refused("control character", formatted("%.100s\1%s", digits, digits + 101), "character 101 of 512", "hex digit");
}

/* In a block of its own, so that the sanitizer sees a read behind the end. */
static void test_cut_anywhere(void **state)
{
    (void)state;
    ibk_span pem = pem_of("ffdhe2048");
    ibk_span files[] = {pem, der_of_pem(pem)};
    for (size_t i = 0; i < COUNT(files); i++) {
        size_t end = i == 0 ? ibk_span_find(pem, LITERAL("-----END ")) + strlen("-----END ") : files[i].len;
        for (size_t len = 1; len < end; len++) {
            struct ibk_dh_params *params = (struct ibk_dh_params *)(void *)&err;
            row("file %zu cut to %zu bytes", i, len);
            uint8_t *exact = malloc(len);
            memcpy(exact, files[i].data, len);
            ibk_code code = ibk_dh_params_load(ibk_span_of(exact, len), &params, &err);
            free(exact);
            assert_row(code == IBK_E_DH_PARAMETERS && params == NULL);
        }
    }
}

static void test_written_again(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(group_names); i++) {
        struct ibk_buf out;
        row("%s", group_names[i]);
        struct ibk_dh_params *params = load(ibk_span_text(hex_prime(group_names[i])));
        ibk_buf_init(&out, 1000);
        assert_ok(ibk_dh_params_put_pem(params, &out, &err));
        assert_bytes(ibk_buf_peek(&out), pem_of(group_names[i]));
        ibk_buf_clean(&out);
        ibk_buf_init(&out, 100);
        assert_refused(IBK_E_LIMIT, ibk_dh_params_put_pem(params, &out, &err));
        ibk_buf_clean(&out);
        ibk_dh_params_release(params);
    }
}

/* A prime without top bit needs no sign byte, and generator 5 stays 5. */
static void test_written_again_without_sign_byte(void **state)
{
    (void)state;
    ibk_span number = odd_number(2049 + 6);
    struct ibk_dh_params *params;
    struct ibk_buf out;
    assert_ok(ibk_dh_params_new(number, 5, &params, &err));
    ibk_buf_init(&out, 1000);
    assert_ok(ibk_dh_params_put_pem(params, &out, &err));
    assert_bytes(ibk_buf_peek(&out), pkcs3_pem(pkcs3(number, "05")));
    ibk_buf_clean(&out);
    ibk_dh_params_release(params);
}

static void test_check_accepts_safe_primes(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(group_names); i++) {
        row("%s", group_names[i]);
        struct ibk_dh_params *params = load(pem_of(group_names[i]));
        assert_ok(ibk_dh_params_check(params, &err));
        ibk_dh_params_release(params);
    }
    row("IBKR's demonstration group");
    const json_t *testcons = member(member(member(vectors(), "official"), "other"), "testcons_dh");
    struct ibk_dh_params *params = load(ibk_span_text(text_of(testcons, "pem")));
    assert_ok(ibk_dh_params_check(params, &err));
    ibk_dh_params_release(params);
}

static void check_unsafe(const char *name, const BIGNUM *number, const char *word)
{
    struct ibk_dh_params *params;
    row("%s", name);
    assert_ok(ibk_dh_params_new(bytes_of_bn(number), 2, &params, &err)); /* in form it is fine */
    assert_refused(IBK_E_DH_PARAMETERS, ibk_dh_params_check(params, &err));
    assert_says(word, (const char *)formatted("%d", BN_num_bits(number)).data);
    assert_row(ibk_dh_params_check(params, NULL) == IBK_E_DH_PARAMETERS);
    ibk_dh_params_release(params);
}

static void test_check_refuses_others(void **state)
{
    (void)state;
    BIGNUM *a = BN_new(), *b = BN_new(), *product = BN_new();
    BN_CTX *context = BN_CTX_new();
    assert_int_equal(BN_generate_prime_ex(a, 1025, 0, NULL, NULL, NULL), 1);
    assert_int_equal(BN_generate_prime_ex(b, 1024, 0, NULL, NULL, NULL), 1);
    assert_int_equal(BN_mul(product, a, b, context), 1);
    check_unsafe("product of two primes", product, "not prime");
    ibk_span prime = prime_of("ffdhe2048");
    assert_non_null(BN_bin2bn(prime.data, (int)prime.len, a));
    assert_int_equal(BN_sub_word(a, 2), 1);
    check_unsafe("a safe prime less two", a, "not prime");
    assert_int_equal(BN_generate_prime_ex(a, 2048, 0, NULL, NULL, NULL), 1);
    check_unsafe("a prime that is not safe", a, "safe");
    BN_CTX_free(context);
    BN_free(a);
    BN_free(b);
    BN_free(product);
}

struct steps {
    int allowed, taken;
};

static int take_step(void *context)
{
    struct steps *steps = context;
    return ++steps->taken > steps->allowed;
}

static void test_generate_is_stopped(void **state)
{
    (void)state;
    for (int allowed = 0; allowed < 20; allowed += 5) {
        struct steps steps = {.allowed = allowed, .taken = 0};
        const struct ibk_progress progress = {.step = take_step, .context = &steps};
        struct ibk_dh_params *params = (struct ibk_dh_params *)(void *)&err;
        row("stopped after %d steps", allowed);
        assert_refused(IBK_E_INTERRUPTED, ibk_dh_params_generate(4096, &progress, &params, &err));
        assert_row(params == NULL && steps.taken == allowed + 1);
    }
}

static void test_generate_refuses_sizes(void **state)
{
    static const unsigned int sizes[] = {0, 1, 1024, 2047, 8193, UINT32_MAX};
    (void)state;
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct ibk_dh_params *params = (struct ibk_dh_params *)(void *)&err;
        row("%u bits", sizes[i]);
        assert_refused(IBK_E_ARGUMENT, ibk_dh_params_generate(sizes[i], NULL, &params, &err));
        assert_says((const char *)formatted("%u", sizes[i]).data, "2048");
        assert_row(params == NULL);
    }
}

/* Half a minute and more, so only when asked for. */
static void test_generate(void **state)
{
    (void)state;
    if (getenv("IBK_SLOW_TESTS") == NULL) {
        skip();
    }
    struct ibk_dh_params *params;
    assert_ok(ibk_dh_params_generate(2048, NULL, &params, &err));
    assert_int_equal(ibk_dh_params_bits(params), 2048);
    assert_int_equal(ibk_dh_params_generator(params), 2);
    assert_ok(ibk_dh_params_check(params, &err));
    ibk_dh_params_release(params);
}

static struct ibk_dh_exchange *new_exchange(struct ibk_dh_params *params, const char *exponent_hex)
{
    struct ibk_secret *exponent = exponent_hex == NULL ? NULL : secret_of(bytes_of_hex(exponent_hex));
    struct ibk_dh_exchange *exchange = NULL;
    assert_ok(ibk_dh_exchange_new(params, exponent, &exchange, &err));
    ibk_secret_release(exponent);
    return exchange;
}

static const char *challenge_of(const struct ibk_dh_exchange *exchange)
{
    struct ibk_buf out;
    ibk_buf_init(&out, 4096);
    ibk_dh_exchange_put_challenge(exchange, &out);
    assert_ok(ibk_buf_check(&out, "challenge", &err));
    const char *challenge = (const char *)copied(ibk_buf_peek(&out)).data;
    ibk_buf_clean(&out);
    return challenge;
}

static void test_challenges(void **state)
{
    static const struct {
        const char *exponent, *challenge;
    } table[] = {
        {"02", "4"},   {"03", "8"},   {"04", "10"},   {"05", "20"},    {"07", "80"},
        {"08", "100"}, {"0a", "400"}, {"0c", "1000"}, {"000002", "4"}, {"40", "10000000000000000"},
    };
    (void)state;
    struct ibk_dh_params *params = load(pem_of("ffdhe2048"));
    for (size_t i = 0; i < COUNT(table); i++) {
        row("exponent %s", table[i].exponent);
        struct ibk_dh_exchange *exchange = new_exchange(params, table[i].exponent);
        assert_text(ibk_span_text(challenge_of(exchange)), table[i].challenge);
        ibk_dh_exchange_free(exchange);
    }
    ibk_dh_params_release(params);
}

/* Its "prime" is a power of 5, and so is the challenge: a zero, which has no digits. */
static void test_challenge_in_a_group_that_is_none(void **state)
{
    (void)state;
    BIGNUM *number = BN_new(), *five = BN_new(), *exponent = BN_new();
    BN_CTX *context = BN_CTX_new();
    assert_true(BN_set_word(five, 5) == 1 && BN_set_word(exponent, 900) == 1 && BN_exp(number, five, exponent, context) == 1);
    struct ibk_dh_params *params;
    assert_ok(ibk_dh_params_new(bytes_of_bn(number), 5, &params, &err));
    struct ibk_dh_exchange *exchange = new_exchange(params, "0384"); /* 900 */
    assert_string_equal(challenge_of(exchange), "");
    ibk_dh_exchange_free(exchange);
    ibk_dh_params_release(params);
    BN_CTX_free(context);
    BN_free(number);
    BN_free(five);
    BN_free(exponent);
}

/* p less a small number, in hex. */
static const char *prime_less(const char *name, BN_ULONG less)
{
    ibk_span prime = prime_of(name);
    BIGNUM *number = BN_bin2bn(prime.data, (int)prime.len, NULL);
    assert_int_equal(BN_sub_word(number, less), 1);
    const char *out = hex_of(bytes_of_bn(number));
    BN_free(number);
    return out;
}

static void test_exponents(void **state)
{
    (void)state;
    struct ibk_dh_params *params = load(pem_of("ffdhe2048"));
    const char *bad[] = {"",
                         "00",
                         "01",
                         "000001",
                         prime_less("ffdhe2048", 1),
                         hex_prime("ffdhe2048"),
                         (const char *)repeated("f", 512).data,
                         (const char *)repeated("12", 257).data,
                         (const char *)repeated("12", 5000).data};
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct ibk_dh_exchange *exchange = (struct ibk_dh_exchange *)(void *)&err;
        struct ibk_secret *exponent = secret_of(bytes_of_hex(bad[i]));
        row("exponent %.20s of %zu digits", bad[i], strlen(bad[i]));
        assert_refused(IBK_E_ARGUMENT, ibk_dh_exchange_new(params, exponent, &exchange, &err));
        assert_row(exchange == NULL);
        assert_row(ibk_dh_exchange_new(params, exponent, &exchange, NULL) == IBK_E_ARGUMENT);
        ibk_secret_release(exponent);
    }
    row("exponent p - 2");
    ibk_dh_exchange_free(new_exchange(params, prime_less("ffdhe2048", 2)));
    ibk_dh_exchange_free(NULL);
    ibk_dh_params_release(params);
}

static void test_random_exponents(void **state)
{
    (void)state;
    struct ibk_dh_params *params = load(pem_of("modp2048"));
    const char *before = "";
    for (int i = 0; i < 50; i++) {
        row("exchange %d", i);
        struct ibk_dh_exchange *exchange = new_exchange(params, NULL);
        const char *challenge = challenge_of(exchange);
        assert_row(strspn(challenge, "0123456789abcdef") == strlen(challenge));
        assert_row(challenge[0] != '0' && strlen(challenge) > 500 && strlen(challenge) <= 512);
        assert_row(strcmp(challenge, before) != 0);
        before = challenge;
        ibk_dh_exchange_free(exchange);
    }
    ibk_dh_params_release(params);
}

/* Both sides come to the same secret, whoever let go of the group in between. */
static void test_two_sides_agree(void **state)
{
    (void)state;
    for (int i = 0; i < 40; i++) {
        struct ibk_secret *one, *two;
        row("exchange %d", i);
        struct ibk_dh_params *params = load(pem_of(group_names[i % 3]));
        struct ibk_dh_exchange *alice = new_exchange(params, NULL), *bob = new_exchange(params, NULL);
        assert_ptr_equal(ibk_dh_params_acquire(params), params);
        assert_null(ibk_dh_params_acquire(NULL));
        ibk_dh_params_release(params);
        ibk_dh_params_release(params);
        const char *to_alice = challenge_of(bob), *to_bob = challenge_of(alice);
        assert_ok(ibk_dh_exchange_finish(alice, ibk_span_text(to_alice), &one, &err));
        assert_ok(ibk_dh_exchange_finish(bob, ibk_span_text(to_bob), &two, &err));
        assert_row(ibk_secret_equal(one, two));
        ibk_span bytes = ibk_secret_peek(one);
        assert_row(bytes.len > 240 && bytes.len <= 257 && bytes.data[0] < 0x80);
        assert_row(bytes.data[0] != 0 || bytes.data[1] >= 0x80);
        ibk_secret_release(one);
        ibk_secret_release(two);
        ibk_dh_exchange_free(alice);
        ibk_dh_exchange_free(bob);
    }
}

static void check_shared(struct ibk_dh_params *params, const char *exponent, const char *response, ibk_span expected)
{
    struct ibk_secret *shared;
    struct ibk_dh_exchange *exchange = new_exchange(params, exponent);
    assert_ok(ibk_dh_exchange_finish(exchange, ibk_span_text(response), &shared, &err));
    assert_bytes(ibk_secret_peek(shared), expected);
    ibk_secret_release(shared);
    ibk_dh_exchange_free(exchange);
}

/* Powers so small that they do not reach the prime: the secret can be read off. */
static void test_shapes_of_the_secret(void **state)
{
    static const struct {
        const char *exponent, *response;
        ibk_span shared;
    } table[] = {
        {"02", "2", BYTES("\x04")},
        {"02", "02", BYTES("\x04")},
        {"07", "2", BYTES("\0\x80")},
        {"08", "2", BYTES("\x01\0")},
        {"02", "a", BYTES("\x64")},
        {"02", "A", BYTES("\x64")},
        {"02", "f", BYTES("\0\xe1")},
        {"02", "10", BYTES("\x01\0")},
        {"02", "ffff", BYTES("\0\xff\xfe\0\x01")},
        {"03", "aBc", BYTES("\x04\xd4\xe3\x43\xc0")},
        {"0f", "2", BYTES("\0\x80\0")},
        {"02", "0000000000000000ff", BYTES("\0\xfe\x01")},
    };
    (void)state;
    struct ibk_dh_params *params = load(pem_of("ffdhe2048"));
    for (size_t i = 0; i < COUNT(table); i++) {
        row("%s to the power of %s", table[i].response, table[i].exponent);
        check_shared(params, table[i].exponent, table[i].response, table[i].shared);
    }
    ibk_dh_params_release(params);
}

static void test_spellings_of_a_response(void **state)
{
    (void)state;
    const json_t *entry = member_at(member(vectors(), "live_session_token"), 0);
    struct ibk_dh_params *params = load(pem_of(text_of(entry, "dh_group")));
    const char *exponent = text_of(entry, "dh_random_hex"), *response = text_of(entry, "diffie_hellman_response");
    ibk_span expected = bytes_of_hex(text_of(entry, "K_bytes_hex"));
    const char *zeros = (const char *)repeated("0", 3000).data;
    const char *spelled[] = {response,
                             upper_case(response),
                             (const char *)formatted("0%s", response).data,
                             (const char *)formatted("00%s", response).data,
                             (const char *)formatted("%s%s", zeros, response).data,
                             (const char *)formatted("0%s%s", zeros, upper_case(response)).data};
    for (size_t i = 0; i < COUNT(spelled); i++) {
        row("spelling %zu", i);
        check_shared(params, exponent, spelled[i], expected);
    }
    ibk_dh_params_release(params);
}

static void check_bad_response(struct ibk_dh_params *params, ibk_span response, const char *word)
{
    struct ibk_secret *shared = (struct ibk_secret *)(void *)&err;
    struct ibk_dh_exchange *exchange = new_exchange(params, "5555");
    assert_refused(IBK_E_DH_RESPONSE, ibk_dh_exchange_finish(exchange, response, &shared, &err));
    assert_says("Diffie-Hellman", "response", word);
    if (response.len >= 12) {
        assert_hides(response);
    }
    assert_row(shared == NULL);
    assert_refused(IBK_E_USED, ibk_dh_exchange_finish(exchange, LITERAL("1234"), &shared, &err));
    assert_row(shared == NULL);
    ibk_dh_exchange_free(exchange);
}

static void test_bad_responses(void **state)
{
    (void)state;
    struct ibk_dh_params *params = load(pem_of("ffdhe2048"));
    const char *prime = hex_prime("ffdhe2048");
    const struct {
        ibk_span response;
        const char *word;
    } table[] = {
        {BYTES(""), "empty"},
        {{NULL, 0}, "empty"},
        {BYTES("0"), "range"},
        {BYTES("1"), "range"},
        {BYTES("00"), "range"},
        {BYTES("01"), "range"},
        {repeated("0", 512), "range"},
        {joined(repeated("0", 511), LITERAL("1")), "range"},
        {ibk_span_text(prime_less("ffdhe2048", 1)), "range"},
        {formatted("0000%s", upper_case(prime_less("ffdhe2048", 1))), "range"},
        {ibk_span_text(prime), "range"},
        {repeated("f", 512), "range"},
        {joined(LITERAL("1"), repeated("0", 512)), "513"},
        {repeated("f", 513), "513"},
        {repeated("f", 100000), "100000"},
        {joined(LITERAL("0"), repeated("f", 514)), "515"},
        {BYTES("-2"), "hex"},
        {BYTES("+2"), "hex"},
        {BYTES("0x12"), "hex"},
        {BYTES("12 "), "hex"},
        {BYTES(" 12"), "hex"},
        {BYTES("12\n"), "hex"},
        {BYTES("1g"), "hex"},
        {BYTES("g"), "hex"},
        {BYTES("12\0"), "hex"},
        {BYTES("0\0"), "hex"},
        {BYTES("zz12345678901234"), "16"},
        {BYTES("<html>502 Bad Gateway</html>"), "28"},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        row("response %zu", i);
        check_bad_response(params, table[i].response, table[i].word);
    }
    row("p + 1");
    BIGNUM *number = NULL;
    assert_true(BN_hex2bn(&number, prime) > 0);
    assert_int_equal(BN_add_word(number, 1), 1);
    check_bad_response(params, ibk_span_text(hex_of(bytes_of_bn(number))), "range");
    BN_free(number);
    ibk_dh_params_release(params);
}

static void test_largest_response(void **state)
{
    (void)state;
    struct ibk_dh_params *params = load(pem_of("ffdhe2048"));
    check_shared(params, "02", prime_less("ffdhe2048", 2), LITERAL("\4")); /* (-2)^2 */
    ibk_dh_params_release(params);
}

static void test_single_use(void **state)
{
    (void)state;
    struct ibk_dh_params *params = load(pem_of("ffdhe2048"));
    struct ibk_dh_exchange *exchange = new_exchange(params, NULL);
    const char *challenge = challenge_of(exchange);
    struct ibk_secret *shared;
    assert_ok(ibk_dh_exchange_finish(exchange, LITERAL("1234"), &shared, &err));
    ibk_secret_release(shared);
    for (int i = 0; i < 2; i++) {
        shared = (struct ibk_secret *)(void *)&err;
        assert_refused(IBK_E_USED, ibk_dh_exchange_finish(exchange, LITERAL("1234"), &shared, &err));
        assert_null(shared);
        assert_int_equal(ibk_dh_exchange_finish(exchange, LITERAL("bad"), &shared, NULL), IBK_E_USED);
    }
    assert_string_equal(challenge_of(exchange), challenge);
    ibk_dh_exchange_free(exchange);
    ibk_dh_params_release(params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_every_spelling),
        checked(test_hex),
        checked(test_third_integer),
        checked(test_generators),
        checked(test_negative_integers),
        checked(test_sizes),
        checked(test_no_prime_at_all),
        checked(test_leading_zeros_of_a_number),
        checked(test_even_number),
        checked(test_other_kinds_of_files_are_named),
        checked(test_damaged_files),
        checked(test_cut_anywhere),
        checked(test_written_again),
        checked(test_written_again_without_sign_byte),
        checked(test_check_accepts_safe_primes),
        checked(test_check_refuses_others),
        checked(test_generate_is_stopped),
        checked(test_generate_refuses_sizes),
        checked(test_generate),
        checked(test_challenges),
        checked(test_challenge_in_a_group_that_is_none),
        checked(test_exponents),
        checked(test_random_exponents),
        checked(test_two_sides_agree),
        checked(test_shapes_of_the_secret),
        checked(test_spellings_of_a_response),
        checked(test_bad_responses),
        checked(test_largest_response),
        checked(test_single_use),
    };
    return cmocka_run_group_tests_name("dh", tests, NULL, NULL);
}
