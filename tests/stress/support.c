/* SPDX-License-Identifier: Apache-2.0 */
/* support.c - what the stress tests share, but for the traffic. */
#include "stress.h"

#include "standin.h"

#include <gpuq/processor.h>

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#define UNDER_ASAN 0
#elif defined(__SANITIZE_ADDRESS__)
#define UNDER_TSAN 0
#define UNDER_ASAN 1
#else
#define UNDER_TSAN 0
#define UNDER_ASAN 0
#endif

/* ---- the run ------------------------------------------------------------------------------ */

uint64_t stress_seed;
bool stress_quiet;

static double scale = 1.0;
static pthread_mutex_t phase_lock = PTHREAD_MUTEX_INITIALIZER;
static char phase[512] = "start";
static GpuQueue *phase_queue;
static uint64_t phase_ends_ns;

/* Without locks: whoever holds them may be what hangs. */
static void picture(const GpuQueue *q)
{
	static const char *const phases[] = { "free",   "reserved", "revoked",
					      "queued", "done",     "polled" };

	if (q == NULL)
		return;
	fprintf(stderr,
		"  queue: capacity %" PRIu32 ", consumers %" PRIu32 ", control %#" PRIx64
		", live consumers %" PRIu32 "\n  pool: head %" PRIu64 "%s, tail %" PRIu64
		"; done: head %" PRIu64 ", tail %" PRIu64 "; finished: %" PRIu64 " to %" PRIu64
		"\n  sleepers: work %#" PRIx64 ", room %#" PRIx64 ", any %#" PRIx64
		", resumed %#" PRIx64 ", answered %#" PRIx64 "\n",
		q->cfg.capacity, q->cfg.consumers, get(q->control),
		(uint32_t)get(q->live_consumers), get(q->pool_pos.head) >> 1,
		(get(q->pool_pos.head) & GQ_POOL_CLOSED) != 0 ? " (closed)" : "",
		get(q->pool_pos.tail), get(q->done_pos.head), get(q->done_pos.tail),
		get(q->finished_head), get(q->finished_tail), get(q->work.word), get(q->room.word),
		get(q->any.word), get(q->resumed.word), get(q->answered.word));
	for (uint32_t c = 0; c < GQ_CLASSES; c++)
		fprintf(stderr, "  class %" PRIu32 ": head %" PRIu64 ", tail %" PRIu64 "\n", c,
			get(q->ready_pos[c].head), get(q->ready_pos[c].tail));
	for (uint32_t i = 0; i < q->cfg.capacity && i < 16; i++) {
		uint64_t state = get(q->records[i].state);
		uint32_t p = (uint32_t)(state & GQ_PHASE_MASK);

		fprintf(stderr, "  slot %" PRIu32 ": position %#" PRIx64 " %s, armed %" PRIu32 "\n",
			i, state & ~q->slot_mask, p < 6 ? phases[p] : "?",
			get(gq_slot_at(&q->ch, i)->armed));
	}
}

static void say_where(void)
{
	fprintf(stderr, "  phase: %s\n  seed: %" PRIu64 " (GPUQ_STRESS_SEED)\n", phase,
		stress_seed);
	picture(phase_queue);
}

void stress_fail(const char *file, int line, const char *condition, const char *format, ...)
{
	char error[512];
	va_list args;

	snprintf(error, sizeof(error), "%s", q_last_error());
	fprintf(stderr, "%s:%d: FAILED: %s\n  ", file, line, condition);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n  this thread's last error: %s\n", error);
	say_where();
	fflush(NULL);
	if (getenv("GPUQ_STRESS_ABORT") != NULL)
		abort();
	_exit(1);
}

static void *watch(void *arg)
{
	(void)arg;
	for (;;) {
		stress_nap_us(200000);
		if (gq__now_ns() > get(phase_ends_ns)) {
			fprintf(stderr, "FAILED: nothing has moved on for too long\n");
			say_where();
			fflush(NULL);
			if (getenv("GPUQ_STRESS_ABORT") != NULL)
				abort();
			_exit(1);
		}
	}
	return NULL;
}

void stress_phase(GpuQueue *q, const char *format, ...)
{
	static int verbose = -1;
	va_list args;

	if (verbose < 0)
		verbose = getenv("GPUQ_STRESS_VERBOSE") != NULL;
	va_start(args, format);
	pthread_mutex_lock(&phase_lock);
	vsnprintf(phase, sizeof(phase), format, args);
	phase_queue = q;
	pthread_mutex_unlock(&phase_lock);
	va_end(args);
	put(phase_ends_ns, gq__now_ns() + (UNDER_TSAN ? UINT64_C(600) : 120) * 1000000000u);
	if (verbose)
		fprintf(stderr, "%s\n", phase);
}

