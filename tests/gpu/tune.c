/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tune.c - the stage tune of gpu_check: what each setting of GPUQ_TUNE, and the number of blocks,
 * does to one message at a time and to many. With each figure comes what the grid has counted. The
 * bare flag is measured in the same process, by the same thread on the same CPU.
 *
 * Many: the queue is filled while it is paused, and then resumed, so that the grid alone limits.
 */
#include "device/cuda/host/state.h"
#include "device/cuda/host/tally.h"
#include "gpu_check.h"

#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Through the stand-in driver, which only shows that this program works, a few. */
enum { REPEATS = 3, LONE = 3000, WARM = 300, MANY = 65536, STANDIN_LONE = 30, STANDIN_MANY = 256 };
enum { STANDIN_CASES = 4 };

/* A case: the settings, and so many blocks. */
struct setting {
	const char *tune;
	uint32_t blocks; /* 0: the default; ALL: one a multiprocessor */
	uint32_t bytes;
};
#define ALL UINT32_MAX

/* What tells the most comes first: the stage may end early. */
static const struct setting lone[] = {
	{ "", 0, 64 },          { "scouts:4", 0, 64 }, { "scouts:2", 0, 64 }, { "", ALL, 64 },
	{ "journal:0", 0, 64 }, { "", 0, 8 },          { "", 0, 512 },        { "", 1, 64 },
	{ "scouts:1", 0, 64 },  { "scouts:8", 0, 64 }, { "seal:0", 0, 64 },   { "ahead:0", 0, 64 },
	{ "domain:0", 0, 64 },  { "nap:250", 0, 64 },  { "", 4, 64 },
};
static const struct setting many[] = {
	{ "", 0, 64 },
	{ "feeders:4", 0, 64 },
	{ "", ALL, 64 },
	{ "", 4, 64 },
	{ "feeders:2", 0, 64 },
	{ "journal:0", 0, 64 },
	{ "feeders:4", ALL, 64 },
	{ "", 33, 64 },
	{ "", 66, 64 },
	{ "seal:0", 0, 64 },
	{ "domain:0", 0, 64 },
	{ "feed:104", 0, 64 },
	{ "", 1, 64 },
};
static const struct setting many_threads[] = {
	{ "", 0, 64 },
	{ "", ALL, 64 },
	{ "", 4, 64 },
	{ "batch:8", 0, 64 },
};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static bool counted; /* by images of our own around echo; through the stand-in by the test's */
static uint32_t sms;
static uint64_t until_ns;

/* ---- one thread on one CPU ------------------------------------------------------------------- */

static cpu_set_t before;

/* Threads that the driver starts must not get this CPU alone, so it is for the measuring only. */
static void pin(void)
{
	cpu_set_t one;

	if (on_standin() || sched_getaffinity(0, sizeof(before), &before) != 0)
		return;
	CPU_ZERO(&one);
	for (size_t i = CPU_SETSIZE; i-- > 0 && CPU_COUNT(&one) == 0;)
		if (CPU_ISSET(i, &before))
			CPU_SET(i, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

static void unpin(void)
{
	if (!on_standin())
		sched_setaffinity(0, sizeof(before), &before);
}

/* ---- queues ---------------------------------------------------------------------------------- */

static GpuQueue *open_with(const struct setting *s, uint32_t granularity, uint32_t capacity)
{
	QueueConfig cfg = { .capacity = capacity,
			    .slot_bytes = s->bytes,
			    .device = Q_DEVICE_CUDA,
			    .granularity = granularity,
			    .consumers = s->blocks == ALL ? sms : s->blocks,
			    .idle_park_ms = UINT32_MAX,
			    .processor = !counted           ? processor
					 : granularity == 0 ? "echo_counted_thread"
							    : "echo_counted" };
	GpuQueue *q;

	alive("tune: q_init");
	if (strcmp(processor, "test") == 0) {
		cfg.processor_data = test_data();
		cfg.processor_data_bytes = sizeof(*test_data());
	}
	setenv("GPUQ_TUNE", s->tune, 1);
	q = q_init(&cfg);
	unsetenv("GPUQ_TUNE");
	if (q == NULL)
		verdict(false, "tune: q_init", q_last_error());
	return q;
}

/* What the grid has counted, for each message; and the end of the queue. */
static void tell_tally(GpuQueue *q)
{
	struct gq_tally t;

	if (q_pause(q, LONG_MS) == Q_OK && gq__tally_read(q->device_state, &t) && t.messages != 0) {
#define TELL(name, what) printf(",\"" #name "\":%.4g", (double)t.name / (double)t.messages);
		GQ_TALLY_LIST(TELL)
#undef TELL
		if (t.singles != 0)
			printf(",\"whole\":%.3f", (double)t.wholes / (double)t.singles);
	}
	printf("}\n");
	fflush(stdout);
	q_resume(q);
	q_shutdown(q);
}

static void tell_case(const char *name, const struct setting *s, const GpuQueue *q, unsigned repeat)
{
	printf("{\"case\":\"%s\",\"settings\":\"%s%s%" PRIu32 " blocks\",\"size_bytes\":%" PRIu32
	       ",\"repeat\":%u",
	       name, s->tune, s->tune[0] != '\0' ? ", " : "", q->cfg.consumers, s->bytes, repeat);
}

/* ---- the bare flag --------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool answered(const uint64_t *pong, uint64_t i)
{
	const uint64_t begun = gq__now_ns();

	for (uint32_t polls = 1; gq_load_acquire_u64(pong) != i; polls++) {
		if (on_standin()) /* its kernels are threads */
			sched_yield();
		if (polls % 65536 == 0 && gq__now_ns() - begun > UINT64_C(10000000000))
			return false;
	}
	return true;
}

