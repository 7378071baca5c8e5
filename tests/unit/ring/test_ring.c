/* SPDX-License-Identifier: Apache-2.0 */
/* test_ring.c - rings: every call, every status, in both modes. Threads: stress/stress_ring.c. */
#include "support.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/ring/bind.h"
#include "host/ring/extent.h"
#include "host/ring/reuse.h"
#include "host/ring/ring.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static RingQueue *make_ring(uint32_t size, uint32_t max, uint32_t flags)
{
	RingConfig cfg = { .ring_size = size, .max_msg_size = max, .flags = flags };
	RingQueue *r = NULL;

	if (q_ring_create(&cfg, NULL, 0, &r) != Q_OK)
		fail_msg("%s", q_last_error());
	return r;
}

static const uint32_t modes[] = { 0, Q_RING_SINGLE, Q_RING_LARGE, Q_RING_SINGLE | Q_RING_LARGE };
#define FOR_EACH_MODE(flags) for (uint32_t i_ = 0, flags; i_ < 4 && (flags = modes[i_], true); i_++)

static void send_text(RingQueue *r, const char *text, QueuePriority priority)
{
	assert_status(q_ring_send(r, text, strlen(text), priority), Q_OK);
}

static void expect_text(RingQueue *r, const char *text)
{
	char buf[256];
	size_t len = sizeof(buf);

	assert_status(q_ring_recv(r, buf, &len), Q_OK);
	assert_int_equal(len, strlen(text));
	assert_memory_equal(buf, text, len);
}

static void expect_nothing(RingQueue *r)
{
	char buf[8];
	size_t len = sizeof(buf);

	assert_status(q_ring_recv(r, buf, &len), Q_ERR_EMPTY);
	assert_int_equal(len, 0);
}

static void expect_error_names(const char *a, const char *b, const char *c)
{
	const char *error = q_last_error();

	if (strstr(error, a) == NULL || strstr(error, b) == NULL || strstr(error, c) == NULL)
		fail_msg("\"%s\" does not name %s, %s and %s", error, a, b, c);
}

/* ---- configuration and memory ---------------------------------------------------------------- */

static void zero_fields_mean_the_defaults(void **state)
{
	RingConfig cfg;
	RingQueue *r;

	(void)state;
	assert_status(q_ring_create(NULL, NULL, 0, &r), Q_OK);
	assert_status(q_ring_config(r, &cfg), Q_OK);
	assert_int_equal(cfg.ring_size, 64);
	assert_int_equal(cfg.max_msg_size, 4096);
	assert_int_equal(cfg.schema, 0);
	assert_int_equal(cfg.flags, 0);
	assert_int_equal(q_ring_available(r), 64);
	assert_status(q_ring_config(r, NULL), Q_ERR_INVALID_ARG);
	q_ring_destroy(r);
}

static void expect_refused(RingConfig cfg, const char *field, const char *value, const char *range)
{
	RingQueue *r = (RingQueue *)1;

	assert_int_equal(q_ring_required_memory(&cfg), 0);
	expect_error_names(field, value, range);
	assert_status(q_ring_create(&cfg, NULL, 0, &r), Q_ERR_INVALID_ARG);
	expect_error_names(field, value, range);
	assert_ptr_equal(r, (RingQueue *)1);
}

static void a_field_out_of_range_is_refused_by_name_value_and_range(void **state)
{
	static const uint32_t no_powers[] = {
		3, 5, 6, 7, 9, 10, 15, 17, 63, 100, (1u << 20) + 1, 1u << 21
	};

	(void)state;
	for (size_t i = 0; i < sizeof(no_powers) / sizeof(no_powers[0]); i++) {
		char value[16];

		snprintf(value, sizeof(value), "%" PRIu32, no_powers[i]);
		expect_refused((RingConfig){ .ring_size = no_powers[i] }, "ring_size", value,
			       "1048576");
	}
	expect_refused((RingConfig){ .max_msg_size = 2u << 20 }, "max_msg_size", "2097152",
		       "1048576");
	expect_refused((RingConfig){ .max_msg_size = (1u << 20) + 1 }, "max_msg_size", "1048577",
		       "1048576");
	expect_refused((RingConfig){ .flags = 8 }, "flags", "0x8", "0x7");
	expect_refused((RingConfig){ .ageing_limit = 1 }, "ageing_limit", "1", "Q_RING_AGEING");
	expect_refused((RingConfig){ .reserved = { [10] = 7 } }, "reserved[10]", "7", "allowed: 0");
	assert_status(q_ring_create(NULL, NULL, 0, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_ring_create(NULL, NULL, 5, (RingQueue **)&state), Q_ERR_INVALID_ARG);
}

static void every_power_of_two_and_every_length_makes_a_ring(void **state)
{
	static const uint32_t lengths[] = { 1, 2, 7, 63, 64, 65, 4096, 1u << 20 };

	(void)state;
	for (uint32_t size = 1; size <= 256; size *= 2)
		for (size_t i = 0; i < 6; i++) {
			RingQueue *r = make_ring(size, lengths[i], 0);

			assert_int_equal(q_ring_available(r), size);
			q_ring_destroy(r);
		}
	q_ring_destroy(make_ring(1, lengths[7], 0));
	q_ring_destroy(make_ring(Q_MAX_RING_SIZE, 1, 0));
}

static void memory_that_is_too_small_or_misaligned_is_refused_and_untouched(void **state)
{
	RingConfig cfg = { .ring_size = 4, .max_msg_size = 100 };
	size_t need = q_ring_required_memory(&cfg);
	uint8_t *memory = aligned_alloc(128, (need + 255) / 128 * 128);
	RingQueue *r;

	(void)state;
	memset(memory, 0x5a, need + 1);
	assert_status(q_ring_create(&cfg, memory, need - 1, &r), Q_ERR_NO_MEMORY);
	expect_error_names("bytes", "takes", "at least");
	assert_status(q_ring_create(&cfg, memory + 64, need, &r), Q_ERR_INVALID_ARG);
	expect_error_names("memory", "aligned", "128");
	for (size_t i = 0; i <= need; i++)
		assert_int_equal(memory[i], 0x5a);
	assert_status(q_ring_create(&cfg, memory, need, &r), Q_OK);
	send_text(r, "in my own memory", 0);
	expect_text(r, "in my own memory");
	assert_int_equal(memory[need], 0x5a); /* nothing beyond what was asked for */
	q_ring_destroy(r);
	free(memory);
}

static void required_memory_is_what_the_documentation_says(void **state)
{
	RingConfig a = { .ring_size = 1024, .max_msg_size = 100 }, b = a;
	size_t per_message;

	(void)state;
	b.ring_size = 2048;
	per_message = (q_ring_required_memory(&b) - q_ring_required_memory(&a)) / 1024;
	/* The cell, 16 each for four classes and the pool, 8 for the number, 24 for a descriptor; a
	 * completion's cell, 16 each for its class and pool, and 8 for its number. */
	assert_int_equal(per_message, 128 + 5 * 16 + 8 + 24 + 64 + 2 * 16 + 8);
	assert_true(q_ring_required_memory(&a) - 1024 * per_message <= 35 * 1024);
}

static void a_failed_allocation_leaves_nothing_behind(void **state)
{
	const RingConfig cfg = { .flags = Q_RING_AGEING };
	const size_t before = gq__alloc_live_bytes();
	QueueStatus status;
	unsigned n = 0;
	RingQueue *r;

	(void)state;
	do {
		gq__fault_set(++n);
		status = q_ring_create(&cfg, NULL, 0, &r);
		gq__fault_set(0);
		if (status != Q_OK) {
			assert_status(status, Q_ERR_NO_MEMORY);
			assert_int_equal(gq__alloc_live_bytes(), before);
		} else {
			send_text(r, "works all the same", 0);
			expect_text(r, "works all the same");
			q_ring_destroy(r);
			assert_int_equal(gq__alloc_live_bytes(), before);
		}
	} while (n < 12);
	assert_status(status, Q_OK);
}

/* ---- messages -------------------------------------------------------------------------------- */

static void messages_come_out_as_they_went_in_and_in_order(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		RingQueue *r = make_ring(8, 64, flags);

		for (int lap = 0; lap < 10; lap++) {
			send_text(r, "one", 0);
			send_text(r, "two", 0);
			send_text(r, "three", 0);
			send_text(r, "four", 0);
			send_text(r, "Hello, World", 0);
			assert_int_equal(q_ring_len(r), 5);
			assert_int_equal(q_ring_available(r), 3);
			expect_text(r, "one");
			expect_text(r, "two");
			expect_text(r, "three");
			expect_text(r, "four");
			expect_text(r, "Hello, World");
			assert_true(q_ring_is_empty(r));
		}
		q_ring_destroy(r);
	}
}

static void a_ring_holds_exactly_its_size(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		for (uint32_t size = 1; size <= 64; size *= 2) {
			RingQueue *r = make_ring(size, 8, flags);

			for (int lap = 0; lap < 5; lap++) {
				for (uint32_t i = 0; i < size; i++) {
					assert_false(q_ring_is_full(r));
					assert_int_equal(q_ring_len(r), i);
					send_text(r, "x", (QueuePriority)(i % 5));
				}
				assert_true(q_ring_is_full(r));
				assert_int_equal(q_ring_len(r), size);
				assert_status(q_ring_send(r, "y", 1, 0), Q_ERR_FULL);
				assert_status(q_ring_send_timeout(r, "y", 1, 0, 1), Q_ERR_TIMEOUT);
				for (uint32_t i = 0; i < size; i++)
					expect_text(r, "x");
			}
			q_ring_destroy(r);
		}
	}
}

