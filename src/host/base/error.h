/* SPDX-License-Identifier: Apache-2.0 */
/* error.h - the calling thread's last error; with it the log, for failures that no caller sees. */
#ifndef GPUQ_BASE_ERROR_H
#define GPUQ_BASE_ERROR_H

#include <stdbool.h>
#include <stddef.h>

#include "host/base/log.h"

#include <gpuq/gpuq.h>

/* Record a failure with a constant sentence; cheap enough for NOT_READY in a polling loop. */
QueueStatus gq__fail(QueueStatus status, const char *sentence);

/* Record a failure with a formatted sentence. */
__attribute__((format(printf, 2, 3))) QueueStatus gq__failf(QueueStatus status, const char *format,
							    ...);

/* Leaves the calling function with the status of a check of its handle, such as gq_enter(q), unless
 * that is Q_OK. */
#define GQ_RETURN_IF_REFUSED(entered)                                                              \
	do {                                                                                       \
		const QueueStatus entered_ = (entered);                                            \
		if (entered_ != Q_OK)                                                              \
			return entered_;                                                           \
	} while (0)

/*
 * Whether all elements of a reserved array in a caller's struct are 0. If not, the error names the
 * first that is not, as `name`[i].
 * @param size  bytes of an element: 1, 4 or 8
 * @return Q_OK; Q_ERR_INVALID_ARG
 */
QueueStatus gq__check_reserved(const char *name, const void *elements, size_t count, size_t size);

/* The same for the array `member` of *s. */
#define GQ_CHECK_RESERVED(s, member)                                                               \
	gq__check_reserved(#member, (s)->member, sizeof((s)->member) / sizeof((s)->member[0]),     \
			   sizeof((s)->member[0]))

enum { GQ_ERROR_ROOM = 512 }; /* bytes of a formatted sentence */

/* The last error, to be put back when what has failed inside a call is no failure of the call. */
struct gq_error {
	const char *sentence;
	bool is_formatted;
	char text[GQ_ERROR_ROOM];
};
void gq__error_keep(struct gq_error *e);
void gq__error_put_back(const struct gq_error *e);

/* For tests: from now on there is, or is not, memory for formatted sentences. */
void gq__error_refuse_room(bool refuse);

#endif /* GPUQ_BASE_ERROR_H */
