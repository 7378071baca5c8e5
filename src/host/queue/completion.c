/* SPDX-License-Identifier: Apache-2.0 */
/* completion.c - from completions to results: reaping, polling, taking, waiting. */
#include "host/base/fault.h"
#include "host/base/sys.h"
#include "host/base/thread.h"
#include "host/queue/queue.h"
#include "host/region/region.h"

#include <inttypes.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- the consumers' side ------------------------------------------------------------------- */

void gq__wake_slot(GpuQueue *q, uint32_t slot)
{
	uint32_t *armed = &gq_slot_at(&q->ch, slot)->armed;

	if (gq_load_seq_cst_u32(armed) % 2 != 0) /* [wake.look] */
		gq__flag_wake(armed);
}

void gq__completed(GpuQueue *q, uint32_t slot, uint32_t outcome)
{
	const bool discard = (gq_slot_at(&q->ch, slot)->flags & GQ_SLOT_DISCARD) != 0;

	/* [message.complete]; from here on the slot may be anybody's */
	gq_complete(&q->ch, slot, outcome);
	gq__wake_slot(q, slot); /* at worst a futile wake-up of its next owner */
	gq_event_broadcast(&q->any);
	if (discard && gq_event_armed(&q->room)) /* a producer may reap and take it */
		gq__event_wake(&q->room, 1);
}

/* ---- reaping --------------------------------------------------------------------------------- */

void gq__free_slot(GpuQueue *q, uint64_t id)
{
	gq_word_ring_put_one(&q->pool, id & q->slot_mask); /* [pool.return] */
	if (!gq_event_armed(&q->room))                     /* [wake.look] */
		return;
	gq__event_wake(&q->room, 1);
	if (gq_closed(q)) /* sticky since then: q_wait_any() may wait for the last slot */
		gq_event_broadcast(&q->any);
}

/* ---- the finished list, under the reap lock ------------------------------------------------- */

/*
 * A slot enters it as its message becomes DONE, and only then: so while it is in it and DONE, it is
 * this message's turn to be polled. Taken by id, without the lock, it stays until somebody passes
 * over it or its next message finishes, which moves it to the end. So there is never more than
 * `capacity` in it, and nothing has to be tidied up all at once.
 */
static bool is_listed(const GpuQueue *q, uint32_t slot)
{
	const struct gq_neighbours *link = &q->finished[slot];

	return link->next != 0 || link->previous != 0 || q->finished_first == slot + 1u;
}

static void unlist(GpuQueue *q, uint32_t slot)
{
	struct gq_neighbours *link = &q->finished[slot];

	if (link->previous != 0)
		q->finished[link->previous - 1].next = link->next;
	else
		gq_store_relaxed_u64(&q->finished_first, link->next);
	if (link->next != 0)
		q->finished[link->next - 1].previous = link->previous;
	else
		q->finished_last = link->previous;
	*link = (struct gq_neighbours){ 0, 0 };
}

static void list(GpuQueue *q, uint32_t slot)
{
	if (is_listed(q, slot))
		unlist(q, slot);
	q->finished[slot].previous = (uint32_t)q->finished_last;
	if (q->finished_last != 0)
		q->finished[q->finished_last - 1].next = slot + 1;
	else
		gq_store_relaxed_u64(&q->finished_first, slot + 1u);
	q->finished_last = slot + 1u;
}

/* What looking for a message to poll has come to. */
enum found { NOTHING, SOMETHING, UNDECIDED };

/* Whether the first in the list is there to be polled, passing over `left` others at most. */
static enum found first_unpolled(GpuQueue *q, uint32_t *left)
{
	while (q->finished_first != 0) {
		const uint32_t slot = (uint32_t)q->finished_first - 1;

		/* [state.read] */
		if (gq_phase_of(gq_load_seq_cst_u64(&q->records[slot].state)) == GQ_DONE)
			return SOMETHING;
		if (*left == 0)
			return UNDECIDED;
		--*left;
		unlist(q, slot);
	}
	return NOTHING;
}

/* The message is done with its region. Before its state says so: who finds it finished finds the
 * region released. */
