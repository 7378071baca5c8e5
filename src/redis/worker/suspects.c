/* SPDX-License-Identifier: Apache-2.0 */
/* suspects.c - memory that execve(2) does not take away, and the handler that calls it. */
#define _GNU_SOURCE
#include "suspects.h"

#include "memfd.h"
#include "program/program.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESTART_VARIABLE "GPUQ_REDIS_RESTART"

static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS };

static struct suspects *memory;
static char **arguments;

/* What one worker has, rounded up so that the next one's is aligned. */
static size_t bytes_for(uint32_t capacity)
{
	const size_t bytes = sizeof(struct suspects) +
			     capacity * (sizeof(struct stream_id) + sizeof(struct suspect));

	return (bytes + 63) & ~(size_t)63;
}

static int inherited_fd(void)
{
	const char *text = getenv(RESTART_VARIABLE);
	char *end;
	long fd;

	if (!text || text[0] < '0' || text[0] > '9')
		return -1;
	fd = strtol(text, &end, 10);
	return *end == '\0' && fd > 2 && fd < 1 << 20 ? (int)fd : -1;
}

/* That of the process before has the size and the capacity that this one asks for. */
static bool fits(int fd, uint32_t capacity, uint32_t count)
{
	struct stat st;
	uint32_t found = 0;

	return fd >= 0 && fstat(fd, &st) == 0 &&
	       (size_t)st.st_size == count * bytes_for(capacity) &&
	       pread(fd, &found, sizeof(found), offsetof(struct suspects, capacity)) ==
		       (ssize_t)sizeof(found) &&
	       found == capacity;
}

struct suspects *suspects_at(struct suspects *first, uint32_t number)
{
	return (struct suspects *)((char *)first + number * bytes_for(first->capacity));
}

static void lay_out(struct suspects *s, uint32_t capacity)
{
	s->capacity = capacity;
	s->search.capacity = capacity;
	s->running = (struct stream_id *)(s + 1);
	s->list = (struct suspect *)(s->running + capacity);
}

struct suspects *suspects_open(uint32_t capacity, uint32_t count, bool *out_reborn)
{
	const size_t bytes = count * bytes_for(capacity);
	int fd = inherited_fd();
	struct suspects *s;
	char number[16];

	*out_reborn = fits(fd, capacity, count);
	if (!*out_reborn) {
		fd = gq_memfd("gpuq-redis", 0);
		if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0) {
			warn_line("no memory for the suspects: %s", strerror(errno));
			return NULL;
		}
	}
	s = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (s == MAP_FAILED) {
		warn_line("no memory for the suspects: %s", strerror(errno));
		return NULL;
	}
	lay_out(s, capacity);
	for (uint32_t i = 1; i < count; i++)
		lay_out(suspects_at(s, i), capacity);
	snprintf(number, sizeof(number), "%d", fd);
	if (setenv(RESTART_VARIABLE, number, 1) != 0)
		return NULL;
	return s;
}

void suspects_restart(struct suspects *s)
{
	s->deaths++;
	execve("/proc/self/exe", arguments, environ);
}

static void on_fatal(int number)
{
	memory->reason = number;
	suspects_restart(memory);
	_exit(128 + number);
}

bool suspects_arm(struct suspects *s, char **argv)
{
	struct sigaction action = { .sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND };

	memory = s;
	arguments = argv;
	sigfillset(&action.sa_mask);
	for (size_t i = 0; i < sizeof(fatal) / sizeof(fatal[0]); i++) {
		if (sigaction(fatal[i], &action, NULL) != 0)
			return false;
	}
	return true;
}

void suspects_unblock(void)
{
	sigset_t none;

	sigemptyset(&none);
	if (getenv(RESTART_VARIABLE))
		sigprocmask(SIG_SETMASK, &none, NULL);
}
