/* SPDX-License-Identifier: Apache-2.0 */
/*
 * turns.c - requests of one session that wait beside the line, as what could take them is full.
 *
 * Each of them tries again by itself, so one that is younger, or has just come, could find the room
 * that an older one waits for. So they stand in a line of their own: only the first is tried, and
 * when it has been sent, or has ended, the next one is. One that comes meanwhile goes to the end.
 * A line is that of a session, an op and a class, as classes do overtake. A request that has been
 * sent has had its turn: another attempt comes when it comes.
 */
#include "router.h"

#include "broker/policy/siphash.h"

#include <string.h>

uint64_t turns_session(const struct router *r, const struct request *q, const struct gq_frame *f)
{
	const uint32_t words[3] = { q->caller->link.uid, q->group, gq__class_of(q->priority) };
	uint8_t text[sizeof(words) + GQ_STICKY_KEY_MAX];
	const size_t bytes = f->tlv[GQ_TLV_SESSION].bytes;
	uint64_t hash;

	if (bytes == 0 || bytes > GQ_STICKY_KEY_MAX)
		return 0;
	memcpy(text, words, sizeof(words));
	memcpy(text + sizeof(words), f->tlv[GQ_TLV_SESSION].data, bytes);
	hash = gq__siphash(r->secret, text, sizeof(words) + bytes);
	return hash != 0 ? hash : 1;
}

/* Where the first of this session is, or would be. */
static struct request **first_of(struct router *r, uint64_t session)
{
	struct request **at = &r->lines[session % LINES];

	while (*at != NULL && (*at)->session != session)
		at = &(*at)->other;
	return at;
}

bool turns_follow(struct router *r, struct request *q)
{
	struct request *first = q->session != 0 ? *first_of(r, q->session) : NULL;

	if (first == NULL || first == q)
		return false;
	q->in_line = true;
	q->ahead = first->last;
	q->behind = NULL;
	q->ahead->behind = q;
	first->last = q;
	return true;
}

void turns_lead(struct router *r, struct request *q)
{
	if (q->session == 0 || q->in_line)
		return;
	q->in_line = true;
	q->ahead = q->behind = q->other = NULL;
	q->last = q;
	*first_of(r, q->session) = q; /* there was none: or it would follow */
}

struct request *turns_leave(struct router *r, struct request *q)
{
	struct request **at, *next = q->behind;

	if (!q->in_line)
		return NULL;
	q->in_line = false;
	at = first_of(r, q->session);
	if (q->ahead != NULL) {
		q->ahead->behind = next;
		if (next != NULL)
			next->ahead = q->ahead;
		else if (*at != NULL) /* always: it is ahead */
			(*at)->last = q->ahead;
		return NULL;
	}
	if (next == NULL) {
		*at = q->other;
		return NULL;
	}
	next->ahead = NULL;
	next->last = q->last;
	next->other = q->other;
	*at = next;
	return next;
}
