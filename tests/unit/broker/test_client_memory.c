/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_client_memory.c - clients with very much memory, and small ones beside them: by the order of
 * events.
 *
 * gpuqd hears both on one thread, the large one first. If it did there what the large one asks for,
 * the small one could not be served before that has ended. So it is enough to see the small one
 * served first once; whether that is so in the first round depends on the scheduler.
 */
/* The tests have a send() of their own. */
#define send send_on_socket
#include <sys/socket.h>
#undef send

#include "daemon.h"
#include "hostile.h"
#include "support.h"

#include "device/remote/wire.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

enum { LARGE_CAPACITY = 32768, ROUNDS = 200 };

static struct daemon d;
static struct daemon_held idle;

static int set_up(void **state)
{
	(void)state;
	daemon_set_up(&d,
		      "uid_slots = 1048576\nuid_bytes = 300MiB\n"
		      "[queue default]\nprocessor = echo\ndevice = cpu\nconsumers = 1\n",
		      NULL);
	idle = daemon_held(&d);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	daemon_tear_down(&d);
	return 0;
}

/* A connection that has asked for a quarter of a gigabyte. */
static int ask_for_much(void)
{
	const struct gq_wire_hello hello = {
		.head = gq_wire_head_of(GQ_WIRE_HELLO, sizeof(hello)),
		.capacity = LARGE_CAPACITY,
		.slot_bytes = 4096,
		.result_bytes = 4096,
		.start_pos = LARGE_CAPACITY,
		.queue = "default",
	};
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", d.socket);
	assert_true(gq_remote_lay_out(&hello).bytes > 256 << 20);
	assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(write(fd, &hello, sizeof(hello)), sizeof(hello));
	return fd;
}

/* Without room for what comes with it: this process never has the memory. */
static void await_welcome(int fd)
{
	union gq_wire w;

	assert_true(read(fd, &w, sizeof(w)) > 0);
	assert_int_equal(w.head.type, GQ_WIRE_WELCOME);
}

static bool is_answered(int fd)
{
	struct pollfd answer = { .fd = fd, .events = POLLIN };

	return poll(&answer, 1, 0) != 0;
}

static GpuQueue *small_queue(void)
{
	const QueueConfig cfg = {
		.capacity = 4, .slot_bytes = 64, .device = Q_DEVICE_REMOTE, .endpoint = d.endpoint
	};

	return make_queue_from(&cfg);
}

static void a_small_client_is_served_before_a_large_one_has_its_memory(void **state)
{
	bool first = false;

	(void)state;
	for (int round = 0; round < ROUNDS && !first; round++) {
		const int large = ask_for_much();
		GpuQueue *q = small_queue();

		expect_echo(q, send(q, "x", 1), "x", 1);
		first = !is_answered(large);
		await_welcome(large);
		q_shutdown(q);
		close(large);
		daemon_await_held(&d, &idle);
	}
	assert_true(first);
}

static void a_small_client_is_served_before_a_large_one_s_memory_is_given_back(void **state)
{
	bool first = false;

	(void)state;
	for (int round = 0; round < ROUNDS && !first; round++) {
		const int large = ask_for_much();
		GpuQueue *q;

		await_welcome(large);
		close(large); /* only gpuqd still has its pages */
		q = small_queue();
		expect_echo(q, send(q, "x", 1), "x", 1);
		/* The socket, the process and the bell of each. */
		first = daemon_held(&d).descriptors == idle.descriptors + 6;
		q_shutdown(q);
		daemon_await_held(&d, &idle);
	}
	assert_true(first);
}

/* It counts against its user's quota until it is gone, and not longer. */
static void whoever_leaves_while_its_memory_is_made_leaves_nothing(void **state)
{
	(void)state;
	for (int i = 0; i < 8; i++) {
		struct daemon_held now;
		const int large = ask_for_much();

		do
			now = daemon_held(&d);
		while (now.descriptors < idle.descriptors + 2 && !is_answered(large));
		close(large);
		daemon_await_held(&d, &idle);
	}
}

static void a_gpuqd_told_to_end_while_it_makes_memory_ends(void **state)
{
	const int large = ask_for_much();

	(void)state;
	while (daemon_held(&d).descriptors < idle.descriptors + 2 && !is_answered(large))
		;
	assert_int_equal(daemon_end(&d, SIGTERM), 0);
	close(large);
	daemon_start(&d);
}

/* Before it is served, or while it is. */
static void memory_with_holes_is_not_served(void **state)
{
	struct hostile h = {
		.socket = d.socket, .services = d.socket, .queue = "default", .op = "x", .random = 1
	};
	const char *wrong = hostile_round(&h, HOSTILE_MEMORY);
	GpuQueue *q;

	(void)state;
	if (wrong != NULL)
		fail_msg("%s", wrong);
	q = small_queue();
	expect_echo(q, send(q, "x", 1), "x", 1);
	q_shutdown(q);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_small_client_is_served_before_a_large_one_has_its_memory),
		cmocka_unit_test(
			a_small_client_is_served_before_a_large_one_s_memory_is_given_back),
		cmocka_unit_test(whoever_leaves_while_its_memory_is_made_leaves_nothing),
		cmocka_unit_test(memory_with_holes_is_not_served),
		cmocka_unit_test(a_gpuqd_told_to_end_while_it_makes_memory_ends),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("client_memory", tests, set_up, tear_down);
}
