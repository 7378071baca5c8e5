/* SPDX-License-Identifier: Apache-2.0 */
/* sticky.c - a table of sessions: a hash of chains, and a list by last use. */
#include "sticky.h"

#include "siphash.h"

#include <stdlib.h>
#include <string.h>

#define TTL_NS UINT64_C(300000000000)
#define NONE   UINT32_MAX

struct gq_sticky_entry {
	uint8_t key[GQ_STICKY_KEY_MAX];
	uint32_t bytes;
	uint32_t uid;
	uint32_t place;
	uint32_t chain; /* the chain's number */
	uint64_t generation;
	uint64_t used_ns;
	uint32_t next;  /* in the chain, or among the free */
	uint32_t newer; /* in the list by last use */
	uint32_t older;
};

enum gq_sticky_status gq__sticky_init(struct gq_sticky *t, const struct gq_sticky_config *config)
{
	struct gq_sticky_config c = *config;
	uint32_t chains = 1;

	c.sessions = c.sessions != 0 ? c.sessions : GQ_STICKY_MAX;
	c.ttl_ns = c.ttl_ns != 0 ? c.ttl_ns : TTL_NS;
	if (c.sessions > GQ_STICKY_MAX)
		return GQ_STICKY_CONFIG;
	while (chains < c.sessions)
		chains *= 2;
	memset(t, 0, sizeof(*t));
	t->config = c;
	t->mask = chains - 1;
	t->entries = calloc(c.sessions, sizeof(*t->entries));
	t->chains = malloc(chains * sizeof(*t->chains));
	if (!t->entries || !t->chains) {
		gq__sticky_free(t);
		return GQ_STICKY_MEMORY;
	}
	memset(t->chains, 0xff, chains * sizeof(*t->chains));
	for (uint32_t i = 0; i < c.sessions; i++)
		t->entries[i].next = i + 1 < c.sessions ? i + 1 : NONE;
	t->newest = NONE;
	t->oldest = NONE;
	return GQ_STICKY_OK;
}

void gq__sticky_free(struct gq_sticky *t)
{
	free(t->entries);
	free(t->chains);
	memset(t, 0, sizeof(*t));
}

static bool is_key(const struct gq_session *s)
{
	return s->bytes > 0 && s->bytes <= GQ_STICKY_KEY_MAX;
}

uint64_t gq__session_hash(const uint64_t key[2], const struct gq_session *s)
{
	uint8_t bytes[sizeof(s->uid) + GQ_STICKY_KEY_MAX];

	memcpy(bytes, &s->uid, sizeof(s->uid));
	memcpy(bytes + sizeof(s->uid), s->key, s->bytes);
	return gq__siphash(key, bytes, sizeof(s->uid) + s->bytes);
}

static uint32_t chain_of(const struct gq_sticky *t, const struct gq_session *s)
{
	return (uint32_t)gq__session_hash(t->config.key, s) & t->mask;
}

static uint32_t find(const struct gq_sticky *t, const struct gq_session *s, uint32_t chain)
{
	uint32_t i = t->chains[chain];

	while (i != NONE && (t->entries[i].uid != s->uid || t->entries[i].bytes != s->bytes ||
			     memcmp(t->entries[i].key, s->key, s->bytes) != 0))
		i = t->entries[i].next;
	return i;
}

/* Out of the list by last use. */
static void unlink_use(struct gq_sticky *t, const struct gq_sticky_entry *e)
{
	if (e->newer != NONE)
		t->entries[e->newer].older = e->older;
	else
		t->newest = e->older;
	if (e->older != NONE)
		t->entries[e->older].newer = e->newer;
	else
		t->oldest = e->newer;
}

/* To the head of the list by last use. */
static void link_use(struct gq_sticky *t, uint32_t i, uint64_t now_ns)
{
	struct gq_sticky_entry *e = &t->entries[i];

	e->used_ns = now_ns;
	e->newer = NONE;
	e->older = t->newest;
	if (t->newest != NONE)
		t->entries[t->newest].newer = i;
	else
		t->oldest = i;
	t->newest = i;
}

