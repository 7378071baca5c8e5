/* SPDX-License-Identifier: Apache-2.0 */
/* test_descriptor_queue.c - messages that stay in their region: seen in place, held until the end.
 */
#include "child.h"
#include "support.h"

#include "host/region/region.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 8192 };

/* As docs/design/queue.md says under Stop. */
#define HANGS "while all units hang nobody can cancel what waits"

/* A processor whose result is where its payload lies, and how long it is. */
struct seen {
	const void *payload;
	uint64_t len;
	uint8_t first, last;
};

static void look(const MsgView *in, ResultView *out)
{
	struct seen seen = { .payload = in->payload,
			     .len = in->len,
			     .first = in->payload[0],
			     .last = in->payload[in->len - 1] };

	memcpy(out->out, &seen, sizeof(seen));
	*out->out_len = sizeof(seen);
}

static const QProcessorImage look_image = { .magic = Q_PROCESSOR_MAGIC,
					    .protocol_version = Q_PROTOCOL_VERSION,
					    .granularity = Q_PER_WARP,
					    .name = "look",
					    .cpu = look,
					    .device_image = &standin_call_image };

struct fixture {
	RegionTable *table;
	RegionHandle region;
	uint8_t *bytes;
	GpuQueue *q; /* two slots of 64 bytes; bound */
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	close_gate();
	f->bytes = aligned_alloc(64, ROOM);
	for (unsigned i = 0; i < ROOM; i++)
		f->bytes[i] = (uint8_t)(i / 16 + i);
	assert_status(q_region_table_create(4, &f->table), Q_OK);
	assert_status(q_region_register(f->table, f->bytes, ROOM, Q_REGION_IMMUTABLE, &f->region),
		      Q_OK);
	f->q = make_queue(2, 64);
	assert_status(q_bind_regions(f->q, f->table), Q_OK);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	open_gate();
	q_shutdown(f->q);
	q_region_table_destroy(f->table);
	free(f->bytes);
	free(f);
	return 0;
}

static MessageDescriptor describe(const struct fixture *f, uint64_t offset, uint32_t length)
{
	return (MessageDescriptor){ .region = f->region, .offset = offset, .length = length };
}

static uint64_t send_described(struct fixture *f, const EnqueueOptions *options)
{
	MessageDescriptor d = describe(f, 0, 32);
	uint64_t id = 0;

	assert_status(q_enqueue_descriptor(f->q, &d, options, &id, LONG_MS), Q_OK);
	return id;
}

/* A GPU does not know of regions registered since. */
static void bind_again(struct fixture *f)
{
	if (on_cuda())
		assert_status(q_bind_regions(f->q, f->table), Q_OK);
}

static uint64_t references(const struct fixture *f)
{
	RegionInfo info;

	assert_status(q_region_info(f->table, f->region, &info), Q_OK);
	return info.references;
}

static bool is_gone(const struct fixture *f)
{
	RegionInfo info;

	return q_region_info(f->table, f->region, &info) == Q_ERR_STALE;
}

/* A message that keeps the consumer busy until open_gate(). */
static uint64_t block(struct fixture *f)
{
	uint64_t id = send_op(f->q, OP_GATE, 0, "x", 1);

	await_gate_waiters(1);
	return id;
}

/* ---- what the processor sees ---------------------------------------------------------------- */

