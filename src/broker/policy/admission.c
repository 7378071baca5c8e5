/* SPDX-License-Identifier: Apache-2.0 */
/* admission.c - one table of requests, and the order in which they go. */
#include "admission.h"

#include <stdlib.h>
#include <string.h>

#define NONE        UINT32_MAX
#define SECOND      UINT64_C(1000000000)
#define RETRY_LEAST UINT64_C(1000000)
#define RETRY_MOST  UINT64_C(5000000000)

enum {
	COST_MOST = 256,
	FLOW_QUANTUM = 4,
	AGE_FACTOR = 4,
	PLACES_MOST = 1 << 20,
	AGAIN_LOOK = 256, /* place_in() */
};

enum entry_state { FREE, WAITING, RUNNING, TOLD };
enum charge { TO_SERVICE, TO_CLASS, TO_ALL };

struct gq_admission_entry {
	struct gq_request request;
	uint64_t arrived_ns;
	uint64_t entered_ns; /* its class */
	uint64_t deadline_ns;
	uint64_t sequence;
	uint32_t life; /* raised whenever the place becomes free */
	enum entry_state state;
	enum gq_class class;
	enum gq_class arrival_class;
	enum charge charge;
	uint32_t flow;
	uint32_t in_heap;
	uint32_t next; /* of its flow, or among the free */
	uint32_t before;
	uint32_t younger; /* of its class */
	uint32_t older;
};

/* The waiting requests of one user, of one service and class. */
struct gq_admission_flow {
	struct gq_list entries;
	int64_t deficit;
	uint32_t service;
	uint32_t uid;
	enum gq_class class;
	uint32_t count; /* of entries */
	bool held;      /* then it is in no round */
	uint32_t next;  /* in the round, or among the free */
	uint32_t before;
	uint32_t chain_next;
};

enum gq_class gq__class_of(uint8_t priority)
{
	if (priority == UINT8_MAX)
		return GQ_CLASS_CRITICAL;
	if (priority >= 192)
		return GQ_CLASS_HIGH;
	return priority >= 128 ? GQ_CLASS_NORMAL : GQ_CLASS_LOW;
}

static void set_defaults(struct gq_admission_config *c)
{
	static const uint32_t weights[GQ_CLASSES] = { 0, 8, 4, 1 };
	static const uint64_t targets_ms[GQ_CLASSES] = { 10, 50, 200, 1000 };

	c->service_most = c->service_most != 0 ? c->service_most : 250;
	c->class_most = c->class_most != 0 ? c->class_most : 1000;
	c->global_most = c->global_most != 0 ? c->global_most : 2000;
	c->running_most = c->running_most != 0 ? c->running_most : 4096;
	c->bytes_most = c->bytes_most != 0 ? c->bytes_most : UINT64_C(1) << 30;
	c->critical_percent = c->critical_percent != 0 ? c->critical_percent : 50;
	for (int i = 0; i < GQ_CLASSES; i++) {
		c->weights[i] = c->weights[i] != 0 ? c->weights[i] : weights[i];
		if (c->classes[i].target_ns == 0)
			c->classes[i].target_ns = targets_ms[i] * 1000000;
	}
}

enum gq_admission_status gq__admission_init(struct gq_admission *a,
					    const struct gq_admission_config *config,
					    uint64_t now_ns)
{
	struct gq_admission_config c = *config;
	uint32_t chains;

	set_defaults(&c);
	if (c.critical_percent > 100 || c.global_most > PLACES_MOST || c.running_most > PLACES_MOST)
		return GQ_ADMISSION_CONFIG;
	for (int i = GQ_CLASS_HIGH; i < GQ_CLASSES; i++) {
		if (c.weights[i] > 1000)
			return GQ_ADMISSION_CONFIG;
	}
	memset(a, 0, sizeof(*a));
	a->config = c;
	a->rate_ns = now_ns;
	a->places = c.global_most + c.global_most / 10 + c.running_most;
	chains = 1;
	while (chains < a->places)
		chains *= 2;
	a->mask = chains - 1;
	a->entries = calloc(a->places, sizeof(*a->entries));
	a->flows = calloc(a->places, sizeof(*a->flows));
	a->heap = calloc(a->places, sizeof(*a->heap));
	a->chains = malloc(chains * sizeof(*a->chains));
	if (!a->entries || !a->flows || !a->heap || !a->chains) {
		gq__admission_free(a);
		return GQ_ADMISSION_MEMORY;
	}
	memset(a->chains, 0xff, chains * sizeof(*a->chains));
	memset(a->rounds, 0xff, sizeof(a->rounds));
	memset(a->by_age, 0xff, sizeof(a->by_age));
	for (uint32_t i = 0; i < a->places; i++) {
		a->entries[i].next = i + 1 < a->places ? i + 1 : NONE;
		a->flows[i].next = a->entries[i].next;
		a->entries[i].life = 1;
	}
	return GQ_ADMISSION_OK;
}

