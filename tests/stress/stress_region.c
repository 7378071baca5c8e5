/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stress_region.c - regions described, released, retired and registered anew, all at once.
 *
 * A cell is a buffer that is registered again and again. Whoever finds its region gone takes the
 * cell, fills the buffer with a stamp of the new handle's number, and registers it; so a region
 * that was freed while somebody still held it shows as a stamp that changes under a reader's eyes
 * (and as a race, under ThreadSanitizer). A region freed twice shows as a handle that is given out
 * twice.
 */
#include "stress.h"

#include "host/region/region.h"

#include <inttypes.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	CELLS = 4,
	REGIONS = 3, /* fewer, so that registering fails, too */
	WORKERS = 4,
	WORDS = 8,
	GENERATIONS = 1 << 16, /* that can be told apart */
};

#define BUSY UINT64_MAX /* a cell's handle while somebody registers it */

struct cell {
	_Alignas(64) uint64_t buffer[WORDS];
	uint64_t handle; /* atomic: generation << 32 | id, 0: nothing registered, or BUSY */
	uint64_t stamp;  /* atomic: of the region registered last */
};

/* Shared by threads and processes. */
struct world {
	struct cell cell[CELLS];
	uint64_t stamps;                                         /* atomic: given out */
	uint64_t accepted, registered, freed_under_us, unmapped; /* atomic: what has happened */
	uint32_t of_id[REGIONS];                                 /* atomic: registrations */
	uint8_t seen[REGIONS][GENERATIONS];                      /* atomic */
};

struct run {
	struct world *w;
	RegionTable *t;
	GpuQueue *q;    /* or NULL */
	bool processes; /* the others are processes: buffers are shared memory */
	uint32_t steps;
};

struct worker {
	struct run *run;
	uint32_t index;
};

static RegionHandle handle_of(uint64_t word)
{
	return (RegionHandle){ .id = (uint32_t)word, .generation = (uint32_t)(word >> 32) };
}

/* ---- the processor: what it reads is one stamp, and stays so -------------------------------- */

static void check_stamp(const MsgView *in, ResultView *out)
{
	const uint64_t *words = (const void *)in->payload;
	uint64_t first = words[0];

	for (uint32_t look = 0; look < 2; look++) {
		for (uint32_t i = 0; i < in->len / 8; i++)
			if (words[i] != first)
				*out->status = 1;
		if (first % 8 == 0)
			sched_yield();
	}
	memcpy(out->out, &first, 8);
	*out->out_len = 8;
}

static const QProcessorImage image = { .magic = Q_PROCESSOR_MAGIC,
				       .protocol_version = Q_PROTOCOL_VERSION,
				       .name = "stamp",
				       .cpu = check_stamp };

/* ---- steps ---------------------------------------------------------------------------------- */

static void check_words(const struct cell *c, const uint64_t *words, uint32_t n, uint64_t stamp)
{
	for (uint32_t i = 0; i < n; i++)
		must(words[i] == stamp,
		     "cell %p: word %" PRIu32 " is %" PRIu64 ", the region's are %" PRIu64,
		     (const void *)c, i, words[i], stamp);
}

/* What a failing step may say: the region has been retired or freed. */
static void must_be_stale(QueueStatus status)
{
	must(status == Q_ERR_STALE, "gave %s: %s", q_status_string(status), q_last_error());
}

/* A descriptor of all of the cell's region that can be described, or of length 0. */
static MessageDescriptor describe(const struct run *run, struct cell *c, uint64_t *stamp)
{
	MessageDescriptor d = { 0 };
	uint64_t word = __atomic_load_n(&c->handle, __ATOMIC_ACQUIRE);
	RegionInfo info;

	if (word == 0 || word == BUSY)
		return d;
	*stamp = __atomic_load_n(&c->stamp, __ATOMIC_ACQUIRE);
	if (__atomic_load_n(&c->handle, __ATOMIC_ACQUIRE) != word)
		return d; /* the stamp may be of the next */
	d.region = handle_of(word);
	if (q_region_info(run->t, d.region, &info) != Q_OK)
		return d;
	must(info.references < 1000, "%" PRIu64 " references", info.references);
	d.length = (uint32_t)info.cursor / 8 * 8;
	return d;
}

