/* SPDX-License-Identifier: Apache-2.0 */
/*
 * share.c - how much of an op's workers one user may have at once.
 *
 * Turns between users are turns of requests that wait. Who comes when one user's requests have
 * filled all workers waits until one of them is done, whoever goes next. So the configuration may
 * say that no user has more than some percent of what an op's workers take at once: then the first
 * request of another user finds room.
 *
 * Of a user's requests those count that such a worker has, also when they are LATE, and whichever
 * of its ops they are for; and those that gather for one. A worker that is not well, or whose
 * breaker is half open, counts neither with what it takes nor with what it has: else a user whose
 * requests hang there could have nothing of the others.
 *
 * Admission is told who has used up its share, and holds what that user has waiting
 * (gq__admission_hold()). That is kept nowhere here: it is so while `at_work` is not below
 * `user_most`.
 */
#include "router.h"

#define ANY UINT32_MAX

bool share_is_used_up(const struct router *r, const struct user *u, uint32_t group)
{
	return group != GROUPS && u->at_work[group] >= r->groups[group]->user_most;
}

/* The groups in which it counts. */
static struct gq_places counts_in(const struct router *r, const struct request *q)
{
	const bool at_worker = q->state == REQUEST_RUNS || q->state == REQUEST_LATE;
	const struct served *s = at_worker && q->place != NOBODY ? &r->served[q->place] : NULL;
	struct gq_places set = { { 0 } };

	if (q->state == REQUEST_GATHERS)
		gq_places_add(&set, q->group);
	for (uint32_t i = 0; s != NULL && s->counts && i < s->groups; i++)
		gq_places_add(&set, s->group[i]);
	return set;
}

/* One more, or one less, of a user's. */
static void add(struct router *r, struct user *u, uint32_t group, int32_t n)
{
	const bool before = share_is_used_up(r, u, group);

	u->at_work[group] += (uint32_t)n;
	if (share_is_used_up(r, u, group) != before)
		gq__admission_hold(&r->admission, group, u->uid, !before);
}

void share_count(struct router *r, struct request *q)
{
	const struct gq_places now = counts_in(r, q);
	const struct gq_places more = gq_places_without(&now, &q->at_work);
	const struct gq_places less = gq_places_without(&q->at_work, &now);

	for (uint32_t i = gq_places_next(&less, 0); i < GROUPS; i = gq_places_next(&less, i + 1))
		add(r, q->asker, i, -1);
	for (uint32_t i = gq_places_next(&more, 0); i < GROUPS; i = gq_places_next(&more, i + 1))
		add(r, q->asker, i, 1);
	q->at_work = now;
}

/* One at least, or nothing of a user's would ever go. */
static uint32_t most_of(const struct router *r, const struct group *g)
{
	const struct gq_places *all = &g->balance.joined;
	const uint32_t percent = g->op.user_percent != 0 ? g->op.user_percent : r->cfg.user_percent;
	uint32_t room = 0;

	if (percent == 100)
		return ANY;
	for (uint32_t i = gq_places_next(all, 0); i < GQ_PLACES; i = gq_places_next(all, i + 1))
		room += r->served[i].counts ? r->served[i].limit : 0;
	return room * percent / 100 > 1 ? room * percent / 100 : 1;
}

void share_resize(struct router *r, uint32_t group)
{
	const uint32_t before = r->groups[group]->user_most, most = most_of(r, r->groups[group]);

	r->groups[group]->user_most = most;
	for (const struct user *u = r->users; u != NULL && most != before; u = u->next)
		if ((u->at_work[group] >= before) != (u->at_work[group] >= most))
			gq__admission_hold(&r->admission, group, u->uid,
					   share_is_used_up(r, u, group));
}

/* Only what it has itself is looked at: whoever registers may do so as often as he likes. */
void share_service(struct router *r, uint32_t place, bool counts)
{
	struct served *s = &r->served[place];

	if (s->counts == counts)
		return;
	s->counts = counts;
	for (uint32_t i = 0; i < r->used; i++)
		if (r->requests[i].place == place)
			share_count(r, &r->requests[i]);
	for (uint32_t i = 0; i < s->groups; i++)
		share_resize(r, s->group[i]);
}
