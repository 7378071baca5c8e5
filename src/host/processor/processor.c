/* SPDX-License-Identifier: Apache-2.0 */
/* processor.c - the registry of processors, and loading one by path. */
#include "host/processor/processor.h"

#include "host/base/error.h"
#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/base/sys.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The processors that the library ships, compiled from kernels/. */
extern const QProcessorImage gq__processor_crc32c, gq__processor_echo, gq__processor_sha256,
	gq__processor_vecdot;

/* Their images for GPUs, by granularity; NULL where they were built without nvcc. */
extern const void *const gq__device_images_crc32c[3],
	*const gq__device_images_echo[3], *const gq__device_images_sha256[3],
						  *const gq__device_images_vecdot[3];

static const void *const *const built_in_device[] = { gq__device_images_crc32c,
						      gq__device_images_echo,
						      gq__device_images_sha256,
						      gq__device_images_vecdot };

static const QProcessorImage *const built_in[] = { &gq__processor_crc32c, &gq__processor_echo,
						   &gq__processor_sha256, &gq__processor_vecdot };

enum { MAX_LINKED = 256, BUILT_IN = sizeof(built_in) / sizeof(built_in[0]) };

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

/* The shared object that holds what is at `address`, kept loaded until gq__let_go(); NULL: it is
 * the program itself, or going. */
void *gq__keep_loaded(const void *address)
{
	Dl_info where;

	if (dladdr(address, &where) == 0 || where.dli_fname == NULL)
		return NULL;
	return dlopen(where.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
}

void gq__let_go(void *library)
{
	if (library != NULL)
		dlclose(library);
}

static bool ends_in(const char *name, const char *ending)
{
	size_t length = strlen(name), tail = strlen(ending);

	return length > tail && strcmp(name + length - tail, ending) == 0;
}

/* A file that holds an image for a GPU and nothing else. */
static bool is_image(const char *name)
{
	return ends_in(name, ".fatbin") || ends_in(name, ".cubin") || ends_in(name, ".ptx");
}

/* CUDA source, which the CUDA device compiles when it is opened. */
static bool is_source(const char *name)
{
	return ends_in(name, ".cu");
}

static bool is_path(const char *name)
{
	return strchr(name, '/') != NULL || ends_in(name, ".so") || is_image(name) ||
	       is_source(name);
}

/* The protocol is checked before the rest: what follows it may have another layout. */
static bool check(const QProcessorImage *image, const char *where)
{
	if (image == NULL || image->magic != Q_PROCESSOR_MAGIC) {
		gq__failf(Q_ERR_INVALID_ARG, "processor: %s holds no processor image", where);
		return false;
	}
	if (image->protocol_version != Q_PROTOCOL_VERSION) {
		gq__failf(Q_ERR_UNSUPPORTED,
			  "processor: %s was compiled for protocol version %u; this libgpuq speaks "
			  "version %u",
			  where, image->protocol_version, Q_PROTOCOL_VERSION);
		return false;
	}
	if (image->name == NULL || image->name[0] == '\0' ||
	    strnlen(image->name, sizeof(((struct gq_processor *)0)->name)) > 63) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "processor: %s has a name that is not 1 to 63 characters long", where);
		return false;
	}
	if (is_path(image->name)) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "processor: %s is called '%s', which reads as a path; allowed: a name "
			  "without '/' that does not end in .so, .cu, .fatbin, .cubin or .ptx",
			  where, image->name);
		return false;
	}
	if (image->granularity > 2 || image->reserved0 != 0) {
		gq__failf(Q_ERR_INVALID_ARG, "processor: %s has granularity %u; allowed: 0 to 2",
			  where, image->granularity);
		return false;
	}
	return true;
}

static void take(const QProcessorImage *image, void *library, struct gq_processor *out)
{
	*out = (struct gq_processor){ .image = *image, .library = library };
	snprintf(out->name, sizeof(out->name), "%s", image->name);
	out->image.name = out->name;
	out->device[image->granularity] = image->device_image;
	for (unsigned i = 0; i < BUILT_IN; i++)
		if (image == built_in[i])
			memcpy(out->device, built_in_device[i], sizeof(out->device));
}

static bool load(const char *path, struct gq_processor *out)
{
	void *library = gq__fault() ? NULL : dlopen(path, RTLD_NOW | RTLD_LOCAL);
	const QProcessorImage *image;

	if (library == NULL) {
		const char *why = dlerror();

		gq__failf(Q_ERR_NOT_FOUND, "processor: cannot load '%s': %s", path,
			  why != NULL ? why : "no reason given");
		return false;
	}
	image = dlsym(library, "gpuq_processor_image");
	if (image == NULL)
		gq__failf(Q_ERR_INVALID_ARG,
			  "processor: '%s' has no symbol gpuq_processor_image; build it with "
			  "gpuq_add_processor() on a MODULE library, or end its source with "
			  "Q_PROCESSOR_IMAGE(\"name\")",
			  path);
	if (image == NULL || !check(image, path)) {
		dlclose(library);
		return false;
	}
	take(image, library, out);
	return true;
}

