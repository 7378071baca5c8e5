/* SPDX-License-Identifier: Apache-2.0 */
/* list_elements.c - messages of a list, told apart by their bytes. Pure. */
#include "list_elements.h"

#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void element_digest(struct element *e)
{
	struct sha256_ctx sha;

	sha256_init(&sha);
	sha256_update(&sha, e->reply->len, (const uint8_t *)e->reply->str);
	sha256_digest(&sha, DIGEST_BYTES, e->digest);
}

void digest_text(const uint8_t *digest, char to[DIGEST_TEXT])
{
	for (size_t i = 0; i < DIGEST_BYTES; i++)
		snprintf(to + 2 * i, 3, "%02x", (unsigned int)digest[i]);
}

static uint64_t beginning(const uint8_t *digest)
{
	uint64_t value;

	memcpy(&value, digest, sizeof(value));
	return value;
}

struct stream_id element_id(const struct element *e, uint64_t ordinal)
{
	return (struct stream_id){ .ms = beginning(e->digest), .seq = ordinal };
}

bool elements_push(struct elements *list, struct element e)
{
	if (list->count == list->room) {
		const uint32_t room = list->room == 0 ? 256 : 2 * list->room;
		struct element *larger = realloc(list->at, room * sizeof(larger[0]));

		if (!larger) { /* unreached: no memory */
			freeReplyObject(e.reply);
			return false;
		}
		list->at = larger;
		list->room = room;
	}
	list->at[list->count++] = e;
	return true;
}

void elements_clear(struct elements *list)
{
	for (uint32_t i = 0; i < list->count; i++)
		freeReplyObject(list->at[i].reply);
	free(list->at);
	*list = (struct elements){ .count = 0 };
}

bool elements_take(struct elements *list, struct stream_id id, struct element *out)
{
	for (uint32_t i = list->count; i-- > 0;) {
		if (beginning(list->at[i].digest) != id.ms)
			continue;
		*out = list->at[i];
		memmove(&list->at[i], &list->at[i + 1], (--list->count - i) * sizeof(list->at[0]));
		return true;
	}
	return false;
}

static int by_value(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a;
	const uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The held ones in order, and behind the number of each that no element has been found for yet. */
struct tally {
	const uint64_t *values;
	uint32_t *left;
	uint32_t count;
};

/* Where a value stands first, or where it would. */
static uint32_t find(const struct tally *t, uint64_t value)
{
	uint32_t low = 0;
	uint32_t high = t->count;

	while (low < high) {
		const uint32_t middle = low + (high - low) / 2;

		if (t->values[middle] < value)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static void count_held(struct tally *t)
{
	for (uint32_t i = 0; i < t->count; i++)
		t->left[find(t, t->values[i])]++;
}

/* One of the held ones has this digest, and stands for this element. */
static bool is_held(struct tally *t, uint64_t value)
{
	const uint32_t at = find(t, value);

	if (at == t->count || t->values[at] != value || t->left[at] == 0)
		return false;
	t->left[at]--;
	return true;
}

bool elements_unknown(redisReply *reply, uint64_t *held, uint32_t count, struct elements *out)
{
	struct tally t = { .values = held, .count = count };

	t.left = calloc((size_t)count + 1, sizeof(t.left[0]));
	if (!t.left) /* unreached: no memory */
		return false;
	qsort(held, count, sizeof(held[0]), by_value);
	count_held(&t);
	for (size_t i = 0; i < reply->elements; i++) {
		struct element e = { .reply = reply->element[i] };

		if (e.reply->type != REDIS_REPLY_STRING)
			continue;
		element_digest(&e);
		if (is_held(&t, beginning(e.digest)))
			continue;
		reply->element[i] = NULL;
		if (!elements_push(out, e)) { /* unreached: no memory */
			free(t.left);
			return false;
		}
	}
	free(t.left);
	return true;
}