/* One word there and one back, by a kernel of the image that does nothing else. The queue is
 * paused: its grid is not there. */
static const char *time_flag(struct gq_cuda *c, uint64_t *words, uint64_t *ns, unsigned n)
{
	const unsigned warm = on_standin() ? 1 : WARM;
	uint64_t *ping = words, *pong = words + GQ_LINE / sizeof(*words), last = n + warm;
	void *arguments[] = { &ping, &pong, &last };
	CUfunction kernel;

	if (c->cu->cuModuleGetFunction(&kernel, c->module, "tune_flag") != GQ_CU_SUCCESS)
		return "the image has no kernel tune_flag";
	gq_store_release_u64(ping, 0); /* [control.write]: the kernel begins behind it */
	gq_store_release_u64(pong, 0); /* [control.write] */
	if (c->cu->cuLaunchKernel(kernel, 1, 1, 1, 1, 1, 1, 0, c->stream, arguments, NULL) !=
	    GQ_CU_SUCCESS)
		return "tune_flag was not launched";
	pin();
	for (uint64_t i = 1; i <= last; i++) {
		const uint64_t begun = gq__now_ns();

		gq_store_release_u64(ping, i); /* [control.write] */
		if (!answered(pong, i)) {
			unpin();
			return "tune_flag does not answer";
		}
		if (i > warm)
			ns[i - warm - 1] = gq__now_ns() - begun;
		if (i % 16 == 0)
			alive("tune: the bare flag");
	}
	unpin();
	return c->cu->cuStreamSynchronize(c->stream) == GQ_CU_SUCCESS ? NULL : "tune_flag failed";
}

static void measure_flag(unsigned repeat)
{
	static const struct setting s = { "", 0, 64 };
	const unsigned n = on_standin() ? STANDIN_LONE : LONE;
	uint64_t *ns = malloc(n * sizeof(*ns));
	GpuQueue *q = open_with(&s, 1, 64);
	struct gq_cuda *c;
	const char *why = NULL;
	CUcontext ours;
	void *words;

	alive("tune: the bare flag");
	if (q == NULL || q_pause(q, LONG_MS) != Q_OK) {
		free(ns);
		q_shutdown(q);
		return;
	}
	c = q->device_state;
	if (c->cu->cuCtxPushCurrent(c->context) != GQ_CU_SUCCESS) {
		why = "no context";
	} else {
		if (c->cu->cuMemHostAlloc(&words, (size_t)2 * GQ_LINE,
					  GQ_CU_MEMHOSTALLOC_PORTABLE |
						  GQ_CU_MEMHOSTALLOC_DEVICEMAP) != GQ_CU_SUCCESS) {
			why = "no pinned memory";
		} else {
			why = time_flag(c, words, ns, n);
			c->cu->cuMemFreeHost(words);
		}
		c->cu->cuCtxPopCurrent(&ours);
	}
	if (why == NULL) {
		qsort(ns, n, sizeof(*ns), compare);
		printf("{\"case\":\"tune_flag\",\"repeat\":%u,\"unit\":\"ns\",\"p50\":%" PRIu64
		       ",\"p99\":%" PRIu64 ",\"multiprocessors\":%" PRIu32
		       ",\"canary_full_ns\":%" PRId64 "}\n",
		       repeat, ns[n / 2], ns[n - 1 - n / 100], c->sms,
		       (int64_t)c->measured.canary_full);
	} else {
		verdict(false, "tune: the bare flag", why);
	}
	sms = c->sms;
	q_resume(q);
	q_shutdown(q);
	free(ns);
}

/* ---- one at a time, and many ----------------------------------------------------------------- */

static bool one_trip(GpuQueue *q, const uint8_t *payload, uint32_t bytes, uint64_t *ns)
{
	const uint64_t begun = gq__now_ns();
	Completion done;
	size_t count = 0;

	if (q_enqueue(q, payload, bytes, NULL, LONG_MS) != Q_OK)
		return false;
	while (count == 0)
		if (q_poll_results(q, &done, 1, &count) != Q_OK)
			return false;
	*ns = gq__now_ns() - begun;
	return q_release(q, done.msg_id) == Q_OK;
}

