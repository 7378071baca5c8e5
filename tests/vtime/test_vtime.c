/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_vtime.c - what a message costs the grid in virtual time: reads and writes across PCIe,
 * claims that fail, messages a second. Prints a row for each scenario and fails if one is worse
 * than what is recorded here. A change that makes it worse on purpose records its figures.
 *
 *   test_vtime            all rows
 *   test_vtime NAME...    these, even those that are not recorded
 */
#include "run.h"

#include <stdio.h>
#include <string.h>

/* The H200 that docs/results/2026-11-28-grid.md reckons with. */
#define COSTS                                                                                      \
	{                                                                                          \
		.round_trip = 1200, .tags = 330, .l2 = 200, .l2_busy = 2, .step = 20,              \
		.acquired = 40, .work = 20                                                         \
	}

/* What may not get worse, for each message. Of a row that is to collapse the other way round: so
 * many millions at most, and so many fail at least. */
struct bar {
	double reads, writes, failed; /* at most */
	double wholes;                /* at least: messages that came with the look */
	double millions;              /* a second, at least */
	uint64_t p50_ns, p99_ns;      /* at most; 0: a backlog, of which it says nothing */
};

/* So soon after its last message all units of a bounded grid have left. */
static const double leave_ns = 1700;

/* So long an urgent message takes at most, in a rush or a backlog of others; p99. */
static const double urgent_ns = 7600;

static const struct vt_image vt_flag = { 1, 32, 0, NULL };

