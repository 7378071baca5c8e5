/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_region.c - requests to services whose payload lies in a region: it is copied by
 * nobody, cannot change, and is there until it has been read, whatever its owner does. gpuqd is a
 * process of its own; caller and worker are connections of this one thread, but where one attacks
 * or is to be killed.
 */
/* The tests have names of their own. */
#define send send_on_socket
#include <sys/socket.h>
#undef send

#include "callers.h"
#include "daemon.h"
#include "support.h"

#include "broker/policy/crc32c.h"
#include "broker/policy/frame.h"
#include "device/protocol/atomics.h"
#include "host/base/clock.h"
#include "host/service/state.h"

#include <gpuq/broker.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, SIZE = 16 * PAGE };

static struct daemon d;
static struct daemon_held idle;

static void begin(const char *words)
{
	char keys[256];

	snprintf(keys, sizeof(keys), "window = 256\nheartbeat_ms = 60000\n%s", words);
	daemon_set_up(&d, "", keys);
	idle = daemon_held(&d);
}

static BrokerClient *client(void)
{
	return connect_to_services(d.broker);
}

static BrokerClient *worker(const char *name, const char *can, uint32_t capacity)
{
	const BrokerService s = { .name = name, .capability = can, .capacity = capacity };

	return connect_worker(d.broker, &s);
}

static uint64_t count(const char *name)
{
	return services_count(d.broker, name);
}

static void await_count(const char *name, uint64_t value)
{
	services_await_count(d.broker, name, value);
}

/* Nothing of what there was is left: no request, no region, no descriptor. */
static void end(void)
{
	await_count("inside", 0);
	await_count("regions", 0);
	assert_int_equal(count("region_bytes"), 0);
	daemon_await_held(&d, &idle);
	daemon_tear_down(&d);
}

/* How many regions gpuqd has mapped. */
static unsigned mapped_there(void)
{
	char path[64], line[512];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)d.pid);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f) != NULL)
		n += strstr(line, "gpuq-region") != NULL;
	fclose(f);
	return n;
}

/* A region that is filled, and not sealed yet. */
static BrokerRegion fresh(BrokerClient *c, size_t bytes)
{
	BrokerRegion g;

	if (q_broker_region_create(c, bytes, &g) != Q_OK)
		fail_msg("%s", q_last_error());
	assert_int_equal(g.bytes, bytes);
	for (size_t i = 0; i < bytes; i++)
		((uint8_t *)g.memory)[i] = (uint8_t)(i * 7 + i / 251);
	return g;
}

static BrokerRegion sealed(BrokerClient *c, size_t bytes)
{
	const BrokerRegion g = fresh(c, bytes);

	if (q_broker_region_seal(c, g.id) != Q_OK)
		fail_msg("%s", q_last_error());
	return g;
}

static uint64_t submit(BrokerClient *c, const BrokerRegion *g, uint64_t offset, size_t bytes)
{
	const BrokerExtent at = { g->id, offset };
	const BrokerCall call = {
		.service = "read", .extent = &at, .bytes = bytes, .timeout_ms = LONG_MS
	};
	uint64_t id = 0;

	if (q_broker_submit(c, &call, &id) != Q_OK)
		fail_msg("%s", q_last_error());
	return id;
}

static BrokerRequest take_one(BrokerClient *w)
{
	BrokerRequest q;

	if (q_service_recv(w, &q, LONG_MS) != Q_OK)
		fail_msg("%s", q_last_error());
	return q;
}

static void answer(BrokerClient *w, BrokerRequest *q)
{
	assert_int_equal(q_service_reply(w, q, Q_REASON_OK, NULL, 0), Q_OK);
}

/* ---- what it is for -------------------------------------------------------------------------- */

static void a_payload_is_read_where_it_lies(void **state)
{
	static const struct {
		uint64_t offset;
		size_t bytes;
	} parts[] = { { 0, SIZE + 5 }, { 0, 1 },       { 1, PAGE },
		      { PAGE - 1, 2 }, { PAGE, PAGE }, { 3 * PAGE + 7, PAGE },
		      { SIZE + 4, 1 }, { SIZE - 1, 6 } };
	BrokerClient *c, *w;
	BrokerRegion g;

	(void)state;
	begin("");
	c = client();
	w = worker("w", "op=read", 4);
	g = sealed(c, SIZE + 5);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		const uint64_t id = submit(c, &g, parts[i].offset, parts[i].bytes);
		BrokerRequest q = take_one(w);

		assert_int_equal(q.bytes, parts[i].bytes);
		assert_memory_equal(q.payload, (const uint8_t *)g.memory + parts[i].offset,
				    q.bytes);
		assert_ptr_not_equal(q.payload, (const uint8_t *)g.memory + parts[i].offset);
		answer(w, &q);
		(void)await_end(c, id, Q_OK, NULL);
	}
	assert_int_equal(q_broker_region_end(c, g.id), Q_OK);
	assert_int_equal(q_broker_region_end(c, g.id), Q_ERR_NOT_FOUND);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void rg_8_a_payload_in_a_region_is_copied_by_nobody(void **state)
{
	static uint8_t bytes[Q_BROKER_MAX_BYTES];
	const BrokerCall carried = {
		.service = "read", .payload = bytes, .bytes = sizeof(bytes), .timeout_ms = LONG_MS
	};
	BrokerClient *c, *w;
	BrokerRegion g;
	BrokerRequest q;
	uint64_t id, copied;

	(void)state;
	begin("");
	c = client();
	w = worker("w", "op=read", 4);
	g = sealed(c, SIZE);
	copied = count("copied_bytes");
	for (int i = 0; i < 10; i++) {
		id = submit(c, &g, 0, SIZE);
		q = take_one(w);
		assert_memory_equal(q.payload, g.memory, SIZE);
		assert_int_equal(mapped_there(), 0);
		answer(w, &q);
		(void)await_end(c, id, Q_OK, NULL);
	}
	assert_int_equal(count("copied_bytes"), copied);
	assert_int_equal(count("described"), 10);
	assert_int_equal(count("described_bytes"), 10 * SIZE);
	/* What a frame carries is counted: it is kept, and sent on. */
	assert_int_equal(q_broker_submit(c, &carried, &id), Q_OK);
	q = take_one(w);
	answer(w, &q);
	(void)await_end(c, id, Q_OK, NULL);
	assert_true(count("copied_bytes") >= copied + 2 * sizeof(bytes));
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* ---- what is taken --------------------------------------------------------------------------- */

/* As a caller that does not use the library's q_broker_region_seal(). */
static QueueStatus say_in_use(BrokerClient *c, uint64_t id)
{
	const uint64_t where[3] = { id };
	const uint32_t action = 1;
	struct gq_frame f = { .type = GQ_MESSAGE_REGION };
	struct heard *h;
	QueueStatus status;

	gq__frame_set(&f, GQ_TLV_ACTION, false, &action, sizeof(action));
	gq__frame_set(&f, GQ_TLV_REGION, false, where, sizeof(where));
	status = gq__broker_ask(c, &f, &h);
	gq__broker_free(h);
	return status;
}

static void expect_refused(BrokerClient *c, uint64_t id, const char *why)
{
	assert_int_equal(say_in_use(c, id), Q_ERR_INVALID_ARG);
	if (strstr(q_last_error(), why) == NULL)
		fail_msg("'%s' is not in: %s", why, q_last_error());
}

/* Where the kernel knows files that are not (Linux 6.3). */
static void expect_not_executable(int fd)
{
	const int probe = memfd_create("probe", MFD_CLOEXEC | 8u /* MFD_NOEXEC_SEAL */);
	struct stat st;

	if (probe < 0)
		return;
	close(probe);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 0111, 0);
}

