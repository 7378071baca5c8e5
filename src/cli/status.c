/* SPDX-License-Identifier: Apache-2.0 */
/* status.c - `gpuq status`: how a gpuqd stands, from its page of counts, whether it lives or not.
 */
#define _GNU_SOURCE
#include "cli.h"
#include "daemon.h"

#include "program/amounts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char status_help[] =
	"Usage: gpuq status [OPTION...] [SOCKET]\n"
	"\n"
	"Show how a gpuqd stands: its queues, clients and services, and what it has counted. It "
	"is\n"
	"read from a page of shared memory, so also of a gpuqd that hangs (stale) or has died.\n"
	"Always accepted = ok + error + expired + cancelled + lost + inside.\n"
	"\n" DAEMON_HELP "\n"
	"  -j, --json  one line of JSON, for programs\n"
	"  -h, --help  show this text\n"
	"\n"
	"Exit codes:\n"
	"  0  shown, and gpuqd serves\n"
	"  1  shown, and gpuqd is stale, dead, draining, or a part of it hangs or has failed\n"
	"  2  wrong usage\n"
	"  3  the output could not be written\n"
	"  4  there is no page of counts\n";

/* ---- text ------------------------------------------------------------------------------------ */

void status_head(const struct look *l, char *line, size_t room)
{
	const struct page_daemon *d = &l->v.daemon;
	char age[16], up[16];

	format_duration(age, sizeof(age), l->age_ns);
	format_clock(up, sizeof(up), (d->turned_ns - d->started_ns) / 1000000000);
	if (l->dead)
		snprintf(line, room,
			 "gpuqd %s, process %" PRIu64 ", DEAD: its last counts, after %s",
			 d->version, d->pid, up);
	else if (l->stale)
		snprintf(line, room,
			 "gpuqd %s, process %" PRIu64 ", STALE: it has not moved for %s",
			 d->version, d->pid, age);
	else
		snprintf(line, room, "gpuqd %s, process %" PRIu64 ", %s for %s", d->version, d->pid,
			 daemon_state(l), up);
}

static void quantiles(const uint64_t buckets[HISTOGRAM_BUCKETS], uint64_t max, char text[3][16])
{
	static struct histogram h;

	histogram_load(&h, buckets, max);
	format_duration(text[0], 16, histogram_quantile(&h, 50, 100));
	format_duration(text[1], 16, histogram_quantile(&h, 99, 100));
	format_duration(text[2], 16, max);
}

static void sum_classes(const struct page_queue *q, uint64_t ended[PAGE_OUTCOMES])
{
	memset(ended, 0, PAGE_OUTCOMES * sizeof(*ended));
	for (uint32_t k = 0; k < PAGE_CLASSES; k++)
		for (uint32_t i = 0; i < PAGE_OUTCOMES; i++)
			ended[i] += q->ended[k][i];
}

static void show_queue(const struct look *l, const struct page_queue *q)
{
	const char *state = q->failed != 0                                            ? "failed"
			    : daemon_hangs(l, q->turned_ns, l->v.daemon.queues_ended) ? "hangs"
										      : "serves";
	uint64_t ended[PAGE_OUTCOMES];
	char times[3][16];

	sum_classes(q, ended);
	quantiles(q->seconds, q->seconds_max_ns, times);
	printf("%-16s %-10s %-7s %7" PRIu64 " %11" PRIu64, q->name,
	       q->processor[0] != '\0' ? q->processor : "(any)", state, q->clients,
	       page_sum(q->accepted));
	for (uint32_t i = 0; i < PAGE_OUTCOMES; i++)
		printf(" %9" PRIu64, ended[i]);
	printf(" %7" PRIu64 "  %8s %8s %8s\n", page_sum(q->inside), times[0], times[1], times[2]);
}

static void show_processes(const struct look *l)
{
	const struct page_clients *c = &l->v.clients;

	printf("\n%-16s %-8s %8s %8s %7s %7s  %s\n", "process", "state", "pid", "since", "starts",
	       "ends", "the last end");
	for (uint64_t i = 0; i < c->processes; i++) {
		const struct page_process *p = &c->process[i];
		char since[16];

		format_clock(since, sizeof(since), (c->turned_ns - p->since_ns) / 1000000000);
		printf("%-16s %-8s %8" PRIu64 " %8s %7" PRIu64 " %7" PRIu64 "  %s\n", p->name,
		       page_process_state_names[p->state], p->pid, since, p->starts, p->ends,
		       p->why);
	}
}

