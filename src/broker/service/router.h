/* SPDX-License-Identifier: Apache-2.0 */
/*
 * router.h - what the router's files share. One thread has all of it, so nothing here is locked.
 *
 * A peer is a connection: a caller, a worker, or both. A request is accepted once, is in `requests`
 * until it has ended, and ends once: by end_request() alone. A place of the registry is a service;
 * a group is all services that do one op.
 */
#ifndef GPUQ_BROKER_SERVICE_ROUTER_H
#define GPUQ_BROKER_SERVICE_ROUTER_H

#include "transport.h"

#include "broker/page/page.h"

#include "broker/policy/admission.h"
#include "broker/policy/arrivals.h"
#include "broker/policy/balance.h"
#include "broker/policy/batch.h"
#include "broker/policy/breaker.h"
#include "broker/policy/cache.h"
#include "broker/policy/concurrency.h"
#include "broker/policy/frame.h"
#include "broker/policy/limiter.h"
#include "broker/policy/registry.h"
#include "broker/policy/retry.h"
#include "broker/policy/sticky.h"
#include "broker/policy/strikes.h"
#include "broker/policy/tarpit.h"
#include "broker/policy/token.h"

#include <pthread.h>
#include <sys/types.h>

enum {
	REQUESTS = 8192,       /* accepted and not forgotten; a serial's low 16 bits name one */
	GROUPS = GQ_PLACES,    /* admission counts a group as a service */
	CAPACITY_DEFAULT = 16, /* requests that a service has at once */
	CAPACITY_MAX = 256,
	OUT_FRAMES = 512, /* that wait for a peer: then it is not listened to */
	OUT_BYTES = 8 << 20,
	TURN_BYTES = 2 << 20, /* sent to a peer while it is heard: then others are */
	AWAY_MOST = 2,        /* descriptors in a peer's socket that it has not read */
	GROUP_SESSIONS = 4096,
	HELD_BREAKERS = 128,
	LINES = 1024, /* of sessions; turns.c */
	/* Requests that rest for room: rests.c. */
	RESTS_LOOK = 32,    /* of one user are looked at */
	RESTS_FIND = 128,   /* are let in at once, as there is room */
	RESTS_AT_ONCE = 16, /* are tried at once, as their time has come */
	/* What one user may have of what all share. */
	USER_REQUESTS = REQUESTS / 2, /* asked for, or LATE at its workers */
	USER_CAPACITY = REQUESTS / 4, /* of all its services */
	USER_SERVICES = GQ_SERVICES_MAX / 4 * 3,
	USER_GROUPS = GROUPS / 4 * 3,
};
#define NOBODY UINT32_MAX

/* Whoever has the same uid. There as long as it has a connection or a request. */
struct user {
	struct user *next;
	uid_t uid;
	uint32_t peers, requests;
	uint32_t waiting;                   /* requests in state WAITS */
	struct request *rests, *rests_last; /* of its requests, those that rest for room */
	uint32_t keys;                      /* of idempotency: that run, and that are remembered */
	uint64_t key_bytes;
	uint32_t regions; /* not closed yet */
	uint64_t region_bytes;
	uint32_t away;            /* descriptors in sockets of its connections */
	uint32_t asked;           /* requests that it has asked for, with those that are LATE */
	uint32_t at_work[GROUPS]; /* of those, by group, at its workers: share.c */
};

/* Memory whose bytes requests name. gpuqd has its descriptor, and never maps it. */
struct region {
	struct region *next; /* of its owner's, or of those that are to be closed */
	struct user *user;
	uint64_t id;   /* among its owner's, for ever */
	uint64_t asks; /* correlation of the frame that has asked for it */
	uint64_t bytes;
	int fd;
	uint32_t refs; /* its owner, requests that name it, frames with its descriptor: away.c */
	bool sealed;   /* requests may name it */
};

/* All connections whose tokens come from the same one: what that one's rates are counted for,
 * however often it has been narrowed. There until its rates have forgotten it. */
struct bearer {
	struct bearer *next;
	uint8_t id[GQ_TOKEN_ID];
	uint32_t peers;
	struct gq_limiter requests, bytes; /* a second */
};

/* A connection's token. */
struct pass {
	struct bearer *bearer; /* NULL: it has shown none */
	struct gq_claims may;
	enum gq_token_status status;       /* OK, or why it is not good any more */
	struct gq_limiter requests, bytes; /* of this connection */
	uint32_t length;
	uint8_t token[];
};

