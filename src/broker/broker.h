/* SPDX-License-Identifier: Apache-2.0 */
/* broker.h - gpuqd as a part of a process: its configuration, starting and stopping it. */
#ifndef GPUQ_BROKER_BROKER_H
#define GPUQ_BROKER_BROKER_H

#include "broker/page/page.h"
#include "broker/service/service.h"
#include "device/remote/wire.h"

enum {
	BROKER_MOST_QUEUES = 32,
	BROKER_SOCKET_ROOM = 108,
	BROKER_STATS_ROOM = 200,
	BROKER_USER_ROOM = 64,
	BROKER_ERROR_ROOM = 600
};

struct broker_queue {
	char name[GQ_WIRE_NAME];
	char processor[GQ_WIRE_PROCESSOR]; /* name or path; "": with per_client, the client's choice
					    */
	uint32_t device;                   /* Q_DEVICE_AUTO, _CPU or _CUDA */
	uint32_t ordinal, capacity, slot_bytes, result_bytes, consumers;
	uint32_t window; /* messages of one client that may be in the queue at once */
	/* The dispatcher runs messages itself that take no longer than this on average, on the CPU
	 * device with one consumer; 0: none. */
	uint32_t inline_us;
	char process[GQ_WIRE_NAME]; /* those of one name are in one process; "": gpuqd itself */
	uint32_t token;             /* not 0: its clients need a token */
	unsigned processor_line;    /* of the file; 0: of no file */
	/* Each client has a queue of its own, of the sizes that it asks for. */
	bool per_client;
};

struct broker_config {
	char socket[BROKER_SOCKET_ROOM];
	uint32_t socket_mode;
	uint32_t uid_connections;
	uint32_t uid_connect_rate;  /* new connections of one user a second; 0: no limit */
	uint32_t uid_connect_burst; /* at once */
	uint64_t uid_bytes, uid_slots;
	uint32_t drain_ms;
	uint32_t hang_ms;  /* after which a process that shows nothing is killed; 0: never */
	uint32_t start_ms; /* and one that has not made its queues */
	uint32_t wait_ms;  /* so long a client waits for a process that is being started */
	char child_user[BROKER_USER_ROOM]; /* as which processes run; "": as gpuqd */
	uint32_t queues;
	struct broker_queue queue[BROKER_MOST_QUEUES];
	char tokens[ROUTER_PATH_ROOM]; /* the file of the keys of queues' tokens; "": none */
	struct router_tokens token;    /* what is in it */
	struct router_config services;
	char stats[BROKER_STATS_ROOM];   /* the file of the page of counts; "": beside the socket */
	uint32_t stats_ms;               /* how often it is written */
	char metrics[BROKER_STATS_ROOM]; /* where metrics are served; "": nowhere */
	/* The lines of the file that say where something is made; 0: no line does. */
	struct {
		unsigned socket, stats, metrics, services, chardev;
	} line;
	struct page *page; /* where counts are written; NULL: nowhere */
	/* In a process for some of the queues (child.c): its name, its socket to gpuqd, and where
	 * the counts of its queues are. Else "", 0, NULL. */
	char process[GQ_WIRE_NAME];
	int link;
	struct page_queue *ledger;
	/* Says a line to whoever runs gpuqd; NULL: to the log alone. From the reactor's thread. */
	void (*tell)(const char *line);
	/* Whether gpuqd is to end: then nobody waits for a process that starts. NULL: never. From
	 * any thread. */
	bool (*interrupted)(void);
	int listener; /* a socket that listens already, of a service manager; 0: none */
	int lock;     /* of socket_lock(), if it is held already; 0: broker_start() takes it */
};

/* What pages and metrics call a processor: of a path, the file; as much of it as there is room for.
 */
static inline void broker_tell_processor(char *to, size_t room, const char *processor)
{
	const char *slash = strrchr(processor, '/');

	snprintf(to, room, "%.*s", (int)room - 1, slash != NULL ? slash + 1 : processor);
}

/* Whether a queue is this process's own. */
static inline bool broker_has(const struct broker_config *cfg, uint32_t queue)
{
	return strcmp(cfg->queue[queue].process, cfg->process) == 0;
}

struct broker;

/* What a configuration is before anything is said: the default socket, no queue. */
void broker_config_defaults(struct broker_config *cfg);
void broker_queue_defaults(struct broker_queue *queue, const char *name);

/*
 * Reads a configuration file (config.c).
 * @return false: `error` says in which line what is wrong, and what is allowed
 */
bool broker_config_read(const char *path, struct broker_config *cfg, char error[BROKER_ERROR_ROOM]);

/*
 * Whether all that gpuqd makes at a path has a path of its own, as it is spelt; whether the
 * processors are there, as far as that is known without running code of theirs (check.c).
 * @param file  the configuration file, NULL: there is none
 * @return false: `error` says in which line what is wrong, and what is allowed
 */
bool broker_config_check_paths(const char *file, const struct broker_config *cfg,
			       char error[BROKER_ERROR_ROOM]);
bool broker_config_check_processors(const char *file, const struct broker_config *cfg,
				    char error[BROKER_ERROR_ROOM]);

/*
 * Whether a running gpuqd may take over a configuration; if so `fresh` has its queues in the order
 * of `now`, those that are new behind them.
 * @return false: `error` says what would need a restart
 */
bool broker_config_merge(const struct broker_config *now, struct broker_config *fresh,
			 char error[BROKER_ERROR_ROOM]);

/*
 * Makes the queues, listens, and serves clients on threads of its own. `cfg->lock` is its own from
 * now on.
 * @return NULL: `error` says why
 */
struct broker *broker_start(const struct broker_config *cfg, char error[BROKER_ERROR_ROOM]);

/* Have all counts written into the page, now. From any thread. */
void broker_show(struct broker *b);

/*
 * Takes over what may change while it runs, of a configuration that broker_config_merge() has
 * found good: quotas, drain_ms, windows, and queues that are new.
 * @return false: `error` says why, and nothing has changed
 */
bool broker_reload(struct broker *b, const struct broker_config *cfg,
		   char error[BROKER_ERROR_ROOM]);

/* In a process for queues: serve a client that gpuqd has let in, whose messages are of the class
 * `best` at most. From any thread. */
void broker_adopt(struct broker *b, int socket, uint64_t number, uint32_t best,
		  const struct gq_wire_hello *hello);

/* A reload in two steps, in such a process: all that can fail, and taking it over. */
struct fresh *broker_prepare(struct broker *b, const struct broker_config *cfg,
			     char error[BROKER_ERROR_ROOM]);
void broker_commit(struct broker *b, struct fresh *f);
void broker_abort(struct broker *b, struct fresh *f);

/* Begins to end it; broker_stop() does the rest, and waits only until broker_has_ended(). */
void broker_begin_stop(struct broker *b);
bool broker_has_ended(struct broker *b);

/*
 * Ends it: no client comes in any more, what is in a queue is waited for until drain_ms is over,
 * and what is not ends at the clients as not run.
 */
void broker_stop(struct broker *b);

/*
 * A process for some of the queues (child.c), which gpuqd has started with a socket to it at
 * LINK_FD. @return its exit code
 */
int child_main(void);

#endif /* GPUQ_BROKER_BROKER_H */
