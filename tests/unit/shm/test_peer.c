/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_peer.c - who uses a ring and whether it lives, and what follows for peers. Under random
 * deaths: stress/stress_peers.c.
 */
#include "support.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/ring/bind.h"
#include "host/ring/handles.h"
#include "host/ring/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

/* ---- processes ------------------------------------------------------------------------------- */

/* In a child process: a failed check ends it. */
#define check(condition)                                                                           \
	((condition) ? (void)0                                                                     \
		     : (fprintf(stderr, "%s:%d: %s; %s\n", __FILE__, __LINE__, #condition,         \
				q_last_error()),                                                   \
			_exit(1)))

enum { UNABLE = 77 };

static void *shared(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static int status_of(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) != pid)
		assert_int_equal(errno, EINTR);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

static pid_t start(void (*run)(void *), void *arg)
{
	pid_t pid = fork();

	if (pid == 0) {
		run(arg);
		_exit(0);
	}
	assert_true(pid > 0);
	return pid;
}

/* In namespaces of its own. With CLONE_NEWPID and CLONE_NEWNS it has its own /proc, too. */
struct apart {
	int flags;
	void (*run)(void *);
	void *arg;
};

static void run_apart(void *arg)
{
	const struct apart *a = arg;
	pid_t pid;
	int status;

	if (unshare(a->flags & ~CLONE_NEWNS) != 0)
		_exit(UNABLE);
	pid = fork();
	if (pid == 0) {
		if ((a->flags & CLONE_NEWNS) != 0 &&
		    (unshare(CLONE_NEWNS) != 0 ||
		     mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		     mount("proc", "/proc", "proc", 0, NULL) != 0))
			_exit(UNABLE);
		a->run(a->arg);
		_exit(0);
	}
	check(waitpid(pid, &status, 0) == pid);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void expect_apart(int flags, void (*run)(void *), void *arg)
{
	struct apart a = { .flags = flags, .run = run, .arg = arg };
	int status = status_of(start(run_apart, &a));

	if (status == UNABLE) {
		print_message("left out: namespaces need privileges (CAP_SYS_ADMIN)\n");
		skip();
	}
	assert_int_equal(status, 0);
}

/* ---- threads that stay for as long as they are let ------------------------------------------- */

struct stay {
	struct gq_ring_peer *peer; /* NULL: it uses `r` */
	RingQueue *r;
	QueueStatus status;
	int begun[2], end[2];
	pthread_t thread;
};

static uint64_t be(struct gq_ring_peer *peer)
{
	static uint64_t binding;
	uint64_t owner = gq__peer_owner(__atomic_fetch_add(&binding, 1, __ATOMIC_RELAXED));

	gq_store_release_u64(&peer->identity.owner, owner);
	gq__peer_describe(&peer->identity, owner);
	return owner;
}

static void *stay(void *arg)
{
	struct stay *s = arg;
	char c = 0;

	if (s->peer != NULL)
		be(s->peer);
	else
		s->status = q_ring_complete(s->r, 0, Q_OK, NULL, 0);
	return write(s->begun[1], &c, 1) == 1 && read(s->end[0], &c, 1) >= 0 ? arg : NULL;
}

static bool begin_stay(struct stay *s)
{
	char c;

	return pipe(s->begun) == 0 && pipe(s->end) == 0 &&
	       pthread_create(&s->thread, NULL, stay, s) == 0 && read(s->begun[0], &c, 1) == 1;
}

static bool end_stay(struct stay *s)
{
	void *ended = NULL;
	bool ok = write(s->end[1], "x", 1) == 1 && pthread_join(s->thread, &ended) == 0;

	for (int i = 0; i < 2; i++) {
		close(s->begun[i]);
		close(s->end[i]);
	}
	return ok && ended == s;
}

/* The kernel takes a moment to forget a thread that has been joined. */
static bool dies(struct gq_ring_peer *peer)
{
	for (int i = 0; i < 10000; i++) {
		if (gq__peer_life(&peer->identity, peer->identity.owner) == GQ_LIFE_DEAD)
			return true;
		nap_ms(1);
	}
	return false;
}

static enum gq_life life(struct gq_ring_peer *peer)
{
	return gq__peer_life(&peer->identity, peer->identity.owner);
}

/* ---- the judge ------------------------------------------------------------------------------- */

static void a_thread_is_alive_until_it_ends(void **state)
{
	struct gq_ring_peer peer = { 0 }, me = { 0 };
	struct stay s = { .peer = &peer };

	(void)state;
	be(&me);
	assert_true(begin_stay(&s));
	assert_int_not_equal(gq_owner_id(peer.identity.owner), gq_owner_id(me.identity.owner));
	assert_int_equal(gq_owner_namespace(peer.identity.owner), gq__peer_namespace());
	assert_int_equal(life(&peer), GQ_LIFE_ALIVE);
	assert_int_equal(life(&me), GQ_LIFE_ALIVE);
	assert_int_equal(gq__peer_life(NULL, peer.identity.owner), GQ_LIFE_ALIVE);
	assert_int_equal(gq__peer_life(&me.identity, peer.identity.owner),
			 GQ_LIFE_ALIVE); /* another's peer */
	assert_int_equal(gq__peer_life(&me.identity, 0), GQ_LIFE_DEAD);
	assert_true(end_stay(&s));
	assert_true(dies(&peer));
	assert_int_equal(gq__peer_life(NULL, peer.identity.owner), GQ_LIFE_DEAD);
}

static void each_binding_of_a_thread_has_a_word_of_its_own(void **state)
{
	struct gq_ring_peer a = { 0 }, b = { 0 };

	(void)state;
	be(&a);
	be(&b);
	assert_true(a.identity.owner != b.identity.owner);
	assert_int_equal(gq_owner_id(a.identity.owner), gq_owner_id(b.identity.owner));
}

/* What another thread would show that the kernel has given the id. */
static void an_id_used_again_is_not_its_first_owner(void **state)
{
	struct gq_ring_peer me = { 0 }, other;

	(void)state;
	be(&me);
	assert_true(me.identity.began >> GQ_OWNER_ID_BITS != 0);
	other = me;
	other.identity.began += UINT64_C(1) << GQ_OWNER_ID_BITS; /* started a tick later */
	assert_int_equal(life(&other), GQ_LIFE_DEAD);
	other.identity.described ^= UINT64_C(1) << 60; /* of another binding: not this one's */
	assert_int_equal(life(&other), GQ_LIFE_ALIVE);
	other = me;
	other.identity.began &= (UINT64_C(1) << GQ_OWNER_ID_BITS) - 1; /* it could not find out */
	assert_int_equal(life(&other), GQ_LIFE_ALIVE);
	other = me;
	other.identity.began += UINT64_C(1) << GQ_OWNER_ID_BITS;
	other.identity.place ^= 1; /* seen from another time namespace: not to be compared */
	assert_int_equal(life(&other), GQ_LIFE_ALIVE);
	other = me;
	other.identity.began ^= 1; /* a thread of another process */
	assert_int_equal(life(&other), GQ_LIFE_DEAD);
}

static void be_and_end(void *arg)
{
	be(arg);
}

static void a_process_is_dead_before_its_parent_has_heard_of_it(void **state)
{
	struct gq_ring_peer *peer = shared(4096);
	siginfo_t info;
	pid_t pid = start(be_and_end, peer);

	(void)state;
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(life(peer), GQ_LIFE_DEAD);
	gq__fault_set(1); /* no pidfd: /proc tells */
	assert_int_equal(life(peer), GQ_LIFE_DEAD);
	gq__fault_set(2); /* no /proc: the pidfd tells */
	assert_int_equal(life(peer), GQ_LIFE_DEAD);
	gq__fault_set(0);
	assert_int_equal(status_of(pid), 0);
	assert_int_equal(life(peer), GQ_LIFE_DEAD);
	munmap(peer, 4096);
}

struct stopped {
	struct gq_ring_peer *peer;
	int begun[2];
};

static void be_and_stay(void *arg)
{
	struct stopped *s = arg;

	be(s->peer);
	check(write(s->begun[1], "x", 1) == 1);
	for (;;)
		pause();
}

static void who_is_stopped_is_alive_and_who_was_killed_is_not(void **state)
{
	struct stopped s = { .peer = shared(4096) };
	pid_t pid;
	char c;

	(void)state;
	assert_int_equal(pipe(s.begun), 0);
	pid = start(be_and_stay, &s);
	assert_int_equal(read(s.begun[0], &c, 1), 1);
	assert_int_equal(kill(pid, SIGSTOP), 0);
	assert_int_equal(waitpid(pid, NULL, WUNTRACED), pid);
	for (unsigned fault = 0; fault < 6; fault++) { /* whatever cannot be asked */
		gq__fault_set(fault);
		assert_int_equal(life(s.peer), GQ_LIFE_ALIVE);
	}
	gq__fault_set(0);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(status_of(pid), 256 + SIGKILL);
	assert_int_equal(life(s.peer), GQ_LIFE_DEAD);
	close(s.begun[0]);
	close(s.begun[1]);
	munmap(s.peer, 4096);
}

static void judge_without_privileges(void *arg)
{
	struct gq_ring_peer *peer = arg;

	if (getuid() == 0 && setresuid(65534, 65534, 65534) != 0)
		_exit(UNABLE);
	check(life(peer) == GQ_LIFE_ALIVE); /* tgkill() says EPERM; /proc hides the stack */
	be(peer + 1);
	check(life(peer + 1) == GQ_LIFE_ALIVE);
}

static void who_belongs_to_another_user_is_alive(void **state)
{
	struct gq_ring_peer *peer = shared(4096);

	(void)state;
	be(peer);
	assert_int_equal(status_of(start(judge_without_privileges, peer)), 0);
	assert_int_equal(life(peer), GQ_LIFE_ALIVE);
	assert_true(dies(peer + 1));
	munmap(peer, 4096);
}

/* ---- execve ---------------------------------------------------------------------------------- */

struct replaced {
	struct gq_ring_peer *peer; /* [0] the leader's, [1] another thread's */
	bool by_leader;
	int gone[2]; /* closed by execve() */
};

static void become_another_program(void)
{
	execl("/bin/sleep", "sleep", "60", (char *)NULL);
	_exit(1);
}

static void *other_thread(void *arg)
{
	const struct replaced *e = arg;

	be(&e->peer[1]);
	check(write(e->gone[1], "x", 1) == 1);
	if (!e->by_leader)
		become_another_program();
	for (;;)
		pause();
}

static void use_and_become_another_program(void *arg)
{
	const struct replaced *e = arg;
	pthread_t thread;

	close(e->gone[0]);
	be(&e->peer[0]);
	check(pthread_create(&thread, NULL, other_thread, arg) == 0);
	while (gq_load_acquire_u64(&e->peer[1].identity.described) == 0)
		usleep(1000);
	if (e->by_leader)
		become_another_program();
	for (;;)
		pause();
}

static void the_threads_of_a_program_are_dead_after_execve(void **state)
{
	(void)state;
	if ((personality(0xffffffff) & ADDR_NO_RANDOMIZE) != 0) {
		print_message("left out: without address randomisation programs look alike\n");
		skip();
	}
	for (int by_leader = 0; by_leader < 2; by_leader++) {
		struct replaced e = { .peer = shared(4096), .by_leader = by_leader };
		pid_t pid;
		char c;

		assert_int_equal(pipe2(e.gone, O_CLOEXEC), 0);
		pid = start(use_and_become_another_program, &e);
		close(e.gone[1]);
		assert_int_equal(read(e.gone[0], &c, 1), 1);
		assert_int_equal(read(e.gone[0], &c, 1), 0); /* and gone */
		assert_true(dies(&e.peer[1]));
		assert_true(dies(&e.peer[0])); /* the leader's id is the new program's */
		assert_int_equal(kill(pid, SIGKILL), 0);
		status_of(pid);
		close(e.gone[0]);
		munmap(e.peer, 4096);
	}
}

/* ---- namespaces ------------------------------------------------------------------------------ */

static void judge_in_another_time(void *arg)
{
	struct gq_ring_peer *peer = arg; /* [0] the parent's */

	check(life(&peer[0]) == GQ_LIFE_ALIVE);
	be(&peer[1]);
	check(life(&peer[1]) == GQ_LIFE_ALIVE);
	gq_store_release_u64(&peer[2].op, 1); /* now the parent judges */
	while (gq_load_acquire_u64(&peer[2].op) == 1)
		usleep(1000);
}

static void other_time_then_judge(void *arg)
{
	static const char offset[] = "boottime 86400 0\n";
	pid_t pid;
	int status, fd;

	if (unshare(CLONE_NEWTIME) != 0)
		_exit(UNABLE);
	fd = open("/proc/self/timens_offsets", O_WRONLY);
	if (fd < 0 || write(fd, offset, sizeof(offset) - 1) != sizeof(offset) - 1)
		_exit(UNABLE);
	pid = fork();
	if (pid == 0) {
		judge_in_another_time(arg);
		_exit(0);
	}
	check(waitpid(pid, &status, 0) == pid);
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void who_lives_in_another_time_namespace_is_alive(void **state)
{
	struct gq_ring_peer *peer = shared(4096);
	pid_t pid;
	int status;

	(void)state;
	be(&peer[0]);
	pid = start(other_time_then_judge, peer);
	while (gq_load_acquire_u64(&peer[2].op) == 0) {
		if (waitpid(pid, &status, WNOHANG) == pid) {
			if (WIFEXITED(status) && WEXITSTATUS(status) == UNABLE) {
				print_message("left out: no time namespaces here\n");
				skip();
			}
			fail_msg("the child ended with %x", (unsigned)status);
		}
		nap_ms(1);
	}
	assert_int_equal(life(&peer[1]), GQ_LIFE_ALIVE);
	gq_store_release_u64(&peer[2].op, 2);
	assert_int_equal(status_of(pid), 0);
	assert_true(dies(&peer[1]));
	munmap(peer, 4096);
}

/* Under a /proc that shows other processes by their ids. */
static void judge_under_a_foreign_proc(void *arg)
{
	struct gq_ring_peer *peer = arg;
	struct stopped s = { .peer = &peer[1] };
	struct stay t = { .peer = &peer[2] };
	siginfo_t info;
	pid_t pid;
	char c;

	be(&peer[0]);
	check(life(&peer[0]) == GQ_LIFE_ALIVE);
	check(begin_stay(&t));
	check(life(t.peer) == GQ_LIFE_ALIVE);
	check(end_stay(&t));
	check(dies(t.peer));
	check(pipe(s.begun) == 0);
	pid = start(be_and_stay, &s);
	check(read(s.begun[0], &c, 1) == 1);
	check(kill(pid, SIGSTOP) == 0 && waitpid(pid, NULL, WUNTRACED) == pid);
	check(life(s.peer) == GQ_LIFE_ALIVE);
	check(kill(pid, SIGKILL) == 0);
	check(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
	check(life(s.peer) == GQ_LIFE_DEAD); /* by its pidfd: not yet reaped */
	check(waitpid(pid, NULL, 0) == pid);
	check(life(s.peer) == GQ_LIFE_DEAD);
}

static void a_proc_of_the_outer_namespace_deceives_nobody(void **state)
{
	struct gq_ring_peer *peer = shared(4096);

	(void)state;
	expect_apart(CLONE_NEWPID, judge_under_a_foreign_proc, peer);
	/* From here nobody in there can be judged; but what was found out there is known. */
	assert_int_equal(life(&peer[0]), GQ_LIFE_UNKNOWN);
	assert_int_equal(life(&peer[2]), GQ_LIFE_DEAD);
	peer[2].identity.owner ^= UINT64_C(1) << 60; /* of that binding only */
	assert_int_equal(life(&peer[2]), GQ_LIFE_UNKNOWN);
	munmap(peer, 4096);
}

static bool hide_proc(void)
{
	return unshare(CLONE_NEWNS) == 0 &&
	       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	       mount("none", "/proc", "tmpfs", 0, NULL) == 0;
}

static void *use_once(void *arg)
{
	struct stay *s = arg;

	s->status = q_ring_send(s->r, "x", 1, 0);
	if (s->status == Q_OK)
		s->status = q_ring_discard(s->r);
	return NULL;
}

/* @return the number of the first thread that is refused, from 1; 0: none. */
static int churn(RingQueue *r, int n)
{
	for (int i = 1; i <= n; i++) {
		struct stay s = { .r = r };

		if (pthread_create(&s.thread, NULL, use_once, &s) != 0 ||
		    pthread_join(s.thread, NULL) != 0 || s.status != Q_OK)
			return i;
	}
	return 0;
}

static void judge_without_proc(void *arg)
{
	struct gq_ring_peer *peer = arg;
	struct stay t = { .peer = &peer[1] };
	RingQueue *r;
	RingStats stats;

	if (!hide_proc())
		_exit(UNABLE);
	be(&peer[0]);
	check(gq_owner_namespace(peer[0].identity.owner) == 0);
	check(life(&peer[0]) == GQ_LIFE_UNKNOWN);
	check(begin_stay(&t));
	check(life(t.peer) == GQ_LIFE_UNKNOWN);
	check(end_stay(&t));
	check(life(t.peer) == GQ_LIFE_UNKNOWN);
	check(q_ring_create(NULL, NULL, 0, &r) == Q_OK);
	check(churn(r, 300) == 0);
	check(q_ring_stats(r, &stats) == Q_OK && stats.threads == 0 && stats.unjudged == 0);
	q_ring_destroy(r);
}

static void judge_after_proc_has_gone(void *arg)
{
	struct gq_ring_peer *peer = arg;
	struct stay t = { .peer = &peer[1] };

	check(gq__peer_namespace() != 0);
	if (!hide_proc())
		_exit(UNABLE);
	be(&peer[0]);
	check(gq_owner_namespace(peer[0].identity.owner) != 0);
	check(life(&peer[0]) == GQ_LIFE_ALIVE);
	check(begin_stay(&t));
	check(life(t.peer) == GQ_LIFE_ALIVE);
	check(end_stay(&t));
	check(dies(t.peer));
}

static void without_proc_nobody_is_dead_and_nobody_refused(void **state)
{
	struct gq_ring_peer *peer = shared(4096);
	void (*const run[])(void *) = { judge_without_proc, judge_after_proc_has_gone };

	(void)state;
	for (int i = 0; i < 2; i++) {
		int status = status_of(start(run[i], peer));

		if (status == UNABLE) {
			print_message("left out: mounting needs privileges (CAP_SYS_ADMIN)\n");
			skip();
		}
		assert_int_equal(status, 0);
	}
	munmap(peer, 4096);
}

static void use_descriptors_up(void *arg)
{
	struct gq_ring_peer *peer = arg;
	struct stay t = { .peer = &peer[1] };
	RingQueue *r;
	RingStats stats;
	int fd[1024], n = 0;
	char c = 0;

	check(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 512, 512 }) == 0);
	check(pipe(t.begun) == 0 && pipe(t.end) == 0);
	while (n < 1024 && (fd[n] = dup(0)) >= 0)
		n++;
	check(n < 1024);
	/* The first call of this process. */
	check(q_ring_create(NULL, NULL, 0, &r) == Q_OK && churn(r, 300) == 0);
	be(&peer[0]);
	check(gq_owner_namespace(peer[0].identity.owner) == gq__peer_namespace());
	check(life(&peer[0]) == GQ_LIFE_ALIVE);
	check(pthread_create(&t.thread, NULL, stay, &t) == 0 && read(t.begun[0], &c, 1) == 1);
	check(life(t.peer) == GQ_LIFE_ALIVE);
	check(write(t.end[1], &c, 1) == 1 && pthread_join(t.thread, NULL) == 0);
	check(dies(t.peer));
	check(q_ring_stats(r, &stats) == Q_OK && stats.threads == 0 && stats.unjudged == 0);
	while (n > 0)
		close(fd[--n]);
	check(life(&peer[0]) == GQ_LIFE_ALIVE); /* described without a start */
	q_ring_destroy(r);
}

static void used_up_descriptors_make_nobody_dead_nor_unknown(void **state)
{
	struct gq_ring_peer *peer = shared(4096);

	(void)state;
	assert_int_equal(status_of(start(use_descriptors_up, peer)), 0);
	munmap(peer, 4096);
}

/* ---- a liar's words -------------------------------------------------------------------------- */

static void nonsense_in_a_peer_is_no_harm(void **state)
{
	uint64_t x = 88172645463325252u;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		struct gq_ring_peer peer, me = { 0 };
		uint64_t words[sizeof(peer) / 8];

		for (size_t w = 0; w < sizeof(peer) / 8; w++) {
			x ^= x << 13, x ^= x >> 7, x ^= x << 17;
			words[w] = x % 3 == 0 ? 0 : x % 3 == 1 ? x : UINT64_MAX;
		}
		memcpy(&peer, words, sizeof(peer));
		if (i % 2 == 0)
			peer.identity.described = peer.identity.owner;
		(void)life(&peer);
		/* In our namespace, and so asked about. */
		peer.identity.owner =
			(peer.identity.owner & ((UINT64_C(1) << GQ_OWNER_ID_BITS) - 1)) |
			gq__peer_namespace() << GQ_OWNER_ID_BITS;
		(void)life(&peer);
		peer.identity.described = peer.identity.owner;
		(void)life(&peer);
		/* One's own word, with details that name another binding: they count for nothing */
		be(&me);
		peer.identity.owner = me.identity.owner;
		if (peer.identity.described != me.identity.owner)
			assert_int_equal(life(&peer), GQ_LIFE_ALIVE);
	}
}

