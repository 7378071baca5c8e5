/* SPDX-License-Identifier: Apache-2.0 */
/*
 * batch.c - many requests in one frame, and many answers in one.
 *
 * A batch is no thing of its own: item i of a batch with the correlation c is the request c + i,
 * which goes its own way like any other. What they share is the frame that they come in, and the
 * frame that answers travel in which come in one turn and stand side by side. An answer that says
 * more than "done" goes by itself.
 */
#include "router.h"

#include <stdlib.h>
#include <string.h>

/* What a frame of answers has room for, with its headers. */
enum { PAYLOAD_MOST = GQ_WIRE_FRAME_MAX - 256 };

/* Answers that one peer is to get in one frame. */
struct answers {
	uint64_t first; /* correlation; the others follow it */
	uint32_t count, bytes;
	uint32_t flags;
	struct gq_item item[GQ_WIRE_BATCH_MAX];
	uint8_t payload[PAYLOAD_MOST];
};

/* ---- coming in ------------------------------------------------------------------------------- */

static const uint64_t of_each = UINT64_C(1) << GQ_TLV_NAME | UINT64_C(1) << GQ_TLV_TIMEOUT |
				UINT64_C(1) << GQ_TLV_PRIORITY | UINT64_C(1) << GQ_TLV_SESSION |
				UINT64_C(1) << GQ_TLV_TRACE | UINT64_C(1) << GQ_TLV_PARAMETERS |
				UINT64_C(1) << GQ_TLV_OP_VERSION | UINT64_C(1) << GQ_TLV_FILTER;

/* One item as a request of its own, in r->item. */
static bool make_request(struct router *r, const struct gq_frame *f, uint32_t i,
			 struct gq_frame *out)
{
	const struct gq_frame_rules rules = { .state = GQ_FRAME_AFTER_HELLO };
	const struct gq_item item = gq__frame_item(f, i);
	struct gq_frame one = *f;
	size_t bytes;

	r->counts.copied_bytes += item.bytes;
	one.type = GQ_MESSAGE_REQUEST;
	one.flags = f->flags & (uint32_t)(GQ_FLAG_CACHE | GQ_FLAG_IDEMPOTENT);
	one.correlation = f->correlation + i;
	one.present &= of_each;
	one.must = 0;
	gq__frame_set(&one, GQ_TLV_PAYLOAD, false, f->tlv[GQ_TLV_PAYLOAD].data + item.offset,
		      item.bytes);
	return gq__frame_encode(&one, r->item, sizeof(r->item), &bytes) == GQ_FRAME_OK &&
	       gq__frame_decode(r->item, bytes, &rules, out) == GQ_FRAME_OK;
}

static const char *complaint(const struct gq_frame *f)
{
	const uint64_t cannot = UINT64_C(1) << GQ_TLV_REGION | UINT64_C(1) << GQ_TLV_FRAGMENT |
				UINT64_C(1) << GQ_TLV_TARGET | UINT64_C(1) << GQ_TLV_IDEMPOTENCY;

	if (f->correlation == 0 || f->correlation > UINT64_MAX - GQ_WIRE_BATCH_MAX)
		return "a batch's correlation is 0, or too near the end";
	if ((f->present & cannot) != 0)
		return "a batch has no regions, fragments or keys of idempotency";
	return NULL;
}

void batch_submit(struct router *r, struct peer *p, const struct gq_frame *f)
{
	const bool all = (f->flags & GQ_FLAG_ALL_OR_NOTHING) != 0;
	const uint32_t count = gq__frame_items(f);
	const char *wrong = complaint(f);
	struct gq_frame one;
	struct answer a;

	if (wrong != NULL) {
		answer_nack(r, p, f->correlation,
			    &(struct answer){ .status = GQ_WIRE_INVALID, .text = wrong });
		return;
	}
	for (uint32_t i = 0; i < count; i++) {
		if (!make_request(r, f, i, &one))
			a = (struct answer){ .status = GQ_WIRE_INVALID,
					     .text = "the item is too large for a request" };
		else if (peer_has_enough(p)) /* answers of the cache, which no window bounds */
			a = (struct answer){ .status = GQ_WIRE_OVERLOADED,
					     .retry_ns = gq__admission_retry_ns(&r->admission),
					     .text = "the batch has got too many bytes at once" };
		else if (request_take(r, p, &one, r->item, true, &a))
			continue;
		if (!all) {
			request_refuse(r, p, f->correlation + i, &a);
			continue;
		}
		for (uint32_t k = 0; k < i; k++) /* those whose answer was there have it */
			request_withdraw(r, p, f->correlation + k, &a);
		for (uint32_t k = i; k < count; k++)
			request_refuse(r, p, f->correlation + k, &a);
		return;
	}
}

/* ---- answers --------------------------------------------------------------------------------- */

static void flush(struct router *r, struct peer *p)
{
	struct answers *o = p->answers;
	struct gq_frame f = { .type = GQ_MESSAGE_BATCH_RESPONSE };

	p->answers = NULL;
	if (o == NULL)
		return;
	f.flags = o->flags;
	f.correlation = o->first;
	gq__frame_set(&f, GQ_TLV_ITEMS, false, o->item, o->count * sizeof(o->item[0]));
	gq__frame_set(&f, GQ_TLV_PAYLOAD, false, o->payload, o->bytes);
	(void)peer_send(r, p, &f, 0);
	free(o);
}

static bool fits(const struct answers *o, uint64_t correlation, uint32_t flags, uint32_t bytes)
{
	return correlation == o->first + o->count && flags == o->flags &&
	       o->count < GQ_WIRE_BATCH_MAX &&
	       o->bytes + bytes + (o->count + 1) * sizeof(o->item[0]) <= PAYLOAD_MOST;
}

bool batch_answer(struct router *r, struct peer *p, uint64_t correlation, uint32_t flags,
		  uint64_t took_ns, const struct gq_view *payload)
{
	const uint64_t took_us = took_ns / 1000;
	struct answers *o;

	if (p->answers != NULL && !fits(p->answers, correlation, flags, payload->bytes))
		flush(r, p);
	if (p->answers == NULL) {
		p->answers = malloc(sizeof(*p->answers));
		if (p->answers == NULL)
			return false;
		p->answers->first = correlation;
		p->answers->count = p->answers->bytes = 0;
		p->answers->flags = flags;
		if (!fits(p->answers, correlation, flags, payload->bytes)) {
			free(p->answers);
			p->answers = NULL;
			return false;
		}
	}
	o = p->answers;
	o->item[o->count++] =
		(struct gq_item){ .offset = o->bytes,
				  .bytes = payload->bytes,
				  .status = GQ_WIRE_SUCCESS,
				  .latency_us =
					  took_us < UINT32_MAX ? (uint32_t)took_us : UINT32_MAX };
	r->counts.copied_bytes += payload->bytes;
	if (payload->bytes != 0)
		memcpy(o->payload + o->bytes, payload->data, payload->bytes);
	o->bytes += payload->bytes;
	return true;
}

void batch_flush(struct router *r)
{
	for (struct peer *p = r->peers; p != NULL; p = p->next)
		flush(r, p);
}