void gq__admission_free(struct gq_admission *a)
{
	free(a->entries);
	free(a->flows);
	free(a->heap);
	free(a->chains);
	memset(a, 0, sizeof(*a));
}

/* ---- deadlines: a heap, the earliest first ---- */

static void heap_set(struct gq_admission *a, uint32_t at, uint32_t entry)
{
	a->heap[at] = entry;
	a->entries[entry].in_heap = at;
}

static bool is_earlier(const struct gq_admission *a, uint32_t one, uint32_t other)
{
	return a->entries[one].deadline_ns < a->entries[other].deadline_ns;
}

static void heap_up(struct gq_admission *a, uint32_t at, uint32_t entry)
{
	while (at > 0 && is_earlier(a, entry, a->heap[(at - 1) / 2])) {
		heap_set(a, at, a->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	heap_set(a, at, entry);
}

static void heap_down(struct gq_admission *a, uint32_t at, uint32_t entry)
{
	for (;;) {
		uint32_t child = 2 * at + 1;

		if (child >= a->heap_count)
			break;
		if (child + 1 < a->heap_count && is_earlier(a, a->heap[child + 1], a->heap[child]))
			child++;
		if (!is_earlier(a, a->heap[child], entry))
			break;
		heap_set(a, at, a->heap[child]);
		at = child;
	}
	heap_set(a, at, entry);
}

static void heap_remove(struct gq_admission *a, uint32_t entry)
{
	const uint32_t at = a->entries[entry].in_heap;
	uint32_t last;

	if (a->entries[entry].deadline_ns == UINT64_MAX)
		return;
	last = a->heap[--a->heap_count];
	if (last == entry)
		return;
	if (at > 0 && is_earlier(a, last, a->heap[(at - 1) / 2]))
		heap_up(a, at, last);
	else
		heap_down(a, at, last);
}

/* ---- flows ---- */

static uint32_t *chain_of(const struct gq_admission *a, uint32_t service, enum gq_class class,
			  uint32_t uid)
{
	const uint64_t key = (uint64_t)uid << 32 | service << 8 | (uint32_t) class;

	return &a->chains[(uint32_t)((key * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & a->mask];
}

static struct gq_list *round_of(struct gq_admission *a, uint32_t flow)
{
	return &a->rounds[a->flows[flow].service][a->flows[flow].class];
}

static void round_append(struct gq_admission *a, uint32_t flow)
{
	struct gq_list *round = round_of(a, flow);

	gq_places_add(&a->waiting[a->flows[flow].class], a->flows[flow].service);
	a->flows[flow].next = NONE;
	a->flows[flow].before = round->last;
	if (round->last != NONE)
		a->flows[round->last].next = flow;
	else
		round->first = flow;
	round->last = flow;
}

static void round_remove(struct gq_admission *a, uint32_t flow)
{
	const struct gq_admission_flow *f = &a->flows[flow];
	struct gq_list *round = round_of(a, flow);

	if (f->before != NONE)
		a->flows[f->before].next = f->next;
	else
		round->first = f->next;
	if (f->next != NONE)
		a->flows[f->next].before = f->before;
	else
		round->last = f->before;
	if (round->first == NONE)
		gq_places_remove(&a->waiting[f->class], f->service);
}

/* Whose flow an entry is in. Strict: all are in one. */
static uint32_t user_of(const struct gq_admission *a, const struct gq_admission_entry *e)
{
	return a->config.strict ? 0 : e->request.uid;
}

/* NONE: there is none. */
static uint32_t find_flow(const struct gq_admission *a, uint32_t service, enum gq_class class,
			  uint32_t uid)
{
	uint32_t i = *chain_of(a, service, class, uid);

	while (i != NONE && (a->flows[i].service != service || a->flows[i].class != class ||
			     a->flows[i].uid != uid))
		i = a->flows[i].chain_next;
	return i;
}

/* A new one; there are as many as entries. */
static uint32_t begin_flow(struct gq_admission *a, uint32_t service, enum gq_class class,
			   uint32_t uid, bool held)
{
	uint32_t *chain = chain_of(a, service, class, uid);
	const uint32_t i = a->free_flow;
	struct gq_admission_flow *f;

	f = &a->flows[i];
	a->free_flow = f->next;
	*f = (struct gq_admission_flow){
		.entries = { NONE, NONE },
		.deficit = FLOW_QUANTUM,
		.service = service,
		.uid = uid,
		.class = class,
		.held = held,
		.chain_next = *chain,
	};
	*chain = i;
	if (!held)
		round_append(a, i);
	return i;
}

static void end_flow(struct gq_admission *a, uint32_t flow)
{
	struct gq_admission_flow *f = &a->flows[flow];
	uint32_t *at = chain_of(a, f->service, f->class, f->uid);

	while (*at != flow)
		at = &a->flows[*at].chain_next;
	*at = f->chain_next;
	if (!f->held)
		round_remove(a, flow);
	f->next = a->free_flow;
	a->free_flow = flow;
}

/* ---- waiting ---- */

/*
 * The entry behind which one goes in its flow; NONE: it goes to the front. One that waits again
 * goes before those that have come later. It has been at the front before, so few entries there are
 * older, and the search ends after AGAIN_LOOK of them. Entries that have gone a class up stand
 * behind younger ones, so the last entry says nothing of the others.
 */
static uint32_t place_in(const struct gq_admission *a, const struct gq_list *list,
			 uint64_t sequence, bool again)
{
	uint32_t after = NONE, next = list->first;

	if (!again)
		return list->last;
	for (int i = 0; i < AGAIN_LOOK && next != NONE && a->entries[next].sequence < sequence;
	     i++) {
		after = next;
		next = a->entries[next].next;
	}
	return after;
}

/* Into its flow, and at the end of its class. `again`: it has been next before. */
static void enqueue(struct gq_admission *a, uint32_t entry, bool again, uint64_t now_ns)
{
	struct gq_admission_entry *e = &a->entries[entry];
	struct gq_list *age = &a->by_age[e->class];
	const uint32_t uid = user_of(a, e);
	struct gq_list *list;

	e->flow = find_flow(a, e->request.service, e->class, uid);
	if (e->flow == NONE)
		e->flow = begin_flow(a, e->request.service, e->class, uid,
				     e->request.held && !a->config.strict);
	a->flows[e->flow].count++;
	a->held += a->flows[e->flow].held;
	list = &a->flows[e->flow].entries;
	e->before = place_in(a, list, e->sequence, again);
	e->next = e->before != NONE ? a->entries[e->before].next : list->first;
	*(e->before != NONE ? &a->entries[e->before].next : &list->first) = entry;
	*(e->next != NONE ? &a->entries[e->next].before : &list->last) = entry;
	e->entered_ns = now_ns;
	e->younger = NONE;
	e->older = age->last;
	if (age->last != NONE)
		a->entries[age->last].younger = entry;
	else
		age->first = entry;
	age->last = entry;
	a->in_class[e->class]++;
}

static void dequeue(struct gq_admission *a, uint32_t entry)
{
	struct gq_admission_entry *e = &a->entries[entry];
	struct gq_list *list = &a->flows[e->flow].entries;
	struct gq_list *age = &a->by_age[e->class];

	if (e->before != NONE)
		a->entries[e->before].next = e->next;
	else
		list->first = e->next;
	if (e->next != NONE)
		a->entries[e->next].before = e->before;
	else
		list->last = e->before;
	if (e->older != NONE)
		a->entries[e->older].younger = e->younger;
	else
		age->first = e->younger;
	if (e->younger != NONE)
		a->entries[e->younger].older = e->older;
	else
		age->last = e->older;
	a->in_class[e->class]--;
	a->flows[e->flow].count--;
	a->held -= a->flows[e->flow].held;
	if (list->first == NONE)
		end_flow(a, e->flow);
}

static uint32_t fill_permille(const struct gq_admission *a)
{
	const uint64_t count = (uint64_t)a->count * 1000 / a->config.global_most;
	const uint64_t bytes =
		(uint64_t)((unsigned __int128)a->bytes * 1000 / a->config.bytes_most);
	uint64_t most = count > bytes ? count : bytes;

	most = most > a->slots_permille ? most : a->slots_permille;
	return (uint32_t)most;
}

/* Up where it begins, down a tenth lower. */
static void set_level(struct gq_admission *a)
{
	static const uint32_t begins[] = { 0, 700, 900, 970 };
	const uint32_t fill = fill_permille(a);

	while (a->level < GQ_LEVEL_CRITICAL && fill >= begins[a->level + 1])
		a->level++;
	while (a->level > GQ_LEVEL_NONE && fill < begins[a->level] - 100)
		a->level--;
}

void gq__admission_slots(struct gq_admission *a, uint32_t permille)
{
	a->slots_permille = permille < 1000 ? permille : 1000;
	set_level(a);
}

/* Out of the queues; what it was charged to has room again. */
static void stop_waiting(struct gq_admission *a, uint32_t entry)
{
	struct gq_admission_entry *e = &a->entries[entry];

	dequeue(a, entry);
	a->count--;
	a->bytes -= e->request.bytes;
	a->cost -= e->request.cost;
	if (e->charge == TO_SERVICE)
		a->by_service[e->request.service]--;
	else if (e->charge == TO_CLASS)
		a->by_class[e->arrival_class]--;
	set_level(a);
}

static void start_waiting(struct gq_admission *a, uint32_t entry, bool again, uint64_t now_ns)
{
	struct gq_admission_entry *e = &a->entries[entry];

	if (a->by_service[e->request.service] < a->config.service_most) {
		e->charge = TO_SERVICE;
		a->by_service[e->request.service]++;
	} else if (a->by_class[e->arrival_class] < a->config.class_most) {
		e->charge = TO_CLASS;
		a->by_class[e->arrival_class]++;
	} else {
		e->charge = TO_ALL;
	}
	a->count++;
	a->bytes += e->request.bytes;
	a->cost += e->request.cost;
	enqueue(a, entry, again, now_ns);
	set_level(a);
}

static enum gq_admission_status may_enter(const struct gq_admission *a,
					  const struct gq_request *request, enum gq_class class)
{
	const struct gq_admission_config *c = &a->config;
	const bool critical = class == GQ_CLASS_CRITICAL;
	const uint32_t most = c->global_most + (critical ? c->global_most / 10 : 0);
	const uint64_t bytes = c->bytes_most + (critical ? c->bytes_most / 10 : 0);

	if (request->service >= GQ_PLACES)
		return GQ_ADMISSION_SERVICE;
	if (request->bytes > c->bytes_most)
		return GQ_ADMISSION_BYTES;
	if (c->classes[class].most != 0 && a->in_class[class] >= c->classes[class].most)
		return GQ_ADMISSION_CLASS_FULL;
	if ((a->level >= GQ_LEVEL_SHED && class == GQ_CLASS_LOW) ||
	    (a->level >= GQ_LEVEL_CRITICAL && !critical))
		return GQ_ADMISSION_SHED;
	if (a->count >= most || a->bytes > bytes - request->bytes || a->free_entry == NONE)
		return GQ_ADMISSION_FULL;
	return GQ_ADMISSION_OK;
}

static uint64_t deadline_of(const struct gq_admission *a, const struct gq_request *request,
			    enum gq_class class, uint64_t now_ns)
{
	const uint64_t limit = a->config.classes[class].timeout_ns;
	uint64_t timeout = request->timeout_ns;

	if (timeout == 0 || (limit != 0 && limit < timeout))
		timeout = limit;
	return timeout == 0 || timeout > UINT64_MAX - 1 - now_ns ? UINT64_MAX : now_ns + timeout;
}

enum gq_admission_status gq__admission_submit(struct gq_admission *a,
					      const struct gq_request *request, uint64_t now_ns,
					      gq_request_id *out)
{
	const enum gq_class class = gq__class_of(request->priority);
	const enum gq_admission_status status = may_enter(a, request, class);
	const uint32_t entry = a->free_entry;
	struct gq_admission_entry *e;

	if (status != GQ_ADMISSION_OK)
		return status;
	e = &a->entries[entry];
	a->free_entry = e->next;
	e->request = *request;
	e->request.cost = request->cost < 1           ? 1
			  : request->cost > COST_MOST ? COST_MOST
						      : request->cost;
	e->arrived_ns = now_ns;
	e->deadline_ns = deadline_of(a, request, class, now_ns);
	e->sequence = ++a->sequence;
	e->state = WAITING;
	e->class = class;
	e->arrival_class = class;
	if (e->deadline_ns != UINT64_MAX)
		heap_up(a, a->heap_count++, entry);
	start_waiting(a, entry, false, now_ns);
	a->accepted++;
	*out = (uint64_t)e->life << 32 | entry;
	return GQ_ADMISSION_OK;
}

/* A request that has waited for four times its target goes one class up, but never to CRITICAL. */
static void promote(struct gq_admission *a, uint64_t now_ns)
{
	for (int class = GQ_CLASS_NORMAL; class < GQ_CLASSES && !a->config.strict; class ++) {
		const uint64_t bound = a->config.classes[class].target_ns * AGE_FACTOR;

		for (;;) {
			const uint32_t entry = a->by_age[class].first;

			if (entry == NONE || now_ns <= a->entries[entry].entered_ns ||
			    now_ns - a->entries[entry].entered_ns <= bound)
				break;
			a->entries[entry].request.held = a->flows[a->entries[entry].flow].held;
			dequeue(a, entry);
			a->entries[entry].class = (enum gq_class)(class - 1);
			enqueue(a, entry, false, now_ns);
		}
	}
}

/* CRITICAL goes first, but while others wait not more than its share of what goes in a second. */
static bool critical_may_go(struct gq_admission *a, bool others_wait, uint64_t now_ns)
{
	if (a->second != now_ns / SECOND) {
		a->second = now_ns / SECOND;
		a->gone = 0;
		a->gone_critical = 0;
	}
	return a->config.strict || !others_wait ||
	       a->gone_critical * 100 <= a->gone * a->config.critical_percent;
}

/*
 * Deficit round robin: a class goes while it has something left; when none has, all get as many
 * rounds' worth as the first needs.
 */
static int by_weight(struct gq_admission *a, const bool has[GQ_CLASSES])
{
	int64_t rounds = INT64_MAX;

	for (int class = GQ_CLASS_HIGH; class < GQ_CLASSES; class ++) {
		const int64_t needs = -a->deficit[class] / (int64_t)a->config.weights[class] + 1;

		if (has[class] && a->deficit[class] > 0)
			return class;
		if (has[class] && needs < rounds)
			rounds = needs;
	}
	for (int class = GQ_CLASS_HIGH; class < GQ_CLASSES; class ++) {
		if (has[class])
			a->deficit[class] += rounds * (int64_t)a->config.weights[class];
	}
	for (int class = GQ_CLASS_HIGH; class < GQ_CLASSES; class ++) {
		if (has[class] && a->deficit[class] > 0)
			return class;
	}
	return GQ_CLASSES; /* never: one has got what it needs */
}

/* The class whose turn it is, of those that have something for these services; GQ_CLASSES: none. */
static int choose_class(struct gq_admission *a, const struct gq_places *ready, uint64_t now_ns)
{
	bool has[GQ_CLASSES];
	bool others = false;
	int first = GQ_CLASSES;

	for (int class = GQ_CLASSES - 1; class >= 0; class --) {
		const struct gq_places set = gq_places_and(&a->waiting[class], ready);

		has[class] = !gq_places_empty(&set);
		first = has[class] ? class : first;
		others = others || (has[class] && class != GQ_CLASS_CRITICAL);
		if (!has[class])
			a->deficit[class] = 0;
	}
	if (first == GQ_CLASS_CRITICAL && !critical_may_go(a, others, now_ns))
		first = GQ_CLASS_HIGH;
	if (first == GQ_CLASS_CRITICAL || first == GQ_CLASSES || a->config.strict)
		return first;
	return by_weight(a, has);
}

/* The service whose turn it is; strict: that of the request that came first. */
static uint32_t choose_service(struct gq_admission *a, const struct gq_places *ready, int class)
{
	const struct gq_places set = gq_places_and(&a->waiting[class], ready);
	uint32_t best = gq_places_next(&set, a->turn[class] + 1);
	uint64_t least = UINT64_MAX;

	if (best == GQ_PLACES)
		best = gq_places_next(&set, 0);
	for (uint32_t s = gq_places_next(&set, 0); a->config.strict && s < GQ_PLACES;
	     s = gq_places_next(&set, s + 1)) {
		const uint32_t entry = a->flows[a->rounds[s][class].first].entries.first;

		if (a->entries[entry].sequence < least) {
			least = a->entries[entry].sequence;
			best = s;
		}
	}
	a->turn[class] = best;
	return best;
}

/* The first request of the flow whose turn it is; a flow that has had its share goes to the end. */
static uint32_t choose_entry(struct gq_admission *a, uint32_t service, int class)
{
	struct gq_list *round = &a->rounds[service][class];
	uint32_t flow = round->first;
	uint32_t entry;

	while (a->flows[flow].deficit <= 0) {
		a->flows[flow].deficit += FLOW_QUANTUM;
		round_remove(a, flow);
		round_append(a, flow);
		flow = round->first;
	}
	entry = a->flows[flow].entries.first;
	a->flows[flow].deficit -= a->entries[entry].request.cost;
	return entry;
}

static void tell(const struct gq_admission *a, uint32_t entry, struct gq_told *out)
{
	const struct gq_admission_entry *e = &a->entries[entry];

	*out = (struct gq_told){
		.id = (uint64_t)e->life << 32 | entry,
		.request = e->request,
		.class = e->class,
		.arrived_ns = e->arrived_ns,
		.deadline_ns = e->deadline_ns,
		.was_running = e->state == RUNNING,
	};
}

bool gq__admission_next(struct gq_admission *a, const struct gq_places *ready, uint64_t now_ns,
			struct gq_told *out)
{
	uint32_t entry;
	uint32_t service;
	int class;

	if (a->running >= a->config.running_most)
		return false;
	promote(a, now_ns);
	class = choose_class(a, ready, now_ns);
	if (class == GQ_CLASSES)
		return false;
	service = choose_service(a, ready, class);
	entry = choose_entry(a, service, class);
	a->deficit[class] -= a->entries[entry].request.cost;
	a->gone++;
	a->gone_critical += class == GQ_CLASS_CRITICAL;
	stop_waiting(a, entry);
	tell(a, entry, out);
	a->entries[entry].state = RUNNING;
	a->running++;
	return true;
}

static struct gq_admission_entry *named(const struct gq_admission *a, gq_request_id id)
{
	const uint32_t entry = (uint32_t)id;

	if (entry >= a->places || a->entries[entry].state == FREE ||
	    a->entries[entry].life != id >> 32)
		return NULL;
	return &a->entries[entry];
}

static void free_place(struct gq_admission *a, struct gq_admission_entry *e)
{
	e->state = FREE;
	e->life = e->life < UINT32_MAX ? e->life + 1 : 1;
	e->next = a->free_entry;
	a->free_entry = (uint32_t)(e - a->entries);
}

/* How much is finished in a second, from spans of a tenth of one. */
static void measure(struct gq_admission *a, uint32_t cost, uint64_t now_ns)
{
	const uint64_t span = now_ns > a->rate_ns ? now_ns - a->rate_ns : 0;
	double rate;

	a->rate_cost += cost;
	if (span < SECOND / 10)
		return;
	rate = (double)a->rate_cost * 1e9 / (double)span;
	a->rate = a->rate > 0 ? a->rate * 0.7 + rate * 0.3 : rate;
	a->rate_cost = 0;
	a->rate_ns = now_ns;
}

enum gq_admission_status gq__admission_finish(struct gq_admission *a, gq_request_id id,
					      uint64_t now_ns, struct gq_told *out)
{
	struct gq_admission_entry *e = named(a, id);

	if (!e || e->state == WAITING)
		return GQ_ADMISSION_NOT_FOUND;
	a->running--;
	measure(a, e->request.cost, now_ns);
	if (e->state == TOLD) {
		free_place(a, e);
		return GQ_ADMISSION_LATE;
	}
	heap_remove(a, (uint32_t)id);
	tell(a, (uint32_t)id, out);
	a->told++;
	free_place(a, e);
	return GQ_ADMISSION_OK;
}

void gq__admission_no_turn(struct gq_admission *a, gq_request_id id)
{
	const struct gq_admission_entry *e = named(a, id);
	uint32_t flow;

	if (!e || e->state != RUNNING)
		return;
	flow = find_flow(a, e->request.service, e->class, user_of(a, e));
	a->deficit[e->class] += e->request.cost;
	if (flow != NONE)
		a->flows[flow].deficit += e->request.cost;
	a->gone -= a->gone > 0;
	a->gone_critical -= e->class == GQ_CLASS_CRITICAL && a->gone_critical > 0;
}

enum gq_admission_status gq__admission_again(struct gq_admission *a, gq_request_id id, bool held,
					     uint64_t now_ns)
{
	struct gq_admission_entry *e = named(a, id);

	if (!e || e->state == WAITING)
		return GQ_ADMISSION_NOT_FOUND;
	a->running--;
	if (e->state == TOLD) {
		free_place(a, e);
		return GQ_ADMISSION_LATE;
	}
	e->state = WAITING;
	e->request.held = held;
	start_waiting(a, (uint32_t)id, true, now_ns);
	return GQ_ADMISSION_OK;
}

void gq__admission_hold(struct gq_admission *a, uint32_t service, uint32_t uid, bool held)
{
	for (int class = 0; class < GQ_CLASSES && !a->config.strict; class ++) {
		const uint32_t flow = find_flow(a, service, (enum gq_class) class, uid);

		if (flow == NONE || a->flows[flow].held == held)
			continue;
		if (held) {
			round_remove(a, flow);
			a->held += a->flows[flow].count;
		} else {
			round_append(a, flow);
			a->held -= a->flows[flow].count;
		}
		a->flows[flow].held = held;
	}
}

/* It has ended before its result: a running one keeps its place until that comes. */
static void end_early(struct gq_admission *a, uint32_t entry, struct gq_told *out)
{
	struct gq_admission_entry *e = &a->entries[entry];

	heap_remove(a, entry);
	tell(a, entry, out);
	a->told++;
	if (e->state == RUNNING) {
		e->state = TOLD;
		return;
	}
	stop_waiting(a, entry);
	free_place(a, e);
}

enum gq_admission_status gq__admission_cancel(struct gq_admission *a, gq_request_id id,
					      struct gq_told *out)
{
	const struct gq_admission_entry *e = named(a, id);

	if (!e || e->state == TOLD)
		return GQ_ADMISSION_NOT_FOUND;
	end_early(a, (uint32_t)id, out);
	return GQ_ADMISSION_OK;
}

bool gq__admission_expire(struct gq_admission *a, uint64_t now_ns, struct gq_told *out)
{
	if (gq__admission_deadline(a) > now_ns)
		return false;
	end_early(a, a->heap[0], out);
	return true;
}

uint64_t gq__admission_deadline(const struct gq_admission *a)
{
	return a->heap_count > 0 ? a->entries[a->heap[0]].deadline_ns : UINT64_MAX;
}

uint64_t gq__admission_retry_ns(const struct gq_admission *a)
{
	const double wait = a->rate > 0 ? (double)a->cost / a->rate * 1e9 : 0;

	if (wait <= (double)RETRY_LEAST)
		return RETRY_LEAST;
	return wait < (double)RETRY_MOST ? (uint64_t)wait : RETRY_MOST;
}
