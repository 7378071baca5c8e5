/* SPDX-License-Identifier: Apache-2.0 */
/* test_ring_descriptor.c - messages by descriptor through a ring. The table itself: test_region.c.
 */
#include "support.h"

#include <gpuq/ring.h>

#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BYTES = 1000 };

static struct {
	RingQueue *r;
	RegionTable *table;
	RegionHandle fixed, growing, slab;
	uint8_t bytes[3][BYTES];
} f;

static int set_up(void **state)
{
	/* A descriptor is longer than the messages of this ring. */
	const RingConfig cfg = { .ring_size = 4, .max_msg_size = 16 };

	(void)state;
	for (int i = 0; i < BYTES; i++)
		f.bytes[0][i] = (uint8_t)(i * 3);
	assert_status(q_ring_create(&cfg, NULL, 0, &f.r), Q_OK);
	assert_status(q_region_table_create(8, &f.table), Q_OK);
	assert_status(q_region_register(f.table, f.bytes[0], BYTES, Q_REGION_IMMUTABLE, &f.fixed),
		      Q_OK);
	assert_status(
		q_region_register(f.table, f.bytes[1], BYTES, Q_REGION_APPEND_ONLY, &f.growing),
		Q_OK);
	assert_status(q_region_register(f.table, f.bytes[2], BYTES, Q_REGION_SLAB, &f.slab), Q_OK);
	assert_status(q_ring_bind_regions(f.r, f.table), Q_OK);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	q_ring_destroy(f.r);
	q_region_table_destroy(f.table);
	return 0;
}

static MessageDescriptor at(RegionHandle region, uint64_t offset, uint32_t length)
{
	return (MessageDescriptor){ .region = region, .offset = offset, .length = length };
}

static QueueStatus send_at(RegionHandle region, uint64_t offset, uint32_t length)
{
	MessageDescriptor d = at(region, offset, length);

	return q_ring_send_descriptor(f.r, &d, Q_PRIORITY_HIGH);
}

static uint64_t references(RegionHandle region)
{
	RegionInfo info;

	assert_status(q_region_info(f.table, region, &info), Q_OK);
	return info.references;
}

static void a_descriptor_passes_a_ring_of_shorter_messages_whole(void **state)
{
	char text[16];
	size_t len = sizeof(text);

	(void)state;
	/* All four cells, between inline messages that a long one would run over. */
	for (int lap = 0; lap < 3; lap++) {
		RingMessage m;
		const void *bytes;

		assert_status(send_at(f.fixed, 17, 500), Q_OK);
		assert_status(q_ring_send(f.r, "sixteen bytes ok", 16, 0), Q_OK);
		assert_status(send_at(f.fixed, 600, 400), Q_OK);
		assert_status(q_ring_send(f.r, "sixteen bytes OK", 16, 0), Q_OK);
		for (int i = 0; i < 2; i++) {
			assert_status(q_ring_recv_typed(f.r, NULL, 0, &m), Q_OK);
			assert_int_equal(m.kind, Q_MESSAGE_DESCRIPTOR);
			assert_int_equal(m.priority, Q_PRIORITY_HIGH);
			assert_int_equal(m.sequence, (uint64_t)(lap * 4 + i * 2));
			assert_int_equal(m.length, i == 0 ? 500 : 400);
			assert_int_equal(m.descriptor.offset, i == 0 ? 17 : 600);
			assert_status(q_region_resolve(f.table, &m.descriptor, &bytes), Q_OK);
			assert_ptr_equal(bytes, f.bytes[0] + m.descriptor.offset); /* no copy */
			assert_status(q_region_release(f.table, &m.descriptor), Q_OK);
		}
		assert_status(q_ring_recv(f.r, text, &len), Q_OK);
		assert_memory_equal(text, "sixteen bytes ok", 16);
		assert_status(q_ring_recv(f.r, text, &len), Q_OK);
		assert_memory_equal(text, "sixteen bytes OK", 16);
	}
}