/* ---- cancellation ---------------------------------------------------------------------------- */

static void *judge_while_cancelled(void *arg)
{
	struct stay *s = arg;
	struct gq_ring_peer peer = { 0 };

	pthread_cancel(pthread_self());
	be(&peer);
	s->status = Q_ERR_FAILED;
	if (life(&peer) == GQ_LIFE_ALIVE && gq__ring_bind(s->r) != NULL &&
	    gq__ring_count_unjudged(s->r) == 0)
		s->status = q_ring_send(s->r, "x", 1, 0);
	gq_store_release_u64(&s->peer->op, 1);
	pthread_testcancel();
	return NULL;
}

static void nothing_about_peers_is_a_cancellation_point(void **state)
{
	struct gq_ring_peer done = { 0 };
	struct stay s = { .peer = &done };
	void *ended;

	(void)state;
	assert_status(q_ring_create(NULL, NULL, 0, &s.r), Q_OK);
	assert_int_equal(pthread_create(&s.thread, NULL, judge_while_cancelled, &s), 0);
	assert_int_equal(pthread_join(s.thread, &ended), 0);
	assert_ptr_equal(ended, PTHREAD_CANCELED);
	assert_int_equal(done.op, 1);
	assert_status(s.status, Q_OK);
	q_ring_destroy(s.r);
}

