/* SPDX-License-Identifier: Apache-2.0 */
/* ring_bind.c - a ring's threads: who they are, whether they live, and their records. */
#include "host/ring.h"
#include "host/sys.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/*
 * An identity is a thread's id and the time it was started, in the kernel's ticks since boot. Ids
 * are used again, but not within a tick; so two threads never have one identity.
 */
enum { ID_BITS = 22 }; /* the kernel's largest pid_max */

/* State letter and start time of a thread, from its stat file. */
static bool read_stat(const char *path, char *state, uint64_t *start)
{
	char text[512], *at, *end;
	int fd = gq_sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	ssize_t n;

	if (fd < 0)
		return false;
	n = gq_sys_read(fd, text, sizeof(text) - 1);
	if (n <= 0) {
		int saved = n == 0 ? ESRCH : errno;

		gq_sys_close(fd);
		errno = saved;
		return false;
	}
	gq_sys_close(fd);
	text[n] = '\0';
	at = strrchr(text, ')'); /* ends the name, which may hold anything */
	errno = 0;
	if (at == NULL || at[1] != ' ')
		return false;
	at += 2;
	*state = *at;
	for (int field = 3; field < 22; field++) {
		at = strchr(at, ' ');
		if (at == NULL)
			return false;
		at++;
	}
	*start = strtoull(at, &end, 10);
	return end != at;
}

uint64_t gq__thread_identity(void)
{
	static _Thread_local uint64_t identity, generation = UINT64_MAX;
	uint64_t start;
	char state;

	if (generation != gq__generation) {
		identity = 0;
		if (read_stat("/proc/thread-self/stat", &state, &start))
			identity = start << ID_BITS | (uint64_t)syscall(SYS_gettid);
		generation = gq__generation;
	}
	return identity;
}

bool gq__thread_is_dead(uint64_t identity)
{
	const long id = (long)(identity & ((UINT64_C(1) << ID_BITS) - 1));
	char path[64], state;
	uint64_t start;

	snprintf(path, sizeof(path), "/proc/%ld/stat", id);
	if (read_stat(path, &state, &start))
		return start != identity >> ID_BITS || state == 'Z' || state == 'X';
	if (errno != ENOENT && errno != ESRCH)
		return false; /* cannot say */
	/* /proc may hide other users' processes; kill() does not. */
	return id == 0 || (kill((pid_t)id, 0) != 0 && errno == ESRCH);
}

uint64_t gq__pid_namespace(void)
{
	struct stat st;

	GQ_NO_CANCEL();
	return stat("/proc/self/ns/pid", &st) == 0 ? (uint64_t)st.st_ino : 0;
}

/* ---- records --------------------------------------------------------------------------------- */

_Thread_local struct gq_ring_binding gq__ring_bindings[8];

static struct gq_ring_record *bound(RingQueue *r, struct gq_ring_record *record)
{
	gq__ring_bindings[r->serial % 8] =
		(struct gq_ring_binding){ .serial = r->serial, .record = record };
	return record;
}

static bool is_idle(const struct gq_ring_record *record)
{
	return (gq_load_acquire_u64(&record->op) & GQ_OP_MASK) ==
	       GQ_OP_IDLE; /* U2: pairs with U1 */
}

struct gq_ring_record *gq__ring_bind(RingQueue *r)
{
	struct gq_ring_record *record = r->head->record;
	uint64_t me = gq__thread_identity();

	if (me == 0) {
		/* Without /proc nobody can tell who is dead. */
		me = UINT64_C(1) << 63 | (uint64_t)syscall(SYS_gettid);
		gq_exchange_seq_cst_u64(&r->head->signals.foreign, 1);
	}
	for (uint32_t i = 0; i < GQ_RECORDS; i++) /* bound before; the binding was pushed out */
		if (gq_load_relaxed_u64(&record[i].owner) == me)
			return bound(r, &record[i]);
	for (uint32_t i = 0; i < GQ_RECORDS; i++)
		if (gq_load_relaxed_u64(&record[i].owner) == 0 &&
		    gq_cas_acq_rel_u64(&record[i].owner, 0, me))
			return bound(r, &record[i]);
	/* Threads that have ended leave their records bound until somebody needs one. */
	for (uint32_t i = 0; i < GQ_RECORDS; i++) {
		uint64_t owner = gq_load_relaxed_u64(&record[i].owner);

		if (is_idle(&record[i]) && gq__thread_is_dead(owner) && is_idle(&record[i]) &&
		    gq_load_relaxed_u64(&r->head->signals.foreign) == 0 &&
		    gq_cas_acq_rel_u64(&record[i].owner, owner, me))
			return bound(r, &record[i]);
	}
	gq__failf(Q_ERR_LIMIT, "%u threads use this ring already", GQ_RECORDS);
	return NULL;
}

/* ---- roles, in single mode ------------------------------------------------------------------- */

QueueStatus gq__ring_take_role(RingQueue *r, uint64_t *role, struct gq_ring_record *record,
			       enum gq_op op)
{
	const uint64_t mine = gq_ring_record_index(r, record) + 1;
	const uint64_t give_up_ns = gq__now_ns() + 50000000u;

	for (uint32_t turn = 0;; turn++) {
		uint64_t holder = gq_load_acquire_u64(role);
		const struct gq_ring_record *other;

		if (holder == 0 || holder > GQ_RECORDS) {
			if (gq_cas_acq_rel_u64(role, holder, mine))
				return Q_OK;
			continue;
		}
		other = &r->head->record[holder - 1];
		/* U2 acquire: the positions that it left; pairs with U1. */
		if ((gq_load_acquire_u64(&other->op) & GQ_OP_MASK) != op) {
			if (gq_cas_acq_rel_u64(role, holder, mine))
				return Q_OK;
			continue;
		}
		if (gq_load_relaxed_u64(&r->head->signals.foreign) == 0 &&
		    gq__thread_is_dead(gq_load_relaxed_u64(&other->owner)))
			gq__ring_repair(r);
		if (gq__now_ns() >= give_up_ns)
			return gq__fail(Q_ERR_POLICY,
					"two threads at once on one side of a ring made with "
					"Q_RING_SINGLE");
		gq__await_step(turn);
	}
}