/* A frame that a full socket has not taken yet. */
struct outgoing {
	struct outgoing *next;
	uint64_t serial;       /* of the request in it; 0: none */
	struct region *region; /* whose descriptor goes with it; NULL: none */
	size_t bytes;
	uint8_t data[];
};

struct peer {
	struct peer *next;
	struct link link;
	struct user *user;
	uint64_t number; /* of the connection, for ever */
	uint64_t since_ns;
	char name[GQ_WIRE_NAME_MAX + 1];
	bool greeted, doomed; /* doomed: closed at the end of this turn */
	bool answers_checks;  /* as a worker: it has said so */
	bool died;            /* what it has said is heard, then it is doomed */
	bool last_words;      /* its queue is sent, as far as that goes, then it is doomed */
	bool muted;
	struct gq_strikes strikes;
	struct outgoing *out, **out_end;
	uint32_t out_count;
	size_t out_bytes;
	size_t turn_bytes; /* sent, or queued, since it began to be heard */
	uint64_t moved_ns; /* the queue was empty, or became shorter */
	/* Where nobody tells of room: when it is tried next (0: never), and how long after that. */
	uint64_t again_ns, again_after_ns;
	uint64_t look_ns;      /* when it is to be looked for; 0: never */
	bool has_served;       /* it has registered a service: it is looked for more often */
	uint32_t inside;       /* its requests that have not ended */
	struct request *asked; /* they, the latest first */
	bool takes_regions;    /* as a worker */
	struct region *regions;
	uint64_t regions_ever;
	uint64_t answered_ns;                  /* as a worker: when it last answered a request */
	uint32_t away;                         /* descriptors that it may not have read yet */
	struct region *away_region[AWAY_MOST]; /* NULL: of another user */
	uint64_t away_look_ns, away_every_ns;  /* whether it has read them */
	bool watches;
	struct pass *pass;       /* NULL: none was needed */
	struct answers *answers; /* of this turn, of items of its batches; NULL: none */
	uint64_t watch, known;   /* the watch's correlation; the revision that it has been told */
};

enum request_state {
	REQUEST_FREE,
	REQUEST_WAITS,   /* for a service with room */
	REQUEST_GATHERS, /* for others that go with it: gather.c */
	REQUEST_RUNS,    /* a worker has it */
	REQUEST_RESTS,   /* between two attempts */
	REQUEST_JOINS,   /* waits for the answer of another one */
	REQUEST_LATE,    /* has ended for its caller; a worker still has it */
};

/* The bytes of a request, which those that wait for its answer share. */
struct submitted {
	uint32_t refs, bytes;
	uint8_t data[];
};

/* An answer that others get, too. `data`: payload, then text; NULL: there was no memory for it. */
struct kept {
	struct user *user; /* whose key it is; NULL: it is in the cache */
	uint32_t op;       /* in the cache: of the configuration */
	uint64_t charged;  /* bytes to that user */
	uint32_t status, retry_ms;
	bool seen;
	uint32_t payload_bytes, text_bytes;
	uint8_t *data;
};

struct request {
	enum request_state state;
	uint32_t next_free;
	gq_request_id id;
	struct user *user;        /* to whom it is charged: the caller's; LATE: the worker's */
	struct user *asker;       /* the caller's, also when it is LATE */
	struct gq_places at_work; /* groups in whose count of the asker's it is: share.c */
	struct peer *caller;      /* NULL: gone, or told */
	struct request *asked_before, *asked_after; /* of the same caller */
	uint64_t correlation;                       /* the caller's */
	uint32_t group;
	uint8_t priority;
	bool borrows;          /* `frame` is as another one came, the same but for the trace */
	bool batched;          /* its answer may travel with others */
	bool idempotent, seen; /* seen: by the worker of this attempt */
	bool ever_seen; /* by one of an attempt before, which did not say that it has not run */
	bool lost_once; /* a worker died with it */
	/* its session's line of those that wait for room: turns.c */
	uint64_t session; /* a hash of whose session, and of op and class; 0: none */
	bool bound;       /* it is strict, and has a service, which alone may have this */
	bool in_line;     /* also while it is tried, if it is the first */
	struct request *ahead, *behind; /* NULL: it is the first, the last */
	struct request *last, *other;   /* the first's: the last; the first of another session */
	/* While it rests for room: who could take it, and the list of its user's requests that do.
	 */
	struct gq_places wants;
	bool rests_for_room;
	struct request *rests_before, *rests_after;
	struct request *before, *after; /* of those that gather, in the order in which they go */
	uint32_t payload;               /* while it gathers: its bytes */
	uint64_t came_ns, deadline_ns;
	struct submitted *frame; /* as it came; NULL: LATE, and nobody waits for its answer */
	struct region *region;   /* where its payload lies; NULL: in the frame */
	uint64_t region_bytes;   /* of it */
	/* what else its answer is for */
	struct gq_cache *table; /* of cache, or of keys; NULL: nothing */
	struct gq_cache_key key;
	bool leads;        /* it runs for all that join */
	bool unwanted;     /* its answer is not to be kept, by an order */
	struct kept *kept; /* where its answer will be; it leads */
	uint32_t version;  /* of the op, as the key says, if its answer goes into the cache */
	/* the attempt */
	struct peer *worker; /* NULL: none has it */
	uint32_t place;      /* NOBODY: the service has left since */
	uint32_t by_version; /* of the op: the highest that the service has */
	uint64_t serial;     /* its correlation at the worker */
	uint64_t began_ns;
	struct gq_permit permit;
	uint32_t attempts;
	bool judged, counts_as_retry;
	uint64_t delay_ns, again_ns;
	struct gq_places failed; /* services that have failed it */
	/* which services can do what it needs: as long as none comes or goes (`joins`) */
	struct gq_places able;
	uint64_t able_at;   /* `joins` then; 0: not looked for yet */
	uint32_t load_most; /* in 1/1000, of one of them; 0: any */
};

