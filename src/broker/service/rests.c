/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rests.c - requests that wait beside the line for room at certain services.
 *
 * Their session, needs or region says that only some services can take them, and those are full.
 * Others get past them, and would take each place there that becomes free. So before the line moves
 * gpuqd looks for room for them, and lets those that find some into the line: of each user and
 * class as many as there is room for, so that the line decides who has it.
 *
 * It looks at RESTS_LOOK requests of each user, the ones whose last try is longest ago. So no
 * user's requests hide those of another.
 */
#include "router.h"

void rests_enter(struct router *r, struct request *q)
{
	struct user *u = q->asker;

	r->rests++;
	q->rests_for_room = true;
	q->rests_before = u->rests_last;
	q->rests_after = NULL;
	*(q->rests_before != NULL ? &q->rests_before->rests_after : &u->rests) = q;
	u->rests_last = q;
}

void rests_leave(struct router *r, struct request *q)
{
	struct user *u = q->asker;

	if (!q->rests_for_room)
		return;
	r->rests--;
	q->rests_for_room = false;
	*(q->rests_before != NULL ? &q->rests_before->rests_after : &u->rests) = q->rests_after;
	*(q->rests_after != NULL ? &q->rests_after->rests_before : &u->rests_last) =
		q->rests_before;
}

/* Whether it may be sent there now. One that drains takes requests of its sessions. */
static bool has_room(const struct router *r, const struct request *q, uint32_t place,
		     uint64_t now_ns)
{
	const struct gq_balance *b = &r->groups[q->group]->balance;

	return !gq_places_has(&b->full, place) &&
	       (gq_places_has(&b->well, place) ||
		(q->session != 0 && r->served[place].sessions_until_ns > now_ns));
}

/* Whether the services that it wants have room beyond what those need that have been let in: others
 * of its user. */
static bool finds_room(const struct router *r, const struct request *q,
		       struct request *const *let_in, uint32_t n, uint64_t now_ns)
{
	const struct gq_balance *b = &r->groups[q->group]->balance;
	uint32_t room = 0;

	for (uint32_t i = gq_places_next(&q->wants, 0); i < GQ_PLACES;
	     i = gq_places_next(&q->wants, i + 1))
		if (gq_places_has(&b->joined, i) && has_room(r, q, i, now_ns))
			room += b->members[i].most - b->members[i].active;
	for (uint32_t i = 0; i < n && room != 0; i++) {
		const struct gq_places both = gq_places_and(&q->wants, &let_in[i]->wants);

		room -= gq__class_of(let_in[i]->priority) == gq__class_of(q->priority) &&
			!gq_places_empty(&both);
	}
	return room != 0;
}

uint32_t rests_find(const struct router *r, uint64_t now_ns, struct request *out[RESTS_FIND])
{
	uint32_t n = 0;

	for (const struct user *u = r->users; u != NULL && r->rests != 0; u = u->next) {
		const uint32_t first = n; /* of this user */
		struct request *q = u->rests;

		for (int i = 0; i < RESTS_LOOK && q != NULL && n < RESTS_FIND;
		     i++, q = q->rests_after)
			if (!share_is_used_up(r, u, q->group) &&
			    finds_room(r, q, out + first, n - first, now_ns))
				out[n++] = q;
	}
	return n;
}

bool rests_in_vain(const struct router *r, const struct request *q, uint64_t now_ns)
{
	return q->rests_for_room &&
	       (!group_moves(r, q->group, now_ns) || share_is_used_up(r, q->asker, q->group));
}
