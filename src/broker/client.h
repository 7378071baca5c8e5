/* SPDX-License-Identifier: Apache-2.0 */
/*
 * client.h - a client's memory as gpuqd uses it. The client may write anything into it at any time.
 *
 * So the geometry is gpuqd's own; a word is read once, into a private variable, and checked there;
 * a payload is copied once, by a length that has been checked; and where gpuqd stands in each ring
 * is known to it alone: what it writes into the page is news for the client, and never read back.
 */
#ifndef GPUQ_BROKER_CLIENT_H
#define GPUQ_BROKER_CLIENT_H

#include "broker/page/page.h"
#include "broker/policy/fair.h"
#include "broker/tally.h"
#include "device/protocol/claim.h"
#include "device/remote/wire.h"

enum record_state { RECORD_INSIDE, RECORD_HELD };

/* A message that gpuqd has claimed and not yet completed. */
struct record {
	struct client *client;
	struct record *next, *previous; /* in the order of the claims */
	enum record_state state;        /* in the queue; or to be put there again */
	bool asked;                     /* the client wants it cancelled */
	bool recalled;                  /* INSIDE, and our queue has been asked not to start it */
	uint32_t slot;                  /* the client's */
	uint32_t len;
	uint64_t msg_id;  /* the client's */
	uint64_t sent_id; /* in our queue, if INSIDE */
	uint64_t claimed_ns;
	EnqueueOptions options;
};

struct client {
	/* ---- constant ---- */
	uint8_t *memory;
	struct gq_remote_layout layout;
	struct gq_remote_page *page;
	struct gq_word_ring ready[GQ_CLASSES], done;
	uint64_t *taken;
	struct gq_stamp *stamps; /* NULL: no trace */
	uint32_t capacity, slot_bytes, result_bytes, window;
	uint64_t slot_mask, start_pos;
	void *session; /* the reactor's */
	int socket;    /* for bells; the reactor closes it when the dispatcher has let go */
	int bell;      /* the client writes it; never read here */
	uint32_t pid, uid;
	uint32_t best; /* class of its messages, at most: higher ones are taken for that */

	/* ---- the dispatcher's ---- */
	struct client *next;
	struct gq_fair_user *user;
	uint64_t now_ns; /* when its messages come or end in this turn; 0: take the time */
	struct tally tally;
	uint32_t unclocked;                  /* messages run since `now_ns` */
	uint64_t head[GQ_CLASSES], done_pos; /* from start_pos on */
	struct gq_ageing ageing;
	uint64_t *busy; /* a bit a slot: claimed and not completed */
	struct record *records, *free, *first, *last;
	uint32_t inside, held;
	uint32_t recalled;                       /* of those inside */
	uint64_t control, acknowledged, cancels; /* as last seen, answered */
	uint64_t rests_until_ns; /* it is not served before that; 0: it does not rest */
	uint64_t deaf_ns; /* how long it has rested last, as its socket was full; 0: a bell has gone
			     since */
	uint64_t vain_ns; /* the same, as its bell brought nothing; 0: something has been served
			     since */
	uint32_t vain;    /* bells of its that brought nothing, since something was served */
	bool rests_in_vain; /* it rests for its bells' sake, not for ours */
	bool rung;          /* its bell has been heard, and it has had no turn since */
	bool muted;         /* it rests, or is broken, and its bell wakes nobody */
	bool unmuted;       /* no more: the kernel says that its bell has been rung, which may have
			       been long ago */
	bool rings;         /* something has been written that a sleeper may wait for */
	bool went;          /* something of it has gone into the queue in this turn */
	bool left;          /* has said so */
	bool broken;        /* has broken the protocol: not served any more */
	bool leaving;       /* the connection has ended, or is to end */
	bool draining;      /* what is inside is waited for, until `until_ns` */
	uint64_t until_ns;
};

/* @return false: out of memory */
bool client_open(struct client *c, const struct gq_wire_hello *hello, uint8_t *memory,
		 uint32_t window);
void client_close(struct client *c);

/* Whether there is a message to claim; sequentially consistent, as a second look. */
bool client_waits(const struct client *c);
/* The highest class that has one; GQ_CLASSES: none. */
uint32_t client_highest(const struct client *c);

enum claimed { CLAIMED_NOTHING, CLAIMED_ONE, CLAIMED_NONSENSE };

/*
 * Claim the next message into a free record. There is a free one.
 * @param lowest  of lower classes only what the ageing guard lets pass
 */
enum claimed client_claim(struct client *c, uint32_t lowest, struct record **out);

/* Messages, since it came. */
static inline uint64_t client_accepted(const struct client *c)
{
	uint64_t n = 0;

	for (uint32_t k = 0; k < GQ_CLASSES; k++)
		n += c->head[k] - c->start_pos;
	return n;
}
static inline uint64_t client_ended(const struct client *c)
{
	return c->done_pos - c->start_pos;
}
/* Adds its messages that have not ended, one by one. */
void client_count(const struct client *c, uint64_t inside[PAGE_CLASSES]);
/* Counts those messages as lost: it leaves. */
void client_lose(struct client *c);

/* Whether the client has asked for this message to be cancelled, now. */
bool client_cancels(const struct client *c, const struct record *r);
/* Where its payload is: read it once. */
const void *client_payload(const struct client *c, const struct record *r);

/* A message has ended: its result, its completion; the record is free again. client_settle() has to
 * follow, when the clock has been read, or is known to be right. */
void client_complete(struct client *c, struct record *r, uint32_t outcome, const void *result);

/* Count what has ended since the last time; it took until `now_ns`. */
void client_settle(struct client *c);

/* Send the bell, if something has been written and a thread of the client sleeps. */
void client_ring(struct client *c);

/*
 * Whether it is left alone for a while, so that it costs the others nothing: for 1 ms at first, and
 * twice as long each time.
 *
 * Its socket was full: it asks for bells and never reads them. It rests for up to
 * CLIENT_DEAF_MOST_NS. After each rest it is served once; then a bell goes, which ends it, or the
 * next rest begins.
 *
 * Or its own bells have brought nothing, CLIENT_VAIN_BELLS times since something of it was served:
 * client_heard(). It rests for up to CLIENT_VAIN_MOST_NS. After each rest one more such bell begins
 * the next. What is claimed or completed of it ends it all.
 */
bool client_rests(const struct client *c);

/* Its bell has been heard, and it has had its turn. @param some  an order of its was obeyed */
void client_heard(struct client *c, bool some);

enum { CLIENT_VAIN_BELLS = 8 };
#define CLIENT_DEAF_MOST_NS UINT64_C(128000000)
#define CLIENT_VAIN_MOST_NS UINT64_C(8000000)

#endif /* GPUQ_BROKER_CLIENT_H */
