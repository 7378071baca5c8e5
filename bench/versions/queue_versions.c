/* SPDX-License-Identifier: Apache-2.0 */
/*
 * queue_versions.c - the queue of several builds of the library beside each other, in one process.
 *
 *     queue_versions [--smoke] [--rounds N] [--bytes N] [--slots N] [--consumers N] [--senders N]
 *                    [--only TEXT] NAME=libgpuq.so[+one]...
 *
 * +one: with Q_ONE_PRODUCER. --bytes: of a message, 64. --slots: of the queues, where a row does
 * not need few, 1024. --consumers: 1; more of them use both CPUs. --senders: 1; with more of them
 * there are the rows of a crowd alone, and no build +one. --only: rows whose name has this in it.
 * The processor echo, on the CPU device:
 *
 *   throughput, B a call  one thread enqueues B at a time, one polls up to 64 and releases them;
 *                         both on CPU 0, the consumer on CPU 1
 *   there and back        one message in flight, median of a round's, ns
 *   32 sent, 32 taken     a batch is sent, and polled and released; then the next
 *   host half             ns a message: 32 enqueued, and, once all have finished, polled and
 *                         released; all on CPU 0, so that lines are in its caches
 *   crowd that takes, B   --senders threads, on CPU 0 and 1 in turns, enqueue B at a time and also
 *                         poll up to B and release them; all consumers on CPU 1
 *   crowd and taker, B    --senders threads enqueue, another one on CPU 0 polls; the same CPUs
 *   switches of a crowd   how often one of these threads lost or gave up its CPU, for 1000 messages
 *                         of "crowd that takes, 32"
 *
 * In each round every build has its turn, and another one is the first. A round in which the CPUs
 * had other work is run again, a few times. Prints a table: medians, in brackets the middle half,
 * and the median of the rounds' ratios to the first build. scripts/bench versions builds the
 * libraries of commits, and runs this.
 */
#include <gpuq/gpuq.h>

#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { MAX_BYTES = 4096, POLLED = 64, MAX_BATCH = 32, MAX_BUILDS = 8 };
enum { MAX_ROUNDS = 200, RETRIES = 20, MAX_SENDERS = 64 };

/* The calls of one build. */
struct calls {
	__typeof__(&q_init) init;
	__typeof__(&q_shutdown) shutdown;
	__typeof__(&q_last_error) last_error;
	__typeof__(&q_enqueue) enqueue;
	__typeof__(&q_enqueue_batch) enqueue_batch;
	__typeof__(&q_poll_results) poll_results;
	__typeof__(&q_release_batch) release_batch;
	__typeof__(&q_drain) drain;
};

struct build {
	const char *name;
	uint64_t flags;
	struct calls call;
	double value[MAX_ROUNDS];
};

static struct build builds[MAX_BUILDS];
static int n_builds;
static uint32_t messages = 60000; /* a round */
static uint32_t bytes = 64, slots = 1024, consumers = 1, senders = 1;
static char message[MAX_BYTES];
static const char *only = "";
static bool smoke;

static void die(const char *what, const char *why)
{
	fprintf(stderr, "queue_versions: %s: %s\n", what, why);
	exit(1);
}

