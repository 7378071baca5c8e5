/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request.c - a request from its coming to its one end.
 *
 *   submit -> WAITS -> (GATHERS) -> RUNS -> answered, and free
 *               ^                    |
 *               |                    +-- its worker fails it --> RESTS --> WAITS, or its end
 *               +-- expired or cancelled: told at once; if a worker has it, LATE until that answers
 *
 * Where the configuration has an op's requests go in batches it GATHERS with others (gather.c).
 * One whose answer another one brings JOINS that one's end, or becomes one that WAITS if it brings
 * none (reuse.c).
 */
#include "router.h"

#include "broker/page/probe.h"
#include "host/base/clock.h"

#include <stdlib.h>
#include <string.h>

/* Of admission. */
enum { COST_MOST = 256 };
#define SHORTAGE_NS UINT64_C(100000000)
#define NOBODY_CAN  "no service that does this has what the request needs"

/* ---- the table ------------------------------------------------------------------------------- */

static bool waits(enum request_state state)
{
	return state == REQUEST_WAITS || state == REQUEST_GATHERS;
}

static void move_to(struct router *r, struct request *q, enum request_state state)
{
	rests_leave(r, q);
	r->late += (state == REQUEST_LATE) - (uint32_t)(q->state == REQUEST_LATE);
	r->resting += (state == REQUEST_RESTS) - (uint32_t)(q->state == REQUEST_RESTS);
	r->joining += (state == REQUEST_JOINS) - (uint32_t)(q->state == REQUEST_JOINS);
	r->gathering += (state == REQUEST_GATHERS) - (uint32_t)(q->state == REQUEST_GATHERS);
	q->user->waiting += (uint32_t)waits(state) - (uint32_t)waits(q->state);
	q->state = state;
	share_count(r, q);
}

static void charge(struct router *r, struct request *q, struct user *user)
{
	struct user *before = q->user;

	user->requests++;
	q->user = user;
	if (before == NULL)
		return;
	before->requests--;
	user_put(r, before);
}

static struct request *take_entry(struct router *r)
{
	struct request *q = &r->requests[r->free_request];

	if (r->free_request == REQUESTS)
		return NULL;
	r->free_request = r->free_request == r->used ? ++r->used : q->next_free;
	*q = (struct request){ .place = NOBODY };
	return q;
}

static void put_frame(struct router *r, struct request *q)
{
	region_put(r, q->region);
	q->region = NULL;
	if (q->frame != NULL && --q->frame->refs == 0)
		free(q->frame);
	q->frame = NULL;
}

/* `q`, if there is one, has rested, and is looked at again. */
static void try_again(struct router *r, struct request *q, uint64_t now_ns)
{
	if (q == NULL)
		return;
	move_to(r, q, REQUEST_WAITS);
	(void)gq__admission_again(&r->admission, q->id, share_is_used_up(r, q->asker, q->group),
				  now_ns);
}

static void free_entry(struct router *r, struct request *q)
{
	const uint32_t group = q->group;

	try_again(r, turns_leave(r, q), gq__now_ns());
	if (q->state == REQUEST_GATHERS)
		gather_leave(r, q);
	move_to(r, q, REQUEST_FREE);
	q->user->requests--;
	q->asker->asked--;
	user_put(r, q->asker);
	if (q->user != q->asker)
		user_put(r, q->user);
	q->user = q->asker = NULL;
	put_frame(r, q);
	q->worker = NULL;
	q->next_free = r->free_request;
	r->free_request = (uint32_t)(q - r->requests);
	if (group == GROUPS)
		return;
	r->groups[group]->waiting--;
	group_put(r, group);
}

/* ---- its end --------------------------------------------------------------------------------- */

static void count_end(struct router *r, enum gq_wire_status status)
{
	switch (status) {
	case GQ_WIRE_SUCCESS:
		r->counts.ok++;
		return;
	case GQ_WIRE_TIMEOUT:
		r->counts.expired++;
		return;
	case GQ_WIRE_CANCELLED:
		r->counts.cancelled++;
		return;
	case GQ_WIRE_LOST:
		r->counts.lost++;
		return;
	default:
		r->counts.failed++;
	}
}

/* Who cancels knows it. */
static void note_end(struct router *r, const struct request *q, enum gq_wire_status status)
{
	if (status != GQ_WIRE_SUCCESS && status != GQ_WIRE_CANCELLED && q->group != GROUPS)
		report_error(r, "a request for '%s' has ended: %s", r->groups[q->group]->name.text,
			     gq__wire_status_text(status));
}

static pid_t pid_of(const struct peer *p)
{
	return p != NULL ? p->link.pid : 0;
}

static void count_time(struct router *r, const struct request *q, enum gq_wire_status status)
{
	struct page_services *s = &r->shown;
	const uint64_t ns = gq__now_ns() - q->came_ns;

	PROBE4(answer, pid_of(q->caller), q->correlation, (int)status, ns);

	s->seconds[histogram_bucket(ns)]++;
	s->seconds_ns += ns;
	s->seconds_max_ns = ns > s->seconds_max_ns ? ns : s->seconds_max_ns;
}

