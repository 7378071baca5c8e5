/* SPDX-License-Identifier: Apache-2.0 */
/* vtime.c - virtual time: fibers by the smallest clock, what operations take, and a host that sends
 * and takes messages. See vtime.h. */
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum {
	STACK = 64 << 10,
	MAX_OPS = 48,    /* operations in one loop over lanes */
	MAX_LINES = 128, /* different lines that they touch */
	UNIFORM = 32,    /* the lane while no loop over lanes is under way */
	SAMPLE_NS = 20,  /* between two looks of the host */
};

struct fiber {
	struct vt_self self; /* first: vt_self points here */
	ucontext_t context;
	void *stack;
	uint64_t clock, number;
	uint64_t pending; /* when the last of the loads under way arrives */
	uint64_t stored;  /* when the last store has crossed PCIe */
	/* The loop over lanes under way: its operations are the warp's. */
	uint32_t lane, op, ops, lines;
	uint64_t begun[MAX_OPS];
	uintptr_t line[MAX_LINES];
	void (*main)(struct fiber *);
};

struct vt_self *vt_self;

static struct fiber *fibers, **heap; /* heap: by clock, then number; heap[0] runs or is next */
static uint32_t n_fibers;
static ucontext_t main_context;
static const struct vt_scenario *now_running;
static const struct vt_costs *costs;
static struct vt_counts counts;
static uint64_t *tag; /* a heap: when each is free */
static char *pinned, *pinned_next, *pinned_end;
static struct gq_grid grid;

static struct fiber *current(void)
{
	return (struct fiber *)(void *)vt_self;
}

/* ---- the scheduler */

static bool before(const struct fiber *a, const struct fiber *b)
{
	return a->clock != b->clock ? a->clock < b->clock : a->number < b->number;
}

static void sift(uint32_t i)
{
	for (;;) {
		uint32_t least = i;

		for (uint32_t k = 2 * i + 1; k <= 2 * i + 2 && k < n_fibers; k++)
			if (before(heap[k], heap[least]))
				least = k;
		if (least == i)
			return;
		struct fiber *moved = heap[i];

		heap[i] = heap[least];
		heap[least] = moved;
		i = least;
	}
}

/* The running fiber is heap[0], and its clock has moved. */
static void yield(void)
{
	struct fiber *self = current();

	sift(0);
	if (heap[0] == self)
		return;
	vt_self = &heap[0]->self;
	swapcontext(&self->context, &heap[0]->context);
}

static void spend(uint64_t ns)
{
	current()->clock += ns;
	yield();
}

static void entry(unsigned int low, unsigned int high)
{
	struct fiber *f = (struct fiber *)((uintptr_t)low | (uintptr_t)high << 32);

	f->main(f);
	current()->clock = UINT64_MAX; /* it has ended */
	yield();
}

/* ---- what operations take */

static bool is_pinned(const void *at)
{
	return (const char *)at >= pinned && (const char *)at < pinned_end;
}

/* When a request gets a tag; the tag is taken. */
static uint64_t take_tag(uint64_t now)
{
	const uint64_t start = tag[0] > now ? tag[0] : now;
	uint64_t i = 0;

	tag[0] = start + costs->round_trip;
	for (;;) {
		uint64_t least = i;

		for (uint64_t k = 2 * i + 1; k <= 2 * i + 2 && k < costs->tags; k++)
			if (tag[k] < tag[least])
				least = k;
		if (least == i)
			return start;
		const uint64_t moved = tag[i];

		tag[i] = tag[least];
		tag[least] = moved;
		i = least;
	}
}

uint32_t vt_lane(uint32_t lane)
{
	struct fiber *f = current();

	if (lane == 0) {
		f->ops = f->lines = 0;
		f->clock += costs->step;
	}
	f->op = 0;
	f->lane = lane;
	return lane;
}

/* @return whether this operation is the warp's, and not a lane's part of one that has begun. */
static bool begins(struct fiber *f)
{
	if (f->lane != UNIFORM) {
		if (f->op < f->ops) {
			f->op++;
			return false;
		}
		if (f->ops < MAX_OPS)
			f->ops++;
		f->op++;
	}
	f->clock += costs->step;
	return true;
}

