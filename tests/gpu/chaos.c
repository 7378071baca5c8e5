/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chaos.c - the chaos stage of gpu_check: what an application may do beside a queue, done while
 * messages flow. The driver is used through the library's own table and cuGetProcAddress, so that
 * the program needs no CUDA at run time but the driver.
 */
#include "device/cuda/driver/loader.h"
#include "gpu_check.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define flag(x)        __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define set_flag(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELAXED)

/* ---- producers that go on whatever happens --------------------------------------------------- */

enum { PRODUCERS = 2 };

struct producer {
	GpuQueue *q;
	pthread_t thread;
	uint32_t *stop;
	uint64_t done;
	QueueStatus status;
};

static void *produce(void *arg)
{
	struct producer *p = arg;

	while (flag(*p->stop) == 0 && p->status == Q_OK) {
		uint64_t id, back = 0;
		size_t len = sizeof(back);

		p->status = q_enqueue(p->q, &p->done, sizeof(p->done), &id, LONG_MS);
		if (p->status == Q_OK)
			p->status = q_wait(p->q, id, LONG_MS);
		if (p->status == Q_OK)
			p->status = q_try_dequeue_result(p->q, id, &back, &len);
		if (p->status == Q_OK && (back != p->done || len != sizeof(back)))
			p->status = Q_ERR_FAILED;
		set_flag(p->done, p->done + 1);
	}
	return NULL;
}

static void start_producers(struct producer *p, GpuQueue *q, uint32_t *stop)
{
	*stop = 0;
	for (int i = 0; i < PRODUCERS; i++) {
		p[i] = (struct producer){ .q = q, .stop = stop, .status = Q_OK };
		pthread_create(&p[i].thread, NULL, produce, &p[i]);
	}
}

/* @return messages passed; `detail` says what went wrong, if something did. */
static uint64_t stop_producers(struct producer *p, uint32_t *stop, char *detail, size_t room)
{
	uint64_t sum = 0;

	set_flag(*stop, 1);
	for (int i = 0; i < PRODUCERS; i++) {
		pthread_join(p[i].thread, NULL);
		sum += p[i].done;
		if (p[i].status != Q_OK)
			snprintf(detail, room, "a producer got %s after %" PRIu64,
				 q_status_string(p[i].status), p[i].done);
	}
	return sum;
}

static uint64_t produced(const struct producer *p)
{
	uint64_t sum = 0;

	for (int i = 0; i < PRODUCERS; i++)
		sum += flag(p[i].done);
	return sum;
}

/* The check is passed when both moved on. */
static void conclude(const char *what, const char *of, uint64_t done, uint64_t passed,
		     const char *detail)
{
	char text[300];

	snprintf(text, sizeof(text), "%" PRIu64 " %s, %" PRIu64 " messages meanwhile%s%s", done, of,
		 passed, detail[0] != '\0' ? "; " : "", detail);
	verdict(detail[0] == '\0' && done != 0 && passed != 0, what, text);
}

/* ---- the queue's own calls ------------------------------------------------------------------- */

static void queues_come_and_go(void)
{
	static const char what[] = "chaos: pause, resume, park, second queues";
	struct producer p[PRODUCERS];
	uint64_t passed, rounds = 0;
	GpuQueue *q = open_queue(1, 64, 64, 1), *other;
	char detail[200] = "";
	uint32_t stop;

	if (q == NULL) {
		verdict(false, what, q_last_error());
		return;
	}
	start_producers(p, q, &stop);
	for (int i = 0; i < 50 && detail[0] == '\0'; i++, rounds++) {
		alive(what);
		if (q_pause(q, LONG_MS) != Q_OK || q_resume(q) != Q_OK)
			snprintf(detail, sizeof(detail), "pause: %s", q_last_error());
		nap_ms((unsigned)i % 5);
		if (i % 10 != 0)
			continue;
		other = open_queue(1, 8, 64, 0);
		if (other == NULL)
			snprintf(detail, sizeof(detail), "second queue: %s", q_last_error());
		q_shutdown(other);
	}
	passed = stop_producers(p, &stop, detail, sizeof(detail));
	for (int i = 0; i < 20 && detail[0] == '\0'; i++) {
		uint64_t id;

		alive(what);
		nap_ms(20); /* parked */
		if (q_enqueue(q, "x", 1, &id, 0) != Q_OK || q_wait(q, id, LONG_MS) != Q_OK ||
		    q_release(q, id) != Q_OK)
			snprintf(detail, sizeof(detail), "wake: %s", q_last_error());
	}
	conclude(what, "pauses", rounds, passed, detail);
	q_shutdown(q);
}

