/* SPDX-License-Identifier: Apache-2.0 */
/*
 * admission.h - which requests are let in, how long they may wait, and which goes next. Pure.
 *
 * A request lies in one table from its admission to its one end. While it waits it is in the queue
 * of its service and class, there in the flow of its user; quotas only count. So whatever a quota
 * spills into, the order in which requests go does not change: first by class, then fairly between
 * services, then fairly between users.
 *
 *   submit -> WAITING -> next -> RUNNING -> finish
 *                |                 |
 *                +-- expire, cancel +--> told at once; the place is free when finish comes (LATE)
 *
 * Every request that submit has accepted is told to the caller once more and never again: by
 * finish, expire or cancel. One thread.
 */
#ifndef GPUQ_BROKER_POLICY_ADMISSION_H
#define GPUQ_BROKER_POLICY_ADMISSION_H

#include "places.h"

enum gq_class { GQ_CLASS_CRITICAL, GQ_CLASS_HIGH, GQ_CLASS_NORMAL, GQ_CLASS_LOW, GQ_CLASSES };

/* How full it is. What each lets in is in the answers of gq__admission_submit(). */
enum gq_level {
	GQ_LEVEL_NONE,
	GQ_LEVEL_SOFT,     /* from 0.7: clients are told */
	GQ_LEVEL_SHED,     /* from 0.9: LOW is refused */
	GQ_LEVEL_CRITICAL, /* from 0.97: all but CRITICAL are refused, and that from 1.1 */
};

enum gq_admission_status {
	GQ_ADMISSION_OK,
	GQ_ADMISSION_FULL,       /* 1.1 times the requests or bytes that there may be */
	GQ_ADMISSION_SHED,       /* its class is refused at this level */
	GQ_ADMISSION_CLASS_FULL, /* its class has as many as it may have */
	GQ_ADMISSION_EXPIRED,    /* its deadline is over already */
	GQ_ADMISSION_SERVICE,    /* no such service */
	GQ_ADMISSION_BYTES,      /* more bytes than there may ever be */
	GQ_ADMISSION_NOT_FOUND,  /* no request of this number, or no more */
	GQ_ADMISSION_LATE,       /* finish: it has been told of already, by expire or cancel */
	GQ_ADMISSION_CONFIG,     /* init: a limit is out of its range */
	GQ_ADMISSION_MEMORY,     /* init: no memory */
};

struct gq_class_policy {
	uint32_t most;       /* that wait; 0: no limit */
	uint64_t timeout_ns; /* of a request that names none; 0: none. Others may only be shorter */
	uint64_t target_ns; /* it should wait so long; after four times that it goes one class up */
};

/* Zero takes the default that stands there. */
struct gq_admission_config {
	uint32_t service_most;     /* requests that wait: 250 of one service, */
	uint32_t class_most;       /* 1000 more of one class, */
	uint32_t global_most;      /* 2000 in all */
	uint32_t running_most;     /* that run: 4096 */
	uint64_t bytes_most;       /* of those that wait: 1 GiB */
	bool strict;               /* by class, then by arrival; else by weights. LOW may starve */
	uint32_t critical_percent; /* of what goes within a second, while others wait: 50 */
	uint32_t weights[GQ_CLASSES];               /* of HIGH, NORMAL, LOW: 8, 4, 1 */
	struct gq_class_policy classes[GQ_CLASSES]; /* targets: 10 ms, 50 ms, 200 ms, 1 s */
};

/* A request's number: its place and its life there. 0 is none. */
typedef uint64_t gq_request_id;

struct gq_request {
	uint32_t service; /* its place in the registry */
	uint32_t uid;
	uint8_t priority;
	uint32_t cost; /* 1 to 256: the caller's measure of work, such as 1 + bytes / 4096 */
	uint64_t bytes;
	uint64_t timeout_ns; /* from now; 0: its class's */
	uint64_t cookie;     /* the caller's */
	bool held;           /* gq__admission_hold() says so of its user */
};

/* What is told of a request that goes, or has ended. */
struct gq_told {
	gq_request_id id;
	struct gq_request request;
	enum gq_class class;
	uint64_t arrived_ns;
	uint64_t deadline_ns; /* UINT64_MAX: none */
	bool was_running;     /* expire and cancel: a result is still to come, and is LATE */
};

struct gq_admission_entry;
struct gq_admission_flow;

/* A list of entries or of flows, by number. */
struct gq_list {
	uint32_t first;
	uint32_t last;
};

