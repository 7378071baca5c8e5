/* SPDX-License-Identifier: Apache-2.0 */
/* balance.c - eight ways to choose a service. */
#include "balance.h"

#include "random.h"

#include <string.h>

#define SCAN          16u
#define HEARTBEAT_NS  UINT64_C(5000000000)
#define LOAD_DEAD_NS  UINT64_C(180000000000)
#define EWMA_TAU_NS   1e10
#define REFRESH_NS    UINT64_C(100000000)
#define WEIGHT_MOST   1000u
#define OVERPROVISION 1.4 /* a tier of which 5 in 7 are well takes all of its traffic */
#define HEALTH_SHARE  0.3
#define LOAD_SHARE    0.4
#define LATENCY_SHARE 0.3
#define LOAD_WHEN_OLD 0.5

/* Each place of a set in turn, in two nested loops: no `break` inside. */
#define FOR_EACH(place, set)                                                                       \
	for (uint32_t word_ = 0, place; word_ < GQ_PLACES / 64; word_++)                           \
		for (uint64_t left_ = (set)->bits[word_];                                          \
		     left_ != 0 &&                                                                 \
		     ((place) = word_ * 64 + (uint32_t)__builtin_ctzll(left_), true);              \
		     left_ &= left_ - 1)

typedef double cost_function(const struct gq_balance *b, uint32_t place, double most,
			     uint64_t now_ns);

static bool needs_inner(enum gq_balance_algorithm algorithm)
{
	return algorithm == GQ_BALANCE_PRIORITY || algorithm == GQ_BALANCE_CAPABILITY;
}

enum gq_balance_status gq__balance_init(struct gq_balance *b,
					const struct gq_balance_config *config)
{
	if ((unsigned int)config->algorithm >= GQ_BALANCE_ALGORITHMS ||
	    (unsigned int)config->inner >= GQ_BALANCE_ALGORITHMS || needs_inner(config->inner))
		return GQ_BALANCE_CONFIG;
	memset(b, 0, sizeof(*b));
	b->config = *config;
	b->config.scan = config->scan != 0 ? config->scan : SCAN;
	if (config->heartbeat_ns == 0)
		b->config.heartbeat_ns = HEARTBEAT_NS;
	return GQ_BALANCE_OK;
}

enum gq_balance_algorithm gq__balance_named(const char *name)
{
	static const char *const names[] = {
#define GQ_AS_NAME(name, text) [GQ_BALANCE_##name] = (text),
		GQ_BALANCE_LIST(GQ_AS_NAME)
#undef GQ_AS_NAME
	};
	unsigned int i = 0;

	while (i < GQ_BALANCE_ALGORITHMS && strcmp(names[i], name) != 0)
		i++;
	return (enum gq_balance_algorithm)i;
}

/* The tiers anew, after a change of the members. */
static void sort_tiers(struct gq_balance *b)
{
	b->tier_count = 0;
	for (uint32_t i = 0; i < b->count; i++) {
		const uint32_t place = b->by_order[i];
		const uint8_t priority = b->members[place].priority;
		uint32_t t = b->tier_count;

		while (t > 0 && b->tiers[t - 1].priority < priority)
			t--;
		if (t == 0 || b->tiers[t - 1].priority != priority) {
			memmove(&b->tiers[t + 1], &b->tiers[t],
				(b->tier_count - t) * sizeof(b->tiers[0]));
			b->tiers[t] = (struct gq_balance_tier){ .priority = priority };
			b->tier_count++;
			t++;
		}
		gq_places_add(&b->tiers[t - 1].members, place);
	}
}