static void drop_region(GpuQueue *q, const struct gq_record *record)
{
	struct gq_error before;

	gq__error_keep(&before); /* a reaper's call has not failed if the table is damaged */
	gq__region_drop(q->regions, &record->descriptor);
	gq__error_put_back(&before);
	gq_fetch_add_seq_cst_u64(&q->described, 0 - UINT64_C(1)); /* [table.leave] */
}

/* Under the reap lock, as everything down to "polling". */
static void finish(GpuQueue *q, uint32_t index, uint32_t outcome)
{
	const struct gq_slot *slot = gq_slot_at(&q->ch, index);
	const uint64_t id = slot->msg_id;
	struct gq_record *record = &q->records[index];
	uint32_t few = 2;

#define COUNT(what) gq_store_relaxed_u64(&q->reaped.what, q->reaped.what + 1)
	COUNT(finished);
	if (gq_outcome_is_failure(outcome))
		COUNT(failed);
	else if (outcome == GQ_OUTCOME_EXPIRED)
		COUNT(expired);
	else if (outcome == GQ_OUTCOME_CANCELLED)
		COUNT(cancelled);
	if (__builtin_expect((slot->flags & GQ_SLOT_DESCRIBED) != 0, 0))
		drop_region(q, record);
	if ((slot->flags & GQ_SLOT_DISCARD) != 0) {
		COUNT(discarded);
		gq_store_release_u64(&record->state, gq_state(q, id, GQ_FREE)); /* [state.write] */
		gq__free_slot(q, id);
		return;
	}
#undef COUNT
	first_unpolled(q, &few); /* a list that nobody polls stays short */
	list(q, index);
	/* [state.write] release, these too: a reader that sees a later message's must then see that
	 * the state has moved on. */
	gq_store_release_u64(&record->tag, slot->tag);
	gq_store_release_u64(&record->outcome, outcome);
	/* [state.write] release: the result (through [message.reap]), tag, outcome, and that
	 * polling would return it: who finds the message finished must find it listed. Pairs with
	 * [state.read]. */
	gq_store_release_u64(&record->state, gq_state(q, id, GQ_DONE));
}

static void reap_one(GpuQueue *q, uint32_t slot, uint32_t outcome)
{
	if (__builtin_expect(q->trace != NULL, 0))
		gq__trace_finish(q, slot, outcome, false);
	finish(q, slot, outcome);
}

enum { REAP_CHUNK = 256 }; /* completions reaped in one go, to bound the time under the lock */

static uint32_t reap_some(GpuQueue *q, uint32_t most)
{
	uint32_t slot, outcome, n = 0;

	if (q->given_up) /* what a dead device still completes has ended FAILED already */
		return 0;
	while (n < most && gq_reap(&q->ch, &slot, &outcome)) {
		reap_one(q, slot, outcome);
		n++;
	}
	return n;
}

static uint32_t lock_and_reap(GpuQueue *q)
{
	uint32_t n;

	pthread_mutex_lock(&q->reap_lock);
	n = reap_some(q, REAP_CHUNK);
	pthread_mutex_unlock(&q->reap_lock);
	return n;
}

/*
 * Reap GQ_MOST_AT_ONCE of what is there.
 * @param force  also when nothing seems to wait, so as to wait for a reaper that has taken a
 *               completion and not yet said so
 * @return whether there may be more
 */
bool gq__reap(GpuQueue *q, bool force)
{
	uint32_t n = 0;

	if (!force && !gq_done_waits(&q->ch))
		return false;
	while (n < GQ_MOST_AT_ONCE) {
		if (lock_and_reap(q) < REAP_CHUNK)
			return false;
		n += REAP_CHUNK;
	}
	return true;
}

/* Reap all, a chunk at a time. */
void gq__reap_all(GpuQueue *q)
{
	while (gq__reap(q, true))
		;
}

/* Whether a message is inside that frees its slot when it is reaped. */
static bool may_free_slots(const GpuQueue *q)
{
	return gq_load_relaxed_u64(&q->count.discards) != gq_load_relaxed_u64(&q->reaped.discarded);
}

/*
 * Reap, then take up to `max` free slots, with no other reaper between a message's state and its
 * slot's return: what is not there then is not free. It goes on until there is a slot, or no
 * completion that could free one; where no message is to be discarded that is at once.
 */
