/* SPDX-License-Identifier: Apache-2.0 */
/* test_ring_poll.c - q_ring_fd(): readable when there is something, unreadable once nothing is
 * found.
 */
#include "support.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/base/sanitize.h"
#include "host/ring/ring.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* ThreadSanitizer lets no child of a process with threads start threads of its own. */
#define THREADS_STAY_BEHIND GQ_TSAN

static const uint32_t modes[] = { 0, Q_RING_SINGLE };
#define FOR_EACH_MODE(flags) for (uint32_t i_ = 0, flags; i_ < 2 && (flags = modes[i_], true); i_++)

static bool readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

static void *shared(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(memory != MAP_FAILED);
	return memory;
}

/* A ring for several processes, and the memory it is in. */
static RingQueue *make_shared(const RingConfig *cfg, void **memory, size_t *bytes)
{
	RingQueue *r;

	*bytes = q_ring_required_memory(cfg);
	*memory = shared(*bytes);
	assert_status(q_ring_create(cfg, *memory, *bytes, &r), Q_OK);
	return r;
}

static QueueStatus receive(RingQueue *r)
{
	char buf[64];
	size_t len = sizeof(buf);

	return q_ring_recv(r, buf, &len);
}

static void it_is_readable_from_a_send_until_a_receive_finds_nothing(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	for (uint32_t size = 1; size <= 4; size *= 2) {
		RingConfig cfg = { .ring_size = size, .max_msg_size = 64, .flags = flags };
		RingQueue *r;
		int fd;

		assert_status(q_ring_create(&cfg, NULL, 0, &r), Q_OK);
		fd = q_ring_fd(r);
		assert_true(fd >= 0);
		assert_int_equal(q_ring_fd(r), fd);
		for (int round = 0; round < 3; round++) {
			assert_false(readable(fd, round == 0 ? 20 : 0));
			for (uint32_t i = 0; i < size; i++)
				assert_status(q_ring_send(r, "x", 1, i % 5), Q_OK);
			assert_true(readable(fd, LONG_MS));
			for (uint32_t i = 0; i < size; i++) {
				assert_true(readable(fd, 0));
				assert_status(receive(r), Q_OK);
			}
			assert_status(receive(r), Q_ERR_EMPTY);
		}
		assert_false(readable(fd, 20));
		q_ring_destroy(r);
	}
}

static void what_was_sent_before_the_first_call_makes_it_readable(void **state)
{
	RingQueue *r;

	(void)state;
	assert_status(q_ring_create(NULL, NULL, 0, &r), Q_OK);
	assert_status(q_ring_send(r, "x", 1, 0), Q_OK);
	assert_true(readable(q_ring_fd(r), LONG_MS));
	q_ring_destroy(r);
}

static void a_message_that_another_takes_costs_one_wake_up_in_vain(void **state)
{
	RingConfig cfg = { .ring_size = 4, .max_msg_size = 64 };
	RingQueue *r, *other;
	size_t bytes;
	void *memory;
	int fd;

	(void)state;
	r = make_shared(&cfg, &memory, &bytes);
	assert_status(q_ring_attach(memory, bytes, &other), Q_OK);
	fd = q_ring_fd(r);
	assert_status(q_ring_send(other, "x", 1, 0), Q_OK);
	assert_true(readable(fd, LONG_MS));
	assert_status(receive(other), Q_OK);
	assert_true(readable(fd, 0)); /* nobody has looked through this handle yet */
	assert_status(receive(r), Q_ERR_EMPTY);
	assert_false(readable(fd, 20));
	q_ring_destroy(other);
	q_ring_destroy(r);
	munmap(memory, bytes);
}

static void close_makes_it_readable_and_it_stays_so(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	{
		RingConfig cfg = { .ring_size = 2, .max_msg_size = 64, .flags = flags };
		RingQueue *r;
		int fd;

		assert_status(q_ring_create(&cfg, NULL, 0, &r), Q_OK);
		fd = q_ring_fd(r);
		assert_status(q_ring_send(r, "x", 1, 0), Q_OK);
		assert_status(q_ring_close(r), Q_OK);
		assert_true(readable(fd, LONG_MS));
		assert_status(receive(r), Q_OK);
		for (int i = 0; i < 3; i++) {
			assert_true(readable(fd, LONG_MS));
			assert_status(receive(r), Q_ERR_SHUTDOWN);
		}
		q_ring_destroy(r);
	}
}

static void it_may_be_destroyed_asleep_or_readable(void **state)
{
	(void)state;
	FOR_EACH_MODE(flags)
	for (int sent = 0; sent < 2; sent++) {
		RingConfig cfg = { .ring_size = 2, .max_msg_size = 64, .flags = flags };
		const unsigned before = files_now();
		RingQueue *r;

		assert_status(q_ring_create(&cfg, NULL, 0, &r), Q_OK);
		assert_true(q_ring_fd(r) >= 0);
		if (sent) {
			assert_status(q_ring_send(r, "x", 1, 0), Q_OK);
			assert_true(readable(q_ring_fd(r), LONG_MS));
		}
		q_ring_destroy(r);
		assert_int_equal(files_now(), before);
	}
}

