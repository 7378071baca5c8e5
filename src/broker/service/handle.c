/* SPDX-License-Identifier: Apache-2.0 */
/* handle.c - what to do with a frame that is good. */
#include "router.h"

static void discover(struct router *r, struct peer *p, const struct gq_frame *f)
{
	struct gq_capability want = { 0 };

	if (gq_frame_has(f, GQ_TLV_FILTER)) {
		const struct gq_view *filter = &f->tlv[GQ_TLV_FILTER];
		const enum gq_capability_status status = gq__capability_parse(
			(const char *)filter->data, filter->bytes, &want, NULL);

		if (status != GQ_CAPABILITY_OK) {
			answer_nack(r, p, f->correlation,
				    &(struct answer){ .status = GQ_WIRE_INVALID,
						      .text = gq__capability_status_text(status) });
			return;
		}
	}
	report_services(r, gq_frame_has(f, GQ_TLV_FILTER) ? &want : NULL, r->text, sizeof(r->text));
	answer_report(r, p, GQ_MESSAGE_DISCOVERY, f->correlation, r->text, r->registry.revision);
}

static void stats(struct router *r, struct peer *p, const struct gq_frame *f)
{
	char text[4096];

	report_counts(r, text, sizeof(text));
	answer_report(r, p, GQ_MESSAGE_STATS, f->correlation, text, 0);
}

void handle_frame(struct router *r, struct peer *p, const struct gq_frame *f)
{
	switch (f->type) {
	case GQ_MESSAGE_HELLO:
		answer_hello(r, p, f);
		return;
	case GQ_MESSAGE_REGISTER:
		registered_register(r, p, f);
		return;
	case GQ_MESSAGE_UNREGISTER:
		registered_unregister(r, p, f);
		return;
	case GQ_MESSAGE_HEARTBEAT:
		registered_heartbeat(r, p, f);
		return;
	case GQ_MESSAGE_HEALTH_RESPONSE:
		registered_checked(r, p, f);
		return;
	case GQ_MESSAGE_DISCOVERY:
		discover(r, p, f);
		return;
	case GQ_MESSAGE_WATCH:
		report_watch(r, p, f);
		return;
	case GQ_MESSAGE_REQUEST:
		request_submit(r, p, f);
		return;
	case GQ_MESSAGE_BATCH_REQUEST:
		batch_submit(r, p, f);
		return;
	case GQ_MESSAGE_RESPONSE:
		request_answered(r, p, f);
		return;
	case GQ_MESSAGE_CANCEL:
		request_cancel(r, p, gq__frame_u64(f, GQ_TLV_TARGET, 0));
		return;
	case GQ_MESSAGE_STATS:
		stats(r, p, f);
		return;
	case GQ_MESSAGE_ORDER:
		order_obey(r, p, f);
		return;
	case GQ_MESSAGE_REGION:
		region_asked(r, p, f);
		return;
	case GQ_MESSAGE_ACK:
	case GQ_MESSAGE_NACK:
	case GQ_MESSAGE_ERROR:
		return; /* nothing of ours is waited for */
	default:
		answer_nack(r, p, f->correlation,
			    &(struct answer){ .status = GQ_WIRE_UNSUPPORTED,
					      .text = "this gpuqd does not do that" });
	}
}
