/* SPDX-License-Identifier: Apache-2.0 */
/* cache.c - answers with a clock that evicts them, and flights that others join. */
#include "cache.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

enum { TABLE_MOST = 1 << 20, LARGEST_SHARE = 16 };

struct gq_cache_entry {
	struct gq_cache_key key;
	uint64_t answer;
	uint64_t bytes;
	uint64_t until_ns;
	uint32_t next; /* in its chain, among the free, or among the dropped */
	uint32_t older;
	uint32_t newer;
	bool used; /* since the clock's hand was here */
	bool live;
};

struct gq_cache_flight {
	struct gq_cache_key key;
	uint32_t first; /* waiters */
	uint32_t last;
	uint32_t next; /* in its chain, or among the free */
	uint64_t leader;
	bool done;
};

struct gq_cache_waiter {
	uint64_t requester;
	uint32_t flight;
	uint32_t next; /* for the same flight, or among the free */
	uint32_t before;
	uint32_t next_in_chain; /* of those whose requesters' numbers are alike */
};

static uint32_t chains_for(uint32_t count)
{
	uint32_t chains = 1;

	while (chains < count)
		chains *= 2;
	return chains;
}

enum gq_cache_status gq__cache_init(struct gq_cache *c, const struct gq_cache_config *config)
{
	struct gq_cache_config s = *config;

	s.entries = s.entries != 0 ? s.entries : 1000;
	s.bytes = s.bytes != 0 ? s.bytes : UINT64_C(64) << 20;
	s.ttl_ns = s.ttl_ns != 0 ? s.ttl_ns : UINT64_C(300000000000);
	s.running = s.running != 0 ? s.running : 1024;
	s.waiting = s.waiting != 0 ? s.waiting : 4096;
	if (s.entries > TABLE_MOST || s.running > TABLE_MOST || s.waiting > TABLE_MOST)
		return GQ_CACHE_CONFIG;
	memset(c, 0, sizeof(*c));
	c->config = s;
	c->entry_mask = chains_for(s.entries) - 1;
	c->flight_mask = chains_for(s.running) - 1;
	/* Twice as many: those that are to be given back have their places until they are. */
	c->places = s.entries * 2;
	c->entries = calloc(c->places, sizeof(*c->entries));
	c->flights = calloc(s.running, sizeof(*c->flights));
	c->waiter_mask = chains_for(s.waiting) - 1;
	c->waiters = calloc(s.waiting, sizeof(*c->waiters));
	c->waiter_chains = malloc((c->waiter_mask + 1) * sizeof(*c->waiter_chains));
	c->entry_chains = malloc((c->entry_mask + 1) * sizeof(*c->entry_chains));
	c->flight_chains = malloc((c->flight_mask + 1) * sizeof(*c->flight_chains));
	if (!c->entries || !c->flights || !c->waiters || !c->entry_chains || !c->flight_chains ||
	    !c->waiter_chains) {
		gq__cache_free(c);
		return GQ_CACHE_MEMORY;
	}
	memset(c->entry_chains, 0xff, (c->entry_mask + 1) * sizeof(*c->entry_chains));
	memset(c->flight_chains, 0xff, (c->flight_mask + 1) * sizeof(*c->flight_chains));
	memset(c->waiter_chains, 0xff, (c->waiter_mask + 1) * sizeof(*c->waiter_chains));
	for (uint32_t i = 0; i < c->places; i++)
		c->entries[i].next = i + 1 < c->places ? i + 1 : NONE;
	for (uint32_t i = 0; i < s.running; i++)
		c->flights[i].next = i + 1 < s.running ? i + 1 : NONE;
	for (uint32_t i = 0; i < s.waiting; i++)
		c->waiters[i].next = i + 1 < s.waiting ? i + 1 : NONE;
	c->dropped = c->oldest = c->newest = NONE;
	return GQ_CACHE_OK;
}

void gq__cache_free(struct gq_cache *c)
{
	free(c->entries);
	free(c->flights);
	free(c->waiters);
	free(c->entry_chains);
	free(c->flight_chains);
	free(c->waiter_chains);
	sodium_memzero(c, sizeof(*c));
}

/* A part of what is hashed: its length first, so that no two lists of parts are the same bytes. */
static void hash_part(crypto_generichash_state *state, const void *data, size_t bytes)
{
	const uint64_t length = bytes;

	crypto_generichash_update(state, (const unsigned char *)&length, sizeof(length));
	if (bytes > 0)
		crypto_generichash_update(state, data, bytes);
}