uint32_t gq__pop_reaped(GpuQueue *q, uint64_t *ids, uint32_t max, bool *closed)
{
	uint32_t n, reaped, total = 0;

	do {
		pthread_mutex_lock(&q->reap_lock);
		reaped = reap_some(q, REAP_CHUNK);
		n = gq_pool_pop(&q->pool, ids, max, closed);
		pthread_mutex_unlock(&q->reap_lock);
		total += reaped;
	} while (n == 0 && !*closed && reaped == REAP_CHUNK &&
		 (total < GQ_MOST_AT_ONCE || may_free_slots(q)));
	return n;
}

/*
 * The device has failed: what it has completed stands, every other accepted message ends FAILED.
 * A completion that has not arrived, or whose result has not, hides none behind it.
 */
void gq__fail_all(GpuQueue *q)
{
	uint64_t pos;

	pthread_mutex_lock(&q->reap_lock);
	pos = gq_load_relaxed_u64(q->ch.done.head);
	for (uint32_t i = 0; i < q->cfg.capacity; i++) {
		uint32_t slot, outcome;

		if (gq_look_at_done(&q->ch, pos + i, &slot, &outcome) == GQ_WHOLE)
			reap_one(q, slot, outcome);
	}
	for (uint32_t i = 0; i < q->cfg.capacity; i++) {
		/* [state.read] */
		if (gq_phase_of(gq_load_seq_cst_u64(&q->records[i].state)) != GQ_QUEUED)
			continue;
		if (q->trace != NULL)
			gq__trace_finish(q, i, GQ_OUTCOME_FAILED, true);
		finish(q, i, GQ_OUTCOME_FAILED);
	}
	q->given_up = true;
	pthread_mutex_unlock(&q->reap_lock);
	gq__wake_everybody(q);
	for (uint32_t i = 0; i < q->cfg.capacity; i++)
		gq__wake_slot(q, i);
}

/*
 * How long the next completion has been without all of its result, as far as this has been asked.
 * Everything behind it waits, and for ever if its bytes were written to by others.
 * @param id  whose it is
 * @return 0: it is whole, or there is none
 */
uint64_t gq__torn_ns(GpuQueue *q, uint64_t now_ns, uint64_t *id)
{
	uint32_t slot, outcome;
	uint64_t pos, ns = 0;

	pthread_mutex_lock(&q->reap_lock);
	pos = gq_load_relaxed_u64(q->ch.done.head);
	if (q->given_up || gq_look_at_done(&q->ch, pos, &slot, &outcome) != GQ_TORN) {
		q->torn_since_ns = 0;
	} else {
		if (q->torn_since_ns == 0 || q->torn_pos != pos)
			q->torn_since_ns = now_ns;
		q->torn_pos = pos;
		ns = now_ns > q->torn_since_ns ? now_ns - q->torn_since_ns : 0;
		*id = gq_slot_at(&q->ch, slot)->msg_id;
	}
	pthread_mutex_unlock(&q->reap_lock);
	return ns;
}

/*
 * Whether polling would return something, reaping if need be: a whole chunk may have been of
 * messages to discard.
 * @param left  messages that may be passed over: discarded, or taken by id
 */
static enum found find_unpolled(GpuQueue *q, uint32_t *left)
{
	for (;;) {
		const uint64_t discarded = q->reaped.discarded;
		enum found found = first_unpolled(q, left);
		uint64_t passed;

		if (found != NOTHING)
			return found;
		if (*left == 0)
			return gq_done_waits(&q->ch) ? UNDECIDED : NOTHING;
		if (reap_some(q, *left < REAP_CHUNK ? *left : REAP_CHUNK) == 0)
			return NOTHING;
		passed = q->reaped.discarded - discarded;
		*left -= (uint32_t)passed;
	}
}

/* ---- the completion descriptor --------------------------------------------------------------- */

/* Under the reap lock: nothing is left to poll, so the descriptor must not be readable. Nor if that
 * is undecided: its thread decides, and makes it readable again. */
static void clear_fd(GpuQueue *q)
{
	uint32_t left = GQ_MOST_AT_ONCE;
	uint64_t value;

	if (q->fd_readable == 0 || first_unpolled(q, &left) == SOMETHING)
		return;
	(void)gq_sys_read(q->completion_fd, &value, sizeof(value));
	gq_exchange_seq_cst_u32(&q->fd_readable, 0); /* [wake.look] */
	gq_event_broadcast(&q->fd_cleared);
}