static void the_library_checks_the_descriptor_and_the_sender_vouches_for_nothing(void **state)
{
	uint64_t offset;
	MessageDescriptor d;

	(void)state;
	assert_status(send_at(f.fixed, 500, 500), Q_OK);
	assert_status(send_at(f.fixed, 900, 200), Q_ERR_INVALID_ARG);
	assert_status(send_at(f.fixed, 0, 0), Q_ERR_INVALID_ARG);
	assert_status(send_at(f.fixed, UINT64_MAX - 10, 100), Q_ERR_INVALID_ARG);
	assert_status(send_at(f.slab, 0, 10), Q_ERR_POLICY);
	assert_status(send_at((RegionHandle){ UINT32_MAX, 1 }, 0, 10), Q_ERR_STALE);
	assert_status(send_at((RegionHandle){ 0 }, 0, 10), Q_ERR_STALE);
	d = at(f.fixed, 0, 10);
	d.flags = 1;
	assert_status(q_ring_send_descriptor(f.r, &d, 0), Q_ERR_INVALID_ARG);
	d.flags = 0;
	assert_status(q_ring_send_descriptor(f.r, &d, (QueuePriority)9), Q_ERR_INVALID_ARG);
	/* Only what has been appended. */
	assert_status(send_at(f.growing, 0, 1), Q_ERR_INVALID_ARG);
	assert_status(q_region_append(f.table, f.growing, "0123456789", 10, &offset), Q_OK);
	assert_status(send_at(f.growing, offset, 10), Q_OK);
	assert_status(send_at(f.growing, offset + 1, 10), Q_ERR_INVALID_ARG);
	assert_int_equal(q_ring_len(f.r), 2);
	assert_int_equal(references(f.fixed), 1);
	assert_int_equal(references(f.growing), 1);
}

static void a_refused_descriptor_holds_no_region(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++)
		assert_status(send_at(f.fixed, 0, 1), Q_OK);
	assert_status(send_at(f.fixed, 0, 1), Q_ERR_FULL);
	assert_int_equal(references(f.fixed), 4);
	assert_status(q_ring_close(f.r), Q_OK);
	assert_status(q_ring_discard(f.r), Q_OK);
	assert_status(send_at(f.fixed, 0, 1), Q_ERR_SHUTDOWN);
	assert_int_equal(references(f.fixed), 3);
}

static void plain_receive_refuses_a_descriptor_and_leaves_it(void **state)
{
	char text[16];
	size_t len = sizeof(text);
	RingMessage m;

	(void)state;
	assert_status(send_at(f.fixed, 3, 4), Q_OK);
	assert_status(q_ring_recv(f.r, text, &len), Q_ERR_POLICY);
	assert_int_equal(len, 0);
	assert_non_null(strstr(q_last_error(), "q_ring_recv_typed"));
	assert_status(q_ring_peek(f.r, &m), Q_OK);
	assert_int_equal(m.kind, Q_MESSAGE_DESCRIPTOR);
	assert_int_equal(m.length, 4);
	assert_int_equal(m.descriptor.offset, 3);
	assert_int_equal(m.descriptor.region.id, f.fixed.id);
	assert_int_equal(q_ring_len(f.r), 1);
}

static void discarding_a_descriptor_releases_its_region(void **state)
{
	(void)state;
	assert_status(send_at(f.fixed, 3, 4), Q_OK);
	assert_status(q_ring_bind_regions(f.r, NULL), Q_OK);
	assert_status(q_ring_discard(f.r), Q_ERR_UNSUPPORTED);
	assert_int_equal(q_ring_len(f.r), 1);
	assert_status(q_ring_bind_regions(f.r, f.table), Q_OK);
	assert_status(q_ring_discard(f.r), Q_OK);
	assert_int_equal(references(f.fixed), 0);
}

static void destroying_a_ring_releases_what_was_queued(void **state)
{
	const RingConfig cfg = { .ring_size = 4, .max_msg_size = 16 };
	MessageDescriptor d = at(f.fixed, 0, 8);
	RingQueue *r;

	(void)state;
	assert_status(q_ring_create(&cfg, NULL, 0, &r), Q_OK);
	assert_status(q_ring_bind_regions(r, f.table), Q_OK);
	assert_status(q_ring_send_descriptor(r, &d, 0), Q_OK);
	assert_status(q_ring_send(r, "inline", 6, 0), Q_OK);
	assert_status(q_ring_send_descriptor(r, &d, 0), Q_OK);
	assert_int_equal(references(f.fixed), 2);
	q_ring_destroy(r);
	assert_int_equal(references(f.fixed), 0);
}