static void forget(struct gq_sticky *t, uint32_t i)
{
	struct gq_sticky_entry *e = &t->entries[i];
	uint32_t *at = &t->chains[e->chain];

	while (*at != i)
		at = &t->entries[*at].next;
	*at = e->next;
	unlink_use(t, e);
	t->by_user[e->uid % GQ_STICKY_USERS]--;
	e->next = t->free;
	t->free = i;
	t->count--;
}

/* Sessions whose time is over; they are the oldest. */
static void expire(struct gq_sticky *t, uint64_t now_ns)
{
	while (t->oldest != NONE && now_ns > t->entries[t->oldest].used_ns &&
	       now_ns - t->entries[t->oldest].used_ns >= t->config.ttl_ns)
		forget(t, t->oldest);
}

enum gq_sticky_status gq__sticky_route(struct gq_sticky *t, const struct gq_session *session,
				       const struct gq_places *may_keep,
				       const uint64_t *generations, uint64_t now_ns, uint32_t *out)
{
	struct gq_sticky_entry *e;
	uint32_t i;

	if (!is_key(session))
		return GQ_STICKY_KEY;
	expire(t, now_ns);
	i = find(t, session, chain_of(t, session));
	if (i == NONE)
		return GQ_STICKY_NEW;
	e = &t->entries[i];
	if (gq_places_has(may_keep, e->place) && generations[e->place] == e->generation) {
		unlink_use(t, e);
		link_use(t, i, now_ns);
		*out = e->place;
		return GQ_STICKY_KEEP;
	}
	if (t->config.strict) {
		*out = generations[e->place] == e->generation ? e->place : GQ_PLACES;
		return GQ_STICKY_REFUSE;
	}
	t->broken++;
	forget(t, i);
	return GQ_STICKY_BROKEN;
}

/* Which session makes room for one of this user: the one that was used longest ago; if the user has
 * half of all, of its own. So one user ends at most half of the others' by beginning many. */
static uint32_t to_evict(const struct gq_sticky *t, uint32_t uid)
{
	uint32_t i = t->oldest;

	if (t->by_user[uid % GQ_STICKY_USERS] < t->config.sessions / 2)
		return i;
	while (i != NONE && t->entries[i].uid % GQ_STICKY_USERS != uid % GQ_STICKY_USERS)
		i = t->entries[i].newer;
	return i != NONE ? i : t->oldest; /* only with a table of one */
}

enum gq_sticky_status gq__sticky_bind(struct gq_sticky *t, const struct gq_session *session,
				      uint32_t place, uint64_t generation, uint64_t now_ns)
{
	struct gq_sticky_entry *e;
	uint32_t chain;
	uint32_t i;

	if (!is_key(session))
		return GQ_STICKY_KEY;
	if (place >= GQ_PLACES)
		return GQ_STICKY_PLACE;
	expire(t, now_ns);
	chain = chain_of(t, session);
	i = find(t, session, chain);
	if (i != NONE) {
		unlink_use(t, &t->entries[i]);
	} else {
		if (t->free == NONE) {
			forget(t, to_evict(t, session->uid));
			t->evicted++;
		}
		i = t->free;
		e = &t->entries[i];
		t->free = e->next;
		e->uid = session->uid;
		e->bytes = (uint32_t)session->bytes;
		memcpy(e->key, session->key, session->bytes);
		e->chain = chain;
		e->next = t->chains[chain];
		t->chains[chain] = i;
		t->count++;
		t->by_user[e->uid % GQ_STICKY_USERS]++;
	}
	e = &t->entries[i];
	e->place = place;
	e->generation = generation;
	link_use(t, i, now_ns);
	return GQ_STICKY_OK;
}
