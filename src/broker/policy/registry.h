/* SPDX-License-Identifier: Apache-2.0 */
/*
 * registry.h - which services there are, which of them live, and who learns of changes. Pure: what
 * has happened, and when, are arguments.
 *
 * A service has a place in a table, and a generation, which no two services ever share. Whoever
 * speaks for a service names both. A message of an older generation is stale: it changes nothing.
 * So a worker that was thought dead and comes back cannot speak for its successor.
 */
#ifndef GPUQ_BROKER_POLICY_REGISTRY_H
#define GPUQ_BROKER_POLICY_REGISTRY_H

#include "capability.h"

enum {
	GQ_SERVICES_MAX = 100,
	GQ_REGISTRY_CHANGES = 256, /* that a watcher may be behind */
	GQ_PROOF_BYTES = 32,
};

enum gq_service_state {
	GQ_SERVICE_NONE,     /* the place is free */
	GQ_SERVICE_STARTING, /* registered, and no heartbeat yet */
	GQ_SERVICE_READY,
	GQ_SERVICE_BUSY,       /* its load is above 0.7 */
	GQ_SERVICE_OVERLOADED, /* its load is above 0.9 */
	GQ_SERVICE_DRAINING,   /* finishes what it has, and takes nothing new */
	GQ_SERVICE_FAILED,     /* takes nothing until it registers again */
};

enum gq_service_health {
	GQ_HEALTH_HEALTHY,
	GQ_HEALTH_DEGRADED,
	GQ_HEALTH_UNHEALTHY,
	GQ_HEALTH_UNKNOWN, /* nothing has been heard of it yet */
};

enum gq_registry_status {
	GQ_REGISTRY_OK,
	GQ_REGISTRY_FULL,      /* 100 services, or as many as configured */
	GQ_REGISTRY_TAKEN,     /* another peer has a live service of this name, and no same proof */
	GQ_REGISTRY_NAME,      /* the name is not one */
	GQ_REGISTRY_NOT_FOUND, /* no service there */
	GQ_REGISTRY_STALE,     /* of an older generation */
	GQ_REGISTRY_LOAD,      /* a load above 1000/1000 */
	GQ_REGISTRY_MEMORY,    /* init: no memory */
	GQ_REGISTRY_CONFIG,    /* init: a limit is 0 or too large */
};

/* Zero takes the default that stands there. */
struct gq_registry_config {
	uint32_t services;        /* 100; at most that */
	uint64_t heartbeat_ns;    /* 5 s */
	uint32_t degraded_after;  /* heartbeats missed: 2 */
	uint32_t unhealthy_after; /* heartbeats missed, or checks failed: 3 */
	uint32_t healthy_after;   /* good heartbeats, or good checks: 2 */
	uint64_t forget_ns;       /* without a heartbeat it is forgotten: 300 s */
};

struct gq_load {
	uint32_t cpu;    /* 1/1000 */
	uint32_t memory; /* 1/1000 */
	uint32_t depth;  /* requests it has */
	uint32_t capacity;
};

struct gq_service {
	struct gq_name name;
	uint64_t generation;
	uint64_t owner; /* the caller's number of the peer */
	uint8_t proof[GQ_PROOF_BYTES];
	enum gq_service_state state;
	enum gq_service_health health; /* the worse of what heartbeats and checks say */
	uint8_t priority;
	struct gq_capability can;
	struct gq_load load;
	uint64_t load_at_ns; /* when it was reported; 0: never */
	/* the rest is the registry's */
	uint64_t beat_at_ns;
	uint64_t counted_at_ns;
	uint32_t good_beats;
	uint32_t good_checks;
	uint32_t bad_checks;
	enum gq_service_health by_beats;
	enum gq_service_health by_checks;
};

/* What a watcher learns: what a service has become, with revision `revision`. */
struct gq_change {
	uint64_t revision;
	uint32_t index;
	enum gq_service_state state; /* GQ_SERVICE_NONE: it is gone */
	enum gq_service_health health;
	uint64_t generation;
	struct gq_name name;
};

struct gq_registry {
	struct gq_registry_config config;
	struct gq_service *services; /* config.services of them */
	uint32_t count;
	uint64_t generation; /* of the last that has registered */
	uint64_t revision;   /* of the last change */
	struct gq_change *changes;
};

/** A registry without services; allocates all that it ever will. OK, CONFIG, MEMORY. */
enum gq_registry_status gq__registry_init(struct gq_registry *r,
					  const struct gq_registry_config *config);