/* Another process has registered it: say that it is where it is everywhere. */
static void map_cell(const struct run *run, struct cell *c, RegionHandle region)
{
	QueueStatus status = q_region_map(run->t, region, c->buffer, sizeof(c->buffer));

	bump(run->w->unmapped, 1);
	must(run->processes, "a region was not mapped");
	if (status != Q_OK)
		must_be_stale(status);
}

static void use(const struct run *run, struct cell *c, struct rng *r)
{
	uint64_t stamp = 0;
	MessageDescriptor d = describe(run, c, &stamp);
	const void *bytes = NULL;
	QueueStatus status;

	if (d.length == 0)
		return;
	status = gq__region_acquire(run->t, &d, &bytes);
	if (status == Q_ERR_UNSUPPORTED) {
		map_cell(run, c, d.region);
		return;
	}
	if (status != Q_OK) {
		must_be_stale(status);
		return;
	}
	bump(run->w->accepted, 1);
	must(bytes == c->buffer, "it lies at %p, resolved to %p", (void *)c->buffer, bytes);
	check_words(c, bytes, d.length / 8, stamp);
	if (rng_one_in(r, 4))
		sched_yield();
	must_be(Q_OK, q_region_resolve(run->t, &d, &bytes)); /* whoever has retired it */
	check_words(c, bytes, d.length / 8, stamp);
	if (rng_one_in(r, 2))
		must_be(Q_OK, q_region_release(run->t, &d));
	else
		gq__region_drop(run->t, &d);
}

static void enqueue(const struct run *run, struct cell *c, struct rng *r)
{
	uint64_t stamp = 0;
	MessageDescriptor d = describe(run, c, &stamp);
	EnqueueOptions o = { .tag = stamp, .flags = rng_one_in(r, 3) ? Q_ENQUEUE_DISCARD : 0 };
	QueueStatus status;

	if (d.length == 0)
		return;
	if (rng_one_in(r, 8))
		o.deadline_ns = 1;
	status = q_enqueue_descriptor(run->q, &d, &o, NULL, 0);
	if (status != Q_OK && status != Q_ERR_FULL)
		must_be_stale(status);
}

static void take(const struct run *run)
{
	Completion done[4];
	size_t n;

	must_be(Q_OK, q_poll_results(run->q, done, 4, &n));
	for (size_t i = 0; i < n; i++) {
		if (done[i].status == Q_OK)
			must(memcmp(done[i].result, &done[i].tag, 8) == 0,
			     "a processor saw another stamp than %" PRIu64, done[i].tag);
		else
			must(done[i].status == Q_ERR_EXPIRED, "a message ended with %s",
			     q_status_string(done[i].status));
		must_be(Q_OK, q_release(run->q, done[i].msg_id));
	}
	if (q_bind_regions(run->q, run->t) != Q_OK)
		must(strstr(q_last_error(), "descriptor") != NULL, "%s", q_last_error());
}

static void retire(const struct run *run, struct cell *c)
{
	uint64_t word = __atomic_load_n(&c->handle, __ATOMIC_ACQUIRE);
	QueueStatus status;

	if (word == 0 || word == BUSY)
		return;
	status = q_region_retire(run->t, handle_of(word));
	if (status != Q_OK)
		must_be_stale(status);
}

/* The cell is ours and its region is gone. */
static void register_cell(const struct run *run, struct cell *c, RegionPolicy policy)
{
	const uint64_t stamp = bump(run->w->stamps, 1) + 1;
	RegionHandle region;
	QueueStatus status;
	uint64_t at;

	if (policy == Q_REGION_IMMUTABLE)
		for (uint32_t i = 0; i < WORDS; i++)
			c->buffer[i] = stamp;
	status = q_region_register(run->t, c->buffer, sizeof(c->buffer), policy, &region);
	if (status != Q_OK) {
		must(status == Q_ERR_LIMIT, "%s: %s", q_status_string(status), q_last_error());
		__atomic_store_n(&c->handle, 0, __ATOMIC_RELEASE);
		return;
	}
	must(region.id < REGIONS && region.generation < GENERATIONS, "%" PRIu32 ", %" PRIu32,
	     region.id, region.generation);
	must(__atomic_exchange_n(&run->w->seen[region.id][region.generation], 1,
				 __ATOMIC_RELAXED) == 0,
	     "region %" PRIu32 " of generation %" PRIu32 " was registered twice", region.id,
	     region.generation);
	bump(run->w->of_id[region.id], 1);
	bump(run->w->registered, 1);
	__atomic_store_n(&c->stamp, stamp, __ATOMIC_RELEASE); /* after BUSY, before the handle */
	__atomic_store_n(&c->handle, (uint64_t)region.generation << 32 | region.id,
			 __ATOMIC_RELEASE);
	/* Beside those who read already; ends early when somebody retires it meanwhile. */
	for (uint32_t i = 0; policy == Q_REGION_APPEND_ONLY && i < WORDS; i++) {
		status = q_region_append(run->t, region, &stamp, 8, &at);
		if (status != Q_OK) {
			must_be_stale(status);
			break;
		}
		must(at == 8 * (uint64_t)i, "appended at %" PRIu64, at);
	}
}

