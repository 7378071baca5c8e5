/* SPDX-License-Identifier: Apache-2.0 */
/* worker.h - the worker: one thread between Redis and the queue.
 *
 * A struct worker cares for one stream. A stream with shards has one for each of them in the same
 * process: a crew, which has one thread and one queue. */
#ifndef GPUQ_REDIS_WORKER_H
#define GPUQ_REDIS_WORKER_H

#include "list.h"
#include "redis/policy/batch.h"
#include "redis/policy/book.h"
#include "redis/server/redis.h"
#include "redis/server/scripts.h"
#include "suspects.h"
#include "watch.h"

#include <gpuq/gpuq.h>

enum ack_mode { ACK_PLAIN, ACK_ATOMIC, ACK_FENCED };
enum read_mode { MODE_STREAM, MODE_LIST, MODE_LIST_SIMPLE };

struct worker_options {
	struct place place;
	const char *group;
	const char *consumer; /* NULL: host, process number and a random number */
	const char *processor;
	const char *data_path;
	const char *metrics; /* where they are served; NULL: nowhere */
	struct entry_names names;
	struct results_place results;
	char *dead; /* the stream of the dead letters */
	uint32_t device;
	uint32_t slots; /* 0: four batches */
	uint32_t slot_bytes;
	uint32_t result_ttl_s;
	uint32_t batch;
	uint32_t max_deliveries;
	uint32_t drain_ms;
	uint64_t batch_delay_us;
	uint64_t lease_ms;
	uint64_t max_messages; /* 0: any number */
	enum ack_mode ack;
	enum read_mode mode;
	bool until_empty;
	bool quiet;
};

/** Reads the command line. False: *code is the exit code; it has said what is wrong, or the help.
 */
bool worker_parse(int argc, char **argv, struct worker_options *out, int *code);

struct worker_totals {
	uint64_t taken;       /* entries read, claimed or replayed */
	uint64_t done;        /* results in Redis, acknowledged */
	uint64_t retried;     /* failed, and left to be delivered again */
	uint64_t dead;        /* dead letters */
	uint64_t redelivered; /* of the taken: delivered before */
	uint64_t reclaimed;   /* of the taken: from consumers that had held them past the lease */
	uint64_t lost;        /* finished, but no longer ours: nothing was published */
	uint64_t trimmed;     /* had been deleted from the stream while they were pending */
	uint64_t handed_back;
	uint64_t connects;
	uint64_t group_lost; /* times the group had gone and was made again */
	uint64_t first_ns;   /* when the read was sent that brought the first message */
	uint64_t last_ns;    /* when the last result was in Redis */
};

struct crew;

struct worker {
	const struct worker_options *options; /* with the keys of its shard */
	struct crew *crew;
	uint32_t number; /* in the crew: that of its shard */
	bool leased;     /* it may read: another process cares for the shard otherwise */
	uint32_t asked;  /* entries that the read under way may bring */
	struct suspects *memory;
	GpuQueue *queue;
	int queue_fd;
	struct address server; /* that both links go to, or went */
	struct link command;   /* everything but blocking reads */
	struct link reader;    /* blocking reads: one at a time */
	struct words words;
	struct book book;
	struct list *list;             /* NULL: messages are entries of a stream */
	struct batch batch;            /* of entries on their way into the queue */
	struct batch group;            /* of finished messages that outcome.c deals with */
	struct publishing *publishing; /* groups on their way to Redis: publish.c */
	redisReply **held;             /* replies that staged entries point into */
	uint32_t held_count;
	uint32_t *staged;   /* leases, in the order of the stream */
	uint32_t *finished; /* leases that are DONE, in the order of completion */
	uint32_t finished_count;
	uint32_t publishable; /* of these, those that have a result */
	struct worker_totals totals;
	struct watch_view view; /* what Redis said last, for metrics and the terminal */

	bool reading; /* a read is under way, until */
	uint64_t read_deadline_ms;
	bool called_back; /* that one was asked to come back at once */
	bool saw_nothing; /* the last read found nothing new */
	bool replayed;    /* own entries of an earlier life have been taken */
	struct stream_id replay_from;
	struct stream_id reclaim_from;
	bool restarted; /* this program was started anew by the one before */
	bool draining;
	uint64_t drain_until_ms;
	uint64_t reclaim_at_ms;
	uint64_t renew_at_ms;
	uint64_t sweep_at_ms;   /* when consumers that died with nothing are looked for */
	uint64_t connect_at_ms; /* not before; when not connected */
	uint64_t resume_at_ms;  /* nothing that Redis refused is tried before */
	uint32_t attempt;       /* failures in a row */
	uint64_t random;
	uint64_t reader_id; /* CLIENT ID of the reader */
	int code;           /* the exit code, once `over` */
	bool over;
};