static void rg_1_a_region_is_used_only_if_it_is_sealed(void **state)
{
	BrokerClient *c, *w;
	BrokerRegion g;
	BrokerReply r;
	void *mine;
	int fd;

	(void)state;
	begin("");
	c = client();
	w = worker("w", "op=read", 4);
	g = fresh(c, SIZE);
	fd = c->regions->fd;
	expect_not_executable(fd);
	assert_int_equal(fcntl(fd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
			 F_SEAL_SHRINK | F_SEAL_GROW);
	r = await_end(c, submit(c, &g, 0, 1), Q_ERR_INVALID_ARG, NULL);
	assert_non_null(strstr(r.text, "not in use yet"));
	expect_refused(c, g.id, "not sealed against writing");
	mine = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(mine, MAP_FAILED);
	assert_int_equal(q_broker_region_seal(c, g.id), Q_ERR_POLICY);
	assert_non_null(strstr(q_last_error(), "somebody else has it mapped"));
	expect_refused(c, g.id, "not sealed against writing");
	memset(g.memory, 1, 8); /* it can be written still */
	assert_int_equal(((const uint8_t *)mine)[7], 1);
	munmap(mine, SIZE);
	/* Who has it mapped could go on writing: this seal is not enough. */
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
	expect_refused(c, g.id, "not sealed against writing");
	r = await_end(c, submit(c, &g, 0, 1), Q_ERR_INVALID_ARG, NULL);
	assert_int_equal(q_broker_region_end(c, g.id), Q_OK);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void rg_1_a_region_with_holes_is_refused(void **state)
{
	BrokerClient *c;
	BrokerRegion g;
	int fd;

	(void)state;
	begin("");
	c = client();
	g = fresh(c, SIZE + 1);
	fd = c->regions->fd;
	/* Nobody can make up for a hole by blocks beyond the end, or change the size. */
	assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, SIZE + PAGE, SIZE), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 0), -1);
	assert_int_equal(ftruncate(fd, 2 * SIZE), -1);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * PAGE, PAGE),
			 0);
	assert_int_equal(q_broker_region_seal(c, g.id), Q_ERR_INVALID_ARG);
	assert_non_null(strstr(q_last_error(), "holes"));
	expect_refused(c, g.id, "holes");
	assert_int_equal(q_broker_region_end(c, g.id), Q_OK);
	g = fresh(c, SIZE + 1); /* the last page alone */
	assert_int_equal(
		fallocate(c->regions->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, SIZE, PAGE),
		0);
	assert_int_equal(q_broker_region_seal(c, g.id), Q_ERR_INVALID_ARG);
	g = fresh(c, SIZE + 1); /* a hole that has been written again is none */
	assert_int_equal(
		fallocate(c->regions->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE), 0);
	memset(g.memory, 2, SIZE);
	assert_int_equal(q_broker_region_seal(c, g.id), Q_OK);
	q_broker_close(c); /* with its regions */
	end();
}

static pid_t fork_child(void)
{
	const pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		_exit(1);
	return pid;
}

