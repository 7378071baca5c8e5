/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stress_kill.c - kill anything: clients of queues, callers and workers of services, gpuqd, and its
 * process for a queue, at random, under load and beside liars. Each process knows what became of
 * what it sent, by content (kill_roles.c). After each round gpuqd must hold what it held before the
 * first client: no descriptor, mapping or thread more.
 *
 *   stress_kill            80 seconds; 20 with GPUQ_TEST_SHORT: two minutes in scripts/test, whose
 *                          three builds run it
 *   stress_kill SECONDS    as long as that
 *   GPUQ_STRESS_SEED       the seed of the order of kills
 */
#include "daemon.h"
#include "kill_roles.h"
#include "support.h"

#include "device/protocol/atomics.h"
#include "host/base/clock.h"

#include <gpuq/broker.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILDREN = 13, ROUND_MS = 1500, CALM_MS = 60000 };

/* Who runs: a worker more than callers, so that something is done. */
static const enum role cast[CHILDREN] = { ROLE_CLIENT, ROLE_CLIENT, ROLE_CLIENT, ROLE_OWN,
					  ROLE_OWN,    ROLE_CALLER, ROLE_CALLER, ROLE_CALLER,
					  ROLE_WORKER, ROLE_WORKER, ROLE_WORKER, ROLE_WORKER,
					  ROLE_HOSTILE };
static const char *const role_name[ROLES] = { "client", "own", "caller", "worker", "hostile" };

static struct daemon d;
static struct daemon_held idle;
static struct board *board;
static int board_fd;
static pid_t pid_of[CHILDREN];
static uint64_t dice, seconds = 80;

/* Over all, for people. */
static struct {
	uint64_t kills[ROLES], process_kills, daemon_kills, daemon_ends, stops, rounds;
	uint64_t accepted, ended[ENDS], inside; /* inside: at the death of who asked */
} all;

static uint64_t roll(void) /* xorshift (Marsaglia, 2003) */
{
	dice ^= dice << 13;
	dice ^= dice >> 7;
	dice ^= dice << 17;
	return dice >> 11;
}

/* ---- children -------------------------------------------------------------------------------- */

static void start_child(unsigned i)
{
	char fd[16], role[16], index[16], seed[32];

	snprintf(fd, sizeof(fd), "%d", board_fd);
	snprintf(role, sizeof(role), "%d", (int)cast[i]);
	snprintf(index, sizeof(index), "%u", i);
	snprintf(seed, sizeof(seed), "%" PRIu64, roll());
	pid_of[i] = fork();
	assert_true(pid_of[i] >= 0);
	if (pid_of[i] != 0)
		return;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	execl("/proc/self/exe", "stress_kill", "role", fd, role, index, seed, d.folder,
	      (char *)NULL);
	_exit(127);
}

static int be_a_child(char **argv)
{
	char socket[64], services[64], endpoint[80], broker[80];
	struct role_args a = { .role = (enum role)atoi(argv[3]),
			       .index = (uint32_t)atoi(argv[4]),
			       .seed = strtoull(argv[5], NULL, 10),
			       .endpoint = endpoint,
			       .broker = broker,
			       .socket = socket,
			       .services = services };
	void *at = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[2]), 0);

	if (at == MAP_FAILED)
		return 2;
	a.board = at;
	snprintf(socket, sizeof(socket), "%s/s", argv[6]);
	snprintf(services, sizeof(services), "%s/v", argv[6]);
	snprintf(endpoint, sizeof(endpoint), "unix:%s", socket);
	snprintf(broker, sizeof(broker), "unix:%s", services);
	return role_run(&a);
}

/* What a child that has ended leaves on the board. */
static void add_up(unsigned i)
{
	const struct board_child *c = &board->child[i];
	uint64_t ended = 0;

	for (int k = 0; k < ENDS; k++) {
		all.ended[k] += c->ended[k];
		ended += c->ended[k];
	}
	all.accepted += c->accepted;
	all.inside += c->accepted - ended;
	memset(&board->child[i], 0, sizeof(board->child[i]));
}

static void check_board(void)
{
	if (gq_load_seq_cst_u32(&board->wrong_set) == 0)
		return;
	for (unsigned i = 0; board->wrong[0] == '\0' && i < 1000; i++)
		nap_ms(1);
	fail_msg("%s", board->wrong);
}

