/* SPDX-License-Identifier: Apache-2.0 */
/* intake.c - entries of the stream become messages of the queue. */
#include "crew.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define BLOCK_MS    2000u /* how long Redis may let a read wait */
#define WATCHDOG_MS 3000u /* and how much later the answer may come */
#define UNBLOCK_MS  50
#define THERE_MS    50u /* between reads that find nothing where ASK leads to */

static uint64_t now_us(void)
{
	return clock_ns() / 1000u;
}

/* ---- reading --------------------------------------------------------------------------------- */

uint32_t intake_wanted(const struct worker *w)
{
	const uint32_t want = batch_want(&w->batch, crew_room(w));
	const uint32_t left = crew_left(w);

	return want < left ? want : left;
}

/*
 * A batch that waits for more is not kept waiting by Redis: then a read finds what there is, and
 * comes back. So does one that looks whether the stream is empty.
 */
uint64_t intake_block_ms(const struct worker *w)
{
	const uint64_t wait_us = batch_wait_us(&w->batch, now_us());

	if (wait_us != UINT64_MAX)
		return wait_us / 1000u + 1;
	return w->options->until_empty ? 100 : BLOCK_MS;
}

static bool may_read(const struct worker *w)
{
	return !w->reading && !w->draining && w->replayed && !crew_searching(w->crew) &&
	       worker_may_ask(w);
}

/* `block` 0: it does not wait. */
static void begin_read(struct worker *w, uint32_t want, uint64_t block)
{
	const struct worker_options *o = w->options;

	words_clear(&w->words);
	words_add(&w->words, "XREADGROUP");
	words_add(&w->words, "GROUP");
	words_add(&w->words, o->group);
	words_add(&w->words, w->memory->consumer);
	words_add(&w->words, "COUNT");
	words_add_number(&w->words, want);
	if (block > 0) {
		words_add(&w->words, "BLOCK");
		words_add_number(&w->words, block);
	}
	words_add(&w->words, "STREAMS");
	words_add(&w->words, o->place.stream);
	words_add(&w->words, ">");
}

static void read_entries(struct worker *w, uint32_t want)
{
	const uint64_t block = intake_block_ms(w);

	begin_read(w, want, block);
	w->asked = want;
	intake_send(w, link_append(&w->reader, &w->words), block);
}

void intake_ask(struct worker *w)
{
	const uint32_t want = intake_wanted(w);

	if (w->list)
		list_ask(w);
	else if (want > 0 && may_read(w))
		read_entries(w, want);
}

/*
 * A batch of `coming` entries has been received and not yet been looked at. If it goes on at once,
 * Redis gets the next one ready meanwhile.
 */
static void ask_ahead(struct worker *w, uint32_t coming)
{
	const uint32_t left = crew_left(w);
	uint32_t want = batch_ahead(&w->batch, crew_room(w), coming);

	if (left < coming)
		want = 0;
	else if (left != UINT32_MAX && left - coming < want)
		want = left - coming;
	if (want > 0 && may_read(w))
		read_entries(w, want);
}

void intake_send(struct worker *w, bool ok, uint64_t block_ms)
{
	if (!ok || !link_push(&w->reader)) {
		intake_lost(w, "it could not be sent");
		return;
	}
	w->reading = true;
	if (w->totals.taken == 0 && (w->totals.first_ns == 0 || w->saw_nothing))
		w->totals.first_ns = clock_ns();
	w->called_back = false;
	w->read_deadline_ms = now_ms() + block_ms + WATCHDOG_MS;
}

/* Bury at once what can never be processed, and drop from the group what has been deleted. */
static void refuse_entry(struct worker *w, const struct entry *e, uint32_t deliveries)
{
	char text[160];

	if (e->gone) {
		redisReply *reply;

		words_clear(&w->words);
		words_add(&w->words, "XACK");
		words_add(&w->words, w->options->place.stream);
		words_add(&w->words, w->options->group);
		words_add_id(&w->words, &e->id);
		reply = link_call(&w->command, &w->words);
		if (!reply || reply->type == REDIS_REPLY_ERROR) {
			worker_refused(w, "XACK", reply);
			return;
		}
		freeReplyObject(reply);
		w->totals.trimmed++;
		return;
	}
	if (e->wrong) {
		snprintf(text, sizeof(text), "%s ('%.64s')", e->wrong, w->options->names.payload);
		outcome_bury(w, &e->id, &deliveries, 1, "missing_field",
			     e->payload ? e->wrong : text);
		return;
	}
	snprintf(text, sizeof(text), "the payload has %zu bytes, slots have %" PRIu32,
		 e->payload_bytes, w->options->slot_bytes);
	outcome_bury(w, &e->id, &deliveries, 1, "too_large", text);
}

bool intake_stage(struct worker *w, const struct entry *e, uint32_t deliveries)
{
	uint32_t lease;

	if (e->gone || e->wrong || e->payload_bytes > w->options->slot_bytes) {
		refuse_entry(w, e, deliveries);
		return false;
	}
	lease = book_add(&w->book, e, deliveries, now_ms());
	if (lease == BOOK_NONE)
		return false;
	w->staged[w->batch.count] = lease;
	batch_add(&w->batch, 1, w->batch.count == 0 ? now_us() : 0);
	w->totals.taken++;
	w->memory->taken++;
	if (deliveries > 1)
		w->totals.redelivered++;
	return true;
}

void intake_hold(struct worker *w, redisReply *reply)
{
	if (w->batch.count > 0 && w->held_count < w->book.capacity) {
		w->held[w->held_count++] = reply;
		return;
	}
	if (w->batch.count > 0)
		intake_enqueue(w); /* as many replies as entries: the batch goes on first */
	freeReplyObject(reply);
}