static void the_processor_sees_the_regions_bytes_in_place(void **state)
{
	static const struct {
		uint64_t offset;
		uint32_t length;
	} cases[] = { { 0, 1 }, { 16, 64 }, { 4096, 4096 }, { 0, ROOM }, { ROOM - 16, 16 } };
	struct fixture *f = *state;
	QueueConfig cfg = config(4, 64);
	GpuQueue *q;

	leave_out_if(on_gpu(), "on a GPU", "\"look\" is a function of the host");
	standin_called = look;
	cfg.processor = "look";
	q = make_queue_from(&cfg);
	assert_status(q_bind_regions(q, f->table), Q_OK);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		MessageDescriptor d = describe(f, cases[i].offset, cases[i].length);
		const uint8_t *wanted = f->bytes + cases[i].offset;
		struct seen seen;
		size_t room = sizeof(seen);
		uint64_t id;

		assert_status(q_enqueue_descriptor(q, &d, NULL, &id, 0), Q_OK);
		assert_status(take(q, id, &seen, &room), Q_OK);
		assert_ptr_equal(seen.payload, wanted); /* not a copy */
		assert_int_equal(seen.len, cases[i].length);
		assert_int_equal(seen.first, wanted[0]);
		assert_int_equal(seen.last, wanted[cases[i].length - 1]);
		/* The slot's next message is an ordinary one again. */
		id = send(q, "plain", 5);
		room = sizeof(seen);
		assert_status(take(q, id, &seen, &room), Q_OK);
		assert_int_equal(seen.first, 'p');
		assert_int_equal(seen.len, 5);
	}
	q_shutdown(q);
	assert_int_equal(references(f), 0);
}

static void options_hold_for_descriptors_too(void **state)
{
	struct fixture *f = *state;
	EnqueueOptions low = { .priority = Q_PRIORITY_LOW, .tag = 1 };
	EnqueueOptions urgent = { .priority = Q_PRIORITY_URGENT, .tag = 2, .opcode = OP_XOR };
	uint64_t blocker, ids[2];
	uint8_t out[64];
	size_t room = sizeof(out);
	GpuQueue *q = make_queue(4, 64);

	assert_status(q_bind_regions(f->q, NULL), Q_OK);
	q_shutdown(f->q);
	f->q = q;
	assert_status(q_bind_regions(q, f->table), Q_OK);
	blocker = block(f);
	ids[0] = send_described(f, &low);
	ids[1] = send_described(f, &urgent);
	open_gate();
	assert_status(take(q, ids[1], out, &room), Q_OK);
	assert_int_equal(room, 32);
	for (unsigned i = 0; i < 32; i++)
		assert_int_equal(out[i], f->bytes[i] ^ 0x5a);
	assert_status(q_wait(q, ids[0], LONG_MS), Q_OK);
	assert_int_equal(started_tag(1), 2);
	assert_int_equal(started_tag(2), 1);
	assert_status(q_release(q, blocker), Q_OK);
	assert_status(q_release(q, ids[0]), Q_OK);
	assert_true(payloads_aligned());
}

static void what_is_appended_can_be_enqueued(void **state)
{
	struct fixture *f = *state;
	RegionHandle immutable = f->region;
	MessageDescriptor d;
	uint64_t at, id;

	assert_status(q_region_retire(f->table, immutable), Q_OK);
	assert_status(q_region_register(f->table, f->bytes, ROOM, Q_REGION_APPEND_ONLY, &f->region),
		      Q_OK);
	bind_again(f);
	d = describe(f, 0, 5);
	assert_status(q_enqueue_descriptor(f->q, &d, NULL, &id, 0), Q_ERR_INVALID_ARG);
	assert_status(q_region_append(f->table, f->region, "hello", 5, &at), Q_OK);
	assert_status(q_enqueue_descriptor(f->q, &d, NULL, &id, 0), Q_OK);
	expect_echo(f->q, id, "hello", 5);
}

/* ---- refusals ------------------------------------------------------------------------------- */

