/* SPDX-License-Identifier: Apache-2.0 */
/*
 * grid.cuh - the resident grid: the kernel that serves a queue, around the user's
 * process_message().
 *
 * Included at the end of every processor image, so that the user's function is inlined; compiled by
 * nvcc, by NVRTC and, for the stand-in driver, by a host compiler. In five files:
 *
 *   lanes.cuh    what a thread is, on a GPU and under the stand-in driver
 *   tally.cuh    what a unit counts of its own doings, in images that are built for it
 *   look.cuh     what a unit sees of the queue, and what it claims
 *   message.cuh  what it does with what it has claimed
 *   grid.cuh     when it parks, leaves, naps and stands still; what it answers; its loop
 */
#ifndef GPUQ_CUDA_GRID_GRID_CUH
#define GPUQ_CUDA_GRID_GRID_CUH

#include <gpuq/processor.h>

#if defined(Q_PROCESSOR_GLUE_) || defined(__CUDACC_RTC__)
Q_PROCESSOR_LOOK_(grid, "the processor's source ")
#endif

#include "device/cuda/grid/message.cuh"

/* ---- park ------------------------------------------------------------------------------------ */

/* One lane. */
GQ_DEV void gq_open_run(uint64_t *word)
{
	uint64_t shut = gq_load_relaxed_device_u64(word);

	/* A late unit may just ask for what was in it. [cursor.write] release: `park`, which the
	 * unit that closes next will write. */
	while ((shut & GQ_RUN_CLOSED) != 0 &&
	       !gq_cas_acq_rel_device_u64(word, shut, shut & ~GQ_RUN_CLOSED))
		shut = gq_load_relaxed_device_u64(word);
}

/* All that the last grid may have closed. One lane. */
GQ_DEV void gq_open_classes(struct gq_counters *k)
{
	for (uint32_t i = 0; i < GQ_CLASSES * GQ_RUNS; i++)
		gq_open_run(&k->run[i / GQ_RUNS][i % GQ_RUNS]);
}

/* What deciding to park has to know of a look. */
struct gq_ends {
	uint64_t cursor[GQ_CLASSES], passed, control;
	uint32_t next[GQ_CLASSES], live;
};

/*
 * Close a class, if nothing of it has been claimed since the look, nor is left: then the word that
 * the next run goes into is as it was, or a late unit has asked for what was in it. One lane.
 */
GQ_DEV bool gq_close_class(const struct gq_grid *g, const struct gq_ends *ends, uint32_t c)
{
	uint64_t *word = &g->counters->run[c][ends->next[c] % GQ_RUNS];
	const uint64_t open = gq_load_relaxed_device_u64(word);

	/* [cursor.read] acquire: the unit that decided before has written `park`. */
	return (open & GQ_RUN_CLOSED) == 0 && (ends->live >> c & 1) == 0 &&
	       gq_run_left(open) == 0 &&
	       gq_pos_diff(gq_run_pos(open, ends->cursor[c]) + gq_run_count(open),
			   ends->cursor[c]) <= 0 &&
	       gq_cas_acq_rel_device_u64(word, open, open | GQ_RUN_CLOSED);
}

/*
 * Leave, if the whole grid is idle. One lane.
 *
 * To close the four classes is to take the decision's lock, and no unit can claim meanwhile. If as
 * many messages have completed as were claimed, none is left in a run and no unit is inside one.
 * Then say LOOKING and look again ([sleep.look]). A publisher publishes and then looks at `park`
 * ([wake.look]), so that one of the two sees the other. A publisher that sees LOOKING waits for the
 * decision.
 */
GQ_DEV bool gq_try_park(const struct gq_grid *g, const struct gq_ends *ends, uint64_t launch)
{
	struct gq_counters *k = g->counters;
	uint32_t closed = 0;
	bool gone = false;

	/* While a message runs, or waits in a run, the decision would be no, and a class that is
	 * closed for it is in the way of others' claims. What counts is asked again below. */
	if (ends->live != 0 ||
	    ends->passed != gq_load_relaxed_device_u64(&k->done_tail) - g->start_pos)
		return false;
	/* Block 0 opens the classes when it begins, and it may begin after other blocks have been
	 * idle for long. A class closed before that would be opened again in the middle of the
	 * decision. [cursor.read] acquire: block 0's opening. (It is no acquiring load: those are
	 * for the host's words alone, so that the check of the PTX can tell them.) */
	if (gq_fetch_add_acq_rel_device_u64(&k->resident, 0) != launch * GQ_BLOCKS)
		return false;
	while (closed < GQ_CLASSES && gq_close_class(g, ends, closed))
		closed++;
	if (closed == GQ_CLASSES &&
	    ends->passed == gq_load_relaxed_device_u64(&k->done_tail) - g->start_pos) {
		GQ_WINDOW();
		gq_store_seq_cst_u64(&g->report->park, /* [sleep.look]: registers */
				     launch << GQ_PARK_BITS | GQ_PARK_LOOKING);
		GQ_WINDOW();
		/* [sleep.look] */
		gone = gq_load_seq_cst_u64(&g->orders->control) == ends->control;
		for (uint32_t c = 0; c < GQ_CLASSES; c++) {
			const struct gq_word_ring *r = &g->ch.ready[c];
			const uint64_t pos = ends->cursor[c];
			/* [sleep.look] */
			const uint64_t word = gq_load_seq_cst_u64(gq_word_ring_entry(r, pos));

			gone = gone && !gq_word_ring_is_at(r, word, pos);
		}
		if (!gone) /* [report.write] release: nothing but the word */
			gq_store_release_u64(&g->report->park,
					     launch << GQ_PARK_BITS | GQ_PARK_RUNNING);
	}
	if (!gone) {
		for (uint32_t c = 0; c < closed; c++)
			gq_open_run(&k->run[c][ends->next[c] % GQ_RUNS]);
		return false;
	}
	gq_store_relaxed_device_u64(&k->gone, launch);
	/* [report.write] release: the host launches the next grid, which finds all that this one
	 * did. */
	gq_store_release_u64(&g->report->park, launch << GQ_PARK_BITS | GQ_PARK_GONE);
	return true;
}

