/* SPDX-License-Identifier: Apache-2.0 */
/* policy_test.h - what the tests of the broker's policy share. */
#ifndef GPUQ_TEST_POLICY_H
#define GPUQ_TEST_POLICY_H

#include "broker/policy/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define US UINT64_C(1000)
#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

/* A test repeats its random numbers: the seed is part of it. */
enum { SEED = 20261129 };

#endif /* GPUQ_TEST_POLICY_H */
