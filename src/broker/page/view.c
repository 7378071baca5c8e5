/* SPDX-License-Identifier: Apache-2.0 */
/* view.c - all of a page at once, and words for what is in it. */
#include "page.h"

#include <stdio.h>
#include <string.h>

const char *const page_outcome_names[PAGE_OUTCOMES] = { "ok", "error", "expired", "cancelled",
							"lost" };
const char *const page_state_names[PAGE_STATES] = { "starting", "serving", "draining" };
const char *const page_process_state_names[PAGE_PROCESS_STATES] = { "starting", "serving", "down" };

/* @return how many bytes at `at` are one character of UTF-8 that can be shown; 0: none */
static size_t shown(const unsigned char *at, size_t room)
{
	static const uint32_t least[5] = { 0, 0, 0xa0, 0x800, 0x10000 }; /* 0x80 to 0x9f: orders */
	const size_t n = at[0] < 0x80   ? 1
			 : at[0] < 0xc2 ? 0
			 : at[0] < 0xe0 ? 2
			 : at[0] < 0xf0 ? 3
			 : at[0] < 0xf5 ? 4
					: 0;
	uint32_t code = at[0] & (0x7fU >> n);

	if (n == 1)
		return at[0] >= ' ' && at[0] != 0x7f ? 1 : 0;
	if (n > room)
		return 0;
	for (size_t i = 1; i < n; i++) {
		if ((at[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (at[i] & 0x3f);
	}
	return code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000) ? 0 : n;
}

/* A text ends, and says nothing to a terminal but what it looks like. */
static void clean(char *text, size_t room)
{
	text[room - 1] = '\0';
	for (size_t i = 0, length = strlen(text); i < length;) {
		const size_t n = shown((const unsigned char *)text + i, length - i);

		if (n == 0)
			text[i] = '?';
		i += n != 0 ? n : 1;
	}
}

#define CLEAN(text) clean(text, sizeof(text))

static void clean_daemon(struct page_daemon *d)
{
	CLEAN(d->version);
	CLEAN(d->socket);
	CLEAN(d->services);
	CLEAN(d->config);
	CLEAN(d->reload_error);
}

static void clean_process(struct page_process *p)
{
	CLEAN(p->name);
	CLEAN(p->why);
	if (p->state >= PAGE_PROCESS_STATES)
		p->state = PAGE_PROCESS_DOWN;
}

void page_error(struct page_errors *all, const char *text, uint64_t now_ns)
{
	struct page_error *place = &all->error[0];
	char cut[PAGE_ERROR_TEXT];

	snprintf(cut, sizeof(cut), "%s", text);
	all->times++;
	for (struct page_error *e = all->error; e < all->error + PAGE_ERRORS; e++) {
		if (e->times != 0 && strcmp(e->text, cut) == 0) {
			e->times++;
			e->last_ns = now_ns;
			return;
		}
		if (e->last_ns < place->last_ns) /* a free one has 0 */
			place = e;
	}
	memcpy(place->text, cut, sizeof(place->text));
	place->times = 1;
	place->first_ns = place->last_ns = now_ns;
}

static void clean_errors(struct page_errors *e)
{
	for (uint32_t i = 0; i < PAGE_ERRORS; i++)
		CLEAN(e->error[i].text);
}

static void clean_service(struct page_service *s)
{
	CLEAN(s->name);
	CLEAN(s->op);
	CLEAN(s->state);
	CLEAN(s->health);
	CLEAN(s->breaker);
}

bool page_view(const struct page *p, struct page_view *to)
{
	uint32_t n = 0;

	memset(to, 0, sizeof(*to));
	if (!page_read(p, PAGE_DAEMON, 0, &to->daemon))
		return false;
	to->has_clients = page_read(p, PAGE_CLIENTS_OF_QUEUES, 0, &to->clients);
	to->has_services = page_read(p, PAGE_SERVICES_ALL, 0, &to->services);
	if (to->daemon.queues > PAGE_QUEUES)
		to->daemon.queues = PAGE_QUEUES;
	if (to->daemon.state >= PAGE_STATES)
		to->daemon.state = PAGE_STARTS;
	if (to->services.services > PAGE_SERVICES)
		to->services.services = PAGE_SERVICES;
	if (to->clients.processes > PAGE_PROCESSES)
		to->clients.processes = PAGE_PROCESSES;
	clean_daemon(&to->daemon);
	for (uint64_t i = 0; i < to->clients.processes; i++)
		clean_process(&to->clients.process[i]);
	clean_errors(&to->clients.errors);
	clean_errors(&to->services.errors);
	for (uint64_t i = 0; i < to->services.services; i++)
		clean_service(&to->services.service[i]);
	for (uint32_t i = 0; i < to->daemon.queues; i++) {
		struct page_queue *q = &to->queue[n];

		if (!page_read(p, PAGE_QUEUE, i, q))
			continue;
		CLEAN(q->name);
		CLEAN(q->processor);
		CLEAN(q->process);
		n++;
	}
	to->daemon.queues = n;
	return true;
}

uint64_t page_ended(const uint64_t ended[PAGE_OUTCOMES])
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < PAGE_OUTCOMES; i++)
		sum += ended[i];
	return sum;
}

uint64_t page_sum(const uint64_t of_class[PAGE_CLASSES])
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < PAGE_CLASSES; i++)
		sum += of_class[i];
	return sum;
}
