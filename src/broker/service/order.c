/* SPDX-License-Identifier: Apache-2.0 */
/*
 * order.c - what whoever runs gpuqd orders while it runs: services drain, breakers open and close,
 * answers of the cache go. Takes orders from gpuqd's own user and from root, as the kernel names
 * them, and of these only from whose token allows it, where tokens are needed.
 */
#include "router.h"

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/netlink.h"

#include <gpuq/gpuq.h>

#include <string.h>
#include <unistd.h>

static void refuse(struct router *r, struct peer *p, const struct gq_frame *f,
		   enum gq_wire_status status, const char *text)
{
	answer_nack(r, p, f->correlation, &(struct answer){ .status = status, .text = text });
	report_error(r, "an order was refused: %s", text);
}

/* ---- breakers -------------------------------------------------------------------------------- */

static struct held_breaker *held_breaker(struct router *r, const char *name, uid_t uid)
{
	for (uint32_t i = 0; i < r->holds; i++)
		if (strcmp(r->held[i].name.text, name) == 0 && r->held[i].uid == uid)
			return &r->held[i];
	return NULL;
}

void order_breaker(struct router *r, uint32_t place)
{
	struct served *s = &r->served[place];
	const struct held_breaker *h =
		held_breaker(r, r->registry.services[place].name.text, s->peer->link.uid);

	if (h != NULL)
		gq__breaker_force(&s->breaker, h->state, gq__now_ns(), &r->random);
}

/* @return false: there is no room */
static bool hold_breaker(struct router *r, uint32_t place, enum gq_breaker_state state)
{
	const struct gq_name *name = &r->registry.services[place].name;
	const uid_t uid = r->served[place].peer->link.uid;
	struct held_breaker *h = held_breaker(r, name->text, uid);

	if (h == NULL && r->holds == HELD_BREAKERS)
		return false;
	if (h == NULL)
		h = &r->held[r->holds++];
	*h = (struct held_breaker){ .name = *name, .uid = uid, .state = state };
	return true;
}

/* Of whatever user. @return whether there was one */
static bool release_breaker(struct router *r, const struct gq_view *name)
{
	const uint32_t before = r->holds;

	for (uint32_t i = 0; i < r->holds;) {
		const char *text = r->held[i].name.text;

		if (strlen(text) == name->bytes && memcmp(text, name->data, name->bytes) == 0)
			r->held[i] = r->held[--r->holds];
		else
			i++;
	}
	return r->holds != before;
}

/* ---- services -------------------------------------------------------------------------------- */

/* @return whether the token is for all ops that the service does */
static bool is_allowed(const struct router *r, const struct peer *p, uint32_t place)
{
	const struct served *s = &r->served[place];

	for (uint32_t i = 0; i < s->groups; i++)
		if (!token_names(p, r->groups[s->group[i]]->name.text))
			return false;
	return true;
}

/* @return NULL, or why not */
static const char *obey(struct router *r, uint32_t place, enum gq_order order, uint64_t sessions_ns)
{
	const uint64_t now_ns = gq__now_ns();
	enum gq_breaker_state state = GQ_BREAKER_CLOSED;
	struct served *s = &r->served[place];

	switch (order) {
	case GQ_ORDER_DRAIN:
		(void)gq__registry_stop(&r->registry, place, s->generation, GQ_SERVICE_DRAINING);
		s->sessions_until_ns = now_ns + sessions_ns;
		if (s->sessions_until_ns > r->sessions_until_ns)
			r->sessions_until_ns = s->sessions_until_ns;
		return NULL;
	case GQ_ORDER_RESUME:
		(void)gq__registry_resume(&r->registry, place, s->generation);
		s->sessions_until_ns = 0;
		return NULL;
	case GQ_ORDER_BREAKER_OPEN:
	case GQ_ORDER_BREAKER_CLOSE:
		state = order == GQ_ORDER_BREAKER_OPEN ? GQ_BREAKER_FORCED : GQ_BREAKER_DISABLED;
		if (!hold_breaker(r, place, state))
			return "128 breakers are held: reset some";
		break;
	default:
		break;
	}
	gq__breaker_force(&s->breaker, state, now_ns, &r->random);
	return NULL;
}

