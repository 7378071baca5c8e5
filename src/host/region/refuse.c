/* SPDX-License-Identifier: Apache-2.0 */
/* refuse.c - why calls on regions are refused, in words. */
#include "host/region/table.h"

#include <inttypes.h>

QueueStatus gq__region_no_table(void)
{
	return gq__fail(Q_ERR_INVALID_ARG, "table is NULL; allowed: a table from "
					   "q_region_table_create() or q_region_table_attach()");
}

QueueStatus gq__region_null(const char *what)
{
	return gq__failf(Q_ERR_INVALID_ARG, "%s is NULL", what);
}

QueueStatus gq__region_stale(RegionTable *t, RegionHandle region)
{
	gq__region_forget_freed(t, region.id);
	if (region.id >= t->max_regions)
		return gq__failf(Q_ERR_STALE,
				 "region.id is %" PRIu32 "; this table's: 0 to %" PRIu32, region.id,
				 t->max_regions - 1);
	return gq__failf(Q_ERR_STALE,
			 "region %" PRIu32 " of generation %" PRIu32
			 " is not registered: it has been freed, or never was",
			 region.id, region.generation);
}

QueueStatus gq__region_not_mapped(RegionHandle region)
{
	return gq__failf(Q_ERR_UNSUPPORTED,
			 "region %" PRIu32 " of generation %" PRIu32
			 " is not mapped in this process: q_region_map()",
			 region.id, region.generation);
}

QueueStatus gq__region_retired(RegionHandle region)
{
	return gq__failf(Q_ERR_STALE, "region %" PRIu32 " has been retired", region.id);
}

QueueStatus gq__region_overtaken(RegionHandle region)
{
	return gq__failf(Q_ERR_NOT_READY,
			 "the state of region %" PRIu32 " was changed by others %d times within "
			 "this call: try again",
			 region.id, GQ_REGION_TRIES);
}

QueueStatus gq__region_too_many(RegionHandle region)
{
	return gq__failf(Q_ERR_LIMIT,
			 "%" PRIu64 " descriptors of region %" PRIu32
			 " are outstanding, as many as can be",
			 GQ_REGION_MAX_REFERENCES, region.id);
}

QueueStatus gq__region_damaged(const char *what, uint64_t value)
{
	return gq__failf(Q_ERR_FAILED, "the table's memory is damaged: %s is %" PRIu64, what,
			 value);
}
