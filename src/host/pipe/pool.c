/* SPDX-License-Identifier: Apache-2.0 */
/* pool.c - pipes by name: whichever side comes first, they meet. */
#include "host/base/memory.h"
#include "host/pipe/pipe.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { BUCKETS = 256 };

struct named {
	struct named *next;
	Pipe *pipe;
	char name[Q_PIPE_POOL_NAME_MAX + 1];
};

/* The lock guards the names and `closed`, and is never held across a wait. */
struct PipePool {
	uint64_t generation;
	pthread_mutex_t lock;
	bool closed;
	uint64_t changes;      /* of names and `closed`; sleepers look at it */
	struct gq_event comes; /* who waits for a name sleeps on it */
	struct named *bucket[BUCKETS];
};

static QueueStatus enter(const PipePool *pool)
{
	if (pool == NULL || pool->generation != gq__generation)
		return gq__pipe_refuse(pool == NULL, "pool");
	return Q_OK;
}

static QueueStatus check_name(const char *name)
{
	size_t len;

	if (name == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "name is NULL");
	len = strnlen(name, Q_PIPE_POOL_NAME_MAX + 1);
	if (len == 0 || len > Q_PIPE_POOL_NAME_MAX)
		return gq__failf(Q_ERR_INVALID_ARG, "name has %s%zu bytes, must have 1 to %u",
				 len == 0 ? "" : "at least ", len, Q_PIPE_POOL_NAME_MAX);
	return Q_OK;
}

/* FNV-1a. */
static struct named **bucket_of(PipePool *pool, const char *name)
{
	uint32_t hash = 2166136261u;

	for (; *name != '\0'; name++)
		hash = (hash ^ (uint8_t)*name) * 16777619u;
	return &pool->bucket[(hash ^ hash >> 16) % BUCKETS];
}

/* Under the lock. */
static Pipe *find(PipePool *pool, const char *name)
{
	for (const struct named *n = *bucket_of(pool, name); n != NULL; n = n->next)
		if (strcmp(n->name, name) == 0)
			return n->pipe;
	return NULL;
}

/* ---- life ------------------------------------------------------------------------------------ */

QueueStatus q_pipe_pool_create(PipePool **out)
{
	PipePool *pool;

	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	gq__watch_forks();
	pool = gq__alloc(sizeof(*pool), "a pool of pipes");
	if (pool == NULL)
		return Q_ERR_NO_MEMORY;
	pool->generation = gq__generation;
	pthread_mutex_init(&pool->lock, NULL);
	*out = pool;
	return Q_OK;
}

/* Wake those who wait for a name, after the change, which was made under the lock. */
static void announce(PipePool *pool)
{
	gq_fetch_add_seq_cst_u64(&pool->changes, 1);
	gq_event_broadcast(&pool->comes); /* [wake.look] */
}

QueueStatus q_pipe_pool_close(PipePool *pool)
{
	GQ_RETURN_IF_REFUSED(enter(pool));
	pthread_mutex_lock(&pool->lock);
	pool->closed = true;
	pthread_mutex_unlock(&pool->lock);
	announce(pool);
	return Q_OK;
}

static void give_back(struct named *n)
{
	const char *before = q_last_error();

	/* What was not closed is not complete. */
	if (q_pipe_set_error(n->pipe, ECANCELED) != Q_OK)
		gq__fail(Q_OK, before);
	q_pipe_close(n->pipe);
	gq__pipe_drop(n->pipe);
	gq__free(n, sizeof(*n));
}

void q_pipe_pool_destroy(PipePool *pool)
{
	if (pool == NULL || pool->generation != gq__generation)
		return;
	for (uint32_t i = 0; i < BUCKETS; i++)
		for (struct named *n = pool->bucket[i], *next; n != NULL; n = next) {
			next = n->next;
			give_back(n);
		}
	pthread_mutex_destroy(&pool->lock);
	gq__free(pool, sizeof(*pool));
}

/* ---- the two sides --------------------------------------------------------------------------- */