static void an_empty_message_and_one_of_the_largest_length_pass(void **state)
{
	static const uint32_t lengths[] = { 1, 15, 16, 17, 31, 33, 48, 63, 64, 65, 1000, 1u << 20 };

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		const uint32_t max = lengths[i];
		uint8_t *data = malloc(max + 1), *back = malloc(max + 1);
		RingQueue *r = make_ring(2, max, 0);
		size_t len = max;

		for (uint32_t b = 0; b <= max; b++)
			data[b] = (uint8_t)(b * 7 + b / 251);
		assert_status(q_ring_send(r, data, max, 0), Q_OK);
		assert_status(q_ring_send(r, NULL, 0, 0), Q_OK);
		memset(back, 0, max + 1);
		assert_status(q_ring_recv(r, back, &len), Q_OK);
		assert_int_equal(len, max);
		assert_memory_equal(back, data, max);
		assert_int_equal(back[max], 0);
		len = 0;
		assert_status(q_ring_recv(r, NULL, &len), Q_OK);
		assert_int_equal(len, 0);
		assert_status(q_ring_send(r, data, max + 1, 0), Q_ERR_INVALID_ARG);
		expect_error_names("len", "at most", "bytes");
		assert_true(q_ring_is_empty(r));
		q_ring_destroy(r);
		free(data);
		free(back);
	}
}

static void a_message_cannot_write_beyond_its_cell(void **state)
{
	/* Sizes that leave no room to spare, in memory of exactly the size required. */
	static const uint32_t maxes[] = { 1, 8, 16, 23, 24, 64 };

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		RingConfig cfg = { .ring_size = 4, .max_msg_size = maxes[i] };
		size_t need = q_ring_required_memory(&cfg);
		uint8_t *memory = aligned_alloc(128, (need + 127) / 128 * 128), text[64], back[64];
		RingQueue *r;

		assert_status(q_ring_create(&cfg, memory, need, &r), Q_OK);
		for (uint8_t m = 0; m < 4; m++) {
			memset(text, 'a' + m, sizeof(text));
			assert_status(q_ring_send(r, text, maxes[i], 0), Q_OK);
		}
		for (uint8_t m = 0; m < 4; m++) {
			size_t len = sizeof(back);

			memset(text, 'a' + m, sizeof(text));
			assert_status(q_ring_recv(r, back, &len), Q_OK);
			assert_int_equal(len, maxes[i]);
			assert_memory_equal(back, text, len);
		}
		q_ring_destroy(r);
		free(memory);
	}
}

