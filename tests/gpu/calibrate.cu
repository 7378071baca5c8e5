/* SPDX-License-Identifier: Apache-2.0 */
/*
 * calibrate.cu: what this machine's GPU and its link cost, for design decisions; about a minute.
 *
 * JSON lines; each says what it is and in which unit. `case` begins with the number of the list of
 * calibrations that the project keeps (docs/reference/cuda.md): c1 latency of loads, c2 ping-pong,
 * c3 releases, c4 stores to the host, c5 loads from the host, c6 copy engine, c8 attributes, c9
 * pollers, c10 power, c11 which calls wait for a resident kernel, c12 small reads of the host by
 * width, c13 claims in device memory, c14 naps, c15 entries posted to the host. c7, a mapping of
 * device memory for the CPU, needs Vulkan or GDRCopy and is not measured. Arguments: the numbers of
 * the cases to run; without arguments all are run.
 */
#include "gpu_tool.cuh"

#include <dlfcn.h>

#include <string>

static Watchdog watchdog;
static cudaDeviceProp device;
static cudaStream_t streams[3];

enum { REPEATS = 5 };

/* The median and what it was among. */
struct Spread {
	double median, min, max;
};

static Spread spread_of(std::vector<double> v)
{
	std::sort(v.begin(), v.end());
	return { v[v.size() / 2], v.front(), v.back() };
}

/* head: the line's first members. */
static void report(const std::string &head, const char *unit, const std::vector<double> &v)
{
	const Spread s = spread_of(v);

	line("%s,\"unit\":\"%s\",\"value\":%.4g,\"min\":%.4g,\"max\":%.4g,\"runs\":%zu",
	     head.c_str(), unit, s.median, s.min, s.max, v.size());
}

__attribute__((format(printf, 1, 2))) static std::string text(const char *format, ...)
{
	char buf[400];
	va_list args;

	va_start(args, format);
	vsnprintf(buf, sizeof(buf), format, args);
	va_end(args);
	return buf;
}

static void finish(cudaStream_t stream)
{
	CHECK(cudaGetLastError());
	CHECK(cudaStreamSynchronize(stream));
}

/* Seconds that `launch` takes on the GPU. */
template <typename F> static double seconds_of(cudaStream_t stream, F launch)
{
	static cudaEvent_t from, to;
	float ms;

	if (from == nullptr) {
		CHECK(cudaEventCreate(&from));
		CHECK(cudaEventCreate(&to));
	}
	CHECK(cudaEventRecord(from, stream));
	launch();
	CHECK(cudaGetLastError());
	CHECK(cudaEventRecord(to, stream));
	CHECK(cudaEventSynchronize(to));
	CHECK(cudaEventElapsedTime(&ms, from, to));
	return ms / 1e3;
}

/* ---- c1: T, one thread's dependent loads ----------------------------------------------------- */

static __global__ void chase(const uint64_t *from, uint32_t n, uint64_t *ns)
{
	Limit limit = Limit::none();
	const uint64_t begun = device_ns();
	uint64_t at = 0;

	for (uint32_t i = 0; i < n && !limit.over(); i++)
		at = load_relaxed(from + at);
	ns[1] = at;
	ns[0] = device_ns() - begun;
}

static void c1_load_latency()
{
	enum { N = 20000, LINES = 4096, WORDS = 16 };
	uint64_t *host = pinned<uint64_t>((size_t)LINES * WORDS);
	uint64_t *own = on_device<uint64_t>((size_t)LINES * WORDS);
	uint64_t *ns = pinned<uint64_t>(2);

	/* A ring through all lines; the stride shares no factor with their number. */
	for (uint64_t i = 0; i < LINES; i++)
		host[i * WORDS] = (i + 1237) % LINES * WORDS;
	CHECK(cudaMemcpy(own, host, sizeof(uint64_t) * LINES * WORDS, cudaMemcpyHostToDevice));
	for (int where = 0; where < 2; where++) {
		std::vector<double> v;

		for (int r = 0; r < REPEATS; r++) {
			chase<<<1, 1, 0, streams[0]>>>(where == 0 ? host : own, N, ns);
			finish(streams[0]);
			v.push_back((double)ns[0] / N);
		}
		report(text("\"case\":\"c1_dependent_load\",\"memory\":\"%s\"",
			    where == 0 ? "host" : "device"),
		       "ns", v);
	}
}

/* ---- c2, c9: flag ping-pong, alone and beside pollers ---------------------------------------- */

typedef int (*WriteValue64)(cudaStream_t, unsigned long long address, uint64_t value,
			    unsigned int flags);

static WriteValue64 write_value()
{
	void *entry = nullptr;
	cudaDriverEntryPointQueryResult found;

	if (cudaGetDriverEntryPointByVersion("cuStreamWriteValue64", &entry, 12000,
					     cudaEnableDefault, &found) != cudaSuccess ||
	    found != cudaDriverEntryPointSuccess)
		entry = nullptr;
	return (WriteValue64)entry;
}

