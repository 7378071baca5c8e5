/* SPDX-License-Identifier: Apache-2.0 */
/* header.c - what every attach checks before it believes anything. */
#include "host/shm/header.h"

#include "device/protocol/protocol.h"
#include "host/base/error.h"
#include "host/base/fork.h"
#include "host/shm/mapping.h"

#include <inttypes.h>
#include <string.h>

QueueStatus gq__header_check_alignment(const void *memory)
{
	if ((uintptr_t)memory % GQ_LINE == 0)
		return Q_OK;
	return gq__failf(Q_ERR_INVALID_ARG, "memory is %p, not aligned; allowed: a multiple of %d",
			 memory, GQ_LINE);
}

static QueueStatus nothing_here(const struct gq_header_kind *kind)
{
	return gq__failf(Q_ERR_INVALID_ARG, "there is no %s in this memory", kind->what);
}

QueueStatus gq__header_read(const struct gq_header_kind *kind, const void *memory, size_t bytes,
			    void *copy, size_t copy_bytes)
{
	const struct gq_header *shared = memory;
	const uint64_t *words = memory;
	QueueStatus status;
	bool is_private;
	uint64_t magic;

	if (memory == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "memory is NULL");
	status = gq__header_check_alignment(memory);
	if (status != Q_OK)
		return status;
	if (bytes < kind->head_bytes)
		return gq__failf(Q_ERR_NO_MEMORY, "bytes is %zu; a %s's header alone takes %zu",
				 bytes, kind->noun, kind->head_bytes);
	status = gq__mapping_check(memory, kind->head_bytes, true, &is_private);
	if (status != Q_OK)
		return status;
	/* [setup.read] acquire: the header, and what the creator has prepared behind it. */
	if (gq_load_acquire_u64(&shared->ready) != kind->magic) {
		magic = gq_load_relaxed_u64(&shared->magic);
		return magic == 0 || magic == kind->magic
			       ? gq__failf(Q_ERR_NOT_READY, "the %s's creator has not finished",
					   kind->noun)
			       : nothing_here(kind);
	}
	for (size_t i = 0; i < copy_bytes / sizeof(uint64_t); i++) {
		const uint64_t word = gq_load_relaxed_u64(&words[i]);

		memcpy((uint8_t *)copy + i * sizeof(word), &word, sizeof(word));
	}
	memcpy(&magic, copy, sizeof(magic));
	return magic == kind->magic ? Q_OK : nothing_here(kind);
}

QueueStatus gq__header_check_memory(const struct gq_header_kind *kind, const void *memory,
				    size_t bytes, uint64_t said, uint64_t takes, uint64_t made_in)
{
	QueueStatus status;
	bool is_private;

	if (said != takes)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the %s says it takes %" PRIu64
				 " bytes; one of its configuration takes %" PRIu64,
				 kind->noun, said, takes);
	if (bytes < takes)
		return gq__failf(Q_ERR_NO_MEMORY, "bytes is %zu; this %s takes %" PRIu64, bytes,
				 kind->noun, takes);
	status = gq__mapping_check(memory, (size_t)takes, false, &is_private);
	if (status != Q_OK)
		return status;
	if (is_private && made_in != 0 && made_in != gq__generation + 1)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the memory is private, and its %s was made by the process that "
				 "forked this one, which has another copy: it must be shared",
				 kind->noun);
	return Q_OK;
}
