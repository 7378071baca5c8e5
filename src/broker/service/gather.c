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
 * batches of one. But a worker that serves other ops as well may never have so much. So once there
 * has been room for some for PATIENCE_NS and the delay, or for half of the time that one of them
 * has left, any room will do. What there was room for then is enough for ENOUGH_NS: else each batch
 * would have to wait so long. How long requests have waited before says nothing of that: with more
 * of them than workers can do, all have, and batches of one would make that worse.
 *
 * To admission a request that gathers is one that runs, as one that rests is; but a user's share of
 * what waits counts it.
 */
#include "router.h"

#include "host/base/clock.h"

#define PATIENCE_NS UINT64_C(1000000000)
#define ENOUGH_NS   UINT64_C(10000000000)
#define LOOK_NS     UINT64_C(2000000)

/* How many requests a service ever takes as one batch. */
static uint32_t most_at(const struct router *r, uint32_t place)
{
	const uint32_t limit = r->served[place].limit;
	const uint32_t batch = r->registry.services[place].can.batch;

	return batch != 0 && batch < limit ? batch : limit;
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
	if (g->gathers == NULL)
		g->short_ns = 0;
	for (const struct request *q = g->gathers; q != NULL && count(g, q); q = q->after)
		;
}

/* The most that one batch can have: with the largest that a service that is well ever takes. */
static uint32_t most_of(const struct router *r, const struct group *g)
{
	uint32_t most = 1;

	for (uint32_t i = gq_places_next(&g->balance.well, 0); i < GQ_PLACES;
	     i = gq_places_next(&g->balance.well, i + 1))
		most = most_at(r, i) > most ? most_at(r, i) : most;
	most = g->op.batch < most ? g->op.batch : most;
	return most > 1 ? most : 1;
}

/* What was found to be enough is so still. */
void gather_resize(struct router *r, struct group *g)
{
	g->batches.most = most_of(r, g);
	recount(g);
}

void gather_configure(struct router *r, struct group *g)
{
	const struct router_op *op = &g->op;

	g->batches = (struct gq_batch_config){ .most = most_of(r, g),
					       .bytes_most = op->batch_bytes,
					       .delay_ns = op->batch_delay_us * UINT64_C(1000) };
	_Static_assert((int)ROUTER_PREFERRED == (int)GQ_BATCH_PREFERRED, "they are copied");
	for (int i = 0; i < ROUTER_PREFERRED; i++)
		g->batches.preferred[i] = op->batch_preferred[i];
	g->enough_until_ns = 0;
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

	for (uint32_t i = gq_places_next(&b->well, 0); i < GQ_PLACES;
	     i = gq_places_next(&b->well, i + 1))
		most_ns = b->members[i].ewma_ns > most_ns ? b->members[i].ewma_ns : most_ns;
	return (uint64_t)most_ns;
}

static uint32_t room_at(const struct group *g, uint32_t place)
{
	const struct gq_balance_member *m = &g->balance.members[place];

	return m->most > m->active ? m->most - m->active : 0;
}

/* Those that are well and have room for so many, or for as many as they ever take. */
static struct gq_places with_room(const struct router *r, const struct group *g, uint32_t n)
{
	const struct gq_places *well = &g->balance.well;
	struct gq_places set = { { 0 } };

	for (uint32_t i = gq_places_next(well, 0); i < GQ_PLACES; i = gq_places_next(well, i + 1))
		if (room_at(g, i) >= (n < most_at(r, i) ? n : most_at(r, i)))
			gq_places_add(&set, i);
	return set;
}

/* When any room will do, also for those that have come since there was too little. */
static uint64_t patient_until_ns(const struct router *r, const struct group *g)
{
	uint64_t left_ns = (r->draining ? 0 : g->batches.delay_ns) + PATIENCE_NS;

	for (const struct request *q = g->gathers; q != NULL; q = q->after) {
		const uint64_t half_ns =
			q->deadline_ns > g->short_ns ? (q->deadline_ns - g->short_ns) / 2 : 0;

		left_ns = half_ns < left_ns ? half_ns : left_ns;
	}
	return g->short_ns + left_ns;
}

