/* SPDX-License-Identifier: Apache-2.0 */
/* call.c - a caller: requests out, what became of them in. */
#include "state.h"

#include "host/base/clock.h"
#include "host/base/error.h"
#include "host/base/sys.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)Q_REASON_BREAKER == GQ_WIRE_BREAKER_OPEN &&
		       (int)Q_REASON_LOST == GQ_WIRE_LOST &&
		       (int)Q_REASON_DESCRIPTORS == GQ_WIRE_FD_EXHAUSTED &&
		       (int)Q_REASON_REVOKED == GQ_WIRE_REGION_REVOKED &&
		       (int)Q_REASON_NOT_FOUND == GQ_WIRE_NOT_FOUND,
	       "the header's numbers are those of the wire");

enum { NEEDS_MOST = 4096 };

/* ---- which are open -------------------------------------------------------------------------- */

static bool is_open(const BrokerClient *c, uint64_t id)
{
	for (uint32_t i = 0; i < c->inside; i++)
		if (c->open[i] == id)
			return true;
	return false;
}

static void close_one(BrokerClient *c, uint64_t id)
{
	for (uint32_t i = 0; i < c->inside; i++) {
		if (c->open[i] == id) {
			c->open[i] = c->open[--c->inside];
			return;
		}
	}
}

/* ---- out ------------------------------------------------------------------------------------- */

static QueueStatus check(const BrokerCall *call)
{
	if (call == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "call is NULL");
	if (call->extent != NULL) {
		if (call->payload != NULL || call->key != NULL)
			return gq__fail(Q_ERR_INVALID_ARG,
					"the call has an extent, and a payload or a key; allowed: "
					"NULL for these");
		if (call->bytes == 0 || call->bytes > Q_BROKER_MAX_REGION)
			return gq__failf(Q_ERR_INVALID_ARG,
					 "bytes is %zu; allowed: 1 to %u in an extent", call->bytes,
					 Q_BROKER_MAX_REGION);
	} else if (call->bytes > Q_BROKER_MAX_BYTES) {
		return gq__failf(Q_ERR_INVALID_ARG, "bytes is %zu; allowed: 0 to %u", call->bytes,
				 Q_BROKER_MAX_BYTES);
	} else if (call->payload == NULL && call->bytes != 0) {
		return gq__failf(Q_ERR_INVALID_ARG,
				 "payload is NULL with bytes %zu; allowed: NULL only with bytes 0",
				 call->bytes);
	}
	if (call->session_bytes > 64)
		return gq__failf(Q_ERR_INVALID_ARG, "session_bytes is %zu; allowed: 0 to 64",
				 call->session_bytes);
	if (call->session == NULL && call->session_bytes != 0)
		return gq__failf(
			Q_ERR_INVALID_ARG,
			"session is NULL with session_bytes %zu; allowed: NULL only with 0",
			call->session_bytes);
	if (call->needs != NULL && strlen(call->needs) > NEEDS_MOST)
		return gq__failf(Q_ERR_INVALID_ARG, "needs has %zu bytes; allowed: 0 to %d",
				 strlen(call->needs), NEEDS_MOST);
	if (call->key_bytes > 64 || (call->key == NULL) != (call->key_bytes == 0))
		return gq__failf(Q_ERR_INVALID_ARG,
				 "key_bytes is %zu; allowed: 1 to 64 with a key, 0 without",
				 call->key_bytes);
	return Q_OK;
}

/* Where a reply is to be put. Looked at before anything is sent: a reply without a place is lost.
 */
static QueueStatus check_room(const void *reply, const size_t *bytes)
{
	if (reply == NULL && bytes != NULL && *bytes != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "reply is NULL with *bytes %zu; allowed: NULL only with 0",
				 *bytes);
	return Q_OK;
}