enum Way { BY_STORE, BY_COPY, BY_WRITE_VALUE };

static Times ping_pong(Way way, uint32_t pollers, bool poll_device)
{
	static uint64_t *host = pinned<uint64_t>(64), *own = on_device<uint64_t>(64);
	const uint64_t n = way == BY_STORE ? 10000 : 2000;
	uint64_t *ping = way == BY_STORE ? host : own, *pong = host + 16, *source = host + 32;
	uint64_t *idle = poll_device ? own + 16 : host + 48, running = 0;
	const WriteValue64 write = way == BY_WRITE_VALUE ? write_value() : nullptr;
	std::vector<uint64_t> ns;

	if (way == BY_WRITE_VALUE && write == nullptr)
		return { 0, 0, 0, 0 };
	memset(host, 0, 64 * sizeof(*host));
	CHECK(cudaMemsetAsync(own, 0, 64 * sizeof(*own), streams[0]));
	CHECK(cudaStreamSynchronize(streams[0]));
	answer_pings<<<1 + pollers, 32, 0, streams[0]>>>(ping, pong, n, idle, own + 32);
	CHECK(cudaGetLastError());
	for (const uint64_t begun = now_ns(); running < 1 + pollers;) { /* all poll by now */
		CHECK(cudaMemcpyAsync(source, own + 32, 8, cudaMemcpyDeviceToHost, streams[1]));
		CHECK(cudaStreamSynchronize(streams[1]));
		running = source[0];
		if (now_ns() - begun > 1000000000)
			break;
	}
	for (uint64_t i = 1; i <= n; i++) {
		const uint64_t begun = now_ns();

		switch (way) {
		case BY_STORE:
			host_store(ping, i);
			break;
		case BY_COPY:
			*source = i;
			CHECK(cudaMemcpyAsync(ping, source, 8, cudaMemcpyHostToDevice, streams[1]));
			break;
		case BY_WRITE_VALUE:
			write(streams[1], (unsigned long long)(uintptr_t)ping, i, 0);
			break;
		}
		if (!await(pong, i, KERNEL_LIMIT_NS))
			break;
		if (i > n / 10)
			ns.push_back(now_ns() - begun);
	}
	host_store(host + 48, 1);
	host_store(source, 1);
	CHECK(cudaMemcpyAsync(own + 16, source, 8, cudaMemcpyHostToDevice, streams[1]));
	CHECK(cudaStreamSynchronize(streams[1]));
	CHECK(cudaStreamSynchronize(streams[0]));
	return times_of(ns);
}

static void report_ping_pong(const std::string &head, Way way, uint32_t pollers, bool poll_device)
{
	std::vector<double> p50, p99;

	for (int r = 0; r < 3; r++) {
		const Times t = ping_pong(way, pollers, poll_device);

		if (t.n == 0) {
			line("%s,\"skipped\":\"no answer, or no such call\"", head.c_str());
			return;
		}
		p50.push_back((double)t.p50);
		p99.push_back((double)t.p99);
	}
	report(head + ",\"percentile\":50", "ns", p50);
	report(head + ",\"percentile\":99", "ns", p99);
}

static void c2_ping_pong()
{
	report_ping_pong("\"case\":\"c2_ping_pong\",\"gpu_polls\":\"host\",\"cpu\":\"store\"",
			 BY_STORE, 0, false);
	report_ping_pong("\"case\":\"c2_ping_pong\",\"gpu_polls\":\"device\",\"cpu\":\"copy\"",
			 BY_COPY, 0, false);
	report_ping_pong(
		"\"case\":\"c2_ping_pong\",\"gpu_polls\":\"device\",\"cpu\":\"write_value\"",
		BY_WRITE_VALUE, 0, false);
}

static void c9_pollers()
{
	const uint32_t all = (uint32_t)device.multiProcessorCount;
	const uint32_t pollers[] = { 0, 1, 16, all };

	for (int on_host = 1; on_host >= 0; on_host--)
		for (uint32_t n : pollers)
			report_ping_pong(text("\"case\":\"c9_ping_pong_beside_pollers\","
					      "\"pollers\":%u,\"they_poll\":\"%s\"",
					      n, on_host != 0 ? "host" : "device"),
					 BY_STORE, n, on_host == 0);
}

/* ---- c3: R, a release with stores to the host outstanding ------------------------------------ */