/* Whether the warp touches another line by it. */
static bool is_new_line(struct fiber *f, const void *at, bool store)
{
	const uintptr_t line = ((uintptr_t)at / GQ_LINE) << 1 | store;

	if (f->lane == UNIFORM)
		return true;
	for (uint32_t i = 0; i < f->lines; i++)
		if (f->line[i] == line)
			return false;
	if (f->lines < MAX_LINES)
		f->line[f->lines++] = line;
	return true;
}

static void wait_until(struct fiber *f, uint64_t when)
{
	if (f->clock < when)
		f->clock = when;
}

static void wait_pending(struct fiber *f, uint64_t when)
{
	f->pending = f->pending > when ? f->pending : when;
}

void vt_used(void)
{
	wait_until(current(), current()->pending);
}

static void load_across(struct fiber *f, const void *at, bool first, enum vt_wait wait)
{
	uint64_t *begun = &f->begun[f->lane == UNIFORM || f->op > MAX_OPS ? 0 : f->op - 1];
	const uint32_t requests = is_new_line(f, at, false) ? 1 : 0;
	uint64_t start;

	if (first)
		*begun = f->clock;
	start = *begun;
	for (uint32_t i = 0; i < requests; i++)
		start = take_tag(*begun);
	counts.reads += requests;
	if (first) {
		f->clock = start;
		yield(); /* the value is sampled when this returns */
		counts.looks += wait == VT_ACQUIRE && f->lane != UNIFORM;
		if (wait == VT_ACQUIRE)
			f->clock = start + costs->round_trip;
	}
	f->pending =
		f->pending > start + costs->round_trip ? f->pending : start + costs->round_trip;
}

void vt_load(const void *at, enum vt_wait wait)
{
	struct fiber *f = current();
	const bool first = begins(f);

	if (first)
		yield();
	if (is_pinned(at)) {
		load_across(f, at, first, wait);
	} else if (first) {
		const uint64_t arrives = f->clock + costs->l2;

		f->pending = f->pending > arrives ? f->pending : arrives;
		if (f->lane == UNIFORM || wait == VT_ACQUIRE)
			f->clock = arrives;
	}
	if (first && f->lane == UNIFORM)
		wait_until(f, f->pending); /* the next instruction uses it */
	if (first && wait == VT_ACQUIRE)
		f->clock += costs->acquired;
	if (first && wait == VT_AHEAD)
		f->clock += costs->ahead;
}

void vt_store(const void *at)
{
	struct fiber *f = current();
	const bool new_line = is_new_line(f, at, true);

	if (begins(f))
		yield();
	if (is_pinned(at)) {
		counts.writes += new_line;
		f->stored = f->clock + costs->round_trip;
	}
}

void vt_release(void)
{
	struct fiber *f = current();

	counts.releases++;
	vt_used();
	wait_until(f, f->stored);
	f->clock += costs->acquired;
	yield();
}

void vt_rmw_begin(const void *at)
{
	static struct {
		const void *at;
		uint64_t free;
	} busy[64];
	struct fiber *f = current();
	const size_t i = (uintptr_t)at / sizeof(uint64_t) % 64;

	if (begins(f)) {
		vt_used();
		yield();
	}
	counts.rmws++;
	if (busy[i].at != at || f->clock > busy[i].free || f->clock + 100000 < busy[i].free)
		busy[i].free = f->clock;
	busy[i].at = at;
	busy[i].free += costs->l2_busy;
	f->clock = busy[i].free;
	yield();
	/* It happens here; the answer comes later. */
	wait_pending(f, f->clock + costs->l2);
}

void vt_add_unseen(const void *at)
{
	const uint64_t pending = current()->pending;

	vt_rmw_begin(at);
	current()->pending = pending;
}

void vt_rmw(const void *at)
{
	struct fiber *f = current();

	vt_rmw_begin(at);
	if (f->lane == UNIFORM)
		vt_used();
}