static bool fd_is_readable(const GpuQueue *q)
{
	return __builtin_expect(gq_load_seq_cst_u32(&q->fd_readable) != 0, 0); /* [wake.look] */
}

/* A result was taken by id, perhaps the last that a readable descriptor announced. Every 64th
 * clears the list's front, so that those who only take by id leave pollers little to pass over. */
static void taken_by_id(GpuQueue *q, uint64_t msg_id)
{
	const uint64_t sixty_fourth = 63 * (q->slot_mask + 1);
	uint32_t left = 128;

	if ((msg_id & sixty_fourth) == 0 && pthread_mutex_trylock(&q->reap_lock) == 0) {
		first_unpolled(q, &left);
		pthread_mutex_unlock(&q->reap_lock);
	}
	if (!fd_is_readable(q))
		return;
	pthread_mutex_lock(&q->reap_lock);
	clear_fd(q);
	pthread_mutex_unlock(&q->reap_lock);
}

/* Makes the descriptor readable if the first in the list is to be polled. Under the reap lock. */
static enum found announce_first(GpuQueue *q)
{
	const uint64_t one = 1;
	uint32_t left = GQ_MOST_AT_ONCE;
	enum found found = find_unpolled(q, &left);

	if (found != SOMETHING)
		return found;
	/* Flag, then look again ([sleep.look]): whoever takes the last result by id takes it, then
	 * looks at the flag ([wake.look]), so one of the two sees that nothing is left. */
	gq_exchange_seq_cst_u32(&q->fd_readable, 1);
	found = first_unpolled(q, &left);
	if (found == SOMETHING)
		(void)gq_sys_write(q->completion_fd, &one, sizeof(one));
	else
		gq_exchange_seq_cst_u32(&q->fd_readable, 0);
	return found;
}

/* Makes the descriptor readable when there is something to poll. @return whether it is. */
static bool announce(GpuQueue *q)
{
	enum found found;

	do {
		pthread_mutex_lock(&q->reap_lock);
		found = q->fd_readable != 0 ? SOMETHING : announce_first(q);
		pthread_mutex_unlock(&q->reap_lock);
	} while (found == UNDECIDED && gq_load_seq_cst_u32(&q->fd_quit) == 0);
	return found == SOMETHING;
}

/* One write per emptying: while the descriptor is readable the thread waits for it to be cleared
 * and completions do not wake it. */
static void *serve_fd(void *arg)
{
	GpuQueue *q = arg;
	struct gq_wait wait;

	GQ_NO_CANCEL();
	gq__name_this_thread("gpuq-fd");
	while (gq_load_seq_cst_u32(&q->fd_quit) == 0) {
		gq_wait_begin(q, &wait, &q->any, GQ_FOR_EVER, 0);
		while (gq_load_seq_cst_u32(&q->fd_quit) == 0 && !announce(q) &&
		       gq__wait_next(&wait))
			;
		gq__wait_end(&wait);
		gq__wait_begin(&wait, &q->fd_cleared, GQ_FOR_EVER, 0);
		while (gq_load_seq_cst_u32(&q->fd_quit) == 0 &&
		       gq_load_seq_cst_u32(&q->fd_readable) != 0 && gq__wait_next(&wait))
			;
		gq__wait_end(&wait);
	}
	return NULL;
}

/* Under the control lock. */
static int make_fd(GpuQueue *q)
{
	int fd, rc;

	errno = EMFILE;
	fd = gq__fault() ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (fd < 0) {
		gq__failf(Q_ERR_LIMIT, "eventfd for q_completion_fd: %s", strerror(errno));
		return -1;
	}
	q->completion_fd = fd;
	rc = gq__start_thread(&q->fd_thread, serve_fd, q, "gpuq-fd");
	if (rc != 0) {
		q->completion_fd = -1;
		gq_sys_close(fd);
		gq__failf(Q_ERR_LIMIT, "thread for q_completion_fd: %s", strerror(rc));
		return -1;
	}
	return fd;
}