/* ---- peers --------------------------------------------------------------------------------- */

static RingQueue *make_shared(uint32_t flags, void **memory, size_t *bytes)
{
	RingConfig cfg = { .ring_size = 4, .max_msg_size = 64, .flags = flags };
	RingQueue *r;

	*bytes = q_ring_required_memory(&cfg);
	*memory = shared(*bytes);
	assert_status(q_ring_create(&cfg, *memory, *bytes, &r), Q_OK);
	return r;
}

static RingStats stats_now(RingQueue *r)
{
	RingStats stats;

	assert_status(q_ring_stats(r, &stats), Q_OK);
	return stats;
}

static void a_handle_gives_its_peers_back(void **state)
{
	struct stay s[3] = { 0 };
	void *memory;
	size_t bytes;
	RingQueue *r = make_shared(0, &memory, &bytes), *second;

	(void)state;
	assert_status(q_ring_attach(memory, bytes, &second), Q_OK);
	assert_status(q_ring_discard(r), Q_ERR_EMPTY);
	for (int i = 0; i < 3; i++) {
		s[i].r = second;
		assert_true(begin_stay(&s[i]));
		assert_status(s[i].status, Q_OK);
	}
	assert_int_equal(stats_now(r).threads, 4);
	q_ring_destroy(second); /* its threads live on, in no call */
	assert_int_equal(stats_now(r).threads, 1);
	for (int i = 0; i < 3; i++)
		assert_true(end_stay(&s[i])); /* and have nothing more to give back */
	assert_int_equal(stats_now(r).threads, 1);
	q_ring_destroy(r);
	for (uint32_t i = 0; i < GQ_RING_PEERS; i++)
		assert_int_equal(((struct gq_ring_head *)memory)->peer[i].identity.owner, 0);
	munmap(memory, bytes);
}

