/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_broker_bells.c - clients whose bells bring nothing: a dispatcher of this process, and
 * clients in memory of the test's own, without gpuqd's reactor.
 */
#include "ends.h"
#include "support.h"

#include "broker/dispatcher.h"
#include "host/base/clock.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { CAPACITY = 8, BELLS = 60 };

static void join(struct dispatcher *d, struct end *e)
{
	end_open(e, 0, CAPACITY);
	end_join(d, e);
}

/* By the clock of the kernel's timers, not by naps of a millisecond: some microseconds. */
static void await_asleep(const struct end *e)
{
	const uint64_t until_ns = gq__now_ns() + LONG_MS * UINT64_C(1000000);

	while (gq_load_seq_cst_u64(&e->page->daemon_asleep) == 0) {
		assert_true(gq__now_ns() < until_ns);
		usleep(20);
	}
}

static void await_done(const struct end *e, uint64_t n)
{
	for (unsigned i = 0; gq_load_acquire_u64(&e->page->done_tail) != e->hello.start_pos + n;
	     i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

/* ---- the rule -------------------------------------------------------------------------------- */

static void so_many_bells_in_vain_and_the_client_rests_ever_longer(void **state)
{
	struct client c = { .bell = -1 };

	(void)state;
	for (unsigned i = 1; i < CLIENT_VAIN_BELLS; i++)
		client_heard(&c, false);
	assert_int_equal(c.rests_until_ns, 0);
	client_heard(&c, true); /* an order makes up for one */
	client_heard(&c, false);
	assert_int_equal(c.rests_until_ns, 0);
	for (uint64_t ns = 1000000; ns < 2 * CLIENT_VAIN_MOST_NS; ns *= 2) {
		const uint64_t now_ns = gq__now_ns();

		c.rests_until_ns = 0; /* as when it has had its turn */
		client_heard(&c, false);
		assert_true(c.rests_in_vain);
		assert_true(c.rests_until_ns >=
			    now_ns + (ns < CLIENT_VAIN_MOST_NS ? ns : CLIENT_VAIN_MOST_NS));
	}
	assert_int_equal(c.vain_ns, CLIENT_VAIN_MOST_NS);
	/* It rests for another reason: that is not shortened. */
	c.rests_until_ns = UINT64_MAX;
	client_heard(&c, false);
	assert_int_equal(c.rests_until_ns, UINT64_MAX);
}

static void rest(struct client *c)
{
	c->rests_until_ns = 0;
	for (unsigned i = 0; i < CLIENT_VAIN_BELLS; i++)
		client_heard(c, false);
	assert_true(c->rests_in_vain);
	assert_int_not_equal(c->rests_until_ns, 0);
}

static void expect_no_rest(const struct client *c)
{
	assert_false(c->rests_in_vain);
	assert_int_equal(c->rests_until_ns, 0);
	assert_int_equal(c->vain, 0);
	assert_int_equal(c->vain_ns, 0);
}

static void what_is_claimed_or_completed_ends_it(void **state)
{
	struct page_queue counts = { .clients = 0 };
	struct record *r = NULL;
	struct end e;

	(void)state;
	end_open(&e, 0, CAPACITY);
	e.c.tally.counts = &counts;
	end_publish(&e, 3, 0);
	rest(&e.c);
	assert_int_equal(client_claim(&e.c, 0, &r), CLAIMED_ONE);
	expect_no_rest(&e.c);
	rest(&e.c);
	client_complete(&e.c, r, 0, NULL);
	expect_no_rest(&e.c);
	/* But not the rest of one that never reads what is completed. */
	end_publish(&e, 4, 0);
	assert_int_equal(client_claim(&e.c, 0, &r), CLAIMED_ONE);
	e.c.rests_until_ns = UINT64_MAX;
	client_complete(&e.c, r, 0, NULL);
	assert_int_equal(e.c.rests_until_ns, UINT64_MAX);
	/* As many orders end it, too. */
	rest(&e.c);
	e.c.rests_in_vain = false;
	e.c.rests_until_ns = 0; /* as when it has had its turn */
	for (unsigned i = 0; i < CLIENT_VAIN_BELLS; i++)
		client_heard(&e.c, true);
	expect_no_rest(&e.c);
	end_close(&e);
}

/* ---- a dispatcher ---------------------------------------------------------------------------- */

/* Rings whenever the dispatcher says that it sleeps. @return how long that took */
static uint64_t ring_often(const struct end *e)
{
	const uint64_t since_ns = gq__now_ns();

	for (int i = 0; i < BELLS; i++) {
		await_asleep(e);
		gq_exchange_seq_cst_u64(&e->page->daemon_asleep, 0);
		end_ring(e);
	}
	return gq__now_ns() - since_ns;
}

/* Two bells may be heard as one, and one bell in the moment in which a rest ends says nothing: so
 * at least a fourth of them begin a rest, which is 8 ms but for the first. */
#define RESTS_NS ((BELLS / 4 - CLIENT_VAIN_BELLS - 3) * CLIENT_VAIN_MOST_NS)

static void bells_that_bring_nothing_are_heard_ever_more_seldom(void **state)
{
	struct dispatcher *d = ends_start("echo", 1024, 0);
	struct end e;

	(void)state;
	join(d, &e);
	assert_true(ring_often(&e) >= RESTS_NS);
	end_publish(&e, 0, 0); /* it is served all the same, and nobody need ring */
	await_done(&e, 1);
	end_leave(d, &e);
	dispatcher_end(d, NULL);
}

/* What waits behind its own order is no reason to hear its bells. */
static void nor_is_one_heard_that_has_paused(void **state)
{
	struct dispatcher *d = ends_start("echo", 1024, 0);
	struct end e;

	(void)state;
	join(d, &e);
	gq_store_seq_cst_u64(&e.page->control, GQ_CONTROL_PAUSE);
	end_ring(&e);
	for (unsigned i = 0; gq_load_seq_cst_u64(&e.page->ack) != GQ_CONTROL_PAUSE; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	end_publish(&e, 0, 0);
	assert_true(ring_often(&e) >= RESTS_NS);
	assert_int_equal(gq_load_acquire_u64(&e.page->done_tail), 0);
	gq_store_seq_cst_u64(&e.page->control, 0);
	await_done(&e, 1);
	end_leave(d, &e);
	dispatcher_end(d, NULL);
}

/* The text of a file of a thread's, as far as it fits; empty if the thread has ended. */
static void read_file(const char *task, const char *name, char *text, size_t room)
{
	char path[64];
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "/proc/self/task/%.20s/%s", task, name);
	f = fopen(path, "r");
	n = f != NULL ? fread(text, 1, room - 1, f) : 0;
	text[n] = '\0';
	if (f != NULL)
		fclose(f);
}

static uint64_t sleeps_of(const char *task)
{
	char text[4096];
	const char *line;

	read_file(task, "status", text, sizeof(text));
	line = strstr(text, "\nvoluntary_ctxt_switches:");
	return line != NULL ? strtoull(strchr(line, ':') + 1, NULL, 10) : 0;
}

static uint64_t cpu_ns_of(const char *task)
{
	char text[128];

	read_file(task, "schedstat", text, sizeof(text));
	return strtoull(text, NULL, 10);
}

/* Of the dispatcher's threads. */
static uint64_t sum_of(uint64_t (*of)(const char *task))
{
	DIR *all = opendir("/proc/self/task");
	uint64_t sum = 0;

	assert_non_null(all);
	for (const struct dirent *task; (task = readdir(all)) != NULL;) {
		char name[32];

		if (!isdigit((unsigned char)task->d_name[0]))
			continue;
		read_file(task->d_name, "comm", name, sizeof(name));
		if (strcmp(name, "gpuqd-dispatch\n") == 0)
			sum += of(task->d_name);
	}
	closedir(all);
	return sum;
}

/* Until it is disconnected, which takes other threads their time. */
static void whoever_has_broken_the_protocol_wakes_nobody(void **state)
{
	struct dispatcher *d = ends_start("echo", 1024, 0);
	struct end liar, other;
	uint64_t before;

	(void)state;
	join(d, &liar);
	join(d, &other);
	end_publish(&liar, CAPACITY, 0); /* there is no such slot */
	end_ring(&liar);
	end_await(&liar.broken);
	/* What it says before it sleeps, it says to the liar first. */
	await_asleep(&other);
	gq_exchange_seq_cst_u64(&liar.page->daemon_asleep, 0);
	gq_exchange_seq_cst_u64(&other.page->daemon_asleep, 0);
	end_ring(&other);
	await_asleep(&other);
	assert_int_equal(gq_load_seq_cst_u64(&liar.page->daemon_asleep), 0);
	before = sum_of(sleeps_of);
	assert_int_not_equal(before, 0);
	for (int i = 0; i < BELLS; i++) {
		end_ring(&liar);
		nap_ms(1);
	}
	assert_in_range(sum_of(sleeps_of) - before, 0, BELLS / 10);
	end_leave(d, &liar);
	end_leave(d, &other);
	dispatcher_end(d, NULL);
}

/* As far as a write goes, and one more by the kernel itself. @return whether it can be done here */
static bool overflow(int bell)
{
	const uint64_t most = UINT64_MAX - 1;
	char byte;
	struct iocb one = { .aio_lio_opcode = IOCB_CMD_PREAD,
			    .aio_fildes = (uint32_t)open("/proc/self/exe", O_RDONLY | O_CLOEXEC),
			    .aio_buf = (uint64_t)(uintptr_t)&byte,
			    .aio_nbytes = 1,
			    .aio_flags = IOCB_FLAG_RESFD,
			    .aio_resfd = (uint32_t)bell };
	struct iocb *all[] = { &one };
	struct pollfd error = { .fd = bell };
	struct io_event done;
	aio_context_t io = 0;
	uint64_t count;

	(void)!read(bell, &count, sizeof(count)); /* or there is no room for so many */
	assert_int_equal(write(bell, &most, sizeof(most)), sizeof(most));
	if (syscall(SYS_io_setup, 1, &io) == 0) {
		if (syscall(SYS_io_submit, io, 1, all) == 1)
			assert_int_equal(syscall(SYS_io_getevents, io, 1, 1, &done, NULL), 1);
		syscall(SYS_io_destroy, io);
	}
	close((int)one.aio_fildes);
	return poll(&error, 1, 0) == 1 && (error.revents & POLLERR) != 0;
}

/* Epoll tells of errors that nobody has asked for. */
static void a_muted_bell_that_overflows_keeps_nobody_awake(void **state)
{
	enum { NAP_MS = 50 };
	struct dispatcher *d = ends_start("echo", 1024, 0);
	struct end liar, other;
	uint64_t before = 0;
	bool told;

	(void)state;
	join(d, &liar);
	join(d, &other);
	/* Before it is muted, as it is then that epoll looks. */
	told = overflow(liar.c.bell) && sum_of(cpu_ns_of) != 0;
	end_publish(&liar, CAPACITY, 0); /* there is no such slot */
	end_ring(&other);
	end_await(&liar.broken);
	/* Until it is seen to sleep for a while. One that is kept awake never does. */
	for (unsigned i = 0; told && before != sum_of(cpu_ns_of); i++) {
		assert_true(i < LONG_MS / NAP_MS);
		before = sum_of(cpu_ns_of);
		nap_ms(NAP_MS);
	}
	end_leave(d, &liar);
	end_leave(d, &other);
	dispatcher_end(d, NULL);
	leave_out_if(!told, "where there is no asynchronous I/O, or no schedstat",
		     "no bell overflows, or nobody says who is awake");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(so_many_bells_in_vain_and_the_client_rests_ever_longer),
		cmocka_unit_test(what_is_claimed_or_completed_ends_it),
		cmocka_unit_test(bells_that_bring_nothing_are_heard_ever_more_seldom),
		cmocka_unit_test(nor_is_one_heard_that_has_paused),
		cmocka_unit_test(whoever_has_broken_the_protocol_wakes_nobody),
		cmocka_unit_test(a_muted_bell_that_overflows_keeps_nobody_awake),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("broker_bells", tests, NULL, NULL);
}