void ledger_process(const MsgView *in, ResultView *out);
/* standin_ledger.cc */
extern const struct standin_image standin_ledger_thread, standin_ledger_warp, standin_ledger_block,
	standin_ledger_warps;

/* GPUQ_TEST_IMAGE: thread, block, or warps (several a block); else a warp. */
static void choose_image(QProcessorImage *image)
{
	const char *name = getenv("GPUQ_TEST_IMAGE");

	if (name == NULL)
		return;
	if (strcmp(name, "thread") == 0) {
		image->granularity = Q_PER_THREAD;
		image->device_image = &standin_ledger_thread;
	} else if (strcmp(name, "block") == 0) {
		image->granularity = Q_PER_BLOCK;
		image->device_image = &standin_ledger_block;
	} else if (strcmp(name, "warps") == 0) {
		image->device_image = &standin_ledger_warps;
	}
}

void stress_begin(int argc, char **argv)
{
	static QProcessorImage image = { .magic = Q_PROCESSOR_MAGIC,
					 .protocol_version = Q_PROTOCOL_VERSION,
					 .granularity = Q_PER_WARP,
					 .name = "ledger",
					 .cpu = ledger_process,
					 .device_image = &standin_ledger_warp };
	const char *seed = argc > 1 ? argv[1] : getenv("GPUQ_STRESS_SEED");
	const char *factor = getenv("GPUQ_STRESS_SCALE");
	const char *only = getenv("GPUQ_STRESS_ONLY");
	pthread_t watcher;

	stress_seed = seed != NULL && seed[0] != '\0' ? strtoull(seed, NULL, 0)
						      : gq__now_ns() ^ (uint64_t)getpid() << 32;
	scale = UNDER_TSAN ? 0.25 : UNDER_ASAN ? 0.4 : 1.0;
	if (factor != NULL && factor[0] != '\0')
		scale *= strtod(factor, NULL);
	if (only != NULL && only[0] != '\0')
		cmocka_set_test_filter(only);
	if (!stress_quiet)
		fprintf(stderr, "seed %" PRIu64 " (GPUQ_STRESS_SEED repeats it), scale %g%s\n",
			stress_seed, scale, stress_can_stall() ? ", with GPUQ_CHAOS" : "");
	choose_image(&image);
	q_register_processor(&image);
	stress_phase(NULL, "start");
	if (pthread_create(&watcher, NULL, watch, NULL) == 0)
		pthread_detach(watcher);
}

uint32_t stress_device(void)
{
	const char *device = getenv("GPUQ_TEST_DEVICE");

	return device != NULL && strcmp(device, "cuda") == 0 ? Q_DEVICE_CUDA : Q_DEVICE_CPU;
}

uint32_t stress_scaled(uint32_t n)
{
	double scaled = n * scale;

	return scaled < 1 ? 1 : scaled > UINT32_MAX ? UINT32_MAX : (uint32_t)scaled;
}

pthread_t stress_thread(void *(*run)(void *), void *arg)
{
	pthread_t thread;
	int rc = pthread_create(&thread, NULL, run, arg);

	must(rc == 0, "pthread_create: %s", strerror(rc));
	return thread;
}

void stress_join(pthread_t thread)
{
	pthread_join(thread, NULL);
}

void stress_nap_us(uint32_t us)
{
	struct timespec nap = { us / 1000000u, (long)(us % 1000000u) * 1000 };

	nanosleep(&nap, NULL);
}

/* ---- random numbers ------------------------------------------------------------------------ */

