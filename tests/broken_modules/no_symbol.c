/* SPDX-License-Identifier: Apache-2.0 */
/* no_symbol.c - a shared object without a processor image. */
int gpuq_test_nothing_here;