static void bad_arguments_are_refused_and_change_nothing(void **state)
{
	RingQueue *r = make_ring(4, 16, 0);
	EnqueueItem items[3] = { { "a", 1 }, { NULL, 1 }, { "c", 1 } };
	RingCompletion completion;
	RingMessage m;
	char buf[16];
	size_t n = 9;

	(void)state;
	assert_status(q_ring_send(r, NULL, 1, 0), Q_ERR_INVALID_ARG);
	assert_status(q_ring_send(r, "x", 1, (QueuePriority)5), Q_ERR_INVALID_ARG);
	expect_error_names("priority", "5", "0 to 4");
	assert_status(q_ring_send(r, "x", 1, (QueuePriority)-1), Q_ERR_INVALID_ARG);
	assert_status(q_ring_send_batch(r, NULL, 1, 0, &n), Q_ERR_INVALID_ARG);
	assert_int_equal(n, 0);
	n = 9;
	assert_status(q_ring_send_batch(r, items, 3, 0, &n), Q_ERR_INVALID_ARG);
	expect_error_names("item 1 of 3", "NULL", "len");
	assert_int_equal(n, 0);
	assert_int_equal(q_ring_len(r), 0);
	assert_status(q_ring_recv(r, buf, NULL), Q_ERR_INVALID_ARG);
	n = 5;
	assert_status(q_ring_recv(r, NULL, &n), Q_ERR_INVALID_ARG);
	assert_int_equal(n, 0);
	assert_status(q_ring_recv_typed(r, buf, 16, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_ring_recv_typed(r, NULL, 16, &m), Q_ERR_INVALID_ARG);
	assert_status(q_ring_recv_batch(r, buf, 16, &m, 1, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_ring_recv_batch(r, buf, 16, NULL, 1, &n), Q_ERR_INVALID_ARG);
	assert_status(q_ring_recv_batch(r, buf, 16, &m, 0, &n), Q_ERR_INVALID_ARG);
	assert_status(q_ring_recv_batch(r, NULL, 16, &m, 1, &n), Q_ERR_INVALID_ARG);
	assert_status(q_ring_peek(r, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_ring_stats(r, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_ring_complete(r, 0, Q_OK, NULL, 1), Q_ERR_INVALID_ARG);
	assert_status(q_ring_complete(r, 0, Q_OK, buf, 17), Q_ERR_INVALID_ARG);
	expect_error_names("len", "17", "16");
	n = 5;
	assert_status(q_ring_complete_batch(r, NULL, 1, &n), Q_ERR_INVALID_ARG);
	assert_int_equal(n, 0);
	assert_status(q_ring_complete_batch(r, NULL, 0, NULL), Q_OK);
	assert_status(q_ring_complete_batch(
			      r, (RingCompletion[]){ { .length = 16 }, { .length = 17 } }, 2, &n),
		      Q_ERR_INVALID_ARG);
	expect_error_names("length is 17", "16", "item 1 of 2");
	assert_status(q_ring_poll_completions(r, &completion, 1, &n), Q_OK);
	assert_int_equal(n, 0); /* all are checked before the first is sent */
	assert_status(q_ring_poll_completions(r, NULL, 1, &n), Q_ERR_INVALID_ARG);
	assert_status(q_ring_poll_completions(r, NULL, 0, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_ring_send_descriptor(r, NULL, 0), Q_ERR_INVALID_ARG);
	assert_status(q_ring_send_descriptor(r, &(MessageDescriptor){ 0 }, 0), Q_ERR_UNSUPPORTED);
	assert_int_equal(q_ring_len(r), 0);
	q_ring_destroy(r);
	q_ring_destroy(NULL);

	assert_status(q_ring_send(NULL, "x", 1, 0), Q_ERR_INVALID_ARG);
	n = 4;
	assert_status(q_ring_recv(NULL, buf, &n), Q_ERR_INVALID_ARG);
	assert_status(q_ring_close(NULL), Q_ERR_INVALID_ARG);
	assert_status(q_ring_discard(NULL), Q_ERR_INVALID_ARG);
	assert_status(q_ring_set_schema(NULL, 0, NULL, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_ring_bind_regions(NULL, NULL), Q_ERR_INVALID_ARG);
	assert_int_equal(q_ring_len(NULL), 0);
	assert_int_equal(q_ring_available(NULL), 0);
	assert_int_equal(q_ring_sequence(NULL), 0);
}

static void a_buffer_that_is_too_small_leaves_the_message_and_says_what_it_takes(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		RingQueue *r = make_ring(4, 128, flags);
		char text[100], buf[100];
		RingMessage m;
		size_t len = 99, n;

		memset(text, 'b', sizeof(text));
		assert_status(q_ring_send(r, text, 100, Q_PRIORITY_HIGH), Q_OK);
		assert_status(q_ring_recv(r, buf, &len), Q_ERR_BUFFER_TOO_SMALL);
		assert_int_equal(len, 100);
		expect_error_names("99", "100", "takes");
		assert_status(q_ring_recv_typed(r, buf, 99, &m), Q_ERR_BUFFER_TOO_SMALL);
		assert_int_equal(m.length, 100);
		assert_int_equal(m.priority, Q_PRIORITY_HIGH);
		m.length = 0;
		assert_status(q_ring_recv_batch(r, buf, 99, &m, 1, &n), Q_ERR_BUFFER_TOO_SMALL);
		assert_int_equal(n, 0);
		assert_int_equal(m.length, 100);
		len = 0;
		assert_status(q_ring_recv(r, NULL, &len), Q_ERR_BUFFER_TOO_SMALL);
		assert_int_equal(len, 100);
		assert_int_equal(q_ring_len(r), 1);
		len = 100;
		assert_status(q_ring_recv(r, buf, &len), Q_OK);
		assert_memory_equal(buf, text, 100);
		q_ring_destroy(r);
	}
}

static void discard_drops_the_front(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		RingQueue *r = make_ring(4, 16, flags);
		RingStats stats;

		assert_status(q_ring_discard(r), Q_ERR_EMPTY);
		send_text(r, "first", 0);
		send_text(r, "second", 0);
		assert_status(q_ring_discard(r), Q_OK);
		expect_text(r, "second");
		assert_status(q_ring_stats(r, &stats), Q_OK);
		assert_int_equal(stats.discarded, 1);
		assert_int_equal(stats.received, 2);
		assert_int_equal(stats.bytes_received, stats.bytes_sent);
		q_ring_destroy(r);
	}
}

static void peek_shows_the_front_and_leaves_it(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		RingQueue *r = make_ring(4, 16, flags);
		RingMessage m;

		assert_status(q_ring_peek(r, &m), Q_ERR_EMPTY);
		send_text(r, "low", Q_PRIORITY_LOW);
		send_text(r, "urgent", Q_PRIORITY_URGENT);
		for (int i = 0; i < 3; i++) {
			assert_status(q_ring_peek(r, &m), Q_OK);
			assert_int_equal(m.kind, Q_MESSAGE_INLINE);
			assert_int_equal(m.length, 6);
			assert_int_equal(m.priority, Q_PRIORITY_URGENT);
			assert_int_equal(m.sequence, 1);
			assert_int_equal(q_ring_len(r), 2);
		}
		expect_text(r, "urgent");
		assert_status(q_ring_peek(r, &m), Q_OK);
		assert_int_equal(m.sequence, 0);
		q_ring_destroy(r);
	}
}

static void typed_receive_tells_kind_length_priority_and_sequence(void **state)
{
	RingQueue *r = make_ring(8, 16, 0);
	RingMessage m;
	char buf[16];

	(void)state;
	send_text(r, "normal", Q_PRIORITY_DEFAULT);
	send_text(r, "high", Q_PRIORITY_HIGH);
	assert_status(q_ring_recv_typed(r, buf, sizeof(buf), &m), Q_OK);
	assert_int_equal(m.kind, Q_MESSAGE_INLINE);
	assert_int_equal(m.priority, Q_PRIORITY_HIGH);
	assert_int_equal(m.length, 4);
	assert_int_equal(m.sequence, 1);
	assert_memory_equal(buf, "high", 4);
	assert_status(q_ring_recv_typed(r, buf, sizeof(buf), &m), Q_OK);
	assert_int_equal(m.priority, Q_PRIORITY_NORMAL);
	assert_int_equal(m.sequence, 0);
	assert_status(q_ring_recv_typed(r, buf, sizeof(buf), &m), Q_ERR_EMPTY);
	q_ring_destroy(r);
}

/* ---- priorities ------------------------------------------------------------------------------ */

static void higher_classes_come_first_and_each_class_in_order(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		RingQueue *r = make_ring(16, 8, flags);

		send_text(r, "l1", Q_PRIORITY_LOW);
		send_text(r, "n1", Q_PRIORITY_NORMAL);
		send_text(r, "u1", Q_PRIORITY_URGENT);
		send_text(r, "h1", Q_PRIORITY_HIGH);
		send_text(r, "l2", Q_PRIORITY_LOW);
		send_text(r, "u2", Q_PRIORITY_URGENT);
		send_text(r, "n2", Q_PRIORITY_DEFAULT);
		send_text(r, "h2", Q_PRIORITY_HIGH);
		expect_text(r, "u1");
		expect_text(r, "u2");
		expect_text(r, "h1");
		send_text(r, "u3", Q_PRIORITY_URGENT);
		expect_text(r, "u3");
		expect_text(r, "h2");
		expect_text(r, "n1");
		expect_text(r, "n2");
		expect_text(r, "l1");
		expect_text(r, "l2");
		q_ring_destroy(r);
	}
}

/* How many urgent messages pass a waiting low one. */
static uint32_t passed_before_low(uint32_t flags, uint32_t limit, uint32_t at_most)
{
	RingConfig cfg = {
		.ring_size = 4, .max_msg_size = 8, .flags = flags, .ageing_limit = limit
	};
	char buf[8] = "";
	uint32_t passed = 0;
	RingQueue *r;

	assert_status(q_ring_create(&cfg, NULL, 0, &r), Q_OK);
	send_text(r, "low", Q_PRIORITY_LOW);
	for (; passed < at_most; passed++) {
		size_t len = sizeof(buf);

		send_text(r, "urgent", Q_PRIORITY_URGENT);
		assert_status(q_ring_recv(r, buf, &len), Q_OK);
		if (buf[0] == 'l')
			break;
	}
	q_ring_destroy(r);
	return passed;
}

static void ageing_bounds_how_long_low_waits_and_is_off_by_default(void **state)
{
	(void)state;
	assert_int_equal(passed_before_low(Q_RING_AGEING, 5, 1000), 5);
	assert_int_equal(passed_before_low(Q_RING_AGEING, 1, 1000), 1);
	assert_int_equal(passed_before_low(Q_RING_AGEING, 0, 1000), 256);
	assert_int_equal(passed_before_low(Q_RING_AGEING | Q_RING_SINGLE, 7, 1000), 7);
	assert_int_equal(passed_before_low(0, 0, 1000), 1000);
}

/* A batch that got all of one class looks at the others again only if it does not remember them as
 * empty, or if ageing has let a lower class go first. */
static void a_batch_takes_what_is_in_all_classes(void **state)
{
	const RingConfig cfg = {
		.ring_size = 64, .max_msg_size = 8, .flags = Q_RING_AGEING, .ageing_limit = 1
	};
	RingMessage m[32];
	char buf[256];
	size_t n, len;
	RingQueue *r;

	(void)state;
	FOR_EACH_MODE(flags)
	{
		r = make_ring(64, 8, flags);
		for (int i = 0; i < 3; i++) {
			/* At first nothing is remembered, then that all classes are empty. */
			send_text(r, "low", Q_PRIORITY_LOW);
			send_text(r, "n", Q_PRIORITY_NORMAL);
			send_text(r, "u", Q_PRIORITY_URGENT);
			assert_status(q_ring_recv_batch(r, buf, sizeof(buf), m, 32, &n), Q_OK);
			assert_int_equal(n, 3);
			assert_status(q_ring_recv_batch(r, buf, sizeof(buf), m, 32, &n),
				      Q_ERR_EMPTY);
		}
		q_ring_destroy(r);
	}
	assert_status(q_ring_create(&cfg, NULL, 0, &r), Q_OK);
	send_text(r, "low", Q_PRIORITY_LOW);
	send_text(r, "u", Q_PRIORITY_URGENT);
	len = sizeof(buf);
	assert_status(q_ring_recv(r, buf, &len), Q_OK);
	assert_int_equal(len, 1);
	send_text(r, "u", Q_PRIORITY_URGENT); /* for which LOW is not passed over again */
	assert_status(q_ring_recv_batch(r, buf, sizeof(buf), m, 32, &n), Q_OK);
	assert_int_equal(n, 2);
	assert_int_equal(m[0].priority, Q_PRIORITY_LOW);
	assert_int_equal(m[1].priority, Q_PRIORITY_URGENT);
	q_ring_destroy(r);
}

static void a_batch_does_not_outrun_the_ageing_bound(void **state)
{
	RingConfig cfg = {
		.ring_size = 64, .max_msg_size = 8, .flags = Q_RING_AGEING, .ageing_limit = 5
	};
	RingMessage m[32];
	char buf[512];
	RingQueue *r;
	size_t n;

	(void)state;
	assert_status(q_ring_create(&cfg, NULL, 0, &r), Q_OK);
	send_text(r, "low", Q_PRIORITY_LOW);
	for (int i = 0; i < 20; i++)
		send_text(r, "urgent", Q_PRIORITY_URGENT);
	assert_status(q_ring_recv_batch(r, buf, sizeof(buf), m, 32, &n), Q_OK);
	assert_int_equal(n, 21);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(m[i].priority, i == 5 ? Q_PRIORITY_LOW : Q_PRIORITY_URGENT);
	q_ring_destroy(r);
}

/* ---- batches --------------------------------------------------------------------------------- */

static void a_batch_is_accepted_as_far_as_there_is_room(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		RingQueue *r = make_ring(64, 8, flags);
		EnqueueItem items[100];
		uint32_t value[100];
		size_t sent;

		for (uint32_t i = 0; i < 100; i++) {
			value[i] = i;
			items[i] = (EnqueueItem){ &value[i], sizeof(value[i]) };
		}
		assert_status(q_ring_send_batch(r, items, 0, 0, &sent), Q_OK);
		assert_int_equal(sent, 0);
		assert_status(q_ring_send_batch(r, items, 40, 0, &sent), Q_OK);
		assert_int_equal(sent, 40);
		assert_status(q_ring_send_batch(r, items + 40, 60, 0, &sent), Q_ERR_FULL);
		assert_int_equal(sent, 24);
		assert_status(q_ring_send_batch(r, items, 1, 0, NULL), Q_ERR_FULL);
		for (uint32_t i = 0; i < 64; i++) {
			uint32_t got;
			size_t len = sizeof(got);

			assert_status(q_ring_recv(r, &got, &len), Q_OK);
			assert_int_equal(got, i);
		}
		q_ring_destroy(r);
	}
}

static void a_batch_is_received_packed_and_aligned_as_far_as_it_fits(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		RingQueue *r = make_ring(64, 32, flags);
		RingMessage m[64];
		char buf[64];
		size_t n;

		send_text(r, "a", 0);
		send_text(r, "twelve bytes", 0);
		send_text(r, "exactly sixteen!", 0);
		send_text(r, "", 0);
		send_text(r, "the fifth of them", 0);
		send_text(r, "no more room", 0);
		send_text(r, "u", Q_PRIORITY_URGENT);
		memset(buf, '.', sizeof(buf));
		assert_status(q_ring_recv_batch(r, buf, 56, m, 64, &n), Q_OK);
		assert_int_equal(n,
				 5); /* u, a, twelve, sixteen, and the empty one; 17 do not fit */
		assert_int_equal(m[0].offset, 0);
		assert_int_equal(m[0].priority, Q_PRIORITY_URGENT);
		assert_int_equal(m[0].sequence, 6);
		assert_int_equal(m[1].offset, 8);
		assert_int_equal(m[1].length, 1);
		assert_int_equal(m[2].offset, 16);
		assert_memory_equal(buf + m[2].offset, "twelve bytes", 12);
		assert_int_equal(m[3].offset, 32);
		assert_memory_equal(buf + m[3].offset, "exactly sixteen!", 16);
		assert_int_equal(m[4].length, 0);
		assert_int_equal(m[4].sequence, 3);
		assert_status(q_ring_recv_batch(r, buf, sizeof(buf), m, 1, &n), Q_OK);
		assert_int_equal(n, 1);
		assert_int_equal(m[0].length, 17);
		assert_status(q_ring_recv_batch(r, buf, sizeof(buf), m, 64, &n), Q_OK);
		assert_int_equal(n, 1);
		assert_status(q_ring_recv_batch(r, buf, sizeof(buf), m, 64, &n), Q_ERR_EMPTY);
		assert_int_equal(n, 0);
		q_ring_destroy(r);
	}
}