static void leave_caller(struct request *q)
{
	*(q->asked_after != NULL ? &q->asked_after->asked_before : &q->caller->asked) =
		q->asked_before;
	if (q->asked_before != NULL)
		q->asked_before->asked_after = q->asked_after;
	q->caller->inside--;
	q->caller = NULL;
}

/* The one answer to its caller. `from`: the worker's answer, or NULL. */
static void tell_caller(struct router *r, struct request *q, const struct answer *a,
			const struct gq_frame *from)
{
	struct gq_frame f = { .type = GQ_MESSAGE_RESPONSE,
			      .flags = GQ_FLAG_CHECKSUM,
			      .correlation = q->correlation };
	const bool seen = a->seen || q->ever_seen || reuse_may_run(r, q);
	const uint32_t words[4] = { a->status, gq__retry_kind(a->status, seen),
				    (uint32_t)((a->retry_ns + 999999) / 1000000), seen };

	count_end(r, a->status);
	note_end(r, q, a->status);
	count_time(r, q, a->status);
	if (q->counts_as_retry) /* so it has a group */
		gq__retry_ended(&r->groups[q->group]->budget);
	q->counts_as_retry = false;
	if (q->caller == NULL)
		return;
	if (r->admission.level >= GQ_LEVEL_SOFT)
		f.flags |= GQ_FLAG_PRESSURE;
	if (a->reused)
		f.flags |= GQ_FLAG_CACHE;
	if (q->batched && a->status == GQ_WIRE_SUCCESS && from != NULL &&
	    batch_answer(r, q->caller, q->correlation, f.flags, gq__now_ns() - q->came_ns,
			 &from->tlv[GQ_TLV_PAYLOAD])) {
		leave_caller(q);
		return;
	}
	gq__frame_set(&f, GQ_TLV_STATUS, false, words, sizeof(words));
	if (from != NULL && gq_frame_has(from, GQ_TLV_PAYLOAD))
		gq__frame_set(&f, GQ_TLV_PAYLOAD, false, from->tlv[GQ_TLV_PAYLOAD].data,
			      from->tlv[GQ_TLV_PAYLOAD].bytes);
	if (from != NULL && gq_frame_has(from, GQ_TLV_TEXT))
		gq__frame_set(&f, GQ_TLV_TEXT, false, from->tlv[GQ_TLV_TEXT].data,
			      from->tlv[GQ_TLV_TEXT].bytes);
	else if (a->text != NULL)
		gq__frame_set(&f, GQ_TLV_TEXT, false, a->text, strlen(a->text));
	(void)peer_send(r, q->caller, &f, 0);
	leave_caller(q);
}

/* No worker has it: it is answered and forgotten. */
static void end_request(struct router *r, struct request *q, const struct answer *a,
			const struct gq_frame *from)
{
	struct gq_told told;

	tell_caller(r, q, a, from);
	(void)gq__admission_finish(&r->admission, q->id, gq__now_ns(), &told);
	reuse_end(r, q, a, from);
	free_entry(r, q);
}

void request_end_joined(struct router *r, struct request *q, const struct answer *a,
			const struct gq_frame *from)
{
	tell_caller(r, q, a, from);
	free_entry(r, q);
}

/* It has waited for another one's answer, and does not any more. */
static void leave_joined(struct router *r, struct request *q, enum gq_wire_status status)
{
	const struct answer a = { .status = status, .seen = reuse_may_run(r, q) };

	reuse_leave(r, q);
	request_end_joined(r, q, &a, NULL);
}

/* An expiry is the service's fault only if that has had time: else whoever asks for an answer
 * within a microsecond could close it for all. */
static enum gq_breaker_outcome blame(const struct router *r, const struct request *q,
				     enum gq_wire_status status, uint64_t now_ns)
{
	const uint64_t bound_ns = r->cfg.heartbeat_ms * UINT64_C(1000000);

	return status == GQ_WIRE_TIMEOUT && now_ns - q->began_ns >= bound_ns ? GQ_OUTCOME_FAULT
									     : GQ_OUTCOME_NOTHING;
}

