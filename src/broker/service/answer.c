/* SPDX-License-Identifier: Apache-2.0 */
/* answer.c - what the router says of frames themselves: hello, taken, not taken. */
#include "router.h"

#include "host/base/clock.h"

#include <string.h>

static void set_status(struct gq_frame *f, uint32_t words[4], const struct answer *a)
{
	const enum gq_retry_kind kind = gq__retry_kind(a->status, a->seen);

	words[0] = a->status;
	words[1] = kind;
	words[2] = (uint32_t)(a->retry_ns / 1000000 + (a->retry_ns % 1000000 != 0));
	words[3] = a->seen;
	gq__frame_set(f, GQ_TLV_STATUS, false, words, 4 * sizeof(words[0]));
	if (a->text != NULL)
		gq__frame_set(f, GQ_TLV_TEXT, false, a->text, strlen(a->text));
}

static void nack(struct router *r, struct peer *p, uint64_t correlation, const struct answer *a,
		 const uint32_t mismatch[2])
{
	struct gq_frame f = { .type = GQ_MESSAGE_NACK,
			      .flags = GQ_FLAG_CHECKSUM,
			      .correlation = correlation };
	uint32_t words[4];

	set_status(&f, words, a);
	if (mismatch != NULL)
		gq__frame_set(&f, GQ_TLV_MISMATCH, false, mismatch, 2 * sizeof(mismatch[0]));
	(void)peer_send(r, p, &f, 0);
}

void answer_nack(struct router *r, struct peer *p, uint64_t correlation, const struct answer *a)
{
	nack(r, p, correlation, a, NULL);
}

void answer_ack(struct router *r, struct peer *p, uint64_t correlation, uint64_t generation)
{
	struct gq_frame f = { .type = GQ_MESSAGE_ACK,
			      .flags = GQ_FLAG_CHECKSUM,
			      .correlation = correlation };

	gq__frame_set(&f, GQ_TLV_TARGET, false, &correlation, sizeof(correlation));
	if (generation != 0)
		gq__frame_set(&f, GQ_TLV_GENERATION, false, &generation, sizeof(generation));
	(void)peer_send(r, p, &f, 0);
}

void answer_bad_frame(struct router *r, struct peer *p, const struct gq_frame *f,
		      enum gq_frame_status status, size_t bytes)
{
	const struct answer a = { .status = gq__frame_answer(status),
				  .text = gq__frame_status_text(status) };
	const uint32_t mismatch[2] = { GQ_WIRE_VERSION, f->version };
	const bool knows = bytes >= GQ_WIRE_HEADER_BYTES && status != GQ_FRAME_MAGIC;

	r->counts.bad_frames++;
	report_error(r, "a frame was refused: %s", gq__frame_status_text(status));
	nack(r, p, knows ? f->correlation : 0, &a, status == GQ_FRAME_VERSION ? mismatch : NULL);
	if (gq__frame_closes(status) || gq__strikes_add(&p->strikes, gq__now_ns())) {
		if (status != GQ_FRAME_VERSION)
			gq__arrivals_fine(&r->arrivals, p->link.uid, gq__now_ns());
		peer_last_words(r, p);
	}
}

void answer_at_the_door(struct router *r, struct link *l, const struct answer *a)
{
	struct gq_frame f = { .type = GQ_MESSAGE_NACK, .flags = GQ_FLAG_CHECKSUM };
	uint32_t words[4];
	size_t bytes = 0;

	set_status(&f, words, a);
	(void)gq__frame_encode(&f, r->out, sizeof(r->out), &bytes);
	l->transport->refuse(l, r->out, bytes);
}

void answer_hello(struct router *r, struct peer *p, const struct gq_frame *f)
{
	const uint32_t low = gq__frame_u32(f, GQ_TLV_VERSIONS, 0);
	const uint32_t high = gq__frame_u32(f, GQ_TLV_VERSIONS, 1);
	const uint64_t limits[3] = { GQ_WIRE_FRAME_MAX, GQ_WIRE_MESSAGE_MAX, GQ_WIRE_BATCH_MAX };
	const uint64_t features = p->link.transport->passes_regions ? GQ_FEATURE_REGIONS : 0;
	const uint64_t credits[2] = { r->cfg.window, (uint64_t)r->cfg.window * GQ_WIRE_FRAME_MAX };
	struct gq_frame out = { .type = GQ_MESSAGE_HELLO,
				.flags = GQ_FLAG_CHECKSUM | GQ_FLAG_REPLY,
				.correlation = f->correlation };
	uint32_t chosen, versions[2];
	struct answer refused;

	if (!gq__wire_negotiate(low, high, &chosen)) {
		const struct answer a = { .status = GQ_WIRE_UNSUPPORTED,
					  .text = "no version of the protocol that both speak" };
		const uint32_t mismatch[2] = { GQ_WIRE_VERSION, high };

		nack(r, p, f->correlation, &a, mismatch);
		peer_last_words(r, p);
		return;
	}
	if (!token_greet(r, p, f, &refused)) {
		report_error(r, "a connection was refused: %s", refused.text);
		nack(r, p, f->correlation, &refused, NULL);
		peer_last_words(r, p);
		return;
	}
	if (gq_frame_has(f, GQ_TLV_CLIENT))
		memcpy(p->name, f->tlv[GQ_TLV_CLIENT].data, f->tlv[GQ_TLV_CLIENT].bytes);
	p->answers_checks = (gq__frame_u64(f, GQ_TLV_FEATURES, 0) & GQ_FEATURE_CHECKS) != 0;
	p->takes_regions = (gq__frame_u64(f, GQ_TLV_FEATURES, 0) & features) != 0;
	versions[0] = versions[1] = chosen;
	gq__frame_set(&out, GQ_TLV_VERSIONS, false, versions, sizeof(versions));
	gq__frame_set(&out, GQ_TLV_FEATURES, false, &features, sizeof(features));
	gq__frame_set(&out, GQ_TLV_EPOCH, false, &r->epoch, sizeof(r->epoch));
	gq__frame_set(&out, GQ_TLV_LIMITS, false, limits, sizeof(limits));
	gq__frame_set(&out, GQ_TLV_CREDITS, false, credits, sizeof(credits));
	p->greeted = true;
	(void)peer_send(r, p, &out, 0);
}

void answer_report(struct router *r, struct peer *p, uint32_t type, uint64_t correlation,
		   const char *text, uint64_t revision)
{
	struct gq_frame f = { .type = type,
			      .flags = GQ_FLAG_CHECKSUM | GQ_FLAG_REPLY,
			      .correlation = correlation };

	gq__frame_set(&f, GQ_TLV_REPORT, false, text, strlen(text));
	if (type != GQ_MESSAGE_STATS)
		gq__frame_set(&f, GQ_TLV_REVISION, false, &revision, sizeof(revision));
	(void)peer_send(r, p, &f, 0);
}