static void hash_request(const struct gq_cache *c, const struct gq_cache_request *r, uint8_t *out)
{
	crypto_generichash_state state;
	const uint64_t owner = r->is_public ? UINT64_MAX : r->uid;

	crypto_generichash_init(&state, c->config.secret, GQ_CACHE_SECRET, GQ_CACHE_HASH);
	hash_part(&state, "request", 7);
	hash_part(&state, &owner, sizeof(owner));
	hash_part(&state, r->op, r->op_bytes);
	hash_part(&state, &r->op_version, sizeof(r->op_version));
	hash_part(&state, r->parameters, r->parameter_bytes);
	hash_part(&state, r->payload, r->payload_bytes);
	crypto_generichash_final(&state, out, GQ_CACHE_HASH);
}

void gq__cache_key(const struct gq_cache *c, const struct gq_cache_request *request,
		   struct gq_cache_key *out)
{
	memset(out, 0, sizeof(*out));
	hash_request(c, request, out->hash);
	out->payload_bytes = request->payload_bytes;
}

void gq__cache_idempotency(const struct gq_cache *c, uint32_t uid, const void *key, size_t bytes,
			   const struct gq_cache_request *request, struct gq_cache_key *out)
{
	crypto_generichash_state state;

	memset(out, 0, sizeof(*out));
	crypto_generichash_init(&state, c->config.secret, GQ_CACHE_SECRET, GQ_CACHE_HASH);
	hash_part(&state, "idempotency", 11);
	hash_part(&state, &uid, sizeof(uid));
	hash_part(&state, key, bytes);
	crypto_generichash_final(&state, out->hash, GQ_CACHE_HASH);
	hash_request(c, request, out->check);
	out->payload_bytes = request->payload_bytes;
}

static uint32_t *chain_of(uint32_t *chains, uint32_t mask, const struct gq_cache_key *key)
{
	uint32_t hash;

	memcpy(&hash, key->hash, sizeof(hash));
	return &chains[hash & mask];
}

/* All of the hash, not the part that chose the chain. */
static bool is_same(const struct gq_cache_key *a, const struct gq_cache_key *b)
{
	return memcmp(a->hash, b->hash, sizeof(a->hash)) == 0;
}

static bool is_same_request(const struct gq_cache_key *a, const struct gq_cache_key *b)
{
	return a->payload_bytes == b->payload_bytes &&
	       memcmp(a->check, b->check, sizeof(a->check)) == 0;
}

static struct gq_cache_entry *find_entry(struct gq_cache *c, const struct gq_cache_key *key)
{
	uint32_t i = *chain_of(c->entry_chains, c->entry_mask, key);

	while (i != NONE && !is_same(&c->entries[i].key, key))
		i = c->entries[i].next;
	return i != NONE ? &c->entries[i] : NULL;
}

static struct gq_cache_flight *find_flight(struct gq_cache *c, const struct gq_cache_key *key)
{
	uint32_t i = *chain_of(c->flight_chains, c->flight_mask, key);

	while (i != NONE && !is_same(&c->flights[i].key, key))
		i = c->flights[i].next;
	return i != NONE ? &c->flights[i] : NULL;
}

static void drop_entry(struct gq_cache *c, struct gq_cache_entry *e)
{
	const uint32_t i = (uint32_t)(e - c->entries);
	uint32_t *at = chain_of(c->entry_chains, c->entry_mask, &e->key);

	while (*at != i)
		at = &c->entries[*at].next;
	*at = e->next;
	*(e->older != NONE ? &c->entries[e->older].newer : &c->oldest) = e->newer;
	*(e->newer != NONE ? &c->entries[e->newer].older : &c->newest) = e->older;
	e->live = false;
	e->next = c->dropped;
	c->dropped = i;
	c->count--;
	c->bytes -= e->bytes;
}

void gq__cache_expire(struct gq_cache *c, uint64_t now_ns)
{
	while (c->oldest != NONE && c->entries[c->oldest].until_ns <= now_ns)
		drop_entry(c, &c->entries[c->oldest]);
}

uint64_t gq__cache_due(const struct gq_cache *c)
{
	return c->oldest != NONE ? c->entries[c->oldest].until_ns : UINT64_MAX;
}

bool gq__cache_dropped(struct gq_cache *c, uint64_t *out_answer)
{
	const uint32_t i = c->dropped;

	if (i == NONE)
		return false;
	*out_answer = c->entries[i].answer;
	c->dropped = c->entries[i].next;
	c->entries[i].next = c->free_entry;
	c->free_entry = i;
	return true;
}

