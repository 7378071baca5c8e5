/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c - a worker: it registers, says that it lives, and answers requests. */
#include "state.h"

#include "host/base/clock.h"
#include "host/base/error.h"
#include "host/base/sys.h"

#include <stdlib.h>
#include <string.h>

enum { CAPACITY_MAX = 256, HEARTBEAT_MS = 1000, CAPABILITY_MAX = 64 * 256, TOKEN_MAX = 4096 };
#define LOOK_NS UINT64_C(10000000)

static const char stale[] =
	"another worker has taken over this service, gpuqd has heard nothing of this one for too "
	"long, or its token is not good any more";

static QueueStatus beat(BrokerClient *c, const BrokerLoad *load)
{
	struct gq_frame f = { .type = GQ_MESSAGE_HEARTBEAT, .flags = GQ_FLAG_CHECKSUM };

	gq__frame_set(&f, GQ_TLV_NAME, false, c->service, strlen(c->service));
	gq__frame_set(&f, GQ_TLV_GENERATION, false, &c->generation, sizeof(c->generation));
	if (load != NULL)
		gq__frame_set(&f, GQ_TLV_LOAD, false, load, sizeof(*load));
	c->beat_ns = gq__now_ns() + c->beat_every_ns;
	f.correlation = c->beaten = ++c->last;
	return gq__broker_send(c, &f);
}

uint64_t gq__broker_beat(BrokerClient *c)
{
	if (c->service[0] == '\0' || c->stale)
		return GQ_FOR_EVER;
	if (gq__now_ns() >= c->beat_ns)
		(void)beat(c, NULL);
	return c->beat_ns;
}

static QueueStatus check(const BrokerClient *c, const BrokerService *s)
{
	if (s == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "service is NULL");
	if (c->service[0] != '\0')
		return gq__fail(Q_ERR_INVALID_ARG, "this connection has a service already");
	if (s->capacity > CAPACITY_MAX)
		return gq__failf(Q_ERR_INVALID_ARG, "capacity is %u; allowed: 0 to %d", s->capacity,
				 CAPACITY_MAX);
	if (s->capability != NULL && strlen(s->capability) > CAPABILITY_MAX)
		return gq__failf(Q_ERR_INVALID_ARG, "capability has %zu bytes; allowed: 0 to %d",
				 strlen(s->capability), CAPABILITY_MAX);
	if (s->token != NULL && (s->token[0] == '\0' || strlen(s->token) > TOKEN_MAX))
		return gq__failf(Q_ERR_INVALID_ARG, "token has %zu bytes; allowed: 1 to %d",
				 strlen(s->token), TOKEN_MAX);
	GQ_RETURN_IF_REFUSED(GQ_CHECK_RESERVED(s, reserved8));
	return GQ_CHECK_RESERVED(s, reserved);
}

QueueStatus q_service_register(BrokerClient *c, const BrokerService *s)
{
	GQ_NO_CANCEL();
	struct gq_frame f = { .type = GQ_MESSAGE_REGISTER };
	uint32_t load[4] = { 0 };
	struct heard *h;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	GQ_RETURN_IF_REFUSED(check(c, s));
	if (!gq__broker_name(&f, GQ_TLV_NAME, "name", s->name))
		return Q_ERR_INVALID_ARG;
	load[3] = s->capacity;
	gq__frame_set(&f, GQ_TLV_LOAD, false, load, sizeof(load));
	/* A capability has a byte at least: a space says nothing. */
	gq__frame_set(&f, GQ_TLV_CAPABILITY, false,
		      s->capability != NULL && s->capability[0] != '\0' ? s->capability : " ",
		      s->capability != NULL && s->capability[0] != '\0' ? strlen(s->capability)
									: 1);
	if (s->token != NULL)
		gq__frame_set(&f, GQ_TLV_TOKEN, false, s->token, strlen(s->token));
	if (s->priority != 0)
		gq__frame_set(&f, GQ_TLV_PRIORITY, false, &s->priority, 1);
	status = gq__broker_ask(c, &f, &h);
	if (status == Q_OK) {
		c->generation = gq__frame_u64(&h->frame, GQ_TLV_GENERATION, 0);
		c->stale = false;
		memcpy(c->service, s->name, strlen(s->name) + 1);
		c->beat_every_ns =
			(s->heartbeat_ms != 0 ? s->heartbeat_ms : HEARTBEAT_MS) * UINT64_C(1000000);
		status = beat(c, NULL); /* the first says that it is ready */
	}
	gq__broker_free(h);
	return status;
}

