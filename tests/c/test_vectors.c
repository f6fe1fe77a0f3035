/* test_vectors.c - every section of vectors.json that the core can answer. */
#include "support_pem.h"

#include "ibk/dh.h"
#include "ibk/encode.h"
#include "ibk/lst.h"
#include "ibk/oauth.h"

static struct ibk_rsa_key *load_key(const char *pair)
{
    struct ibk_rsa_key *key = NULL;
    const char *pem = text_of(member(member(vectors(), "keys"), pair), "private_pkcs8_pem");
    assert_ok(ibk_rsa_key_load(ibk_span_text(pem), NULL, pair, &key, &err));
    return key;
}

static struct ibk_mac_key *load_mac_key(const char *token_base64)
{
    struct ibk_mac_key *key = NULL;
    struct ibk_secret *token = secret_of(bytes_of_base64(token_base64));
    assert_ok(ibk_mac_key_new(IBK_HMAC_SHA256, token, &key, &err));
    ibk_secret_release(token);
    return key;
}

static void add(struct ibk_params *params, const char *name, const char *value)
{
    assert_ok(ibk_params_add_text(params, name, ibk_span_text(value), &err));
}

static void add_pairs(struct ibk_params *params, const json_t *pairs)
{
    json_t *pair;
    size_t i;
    json_array_foreach(pairs, i, pair)
    {
        add(params, text_at(pair, 0), text_at(pair, 1));
    }
}

/* The oauth_* parameters of an entry, as far as it has them. */
static void add_oauth(struct ibk_params *params, const json_t *entry, const char *method)
{
    static const struct {
        const char *name, *member;
    } table[] = {
        {"oauth_consumer_key", "consumer_key"}, {"oauth_nonce", "nonce"},
        {"oauth_timestamp", "timestamp"},       {"oauth_token", "oauth_token"},
        {"oauth_callback", "oauth_callback"},   {"oauth_verifier", "oauth_verifier"},
    };
    for (size_t i = 0; i < COUNT(table); i++) {
        if (has(entry, table[i].member)) {
            add(params, table[i].name, text_of(entry, table[i].member));
        }
    }
    add(params, "oauth_signature_method", method);
}

/* The base string of a request, kept until the test ends. */
static ibk_span base_string(const json_t *entry, const struct ibk_params *params, enum ibk_query_signing rule,
                            const char *prepend)
{
    struct ibk_buf out;
    const struct ibk_base_string_input input = {
        .method = ibk_span_text(text_of(entry, "method")),
        .url = ibk_span_text(text_of(entry, "url")),
        .params = params,
        .query_signing = rule,
        .prepend = ibk_span_text(prepend),
    };
    ibk_buf_init_secret(&out, IBK_BASE_STRING_MAX_SIZE);
    assert_ok(ibk_base_string(&input, &out, &err));
    ibk_span made = copied(ibk_buf_peek(&out));
    ibk_buf_clean(&out);
    return made;
}

static void check_rsa_signature(ibk_span base, const struct ibk_rsa_key *key, const char *expected)
{
    struct ibk_buf out;
    ibk_buf_init(&out, 1000);
    assert_ok(ibk_sign_rsa_sha256(base, key, &out, &err));
    assert_text(ibk_buf_peek(&out), expected);
    ibk_buf_clean(&out);
}

static void check_hmac_signature(ibk_span base, struct ibk_mac_key *key, const char *expected)
{
    struct ibk_buf out;
    ibk_buf_init(&out, 1000);
    assert_ok(ibk_sign_hmac_sha256(base, key, &out, &err));
    assert_text(ibk_buf_peek(&out), expected);
    ibk_buf_clean(&out);
}

static void check_request(const struct ibk_signature_input *input, const char *expected_header)
{
    struct ibk_buf out;
    ibk_buf_init(&out, IBK_HEADER_MAX_SIZE);
    assert_ok(ibk_sign_request(input, &out, &err));
    assert_text(ibk_buf_peek(&out), expected_header);
    ibk_buf_clean(&out);
}