/* Results are left where they are until nothing more is accepted; then all are taken. */
static void the_consumer_of_results_is_slow(void)
{
	static const char what[] = "chaos: results left unread until the queue is full";
	enum { ROUNDS = 30, CAPACITY = 64, MAX_BYTES = 2048 };
	GpuQueue *q = open_queue(1, CAPACITY, MAX_BYTES, 1);
	static uint8_t payload[MAX_BYTES], result[MAX_BYTES];
	uint64_t ids[CAPACITY], taken = 0;
	char detail[200] = "";

	if (q == NULL) {
		verdict(false, what, q_last_error());
		return;
	}
	for (uint32_t round = 0; round < ROUNDS && detail[0] == '\0'; round++) {
		uint32_t sent = 0;
		QueueStatus status;

		alive(what);
		for (;; sent++) {
			memset(payload, (int)(round + sent), sizeof(payload));
			status = q_enqueue(q, payload, (round * 97 + sent * 31) % MAX_BYTES + 1,
					   sent < CAPACITY ? &ids[sent] : NULL, 0);
			if (status != Q_OK || sent == CAPACITY)
				break;
		}
		if (status != Q_ERR_FULL || sent != CAPACITY) {
			snprintf(detail, sizeof(detail), "%s after %" PRIu32 " of %d",
				 q_status_string(status), sent, CAPACITY);
			break;
		}
		nap_ms(round % 4 * 10); /* all finished, perhaps parked; and nobody looks */
		if (round % 2 == 1 && (q_pause(q, LONG_MS) != Q_OK || q_resume(q) != Q_OK))
			snprintf(detail, sizeof(detail), "pause: %s", q_last_error());
		for (uint32_t k = 0; k < sent && detail[0] == '\0'; k++) {
			const uint32_t i = (k * 37 + round) % sent; /* in any order */
			const size_t wanted = (round * 97 + i * 31) % MAX_BYTES + 1;
			size_t len = sizeof(result);

			memset(payload, (int)(round + i), wanted);
			status = q_wait(q, ids[i], LONG_MS);
			if (status == Q_OK)
				status = q_try_dequeue_result(q, ids[i], result, &len);
			if (status != Q_OK || len != wanted || memcmp(result, payload, len) != 0)
				snprintf(detail, sizeof(detail), "a result: %s, %zu of %zu bytes",
					 q_status_string(status), len, wanted);
			taken++;
		}
	}
	conclude(what, "results", taken, taken, detail);
	q_shutdown(q);
}

/* ---- the driver, in other threads ------------------------------------------------------------ */

static struct {
	const struct gq_cu *cu;
	CUcontext context;
	int (*alloc_async)(CUdeviceptr *address, size_t bytes, CUstream stream);
	int (*free_async)(CUdeviceptr address, CUstream stream);
} driver;

/* Needs no queue. */
static const char *open_driver(void)
{
	const char *path = getenv("GPUQ_LIBCUDA");
	gq_cu_get_proc_address_fn get;
	void *library, *symbol;
	CUdevice device;

	driver.cu = gq__cuda_driver();
	if (driver.cu == NULL)
		return q_last_error();
	if (driver.cu->cuDeviceGet(&device, 0) != 0 ||
	    driver.cu->cuDevicePrimaryCtxRetain(&driver.context, device) != 0)
		return "the driver's primary context";
	library = dlopen(path != NULL && path[0] != '\0' ? path : "libcuda.so.1", RTLD_NOW);
	symbol = library != NULL ? dlsym(library, "cuGetProcAddress_v2") : NULL;
	if (symbol == NULL)
		return "no cuGetProcAddress_v2";
	memcpy(&get, &symbol, sizeof(get));
	if (get("cuMemAllocAsync", &symbol, 11020, 0, NULL) == 0)
		memcpy(&driver.alloc_async, &symbol, sizeof(symbol));
	if (get("cuMemFreeAsync", &symbol, 11020, 0, NULL) == 0)
		memcpy(&driver.free_async, &symbol, sizeof(symbol));
	return NULL;
}

/* A thread beside the producers. */
struct meddler {
	pthread_t thread;
	uint32_t *stop;
	uint64_t done, slowest_ns;
	CUstream stream;
	uint8_t *host;      /* pinned, two halves */
	CUdeviceptr device; /* the same size as one half */
	int error;
	const char *wrong;
};

enum { COPY_BYTES = 4 << 20 };

