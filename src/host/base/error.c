/* SPDX-License-Identifier: Apache-2.0 */
/* error.c - the calling thread's last error, and the texts of statuses and version. */
#include "host/base/error.h"

#include "device/protocol/atomics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the last error ------------------------------------------------------------------------ */

/*
 * The sentence is either a constant or in the thread's buffer; a polling loop never formats one.
 * The buffer is made when a thread formats its first: as a thread-local array it would be part of
 * every thread, and of what the loader must find room for when the library is opened late.
 */
static _Thread_local const char *last_error = "";

static pthread_key_t buffer_key;
static bool has_key;
static uint64_t room_refused; /* by tests */

static void free_buffer(void *buffer)
{
	last_error = "";
	free(buffer);
}

static void make_key(void)
{
	has_key = pthread_key_create(&buffer_key, free_buffer) == 0;
}

/* Before the code goes: a library that is part of a plug-in can be closed. */
__attribute__((destructor)) static void delete_key(void)
{
	if (!has_key)
		return;
	free_buffer(pthread_getspecific(buffer_key));
	pthread_setspecific(buffer_key, NULL);
	pthread_key_delete(buffer_key);
}

/* This thread's, if it has one. */
static char *old_buffer(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, make_key);
	return has_key ? pthread_getspecific(buffer_key) : NULL;
}

/* This thread's, GQ_ERROR_ROOM bytes; NULL: there is none to be had. */
static char *thread_buffer(void)
{
	char *buffer = old_buffer();

	if (gq_load_relaxed_u64(&room_refused) != 0)
		return NULL;
	if (buffer != NULL || !has_key)
		return buffer;
	buffer = malloc(GQ_ERROR_ROOM);
	if (buffer != NULL && pthread_setspecific(buffer_key, buffer) != 0) {
		free(buffer);
		buffer = NULL;
	}
	return buffer;
}

void gq__error_refuse_room(bool refuse)
{
	gq_store_relaxed_u64(&room_refused, refuse);
}

QueueStatus gq__fail(QueueStatus status, const char *sentence)
{
	last_error = sentence;
	return status;
}

QueueStatus gq__failf(QueueStatus status, const char *format, ...)
{
	char text[GQ_ERROR_ROOM]; /* an argument may point into the buffer */
	char *buffer = thread_buffer();
	va_list args;

	if (buffer == NULL) /* the status's own words are constant */
		return gq__fail(status, q_status_string(status));
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	memcpy(buffer, text, sizeof(text));
	last_error = buffer;
	return status;
}

QueueStatus gq__check_reserved(const char *name, const void *elements, size_t count, size_t size)
{
	for (size_t i = 0; i < count; i++) {
		uint64_t value = 0;

		memcpy(&value, (const uint8_t *)elements + i * size, size);
		if (value != 0)
			return gq__failf(Q_ERR_INVALID_ARG,
					 "%s[%zu] is %" PRIu64
					 "; allowed: 0 (is the caller newer than this library?)",
					 name, i, value);
	}
	return Q_OK;
}

const char *q_last_error(void)
{
	return last_error;
}

void gq__error_keep(struct gq_error *e)
{
	const char *buffer = old_buffer();

	e->sentence = last_error;
	e->is_formatted = buffer != NULL && last_error == buffer;
	if (e->is_formatted)
		memcpy(e->text, buffer, sizeof(e->text));
}

void gq__error_put_back(const struct gq_error *e)
{
	if (e->is_formatted)
		memcpy(old_buffer(), e->text, sizeof(e->text));
	last_error = e->sentence;
}

/* ---- words that are constant --------------------------------------------------------------- */

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