static void wrong_descriptors_are_refused_by_name_and_hold_nothing(void **state)
{
	struct fixture *f = *state;
	MessageDescriptor good = describe(f, 0, 16), d;
	EnqueueOptions options = { .flags = 2 };
	RegionHandle slab;
	QueueStats before = stats_of(f->q), after;
	uint64_t id = 77;

	assert_status(q_region_register(f->table, f->bytes, ROOM, Q_REGION_SLAB, &slab), Q_OK);
#define REFUSE(change, status, text)                                                               \
	do {                                                                                       \
		d = good;                                                                          \
		change;                                                                            \
		assert_status(q_enqueue_descriptor(f->q, &d, NULL, &id, 0), status);               \
		assert_says(text);                                                                 \
	} while (0)
	REFUSE(d.flags = 1, Q_ERR_INVALID_ARG, "flags is 0x1");
	REFUSE(d.length = 0, Q_ERR_INVALID_ARG, "length is 0");
	REFUSE(d.region.id = 4, Q_ERR_STALE, "region.id is 4");
	REFUSE(d.region.generation++, Q_ERR_STALE, "is not registered");
	REFUSE(d.region = slab, Q_ERR_POLICY, "slab");
	REFUSE(d.offset = ROOM, Q_ERR_INVALID_ARG, "end beyond the region's bytes, 8192");
	REFUSE(d.length = ROOM + 1, Q_ERR_INVALID_ARG, "end beyond");
	REFUSE(d.offset = UINT64_MAX - 15, Q_ERR_INVALID_ARG, "end beyond");
	for (uint64_t offset = 1; offset < 16; offset++)
		REFUSE(d.offset = offset, Q_ERR_INVALID_ARG, "its bytes are at 0x");
	assert_says("offset is 15");
	assert_says("allowed: a multiple of 16");
#undef REFUSE
	assert_status(q_enqueue_descriptor(NULL, &good, NULL, &id, 0), Q_ERR_INVALID_ARG);
	assert_status(q_enqueue_descriptor(f->q, NULL, NULL, &id, 0), Q_ERR_INVALID_ARG);
	assert_says("descriptor is NULL");
	assert_status(q_enqueue_descriptor(f->q, &good, &options, &id, 0), Q_ERR_INVALID_ARG);
	assert_says("flags is 0x2");
	assert_status(q_region_retire(f->table, slab), Q_OK);
	assert_int_equal(id, 77);
	assert_int_equal(references(f), 0);
	after = stats_of(f->q);
	assert_memory_equal(&before, &after, sizeof(before));
	assert_status(q_bind_regions(f->q, NULL), Q_OK); /* nothing is inside */
}

static void offsets_that_meet_a_misaligned_base_count(void **state)
{
	struct fixture *f = *state;
	RegionHandle odd;
	MessageDescriptor d;
	uint64_t id;

	assert_status(q_region_register(f->table, f->bytes + 8, 64, Q_REGION_IMMUTABLE, &odd),
		      Q_OK);
	bind_again(f);
	d = (MessageDescriptor){ .region = odd, .offset = 0, .length = 8 };
	assert_status(q_enqueue_descriptor(f->q, &d, NULL, &id, 0), Q_ERR_INVALID_ARG);
	d.offset = 8;
	assert_status(q_enqueue_descriptor(f->q, &d, NULL, &id, 0), Q_OK);
	expect_echo(f->q, id, f->bytes + 16, 8);
}

static void a_retired_region_is_refused(void **state)
{
	struct fixture *f = *state;
	MessageDescriptor d = describe(f, 0, 16);

	assert_status(gq__region_acquire(f->table, &d, NULL), Q_OK);
	assert_status(q_region_retire(f->table, f->region), Q_OK);
	assert_status(q_enqueue_descriptor(f->q, &d, NULL, NULL, 0), Q_ERR_STALE);
	assert_says("has been retired");
	assert_status(q_region_release(f->table, &d), Q_OK);
	assert_status(q_enqueue_descriptor(f->q, &d, NULL, NULL, 0), Q_ERR_STALE);
}

