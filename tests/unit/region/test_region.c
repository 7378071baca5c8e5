/* SPDX-License-Identifier: Apache-2.0 */
/* test_region.c - the table of regions: what may be described, and how long it lives. */
#include "child.h"
#include "support.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/region/region.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SHORT 1000u /* bytes of most regions */

/* Four regions' worth of table, and private memory to register. */
struct fixture {
	RegionTable *table;
	uint8_t *bytes;
};

static RegionTable *make_table(uint32_t max_regions)
{
	RegionTable *t = NULL;

	assert_status(q_region_table_create(max_regions, &t), Q_OK);
	return t;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	f->table = make_table(4);
	f->bytes = malloc(SHORT);
	for (unsigned i = 0; i < SHORT; i++)
		f->bytes[i] = (uint8_t)i;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	q_region_table_destroy(f->table);
	free(f->bytes);
	free(f);
	return 0;
}

static RegionHandle add(struct fixture *f, RegionPolicy policy)
{
	RegionHandle region = { 0 };

	assert_status(q_region_register(f->table, f->bytes, SHORT, policy, &region), Q_OK);
	assert_int_not_equal(region.generation, 0);
	return region;
}

static MessageDescriptor describe(RegionHandle region, uint64_t offset, uint32_t length)
{
	return (MessageDescriptor){ .region = region, .offset = offset, .length = length };
}

static QueueStatus acquire(RegionTable *t, MessageDescriptor d)
{
	const void *bytes;

	return gq__region_acquire(t, &d, &bytes);
}

static QueueStatus resolve(RegionTable *t, MessageDescriptor d)
{
	const void *bytes;

	return q_region_resolve(t, &d, &bytes);
}

static QueueStatus release(RegionTable *t, RegionHandle region)
{
	MessageDescriptor d = describe(region, 0, 1);

	return q_region_release(t, &d);
}

static RegionInfo info_of(RegionTable *t, RegionHandle region)
{
	RegionInfo info;

	assert_status(q_region_info(t, region, &info), Q_OK);
	return info;
}

static bool is_gone(RegionTable *t, RegionHandle region)
{
	RegionInfo info;
	QueueStatus status = q_region_info(t, region, &info);

	assert_true(status == Q_OK || status == Q_ERR_STALE);
	return status == Q_ERR_STALE;
}