static void kill_child(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void a_child_does_not_keep_a_region_from_being_sealed(void **state)
{
	BrokerClient *c;
	BrokerRegion g;
	pid_t child;

	(void)state;
	begin("");
	c = client();
	g = fresh(c, SIZE);
	child = fork_child();
	if (child == 0) {
		pause();
		_exit(0);
	}
	assert_int_equal(q_broker_region_seal(c, g.id), Q_OK);
	assert_int_equal(q_broker_region_seal(c, g.id), Q_ERR_INVALID_ARG);
	kill_child(child);
	q_broker_close(c);
	end();
}

/* A request as somebody sends it who does not use the library. @return how it ends */
static QueueStatus ask_for(BrokerClient *c, uint64_t id, uint64_t offset, uint64_t length)
{
	const uint64_t where[3] = { id, offset, length };
	struct gq_frame f = { .type = GQ_MESSAGE_REQUEST, .flags = GQ_FLAG_CHECKSUM };
	struct heard *h = NULL;
	QueueStatus status;

	gq__frame_set(&f, GQ_TLV_NAME, false, "read", 4);
	gq__frame_set(&f, GQ_TLV_REGION, true, where, sizeof(where));
	f.correlation = ++c->last;
	status = gq__broker_send(c, &f);
	if (status != Q_OK)
		return status; /* the codec has refused it */
	while ((h = gq__broker_take(&c->answers, f.correlation)) == NULL)
		assert_int_equal(gq__broker_hear(c, gq__deadline_ns(LONG_MS)), Q_OK);
	status = gq__broker_status(gq__frame_u32(&h->frame, GQ_TLV_STATUS, 0));
	gq__broker_free(h);
	return status;
}

static void *serve(void *arg)
{
	BrokerClient *w = arg;
	BrokerRequest q;

	while (q_service_recv(w, &q, LONG_MS) == Q_OK) {
		uint32_t sum = gq__crc32c(0, q.payload, q.bytes);

		if (q_service_reply(w, &q, Q_REASON_OK, &sum, sizeof(sum)) != Q_OK)
			break;
	}
	return NULL;
}

static void rg_3_what_a_request_names_must_end_within_the_region(void **state)
{
	static const uint64_t edges[] = { 0,
					  1,
					  SIZE - 1,
					  SIZE,
					  SIZE + 1,
					  UINT32_MAX,
					  UINT64_C(1) << 32,
					  INT64_MAX,
					  UINT64_MAX - SIZE,
					  UINT64_MAX - 1,
					  UINT64_MAX };
	const size_t n = sizeof(edges) / sizeof(edges[0]);
	uint64_t accepted = 0;
	BrokerClient *c, *other, *w;
	pthread_t thread;
	BrokerRegion g, theirs;

	(void)state;
	begin("");
	c = client();
	other = client();
	w = worker("w", "op=read", 4);
	assert_int_equal(pthread_create(&thread, NULL, serve, w), 0);
	g = sealed(c, SIZE);
	(void)sealed(other, SIZE);
	theirs = sealed(other, SIZE);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < n; k++) {
			const uint64_t offset = edges[i], length = edges[k];
			const bool fits = length != 0 && offset <= SIZE && length <= SIZE - offset;

			accepted += fits;
			if (ask_for(c, g.id, offset, length) != (fits ? Q_OK : Q_ERR_INVALID_ARG))
				fail_msg("offset %llu, length %llu: %s", (unsigned long long)offset,
					 (unsigned long long)length, q_last_error());
		}
	assert_int_equal(count("accepted"), accepted); /* gpuqd says so, not only the worker */
	/* Ids are the connection's own: another's is nobody's. */
	assert_int_equal(theirs.id, 2);
	assert_int_equal(ask_for(c, theirs.id, 0, 1), Q_ERR_NOT_FOUND);
	assert_int_equal(ask_for(c, 0, 0, 1), Q_ERR_NOT_FOUND);
	assert_int_equal(ask_for(c, UINT64_MAX, 0, 1), Q_ERR_NOT_FOUND);
	assert_int_equal(say_in_use(c, theirs.id), Q_ERR_NOT_FOUND);
	assert_int_equal(q_broker_region_end(c, g.id), Q_OK);
	assert_int_equal(ask_for(c, g.id, 0, 1), Q_ERR_STALE);
	assert_int_equal(say_in_use(c, g.id), Q_ERR_STALE);
	assert_int_equal(daemon_end(&d, SIGTERM), 0); /* ends the worker's thread */
	assert_int_equal(pthread_join(thread, NULL), 0);
	q_broker_close(c);
	q_broker_close(other);
	q_broker_close(w);
	daemon_start(&d);
	end();
}

