/* SPDX-License-Identifier: Apache-2.0 */
/*
 * next.c - which message a consumer of the CPU device starts next.
 *
 * A lone consumer claims one message at a time: nobody else swaps the class's head, so a claim of
 * several would save nothing. Several consumers claim up to eight at a time, as many as leave the
 * others as much, start one, and hold the rest in their hands (hand.h). So that this changes
 * nothing but the cost:
 *
 *  - No consumer is idle while another holds a message: one that finds no message in the classes
 *    takes from the others' hands, looks into all of them before it sleeps, and one that fills its
 *    hand wakes sleepers.
 *  - No class is held back behind a lower one: hands are filled only while messages of one class
 *    alone have been seen. From then on each consumer empties the hands, its own and the others',
 *    before it claims of that class or a lower one, and claims one at a time.
 *  - No held message waits behind an endless number of newer ones for a consumer that hangs: after
 *    GQ_PASS_LIMIT claims a consumer takes one message from each of the others' hands.
 *  - Stop, pause, cancel and deadline are looked at when a message is taken from a hand, as they
 * are when one is claimed.
 */
#include "device/cpu/next.h"

#include "host/wait/wait.h"

/* The oldest message in the next hands of others, `looks` of them. */
static uint32_t take_from_others(struct gq_consumer *c, uint32_t looks)
{
	const uint32_t n = c->q->cfg.consumers;

	for (; looks != 0; looks--) {
		uint32_t slot;

		c->neighbour = c->neighbour + 1 == n ? 0 : c->neighbour + 1;
		if (c->neighbour == c->index)
			continue;
		slot = gq_hand_take(&gq_consumers_of(c->q)[c->neighbour].hand);
		if (slot != GQ_NONE)
			return slot;
	}
	return GQ_NONE;
}

/* Whether a class has, or had, messages. */
static bool was_used(const GpuQueue *q, uint32_t class)
{
	const struct gq_word_ring *r = &q->ch.ready[class];

	return gq_load_relaxed_device_u64(r->head) != q->start_pos || gq_word_ring_may_hold(r);
}

/* The one class that has been used; GQ_CLASSES: none or several have, and c->mixed says which. */
static uint32_t only_class(struct gq_consumer *c)
{
	uint32_t only = GQ_CLASSES;

	for (uint32_t d = GQ_CLASSES; d-- > 0;) {
		if (!was_used(c->q, d))
			continue;
		if (only != GQ_CLASSES) {
			/* [hand.fill] release: what it has filled last comes before this. */
			gq_store_release_u64(&c->mixed, 1);
			return GQ_CLASSES;
		}
		only = d;
	}
	return only;
}

static void hold(struct gq_consumer *c, uint32_t class, const uint32_t *slots, uint32_t n)
{
	GpuQueue *q = c->q;
	uint32_t woken;

	gq_hand_fill(&c->hand, class, slots, n); /* [hand.fill] */
	if (!gq_event_armed(&q->work))           /* [wake.look] */
		return;
	woken = gq__event_wake(&q->work, n);
	if (woken != 0)
		gq_fetch_add_relaxed_u64(&q->count.wakeups, woken);
}

/* Its own hand first, which holds what is older. */
static uint32_t next_of_one_class(struct gq_consumer *c, uint32_t class)
{
	const struct gq_channel *ch = &c->q->ch;
	const struct gq_word_ring *r = &ch->ready[class];
	uint32_t slots[GQ_HAND_SLOTS + 1], n;
	const uint32_t slot = gq_hand_take(&c->hand);

	if (slot != GQ_NONE)
		return slot;
	n = gq_claim_many(r, ch->slot_mask, gq_share(r, c->q->cfg.consumers), slots);
	if (n > 1)
		hold(c, class, slots + 1, n - 1);
	return n != 0 ? slots[0] : GQ_NONE;
}

/* The hand with the highest class, its own first; NULL: all are empty. */
static struct gq_hand *highest_hand(struct gq_consumer *c, uint32_t *class)
{
	const uint32_t n = c->q->cfg.consumers;
	struct gq_hand *found = NULL;
	bool all_mixed = true;

	*class = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct gq_consumer *other = &gq_consumers_of(c->q)[(c->index + i) % n];
		/* [hand.take] acquire, before the look into its hand: if it fills none any more,
		 * the look finds what it has filled last. */
		const bool mixed = gq_load_acquire_u64(&other->mixed) != 0;
		const uint64_t word = gq_hand_look(&other->hand);

