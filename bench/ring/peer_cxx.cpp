// SPDX-License-Identifier: Apache-2.0
// peer_cxx.cpp - the C++ queues: moodycamel::ConcurrentQueue and ReaderWriterQueue,
// boost::lockfree::spsc_queue and queue; those whose headers are there.
//
// Boost's are bounded to BENCH_SLOTS. Moodycamel's are not bounded by design: with one producer
// they are preallocated for BENCH_SLOTS and driven by try_enqueue(), which never allocates and so
// refuses when the blocks are used up; with two producers that would starve one of them for ever,
// as a producer never gives blocks back, so there pushes are refused by size_approx().
#include "ring_workload.h"

#include <optional>

#if __has_include(<concurrentqueue/concurrentqueue.h>)
#define WITH_MOODYCAMEL_CQ
#include <concurrentqueue/concurrentqueue.h>
#endif
#if __has_include(<readerwriterqueue/readerwriterqueue.h>)
#define WITH_MOODYCAMEL_RWQ
#include <readerwriterqueue/readerwriterqueue.h>
#endif
#if __has_include(<boost/lockfree/spsc_queue.hpp>)
#define WITH_BOOST
#include <boost/lockfree/queue.hpp>
#include <boost/lockfree/spsc_queue.hpp>
#endif

