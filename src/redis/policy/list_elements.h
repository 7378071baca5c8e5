/* SPDX-License-Identifier: Apache-2.0 */
/* list_elements.h - messages of a list: which are which, and which a worker has already. Pure. */
#ifndef GPUQ_REDIS_LIST_ELEMENTS_H
#define GPUQ_REDIS_LIST_ELEMENTS_H

#include "entry.h"

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

#define DIGEST_BYTES 32
#define DIGEST_TEXT  (2 * DIGEST_BYTES + 1)

/* A message on its way into the book. */
struct element {
	redisReply *reply; /* its bytes: a string */
	uint8_t digest[DIGEST_BYTES];
	uint32_t deliveries; /* before this one */
};

/* A growing array of them. */
struct elements {
	struct element *at;
	uint32_t count;
	uint32_t room;
};

void element_digest(struct element *e);
/** In hexadecimal, as sha256sum(1) writes it. */
void digest_text(const uint8_t *digest, char to[DIGEST_TEXT]);
/** As an entry of the book: what it is, and which of those that are the same. */
struct stream_id element_id(const struct element *e, uint64_t ordinal);
/** False: no memory; the element is freed. */
bool elements_push(struct elements *list, struct element e);
void elements_clear(struct elements *list);
/** Take one out whose digest begins as the id does. False: there is none. */
bool elements_take(struct elements *list, struct stream_id id, struct element *out);
/**
 * Of the elements of a reply to LRANGE, those that are not among the `count` held ones, into
 * `out`; of equal ones as many as there are more. They are taken out of the reply. `held` is put
 * into another order. False: no memory.
 */
bool elements_unknown(redisReply *reply, uint64_t *held, uint32_t count, struct elements *out);

#endif /* GPUQ_REDIS_LIST_ELEMENTS_H */
