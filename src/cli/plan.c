/* SPDX-License-Identifier: Apache-2.0 */
/* plan.c - how large the queue of a run is: what was asked for, and what the files suggest. */
#include "plan.h"

#include "cli.h"
#include "processors.h"

#include <gpuq/gpuq.h>

#include <stdlib.h>

#define DEFAULT_SLOTS      1024u
#define DEFAULT_SLOT_BYTES 4096u
#define MIN_RESULT_BYTES   4096u /* of the default: a digest is longer than a one-byte message */

/* Unless the user says so, slots and results together take no more than this. */
#define DEFAULT_MEMORY_BYTES ((uint64_t)256 << 20)

/*
 * A file goes in pieces of this size: large enough that handing one over costs nothing beside the
 * work on it, and small enough to stay in a CPU's cache from the copy to the consumer.
 */
#define PIECE_BYTES 262144u

/* So many pieces keep CPUs busy; more of them would only fall out of the cache. */
#define CPU_SLOTS 64u

/* An empty file may be one of those that do not tell their size, as in /proc: room for these. */
#define UNTOLD_BYTES 65536u

static uint32_t larger(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

static void plan_pieces(const struct run_options *o, const struct named_processor *p,
			const struct input_survey *files, struct plan *out)
{
	const bool whole_fit = !files->has_unknown && files->largest <= PIECE_BYTES;
	uint32_t piece = PIECE_BYTES;

	if (o->slot_bytes != 0)
		piece = o->slot_bytes - p->state_bytes;
	else if (whole_fit)
		piece = larger((uint32_t)files->largest,
			       files->has_empty ? UNTOLD_BYTES : DEFAULT_SLOT_BYTES);
	if (o->slot_bytes == 0)
		piece += p->piece_multiple - 1; /* a smaller one would cut the largest file */
	out->piece_bytes = piece / p->piece_multiple * p->piece_multiple;
	out->state_bytes = p->state_bytes;
	if (out->slot_bytes == 0)
		out->slot_bytes = out->piece_bytes + out->state_bytes;
	if (out->result_bytes == 0)
		out->result_bytes = MIN_RESULT_BYTES;
}

/* No longer file can be processed: say which there are, before anything has been done. */
static int refuse_too_long(const struct run_options *o, const struct input *in)
{
	for (size_t i = 0; i < in->count; i++) {
		const uint64_t bytes = input_bytes_of(in, i);

		if (bytes > Q_MAX_SLOT_BYTES)
			warn_line("%s: file of %llu bytes is longer than a message can be (%u), "
				  "and %s does not take a file in pieces",
				  in->names[i], (unsigned long long)bytes, Q_MAX_SLOT_BYTES,
				  o->processor);
	}
	return CLI_USAGE;
}

static int plan_whole_files(const struct run_options *o, const struct input *in,
			    const struct input_survey *files, struct plan *out)
{
	if (out->slot_bytes != 0)
		return CLI_OK; /* a file that is longer fails by itself */
	if (files->largest > Q_MAX_SLOT_BYTES)
		return refuse_too_long(o, in);
	out->slot_bytes = larger((uint32_t)files->largest,
				 files->has_empty ? UNTOLD_BYTES : DEFAULT_SLOT_BYTES);
	if (files->has_unknown)
		out->slot_bytes = Q_MAX_SLOT_BYTES;
	return CLI_OK;
}

/* It can, and what was asked for leaves room for a state. */
static bool takes_pieces(const struct run_options *o, const struct named_processor *p)
{
	return p && p->state_bytes != 0 &&
	       (o->slot_bytes == 0 || o->slot_bytes >= p->state_bytes + p->piece_multiple) &&
	       (o->result_bytes == 0 || o->result_bytes >= p->state_bytes);
}

static int plan_files(const struct run_options *o, const struct input *in, struct plan *out)
{
	const struct named_processor *p = find_processor(o->processor);
	struct input_survey files;

	input_look(in, &files);
	if (takes_pieces(o, p)) {
		plan_pieces(o, p, &files, out);
		return CLI_OK;
	}
	return plan_whole_files(o, in, &files, out);
}

/* As many as fit into the default memory; of files never more than there are. */
static uint32_t default_slots(const struct run_options *o, const struct input *in,
			      const struct plan *plan, uint32_t cpus)
{
	const uint64_t each = (uint64_t)plan->slot_bytes + plan->result_bytes;
	uint32_t slots = DEFAULT_SLOTS;

	while (slots > 1 && slots * each > DEFAULT_MEMORY_BYTES)
		slots /= 2;
	if (o->split != SPLIT_FILES)
		return slots;
	while (slots > 1 && slots / 2 >= in->count)
		slots /= 2;
	if (cpus != 0 && plan->piece_bytes != 0) {
		while (slots > CPU_SLOTS && slots / 2 >= 8 * (uint64_t)cpus)
			slots /= 2;
	}
	return slots;
}

int plan_make(const struct run_options *o, const struct input *in, uint32_t cpus, struct plan *out)
{
	*out = (struct plan){
		.slots = o->slots,
		.slot_bytes = o->slot_bytes,
		.result_bytes = o->result_bytes,
		.consumers = o->consumers,
	};
	if (o->split == SPLIT_FILES) {
		const int code = plan_files(o, in, out);

		if (code != CLI_OK)
			return code;
	} else if (out->slot_bytes == 0) {
		out->slot_bytes = o->split == SPLIT_BYTES ? o->piece_bytes : DEFAULT_SLOT_BYTES;
	}
	if (out->result_bytes == 0)
		out->result_bytes = larger(out->slot_bytes, MIN_RESULT_BYTES);
	if (out->slots == 0)
		out->slots = default_slots(o, in, out, cpus);
	/* GPUQ_CONSUMERS has its say before all CPUs do */
	if (out->consumers == 0 && cpus != 0) {
		const char *said = getenv("GPUQ_CONSUMERS");

		if (!said || said[0] == '\0')
			out->consumers = cpus < Q_MAX_CONSUMERS ? cpus : Q_MAX_CONSUMERS;
	}
	return CLI_OK;
}
