/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_ring_memory.c - the memory that rings and tables are given: what a peer, a full file system
 * or a mistake could make of it is an error where the ring is made, and no signal later.
 */
#include "child.h"
#include "support.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/ring/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static const RingConfig shape = { .ring_size = 64, .max_msg_size = 4096 };

static int make_memfd(size_t size, int seals)
{
	int fd = memfd_create("ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void *map(int fd, size_t bytes, int protection, int flags)
{
	void *memory = mmap(NULL, bytes, protection, flags, fd, 0);

	assert_ptr_not_equal(memory, MAP_FAILED);
	return memory;
}

static bool is_mapped(const void *memory)
{
	unsigned char there;

	return mincore((void *)((uintptr_t)memory & ~(uintptr_t)4095), 1, &there) == 0;
}

/* ---- in a memfd of the library's ------------------------------------------------------------- */

static void a_ring_in_a_memfd_works_between_processes_and_cannot_be_cut(void **state)
{
	static const uint32_t modes[] = { 0, Q_RING_SINGLE, Q_RING_LARGE };
	const int all = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

	(void)state;
	for (int i = 0; i < 3; i++) {
		RingConfig cfg = { .ring_size = 4, .max_msg_size = 100, .flags = modes[i] };
		RingQueue *r, *mine;
		char buf[16];
		size_t len = sizeof(buf);
		void *head;
		int fd = -1;

		assert_status(q_ring_create_fd(&cfg, &fd, &r), Q_OK);
		assert_int_equal(fcntl(fd, F_GET_SEALS) & all, all);
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		assert_status(q_ring_send(r, "to the child", 12, 0), Q_OK);
		in_child({
			need(ftruncate(fd, 0) != 0 && errno == EPERM);
			need(ftruncate(fd, 1 << 20) != 0 && errno == EPERM);
			need(q_ring_send(r, "x", 1, 0) == Q_ERR_UNSUPPORTED);
			need(q_ring_attach_fd(fd, &mine) == Q_OK);
			need(q_ring_recv(mine, buf, &len) == Q_OK && len == 12);
			need(q_ring_send(mine, "back", 4, 0) == Q_OK);
			q_ring_destroy(mine);
			q_ring_destroy(r); /* the child's copy */
		});
		assert_status(q_ring_attach_fd(fd, &mine), Q_OK);
		close(fd); /* the ring lives on */
		head = r->head;
		assert_ptr_not_equal(mine->head, head);
		q_ring_destroy(r);
		assert_false(is_mapped(head));
		assert_status(q_ring_recv(mine, buf, &len), Q_OK);
		assert_memory_equal(buf, "back", 4);
		head = mine->head;
		q_ring_destroy(mine);
		assert_false(is_mapped(head));
	}
}

static void wrong_calls_with_descriptors_are_refused_by_name(void **state)
{
	const RingConfig wrong = { .ring_size = 3 };
	RingQueue *r = (RingQueue *)1;
	int fd = -2;

	(void)state;
	assert_status(q_ring_create_fd(&shape, NULL, &r), Q_ERR_INVALID_ARG);
	assert_says("out_fd is NULL");
	assert_status(q_ring_create_fd(&shape, &fd, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_ring_create_fd(&wrong, &fd, &r), Q_ERR_INVALID_ARG);
	assert_says("ring_size is 3");
	assert_status(q_ring_attach_fd(-1, &r), Q_ERR_INVALID_ARG);
	assert_says("fd is -1: Bad file descriptor");
	assert_status(q_ring_attach_fd(0, NULL), Q_ERR_INVALID_ARG);
	assert_int_equal(fd, -2);
	assert_ptr_equal(r, (RingQueue *)1);
}

static void attach_refuses_a_file_that_a_peer_could_cut(void **state)
{
	const size_t bytes = q_ring_required_memory(&shape);
	const struct {
		int fd;
		QueueStatus status;
		const char *says;
	} cases[] = {
		{ make_memfd(bytes, 0), Q_ERR_POLICY, "not sealed with F_SEAL_SHRINK" },
		{ make_memfd(bytes, F_SEAL_GROW), Q_ERR_POLICY, "F_SEAL_SHRINK" },
		{ make_memfd(bytes, F_SEAL_SHRINK | F_SEAL_WRITE), Q_ERR_POLICY,
		  "could not be mapped for writing" },
		{ make_memfd(0, F_SEAL_SHRINK), Q_ERR_INVALID_ARG, "the file is empty" },
		{ make_memfd(100, F_SEAL_SHRINK), Q_ERR_NO_MEMORY, "bytes is 100" },
		{ make_memfd(bytes, F_SEAL_SHRINK), Q_ERR_NOT_READY, "has not finished" },
		{ open("/proc/self/exe", O_RDONLY), Q_ERR_POLICY, "not a memfd" },
		{ open("/tmp", O_TMPFILE | O_RDWR, 0600), Q_ERR_POLICY, "not a memfd" },
		{ open("/dev/null", O_RDWR), Q_ERR_POLICY, "not a memfd" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		RingQueue *r = (RingQueue *)1;

		assert_status(q_ring_attach_fd(cases[i].fd, &r), cases[i].status);
		assert_says(cases[i].says);
		assert_ptr_equal(r, (RingQueue *)1);
		close(cases[i].fd);
	}
}

static void a_sealed_file_that_is_shorter_than_its_ring_says_is_refused(void **state)
{
	const size_t bytes = q_ring_required_memory(&shape);
	int fd = make_memfd(bytes, 0);
	void *memory = map(fd, bytes, PROT_READ | PROT_WRITE, MAP_SHARED);
	RingQueue *r;

	(void)state;
	assert_status(q_ring_create(&shape, memory, bytes, &r), Q_OK);
	q_ring_destroy(r);
	munmap(memory, bytes);
	assert_int_equal(ftruncate(fd, (off_t)bytes - 4096), 0);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	assert_status(q_ring_attach_fd(fd, &r), Q_ERR_NO_MEMORY);
	close(fd);
}

static void a_failing_resource_leaves_nothing_of_a_ring_in_a_memfd(void **state)
{
	const unsigned files = files_now();
	const size_t live = gq__alloc_live_bytes();
	QueueStatus status;
	unsigned n = 0;
	RingQueue *r;
	int fd;

	(void)state;
	do {
		gq__fault_set(++n);
		status = q_ring_create_fd(&shape, &fd, &r);
		gq__fault_set(0);
		if (status == Q_OK) {
			close(fd);
			q_ring_destroy(r);
		} else {
			assert_status(status, Q_ERR_NO_MEMORY);
		}
		assert_int_equal(files_now(), files);
		assert_int_equal(gq__alloc_live_bytes(), live);
	} while (n < 12);
	assert_status(status, Q_OK);
}

static void a_limit_on_the_size_of_files_is_an_error_and_no_signal(void **state)
{
	(void)state;
	in_child({
		RingQueue *r;
		int fd;

		need(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 8192, 8192 }) == 0);
		need(q_ring_create_fd(&shape, &fd, &r) == Q_ERR_NO_MEMORY);
		need(strstr(q_last_error(), "File too large") != NULL);
		need(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 3, 3 }) == 0);
		need(q_ring_create_fd(&shape, &fd, &r) == Q_ERR_NO_MEMORY);
		need(strstr(q_last_error(), "Too many open files") != NULL);
	});
}