uint64_t mix64(uint64_t x) /* the finisher of SplitMix64 (Steele, Lea, Flood 2014) */
{
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

struct rng rng_of(uint64_t stream)
{
	return (struct rng){ mix64(stress_seed + mix64(stream + 1)) };
}

uint64_t rng_next(struct rng *r)
{
	return mix64(r->state += UINT64_C(0x9e3779b97f4a7c15));
}

uint32_t rng_below(struct rng *r, uint32_t n)
{
	return (uint32_t)((rng_next(r) >> 32) * n >> 32);
}

bool rng_one_in(struct rng *r, uint32_t n)
{
	return rng_below(r, n) == 0;
}

/* ---- stalls --------------------------------------------------------------------------------- */

static uint32_t stalled, release_count;

#if defined(GPUQ_CHAOS)

void __real_gq__chaos(void);
void __wrap_gq__chaos(void);

static _Thread_local uint32_t stall_self;
static uint32_t stall_named;        /* windows left */
static const char *stall_name = ""; /* atomic; constant strings */
static uint32_t threads_seen;

static void stand_still(void)
{
	uint32_t seen = get(release_count);

	bump(stalled, 1);
	while (get(release_count) == seen)
		stress_nap_us(50);
	bump(stalled, UINT32_MAX);
}

static bool is_named(void)
{
	static _Thread_local char name[16];

	if (name[0] == '\0')
		prctl(PR_GET_NAME, name);
	return strcmp(name, __atomic_load_n(&stall_name, __ATOMIC_ACQUIRE)) == 0;
}

/* In place of the library's: see options.cmake. */
void __wrap_gq__chaos(void)
{
	static _Thread_local struct rng r;
	uint64_t dice;

	if (r.state == 0)
		r = rng_of(0xc4a05 + bump(threads_seen, 1));
	if (stall_self != 0 && --stall_self == 0)
		stand_still();
	if (__atomic_load_n(&stall_named, __ATOMIC_ACQUIRE) != 0 && is_named() &&
	    __atomic_fetch_sub(&stall_named, 1, __ATOMIC_RELAXED) == 1)
		stand_still();
	dice = rng_next(&r);
	if (dice % 32 == 0)
		sched_yield();
	else if (dice % 1024 == 1)
		stress_nap_us((uint32_t)(dice >> 32) % 100);
	else if (dice % 16384 == 2)
		stress_nap_us((uint32_t)(dice >> 32) % 3000);
}

bool stress_can_stall(void)
{
	return true;
}

void stress_stall_self(uint32_t n)
{
	stall_self = n;
}

void stress_stall_named(const char *name, uint32_t n)
{
	__atomic_store_n(&stall_name, name, __ATOMIC_RELEASE);
	__atomic_store_n(&stall_named, n, __ATOMIC_RELEASE);
}

#else

bool stress_can_stall(void)
{
	return false;
}

void stress_stall_self(uint32_t n)
{
	(void)n;
}

void stress_stall_named(const char *name, uint32_t n)
{
	(void)name;
	(void)n;
}

#endif

uint32_t stress_stalled(void)
{
	return get(stalled);
}

void stress_stall_end(void)
{
	bump(release_count, 1);
	must_come(get(stalled) == 0, "a thread is still standing still");
}

/* ---- messages ------------------------------------------------------------------------------- */

enum { PAYLOAD = 1, RESULT = 2 };

static uint64_t stream_of(uint32_t number, uint32_t kind)
{
	return mix64(stress_seed ^ (uint64_t)number << 2 ^ kind);
}

/* Number, check, then bytes that follow from the check. */
static void write_stream(uint32_t number, uint32_t kind, uint8_t *to, uint32_t len)
{
	uint64_t word[2] = { number, stream_of(number, kind) };

	memcpy(to, word, sizeof(word));
	for (uint32_t at = sizeof(word); at < len; at += 8) {
		uint64_t w = mix64(word[1] + at);

		memcpy(to + at, &w, len - at < 8 ? len - at : 8);
	}
}

static uint32_t read_stream(const struct ledger *l, uint32_t kind, const uint8_t *from, size_t len)
{
	const char *what = kind == PAYLOAD ? "message" : "result";
	uint64_t word[2];
	uint32_t number;

	must(len >= sizeof(word), "a %s has %zu bytes, too few for any", what, len);
	memcpy(word, from, sizeof(word));
	must(word[0] < l->max, "a %s says it has number %" PRIu64 "; there are %" PRIu32, what,
	     word[0], l->max);
	number = (uint32_t)word[0];
	must(word[1] == stream_of(number, kind), "%s %" PRIu32 " has a wrong check", what, number);
	for (size_t at = sizeof(word); at < len; at += 8) {
		uint64_t w = mix64(word[1] + at);

		must(memcmp(from + at, &w, len - at < 8 ? len - at : 8) == 0,
		     "%s %" PRIu32 " is damaged at byte %zu of %zu", what, number, at, len);
	}
	return number;
}

static uint32_t length_of(uint32_t number, uint32_t kind, uint32_t room)
{
	uint64_t dice = mix64(stream_of(number, kind) + 1);

	/* The largest and the smallest more often. */
	return dice % 8 == 0 ? room
			     : MESSAGE_MIN + (uint32_t)((dice >> 8) % (room - MESSAGE_MIN + 1));
}

uint32_t ledger_length(const struct ledger *l, uint32_t number)
{
	return length_of(number, PAYLOAD, l->slot_bytes);
}

void ledger_write(const struct ledger *l, uint32_t number, void *payload, uint32_t len)
{
	(void)l;
	if (len != 0)
		write_stream(number, PAYLOAD, payload, len);
}

uint32_t ledger_read(const struct ledger *l, const void *result, size_t len)
{
	uint32_t number = read_stream(l, RESULT, result, len);

	must(len == length_of(number, RESULT, l->result_bytes),
	     "result %" PRIu32 " has %zu bytes; it should have %" PRIu32, number, len,
	     length_of(number, RESULT, l->result_bytes));
	return number;
}

void ledger_process(const MsgView *in, ResultView *out)
{
	struct ledger *l = *(struct ledger *const *)in->user;
	uint32_t number;

	bump(l->running, 1);
	if (in->len != 0) {
		number = read_stream(l, PAYLOAD, in->payload, in->len);
		must(in->len == ledger_length(l, number),
		     "message %" PRIu32 " has %" PRIu32 " bytes", number, in->len);
		must(in->tag == 0 || in->tag == number + UINT64_C(1),
		     "message %" PRIu32 " has tag %" PRIu64, number, in->tag);
	} else {
		must(in->tag != 0 && in->tag <= l->max, "an empty message has tag %" PRIu64,
		     in->tag);
		number = (uint32_t)(in->tag - 1);
	}
	must(out->cap == l->result_bytes, "cap is %" PRIu32, out->cap);
	must(bump(l->runs[number], 1) == 0, "message %" PRIu32 " is processed a second time",
	     number);
	switch (in->opcode) {
	case OP_SLOW:
		if (number % 2 == 0)
			sched_yield();
		else
			stress_nap_us(number % 64);
		break;
	case OP_GATED:
		bump(l->gated, 1);
		while (get(l->gate) <= in->tag)
			stress_nap_us(20);
		break;
	case OP_ORDER:
		l->order[bump(l->n_order, 1)] = in->tag;
		break;
	default:
		break;
	}
	if (in->opcode == OP_FAIL) {
		*out->status = 1 + number % 3;
		*out->out_len = number % 5;
	} else if (in->opcode == OP_TOO_LONG) {
		*out->out_len = out->cap + 1;
	} else {
		*out->out_len = length_of(number, RESULT, l->result_bytes);
		write_stream(number, RESULT, out->out, *out->out_len);
	}
	bump(l->running, UINT32_MAX);
}

void ledger_begin(struct ledger *l, uint32_t max, uint32_t slot_bytes, uint32_t result_bytes)
{
	*l = (struct ledger){ .max = max,
			      .slot_bytes = slot_bytes,
			      .result_bytes = result_bytes,
			      .runs = calloc(max, sizeof(*l->runs)) };
	must(l->runs != NULL, "out of memory");
}

void ledger_end(struct ledger *l)
{
	free(l->runs);
	free(l->order);
}

GpuQueue *ledger_queue(struct ledger *l, uint32_t capacity, uint32_t consumers, uint64_t start_pos,
		       uint32_t idle_park_ms)
{
	QueueConfig config = { .capacity = capacity,
			       .slot_bytes = l->slot_bytes,
			       .result_bytes = l->result_bytes,
			       .device = stress_device(),
			       .consumers = consumers,
			       .idle_park_ms = idle_park_ms,
			       .shutdown_timeout_ms = UINT32_MAX,
			       .processor = "ledger",
			       .processor_data = &l,
			       .processor_data_bytes = sizeof(l) };
	GpuQueue *q;

	gq__start_pos = start_pos;
	q = q_init(&config);
	gq__start_pos = 1;
	must(q != NULL, "q_init: %s", q_last_error());
	return q;
}

uint64_t ledger_send(struct ledger *l, GpuQueue *q, uint32_t number, uint32_t opcode,
		     uint64_t flags)
{
	EnqueueOptions options = { .opcode = opcode, .tag = number + UINT64_C(1), .flags = flags };
	uint32_t len = ledger_length(l, number);
	uint8_t payload[4096];
	uint64_t id;

	must(len <= sizeof(payload), "len is %" PRIu32, len);
	ledger_write(l, number, payload, len);
	must_be(Q_OK, q_enqueue_ex(q, payload, len, &options, &id, UINT32_MAX));
	return id;
}
