/* SPDX-License-Identifier: Apache-2.0 */
/* host.c - virtual time: a host that sends and takes messages, and its grid. See vtime.h. */
#include "machine.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
	PINNED = 64 << 20,
	SAMPLE_NS = 20, /* between two looks of the host */
};

static struct gq_pool pool;
static struct gq_channel *ch;
static uint64_t heads[GQ_CLASSES], tails[GQ_CLASSES + 1], pool_head, pool_tail, done_head;

static void *pin(size_t bytes)
{
	char *at = vt_m.pinned_next;

	vt_m.pinned_next += (bytes + GQ_LINE - 1) / GQ_LINE * GQ_LINE;
	if (vt_m.pinned_next > vt_m.pinned_end)
		abort();
	return at;
}

static void empty_ring(const struct gq_word_ring *r)
{
	for (uint64_t i = 0; i <= r->mask; i++)
		r->entry[i] = gq_word_ring_tag(r, i - gq_word_ring_size(r));
}

static void make_rings(uint32_t order)
{
	const uint32_t shift = gq_id_shift(order);
	const size_t bytes = sizeof(uint64_t) << order;

	ch->slot_mask = (UINT64_C(1) << shift) - 1;
	pool = gq_pool_of(pin(bytes), &pool_head, &pool_tail, order, false);
	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		ch->ready[c] = gq_word_ring_of(pin(bytes), &heads[c], &tails[c], order,
					       shift + GQ_USE_BITS, order);
		empty_ring(&ch->ready[c]);
	}
	ch->done = gq_word_ring_of(pin(bytes), &done_head, &tails[GQ_CLASSES], order,
				   order + GQ_OUTCOME_BITS, order);
	empty_ring(&ch->done);
	gq_pool_fill(&pool, 0);
}

static void make_grid(const struct vt_scenario *s)
{
	static struct gq_counters counters;
	const uint32_t slots = 1u << s->order, units = s->units;

	memset(&vt_m.grid, 0, sizeof(vt_m.grid));
	memset(&counters, 0, sizeof(counters));
	memset(heads, 0, sizeof(heads));
	memset(tails, 0, sizeof(tails));
	pool_head = done_head = vt_m.published = vt_m.reaped = 0;
	ch = &vt_m.grid.ch;
	make_rings(s->order);
	ch->slot_stride = GQ_PAYLOAD_OFFSET + (s->bytes + 63) / 64 * 64;
	ch->result_stride = (GQ_RESULT_OFFSET + s->bytes + 63) / 64 * 64;
	ch->slots = pin(slots * ch->slot_stride);
	ch->results = pin(slots * ch->result_stride);
	ch->result_bytes = s->bytes;
	ch->seal_key = UINT64_C(0x1234567890abcdef);
	ch->ahead_bytes = GQ_PAYLOAD_OFFSET + s->bytes < 1024 ? GQ_PAYLOAD_OFFSET + s->bytes : 1024;
	ch->sealed_bytes = 1024;
	vt_m.grid.pool = pool.ring;
	vt_m.grid.orders = pin(sizeof(*vt_m.grid.orders));
	vt_m.grid.report = pin(sizeof(*vt_m.grid.report));
	vt_m.grid.batch = s->image->granularity == 0 ? 32 : 1;
	vt_m.grid.ack = pin(units * sizeof(uint64_t));
	vt_m.grid.journal = pin((size_t)units * vt_m.grid.batch * sizeof(*vt_m.grid.journal));
	vt_m.grid.counters = &counters;
	ch->control = &vt_m.grid.orders->control;
	ch->done.tail = &counters.done_tail;
	vt_m.grid.stage_result = (s->bytes + GQ_LINE - 1) / GQ_LINE * GQ_LINE;
	vt_m.grid.stage_bytes = 2 * vt_m.grid.stage_result; /* GQ_PAYLOAD_OFFSET fits */
	vt_m.grid.staging = calloc((size_t)units * vt_m.grid.batch, vt_m.grid.stage_bytes);
	for (uint32_t i = 0; i < GQ_CLASSES * GQ_RUNS; i++)
		counters.run[i / GQ_RUNS][i % GQ_RUNS] = gq_run_first(0, i % GQ_RUNS);
	vt_m.grid.park_ns = s->park_ns != 0 ? s->park_ns : UINT64_MAX;
	vt_m.grid.bounded_ns = s->bounded_ns;
	vt_m.grid.slot_bytes = (s->bytes + 15) / 16 * 16;
	vt_m.grid.scouts = s->scouts;
	vt_m.grid.feeders = vt_m.grid.batch == 1 && units >= 128 ? 2 : 1; /* as view.c has it */
	vt_m.grid.nap_ns = 1000;
	if (s->alone)
		return;
	vt_m.grid.feed = 2 * (units - 1) * vt_m.grid.batch;
	if (vt_m.grid.feed > GQ_MAX_FEED)
		vt_m.grid.feed = GQ_MAX_FEED;
}