enum gq_balance_status gq__balance_join(struct gq_balance *b, uint32_t place, uint32_t weight,
					uint8_t priority, uint32_t most)
{
	if (place >= GQ_PLACES)
		return GQ_BALANCE_PLACE;
	if (weight == 0 || weight > WEIGHT_MOST)
		return GQ_BALANCE_WEIGHT;
	gq__balance_leave(b, place);
	b->members[place] = (struct gq_balance_member){
		.weight = weight,
		.most = most,
		.priority = priority,
		.health = 1000,
	};
	b->wheel.of = (struct gq_places){ { 0 } }; /* its weight may be another than before */
	b->wheel.credit[place] = (int32_t)(GQ_PLACES - 1 - place);
	b->by_order[b->count++] = (uint8_t)place;
	gq_places_add(&b->joined, place);
	gq_places_add(&b->well, place);
	sort_tiers(b);
	return GQ_BALANCE_OK;
}

/* The round robin's cursor stays on the next that is left. */
void gq__balance_leave(struct gq_balance *b, uint32_t place)
{
	uint32_t i = 0;

	if (!gq_places_has(&b->joined, place))
		return;
	while (b->by_order[i] != place)
		i++;
	b->count--;
	memmove(&b->by_order[i], &b->by_order[i + 1], b->count - i);
	b->cursor -= i < b->cursor;
	gq_places_remove(&b->joined, place);
	gq_places_remove(&b->well, place);
	gq_places_remove(&b->sick, place);
	gq_places_remove(&b->full, place);
	gq_places_remove(&b->fresh, place);
	sort_tiers(b);
}

static bool is_full(const struct gq_balance_member *m)
{
	return m->most != 0 && m->active >= m->most;
}

void gq__balance_limit(struct gq_balance *b, uint32_t place, uint32_t most)
{
	if (!gq_places_has(&b->joined, place))
		return;
	b->members[place].most = most;
	if (is_full(&b->members[place]))
		gq_places_add(&b->full, place);
	else
		gq_places_remove(&b->full, place);
}

void gq__balance_set(struct gq_balance *b, uint32_t place, enum gq_balance_state state)
{
	if (!gq_places_has(&b->joined, place))
		return;
	gq_places_remove(&b->well, place);
	gq_places_remove(&b->sick, place);
	if (state == GQ_BALANCE_WELL)
		gq_places_add(&b->well, place);
	else if (state == GQ_BALANCE_SICK)
		gq_places_add(&b->sick, place);
}

void gq__balance_report(struct gq_balance *b, uint32_t place, uint32_t load, uint32_t health,
			uint64_t now_ns)
{
	if (!gq_places_has(&b->joined, place))
		return;
	b->members[place].load = load < 1000 ? load : 1000;
	b->members[place].health = health < 1000 ? health : 1000;
	b->members[place].load_at_ns = now_ns != 0 ? now_ns : 1;
	gq_places_add(&b->fresh, place);
}

/* e^-x for x >= 0, near enough: it falls from 1 to 0, and is cheap. */
static double decay(double x)
{
	return 1.0 / (1.0 + x + x * x * 0.5);
}

static double ewma_now(const struct gq_balance_member *m, uint64_t now_ns)
{
	const double age = now_ns > m->ewma_at_ns ? (double)(now_ns - m->ewma_at_ns) : 0;

	return m->ewma_ns * decay(age / EWMA_TAU_NS);
}

enum gq_balance_status gq__balance_take(struct gq_balance *b, uint32_t place)
{
	struct gq_balance_member *m;

	if (!gq_places_has(&b->joined, place))
		return GQ_BALANCE_PLACE;
	m = &b->members[place];
	if (is_full(m))
		return GQ_BALANCE_OVERLOADED;
	m->active++;
	if (is_full(m))
		gq_places_add(&b->full, place);
	return GQ_BALANCE_OK;
}

