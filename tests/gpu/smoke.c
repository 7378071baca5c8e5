/* SPDX-License-Identifier: Apache-2.0 */
/*
 * smoke.c - the smoke stage of gpu_check: does anything work at all, and if not, why? Seconds where
 * all is well. From the bottom up: driver, device, memory, then queues of every granularity and
 * transport, then what a queue does beside messages. At the first failure, and when something
 * hangs, it tells all that is known: of the driver's calls, of the host's words and the grid's.
 */
#include "device/cuda/host/state.h"
#include "driver_trace.h"
#include "gpu_check.h"
#include "gpuq/ring.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATIENCE_MS = 3000 };

static const struct gq_cu *cu;
static CUdevice device;
static CUcontext context;
static CUstream stream;
static void *counters;    /* pinned: where the grid's are copied to, to be looked at */
static GpuQueue *current; /* whose state is told */
static uint64_t begun_ns; /* of the step */
static unsigned came_back;
static bool told;

/* ---- what is known --------------------------------------------------------------------------- */

static void tell_counters(const struct gq_cuda *c)
{
	const struct gq_counters *k = counters;
	const uint64_t until = gq__now_ns() + 500000000;
	int result;

	if (k == NULL || cu->cuCtxPushCurrent(context) != 0)
		return;
	result = cu->cuMemcpyDtoHAsync(counters, c->counters, sizeof(*k), stream);
	while (result == 0 && (result = cu->cuStreamQuery(stream)) == GQ_CU_NOT_READY &&
	       gq__now_ns() < until)
		result = 0;
	if (result != 0)
		printf("  counters: cannot be read: CUDA error %d\n", result);
	else
		printf("  counters: near %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64
		       ", done_tail %" PRIx64 ", resident %" PRIu64 ", gone %" PRIu64
		       ", scouts %" PRIu64 ", pool_lead %" PRIx64 ", arrived %" PRIu64 "\n",
		       k->cursor[0], k->cursor[1], k->cursor[2], k->cursor[3], k->done_tail,
		       k->resident, k->gone, k->scouts, k->pool_lead, k->arrived);
}

/* Takes no lock: the thread that holds it may hang. */
static void tell_queue(GpuQueue *q)
{
	static const char *const states[] = { "starting",  "on",         "away",
					      "abandoned", "taken over", "failed" };
	struct gq_cuda *c = q->device_state;
	const struct gq_report *r;
	const struct gq_orders *o;
	unsigned shown = 0;

	if (c == NULL || c->link == NULL)
		return;
	r = &c->link->report;
	o = &c->link->orders;
	printf("  queue: %" PRIu32 " blocks of %" PRIu32 " threads, %" PRIu32 " units, %" PRIu32
	       " places, granularity %" PRIu32 "; transport %s, slots %" PRIu32 " of %" PRIu32
	       " B\n",
	       c->blocks, c->info.block_threads, c->units, c->places, q->cfg.granularity,
	       q->transport, q->cfg.capacity, q->cfg.slot_bytes);
	printf("  host: launch %" PRIu64 ", state %s, copies %" PRIu64
	       ", tail of the classes %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64
	       ", control %" PRIu64 "\n",
	       c->launch, states[c->state], c->copies, *q->ch.ready[0].tail, *q->ch.ready[1].tail,
	       *q->ch.ready[2].tail, *q->ch.ready[3].tail, q->control);
	printf("  orders: control %" PRIu64 ", depart %" PRIu64 ", ping %" PRIu64
	       ", ahead_ns %" PRId64 ", ping_arrival %" PRIu64 ", failed %" PRIu64 "\n",
	       o->control, o->depart, o->ping, (int64_t)o->ahead_ns, o->ping_arrival, o->failed);
	printf("  report: park of launch %" PRIu64 " %s, resident %" PRIu64 ", pong %" PRIu64
	       " at %" PRIu64 ", measured_ns %" PRIu64 ", stalls %" PRIu64 "\n",
	       r->park >> GQ_PARK_BITS,
	       r->park % 4 == GQ_PARK_GONE      ? "gone"
	       : r->park % 4 == GQ_PARK_LOOKING ? "looking"
						: "running",
	       r->resident, r->pong, r->pong_ns, r->measured_ns, r->stalls);
	for (uint32_t i = 0; i < c->places && shown < 8; i++)
		if (c->journal[i].noted != 0) {
			printf("  journal: place %" PRIu32 ": lower bits of an id %" PRIu64
			       " since %" PRIu64 " on the GPU's clock\n",
			       i, c->journal[i].noted & ~GQ_NOTED, c->journal[i].since_ns);
			shown++;
		}
	for (uint32_t i = 0; i < q->cfg.capacity && i < 4; i++) {
		const struct gq_slot *slot = gq_slot_at(&q->ch, i);

		printf("  slot %" PRIu32 ": msg_id %" PRIu64 ", len %" PRIu32 ", flags %" PRIx32
		       ", seal %" PRIx64 ", result's seal %" PRIx64 "\n",
		       i, slot->msg_id, slot->len, slot->flags, slot->seal,
		       *gq_result_seal_at(&q->ch, i));
	}
	fflush(stdout);
	tell_counters(c);
}

