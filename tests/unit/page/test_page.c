/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_page.c - gpuqd's page of counts: every version that is read is whole, wherever its writer is
 * or has stopped; who keeps it; what is refused.
 */
#include "support.h"

#include "broker/page/lock.h"
#include "broker/page/page.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/gpuq-page-XXXXXX", path[64], other[64], third[64];

static int set_up(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof(path), "%s/p", folder);
	snprintf(other, sizeof(other), "%s/o", folder);
	snprintf(third, sizeof(third), "%s/t", folder);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	unlink(other);
	unlink(third);
	return rmdir(folder);
}

static struct page *make(const char *also)
{
	char error[PAGE_ERROR];
	struct page *p = page_create(path, also, 0640, error);

	if (p == NULL)
		fail_msg("%s", error);
	return p;
}

static struct page *open_it(const char *name)
{
	char error[PAGE_ERROR];
	struct page *p = page_open(name, error);

	if (p == NULL)
		fail_msg("%s", error);
	return p;
}

/* A version whose words all say which it is. */
static void fill(struct page_clients *c, uint64_t version)
{
	uint64_t words[sizeof(*c) / 8];

	for (size_t i = 0; i < sizeof(words) / 8; i++)
		words[i] = version;
	memcpy(c, words, sizeof(words));
}

/* The version, or 0: it is of several. */
static uint64_t version_of(const struct page_clients *c)
{
	uint64_t words[sizeof(*c) / 8];

	memcpy(words, c, sizeof(words));
	for (size_t i = 1; i < sizeof(words) / 8; i++)
		if (words[i] != words[0])
			return 0;
	return words[0];
}

/* ---- whole versions -------------------------------------------------------------------------- */

enum { READERS = 3 };

struct reader {
	pthread_t thread;
	struct page *p;
	uint64_t reads, torn, backwards;
};

static uint32_t over;

static void *read_on(void *arg)
{
	struct reader *r = arg;
	struct page_clients c;
	uint64_t last = 0;

	while (__atomic_load_n(&over, __ATOMIC_SEQ_CST) == 0) {
		uint64_t version;

		if (!page_read(r->p, PAGE_CLIENTS_OF_QUEUES, 0, &c))
			continue; /* the writer of this test never rests */
		version = version_of(&c);
		r->reads++;
		r->torn += version == 0;
		r->backwards += version < last;
		last = version;
	}
	return NULL;
}

static void every_version_that_is_read_is_whole(void **state)
{
	const uint64_t most = getenv("GPUQ_TEST_SHORT") != NULL ? 5000 : 100000;
	struct page *p = make(NULL);
	struct reader r[READERS];
	struct page_clients c;

	(void)state;
	memset(r, 0, sizeof(r));
	over = 0;
	for (int i = 0; i < READERS; i++) {
		r[i].p = open_it(path);
		assert_int_equal(pthread_create(&r[i].thread, NULL, read_on, &r[i]), 0);
	}
	for (uint64_t n = 1; n <= most; n++) {
		fill(&c, n);
		page_write(p, PAGE_CLIENTS_OF_QUEUES, 0, &c);
		if (n % 64 == 0)
			sched_yield();
	}
	__atomic_store_n(&over, 1, __ATOMIC_SEQ_CST);
	for (int i = 0; i < READERS; i++) {
		assert_int_equal(pthread_join(r[i].thread, NULL), 0);
		assert_int_equal(r[i].torn, 0);
		assert_int_equal(r[i].backwards, 0);
		page_close(r[i].p);
	}
	assert_int_equal(page_versions(p, PAGE_CLIENTS_OF_QUEUES, 0), most);
	page_destroy(p);
}