/* What the registry does not know of the service at a place. */
struct served {
	struct peer *peer; /* NULL: none */
	uint64_t generation;
	uint32_t capacity, groups;
	uint8_t group[GQ_CAPABILITY_OPS];
	/* How many requests it has at once: limit.c. */
	uint32_t limit;                /* its capacity at most */
	uint32_t late;                 /* requests that it has in that state */
	uint32_t concurrency;          /* enum router_concurrency, but AS_ALL */
	struct gq_concurrency learned; /* if it is learned */
	uint64_t name_hash;            /* sessions_name() */
	struct gq_breaker breaker;
	bool was_open, ill; /* of which report_error() has been told */
	bool counts;        /* share.c */
	uint64_t done, faults;
	uint64_t sessions_until_ns; /* it drains, and goes on with its sessions */
	/* The check that it has not answered (0: none), when the last one was sent, and when the
	 * next is due, or is over. */
	uint64_t check, checked_ns, check_due_ns;
	uint64_t missed;           /* the one before, if that was not answered in time; 0: it was */
	uint64_t no_room_until_ns; /* its worker had no descriptor left for a region */
};

/* A breaker that whoever runs gpuqd has opened or closed, until he resets it: also of who registers
 * the name again. */
struct held_breaker {
	struct gq_name name;
	uid_t uid; /* whose service it was */
	enum gq_breaker_state state;
};

struct group {
	struct gq_name name;
	uid_t uid;        /* whose service was the first */
	uint32_t members; /* 0, nothing waits, and sessions do not stay: the entry is free */
	uint32_t waiting; /* requests accepted and not forgotten */
	uint32_t version; /* the highest of the op that a member has */
	struct router_op op;
	uint32_t op_index; /* of the configuration; ROUTER_OPS: it says nothing of it */
	struct gq_balance balance;
	struct gq_retry_budget budget;
	uint32_t user_most; /* requests of one user that are at its workers: share.c */
	bool has_sticky;
	struct gq_sticky sticky; /* sessions.c: with a table of sessions */
	struct homes *homes;     /* the same: without; NULL: none yet */
	/* What gathers: gather.c. `batch`: of these, what one batch can take. */
	struct gq_batch_config batches;
	struct request *gathers, *gathers_last;
	struct gq_batch batch;
	uint64_t short_ns; /* since when there is room for some that are due, not for all; 0: not so
			    */
	uint32_t enough;   /* room for so many will do for a while: there was no more in time */
	uint64_t enough_until_ns;
};

/* One that waits to be looked at: its user connects too often. */
struct held_back {
	struct link link;
	struct door *door;
};

struct counts {
	uint64_t accepted, ok, failed, expired, cancelled, lost; /* requests */
	uint64_t refused, retried, late, orphans, connections;
	uint64_t bad_frames, forged; /* those that were no good; that came from another peer */
	uint64_t key_conflicts;
	uint64_t denied, rate_limited; /* by tokens */
	uint64_t connections_refused, connections_too_often;
	uint64_t batches, batched;           /* of requests that gathered: sent; requests in them */
	uint64_t described, described_bytes; /* requests whose payload lies in a region, accepted */
	uint64_t copied_bytes;               /* of payloads, by this process */
};