void vt_claimed(const void *at, bool ours)
{
	const uint64_t *word = at;

	if (word < grid.counters->run[0] || word >= grid.counters->run[0] + GQ_CLASSES * GQ_RUNS)
		return;
	counts.claims++;
	counts.failed += !ours;
	if (ours && !now_running->alone) {
		uint64_t left = 0;

		for (uint32_t i = 0; i < GQ_CLASSES * GQ_RUNS; i++)
			left += gq_run_left(grid.counters->run[i / GQ_RUNS][i % GQ_RUNS]);
		if (left > counts.most_left)
			counts.most_left = left;
		counts.may_be_left = grid.feed + grid.feed / 2;
	}
}

void vt_took(const void *at, uint64_t run)
{
	const uint64_t *word = at;

	if (word < grid.counters->run[0] || word >= grid.counters->run[0] + GQ_CLASSES * GQ_RUNS)
		return;
	counts.takes++;
	counts.missed += gq_run_left(run) == 0;
}

void vt_whole(void)
{
	counts.wholes++;
}

void vt_nap(uint32_t ns)
{
	vt_used();
	spend(ns);
}

uint64_t vt_clock(void)
{
	current()->clock += costs->step;
	return current()->clock;
}

static uint64_t published; /* messages, so far */

void vt_work(void)
{
	/* Of a run with a message that hangs it is the first. */
	current()->clock +=
		now_running->hang_ns != 0 && published == 1 ? now_running->hang_ns : costs->work;
}

/* ---- the host */

static struct gq_word_ring pool;
static struct gq_channel *ch;
static uint64_t heads[GQ_CLASSES], tails[GQ_CLASSES + 1], pool_head, pool_tail, done_head;
static uint64_t *sent_ns, *done_ns, reaped;

static void *pin(size_t bytes)
{
	char *at = pinned_next;

	pinned_next += (bytes + GQ_LINE - 1) / GQ_LINE * GQ_LINE;
	if (pinned_next > pinned_end)
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
	pool = gq_word_ring_of(pin(bytes), &pool_head, &pool_tail, order, shift, 0);
	for (uint32_t c = 0; c < GQ_CLASSES; c++) {
		ch->ready[c] = gq_word_ring_of(pin(bytes), &heads[c], &tails[c], order,
					       shift + GQ_USE_BITS, order);
		empty_ring(&ch->ready[c]);
	}
	ch->done = gq_word_ring_of(pin(bytes), &done_head, &tails[GQ_CLASSES], order,
				   order + GQ_OUTCOME_BITS, order);
	empty_ring(&ch->done);
	for (uint64_t i = 0; i <= pool.mask; i++)
		pool.entry[i] = gq_word_ring_tag(&pool, i) | i;
	pool_tail = pool.mask + 1;
}

static void make_grid(const struct vt_scenario *s)
{
	static struct gq_counters counters;
	const uint32_t slots = 1u << s->order, units = s->units;

	memset(&grid, 0, sizeof(grid));
	memset(&counters, 0, sizeof(counters));
	memset(heads, 0, sizeof(heads));
	memset(tails, 0, sizeof(tails));
	pool_head = done_head = published = reaped = 0;
	ch = &grid.ch;
	make_rings(s->order);
	ch->slot_stride = GQ_PAYLOAD_OFFSET + (s->bytes + 63) / 64 * 64;
	ch->result_stride = (GQ_RESULT_OFFSET + s->bytes + 63) / 64 * 64;
	ch->slots = pin(slots * ch->slot_stride);
	ch->results = pin(slots * ch->result_stride);
	ch->result_bytes = s->bytes;
	ch->seal_key = UINT64_C(0x1234567890abcdef);
	ch->ahead_bytes = GQ_PAYLOAD_OFFSET + s->bytes < 1024 ? GQ_PAYLOAD_OFFSET + s->bytes : 1024;
	ch->sealed_bytes = 1024;
	grid.pool = pool;
	grid.orders = pin(sizeof(*grid.orders));
	grid.report = pin(sizeof(*grid.report));
	grid.batch = s->image->granularity == 0 ? 32 : 1;
	grid.ack = pin(units * sizeof(uint64_t));
	grid.journal = pin((size_t)units * grid.batch * sizeof(*grid.journal));
	grid.counters = &counters;
	ch->control = &grid.orders->control;
	ch->done.tail = &counters.done_tail;
	grid.stage_result = (s->bytes + GQ_LINE - 1) / GQ_LINE * GQ_LINE;
	grid.stage_bytes = 2 * grid.stage_result; /* GQ_PAYLOAD_OFFSET fits */
	grid.staging = calloc((size_t)units * grid.batch, grid.stage_bytes);
	for (uint32_t i = 0; i < GQ_CLASSES * GQ_RUNS; i++)
		counters.run[i / GQ_RUNS][i % GQ_RUNS] = gq_run_first(0, i % GQ_RUNS);
	grid.park_ns = s->park_ns != 0 ? s->park_ns : UINT64_MAX;
	grid.slot_bytes = (s->bytes + 15) / 16 * 16;
	grid.scouts = s->scouts;
	grid.feeders = grid.batch == 1 && units >= 128 ? 2 : 1; /* as view.c has it */
	grid.nap_ns = 1000;
	if (s->alone)
		return;
	grid.feed = 2 * (units - 1) * grid.batch;
	if (grid.feed > GQ_MAX_FEED)
		grid.feed = GQ_MAX_FEED;
}

