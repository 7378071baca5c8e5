/* SPDX-License-Identifier: Apache-2.0 */
/* life.c - making a ring, attaching to one, and giving it up. */
#include "host/ring/fence.h"
#include "host/ring/handles.h"
#include "host/ring/poll_fd.h"
#include "host/ring/repair.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/shm/header.h"
#include "host/shm/mapping.h"

#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

/* ---- configuration --------------------------------------------------------------------------- */

#define KNOWN_FLAGS (Q_RING_SINGLE | Q_RING_AGEING | Q_RING_LARGE)

static bool check_config(const RingConfig *cfg)
{
	if (cfg->ring_size < 1 || cfg->ring_size > Q_MAX_RING_SIZE ||
	    (cfg->ring_size & (cfg->ring_size - 1)) != 0) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "ring_size is %" PRIu32 "; must be a power of two from 1 to %u",
			  cfg->ring_size, Q_MAX_RING_SIZE);
		return false;
	}
	if (cfg->max_msg_size < 1 || cfg->max_msg_size > Q_MAX_MESSAGE_SIZE) {
		gq__failf(Q_ERR_INVALID_ARG, "max_msg_size is %" PRIu32 "; must be 1 to %u bytes",
			  cfg->max_msg_size, Q_MAX_MESSAGE_SIZE);
		return false;
	}
	if ((cfg->flags & ~KNOWN_FLAGS) != 0) {
		gq__failf(Q_ERR_INVALID_ARG, "flags is 0x%" PRIx32 "; defined are 0x%" PRIx32,
			  cfg->flags, KNOWN_FLAGS);
		return false;
	}
	if ((cfg->flags & Q_RING_AGEING) == 0 && cfg->ageing_limit != 0) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "ageing_limit is %" PRIu32 "; must be 0 without Q_RING_AGEING",
			  cfg->ageing_limit);
		return false;
	}
	return GQ_CHECK_RESERVED(cfg, reserved) == Q_OK;
}

static bool resolve_config(const RingConfig *cfg, RingConfig *out)
{
	*out = cfg != NULL ? *cfg : (RingConfig){ 0 };
	if (out->ring_size == 0)
		out->ring_size = Q_DEFAULT_RING_SIZE;
	if (out->max_msg_size == 0)
		out->max_msg_size = Q_DEFAULT_MESSAGE_SIZE;
	if ((out->flags & Q_RING_AGEING) != 0 && out->ageing_limit == 0)
		out->ageing_limit = GQ_PASS_LIMIT;
	return check_config(out);
}

size_t q_ring_required_memory(const RingConfig *cfg)
{
	RingConfig resolved;

	return resolve_config(cfg, &resolved) ? (size_t)gq__ring_required_bytes(&resolved) : 0;
}

/* ---- handles --------------------------------------------------------------------------------- */

static RingQueue *new_handle(const RingConfig *cfg)
{
	static uint64_t serials;
	RingQueue *r = gq__alloc(sizeof(*r), "the ring's handle");

	if (r == NULL)
		return NULL;
	r->cfg = *cfg;
	r->bytes = (size_t)gq__ring_required_bytes(cfg);
	r->single = (cfg->flags & Q_RING_SINGLE) != 0;
	r->serial = gq_fetch_add_relaxed_u64(&serials, 1) + 1;
	gq__watch_forks();
	r->generation = gq__generation;
	gq__ring_poll_begin(r);
	r->local = gq__alloc(GQ_RING_PEERS * sizeof(*r->local), "what the ring's threads know");
	if (r->local == NULL) {
		gq__free(r, sizeof(*r));
		return NULL;
	}
	if ((cfg->flags & Q_RING_AGEING) != 0) {
		r->ageing = gq__alloc(GQ_RING_PEERS * sizeof(*r->ageing), "the ring's ageing");
		if (r->ageing == NULL) {
			gq__free(r->local, GQ_RING_PEERS * sizeof(*r->local));
			gq__free(r, sizeof(*r));
			return NULL;
		}
	}
	return r;
}

static void free_handle(RingQueue *r)
{
	if (r->owned)
		gq__free(r->head, r->bytes);
	if (r->mapped != 0)
		munmap(r->head, r->mapped);
	gq__ring_forget_repair(r);
	gq__free(r->local, GQ_RING_PEERS * sizeof(*r->local));
	gq__free(r->ageing, GQ_RING_PEERS * sizeof(*r->ageing));
	gq__free(r, sizeof(*r));
}

/* Check the memory that a caller gives for a new ring. */
static QueueStatus check_memory(const void *memory, size_t bytes, uint64_t needed)
{
	bool is_private;
	QueueStatus status;

	if (memory == NULL && bytes != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "memory is NULL but bytes is %zu", bytes);
	if (memory == NULL)
		return Q_OK;
	status = gq__header_check_alignment(memory);
	if (status != Q_OK)
		return status;
	if (bytes < needed)
		return gq__failf(Q_ERR_NO_MEMORY, "bytes is %zu; this ring takes at least %" PRIu64,
				 bytes, needed);
	return gq__mapping_check(memory, (size_t)needed, true, &is_private);
}

