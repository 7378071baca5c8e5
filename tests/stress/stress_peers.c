/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stress_peers.c - peers of a ring that end at random, in several namespaces.
 *
 * usage: stress_peers [SEED [TRIALS]]
 *
 * Processes with several threads each send and receive in four places: this PID namespace; one of
 * its own with its own /proc; one of its own under the outer /proc; this one, in another time
 * namespace. A trial is one of them being killed, stopped for a while, replaced by execve(), or
 * told to leave, with or without giving back its handle; now and then a whole namespace goes. What
 * has to hold:
 *
 *  - nobody alive is taken for dead: after each call each thread finds its peer its own, and no
 *    message is torn (its bytes follow from its number);
 *  - each accepted message is received once, but for those in the hands of receivers that died, of
 *    which there are at most as many as died between the beginning of a receive and its entry in
 *    the ledger;
 *  - nobody is refused for want of a peer, and the ring is never damaged;
 *  - in the end, with q_ring_recover() for those whom nobody can judge, all entries and all peers
 *    are free.
 */
#include "stress.h"

#include "host/base/sanitize.h"
#include "host/ring/bind.h"
#include "host/ring/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#if GQ_ASAN
/* LeakSanitizer looks for the process in /proc, which is another namespace's for some peers. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return 1;
}
#endif

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

/* ThreadSanitizer does not see what another process has done between two threads of this one. */
enum { THREADS = GQ_TSAN ? 1 : 3 };
enum { PLACES = 4, PEERS = 3, NUMBERS = 4096, ROUND = 120, WORDS = 512, UNABLE = 77 };
enum place { HERE, APART, APART_OUTER_PROC, OTHER_TIME };
enum leave { STAY = 0, DESTROY, EXIT, EXIT_IN_CALLS, BECOME };

/* Numbers go on from one process to the next that has the slot. */
struct slot {
	uint32_t begun;  /* sends; atomic, like all here */
	uint32_t taking; /* inside a receive that is not in the ledger yet */
	uint32_t binding;
};

struct counts {
	uint32_t kills, dooms, stops, leaves, execs, in_calls, sent, received, excused, namespaces,
		repairs, reclaimed;
};

struct arena {
	uint32_t left;   /* trials */
	uint32_t failed; /* a process ended as it should not */
	uint32_t quit;
	bool mortal_receivers;
	RingConfig cfg;
	size_t ring_bytes;
	struct counts counts;
	uint32_t leave[PLACES][PEERS];
	struct slot slot[PLACES * PEERS * THREADS];
	uint8_t accepted[PLACES * PEERS * THREADS][NUMBERS];
	uint8_t received[PLACES * PEERS * THREADS][NUMBERS];
	GQ_ALIGNED(GQ_LINE) uint8_t ring[];
};

static struct arena *arena;
static RingQueue *ring; /* this process's */

/* ---- messages -------------------------------------------------------------------------------- */

static size_t length_of(uint64_t id)
{
	return 8 * (1 + mix64(id) % WORDS);
}

static size_t write_message(uint64_t id, uint64_t *to)
{
	const size_t n = length_of(id) / 8;

	to[0] = id;
	for (size_t i = 1; i < n; i++)
		to[i] = id * 0x9e3779b97f4a7c15u + i;
	return n * 8;
}

static void mark_received(const uint64_t *from, size_t len)
{
	const uint64_t id = from[0];
	const uint32_t slot = (uint32_t)(id >> 32), number = (uint32_t)id;

	must(len >= 8 && slot < PLACES * PEERS * THREADS && number < NUMBERS, "id %" PRIx64, id);
	must(len == length_of(id), "message %" PRIx64 " has %zu bytes", id, len);
	for (size_t i = 1; i < len / 8; i++)
		must(from[i] == id * 0x9e3779b97f4a7c15u + i, "word %zu of %" PRIx64 " is torn", i,
		     id);
	must(__atomic_fetch_add(&arena->received[slot][number], 1, __ATOMIC_RELAXED) == 0,
	     "message %" PRIx64 " came twice", id);
}

/* ---- standing still, and dying, inside a call ------------------------------------------------ */

enum { PAGE = 4096 };
enum plan { GO_ON, STALL, DIE };

