/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c - one turn of a dispatcher: completions of our queue go to their clients, messages of a
 * client into our queue.
 *
 * A message that is in our queue can be recalled: it is cancelled there. If it comes back
 * CANCELLED and its client did not ask for that, it has not run, and is held until it can be put
 * there again. So a client's pause means what it says, though its messages are in another queue.
 *
 * A short message of a CPU queue is not put there: it is run here and now, if nothing is in the
 * queue that it would overtake (pair.h). Then nobody but this file keeps the order of the classes
 * among clients.
 */
#include "dispatch.h"

#include "broker/page/probe.h"

#include "host/base/clock.h"
#include "host/base/copy.h"

enum { TURN = 64 }; /* messages of one client, or completions, that a turn takes at most */

#define RUN_NS UINT64_C(100000) /* for so long one client's are run before the others' turn */

/* ---- completions ----------------------------------------------------------------------------- */

/* A result may be longer than the client has room for. */
static uint32_t outcome_for(const struct client *c, uint32_t outcome)
{
	return outcome <= GQ_OUTCOME_MAX_LEN && outcome > c->result_bytes
		       ? (uint32_t)GQ_OUTCOME_FAILED
		       : outcome;
}

static uint32_t outcome_of(struct dispatcher *d, const Completion *done, const struct client *c)
{
	uint32_t reported = 0;

	switch (done->status) {
	case Q_OK:
		return outcome_for(c, (uint32_t)done->result_len);
	case Q_ERR_EXPIRED:
		return GQ_OUTCOME_EXPIRED;
	case Q_ERR_CANCELLED:
		return GQ_OUTCOME_CANCELLED;
	default:
		if (q_processor_status(d->q, done->msg_id, &reported) == Q_OK && reported != 0)
			return GQ_OUTCOME_REPORTED + reported;
		return GQ_OUTCOME_FAILED;
	}
}

static bool is_recalled(const struct record *r, const Completion *done)
{
	return done->status == Q_ERR_CANCELLED && !r->asked &&
	       (r->client->control & GQ_CONTROL_CANCEL) == 0 && !r->client->draining;
}

static void deliver(struct dispatcher *d, const Completion *done, uint64_t now_ns)
{
	struct record **sent = &d->sent[done->msg_id & d->q->slot_mask], *r = *sent;

	*sent = NULL;
	d->inside--;
	d->ended = gq_brevity_may_run(&d->brevity) ? d->ended + 1 : 0;
	if (r == NULL)
		return; /* its client has left */
	if (r->recalled)
		r->client->recalled--;
	r->recalled = false;
	if (is_recalled(r, done)) {
		r->state = RECORD_HELD;
		r->client->inside--;
		r->client->held++;
		return;
	}
	r->client->now_ns = now_ns;
	client_complete(r->client, r, outcome_of(d, done, r->client), done->result);
}

/* The message that another thread did not come back from in time, if it has by now. */
static bool deliver_late(struct dispatcher *d)
{
	struct record *r = d->away;
	const uint8_t *result;
	uint32_t outcome;

	if (!pair_came_back(d->pair, &outcome, &result))
		return false;
	d->is_away = false;
	d->away = NULL;
	if (r == NULL)
		return true; /* its client has left */
	r->client->now_ns = gq__now_ns();
	client_complete(r->client, r, outcome_for(r->client, outcome), result);
	client_settle(r->client);
	client_ring(r->client);
	return true;
}

enum served serve_completions(struct dispatcher *d)
{
	Completion done[TURN];
	uint64_t ids[TURN];
	uint64_t now_ns;
	size_t n = 0;
	QueueStatus status = Q_OK;

