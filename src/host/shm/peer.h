/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h - who uses a ring, and whether it is alive; private to the library.
 *
 * Nobody is said to be dead without proof: what cannot be found out is UNKNOWN, what could still be
 * running is ALIVE. No function here is a cancellation point.
 */
#ifndef GPUQ_HOST_PEER_H
#define GPUQ_HOST_PEER_H

#include <stdbool.h>
#include <stdint.h>

struct gq_ring_record;

/*
 * An owner's word says by itself whose it is: the thread's id, the PID namespace in which that is
 * its id (its inode number; 0: the thread could not find out), and a number that is another one
 * each time a record is bound, so that a verdict on one binding is never taken for the next one's.
 */
enum { GQ_OWNER_ID_BITS = 22, GQ_OWNER_NAMESPACE_BITS = 32 };

static inline uint64_t gq_owner_id(uint64_t owner)
{
	return owner & ((UINT64_C(1) << GQ_OWNER_ID_BITS) - 1);
}

static inline uint64_t gq_owner_namespace(uint64_t owner)
{
	return owner >> GQ_OWNER_ID_BITS & ((UINT64_C(1) << GQ_OWNER_NAMESPACE_BITS) - 1);
}

/* The count of a word that owns no record: of who repairs a ring before it has one. */
#define GQ_OWNER_UNBOUND UINT64_C(1023)

static inline bool gq_owner_is_unbound(uint64_t owner)
{
	return owner >> (GQ_OWNER_ID_BITS + GQ_OWNER_NAMESPACE_BITS) == GQ_OWNER_UNBOUND;
}

enum gq_life {
	GQ_LIFE_ALIVE,
	GQ_LIFE_DEAD,    /* proven, and final */
	GQ_LIFE_UNKNOWN, /* in another PID namespace, or this one is not known */
};

/* Inode number of this process's PID namespace; 0: there is no telling (no /proc). */
uint64_t gq__peer_namespace(void);

/* The word of the calling thread for one binding. */
uint64_t gq__peer_owner(uint64_t binding);

/* Write down what tells the calling thread, which owns the record as `owner`, from later threads
 * that the kernel gives the same id. */
void gq__peer_describe(struct gq_ring_record *record, uint64_t owner);

/*
 * What became of the thread that `owner` names. `record` is the one that it owns, or owned; NULL:
 * none is known. It is asked for what the thread has written down, as far as that is still there.
 * 0 names nobody, and nobody is DEAD.
 *
 * A verdict of death is written down in the record, and then is everybody's, also of those who
 * could not have found out: a repair waits for whoever is inside an operation and not known to be
 * dead.
 *
 * DEAD is final, so whoever acts on it acts on what it has read of the record before it asked, and
 * makes sure that the record is still the same: `op` unchanged, `owner` by compare-and-swap.
 */
enum gq_life gq__peer_life(struct gq_ring_record *record, uint64_t owner);

/* Whether no thread has that id any more: what of gq__peer_life() costs one or two system calls. */
bool gq__peer_is_gone(const struct gq_ring_record *record, uint64_t owner);

/* Write a verdict of death down in the record. Does nothing if that is another binding's by now. */
void gq__peer_say_dead(struct gq_ring_record *record, uint64_t owner);

#endif /* GPUQ_HOST_PEER_H */
