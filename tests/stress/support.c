/* SPDX-License-Identifier: Apache-2.0 */
/* support.c - what the stress tests share, but for the traffic. */
#include "host/base/sanitize.h"
#include "stress.h"

#include "host/base/fault.h"

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
		(uint32_t)get(q->live_consumers),
		gq_pool_start(&q->pool, get(q->pool_pos.head)) +
			gq_pool_taken(&q->pool, get(q->pool_pos.head)),
		(get(q->pool_pos.head) & GQ_POOL_CLOSED) != 0 ? " (closed)" : "",
		get(q->pool_pos.tail), get(q->done_pos.head), get(q->done_pos.tail),
		get(q->finished_first), get(q->finished_last), get(q->work.word), get(q->room.word),
		get(q->any.word), get(q->resumed.word), get(q->answered.word));
	for (uint32_t c = 0; c < GQ_CLASSES; c++)
		fprintf(stderr, "  class %" PRIu32 ": head %" PRIu64 ", tail %" PRIu64 "\n", c,
			get(q->ready_pos[c].head), get(q->ready_pos[c].tail));
	for (uint32_t i = 0; i < q->cfg.capacity && i < 16; i++) {
		uint64_t state = get(q->host_slots[i].state);
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
			fprintf(stderr, "FAILED: this phase has not ended for too long\n");
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
	put(phase_ends_ns, gq__now_ns() + (GQ_TSAN ? UINT64_C(1800) : 900) * 1000000000u);
	if (verbose)
		fprintf(stderr, "%s\n", phase);
}

void ledger_process(const MsgView *in, ResultView *out);
/* standin_ledger.cc, ledger.cu; those for GPUs are NULL without nvcc */
extern const struct standin_image standin_ledger_thread, standin_ledger_warp, standin_ledger_block,
	standin_ledger_warps;
extern const void *const gpu_ledger_thread, *const gpu_ledger_warp, *const gpu_ledger_block,
									    *const gpu_ledger_warps;

/* GPUQ_TEST_IMAGE: thread, block, or warps (several a block); else a warp. */
static void choose_image(QProcessorImage *image)
{
	const char *name = getenv("GPUQ_TEST_IMAGE");
	const void *standin = &standin_ledger_warp, *gpu = gpu_ledger_warp;

	if (name != NULL && strcmp(name, "thread") == 0) {
		image->granularity = Q_PER_THREAD;
		standin = &standin_ledger_thread;
		gpu = gpu_ledger_thread;
	} else if (name != NULL && strcmp(name, "block") == 0) {
		image->granularity = Q_PER_BLOCK;
		standin = &standin_ledger_block;
		gpu = gpu_ledger_block;
	} else if (name != NULL && strcmp(name, "warps") == 0) {
		standin = &standin_ledger_warps;
		gpu = gpu_ledger_warps;
	}
	image->device_image = on_standin() ? standin : gpu;
	if (on_gpu() && image->device_image == NULL) {
		printf("skipped: built without nvcc: the tests' processor has no image\n");
		fflush(stdout);
		_exit(77);
	}
}

/* ---- memory that ledgers share with a GPU: the last one to go empties it --------------------- */

enum { ARENA_BYTES = 64 << 20, ARENA_GATES = 4096 };

static struct {
	uint8_t *device; /* counts */
	uint64_t *gates; /* pinned */
	size_t used;
	uint32_t gates_used, ledgers;
} arena;

static void arena_begin(void)
{
	gpu_begin();
	arena.device = gpu_device_memory(ARENA_BYTES);
	arena.gates = gpu_pinned_memory(ARENA_GATES * sizeof(*arena.gates));
}

void stress_begin(int argc, char **argv)
{
	static QProcessorImage image = { .magic = Q_PROCESSOR_MAGIC,
					 .protocol_version = Q_PROTOCOL_VERSION,
					 .granularity = Q_PER_WARP,
					 .name = "ledger",
					 .cpu = ledger_process };
	const char *seed = argc > 1 ? argv[1] : getenv("GPUQ_STRESS_SEED");
	const char *factor = getenv("GPUQ_STRESS_SCALE");
	const char *only = getenv("GPUQ_STRESS_ONLY");
	pthread_t watcher;

	stress_seed = seed != NULL && seed[0] != '\0' ? strtoull(seed, NULL, 0)
						      : gq__now_ns() ^ (uint64_t)getpid() << 32;
	scale = GQ_TSAN ? 0.1 : GQ_ASAN ? 0.2 : getenv("GPUQ_TEST_SHORT") != NULL ? 0.1 : 1.0;
	if (factor != NULL && factor[0] != '\0')
		scale *= strtod(factor, NULL);
	if (only != NULL && only[0] != '\0')
		cmocka_set_test_filter(only);
	if (!stress_quiet)
		fprintf(stderr, "seed %" PRIu64 " (GPUQ_STRESS_SEED repeats it), scale %g%s\n",
			stress_seed, scale, stress_can_stall() ? ", with GPUQ_CHAOS" : "");
	choose_image(&image);
	if (on_gpu())
		arena_begin();
	q_register_processor(&image);
	stress_phase(NULL, "start");
	if (pthread_create(&watcher, NULL, watch, NULL) == 0)
		pthread_detach(watcher);
}