#define STEP(m, name, ...)                                                                         \
	do {                                                                                       \
		(m)->error = driver.cu->name(__VA_ARGS__);                                         \
		if ((m)->error != 0) {                                                             \
			(m)->wrong = #name;                                                        \
			return;                                                                    \
		}                                                                                  \
	} while (0)

/* To the device and back, and every byte is looked at. */
static void copy_once(struct meddler *m)
{
	memset(m->host, (int)m->done + 1, COPY_BYTES);
	STEP(m, cuMemcpyHtoDAsync, m->device, m->host, COPY_BYTES, m->stream);
	STEP(m, cuMemcpyDtoHAsync, m->host + COPY_BYTES, m->device, COPY_BYTES, m->stream);
	STEP(m, cuStreamSynchronize, m->stream);
	if (memcmp(m->host, m->host + COPY_BYTES, COPY_BYTES) != 0)
		m->wrong = "a copy came back damaged";
}

/* Stream-ordered: no call of these waits for the resident grid. */
static void allocate_once(struct meddler *m)
{
	const size_t bytes = (size_t)4096 << m->done % 13;
	CUdeviceptr a, b;

	m->wrong = "cuMemAllocAsync, cuMemFreeAsync";
	m->error = driver.alloc_async(&a, bytes, m->stream);
	if (m->error == 0)
		m->error = driver.alloc_async(&b, 2 * bytes, m->stream);
	if (m->error != 0)
		return;
	STEP(m, cuMemsetD8Async, a, 1, bytes, m->stream);
	m->error = driver.free_async(a, m->stream);
	if (m->error == 0)
		m->error = driver.free_async(b, m->stream);
	if (m->error != 0)
		return;
	STEP(m, cuStreamSynchronize, m->stream);
	m->wrong = NULL;
}

static void run_meddler(struct meddler *m, void (*once)(struct meddler *))
{
	CUcontext context;

	m->error = driver.cu->cuCtxPushCurrent(driver.context);
	if (m->error != 0)
		m->wrong = "cuCtxPushCurrent";
	while (flag(*m->stop) == 0 && m->wrong == NULL) {
		const uint64_t begun = gq__now_ns();
		uint64_t took;

		once(m);
		took = gq__now_ns() - begun;
		m->slowest_ns = took > m->slowest_ns ? took : m->slowest_ns;
		set_flag(m->done, m->done + 1);
	}
	driver.cu->cuCtxPopCurrent(&context);
}

static void *copy_for_ever(void *arg)
{
	run_meddler(arg, copy_once);
	return NULL;
}

static void *allocate_for_ever(void *arg)
{
	run_meddler(arg, allocate_once);
	return NULL;
}

/* While nothing is resident: allocations wait for every kernel, and a stream's first copy may. */
static bool prepare_meddlers(struct meddler *m, int n, uint32_t *stop)
{
	const struct gq_cu *cu = driver.cu;
	CUcontext context;
	bool ok = cu->cuCtxPushCurrent(driver.context) == 0;

	for (int i = 0; i < n && ok; i++) {
		void *host = NULL;

		m[i] = (struct meddler){ .stop = stop };
		ok = cu->cuStreamCreate(&m[i].stream, GQ_CU_STREAM_NON_BLOCKING) == 0 &&
		     cu->cuMemAlloc(&m[i].device, COPY_BYTES) == 0 &&
		     cu->cuMemHostAlloc(&host, (size_t)2 * COPY_BYTES,
					GQ_CU_MEMHOSTALLOC_PORTABLE |
						GQ_CU_MEMHOSTALLOC_DEVICEMAP) == 0 &&
		     cu->cuMemcpyHtoDAsync(m[i].device, host, COPY_BYTES, m[i].stream) == 0 &&
		     cu->cuStreamSynchronize(m[i].stream) == 0;
		m[i].host = host;
	}
	cu->cuCtxPopCurrent(&context);
	return ok;
}

/* After the queue: nothing is resident again. */
static void give_back(struct meddler *m, int n)
{
	CUcontext context;

	if (driver.cu->cuCtxPushCurrent(driver.context) != 0)
		return;
	for (int i = 0; i < n; i++) {
		driver.cu->cuStreamDestroy(m[i].stream);
		driver.cu->cuMemFree(m[i].device);
		driver.cu->cuMemFreeHost(m[i].host);
	}
	driver.cu->cuCtxPopCurrent(&context);
}