/* Leave, if the whole grid is idle and has been for long. `wants`: lane 0 says so. */
GQ_DEV bool gq_has_parked(const struct gq_grid *g, const struct gq_unit *u,
			  const struct gq_look *look, uint64_t launch, bool wants)
{
	struct gq_ends ends;
	bool gone = false;

	if (gq_from_lane_0(wants) == 0)
		return false;
	ends.passed = look->passed;
	ends.live = look->live;
	ends.control = gq_order(u, GQ_CONTROL);
	GQ_UNROLL
	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		ends.cursor[c] = gq_of_class(look->cursor, c);
		ends.next[c] = gq_of_class(look->next, c);
	}
	if (GQ_IS_LANE_0)
		gone = gq_try_park(g, &ends, launch);
	return gq_from_lane_0(gone) != 0;
}

/* ---- over ------------------------------------------------------------------------------------ */

/* Whether a bounded grid has served what it was launched for, or its time is over. One lane. */
GQ_DEV bool gq_is_over(const struct gq_grid *g, const struct gq_rare *rare, uint64_t passed,
		       uint64_t until)
{
	return g->bounded_ns != 0 &&
	       (gq_pos_diff(passed, until) >= 0 || gq_clock_ns() - rare->begun_ns >= g->bounded_ns);
}

/* The same for a unit that has just looked at the runs: these say it, so it need not ask the host.
 */
GQ_DEV bool gq_has_served(const struct gq_grid *g, const struct gq_rare *rare,
			  const struct gq_look *look, const struct gq_launch *launch)
{
	bool over = false;

	if (g->bounded_ns == 0)
		return false;
	if (GQ_IS_LANE_0)
		over = gq_is_over(g, rare, look->passed - look->left_in_all, launch->until);
	return gq_from_lane_0(over) != 0;
}

/* How many messages of a bounded grid have been claimed; there each unit takes what it claims. */
GQ_DEV uint64_t gq_passed(const struct gq_grid *g)
{
	struct gq_counters *k = g->counters;
	uint64_t passed = 0;

	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		const uint64_t near = gq_load_relaxed_device_u64(&k->cursor[c]);
		uint64_t last = 0;

		for (uint32_t i = 0; i < GQ_RUNS; i++) {
			const uint64_t word = gq_load_relaxed_device_u64(&k->run[c][i]);
			const uint64_t end = gq_run_behind(word, near) + gq_run_count(word);

			last = end > last ? end : last;
		}
		passed += near + last - GQ_RUN_POSITIONS / 2 - g->start_pos;
	}
	return passed;
}

/* The order names the last launch. Bounded launches before it may still wait in the stream. */
GQ_DEV bool gq_must_depart(uint64_t depart, uint64_t launch)
{
	return gq_pos_diff(depart, launch) >= 0;
}

/* ---- idle ------------------------------------------------------------------------------------ */

/*
 * Few units, the scouts, look across PCIe without a pause: if all did, they would fill the link
 * with reads. The others nap, and one of them becomes a scout when a scout goes to work. What the
 * scouts read of the orders they tell in device memory; a unit that naps looks across PCIe if there
 * is something to obey, or if nobody has told for long. Only speed depends on this.
 */
GQ_DEV void gq_stop_scouting(const struct gq_grid *g, struct gq_unit *u)
{
	if (u->scout && u->number != 0 && GQ_IS_LANE_0)
		gq_add_relaxed_device_u64(&g->counters->scouts, 0 - UINT64_C(1));
	u->scout = false;
}

GQ_DEV void gq_start_scouting(const struct gq_grid *g, struct gq_unit *u, uint32_t limit)
{
	uint64_t *scouts = &g->counters->scouts;
	/* The first unit answers the host, which measures it: a scout beside those that are
	 * counted. It is hardly ever among the first to find nothing, as block 0 opens the classes.
	 */
	bool in = u->number == 0;

	if (!in && GQ_IS_LANE_0 && gq_load_relaxed_device_u64(scouts) < limit) {
		in = gq_fetch_add_relaxed_device_u64(scouts, 1) < limit;
		if (!in)
			gq_add_relaxed_device_u64(scouts, 0 - UINT64_C(1));
	}
	u->scout = gq_from_lane_0(in) != 0;
}

enum { GQ_SILENCE_NS = 32000 };

