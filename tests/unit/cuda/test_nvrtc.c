/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_nvrtc.c - a processor given as CUDA source: the file, and, through the stand-ins for driver
 * and NVRTC, compiling it and every call of NVRTC failing in turn. The real NVRTC: tests/cuda.
 */
#include "device/cuda/driver/nvrtc.h"
#include "host/base/fault.h"
#include "standin.h"
#include "standin_nvrtc.h"
#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct standin_control *driver;
static const struct standin_nvrtc *nvrtc;

static char folder[] = "/tmp/gpuq-nvrtc.XXXXXX";
static char path[64]; /* of a source in it */

static const char source[] = "the stand-in compiles anything\n";

#define standins_only()                                                                            \
	do {                                                                                       \
		if (driver == NULL)                                                                \
			skip();                                                                    \
	} while (0)

static void write_source(const void *text, size_t bytes)
{
	FILE *file = fopen(path, "wb");

	assert_non_null(file);
	assert_int_equal(fwrite(text, 1, bytes, file), bytes);
	assert_int_equal(fclose(file), 0);
}

static int reset(void **state)
{
	(void)state;
	write_source(source, strlen(source));
	if (nvrtc != NULL) {
		static const int known[] = { 75, 80, 90, 100 };

		nvrtc->fail_nth(0, 0);
		nvrtc->set_image(&standin_test_image, sizeof(struct standin_image));
		nvrtc->set_outcome(0, "");
		nvrtc->set_known(known, 4);
		nvrtc->set_version(13000);
		nvrtc->set_hook(NULL);
	}
	return 0;
}

static QueueConfig source_config(void)
{
	QueueConfig cfg = config(8, 64);

	cfg.processor = path;
	cfg.granularity = Q_PER_WARP;
	return cfg;
}

static void expect_refusal(const QueueConfig *cfg, const char *words)
{
	const size_t memory = gq__alloc_live_bytes();
	const unsigned files = files_now();

	expect_no_queue(cfg, words);
	assert_int_equal(gq__alloc_live_bytes(), memory);
	assert_int_equal(files_now(), files);
	if (driver != NULL) {
		assert_int_equal(driver->live(), 0);
		assert_int_equal(driver->depth(), 0);
		assert_int_equal(nvrtc->live(), 0);
	}
}

static void expect_work(const QueueConfig *cfg)
{
	GpuQueue *q = make_queue_from(cfg);

	expect_echo(q, send(q, "work", 4), "work", 4);
	q_shutdown(q);
	assert_int_equal(nvrtc->live(), 0);
	assert_int_equal(driver->live(), 0);
}

/* ---- the file -------------------------------------------------------------------------------- */

static void a_source_that_cannot_be_read_is_refused(void **state)
{
	QueueConfig cfg = source_config();
	char other[80];

	(void)state;
	cfg.processor = "nothing-there.cu";
	expect_refusal(&cfg, "cannot load 'nothing-there.cu': No such file");
	snprintf(other, sizeof(other), "%s/folder.cu", folder);
	assert_int_equal(mkdir(other, 0700), 0);
	cfg.processor = other;
	expect_refusal(&cfg, "folder.cu' is not a file");
	rmdir(other);
	assert_int_equal(mkfifo(other, 0600), 0); /* nobody writes: not waited for */
	expect_refusal(&cfg, "folder.cu' is not a file");
	unlink(other);
	cfg.processor = path;
	write_source("", 0);
	expect_refusal(&cfg, "score.cu' has 0 bytes; allowed: 1 to 16777216");
	assert_int_equal(truncate(path, 16777217), 0);
	expect_refusal(&cfg, "score.cu' has 16777217 bytes; allowed: 1 to 16777216");
	write_source("int x;\0", 7);
	expect_refusal(&cfg, "score.cu' is not source: it has a zero byte");
}