static void give_up(int number)
{
	(void)number;
	_exit(4);
}

/* Of the step that failed first: later ones tend to fail of the same. */
static void tell_all(void)
{
	if (told)
		return;
	told = true;
	driver_trace_print();
	signal(SIGALRM, give_up); /* the driver may not answer */
	alarm(10);
	if (current != NULL)
		tell_queue(current);
	alarm(0);
	fflush(stdout);
}

static void begin_step(const char *what)
{
	alive(what);
	begun_ns = gq__now_ns();
}

/* why: NULL if the step has passed. */
static bool end_step(const char *what, const char *why)
{
	char text[700];

	snprintf(text, sizeof(text), "%.1f ms%s%s", (double)(gq__now_ns() - begun_ns) / 1e6,
		 why != NULL ? "; " : "", why != NULL ? why : "");
	verdict(why == NULL, what, text);
	if (why != NULL)
		tell_all();
	return why == NULL;
}

static const char *error_of(const char *call, int result)
{
	static char text[300];

	if (result == 0)
		return NULL;
	gq__cuda_error(cu, call, result);
	snprintf(text, sizeof(text), "%s", q_last_error());
	return text;
}

/* ---- driver, device, memory ------------------------------------------------------------------ */

static void tell_attributes(void)
{
	static const struct {
		int number;
		const char *name;
		bool used; /* by the library; the stand-in knows no others */
	} attributes[] = {
		{ GQ_CU_MULTIPROCESSOR_COUNT, "multiprocessors", true },
		{ GQ_CU_COMPUTE_CAPABILITY_MAJOR, "capability, major", true },
		{ GQ_CU_COMPUTE_CAPABILITY_MINOR, "capability, minor", true },
		{ GQ_CU_KERNEL_EXEC_TIMEOUT, "run-time limit for kernels", true },
		{ GQ_CU_UNIFIED_ADDRESSING, "unified addressing", true },
		{ GQ_CU_COOPERATIVE_LAUNCH, "cooperative launch", true },
		{ GQ_CU_READ_ONLY_HOST_REGISTER, "read-only registration", true },
		{ GQ_CU_64_BIT_STREAM_MEM_OPS, "64-bit stream memory operations", true },
		{ 19, "can map host memory", false },
		{ 20, "compute mode", false },
		{ 31, "concurrent kernels", false },
		{ 40, "copy engines", false },
		{ 86, "host native atomics", false },
		{ 88, "pageable memory access", false },
		{ 90, "compute preemption", false },
		{ 91, "host pointers of registered memory", false },
		{ 124, "dma-buf", false },
		{ 126, "memory synchronisation domains", false },
	};

	for (unsigned i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
		int value = 0, result;

		if (on_standin() && !attributes[i].used)
			continue;
		result = cu->cuDeviceGetAttribute(&value, attributes[i].number, device);
		if (result == 0)
			printf("  attribute %d, %s: %d\n", attributes[i].number, attributes[i].name,
			       value);
		else
			printf("  attribute %d, %s: CUDA error %d\n", attributes[i].number,
			       attributes[i].name, result);
	}
}