/* Whether a unit that naps has to look across PCIe itself, by what others have told. */
GQ_DEV bool gq_is_called(const struct gq_look *look, uint64_t launch)
{
	const uint64_t told = gq_from(look->told, GQ_TOLD_CONTROL);

	return (told & (GQ_CONTROL_PAUSE | GQ_CONTROL_LEAVE)) != 0 ||
	       gq_must_depart(gq_from(look->told, GQ_TOLD_DEPART), launch) ||
	       gq_from(look->told, GQ_TOLD_GONE) == launch ||
	       /* Lanes may read different times: lane 0's counts. */
	       gq_from_lane_0(gq_told_age_ns(told, gq_clock_ns()) > GQ_SILENCE_NS) != 0;
}

/* Whether it is time to look. A unit that is no scout has napped. */
GQ_DEV bool gq_idle(const struct gq_grid *g, struct gq_unit *u, uint64_t idle_ns)
{
	if (!u->scout)
		gq_start_scouting(g, u, g->scouts);
	if (!u->scout) {
		gq_count(u, naps, 1);
		gq_nap(g->nap_ns);
		return false;
	}
	/* Each unit naps a little longer than its neighbour: if all took as long, those whose looks
	 * have once begun at the same time would look together from then on. */
	const uint32_t ns = (idle_ns >= 100000  ? g->nap_ns
			     : idle_ns >= 10000 ? 256
			     : idle_ns >= 2000  ? 32
						: 0) +
			    u->number * 29 % 128;

	if (ns != 0) {
		gq_count(u, naps, 1);
		gq_nap(ns);
	}
	return true;
}

/*
 * Acknowledge a pause and stand still until there are other orders. One lane. If the grid has
 * parked, the unit must not stand still: the next grid is launched already, and can acknowledge
 * only when this one has left. If the grid is over, it must not either: other units have left and
 * will not acknowledge.
 */
GQ_DEV void gq_stand_still(const struct gq_grid *g, const struct gq_unit *u,
			   const struct gq_rare *rare, uint64_t control,
			   const struct gq_launch *launch)
{
	/* [ack.write] release: all completions of the unit. */
	gq_store_release_u64(&g->ack[u->number], control);
	while (gq_load_acquire_u64(&g->orders->control) == control &&   /* [control.read] */
	       !gq_must_depart(gq_load_acquire_u64(&g->orders->depart), /* [control.read] */
			       launch->number) &&
	       gq_load_relaxed_device_u64(&g->counters->gone) != launch->number &&
	       !(g->bounded_ns != 0 && gq_is_over(g, rare, gq_passed(g), launch->until)))
		gq_nap(1000);
}

/* ---- answers --------------------------------------------------------------------------------- */

enum { GQ_MEASURED = 16 }; /* loads or stores that a measurement takes the mean of */

/* Lane 0's. The device's clock may have steps of a microsecond. */
GQ_DEV uint64_t gq_measure_reads(const struct gq_grid *g)
{
	const uint64_t begun = gq_clock_ns();

	/* nothing overtakes an acquire: one by one. [control.read] */
	for (int i = 0; i < GQ_MEASURED; i++)
		gq_load_acquire_u64(&g->orders->ping);
	return (gq_clock_ns() - begun) / GQ_MEASURED;
}

/* Lane 0's. */
GQ_DEV uint64_t gq_measure_releases(const struct gq_grid *g)
{
	const uint64_t begun = gq_clock_ns();

	for (uint64_t i = 0; i < GQ_MEASURED; i++) {
		gq_store_relaxed_u64(&g->report->scratch, i);
		/* [report.write]: only timed, no reader */
		gq_store_release_u64(&g->report->measured_ns, i);
	}
	return (gq_clock_ns() - begun) / GQ_MEASURED;
}

GQ_DEV uint64_t gq_measure_pull(const struct gq_grid *g, const struct gq_unit *u)
{
	const uint32_t bytes = g->slot_bytes < GQ_PULL_BYTES ? g->slot_bytes : GQ_PULL_BYTES;
	const uint64_t begun = gq_clock_ns();

	GQ_EACH_LANE(l)
	gq_move(gq_stage(g, u->number * g->batch), gq_payload_at(&g->ch, 0), bytes, l, 32);
	gq_sync_warp();
	return gq_clock_ns() - begun;
}

enum { GQ_ARRIVAL_NS = 100000000 }; /* for what takes microseconds */

/* Lane 0's: wait until the copy stream has written. @return a hash of what it has; 0: nothing. */
GQ_DEV uint64_t gq_measure_arrival(const struct gq_grid *g)
{
	const uint64_t begun = gq_clock_ns(),
		       wanted = gq_load_relaxed_u64(&g->orders->ping_arrival);
	const uint64_t *word = (const uint64_t *)(const void *)(g->copied + GQ_PAYLOAD_OFFSET);

	/* [copy.await] acquire: the copied bytes. */
	while (gq_pos_diff(gq_load_acquire_u64(&g->counters->arrived), wanted) < 0) {
		if (gq_clock_ns() - begun > GQ_ARRIVAL_NS)
			return 0;
		gq_nap(32);
	}
	return gq_seal_piece(g->ch.seal_key, 0, gq_load_relaxed_u64(&word[0]),
			     gq_load_relaxed_u64(&word[1]));
}

enum { GQ_MIRROR_NS = 2000000000 }; /* the host has less patience, and posts another ping */