/* ---- in memory that is given ----------------------------------------------------------------- */

static void a_file_that_is_shorter_than_its_mapping_is_an_error_and_no_signal(void **state)
{
	const size_t bytes = q_ring_required_memory(&shape);
	const size_t table_bytes = q_region_table_required_memory(1000);
	const size_t lengths[] = { 0, 4096, bytes / 2, bytes - 4096 };
	RegionTable *t;
	RingQueue *r;

	(void)state;
	for (int i = 0; i < 4; i++) {
		int fd = make_memfd(lengths[i], 0);
		void *memory = map(fd, bytes, PROT_READ | PROT_WRITE, MAP_SHARED);

		in_child({
			need(q_ring_create(&shape, memory, bytes, &r) == Q_ERR_NO_MEMORY);
			need(strstr(q_last_error(), "the file is shorter") != NULL);
			need(i == 3 || q_ring_attach(memory, bytes, &r) ==
					       (i == 2 ? Q_ERR_NOT_READY : Q_ERR_NO_MEMORY));
			if (i < 2) {
				need(q_region_table_create_in(1000, memory, table_bytes, &t) ==
				     Q_ERR_NO_MEMORY);
				need(strstr(q_last_error(), "the file is shorter") != NULL);
			}
			if (i == 0)
				need(q_region_table_attach(memory, table_bytes, &t) ==
				     Q_ERR_NO_MEMORY);
		});
		munmap(memory, bytes);
		close(fd);
	}
}

