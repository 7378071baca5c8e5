/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - what every subcommand needs around its command line: errors, the clock. */
#define _GNU_SOURCE
#include "program.h"

#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void (*program_before_line)(void);

void warn_line(const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it has been started */
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (program_before_line)
		program_before_line();
	fprintf(stderr, "%s: %s\n", program_name,
		text); /* one call, so that the line is not torn apart */
}

int usage_error(const char *command, const char *format, ...)
{
	char text[1024];
	va_list args;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it has been started */
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fprintf(stderr, "%s %s: %s\nTry '%s %s --help'.\n", program_name, command, text,
		program_name, command);
	return PROGRAM_USAGE;
}

int option_error(const char *command, int result, char **argv)
{
	const char *given = argv[optind - 1];

	if (strncmp(given, "--", 2) != 0 && optopt != 0) {
		if (result == ':')
			return usage_error(command, "option -%c needs a value", optopt);
		return usage_error(command, "unknown option -%c", optopt);
	}
	if (result == ':')
		return usage_error(command, "option %s needs a value", given);
	if (optopt != 0)
		return usage_error(command, "option %.*s takes no value", (int)strcspn(given, "="),
				   given);
	return usage_error(command, "unknown or ambiguous option %s", given);
}

uint32_t cpus_available(void)
{
	cpu_set_t set;
	long online;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		return (uint32_t)CPU_COUNT(&set);
	online = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than a cpu_set_t holds */
	return online > 0 ? (uint32_t)online : 1;
}

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