int q_completion_fd(GpuQueue *q)
{
	int fd;

	if (gq_enter(q) != Q_OK)
		return -1;
	GQ_NO_CANCEL();
	pthread_mutex_lock(&q->control_lock);
	fd = q->completion_fd >= 0 ? q->completion_fd : make_fd(q);
	pthread_mutex_unlock(&q->control_lock);
	return fd;
}

void gq__stop_fd(GpuQueue *q)
{
	if (q->completion_fd < 0)
		return;
	gq_exchange_seq_cst_u32(&q->fd_quit, 1); /* [wake.look] */
	gq_event_broadcast(&q->any);
	gq_event_broadcast(&q->fd_cleared);
	pthread_join(q->fd_thread, NULL);
	gq_sys_close(q->completion_fd);
	q->completion_fd = -1;
}

/* ---- polling --------------------------------------------------------------------------------- */

static QueueStatus status_of(uint32_t outcome)
{
	if (__builtin_expect(outcome <= GQ_OUTCOME_MAX_LEN, 1))
		return Q_OK;
	return outcome == GQ_OUTCOME_EXPIRED     ? Q_ERR_EXPIRED
	       : outcome == GQ_OUTCOME_CANCELLED ? Q_ERR_CANCELLED
						 : Q_ERR_FAILED;
}

/* What a finished message's record says. Valid if the state is still the same afterwards. */
static uint32_t outcome_of(const GpuQueue *q, uint64_t id)
{
	/* [state.read] acquire on top of the state's: the state is read again after this. */
	return (uint32_t)gq_load_acquire_u64(&gq_record_of(q, id)->outcome);
}

/* Likewise. */
static Completion completion_of(const GpuQueue *q, uint64_t id)
{
	const uint32_t outcome = outcome_of(q, id);
	const QueueStatus status = status_of(outcome);

	/* [state.read] */
	return (Completion){ .msg_id = id,
			     .tag = gq_load_acquire_u64(&gq_record_of(q, id)->tag),
			     .status = status,
			     .result_len = status == Q_OK ? outcome : 0,
			     .result = gq_result_at(&q->ch, (uint32_t)(id & q->slot_mask)) };
}

/* Under the reap lock: the next finished id that nobody has polled or taken. */
static bool next_finished(GpuQueue *q, Completion *out, uint32_t *left)
{
	while (find_unpolled(q, left) == SOMETHING) {
		const uint32_t slot = (uint32_t)q->finished_first - 1;
		/* [state.read] */
		const uint64_t state = gq_load_seq_cst_u64(&q->records[slot].state);
		const uint64_t id = (state & ~q->slot_mask) | slot;

		unlist(q, slot);
		if (gq_phase_of(state) != GQ_DONE) /* taken by id since */
			continue;
		*out = completion_of(q, id);
		/* Against who takes it by id: one of the two gets it. */
		if (gq_cas_seq_cst_u64(&q->records[slot].state, state, gq_state(q, id, GQ_POLLED)))
			return true;
	}
	return false;
}

static bool nothing_to_poll(const GpuQueue *q)
{
	return gq_load_relaxed_u64(&q->finished_first) == 0 && !gq_done_waits(&q->ch) &&
	       !fd_is_readable(q);
}

/* One of `ids` and `completions` is NULL. */
static QueueStatus poll_finished(GpuQueue *q, uint64_t *ids, Completion *completions,
				 size_t max_count, size_t *out_count)
{
	uint32_t left = GQ_MOST_AT_ONCE;
	size_t n = 0;

	*out_count = 0;
	if (ids == NULL && completions == NULL && max_count != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the output array is NULL with max_count %zu; allowed: NULL only "
				 "with max_count 0",
				 max_count);
	if (max_count == 0 || nothing_to_poll(q)) {
		gq_tend(q);
		return Q_OK;
	}
	GQ_CALL(q, GQ_RANGE_POLL, max_count);
	pthread_mutex_lock(&q->reap_lock);
	while (n < max_count) {
		Completion one;

		if (!next_finished(q, &one, &left))
			break;
		if (ids != NULL)
			ids[n] = one.msg_id;
		else
			completions[n] = one;
		n++;
	}
	clear_fd(q);
	pthread_mutex_unlock(&q->reap_lock);
	*out_count = n;
	return Q_OK;
}

