/* SPDX-License-Identifier: Apache-2.0 */
/* exposition.c - the page of counts as metrics, with the names that docs/guide/broker.md lists. */
#include "exposition.h"

#include "broker/policy/breaker.h"

#include <math.h>
#include <string.h>

static const char *const queue_classes[PAGE_CLASSES] = { "low", "normal", "high", "urgent" };
static const char *const request_classes[PAGE_CLASSES] = { "critical", "high", "normal", "low" };
static const char *const refusals[PAGE_REFUSALS] = { "limit",  "not_found", "unsupported",
						     "policy", "invalid",   "rate" };

static void one(struct metrics_page *p, const char *name, const char *type, const char *help,
		double value)
{
	metrics_begin(p, name, type, help);
	metrics_value(p, name, NULL, NULL, value);
}

/* Seconds from then to now; NaN: there was no then. */
static double age(uint64_t then_ns, uint64_t now_ns)
{
	if (then_ns == 0)
		return NAN;
	return now_ns > then_ns ? (double)(now_ns - then_ns) * 1e-9 : 0;
}

static struct metrics_labels label(const char *name, const char *text)
{
	struct metrics_labels l = { .used = 0 };

	metrics_label(&l, name, text);
	return l;
}

static struct metrics_labels plus(struct metrics_labels l, const char *name, const char *text)
{
	metrics_label(&l, name, text);
	return l;
}

/* ---- the daemon ------------------------------------------------------------------------------ */

static void write_daemon(const struct page_view *v, uint64_t now_ns, struct metrics_page *p)
{
	const struct page_daemon *d = &v->daemon;

	metrics_begin(p, "gpuq_build_info", "gauge", "The version that runs.");
	metrics_value(p, "gpuq_build_info", "version", d->version, 1);
	one(p, "gpuq_uptime_seconds", "gauge", "How long gpuqd has been running.",
	    age(d->started_ns, now_ns));
	metrics_begin(p, "gpuq_state", "gauge", "1 for the state that gpuqd is in.");
	for (uint32_t i = 0; i < PAGE_STATES; i++)
		metrics_value(p, "gpuq_state", "state", page_state_names[i], d->state == i);
	metrics_begin(p, "gpuq_reloads_total", "counter",
		      "Reloads of the configuration, by what became of them.");
	metrics_value(p, "gpuq_reloads_total", "outcome", "ok", (double)d->reloads);
	metrics_value(p, "gpuq_reloads_total", "outcome", "error", (double)d->reloads_failed);
	metrics_begin(p, "gpuq_turn_age_seconds", "gauge",
		      "How long ago a thread has last said that it turns.");
	if (v->has_clients)
		metrics_value(p, "gpuq_turn_age_seconds", "thread", "reactor",
			      age(v->clients.turned_ns, now_ns));
	if (v->has_services)
		metrics_value(p, "gpuq_turn_age_seconds", "thread", "router",
			      age(v->services.turned_ns, now_ns));
	for (uint32_t i = 0; i < d->queues; i++) {
		const struct metrics_labels l =
			plus(label("thread", "queue"), "queue", v->queue[i].name);

		metrics_labelled(p, "gpuq_turn_age_seconds", &l,
				 age(v->queue[i].turned_ns, now_ns));
	}
}

/* ---- connections to queues ------------------------------------------------------------------- */

static void write_processes(const struct page_clients *c, struct metrics_page *p)
{
	metrics_begin(p, "gpuq_process_up", "gauge", "1: the process for queues serves.");
	for (uint64_t i = 0; i < c->processes; i++)
		metrics_value(p, "gpuq_process_up", "process", c->process[i].name,
			      c->process[i].state == PAGE_PROCESS_SERVES);
	metrics_begin(p, "gpuq_process_starts_total", "counter",
		      "Times that a process for queues has been started.");
	for (uint64_t i = 0; i < c->processes; i++)
		metrics_value(p, "gpuq_process_starts_total", "process", c->process[i].name,
			      (double)c->process[i].starts);
	metrics_begin(p, "gpuq_process_ends_total", "counter",
		      "Times that a process for queues has ended by itself, or was killed.");
	for (uint64_t i = 0; i < c->processes; i++)
		metrics_value(p, "gpuq_process_ends_total", "process", c->process[i].name,
			      (double)c->process[i].ends);
}