static void take_entries(struct worker *w, redisReply *reply)
{
	const redisReply *list = entry_list(reply);
	struct entry e;

	watch_batch(&w->crew->watch, (uint32_t)list->elements);
	for (size_t i = 0; i < list->elements; i++) {
		if (entry_decode(list->element[i], &w->options->names, &e))
			intake_stage(w, &e, 1);
	}
	intake_hold(w, reply);
}

void intake_lost(struct worker *w, const char *why)
{
	snprintf(w->reader.error, sizeof(w->reader.error), "%s", why);
	link_close(&w->reader);
	worker_refused(w, "reading", NULL);
}

bool intake_receive(struct worker *w)
{
	if (redisBufferRead(w->reader.context) == REDIS_OK)
		return true;
	intake_lost(w, w->reader.context->errstr);
	return false;
}

static void take_answer(struct worker *w, redisReply *reply)
{
	if (reply && reply->type == REDIS_REPLY_NIL) {
		w->saw_nothing = true;
		worker_answered(w);
		freeReplyObject(reply);
	} else if (reply && entry_list(reply)) {
		w->saw_nothing = false;
		worker_answered(w);
		ask_ahead(w, (uint32_t)entry_list(reply)->elements);
		take_entries(w, reply);
	} else {
		worker_refused(w, "XREADGROUP", reply);
	}
}

/*
 * The shard's slot is moving to another server of the cluster, and the stream is there already. It
 * is read there, without waiting, until the slot has moved.
 */
static void read_there(struct worker *w)
{
	const uint32_t want = intake_wanted(w);

	if (want == 0 || !worker_may_ask(w))
		return;
	begin_read(w, want, 0);
	take_answer(w, link_call(&w->command, &w->words));
	if (w->saw_nothing)
		w->resume_at_ms = now_ms() + THERE_MS;
}

void intake_take(struct worker *w)
{
	void *reply = NULL;
	const redisReply *r;

	if (w->list) {
		list_take(w);
		return;
	}
	if (!intake_receive(w))
		return;
	if (redisGetReplyFromReader(w->reader.context, &reply) != REDIS_OK) {
		intake_lost(w, w->reader.context->errstr);
		return;
	}
	if (!reply)
		return; /* a part of it */
	w->reading = false;
	w->asked = 0;
	r = reply;
	if (r->type == REDIS_REPLY_ERROR && strncmp(r->str, "ASK ", 4) == 0) {
		freeReplyObject(reply);
		read_there(w);
	} else {
		take_answer(w, reply);
	}
}

/* ---- enqueueing ------------------------------------------------------------------------------ */

void worker_forget(struct worker *w, uint32_t lease)
{
	book_remove(&w->book, lease);
	if (w->list)
		list_forget(w, lease);
}

static void drop_replies(struct worker *w)
{
	for (uint32_t i = 0; i < w->held_count; i++)
		freeReplyObject(w->held[i]);
	w->held_count = 0;
	batch_reset(&w->batch);
}

void intake_enqueue(struct worker *w)
{
	for (uint32_t i = 0; i < w->batch.count; i++) {
		const uint32_t lease = w->staged[i];
		struct lease *l = &w->book.leases[lease];
		const EnqueueOptions options = {
			.priority = l->priority,
			.opcode = l->opcode,
			.tag = crew_tag(w, lease),
		};

		w->memory->running[lease] = l->id;
		if (q_enqueue_ex(w->queue, l->payload, l->payload_bytes, &options, &l->msg_id, 0) ==
		    Q_OK) {
			l->payload = NULL;
			book_set(&w->book, lease, LEASE_RUNNING, now_ms());
		} else {
			/* it stays pending, and is reclaimed when its lease is over */
			w->memory->running[lease] = (struct stream_id){ .ms = 0 };
			warn_line("the queue takes no message: %s", q_last_error());
			worker_forget(w, lease);
			poison_restart(w, "the queue takes no message");
		}
	}
	drop_replies(w);
}

void intake_drop(struct worker *w)
{
	for (uint32_t i = 0; i < w->batch.count; i++)
		worker_forget(w, w->staged[i]);
	if (w->list) /* it is in the own list, which is looked into again */
		w->replayed = false;
	drop_replies(w);
}

/*
 * The server may be about to give a blocked reader something. CLIENT UNBLOCK is answered when the
 * reader is known not to wait any more, or when its read has not come in yet: so it is repeated
 * until the read has been answered.
 */
void intake_stop(struct worker *w)
{
	char id[24];

	if (w->list) {
		list_stop(w);
		return;
	}
	snprintf(id, sizeof(id), "%" PRIu64, w->reader_id);
	while (w->reading && worker_connected(w)) {
		struct timeval limit = { .tv_usec = UNBLOCK_MS * 1000L };
		redisReply *reply = link_say(&w->command, "CLIENT", "UNBLOCK", id, NULL);
		void *last = NULL;

		if (!reply)
			break;
		freeReplyObject(reply);
		redisSetTimeout(w->reader.context, limit);
		if (redisGetReply(w->reader.context, &last) == REDIS_OK) {
			freeReplyObject(last);
			w->reading = false;
		} else if (now_ms() >= w->read_deadline_ms) {
			break;
		} else {
			/* hiredis gives a connection up when nothing came in time: look anew */
			w->reader.context->err = 0;
		}
	}
	link_close(&w->reader);
	w->reading = false;
	w->asked = 0;
}
