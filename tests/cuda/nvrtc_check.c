/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nvrtc_check.c - processors compiled from source by the NVRTC that is installed, through the
 * library; no GPU is needed. Exit status 77: there is no NVRTC.
 *
 * KERNELS is the folder of our processors.
 */
#include "device/cuda/driver/nvrtc.h"
#include "host/base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char said[4096]; /* by the log */
static int level_said;

static void hear(int level, const char *text, void *user)
{
	const size_t used = strlen(said);

	(void)user;
	level_said = level;
	snprintf(said + used, sizeof(said) - used, "%s\n", text);
}

static int forget(void **state)
{
	(void)state;
	said[0] = '\0';
	level_said = -1;
	return 0;
}

static const char head[] = "#include <gpuq/processor.h>\n"
			   "__device__ void process_message(const MsgView &in, ResultView *out)\n";

static QueueStatus compile(const char *path, const char *source, uint32_t capability, void **image,
			   size_t *bytes)
{
	const struct gq_compilation job = {
		.path = path, .source = source, .granularity = Q_PER_WARP, .capability = capability
	};

	return gq__nvrtc_compile(&job, image, bytes);
}

static uint32_t count(const void *image, size_t bytes, const char *text)
{
	const char *at = image, *end = at + bytes;
	uint32_t n = 0;

	for (; (at = memmem(at, (size_t)(end - at), text, strlen(text))) != NULL; at++)
		n++;
	return n;
}

static bool holds(const void *image, size_t bytes, const char *text)
{
	return count(image, bytes, text) != 0;
}

static char *read_all(const char *path)
{
	FILE *file = fopen(path, "rb");
	char *text = calloc(1, 1 << 20);

	assert_non_null(file);
	assert_non_null(text);
	assert_in_range(fread(text, 1, (1 << 20) - 1, file), 1, (1 << 20) - 2);
	fclose(file);
	return text;
}

static void every_processor_compiles_at_every_granularity(void **state)
{
	static const char *const names[] = { "crc32c", "echo", "sha256", "vecdot" };
	const size_t memory = gq__alloc_live_bytes();

	(void)state;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		char path[512], *source;

		snprintf(path, sizeof(path), KERNELS "/%s.cu", names[i]);
		source = read_all(path);
		for (uint32_t g = 0; g <= Q_PER_BLOCK; g++) {
			/* 9.0 is known to all versions; 9.9 to none. */
			for (uint32_t capability = 90; capability <= 99; capability += 9) {
				const struct gq_compilation job = { .path = path,
								    .source = source,
								    .granularity = g,
								    .capability = capability };
				void *image = NULL;
				size_t bytes = 0;

				if (capability == 99 && i != 0)
					continue;
				if (gq__nvrtc_compile(&job, &image, &bytes) != Q_OK)
					fail_msg("%s, %u: %s", path, g, q_last_error());
				if (capability == 90) {
					assert_memory_equal(image, "\177ELF", 4);
					assert_true(holds(image, bytes, ".text.gpuq_grid"));
					assert_true(holds(image, bytes, ".text.gpuq_canary"));
				} else {
					assert_true(holds(image, bytes, ".target sm_90\n"));
					assert_true(holds(image, bytes, ".entry gpuq_grid("));
					assert_true(holds(image, bytes, ".entry gpuq_canary("));
					assert_int_equal(((char *)image)[bytes - 1], 0);
				}
				gq__free(image, bytes);
				assert_string_equal(said, ""); /* no warnings */
			}
		}
		free(source);
	}
	assert_int_equal(gq__alloc_live_bytes(), memory);
}

static void the_compilers_error_is_in_the_error_and_its_log_in_the_log(void **state)
{
	const size_t memory = gq__alloc_live_bytes();
	void *image = &image;
	char source[512];
	size_t bytes = 77;

	(void)state;
	snprintf(source, sizeof(source),
		 "%s{\n\tint unused = 1;\n\tuint32_t sum = nobody;\n\t*out->out_len = sum\n}\n",
		 head);
	assert_int_equal(compile("no/such/wrong.cu", source, 90, &image, &bytes),
			 Q_ERR_INVALID_ARG);
	assert_non_null(strstr(q_last_error(), "processor: 'wrong.cu' does not compile (NVRTC "));
	assert_non_null(strstr(q_last_error(), ", sm_90):\nno/such/wrong.cu(5): error"));
	assert_non_null(strstr(q_last_error(), "\"nobody\" is undefined"));
	assert_non_null(strstr(said, "NVRTC: no/such/wrong.cu(4): warning"));
	assert_non_null(strstr(said, "NVRTC: no/such/wrong.cu(5): error"));
	assert_non_null(strstr(said, "wrong.cu(7): error")); /* the missing ';' */
	assert_int_equal(level_said, Q_LOG_ERROR);
	assert_ptr_equal(image, &image);
	assert_int_equal(bytes, 77);
	/* Nothing but comments: it is the grid that misses something. */
	assert_int_equal(compile("empty.cu", "/* nothing */ \\", 90, &image, &bytes),
			 Q_ERR_INVALID_ARG);
	assert_non_null(strstr(q_last_error(), "process_message"));
	assert_int_equal(gq__alloc_live_bytes(), memory);
}