/* It has expired, or is not wanted any more; admission has told so. */
static void end_early(struct router *r, const struct gq_told *told, enum gq_wire_status status)
{
	struct request *q = &r->requests[told->request.cookie];
	const struct answer a = { .status = status, .seen = q->seen };
	const uint64_t now_ns = gq__now_ns();
	struct gq_told again;

	if (q->place != NOBODY) {
		const enum gq_breaker_outcome outcome = blame(r, q, status, now_ns);

		group_verdict(r, q, outcome, now_ns);
		if (outcome == GQ_OUTCOME_FAULT)
			limit_expired(r, q, now_ns);
	}
	tell_caller(r, q, &a, NULL);
	if (q->worker != NULL) {
		const struct gq_frame f = { .type = GQ_MESSAGE_CANCEL,
					    .flags = GQ_FLAG_CHECKSUM,
					    .correlation = q->serial,
					    .present = UINT64_C(1) << GQ_TLV_TARGET,
					    .tlv[GQ_TLV_TARGET] = { (const uint8_t *)&q->serial,
								    sizeof(q->serial) } };

		/* It has ended for all but its worker: only its entry stays, and is that user's. */
		move_to(r, q, REQUEST_LATE);
		if (q->place != NOBODY)
			limit_late(r, q->place);
		charge(r, q, q->worker->user);
		if (told->was_running)
			(void)gq__admission_finish(&r->admission, q->id, now_ns, &again);
		if (reuse_goes_on(r, q)) /* others may wait for what the worker says, or ask */
			return;
		reuse_end(r, q, &a, NULL);
		put_frame(r, q);
		(void)peer_send(r, q->worker, &f, 0);
		return;
	}
	if (told->was_running) /* it rested between two attempts */
		(void)gq__admission_finish(&r->admission, q->id, gq__now_ns(), &again);
	reuse_end(r, q, &a, NULL);
	free_entry(r, q);
}

/* An attempt has failed: another one, or the end. The service is done with already. */
static void attempt_failed(struct router *r, struct request *q, const struct answer *a,
			   const struct gq_frame *from)
{
	const struct gq_retry_case failed = {
		.status = a->status,
		.seen = a->seen,
		.idempotent = q->idempotent,
		.died = a->died,
		.attempts = q->attempts,
		.deadline_ns = q->deadline_ns,
		.before_ns = q->delay_ns,
		.after_ns = (int64_t)a->retry_ns,
		.in_flight = r->admission.running,
	};
	const uint64_t now_ns = gq__now_ns();

	if (q->state == REQUEST_LATE) {
		r->counts.late++;
		reuse_end(r, q, a, from);
		free_entry(r, q);
		return;
	}
	if (q->counts_as_retry)
		gq__retry_ended(&r->groups[q->group]->budget);
	q->counts_as_retry = false;
	if (gq__retry_decide(&r->retry, &r->groups[q->group]->budget, &failed, now_ns, &r->random,
			     &q->delay_ns) != GQ_RETRY_GO) {
		end_request(r, q, a, from);
		return;
	}
	q->ever_seen = q->ever_seen || a->seen;
	q->seen = false;
	gq__retry_began(&r->groups[q->group]->budget);
	q->counts_as_retry = true;
	r->counts.retried++;
	move_to(r, q, REQUEST_RESTS);
	q->again_ns = now_ns + q->delay_ns;
}

/* ---- coming in ------------------------------------------------------------------------------- */

void request_refuse(struct router *r, struct peer *p, uint64_t correlation, const struct answer *a)
{
	const struct gq_frame out = { .type = GQ_MESSAGE_RESPONSE,
				      .flags = GQ_FLAG_CHECKSUM,
				      .correlation = correlation };
	const uint32_t words[4] = { a->status, gq__retry_kind(a->status, false),
				    (uint32_t)((a->retry_ns + 999999) / 1000000), 0 };
	struct gq_frame w = out;

	r->counts.refused++;
	PROBE3(reject, p->link.pid, correlation, (int)a->status);
	report_error(r, "a request was refused: %s", a->error != NULL ? a->error : a->text);
	gq__frame_set(&w, GQ_TLV_STATUS, false, words, sizeof(words));
	gq__frame_set(&w, GQ_TLV_TEXT, false, a->text, strlen(a->text));
	(void)peer_send(r, p, &w, 0);
}

static struct request *find(const struct peer *p, uint64_t correlation)
{
	struct request *q = p->asked;

	while (q != NULL && q->correlation != correlation)
		q = q->asked_before;
	return q;
}

/* What is wrong with it before anybody asks whether there is room. NULL: nothing */
static const char *complaint(const struct peer *p, const struct gq_frame *f)
{
	if (f->correlation == 0)
		return "its correlation is 0";
	if (f->length > GQ_WIRE_FRAME_MAX - 64) /* what the daemon adds */
		return "the frame has more than 65472 bytes";
	if (find(p, f->correlation) != NULL)
		return "a request of this correlation has not ended";
	return NULL;
}

static struct answer answer_of(const struct router *r, enum gq_admission_status status)
{
	struct answer a = { .status = GQ_WIRE_OVERLOADED,
			    .retry_ns = gq__admission_retry_ns(&r->admission),
			    .text = "too many requests wait" };

	if (status == GQ_ADMISSION_EXPIRED)
		a = (struct answer){ .status = GQ_WIRE_TIMEOUT, .text = "its time is over" };
	return a;
}

static uint64_t timeout_of(const struct router *r, const struct gq_frame *f)
{
	const uint64_t most_us = UINT64_C(86400000000);
	uint64_t us = r->cfg.timeout_ms * UINT64_C(1000);

	if (gq_frame_has(f, GQ_TLV_TIMEOUT))
		us = gq__frame_u64(f, GQ_TLV_TIMEOUT, 0);
	return (us < most_us ? us : most_us) * 1000;
}

