/*
 * mac.h - HMAC-SHA256, which signs protected requests, and HMAC-SHA1, which IBKR derives and checks live session tokens with.
 * SHA-1 is IBKR's choice, inside HMAC; it cannot be exchanged for another.
 */
#ifndef IBK_MAC_H
#define IBK_MAC_H

#include "ibk/secret.h"

enum ibk_mac { IBK_HMAC_SHA1, IBK_HMAC_SHA256 };

#define IBK_MAC_MAX_SIZE 32u /* bytes */

/* A keyed MAC: the key schedule is done once. Threads may share one. */
struct ibk_mac_key;

ibk_code ibk_mac_key_new(enum ibk_mac mac, const struct ibk_secret *key, struct ibk_mac_key **out, struct ibk_error *err)
    IBK_MUST_USE;
void ibk_mac_key_free(struct ibk_mac_key *key);

/* 20 bytes for SHA-1, 32 for SHA-256. */
size_t ibk_mac_size(enum ibk_mac mac);
size_t ibk_mac_key_size(const struct ibk_mac_key *key);

/* Writes ibk_mac_size bytes to out. */
ibk_code ibk_mac_compute(struct ibk_mac_key *key, ibk_span message, uint8_t out[IBK_MAC_MAX_SIZE], struct ibk_error *err)
    IBK_MUST_USE;

/* The same with a key that is used once. */
ibk_code ibk_mac_once(enum ibk_mac mac, const struct ibk_secret *key, ibk_span message, uint8_t out[IBK_MAC_MAX_SIZE],
                      struct ibk_error *err) IBK_MUST_USE;

#endif
