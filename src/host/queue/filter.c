/* SPDX-License-Identifier: Apache-2.0 */
/* filter.c - filters of completions: what is allowed in them, and what their zeros mean. */
#include "host/queue/filter.h"

#include "host/base/error.h"

#include <inttypes.h>

enum {
	EVERY_PRIORITY = Q_FILTER_PRIORITY(Q_PRIORITY_LOW) | Q_FILTER_PRIORITY(Q_PRIORITY_NORMAL) |
			 Q_FILTER_PRIORITY(Q_PRIORITY_HIGH) | Q_FILTER_PRIORITY(Q_PRIORITY_URGENT),
	EVERY_STATUS = Q_FILTER_STATUS(Q_OK) | Q_FILTER_STATUS(Q_ERR_FAILED) |
		       Q_FILTER_STATUS(Q_ERR_EXPIRED) | Q_FILTER_STATUS(Q_ERR_CANCELLED) |
		       Q_FILTER_STATUS(Q_ERR_LOST),
};

static QueueStatus check_bits(const char *field, uint32_t value, uint32_t allowed)
{
	if ((value & ~allowed) == 0)
		return Q_OK;
	return gq__failf(Q_ERR_INVALID_ARG,
			 "filter.%s is 0x%" PRIx32 "; allowed: bits of 0x%" PRIx32, field, value,
			 allowed);
}

static QueueStatus check_fields(const CompletionFilter *f)
{
	GQ_RETURN_IF_REFUSED(check_bits("flags", f->flags, Q_FILTER_TAGS));
	GQ_RETURN_IF_REFUSED(check_bits("priorities", f->priorities,
					EVERY_PRIORITY | Q_FILTER_PRIORITY(Q_PRIORITY_DEFAULT)));
	GQ_RETURN_IF_REFUSED(check_bits("statuses", f->statuses, EVERY_STATUS));
	GQ_RETURN_IF_REFUSED(check_bits("reserved0", f->reserved0, 0));
	GQ_RETURN_IF_REFUSED(gq__check_reserved("filter.reserved", f->reserved,
						sizeof(f->reserved) / sizeof(f->reserved[0]),
						sizeof(f->reserved[0])));
	if ((f->flags & Q_FILTER_TAGS) == 0 && (f->tag_min | f->tag_max) != 0)
		return gq__fail(Q_ERR_INVALID_ARG,
				"filter.tag_min and tag_max are not 0; allowed: only with "
				"Q_FILTER_TAGS in flags");
	if (f->tag_min > f->tag_max)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "filter.tag_min is %" PRIu64 "; allowed: up to tag_max, %" PRIu64,
				 f->tag_min, f->tag_max);
	return Q_OK;
}

QueueStatus gq__check_filter(const CompletionFilter *filter, CompletionFilter *out)
{
	*out = filter != NULL ? *filter : (CompletionFilter){ .flags = 0 };
	GQ_RETURN_IF_REFUSED(check_fields(out));
	if ((out->priorities & Q_FILTER_PRIORITY(Q_PRIORITY_DEFAULT)) != 0)
		out->priorities |= Q_FILTER_PRIORITY(Q_PRIORITY_NORMAL);
	if (out->priorities == 0)
		out->priorities = EVERY_PRIORITY;
	if (out->statuses == 0)
		out->statuses = EVERY_STATUS;
	return Q_OK;
}
