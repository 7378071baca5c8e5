/* SPDX-License-Identifier: Apache-2.0 */
/* image.c - processor images: what a name means, the built-in ones, checking and taking one. */
#include "host/processor/image.h"

#include "host/base/error.h"

#include <dlfcn.h>
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

const QProcessorImage *const gq__built_in[GQ_BUILT_IN] = {
	&gq__processor_crc32c, &gq__processor_echo, &gq__processor_sha256, &gq__processor_vecdot
};

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

bool gq__names_image(const char *name)
{
	return ends_in(name, ".fatbin") || ends_in(name, ".cubin") || ends_in(name, ".ptx");
}

bool gq__names_source(const char *name)
{
	return ends_in(name, ".cu");
}

bool gq__names_path(const char *name)
{
	return strchr(name, '/') != NULL || ends_in(name, ".so") || gq__names_image(name) ||
	       gq__names_source(name);
}

struct gq_hint gq__file_here(const char *name)
{
	struct gq_hint hint = { "" };
	struct stat about;

	if (strchr(name, '/') == NULL && strlen(name) <= 64 && stat(name, &about) == 0 &&
	    S_ISREG(about.st_mode))
		snprintf(hint.text, sizeof(hint.text), "; the file here is './%s'", name);
	return hint;
}

/* The protocol is checked before the rest: what follows it may have another layout. */
bool gq__image_check(const QProcessorImage *image, const char *where)
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
	if (gq__names_path(image->name)) {
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

void gq__image_take(const QProcessorImage *image, void *library, struct gq_processor *out)
{
	*out = (struct gq_processor){ .image = *image, .library = library };
	snprintf(out->name, sizeof(out->name), "%s", image->name);
	out->image.name = out->name;
	out->device[image->granularity] = image->device_image;
	for (unsigned i = 0; i < GQ_BUILT_IN; i++)
		if (image == gq__built_in[i])
			memcpy(out->device, built_in_device[i], sizeof(out->device));
}
