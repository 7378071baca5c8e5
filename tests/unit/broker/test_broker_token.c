/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_broker_token.c - queues of gpuqd that need a token: who is let in, with how much memory, and
 * with which classes. gpuqd is a process of its own, and one of the queues is in another one.
 */
/* First, for the queue has a macro of the name of one of its constants. */
#include "broker/policy/token.h"

#include "daemon.h"
#include "support.h"

#include "broker/page/page.h"

#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct daemon d;
static char keys_path[64], endpoint[64];
static const struct gq_token_key key = { .number = 1, .key = { 1, 2, 3 } },
				 foreign = { .number = 1, .key = { 7, 8, 9 } };
static const struct gq_claims everything = { .rights = GQ_RIGHTS, .all_ops = true };

/* `deny`: a token that is not taken any more; NULL: none */
static void write_keys(const char *deny)
{
	FILE *f = fopen(keys_path, "w");
	char hex[2 * GQ_TOKEN_KEY + 1];

	assert_non_null(f);
	assert_int_equal(fchmod(fileno(f), 0600), 0);
	fprintf(f, "key 1 %s\n", sodium_bin2hex(hex, sizeof(hex), key.key, GQ_TOKEN_KEY));
	if (deny != NULL) /* its id is in bytes 8 to 23 */
		fprintf(f, "deny %.32s\n", deny + 16);
	assert_int_equal(fclose(f), 0);
}

static const char *issue(const struct gq_token_key *by, const struct gq_claims *claims)
{
	static char text[2 * GQ_TOKEN_MOST + 1];
	uint8_t id[GQ_TOKEN_ID], token[GQ_TOKEN_MOST];
	size_t n;

	randombytes_buf(id, sizeof(id));
	assert_int_equal(gq__token_issue(by, id, claims, token, sizeof(token), &n), GQ_TOKEN_IS_OK);
	return sodium_bin2hex(text, sizeof(text), token, n);
}

static void use(const char *token)
{
	if (token != NULL)
		assert_int_equal(setenv("GPUQ_TOKEN", token, 1), 0);
	else
		assert_int_equal(unsetenv("GPUQ_TOKEN"), 0);
}

static void begin(void)
{
	char words[512];

	assert_int_not_equal(sodium_init(), -1);
	snprintf(keys_path, sizeof(keys_path), "/tmp/gpuq-queue-keys-%d", (int)getpid());
	write_keys(NULL);
	snprintf(
		words, sizeof(words),
		"stats_ms = 20\nuid_connect_rate = 0\ntokens = %s\n"
		"[queue default]\nprocessor = echo\ndevice = cpu\nconsumers = 1\ntoken = required\n"
		"[queue apart]\nprocessor = echo\ndevice = cpu\nconsumers = 1\ntoken = required\n"
		"process = one\n"
		"[queue open]\nprocessor = echo\ndevice = cpu\nconsumers = 1\n",
		keys_path);
	daemon_set_up(&d, words, NULL);
}

static void end(void)
{
	use(NULL);
	daemon_tear_down(&d);
	assert_int_equal(unlink(keys_path), 0);
}

static QueueConfig of(const char *queue)
{
	snprintf(endpoint, sizeof(endpoint), "%s#%s", d.endpoint, queue);
	return (QueueConfig){ .capacity = 16,
			      .slot_bytes = 64,
			      .result_bytes = 64,
			      .device = Q_DEVICE_REMOTE,
			      .endpoint = endpoint };
}

static void expect_refusal(const char *queue, const char *token, const char *why)
{
	const QueueConfig c = of(queue);

	use(token);
	expect_no_queue(&c, why);
}

static void expect_served(const char *queue, const char *token)
{
	const QueueConfig c = of(queue);
	GpuQueue *q;

	use(token);
	q = make_queue_from(&c);
	expect_echo(q, send(q, "x", 1), "x", 1);
	q_shutdown(q);
}