static void check_percent(const char *plain, const char *encoded)
{
    struct ibk_buf out;
    ibk_buf_init(&out, 10000);
    ibk_percent_put(&out, ibk_span_text(plain));
    assert_ok(ibk_buf_check(&out, "text", &err));
    assert_text(ibk_buf_peek(&out), encoded);
    ibk_buf_clean(&out);
    assert_ok(ibk_percent_decode(ibk_span_text(encoded), false, "text", &out, &err));
    assert_text(ibk_buf_peek(&out), plain);
    ibk_buf_clean(&out);
}

static void check_sha256(ibk_span bytes, const char *expected_hex)
{
    uint8_t digest[32];
    assert_int_equal(EVP_Digest(bytes.data, bytes.len, digest, NULL, EVP_sha256(), NULL), 1);
    assert_text(ibk_span_text(hex_of(ibk_span_of(digest, sizeof digest))), expected_hex);
}

static void test_to_byte_array(void **state)
{
    (void)state;
    const json_t *cases = member(member(vectors(), "to_byte_array"), "cases");
    json_t *entry;
    size_t i;
    json_array_foreach(cases, i, entry)
    {
        struct ibk_buf out;
        row("%s", text_at(entry, 0));
        ibk_buf_init(&out, 100);
        ibk_java_bytes_put(&out, bytes_of_hex(text_at(entry, 0)));
        assert_ok(ibk_buf_check(&out, "integer", &err));
        assert_text(ibk_span_text(hex_of(ibk_buf_peek(&out))), text_at(entry, 1));
        ibk_buf_clean(&out);
    }
    assert_int_equal(json_array_size(cases), 21);
}

static void test_percent_encoding(void **state)
{
    (void)state;
    const json_t *section = member(vectors(), "percent_encoding");
    check_percent(text_of(section, "input"), text_of(section, "rfc3986"));
}

static void test_rfc5849(void **state)
{
    (void)state;
    const json_t *section = member(member(vectors(), "generic_standards"), "rfc5849_3_4_1_1");
    json_t *request = json_pack("{s:s, s:s}", "method", "POST", "url", "http://example.com/request");
    struct ibk_params params;
    ibk_params_init(&params);
    add_pairs(&params, member(section, "params"));
    assert_text(base_string(request, &params, IBK_QUERY_RFC5849, ""), text_of(section, "base_string"));
    assert_text(base_string(request, &params, IBK_QUERY_MERGE, ""), text_of(section, "same_params_under_ibkr_single_encoding"));
    ibk_params_clean(&params);
    json_decref(request);
}

static void check_hmac_section(const char *name, enum ibk_mac mac)
{
    const json_t *section = member(member(vectors(), "generic_standards"), name);
    json_t *entry;
    size_t i;
    assert_true(json_array_size(section) >= 3);
    json_array_foreach(section, i, entry)
    {
        uint8_t out[IBK_MAC_MAX_SIZE];
        row("%s %zu", name, i);
        struct ibk_secret *key = secret_of(bytes_of_hex(text_of(entry, "key_hex")));
        assert_ok(ibk_mac_once(mac, key, bytes_of_hex(text_of(entry, "data_hex")), out, &err));
        assert_text(ibk_span_text(hex_of(ibk_span_of(out, ibk_mac_size(mac)))), text_of(entry, "hex"));
        ibk_secret_release(key);
    }
}

static void test_hmac(void **state)
{
    (void)state;
    check_hmac_section("hmac_sha1_rfc2202", IBK_HMAC_SHA1);
    check_hmac_section("hmac_sha256_rfc4231", IBK_HMAC_SHA256);
}

