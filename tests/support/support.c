/* SPDX-License-Identifier: Apache-2.0 */
/* support.c - what the unit tests share: a processor of many behaviours, and short calls. */
#include "support.h"

#include "standin.h"

#include <dirent.h>
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

extern const void *const gpu_test_image; /* the build's; NULL without nvcc */

static uint64_t host_gate;
static struct test_counts host_counts;
static struct test_data shared = { &host_gate, &host_counts, 0 };
static uint64_t *gate = &host_gate;
static uint64_t forgotten; /* of `started` */

#define COUNT(name) count_at(offsetof(struct test_counts, name))

static uint64_t count_at(size_t offset)
{
	const uint8_t *at = (const uint8_t *)shared.counts + offset;
	uint64_t value;

	if (!on_gpu())
		return gq_load_acquire_u64((const uint64_t *)(const void *)at);
	gpu_read(&value, at, sizeof(value));
	return value;
}

struct test_data *test_data(void)
{
	return &shared;
}

const void *test_device_image(void)
{
	return on_standin() ? (const void *)&standin_test_image : gpu_test_image;
}

/* Before main(): the tests count threads, descriptors and bytes from their first line on. */
__attribute__((constructor)) static void announce(void)
{
	static QProcessorImage image = { .magic = Q_PROCESSOR_MAGIC,
					 .protocol_version = Q_PROTOCOL_VERSION,
					 .granularity = Q_PER_WARP,
					 .name = "test",
					 .cpu = test_processor };

	setvbuf(stdout, NULL, _IOLBF, 0); /* who is killed has said all it had to */
	image.device_image = test_device_image();
	if (on_gpu()) {
		if (image.device_image == NULL) {
			printf("skipped: built without nvcc: the tests' processor has no image\n");
			fflush(stdout);
			_exit(77);
		}
		gpu_begin();
		gate = gpu_pinned_memory(sizeof(*gate));
		shared.gate = gate;
		shared.counts = gpu_device_memory(sizeof(*shared.counts));
	}
	q_register_processor(&image);
	if (on_remote())
		remote_begin();
	if (on_gpu()) /* the driver starts threads and opens files for its first kernel */
		q_shutdown(make_queue(1, 16));
}

const void *find_standin(const char *variable, const char *symbol)
{
	const char *path = getenv(variable);
	void *library = path != NULL ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;

	return library != NULL ? dlsym(library, symbol) : NULL;
}

const struct standin_control *begin_on_standin(int argc, char **argv)
{
	const struct standin_control *standin = find_standin("GPUQ_LIBCUDA", "standin");

	if (standin == NULL)
		print_message("skipped: GPUQ_LIBCUDA does not name the stand-in driver\n");
	else if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return standin;
}

QueueConfig config(uint32_t capacity, uint32_t slot_bytes)
{
	return (QueueConfig){ .capacity = capacity,
			      .slot_bytes = slot_bytes,
			      .device = on_cuda()     ? Q_DEVICE_CUDA
					: on_remote() ? Q_DEVICE_AUTO /* GPUQ_DEVICE */
						      : Q_DEVICE_CPU,
			      .consumers = 1,
			      .processor = "test",
			      .processor_data = &shared,
			      .processor_data_bytes = sizeof(shared) };
}

GpuQueue *make_queue_from(const QueueConfig *cfg)
{
	GpuQueue *q = q_init(cfg);

	if (q == NULL)
		fail_msg("q_init: %s", q_last_error());
	return q;
}

void expect_no_queue(const QueueConfig *cfg, const char *words)
{
	GpuQueue *q = q_init(cfg);

	if (q != NULL)
		fail_msg("accepted, though '%s'", words);
	if (strstr(q_last_error(), words) == NULL)
		fail_msg("'%s' does not say '%s'", q_last_error(), words);
}

GpuQueue *make_queue(uint32_t capacity, uint32_t slot_bytes)
{
	QueueConfig cfg = config(capacity, slot_bytes);

	return make_queue_from(&cfg);
}

