/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - the log: lines to the sink of q_set_log(), or to stderr. */
#ifndef GPUQ_BASE_LOG_H
#define GPUQ_BASE_LOG_H

#include <stdbool.h>

/* One line to the sink of q_set_log(), or to stderr when GPUQ_LOG asks for it. */
__attribute__((format(printf, 2, 3))) void gq__log(int level, const char *format, ...);

/* Reads GPUQ_LOG. @return false, with q_last_error() set, when it is no level. */
bool gq__log_from_environment(void);

#endif /* GPUQ_BASE_LOG_H */
