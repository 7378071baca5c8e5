/* SPDX-License-Identifier: Apache-2.0 */
/* look.c - which services there are, how that changes, and what gpuqd has counted. */
#include "state.h"

#include "host/base/clock.h"
#include "host/base/error.h"
#include "host/base/sys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- lines of text --------------------------------------------------------------------------- */

static void copy_word(char *to, size_t room, const char *word)
{
	snprintf(to, room, "%s", word);
}

/* One line of a list of services; `line` is cut up. @return false: it is none */
static bool parse_service(char *line, BrokerServiceInfo *out)
{
	char *words[11], *rest = line;
	unsigned n = 0;

	while (n < 11 && (words[n] = strsep(&rest, "\t")) != NULL)
		n++;
	if (n < 10)
		return false;
	*out = (BrokerServiceInfo){ .generation = strtoull(words[1], NULL, 10),
				    .active = (uint32_t)strtoul(words[5], NULL, 10),
				    .capacity = (uint32_t)strtoul(words[6], NULL, 10),
				    .done = strtoull(words[7], NULL, 10),
				    .faults = strtoull(words[8], NULL, 10) };
	/* A gpuqd that learns no limits does not name them. */
	out->limit = n > 10 ? (uint32_t)strtoul(words[10], NULL, 10) : out->capacity;
	copy_word(out->name, sizeof(out->name), words[0]);
	copy_word(out->state, sizeof(out->state), words[2]);
	copy_word(out->health, sizeof(out->health), words[3]);
	copy_word(out->breaker, sizeof(out->breaker), words[4]);
	copy_word(out->op, sizeof(out->op), words[9]);
	return true;
}

static char *text_of(const struct gq_frame *f)
{
	const struct gq_view *report = &f->tlv[GQ_TLV_REPORT];
	const size_t n = gq_frame_has(f, GQ_TLV_REPORT) ? report->bytes : 0;
	char *text = malloc(n + 1);

	if (text == NULL)
		return NULL;
	if (n != 0)
		memcpy(text, report->data, n);
	text[n] = '\0';
	return text;
}

/* ---- discover -------------------------------------------------------------------------------- */

