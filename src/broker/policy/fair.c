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
	uint64_t least = UINT64_MAX;

	for (const struct gq_fair_user *u = f->users; u != NULL; u = u->next)
		if (u->wanting != 0 && u->used < least)
			least = u->used;
	if (least != UINT64_MAX && least > f->level)
		f->level = least;
	for (struct gq_fair_user *u = f->users; u != NULL; u = u->next) {
		uint64_t may = messages;

		if (u->wanting == 0 && u->used < f->level)
			u->used = f->level;
		if (least != UINT64_MAX)
			may = u->used < least + messages ? least + messages - u->used : 0;
		u->portion = portion_of(u, may < messages ? may : messages);
		u->wanting = 0;
	}
}
