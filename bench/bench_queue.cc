// SPDX-License-Identifier: Apache-2.0
// bench_queue.cc - what the queue costs on the CPU device, beside what the machine costs without
// it.
//
// Every figure of the queue stands beside its floor, measured by the same loop in the same run:
//
//   floor/flag_bounce       a word bounced between two cores and back, per round trip
//   round_trip/N            enqueue N bytes, poll until the result is there, release it
//   floor/enqueue_local/N   memcpy of N bytes + two uncontended locked operations + a release store
//   enqueue_local/N         q_enqueue() of N bytes with room, slots in this core's caches
//   floor/enqueue_remote/N, enqueue_remote/N
//                           the same when another core has read the slots in between
//   floor/memcpy/N          memcpy of N bytes into the next slot
//   throughput/N/batch:B/producers:P/consumers:C   messages a second through the whole queue
//
//     gpuq_bench [--short] [--smoke] [Google Benchmark's options]
//
// --short: fewer iterations, five repetitions interleaved, and JSON: what scripts/bench runs.
//
// Latencies are percentiles over single round trips, timed with clock_gettime() (its cost is in
// them, in the floor's too). Compare ratios within one run: on a shared machine absolute times
// move by factors when the host moves a virtual CPU.
#include <gpuq/gpuq.h>

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <pthread.h>
#include <sched.h>
#include <string>
#include <thread>
#include <time.h>
#include <unistd.h>
#include <vector>

namespace
{

bool smoke;      // a few iterations only, to see that everything runs
bool short_form; // half a minute in place of ten

uint64_t now_ns()
{
	timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return static_cast<uint64_t>(t.tv_sec) * 1000000000u + static_cast<uint64_t>(t.tv_nsec);
}

int cpus()
{
	static const int n = static_cast<int>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));

	return n; // read once: sysconf() opens a file each time
}

void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % cpus(), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

void relax(unsigned *spins)
{
	if (++*spins % 64 == 0)
		sched_yield();
}

[[noreturn]] void die(const char *what)
{
	std::fprintf(stderr, "bench: %s: %s\n", what, q_last_error());
	std::exit(1);
}

struct Queue {
	GpuQueue *q;

	// Consumers run on the CPUs that the producer leaves free, or (`beside`) on the producer's.
	Queue(uint32_t capacity, uint32_t bytes, uint32_t consumers, bool beside = false)
	{
		QueueConfig cfg = {};

		cfg.capacity = capacity;
		cfg.slot_bytes = bytes;
		cfg.consumers = consumers;
		cfg.device = Q_DEVICE_CPU;
		cfg.processor = "echo";
		cpu_set_t before, theirs; // threads inherit the affinity
		sched_getaffinity(0, sizeof(before), &before);
		CPU_ZERO(&theirs);
		for (int i = cpus() > 1 && !beside ? 1 : 0; i < (beside ? 1 : cpus()); i++)
			CPU_SET(i, &theirs);
		sched_setaffinity(0, sizeof(theirs), &theirs);
		q = q_init(&cfg);
		sched_setaffinity(0, sizeof(before), &before);
		if (q == nullptr)
			die("q_init");
	}
	~Queue()
	{
		q_shutdown(q);
	}
	Queue(const Queue &) = delete;
	Queue &operator=(const Queue &) = delete;
};

void report_percentiles(benchmark::State &state, std::vector<uint32_t> &samples)
{
	if (samples.empty())
		return;
	std::sort(samples.begin(), samples.end());
	auto at = [&](double p) {
		return static_cast<double>(
			samples[static_cast<size_t>(p * static_cast<double>(samples.size() - 1))]);
	};
	state.counters["p50_ns"] = at(0.50);
	state.counters["p99_ns"] = at(0.99);
	state.counters["p99.9_ns"] = at(0.999);
}

// ---- round trips -----------------------------------------------------------------------------