/* Under the lock. */
static QueueStatus add(PipePool *pool, const char *name, const PipeConfig *cfg, Pipe **out)
{
	struct named **bucket = bucket_of(pool, name);
	struct named *n;
	QueueStatus status;

	if (pool->closed)
		return gq__failf(Q_ERR_SHUTDOWN, "the pool is closed and has no pipe '%.64s'",
				 name);
	n = gq__alloc(sizeof(*n), "a pipe's name");
	if (n == NULL)
		return Q_ERR_NO_MEMORY;
	status = q_pipe_create(cfg, &n->pipe);
	if (status != Q_OK) {
		gq__free(n, sizeof(*n));
		return status;
	}
	n->pipe->pooled = true;
	memcpy(n->name, name, strlen(name) + 1);
	n->next = *bucket;
	*bucket = n;
	*out = n->pipe;
	return Q_OK;
}

QueueStatus q_pipe_pool_writer(PipePool *pool, const char *name, const PipeConfig *cfg, Pipe **out)
{
	QueueStatus status = Q_OK;
	Pipe *p;

	GQ_RETURN_IF_REFUSED(enter(pool));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	GQ_RETURN_IF_REFUSED(check_name(name));
	pthread_mutex_lock(&pool->lock);
	p = find(pool, name);
	if (p == NULL)
		status = add(pool, name, cfg, &p);
	pthread_mutex_unlock(&pool->lock);
	if (status != Q_OK)
		return status;
	announce(pool);
	*out = p;
	return Q_OK;
}

/* @return Q_OK, with *out NULL if there is no such pipe yet. */
static QueueStatus try_reader(PipePool *pool, const char *name, PipeReader **out)
{
	QueueStatus status = Q_OK;
	Pipe *p;
	bool closed;

	pthread_mutex_lock(&pool->lock);
	p = find(pool, name);
	closed = pool->closed;
	if (p != NULL)
		status = q_pipe_reader_open(p, out);
	pthread_mutex_unlock(&pool->lock);
	if (p == NULL && closed)
		return gq__failf(Q_ERR_SHUTDOWN, "the pool is closed and has no pipe '%.64s'",
				 name);
	return status;
}

static QueueStatus await_reader(PipePool *pool, const char *name, uint32_t timeout_ms,
				PipeReader **out)
{
	uint64_t seen = gq_load_seq_cst_u64(&pool->changes), now;
	QueueStatus status = try_reader(pool, name, out);
	struct gq_wait wait;

	gq__wait_begin(&wait, &pool->comes, gq__deadline_ns(timeout_ms), GQ_SPIN_NS);
	while (status == Q_OK && *out == NULL && gq__wait_next(&wait)) {
		now = gq_load_seq_cst_u64(&pool->changes); /* [sleep.look] */
		if (now == seen)
			continue;
		seen = now;
		status = try_reader(pool, name, out);
	}
	gq__wait_end(&wait);
	return status;
}

QueueStatus q_pipe_pool_reader(PipePool *pool, const char *name, uint32_t flags,
			       uint32_t timeout_ms, PipeReader **out)
{
	PipeReader *r = NULL;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(enter(pool));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	if ((flags & ~Q_PIPE_POOL_EXISTING) != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "flags is %#" PRIx32 ", must be 0 or %u", flags,
				 Q_PIPE_POOL_EXISTING);
	GQ_RETURN_IF_REFUSED(check_name(name));
	status = (flags & Q_PIPE_POOL_EXISTING) != 0 ? try_reader(pool, name, &r)
						     : await_reader(pool, name, timeout_ms, &r);
	if (status != Q_OK)
		return status;
	if (r != NULL) {
		*out = r;
		return Q_OK;
	}
	if ((flags & Q_PIPE_POOL_EXISTING) != 0)
		return gq__failf(Q_ERR_NOT_FOUND, "the pool has no pipe '%.64s'", name);
	return timeout_ms == 0
		       ? gq__failf(Q_ERR_EMPTY, "nobody writes a pipe '%.64s' yet", name)
		       : gq__failf(Q_ERR_TIMEOUT, "timed out: nobody writes a pipe '%.64s'", name);
}
