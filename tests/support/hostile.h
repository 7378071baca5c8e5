/* SPDX-License-Identifier: Apache-2.0 */
/* hostile.h - what a client can do to a gpuqd that has let it in, or has not. */
#ifndef GPUQ_TEST_HOSTILE_H
#define GPUQ_TEST_HOSTILE_H

#include <stdint.h>

enum hostile_kind {
	HOSTILE_RINGS,    /* random words all over its memory, at full speed */
	HOSTILE_MEMORY,   /* cuts its memfd, and punches holes into it */
	HOSTILE_FLOOD,    /* connections that say nothing, or nonsense */
	HOSTILE_DEAF,     /* asks for bells, and never reads one */
	HOSTILE_SERVICES, /* frames of nonsense; requests whose answers it never reads */
	HOSTILE_KINDS
};

extern const char *const hostile_name[HOSTILE_KINDS];

/* The paths of gpuqd's sockets; a queue that takes slots of 64 bytes; an op of the services'. */
struct hostile {
	const char *socket, *services, *queue, *op;
	uint64_t random; /* the state of its dice, not 0 */
	uint32_t steps;  /* of a DEAF one until it ends its round; 0: 20000. May be changed */
	uint64_t served; /* its messages that have ended in this round; may be read */
};

/*
 * One round, of some milliseconds (or `steps`) or until gpuqd has closed the connection.
 * @return NULL, or what gpuqd or the kernel must not have allowed
 */
const char *hostile_round(struct hostile *h, enum hostile_kind kind);

#endif /* GPUQ_TEST_HOSTILE_H */