static void the_cpu_device_does_not_compile(void **state)
{
	QueueConfig cfg = source_config();
	const char *real = getenv("GPUQ_LIBCUDA");
	char *kept = real != NULL ? strdup(real) : NULL;

	(void)state;
	cfg.device = Q_DEVICE_CPU;
	expect_refusal(&cfg, "processor: 'score' is CUDA source, which the CPU device does not "
			     "compile");
	cfg.device = Q_DEVICE_AUTO;
	setenv("GPUQ_DEVICE", "cpu", 1);
	expect_refusal(&cfg, "processor: 'score' is CUDA source, which the CPU device does not "
			     "compile");
	unsetenv("GPUQ_DEVICE");
	/* Runs before any test that finds a driver. AUTO does not fall back, and says why. */
	setenv("GPUQ_LIBCUDA", "/nonexistent/libcuda.so.1", 1);
	expect_refusal(&cfg, "processor: 'score' runs on a GPU only: CUDA: no driver: cannot load");
	if (kept != NULL)
		setenv("GPUQ_LIBCUDA", kept, 1);
	else
		unsetenv("GPUQ_LIBCUDA");
	free(kept);
}

/* ---- finding NVRTC: before it has been found, as it stays ------------------------------------ */

static void what_is_wrong_with_nvrtc_is_said(void **state)
{
	QueueConfig cfg = source_config();
	char *kept;

	(void)state;
	standins_only();
	kept = strdup(getenv("GPUQ_LIBNVRTC"));
	setenv("GPUQ_LIBNVRTC", "/nonexistent/libnvrtc.so", 1);
	expect_refusal(&cfg, "cannot be loaded from GPUQ_LIBNVRTC, '/nonexistent/libnvrtc.so'");
	assert_non_null(strstr(q_last_error(), "gpuq_add_processor() with FATBIN"));
	setenv("GPUQ_LIBNVRTC", "libpthread.so.0", 1);
	expect_refusal(&cfg, "NVRTC: 'libpthread.so.0' has no entry point nvrtc");
	setenv("GPUQ_LIBNVRTC", kept, 1);
	nvrtc->set_version(11080);
	expect_refusal(&cfg, "is of CUDA 11.8; allowed: 12.0 or newer");
	nvrtc->set_version(13010);
	driver->set(STANDIN_VERSION, 12040);
	expect_refusal(&cfg, "is of CUDA 13.1, and the driver of 12.4; allowed: 12.0 to 12.x");
	driver->set(STANDIN_VERSION, 13000);
	free(kept);
}

/* ---- every call fails in turn ---------------------------------------------------------------- */

static char seen[1024]; /* names of calls that have failed, each followed by a space */

static void note(const char *call)
{
	char one[64];

	snprintf(one, sizeof(one), "%s ", call);
	if (strstr(seen, one) == NULL)
		strcat(seen, one);
}

static void fail_each(const QueueConfig *cfg, int result, QueueStatus expected)
{
	const struct gq_compilation job = {
		.path = path, .source = source, .granularity = Q_PER_WARP, .capability = 90
	};
	const size_t memory = gq__alloc_live_bytes();

	for (uint32_t n = 1;; n++) {
		void *image = NULL;
		const char *call;
		QueueStatus status;
		size_t bytes = 0;

		assert_true(n < 100);
		nvrtc->fail_nth(n, result);
		status = gq__nvrtc_compile(&job, &image, &bytes);
		call = nvrtc->failed_call();
		if (call == NULL) {
			assert_status(status, Q_OK);
			gq__free(image, bytes);
			break;
		}
		note(call);
		if (strcmp(call, "nvrtcDestroyProgram") == 0) { /* nobody could act on it */
			assert_status(status, Q_OK);
			gq__free(image, bytes);
		} else {
			assert_status(status, expected);
			assert_null(image);
			if (strstr(q_last_error(), call) == NULL)
				fail_msg("%s failed: '%s'", call, q_last_error());
			nvrtc->fail_nth(n, result);
			expect_refusal(cfg, call);
		}
		nvrtc->fail_nth(0, 0);
		assert_int_equal(nvrtc->live(), 0);
		assert_int_equal(gq__alloc_live_bytes(), memory);
		expect_work(cfg); /* a second one works */
	}
}

