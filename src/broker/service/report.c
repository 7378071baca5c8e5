/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.c - what the router says about itself: services, counts, changes. As lines of text with
 * tabs between the words, so that any language can read it.
 */
#include "router.h"

#include "host/base/clock.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const states[] = { "gone",       "starting", "ready", "busy",
				      "overloaded", "draining", "failed" };
static const char *const healths[] = { "healthy", "degraded", "unhealthy", "unknown" };

__attribute__((format(printf, 4, 5))) static size_t add(char *text, size_t room, size_t at,
							const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(text + at, room - at, format, args);
	va_end(args);
	if (n < 0 || (size_t)n >= room - at) {
		text[at] = '\0'; /* whole lines, or none */
		return at;
	}
	return at + (size_t)n;
}

size_t report_services(const struct router *r, const struct gq_capability *want, char *text,
		       size_t room)
{
	const struct gq_capability any = { 0 };
	uint32_t places[GQ_SERVICES_MAX];
	const uint32_t n = gq__registry_match(&r->registry, want != NULL ? want : &any, places,
					      GQ_SERVICES_MAX);
	size_t at = 0;

	text[0] = '\0';
	for (uint32_t i = 0; i < n; i++) {
		const struct gq_service *s = &r->registry.services[places[i]];
		const struct served *served = &r->served[places[i]];
		const struct group *g = served->groups != 0 ? r->groups[served->group[0]] : NULL;

		at = add(text, room, at,
			 "%s\t%" PRIu64 "\t%s\t%s\t%s\t%" PRIu32 "\t%" PRIu32 "\t%" PRIu64
			 "\t%" PRIu64 "\t%s\t%" PRIu32 "\n",
			 s->name.text, s->generation, states[s->state], healths[s->health],
			 gq__breaker_state_text(served->breaker.state),
			 g != NULL ? g->balance.members[places[i]].active : 0, served->capacity,
			 served->done, served->faults, g != NULL ? g->name.text : "-",
			 served->limit);
	}
	return at;
}

size_t report_counts(const struct router *r, char *text, size_t room)
{
	const struct counts *c = &r->counts;
	const struct {
		const char *name;
		uint64_t value;
	} lines[] = {
		{ "accepted", c->accepted },
		{ "ok", c->ok },
		{ "failed", c->failed },
		{ "expired", c->expired },
		{ "cancelled", c->cancelled },
		{ "lost", c->lost },
		{ "inside", request_inside(r) },
		{ "refused", c->refused },
		{ "retried", c->retried },
		{ "late", c->late },
		{ "orphans", c->orphans },
		{ "batches", c->batches },
		{ "batched", c->batched },
		{ "bad_frames", c->bad_frames },
		{ "forged", c->forged },
		{ "connections", c->connections },
		{ "connections_refused", c->connections_refused },
		{ "connections_too_often", c->connections_too_often },
		{ "services", r->registry.count },
		{ "waiting", r->admission.count },
		{ "held", r->admission.held },
		{ "cache_hits", r->cache.hits },
		{ "cache_misses", r->cache.misses },
		{ "cache_joined", r->cache.coalesced },
		{ "cache_answers", r->cache.count },
		{ "key_repeats", r->keys.hits + r->keys.coalesced },
		{ "key_conflicts", c->key_conflicts },
		{ "denied", c->denied },
		{ "rate_limited", c->rate_limited },
		{ "keys", r->keys.count + r->keys.running },
		{ "regions", r->regions },
		{ "region_bytes", r->region_bytes },
		{ "described", c->described },
		{ "described_bytes", c->described_bytes },
		{ "copied_bytes", c->copied_bytes },
	};
	size_t at = 0;

	text[0] = '\0';
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		at = add(text, room, at, "%s\t%" PRIu64 "\n", lines[i].name, lines[i].value);
	return at;
}

/* ---- the page -------------------------------------------------------------------------------- */

static void show_service(const struct router *r, uint32_t place, struct page_service *to)
{
	const struct gq_service *s = &r->registry.services[place];
	const struct served *served = &r->served[place];
	const struct group *g = served->groups != 0 ? r->groups[served->group[0]] : NULL;

	snprintf(to->name, sizeof(to->name), "%s", s->name.text);
	snprintf(to->op, sizeof(to->op), "%s", g != NULL ? g->name.text : "-");
	snprintf(to->state, sizeof(to->state), "%s", states[s->state]);
	snprintf(to->health, sizeof(to->health), "%s", healths[s->health]);
	snprintf(to->breaker, sizeof(to->breaker), "%s",
		 gq__breaker_state_text(served->breaker.state));
	to->breaker_changes = served->breaker.transitions;
	to->active = g != NULL ? g->balance.members[place].active : 0;
	to->capacity = served->capacity;
	to->limit = served->limit;
	to->done = served->done;
	to->faults = served->faults;
	to->heard_ns = s->beat_at_ns;
}