static void who_is_inside_a_call_is_left_its_peer(void **state)
{
	void *memory;
	size_t bytes;
	RingQueue *r = make_shared(0, &memory, &bytes), *second;
	struct gq_ring_peer *peer;

	(void)state;
	assert_status(q_ring_attach(memory, bytes, &second), Q_OK);
	peer = gq_ring_peer_of(second);
	gq_store_release_u64(&peer->op, GQ_OP_SEND);
	q_ring_destroy(second);
	assert_int_equal(stats_now(r).threads, 1);
	gq_store_release_u64(&peer->op, GQ_OP_IDLE);
	q_ring_destroy(r);
	munmap(memory, bytes);
}

static void a_thread_may_end_after_its_ring(void **state)
{
	struct stay destroyed = { 0 }, unmapped = { 0 };
	void *memory[2];
	size_t bytes;

	(void)state;
	destroyed.r = make_shared(0, &memory[0], &bytes);
	unmapped.r = make_shared(0, &memory[1], &bytes);
	assert_true(begin_stay(&destroyed) && begin_stay(&unmapped));
	q_ring_destroy(destroyed.r);
	munmap(memory[0], bytes);
	munmap(memory[1], bytes); /* not as it should be; and yet */
	assert_true(end_stay(&destroyed) && end_stay(&unmapped));
	q_ring_destroy(unmapped.r);
}

