/* SPDX-License-Identifier: Apache-2.0 */
/* brevity.c - whether a processor is quick enough for a dispatcher to run it itself. */
#include "brevity.h"

enum { SIXTEENTHS = 16, MOST = 8 };

void gq__brevity_init(struct gq_brevity *b, uint64_t limit_ns)
{
	*b = (struct gq_brevity){ .limit_ns = limit_ns, .penalty = GQ_BREVITY_REST };
}

static void rest(struct gq_brevity *b)
{
	b->rest = b->penalty;
	b->penalty = b->penalty < GQ_BREVITY_REST_MOST / 2 ? 2 * b->penalty : GQ_BREVITY_REST_MOST;
	b->short_runs = 0;
	b->seen = 0;
	b->mean = 0;
}

static void ran(struct gq_brevity *b, uint64_t ns)
{
	b->mean = b->mean - b->mean / SIXTEENTHS + ns;
	b->seen += b->seen < GQ_BREVITY_REST;
	if (b->mean > SIXTEENTHS * b->limit_ns) {
		rest(b);
		return;
	}
	if (++b->short_runs < b->penalty)
		return;
	b->short_runs = 0;
	b->penalty = b->penalty / 2 > GQ_BREVITY_REST ? b->penalty / 2 : GQ_BREVITY_REST;
}

void gq__brevity_ran(struct gq_brevity *b, uint32_t runs, uint64_t ns)
{
	const uint64_t most = MOST * b->limit_ns, all = ns < most ? ns : most;

	for (uint32_t i = 0; i < runs && gq_brevity_may_run(b); i++)
		ran(b, all / runs);
}

void gq__brevity_failed(struct gq_brevity *b, uint64_t used_ns)
{
	if (used_ns < MOST * b->limit_ns)
		gq__brevity_ran(b, 1, UINT64_MAX);
	else
		rest(b);
}

void gq__brevity_handed_on(struct gq_brevity *b)
{
	if (b->rest != 0)
		b->rest--;
}