struct router {
	struct router_config cfg;
	int epoll, wake;
	struct door door[TRANSPORTS];
	pthread_t thread;
	uint32_t stopping; /* asks the thread to end */
	uint32_t ended;    /* it has */
	uint32_t told;     /* asks it to write its counts */
	bool draining;     /* until `until_ns` nothing new is accepted */
	uint64_t until_ns;
	pthread_mutex_t lock; /* of `fresh` */
	struct router_config *fresh;
	struct page_services shown; /* what is written into the page; its histogram is kept here */
	uint64_t random, epoch, peers_ever, serials, checks;
	uint64_t secret[2];
	struct gq_registry registry;
	struct gq_admission admission;
	struct gq_retry_config retry;
	struct gq_arrivals arrivals;
	struct gq_tarpit tarpit; /* of held_back, by their places */
	struct held_back held_back[GQ_TARPIT_MOST];
	uint32_t connected; /* peers */
	struct peer *peers;
	struct user *users;
	struct bearer *bearers;
	struct served served[GQ_PLACES];
	struct held_breaker held[HELD_BREAKERS];
	uint32_t holds;             /* of `held` */
	uint64_t sessions_until_ns; /* no service that drains keeps its sessions any longer */
	uint64_t joins;             /* how often a service has joined or left a group */
	struct group *groups[GROUPS];
	struct request *requests;
	uint32_t free_request, used;                /* used: entries that have ever been */
	uint32_t late, resting, joining, gathering; /* entries in these states */
	uint64_t gather_due_ns;                     /* when a batch goes, or is looked at again */
	struct request *lines[LINES];               /* the first of each session, by its hash */
	uint32_t rests;                             /* requests that rest for room */
	uint64_t joined_due_ns; /* not after the first deadline of one that joins */
	struct region *closing; /* nobody has them any more */
	uint32_t away;          /* descriptors in sockets */
	struct peer *unread;    /* gone, but for descriptors that they have not read */
	uint64_t swept_ns;      /* when all peers were last asked whether they have read theirs */
	uint32_t regions;       /* not closed yet */
	uint64_t region_bytes;
	struct gq_cache cache, keys;
	uint32_t cache_epoch;          /* answers of an older one are not used any more */
	uint32_t op_epoch[ROUTER_OPS]; /* the same of one op of the configuration */
	bool ending;                   /* all requests are being ended */
	struct counts counts;
	char text[GQ_WIRE_FRAME_MAX - 1024]; /* of the report that is written */
	uint8_t in[GQ_WIRE_FRAME_MAX + 8], out[GQ_WIRE_FRAME_MAX], item[GQ_WIRE_FRAME_MAX];
};

static inline uint32_t payload_bytes(const struct gq_frame *f)
{
	return gq_frame_has(f, GQ_TLV_PAYLOAD) ? f->tlv[GQ_TLV_PAYLOAD].bytes : 0;
}

/* ---- turns.c ---- */

/* What `session` of a request is to be: of that frame, which has one. */
uint64_t turns_session(const struct router *r, const struct request *q, const struct gq_frame *f);
/* Whether older ones of its session wait for room: then it waits behind them. */
bool turns_follow(struct router *r, struct request *q);
/* It waits for room. If it has a session, those of that which come now wait behind it. */
void turns_lead(struct router *r, struct request *q);
/* It has been sent, or has ended. @return whose turn it is now; NULL: nobody's */
struct request *turns_leave(struct router *r, struct request *q);

/* ---- rests.c ---- */

/* It rests for room at one of those that it `wants`. */
void rests_enter(struct router *r, struct request *q);
/* It does not; it may not have before. */
void rests_leave(struct router *r, struct request *q);
/* Those that find room now. @return how many */
uint32_t rests_find(const struct router *r, uint64_t now_ns, struct request *out[RESTS_FIND]);
/* Whether it rests for room, and a try now would be in vain: the line of its op does not move, or
 * its user has its share. In the line it would count as waiting, and others would be refused. */
bool rests_in_vain(const struct router *r, const struct request *q, uint64_t now_ns);

/* ---- user.c ---- */

/* @return NULL: no memory */
struct user *user_of(struct router *r, uid_t uid);
void user_put(struct router *r, struct user *u); /* frees it, if it has nothing any more */
/* Why this user may not register that, whose old service, if any, is at `place`. NULL: it may */
const char *user_objection(const struct router *r, const struct peer *p, uint32_t place,
			   uint32_t capacity);

/* ---- peer.c ---- */