static void end_flight(struct gq_cache *c, struct gq_cache_flight *f)
{
	const uint32_t i = (uint32_t)(f - c->flights);
	uint32_t *at = chain_of(c->flight_chains, c->flight_mask, &f->key);

	while (*at != i)
		at = &c->flights[*at].next;
	*at = f->next;
	f->next = c->free_flight;
	c->free_flight = i;
}

static uint32_t *waiter_chain(struct gq_cache *c, uint64_t requester)
{
	return &c->waiter_chains[requester & c->waiter_mask];
}

static bool join(struct gq_cache *c, struct gq_cache_flight *f, uint64_t requester)
{
	const uint32_t i = c->free_waiter;
	uint32_t *chain;

	if (i == NONE)
		return false;
	chain = waiter_chain(c, requester);
	c->free_waiter = c->waiters[i].next;
	c->waiters[i] = (struct gq_cache_waiter){ .requester = requester,
						  .flight = (uint32_t)(f - c->flights),
						  .next = NONE,
						  .before = f->last,
						  .next_in_chain = *chain };
	*chain = i;
	if (f->last != NONE)
		c->waiters[f->last].next = i;
	else
		f->first = i;
	f->last = i;
	return true;
}

static void remove_waiter(struct gq_cache *c, struct gq_cache_flight *f, uint32_t i)
{
	struct gq_cache_waiter *w = &c->waiters[i];
	uint32_t *at = waiter_chain(c, w->requester);

	while (*at != i)
		at = &c->waiters[*at].next_in_chain;
	*at = w->next_in_chain;
	*(w->before != NONE ? &c->waiters[w->before].next : &f->first) = w->next;
	*(w->next != NONE ? &c->waiters[w->next].before : &f->last) = w->before;
	w->next = c->free_waiter;
	c->free_waiter = i;
}

static bool pop_waiter(struct gq_cache *c, struct gq_cache_flight *f, uint64_t *out)
{
	const uint32_t i = f->first;

	if (i == NONE)
		return false;
	*out = c->waiters[i].requester;
	remove_waiter(c, f, i);
	return true;
}

/* Room for what has been promised to all that run, and to one more. */
static bool may_promise(const struct gq_cache *c)
{
	const struct gq_cache_config *s = &c->config;

	return c->count + c->running < s->entries &&
	       c->running < (s->bytes - c->bytes) / s->promise;
}

static enum gq_cache_status lead(struct gq_cache *c, const struct gq_cache_key *key,
				 uint64_t requester)
{
	const bool promises = c->config.promise != 0;
	const uint32_t i = c->free_flight;
	uint32_t *chain = chain_of(c->flight_chains, c->flight_mask, key);

	if (promises && (i == NONE || !may_promise(c)))
		return GQ_CACHE_FULL;
	c->misses++;
	if (i == NONE)
		return GQ_CACHE_ALONE;
	c->running++;
	c->free_flight = c->flights[i].next;
	c->flights[i] = (struct gq_cache_flight){
		.key = *key,
		.first = NONE,
		.last = NONE,
		.next = *chain,
		.leader = requester,
	};
	*chain = i;
	return GQ_CACHE_LEAD;
}

bool gq__cache_leader(struct gq_cache *c, const struct gq_cache_key *key, uint64_t *out_leader)
{
	struct gq_cache_flight *f = find_flight(c, key);

	if (!f || f->done)
		return false;
	*out_leader = f->leader;
	return true;
}

bool gq__cache_is_awaited(struct gq_cache *c, const struct gq_cache_key *key)
{
	const struct gq_cache_flight *f = find_flight(c, key);

	return f && f->first != NONE;
}

enum gq_cache_status gq__cache_ask(struct gq_cache *c, const struct gq_cache_key *key,
				   uint64_t requester, uint64_t now_ns, uint64_t *out_answer)
{
	struct gq_cache_entry *e = find_entry(c, key);
	struct gq_cache_flight *f;

	if (e && now_ns >= e->until_ns) {
		drop_entry(c, e);
		e = NULL;
	}
	if (e && !is_same_request(&e->key, key))
		return GQ_CACHE_CONFLICT;
	if (e) {
		e->used = true;
		c->hits++;
		*out_answer = e->answer;
		return GQ_CACHE_HIT;
	}
	f = find_flight(c, key);
	if (!f)
		return lead(c, key, requester);
	if (!is_same_request(&f->key, key))
		return GQ_CACHE_CONFLICT;
	if (f->done || !join(c, f, requester)) {
		if (c->config.promise != 0)
			return GQ_CACHE_FULL;
		c->misses++;
		return GQ_CACHE_ALONE;
	}
	c->coalesced++;
	*out_answer = f->leader;
	return GQ_CACHE_JOINED;
}