static uint64_t ns_of(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* On a machine with one CPU all share it. */
static void pin(unsigned cpu, bool both)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (both)
		CPU_SET(1 - cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void relax(unsigned *spins)
{
	if (++*spins % 64 == 0)
		sched_yield();
}

static GpuQueue *open_queue(const struct build *b, uint32_t capacity, unsigned consumer_cpu)
{
	const QueueConfig cfg = { .capacity = capacity,
				  .slot_bytes = bytes,
				  .consumers = consumers,
				  .device = Q_DEVICE_CPU,
				  .processor = "echo",
				  .flags = b->flags };
	GpuQueue *q;

	/* its threads inherit this */
	pin(consumer_cpu, consumers > 1 && senders == 1);
	q = b->call.init(&cfg);
	pin(0, false);
	if (q == NULL)
		die(b->name, b->call.last_error());
	return q;
}

/* Polls, and releases what has come. @return how many */
static size_t poll_and_release(const struct build *b, GpuQueue *q, size_t max)
{
	Completion done[POLLED];
	uint64_t ids[POLLED];
	size_t n = 0;

	b->call.poll_results(q, done, max, &n);
	for (size_t i = 0; i < n; i++)
		ids[i] = done[i].msg_id;
	if (n != 0)
		b->call.release_batch(q, ids, n);
	return n;
}

/* ---- throughput ------------------------------------------------------------------------------ */

struct load {
	const struct build *b;
	GpuQueue *q;
	size_t batch;
	uint64_t total;
};

static size_t send_up_to(const struct load *l, size_t n)
{
	EnqueueItem items[MAX_BATCH];
	size_t sent = 0;

	if (n == 1)
		return l->b->call.enqueue(l->q, message, bytes, NULL, 0) == Q_OK;
	for (size_t i = 0; i < n; i++)
		items[i] = (EnqueueItem){ message, bytes };
	l->b->call.enqueue_batch(l->q, items, n, NULL, &sent, 0);
	return sent;
}

static void *produce(void *arg)
{
	const struct load *l = arg;
	unsigned spins = 0;

	for (uint64_t sent = 0; sent < l->total;) {
		const uint64_t left = l->total - sent;
		const size_t n = send_up_to(l, left < l->batch ? (size_t)left : l->batch);

		if (n == 0)
			relax(&spins);
		sent += n;
	}
	return NULL;
}

/* M messages/s. @param busy  of the two CPUs, how much was used */
static double pass_all(const struct build *b, GpuQueue *q, size_t batch, double *busy)
{
	struct load l = { b, q, batch, messages };
	const uint64_t cpu = ns_of(CLOCK_PROCESS_CPUTIME_ID), began = ns_of(CLOCK_MONOTONIC);
	unsigned spins = 0;
	pthread_t thread;
	uint64_t ns;

	if (pthread_create(&thread, NULL, produce, &l) != 0)
		die(b->name, "no thread");
	for (uint64_t seen = 0; seen < l.total;) {
		const size_t n = poll_and_release(b, q, POLLED);

		if (n == 0)
			relax(&spins);
		seen += n;
	}
	ns = ns_of(CLOCK_MONOTONIC) - began;
	*busy = (double)(ns_of(CLOCK_PROCESS_CPUTIME_ID) - cpu) / (double)ns;
	pthread_join(thread, NULL);
	return (double)l.total * 1e3 / (double)ns;
}

static double throughput(const struct build *b, int batch)
{
	GpuQueue *q = open_queue(b, slots, 1);
	double busy, rate = 0;

	pass_all(b, q, (size_t)batch, &busy); /* warm */
	for (int i = 0; i < RETRIES; i++) {
		rate = pass_all(b, q, (size_t)batch, &busy);
		if (busy > 1.75 || smoke)
			break;
	}
	b->call.shutdown(q);
	return rate;
}

/* ---- more threads than CPUs ------------------------------------------------------------------ */

struct crowd {
	struct load load; /* `total` of each sender */
	bool takes;       /* senders do, and no other thread */
	uint64_t all;     /* messages of all senders */
	uint64_t taken;   /* by all takers */
	uint32_t waiting; /* threads that have not begun */
};

struct member {
	struct crowd *crowd;
	unsigned number;
};

static size_t take_some(struct crowd *c)
{
	const size_t n = poll_and_release(c->load.b, c->load.q, c->takes ? c->load.batch : POLLED);

	if (n != 0)
		__atomic_add_fetch(&c->taken, n, __ATOMIC_RELEASE);
	return n;
}

static void *be_sender(void *arg)
{
	const struct member *m = arg;
	struct crowd *c = m->crowd;
	uint64_t sent = 0;
	unsigned spins = 0;

	pin(m->number % 2, false);
	__atomic_sub_fetch(&c->waiting, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&c->waiting, __ATOMIC_ACQUIRE) != 0)
		sched_yield();
	while (sent < c->load.total ||
	       (c->takes && __atomic_load_n(&c->taken, __ATOMIC_ACQUIRE) < c->all)) {
		const uint64_t left = c->load.total - sent;
		size_t moved = 0;

		if (left != 0)
			moved = send_up_to(&c->load,
					   left < c->load.batch ? (size_t)left : c->load.batch);
		sent += moved;
		if (c->takes)
			moved += take_some(c);
		if (moved == 0)
			relax(&spins);
	}
	return NULL;
}

static uint64_t switches_so_far(void)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	return (uint64_t)(r.ru_nvcsw + r.ru_nivcsw);
}

