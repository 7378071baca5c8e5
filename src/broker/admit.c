/* SPDX-License-Identifier: Apache-2.0 */
/* admit.c - which client may have which queue, and how much of it. */
#include "session.h"

#include "host/base/clock.h"

#include <inttypes.h>

#define REFUSE(status, ...) (snprintf(text, GQ_WIRE_TEXT, __VA_ARGS__), (status))

/* ---- quotas ---------------------------------------------------------------------------------- */

bool admit_connection(const struct broker *b, uid_t uid)
{
	uint32_t n = 0;

	for (const struct session *s = b->sessions; s != NULL; s = s->next)
		n += s->uid == uid;
	return n < b->cfg.uid_connections;
}

bool admit_arrival(struct broker *b, uid_t uid, char text[GQ_WIRE_TEXT])
{
	uint64_t retry_ns;

	if (gq__arrivals_pass(&b->arrivals, uid, gq__now_ns(), &retry_ns))
		return true;
	snprintf(text, GQ_WIRE_TEXT,
		 "user %u connects too often; allowed: %" PRIu32 " times a second "
		 "(uid_connect_rate), after %" PRIu32
		 " at once (uid_connect_burst); the next in %" PRIu64 " ms",
		 uid, b->cfg.uid_connect_rate, b->cfg.uid_connect_burst, retry_ns / 1000000 + 1);
	return false;
}

/* Of those whose tokens come from the same one. */
static QueueStatus check_pinned(const struct session *s, char text[GQ_WIRE_TEXT])
{
	uint64_t bytes = s->charged;

	if (!s->has_rights || s->rights.pinned == 0)
		return Q_OK;
	for (const struct session *other = s->b->sessions; other != NULL; other = other->next)
		if (other != s && other->has_rights &&
		    memcmp(other->rights.id, s->rights.id, sizeof(s->rights.id)) == 0)
			bytes += other->charged;
	if (bytes > s->rights.pinned)
		return REFUSE(Q_ERR_LIMIT,
			      "clients with this token would have %" PRIu64
			      " bytes of shared memory; allowed: %" PRIu64 " (the token)",
			      bytes, s->rights.pinned);
	return Q_OK;
}

static QueueStatus check_quota(struct session *s, char text[GQ_WIRE_TEXT])
{
	const struct broker_config *cfg = &s->b->cfg;
	uint64_t bytes = s->charged, slots = s->slots;

	for (const struct session *other = s->b->sessions; other != NULL; other = other->next) {
		if (other == s || other->uid != s->uid)
			continue;
		bytes += other->charged;
		slots += other->slots;
	}
	if (bytes > cfg->uid_bytes)
		return REFUSE(Q_ERR_LIMIT,
			      "user %u would have %" PRIu64
			      " bytes of shared memory; allowed: %" PRIu64 " (uid_bytes)",
			      s->uid, bytes, cfg->uid_bytes);
	if (slots > cfg->uid_slots)
		return REFUSE(Q_ERR_LIMIT,
			      "user %u would have %" PRIu64 " slots; allowed: %" PRIu64
			      " (uid_slots)",
			      s->uid, slots, cfg->uid_slots);
	return check_pinned(s, text);
}

/* ---- what it asks for ------------------------------------------------------------------------ */

static const struct broker_queue *find_queue(const struct broker_config *cfg, const char *name)
{
	for (uint32_t i = 0; i < cfg->queues; i++)
		if (strcmp(cfg->queue[i].name, name) == 0)
			return &cfg->queue[i];
	return NULL;
}

static bool is_path(const char *name)
{
	const size_t n = strlen(name);

	return strchr(name, '/') != NULL || (n > 3 && strcmp(name + n - 3, ".so") == 0) ||
	       (n > 3 && strcmp(name + n - 3, ".cu") == 0) ||
	       (n > 4 && strcmp(name + n - 4, ".ptx") == 0) ||
	       (n > 6 &&
		(strcmp(name + n - 6, ".cubin") == 0 || strcmp(name + n - 7, ".fatbin") == 0));
}