static void a_region_not_mapped_here_is_refused(void **state)
{
	static _Alignas(128) uint8_t memory[128 + 4 * 64];
	struct fixture *f = *state;
	RegionTable *a, *b;
	MessageDescriptor d = { .length = 16 };

	assert_status(q_region_table_create_in(4, memory, sizeof(memory), &a), Q_OK);
	assert_status(q_region_table_attach(memory, sizeof(memory), &b), Q_OK);
	assert_status(q_region_register(a, f->bytes, ROOM, Q_REGION_IMMUTABLE, &d.region), Q_OK);
	assert_status(q_bind_regions(f->q, b), Q_OK);
	assert_status(q_enqueue_descriptor(f->q, &d, NULL, NULL, 0), Q_ERR_UNSUPPORTED);
	assert_says("is not mapped in this process");
	assert_status(q_bind_regions(f->q, f->table), Q_OK);
	q_region_table_destroy(a);
	q_region_table_destroy(b);
}

static void without_regions_bound_descriptors_are_unsupported(void **state)
{
	struct fixture *f = *state;
	MessageDescriptor d = describe(f, 0, 16);

	assert_status(q_bind_regions(NULL, f->table), Q_ERR_INVALID_ARG);
	assert_status(q_bind_regions(f->q, NULL), Q_OK);
	assert_status(q_enqueue_descriptor(f->q, &d, NULL, NULL, 0), Q_ERR_UNSUPPORTED);
	assert_says("no regions are bound to this queue: q_bind_regions()");
	assert_status(q_bind_regions(f->q, f->table), Q_OK);
	assert_status(q_enqueue_descriptor(f->q, &d, NULL, NULL, 0), Q_OK);
}

static void regions_cannot_be_bound_anew_while_descriptors_are_inside(void **state)
{
	struct fixture *f = *state;
	uint64_t blocker = block(f), id = send_described(f, NULL);

	assert_status(q_bind_regions(f->q, NULL), Q_ERR_NOT_READY);
	assert_says("a message by descriptor has not finished");
	assert_status(q_bind_regions(f->q, f->table), Q_ERR_NOT_READY);
	open_gate();
	assert_status(q_wait(f->q, id, LONG_MS), Q_OK);
	assert_status(q_bind_regions(f->q, NULL), Q_OK); /* finished; its result not taken */
	expect_echo(f->q, id, f->bytes, 32);
	assert_status(q_release(f->q, blocker), Q_OK);
}

static void binding_takes_notice_of_what_has_finished(void **state)
{
	EnqueueOptions discard = { .flags = Q_ENQUEUE_DISCARD };
	struct fixture *f = *state;
	QueueStatus status;

	send_described(f, &discard);
	for (unsigned i = 0; (status = q_bind_regions(f->q, NULL)) == Q_ERR_NOT_READY; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	assert_status(status, Q_OK);
	assert_int_equal(references(f), 0);
}

/* ---- how long the region is held ------------------------------------------------------------ */

static void a_region_is_held_until_its_message_has_finished(void **state)
{
	struct fixture *f = *state;
	EnqueueOptions gate = { .opcode = OP_GATE };
	uint64_t id = send_described(f, &gate);

	await_gate_waiters(1);
	assert_int_equal(references(f), 1);
	assert_status(q_region_retire(f->table, f->region), Q_OK);
	assert_false(is_gone(f));
	open_gate();
	assert_status(q_wait(f->q, id, LONG_MS), Q_OK);
	assert_true(is_gone(f)); /* although the result has not been taken */
	expect_echo(f->q, id, f->bytes, 32);
}

static void a_region_retired_while_queued_is_processed_whole(void **state)
{
	struct fixture *f = *state;
	uint64_t blocker = block(f), id = send_described(f, NULL);

	assert_status(q_region_retire(f->table, f->region), Q_OK);
	assert_int_equal(references(f), 1);
	open_gate();
	expect_echo(f->q, id, f->bytes, 32);
	assert_true(is_gone(f));
	assert_status(q_release(f->q, blocker), Q_OK);
}

static void every_outcome_lets_the_region_go(void **state)
{
	static const struct {
		EnqueueOptions options;
		bool cancel;
		QueueStatus ends;
	} cases[] = {
		{ { .opcode = OP_ECHO }, false, Q_OK },
		{ { .opcode = OP_FAIL }, false, Q_ERR_FAILED },
		{ { .opcode = OP_TOO_LONG }, false, Q_ERR_FAILED },
		{ { .deadline_ns = 1 }, false, Q_ERR_EXPIRED },
		{ { .opcode = OP_ECHO }, true, Q_ERR_CANCELLED },
	};
	struct fixture *f = *state;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t blocker, id;
		uint8_t out[64];
		size_t room = sizeof(out);

		close_gate();
		blocker = block(f);
		id = send_described(f, &cases[i].options);
		if (cases[i].cancel)
			assert_status(q_cancel(f->q, id), Q_OK);
		assert_int_equal(references(f), 1);
		open_gate();
		assert_status(q_wait(f->q, id, LONG_MS), Q_OK);
		assert_int_equal(references(f), 0);
		assert_status(take(f->q, id, out, &room), cases[i].ends);
		assert_int_equal(references(f), 0);
		assert_status(q_release(f->q, blocker), Q_OK);
	}
}