/* @return seconds */
static double pass_crowd(const struct build *b, GpuQueue *q, size_t batch, bool takes,
			 struct crowd *c)
{
	struct member members[MAX_SENDERS];
	pthread_t threads[MAX_SENDERS];
	unsigned spins = 0;
	uint64_t began;

	*c = (struct crowd){ .load = { b, q, batch, messages / senders },
			     .takes = takes,
			     .waiting = senders + 1 };
	c->all = c->load.total * senders;
	for (unsigned i = 0; i < senders; i++) {
		members[i] = (struct member){ c, i };
		if (pthread_create(&threads[i], NULL, be_sender, &members[i]) != 0)
			die(b->name, "no thread");
	}
	__atomic_sub_fetch(&c->waiting, 1, __ATOMIC_ACQ_REL);
	while (__atomic_load_n(&c->waiting, __ATOMIC_ACQUIRE) != 0)
		sched_yield();
	began = ns_of(CLOCK_MONOTONIC);
	while (!takes && c->taken < c->all)
		if (take_some(c) == 0)
			relax(&spins);
	for (unsigned i = 0; i < senders; i++)
		pthread_join(threads[i], NULL);
	return (double)(ns_of(CLOCK_MONOTONIC) - began) / 1e9;
}

static double run_crowd(const struct build *b, int batch, bool takes, bool switches)
{
	GpuQueue *q = open_queue(b, slots, 1);
	struct crowd c;
	uint64_t before;
	double s;

	pass_crowd(b, q, (size_t)batch, takes, &c); /* warm */
	before = switches_so_far();
	s = pass_crowd(b, q, (size_t)batch, takes, &c);
	before = switches_so_far() - before;
	b->call.shutdown(q);
	return switches ? (double)before * 1e3 / (double)c.all : (double)c.all / s / 1e6;
}

static double crowd_that_takes(const struct build *b, int batch)
{
	return run_crowd(b, batch, true, false);
}

static double crowd_and_taker(const struct build *b, int batch)
{
	return run_crowd(b, batch, false, false);
}

static double switches_of_crowd(const struct build *b, int batch)
{
	return run_crowd(b, batch, true, true);
}

/* ---- the others ------------------------------------------------------------------------------ */

static int by_value(const void *x, const void *y)
{
	const double a = *(const double *)x, b = *(const double *)y;

	return (a > b) - (a < b);
}

static double there_and_back(const struct build *b, int unused)
{
	enum { TRIPS = 4000 };
	static double ns[TRIPS];
	const int trips = smoke ? 10 : TRIPS;
	GpuQueue *q = open_queue(b, 64, 1);
	const struct load one = { b, q, 1, 1 };

	(void)unused;
	for (int i = 0; i < trips; i++) {
		const uint64_t began = ns_of(CLOCK_MONOTONIC);
		Completion done;
		char result[MAX_BYTES];
		size_t n = 0;

		while (send_up_to(&one, 1) == 0)
			;
		while (n == 0)
			b->call.poll_results(q, &done, 1, &n);
		memcpy(result, done.result, done.result_len);
		__asm__ volatile("" ::"r"(result) : "memory");
		ns[i] = (double)(ns_of(CLOCK_MONOTONIC) - began);
		b->call.release_batch(q, &done.msg_id, 1);
	}
	b->call.shutdown(q);
	qsort(ns, (size_t)trips, sizeof(*ns), by_value);
	return ns[trips / 2];
}