static void sequences_count_accepted_messages_one_by_one_beyond_16_and_32_bits(void **state)
{
	const uint64_t start = gq__start_pos;
	const uint64_t total = getenv("GPUQ_TEST_SHORT") != NULL ? 2000 : 70000; /* past 65,536 */

	(void)state;
	FOR_EACH_MODE(flags)
	{
		RingQueue *r = make_ring(4, 8, flags);
		RingMessage m;

		for (uint64_t i = 0; i < total; i++) {
			assert_int_equal(q_ring_sequence(r), i);
			send_text(r, "x", (QueuePriority)(i % 5));
			if (i % 3 == 0)
				assert_status(q_ring_send(r, "too long", 1000, 0),
					      Q_ERR_INVALID_ARG);
			assert_status(q_ring_recv_typed(r, &m.length, 1, &m), Q_OK);
			assert_int_equal(m.sequence, i);
		}
		q_ring_destroy(r);
	}
	for (uint64_t at = 0; at < 3; at++) {
		static const uint64_t starts[] = { (UINT64_C(1) << 32) - 5, (UINT64_C(1) << 63) - 5,
						   0 - UINT64_C(5) };
		RingQueue *r;
		RingMessage m;

		gq__start_pos = starts[at];
		r = make_ring(2, 8, 0);
		for (uint64_t i = 0; i < 40; i++) {
			send_text(r, "x", 0);
			assert_status(q_ring_recv_typed(r, &m.length, 1, &m), Q_OK);
			assert_int_equal(m.sequence, i);
		}
		q_ring_destroy(r);
		FOR_EACH_MODE(flags)
		{
			r = make_ring(2, 8, flags);
			for (uint64_t i = 0; i < 40; i++) {
				expect_nothing(r);
				send_text(r, "x", (QueuePriority)(i % 5));
				expect_text(r, "x");
			}
			q_ring_destroy(r);
		}
		gq__start_pos = start;
	}
}

/* The tags of words come round after 2^41 positions, and half of that makes old of new. */
static void a_thread_that_comes_back_after_others_have_gone_half_round_loses_nothing(void **state)
{
	static const uint64_t more[] = { 3, 8, 13 };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		RingQueue *r = make_ring(4, 8, 0);
		RingMessage m;

		send_text(r, "x", 0);
		assert_status(q_ring_recv_typed(r, &m.length, 1, &m), Q_OK);
		/* What the traffic of others leaves behind; this thread has still its own hints. */
		gq__ring_fill_box(&r->messages, gq__start_pos + (UINT64_C(1) << 40) + more[i]);
		for (unsigned k = 0; k < 9; k++) {
			send_text(r, "y", 0);
			if (k % 2 != 0)
				expect_text(r, "y");
			else
				assert_status(q_ring_recv_typed(r, &m.length, 1, &m), Q_OK);
		}
		assert_int_equal(q_ring_available(r), 4);
		q_ring_destroy(r);
	}
}

/* ---- a receiver of messages that are too long for it, beside another ---------------------------
 */

struct hurry {
	RingQueue *r;
	uint32_t over;
};

static void *send_and_receive(void *arg)
{
	struct hurry *h = arg;
	const int times = getenv("GPUQ_TEST_SHORT") != NULL ? 5000 : 200000;
	uint8_t message[48] = { 0 }, buf[48];

	for (int i = 0; i < times; i++) {
		size_t len = sizeof(buf);

		(void)q_ring_send(h->r, message, sizeof(message), 0);
		(void)q_ring_recv(h->r, buf, &len);
	}
	gq_exchange_seq_cst_u32(&h->over, 1);
	return NULL;
}

/* The message that it has seen is taken by the other before it looks again. */
static void who_finds_nothing_is_told_no_length(void **state)
{
	(void)state;
	for (uint32_t size = 1; size <= 64; size *= 64) {
		struct hurry h = { make_ring(size, 64, 0), 0 };
		pthread_t thread;

		assert_int_equal(pthread_create(&thread, NULL, send_and_receive, &h), 0);
		while (gq_load_seq_cst_u32(&h.over) == 0) {
			uint8_t buf[8];
			size_t len = sizeof(buf);
			const QueueStatus status = q_ring_recv(h.r, buf, &len);

			if (status == Q_ERR_EMPTY)
				assert_int_equal(len, 0);
			else
				assert_status(status, Q_ERR_BUFFER_TOO_SMALL);
		}
		pthread_join(thread, NULL);
		q_ring_destroy(h.r);
	}
}

/* Who finds nothing may wait a little (slip.h); but not with messages in its hands. */
static void a_batch_is_not_kept_back_for_more(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		RingQueue *r = make_ring(1024, 8, flags);
		uint8_t buf[1024];
		RingMessage got[64];
		size_t n;

		for (int i = 0; i < 20; i++)
			send_text(r, "x", 0);
		assert_status(q_ring_recv_batch(r, buf, sizeof(buf), got, 64, &n), Q_OK);
		assert_int_equal(n, 20);
		for (uint32_t i = 0; i < GQ_RING_PEERS;
		     i++) /* a wait in vain is followed by a rest */
			assert_int_equal(r->local[i].message_pace.rest, 0);
		q_ring_destroy(r);
	}
}

/* Only a word of an older lap says that no cell is free. What a send that goes at once finds
 * otherwise, it looks at more closely. (In single mode the pool has one writer: nothing is
 * checked.)
 */
static void a_word_that_cannot_be_is_damage_and_not_a_full_ring(void **state)
{
	RingQueue *r = make_ring(4, 8, 0);
	const struct gq_word_ring *pool = &r->messages.pool;
	const uint64_t at = gq_head_start(gq_load_relaxed_u64(pool->head));
	uint64_t *entry = gq_word_ring_entry(pool, at);
	const uint64_t word = gq_load_relaxed_u64(entry);

	(void)state;
	gq_store_relaxed_u64(entry, gq_word_ring_value(pool, word) |
					    gq_word_ring_tag(pool, at + gq_word_ring_size(pool)));
	assert_status(q_ring_send(r, "x", 1, 0), Q_ERR_FAILED);
	gq_store_relaxed_u64(entry, word);
	for (int i = 0; i < 4; i++)
		send_text(r, "x", 0);
	assert_status(q_ring_send(r, "x", 1, 0), Q_ERR_FULL);
	q_ring_destroy(r);
}

/* A liar writes back, between a sender's look and its taking, that nothing is free there. The
 * sender takes a cell that there is: with a run of none it would look for ever, or write beyond the
 * ring. */
static void a_sender_takes_a_cell_that_there_is_wherever_a_liar_moves_its_position(void **state)
{
	const uint64_t far = 2 * (GQ_HEAD_MASK + 1);
	RingQueue *r = make_ring(8, 8, Q_RING_SINGLE);
	const struct gq_box *b = &r->messages;
	struct gq_box_hints hints;

	(void)state;
	assert_true(gq_reuse_look(b, &hints));
	for (uint32_t max = 1; max <= GQ_MAX_RUN; max++) {
		for (uint64_t move = 0; move < 2 * far; move++) {
			struct gq_run run;

			gq_store_relaxed_u64(hints.reused, hints.received + far - move);
			run = gq_reuse_take(b, &hints, max);
			assert_in_range(run.n, 1, max);
			assert_in_range(run.slot + run.n, 1, gq_box_cells(b));
		}
	}
	q_ring_destroy(r);
}

/* ---- beside a list --------------------------------------------------------------------------- */

enum { LISTED = 64, MOST_ITEMS = 40, CELL_BYTES = 8 };

struct listed {
	uint32_t number, len;
};

/* What the ring must hold, and in which order it must come. */
struct list {
	struct listed message[GQ_CLASSES][LISTED];
	uint32_t first[GQ_CLASSES], end[GQ_CLASSES];
	uint32_t cells, messages, next;
};

static uint32_t cells_for(uint32_t len)
{
	return len <= CELL_BYTES ? 1 : (len + CELL_BYTES - 1) / CELL_BYTES;
}

static uint32_t random_below(uint64_t *random, uint32_t n)
{
	*random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(*random >> 33) % n;
}

static void send_some(RingQueue *r, struct list *list, uint64_t *random, uint32_t size, bool large)
{
	static uint8_t data[MOST_ITEMS][LISTED * CELL_BYTES];
	const uint32_t class = random_below(random, 3) != 0 ? 1 : random_below(random, GQ_CLASSES);
	const uint32_t n = random_below(random, 2) != 0 ? 1 : 1 + random_below(random, MOST_ITEMS);
	const bool one_length = random_below(random, 2) != 0;
	const QueuePriority priority = (QueuePriority)(Q_PRIORITY_LOW + class);
	EnqueueItem items[MOST_ITEMS];
	uint32_t fit = 0;
	bool full = false;
	size_t sent = 0;
	QueueStatus status;

	for (uint32_t i = 0; i < n; i++) {
		uint32_t len = one_length ? 8 : 4 + random_below(random, 5);

		if (large && random_below(random, 4) == 0)
			len = 4 + random_below(random, (size < 6 ? size : 6) * CELL_BYTES - 3);
		memset(data[i], (int)(list->next + i), len);
		memcpy(data[i], &(uint32_t){ list->next + i }, 4);
		items[i] = (EnqueueItem){ data[i], len };
		if (!full && list->cells + cells_for(len) <= size) {
			list->message[class][list->end[class]++ % LISTED] =
				(struct listed){ list->next + i, len };
			list->cells += cells_for(len);
			list->messages++;
			fit++;
		} else {
			full = true;
		}
	}
	list->next += n;
	if (n == 1) {
		status = q_ring_send(r, items[0].data, items[0].len, priority);
		sent = status == Q_OK;
	} else {
		status = q_ring_send_batch(r, items, n, priority, &sent);
	}
	assert_status(status, full ? Q_ERR_FULL : Q_OK);
	assert_int_equal(sent, fit);
}

