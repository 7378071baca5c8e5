/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_transport.c - how messages get to a GPU and results back, through the stand-in driver: read
 * ahead and sealed, pulled, copied, described; bounded launches; what q_info() says of it all.
 */
#include "device/cuda/host/state.h"
#include "host/base/fault.h"
#include "standin.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct standin_control *standin;

static QueueConfig cuda_config(uint32_t capacity, uint32_t slot_bytes)
{
	QueueConfig cfg = config(capacity, slot_bytes);

	cfg.device = Q_DEVICE_CUDA;
	return cfg;
}

static void refused(const QueueConfig *cfg, const char *words)
{
	expect_no_queue(cfg, words);
	assert_int_equal(standin->live(), 0);
}

/* Bytes that tell message, length and place. */
static void fill(uint8_t *to, size_t len, uint32_t number)
{
	for (size_t i = 0; i < len; i++)
		to[i] = (uint8_t)(number * 31 + i + i / 251 + len);
}

static void echoes(GpuQueue *q, size_t len, uint32_t number)
{
	uint8_t *sent = malloc(len + 1), *back = malloc(len + 1);
	size_t room = len;

	fill(sent, len, number);
	assert_status(take(q, send(q, sent, len), back, &room), Q_OK);
	assert_int_equal(room, len);
	assert_memory_equal(back, sent, len);
	free(sent);
	free(back);
}

/* ---- runs --------------------------------------------------------------------------------- */

/* Many messages at once until units have often taken what another has claimed; each comes back as
 * it was sent. */
static void units_take_what_another_has_claimed(void **state)
{
	enum { N = 128 };
	const uint64_t before = standin->nears();
	QueueConfig cfg = cuda_config(N, 64);
	GpuQueue *q;

	(void)state;
	cfg.consumers = 4;
	q = make_queue_from(&cfg);
	for (uint32_t turn = 0; standin->nears() - before < 200; turn++) {
		uint64_t ids[N];

		assert_true(turn < LONG_MS);
		for (uint32_t i = 0; i < N; i++) {
			uint8_t sent[64];

			fill(sent, i % 65, i);
			ids[i] = send(q, sent, i % 65);
		}
		for (uint32_t i = 0; i < N; i++) {
			uint8_t sent[64], back[64];
			size_t room = sizeof(back);

			fill(sent, i % 65, i);
			assert_status(take(q, ids[i], back, &room), Q_OK);
			assert_int_equal(room, i % 65);
			assert_memory_equal(back, sent, room);
		}
	}
	q_shutdown(q);
}

/* ---- read ahead and sealed ------------------------------------------------------------------- */

/* Messages one by one until ten have come with a look; how many pass it depends on when the unit's
 * thread is let run. */
static void some_take_one_read(GpuQueue *q)
{
	const uint64_t before = standin->wholes();

	for (uint32_t i = 0; standin->wholes() - before < 10; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1); /* for the unit to look again */
		echoes(q, i % 65, i);
	}
}

static void a_message_to_an_idle_grid_takes_one_read(void **state)
{
	static const uint64_t starts[] = { 1, (UINT64_C(1) << 32) - 50, (UINT64_C(1) << 60) - 50,
					   (UINT64_C(1) << 63) - 50, 0 - UINT64_C(50) };

	(void)state;
	for (unsigned s = 0; s < sizeof(starts) / sizeof(starts[0]); s++) {
		GpuQueue *q;

		gq__start_pos = starts[s];
		q = make_queue(8, 64);
		for (uint32_t i = 0; i < 60; i++) /* past the wrap */
			echoes(q, i % 65, i);
		some_take_one_read(q);
		q_shutdown(q);
	}
	gq__start_pos = 1;
}

