/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - the log: lines to the sink of q_set_log(), or to stderr. */
#include "host/base/log.h"

#include "device/protocol/atomics.h"
#include "host/base/error.h"
#include "host/base/sys.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const level_names[] = { "error", "warning", "info", "debug" };

/* A line under way to a sink, on the stack of the thread that logs it. */
struct line {
	struct line *next;
	uint64_t sink; /* the number of the sink it goes to */
	pthread_t thread;
};

/*
 * Function and user are one: both under the lock, copied together. The function is called without
 * the lock, while its line is listed; q_set_log() waits until no listed line goes to an earlier
 * sink. `sink_is_there` alone is read without the lock, so that a line which no sink wants costs
 * one load; it publishes nothing.
 */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	void (*fn)(int level, const char *text, void *user);
	void *user;
	uint64_t number; /* of sinks installed */
} log_sink;
static struct line *lines;
static uint64_t sink_is_there;
enum { NOT_READ = -2, NO_LEVEL = -1 };
static int log_level = NOT_READ; /* of the stderr sink, or one of these two */

static void lock_log(void)
{
	pthread_mutex_lock(&log_lock);
}

static void unlock_log(void)
{
	pthread_mutex_unlock(&log_lock);
}

static void unlock_log_in_child(void)
{
	lines = NULL; /* their threads do not exist in the child */
	pthread_mutex_unlock(&log_lock);
}

static void register_fork_handlers(void)
{
	pthread_atfork(lock_log, unlock_log, unlock_log_in_child);
}

/* A child of fork() finds the log's lock free, whatever the parent's threads did. Called before
 * there can be anything to log. */
static void guard_log(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, register_fork_handlers);
}

/* Under the lock: whether another thread is inside an earlier sink. */
static bool earlier_is_used(uint64_t number)
{
	for (const struct line *l = lines; l != NULL; l = l->next)
		if (l->sink < number && !pthread_equal(l->thread, pthread_self()))
			return true;
	return false;
}

void q_set_log(void (*fn)(int level, const char *text, void *user), void *user)
{
	uint64_t number;

	guard_log();
	pthread_mutex_lock(&log_lock);
	number = ++log_sink.number;
	log_sink.fn = fn;
	log_sink.user = user;
	gq_store_relaxed_u64(&sink_is_there, fn != NULL);
	while (earlier_is_used(number)) {
		pthread_mutex_unlock(&log_lock);
		gq_sys_nap(100000);
		pthread_mutex_lock(&log_lock);
	}
	pthread_mutex_unlock(&log_lock);
}

static void unlist(const struct line *line)
{
	pthread_mutex_lock(&log_lock);
	for (struct line **at = &lines; *at != NULL; at = &(*at)->next) {
		if (*at == line) {
			*at = line->next;
			break;
		}
	}
	pthread_mutex_unlock(&log_lock);
}

/* @return false: there is no sink. */
static bool to_sink(int level, const char *text)
{
	void (*fn)(int level, const char *text, void *user);
	struct line line = { .thread = pthread_self() };
	void *user;

	pthread_mutex_lock(&log_lock);
	fn = log_sink.fn;
	user = log_sink.user;
	if (fn != NULL) {
		line.sink = log_sink.number;
		line.next = lines;
		lines = &line;
	}
	pthread_mutex_unlock(&log_lock);
	if (fn == NULL)
		return false;
	fn(level, text, user);
	unlist(&line);
	return true;
}

/* The level that GPUQ_LOG names; NO_LEVEL: it is unset, or empty; NOT_READ: it names none. */
static int named_level(const char *value)
{
	if (value == NULL || value[0] == '\0')
		return NO_LEVEL;
	for (int i = 0; i < 4; i++)
		if (strcmp(value, level_names[i]) == 0)
			return i;
	return NOT_READ;
}

/* q_init() reads the variable, and refuses what it does not know. In a program that has no queue
 * (rings log, too) the first line reads it, and what is not known counts as unset. */
static int stderr_level(void)
{
	int level = __atomic_load_n(&log_level, __ATOMIC_RELAXED);

	if (level != NOT_READ)
		return level;
	guard_log();
	level = named_level(getenv("GPUQ_LOG"));
	if (level == NOT_READ)
		level = NO_LEVEL;
	__atomic_store_n(&log_level, level, __ATOMIC_RELAXED);
	return level;
}

void gq__log(int level, const char *format, ...)
{
	const bool to_stderr = level <= stderr_level();
	char text[512], line[600];
	va_list args;
	int n;

	if (gq_load_relaxed_u64(&sink_is_there) == 0 && !to_stderr)
		return;
	GQ_NO_CANCEL(); /* the sink is not ours, and writes */
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (to_sink(level, text) || !to_stderr)
		return;
	n = snprintf(line, sizeof(line), "gpuq: %s: %s\n", level_names[level], text);
	(void)gq__write_quietly(STDERR_FILENO, line, (size_t)n);
}

bool gq__log_from_environment(void)
{
	const char *value = getenv("GPUQ_LOG");
	const int level = named_level(value);

	guard_log();
	if (level == NOT_READ) {
		gq__failf(
			Q_ERR_INVALID_ARG,
			"environment variable GPUQ_LOG is '%.64s'; allowed: error, warning, info, "
			"debug",
			value);
		return false;
	}
	__atomic_store_n(&log_level, level, __ATOMIC_RELAXED);
	return true;
}
