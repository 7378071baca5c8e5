/* SPDX-License-Identifier: Apache-2.0 */
/* client.c - the steps of a consumer in a client's memory: claim, look, complete, ring. */
#include "client.h"

#include "broker/page/probe.h"

#include "host/base/clock.h"

#include <errno.h>
#include <sys/socket.h>

/* ---- open and close -------------------------------------------------------------------------- */

static void find_rings(struct client *c, const struct gq_wire_hello *hello)
{
	const uint32_t order = gq_log2(hello->capacity), shift = gq_id_shift(order);
	uint64_t *words = (uint64_t *)(void *)(c->memory + c->layout.words);

	/* As the client's half lays them out (lay_out_rings() in host/queue/queue.c). Heads and
	 * tails are private: NULL, so that no step can use the client's. */
	for (uint32_t k = 0; k < GQ_CLASSES; k++) {
		words += hello->capacity;
		c->ready[k] = gq_word_ring_of(words, NULL, NULL, order, shift + GQ_USE_BITS, order);
		c->head[k] = hello->start_pos;
	}
	words += hello->capacity;
	c->done = gq_word_ring_of(words, NULL, NULL, order, order + GQ_OUTCOME_BITS, order);
	c->done_pos = c->start_pos = hello->start_pos;
	c->slot_mask = (UINT64_C(1) << shift) - 1;
}

bool client_open(struct client *c, const struct gq_wire_hello *hello, uint8_t *memory,
		 uint32_t window)
{
	c->memory = memory;
	c->layout = gq_remote_lay_out(hello);
	c->page = (struct gq_remote_page *)(void *)memory;
	c->taken = (uint64_t *)(void *)(memory + c->layout.taken);
	c->stamps =
		hello->traced != 0 ? (struct gq_stamp *)(void *)(memory + c->layout.stamps) : NULL;
	c->capacity = hello->capacity;
	c->slot_bytes = hello->slot_bytes;
	c->result_bytes = hello->result_bytes;
	c->window = window < hello->capacity ? window : hello->capacity;
	find_rings(c, hello);
	c->busy = calloc((c->capacity + 63) / 64, sizeof(*c->busy));
	c->records = calloc(c->window, sizeof(*c->records));
	if (c->busy == NULL || c->records == NULL) {
		client_close(c);
		return false;
	}
	for (uint32_t i = 0; i < c->window; i++) {
		c->records[i].client = c;
		c->records[i].next = c->free;
		c->free = &c->records[i];
	}
	return true;
}

void client_close(struct client *c)
{
	free(c->busy);
	free(c->records);
	c->busy = NULL;
	c->records = NULL;
}

/* ---- claiming -------------------------------------------------------------------------------- */

static bool class_waits(const struct client *c, uint32_t class)
{
	const struct gq_word_ring *r = &c->ready[class];
	const uint64_t pos = c->head[class];

	/* [sleep.look] */
	return gq_word_ring_is_at(r, gq_load_seq_cst_u64(gq_word_ring_entry(r, pos)), pos);
}

uint32_t client_highest(const struct client *c)
{
	for (uint32_t k = GQ_CLASSES; k-- > 0;)
		if (class_waits(c, k))
			return k < c->best ? k : c->best;
	return GQ_CLASSES;
}

bool client_waits(const struct client *c)
{
	return client_highest(c) != GQ_CLASSES;
}

/* Strict order of the classes, but for those that have waited for GQ_PASS_LIMIT claims: as
 * gq_claim(). GQ_CLASSES: nothing waits, or nothing that is not below `lowest`. */
static uint32_t next_class(struct client *c, uint32_t lowest)
{
	for (uint32_t k = 0; k < GQ_CLASSES - 1; k++) {
		if (c->ageing.passed[k] < GQ_PASS_LIMIT)
			continue;
		c->ageing.passed[k] = 0;
		if (class_waits(c, k))
			return k;
	}
	for (uint32_t k = GQ_CLASSES; k-- > (lowest <= c->best ? lowest : GQ_CLASSES);) {
		if (!class_waits(c, k))
			continue;
		c->ageing.passed[k] = 0;
		for (uint32_t d = 0; d < k; d++)
			c->ageing.passed[d] = class_waits(c, d) ? c->ageing.passed[d] + 1 : 0;
		return k;
	}
	return GQ_CLASSES;
}

/* Mark a slot claimed. @return false: there is no such slot, or it is claimed already. */
static bool take_slot(struct client *c, uint64_t slot)
{
	const uint64_t bit = UINT64_C(1) << slot % 64;

	if (slot >= c->capacity || (c->busy[slot / 64] & bit) != 0)
		return false;
	c->busy[slot / 64] |= bit;
	return true;
}