QProcessorFn standin_called;

void forget_started(void)
{
	forgotten = COUNT(started);
}

void close_gate(void)
{
	gq_store_release_u64(gate, 0);
	forget_started();
}

void open_gate(void)
{
	gq_store_release_u64(gate, 1);
}

uint32_t gate_waiters(void)
{
	const uint64_t left = COUNT(left); /* first: no fewer than none wait */

	return (uint32_t)(COUNT(entered) - left);
}

void await_gate_waiters(uint32_t n)
{
	for (unsigned i = 0; gate_waiters() != n; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

uint32_t started(void)
{
	return (uint32_t)(COUNT(started) - forgotten);
}

uint64_t started_tag(uint32_t i)
{
	assert_true(i < MAX_STARTED);
	return COUNT(tags[(forgotten + i) % MAX_STARTED]);
}

bool payloads_aligned(void)
{
	return COUNT(misaligned) == 0;
}

uint64_t send_with(GpuQueue *q, const EnqueueOptions *options, const void *data, size_t len)
{
	uint64_t id = 0;

	assert_status(q_enqueue_ex(q, data, len, options, &id, LONG_MS), Q_OK);
	return id;
}

uint64_t send(GpuQueue *q, const void *data, size_t len)
{
	return send_with(q, NULL, data, len);
}

uint64_t send_op(GpuQueue *q, uint32_t opcode, uint64_t tag, const void *data, size_t len)
{
	EnqueueOptions options = { .opcode = opcode, .tag = tag };

	return send_with(q, &options, data, len);
}

QueueStatus take(GpuQueue *q, uint64_t id, void *buf, size_t *len)
{
	assert_status(q_wait(q, id, LONG_MS), Q_OK);
	return q_try_dequeue_result(q, id, buf, len);
}

void expect_echo(GpuQueue *q, uint64_t id, const void *data, size_t len)
{
	char buf[4096];
	size_t room = sizeof(buf);

	assert_status(take(q, id, buf, &room), Q_OK);
	assert_int_equal(room, len);
	if (len != 0)
		assert_memory_equal(buf, data, len);
}

/* Beside this program, wherever the build has been moved to. */
const char *module_path(const char *name)
{
	static char paths[8][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % 8], *slash;
	ssize_t len = readlink("/proc/self/exe", path, PATH_MAX - 1);

	assert_true(len > 0);
	path[len] = '\0';
	slash = strrchr(path, '/');
	assert_non_null(slash);
	snprintf(slash, (size_t)(path + PATH_MAX - slash), "/../modules/%s", name);
	return path;
}

QueueStats stats_of(GpuQueue *q)
{
	QueueStats stats;

	assert_status(q_stats(q, &stats), Q_OK);
	return stats;
}

QueueInfo queue_info(GpuQueue *q)
{
	QueueInfo info;

	assert_status(q_info(q, &info), Q_OK);
	return info;
}

/* Not one that is ending: Linux wakes whoever joins a thread before the thread has left /proc. */
static bool lives(const char *thread)
{
	enum { ENDING = 0x4 }; /* PF_EXITING of Linux */
	char path[64], text[512] = "";
	const char *after_name;
	unsigned flags = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/self/task/%.20s/stat", thread);
	file = fopen(path, "re");
	if (file == NULL)
		return false;
	after_name = fgets(text, sizeof(text), file) != NULL ? strrchr(text, ')') : NULL;
	fclose(file);
	return after_name != NULL &&
	       sscanf(after_name, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1 &&
	       (flags & ENDING) == 0;
}

unsigned threads_now(void)
{
	DIR *dir = opendir("/proc/self/task");
	const struct dirent *e;
	unsigned n = 0;

	assert_non_null(dir);
	while ((e = readdir(dir)) != NULL)
		n += e->d_name[0] != '.' && lives(e->d_name);
	closedir(dir);
	return n;
}

unsigned files_now(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n - 3; /* ., .. and the directory itself */
}

void nap_ms(unsigned ms)
{
	struct timespec t = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}