static void receive_some(RingQueue *r, struct list *list, uint64_t *random)
{
	static uint8_t buf[LISTED * LISTED * CELL_BYTES];
	const uint32_t max =
		random_below(random, 2) != 0 ? 1 : 1 + random_below(random, MOST_ITEMS);
	RingMessage m[MOST_ITEMS];
	size_t n = 1, len = sizeof(buf);
	QueueStatus status;

	if (max == 1) {
		m[0].offset = 0;
		status = q_ring_recv(r, buf, &len);
		m[0].length = (uint32_t)len;
	} else {
		status = q_ring_recv_batch(r, buf, sizeof(buf), m, max, &n);
	}
	if (list->messages == 0) {
		assert_status(status, Q_ERR_EMPTY);
		return;
	}
	assert_status(status, Q_OK);
	assert_int_equal(n, max < list->messages ? max : list->messages);
	for (size_t i = 0; i < n; i++) {
		uint32_t class = GQ_CLASSES - 1, number;
		struct listed l;

		while (list->first[class] == list->end[class])
			class --;
		l = list->message[class][list->first[class]++ % LISTED];
		assert_int_equal(m[i].length, l.len);
		memcpy(&number, buf + m[i].offset, 4);
		assert_int_equal(number, l.number);
		for (uint32_t k = 4; k < l.len; k++)
			assert_int_equal(buf[m[i].offset + k], (uint8_t)l.number);
		list->cells -= cells_for(l.len);
		list->messages--;
	}
}

struct side {
	RingQueue *r;
	struct list *list;
	uint64_t *random;
	uint32_t size;
	bool large;
};

static void *send_from_another_thread(void *arg)
{
	const struct side *s = arg;

	send_some(s->r, s->list, s->random, s->size, s->large);
	return NULL;
}

/* Full exactly when the cells of the messages in it are all there are, whatever has been in them,
 * in which class it was, which thread sends, and where the positions wrap. */
static void a_ring_agrees_with_a_list_of_what_is_in_it(void **state)
{
	static const uint64_t starts[] = { 0, (UINT64_C(1) << 32) - 5, 0 - UINT64_C(5) };
	const uint64_t start = gq__start_pos;
	uint64_t random = 1;

	(void)state;
	for (uint32_t n = 0; n < 3 * 4 * 7; n++) {
		const uint32_t size = 1u << n / 4 % 7;
		const bool large = (modes[n % 4] & Q_RING_LARGE) != 0;
		struct list list = { 0 };
		struct side side = { NULL, &list, &random, size, large };
		RingQueue *r;

		gq__start_pos = starts[n / (4 * 7)];
		side.r = r = make_ring(size, CELL_BYTES, modes[n % 4]);

		for (int step = 0; step < 3000; step++) {
			const uint32_t what = random_below(&random, 200);
			pthread_t thread;

			if (what == 0) {
				pthread_create(&thread, NULL, send_from_another_thread, &side);
				pthread_join(thread, NULL);
			} else if (what < 100) {
				send_some(r, &list, &random, size, large);
			} else {
				receive_some(r, &list, &random);
			}
			assert_int_equal(q_ring_len(r), list.messages);
			assert_int_equal(q_ring_available(r), size - list.cells);
		}
		q_ring_destroy(r);
	}
	gq__start_pos = start;
}

/* ---- messages in several entries ------------------------------------------------------------- */

static void a_long_message_goes_in_several_entries_and_comes_out_whole(void **state)
{
	(void)state;
	for (uint32_t mode = 0; mode < 2; mode++) {
		RingQueue *r = make_ring(8, 100, Q_RING_LARGE | (mode != 0 ? Q_RING_SINGLE : 0));
		uint8_t data[801], back[801];
		RingMessage m;
		RingStats stats;

		for (uint32_t i = 0; i < sizeof(data); i++)
			data[i] = (uint8_t)(i * 31 + i / 256);
		for (size_t n = 1; n <= 800; n += 33) {
			size_t len = n - 1;

			assert_status(q_ring_send(r, data, n, 0), Q_OK);
			assert_int_equal(q_ring_available(r), 8 - (n + 99) / 100);
			assert_int_equal(q_ring_len(r), 1);
			assert_status(q_ring_peek(r, &m), Q_OK);
			assert_int_equal(m.length, n);
			assert_status(q_ring_recv(r, back, &len), Q_ERR_BUFFER_TOO_SMALL);
			assert_int_equal(len, n);
			memset(back, 0, sizeof(back));
			assert_status(q_ring_recv_typed(r, back, sizeof(back), &m), Q_OK);
			assert_int_equal(m.length, n);
			assert_int_equal(m.sequence, n / 33);
			assert_memory_equal(back, data, n);
			assert_int_equal(q_ring_available(r), 8);
		}
		assert_status(q_ring_send(r, data, 801, 0), Q_ERR_INVALID_ARG);
		send_text(r, "one entry", 0);
		/* Seven entries are free: eight parts do not fit, and leave nothing behind. */
		assert_status(q_ring_send(r, data, 701, 0), Q_ERR_FULL);
		assert_int_equal(q_ring_available(r), 7);
		assert_status(q_ring_send(r, data, 700, 0), Q_OK);
		expect_text(r, "one entry");
		assert_status(q_ring_discard(r), Q_OK);
		assert_int_equal(q_ring_available(r), 8);
		assert_status(q_ring_stats(r, &stats), Q_OK);
		assert_int_equal(stats.bytes_sent, stats.bytes_received);
		q_ring_destroy(r);
	}
}

/* "at most min(ring_size, Q_RING_MAX_PARTS) * max_msg_size": the header's sentence. */
static void a_message_may_be_as_long_as_the_header_says_and_no_longer(void **state)
{
	static uint8_t sent[300 * 64 + 1], got[sizeof(sent)];
	static const uint32_t sizes[] = { 1, 2, 128, 256, 512, 1024 };

	(void)state;
	assert_int_equal(Q_RING_MAX_PARTS, 256);
	for (size_t i = 0; i < sizeof(sent); i++)
		sent[i] = (uint8_t)(i * 7);
	for (uint32_t k = 0; k < 12; k++) {
		const uint32_t size = sizes[k % 6], parts = size < 256 ? size : 256;
		RingQueue *r = make_ring(size, 64, Q_RING_LARGE | (k < 6 ? 0 : Q_RING_SINGLE));
		char most[64];
		size_t len = sizeof(got);

		assert_status(q_ring_send(r, sent, (size_t)parts * 64, 0), Q_OK);
		assert_status(q_ring_recv(r, got, &len), Q_OK);
		assert_int_equal(len, (size_t)parts * 64);
		assert_memory_equal(got, sent, len);
		assert_status(q_ring_send(r, sent, (size_t)parts * 64 + 1, 0), Q_ERR_INVALID_ARG);
		snprintf(most, sizeof(most), "at most %u bytes (%u entries)", parts * 64, parts);
		expect_error_names("len is", most, "item 0 of 1");
		assert_status(q_ring_send_batch(r, &(EnqueueItem){ sent, (size_t)parts * 64 + 1 },
						1, 0, NULL),
			      Q_ERR_INVALID_ARG);
		assert_int_equal(q_ring_available(r), size);
		q_ring_destroy(r);
	}
}

static void a_batch_may_mix_long_and_short_messages(void **state)
{
	(void)state;
	for (uint32_t mode = 0; mode < 2; mode++) {
		RingQueue *r = make_ring(16, 10, Q_RING_LARGE | (mode != 0 ? Q_RING_SINGLE : 0));
		char text[64], buf[256];
		EnqueueItem items[4] = {
			{ "short", 5 }, { text, 45 }, { "again", 5 }, { text, 64 }
		};
		RingMessage m[4];
		size_t n;

		memset(text, 'z', sizeof(text));
		assert_status(q_ring_send_batch(r, items, 4, 0, &n), Q_OK);
		assert_int_equal(n, 4);
		assert_int_equal(q_ring_available(r), 16 - 1 - 5 - 1 - 7);
		assert_status(q_ring_recv_batch(r, buf, sizeof(buf), m, 4, &n), Q_OK);
		assert_int_equal(n, 4);
		for (size_t i = 0; i < 4; i++) {
			assert_int_equal(m[i].length, items[i].len);
			assert_int_equal(m[i].sequence, i);
			assert_memory_equal(buf + m[i].offset, items[i].data, items[i].len);
		}
		q_ring_destroy(r);
	}
}

/* ---- time-outs, closing ---------------------------------------------------------------------- */