static QueueStatus no_count(void)
{
	return gq__fail(Q_ERR_INVALID_ARG, "out_count is NULL; allowed: where to put the count");
}

QueueStatus q_poll_completions(GpuQueue *q, uint64_t *out_msg_ids, size_t max_count,
			       size_t *out_count)
{
	if (out_count != NULL)
		*out_count = 0;
	GQ_ENTER(q);
	return out_count != NULL ? poll_finished(q, out_msg_ids, NULL, max_count, out_count)
				 : no_count();
}

QueueStatus q_poll_results(GpuQueue *q, Completion *out, size_t max_count, size_t *out_count)
{
	if (out_count != NULL)
		*out_count = 0;
	GQ_ENTER(q);
	return out_count != NULL ? poll_finished(q, NULL, out, max_count, out_count) : no_count();
}

/* ---- taking by id ---------------------------------------------------------------------------- */

static QueueStatus not_found(void)
{
	return gq__fail(Q_ERR_NOT_FOUND, "msg_id was never issued, or its message is aborted, "
					 "discarded or taken");
}

/*
 * The state of a message that has finished, reaping if need be.
 * @return Q_OK; Q_ERR_NOT_READY; Q_ERR_NOT_FOUND.
 */
static QueueStatus find_finished(GpuQueue *q, uint64_t msg_id, uint64_t *state)
{
	for (int look = 0; look < 2; look++) {
		*state = gq_look_up(q, msg_id); /* [state.read] */
		switch (gq_phase_of(*state)) {
		case GQ_FREE:
			return not_found();
		case GQ_DONE:
		case GQ_POLLED:
			return Q_OK;
		default:
			if (look == 0)
				gq__reap(q, false);
		}
	}
	gq_tend(q);
	return gq__fail(Q_ERR_NOT_READY, "the message has not finished yet");
}

/* Become the one who takes a finished message. The slot is the caller's until gq__free_slot(). */
static bool win(GpuQueue *q, uint64_t msg_id, uint64_t state)
{
	return gq_cas_seq_cst_u64(&gq_record_of(q, msg_id)->state, state,
				  gq_state(q, msg_id, GQ_FREE));
}

static void give_back(GpuQueue *q, uint64_t msg_id)
{
	gq__free_slot(q, msg_id);
	taken_by_id(q, msg_id);
}

static QueueStatus how_it_ended(uint32_t outcome)
{
	const QueueStatus status = status_of(outcome);
	const uint32_t reported = gq_reported_status(outcome);

	if (status == Q_OK)
		return Q_OK;
	if (reported != 0)
		return gq__failf(status, "the processor reported failure: its status is %" PRIu32,
				 reported);
	/* (What failed with the device is not taken: see GQ_ENTER.) */
	return gq__fail(status, status == Q_ERR_FAILED
					? "the processor's result is longer than result_bytes"
					: q_status_string(status));
}

static QueueStatus try_dequeue(GpuQueue *q, uint64_t msg_id, void *out_buf, size_t room,
			       size_t *out_len)
{
	for (;;) {
		uint64_t state;
		QueueStatus status = find_finished(q, msg_id, &state);
		Completion done;
		uint32_t outcome;

		if (status != Q_OK)
			return status;
		done = completion_of(q, msg_id);
		if (done.result_len > room) {
			if (gq_look_up(q, msg_id) == 0)
				continue; /* taken meanwhile: what we read may be another's */
			*out_len = done.result_len;
			return gq__failf(Q_ERR_BUFFER_TOO_SMALL,
					 "out_buf has room for %zu bytes; the result has %" PRIu32,
					 room, done.result_len);
		}
		if (!win(q, msg_id, state))
			continue;
		if (done.result_len != 0)
			memcpy(out_buf, done.result, done.result_len);
		*out_len = done.result_len;
		outcome = outcome_of(q, msg_id);
		give_back(q, msg_id);
		return how_it_ended(outcome);
	}
}

