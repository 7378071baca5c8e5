/* SPDX-License-Identifier: Apache-2.0 */
#include "tarpit.h"

#include <limits.h>
#include <string.h>

void gq__tarpit_init(struct gq_tarpit *t, uint64_t descriptors)
{
	memset(t, 0, sizeof(*t));
	t->below = descriptors / 2 < INT_MAX ? (int)(descriptors / 2) : INT_MAX;
}

bool gq__tarpit_hold(struct gq_tarpit *t, int fd, uint32_t uid, uint64_t now_ns)
{
	uint32_t of_user = 0, at;

	for (uint32_t i = 0; i < t->count; i++)
		of_user += t->held[(t->first + i) % GQ_TARPIT_MOST].uid == uid;
	if (fd >= t->below || t->count == GQ_TARPIT_MOST || of_user >= GQ_TARPIT_MOST_OF_USER)
		return false;
	at = (t->first + t->count++) % GQ_TARPIT_MOST;
	t->held[at].until_ns = now_ns + GQ_TARPIT_NS;
	t->held[at].uid = uid;
	t->held[at].fd = fd;
	return true;
}

int gq__tarpit_due(struct gq_tarpit *t, uint64_t now_ns)
{
	const uint32_t at = t->first;

	if (t->count == 0 || now_ns < t->held[at].until_ns)
		return -1;
	t->first = (at + 1) % GQ_TARPIT_MOST;
	t->count--;
	return t->held[at].fd;
}

uint64_t gq__tarpit_next_ns(const struct gq_tarpit *t)
{
	return t->count != 0 ? t->held[t->first].until_ns : UINT64_MAX;
}