/* A page, and one behind it that is out of reach when a call is to stop at it. */
static _Thread_local struct {
	uint8_t *page;
	enum plan plan;
	uint32_t stall_us;
} trap;

static void at_trap(int signal_number)
{
	(void)signal_number;
	if (trap.plan != STALL) {
		signal(SIGSEGV, SIG_DFL); /* and the call goes on into it */
		return;
	}
	stress_nap_us(trap.stall_us);
	mprotect(trap.page + PAGE, PAGE, PROT_READ | PROT_WRITE);
}

static void make_trap(void)
{
	trap.page =
		mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(trap.page != MAP_FAILED, "memory");
}

static void set_trap(struct rng *r)
{
	const uint32_t what = rng_below(r, 600);

	trap.plan = what < 2 ? DIE : what < 12 ? STALL : GO_ON;
	trap.stall_us = rng_below(r, 400000);
	if (trap.plan == GO_ON)
		return;
	if (trap.plan == DIE)
		bump(arena->counts.dooms, 1);
	mprotect(trap.page + PAGE, PAGE, PROT_NONE);
}

static void clear_trap(void)
{
	if (trap.plan != GO_ON)
		mprotect(trap.page + PAGE, PAGE, PROT_READ | PROT_WRITE);
}

/* ---- a peer's threads ------------------------------------------------------------------------ */

static bool transient(QueueStatus status)
{
	return status == Q_ERR_FULL || status == Q_ERR_EMPTY || status == Q_ERR_TIMEOUT;
}

static void expect_mine(struct gq_ring_peer *peer, uint64_t owner)
{
	must(gq_ring_peer_of(ring) == peer, "another peer");
	must(gq_load_acquire_u64(&peer->identity.owner) == owner,
	     "taken for dead while alive: %" PRIx64 " is %" PRIx64 " now", owner,
	     peer->identity.owner);
	must(gq__peer_life(&peer->identity, owner) == GQ_LIFE_ALIVE, "dead to itself");
}

static void send_one(struct rng *r, uint32_t index, struct slot *s)
{
	const uint32_t number = get(s->begun);
	const uint64_t id = (uint64_t)index << 32 | number;
	const size_t len = length_of(id);
	void *text = trap.page + PAGE - (len - 8); /* the last word is behind */
	QueueStatus status;

	if (number == NUMBERS)
		return;
	put(s->begun, number + 1);
	write_message(id, text);
	set_trap(r);
	status = q_ring_send_timeout(ring, text, len, 0, rng_below(r, 20));
	clear_trap();
	must(status == Q_OK || transient(status), "send: %s", q_last_error());
	if (status == Q_OK)
		put(arena->accepted[index][number], 1);
	else
		put(s->begun, number); /* nobody has it */
}

static void receive_one(struct rng *r, struct slot *s)
{
	void *text = trap.page + PAGE - 8; /* all but the first word goes behind */
	size_t len = PAGE;
	QueueStatus status;

	put(s->taking, 1);
	set_trap(r);
	status = q_ring_recv_timeout(ring, text, &len, rng_below(r, 20));
	clear_trap();
	must(status == Q_OK || transient(status), "receive: %s", q_last_error());
	if (status == Q_OK)
		mark_received(text, len);
	put(s->taking, 0);
}

static void *look_once(void *arg)
{
	RingMessage m;
	QueueStatus status = q_ring_peek(ring, &m);

	must(status == Q_OK || transient(status), "peek: %s", q_last_error());
	return arg;
}

/* The machine may have no thread to spare for a moment. */
static void start_thread(pthread_t *thread, void *(*run)(void *), void *arg)
{
	int rc, tries = 0;

	while ((rc = pthread_create(thread, NULL, run, arg)) == EAGAIN && ++tries < 10000)
		stress_nap_us(1000);
	must(rc == 0, "thread: %s", strerror(rc));
}

struct thread {
	pthread_t id;
	uint32_t index;
	const uint32_t *leave;
};