static void every_call_of_nvrtc_fails_in_turn(void **state)
{
	static const char *const calls[] = {
#define NAME(type, name, parameters) #name " ",
		GQ_NVRTC_ENTRIES(NAME)
	};
	static const int old[] = { 75, 80 };
	QueueConfig cfg = source_config();

	(void)state;
	standins_only();
	fail_each(&cfg, GQ_NVRTC_OUT_OF_MEMORY, Q_ERR_NO_MEMORY);
	fail_each(&cfg, GQ_NVRTC_INTERNAL_ERROR, Q_ERR_CUDA);
	nvrtc->set_known(old, 2);
	fail_each(&cfg, GQ_NVRTC_INTERNAL_ERROR, Q_ERR_CUDA);
	for (unsigned i = 1; i < sizeof(calls) / sizeof(calls[0]); i++) /* [0] cannot fail */
		if (strstr(seen, calls[i]) == NULL)
			fail_msg("%sdid not fail once", calls[i]);
}

static void every_resource_of_q_init_fails_in_turn(void **state)
{
	QueueConfig cfg = source_config();
	unsigned failures = 0;

	(void)state;
	standins_only();
	setenv("GPUQ_NVRTC_OPTIONS", "-DX", 1);
	for (unsigned n = 1;; n++) {
		const size_t memory = gq__alloc_live_bytes();
		GpuQueue *q;

		gq__fault_set(n);
		q = q_init(&cfg);
		if (q != NULL) {
			gq__fault_set(0);
			q_shutdown(q);
			break;
		}
		failures++;
		assert_string_not_equal(q_last_error(), "");
		assert_int_equal(gq__alloc_live_bytes(), memory);
		assert_int_equal(nvrtc->live(), 0);
		assert_int_equal(driver->live(), 0);
	}
	unsetenv("GPUQ_NVRTC_OPTIONS");
	assert_true(failures > 8);
	expect_work(&cfg);
}

/* ---- compiling ------------------------------------------------------------------------------- */

static void a_source_becomes_a_queue(void **state)
{
	QueueConfig cfg = source_config();
	char options[256];
	QueueInfo info;
	GpuQueue *q;

	(void)state;
	standins_only();
	q = make_queue_from(&cfg);
	assert_status(q_info(q, &info), Q_OK);
	assert_string_equal(info.processor, "score");
	assert_int_equal(info.granularity, Q_PER_WARP);
	for (int i = 0; i < 100; i++)
		expect_echo(q, send(q, &i, sizeof(i)), &i, sizeof(i));
	q_shutdown(q);
	snprintf(options, sizeof(options), "-std=c++17\n-DQ_GRANULARITY=1\n-arch=sm_90\n-I%s\n",
		 folder);
	assert_string_equal(nvrtc->options(), options);
	assert_string_equal(nvrtc->name(), path);
	assert_memory_equal(nvrtc->source(), source, strlen(source));
	assert_non_null(strstr(nvrtc->source(), "\n#include \"device/cuda/grid/grid.cuh\"\n"));
	for (int i = 0; i < gq__nvrtc_header_count; i++) {
		const char *text = nvrtc->header(gq__nvrtc_header_names[i]);

		assert_non_null(text);
		assert_memory_equal(text, "/* SPDX", 7);
		assert_string_equal(strrchr(text, '\n'), "\n"); /* to its end */
	}
	cfg.granularity = Q_PER_THREAD;
	q_shutdown(make_queue_from(&cfg)); /* the stand-in's image is per warp all the same */
	assert_non_null(strstr(nvrtc->options(), "-DQ_GRANULARITY=0\n"));
}

