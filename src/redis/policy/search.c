/* SPDX-License-Identifier: Apache-2.0 */
/* search.c - the search for a message that kills the device: a stack of groups in one array. */
#include "search.h"

#include <stdatomic.h>

/* Where the group of this number begins: each says its own size, from the bottom. */
static uint32_t begin_of(const struct suspect *suspects, uint32_t group)
{
	uint32_t at = 0;

	for (uint32_t i = 0; i < group; i++)
		at += suspects[at].size;
	return at;
}

/* The topmost group that has anybody in it; its size. */
static uint32_t find_top(struct search *s, const struct suspect *suspects, uint32_t *out_begin)
{
	while (s->groups > 0) {
		*out_begin = begin_of(suspects, s->groups - 1);
		if (suspects[*out_begin].size > 0)
			return suspects[*out_begin].size;
		s->groups--;
	}
	return 0;
}

bool search_push(struct search *s, struct suspect *suspects, const struct stream_id *ids,
		 uint32_t count)
{
	uint32_t begin = 0;
	const uint32_t below = find_top(s, suspects, &begin);

	if (count == 0)
		return true;
	begin += below;
	if (count > s->capacity - begin)
		return false;
	for (uint32_t i = 0; i < count; i++)
		suspects[begin + i] = (struct suspect){ .id = ids[i] };
	suspects[begin].size = count;
	atomic_signal_fence(memory_order_release); /* the process may end here: see search.h */
	s->groups++;
	return true;
}

uint32_t search_top(struct search *s, const struct suspect *suspects, const struct suspect **out)
{
	uint32_t begin = 0;
	const uint32_t size = find_top(s, suspects, &begin);

	*out = &suspects[begin];
	return size;
}

void search_clear(struct search *s, struct suspect *suspects, struct stream_id id)
{
	uint32_t begin = 0;
	const uint32_t size = find_top(s, suspects, &begin);

	for (uint32_t i = begin; i < begin + size; i++) {
		if (!stream_id_equal(suspects[i].id, id))
			continue;
		suspects[i].id = suspects[begin + size - 1].id;
		atomic_signal_fence(memory_order_release);
		suspects[begin].size = size - 1;
		find_top(s, suspects, &begin);
		return;
	}
}

bool search_died(struct search *s, struct suspect *suspects, struct stream_id *out)
{
	uint32_t begin = 0;
	const uint32_t size = find_top(s, suspects, &begin);

	if (size == 0)
		return false;
	if (size == 1) {
		*out = suspects[begin].id;
		suspects[begin].size = 0;
		s->groups--;
		return true;
	}
	suspects[begin].size = size - size / 2;
	suspects[begin + size - size / 2].size = size / 2;
	s->groups++;
	return false;
}