static void what_cannot_be_said_of_a_region_is_refused(void **state)
{
	BrokerExtent at = { 1, 0 };
	BrokerCall call = { .service = "read", .extent = &at, .bytes = 1, .payload = "x" };
	const BrokerItem item = { "x", 1 };
	BrokerClient *c, *w;
	BrokerRegion g;
	uint64_t id;

	(void)state;
	begin("");
	c = client();
	w = worker("w", "op=read", 4);
	assert_int_equal(q_broker_region_create(c, 0, &g), Q_ERR_INVALID_ARG);
	assert_int_equal(q_broker_region_create(c, Q_BROKER_MAX_REGION + 1, &g), Q_ERR_INVALID_ARG);
	assert_non_null(strstr(q_last_error(), "bytes is 16777217; allowed: 1 to 16777216"));
	assert_int_equal(q_broker_region_create(c, 1, NULL), Q_ERR_INVALID_ARG);
	assert_int_equal(q_broker_region_seal(c, 7), Q_ERR_NOT_FOUND);
	assert_int_equal(q_broker_region_end(c, 7), Q_ERR_NOT_FOUND);
	assert_int_equal(q_broker_region_create(NULL, 1, &g), Q_ERR_INVALID_ARG);
	assert_int_equal(q_broker_submit(c, &call, &id), Q_ERR_INVALID_ARG);
	call.payload = NULL;
	call.key = "k";
	call.key_bytes = 1;
	assert_int_equal(q_broker_submit(c, &call, &id), Q_ERR_INVALID_ARG);
	call.key = NULL;
	call.key_bytes = 0;
	assert_int_equal(q_broker_submit_batch(c, &call, &item, 1, &id), Q_ERR_INVALID_ARG);
	call.bytes = 0;
	assert_int_equal(q_broker_submit(c, &call, &id), Q_ERR_INVALID_ARG);
	call.bytes = Q_BROKER_MAX_REGION + 1u;
	assert_int_equal(q_broker_submit(c, &call, &id), Q_ERR_INVALID_ARG);
	assert_non_null(strstr(q_last_error(), "bytes is 16777217; allowed: 1 to 16777216"));
	call.bytes = 2;
	at.offset = UINT64_MAX - 1;
	assert_int_equal(q_broker_submit(c, &call, &id), Q_ERR_INVALID_ARG);
	assert_non_null(strstr(q_last_error(), "offset is 18446744073709551614"));
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* ---- quotas ---------------------------------------------------------------------------------- */

static void a_user_has_so_many_regions_and_bytes_and_no_more(void **state)
{
	BrokerClient *c, *other;
	BrokerRegion g[3], more;

	(void)state;
	begin("uid_regions = 3\nuid_region_bytes = 40KiB\n");
	c = client();
	other = client();
	g[0] = fresh(c, 5 * PAGE);
	g[1] = sealed(c, 3 * PAGE + 1); /* four pages */
	assert_int_equal(count("region_bytes"), 9 * PAGE);
	/* One user's, in whichever connection. */
	assert_int_equal(q_broker_region_create(other, PAGE + 1, &more), Q_ERR_FULL);
	assert_non_null(strstr(q_last_error(), "uid_region_bytes"));
	g[2] = fresh(other, PAGE);
	assert_int_equal(q_broker_region_create(c, 1, &more), Q_ERR_FULL);
	assert_non_null(strstr(q_last_error(), "uid_regions"));
	assert_int_equal(q_broker_region_end(c, g[0].id), Q_OK);
	await_count("regions", 2);
	(void)fresh(c, 5 * PAGE);
	assert_int_equal(q_broker_region_create(c, 1, &more), Q_ERR_FULL);
	q_broker_close(other); /* its regions with it */
	await_count("regions", 2);
	(void)fresh(c, PAGE);
	q_broker_close(c);
	end();
}

/* ---- its end --------------------------------------------------------------------------------- */

static void rg_4_a_region_given_back_lives_until_its_requests_have_ended(void **state)
{
	BrokerClient *c, *w;
	BrokerRegion g;
	BrokerRequest q;
	uint8_t *same = malloc(SIZE);
	uint64_t first, second, third;
	BrokerReply r;

	(void)state;
	assert_non_null(same);
	begin("");
	c = client();
	w = worker("w", "op=read", 1);
	g = sealed(c, SIZE);
	memcpy(same, g.memory, SIZE);
	first = submit(c, &g, 0, SIZE);
	q = take_one(w);
	second = submit(c, &g, 100, 200); /* gpuqd has it still */
	third = submit(c, &g, 0, 1);
	await_count("inside", 3);
	assert_int_equal(q_broker_region_end(c, g.id), Q_OK);
	r = await_end(c, submit(c, &g, 0, 1), Q_ERR_STALE, NULL);
	assert_int_equal(r.reason, Q_REASON_REVOKED);
	assert_int_equal(count("regions"), 1);
	assert_memory_equal(q.payload, same, SIZE);
	answer(w, &q);
	(void)await_end(c, first, Q_OK, NULL);
	assert_int_equal(q_broker_cancel(c, third), Q_OK);
	(void)await_end(c, third, Q_ERR_CANCELLED, NULL);
	assert_int_equal(count("regions"), 1);
	q = take_one(w);
	assert_int_equal(q.bytes, 200);
	assert_memory_equal(q.payload, same + 100, 200);
	answer(w, &q);
	(void)await_end(c, second, Q_OK, NULL);
	await_count("regions", 0);
	free(same);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void a_worker_reads_though_the_caller_has_died(void **state)
{
	BrokerClient *c, *w;
	BrokerRegion g;
	BrokerRequest q;
	uint8_t *same = malloc(SIZE);

	(void)state;
	assert_non_null(same);
	begin("");
	c = client();
	w = worker("w", "op=read", 1);
	g = sealed(c, SIZE);
	memcpy(same, g.memory, SIZE);
	(void)submit(c, &g, 0, SIZE);
	q = take_one(w);
	q_broker_close(c);
	await_count("inside", 0);
	assert_status(q_service_heartbeat(w, NULL), Q_OK); /* reads that nobody wants it any more */
	await_count("regions", 0);
	assert_memory_equal(q.payload, same, SIZE);
	answer(w, &q);
	free(same);
	q_broker_close(w);
	end();
}

/* Makes regions and has them read until it is killed. */
static void call_for_ever(void)
{
	const BrokerConfig cfg = { .endpoint = d.broker, .timeout_ms = LONG_MS };
	BrokerClient *c = q_broker_connect(&cfg);
	BrokerRegion g;

	while (c != NULL) {
		BrokerExtent at = { 0 };
		const BrokerCall call = { .service = "read",
					  .extent = &at,
					  .bytes = SIZE,
					  .timeout_ms = LONG_MS,
					  .idempotent = true };
		uint64_t id;

		if (q_broker_region_create(c, SIZE, &g) != Q_OK)
			continue; /* those that were killed had some, too */
		at.region = g.id;
		memset(g.memory, 1, SIZE);
		if (q_broker_region_seal(c, g.id) != Q_OK)
			_exit(1);
		for (int i = 0; i < 8; i++)
			(void)q_broker_submit(c, &call, &id);
		(void)q_broker_region_end(c, g.id);
		for (int i = 0; i < 8; i++)
			(void)q_broker_wait(c, 0, NULL, &(size_t){ 0 }, NULL, LONG_MS);
	}
	_exit(1);
}

static void work_for_ever(const char *name)
{
	const BrokerConfig cfg = { .endpoint = d.broker, .timeout_ms = LONG_MS };
	const BrokerService s = { .name = name, .capability = "op=read", .capacity = 8 };
	BrokerClient *c = q_broker_connect(&cfg);

	if (c == NULL || q_service_register(c, &s) != Q_OK)
		_exit(1);
	(void)serve(c);
	_exit(0);
}

static pid_t start(bool is_worker, unsigned number)
{
	const pid_t pid = fork_child();
	char name[16];

	if (pid != 0)
		return pid;
	snprintf(name, sizeof(name), "w%u", number);
	if (is_worker)
		work_for_ever(name);
	call_for_ever();
	return 0;
}

static void rg_6_whoever_is_killed_leaves_no_region_behind(void **state)
{
	/* By hand: GPUQ_TEST_KILLS=1000. */
	const char *many = getenv("GPUQ_TEST_KILLS");
	const unsigned kills = many != NULL ? (unsigned)strtoul(many, NULL, 10)
			       : getenv("GPUQ_TEST_SHORT") != NULL ? 20
								   : 60;
	pid_t who[4];
	uint64_t ok;

	(void)state;
	begin("");
	for (unsigned i = 0; i < 4; i++)
		who[i] = start(i % 2 == 0, i);
	for (unsigned i = 0; i < kills; i++) {
		ok = count("ok");
		for (unsigned k = 0; count("ok") == ok; k++) { /* they get somewhere */
			assert_true(k < LONG_MS);
			nap_ms(1);
		}
		kill_child(who[i % 4]);
		who[i % 4] = start(i % 2 == 0, i + 4);
	}
	for (unsigned i = 0; i < 4; i++)
		kill_child(who[i]);
	await_count("inside", 0);
	await_count("regions", 0);
	assert_int_equal(mapped_there(), 0);
	assert_int_equal(count("accepted"), count("ok") + count("failed") + count("expired") +
						    count("cancelled") + count("lost"));
	end();
}

/* ---- who attacks ----------------------------------------------------------------------------- */

/* What is done to the memory while it is filled, sealed and read. One thread does it, as fast as it
 * can; `lock` keeps the descriptor while it is at it. */
static struct {
	pthread_mutex_t lock;
	int fd;                 /* -1: none */
	uint32_t wanted, ended; /* the other thread waits for the lock; it is over */
	uint32_t is_sealed;
	uint32_t tries;
	uint64_t before, after; /* what has succeeded, before the seal and after it */
} attack = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1 };

static bool try_remap(int fd, const void *garbage)
{
	void *at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	bool done;

	if (at != MAP_FAILED) {
		memcpy(at, garbage, SIZE);
		munmap(at, SIZE);
		return true;
	}
	at = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, fd, 0);
	if (at == MAP_FAILED)
		return false;
	done = madvise(at, PAGE, MADV_REMOVE) == 0;
	munmap(at, SIZE);
	return done;
}