static const struct row {
	const char *name;
	struct vt_scenario s;
	struct bar bar;
} rows[] = {
#define BACKLOG(image_, units_, messages_)                                                         \
	{                                                                                          \
		.image = &vt_##image_, .costs = COSTS, .units = units_, .scouts = 16, .order = 10, \
		.bytes = 64, .messages = messages_, .send_ns = 5, .take_ns = 5,                    \
		.begin_ns = 100000, .limit_ns = 20000000                                           \
	}
#define STALL(units_, messages_)                                                                   \
	{                                                                                          \
		.image = &vt_warp, .costs = COSTS, .units = units_, .scouts = 16, .order = 10,     \
		.bytes = 64, .messages = messages_, .send_ns = 5, .take_ns = 5,                    \
		.begin_ns = 100000, .limit_ns = 10000000, .stall_at = 5, .stall_class = 1,         \
		.stall_ns = 1000000000                                                             \
	}
/* One message in a hundred comes first, and the so-manieth unit that reads or claims these for all
 * stands still. */
#define FIRST(units_, messages_, in_, at_)                                                         \
	{                                                                                          \
		.image = &vt_warp, .costs = COSTS, .units = units_, .scouts = 16, .order = 10,     \
		.bytes = 64, .messages = messages_, .send_ns = 5, .take_ns = 5,                    \
		.begin_ns = 100000, .limit_ns = 10000000, .urgent = 100, .stall_at = at_,          \
		.stall_class = 3, .stall_in = in_, .stall_ns = 1000000000                          \
	}
/* As the grid was before there were runs, and few units looked at once: to be seen to collapse. */
#define ALONE(units_, messages_)                                                                   \
	{                                                                                          \
		.image = &vt_warp, .costs = COSTS, .units = units_, .scouts = units_, .order = 10, \
		.bytes = 64, .messages = messages_, .send_ns = 5, .take_ns = 5,                    \
		.begin_ns = 100000, .limit_ns = 20000000, .alone = true                            \
	}
#define BOUNDED(units_, messages_)                                                                 \
	{                                                                                          \
		.image = &vt_warp, .costs = COSTS, .units = units_, .scouts = 16, .order = 10,     \
		.bytes = 64, .messages = messages_, .send_ns = 5, .take_ns = 5, .begin_ns = 10000, \
		.limit_ns = 20000000, .alone = true, .bounded_ns = 1000000000                      \
	}
/* A grid without feeders: bounded, or by GPUQ_TUNE. */
#define UNFED(units_, messages_)                                                                   \
	{                                                                                          \
		.image = &vt_warp, .costs = COSTS, .units = units_, .scouts = 16, .order = 10,     \
		.bytes = 64, .messages = messages_, .send_ns = 5, .take_ns = 5,                    \
		.begin_ns = 100000, .limit_ns = 20000000, .alone = true                            \
	}
/* A stream of single messages, one each so many nanoseconds. */
#define STREAM(units_, messages_, every_)                                                          \
	{                                                                                          \
		.image = &vt_warp, .costs = COSTS, .units = units_, .scouts = 16, .order = 10,     \
		.bytes = 64, .messages = messages_, .send_ns = 5, .take_ns = 5,                    \
		.begin_ns = 100000, .limit_ns = 20000000, .every_ns = every_                       \
	}
#define LONE(image_, units_, bytes_, messages_)                                                    \
	{                                                                                          \
		.image = &vt_##image_, .costs = COSTS, .units = units_, .scouts = 16, .order = 10, \
		.bytes = bytes_, .messages = messages_, .send_ns = 30, .publish_ns = 15,           \
		.take_ns = 40, .begin_ns = 100000, .limit_ns = 20000000, .lone = true              \
	}
	{ "warp.4", BACKLOG(warp, 4, 1000), { 1.9, 3.0, 0.06, 0, 1.35, 0, 0 } },
	{ "warp.16", BACKLOG(warp, 16, 2000), { 1.3, 3.0, 0.05, 0, 6.0, 0, 0 } },
	{ "warp.64", BACKLOG(warp, 64, 4000), { 1.2, 3.0, 0.24, 0, 20.6, 0, 0 } },
	{ "warp.132", BACKLOG(warp, 132, 4000), { 1.2, 3.0, 1.3, 0, 33.5, 0, 0 } },
	{ "warp.528", BACKLOG(warp, 528, 4000), { 1.3, 3.0, 6.9, 0, 33.8, 0, 0 } },
	{ "alone.16", ALONE(16, 300), { 0, 0, 1, 0, 1, 0, 0 } },
	{ "alone.528", ALONE(528, 300), { 0, 0, 1, 0, 1, 0, 0 } },
	{ "unfed.132", UNFED(132, 1000), { 104, 3.9, 12.5, 0.98, 0.48, 0, 0 } },
	{ "unfed.528", UNFED(528, 600), { 105, 3.9, 12.7, 0.98, 0.48, 0, 0 } },
	/* The fifth unit that claims for others stands still before it has claimed, and is the one
	 * that reads for all. */
	{ "stall.64", STALL(64, 1000), { 1.8, 3.0, 0.31, 0, 14.9, 0, 0 } },
	{ "stall.132", STALL(132, 1000), { 2.1, 3.0, 1.3, 0, 17.2, 0, 0 } },
	{ "feed.64", FIRST(64, 4000, VT_IN_FEED, 1), { 1.2, 3.0, 0.68, 0, 17.4, 0, 0 } },
	{ "hold.64", FIRST(64, 4000, VT_IN_CLAIM, 8), { 1.3, 3.0, 0.61, 0, 15.4, 0, 0 } },
	/* The same, and nobody stands still. */
	{ "mixed.64", FIRST(64, 4000, VT_IN_CLAIM, 0), { 1.2, 3.0, 0.7, 0, 17.4, 0, 0 } },
	/* A bounded launch: how long after its last message all units have left. */
	{ "bounded.132", BOUNDED(132, 300), { 106, 3.9, 12.7, 0.98, 0.47, 0, 0 } },
	{ "bounded.528", BOUNDED(528, 300), { 106, 3.9, 12.7, 0.98, 0.47, 0, 0 } },
	/* Below what one unit brings for all, and above it. */
	{ "stream.64", STREAM(64, 4000, 60), { 1.6, 3.0, 0.35, 0, 16.5, 7700, 10600 } },
	/* By when the first message comes, p50 is from 7.1 to 7.7, p99 from 9.7 to 11.0. */
	{ "stream.132", STREAM(132, 4000, 60), { 1.7, 3.2, 1.6, 0, 16.7, 7300, 10100 } },
	{ "stream.528", STREAM(528, 4000, 60), { 1.7, 3.5, 4.8, 0, 16.7, 6600, 9100 } },
	{ "rush.132", STREAM(132, 4000, 40), { 1.3, 3.0, 1.0, 0, 25.0, 9700, 12900 } },
	{ "rush.528", STREAM(528, 4000, 40), { 1.3, 3.1, 5.3, 0, 24.5, 9300, 12300 } },
	/* A rush, of which one in a hundred comes first: these take no read of their own. */
	{ "mixed.132",
	  { .image = &vt_warp,
	    .costs = COSTS,
	    .units = 132,
	    .scouts = 16,
	    .order = 10,
	    .bytes = 64,
	    .messages = 4000,
	    .send_ns = 5,
	    .take_ns = 5,
	    .begin_ns = 100000,
	    .limit_ns = 20000000,
	    .every_ns = 40,
	    .urgent = 100 },
	  { 1.3, 3.0, 1.6, 0, 23.6, 12500, 18500 } },
	{ "thread.16", BACKLOG(thread, 16, 8000), { 1.3, 1.4, 0.02, 0, 11.0, 0, 0 } },
	/* Its failed claims are from 2.0 to 3.1, as the order of charges falls out. */
	{ "thread.528", BACKLOG(thread, 528, 4000), { 1.8, 1.4, 3.1, 0, 20.3, 0, 0 } },
	{ "flag",
	  { .image = &vt_flag,
	    .costs = { .round_trip = 1200, .tags = 330, .step = 20 },
	    .units = 1,
	    .flag = true,
	    .lone = true,
	    .order = 1,
	    .bytes = 8,
	    .messages = 200,
	    .limit_ns = 20000000 },
	  { 10, 1, 0, 0, 0.1, 1900, 2500 } },
	{ "warp.lone", LONE(warp, 132, 64, 500), { 299, 4.0, 16, 0.99, 0.2, 2190, 2800 } },
	/* Longer than a line with its header: the lines behind the first are read right behind the
	 * entries, or half of the messages would not be whole. */
	{ "warp.lone.512", LONE(warp, 132, 512, 500), { 466, 9.0, 16, 0.99, 0.2, 2250, 2850 } },
	/* Around a processor that does not say Q_RESULT_ONLY: the fence waits for the journal. */
	{ "fenced.lone", LONE(fenced, 132, 64, 200), { 380, 4.0, 16, 0.98, 0.16, 3270, 3850 } },
	{ "fenced.64", BACKLOG(fenced, 64, 4000), { 1.2, 3.0, 0.24, 0, 20.5, 0, 0 } },
	/* An idle grid that would park if one message did not run. */
	{ "warp.hang",
	  { .image = &vt_warp,
	    .costs = COSTS,
	    .units = 132,
	    .scouts = 16,
	    .order = 10,
	    .bytes = 64,
	    .messages = 31,
	    .send_ns = 30,
	    .publish_ns = 15,
	    .take_ns = 40,
	    .begin_ns = 100000,
	    .limit_ns = 40000000,
	    .lone = true,
	    .gap_ns = 300000,
	    .hang_ns = 12000000,
	    .park_ns = 200000 },
	  { 19000, 4.0, 11, 0.96, 0, 2270, 0 } },
};

enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
/* Another compiler, or other flags, charge in another order, and other units come first. */
static const double slack = 1.10;

static int worse(const char *name, const char *what, double is, double bar, bool at_most)
{
	if (at_most ? is <= bar * slack : is >= bar / slack)
		return 0;
	printf("%s: %s: %.2f; recorded: %.2f\n", name, what, is, bar);
	return 1;
}

static double best, last; /* millions a second: of the rows so far, of the last one */

static int run(const struct row *row)
{
	const struct vt_result r = vt_run(&row->s);
	const struct bar *bar = &row->bar;
	const double n = (double)r.done, reads = (double)r.counts.reads / n,
		     writes = (double)r.counts.writes / n,
		     failed = (double)(r.counts.failed + r.counts.missed) / n,
		     wholes = (double)r.counts.wholes / n;

	printf("| %-11s | %4u | %7.3f | %6.1f | %4.1f | %6.1f | %6.1f | %5.2f | %5.2f |", row->name,
	       row->s.units, r.millions, reads, writes, (double)r.counts.looks / n,
	       (double)(r.counts.claims + r.counts.takes) / n, failed, wholes);
	if (row->s.lone || row->s.every_ns != 0)
		printf(" %5.2f | %5.2f |\n", (double)r.p50_ns / 1000, (double)r.p99_ns / 1000);
	else
		printf("       |       |\n");
	if (row->s.bounded_ns != 0)
		printf("| %-11s | all units have left %.2f us after the last message |\n", "",
		       (double)r.gone_ns / 1000);
	if (row->s.urgent != 0)
		printf("| %-11s | urgent messages: p50 %.2f us, p99 %.2f us |\n", "",
		       (double)r.urgent_p50_ns / 1000, (double)r.urgent_p99_ns / 1000);
	fflush(stdout);
	if (r.done != row->s.messages) {
		printf("%s: %llu messages of %llu came back in time\n", row->name,
		       (unsigned long long)r.done, (unsigned long long)row->s.messages);
		return 1;
	}
	if (r.counts.most_left > r.counts.may_be_left) {
		printf("%s: %llu messages were claimed for others at once; a message of a higher "
		       "class waits for %llu at most\n",
		       row->name, (unsigned long long)r.counts.most_left,
		       (unsigned long long)r.counts.may_be_left);
		return 1;
	}
	if (r.stalls < row->s.stall_at) {
		printf("%s: nobody stood still: only %u units came by where the one of number %u "
		       "does\n",
		       row->name, r.stalls, row->s.stall_at);
		return 1;
	}
	const bool collapses = row->s.alone && row->s.scouts == row->s.units;

	best = !row->s.alone && r.millions > best ? r.millions : best;
	last = r.millions;
	if (collapses)
		return worse(row->name, "millions a second, of a collapse", r.millions,
			     bar->millions, true) +
		       worse(row->name, "failed claims a message, of a collapse", failed,
			     bar->failed, false);
	return (bar->p99_ns == 0 ? 0
				 : worse(row->name, "p99, ns", (double)r.p99_ns,
					 (double)bar->p99_ns, true)) +
	       worse(row->name, "reads a message", reads, bar->reads, true) +
	       worse(row->name, "writes a message", writes, bar->writes, true) +
	       worse(row->name, "failed claims a message", failed, bar->failed, true) +
	       worse(row->name, "whole read-aheads a message", wholes, bar->wholes, false) +
	       worse(row->name, "millions a second", r.millions, bar->millions, false) +
	       (row->s.urgent == 0 || row->s.stall_at != 0
			? 0
			: worse(row->name, "p99 of urgent messages, ns", (double)r.urgent_p99_ns,
				urgent_ns, true)) +
	       (row->s.bounded_ns == 0 ? 0
				       : worse(row->name, "until all have left, ns",
					       (double)r.gone_ns, leave_ns, true)) +
	       (bar->p50_ns != 0
			? worse(row->name, "p50, ns", (double)r.p50_ns, (double)bar->p50_ns, true)
			: 0);
}

int main(int argc, char **argv)
{
	int bad = 0;

	printf("| %-11s | %4s | %7s | %6s | %4s | %6s | %6s | %5s | %5s | %5s | %5s |\n", "row",
	       "unit", "M/s", "reads", "writ", "looks", "claims", "fail", "whole", "p50us",
	       "p99us");
	for (int i = 0; i < ROWS; i++) {
		bool wanted = argc == 1;

		for (int a = 1; a < argc; a++)
			wanted = wanted || strcmp(argv[a], rows[i].name) == 0;
		if (wanted)
			bad += run(&rows[i]);
		/* With four units on each of 132 multiprocessors it is no slower than with few. */
		if (wanted && strcmp(rows[i].name, "warp.528") == 0)
			bad += worse(rows[i].name, "of the best row", last / best, 0.8, false);
	}
	return bad != 0;
}
