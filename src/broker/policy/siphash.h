/* SPDX-License-Identifier: Apache-2.0 */
/*
 * siphash.h - SipHash-2-4, a keyed hash: without the key nobody can choose keys of a table that all
 * fall into one chain. For tables only; what must not be forged has BLAKE2b or HMAC.
 */
#ifndef GPUQ_BROKER_POLICY_SIPHASH_H
#define GPUQ_BROKER_POLICY_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/** The hash of these bytes under a key of 128 bits. */
uint64_t gq__siphash(const uint64_t key[2], const void *data, size_t bytes);

#endif /* GPUQ_BROKER_POLICY_SIPHASH_H */