static uint8_t priority_of(const struct gq_frame *f)
{
	return gq_frame_has(f, GQ_TLV_PRIORITY) ? gq__frame_u8(f, GQ_TLV_PRIORITY) : 128;
}

/* An entry for it, charged to its user. @return NULL, and `a` */
static struct request *enter(struct router *r, struct peer *p, const struct gq_frame *f,
			     struct answer *a)
{
	const uint32_t waiting_most = r->cfg.queued - r->cfg.queued / 4;
	const bool has_share = p->user->requests < USER_REQUESTS && p->user->waiting < waiting_most;
	struct request *q = has_share ? take_entry(r) : NULL;

	if (q == NULL) {
		*a = answer_of(r, GQ_ADMISSION_FULL);
		if (!has_share)
			a->text = "this user has its share of what may wait or run";
		return NULL;
	}
	q->group = group_find(r, f->tlv[GQ_TLV_NAME].data, f->tlv[GQ_TLV_NAME].bytes);
	if (q->group != GROUPS)
		r->groups[q->group]->waiting++;
	q->caller = p;
	q->correlation = f->correlation;
	q->idempotent = (f->flags & GQ_FLAG_IDEMPOTENT) != 0;
	q->priority = priority_of(f);
	if (gq_frame_has(f, GQ_TLV_SESSION))
		q->session = turns_session(r, q, f);
	q->came_ns = gq__now_ns();
	q->deadline_ns = q->came_ns + timeout_of(r, f);
	charge(r, q, p->user);
	q->asker = p->user;
	q->asker->asked++;
	return q;
}

static uint32_t cost_of(const struct request *q)
{
	const uint64_t cost = 1 + (q->frame->bytes + q->region_bytes) / 4096;

	return cost < COST_MOST ? (uint32_t)cost : COST_MOST;
}

/* It will run: so it waits for a service. */
static enum gq_admission_status wait_in_line(struct router *r, struct request *q)
{
	const uint64_t now_ns = gq__now_ns();
	const struct gq_request request = {
		.service = q->group,
		.uid = q->caller->link.uid,
		.priority = q->priority,
		.cost = cost_of(q),
		.bytes = q->frame->bytes,
		.timeout_ns = q->deadline_ns > now_ns ? q->deadline_ns - now_ns : 1,
		.cookie = (uint64_t)(q - r->requests),
		.held = share_is_used_up(r, q->asker, q->group),
	};
	const enum gq_admission_status status =
		gq__admission_submit(&r->admission, &request, now_ns, &q->id);

	if (status == GQ_ADMISSION_OK)
		move_to(r, q, REQUEST_WAITS);
	return status;
}

static bool keep_frame(struct request *q, const uint8_t *data, uint32_t bytes)
{
	q->frame = malloc(sizeof(*q->frame) + bytes);
	if (q->frame == NULL)
		return false;
	q->frame->refs = 1;
	q->frame->bytes = bytes;
	memcpy(q->frame->data, data, bytes);
	return true;
}

/* @return false, and `a`: why it may not run */
static bool admit(struct router *r, struct request *q, const struct gq_frame *f,
		  const uint8_t *data, struct answer *a)
{
	enum gq_admission_status status = GQ_ADMISSION_FULL;
	struct gq_capability want;

	if (q->group == GROUPS || r->groups[q->group]->members == 0) {
		*a = (struct answer){ .status = GQ_WIRE_NOT_FOUND,
				      .text = "no service of this name, or for this op" };
		return false;
	}
	if (gq_frame_has(f, GQ_TLV_FILTER) && needs_read(f, &want, a) && !needs_find(r, q, &want)) {
		*a = (struct answer){ .status = GQ_WIRE_NOT_FOUND, .text = NOBODY_CAN };
		return false;
	}
	if (keep_frame(q, data, f->length))
		status = wait_in_line(r, q);
	r->counts.copied_bytes += payload_bytes(f);
	if (status != GQ_ADMISSION_OK)
		*a = answer_of(r, status);
	return status == GQ_ADMISSION_OK;
}

static void join_in(struct router *r, struct request *q)
{
	move_to(r, q, REQUEST_JOINS);
	if (q->deadline_ns < r->joined_due_ns)
		r->joined_due_ns = q->deadline_ns;
}

bool request_promote(struct router *r, struct request *q)
{
	enum gq_admission_status status;
	struct answer a;

	status = wait_in_line(r, q);
	if (status == GQ_ADMISSION_OK)
		return true;
	a = answer_of(r, status);
	request_end_joined(r, q, &a, NULL);
	return false;
}