static double sent_and_taken(const struct build *b, int batch)
{
	GpuQueue *q = open_queue(b, 64, 1);
	const struct load l = { b, q, (size_t)batch, 0 };
	const uint64_t began = ns_of(CLOCK_MONOTONIC);
	uint64_t total = 0, ns;

	while (total < messages / 2) {
		const size_t sent = send_up_to(&l, (size_t)batch);
		size_t taken = 0;

		while (taken < sent)
			taken += poll_and_release(b, q, sent - taken);
		total += sent;
	}
	ns = ns_of(CLOCK_MONOTONIC) - began;
	b->call.shutdown(q);
	return (double)total * 1e3 / (double)ns;
}

static double host_half(const struct build *b, int batch)
{
	enum { TIMES = 500 };
	static double ns[TIMES];
	const int times = smoke ? 2 : TIMES;
	GpuQueue *q = open_queue(b, slots, 0);
	const struct load l = { b, q, (size_t)batch, 0 };

	for (int i = 0; i < times; i++) {
		uint64_t spent, began = ns_of(CLOCK_MONOTONIC);

		send_up_to(&l, (size_t)batch);
		spent = ns_of(CLOCK_MONOTONIC) - began;
		b->call.drain(q, UINT32_MAX);
		began = ns_of(CLOCK_MONOTONIC);
		if (poll_and_release(b, q, (size_t)batch) != (size_t)batch)
			die(b->name, "a batch is not all there");
		spent += ns_of(CLOCK_MONOTONIC) - began;
		ns[i] = (double)spent / batch;
	}
	b->call.shutdown(q);
	qsort(ns, (size_t)times, sizeof(*ns), by_value);
	return ns[times / 2];
}

/* ---- the table ------------------------------------------------------------------------------- */

static const struct measure {
	const char *name;
	double (*run)(const struct build *b, int batch);
	int batch;
	bool crowd; /* of more than one sender; else of one */
} measures[] = {
	{ "throughput, 32 a call, M/s", throughput, 32, false },
	{ "throughput, 1 a call, M/s", throughput, 1, false },
	{ "there and back, ns", there_and_back, 1, false },
	{ "32 sent, 32 taken, M/s", sent_and_taken, 32, false },
	{ "host half, 32 a call, ns", host_half, 32, false },
	{ "crowd that takes, 32 a call, M/s", crowd_that_takes, 32, true },
	{ "crowd that takes, 1 a call, M/s", crowd_that_takes, 1, true },
	{ "crowd and taker, 32 a call, M/s", crowd_and_taker, 32, true },
	{ "crowd and taker, 1 a call, M/s", crowd_and_taker, 1, true },
	{ "switches of a crowd, of 1000 messages", switches_of_crowd, 32, true },
};

static void print_row(const struct measure *m, int rounds)
{
	double v[MAX_ROUNDS], ratio[MAX_ROUNDS];
	const size_t n = (size_t)rounds;

	printf("| %s ", m->name);
	for (int i = 0; i < n_builds; i++) {
		for (size_t k = 0; k < n; k++) {
			v[k] = builds[i].value[k];
			ratio[k] = v[k] / builds[0].value[k];
		}
		qsort(v, n, sizeof(*v), by_value);
		qsort(ratio, n, sizeof(*ratio), by_value);
		printf("| %.1f (%.1f to %.1f), %.2f ", v[n / 2], v[n / 4], v[n * 3 / 4],
		       ratio[n / 2]);
	}
	printf("|\n");
	fflush(stdout);
}