/* In cycles, as the nanosecond clock ticks coarsely; it says how long a cycle is. */
static __global__ void release(uint64_t *host, uint32_t outstanding, uint32_t rounds, uint64_t *ns)
{
	Limit limit = Limit::none();
	const long long first = clock64();
	const uint64_t begun = device_ns();
	long long sum = 0;

	for (uint32_t r = 0; r < rounds && !limit.over(); r++) {
		for (uint32_t i = 0; i < outstanding; i++)
			store_relaxed(host + 16 * (1 + (size_t)i), r);

		const long long before = clock64();

		store_release(host, r);
		asm volatile("fence.acq_rel.sys;" ::: "memory"); /* until the next may begin */
		sum += clock64() - before;
	}
	*ns = (uint64_t)((double)sum * (double)(device_ns() - begun) / (double)(clock64() - first));
}

/* Reads and writes device memory until `stop` or its limit. */
static __global__ void hammer(uint4 *memory, size_t n, const uint64_t *stop)
{
	const uint64_t begun = device_ns();
	const size_t step = (size_t)gridDim.x * blockDim.x;

	while (load_relaxed(stop) == 0 && device_ns() - begun < KERNEL_LIMIT_NS)
		for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i + n / 2 < n;
		     i += step)
			memory[i + n / 2] = memory[i];
}

static void c3_release()
{
	static const uint32_t outstanding[] = { 0, 1, 3, 32, 1024 };
	enum { ROUNDS = 1000 };
	const size_t big = (size_t)1 << 26; /* 1 GiB of uint4 */
	uint64_t *host = pinned<uint64_t>(16 * 1025), *ns = pinned<uint64_t>(1);
	uint64_t *stop = pinned<uint64_t>(1);
	uint4 *memory = on_device<uint4>(big);

	for (int load = 0; load < 2; load++) {
		for (int remote = 0; remote < 2; remote++) {
			cudaLaunchAttribute domain;
			cudaLaunchConfig_t config = {};

			domain.id = cudaLaunchAttributeMemSyncDomain;
			domain.val.memSyncDomain = remote != 0 ? cudaLaunchMemSyncDomainRemote
							       : cudaLaunchMemSyncDomainDefault;
			config.gridDim = dim3(1);
			config.blockDim = dim3(1);
			config.stream = streams[0];
			config.attrs = &domain;
			config.numAttrs = 1;
			for (uint32_t k : outstanding) {
				std::vector<double> v;

				for (int r = 0; r < REPEATS; r++) {
					host_store(stop, 0);
					if (load != 0) { /* leaves an SM for the other */
						hammer<<<device.multiProcessorCount - 2, 512, 0,
							 streams[1]>>>(memory, big, stop);
						CHECK(cudaGetLastError());
					}
					if (cudaLaunchKernelEx(&config, release, host, k,
							       (uint32_t)ROUNDS,
							       ns) != cudaSuccess) {
						cudaGetLastError();
						*ns = 0;
					}
					finish(streams[0]);
					host_store(stop, 1);
					finish(streams[1]);
					if (*ns != 0)
						v.push_back((double)*ns / ROUNDS);
				}
				const std::string head = text(
					"\"case\":\"c3_release\",\"outstanding\":%u,\"domain\":"
					"\"%s\",\"beside\":\"%s\"",
					k, remote != 0 ? "remote" : "default",
					load != 0 ? "copy kernel" : "nothing");

				if (v.empty())
					line("%s,\"skipped\":\"the launch was refused\"",
					     head.c_str());
				else
					report(head, "ns", v);
			}
		}
	}
	CHECK(cudaFree(memory));
}

/* ---- c4, c5: stores to the host, loads from it ----------------------------------------------- */

/* Each group of bytes/16 threads writes one run of `bytes`, runs 128 bytes apart. Sizes of memory
 * are powers of two, here and below. */
static __global__ void store_runs(uint4 *host, size_t lines, uint32_t bytes, uint32_t rounds)
{
	Limit limit = Limit::none();
	const uint32_t group = bytes / 16;
	const size_t thread = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
	const size_t runs = (size_t)gridDim.x * blockDim.x / group;

	for (uint32_t r = 0; r < rounds && !limit.over(); r++) {
		const size_t line = (thread / group + r * runs) & (lines - 1);
		const uint4 value = { r, r, r, r };

		__stcs(host + line * 8 + thread % group, value);
	}
}

static __global__ void load_runs(const uint4 *host, size_t n, uint32_t rounds, uint4 *out)
{
	Limit limit = Limit::none();
	const size_t threads = (size_t)gridDim.x * blockDim.x;
	size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
	uint4 sum = {};

	for (uint32_t r = 0; r < rounds && !limit.over(); r++) {
		uint4 v[8];

#pragma unroll
		for (int i = 0; i < 8; i++, at = (at + threads) & (n - 1))
			v[i] = __ldcv(host + at);
#pragma unroll
		for (int i = 0; i < 8; i++)
			sum.x ^= v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
	}
	if (sum.x == 0x12345678)
		out[0] = sum;
}

/* The copy engine of an SM: 16 KiB at a time, four on their way. */
enum { TMA_BYTES = 16384, TMA_STAGES = 4 };

