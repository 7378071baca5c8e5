/* SPDX-License-Identifier: Apache-2.0 */
/* nvrtc.c - NVRTC, opened at run time, and a processor's source compiled with it. */
#include "device/cuda/driver/nvrtc.h"

#include "host/base/error.h"
#include "host/base/fault.h"
#include "host/base/memory.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
	OLDEST_MAJOR = 12,
	OUR_OPTIONS = 4,
	MAX_OPTIONS = 32,    /* in GPUQ_NVRTC_OPTIONS */
	EXCERPT_BYTES = 400, /* of the compiler's words in an error; what is said beside fits too */
};

/* ---- opening it ------------------------------------------------------------------------------ */

static const char *const usual_paths[] = { "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so",
					   "/usr/local/cuda/lib64/libnvrtc.so" };
#define WHAT_TO_DO                                                                                 \
	"install it, name it in GPUQ_LIBNVRTC, or compile the source ahead: gpuq_add_processor() " \
	"with FATBIN"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct gq_nvrtc table;
static bool ready; /* under the lock */

/* All that NVRTC says of an error is its name. */
static QueueStatus failed(const struct gq_nvrtc *n, const char *call, int result)
{
	const char *name = n->nvrtcGetErrorString(result);

	return gq__failf(result == GQ_NVRTC_OUT_OF_MEMORY ? Q_ERR_NO_MEMORY : Q_ERR_CUDA,
			 "NVRTC: %s%s: %s %d",
			 result == GQ_NVRTC_OUT_OF_MEMORY ? "out of memory: " : "", call,
			 name != NULL ? name : "unknown error", result);
}

static QueueStatus check(const struct gq_nvrtc *n, const char *call, int result)
{
	return result == GQ_NVRTC_SUCCESS ? Q_OK : failed(n, call, result);
}

/* A call of NVRTC's. @return Q_OK, or the error with q_last_error(). */
#define NVRTC(n, name, ...) check(n, #name, (n)->name(__VA_ARGS__))

/* The entry point of that name; NULL, with q_last_error(), after an earlier failure (*status) too.
 */
static void *find_entry(void *library, const char *path, const char *name, QueueStatus *status)
{
	void *entry = *status == Q_OK ? dlsym(library, name) : NULL;

	if (*status == Q_OK && entry == NULL)
		*status = gq__failf(Q_ERR_UNSUPPORTED,
				    "NVRTC: '%s' has no entry point %s; allowed: NVRTC of CUDA "
				    "12.0 or newer",
				    path, name);
	return entry;
}