		all_mixed = all_mixed && mixed;
		if (gq_hand_word_is_empty(word))
			continue;
		if (found == NULL || gq_hand_class(word) > *class) {
			found = &other->hand;
			*class = gq_hand_class(word);
		}
	}
	c->hands_empty = found == NULL && all_mixed;
	return found;
}

/* Any hand's, unless a higher class has a message. */
static uint32_t take_unless_lower(struct gq_consumer *c)
{
	for (uint32_t tries = c->q->cfg.consumers; tries != 0; tries--) {
		uint32_t class, slot;
		struct gq_hand *hand = highest_hand(c, &class);

		if (hand == NULL)
			return GQ_NONE;
		for (uint32_t d = class + 1; d < GQ_CLASSES; d++)
			if (gq_word_ring_may_hold(&c->q->ch.ready[d]))
				return GQ_NONE;
		slot = gq_hand_take(hand);
		if (slot != GQ_NONE) /* else others have emptied it meanwhile */
			return slot;
	}
	return GQ_NONE;
}

static uint32_t next_claimed(struct gq_consumer *c)
{
	uint32_t slot = GQ_NONE;

	if (c->mixed == 0) {
		const uint32_t class = only_class(c);

		if (c->mixed == 0)
			return class != GQ_CLASSES ? next_of_one_class(c, class) : GQ_NONE;
	}
	if (!c->hands_empty)
		slot = take_unless_lower(c);
	return slot != GQ_NONE ? slot : gq_claim(&c->q->ch, &c->ageing);
}

/*
 * Fetch a message that a lone consumer will claim soon, if it is published: some places behind the
 * one that it has just claimed. A message lies in two lines that another core has written. Their
 * ways here overlap with the work on the messages before it; the locked operations of claim and
 * completion would else keep the core from starting with them. Relaxed: nothing is read but where
 * the message is, and a wrong place costs time only.
 */
static void fetch_ahead(const struct gq_channel *ch, uint32_t class)
{
	enum { PLACES = 4 };
	const struct gq_word_ring *r = &ch->ready[class];
	const uint64_t pos = gq_load_relaxed_device_u64(r->head) + PLACES - 1;
	const uint64_t word = gq_load_relaxed_u64(gq_word_ring_entry(r, pos));
	uint32_t slot;

	if (!gq_word_ring_is_at(r, word, pos))
		return;
	slot = (uint32_t)(gq_word_ring_value(r, word) & ch->slot_mask);
	__builtin_prefetch(gq_slot_at(ch, slot));
	__builtin_prefetch(gq_payload_at(ch, slot));
}

uint32_t gq__cpu_next(struct gq_consumer *c, bool thorough)
{
	const uint32_t others = c->q->cfg.consumers - 1;
	uint32_t slot;

	if (others == 0) {
		uint32_t class = 0;

		slot = gq_claim_of(&c->q->ch, &c->ageing, &class);
		if (slot != GQ_NONE)
			fetch_ahead(&c->q->ch, class);
		return slot;
	}
	if (c->claims >= GQ_PASS_LIMIT) {
		while (c->claims <= GQ_PASS_LIMIT + others) {
			c->claims++;
			slot = take_from_others(c, 1);
			if (slot != GQ_NONE)
				return slot;
		}
		c->claims = 0;
		slot = c->mixed != 0 ? gq_hand_take(&c->hand)
				     : GQ_NONE; /* what it holds itself, too */
		if (slot != GQ_NONE)
			return slot;
	}
	c->claims++;
	slot = next_claimed(c);
	if (slot == GQ_NONE)
		slot = take_from_others(c, thorough ? others + 1 : 1);
	/* A higher class may have had a message that another consumer has claimed since. */
	return slot != GQ_NONE || !thorough ? slot : gq_hand_take(&c->hand);
}

uint32_t gq__cpu_take_held(GpuQueue *q)
{
	for (uint32_t i = 0; i < q->cfg.consumers; i++) {
		const uint32_t slot = gq_hand_take(&gq_consumers_of(q)[i].hand);

		if (slot != GQ_NONE)
			return slot;
	}
	return GQ_NONE;
}
