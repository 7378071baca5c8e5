/* SPDX-License-Identifier: Apache-2.0 */
/* main.cc - the same from C++17: a queue that shuts itself down, and no designated initialisers. */
#include <gpuq/gpuq.h>

#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

struct Shutdown {
	void operator()(GpuQueue *q) const
	{
		q_shutdown(q);
	}
};
using Queue = std::unique_ptr<GpuQueue, Shutdown>;

static void check(QueueStatus status, const char *what)
{
	if (status != Q_OK)
		throw std::runtime_error(std::string(what) + ": " + q_last_error());
}

static Queue open_queue(uint32_t capacity, uint32_t slot_bytes)
{
	QueueConfig cfg{}; /* all zero: every field at its default */

	cfg.capacity = capacity;
	cfg.slot_bytes = slot_bytes;
	Queue q(q_init(&cfg));
	if (!q)
		throw std::runtime_error(std::string("q_init: ") + q_last_error());
	return q;
}

static std::string ask(GpuQueue *q, std::string_view text)
{
	EnqueueOptions options{};
	uint64_t id;
	size_t len = 0;

	options.priority = Q_PRIORITY_HIGH;
	check(q_enqueue_ex(q, text.data(), text.size(), &options, &id, UINT32_MAX), "q_enqueue_ex");
	check(q_wait(q, id, UINT32_MAX), "q_wait");
	/* Ask for the length; then take the result, which frees the slot. */
	const QueueStatus status = q_try_dequeue_result(q, id, nullptr, &len);
	if (status != Q_OK && status != Q_ERR_BUFFER_TOO_SMALL)
		check(status, "q_try_dequeue_result");
	std::string result(len, '\0');
	if (status != Q_OK)
		check(q_try_dequeue_result(q, id, result.data(), &len), "q_try_dequeue_result");
	return result;
}

int main(int argc, char **argv)
try {
	const Queue q = open_queue(64, 256);

	std::printf("%s\n", ask(q.get(), argc > 1 ? argv[1] : "hello, queue").c_str());
	return 0;
} catch (const std::exception &e) {
	std::fprintf(stderr, "%s\n", e.what());
	return 1;
}