static void a_region_stays_alive_while_a_descriptor_is_queued_or_held(void **state)
{
	RegionInfo info;
	RingMessage m;
	const void *bytes;

	(void)state;
	assert_status(send_at(f.fixed, 100, 10), Q_OK);
	assert_status(q_region_retire(f.table, f.fixed), Q_OK);
	assert_status(send_at(f.fixed, 100, 10), Q_ERR_STALE);
	assert_status(q_region_info(f.table, f.fixed, &info), Q_OK);
	assert_int_equal(info.retired, 1);
	assert_status(q_ring_recv_typed(f.r, NULL, 0, &m), Q_OK);
	assert_status(q_region_resolve(f.table, &m.descriptor, &bytes), Q_OK);
	assert_ptr_equal(bytes, f.bytes[0] + 100);
	assert_status(q_region_release(f.table, &m.descriptor), Q_OK);
	assert_status(q_region_info(f.table, f.fixed, &info), Q_ERR_STALE);
	assert_status(q_region_resolve(f.table, &m.descriptor, &bytes), Q_ERR_STALE);
	assert_status(q_region_release(f.table, &m.descriptor), Q_ERR_STALE);
}

static void a_batch_carries_both_kinds(void **state)
{
	RingMessage m[4];
	RingStats stats;
	char buf[64];
	size_t n;

	(void)state;
	assert_status(q_ring_send(f.r, "inline", 6, Q_PRIORITY_HIGH), Q_OK);
	assert_status(send_at(f.fixed, 1, 999), Q_OK);
	assert_status(q_ring_send(f.r, "too", 3, Q_PRIORITY_HIGH), Q_OK);
	assert_status(q_ring_recv_batch(f.r, buf, sizeof(buf), m, 4, &n), Q_OK);
	assert_int_equal(n, 3);
	assert_int_equal(m[1].kind, Q_MESSAGE_DESCRIPTOR);
	assert_int_equal(m[1].descriptor.length, 999);
	assert_int_equal(m[2].offset, 8);
	assert_memory_equal(buf + 8, "too", 3);
	assert_status(q_region_release(f.table, &m[1].descriptor), Q_OK);
	/* Bytes balance: both sides count what was described. */
	assert_status(q_ring_stats(f.r, &stats), Q_OK);
	assert_int_equal(stats.bytes_sent, 6 + 999 + 3);
	assert_int_equal(stats.bytes_received, 6 + 999 + 3);
	assert_int_equal(stats.descriptors, 1);
}

static void *receive_one_later(void *arg)
{
	RingMessage m;

	nap_ms(20);
	return q_ring_recv_typed(f.r, NULL, 0, &m) == Q_OK &&
			       q_region_release(f.table, &m.descriptor) == Q_OK
		       ? arg
		       : NULL;
}

static void *send_one_later(void *arg)
{
	nap_ms(20);
	return send_at(f.fixed, 1, 9) == Q_OK ? arg : NULL;
}