static QueueStatus resolve(void *library, const char *path, int driver, struct gq_nvrtc *n)
{
	QueueStatus status = Q_OK;

#define RESOLVE(type, name, parameters)                                                            \
	*(void **)&n->name = find_entry(library, path, #name, &status);
	GQ_NVRTC_ENTRIES(RESOLVE)
#undef RESOLVE
	if (status == Q_OK)
		status = NVRTC(n, nvrtcVersion, &n->major, &n->minor);
	if (status != Q_OK)
		return status;
	if (n->major < OLDEST_MAJOR)
		return gq__failf(Q_ERR_UNSUPPORTED,
				 "NVRTC: '%s' is of CUDA %d.%d; allowed: 12.0 or newer", path,
				 n->major, n->minor);
	/* Neither the PTX nor the machine code of a newer major version would load. */
	if (driver != 0 && n->major > driver / 1000)
		return gq__failf(Q_ERR_UNSUPPORTED,
				 "NVRTC: '%s' is of CUDA %d.%d, and the driver of %d.%d; allowed: "
				 "12.0 to %d.x; name another in GPUQ_LIBNVRTC",
				 path, n->major, n->minor, driver / 1000, driver % 1000 / 10,
				 driver / 1000);
	return Q_OK;
}

/*
 * Under the lock. A library that will not do is left open: it may have started threads. If several
 * are found and none will do, the error is the last one's.
 */
static QueueStatus open_library(int driver)
{
	const char *named = secure_getenv("GPUQ_LIBNVRTC"); /* as GPUQ_LIBCUDA */
	const bool by_name = named != NULL && named[0] != '\0';
	const char *const *paths = by_name ? &named : usual_paths;
	const size_t n = by_name ? 1 : sizeof(usual_paths) / sizeof(usual_paths[0]);
	QueueStatus status = Q_OK;
	const char *why = NULL;

	for (size_t i = 0; i < n; i++) {
		void *library = gq__fault() ? NULL : dlopen(paths[i], RTLD_NOW | RTLD_LOCAL);

		if (library == NULL) {
			why = dlerror();
			continue;
		}
		status = resolve(library, paths[i], driver, &table);
		if (status == Q_OK)
			return Q_OK;
	}
	if (status != Q_OK)
		return status;
	if (by_name)
		return gq__failf(Q_ERR_UNSUPPORTED,
				 "NVRTC, which compiles CUDA source, cannot be loaded from "
				 "GPUQ_LIBNVRTC, '%s': %.128s; " WHAT_TO_DO,
				 named, why != NULL ? why : "no reason given");
	return gq__failf(Q_ERR_UNSUPPORTED,
			 "NVRTC, which compiles CUDA source, is not there: tried %s, %s, %s and "
			 "%s; " WHAT_TO_DO,
			 usual_paths[0], usual_paths[1], usual_paths[2], usual_paths[3]);
}

static QueueStatus open_nvrtc(int driver, const struct gq_nvrtc **out)
{
	QueueStatus status = Q_OK;

	pthread_mutex_lock(&lock);
	if (!ready)
		status = open_library(driver);
	ready = status == Q_OK;
	pthread_mutex_unlock(&lock);
	*out = &table;
	return status;
}

/* ---- what to compile for, and how ------------------------------------------------------------ */

/* Choose the newest capability that NVRTC knows and the device has. */
static QueueStatus choose_target(const struct gq_nvrtc *n, uint32_t capability, uint32_t *out)
{
	int count = 0, least = 0, best = 0;
	QueueStatus status = NVRTC(n, nvrtcGetNumSupportedArchs, &count);
	int *known;

	if (status != Q_OK)
		return status;
	if (count < 1)
		return gq__fail(Q_ERR_UNSUPPORTED, "NVRTC: it compiles for no GPU at all");
	known = gq__alloc((size_t)count * sizeof(*known), "the GPUs that NVRTC knows");
	if (known == NULL)
		return Q_ERR_NO_MEMORY;
	status = NVRTC(n, nvrtcGetSupportedArchs, known);
	for (int i = 0; status == Q_OK && i < count; i++) {
		if (known[i] <= (int)capability && known[i] > best)
			best = known[i];
		if (least == 0 || known[i] < least)
			least = known[i];
	}
	gq__free(known, (size_t)count * sizeof(*known));
	if (status != Q_OK)
		return status;
	if (best == 0)
		return gq__failf(Q_ERR_UNSUPPORTED,
				 "NVRTC: %d.%d does not compile for compute capability %u.%u; "
				 "allowed: %d.%d or newer",
				 n->major, n->minor, capability / 10, capability % 10, least / 10,
				 least % 10);
	*out = (uint32_t)best;
	return Q_OK;
}

struct options {
	const char *text[OUR_OPTIONS + MAX_OPTIONS];
	int count;
	char standard[16], granularity[24], target[32];
	char *folder; /* -I and the source's */
	size_t folder_bytes;
	char *further; /* a copy of GPUQ_NVRTC_OPTIONS, cut into options */
	size_t further_bytes;
};

static void free_options(struct options *o)
{
	gq__free(o->folder, o->folder_bytes);
	gq__free(o->further, o->further_bytes);
}

static QueueStatus add_further(struct options *o)
{
	const char *text = secure_getenv("GPUQ_NVRTC_OPTIONS"); /* -I reads files */
	char *rest = NULL;

	if (text == NULL || text[0] == '\0')
		return Q_OK;
	o->further_bytes = strlen(text) + 1;
	o->further = gq__alloc(o->further_bytes, "GPUQ_NVRTC_OPTIONS");
	if (o->further == NULL)
		return Q_ERR_NO_MEMORY;
	memcpy(o->further, text, o->further_bytes);
	for (char *one = strtok_r(o->further, " \t\n", &rest); one != NULL;
	     one = strtok_r(NULL, " \t\n", &rest)) {
		if (o->count == OUR_OPTIONS + MAX_OPTIONS)
			return gq__failf(Q_ERR_INVALID_ARG,
					 "environment variable GPUQ_NVRTC_OPTIONS holds more than "
					 "%d options",
					 MAX_OPTIONS);
		o->text[o->count++] = one;
	}
	return Q_OK;
}

static QueueStatus make_options(const struct gq_compilation *job, uint32_t target,
				struct options *o)
{
	const char *slash = strrchr(job->path, '/');
	const int length = slash != NULL ? (int)(slash - job->path) : 1;

	*o = (struct options){ .count = OUR_OPTIONS,
			       .folder_bytes = (size_t)length + sizeof("-I/") };
	o->folder = gq__alloc(o->folder_bytes, "a compiler option");
	if (o->folder == NULL)
		return Q_ERR_NO_MEMORY;
	snprintf(o->standard, sizeof(o->standard), "-std=c++17");
	snprintf(o->granularity, sizeof(o->granularity), "-DQ_GRANULARITY=%u", job->granularity);
	snprintf(o->target, sizeof(o->target), "-arch=%s_%u",
		 target == job->capability ? "sm" : "compute", target);
	if (length == 0) /* in the root */
		snprintf(o->folder, o->folder_bytes, "-I/");
	else
		snprintf(o->folder, o->folder_bytes, "-I%.*s", length,
			 slash != NULL ? job->path : ".");
	o->text[0] = o->standard;
	o->text[1] = o->granularity;
	o->text[2] = o->target;
	o->text[3] = o->folder;
	return add_further(o);
}

/*
 * The text to compile: the source, then the grid. The program is named by the source's path, so
 * that the compiler's words lead there. The source itself includes the processor's header: if it
 * uses the headers of libcu++ too, they have to come first (nvrtc/stdint.h).
 */
static char *wrap(const char *source, size_t *bytes)
{
	static const char grid[] = "\n\n#line 1 \"the resident grid\"\n"
				   "#include \"device/cuda/grid/grid.cuh\"\n";
	char *text;

	*bytes = strlen(source) + sizeof(grid);
	text = gq__alloc(*bytes, "the processor's source");
	if (text != NULL)
		snprintf(text, *bytes, "%s%s", source, grid);
	return text;
}

/* ---- what the compiler says ------------------------------------------------------------------ */

/* The lines from the first error on, as many as fit. Warnings may come before it. */
static void excerpt(const char *log, char *text, size_t room)
{
	const char *line = strstr(log, " error");
	size_t used = 0, length;

	if (line == NULL)
		line = log;
	while (line > log && line[-1] != '\n')
		line--;
	for (; *line != '\0'; line += length + (line[length] == '\n')) {
		length = strcspn(line, "\n");
		if (length == 0)
			continue;
		if (used + length + sizeof("\n") > room)
			break;
		used += (size_t)snprintf(text + used, room - used, "%s%.*s", used == 0 ? "" : "\n",
					 (int)length, line);
	}
	if (used == 0) /* no line fits whole */
		snprintf(text, room, "%s", line);
}

static void log_lines(int level, char *log)
{
	char *rest = NULL;

	for (char *line = strtok_r(log, "\n", &rest); line != NULL;
	     line = strtok_r(NULL, "\n", &rest))
		gq__log(level, "NVRTC: %s", line);
}

/* Put what the compiler has said into the log and, if it failed, into q_last_error().
 * @param result  what nvrtcCompileProgram() returned */
static QueueStatus read_log(const struct gq_nvrtc *n, const struct gq_compilation *job,
			    nvrtcProgram program, const char *target, int result)
{
	const char *slash = strrchr(job->path, '/');
	size_t bytes = 0;
	QueueStatus status = NVRTC(n, nvrtcGetProgramLogSize, program, &bytes);
	char words[EXCERPT_BYTES];
	char *log;

	if (status != Q_OK)
		return status;
	log = gq__alloc(bytes + 1, "the compiler's log");
	if (log == NULL)
		return Q_ERR_NO_MEMORY;
	if (bytes > 0)
		status = NVRTC(n, nvrtcGetProgramLog, program, log);
	if (status != Q_OK) {
		gq__free(log, bytes + 1);
		return status;
	}
	log[bytes] = '\0';
	if (result == GQ_NVRTC_COMPILATION || result == GQ_NVRTC_INVALID_OPTION) {
		excerpt(log, words, sizeof(words));
		status = gq__failf(Q_ERR_INVALID_ARG,
				   "processor: '%.48s' does not compile (NVRTC %d.%d, %s):\n%s",
				   slash != NULL ? slash + 1 : job->path, n->major, n->minor,
				   target, words);
	} else if (result != GQ_NVRTC_SUCCESS) {
		status = failed(n, "nvrtcCompileProgram", result);
	}
	log_lines(status != Q_OK ? Q_LOG_ERROR : Q_LOG_WARNING, log);
	gq__free(log, bytes + 1);
	return status;
}

/* ---- compiling ------------------------------------------------------------------------------- */

static QueueStatus fetch(const struct gq_nvrtc *n, nvrtcProgram program, bool machine_code,
			 void **image, size_t *bytes)
{
	size_t size = 0;
	QueueStatus status = machine_code ? NVRTC(n, nvrtcGetCUBINSize, program, &size)
					  : NVRTC(n, nvrtcGetPTXSize, program, &size);
	void *memory;

	if (status != Q_OK)
		return status;
	if (size == 0)
		return gq__fail(
			Q_ERR_INVALID_ARG,
			"NVRTC: it made no code for the GPU; does GPUQ_NVRTC_OPTIONS have an "
			"option that names another target?");
	memory = gq__alloc(size, "the processor's image");
	if (memory == NULL)
		return Q_ERR_NO_MEMORY;
	status = machine_code ? NVRTC(n, nvrtcGetCUBIN, program, memory)
			      : NVRTC(n, nvrtcGetPTX, program, memory);
	if (status != Q_OK) {
		gq__free(memory, size);
		return status;
	}
	*image = memory;
	*bytes = size;
	return Q_OK;
}

static QueueStatus compile(const struct gq_nvrtc *n, const struct gq_compilation *job,
			   const char *text, const struct options *o, void **image, size_t *bytes)
{
	const char *target = o->target + sizeof("-arch=") - 1;
	nvrtcProgram program = NULL;
	QueueStatus status;
	int result;

	status = NVRTC(n, nvrtcCreateProgram, &program, text, job->path, gq__nvrtc_header_count,
		       gq__nvrtc_header_texts, gq__nvrtc_header_names);
	if (status != Q_OK)
		return status;
	result = n->nvrtcCompileProgram(program, o->count, o->text);
	status = read_log(n, job, program, target, result);
	if (status == Q_OK)
		status = fetch(n, program, target[0] == 's', image, bytes);
	n->nvrtcDestroyProgram(&program);
	return status;
}

QueueStatus gq__nvrtc_compile(const struct gq_compilation *job, void **image, size_t *bytes)
{
	const struct gq_nvrtc *n;
	struct options options;
	uint32_t target = 0;
	size_t text_bytes;
	QueueStatus status;
	char *text;

	status = open_nvrtc(job->driver, &n);
	if (status == Q_OK)
		status = choose_target(n, job->capability, &target);
	if (status != Q_OK)
		return status;
	status = make_options(job, target, &options);
	if (status == Q_OK) {
		text = wrap(job->source, &text_bytes);
		status = text == NULL ? Q_ERR_NO_MEMORY
				      : compile(n, job, text, &options, image, bytes);
		gq__free(text, text_bytes);
	}
	free_options(&options);
	return status;
}