/* Lane 0's: echo what comes through the CPU's mapping, line by line. @return how many lines did. */
GQ_DEV uint64_t gq_measure_mirror(const struct gq_grid *g, uint64_t ping)
{
	const gq_wide *line =
		(const gq_wide *)(const void *)((const uint8_t *)g->ch.hints - GQ_MIRROR_HEAD);
	uint64_t since = gq_clock_ns(), last = 0, n = 0;

	for (uint32_t turns = 1; n < GQ_MIRROR_TAGS; turns++) {
		uint64_t first = 0, seal = 0, found = 0;

		if (gq_clock_ns() - since > GQ_MIRROR_NS ||
		    (turns % 256 == 0 && gq_load_relaxed_u64(&g->orders->ping) != ping))
			break;

		/* As gq_seal_of_line(), but piece by piece, for the registers. */
		GQ_ROLLED
		for (uint32_t i = 0; i < 4; i++) {
			const gq_wide v = gq_read_ahead(&line[i]);

			first = i == 0 ? v.a : first;
			found = v.b;
			seal += gq_seal_piece(g->ch.seal_key, i, v.a, i == 3 ? 0 : v.b);
		}
		if (first == last || seal + gq_seal_id(g->ch.seal_key, first) != found) {
			gq_nap(32);
			continue;
		}
		last = first;
		n++;
		since = gq_clock_ns();
		gq_store_relaxed_u64(&g->report->scratch, last);
	}
	return n;
}

/* The grid's first unit: say what time it is, and what else the ping asks for. */
GQ_DEV void gq_answer(const struct gq_grid *g, const struct gq_unit *u, uint64_t ping)
{
	const uint32_t what = ping & (GQ_PING_STAY - 1);

	gq_sync_warp(); /* lane 0 reads what the lane that read the ping has acquired */
	uint64_t measured = what == GQ_PING_PULL ? gq_measure_pull(g, u) : 0;

	if (!GQ_IS_LANE_0)
		return;
	if (what == GQ_PING_READ)
		measured = gq_measure_reads(g);
	else if (what == GQ_PING_RELEASE)
		measured = gq_measure_releases(g);
	else if (what == GQ_PING_ARRIVAL)
		measured = gq_measure_arrival(g);
	else if (what == GQ_PING_MIRROR)
		measured = gq_measure_mirror(g, ping);
	gq_store_relaxed_u64(&g->report->measured_ns, measured);
	gq_store_relaxed_u64(&g->report->pong_ns, gq_clock_ns());
	gq_store_release_u64(&g->report->pong, ping); /* [report.write] */
}

enum { GQ_STALL_NS = 1000000 };

/* The grid's first unit has nothing to do. Count how often it was kept from running: this shows
 * that other processes have had the GPU. */
GQ_DEV void gq_watch_stalls(const struct gq_grid *g, const struct gq_rare *rare, uint64_t now)
{
	if (GQ_IS_LANE_0 && rare->looked_ns != 0 && now - rare->looked_ns > GQ_STALL_NS)
		gq_store_relaxed_u64(&g->report->stalls,
				     gq_load_relaxed_u64(&g->report->stalls) + 1);
}

/*
 * How many looks at the mirror a unit may take after a look across PCIe that has found nothing.
 * Orders can get as old as these looks take, and a message whose hint was missed is found as late:
 * 16 looks of about a microsecond, and as many naps of at most one. The first unit takes one look
 * only, as it answers pings, whose time is taken.
 */
enum { GQ_HINTS = 16 };

GQ_DEV uint32_t gq_hints_until_look(const struct gq_grid *g, const struct gq_unit *u, uint64_t ping)
{
	if (g->ch.hints == nullptr || !u->scout || (ping & GQ_PING_STAY) != 0)
		return 0;
	return u->number == 0 ? 1 : GQ_HINTS;
}

/* Note since when the unit has been idle. A message that another unit claims ends that, too. */
GQ_DEV void gq_count_idle(struct gq_unit *u, const struct gq_look *look, uint64_t now)
{
	if (u->idle_since_ns == 0 || look->passed != u->passed) {
		u->idle_since_ns = now;
		u->passed = look->passed;
	}
}

/* No message waits: answer a ping; then leave, or nap until it is time to look again. */
GQ_DEV uint32_t gq_have_nothing(const struct gq_grid *g, struct gq_unit *u, struct gq_rare *rare,
				const struct gq_look *look, uint64_t launch)
{
	const uint64_t now = gq_clock_ns(), ping = gq_order(u, GQ_PING);

	gq_count_idle(u, look, now);
	if (u->number == 0) {
		bool asked = false;

		gq_watch_stalls(g, rare, now);
		if (GQ_IS_LANE_0) {
			asked = ping != rare->pong;
			rare->pong = ping;
		}
		if (gq_from_lane_0(asked) != 0)
			gq_answer(g, u, ping);
	}
	if (gq_has_parked(g, u, look, launch,
			  g->park_ns != UINT64_MAX && now - u->idle_since_ns >= g->park_ns &&
				  (ping & GQ_PING_STAY) == 0))
		return GQ_LEAVE;
	/* Naps are far shorter than a stall, so a stall during a nap is noticed, too. */
	if (GQ_IS_LANE_0)
		rare->looked_ns = u->number == 0 ? gq_clock_ns() : 0;
	/* While the host measures the unit it does not nap: the nap would be measured, too. */
	u->measured = u->number == 0 && (ping & GQ_PING_STAY) != 0;
	u->hints = gq_hints_until_look(g, u, ping);
	return GQ_NOTHING;
}

