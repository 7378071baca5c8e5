/* SPDX-License-Identifier: Apache-2.0 */
/* run.c - a run in virtual time, and what came of it. */
#include "machine.h"

#include <stdlib.h>
#include <string.h>

struct vt_machine vt_m;

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The round trips of each `step`-th message. */
static void percentiles(uint64_t *trip, uint64_t step, uint64_t *p50_ns, uint64_t *p99_ns)
{
	uint64_t n = 0;

	for (uint64_t i = step - 1; i < vt_m.s->messages; i += step)
		if (vt_m.done_ns[i] != 0)
			trip[n++] = vt_m.done_ns[i] - vt_m.sent_ns[i];
	if (n == 0)
		return;
	qsort(trip, n, sizeof(*trip), by_value);
	*p50_ns = trip[n / 2];
	*p99_ns = trip[n - 1 - n / 100];
}

static struct vt_result sum_up(const struct vt_scenario *s)
{
	struct vt_result r = { .counts = vt_m.counts, .done = vt_m.reaped, .stalls = vt_m.stalls };
	const uint64_t from = vt_m.reaped / 4;
	uint64_t *trip = calloc(s->messages, sizeof(*trip)), n = 0, last = 0, first = UINT64_MAX;

	percentiles(trip, 1, &r.p50_ns, &r.p99_ns);
	if (s->urgent != 0)
		percentiles(trip, s->urgent, &r.urgent_p50_ns, &r.urgent_p99_ns);
	/* What has completed after the first quarter. */
	for (uint64_t i = 0; i < s->messages; i++) {
		if (vt_m.done_ns[i] != 0)
			trip[n++] = vt_m.done_ns[i];
		last = vt_m.done_ns[i] > last ? vt_m.done_ns[i] : last;
	}
	qsort(trip, n, sizeof(*trip), by_value);
	first = trip[from];
	r.millions = (double)(vt_m.reaped - from) * 1000 / (double)(last - first);
	r.gone_ns = vt_m.gone_ns > last ? vt_m.gone_ns - last : 0;
	free(trip);
	return r;
}

struct vt_result vt_run(const struct vt_scenario *s)
{
	const uint32_t warps = s->image->block_threads / 32, blocks = s->units / warps;
	void **shared = calloc(blocks, sizeof(*shared));
	struct vt_result r;

	memset(&vt_m, 0, sizeof(vt_m));
	vt_m.s = s;
	vt_begin_costs();
	vt_begin_host();
	vt_begin_fibers(s->units + 2);
	vt_add_fiber(s->flag ? vt_ask : vt_produce, (struct vt_self){ 0 });
	vt_add_fiber(vt_consume, (struct vt_self){ 0 });
	for (uint32_t b = 0; b < blocks; b++) {
		shared[b] = calloc(1, s->image->shared_bytes);
		for (uint32_t w = 0; w < warps; w++)
			vt_add_fiber(s->flag ? vt_answer : vt_unit,
				     (struct vt_self){ b, blocks, w * 32, warps * 32, shared[b] });
	}
	vt_run_fibers();
	r = sum_up(s);
	vt_end_fibers();
	for (uint32_t b = 0; b < blocks; b++)
		free(shared[b]);
	free(shared);
	vt_end_host();
	vt_end_costs();
	return r;
}
