/* SPDX-License-Identifier: Apache-2.0 */
/*
 * retry.h - whether a request that has failed is tried again, and when: never after its deadline,
 * never twice where twice does harm, and never so often that retries become the load. Pure.
 */
#ifndef GPUQ_BROKER_POLICY_RETRY_H
#define GPUQ_BROKER_POLICY_RETRY_H

#include "wire.h"

enum gq_jitter {
	GQ_JITTER_FULL,         /* from 0 to the delay */
	GQ_JITTER_EQUAL,        /* half the delay, and up to half more */
	GQ_JITTER_PM20,         /* the delay, and a fifth less or more */
	GQ_JITTER_DECORRELATED, /* from the base to three times the delay before */
	GQ_JITTER_NONE,
	GQ_JITTERS,
};

/* Zero takes the default that stands there. */
struct gq_retry_config {
	uint32_t attempts; /* the first among them: 4 */
	uint64_t base_ns;  /* 20 ms */
	uint64_t cap_ns;   /* 1 s */
	enum gq_jitter jitter;
};

/* What one budget counts, shared by all requests of a daemon or of a service. */
struct gq_retry_budget {
	uint32_t tenths; /* tokens * 10: 100 at the start; a success gives 1, a failure takes 10 */
	uint32_t retrying; /* retries that are on their way */
};

enum gq_retry_verdict {
	GQ_RETRY_GO,      /* after *out_delay_ns; gq__retry_began(), then gq__retry_ended() */
	GQ_RETRY_FINAL,   /* this failure stays one: invalid, denied, not found, expired, cancelled,
			     ... */
	GQ_RETRY_HARM,    /* it may have run, and running twice may do harm */
	GQ_RETRY_SPENT,   /* it had all its attempts */
	GQ_RETRY_LATE,    /* the next attempt would begin after its deadline */
	GQ_RETRY_BUDGET,  /* too many retries are about */
	GQ_RETRY_REFUSED, /* the server said: do not */
};

/* What is known of a request that has failed. */
struct gq_retry_case {
	enum gq_wire_status status;
	bool seen;            /* a worker has had it: it may have run */
	bool idempotent;      /* running twice does no harm */
	bool died;            /* its worker: gq__retry_died() has taken for all that it had */
	uint32_t attempts;    /* so far, at least 1 */
	uint64_t deadline_ns; /* UINT64_MAX: none */
	uint64_t before_ns;   /* the delay before this attempt, 0 for the first */
	int64_t after_ns;     /* the server's retry-after; 0: says nothing; below: do not */
	uint32_t in_flight;   /* requests on their way in all, retries among them */
};

/** A full budget. */
void gq__retry_budget_init(struct gq_retry_budget *budget);

/** A request has succeeded, the first time or later. */
void gq__retry_succeeded(struct gq_retry_budget *budget);

/** A retry is on its way; it has come to its end, whichever. */
void gq__retry_began(struct gq_retry_budget *budget);
void gq__retry_ended(struct gq_retry_budget *budget);

/** A worker has died. That is one failure, however many requests it had. */
void gq__retry_died(struct gq_retry_budget *budget);

/**
 * What to do about a failure. Takes from the budget if the failure is one that a retry may help.
 * Constant time.
 * @param out_delay_ns  written on GQ_RETRY_GO
 */
enum gq_retry_verdict gq__retry_decide(const struct gq_retry_config *config,
				       struct gq_retry_budget *budget,
				       const struct gq_retry_case *failed, uint64_t now_ns,
				       uint64_t *random, uint64_t *out_delay_ns);

/**
 * How long to wait before attempt `attempt` + 1: base * 2^(attempt - 1), at most the cap, with
 * jitter. Saturates; never above the cap (PM20: a fifth above it).
 */
uint64_t gq__retry_delay(const struct gq_retry_config *config, uint32_t attempt, uint64_t before_ns,
			 uint64_t *random);

/** What an answer says about trying again, for the wire. */
enum gq_retry_kind gq__retry_kind(enum gq_wire_status status, bool seen);

#endif /* GPUQ_BROKER_POLICY_RETRY_H */