struct gq_admission {
	struct gq_admission_config config;
	struct gq_admission_entry *entries;
	struct gq_admission_flow *flows;
	uint32_t *chains; /* flows by service, class and user */
	uint32_t *heap;   /* entries by deadline */
	uint32_t heap_count;
	uint32_t places;
	uint32_t mask; /* of the number of a chain */
	uint32_t free_entry;
	uint32_t free_flow;
	struct gq_list rounds[GQ_PLACES][GQ_CLASSES]; /* flows that wait, in turn */
	struct gq_list by_age[GQ_CLASSES];            /* entries that wait */
	struct gq_places waiting[GQ_CLASSES];         /* services that have some */
	uint32_t turn[GQ_CLASSES];                    /* the service after which to look */
	int64_t deficit[GQ_CLASSES];
	uint64_t second; /* in which the two below are counted */
	uint64_t gone;
	uint64_t gone_critical;
	enum gq_level level;
	uint32_t slots_permille; /* how full the device's slots are */
	uint64_t sequence;
	/* To be looked at. */
	uint32_t count; /* that wait */
	uint32_t running;
	uint64_t bytes;                 /* of those that wait */
	uint64_t cost;                  /* the same */
	uint32_t by_service[GQ_PLACES]; /* charged to the service's quota */
	uint32_t by_class[GQ_CLASSES];  /* charged to the class's quota */
	uint32_t in_class[GQ_CLASSES];  /* that wait */
	uint32_t held;                  /* of those that wait: they cannot be next */
	uint64_t accepted;
	uint64_t told;
	double rate; /* cost that is finished in a second, measured */
	uint64_t rate_ns;
	uint64_t rate_cost;
};

/** The class of a priority: 255 CRITICAL, from 192 HIGH, from 128 NORMAL, LOW. */
enum gq_class gq__class_of(uint8_t priority);

/** Allocates all that it ever will. OK, CONFIG, MEMORY. */
enum gq_admission_status gq__admission_init(struct gq_admission *a,
					    const struct gq_admission_config *config,
					    uint64_t now_ns);
void gq__admission_free(struct gq_admission *a);

/**
 * A request asks to be let in.
 * @param out  its number; written on success
 * @return OK, FULL, SHED, CLASS_FULL, EXPIRED, SERVICE, BYTES; after FULL, SHED and CLASS_FULL
 *         gq__admission_retry_ns() is when to try again
 * Logarithmic in the number of requests.
 */
enum gq_admission_status gq__admission_submit(struct gq_admission *a,
					      const struct gq_request *request, uint64_t now_ns,
					      gq_request_id *out);

/**
 * The request that goes next, of those of the services that can take one. From now on it runs.
 * @return false: none waits for them that is not held, or as many run as may
 * Constant time on average; at most 64 looks at each user's flow. Strict: linear in the services.
 */
bool gq__admission_next(struct gq_admission *a, const struct gq_places *ready, uint64_t now_ns,
			struct gq_told *out);

/** A running request's result has come, or can never come. OK: tell its client. LATE: drop it.
 * NOT_FOUND: no such request, or a second result. */
enum gq_admission_status gq__admission_finish(struct gq_admission *a, gq_request_id id,
					      uint64_t now_ns, struct gq_told *out);

/** At once after gq__admission_next() has told of a request: it does not go, as what it needs has
 * no room. It counts as running, but has had no turn: neither its class nor its user pays for it.
 */
void gq__admission_no_turn(struct gq_admission *a, gq_request_id id);

/** A running request waits again, whatever the quotas, and goes before what has come later of its
 * user and class. `held`: as in struct gq_request. OK. LATE, NOT_FOUND: as finish. */
enum gq_admission_status gq__admission_again(struct gq_admission *a, gq_request_id id, bool held,
					     uint64_t now_ns);

/** A user has as much of a service as it may (held), or may have more. What it has waiting there
 * cannot be next until then; its deadlines and its place in the quotas are as before. Of what it
 * submits meanwhile the request itself says it. Strict: nothing is held. */
void gq__admission_hold(struct gq_admission *a, uint32_t service, uint32_t uid, bool held);

/** The client does not want it any more. OK: tell it so. NOT_FOUND: it has ended. */
enum gq_admission_status gq__admission_cancel(struct gq_admission *a, gq_request_id id,
					      struct gq_told *out);

/** A request whose deadline has come, waiting or running; false: none. Call it until then. */
bool gq__admission_expire(struct gq_admission *a, uint64_t now_ns, struct gq_told *out);

/** The next deadline; UINT64_MAX: none. */
uint64_t gq__admission_deadline(const struct gq_admission *a);

/** How full the device's slots are, in 1/1000: part of the level. */
void gq__admission_slots(struct gq_admission *a, uint32_t permille);

/** After how long a refused request would be let in: the backlog by the measured rate, 1 ms to 5 s.
 */
uint64_t gq__admission_retry_ns(const struct gq_admission *a);

#endif /* GPUQ_BROKER_POLICY_ADMISSION_H */
