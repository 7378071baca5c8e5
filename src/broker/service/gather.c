/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gather.c - requests of one op that go to a worker as one batch.
 *
 * The configuration says of an op how many requests a batch may have, how many bytes, and how long
 * the first one waits for others. Its requests leave the line in admission's order, as ever, but
 * then gather here until policy/batch.c says that so many are due. These go to one worker, one
 * frame each, one behind the other. Each frame says which place it has in its batch, so the
 * worker's library can hand them out together.
 *
 * What may need a worker of its own goes by itself, at once: a request with a session, with needs
 * or with a region. So does each attempt after the first: of a batch whose worker has died, the
 * request that killed it takes no other with it again.
 *
 * A batch goes to a worker that has room for all of it, or for as much as that worker ever takes.
 * Otherwise a busy worker, which has room for one request whenever it has answered one, would get
 * batches of one. But after PATIENCE_NS any room will do: a worker that serves other ops as well
 * may never have so much.
 *
 * To admission a request that gathers is one that runs, as one that rests is; but a user's share of
 * what waits counts it.
 */
#include "router.h"

#include "host/base/clock.h"

#define PATIENCE_NS UINT64_C(1000000000)
#define LOOK_NS     UINT64_C(2000000)

/* How many requests a service ever takes as one batch. */
static uint32_t most_at(const struct router *r, uint32_t place)
{
	const uint32_t capacity = r->served[place].capacity;
	const uint32_t batch = r->registry.services[place].can.batch;

	return batch != 0 && batch < capacity ? batch : capacity;
}

/* ---- what gathers ---------------------------------------------------------------------------- */

static bool count(struct group *g, const struct request *q)
{
	/* It waits for half of its time, less what a worker is likely to take; what is critical
	 * does not wait. Those before it go with it. */
	const uint64_t last_ns = gq__class_of(q->priority) == GQ_CLASS_CRITICAL
					 ? 0
					 : q->came_ns + (q->deadline_ns - q->came_ns) / 2;

	return gq__batch_add(&g->batch, &g->batches, q->payload, q->came_ns, last_ns);
}

static void recount(struct group *g)
{
	gq__batch_begin(&g->batch);
	for (const struct request *q = g->gathers; q != NULL && count(g, q); q = q->after)
		;
}

void gather_configure(struct router *r, struct group *g)
{
	const struct router_op *op = &g->op;
	uint32_t most = 1;

	for (uint32_t i = gq_places_next(&g->balance.joined, 0); i < GQ_PLACES;
	     i = gq_places_next(&g->balance.joined, i + 1))
		most = most_at(r, i) > most ? most_at(r, i) : most;
	most = op->batch < most ? op->batch : most;
	g->batches = (struct gq_batch_config){ .most = most > 1 ? most : 1,
					       .bytes_most = op->batch_bytes,
					       .delay_ns = op->batch_delay_us * UINT64_C(1000) };
	_Static_assert((int)ROUTER_PREFERRED == (int)GQ_BATCH_PREFERRED, "they are copied");
	for (int i = 0; i < ROUTER_PREFERRED; i++)
		g->batches.preferred[i] = op->batch_preferred[i];
	recount(g);
}

bool gather_takes(const struct router *r, const struct request *q, const struct gq_frame *f)
{
	return r->groups[q->group]->op.batch > 1 && q->attempts == 0 && q->region == NULL &&
	       !gq_frame_has(f, GQ_TLV_SESSION) && !gq_frame_has(f, GQ_TLV_FILTER);
}

bool gather_has_room(const struct group *g)
{
	return !g->batch.full;
}

void gather_join(struct router *r, struct request *q, const struct gq_frame *f)
{
	struct group *g = r->groups[q->group];

	q->payload = payload_bytes(f);
	q->before = g->gathers_last;
	q->after = NULL;
	*(q->before != NULL ? &q->before->after : &g->gathers) = q;
	g->gathers_last = q;
	(void)count(g, q); /* if it does not fit, the batch is full, and goes without it */
}

/* Takes it out of the list. The count is the caller's to mend. */
static void unlink_one(struct group *g, struct request *q)
{
	*(q->before != NULL ? &q->before->after : &g->gathers) = q->after;
	*(q->after != NULL ? &q->after->before : &g->gathers_last) = q->before;
	q->before = q->after = NULL;
}

void gather_leave(struct router *r, struct request *q)
{
	struct group *g = r->groups[q->group];

	unlink_one(g, q);
	recount(g);
}

/* ---- when, and where ------------------------------------------------------------------------- */