/* @return whether the memory is another one now, or could be written */
static bool attack_once(int fd, uint32_t seed, const void *garbage)
{
	const off_t page = (off_t)(seed >> 8) % (SIZE / PAGE) * PAGE;
	char path[64];
	bool done;
	int again;

	switch (seed % 6) {
	case 0:
		return ftruncate(fd, page) == 0 || ftruncate(fd, 2 * SIZE) == 0;
	case 1:
		return pwrite(fd, garbage, SIZE, 0) > 0;
	case 2:
		return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page, PAGE) == 0;
	case 3:
		return try_remap(fd, garbage);
	case 4:
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		again = open(path, O_RDWR | O_CLOEXEC);
		done = again >= 0 && pwrite(again, garbage, PAGE, page) > 0;
		if (again >= 0)
			close(again);
		return done;
	default:
		return fallocate(fd, FALLOC_FL_ZERO_RANGE, page, PAGE) == 0 ||
		       fallocate(fd, FALLOC_FL_KEEP_SIZE, SIZE, SIZE) == 0;
	}
}

static void *attack_for_ever(void *arg)
{
	static uint8_t garbage[SIZE];
	uint32_t seed = 1;

	while (gq_load_seq_cst_u32(&attack.ended) == 0) {
		do /* it leaves the others some of the processors */
			nap_ms(1);
		while (gq_load_seq_cst_u32(&attack.wanted) != 0);
		pthread_mutex_lock(&attack.lock);
		for (int i = 0; i < 64 && attack.fd >= 0; i++) {
			const uint32_t was_sealed = gq_load_seq_cst_u32(&attack.is_sealed);

			seed = seed * 1664525 + 1013904223;
			memset(garbage, (int)(seed >> 24), PAGE);
			if (attack_once(attack.fd, seed >> 4, garbage))
				*(was_sealed ? &attack.after : &attack.before) += 1;
			gq_exchange_seq_cst_u32(&attack.tries, seed);
		}
		pthread_mutex_unlock(&attack.lock);
	}
	return arg;
}

/* From now on this is attacked. */
static void set_target(int fd)
{
	gq_exchange_seq_cst_u32(&attack.wanted, 1);
	pthread_mutex_lock(&attack.lock);
	if (attack.fd >= 0)
		close(attack.fd);
	attack.fd = fd;
	gq_exchange_seq_cst_u32(&attack.is_sealed, 0);
	gq_exchange_seq_cst_u32(&attack.wanted, 0);
	pthread_mutex_unlock(&attack.lock);
}

/* Until it has been attacked once more. */
static void await_try(void)
{
	const uint32_t before = gq_load_seq_cst_u32(&attack.tries);

	for (unsigned i = 0; gq_load_seq_cst_u32(&attack.tries) == before; i++) {
		assert_true(i < 100 * LONG_MS);
		sched_yield();
	}
}

/* A region that is attacked from its first moment. @return false: it has got holes */
static bool attacked_region(BrokerClient *c, BrokerRegion *g)
{
	QueueStatus status;

	assert_int_equal(q_broker_region_create(c, SIZE, g), Q_OK);
	set_target(fcntl(c->regions->fd, F_DUPFD_CLOEXEC, 0));
	memset(g->memory, 3, SIZE);
	await_try();
	do /* the attacker may have it mapped */
		status = q_broker_region_seal(c, g->id);
	while (status == Q_ERR_POLICY);
	if (status == Q_OK) {
		gq_exchange_seq_cst_u32(&attack.is_sealed, 1);
		return true;
	}
	assert_int_equal(status, Q_ERR_INVALID_ARG); /* holes */
	assert_int_equal(q_broker_region_end(c, g->id), Q_OK);
	return false;
}