static __global__ void tma_pull(const uint8_t *host, size_t bytes, uint32_t rounds)
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
	extern __shared__ __align__(128) uint8_t stage[];
	__shared__ __align__(8) uint64_t barrier[TMA_STAGES];
	Limit limit = Limit::none();

	if (threadIdx.x != 0)
		return;
	for (int i = 0; i < TMA_STAGES; i++)
		asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(
				     (uint32_t)__cvta_generic_to_shared(&barrier[i]))
			     : "memory");
	asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
	asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
	for (uint32_t r = 0; r < rounds + TMA_STAGES; r++) {
		const uint32_t b = (uint32_t)__cvta_generic_to_shared(&barrier[r % TMA_STAGES]);

		if (r >= TMA_STAGES) { /* what was asked for TMA_STAGES rounds ago */
			const uint32_t parity = (r / TMA_STAGES - 1) & 1;
			uint32_t there = 0;

			while (there == 0 && !limit.over())
				asm volatile(
					"{ .reg .pred p;\n"
					"mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
					"selp.u32 %0, 1, 0, p; }"
					: "=r"(there)
					: "r"(b), "r"(parity)
					: "memory");
			if (there == 0)
				__trap(); /* shared memory must outlive the copies into it */
		}
		if (r < rounds) {
			const size_t at = ((size_t)r * gridDim.x + blockIdx.x) * TMA_BYTES % bytes;

			asm volatile(
				"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(b),
				"r"((uint32_t)TMA_BYTES)
				: "memory");
			asm volatile(
				"cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
				"[%0], [%1], %2, [%3];" ::"r"((uint32_t)__cvta_generic_to_shared(
					stage + r % TMA_STAGES * TMA_BYTES)),
				"l"(host + at), "r"((uint32_t)TMA_BYTES), "r"(b)
				: "memory");
		}
	}
#endif
}

static void c4_c5_bandwidth(bool stores, bool loads)
{
	const uint32_t all = (uint32_t)device.multiProcessorCount;
	const uint32_t ctas[] = { 1, 4, 16, 64, all };
	const size_t bytes = (size_t)64 << 20;
	uint8_t *host = pinned<uint8_t>(bytes);
	uint4 *out = on_device<uint4>(1);

	for (uint32_t run = 16; stores && run <= 128; run *= 2)
		for (uint32_t n : ctas) {
			const uint32_t rounds = 20000 / (n < 16 ? 1 : n / 8) + 100;
			std::vector<double> rate;

			for (int r = 0; r < REPEATS; r++)
				rate.push_back(
					(double)rounds * n * 128 * 16 / seconds_of(streams[0], [&] {
						store_runs<<<n, 128, 0, streams[0]>>>(
							(uint4 *)host, bytes / 128, run, rounds);
					}));
			report(text("\"case\":\"c4_stores_to_host\",\"run_bytes\":%u,\"ctas\":%u",
				    run, n),
			       "bytes/s", rate);
		}
	if (!loads)
		return;
	for (uint32_t n : ctas) {
		const uint32_t rounds = 4000 / (n < 16 ? 1 : n / 8) + 50;
		std::vector<double> rate;

		for (int r = 0; r < REPEATS; r++)
			rate.push_back(
				(double)rounds * n * 256 * 8 * 16 / seconds_of(streams[0], [&] {
					load_runs<<<n, 256, 0, streams[0]>>>(
						(const uint4 *)host, bytes / 16, rounds, out);
				}));
		report(text("\"case\":\"c5_loads_from_host\",\"by\":\"threads\",\"ctas\":%u", n),
		       "bytes/s", rate);
	}
	if (device.major < 9) {
		line("\"case\":\"c5_loads_from_host\",\"by\":\"tma\",\"skipped\":\"compute "
		     "capability below 9.0\"");
		return;
	}
	CHECK(cudaFuncSetAttribute(tma_pull, cudaFuncAttributeMaxDynamicSharedMemorySize,
				   TMA_BYTES * TMA_STAGES));
	for (uint32_t n : ctas) {
		const uint32_t rounds = 8000 / (n < 4 ? 1 : n / 2) + 50;
		std::vector<double> rate;

		for (int r = 0; r < REPEATS; r++)
			rate.push_back(
				(double)rounds * n * TMA_BYTES / seconds_of(streams[0], [&] {
					tma_pull<<<n, 32, TMA_BYTES * TMA_STAGES, streams[0]>>>(
						host, bytes, rounds);
				}));
		report(text("\"case\":\"c5_loads_from_host\",\"by\":\"tma\",\"ctas\":%u", n),
		       "bytes/s", rate);
	}
}

/* ---- c6: the copy engine's latency ----------------------------------------------------------- */