void gq__balance_done(struct gq_balance *b, uint32_t place, uint64_t latency_ns, uint64_t now_ns)
{
	struct gq_balance_member *m;
	double w;

	if (!gq_places_has(&b->joined, place))
		return;
	m = &b->members[place];
	m->active -= m->active > 0;
	if (!is_full(m)) /* it may be, still, where its limit has fallen */
		gq_places_remove(&b->full, place);
	if (latency_ns == 0)
		return;
	/* A peak counts at once; what is better counts by and by. */
	w = decay(now_ns > m->ewma_at_ns ? (double)(now_ns - m->ewma_at_ns) / EWMA_TAU_NS : 0);
	if ((double)latency_ns >= m->ewma_ns)
		m->ewma_ns = (double)latency_ns;
	else
		m->ewma_ns = m->ewma_ns * w + (double)latency_ns * (1 - w);
	m->ewma_at_ns = now_ns;
	b->slowest_ns = m->ewma_ns > b->slowest_ns ? m->ewma_ns : b->slowest_ns;
}

/* How long ago it said how loaded it is. */
static uint64_t load_age(const struct gq_balance_member *m, uint64_t now_ns)
{
	if (m->load_at_ns == 0)
		return UINT64_MAX;
	return now_ns > m->load_at_ns ? now_ns - m->load_at_ns : 0;
}

/* What is known of all members, ten times a second. */
static void refresh(struct gq_balance *b, uint64_t now_ns)
{
	double sorted[GQ_PLACES];
	uint32_t count = 0;

	if (b->refreshed_ns != 0 && now_ns - b->refreshed_ns < REFRESH_NS)
		return;
	b->fresh = (struct gq_places){ { 0 } };
	FOR_EACH(place, &b->joined)
	{
		const double value = ewma_now(&b->members[place], now_ns);
		uint32_t i = count;

		if (load_age(&b->members[place], now_ns) <= LOAD_DEAD_NS)
			gq_places_add(&b->fresh, place);
		if (value <= 0)
			continue;
		for (; i > 0 && sorted[i - 1] > value; i--)
			sorted[i] = sorted[i - 1];
		sorted[i] = value;
		count++;
	}
	b->median_ns = count > 0 ? sorted[count / 2] : 0;
	b->slowest_ns = count > 0 ? sorted[count - 1] : 0;
	b->refreshed_ns = count > 0 ? now_ns : 0;
}

static uint32_t round_robin(struct gq_balance *b, const struct gq_places *set)
{
	uint32_t place;

	do {
		b->cursor = b->cursor < b->count ? b->cursor : 0;
		place = b->by_order[b->cursor++];
	} while (!gq_places_has(set, place));
	return place;
}

#define WHEEL_BAR    (-(1 << 30))
#define WHEEL_CREDIT (1 << 28) /* far above what 128 members of weight 1000 come to */
enum { WHEEL_BLOCK = 32 };

static void turn_wheel_to(struct gq_balance *b, const struct gq_places *set)
{
	struct gq_balance_wheel *w = &b->wheel;

	w->of = *set;
	w->sum = 0;
	w->end = 0;
	for (uint32_t i = 0; i < GQ_PLACES; i++) {
		const bool is_in = gq_places_has(set, i);

		w->share[i] = is_in ? (int32_t)(b->members[i].weight * GQ_PLACES) : 0;
		w->bar[i] = is_in ? 0 : WHEEL_BAR;
		w->sum += w->share[i];
		w->end = is_in ? i + 1 : w->end;
		if (w->credit[i] > WHEEL_CREDIT || w->credit[i] < -WHEEL_CREDIT)
			w->credit[i] = (int32_t)(GQ_PLACES - 1 - i);
	}
}

/* Each gets its share; who has the most then is chosen, and pays all the shares. (As nginx does.)
 */
static uint32_t weighted(struct gq_balance *b, const struct gq_places *set)
{
	struct gq_balance_wheel *w = &b->wheel;
	int32_t most = INT32_MIN;
	uint32_t best;

	if (!gq_places_equal(&w->of, set))
		turn_wheel_to(b, set);
	for (uint32_t at = 0; at < w->end; at += WHEEL_BLOCK) {
		const int32_t *share = &w->share[at], *bar = &w->bar[at];
		int32_t *credit = &w->credit[at];

		for (uint32_t i = 0; i < WHEEL_BLOCK; i++) /* the compiler makes vectors of it */
			credit[i] += share[i];
		for (uint32_t i = 0; i < WHEEL_BLOCK; i++) {
			const int32_t value = credit[i] + bar[i];

			most = value > most ? value : most;
		}
	}
	best = GQ_PLACES - 1 - ((uint32_t)most & (GQ_PLACES - 1));
	w->credit[best] -= w->sum;
	return best;
}