/* How long a worker is likely to take for it. */
static uint64_t run_ns(const struct group *g)
{
	const struct gq_balance *b = &g->balance;
	double most_ns = 0;

	for (uint32_t i = gq_places_next(&b->joined, 0); i < GQ_PLACES;
	     i = gq_places_next(&b->joined, i + 1))
		most_ns = b->members[i].ewma_ns > most_ns ? b->members[i].ewma_ns : most_ns;
	return (uint64_t)most_ns;
}

/* Those that are well and have room for a batch of so many. */
static struct gq_places with_room(const struct router *r, const struct group *g, uint32_t n,
				  bool any_room)
{
	const struct gq_balance *b = &g->balance;
	struct gq_places set = { { 0 } };

	for (uint32_t i = gq_places_next(&b->well, 0); i < GQ_PLACES;
	     i = gq_places_next(&b->well, i + 1)) {
		const struct gq_balance_member *m = &b->members[i];
		const uint32_t room = m->most > m->active ? m->most - m->active : 0;
		const uint32_t most = most_at(r, i), want = n < most ? n : most;

		if (room >= (any_room ? 1 : want))
			gq_places_add(&set, i);
	}
	return set;
}

/* How many are due. @return 0: none; out_when: then it is looked at again */
static uint32_t due(const struct group *g, uint64_t now_ns, uint64_t *out_when)
{
	*out_when = UINT64_MAX;
	if (gq_places_empty(&g->balance.well)) /* nobody will take them: they are told so */
		return g->batch.count;
	return gq__batch_due(&g->batch, &g->batches, run_ns(g), now_ns, out_when);
}

/* Sends the first one, which has its place, and as many of the next n - 1 as that takes. */
static void send_batch(struct router *r, struct group *g, uint32_t n, uint64_t now_ns)
{
	const uint32_t place = g->gathers->place, most = most_at(r, place);
	struct request *q = g->gathers->after;
	uint32_t batch[2] = { 0, 1 };

	for (; batch[1] < n && batch[1] < most && q != NULL; q = q->after, batch[1]++)
		if (!group_take(r, q, place, now_ns))
			break;
	r->counts.batches++;
	r->counts.batched += batch[1];
	for (; batch[0] < batch[1]; batch[0]++) {
		struct gq_frame f;

		q = g->gathers;
		unlink_one(g, q);
		request_frame(q, &f);
		if (batch[1] > 1)
			gq__frame_set(&f, GQ_TLV_BATCH, false, batch, sizeof(batch));
		request_send(r, q, &f, now_ns);
	}
	recount(g);
}

/* Sends a batch, or ends the first request. @return false: n are due, and nobody has room;
 * out_when: then it is looked at again */
static bool go(struct router *r, struct group *g, uint32_t n, uint64_t now_ns, uint64_t *out_when)
{
	const uint64_t patient_ns = g->batch.oldest_ns + g->batches.delay_ns + PATIENCE_NS;
	const struct gq_places room = with_room(r, g, n, now_ns >= patient_ns);
	const bool some_well = !gq_places_empty(&g->balance.well);
	struct request *q = g->gathers;
	enum gq_wire_status status;
	uint64_t retry_ns = 0;
	struct gq_frame f;
	bool only_full;

	*out_when = now_ns < patient_ns ? patient_ns : UINT64_MAX; /* room comes with an answer */
	if (some_well && gq_places_empty(&room))
		return false;
	request_frame(q, &f);
	status = group_pick(r, q, &f, some_well ? &room : NULL, now_ns, &retry_ns, &only_full);
	if (status == GQ_WIRE_SUCCESS) {
		send_batch(r, g, n, now_ns);
		return true;
	}
	if (some_well) { /* a breaker lets nothing through just now */
		*out_when = now_ns + LOOK_NS;
		return false;
	}
	request_unplaced(r, q, status, retry_ns);
	return true;
}

bool gather_pump(struct router *r, uint64_t now_ns)
{
	bool some = false;

	r->gather_due_ns = UINT64_MAX;
	for (uint32_t i = 0; r->gathering != 0 && i < GROUPS; i++) {
		uint64_t when = UINT64_MAX;
		uint32_t n;

		/* The last request's end may end the group. */
		while (r->groups[i] != NULL && r->groups[i]->gathers != NULL &&
		       (n = due(r->groups[i], now_ns, &when)) != 0 &&
		       go(r, r->groups[i], n, now_ns, &when))
			some = true;
		if (r->groups[i] != NULL && r->groups[i]->gathers != NULL &&
		    when < r->gather_due_ns)
			r->gather_due_ns = when;
	}
	return some;
}
