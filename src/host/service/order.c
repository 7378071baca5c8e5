/* SPDX-License-Identifier: Apache-2.0 */
/* order.c - orders to gpuqd, of whoever runs it. */
#include "state.h"

#include "host/base/error.h"
#include "host/base/sys.h"

#include <stdlib.h>

enum { DAY_MS = 86400000 };

/* @return Q_OK, or what is wrong with it */
static QueueStatus check(const BrokerOrder *o)
{
	const bool about_cache = o->kind >= Q_ORDER_FORGET;

	if (o->kind < Q_ORDER_DRAIN || o->kind > Q_ORDER_FORGET_ALL)
		return gq__failf(Q_ERR_INVALID_ARG, "kind is %u; allowed: %d to %d", o->kind,
				 Q_ORDER_DRAIN, Q_ORDER_FORGET_ALL);
	if (o->kind == Q_ORDER_FORGET_ALL && o->name != NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "Q_ORDER_FORGET_ALL has no name");
	if (o->timeout_ms != 0 && (o->kind != Q_ORDER_DRAIN || o->timeout_ms > DAY_MS))
		return gq__failf(Q_ERR_INVALID_ARG,
				 "timeout_ms is %u; allowed: 0, with Q_ORDER_DRAIN up to %d",
				 o->timeout_ms, DAY_MS);
	if ((o->payload == NULL) != (o->bytes == 0) ||
	    (o->bytes != 0 && o->kind != Q_ORDER_FORGET) || (!about_cache && o->uid != 0))
		return gq__fail(Q_ERR_INVALID_ARG,
				"payload, bytes and uid are of Q_ORDER_FORGET, and payload is not "
				"NULL if bytes is not 0");
	if (o->bytes > Q_BROKER_MAX_BYTES)
		return gq__failf(Q_ERR_INVALID_ARG, "bytes is %zu; allowed: 0 to %u", o->bytes,
				 Q_BROKER_MAX_BYTES);
	if (o->reserved32 != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "reserved32 is %u; allowed: 0", o->reserved32);
	return GQ_CHECK_RESERVED(o, reserved);
}

QueueStatus q_broker_order(BrokerClient *c, const BrokerOrder *order)
{
	GQ_NO_CANCEL();
	struct gq_frame f = { .type = GQ_MESSAGE_ORDER };
	struct heard *h = NULL;
	uint64_t timeout_us;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	if (order == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "order is NULL");
	GQ_RETURN_IF_REFUSED(check(order));
	gq__frame_set(&f, GQ_TLV_ORDER, true, &order->kind, sizeof(order->kind));
	if (order->kind != Q_ORDER_FORGET_ALL &&
	    !gq__broker_name(&f, GQ_TLV_NAME, "name", order->name))
		return Q_ERR_INVALID_ARG;
	timeout_us = order->timeout_ms * UINT64_C(1000);
	if (timeout_us != 0)
		gq__frame_set(&f, GQ_TLV_TIMEOUT, false, &timeout_us, sizeof(timeout_us));
	if (order->kind == Q_ORDER_FORGET) {
		gq__frame_set(&f, GQ_TLV_PAYLOAD, false, order->payload, order->bytes);
		gq__frame_set(&f, GQ_TLV_UID, true, &order->uid, sizeof(order->uid));
	}
	status = gq__broker_ask(c, &f, &h);
	gq__broker_free(h);
	return status;
}