static void a_receive_times_out_after_the_time_and_not_before(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		RingQueue *r = make_ring(4, 16, flags);
		char buf[16];
		size_t len = sizeof(buf);
		uint64_t before = gq__now_ns();

		assert_status(q_ring_recv_timeout(r, buf, &len, 50), Q_ERR_TIMEOUT);
		assert_true(gq__now_ns() - before >= 50000000u);
		assert_int_equal(len, 0);
		len = sizeof(buf);
		assert_status(q_ring_recv_timeout(r, buf, &len, 0), Q_ERR_EMPTY);
		send_text(r, "there", 0);
		len = sizeof(buf);
		assert_status(q_ring_recv_timeout(r, buf, &len, LONG_MS), Q_OK);
		q_ring_destroy(r);
	}
}

struct late {
	RingQueue *r;
	QueueStatus status;
	size_t len;
	char buf[16];
};

static void *receive_late(void *arg)
{
	struct late *late = arg;

	late->len = sizeof(late->buf);
	late->status = q_ring_recv_timeout(late->r, late->buf, &late->len, UINT32_MAX);
	return NULL;
}

static void *send_late(void *arg)
{
	struct late *late = arg;

	late->status = q_ring_send_timeout(late->r, "late", 4, 0, UINT32_MAX);
	return NULL;
}

static void who_waits_is_woken_by_what_it_waits_for(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		struct late late = { .r = make_ring(1, 16, flags) };
		pthread_t thread;

		pthread_create(&thread, NULL, receive_late, &late);
		nap_ms(20); /* long enough to sleep */
		send_text(late.r, "wake up", 0);
		pthread_join(thread, NULL);
		assert_status(late.status, Q_OK);
		assert_memory_equal(late.buf, "wake up", 7);

		send_text(late.r, "in the way", 0);
		pthread_create(&thread, NULL, send_late, &late);
		nap_ms(20);
		expect_text(late.r, "in the way");
		pthread_join(thread, NULL);
		assert_status(late.status, Q_OK);
		expect_text(late.r, "late");
		q_ring_destroy(late.r);
	}
}

static void close_wakes_everybody_and_what_was_sent_is_still_received(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		struct late receiver = { .r = make_ring(1, 16, flags) };
		struct late sender = { .r = receiver.r };
		pthread_t thread;
		RingMessage m;
		char buf[16];
		size_t len;

		pthread_create(&thread, NULL, receive_late, &receiver);
		nap_ms(10);
		assert_status(q_ring_close(receiver.r), Q_OK);
		pthread_join(thread, NULL);
		assert_status(receiver.status, Q_ERR_SHUTDOWN);
		q_ring_destroy(receiver.r);

		sender.r = make_ring(1, 16, flags);
		send_text(sender.r, "before", 0);
		pthread_create(&thread, NULL, send_late, &sender);
		nap_ms(10);
		assert_status(q_ring_close(sender.r), Q_OK);
		assert_status(q_ring_close(sender.r), Q_OK);
		pthread_join(thread, NULL);
		assert_status(sender.status, Q_ERR_SHUTDOWN);
		assert_status(q_ring_send(sender.r, "x", 1, 0), Q_ERR_SHUTDOWN);
		assert_status(q_ring_peek(sender.r, &m), Q_OK);
		expect_text(sender.r, "before");
		assert_status(q_ring_send(sender.r, "x", 1, 0), Q_ERR_SHUTDOWN);
		len = sizeof(buf);
		assert_status(q_ring_recv(sender.r, buf, &len), Q_ERR_SHUTDOWN);
		len = sizeof(buf);
		assert_status(q_ring_recv_timeout(sender.r, buf, &len, LONG_MS), Q_ERR_SHUTDOWN);
		assert_status(q_ring_peek(sender.r, &m), Q_ERR_SHUTDOWN);
		assert_status(q_ring_discard(sender.r), Q_ERR_SHUTDOWN);
		assert_int_equal(q_ring_available(sender.r), 1);
		q_ring_destroy(sender.r);
	}
}

/* Extents of one to 32 cells, taken whole and in parts, over more laps than lie between two wipes.
 */
static void batches_taken_in_parts_keep_order_and_numbers_over_many_laps(void **state)
{
	static const uint32_t sizes[] = { 1, 2, 4, 64 };
	uint64_t x = 88172645463325252u;

	(void)state;
	FOR_EACH_MODE(flags)
	{
		for (int i = 0; i < 4; i++) {
			RingQueue *r = make_ring(sizes[i], 8, flags);
			uint64_t sent = 0, received = 0, numbers[40], buf[40];
			EnqueueItem items[40];
			RingMessage m[40];
			size_t n;

			while (received < (uint64_t)2500 * sizes[i]) {
				x ^= x << 13;
				x ^= x >> 7;
				x ^= x << 17;
				for (uint64_t k = 0; k < 40; k++) {
					numbers[k] = sent + k;
					items[k] = (EnqueueItem){ &numbers[k], 8 };
				}
				q_ring_send_batch(r, items, 1 + x % 40, 0, &n);
				sent += n;
				if (q_ring_recv_batch(r, buf, sizeof(buf), m, 1 + (x >> 8) % 40,
						      &n) != Q_OK)
					n = 0;
				for (size_t k = 0; k < n; k++, received++) {
					assert_int_equal(buf[k], received);
					assert_int_equal(m[k].sequence, received);
				}
				assert_int_equal(q_ring_len(r), sent - received);
				assert_int_equal(q_ring_available(r), sizes[i] - (sent - received));
			}
			q_ring_destroy(r);
		}
	}
}

static void a_ring_works_where_membarrier_is_refused(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		struct late late = { 0 };
		pthread_t thread;
		char buf[16];
		size_t len;

		gq__fault_set(4); /* after the handle, what its threads know, and the memory */
		late.r = make_ring(2, 16, flags);
		gq__fault_set(0);
		assert_int_equal(late.r->head->signals.fenced, 1);
		pthread_create(&thread, NULL, receive_late, &late);
		nap_ms(5);
		send_text(late.r, "all the same", 0);
		pthread_join(thread, NULL);
		assert_status(late.status, Q_OK);
		assert_status(q_ring_close(late.r), Q_OK);
		len = sizeof(buf);
		assert_status(q_ring_recv(late.r, buf, &len), Q_ERR_SHUTDOWN);
		q_ring_destroy(late.r);
	}
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec used;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
	return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

static void a_long_message_waits_for_room_asleep(void **state)
{
	RingQueue *r = make_ring(4, 64, Q_RING_LARGE);
	char text[256] = "";
	uint64_t before;

	(void)state;
	send_text(r, "one", 0);
	before = thread_cpu_ns();
	assert_status(q_ring_send_timeout(r, text, sizeof(text), 0, 500), Q_ERR_TIMEOUT);
	assert_true(thread_cpu_ns() - before < 250000000u); /* it would take 500 ms awake */
	assert_int_equal(q_ring_available(r), 3);
	expect_text(r, "one");
	assert_status(q_ring_send_timeout(r, text, sizeof(text), 0, LONG_MS), Q_OK);
	q_ring_destroy(r);
}

/* ---- completions ----------------------------------------------------------------------------- */

static void completions_go_back_in_order_with_status_and_bytes(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		RingQueue *r = make_ring(4, 16, flags);
		RingCompletion done[8];
		size_t n = 9;

		assert_status(q_ring_poll_completions(r, done, 8, &n), Q_OK);
		assert_int_equal(n, 0);
		for (uint64_t i = 0; i < 4; i++)
			assert_status(q_ring_complete(r, i, i % 2 == 0 ? Q_OK : Q_ERR_FAILED,
						      "sixteen bytes ok", i == 3 ? 16 : i),
				      Q_OK);
		assert_status(q_ring_complete(r, 9, Q_OK, NULL, 0), Q_ERR_FULL);
		assert_status(q_ring_poll_completions(r, done, 3, &n), Q_OK);
		assert_int_equal(n, 3);
		assert_status(q_ring_poll_completions(r, done + 3, 5, &n), Q_OK);
		assert_int_equal(n, 1);
		for (uint64_t i = 0; i < 4; i++) {
			assert_int_equal(done[i].sequence, i);
			assert_status(done[i].status, i % 2 == 0 ? Q_OK : Q_ERR_FAILED);
			assert_int_equal(done[i].length, i == 3 ? 16 : i);
			assert_memory_equal(done[i].data, "sixteen bytes ok", done[i].length);
		}
		q_ring_close(r);
		assert_status(q_ring_complete(r, 9, Q_OK, NULL, 0), Q_OK); /* not affected */
		assert_status(q_ring_poll_completions(r, done, 8, &n), Q_OK);
		assert_int_equal(n, 1);
		q_ring_destroy(r);
	}
}

/* In extents, of which a poll may take a part; as far as there is room. */
static void completions_go_back_in_batches(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		RingQueue *r = make_ring(64, 16, flags);
		RingCompletion sent[70] = { 0 }, done[70];
		size_t n = 0, polled = 0;
		uint64_t next = 0;

		for (int lap = 0; lap < 5; lap++) {
			for (uint32_t i = 0; i < 70; i++) {
				sent[i] = (RingCompletion){ .sequence = next + i,
							    .status = Q_ERR_EXPIRED,
							    .length = i % 17 };
				memset(sent[i].data, lap + (int)i, sent[i].length);
			}
			assert_status(q_ring_complete_batch(r, sent, 41, &n), Q_OK);
			assert_int_equal(n, 41);
			assert_status(q_ring_complete(r, next + 41, Q_ERR_EXPIRED, sent[41].data,
						      sent[41].length),
				      Q_OK);
			assert_status(q_ring_complete_batch(r, sent + 42, 28, &n), Q_ERR_FULL);
			assert_int_equal(n, 22); /* those that found room */
			assert_status(q_ring_complete_batch(r, sent + 64, 1, NULL), Q_ERR_FULL);
			for (polled = 0; polled < 64; polled += n) {
				assert_status(q_ring_poll_completions(r, done + polled,
								      polled < 40 ? 7 : 64, &n),
					      Q_OK);
				assert_true(n != 0);
			}
			assert_int_equal(polled, 64);
			assert_memory_equal(done, sent, 64 * sizeof(sent[0]));
			assert_status(q_ring_poll_completions(r, done, 1, &n), Q_OK);
			assert_int_equal(n, 0);
			next += 64;
		}
		q_ring_destroy(r);
	}
}