static struct gq_slot *slot_at(const struct client *c, uint32_t slot)
{
	return (struct gq_slot *)(void *)(c->memory + c->layout.slots +
					  slot * c->layout.slot_stride);
}

/* Copy what the header says, each word once. @return false: it makes no sense */
static bool copy_header(const struct client *c, uint32_t class, struct record *r)
{
	const struct gq_slot *s = slot_at(c, r->slot);
	const uint64_t lengths = gq_load_relaxed_u64((const uint64_t *)(const void *)&s->len);
	const uint32_t flags = gq_load_relaxed_u32(&s->flags);

	GQ_STATIC_ASSERT(offsetof(struct gq_slot, opcode) == offsetof(struct gq_slot, len) + 4,
			 "they are read as one word");
	r->msg_id = gq_load_relaxed_u64(&s->msg_id);
	r->len = (uint32_t)lengths;
	r->options = (EnqueueOptions){ .priority = (class < c->best ? class : c->best) + 1,
				       .opcode = (uint32_t)(lengths >> 32),
				       .tag = gq_load_relaxed_u64(&s->tag),
				       .deadline_ns = gq_load_relaxed_u64(&s->deadline_ns) };
	return r->len <= c->slot_bytes && (r->msg_id & c->slot_mask) == r->slot &&
	       (flags & ~(uint32_t)GQ_SLOT_DISCARD) == 0;
}

static void append(struct client *c, struct record *r)
{
	c->free = r->next;
	r->next = NULL;
	r->previous = c->last;
	if (c->last != NULL)
		c->last->next = r;
	else
		c->first = r;
	c->last = r;
}

/* A bell of its was worth hearing. */
static void forgive(struct client *c)
{
	c->vain = 0;
	c->vain_ns = 0;
	if (c->rests_in_vain)
		c->rests_until_ns = 0;
	c->rests_in_vain = false;
}

/* A message is in class priority - 1. */
static uint32_t class_of(const struct record *r)
{
	return r->options.priority - 1;
}

void client_settle(struct client *c)
{
	tally_settle(&c->tally, c->now_ns);
}

void client_count(const struct client *c, uint64_t inside[PAGE_CLASSES])
{
	for (const struct record *r = c->first; r != NULL; r = r->next)
		inside[class_of(r)]++;
}

void client_lose(struct client *c)
{
	client_settle(c);
	for (const struct record *r = c->first; r != NULL; r = r->next)
		tally_lost(&c->tally, class_of(r));
}

enum claimed client_claim(struct client *c, uint32_t lowest, struct record **out)
{
	const uint32_t class = next_class(c, lowest);
	struct record *r = c->free;
	const struct gq_word_ring *ring;
	uint64_t word, slot;

	if (class == GQ_CLASSES)
		return CLAIMED_NOTHING;
	ring = &c->ready[class];
	/* [message.claim] acquire: slot and payload. It was there; a client that has taken it back
	 * since is one that lies. */
	word = gq_load_acquire_u64(gq_word_ring_entry(ring, c->head[class]));
	slot = gq_word_ring_value(ring, word) & c->slot_mask;
	if (!gq_word_ring_is_at(ring, word, c->head[class]) || !take_slot(c, slot))
		return CLAIMED_NONSENSE;
	r->slot = (uint32_t)slot;
	if (!copy_header(c, class, r)) {
		c->busy[slot / 64] &= ~(UINT64_C(1) << slot % 64);
		return CLAIMED_NONSENSE;
	}
	c->head[class]++;
	r->asked = r->recalled = false;
	r->state = RECORD_HELD;
	if (c->now_ns == 0) /* once a turn is enough, but for a trace */
		c->now_ns = gq__now_ns();
	r->claimed_ns = c->stamps != NULL ? gq__now_ns() : c->now_ns;
	if (__builtin_expect(c->vain != 0, 0))
		forgive(c);
	tally_claimed(&c->tally, class_of(r), r->len);
	/* [claim.write] release: before it is handed on, the client can know that it was. */
	gq_store_release_u64(&c->taken[slot], r->msg_id);
	gq_store_release_u64(&c->page->claimed[class], c->head[class]);
	PROBE3(claim, c->pid, r->msg_id, r->len);
	append(c, r);
	c->held++;
	*out = r;
	return CLAIMED_ONE;
}

bool client_cancels(const struct client *c, const struct record *r)
{
	return gq_load_relaxed_u64(&slot_at(c, r->slot)->cancel) == r->msg_id;
}

const void *client_payload(const struct client *c, const struct record *r)
{
	return (const uint8_t *)slot_at(c, r->slot) + GQ_PAYLOAD_OFFSET;
}