/* It answers what the host measures, so it must not nap as units do that are no scouts. */
static void the_first_unit_scouts_beside_those_that_are_counted(void **state)
{
	QueueConfig cfg = cuda_config(4, 64);
	const struct gq_counters *counters;
	const struct gq_cuda *c;
	GpuQueue *q;

	(void)state;
	cfg.consumers = 4;
	cfg.idle_park_ms = UINT32_MAX;
	q = make_queue_from(&cfg);
	c = q->device_state;
	assert_int_equal(c->units, 4);
	memcpy(&counters, &c->counters, sizeof(counters)); /* the stand-in's is the host's */
	for (unsigned i = 0; gq_load_relaxed_u64(&counters->scouts) != 3; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	nap_ms(20); /* all are idle by now */
	assert_int_equal(gq_load_relaxed_u64(&counters->scouts), 3);
	q_shutdown(q);
}

/* Ids go on when a reservation is given up, and the guess with them. */
static void the_guess_follows_ids_that_skip(void **state)
{
	GpuQueue *q = make_queue(8, 64);
	void *payload;
	uint64_t id;

	(void)state;
	for (int i = 0; i < 5; i++) {
		assert_status(q_reserve(q, 8, NULL, &payload, &id, 0), Q_OK);
		assert_status(q_abort(q, id), Q_OK);
	}
	some_take_one_read(q);
	q_shutdown(q);
}

/* Around what is read ahead (1024 bytes with the header), what carries a seal (1024), and pieces.
 */
static void every_length_comes_and_goes_whole(void **state)
{
	static const uint32_t slots[] = { 1, 15, 16, 17, 448, 449, 960, 961, 1024, 1025, 5000 };

	(void)state;
	for (unsigned s = 0; s < sizeof(slots) / sizeof(slots[0]); s++) {
		GpuQueue *q = make_queue(4, slots[s]);

		for (uint32_t len = 0; len <= slots[s];
		     len += len < 40 || slots[s] - len < 40 ? 1 : 37)
			echoes(q, len, len);
		q_shutdown(q);
	}
}

static void reserved_messages_are_sealed_when_committed(void **state)
{
	GpuQueue *q = make_queue(4, 64);
	const uint64_t before = standin->wholes();

	(void)state;
	for (uint32_t i = 0; standin->wholes() - before < 10; i++) {
		char back[16];
		size_t room = sizeof(back);
		void *payload;
		uint64_t id;

		assert_true(i < LONG_MS);
		assert_status(q_reserve(q, 10, NULL, &payload, &id, 0), Q_OK);
		nap_ms(1);
		memset(payload, (int)i, 10);
		assert_status(q_commit(q, id), Q_OK);
		assert_status(take(q, id, back, &room), Q_OK);
		assert_int_equal(room, 10);
		assert_int_equal(back[9], (char)i);
	}
	q_shutdown(q);
}

/* The protocol's own steps: a seal that does not fit makes the reaper wait. */
static void a_result_whose_seal_does_not_fit_has_not_arrived(void **state)
{
	_Alignas(16) uint64_t slot[8] = { 0 }, result[2 + 4] = { 0 }, entry[2] = { 0 };
	uint64_t head = 8, tail = 8;
	struct gq_channel ch = { .slots = (uint8_t *)slot,
				 .results = (uint8_t *)result,
				 .slot_stride = sizeof(slot),
				 .result_stride = sizeof(result),
				 .seal_key = 0x1234567,
				 .sealed_bytes = 1024 };
	uint32_t at, outcome;

	(void)state;
	ch.done = gq_word_ring_of(entry, &head, &tail, 1, 1 + GQ_OUTCOME_BITS, 1);
	((struct gq_slot *)slot)->msg_id = 77;
	entry[0] = gq_word_ring_tag(&ch.done, 8) | gq_done_value(&ch, 0, 20 | GQ_OUTCOME_SEALED);
	result[2] = 5, result[3] = 6, result[4] = 7, result[5] = 8;
	assert_false(gq_reap(&ch, &at, &outcome)); /* no seal yet */
	result[0] = gq_seal_id(ch.seal_key, 77) + gq_seal_piece(ch.seal_key, 0, 5, 6) +
		    gq_seal_piece(ch.seal_key, 1, 7, 8);
	result[5] = 9;
	assert_false(gq_reap(&ch, &at, &outcome)); /* bytes of the last word are on their way */
	result[5] = 8;
	((struct gq_slot *)slot)->msg_id = 78;
	assert_false(gq_reap(&ch, &at, &outcome)); /* the slot's last result */
	((struct gq_slot *)slot)->msg_id = 77;
	assert_int_equal(head, 8);
	assert_true(gq_reap(&ch, &at, &outcome));
	assert_int_equal(outcome, 20);
	assert_int_equal(head, 9);
	for (unsigned i = 0; i < 64; i++) { /* every bit counts */
		const uint64_t key = ch.seal_key, whole = gq_seal_piece(key, 3, 0, 0);

		assert_true(gq_seal_piece(key, 3, UINT64_C(1) << i, 0) != whole);
		assert_true(gq_seal_piece(key, 3, 0, UINT64_C(1) << i) != whole);
		assert_true(gq_seal_id(key, UINT64_C(1) << i) != gq_seal_id(key, 0));
	}
	assert_true(gq_seal_piece(1, 0, 2, 3) != gq_seal_piece(1, 1, 2, 3)); /* its place, too */
}

/* ---- copied ---------------------------------------------------------------------------------- */

static void long_messages_come_by_the_copy_engine(void **state)
{
	enum { N = 8, LEN = 3000 };
	QueueConfig cfg = cuda_config(N, LEN);
	static uint8_t bytes[N][LEN];
	EnqueueItem items[N];
	uint64_t ids[N];
	QueueInfo info;
	GpuQueue *q;

	(void)state;
	cfg.transport = Q_TRANSPORT_COPY;
	cfg.copy_from = 100;
	q = make_queue_from(&cfg);
	info = queue_info(q);
	assert_int_equal(info.copy_from, 100);
	assert_string_equal(info.transport, "pull, copy from 100 B");
	assert_true(info.copy_ns > 0 && info.copy_small_ns > 0 && info.pull_ns > 0);
	for (uint32_t len = 98; len < 103; len++)
		echoes(q, len, len);
	for (uint32_t round = 0; round < 20; round++) {
		for (uint32_t i = 0; i < N; i++) {
			/* All long; or long and short ones mixed. */
			items[i] = (EnqueueItem){ bytes[i],
						  round % 2 == 0 ? LEN : (i * 977 + round) % LEN };
			fill(bytes[i], items[i].len, round * N + i);
		}
		assert_status(q_enqueue_batch(q, items, N, ids, NULL, 0), Q_OK);
		for (uint32_t i = 0; i < N; i++) {
			static uint8_t back[LEN];
			/* Out of order, so that slots in later batches do not lie side by side. */
			const uint32_t k = (i * 3 + round) % N;
			size_t room = LEN;

			assert_status(take(q, ids[k], back, &room), Q_OK);
			assert_int_equal(room, items[k].len);
			assert_memory_equal(back, bytes[k], room);
		}
	}
	q_shutdown(q);
	assert_int_equal(standin->live(), 0);
}

static void a_cancelled_or_expired_copy_harms_nobody(void **state)
{
	QueueConfig cfg = cuda_config(2, 2000);
	GpuQueue *q;

	(void)state;
	cfg.transport = Q_TRANSPORT_COPY;
	q = make_queue_from(&cfg);
	for (uint32_t i = 0; i < 30; i++) {
		static uint8_t bytes[2000];
		EnqueueOptions past = { .deadline_ns = 1 };
		uint64_t id = send_with(q, &past, bytes, sizeof(bytes));
		size_t room = sizeof(bytes);

		assert_status(take(q, id, bytes, &room), Q_ERR_EXPIRED);
		echoes(q, 2000, i); /* in a slot that is still being copied from, perhaps */
	}
	q_shutdown(q);
}

/* No thread of the unit waits for what is not run. */
static void an_expired_message_does_not_wait_for_its_copy(void **state)
{
	QueueConfig cfg = cuda_config(4, 2000);
	static uint8_t bytes[2000];
	EnqueueOptions past = { .deadline_ns = 1 };
	size_t room = sizeof(bytes);
	GpuQueue *q;

	(void)state;
	cfg.transport = Q_TRANSPORT_COPY;
	q = make_queue_from(&cfg);
	standin->set(STANDIN_COPIES_HELD, 1);
	assert_status(take(q, send_with(q, &past, bytes, sizeof(bytes)), bytes, &room),
		      Q_ERR_EXPIRED);
	standin->set(STANDIN_COPIES_HELD, 0);
	echoes(q, 2000, 1);
	q_shutdown(q);
}

static void *copies_come_late(void *unused)
{
	(void)unused;
	nap_ms(1500); /* longer than the rounds in which nothing comes */
	standin->set(STANDIN_COPIES_HELD, 0);
	return NULL;
}

/* As on a busy machine: three rounds of half a second in all, and nothing has come. */
static void a_copy_that_comes_late_is_not_refused(void **state)
{
	QueueConfig cfg = cuda_config(4, 2000);
	pthread_t other;
	GpuQueue *q;

	(void)state;
	cfg.transport = Q_TRANSPORT_COPY;
	standin->set(STANDIN_COPIES_HELD, 1);
	assert_int_equal(pthread_create(&other, NULL, copies_come_late, NULL), 0);
	q = make_queue_from(&cfg);
	pthread_join(other, NULL);
	echoes(q, 2000, 1);
	q_shutdown(q);
}

static void reservations_are_copied_when_committed(void **state)
{
	QueueConfig cfg = cuda_config(2, 500);
	uint8_t back[500], want[500];
	size_t room = sizeof(back);
	void *payload;
	uint64_t id, gone;
	GpuQueue *q;

	(void)state;
	cfg.transport = Q_TRANSPORT_COPY;
	q = make_queue_from(&cfg);
	assert_status(q_reserve(q, 500, NULL, &payload, &gone, 0), Q_OK);
	assert_status(q_reserve(q, 500, NULL, &payload, &id, 0), Q_OK);
	assert_status(q_abort(q, gone), Q_OK);
	fill(want, sizeof(want), 9);
	memcpy(payload, want, sizeof(want));
	assert_status(q_commit(q, id), Q_OK);
	assert_status(take(q, id, back, &room), Q_OK);
	assert_memory_equal(back, want, sizeof(want));
	q_shutdown(q);
}

static void where_nothing_can_be_copied_it_is_pulled_or_refused(void **state)
{
	QueueConfig cfg = cuda_config(2, 65536);
	GpuQueue *q;

	(void)state;
	standin->set(GQ_CU_64_BIT_STREAM_MEM_OPS, 0);
	cfg.transport = Q_TRANSPORT_COPY;
	refused(&cfg, "transport is 2 (copy); allowed: 0 (auto), 1 (pull) on Stand-in GPU");
	cfg.transport = Q_TRANSPORT_AUTO;
	q = make_queue_from(&cfg);
	assert_string_equal(queue_info(q).transport, "pull");
	assert_true(queue_info(q).copy_from == UINT64_MAX);
	echoes(q, 65536, 3);
	q_shutdown(q);
	standin->set(GQ_CU_64_BIT_STREAM_MEM_OPS, 1);
}

static void the_transport_is_measured_and_can_be_chosen(void **state)
{
	QueueConfig cfg = cuda_config(2, 65536);
	QueueInfo info;
	GpuQueue *q;

	(void)state;
	q = make_queue_from(&cfg);
	info = queue_info(q);
	assert_true(info.flag_ns > 0 && info.read_ns > 0 && info.release_ns > 0);
	assert_true(info.pull_ns > 0 && info.copy_ns > 0 && info.canary_ns > 0);
	assert_true(info.copy_from == UINT64_MAX || info.copy_from <= 65536);
	echoes(q, 65536, 1);
	q_shutdown(q);
	setenv("GPUQ_TRANSPORT", "copy", 1);
	q = make_queue_from(&cfg);
	assert_int_equal(queue_info(q).copy_from, 1);
	q_shutdown(q);
	cfg.transport = Q_TRANSPORT_PULL; /* said, and so not overridden */
	q = make_queue_from(&cfg);
	assert_true(queue_info(q).copy_from == UINT64_MAX);
	q_shutdown(q);
	cfg.transport = Q_TRANSPORT_AUTO;
	setenv("GPUQ_TRANSPORT", "bar", 1);
	refused(&cfg,
		"environment variable GPUQ_TRANSPORT is 'bar'; allowed: auto, pull, copy, bar1");
	unsetenv("GPUQ_TRANSPORT");
}

static void memory_for_copies_is_given_back_where_all_is_pulled(void **state)
{
	enum { CAPACITY = 64, SLOT = 2048 };
	QueueConfig cfg = cuda_config(CAPACITY, SLOT);
	uint32_t live;
	uint64_t bytes;
	GpuQueue *q;

	(void)state;
	cfg.transport = Q_TRANSPORT_PULL;
	q = make_queue_from(&cfg);
	live = standin->live();
	bytes = queue_info(q).device_bytes;
	assert_true(bytes != 0);
	q_shutdown(q);
	cfg.transport = Q_TRANSPORT_COPY;
	q = make_queue_from(&cfg);
	assert_true(queue_info(q).device_bytes >= bytes + CAPACITY * SLOT);
	q_shutdown(q);
	cfg.transport = Q_TRANSPORT_AUTO;
	q = make_queue_from(&cfg);
	for (unsigned i = 0; queue_info(q).copy_from != UINT64_MAX; i++) { /* as it is measured */
		assert_true(i < 1000);
		q_shutdown(q);
		q = make_queue_from(&cfg);
	}
	assert_true(queue_info(q).copy_ns != 0);
	assert_int_equal(standin->live(), live);
	assert_int_equal(queue_info(q).device_bytes, bytes);
	for (uint32_t i = 0; i < 10; i++)
		echoes(q, SLOT - i, i);
	q_shutdown(q);
	assert_int_equal(standin->live(), 0);
}

static void *come_and_go(void *arg)
{
	(void)arg;
	for (uint32_t i = 0; i < 20; i++) {
		GpuQueue *q = make_queue(2, 2048);

		echoes(q, 2000, i);
		q_shutdown(q);
	}
	return NULL;
}

/* The stand-in ends the process if one allocates while the other's grid is resident. */
static void queues_are_made_at_the_same_time(void **state)
{
	pthread_t thread;

	(void)state;
	assert_int_equal(pthread_create(&thread, NULL, come_and_go, NULL), 0);
	come_and_go(NULL);
	pthread_join(thread, NULL);
	assert_int_equal(standin->live(), 0);
}

/* ---- bounded --------------------------------------------------------------------------------- */

static void a_bounded_grid_serves_so_many_and_leaves(void **state)
{
	QueueConfig cfg = cuda_config(16, 64);
	uint32_t launches;
	uint64_t id[16];
	GpuQueue *q;

	(void)state;
	cfg.bounded_messages = 8;
	cfg.bounded_ms = 60000;
	launches = standin->launches();
	q = make_queue_from(&cfg);
	assert_non_null(
		strstr(queue_info(q).reason, "bounded: launches of 8 messages or 60000 ms"));
	for (int i = 0; i < 7; i++)
		id[i] = send(q, &i, sizeof(i));
	nap_ms(20);
	assert_int_equal(standin->launches(), launches); /* they gather */
	id[7] = send(q, "8", 1);
	assert_int_equal(standin->launches(), launches + 1);
	for (int i = 0; i < 8; i++)
		assert_status(q_wait(q, id[i], LONG_MS), Q_OK);
	for (int i = 0; standin->resident() != 0; i++) {
		assert_true(i < (int)LONG_MS);
		nap_ms(1);
	}
	assert_int_equal(standin->launches(), launches + 1);
	id[8] = send(q, "9", 1); /* fewer, but somebody waits */
	assert_status(q_wait(q, id[8], LONG_MS), Q_OK);
	assert_int_equal(standin->launches(), launches + 2);
	for (int i = 0; i < 9; i++)
		assert_status(q_release(q, id[i]), Q_OK);
	/* As a profiler is fed: filled while paused, then served by one launch. */
	assert_status(q_pause(q, LONG_MS), Q_OK);
	for (int i = 0; i < 16; i++)
		id[i] = send(q, &i, sizeof(i));
	assert_int_equal(standin->launches(), launches + 2);
	assert_status(q_resume(q), Q_OK);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	assert_int_equal(standin->launches(), launches + 3);
	id[0] = id[15];
	assert_status(q_release(q, id[0]), Q_OK);
	send(q, "left", 4);
	assert_status(q_stop(q, LONG_MS), Q_OK);
	assert_int_equal(standin->resident(), 0);
	assert_int_equal(stats_of(q).finished, 26);
	q_shutdown(q);
}

static void a_bounded_launch_ends_when_its_time_is_over(void **state)
{
	QueueConfig cfg = cuda_config(4, 64);
	uint64_t slow, next;
	GpuQueue *q;

	(void)state;
	setenv("GPUQ_BOUNDED", "2:1", 1);
	q = make_queue_from(&cfg);
	unsetenv("GPUQ_BOUNDED");
	close_gate();
	slow = send_op(q, OP_GATE, 0, "slow", 4); /* holds the one unit over its launch's time */
	next = send(q, "next", 4);
	await_gate_waiters(1);
	nap_ms(5);
	open_gate();
	expect_echo(q, slow, "slow", 4);
	expect_echo(q, next, "next", 4);
	q_shutdown(q);
	setenv("GPUQ_BOUNDED", "0", 1);
	refused(&cfg, "GPUQ_BOUNDED is '0'; allowed: MESSAGES or MESSAGES:MS");
	setenv("GPUQ_BOUNDED", "4:x", 1);
	refused(&cfg, "GPUQ_BOUNDED is '4:x'");
	setenv("GPUQ_BOUNDED", "4:", 1);
	refused(&cfg, "GPUQ_BOUNDED is '4:'");
	unsetenv("GPUQ_BOUNDED");
}

static void who_waits_adds_no_bounded_launch_to_one_that_is_there(void **state)
{
	QueueConfig cfg = cuda_config(8, 64);
	uint32_t launches;
	uint64_t id[4];
	GpuQueue *q;

	(void)state;
	cfg.bounded_messages = 8;
	cfg.bounded_ms = 60000;
	q = make_queue_from(&cfg);
	launches = standin->launches();
	close_gate();
	id[0] = send_op(q, OP_GATE, 0, "0", 1);
	while (gate_waiters() == 0)
		assert_status(q_wait(q, id[0], 20), Q_ERR_TIMEOUT);
	for (int i = 1; i < 4; i++) {
		id[i] = send(q, "m", 1);
		assert_status(q_wait(q, id[i], 20), Q_ERR_TIMEOUT);
	}
	assert_int_equal(standin->launches(), launches + 1);
	open_gate();
	expect_echo(q, id[0], "0", 1);
	for (int i = 1; i < 4; i++)
		expect_echo(q, id[i], "m", 1);
	assert_int_equal(standin->launches(), launches + 2);
	q_shutdown(q);
}

/* ---- described ------------------------------------------------------------------------------- */

static uint8_t *device_memory(const struct gq_cu *cu, CUcontext *context, size_t bytes)
{
	CUdeviceptr address = 0;
	CUdevice device;

	assert_int_equal(cu->cuDeviceGet(&device, 0), 0);
	assert_int_equal(cu->cuDevicePrimaryCtxRetain(context, device), 0);
	assert_int_equal(cu->cuCtxPushCurrent(*context), 0);
	assert_int_equal(cu->cuMemAlloc(&address, bytes), 0);
	return (uint8_t *)(uintptr_t)address; // NOLINT(performance-no-int-to-ptr)
}

static void what_is_in_device_memory_is_processed_there(void **state)
{
	const struct gq_cu *cu = gq__cuda_driver();
	MessageDescriptor d = { .length = 100 };
	RegionHandle region;
	CUcontext context;
	RegionTable *table;
	QueueConfig cfg = config(4, 16);
	uint8_t *bytes, want[100], back[100];
	size_t room = sizeof(back);
	GpuQueue *q, *on_cpu;
	const void *found;
	uint64_t id;

	(void)state;
	bytes = device_memory(cu, &context, 4096);
	fill(bytes, 4096, 5); /* the stand-in's is the host's */
	memcpy(want, bytes + 160, 100);
	assert_status(q_region_table_create(4, &table), Q_OK);
	assert_status(q_region_register_device(table, bytes, 4096, &region), Q_OK);
	d.region = region;
	d.offset = 160;
	cfg.result_bytes = 100;
	q = make_queue_from(&cfg);
	assert_status(q_bind_regions(q, table), Q_OK);
	assert_status(q_enqueue_descriptor(q, &d, NULL, &id, 0), Q_OK);
	assert_status(take(q, id, back, &room), Q_OK);
	assert_int_equal(room, 100);
	assert_memory_equal(back, want, 100);
	assert_status(q_region_resolve(table, &d, &found), Q_OK);
	assert_ptr_equal(found, bytes + 160);

	cfg.device = Q_DEVICE_CPU;
	on_cpu = make_queue_from(&cfg);
	assert_status(q_bind_regions(on_cpu, table), Q_OK);
	assert_status(q_enqueue_descriptor(on_cpu, &d, NULL, NULL, 0), Q_ERR_UNSUPPORTED);
	assert_non_null(strstr(q_last_error(), "is memory of a GPU"));
	q_shutdown(on_cpu);

	/* What the driver does not know is refused by its words. */
	assert_status(q_region_register_device(table, want, 64, &d.region), Q_OK);
	d.offset = 0;
	d.length = 16;
	assert_status(q_bind_regions(q, table), Q_OK);
	if ((uintptr_t)want % 16 == 0) {
		assert_status(q_enqueue_descriptor(q, &d, NULL, NULL, 0), Q_ERR_UNSUPPORTED);
		assert_non_null(strstr(q_last_error(), "the GPU cannot reach the region"));
	}
	assert_status(q_region_register_device(NULL, bytes, 1, &region), Q_ERR_INVALID_ARG);
	assert_status(q_region_register_device(table, NULL, 1, &region), Q_ERR_INVALID_ARG);
	assert_string_equal(q_last_error(), "address is NULL");
	assert_status(q_region_register_device(table, bytes, 0, &region), Q_ERR_INVALID_ARG);
	assert_status(q_region_register_device(table, bytes, 1, NULL), Q_ERR_INVALID_ARG);
	q_shutdown(q);
	q_region_table_destroy(table);
	assert_int_equal(cu->cuMemFree((CUdeviceptr)(uintptr_t)bytes), 0);
	assert_int_equal(cu->cuCtxPopCurrent(&context), 0);
	assert_int_equal(cu->cuDevicePrimaryCtxRelease(0), 0);
	assert_int_equal(standin->live(), 0);
}

static void regions_of_one_page_are_pinned_together(void **state)
{
	uint8_t *bytes = aligned_alloc(4096, 8192);
	const uint32_t live = standin->live();
	MessageDescriptor d = { .length = 32 };
	RegionHandle region[3];
	RegionTable *table;
	GpuQueue *q;
	uint64_t id;

	(void)state;
	fill(bytes, 8192, 1);
	assert_status(q_region_table_create(4, &table), Q_OK);
	for (unsigned i = 0; i < 3; i++) /* the second reaches into the next page */
		assert_status(q_region_register(table, bytes + i * 2048, i == 1 ? 4000 : 64,
						Q_REGION_IMMUTABLE, &region[i]),
			      Q_OK);
	q = make_queue(4, 64);
	assert_status(q_bind_regions(q, table), Q_OK);
	assert_status(q_bind_regions(q, NULL), Q_OK);
	assert_status(q_bind_regions(q, table), Q_OK);
	for (unsigned i = 0; i < 3; i++) {
		d.region = region[i];
		assert_status(q_enqueue_descriptor(q, &d, NULL, &id, 0), Q_OK);
		expect_echo(q, id, bytes + i * 2048, 32);
	}
	assert_status(q_region_retire(table, region[0]), Q_OK);
	assert_status(
		q_region_register(table, bytes + 8192 - 64, 64, Q_REGION_IMMUTABLE, &d.region),
		Q_OK);
	d.offset = 0;
	/* Its page is pinned; but when the table was bound there may have been another there. */
	assert_status(q_enqueue_descriptor(q, &d, NULL, NULL, 0), Q_ERR_UNSUPPORTED);
	assert_non_null(strstr(q_last_error(), "registered after q_bind_regions()"));
	q_shutdown(q);
	q_region_table_destroy(table);
	free(bytes);
	assert_int_equal(standin->live(), live);
}

static void a_binding_that_fails_leaves_nothing_bound(void **state)
{
	static uint8_t bytes[4096];
	MessageDescriptor d = { .length = 32 };
	unsigned refusals = 0;
	RegionTable *table;
	GpuQueue *q;

	(void)state;
	fill(bytes, sizeof(bytes), 7);
	assert_status(q_region_table_create(4, &table), Q_OK);
	assert_status(
		q_region_register(table, bytes, sizeof(bytes), Q_REGION_APPEND_ONLY, &d.region),
		Q_OK);
	assert_status(
		q_region_append(table, d.region, "what is described, 32 bytes long", 32, &d.offset),
		Q_OK);
	q = make_queue(4, 64);
	for (uint32_t n = 1;; n++) {
		const uint32_t live = standin->live();
		QueueStatus status;
		const char *call;
		uint64_t id;

		nap_ms(2);
		standin->fail_nth(n, GQ_CU_OUT_OF_MEMORY);
		status = q_bind_regions(q, table);
		call = standin->failed_call();
		standin->fail_nth(0, 0);
		if (status != Q_OK) {
			refusals++;
			assert_non_null(call);
			if (strstr(q_last_error(), call) == NULL && status != Q_ERR_CUDA)
				fail_msg("%s failed: '%s'", call, q_last_error());
		}
		if (status == Q_ERR_CUDA) { /* it failed where the grid comes and goes */
			q_shutdown(q);
			q = make_queue(4, 64);
		} else {
			status = q_enqueue_descriptor(q, &d, NULL, &id, 0);
			if (status == Q_OK)
				expect_echo(q, id, bytes, 32);
			else if (status == Q_ERR_CUDA) /* the grid did not come back */
				assert_non_null(call);
			else
				assert_status(status, Q_ERR_UNSUPPORTED);
			if (status == Q_ERR_CUDA) {
				q_shutdown(q);
				q = make_queue(4, 64);
			}
			assert_status(q_bind_regions(q, NULL), Q_OK);
			assert_int_equal(standin->live(), live);
		}
		if (call == NULL)
			break;
		assert_true(n < 1000);
	}
	assert_true(refusals > 2);
	q_shutdown(q);
	q_region_table_destroy(table);
	assert_int_equal(standin->live(), 0);
}

/* A table with one region of these bytes. */
static RegionTable *table_of(uint8_t *bytes, size_t size, RegionHandle *region)
{
	RegionTable *table;

	fill(bytes, size, 3);
	assert_status(q_region_table_create(4, &table), Q_OK);
	assert_status(q_region_register(table, bytes, size, Q_REGION_IMMUTABLE, region), Q_OK);
	return table;
}

static void is_processed(GpuQueue *q, const MessageDescriptor *d, const uint8_t *bytes)
{
	uint64_t id;

	assert_status(q_enqueue_descriptor(q, d, NULL, &id, 0), Q_OK);
	expect_echo(q, id, bytes + d->offset, d->length);
}

static void is_out_of_reach(GpuQueue *q, const MessageDescriptor *d, const char *words)
{
	assert_status(q_enqueue_descriptor(q, d, NULL, NULL, 0), Q_ERR_UNSUPPORTED);
	assert_non_null(strstr(q_last_error(), words));
}

static void regions_of_device_memory_may_overlap(void **state)
{
	const struct gq_cu *cu = gq__cuda_driver();
	MessageDescriptor d = { .offset = 176, .length = 32 };
	RegionHandle region[3];
	RegionTable *table;
	CUcontext context;
	uint8_t *bytes;
	GpuQueue *q;

	(void)state;
	bytes = device_memory(cu, &context, 4096);
	fill(bytes, 4096, 5);
	assert_status(q_region_table_create(4, &table), Q_OK);
	/* The second lies inside the first; the third begins there, and ends far beyond what there
	 * is.
	 */
	assert_status(q_region_register_device(table, bytes, 4096, &region[0]), Q_OK);
	assert_status(q_region_register_device(table, bytes + 128, 64, &region[1]), Q_OK);
	assert_status(q_region_register_device(table, bytes + 192, UINT64_C(1) << 40, &region[2]),
		      Q_OK);
	q = make_queue(4, 64);
	assert_status(q_bind_regions(q, table), Q_OK);
	d.region = region[0];
	is_processed(q, &d, bytes);
	d.region = region[1];
	d.offset = 16;
	is_processed(q, &d, bytes + 128);
	d.region = region[2];
	is_out_of_reach(q, &d, "only part of it is pinned");
	q_shutdown(q);
	q_region_table_destroy(table);
	assert_int_equal(cu->cuMemFree((CUdeviceptr)(uintptr_t)bytes), 0);
	assert_int_equal(cu->cuCtxPopCurrent(&context), 0);
	assert_int_equal(cu->cuDevicePrimaryCtxRelease(0), 0);
	assert_int_equal(standin->live(), 0);
}

/* By the application, or for another queue. */
static void what_is_pinned_in_part_is_refused(void **state)
{
	const unsigned flags = GQ_CU_MEMHOSTREGISTER_PORTABLE | GQ_CU_MEMHOSTREGISTER_DEVICEMAP;
	const struct gq_cu *cu = gq__cuda_driver();
	uint8_t *bytes = aligned_alloc(4096, 3 * 4096);
	MessageDescriptor d = { .length = 32 }, inner = d;
	RegionTable *table, *inners;
	CUcontext context;
	GpuQueue *q, *other;

	(void)state;
	table = table_of(bytes, 3 * 4096, &d.region);
	inners = table_of(bytes + 4096, 4096, &inner.region);
	assert_int_equal(cu->cuDevicePrimaryCtxRetain(&context, 0), 0);
	assert_int_equal(cu->cuCtxPushCurrent(context), 0);
	q = make_queue(4, 64);
	for (size_t page = 0; page < 3; page++) {
		uint8_t *pinned = bytes + page * 4096;

		assert_status(q_pause(q, LONG_MS), Q_OK);
		assert_int_equal(cu->cuMemHostRegister(pinned, 4096, flags), 0);
		assert_status(q_bind_regions(q, table), Q_OK);
		assert_status(q_resume(q), Q_OK);
		is_out_of_reach(q, &d,
				page == 1 ? "cuMemHostRegister" : "only part of it is pinned");
		assert_status(q_bind_regions(q, inners), Q_OK);
		is_processed(q, &inner, bytes + 4096);
		assert_status(q_bind_regions(q, NULL), Q_OK);
		assert_status(q_pause(q, LONG_MS), Q_OK);
		assert_int_equal(cu->cuMemHostUnregister(pinned), 0);
		assert_status(q_resume(q), Q_OK);
	}
	other = make_queue(4, 64);
	assert_status(q_bind_regions(other, inners), Q_OK);
	assert_status(q_bind_regions(q, table), Q_OK);
	is_out_of_reach(q, &d, "only part of it is pinned");
	is_processed(other, &inner, bytes + 4096);
	q_shutdown(other);
	assert_status(q_bind_regions(q, table), Q_OK);
	is_processed(q, &d, bytes);
	q_shutdown(q);
	assert_int_equal(cu->cuCtxPopCurrent(&context), 0);
	assert_int_equal(cu->cuDevicePrimaryCtxRelease(0), 0);
	q_region_table_destroy(inners);
	q_region_table_destroy(table);
	free(bytes);
	assert_int_equal(standin->live(), 0);
}

static void a_binding_that_fails_leaves_the_last_one(void **state)
{
	static uint8_t bytes[4096] __attribute__((aligned(16)));
	static uint8_t others[4096] __attribute__((aligned(16)));
	MessageDescriptor d = { .length = 32 }, other = d;
	RegionTable *table, *next;
	unsigned refusals = 0;
	bool refused = true;

	(void)state;
	table = table_of(bytes, sizeof(bytes), &d.region);
	next = table_of(others, sizeof(others), &other.region);
	for (uint32_t n = 1; refused; n++) {
		GpuQueue *q = make_queue(4, 64);
		QueueStatus status;

		assert_status(q_bind_regions(q, table), Q_OK);
		assert_status(q_pause(q, LONG_MS), Q_OK); /* nobody else calls the driver */
		standin->fail_nth(n, GQ_CU_OUT_OF_MEMORY);
		status = q_bind_regions(q, next);
		refused = standin->failed_call() != NULL;
		standin->fail_nth(0, 0);
		if (status != Q_ERR_CUDA)
			assert_status(q_resume(q), Q_OK);
		if (status == Q_ERR_NO_MEMORY) {
			refusals++;
			is_processed(q, &d, bytes);
		}
		if (!refused)
			is_processed(q, &other, others);
		q_shutdown(q);
		assert_int_equal(standin->live(), 0);
		assert_true(n < 1000);
	}
	assert_true(refusals != 0);
	q_region_table_destroy(next);
	q_region_table_destroy(table);
}

struct binding {
	GpuQueue *q;
	RegionTable *table;
	QueueStatus status;
};

static void *bind_in_vain(void *arg)
{
	struct binding *b = arg;

	do
		b->status = q_bind_regions(b->q, b->table);
	while (b->status == Q_ERR_NOT_READY); /* a call of the other thread */
	return NULL;
}

/* The grid does not leave for two seconds. A thread that sends by descriptor does not wait for it.
 */
static void a_binding_that_times_out_leaves_the_last_one(void **state)
{
	static uint8_t bytes[4096] __attribute__((aligned(16)));
	MessageDescriptor d = { .length = 32 };
	struct binding b = { 0 };
	QueueStatus status;
	RegionTable *table;
	pthread_t thread;
	uint64_t slow, behind;

	(void)state;
	table = table_of(bytes, sizeof(bytes), &d.region);
	b.q = make_queue(2, 64);
	assert_status(q_bind_regions(b.q, table), Q_OK);
	close_gate();
	slow = send_op(b.q, OP_GATE, 0, "s", 1);
	await_gate_waiters(1);
	behind = send(b.q, "b", 1);
	assert_int_equal(pthread_create(&thread, NULL, bind_in_vain, &b), 0); /* to nothing */
	for (unsigned i = 0; (status = q_enqueue_descriptor(b.q, &d, NULL, NULL, 0)) == Q_ERR_FULL;
	     i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	assert_status(status, Q_ERR_NOT_READY);
	assert_status(q_enqueue_descriptor(b.q, &d, NULL, NULL, 20), Q_ERR_TIMEOUT);
	pthread_join(thread, NULL);
	assert_status(b.status, Q_ERR_TIMEOUT);
	open_gate();
	expect_echo(b.q, slow, "s", 1);
	expect_echo(b.q, behind, "b", 1);
	is_processed(b.q, &d, bytes);
	q_shutdown(b.q);
	q_region_table_destroy(table);
	assert_int_equal(standin->live(), 0);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(units_take_what_another_has_claimed),
		cmocka_unit_test(a_message_to_an_idle_grid_takes_one_read),
		cmocka_unit_test(the_first_unit_scouts_beside_those_that_are_counted),
		cmocka_unit_test(the_guess_follows_ids_that_skip),
		cmocka_unit_test(every_length_comes_and_goes_whole),
		cmocka_unit_test(reserved_messages_are_sealed_when_committed),
		cmocka_unit_test(a_result_whose_seal_does_not_fit_has_not_arrived),
		cmocka_unit_test(long_messages_come_by_the_copy_engine),
		cmocka_unit_test(a_cancelled_or_expired_copy_harms_nobody),
		cmocka_unit_test(an_expired_message_does_not_wait_for_its_copy),
		cmocka_unit_test(a_copy_that_comes_late_is_not_refused),
		cmocka_unit_test(reservations_are_copied_when_committed),
		cmocka_unit_test(where_nothing_can_be_copied_it_is_pulled_or_refused),
		cmocka_unit_test(the_transport_is_measured_and_can_be_chosen),
		cmocka_unit_test(memory_for_copies_is_given_back_where_all_is_pulled),
		cmocka_unit_test(queues_are_made_at_the_same_time),
		cmocka_unit_test(a_bounded_grid_serves_so_many_and_leaves),
		cmocka_unit_test(a_bounded_launch_ends_when_its_time_is_over),
		cmocka_unit_test(who_waits_adds_no_bounded_launch_to_one_that_is_there),
		cmocka_unit_test(what_is_in_device_memory_is_processed_there),
		cmocka_unit_test(regions_of_one_page_are_pinned_together),
		cmocka_unit_test(regions_of_device_memory_may_overlap),
		cmocka_unit_test(what_is_pinned_in_part_is_refused),
		cmocka_unit_test(a_binding_that_fails_leaves_nothing_bound),
		cmocka_unit_test(a_binding_that_fails_leaves_the_last_one),
		cmocka_unit_test(a_binding_that_times_out_leaves_the_last_one),
	};

	standin = begin_on_standin(argc, argv);
	if (standin == NULL)
		return 77;
	return cmocka_run_group_tests_name("transport", tests, NULL, NULL);
}