namespace
{

template <unsigned SIZE> struct alignas(8) Message {
	unsigned char bytes[SIZE];
};

template <class Queue> void *make()
{
	return new Queue;
}

// Reserved, where a queue takes it as an argument.
template <class Queue> void *make_sized()
{
	return new Queue(BENCH_SLOTS);
}

template <class Queue> void destroy(void *q)
{
	delete static_cast<Queue *>(q);
}

#define MAKE(SIZE)    make<Queue<SIZE>>
#define SIZED(SIZE)   make_sized<Queue<SIZE>>
#define DESTROY(SIZE) destroy<Queue<SIZE>>
#define PUSH(SIZE)    push<SIZE>
#define POP(SIZE)     pop<SIZE>

#ifdef WITH_MOODYCAMEL_CQ
namespace cq // one token a thread
{

template <unsigned SIZE> using Queue = moodycamel::ConcurrentQueue<Message<SIZE>>;

template <unsigned SIZE> struct Port {
	Queue<SIZE> *queue;
	std::optional<moodycamel::ProducerToken> producer;
	std::optional<moodycamel::ConsumerToken> consumer;
};

template <unsigned SIZE> void *producer_port(void *q)
{
	auto *port = new Port<SIZE>{ static_cast<Queue<SIZE> *>(q), {}, {} };

	port->producer.emplace(*port->queue);
	return port;
}

template <unsigned SIZE> void *consumer_port(void *q)
{
	auto *port = new Port<SIZE>{ static_cast<Queue<SIZE> *>(q), {}, {} };

	port->consumer.emplace(*port->queue);
	return port;
}

template <unsigned SIZE> ALWAYS_INLINE unsigned push(void *p, const void *src, unsigned n)
{
	auto *port = static_cast<Port<SIZE> *>(p);
	auto *message = static_cast<const Message<SIZE> *>(src);

	if (n == 1)
		return port->queue->try_enqueue(*port->producer, *message);
	return port->queue->try_enqueue_bulk(*port->producer, message, n) ? n : 0;
}

template <unsigned SIZE> ALWAYS_INLINE unsigned push_bounded(void *p, const void *src, unsigned n)
{
	auto *port = static_cast<Port<SIZE> *>(p);
	auto *message = static_cast<const Message<SIZE> *>(src);

	if (port->queue->size_approx() + n > BENCH_SLOTS)
		return 0;
	if (n == 1)
		return port->queue->enqueue(*port->producer, *message);
	return port->queue->enqueue_bulk(*port->producer, message, n) ? n : 0;
}

template <unsigned SIZE> ALWAYS_INLINE unsigned pop(void *p, void *dst, unsigned n)
{
	auto *port = static_cast<Port<SIZE> *>(p);
	auto *message = static_cast<Message<SIZE> *>(dst);

	if (n == 1)
		return port->queue->try_dequeue(*port->consumer, *message);
	return static_cast<unsigned>(port->queue->try_dequeue_bulk(*port->consumer, message, n));
}

#define PUSH_BOUNDED(SIZE) push_bounded<SIZE>
#define PORTS(SIZE)        producer_port<SIZE>, consumer_port<SIZE>, destroy<Port<SIZE>>

RING_BODIES_B1(one, PUSH, POP)
RING_BODIES_B32(one, PUSH, POP)
RING_BODIES_B1(more, PUSH_BOUNDED, POP)
RING_BODIES_B32(more, PUSH_BOUNDED, POP)
const ring_case one[] = { RING_CASES(one, "", SIZED, DESTROY, PORTS) };
const ring_case more[] = { RING_CASES(more, "", SIZED, DESTROY, PORTS) };

void run()
{
	RW_RUN("spsc", "moodycamel_cq", one);
	RW_RUN("mpsc", "moodycamel_cq", more);
	RW_RUN("mpmc", "moodycamel_cq", more);
	RW_RUN("pingpong", "moodycamel_cq", one);
}

} // namespace cq
#endif

#ifdef WITH_MOODYCAMEL_RWQ
namespace rwq // no batches
{

template <unsigned SIZE> using Queue = moodycamel::ReaderWriterQueue<Message<SIZE>>;

template <unsigned SIZE> ALWAYS_INLINE unsigned push(void *q, const void *src, unsigned)
{
	return static_cast<Queue<SIZE> *>(q)->try_enqueue(*static_cast<const Message<SIZE> *>(src));
}

template <unsigned SIZE> ALWAYS_INLINE unsigned pop(void *q, void *dst, unsigned)
{
	return static_cast<Queue<SIZE> *>(q)->try_dequeue(*static_cast<Message<SIZE> *>(dst));
}

RING_BODIES_B1(one, PUSH, POP)
const ring_case one[] = { RING_CASES_B1(one, "", SIZED, DESTROY, NO_PORTS) };

void run()
{
	RW_RUN("spsc", "moodycamel_rwq", one);
	RW_RUN("pingpong", "moodycamel_rwq", one);
}

} // namespace rwq
#endif

#ifdef WITH_BOOST
namespace boost_spsc
{

template <unsigned SIZE>
using Queue = boost::lockfree::spsc_queue<Message<SIZE>, boost::lockfree::capacity<BENCH_SLOTS>>;

template <unsigned SIZE> ALWAYS_INLINE unsigned push(void *q, const void *src, unsigned n)
{
	auto *queue = static_cast<Queue<SIZE> *>(q);
	auto *message = static_cast<const Message<SIZE> *>(src);

	return n == 1 ? queue->push(*message) : static_cast<unsigned>(queue->push(message, n));
}

template <unsigned SIZE> ALWAYS_INLINE unsigned pop(void *q, void *dst, unsigned n)
{
	auto *queue = static_cast<Queue<SIZE> *>(q);
	auto *message = static_cast<Message<SIZE> *>(dst);

	return n == 1 ? queue->pop(*message) : static_cast<unsigned>(queue->pop(message, n));
}

RING_BODIES_B1(one, PUSH, POP)
RING_BODIES_B32(one, PUSH, POP)
const ring_case one[] = { RING_CASES(one, "", MAKE, DESTROY, NO_PORTS) };

void run()
{
	RW_RUN("spsc", "boost_spsc", one);
	RW_RUN("pingpong", "boost_spsc", one);
}

} // namespace boost_spsc

namespace boost_queue // no batches
{

template <unsigned SIZE>
using Queue = boost::lockfree::queue<Message<SIZE>, boost::lockfree::capacity<BENCH_SLOTS>>;

template <unsigned SIZE> ALWAYS_INLINE unsigned push(void *q, const void *src, unsigned)
{
	return static_cast<Queue<SIZE> *>(q)->bounded_push(
		*static_cast<const Message<SIZE> *>(src));
}

template <unsigned SIZE> ALWAYS_INLINE unsigned pop(void *q, void *dst, unsigned)
{
	return static_cast<Queue<SIZE> *>(q)->pop(*static_cast<Message<SIZE> *>(dst));
}

RING_BODIES_B1(one, PUSH, POP)
const ring_case one[] = { RING_CASES_B1(one, "", MAKE, DESTROY, NO_PORTS) };

void run()
{
	RW_RUN("spsc", "boost_queue", one);
	RW_RUN("mpsc", "boost_queue", one);
	RW_RUN("mpmc", "boost_queue", one);
	RW_RUN("pingpong", "boost_queue", one);
}

} // namespace boost_queue
#endif

} // namespace

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
#ifdef WITH_MOODYCAMEL_CQ
	cq::run();
#endif
#ifdef WITH_MOODYCAMEL_RWQ
	rwq::run();
#endif
#ifdef WITH_BOOST
	boost_spsc::run();
	boost_queue::run();
#endif
	return 0;
}