static void options_of_the_environment_follow(void **state)
{
	QueueConfig cfg = source_config();
	char many[256] = "";

	(void)state;
	standins_only();
	setenv("GPUQ_NVRTC_OPTIONS", " -I/opt/x  -DA=1\t-DB\n", 1);
	expect_work(&cfg);
	assert_non_null(strstr(nvrtc->options(), "\n-I/opt/x\n-DA=1\n-DB\n"));
	for (int i = 0; i < 33; i++)
		strcat(many, "-DX ");
	setenv("GPUQ_NVRTC_OPTIONS", many, 1);
	expect_refusal(&cfg, "GPUQ_NVRTC_OPTIONS holds more than 32 options");
	setenv("GPUQ_NVRTC_OPTIONS", "-arch=compute_90", 1); /* no machine code then */
	nvrtc->set_image(source, 0);
	expect_refusal(&cfg, "it made no code for the GPU");
	unsetenv("GPUQ_NVRTC_OPTIONS");
}

static void the_folder_searched_is_the_sources(void **state)
{
	static const struct {
		const char *path, *option;
	} cases[] = { { "a/b/c.cu", "\n-Ia/b\n" }, { "c.cu", "\n-I.\n" }, { "/c.cu", "\n-I/\n" } };

	(void)state;
	standins_only();
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct gq_compilation job = { .path = cases[i].path,
						    .source = source,
						    .capability = 90 };
		size_t bytes;
		void *image;

		assert_status(gq__nvrtc_compile(&job, &image, &bytes), Q_OK);
		gq__free(image, bytes);
		if (strstr(nvrtc->options(), cases[i].option) == NULL)
			fail_msg("%s: %s", cases[i].path, nvrtc->options());
	}
}

/* The stand-in device is of 9.0. */
static void a_gpu_that_nvrtc_does_not_know_gets_ptx(void **state)
{
	static const int newer[] = { 100, 120 }, older[] = { 80, 75, 89, 100 };
	QueueConfig cfg = source_config();

	(void)state;
	standins_only();
	nvrtc->set_known(older, 4);
	expect_work(&cfg);
	assert_non_null(strstr(nvrtc->options(), "\n-arch=compute_89\n"));
	nvrtc->set_known(newer, 2);
	expect_refusal(&cfg, "NVRTC: 13.0 does not compile for compute capability 9.0; allowed: "
			     "10.0 or newer");
	nvrtc->set_known(newer, 0);
	expect_refusal(&cfg, "compiles for no GPU at all");
}

/* ---- what the compiler says ------------------------------------------------------------------ */

static char logged[4096];
static int worst;

static void hear(int level, const char *text, void *user)
{
	const size_t used = strlen(logged);

	(void)user;
	worst = level < worst ? level : worst;
	if (strstr(text, "NVRTC: ") == text)
		snprintf(logged + used, sizeof(logged) - used, "%s\n", text);
}

static void listen(void)
{
	logged[0] = '\0';
	worst = Q_LOG_DEBUG;
	q_set_log(hear, NULL);
}

static void the_compilers_first_errors_are_in_the_error(void **state)
{
	QueueConfig cfg = source_config();
	char log[2048] = "x.cu(1): warning: w\n  w\n\nx.cu(2): error: first\n  ^\n\n";
	char longest[1024];

	(void)state;
	standins_only();
	for (int i = 0; i < 40; i++)
		strcat(log, "x.cu(3): error: and so on\n");
	nvrtc->set_outcome(GQ_NVRTC_COMPILATION, log);
	listen();
	expect_refusal(&cfg, "processor: 'score.cu' does not compile (NVRTC 13.0, sm_90):\n"
			     "x.cu(2): error: first\n  ^\nx.cu(3): error: and so on\n");
	assert_null(strstr(q_last_error(), "warning"));
	assert_string_equal(strrchr(q_last_error(), '\n'), "\nx.cu(3): error: and so on");
	assert_int_equal(worst, Q_LOG_ERROR); /* all of it is in the log */
	assert_memory_equal(logged, "NVRTC: x.cu(1): warning: w\n", 27);
	assert_int_equal(strlen(logged), strlen(log) - 2 + 44 * strlen("NVRTC: "));

	cfg.device = Q_DEVICE_AUTO; /* does not fall back either */
	expect_refusal(&cfg, "processor: 'score' runs on a GPU only: processor: 'score.cu' does "
			     "not compile (NVRTC 13.0, sm_90):\nx.cu(2): error: first\n");
	cfg.device = Q_DEVICE_CUDA;

	memset(longest, 'e', sizeof(longest));
	memcpy(longest, "x.cu(1): error: ", 16);
	longest[sizeof(longest) - 1] = '\0';
	nvrtc->set_outcome(GQ_NVRTC_COMPILATION, longest);
	expect_refusal(&cfg, "x.cu(1): error: eeee");
	nvrtc->set_outcome(GQ_NVRTC_INVALID_OPTION, "nvrtc: error: no option -x\n");
	expect_refusal(&cfg, "does not compile (NVRTC 13.0, sm_90):\nnvrtc: error: no option -x");
	nvrtc->set_outcome(GQ_NVRTC_COMPILATION, "");
	expect_refusal(&cfg, "does not compile");
	q_set_log(NULL, NULL);
}

