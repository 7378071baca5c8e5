/* SPDX-License-Identifier: Apache-2.0 */
/* show.c - what there is to see of connections and queues: counts for the page. */
#include "session.h"
#include "supervise.h"

#include "host/base/clock.h"

#include <stdarg.h>

enum page_refusal show_refused(struct broker *b, QueueStatus status)
{
	enum page_refusal why = PAGE_REFUSED_UNSUPPORTED;

	switch (status) {
	case Q_ERR_LIMIT:
	case Q_ERR_NO_MEMORY:
		why = PAGE_REFUSED_LIMIT;
		break;
	case Q_ERR_NOT_FOUND:
		why = PAGE_REFUSED_NOT_FOUND;
		break;
	case Q_ERR_POLICY:
		why = PAGE_REFUSED_POLICY;
		break;
	case Q_ERR_INVALID_ARG:
		why = PAGE_REFUSED_INVALID;
		break;
	default:
		break;
	}
	b->counts.refused[why]++;
	return why;
}

void show_error(struct broker *b, const char *format, ...)
{
	char text[BROKER_ERROR_ROOM];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	page_error(&b->counts.errors, text, gq__now_ns());
}

void show_ended(struct broker *b, uint32_t detail)
{
	if (detail == LINK_GONE_BROKEN) {
		b->counts.broken++;
		show_error(b, "a client has broken the protocol");
	}
	if (detail == LINK_GONE_LOST) {
		b->counts.lost++;
		show_error(b, "a client has lost its queue, which has failed");
	}
	if (detail >= LINK_GONE_REFUSED && detail < LINK_GONE_REFUSED + PAGE_REFUSALS)
		b->counts.refused[detail - LINK_GONE_REFUSED]++;
}

/* ---- queues of one client each --------------------------------------------------------------- */

static void add_counts(struct page_queue *to, const struct page_queue *from)
{
	to->clients_ever += from->clients_ever;
	to->bytes_in += from->bytes_in;
	to->bytes_out += from->bytes_out;
	to->seconds_ns += from->seconds_ns;
	if (from->seconds_max_ns > to->seconds_max_ns)
		to->seconds_max_ns = from->seconds_max_ns;
	for (uint32_t k = 0; k < PAGE_CLASSES; k++) {
		to->accepted[k] += from->accepted[k];
		for (uint32_t i = 0; i < PAGE_OUTCOMES; i++)
			to->ended[k][i] += from->ended[k][i];
	}
	for (uint32_t i = 0; i < HISTOGRAM_BUCKETS; i++)
		to->seconds[i] += from->seconds[i];
}

void show_gone(struct broker *b, const struct session *s, const struct page_queue *last)
{
	struct page_queue **gone = &b->gone[s->queue - b->cfg.queue];

	if (b->cfg.page == NULL)
		return;
	if (*gone == NULL)
		*gone = calloc(1, sizeof(**gone));
	if (*gone != NULL)
		add_counts(*gone, last);
}

/* As far as the dispatchers have told it: a client's counts are those of the last time. */
static void show_own(struct broker *b, uint32_t index)
{
	const struct broker_queue *cfg = &b->cfg.queue[index];
	struct page_queue *sum = &b->sum, *one = &b->one;

	*sum = b->gone[index] != NULL ? *b->gone[index] : (struct page_queue){ .clients = 0 };
	snprintf(sum->name, sizeof(sum->name), "%s", cfg->name);
	broker_tell_processor(sum->processor, sizeof(sum->processor), cfg->processor);
	snprintf(sum->process, sizeof(sum->process), "%s", cfg->process);
	sum->failed = 0;
	sum->per_client = 1;
	sum->capacity = cfg->capacity;
	sum->window = cfg->window;
	sum->slot_bytes = cfg->slot_bytes;
	sum->result_bytes = cfg->result_bytes;
	for (const struct session *s = b->sessions; s != NULL; s = s->next) {
		if (!s->own_dispatcher || s->dispatcher == NULL || s->queue != cfg)
			continue;
		dispatcher_counts(s->dispatcher, one);
		dispatcher_show(s->dispatcher, NULL, 0);
		add_counts(sum, one);
		sum->running += one->running;
		for (uint32_t k = 0; k < PAGE_CLASSES; k++)
			sum->inside[k] += one->inside[k];
		if (sum->clients < PAGE_CLIENTS)
			sum->client[sum->clients] = one->client[0];
		sum->clients += one->clients;
	}
	sum->turned_ns = gq__now_ns();
	page_write(b->cfg.page, PAGE_QUEUE, index, sum);
}

/* ---- all ------------------------------------------------------------------------------------- */

void show_counts(struct broker *b)
{
	struct page_clients *c = &b->counts;

	if (b->cfg.page == NULL)
		return;
	c->connections = c->bytes = c->slots = 0;
	for (const struct session *s = b->sessions; s != NULL; s = s->next) {
		c->connections++;
		if (s->state == SESSION_NEW)
			continue; /* nothing has been granted; `memory` is not the reactor's alone
				   */
		c->bytes += s->bytes;
		c->slots += s->slots;
	}
	for (uint32_t i = 0; i < b->cfg.queues; i++) {
		if (!broker_has(&b->cfg, i))
			continue;
		if (b->dispatcher[i] != NULL)
			dispatcher_show(b->dispatcher[i], b->cfg.page, i);
		else
			show_own(b, i);
	}
	if (b->cfg.link != 0)
		return; /* gpuqd itself knows of all connections */
	supervise_show(b);
	c->turned_ns = gq__now_ns();
	page_write(b->cfg.page, PAGE_CLIENTS_OF_QUEUES, 0, c);
}
