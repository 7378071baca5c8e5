/* SPDX-License-Identifier: Apache-2.0 */
/*
 * page.h - the page of counts that gpuqd keeps in shared memory. It can be read without asking
 * gpuqd for anything, so also when that hangs or has died.
 *
 * The page has sections; each is written by one thread of gpuqd, and read by anybody. A section is
 * a number and two copies of a struct. Version n lies in copy n % 2: the writer fills the other
 * copy and then raises the number. So there is a whole copy to read at every moment, wherever a
 * writer has stopped; and who has read while the number stayed the same has read one version.
 */
#ifndef GPUQ_BROKER_PAGE_H
#define GPUQ_BROKER_PAGE_H

#include "program/histogram.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PAGE_VERSION = 10, /* of what is in it: a reader knows one */
	PAGE_QUEUES = 32,
	PAGE_PROCESSES = 32,
	PAGE_ERRORS = 16, /* different ones that are kept */
	PAGE_ERROR_TEXT = 200,
	PAGE_SERVICES = 100,
	PAGE_CLIENTS = 64, /* of one queue, by name; the counts are of all */
	PAGE_CLASSES = 4,
	PAGE_NAME = 64,
	PAGE_PATH = 112,
	PAGE_TEXT = 600,
	PAGE_ERROR = 600, /* room for what is wrong */
};

enum page_state { PAGE_STARTS, PAGE_SERVES, PAGE_DRAINS, PAGE_STATES };

/* How a message, or a request, has ended. */
enum page_outcome {
	PAGE_OK,
	PAGE_FAILED,
	PAGE_EXPIRED,
	PAGE_CANCELLED,
	PAGE_LOST, /* its client left before it had ended; of a service: it may have run */
	PAGE_OUTCOMES
};

/* Why a client's connection was refused. */
enum page_refusal {
	PAGE_REFUSED_LIMIT,       /* of its user, or of memory */
	PAGE_REFUSED_NOT_FOUND,   /* no such queue */
	PAGE_REFUSED_UNSUPPORTED, /* another processor, another version, ... */
	PAGE_REFUSED_POLICY,
	PAGE_REFUSED_INVALID, /* nonsense */
	PAGE_REFUSED_RATE,    /* its user connects too often */
	PAGE_REFUSALS
};

/* ---- the sections: all times are CLOCK_MONOTONIC, in ns ----------------------------------------
 */

/* By the main thread, every interval_ns. */
struct page_daemon {
	char version[PAGE_NAME];
	char socket[PAGE_PATH], services[PAGE_PATH], config[PAGE_TEXT]; /* "": none */
	uint64_t pid, state, queues; /* queues: sections in use */
	uint64_t started_ns, turned_ns, interval_ns;
	uint64_t queues_ended, services_ended; /* 0 or 1: their threads have, as it drains */
	uint64_t reloads, reloads_failed;
	char reload_error[PAGE_TEXT]; /* of the last one; "": it was good */
};

enum page_process_state {
	PAGE_PROCESS_STARTS,
	PAGE_PROCESS_SERVES,
	PAGE_PROCESS_DOWN, /* it has ended, and is started again after a while */
	PAGE_PROCESS_STATES
};

/* A process of gpuqd's that has some of the queues. */
struct page_process {
	char name[PAGE_NAME];
	char why[PAGE_TEXT];   /* it ended the last time; "": it never has */
	uint64_t pid, state;   /* pid 0: there is none now */
	uint64_t since_ns;     /* it has been in this state */
	uint64_t starts, ends; /* ends: but those that gpuqd asked for */
};

/* Something went wrong, perhaps many times: a line that is the same each time. */
struct page_error {
	char text[PAGE_ERROR_TEXT];
	uint64_t times; /* 0: none */
	uint64_t first_ns, last_ns;
};

struct page_errors {
	uint64_t times; /* ever */
	struct page_error error[PAGE_ERRORS];
};

/* One more of that text; if there are too many different ones it takes the place of the one that
 * was seen longest ago. */
void page_error(struct page_errors *e, const char *text, uint64_t now_ns);

/* By the thread that has all connections to queues. */
struct page_clients {
	uint64_t turned_ns;
	uint64_t connections;      /* now */
	uint64_t connections_ever; /* accepted */
	uint64_t bytes, slots;     /* shared with them */
	uint64_t refused[PAGE_REFUSALS];
	uint64_t broken; /* ended because the client broke the protocol */
	uint64_t lost;   /* ended because its queue failed */
	uint64_t silent; /* ended because the client did not say what it wanted */
	uint64_t accept_failures;
	uint64_t processes;
	struct page_process process[PAGE_PROCESSES];
	struct page_errors errors;
};

struct page_client {
	uint64_t pid, uid;
	uint64_t accepted, ended, inside; /* messages; inside: accepted and not ended */
};

/*
 * By the queue's dispatcher; of one with a queue for each client, by the thread above of its
 * process. While its process is down, by that thread of gpuqd itself.
 */