/* ---- a turn ---------------------------------------------------------------------------------- */

/*
 * The unit goes to work: it notes what it has, and keeps what it needs of the look that made it
 * claim.
 * @param slot  of lane l: what the entry of the l-th message says; then its slot
 */
GQ_DEV void gq_begin_work(const struct gq_grid *g, struct gq_unit *u, struct gq_rare *rare,
			  const struct gq_look *look, uint32_t (&slot)[GQ_OWN], uint32_t n)
{
	gq_note_messages(g, u, slot, n);
	gq_stop_scouting(g, u);
	u->found_nothing = 0;
	u->has_left = false;
	u->idle_since_ns = 0;
	if (GQ_IS_LANE_0)
		rare->looked_ns = 0;
	u->passed = look->passed;
	u->pool_lead = gq_from(look->told, GQ_TOLD_LEAD);
	u->hints = 0;
}

/*
 * A turn that looks at the mirror. It claims one message only if the message is there as a whole
 * and nothing else seems to wait. All else is left to a look across PCIe, which comes next, or
 * after as many of these turns as gq_hints_until_look() has said.
 */
GQ_DEV uint32_t gq_turn_by_hint(const struct gq_grid *g, struct gq_shared *s, struct gq_unit *u,
				uint32_t unit_in_block, const struct gq_launch *launch,
				uint32_t (&slot)[GQ_OWN], uint32_t *n)
{
	const uint64_t *entry = nullptr;
	struct gq_look look;
	struct gq_words words = {}; /* set, as GQ_NO_PIECE */
	uint64_t word = 0, use = 0;

	*n = 0;
	u->hints--;
	u->held = 0;
	gq_look_at_runs(g, &look);
	if (gq_has_served(g, &s->rare[unit_in_block], &look, launch))
		return GQ_LEAVE;
	if (look.left_in_all != 0) { /* another unit has found some, and not by hints */
		u->hints = 0;
		return GQ_NOTHING;
	}
	gq_take_hint(g, u, &look);
	if (look.closed || gq_from(look.told, GQ_TOLD_GONE) == launch->number) {
		u->hints = 0;
		return GQ_NOTHING;
	}
	if (look.published == 0) {
		const uint64_t now = gq_clock_ns();

		gq_count_idle(u, &look, now);
		if (!gq_idle(g, u, now - u->idle_since_ns))
			u->hints = 0; /* it is no scout any more */
		return GQ_NOTHING;
	}
	GQ_UNROLL
	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		if (look.published != 1u << (c * GQ_FRONT))
			continue;
		entry = gq_word_ring_entry(&g->ch.ready[c], gq_of_class(look.cursor, c));
		word = gq_word_of(look.seen, 2 * (GQ_LANE_CLASS + c * GQ_PAIRS));
		use = gq_word_ring_value(&g->ch.ready[c], word);
	}
	if (entry == nullptr || !gq_is_whole(g, &look, use, &words)) {
		u->hints = 0;
		return GQ_NOTHING;
	}
	*n = gq_grid_claim(g, u, &look, &s->ageing[unit_in_block], slot, &use);
	if (*n == 0)
		return GQ_NOTHING;
	gq_witness(entry, word);
	if (GQ_IS_LANE_0)
		gq_took_hint();
	gq_begin_work(g, u, &s->rare[unit_in_block], &look, slot, *n);
	gq_stage_whole(g, s, u, unit_in_block, &look, &words, gq_from(slot, 0));
	return GQ_CLAIMED_WHOLE;
}

enum {
	GQ_TOLD_NS = 10000,     /* how old a control word may be that others have told */
	GQ_ORDERS_NS = 1000000, /* how old the unit's own orders may be: for the clock */
};

/* Know the orders, if what the unit knows of them is old: from others, who tell them with each
 * look, or by a read across PCIe. */
GQ_DEV void gq_read_orders(const struct gq_grid *g, struct gq_unit *u, const struct gq_look *look)
{
	const uint64_t now = gq_clock_ns(), told = gq_from(look->told, GQ_TOLD_CONTROL);

	/* Lanes may read different times: lane 0's counts. */
	if (gq_from_lane_0(gq_told_age_ns(told, now) <= GQ_TOLD_NS &&
			   now - u->ordered_ns <= GQ_ORDERS_NS) != 0) {
		u->told = told;
		return;
	}
	gq_count(u, orders, 1);
	GQ_EACH_LANE(l)
	if (l >= GQ_LANE_ORDERS && l < GQ_LANE_POOL) /* [control.read] */
		u->seen[GQ_AT(l)] = gq_load_entries((const gq_wide *)(const void *)g->orders +
						    (l - GQ_LANE_ORDERS));
	gq_sync_warp(); /* what they have acquired */
	gq_have_orders(g, u, now, true);
}

/* A unit reads for others for some microseconds. One that has been at it for so long stands still,
 * and another may have its place. */
#define GQ_FEED_NS UINT64_C(50000)

