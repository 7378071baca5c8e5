/* SPDX-License-Identifier: Apache-2.0 */
/* book.c - the lease book: an array of leases, found by entry through a table of chains. */
#include "book.h"

#include <stdlib.h>

bool book_init(struct book *b, uint32_t capacity)
{
	uint32_t size = 1;

	while (size < 2 * capacity)
		size *= 2;
	*b = (struct book){ .capacity = capacity, .mask = size - 1 };
	b->leases = calloc(capacity, sizeof(b->leases[0]));
	b->heads = malloc(size * sizeof(b->heads[0]));
	if (!b->leases || !b->heads) { /* unreached: no memory */
		book_free(b);
		return false;
	}
	for (uint32_t i = 0; i < size; i++)
		b->heads[i] = BOOK_NONE;
	for (uint32_t i = 0; i < capacity; i++)
		b->leases[i].next = i + 1 < capacity ? i + 1 : BOOK_NONE;
	return true;
}

void book_free(struct book *b)
{
	free(b->leases);
	free(b->heads);
	*b = (struct book){ .capacity = 0 };
}

static uint32_t *head_of(const struct book *b, struct stream_id id)
{
	uint64_t hash = (id.ms * 0x9e3779b97f4a7c15u) ^ id.seq;

	hash *= 0xbf58476d1ce4e5b9u;
	return &b->heads[(uint32_t)(hash >> 32) & b->mask];
}

uint32_t book_find(const struct book *b, struct stream_id id)
{
	uint32_t at = *head_of(b, id);

	while (at != BOOK_NONE && !stream_id_equal(b->leases[at].id, id))
		at = b->leases[at].next;
	return at;
}

uint32_t book_add(struct book *b, const struct entry *e, uint32_t deliveries, uint64_t now_ms)
{
	const uint32_t at = b->first_free;
	uint32_t *head = head_of(b, e->id);
	struct lease *l;

	if (book_room(b) == 0 || book_find(b, e->id) != BOOK_NONE)
		return BOOK_NONE;
	l = &b->leases[at];
	b->first_free = l->next;
	*l = (struct lease){
		.id = e->id,
		.since_ms = now_ms,
		.payload = e->payload,
		.payload_bytes = e->payload_bytes,
		.deliveries = deliveries,
		.priority = e->priority,
		.opcode = e->opcode,
		.state = LEASE_STAGED,
		.next = *head,
	};
	*head = at;
	b->used++;
	b->count[LEASE_STAGED]++;
	return at;
}

void book_set(struct book *b, uint32_t lease, enum lease_state state, uint64_t now_ms)
{
	b->count[b->leases[lease].state]--;
	b->count[state]++;
	b->leases[lease].state = state;
	if (state == LEASE_DONE)
		b->progress_ms = now_ms;
}

void book_remove(struct book *b, uint32_t lease)
{
	struct lease *l = &b->leases[lease];
	uint32_t *at = head_of(b, l->id);

	while (*at != lease)
		at = &b->leases[*at].next;
	*at = l->next;
	b->count[l->state]--;
	b->used--;
	*l = (struct lease){ .next = b->first_free };
	b->first_free = lease;
}

static uint64_t since(uint64_t then, uint64_t now)
{
	return now > then ? now - then : 0;
}

bool book_renews(const struct book *b, uint32_t lease, uint64_t lease_ms, uint64_t now_ms)
{
	const struct lease *l = &b->leases[lease];

	if (l->state == LEASE_FREE)
		return false;
	return l->state == LEASE_DONE || since(l->since_ms, now_ms) < lease_ms ||
	       since(b->progress_ms, now_ms) < lease_ms;
}

bool book_stalled(const struct book *b, uint64_t stall_ms, uint64_t now_ms)
{
	if (b->count[LEASE_RUNNING] == 0 || since(b->progress_ms, now_ms) < stall_ms)
		return false;
	for (uint32_t i = 0; i < b->capacity; i++) {
		const struct lease *l = &b->leases[i];

		if (l->state == LEASE_RUNNING && since(l->since_ms, now_ms) < stall_ms)
			return false;
	}
	return true;
}
