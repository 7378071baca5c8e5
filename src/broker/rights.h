/* SPDX-License-Identifier: Apache-2.0 */
/* rights.h - what a client's token says of a queue. Knows nothing of the wire of queues, whose
 * names are those of services' frames. */
#ifndef GPUQ_BROKER_RIGHTS_H
#define GPUQ_BROKER_RIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct router_tokens;

struct rights {
	uint8_t id[16];  /* of the token that it was made of */
	uint32_t best;   /* class of the queue: 3 urgent, 0 low */
	uint64_t pinned; /* bytes of shared memory of all connections with that id; 0: no limit */
};

enum { RIGHTS_TEXT = 200 };

/*
 * Whether a client of this user, with this token, may use this queue now.
 * @return false: `text` says why not
 */
bool rights_check(const struct router_tokens *keys, const void *token, size_t bytes, uint32_t uid,
		  const char *queue, struct rights *out, char text[RIGHTS_TEXT]);

#endif /* GPUQ_BROKER_RIGHTS_H */