/* From now on it is to end once. */
static void accept(struct router *r, struct request *q)
{
	PROBE3(request, q->caller->link.pid, q->correlation, q->priority);
	r->counts.accepted++;
	r->counts.described += q->region != NULL;
	r->counts.described_bytes += q->region_bytes;
	q->caller->inside++;
	q->asked_before = q->caller->asked;
	if (q->asked_before != NULL)
		q->asked_before->asked_after = q;
	q->caller->asked = q;
}

/* Runs it, or lets it wait for who runs it, or answers it. @return false, and `a`: it is refused */
static bool take_in(struct router *r, struct request *q, const struct gq_frame *f,
		    const uint8_t *data, struct answer *a)
{
	struct gq_frame from;

	switch (reuse_ask(r, q, f, a, &from)) {
	case GQ_CACHE_HIT:
		accept(r, q);
		request_end_joined(r, q, a, &from);
		return true;
	case GQ_CACHE_JOINED:
		accept(r, q);
		join_in(r, q);
		return true;
	case GQ_CACHE_LEAD:
	case GQ_CACHE_ALONE:
		if (admit(r, q, f, data, a)) {
			accept(r, q);
			return true;
		}
		reuse_end(r, q, a, NULL); /* nobody can have joined yet */
		return false;
	default:
		return false;
	}
}

/* Why it is refused whatever it asks for. @return false: it is not */
static bool object(struct router *r, struct peer *p, const struct gq_frame *f, struct answer *a)
{
	const uint64_t cannot = UINT64_C(1) << GQ_TLV_FRAGMENT | UINT64_C(1) << GQ_TLV_TARGET;
	struct gq_capability want;

	*a = (struct answer){ .status = GQ_WIRE_INVALID, .text = complaint(p, f) };
	if (a->text != NULL)
		return true;
	if ((f->present & cannot) != 0)
		*a = (struct answer){ .status = GQ_WIRE_UNSUPPORTED, .text = "no fragments here" };
	else if (gq_frame_has(f, GQ_TLV_REGION) && region_named(p, f, a) == NULL)
		return true;
	else if (r->draining)
		*a = (struct answer){ .status = GQ_WIRE_SHUTTING_DOWN, .text = "gpuqd ends" };
	else if (p->inside >= r->cfg.window)
		*a = (struct answer){ .status = GQ_WIRE_OVERLOADED,
				      .retry_ns = gq__admission_retry_ns(&r->admission),
				      .text = "the connection has used up its window" };
	if (a->text == NULL && gq_frame_has(f, GQ_TLV_FILTER) && !needs_read(f, &want, a))
		return true; /* last: to read them costs */
	return a->text != NULL || !token_may_submit(r, p, f, priority_of(f), a);
}

bool request_take(struct router *r, struct peer *p, const struct gq_frame *f, const uint8_t *data,
		  bool batched, struct answer *a)
{
	struct request *q;

	if (object(r, p, f, a) || (q = enter(r, p, f, a)) == NULL)
		return false;
	q->batched = batched;
	if (gq_frame_has(f, GQ_TLV_REGION)) { /* object() has seen to it */
		q->region = region_hold(region_named(p, f, a));
		q->region_bytes = gq__frame_u64(f, GQ_TLV_REGION, 2);
	}
	if (take_in(r, q, f, data, a))
		return true;
	free_entry(r, q);
	return false;
}

void request_submit(struct router *r, struct peer *p, const struct gq_frame *f)
{
	struct answer a;

	if (!request_take(r, p, f, r->in, false, &a))
		request_refuse(r, p, f->correlation, &a);
}

void request_withdraw(struct router *r, struct peer *p, uint64_t correlation,
		      const struct answer *a)
{
	struct request *q = find(p, correlation);
	struct gq_told told;

	if (q != NULL && q->state == REQUEST_JOINS) {
		reuse_leave(r, q);
		request_end_joined(r, q, a, NULL);
	} else if (q != NULL &&
		   gq__admission_cancel(&r->admission, q->id, &told) == GQ_ADMISSION_OK) {
		end_request(r, q, a, NULL);
	}
}

/* ---- handing out ----------------------------------------------------------------------------- */

void request_frame(const struct request *q, struct gq_frame *f)
{
	const struct gq_frame_rules rules = { .state = GQ_FRAME_AFTER_HELLO };

	(void)gq__frame_decode(q->frame->data, q->frame->bytes, &rules, f); /* it was good */
	f->present &= ~(UINT64_C(1) << GQ_TLV_BATCH);                       /* its caller's word */
}