QueueStatus q_service_unregister(BrokerClient *c)
{
	GQ_NO_CANCEL();
	struct gq_frame f = { .type = GQ_MESSAGE_UNREGISTER };
	struct heard *h;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	if (c->service[0] == '\0')
		return gq__fail(Q_ERR_NOT_FOUND, "this connection has no service");
	gq__frame_set(&f, GQ_TLV_NAME, false, c->service, strlen(c->service));
	gq__frame_set(&f, GQ_TLV_GENERATION, false, &c->generation, sizeof(c->generation));
	status = gq__broker_ask(c, &f, &h);
	gq__broker_free(h);
	if (status == Q_ERR_NOT_FOUND)
		status = gq__fail(Q_ERR_STALE, stale);
	if (status == Q_OK || status == Q_ERR_STALE)
		c->service[0] = '\0';
	return status;
}

/* What lies behind requests in the socket must not wait for all of them: checks, cancellations.
 * gpuqd sends the next descriptor of a region when those before have been read. */
static QueueStatus hear_all(BrokerClient *c)
{
	const QueueStatus status = gq__broker_hear_all(c);

	for (struct heard *h = c->requests.first; h != NULL; h = h->next)
		if (h->fd >= 0)
			(void)gq__broker_map(h); /* if it fails: again when it is its turn */
	c->empty_ns = gq__now_ns();
	return status;
}

QueueStatus q_service_heartbeat(BrokerClient *c, const BrokerLoad *load)
{
	GQ_NO_CANCEL();
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	if (c->service[0] == '\0')
		return gq__fail(Q_ERR_NOT_FOUND, "this connection has no service");
	if (load != NULL && (load->cpu > 1000 || load->memory > 1000))
		return gq__failf(Q_ERR_INVALID_ARG, "cpu is %u, memory is %u; allowed: 0 to 1000",
				 load->cpu, load->memory);
	status = beat(c, load);
	if (status != Q_OK)
		return status;
	return hear_all(c); /* checks are answered, also while one request takes long */
}

QueueStatus q_service_set_health(BrokerClient *c, bool well)
{
	GQ_NO_CANCEL();
	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	c->ill = !well;
	return Q_OK;
}

/* Refusals of answers, mostly: to one that came too late. */
static void drop_others(BrokerClient *c)
{
	struct heard *h;

	while ((h = gq__broker_take(&c->others, 0)) != NULL)
		gq__broker_free(h);
}

static void hand_out(struct heard *h, BrokerRequest *out)
{
	const struct gq_frame *f = &h->frame;
	const struct gq_view *name = &f->tlv[GQ_TLV_NAME];
	const uint64_t us = gq__frame_u64(f, GQ_TLV_TIMEOUT, 0);
	const uint64_t ms = us / 1000 + (us % 1000 != 0);

	*out = (BrokerRequest){ .id = f->correlation,
				.idempotent = (f->flags & GQ_FLAG_IDEMPOTENT) != 0,
				.priority = gq_frame_has(f, GQ_TLV_PRIORITY)
						    ? gq__frame_u8(f, GQ_TLV_PRIORITY)
						    : 128,
				.timeout_ms = ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX,
				.payload = "",
				.frame = h };
	memcpy(out->op, name->data, name->bytes);
	if (h->map != NULL) {
		out->payload = (const uint8_t *)h->map + h->at;
		out->bytes = (size_t)gq__frame_u64(f, GQ_TLV_REGION, 2);
	} else if (gq_frame_has(f, GQ_TLV_PAYLOAD)) {
		out->payload = f->tlv[GQ_TLV_PAYLOAD].data;
		out->bytes = f->tlv[GQ_TLV_PAYLOAD].bytes;
	}
	if (gq_frame_has(f, GQ_TLV_IDEMPOTENCY)) {
		out->key = f->tlv[GQ_TLV_IDEMPOTENCY].data;
		out->key_bytes = f->tlv[GQ_TLV_IDEMPOTENCY].bytes;
	}
}

/* The next request whose bytes can be read here, of batches up to this one. Others are answered:
 * another worker may have room. @return NULL: none has come */
static struct heard *next_request(BrokerClient *c, uint64_t batch)
{
	while (c->requests.first != NULL && c->requests.first->batch <= batch) {
		struct heard *h = gq__broker_take(&c->requests, 0);
		const uint32_t why = gq__broker_map(h);

		if (why == GQ_WIRE_SUCCESS)
			return h;
		gq__broker_refuse(c, h, why);
	}
	return NULL;
}

/* Until it is answered, or the connection is closed. */
static void hold(BrokerClient *c, struct heard *h)
{
	h->next = c->handed;
	h->held = &c->handed;
	if (h->next != NULL)
		h->next->held = &h->next;
	c->handed = h;
}

/* Waits for a request. @param whole  also until all of its batch have come. @return NULL, and
 * `out_status` */
