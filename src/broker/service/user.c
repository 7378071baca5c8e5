/* SPDX-License-Identifier: Apache-2.0 */
/* user.c - what a user has of what all share: so much that others are left some. */
#include "router.h"

#include <stdlib.h>

struct user *user_of(struct router *r, uid_t uid)
{
	struct user *u = r->users;

	while (u != NULL && u->uid != uid)
		u = u->next;
	if (u != NULL)
		return u;
	u = calloc(1, sizeof(*u));
	if (u == NULL)
		return NULL;
	u->uid = uid;
	u->next = r->users;
	r->users = u;
	return u;
}

void user_put(struct router *r, struct user *u)
{
	struct user **at = &r->users;

	if (u->peers != 0 || u->requests != 0 || u->asked != 0 || u->keys != 0 || u->regions != 0)
		return;
	while (*at != u)
		at = &(*at)->next;
	*at = u->next;
	free(u);
}

/* Requests that it has got for services that it has no more. They may all become LATE. */
static uint32_t left_over(const struct router *r, const struct peer *p)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r->used; i++)
		n += r->requests[i].state != REQUEST_FREE && r->requests[i].worker == p &&
		     r->requests[i].place == NOBODY;
	return n;
}

const char *user_objection(const struct router *r, const struct peer *p, uint32_t place,
			   uint32_t capacity)
{
	uint32_t services = 0, of_user = capacity, of_peer = capacity + left_over(r, p);

	for (uint32_t i = 0; i < GQ_SERVICES_MAX; i++) {
		const struct served *s = &r->served[i];

		if (i == place || s->peer == NULL || s->peer->user != p->user)
			continue;
		services++;
		of_user += s->capacity;
		of_peer += s->peer == p ? s->capacity : 0;
	}
	if (services >= USER_SERVICES)
		return "this user has 75 services";
	if (of_peer > CAPACITY_MAX)
		return "a connection's services, and what it has not answered, take 256 requests "
		       "at most";
	if (of_user > USER_CAPACITY)
		return "this user's services take 2048 requests at most";
	return NULL;
}