/* Write the ring into its memory; `ready` is written later. */
static void write_ring(RingQueue *r)
{
	struct gq_ring_setup *setup = &r->head->setup;

	gq_store_release_u64(&setup->ready, 0); /* no process attaches meanwhile */
	memset(&r->head->signals, 0, sizeof(*r->head) - offsetof(struct gq_ring_head, signals));
	r->messages.start_pos = r->completions.start_pos = gq__start_pos;
	gq__ring_fill_box(&r->messages, gq__start_pos);
	gq__ring_fill_box(&r->completions, gq__start_pos);
	setup->magic = GQ_RING_MAGIC;
	setup->bytes = r->bytes;
	setup->start_pos = gq__start_pos;
	setup->reserved0 = 0;
	setup->version = GQ_RING_VERSION;
	setup->ring_size = r->cfg.ring_size;
	setup->max_msg_size = r->cfg.max_msg_size;
	setup->schema = r->cfg.schema;
	setup->flags = r->cfg.flags;
	setup->ageing_limit = r->cfg.ageing_limit;
	setup->made_in = gq__generation + 1;
	memset(setup->reserved, 0, sizeof(setup->reserved));
}

QueueStatus q_ring_create(const RingConfig *cfg, void *memory, size_t bytes, RingQueue **out)
{
	RingConfig resolved;
	QueueStatus status;
	RingQueue *r;

	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	if (!resolve_config(cfg, &resolved))
		return Q_ERR_INVALID_ARG;
	status = check_memory(memory, bytes, gq__ring_required_bytes(&resolved));
	if (status != Q_OK)
		return status;
	r = new_handle(&resolved);
	if (r == NULL)
		return Q_ERR_NO_MEMORY;
	if (memory == NULL) {
		memory = gq__alloc(r->bytes, "the ring");
		if (memory == NULL) {
			free_handle(r);
			return Q_ERR_NO_MEMORY;
		}
		r->owned = true;
	}
	gq__ring_lay_out(r, memory);
	write_ring(r);
	gq__ring_choose_fences(r);
	gq_store_release_u64(&r->head->setup.ready, GQ_RING_MAGIC); /* [setup.write] */
	gq__ring_list(r);
	*out = r;
	return Q_OK;
}

GQ_STATIC_ASSERT(offsetof(struct gq_ring_setup, ready) == offsetof(struct gq_header, ready),
		 "begins so");
GQ_STATIC_ASSERT(offsetof(struct gq_ring_setup, bytes) == offsetof(struct gq_header, bytes),
		 "begins so");

static const struct gq_header_kind ring_kind = { .noun = "ring",
						 .what = "ring",
						 .magic = GQ_RING_MAGIC,
						 .head_bytes = sizeof(struct gq_ring_head) };

/* Check a copied setup, and take the configuration out of it. */
static QueueStatus read_setup(const struct gq_ring_setup *setup, RingConfig *cfg)
{
	if (setup->version != GQ_RING_VERSION)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the ring's version is %" PRIu32 "; this library's is %u",
				 setup->version, GQ_RING_VERSION);
	*cfg = (RingConfig){ .ring_size = setup->ring_size,
			     .max_msg_size = setup->max_msg_size,
			     .schema = setup->schema,
			     .flags = setup->flags,
			     .ageing_limit = setup->ageing_limit };
	return check_config(cfg) ? Q_OK : Q_ERR_INVALID_ARG;
}

QueueStatus q_ring_attach(void *memory, size_t bytes, RingQueue **out)
{
	struct gq_ring_setup setup;
	RingConfig cfg = { 0 };
	QueueStatus status;
	RingQueue *r;

	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	status = gq__header_read(&ring_kind, memory, bytes, &setup, sizeof(setup));
	if (status == Q_OK)
		status = read_setup(&setup, &cfg);
	if (status == Q_OK)
		status = gq__header_check_memory(&ring_kind, memory, bytes, setup.bytes,
						 gq__ring_required_bytes(&cfg), setup.made_in);
	if (status != Q_OK)
		return status;
	r = new_handle(&cfg);
	if (r == NULL)
		return Q_ERR_NO_MEMORY;
	gq__ring_lay_out(r, memory);
	r->messages.start_pos = r->completions.start_pos = setup.start_pos;
	gq__ring_choose_fences(r);
	gq__ring_list(r);
	*out = r;
	return Q_OK;
}

void q_ring_destroy(RingQueue *r)
{
	if (r == NULL)
		return;
	gq__ring_poll_end(r);
	/* Descriptors that were never received still hold their regions. */
	if (r->owned && r->regions != NULL && r->generation == gq__generation)
		while (q_ring_discard(r) == Q_OK)
			;
	gq__ring_unlist(r);
	free_handle(r);
}

/* ---- schema and regions ---------------------------------------------------------------------- */

QueueStatus q_ring_set_schema(RingQueue *r, uint32_t schema,
			      QueueStatus (*validate)(const void *data, size_t len, void *user),
			      void *user)
{
	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	if (schema != r->cfg.schema)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "schema is %" PRIu32 "; this ring's is %" PRIu32, schema,
				 r->cfg.schema);
	r->validate = validate;
	r->validate_user = user;
	return Q_OK;
}

QueueStatus q_ring_bind_regions(RingQueue *r, RegionTable *table)
{
	GQ_RETURN_IF_REFUSED(gq_ring_enter(r));
	r->regions = table;
	return Q_OK;
}
