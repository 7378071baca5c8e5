/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balance.h - which of several services takes a request. Pure: time and randomness are arguments.
 *
 * A balancer is of one group of services, which are named by their places in the registry. The
 * daemon tells it who joins, who leaves, and how each fares; what is counted (requests on the way,
 * response times) it counts itself: each gq__balance_pick() that succeeds is followed by one
 * gq__balance_done(). One thread.
 */
#ifndef GPUQ_BROKER_POLICY_BALANCE_H
#define GPUQ_BROKER_POLICY_BALANCE_H

#include "places.h"
#include "registry.h"

#define GQ_BALANCE_LIST(X)                                                                         \
	X(ROUND_ROBIN, "round_robin")       /* one after the other, in the order of joining */     \
	X(WEIGHTED, "weighted")             /* in proportion to weights, smoothly */               \
	X(LEAST_CONNECTIONS, "least_conn")  /* the fewest requests on the way, by weight */        \
	X(LEAST_RESPONSE, "least_response") /* the shortest response time * (requests + 1) */      \
	X(LOAD, "load")                     /* health, load and latency together */                \
	X(RANDOM, "random")                 /* any */                                              \
	X(PRIORITY, "priority")             /* the highest tier, as far as it is healthy */        \
	X(CAPABILITY, "capability")         /* the tightest fit */

#define GQ_AS_BALANCE(name, text) GQ_BALANCE_##name,
enum gq_balance_algorithm { GQ_BALANCE_LIST(GQ_AS_BALANCE) GQ_BALANCE_ALGORITHMS };
#undef GQ_AS_BALANCE

enum gq_balance_status {
	GQ_BALANCE_OK,
	GQ_BALANCE_NOT_FOUND,   /* no member of the group can do it */
	GQ_BALANCE_UNAVAILABLE, /* some can, and none of these is well */
	GQ_BALANCE_OVERLOADED,  /* some can and are well, and all have as many as they may have */
	GQ_BALANCE_CONFIG, /* init: an unknown algorithm; one that needs an inner one in itself */
	GQ_BALANCE_PLACE,  /* no such place, or not a member */
	GQ_BALANCE_WEIGHT, /* not 1 to 1000 */
};

/* Whether a member is chosen. */
enum gq_balance_state {
	GQ_BALANCE_WELL, /* READY or BUSY, and HEALTHY or DEGRADED, and its breaker lets through */
	GQ_BALANCE_SICK, /* not so: chosen only in a panic */
	GQ_BALANCE_BARRED, /* draining, gone, or its breaker forced open: never chosen */
};

struct gq_balance_config {
	enum gq_balance_algorithm algorithm;
	enum gq_balance_algorithm inner; /* what PRIORITY and CAPABILITY choose with */
	bool panic;    /* with less than half of the members well, choose among the sick, too */
	uint32_t scan; /* up to so many all are looked at; of more, two: 0: 16 */
	uint64_t heartbeat_ns; /* a load that is older than three of them counts half; 0: 5 s */
};

struct gq_balance_member {
	uint32_t weight;
	uint32_t active; /* requests on the way */
	uint32_t most;   /* of them; 0: no limit */
	uint8_t priority;
	uint32_t load;   /* 1/1000 */
	uint32_t health; /* 1/1000: 1000 is well */
	uint64_t load_at_ns;
	double ewma_ns; /* response time; 0: no sample */
	uint64_t ewma_at_ns;
};

/* The members of one priority. */
struct gq_balance_tier {
	struct gq_places members;
	uint8_t priority;
};

/*
 * What the weighted algorithm works on: arrays by place, so that a choice is some vector
 * instructions. The shares are of one set; another set has them written anew.
 */
