/* SPDX-License-Identifier: Apache-2.0 */
/*
 * signal.c - the descriptor of a subscription: readable while there is something to receive.
 *
 * Receivers count how often they have cleared it (`cleared`), and whoever writes it notes after
 * which clearing (`written`). So a post writes only if nobody has since the last clearing; one that
 * stands still before its write hides nothing, as the next post writes too. A receiver clears in
 * this order: count, read, look; if there is something to receive after all, it writes.
 */
#include "host/base/fault.h"
#include "host/base/sys.h"
#include "host/notify/subscription.h"

#include <string.h>
#include <sys/eventfd.h>

enum { AT_ONCE = 16 }; /* descriptors written for each time that the lock is taken */

/* Note that the descriptor has been written after clearing `cleared`, or a later one. */
static void note_written(NotifySubscription *sub, uint64_t cleared)
{
	for (;;) {
		const uint64_t seen = gq_load_seq_cst_u64(&sub->written);

		/* Numbers of clearings, which do not wrap. */
		if (seen >= cleared || gq_cas_seq_cst_u64(&sub->written, seen, cleared))
			return;
	}
}

static void write_fd(NotifySubscription *sub, uint64_t cleared)
{
	const uint64_t one = 1;

	(void)gq_sys_write(sub->fd, &one, sizeof(one));
	GQ_WINDOW();
	note_written(sub, cleared);
}

void gq__notify_clear_fd(NotifySubscription *sub, bool always)
{
	const uint64_t next = sub->cleared + 1;
	uint64_t value;

	if (gq_notify_has_more(sub))
		return;
	if (!always && gq_load_seq_cst_u64(&sub->written) != sub->cleared)
		return; /* nobody has written it since, as far as is known */
	gq_exchange_seq_cst_u64(&sub->cleared, next); /* [sleep.look]: then look */
	(void)gq_sys_read(sub->fd, &value, sizeof(value));
	GQ_WINDOW();
	if (gq_notify_has_more(sub))
		write_fd(sub, next);
}

struct to_write {
	NotifySubscription *sub;
	uint64_t cleared;
};

/* With the place's lock: the next descriptors to write, of subscriptions behind `number`. */
static unsigned collect(struct gq_notify_place *p, uint64_t number, struct to_write *list)
{
	unsigned n = 0;

	for (NotifySubscription *sub = p->first; sub != NULL && n < AT_ONCE; sub = sub->next) {
		uint64_t cleared;

		if (sub->fd < 0 || sub->number <= number || !gq_notify_has_more(sub))
			continue;
		cleared = gq_load_seq_cst_u64(&sub->cleared); /* [wake.look] */
		if (gq_load_seq_cst_u64(&sub->written) >= cleared)
			continue;
		gq_fetch_add_seq_cst_u64(&sub->signalling, 1); /* until it is 0 nobody frees it */
		list[n++] = (struct to_write){ sub, cleared };
	}
	return n;
}

void gq__notify_signal(struct gq_notify_place *p)
{
	struct to_write list[AT_ONCE];
	uint64_t number = 0;
	unsigned n;

	do {
		const uint64_t word = gq_notify_lock(p);

		n = collect(p, number, list);
		gq_notify_unlock(p, word);
		for (unsigned i = 0; i < n; i++) {
			number = list[i].sub->number;
			write_fd(list[i].sub, list[i].cleared);
			/* [signal.end] release: from here on it may be freed. */
			gq_fetch_add_seq_cst_u64(&list[i].sub->signalling, 0 - UINT64_C(1));
		}
	} while (n == AT_ONCE);
}

void gq__notify_signal_end(NotifySubscription *sub)
{
	if (sub->fd >= 0)
		write_fd(sub, gq_load_seq_cst_u64(&sub->cleared));
}

/* Under the subscription's lock. Posts that come after the place's lock was held see it. */
static void give_fd(NotifySubscription *sub, int fd)
{
	struct gq_notify_place *p = sub->place;
	uint64_t word;

	pthread_mutex_lock(&sub->nq->lock);
	word = gq_notify_lock(p);
	sub->fd = fd;
	if (sub->listed)
		p->descriptors++;
	gq_notify_unlock(p, word);
	pthread_mutex_unlock(&sub->nq->lock);
	if (gq_notify_has_more(sub))
		write_fd(sub, sub->cleared);
}

int q_notify_fd(NotifySubscription *sub)
{
	int fd;

	if (gq__notify_enter_subscription(sub) != Q_OK)
		return -1;
	GQ_NO_CANCEL();
	pthread_mutex_lock(&sub->lock);
	if (sub->fd < 0) {
		errno = EMFILE;
		fd = gq__fault() ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		if (fd < 0)
			gq__failf(Q_ERR_LIMIT, "eventfd for q_notify_fd: %s", strerror(errno));
		else
			give_fd(sub, fd);
	}
	fd = sub->fd;
	pthread_mutex_unlock(&sub->lock);
	return fd;
}