static void test_hmac_of_the_twitter_example(void **state)
{
    (void)state;
    const json_t *section = member(member(vectors(), "generic_standards"), "twitter");
    struct ibk_secret *key = secret_of(ibk_span_text(text_of(section, "signing_key")));
    uint8_t out[IBK_MAC_MAX_SIZE];
    assert_ok(ibk_mac_once(IBK_HMAC_SHA1, key, ibk_span_text(text_of(section, "base_string")), out, &err));
    assert_text(ibk_span_text(base64_of(ibk_span_of(out, 20))), text_of(section, "hmac_sha1_base64"));
    ibk_secret_release(key);
}

static void check_private_file(const char *file, const char *passphrase, const json_t *pair)
{
    struct ibk_secret *secret = passphrase == NULL ? NULL : secret_of(ibk_span_text(passphrase));
    struct ibk_rsa_key *key = NULL;
    struct ibk_buf out;
    assert_ok(ibk_rsa_key_load(ibk_span_text(file), secret, "key", &key, &err));
    assert_row(ibk_rsa_key_bits(key) == 2048);
    ibk_buf_init(&out, 10000);
    assert_ok(ibk_rsa_key_put_public(key, &out, &err));
    assert_text(ibk_buf_peek(&out), text_of(pair, "public_spki_pem"));
    ibk_buf_clean(&out);
    ibk_buf_init_secret(&out, 10000);
    assert_ok(ibk_rsa_key_put_private(key, &out, &err));
    assert_text(ibk_buf_peek(&out), text_of(pair, "private_pkcs8_pem"));
    ibk_buf_clean(&out);
    ibk_rsa_key_release(key);
    ibk_secret_release(secret);
}

static void check_key_file(const char *name, const char *file, const char *passphrase, const json_t *pair)
{
    struct ibk_rsa_key *key = NULL;
    if (strncmp(name, "public", 6) == 0) {
        assert_refused(IBK_E_KEY_FORMAT, ibk_rsa_key_load(ibk_span_text(file), NULL, "key", &key, &err));
    } else if (strstr(name, "encrypted") != NULL) {
        assert_refused(IBK_E_PASSPHRASE, ibk_rsa_key_load(ibk_span_text(file), NULL, "key", &key, &err));
        check_private_file(file, passphrase, pair);
    } else {
        check_private_file(file, NULL, pair);
    }
}

static void test_keys(void **state)
{
    static const char *const pairs[] = {"signature", "encryption"};
    static const char *const formats[] = {
        "private_pkcs1_pem", "private_pkcs8_pem", "private_pkcs8_encrypted_pem", "private_pkcs1_legacy_encrypted_pem",
        "public_spki_pem",   "public_pkcs1_pem"};
    (void)state;
    const json_t *keys = member(vectors(), "keys");
    for (size_t i = 0; i < COUNT(pairs); i++) {
        const json_t *pair = member(keys, pairs[i]);
        assert_int_equal(json_object_size(pair), COUNT(formats));
        for (size_t j = 0; j < COUNT(formats); j++) {
            row("%s, %s", pairs[i], formats[j]);
            check_key_file(formats[j], text_of(pair, formats[j]), text_of(keys, "encrypted_pem_passphrase"), pair);
        }
    }
}

static struct ibk_secret *decrypted(const struct ibk_rsa_key *key, const char *name)
{
    struct ibk_secret *secret = NULL;
    const json_t *entry = member(member(vectors(), "access_token_secrets"), name);
    assert_ok(ibk_rsa_decrypt(key, ibk_span_text(text_of(entry, "encrypted_base64")), &secret, &err));
    assert_text(ibk_span_text(hex_of(ibk_secret_peek(secret))), text_of(entry, "plaintext_hex"));
    return secret;
}

static void test_access_token_secrets(void **state)
{
    static const char *const names[] = {"typical_32", "leading_zero_bytes_32", "ct_leading_zero", "short_20", "embedded_zero_32"};
    (void)state;
    struct ibk_rsa_key *key = load_key("encryption");
    const json_t *section = member(vectors(), "access_token_secrets");
    assert_int_equal(json_object_size(section), COUNT(names));
    for (size_t i = 0; i < COUNT(names); i++) {
        bool fits = false;
        row("%s", names[i]);
        ibk_secret_release(decrypted(key, names[i]));
        const char *ciphertext = text_of(member(section, names[i]), "encrypted_base64");
        assert_ok(ibk_rsa_fits(key, ibk_span_text(ciphertext), &fits, &err));
        assert_row(fits);
    }
    ibk_rsa_key_release(key);
}

