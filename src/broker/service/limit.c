/* SPDX-License-Identifier: Apache-2.0 */
/*
 * limit.c - how many requests a service has at once: its capacity or, where the configuration says
 * so, what has been learned from its answers (policy/concurrency.c), if that is less.
 *
 * To all others the limit is what the capacity is without it: how many of its requests make a
 * member of a group full. It changes in all groups of the service at once, because its requests
 * count in all of them.
 *
 * Requests that are LATE count for the capacity alone. A worker that has forgotten one would else
 * get no other, as one is where learning begins, and nothing would be learned any more.
 */
#include "router.h"

#include "host/base/clock.h"

/* By what its limit is learned: its first op says so, or the services in general. */
static uint32_t concurrency_of(const struct router *r, uint32_t place)
{
	const uint32_t own = r->groups[r->served[place].group[0]]->op.concurrency;
	const uint32_t said = own != ROUTER_CONCURRENCY_AS_ALL ? own : r->cfg.concurrency;

	return said != ROUTER_CONCURRENCY_AS_ALL ? said : ROUTER_CONCURRENCY_FIXED;
}

static uint64_t timeout_ns(const struct router *r)
{
	return r->cfg.timeout_ms * UINT64_C(1000000);
}

/* Forgets what it knows. By how long answers take is learned from one request at a time on: only
 * that one waits for no other. */
static void learn_anew(struct router *r, uint32_t place)
{
	static const enum gq_concurrency_kind kinds[] = {
		[ROUTER_CONCURRENCY_VEGAS] = GQ_CONCURRENCY_VEGAS,
		[ROUTER_CONCURRENCY_GRADIENT2] = GQ_CONCURRENCY_GRADIENT2,
		[ROUTER_CONCURRENCY_AIMD] = GQ_CONCURRENCY_AIMD,
	};
	struct served *s = &r->served[place];
	const struct gq_concurrency_config cfg = {
		.kind = kinds[s->concurrency],
		.first = s->concurrency == ROUTER_CONCURRENCY_AIMD ? s->capacity : 1,
		.least = 1,
		.most = s->capacity,
		.timeout_ns = timeout_ns(r),
		.ignore_ns = 1, /* short ones are as true: they have been answered */
	};

	(void)gq__concurrency_init(&s->learned, &cfg,
				   gq__now_ns()); /* 1 is no more than it takes */
}

static uint32_t limit_of(const struct served *s)
{
	return s->concurrency == ROUTER_CONCURRENCY_FIXED ? s->capacity
							  : gq__concurrency_limit(&s->learned);
}

static void tell_balancers(struct router *r, uint32_t place)
{
	const struct served *s = &r->served[place];
	const uint32_t room = s->limit + s->late;
	const uint32_t most = room < s->capacity ? room : s->capacity;

	for (uint32_t i = 0; i < s->groups; i++)
		gq__balance_limit(&r->groups[s->group[i]]->balance, place, most);
}

static void apply(struct router *r, uint32_t place)
{
	struct served *s = &r->served[place];
	const uint32_t limit = limit_of(s);

	if (limit == s->limit)
		return;
	s->limit = limit;
	tell_balancers(r, place);
	for (uint32_t i = 0; i < s->groups; i++) {
		gather_resize(r, r->groups[s->group[i]]);
		share_resize(r, s->group[i]);
	}
}

void limit_begin(struct router *r, uint32_t place)
{
	struct served *s = &r->served[place];

	s->concurrency = concurrency_of(r, place);
	if (s->concurrency != ROUTER_CONCURRENCY_FIXED)
		learn_anew(r, place);
	s->limit = limit_of(s);
}

void limit_configure(struct router *r)
{
	for (uint32_t i = 0; i < GQ_SERVICES_MAX; i++) {
		struct served *s = &r->served[i];
		const uint32_t before = s->concurrency;

		if (s->peer == NULL)
			continue;
		s->concurrency = concurrency_of(r, i);
		if (s->concurrency != before && s->concurrency != ROUTER_CONCURRENCY_FIXED)
			learn_anew(r, i);
		s->learned.config.timeout_ns = timeout_ns(r);
		apply(r, i);
	}
}

/* Of a service of several ops the first one counts: times of two ops would be averages of what was
 * asked for. */
static bool counts(const struct router *r, const struct request *q)
{
	const struct served *s = &r->served[q->place];

	return s->concurrency != ROUTER_CONCURRENCY_FIXED && s->group[0] == q->group;
}

static uint32_t in_flight(const struct router *r, const struct request *q)
{
	return r->groups[q->group]->balance.members[q->place].active;
}

void limit_answered(struct router *r, const struct request *q, uint64_t now_ns)
{
	if (counts(r, q) && gq__concurrency_answered(&r->served[q->place].learned, in_flight(r, q),
						     now_ns - q->began_ns + 1, now_ns, &r->random))
		apply(r, q->place);
}

void limit_expired(struct router *r, const struct request *q, uint64_t now_ns)
{
	if (counts(r, q) &&
	    gq__concurrency_lost(&r->served[q->place].learned, in_flight(r, q), now_ns, &r->random))
		apply(r, q->place);
}

void limit_late(struct router *r, uint32_t place)
{
	r->served[place].late++;
	tell_balancers(r, place);
}

void limit_late_left(struct router *r, uint32_t place)
{
	r->served[place].late--;
	tell_balancers(r, place);
}