QueueStatus q_try_dequeue_result(GpuQueue *q, uint64_t msg_id, void *out_buf, size_t *inout_len)
{
	size_t room;

	if (inout_len == NULL) {
		GQ_ENTER(q);
		return gq__fail(Q_ERR_INVALID_ARG,
				"inout_len is NULL; allowed: the room in out_buf");
	}
	room = *inout_len;
	*inout_len = 0;
	GQ_ENTER(q);
	if (out_buf == NULL && room != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "out_buf is NULL with *inout_len %zu; allowed: NULL only with 0",
				 room);
	GQ_CALL(q, GQ_RANGE_TAKE, msg_id);
	return try_dequeue(q, msg_id, out_buf, room, inout_len);
}

QueueStatus q_peek_result(GpuQueue *q, uint64_t msg_id, const void **out, size_t *out_len,
			  QueueStatus *out_status)
{
	Completion done;
	uint64_t state;

	GQ_ENTER(q);
	do {
		QueueStatus status = find_finished(q, msg_id, &state);

		if (status != Q_OK)
			return status;
		done = completion_of(q, msg_id);
	} while (gq_look_up(q, msg_id) == 0); /* taken meanwhile: what we read may be another's */
	if (out != NULL)
		*out = done.result;
	if (out_len != NULL)
		*out_len = done.result_len;
	if (out_status != NULL)
		*out_status = done.status;
	return Q_OK;
}

QueueStatus q_processor_status(GpuQueue *q, uint64_t msg_id, uint32_t *out_value)
{
	uint32_t outcome;
	uint64_t state;

	GQ_ENTER(q);
	if (out_value == NULL)
		return gq__fail(Q_ERR_INVALID_ARG,
				"out_value is NULL; allowed: where to put the value");
	do {
		QueueStatus status = find_finished(q, msg_id, &state);

		if (status != Q_OK)
			return status;
		outcome = outcome_of(q, msg_id);
	} while (gq_look_up(q, msg_id) == 0); /* taken meanwhile: what we read may be another's */
	*out_value = gq_reported_status(outcome);
	return Q_OK;
}

QueueStatus q_release(GpuQueue *q, uint64_t msg_id)
{
	uint64_t state;

	GQ_ENTER(q);
	do {
		QueueStatus status = find_finished(q, msg_id, &state);

		if (status != Q_OK)
			return status;
	} while (!win(q, msg_id, state));
	give_back(q, msg_id);
	return Q_OK;
}

QueueStatus q_release_batch(GpuQueue *q, const uint64_t *ids, size_t count)
{
	QueueStatus first = Q_OK;
	size_t failed = 0;

	GQ_ENTER(q);
	if (ids == NULL && count != 0)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "ids is NULL with count %zu; allowed: NULL only with count 0",
				 count);
	for (size_t i = 0; i < count; i++) {
		QueueStatus status = q_release(q, ids[i]);

		if (first == Q_OK && status != Q_OK) {
			first = status;
			failed = i;
		}
	}
	if (first != Q_OK)
		gq__failf(first, "ids[%zu] is %" PRIu64 ": %s", failed, ids[failed],
			  q_status_string(first));
	return first;
}

/* ---- waiting --------------------------------------------------------------------------------- */

/*
 * Wait until the state of a slot is no longer `seen`.
 * @return false when the deadline passed first.
 */
bool gq__wait_state_change(GpuQueue *q, uint64_t id, uint64_t seen, uint64_t deadline_ns)
{
	const uint64_t *state = &gq_record_of(q, id)->state;
	struct gq_wait wait;
	bool changed, more;

	gq__wait_begin_flag(&wait, &gq_slot_at(&q->ch, (uint32_t)(id & q->slot_mask))->armed,
			    deadline_ns);
	gq_wait_tends(q, &wait);
	do {
		changed = gq_load_seq_cst_u64(state) != seen; /* [state.read], [sleep.look] */
		more = false;
		if (!changed) {
			more = gq__reap(q, wait.registered || deadline_ns == 0);
			changed = gq_load_seq_cst_u64(state) != seen;
		}
	} while (!changed && !gq_failed(q) &&
		 (more ? gq__now_ns() < deadline_ns : gq__wait_next(&wait)));
	gq__wait_end(&wait);
	return changed;
}