static struct ibk_dh_params *load_group(const json_t *entry)
{
    struct ibk_dh_params *params = NULL;
    assert_ok(ibk_dh_params_load(ibk_span_text(text_of(entry, "pem")), &params, &err));
    return params;
}

static void check_group(const char *name, const json_t *entry)
{
    struct ibk_dh_params *by_hex = NULL;
    struct ibk_buf out;
    row("%s", name);
    struct ibk_dh_params *params = load_group(entry);
    assert_row(ibk_dh_params_bits(params) == 2048);
    assert_row(ibk_dh_params_generator(params) == (unsigned long)json_integer_value(member(entry, "generator")));
    assert_ok(ibk_dh_params_check(params, &err));
    assert_ok(ibk_dh_params_load(ibk_span_text(text_of(entry, "prime_hex")), &by_hex, &err));
    ibk_buf_init(&out, 1000);
    ibk_dh_params_put_prime(by_hex, &out);
    assert_text(ibk_span_text(hex_of(ibk_buf_peek(&out))), text_of(entry, "prime_hex"));
    ibk_buf_clean(&out);
    assert_ok(ibk_dh_params_put_pem(by_hex, &out, &err));
    assert_text(ibk_buf_peek(&out), text_of(entry, "pem"));
    ibk_buf_clean(&out);
    ibk_dh_params_release(by_hex);
    ibk_dh_params_release(params);
}

static void test_dh_groups(void **state)
{
    (void)state;
    const json_t *groups = member(vectors(), "dh_groups");
    check_group("ffdhe2048", member(groups, "ffdhe2048"));
    check_group("modp2048", member(groups, "modp2048"));
    check_group("openssl2048", member(groups, "openssl2048"));
    assert_int_equal(json_object_size(groups), 3);
    check_group("testcons", member(member(member(vectors(), "official"), "other"), "testcons_dh"));
}

static void test_dh_other_formats(void **state)
{
    (void)state;
    struct ibk_dh_params *params = NULL;
    const char *file = text_of(member(vectors(), "dh_other_formats"), "x942_pem_not_used_by_ibkr");
    assert_refused(IBK_E_DH_PARAMETERS, ibk_dh_params_load(ibk_span_text(file), &params, &err));
    assert_says("X9.42");
}

/* The keys that all exchanges of the vectors share. */
struct exchange_keys {
    struct ibk_rsa_key *signing, *encryption;
};

static void check_signed_request(const json_t *request, const json_t *entry, const char *challenge,
                                 const struct ibk_secret *secret, const struct exchange_keys *keys)
{
    struct ibk_params params;
    ibk_params_init(&params);
    add_oauth(&params, request, text_of(request, "signature_method"));
    add(&params, "oauth_consumer_key", text_of(entry, "consumer_key"));
    add(&params, "diffie_hellman_challenge", challenge);
    ibk_span base = base_string(request, &params, IBK_QUERY_OMIT, hex_of(ibk_secret_peek(secret)));
    assert_text(base, text_of(request, "base_string"));
    check_sha256(base, text_of(request, "base_string_sha256"));
    check_rsa_signature(base, keys->signing, text_of(request, "signature_base64"));
    check_percent(text_of(request, "signature_base64"), text_of(request, "oauth_signature_header_value"));
    const struct ibk_signature_input input = {
        .method = ibk_span_text(text_of(request, "method")),
        .url = ibk_span_text(text_of(request, "url")),
        .oauth = &params,
        .realm = ibk_span_text(text_of(request, "realm")),
        .prepend = secret,
        .rsa_key = keys->signing,
    };
    check_request(&input, text_of(request, "authorization_header"));
    ibk_params_clean(&params);
}