	if (d->is_away && deliver_late(d))
		return SERVED_SOME;
	if (d->inside == 0 || d->failed)
		return SERVED_NOTHING;
	status = q_poll_results(d->q, done, TURN, &n);
	if (status == Q_ERR_CUDA)
		d->failed = true;
	if (n == 0)
		return SERVED_NOTHING;
	now_ns = gq__now_ns();
	for (size_t i = 0; i < n; i++) {
		deliver(d, &done[i], now_ns);
		ids[i] = done[i].msg_id;
	}
	q_release_batch(d->q, ids, n);
	for (struct client *c = d->clients; c != NULL; c = c->next) {
		client_settle(c);
		client_ring(c);
	}
	return SERVED_SOME;
}

/* ---- a client's orders ----------------------------------------------------------------------- */

/* Ask our queue not to start what it has of this client's. Until all of it has come back, nothing
 * else is sent: it would overtake. */
static void recall(struct dispatcher *d, struct client *c)
{
	for (struct record *r = c->first; r != NULL; r = r->next) {
		if (r->state != RECORD_INSIDE || r == d->away)
			continue; /* what is being processed is waited for */
		q_cancel(d->q, r->sent_id);
		c->recalled += !r->recalled;
		r->recalled = true;
	}
}

static void obey_cancels(struct dispatcher *d, struct client *c)
{
	for (struct record *r = c->first, *next; r != NULL; r = next) {
		next = r->next;
		if (!client_cancels(c, r))
			continue;
		r->asked = true;
		if (r == d->away)
			continue; /* it is being processed */
		if (r->state == RECORD_INSIDE)
			q_cancel(d->q, r->sent_id);
		else
			client_complete(c, r, GQ_OUTCOME_CANCELLED, NULL);
	}
}

static void cancel_held(struct client *c)
{
	for (struct record *r = c->first, *next; r != NULL; r = next) {
		next = r->next;
		if (r->state == RECORD_HELD)
			client_complete(c, r, GQ_OUTCOME_CANCELLED, NULL);
	}
}

/* @return whether something has changed */
static bool obey_control(struct dispatcher *d, struct client *c)
{
	const uint64_t control = gq_load_seq_cst_u64(&c->page->control); /* [control.read] */
	const bool new = control != c->control;

	c->control = control;
	if (new && (control & (GQ_CONTROL_PAUSE | GQ_CONTROL_CANCEL)) != 0)
		recall(d, c);
	if ((control & GQ_CONTROL_CANCEL) != 0)
		cancel_held(c);
	if ((control & GQ_CONTROL_LEAVE) != 0 && !c->left && c->inside + c->held == 0) {
		c->left = true;
		gq_exchange_seq_cst_u64(&c->page->left, 1); /* [ack.write], [wake.look] */
		c->rings = true;
		return true;
	}
	if ((control & GQ_CONTROL_PAUSE) != 0 && c->acknowledged != control && c->inside == 0) {
		c->acknowledged = control;
		/* [ack.write], [wake.look] */
		gq_exchange_seq_cst_u64(&c->page->ack, control);
		c->rings = true;
		return true;
	}
	return new;
}

/* What the client has asked for by its words. The answer to a cancellation comes after both, since
 * a stop whose time is over asks by the control word. */
static bool obey(struct dispatcher *d, struct client *c)
{
	/* [cancel.ask] acquire: the slots' words, the control word */
	const uint64_t cancels = gq_load_acquire_u64(&c->page->cancels);
	const bool asked = cancels != c->cancels;
	bool some;

	c->cancels = cancels;
	if (asked || gq_load_relaxed_u64(&c->page->control) != c->control)
		c->now_ns = gq__now_ns();
	if (asked)
		obey_cancels(d, c);
	some = obey_control(d, c);
	if (asked)
		gq_store_release_u64(&c->page->cancels_seen, cancels); /* [cancel.done] */
	return some || asked;
}

/* ---- a client's messages --------------------------------------------------------------------- */

static void enter(struct client *c, struct record *r)
{
	r->state = RECORD_INSIDE;
	c->held--;
	c->inside++;
}

