/* SPDX-License-Identifier: Apache-2.0 */
/* strikes.c - counts what a peer did wrong within a window. */
#include "strikes.h"

bool gq__strikes_add(struct gq_strikes *strikes, uint64_t now_ns)
{
	uint64_t oldest;

	strikes->at_ns[strikes->count++ % GQ_STRIKES_MAX] = now_ns;
	if (strikes->count < GQ_STRIKES_MAX)
		return false;
	oldest = strikes->at_ns[strikes->count % GQ_STRIKES_MAX];
	return oldest > now_ns || now_ns - oldest < GQ_STRIKES_WINDOW_NS;
}