/* @return how many have been answered */
static unsigned read_all(BrokerClient *c, const BrokerRegion *g, unsigned requests)
{
	enum { BYTES = 512, PARTS = SIZE / BYTES, WINDOW = 64 };
	uint32_t sums[PARTS], part_of[WINDOW], sum;
	uint64_t ids[WINDOW];
	unsigned sent = 0, done = 0;

	for (unsigned i = 0; i < PARTS; i++)
		sums[i] = gq__crc32c(0, (const uint8_t *)g->memory + (size_t)i * BYTES, BYTES);
	while (done < requests) {
		size_t n = sizeof(sum);

		for (; sent < requests && sent < done + WINDOW; sent++) {
			part_of[sent % WINDOW] = sent * 31 % PARTS;
			ids[sent % WINDOW] =
				submit(c, g, (uint64_t)part_of[sent % WINDOW] * BYTES, BYTES);
		}
		if (q_broker_wait(c, ids[done % WINDOW], &sum, &n, NULL, LONG_MS) != Q_OK)
			fail_msg("%s", q_last_error());
		assert_int_equal(n, sizeof(sum));
		assert_int_equal(sum, sums[part_of[done++ % WINDOW]]); /* not torn */
	}
	return done;
}

static void rg_2_who_attacks_its_own_memory_harms_nobody(void **state)
{
	const unsigned most = getenv("GPUQ_TEST_SHORT") != NULL ? 10000 : 100000;
	unsigned done = 0, regions = 0, holes = 0;
	BrokerClient *c;
	pthread_t thread;
	pid_t w;

	(void)state;
	begin("");
	w = start(true, 1);
	services_await_ready(d.broker, 1);
	c = client();
	assert_int_equal(pthread_create(&thread, NULL, attack_for_ever, NULL), 0);
	while (done < most) {
		BrokerRegion g;

		regions++;
		if (!attacked_region(c, &g)) {
			holes++;
			continue;
		}
		await_try(); /* what is tried from now on must fail */
		done += read_all(c, &g, most / 50);
		assert_int_equal(q_broker_region_end(c, g.id), Q_OK);
	}
	set_target(-1);
	gq_exchange_seq_cst_u32(&attack.ended, 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	print_message(
		"%u requests to %u regions, %u of them with holes; %llu attacks before seals\n",
		done, regions, holes, (unsigned long long)attack.before);
	assert_true(attack.before > 0);
	assert_int_equal(attack.after, 0);
	kill_child(w);
	q_broker_close(c);
	assert_int_equal(waitpid(d.pid, NULL, WNOHANG), 0); /* gpuqd lives */
	end();
}

/* ---- who has no descriptors left ------------------------------------------------------------- */

static void a_worker_without_room_for_a_descriptor_passes_it_on(void **state)
{
	struct rlimit limit, none;
	BrokerClient *c, *w;
	BrokerRegion g;
	BrokerRequest q;
	BrokerReply r;
	uint64_t id;

	(void)state;
	begin("attempts = 2\n");
	c = client();
	w = worker("w", "op=read", 4);
	g = sealed(c, SIZE);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = (struct rlimit){ .rlim_cur = 1, .rlim_max = limit.rlim_max }; /* poll() takes one */
	id = submit(c, &g, 0, SIZE);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	while (q_broker_wait(c, id, NULL, &(size_t){ 0 }, &r, 20) == Q_ERR_TIMEOUT)
		assert_int_equal(q_service_recv(w, &q, 20), Q_ERR_TIMEOUT);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(r.status, Q_ERR_LIMIT);
	assert_int_equal(r.reason, Q_REASON_DESCRIPTORS);
	assert_true(r.may_retry);
	id = submit(c, &g, 0, SIZE);
	q = take_one(w);
	assert_memory_equal(q.payload, g.memory, SIZE);
	answer(w, &q);
	(void)await_end(c, id, Q_OK, NULL);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

/* As start(true, 0), with room for no descriptor more. */
static pid_t start_without_descriptors(void)
{
	const pid_t pid = fork_child();
	const BrokerConfig cfg = { .endpoint = d.broker, .timeout_ms = LONG_MS };
	const BrokerService s = { .name = "short", .capability = "op=read", .capacity = 64 };
	struct rlimit none = { .rlim_cur = 1, .rlim_max = 1 }; /* poll() takes one */
	BrokerClient *c;

	if (pid != 0)
		return pid;
	c = q_broker_connect(&cfg);
	if (c == NULL || q_service_register(c, &s) != Q_OK || setrlimit(RLIMIT_NOFILE, &none) != 0)
		_exit(1);
	(void)serve(c);
	_exit(0);
}

static void a_worker_without_descriptors_does_not_cost_the_others_their_retries(void **state)
{
	pid_t well, none;
	BrokerClient *c;
	BrokerRegion g;

	(void)state;
	begin("");
	none = start_without_descriptors();
	services_await_ready(d.broker, 1);
	well = start(true, 1);
	services_await_ready(d.broker, 2);
	c = client();
	g = sealed(c, SIZE);
	for (int i = 0; i < 100; i++)
		(void)await_end(c, submit(c, &g, 0, SIZE), Q_OK, NULL);
	/* It is tried again after a while: more often than retries could pay for. */
	for (uint64_t before = count("retried"); count("retried") < before + 3;)
		(void)await_end(c, submit(c, &g, 0, SIZE), Q_OK, NULL);
	kill_child(none);
	kill_child(well);
	q_broker_close(c);
	end();
}

static void what_has_come_to_a_worker_is_read_beside_its_requests(void **state)
{
	BrokerClient *c, *w;
	BrokerRequest q;
	BrokerRegion g;
	uint64_t ids[4];

	(void)state;
	begin("");
	c = client();
	w = worker("w", "op=read", 4);
	g = sealed(c, SIZE);
	for (int i = 0; i < 4; i++)
		ids[i] = submit(c, &g, 0, SIZE);
	q = take_one(w);
	for (unsigned i = 0; w->requests.first == NULL; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
		assert_status(q_service_heartbeat(w, NULL), Q_OK);
	}
	assert_int_equal(w->requests.first->fd, -1); /* mapped, so that it takes no descriptor */
	assert_non_null(w->requests.first->map);
	for (int i = 0; i < 4; i++) {
		if (i != 0)
			q = take_one(w);
		assert_memory_equal(q.payload, g.memory, SIZE);
		answer(w, &q);
		(void)await_end(c, ids[i], Q_OK, NULL);
	}
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void a_region_that_came_too_late_is_given_back(void **state)
{
	const BrokerConfig cfg = { .endpoint = d.broker, .timeout_ms = 50 };
	BrokerClient *c;
	BrokerRegion g;

	(void)state;
	begin("");
	c = q_broker_connect(&cfg);
	for (unsigned i = 0; c == NULL && i < LONG_MS; i++) /* a busy machine */
		c = q_broker_connect(&cfg);
	assert_non_null(c);
	daemon_stop(&d);
	for (int i = 0; i < 3; i++)
		assert_status(q_broker_region_create(c, SIZE, &g), Q_ERR_TIMEOUT);
	assert_int_equal(kill(d.pid, SIGCONT), 0);
	for (unsigned i = 0; c->late != NULL || count("regions") != 0; i++) {
		char text[4096];
		size_t n = sizeof(text);

		assert_true(i < LONG_MS);
		(void)q_broker_stats(c, text, &n); /* hears, and says so */
	}
	assert_null(c->others.first);
	q_broker_close(c);
	end();
}

/* ---- peers that lie, or know less ------------------------------------------------------------ */

static int raw(uint64_t features)
{
	const uint32_t versions[2] = { 1, 1 };
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct gq_frame f = { .type = GQ_MESSAGE_HELLO, .correlation = 1 };
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	uint8_t out[256];
	size_t n;

	assert_true(fd >= 0);
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", d.services);
	assert_int_equal(connect(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
	gq__frame_set(&f, GQ_TLV_VERSIONS, false, versions, sizeof(versions));
	if (features != 0)
		gq__frame_set(&f, GQ_TLV_FEATURES, false, &features, sizeof(features));
	assert_int_equal(gq__frame_encode(&f, out, sizeof(out), &n), GQ_FRAME_OK);
	assert_int_equal(sendto(fd, out, n, 0, NULL, 0), n);
	assert_true(recv(fd, out, sizeof(out), 0) > 0);
	return fd;
}

static void say(int fd, const struct gq_frame *f)
{
	uint8_t out[512];
	size_t n;

	assert_int_equal(gq__frame_encode(f, out, sizeof(out), &n), GQ_FRAME_OK);
	assert_int_equal(sendto(fd, out, n, MSG_NOSIGNAL, NULL, 0), n);
}

static int raw_worker(uint64_t features, const char *name)
{
	struct gq_frame f = { .type = GQ_MESSAGE_REGISTER, .correlation = 2 };
	struct gq_frame beat = { .type = GQ_MESSAGE_HEARTBEAT, .correlation = 3 }, got;
	const struct gq_frame_rules rules = { .receiver = GQ_FRAME_AT_PEER,
					      .state = GQ_FRAME_AFTER_HELLO };
	const int fd = raw(features);
	uint8_t in[4096];
	uint64_t generation;
	ssize_t n;

	gq__frame_set(&f, GQ_TLV_NAME, false, name, strlen(name));
	gq__frame_set(&f, GQ_TLV_CAPABILITY, false, "op=read", 7);
	say(fd, &f);
	n = recv(fd, in, sizeof(in), 0);
	assert_true(n > 0);
	assert_int_equal(gq__frame_decode(in, (size_t)n, &rules, &got), GQ_FRAME_OK);
	assert_int_equal(got.type, GQ_MESSAGE_ACK);
	generation = gq__frame_u64(&got, GQ_TLV_GENERATION, 0);
	gq__frame_set(&beat, GQ_TLV_NAME, false, name, strlen(name));
	gq__frame_set(&beat, GQ_TLV_GENERATION, false, &generation, sizeof(generation));
	say(fd, &beat);
	return fd;
}

static void a_worker_that_knows_no_regions_gets_none(void **state)
{
	BrokerClient *c, *w;
	BrokerRegion g;
	int old;

	(void)state;
	begin("");
	old = raw_worker(0, "old");
	c = client();
	g = sealed(c, SIZE);
	(void)await_end(c, submit(c, &g, 0, 1), Q_ERR_UNSUPPORTED, NULL);
	w = worker("new", "op=read", 64);
	for (int i = 0; i < 20; i++) {
		const uint64_t id = submit(c, &g, 0, 1);
		BrokerRequest q = take_one(w);

		answer(w, &q);
		(void)await_end(c, id, Q_OK, NULL);
	}
	close(old);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void a_request_waits_for_the_worker_that_reads_regions(void **state)
{
	BrokerClient *c, *w;
	uint64_t first, second;
	BrokerRequest q;
	BrokerRegion g;
	int old;

	(void)state;
	begin("");
	old = raw_worker(0, "old"); /* has room, and cannot read it */
	c = client();
	w = worker("new", "op=read", 1);
	g = sealed(c, SIZE);
	first = submit(c, &g, 0, 1);
	q = take_one(w);
	second = submit(c, &g, 0, 2);
	await_count("inside", 2);
	await_count("waiting", 0); /* gpuqd has tried */
	answer(w, &q);
	(void)await_end(c, first, Q_OK, NULL);
	q = take_one(w);
	answer(w, &q);
	(void)await_end(c, second, Q_OK, NULL);
	close(old);
	q_broker_close(c);
	q_broker_close(w);
	end();
}

static void rg_1_gpuqd_takes_no_descriptor(void **state)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = { 0 };
	const uint64_t where[3] = { 1 };
	const uint32_t action = 1;
	struct gq_frame f = { .type = GQ_MESSAGE_REGION, .correlation = 9 };
	uint8_t out[256];
	struct iovec io = { .iov_base = out };
	struct msghdr m = { .msg_iov = &io,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	struct daemon_held before, after;
	int fd, memory;

	(void)state;
	begin("");
	fd = raw(GQ_FEATURE_REGIONS);
	before = daemon_held(&d);
	memory = memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	assert_int_equal(ftruncate(memory, SIZE), 0);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(h), &memory, sizeof(memory));
	gq__frame_set(&f, GQ_TLV_ACTION, false, &action, sizeof(action));
	gq__frame_set(&f, GQ_TLV_REGION, false, where, sizeof(where));
	assert_int_equal(gq__frame_encode(&f, out, sizeof(out), &io.iov_len), GQ_FRAME_OK);
	for (int i = 0; i < 10; i++) {
		uint8_t in[4096];

		assert_int_equal(sendmsg(fd, &m, 0), io.iov_len);
		assert_true(recv(fd, in, sizeof(in), 0) > 0); /* no region of this id */
	}
	after = daemon_held(&d);
	assert_memory_equal(&before, &after, sizeof(before));
	close(memory);
	close(fd);
	end();
}

/* Good frames that mean nothing good, as fast as they go. */
static void se_who_talks_nonsense_of_regions_harms_only_itself(void **state)
{
	static const uint64_t sizes[] = {
		0, 1, PAGE, SIZE, 16u << 20, 17u << 20, UINT64_C(1) << 40, UINT64_MAX
	};
	BrokerClient *c, *w;
	BrokerRegion g;
	uint32_t seed = 7;
	uint8_t in[4096], out[512];
	size_t n;
	int fd;

	(void)state;
	begin("uid_regions = 16\n");
	fd = raw(GQ_FEATURE_REGIONS);
	c = client();
	w = worker("w", "op=read", 4);
	for (int i = 0; i < 20000; i++) {
		uint64_t where[3], size;
		uint32_t action;
		struct gq_frame f = { .type = GQ_MESSAGE_REGION, .correlation = (uint64_t)i + 10 };

		seed = seed * 1664525 + 1013904223;
		action = 1 + (seed >> 30 == 0);
		size = sizes[seed >> 26 & 7];
		where[0] = seed >> 20 & 31;
		where[1] = sizes[seed >> 17 & 7] / 2;
		where[2] = sizes[seed >> 14 & 7] / 2;
		gq__frame_set(&f, GQ_TLV_ACTION, false, &action, sizeof(action));
		if ((seed >> 8 & 3) != 0)
			gq__frame_set(&f, GQ_TLV_SIZE, false, &size, sizeof(size));
		if ((seed >> 10 & 1) != 0)
			gq__frame_set(&f, GQ_TLV_REGION, (seed >> 11 & 1) != 0, where,
				      sizeof(where));
		if ((seed >> 12 & 3) == 0) {
			f.type = GQ_MESSAGE_REQUEST;
			f.present = 0;
			gq__frame_set(&f, GQ_TLV_NAME, false, "none", 4);
			gq__frame_set(&f, GQ_TLV_REGION, false, where, sizeof(where));
		}
		assert_int_equal(gq__frame_encode(&f, out, sizeof(out), &n), GQ_FRAME_OK);
		while (sendto(fd, out, n, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0) < 0) {
			assert_int_equal(errno, EAGAIN); /* gpuqd waits until it reads */
			assert_true(recv(fd, in, sizeof(in), 0) > 0);
		}
		while (recv(fd, in, sizeof(in), MSG_DONTWAIT) > 0)
			;
	}
	close(fd); /* what it has is its user's, which is ours */
	await_count("regions", 0);
	g = sealed(c, SIZE);
	for (int i = 0; i < 10; i++) {
		const uint64_t id = submit(c, &g, (uint64_t)i, 100);
		BrokerRequest q = take_one(w);

		assert_memory_equal(q.payload, (const uint8_t *)g.memory + i, 100);
		answer(w, &q);
		(void)await_end(c, id, Q_OK, NULL);
	}
	q_broker_close(c);
	q_broker_close(w);
	end();
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_payload_is_read_where_it_lies),
		cmocka_unit_test(rg_8_a_payload_in_a_region_is_copied_by_nobody),
		cmocka_unit_test(rg_1_a_region_is_used_only_if_it_is_sealed),
		cmocka_unit_test(rg_1_a_region_with_holes_is_refused),
		cmocka_unit_test(rg_1_gpuqd_takes_no_descriptor),
		cmocka_unit_test(a_child_does_not_keep_a_region_from_being_sealed),
		cmocka_unit_test(rg_3_what_a_request_names_must_end_within_the_region),
		cmocka_unit_test(what_cannot_be_said_of_a_region_is_refused),
		cmocka_unit_test(a_user_has_so_many_regions_and_bytes_and_no_more),
		cmocka_unit_test(rg_4_a_region_given_back_lives_until_its_requests_have_ended),
		cmocka_unit_test(a_worker_reads_though_the_caller_has_died),
		cmocka_unit_test(rg_6_whoever_is_killed_leaves_no_region_behind),
		cmocka_unit_test(rg_2_who_attacks_its_own_memory_harms_nobody),
		cmocka_unit_test(a_worker_without_room_for_a_descriptor_passes_it_on),
		cmocka_unit_test(
			a_worker_without_descriptors_does_not_cost_the_others_their_retries),
		cmocka_unit_test(what_has_come_to_a_worker_is_read_beside_its_requests),
		cmocka_unit_test(a_region_that_came_too_late_is_given_back),
		cmocka_unit_test(a_worker_that_knows_no_regions_gets_none),
		cmocka_unit_test(a_request_waits_for_the_worker_that_reads_regions),
		cmocka_unit_test(se_who_talks_nonsense_of_regions_harms_only_itself),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests_name("service_region", tests, NULL, NULL);
}