static void c6_copy_latency()
{
	static const uint32_t sizes[] = { 64, 512, 4096, 65536 };
	enum { N = 2000 };
	uint8_t *host = pinned<uint8_t>(65536), *own = on_device<uint8_t>(65536);
	uint64_t *flag = pinned<uint64_t>(1);
	const WriteValue64 write = write_value();

	for (int by_flag = 0; by_flag < 2; by_flag++)
		for (uint32_t size : sizes) {
			const std::string head =
				text("\"case\":\"c6_copy_to_device\",\"size_bytes\":%u,\"then\":"
				     "\"%s\"",
				     size, by_flag != 0 ? "write_value, polled" : "synchronize");
			std::vector<uint64_t> ns;

			if (by_flag != 0 && write == nullptr) {
				line("%s,\"skipped\":\"no cuStreamWriteValue64\"", head.c_str());
				continue;
			}
			for (uint64_t i = 1; i <= N; i++) {
				const uint64_t begun = now_ns();

				CHECK(cudaMemcpyAsync(own, host, size, cudaMemcpyHostToDevice,
						      streams[0]));
				if (by_flag == 0) {
					CHECK(cudaStreamSynchronize(streams[0]));
				} else {
					if (write(streams[0], (unsigned long long)(uintptr_t)flag,
						  i, 0) != 0)
						break;
					if (!await(flag, i, KERNEL_LIMIT_NS))
						break;
				}
				ns.push_back(now_ns() - begun);
			}
			CHECK(cudaStreamSynchronize(streams[0]));
			host_store(flag, 0);
			const Times t = times_of(ns);

			line("%s,\"unit\":\"ns\",\"p50\":%llu,\"p99\":%llu,\"runs\":%zu",
			     head.c_str(), (unsigned long long)t.p50, (unsigned long long)t.p99,
			     t.n);
		}
}

/* ---- c8: attributes -------------------------------------------------------------------------- */

static void c8_attributes()
{
	static const struct {
		int number;
		const char *name;
	} attributes[] = {
		{ 17, "kernel exec timeout" },
		{ 86, "host native atomics" },
		{ 98, "direct managed access from host" },
		{ 118, "GPUDirect RDMA writes ordering" },
		{ 124, "dma-buf" },
		{ 126, "memory sync domains" },
		{ 147, "attribute 147" },
	};
	int driver = 0, runtime = 0;
	char bus[32] = "";

	CHECK(cudaDriverGetVersion(&driver));
	CHECK(cudaRuntimeGetVersion(&runtime));
	CHECK(cudaDeviceGetPCIBusId(bus, sizeof(bus), 0));
	line("\"case\":\"c8_device\",\"name\":\"%s\",\"compute\":\"%d.%d\",\"multiprocessors\":%d,"
	     "\"l2_bytes\":%d,\"driver_cuda\":%d,\"runtime_cuda\":%d,\"pci\":\"%s\"",
	     device.name, device.major, device.minor, device.multiProcessorCount,
	     device.l2CacheSize, driver, runtime, bus);
	for (const auto &a : attributes) {
		/* The driver's numbers: the runtime has names for fewer. */
		typedef int (*GetAttribute)(int *, int, int);
		cudaDriverEntryPointQueryResult found;
		void *entry = nullptr;
		int value = 0, error = 1;

		if (cudaGetDriverEntryPointByVersion("cuDeviceGetAttribute", &entry, 12000,
						     cudaEnableDefault, &found) == cudaSuccess &&
		    entry != nullptr)
			error = ((GetAttribute)entry)(&value, a.number, 0);
		if (error != 0)
			line("\"case\":\"c8_attribute\",\"number\":%d,\"name\":\"%s\",\"error\":%d",
			     a.number, a.name, error);
		else
			line("\"case\":\"c8_attribute\",\"number\":%d,\"name\":\"%s\",\"value\":%d",
			     a.number, a.name, value);
	}
}

/* ---- c10: power and clocks ------------------------------------------------------------------- */

/* Polls the host as the grid's units do; back-off in nanoseconds, 0: none. */
static __global__ void spin(const uint64_t *stop, uint64_t *running, uint32_t nap_ns)
{
	const uint64_t begun = device_ns();

	if (threadIdx.x == 0 && running != nullptr && blockIdx.x == 0)
		store_release(running, 1);
	while (load_acquire(stop) == 0 && device_ns() - begun < KERNEL_LIMIT_NS)
		if (nap_ns != 0)
			__nanosleep(nap_ns);
}

