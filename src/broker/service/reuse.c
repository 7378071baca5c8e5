/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reuse.c - requests that need not run: the answer is in the cache, or the same runs already, or
 * the key of idempotency has had its run.
 *
 * Two tables of one kind. The cache may forget: what it has no room for runs. The keys may not: a
 * key that had no room for its answer could run twice, so room is promised before it runs.
 *
 *                       cache                             keys
 *   its leader fails    another one that waits leads      the same, if it has not run; else that
 *                                                         is the answer
 *   its caller leaves   the same                          the worker's answer is still waited for
 *   full                it runs alone                     it is refused
 */
#include "router.h"

#include "host/base/clock.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MOST = GQ_WIRE_FRAME_MAX };

/* ---- answers --------------------------------------------------------------------------------- */

static void charge(struct kept *k, struct user *user)
{
	k->user = user;
	k->charged = ANSWER_MOST;
	user->keys++;
	user->key_bytes += k->charged;
}

static void drop(struct router *r, struct kept *k)
{
	if (k == NULL)
		return;
	if (k->user != NULL) {
		k->user->keys--;
		k->user->key_bytes -= k->charged;
		user_put(r, k->user);
	}
	free(k->data);
	free(k);
}

/* The policy knows answers by numbers: ours are these. */
static struct kept *kept_of(uint64_t number)
{
	const union {
		uint64_t number;
		struct kept *kept;
	} answer = { number };

	return answer.kept;
}

static void drop_dropped(struct router *r, struct gq_cache *table)
{
	uint64_t answer;

	while (gq__cache_dropped(table, &answer))
		drop(r, kept_of(answer));
}

static struct gq_view view_of(const struct gq_frame *from, enum gq_tlv_type type)
{
	return from != NULL && gq_frame_has(from, type) ? from->tlv[type] : (struct gq_view){ 0 };
}

/* @return its bytes, which are a key's too */
static uint64_t fill(struct kept *k, const struct answer *a, const struct gq_frame *from)
{
	const struct gq_view payload = view_of(from, GQ_TLV_PAYLOAD);
	const struct gq_view text = view_of(from, GQ_TLV_TEXT);
	const uint32_t bytes = payload.bytes + text.bytes;
	uint64_t total;

	k->status = a->status;
	k->retry_ms = (uint32_t)((a->retry_ns + 999999) / 1000000);
	k->seen = a->seen;
	k->data = malloc(bytes != 0 ? bytes : 1);
	if (k->data != NULL) {
		k->payload_bytes = payload.bytes;
		k->text_bytes = text.bytes;
		if (payload.bytes != 0)
			memcpy(k->data, payload.data, payload.bytes);
		if (text.bytes != 0)
			memcpy(k->data + payload.bytes, text.data, text.bytes);
	}
	total = sizeof(*k) + k->payload_bytes + k->text_bytes;
	if (k->user != NULL) {
		k->user->key_bytes -= k->charged - total; /* no answer has more than was promised */
		k->charged = total;
	}
	return total;
}

static void read_kept(const struct kept *k, struct answer *a, struct gq_frame *from)
{
	*a = (struct answer){ .status = (enum gq_wire_status)k->status,
			      .seen = k->seen,
			      .retry_ns = k->retry_ms * UINT64_C(1000000),
			      .reused = true };
	*from = (struct gq_frame){ 0 };
	if (k->data == NULL) {
		*a = (struct answer){ .status = GQ_WIRE_LOST,
				      .seen = true,
				      .reused = true,
				      .text = "it has run; for its answer there was no memory" };
		return;
	}
	gq__frame_set(from, GQ_TLV_PAYLOAD, false, k->data, k->payload_bytes);
	if (k->text_bytes != 0)
		gq__frame_set(from, GQ_TLV_TEXT, false, k->data + k->payload_bytes, k->text_bytes);
}

/* ---- start ----------------------------------------------------------------------------------- */

