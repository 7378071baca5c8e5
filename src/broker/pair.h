/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pair.h - the two threads of a dispatcher: one leads, the other stands by.
 *
 * The leader serves the clients. A short message of a queue with one consumer on the CPU it runs
 * itself (pair_run()): a message that is handed to a consumer's thread and back costs two switches
 * of threads where CPUs are fewer than threads, which is more than the message. The thread that
 * stands by
 *
 *  - waits for completions of the queue in the leader's place, while that sleeps;
 *  - takes the lead if the leader does not come back from the processor. The thread that comes back
 *    too late leaves its message's outcome to the new leader, and stands by.
 *
 * So whatever a processor does, clients come and go, cancel, and are told. What the leader works on
 * (struct dispatcher, but for its inbox) is passed on with the lead, by these words:
 *
 *     turn   the leader's. It is odd while that is in the processor [lead.pass].
 *     ran    each thread's own: the last turn that it has come back from. It writes this, and then
 *            looks at the other's `wants`.
 *     wants  each thread's own: the turn of which it wants the lead, at the first look that finds
 *            the same odd turn for PAIR_TICK_MS. It writes this, and then looks at the other's
 *            `ran` [lead.take]. It looks each PAIR_TICK_MS, but in up to 20 ms more if it still
 *            waits for completions.
 *     decided  the last turn that both wanted: by a compare-and-swap, of whoever has found the
 *            other's word. One of the two succeeds, and leads; it makes the turn even.
 *     late   the outcome of a message whose thread came back too late: that thread writes it, and
 *            its result, and then `is_late` [late.write]; the leader reads them [late.read], and
 *            runs nothing before it has.
 *
 * Write one word, look at the other's: between the two each thread needs a fence, or neither may
 * see the other. The leader does this for each message and the other once in a while, so the other
 * pays for both, by a membarrier (gq__barrier()); the leader's half only keeps the compiler from
 * reordering. Where the kernel refuses membarrier the leader makes fences (`fenced`).
 *
 * A leader that has lost its CPU within a short message looks like one that hangs. So who stands by
 * also looks at the CPU time that the leader has had since it first saw it there, and, when it has
 * taken the lead, the dispatcher is told (pair_stand_by()).
 *
 * A processor that never returns has the thread, its buffers and a reference to the queue for ever,
 * as a consumer of the queue would. So these are not the dispatcher's but the pair's.
 */
#ifndef GPUQ_BROKER_PAIR_H
#define GPUQ_BROKER_PAIR_H

#include "client.h"

#include "host/queue/queue.h"

#include <pthread.h>
#include <semaphore.h>
#include <sys/types.h>
#include <time.h>

struct dispatcher;

enum { PAIR_TICK_MS = 5 };

/* One of the two threads. */
struct member {
	struct pair *pair;
	struct dispatcher *d;      /* for a thread that begins */
	uint8_t *payload, *result; /* of the message that it runs */
	clockid_t cpu;             /* its CPU time; it writes both before it first leads */
	pid_t tid;
	GQ_ALIGNED(GQ_LINE) uint64_t ran; /* each written by this thread alone */
	GQ_ALIGNED(GQ_LINE) uint64_t wants;
	uint64_t looks; /* of this thread at the leader; there, as the leader reads that line anyway
			 */
};

struct pair {
	GpuQueue *q;
	uint64_t refs;   /* threads that may still touch it, and the dispatcher: [ref.drop] */
	uint32_t leader; /* which member; written by who has just become it */
	uint32_t dozing; /* the other sleeps until `call` is posted */
	uint32_t armed;  /* the leader sleeps: the other waits for completions, or is to */
	uint32_t quit;
	uint32_t late; /* see above */
	uint64_t is_late;
	bool runs;        /* the leader may run messages: there are buffers */
	uint64_t run_ids; /* the leader's: messages that were run */
	uint64_t looks;   /* the leader's: of the other's, when it last asked */
	sem_t call, left; /* `left`: the other has ended */
	struct member member[2];
	pthread_mutex_t lock;     /* of the next one */
	struct dispatcher *d;     /* NULL: it has ended, or is about to */
	uint64_t fenced_since_ns; /* of who stands by: it was refused a membarrier then; 0: never */
	GQ_ALIGNED(GQ_LINE) uint64_t turn;
	GQ_ALIGNED(GQ_LINE) uint64_t decided;
	uint32_t fenced; /* 1: there is no membarrier */
};

/*
 * @param runs  whether messages may be run
 * @return NULL: out of memory. Without memory for messages nothing is run.
 */
struct pair *pair_make(struct dispatcher *d, GpuQueue *q, bool runs);
/* A thread, or the dispatcher, needs it no more. */
void pair_drop(struct pair *p);

/* This thread is one of the two from now on. */
void pair_join(struct pair *p, uint32_t me);

/*
 * Stand by, until this thread is to lead.
 * @param used_ns  CPU time that the run has had from which the lead was taken, since it was first
 *                 looked at, if its thread waits for nothing but a CPU; else UINT64_MAX
 * @return false: it is to end, and not to touch the dispatcher any more
 */
bool pair_stand_by(struct pair *p, uint32_t me, uint64_t *used_ns);

/* Whether a thread of this process has a CPU, or waits for one; false also if nobody says. */
bool pair_is_runnable(pid_t tid);

/* ---- the leader's ---- */

/* Have the dispatcher woken once something can be polled. Called on the way to sleep. */
void pair_arm(struct pair *p);
/* It is awake: the other need not wait for that any more, but look at it. */
void pair_disarm(struct pair *p);

/*
 * Run a message whose payload is in pair_payload().
 * @param outcome  what the message ends with; its result is in pair_result()
 * @return false: it has taken too long, and this thread does not lead any more
 */
bool pair_run(struct pair *p, const struct record *r, uint32_t *outcome);

static inline uint8_t *pair_payload(const struct pair *p)
{
	return p->member[p->leader].payload;
}

static inline const uint8_t *pair_result(const struct pair *p)
{
	return p->member[p->leader].result;
}

/* Whether the other has looked at this thread since the last time that this was asked: so some
 * milliseconds may have passed. */
static inline bool pair_was_looked_at(struct pair *p)
{
	const uint64_t looks = gq_load_relaxed_u64(&p->member[1 - p->leader].looks);
	const bool new = looks != p->looks;

	p->looks = looks;
	return new;
}

/* Whether the thread that did not come back in time has come back; then what came of its message.
 */
bool pair_came_back(struct pair *p, uint32_t *outcome, const uint8_t **result);

/*
 * End it: wait until the other has left.
 * @return false: it has not in time, as its processor has not, and is left to itself
 */
bool pair_end(struct pair *p);

#endif /* GPUQ_BROKER_PAIR_H */