/*
 * Take a place of those that read for others of class `c`, of which `feeders` may be in use. One
 * that comes back after another has had its place gives that away: then one more reads for the
 * moment. Only speed depends on this.
 * @param others  set: whether other units read, too
 * @return the place, or GQ_FEEDERS: enough units read, or another one has just begun
 */
GQ_DEV uint32_t gq_take_place_to_feed(const struct gq_grid *g, const struct gq_look *look,
				      uint32_t c, uint32_t feeders, bool *others)
{
	const uint32_t first = GQ_TOLD_FEEDING + c * GQ_FEEDERS;
	const uint64_t now = gq_clock_ns();
	bool is_held[GQ_OWN], taken = false;

	/* A time that lies as far ahead is of a clock that has been set back since. */
	GQ_EACH_LANE(l)
	is_held[GQ_AT(l)] = look->told[GQ_AT(l)] != 0 &&
			    now - look->told[GQ_AT(l)] + GQ_FEED_NS <= 2 * GQ_FEED_NS;
	const uint32_t held = gq_vote(is_held) >> first & ((1u << GQ_FEEDERS) - 1),
		       place = gq_first_zero(held);
	const uint64_t since = gq_from(look->told, first + place);

	if (gq_ones(held) < feeders && GQ_IS_LANE_0)
		taken = gq_cas_relaxed_device_u64(&g->counters->feeding[c][place], since, now);
	*others = held != 0;
	return gq_from_lane_0(taken) != 0 ? place : GQ_FEEDERS;
}

/*
 * Read and claim for others of class `c`, unless enough units do.
 * @return whether the unit did; *look_now: as gq_feed() says
 */
GQ_DEV bool gq_try_feed(const struct gq_grid *g, struct gq_shared *s, struct gq_unit *u,
			uint32_t unit_in_block, struct gq_look *look, uint32_t c, bool *look_now)
{
	const uint64_t cursor = gq_of_class(look->cursor, c);
	const uint32_t feeders = gq_feeders_of(g, look, c);
	uint64_t pos = 0;
	uint32_t most = gq_may_be_left(g), read = 0;
	bool others;
	const uint32_t place = gq_take_place_to_feed(g, look, c, feeders, &others);

	if (place == GQ_FEEDERS)
		return false;
	GQ_WINDOW();
	most = look->left_in_all < most ? most - look->left_in_all : 1;
	most = most < g->feed ? most : g->feed;
	if (GQ_IS_LANE_0)
		pos = gq_place_to_feed(g, c, cursor, others, most, &read);
	*look_now = gq_feed(g, u, look, c, gq_wide_from_lane_0(pos), gq_from_lane_0(read), most,
			    &s->ageing[unit_in_block]);
	if (GQ_IS_LANE_0)
		gq_store_relaxed_device_u64(&g->counters->feeding[c][place], 0);
	return true;
}

/* The class to claim of for others before the unit takes anything, or GQ_NONE: one of which nothing
 * is claimed and that comes first; or any, while half of what may be claimed for others is left. */
GQ_DEV uint32_t gq_class_to_feed(const struct gq_grid *g, const struct gq_unit *u,
				 const struct gq_ageing *ageing, const struct gq_look *look,
				 uint32_t waits)
{
	const uint32_t c = gq_next_class(ageing, look->live | waits);

	if (waits == 0 || u->has_fed)
		return GQ_NONE;
	if ((look->live >> c & 1) == 0)
		return c;
	return look->left_in_all * 2 > g->feed ? GQ_NONE : gq_next_class(ageing, waits);
}

/*
 * Take of what other units have claimed, or claim for others, without a look across PCIe at all
 * that there is.
 * @return GQ_NOTHING with *look_now: look there instead
 */
GQ_DEV uint32_t gq_turn_near(const struct gq_grid *g, struct gq_shared *s, struct gq_unit *u,
			     uint32_t unit_in_block, const struct gq_launch *launch,
			     struct gq_look *look, uint32_t (&slot)[GQ_OWN], uint32_t *n,
			     bool *look_now)
{
	struct gq_ageing *ageing = &s->ageing[unit_in_block];
	const uint32_t waits = gq_waits(look);
	uint32_t c = 0;

	*look_now = true;
	gq_read_orders(g, u, look);
	if ((u->told & GQ_CONTROL_PAUSE) != 0 ||
	    gq_must_depart(gq_from(look->told, GQ_TOLD_DEPART), launch->number) ||
	    gq_from(look->told, GQ_TOLD_GONE) == launch->number || look->closed)
		return GQ_NOTHING;
	*look_now = false;
	if (GQ_IS_LANE_0)
		c = gq_class_to_feed(g, u, ageing, look, waits);
	c = gq_from_lane_0(c);
	if (c != GQ_NONE && gq_try_feed(g, s, u, unit_in_block, look, c, look_now)) {
		u->has_fed = true;
		return GQ_NOTHING;
	}
	u->has_fed = false;
	if (look->left_in_all == 0) { /* others read for all */
		gq_nap(100);
		return GQ_NOTHING;
	}
	if (GQ_IS_LANE_0)
		c = gq_next_class(ageing, look->live);
	*n = gq_take(g, u, look, ageing, gq_from_lane_0(c), slot);
	if (*n == 0)
		return GQ_NOTHING;
	if (GQ_IS_LANE_0)
		gq_took_near();
	gq_begin_work(g, u, &s->rare[unit_in_block], look, slot, *n);
	return GQ_CLAIMED;
}