static void a_discarded_message_lets_the_region_go(void **state)
{
	EnqueueOptions discard = { .flags = Q_ENQUEUE_DISCARD };
	struct fixture *f = *state;
	uint64_t blocker = block(f);

	send_described(f, &discard);
	assert_int_equal(references(f), 1);
	open_gate();
	assert_status(q_drain(f->q, LONG_MS), Q_OK);
	assert_int_equal(references(f), 0);
	assert_status(q_release(f->q, blocker), Q_OK);
	/* A hundred times through two slots, nobody looking at completions. */
	for (int i = 0; i < 100; i++)
		send_described(f, &discard);
	assert_true(references(f) <= 2);
	assert_status(q_drain(f->q, LONG_MS), Q_OK);
	assert_int_equal(references(f), 0);
}

static void a_message_that_finds_no_slot_holds_nothing(void **state)
{
	struct fixture *f = *state;
	MessageDescriptor d = describe(f, 0, 16);
	uint64_t ids[2] = { block(f), send(f->q, "x", 1) };

	assert_status(q_enqueue_descriptor(f->q, &d, NULL, NULL, 0), Q_ERR_FULL);
	assert_int_equal(references(f), 0);
	assert_status(q_enqueue_descriptor(f->q, &d, NULL, NULL, 20), Q_ERR_TIMEOUT);
	assert_int_equal(references(f), 0);
	assert_int_equal(stats_of(f->q).dropped_full, 1);
	assert_int_equal(stats_of(f->q).timed_out, 1);
	if (!on_cuda()) /* there binding waits for what is being processed */
		assert_status(q_bind_regions(f->q, f->table), Q_OK); /* none is inside */
	open_gate();
	assert_status(q_wait(f->q, ids[1], LONG_MS), Q_OK);
	assert_status(q_release_batch(f->q, ids, 2), Q_OK);
}

static void a_stop_that_waits_lets_every_region_go(void **state)
{
	struct fixture *f = *state;
	MessageDescriptor d = describe(f, 0, 16);
	uint64_t id = send_described(f, NULL);

	send_described(f, NULL);
	assert_status(q_stop(f->q, LONG_MS), Q_OK);
	assert_int_equal(references(f), 0);
	expect_echo(f->q, id, f->bytes, 32);
	assert_status(q_enqueue_descriptor(f->q, &d, NULL, NULL, 0), Q_ERR_SHUTDOWN);
	assert_int_equal(references(f), 0);
	assert_status(q_bind_regions(f->q, NULL), Q_OK);
}