bool reuse_start(struct router *r, char error[ROUTER_ERROR_ROOM])
{
	struct gq_cache_config cache = { .entries = r->cfg.cache_entries,
					 .bytes = r->cfg.cache_bytes,
					 .ttl_ns = r->cfg.cache_ttl_ms * UINT64_C(1000000),
					 .running = REQUESTS,
					 .waiting = REQUESTS };
	struct gq_cache_config keys = { .entries = r->cfg.keys,
					.bytes = r->cfg.key_bytes,
					.ttl_ns = r->cfg.key_ttl_ms * UINT64_C(1000000),
					.running = REQUESTS,
					.waiting = REQUESTS,
					.promise = ANSWER_MOST };

	if (sodium_init() < 0) {
		snprintf(error, ROUTER_ERROR_ROOM, "services: libsodium cannot be used");
		return false;
	}
	randombytes_buf(cache.secret, sizeof(cache.secret));
	randombytes_buf(keys.secret, sizeof(keys.secret));
	r->joined_due_ns = UINT64_MAX;
	if (gq__cache_init(&r->cache, &cache) == GQ_CACHE_OK &&
	    gq__cache_init(&r->keys, &keys) == GQ_CACHE_OK)
		return true;
	snprintf(error, ROUTER_ERROR_ROOM, "services: out of memory");
	return false;
}

void reuse_free(struct router *r)
{
	struct gq_cache *const tables[] = { &r->cache, &r->keys };

	for (int i = 0; i < 2; i++) {
		if (tables[i]->entries == NULL)
			continue;
		gq__cache_flush(tables[i]);
		drop_dropped(r, tables[i]);
		gq__cache_free(tables[i]);
	}
}

void reuse_configure(struct router *r)
{
	r->cache.config.ttl_ns = r->cfg.cache_ttl_ms * UINT64_C(1000000);
	r->keys.config.ttl_ns = r->cfg.key_ttl_ms * UINT64_C(1000000);
	reuse_forget_all(r);
}

/* ---- asking ---------------------------------------------------------------------------------- */

/* What an answer depends on, or may. */
struct described {
	struct gq_cache_request request;
	uint8_t more[5 * 4 + 64 + 4096 + 4096];
};

/* @param epochs  of the cache, and of the op there: an order, or a reload, makes answers old */
static void describe(struct described *d, uint32_t uid, const struct gq_frame *f,
		     const uint32_t epochs[2])
{
	const struct gq_view parameters = view_of(f, GQ_TLV_PARAMETERS);
	const struct gq_view payload = view_of(f, GQ_TLV_PAYLOAD);
	const struct gq_view session = view_of(f, GQ_TLV_SESSION);
	const struct gq_view needs = view_of(f, GQ_TLV_FILTER);
	const uint32_t numbers[5] = { gq__frame_u32(f, GQ_TLV_OP_VERSION, 0), session.bytes,
				      needs.bytes, epochs[0], epochs[1] };
	size_t n = sizeof(numbers);

	memcpy(d->more, numbers, sizeof(numbers));
	if (session.bytes != 0)
		memcpy(d->more + n, session.data, session.bytes);
	n += session.bytes;
	if (needs.bytes != 0)
		memcpy(d->more + n, needs.data, needs.bytes);
	n += needs.bytes;
	if (parameters.bytes != 0)
		memcpy(d->more + n, parameters.data, parameters.bytes);
	n += parameters.bytes;
	d->request = (struct gq_cache_request){ .uid = uid,
						.op = f->tlv[GQ_TLV_NAME].data,
						.op_bytes = f->tlv[GQ_TLV_NAME].bytes,
						.payload = payload.data,
						.payload_bytes = payload.bytes,
						.parameters = d->more,
						.parameter_bytes = n };
}