/* A frame with what is said in the call, and what is in `f` already, for so many requests. */
static QueueStatus send_call(BrokerClient *c, const BrokerCall *call, struct gq_frame *f,
			     uint32_t count, uint64_t *out_id)
{
	const uint64_t timeout_us = call->timeout_ms * UINT64_C(1000);
	QueueStatus status;

	if (count > c->window - c->inside)
		return gq__failf(Q_ERR_LIMIT,
				 "%u requests have no answer yet; allowed: %u, with "
				 "these %u",
				 c->inside, c->window, count);
	if (!gq__broker_name(f, GQ_TLV_NAME, "service", call->service))
		return Q_ERR_INVALID_ARG;
	f->flags |= GQ_FLAG_CHECKSUM;
	if (call->session_bytes != 0)
		gq__frame_set(f, GQ_TLV_SESSION, false, call->session, call->session_bytes);
	if (timeout_us != 0)
		gq__frame_set(f, GQ_TLV_TIMEOUT, false, &timeout_us, sizeof(timeout_us));
	if (call->needs != NULL &&
	    call->needs[0] != '\0') /* a gpuqd that cannot see to it refuses */
		gq__frame_set(f, GQ_TLV_FILTER, true, call->needs, strlen(call->needs));
	if (call->priority != 0)
		gq__frame_set(f, GQ_TLV_PRIORITY, false, &call->priority, 1);
	if (call->idempotent)
		f->flags |= GQ_FLAG_IDEMPOTENT;
	if (call->cache)
		f->flags |= GQ_FLAG_CACHE;
	f->correlation = c->last + 1;
	c->last += count; /* also if it is not sent: heartbeats take numbers, too */
	status = gq__broker_send(c, f);
	if (status != Q_OK)
		return status;
	for (uint32_t i = 0; i < count; i++)
		c->open[c->inside++] = f->correlation + i;
	*out_id = f->correlation;
	return Q_OK;
}

static QueueStatus submit(BrokerClient *c, const BrokerCall *call, uint64_t *out_id)
{
	struct gq_frame f = { .type = GQ_MESSAGE_REQUEST };
	uint64_t where[3];

	GQ_RETURN_IF_REFUSED(check(call));
	if (call->extent != NULL) {
		where[0] = call->extent->region;
		where[1] = call->extent->offset;
		where[2] = call->bytes;
		if (where[1] > UINT64_MAX - where[2]) /* no region reaches there */
			return gq__failf(Q_ERR_INVALID_ARG,
					 "offset is %" PRIu64 ", bytes %zu; allowed: within the "
					 "region",
					 where[1], call->bytes);
		gq__frame_set(&f, GQ_TLV_REGION, true, where, sizeof(where));
	} else {
		gq__frame_set(&f, GQ_TLV_PAYLOAD, false, call->payload, call->bytes);
	}
	if (call->key_bytes != 0)
		gq__frame_set(&f, GQ_TLV_IDEMPOTENCY, false, call->key, call->key_bytes);
	return send_call(c, call, &f, 1, out_id);
}