static void descriptors_are_waited_for_and_a_time_out_leaves_nothing_held(void **state)
{
	const MessageDescriptor d = { .region = f.fixed, .offset = 1, .length = 9 };
	uint32_t queued = 0;
	pthread_t thread;
	char said[200];
	RingMessage m;
	void *ok;

	(void)state;
	assert_status(q_ring_recv_typed_timeout(f.r, NULL, 0, &m, 0), Q_ERR_EMPTY);
	assert_status(q_ring_recv_typed_timeout(f.r, NULL, 0, &m, 10), Q_ERR_TIMEOUT);
	snprintf(said, sizeof(said), "%s", q_last_error());
	pthread_create(&thread, NULL, send_one_later, &f);
	assert_status(q_ring_recv_typed_timeout(f.r, NULL, 0, &m, LONG_MS), Q_OK);
	assert_string_equal(q_last_error(), said); /* a call that succeeds leaves it as it was */
	pthread_join(thread, &ok);
	assert_non_null(ok);
	assert_int_equal(m.kind, Q_MESSAGE_DESCRIPTOR);
	assert_status(q_region_release(f.table, &m.descriptor), Q_OK);
	while (q_ring_send_descriptor(f.r, &d, 0) == Q_OK)
		queued++;
	assert_status(q_ring_send_descriptor_timeout(f.r, &d, 0, 0), Q_ERR_FULL);
	assert_status(q_ring_send_descriptor_timeout(f.r, &d, 0, 10), Q_ERR_TIMEOUT);
	snprintf(said, sizeof(said), "%s", q_last_error());
	pthread_create(&thread, NULL, receive_one_later, &f);
	assert_status(q_ring_send_descriptor_timeout(f.r, &d, 0, LONG_MS), Q_OK);
	assert_string_equal(q_last_error(), said);
	pthread_join(thread, &ok);
	assert_non_null(ok);
	/* As many references as messages, not one more. */
	for (; queued > 0; queued--) {
		assert_status(q_ring_recv_typed(f.r, NULL, 0, &m), Q_OK);
		assert_status(q_region_release(f.table, &m.descriptor), Q_OK);
	}
	assert_status(q_region_release(f.table, &d), Q_ERR_INVALID_ARG);
}

static QueueStatus first_is_even(const void *data, size_t len, void *user)
{
	(void)user;
	return len != 0 && *(const uint8_t *)data % 2 == 0 ? Q_OK : Q_ERR_FAILED;
}

static void the_validator_sees_the_described_bytes(void **state)
{
	(void)state;
	assert_status(q_ring_set_schema(f.r, 0, first_is_even, NULL), Q_OK);
	assert_status(send_at(f.fixed, 2, 4), Q_OK);         /* 6 */
	assert_status(send_at(f.fixed, 3, 4), Q_ERR_FAILED); /* 9 */
	assert_int_equal(q_ring_len(f.r), 1);
	assert_int_equal(references(f.fixed), 1);
}

static void a_child_receives_what_the_parent_has_described(void **state)
{
	const RingConfig cfg = { .ring_size = 4, .max_msg_size = 16 };
	const size_t bytes = q_ring_required_memory(&cfg);
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	MessageDescriptor d = at(f.fixed, 10, 20);
	RingQueue *r, *mine;
	RingMessage m;
	const void *seen;
	int status;
	pid_t pid;

	(void)state;
	assert_status(q_ring_create(&cfg, memory, bytes, &r), Q_OK);
	assert_status(q_ring_bind_regions(r, f.table), Q_OK);
	assert_status(q_ring_send_descriptor(r, &d, 0), Q_OK);
	assert_int_equal(references(f.fixed), 1);
	pid = fork();
	if (pid == 0) {
		if (q_ring_attach(memory, bytes, &mine) != Q_OK ||
		    q_ring_recv_typed(mine, NULL, 0, &m) != Q_OK ||
		    q_region_resolve(f.table, &m.descriptor, &seen) != Q_OK ||
		    memcmp(seen, f.bytes[0] + 10, 20) != 0 ||
		    q_region_release(f.table, &m.descriptor) != Q_OK)
			_exit(1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(references(f.fixed), 0); /* the table is shared */
	q_ring_destroy(r);
	munmap(memory, bytes);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_descriptor_passes_a_ring_of_shorter_messages_whole),
		TEST(the_library_checks_the_descriptor_and_the_sender_vouches_for_nothing),
		TEST(a_refused_descriptor_holds_no_region),
		TEST(plain_receive_refuses_a_descriptor_and_leaves_it),
		TEST(discarding_a_descriptor_releases_its_region),
		TEST(destroying_a_ring_releases_what_was_queued),
		TEST(a_region_stays_alive_while_a_descriptor_is_queued_or_held),
		TEST(a_batch_carries_both_kinds),
		TEST(descriptors_are_waited_for_and_a_time_out_leaves_nothing_held),
		TEST(the_validator_sees_the_described_bytes),
		TEST(a_child_receives_what_the_parent_has_described),
	};

	return cmocka_run_group_tests_name("ring_descriptor", tests, NULL, NULL);
}