static void a_child_gives_nothing_of_its_parents_back(void *arg)
{
	RingQueue *r = arg;

	check(q_ring_discard(r) == Q_ERR_UNSUPPORTED);
	exit(0); /* with all that comes at the end of a process */
}

static void a_child_may_destroy_its_parents_handle(void *arg)
{
	RingQueue *r = arg;
	struct stay s = { .r = r };

	check(q_ring_discard(r) == Q_ERR_UNSUPPORTED);
	check(pthread_create(&s.thread, NULL, use_once, &s) == 0);
	check(pthread_join(s.thread, NULL) == 0 && s.status == Q_ERR_UNSUPPORTED);
	q_ring_destroy(r);
	exit(0);
}

static void a_forked_child_leaves_the_peers_of_its_parent(void **state)
{
	void *memory;
	size_t bytes;
	RingQueue *r = make_shared(0, &memory, &bytes);
	struct gq_ring_peer *peer;

	(void)state;
	assert_status(q_ring_discard(r), Q_ERR_EMPTY);
	peer = gq_ring_peer_of(r);
	assert_int_equal(status_of(start(a_child_gives_nothing_of_its_parents_back, r)), 0);
	assert_int_equal(status_of(start(a_child_may_destroy_its_parents_handle, r)), 0);
	assert_int_equal(stats_now(r).threads, 1);
	assert_ptr_equal(gq_ring_peer_of(r), peer);
	assert_int_equal(gq__peer_life(&peer->identity, peer->identity.owner), GQ_LIFE_ALIVE);
	q_ring_destroy(r);
	munmap(memory, bytes);
}

