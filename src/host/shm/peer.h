/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.h - which threads use memory that processes share, and whether they live; private to the
 * library.
 *
 * A thread is called dead only on proof. A thread that could still run is ALIVE, and a thread about
 * which nothing can be found out is UNKNOWN. No function here is a cancellation point.
 */
#ifndef GPUQ_SHM_PEER_H
#define GPUQ_SHM_PEER_H

#include <stdbool.h>
#include <stdint.h>

/*
 * What a thread leaves in shared memory, so that other processes can tell whether it lives. Four
 * words; zeroed memory belongs to no thread.
 *
 *    0  owner      the thread, in this binding: see below; 0: none
 *    8  described  equal to `owner`: the next two words are that thread's; ~`owner`: it is dead
 *   16  began      the thread's start in ticks, above the id of its process
 *   24  place      where its program's stack begins (32 bits), above its time namespace (32 bits)
 *
 * A 0 in a part of `began` or `place` means that the thread could not find it out. The user of the
 * memory (a ring) swaps `owner`; the owner writes the others in gq__peer_describe(), before any
 * thread can swap `owner` again. Each store is a release, so a reader that reads a word of a later
 * binding also finds that `owner` is another one by now, and drops what it has read.
 */
struct gq_peer_identity {
	uint64_t owner;
	uint64_t described; /* [owner.write], [owner.read], as the two below */
	uint64_t began;
	uint64_t place;
};

/*
 * An owner's word names one binding of one thread: the thread's id, the PID namespace in which that
 * is its id (the namespace's inode number; 0: the thread could not find out), and a number that
 * changes with every binding, so that a verdict on one binding is never taken for the next one's.
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

/* The number in the word of a thread that has no binding, and repairs all the same. */
#define GQ_OWNER_UNBOUND UINT64_C(1023)

static inline bool gq_owner_is_unbound(uint64_t owner)
{
	return owner >> (GQ_OWNER_ID_BITS + GQ_OWNER_NAMESPACE_BITS) == GQ_OWNER_UNBOUND;
}

enum gq_life {
	GQ_LIFE_ALIVE,
	GQ_LIFE_DEAD,    /* proven, and final */
	GQ_LIFE_UNKNOWN, /* in another PID namespace, or this process does not know its own */
};

/* Inode number of this process's PID namespace; 0: it cannot be found out (no /proc). */
uint64_t gq__peer_namespace(void);

/* Likewise of its time namespace; 0: it cannot be found out. */
uint64_t gq__peer_time_namespace(void);

/*
 * When a process of this PID namespace began (ticks since boot, in this process's time namespace),
 * and where its program's stack begins (32 bits), which execve() changes. 0 for what /proc does not
 * show.
 *
 * @return false: /proc is another namespace's, or shows nothing
 */
bool gq__peer_process_shown(uint64_t id, uint64_t *start, uint64_t *stack);

/* The owner's word of the calling thread for one binding. */
uint64_t gq__peer_owner(uint64_t binding);

/* Write down what tells the calling thread, whose word `owner` is, from later threads to which the
 * kernel gives the same id. */
void gq__peer_describe(struct gq_peer_identity *identity, uint64_t owner);

/*
 * What became of the thread that `owner` names. An `owner` of 0 names none, and is DEAD.
 *
 * A verdict of death is written down in the identity, so that it also holds for processes that
 * could not have found it out: a repair waits for every thread that is inside an operation and not
 * known to be dead.
 *
 * DEAD is final. The caller acts on what it had read before it asked, and makes sure that this
 * still holds: `op` of the ring's peer unchanged, `owner` swapped by compare-and-swap.
 *
 * @param identity  where the thread has described itself, as far as that still stands; NULL: not
 *                  known
 */
enum gq_life gq__peer_life(struct gq_peer_identity *identity, uint64_t owner);

/* Whether no thread has that id any more: the part of gq__peer_life() that costs one or two system
 * calls. */
bool gq__peer_is_gone(const struct gq_peer_identity *identity, uint64_t owner);

/* Write a verdict of death down. Does nothing if the identity is another binding's by now. */
void gq__peer_say_dead(struct gq_peer_identity *identity, uint64_t owner);

#endif /* GPUQ_SHM_PEER_H */
