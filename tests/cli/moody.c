/* SPDX-License-Identifier: Apache-2.0 */
/* moody.c - a processor for tests of the command: sleeps and fails when the message says so. */
#include <gpuq/processor.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int *volatile wild; /* what a bug's pointer is */

static int begins_with(const MsgView *in, const char *word)
{
	const size_t length = strlen(word);

	return in->len >= length && memcmp(in->payload, word, length) == 0;
}

static void sleep_ms(const MsgView *in, size_t skip)
{
	char digits[16] = "";
	size_t length = in->len - skip;
	long ms;
	struct timespec left;

	if (length > sizeof(digits) - 1)
		length = sizeof(digits) - 1;
	memcpy(digits, in->payload + skip, length);
	ms = strtol(digits, NULL, 10);
	left.tv_sec = ms / 1000;
	left.tv_nsec = ms % 1000 * 1000000;
	nanosleep(&left, NULL);
}

static void touch(const MsgView *in, size_t skip)
{
	char name[64] = "";
	FILE *file;

	if (in->len - skip < sizeof(name))
		memcpy(name, in->payload + skip, in->len - skip);
	file = fopen(name, "w");
	if (file)
		fclose(file);
}

/* "F N": creates the file F, and from then on takes N ms. */
static void begin(const MsgView *in, size_t skip)
{
	MsgView name = *in;
	const char *space = memchr(in->payload + skip, ' ', in->len - skip);

	if (space == NULL)
		return;
	name.len = (uint32_t)(space - (const char *)in->payload);
	touch(&name, skip);
	sleep_ms(in, name.len + 1);
}

/*
 * "fail..." fails; "long..." makes a result that does not fit; "sleep N ..." takes N ms; "touch F"
 * creates the file F; "begin F N" does both; "data" answers with the processor data up to its first
 * NUL; "crash" writes where it must not. Everything else comes back as it is.
 */
void process_message(const MsgView *in, ResultView *out)
{
	const void *from = in->payload;
	uint32_t length = in->len;

	if (begins_with(in, "sleep "))
		sleep_ms(in, strlen("sleep "));
	if (begins_with(in, "begin "))
		begin(in, strlen("begin "));
	if (begins_with(in, "touch "))
		touch(in, strlen("touch "));
	if (begins_with(in, "crash"))
		*wild = 1;
	if (begins_with(in, "fail")) {
		*out->status = 1;
		return;
	}
	if (begins_with(in, "long")) {
		*out->out_len = out->cap + 1;
		return;
	}
	if (begins_with(in, "data")) {
		from = in->user ? in->user : "no data";
		length = (uint32_t)strlen(from);
	}
	if (length <= out->cap)
		memcpy(out->out, from, length);
	*out->out_len = length;
}