static void a_stop_that_gives_up_lets_go_of_what_it_cancels(void **state)
{
	struct fixture *f = *state;
	EnqueueOptions gate = { .opcode = OP_GATE };
	uint64_t running, queued;
	uint8_t out[64];
	size_t room = 0;

	leave_out_if(on_cuda(), "on the CUDA device", HANGS);
	running = send_described(f, &gate);

	await_gate_waiters(1);
	queued = send_described(f, NULL);
	assert_int_equal(references(f), 2);
	assert_status(q_stop(f->q, 10), Q_ERR_TIMEOUT);
	assert_status(take(f->q, queued, NULL, &room), Q_ERR_CANCELLED);
	assert_int_equal(references(f), 1); /* the processor still reads it */
	open_gate();
	assert_status(q_stop(f->q, LONG_MS), Q_OK);
	assert_int_equal(references(f), 0);
	room = sizeof(out);
	assert_status(take(f->q, running, out, &room), Q_OK);
	assert_memory_equal(out, f->bytes, 32);
}

static void shutdown_lets_every_region_go(void **state)
{
	struct fixture *f = *state;
	EnqueueOptions discard = { .flags = Q_ENQUEUE_DISCARD };

	for (int i = 0; i < 20; i++) {
		send_described(f, i % 2 == 0 ? NULL : &discard);
		if (i % 3 == 0) {
			q_shutdown(f->q);
			assert_int_equal(references(f), 0);
			f->q = make_queue(2, 64);
			assert_status(q_bind_regions(f->q, f->table), Q_OK);
		}
	}
}

/* The processor may read on, so its region stays; nothing of the table is touched afterwards. */
static void a_shutdown_that_gives_up_leaves_the_running_messages_region_held(void **state)
{
	static _Alignas(64) uint8_t kept[64]; /* outlives the processor, as it must */
	struct fixture *f = *state;
	QueueConfig cfg = config(4, 64);
	EnqueueOptions gate = { .opcode = OP_GATE };
	GpuQueue *bound = f->q;

	leave_out_if(on_cuda(), "on the CUDA device", HANGS);
	cfg.shutdown_timeout_ms = 10;
	assert_status(q_region_register(f->table, kept, 64, Q_REGION_IMMUTABLE, &f->region), Q_OK);
	f->q = make_queue_from(&cfg);
	assert_status(q_bind_regions(f->q, f->table), Q_OK);
	send_described(f, &gate);
	await_gate_waiters(1);
	send_described(f, NULL);
	assert_int_equal(references(f), 2);
	q_shutdown(f->q);
	f->q = bound;
	assert_int_equal(references(f), 1);
	assert_status(q_region_retire(f->table, f->region), Q_OK);
	assert_false(is_gone(f));
	open_gate();
	await_gate_waiters(0);
	nap_ms(20); /* the consumer leaves, and frees the queue */
	assert_false(is_gone(f));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(the_processor_sees_the_regions_bytes_in_place),
		TEST(options_hold_for_descriptors_too),
		TEST(what_is_appended_can_be_enqueued),
		TEST(wrong_descriptors_are_refused_by_name_and_hold_nothing),
		TEST(offsets_that_meet_a_misaligned_base_count),
		TEST(a_retired_region_is_refused),
		TEST(a_region_not_mapped_here_is_refused),
		TEST(without_regions_bound_descriptors_are_unsupported),
		TEST(regions_cannot_be_bound_anew_while_descriptors_are_inside),
		TEST(binding_takes_notice_of_what_has_finished),
		TEST(a_region_is_held_until_its_message_has_finished),
		TEST(a_region_retired_while_queued_is_processed_whole),
		TEST(every_outcome_lets_the_region_go),
		TEST(a_discarded_message_lets_the_region_go),
		TEST(a_message_that_finds_no_slot_holds_nothing),
		TEST(a_stop_that_waits_lets_every_region_go),
		TEST(a_stop_that_gives_up_lets_go_of_what_it_cancels),
		TEST(shutdown_lets_every_region_go),
		TEST(a_shutdown_that_gives_up_leaves_the_running_messages_region_held),
	};

	q_register_processor(&look_image);
	return cmocka_run_group_tests_name("unit.descriptor_queue", tests, NULL, NULL);
}
