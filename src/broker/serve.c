/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve.c - one turn of a dispatcher: completions of our queue go to their clients, messages of a
 * client into our queue.
 *
 * A message that is in our queue can be recalled: it is cancelled there. If it comes back
 * CANCELLED and its client did not ask for that, it has not run, and is held until it can be put
 * there again. So a client's pause means what it says, though its messages are in another queue.
 */
#include "dispatch.h"

#include "host/base/clock.h"

enum { TURN = 64 }; /* messages of one client, or completions, that a turn takes at most */

/* ---- completions ----------------------------------------------------------------------------- */

static uint32_t outcome_of(struct dispatcher *d, const Completion *done, const struct client *c)
{
	uint32_t reported = 0;

	switch (done->status) {
	case Q_OK:
		return done->result_len <= c->result_bytes ? done->result_len
							   : (uint32_t)GQ_OUTCOME_FAILED;
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

bool serve_completions(struct dispatcher *d)
{
	Completion done[TURN];
	uint64_t ids[TURN];
	uint64_t now_ns;
	size_t n = 0;
	const QueueStatus status =
		d->inside != 0 && !d->failed ? q_poll_results(d->q, done, TURN, &n) : Q_OK;

	if (status == Q_ERR_CUDA)
		d->failed = true;
	now_ns = n != 0 ? gq__now_ns() : 0;
	for (size_t i = 0; i < n; i++) {
		deliver(d, &done[i], now_ns);
		ids[i] = done[i].msg_id;
	}
	if (n == 0)
		return false;
	q_release_batch(d->q, ids, n);
	for (struct client *c = d->clients; c != NULL; c = c->next)
		client_ring(c);
	return true;
}

/* ---- a client's orders ----------------------------------------------------------------------- */

/* Ask our queue not to start what it has of this client's. Until all of it has come back, nothing
 * else is sent: it would overtake. */
static void recall(struct dispatcher *d, struct client *c)
{
	for (struct record *r = c->first; r != NULL; r = r->next) {
		if (r->state != RECORD_INSIDE)
			continue;
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
	r->recalled = false;
	r->state = RECORD_INSIDE;
	c->held--;
	c->inside++;
	d->inside++;
	return true;
}

static bool has_room(const struct dispatcher *d, const struct client *c)
{
	return c->inside < c->window && d->inside < d->capacity;
}

static bool send_held(struct dispatcher *d, struct client *c)
{
	bool some = false;

	for (struct record *r = c->first, *next; r != NULL && c->held != 0; r = next) {
		next = r->next;
		if (r->state != RECORD_HELD)
			continue;
		if (!has_room(d, c) || !send_on(d, c, r))
			break;
		some = true;
	}
	return some;
}

static bool is_to_cancel(const struct client *c, const struct record *r)
{
	return (c->control & GQ_CONTROL_CANCEL) != 0 || client_cancels(c, r);
}

static bool claim_some(struct dispatcher *d, struct client *c)
{
	uint32_t n = 0;

	c->now_ns = 0;
	while (n < TURN && c->free != NULL && has_room(d, c)) {
		struct record *r;
		const enum claimed claimed = client_claim(c, &r);

		if (claimed == CLAIMED_NONSENSE) {
			c->broken = true;
			d->note(d->user, c, NOTE_BROKEN, "");
		}
		if (claimed != CLAIMED_ONE)
			break;
		n++;
		if (is_to_cancel(c, r))
			client_complete(c, r, GQ_OUTCOME_CANCELLED, NULL);
		else if (!send_on(d, c, r))
			break;
	}
	return n != 0;
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

bool serve_client(struct dispatcher *d, struct client *c)
{
	bool some;

	if (c->broken)
		return false;
	some = obey(d, c);
	if (!is_standing(c) && !is_recalling(c) && !d->failed) {
		if (c->held != 0)
			some = send_held(d, c) || some;
		if (c->held == 0)
			some = claim_some(d, c) || some;
	}
	client_ring(c);
	return some;
}

bool serve_would(const struct dispatcher *d, const struct client *c)
{
	/* All of these loads are second looks: [sleep.look]. */
	if (c->broken)
		return false;
	if (gq_load_seq_cst_u64(&c->page->cancels) != c->cancels)
		return true;
	if (gq_load_seq_cst_u64(&c->page->control) != c->control)
		return true;
	return !is_standing(c) && !is_recalling(c) && !d->failed && has_room(d, c) &&
	       (c->held != 0 || client_waits(c));
}

void serve_forget(struct dispatcher *d, struct client *c)
{
	for (struct record *r = c->first; r != NULL; r = r->next) {
		if (r->state != RECORD_INSIDE)
			continue;
		q_cancel(d->q, r->sent_id);
		d->sent[r->sent_id & d->q->slot_mask] = NULL;
	}
	client_lose(c);
	c->first = c->last = NULL;
	c->inside = c->held = c->recalled = 0;
}