/* A held message goes into our queue. @return false: it cannot be, for the queue has failed */
static bool send_on(struct dispatcher *d, struct client *c, struct record *r)
{
	/* The one time that its payload is read. */
	const QueueStatus status =
		q_enqueue_ex(d->q, client_payload(c, r), r->len, &r->options, &r->sent_id, 0);

	if (status != Q_OK) {
		d->failed = true;
		return false;
	}
	d->sent[r->sent_id & d->q->slot_mask] = r;
	PROBE3(send, c->pid, r->msg_id, r->sent_id);
	r->recalled = false;
	enter(c, r);
	d->inside++;
	if (gq_brevity_may_run(&d->brevity))
		d->ended -= d->ended < 2 ? d->ended : 2;
	gq__brevity_handed_on(&d->brevity);
	return true;
}

/* Whether the next message is run here: it overtakes nothing, for nothing is in the queue. */
static bool runs_here(const struct dispatcher *d)
{
	return gq_brevity_may_run(&d->brevity) && d->inside == 0;
}

/*
 * While the other thread has a message, it is the queue's one consumer: nothing goes in. And if
 * messages are to be run again once the queue is empty, one goes in for each two that come out: so
 * it does become empty, whoever floods, and nobody waits until it is.
 */
static bool must_wait(const struct dispatcher *d)
{
	return d->is_away || (gq_brevity_may_run(&d->brevity) && d->inside != 0 && d->ended < 2);
}

static bool has_room(const struct dispatcher *d, const struct client *c)
{
	return c->inside < c->window && d->inside < d->capacity && !must_wait(d);
}

/* The clock is read for the messages that have been run since the last time. */
static void read_clock(struct dispatcher *d, struct client *c)
{
	const uint64_t now_ns = gq__now_ns();

	gq__brevity_ran(&d->brevity, c->unclocked, now_ns - c->now_ns);
	c->now_ns = now_ns;
	c->unclocked = 0;
	client_settle(c);
}

/* A held message is run. @return false: it takes too long, and this thread leads no more */
static bool run_here(struct dispatcher *d, struct client *c, struct record *r)
{
	uint32_t outcome;

	if (r->options.deadline_ns != 0 && c->now_ns >= r->options.deadline_ns) {
		client_complete(c, r, GQ_OUTCOME_EXPIRED, NULL);
		return true;
	}
	/* The one time that its payload is read. */
	gq_copy(pair_payload(d->pair), client_payload(c, r), r->len);
	enter(c, r);
	d->running = r;
	if (!pair_run(d->pair, r, &outcome))
		return false;
	client_complete(c, r, outcome_for(c, outcome), pair_result(d->pair));
	/* A look of the other thread's says that they may not be short any more. */
	if (++c->unclocked >= gq_brevity_unclocked(&d->brevity) || c->stamps != NULL ||
	    pair_was_looked_at(d->pair))
		read_clock(d, c);
	return true;
}

enum sent { SENT, SENT_NOT, SENT_TOO_LONG };

/* A held message goes to where it is processed. NOT: it cannot, for the queue has failed. */
static enum sent process(struct dispatcher *d, struct client *c, struct record *r)
{
	/* One of those that the clock has not been read for may have been long. */
	if (r->options.deadline_ns != 0 && c->unclocked != 0)
		read_clock(d, c);
	if (runs_here(d))
		return run_here(d, c, r) ? SENT : SENT_TOO_LONG;
	return send_on(d, c, r) ? SENT : SENT_NOT;
}

static bool is_to_cancel(const struct client *c, const struct record *r)
{
	return (c->control & GQ_CONTROL_CANCEL) != 0 || client_cancels(c, r);
}

/* What is left of a client's turn. */
struct left {
	uint32_t messages;
	uint64_t until_ns; /* 0: it has not begun */
};

static bool is_over(const struct client *c, const struct left *left)
{
	return left->messages == 0 || (left->until_ns != 0 && c->now_ns >= left->until_ns);
}