static void order_service(struct router *r, struct peer *p, const struct gq_frame *f,
			  enum gq_order order)
{
	const struct gq_view *name = &f->tlv[GQ_TLV_NAME];
	const uint32_t place = gq_frame_has(f, GQ_TLV_NAME)
				       ? gq__registry_find(&r->registry, name->data, name->bytes)
				       : UINT32_MAX;
	const uint64_t most_us = UINT64_C(86400000000);
	const char *why;
	uint64_t sessions_us =
		gq_frame_has(f, GQ_TLV_TIMEOUT) ? gq__frame_u64(f, GQ_TLV_TIMEOUT, 0) : 0;

	if (place == UINT32_MAX) {
		/* Its order holds on, for whoever registers the name. */
		if (order == GQ_ORDER_BREAKER_RESET && gq_frame_has(f, GQ_TLV_NAME) &&
		    token_names(p, NULL) && release_breaker(r, name))
			answer_ack(r, p, f->correlation, 0);
		else
			refuse(r, p, f, GQ_WIRE_NOT_FOUND, "there is no such service");
		return;
	}
	if (!is_allowed(r, p, place)) {
		refuse(r, p, f, GQ_WIRE_DENIED, "the token is not for all ops of this service");
		return;
	}
	sessions_us = sessions_us < most_us ? sessions_us : most_us;
	if (order == GQ_ORDER_BREAKER_RESET)
		(void)release_breaker(r, name);
	why = obey(r, place, order, sessions_us * 1000);
	if (why != NULL) {
		refuse(r, p, f, GQ_WIRE_OVERLOADED, why);
		return;
	}
	registered_sync(r, place);
	answer_ack(r, p, f->correlation, r->served[place].generation);
}

/* ---- the cache ------------------------------------------------------------------------------- */

static void order_cache(struct router *r, struct peer *p, const struct gq_frame *f,
			enum gq_order order)
{
	const struct gq_view *name = &f->tlv[GQ_TLV_NAME];
	char op[GQ_WIRE_NAME_MAX + 1] = { 0 };
	const char *why = NULL;

	if (gq_frame_has(f, GQ_TLV_NAME))
		memcpy(op, name->data, name->bytes);
	if (!token_names(p, order != GQ_ORDER_FORGET_ALL ? op : NULL)) {
		refuse(r, p, f, GQ_WIRE_DENIED, "the token is not for this op");
		return;
	}
	if (order == GQ_ORDER_FORGET_ALL)
		reuse_forget_all(r);
	else if (order == GQ_ORDER_FORGET_OP)
		why = reuse_forget_op(r, op);
	else
		why = reuse_forget_one(r, p, op, f);
	if (why != NULL)
		refuse(r, p, f, GQ_WIRE_NOT_FOUND, why);
	else
		answer_ack(r, p, f->correlation, 0);
}

/* ---- who, and what --------------------------------------------------------------------------- */

void order_obey(struct router *r, struct peer *p, const struct gq_frame *f)
{
	const uint32_t order = gq__frame_u32(f, GQ_TLV_ORDER, 0);
	const struct gq_view *name = &f->tlv[GQ_TLV_NAME];
	struct answer denied;

	/* Nobody in particular is whoever has no other number in gpuqd's user namespace. */
	if (p->link.uid != 0 && (p->link.uid != geteuid() || p->link.uid == gq__netlink_nobody())) {
		refuse(r, p, f, GQ_WIRE_DENIED, "orders are taken from gpuqd's own user and root");
		return;
	}
	if (!token_may_order(r, p, &denied)) {
		refuse(r, p, f, denied.status, denied.text);
		return;
	}
	if (order < GQ_ORDER_DRAIN || order >= GQ_ORDER_END) {
		refuse(r, p, f, GQ_WIRE_UNSUPPORTED, "this gpuqd does not know that order");
		return;
	}
	if (order < GQ_ORDER_FORGET)
		order_service(r, p, f, (enum gq_order)order);
	else
		order_cache(r, p, f, (enum gq_order)order);
	gq__log(Q_LOG_INFO, "gpuqd: user %u orders: %s %.*s", (unsigned)p->link.uid,
		gq__order_text((enum gq_order)order),
		gq_frame_has(f, GQ_TLV_NAME) ? (int)name->bytes : 0,
		gq_frame_has(f, GQ_TLV_NAME) ? (const char *)name->data : "");
}