struct visit {
	void *memory;
	size_t bytes;
	int how; /* 0: destroys its handle; 1: exit(); 2: _exit() */
};

static void visit(void *arg)
{
	const struct visit *v = arg;
	RingQueue *r;

	check(q_ring_attach(v->memory, v->bytes, &r) == Q_OK);
	check(q_ring_discard(r) == Q_ERR_EMPTY);
	if (v->how == 0)
		q_ring_destroy(r);
	if (v->how == 1)
		exit(0);
}

static void a_process_that_exits_gives_its_peer_back(void **state)
{
	struct visit v;
	RingQueue *r = make_shared(0, &v.memory, &v.bytes);

	(void)state;
	for (v.how = 0; v.how < 2; v.how++) {
		assert_int_equal(status_of(start(visit, &v)), 0);
		assert_int_equal(stats_now(r).threads, 0);
	}
	assert_int_equal(status_of(start(visit, &v)), 0);
	assert_int_equal(stats_now(r).threads, 1); /* _exit(): nobody knows until somebody looks */
	for (int i = 1; i < 40; i++)
		assert_int_equal(status_of(start(visit, &v)), 0);
	assert_int_equal(churn(r, GQ_RING_PEERS / 16), 0); /* each binding looks at sixteen */
	assert_int_equal(stats_now(r).threads, 0);
	q_ring_destroy(r);
	munmap(v.memory, v.bytes);
}

static void threads_that_live_are_256_and_those_that_died_do_not_count(void **state)
{
	static struct stay s[GQ_RING_PEERS];
	struct visit v = { .how = 2 };
	RingQueue *r = make_shared(0, &v.memory, &v.bytes);
	const int left = 10;

	(void)state;
	for (int i = 0; i < left; i++)
		assert_int_equal(status_of(start(visit, &v)), 0);
	assert_int_equal(stats_now(r).threads, left);
	for (uint32_t i = 0; i < GQ_RING_PEERS - 1; i++) {
		s[i].r = r;
		assert_true(begin_stay(&s[i]));
		assert_true(s[i].status == Q_OK || s[i].status == Q_ERR_FULL);
	}
	s[GQ_RING_PEERS - 1].r = r;
	assert_status(q_ring_discard(r), Q_ERR_EMPTY); /* the 256th */
	assert_int_equal(stats_now(r).threads, GQ_RING_PEERS);
	assert_true(begin_stay(&s[GQ_RING_PEERS - 1]));
	assert_status(s[GQ_RING_PEERS - 1].status, Q_ERR_LIMIT);
	assert_true(end_stay(&s[GQ_RING_PEERS - 1]));
	assert_true(end_stay(&s[100]));
	assert_true(begin_stay(&s[100])); /* there is room for one again */
	assert_true(s[100].status == Q_OK || s[100].status == Q_ERR_FULL);
	for (uint32_t i = 0; i < GQ_RING_PEERS - 1; i++)
		assert_true(end_stay(&s[i]));
	assert_int_equal(stats_now(r).threads, 1);
	q_ring_destroy(r);
	munmap(v.memory, v.bytes);
}