/* ---- statistics, schema ---------------------------------------------------------------------- */

static void statistics_balance(void **state)
{
	RingQueue *r = make_ring(2, 16, 0);
	RingStats stats;
	char buf[16];
	size_t len = sizeof(buf);

	(void)state;
	assert_status(q_ring_recv(r, buf, &len), Q_ERR_EMPTY);
	send_text(r, "12345", 0);
	send_text(r, "123", Q_PRIORITY_LOW);
	assert_status(q_ring_send(r, "x", 1, 0), Q_ERR_FULL);
	assert_status(q_ring_stats(r, &stats), Q_OK);
	assert_int_equal(stats.sent, 2);
	assert_int_equal(stats.received, 0);
	assert_int_equal(stats.bytes_sent, 8);
	assert_int_equal(stats.full, 1);
	assert_int_equal(stats.empty, 1);
	assert_int_equal(stats.threads, 1);
	expect_text(r, "12345");
	expect_text(r, "123");
	assert_status(q_ring_stats(r, &stats), Q_OK);
	assert_int_equal(stats.received, 2);
	assert_int_equal(stats.bytes_received, 8);
	assert_int_equal(stats.descriptors, 0);
	assert_int_equal(stats.repairs, 0);
	q_ring_destroy(r);
}

static QueueStatus only_even_lengths(const void *data, size_t len, void *user)
{
	(void)data;
	++*(unsigned *)user;
	return len % 2 == 0 ? Q_OK : Q_ERR_POLICY;
}

static void a_validator_refuses_what_does_not_match_and_nothing_is_sent(void **state)
{
	RingConfig cfg = { .ring_size = 4, .max_msg_size = 16, .schema = 77 };
	EnqueueItem items[3] = { { "ab", 2 }, { "abc", 3 }, { "abcd", 4 } };
	unsigned calls = 0;
	RingStats stats;
	RingQueue *r;
	size_t sent;

	(void)state;
	assert_status(q_ring_create(&cfg, NULL, 0, &r), Q_OK);
	assert_status(q_ring_set_schema(r, 78, only_even_lengths, &calls), Q_ERR_INVALID_ARG);
	expect_error_names("schema", "78", "77");
	assert_status(q_ring_set_schema(r, 77, only_even_lengths, &calls), Q_OK);
	send_text(r, "even", 0);
	assert_status(q_ring_send(r, "odd", 3, 0), Q_ERR_POLICY);
	expect_error_names("schema", "77", "refused");
	assert_status(q_ring_send_batch(r, items, 3, 0, &sent), Q_ERR_POLICY);
	expect_error_names("schema", "77", "item 1 of 3");
	assert_int_equal(sent, 0);
	assert_int_equal(q_ring_len(r), 1);
	assert_int_equal(calls, 4);
	assert_status(q_ring_stats(r, &stats), Q_OK);
	assert_int_equal(stats.refused, 2);
	assert_status(q_ring_set_schema(r, 77, NULL, NULL), Q_OK);
	send_text(r, "odd", 0);
	assert_int_equal(calls, 4);
	q_ring_destroy(r);
}

/* ---- shared memory --------------------------------------------------------------------------- */