static double connections(const struct gq_balance *b, uint32_t place, double most, uint64_t now_ns)
{
	(void)most;
	(void)now_ns;
	return (double)b->members[place].active / b->members[place].weight;
}

/*
 * A member that nobody knows yet counts as the median, and gets one request to try: not all,
 * because it would look like the best.
 */
static double response(const struct gq_balance *b, uint32_t place, double middle, uint64_t now_ns)
{
	const struct gq_balance_member *m = &b->members[place];

	if (m->ewma_ns > 0)
		return ewma_now(m, now_ns) * (m->active + 1.0);
	if (middle <= 0)
		return m->active + 1.0;
	return m->active > 0 ? 1e300 : middle;
}

static double score(const struct gq_balance *b, uint32_t place, double slowest, uint64_t now_ns)
{
	const struct gq_balance_member *m = &b->members[place];
	const bool old = load_age(m, now_ns) > 3 * b->config.heartbeat_ns;
	const double load = old ? LOAD_WHEN_OLD : m->load * 1e-3;
	double latency = slowest > 0 ? ewma_now(m, now_ns) / slowest : 0;

	latency = latency < 1 ? latency : 1;
	return HEALTH_SHARE * (1 - m->health * 1e-3) + LOAD_SHARE * load + LATENCY_SHARE * latency;
}

/* The cheapest of a set: of a small one all are looked at, of a large one two. */
static uint32_t cheapest(struct gq_balance *b, const struct gq_places *set, cost_function *cost,
			 double most, uint64_t now_ns, uint64_t *random)
{
	const uint32_t count = gq_places_count(set);
	uint32_t place;
	uint32_t best;
	double least;

	if (count > b->config.scan) {
		const uint32_t one = (uint32_t)gq_random_below(random, count);
		const uint32_t other = (uint32_t)gq_random_below(random, count - 1);
		const uint32_t a = gq_places_nth(set, one);
		const uint32_t z = gq_places_nth(set, other + (other >= one));

		return cost(b, a, most, now_ns) <= cost(b, z, most, now_ns) ? a : z;
	}
	place = gq_places_nth(set, b->rotation++ % count);
	best = place;
	least = cost(b, place, most, now_ns);
	for (uint32_t i = 1; i < count; i++) {
		double price;

		place = gq_places_next(set, place + 1);
		if (place == GQ_PLACES)
			place = gq_places_next(set, 0);
		price = cost(b, place, most, now_ns);
		if (price < least) {
			least = price;
			best = place;
		}
	}
	return best;
}

static uint32_t by_load(struct gq_balance *b, const struct gq_places *set, uint64_t now_ns,
			uint64_t *random)
{
	const struct gq_places known = gq_places_and(set, &b->fresh);

	if (gq_places_empty(&known))
		return cheapest(b, set, connections, 0, now_ns, random);
	return cheapest(b, &known, score, b->slowest_ns, now_ns, random);
}

/* By an algorithm that needs no inner one; the set is not empty. */
static uint32_t choose(struct gq_balance *b, enum gq_balance_algorithm algorithm,
		       const struct gq_places *set, uint64_t now_ns, uint64_t *random)
{
	switch (algorithm) {
	case GQ_BALANCE_ROUND_ROBIN:
		return round_robin(b, set);
	case GQ_BALANCE_WEIGHTED:
		return weighted(b, set);
	case GQ_BALANCE_LEAST_RESPONSE:
		refresh(b, now_ns);
		return cheapest(b, set, response, b->median_ns, now_ns, random);
	case GQ_BALANCE_LOAD:
		refresh(b, now_ns);
		return by_load(b, set, now_ns, random);
	case GQ_BALANCE_RANDOM:
		return gq_places_nth(set, (uint32_t)gq_random_below(random, gq_places_count(set)));
	default:
		return cheapest(b, set, connections, 0, now_ns, random);
	}
}