static struct ibk_dh_exchange *fixed_exchange(const json_t *entry)
{
    struct ibk_dh_exchange *exchange = NULL;
    const json_t *group = member(member(vectors(), "dh_groups"), text_of(entry, "dh_group"));
    struct ibk_dh_params *params = load_group(group);
    struct ibk_secret *exponent = secret_of(bytes_of_hex(text_of(entry, "dh_random_hex")));
    assert_ok(ibk_dh_exchange_new(params, exponent, &exchange, &err));
    ibk_secret_release(exponent);
    ibk_dh_params_release(params);
    return exchange;
}

static void check_token(const json_t *entry, const struct ibk_secret *token)
{
    ibk_span bytes = ibk_secret_peek(token);
    ibk_span consumer = ibk_span_text(text_of(entry, "consumer_key"));
    assert_text(ibk_span_text(hex_of(bytes)), text_of(entry, "lst_hex"));
    assert_text(ibk_span_text(base64_of(bytes)), text_of(entry, "lst_base64"));
    assert_ok(ibk_lst_verify(token, consumer, ibk_span_text(text_of(entry, "live_session_token_signature")), &err));
    static const char *const wrong[] = {"wrong_lst_if_no_sign_byte", "wrong_lst_if_left_padded_to_256"};
    for (size_t i = 0; i < COUNT(wrong); i++) {
        if (has(entry, wrong[i])) {
            assert_row(strcmp(base64_of(bytes), text_of(entry, wrong[i])) != 0);
        }
    }
}

static void check_finish(const json_t *entry, struct ibk_dh_exchange *exchange, const char *response,
                         const struct ibk_secret *secret)
{
    struct ibk_secret *shared = NULL, *token = NULL;
    assert_ok(ibk_dh_exchange_finish(exchange, ibk_span_text(response), &shared, &err));
    assert_text(ibk_span_text(hex_of(ibk_secret_peek(shared))), text_of(entry, "K_bytes_hex"));
    assert_row((json_int_t)ibk_secret_peek(shared).len == json_integer_value(member(entry, "K_bytes_len")));
    assert_ok(ibk_lst_derive(shared, secret, &token, &err));
    check_token(entry, token);
    ibk_secret_release(token);
    ibk_secret_release(shared);
}

static void check_exchange(const json_t *entry, const struct exchange_keys *keys)
{
    struct ibk_buf out;
    row("%s", text_of(entry, "id"));
    struct ibk_secret *secret = decrypted(keys->encryption, text_of(entry, "access_token_secret"));
    struct ibk_dh_exchange *exchange = fixed_exchange(entry);
    const char *challenge = text_of(entry, "diffie_hellman_challenge");
    ibk_buf_init(&out, 1000);
    ibk_dh_exchange_put_challenge(exchange, &out);
    assert_text(ibk_buf_peek(&out), challenge);
    ibk_buf_clean(&out);
    if (has(entry, "request")) {
        check_signed_request(member(entry, "request"), entry, challenge, secret, keys);
    }
    check_finish(entry, exchange, text_of(entry, "diffie_hellman_response"), secret);
    ibk_dh_exchange_free(exchange);
    const json_t *others = json_object_get(entry, "equivalent_response_spellings");
    for (size_t i = 0; i < json_array_size(others); i++) {
        exchange = fixed_exchange(entry);
        check_finish(entry, exchange, text_at(others, i), secret);
        ibk_dh_exchange_free(exchange);
    }
    ibk_secret_release(secret);
}

static void test_live_session_token(void **state)
{
    (void)state;
    const struct exchange_keys keys = {.signing = load_key("signature"), .encryption = load_key("encryption")};
    const json_t *section = member(vectors(), "live_session_token");
    json_t *entry;
    size_t i;
    assert_int_equal(json_array_size(section), 29);
    json_array_foreach(section, i, entry)
    {
        check_exchange(entry, &keys);
    }
    ibk_rsa_key_release(keys.signing);
    ibk_rsa_key_release(keys.encryption);
}

