/* SPDX-License-Identifier: Apache-2.0 */
/*
 * moody.c - a processor that does what the message says: "fail N" fails with N, "sleep MS" takes
 * that long, "crash" raises SIGSEGV, "hang" never ends. It answers with the message itself.
 */
#include <gpuq/processor.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void pause_ms(long ms)
{
	const struct timespec time = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	nanosleep(&time, NULL);
}

static int *volatile wild;

void process_message(const MsgView *in, ResultView *out)
{
	char text[32] = "";

	memcpy(text, in->payload, in->len < sizeof(text) - 1 ? in->len : sizeof(text) - 1);
	if (strncmp(text, "fail ", 5) == 0)
		*out->status = (uint32_t)strtoul(text + 5, NULL, 10);
	else if (strncmp(text, "sleep ", 6) == 0)
		pause_ms(strtol(text + 6, NULL, 10));
	else if (strncmp(text, "crash", 5) == 0)
		*wild = 1; /* what a wild pointer does */
	else if (strncmp(text, "hang", 4) == 0)
		pause_ms(3600000);
	memcpy(out->out, in->payload, in->len);
	*out->out_len = in->len;
}