/* The key of an answer of the cache. */
static void cache_key_of(struct router *r, const struct group *g, uint32_t uid,
			 const struct gq_frame *f, struct gq_cache_key *out)
{
	const uint32_t epochs[2] = { r->cache_epoch,
				     g->op_index < ROUTER_OPS ? r->op_epoch[g->op_index] : 0 };
	struct described d;

	describe(&d, uid, f, epochs);
	d.request.is_public = g->op.cache == ROUTER_CACHE_PUBLIC;
	d.request.op_version = g->version;
	gq__cache_key(&r->cache, &d.request, out);
}

static void key_of(struct router *r, struct request *q, const struct gq_frame *f)
{
	const struct gq_view key = view_of(f, GQ_TLV_IDEMPOTENCY);
	const uint32_t none[2] = { 0, 0 };
	struct described d;

	if (q->table == &r->cache) { /* so it has a group */
		q->version = r->groups[q->group]->version;
		cache_key_of(r, r->groups[q->group], q->user->uid, f, &q->key);
		return;
	}
	describe(&d, q->user->uid, f, none);
	gq__cache_idempotency(&r->keys, q->user->uid, key.data, key.bytes, &d.request, &q->key);
}

/* The table that a request is looked up in; NULL: it runs, whatever else does. What a session does
 * may depend on what it has done before. */
static struct gq_cache *table_of(struct router *r, const struct request *q,
				 const struct gq_frame *f)
{
	if (gq_frame_has(f, GQ_TLV_IDEMPOTENCY))
		return &r->keys;
	if ((f->flags & GQ_FLAG_CACHE) == 0 || q->region != NULL ||
	    gq_frame_has(f, GQ_TLV_SESSION) || q->group == GROUPS ||
	    r->groups[q->group]->members == 0 || r->groups[q->group]->op.cache == ROUTER_CACHE_NO)
		return NULL;
	return &r->cache;
}

/* One user's keys leave room for others'. */
static bool has_share(const struct router *r, const struct user *u)
{
	return u->keys < r->cfg.keys - r->cfg.keys / 4 &&
	       u->key_bytes + ANSWER_MOST <= r->cfg.key_bytes - r->cfg.key_bytes / 4;
}

static enum gq_cache_status refuse(struct answer *a, enum gq_cache_status status)
{
	if (status == GQ_CACHE_CONFLICT)
		*a = (struct answer){ .status = GQ_WIRE_INVALID,
				      .text = "the key has been used for another request" };
	else
		*a = (struct answer){ .status = GQ_WIRE_OVERLOADED,
				      .retry_ns = UINT64_C(1000000000),
				      .text = "no room for another key of idempotency" };
	return status;
}

/* It would run: then there is to be room for its answer. */
static enum gq_cache_status lead(struct router *r, struct request *q, struct answer *a)
{
	const bool is_key = q->table == &r->keys;
	uint64_t nobody;

	q->kept = is_key && !has_share(r, q->user) ? NULL : calloc(1, sizeof(*q->kept));
	if (q->kept != NULL) {
		if (is_key)
			charge(q->kept, q->user);
		else
			q->kept->op = r->groups[q->group]->op_index;
		q->leads = true;
		return GQ_CACHE_LEAD;
	}
	(void)gq__cache_failed(q->table, &q->key, &nobody); /* nobody can have joined yet */
	q->table = NULL;
	return is_key ? refuse(a, GQ_CACHE_FULL) : GQ_CACHE_ALONE;
}

/* Who joins is in no queue: it has its answer when the one that leads has. One that waits with less
 * priority, for which another's limits may hold, is no one to wait for: the request runs by itself.
 * So is one of another user, who has used up his share of the workers; one that gathers, and may
 * wait there for half of a longer time; and one whose answer was forgotten before it came. A key
 * has to wait for it. */
