/* SPDX-License-Identifier: Apache-2.0 */
/* ring.c - a ring's life: its memory, handles, closing, observation. */
#include "host/ring/ring.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/base/sys.h"
#include "host/shm/barrier.h"
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
	for (size_t i = 0; i < sizeof(cfg->reserved) / sizeof(cfg->reserved[0]); i++) {
		if (cfg->reserved[i] != 0) {
			gq__failf(Q_ERR_INVALID_ARG, "reserved[%zu] is %" PRIu32 "; must be 0", i,
				  cfg->reserved[i]);
			return false;
		}
	}
	return true;
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

/* ---- layout: computed from a checked configuration, never read from shared memory ------------ */

enum { COMPLETION_STRIDE = 64 };

/* No two cells share a line. */
static uint64_t message_stride(const RingConfig *cfg)
{
	return gq_round_up(cfg->max_msg_size, 64);
}

/* Words a box keeps for each of its cells: places in the rings, number, descriptor, continuation.
 */
static uint32_t words_per_cell(uint32_t classes, bool described, bool chained)
{
	return 1 + classes + 1 + (described ? GQ_DESCRIPTOR_WORDS : 0) + (chained ? 1 : 0);
}

static uint64_t box_bytes(uint64_t n, uint32_t words, uint64_t stride)
{
	return gq_round_up(n * words * sizeof(uint64_t), GQ_LINE) +
	       gq_round_up(n * stride, GQ_LINE);
}

static uint64_t required_bytes(const RingConfig *cfg)
{
	const bool large = (cfg->flags & Q_RING_LARGE) != 0;

	return sizeof(struct gq_ring_head) +
	       box_bytes(cfg->ring_size, words_per_cell(GQ_CLASSES, true, large),
			 message_stride(cfg)) +
	       box_bytes(cfg->ring_size, words_per_cell(1, false, false), COMPLETION_STRIDE);
}

size_t q_ring_required_memory(const RingConfig *cfg)
{
	RingConfig resolved;

	return resolve_config(cfg, &resolved) ? (size_t)required_bytes(&resolved) : 0;
}

/* Lays a box out from `at` on. @return the first byte after it. */
static uint8_t *lay_out_box(struct gq_box *b, uint8_t *at, struct gq_box_positions *pos,
			    const RingConfig *cfg, uint32_t classes, bool described, bool chained,
			    uint64_t stride)
{
	const uint32_t order = gq_log2(cfg->ring_size);
	const uint64_t n = cfg->ring_size;
	uint64_t *words = (uint64_t *)(void *)at;

	b->classes = classes;
	b->stride = stride;
	b->pool = gq_word_ring_of(words, &pos->pool_head, &pos->pool_tail, order,
				  gq_id_shift(order), 0);
	words += n;
	for (uint32_t c = 0; c < classes; c++, words += n)
		b->ready[c] = gq_word_ring_of(words, &pos->head[c], &pos->tail[c], order,
					      GQ_SLOT_SHIFT + order, order);
	b->number = words;
	words += n;
	if (described) {
		b->described = words;
		words += GQ_DESCRIPTOR_WORDS * n;
	}
	if (chained) {
		b->chain = words;
		b->sequence = &pos->sequence;
	}
	b->cells =
		at + gq_round_up(n * words_per_cell(classes, described, chained) * sizeof(uint64_t),
				 GQ_LINE);
	return b->cells + gq_round_up(n * stride, GQ_LINE);
}

static void lay_out(RingQueue *r, void *memory)
{
	const RingConfig *cfg = &r->cfg;
	struct gq_ring_head *head = memory;
	uint8_t *at = (uint8_t *)memory + sizeof(*head);

	r->head = head;
	at = lay_out_box(&r->messages, at, &head->messages, cfg, GQ_CLASSES, true,
			 (cfg->flags & Q_RING_LARGE) != 0, message_stride(cfg));
	r->messages.cell_bytes = cfg->max_msg_size;
	r->messages.send_role = &head->signals.role[0];
	r->messages.receive_role = &head->signals.role[1];
	r->messages.send_op = GQ_OP_SEND;
	r->messages.receive_op = GQ_OP_RECEIVE;
	lay_out_box(&r->completions, at, &head->completions, cfg, 1, false, false,
		    COMPLETION_STRIDE);
	r->completions.cell_bytes = sizeof(struct gq_ring_completion);
	r->completions.send_role = &head->signals.role[2];
	r->completions.receive_role = &head->signals.role[3];
	r->completions.send_op = GQ_OP_COMPLETE;
	r->completions.receive_op = GQ_OP_POLL;
	r->max_parts = (cfg->flags & Q_RING_LARGE) == 0 ? 1
		       : cfg->ring_size < GQ_MAX_PARTS  ? cfg->ring_size
							: GQ_MAX_PARTS;
}

