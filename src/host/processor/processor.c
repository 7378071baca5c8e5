/* SPDX-License-Identifier: Apache-2.0 */
/* processor.c - finding the processor that a configuration names, and giving it back. */
#include "host/processor/image.h"

#include "host/base/memory.h"

bool gq__find_processor(const char *name, struct gq_processor *out)
{
	if (name == NULL || name[0] == '\0')
		return gq__find_linked(NULL, out);
	if (!gq__names_path(name))
		return gq__find_linked(name, out);
	return gq__names_image(name) || gq__names_source(name) ? gq__load_file(name, out)
							       : gq__load_library(name, out);
}

void gq__close_processor(struct gq_processor *processor)
{
	gq__let_go(processor->library);
	processor->library = NULL;
	gq__free(processor->file, processor->file_bytes);
	processor->file = NULL;
}