static void a_file_that_has_been_cut_since_is_not_attached_to(void **state)
{
	const size_t bytes = q_ring_required_memory(&shape);
	const size_t table_bytes = q_region_table_required_memory(1000);
	int fd = make_memfd(bytes, 0), table_fd = make_memfd(table_bytes, 0);
	void *memory = map(fd, bytes, PROT_READ | PROT_WRITE, MAP_SHARED);
	void *table = map(table_fd, table_bytes, PROT_READ | PROT_WRITE, MAP_SHARED);
	RegionTable *t, *u;
	RingQueue *r, *mine;

	(void)state;
	assert_status(q_ring_create(&shape, memory, bytes, &r), Q_OK);
	assert_status(q_region_table_create_in(1000, table, table_bytes, &t), Q_OK);
	assert_int_equal(ftruncate(fd, (off_t)bytes - 8192), 0);
	assert_int_equal(ftruncate(table_fd, 8192), 0);
	in_child({
		need(q_ring_attach(memory, bytes, &mine) == Q_ERR_NO_MEMORY);
		need(q_region_table_attach(table, table_bytes, &u) == Q_ERR_NO_MEMORY);
	});
	q_ring_destroy(r);
	q_region_table_destroy(t);
	munmap(memory, bytes);
	munmap(table, table_bytes);
	close(fd);
	close(table_fd);
}

