/* test_mac.c - HMAC against RFC 2202, RFC 4231 and OpenSSL's one-shot function. More known answers are in test_vectors.c. */
#include "support.h"

#include "ibk/mac.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

/* Both ways to the same MAC; the bytes of out behind it stay as they were. */
static void check_mac(enum ibk_mac mac, ibk_span key, ibk_span message, ibk_span expected)
{
    struct ibk_secret *secret = secret_of(key);
    struct ibk_mac_key *keyed;
    uint8_t out[IBK_MAC_MAX_SIZE], once[IBK_MAC_MAX_SIZE], untouched[IBK_MAC_MAX_SIZE];
    size_t size = ibk_mac_size(mac);

    memset(out, 0x55, sizeof out);
    memset(once, 0x55, sizeof once);
    memset(untouched, 0x55, sizeof untouched);
    assert_ok(ibk_mac_key_new(mac, secret, &keyed, &err));
    assert_ok(ibk_mac_once(mac, secret, message, once, &err));
    ibk_secret_release(secret); /* the key does not need it any more */
    assert_ok(ibk_mac_compute(keyed, message, out, &err));
    ibk_mac_key_free(keyed);
    assert_bytes(ibk_span_of(out, size), expected);
    assert_bytes(ibk_span_of(once, size), expected);
    assert_memory_equal(out + size, untouched, sizeof out - size);
    assert_memory_equal(once + size, untouched, sizeof once - size);
}

static void test_sizes(void **state)
{
    (void)state;
    assert_int_equal(ibk_mac_size(IBK_HMAC_SHA1), 20);
    assert_int_equal(ibk_mac_size(IBK_HMAC_SHA256), 32);
}

static void test_known_answers(void **state)
{
    static const struct {
        enum ibk_mac mac;
        const char *key_piece;
        size_t key_times;
        const char *message, *expected;
    } table[] = {
        {IBK_HMAC_SHA1, "\x0b", 20, "Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"},
        {IBK_HMAC_SHA1, "Jefe", 1, "what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
        {IBK_HMAC_SHA1, "\xaa", 80, "Test Using Larger Than Block-Size Key - Hash Key First",
         "aa4ae5e15272d00e95705637ce8a3b55ed402112"},
        {IBK_HMAC_SHA256, "\x0b", 20, "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {IBK_HMAC_SHA256, "Jefe", 1, "what do ya want for nothing?",
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
        {IBK_HMAC_SHA256, "\xaa", 131, "Test Using Larger Than Block-Size Key - Hash Key First",
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(table); i++) {
        row("line %zu", i);
        check_mac(table[i].mac, repeated(table[i].key_piece, table[i].key_times), ibk_span_text(table[i].message),
                  bytes_of_hex(table[i].expected));
    }
}

static ibk_span reference(enum ibk_mac mac, ibk_span key, ibk_span message)
{
    uint8_t *out = room(IBK_MAC_MAX_SIZE);
    unsigned int len = 0;
    const EVP_MD *digest = mac == IBK_HMAC_SHA1 ? EVP_sha1() : EVP_sha256();
    assert_non_null(HMAC(digest, key.data, (int)key.len, message.data, message.len, out, &len));
    return ibk_span_of(out, len);
}

static void test_against_openssl(void **state)
{
    static const size_t lengths[] = {1, 2, 19, 20, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 1000};
    (void)state;
    for (int mac = IBK_HMAC_SHA1; mac <= IBK_HMAC_SHA256; mac++) {
        for (size_t i = 0; i < COUNT(lengths); i++) {
            ibk_span key = scrambled(lengths[i], 3);
            for (size_t j = 0; j < COUNT(lengths); j++) {
                row("mac %d, key of %zu, message of %zu", mac, lengths[i], lengths[j]);
                ibk_span message = scrambled(lengths[j], 4);
                check_mac((enum ibk_mac)mac, key, message, reference((enum ibk_mac)mac, key, message));
            }
            ibk_span nothing = ibk_span_of(NULL, 0);
            check_mac((enum ibk_mac)mac, key, nothing, reference((enum ibk_mac)mac, key, LITERAL("")));
        }
    }
}

static void test_one_key_many_messages(void **state)
{
    (void)state;
    ibk_span one = scrambled(20, 1), two = scrambled(32, 2);
    struct ibk_secret *secret = secret_of(one), *other = secret_of(two);
    struct ibk_mac_key *first, *second;
    uint8_t out[IBK_MAC_MAX_SIZE];
    assert_ok(ibk_mac_key_new(IBK_HMAC_SHA256, secret, &first, &err));
    assert_ok(ibk_mac_key_new(IBK_HMAC_SHA256, other, &second, &err));
    for (uint32_t i = 0; i < 50; i++) {
        row("message %u", (unsigned int)i);
        ibk_span message = scrambled(i * 7, i);
        assert_ok(ibk_mac_compute(first, message, out, &err));
        assert_bytes(ibk_span_of(out, 32), reference(IBK_HMAC_SHA256, one, message));
        assert_ok(ibk_mac_compute(second, message, out, &err));
        assert_bytes(ibk_span_of(out, 32), reference(IBK_HMAC_SHA256, two, message));
    }
    ibk_mac_key_free(first);
    ibk_mac_key_free(second);
    ibk_secret_release(secret);
    ibk_secret_release(other);
}

static void test_empty_key_is_refused(void **state)
{
    (void)state;
    struct ibk_secret *nothing = secret_of(ibk_span_of(NULL, 0));
    struct ibk_mac_key *key = (struct ibk_mac_key *)(void *)&err;
    uint8_t out[IBK_MAC_MAX_SIZE];
    assert_refused(IBK_E_ARGUMENT, ibk_mac_key_new(IBK_HMAC_SHA256, nothing, &key, &err));
    assert_says("0 bytes");
    assert_null(key);
    assert_refused(IBK_E_ARGUMENT, ibk_mac_once(IBK_HMAC_SHA1, nothing, LITERAL("message"), out, &err));
    assert_int_equal(ibk_mac_once(IBK_HMAC_SHA1, nothing, LITERAL("message"), out, NULL), IBK_E_ARGUMENT);
    ibk_mac_key_free(NULL);
    ibk_secret_release(nothing);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_sizes),
        checked(test_known_answers),
        checked(test_against_openssl),
        checked(test_one_key_many_messages),
        checked(test_empty_key_is_refused),
    };
    return cmocka_run_group_tests_name("mac", tests, NULL, NULL);
}