struct gq_balance_wheel {
	struct gq_places of;
	uint32_t end;              /* the places of the set lie below it */
	int32_t sum;               /* of the shares */
	int32_t share[GQ_PLACES];  /* 128 times the weight; 0: not of the set */
	int32_t bar[GQ_PLACES];    /* 0; not of the set: so low that it is not chosen */
	int32_t credit[GQ_PLACES]; /* 128 times the credit, and in the last 7 bits 127 - place:
				      among equals the first place has the most */
};

struct gq_balance {
	struct gq_balance_config config;
	struct gq_balance_member members[GQ_PLACES];
	struct gq_places joined;
	struct gq_places well;
	struct gq_places sick;
	struct gq_places full;                   /* have as many requests as they may */
	uint8_t by_order[GQ_PLACES];             /* members as they joined */
	struct gq_balance_tier tiers[GQ_PLACES]; /* highest first */
	uint32_t count;                          /* members */
	uint32_t tier_count;
	uint32_t cursor;   /* in by_order: the next of a round robin */
	uint32_t rotation; /* where to begin, so that ties go round */
	/* Of all members, at most a tenth of a second old. */
	uint64_t refreshed_ns;  /* 0: never */
	double median_ns;       /* response time */
	double slowest_ns;      /* the same */
	struct gq_places fresh; /* have said in the last three minutes how loaded they are */
	struct gq_balance_wheel wheel;
};

/** A balancer without members. Allocates nothing. OK, CONFIG. */
enum gq_balance_status gq__balance_init(struct gq_balance *b,
					const struct gq_balance_config *config);

/** The algorithm of a name, or GQ_BALANCE_ALGORITHMS. */
enum gq_balance_algorithm gq__balance_named(const char *name);

/**
 * A service joins the group, well, and without requests. If the place had a member before, that has
 * left.
 * @param weight  1 to 1000
 * @param most    requests on the way; 0: no limit
 * @return OK, PLACE, WEIGHT
 */
enum gq_balance_status gq__balance_join(struct gq_balance *b, uint32_t place, uint32_t weight,
					uint8_t priority, uint32_t most);

/** It leaves. Places that are not members are ignored, here and below. */
void gq__balance_leave(struct gq_balance *b, uint32_t place);

/** How many requests it may have on the way from now on; 0: no limit. It keeps those that it has.
 */
void gq__balance_limit(struct gq_balance *b, uint32_t place, uint32_t most);

/** How it fares. */
void gq__balance_set(struct gq_balance *b, uint32_t place, enum gq_balance_state state);

/** How loaded and how healthy it says it is, in 1/1000. */
void gq__balance_report(struct gq_balance *b, uint32_t place, uint32_t load, uint32_t health,
			uint64_t now_ns);

/* What is to be placed. */
struct gq_balance_request {
	const struct gq_places *can; /* services that can do it; NULL: all */
	const struct gq_places
		*avoid; /* not these if there are others: those that failed it; NULL: none */
	const uint64_t
		*surplus; /* of each place, for CAPABILITY: gq__capability_surplus(); may be NULL */
};

/**
 * Chooses a service, and counts the request as on its way there.
 * @param random  the state of the random numbers
 * @param out     its place; written on success
 * @return OK, NOT_FOUND, UNAVAILABLE, OVERLOADED
 * Constant time for round robin, priority, random, and of many members for all that compare costs;
 * else linear in the number of members.
 */
enum gq_balance_status gq__balance_pick(struct gq_balance *b,
					const struct gq_balance_request *request, uint64_t now_ns,
					uint64_t *random, uint32_t *out);

/** A request that is to go to this very place counts as on its way: sticky sessions. OK, PLACE,
 * OVERLOADED. */
enum gq_balance_status gq__balance_take(struct gq_balance *b, uint32_t place);

/**
 * A request's end. Of a request to a service that has left the group say nothing.
 * @param latency_ns  how long it took; 0: says nothing about the service (cancelled, never sent)
 */
void gq__balance_done(struct gq_balance *b, uint32_t place, uint64_t latency_ns, uint64_t now_ns);

#endif /* GPUQ_BROKER_POLICY_BALANCE_H */