void flag_bounce(benchmark::State &state)
{
	struct alignas(128) Line {
		std::atomic<uint64_t> word{ 0 };
	} line;
	std::atomic<bool> stop{ false };
	std::thread other([&] {
		unsigned spins = 0;
		uint64_t next = 1;

		pin(1);
		while (!stop.load(std::memory_order_relaxed)) {
			if (line.word.load(std::memory_order_acquire) == next) {
				line.word.store(next + 1, std::memory_order_release);
				next += 2;
			} else if (cpus() == 1) {
				relax(&spins);
			}
		}
	});
	std::vector<uint32_t> samples;
	uint64_t next = 1;
	unsigned spins = 0;

	pin(0);
	for (auto _ : state) {
		uint64_t begin = now_ns();

		line.word.store(next, std::memory_order_release);
		while (line.word.load(std::memory_order_acquire) != next + 1)
			if (cpus() == 1)
				relax(&spins);
		uint64_t took = now_ns() - begin;
		next += 2;
		samples.push_back(static_cast<uint32_t>(std::min<uint64_t>(took, UINT32_MAX)));
		state.SetIterationTime(static_cast<double>(took) * 1e-9);
	}
	stop = true;
	other.join();
	report_percentiles(state, samples);
}

void round_trip(benchmark::State &state)
{
	const size_t bytes = static_cast<size_t>(state.range(0));
	Queue queue(64, static_cast<uint32_t>(bytes), 1);
	std::vector<char> message(bytes, 'x'), result(bytes);
	std::vector<uint32_t> samples;

	pin(0);
	for (auto _ : state) {
		Completion done;
		size_t n = 0;
		uint64_t begin = now_ns();

		if (q_enqueue(queue.q, message.data(), bytes, nullptr, UINT32_MAX) != Q_OK)
			die("q_enqueue");
		while (n == 0)
			q_poll_results(queue.q, &done, 1, &n);
		std::memcpy(result.data(), done.result, done.result_len);
		benchmark::DoNotOptimize(result.data());
		uint64_t took = now_ns() - begin;
		q_release(queue.q, done.msg_id);
		samples.push_back(static_cast<uint32_t>(std::min<uint64_t>(took, UINT32_MAX)));
		state.SetIterationTime(static_cast<double>(took) * 1e-9);
	}
	report_percentiles(state, samples);
}

// ---- the cost of an enqueue ------------------------------------------------------------------

constexpr size_t ROOM = 1024; // slots; enqueued and drained in one go

// Another core reads every line of the slots, as a consumer does.
void read_all(const std::vector<char> &slots)
{
	std::thread([&] {
		unsigned sum = 0;

		pin(1);
		for (size_t i = 0; i < slots.size(); i += 64)
			sum += static_cast<unsigned char>(slots[i]);
		benchmark::DoNotOptimize(sum);
	}).join();
}

// The memory is walked as the queue walks its slots: a line of header, then the payload.
void floor_enqueue(benchmark::State &state, bool remote)
{
	const size_t bytes = static_cast<size_t>(state.range(0)),
		     stride = 64 + (bytes + 63) / 64 * 64;
	std::vector<char> slots(stride * ROOM), message(bytes, 'x');
	struct alignas(128) Word {
		std::atomic<uint64_t> value{ 0 };
	} a, b, published;

	pin(0);
	for (auto _ : state) {
		if (remote)
			read_all(slots);
		uint64_t begin = now_ns();

		for (size_t i = 0; i < ROOM; i++) {
			slots[i * stride] = 'h';
			std::memcpy(slots.data() + i * stride + 64, message.data(), bytes);
			a.value.fetch_add(1);
			b.value.fetch_add(1);
			published.value.store(i, std::memory_order_release);
			benchmark::ClobberMemory();
		}
		state.SetIterationTime(static_cast<double>(now_ns() - begin) * 1e-9 /
				       static_cast<double>(ROOM));
	}
	state.SetItemsProcessed(state.iterations());
}