static void test_rsa_requests(void **state)
{
    (void)state;
    struct ibk_rsa_key *key = load_key("signature");
    const json_t *section = member(vectors(), "rsa_requests");
    json_t *entry;
    size_t i;
    assert_int_equal(json_array_size(section), 4);
    json_array_foreach(section, i, entry)
    {
        struct ibk_params params;
        row("%s", text_of(entry, "id"));
        ibk_params_init(&params);
        add_oauth(&params, entry, text_of(entry, "signature_method"));
        ibk_span base = base_string(entry, &params, IBK_QUERY_OMIT, "");
        assert_text(base, text_of(entry, "base_string"));
        check_sha256(base, text_of(entry, "base_string_sha256"));
        check_rsa_signature(base, key, text_of(entry, "signature_base64"));
        check_percent(text_of(entry, "signature_base64"), text_of(entry, "oauth_signature_header_value"));
        const struct ibk_signature_input input = {
            .method = ibk_span_text(text_of(entry, "method")),
            .url = ibk_span_text(text_of(entry, "url")),
            .oauth = &params,
            .realm = ibk_span_text(text_of(entry, "realm")),
            .rsa_key = key,
        };
        check_request(&input, text_of(entry, "authorization_header_realm_first"));
        ibk_params_clean(&params);
    }
    ibk_rsa_key_release(key);
}

/* The same request under a convention of somebody else. "omitted" leaves the form out too, which is up to the caller. */
static void check_convention(const json_t *entry, const char *name, enum ibk_query_signing rule, struct ibk_mac_key *key)
{
    const json_t *others = json_object_get(entry, "other_conventions_for_same_request");
    if (others == NULL || !has(others, name)) {
        return;
    }
    struct ibk_params params;
    const json_t *expected = member(others, name);
    ibk_params_init(&params);
    add_oauth(&params, entry, text_of(entry, "signature_method"));
    if (has(entry, "form_params") && rule != IBK_QUERY_OMIT) {
        add_pairs(&params, member(entry, "form_params"));
    }
    ibk_span base = base_string(entry, &params, rule, "");
    assert_text(base, text_of(expected, "base_string"));
    check_hmac_signature(base, key, text_of(expected, "signature_base64"));
    bool same = strcmp(text_of(expected, "base_string"), text_of(entry, "base_string")) == 0;
    assert_row(same == json_is_true(member(expected, "same_as_merge_once")));
    ibk_params_clean(&params);
}

static void check_hmac_request(const json_t *entry)
{
    struct ibk_params oauth, form, all;
    row("%s", text_of(entry, "id"));
    struct ibk_mac_key *key = load_mac_key(text_of(entry, "live_session_token"));
    ibk_params_init(&oauth);
    ibk_params_init(&form);
    ibk_params_init(&all);
    add_oauth(&oauth, entry, text_of(entry, "signature_method"));
    if (has(entry, "form_params")) {
        add_pairs(&form, member(entry, "form_params"));
    }
    assert_ok(ibk_params_add_all(&all, &oauth, &err));
    assert_ok(ibk_params_add_all(&all, &form, &err));
    ibk_span base = base_string(entry, &all, IBK_QUERY_MERGE, "");
    assert_text(base, text_of(entry, "base_string"));
    check_hmac_signature(base, key, text_of(entry, "signature_base64"));
    check_percent(text_of(entry, "signature_base64"), text_of(entry, "oauth_signature_header_value"));
    const struct ibk_signature_input input = {
        .method = ibk_span_text(text_of(entry, "method")),
        .url = ibk_span_text(text_of(entry, "url")),
        .oauth = &oauth,
        .form = &form,
        .query_signing = IBK_QUERY_MERGE,
        .realm = ibk_span_text(text_of(entry, "realm")),
        .mac_key = key,
    };
    check_request(&input, text_of(entry, "authorization_header"));
    check_convention(entry, "query_and_form_omitted", IBK_QUERY_OMIT, key);
    check_convention(entry, "query_left_in_url_part", IBK_QUERY_URL, key);
    check_convention(entry, "rfc5849_double_encoded", IBK_QUERY_RFC5849, key);
    ibk_params_clean(&oauth);
    ibk_params_clean(&form);
    ibk_params_clean(&all);
    ibk_mac_key_free(key);
}