/** `gpuq-redis worker`; *totals, unless it is NULL, is what it has done. Returns the exit code. */
int worker_main(int argc, char **argv, struct worker_totals *totals);

/* ---- server.c: connections, and what to do when Redis refuses ---- */

/** First connection: says why it cannot be had. EXIT_DONE: or it is tried again later. */
int worker_connect_first(struct worker *w);
/** A later one, when it is time. */
void worker_connect_again(struct worker *w);
static inline bool worker_connected(const struct worker *w)
{
	return w->command.context && w->reader.context;
}
/** Leave a server that the sentinels do not call the master any more. */
void worker_watch(struct worker *w);
/** Whether Redis may be asked for anything now. */
bool worker_may_ask(const struct worker *w);
/**
 * After a reply that is none, or an error: waits, connects again or ends, as it asks for. Frees
 * the reply.
 */
void worker_refused(struct worker *w, const char *what, redisReply *reply);
/** Redis answered as it should. */
void worker_answered(struct worker *w);

/* ---- intake.c: from Redis into the queue ---- */

void intake_ask(struct worker *w);
void intake_take(struct worker *w);
/** Put an entry into the book and the batch. False: it is held already, or there is no room. */
bool intake_stage(struct worker *w, const struct entry *e, uint32_t deliveries);
/** Keep a reply until the staged entries have gone into the queue, or free it. */
void intake_hold(struct worker *w, redisReply *reply);
void intake_enqueue(struct worker *w);
/** Forget what is staged: it stays pending. */
void intake_drop(struct worker *w);
/** Make sure that no read is under way any more. */
void intake_stop(struct worker *w);
/** How many messages the next read may bring, and how long it may wait for them. */
uint32_t intake_wanted(const struct worker *w);
uint64_t intake_block_ms(const struct worker *w);
/** What has been appended to the reader's line is sent; `ok`: all of it has been. */
void intake_send(struct worker *w, bool ok, uint64_t block_ms);
/** Read what the reader's socket has. False: the connection is lost. */
bool intake_receive(struct worker *w);
void intake_lost(struct worker *w, const char *why);
/** The lease is over, whatever became of its message. */
void worker_forget(struct worker *w, uint32_t lease);

/* ---- outcome.c: from the queue into Redis ---- */

/** Take notice of messages that have finished. */
void outcome_collect(struct worker *w);
/** Whether it is time to tell Redis of those that have finished. */
bool outcome_due(const struct worker *w);
/** If so, publish, retry or bury them. */
void outcome_settle(struct worker *w);
/** Write dead letters of entries that are pending for this worker. False: not done. */
bool outcome_bury(struct worker *w, const struct stream_id *ids, const uint32_t *deliveries,
		  uint32_t count, const char *reason, const char *error);

/* ---- publish.c: results of a stream's entries, without waiting for Redis ---- */

/** False: no memory. */
bool publish_init(struct worker *w);
void publish_free(struct worker *w);
/** Send what has finished, as far as it is worth a group and not too much is under way. */
void publish_send(struct worker *w);
/** Take the answers that have come; `readable`: the socket has something. */
void publish_take(struct worker *w, bool readable);
bool publish_under_way(const struct worker *w);
/** When publish_take() is to be called at the latest, now_ms(); while something is under way. */
uint64_t publish_deadline_ms(const struct worker *w);
/** Wait for all answers. */
void publish_finish(struct worker *w);
/** Send all that has finished, and wait for the answers. */
void publish_flush(struct worker *w);
/** The connection is gone: what was under way has finished, and is not in Redis. */
void publish_lost(struct worker *w);

/* ---- leases.c: entries of others, of an earlier life, and how to keep one's own ---- */

void leases_replay(struct worker *w);
void leases_reclaim(struct worker *w);
void leases_renew(struct worker *w);
void leases_hand_back(struct worker *w);
/** Sets when others are looked after next: twice a second, and not all workers at once. */
void leases_next_reclaim(struct worker *w);
/** Leave the group, if nothing is pending for this consumer. */
void leases_leave(struct worker *w);
/** The group's pending entries, all consumers; UINT64_MAX: not known. */
uint64_t leases_pending(struct worker *w);

/* ---- poison.c: the search for what kills the device ---- */

/**
 * After a restart: the suspects of the process before. False: nothing of this worker's was in the
 * queue.
 */
bool poison_begin(struct worker *w);
/** Whether poison_begin() is going to find something, and needs a connection for it. */
bool poison_had_any(const struct worker *w);
static inline bool poison_searching(const struct worker *w)
{
	return w->memory->search.groups > 0;
}
/** The next group goes into the queue when that is empty. */
void poison_step(struct worker *w);
/** The device has failed, or is stuck: start anew. Returns only if that fails. */
void poison_restart(struct worker *w, const char *why);

#endif /* GPUQ_REDIS_WORKER_H */
