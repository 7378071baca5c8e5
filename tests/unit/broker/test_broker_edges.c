/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_broker_edges.c - what seldom happens to a gpuqd, which is a part of this process here: its
 * queue fails, its socket has no room, it ends while others come, it has no descriptors left, its
 * counts are written while all changes; a process for queues loses its device.
 */
/* The tests have a send() of their own. */
#define send send_on_socket
#include <sys/socket.h>
#undef send

#include "child.h"
#include "daemon.h"
#include "own_socket.h"
#include "support.h"

#include "broker/dispatch.h"
#include "broker/session.h"
#include "host/base/clock.h"
#include "host/base/sanitize.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>

/* ---- a gpuqd of this process ----------------------------------------------------------------- */

static struct broker_config cfg;
static uint32_t connect_rate; /* of the next one: `uid_connect_rate` */
static struct page *counts;   /* where the next one shows them; NULL: nowhere */

static struct broker *start_broker(const char *processor, uint32_t consumers)
{
	char error[BROKER_ERROR_ROOM];
	struct broker *b;

	broker_config_defaults(&cfg);
	broker_queue_defaults(&cfg.queue[0], "default");
	cfg.queues = 1;
	cfg.drain_ms = LONG_MS;
	cfg.page = counts;
	cfg.uid_connect_rate = connect_rate;
	cfg.uid_connect_burst = 3;
	cfg.queue[0].device = Q_DEVICE_CPU;
	cfg.queue[0].consumers = consumers;
	cfg.queue[0].inline_us = 0; /* all goes through the queue */
	cfg.queue[0].per_client = processor == NULL;
	if (processor != NULL)
		snprintf(cfg.queue[0].processor, sizeof(cfg.queue[0].processor), "%s", processor);
	snprintf(cfg.socket, sizeof(cfg.socket), "%s", own_socket);
	b = broker_start(&cfg, error);
	if (b == NULL)
		fail_msg("%s", error);
	return b;
}

/* On a queue of its own: the processor "test", with its data. */
static QueueConfig client_config(void)
{
	QueueConfig c = config(16, 64);

	c.device = Q_DEVICE_REMOTE;
	c.endpoint = own_endpoint;
	return c;
}

/* ---- its queue ------------------------------------------------------------------------------- */

static void a_queue_that_fails_ends_its_clients_and_takes_no_new_ones(void **state)
{
	struct broker *b = start_broker("echo", 1);
	const QueueConfig c = { .capacity = 16,
				.slot_bytes = 64,
				.device = Q_DEVICE_REMOTE,
				.endpoint = own_endpoint };
	GpuQueue *q = make_queue_from(&c), *idle = make_queue_from(&c);
	uint64_t id;

	(void)state;
	expect_echo(q, send(q, "x", 1), "x", 1);
	/* As a device that has failed: it takes nothing any more. */
	assert_status(q_stop(b->dispatcher[0]->q, LONG_MS), Q_OK);
	id = send(q, "y", 1);
	assert_status(q_wait(q, id, LONG_MS), Q_OK);
	assert_status(take(q, id, NULL, &(size_t){ 0 }), Q_ERR_LOST); /* it may have run */
	while (q_enqueue(idle, "z", 1, &id, 0) != Q_ERR_LOST)
		nap_ms(1);
	expect_no_queue(&c, "the device of this queue has failed");
	q_shutdown(q);
	q_shutdown(idle);
	broker_stop(b);
}

/* What a process for queues is, but for its main thread: a client comes, and then the device fails.
 */
static void be_a_process(int listener, int link)
{
	union gq_wire w;
	struct broker *b;
	char error[BROKER_ERROR_ROOM];
	const int client = accept(listener, NULL, NULL);

	cfg.link = link;
	b = broker_start(&cfg, error);
	if (b == NULL || recv(client, &w, sizeof(w), 0) != (ssize_t)sizeof(w.hello))
		_exit(2);
	broker_adopt(b, client, 7, GQ_CLASSES - 1, &w.hello);
	if (recv(link, &w, sizeof(w), 0) != 1) /* the client is served */
		_exit(3);
	(void)q_stop(b->dispatcher[0]->q, LONG_MS);
	for (;;)
		pause(); /* it is the process that ends, and not the test */
}

