/* SPDX-License-Identifier: Apache-2.0 */
/* list_scripts.h - what Redis does in one step for a worker that reads a list. */
#ifndef GPUQ_REDIS_LIST_SCRIPTS_H
#define GPUQ_REDIS_LIST_SCRIPTS_H

#include "redis/server/scripts.h"

/*
 * list_publish  KEYS own results counts; ARGV consumer kind ttl how, then of each message: payload
 *               id status result deliveries. kind as of publish. how: fenced writes the result and
 *               takes the message out of the own list, if it is there; atomic writes in any case;
 *               write only writes. Answers as publish does.
 * list_bury     KEYS own dead counts; ARGV consumer most last how, then of each message: payload
 *               id reason error deliveries first. how: fenced, or write. Writes dead letters in
 *               the same way. Answers with 1 or 0 for each.
 * list_remove   KEYS own counts; ARGV of each message: payload. Takes them out of the own list.
 *               Answers with 1 or 0 for each.
 * list_retry    KEYS own counts; ARGV of each message: payload. Of those that are in the own list
 *               it counts a delivery. Answers with 1 or 0 for each.
 * list_return   KEYS list own; ARGV of each message: payload. Those that are in the own list go
 *               back to where the next is read. Answers with 1 or 0 for each.
 * list_again    KEYS own counts: counts a delivery of all in the own list, answers with them.
 * list_recover  KEYS list own alive workers counts; ARGV consumer now grace. If the consumer has
 *               not been heard of: counts a delivery of each of its messages and moves them back.
 *               A consumer that had none is no longer listed, once that has been so for `grace`
 *               ms. Answers with the number moved, -1: it lives.
 * list_leave    KEYS list own alive workers counts; ARGV consumer, then of each message that may
 *               have run: payload. Moves all back and forgets the consumer. Answers with their
 *               number.
 */
extern struct script script_list_publish;
extern struct script script_list_bury;
extern struct script script_list_remove;
extern struct script script_list_retry;
extern struct script script_list_return;
extern struct script script_list_again;
extern struct script script_list_recover;
extern struct script script_list_leave;

#endif /* GPUQ_REDIS_LIST_SCRIPTS_H */