static void c10_power()
{
	const uint32_t all = (uint32_t)device.multiProcessorCount;
	const struct {
		const char *what;
		uint32_t ctas, nap_ns;
	} states[] = { { "idle", 0, 0 },
		       { "1 CTA spins", 1, 0 },
		       { "a CTA an SM spins", all, 0 },
		       { "a CTA an SM, back-off 1 us", all, 1000 },
		       { "a CTA an SM, back-off 20 us", all, 20000 } };
	uint64_t *stop = pinned<uint64_t>(1);

	if (system("command -v nvidia-smi >/dev/null 2>&1") != 0) {
		line("\"case\":\"c10_power\",\"skipped\":\"no nvidia-smi\"");
		return;
	}
	for (const auto &s : states) {
		char answer[200] = "";
		FILE *smi;

		host_store(stop, 0);
		if (s.ctas != 0)
			spin<<<s.ctas, 32, 0, streams[0]>>>(stop, nullptr, s.nap_ns);
		CHECK(cudaGetLastError());
		std::this_thread::sleep_for(std::chrono::milliseconds(1500));
		smi = popen("timeout 5 nvidia-smi --query-gpu=power.draw,clocks.sm,clocks.mem,"
			    "temperature.gpu --format=csv,noheader,nounits -i 0 2>&1",
			    "r");
		if (smi == nullptr || fgets(answer, sizeof(answer), smi) == nullptr)
			strcpy(answer, "no answer");
		if (smi != nullptr)
			pclose(smi);
		answer[strcspn(answer, "\"\\\n")] = '\0';
		host_store(stop, 1);
		CHECK(cudaStreamSynchronize(streams[0]));
		line("\"case\":\"c10_power\",\"state\":\"%s\",\"watt_mhz_mhz_celsius\":\"%s\"",
		     s.what, answer);
	}
}

/* ---- c11: what waits for a resident kernel --------------------------------------------------- */

static __global__ void never_used_before(uint64_t *word)
{
	*word = 1;
}

static void *some_device, *some_host, *async_memory;
static uint8_t *pinned_block, *device_block;

static std::string load_cublas()
{
	static const char *const names[] = { "libcublas.so.13", "libcublas.so.12", "libcublas.so" };
	typedef int (*Create)(void **);

	for (const char *name : names) {
		void *library = dlopen(name, RTLD_NOW), *handle, *create;

		create = library != nullptr ? dlsym(library, "cublasCreate_v2") : nullptr;
		if (create != nullptr)
			return ((Create)create)(&handle) == 0 ? "" : "cublasCreate failed";
	}
	return "no libcublas";
}

static void c11_what_waits()
{
	enum { PATIENCE_NS = 500000000 };
	uint64_t *stop = pinned<uint64_t>(1), *running = pinned<uint64_t>(1);
	static uint64_t *word = on_device<uint64_t>(1);
	static void *more_device, *more_host;
	const struct {
		const char *call;
		std::string (*run)();
	} calls[] = {
#define RUN(...)                                                                                   \
	[]() -> std::string {                                                                      \
		const cudaError_t error_ = []() -> cudaError_t { __VA_ARGS__; }();                 \
		return error_ == cudaSuccess ? "" : cudaGetErrorString(error_);                    \
	}
		{ "cudaMemcpyAsync, pinned, to device",
		  RUN(return cudaMemcpyAsync(device_block, pinned_block, 65536,
					     cudaMemcpyHostToDevice, streams[1])) },
		{ "the same and cudaStreamSynchronize",
		  RUN(cudaMemcpyAsync(device_block, pinned_block, 65536, cudaMemcpyHostToDevice,
				      streams[1]);
		      return cudaStreamSynchronize(streams[1])) },
		{ "cudaMallocAsync, cudaFreeAsync, cudaStreamSynchronize",
		  RUN(cudaMallocAsync(&async_memory, 1 << 20, streams[1]);
		      cudaFreeAsync(async_memory, streams[1]);
		      return cudaStreamSynchronize(streams[1])) },
		{ "cudaMalloc", RUN(return cudaMalloc(&more_device, 1 << 20)) },
		{ "cudaMalloc, 1 GiB", RUN(return cudaMalloc(&more_device, 1 << 30)) },
		{ "cudaHostAlloc", RUN(return cudaHostAlloc(&more_host, 1 << 20, 0)) },
		{ "cudaFree", RUN(return cudaFree(some_device)) },
		{ "cudaFreeHost", RUN(return cudaFreeHost(some_host)) },
		{ "first use of a lazily loaded kernel",
		  RUN(never_used_before<<<1, 1, 0, streams[1]>>>(word);
		      return cudaStreamSynchronize(streams[1])) },
		{ "kernel in the legacy default stream, and its synchronisation",
		  RUN(spin<<<1, 1, 0, cudaStreamLegacy>>>(word, nullptr, 0);
		      return cudaStreamSynchronize(cudaStreamLegacy)) },
		{ "cudaMemcpy, pinned", RUN(return cudaMemcpy(device_block, pinned_block, 4096,
							      cudaMemcpyHostToDevice)) },
		{ "cudaEventCreate, record, synchronize",
		  RUN(cudaEvent_t event; cudaEventCreate(&event);
		      cudaEventRecord(event, streams[1]); return cudaEventSynchronize(event)) },
		{ "cudaStreamCreateWithFlags", RUN(cudaStream_t s; return cudaStreamCreateWithFlags(
							   &s, cudaStreamNonBlocking)) },
		{ "cudaDeviceSynchronize", RUN(return cudaDeviceSynchronize()) },
		{ "cublasCreate", load_cublas },
	};

	CHECK(cudaMalloc(&some_device, 1 << 20));
	CHECK(cudaHostAlloc(&some_host, 1 << 20, 0));
	CHECK(cudaMemset(word, 1, 8)); /* lets the default stream's spin() end at once */
	pinned_block = pinned<uint8_t>(65536);
	device_block = on_device<uint8_t>(65536);
	CHECK(cudaDeviceSynchronize());
	for (const auto &c : calls) {
		std::atomic<bool> done{ false };
		std::string error;
		uint64_t begun, waited;
		bool blocked;

		watchdog.section(c.call, 20);
		host_store(stop, 0);
		host_store(running, 0);
		spin<<<1, 32, 0, streams[0]>>>(stop, running, 0);
		CHECK(cudaGetLastError());
		while (host_load(running) == 0)      /* or the watchdog ends it */
			cudaStreamQuery(streams[0]); /* some drivers start kernels only in calls */
		cudaGetLastError();                  /* it was not ready */
		begun = now_ns();
		std::thread caller([&] {
			error = c.run();
			done = true;
		});
		while (!done && now_ns() - begun < PATIENCE_NS)
			std::this_thread::sleep_for(std::chrono::microseconds(50));
		blocked = !done;
		waited = now_ns() - begun;
		host_store(stop, 1);
		caller.join();
		CHECK(cudaStreamSynchronize(streams[0]));
		line("\"case\":\"c11_beside_a_resident_kernel\",\"call\":\"%s\",\"waits_for_it\":%"
		     "s,"
		     "\"ms\":%.2f%s%s%s",
		     c.call, blocked ? "true" : "false", (double)waited / 1e6,
		     error.empty() ? "" : ",\"error\":\"", error.c_str(),
		     error.empty() ? "" : "\"");
	}
	line("\"case\":\"c11_beside_a_resident_kernel\",\"call\":\"a torch allocation\","
	     "\"skipped\":\"this program is C++\"");
}