void peer_accept(struct router *r, struct door *d);
/* Those that had to wait, because their users connect too often. @return when the next one's time
 * has come; UINT64_MAX: none waits */
uint64_t peer_accept_held(struct router *r, uint64_t now_ns);
/* Something has come, or there is room, or it is gone. */
void peer_hear(struct router *r, struct peer *p);
/* Sends a frame, now or when there is room. @return false: it will never go */
bool peer_send(struct router *r, struct peer *p, const struct gq_frame *frame, uint64_t serial);
/* The same, with the descriptor of a region; NULL: none. */
bool peer_send_region(struct router *r, struct peer *p, const struct gq_frame *frame,
		      uint64_t serial, struct region *region);
void peer_flush(struct router *r, struct peer *p);
/* Has epoll tell of what it waits for now, and of nothing else. */
void peer_listen(struct router *r, struct peer *p);
/* Whether it has got so much at once that others come first. */
bool peer_has_enough(const struct peer *p);
/* What is queued is sent, as far as that goes; nothing more is heard, and then it is closed. */
void peer_last_words(struct router *r, struct peer *p);
/* All whose end has come. @return whether there were some */
bool peer_bury(struct router *r);
/* The last of a peer that is in no list any more: its socket, and its place among connections. */
void peer_free(struct router *r, struct peer *p);
/* It has registered a service: its death is to be known soon, also where nobody tells of it. */
void peer_serves(struct peer *p);
/* Those whose time is over, that have gone without a word, or may have room again. */
void peer_tick(struct router *r, uint64_t now_ns);
/* @return when peer_tick() is to be called next; after all that may send in a turn */
uint64_t peer_due(const struct router *r);

/* ---- answer.c ---- */

struct answer {
	enum gq_wire_status status;
	bool seen;
	uint64_t retry_ns;
	const char *text;  /* NULL: none */
	const char *error; /* for report_error(), where `text` is another one each time; NULL */
	bool reused;       /* it did not run for this request */
	bool died;         /* its worker has */
};

void answer_nack(struct router *r, struct peer *p, uint64_t correlation, const struct answer *a);
void answer_ack(struct router *r, struct peer *p, uint64_t correlation, uint64_t generation);
/* The only word to one that may not come in: l is no link any more. */
void answer_at_the_door(struct router *r, struct link *l, const struct answer *a);
void answer_hello(struct router *r, struct peer *p, const struct gq_frame *f);
/* A frame that is none, or a version that nobody speaks. */
void answer_bad_frame(struct router *r, struct peer *p, const struct gq_frame *f,
		      enum gq_frame_status status, size_t bytes);
void answer_report(struct router *r, struct peer *p, uint32_t type, uint64_t correlation,
		   const char *text, uint64_t revision);

/* ---- needs.c ---- */

/* What a request needs. @return false, and `a`: the words make no sense */
bool needs_read(const struct gq_frame *f, struct gq_capability *want, struct answer *a);
/*
 * Looks for those of its group that can do it, whatever they do now.
 * @return false: none can
 */
bool needs_find(const struct router *r, struct request *q, const struct gq_capability *want);
/*
 * Leaves those of a set that can do it, and are not more loaded than it says.
 * @param surplus  by place, of those: how much more they can do; NULL: of no interest
 * @return SUCCESS; NOT_FOUND: none can; OVERLOADED: all that can are too loaded
 */
enum gq_wire_status needs_leave(const struct router *r, struct request *q, const struct gq_frame *f,
				struct gq_places *can, uint64_t *surplus);

/* ---- handle.c ---- */

void handle_frame(struct router *r, struct peer *p, const struct gq_frame *f);

/* ---- registered.c ---- */

void registered_register(struct router *r, struct peer *p, const struct gq_frame *f);
void registered_unregister(struct router *r, struct peer *p, const struct gq_frame *f);
void registered_heartbeat(struct router *r, struct peer *p, const struct gq_frame *f);
/* The answer to a check. */
void registered_checked(struct router *r, struct peer *p, const struct gq_frame *f);
void registered_configure(struct router *r);
void registered_peer_gone(struct router *r, struct peer *p, struct gq_places *charged);
/* Heartbeats that did not come, checks, tokens that are not good any more, breakers whose rest is
 * over. Is called before requests are handed out. @return when to call it next */
uint64_t registered_tick(struct router *r, uint64_t now_ns);
/* Tell the balancers how a service fares. */
void registered_sync(struct router *r, uint32_t place);
/* Its breaker may have opened. */
void registered_note_breaker(struct router *r, uint32_t place);