static void beside_it(const char *what, const char *of, void *(*run)(void *))
{
	enum { MEDDLERS = 2, FOR_MS = 3000 };
	struct meddler m[MEDDLERS];
	struct producer p[PRODUCERS];
	uint32_t stop = 0, stop_production;
	uint64_t passed, done = 0, slowest = 0, seen = 0;
	char detail[200] = "", text[100];
	GpuQueue *q;

	alive(what);
	if (!prepare_meddlers(m, MEDDLERS, &stop)) {
		verdict(false, what, "the driver refused the memory for it");
		return;
	}
	q = open_queue(1, 64, 64, UINT32_MAX); /* never leaves by itself */
	if (q == NULL) {
		verdict(false, what, q_last_error());
		return;
	}
	start_producers(p, q, &stop_production);
	for (int i = 0; i < MEDDLERS; i++)
		pthread_create(&m[i].thread, NULL, run, &m[i]);
	for (unsigned ms = 0; ms < FOR_MS; ms += 50) {
		const uint64_t now = produced(p) + flag(m[0].done) + flag(m[1].done);

		nap_ms(50);
		if (now != seen) /* if nothing moves, the watchdog ends the program */
			alive(what);
		seen = now;
	}
	set_flag(stop, 1);
	for (int i = 0; i < MEDDLERS; i++) {
		pthread_join(m[i].thread, NULL);
		done += m[i].done;
		slowest = m[i].slowest_ns > slowest ? m[i].slowest_ns : slowest;
		if (m[i].wrong != NULL)
			snprintf(detail, sizeof(detail), "%s: error %d", m[i].wrong, m[i].error);
	}
	passed = stop_producers(p, &stop_production, detail, sizeof(detail));
	snprintf(text, sizeof(text), "%s, the slowest %.1f ms", of, (double)slowest / 1e6);
	conclude(what, text, done, passed, detail);
	q_shutdown(q);
	give_back(m, MEDDLERS);
}

/* Calls that would wait for a resident grid for ever, made while the queue is paused: none may
 * wait, and the producers may notice nothing but a delay. */
static void allocations_between_pause_and_resume(void)
{
	static const char what[] = "chaos: cuMemAlloc, cuMemHostAlloc and their frees while paused";
	const struct gq_cu *cu = driver.cu;
	struct producer p[PRODUCERS];
	uint64_t passed, done = 0;
	GpuQueue *q = open_queue(1, 64, 64, UINT32_MAX);
	char detail[200] = "";
	CUcontext context;
	uint32_t stop;

	if (q == NULL) {
		verdict(false, what, q_last_error());
		return;
	}
	start_producers(p, q, &stop);
	for (int i = 0; i < 30 && detail[0] == '\0'; i++) {
		CUdeviceptr device = 0;
		void *host = NULL;
		int error;

		alive(what);
		nap_ms(5);
		if (q_pause(q, LONG_MS) != Q_OK) {
			snprintf(detail, sizeof(detail), "pause: %s", q_last_error());
			break;
		}
		error = cu->cuCtxPushCurrent(driver.context);
		if (error == 0)
			error = cu->cuMemAlloc(&device, (size_t)1 << 20);
		if (error == 0)
			error = cu->cuMemHostAlloc(&host, (size_t)1 << 16,
						   GQ_CU_MEMHOSTALLOC_PORTABLE |
							   GQ_CU_MEMHOSTALLOC_DEVICEMAP);
		if (error == 0)
			error = cu->cuMemFree(device);
		if (error == 0)
			error = cu->cuMemFreeHost(host);
		cu->cuCtxPopCurrent(&context);
		if (error != 0)
			snprintf(detail, sizeof(detail), "CUDA error %d", error);
		if (q_resume(q) != Q_OK)
			snprintf(detail, sizeof(detail), "resume: %s", q_last_error());
		done++;
	}
	passed = stop_producers(p, &stop, detail, sizeof(detail));
	conclude(what, "rounds", done, passed, detail);
	q_shutdown(q);
}

void chaos(void)
{
	const char *why;

	queues_come_and_go();
	the_consumer_of_results_is_slow();
	why = open_driver();
	if (why != NULL) {
		verdict(false, "chaos: the driver", why);
		return;
	}
	allocations_between_pause_and_resume();
	beside_it("chaos: copies in other streams", "copies of 4 MiB both ways", copy_for_ever);
	if (driver.alloc_async == NULL || driver.free_async == NULL)
		printf("left out: stream-ordered allocations: this driver has none\n");
	else
		beside_it("chaos: stream-ordered allocations in other threads",
			  "pairs of cuMemAllocAsync and cuMemFreeAsync", allocate_for_ever);
}
