/* SPDX-License-Identifier: Apache-2.0 */
/* book.h - the lease book: which entries this worker holds, and how far each is. Pure. */
#ifndef GPUQ_REDIS_BOOK_H
#define GPUQ_REDIS_BOOK_H

#include "entry.h"

#include <stdbool.h>
#include <stdint.h>

enum lease_state {
	LEASE_FREE = 0,
	LEASE_STAGED,  /* read, not yet in the queue */
	LEASE_RUNNING, /* in the queue */
	LEASE_DONE,    /* finished; Redis does not have its result yet */
	LEASE_RESTING, /* failed; it runs once more when `since_ms` has come */
};

struct lease {
	struct stream_id id;
	uint64_t since_ms;   /* when it was taken in */
	uint64_t msg_id;     /* in the queue */
	const void *result;  /* of a message that is DONE, until it is released in the queue */
	const char *payload; /* of one that is STAGED; not the book's */
	size_t payload_bytes;
	uint32_t result_bytes;
	uint32_t deliveries; /* this one included */
	uint32_t priority;
	uint32_t opcode;
	uint32_t verdict; /* what the processor reported of a message that failed */
	int32_t status;   /* QueueStatus of one that is DONE */
	enum lease_state state;
	uint32_t next; /* of the same hash, or of the free ones */
};

#define BOOK_NONE UINT32_MAX

struct book {
	struct lease *leases;
	uint32_t *heads; /* by hash; `mask` + 1 of them */
	uint32_t mask;
	uint32_t capacity;
	uint32_t used;
	uint32_t count[5]; /* by lease_state; that of FREE is not kept */
	uint32_t first_free;
	uint64_t progress_ms; /* when a message last finished */
};

/** False: no memory. `capacity` is 1 to 2^20. */
bool book_init(struct book *b, uint32_t capacity);
void book_free(struct book *b);

static inline uint32_t book_room(const struct book *b)
{
	return b->capacity - b->used;
}

/** The lease of an entry that is held, or BOOK_NONE. */
uint32_t book_find(const struct book *b, struct stream_id id);

/**
 * Write an entry down as STAGED.
 * Returns its lease; BOOK_NONE: it is held already, or there is no room.
 */
uint32_t book_add(struct book *b, const struct entry *e, uint32_t deliveries, uint64_t now_ms);

/** Move a lease on. `now_ms` counts as progress when it becomes DONE. */
void book_set(struct book *b, uint32_t lease, enum lease_state state, uint64_t now_ms);

/** The entry is no longer held. */
void book_remove(struct book *b, uint32_t lease);

/**
 * Whether Redis should hear that this entry is still being worked on: its result waits to be
 * published, or within the last `lease_ms` it was taken in or some message finished. A queue that
 * finishes nothing for so long is stuck, and others may take its entries.
 */
bool book_renews(const struct book *b, uint32_t lease, uint64_t lease_ms, uint64_t now_ms);

/** There are messages in the queue, all are older than `stall_ms`, and none finished for as long.
 */
bool book_stalled(const struct book *b, uint64_t stall_ms, uint64_t now_ms);

#endif /* GPUQ_REDIS_BOOK_H */
