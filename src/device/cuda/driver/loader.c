/* SPDX-License-Identifier: Apache-2.0 */
/* loader.c - the CUDA driver, opened at run time. */
#include "device/cuda/driver/loader.h"

#include "host/base/error.h"
#include "host/base/fault.h"
#include "host/base/memory.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { OLDEST_DRIVER = 12000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct gq_cu table;
static bool ready;      /* under the lock */
static bool is_parents; /* a parent process had opened it before fork(), or was about to */

void gq__cuda_describe(const struct gq_cu *cu, int result, char *text, size_t room)
{
	const char *name = NULL, *words = NULL;

	if (cu->cuGetErrorName(result, &name) != GQ_CU_SUCCESS || name == NULL)
		name = "unknown CUDA error";
	if (cu->cuGetErrorString(result, &words) != GQ_CU_SUCCESS || words == NULL)
		words = "the driver has no words for it";
	snprintf(text, room, "%s %d (%s)", name, result, words);
}

QueueStatus gq__cuda_error(const struct gq_cu *cu, const char *call, int result)
{
	char text[256];

	gq__cuda_describe(cu, result, text, sizeof(text));
	return gq__failf(result == GQ_CU_OUT_OF_MEMORY ? Q_ERR_NO_MEMORY : Q_ERR_CUDA,
			 "CUDA: %s%s: %s", result == GQ_CU_OUT_OF_MEMORY ? "out of memory: " : "",
			 call, text);
}

/* The entry point of that name; NULL, with q_last_error(), after an earlier failure (*ok) too. */
static void *find_entry(gq_cu_get_proc_address_fn get, const char *path, const char *name,
			int version, bool *ok)
{
	void *entry = NULL;

	if (!*ok)
		return NULL;
	if (get(name, &entry, version, 0, NULL) != GQ_CU_SUCCESS || entry == NULL) {
		gq__failf(Q_ERR_UNSUPPORTED,
			  "CUDA: the driver (%s) has no entry point %s of CUDA %d.%d "
			  "(cuGetProcAddress_v2)",
			  path, name, version / 1000, version % 1000 / 10);
		*ok = false;
	}
	return entry;
}

static bool resolve(void *library, const char *path)
{
	gq_cu_get_proc_address_fn get;
	void *symbol = dlsym(library, "cuGetProcAddress_v2");
	bool ok = true;

	if (symbol == NULL) {
		gq__failf(
			Q_ERR_UNSUPPORTED,
			"CUDA: the driver (%s) is too old: it has no cuGetProcAddress_v2; allowed: "
			"a driver of CUDA 12.0 or newer",
			path);
		return false;
	}
	*(void **)&get = symbol;
#define RESOLVE(name, version, parameters)                                                         \
	*(void **)&table.name = find_entry(get, path, #name, version, &ok);
	GQ_CU_ENTRIES(RESOLVE)
#undef RESOLVE
	return ok;
}

static bool start(const char *path)
{
	int version = 0, result;

	result = table.cuDriverGetVersion(&version);
	if (result != GQ_CU_SUCCESS) {
		gq__cuda_error(&table, "cuDriverGetVersion", result);
		return false;
	}
	if (version < OLDEST_DRIVER) {
		gq__failf(Q_ERR_UNSUPPORTED,
			  "CUDA: the driver (%s) is of CUDA %d.%d; allowed: 12.0 or newer", path,
			  version / 1000, version % 1000 / 10);
		return false;
	}
	result = table.cuInit(0);
	if (result == GQ_CU_NO_DEVICE) {
		gq__fail(Q_ERR_UNSUPPORTED, "CUDA: cuInit: the driver finds no device");
		return false;
	}
	if (result != GQ_CU_SUCCESS) {
		gq__cuda_error(&table, "cuInit", result);
		return false;
	}
	return true;
}

/* Under the lock. */
static bool open_driver(void)
{
	/* The environment must not choose what a set-id program loads. */
	const char *path = secure_getenv("GPUQ_LIBCUDA");
	void *library;

	if (path == NULL || path[0] == '\0')
		path = "libcuda.so.1";
	library = gq__fault() ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (library == NULL) {
		const char *why = dlerror();

		gq__failf(Q_ERR_UNSUPPORTED, "CUDA: no driver: cannot load '%s': %s", path,
			  why != NULL ? why : "no reason given");
		return false;
	}
	/* After a failure it stays open: a driver that has been initialised may have threads. */
	return resolve(library, path) && start(path);
}

/* In the child, which has this thread only. If another thread of the parent held the lock, nobody
 * gives it back here, nor any other lock of a device: so the child must not touch any device. */
static void after_fork(void)
{
	if (pthread_mutex_trylock(&lock) != 0) {
		is_parents = true;
		return;
	}
	is_parents = is_parents || ready;
	pthread_mutex_unlock(&lock);
}

static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, after_fork);
}

const struct gq_cu *gq__cuda_driver(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, watch_forks);
	if (is_parents) {
		gq__fail(
			Q_ERR_UNSUPPORTED,
			"CUDA: the parent process had opened the driver before fork(), so this one "
			"cannot use it; allowed: fork before the first queue on a GPU, or exec");
		return NULL;
	}
	pthread_mutex_lock(&lock);
	if (!ready)
		ready = open_driver();
	pthread_mutex_unlock(&lock);
	return ready ? &table : NULL;
}