void floor_memcpy(benchmark::State &state)
{
	const size_t bytes = static_cast<size_t>(state.range(0)),
		     stride = 64 + (bytes + 63) / 64 * 64;
	std::vector<char> slots(stride * ROOM), message(bytes, 'x');

	pin(0);
	for (auto _ : state) {
		uint64_t begin = now_ns();

		for (size_t i = 0; i < ROOM; i++) {
			std::memcpy(slots.data() + i * stride + 64, message.data(), bytes);
			benchmark::ClobberMemory();
		}
		state.SetIterationTime(static_cast<double>(now_ns() - begin) * 1e-9 /
				       static_cast<double>(ROOM));
	}
	state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
}

// Paused, so that what is timed is the producer. In between a consumer empties the queue: on
// another CPU (`remote`, as in use: the slots' lines come back from its cache) or on this one.
void enqueue(benchmark::State &state, bool remote)
{
	const size_t bytes = static_cast<size_t>(state.range(0));
	Queue queue(static_cast<uint32_t>(ROOM), static_cast<uint32_t>(bytes), 1, !remote);
	std::vector<char> message(bytes, 'x');
	std::vector<uint64_t> ids(ROOM);

	pin(0);
	for (auto _ : state) {
		if (q_pause(queue.q, UINT32_MAX) != Q_OK)
			die("q_pause");
		uint64_t begin = now_ns();

		for (size_t i = 0; i < ROOM; i++)
			q_enqueue(queue.q, message.data(), bytes, &ids[i], 0);
		state.SetIterationTime(static_cast<double>(now_ns() - begin) * 1e-9 /
				       static_cast<double>(ROOM));
		if (q_resume(queue.q) != Q_OK || q_drain(queue.q, UINT32_MAX) != Q_OK ||
		    q_release_batch(queue.q, ids.data(), ROOM) != Q_OK)
			die("enqueue");
	}
	state.SetItemsProcessed(state.iterations());
}

// ---- throughput ------------------------------------------------------------------------------

struct Load {
	GpuQueue *q;
	size_t bytes, batch;
	uint64_t mine; // messages this producer sends
	bool ok;
};

void produce(Load *load, int cpu)
{
	std::vector<char> message(load->bytes, 'x');
	std::vector<EnqueueItem> items(load->batch, EnqueueItem{ message.data(), load->bytes });
	unsigned spins = 0;

	pin(cpu);
	for (uint64_t sent = 0; sent < load->mine;) {
		size_t want =
			static_cast<size_t>(std::min<uint64_t>(load->batch, load->mine - sent));
		size_t accepted = 0;
		QueueStatus status =
			want == 1 ? q_enqueue(load->q, message.data(), load->bytes, nullptr, 0)
				  : q_enqueue_batch(load->q, items.data(), want, nullptr, &accepted,
						    0);

		if (want == 1)
			accepted = status == Q_OK;
		if (status != Q_OK && status != Q_ERR_FULL)
			die("produce");
		if (accepted == 0)
			relax(&spins);
		sent += accepted;
	}
}

void drain(GpuQueue *q, uint64_t total, size_t batch)
{
	std::vector<Completion> done(std::max<size_t>(batch, 64));
	std::vector<uint64_t> ids(done.size());
	unsigned spins = 0;

	for (uint64_t seen = 0; seen < total;) {
		size_t n;

		q_poll_results(q, done.data(), done.size(), &n);
		for (size_t i = 0; i < n; i++)
			ids[i] = done[i].msg_id;
		q_release_batch(q, ids.data(), n);
		seen += n;
		if (n == 0)
			relax(&spins);
	}
}