void gq__registry_free(struct gq_registry *r);

/* What somebody who registers says. */
struct gq_registration {
	const void *name;
	size_t name_bytes;
	uint64_t owner;
	uint8_t proof[GQ_PROOF_BYTES]; /* of its token; zeros: none, and nobody can take it over */
	uint8_t priority;
	struct gq_capability can;
};

/**
 * A service registers. If its name is taken by the same peer, or by one with the same proof, it
 * takes that place over, and the older generation is stale from now on.
 * @param out_index,out_generation  what names it from now on; written on success
 * @return OK, NAME, TAKEN, FULL
 * Linear in the number of services.
 */
enum gq_registry_status gq__registry_register(struct gq_registry *r,
					      const struct gq_registration *registration,
					      uint64_t now_ns, uint32_t *out_index,
					      uint64_t *out_generation);

/** It leaves. OK, NOT_FOUND, STALE. */
enum gq_registry_status gq__registry_unregister(struct gq_registry *r, uint32_t index,
						uint64_t generation);

/** The peer is gone (its socket hung up): so are its services. Returns how many. */
uint32_t gq__registry_owner_gone(struct gq_registry *r, uint64_t owner);

/**
 * It lives, and has this load (NULL: says nothing about it). OK, NOT_FOUND, STALE, LOAD. Does what
 * gq__registry_tick() does first.
 */
enum gq_registry_status gq__registry_heartbeat(struct gq_registry *r, uint32_t index,
					       uint64_t generation, const struct gq_load *load,
					       uint64_t now_ns);

/** It is not asked any more: what checks have said of it is forgotten. OK, NOT_FOUND, STALE. */
enum gq_registry_status gq__registry_unchecked(struct gq_registry *r, uint32_t index,
					       uint64_t generation);

/** The daemon has asked it, and it answered well or not (in time). OK, NOT_FOUND, STALE. */
enum gq_registry_status gq__registry_checked(struct gq_registry *r, uint32_t index,
					     uint64_t generation, bool good);

/** GQ_SERVICE_DRAINING or GQ_SERVICE_FAILED; it stays so until it registers again, or is resumed.
 * OK, NOT_FOUND, STALE. */
enum gq_registry_status gq__registry_stop(struct gq_registry *r, uint32_t index,
					  uint64_t generation, enum gq_service_state state);

/** One that was DRAINING takes requests again; nothing changes for others. OK, NOT_FOUND, STALE. */
enum gq_registry_status gq__registry_resume(struct gq_registry *r, uint32_t index,
					    uint64_t generation);

/**
 * Time has passed: heartbeats that did not come make services degraded, unhealthy, and in the end
 * forgotten. Linear in the number of services.
 * @return when to call it again at the latest; UINT64_MAX without services
 */
uint64_t gq__registry_tick(struct gq_registry *r, uint64_t now_ns);

/** The service there, or NULL; a generation of 0 means whichever. */
const struct gq_service *gq__registry_at(const struct gq_registry *r, uint32_t index,
					 uint64_t generation);

/** The place of the service of this name, or UINT32_MAX. */
uint32_t gq__registry_find(const struct gq_registry *r, const void *name, size_t bytes);

/** Whether new requests may go to it: READY or BUSY, HEALTHY or DEGRADED. */
bool gq__service_routable(const struct gq_service *s);

/** Its load: the largest of cpu, memory and depth / capacity, in 1/1000, at most 1000. */
uint32_t gq__load_permille(const struct gq_load *load);

/**
 * Which services meet a wish, whatever their state.
 * @param out  `room` places at most are written, ascending
 * @return how many there are; more than `room` if it was too small
 */
uint32_t gq__registry_match(const struct gq_registry *r, const struct gq_capability *want,
			    uint32_t *out, uint32_t room);

enum gq_watch_result {
	GQ_WATCH_NOTHING, /* it knows all */
	GQ_WATCH_CHANGE,
	GQ_WATCH_RESYNC, /* it is too far behind: send what is there now, and set its revision to
			    r->revision */
};

/**
 * The next change that a watcher does not know. Constant time; nothing is kept for a watcher but
 * its own number, so that a slow one costs no memory and never loses a change without being told.
 * @param known  the revision that it knows; on GQ_WATCH_CHANGE one more
 */
enum gq_watch_result gq__registry_next(const struct gq_registry *r, uint64_t *known,
				       struct gq_change *out);

#endif /* GPUQ_BROKER_POLICY_REGISTRY_H */