void request_send(struct router *r, struct request *q, struct gq_frame *f, uint64_t now_ns)
{
	const uint64_t left_us = q->deadline_ns > now_ns ? (q->deadline_ns - now_ns) / 1000 : 0;
	const uint64_t timeout_us = left_us != 0 ? left_us : 1;

	q->worker = r->served[q->place].peer;
	q->serial = ++r->serials << 16 | (uint64_t)(q - r->requests);
	q->by_version = group_version_at(r, q->group, q->place);
	q->began_ns = now_ns;
	q->attempts++;
	move_to(r, q, REQUEST_RUNS);
	f->flags |= GQ_FLAG_CHECKSUM;
	f->correlation = q->serial;
	f->must = 0;
	f->present &= ~(UINT64_C(1) << GQ_TLV_FILTER); /* it has what is needed */
	if (q->borrows)
		f->present &= ~(UINT64_C(1) << GQ_TLV_TRACE); /* another's */
	gq__frame_set(f, GQ_TLV_TIMEOUT, false, &timeout_us, sizeof(timeout_us));
	PROBE3(dispatch, pid_of(q->caller), q->correlation, q->worker->link.pid);
	q->seen = peer_send_region(r, q->worker, f, q->serial, q->region);
}

/* When a request that rests for room is tried without there being any: the later, the more rest. */
static uint64_t try_again_ns(const struct router *r, uint64_t now_ns)
{
	return now_ns + (2 + r->resting / 32) * UINT64_C(1000000);
}

/* Some services, or one, would take it and have no room: it waits beside the line until one of them
 * has (rests.c), so that others get past it. It may be kept by something else that ends without a
 * word, so it is tried from time to time, too. */
static void rest(struct router *r, struct request *q, uint64_t now_ns)
{
	gq__admission_no_turn(&r->admission, q->id);
	turns_lead(r, q);
	move_to(r, q, REQUEST_RESTS);
	rests_enter(r, q);
	q->again_ns = try_again_ns(r, now_ns);
}

void request_unplaced(struct router *r, struct request *q, enum gq_wire_status status,
		      uint64_t retry_ns)
{
	struct answer a = { .status = status, .retry_ns = retry_ns };

	if (q->bound)
		a.text = status == GQ_WIRE_UNSUPPORTED ? "its session's service takes no regions"
			 : status == GQ_WIRE_NOT_FOUND ? "its session's service has gone"
						       : "its session's service cannot take it now";
	else
		a.text = status == GQ_WIRE_UNSUPPORTED ? "none of its services takes regions"
			 : status == GQ_WIRE_NOT_FOUND ? NOBODY_CAN
						       : "no service can take it now";
	if (q->lost_once && status == GQ_WIRE_NOT_FOUND) /* the only one has died with it */
		a = (struct answer){ .status = GQ_WIRE_LOST, .seen = true };
	end_request(r, q, &a, NULL);
}

void request_expired(struct router *r, struct request *q)
{
	end_request(r, q, &(struct answer){ .status = GQ_WIRE_TIMEOUT }, NULL);
}

static void dispatch(struct router *r, const struct gq_told *told, uint64_t now_ns)
{
	struct request *q = &r->requests[told->request.cookie];
	enum gq_wire_status status;
	uint64_t retry_ns = 0;
	struct gq_frame f;
	bool only_full;

	if (told->deadline_ns <= now_ns) { /* no worker could answer in time */
		request_expired(r, q);
		return;
	}
	if (turns_follow(r, q)) {
		gq__admission_no_turn(&r->admission, q->id);
		move_to(r, q, REQUEST_RESTS);
		q->again_ns = UINT64_MAX; /* when its turn comes */
		return;
	}
	request_frame(q, &f);
	if (gather_takes(r, q, &f)) {
		move_to(r, q, REQUEST_GATHERS);
		gather_join(r, q, &f);
		return;
	}
	status = group_pick(r, q, &f, NULL, now_ns, &retry_ns, &only_full);
	if (status == GQ_WIRE_SUCCESS) {
		request_send(r, q, &f, now_ns);
		try_again(r, turns_leave(r, q), now_ns);
	} else if (only_full) {
		rest(r, q, now_ns);
	} else {
		request_unplaced(r, q, status, retry_ns);
	}
}

static struct gq_places groups_that_move(const struct router *r, uint64_t now_ns)
{
	struct gq_places set = { { 0 } };

	for (uint32_t i = 0; i < GROUPS; i++)
		if (r->groups[i] != NULL && r->groups[i]->waiting != 0 &&
		    gather_has_room(r->groups[i]) && group_moves(r, i, now_ns))
			gq_places_add(&set, i);
	return set;
}

static void pump_line(struct router *r, uint64_t now_ns)
{
	struct gq_told told;

	for (;;) {
		const struct gq_places set = groups_that_move(r, now_ns);

		if (gq_places_empty(&set) ||
		    !gq__admission_next(&r->admission, &set, now_ns, &told))
			return;
		dispatch(r, &told, now_ns);
	}
}

/* What rests for room gets into the line before others take that room. */
static void try_resting(struct router *r, uint64_t now_ns)
{
	struct request *q[RESTS_FIND];
	const uint32_t n = rests_find(r, now_ns, q);

	for (uint32_t i = 0; i < n; i++)
		try_again(r, q[i], now_ns);
}

void request_pump(struct router *r)
{
	const uint64_t now_ns = gq__now_ns();

	try_resting(r, now_ns);
	do /* when a batch has gone there is room for another */
		pump_line(r, now_ns);
	while (gather_pump(r, now_ns));
}