/* The hand passes over what has been used since it was there last, and takes what has not. */
static void evict_one(struct gq_cache *c)
{
	for (;;) {
		struct gq_cache_entry *e = &c->entries[c->hand];

		c->hand = (c->hand + 1) % c->places;
		if (!e->live)
			continue;
		if (!e->used) {
			drop_entry(c, e);
			c->evicted++;
			return;
		}
		e->used = false;
	}
}

static bool keep_answer(struct gq_cache *c, const struct gq_cache_key *key, uint64_t answer,
			uint64_t bytes, uint64_t now_ns)
{
	uint32_t *chain = chain_of(c->entry_chains, c->entry_mask, key);
	const bool promises = c->config.promise != 0;
	uint32_t i;

	if (!promises && bytes > c->config.bytes / LARGEST_SHARE)
		return false;
	while (!promises && c->count > 0 &&
	       (c->count >= c->config.entries || c->bytes > c->config.bytes - bytes))
		evict_one(c);
	i = c->free_entry;
	if (i == NONE) /* all places have answers that are to be given back */
		return false;
	c->free_entry = c->entries[i].next;
	c->entries[i] = (struct gq_cache_entry){
		.key = *key,
		.answer = answer,
		.bytes = bytes,
		.until_ns = c->config.ttl_ns < UINT64_MAX - now_ns ? now_ns + c->config.ttl_ns
								   : UINT64_MAX,
		.next = *chain,
		.older = c->newest,
		.newer = NONE,
		.live = true,
	};
	*chain = i;
	*(c->newest != NONE ? &c->entries[c->newest].newer : &c->oldest) = i;
	c->newest = i;
	c->count++;
	c->bytes += bytes;
	return true;
}

enum gq_cache_status gq__cache_done(struct gq_cache *c, const struct gq_cache_key *key,
				    uint64_t answer, uint64_t bytes, bool keep, uint64_t now_ns,
				    bool *out_kept)
{
	struct gq_cache_flight *f = find_flight(c, key);

	*out_kept = false;
	if (!f || f->done)
		return GQ_CACHE_NOT_FOUND;
	f->done = true;
	c->running--;
	*out_kept = keep && keep_answer(c, key, answer, bytes, now_ns);
	if (f->first == NONE)
		end_flight(c, f);
	return GQ_CACHE_OK;
}

bool gq__cache_next_waiter(struct gq_cache *c, const struct gq_cache_key *key,
			   uint64_t *out_requester)
{
	struct gq_cache_flight *f = find_flight(c, key);

	if (!f || !f->done || !pop_waiter(c, f, out_requester))
		return false;
	if (f->first == NONE)
		end_flight(c, f);
	return true;
}

bool gq__cache_failed(struct gq_cache *c, const struct gq_cache_key *key, uint64_t *out_leader)
{
	struct gq_cache_flight *f = find_flight(c, key);

	if (!f || f->done)
		return false;
	if (pop_waiter(c, f, out_leader)) {
		f->leader = *out_leader;
		return true;
	}
	c->running--;
	end_flight(c, f);
	return false;
}

enum gq_cache_status gq__cache_leave(struct gq_cache *c, const struct gq_cache_key *key,
				     uint64_t requester)
{
	struct gq_cache_flight *f = find_flight(c, key);
	uint32_t i = f ? *waiter_chain(c, requester) : NONE;

	while (i != NONE && (c->waiters[i].requester != requester ||
			     c->waiters[i].flight != (uint32_t)(f - c->flights)))
		i = c->waiters[i].next_in_chain;
	if (i == NONE)
		return GQ_CACHE_NOT_FOUND;
	remove_waiter(c, f, i);
	if (f->done && f->first == NONE)
		end_flight(c, f);
	return GQ_CACHE_OK;
}

bool gq__cache_forget(struct gq_cache *c, const struct gq_cache_key *key)
{
	struct gq_cache_entry *e = find_entry(c, key);

	if (e)
		drop_entry(c, e);
	return e != NULL;
}

void gq__cache_forget_if(struct gq_cache *c, bool (*is_meant)(uint64_t answer, uint64_t what),
			 uint64_t what)
{
	for (uint32_t i = 0; i < c->places; i++) {
		if (c->entries[i].live && is_meant(c->entries[i].answer, what))
			drop_entry(c, &c->entries[i]);
	}
}

void gq__cache_flush(struct gq_cache *c)
{
	for (uint32_t i = 0; i < c->places; i++) {
		if (c->entries[i].live)
			drop_entry(c, &c->entries[i]);
	}
}