static void a_process_whose_device_has_failed_says_so_and_ends(void **state)
{
	struct broker *b = start_broker("echo", 1); /* makes `cfg` */
	const QueueConfig c = { .capacity = 16,
				.slot_bytes = 64,
				.device = Q_DEVICE_REMOTE,
				.endpoint = own_endpoint };
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int fds[LINK_DESCRIPTORS], pair[2], listener, status;
	struct link_message m;
	char result[64];
	GpuQueue *q;
	uint64_t id;
	pid_t pid;

	(void)state;
	broker_stop(b);
	snprintf(at.sun_path, sizeof(at.sun_path), "%s", cfg.socket);
	listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(listener, (const struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(listener, 1), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	pid = fork_child();
	if (pid == 0)
		be_a_process(listener, pair[1]);
	close(pair[1]);
	q = make_queue_from(&c);
	expect_echo(q, send(q, "x", 1), "x", 1);
	assert_int_equal(write(pair[0], "", 1), 1);
	do { /* until the queue of its process has been stopped */
		id = send(q, "y", 1);
		assert_status(q_wait(q, id, LONG_MS), Q_OK);
	} while (take(q, id, result, &(size_t){ sizeof(result) }) == Q_OK);
	assert_true(link_receive(pair[0], &m, fds, 0));
	assert_int_equal(m.kind, LINK_FAILED);
	assert_string_equal(m.text, "the device of queue 'default' has failed");
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* ThreadSanitizer has its own status for threads that end with their process. */
	assert_true(WIFEXITED(status) &&
		    (WEXITSTATUS(status) == 1 || (GQ_TSAN && WEXITSTATUS(status) == 66)));
	q_shutdown(q);
	close(pair[0]);
	close(listener);
	unlink(cfg.socket);
	memset(&cfg, 0, sizeof(cfg));
}

static uint32_t consumers_of(uint32_t asked)
{
	QueueConfig c = client_config();
	uint32_t got;
	GpuQueue *q;

	c.consumers = asked;
	q = make_queue_from(&c);
	got = queue_info(q).consumers;
	q_shutdown(q);
	return got;
}

/* Each is a thread of gpuqd's. */
static void a_client_that_names_no_consumers_gets_no_more_than_one_that_does(void **state)
{
	struct broker *b = start_broker(NULL, 2);

	(void)state;
	assert_int_equal(consumers_of(1), 1);
	assert_int_equal(consumers_of(64), 2);
	assert_in_range(consumers_of(0), 1, 2);
	broker_stop(b);
	b = start_broker(NULL, 0);
	assert_int_equal(consumers_of(64), 8);
	assert_in_range(consumers_of(0), 1, 8);
	broker_stop(b);
}

/* ---- bells ----------------------------------------------------------------------------------- */

static void a_bell_that_could_not_be_sent_is_sent_later(void **state)
{
	struct gq_remote_page page = { .asleep = 1 };
	struct client c = { .page = &page, .socket = -1, .rings = true };
	union gq_wire w;
	int pair[2];

	(void)state;
	client_ring(&c); /* there is no way to send it, as where the kernel has no memory */
	assert_int_equal(page.asleep, 1); /* whoever sleeps there still asks for it, */
	assert_true(c.rings);             /* and gpuqd still owes it */
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	c.socket = pair[0];
	client_ring(&c);
	assert_int_equal(page.asleep, 0);
	assert_false(c.rings);
	assert_int_equal(recv(pair[1], &w, sizeof(w), MSG_DONTWAIT), sizeof(w.head));
	assert_int_equal(w.head.type, GQ_WIRE_BELL);
	close(pair[0]);
	close(pair[1]);
}

/* A bell for a socket that has no room for it. */
static void ring_in_vain(struct client *c)
{
	c->rests_until_ns = 0;
	c->page->asleep = 1;
	c->rings = true;
	client_ring(c);
	assert_int_not_equal(c->rests_until_ns, 0);
}

/* One that never reads its bells costs no system call each turn, and one that reads late loses
 * none.
 */
static void a_socket_that_is_full_is_rung_again_once_it_may_have_room(void **state)
{
	struct gq_remote_page page = { 0 };
	struct client c = { .page = &page };
	union gq_wire w;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	c.socket = pair[0];
	for (unsigned i = 0; c.rests_until_ns == 0; i++) {
		assert_true(i < 100000);
		page.asleep = 1;
		c.rings = true;
		client_ring(&c);
	}
	assert_false(c.rings); /* it has bells enough */
	/* Each time it rests for longer. */
	for (uint64_t before = c.deaf_ns; before < CLIENT_DEAF_MOST_NS; before *= 2) {
		ring_in_vain(&c);
		assert_int_equal(c.deaf_ns, 2 * before);
	}
	ring_in_vain(&c);
	assert_int_equal(c.deaf_ns, CLIENT_DEAF_MOST_NS);
	c.rests_until_ns = UINT64_MAX;
	page.asleep = 1;
	c.rings = true;
	client_ring(&c);
	assert_true(c.rings); /* owed */
	assert_int_equal(page.asleep, 1);
	while (recv(pair[1], &w, sizeof(w), MSG_DONTWAIT) > 0)
		;
	c.rests_until_ns = 1; /* long ago */
	client_ring(&c);
	assert_false(c.rings);
	assert_int_equal(recv(pair[1], &w, sizeof(w), MSG_DONTWAIT), sizeof(w.head));
	assert_int_equal(c.deaf_ns, 0);
	close(pair[0]);
	close(pair[1]);
}

/* ---- its end --------------------------------------------------------------------------------- */

static void *stop_it(void *b)
{
	broker_stop(b);
	return NULL;
}

static void whoever_comes_while_gpuqd_ends_is_told_so_and_what_is_inside_ends(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct broker *b = start_broker(NULL, 1);
	const QueueConfig c = client_config();
	GpuQueue *q = make_queue_from(&c);
	const int greets = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	pthread_t stopper;
	uint64_t id;
	char byte;

	(void)state;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", own_socket);
	assert_int_equal(connect(greets, (const struct sockaddr *)&address, sizeof(address)), 0);
	close_gate();
	id = send_op(q, OP_GATE, 0, "inside", 6);
	await_gate_waiters(1);
	assert_int_equal(pthread_create(&stopper, NULL, stop_it, b), 0);
	for (unsigned i = 0; access(address.sun_path, F_OK) == 0; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	expect_no_queue(&c, "there is no such socket: is gpuqd running?");
	assert_true(recv(greets, &byte, 1, 0) <= 0); /* it is ended, not left */
	assert_int_equal(gate_waiters(), 1);
	open_gate();
	pthread_join(stopper, NULL);
	expect_echo(q, id, "inside", 6);
	close(greets);
	q_shutdown(q);
}

/* A processor that holds its message until the test lets it go. */
static uint32_t holding, let_go;

static void hold(const MsgView *in, ResultView *out)
{
	(void)in;
	(void)out;
	gq_exchange_seq_cst_u32(&holding, 1);
	while (gq_load_seq_cst_u32(&let_go) == 0)
		nap_ms(1);
}

/* As a device that has failed; and one that has not, whose thread q_shutdown() can end. */
static void set_failed(GpuQueue *q, bool failed)
{
	gq_exchange_seq_cst_u32(&q->failed, failed);
	gq_store_seq_cst_u64(&q->generation, failed ? GQ_GENERATION_FAILED : q->made_in);
}

static void await_word(const uint32_t *word, uint32_t value)
{
	for (unsigned i = 0; gq_load_seq_cst_u32(word) != value; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

/* Its message would never end, and all the time that gpuqd has to end would be waited for. */
static void a_device_that_fails_while_gpuqd_ends_holds_nothing_up(void **state)
{
	static const QProcessorImage holder = { .magic = Q_PROCESSOR_MAGIC,
						.protocol_version = Q_PROTOCOL_VERSION,
						.granularity = Q_PER_WARP,
						.name = "hold",
						.cpu = hold };
	const QueueConfig c = { .capacity = 16,
				.slot_bytes = 64,
				.device = Q_DEVICE_REMOTE,
				.endpoint = own_endpoint };
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const int greets = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	struct broker *b;
	pthread_t stopper;
	GpuQueue *q;
	uint64_t id;
	char byte;

	(void)state;
	q_register_processor(&holder);
	b = start_broker("hold", 1);
	b->cfg.drain_ms = 10 * LONG_MS;
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", own_socket);
	assert_int_equal(connect(greets, (const struct sockaddr *)&address, sizeof(address)), 0);
	q = make_queue_from(&c);
	id = send(q, "inside", 6);
	await_word(&holding, 1);
	assert_int_equal(pthread_create(&stopper, NULL, stop_it, b), 0);
	/* The client that came last is told first: when the other's connection has ended, the
	 * dispatcher has been told; when it has done what it is told next, it drains. */
	assert_true(recv(greets, &byte, 1, 0) <= 0);
	dispatcher_show(b->dispatcher[0], NULL, 0);
	await_word(&b->dispatcher[0]->asked, 0);
	set_failed(b->dispatcher[0]->q, true);
	assert_status(q_wait(q, id, LONG_MS), Q_OK);
	assert_status(take(q, id, NULL, &(size_t){ 0 }), Q_ERR_LOST);
	set_failed(b->dispatcher[0]->q, false);
	gq_exchange_seq_cst_u32(&let_go, 1);
	pthread_join(stopper, NULL);
	close(greets);
	q_shutdown(q);
}

/* ---- its counts ------------------------------------------------------------------------------ */

struct shower {
	struct broker *b;
	uint32_t over;
};

static void *show_always(void *arg)
{
	struct shower *s = arg;

	while (gq_load_seq_cst_u32(&s->over) == 0) {
		broker_show(s->b);
		sched_yield();
	}
	return NULL;
}

static void reload_window(struct broker *b, uint32_t window)
{
	char error[BROKER_ERROR_ROOM];
	struct broker_config fresh = cfg;

	fresh.queue[0].window = window;
	for (unsigned i = 0; !broker_reload(b, &fresh, error); i++) {
		assert_string_equal(error, "the reload before this one is not over");
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

static void counts_are_written_and_windows_change_while_clients_come_and_go(void **state)
{
	const QueueConfig c = { .capacity = 16,
				.slot_bytes = 64,
				.device = Q_DEVICE_REMOTE,
				.endpoint = own_endpoint };
	static struct page_queue shown; /* large */
	static struct page_clients clients;
	char error[PAGE_ERROR];
	struct shower s = { 0 };
	pthread_t shower;

	(void)state;
	counts = page_create(NULL, NULL, 0, error);
	assert_non_null(counts);
	s.b = start_broker("echo", 1);
	assert_int_equal(pthread_create(&shower, NULL, show_always, &s), 0);
	for (uint32_t window = 1; window <= 100; window++) {
		GpuQueue *q = make_queue_from(&c);

		reload_window(s.b, window);
		expect_echo(q, send(q, "x", 1), "x", 1);
		q_shutdown(q);
	}
	for (unsigned i = 0;; i++) {
		assert_true(page_read(counts, PAGE_QUEUE, 0, &shown));
		assert_true(page_read(counts, PAGE_CLIENTS_OF_QUEUES, 0, &clients));
		/* One section after the other is written: these may be of before the last client.
		 */
		if (shown.window == 100 && clients.connections_ever == 100 &&
		    clients.connections == 0)
			break;
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	assert_int_equal(clients.bytes + clients.slots, 0);
	gq_exchange_seq_cst_u32(&s.over, 1);
	pthread_join(shower, NULL);
	broker_stop(s.b);
	page_destroy(counts);
	counts = NULL;
}

/* ---- users that connect too often ------------------------------------------------------------ */

/* Letting those wait takes a CPU, too, as does refusing. */
static void many_that_have_to_wait_are_a_reason_to_stop_accepting(void **state)
{
	enum { COME = 2 * GQ_ARRIVALS_REFUSALS };
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	static struct broker b; /* large; its thread is this one */
	int held;

	(void)state;
	memcpy(at.sun_path, own_socket, sizeof(own_socket));
	gq__arrivals_init(&b.arrivals, 1, 1);
	gq__tarpit_init(&b.tarpit, UINT32_MAX);
	b.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(b.listener, (const struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(listen(b.listener, COME), 0);
	/* Once is enough, but that this thread may lose its CPU meanwhile. */
	for (unsigned i = 0; b.accept_again_ns == 0; i++) {
		int fd[COME];

		assert_true(i < 100);
		gq__arrivals_fine(&b.arrivals, geteuid(), gq__now_ns());
		for (unsigned k = 0; k < COME; k++) {
			fd[k] = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
			assert_int_equal(connect(fd[k], (const struct sockaddr *)&at, sizeof(at)),
					 0);
		}
		session_accept(&b);
		assert_true(b.tarpit.count >= GQ_ARRIVALS_REFUSALS);
		while ((held = gq__tarpit_due(&b.tarpit, UINT64_MAX)) >= 0)
			close(held);
		for (unsigned k = 0; k < COME; k++)
			close(fd[k]);
	}
	close(b.listener);
	unlink(own_socket);
}

static void reload_rate(struct broker *b, uint32_t rate)
{
	char error[BROKER_ERROR_ROOM];
	struct broker_config fresh = cfg;

	fresh.uid_connect_rate = rate;
	assert_true(broker_reload(b, &fresh, error));
}

static void a_user_that_connects_too_often_is_told_when_it_may_again(void **state)
{
	const QueueConfig c = { .capacity = 16,
				.slot_bytes = 64,
				.device = Q_DEVICE_REMOTE,
				.endpoint = own_endpoint };
	static struct page_clients clients;
	char error[PAGE_ERROR];
	struct broker *b;
	GpuQueue *q[3], *more;

	(void)state;
	counts = page_create(NULL, NULL, 0, error);
	assert_non_null(counts);
	connect_rate = 1;
	q_set_log(NULL, NULL);
	b = start_broker("echo", 1);
	for (int i = 0; i < 3; i++)
		q[i] = make_queue_from(&c);
	/* A second may pass on a busy machine: then one more gets in. */
	for (unsigned i = 0; (more = q_init(&c)) != NULL; i++) {
		assert_true(i < 1000);
		q_shutdown(more);
	}
	assert_non_null(strstr(q_last_error(), "connects too often; allowed: 1 times a second "
					       "(uid_connect_rate), after 3 at once"));
	expect_echo(q[1], send(q[1], "x", 1), "x", 1); /* who is in stays in */
	reload_rate(b, 0);
	for (unsigned i = 0; (more = q_init(&c)) == NULL; i++) { /* it is taken over soon */
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	q_shutdown(more);
	broker_show(b);
	while (!page_read(counts, PAGE_CLIENTS_OF_QUEUES, 0, &clients) ||
	       clients.refused[PAGE_REFUSED_RATE] == 0)
		nap_ms(1);
	for (int i = 0; i < 3; i++)
		q_shutdown(q[i]);
	broker_stop(b);
	page_destroy(counts);
	counts = NULL;
	connect_rate = 0;
}

/* Those that were let in, and those that were told that they come too often: by now. */
static uint64_t arrivals(struct broker *b)
{
	const uint64_t now_ns = gq__now_ns();
	static struct page_clients clients;

	broker_show(b);
	for (unsigned i = 0;
	     !page_read(counts, PAGE_CLIENTS_OF_QUEUES, 0, &clients) || clients.turned_ns < now_ns;
	     i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	return clients.connections_ever + clients.refused[PAGE_REFUSED_RATE];
}

static void come_and_give_up(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	memcpy(at.sun_path, own_socket, sizeof(own_socket));
	assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
	close(fd);
}

static void who_gives_up_while_it_waits_takes_nothing_from_the_others(void **state)
{
	enum { GIVE_UP = 40 };
	const QueueConfig c = { .capacity = 16,
				.slot_bytes = 64,
				.device = Q_DEVICE_REMOTE,
				.endpoint = own_endpoint };
	char error[PAGE_ERROR];
	uint64_t before, tries = 0;
	struct broker *b;
	GpuQueue *more;

	(void)state;
	counts = page_create(NULL, NULL, 0, error);
	assert_non_null(counts);
	connect_rate = 1;
	q_set_log(NULL, NULL);
	b = start_broker("echo", 1);
	while ((more = q_init(&c)) != NULL)
		q_shutdown(more);
	before = arrivals(b);
	for (int i = 0; i < GIVE_UP; i++)
		come_and_give_up();
	/* They wait in the order in which they came: those before this one have been looked at. */
	for (; (more = q_init(&c)) != NULL; tries++)
		q_shutdown(more);
	/* Some may have been let in before they gave up, where this is slow. */
	assert_true(arrivals(b) < before + GIVE_UP + tries + 1);
	broker_stop(b);
	page_destroy(counts);
	counts = NULL;
	connect_rate = 0;
}

/* ---- a gpuqd of its own ---------------------------------------------------------------------- */

/* The limit of descriptors by which a process can open so many more. */
static rlim_t limit_for(pid_t pid, unsigned more)
{
	for (rlim_t limit = 0;; limit++) {
		char path[64];
		struct stat st;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, (int)limit);
		if (lstat(path, &st) != 0 && more-- == 0)
			return limit;
	}
}

static void a_client_whose_process_cannot_be_watched_is_refused(void **state)
{
	struct daemon d;
	struct daemon_held idle;
	QueueConfig c = { .capacity = 4, .slot_bytes = 64, .device = Q_DEVICE_REMOTE };
	struct rlimit files, tight;
	GpuQueue *q;

	(void)state;
	daemon_set_up(&d, "[queue default]\nprocessor = echo\ndevice = cpu\n", NULL);
	idle = daemon_held(&d);
	c.endpoint = d.endpoint;
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, NULL, &files), 0);
	/* One more: the connection itself, and none for its process. */
	tight = (struct rlimit){ limit_for(d.pid, 1), files.rlim_max };
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, &tight, NULL), 0);
	expect_no_queue(&c, "gpuqd cannot watch the client's process");
	daemon_await_held(&d, &idle);
	assert_int_equal(prlimit(d.pid, RLIMIT_NOFILE, &files, NULL), 0);
	q = make_queue_from(&c);
	expect_echo(q, send(q, "x", 1), "x", 1);
	q_shutdown(q);
	daemon_tear_down(&d);
}

/* In a /run of its own, so that no other gpuqd is met. */
static void without_a_path_both_sides_meet_in_run_gpuq(void **state)
{
	char path[PATH_MAX];
	ssize_t n;

	(void)state;
	leave_out_if(geteuid() != 0, "without root", "the default is another there");
	n = readlink("/proc/self/exe", path, sizeof(path) - 32);
	assert_true(n > 0);
	snprintf(path + (strrchr(path, '/') - path), 32, "/../../bin/gpuqd");
	in_child({
		const QueueConfig c = { .capacity = 4,
					.slot_bytes = 64,
					.device = Q_DEVICE_REMOTE };
		GpuQueue *q = NULL;
		struct stat st;
		pid_t pid;

		if (unshare(CLONE_NEWNS) != 0 ||
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		    mount("none", "/run", "tmpfs", 0, NULL) != 0)
			_exit(0); /* not allowed here */
		pid = fork_child();
		if (pid == 0) {
			execl(path, "gpuqd", "--processor", "echo", (char *)NULL);
			_exit(127);
		}
		for (unsigned i = 0; q == NULL && i < LONG_MS; i++) {
			q = q_init(&c);
			nap_ms(1);
		}
		need(q != NULL);
		need(stat("/run/gpuq", &st) == 0 && (st.st_mode & 07777) == 0755);
		need(stat("/run/gpuq/gpuqd.sock", &st) == 0 && (st.st_mode & 07777) == 0600);
		q_shutdown(q);
		need(kill(pid, SIGTERM) == 0 && waitpid(pid, NULL, 0) == pid);
	});
}

/* ---- the link of a process for queues ---------------------------------------------------------
 */

static bool has(const void *in, size_t bytes, const char *what)
{
	return memmem(in, bytes, what, strlen(what)) != NULL;
}

static void a_process_gets_no_keys_and_can_cut_no_file(void **state)
{
	static struct broker_config c, got; /* large */
	char error[PAGE_ERROR];
	struct page *page;
	int fd;

	(void)state;
	broker_config_defaults(&c);
	broker_queue_defaults(&c.queue[0], "default");
	c.queues = 1;
	snprintf((char *)c.services.token.key[0].key, 32, "%s", "a key of thirty-one characters.");
	assert_true(has(&c, sizeof(c), "a key of thirty-one"));
	fd = link_pack(&c);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_true(link_unpack(fd, &got));
	assert_false(has(&got, sizeof(got), "a key of thirty-one"));
	assert_int_equal(got.queues, 1);
	assert_int_equal(got.drain_ms, c.drain_ms);
	assert_string_equal(got.queue[0].name, "default");
	fd = link_make_ledger();
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	close(fd);
	page = page_create(NULL, NULL, 0600, error);
	assert_non_null(page);
	fd = page_share(page);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(errno, EPERM);
	close(fd);
	page_destroy(page);
}

/* Four: alignment leaves room for one more than anybody wants. */
static void send_descriptors(int to)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))] = { 0 };
	struct link_message m = { .kind = LINK_SHOW };
	struct iovec io = { .iov_base = &m, .iov_len = offsetof(struct link_message, text) + 1 };
	struct msghdr message = { .msg_iov = &io,
				  .msg_iovlen = 1,
				  .msg_control = control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(4 * sizeof(int));
	for (size_t i = 0; i < 4; i++)
		memcpy(CMSG_DATA(c) + i * sizeof(int), &to, sizeof(int));
	assert_int_equal(sendmsg(to, &message, 0), (ssize_t)io.iov_len);
}

static int descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void descriptors_that_nobody_wants_are_closed(void **state)
{
	int fds[LINK_DESCRIPTORS], pair[2], before;
	struct link_message m;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	before = descriptors();
	send_descriptors(pair[1]);
	assert_true(link_receive(pair[0], &m, NULL, 0));
	assert_int_equal(descriptors(), before);
	send_descriptors(pair[1]);
	assert_true(link_receive(pair[0], &m, fds, 0));
	assert_int_equal(descriptors(), before + LINK_DESCRIPTORS);
	for (int i = 0; i < LINK_DESCRIPTORS; i++)
		close(fds[i]);
	close(pair[0]);
	close(pair[1]);
}

static void what_a_process_says_last_is_heard(void **state)
{
	struct link_message m;
	int pair[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_true(link_say(pair[0], LINK_SHOW, NULL, 0)); /* is never read */
	assert_true(link_say(pair[1], LINK_FAILED, "why", 0));
	close(pair[1]);
	assert_true(link_receive(pair[0], &m, NULL, 0));
	assert_string_equal(m.text, "why");
	assert_false(link_receive(pair[0], &m, NULL, 0));
	assert_int_equal(errno, 0);
	close(pair[0]);
}

/* @return the client's end */
static int come_for(struct broker *b, const char *queue, uint64_t number)
{
	struct gq_wire_hello hello = {
		.head = gq_wire_head_of(GQ_WIRE_HELLO, sizeof(hello)),
		.capacity = 16,
		.slot_bytes = 64,
		.result_bytes = 64,
	};
	int pair[2];

	snprintf(hello.queue, sizeof(hello.queue), "%s", queue);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	broker_adopt(b, pair[1], number, GQ_CLASSES - 1, &hello);
	return pair[0];
}

/* @return the type of what a client is told */
static uint32_t is_told(int client)
{
	union gq_wire w;

	assert_true(recv(client, &w, sizeof(w), 0) > 0);
	return w.head.type;
}

/* gpuqd sends both at once, and the reactor of the process is busy meanwhile: it waits for gpuqd,
 * which does not read. */
/* As in a process for queues: pair[0] is gpuqd's end of its link. */
static struct broker *start_linked(int pair[2])
{
	char error[BROKER_ERROR_ROOM];
	struct broker *b = start_broker("echo", 1); /* makes `cfg` */

	broker_stop(b);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	cfg.link = pair[1];
	b = broker_start(&cfg, error);
	assert_non_null(b);
	return b;
}

static void a_client_that_follows_a_reload_finds_the_new_queue(void **state)
{
	static struct broker_config more; /* large */
	char error[BROKER_ERROR_ROOM];
	struct link_message m;
	int first, next, pair[2];
	struct broker *b = start_linked(pair);
	struct fresh *f;

	(void)state;
	first = come_for(b, "default", 1);
	assert_int_equal(is_told(first), GQ_WIRE_WELCOME);
	more = cfg;
	more.queue[1] = more.queue[0];
	snprintf(more.queue[1].name, sizeof(more.queue[1].name), "new");
	more.queues = 2;
	f = broker_prepare(b, &more, error);
	assert_non_null(f);
	while (link_say(pair[1], LINK_READY, NULL, MSG_DONTWAIT))
		;
	close(first);
	nap_ms(100); /* the reactor has come to where it waits; or has not, and nothing is shown */
	broker_commit(b, f);
	next = come_for(b, "new", 2);
	do
		assert_true(link_receive(pair[0], &m, NULL, 0));
	while (m.kind != LINK_GONE);
	assert_int_equal(m.number, 1);
	assert_int_equal(is_told(next), GQ_WIRE_WELCOME);
	close(next);
	assert_true(link_receive(pair[0], &m, NULL, 0));
	assert_int_equal(m.number, 2);
	broker_stop(b);
	close(pair[0]);
	close(pair[1]);
	memset(&cfg, 0, sizeof(cfg));
}

/* ---- whose fault it was ---------------------------------------------------------------------- */

/* In a process for queues: what it tells gpuqd of a client, by a note of its dispatcher's. */
static void a_process_says_whose_fault_the_end_of_a_client_was(void **state)
{
	static const struct {
		enum note_kind note;
		uint32_t detail;
	} ends[] = { { NOTE_LOST, LINK_GONE_LOST }, { NOTE_BROKEN, LINK_GONE_BROKEN } };
	int pair[2];
	struct broker *b = start_linked(pair);

	(void)state;
	for (uint32_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		const int client = come_for(b, "default", i + 1);
		struct link_message m;

		assert_int_equal(is_told(client), GQ_WIRE_WELCOME);
		broker_note(b, &b->sessions->client, ends[i].note, "");
		assert_true(link_receive(pair[0], &m, NULL, 0));
		assert_int_equal(m.kind, LINK_GONE);
		assert_int_equal(m.number, i + 1);
		assert_int_equal(m.detail, ends[i].detail);
		close(client);
	}
	broker_stop(b);
	close(pair[0]);
	close(pair[1]);
	memset(&cfg, 0, sizeof(cfg));
}

/* What gpuqd starts as a process for queues, as it runs its own program: of its first client it
 * says that the queue was lost, of the others that they have broken the protocol. */
static int be_a_process_that_blames(void)
{
	struct link_message m = { .kind = LINK_READY };
	int fds[LINK_DESCRIPTORS];
	uint64_t clients = 0;

	(void)link_send(LINK_FD, &m, NULL, 0, 0);
	while (link_receive(LINK_FD, &m, fds, 0)) {
		const uint32_t how = clients == 0 ? LINK_GONE_LOST : LINK_GONE_BROKEN;
		const struct link_message gone = { .kind = LINK_GONE,
						   .detail = how,
						   .number = m.number };

		if (m.kind == LINK_CLIENT) {
			clients++;
			(void)link_send(LINK_FD, &gone, NULL, 0, 0);
		}
		for (int i = 0; i < LINK_DESCRIPTORS; i++)
			if (fds[i] >= 0)
				close(fds[i]);
		if (m.kind == LINK_STOP)
			break;
	}
	return 0;
}

static int reach_gpuqd(void)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(at.sun_path, sizeof(at.sun_path), "%s", own_socket);
	assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof(at)), 0);
	return fd;
}

static void ask_for(int fd, const char *queue)
{
	struct gq_wire_hello hello = {
		.head = gq_wire_head_of(GQ_WIRE_HELLO, sizeof(hello)),
		.capacity = 16,
		.slot_bytes = 64,
		.result_bytes = 64,
	};

	snprintf(hello.queue, sizeof(hello.queue), "%s", queue);
	/* One that connects too often may be told so before. */
	(void)sendto(fd, &hello, sizeof(hello), MSG_NOSIGNAL, NULL, 0);
}

/* gpuqd hears its processes before it answers. `fd`: one that it has let in. */
static void have_it_hear(int fd)
{
	ask_for(fd, "there is none");
	assert_int_equal(is_told(fd), GQ_WIRE_REFUSED);
	close(fd);
}

/* Whether gpuqd refuses it; else its process has had it, which ends it without a word. */
static bool is_refused(int fd)
{
	union gq_wire w;
	ssize_t n;

	/* Once, if what it asked for was not read; what gpuqd has said lies behind that. */
	do
		n = recv(fd, &w, sizeof(w), 0);
	while (n < 0 && errno == ECONNRESET);
	close(fd);
	return n > 0 && w.head.type == GQ_WIRE_REFUSED;
}

static void only_a_client_that_is_at_fault_costs_its_user_connections(void **state)
{
	const uint64_t second_ns = UINT64_C(1000000000);
	static struct page_clients clients; /* large */
	char error[BROKER_ERROR_ROOM], page_error_text[PAGE_ERROR];
	struct broker *b;
	int listening[2], fd;
	uint64_t fined_ns;

	(void)state;
	counts = page_create(NULL, NULL, 0, page_error_text);
	assert_non_null(counts);
	connect_rate = 1;
	q_set_log(NULL, NULL);
	b = start_broker("echo", 1); /* makes `cfg` */
	broker_stop(b);
	cfg.uid_connect_burst = 8;
	snprintf(cfg.queue[0].process, sizeof(cfg.queue[0].process), "blames");
	b = broker_start(&cfg, error);
	if (b == NULL)
		fail_msg("%s", error);
	listening[0] = reach_gpuqd();
	listening[1] = reach_gpuqd();
	fd = reach_gpuqd();
	ask_for(fd, "default");
	assert_false(is_refused(fd));
	have_it_hear(listening[0]);
	/* Its queue was lost: its user still has five of its eight connections. */
	fd = reach_gpuqd();
	fined_ns = gq__now_ns();
	ask_for(fd, "default");
	assert_false(is_refused(fd));
	have_it_hear(listening[1]);
	/* It had four, and owes six: it may come in seven seconds. */
	fd = reach_gpuqd();
	ask_for(fd, "default");
	if (!is_refused(fd))
		assert_true(gq__now_ns() - fined_ns >= 6 * second_ns);
	broker_show(b);
	for (unsigned i = 0; !page_read(counts, PAGE_CLIENTS_OF_QUEUES, 0, &clients); i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	assert_int_equal(clients.lost, 1);
	assert_in_range(clients.broken, 1, 2); /* the last may have been let in, and gone */
	broker_stop(b);
	(void)prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* gpuqd hides from its processes */
	page_destroy(counts);
	counts = NULL;
	connect_rate = 0;
	memset(&cfg, 0, sizeof(cfg));
}

/* Nonsense in place of a greeting. @return whether it was let in, and ended for that; or else
 * refused, as its user connects too often */
static bool lie(void)
{
	const uint64_t nonsense = 1;
	const int fd = reach_gpuqd();

	(void)sendto(fd, &nonsense, sizeof(nonsense), MSG_NOSIGNAL, NULL, 0);
	return !is_refused(fd);
}

static void who_lies_with_each_connection_is_let_in_ever_more_seldom(void **state)
{
	enum { LIES = 6, RATE = 1000, BURST = 3 };
	const QueueConfig c = { .capacity = 16,
				.slot_bytes = 64,
				.device = Q_DEVICE_REMOTE,
				.endpoint = own_endpoint };
	uint64_t fines = 0, began_ns;
	struct broker *b;
	GpuQueue *q;

	(void)state;
	connect_rate = RATE;
	q_set_log(NULL, NULL);
	b = start_broker("echo", 1);
	q = make_queue_from(&c);
	began_ns = gq__now_ns();
	for (uint64_t lies = 0; lies <= LIES; lies += lie())
		expect_echo(q, send(q, "x", 1), "x", 1); /* who is in notices nothing */
	for (int i = 0; i < LIES; i++)
		fines += (uint64_t)GQ_ARRIVALS_FINE << i;
	/* They have been paid by waiting, before the last one was let in: for 0.6 s. */
	assert_true(gq__now_ns() - began_ns >= (fines - BURST) * 1000000000 / RATE);
	q_shutdown(q);
	broker_stop(b);
	connect_rate = 0;
	memset(&cfg, 0, sizeof(cfg));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_queue_that_fails_ends_its_clients_and_takes_no_new_ones),
		cmocka_unit_test(a_process_whose_device_has_failed_says_so_and_ends),
		cmocka_unit_test(a_client_that_names_no_consumers_gets_no_more_than_one_that_does),
		cmocka_unit_test(a_bell_that_could_not_be_sent_is_sent_later),
		cmocka_unit_test(a_socket_that_is_full_is_rung_again_once_it_may_have_room),
		cmocka_unit_test(whoever_comes_while_gpuqd_ends_is_told_so_and_what_is_inside_ends),
		cmocka_unit_test(many_that_have_to_wait_are_a_reason_to_stop_accepting),
		cmocka_unit_test(a_device_that_fails_while_gpuqd_ends_holds_nothing_up),
		cmocka_unit_test(counts_are_written_and_windows_change_while_clients_come_and_go),
		cmocka_unit_test(a_user_that_connects_too_often_is_told_when_it_may_again),
		cmocka_unit_test(who_gives_up_while_it_waits_takes_nothing_from_the_others),
		cmocka_unit_test(a_client_whose_process_cannot_be_watched_is_refused),
		cmocka_unit_test(a_process_gets_no_keys_and_can_cut_no_file),
		cmocka_unit_test(descriptors_that_nobody_wants_are_closed),
		cmocka_unit_test(what_a_process_says_last_is_heard),
		cmocka_unit_test(a_client_that_follows_a_reload_finds_the_new_queue),
		cmocka_unit_test(a_process_says_whose_fault_the_end_of_a_client_was),
		cmocka_unit_test(only_a_client_that_is_at_fault_costs_its_user_connections),
		cmocka_unit_test(who_lies_with_each_connection_is_let_in_ever_more_seldom),
		cmocka_unit_test(without_a_path_both_sides_meet_in_run_gpuq),
	};

	if (argc > 1 && strcmp(argv[1], "--process") == 0)
		return be_a_process_that_blames();
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("broker_edges", tests, own_socket_set_up,
					   own_socket_tear_down);
}