QueueStatus q_broker_submit(BrokerClient *c, const BrokerCall *call, uint64_t *out_id)
{
	GQ_NO_CANCEL();
	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	if (out_id == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out_id is NULL");
	return submit(c, call, out_id);
}

/* What the items are in the frame. @return false: refused */
static QueueStatus gather(const BrokerItem *items, uint32_t count, struct gq_item *table,
			  uint8_t *payload, uint32_t *bytes)
{
	*bytes = 0;
	for (uint32_t i = 0; i < count; i++) {
		const size_t n = items[i].bytes;

		if (n > Q_BROKER_MAX_BYTES - count * sizeof(*table) - *bytes)
			return gq__failf(Q_ERR_INVALID_ARG,
					 "items[%u].bytes is %zu; allowed: %u for all items, with "
					 "16 for each",
					 i, n, Q_BROKER_MAX_BYTES);
		if (items[i].payload == NULL && n != 0)
			return gq__failf(Q_ERR_INVALID_ARG,
					 "items[%u].payload is NULL with bytes %zu; allowed: NULL "
					 "only with 0",
					 i, n);
		table[i] = (struct gq_item){ .offset = *bytes, .bytes = (uint32_t)n };
		if (n != 0)
			memcpy(payload + *bytes, items[i].payload, n);
		*bytes += (uint32_t)n;
	}
	return Q_OK;
}

QueueStatus q_broker_submit_batch(BrokerClient *c, const BrokerCall *call, const BrokerItem *items,
				  size_t count, uint64_t *out_id)
{
	GQ_NO_CANCEL();
	struct gq_frame f = { .type = GQ_MESSAGE_BATCH_REQUEST };
	struct {
		struct gq_item table[Q_BROKER_MAX_BATCH];
		uint8_t payload[Q_BROKER_MAX_BYTES];
	} * all;
	uint32_t bytes;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	GQ_RETURN_IF_REFUSED(check(call));
	if (items == NULL || out_id == NULL)
		return gq__failf(Q_ERR_INVALID_ARG, "%s is NULL",
				 items == NULL ? "items" : "out_id");
	if (count == 0 || count > Q_BROKER_MAX_BATCH)
		return gq__failf(Q_ERR_INVALID_ARG, "count is %zu; allowed: 1 to %u", count,
				 Q_BROKER_MAX_BATCH);
	if (call->payload != NULL || call->key != NULL || call->extent != NULL)
		return gq__fail(Q_ERR_INVALID_ARG,
				"the call has a payload, a key or an extent; allowed: NULL for a "
				"batch");
	all = malloc(sizeof(*all));
	if (all == NULL)
		return gq__fail(Q_ERR_NO_MEMORY, "out of memory");
	status = gather(items, (uint32_t)count, all->table, all->payload, &bytes);
	if (status == Q_OK) {
		if (call->all_or_nothing)
			f.flags |= GQ_FLAG_ALL_OR_NOTHING;
		gq__frame_set(&f, GQ_TLV_ITEMS, false, all->table, count * sizeof(all->table[0]));
		gq__frame_set(&f, GQ_TLV_PAYLOAD, false, all->payload, bytes);
		status = send_call(c, call, &f, (uint32_t)count, out_id);
	}
	free(all);
	return status;
}

/* ---- in -------------------------------------------------------------------------------------- */

static void describe(const struct gq_frame *f, BrokerReply *out)
{
	const struct gq_view *text = &f->tlv[GQ_TLV_TEXT];
	const uint32_t reason = gq__frame_u32(f, GQ_TLV_STATUS, 0);
	const uint32_t kind = gq__frame_u32(f, GQ_TLV_STATUS, 1);
	const bool seen = gq__frame_u32(f, GQ_TLV_STATUS, 3) != 0;

	*out = (BrokerReply){ .id = f->correlation,
			      .reason = reason,
			      .retry_after_ms = gq__frame_u32(f, GQ_TLV_STATUS, 2),
			      .may_retry = kind == GQ_RETRY_SAFE,
			      .may_have_run = kind == GQ_RETRY_IDEMPOTENT ||
					      (seen && (reason == GQ_WIRE_TIMEOUT ||
							reason == GQ_WIRE_CANCELLED)),
			      .reused = (f->flags & GQ_FLAG_CACHE) != 0 };
	out->status = gq__broker_status(out->reason);
	if (gq_frame_has(f, GQ_TLV_PAYLOAD))
		out->bytes = f->tlv[GQ_TLV_PAYLOAD].bytes;
	if (gq_frame_has(f, GQ_TLV_TEXT)) {
		const size_t n =
			text->bytes < sizeof(out->text) ? text->bytes : sizeof(out->text) - 1;

		memcpy(out->text, text->data, n);
	}
}

/* @return the bytes that have been copied */
static size_t copy_reply(const struct gq_frame *f, size_t n, void *reply, size_t room)
{
	if (n == 0 || n > room || reply == NULL)
		return 0;
	memcpy(reply, f->tlv[GQ_TLV_PAYLOAD].data, n);
	return n;
}

static QueueStatus deliver(const struct heard *h, void *reply, size_t *bytes, BrokerReply *out)
{
	const size_t room = bytes != NULL ? *bytes : 0;
	BrokerReply what;
	size_t copied;

	describe(&h->frame, &what);
	if (out != NULL)
		*out = what;
	copied = copy_reply(&h->frame, what.bytes, reply, room);
	if (bytes != NULL)
		*bytes = what.status == Q_OK ? what.bytes : copied;
	if (what.status != Q_OK)
		return gq__failf(what.status, "the request ended: %s%s%s",
				 gq__wire_status_text(what.reason),
				 what.text[0] != '\0' ? ": " : "", what.text);
	if (copied != what.bytes)
		return gq__failf(Q_ERR_BUFFER_TOO_SMALL, "the reply has %zu bytes, the buffer %zu",
				 what.bytes, room);
	return Q_OK;
}

static QueueStatus wait_for(BrokerClient *c, uint64_t id, void *reply, size_t *bytes,
			    BrokerReply *out, uint64_t deadline_ns)
{
	struct heard *h;
	QueueStatus status;

	if (c->inside == 0 || (id != 0 && !is_open(c, id))) {
		if (out != NULL)
			out->id = 0;
		return gq__fail(Q_ERR_NOT_FOUND, "there is no such request");
	}
	while ((h = gq__broker_take(&c->answers, id)) == NULL) {
		/* A worker that waits for another service lives, too. */
		const uint64_t beat_ns = gq__broker_beat(c);

		status = gq__broker_hear(c, beat_ns < deadline_ns ? beat_ns : deadline_ns);
		if (status == Q_ERR_LOST)
			return status;
		if (status == Q_ERR_TIMEOUT && gq__now_ns() >= deadline_ns)
			return gq__fail(Q_ERR_TIMEOUT, "no request has ended in that time");
	}
	close_one(c, h->frame.correlation);
	status = deliver(h, reply, bytes, out);
	gq__broker_free(h);
	return status;
}

QueueStatus q_broker_wait(BrokerClient *c, uint64_t id, void *reply, size_t *bytes,
			  BrokerReply *out, uint32_t timeout_ms)
{
	GQ_NO_CANCEL();
	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	GQ_RETURN_IF_REFUSED(check_room(reply, bytes));
	return wait_for(c, id, reply, bytes, out, gq__deadline_ns(timeout_ms));
}

QueueStatus q_broker_call(BrokerClient *c, const BrokerCall *call, void *reply, size_t *bytes,
			  BrokerReply *out)
{
	GQ_NO_CANCEL();
	uint64_t id = 0, deadline_ns;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	GQ_RETURN_IF_REFUSED(check_room(reply, bytes));
	status = submit(c, call, &id);
	if (status != Q_OK)
		return status;
	/* gpuqd ends it before that, if it lives. Without a limit only gpuqd knows when. */
	deadline_ns = call->timeout_ms != 0
			      ? gq__now_ns() + ((uint64_t)call->timeout_ms + c->timeout_ms) *
						       UINT64_C(1000000)
			      : GQ_FOR_EVER;
	status = wait_for(c, id, reply, bytes, out, deadline_ns);
	if (status == Q_ERR_TIMEOUT && is_open(c, id))
		status = gq__broker_lose(c, "gpuqd does not answer: a request's time is long over");
	return status;
}

QueueStatus q_broker_cancel(BrokerClient *c, uint64_t id)
{
	GQ_NO_CANCEL();
	struct gq_frame f = { .type = GQ_MESSAGE_CANCEL, .flags = GQ_FLAG_CHECKSUM };

	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	if (!is_open(c, id))
		return gq__fail(Q_ERR_NOT_FOUND, "there is no such request");
	f.correlation = ++c->last;
	gq__frame_set(&f, GQ_TLV_TARGET, false, &id, sizeof(id));
	return gq__broker_send(c, &f);
}