static void write_clients(const struct page_clients *c, struct metrics_page *p)
{
	one(p, "gpuq_connections", "gauge", "Connections to queues.", (double)c->connections);
	one(p, "gpuq_connections_accepted_total", "counter", "Connections to queues, ever.",
	    (double)c->connections_ever);
	metrics_begin(p, "gpuq_connections_refused_total", "counter",
		      "Connections to queues that were refused, by the reason.");
	for (uint32_t i = 0; i < PAGE_REFUSALS; i++)
		metrics_value(p, "gpuq_connections_refused_total", "reason", refusals[i],
			      (double)c->refused[i]);
	metrics_begin(p, "gpuq_connections_ended_total", "counter",
		      "Connections to queues that gpuqd has ended, by the reason.");
	metrics_value(p, "gpuq_connections_ended_total", "reason", "broken", (double)c->broken);
	metrics_value(p, "gpuq_connections_ended_total", "reason", "lost", (double)c->lost);
	metrics_value(p, "gpuq_connections_ended_total", "reason", "silent", (double)c->silent);
	one(p, "gpuq_accept_failures_total", "counter",
	    "Times that gpuqd had no descriptor for a connection.", (double)c->accept_failures);
	write_processes(c, p);
	one(p, "gpuq_shared_bytes", "gauge", "Memory shared with clients.", (double)c->bytes);
	one(p, "gpuq_client_slots", "gauge", "Slots in memory shared with clients.",
	    (double)c->slots);
}

/* ---- queues ---------------------------------------------------------------------------------- */

/* A value of each queue. */
static void of_queues(const struct page_view *v, struct metrics_page *p, const char *name,
		      const char *type, const char *help, size_t offset)
{
	metrics_begin(p, name, type, help);
	for (uint32_t i = 0; i < v->daemon.queues; i++) {
		uint64_t value;

		memcpy(&value, (const uint8_t *)&v->queue[i] + offset, sizeof(value));
		metrics_value(p, name, "queue", v->queue[i].name, (double)value);
	}
}

/* A value of each class of each queue. */
static void of_classes(const struct page_view *v, struct metrics_page *p, const char *name,
		       const char *type, const char *help, size_t offset)
{
	metrics_begin(p, name, type, help);
	for (uint32_t i = 0; i < v->daemon.queues; i++) {
		const struct metrics_labels queue = label("queue", v->queue[i].name);
		uint64_t values[PAGE_CLASSES];

		memcpy(values, (const uint8_t *)&v->queue[i] + offset, sizeof(values));
		for (uint32_t k = 0; k < PAGE_CLASSES; k++) {
			const struct metrics_labels l = plus(queue, "class", queue_classes[k]);

			metrics_labelled(p, name, &l, (double)values[k]);
		}
	}
}

static void write_requests(const struct page_view *v, struct metrics_page *p)
{
	metrics_begin(p, "gpuq_requests_total", "counter",
		      "Messages that have ended, by what became of them.");
	for (uint32_t i = 0; i < v->daemon.queues; i++) {
		for (uint32_t k = 0; k < PAGE_CLASSES; k++) {
			const struct metrics_labels class =
				plus(label("queue", v->queue[i].name), "class", queue_classes[k]);

			for (uint32_t o = 0; o < PAGE_OUTCOMES; o++) {
				const struct metrics_labels l =
					plus(class, "outcome", page_outcome_names[o]);

				metrics_labelled(p, "gpuq_requests_total", &l,
						 (double)v->queue[i].ended[k][o]);
			}
		}
	}
	metrics_begin(p, "gpuq_request_seconds", "histogram",
		      "From the claim of a message to its completion.");
	for (uint32_t i = 0; i < v->daemon.queues; i++) {
		const struct metrics_labels l = label("queue", v->queue[i].name);

		metrics_log_linear(p, "gpuq_request_seconds", &l, v->queue[i].seconds,
				   (double)v->queue[i].seconds_ns);
	}
}

static void write_queues(const struct page_view *v, struct metrics_page *p)
{
	static const struct {
		const char *name, *type, *help;
		size_t offset;
	} each[] = {
		{ "gpuq_queue_clients", "gauge", "Clients of a queue.",
		  offsetof(struct page_queue, clients) },
		{ "gpuq_clients_served_total", "counter", "Clients of a queue, ever.",
		  offsetof(struct page_queue, clients_ever) },
		{ "gpuq_inflight", "gauge", "Messages in gpuqd's own queue.",
		  offsetof(struct page_queue, running) },
		{ "gpuq_queue_capacity", "gauge", "Messages that gpuqd's own queue has room for.",
		  offsetof(struct page_queue, capacity) },
		{ "gpuq_queue_window", "gauge",
		  "Messages of one client in gpuqd's own queue, at most.",
		  offsetof(struct page_queue, window) },
		{ "gpuq_queue_failed", "gauge", "1: the device of the queue has failed.",
		  offsetof(struct page_queue, failed) },
		{ "gpuq_received_bytes_total", "counter", "Bytes of messages claimed.",
		  offsetof(struct page_queue, bytes_in) },
		{ "gpuq_sent_bytes_total", "counter", "Bytes of results.",
		  offsetof(struct page_queue, bytes_out) },
	};

	of_classes(v, p, "gpuq_accepted_total", "counter", "Messages claimed from clients.",
		   offsetof(struct page_queue, accepted));
	of_classes(v, p, "gpuq_queue_depth", "gauge",
		   "Messages claimed and not ended; counted one by one.",
		   offsetof(struct page_queue, inside));
	write_requests(v, p);
	for (size_t i = 0; i < sizeof(each) / sizeof(each[0]); i++)
		of_queues(v, p, each[i].name, each[i].type, each[i].help, each[i].offset);
}