/*
 * Register the cell anew if its region is gone.
 *
 * Whoever appends to a region must be done before the buffer is used again, so with append-only
 * regions a cell is registered by one worker only.
 */
static void renew(const struct run *run, uint32_t worker, uint32_t index, struct rng *r)
{
	struct cell *c = &run->w->cell[index];
	const RegionPolicy policy =
		index % 2 == 0 && !run->processes ? Q_REGION_IMMUTABLE : Q_REGION_APPEND_ONLY;
	uint64_t word = __atomic_load_n(&c->handle, __ATOMIC_ACQUIRE);
	MessageDescriptor d = { .length = 1 };
	const void *bytes;
	RegionInfo info;

	if (word == BUSY || get(run->w->registered) >= GENERATIONS - 100 ||
	    (policy == Q_REGION_APPEND_ONLY && index % WORKERS != worker))
		return;
	d.region = handle_of(word);
	if (word != 0 && q_region_info(run->t, d.region, &info) == Q_OK)
		return;
	if (!__atomic_compare_exchange_n(&c->handle, &word, BUSY, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_RELAXED))
		return;
	if (word != 0) { /* gone is gone for ever */
		bump(run->w->freed_under_us, 1);
		must_be_stale(q_region_resolve(run->t, &d, &bytes));
		must_be_stale(gq__region_acquire(run->t, &d, &bytes));
		must_be_stale(q_region_release(run->t, &d));
		must_be_stale(q_region_retire(run->t, d.region));
	}
	if (rng_one_in(r, 4))
		sched_yield();
	register_cell(run, c, policy);
}

static void *work(void *arg)
{
	const struct worker *me = arg;
	const struct run *run = me->run;
	struct rng r = rng_of(70 + me->index);

	for (uint32_t step = 0; step < run->steps; step++) {
		uint32_t index = rng_below(&r, CELLS);
		struct cell *c = &run->w->cell[index];

		if (me->index == 0 && step % 1024 == 0)
			stress_phase(run->q, "step %" PRIu32 " of %" PRIu32, step, run->steps);
		switch (rng_below(&r, 10)) {
		case 0:
		case 1:
			renew(run, me->index, index, &r);
			break;
		case 2:
			retire(run, c);
			break;
		case 3:
		case 4:
			if (run->q != NULL)
				enqueue(run, c, &r);
			break;
		case 5:
			if (run->q != NULL)
				take(run);
			break;
		default:
			use(run, c, &r);
		}
		if (step % 16 == 0) /* consumers and other processes want to get on, too */
			sched_yield();
	}
	return NULL;
}

/* ---- runs ----------------------------------------------------------------------------------- */

