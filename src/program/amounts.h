/* SPDX-License-Identifier: Apache-2.0 */
/* amounts.h - amounts in words for people. */
#ifndef GPUQ_PROGRAM_AMOUNTS_H
#define GPUQ_PROGRAM_AMOUNTS_H

#include <stddef.h>
#include <stdint.h>

/* Each returns `to`, for which a `size` of 16 is enough. */

/** As "512 B", "1.5 MiB". */
const char *format_bytes(char *to, size_t size, double bytes);

/** As "850 ns", "12.3 us", "4.56 s". */
const char *format_duration(char *to, size_t size, uint64_t ns);

/** As "0:07", "12:34", "1:02:03"; "--:--" from ten thousand hours on. */
const char *format_clock(char *to, size_t size, uint64_t seconds);

/** As "999", "12.3k", "4.56M": at most five characters up to 999 G. */
const char *format_count(char *to, size_t size, double count);

#endif /* GPUQ_PROGRAM_AMOUNTS_H */