/* ---- services -------------------------------------------------------------------------------- */

static void write_router(const struct page_services *s, struct metrics_page *p)
{
	static const struct metrics_labels none = { .used = 0 };

	one(p, "gpuq_service_accepted_total", "counter", "Requests to services that were accepted.",
	    (double)s->accepted);
	metrics_begin(
		p, "gpuq_service_requests_total", "counter",
		"Requests to services, by what became of them; refused ones were not accepted.");
	for (uint32_t i = 0; i < PAGE_OUTCOMES; i++)
		metrics_value(p, "gpuq_service_requests_total", "outcome", page_outcome_names[i],
			      (double)s->ended[i]);
	metrics_value(p, "gpuq_service_requests_total", "outcome", "refused", (double)s->refused);
	metrics_begin(p, "gpuq_service_request_seconds", "histogram",
		      "From the coming of an accepted request to its end.");
	metrics_log_linear(p, "gpuq_service_request_seconds", &none, s->seconds,
			   (double)s->seconds_ns);
	one(p, "gpuq_service_inside", "gauge",
	    "Requests accepted and not ended; counted one by one.", (double)s->inside);
	one(p, "gpuq_service_running", "gauge", "Requests that workers have.", (double)s->running);
	metrics_begin(p, "gpuq_service_queue_depth", "gauge", "Requests that wait for a worker.");
	for (uint32_t k = 0; k < PAGE_CLASSES; k++)
		metrics_value(p, "gpuq_service_queue_depth", "class", request_classes[k],
			      (double)s->waiting[k]);
	one(p, "gpuq_service_held", "gauge",
	    "Of these, requests whose users have as much at work as they may (user_percent).",
	    (double)s->held);
	one(p, "gpuq_backpressure_level", "gauge",
	    "How full what waits is: 0 none, 1 soft, 2 low priority is refused, 3 nearly all is.",
	    (double)s->level);
	one(p, "gpuq_retries_total", "counter", "Attempts after the first.", (double)s->retried);
	one(p, "gpuq_late_responses_total", "counter", "Answers to requests that had ended.",
	    (double)s->answers_late);
	one(p, "gpuq_orphan_responses_total", "counter", "Answers that nothing waits for.",
	    (double)s->orphans);
	one(p, "gpuq_batches_total", "counter",
	    "Batches that were made of requests and sent to a worker.", (double)s->batches);
	one(p, "gpuq_batched_requests_total", "counter", "Requests in them.", (double)s->batched);
	one(p, "gpuq_cache_hits_total", "counter", "Requests that the cache answered.",
	    (double)s->cache_hits);
	one(p, "gpuq_cache_misses_total", "counter", "Requests that asked the cache, and ran.",
	    (double)s->cache_misses);
	one(p, "gpuq_cache_coalesced_total", "counter",
	    "Requests that got the answer of the same one, which ran already.",
	    (double)s->cache_joined);
	one(p, "gpuq_cache_evictions_total", "counter", "Answers that others took the place of.",
	    (double)s->cache_evicted);
	one(p, "gpuq_cache_answers", "gauge", "Answers in the cache.", (double)s->cache_answers);
	one(p, "gpuq_cache_bytes", "gauge", "Their bytes.", (double)s->cache_bytes);
	one(p, "gpuq_denied_total", "counter",
	    "What a token did not allow: connections, requests, registrations.", (double)s->denied);
	one(p, "gpuq_rate_limited_total", "counter", "Requests above the rate of a token.",
	    (double)s->rate_limited);
	one(p, "gpuq_idempotency_repeats_total", "counter",
	    "Requests whose key of idempotency had had its run.", (double)s->key_repeats);
	one(p, "gpuq_idempotency_conflicts_total", "counter",
	    "Requests with a key that another request had.", (double)s->key_conflicts);
	one(p, "gpuq_idempotency_keys", "gauge", "Keys that are remembered, or run.",
	    (double)s->keys);
	metrics_begin(p, "gpuq_frames_rejected_total", "counter",
		      "Frames that were no good, or not of the peer that they came from.");
	metrics_value(p, "gpuq_frames_rejected_total", "reason", "frame", (double)s->bad_frames);
	metrics_value(p, "gpuq_frames_rejected_total", "reason", "peer", (double)s->forged);
	one(p, "gpuq_service_connections", "gauge", "Connections of callers and workers.",
	    (double)s->connections);
	one(p, "gpuq_service_connections_accepted_total", "counter",
	    "Connections of callers and workers, ever.", (double)s->connections_ever);
	metrics_begin(
		p, "gpuq_service_connections_refused_total", "counter",
		"Connections to services that were refused; rate: their user connects too often.");
	metrics_value(p, "gpuq_service_connections_refused_total", "reason", "limit",
		      (double)s->connections_refused);
	metrics_value(p, "gpuq_service_connections_refused_total", "reason", "rate",
		      (double)s->connections_too_often);
	one(p, "gpuq_services", "gauge", "Services that are registered.", (double)s->services);
}

