/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alternatives.cu [--repeats N]: what a resident kernel's queue is compared with, as JSON lines.
 *
 * - bare_flag: a 64-bit word each way in pinned memory, one GPU thread polling; no message at all.
 * - launch: a message is a copy in, a kernel, a copy out; then the stream is synchronised.
 * - zero_copy: a message is one kernel that reads and writes pinned memory; then the same.
 * - graph: as launch, as a CUDA graph that is instantiated once.
 * - copy_engine: 64 KiB at a time, back to back.
 *
 * NAME has p50 and p99 of one message at a time, from before the first call until the host has the
 * result; NAME_rate the messages per second with as many in flight as helps (STREAMS). Every kernel
 * echoes its message, as ours does.
 */
#include "gpu_tool.cuh"

static const uint32_t sizes[] = { 0, 64, 512, 2048, 65536 };
enum { STREAMS = 16, MAX_BYTES = 65536 };

static __global__ void echo(const uint4 *in, uint4 *out, uint32_t bytes)
{
	for (uint32_t i = threadIdx.x; i < bytes / 16; i += blockDim.x)
		out[i] = in[i];
}

/* A message's own memory. */
struct Lane {
	cudaStream_t stream;
	uint8_t *in, *out;               /* pinned */
	uint8_t *device_in, *device_out; /* device's */
	cudaGraphExec_t graph;
};

static uint32_t threads_for(uint32_t bytes)
{
	return bytes <= 2048 ? 128 : 1024;
}

static void with_copies(Lane &l, uint32_t bytes)
{
	if (bytes != 0)
		CHECK(cudaMemcpyAsync(l.device_in, l.in, bytes, cudaMemcpyHostToDevice, l.stream));
	echo<<<1, threads_for(bytes), 0, l.stream>>>((const uint4 *)l.device_in,
						     (uint4 *)l.device_out, bytes);
	CHECK(cudaGetLastError());
	if (bytes != 0)
		CHECK(cudaMemcpyAsync(l.out, l.device_out, bytes, cudaMemcpyDeviceToHost,
				      l.stream));
}

static void zero_copy(Lane &l, uint32_t bytes)
{
	echo<<<1, threads_for(bytes), 0, l.stream>>>((const uint4 *)l.in, (uint4 *)l.out, bytes);
	CHECK(cudaGetLastError());
}

static void by_graph(Lane &l, uint32_t)
{
	CHECK(cudaGraphLaunch(l.graph, l.stream));
}

static void make_graph(Lane &l, uint32_t bytes)
{
	cudaGraph_t graph;

	CHECK(cudaStreamBeginCapture(l.stream, cudaStreamCaptureModeThreadLocal));
	with_copies(l, bytes);
	CHECK(cudaStreamEndCapture(l.stream, &graph));
	CHECK(cudaGraphInstantiate(&l.graph, graph, 0));
	CHECK(cudaGraphDestroy(graph));
}

static Watchdog watchdog;
static Lane lanes[STREAMS];

/* The message's bytes change and are looked at, so that nothing can be left out. */
static void expect_echo(const Lane &l, uint32_t bytes, const char *name)
{
	if (memcmp(l.in, l.out, bytes) == 0)
		return;
	printf("{\"case\":\"%s\",\"size_bytes\":%u,\"error\":\"the result is not the message\"}\n",
	       name, bytes);
	fflush(nullptr);
	_exit(1);
}

static void measure(const char *name, void (*send)(Lane &, uint32_t), uint32_t bytes, int repeat)
{
	enum { N = 1000, WARM = 100 };
	std::vector<uint64_t> ns;
	uint64_t sent = 0, begun, end;

	watchdog.section(name, 20);
	for (int i = 0; i < N + WARM; i++) {
		Lane &l = lanes[0];

		memset(l.in, i, bytes);
		begun = now_ns();
		send(l, bytes);
		CHECK(cudaStreamSynchronize(l.stream));
		end = now_ns();
		if (i >= WARM)
			ns.push_back(end - begun);
		expect_echo(l, bytes, name);
	}
	const Times t = times_of(ns);

	line("\"case\":\"%s\",\"size_bytes\":%u,\"repeat\":%d,\"unit\":\"ns\",\"p50\":%llu,"
	     "\"p99\":%llu",
	     name, bytes, repeat, (unsigned long long)t.p50, (unsigned long long)t.p99);
	for (Lane &l : lanes)
		memset(l.in, 0x5a, bytes);
	begun = end = now_ns();
	while (end - begun < 300000000) {
		for (Lane &l : lanes) {
			if (sent >= STREAMS)
				CHECK(cudaStreamSynchronize(l.stream));
			send(l, bytes);
			sent++;
		}
		end = now_ns();
	}
	for (Lane &l : lanes)
		CHECK(cudaStreamSynchronize(l.stream));
	end = now_ns();
	for (Lane &l : lanes)
		expect_echo(l, bytes, name);
	line("\"case\":\"%s_rate\",\"size_bytes\":%u,\"repeat\":%d,\"streams\":%d,"
	     "\"unit\":\"messages/s\",\"value\":%.0f",
	     name, bytes, repeat, STREAMS, (double)sent * 1e9 / (double)(end - begun));
}