/* ---- group.c ---- */

uint32_t group_find(const struct router *r, const void *name, size_t bytes);
/* @return GROUPS: there are too many, or too many of this user, or there is no memory */
uint32_t group_make(struct router *r, const struct gq_name *name, uid_t uid);
void group_join(struct router *r, uint32_t group, uint32_t place, uint8_t priority);
void group_leave(struct router *r, uint32_t group, uint32_t place);
/* The highest version of its op that the service at a place has. */
uint32_t group_version_at(const struct router *r, uint32_t group, uint32_t place);
void group_put(struct router *r, uint32_t group); /* frees it, if it is empty */
/* What the configuration says of its op. */
void group_configure(struct router *r, uint32_t group);
/* Whether the service at a place can read what the request's bytes lie in. */
bool group_can_read(const struct router *r, const struct request *q, uint32_t place);
/* Whether a request of it would go somewhere, or end, at once. */
bool group_moves(const struct router *r, uint32_t group, uint64_t now_ns);
/* Chooses a service, and takes its permit. `among`: NULL: any. `only_full`: none has room, and one
 * would take it that is well: it is to wait. */
enum gq_wire_status group_pick(struct router *r, struct request *q, const struct gq_frame *f,
			       const struct gq_places *among, uint64_t now_ns, uint64_t *retry_ns,
			       bool *only_full);
/* The same at that very place. @return false: it has no room, or its breaker is against it */
bool group_take(struct router *r, struct request *q, uint32_t place, uint64_t now_ns);
/* What has become of the attempt, for the breaker: the permit goes back. Once an attempt. */
void group_verdict(struct router *r, struct request *q, enum gq_breaker_outcome outcome,
		   uint64_t now_ns);
/* The same, and the service has room for another. */
void group_done(struct router *r, struct request *q, enum gq_breaker_outcome outcome,
		uint64_t now_ns);

/* ---- limit.c ---- */

/* A service has registered, and is about to join its groups. */
void limit_begin(struct router *r, uint32_t place);
/* The configuration is another. */
void limit_configure(struct router *r);
/* A request's service has answered it with success; it counts there, still. */
void limit_answered(struct router *r, const struct request *q, uint64_t now_ns);
/* It has expired, and its service has had time for it. */
void limit_expired(struct router *r, const struct request *q, uint64_t now_ns);
/* It is LATE now. */
void limit_late(struct router *r, uint32_t place);
/* One that was LATE is at its service no more. */
void limit_late_left(struct router *r, uint32_t place);

/* ---- sessions.c ---- */

/* What is known of the service of a request's session: its home. */
struct home {
	bool begins; /* there is none that is well: sessions_bind() when the request goes somewhere.
			A home that is full, that has failed this request, or that cannot do it, is
			still its home */
	bool full;   /* it has no room there, and nothing else is wrong */
	bool bound;  /* it is strict, and has a home: `able` has that left at most */
	bool gone;   /* the same, and that is not there any more */
};
/*
 * The home of a request's session, counted as taken; NOBODY.
 * @param able  services that have what it needs
 */
uint32_t sessions_keep(struct router *r, const struct request *q, const struct gq_frame *f,
		       struct gq_places *able, uint64_t now_ns, struct home *home);
/* It stays at its place from now on. */
void sessions_bind(struct router *r, const struct request *q, const struct gq_frame *f,
		   uint64_t now_ns);
/* Whether sessions outlive the group's last member: else the next member would get sessions that it
 * knows nothing of. So it is with strict ones, of ops that the configuration names. */
bool sessions_stay(const struct group *g);
/* The op's `sessions` was `before`, and is another now. */
void sessions_configure(struct group *g, uint32_t before);
/* `name_hash` of a service: what its share of sessions depends on. */
uint64_t sessions_name(const struct gq_name *name);
/* A service has joined or left. */
void sessions_changed(struct group *g, uint64_t now_ns);
/* All sessions are forgotten. */
void sessions_free(struct group *g);

/* ---- request.c ---- */

void request_submit(struct router *r, struct peer *p, const struct gq_frame *f);
/* The same, of a frame that lies at `data`, without the answer. @return false, and `a`: refused */
bool request_take(struct router *r, struct peer *p, const struct gq_frame *f, const uint8_t *data,
		  bool batched, struct answer *a);
void request_refuse(struct router *r, struct peer *p, uint64_t correlation, const struct answer *a);
/* One that nobody has begun with ends so, if there is one. */
void request_withdraw(struct router *r, struct peer *p, uint64_t correlation,
		      const struct answer *a);