struct page_queue {
	char name[PAGE_NAME], processor[PAGE_NAME];
	char process[PAGE_NAME]; /* "": gpuqd itself */
	uint64_t turned_ns;
	uint64_t per_client, failed; /* 0 or 1 */
	uint64_t capacity, window, slot_bytes, result_bytes;
	uint64_t clients, clients_ever;
	uint64_t accepted[PAGE_CLASSES]; /* 0: low, 3: urgent */
	uint64_t ended[PAGE_CLASSES][PAGE_OUTCOMES];
	uint64_t inside[PAGE_CLASSES]; /* counted one by one: accepted = ended + inside */
	uint64_t running;              /* of those inside, in the queue of gpuqd */
	uint64_t bytes_in, bytes_out;
	uint64_t seconds_ns, seconds_max_ns; /* from the claim to the completion: sum, most */
	uint64_t seconds[HISTOGRAM_BUCKETS]; /* the same in ns, by histogram_bucket() */
	struct page_client client[PAGE_CLIENTS];
};

struct page_service {
	char name[PAGE_NAME + 8], op[PAGE_NAME + 8];
	char state[16], health[16], breaker[16];
	uint64_t breaker_changes, active, capacity, limit, done, faults;
	uint64_t heard_ns; /* its last heartbeat; 0: none yet */
};

/* By the router. */
struct page_services {
	uint64_t turned_ns;
	uint64_t connections, connections_ever, users, services;
	uint64_t connections_refused;   /* there were too many, of the user or of all */
	uint64_t connections_too_often; /* refused because of the user's rate */
	uint64_t accepted, ended[PAGE_OUTCOMES];
	uint64_t inside;                /* counted one by one */
	uint64_t waiting[PAGE_CLASSES]; /* 0: critical, 3: low */
	uint64_t held;                  /* of them: their users have their share at work */
	uint64_t running, late, level;
	uint64_t refused, retried, answers_late, orphans;
	uint64_t batches, batched;   /* that gpuqd has made of requests; requests in them */
	uint64_t bad_frames, forged; /* no good; of another peer than they say */
	/* Requests that asked the cache, and answers that are in it. */
	uint64_t cache_hits, cache_misses, cache_joined, cache_evicted, cache_answers, cache_bytes;
	uint64_t denied, rate_limited; /* by tokens: connections, requests, registrations */
	/* Keys of idempotency: requests that had their first one's answer, or asked for something
	 * else; those that are remembered. */
	uint64_t key_repeats, key_conflicts, keys, key_bytes;
	uint64_t seconds_ns, seconds_max_ns;
	uint64_t seconds[HISTOGRAM_BUCKETS];
	struct page_service service[PAGE_SERVICES];
	struct page_errors errors;
};

enum page_section { PAGE_DAEMON, PAGE_CLIENTS_OF_QUEUES, PAGE_SERVICES_ALL, PAGE_QUEUE };

struct page;

/* ---- writing -----------------------------------------------------------------------------------
 */

/*
 * A page in a file at `path`, in place of one that was left there; NULL: in no file, and sealed, so
 * that nobody who has it can cut it. It is locked
 * as long as this process lives, by which a reader knows, and another that would take its place.
 * @param also  a second name of it, or NULL; on another file system it does not get that name
 * @param mode  permissions of the file
 * @return NULL: `error` says why
 */
struct page *page_create(const char *path, const char *also, uint32_t mode, char error[PAGE_ERROR]);

/* Whether it has got its second name. */
bool page_has_both_names(const struct page *p);

/* The next version of a section: `from` is its struct. By the section's one thread. `p` NULL: does
 * nothing. */
void page_write(struct page *p, enum page_section section, uint32_t index, const void *from);

/* How many versions of a section there have been. From any thread. */
uint64_t page_versions(const struct page *p, enum page_section section, uint32_t index);

/* A descriptor by which another process can page_adopt() it: it knows nothing of the lock.
 * @return -1, with errno */
int page_share(const struct page *p);

/* A page of another process, to write sections of it. `fd` is closed. @return NULL: with errno */
struct page *page_adopt(int fd);

/* Removes the file. */
void page_destroy(struct page *p);

/* ---- reading -----------------------------------------------------------------------------------
 */

/* Where the page of the gpuqd at a socket is. @return false: the path is too long */
bool page_path_of(const char *socket, char *to, size_t room);

/* @return NULL: `error` says why */
struct page *page_open(const char *path, char error[PAGE_ERROR]);

/* A whole version of a section. @return false: there has been none, or the writer is too fast */
bool page_read(const struct page *p, enum page_section section, uint32_t index, void *to);

/* All sections, each of its own moment; what is not there is zeros, and `has_` says so. A queue
 * whose section has not been written yet is left out. */
struct page_view {
	struct page_daemon daemon;
	struct page_clients clients;
	struct page_services services;
	struct page_queue queue[PAGE_QUEUES]; /* daemon.queues of them */
	bool has_clients, has_services;
};

/*
 * Whoever wrote it may lie: numbers that count sections are in their range, and texts end, have no
 * control characters, and are UTF-8. Else there is '?'.
 * @return false: gpuqd has written nothing yet
 */
bool page_view(const struct page *p, struct page_view *to);

/* Of messages, or requests: how many have ended, in one way or another. */
uint64_t page_ended(const uint64_t ended[PAGE_OUTCOMES]);
uint64_t page_sum(const uint64_t of_class[PAGE_CLASSES]);
extern const char *const page_outcome_names[PAGE_OUTCOMES];
extern const char *const page_state_names[PAGE_STATES];
extern const char *const page_process_state_names[PAGE_PROCESS_STATES];

/* The user whose file it is. @return false: it cannot be known */
bool page_owner(const struct page *p, uint32_t *uid);

/* Whether the gpuqd that made it still has it. */
bool page_is_kept(const struct page *p);

void page_close(struct page *p);

#endif /* GPUQ_BROKER_PAGE_H */