static void who_died_inside_a_call_is_not_taken_for_idle(void **state)
{
	struct visit v = { .how = 2 };
	RingQueue *r = make_shared(0, &v.memory, &v.bytes);
	struct gq_ring_head *head = v.memory;
	struct gq_ring_peer *peer = gq_ring_peer_of(r);
	uint64_t dead;
	bool repaired = false;

	(void)state;
	assert_int_equal(status_of(start(visit, &v)), 0);
	dead = head->peer[1].identity.owner;
	assert_int_not_equal(dead, 0);
	/* All others are of this thread, which lives. */
	for (uint32_t i = 2; i < GQ_RING_PEERS; i++)
		head->peer[i].identity.owner = peer->identity.owner;
	head->peer[1].op += GQ_OP_SEND;
	q_ring_destroy(r);
	assert_status(q_ring_attach(v.memory, v.bytes, &r), Q_OK);
	head->peer[0].identity.owner = head->peer[2].identity.owner; /* it was given back */
	/* Repaired first, then bound; not bound as it is. */
	for (int i = 0; i < 1000 && !repaired; i++) {
		repaired = gq__ring_bind(r) != NULL;
		if (!repaired) {
			assert_int_equal(head->peer[1].identity.owner, dead);
			assert_int_equal(head->peer[1].op & GQ_OP_MASK, GQ_OP_SEND);
			nap_ms(1);
		}
	}
	assert_true(repaired);
	assert_int_equal(stats_now(r).repairs, 1);
	assert_ptr_equal(gq_ring_peer_of(r), &head->peer[1]);
	q_ring_destroy(r);
	munmap(v.memory, v.bytes);
}

static void more_rings_than_a_thread_has_at_hand(void **state)
{
	enum { RINGS = 300 };
	static RingQueue *r[RINGS];
	static struct gq_ring_peer *peer[RINGS];

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < RINGS; i++) {
			assert_status(q_ring_create(NULL, NULL, 0, &r[i]), Q_OK);
			peer[i] = gq_ring_peer_of(r[i]);
			assert_non_null(peer[i]);
		}
		for (int i = 0; i < 4 * RINGS; i++) {
			assert_ptr_equal(gq_ring_peer_of(r[i * 7 % RINGS]), peer[i * 7 % RINGS]);
			assert_int_equal(stats_now(r[i % RINGS]).threads, 1);
		}
		for (int i = 0; i < RINGS; i++)
			q_ring_destroy(r[i]);
	}
}

static void without_memory_for_it_a_binding_is_made_anew(void **state)
{
	RingQueue *r[2 * GQ_RECENT];
	struct stay s;

	(void)state;
	for (int i = 0; i < 2 * GQ_RECENT; i++)
		assert_status(q_ring_create(NULL, NULL, 0, &r[i]), Q_OK);
	for (unsigned fault = 1; fault < 8; fault++) {
		for (int i = 0; i < 6 * GQ_RECENT; i++) {
			s = (struct stay){ .r = r[i % (2 * GQ_RECENT)] };
			gq__fault_set(fault);
			use_once(&s);
			gq__fault_set(0);
			assert_status(s.status, Q_OK);
			assert_int_equal(stats_now(s.r).threads, 1);
		}
	}
	for (int i = 0; i < 2 * GQ_RECENT; i++)
		q_ring_destroy(r[i]);
}

/* ---- peers that cannot be judged ------------------------------------------------------------- */

struct foreign {
	struct visit v;
	enum gq_op inside;
};

static void die_where_nobody_sees(void *arg)
{
	const struct foreign *f = arg;
	struct gq_ring_peer *peer;
	RingQueue *r;

	check(q_ring_attach(f->v.memory, f->v.bytes, &r) == Q_OK);
	peer = gq_ring_peer_of(r);
	check(peer != NULL);
	if (f->inside == GQ_OP_RECEIVE) { /* into memory that cannot be written */
		char *bad = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		size_t n = 4096;

		signal(SIGSEGV, SIG_DFL);
		if (fork() == 0) {
			RingQueue *mine;

			check(q_ring_attach(f->v.memory, f->v.bytes, &mine) == Q_OK);
			q_ring_recv(mine, bad, &n);
			_exit(0);
		}
		wait(NULL);
	}
}

static void a_peer_of_another_namespace_costs_one_peer_and_no_more(void **state)
{
	struct foreign f = { .v = { .how = 2 } };
	RingQueue *r = make_shared(0, &f.v.memory, &f.v.bytes);

	(void)state;
	expect_apart(CLONE_NEWPID | CLONE_NEWNS, die_where_nobody_sees, &f);
	assert_int_equal(stats_now(r).threads, 1);
	assert_int_equal(stats_now(r).unjudged, 1);
	assert_int_equal(churn(r, 600), 0);
	assert_int_equal(stats_now(r).unjudged, 1);
	/* And who dies here is still found out. */
	f.v.how = 2;
	for (int i = 0; i < 300; i++)
		assert_int_equal(status_of(start(visit, &f.v)), 0);
	assert_int_equal(churn(r, 5), 0);
	assert_status(q_ring_recover(r), Q_OK);
	assert_int_equal(stats_now(r).unjudged, 0);
	assert_int_equal(stats_now(r).threads, 0);
	q_ring_destroy(r);
	munmap(f.v.memory, f.v.bytes);
}