/* Sends up to `n` messages, as many as there is room for; each takes the host its time. */
static uint32_t send(uint32_t n)
{
	uint64_t ids[64];
	bool closed;

	n = gq_pool_pop(&pool, ids, n < 64 ? n : 64, &closed);
	for (uint32_t i = 0; i < n; i++) {
		struct gq_slot *slot = gq_slot_at(ch, (uint32_t)(ids[i] & ch->slot_mask));

		spend(now_running->send_ns);
		*slot = (struct gq_slot){ .msg_id = ids[i],
					  .tag = published,
					  .cancel = ~ids[i],
					  .len = now_running->bytes,
					  .priority = 1 };
		memset((char *)(slot + 1), (int)published, slot->len);
		slot->seal = gq_seal_of_message(ch, slot);
		spend(now_running->publish_ns);
		if (published == 0)
			memset(&counts, 0, sizeof(counts)); /* idle looks before are nobody's */
		sent_ns[published++] = current()->clock;
		gq_publish(ch, 1, &ids[i], 1);
	}
	return n;
}

/* Takes what has completed. */
static void take(void)
{
	uint32_t index, outcome;

	while (gq_reap(ch, &index, &outcome)) {
		struct gq_slot *slot = gq_slot_at(ch, index);

		if (outcome != now_running->bytes ||
		    memcmp(gq_result_at(ch, index), gq_payload_at(ch, index), outcome) != 0)
			abort();
		done_ns[slot->tag] = current()->clock;
		gq_word_ring_put_one(&pool, index);
		reaped++;
		spend(now_running->take_ns);
	}
}

/* The bare flag: what a round trip takes when the GPU does nothing but answer a word. */
static void answer(struct fiber *f)
{
	(void)f;
	for (uint64_t last = 0;;) {
		uint64_t ping;

		vt_load(&grid.orders->ping, VT_ACQUIRE);
		ping = gq_load_acquire_u64(&grid.orders->ping);
		if (ping == last)
			continue;
		vt_store(&grid.report->pong);
		gq_store_relaxed_u64(&grid.report->pong, ping);
		last = ping;
	}
}

static void ask(struct fiber *f)
{
	uint32_t random = 1;

	(void)f;
	while (reaped < now_running->messages) {
		random = random * 1664525 + 1013904223;
		spend(500 + random % 4096);
		sent_ns[published++] = current()->clock;
		gq_store_relaxed_u64(&grid.orders->ping, published);
		while (gq_load_relaxed_u64(&grid.report->pong) != published)
			spend(SAMPLE_NS);
		done_ns[reaped++] = current()->clock;
	}
	for (;;)
		spend(1000000);
}

static void produce(struct fiber *f)
{
	uint32_t random = 1;

	(void)f;
	spend(now_running->begin_ns);
	while (published < now_running->messages) {
		if (now_running->lone) {
			random = random * 1664525 + 1013904223;
			spend((published != 0 ? now_running->gap_ns : 0) + 500 + random % 4096);
			send(1);
			while (reaped + (now_running->hang_ns != 0) < published)
				spend(SAMPLE_NS);
		} else {
			const uint64_t left = now_running->messages - published;

			if (send(left < 64 ? (uint32_t)left : 64) == 0)
				spend(SAMPLE_NS);
		}
	}
	for (;;)
		spend(1000000);
}

