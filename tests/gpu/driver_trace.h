/* SPDX-License-Identifier: Apache-2.0 */
/* driver_trace.h - the calls that the library makes of the driver, for whoever has to find out why
 * one went wrong. */
#ifndef GPUQ_DRIVER_TRACE_H
#define GPUQ_DRIVER_TRACE_H

#ifdef __cplusplus
extern "C" {
#endif

/* From now on calls are noted; without a driver, nothing. Before other threads call it. */
void driver_trace_begin(void);
/* The last calls to standard output, oldest first, and before them the first that failed. Threads:
 * any, also while a call does not return. */
void driver_trace_print(void);

#ifdef __cplusplus
}
#endif

#endif /* GPUQ_DRIVER_TRACE_H */
