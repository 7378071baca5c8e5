/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fair.h - how much the clients of each user may have of a queue that several users want. Pure.
 *
 * A dispatcher serves each of its clients in turns. So a user with ten clients would get ten times
 * as much as one with one. Here each user has a count of what it has had, and one that wants more
 * than there is may be ahead of the one that has had the least, and wants more, by a turn and no
 * further: start-time fair queueing (Goyal, Vin and Cheng, 1996) with users for flows and messages
 * for bytes. Who wants nothing saves nothing up: its count goes along with the least. And when
 * nobody wants more, all begin anew: what one has had meanwhile it owes to nobody.
 *
 * What a user may have in a turn is divided among those of its clients that wanted something in
 * the last one, each one message at least. So with very many clients a user may get further ahead,
 * by a message for each, and then waits until the others have caught up.
 *
 * Who wants more has to be one that would be served if there were room: the others wait for it.
 */
#ifndef GPUQ_BROKER_POLICY_FAIR_H
#define GPUQ_BROKER_POLICY_FAIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gq_fair_user {
	struct gq_fair_user *next;
	uint32_t uid;
	uint32_t clients;
	uint64_t used;    /* messages; of one that wants nothing at least the level */
	uint32_t portion; /* that each client may have in this turn */
	uint32_t wanting; /* clients that want more than they had in it */
};

struct gq_fair {
	struct gq_fair_user *users;
	uint64_t level; /* what the least served of those that wanted more has had; no user has had
			   less */
	uint64_t limit; /* what a user may have had in this turn, but for one message a client */
};

/**
 * A client of a user comes.
 * @param fresh  memory for a user who has none yet
 * @return the user; not `fresh`: it had a client already, and `fresh` is the caller's still
 */
struct gq_fair_user *gq__fair_join(struct gq_fair *f, struct gq_fair_user *fresh, uint32_t uid);

/** It goes. @return memory that is the caller's again; NULL: the user has others */
struct gq_fair_user *gq__fair_leave(struct gq_fair *f, struct gq_fair_user *user);

/** Whether there are several users. Alone a user has all, and nothing need be counted. */
static inline bool gq_fair_matters(const struct gq_fair *f)
{
	return f->users != NULL && f->users->next != NULL;
}

/** The next turn, of so many messages for a user. Linear in the users. */
void gq__fair_turn(struct gq_fair *f, uint32_t messages);

/** A client's turn. @return how many it may have, up to `most`: they count from now on */
uint32_t gq__fair_take(const struct gq_fair *f, struct gq_fair_user *user, uint32_t most);

/** It is over: so many it has not had, and it wants more, or not. */
static inline void gq_fair_give_back(struct gq_fair_user *user, uint32_t unused, bool wants_more)
{
	user->used -= unused;
	user->wanting += wants_more;
}

#endif /* GPUQ_BROKER_POLICY_FAIR_H */