static void *shared_memory(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static void a_ring_in_shared_memory_works_from_a_forked_child_that_attaches(void **state)
{
	size_t bytes = q_ring_required_memory(NULL);
	void *memory = shared_memory(bytes);
	RingQueue *r, *mine;
	char buf[16];
	size_t len = sizeof(buf);
	int status;
	pid_t pid;

	(void)state;
	assert_status(q_ring_create(NULL, memory, bytes, &r), Q_OK);
	send_text(r, "to the child", 0);
	pid = fork();
	if (pid == 0) {
		/* The parent's handle says so; one of its own works. */
		if (q_ring_send(r, "x", 1, 0) != Q_ERR_UNSUPPORTED ||
		    strstr(q_last_error(), "attach") == NULL || q_ring_len(r) != 0)
			_exit(1);
		q_ring_destroy(r);
		if (q_ring_attach(memory, bytes, &mine) != Q_OK)
			_exit(2);
		if (q_ring_recv(mine, buf, &len) != Q_OK || memcmp(buf, "to the child", 12) != 0)
			_exit(3);
		if (q_ring_send(mine, "to the parent", 13, 0) != Q_OK)
			_exit(4);
		q_ring_destroy(mine);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	expect_text(r, "to the parent");
	q_ring_destroy(r);
	munmap(memory, bytes);
}

static void who_attaches_to_what_is_no_such_ring_is_told_why(void **state)
{
	const RingConfig cfg = { .ring_size = 8, .max_msg_size = 32 };
	const size_t bytes = q_ring_required_memory(&cfg);
	uint8_t *memory = aligned_alloc(128, bytes + 128);
	struct gq_ring_setup *setup = (struct gq_ring_setup *)(void *)memory, good;
	RingQueue *r, *second;

	(void)state;
	memset(memory, 0, bytes);
	assert_status(q_ring_attach(memory, bytes, &second), Q_ERR_NOT_READY);
	memset(memory, 0xab, bytes);
	assert_status(q_ring_attach(memory, bytes, &second), Q_ERR_INVALID_ARG);
	assert_status(q_ring_create(&cfg, memory, bytes, &r), Q_OK);
	assert_status(q_ring_attach(memory, bytes, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_ring_attach(NULL, bytes, &second), Q_ERR_INVALID_ARG);
	assert_status(q_ring_attach(memory + 64, bytes, &second), Q_ERR_INVALID_ARG);
	assert_status(q_ring_attach(memory, bytes - 1, &second), Q_ERR_NO_MEMORY);
	assert_status(q_ring_attach(memory, 100, &second), Q_ERR_NO_MEMORY);
	good = *setup;
#define EXPECT_REFUSED(change, word)                                                               \
	do {                                                                                       \
		*setup = good;                                                                     \
		setup->change;                                                                     \
		assert_status(q_ring_attach(memory, bytes, &second), Q_ERR_INVALID_ARG);           \
		assert_non_null(strstr(q_last_error(), word));                                     \
	} while (0)
	EXPECT_REFUSED(magic ^= 1, "no ring");
	EXPECT_REFUSED(version++, "version");
	EXPECT_REFUSED(ring_size = 7, "ring_size");
	EXPECT_REFUSED(ring_size = 16, "bytes");
	EXPECT_REFUSED(ring_size = 0, "ring_size");
	EXPECT_REFUSED(max_msg_size = 0, "max_msg_size");
	EXPECT_REFUSED(max_msg_size = UINT32_MAX, "max_msg_size");
	EXPECT_REFUSED(flags = UINT32_MAX, "flags");
	EXPECT_REFUSED(bytes = UINT64_MAX, "bytes");
	EXPECT_REFUSED(ageing_limit = 3, "ageing_limit");
	*setup = good;
	assert_status(q_ring_attach(memory, bytes, &second), Q_OK);
	send_text(second, "through the second handle", 0);
	expect_text(r, "through the second handle");
	q_ring_destroy(second);
	send_text(r, "still open", 0);
	expect_text(r, "still open");
	q_ring_destroy(r);
	free(memory);
}

/* A liar writes over everything but the setup, while we go on. */
static void nonsense_in_the_shared_memory_harms_nothing_else(void **state)
{
	uint64_t x = 88172645463325252u;

	(void)state;
	for (uint32_t round = 0; round < 300; round++) {
		const RingConfig cfg = { .ring_size = 1u << round % 5,
					 .max_msg_size = 24,
					 .flags = (round % 2 != 0 ? Q_RING_SINGLE : 0) |
						  (round % 3 == 0 ? Q_RING_LARGE : 0) };
		const size_t bytes = q_ring_required_memory(&cfg);
		uint8_t *memory = aligned_alloc(128, (bytes + 127) / 128 * 128);
		const size_t first = offsetof(struct gq_ring_head, signals) +
				     offsetof(struct gq_ring_signals, role);
		RingMessage m[4];
		RingCompletion done[4];
		RingStats stats;
		char buf[64];
		RingQueue *r;

		assert_status(q_ring_create(&cfg, memory, bytes, &r), Q_OK);
		for (uint32_t step = 0; step < 60; step++) {
			size_t len = sizeof(buf), n;

			for (uint32_t scribbles = 0; scribbles < 8; scribbles++) {
				x ^= x << 13;
				x ^= x >> 7;
				x ^= x << 17;
				/* Not the peers: their owners decide who is dead. */
				if (first + x % (bytes - first) >=
					    offsetof(struct gq_ring_head, peer) &&
				    first + x % (bytes - first) < sizeof(struct gq_ring_head))
					continue;
				if (first + x % (bytes - first) <
				    offsetof(struct gq_ring_head, repair))
					continue;
				memory[first + x % (bytes - first)] = (uint8_t)(x >> 32);
			}
			q_ring_send(r, "twenty-four bytes of it!", 24, (QueuePriority)(step % 5));
			q_ring_send(r, "forty-eight bytes of it, over two entries or so!", 48, 0);
			q_ring_recv(r, buf, &len);
			assert_true(len <= sizeof(buf) || len <= 24 * 256);
			q_ring_peek(r, &m[0]);
			q_ring_recv_batch(r, buf, sizeof(buf), m, 4, &n);
			assert_true(n <= 4);
			for (size_t i = 0; i < n; i++)
				assert_true(m[i].kind == Q_MESSAGE_DESCRIPTOR ||
					    m[i].offset + m[i].length <= sizeof(buf));
			q_ring_discard(r);
			q_ring_complete(r, step, Q_OK, buf, 16);
			q_ring_poll_completions(r, done, 4, &n);
			assert_true(n <= 4);
			for (size_t i = 0; i < n; i++)
				assert_true(done[i].length <= sizeof(done[i].data));
			q_ring_stats(r, &stats);
			assert_true(q_ring_len(r) <= cfg.ring_size);
			assert_true(q_ring_available(r) <= cfg.ring_size);
		}
		q_ring_close(r);
		q_ring_destroy(r);
		free(memory);
	}
}

static void *send_one(void *arg)
{
	struct late *late = arg;

	late->status = q_ring_send(late->r, "x", 1, 0);
	return NULL;
}

static void threads_that_have_ended_make_room_for_others(void **state)
{
	RingQueue *r = make_ring(1024, 8, 0);
	RingStats stats;

	(void)state;
	for (uint32_t i = 0; i < Q_RING_MAX_THREADS + 50; i++) {
		struct late late = { .r = r };
		pthread_t thread;

		pthread_create(&thread, NULL, send_one, &late);
		pthread_join(thread, NULL);
		assert_status(late.status, Q_OK);
	}
	assert_status(q_ring_stats(r, &stats), Q_OK);
	assert_int_equal(stats.sent, Q_RING_MAX_THREADS + 50);
	assert_int_equal(stats.bytes_sent, Q_RING_MAX_THREADS + 50);
	assert_int_equal(stats.threads, 0); /* each gave its peer back */
	q_ring_destroy(r);
}

static void the_sides_of_a_single_ring_may_change_threads(void **state)
{
	RingQueue *r = make_ring(4, 8, Q_RING_SINGLE);

	(void)state;
	for (int i = 0; i < 20; i++) {
		struct late late = { .r = r };
		pthread_t thread;

		send_text(r, "mine", 0);
		pthread_create(&thread, NULL, send_one, &late);
		pthread_join(thread, NULL);
		assert_status(late.status, Q_OK);
		expect_text(r, "mine");
		pthread_create(&thread, NULL, receive_late, &late);
		pthread_join(thread, NULL);
		assert_status(late.status, Q_OK);
		assert_int_equal(late.len, 1);
	}
	q_ring_destroy(r);
}

struct inside {
	RingQueue *r;
	int begun[2], end[2];
};

/* Stands still in the middle of a send and a receive at once, for as long as it is let. */
static void *stand_inside(void *arg)
{
	struct inside *in = arg;
	struct gq_ring_peer *peer = gq_ring_peer_of(in->r);
	uint64_t mine = gq_ring_peer_index(in->r, peer) + 1;
	char c = 0;

	for (enum gq_op op = GQ_OP_SEND; op <= GQ_OP_RECEIVE; op++) {
		gq_store_release_u64(&peer->op, op);
		gq_store_release_u64(op == GQ_OP_SEND ? in->r->messages.send_role
						      : in->r->messages.receive_role,
				     mine);
		if (write(in->begun[1], "x", 1) != 1 || read(in->end[0], &c, 1) != 1)
			break;
	}
	gq_store_release_u64(&peer->op, GQ_OP_IDLE);
	return NULL;
}

static void expect_two_at_once(QueueStatus status)
{
	assert_status(status, Q_ERR_POLICY);
	expect_error_names("two threads at once", "Q_RING_SINGLE", "");
}

static void two_threads_on_one_side_of_a_single_ring_are_refused_in_those_words(void **state)
{
	struct inside in = { .r = make_ring(4, 8, Q_RING_SINGLE) };
	RingMessage m[2];
	pthread_t thread;
	uint8_t buf[16];
	size_t n;
	char c;

	(void)state;
	send_text(in.r, "waiting", 0);
	assert_int_equal(pipe(in.begun), 0);
	assert_int_equal(pipe(in.end), 0);
	pthread_create(&thread, NULL, stand_inside, &in);
	assert_int_equal(read(in.begun[0], &c, 1), 1);
	expect_two_at_once(q_ring_send(in.r, "x", 1, 0));
	expect_two_at_once(q_ring_send_timeout(in.r, "x", 1, 0, 1000));
	assert_int_equal(write(in.end[1], "x", 1), 1);
	assert_int_equal(read(in.begun[0], &c, 1), 1);
	n = sizeof(buf);
	expect_two_at_once(q_ring_recv(in.r, buf, &n));
	assert_int_equal(n, 0);
	n = sizeof(buf);
	expect_two_at_once(q_ring_recv_timeout(in.r, buf, &n, 1000));
	expect_two_at_once(q_ring_recv_typed(in.r, buf, sizeof(buf), &m[0]));
	expect_two_at_once(q_ring_recv_batch(in.r, buf, sizeof(buf), m, 2, &n));
	assert_int_equal(n, 0);
	expect_two_at_once(q_ring_discard(in.r));
	expect_two_at_once(q_ring_peek(in.r, &m[0]));
	assert_int_equal(write(in.end[1], "x", 1), 1);
	pthread_join(thread, NULL);
	expect_text(in.r, "waiting");
	for (int i = 0; i < 2; i++) {
		close(in.begun[i]);
		close(in.end[i]);
	}
	q_ring_destroy(in.r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(zero_fields_mean_the_defaults),
		cmocka_unit_test(a_field_out_of_range_is_refused_by_name_value_and_range),
		cmocka_unit_test(every_power_of_two_and_every_length_makes_a_ring),
		cmocka_unit_test(memory_that_is_too_small_or_misaligned_is_refused_and_untouched),
		cmocka_unit_test(required_memory_is_what_the_documentation_says),
		cmocka_unit_test(a_failed_allocation_leaves_nothing_behind),
		cmocka_unit_test(messages_come_out_as_they_went_in_and_in_order),
		cmocka_unit_test(a_ring_holds_exactly_its_size),
		cmocka_unit_test(an_empty_message_and_one_of_the_largest_length_pass),
		cmocka_unit_test(a_message_cannot_write_beyond_its_cell),
		cmocka_unit_test(bad_arguments_are_refused_and_change_nothing),
		cmocka_unit_test(
			a_buffer_that_is_too_small_leaves_the_message_and_says_what_it_takes),
		cmocka_unit_test(discard_drops_the_front),
		cmocka_unit_test(peek_shows_the_front_and_leaves_it),
		cmocka_unit_test(typed_receive_tells_kind_length_priority_and_sequence),
		cmocka_unit_test(higher_classes_come_first_and_each_class_in_order),
		cmocka_unit_test(ageing_bounds_how_long_low_waits_and_is_off_by_default),
		cmocka_unit_test(a_batch_takes_what_is_in_all_classes),
		cmocka_unit_test(a_batch_does_not_outrun_the_ageing_bound),
		cmocka_unit_test(a_batch_is_accepted_as_far_as_there_is_room),
		cmocka_unit_test(a_batch_is_received_packed_and_aligned_as_far_as_it_fits),
		cmocka_unit_test(
			sequences_count_accepted_messages_one_by_one_beyond_16_and_32_bits),
		cmocka_unit_test(
			a_thread_that_comes_back_after_others_have_gone_half_round_loses_nothing),
		cmocka_unit_test(who_finds_nothing_is_told_no_length),
		cmocka_unit_test(a_batch_is_not_kept_back_for_more),
		cmocka_unit_test(a_word_that_cannot_be_is_damage_and_not_a_full_ring),
		cmocka_unit_test(
			a_sender_takes_a_cell_that_there_is_wherever_a_liar_moves_its_position),
		cmocka_unit_test(a_ring_agrees_with_a_list_of_what_is_in_it),
		cmocka_unit_test(a_long_message_goes_in_several_entries_and_comes_out_whole),
		cmocka_unit_test(a_message_may_be_as_long_as_the_header_says_and_no_longer),
		cmocka_unit_test(a_batch_may_mix_long_and_short_messages),
		cmocka_unit_test(a_receive_times_out_after_the_time_and_not_before),
		cmocka_unit_test(who_waits_is_woken_by_what_it_waits_for),
		cmocka_unit_test(close_wakes_everybody_and_what_was_sent_is_still_received),
		cmocka_unit_test(batches_taken_in_parts_keep_order_and_numbers_over_many_laps),
		cmocka_unit_test(a_ring_works_where_membarrier_is_refused),
		cmocka_unit_test(a_long_message_waits_for_room_asleep),
		cmocka_unit_test(completions_go_back_in_order_with_status_and_bytes),
		cmocka_unit_test(completions_go_back_in_batches),
		cmocka_unit_test(statistics_balance),
		cmocka_unit_test(a_validator_refuses_what_does_not_match_and_nothing_is_sent),
		cmocka_unit_test(a_ring_in_shared_memory_works_from_a_forked_child_that_attaches),
		cmocka_unit_test(who_attaches_to_what_is_no_such_ring_is_told_why),
		cmocka_unit_test(nonsense_in_the_shared_memory_harms_nothing_else),
		cmocka_unit_test(threads_that_have_ended_make_room_for_others),
		cmocka_unit_test(the_sides_of_a_single_ring_may_change_threads),
		cmocka_unit_test(
			two_threads_on_one_side_of_a_single_ring_are_refused_in_those_words),
	};

	return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
