/* SPDX-License-Identifier: Apache-2.0 */
/* fair.c - how much the clients of each user may have. */
#include "fair.h"

struct gq_fair_user *gq__fair_join(struct gq_fair *f, struct gq_fair_user *fresh, uint32_t uid)
{
	struct gq_fair_user *u = f->users;

	while (u != NULL && u->uid != uid)
		u = u->next;
	if (u == NULL) {
		*fresh = (struct gq_fair_user){ .next = f->users, .uid = uid, .used = f->level };
		f->users = u = fresh;
	}
	u->clients++;
	return u;
}

struct gq_fair_user *gq__fair_leave(struct gq_fair *f, struct gq_fair_user *user)
{
	struct gq_fair_user **at = &f->users;

	if (--user->clients != 0)
		return NULL;
	while (*at != user)
		at = &(*at)->next;
	*at = user->next;
	return user;
}

static uint32_t portion_of(const struct gq_fair_user *u, uint64_t may)
{
	const uint64_t each = u->wanting > 1 ? may / u->wanting : may;

	return may == 0 ? 0 : each == 0 ? 1 : (uint32_t)each;
}

void gq__fair_turn(struct gq_fair *f, uint32_t messages)
{
	uint64_t least = UINT64_MAX, most = f->level;

	for (const struct gq_fair_user *u = f->users; u != NULL; u = u->next) {
		if (u->wanting != 0 && u->used < least)
			least = u->used;
		if (u->used > most)
			most = u->used;
	}
	/* If nobody wants more, nobody has had anything at another's cost. */
	f->level = least != UINT64_MAX ? least : most;
	f->limit = f->level + messages;
	for (struct gq_fair_user *u = f->users; u != NULL; u = u->next) {
		if (u->wanting == 0 && u->used < f->level)
			u->used = f->level;
		u->portion = portion_of(u, u->used < f->limit ? f->limit - u->used : 0);
		u->wanting = 0;
	}
}

uint32_t gq__fair_take(const struct gq_fair *f, struct gq_fair_user *user, uint32_t most)
{
	uint64_t n = user->used < f->limit ? f->limit - user->used : 1;

	n = n < user->portion ? n : user->portion;
	n = n < most ? n : most;
	user->used += n;
	return (uint32_t)n;
}