static void a_handle_given_back_in_another_namespace_leaves_nothing(void **state)
{
	struct visit v = { .how = 0 };
	RingQueue *r = make_shared(0, &v.memory, &v.bytes);

	(void)state;
	for (v.how = 0; v.how < 2; v.how++) {
		expect_apart(CLONE_NEWPID, visit, &v);
		assert_int_equal(stats_now(r).threads, 0);
	}
	q_ring_destroy(r);
	munmap(v.memory, v.bytes);
}

static void recovering_frees_what_the_dead_of_another_namespace_held(void **state)
{
	static const uint32_t modes[] = { 0, Q_RING_SINGLE };

	(void)state;
	for (int mode = 0; mode < 2; mode++) {
		struct foreign f = { .inside = GQ_OP_RECEIVE };
		struct stay s = { 0 };
		RingQueue *r = make_shared(modes[mode], &f.v.memory, &f.v.bytes);
		char buf[64];
		size_t n = sizeof(buf);

		for (int i = 0; i < 4; i++)
			assert_status(q_ring_send(r, &i, sizeof(i), 0), Q_OK);
		expect_apart(CLONE_NEWPID, die_where_nobody_sees, &f);
		assert_int_equal(stats_now(r).unjudged, 2);
		if (modes[mode] == Q_RING_SINGLE)
			assert_status(q_ring_recv(r, buf, &n), Q_ERR_POLICY);
		s.r = r; /* a thread of this process is not recovered from */
		assert_true(begin_stay(&s));
		assert_status(q_ring_recover(r), Q_OK);
		assert_int_equal(stats_now(r).unjudged, 0);
		assert_int_equal(stats_now(r).threads, 2);
		assert_int_equal(stats_now(r).repairs, 1);
		for (int i = modes[mode] == Q_RING_SINGLE ? 0 : 1; i < 4; i++) {
			int got;

			n = sizeof(buf);
			assert_status(q_ring_recv(r, buf, &n), Q_OK);
			memcpy(&got, buf, sizeof(got));
			assert_int_equal(got, i);
		}
		assert_int_equal(q_ring_available(r), 4);
		assert_true(end_stay(&s));
		assert_status(q_ring_recover(r), Q_OK); /* nothing left to do */
		assert_status(q_ring_close(r), Q_OK);
		n = sizeof(buf);
		assert_status(q_ring_recv_timeout(r, buf, &n, LONG_MS), Q_ERR_SHUTDOWN);
		q_ring_destroy(r);
		munmap(f.v.memory, f.v.bytes);
	}
	assert_status(q_ring_recover(NULL), Q_ERR_INVALID_ARG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_thread_is_alive_until_it_ends),
		cmocka_unit_test(each_binding_of_a_thread_has_a_word_of_its_own),
		cmocka_unit_test(an_id_used_again_is_not_its_first_owner),
		cmocka_unit_test(a_process_is_dead_before_its_parent_has_heard_of_it),
		cmocka_unit_test(who_is_stopped_is_alive_and_who_was_killed_is_not),
		cmocka_unit_test(who_belongs_to_another_user_is_alive),
		cmocka_unit_test(the_threads_of_a_program_are_dead_after_execve),
		cmocka_unit_test(who_lives_in_another_time_namespace_is_alive),
		cmocka_unit_test(a_proc_of_the_outer_namespace_deceives_nobody),
		cmocka_unit_test(without_proc_nobody_is_dead_and_nobody_refused),
		cmocka_unit_test(used_up_descriptors_make_nobody_dead_nor_unknown),
		cmocka_unit_test(nonsense_in_a_peer_is_no_harm),
		cmocka_unit_test(nothing_about_peers_is_a_cancellation_point),
		cmocka_unit_test(a_handle_gives_its_peers_back),
		cmocka_unit_test(who_is_inside_a_call_is_left_its_peer),
		cmocka_unit_test(a_thread_may_end_after_its_ring),
		cmocka_unit_test(a_forked_child_leaves_the_peers_of_its_parent),
		cmocka_unit_test(a_process_that_exits_gives_its_peer_back),
		cmocka_unit_test(threads_that_live_are_256_and_those_that_died_do_not_count),
		cmocka_unit_test(who_died_inside_a_call_is_not_taken_for_idle),
		cmocka_unit_test(more_rings_than_a_thread_has_at_hand),
		cmocka_unit_test(without_memory_for_it_a_binding_is_made_anew),
		cmocka_unit_test(a_peer_of_another_namespace_costs_one_peer_and_no_more),
		cmocka_unit_test(a_handle_given_back_in_another_namespace_leaves_nothing),
		cmocka_unit_test(recovering_frees_what_the_dead_of_another_namespace_held),
	};

	return cmocka_run_group_tests_name("peer", tests, NULL, NULL);
}