/* ---- c12: small reads of the host ------------------------------------------------------------ */

/* Each group of bytes/16 threads reads one run of `bytes`, runs 128 bytes apart, four under way. */
static __global__ void load_small(const uint4 *host, size_t lines, uint32_t bytes, uint32_t rounds,
				  uint4 *out)
{
	Limit limit = Limit::none();
	const uint32_t group = bytes / 16;
	const size_t thread = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
	const size_t runs = (size_t)gridDim.x * blockDim.x / group;
	uint32_t sum = 0;

	for (uint32_t r = 0; r < rounds && !limit.over(); r++) {
		uint4 v[4];

#pragma unroll
		for (uint32_t i = 0; i < 4; i++)
			v[i] = __ldcv(host +
				      ((thread / group + (r * 4 + i) * runs) & (lines - 1)) * 8 +
				      thread % group);
#pragma unroll
		for (uint32_t i = 0; i < 4; i++)
			sum ^= v[i].x ^ v[i].y ^ v[i].z ^ v[i].w;
	}
	if (sum == 0x12345678)
		out[0].x = sum;
}

static void c12_small_reads()
{
	const uint32_t all = (uint32_t)device.multiProcessorCount;
	const uint32_t ctas[] = { 1, 16, all };
	const size_t bytes = (size_t)64 << 20;
	uint8_t *host = pinned<uint8_t>(bytes);
	uint4 *out = on_device<uint4>(1);

	for (uint32_t run = 16; run <= 128; run *= 2)
		for (uint32_t n : ctas) {
			const uint32_t rounds = 4000 / n + 20, runs = n * 128 * 16 / run * 4;
			std::vector<double> rate;

			for (int r = 0; r < REPEATS; r++)
				rate.push_back((double)rounds * runs / seconds_of(streams[0], [&] {
						       load_small<<<n, 128, 0, streams[0]>>>(
							       (const uint4 *)host, bytes / 128,
							       run, rounds, out);
					       }));
			report(text("\"case\":\"c12_small_reads\",\"run_bytes\":%u,\"ctas\":%u",
				    run, n),
			       "reads/s", rate);
		}
}

/* ---- c13, c15: claims in device memory, and entries posted behind them ----------------------- */

enum Claim { BY_ADD, BY_ACQUIRE_ADD, BY_SWAP, ADD_AND_POST };