static void test_hmac_requests(void **state)
{
    (void)state;
    const json_t *section = member(vectors(), "hmac_requests");
    json_t *entry;
    size_t i;
    assert_int_equal(json_array_size(section), 14);
    json_array_foreach(section, i, entry)
    {
        check_hmac_request(entry);
    }
}

/* The query parameters of an entry and its URL's query are the same thing, decoded and as written. */
static void test_query_parameters_are_those_of_the_url(void **state)
{
    static const char *const sections[] = {"hmac_requests", "disagreements"};
    (void)state;
    for (size_t s = 0; s < COUNT(sections); s++) {
        json_t *entry;
        size_t i;
        json_array_foreach(member(vectors(), sections[s]), i, entry)
        {
            struct ibk_params params;
            struct ibk_url url;
            row("%s", text_of(entry, "id"));
            ibk_params_init(&params);
            assert_ok(ibk_url_split(ibk_span_text(text_of(entry, "url")), &url, &err));
            assert_ok(ibk_params_add_query(&params, url.query, &err));
            const json_t *pairs = json_object_get(entry, "query_params");
            assert_row(ibk_params_count(&params) == json_array_size(pairs));
            for (size_t j = 0; j < json_array_size(pairs); j++) {
                assert_text(ibk_params_peek_name(&params, j), text_at(member_at(pairs, j), 0));
                assert_text(ibk_params_peek_value(&params, j), text_at(member_at(pairs, j), 1));
            }
            ibk_params_clean(&params);
        }
    }
}

/* The result that a list of implementations beginning with this word came to; NULL where nobody did. */
static const json_t *result_of(const json_t *entry, const char *implementation)
{
    json_t *result;
    size_t i;
    json_array_foreach(member(entry, "results"), i, result)
    {
        const json_t *names = member(result, "implementations");
        for (size_t j = 0; j < json_array_size(names); j++) {
            if (strncmp(text_at(names, j), implementation, strlen(implementation)) == 0) {
                return result;
            }
        }
    }
    return NULL;
}

static bool check_probe(const json_t *entry, const char *implementation, enum ibk_query_signing rule,
                        const struct ibk_rsa_key *rsa)
{
    const json_t *result = result_of(entry, implementation);
    if (result == NULL) {
        return false;
    }
    struct ibk_params params;
    bool with_token = has(entry, "live_session_token");
    ibk_params_init(&params);
    add_oauth(&params, entry, with_token ? "HMAC-SHA256" : "RSA-SHA256");
    ibk_span base = base_string(entry, &params, rule, "");
    assert_text(base, text_of(result, "base_string"));
    if (with_token) {
        struct ibk_mac_key *key = load_mac_key(text_of(entry, "live_session_token"));
        check_hmac_signature(base, key, text_of(result, "signature_base64"));
        ibk_mac_key_free(key);
    } else {
        check_rsa_signature(base, rsa, text_of(result, "signature_base64"));
    }
    ibk_params_clean(&params);
    return true;
}