/* A held message is processed, or ends here. */
static enum sent process_or_cancel(struct dispatcher *d, struct client *c, struct record *r,
				   struct left *left)
{
	left->messages--;
	if (left->until_ns == 0)
		left->until_ns = c->now_ns + RUN_NS;
	if (!is_to_cancel(c, r))
		return process(d, c, r);
	client_complete(c, r, GQ_OUTCOME_CANCELLED, NULL);
	return SENT;
}

static enum served send_held(struct dispatcher *d, struct client *c, struct left *left)
{
	enum served some = SERVED_NOTHING;

	c->now_ns = gq__now_ns();
	for (struct record *r = c->first, *next; r != NULL && c->held != 0; r = next) {
		next = r->next;
		if (r->state != RECORD_HELD)
			continue;
		if (!has_room(d, c) || is_over(c, left))
			break;
		switch (process_or_cancel(d, c, r, left)) {
		case SENT_NOT:
			return some;
		case SENT_TOO_LONG:
			return SERVED_TOO_LONG;
		case SENT:
			some = SERVED_SOME;
		}
	}
	return some;
}

/* What is cancelled all the same needs no room. */
static bool may_claim(const struct dispatcher *d, const struct client *c)
{
	return c->free != NULL && (has_room(d, c) || (c->control & GQ_CONTROL_CANCEL) != 0);
}

static enum served claim_some(struct dispatcher *d, struct client *c, uint32_t lowest,
			      struct left *left)
{
	enum served some = SERVED_NOTHING;

	while (may_claim(d, c) && !is_over(c, left)) {
		struct record *r;
		const enum claimed claimed = client_claim(c, lowest, &r);

		if (claimed == CLAIMED_NONSENSE) {
			c->broken = true;
			d->note(d->user, c, NOTE_BROKEN, "");
		}
		if (claimed != CLAIMED_ONE)
			break;
		some = SERVED_SOME;
		switch (process_or_cancel(d, c, r, left)) {
		case SENT_NOT:
			return some;
		case SENT_TOO_LONG:
			return SERVED_TOO_LONG;
		case SENT:
			break;
		}
	}
	return some;
}

static bool is_standing(const struct client *c)
{
	return (c->control & (GQ_CONTROL_PAUSE | GQ_CONTROL_CANCEL)) == GQ_CONTROL_PAUSE ||
	       c->leaving || c->broken;
}

/* Whether what has been recalled has yet to come back. If all is to be cancelled, no order is to be
 * kept. */
static bool is_recalling(const struct client *c)
{
	return c->recalled != 0 && (c->control & GQ_CONTROL_CANCEL) == 0;
}

/* The class of what a client has next; GQ_CLASSES: it has nothing that can be served. */
static uint32_t class_of_next(const struct dispatcher *d, const struct client *c)
{
	if (is_standing(c) || is_recalling(c) || d->failed || client_rests(c))
		return GQ_CLASSES;
	if (c->held == 0)
		return client_highest(c);
	for (const struct record *r = c->first; r != NULL; r = r->next)
		if (r->state == RECORD_HELD)
			return r->options.priority - 1;
	return GQ_CLASSES;
}

/*
 * The highest class that waits anywhere is served, and of lower ones nothing, as in a queue. After
 * as many messages as a queue lets pass, each client has one, of whatever class.
 */
struct share serve_share(struct dispatcher *d)
{
	uint32_t highest = 0;

	/* One that was cut short goes on: not all who want more have been asked. */
	if (gq_fair_matters(&d->fair) && !d->cut)
		gq__fair_turn(&d->fair, TURN);
	d->cut = false;
	if (!runs_here(d) || d->clients == NULL || d->clients->next == NULL)
		return (struct share){ 0, TURN };
	if (d->passed >= GQ_PASS_LIMIT) {
		d->passed = 0;
		return (struct share){ 0, 1 };
	}
	for (const struct client *c = d->clients; c != NULL; c = c->next) {
		const uint32_t class = class_of_next(d, c);

		if (class != GQ_CLASSES && class > highest)
			highest = class;
	}
	/* A turn counts, too: a client may show a message, and take it back. */
	d->passed += highest != 0;
	return (struct share){ highest, TURN };
}