bool exposition_is_up(const struct page_service *s)
{
	return (strcmp(s->state, "ready") == 0 || strcmp(s->state, "busy") == 0) &&
	       (strcmp(s->health, "healthy") == 0 || strcmp(s->health, "degraded") == 0);
}

/* A value of each service. */
static void of_services(const struct page_services *all, struct metrics_page *p, const char *name,
			const char *type, const char *help, size_t offset)
{
	metrics_begin(p, name, type, help);
	for (uint64_t i = 0; i < all->services; i++) {
		uint64_t value;

		memcpy(&value, (const uint8_t *)&all->service[i] + offset, sizeof(value));
		metrics_value(p, name, "service", all->service[i].name, (double)value);
	}
}

static void write_breakers(const struct page_services *all, struct metrics_page *p)
{
	metrics_begin(p, "gpuq_breaker_state", "gauge", "1 for the state of a service's breaker.");
	for (uint64_t i = 0; i < all->services; i++) {
		for (uint32_t k = 0; k < GQ_BREAKER_STATES; k++) {
			const char *state = gq__breaker_state_text((enum gq_breaker_state)k);
			const struct metrics_labels l =
				plus(label("service", all->service[i].name), "state", state);

			metrics_labelled(p, "gpuq_breaker_state", &l,
					 strcmp(all->service[i].breaker, state) == 0);
		}
	}
}

static void write_services(const struct page_services *all, uint64_t now_ns, struct metrics_page *p)
{
	metrics_begin(p, "gpuq_service_up", "gauge", "1: new requests may go to the service.");
	for (uint64_t i = 0; i < all->services; i++)
		metrics_value(p, "gpuq_service_up", "service", all->service[i].name,
			      exposition_is_up(&all->service[i]));
	metrics_begin(p, "gpuq_heartbeat_age_seconds", "gauge",
		      "How long ago a service was heard.");
	for (uint64_t i = 0; i < all->services; i++)
		metrics_value(p, "gpuq_heartbeat_age_seconds", "service", all->service[i].name,
			      age(all->service[i].heard_ns, now_ns));
	write_breakers(all, p);
	of_services(all, p, "gpuq_breaker_transitions_total", "counter",
		    "Changes of state of a service's breaker.",
		    offsetof(struct page_service, breaker_changes));
	of_services(all, p, "gpuq_service_active", "gauge", "Requests that a service has.",
		    offsetof(struct page_service, active));
	of_services(all, p, "gpuq_concurrency_limit", "gauge",
		    "Requests that a service gets at once, at most.",
		    offsetof(struct page_service, limit));
	of_services(all, p, "gpuq_service_capacity", "gauge",
		    "Requests that a service takes at once, as it says.",
		    offsetof(struct page_service, capacity));
	of_services(all, p, "gpuq_service_done_total", "counter",
		    "Attempts that a service answered.", offsetof(struct page_service, done));
	of_services(all, p, "gpuq_service_faults_total", "counter",
		    "Attempts that a service failed.", offsetof(struct page_service, faults));
}

void exposition_write(const struct page_view *v, uint64_t now_ns, bool queues, bool services,
		      struct metrics_page *out)
{
	write_daemon(v, now_ns, out);
	if (queues) {
		write_clients(&v->clients, out);
		write_queues(v, out);
	}
	if (services) {
		write_router(&v->services, out);
		write_services(&v->services, now_ns, out);
	}
}
