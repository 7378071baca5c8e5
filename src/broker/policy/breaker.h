/* SPDX-License-Identifier: Apache-2.0 */
/*
 * breaker.h - when to stop sending requests to a service that fails, and when to try again. Pure.
 *
 * A request needs a permit. When a breaker is half open, permits are few: each is given back once,
 * whatever has become of its request, and one that is not is taken back after its time. So no lost
 * request can wedge a breaker. A permit has the number of the episode in which it was given: what
 * comes back from an earlier one changes nothing.
 *
 * One breaker belongs to one thread, or its calls are made under one lock.
 */
#ifndef GPUQ_BROKER_POLICY_BREAKER_H
#define GPUQ_BROKER_POLICY_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

enum {
	GQ_BREAKER_BUCKETS = 10,
	GQ_BREAKER_TRIALS_MAX = 16, /* permits in one half-open episode */
};

enum gq_breaker_state {
	GQ_BREAKER_CLOSED,    /* lets through, and counts */
	GQ_BREAKER_OPEN,      /* refuses, for some time */
	GQ_BREAKER_HALF_OPEN, /* lets a few through, to see */
	GQ_BREAKER_FORCED,    /* refuses, by an operator's order */
	GQ_BREAKER_DISABLED,  /* lets through, and counts nothing */
	GQ_BREAKER_METRICS,   /* lets through, and counts: what it would have done */
	GQ_BREAKER_STATES,
};

enum gq_breaker_outcome {
	GQ_OUTCOME_OK,
	GQ_OUTCOME_FAULT,   /* time-out of the run, internal error, service or device lost, bad
			       checksum */
	GQ_OUTCOME_NOTHING, /* invalid, cancelled, expired before it ran, refused: says nothing */
};

/* Zero takes the default that stands there. */
struct gq_breaker_config {
	uint32_t consecutive;  /* faults in a row that open it: 5 */
	uint32_t rate_percent; /* of faults within ten buckets, that opens it: 50 */
	uint32_t rate_calls;   /* calls that the rate needs: 20 */
	uint64_t bucket_ns;    /* 1 s */
	uint32_t slow_percent; /* of slow calls within ten buckets, that opens it: 0: never */
	uint64_t slow_ns;      /* a call that takes longer is slow */
	uint64_t open_ns;      /* it stays open: 30 s, times the trips in a row */
	uint64_t open_most_ns; /* 300 s */
	bool fixed;            /* it stays open for open_ns, without growth and jitter */
	uint32_t trials;  /* permits in a half-open episode: 5; at most 16. One that says nothing is
			     free again */
	uint32_t at_once; /* of these at once: 2 */
	uint64_t trial_ns;     /* a trial's permit is taken back after: 30 s */
	uint64_t half_open_ns; /* without a verdict it opens again: 30 s */
	uint64_t sweep_ns; /* closed and without a fault for so long, a trip is forgiven: 10 s */
};

struct gq_breaker {
	struct gq_breaker_config config;
	enum gq_breaker_state state;
	uint32_t in_a_row; /* faults */
	uint32_t trips;    /* in a row */
	uint64_t episode;  /* raised by each change of state */
	uint64_t since_ns;
	uint64_t until_ns; /* open: try again then. Half open: give up then */
	uint64_t swept_ns;
	struct {
		uint64_t number; /* now_ns / bucket_ns */
		uint32_t calls;
		uint32_t faults;
		uint32_t slow;
	} buckets[GQ_BREAKER_BUCKETS];
	uint32_t issued; /* trials of this episode */
	uint32_t good;
	uint32_t bad;
	struct {
		uint64_t serial; /* 0: free */
		uint64_t until_ns;
	} trials[GQ_BREAKER_TRIALS_MAX];
	uint64_t serial;        /* of the last permit */
	uint64_t permits_given; /* trials, ever */
	uint64_t permits_back;  /* of these; those taken back, and those of episodes that ended, too
				 */
	uint64_t transitions;   /* ever */
};

/* What a request carries while it is on its way. */
struct gq_permit {
	uint64_t episode;
	uint64_t serial;
	uint32_t trial; /* 1 + its place among the trials; 0: none */
};

/** A closed breaker. Returns false if a limit is out of range: a percentage above 100, more than 16
 * trials. */
bool gq__breaker_init(struct gq_breaker *b, const struct gq_breaker_config *config,
		      uint64_t now_ns);

/**
 * May a request go? Constant time.
 * @param random    the state of the random numbers, for the jitter of how long it stays open
 * @param out       the permit, if it may; then one gq__breaker_done() follows
 * @param out_retry_ns  if it may not: after how long it is worth to ask again; may be NULL
 */
bool gq__breaker_try(struct gq_breaker *b, uint64_t now_ns, uint64_t *random, struct gq_permit *out,
		     uint64_t *out_retry_ns);

/**
 * What has become of it. Each permit comes back once; a second time it is ignored if it was a
 * trial.
 * @param may_open    whether it may open now: gq_breaker_group_may_open()
 * @param latency_ns  how long it took, for slow calls; 0: unknown
 */
void gq__breaker_done(struct gq_breaker *b, const struct gq_permit *permit,
		      enum gq_breaker_outcome outcome, uint64_t latency_ns, bool may_open,
		      uint64_t now_ns, uint64_t *random);

/** Time has passed: an open one may become half open, a half-open one open. gq__breaker_try() does
 * it, too. */
void gq__breaker_tick(struct gq_breaker *b, uint64_t now_ns, uint64_t *random);

/** An operator's order: CLOSED (as new), OPEN, FORCED, DISABLED, METRICS. */
void gq__breaker_force(struct gq_breaker *b, enum gq_breaker_state state, uint64_t now_ns,
		       uint64_t *random);

/** Of a group of services, so many are open: may one more open? At most half, but a lone one may.
 */
static inline bool gq_breaker_group_may_open(uint32_t services, uint32_t open)
{
	const uint32_t half = services / 2;

	return open < (half > 1 ? half : 1);
}

/** A state's name. */
const char *gq__breaker_state_text(enum gq_breaker_state state);

#endif /* GPUQ_BROKER_POLICY_BREAKER_H */
