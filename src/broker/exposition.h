/* SPDX-License-Identifier: Apache-2.0 */
/* exposition.h - the page of counts as metrics. */
#ifndef GPUQ_BROKER_EXPOSITION_H
#define GPUQ_BROKER_EXPOSITION_H

#include "broker/page/page.h"
#include "program/metrics.h"

/* Every series that there will be is there from the start, with 0: those of queues only with
 * `queues`, those of services only with `services`. */
void exposition_write(const struct page_view *v, uint64_t now_ns, bool queues, bool services,
		      struct metrics_page *out);

/* Whether new requests may go to a service. */
bool exposition_is_up(const struct page_service *s);

#endif /* GPUQ_BROKER_EXPOSITION_H */