/* ---- completing ------------------------------------------------------------------------------ */

static void give_back(struct client *c, struct record *r)
{
	if (r->previous != NULL)
		r->previous->next = r->next;
	else
		c->first = r->next;
	if (r->next != NULL)
		r->next->previous = r->previous;
	else
		c->last = r->previous;
	if (r->state == RECORD_INSIDE)
		c->inside--;
	else
		c->held--;
	r->next = c->free;
	c->free = r;
}

void client_complete(struct client *c, struct record *r, uint32_t outcome, const void *result)
{
	const struct gq_word_ring *ring = &c->done;
	const uint64_t slot = r->slot;

	if (outcome != 0 && outcome <= GQ_OUTCOME_MAX_LEN)
		memcpy(c->memory + c->layout.results + slot * c->layout.result_stride +
			       GQ_RESULT_OFFSET,
		       result, outcome);
	if (c->stamps != NULL)
		c->stamps[slot] = (struct gq_stamp){ .claimed_ns = r->claimed_ns,
						     .done_ns = gq__now_ns(),
						     .consumer = (uint64_t)(r - c->records) };
	c->busy[slot / 64] &= ~(UINT64_C(1) << slot % 64);
	/* [message.complete] release: the result. gpuqd alone puts here, so nothing is swapped, and
	 * a place that an honest client has not reaped is never come to: a slot is in one place at
	 * a time. */
	gq_store_release_u64(gq_word_ring_entry(ring, c->done_pos),
			     gq_word_ring_tag(ring, c->done_pos) |
				     ((uint64_t)outcome << ring->order | slot));
	c->done_pos++;
	gq_store_release_u64(&c->page->done_tail, c->done_pos); /* [tail.raise] */
	c->rings = true;
	PROBE4(complete, c->pid, r->msg_id, outcome, c->now_ns - r->claimed_ns);
	if (__builtin_expect(c->vain != 0, 0))
		forgive(c);
	tally_ended(&c->tally, class_of(r), outcome, r->claimed_ns, c->now_ns);
	give_back(c, r);
}

#define REST_NS UINT64_C(1000000)

static void start_rest(struct client *c, uint64_t *last_ns, uint64_t most_ns)
{
	*last_ns = *last_ns == 0 ? REST_NS : 2 * *last_ns;
	if (*last_ns > most_ns)
		*last_ns = most_ns;
	c->rests_until_ns = gq__now_ns() + *last_ns;
	c->rests_in_vain = last_ns == &c->vain_ns;
}

bool client_rests(const struct client *c)
{
	return __builtin_expect(c->rests_until_ns != 0, 0) && gq__now_ns() < c->rests_until_ns;
}

/* An order makes up for one bell in vain, no more: random words in the client's page are orders now
 * and then. */
void client_heard(struct client *c, bool some)
{
	if (client_rests(c))
		return; /* its socket is full: that rest is the longer one */
	if (some) {
		c->vain -= c->vain != 0;
		if (c->vain == 0) /* else nobody would look at it when it is served */
			c->vain_ns = 0;
		return;
	}
	c->vain += c->vain < CLIENT_VAIN_BELLS;
	if (c->vain == CLIENT_VAIN_BELLS)
		start_rest(c, &c->vain_ns, CLIENT_VAIN_MOST_NS);
}

void client_ring(struct client *c)
{
	const struct gq_wire_bell bell = { gq_wire_head_of(GQ_WIRE_BELL, sizeof(bell)) };

	if (!c->rings || client_rests(c))
		return; /* `rings` stays: it is rung later */
	c->rings = false;
	/* [wake.look] The look is a change, of nothing: so either it comes before the sleeper's own
	 * change of this word, whose second look then finds what has been completed before this;
	 * or it finds that. One such look is for all that a turn has completed. */
	if (gq_fetch_add_seq_cst_u64(&c->page->asleep, 0) == 0 ||
	    gq_exchange_seq_cst_u64(&c->page->asleep, 0) == 0)
		return;
	/* Never waits, whatever the client has made of its end. A full socket is full of bells. */
	if (sendto(c->socket, &bell, sizeof(bell), MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0) >= 0 ||
	    errno == EPIPE || errno == ECONNRESET) {
		c->deaf_ns = 0;
		return;
	}
	if (errno == EAGAIN) {
		start_rest(c, &c->deaf_ns, CLIENT_DEAF_MOST_NS);
		return;
	}
	/* The kernel has no memory for it now: its sleeper still needs it. */
	gq_exchange_seq_cst_u64(&c->page->asleep, 1);
	c->rings = true;
}
