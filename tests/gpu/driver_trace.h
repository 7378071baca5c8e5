/* SPDX-License-Identifier: Apache-2.0 */
/* driver_trace.h - the calls that the library makes of the driver, to find out why one went wrong.
 */
#ifndef GPUQ_DRIVER_TRACE_H
#define GPUQ_DRIVER_TRACE_H

#ifdef __cplusplus
extern "C" {
#endif

/* Note every call of the driver from now on; does nothing where there is no driver. Call it before
 * other threads use the driver. */
void driver_trace_begin(void);
/* The last calls to standard output, oldest first, and before them the first that failed. Threads:
 * any, also while a call does not return. */
void driver_trace_print(void);

#ifdef __cplusplus
}
#endif

#endif /* GPUQ_DRIVER_TRACE_H */