static void consume(struct fiber *f)
{
	(void)f;
	spend(1);
	while (reaped < now_running->messages) {
		take();
		spend(SAMPLE_NS);
		if (current()->clock > now_running->limit_ns)
			break;
	}
	setcontext(&main_context); /* all other fibers are left where they are */
}

static void unit(struct fiber *f)
{
	/* Warps do not begin at the same time. */
	spend(f->number * 7 % 1009);
	now_running->image->grid(&grid, 1);
}

/* ---- a run */

static void add_fiber(void (*main)(struct fiber *), struct vt_self self)
{
	struct fiber *f = &fibers[n_fibers];
	const uintptr_t at = (uintptr_t)f;

	f->self = self;
	f->main = main;
	f->number = n_fibers;
	f->lane = UNIFORM;
	f->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	getcontext(&f->context);
	f->context.uc_stack.ss_sp = f->stack;
	f->context.uc_stack.ss_size = STACK;
	makecontext(&f->context, (void (*)(void))entry, 2, (unsigned int)at,
		    (unsigned int)((uint64_t)at >> 32));
	heap[n_fibers++] = f;
}

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static struct vt_result sum_up(const struct vt_scenario *s)
{
	struct vt_result r = { .counts = counts, .done = reaped };
	const uint64_t from = reaped / 4;
	uint64_t *trip = calloc(s->messages, sizeof(*trip)), last = 0, first = UINT64_MAX;

	for (uint64_t i = 0; i < reaped; i++) {
		trip[i] = done_ns[i] - sent_ns[i];
		last = done_ns[i] > last ? done_ns[i] : last;
	}
	/* What has completed after the first quarter. */
	qsort(trip, reaped, sizeof(*trip), by_value);
	r.p50_ns = trip[reaped / 2];
	r.p99_ns = trip[reaped - 1 - reaped / 100];
	memcpy(trip, done_ns, reaped * sizeof(*trip));
	qsort(trip, reaped, sizeof(*trip), by_value);
	first = trip[from];
	r.millions = (double)(reaped - from) * 1000 / (double)(last - first);
	free(trip);
	return r;
}

struct vt_result vt_run(const struct vt_scenario *s)
{
	const uint32_t warps = s->image->block_threads / 32, blocks = s->units / warps;
	struct vt_result r;
	volatile bool ran = false;
	void **shared = calloc(blocks, sizeof(*shared));

	now_running = s;
	costs = &s->costs;
	memset(&counts, 0, sizeof(counts));
	pinned = mmap(NULL, 64 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pinned_next = pinned;
	pinned_end = pinned + (64 << 20);
	tag = calloc(s->costs.tags, sizeof(*tag));
	fibers = calloc(s->units + 2, sizeof(*fibers));
	heap = calloc(s->units + 2, sizeof(struct fiber *));
	sent_ns = calloc(s->messages, sizeof(*sent_ns));
	done_ns = calloc(s->messages, sizeof(*done_ns));
	n_fibers = 0;
	make_grid(s);
	add_fiber(s->flag ? ask : produce, (struct vt_self){ 0 });
	add_fiber(consume, (struct vt_self){ 0 });
	for (uint32_t b = 0; b < blocks; b++) {
		shared[b] = calloc(1, s->image->shared_bytes);
		for (uint32_t w = 0; w < warps; w++)
			add_fiber(s->flag ? answer : unit,
				  (struct vt_self){ b, blocks, w * 32, warps * 32, shared[b] });
	}
	getcontext(&main_context);
	if (!ran) {
		ran = true;
		vt_self = &heap[0]->self;
		setcontext(&heap[0]->context);
	}
	r = sum_up(s);
	for (uint32_t i = 0; i < n_fibers; i++)
		munmap(fibers[i].stack, STACK);
	for (uint32_t b = 0; b < blocks; b++)
		free(shared[b]);
	free(shared);
	free(grid.staging);
	free(tag);
	free(fibers);
	free(heap);
	free(sent_ns);
	free(done_ns);
	munmap(pinned, 64 << 20);
	return r;
}