/* A file system of our own, too small for the ring. */
static void a_full_file_system_is_an_error_and_no_signal(void **state)
{
	const size_t bytes = q_ring_required_memory(&shape);
	const size_t table_bytes = q_region_table_required_memory(65536);
	pid_t child = fork();
	int status;

	(void)state;
	if (child == 0) {
		RegionTable *t;
		RingQueue *r;
		void *memory;
		int fd;

		if (unshare(CLONE_NEWNS) != 0 ||
		    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
		    mount("small", "/tmp", "tmpfs", 0, "size=128k") != 0)
			_exit(77);
		fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);
		need(fd >= 0 && ftruncate(fd, 8 << 20) == 0);
		memory = mmap(NULL, 8 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		need(memory != MAP_FAILED);
		need(q_ring_create(&shape, memory, bytes, &r) == Q_ERR_NO_MEMORY);
		need(strstr(q_last_error(), "its file system is full") != NULL);
		need(ftruncate(fd, 0) == 0 && ftruncate(fd, 8 << 20) == 0);
		need(q_region_table_create_in(65536, memory, table_bytes, &t) == Q_ERR_NO_MEMORY);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip(); /* may not mount */
	assert_int_equal(status, 0);
}

static void private_mappings_of_files_are_refused(void **state)
{
	const size_t bytes = q_ring_required_memory(&shape);
	int fd = make_memfd(bytes, 0);
	void *shared = map(fd, bytes, PROT_READ | PROT_WRITE, MAP_SHARED);
	void *private = map(fd, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	RegionTable *t, *u;
	RingQueue *r, *mine;

	(void)state;
	assert_status(q_ring_create(&shape, private, bytes, &r), Q_ERR_INVALID_ARG);
	assert_says("a private mapping of a file");
	assert_says("MAP_SHARED");
	assert_status(q_region_table_create_in(4, private, bytes, &t), Q_ERR_INVALID_ARG);
	assert_says("a private mapping of a file");
	assert_status(q_ring_create(&shape, shared, bytes, &r), Q_OK);
	assert_status(q_ring_attach(private, bytes, &mine), Q_ERR_INVALID_ARG);
	assert_says("a private mapping of a file");
	q_ring_destroy(r);
	assert_status(q_region_table_create_in(4, shared, bytes, &t), Q_OK);
	assert_status(q_region_table_attach(private, bytes, &u), Q_ERR_INVALID_ARG);
	assert_says("a private mapping of a file");
	q_region_table_destroy(t);
	munmap(shared, bytes);
	munmap(private, bytes);
	close(fd);
}

/* Of private memory a child has a copy: the two would wait for each other in vain. */
static void a_child_does_not_attach_to_its_copy_of_private_memory(void **state)
{
	const size_t bytes = q_ring_required_memory(&shape);
	void *memory = aligned_alloc(128, (bytes + 127) / 128 * 128);
	static _Alignas(128) uint8_t table[128 + 4 * 64]; /* in the program's own data */
	RegionTable *t, *u;
	RingQueue *r, *mine;

	(void)state;
	assert_status(q_ring_create(&shape, memory, bytes, &r), Q_OK);
	assert_status(q_region_table_create_in(4, table, sizeof(table), &t), Q_OK);
	in_child({
		need(q_ring_attach(memory, bytes, &mine) == Q_ERR_INVALID_ARG);
		need(strstr(q_last_error(), "it must be shared") != NULL);
		need(q_region_table_attach(table, sizeof(table), &u) == Q_ERR_INVALID_ARG);
		need(strstr(q_last_error(), "it must be shared") != NULL);
		/* One of the child's own, and the child's child. */
		need(q_ring_create(&shape, memory, bytes, &mine) == Q_OK);
		need(q_ring_attach(memory, bytes, &r) == Q_OK);
		if (fork() == 0)
			_exit(q_ring_attach(memory, bytes, &r) == Q_ERR_INVALID_ARG ? 0 : 1);
		int status;

		need(wait(&status) > 0 && status == 0);
	});
	assert_status(q_ring_attach(memory, bytes, &mine), Q_OK); /* within one process it is one */
	assert_status(q_region_table_attach(table, sizeof(table), &u), Q_OK);
	q_region_table_destroy(u);
	q_region_table_destroy(t);
	q_ring_destroy(mine);
	q_ring_destroy(r);
	free(memory);
}

static void memory_that_cannot_be_written_or_is_not_there_is_refused(void **state)
{
	const size_t bytes = q_ring_required_memory(&shape);
	uint8_t *memory = map(-1, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
	RegionTable *t;
	RingQueue *r;

	(void)state;
	assert_status(q_ring_create(&shape, memory, bytes, &r), Q_OK);
	q_ring_destroy(r);
	assert_int_equal(mprotect(memory, bytes, PROT_READ), 0);
	assert_status(q_ring_create(&shape, memory, bytes, &r), Q_ERR_INVALID_ARG);
	assert_says("cannot be read and written");
	assert_status(q_ring_attach(memory, bytes, &r), Q_ERR_INVALID_ARG);
	assert_status(q_region_table_create_in(4, memory, bytes, &t), Q_ERR_INVALID_ARG);
	assert_status(q_region_table_attach(memory, bytes, &t), Q_ERR_INVALID_ARG);
	assert_int_equal(mprotect(memory, bytes, PROT_READ | PROT_WRITE), 0);
	munmap(memory + 65536, 4096); /* a hole */
	assert_status(q_ring_create(&shape, memory, bytes, &r), Q_ERR_INVALID_ARG);
	assert_says("there is no memory at");
	munmap(memory, bytes);
}

static size_t resident(void *memory, size_t bytes)
{
	static unsigned char there[(256u << 20) / 4096 + 1];
	size_t n = 0;

	assert_int_equal(mincore(memory, bytes, there), 0);
	for (size_t i = 0; i < bytes / 4096; i++)
		n += there[i] & 1u;
	return n;
}

/* Only where a page that is not there would be a signal are the pages taken before they are used.
 */
static void only_files_are_filled_when_the_ring_is_made(void **state)
{
	const RingConfig big = { .ring_size = 32, .max_msg_size = 1u << 20 };
	const size_t bytes = q_ring_required_memory(&big);
	void *memory[] = { map(-1, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS),
			   map(-1, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS),
			   map(make_memfd(bytes, 0), bytes, PROT_READ | PROT_WRITE, MAP_SHARED) };

	(void)state;
	for (int i = 0; i < 3; i++) {
		RingQueue *r;

		assert_status(q_ring_create(&big, memory[i], bytes, &r), Q_OK);
		if (i == 2)
			assert_int_equal(resident(memory[i], bytes), bytes / 4096);
		else
			assert_true(resident(memory[i], bytes) < 1000);
		q_ring_destroy(r);
		munmap(memory[i], bytes);
	}
}

static void without_proc_a_ring_is_made_all_the_same(void **state)
{
	const size_t bytes = q_ring_required_memory(&shape);
	int fd = make_memfd(bytes, 0), cut = make_memfd(bytes / 2, 0);
	void *memory[] = { map(-1, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS),
			   map(-1, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS),
			   map(fd, bytes, PROT_READ | PROT_WRITE, MAP_SHARED) };
	void *shorter = map(cut, bytes, PROT_READ | PROT_WRITE, MAP_SHARED);

	(void)state;
	in_child({
		RingQueue *r;

		need(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 0, 0 }) == 0); /* no more files */
		for (int i = 0; i < 3; i++) {
			need(q_ring_create(&shape, memory[i], bytes, &r) == Q_OK);
			need(q_ring_send(r, "x", 1, 0) == Q_OK);
			need(q_ring_attach(memory[i], bytes, &r) == Q_OK);
		}
		need(q_ring_create(&shape, shorter, bytes, &r) == Q_ERR_NO_MEMORY);
	});
	for (int i = 0; i < 3; i++)
		munmap(memory[i], bytes);
	munmap(shorter, bytes);
	close(fd);
	close(cut);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_ring_in_a_memfd_works_between_processes_and_cannot_be_cut),
		cmocka_unit_test(wrong_calls_with_descriptors_are_refused_by_name),
		cmocka_unit_test(attach_refuses_a_file_that_a_peer_could_cut),
		cmocka_unit_test(a_sealed_file_that_is_shorter_than_its_ring_says_is_refused),
		cmocka_unit_test(a_failing_resource_leaves_nothing_of_a_ring_in_a_memfd),
		cmocka_unit_test(a_limit_on_the_size_of_files_is_an_error_and_no_signal),
		cmocka_unit_test(a_file_that_is_shorter_than_its_mapping_is_an_error_and_no_signal),
		cmocka_unit_test(a_file_that_has_been_cut_since_is_not_attached_to),
		cmocka_unit_test(a_full_file_system_is_an_error_and_no_signal),
		cmocka_unit_test(private_mappings_of_files_are_refused),
		cmocka_unit_test(a_child_does_not_attach_to_its_copy_of_private_memory),
		cmocka_unit_test(memory_that_cannot_be_written_or_is_not_there_is_refused),
		cmocka_unit_test(only_files_are_filled_when_the_ring_is_made),
		cmocka_unit_test(without_proc_a_ring_is_made_all_the_same),
	};

	return cmocka_run_group_tests_name("ring_memory", tests, NULL, NULL);
}
