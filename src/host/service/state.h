/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - a client of gpuqd's services, which its files share. One thread uses it at a time. */
#ifndef GPUQ_HOST_SERVICE_STATE_H
#define GPUQ_HOST_SERVICE_STATE_H

#include "broker/policy/frame.h"

#include <gpuq/broker.h>
#include <sys/types.h>

/* What this side asks for has a correlation above that, what gpuqd asks for one below. */
#define GQ_OWN_CORRELATION (UINT64_C(1) << 63)

/* A frame that has come, and that nobody has asked for yet. Its views are of its own bytes. */
struct heard {
	struct heard *next;
	struct heard **held; /* among `handed`: what points to it */
	struct gq_frame frame;
	int fd;         /* that came with it; -1: none */
	uint32_t why;   /* among `dropped`: what it is answered with */
	void *map;      /* where the payload lies that is in a region; NULL: nowhere */
	size_t mapped;  /* bytes of it */
	size_t at;      /* of the payload, in it */
	uint64_t batch; /* of a request: requests that have come as one batch have the same */
	uint8_t bytes[];
};

struct heard_list {
	struct heard *first, **end;
};

struct gq_client_transport;

/* Memory that this side has asked for: region.c. */
struct own_region {
	struct own_region *next;
	uint64_t id;
	int fd; /* -1: sealed, and in use */
	void *memory;
	size_t bytes;
	bool readable_only; /* it has no mapping that could write */
	uint64_t asks;      /* among `late`: the correlation of what has asked for it */
};

struct BrokerClient {
	const struct gq_client_transport *transport;
	int socket;
	int events; /* what is waited for where that is not the socket; -1: it is */
	/* of netlink.c */
	int timer, probe; /* when gpuqd is to be looked for, and with what; -1 */
	uint32_t port;    /* gpuqd's; 0: none yet */
	uid_t uid;
	uint64_t cookie;
	bool gone;   /* gpuqd is */
	size_t away; /* bytes of the frame in `in` that says why it may not connect; 0: none does */
	pid_t pid;
	bool lost, watching, resync;
	uint32_t timeout_ms, window;
	uint64_t last;   /* correlation of the last frame that asks for something */
	uint64_t asked;  /* of the one whose answer is waited for; 0: none */
	uint64_t beaten; /* of the last heartbeat */
	uint32_t inside; /* requests whose end has not been taken */
	uint64_t *open;  /* their ids, `window` at most */
	struct heard_list answers, requests, others;
	struct heard_list dropped; /* requests that are not taken; gpuqd is yet to be told */
	struct heard *handed;      /* requests that are to be answered */
	uint64_t batches, whole;   /* of requests: the last that has begun to come, that has come */
	struct heard_list checks;  /* whether this worker is well; gpuqd is yet to be told */
	struct own_region *regions;
	struct own_region *late; /* given up before gpuqd's answer: it is yet to be told so */
	/* the service; name "": none */
	char service[Q_BROKER_NAME_BYTES], op[Q_BROKER_NAME_BYTES];
	uint64_t generation, beat_ns, beat_every_ns, empty_ns; /* empty: its socket was */
	bool stale, ill; /* ill: as q_service_set_health() says */
	struct gq_frame_rules rules;
	/* what q_broker_watch() has yet to tell of what is there now */
	char *snapshot, *snapshot_at;
	uint8_t in[GQ_WIRE_FRAME_MAX + 8], out[GQ_WIRE_FRAME_MAX];
};

/* A connection that has not said hello. @return NULL with q_last_error() */
BrokerClient *gq__broker_open(const char *endpoint, uint32_t timeout_ms);

/* From now on every call says so. @return Q_ERR_LOST */
QueueStatus gq__broker_lose(BrokerClient *c, const char *why);

/* Whether a call may be made: on a connection of this process that is not lost and that does not
 * watch. @return Q_OK, or refused with q_last_error() */
QueueStatus gq__broker_enter(const BrokerClient *c);

/* The same for q_broker_watch(). */
QueueStatus gq__broker_enter_to_watch(const BrokerClient *c);

/* Sends a frame; takes what comes meanwhile, so that both sides never wait for each other.
 * @return Q_OK; Q_ERR_TIMEOUT: gpuqd did not take it in timeout_ms, and will not; Q_ERR_LOST */
QueueStatus gq__broker_send(BrokerClient *c, const struct gq_frame *f);

/* Takes what has come or comes until the deadline (0: does not wait), once.
 * @return Q_OK: something; Q_ERR_TIMEOUT; Q_ERR_LOST */
QueueStatus gq__broker_hear(BrokerClient *c, uint64_t deadline_ns);

/* Sends it, and waits for the answer of its correlation. @return as the answer says; `out` is the
 * caller's to free, also after a refusal */
QueueStatus gq__broker_ask(BrokerClient *c, struct gq_frame *f, struct heard **out);

/* Takes all that has come, without waiting, but not more requests than a connection can have.
 * @return Q_OK, Q_ERR_LOST */
QueueStatus gq__broker_hear_all(BrokerClient *c);

/* The first frame of a list with this correlation (0: any), taken out; NULL. */
struct heard *gq__broker_take(struct heard_list *list, uint64_t correlation);

/* Frees it, with its descriptor and its mapping. NULL is allowed. */
void gq__broker_free(struct heard *h);

/* A request that is not taken: it is answered with `why`, now or with the next frame that is sent.
 */
void gq__broker_refuse(BrokerClient *c, struct heard *h, uint32_t why);

/* Maps what a request names of a region. @return GQ_WIRE_SUCCESS, also without a region; or what
 * the request is to be answered with */
uint32_t gq__broker_map(struct heard *h);

/* A region whose creation was given up: gpuqd is told so, should it have made it. */
void gq__broker_give_up_region(BrokerClient *c, struct own_region **at, uint64_t asks);

/* Takes a region out of a connection's list, unmaps it and frees it. */
void gq__broker_drop_region(struct own_region **at);

QueueStatus gq__broker_status(uint32_t reason);

/* Fills in a name's TLV. @return false with q_last_error(): it is none */
bool gq__broker_name(struct gq_frame *f, enum gq_tlv_type type, const char *what, const char *name);

/* Says that it lives, if that is due. @return when it is due next */
uint64_t gq__broker_beat(BrokerClient *c);

#endif /* GPUQ_HOST_SERVICE_STATE_H */
