/* SPDX-License-Identifier: Apache-2.0 */
/* view.c - all of a page at once, and words for what is in it. */
#include "page.h"

#include <string.h>

const char *const page_outcome_names[PAGE_OUTCOMES] = { "ok", "error", "expired", "cancelled",
							"lost" };
const char *const page_state_names[PAGE_STATES] = { "starting", "serving", "draining" };

bool page_view(const struct page *p, struct page_view *to)
{
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
	for (uint32_t i = 0; i < to->daemon.queues; i++)
		(void)page_read(p, PAGE_QUEUE, i, &to->queue[i]);
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