static void test_disagreements(void **state)
{
    (void)state;
    struct ibk_rsa_key *rsa = load_key("signature");
    const json_t *section = member(vectors(), "disagreements");
    json_t *entry;
    size_t i;
    assert_int_equal(json_array_size(section), 9);
    json_array_foreach(section, i, entry)
    {
        bool probe = strncmp(text_of(entry, "id"), "probe", 5) == 0;
        row("%s", text_of(entry, "id"));
        /* Encoded once, unreserved characters bare: our own rule; for the callbacks ibind's function follows it. */
        assert_row(check_probe(entry, probe ? "own: single encoding" : "ibind generate_base_string", IBK_QUERY_MERGE, rsa));
        assert_row(check_probe(entry, "rfc5849_double_encoded", IBK_QUERY_RFC5849, rsa));
        assert_row(check_probe(entry, "query_omitted", IBK_QUERY_OMIT, rsa) == probe);
        assert_row(check_probe(entry, "query_left_in_url_part", IBK_QUERY_URL, rsa) == probe);
    }
    ibk_rsa_key_release(rsa);
}

/* IBKR's own signatures of 2024: made with a key that we have the public half of, over the base strings that we build. */
static void test_official_signatures(void **state)
{
    (void)state;
    const json_t *official = member(vectors(), "official");
    const json_t *keys = member(member(official, "other"), "testcons_public_keys");
    EVP_PKEY *key = public_key_of(ibk_span_text(text_of(keys, "signature_spki_pem")));
    json_t *entry;
    size_t i;
    assert_int_equal(json_array_size(member(official, "signatures")), 3);
    json_array_foreach(member(official, "signatures"), i, entry)
    {
        struct ibk_params params;
        const char *name;
        json_t *value;
        row("%s", text_of(entry, "id"));
        ibk_params_init(&params);
        json_object_foreach(member(entry, "signed_params"), name, value)
        {
            add(&params, name, json_string_value(value));
        }
        ibk_span base = base_string(entry, &params, IBK_QUERY_OMIT, has(entry, "prepend") ? text_of(entry, "prepend") : "");
        assert_text(base, text_of(entry, "base_string"));
        check_sha256(base, text_of(entry, "base_string_sha256"));
        ibk_span signature = bytes_of_base64(text_of(entry, "signature_base64"));
        assert_row(signature_is_good(key, base, signature));
        assert_row(!signature_is_good(key, ibk_span_of(base.data, base.len - 1), signature));
        check_percent(text_of(entry, "signature_base64"), text_of(entry, "oauth_signature_header_value"));
        ibk_params_clean(&params);
    }
    EVP_PKEY_free(key);
}

/* The prepend of the 2024 live session token request is the secret that was decrypted with the encryption key. */
static void test_official_secret(void **state)
{
    (void)state;
    const json_t *official = member(vectors(), "official");
    const json_t *secret = member(member(official, "other"), "access_token_secret_2024");
    assert_int_equal(strlen(text_of(secret, "encrypted_base64")), 344);
    assert_string_equal(text_of(secret, "plaintext_hex"), text_of(member_at(member(official, "signatures"), 2), "prepend"));
}

static void test_official_token_signature(void **state)
{
    (void)state;
    const json_t *entry = member(member(member(vectors(), "official"), "other"), "lst_signature_2020");
    struct ibk_secret *token = secret_of(bytes_of_base64(text_of(entry, "live_session_token")));
    ibk_span consumer = ibk_span_text(text_of(entry, "consumer_key"));
    assert_ok(ibk_lst_verify(token, consumer, ibk_span_text(text_of(entry, "live_session_token_signature")), &err));
    ibk_secret_release(token);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_to_byte_array),
        checked(test_percent_encoding),
        checked(test_rfc5849),
        checked(test_hmac),
        checked(test_hmac_of_the_twitter_example),
        checked(test_keys),
        checked(test_access_token_secrets),
        checked(test_dh_groups),
        checked(test_dh_other_formats),
        checked(test_live_session_token),
        checked(test_rsa_requests),
        checked(test_hmac_requests),
        checked(test_query_parameters_are_those_of_the_url),
        checked(test_disagreements),
        checked(test_official_signatures),
        checked(test_official_secret),
        checked(test_official_token_signature),
    };
    return cmocka_run_group_tests_name("vectors", tests, NULL, NULL);
}