static void warnings_are_logged_and_no_obstacle(void **state)
{
	QueueConfig cfg = source_config();

	(void)state;
	standins_only();
	nvrtc->set_outcome(0, "x.cu(1): warning: w\n");
	listen();
	expect_work(&cfg);
	assert_string_equal(logged, "NVRTC: x.cu(1): warning: w\n");
	assert_int_equal(worst, Q_LOG_WARNING);
	q_set_log(NULL, NULL);
}

/* ---- beside another queue -------------------------------------------------------------------- */

static uint32_t resident_meanwhile;

static void look_meanwhile(void)
{
	resident_meanwhile = driver->resident();
}

/* Its grid leaves for the load of the module, not for the seconds of the compilation. */
static void another_queue_goes_on_while_the_source_is_compiled(void **state)
{
	QueueConfig cfg = config(8, 64), second = source_config();
	uint32_t launches, compilations;
	GpuQueue *q;

	(void)state;
	standins_only();
	cfg.idle_park_ms = UINT32_MAX;
	q = make_queue_from(&cfg);
	launches = driver->launches();
	compilations = nvrtc->compilations();
	nvrtc->set_hook(look_meanwhile);
	nvrtc->set_outcome(GQ_NVRTC_COMPILATION, "error");
	assert_null(q_init(&second));
	assert_int_equal(nvrtc->compilations() - compilations, 1);
	assert_int_equal(resident_meanwhile, 1);
	nvrtc->set_outcome(0, "");
	resident_meanwhile = 0;
	q_shutdown(make_queue_from(&second));
	assert_int_equal(resident_meanwhile, 1);
	assert_true(driver->launches() > launches);
	expect_echo(q, send(q, "x", 1), "x", 1);
	q_shutdown(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup(name, reset)
		TEST(a_source_that_cannot_be_read_is_refused),
		TEST(the_cpu_device_does_not_compile),
		TEST(what_is_wrong_with_nvrtc_is_said),
		TEST(every_call_of_nvrtc_fails_in_turn),
		TEST(every_resource_of_q_init_fails_in_turn),
		TEST(a_source_becomes_a_queue),
		TEST(options_of_the_environment_follow),
		TEST(the_folder_searched_is_the_sources),
		TEST(a_gpu_that_nvrtc_does_not_know_gets_ptx),
		TEST(the_compilers_first_errors_are_in_the_error),
		TEST(warnings_are_logged_and_no_obstacle),
		TEST(another_queue_goes_on_while_the_source_is_compiled),
	};
	int failures;

	driver = find_standin("GPUQ_LIBCUDA", "standin");
	nvrtc = find_standin("GPUQ_LIBNVRTC", "standin_nvrtc");
	if (nvrtc == NULL)
		driver = NULL;
	if (on_cuda() && driver == NULL) {
		print_message(
			"skipped: GPUQ_LIBCUDA and GPUQ_LIBNVRTC do not name the stand-ins\n");
		return 77;
	}
	if (mkdtemp(folder) == NULL)
		return 1;
	snprintf(path, sizeof(path), "%s/score.cu", folder);
	failures = cmocka_run_group_tests_name("nvrtc", tests, NULL, NULL);
	unlink(path);
	rmdir(folder);
	return failures;
}