static struct heard *await_request(BrokerClient *c, bool whole, uint32_t timeout_ms,
				   QueueStatus *out_status)
{
	const uint64_t deadline_ns = gq__deadline_ns(timeout_ms);

	for (;;) {
		struct heard *h = next_request(c, whole ? c->whole : UINT64_MAX);
		uint64_t beat_ns;

		if (h != NULL)
			return h;
		beat_ns = gq__broker_beat(c);
		drop_others(c);
		if (c->stale) {
			*out_status = gq__fail(Q_ERR_STALE, stale);
			return NULL;
		}
		if (c->service[0] == '\0') {
			*out_status = gq__fail(Q_ERR_NOT_FOUND, "this connection has no service");
			return NULL;
		}
		*out_status = gq__broker_hear(c, beat_ns < deadline_ns ? beat_ns : deadline_ns);
		if (*out_status == Q_ERR_LOST)
			return NULL;
		if (*out_status == Q_ERR_TIMEOUT && gq__now_ns() >= deadline_ns) {
			*out_status = gq__fail(Q_ERR_TIMEOUT, "no request has come in that time");
			return NULL;
		}
	}
}

QueueStatus q_service_recv(BrokerClient *c, BrokerRequest *out, uint32_t timeout_ms)
{
	GQ_NO_CANCEL();
	QueueStatus status;
	struct heard *h;

	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	h = await_request(c, false, timeout_ms, &status);
	if (h == NULL)
		return status;
	if (h->map != NULL && c->requests.first == NULL)
		(void)hear_all(c); /* what is lost is said by the next call */
	hold(c, h);
	hand_out(h, out);
	return Q_OK;
}

QueueStatus q_service_recv_batch(BrokerClient *c, BrokerRequest *out, size_t room,
				 size_t *out_count, uint32_t timeout_ms)
{
	GQ_NO_CANCEL();
	QueueStatus status;
	struct heard *h;
	bool mapped = false;
	uint64_t batch;
	size_t n = 0;

	if (out_count != NULL)
		*out_count = 0;
	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	if (out == NULL || out_count == NULL)
		return gq__failf(Q_ERR_INVALID_ARG, "%s is NULL",
				 out == NULL ? "out" : "out_count");
	if (room == 0)
		return gq__fail(Q_ERR_INVALID_ARG, "room is 0; allowed: 1 and more");
	h = await_request(c, true, timeout_ms, &status);
	if (h == NULL)
		return status;
	batch = h->batch;
	do {
		mapped = mapped || h->map != NULL;
		hold(c, h);
		hand_out(h, &out[n++]);
	} while (n < room && (h = next_request(c, batch)) != NULL);
	if (mapped && c->requests.first == NULL)
		(void)hear_all(c); /* what is lost is said by the next call */
	*out_count = n;
	return Q_OK;
}

/* Its payload may be what is answered, so not before that has been sent. */
static void drop(BrokerRequest *request)
{
	struct heard *h = request->frame;

	if (h != NULL) {
		*h->held = h->next;
		if (h->next != NULL)
			h->next->held = h->held;
	}
	gq__broker_free(h);
	request->frame = NULL;
	request->payload = NULL;
	request->key = NULL;
	request->key_bytes = 0;
}

static QueueStatus check_reply(uint32_t reason, const void *payload, size_t bytes)
{
	if (reason >= GQ_WIRE_STATUS_END)
		return gq__failf(Q_ERR_INVALID_ARG, "reason is %u; allowed: 0 to %d", reason,
				 GQ_WIRE_STATUS_END - 1);
	if (bytes > Q_BROKER_MAX_BYTES)
		return gq__failf(Q_ERR_INVALID_ARG, "bytes is %zu; allowed: 0 to %u", bytes,
				 Q_BROKER_MAX_BYTES);
	if (payload == NULL && bytes != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "payload is NULL with bytes %zu; allowed: NULL only with bytes 0",
				 bytes);
	return Q_OK;
}

QueueStatus q_service_reply(BrokerClient *c, BrokerRequest *request, uint32_t reason,
			    const void *payload, size_t bytes)
{
	GQ_NO_CANCEL();
	struct gq_frame f = { .type = GQ_MESSAGE_RESPONSE, .flags = GQ_FLAG_CHECKSUM };
	const uint32_t words[4] = { reason, 0, 0, reason != Q_REASON_OVERLOADED };

	QueueStatus status = gq__broker_enter(c);

	if (status == Q_ERR_LOST && request != NULL)
		drop(request);
	if (status != Q_OK)
		return status;
	if (request == NULL || request->frame == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "the request is NULL, or has been answered");
	GQ_RETURN_IF_REFUSED(check_reply(reason, payload, bytes));
	f.correlation = request->id;
	gq__frame_set(&f, GQ_TLV_STATUS, false, words, sizeof(words));
	gq__frame_set(&f, GQ_TLV_PAYLOAD, false, payload, bytes);
	(void)gq__broker_beat(c);
	status = gq__broker_send(c, &f);
	if (status != Q_ERR_TIMEOUT) /* then it can be answered again */
		drop(request);
	if (status == Q_OK && gq__now_ns() >= c->empty_ns + LOOK_NS)
		(void)hear_all(c); /* as above */
	return status;
}