static bool read_all(int fd, char *to, size_t bytes)
{
	while (bytes != 0) {
		const ssize_t n = gq_sys_read(fd, to, bytes);

		if (n <= 0)
			return false;
		to += n;
		bytes -= (size_t)n;
	}
	return true;
}

enum { MAX_IMAGE_BYTES = 1 << 30, MAX_SOURCE_BYTES = 16 << 20 };

/* The whole file, and a zero behind it: PTX and source are strings. */
static bool read_file(int fd, const char *path, struct gq_processor *out)
{
	const off_t most = out->is_source ? MAX_SOURCE_BYTES : MAX_IMAGE_BYTES;
	struct stat about;
	size_t length;

	if (fstat(fd, &about) != 0 || !S_ISREG(about.st_mode)) {
		gq__failf(Q_ERR_INVALID_ARG, "processor: '%s' is not a file", path);
		return false;
	}
	if (about.st_size < 1 || about.st_size > most) {
		gq__failf(Q_ERR_INVALID_ARG, "processor: '%s' has %jd bytes; allowed: 1 to %jd",
			  path, (intmax_t)about.st_size, (intmax_t)most);
		return false;
	}
	length = (size_t)about.st_size;
	out->file_bytes = length + 1;
	out->file = gq__alloc(out->file_bytes, "the processor's file");
	if (out->file == NULL)
		return false;
	if (!read_all(fd, out->file, length))
		gq__failf(Q_ERR_INVALID_ARG, "processor: '%s' cannot be read", path);
	else if (out->is_source && memchr(out->file, '\0', length) != NULL)
		gq__failf(Q_ERR_INVALID_ARG, "processor: '%s' is not source: it has a zero byte",
			  path);
	else
		return true;
	gq__free(out->file, out->file_bytes);
	out->file = NULL;
	return false;
}

/* An image for a GPU, or source, by path; its name is the file's, without folder and extension. */
static bool load_file(const char *path, struct gq_processor *out)
{
	const char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
	/* Without O_NONBLOCK open() would wait for a writer of a pipe. */
	const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
	int fd;
	bool ok;

	*out = (struct gq_processor){ .image.name = out->name, .is_source = is_source(path) };
	errno = EMFILE;
	fd = gq__fault() ? -1 : gq_sys_open(path, flags, 0);
	if (fd < 0) {
		gq__failf(Q_ERR_NOT_FOUND, "processor: cannot load '%s': %s", path,
			  strerror(errno));
		return false;
	}
	ok = read_file(fd, path, out);
	gq_sys_close(fd);
	snprintf(out->name, sizeof(out->name), "%.*s", (int)(strrchr(name, '.') - name), name);
	return ok;
}

/* The names a program can use, for an error message. */
static void list_names(char *text, size_t room)
{
	size_t used = 0;

	text[0] = '\0';
	for (unsigned i = 0; i < n_linked + BUILT_IN && used < room; i++) {
		const QProcessorImage *image = i < n_linked ? linked[i] : built_in[i - n_linked];
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
	for (unsigned i = 0; found == NULL && i < BUILT_IN; i++)
		if (strcmp(built_in[i]->name, name) == 0)
			found = built_in[i];
	if (found == NULL) {
		list_names(names, sizeof(names));
		gq__failf(Q_ERR_NOT_FOUND,
			  "processor: no processor is called '%.64s'; known names: %s (a path must "
			  "contain '/' or end in .so, .cu, .fatbin, .cubin or .ptx)",
			  name, names);
	}
	return found;
}

/* Under the registry lock. It compares addresses alone: the image may have been unloaded. */
static bool is_known(const QProcessorImage *image)
{
	for (unsigned i = 0; i < n_linked; i++)
		if (linked[i] == image)
			return true;
	for (unsigned i = 0; i < BUILT_IN; i++)
		if (built_in[i] == image)
			return true;
	return false;
}

/* `name` NULL: the default. A dlclose() in another thread may hold the loader's lock and wait for
 * ours. So the library of what was found is kept loaded after ours is released, and the image is
 * looked for once more. */
static bool find_linked(const char *name, struct gq_processor *out)
{
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
			ok = check(image, name == NULL ? "the linked processor" : name);
			if (ok)
				take(image, library, out);
		}
		pthread_mutex_unlock(&registry_lock);
		if (!ok)
			gq__let_go(library);
		if (known)
			return ok;
	}
}

bool gq__find_processor(const char *name, struct gq_processor *out)
{
	guard_registry();
	if (name == NULL || name[0] == '\0')
		return find_linked(NULL, out);
	if (!is_path(name))
		return find_linked(name, out);
	return is_image(name) || is_source(name) ? load_file(name, out) : load(name, out);
}

void gq__close_processor(struct gq_processor *processor)
{
	gq__let_go(processor->library);
	processor->library = NULL;
	gq__free(processor->file, processor->file_bytes);
	processor->file = NULL;
}
