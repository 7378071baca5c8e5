/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_quota.c - what one user of gpuqd's services may have waiting, and that another one
 * has its own. gpuqd is a process of its own, and so is the caller of the other user.
 */
#include "callers.h"
#include "daemon.h"
#include "support.h"

#include "device/protocol/atomics.h"
#include "host/base/clock.h"

#include <gpuq/broker.h>

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STRANGER = 65534, CALLS = 50 };

static struct daemon d;

/* What the child has seen; it is told here to begin, and to end. */
struct told {
	uint32_t begun, ended;
	uint32_t asked, ok, refused;
	uint32_t wrong; /* an end of another kind, or a refusal that says not when to come again */
};

static const BrokerCall call = { .service = "work", .timeout_ms = LONG_MS };

static void count_end(struct told *t, const BrokerReply *r, uint64_t *not_before_ns)
{
	if (r->status == Q_OK) {
		t->ok++;
		return;
	}
	gq_exchange_seq_cst_u32(&t->refused, t->refused + 1); /* nobody else writes it */
	t->wrong += r->status != Q_ERR_FULL || r->reason != Q_REASON_OVERLOADED || !r->may_retry ||
		    r->retry_after_ms == 0;
	*not_before_ns = gq__now_ns() + r->retry_after_ms * UINT64_C(1000000);
}

/* A child. It has as much waiting as it may, and asks again as soon as it is allowed to. */
static void ask_for_more(struct told *t)
{
	const BrokerConfig cfg = { .endpoint = d.broker, .timeout_ms = LONG_MS };
	uint64_t not_before_ns = 0, id;
	uint32_t inside = 0;
	BrokerClient *c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	c = setuid(STRANGER) == 0 ? q_broker_connect(&cfg) : NULL;
	if (c == NULL)
		_exit(1);
	while (gq_load_seq_cst_u32(&t->begun) == 0)
		nap_ms(1);
	while (inside != 0 || gq_load_seq_cst_u32(&t->ended) == 0) {
		BrokerReply r = { 0 };

		if (gq_load_seq_cst_u32(&t->ended) == 0 && gq__now_ns() >= not_before_ns &&
		    q_broker_submit(c, &call, &id) == Q_OK) {
			t->asked++;
			inside++;
			continue;
		}
		(void)q_broker_wait(c, 0, NULL, &(size_t){ 0 }, &r, 1);
		if (r.id == 0)
			continue;
		inside--;
		count_end(t, &r, &not_before_ns);
	}
	_exit(0);
}

static void *serve(void *w)
{
	BrokerRequest q;

	while (q_service_recv(w, &q, LONG_MS) == Q_OK) {
		nap_ms(1);
		if (q_service_reply(w, &q, Q_REASON_OK, NULL, 0) != Q_OK)
			break;
	}
	return NULL;
}

static uint32_t await_refusal(struct told *t)
{
	for (unsigned i = 0; gq_load_seq_cst_u32(&t->refused) == 0; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	return gq_load_seq_cst_u32(&t->refused);
}

static void se_4_a_user_whose_share_is_used_up_is_refused_and_another_is_served(void **state)
{
	const BrokerService s = { .name = "w", .capability = "op=work", .capacity = 1 };
	struct told *t =
		mmap(NULL, sizeof(*t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	BrokerClient *c, *w;
	pthread_t thread;
	uint32_t before;
	int status;
	pid_t pid;

	(void)state;
	if (geteuid() != 0)
		skip(); /* it takes two users */
	assert_ptr_not_equal(t, MAP_FAILED);
	daemon_set_up(&d, "", "socket_mode = 0666\nqueued = 40\nheartbeat_ms = 60s\n");
	assert_int_equal(chmod(d.folder, 0755), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		ask_for_more(t);
	c = connect_to_services(d.broker);
	w = connect_worker(d.broker, &s);
	assert_int_equal(pthread_create(&thread, NULL, serve, w), 0);
	services_await_ready(d.broker, 1);
	gq_exchange_seq_cst_u32(&t->begun, 1);
	before = await_refusal(t);
	for (int i = 0; i < CALLS; i++)
		assert_status(q_broker_call(c, &call, NULL, &(size_t){ 0 }, NULL), Q_OK);
	assert_true(gq_load_seq_cst_u32(&t->refused) > before); /* it was used up meanwhile */
	gq_exchange_seq_cst_u32(&t->ended, 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(t->wrong, 0);
	assert_int_equal(t->asked, t->ok + t->refused);
	/* What they were told is what gpuqd has counted. */
	assert_int_equal(services_count_on(c, "accepted"), t->ok + CALLS);
	assert_int_equal(services_count_on(c, "ok"), t->ok + CALLS);
	assert_int_equal(services_count_on(c, "refused"), t->refused);
	q_broker_close(c);
	daemon_tear_down(&d); /* ends the worker's thread */
	assert_int_equal(pthread_join(thread, NULL), 0);
	q_broker_close(w);
	munmap(t, sizeof(*t));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(
			se_4_a_user_whose_share_is_used_up_is_refused_and_another_is_served),
	};

	return cmocka_run_group_tests_name("service_quota", tests, NULL, NULL);
}