static void *use(void *arg)
{
	const struct thread *t = arg;
	struct slot *s = &arena->slot[t->index];
	struct rng r = rng_of((uint64_t)getpid() << 32 | t->index << 16 | bump(s->binding, 1));
	struct gq_ring_peer *peer = gq_ring_peer_of(ring);
	uint64_t owner;

	make_trap();
	must(peer != NULL, "%s", q_last_error());
	owner = gq_load_acquire_u64(&peer->identity.owner);
	while (get(*t->leave) == STAY || get(*t->leave) == EXIT_IN_CALLS) {
		if (arena->mortal_receivers && rng_one_in(&r, 2))
			receive_one(&r, s);
		else
			send_one(&r, t->index, s);
		expect_mine(peer, owner);
		if (rng_one_in(&r, 50)) {
			pthread_t short_lived;

			start_thread(&short_lived, look_once, NULL);
			pthread_join(short_lived, NULL);
		}
	}
	if (get(*t->leave) == BECOME)
		execl("/bin/true", "true", (char *)NULL);
	return NULL;
}

static void be_peer(enum place place, uint32_t peer)
{
	struct thread thread[THREADS];
	const uint32_t *leave = &arena->leave[place][peer];

	signal(SIGSEGV, at_trap);
	must_be(Q_OK, q_ring_attach(arena->ring, arena->ring_bytes, &ring));
	for (uint32_t i = 0; i < THREADS; i++) {
		thread[i].index = ((uint32_t)place * PEERS + peer) * THREADS + i;
		thread[i].leave = leave;
		start_thread(&thread[i].id, use, &thread[i]);
	}
	while (get(*leave) == STAY)
		stress_nap_us(500);
	if (get(*leave) == EXIT_IN_CALLS)
		_exit(0);
	for (uint32_t i = 0; i < THREADS; i++)
		pthread_join(thread[i].id, NULL);
	if (get(*leave) == DESTROY)
		q_ring_destroy(ring);
	else
		exit(0);
	_exit(0);
}

/* ---- who makes them end ---------------------------------------------------------------------- */

static pid_t start_peer(enum place place, uint32_t peer)
{
	pid_t pid;

	put(arena->leave[place][peer], STAY);
	pid = fork();
	must(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		be_peer(place, peer);
	}
	return pid;
}

/* What a dead peer had in its hands may be lost. */
static void excuse(enum place place, uint32_t peer)
{
	for (uint32_t i = 0; i < THREADS; i++) {
		struct slot *s = &arena->slot[((uint32_t)place * PEERS + peer) * THREADS + i];

		bump(arena->counts.excused, get(s->taking));
		put(s->taking, 0);
	}
}

static void reap(pid_t pid, enum place place, uint32_t peer)
{
	int status;

	while (waitpid(pid, &status, 0) != pid)
		must(errno == EINTR, "waitpid: %s", strerror(errno));
	/* SIGSEGV: inside a call, as it was doomed to. */
	if (WIFSIGNALED(status) ? WTERMSIG(status) != SIGKILL && WTERMSIG(status) != SIGSEGV
				: WEXITSTATUS(status) != 0) {
		fprintf(stderr, "a peer of place %d ended with %x\n", place, (unsigned)status);
		put(arena->failed, 1);
	}
	excuse(place, peer);
}

static void trial(struct rng *r, enum place place, uint32_t peer, pid_t *pid)
{
	const uint32_t what = rng_below(r, 10);

	stress_nap_us(rng_below(r, 20000));
	if (what < 5) {
		bump(arena->counts.kills, 1);
		kill(*pid, SIGKILL);
		if (rng_one_in(r, 3)) /* a zombie for a while */
			stress_nap_us(rng_below(r, 300000));
		reap(*pid, place, peer);
	} else if (what < 7) {
		bump(arena->counts.stops, 1);
		kill(*pid, SIGSTOP);
		stress_nap_us(rng_below(r, 400000));
		kill(*pid, SIGCONT);
		return;
	} else {
		enum leave leave = (enum leave)(DESTROY + rng_below(r, 4));

		bump(arena->counts.leaves, leave == DESTROY || leave == EXIT);
		bump(arena->counts.execs, leave == BECOME);
		bump(arena->counts.in_calls, leave == EXIT_IN_CALLS);
		put(arena->leave[place][peer], leave);
		reap(*pid, place, peer);
	}
	*pid = start_peer(place, peer);
}

