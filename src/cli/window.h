/* SPDX-License-Identifier: Apache-2.0 */
/* window.h - the messages under way, in input order: what is known of each until it is printed. */
#ifndef GPUQ_CLI_WINDOW_H
#define GPUQ_CLI_WINDOW_H

#include <gpuq/gpuq.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum entry_state {
	ENTRY_READING,  /* not in the queue: a file of which more has to be read first */
	ENTRY_PENDING,  /* in the queue */
	ENTRY_FINISHED, /* its outcome is known, its line is not printed yet */
	ENTRY_GONE,     /* printed and released */
};

#define NO_STREAM UINT32_MAX

struct entry {
	uint64_t key; /* ascends; one that was never queued may have that of the one before */
	uint64_t msg_id;
	uint64_t enqueued_ns;
	uint64_t number; /* line number or offset, see struct split_piece */
	const void *result;
	uint32_t result_bytes;
	uint32_t file;   /* index of its file */
	uint32_t stream; /* that has more pieces of it to come, or NO_STREAM */
	int32_t status;  /* QueueStatus */
	uint8_t state;   /* enum entry_state */
	bool queued;     /* has an id of its own, to be released */
	bool cut_off;    /* the run was interrupted in the middle of it: there is no outcome */
};

/*
 * Entries are appended in the order of their keys, so that a key is found by bisection; finished
 * ones may leave from anywhere. The gaps are closed when the end of the array is reached, which
 * costs a constant per entry because at most half of the array is ever in use. A key is either the
 * message's id (window_add) or a number that the window gives (window_open): one kind in one run.
 */
struct window {
	struct entry *entries;
	size_t size;
	size_t most;  /* in use at the same time */
	size_t first; /* no entry in use before */
	size_t end;
	size_t used;    /* neither gone */
	size_t pending; /* in the queue and not finished */
	size_t guess;   /* where the next completion is expected */
	uint64_t last_key;
};

/** Room for `slots` messages in the queue and some that never got there. False: no memory. */
bool window_init(struct window *w, size_t slots);
void window_free(struct window *w);

/** How many entries can be added now. */
size_t window_room(const struct window *w);

/** Add a message that the queue has accepted; its id is its key. There must be room. */
void window_add(struct window *w, uint64_t msg_id, uint64_t enqueued_ns, uint32_t file,
		uint64_t number);

/** Add one that failed before it got there; it takes its turn in the output. */
struct entry *window_add_failed(struct window *w, uint32_t file, uint64_t number);

/** Add a file that is going to be read. Its key is the result; there must be room. */
uint64_t window_open(struct window *w, uint32_t file);

/** The entry with this key, whatever its state. The key must be in use. */
struct entry *window_get(struct window *w, uint64_t key);

/** A message of this entry is in the queue: of a file the first or the next piece. */
void window_submit(struct window *w, struct entry *e, uint64_t msg_id, uint64_t now_ns);

/** It has come back, and there is more to come. */
void window_resume(struct window *w, struct entry *e);

/** What was being read has failed: no message of it is in the queue. */
void window_fail(struct entry *e);

/** The pending entry with this key, or NULL. */
struct entry *window_find(struct window *w, uint64_t key);

/** Note the outcome of a pending entry. */
void window_finish(struct window *w, struct entry *e, const Completion *outcome);

/** The oldest entry in use, or NULL. */
struct entry *window_oldest(struct window *w);

/** Done with an entry that is not in the queue. */
void window_drop(struct window *w, struct entry *e);

/**
 * A pending entry about a quarter of the way from oldest to newest, or NULL: to sleep until it
 * has finished leaves the consumers work to go on with, and wakes us once for many messages.
 */
const struct entry *window_quarter(const struct window *w);

#endif /* GPUQ_CLI_WINDOW_H */