/* A process that writes for ever. */
static pid_t start_writer(void)
{
	int ready[2];
	char byte;
	pid_t pid;

	assert_int_equal(pipe(ready), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		char error[PAGE_ERROR];
		struct page *p;
		struct page_clients c;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		p = page_create(path, NULL, 0600, error);
		if (p == NULL)
			_exit(1);
		for (uint64_t n = 1;; n++) {
			fill(&c, n);
			page_write(p, PAGE_CLIENTS_OF_QUEUES, 0, &c);
			if (n == 1)
				(void)!write(ready[1], "", 1);
		}
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

static void ob_5_a_page_can_be_read_wherever_its_writer_has_stopped(void **state)
{
	const pid_t pid = start_writer();
	struct page *p = open_it(path);
	struct page_clients c;

	(void)state;
	for (int i = 0; i < 200; i++) {
		int status;

		assert_int_equal(kill(pid, SIGSTOP), 0);
		assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
		assert_true(page_read(p, PAGE_CLIENTS_OF_QUEUES, 0, &c));
		assert_true(version_of(&c) != 0);
		assert_true(page_is_kept(p));
		assert_int_equal(kill(pid, SIGCONT), 0);
	}
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_false(page_is_kept(p));
	assert_true(page_read(p, PAGE_CLIENTS_OF_QUEUES, 0, &c));
	assert_true(version_of(&c) != 0);
	page_close(p);
	page_destroy(make(NULL)); /* what was left is replaced */
}

/* ---- the file -------------------------------------------------------------------------------- */

static void a_page_has_two_names_and_leaves_none(void **state)
{
	struct page *p = make(other), *a, *b;
	struct page_view *v = calloc(1, sizeof(*v));
	struct page_daemon d = { .pid = 7, .queues = 2 };
	struct page_queue q = { .name = "x", .clients = 3 };
	struct stat st;

	(void)state;
	assert_non_null(v);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	a = open_it(path);
	b = open_it(other);
	assert_false(page_view(a, v)); /* nothing has been written */
	page_write(p, PAGE_DAEMON, 0, &d);
	page_write(p, PAGE_QUEUE, 1, &q);
	assert_true(page_view(b, v));
	assert_int_equal(v->daemon.pid, 7);
	assert_int_equal(v->daemon.queues, 1); /* the other one has not been written */
	assert_string_equal(v->queue[0].name, "x");
	assert_int_equal(v->queue[0].clients, 3);
	assert_false(v->has_services);
	page_close(a);
	page_close(b);
	page_destroy(p);
	assert_int_equal(stat(path, &st), -1);
	assert_int_equal(stat(other, &st), -1);
	free(v);
}

static void who_ends_leaves_the_page_of_who_came_after(void **state)
{
	struct page *old = make(NULL), *new, *p;

	(void)state;
	assert_int_equal(unlink(path), 0);
	new = make(NULL);
	page_destroy(old);
	p = open_it(path);
	assert_true(page_is_kept(p));
	page_close(p);
	page_destroy(new);
}

static void write_file(const char *name, const char *text)
{
	FILE *f = fopen(name, "w");

	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void expect_file(const char *name, const char *text)
{
	char there[64] = "";
	FILE *f = fopen(name, "r");

	assert_non_null(f);
	assert_int_equal(fread(there, 1, sizeof(there) - 1, f), strlen(text));
	assert_int_equal(fclose(f), 0);
	assert_string_equal(there, text);
}

static void expect_not_made(const char *at, const char *also, const char *why)
{
	char error[PAGE_ERROR] = "";

	assert_null(page_create(at, also, 0600, error));
	if (strstr(error, why) == NULL)
		fail_msg("'%s' does not say '%s'", error, why);
}

static void a_page_that_is_kept_is_not_replaced(void **state)
{
	struct page *first = make(NULL), *p;

	(void)state;
	expect_not_made(path, NULL, "in use by another gpuqd");
	expect_not_made(other, path, "in use by another gpuqd");
	p = open_it(path);
	assert_true(page_is_kept(p));
	page_close(p);
	page_destroy(first);
	assert_int_equal(access(path, F_OK), -1);
}

/* Of several gpuqds that start at once beside what one has left, one has the page, and it is there.
 */
static pthread_barrier_t together;

static void *make_at_once(void *arg)
{
	char error[PAGE_ERROR];
	struct page **p = arg;

	pthread_barrier_wait(&together);
	*p = page_create(path, NULL, 0640, error);
	return NULL;
}

static void of_several_that_start_at_once_one_has_the_page(void **state)
{
	enum { SEVERAL = 4 };

	(void)state;
	lock_wait_ms = 10; /* the others wait in vain */
	assert_int_equal(pthread_barrier_init(&together, NULL, SEVERAL), 0);
	for (int round = 0; round < 100; round++) {
		struct page *p[SEVERAL], *there;
		pthread_t thread[SEVERAL];
		unsigned made = 0;

		if (round % 2 == 0)
			write_file(path, ""); /* of one that was killed while it made its page */
		for (int i = 0; i < SEVERAL; i++)
			assert_int_equal(pthread_create(&thread[i], NULL, make_at_once, &p[i]), 0);
		for (int i = 0; i < SEVERAL; i++) {
			pthread_join(thread[i], NULL);
			made += p[i] != NULL;
		}
		assert_int_equal(made, 1);
		there = open_it(path);
		assert_true(page_is_kept(there));
		page_close(there);
		for (int i = 0; i < SEVERAL; i++)
			page_destroy(p[i]);
		assert_int_equal(access(path, F_OK), -1);
	}
	pthread_barrier_destroy(&together);
	lock_wait_ms = 2000;
}

/* Not the one that is named, and none beside it. */
static void a_file_that_is_no_page_is_not_replaced(void **state)
{
	char beside[80];

	(void)state;
	snprintf(beside, sizeof(beside), "%s.new", path);
	write_file(path, "precious");
	write_file(beside, "dear");
	expect_not_made(path, NULL, "no page of counts");
	expect_not_made(other, path, "no page of counts");
	expect_file(path, "precious");
	assert_int_equal(access(other, F_OK), -1);
	write_file(path, ""); /* nothing is lost with this one */
	page_destroy(make(NULL));
	expect_file(beside, "dear");
	assert_int_equal(unlink(beside), 0);
}

static void on_another_file_system_a_page_has_one_name(void **state)
{
	char far[] = "/dev/shm/gpuq-page-XXXXXX", name[64];
	struct stat here, there;
	struct page *p;

	(void)state;
	if (mkdtemp(far) == NULL)
		skip();
	assert_int_equal(stat(folder, &here), 0);
	assert_int_equal(stat(far, &there), 0);
	if (here.st_dev == there.st_dev) {
		assert_int_equal(rmdir(far), 0);
		skip();
	}
	snprintf(name, sizeof(name), "%s/p", far);
	p = make(name);
	assert_false(page_has_both_names(p));
	page_close(open_it(path));
	page_destroy(p);
	assert_int_equal(rmdir(far), 0); /* nothing is in it */
	p = make(other);
	assert_true(page_has_both_names(p));
	page_destroy(p);
}

static void texts_of_a_page_that_lies_end_and_order_nothing(void **state)
{
	struct page *p = make(NULL);
	struct page_view *v = calloc(1, sizeof(*v));
	struct page_daemon d = { .queues = 1 };
	struct page_services s = { .services = 1 };
	struct page_queue q;

	(void)state;
	assert_non_null(v);
	snprintf(d.socket, sizeof(d.socket), "/r\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
	snprintf(d.reload_error, sizeof(d.reload_error),
		 "a\x1b[2Jb\nc\x7f\x9b\xc2\x9b\xc0\xaf\xed\xa0\x80\xf8\x90\x80\x80z\xe2\x82");
	memset(&q, 'x', sizeof(q)); /* no text of it ends */
	memset(s.service[0].breaker, 'y', sizeof(s.service[0].breaker));
	page_write(p, PAGE_DAEMON, 0, &d);
	page_write(p, PAGE_SERVICES_ALL, 0, &s);
	page_write(p, PAGE_QUEUE, 0, &q);
	assert_true(page_view(p, v));
	assert_string_equal(v->daemon.socket, d.socket); /* of UTF-8 */
	assert_string_equal(v->daemon.reload_error, "a?[2Jb?c?????????"
						    "?"
						    "?"
						    "?"
						    "?z??");
	assert_int_equal(strlen(v->queue[0].name), PAGE_NAME - 1);
	assert_int_equal(strlen(v->queue[0].processor), PAGE_NAME - 1);
	assert_int_equal(strlen(v->services.service[0].breaker), 15);
	page_destroy(p);
	free(v);
}

static void expect_refused(const char *name, const char *why)
{
	char error[PAGE_ERROR] = "";

	assert_null(page_open(name, error));
	assert_non_null(strstr(error, name));
	assert_non_null(strstr(error, why));
}

static void what_is_no_page_is_refused_by_name(void **state)
{
	char error[PAGE_ERROR] = "";
	struct page *p = make(NULL);
	FILE *f;

	(void)state;
	expect_refused(other, "No such file");
	expect_refused(folder, "is no page");
	f = fopen(other, "w");
	assert_non_null(f);
	fprintf(f, "%1000s", "");
	assert_int_equal(fclose(f), 0);
	expect_refused(other, "is no page");
	assert_int_equal(truncate(other, 3), 0);
	expect_refused(other, "is no page");
	f = fopen(path, "r+"); /* the version, behind the magic number */
	assert_non_null(f);
	assert_int_equal(fseek(f, 8, SEEK_SET), 0);
	assert_int_equal(fputc(99, f), 99);
	assert_int_equal(fclose(f), 0);
	expect_refused(path, "another version");
	page_destroy(p);
	/* What is no file is somebody's. */
	assert_int_equal(mkdir(third, 0700), 0);
	assert_null(page_create(third, NULL, 0600, error));
	assert_non_null(strstr(error, third));
	assert_int_equal(rmdir(third), 0);
	assert_null(page_create("/nowhere/at/all", NULL, 0600, error));
	assert_non_null(strstr(error, "/nowhere/at/all"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_version_that_is_read_is_whole),
		cmocka_unit_test(ob_5_a_page_can_be_read_wherever_its_writer_has_stopped),
		cmocka_unit_test(a_page_has_two_names_and_leaves_none),
		cmocka_unit_test(who_ends_leaves_the_page_of_who_came_after),
		cmocka_unit_test(a_page_that_is_kept_is_not_replaced),
		cmocka_unit_test(of_several_that_start_at_once_one_has_the_page),
		cmocka_unit_test(a_file_that_is_no_page_is_not_replaced),
		cmocka_unit_test(on_another_file_system_a_page_has_one_name),
		cmocka_unit_test(texts_of_a_page_that_lies_end_and_order_nothing),
		cmocka_unit_test(what_is_no_page_is_refused_by_name),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