/* A new box: every cell in the pool, every class empty, all positions at `start`. */
static void fill_box(struct gq_box *b, uint64_t start)
{
	const uint64_t n = gq_word_ring_size(&b->pool);

	for (uint64_t i = 0; i < n; i++) {
		*gq_word_ring_entry(&b->pool, start + i) =
			gq_word_ring_tag(&b->pool, start + i) | i;
		for (uint32_t c = 0; c < b->classes; c++)
			*gq_word_ring_entry(&b->ready[c], start + i) =
				gq_word_ring_tag(&b->ready[c], start + i - n);
		b->number[i] = 0;
	}
	*b->pool.head = start << 1;
	*b->pool.tail = start + n;
	for (uint32_t c = 0; c < b->classes; c++)
		*b->ready[c].head = *b->ready[c].tail = start;
}

/* ---- handles --------------------------------------------------------------------------------- */

static bool check_alignment(const void *memory)
{
	if (((uintptr_t)memory & (GQ_LINE - 1)) == 0)
		return true;
	gq__failf(Q_ERR_INVALID_ARG, "memory is %p; must be aligned to %d bytes", memory, GQ_LINE);
	return false;
}

static RingQueue *new_handle(const RingConfig *cfg)
{
	static uint64_t serials;
	RingQueue *r = gq__alloc(sizeof(*r), "the ring's handle");

	if (r == NULL)
		return NULL;
	r->cfg = *cfg;
	r->bytes = (size_t)required_bytes(cfg);
	r->single = (cfg->flags & Q_RING_SINGLE) != 0;
	r->serial = gq_fetch_add_relaxed_u64(&serials, 1) + 1;
	gq__watch_forks();
	r->generation = gq__generation;
	gq__ring_poll_begin(r);
	if ((cfg->flags & Q_RING_AGEING) != 0) {
		r->ageing = gq__alloc(GQ_RING_PEERS * sizeof(*r->ageing), "the ring's ageing");
		if (r->ageing == NULL) {
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
	gq__free(r->ageing, GQ_RING_PEERS * sizeof(*r->ageing));
	gq__free(r, sizeof(*r));
}

/* Where membarrier is not to be had, everybody on this ring must make fences from now on. */
static void choose_fences(RingQueue *r)
{
	if (gq__barrier_register() && gq__barrier())
		return;
	gq_exchange_seq_cst_u64(&r->head->signals.fenced, 1);
	gq_store_relaxed_u64(&r->fenced_since_ns, gq__now_ns());
	/* Who has looked at the flag before this is done with its call long before that. */
	gq_sys_nap(10000000);
}

QueueStatus q_ring_create(const RingConfig *cfg, void *memory, size_t bytes, RingQueue **out)
{
	struct gq_ring_setup *setup;
	RingConfig resolved;
	QueueStatus status;
	bool is_private;
	RingQueue *r;

	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	if (!resolve_config(cfg, &resolved))
		return Q_ERR_INVALID_ARG;
	if (memory == NULL && bytes != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "memory is NULL but bytes is %zu", bytes);
	if (memory != NULL) {
		if (!check_alignment(memory))
			return Q_ERR_INVALID_ARG;
		if (bytes < required_bytes(&resolved))
			return gq__failf(Q_ERR_NO_MEMORY,
					 "bytes is %zu; this ring takes at least %" PRIu64, bytes,
					 required_bytes(&resolved));
		status = gq__mapping_check(memory, (size_t)required_bytes(&resolved), true,
					   &is_private);
		if (status != Q_OK)
			return status;
	}
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
	lay_out(r, memory);
	setup = &r->head->setup;
	gq_store_release_u64(&setup->ready, 0); /* nobody attaches meanwhile */
	memset(&r->head->signals, 0, sizeof(*r->head) - offsetof(struct gq_ring_head, signals));
	r->messages.start_pos = r->completions.start_pos = gq__start_pos;
	fill_box(&r->messages, gq__start_pos);
	fill_box(&r->completions, gq__start_pos);
	setup->magic = GQ_RING_MAGIC;
	setup->bytes = r->bytes;
	setup->start_pos = gq__start_pos;
	setup->reserved0 = 0;
	setup->version = GQ_RING_VERSION;
	setup->ring_size = resolved.ring_size;
	setup->max_msg_size = resolved.max_msg_size;
	setup->schema = resolved.schema;
	setup->flags = resolved.flags;
	setup->ageing_limit = resolved.ageing_limit;
	setup->made_in = gq__generation + 1;
	memset(setup->reserved, 0, sizeof(setup->reserved));
	choose_fences(r);
	gq_store_release_u64(&setup->ready, GQ_RING_MAGIC); /* [setup.write] */
	gq__ring_list(r);
	*out = r;
	return Q_OK;
}

QueueStatus q_ring_attach(void *memory, size_t bytes, RingQueue **out)
{
	const struct gq_ring_setup *shared = memory;
	struct gq_ring_setup setup;
	RingConfig cfg = { 0 };
	QueueStatus status;
	bool is_private;
	RingQueue *r;

	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	if (memory == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "memory is NULL");
	if (!check_alignment(memory))
		return Q_ERR_INVALID_ARG;
	if (bytes < sizeof(struct gq_ring_head))
		return gq__failf(Q_ERR_NO_MEMORY, "bytes is %zu; a ring's header alone takes %zu",
				 bytes, sizeof(struct gq_ring_head));
	status = gq__mapping_check(memory, sizeof(struct gq_ring_head), true, &is_private);
	if (status != Q_OK)
		return status;
	/* [setup.read] acquire: the setup. Copied once, so that what is checked is used. */
	if (gq_load_acquire_u64(&shared->ready) != GQ_RING_MAGIC)
		return shared->magic == 0 || shared->magic == GQ_RING_MAGIC
			       ? gq__fail(Q_ERR_NOT_READY, "the ring's creator has not finished")
			       : gq__fail(Q_ERR_INVALID_ARG, "there is no ring in this memory");
	memcpy(&setup, shared, sizeof(setup));
	if (setup.magic != GQ_RING_MAGIC)
		return gq__fail(Q_ERR_INVALID_ARG, "there is no ring in this memory");
	if (setup.version != GQ_RING_VERSION)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the ring's version is %" PRIu32 "; this library's is %u",
				 setup.version, GQ_RING_VERSION);
	cfg.ring_size = setup.ring_size;
	cfg.max_msg_size = setup.max_msg_size;
	cfg.schema = setup.schema;
	cfg.flags = setup.flags;
	cfg.ageing_limit = setup.ageing_limit;
	if (!check_config(&cfg))
		return Q_ERR_INVALID_ARG;
	if (setup.bytes != required_bytes(&cfg))
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the ring says it takes %" PRIu64
				 " bytes; one of its configuration takes %" PRIu64,
				 setup.bytes, required_bytes(&cfg));
	if (bytes < setup.bytes)
		return gq__failf(Q_ERR_NO_MEMORY, "bytes is %zu; this ring takes %" PRIu64, bytes,
				 setup.bytes);
	status = gq__mapping_check(memory, (size_t)setup.bytes, false, &is_private);
	if (status != Q_OK)
		return status;
	if (is_private && setup.made_in != 0 && setup.made_in != gq__generation + 1)
		return gq__fail(Q_ERR_INVALID_ARG,
				"the memory is private, and its ring was made by the process that "
				"forked this one, which has another copy: it must be shared");
	r = new_handle(&cfg);
	if (r == NULL)
		return Q_ERR_NO_MEMORY;
	lay_out(r, memory);
	r->messages.start_pos = r->completions.start_pos = setup.start_pos;
	choose_fences(r);
	gq__ring_list(r);
	*out = r;
	return Q_OK;
}