static void show_queues(const struct look *l)
{
	const struct page_clients *c = &l->v.clients;
	uint64_t refused = 0;
	char bytes[16];

	for (uint32_t i = 0; i < PAGE_REFUSALS; i++)
		refused += c->refused[i];
	printf("\nqueues at %s: %" PRIu64 " connections, %" PRIu64 " ever, %" PRIu64
	       " refused, %" PRIu64 " broken, %s shared%s\n",
	       l->v.daemon.socket, c->connections, c->connections_ever, refused, c->broken,
	       format_bytes(bytes, sizeof(bytes), (double)c->bytes),
	       daemon_hangs(l, c->turned_ns, l->v.daemon.queues_ended) ? "; their thread HANGS"
								       : "");
	printf("%-16s %-10s %-7s %7s %11s %9s %9s %9s %9s %9s %7s  %8s %8s %8s\n", "queue",
	       "processor", "state", "clients", "accepted", "ok", "error", "expired", "cancelled",
	       "lost", "inside", "p50", "p99", "max");
	for (uint64_t i = 0; i < l->v.daemon.queues; i++)
		show_queue(l, &l->v.queue[i]);
	if (c->processes != 0)
		show_processes(l);
}

static void show_services(const struct look *l)
{
	const struct page_services *s = &l->v.services;
	char times[3][16];

	quantiles(s->seconds, s->seconds_max_ns, times);
	printf("\nservices at %s: %" PRIu64 " connections, %" PRIu64 " accepted, %" PRIu64
	       " ok, %" PRIu64 " error, %" PRIu64 " expired, %" PRIu64 " cancelled, %" PRIu64
	       " lost, %" PRIu64 " inside, %" PRIu64 " refused; p50 %s, p99 %s, max %s%s\n",
	       l->v.daemon.services, s->connections, s->accepted, s->ended[PAGE_OK],
	       s->ended[PAGE_FAILED], s->ended[PAGE_EXPIRED], s->ended[PAGE_CANCELLED],
	       s->ended[PAGE_LOST], s->inside, s->refused, times[0], times[1], times[2],
	       daemon_hangs(l, s->turned_ns, l->v.daemon.services_ended) ? "; their thread HANGS"
									 : "");
	printf("%-20s %-20s %-10s %-10s %-11s %9s %5s %10s %7s\n", "service", "op", "state",
	       "health", "breaker", "active", "limit", "done", "faults");
	for (uint64_t i = 0; i < s->services; i++) {
		const struct page_service *one = &s->service[i];

		printf("%-20s %-20s %-10s %-10s %-11s %4" PRIu64 "/%-4" PRIu64 " %5" PRIu64
		       " %10" PRIu64 " %7" PRIu64 "\n",
		       one->name, one->op, one->state, one->health, one->breaker, one->active,
		       one->capacity, one->limit, one->done, one->faults);
	}
}