/* Sends up to `n` messages, as many as there is room for; each takes the host its time. */
static uint32_t send(uint32_t n)
{
	uint64_t ids[64];
	bool closed;

	n = gq_pool_pop(&pool, ids, n < 64 ? n : 64, &closed);
	for (uint32_t i = 0; i < n; i++) {
		struct gq_slot *slot = gq_slot_at(ch, (uint32_t)(ids[i] & ch->slot_mask));
		const bool urgent =
			vt_m.s->urgent != 0 && (vt_m.published + 1) % vt_m.s->urgent == 0;

		vt_spend(vt_m.s->send_ns);
		*slot = (struct gq_slot){ .msg_id = ids[i],
					  .tag = vt_m.published,
					  .cancel = ~ids[i],
					  .len = vt_m.s->bytes,
					  .priority = urgent ? 3 : 1 };
		memset((char *)(slot + 1), (int)vt_m.published, slot->len);
		slot->seal = gq_seal_of_message(ch, slot);
		vt_spend(vt_m.s->publish_ns);
		if (vt_m.published == 0)
			memset(&vt_m.counts, 0,
			       sizeof(vt_m.counts)); /* idle looks before are nobody's */
		vt_m.sent_ns[vt_m.published++] = vt_current()->clock;
		gq_publish(ch, slot->priority, &ids[i], 1);
	}
	return n;
}

/* Takes what has completed. */
static void take(void)
{
	uint32_t index, outcome;

	while (gq_reap(ch, &index, &outcome)) {
		struct gq_slot *slot = gq_slot_at(ch, index);

		if (outcome != vt_m.s->bytes ||
		    memcmp(gq_result_at(ch, index), gq_payload_at(ch, index), outcome) != 0)
			abort();
		vt_m.done_ns[slot->tag] = vt_current()->clock;
		gq_pool_return(&pool, &(const uint64_t){ index }, 1);
		vt_m.reaped++;
		vt_spend(vt_m.s->take_ns);
	}
}

/* The bare flag: what a round trip takes when the GPU does nothing but answer a word. */
void vt_answer(struct fiber *f)
{
	(void)f;
	for (uint64_t last = 0;;) {
		uint64_t ping;

		vt_load(&vt_m.grid.orders->ping, VT_ACQUIRE);
		ping = gq_load_acquire_u64(&vt_m.grid.orders->ping);
		if (ping == last)
			continue;
		vt_store(&vt_m.grid.report->pong);
		gq_store_relaxed_u64(&vt_m.grid.report->pong, ping);
		last = ping;
	}
}

void vt_ask(struct fiber *f)
{
	uint32_t random = 1;

	(void)f;
	while (vt_m.reaped < vt_m.s->messages) {
		random = random * 1664525 + 1013904223;
		vt_spend(500 + random % 4096);
		vt_m.sent_ns[vt_m.published++] = vt_current()->clock;
		gq_store_relaxed_u64(&vt_m.grid.orders->ping, vt_m.published);
		while (gq_load_relaxed_u64(&vt_m.grid.report->pong) != vt_m.published)
			vt_spend(SAMPLE_NS);
		vt_m.done_ns[vt_m.reaped++] = vt_current()->clock;
	}
	for (;;)
		vt_spend(1000000);
}

void vt_produce(struct fiber *f)
{
	uint32_t random = 1;
	uint64_t due;

	vt_spend(vt_m.s->begin_ns);
	due = f->clock;
	while (vt_m.published < vt_m.s->messages) {
		if (vt_m.s->lone) {
			random = random * 1664525 + 1013904223;
			vt_spend((vt_m.published != 0 ? vt_m.s->gap_ns : 0) + 500 + random % 4096);
			send(1);
			while (vt_m.reaped + (vt_m.s->hang_ns != 0) < vt_m.published)
				vt_spend(SAMPLE_NS);
		} else if (vt_m.s->every_ns != 0) {
			due += vt_m.s->every_ns;
			if (f->clock < due)
				vt_spend(due - f->clock);
			while (send(1) == 0)
				vt_spend(SAMPLE_NS);
		} else {
			const uint64_t left = vt_m.s->messages - vt_m.published;

			if (send(left < 64 ? (uint32_t)left : 64) == 0)
				vt_spend(SAMPLE_NS);
		}
	}
	for (;;)
		vt_spend(1000000);
}

void vt_consume(struct fiber *f)
{
	(void)f;
	vt_spend(1);
	while (vt_m.reaped < vt_m.s->messages ||
	       (vt_m.s->bounded_ns != 0 && vt_m.gone < vt_m.s->units)) {
		take();
		vt_spend(SAMPLE_NS);
		if (vt_current()->clock > vt_m.s->limit_ns)
			break;
	}
	vt_leave();
}

void vt_unit(struct fiber *f)
{
	/* Warps do not begin at the same time. */
	vt_spend(f->number * 7 % 1009);
	vt_m.s->image->grid(&vt_m.grid, 1, vt_m.s->messages);
	vt_m.gone++;
	vt_m.gone_ns = f->clock; /* clocks never go back: the last one's */
}

void vt_begin_host(void)
{
	vt_m.pinned =
		mmap(NULL, PINNED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	vt_m.pinned_next = vt_m.pinned;
	vt_m.pinned_end = vt_m.pinned + PINNED;
	vt_m.sent_ns = calloc(vt_m.s->messages, sizeof(uint64_t));
	vt_m.done_ns = calloc(vt_m.s->messages, sizeof(uint64_t));
	make_grid(vt_m.s);
}

void vt_end_host(void)
{
	free(vt_m.grid.staging);
	free(vt_m.sent_ns);
	free(vt_m.done_ns);
	munmap(vt_m.pinned, PINNED);
}
