/* fuzz_dh_params.c - Diffie-Hellman parameters: what loads is odd, long enough, positive, and survives being written. */
#include "fuzz.h"

#include "ibk/dh.h"

static void check_params(const struct ibk_dh_params *params)
{
    struct ibk_error err;
    struct ibk_dh_params *again;
    struct ibk_buf pem, prime;
    uint8_t one[IBK_FINGERPRINT_SIZE], two[IBK_FINGERPRINT_SIZE];
    ibk_buf_init(&pem, 65536);
    ibk_buf_init(&prime, 65536);
    ibk_dh_params_put_prime(params, &prime);
    REQUIRE(prime.broken == IBK_OK && prime.len == (ibk_dh_params_bits(params) + 7) / 8);
    REQUIRE(ibk_dh_params_bits(params) >= 2048 && prime.data[0] != 0 && (prime.data[prime.len - 1] & 1u) == 1);
    REQUIRE(ibk_dh_params_generator(params) == 2 || ibk_dh_params_generator(params) == 5);
    REQUIRE(ibk_dh_params_put_pem(params, &pem, &err) == IBK_OK);
    REQUIRE(ibk_dh_params_load(ibk_buf_peek(&pem), &again, &err) == IBK_OK);
    REQUIRE(ibk_dh_params_fingerprint(params, one, &err) == IBK_OK && ibk_dh_params_fingerprint(again, two, &err) == IBK_OK);
    REQUIRE(memcmp(one, two, sizeof one) == 0);
    ibk_dh_params_release(again);
    ibk_buf_clean(&pem);
    ibk_buf_clean(&prime);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ibk_error err;
    struct ibk_dh_params *params;
    ibk_code code = ibk_dh_params_load(ibk_span_of(data, size), &params, &err);
    if (code == IBK_OK) {
        check_params(params);
        ibk_dh_params_release(params);
    } else {
        REQUIRE(params == NULL);
        require_told(code, &err);
    }
    return 0;
}