static bool is_nobody_to_join(const struct router *r, const struct request *q)
{
	const struct request *leader;
	uint64_t index;

	if (q->table == &r->keys || !gq__cache_leader(q->table, &q->key, &index))
		return false;
	leader = &r->requests[index];
	return leader->unwanted ||
	       (leader->state == REQUEST_GATHERS && leader->deadline_ns > q->deadline_ns) ||
	       (leader->state != REQUEST_RUNS &&
		gq__class_of(leader->priority) > gq__class_of(q->priority)) ||
	       (leader->state != REQUEST_RUNS && leader->state != REQUEST_GATHERS &&
		leader->asker != q->asker && share_is_used_up(r, leader->asker, leader->group));
}

enum gq_cache_status reuse_ask(struct router *r, struct request *q, const struct gq_frame *f,
			       struct answer *a, struct gq_frame *from)
{
	struct gq_cache *table = table_of(r, q, f);
	enum gq_cache_status status;
	uint64_t out = 0;

	if (table == NULL)
		return GQ_CACHE_ALONE;
	q->table = table;
	key_of(r, q, f);
	if (is_nobody_to_join(r, q)) {
		q->table = NULL;
		return GQ_CACHE_ALONE;
	}
	status = gq__cache_ask(table, &q->key, (uint64_t)(q - r->requests), gq__now_ns(), &out);
	if (status == GQ_CACHE_LEAD) {
		status = lead(r, q, a);
	} else if (status == GQ_CACHE_HIT) {
		read_kept(kept_of(out), a, from);
	} else if (status == GQ_CACHE_JOINED) {
		q->frame = r->requests[out].frame;
		q->frame->refs++;
		q->borrows = true;
	} else {
		q->table = NULL;
		if (status != GQ_CACHE_ALONE)
			(void)refuse(a, status);
		r->counts.key_conflicts += status == GQ_CACHE_CONFLICT;
	}
	drop_dropped(r, table); /* not the one that `from` shows: that is still there */
	return status;
}

void reuse_leave(struct router *r, struct request *q)
{
	(void)gq__cache_leave(q->table, &q->key, (uint64_t)(q - r->requests));
	q->table = NULL;
}

/* ---- the end of one that leads --------------------------------------------------------------- */

/* Whether this is the answer for all that ask the same. */
static bool is_final(const struct router *r, const struct request *q, const struct answer *a)
{
	if (a->status == GQ_WIRE_SUCCESS)
		return true;
	if (q->table == &r->keys) /* it has run, or may have: it must not run again */
		return a->seen || q->ever_seen;
	return a->status == GQ_WIRE_ERROR && r->groups[q->group]->op.cache_errors;
}

/* It has not run, or its end is nobody else's. The next one runs, if there is one, and room. */
static void hand_over(struct router *r, struct request *q)
{
	struct gq_cache *table = q->table;
	const struct gq_cache_key key = q->key;
	struct kept *kept = q->kept;
	uint64_t next = 0;

	q->kept = NULL;
	while (gq__cache_failed(table, &key, &next)) {
		struct request *leader = &r->requests[next];

		leader->leads = true;
		leader->kept = kept; /* keys: of the same user */
		if (request_promote(r, leader))
			return;
		leader->leads = false;
		leader->kept = NULL;
	}
	drop(r, kept);
}

/* An answer of the cache is one of the version that its key says. A request that came while a newer
 * worker was there may have gone to an older one. */
static bool is_to_be_kept(const struct router *r, const struct request *q)
{
	return q->table == &r->keys ||
	       (q->kept->data != NULL && q->by_version == q->version && !q->unwanted);
}

static void tell_all(struct router *r, struct request *q, const struct answer *a,
		     const struct gq_frame *from)
{
	struct gq_cache *table = q->table;
	const struct gq_cache_key key = q->key;
	struct answer same = *a;
	struct kept *kept = q->kept;
	const uint64_t bytes = fill(kept, a, from);
	const bool keep = is_to_be_kept(r, q);
	uint64_t next;
	bool is_kept;

	q->kept = NULL;
	r->counts.copied_bytes += kept->payload_bytes;
	same.reused = true;
	(void)gq__cache_done(table, &key, (uint64_t)(uintptr_t)kept, bytes, keep, gq__now_ns(),
			     &is_kept);
	while (gq__cache_next_waiter(table, &key, &next)) {
		r->requests[next].table = NULL;
		request_end_joined(r, &r->requests[next], &same, from);
	}
	if (!is_kept)
		drop(r, kept);
	drop_dropped(r, table);
}

