/* SPDX-License-Identifier: Apache-2.0 */
/* processor.c - finding the processor that a configuration names, and giving it back. */
#include "host/processor/image.h"

#include "host/base/error.h"
#include "host/base/memory.h"

#include <string.h>

bool gq__find_processor(const char *name, struct gq_processor *out)
{
	if (name == NULL || name[0] == '\0')
		return gq__find_linked(NULL, out);
	if (!gq__names_path(name))
		return gq__find_linked(name, out);
	return gq__names_image(name) || gq__names_source(name) ? gq__load_file(name, out)
							       : gq__load_library(name, out);
}

bool gq__check_processor(const char *name, bool on_cpu)
{
	struct gq_processor p;

	if (gq__names_path(name) && !gq__names_image(name) && !gq__names_source(name))
		return strchr(name, '/') == NULL || gq__check_library(name);
	if (!gq__find_processor(name, &p))
		return false;
	if (on_cpu && p.image.cpu == NULL)
		gq__failf(Q_ERR_UNSUPPORTED,
			  "processor: '%s' is for a GPU; allowed on the CPU device: a shared "
			  "object, or a built-in processor",
			  name);
	gq__close_processor(&p);
	return !on_cpu || p.image.cpu != NULL;
}

void gq__close_processor(struct gq_processor *processor)
{
	gq__let_go(processor->library);
	processor->library = NULL;
	gq__free(processor->file, processor->file_bytes);
	processor->file = NULL;
}