static void kill_child(unsigned i)
{
	int status;

	assert_int_equal(kill(pid_of[i], SIGKILL), 0);
	assert_int_equal(waitpid(pid_of[i], &status, 0), pid_of[i]);
	check_board();
	if (WIFEXITED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("a %s ended by itself, with status %#x", role_name[cast[i]],
			 (unsigned)status);
	all.kills[cast[i]]++;
	add_up(i);
}

/* It ends by itself, and all that it had has ended. */
static void await_child(unsigned i)
{
	int status = 0;

	for (unsigned ms = 0; waitpid(pid_of[i], &status, WNOHANG) == 0; ms++) {
		if (ms == 2 * CALM_MS)
			fail_msg("a %s hangs", role_name[cast[i]]);
		nap_ms(1);
	}
	check_board();
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("a %s ended with status %#x", role_name[cast[i]], (unsigned)status);
	add_up(i);
}

/* ---- what gpuqd counts ----------------------------------------------------------------------- */

static uint64_t count_of(const char *text, const char *name)
{
	const size_t n = strlen(name);
	const char *line = text;

	while (line != NULL && (strncmp(line, name, n) != 0 || line[n] != '\t')) {
		line = strchr(line, '\n');
		line = line != NULL ? line + 1 : NULL;
	}
	if (line == NULL) {
		fail_msg("gpuqd does not count '%s'", name);
		return 0;
	}
	return strtoull(line + n, NULL, 10);
}

static void read_counts(char text[2048])
{
	const BrokerConfig cfg = { .endpoint = d.broker, .timeout_ms = LONG_MS };
	BrokerClient *c = q_broker_connect(&cfg);
	size_t n = 2048;

	if (c == NULL)
		fail_msg("%s", q_last_error());
	assert_int_equal(q_broker_stats(c, text, &n), Q_OK);
	q_broker_close(c);
}

static void expect_conservation(void)
{
	char text[2048];
	uint64_t ends;

	read_counts(text);
	ends = count_of(text, "ok") + count_of(text, "failed") + count_of(text, "expired") +
	       count_of(text, "cancelled") + count_of(text, "lost") + count_of(text, "inside");
	if (count_of(text, "accepted") != ends)
		fail_msg("accepted is not the sum of the ends:\n%s", text);
}

/* Nobody is there any more: gpuqd holds nothing of theirs. */
static void expect_nothing_left(void)
{
	char text[2048];

	daemon_await_held(&d, &idle);
	for (unsigned i = 0;; i++) {
		read_counts(text);
		if (count_of(text, "inside") + count_of(text, "services") +
			    count_of(text, "waiting") ==
		    0)
			break;
		if (i == LONG_MS)
			fail_msg("something is left:\n%s", text);
		nap_ms(1);
	}
	daemon_await_held(&d, &idle);
	expect_conservation();
}

/* ---- rounds ---------------------------------------------------------------------------------- */

static void hit_somebody(void)
{
	const unsigned who = (unsigned)(roll() % CHILDREN);

	if (roll() % 8 != 0) {
		kill_child(who);
		start_child(who);
		return;
	}
	all.stops++;
	assert_int_equal(kill(pid_of[who], SIGSTOP), 0);
	nap_ms(1 + (unsigned)(roll() % 60));
	assert_int_equal(kill(pid_of[who], SIGCONT), 0);
}

/* How a round ends. */
static void kill_the_daemon(void)
{
	const bool gently = roll() % 2 == 0;
	const int status = daemon_end(&d, gently ? SIGTERM : SIGKILL);

	all.daemon_ends += gently;
	all.daemon_kills += !gently;
	if (gently)
		assert_int_equal(status, 0);
	nap_ms((unsigned)(roll() % 20));
	daemon_start(&d);
}

static void kill_all_clients(void)
{
	for (unsigned i = 0; i < CHILDREN; i++)
		kill_child(i);
	expect_nothing_left();
	for (unsigned i = 0; i < CHILDREN; i++)
		start_child(i);
}

static void let_all_end(void)
{
	gq_exchange_seq_cst_u32(&board->stop, 1);
	for (unsigned i = 0; i < CHILDREN; i++)
		await_child(i);
	expect_nothing_left();
	gq_exchange_seq_cst_u32(&board->stop, 0);
}

/* The one that has the queue of ROLE_CLIENT. If it has just ended there is none. */
static void kill_the_process(void)
{
	pid_t pid;

	if (daemon_processes(&d, &pid, 1) == 0 || kill(pid, SIGKILL) != 0)
		return;
	all.process_kills++;
}

static void hit_for_a_round(void)
{
	const uint64_t until_ns = gq__now_ns() + ROUND_MS * UINT64_C(1000000);
	/* Once a round: one that ends often waits longer each time. */
	uint64_t kill_ns = until_ns - roll() % (ROUND_MS * UINT64_C(1000000));

	while (gq__now_ns() < until_ns) {
		nap_ms(1 + (unsigned)(roll() % 60));
		hit_somebody();
		if (gq__now_ns() >= kill_ns) {
			kill_the_process();
			kill_ns = UINT64_MAX;
		}
		if (roll() % 8 == 0)
			expect_conservation();
	}
	all.rounds++;
}

static void say_what_became(void)
{
	print_message("%" PRIu64 " rounds; killed: %" PRIu64 " clients, %" PRIu64
		      " with a queue of their own, %" PRIu64 " callers, %" PRIu64
		      " workers, %" PRIu64 " liars, a process of gpuqd's %" PRIu64
		      " times, gpuqd %" PRIu64 " times; gpuqd told to end %" PRIu64
		      " times; stopped for a while: %" PRIu64 "\n",
		      all.rounds, all.kills[ROLE_CLIENT], all.kills[ROLE_OWN],
		      all.kills[ROLE_CALLER], all.kills[ROLE_WORKER], all.kills[ROLE_HOSTILE],
		      all.process_kills, all.daemon_kills, all.daemon_ends, all.stops);
	print_message(
		"accepted %" PRIu64 " = ok %" PRIu64 " + failed %" PRIu64 " + expired %" PRIu64
		" + cancelled %" PRIu64 " + lost %" PRIu64 " + inside when killed %" PRIu64 "\n",
		all.accepted, all.ended[END_OK], all.ended[END_FAILED], all.ended[END_EXPIRED],
		all.ended[END_CANCELLED], all.ended[END_LOST], all.inside);
}

static void se_7_whoever_is_killed_all_that_was_accepted_ends_once_and_nothing_stays(void **state)
{
	const uint64_t until_ns = gq__now_ns() + seconds * UINT64_C(1000000000);

	(void)state;
	for (unsigned i = 0; i < CHILDREN; i++)
		start_child(i);
	/* Each way to end a round once at least. */
	for (unsigned round = 0; round < 3 || gq__now_ns() < until_ns; round++) {
		hit_for_a_round();
		if (round % 3 == 0)
			kill_the_daemon();
		else if (round % 3 == 1)
			kill_all_clients();
		else
			let_all_end();
		for (unsigned i = 0; round % 3 == 2 && i < CHILDREN; i++)
			start_child(i);
	}
	let_all_end();
	say_what_became();
	assert_true(all.ended[END_OK] > 0);
	assert_true(all.process_kills > 0);
}

static int set_up(void **state)
{
	void *at;

	(void)state;
	board_fd = memfd_create("board", 0); /* children inherit it */
	assert_true(board_fd >= 0);
	assert_int_equal(ftruncate(board_fd, sizeof(*board)), 0);
	at = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, board_fd, 0);
	assert_true(at != MAP_FAILED);
	board = at;
	daemon_set_up(&d,
		      "uid_connections = 512\nuid_slots = 1048576\nuid_bytes = 1GiB\n"
		      "drain_ms = 1000\nuid_connect_rate = 0\n"
		      "[queue default]\nprocess = one\nprocessor = echo\ndevice = cpu\n"
		      "consumers = 1\n"
		      "slot_bytes = 256\nresult_bytes = 256\n"
		      "[queue own]\nper_client = yes\ndevice = cpu\nconsumers = 1\n",
		      "heartbeat_ms = 1000\nbreaker_open_ms = 50\nuid_connections = 512\n"
		      "keys = 200000\nkey_bytes = 1GiB\nkey_ttl_ms = 5s\ncache_ttl_ms = 1s\n"
		      "[op work]\ncache = user\nbatch = 8\nbatch_delay_us = 300\n"
		      "user_percent = 60\n"
		      "concurrency = vegas\nsessions = maglev\n");
	idle = daemon_held(&d);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (unsigned i = 0; i < CHILDREN; i++)
		if (pid_of[i] > 0)
			(void)kill(pid_of[i], SIGKILL);
	daemon_tear_down(&d);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			se_7_whoever_is_killed_all_that_was_accepted_ends_once_and_nothing_stays),
	};
	const char *seed = getenv("GPUQ_STRESS_SEED");

	if (argc == 7 && strcmp(argv[1], "role") == 0)
		return be_a_child(argv);
	if (getenv("GPUQ_TEST_SHORT") != NULL)
		seconds = 20;
	if (argc > 1)
		seconds = strtoull(argv[1], NULL, 10);
	dice = seed != NULL ? strtoull(seed, NULL, 10) : gq__now_ns();
	print_message("seed %" PRIu64 " (GPUQ_STRESS_SEED), %" PRIu64 " seconds\n", dice, seconds);
	dice |= 1;
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("kill", tests, set_up, tear_down);
}