static void se_2_a_queue_that_needs_a_token_takes_a_good_one_alone(void **state)
{
	static const char *const queues[] = { "default", "apart" };
	struct gq_claims c;

	(void)state;
	begin();
	for (int i = 0; i < 2; i++) {
		const char *q = queues[i];

		expect_refusal(q, NULL, "needs a token: GPUQ_TOKEN");
		expect_refusal(q, "", "needs a token: GPUQ_TOKEN"); /* empty means unset */
		expect_refusal(q, "abc", "GPUQ_TOKEN has 3 characters");
		expect_refusal(q, "0011", "not a token");
		expect_refusal(q, issue(&foreign, &everything), "the signature is wrong");
		c = everything;
		c.rights &= ~(uint32_t)GQ_RIGHT_SUBMIT;
		expect_refusal(q, issue(&key, &c), "no right to submit");
		c = everything;
		c.has_uid = true;
		c.uid = (uint32_t)geteuid() + 1;
		expect_refusal(q, issue(&key, &c), "another user's");
		c = everything;
		c.rate = 5;
		expect_refusal(q, issue(&key, &c), "has a rate, which queues do not count");
		c = (struct gq_claims){ .rights = GQ_RIGHTS, .op_count = 1, .ops = { { "open" } } };
		expect_refusal(q, issue(&key, &c), "the token is not for this queue");
		snprintf(c.ops[0].text, sizeof(c.ops[0].text), "%s", q);
		expect_served(q, issue(&key, &c));
		expect_served(q, issue(&key, &everything));
	}
	expect_served("open", "0011"); /* is not looked at where none is needed */
	expect_served("open", NULL);
	end();
}

static void se_4_a_token_bounds_the_memory_of_all_that_show_it(void **state)
{
	struct gq_claims c = everything;
	QueueConfig config;
	GpuQueue *q, *next;

	(void)state;
	begin();
	config = of("default");
	c.pinned = UINT64_C(30) << 10; /* one has less, two have more */
	use(issue(&key, &c));
	q = make_queue_from(&config);
	expect_no_queue(&config, "clients with this token would have");
	q_shutdown(q);
	for (unsigned i = 0; (next = q_init(&config)) == NULL; i++) { /* gpuqd has yet to see it */
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	q_shutdown(next);
	end();
}

/* How many messages a queue has had in a class, once it has had `all`. */
static uint64_t accepted_of(const char *queue, uint32_t class, uint64_t all)
{
	static struct page_view v; /* large */
	char path[PAGE_PATH], error[PAGE_ERROR];

	assert_true(page_path_of(d.socket, path, sizeof(path)));
	for (unsigned i = 0; i < LONG_MS; i++, nap_ms(1)) {
		struct page *page = page_open(path, error);
		bool seen;

		assert_non_null(page);
		seen = page_view(page, &v);
		page_close(page);
		for (uint32_t k = 0; seen && k < v.daemon.queues; k++)
			if (strcmp(v.queue[k].name, queue) == 0 &&
			    page_sum(v.queue[k].accepted) == all)
				return v.queue[k].accepted[class];
	}
	fail_msg("queue '%s' has not had %llu messages", queue, (unsigned long long)all);
	return 0;
}

static void se_2_a_token_bounds_the_class_of_messages(void **state)
{
	const EnqueueOptions urgent = { .priority = Q_PRIORITY_URGENT };
	static const char *const queues[] = { "default", "apart" };

	(void)state;
	begin();
	for (int i = 0; i < 2; i++) {
		struct gq_claims c = everything;
		const QueueConfig config = of(queues[i]);

		for (uint32_t n = 0; n < 3; n++) {
			GpuQueue *q;

			if (n == 1) /* critical needs a right */
				c.rights &= ~(uint32_t)GQ_RIGHT_CRITICAL;
			if (n == 2)
				c.best_class = GQ_CLASS_LOW;
			use(issue(&key, &c));
			q = make_queue_from(&config);
			expect_echo(q, send_with(q, &urgent, "x", 1), "x", 1);
			q_shutdown(q);
			assert_int_equal(accepted_of(queues[i],
						     n == 0   ? 3
						     : n == 1 ? 2
							      : 0,
						     n + 1),
					 1);
		}
	}
	end();
}

static void se_2_a_reload_takes_tokens_away_from_those_that_come(void **state)
{
	char token[2 * GQ_TOKEN_MOST + 1];
	QueueConfig config;
	GpuQueue *q;

	(void)state;
	begin();
	config = of("default");
	snprintf(token, sizeof(token), "%s", issue(&key, &everything));
	use(token);
	q = make_queue_from(&config);
	write_keys(token);
	assert_int_equal(kill(d.pid, SIGHUP), 0);
	for (unsigned i = 0;; i++) {
		GpuQueue *other = q_init(&config);

		if (other == NULL)
			break;
		q_shutdown(other);
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	expect_no_queue(&config, "this token has been revoked");
	expect_echo(q, send(q, "y", 1), "y", 1); /* who is there stays */
	q_shutdown(q);
	expect_served("default", issue(&key, &everything));
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(se_2_a_queue_that_needs_a_token_takes_a_good_one_alone),
		cmocka_unit_test(se_4_a_token_bounds_the_memory_of_all_that_show_it),
		cmocka_unit_test(se_2_a_token_bounds_the_class_of_messages),
		cmocka_unit_test(se_2_a_reload_takes_tokens_away_from_those_that_come),
	};

	return cmocka_run_group_tests_name("broker_token", tests, NULL, NULL);
}