static int make_memfd(size_t size)
{
	int fd = memfd_create("region", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

/* Whether a mapping of the memfds made here exists at `base`. */
static bool mapped_from_memfd(const void *base)
{
	FILE *file = fopen("/proc/self/maps", "r");
	bool found = false;
	char line[512];

	assert_non_null(file);
	while (fgets(line, sizeof(line), file) != NULL) {
		void *begin, *end;

		if (sscanf(line, "%p-%p", &begin, &end) == 2 && (char *)base >= (char *)begin &&
		    (char *)base < (char *)end)
			found = strstr(line, "/memfd:region") != NULL;
	}
	fclose(file);
	return found;
}

/* ---- tables --------------------------------------------------------------------------------- */

static void a_table_holds_exactly_max_regions(void **state)
{
	static const uint32_t sizes[] = { 1, 2, 7, 256 };
	struct fixture *f = *state;

	for (unsigned s = 0; s < 4; s++) {
		RegionTable *t = make_table(sizes[s]);
		RegionHandle region, last;

		for (uint32_t i = 0; i < sizes[s]; i++) {
			assert_status(q_region_register(t, f->bytes, 8, Q_REGION_IMMUTABLE, &last),
				      Q_OK);
			assert_int_equal(last.id, i);
		}
		assert_status(q_region_register(t, f->bytes, 8, Q_REGION_IMMUTABLE, &region),
			      Q_ERR_LIMIT);
		assert_says("regions are registered");
		assert_status(q_region_retire(t, last), Q_OK);
		assert_status(q_region_register(t, f->bytes, 8, Q_REGION_IMMUTABLE, &region), Q_OK);
		assert_int_equal(region.id, last.id);
		assert_int_not_equal(region.generation, last.generation);
		q_region_table_destroy(t);
	}
}

static void a_wrong_table_is_refused_by_name(void **state)
{
	static const uint32_t wrong[] = { 0, Q_MAX_REGIONS + 1, UINT32_MAX };
	static _Alignas(128) uint8_t memory[128 + 4 * 64 + 128];
	RegionTable *t = NULL;

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		assert_status(q_region_table_create(wrong[i], &t), Q_ERR_INVALID_ARG);
		assert_says("max_regions is ");
		assert_int_equal(q_region_table_required_memory(wrong[i]), 0);
		assert_status(q_region_table_create_in(wrong[i], memory, sizeof(memory), &t),
			      Q_ERR_INVALID_ARG);
	}
	assert_int_equal(q_region_table_required_memory(4), 128 + 4 * 64);
	assert_int_equal(q_region_table_required_memory(Q_MAX_REGIONS), 128 + 64 * 65536);
	assert_status(q_region_table_create(1, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_region_table_create_in(1, memory, sizeof(memory), NULL), Q_ERR_INVALID_ARG);
	assert_status(q_region_table_create_in(4, NULL, sizeof(memory), &t), Q_ERR_INVALID_ARG);
	assert_status(q_region_table_create_in(4, memory + 64, 128 + 4 * 64, &t),
		      Q_ERR_INVALID_ARG);
	assert_says("allowed: a multiple of 128");
	assert_status(q_region_table_create_in(4, memory, 128 + 4 * 64 - 1, &t), Q_ERR_NO_MEMORY);
	assert_says("bytes is 383; a table of 4 regions takes 384");
	assert_null(t);
	q_region_table_destroy(NULL);
}

static void a_table_is_made_in_memory_of_any_content(void **state)
{
	static _Alignas(128) uint8_t memory[128 + 4 * 64];
	struct fixture *f = *state;
	RegionTable *t, *u;
	RegionHandle region;

	memset(memory, 0xa5, sizeof(memory));
	assert_status(q_region_table_create_in(4, memory, sizeof(memory), &t), Q_OK);
	for (int i = 0; i < 4; i++)
		assert_status(q_region_register(t, f->bytes, 8, Q_REGION_IMMUTABLE, &region), Q_OK);
	assert_status(q_region_register(t, f->bytes, 8, Q_REGION_IMMUTABLE, &region), Q_ERR_LIMIT);
	assert_status(q_region_table_attach(memory, sizeof(memory), &u), Q_OK);
	q_region_table_destroy(t); /* the memory, and who has attached, live on */
	assert_int_equal(info_of(u, region).size, 8);
	q_region_table_destroy(u);
}

static void attach_checks_all_it_reads(void **state)
{
	static _Alignas(128) uint8_t memory[128 + 4 * 64];
	struct gq_region_head *head = (void *)memory, good;
	const size_t bytes = sizeof(memory);
	RegionTable *t = NULL;

	(void)state;
	memset(memory, 0, bytes);
	assert_status(q_region_table_attach(memory, bytes, &t), Q_ERR_NOT_READY);
	memset(memory, 0xff, bytes);
	assert_status(q_region_table_attach(memory, bytes, &t), Q_ERR_INVALID_ARG);
	assert_status(q_region_table_create_in(4, memory, bytes, &t), Q_OK);
	q_region_table_destroy(t);
	t = NULL;
	good = *head;
	assert_status(q_region_table_attach(memory, bytes, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_region_table_attach(NULL, bytes, &t), Q_ERR_INVALID_ARG);
	assert_status(q_region_table_attach(memory + 64, bytes - 64, &t), Q_ERR_INVALID_ARG);
	assert_status(q_region_table_attach(memory, 0, &t), Q_ERR_NO_MEMORY);
	assert_status(q_region_table_attach(memory, 127, &t), Q_ERR_NO_MEMORY);
	assert_status(q_region_table_attach(memory, 128, &t), Q_ERR_NO_MEMORY);
	assert_status(q_region_table_attach(memory, bytes - 1, &t), Q_ERR_NO_MEMORY);
	assert_says("this table takes 384");

#define TRY(field, value, status, text)                                                            \
	do {                                                                                       \
		head->field = (value);                                                             \
		assert_status(q_region_table_attach(memory, bytes, &t), status);                   \
		assert_says(text);                                                                 \
		*head = good;                                                                      \
	} while (0)
	TRY(magic, 1, Q_ERR_INVALID_ARG, "there is no table");
	TRY(ready, 0, Q_ERR_NOT_READY, "has not finished");
	TRY(version, 2, Q_ERR_INVALID_ARG, "version is 2; this library's is 1");
	TRY(version, 0, Q_ERR_INVALID_ARG, "version is 0");
	TRY(entry_bytes, 128, Q_ERR_INVALID_ARG, "entries have 128 bytes");
	TRY(max_regions, 0, Q_ERR_INVALID_ARG, "max_regions is 0");
	TRY(max_regions, UINT32_MAX, Q_ERR_INVALID_ARG, "max_regions is 4294967295");
	TRY(max_regions, 5, Q_ERR_INVALID_ARG, "the table says it takes 384 bytes");
	TRY(bytes, UINT64_MAX, Q_ERR_INVALID_ARG, "the table says it takes");
#undef TRY
	/* A table larger than the memory. */
	head->max_regions = 8;
	head->bytes = 128 + 8 * 64;
	assert_status(q_region_table_attach(memory, bytes, &t), Q_ERR_NO_MEMORY);
	*head = good;
	assert_null(t);
	assert_status(q_region_table_attach(memory, bytes, &t), Q_OK);
	q_region_table_destroy(t);
}

static void tables_survive_every_failing_resource(void **state)
{
	static _Alignas(128) uint8_t memory[128 + 4 * 64];
	size_t live = gq__alloc_live_bytes();
	RegionTable *t = NULL;
	unsigned n, m;

	(void)state;
	for (n = 1; t == NULL; n++) {
		QueueStatus status;

		gq__fault_set(n);
		status = q_region_table_create(4, &t);
		gq__fault_set(0);
		if (status == Q_OK)
			break;
		assert_status(status, Q_ERR_NO_MEMORY);
		assert_says("out of memory: ");
		assert_int_equal(gq__alloc_live_bytes(), live);
	}
	assert_int_equal(n, 4); /* states, handle, mappings */
	q_region_table_destroy(t);
	for (m = 1; m < 3; m++) {
		gq__fault_set(m);
		assert_status(q_region_table_create_in(4, memory, sizeof(memory), &t),
			      Q_ERR_NO_MEMORY);
	}
	gq__fault_set(0);
	assert_status(q_region_table_create_in(4, memory, sizeof(memory), &t), Q_OK);
	q_region_table_destroy(t);
	for (m = 1; m < 3; m++) {
		gq__fault_set(m);
		assert_status(q_region_table_attach(memory, sizeof(memory), &t), Q_ERR_NO_MEMORY);
	}
	gq__fault_set(0);
	assert_int_equal(gq__alloc_live_bytes(), live);
}

/* ---- descriptors ---------------------------------------------------------------------------- */

static void a_descriptor_is_24_bytes_of_fixed_layout(void **state)
{
	(void)state;
	assert_int_equal(sizeof(MessageDescriptor), 24);
	assert_int_equal(offsetof(MessageDescriptor, region.id), 0);
	assert_int_equal(offsetof(MessageDescriptor, region.generation), 4);
	assert_int_equal(offsetof(MessageDescriptor, offset), 8);
	assert_int_equal(offsetof(MessageDescriptor, length), 16);
	assert_int_equal(offsetof(MessageDescriptor, flags), 20);
}

static void a_descriptor_resolves_to_the_bytes_in_place(void **state)
{
	struct fixture *f = *state;
	MessageDescriptor d = describe(add(f, Q_REGION_IMMUTABLE), 100, 50);
	const void *bytes = NULL;

	assert_status(q_region_resolve(f->table, &d, &bytes), Q_OK);
	assert_ptr_equal(bytes, f->bytes + 100);
	bytes = NULL;
	assert_status(gq__region_acquire(f->table, &d, &bytes), Q_OK);
	assert_ptr_equal(bytes, f->bytes + 100);
	assert_int_equal(info_of(f->table, d.region).references, 1);
	assert_status(gq__region_acquire(f->table, &d, NULL), Q_OK);
	assert_int_equal(info_of(f->table, d.region).references, 2);
	gq__region_drop(f->table, &d);
	assert_status(q_region_release(f->table, &d), Q_OK);
	assert_int_equal(info_of(f->table, d.region).references, 0);
}

static void rg_3_a_descriptor_must_end_within_the_region(void **state)
{
	static const struct {
		uint64_t offset;
		uint32_t length;
		bool good;
	} cases[] = {
		{ 0, 1, true },
		{ 0, 856, true },
		{ 500, 356, true },
		{ 500, 357, false },
		{ 501, 356, false },
		{ 855, 1, true },
		{ 856, 1, false },
		{ 0, 857, false },
		{ 900, 200, false },
		{ UINT64_MAX - 10, 100, false },
		{ UINT64_MAX, 1, false },
		{ 0, UINT32_MAX, false },
		{ UINT64_MAX - UINT32_MAX + 1, UINT32_MAX, false },
	};
	struct fixture *f = *state;
	RegionHandle region, one_less;

	/* The original's 500 + 356 of a region of 856, and of 855. */
	assert_status(q_region_register(f->table, f->bytes, 856, Q_REGION_IMMUTABLE, &region),
		      Q_OK);
	assert_status(q_region_register(f->table, f->bytes, 855, Q_REGION_IMMUTABLE, &one_less),
		      Q_OK);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		QueueStatus wanted = cases[i].good ? Q_OK : Q_ERR_INVALID_ARG;
		MessageDescriptor d = describe(region, cases[i].offset, cases[i].length);

		assert_status(resolve(f->table, d), wanted);
		assert_status(acquire(f->table, d), wanted);
		if (cases[i].good)
			assert_status(q_region_release(f->table, &d), Q_OK);
		else
			assert_says("end beyond the region's bytes, 856");
	}
	assert_status(acquire(f->table, describe(one_less, 500, 356)), Q_ERR_INVALID_ARG);
	assert_status(acquire(f->table, describe(one_less, 500, 355)), Q_OK);
	assert_int_equal(info_of(f->table, region).references, 0);
	assert_int_equal(info_of(f->table, one_less).references, 1);
}

static void what_is_wrong_is_checked_in_a_fixed_order(void **state)
{
	struct fixture *f = *state;
	MessageDescriptor d = describe(add(f, Q_REGION_SLAB), UINT64_MAX, 0);

	/* Each step puts right what the one before complained of. */
	d.flags = 4;
	d.region.id = 4;
	assert_status(acquire(NULL, d), Q_ERR_INVALID_ARG);
	assert_says("table is NULL");
	assert_status(gq__region_acquire(f->table, NULL, NULL), Q_ERR_INVALID_ARG);
	assert_says("descriptor is NULL");
	assert_status(acquire(f->table, d), Q_ERR_INVALID_ARG);
	assert_says("flags is 0x4; allowed: 0");
	d.flags = 0;
	assert_status(acquire(f->table, d), Q_ERR_INVALID_ARG);
	assert_says("length is 0");
	d.length = 100;
	assert_status(acquire(f->table, d), Q_ERR_STALE);
	assert_says("region.id is 4; this table's: 0 to 3");
	d.region.id = 3;
	assert_status(acquire(f->table, d), Q_ERR_STALE);
	assert_says("is not registered");
	d.region.id = 0;
	d.region.generation++;
	assert_status(acquire(f->table, d), Q_ERR_STALE);
	d.region.generation = 0;
	assert_status(acquire(f->table, d), Q_ERR_STALE);
	d.region.generation = 1;
	assert_status(acquire(f->table, d), Q_ERR_POLICY); /* before the bounds */
	assert_says("slab");
	d.region = add(f, Q_REGION_IMMUTABLE);
	assert_status(acquire(f->table, d), Q_ERR_INVALID_ARG);
	d.offset = 0;
	assert_status(acquire(f->table, d), Q_OK);
	assert_status(q_region_retire(f->table, d.region), Q_OK);
	d.offset = UINT64_MAX;
	assert_status(acquire(f->table, d), Q_ERR_STALE);
	assert_says("has been retired");
}

static void resolve_checks_as_acceptance_does(void **state)
{
	struct fixture *f = *state;
	RegionHandle region = add(f, Q_REGION_IMMUTABLE), slab = add(f, Q_REGION_SLAB);
	MessageDescriptor d = describe(region, 0, 1);
	const void *bytes = f;

	assert_status(q_region_resolve(NULL, &d, &bytes), Q_ERR_INVALID_ARG);
	assert_status(q_region_resolve(f->table, NULL, &bytes), Q_ERR_INVALID_ARG);
	assert_status(q_region_resolve(f->table, &d, NULL), Q_ERR_INVALID_ARG);
	assert_says("out is NULL");
	d.flags = 1;
	assert_status(q_region_resolve(f->table, &d, &bytes), Q_ERR_INVALID_ARG);
	assert_status(resolve(f->table, describe(region, 0, 0)), Q_ERR_INVALID_ARG);
	assert_status(resolve(f->table, describe(slab, 0, 1)), Q_ERR_POLICY);
	assert_status(resolve(f->table, describe((RegionHandle){ 0 }, 0, 1)), Q_ERR_STALE);
	assert_status(resolve(f->table, describe((RegionHandle){ UINT32_MAX, 1 }, 0, 1)),
		      Q_ERR_STALE);
	assert_ptr_equal(bytes, f); /* written on success only */
}

static void a_zeroed_handle_is_never_valid(void **state)
{
	struct fixture *f = *state;
	RegionHandle zero = { 0 };
	RegionInfo info;
	uint64_t at;

	for (int registered = 0; registered < 2; registered++) {
		assert_status(q_region_info(f->table, zero, &info), Q_ERR_STALE);
		assert_status(q_region_retire(f->table, zero), Q_ERR_STALE);
		assert_status(release(f->table, zero), Q_ERR_STALE);
		assert_status(q_region_map(f->table, zero, f->bytes, 1), Q_ERR_STALE);
		assert_status(q_region_append(f->table, zero, "x", 1, &at), Q_ERR_STALE);
		add(f, Q_REGION_APPEND_ONLY);
	}
}

static void wrong_registrations_are_refused_by_name(void **state)
{
	struct fixture *f = *state;
	RegionHandle region = { 77, 77 };
	uint8_t *hole =
		mmap(NULL, 3 * 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

#define REFUSE(t, base, size, policy, out, status, text)                                           \
	do {                                                                                       \
		assert_status(q_region_register(t, base, size, policy, out), status);              \
		assert_says(text);                                                                 \
	} while (0)
	REFUSE(NULL, f->bytes, 1, Q_REGION_SLAB, &region, Q_ERR_INVALID_ARG, "table is NULL");
	REFUSE(f->table, f->bytes, 1, Q_REGION_SLAB, NULL, Q_ERR_INVALID_ARG, "out is NULL");
	REFUSE(f->table, NULL, 1, Q_REGION_SLAB, &region, Q_ERR_INVALID_ARG, "base is NULL");
	REFUSE(f->table, f->bytes, 0, Q_REGION_SLAB, &region, Q_ERR_INVALID_ARG, "size is 0");
	REFUSE(f->table, f->bytes, UINT64_MAX, Q_REGION_SLAB, &region, Q_ERR_INVALID_ARG,
	       "size is 18446744073709551615; allowed at this base: 1 to");
	REFUSE(f->table, f->bytes, 1, (RegionPolicy)3, &region, Q_ERR_INVALID_ARG,
	       "policy is 3; allowed: 0");
	REFUSE(f->table, f->bytes, 1, (RegionPolicy)-1, &region, Q_ERR_INVALID_ARG, "policy is");
	munmap(hole + 65536, 65536);
	for (int policy = 0; policy < 3; policy++) {
		REFUSE(f->table, hole, 3 * 65536, (RegionPolicy)policy, &region, Q_ERR_INVALID_ARG,
		       " memory at 0x");
		REFUSE(f->table, hole + 65536, 1, (RegionPolicy)policy, &region, Q_ERR_INVALID_ARG,
		       " memory at 0x");
	}
	mprotect(hole, 65536, PROT_NONE);
	REFUSE(f->table, hole, 1, Q_REGION_IMMUTABLE, &region, Q_ERR_INVALID_ARG,
	       "there is no readable memory");
	mprotect(hole, 65536, PROT_READ);
	REFUSE(f->table, hole, 1, Q_REGION_APPEND_ONLY, &region, Q_ERR_INVALID_ARG,
	       "there is no writable memory");
#undef REFUSE
	assert_int_equal(region.id, 77); /* written on success only */
	assert_status(q_region_register(f->table, hole, 65536, Q_REGION_IMMUTABLE, &region), Q_OK);
	assert_int_equal(region.id, 0);
	munmap(hole, 65536);
	munmap(hole + 2 * 65536, 65536);
}

static void registering_immutable_needs_proc_and_says_so(void **state)
{
	struct fixture *f = *state;
	RegionHandle region;

	gq__fault_set(1);
	assert_status(q_region_register(f->table, f->bytes, 1, Q_REGION_IMMUTABLE, &region),
		      Q_ERR_UNSUPPORTED);
	assert_says("/proc/self/maps");
	gq__fault_set(1);
	assert_status(q_region_register(f->table, f->bytes, 1, Q_REGION_APPEND_ONLY, &region),
		      Q_OK);
	gq__fault_set(0);
	assert_int_equal(region.id, 0); /* nothing was taken by the first */
}

/* ---- policies ------------------------------------------------------------------------------- */

static void only_what_has_been_appended_may_be_described(void **state)
{
	struct fixture *f = *state;
	RegionHandle region = add(f, Q_REGION_APPEND_ONLY);
	uint64_t at = 77;

	assert_int_equal(info_of(f->table, region).cursor, 0);
	assert_status(acquire(f->table, describe(region, 0, 1)), Q_ERR_INVALID_ARG);
	assert_says("end beyond what has been appended, 0");
	assert_status(q_region_append(f->table, region, "hello", 5, &at), Q_OK);
	assert_int_equal(at, 0);
	assert_memory_equal(f->bytes, "hello", 5);
	assert_status(q_region_append(f->table, region, "world", 5, &at), Q_OK);
	assert_int_equal(at, 5);
	assert_memory_equal(f->bytes, "helloworld", 10);
	assert_int_equal(info_of(f->table, region).cursor, 10);
	assert_status(acquire(f->table, describe(region, 5, 5)), Q_OK);
	assert_status(acquire(f->table, describe(region, 5, 6)), Q_ERR_INVALID_ARG);
	assert_status(resolve(f->table, describe(region, 9, 1)), Q_OK);
	assert_status(resolve(f->table, describe(region, 10, 1)), Q_ERR_INVALID_ARG);
}

static void append_fills_to_the_last_byte_and_refuses_the_next(void **state)
{
	struct fixture *f = *state;
	RegionHandle region = add(f, Q_REGION_APPEND_ONLY);
	uint8_t many[SHORT + 1] = { 0 };
	uint64_t at = 77;

	assert_status(q_region_append(f->table, region, many, SHORT + 1, &at), Q_ERR_FULL);
	assert_status(q_region_append(f->table, region, many, SIZE_MAX, &at), Q_ERR_FULL);
	assert_says("room for 1000 more");
	assert_status(q_region_append(f->table, region, many, SHORT - 1, &at), Q_OK);
	f->bytes[SHORT - 1] = 9;
	assert_status(q_region_append(f->table, region, many, 2, &at), Q_ERR_FULL);
	assert_int_equal(f->bytes[SHORT - 1], 9); /* nothing written */
	assert_int_equal(at, 0);
	assert_status(q_region_append(f->table, region, many, 1, &at), Q_OK);
	assert_int_equal(at, SHORT - 1);
	assert_status(q_region_append(f->table, region, NULL, 0, &at), Q_OK);
	assert_int_equal(at, SHORT);
	assert_status(q_region_append(f->table, region, many, 1, &at), Q_ERR_FULL);
	assert_int_equal(info_of(f->table, region).cursor, SHORT);
}

static void wrong_appends_are_refused_by_name(void **state)
{
	struct fixture *f = *state;
	RegionHandle region = add(f, Q_REGION_APPEND_ONLY), fixed = add(f, Q_REGION_IMMUTABLE);
	RegionHandle slab = add(f, Q_REGION_SLAB);
	uint64_t at;

	assert_status(q_region_append(NULL, region, "x", 1, &at), Q_ERR_INVALID_ARG);
	assert_status(q_region_append(f->table, region, NULL, 1, &at), Q_ERR_INVALID_ARG);
	assert_says("data is NULL with len 1");
	assert_status(q_region_append(f->table, region, "x", 1, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_region_append(f->table, fixed, "x", 1, &at), Q_ERR_POLICY);
	assert_status(q_region_append(f->table, slab, "x", 1, &at), Q_ERR_POLICY);
	assert_says("not append-only");
	assert_status(q_region_append(f->table, region, "x", 1, &at), Q_OK);
	assert_status(acquire(f->table, describe(region, 0, 1)), Q_OK);
	assert_status(q_region_retire(f->table, region), Q_OK);
	assert_status(q_region_append(f->table, region, "x", 1, &at), Q_ERR_STALE);
	assert_says("has been retired");
	assert_status(release(f->table, region), Q_OK);
	assert_status(q_region_append(f->table, region, "x", 1, &at), Q_ERR_STALE);
	assert_says("is not registered");
}

static void info_says_what_a_region_is(void **state)
{
	struct fixture *f = *state;
	RegionHandle region[3];
	RegionInfo info;

	for (int policy = 0; policy < 3; policy++) {
		static const uint64_t cursors[] = { SHORT, 0, 0 };

		region[policy] = add(f, (RegionPolicy)policy);
		info = info_of(f->table, region[policy]);
		assert_int_equal(info.size, SHORT);
		assert_int_equal(info.cursor, cursors[policy]);
		assert_int_equal(info.references, 0);
		assert_int_equal(info.policy, policy);
		assert_int_equal(info.retired, 0);
		for (int i = 0; i < 4; i++)
			assert_int_equal(info.reserved[i], 0);
	}
	assert_status(q_region_info(NULL, region[0], &info), Q_ERR_INVALID_ARG);
	assert_status(q_region_info(f->table, region[0], NULL), Q_ERR_INVALID_ARG);
	region[0].id = 4;
	assert_status(q_region_info(f->table, region[0], &info), Q_ERR_STALE);
}

/* ---- life ----------------------------------------------------------------------------------- */

static void rg_4_a_region_retired_while_described_lives_until_the_last_release(void **state)
{
	struct fixture *f = *state;
	RegionHandle region = add(f, Q_REGION_IMMUTABLE);
	MessageDescriptor d = describe(region, 0, SHORT);

	assert_status(acquire(f->table, d), Q_OK);
	assert_status(acquire(f->table, d), Q_OK);
	assert_status(q_region_retire(f->table, region), Q_OK);
	assert_status(q_region_retire(f->table, region), Q_OK); /* idempotent */
	assert_int_equal(info_of(f->table, region).retired, 1);
	assert_int_equal(info_of(f->table, region).references, 2);
	assert_status(acquire(f->table, d), Q_ERR_STALE);
	assert_status(resolve(f->table, d), Q_OK);
	assert_status(q_region_release(f->table, &d), Q_OK);
	assert_status(resolve(f->table, d), Q_OK);
	assert_int_equal(info_of(f->table, region).references, 1);
	assert_status(q_region_release(f->table, &d), Q_OK);
	assert_true(is_gone(f->table, region));
	assert_status(resolve(f->table, d), Q_ERR_STALE);
	assert_status(q_region_release(f->table, &d), Q_ERR_STALE);
	assert_status(q_region_retire(f->table, region), Q_ERR_STALE);
}

static void a_region_nobody_describes_is_freed_at_once(void **state)
{
	struct fixture *f = *state;
	RegionHandle region = add(f, Q_REGION_SLAB);

	assert_status(q_region_retire(NULL, region), Q_ERR_INVALID_ARG);
	assert_status(q_region_retire(f->table, region), Q_OK);
	assert_true(is_gone(f->table, region));
	assert_status(q_region_retire(f->table, region), Q_ERR_STALE);
}

static void references_never_go_below_zero(void **state)
{
	struct fixture *f = *state;
	RegionHandle region = add(f, Q_REGION_IMMUTABLE);
	MessageDescriptor d = describe(region, 0, 1);

	assert_status(release(f->table, region), Q_ERR_INVALID_ARG);
	assert_says("no descriptor of region 0 is outstanding");
	gq__region_drop(f->table, &d);
	gq__region_drop(f->table, NULL);
	gq__region_drop(NULL, &d);
	assert_int_equal(info_of(f->table, region).references, 0);
	assert_status(acquire(f->table, d), Q_OK);
	assert_status(release(f->table, region), Q_OK);
	assert_status(release(f->table, region), Q_ERR_INVALID_ARG);
	assert_status(q_region_release(NULL, &d), Q_ERR_INVALID_ARG);
	assert_status(q_region_release(f->table, NULL), Q_ERR_INVALID_ARG);
}

static void a_drop_leaves_the_last_error_alone(void **state)
{
	struct fixture *f = *state;
	MessageDescriptor d = describe((RegionHandle){ 3, 9 }, 0, 1);

	assert_status(q_region_release(NULL, &d), Q_ERR_INVALID_ARG);
	gq__region_drop(f->table, &d);
	assert_says("table is NULL");
}

static void a_handle_is_stale_after_its_entry_is_used_again(void **state)
{
	struct fixture *f = *state;
	RegionTable *t = make_table(1);
	RegionHandle last = { 0 };

	for (int lap = 0; lap < 100; lap++) {
		RegionHandle region;

		assert_status(q_region_register(t, f->bytes, 8, Q_REGION_IMMUTABLE, &region), Q_OK);
		assert_int_equal(region.id, 0);
		assert_int_not_equal(region.generation, last.generation);
		assert_status(resolve(t, describe(region, 0, 8)), Q_OK);
		assert_status(resolve(t, describe(last, 0, 8)), Q_ERR_STALE);
		assert_status(acquire(t, describe(last, 0, 8)), Q_ERR_STALE);
		assert_status(q_region_retire(t, last), Q_ERR_STALE);
		last = region;
		assert_status(q_region_retire(t, region), Q_OK);
	}
	q_region_table_destroy(t);
}

static void generation_zero_is_skipped_when_generations_wrap(void **state)
{
	static _Alignas(128) uint8_t memory[128 + 64];
	struct gq_region_entry *entry = (void *)(memory + 128);
	struct fixture *f = *state;
	RegionHandle region;
	RegionTable *t;

	assert_status(q_region_table_create_in(1, memory, sizeof(memory), &t), Q_OK);
	entry->state = UINT64_C(0xfffffffe) << 32;
	assert_status(q_region_register(t, f->bytes, 8, Q_REGION_IMMUTABLE, &region), Q_OK);
	assert_int_equal(region.generation, UINT32_MAX);
	assert_status(q_region_retire(t, region), Q_OK);
	assert_status(q_region_register(t, f->bytes, 8, Q_REGION_IMMUTABLE, &region), Q_OK);
	assert_int_equal(region.generation, 1);
	q_region_table_destroy(t);
}

static void more_references_than_can_be_counted_are_refused(void **state)
{
	static _Alignas(128) uint8_t memory[128 + 64];
	struct gq_region_entry *entry = (void *)(memory + 128);
	struct fixture *f = *state;
	RegionHandle region;
	RegionTable *t;

	assert_status(q_region_table_create_in(1, memory, sizeof(memory), &t), Q_OK);
	assert_status(q_region_register(t, f->bytes, 8, Q_REGION_IMMUTABLE, &region), Q_OK);
	entry->state += (GQ_REGION_MAX_REFERENCES - 1) * GQ_REGION_REFERENCE;
	assert_status(acquire(t, describe(region, 0, 8)), Q_OK);
	assert_int_equal(info_of(t, region).references, GQ_REGION_MAX_REFERENCES);
	assert_status(acquire(t, describe(region, 0, 8)), Q_ERR_LIMIT);
	assert_says("268435455 descriptors");
	assert_int_equal(info_of(t, region).references, GQ_REGION_MAX_REFERENCES);
	assert_status(release(t, region), Q_OK);
	assert_status(acquire(t, describe(region, 0, 8)), Q_OK);
	q_region_table_destroy(t);
}

/* ---- memory that others can write ----------------------------------------------------------- */

static void rg_1_shared_memory_that_can_be_written_is_not_immutable(void **state)
{
	struct fixture *f = *state;
	void *anonymous =
		mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fd = make_memfd(65536), copy;
	void *shared = mmap(NULL, 65536, PROT_READ, MAP_SHARED, fd, 0);
	void *private = mmap(NULL, 65536, PROT_READ, MAP_PRIVATE, fd, 0);
	RegionHandle region;

#define TRY(base, status)                                                                          \
	assert_status(q_region_register(f->table, base, 65536, Q_REGION_IMMUTABLE, &region), status)
	TRY(anonymous, Q_ERR_POLICY);
	assert_says("no descriptor of it open");
	TRY(shared, Q_ERR_POLICY);
	assert_says("it is not sealed");
	TRY(private, Q_ERR_POLICY); /* shows what others write to the file */
	munmap(shared, 65536); /* may be written later, so it stands in the seal's way before 6.7 */
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	TRY(private, Q_ERR_POLICY); /* can still be cut, and grown again with zeros */
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	TRY(private, Q_OK);
	assert_status(q_region_retire(f->table, region), Q_OK);
	copy = open("/proc/self/fd", O_RDONLY); /* a descriptor of something else in its place */
	close(fd);
	TRY(private, Q_ERR_POLICY);
	close(copy);
#undef TRY
	/* Nobody is promised anything about these. */
	assert_status(q_region_register(f->table, anonymous, 65536, Q_REGION_APPEND_ONLY, &region),
		      Q_OK);
	assert_status(q_region_register(f->table, anonymous, 65536, Q_REGION_SLAB, &region), Q_OK);
	munmap(private, 65536);
	munmap(anonymous, 65536);
}

static void a_sealed_memfd_mapped_shared_is_immutable(void **state)
{
	struct fixture *f = *state;
	int fd = make_memfd(8192);
	RegionHandle region;
	char path[64];
	void *shared;
	int reader;

	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK), 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reader = open(path, O_RDONLY);
	assert_true(reader >= 0);
	shared = mmap(NULL, 8192, PROT_READ, MAP_SHARED, reader, 0);
	assert_ptr_not_equal(shared, MAP_FAILED);
	assert_status(q_region_register(f->table, shared, 8192, Q_REGION_IMMUTABLE, &region), Q_OK);
	close(fd);
	close(reader);
	munmap(shared, 8192);
}

static void a_range_that_is_shared_only_at_its_end_is_found_out(void **state)
{
	struct fixture *f = *state;
	uint8_t *base =
		mmap(NULL, 3 * 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	RegionHandle region;

	mmap(base + 2 * 65536, 65536, PROT_READ | PROT_WRITE,
	     MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	assert_status(q_region_register(f->table, base, 2 * 65536, Q_REGION_IMMUTABLE, &region),
		      Q_OK);
	assert_status(q_region_register(f->table, base, 2 * 65536 + 1, Q_REGION_IMMUTABLE, &region),
		      Q_ERR_POLICY);
	assert_status(
		q_region_register(f->table, base + 1, 3 * 65536 - 1, Q_REGION_IMMUTABLE, &region),
		Q_ERR_POLICY);
	munmap(base, 3 * 65536);
}

/* A file of a file system, not a memfd. */
static int make_file(size_t size)
{
	int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	return fd;
}

static void a_private_mapping_of_any_file_is_not_immutable(void **state)
{
	struct fixture *f = *state;
	int fds[] = { make_file(65536), make_memfd(65536), open("/proc/self/exe", O_RDONLY) };
	RegionHandle region;

	for (int i = 0; i < 3; i++) {
		void *base = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fds[i], 0);
		void *written = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fds[i], 0);

		assert_ptr_not_equal(base, MAP_FAILED);
		assert_ptr_not_equal(written, MAP_FAILED);
		*(volatile uint8_t *)written =
			1; /* this page is our own: the kernel does not say */
		assert_status(q_region_register(f->table, base, 100, Q_REGION_IMMUTABLE, &region),
			      Q_ERR_POLICY);
		assert_says(i == 1 ? "a private mapping of a memfd"
				   : "a private mapping of a file");
		assert_says("it is not sealed");
		assert_status(
			q_region_register(f->table, written, 100, Q_REGION_IMMUTABLE, &region),
			Q_ERR_POLICY);
		close(fds[i]);
		assert_status(q_region_register(f->table, base, 100, Q_REGION_IMMUTABLE, &region),
			      Q_ERR_POLICY);
		assert_says("no descriptor of it open");
		munmap(base, 4096);
		munmap(written, 4096);
	}
}

static const char constant[64] = "in the program's file, which is loaded";
static char initialised[64] = "in the program's file, and writable";

static void the_programs_own_data_is_private_memory(void **state)
{
	struct fixture *f = *state;
	int zero = open("/dev/zero", O_RDWR | O_CLOEXEC);
	void *zeros = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero, 0);
	void *bases[] = { (void *)(uintptr_t)constant, initialised, zeros, f->bytes };
	RegionHandle region;

	for (int i = 0; i < 4; i++)
		assert_status(
			q_region_register(f->table, bases[i], 64, Q_REGION_IMMUTABLE, &region),
			Q_OK);
	munmap(zeros, 4096);
	close(zero);
}

/* ---- memfds of the table's own -------------------------------------------------------------- */

static void rg_1_an_immutable_memfd_is_sealed_by_the_kernel(void **state)
{
	struct fixture *f = *state;
	int fd = make_memfd(10000);
	const void *bytes;
	RegionHandle region;
	MessageDescriptor d;

	assert_int_equal(pwrite(fd, "data", 4, 9996), 4);
	assert_status(q_region_register_fd(f->table, fd, Q_REGION_IMMUTABLE, &region), Q_OK);
	assert_int_equal(info_of(f->table, region).size, 10000);
	assert_int_equal(fcntl(fd, F_GET_SEALS) & (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW),
			 F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
	assert_int_equal(pwrite(fd, "x", 1, 0), -1);
	assert_int_equal(ftruncate(fd, 1), -1);
	assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
	close(fd); /* the caller's; the mapping stays */
	d = describe(region, 9996, 4);
	assert_status(q_region_resolve(f->table, &d, &bytes), Q_OK);
	assert_memory_equal(bytes, "data", 4);
	assert_true(mapped_from_memfd(bytes));
	assert_status(acquire(f->table, d), Q_OK);
	assert_status(q_region_retire(f->table, region), Q_OK);
	assert_true(mapped_from_memfd(bytes));
	assert_status(q_region_release(f->table, &d), Q_OK);
	assert_false(mapped_from_memfd(bytes));
}

static void an_append_only_memfd_keeps_its_size(void **state)
{
	struct fixture *f = *state;
	int fd = make_memfd(4096);
	RegionHandle region;
	uint64_t at;
	char back[4];

	assert_status(q_region_register_fd(f->table, fd, Q_REGION_APPEND_ONLY, &region), Q_OK);
	assert_int_equal(ftruncate(fd, 1), -1);
	assert_int_equal(ftruncate(fd, 8192), -1);
	assert_status(q_region_append(f->table, region, "abcd", 4, &at), Q_OK);
	assert_int_equal(pread(fd, back, 4, 0), 4); /* in the file, not in a copy */
	assert_memory_equal(back, "abcd", 4);
	close(fd);
}

static void rg_1_a_memfd_that_cannot_be_sealed_is_refused_with_the_reason(void **state)
{
	struct fixture *f = *state;
	int fd = make_memfd(4096), closed = make_memfd(1), pipes[2];
	void *writable = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned files;
	RegionHandle region;

#define REFUSE(fd, policy, status, text)                                                           \
	do {                                                                                       \
		assert_status(q_region_register_fd(f->table, fd, policy, &region), status);        \
		assert_says(text);                                                                 \
	} while (0)
	assert_status(q_region_register_fd(NULL, fd, Q_REGION_SLAB, &region), Q_ERR_INVALID_ARG);
	assert_status(q_region_register_fd(f->table, fd, Q_REGION_SLAB, NULL), Q_ERR_INVALID_ARG);
	REFUSE(fd, (RegionPolicy)7, Q_ERR_INVALID_ARG, "policy is 7");
	REFUSE(-1, Q_REGION_IMMUTABLE, Q_ERR_INVALID_ARG, "fd is -1: Bad file descriptor");
	REFUSE(fd, Q_REGION_IMMUTABLE, Q_ERR_POLICY, "somebody has it mapped writable");
	munmap(writable, 4096);
	close(closed);
	closed = memfd_create("region", MFD_CLOEXEC);
	REFUSE(closed, Q_REGION_IMMUTABLE, Q_ERR_INVALID_ARG, "the file is empty");
	assert_int_equal(ftruncate(closed, 10), 0);
	REFUSE(closed, Q_REGION_IMMUTABLE, Q_ERR_POLICY, "sealed against further seals");
	close(closed);
	closed = open("/proc/self/exe", O_RDONLY);
	REFUSE(closed, Q_REGION_IMMUTABLE, Q_ERR_POLICY, "not a memfd");
	close(closed);
	assert_int_equal(pipe(pipes), 0);
	REFUSE(pipes[0], Q_REGION_IMMUTABLE, Q_ERR_POLICY, "not a memfd");
	close(pipes[0]);
	close(pipes[1]);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	REFUSE(fd, Q_REGION_APPEND_ONLY, Q_ERR_POLICY, "could not be mapped for writing");
	files = files_now();
	gq__fault_set(1); /* out of memory: at the addresses that the call before has given back */
	REFUSE(fd, Q_REGION_IMMUTABLE, Q_OK, "");
	for (unsigned n = 1; n <= 3; n++) { /* the range, its addresses, the file there */
		gq__fault_set(n);
		REFUSE(fd, Q_REGION_IMMUTABLE, Q_ERR_NO_MEMORY, "");
		gq__fault_set(0);
	}
	REFUSE(fd, Q_REGION_IMMUTABLE, Q_OK, "");
	assert_int_equal(files_now(), files);
#undef REFUSE
	close(fd);
}

static void a_full_table_seals_nothing(void **state)
{
	struct fixture *f = *state;
	int fd = make_memfd(4096);
	RegionHandle region;

	for (int i = 0; i < 4; i++)
		add(f, Q_REGION_SLAB);
	assert_status(q_region_register_fd(f->table, fd, Q_REGION_IMMUTABLE, &region), Q_ERR_LIMIT);
	assert_int_equal(fcntl(fd, F_GET_SEALS), 0);
	close(fd);
}

static void the_bytes_of_a_freed_memfd_are_given_back_at_once(void **state)
{
	RegionTable *t = make_table(2);
	const void *first = NULL;

	(void)state;
	for (int i = 0; i < 50; i++) {
		int fd = make_memfd(65536);
		RegionHandle region;
		MessageDescriptor d;
		const void *bytes;

		assert_status(q_region_register_fd(t, fd, Q_REGION_IMMUTABLE, &region), Q_OK);
		close(fd);
		d = describe(region, 0, 1);
		assert_status(q_region_resolve(t, &d, &bytes), Q_OK);
		assert_true(mapped_from_memfd(bytes));
		if (i == 0)
			first = bytes;
		assert_status(q_region_retire(t, region), Q_OK);
		assert_false(mapped_from_memfd(bytes));
	}
	assert_false(mapped_from_memfd(first));
	q_region_table_destroy(t);
}

/* ---- several processes ---------------------------------------------------------------------- */

static void forked_processes_share_references(void **state)
{
	struct fixture *f = *state;
	RegionHandle region = add(f, Q_REGION_IMMUTABLE), theirs = { 1, 1 };
	MessageDescriptor d = describe(region, 10, 10);
	const void *bytes;

	assert_status(acquire(f->table, d), Q_OK);
	in_child({
		RegionHandle mine;

		need(acquire(f->table, d) == Q_OK);
		need(q_region_resolve(f->table, &d, &bytes) == Q_OK);
		need(bytes == f->bytes + 10);
		need(q_region_release(f->table, &d) == Q_OK);
		need(acquire(f->table, d) == Q_OK);
		need(q_region_register(f->table, f->bytes, 5, Q_REGION_IMMUTABLE, &mine) == Q_OK);
		need(mine.id == theirs.id && mine.generation == theirs.generation);
		q_region_table_destroy(f->table); /* the child's copy of the handle */
	});
	assert_int_equal(info_of(f->table, region).references, 2);
	assert_int_equal(info_of(f->table, theirs).size, 5);
	d.region = theirs; /* registered by the child, where it lies is unknown here */
	d.offset = 0;
	d.length = 5;
	assert_status(q_region_resolve(f->table, &d, &bytes), Q_ERR_UNSUPPORTED);
	assert_says("is not mapped in this process: q_region_map()");
	assert_status(acquire(f->table, d), Q_ERR_UNSUPPORTED);
	assert_int_equal(info_of(f->table, theirs).references, 0);
	assert_status(gq__region_acquire(f->table, &d, NULL),
		      Q_OK); /* a sender need not see them */
	d.length = 6;
	assert_status(gq__region_acquire(f->table, &d, NULL), Q_ERR_INVALID_ARG);
	assert_status(q_region_map(f->table, theirs, f->bytes, 5), Q_OK);
	d.length = 5;
	assert_status(q_region_resolve(f->table, &d, &bytes), Q_OK);
	assert_ptr_equal(bytes, f->bytes);
}

static void a_child_frees_what_the_parent_retired(void **state)
{
	struct fixture *f = *state;
	int fd = make_memfd(4096);
	MessageDescriptor d;
	RegionHandle region;
	const void *bytes;

	assert_status(q_region_register_fd(f->table, fd, Q_REGION_IMMUTABLE, &region), Q_OK);
	close(fd);
	d = describe(region, 0, 1);
	assert_status(gq__region_acquire(f->table, &d, &bytes), Q_OK);
	assert_status(q_region_retire(f->table, region), Q_OK);
	in_child({
		need(mapped_from_memfd(bytes));
		need(q_region_release(f->table, &d) == Q_OK);
		need(is_gone(f->table, region));
		need(!mapped_from_memfd(bytes));
	});
	assert_true(mapped_from_memfd(bytes)); /* this process has not noticed yet */
	assert_status(resolve(f->table, d), Q_ERR_STALE);
	assert_false(mapped_from_memfd(bytes));
}

static void a_child_does_not_take_its_copy_for_what_the_parent_appends(void **state)
{
	struct fixture *f = *state;
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	RegionHandle private = add(f, Q_REGION_APPEND_ONLY), shared;
	uint64_t at;

	assert_status(q_region_register(f->table, memory, 4096, Q_REGION_APPEND_ONLY, &shared),
		      Q_OK);
	assert_status(q_region_append(f->table, private, "ab", 2, &at), Q_OK);
	assert_status(q_region_append(f->table, shared, "ab", 2, &at), Q_OK);
	in_child({
		need(resolve(f->table, describe(private, 0, 2)) == Q_ERR_UNSUPPORTED);
		need(q_region_append(f->table, private, "cd", 2, &at) == Q_ERR_UNSUPPORTED);
		need(resolve(f->table, describe(shared, 0, 2)) == Q_OK);
		need(q_region_append(f->table, shared, "cd", 2, &at) == Q_ERR_UNSUPPORTED);
	});
	assert_status(resolve(f->table, describe(private, 0, 2)), Q_OK);
	assert_status(q_region_append(f->table, shared, "cd", 2, &at), Q_OK);
	assert_status(resolve(f->table, describe(shared, 0, 4)), Q_OK);
	assert_memory_equal(memory, "abcd", 4);
	munmap(memory, 4096);
}

/* Two handles of one table are two processes as far as the table can tell. */
static void an_attached_table_maps_regions_for_itself(void **state)
{
	static _Alignas(128) uint8_t memory[128 + 4 * 64];
	struct fixture *f = *state;
	uint8_t *elsewhere = malloc(SHORT);
	RegionHandle fixed, growing;
	RegionTable *a, *b;
	uint64_t at;

	assert_status(q_region_table_create_in(4, memory, sizeof(memory), &a), Q_OK);
	assert_status(q_region_table_attach(memory, sizeof(memory), &b), Q_OK);
	assert_status(q_region_register(a, f->bytes, SHORT, Q_REGION_IMMUTABLE, &fixed), Q_OK);
	assert_status(q_region_register(a, f->bytes, SHORT, Q_REGION_APPEND_ONLY, &growing), Q_OK);
	assert_status(resolve(b, describe(fixed, 0, 1)), Q_ERR_UNSUPPORTED);

	assert_status(q_region_map(NULL, fixed, elsewhere, 1), Q_ERR_INVALID_ARG);
	assert_status(q_region_map(b, fixed, NULL, 1), Q_ERR_INVALID_ARG);
	assert_status(q_region_map(b, fixed, elsewhere, 0), Q_ERR_INVALID_ARG);
	assert_status(q_region_map(b, fixed, elsewhere, UINT64_MAX), Q_ERR_INVALID_ARG);
	assert_status(q_region_map(b, (RegionHandle){ 9, 1 }, elsewhere, 1), Q_ERR_STALE);
	assert_status(q_region_map(b, fixed, elsewhere, 600), Q_OK);
	assert_status(q_region_map(b, fixed, elsewhere, 600), Q_OK);
	assert_status(q_region_map(b, fixed, elsewhere, 601), Q_ERR_INVALID_ARG);
	assert_says("mapped in this process already");
	assert_status(q_region_map(a, fixed, elsewhere, SHORT), Q_ERR_INVALID_ARG);

	/* A descriptor that is right for the region must also lie in what is mapped here. */
	assert_status(acquire(a, describe(fixed, 500, 101)), Q_OK);
	assert_status(resolve(b, describe(fixed, 500, 101)), Q_ERR_INVALID_ARG);
	assert_says("end beyond what is mapped in this process, 600");
	assert_status(acquire(b, describe(fixed, 500, 100)), Q_OK);
	assert_int_equal(info_of(a, fixed).references, 2);

	assert_status(q_region_map(b, growing, f->bytes, SHORT), Q_OK);
	assert_status(q_region_append(b, growing, "x", 1, &at), Q_ERR_UNSUPPORTED);
	assert_says("not registered by this process");
	assert_status(q_region_append(a, growing, "x", 1, &at), Q_OK);
	assert_status(resolve(b, describe(growing, 0, 1)), Q_OK);
	assert_status(resolve(b, describe(growing, 0, 2)), Q_ERR_INVALID_ARG);

	/* Retired regions can still be mapped, for the descriptors that are on their way. */
	assert_status(acquire(a, describe(growing, 0, 1)), Q_OK);
	assert_status(q_region_retire(b, growing), Q_OK);
	q_region_table_destroy(b);
	assert_status(q_region_table_attach(memory, sizeof(memory), &b), Q_OK);
	assert_status(q_region_map(b, growing, f->bytes, SHORT), Q_OK);
	assert_status(resolve(b, describe(growing, 0, 1)), Q_OK);
	assert_status(release(b, growing), Q_OK);
	assert_true(is_gone(a, growing));
	q_region_table_destroy(a);
	q_region_table_destroy(b);
	free(elsewhere);
}

/* ---- peers that lie ------------------------------------------------------------------------- */

static void a_cursor_or_size_that_lies_leads_nowhere(void **state)
{
	static _Alignas(128) uint8_t memory[128 + 4 * 64];
	struct gq_region_entry *entry = (void *)(memory + 128);
	struct fixture *f = *state;
	RegionHandle region;
	RegionTable *t;
	RegionInfo info;
	uint64_t at;

	assert_status(q_region_table_create_in(4, memory, sizeof(memory), &t), Q_OK);
	assert_status(q_region_register(t, f->bytes, SHORT, Q_REGION_APPEND_ONLY, &region), Q_OK);
	entry->size = UINT64_MAX;
	entry->cursor = UINT64_MAX;
	assert_status(resolve(t, describe(region, 0, SHORT + 1)), Q_ERR_INVALID_ARG);
	assert_says("what is mapped in this process, 1000");
	assert_status(resolve(t, describe(region, SHORT, 1)), Q_ERR_INVALID_ARG);
	assert_status(q_region_append(t, region, "x", 1, &at), Q_ERR_FAILED);
	assert_says("damaged: a cursor is 18446744073709551615");
	entry->cursor = SHORT;
	assert_status(q_region_append(t, region, "x", 1, &at), Q_ERR_FULL);
	entry->cursor = 5;
	entry->size = 2;
	assert_int_equal(info_of(t, region).cursor, 2);
	assert_status(resolve(t, describe(region, 0, 3)), Q_ERR_INVALID_ARG);
	entry->state |= UINT64_C(3) << GQ_REGION_POLICY_SHIFT;
	assert_status(resolve(t, describe(region, 0, 1)), Q_ERR_FAILED);
	assert_status(acquire(t, describe(region, 0, 1)), Q_ERR_FAILED);
	assert_status(q_region_info(t, region, &info), Q_ERR_FAILED);
	assert_says("damaged: a policy is 3");
	/* What was registered for reading does not become writable by a word. */
	assert_status(q_region_register(t, "constant", 8, Q_REGION_IMMUTABLE, &region), Q_OK);
	entry[1].state ^= (uint64_t)(Q_REGION_IMMUTABLE ^ Q_REGION_APPEND_ONLY)
			  << GQ_REGION_POLICY_SHIFT;
	assert_status(q_region_append(t, region, "x", 1, &at), Q_ERR_UNSUPPORTED);
	q_region_table_destroy(t);
}

static void a_region_freed_by_a_lie_does_not_fault_who_reads_it(void **state)
{
	static _Alignas(128) uint8_t memory[128 + 4 * 64];
	struct gq_region_entry *entry = (void *)(memory + 128);
	int fd = make_memfd(65536);
	const uint8_t *bytes;
	RegionHandle region;
	MessageDescriptor d;
	RegionTable *t;

	(void)state;
	assert_int_equal(pwrite(fd, "x", 1, 60000), 1);
	assert_status(q_region_table_create_in(4, memory, sizeof(memory), &t), Q_OK);
	assert_status(q_region_register_fd(t, fd, Q_REGION_IMMUTABLE, &region), Q_OK);
	close(fd);
	d = describe(region, 0, 65536);
	assert_status(gq__region_acquire(t, &d, (const void **)&bytes), Q_OK);
	assert_int_equal(bytes[60000], 'x');
	entry->state = 0;
	assert_status(resolve(t, d), Q_ERR_STALE);
	assert_int_equal(bytes[60000], 0);
	q_region_table_destroy(t);
}

/* Whatever the state says, however often its entry is used again, whoever reads does not fault. */
static void rg_7_no_lie_about_a_state_makes_a_reader_fault(void **state)
{
	static _Alignas(128) uint8_t memory[128 + 2 * 64];
	struct gq_region_entry *entry = (void *)(memory + 128);
	static const uint64_t lies[] = { 0, UINT64_C(7) << 32, UINT64_MAX, 1 };
	const uint8_t *bytes[8];
	RegionTable *t;

	(void)state;
	assert_status(q_region_table_create_in(2, memory, sizeof(memory), &t), Q_OK);
	for (int i = 0; i < 8; i++) {
		const size_t size = (size_t)65536 << i % 3;
		RegionHandle region;
		MessageDescriptor d;
		int fd = make_memfd(size);

		for (int k = 0; k < 2; k++) /* whatever the last lie was */
			entry[k].state &= ~GQ_REGION_PHASE_MASK;
		assert_int_equal(pwrite(fd, "x", 1, 60000), 1);
		assert_status(q_region_register_fd(
				      t, fd, i % 2 != 0 ? Q_REGION_APPEND_ONLY : Q_REGION_IMMUTABLE,
				      &region),
			      Q_OK);
		close(fd);
		if (i % 2 != 0) {
			uint64_t at;

			assert_status(q_region_append(t, region, "y", 1, &at), Q_OK);
		}
		d = describe(region, 0, 1);
		assert_status(gq__region_acquire(t, &d, (const void **)&bytes[i]), Q_OK);
		entry[region.id].state = lies[i % 4];
		if (i % 3 == 0)
			assert_status(resolve(t, d), Q_ERR_STALE); /* notices */
		for (int k = 0; k <= i; k++) { /* all who have ever been told where to read */
			assert_true(bytes[k][0] <= 'y');
			assert_true(bytes[k][60000] == 'x' || bytes[k][60000] == 0);
		}
	}
	for (int k = 0; k < 2; k++) /* also if its addresses are given to the caller's memory */
		entry[k].state &= ~GQ_REGION_PHASE_MASK;
	for (int k = 0; k < 2; k++) {
		RegionHandle region;
		uint8_t *mine = malloc(SHORT);

		assert_status(q_region_register(t, mine, SHORT, Q_REGION_IMMUTABLE, &region), Q_OK);
		for (int i = 0; i < 8; i++)
			assert_true(bytes[i][60000] == 'x' || bytes[i][60000] == 0);
		free(mine);
	}
	q_region_table_destroy(t);
}

/* What is reserved does not grow with what was ever registered. */
static void addresses_are_used_again_when_very_many_are_spare(void **state)
{
	RegionTable *t = make_table(1);
	const void *first = NULL;
	int same = 0;

	(void)state;
	for (int i = 0; i < 3000; i++) {
		int fd = make_memfd(4096);
		RegionHandle region;
		MessageDescriptor d;
		const void *bytes;

		assert_status(q_region_register_fd(t, fd, Q_REGION_IMMUTABLE, &region), Q_OK);
		close(fd);
		d = describe(region, 0, 1);
		assert_status(q_region_resolve(t, &d, &bytes), Q_OK);
		assert_int_equal(*(const uint8_t *)bytes, 0);
		if (i == 0)
			first = bytes;
		else if (bytes == first)
			same++;
		assert_status(q_region_retire(t, region), Q_OK);
	}
	assert_int_equal(same, 2); /* 1024 others come between */
	q_region_table_destroy(t);
}

/* A peer that comes between every look at a state and the swap that follows it. */
static uint64_t *flapping;
static uint32_t flapped;

#if defined(GPUQ_CHAOS)
static void flap(void)
{
	*flapping += GQ_REGION_REFERENCE;
	flapped++;
}
#endif

static void a_state_that_never_stands_still_ends_every_call(void **state)
{
	static _Alignas(128) uint8_t memory[128 + 64];
	struct gq_region_entry *entry = (void *)(memory + 128);
	struct fixture *f = *state;
	RegionHandle region;
	MessageDescriptor d;
	RegionTable *t;
	uint64_t at;

#define EXPECT_ENDED(call)                                                                         \
	do {                                                                                       \
		flapped = 0;                                                                       \
		assert_status(call, Q_ERR_NOT_READY);                                              \
		assert_says("try again");                                                          \
		assert_int_equal(flapped, 65536);                                                  \
	} while (0)
	assert_status(q_region_table_create_in(1, memory, sizeof(memory), &t), Q_OK);
	assert_status(q_region_register(t, f->bytes, SHORT, Q_REGION_APPEND_ONLY, &region), Q_OK);
	assert_status(q_region_append(t, region, "xyz", 3, &at), Q_OK);
	d = describe(region, 0, 1);
	assert_status(gq__region_acquire(t, &d, NULL), Q_OK);
	flapping = &entry->state;
#if defined(GPUQ_CHAOS)
	gq__in_window = flap;
	EXPECT_ENDED(gq__region_acquire(t, &d, NULL));
	EXPECT_ENDED(q_region_append(t, region, "x", 1, &at));
	EXPECT_ENDED(q_region_release(t, &d));
	EXPECT_ENDED(q_region_retire(t, region));
	gq__in_window = NULL;
#endif
	assert_status(q_region_append(t, region, "x", 1, &at), Q_OK); /* then all is well again */
	assert_int_equal(at, 3);
	assert_status(q_region_release(t, &d), Q_OK);
#undef EXPECT_ENDED
	q_region_table_destroy(t);
	if (flapped == 0)
		skip(); /* the windows are there with GPUQ_CHAOS */
}

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13; /* xorshift64, Marsaglia 2003 */
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void random_bytes_over_a_table_crash_nobody(void **state)
{
	enum { REGIONS = 4, TABLE = 128 + REGIONS * 64 };
	const int rounds = getenv("GPUQ_TEST_SHORT") != NULL ? 10000 : 100000;
	uint8_t *table = aligned_alloc(128, TABLE), good[TABLE];
	struct fixture *f = *state;
	RegionHandle region[REGIONS] = { { 0 } };
	RegionTable *t, *u;
	uint64_t x = 0x9e3779b97f4a7c15, seen = 0;

	assert_status(q_region_table_create_in(REGIONS, table, TABLE, &t), Q_OK);
	for (int i = 0; i < 3; i++)
		assert_status(
			q_region_register(t, f->bytes, SHORT, (RegionPolicy)(i % 2), &region[i]),
			Q_OK);
	region[3] = (RegionHandle){ 3, 1 };
	memcpy(good, table, TABLE);
	for (int round = 0; round < rounds; round++) {
		const uint32_t which = (uint32_t)next_random(&x) % REGIONS;
		MessageDescriptor d = describe(region[which], next_random(&x) % (2 * SHORT),
					       (uint32_t)next_random(&x) % (2 * SHORT));
		RegionHandle fresh;
		const void *bytes;
		RegionInfo info;
		uint64_t at;

		if (next_random(&x) % 8 == 0)
			memcpy(table, good, TABLE);
		/* A byte, or a word, anywhere; mostly in the entries. */
		if (next_random(&x) % 2 == 0)
			table[next_random(&x) % TABLE] = (uint8_t)next_random(&x);
		else
			memcpy(table + 8 * (next_random(&x) % (TABLE / 8)), &x, 8);
		if (next_random(&x) % 4 == 0)
			d.region.generation = (uint32_t)(next_random(&x) % 3);
		switch (next_random(&x) % 10) {
		case 0:
			if (round % 16 == 0) /* it walks /proc */
				q_region_register(t, f->bytes, SHORT, Q_REGION_SLAB, &fresh);
			break;
		case 1:
			q_region_append(t, d.region, good, d.length % 16, &at);
			break;
		case 2:
			q_region_info(t, d.region, &info);
			break;
		case 3:
			q_region_retire(t, d.region);
			break;
		case 4:
			q_region_release(t, &d);
			break;
		case 5:
			q_region_map(t, d.region, f->bytes, SHORT);
			break;
		case 6:
			if (q_region_table_attach(table, TABLE, &u) == Q_OK)
				q_region_table_destroy(u);
			break;
		case 7:
			gq__region_acquire(t, &d, NULL);
			break;
		default:
			if (gq__region_acquire(t, &d, &bytes) != Q_OK &&
			    q_region_resolve(t, &d, &bytes) != Q_OK)
				break;
			/* In the region, and ASan sees to it that all of it can be read. */
			assert_true((const uint8_t *)bytes >= f->bytes);
			assert_true((const uint8_t *)bytes + d.length <= f->bytes + SHORT);
			for (uint32_t i = 0; i < d.length; i++)
				seen += ((const uint8_t *)bytes)[i];
		}
	}
	assert_true(seen != 0); /* else nothing was ever accepted */
	memcpy(table, good, TABLE);
	q_region_table_destroy(t);
	free(table);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_table_holds_exactly_max_regions),
		TEST(a_wrong_table_is_refused_by_name),
		TEST(a_table_is_made_in_memory_of_any_content),
		TEST(attach_checks_all_it_reads),
		TEST(tables_survive_every_failing_resource),
		TEST(a_descriptor_is_24_bytes_of_fixed_layout),
		TEST(a_descriptor_resolves_to_the_bytes_in_place),
		TEST(rg_3_a_descriptor_must_end_within_the_region),
		TEST(what_is_wrong_is_checked_in_a_fixed_order),
		TEST(resolve_checks_as_acceptance_does),
		TEST(a_zeroed_handle_is_never_valid),
		TEST(wrong_registrations_are_refused_by_name),
		TEST(registering_immutable_needs_proc_and_says_so),
		TEST(only_what_has_been_appended_may_be_described),
		TEST(append_fills_to_the_last_byte_and_refuses_the_next),
		TEST(wrong_appends_are_refused_by_name),
		TEST(info_says_what_a_region_is),
		TEST(rg_4_a_region_retired_while_described_lives_until_the_last_release),
		TEST(a_region_nobody_describes_is_freed_at_once),
		TEST(references_never_go_below_zero),
		TEST(a_drop_leaves_the_last_error_alone),
		TEST(a_handle_is_stale_after_its_entry_is_used_again),
		TEST(generation_zero_is_skipped_when_generations_wrap),
		TEST(more_references_than_can_be_counted_are_refused),
		TEST(rg_1_shared_memory_that_can_be_written_is_not_immutable),
		TEST(a_sealed_memfd_mapped_shared_is_immutable),
		TEST(a_range_that_is_shared_only_at_its_end_is_found_out),
		TEST(a_private_mapping_of_any_file_is_not_immutable),
		TEST(the_programs_own_data_is_private_memory),
		TEST(rg_1_an_immutable_memfd_is_sealed_by_the_kernel),
		TEST(an_append_only_memfd_keeps_its_size),
		TEST(rg_1_a_memfd_that_cannot_be_sealed_is_refused_with_the_reason),
		TEST(a_full_table_seals_nothing),
		TEST(the_bytes_of_a_freed_memfd_are_given_back_at_once),
		TEST(forked_processes_share_references),
		TEST(a_child_frees_what_the_parent_retired),
		TEST(a_child_does_not_take_its_copy_for_what_the_parent_appends),
		TEST(an_attached_table_maps_regions_for_itself),
		TEST(a_cursor_or_size_that_lies_leads_nowhere),
		TEST(a_region_freed_by_a_lie_does_not_fault_who_reads_it),
		TEST(rg_7_no_lie_about_a_state_makes_a_reader_fault),
		TEST(addresses_are_used_again_when_very_many_are_spare),
		TEST(a_state_that_never_stands_still_ends_every_call),
		TEST(random_bytes_over_a_table_crash_nobody),
	};

	return cmocka_run_group_tests_name("unit.region", tests, NULL, NULL);
}
