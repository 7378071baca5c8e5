/* SPDX-License-Identifier: Apache-2.0 */
/* tally.c - what the grid has counted of its own doings. */
#include "device/cuda/host/tally.h"

#include "device/cuda/host/call.h"
#include "host/base/log.h"

#include <inttypes.h>

bool gq__tally_read(struct gq_cuda *c, struct gq_tally *out)
{
	bool ok;

	if (c->info.counts == 0 || c->counters == 0 || !gq_context_enter(c))
		return false;
	ok = CU(c, cuMemcpyDtoHAsync, out, c->counters + offsetof(struct gq_counters, tally),
		sizeof(*out), c->stream) &&
	     CU(c, cuStreamSynchronize, c->stream);
	gq_context_leave(c);
	return ok;
}

void gq__tally_log(struct gq_cuda *c)
{
	struct gq_error before;
	struct gq_tally t;
	bool read;

	gq__error_keep(&before);
	read = gq__tally_read(c, &t);
	gq__error_put_back(&before);
	if (!read)
		return;
#define LOG(name, what) gq__log(Q_LOG_INFO, "CUDA: the grid counted %" PRIu64 " " what, t.name);
	GQ_TALLY_LIST(LOG)
#undef LOG
}