static void measure_all(int rounds)
{
	printf("| median (middle half), of the first ");
	for (int i = 0; i < n_builds; i++)
		printf("| %s ", builds[i].name);
	printf("|\n|---|");
	for (int i = 0; i < n_builds; i++)
		printf("---:|");
	printf("\n");
	for (size_t m = 0; m < sizeof(measures) / sizeof(measures[0]); m++) {
		if (strstr(measures[m].name, only) == NULL || measures[m].crowd != (senders > 1))
			continue;
		for (int k = 0; k < rounds; k++)
			for (int i = 0; i < n_builds; i++) {
				struct build *b = &builds[(i + k) % n_builds];

				b->value[k] = measures[m].run(b, measures[m].batch);
			}
		print_row(&measures[m], rounds);
	}
}

/* ---- the builds ------------------------------------------------------------------------------ */

static void load_build(char *argument)
{
	struct build *b = &builds[n_builds];
	char *path = strchr(argument, '='), *one;
	void *code;

	if (path == NULL || n_builds == MAX_BUILDS)
		die(argument, path == NULL ? "allowed: NAME=PATH[+one]" : "more than 8 builds");
	*path++ = '\0';
	b->name = argument;
	one = strstr(path, "+one");
	if (one != NULL) {
		*one = '\0';
		b->flags = Q_ONE_PRODUCER;
	}
	code = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (code == NULL)
		die(path, dlerror());
#define FIND(what)                                                                                 \
	do {                                                                                       \
		void *at_ = dlsym(code, "q_" #what);                                               \
		if (at_ == NULL)                                                                   \
			die(path, "no q_" #what "()");                                             \
		memcpy(&b->call.what, &at_, sizeof(at_));                                          \
	} while (0)
	FIND(init);
	FIND(shutdown);
	FIND(last_error);
	FIND(enqueue);
	FIND(enqueue_batch);
	FIND(poll_results);
	FIND(release_batch);
	FIND(drain);
#undef FIND
	n_builds++;
}

/* The number behind option argv[i]. */
static uint32_t number_of(int argc, char **argv, int i, uint32_t min, uint32_t max)
{
	char *end = NULL;
	const unsigned long n = i + 1 < argc ? strtoul(argv[i + 1], &end, 10) : 0;

	if (n < min || n > max || *end != '\0') {
		fprintf(stderr, "queue_versions: %s is '%s'; allowed: %" PRIu32 " to %" PRIu32 "\n",
			argv[i], i + 1 < argc ? argv[i + 1] : "", min, max);
		exit(2);
	}
	return (uint32_t)n;
}

int main(int argc, char **argv)
{
	uint32_t rounds = 30;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--smoke") == 0) {
			smoke = true;
			messages = 200;
			rounds = 1;
		} else if (strcmp(argv[i], "--rounds") == 0) {
			rounds = number_of(argc, argv, i++, 1, MAX_ROUNDS);
		} else if (strcmp(argv[i], "--bytes") == 0) {
			bytes = number_of(argc, argv, i++, 1, MAX_BYTES);
		} else if (strcmp(argv[i], "--slots") == 0) {
			slots = number_of(argc, argv, i++, MAX_BATCH, 1u << 20);
		} else if (strcmp(argv[i], "--consumers") == 0) {
			consumers = number_of(argc, argv, i++, 1, Q_MAX_CONSUMERS);
		} else if (strcmp(argv[i], "--senders") == 0) {
			senders = number_of(argc, argv, i++, 1, MAX_SENDERS);
		} else if (strcmp(argv[i], "--only") == 0 && i + 1 < argc) {
			only = argv[++i];
		} else {
			load_build(argv[i]);
		}
	}
	for (int i = 0; i < n_builds && senders > 1; i++)
		if (builds[i].flags != 0)
			die(builds[i].name, "+one: allowed: only with --senders 1");
	if (n_builds == 0) {
		fprintf(stderr,
			"usage: queue_versions [--smoke] [--rounds N] [--bytes N] [--slots N] "
			"[--consumers N] [--senders N] [--only TEXT] NAME=libgpuq.so[+one]...\n");
		return 2;
	}
	if (!smoke && messages < 3 * slots) /* each slot is used again and again */
		messages = 3 * slots;
	measure_all((int)rounds);
	return 0;
}
