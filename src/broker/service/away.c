/* SPDX-License-Identifier: Apache-2.0 */
/*
 * away.c - descriptors of regions on their way: sent, and not taken out of the socket yet. There
 * the kernel counts them for gpuqd's user, and keeps them until the other side reads or closes its
 * end, also when gpuqd has closed its own.
 *
 * So a peer has AWAY_MOST of them at most. The next one waits, with all behind it, until nothing
 * that was sent lies in the socket any more (SIOCOUTQ). A peer that ends with some unread stays:
 * it counts as a connection of its user, so that connecting anew brings no more. And all services
 * together have a share of RLIMIT_NOFILE only, so that queues and processes can send theirs.
 *
 * A region of the peer's own user has a reference as long as it is on its way: it counts against
 * that user's quota. One of another user has none, because a worker could keep it for ever.
 */
#include "router.h"

#include "host/base/clock.h"
#include "host/base/sys.h"
#include "program/socket.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { SERVICES_SHARE = 4, USER_SHARE = 2 }; /* of RLIMIT_NOFILE; of that */
#define LOOK_LEAST_NS UINT64_C(1000000)
#define LOOK_MOST_NS  UINT64_C(1000000000)

static void count_none(struct router *r, struct peer *p)
{
	r->away -= p->away;
	p->user->away -= p->away;
	while (p->away != 0)
		region_put(r, p->away_region[--p->away]);
}

void away_settle(struct router *r, struct peer *p)
{
	if (p->away != 0 && !socket_has_unread(p->link.fd))
		count_none(r, p);
}

bool away_is_full(const struct peer *p)
{
	return p->away == AWAY_MOST;
}

/* The same of all peers, unless that was just done: who is at a limit has us look no oftener. What
 * waits for one of them can go now: the next turn sends it. Those that have gone count, too, until
 * they have read theirs, and are looked at seldom: away_tick() forgets them then. */
static void settle_all(struct router *r)
{
	const uint64_t now_ns = gq__now_ns();

	if (now_ns < r->swept_ns + LOOK_LEAST_NS)
		return;
	r->swept_ns = now_ns;
	for (struct peer *p = r->peers; p != NULL; p = p->next) {
		const uint32_t before = p->away;

		away_settle(r, p);
		if (before != p->away && p->out != NULL)
			peer_listen(r, p);
	}
	for (struct peer *p = r->unread; p != NULL; p = p->next)
		away_settle(r, p);
}

static bool exceeds_share(const struct router *r, const struct user *u)
{
	const uint64_t most = gq_sys_descriptors() / SERVICES_SHARE;

	return r->away >= most || u->away >= most / USER_SHARE;
}

enum transport_result away_objection(struct router *r, struct peer *p)
{
	if (away_is_full(p))
		away_settle(r, p);
	if (away_is_full(p))
		return TRANSPORT_NOT_NOW;
	if (!exceeds_share(r, p->user))
		return TRANSPORT_DONE;
	settle_all(r);
	return exceeds_share(r, p->user) ? TRANSPORT_HELD : TRANSPORT_DONE;
}

void away_sent(struct router *r, struct peer *p, struct region *region)
{
	p->away_region[p->away++] = region->user == p->user ? region_hold(region) : NULL;
	p->user->away++;
	r->away++;
	p->away_every_ns = LOOK_LEAST_NS;
	p->away_look_ns = gq__now_ns() + LOOK_LEAST_NS;
}

bool away_keeps(struct router *r, struct peer *p)
{
	away_settle(r, p);
	if (r->ending) /* nobody counts any more */
		count_none(r, p);
	if (p->away == 0)
		return false;
	(void)shutdown(p->link.fd, SHUT_RDWR); /* it reads what was sent, and then the end */
	p->next = r->unread;
	r->unread = p;
	return true;
}

/* @return when to look again; more and more seldom while it does not read */
static uint64_t look(struct router *r, struct peer *p, uint64_t now_ns)
{
	if (p->away == 0)
		return UINT64_MAX;
	if (now_ns < p->away_look_ns)
		return p->away_look_ns;
	away_settle(r, p);
	p->away_every_ns =
		p->away_every_ns < LOOK_MOST_NS / 2 ? 2 * p->away_every_ns : LOOK_MOST_NS;
	p->away_look_ns = now_ns + p->away_every_ns;
	return p->away != 0 ? p->away_look_ns : UINT64_MAX;
}

uint64_t away_tick(struct router *r, uint64_t now_ns)
{
	uint64_t next_ns = UINT64_MAX;

	for (struct peer *p = r->peers; p != NULL; p = p->next) {
		const uint32_t before = p->away;
		uint64_t at_ns = look(r, p, now_ns);

		if (before != 0 && p->away == 0 && p->out != NULL) {
			peer_flush(r, p);
			at_ns = now_ns; /* what that brings is for the next turn */
		}
		next_ns = at_ns < next_ns ? at_ns : next_ns;
	}
	for (struct peer **at = &r->unread; *at != NULL;) {
		struct peer *p = *at;
		const uint64_t at_ns = look(r, p, now_ns);

		if (p->away == 0) {
			*at = p->next;
			peer_free(r, p);
			continue;
		}
		next_ns = at_ns < next_ns ? at_ns : next_ns;
		at = &p->next;
	}
	return next_ns;
}

void away_free(struct router *r)
{
	while (r->unread != NULL) {
		struct peer *p = r->unread;

		r->unread = p->next;
		count_none(r, p);
		peer_free(r, p);
	}
}