void request_answered(struct router *r, struct peer *p, const struct gq_frame *f);
void request_cancel(struct router *r, struct peer *p, uint64_t correlation);
/* A frame to its worker could not go: no more descriptors may be on their way. */
void request_unsent(struct router *r, struct peer *p, uint64_t serial);
/* A caller, or a worker, is gone. */
void request_peer_gone(struct router *r, struct peer *p);
/* The service at this place has left: nothing is counted there any more.
 * @param charged  the groups that its worker's death has cost a token: it may not answer what it
 * has, either; NULL: it may */
void request_service_left(struct router *r, uint32_t place, struct gq_places *charged);
/* Hands out what can go. */
void request_pump(struct router *r);
/* It, as it came. */
void request_frame(const struct request *q, struct gq_frame *f);
/* Goes to the service that has been chosen. */
void request_send(struct router *r, struct request *q, struct gq_frame *f, uint64_t now_ns);
/* No service takes it: group_pick() has said why. */
void request_unplaced(struct router *r, struct request *q, enum gq_wire_status status,
		      uint64_t retry_ns);
/* Its time is over, and no worker has it. */
void request_expired(struct router *r, struct request *q);
/* One that joins is to run itself. @return false: there is no room for it, and it has ended */
bool request_promote(struct router *r, struct request *q);
/* One that joins has its answer. */
void request_end_joined(struct router *r, struct request *q, const struct answer *a,
			const struct gq_frame *from);
uint64_t request_tick(struct router *r, uint64_t now_ns);
void request_end_all(struct router *r);
/* Accepted and not ended, counted one by one. */
uint64_t request_inside(const struct router *r);

/* ---- share.c ---- */

/* Whether a user has as much of an op's workers as it may. */
bool share_is_used_up(const struct router *r, const struct user *u, uint32_t group);
/* Its state, or its place, is another now. */
void share_count(struct router *r, struct request *q);
/* Its services are others, or take more or less, or the configuration is another. */
void share_resize(struct router *r, uint32_t group);
/* Whether a service counts, with what it takes and what it has. */
void share_service(struct router *r, uint32_t place, bool counts);

/* ---- gather.c ---- */

/* Whether it is to gather with others of its op. */
bool gather_takes(const struct router *r, const struct request *q, const struct gq_frame *f);
/* Whether another could still go with those that gather. */
bool gather_has_room(const struct group *g);
/* It gathers from now on, and has been moved to that state. */
void gather_join(struct router *r, struct request *q, const struct gq_frame *f);
/* It ends before it has gone. */
void gather_leave(struct router *r, struct request *q);
/* Its services that are well are others, or the configuration is. */
void gather_configure(struct router *r, struct group *g);
/* They have another limit. */
void gather_resize(struct router *r, struct group *g);
/* Sends the batches that are due, and notes when the next one is. @return whether it sent some */
bool gather_pump(struct router *r, uint64_t now_ns);

/* ---- region.c ---- */

/* A region is asked for, or is to be used, or is not needed any more. */
void region_asked(struct router *r, struct peer *p, const struct gq_frame *f);
/* The region that a request's payload lies in, all of it. @return NULL, and `a` */
struct region *region_named(const struct peer *p, const struct gq_frame *f, struct answer *a);
struct region *region_hold(struct region *g);
/* NULL is allowed. */
void region_put(struct router *r, struct region *g);
/* Its owner cannot get its descriptor now. */
void region_unsent(struct router *r, struct peer *p, struct region *g);
void region_peer_gone(struct router *r, struct peer *p);
/* Closes one. @return when to call it next */
uint64_t region_tick(struct router *r, uint64_t now_ns);
void region_free(struct router *r);

/* ---- away.c ---- */

/* Whether a descriptor may go to it. @return DONE: it may; NOT_NOW: it has to read those that it
 * has been sent; HELD: too many are on their way */
enum transport_result away_objection(struct router *r, struct peer *p);
/* One has gone. */
void away_sent(struct router *r, struct peer *p, struct region *region);
/* Whether no other may go until it has read some, as far as is known. */
bool away_is_full(const struct peer *p);
/* Finds out whether it has read them. */
void away_settle(struct router *r, struct peer *p);
/* It ends. @return whether it stays a connection until it has read them, or closed its end */
bool away_keeps(struct router *r, struct peer *p);
/* @return when to call it next */
uint64_t away_tick(struct router *r, uint64_t now_ns);
void away_free(struct router *r);

/* ---- batch.c ---- */