static void measure_lone(const struct setting *s, unsigned repeat)
{
	const unsigned n = on_standin() ? STANDIN_LONE : LONE, warm = on_standin() ? 1 : WARM;
	uint64_t *ns = calloc(n + warm, sizeof(*ns));
	uint8_t *payload = calloc(1, s->bytes);
	GpuQueue *q = open_with(s, 1, 64);
	unsigned i = 0;

	pin();
	while (q != NULL && i < n + warm && one_trip(q, payload, s->bytes, &ns[i]))
		if (i++ % 16 == 0)
			alive("tune: one at a time");
	unpin();
	if (i == n + warm) {
		qsort(ns + warm, n, sizeof(*ns), compare);
		tell_case("tune_lone", s, q, repeat);
		printf(",\"unit\":\"ns\",\"p50\":%" PRIu64 ",\"p99\":%" PRIu64, ns[warm + n / 2],
		       ns[warm + n - 1 - n / 100]);
		tell_tally(q);
	} else if (q != NULL) {
		verdict(false, "tune: one at a time", q_last_error());
		q_shutdown(q);
	}
	free(payload);
	free(ns);
}

/* Fills the paused queue. @return how many */
static uint64_t fill_up(GpuQueue *q, uint32_t bytes, uint32_t n)
{
	static const uint8_t payload[512];
	uint64_t sent = 0;

	while (sent < n && q_enqueue(q, payload, bytes, NULL, 0) == Q_OK)
		sent++;
	return sent;
}

/* From resuming until the last completion has been posted. Nobody takes anything meanwhile.
 * @return 0: not all came */
static uint64_t drain_ns(GpuQueue *q, uint64_t n)
{
	const struct gq_word_ring *done = &q->ch.done;
	const uint64_t first = *done->head, last = first + n - 1, begun = gq__now_ns();

	if (q_resume(q) != Q_OK)
		return 0;
	while (!gq_word_ring_is_at(done, gq_load_acquire_u64(gq_word_ring_entry(done, last)), last))
		if (gq__now_ns() - begun > UINT64_C(10000000000))
			return 0;
	for (uint64_t pos = first; pos < last; pos++) /* the last may have come before others */
		while (!gq_word_ring_is_at(done, gq_load_acquire_u64(gq_word_ring_entry(done, pos)),
					   pos))
			if (gq__now_ns() - begun > UINT64_C(10000000000))
				return 0;
	return gq__now_ns() - begun;
}

static void measure_many(const char *name, const struct setting *s, uint32_t granularity,
			 unsigned repeat)
{
	const uint32_t n = on_standin() ? STANDIN_MANY : MANY;
	GpuQueue *q = open_with(s, granularity, n);
	uint64_t ns = 0, sent;

	alive("tune: many");
	if (q == NULL)
		return;
	if (q_pause(q, LONG_MS) == Q_OK) {
		sent = fill_up(q, s->bytes, n);
		pin();
		ns = sent == n ? drain_ns(q, n) : 0;
		unpin();
	}
	if (ns == 0) {
		verdict(false, "tune: many", q_last_error());
		q_shutdown(q);
		return;
	}
	tell_case(name, s, q, repeat);
	printf(",\"unit\":\"messages/s\",\"value\":%.0f", (double)n * 1e9 / (double)ns);
	tell_tally(q);
}

/* Whether the i-th case is to be measured: whether there are so many multiprocessors. */
static bool fits(const struct setting *s, unsigned i)
{
	if (on_standin() && i >= STANDIN_CASES)
		return false;
	return s->blocks == ALL || s->blocks <= sms;
}

static bool has_time(void)
{
	return gq__now_ns() < until_ns;
}

void tune(unsigned seconds)
{
	counted = strcmp(processor, "echo") == 0;
	until_ns = gq__now_ns() + seconds * UINT64_C(1000000000);
	for (unsigned r = 0; r < (on_standin() ? 1 : REPEATS) && has_time(); r++) {
		measure_flag(r);
		if (sms == 0)
			break;
		for (unsigned i = 0; i < COUNT(lone) && has_time(); i++)
			if (fits(&lone[i], i))
				measure_lone(&lone[i], r);
		for (unsigned i = 0; i < COUNT(many) && has_time(); i++)
			if (fits(&many[i], i))
				measure_many("tune_warp", &many[i], 1, r);
		for (unsigned i = 0; counted && i < COUNT(many_threads) && has_time(); i++)
			if (fits(&many_threads[i], i))
				measure_many("tune_thread", &many_threads[i], 0, r);
	}
	if (!has_time())
		printf("tune: no time for all\n");
	verdict(sms != 0, "tune", "");
}