static void a_warning_is_logged_as_one(void **state)
{
	char source[512];
	size_t bytes;
	void *image;

	(void)state;
	snprintf(source, sizeof(source), "%s{\n\tint unused = 1;\n\t*out->out_len = 0;\n}\n", head);
	assert_int_equal(compile("warn.cu", source, 90, &image, &bytes), Q_OK);
	assert_non_null(strstr(said, "NVRTC: warn.cu(4): warning"));
	assert_int_equal(level_said, Q_LOG_WARNING);
	gq__free(image, bytes);
}

/* Its own folder is searched, and what GPUQ_NVRTC_OPTIONS says reaches the compiler. */
static void headers_beside_the_source_and_further_options_are_used(void **state)
{
	char source[512];
	size_t bytes;
	void *image;

	(void)state;
	snprintf(source, sizeof(source),
		 "#include \"vecdot.h\"\n%s{\n\t*out->out_len = FIRST + SECOND;\n}\n"
		 "Q_PROCESSOR_IMAGE(\"ours\");\n",
		 head);
	assert_int_equal(compile(KERNELS "/ours.cu", source, 90, &image, &bytes),
			 Q_ERR_INVALID_ARG);
	assert_non_null(strstr(q_last_error(), "\"FIRST\" is undefined"));
	setenv("GPUQ_NVRTC_OPTIONS", "-DFIRST=1  -DSECOND=2\t-lineinfo\n", 1);
	if (compile(KERNELS "/ours.cu", source, 90, &image, &bytes) != Q_OK)
		fail_msg("%s", q_last_error());
	gq__free(image, bytes);
	setenv("GPUQ_NVRTC_OPTIONS", "--no-such-option", 1);
	assert_int_equal(compile(KERNELS "/ours.cu", source, 90, &image, &bytes),
			 Q_ERR_INVALID_ARG);
	assert_non_null(strstr(q_last_error(), "no-such-option"));
	unsetenv("GPUQ_NVRTC_OPTIONS");
}

/* A line of the source is enough; so is an option. Before CUDA 12.8 the grid's looks acquire by the
 * same instruction, so those stay. */
static void a_processor_of_results_only_has_fewer_fences(void **state)
{
	uint32_t fences[3];
	char source[512];
	size_t bytes;
	void *image;

	(void)state;
	for (int said_so = 0; said_so < 3; said_so++) {
		snprintf(source, sizeof(source), "%s%s{\n\t*out->out_len = in.len;\n}\n",
			 said_so == 1 ? "#define Q_RESULT_ONLY\n" : "", head);
		if (said_so == 2)
			setenv("GPUQ_NVRTC_OPTIONS", "-DQ_RESULT_ONLY", 1);
		if (compile("len.cu", source, 99, &image, &bytes) != Q_OK) /* as PTX */
			fail_msg("%s", q_last_error());
		unsetenv("GPUQ_NVRTC_OPTIONS");
		fences[said_so] = count(image, bytes, "fence.acq_rel.sys");
		gq__free(image, bytes);
	}
	assert_true(fences[0] > fences[1]);
	assert_int_equal(fences[1], fences[2]);
}

static void a_gpu_that_is_too_old_is_refused(void **state)
{
	size_t bytes;
	void *image;

	(void)state;
	assert_int_equal(compile("old.cu", "", 30, &image, &bytes), Q_ERR_UNSUPPORTED);
	assert_non_null(strstr(q_last_error(), "does not compile for compute capability 3.0; "
					       "allowed: "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(every_processor_compiles_at_every_granularity, forget),
		cmocka_unit_test_setup(the_compilers_error_is_in_the_error_and_its_log_in_the_log,
				       forget),
		cmocka_unit_test_setup(a_warning_is_logged_as_one, forget),
		cmocka_unit_test_setup(headers_beside_the_source_and_further_options_are_used,
				       forget),
		cmocka_unit_test_setup(a_processor_of_results_only_has_fewer_fences, forget),
		cmocka_unit_test_setup(a_gpu_that_is_too_old_is_refused, forget),
	};
	size_t bytes;
	void *image;

	if (compile("none.cu", "", 0, &image, &bytes) == Q_ERR_UNSUPPORTED &&
	    strstr(q_last_error(), "compute capability") == NULL) {
		printf("skipped: %s\n", q_last_error());
		return 77;
	}
	q_set_log(hear, NULL);
	return cmocka_run_group_tests_name("nvrtc", tests, NULL, NULL);
}
