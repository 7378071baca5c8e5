/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - what every subcommand needs around its command line: errors, the clock. */
#define _GNU_SOURCE
#include "program.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* A path of PATH_MAX, and what is said about it. */
enum { TEXT_BYTES = 6144 };

/*
 * Whether a byte is, or begins, one of the control characters that Latin-1 and Unicode have beside
 * ASCII's, U+0080 to U+009F: terminals obey some of them. The same bytes are part of other
 * characters in UTF-8. @param left  of the character that has begun, in bytes; 0 at first
 */
static bool is_c1(const unsigned char *at, unsigned *left)
{
	const unsigned char c = at[0];

	if (*left != 0 && (c & 0xc0) == 0x80) {
		--*left;
		return false;
	}
	*left = c >= 0xf0 && c <= 0xf4 ? 3 : c >= 0xe0 ? 2 : c >= 0xc2 ? 1 : 0;
	if (c > 0xf4)
		*left = 0;
	if (c != 0xc2 || at[1] < 0x80 || at[1] > 0x9f)
		return c >= 0x80 && c <= 0x9f;
	*left = 0; /* the next byte is shown, too */
	return true;
}

/* A name may have any character, and what is said is one line, without control characters but tabs.
 */
static void make_text(char *to, const char *format, va_list args)
{
	char text[TEXT_BYTES];
	char *at = to;
	unsigned left = 0;

	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): the callers have started it */
	vsnprintf(text, sizeof(text), format, args);
	for (const char *from = text; *from != '\0' && at < to + TEXT_BYTES - 5; from++) {
		const unsigned char c = (unsigned char)*from;
		const bool c1 = is_c1((const unsigned char *)from, &left); /* sees each byte */

		if (c == '\n')
			at += sprintf(at, "\\n");
		else if (c1 || (c < ' ' && c != '\t') || c == 0x7f)
			at += sprintf(at, "\\x%02x", c);
		else
			*at++ = *from;
	}
	*at = '\0';
}

void (*program_before_line)(void);

void warn_line(const char *format, ...)
{
	char text[TEXT_BYTES];
	va_list args;

	va_start(args, format);
	make_text(text, format, args);
	va_end(args);
	if (program_before_line)
		program_before_line();
	fprintf(stderr, "%s: %s\n", program_name,
		text); /* one call, so that the line is not torn apart */
}

void warn_lines(const char *before, const char *lines)
{
	while (*lines != '\0') {
		const int length = (int)strcspn(lines, "\n");

		warn_line("%s%.*s", before, length, lines);
		lines += length + (lines[length] != '\0');
		before = "";
	}
}

int usage_error(const char *command, const char *format, ...)
{
	const char *space = command[0] != '\0' ? " " : ""; /* gpuqd has no commands */
	char text[TEXT_BYTES];
	va_list args;

	va_start(args, format);
	make_text(text, format, args);
	va_end(args);
	fprintf(stderr, "%s%s%s: %s\nTry '%s%s%s --help'.\n", program_name, space, command, text,
		program_name, space, command);
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

bool options_read(const struct option_set *set, int argc, char **argv, void *to, int *code)
{
	int option;

	*code = 0;
	opterr = 0;
	while ((option = getopt_long(argc, argv, set->shorts, set->longs, NULL)) != -1) {
		if (option == 'h') {
			fputs(set->help, stdout);
			return false;
		}
		*code = option == '?' || option == ':' ? option_error(set->command, option, argv)
						       : set->take(option, optarg, to);
		if (*code != 0)
			return false;
	}
	return true;
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