/*
 * A tier takes 1.4 times the share of its members that are well, at most all of what is left; the
 * next takes the rest. If all together take less than everything, they share it in proportion. A
 * tier without room leaves what it would take to the next, and the last to the first.
 */
static struct gq_places by_tier(const struct gq_balance *b, const struct gq_places *matching,
				const struct gq_places *well, const struct gq_places *free,
				uint64_t *random)
{
	double ends[GQ_PLACES]; /* where on [0, total) a tier's traffic ends */
	double total = 0;
	double dice;
	uint32_t count = 0;

	for (; count < b->tier_count && total < 1; count++) {
		const struct gq_places of = gq_places_and(&b->tiers[count].members, matching);
		const struct gq_places fit = gq_places_and(&of, well);
		const uint32_t all = gq_places_count(&of);
		const double share = all > 0 ? OVERPROVISION * gq_places_count(&fit) / all : 0;

		total = total + share < 1 ? total + share : 1;
		ends[count] = total;
	}
	dice = gq_random_unit(random) * total;
	for (uint32_t i = 0; i < 2 * b->tier_count; i++) {
		const uint32_t t = i % b->tier_count;
		const struct gq_places can = gq_places_and(&b->tiers[t].members, free);

		if ((i >= b->tier_count || t >= count || dice < ends[t]) && !gq_places_empty(&can))
			return can;
	}
	return *free; /* never: one of the tiers has room */
}

static struct gq_places tightest(const struct gq_places *set, const uint64_t *surplus)
{
	struct gq_places best = { { 0 } };
	uint64_t least = UINT64_MAX;

	for (uint32_t word = 0; word < GQ_PLACES / 64; word++, surplus += 64) {
		uint64_t these = 0;

		for (uint64_t left = set->bits[word]; left != 0; left &= left - 1) {
			const uint64_t value = surplus[__builtin_ctzll(left)];

			if (value > least)
				continue;
			if (value < least)
				best = (struct gq_places){ { 0 } };
			these = (value == least ? these : 0) | (left & -left);
			least = value;
		}
		best.bits[word] = these;
	}
	return best;
}

enum gq_balance_status gq__balance_pick(struct gq_balance *b,
					const struct gq_balance_request *request, uint64_t now_ns,
					uint64_t *random, uint32_t *out)
{
	const struct gq_places matching =
		request->can ? gq_places_and(&b->joined, request->can) : b->joined;
	struct gq_places well = gq_places_and(&matching, &b->well);
	enum gq_balance_algorithm algorithm = b->config.algorithm;
	struct gq_places set;

	if (gq_places_empty(&matching))
		return GQ_BALANCE_NOT_FOUND;
	if (b->config.panic && gq_places_count(&well) * 2 < gq_places_count(&matching)) {
		well = gq_places_or(&b->well, &b->sick);
		well = gq_places_and(&well, &matching);
	}
	if (gq_places_empty(&well))
		return GQ_BALANCE_UNAVAILABLE;
	set = gq_places_without(&well, &b->full);
	if (gq_places_empty(&set))
		return GQ_BALANCE_OVERLOADED;
	if (request->avoid) {
		const struct gq_places others = gq_places_without(&set, request->avoid);

		set = gq_places_empty(&others) ? set : others;
	}
	if (algorithm == GQ_BALANCE_PRIORITY)
		set = by_tier(b, &matching, &well, &set, random);
	else if (algorithm == GQ_BALANCE_CAPABILITY && request->surplus)
		set = tightest(&set, request->surplus);
	if (needs_inner(algorithm))
		algorithm = b->config.inner;
	*out = choose(b, algorithm, &set, now_ns, random);
	return gq__balance_take(b, *out);
}