static void show_counts(const struct router *r, struct page_services *to)
{
	const struct counts *c = &r->counts;

	to->connections_ever = c->connections;
	to->connections_refused = c->connections_refused;
	to->connections_too_often = c->connections_too_often;
	to->accepted = c->accepted;
	to->ended[PAGE_OK] = c->ok;
	to->ended[PAGE_FAILED] = c->failed;
	to->ended[PAGE_EXPIRED] = c->expired;
	to->ended[PAGE_CANCELLED] = c->cancelled;
	to->ended[PAGE_LOST] = c->lost;
	to->inside = request_inside(r);
	for (uint32_t k = 0; k < PAGE_CLASSES; k++)
		to->waiting[k] = r->admission.in_class[k];
	to->held = r->admission.held;
	to->running = r->admission.running;
	to->late = r->late;
	to->level = r->admission.level;
	to->refused = c->refused;
	to->retried = c->retried;
	to->answers_late = c->late;
	to->orphans = c->orphans;
	to->batches = c->batches;
	to->batched = c->batched;
	to->bad_frames = c->bad_frames;
	to->forged = c->forged;
	to->cache_hits = r->cache.hits;
	to->cache_misses = r->cache.misses;
	to->cache_joined = r->cache.coalesced;
	to->cache_evicted = r->cache.evicted;
	to->cache_answers = r->cache.count;
	to->cache_bytes = r->cache.bytes;
	to->denied = c->denied;
	to->rate_limited = c->rate_limited;
	to->key_repeats = r->keys.hits + r->keys.coalesced;
	to->key_conflicts = c->key_conflicts;
	to->keys = r->keys.count + r->keys.running;
	to->key_bytes = r->keys.bytes;
}

void report_show(struct router *r)
{
	struct page_services *to = &r->shown;

	to->connections = r->connected;
	to->users = to->services = 0;
	for (const struct user *u = r->users; u != NULL; u = u->next)
		to->users++;
	memset(to->service, 0, sizeof(to->service));
	for (uint32_t i = 0; i < GQ_SERVICES_MAX && to->services < PAGE_SERVICES; i++)
		if (r->served[i].peer != NULL)
			show_service(r, i, &to->service[to->services++]);
	show_counts(r, to);
	to->turned_ns = gq__now_ns();
	page_write(r->cfg.page, PAGE_SERVICES_ALL, 0, to);
}

void report_error(struct router *r, const char *format, ...)
{
	char text[PAGE_ERROR_TEXT];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	page_error(&r->shown.errors, text, gq__now_ns());
}

/* ---- watching -------------------------------------------------------------------------------- */

static void tell_all(struct router *r, struct peer *p)
{
	report_services(r, NULL, r->text, sizeof(r->text));
	p->known = r->registry.revision;
	answer_report(r, p, GQ_MESSAGE_WATCH, p->watch, r->text, p->known);
}

static void tell_change(struct router *r, struct peer *p, const struct gq_change *c)
{
	const uint32_t health[2] = { c->state, c->health }, event[2] = { 1, 0 };
	struct gq_frame f = { .type = GQ_MESSAGE_WATCH,
			      .flags = GQ_FLAG_CHECKSUM,
			      .correlation = p->watch };

	gq__frame_set(&f, GQ_TLV_NAME, false, c->name.text, strlen(c->name.text));
	gq__frame_set(&f, GQ_TLV_HEALTH, false, health, sizeof(health));
	gq__frame_set(&f, GQ_TLV_EVENT, false, event, sizeof(event));
	gq__frame_set(&f, GQ_TLV_GENERATION, false, &c->generation, sizeof(c->generation));
	gq__frame_set(&f, GQ_TLV_REVISION, false, &c->revision, sizeof(c->revision));
	(void)peer_send(r, p, &f, 0);
}

void report_watch(struct router *r, struct peer *p, const struct gq_frame *f)
{
	p->watches = true;
	p->watch = f->correlation;
	tell_all(r, p);
}

/* A watcher whose socket is full is told later: the registry keeps what it has not been told, or
 * says that it must be told all. So a slow one costs no memory. */
void report_changes(struct router *r)
{
	struct gq_change change;

	for (struct peer *p = r->peers; p != NULL; p = p->next) {
		while (p->watches && !p->doomed && p->out == NULL) {
			const enum gq_watch_result result =
				gq__registry_next(&r->registry, &p->known, &change);

			if (result == GQ_WATCH_NOTHING)
				break;
			if (result == GQ_WATCH_RESYNC)
				tell_all(r, p);
			else
				tell_change(r, p, &change);
		}
	}
}