static void nurse(enum place place, uint64_t stream)
{
	struct rng r = rng_of(stream);
	pid_t pid[PEERS];

	for (uint32_t i = 0; i < PEERS; i++)
		pid[i] = start_peer(place, i);
	for (;;) {
		uint32_t left = get(arena->left);

		if (left == 0 || get(arena->failed))
			break;
		if (__atomic_compare_exchange_n(&arena->left, &left, left - 1, false,
						__ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
			uint32_t peer = rng_below(&r, PEERS);

			trial(&r, place, peer, &pid[peer]);
		}
	}
	if (place == APART && rng_one_in(&r, 2)) { /* and with this one its namespace */
		bump(arena->counts.namespaces, 1);
		_exit(0);
	}
	for (uint32_t i = 0; i < PEERS; i++) {
		put(arena->leave[place][i], (uint32_t)(DESTROY + rng_below(&r, 3)));
		reap(pid[i], place, i);
	}
	_exit(0);
}

static bool set_clock_offset(void)
{
	static const char offset[] = "boottime 86400 0\n";
	int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, offset, sizeof(offset) - 1) == sizeof(offset) - 1;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* A process of the place, and of it the one that nurses. @return the former. */
static pid_t open_place(enum place place, uint64_t stream)
{
	pid_t pid = fork(), inner;
	int status;

	must(pid >= 0, "fork: %s", strerror(errno));
	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (place == HERE)
		nurse(place, stream);
	if (unshare(place == OTHER_TIME ? CLONE_NEWTIME : CLONE_NEWPID) != 0 ||
	    (place == OTHER_TIME && !set_clock_offset()))
		_exit(UNABLE);
	inner = fork();
	must(inner >= 0, "fork: %s", strerror(errno));
	if (inner == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (place == APART && (unshare(CLONE_NEWNS) != 0 ||
				       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
				       mount("proc", "/proc", "proc", 0, NULL) != 0))
			_exit(UNABLE);
		nurse(place, stream);
	}
	while (waitpid(inner, &status, 0) != inner)
		;
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

/* ---- a round --------------------------------------------------------------------------------- */

static bool receive_here(uint32_t timeout_ms)
{
	uint64_t text[WORDS];
	size_t len = sizeof(text);
	QueueStatus status = q_ring_recv_timeout(ring, text, &len, timeout_ms);

	must(status == Q_OK || transient(status), "receive: %s", q_last_error());
	if (status == Q_OK)
		mark_received(text, len);
	return status == Q_OK;
}

/* Runs in a process of its own. */
static int run_round(uint64_t round)
{
	struct rng r = rng_of(round);
	pid_t pid[PLACES];
	uint32_t running = PLACES, missing = 0;
	RingStats stats;
	bool unable = false;

	arena->cfg = (RingConfig){ .ring_size = 1u << rng_below(&r, 6), .max_msg_size = WORDS * 8 };
	arena->mortal_receivers = rng_one_in(&r, 2);
	must(q_ring_required_memory(&arena->cfg) <= arena->ring_bytes, "room");
	must_be(Q_OK, q_ring_create(&arena->cfg, arena->ring, arena->ring_bytes, &ring));
	for (uint32_t place = 0; place < PLACES; place++)
		pid[place] = open_place((enum place)place, round * PLACES + place + 1000000);
	while (running != 0) {
		int status;
		pid_t ended;

		receive_here(rng_below(&r, 3));
		ended = waitpid(-1, &status, WNOHANG);
		if (ended <= 0)
			continue;
		running--;
		unable |= WIFEXITED(status) && WEXITSTATUS(status) == UNABLE;
		if (!WIFEXITED(status) ||
		    (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != UNABLE)) {
			fprintf(stderr, "a place ended with %x\n", (unsigned)status);
			put(arena->failed, 1);
		}
		if (unable)
			put(arena->left, 0);
	}
	(void)pid;
	for (uint32_t place = 0; place < PLACES; place++)
		for (uint32_t peer = 0; peer < PEERS; peer++)
			excuse((enum place)place, peer);
	if (unable)
		return UNABLE;
	if (get(arena->failed))
		return 1;
	must_be(Q_OK, q_ring_recover(ring));
	while (receive_here(0))
		;
	must_be(Q_OK, q_ring_stats(ring, &stats));
	must(q_ring_available(ring) == arena->cfg.ring_size, "%" PRIu32 " of %" PRIu32 " entries",
	     q_ring_available(ring), arena->cfg.ring_size);
	must(stats.threads == 1 && stats.unjudged == 0, "%" PRIu32 " peers, %" PRIu32 " unjudged",
	     stats.threads, stats.unjudged);
	for (uint32_t slot = 0; slot < PLACES * PEERS * THREADS; slot++) {
		for (uint32_t n = 0; n < NUMBERS; n++) {
			must(arena->received[slot][n] == 0 || n < arena->slot[slot].begun,
			     "message %" PRIu32 " of %" PRIu32 " was never sent", n, slot);
			missing += arena->accepted[slot][n] != 0 && arena->received[slot][n] == 0;
			arena->counts.sent += arena->accepted[slot][n];
			arena->counts.received += arena->received[slot][n];
		}
	}
	must(missing <= arena->counts.excused,
	     "%" PRIu32 " accepted messages were lost; dead receivers had at most %" PRIu32,
	     missing, arena->counts.excused);
	arena->counts.repairs = (uint32_t)stats.repairs;
	arena->counts.reclaimed = (uint32_t)stats.reclaimed;
	q_ring_destroy(ring);
	return 0;
}

/* @return its exit status. */
static int try_round(uint64_t round, uint32_t trials)
{
	int status;
	pid_t pid;

	memset(arena, 0, offsetof(struct arena, ring));
	arena->left = trials;
	arena->ring_bytes = 1u << 20;
	pid = fork();
	must(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		alarm(600); /* a guard against hangs */
		_exit(run_round(round));
	}
	while (waitpid(pid, &status, 0) != pid)
		must(errno == EINTR, "waitpid: %s", strerror(errno));
	if (WIFEXITED(status) && WEXITSTATUS(status) != 1)
		return WEXITSTATUS(status);
	fprintf(stderr, "round %" PRIu64 " ended with %x; ring of %" PRIu32 ", seed %" PRIu64 "\n",
		round, (unsigned)status, arena->cfg.ring_size, stress_seed);
	return 1;
}

int main(int argc, char **argv)
{
#if GQ_TSAN || GQ_ASAN
	uint32_t trials = 240;
#else
	uint32_t trials = 600;
#endif
	struct counts all = { 0 };
	const char *seed = argc > 1 ? argv[1] : getenv("GPUQ_STRESS_SEED");
	uint32_t done = 0;

	stress_seed = seed != NULL && seed[0] != '\0' ? strtoull(seed, NULL, 0)
						      : gq__now_ns() ^ (uint64_t)getpid() << 32;
	if (argc > 2)
		trials = (uint32_t)strtoul(argv[2], NULL, 0);
	fprintf(stderr, "seed %" PRIu64 ", %" PRIu32 " trials\n", stress_seed, trials);
	arena = mmap(NULL, sizeof(*arena) + (1u << 20), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(arena != MAP_FAILED, "memory");
	for (uint64_t round = 0; done < trials; round++) {
		const uint32_t n = trials - done < ROUND ? trials - done : ROUND;
		const int status = try_round(round, n);

		if (status == UNABLE) {
			puts("skipped: PID and time namespaces need CAP_SYS_ADMIN and a kernel "
			     "that has them");
			return 77;
		}
		if (status != 0)
			return 1;
		done += n;
		for (size_t i = 0; i < sizeof(all) / sizeof(uint32_t); i++)
			((uint32_t *)&all)[i] += ((const uint32_t *)&arena->counts)[i];
	}
	printf("%" PRIu32 " trials: %" PRIu32 " killed, %" PRIu32 " died inside calls, %" PRIu32
	       " stopped, %" PRIu32 " left, %" PRIu32 " replaced by execve, %" PRIu32
	       " exited during calls, %" PRIu32 " namespaces gone\n",
	       done, all.kills, all.dooms, all.stops, all.leaves, all.execs, all.in_calls,
	       all.namespaces);
	printf("%" PRIu32 " messages accepted, %" PRIu32 " received; at most %" PRIu32
	       " in the hands of receivers that died; %" PRIu32 " repairs, %" PRIu32
	       " entries reclaimed\n",
	       all.sent, all.received, all.excused, all.repairs, all.reclaimed);
	must(trials < 500 || (all.repairs != 0 && all.kills != 0), "nobody died inside a call");
	return 0;
}