QueueStatus q_broker_discover(BrokerClient *c, const char *filter, BrokerServiceInfo *out,
			      size_t room, size_t *out_count)
{
	GQ_NO_CANCEL();
	struct gq_frame f = { .type = GQ_MESSAGE_DISCOVERY };
	char *text, *line, *rest;
	BrokerServiceInfo one;
	struct heard *h;
	QueueStatus status;

	if (out_count != NULL)
		*out_count = 0;
	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	if (out_count == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out_count is NULL");
	if (out == NULL && room != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "out is NULL with room %zu; allowed: NULL only with room 0", room);
	if (filter != NULL && filter[0] != '\0')
		gq__frame_set(&f, GQ_TLV_FILTER, false, filter, strlen(filter));
	status = gq__broker_ask(c, &f, &h);
	text = status == Q_OK ? text_of(&h->frame) : NULL;
	gq__broker_free(h);
	if (status != Q_OK)
		return status;
	if (text == NULL)
		return gq__fail(Q_ERR_NO_MEMORY, "out of memory");
	rest = text;
	while ((line = strsep(&rest, "\n")) != NULL) {
		if (!parse_service(line, &one))
			continue;
		if (*out_count < room)
			out[*out_count] = one;
		++*out_count;
	}
	free(text);
	return Q_OK;
}

QueueStatus q_broker_stats(BrokerClient *c, char *text, size_t *bytes)
{
	GQ_NO_CANCEL();
	struct gq_frame f = { .type = GQ_MESSAGE_STATS };
	const struct gq_view *report;
	size_t room;
	struct heard *h;
	QueueStatus status;

	GQ_RETURN_IF_REFUSED(gq__broker_enter(c));
	if (bytes == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "bytes is NULL");
	if (text == NULL && *bytes != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "text is NULL with *bytes %zu; allowed: NULL only with 0", *bytes);
	status = gq__broker_ask(c, &f, &h);
	if (status == Q_OK && !gq_frame_has(&h->frame, GQ_TLV_REPORT))
		status = gq__fail(Q_ERR_FAILED, "gpuqd's answer has no report");
	if (status == Q_OK) {
		report = &h->frame.tlv[GQ_TLV_REPORT];
		room = *bytes;
		*bytes = report->bytes + (size_t)1;
		if (room < *bytes) {
			status = gq__failf(Q_ERR_BUFFER_TOO_SMALL,
					   "the text has %zu bytes, the buffer %zu", *bytes, room);
		} else {
			memcpy(text, report->data, report->bytes);
			text[report->bytes] = '\0';
		}
	}
	gq__broker_free(h);
	return status;
}

/* ---- watch ----------------------------------------------------------------------------------- */

static QueueStatus begin_to_watch(BrokerClient *c)
{
	struct gq_frame f = { .type = GQ_MESSAGE_WATCH };
	struct heard *h;
	QueueStatus status;

	if (c->inside != 0 || c->service[0] != '\0')
		return gq__fail(Q_ERR_POLICY, "a connection that watches does nothing else, and "
					      "this one has requests or a service");
	status = gq__broker_ask(c, &f, &h);
	if (status == Q_OK) {
		c->snapshot = c->snapshot_at = text_of(&h->frame);
		if (c->snapshot == NULL)
			status = gq__fail(Q_ERR_NO_MEMORY, "out of memory");
		c->watching = status == Q_OK;
	}
	gq__broker_free(h);
	return status;
}

static bool next_of_snapshot(BrokerClient *c, BrokerServiceInfo *out)
{
	char *line;

	while (c->snapshot != NULL && (line = strsep(&c->snapshot_at, "\n")) != NULL)
		if (parse_service(line, out))
			return true;
	free(c->snapshot);
	c->snapshot = NULL;
	return false;
}

static void read_change(const struct gq_frame *f, BrokerServiceInfo *out)
{
	static const char *const states[] = { "gone",       "starting", "ready", "busy",
					      "overloaded", "draining", "failed" };
	static const char *const healths[] = { "healthy", "degraded", "unhealthy", "unknown" };
	const struct gq_view *name = &f->tlv[GQ_TLV_NAME];
	const uint32_t state = gq__frame_u32(f, GQ_TLV_HEALTH, 0);
	const uint32_t health = gq__frame_u32(f, GQ_TLV_HEALTH, 1);

	*out = (BrokerServiceInfo){ .generation = gq__frame_u64(f, GQ_TLV_GENERATION, 0),
				    .revision = gq__frame_u64(f, GQ_TLV_REVISION, 0) };
	if (gq_frame_has(f, GQ_TLV_NAME))
		memcpy(out->name, name->data, name->bytes);
	copy_word(out->state, sizeof(out->state), state < 7 ? states[state] : "?");
	copy_word(out->health, sizeof(out->health), health < 4 ? healths[health] : "?");
}

QueueStatus q_broker_watch(BrokerClient *c, BrokerServiceInfo *out, uint32_t timeout_ms)
{
	GQ_NO_CANCEL();
	const uint64_t deadline_ns = gq__deadline_ns(timeout_ms);
	QueueStatus status = Q_OK;
	struct heard *h;

	GQ_RETURN_IF_REFUSED(gq__broker_enter_to_watch(c));
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL");
	if (!c->watching)
		status = begin_to_watch(c);
	if (status != Q_OK || next_of_snapshot(c, out))
		return status;
	while ((h = gq__broker_take(&c->others, 0)) == NULL) {
		status = gq__broker_hear(c, deadline_ns);
		if (status == Q_ERR_TIMEOUT)
			return gq__fail(Q_ERR_TIMEOUT, "nothing has changed in that time");
		if (status != Q_OK)
			return status;
	}
	if (gq_frame_has(&h->frame, GQ_TLV_REPORT)) {
		c->snapshot = c->snapshot_at = text_of(&h->frame);
		status = c->snapshot != NULL
				 ? gq__fail(Q_ERR_LAGGED, "changes were missed: begin anew")
				 : gq__fail(Q_ERR_NO_MEMORY, "out of memory");
	} else {
		read_change(&h->frame, out);
	}
	gq__broker_free(h);
	return status;
}