/*
 * Whether the unit leaves a lone message to the scouts that look next: it had no guess, as it has
 * not looked for long, and would have to read the slot in a round trip of its own. Once, as it
 * knows the pool from then on.
 */
GQ_DEV bool gq_may_leave_it(const struct gq_grid *g, const struct gq_unit *u,
			    const struct gq_look *look)
{
	return look->guess == 0 && g->ch.ahead_bytes != 0 && g->feed != 0 && !u->has_left &&
	       (look->published & GQ_FRONTS) != 0 && (look->published & (look->published - 1)) == 0;
}

/* A turn that looks across PCIe: claim, stand still, or find that the unit has to go. */
GQ_DEV uint32_t gq_turn_far(const struct gq_grid *g, struct gq_shared *s, struct gq_unit *u,
			    uint32_t unit_in_block, const struct gq_launch *launch,
			    struct gq_look *look, uint32_t (&slot)[GQ_OWN], uint32_t *n)
{
	struct gq_rare *rare = &s->rare[unit_in_block];
	struct gq_words words = {}; /* set, as GQ_NO_PIECE */
	uint64_t use = 0;           /* of one message */

	const uint64_t since_ns = gq_clock_ns();
	const bool has_looked = u->ordered_ns != 0;

	gq_take_look(g, u, look);
	gq_count(u, looks, 1);
	gq_count(u, found, (look->published & GQ_FRONTS) != 0);
	u->held = 0;
	/* A lone message is not kept waiting for what others are told. Where nobody feeds, nobody
	 * else would tell them while there is work, and after the silence all would look. */
	gq_have_orders(g, u, since_ns,
		       look->left_in_all != 0 || g->feed == 0 ||
			       (look->published & GQ_FRONTS) == 0);
	if (gq_must_depart(gq_order(u, GQ_DEPART), launch->number) ||
	    gq_from(look->told, GQ_TOLD_GONE) == launch->number)
		return GQ_LEAVE;

	const uint64_t control = gq_order(u, GQ_CONTROL);

	if ((control & GQ_CONTROL_PAUSE) != 0) {
		gq_stop_scouting(g, u);
		gq_clear_journal(g, u);
		gq_sync_warp(); /* all lanes' completions come before the acknowledgement */
		if (GQ_IS_LANE_0) {
			gq_stand_still(g, u, rare, control, launch);
			rare->looked_ns = 0; /* a pause is no stall */
		}
		u->ordered_ns = 0; /* what was told may be as old as the pause */
		u->told = 0;
		gq_sync_warp();
		return GQ_NOTHING;
	}
	if (look->closed) { /* a park is being decided */
		gq_nap(32);
		return GQ_NOTHING;
	}
	if (has_looked && gq_may_leave_it(g, u, look)) {
		u->has_left = true;
		return GQ_NOTHING;
	}
	if ((look->published & GQ_FRONTS) != 0) {
		*n = gq_grid_claim(g, u, look, &s->ageing[unit_in_block], slot, &use);
		if (*n == 0) {
			u->found_nothing = 0; /* it, or the unit that was faster, has claimed */
			return GQ_NOTHING;
		}
		gq_begin_work(g, u, &s->rare[unit_in_block], look, slot, *n);
		gq_count(u, singles, *n == 1);
		if (*n != 1 || !gq_is_whole(g, look, use, &words))
			return GQ_CLAIMED;
		gq_count(u, wholes, 1);
		gq_stage_whole(g, s, u, unit_in_block, look, &words, gq_from(slot, 0));
		return GQ_CLAIMED_WHOLE;
	}
	gq_tell_waits(g, look, ~0u, 0);
	if (look->left_in_all != 0)
		return GQ_NOTHING;
	if ((control & GQ_CONTROL_LEAVE) != 0) /* not before what waits: CANCEL ends that */
		return GQ_LEAVE;
	return gq_have_nothing(g, u, rare, look, launch->number);
}

/*
 * One turn of a unit's first warp: take what is claimed already; or look, then claim, nap, stand
 * still, or find that it has to go. A unit that has just had a message looks at what is near first.
 * When it finds nothing there, it looks across PCIe as a scout, or naps first: of many that look at
 * once one claims, and the others' reads are in its way.
 * @param slot  of lane l: the slot of the l-th message taken
 * @param n     how many were
 */
GQ_DEV uint32_t gq_turn_of(const struct gq_grid *g, struct gq_shared *s, struct gq_unit *u,
			   uint32_t unit_in_block, const struct gq_launch *launch,
			   uint32_t (&slot)[GQ_OWN], uint32_t *n)
{
	struct gq_look look;
	bool look_now = false;

	*n = 0;
	if (u->hints != 0)
		return gq_turn_by_hint(g, s, u, unit_in_block, launch, slot, n);
	if (u->found_nothing != 0) {
		const uint64_t idle_ns =
			u->idle_since_ns == 0 || u->measured ? 0 : gq_clock_ns() - u->idle_since_ns;

		look_now = gq_idle(g, u, idle_ns);
	}
	gq_look_at_runs(g, &look);
	if (gq_has_served(g, &s->rare[unit_in_block], &look, launch))
		return GQ_LEAVE;
	if (look.left_in_all != 0 || (g->feed != 0 && gq_waits(&look) != 0)) {
		const uint32_t verdict =
			gq_turn_near(g, s, u, unit_in_block, launch, &look, slot, n, &look_now);

		if (verdict != GQ_NOTHING || !look_now)
			return verdict;
	}
	u->found_nothing++;
	if (!look_now && !gq_is_called(&look, launch->number))
		return GQ_NOTHING;
	return gq_turn_far(g, s, u, unit_in_block, launch, &look, slot, n);
}