void status_text(const struct look *l)
{
	const struct page_daemon *d = &l->v.daemon;
	char line[200];

	status_head(l, line, sizeof(line));
	printf("%s\n", line);
	if (d->config[0] != '\0')
		printf("configuration %s: %" PRIu64 " reloads, %" PRIu64 " refused%s%s\n",
		       d->config, d->reloads, d->reloads_failed,
		       d->reload_error[0] != '\0' ? "; the last: " : "", d->reload_error);
	if (d->queues != 0)
		show_queues(l);
	if (d->services[0] != '\0')
		show_services(l);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

void status_json_text(const char *name, const char *text)
{
	printf("\"%s\":\"", name);
	for (; *text != '\0'; text++) {
		if (*text == '"' || *text == '\\')
			printf("\\%c", *text);
		else if ((unsigned char)*text < ' ' || (unsigned char)*text > '~')
			printf("\\u%04x", (unsigned char)*text); /* no text here is UTF-8 */
		else
			putchar(*text);
	}
	putchar('"');
}

static void json_number(const char *name, uint64_t value)
{
	printf(",\"%s\":%" PRIu64, name, value);
}

static void json_ended(const uint64_t ended[PAGE_OUTCOMES])
{
	for (uint32_t i = 0; i < PAGE_OUTCOMES; i++)
		json_number(page_outcome_names[i], ended[i]);
}

static void json_times(const uint64_t buckets[HISTOGRAM_BUCKETS], uint64_t sum, uint64_t max)
{
	static struct histogram h;

	histogram_load(&h, buckets, max);
	json_number("time_count", h.count);
	json_number("time_sum_ns", sum);
	json_number("time_p50_ns", histogram_quantile(&h, 50, 100));
	json_number("time_p99_ns", histogram_quantile(&h, 99, 100));
	json_number("time_p999_ns", histogram_quantile(&h, 999, 1000));
	json_number("time_max_ns", max);
}

static void json_clients(const struct page_queue *q)
{
	printf(",\"client\":[");
	for (uint64_t i = 0; i < q->clients && i < PAGE_CLIENTS; i++)
		printf("%s{\"pid\":%" PRIu64 ",\"uid\":%" PRIu64 ",\"accepted\":%" PRIu64
		       ",\"ended\":%" PRIu64 ",\"inside\":%" PRIu64 "}",
		       i != 0 ? "," : "", q->client[i].pid, q->client[i].uid, q->client[i].accepted,
		       q->client[i].ended, q->client[i].inside);
	printf("]");
}

static void json_queue(const struct look *l, const struct page_queue *q)
{
	uint64_t ended[PAGE_OUTCOMES];

	sum_classes(q, ended);
	putchar('{');
	status_json_text("name", q->name);
	putchar(',');
	status_json_text("processor", q->processor);
	putchar(',');
	status_json_text("process", q->process);
	printf(",\"per_client\":%s,\"failed\":%s,\"hangs\":%s",
	       q->per_client != 0 ? "true" : "false", q->failed != 0 ? "true" : "false",
	       daemon_hangs(l, q->turned_ns, l->v.daemon.queues_ended) ? "true" : "false");
	json_number("capacity", q->capacity);
	json_number("window", q->window);
	json_number("clients", q->clients);
	json_number("clients_ever", q->clients_ever);
	json_number("accepted", page_sum(q->accepted));
	json_ended(ended);
	json_number("inside", page_sum(q->inside));
	json_number("running", q->running);
	json_number("bytes_in", q->bytes_in);
	json_number("bytes_out", q->bytes_out);
	json_times(q->seconds, q->seconds_ns, q->seconds_max_ns);
	json_clients(q);
	putchar('}');
}

static void json_processes(const struct page_clients *c, uint64_t now_ns)
{
	for (uint64_t i = 0; i < c->processes; i++) {
		const struct page_process *p = &c->process[i];

		printf("%s{", i != 0 ? "," : "");
		status_json_text("name", p->name);
		putchar(',');
		status_json_text("state", page_process_state_names[p->state]);
		json_number("pid", p->pid);
		json_number("since_ns", now_ns - p->since_ns);
		json_number("starts", p->starts);
		json_number("ends", p->ends);
		putchar(',');
		status_json_text("last_end", p->why);
		putchar('}');
	}
}

static void json_service(const struct page_service *s)
{
	putchar('{');
	status_json_text("name", s->name);
	putchar(',');
	status_json_text("op", s->op);
	putchar(',');
	status_json_text("state", s->state);
	putchar(',');
	status_json_text("health", s->health);
	putchar(',');
	status_json_text("breaker", s->breaker);
	json_number("active", s->active);
	json_number("capacity", s->capacity);
	json_number("limit", s->limit);
	json_number("done", s->done);
	json_number("faults", s->faults);
	putchar('}');
}

static void json_services(const struct look *l)
{
	const struct page_services *s = &l->v.services;

	printf(",\"services\":{");
	status_json_text("socket", l->v.daemon.services);
	printf(",\"hangs\":%s",
	       daemon_hangs(l, s->turned_ns, l->v.daemon.services_ended) ? "true" : "false");
	json_number("connections", s->connections);
	json_number("connections_ever", s->connections_ever);
	json_number("accepted", s->accepted);
	json_ended(s->ended);
	json_number("inside", s->inside);
	json_number("refused", s->refused);
	json_number("retried", s->retried);
	json_number("batches", s->batches);
	json_number("batched", s->batched);
	json_number("waiting", page_sum(s->waiting));
	json_number("held", s->held);
	json_number("running", s->running);
	json_number("level", s->level);
	json_number("bad_frames", s->bad_frames);
	json_number("forged", s->forged);
	json_number("cache_hits", s->cache_hits);
	json_number("cache_misses", s->cache_misses);
	json_number("cache_joined", s->cache_joined);
	json_number("cache_answers", s->cache_answers);
	json_number("key_repeats", s->key_repeats);
	json_number("key_conflicts", s->key_conflicts);
	json_number("keys", s->keys);
	json_times(s->seconds, s->seconds_ns, s->seconds_max_ns);
	printf(",\"service\":[");
	for (uint64_t i = 0; i < s->services; i++) {
		if (i != 0)
			putchar(',');
		json_service(&s->service[i]);
	}
	printf("]}");
}

void status_json(const struct look *l)
{
	static const char *const refusals[] = { "limit",  "not_found", "unsupported",
						"policy", "invalid",   "rate" };
	const struct page_daemon *d = &l->v.daemon;
	const struct page_clients *c = &l->v.clients;

	putchar('{');
	status_json_text("version", d->version);
	json_number("pid", d->pid);
	putchar(',');
	status_json_text("state", daemon_state(l));
	json_number("age_ns", l->age_ns);
	json_number("up_ns", d->turned_ns - d->started_ns);
	putchar(',');
	status_json_text("config", d->config);
	json_number("reloads", d->reloads);
	json_number("reloads_failed", d->reloads_failed);
	putchar(',');
	status_json_text("reload_error", d->reload_error);
	printf(",\"clients\":{");
	status_json_text("socket", d->socket);
	printf(",\"hangs\":%s",
	       l->v.has_clients && daemon_hangs(l, c->turned_ns, l->v.daemon.queues_ended)
		       ? "true"
		       : "false");
	json_number("connections", c->connections);
	json_number("connections_ever", c->connections_ever);
	json_number("shared_bytes", c->bytes);
	json_number("broken", c->broken);
	json_number("lost", c->lost);
	json_number("silent", c->silent);
	for (uint32_t i = 0; i < PAGE_REFUSALS; i++) {
		printf("%s", i == 0 ? ",\"refused\":{" : ",");
		printf("\"%s\":%" PRIu64, refusals[i], c->refused[i]);
	}
	printf("}},\"queues\":[");
	for (uint64_t i = 0; i < d->queues; i++) {
		if (i != 0)
			putchar(',');
		json_queue(l, &l->v.queue[i]);
	}
	printf("],\"processes\":[");
	json_processes(c, c->turned_ns);
	putchar(']');
	if (d->services[0] != '\0')
		json_services(l);
	printf("}\n");
}

/* ---- the command ----------------------------------------------------------------------------- */

static bool is_well(const struct look *l)
{
	if (strcmp(daemon_state(l), page_state_names[PAGE_SERVES]) != 0 ||
	    (l->v.has_clients &&
	     daemon_hangs(l, l->v.clients.turned_ns, l->v.daemon.queues_ended)) ||
	    (l->v.has_services &&
	     daemon_hangs(l, l->v.services.turned_ns, l->v.daemon.services_ended)))
		return false;
	for (uint64_t i = 0; i < l->v.daemon.queues; i++)
		if (l->v.queue[i].failed != 0 ||
		    daemon_hangs(l, l->v.queue[i].turned_ns, l->v.daemon.queues_ended))
			return false;
	return true;
}

int cmd_status(int argc, char **argv)
{
	static struct look l; /* large */
	bool json;
	const int code = daemon_look_once("status", status_help, argc, argv, &l, &json);

	if (code >= 0)
		return code;
	if (json)
		status_json(&l);
	else
		status_text(&l);
	return is_well(&l) ? CLI_OK : CLI_MESSAGES_FAILED;
}