static bool find_driver(void)
{
	extern char **environ;
	Dl_info where = { 0 };
	int version = 0, result;
	char name[64] = "";
	void *entry;

	cu = gq__cuda_driver();
	if (cu == NULL)
		return false;
	memcpy(&entry, &cu->cuInit, sizeof(entry));
	cu->cuDriverGetVersion(&version);
	printf("driver: CUDA %d.%d, %s\n", version / 1000, version % 1000 / 10,
	       dladdr(entry, &where) != 0 ? where.dli_fname : "somewhere");
	for (char **e = environ; *e != NULL; e++)
		if (strncmp(*e, "CUDA", 4) == 0 || strncmp(*e, "GPUQ", 4) == 0 ||
		    strncmp(*e, "LD_LIB", 6) == 0)
			printf("  environment: %.200s\n", *e);
	driver_trace_begin();
	begin_step("smoke: the device");
	result = cu->cuDeviceGet(&device, 0);
	if (result == 0)
		result = cu->cuDeviceGetName(name, sizeof(name), device);
	printf("gpu: %s\n", name);
	if (result == 0)
		tell_attributes();
	return end_step("smoke: the device", error_of("cuDeviceGet", result));
}

static const char *use_memory(void)
{
	enum { BYTES = 65536 };
	CUdeviceptr on_device = 0, seen = 0;
	uint8_t *host = NULL;
	void *memory = NULL;
	const char *why;

#define TRY(name, ...)                                                                             \
	do {                                                                                       \
		why = error_of(#name, cu->name(__VA_ARGS__));                                      \
		if (why != NULL)                                                                   \
			return why;                                                                \
	} while (0)
	TRY(cuMemHostAlloc, &memory, (size_t)2 * BYTES,
	    GQ_CU_MEMHOSTALLOC_PORTABLE | GQ_CU_MEMHOSTALLOC_DEVICEMAP);
	host = memory;
	TRY(cuPointerGetAttribute, &seen, GQ_CU_POINTER_DEVICE_ADDRESS,
	    (CUdeviceptr)(uintptr_t)host);
	if (seen != (CUdeviceptr)(uintptr_t)host)
		return "pinned memory has another address on the GPU than on the host";
	if ((uintptr_t)host % GQ_LINE != 0)
		return "pinned memory is not aligned to a line of the GPU's";
	printf("  cuPointerGetAttribute of ordinary memory: CUDA error %d\n",
	       cu->cuPointerGetAttribute(&seen, GQ_CU_POINTER_DEVICE_ADDRESS,
					 (CUdeviceptr)(uintptr_t)&on_device));
	TRY(cuMemAlloc, &on_device, BYTES);
	memset(host, 0x5a, BYTES);
	TRY(cuMemcpyHtoDAsync, on_device, host, BYTES, stream);
	if (!on_standin())
		TRY(cuStreamWriteValue64, stream, on_device + 4096, 0x123456789abcdef0u, 0);
	TRY(cuMemcpyDtoHAsync, host + BYTES, on_device, BYTES, stream);
	TRY(cuStreamSynchronize, stream);
	memcpy(&seen, host + BYTES + 4096, sizeof(seen));
	if (host[BYTES] != 0x5a || host[2 * BYTES - 1] != 0x5a ||
	    (!on_standin() && seen != 0x123456789abcdef0u))
		return "copies, or a value that the stream was to write, did not arrive";
	TRY(cuMemFree, on_device);
	TRY(cuMemFreeHost, memory);
	TRY(cuMemHostAlloc, &counters, sizeof(struct gq_counters),
	    GQ_CU_MEMHOSTALLOC_PORTABLE | GQ_CU_MEMHOSTALLOC_DEVICEMAP);
	return NULL;
}

static bool use_device(void)
{
	static const char what[] = "smoke: context, stream, memory, copies";
	const char *why;
	CUcontext ours;

	begin_step(what);
	why = error_of("cuDevicePrimaryCtxRetain", cu->cuDevicePrimaryCtxRetain(&context, device));
	if (why == NULL)
		why = error_of("cuCtxPushCurrent", cu->cuCtxPushCurrent(context));
	if (why != NULL)
		return end_step(what, why);
	printf("  the context took %.1f ms\n", (double)(gq__now_ns() - begun_ns) / 1e6);
	why = error_of("cuStreamCreate", cu->cuStreamCreate(&stream, GQ_CU_STREAM_NON_BLOCKING));
	if (why == NULL)
		why = use_memory();
	cu->cuCtxPopCurrent(&ours);
	return end_step(what, why);
}

/* ---- queues ---------------------------------------------------------------------------------- */

static QueueConfig smoke_config(uint32_t granularity)
{
	QueueConfig cfg = { .capacity = 64,
			    .slot_bytes = 4096,
			    .device = Q_DEVICE_CUDA,
			    .granularity = granularity,
			    .processor = processor };

	if (strcmp(processor, "test") == 0) {
		cfg.processor_data = test_data();
		cfg.processor_data_bytes = sizeof(*test_data());
	}
	return cfg;
}

/* What the driver has made of the kernel. */
static void tell_kernel(const struct gq_cuda *c)
{
	static const struct {
		int number;
		const char *name;
	} attributes[] = { { 4, "registers" },
			   { 3, "local bytes" },
			   { 1, "shared bytes" },
			   { 6, "machine code of" },
			   { 5, "PTX of" } };
	int (*get_attribute)(int *, int, CUfunction);
	gq_cu_get_proc_address_fn get;
	void *library, *symbol;

	library = on_standin() ? NULL : dlopen("libcuda.so.1", RTLD_NOW);
	symbol = library != NULL ? dlsym(library, "cuGetProcAddress_v2") : NULL;
	if (symbol == NULL)
		return;
	memcpy(&get, &symbol, sizeof(get));
	if (get("cuFuncGetAttribute", &symbol, 2020, 0, NULL) != 0)
		return;
	memcpy(&get_attribute, &symbol, sizeof(symbol));
	printf("  kernel:");
	for (unsigned i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++) {
		int value = -1;

		get_attribute(&value, attributes[i].number, c->kernel);
		printf(" %s %d", attributes[i].name, value);
	}
	printf("\n");
}

static void tell_info(GpuQueue *q)
{
	QueueInfo i;

	q_info(q, &i);
	printf("  %s; %s\n  consumers %" PRIu32 ", q_init %.1f ms\n", i.transport, i.reason,
	       i.consumers, (double)(gq__now_ns() - begun_ns) / 1e6);
	printf("{\"case\":\"smoke_queue\",\"granularity\":%" PRIu32 ",\"slot_bytes\":%" PRIu32
	       ",\"flag_ns\":%" PRIu64 ",\"read_ns\":%" PRIu64 ",\"release_ns\":%" PRIu64
	       ",\"pull_ns\":%" PRIu64 ",\"copy_ns\":%" PRIu64 ",\"copy_small_ns\":%" PRIu64
	       ",\"canary_ns\":%" PRIu64 ",\"copy_from\":%" PRId64 "}\n",
	       i.granularity, i.slot_bytes, i.flag_ns, i.read_ns, i.release_ns, i.pull_ns,
	       i.copy_ns, i.copy_small_ns, i.canary_ns, (int64_t)i.copy_from);
	tell_kernel(q->device_state);
	fflush(stdout);
}

static const char *one_message(GpuQueue *q, uint32_t len, uint32_t number)
{
	static uint8_t sent[4096], back[4096];
	static char text[400];
	size_t room = sizeof(back);
	uint64_t id = 0;
	QueueStatus status;

	for (uint32_t i = 0; i < len; i++)
		sent[i] = (uint8_t)(number * 31 + i * 7 + i / 256);
	memset(back, 0, sizeof(back));
	status = q_enqueue(q, sent, len, &id, PATIENCE_MS);
	if (status == Q_OK)
		status = q_wait(q, id, PATIENCE_MS);
	if (status == Q_OK)
		status = q_try_dequeue_result(q, id, back, &room);
	if (status != Q_OK)
		snprintf(text, sizeof(text), "message %" PRIu32 " of %" PRIu32 " B: %s: %s", number,
			 len, q_status_string(status), q_last_error());
	else if (room != len || memcmp(sent, back, len) != 0)
		snprintf(text, sizeof(text),
			 "message %" PRIu32 " of %" PRIu32 " B: %zu B came back, and not the same",
			 number, len, room);
	else if (came_back++ == 0)
		printf("smoke: a message came back\n");
	return status == Q_OK && room == len && memcmp(sent, back, len) == 0 ? NULL : text;
}

/* Lengths around all that makes a difference: pieces, what is read ahead, what is copied. */
static const char *some_messages(GpuQueue *q, uint32_t n)
{
	static const uint32_t lengths[] = { 8,    0,    1,    15,   16,   17,   64,
					    100,  512,  943,  959,  960,  961,  1023,
					    1024, 1025, 2047, 2048, 3000, 4095, 4096 };
	const char *why = NULL;

	for (uint32_t i = 0; i < n && why == NULL; i++)
		why = one_message(q, lengths[i % (sizeof(lengths) / sizeof(lengths[0]))], i);
	return why;
}

/* Few builds and machines have BAR1. The stand-in's grid is threads, which on a busy machine may
 * not echo a line in time. */
static GpuQueue *open_bar1(const QueueConfig *cfg)
{
	GpuQueue *q = q_init(cfg);

	for (unsigned tries = 1; q == NULL && on_standin() && tries < 10 &&
				 strstr(q_last_error(), "the running grid does not see") != NULL;
	     tries++)
		q = q_init(cfg);
	return q;
}

/* @return NULL also if BAR1 is left out. */
static GpuQueue *open_for(const char *what, const QueueConfig *cfg)
{
	const bool bar1 = cfg->transport == Q_TRANSPORT_BAR1;
	GpuQueue *q;

	begin_step(what);
	q = bar1 ? open_bar1(cfg) : q_init(cfg);
	if (q != NULL)
		tell_info(q);
	else if (bar1 && strstr(q_last_error(), "transport is 3 (bar1)") != NULL &&
		 !(on_standin() && strstr(q_last_error(), "the running grid") != NULL))
		printf("left out %s: %s\n", what, q_last_error());
	else
		end_step(what, q_last_error());
	current = q;
	return q;
}

static void close_one(GpuQueue *q)
{
	const uint64_t begun = gq__now_ns();

	current = NULL;
	q_shutdown(q);
	printf("  q_shutdown %.1f ms\n", (double)(gq__now_ns() - begun) / 1e6);
}

static void by(const char *what, uint32_t granularity, uint32_t transport)
{
	QueueConfig cfg = smoke_config(granularity);
	const char *why;
	GpuQueue *q;

	cfg.transport = transport;
	if (transport == Q_TRANSPORT_COPY)
		cfg.copy_from = 1;
	q = open_for(what, &cfg);
	if (q == NULL)
		return;
	why = one_message(q, 64, 1);
	if (why == NULL) {
		printf("  the first message took %.1f ms with q_init\n",
		       (double)(gq__now_ns() - begun_ns) / 1e6);
		why = some_messages(q, 200);
	}
	end_step(what, why);
	close_one(q);
}

static void parks_and_pauses(void)
{
	static const char what[] = "smoke: park, wake, pause, resume";
	QueueConfig cfg = smoke_config(1);
	const char *why = NULL;
	GpuQueue *q;

	cfg.idle_park_ms = 1;
	q = open_for(what, &cfg);
	if (q == NULL)
		return;
	for (uint32_t i = 0; i < 10 && why == NULL; i++) {
		nap_ms(10);
		why = one_message(q, 64, i);
	}
	printf("  %" PRIu64 " times woken\n", stats_of(q).wakeups);
	if (why == NULL && (q_pause(q, PATIENCE_MS) != Q_OK || q_resume(q) != Q_OK))
		why = q_last_error();
	if (why == NULL)
		why = one_message(q, 64, 99);
	end_step(what, why);
	close_one(q);
}

static void bounded(void)
{
	static const char what[] = "smoke: bounded launches";
	QueueConfig cfg = smoke_config(1);
	const char *why;
	GpuQueue *q;

	cfg.bounded_messages = 4;
	cfg.bounded_ms = 50;
	q = open_for(what, &cfg);
	if (q == NULL)
		return;
	why = some_messages(q, 10);
	end_step(what, why);
	close_one(q);
}

/* Both machines' clocks in one record: what lies between them, and how often they contradict. */
static void traced(void)
{
	static const char what[] = "smoke: a trace";
	static const char *const stages[Q_STAGES] = { "enqueue", "wait", "process", "notice",
						      "total" };
	enum { MESSAGES = 500 };
	QueueConfig cfg = smoke_config(1);
	TraceSummary t = { 0 };
	const char *why;
	char text[100];
	GpuQueue *q;

	cfg.flags = Q_TRACE;
	cfg.trace_records = MESSAGES;
	q = open_for(what, &cfg);
	if (q == NULL)
		return;
	why = some_messages(q, MESSAGES);
	if (why == NULL && q_trace_summary(q, &t) != Q_OK)
		why = q_last_error();
	printf("  clocks aligned to %" PRIu64 " ns; times moved of %" PRIu64 " of %" PRIu64 "\n",
	       t.clock_error_ns, t.adjusted, t.recorded);
	for (int i = 0; i < Q_STAGES; i++)
		printf("  %s: p50 %" PRIu64 ", p99 %" PRIu64 ", most %" PRIu64 " ns\n", stages[i],
		       t.stage[i].p50_ns, t.stage[i].p99_ns, t.stage[i].max_ns);
	if (why == NULL && (t.recorded != MESSAGES || t.dropped != 0)) {
		snprintf(text, sizeof(text), "%" PRIu64 " of %d recorded, %" PRIu64 " dropped",
			 t.recorded, MESSAGES, t.dropped);
		why = text;
	}
	end_step(what, why);
	close_one(q);
}

static const char *describe_one(GpuQueue *q, RegionTable *table, uint8_t *bytes, uint32_t size)
{
	MessageDescriptor d = { .offset = 128, .length = 1000 };
	uint8_t back[1000];
	size_t room = sizeof(back);
	uint64_t id = 0;

	for (uint32_t i = 0; i < size; i++)
		bytes[i] = (uint8_t)(i * 13 + i / 256);
	if (q_region_register(table, bytes, size, Q_REGION_IMMUTABLE, &d.region) != Q_OK ||
	    q_bind_regions(q, table) != Q_OK ||
	    q_enqueue_descriptor(q, &d, NULL, &id, PATIENCE_MS) != Q_OK ||
	    q_wait(q, id, PATIENCE_MS) != Q_OK || q_try_dequeue_result(q, id, back, &room) != Q_OK)
		return q_last_error();
	if (room != sizeof(back) || memcmp(back, bytes + d.offset, sizeof(back)) != 0)
		return "what came back is not what was described";
	return q_bind_regions(q, NULL) == Q_OK ? NULL : q_last_error();
}

/* A descriptor to ordinary memory, which binding pins. */
static void described(void)
{
	static const char what[] = "smoke: a descriptor to ordinary memory";
	enum { SIZE = 65536 };
	QueueConfig cfg = smoke_config(1);
	RegionTable *table = NULL;
	void *memory = NULL;
	const char *why;
	GpuQueue *q;

	q = open_for(what, &cfg);
	if (q == NULL)
		return;
	if (q_region_table_create(4, &table) != Q_OK || posix_memalign(&memory, 4096, SIZE) != 0)
		why = "no memory";
	else
		why = describe_one(q, table, memory, SIZE);
	end_step(what, why);
	close_one(q);
	q_region_table_destroy(table);
	free(memory);
}

/* Both resident at once, which a driver that runs cooperative grids one after the other forbids. */
static void two_queues(void)
{
	static const char what[] = "smoke: two queues at once";
	QueueConfig cfg = smoke_config(1);
	const char *why = NULL;
	GpuQueue *q, *other;

	cfg.idle_park_ms = UINT32_MAX;
	q = open_for(what, &cfg);
	if (q == NULL)
		return;
	other = q_init(&cfg);
	if (other == NULL)
		why = q_last_error();
	for (uint32_t i = 0; i < 20 && why == NULL; i++)
		why = one_message(i % 2 == 0 ? q : other, 64, i);
	end_step(what, why);
	q_shutdown(other);
	close_one(q);
}

/* A kernel of the application's, in a module that is loaded beside the queue. */
struct application {
	const void *image;
	CUmodule module;
	CUfunction kernel;
	CUstream stream;
	int result;
};

static int launch_and_wait(struct application *a, uint64_t ns)
{
	const uint64_t until = gq__now_ns() + ns;
	CUdeviceptr nowhere = 0;
	void *arguments[] = { &nowhere };
	int result = cu->cuLaunchKernel(a->kernel, 1, 1, 1, 1, 1, 1, 0, a->stream, arguments, NULL);

	while (result == 0 && (result = cu->cuStreamQuery(a->stream)) == GQ_CU_NOT_READY &&
	       gq__now_ns() < until)
		result = 0;
	return result;
}

static void load_application(void *user)
{
	struct application *a = user;

	a->result = cu->cuModuleLoadDataEx(&a->module, a->image, 0, NULL, NULL);
	if (a->result == 0)
		a->result = cu->cuModuleGetFunction(&a->kernel, a->module, "gpuq_canary");
	if (a->result == 0)
		a->result = cu->cuStreamCreate(&a->stream, GQ_CU_STREAM_NON_BLOCKING);
	if (a->result == 0)
		a->result = launch_and_wait(a, UINT64_C(5000000000));
}

static void unload_application(void *user)
{
	struct application *a = user;

	if (a->stream != NULL)
		cu->cuStreamDestroy(a->stream);
	if (a->module != NULL)
		cu->cuModuleUnload(a->module);
}

static void preloaded(void)
{
	static const char what[] =
		"smoke: a kernel that q_preload() has loaded starts beside the grid";
	QueueConfig cfg = smoke_config(1);
	struct application a = { .image = NULL };
	const char *why;
	CUcontext ours;
	GpuQueue *q;

	cfg.idle_park_ms = UINT32_MAX;
	q = open_for(what, &cfg);
	if (q == NULL)
		return;
	a.image = q->processor.device[1];
	why = one_message(q, 64, 1);
	if (why == NULL && q_preload(q, load_application, &a) != Q_OK)
		why = q_last_error();
	if (why == NULL && a.result == 0) {
		why = one_message(q, 64, 2);
		if (why == NULL && (a.result = cu->cuCtxPushCurrent(context)) == 0) {
			a.result = launch_and_wait(&a, UINT64_C(1000000000));
			cu->cuCtxPopCurrent(&ours);
		}
	}
	if (why == NULL && a.result != 0)
		why = a.result == GQ_CU_NOT_READY ? "the kernel waits for the grid"
						  : error_of("loading or launching it", a.result);
	if (why == NULL)
		why = one_message(q, 64, 3);
	end_step(what, why);
	if (q_preload(q, unload_application, &a) != Q_OK)
		printf("  not unloaded: %s\n", q_last_error());
	close_one(q);
}

/* More streams than the device has connections: do some wait behind the resident grid? */
static void many_streams(void)
{
	static const char what[] = "smoke: 32 other streams get through beside the grid";
	enum { STREAMS = 32 };
	QueueConfig cfg = smoke_config(1);
	CUstream streams[STREAMS] = { NULL };
	uint32_t through = 0, waits = 0;
	CUdeviceptr word = 0;
	CUcontext ours;
	char text[100];
	GpuQueue *q;
	int result;

	cfg.idle_park_ms = UINT32_MAX;
	begin_step(what);
	result = cu->cuCtxPushCurrent(context);
	if (result == 0)
		result = cu->cuMemAlloc(&word, 4096);
	for (int i = 0; i < STREAMS && result == 0; i++) {
		result = cu->cuStreamCreate(&streams[i], GQ_CU_STREAM_NON_BLOCKING);
		if (result == 0) /* what is loaded lazily is loaded now */
			result = cu->cuMemsetD8Async(word, 1, 4096, streams[i]);
		if (result == 0)
			result = cu->cuStreamSynchronize(streams[i]);
	}
	cu->cuCtxPopCurrent(&ours);
	if (result != 0) {
		end_step(what, error_of("cuStreamCreate, cuMemsetD8Async", result));
		return;
	}
	q = open_for(what, &cfg);
	if (q == NULL || cu->cuCtxPushCurrent(context) != 0)
		return;
	for (int i = 0; i < STREAMS; i++) {
		const uint64_t until = gq__now_ns() + 100000000;

		result = cu->cuMemsetD8Async(word, 2, 4096, streams[i]);
		while (result == 0 && (result = cu->cuStreamQuery(streams[i])) == GQ_CU_NOT_READY &&
		       gq__now_ns() < until)
			result = 0;
		through += result == 0;
		waits += result == GQ_CU_NOT_READY;
	}
	cu->cuCtxPopCurrent(&ours);
	snprintf(text, sizeof(text), "%" PRIu32 " of %d came through, %" PRIu32 " wait", through,
		 STREAMS, waits);
	end_step(what, through == STREAMS ? NULL : text);
	close_one(q);
	if (cu->cuCtxPushCurrent(context) != 0)
		return;
	for (int i = 0; i < STREAMS; i++)
		cu->cuStreamDestroy(streams[i]);
	cu->cuMemFree(word);
	cu->cuCtxPopCurrent(&ours);
}

int smoke(void)
{
	const bool all = strcmp(processor, "echo") == 0; /* the shipped one has all three */

	on_hang = tell_all;
	if (!find_driver()) {
		if (cu != NULL)
			return SMOKE_NOTHING;
		printf("skipped: %s\n", q_last_error());
		return strstr(q_last_error(), "no driver") != NULL ||
				       strstr(q_last_error(), "finds no device") != NULL
			       ? SMOKE_NO_DEVICE
			       : SMOKE_NOTHING;
	}
	if (!use_device())
		return SMOKE_NOTHING;
	by("smoke: a warp each, pulled", 1, Q_TRANSPORT_PULL);
	if (all) {
		by("smoke: a thread each, pulled", 0, Q_TRANSPORT_PULL);
		by("smoke: a block each, pulled", 2, Q_TRANSPORT_PULL);
	}
	if (came_back == 0) { /* each of the others may take its whole patience to say the same */
		printf("smoke: not one message came back\n");
		return SMOKE_NOTHING;
	}
	by("smoke: a warp each, copied", 1, Q_TRANSPORT_COPY);
	if (all) {
		by("smoke: a thread each, copied", 0, Q_TRANSPORT_COPY);
		by("smoke: a block each, copied", 2, Q_TRANSPORT_COPY);
	}
	by("smoke: a warp each, by BAR1", 1, Q_TRANSPORT_BAR1);
	by("smoke: a warp each, as the library chooses", 1, Q_TRANSPORT_AUTO);
	parks_and_pauses();
	bounded();
	traced();
	described();
	two_queues();
	preloaded();
	many_streams();
	printf("smoke: %u messages came back\n", came_back);
	on_hang = NULL;
	return came_back != 0 ? SMOKE_WORKS : SMOKE_NOTHING;
}