/* ---- the kernel ------------------------------------------------------------------------------ */

/* Say that the block runs; the grid's last one says so to the host. */
GQ_DEV void gq_report_residence(const struct gq_grid *g, uint64_t launch)
{
	struct gq_counters *k = g->counters;

	if (GQ_BLOCK == 0)
		gq_open_classes(k);
	/* [cursor.write] release: the opening. */
	if (gq_fetch_add_acq_rel_device_u64(&k->resident, 1) + 1 == launch * GQ_BLOCKS)
		gq_store_release_u64(&g->report->resident, launch); /* [report.write] */
}

GQ_DEV void gq_consume(const struct gq_grid *g, struct gq_shared *s, struct gq_launch launch)
{
	const uint32_t unit_in_block = Q_GRANULARITY == 2 ? 0 : GQ_WARP_IN_BLOCK;
	struct gq_unit u = {};

	u.number = GQ_BLOCK * (Q_GRANULARITY == 2 ? 1u : GQ_THREADS / 32) + unit_in_block;
	if (GQ_IS_LANE_0 && (Q_GRANULARITY != 2 || GQ_WARP_IN_BLOCK == 0)) {
		struct gq_rare *rare = &s->rare[unit_in_block];

		for (uint32_t c = 0; c < GQ_CLASSES; c++)
			s->ageing[unit_in_block].passed[c] = 0;
		rare->begun_ns = gq_clock_ns();
		rare->looked_ns = 0;
		if (u.number == 0) /* the last launch's answer */
			rare->pong = gq_load_relaxed_u64(&g->report->pong);
	}
	gq_begin_tally(&u, s, unit_in_block);
	if (GQ_WARP_IN_BLOCK == 0 && GQ_IS_LANE_0)
		gq_report_residence(g, launch.number);
	for (;;) {
		uint32_t slot[GQ_OWN] = { 0 }, verdict = GQ_NOTHING, n = 0;

#if Q_GRANULARITY == 2
		if (GQ_WARP_IN_BLOCK == 0) {
			verdict = gq_turn_of(g, s, &u, unit_in_block, &launch, slot, &n);
			if (GQ_IS_LANE_0) {
				s->verdict = verdict;
				s->slot = slot[0];
			}
		}
		gq_sync_block();
		verdict = s->verdict;
		n = s->slot;
		gq_sync_block(); /* from here on the next turn may write these two words */
		GQ_EACH_LANE(l)
		slot[GQ_AT(l)] = n;
		n = 1;
#else
		verdict = gq_turn_of(g, s, &u, unit_in_block, &launch, slot, &n);
#endif
#if Q_GRANULARITY == 1
		n = gq_from(slot, 0);
		GQ_EACH_LANE(l)
		slot[GQ_AT(l)] = n;
		n = 1;
#endif
		if ((u.found_nothing > 1 || verdict == GQ_LEAVE) && u.noted != 0 &&
		    (Q_GRANULARITY != 2 || GQ_WARP_IN_BLOCK == 0))
			gq_clear_journal(g, &u);
		if (verdict == GQ_LEAVE)
			break;
		if (verdict == GQ_NOTHING)
			gq_end_phase(&u, idle_cycles);
		else
			gq_end_phase(&u, turn_cycles);
		if (verdict != GQ_NOTHING)
			gq_serve(g, s, &u, unit_in_block, slot, n, verdict == GQ_CLAIMED_WHOLE);
	}
	if (Q_GRANULARITY != 2 || GQ_WARP_IN_BLOCK == 0)
		gq_stop_scouting(g, &u);
	gq_end_tally(g, &u);
}

#if defined(GQ_STANDIN)
static void gpuq_grid(const struct gq_grid *g, struct gq_launch launch)
{
	GQ_SHARED(s);

	gq_consume(g, s, launch);
}
#else
/*
 * Shows that other streams get through and, if asked, says what the image is. (A variable could not
 * say it: the variables of a whole program are internal to it.)
 */
extern "C" __global__ void gpuq_canary(struct gq_image_info *info)
{
	if (info != nullptr)
		*info = { GQ_IMAGE_MAGIC,
			  Q_PROTOCOL_VERSION,
			  Q_GRANULARITY,
			  GQ_BLOCK_THREADS,
			  (uint32_t)sizeof(struct gq_grid),
			  GQ_COUNTS,
			  gq_clock_ns() };
}

/* The parameters are in the constant bank, which no acquire empties: behind a pointer each of them
 * would be loaded again after every acquire. */
extern "C" __global__ void __launch_bounds__(GQ_BLOCK_THREADS, 1)
	gpuq_grid(const __grid_constant__ struct gq_grid g, struct gq_launch launch)
{
	GQ_SHARED(s);

	gq_consume(&g, s, launch);
}
#endif

#endif /* GPUQ_CUDA_GRID_GRID_CUH */