/* q_wait(), or q_wait_enqueue(): up to which phase the message has to come. */
static QueueStatus wait_for(GpuQueue *q, uint64_t msg_id, enum gq_phase until, uint32_t timeout_ms)
{
	uint64_t deadline_ns = gq__deadline_ns(timeout_ms);
	uint64_t state = gq_look_up(q, msg_id);

	for (;;) {
		enum gq_phase before = gq_phase_of(state);

		if (before == GQ_FREE)
			return not_found();
		if (before == GQ_REVOKED)
			return gq__fail(Q_ERR_SHUTDOWN, "the reservation was revoked when the "
							"queue was stopped");
		if (before >= until)
			return Q_OK;
		if (!gq__wait_state_change(q, msg_id, state, deadline_ns))
			return gq_failed(q) ? gq__device_failed(q)
					    : gq__fail(Q_ERR_TIMEOUT, "timeout_ms is over");
		if (gq_failed(q))
			return gq__device_failed(q);
		state = gq_look_up(q, msg_id);
		/* Finished, and taken or discarded before we looked: it has been waited for. */
		if (gq_phase_of(state) == GQ_FREE && before == GQ_QUEUED)
			return Q_OK;
	}
}

QueueStatus q_wait(GpuQueue *q, uint64_t msg_id, uint32_t timeout_ms)
{
	GQ_ENTER(q);
	GQ_CALL(q, GQ_RANGE_WAIT, msg_id);
	return wait_for(q, msg_id, GQ_DONE, timeout_ms);
}

QueueStatus q_wait_enqueue(GpuQueue *q, uint64_t msg_id, uint32_t timeout_ms)
{
	GQ_ENTER(q);
	GQ_CALL(q, GQ_RANGE_WAIT_ENQUEUE, msg_id);
	return wait_for(q, msg_id, GQ_QUEUED, timeout_ms);
}

/* Under the lock for the moment. */
static enum found look_for_unpolled(GpuQueue *q, bool settled, bool *was_settled)
{
	uint32_t left = GQ_MOST_AT_ONCE;
	enum found found;

	pthread_mutex_lock(&q->reap_lock);
	if (settled)
		q->settled = true;
	*was_settled = q->settled;
	found = find_unpolled(q, &left);
	pthread_mutex_unlock(&q->reap_lock);
	return found;
}

/*
 * One look for something to poll. That nothing can come any more is found out by a look at every
 * slot, once; what has come before that is found by the look after it.
 * @return Q_OK: something can be polled; Q_ERR_SHUTDOWN: never again; Q_ERR_NOT_READY: look again
 *         later, with `more` at once
 */
static QueueStatus attempt_any(GpuQueue *q, bool thorough, bool *more)
{
	enum found found;
	bool settled;

	*more = false;
	if (!thorough && nothing_to_poll(q) && !gq_closed(q))
		return Q_ERR_NOT_READY;
	found = look_for_unpolled(q, false, &settled);
	if (found == NOTHING && !settled && thorough && gq_closed(q) && gq__settled(q))
		found = look_for_unpolled(q, true, &settled);
	if (found == SOMETHING)
		return Q_OK;
	*more = found == UNDECIDED;
	return found == NOTHING && settled ? Q_ERR_SHUTDOWN : Q_ERR_NOT_READY;
}

QueueStatus q_wait_any(GpuQueue *q, uint32_t timeout_ms)
{
	uint64_t deadline_ns;
	struct gq_wait wait;
	QueueStatus status;
	bool more;

	GQ_ENTER(q);
	GQ_CALL(q, GQ_RANGE_WAIT_ANY, timeout_ms);
	deadline_ns = gq__deadline_ns(timeout_ms);
	gq_wait_begin(q, &wait, &q->any, deadline_ns, GQ_SPIN_NS);
	do
		status = attempt_any(q, wait.registered || timeout_ms == 0, &more);
	while (status == Q_ERR_NOT_READY && !gq_failed(q) &&
	       (more ? gq__now_ns() < deadline_ns : gq__wait_next(&wait)));
	gq__wait_end(&wait);
	if (gq_failed(q))
		return gq__device_failed(q);
	if (status == Q_ERR_SHUTDOWN)
		return gq__fail(status, "the queue is stopped and nothing is left to poll");
	if (status == Q_ERR_NOT_READY)
		return gq__fail(Q_ERR_TIMEOUT, "timeout_ms is over");
	return Q_OK;
}