static void what_cannot_be_had_is_said_and_leaves_nothing(void **state)
{
	RingQueue *r;
	const unsigned files = files_now();

	(void)state;
	assert_int_equal(q_ring_fd(NULL), -1);
	assert_status(q_ring_create(NULL, NULL, 0, &r), Q_OK);
	for (unsigned n = 1; n <= 2; n++) { /* descriptor, thread */
		gq__fault_set(n);
		assert_int_equal(q_ring_fd(r), -1);
		gq__fault_set(0);
		assert_true(strlen(q_last_error()) > 10);
		assert_int_equal(files_now(), files);
	}
	assert_status(q_ring_send(r, "x", 1, 0), Q_OK);
	assert_true(readable(q_ring_fd(r), LONG_MS));
	q_ring_destroy(r);
}

static void a_child_has_to_attach_and_its_parents_descriptor_works_on(void **state)
{
	RingConfig cfg = { .ring_size = 2, .max_msg_size = 64 };
	RingQueue *r;
	size_t bytes;
	void *memory;
	pid_t child;
	int fd, status;

	(void)state;
	if (THREADS_STAY_BEHIND)
		skip();
	r = make_shared(&cfg, &memory, &bytes);
	fd = q_ring_fd(r);
	child = fork();
	if (child == 0) {
		RingQueue *mine;

		if (q_ring_fd(r) != -1 || q_ring_attach(memory, bytes, &mine) != Q_OK ||
		    q_ring_fd(mine) < 0)
			_exit(1);
		q_ring_destroy(r); /* of the parent's thread nothing is here to end */
		if (q_ring_send(mine, "x", 1, 0) != Q_OK || !readable(q_ring_fd(mine), LONG_MS))
			_exit(2);
		q_ring_destroy(mine);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(readable(fd, LONG_MS));
	assert_status(receive(r), Q_OK);
	q_ring_destroy(r);
	munmap(memory, bytes);
}

enum { SENDERS = 3, EACH = 20000 };

static void *send_numbers(void *arg)
{
	RingQueue *r = *(RingQueue **)arg;
	uint64_t failed = 0;

	for (uint64_t i = 0; i < EACH; i++)
		failed += q_ring_send_timeout(r, &i, sizeof(i), 0, LONG_MS) != Q_OK;
	return (void *)(uintptr_t)failed;
}

static void an_event_loop_that_sleeps_on_it_misses_nothing(void **state)
{
	(void)state;
	for (uint32_t size = 1; size <= 16; size *= 4) {
		RingConfig cfg = { .ring_size = size, .max_msg_size = 64 };
		uint64_t *times = calloc(EACH, sizeof(*times));
		pthread_t sender[SENDERS];
		uint64_t got = 0;
		RingQueue *r;
		int fd;

		assert_non_null(times);
		assert_status(q_ring_create(&cfg, NULL, 0, &r), Q_OK);
		fd = q_ring_fd(r);
		for (int i = 0; i < SENDERS; i++)
			assert_int_equal(pthread_create(&sender[i], NULL, send_numbers, &r), 0);
		while (got < (uint64_t)SENDERS * EACH && readable(fd, LONG_MS)) {
			uint64_t number;
			size_t len = sizeof(number);

			while (q_ring_recv(r, &number, &len) == Q_OK) {
				assert_int_equal(len, sizeof(number));
				assert_true(number < EACH);
				times[number]++;
				got++;
			}
		}
		for (int i = 0; i < SENDERS; i++) {
			void *failed;

			pthread_join(sender[i], &failed);
			assert_null(failed);
		}
		for (int i = 0; i < EACH; i++)
			assert_int_equal(times[i], SENDERS);
		q_ring_destroy(r);
		free(times);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(it_is_readable_from_a_send_until_a_receive_finds_nothing),
		cmocka_unit_test(what_was_sent_before_the_first_call_makes_it_readable),
		cmocka_unit_test(a_message_that_another_takes_costs_one_wake_up_in_vain),
		cmocka_unit_test(close_makes_it_readable_and_it_stays_so),
		cmocka_unit_test(it_may_be_destroyed_asleep_or_readable),
		cmocka_unit_test(what_cannot_be_had_is_said_and_leaves_nothing),
		cmocka_unit_test(a_child_has_to_attach_and_its_parents_descriptor_works_on),
		cmocka_unit_test(an_event_loop_that_sleeps_on_it_misses_nothing),
	};

	return cmocka_run_group_tests_name("ring_poll", tests, NULL, NULL);
}