/* ---- what a worker says ---------------------------------------------------------------------- */

/* What an answer says of the service that gives it. */
static enum gq_breaker_outcome outcome_of(enum gq_wire_status status)
{
	switch (status) {
	case GQ_WIRE_SUCCESS:
	case GQ_WIRE_ERROR: /* the service works: it has said what is wrong with the request */
		return GQ_OUTCOME_OK;
	case GQ_WIRE_INTERNAL:
	case GQ_WIRE_CHECKSUM:
	case GQ_WIRE_LOST:
		return GQ_OUTCOME_FAULT;
	default:
		return GQ_OUTCOME_NOTHING;
	}
}

/* A worker without descriptors answers at once, so it would get the next one, too. */
static void note_shortage(struct router *r, const struct request *q, enum gq_wire_status status,
			  uint64_t now_ns)
{
	if (status == GQ_WIRE_FD_EXHAUSTED)
		r->served[q->place].no_room_until_ns = now_ns + SHORTAGE_NS;
}

void request_answered(struct router *r, struct peer *p, const struct gq_frame *f)
{
	const uint32_t index = (uint32_t)(f->correlation & 0xffff);
	struct request *q = index < r->used ? &r->requests[index] : NULL;
	const uint32_t status = gq__frame_u32(f, GQ_TLV_STATUS, 0);
	const struct answer a = {
		.status = (enum gq_wire_status)status,
		.seen = gq__frame_u32(f, GQ_TLV_STATUS, 3) != 0 || status == GQ_WIRE_INTERNAL,
		.retry_ns = gq__frame_u32(f, GQ_TLV_STATUS, 2) * UINT64_C(1000000)
	};

	if (q == NULL || q->state == REQUEST_FREE || q->worker != p ||
	    q->serial != f->correlation) {
		r->counts.orphans++; /* a second answer, a stale one, or one to nothing */
		answer_nack(r, p, f->correlation,
			    &(struct answer){ .status = GQ_WIRE_NOT_FOUND,
					      .text = "stale: nothing waits for this answer" });
		return;
	}
	q->worker = NULL;
	p->answered_ns = gq__now_ns();
	if (q->place != NOBODY) {
		gq_places_add(&q->failed, q->place);
		note_shortage(r, q, a.status, p->answered_ns);
		if (a.status == GQ_WIRE_SUCCESS) /* an error may come sooner than an answer */
			limit_answered(r, q, p->answered_ns);
		group_done(r, q, outcome_of(a.status), p->answered_ns);
	}
	if (q->state != REQUEST_LATE && a.status == GQ_WIRE_SUCCESS) {
		gq__retry_succeeded(&r->groups[q->group]->budget);
		end_request(r, q, &a, f);
		return;
	}
	attempt_failed(r, q, &a, f);
}

/* ---- callers and workers that go ------------------------------------------------------------- */

void request_cancel(struct router *r, struct peer *p, uint64_t correlation)
{
	struct request *q = find(p, correlation);
	struct gq_told told;

	if (q != NULL && q->state == REQUEST_JOINS)
		leave_joined(r, q, GQ_WIRE_CANCELLED);
	/* One that has ended already: its answer is on its way, and says so. */
	else if (q != NULL && gq__admission_cancel(&r->admission, q->id, &told) == GQ_ADMISSION_OK)
		end_early(r, &told, GQ_WIRE_CANCELLED);
}

/* Its worker will never answer. `charged`: the groups that this death has cost a token. */
static void lose(struct router *r, struct request *q, struct gq_places *charged)
{
	const struct answer a = { .status = GQ_WIRE_LOST,
				  .seen = q->seen,
				  .text = "its worker has died, and may have run it",
				  .died = true };

	if (q->state != REQUEST_LATE && !gq_places_has(charged, q->group)) {
		gq_places_add(charged, q->group);
		gq__retry_died(&r->groups[q->group]->budget);
	}
	q->worker = NULL;
	if (q->place != NOBODY) {
		gq_places_add(&q->failed, q->place);
		group_done(r, q, GQ_OUTCOME_FAULT, gq__now_ns());
	}
	q->lost_once = q->lost_once || q->seen;
	attempt_failed(r, q, &a, NULL);
}

void request_unsent(struct router *r, struct peer *p, uint64_t serial)
{
	struct request *q = &r->requests[serial & 0xffff];
	const struct answer a = { .status = GQ_WIRE_FD_EXHAUSTED,
				  .text = "too many descriptors are on their way to workers" };

	if (q->worker != p || q->serial != serial)
		return;
	q->seen = false;
	q->worker = NULL;
	if (q->place != NOBODY) {
		note_shortage(r, q, a.status, gq__now_ns());
		group_done(r, q, GQ_OUTCOME_NOTHING, gq__now_ns());
	}
	attempt_failed(r, q, &a, NULL);
}

