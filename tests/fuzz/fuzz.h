/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.h - what the targets share. */
#ifndef GPUQ_TEST_FUZZ_H
#define GPUQ_TEST_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A target: does with the input what it is there for, and ends the process by abort() if something
 * does not hold. */
void fuzz_one(const uint8_t *data, size_t size);

/* Whether what is allocated from now on counts. It does when fuzz_one() begins. */
void fuzz_counts(bool counts);

#endif /* GPUQ_TEST_FUZZ_H */