static struct world *make_world(void)
{
	struct world *w =
		mmap(NULL, sizeof(*w), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	must(w != MAP_FAILED, "no memory for the world");
	return w;
}

/* Nobody is at it any more: everything can be freed, was registered as often as entries say, and
 * all entries can be had again. */
static void check_end(struct run *run)
{
	RegionHandle region;

	for (uint32_t i = 0; i < CELLS; i++) {
		uint64_t word = get(run->w->cell[i].handle);
		RegionInfo info;

		must(word != BUSY, "cell %" PRIu32 " is still busy", i);
		if (word == 0 || q_region_info(run->t, handle_of(word), &info) != Q_OK)
			continue;
		must(info.references == 0, "%" PRIu64 " references are left", info.references);
		must(info.retired == 0, "retired, without references, and not freed");
		must_be(Q_OK, q_region_retire(run->t, handle_of(word)));
	}
	for (uint32_t i = 0; i < REGIONS; i++) {
		must_be(Q_OK, q_region_register(run->t, run->w->cell[0].buffer, 8, Q_REGION_SLAB,
						&region));
		must(region.generation == get(run->w->of_id[region.id]) + 1,
		     "region %" PRIu32 " is of generation %" PRIu32 " after %" PRIu32
		     " registrations",
		     region.id, region.generation, get(run->w->of_id[region.id]));
	}
	must_be(Q_ERR_LIMIT,
		q_region_register(run->t, run->w->cell[0].buffer, 8, Q_REGION_SLAB, &region));
	must(get(run->w->accepted) > 0 && get(run->w->freed_under_us) > 0,
	     "%" PRIu64 " descriptors accepted, %" PRIu64 " regions found gone: that tests nothing",
	     get(run->w->accepted), get(run->w->freed_under_us));
}

static void threads_race_for_regions(struct run *run)
{
	struct worker worker[WORKERS];
	pthread_t thread[WORKERS];

	must_be(Q_OK, q_region_table_create(REGIONS, &run->t));
	if (run->q != NULL)
		must_be(Q_OK, q_bind_regions(run->q, run->t));
	for (uint32_t i = 0; i < WORKERS; i++) {
		worker[i] = (struct worker){ .run = run, .index = i };
		thread[i] = stress_thread(work, &worker[i]);
	}
	for (uint32_t i = 0; i < WORKERS; i++)
		stress_join(thread[i]);
	if (run->q != NULL) {
		must_be(Q_OK, q_stop(run->q, UINT32_MAX));
		must_be(Q_OK, q_bind_regions(run->q, NULL)); /* nothing is inside */
	}
	check_end(run);
	q_region_table_destroy(run->t);
}

/* In the library's private memory, so that it may be registered as immutable. */
static void regions_are_freed_once_and_only_when_nobody_holds_them(void **state)
{
	struct run run = { .steps = stress_scaled(100000) };

	(void)state;
	run.w = gq__alloc(sizeof(*run.w), "the world");
	threads_race_for_regions(&run);
	gq__free(run.w, sizeof(*run.w));
}

static void regions_live_as_long_as_queued_descriptors(void **state)
{
	struct run run = { .steps = stress_scaled(100000) };
	const QueueConfig cfg = { .capacity = 4,
				  .slot_bytes = 16,
				  .device = Q_DEVICE_CPU,
				  .consumers = 2,
				  .processor = "stamp" };

	(void)state;
	run.w = gq__alloc(sizeof(*run.w), "the world");
	run.q = q_init(&cfg);
	must(run.q != NULL, "%s", q_last_error());
	threads_race_for_regions(&run);
	q_shutdown(run.q);
	gq__free(run.w, sizeof(*run.w));
}

static void processes_count_references_together(void **state)
{
	struct run run = { .steps = stress_scaled(100000), .processes = true };
	pid_t child[WORKERS - 1];

	(void)state;
	run.w = make_world();
	must_be(Q_OK, q_region_table_create(REGIONS, &run.t));
	for (uint32_t i = 0; i < WORKERS - 1; i++) {
		child[i] = fork();
		must(child[i] >= 0, "fork");
		if (child[i] == 0) {
			struct worker worker = { .run = &run, .index = i + 1 };

			work(&worker);
			q_region_table_destroy(run.t);
			_exit(0);
		}
	}
	work(&(struct worker){ .run = &run, .index = 0 });
	for (uint32_t i = 0; i < WORKERS - 1; i++) {
		int status;

		must(waitpid(child[i], &status, 0) == child[i], "waitpid");
		must(WIFEXITED(status) && WEXITSTATUS(status) == 0, "process %" PRIu32 " ended %#x",
		     i + 1, (unsigned)status);
	}
	must(get(run.w->unmapped) > 0, "no process met another's region");
	check_end(&run);
	q_region_table_destroy(run.t);
	munmap(run.w, sizeof(*run.w));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(regions_are_freed_once_and_only_when_nobody_holds_them),
		cmocka_unit_test(regions_live_as_long_as_queued_descriptors),
		cmocka_unit_test(processes_count_references_together),
	};

	q_register_processor(&image);
	stress_begin(argc, argv);
	return cmocka_run_group_tests_name("stress.region", tests, NULL, NULL);
}
