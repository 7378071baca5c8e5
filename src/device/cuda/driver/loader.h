/* SPDX-License-Identifier: Apache-2.0 */
/* loader.h - the CUDA driver, opened at run time. */
#ifndef GPUQ_CUDA_DRIVER_LOADER_H
#define GPUQ_CUDA_DRIVER_LOADER_H

#include "device/cuda/driver/driver_api.h"

#include <gpuq/gpuq.h>
#include <stdbool.h>

/*
 * The driver's entry points. The first call opens and initialises the driver, which is never
 * closed, as a library that has threads of its own must not be unloaded. After a failure the next
 * call tries again. The environment variable GPUQ_LIBCUDA names another library; it is for tests.
 *
 * @return NULL, with q_last_error() set: no driver, too old (12.0 is needed), or it cannot start.
 */
const struct gq_cu *gq__cuda_driver(void);

/* Fails with "CALL: NAME (driver's words)"; Q_ERR_NO_MEMORY if that is what it was. */
QueueStatus gq__cuda_error(const struct gq_cu *cu, const char *call, int result);

/* "CUDA_ERROR_NAME (driver's words)". */
void gq__cuda_describe(const struct gq_cu *cu, int result, char *text, size_t room);

#endif /* GPUQ_CUDA_DRIVER_LOADER_H */