/* How many are due. @return 0: none; out_when: then it is looked at again */
static uint32_t due(const struct router *r, const struct group *g, uint64_t now_ns,
		    uint64_t *out_when)
{
	*out_when = UINT64_MAX;
	/* Nobody will take them, and they are told so; or nobody comes that they could wait for. */
	if (gq_places_empty(&g->balance.well) || r->draining)
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
	g->short_ns = 0;
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

/* Chooses a service for the first one. @return false: none lets it through */
static bool place_first(struct router *r, struct group *g, const struct gq_places *among,
			uint64_t now_ns)
{
	uint64_t retry_ns;
	struct gq_frame f;
	bool only_full;

	request_frame(g->gathers, &f);
	return group_pick(r, g->gathers, &f, among, now_ns, &retry_ns, &only_full) ==
	       GQ_WIRE_SUCCESS;
}

/* Sends a batch of the n that are due. @return false: nobody takes it; out_when: then it is looked
 * at again */
static bool go(struct router *r, struct group *g, uint32_t n, uint64_t now_ns, uint64_t *out_when)
{
	const uint32_t want = now_ns < g->enough_until_ns && g->enough < n ? g->enough : n;
	const struct gq_places room = with_room(r, g, want), some = with_room(r, g, 1);
	uint64_t until_ns;

	*out_when = UINT64_MAX; /* room comes with an answer */
	if (gq_places_empty(&some))
		return false;
	if (!gq_places_empty(&room) && place_first(r, g, &room, now_ns)) {
		send_batch(r, g, n, now_ns);
		return true;
	}
	if (g->short_ns == 0)
		g->short_ns = now_ns;
	until_ns = patient_until_ns(r, g);
	if (now_ns >= until_ns && place_first(r, g, &some, now_ns)) {
		g->enough = room_at(g, g->gathers->place) + 1; /* the first has one */
		g->enough_until_ns = now_ns + ENOUGH_NS;
		send_batch(r, g, n, now_ns);
		return true;
	}
	/* Where there is enough room a breaker lets nothing through just now. */
	*out_when = gq_places_empty(&room) && now_ns < until_ns ? until_ns : now_ns + LOOK_NS;
	return false;
}

/* No service is well: the first one ends. */
static void end_first(struct router *r, struct group *g, uint64_t now_ns)
{
	struct request *q = g->gathers;
	enum gq_wire_status status;
	uint64_t retry_ns = 0;
	struct gq_frame f;
	bool only_full;

	request_frame(q, &f);
	status = group_pick(r, q, &f, NULL, now_ns, &retry_ns, &only_full);
	if (status == GQ_WIRE_SUCCESS)
		send_batch(r, g, 1, now_ns);
	else
		request_unplaced(r, q, status, retry_ns);
}

/* No worker could answer these in time. @return whether there were some: the last may have ended
 * the group */
static bool end_expired(struct router *r, const struct group *g, uint64_t now_ns)
{
	struct request *next;
	bool some = false;

	for (struct request *q = g->gathers; q != NULL; q = next) {
		next = q->after;
		if (q->deadline_ns > now_ns)
			continue;
		request_expired(r, q);
		some = true;
	}
	return some;
}

/* @return whether one of them has gone, or ended; out_when: else it is looked at again */
static bool pump_one(struct router *r, struct group *g, uint64_t now_ns, uint64_t *out_when)
{
	const uint32_t n = due(r, g, now_ns, out_when);

	if (n == 0) {
		g->short_ns = 0;
		return false;
	}
	if (end_expired(r, g, now_ns))
		return true;
	if (!gq_places_empty(&g->balance.well))
		return go(r, g, n, now_ns, out_when);
	end_first(r, g, now_ns);
	return true;
}

bool gather_pump(struct router *r, uint64_t now_ns)
{
	bool some = false;

	r->gather_due_ns = UINT64_MAX;
	for (uint32_t i = 0; r->gathering != 0 && i < GROUPS; i++) {
		uint64_t when = UINT64_MAX;

		/* The last request's end may end the group. */
		while (r->groups[i] != NULL && r->groups[i]->gathers != NULL &&
		       pump_one(r, r->groups[i], now_ns, &when))
			some = true;
		if (r->groups[i] != NULL && r->groups[i]->gathers != NULL &&
		    when < r->gather_due_ns)
			r->gather_due_ns = when;
	}
	return some;
}