void batch_submit(struct router *r, struct peer *p, const struct gq_frame *f);
/* An item is done: it is answered at the end of this turn. @return false: not in that way */
bool batch_answer(struct router *r, struct peer *p, uint64_t correlation, uint32_t flags,
		  uint64_t took_ns, const struct gq_view *payload);
/* Sends what there is. */
void batch_flush(struct router *r);

/* ---- token.c ---- */

/* A connection begins. @return false, and `a`: it may not */
bool token_greet(struct router *r, struct peer *p, const struct gq_frame *f, struct answer *a);
/* Whether the connection may ask for this op, now; what it costs is taken from its rates.
 * @return false, and `a` */
bool token_may_submit(struct router *r, struct peer *p, const struct gq_frame *f, uint8_t priority,
		      struct answer *a);
/* Whether it may make a region now, by a frame of so many bytes, which its rates count as a
 * request.
 * @return false, and `a` */
bool token_may_make_region(struct router *r, struct peer *p, uint32_t bytes, struct answer *a);
/* Whether it may register what it can do. @return false, and `a` */
bool token_may_register(struct router *r, struct peer *p, const struct gq_registration *reg,
			struct answer *a);
/* Whether its token is good, still. Also of who needs none */
bool token_is_good(const struct peer *p);
/* The same. @return false, and `a` */
bool token_may_serve(struct router *r, const struct peer *p, struct answer *a);
/* Whether it may give orders. @return false, and `a` */
bool token_may_order(struct router *r, const struct peer *p, struct answer *a);
/* Whether its token is for this op, NULL: for all. Also of who needs none */
bool token_names(const struct peer *p, const char *op);
void token_peer_gone(struct router *r, struct peer *p);
/* Keys, or what is denied, have changed: all tokens are checked again. */
void token_configure(struct router *r);
void token_free(struct router *r);

/* ---- reuse.c ---- */

bool reuse_start(struct router *r, char error[ROUTER_ERROR_ROOM]);
void reuse_free(struct router *r);
/* What is new in the configuration; nothing of the cache is used any more. */
void reuse_configure(struct router *r);

/*
 * Whether a request need not run. Its group may be GROUPS.
 * @param a     HIT: the answer, of which `from` has the bytes, until the next call of any of these.
 *              CONFLICT, FULL: why it is refused
 * @return LEAD: it runs for others, too, until reuse_end(). ALONE: it runs, as always. JOINED: it
 *         waits for another's end, and has that one's frame. HIT, CONFLICT, FULL
 */
enum gq_cache_status reuse_ask(struct router *r, struct request *q, const struct gq_frame *f,
			       struct answer *a, struct gq_frame *from);
/* A request has ended. If it leads, its answer is kept and told, or another one runs. */
void reuse_end(struct router *r, struct request *q, const struct answer *a,
	       const struct gq_frame *from);
/* One that joins does not wait any more. */
void reuse_leave(struct router *r, struct request *q);
/* Whether its answer is of use though its caller has gone. */
bool reuse_goes_on(const struct router *r, const struct request *q);
/* Whether its key may run, or may have, though this request has not and will not: it waits for
 * another one with it; or it is to run for others that wait. */
bool reuse_may_run(struct router *r, const struct request *q);
uint64_t reuse_tick(struct router *r, uint64_t now_ns);
/* Answers of the cache are not true any more: all; those of an op; that to the request that `f`
 * describes, of the user that it names. What runs now is not kept. @return NULL, or why not */
void reuse_forget_all(struct router *r);
const char *reuse_forget_op(struct router *r, const char *op);
const char *reuse_forget_one(struct router *r, const struct peer *p, const char *op,
			     const struct gq_frame *f);

/* ---- order.c ---- */

void order_obey(struct router *r, struct peer *p, const struct gq_frame *f);
/* The breaker of a service that has just registered is as it was ordered to be. */
void order_breaker(struct router *r, uint32_t place);

/* ---- report.c ---- */

/* A line for each service that meets `want` (NULL: all). @return its bytes */
size_t report_services(const struct router *r, const struct gq_capability *want, char *text,
		       size_t room);
size_t report_counts(const struct router *r, char *text, size_t room);
/* Writes all counts into the page. */
void report_show(struct router *r);
/* Something went wrong, in words that are the same each time. */
void report_error(struct router *r, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Tell those who watch what has changed, as far as their sockets have room. */
void report_changes(struct router *r);
void report_watch(struct router *r, struct peer *p, const struct gq_frame *f);

#endif /* GPUQ_BROKER_SERVICE_ROUTER_H */