/* One lane of each warp claims `rounds` times of one word. */
static __global__ void claim(uint64_t *word, uint64_t *host, uint32_t rounds, int how)
{
	typedef unsigned long long Word;
	Limit limit = Limit::none();

	if (threadIdx.x % 32 != 0)
		return;
	for (uint32_t r = 0; r < rounds && !limit.over(); r++) {
		uint64_t was = 0;

		if (how == BY_ADD || how == ADD_AND_POST) {
			was = atomicAdd((Word *)word, (Word)1);
		} else if (how == BY_ACQUIRE_ADD) {
			asm volatile("atom.acquire.gpu.global.add.u64 %0, [%1], 1;"
				     : "=l"(was)
				     : "l"(__cvta_generic_to_global(word))
				     : "memory");
		} else {
			uint64_t expected = load_relaxed(word);

			while ((was = atomicCAS((Word *)word, (Word)expected,
						(Word)expected + 1)) != expected &&
			       !limit.over())
				expected = was;
		}
		if (how == ADD_AND_POST)
			store_relaxed(host + was % 65536, was);
	}
}

static void c13_c15_claims(bool claims, bool posts)
{
	static const char *const names[] = { "add", "acquiring add", "swap, retried",
					     "add, and an entry of 8 bytes posted" };
	const uint32_t all = (uint32_t)device.multiProcessorCount;
	const uint32_t blocks[] = { 1, 16, all };
	uint64_t *word = on_device<uint64_t>(16), *host = pinned<uint64_t>(65536);

	for (int how = BY_ADD; how <= ADD_AND_POST; how++) {
		if (how == ADD_AND_POST ? !posts : !claims)
			continue;
		for (uint32_t n : blocks) {
			const uint32_t rounds = 20000 / n + 20;
			std::vector<double> rate;

			for (int r = 0; r < REPEATS; r++)
				rate.push_back((double)rounds * n * 4 / seconds_of(streams[0], [&] {
						       claim<<<n, 128, 0, streams[0]>>>(
							       word, host, rounds, how);
					       }));
			report(text("\"case\":\"%s\",\"by\":\"%s\",\"warps\":%u",
				    how == ADD_AND_POST ? "c15_entries" : "c13_claims", names[how],
				    n * 4),
			       "claims/s", rate);
		}
	}
}

/* ---- c14: naps ------------------------------------------------------------------------------- */

static __global__ void naps(uint32_t ns, uint32_t rounds, uint64_t *took)
{
	const uint64_t begun = device_ns();

	for (uint32_t r = 0; r < rounds; r++)
		__nanosleep(ns);
	*took = device_ns() - begun;
}

static void c14_naps()
{
	static const uint32_t asked[] = { 32, 100, 256, 1000, 4000 };
	enum { ROUNDS = 200 };
	uint64_t *took = pinned<uint64_t>(1);

	for (uint32_t ns : asked) {
		std::vector<double> v;

		for (int r = 0; r < REPEATS; r++) {
			naps<<<1, 1, 0, streams[0]>>>(ns, ROUNDS, took);
			finish(streams[0]);
			v.push_back((double)*took / ROUNDS);
		}
		report(text("\"case\":\"c14_nap\",\"asked_ns\":%u", ns), "ns", v);
	}
}

int main(int argc, char **argv)
{
	enum { CASES = 15 };
	bool wanted[CASES + 1];

	std::fill(wanted, wanted + CASES + 1, argc == 1);
	for (int i = 1; i < argc; i++) {
		const int n = atoi(argv[i]);

		if (n < 1 || n > CASES) {
			fprintf(stderr, "calibrate: '%s' is not one of 1 to %d\n", argv[i], CASES);
			return 1;
		}
		wanted[n] = true;
	}
	/* As an application's kernels are by default; c11 asks what that costs. */
	setenv("CUDA_MODULE_LOADING", "LAZY", 0);
	watchdog.section("init", 60);
	device = begin_on_gpu();
	for (cudaStream_t &s : streams)
		s = new_stream();
	watchdog.section("c8", 20);
	if (wanted[8])
		c8_attributes();
	watchdog.section("c1", 30);
	if (wanted[1])
		c1_load_latency();
	watchdog.section("c2", 60);
	if (wanted[2])
		c2_ping_pong();
	watchdog.section("c3", 120);
	if (wanted[3])
		c3_release();
	watchdog.section("c4, c5", 120);
	if (wanted[4] || wanted[5])
		c4_c5_bandwidth(wanted[4], wanted[5]);
	watchdog.section("c6", 60);
	if (wanted[6])
		c6_copy_latency();
	if (wanted[7])
		line("\"case\":\"c7_bar_mapping\",\"skipped\":\"needs Vulkan or GDRCopy\"");
	watchdog.section("c9", 120);
	if (wanted[9])
		c9_pollers();
	watchdog.section("c10", 60);
	if (wanted[10])
		c10_power();
	watchdog.section("c12 to c15", 60);
	if (wanted[12])
		c12_small_reads();
	if (wanted[13] || wanted[15])
		c13_c15_claims(wanted[13], wanted[15]);
	if (wanted[14])
		c14_naps();
	if (wanted[11])
		c11_what_waits();
	return 0;
}
