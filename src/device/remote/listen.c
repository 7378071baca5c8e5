/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listen.c - the client's one thread: it hears gpuqd's bells, and the end of the connection.
 *
 * gpuqd rings only while a thread of this process sleeps (`asleep`), so beside threads that look by
 * themselves this one sleeps. A bell wakes whoever sleeps on a completion. It says nothing of which
 * one has completed: the completions say that. gpuqd rings once for all who sleep; so while others
 * sleep on, this thread asks for the next bell on their behalf.
 */
#include "device/remote/remote.h"

#include "host/base/sys.h"
#include "host/base/thread.h"

#include <errno.h>
#include <sys/socket.h>

/* The sleepers of the messages that have completed since the last bell. If completions have come
 * round the ring since, those of all slots: a sleeper looks again, and at worst sleeps on. */
static void wake_slots(struct gq_remote *r)
{
	const struct gq_word_ring *done = &r->q->ch.done;
	uint64_t left = gq_word_ring_size(done);

	for (; left != 0; left--, r->woken_pos++) {
		/* [message.reap], [sleep.look] */
		const uint64_t word = gq_load_seq_cst_u64(gq_word_ring_entry(done, r->woken_pos));

		if (!gq_word_ring_is_at(done, word, r->woken_pos)) {
			if (gq_word_ring_is_at(done, word, r->woken_pos - gq_word_ring_size(done)))
				return;
			break;
		}
		gq_wake_slot(r->q, (uint32_t)(word & (gq_word_ring_size(done) - 1)));
	}
	r->woken_pos = gq_load_acquire_u64(done->tail); /* [tail.read] */
	for (uint32_t i = 0; i < r->q->cfg.capacity; i++)
		gq_wake_slot(r->q, i);
}

void gq__remote_want_bell(struct gq_remote *r)
{
	uint64_t *asleep = &r->page->asleep;

	/* If it is set, gpuqd has yet to take it off, and rings after that. [sleep.look] */
	if (gq_load_seq_cst_u64(asleep) == 0)
		gq_exchange_seq_cst_u64(asleep, 1);
}

static void wake_sleepers(struct gq_remote *r)
{
	wake_slots(r);
	gq_event_broadcast(&r->q->any);
	gq_event_broadcast(&r->q->answered);
	/* A producer may reap what is to be discarded. This event is sticky once the queue is
	 * closed: then there is nobody to wake. */
	gq_event_broadcast(&r->q->room);
}

/* Whether completions have come since the last look at them. */
static bool is_behind(const struct gq_remote *r)
{
	const struct gq_word_ring *done = &r->q->ch.done;

	/* [sleep.look] */
	return !gq_word_ring_is_at(done,
				   gq_load_seq_cst_u64(gq_word_ring_entry(done, r->woken_pos)),
				   r->woken_pos - gq_word_ring_size(done));
}

/*
 * A bell has been heard. Threads that sleep on need the next one: if there are any, ask for it, and
 * look again whether it would come too late. (A thread that has just been woken may still count: at
 * worst that costs one bell in vain.)
 */
static void answer(struct gq_remote *r)
{
	do {
		wake_sleepers(r);
		if (gq_load_seq_cst_u64(&r->sleepers) == 0)
			return; /* whoever registers after this asks for itself */
		gq__remote_want_bell(r);
	} while (is_behind(r));
}

/* @return false: the connection has ended */
static bool hear(struct gq_remote *r)
{
	union gq_wire w;
	long n;

	do
		n = syscall(SYS_recvfrom, r->socket, &w, sizeof(w), 0, NULL, NULL);
	while (n < 0 && errno == EINTR);
	return n > 0;
}

static void *listen_to_daemon(void *arg)
{
	struct gq_remote *r = arg;

	while (hear(r))
		answer(r);
	if (gq_load_seq_cst_u32(&r->closing) == 0)
		gq__remote_lose(r, "gpuqd has ended, or has closed the connection");
	gq_exchange_seq_cst_u32(&r->heard, 1);
	return NULL;
}

bool gq__remote_listen(struct gq_remote *r)
{
	const int rc = gq__start_thread(&r->listener, listen_to_daemon, r, "gpuq-remote");

	if (rc != 0) {
		gq__failf(Q_ERR_LIMIT, "the thread that listens to gpuqd could not be started: %s",
			  strerror(rc));
		return false;
	}
	r->listening = true;
	return true;
}