void request_service_left(struct router *r, uint32_t place, struct gq_places *charged)
{
	const uint64_t now_ns = gq__now_ns();

	for (uint32_t i = 0; i < r->used; i++) {
		struct request *q = &r->requests[i];

		if (q->state == REQUEST_FREE)
			continue;
		gq_places_remove(&q->failed, place); /* another service may come there */
		if (q->place != place)
			continue;
		if (charged != NULL) {
			lose(r, q, charged);
			gq_places_remove(&q->failed, place);
		} else {
			group_done(r, q, GQ_OUTCOME_NOTHING, now_ns);
		}
	}
}

/* Frames in its queue have not been seen by it. */
static void unsee(struct router *r, const struct peer *p)
{
	for (const struct outgoing *o = p->out; o != NULL; o = o->next) {
		struct request *q = &r->requests[o->serial & 0xffff];

		if (o->serial != 0 && q->worker == p && q->serial == o->serial)
			q->seen = false;
	}
}

void request_peer_gone(struct router *r, struct peer *p)
{
	struct gq_places charged = { { 0 } };
	struct gq_told told;

	unsee(r, p);
	registered_peer_gone(r, p, &charged);
	for (uint32_t i = 0; i < r->used; i++) {
		struct request *q = &r->requests[i];

		if (q->state == REQUEST_FREE)
			continue;
		if (q->worker == p)
			lose(r, q, &charged); /* its service had left before */
		if (q->state == REQUEST_FREE || q->caller != p)
			continue;
		if (q->state == REQUEST_JOINS) {
			leave_joined(r, q, GQ_WIRE_CANCELLED);
			continue;
		}
		leave_caller(q);
		if (gq__admission_cancel(&r->admission, q->id, &told) == GQ_ADMISSION_OK)
			end_early(r, &told, GQ_WIRE_CANCELLED);
	}
}

/* ---- time ------------------------------------------------------------------------------------ */

/* Those that join lie in no table by time: they are looked at when one of them may be due. */
static uint64_t expire_joined(struct router *r, uint64_t now_ns)
{
	if (r->joined_due_ns > now_ns)
		return r->joined_due_ns;
	r->joined_due_ns = UINT64_MAX;
	for (uint32_t i = 0; r->joining != 0 && i < r->used; i++) {
		struct request *q = &r->requests[i];

		if (q->state != REQUEST_JOINS)
			continue;
		if (q->deadline_ns <= now_ns)
			leave_joined(r, q, GQ_WIRE_TIMEOUT);
		else if (q->deadline_ns < r->joined_due_ns)
			r->joined_due_ns = q->deadline_ns;
	}
	return r->joined_due_ns;
}

uint64_t request_tick(struct router *r, uint64_t now_ns)
{
	const uint64_t joined_ns = expire_joined(r, now_ns);
	uint64_t next_ns;
	struct gq_told told;
	uint32_t tried = 0;
	bool some = false;

	for (; gq__admission_expire(&r->admission, now_ns, &told); some = true)
		end_early(r, &told, GQ_WIRE_TIMEOUT);
	next_ns = gq__admission_deadline(&r->admission);
	next_ns = joined_ns < next_ns ? joined_ns : next_ns;
	if (some) /* a breaker may have opened: what waits for that service ends, or goes elsewhere
		   */
		next_ns = now_ns;
	for (uint32_t i = 0; r->resting != 0 && i < r->used; i++) {
		struct request *q = &r->requests[i];

		if (q->state != REQUEST_RESTS)
			continue;
		if (q->again_ns <= now_ns && rests_in_vain(r, q, now_ns))
			q->again_ns = try_again_ns(r, now_ns);
		if (q->again_ns > now_ns) {
			next_ns = q->again_ns < next_ns ? q->again_ns : next_ns;
			continue;
		}
		next_ns = now_ns; /* it can go at once, or is tried in the next turn */
		if (!q->rests_for_room || tried++ < RESTS_AT_ONCE)
			try_again(r, q, now_ns);
	}
	/* Those that rested for room count as waiting now: nobody must be refused for that. */
	if (tried != 0)
		pump_line(r, now_ns);
	return next_ns;
}

void request_end_all(struct router *r)
{
	const struct answer a = { .status = GQ_WIRE_SHUTTING_DOWN, .text = "gpuqd ends" };

	r->ending = true;
	for (uint32_t i = 0; i < r->used; i++) {
		struct request *q = &r->requests[i];

		if (q->state == REQUEST_FREE || q->state == REQUEST_LATE)
			continue;
		q->worker = NULL;
		if (q->place != NOBODY)
			group_done(r, q, GQ_OUTCOME_NOTHING, gq__now_ns());
		end_request(r, q,
			    &(struct answer){ .status = a.status,
					      .seen = q->seen || reuse_may_run(r, q),
					      .text = a.text },
			    NULL);
	}
}

uint64_t request_inside(const struct router *r)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < r->used; i++)
		n += r->requests[i].state != REQUEST_FREE && r->requests[i].state != REQUEST_LATE;
	return n;
}