// Whole runs of a fixed number of messages: threads started, all sent, all results taken.
void throughput(benchmark::State &state)
{
	const size_t bytes = static_cast<size_t>(state.range(0));
	const size_t batch = static_cast<size_t>(state.range(1));
	const int producers = static_cast<int>(state.range(2));
	const uint32_t consumers = static_cast<uint32_t>(state.range(3));
	const uint64_t each = (smoke ? 2000 : 200000) / static_cast<uint64_t>(producers);
	const uint64_t total = each * static_cast<uint64_t>(producers);
	Queue queue(static_cast<uint32_t>(ROOM), static_cast<uint32_t>(bytes), consumers);

	for (auto _ : state) {
		std::vector<std::thread> threads;
		std::vector<Load> loads(static_cast<size_t>(producers),
					Load{ queue.q, bytes, batch, each, true });
		uint64_t begin = now_ns();

		for (int i = 0; i < producers; i++)
			threads.emplace_back(produce, &loads[static_cast<size_t>(i)], i);
		pin(0);
		drain(queue.q, total, batch);
		state.SetIterationTime(static_cast<double>(now_ns() - begin) * 1e-9);
		for (auto &thread : threads)
			thread.join();
	}
	state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(total));
	state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(total * bytes));
}

void register_all()
{
	const int64_t trips = smoke ? 100 : short_form ? 20000 : 50000;
	const int64_t fills = smoke ? 2 : short_form ? 40 : 400, runs = smoke || short_form ? 1 : 3;

	benchmark::RegisterBenchmark("floor/flag_bounce", flag_bounce)
		->UseManualTime()
		->Iterations(trips);
	for (int64_t bytes : { 64, 512, 2048 })
		benchmark::RegisterBenchmark("round_trip", round_trip)
			->Arg(bytes)
			->UseManualTime()
			->Iterations(trips);
	for (int64_t bytes : { 64, 256, 2048 }) {
		benchmark::RegisterBenchmark("floor/memcpy", floor_memcpy)
			->Arg(bytes)
			->UseManualTime()
			->Iterations(fills);
		for (bool remote : { false, true }) {
			const std::string where = remote ? "remote" : "local";

			benchmark::RegisterBenchmark(("floor/enqueue_" + where).c_str(),
						     floor_enqueue, remote)
				->Arg(bytes)
				->UseManualTime()
				->Iterations(fills);
			benchmark::RegisterBenchmark(("enqueue_" + where).c_str(), enqueue, remote)
				->Arg(bytes)
				->UseManualTime()
				->Iterations(fills);
		}
	}
	for (int64_t bytes : { 64, 512, 4096 })
		for (int64_t batch : { 1, 32 })
			for (int64_t producers : { 1, 2 })
				for (int64_t consumers : { 1, 2 })
					benchmark::RegisterBenchmark("throughput", throughput)
						->ArgNames({ "bytes", "batch", "producers",
							     "consumers" })
						->Args({ bytes, batch, producers, consumers })
						->UseManualTime()
						->Iterations(runs)
						->Unit(benchmark::kMillisecond);
}

} // namespace

int main(int argc, char **argv)
{
	std::vector<char *> arguments(argv, argv + argc);
	std::string repeat = "--benchmark_repetitions=5", format = "--benchmark_format=json",
		    interleave = "--benchmark_enable_random_interleaving=true";

	for (int i = 1; i < argc; i++) {
		smoke |= std::strcmp(argv[i], "--smoke") == 0;
		short_form |= std::strcmp(argv[i], "--short") == 0;
	}
	if (short_form) { // what follows on the command line wins
		arguments.insert(arguments.begin() + 1, format.data());
		if (!smoke) {
			arguments.insert(arguments.begin() + 1, repeat.data());
			arguments.insert(arguments.begin() + 1, interleave.data());
		}
	}
	argc = static_cast<int>(arguments.size());
	arguments.push_back(nullptr);
	benchmark::Initialize(&argc, arguments.data());
	register_all();
	benchmark::AddCustomContext("gpuq_version", q_version());
	benchmark::RunSpecifiedBenchmarks();
	benchmark::Shutdown();
	return 0;
}
