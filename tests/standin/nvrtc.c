/* SPDX-License-Identifier: Apache-2.0 */
/* nvrtc.c - the stand-in for libnvrtc; see standin_nvrtc.h. One thread at a time uses it. */
#include "standin_nvrtc.h"

#include "device/cuda/driver/nvrtc.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

/* What struct gq_nvrtc has pointers to are functions here. */
#define DECLARE(type, name, parameters) EXPORT type name parameters;
GQ_NVRTC_ENTRIES(DECLARE)

enum { MAX_KNOWN = 32, MAX_HEADERS = 32 };

struct _nvrtcProgram {
	bool compiled;
};

static uint32_t countdown, n_live, n_compilations;
static int countdown_result, version = 13000, outcome;
static const char *failed_call, *outcome_log = "";
static int known[MAX_KNOWN] = { 75, 80, 90, 100 }, n_known = 4;
static const void *image;
static size_t image_bytes;
static char last_name[512], last_source[8192], last_options[2048];
static const char *header_names[MAX_HEADERS], *header_texts[MAX_HEADERS];
static void (*hook)(void);

static _Noreturn void misuse(const char *call, const char *what)
{
	fprintf(stderr, "stand-in NVRTC: %s: %s\n", call, what);
	abort();
}

static int count_down(const char *call)
{
	if (countdown == 0 || --countdown != 0)
		return 0;
	failed_call = call;
	return countdown_result;
}

#define RETURN_ERROR_IF_ANY()                                                                      \
	do {                                                                                       \
		const int result_ = count_down(__func__);                                          \
		if (result_ != 0)                                                                  \
			return result_;                                                            \
	} while (0)

/* ---- for tests ------------------------------------------------------------------------------- */

static void fail_nth(uint32_t n, int result)
{
	countdown = n;
	countdown_result = result;
	failed_call = NULL;
}

static const char *which_failed(void)
{
	return failed_call;
}

static void set_image(const void *bytes, size_t n)
{
	image = bytes;
	image_bytes = n;
}

static void set_outcome(int result, const char *log)
{
	outcome = result;
	outcome_log = log;
}

static void set_version(int number)
{
	version = number;
}

static void set_known(const int *capabilities, int n)
{
	if (n > MAX_KNOWN)
		misuse("set_known", "too many");
	memcpy(known, capabilities, (size_t)n * sizeof(known[0]));
	n_known = n;
}

static uint32_t count_live(void)
{
	return n_live;
}

static uint32_t count_compilations(void)
{
	return n_compilations;
}

static const char *name_of_last(void)
{
	return last_name;
}

static const char *source_of_last(void)
{
	return last_source;
}

static const char *options_of_last(void)
{
	return last_options;
}

static const char *header_of_last(const char *name)
{
	for (unsigned i = 0; i < MAX_HEADERS && header_names[i] != NULL; i++)
		if (strcmp(header_names[i], name) == 0)
			return header_texts[i];
	return NULL;
}

static void set_hook(void (*fn)(void))
{
	hook = fn;
}

EXPORT const struct standin_nvrtc standin_nvrtc = {
	fail_nth,        which_failed,   set_image,          set_outcome,  set_version,
	set_known,       count_live,     count_compilations, name_of_last, source_of_last,
	options_of_last, header_of_last, set_hook,
};

/* ---- NVRTC ----------------------------------------------------------------------------------- */

const char *nvrtcGetErrorString(int result)
{
	switch (result) {
	case GQ_NVRTC_OUT_OF_MEMORY:
		return "NVRTC_ERROR_OUT_OF_MEMORY";
	case GQ_NVRTC_COMPILATION:
		return "NVRTC_ERROR_COMPILATION";
	case GQ_NVRTC_INTERNAL_ERROR:
		return "NVRTC_ERROR_INTERNAL_ERROR";
	default:
		return NULL;
	}
}

int nvrtcVersion(int *major, int *minor)
{
	RETURN_ERROR_IF_ANY();
	*major = version / 1000;
	*minor = version % 1000 / 10;
	return 0;
}

int nvrtcGetNumSupportedArchs(int *count)
{
	RETURN_ERROR_IF_ANY();
	*count = n_known;
	return 0;
}

int nvrtcGetSupportedArchs(int *capabilities)
{
	RETURN_ERROR_IF_ANY();
	memcpy(capabilities, known, (size_t)n_known * sizeof(known[0]));
	return 0;
}

int nvrtcCreateProgram(nvrtcProgram *program, const char *source, const char *name, int headers,
		       const char *const *texts, const char *const *names)
{
	RETURN_ERROR_IF_ANY();
	if (headers >= MAX_HEADERS || strlen(source) >= sizeof(last_source))
		misuse(__func__, "more than the stand-in has room for");
	snprintf(last_name, sizeof(last_name), "%s", name);
	snprintf(last_source, sizeof(last_source), "%s", source);
	memcpy(header_names, names, (size_t)headers * sizeof(names[0]));
	memcpy(header_texts, texts, (size_t)headers * sizeof(texts[0]));
	header_names[headers] = NULL;
	*program = calloc(1, sizeof(**program));
	if (*program == NULL)
		return GQ_NVRTC_OUT_OF_MEMORY;
	n_live++;
	return 0;
}

/* Giving back goes wrong, but is done: nobody can try again. */
int nvrtcDestroyProgram(nvrtcProgram *program)
{
	if (*program == NULL)
		misuse(__func__, "no program");
	free(*program);
	*program = NULL;
	n_live--;
	return count_down(__func__);
}

int nvrtcCompileProgram(nvrtcProgram program, int count, const char *const *options)
{
	size_t used = 0;

	RETURN_ERROR_IF_ANY();
	n_compilations++;
	last_options[0] = '\0';
	for (int i = 0; i < count && used < sizeof(last_options); i++)
		used += (size_t)snprintf(last_options + used, sizeof(last_options) - used, "%s\n",
					 options[i]);
	if (hook != NULL)
		hook();
	program->compiled = outcome == 0;
	return outcome;
}

int nvrtcGetProgramLogSize(nvrtcProgram program, size_t *bytes)
{
	RETURN_ERROR_IF_ANY();
	(void)program;
	*bytes = strlen(outcome_log) + 1;
	return 0;
}

int nvrtcGetProgramLog(nvrtcProgram program, char *text)
{
	RETURN_ERROR_IF_ANY();
	(void)program;
	memcpy(text, outcome_log, strlen(outcome_log) + 1);
	return 0;
}

static int size(const char *call, nvrtcProgram program, size_t *bytes)
{
	if (!program->compiled)
		misuse(call, "the program has not been compiled");
	*bytes = image_bytes;
	return 0;
}

static int copy(char *to)
{
	memcpy(to, image, image_bytes);
	return 0;
}

int nvrtcGetPTXSize(nvrtcProgram program, size_t *bytes)
{
	RETURN_ERROR_IF_ANY();
	return size(__func__, program, bytes);
}

int nvrtcGetPTX(nvrtcProgram program, char *ptx)
{
	RETURN_ERROR_IF_ANY();
	(void)program;
	return copy(ptx);
}

int nvrtcGetCUBINSize(nvrtcProgram program, size_t *bytes)
{
	RETURN_ERROR_IF_ANY();
	return size(__func__, program, bytes);
}

int nvrtcGetCUBIN(nvrtcProgram program, char *cubin)
{
	RETURN_ERROR_IF_ANY();
	(void)program;
	return copy(cubin);
}
