/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pending.c - whose message an id is: a hash table with linear probing, twice as large as the
 * queue.
 *
 * An entry is added before a completion of its message can be seen, and taken when that is: a queue
 * never has more messages than slots, so the table never fills.
 */
#include "module.h"

int pq_table_init(struct pq_table *table, uint32_t capacity)
{
	size_t size = 4;

	while (size < 2 * (size_t)capacity)
		size *= 2;
	table->entries = PyMem_Calloc(size, sizeof(*table->entries));
	table->mask = size - 1;
	table->count = 0;
	if (table->entries == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	return 0;
}

void pq_table_free(struct pq_table *table)
{
	PyMem_Free(table->entries);
	table->entries = NULL;
}

/* Ids that follow each other go to places that follow each other. */
static size_t home(const struct pq_table *table, uint64_t id)
{
	return (size_t)id & table->mask;
}

void pq_table_add(struct pq_table *table, uint64_t id, PyObject *owner, Py_ssize_t index)
{
	size_t at = home(table, id);

	while (table->entries[at].id != 0)
		at = (at + 1) & table->mask;
	Py_INCREF(owner);
	table->entries[at] = (struct pq_pending){ id, owner, index };
	table->count++;
}

/* Moves back what was put behind `at` because that was taken. */
static void close_gap(struct pq_table *table, size_t at)
{
	size_t next = at;

	for (;;) {
		next = (next + 1) & table->mask;
		if (table->entries[next].id == 0)
			break;
		if (((next - home(table, table->entries[next].id)) & table->mask) <
		    ((next - at) & table->mask))
			continue;
		table->entries[at] = table->entries[next];
		at = next;
	}
	table->entries[at] = (struct pq_pending){ 0 };
}

bool pq_table_take(struct pq_table *table, uint64_t id, struct pq_pending *out)
{
	size_t at = home(table, id);

	while (table->entries[at].id != id) {
		if (table->entries[at].id == 0)
			return false;
		at = (at + 1) & table->mask;
	}
	*out = table->entries[at];
	close_gap(table, at);
	table->count--;
	return true;
}

bool pq_table_take_next(struct pq_table *table, size_t *at, struct pq_pending *out)
{
	for (; *at <= table->mask; (*at)++)
		if (table->entries[*at].id != 0)
			return pq_table_take(table, table->entries[*at].id, out);
	return false;
}