void reuse_end(struct router *r, struct request *q, const struct answer *a,
	       const struct gq_frame *from)
{
	struct answer last = *a;

	if (!q->leads)
		return;
	q->leads = false;
	last.seen = a->seen || q->ever_seen;
	if (r->ending) {
		drop(r, q->kept);
		q->kept = NULL;
	} else if (!is_final(r, q, a)) {
		hand_over(r, q);
	} else {
		/* It may have run. That its caller waits no more is not the others' end. */
		if (a->status == GQ_WIRE_TIMEOUT || a->status == GQ_WIRE_CANCELLED)
			last = (struct answer){
				.status = GQ_WIRE_LOST,
				.seen = true,
				.text = "it may have run; its answer is not known"
			};
		tell_all(r, q, &last, from);
	}
	q->table = NULL;
}

bool reuse_goes_on(const struct router *r, const struct request *q)
{
	return q->leads && q->table == &r->keys && !r->ending;
}

bool reuse_may_run(struct router *r, const struct request *q)
{
	if (q->table != &r->keys)
		return false;
	return q->state == REQUEST_JOINS ||
	       (q->leads && !r->ending && gq__cache_is_awaited(&r->keys, &q->key));
}

/* ---- orders ---------------------------------------------------------------------------------- */

void reuse_forget_all(struct router *r)
{
	r->cache_epoch++;
	gq__cache_flush(&r->cache);
	drop_dropped(r, &r->cache);
}

static bool is_of_op(uint64_t answer, uint64_t op)
{
	return kept_of(answer)->op == op;
}

const char *reuse_forget_op(struct router *r, const char *op)
{
	for (uint32_t i = 0; i < r->cfg.ops; i++) {
		if (strcmp(r->cfg.op[i].name, op) != 0)
			continue;
		r->op_epoch[i]++;
		gq__cache_forget_if(&r->cache, is_of_op, i);
		drop_dropped(r, &r->cache);
		return NULL;
	}
	return "the configuration has no section for this op, so nothing of it is cached";
}

const char *reuse_forget_one(struct router *r, const struct peer *p, const char *op,
			     const struct gq_frame *f)
{
	const uint32_t group = group_find(r, op, strlen(op));
	const uint32_t uid =
		gq_frame_has(f, GQ_TLV_UID) ? gq__frame_u32(f, GQ_TLV_UID, 0) : p->link.uid;
	struct gq_cache_key key;
	uint64_t leader;
	bool runs, was_kept;

	if (group == GROUPS)
		return "nobody does this op now, so it is not known of which version the answer is";
	cache_key_of(r, r->groups[group], uid, f, &key);
	was_kept = gq__cache_forget(&r->cache, &key);
	drop_dropped(r, &r->cache);
	runs = gq__cache_leader(&r->cache, &key, &leader);
	if (runs)
		r->requests[leader].unwanted = true;
	return was_kept || runs ? NULL : "there is no answer to such a request";
}

uint64_t reuse_tick(struct router *r, uint64_t now_ns)
{
	struct gq_cache *const tables[] = { &r->cache, &r->keys };
	uint64_t next_ns = UINT64_MAX;

	for (int i = 0; i < 2; i++) {
		const uint64_t due_ns =
			(gq__cache_expire(tables[i], now_ns), gq__cache_due(tables[i]));

		drop_dropped(r, tables[i]);
		next_ns = due_ns < next_ns ? due_ns : next_ns;
	}
	return next_ns;
}
