/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stress.h - what the stress tests share: seed, watchdog, stalls, and messages whose content proves
 * what became of them.
 *
 * The environment of a run, all optional:
 *   GPUQ_STRESS_SEED   the seed (also the first argument); printed at the start and on failure
 *   GPUQ_STRESS_SCALE  factor on the amount of work, default 1; GPUQ_TEST_SHORT: a tenth of that
 *   GPUQ_STRESS_ONLY   run only the tests whose name matches this pattern (* and ?)
 *
 * A failed check ends the process with the seed, the configuration, and a picture of the queue,
 * because cmocka cannot be told from a second thread.
 */
#ifndef GPUQ_STRESS_H
#define GPUQ_STRESS_H

#include "gpu.h"
#include "host/queue/queue.h"
#include "ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* ---- the run ----------------------------------------------------------------------------- */

extern uint64_t stress_seed;

extern bool stress_quiet; /* a helper process: the seed has been printed */

/* First thing in main(). */
void stress_begin(int argc, char **argv);

/* Q_DEVICE_*: the device that the tests run on; GPUQ_TEST_DEVICE, see gpu.h. */
uint32_t stress_device(void);

/* n times GPUQ_STRESS_SCALE, less under sanitizers; at least 1. */
uint32_t stress_scaled(uint32_t n);

/* Says what is tried now, on which queue (may be NULL); the process fails if the next call does not
 * come within two minutes (ten under ThreadSanitizer). */
__attribute__((format(printf, 2, 3))) void stress_phase(GpuQueue *q, const char *format, ...);

__attribute__((format(printf, 4, 5), noreturn)) void
stress_fail(const char *file, int line, const char *condition, const char *format, ...);

#define must(condition, ...)                                                                       \
	((condition) ? (void)0 : stress_fail(__FILE__, __LINE__, #condition, __VA_ARGS__))

/* must() for a call that has to return `wanted`. */
#define must_be(wanted, call)                                                                      \
	do {                                                                                       \
		QueueStatus got_ = (call);                                                         \
		must(got_ == (wanted), #call " gave %s, wanted %s; %s", q_status_string(got_),     \
		     q_status_string(wanted), q_last_error());                                     \
	} while (0)

pthread_t stress_thread(void *(*run)(void *), void *arg);
void stress_join(pthread_t thread);
void stress_nap_us(uint32_t us);

/* Turns until `condition`, or fails after two minutes; for what must come by itself. */
#define must_come(condition, ...)                                                                  \
	do {                                                                                       \
		uint64_t until_ = gq__now_ns() + UINT64_C(120000000000);                           \
		while (!(condition)) {                                                             \
			must(gq__now_ns() < until_, __VA_ARGS__);                                  \
			stress_nap_us(20);                                                         \
		}                                                                                  \
	} while (0)

/* Flags and counters between threads. Relaxed: the tests must not lend the library any order. */
#define get(variable)      __atomic_load_n(&(variable), __ATOMIC_RELAXED)
#define put(variable, to)  __atomic_store_n(&(variable), (to), __ATOMIC_RELAXED)
#define bump(variable, by) __atomic_fetch_add(&(variable), (by), __ATOMIC_RELAXED)

/* ---- random numbers ---------------------------------------------------------------------- */

struct rng {
	uint64_t state;
};

struct rng rng_of(uint64_t stream); /* of the seed; streams are independent */
uint64_t rng_next(struct rng *r);
uint32_t rng_below(struct rng *r, uint32_t n);
bool rng_one_in(struct rng *r, uint32_t n);
uint64_t mix64(uint64_t x);

/* ---- stalls: only where the library was built with GPUQ_CHAOS ------------------------------ */

bool stress_can_stall(void);

/* The calling thread stands still in its n-th window of the protocol from now on (from 1), until
 * stress_stall_end(). 0: not any more. */
void stress_stall_self(uint32_t n);
/* The same for the next thread of that name (as "gpuq-cpu-0"). */
void stress_stall_named(const char *name, uint32_t n);
/* How many threads stand still now. */
uint32_t stress_stalled(void);
void stress_stall_end(void);

/* ---- messages ---------------------------------------------------------------------------- */

/*
 * A message is made from its number, and its result from its number, so that every byte can be
 * checked wherever it turns up. The processor counts how often it saw each.
 */
struct ledger {
	uint32_t max;  /* numbers are below this */
	uint32_t next; /* atomic */
	uint32_t slot_bytes, result_bytes;
	uint32_t *runs;  /* as of ledger_settle() */
	uint64_t *order; /* tags in the order in which messages started; likewise */
	uint32_t n_order;
	uint64_t queue_flags;    /* of ledger_queue(): Q_ONE_PRODUCER, or 0 */
	uint64_t *gate;          /* in `data` */
	struct ledger_data data; /* cfg.processor_data */
};

/* Threads: any, while messages are processed. */
uint32_t ledger_running(const struct ledger *l); /* processors inside a message now */
uint32_t ledger_gated(const struct ledger *l);   /* OP_GATED messages that have started */
uint32_t ledger_runs(const struct ledger *l, uint32_t number);
void ledger_open(struct ledger *l, uint32_t below); /* OP_GATED with a lower tag may end */
/* Makes runs, order and n_order what they are now. */
void ledger_settle(struct ledger *l);

GpuQueue *ledger_queue(struct ledger *l, uint32_t capacity, uint32_t consumers, uint64_t start_pos,
		       uint32_t idle_park_ms);
void ledger_begin(struct ledger *l, uint32_t max, uint32_t slot_bytes, uint32_t result_bytes);
void ledger_end(struct ledger *l);
uint32_t ledger_length(const struct ledger *l, uint32_t number);
void ledger_write(const struct ledger *l, uint32_t number, void *payload, uint32_t len);
/* Checks every byte of a result. @return its number. */
uint32_t ledger_read(const struct ledger *l, const void *result, size_t len);
/* Enqueues message `number` (tag number + 1) or fails. */
uint64_t ledger_send(struct ledger *l, GpuQueue *q, uint32_t number, uint32_t opcode,
		     uint64_t flags);

/* ---- traffic: every call at once ---------------------------------------------------------- */

struct traffic_config {
	uint32_t capacity, consumers, producers, takers;
	uint32_t slot_bytes, result_bytes, idle_park_ms;
	uint64_t start_pos;
	uint32_t messages;        /* all producers together; fewer if stopped */
	bool pauses;              /* a thread pauses and resumes */
	bool gaps;                /* producers make idle gaps, so that consumers park */
	bool descriptor;          /* one taker is an epoll loop */
	bool one_producer;        /* Q_ONE_PRODUCER; then `producers` is 1 */
	bool stop_midway;         /* q_stop() while everything goes on ... */
	uint32_t stoppers;        /* ... from so many threads ... */
	uint32_t stop_timeout_ms; /* ... each with this time-out first, then for ever */
	uint64_t stream;          /* of random numbers */
};

/* Runs it on a queue of its own and checks that every message was processed and delivered exactly
 * once, with the right content, and that the counters say so. */
void traffic_run(const struct traffic_config *config);

#endif /* GPUQ_STRESS_H */
