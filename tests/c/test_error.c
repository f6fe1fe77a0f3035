/* test_error.c - the error record and the names of codes. */
#include "support.h"

#include <openssl/err.h>
#include <openssl/evp.h>

static void test_names_of_codes(void **state)
{
    (void)state;
    for (int i = 0; i < IBK_CODE_COUNT; i++) {
        row("code %d", i);
        const char *name = ibk_code_name((ibk_code)i);
        assert_row(name != NULL && name[0] != '\0');
        assert_row(strspn(name, "abcdefghijklmnopqrstuvwxyz_") == strlen(name));
        for (int j = 0; j < i; j++) {
            assert_row(strcmp(name, ibk_code_name((ibk_code)j)) != 0);
        }
    }
    assert_string_equal(ibk_code_name(IBK_OK), "ok");
    assert_string_equal(ibk_code_name(IBK_E_KEY_FORMAT), "key_format");
    assert_string_equal(ibk_code_name(IBK_E_PROTOCOL), "protocol");
    assert_string_equal(ibk_code_name(IBK_CODE_COUNT), "unknown");
}

static void test_names_of_domains(void **state)
{
    (void)state;
    assert_string_equal(ibk_domain_name(IBK_DOMAIN_CORE), "core");
    assert_string_equal(ibk_domain_name(IBK_DOMAIN_OPENSSL), "openssl");
    assert_string_equal(ibk_domain_name(IBK_DOMAIN_CURL), "curl");
    assert_string_equal(ibk_domain_name(IBK_DOMAIN_SYSTEM), "system");
    assert_string_equal(ibk_domain_name((enum ibk_domain)99), "unknown");
}

static void test_fail_fills_everything(void **state)
{
    (void)state;
    assert_refused(IBK_E_LIMIT, ibk_fail(&err, IBK_E_LIMIT, "here", "%d of %s", 3, "four"));
    assert_string_equal(err.text, "3 of four");
    assert_string_equal(err.where, "here");
    assert_int_equal(err.domain, IBK_DOMAIN_CORE);
    assert_false(err.sent);
}

static void test_long_text_is_cut(void **state)
{
    (void)state;
    const char *text = (const char *)repeated("x", 1000).data;
    assert_refused(IBK_E_LIMIT, ibk_fail(&err, IBK_E_LIMIT, "here", "%s", text));
    assert_int_equal(strlen(err.text), IBK_ERROR_TEXT_SIZE - 1);
    assert_refused(IBK_E_CRYPTO, ibk_fail_ossl(&err, IBK_E_CRYPTO, "here", text));
    assert_int_equal(strlen(err.text), IBK_ERROR_TEXT_SIZE - 1);
}

static void test_record_may_be_absent(void **state)
{
    (void)state;
    assert_int_equal(ibk_fail(NULL, IBK_E_URL, "here", "%d", 1), IBK_E_URL);
    ERR_raise(ERR_LIB_EVP, ERR_R_MALLOC_FAILURE);
    assert_int_equal(ibk_fail_memory(NULL, "here"), IBK_E_NO_MEMORY);
    ERR_raise(ERR_LIB_EVP, EVP_R_BAD_DECRYPT);
    assert_int_equal(ibk_fail_ossl(NULL, IBK_E_CRYPTO, "here", "text"), IBK_E_CRYPTO);
    assert_int_equal(ERR_peek_error(), 0);
}

static void test_fail_memory(void **state)
{
    (void)state;
    assert_refused(IBK_E_NO_MEMORY, ibk_fail_memory(&err, "here"));
    assert_string_equal(err.where, "here");
    assert_says("memory");
}

static void test_last_reason_of_openssl_is_taken(void **state)
{
    (void)state;
    ERR_raise(ERR_LIB_EVP, EVP_R_BAD_DECRYPT);
    ERR_raise(ERR_LIB_EVP, EVP_R_UNSUPPORTED_CIPHER);
    unsigned long native = ERR_peek_last_error();
    assert_refused(IBK_E_CRYPTO, ibk_fail_ossl(&err, IBK_E_CRYPTO, "here", "key refused"));
    assert_int_equal(err.domain, IBK_DOMAIN_OPENSSL);
    assert_int_equal(err.native, native);
    assert_says("key refused", "unsupported cipher");
    assert_non_null(missing_word((const char *const[]){"bad decrypt", NULL}));
}

static void test_openssl_failure_without_reason(void **state)
{
    (void)state;
    assert_refused(IBK_E_CRYPTO, ibk_fail_ossl(&err, IBK_E_CRYPTO, "here", "key refused"));
    assert_int_equal(err.native, 0);
    assert_says("key refused");
}

static void test_text_is_no_format(void **state)
{
    (void)state;
    ERR_raise(ERR_LIB_EVP, EVP_R_BAD_DECRYPT);
    assert_refused(IBK_E_CRYPTO, ibk_fail_ossl(&err, IBK_E_CRYPTO, "here", "100%n %s"));
    assert_says("100%n %s", "bad decrypt");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        checked(test_names_of_codes),
        checked(test_names_of_domains),
        checked(test_fail_fills_everything),
        checked(test_long_text_is_cut),
        checked(test_record_may_be_absent),
        checked(test_fail_memory),
        checked(test_last_reason_of_openssl_is_taken),
        checked(test_openssl_failure_without_reason),
        checked(test_text_is_no_format),
    };
    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