void q_ring_destroy(RingQueue *r)
{
	if (r == NULL)
		return;
	gq__ring_poll_end(r);
	/* Descriptors that nobody has received still hold their regions. */
	if (r->owned && r->regions != NULL && r->generation == gq__generation)
		while (q_ring_discard(r) == Q_OK)
			;
	gq__ring_unlist(r);
	free_handle(r);
}

QueueStatus gq__ring_refuse_handle(const RingQueue *r)
{
	if (r == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "ring is NULL");
	return gq__fail(Q_ERR_UNSUPPORTED,
			"this handle is of the process that forked this one: attach in the child");
}

QueueStatus q_ring_close(RingQueue *r)
{
	struct gq_ring_signals *signals;

	GQ_RETURN_IF_REFUSED(r);
	signals = &r->head->signals;
	/* [intake.close]; [wake.look] */
	gq_cas_seq_cst_u64(&signals->state, GQ_RING_OPEN, GQ_RING_CLOSED);
	/* Single mode, and a sender is inside: it wakes the receivers when it leaves. */
	gq__ring_settle(r);
	gq__flag_wake_shared(&signals->data_armed);
	gq__flag_wake_shared(&signals->room_armed);
	return Q_OK;
}

/* ---- observation ----------------------------------------------------------------------------- */

