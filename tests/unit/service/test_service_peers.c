/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_peers.c - peers of gpuqd's services that go, die, do not read, or send nonsense, and
 * a gpuqd that is killed: each case below runs over each transport.
 */
/* The tests have a send() of their own. */
#define send send_on_socket
#include <sys/socket.h>
#undef send

/* First: a name of its classes is a macro elsewhere. */
#include "broker/service/router.h"

#include "daemon.h"
#include "ways.h"

#include "broker/policy/crc32c.h"
#include "host/base/clock.h"
#include "host/base/sys.h"
#include "host/service/transport.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- who goes, who dies ---------------------------------------------------------------------- */

static void t_1_death_a_caller_that_goes_takes_its_requests_along(void **state)
{
	BrokerClient *w = worker(state, "w", "op=slow", 1), *c = client(state);
	const uint64_t cancelled = count(state, "cancelled");
	BrokerRequest q;

	submit(c, "slow", "1", 1);
	submit(c, "slow", "2", 1);
	take_one(w, &q);
	q_broker_close(c);
	await_count(state, "cancelled", cancelled + 2);
	answer(w, &q, Q_REASON_OK);
	c = client(state);
	submit(c, "slow", "3", 1); /* the worker's place is free again */
	echo_one(w);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_death_a_worker_that_goes_loses_what_it_has_seen(void **state)
{
	BrokerClient *w = worker(state, "w", "op=slow", 1), *c = client(state);
	const uint64_t id = submit(c, "slow", "1", 1);
	BrokerRequest q;

	take_one(w, &q);
	q_broker_close(w);
	assert_true(expect_end(c, id, Q_ERR_LOST).may_have_run);
	q_broker_close(c);
	expect_quiet(state);
}

static void t_1_death_an_idempotent_request_goes_to_another_worker(void **state)
{
	const BrokerCall call = { .service = "slow", .timeout_ms = LONG_MS, .idempotent = true };
	BrokerClient *a = worker(state, "a", "op=slow", 1), *c = client(state), *b;
	BrokerRequest q;
	uint64_t id;

	assert_status(q_broker_submit(c, &call, &id), Q_OK);
	take_one(a, &q);
	b = worker(state, "b", "op=slow", 1);
	q_broker_close(a);
	echo_one(b);
	expect_reply(c, id, "", 0);
	q_broker_close(b);
	q_broker_close(c);
	expect_quiet(state);
}

/* What a child does until it is killed. It calls nothing of cmocka's. */
static pid_t watch_a_worker_die(void **state, const char *name)
{
	const pid_t parent = getpid();
	char endpoint[160], byte;
	int told[2];
	pid_t pid;

	((const struct way *)*state)->endpoint(&usual, endpoint);
	assert_int_equal(pipe(told), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		const BrokerConfig cfg = { .endpoint = endpoint, .timeout_ms = LONG_MS };
		const BrokerService s = { .name = name, .capability = "op=die", .capacity = 2 };
		BrokerClient *c;
		BrokerRequest q;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		c = getppid() == parent ? q_broker_connect(&cfg) : NULL;
		if (c == NULL || q_service_register(c, &s) != Q_OK || write(told[1], "x", 1) != 1 ||
		    q_service_recv(c, &q, LONG_MS) != Q_OK || write(told[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(told[1]);
	assert_int_equal(read(told[0], &byte, 1), 1); /* it is registered */
	{
		BrokerClient *c = client(state);
		const uint64_t id = submit(c, "die", "1", 1);

		assert_int_equal(read(told[0], &byte, 1), 1); /* it has the request */
		close(told[0]);
		assert_int_equal(kill(pid, SIGKILL), 0);
		assert_true(expect_end(c, id, Q_ERR_LOST).may_have_run);
		q_broker_close(c);
	}
	return pid;
}

static void t_1_death_a_killed_process_is_seen(void **state)
{
	int status;
	pid_t pid;

	if (((const struct way *)*state)->of_this_process) {
		print_message("left out: both ends are in this process\n");
		skip();
	}
	pid = watch_a_worker_die(state, "mortal");
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	expect_quiet(state);
}

/* It has one by fork(), and goes on. */
static void t_1_death_a_child_s_copy_of_a_connection_keeps_nothing(void **state)
{
	BrokerClient *w = worker(state, "w", "op=x", 1);
	const pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	q_broker_close(w);
	expect_quiet(state);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* ---- what a process says just before it dies ---- */

static _Atomic pid_t watched;
static int go[2];

/* The router's: when there is nothing of this process it answers, and dies, before the router sees
 * that. */
ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
	const ssize_t n = syscall(SYS_recvmsg, fd, m, flags);
	const int error = errno;
	struct ucred who = { 0 };
	socklen_t room = sizeof(who);
	siginfo_t end;

	if (n < 0 && error == EAGAIN && watched != 0 &&
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &room) == 0 && who.pid == watched) {
		(void)!write(go[1], "x", 1);
		(void)waitid(P_PID, (id_t)watched, &end, WEXITED | WNOWAIT);
		watched = 0;
	}
	errno = error;
	return n;
}

/* A child, which calls nothing of cmocka's. */
static void answer_and_die(const char *endpoint, int told)
{
	const BrokerConfig cfg = { .endpoint = endpoint, .timeout_ms = LONG_MS };
	const BrokerService s = { .name = "w", .capability = "op=last", .heartbeat_ms = 20 };
	struct pollfd now = { .fd = go[0], .events = POLLIN };
	BrokerClient *c = q_broker_connect(&cfg);
	BrokerRequest q, none;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (c == NULL || q_service_register(c, &s) != Q_OK || write(told, "x", 1) != 1 ||
	    q_service_recv(c, &q, LONG_MS) != Q_OK || write(told, "x", 1) != 1)
		_exit(1);
	while (poll(&now, 1, 0) == 0)
		(void)q_service_recv(c, &none, 10); /* it says that it lives */
	_exit(q_service_reply(c, &q, Q_REASON_OK, "done", 4) == Q_OK ? 0 : 1);
}

/* One that has ended with something unread is looked at seldom. Its user's next region must not be
 * refused for what has been read by now. */
static void what_those_that_have_gone_have_read_counts_no_more(void **state)
{
	static struct router r;                                          /* large */
	const uint32_t share = (uint32_t)(gq_sys_descriptors() / 4 / 2); /* a user's: away.c */
	struct user user = { .away = share };
	struct peer gone = { .user = &user, .away = AWAY_MOST }, here = { .user = &user };
	int pair[2];
	char byte;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	gone.link.fd = pair[0];
	r.unread = &gone;
	r.away = share;
	assert_int_equal(write(pair[0], "x", 1), 1);
	assert_int_equal(away_objection(&r, &here), TRANSPORT_HELD); /* its user has its share */
	assert_int_equal(read(pair[1], &byte, 1), 1);
	r.swept_ns = 0; /* as a millisecond later */
	assert_int_equal(away_objection(&r, &here), TRANSPORT_DONE);
	assert_int_equal(gone.away, 0);
	assert_int_equal(user.away, share - AWAY_MOST);
	assert_int_equal(r.away, share - AWAY_MOST);
	close(pair[0]);
	close(pair[1]);
}

static void t_1_death_the_last_answer_of_a_process_counts(void **state)
{
	char endpoint[160], byte;
	BrokerClient *c;
	uint64_t id;
	int told[2], status;
	pid_t pid;

	(void)state;
	unix_endpoint(&usual, endpoint);
	assert_int_equal(pipe(told) + pipe(go), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		answer_and_die(endpoint, told[1]);
	close(told[1]);
	assert_int_equal(read(told[0], &byte, 1), 1);
	c = try_client(&usual, &ways[0], NULL);
	assert_non_null(c);
	id = submit(c, "last", "x", 1);
	assert_int_equal(read(told[0], &byte, 1), 1);
	watched = pid;
	expect_reply(c, id, "done", 4);
	while (watched != 0) /* the router uses go[1] */
		nap_ms(1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	close(told[0]);
	close(go[0]);
	close(go[1]);
	q_broker_close(c);
	expect_quiet((void *[]){ (void *)(uintptr_t)&ways[0] });
}

static void t_1_death_of_the_router_ends_every_call(void **state)
{
	struct router_config cfg = unhurried();
	const BrokerService s = { .name = "w", .capability = "op=x" };
	static struct house h;
	BrokerClient *w, *c, *watch;
	BrokerServiceInfo info;
	BrokerRequest q;

	open_house(&h, &cfg);
	w = try_client(&h, *state, NULL);
	c = try_client(&h, *state, NULL);
	watch = try_client(&h, *state, NULL);
	assert_true(w != NULL && c != NULL && watch != NULL);
	assert_status(q_service_register(w, &s), Q_OK);
	while (q_broker_watch(watch, &info, 0) == Q_OK)
		;
	router_stop(h.router);
	h.router = NULL;
	assert_status(q_service_recv(w, &q, LONG_MS), Q_ERR_LOST);
	assert_status(q_broker_stats(c, NULL, &(size_t){ 0 }), Q_ERR_LOST);
	while (q_broker_watch(watch, &info, LONG_MS) == Q_OK) /* w has gone */
		;
	assert_status(q_broker_watch(watch, &info, LONG_MS), Q_ERR_LOST);
	q_broker_close(c);
	q_broker_close(w);
	q_broker_close(watch);
	close_house(&h);
}

/* Also the regions whose descriptors somebody has not read: one that is there, and one that has
 * gone. */
static void a_router_that_ends_has_closed_all_that_it_had(void **state)
{
	const uint32_t action = 1;
	const uint64_t size = 4096;
	struct router_config cfg = unhurried();
	const unsigned before = files_now();
	static struct house h;
	BrokerClient *silent[2], *c;
	char endpoint[160], text[4096];
	size_t n;

	(void)state;
	open_house(&h, &cfg);
	unix_endpoint(&h, endpoint);
	for (unsigned i = 0; i < 2; i++) {
		struct gq_frame f = { .type = GQ_MESSAGE_REGION, .correlation = 2 };

		silent[i] = gq__broker_open(endpoint, LONG_MS);
		assert_non_null(silent[i]);
		say_hello(silent[i], GQ_WIRE_VERSION, GQ_WIRE_VERSION);
		gq__frame_set(&f, GQ_TLV_ACTION, false, &action, sizeof(action));
		gq__frame_set(&f, GQ_TLV_SIZE, false, &size, sizeof(size));
		throw_frame(silent[i], &f);
	}
	assert_int_equal(shutdown(silent[0]->socket, SHUT_WR), 0);
	c = try_client(&h, &ways[0], NULL);
	assert_non_null(c);
	for (text[0] = '\0'; strstr(text, "regions\t2\n") == NULL; nap_ms(1)) {
		n = sizeof(text);
		assert_status(q_broker_stats(c, text, &n), Q_OK);
	}
	q_broker_close(c);
	close_house(&h);
	assert_int_equal(files_now(), before + 2);
	q_broker_close(silent[0]);
	q_broker_close(silent[1]);
}

/* ---- who does not read ----------------------------------------------------------------------- */

/* It asks, and never reads: at some time nothing more is taken from it. */
static BrokerClient *deaf(void **state)
{
	struct gq_frame f = { .type = GQ_MESSAGE_STATS };
	static uint8_t out[256];
	BrokerClient *c = greeted(state);
	unsigned refused = 0;

	for (f.correlation = 1; refused < 50;) {
		const size_t n = encode(&f, out);

		assert_true(f.correlation < 1000000);
		if (c->transport->send(c, out, n) == (long)n) {
			refused = 0;
			f.correlation++;
			continue;
		}
		assert_true(errno == EAGAIN || errno == ENOBUFS);
		refused++;
		nap_ms(1);
	}
	return c;
}

static void t_1_slow_reader_harms_nobody_else(void **state)
{
	BrokerClient *never = deaf(state);
	BrokerClient *w = worker(state, "w", "op=echo", 1), *c = client(state);

	for (unsigned i = 0; i < 20; i++) {
		const uint64_t id = submit(c, "echo", "well", 4);

		echo_one(w);
		expect_reply(c, id, "well", 4);
	}
	q_broker_close(never);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

static void t_1_slow_reader_costs_a_bounded_number_of_bytes(void **state)
{
	enum { MOST = 4 << 20 }; /* three queues of 512 answers */
	const size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
	BrokerClient *c[3] = { deaf(state), deaf(state), deaf(state) };

	assert_true(mallinfo2().uordblks + mallinfo2().hblkhd < before + MOST);
	for (unsigned i = 0; i < 3; i++)
		q_broker_close(c[i]);
}

static void t_1_slow_reader_that_reads_again_gets_all(void **state)
{
	BrokerClient *c = deaf(state);
	uint64_t last = 0;

	for (unsigned i = 0; i < 300; i++) {
		struct heard *h = next(c);

		assert_non_null(h);
		assert_int_equal(h->frame.type, GQ_MESSAGE_STATS);
		assert_int_equal(h->frame.correlation, ++last);
		gq__broker_free(h);
	}
	q_broker_close(c);
}

static void t_1_slow_worker_s_requests_wait_at_the_daemon(void **state)
{
	BrokerClient *w = worker(state, "w", "op=slow", 2), *c = client(state);
	uint64_t id[8];
	BrokerRequest q[2];

	for (unsigned i = 0; i < 8; i++)
		id[i] = submit(c, "slow", "x", 1);
	take_one(w, &q[0]);
	take_one(w, &q[1]);
	assert_status(q_service_recv(w, &(BrokerRequest){ 0 }, 5), Q_ERR_TIMEOUT);
	answer(w, &q[0], Q_REASON_OK);
	answer(w, &q[1], Q_REASON_OK);
	for (unsigned i = 2; i < 8; i++)
		echo_one(w);
	for (unsigned i = 0; i < 8; i++)
		expect_reply(c, id[i], "x", 1);
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

/* ---- bytes that are no frames ---------------------------------------------------------------- */

/* A frame with all that a request has. */
static size_t good(uint8_t *to, uint64_t correlation)
{
	const uint64_t timeout_us = 1000000;
	struct gq_frame f = { .type = GQ_MESSAGE_REQUEST, .correlation = correlation };

	gq__frame_set(&f, GQ_TLV_NAME, false, "nobody", 6);
	gq__frame_set(&f, GQ_TLV_PAYLOAD, false, "payload", 7);
	gq__frame_set(&f, GQ_TLV_TIMEOUT, false, &timeout_us, sizeof(timeout_us));
	return encode(&f, to);
}

static void put32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, sizeof(value));
}

/* As gpuqd will compute it. */
static void seal(uint8_t *frame, size_t bytes)
{
	put32(frame + GQ_WIRE_AT_CHECKSUM, 0);
	put32(frame + GQ_WIRE_AT_CHECKSUM, gq__crc32c(0, frame, bytes));
}

enum { AT_TLVS = GQ_WIRE_HEADER_BYTES };

static size_t spoil_magic(uint8_t *f, size_t n)
{
	f[GQ_WIRE_AT_MAGIC] ^= 1;
	return n;
}

static size_t spoil_version(uint8_t *f, size_t n)
{
	put32(f + GQ_WIRE_AT_VERSION, 2);
	return n;
}

static size_t spoil_length_low(uint8_t *f, size_t n)
{
	put32(f + GQ_WIRE_AT_LENGTH, 32);
	return n;
}

static size_t spoil_length_high(uint8_t *f, size_t n)
{
	put32(f + GQ_WIRE_AT_LENGTH, (uint32_t)n + 8);
	return n;
}

static size_t spoil_length_huge(uint8_t *f, size_t n)
{
	put32(f + GQ_WIRE_AT_LENGTH, UINT32_MAX);
	return n;
}

static size_t spoil_short(uint8_t *f, size_t n)
{
	(void)f;
	(void)n;
	return 16;
}

static size_t spoil_cut(uint8_t *f, size_t n)
{
	(void)f;
	return n - 8;
}

static size_t spoil_flags(uint8_t *f, size_t n)
{
	f[GQ_WIRE_AT_FLAGS + 3] |= 0x80;
	seal(f, n);
	return n;
}

static size_t spoil_checksum(uint8_t *f, size_t n)
{
	f[GQ_WIRE_AT_CHECKSUM] ^= 1;
	return n;
}

static size_t spoil_body(uint8_t *f, size_t n)
{
	f[n - 1] ^= 0x10;
	return n;
}

static size_t spoil_type(uint8_t *f, size_t n)
{
	put32(f + GQ_WIRE_AT_TYPE, 0x7f01);
	seal(f, n);
	return n;
}

static size_t spoil_side(uint8_t *f, size_t n)
{
	put32(f + GQ_WIRE_AT_TYPE, GQ_MESSAGE_HELLO);
	seal(f, n);
	return n;
}

static size_t spoil_tlv_length(uint8_t *f, size_t n)
{
	put32(f + AT_TLVS + 4, UINT32_MAX - 7);
	seal(f, n);
	return n;
}

static size_t spoil_tlv_flags(uint8_t *f, size_t n)
{
	f[AT_TLVS + 2] |= 0x80;
	seal(f, n);
	return n;
}

static size_t spoil_tlv_must(uint8_t *f, size_t n)
{
	f[AT_TLVS] = 0xee; /* no such TLV */
	f[AT_TLVS + 2] |= GQ_TLV_MUST;
	seal(f, n);
	return n;
}

static size_t spoil_tlv_padding(uint8_t *f, size_t n)
{
	f[AT_TLVS + 8 + 7] = 1; /* behind six bytes of name */
	seal(f, n);
	return n;
}

static size_t spoil_tlv_twice(uint8_t *f, size_t n)
{
	memcpy(f + n, f + AT_TLVS, 16);
	put32(f + GQ_WIRE_AT_LENGTH, (uint32_t)n + 16);
	seal(f, n + 16);
	return n + 16;
}

static size_t spoil_name(uint8_t *f, size_t n)
{
	f[AT_TLVS + 8] = '/';
	seal(f, n);
	return n;
}

static size_t spoil_no_name(uint8_t *f, size_t n)
{
	memmove(f + AT_TLVS, f + AT_TLVS + 16, n - AT_TLVS - 16);
	put32(f + GQ_WIRE_AT_LENGTH, (uint32_t)n - 16);
	seal(f, n - 16);
	return n - 16;
}

static const struct spoilt {
	const char *name;
	size_t (*spoil)(uint8_t *frame, size_t bytes);
	bool closes;
	uint32_t status;
} spoilt[] = {
	{ "magic", spoil_magic, true, GQ_WIRE_INVALID },
	{ "version", spoil_version, true, GQ_WIRE_UNSUPPORTED },
	{ "length_below_a_header", spoil_length_low, true, GQ_WIRE_INVALID },
	{ "length_above_what_came", spoil_length_high, true, GQ_WIRE_INVALID },
	{ "length_huge", spoil_length_huge, true, GQ_WIRE_INVALID },
	{ "shorter_than_a_header", spoil_short, true, GQ_WIRE_INVALID },
	{ "cut", spoil_cut, true, GQ_WIRE_INVALID },
	{ "reserved_flag", spoil_flags, false, GQ_WIRE_INVALID },
	{ "checksum", spoil_checksum, false, GQ_WIRE_CHECKSUM },
	{ "a_bit_of_the_body", spoil_body, false, GQ_WIRE_CHECKSUM },
	{ "unknown_type", spoil_type, false, GQ_WIRE_UNSUPPORTED },
	{ "type_of_another_state", spoil_side, false, GQ_WIRE_INVALID },
	{ "tlv_longer_than_the_frame", spoil_tlv_length, false, GQ_WIRE_INVALID },
	{ "tlv_reserved_flag", spoil_tlv_flags, false, GQ_WIRE_INVALID },
	{ "tlv_unknown_and_needed", spoil_tlv_must, false, GQ_WIRE_UNSUPPORTED },
	{ "tlv_padding", spoil_tlv_padding, false, GQ_WIRE_INVALID },
	{ "tlv_twice", spoil_tlv_twice, false, GQ_WIRE_INVALID },
	{ "name_with_a_slash", spoil_name, false, GQ_WIRE_INVALID },
	{ "without_a_name", spoil_no_name, false, GQ_WIRE_INVALID },
};

/* A case of the table: one that is no frame ends the connection after one answer, one that is wrong
 * does not, and neither disturbs another. */
struct bad_frame {
	const struct way *way;
	const struct spoilt *what;
};

static void t_1_bad_frame(void **state)
{
	const struct bad_frame *b = *state;
	void *way = (void *)(uintptr_t)b->way;
	const uint64_t before = count(&way, "bad_frames");
	BrokerClient *c = greeted(&way), *other = greeted(&way);
	uint8_t frame[512];
	struct heard *h;
	size_t n;

	n = good(frame, 7);
	n = b->what->spoil(frame, n);
	assert_true(throw_bytes(c, frame, n));
	h = next(c);
	assert_non_null(h);
	assert_int_equal(h->frame.type, GQ_MESSAGE_NACK);
	assert_int_equal(gq__frame_u32(&h->frame, GQ_TLV_STATUS, 0), b->what->status);
	gq__broker_free(h);
	if (b->what->closes) {
		expect_closed(c);
	} else {
		n = good(frame, 8);
		assert_true(throw_bytes(c, frame, n));
		h = next(c);
		assert_non_null(h);
		assert_int_equal(h->frame.correlation, 8);
		gq__broker_free(h);
		q_broker_close(c);
	}
	expect_it_serves(other, 9);
	q_broker_close(other);
	assert_int_equal(count(&way, "bad_frames"), before + 1);
}

static void t_1_oversize_frame_is_refused(void **state)
{
	static uint8_t frame[GQ_WIRE_FRAME_MAX + 8];
	BrokerClient *c = greeted(state), *other = greeted(state);

	(void)good(frame, 7);
	put32(frame + GQ_WIRE_AT_LENGTH, sizeof(frame));
	if (throw_bytes(c, frame, sizeof(frame)))
		expect_nack(c, 7, GQ_WIRE_INVALID);
	else
		assert_int_equal(errno, EMSGSIZE); /* the transport itself does not take it */
	q_broker_close(c);
	expect_it_serves(other, 9);
	q_broker_close(other);
}

static void t_1_oversize_call_is_refused_by_the_library(void **state)
{
	static char payload[Q_BROKER_MAX_BYTES + 1];
	const BrokerCall call = { .service = "x", .payload = payload, .bytes = sizeof(payload) };
	BrokerClient *c = client(state);
	uint64_t id;

	assert_status(q_broker_submit(c, &call, &id), Q_ERR_INVALID_ARG);
	expect_it_serves(c, 9);
	q_broker_close(c);
}

static void t_1_oversize_largest_frame_is_read(void **state)
{
	static uint8_t payload[GQ_WIRE_FRAME_MAX];
	struct gq_frame f = { .type = GQ_MESSAGE_REQUEST, .correlation = 7 };
	BrokerClient *c = greeted(state);
	struct heard *h;

	gq__frame_set(&f, GQ_TLV_NAME, false, "nobody", 6);
	gq__frame_set(&f, GQ_TLV_PAYLOAD, false, payload,
		      GQ_WIRE_FRAME_MAX - GQ_WIRE_HEADER_BYTES - 16 - 8);
	throw_frame(c, &f);
	h = next(c);
	assert_non_null(h);
	assert_int_equal(h->frame.type, GQ_MESSAGE_RESPONSE);
	assert_int_equal(h->frame.correlation, 7); /* it was read, and has too large a payload */
	assert_int_equal(gq__frame_u32(&h->frame, GQ_TLV_STATUS, 0), GQ_WIRE_INVALID);
	gq__broker_free(h);
	expect_it_serves(c, 8);
	q_broker_close(c);
}

static void t_1_bad_frames_sixteen_end_the_connection(void **state)
{
	BrokerClient *c = greeted(state);
	uint8_t frame[512];
	size_t n = good(frame, 7);

	n = spoil_checksum(frame, n);
	for (unsigned i = 0; i < 16; i++) {
		assert_true(throw_bytes(c, frame, n));
		expect_nack(c, 7, GQ_WIRE_CHECKSUM);
	}
	expect_closed(c);
}

/* Every prefix of a good frame: a connection each, of which none gets more than an answer. */
static void t_1_bad_frame_every_prefix_is_refused(void **state)
{
	uint8_t frame[512];
	const size_t n = good(frame, 7);

	for (size_t i = 1; i < n; i += 7) {
		BrokerClient *c = greeted(state);

		assert_true(throw_bytes(c, frame, i));
		gq__broker_free(next(c));
		expect_closed(c);
	}
}

static void t_1_noise_harms_nobody_else(void **state)
{
	BrokerClient *w = worker(state, "w", "op=echo", 1), *c = client(state);
	uint8_t noise[600];
	uint32_t seed = 12345;

	for (unsigned i = 0; i < 30; i++) {
		BrokerClient *liar = i % 2 == 0 ? raw(state) : greeted(state);
		const uint64_t id = submit(c, "echo", "well", 4);

		for (unsigned k = 0; k < 10; k++) {
			size_t n;

			for (size_t j = 0; j < sizeof(noise); j++)
				noise[j] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 24);
			n = k % 2 == 0 ? good(noise, 7) : seed % sizeof(noise) + 1;
			noise[seed % n] ^= (uint8_t)(seed >> 16 | 1);
			if (!throw_bytes(liar, noise, n))
				break;
		}
		q_broker_close(liar);
		echo_one(w);
		expect_reply(c, id, "well", 4);
	}
	q_broker_close(c);
	q_broker_close(w);
	expect_quiet(state);
}

/* ---- gpuqd itself ---------------------------------------------------------------------------- */

/* As a process of its own, with the keys of the configuration. */
static void t_4_a_killed_daemon_ends_every_call(void **state)
{
	const BrokerService s = { .name = "w", .capability = "op=slow" };
	const struct way *way = *state;
	struct house h = { .cfg = { .netlink = next_port() } };
	BrokerClient *w, *c, *idle, *hasty;
	char keys[160] = "", path[128];
	BrokerServiceInfo info;
	struct daemon d;
	BrokerRequest q;
	uint64_t id;

	if (way->of_this_process) {
		print_message("left out: both ends are in this process\n");
		skip();
	}
	snprintf(h.folder, sizeof(h.folder), "/tmp/gpuq-transport-XXXXXX");
	assert_non_null(mkdtemp(h.folder));
	name_chardev(&h);
	if (has_netlink)
		snprintf(keys, sizeof(keys), "netlink = %u\n", h.cfg.netlink);
	if (has_chardev)
		snprintf(keys + strlen(keys), sizeof(keys) - strlen(keys), "chardev = %s\n",
			 h.cfg.chardev);
	daemon_set_up(&d, "", keys);
	snprintf(h.cfg.socket, sizeof(h.cfg.socket), "%s", d.services);
	w = try_client(&h, way, NULL);
	c = try_client(&h, way, NULL);
	idle = try_client(&h, way, NULL);
	hasty = try_client(&h, way, NULL);
	assert_true(w != NULL && c != NULL && idle != NULL && hasty != NULL);
	assert_status(q_service_register(w, &s), Q_OK);
	id = submit(c, "slow", "x", 1);
	take_one(w, &q);
	(void)daemon_end(&d, SIGKILL);
	assert_status(q_broker_wait(c, id, NULL, &(size_t){ 0 }, NULL, LONG_MS), Q_ERR_LOST);
	assert_status(q_service_reply(w, &q, Q_REASON_OK, NULL, 0), Q_ERR_LOST);
	id = 0;
	while (q_broker_watch(hasty, &info, 1) != Q_ERR_LOST) /* and who never waits for long */
		assert_true(id++ < LONG_MS);
	for (QueueStatus status = Q_OK; status != Q_ERR_LOST;) { /* who waits elsewhere, too */
		struct pollfd at = { .fd = q_broker_fd(idle), .events = POLLIN };

		assert_int_equal(poll(&at, 1, (int)LONG_MS), 1);
		do
			status = q_broker_watch(idle, &info, 0);
		while (status == Q_OK);
		assert_true(status == Q_ERR_TIMEOUT || status == Q_ERR_LOST);
	}
	q_broker_close(c);
	q_broker_close(w);
	q_broker_close(idle);
	q_broker_close(hasty);
	daemon_start(&d); /* what the killed one has left is in nobody's way */
	c = try_client(&h, way, NULL);
	assert_non_null(c);
	q_broker_close(c);
	daemon_tear_down(&d);
	snprintf(path, sizeof(path), "%s/c.lock", h.folder);
	unlink(path);
	assert_int_equal(rmdir(h.folder), 0);
}

/* ---- who comes too often --------------------------------------------------------------------- */

static unsigned coming;

static enum transport_result come(struct door *d, struct link *out)
{
	*out = (struct link){ .transport = d->transport, .fd = -1, .pidfd = -1, .uid = 1000 };
	return coming-- != 0 ? TRANSPORT_DONE : TRANSPORT_NOT_NOW;
}

/* Where a second has passed meanwhile, one may come in, and gives up. */
static enum transport_result give_up(struct link *l)
{
	(void)l;
	return TRANSPORT_NOBODY;
}

/* Letting those wait takes a CPU, too, as does refusing. */
static void many_that_have_to_wait_are_a_reason_to_stop_accepting(void **state)
{
	const struct transport transport = { .name = "none", .accept = come, .begin = give_up };
	struct door door = { .transport = &transport, .fd = -1, .pump_fd = -1 };
	static struct router r; /* large; its thread is this one */

	(void)state;
	gq__arrivals_init(&r.arrivals, 1, 1);
	gq__tarpit_init(&r.tarpit, UINT32_MAX);
	r.cfg.uid_connections = r.cfg.connections = 1;
	/* Once is enough, but that this thread may lose its CPU meanwhile. */
	for (unsigned i = 0; door.again_ns == 0; i++) {
		assert_true(i < 100);
		gq__arrivals_fine(&r.arrivals, 1000, gq__now_ns()); /* nothing is left */
		coming = 2 * GQ_ARRIVALS_REFUSALS;
		peer_accept(&r, &door);
		assert_true(r.tarpit.count >= GQ_ARRIVALS_REFUSALS);
		while (gq__tarpit_due(&r.tarpit, UINT64_MAX) >= 0)
			;
	}
}

/* ---- all of them ----------------------------------------------------------------------------- */

int main(int argc, char **argv)
{
	const struct CMUnitTest cases[] = {
		cmocka_unit_test(t_1_death_a_caller_that_goes_takes_its_requests_along),
		cmocka_unit_test(t_1_death_a_worker_that_goes_loses_what_it_has_seen),
		cmocka_unit_test(t_1_death_an_idempotent_request_goes_to_another_worker),
		cmocka_unit_test(t_1_death_a_killed_process_is_seen),
		cmocka_unit_test(t_1_death_a_child_s_copy_of_a_connection_keeps_nothing),
		cmocka_unit_test(t_1_death_of_the_router_ends_every_call),
		cmocka_unit_test(t_4_a_killed_daemon_ends_every_call),
		cmocka_unit_test(t_1_slow_reader_harms_nobody_else),
		cmocka_unit_test(t_1_slow_reader_costs_a_bounded_number_of_bytes),
		cmocka_unit_test(t_1_slow_reader_that_reads_again_gets_all),
		cmocka_unit_test(t_1_slow_worker_s_requests_wait_at_the_daemon),
		cmocka_unit_test(t_1_oversize_frame_is_refused),
		cmocka_unit_test(t_1_oversize_call_is_refused_by_the_library),
		cmocka_unit_test(t_1_oversize_largest_frame_is_read),
		cmocka_unit_test(t_1_bad_frames_sixteen_end_the_connection),
		cmocka_unit_test(t_1_bad_frame_every_prefix_is_refused),
		cmocka_unit_test(t_1_noise_harms_nobody_else),
	}, alone[] = {
		cmocka_unit_test(a_router_that_ends_has_closed_all_that_it_had),
		cmocka_unit_test(many_that_have_to_wait_are_a_reason_to_stop_accepting),
		cmocka_unit_test(what_those_that_have_gone_have_read_counts_no_more),
		cmocka_unit_test(t_1_death_the_last_answer_of_a_process_counts),
	};
	enum {
		CASES = sizeof(cases) / sizeof(cases[0]),
		ALONE = sizeof(alone) / sizeof(alone[0]),
		SPOILT = sizeof(spoilt) / sizeof(spoilt[0]),
	};
	static struct CMUnitTest tests[WAYS * (CASES + SPOILT) + ALONE];
	static struct bad_frame bad[WAYS][SPOILT];
	unsigned n;

	if (!ways_look())
		return 77;
	/* These first: of one before it the router may still close something. */
	memcpy(tests, alone, sizeof(alone));
	n = ALONE + ways_add(tests + ALONE, cases, CASES);
	for (unsigned w = 0; w < WAYS; w++) {
		for (unsigned i = 0; i < SPOILT && way_is_there(&ways[w]); i++) {
			char name[64];

			bad[w][i] = (struct bad_frame){ &ways[w], &spoilt[i] };
			snprintf(name, sizeof(name), "t_1_bad_frame %s", spoilt[i].name);
			tests[n++] = (struct CMUnitTest){ way_name(name, &ways[w]), t_1_bad_frame,
							  NULL, NULL, &bad[w][i] };
		}
	}
	return ways_run("service_peers", tests, n, argc, argv);
}
