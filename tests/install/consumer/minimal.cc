// SPDX-License-Identifier: Apache-2.0
// minimal.cc - minimal.c, as C++ programs are written.
#include <gpuq/gpuq.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace
{
void require(bool ok, const char *what)
{
	if (!ok)
		throw std::runtime_error(std::string(what) + ": " + q_last_error());
}

void run(int mask, const char *processor)
{
	QueueConfig cfg = {}; // whatever fields it may get, zero is their default
	cfg.capacity = 4096;
	cfg.slot_bytes = 2048;
	cfg.processor = processor;
	const std::unique_ptr<GpuQueue, decltype(&q_shutdown)> q(q_init(&cfg), q_shutdown);
	require(q != nullptr, "q_init");

	std::vector<unsigned char> message(512);
	std::iota(message.begin(), message.end(), static_cast<unsigned char>(3));
	uint64_t id = 0;
	require(q_enqueue(q.get(), message.data(), message.size(), &id, 1000) == Q_OK, "q_enqueue");
	require(q_wait(q.get(), id, 10000) == Q_OK, "q_wait");

	std::vector<unsigned char> result(2048);
	size_t len = result.size();
	require(q_try_dequeue_result(q.get(), id, result.data(), &len) == Q_OK,
		"q_try_dequeue_result");
	require(len == message.size(), "the result's length");
	for (size_t i = 0; i < len; i++)
		require(result[i] == (message[i] ^ mask), "the result");

	QueueStats stats;
	require(q_stats(q.get(), &stats) == Q_OK, "q_stats");
	require(stats.enq_count == 1 && stats.deq_count == 1 && stats.queue_depth == 0,
		"the counts");
	std::printf("libgpuq %s: %llu message in, %llu result out\n", q_version(),
		    static_cast<unsigned long long>(stats.enq_count),
		    static_cast<unsigned long long>(stats.deq_count));
}
} // namespace

int main(int argc, char **argv)
{
	try {
		if (argc < 2)
			throw std::invalid_argument("usage: minimal MASK [PROCESSOR]");
		run(std::atoi(argv[1]), argc > 2 ? argv[2] : nullptr);
	} catch (const std::exception &e) {
		std::fprintf(stderr, "%s\n", e.what());
		return 1;
	}
	return 0;
}