static uint64_t clamp(int64_t value, uint64_t max)
{
	return value < 0 ? 0 : (uint64_t)value > max ? max : (uint64_t)value;
}

static uint64_t sum_since_start(const struct gq_box *b, bool tails)
{
	uint64_t sum = 0;

	for (uint32_t c = 0; c < b->classes; c++)
		sum += gq_load_acquire_u64(tails ? b->ready[c].tail : b->ready[c].head) -
		       b->start_pos;
	return sum;
}

uint32_t q_ring_len(RingQueue *r)
{
	uint64_t heads;

	if (gq_ring_enter(r) != Q_OK)
		return 0;
	heads = sum_since_start(&r->messages, false); /* first, so that it is never the larger */
	return (uint32_t)clamp(gq_pos_diff(sum_since_start(&r->messages, true), heads),
			       r->cfg.ring_size);
}

uint32_t q_ring_available(RingQueue *r)
{
	uint64_t head, tail;

	if (gq_ring_enter(r) != Q_OK)
		return 0;
	head = gq_load_acquire_u64(r->messages.pool.head);
	tail = gq_load_acquire_u64(r->messages.pool.tail);
	/* The head has one bit less than the tail. */
	return (uint32_t)clamp((int64_t)((tail << 1) - (head & ~GQ_POOL_CLOSED)) >> 1,
			       r->cfg.ring_size);
}

uint32_t q_ring_is_empty(RingQueue *r)
{
	return q_ring_len(r) == 0;
}

uint32_t q_ring_is_full(RingQueue *r)
{
	return q_ring_available(r) == 0;
}

uint64_t q_ring_sequence(RingQueue *r)
{
	const struct gq_box *b;

	if (gq_ring_enter(r) != Q_OK)
		return 0;
	b = &r->messages; /* see take_numbers() */
	if (b->sequence != NULL)
		return gq_load_acquire_u64(b->sequence);
	return ((gq_load_acquire_u64(b->pool.head) >> 1) - b->start_pos) & (UINT64_MAX >> 1);
}

QueueStatus q_ring_stats(RingQueue *r, RingStats *out)
{
	GQ_RETURN_IF_REFUSED(r);
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	*out = (RingStats){ 0 };
	out->received = sum_since_start(&r->messages, false);
	out->sent = sum_since_start(&r->messages, true);
	out->polled = sum_since_start(&r->completions, false);
	out->completed = sum_since_start(&r->completions, true);
	out->repairs = gq_load_relaxed_u64(&r->head->repair.repairs);
	out->reclaimed = gq_load_relaxed_u64(&r->head->repair.reclaimed);
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++) {
		const struct gq_ring_peer *peer = &r->head->peer[i];

		out->bytes_sent += gq_load_relaxed_u64(&peer->bytes_sent);
		out->bytes_received += gq_load_relaxed_u64(&peer->bytes_received);
		out->descriptors += gq_load_relaxed_u64(&peer->descriptors);
		out->discarded += gq_load_relaxed_u64(&peer->discarded);
		out->full += gq_load_relaxed_u64(&peer->full);
		out->empty += gq_load_relaxed_u64(&peer->empty);
		out->refused += gq_load_relaxed_u64(&peer->refused);
		out->threads += gq_load_relaxed_u64(&peer->identity.owner) != 0;
	}
	out->unjudged = gq__ring_count_unjudged(r);
	return Q_OK;
}

QueueStatus q_ring_config(RingQueue *r, RingConfig *out)
{
	GQ_RETURN_IF_REFUSED(r);
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	*out = r->cfg;
	return Q_OK;
}

/* ---- schema and regions ---------------------------------------------------------------------- */

QueueStatus q_ring_set_schema(RingQueue *r, uint32_t schema,
			      QueueStatus (*validate)(const void *data, size_t len, void *user),
			      void *user)
{
	GQ_RETURN_IF_REFUSED(r);
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
	GQ_RETURN_IF_REFUSED(r);
	r->regions = table;
	return Q_OK;
}
