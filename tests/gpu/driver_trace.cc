/* SPDX-License-Identifier: Apache-2.0 */
/* driver_trace.cc - every entry of the library's driver table becomes a function that calls the
 * real one and notes it. */
#include "driver_trace.h"

#include "device/cuda/driver/driver_api.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

extern "C" const struct gq_cu *gq__cuda_driver(void);

namespace
{

enum { KEPT = 48, FAILURES = 8, UNDER_WAY = -1 };

struct Call {
	const char *name;
	pthread_t thread;
	int result; /* UNDER_WAY: has not returned */
	unsigned long long begun_ns, took_ns, times;
};

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
Call kept[KEPT], failures[FAILURES];
unsigned long long n_calls, n_failures, origin_ns;

unsigned long long now_ns()
{
	timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (unsigned long long)now.tv_sec * 1000000000u + (unsigned long long)now.tv_nsec;
}

unsigned long long begin(const char *name)
{
	unsigned long long number;

	pthread_mutex_lock(&lock);
	number = n_calls++;
	kept[number % KEPT] = { name, pthread_self(), UNDER_WAY, now_ns(), 0, 1 };
	pthread_mutex_unlock(&lock);
	return number;
}

/* The same call again and again is one line. */
void join_previous(unsigned long long number)
{
	const Call &call = kept[number % KEPT];
	Call &before = kept[(number + KEPT - 1) % KEPT];

	if (number == 0 || number + 1 != n_calls || strcmp(before.name, call.name) != 0 ||
	    before.result != call.result || pthread_equal(before.thread, call.thread) == 0)
		return;
	before.times++;
	if (call.took_ns > before.took_ns)
		before.took_ns = call.took_ns;
	n_calls--;
}

void end(unsigned long long number, int result)
{
	pthread_mutex_lock(&lock);
	if (n_calls - number <= KEPT) { /* or others have taken its place */
		Call &call = kept[number % KEPT];

		call.result = result;
		call.took_ns = now_ns() - call.begun_ns;
		/* That the driver does not know an address is an answer. */
		if (result != GQ_CU_SUCCESS && result != GQ_CU_NOT_READY &&
		    strcmp(call.name, "cuPointerGetAttribute") != 0) {
			if (n_failures < FAILURES)
				failures[n_failures] = call;
			n_failures++;
		}
		/* Making a context current is worth a line only if it goes wrong or does not
		 * return. */
		if (result == GQ_CU_SUCCESS && number + 1 == n_calls &&
		    strncmp(call.name, "cuCtxP", 6) == 0)
			n_calls--;
		else
			join_previous(number);
	}
	pthread_mutex_unlock(&lock);
}

enum {
#define NUMBER(name, version, parameters) number_##name,
	GQ_CU_ENTRIES(NUMBER)
};

const char *const names[] = {
#define NAME(name, version, parameters) #name,
	GQ_CU_ENTRIES(NAME)
};

template <int number, typename F> struct Traced;
template <int number, typename... A> struct Traced<number, int (*)(A...)> {
	static int (*real)(A...);
	static int call(A... arguments)
	{
		const unsigned long long at = begin(names[number]);
		const int result = real(arguments...);

		end(at, result);
		return result;
	}
};
template <int number, typename... A> int (*Traced<number, int (*)(A...)>::real)(A...);

void print(const char *what, const Call &call)
{
	printf("  %s %9.3f ms %s", what, (double)(call.begun_ns - origin_ns) / 1e6, call.name);
	if (call.result == UNDER_WAY)
		printf(": HAS NOT RETURNED for %.3f ms\n",
		       (double)(now_ns() - call.begun_ns) / 1e6);
	else
		printf(" = %d, %.1f us%s%.0llu\n", call.result, (double)call.took_ns / 1e3,
		       call.times > 1 ? " at most, times " : "", call.times > 1 ? call.times : 0);
}

} // namespace

void driver_trace_begin(void)
{
	/* The library's table is not constant, but for its users. */
	struct gq_cu *table = const_cast<struct gq_cu *>(gq__cuda_driver());

	if (table == nullptr)
		return;
	origin_ns = now_ns();
#define TRACE(name, version, parameters)                                                           \
	{                                                                                          \
		using T = Traced<number_##name, decltype(gq_cu::name)>;                            \
		T::real = table->name;                                                             \
		table->name = T::call;                                                             \
	}
	GQ_CU_ENTRIES(TRACE)
}

void driver_trace_print(void)
{
	pthread_mutex_lock(&lock);
	printf("driver calls that failed: %llu\n", n_failures);
	for (unsigned long long i = 0; i < n_failures && i < FAILURES; i++)
		print("failed", failures[i]);
	printf("last driver calls, from the first call on:\n");
	for (unsigned long long i = n_calls > KEPT ? n_calls - KEPT : 0; i < n_calls; i++)
		print("at", kept[i % KEPT]);
	pthread_mutex_unlock(&lock);
	fflush(stdout);
}