/* Whether it is served no more for want of room, or of a longer turn. Nothing else may keep it: as
 * long as it wants more, users that have had more wait for it. */
static bool wants_more(const struct dispatcher *d, const struct client *c, struct share share)
{
	const uint32_t class = class_of_next(d, c);

	return class != GQ_CLASSES && class >= share.lowest && c->inside < c->window &&
	       (c->held != 0 || c->free != NULL);
}

/* What a client has held, then what it has sent. */
static enum served serve_messages(struct dispatcher *d, struct client *c, struct share share)
{
	/* What is only cancelled takes nothing from anybody, and waits for nobody. */
	const bool fairly = gq_fair_matters(&d->fair) && (c->control & GQ_CONTROL_CANCEL) == 0;
	enum served held = SERVED_NOTHING, claimed;
	struct left left = { 0 };
	uint32_t may;

	if (is_standing(c) || is_recalling(c) || d->failed)
		return SERVED_NOTHING;
	may = fairly ? gq__fair_take(&d->fair, c->user, share.messages) : share.messages;
	left.messages = may;
	if (c->held != 0 && class_of_next(d, c) >= share.lowest)
		held = send_held(d, c, &left);
	if (held != SERVED_TOO_LONG && c->held == 0) {
		c->now_ns = left.until_ns == 0 ? 0 : c->now_ns;
		claimed = claim_some(d, c, share.lowest, &left);
		held = claimed != SERVED_NOTHING ? claimed : held;
	}
	if (held == SERVED_TOO_LONG)
		return held; /* d is another thread's; all that it might have had counts */
	d->passed += share.lowest != 0 ? may - left.messages : 0;
	if (fairly)
		gq_fair_give_back(c->user, left.messages, wants_more(d, c, share));
	return held;
}

/* Nothing of it waits; or what does waits for what the client itself does. */
static bool wants_nothing(const struct client *c)
{
	return is_standing(c) || c->inside >= c->window || (c->held == 0 && !client_waits(c));
}

enum served serve_client(struct dispatcher *d, struct client *c, struct share share)
{
	const bool rung = c->rung;
	enum served served;
	bool some;

	if (c->broken || client_rests(c))
		return SERVED_NOTHING;
	c->rests_until_ns = 0;
	c->rests_in_vain = false;
	some = obey(d, c);
	served = serve_messages(d, c, share);
	if (served == SERVED_TOO_LONG)
		return served;
	if (c->unclocked != 0)
		read_clock(d, c); /* before a bell, which is no part of what a processor takes */
	client_settle(c);
	client_ring(c);
	if (__builtin_expect(rung, 0) && served == SERVED_NOTHING && (some || wants_nothing(c)))
		client_heard(c, some);
	c->rung = false;
	return some ? SERVED_SOME : served;
}

bool serve_would(const struct dispatcher *d, const struct client *c)
{
	/* All of these loads are second looks: [sleep.look]. */
	if (c->broken || client_rests(c))
		return false;
	if (gq_load_seq_cst_u64(&c->page->cancels) != c->cancels)
		return true;
	if (gq_load_seq_cst_u64(&c->page->control) != c->control)
		return true;
	return !is_standing(c) && !is_recalling(c) && !d->failed &&
	       (c->held != 0 ? has_room(d, c) : may_claim(d, c) && client_waits(c));
}

void serve_forget(struct dispatcher *d, struct client *c)
{
	for (struct record *r = c->first; r != NULL; r = r->next) {
		if (r->state != RECORD_INSIDE)
			continue;
		if (r == d->away) {
			d->away = NULL;
			continue;
		}
		q_cancel(d->q, r->sent_id);
		d->sent[r->sent_id & d->q->slot_mask] = NULL;
	}
	client_lose(c);
	c->first = c->last = NULL;
	c->inside = c->held = c->recalled = 0;
}
