/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lifetimes.c - code that goes while it is in use: plug-ins with a processor, a process that
 * ends with a live queue. lifetimes WHAT PLUGIN SELF_CONTAINED
 */
#include <gpuq/gpuq.h>

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *plugin, *self_contained;

#define must(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			const char *why_ = dlerror();                                              \
			fprintf(stderr, "%s:%d: not %s; last error: %s; %s\n", __FILE__, __LINE__, \
				#condition, q_last_error(), why_ != NULL ? why_ : "");             \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

static GpuQueue *queue_of(const char *processor, uint32_t shutdown_timeout_ms)
{
	const QueueConfig cfg = { .capacity = 4,
				  .slot_bytes = 16,
				  .device = Q_DEVICE_CPU,
				  .consumers = 1,
				  .shutdown_timeout_ms = shutdown_timeout_ms,
				  .processor = processor };

	return q_init(&cfg);
}

/* The plug-in's processor answers 'p'. */
static void expect_plugged(GpuQueue *q)
{
	char answer = 0;
	size_t len = 1;
	uint64_t id;

	must(q_enqueue(q, "x", 1, &id, 1000) == Q_OK);
	must(q_wait(q, id, 10000) == Q_OK);
	must(q_try_dequeue_result(q, id, &answer, &len) == Q_OK);
	must(len == 1 && answer == 'p');
}

static void a_closed_plugins_processor_is_not_found(void)
{
	void *handle = dlopen(plugin, RTLD_NOW);
	GpuQueue *q;

	must(handle != NULL);
	q = queue_of("plugged", 0);
	must(q != NULL);
	q_shutdown(q);
	dlclose(handle);
	must(dlopen(plugin, RTLD_NOW | RTLD_NOLOAD) == NULL); /* it has gone */
	must(queue_of("plugged", 0) == NULL);
	must(strstr(q_last_error(), "no processor is called 'plugged'") != NULL);
	q = queue_of("echo", 0);
	must(q != NULL);
	q_shutdown(q);
	must(queue_of(NULL, 0) == NULL); /* none is linked */
}

static void a_plugin_stays_while_a_queue_uses_it_and_can_come_back(void)
{
	for (int lap = 0; lap < 3; lap++) {
		void *handle = dlopen(plugin, RTLD_NOW);
		GpuQueue *q, *second;

		must(handle != NULL);
		q = queue_of(NULL, 0); /* the only one linked */
		must(q != NULL);
		dlclose(handle);
		expect_plugged(q);
		second = queue_of("plugged", 0); /* known as long as it is there */
		must(second != NULL);
		q_shutdown(q);
		expect_plugged(second);
		q_shutdown(second);
		must(dlopen(plugin, RTLD_NOW | RTLD_NOLOAD) == NULL);
		must(queue_of("plugged", 0) == NULL);
	}
}

static void a_plugin_whose_processor_outlives_shutdown_stays_for_it(void)
{
	const EnqueueOptions slow = { .opcode = 1 };
	void *handle = dlopen(plugin, RTLD_NOW);
	GpuQueue *q = queue_of("plugged", 20);

	must(handle != NULL && q != NULL);
	must(q_enqueue_ex(q, "x", 1, &slow, NULL, 1000) == Q_OK);
	usleep(50000);
	q_shutdown(q); /* gives up; the processor still runs */
	dlclose(handle);
	usleep(500000);
}

static volatile int churning = 1;

static void *open_and_close(void *arg)
{
	(void)arg;
	while (churning) {
		void *handle = dlopen(plugin, RTLD_NOW);

		must(handle != NULL);
		dlclose(handle);
	}
	return NULL;
}

/* Against a deadlock between the loader's lock and ours, and against code that goes meanwhile. */
static void a_plugin_is_found_whole_or_not_at_all(void)
{
	pthread_t thread;
	unsigned found = 0;

	must(pthread_create(&thread, NULL, open_and_close, NULL) == 0);
	for (int i = 0; i < 300 || found < 20; i++) {
		GpuQueue *q = queue_of("plugged", 0);

		if (q == NULL)
			continue;
		found++;
		expect_plugged(q);
		q_shutdown(q);
	}
	churning = 0;
	pthread_join(thread, NULL);
	printf("found %u times\n", found);
}

typedef int (*plugin_fn)(void);

static plugin_fn entry(void *handle, const char *name)
{
	plugin_fn fn;
	void *symbol = dlsym(handle, name);

	must(symbol != NULL);
	*(void **)&fn = symbol;
	return fn;
}

static void a_plugin_with_the_library_inside_stays_while_its_queue_lives(void)
{
	for (int lap = 0; lap < 3; lap++) {
		void *handle = dlopen(self_contained, RTLD_NOW);
		plugin_fn use;

		must(handle != NULL);
		must(entry(handle, "plugin_start")());
		use = entry(handle, "plugin_use");
		must(use());
		dlclose(handle);
		must(use()); /* its consumers, too, are still there */
		handle = dlopen(self_contained, RTLD_NOW);
		must(handle != NULL);
		entry(handle, "plugin_stop")();
		dlclose(handle);
		must(dlopen(self_contained, RTLD_NOW | RTLD_NOLOAD) == NULL);
	}
}

static void a_process_ends_with_live_queues(void)
{
	const EnqueueOptions slow = { .opcode = 1 };
	void *handle = dlopen(plugin, RTLD_NOW);
	GpuQueue *q = queue_of("plugged", 0);

	must(handle != NULL && q != NULL && queue_of("echo", 0) != NULL);
	must(q_completion_fd(q) >= 0);
	must(q_enqueue_ex(q, "x", 1, &slow, NULL, 1000) == Q_OK);
	usleep(20000);
	exit(0);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} cases[] = {
#define CASE(name) { #name, name }
		CASE(a_closed_plugins_processor_is_not_found),
		CASE(a_plugin_stays_while_a_queue_uses_it_and_can_come_back),
		CASE(a_plugin_whose_processor_outlives_shutdown_stays_for_it),
		CASE(a_plugin_is_found_whole_or_not_at_all),
		CASE(a_plugin_with_the_library_inside_stays_while_its_queue_lives),
		CASE(a_process_ends_with_live_queues),
	};

	if (argc != 4)
		return 2;
	plugin = argv[2];
	self_contained = argv[3];
	alarm(60);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (strcmp(argv[1], cases[i].name) != 0)
			continue;
		cases[i].run();
		return 0;
	}
	return 2;
}