uint32_t stress_device(void)
{
	return on_cuda() ? Q_DEVICE_CUDA : Q_DEVICE_CPU;
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

uint64_t mix64(uint64_t x)
{
	return ledger_mix(x);
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

void ledger_broken(const char *condition, const char *what, uint64_t number);

void ledger_broken(const char *condition, const char *what, uint64_t number)
{
	stress_fail("ledger.cu", 0, condition, "%s; number %" PRIu64, what, number);
}

uint32_t ledger_length(const struct ledger *l, uint32_t number)
{
	return ledger_length_of(l->data.seed, number, PAYLOAD, l->slot_bytes);
}

void ledger_write(const struct ledger *l, uint32_t number, void *payload, uint32_t len)
{
	const uint64_t check = ledger_check(l->data.seed, number, PAYLOAD);

	for (uint32_t at = 0; at < len; at += 8) {
		const uint64_t word = ledger_word(number, check, at);

		memcpy((uint8_t *)payload + at, &word, len - at < 8 ? len - at : 8);
	}
}

uint32_t ledger_read(const struct ledger *l, const void *result, size_t len)
{
	const uint8_t *from = result;
	uint64_t number, check;

	must(len >= MESSAGE_MIN, "a result has %zu bytes, too few for any", len);
	memcpy(&number, from, sizeof(number));
	must(number < l->max, "a result says it has number %" PRIu64 "; there are %" PRIu32, number,
	     l->max);
	check = ledger_check(l->data.seed, number, RESULT);
	for (uint32_t at = 8; at < len; at += 8) {
		const uint64_t word = ledger_word(number, check, at);

		must(memcmp(from + at, &word, len - at < 8 ? len - at : 8) == 0,
		     "result %" PRIu64 " is damaged at byte %" PRIu32 " of %zu", number, at, len);
	}
	must(len == ledger_length_of(l->data.seed, number, RESULT, l->result_bytes),
	     "result %" PRIu64 " has %zu bytes; it should have %" PRIu32, number, len,
	     ledger_length_of(l->data.seed, number, RESULT, l->result_bytes));
	return (uint32_t)number;
}

/* `n` words of what processors write, as they are now. */
static void read_words(uint64_t *to, const uint64_t *from, size_t n)
{
	if (!on_gpu()) {
		for (size_t i = 0; i < n; i++)
			to[i] = get(from[i]);
		return;
	}
	for (size_t i = 0; i < n; i += 512)
		gpu_read(to + i, from + i, (n - i < 512 ? n - i : 512) * sizeof(*to));
}

static uint64_t read_word(const uint64_t *from)
{
	uint64_t word;

	read_words(&word, from, 1);
	return word;
}

uint32_t ledger_running(const struct ledger *l)
{
	return (uint32_t)read_word(&l->data.counts->running);
}

uint32_t ledger_gated(const struct ledger *l)
{
	return (uint32_t)read_word(&l->data.counts->gated);
}

uint32_t ledger_runs(const struct ledger *l, uint32_t number)
{
	return (uint32_t)read_word(&l->data.runs[number]);
}

void ledger_open(struct ledger *l, uint32_t below)
{
	put(*l->gate, below);
}

void ledger_settle(struct ledger *l)
{
	uint64_t *words = malloc(l->max * sizeof(*words));

	must(words != NULL, "out of memory");
	read_words(words, l->data.runs, l->max);
	for (uint32_t i = 0; i < l->max; i++)
		l->runs[i] = (uint32_t)words[i];
	l->n_order = (uint32_t)read_word(&l->data.counts->n_order);
	read_words(l->order, l->data.order, l->max);
	free(words);
}

void ledger_begin(struct ledger *l, uint32_t max, uint32_t slot_bytes, uint32_t result_bytes)
{
	const size_t bytes = sizeof(struct ledger_counts) + (size_t)max * 2 * sizeof(uint64_t);
	struct ledger_counts *counts;

	*l = (struct ledger){ .max = max,
			      .slot_bytes = slot_bytes,
			      .result_bytes = result_bytes,
			      .runs = calloc(max, sizeof(*l->runs)),
			      .order = calloc(max, sizeof(*l->order)) };
	if (on_gpu()) {
		must(arena.used + bytes <= ARENA_BYTES && arena.gates_used < ARENA_GATES,
		     "%zu bytes of %d are taken; less work: GPUQ_STRESS_SCALE", arena.used,
		     ARENA_BYTES);
		counts = (void *)(arena.device + arena.used);
		l->gate = &arena.gates[arena.gates_used];
		arena.used += (bytes + 127) / 128 * 128;
		arena.gates_used++;
		arena.ledgers++;
		gpu_clear(counts, bytes);
		*l->gate = 0;
	} else {
		counts = calloc(1, bytes);
		l->gate = calloc(1, sizeof(*l->gate));
	}
	must(l->runs != NULL && l->order != NULL && counts != NULL && l->gate != NULL,
	     "out of memory");
	l->data = (struct ledger_data){ .gate = l->gate,
					.counts = counts,
					.runs = (uint64_t *)(counts + 1),
					.order = (uint64_t *)(counts + 1) + max,
					.seed = stress_seed,
					.max = max,
					.slot_bytes = slot_bytes,
					.result_bytes = result_bytes };
}

void ledger_end(struct ledger *l)
{
	const uint64_t broken = read_word(&l->data.counts->broken);

	must(broken == 0,
	     "the processor found something wrong: ledger.cu:%" PRIu64 ", number %" PRIu64,
	     broken >> 32, broken & UINT32_MAX);
	free(l->runs);
	free(l->order);
	if (!on_gpu()) {
		free(l->data.counts);
		free(l->gate);
	} else if (--arena.ledgers == 0) {
		arena.used = 0;
		arena.gates_used = 0;
	}
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
			       .flags = l->queue_flags,
			       .processor = "ledger",
			       .processor_data = &l->data,
			       .processor_data_bytes = sizeof(l->data) };
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