static QueueStatus check_processor(const struct session *s, char text[GQ_WIRE_TEXT])
{
	const struct broker_queue *q = s->queue;
	const char *asked = s->hello.processor;

	if (q->processor[0] != '\0') {
		if (asked[0] == '\0' || strcmp(asked, q->processor) == 0)
			return Q_OK;
		return REFUSE(
			Q_ERR_UNSUPPORTED,
			"queue '%s' runs the processor '%.120s', and the client asks for '%.120s'",
			q->name, q->processor, asked);
	}
	if (asked[0] == '\0')
		return REFUSE(Q_ERR_UNSUPPORTED,
			      "queue '%s' runs the processor that its client names, and the client "
			      "names none",
			      q->name);
	if (is_path(asked)) /* gpuqd loads no code that a client chooses */
		return REFUSE(
			Q_ERR_POLICY,
			"processor is '%.200s'; allowed: the name of one that is built into gpuqd",
			asked);
	return Q_OK;
}

static QueueStatus check_size(const struct session *s, char text[GQ_WIRE_TEXT])
{
	const struct broker_queue *q = s->queue;
	const struct gq_wire_hello *h = &s->hello;

	if (h->slot_bytes > q->slot_bytes)
		return REFUSE(Q_ERR_LIMIT,
			      "slot_bytes is %" PRIu32 "; allowed on queue '%s': 1 to %" PRIu32,
			      h->slot_bytes, q->name, q->slot_bytes);
	if (h->result_bytes > q->result_bytes)
		return REFUSE(Q_ERR_LIMIT,
			      "result_bytes is %" PRIu32 "; allowed on queue '%s': 1 to %" PRIu32,
			      h->result_bytes, q->name, q->result_bytes);
	if (h->data_bytes != 0 && !q->per_client)
		return REFUSE(Q_ERR_UNSUPPORTED,
			      "processor_data_bytes is %" PRIu64
			      "; allowed on queue '%s', which its clients share: 0",
			      h->data_bytes, q->name);
	return Q_OK;
}

/* gpuqd has looked at it, where the queue is another process's. */
static QueueStatus check_token(struct session *s, char text[GQ_WIRE_TEXT])
{
	char why[RIGHTS_TEXT];

	if (s->queue->token == 0 || s->b->cfg.link != 0)
		return Q_OK;
	s->has_rights = rights_check(&s->b->cfg.token, s->token, s->token_bytes, s->uid,
				     s->queue->name, &s->rights, why);
	return s->has_rights ? Q_OK : REFUSE(Q_ERR_POLICY, "%s", why);
}

/* It says which there are, as far as there is room; but not of those that need a token. */
static QueueStatus refuse_queue(const struct session *s, char text[GQ_WIRE_TEXT])
{
	const struct broker_config *cfg = &s->b->cfg;
	const size_t most = GQ_WIRE_TEXT - GQ_WIRE_NAME - sizeof(", ...");
	const char *between = "; there is ";
	size_t at;

	snprintf(text, GQ_WIRE_TEXT, "there is no queue '%.63s'", s->hello.queue);
	at = strlen(text);
	for (uint32_t i = 0; i < cfg->queues; i++) {
		if (cfg->queue[i].token != 0)
			continue;
		if (at > most) {
			snprintf(text + at, GQ_WIRE_TEXT - at, ", ...");
			break;
		}
		at += (size_t)snprintf(text + at, GQ_WIRE_TEXT - at, "%s%s", between,
				       cfg->queue[i].name);
		between = ", ";
	}
	return Q_ERR_NOT_FOUND;
}

QueueStatus admit(struct session *s, char text[GQ_WIRE_TEXT])
{
	QueueStatus status;

	if (!gq_remote_fits(&s->hello))
		return REFUSE(Q_ERR_INVALID_ARG, "the client's greeting makes no sense");
	s->queue = find_queue(&s->b->cfg, s->hello.queue);
	if (s->queue == NULL)
		return refuse_queue(s, text);
	status = check_token(s, text);
	if (status == Q_OK)
		status = check_processor(s, text);
	if (status == Q_OK)
		status = check_size(s, text);
	s->bytes = gq_remote_lay_out(&s->hello).bytes;
	s->charged = s->bytes;
	if (s->queue->per_client) /* its queue is as large, and two threads have a message each */
		s->charged +=
			s->bytes + 2 * ((uint64_t)s->hello.slot_bytes + s->hello.result_bytes);
	s->slots = s->hello.capacity;
	s->window = s->queue->window;
	if (status == Q_OK)
		status = check_quota(s, text);
	return status;
}
