/* SPDX-License-Identifier: Apache-2.0 */
/* error.c - the calling thread's last error, status texts, and the log. */
#include "host/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The sentence is either a constant or in `buffer`; a polling loop never formats one. */
static _Thread_local const char *last_error = "";
static _Thread_local char buffer[512];

QueueStatus gq__fail(QueueStatus status, const char *sentence)
{
	last_error = sentence;
	return status;
}

QueueStatus gq__failf(QueueStatus status, const char *format, ...)
{
	char text[sizeof(buffer)]; /* an argument may point into `buffer` */
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	memcpy(buffer, text, sizeof(buffer));
	last_error = buffer;
	return status;
}

const char *q_last_error(void)
{
	return last_error;
}

const char *q_status_string(QueueStatus status)
{
	switch (status) {
#define STATUS_TEXT(name, value, text)                                                             \
	case name:                                                                                 \
		return text;
		Q_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
	}
	return "unknown status";
}

#define STRINGIFY_(x) #x
#define STRINGIFY(x)  STRINGIFY_(x)

const char *q_version(void)
{
	return STRINGIFY(GPUQ_VERSION_MAJOR) "." STRINGIFY(GPUQ_VERSION_MINOR) "." STRINGIFY(
		GPUQ_VERSION_PATCH);
}

/* ---- log --------------------------------------------------------------------------------- */

static const char *const level_names[] = { "error", "warning", "info", "debug" };

typedef void (*log_fn)(int level, const char *text, void *user);

/* Release and acquire on log_sink publish log_user (edge L1/L2). */
static log_fn log_sink;
static void *log_user;
static int log_level = -1; /* of the stderr sink; -1: none */

void q_set_log(void (*fn)(int level, const char *text, void *user), void *user)
{
	__atomic_store_n(&log_user, user, __ATOMIC_RELAXED);
	__atomic_store_n(&log_sink, fn, __ATOMIC_RELEASE); /* L1: pairs with L2 */
}

void gq__log(int level, const char *format, ...)
{
	log_fn sink = __atomic_load_n(&log_sink, __ATOMIC_ACQUIRE); /* L2: pairs with L1 */
	char text[512];
	va_list args;

	if (sink == NULL && level > __atomic_load_n(&log_level, __ATOMIC_RELAXED))
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (sink != NULL)
		sink(level, text, __atomic_load_n(&log_user, __ATOMIC_RELAXED));
	else
		fprintf(stderr, "gpuq: %s: %s\n", level_names[level], text);
}

bool gq__log_from_environment(void)
{
	const char *value = getenv("GPUQ_LOG");
	int level = -1;

	if (value != NULL && value[0] != '\0') {
		for (int i = 0; i < 4; i++)
			if (strcmp(value, level_names[i]) == 0)
				level = i;
		if (level < 0) {
			gq__failf(Q_ERR_INVALID_ARG,
				  "environment variable GPUQ_LOG is '%s'; allowed: error, warning, "
				  "info, debug",
				  value);
			return false;
		}
	}
	__atomic_store_n(&log_level, level, __ATOMIC_RELAXED);
	return true;
}
