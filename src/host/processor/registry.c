/* SPDX-License-Identifier: Apache-2.0 */
/* registry.c - the processors that the program links, found by name beside the built-in ones. */
#include "host/processor/image.h"

#include "host/base/error.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LINKED = 256 };

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static const QProcessorImage *linked[MAX_LINKED];
static unsigned n_linked;
static bool overflowed;

static void lock_registry(void)
{
	pthread_mutex_lock(&registry_lock);
}

static void unlock_registry(void)
{
	pthread_mutex_unlock(&registry_lock);
}

static void register_fork_handlers(void)
{
	pthread_atfork(lock_registry, unlock_registry, unlock_registry);
}

/* A child of fork() finds the registry's lock free, whatever the other threads of its parent did.
 */
static void guard_registry(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, register_fork_handlers);
}

void q_register_processor(const QProcessorImage *image)
{
	if (image == NULL)
		return;
	guard_registry();
	pthread_mutex_lock(&registry_lock);
	if (n_linked < MAX_LINKED)
		linked[n_linked++] = image;
	else
		overflowed = true;
	pthread_mutex_unlock(&registry_lock);
}

void q_unregister_processor(const QProcessorImage *image)
{
	pthread_mutex_lock(&registry_lock);
	for (unsigned i = 0; i < n_linked; i++) {
		if (linked[i] != image)
			continue;
		for (n_linked--; i < n_linked; i++)
			linked[i] = linked[i + 1];
	}
	pthread_mutex_unlock(&registry_lock);
}

/* The names a program can use, for an error message. */
static void list_names(char *text, size_t room)
{
	size_t used = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < n_linked + GQ_BUILT_IN && used < room; i++) {
		const QProcessorImage *image =
			i < n_linked ? linked[i] : gq__built_in[i - n_linked];
		int n = snprintf(text + used, room - used, "%s%s", i == 0 ? "" : ", ",
				 image->name != NULL ? image->name : "?");

		used += n > 0 ? (size_t)n : 0;
	}
}

/* Under the registry lock. */
static const QProcessorImage *find_default(void)
{
	char names[256];

	if (n_linked == 1)
		return linked[0];
	list_names(names, sizeof(names));
	if (n_linked == 0)
		gq__failf(Q_ERR_NOT_FOUND,
			  "processor: none is linked into this program (gpuq_add_processor()) and "
			  "cfg.processor names none; known names: %s",
			  names);
	else
		gq__failf(Q_ERR_INVALID_ARG,
			  "processor: %u are linked into this program, so cfg.processor must name "
			  "one; known names: %s",
			  n_linked, names);
	return NULL;
}

/* Under the registry lock. The program's own come before ours of the same name. */
static const QProcessorImage *find_named(const char *name)
{
	const QProcessorImage *found = NULL;
	char names[256];

	for (unsigned i = 0; i < n_linked; i++) {
		if (linked[i]->name == NULL || strcmp(linked[i]->name, name) != 0)
			continue;
		if (found != NULL) {
			gq__failf(Q_ERR_INVALID_ARG,
				  "processor: two linked processors are called '%s'", name);
			return NULL;
		}
		found = linked[i];
	}
	for (unsigned i = 0; found == NULL && i < GQ_BUILT_IN; i++)
		if (strcmp(gq__built_in[i]->name, name) == 0)
			found = gq__built_in[i];
	if (found == NULL) {
		list_names(names, sizeof(names));
		gq__failf(Q_ERR_NOT_FOUND,
			  "processor: no processor is called '%.64s'%s; known names: %s (a path "
			  "must contain '/' or end in .so, .cu, .fatbin, .cubin or .ptx)",
			  name, gq__file_here(name).text, names);
	}
	return found;
}

/* Under the registry lock. It compares addresses alone: the image may have been unloaded. */
static bool is_known(const QProcessorImage *image)
{
	for (unsigned i = 0; i < n_linked; i++)
		if (linked[i] == image)
			return true;
	for (unsigned i = 0; i < GQ_BUILT_IN; i++)
		if (gq__built_in[i] == image)
			return true;
	return false;
}

/* `name` NULL: the default. A dlclose() in another thread may hold the loader's lock and wait for
 * ours. So the library of what was found is kept loaded after ours is released, and the image is
 * looked for once more. */
bool gq__find_linked(const char *name, struct gq_processor *out)
{
	guard_registry();
	for (;;) {
		const QProcessorImage *image;
		bool known = false, ok = false, too_many;
		void *library;

		pthread_mutex_lock(&registry_lock);
		image = name == NULL ? find_default() : find_named(name);
		too_many = overflowed;
		pthread_mutex_unlock(&registry_lock);
		if (too_many)
			gq__log(Q_LOG_WARNING,
				"more than %d processors are linked; the last are ignored",
				MAX_LINKED);
		if (image == NULL)
			return false;
		library = gq__keep_loaded(image);
		pthread_mutex_lock(&registry_lock);
		if (is_known(image)) {
			known = true;
			ok = gq__image_check(image, name == NULL ? "the linked processor" : name);
			if (ok)
				gq__image_take(image, library, out);
		}
		pthread_mutex_unlock(&registry_lock);
		if (!ok)
			gq__let_go(library);
		if (known)
			return ok;
	}
}
