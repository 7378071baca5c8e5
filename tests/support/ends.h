/* SPDX-License-Identifier: Apache-2.0 */
/* ends.h - clients of a dispatcher of this process, in memory of the test's own, without gpuqd's
 * reactor. Each function fails the test if it cannot do what it says. */
#ifndef GPUQ_TEST_ENDS_H
#define GPUQ_TEST_ENDS_H

#include "broker/dispatcher.h"

/* A client: the dispatcher's half, and what the client itself has. */
struct end {
	struct client c;
	struct gq_wire_hello hello;
	struct gq_remote_page *page;
	int socket;
	uint32_t ready, broken, gone; /* the dispatcher has said so */
	uint64_t sent;
};

/* A dispatcher of a CPU queue with one consumer. `inline_us` 0: it runs no message itself. */
struct dispatcher *ends_start(const char *processor, uint32_t capacity, uint32_t inline_us);

/* A client of a user, with room for so many messages. Nothing is served yet. */
void end_open(struct end *e, uint32_t uid, uint32_t capacity);
void end_close(struct end *e);

/* Served from now on. */
void end_join(struct dispatcher *d, struct end *e);
/* No more; what it has is lost. It is closed. */
void end_leave(struct dispatcher *d, struct end *e);

/* The next message: these 8 bytes, in the lowest class, in that slot. */
void end_publish(struct end *e, uint64_t slot, uint64_t payload);

/* As a client does that has found the dispatcher asleep. */
void end_ring(const struct end *e);

void end_await(const uint32_t *word);

#endif /* GPUQ_TEST_ENDS_H */