static void bare_flag(int repeat)
{
	enum { N = 20000, WARM = 1000 };
	static uint64_t *words, *resident;
	std::vector<uint64_t> ns;
	uint64_t *ping, *pong;

	watchdog.section("bare_flag", 20);
	if (words == nullptr) {
		words = pinned<uint64_t>(32); /* a line of the GPU's each, and one for `resident` */
		resident = on_device<uint64_t>(1);
	}
	ping = words, pong = words + 16;
	host_store(ping, 0);
	host_store(pong, 0);
	answer_pings<<<1, 32, 0, lanes[0].stream>>>(ping, pong, N + WARM, ping, resident);
	CHECK(cudaGetLastError());
	for (uint64_t i = 1; i <= N + WARM; i++) {
		const uint64_t begun = now_ns();

		host_store(ping, i);
		if (!await(pong, i, KERNEL_LIMIT_NS))
			break;
		if (i > WARM)
			ns.push_back(now_ns() - begun);
	}
	CHECK(cudaStreamSynchronize(lanes[0].stream));
	if (host_load(pong) != N + WARM) {
		printf("{\"case\":\"bare_flag\",\"error\":\"the GPU did not answer\"}\n");
		fflush(nullptr);
		_exit(1);
	}
	const Times t = times_of(ns);

	line("\"case\":\"bare_flag\",\"repeat\":%d,\"unit\":\"ns\",\"p50\":%llu,\"p99\":%llu",
	     repeat, (unsigned long long)t.p50, (unsigned long long)t.p99);
}

static void copy_engine(const char *direction, bool in, bool out, int repeat)
{
	enum { AT_ONCE = 256 };
	static uint8_t *host[2], *device[2];
	uint64_t begun, end, blocks = 0;

	watchdog.section("copy_engine", 20);
	for (int i = 0; i < 2 && host[i] == nullptr; i++) {
		host[i] = pinned<uint8_t>((size_t)AT_ONCE * MAX_BYTES);
		device[i] = on_device<uint8_t>((size_t)AT_ONCE * MAX_BYTES);
	}
	begun = end = now_ns();
	while (end - begun < 300000000) {
		for (size_t i = 0; i < AT_ONCE; i++) {
			const size_t at = i * MAX_BYTES;

			if (in)
				CHECK(cudaMemcpyAsync(device[0] + at, host[0] + at, MAX_BYTES,
						      cudaMemcpyHostToDevice, lanes[0].stream));
			if (out)
				CHECK(cudaMemcpyAsync(host[1] + at, device[1] + at, MAX_BYTES,
						      cudaMemcpyDeviceToHost, lanes[1].stream));
		}
		CHECK(cudaStreamSynchronize(lanes[0].stream));
		CHECK(cudaStreamSynchronize(lanes[1].stream));
		blocks += AT_ONCE;
		end = now_ns();
	}
	/* Of one direction, as a message of 64 KiB is one however many ways its bytes go. */
	line("\"case\":\"copy_engine\",\"direction\":\"%s\",\"size_bytes\":%d,\"repeat\":%d,"
	     "\"unit\":\"bytes/s\",\"value\":%.0f",
	     direction, MAX_BYTES, repeat,
	     (double)blocks * MAX_BYTES * 1e9 / (double)(end - begun));
}

int main(int argc, char **argv)
{
	int repeats = 1, first = 0;

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--repeats") == 0)
			repeats = atoi(argv[i + 1]);
		else if (strcmp(argv[i], "--first") == 0) /* number of the first repeat */
			first = atoi(argv[i + 1]);
	}
	watchdog.section("init", 60);
	begin_on_gpu();
	for (Lane &l : lanes) {
		l = { new_stream(),
		      pinned<uint8_t>(MAX_BYTES),
		      pinned<uint8_t>(MAX_BYTES),
		      on_device<uint8_t>(MAX_BYTES),
		      on_device<uint8_t>(MAX_BYTES),
		      nullptr };
	}
	for (int repeat = first; repeat < first + repeats; repeat++) {
		bare_flag(repeat);
		for (uint32_t bytes : sizes) {
			measure("launch", with_copies, bytes, repeat);
			measure("zero_copy", zero_copy, bytes, repeat);
			for (Lane &l : lanes)
				make_graph(l, bytes);
			measure("graph", by_graph, bytes, repeat);
			for (Lane &l : lanes)
				CHECK(cudaGraphExecDestroy(l.graph));
		}
		copy_engine("in", true, false, repeat);
		copy_engine("out", false, true, repeat);
		copy_engine("both", true, true, repeat);
	}
	return 0;
}
