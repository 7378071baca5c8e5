/* SPDX-License-Identifier: Apache-2.0 */
/* layout.h - where the sections of a page lie; for the files of this room. */
#ifndef GPUQ_BROKER_PAGE_LAYOUT_H
#define GPUQ_BROKER_PAGE_LAYOUT_H

#include "page.h"

#include "device/protocol/atomics.h"
#include "device/protocol/layout.h"

/* "GPUQPAGE", as the bytes of a number. */
#define PAGE_MAGIC UINT64_C(0x4547415051555047)

struct page_head {
	uint64_t magic, version, bytes;
};

struct page {
	uint8_t *at;
	size_t bytes;
	int fd;
	char path[2][256]; /* of the file, if we made it */
};

static inline size_t page_words(enum page_section section)
{
	GQ_STATIC_ASSERT(
		sizeof(struct page_daemon) % 8 == 0 && sizeof(struct page_clients) % 8 == 0 &&
			sizeof(struct page_services) % 8 == 0 && sizeof(struct page_queue) % 8 == 0,
		"they are copied in words");
	GQ_STATIC_ASSERT(PAGE_VERSION == 10 && sizeof(struct page_daemon) == 1568 &&
				 sizeof(struct page_clients) == 26248 &&
				 sizeof(struct page_services) == 44104 &&
				 sizeof(struct page_queue) == 18448,
			 "who changes a section raises PAGE_VERSION, and the sizes here");
	switch (section) {
	case PAGE_DAEMON:
		return sizeof(struct page_daemon) / 8;
	case PAGE_CLIENTS_OF_QUEUES:
		return sizeof(struct page_clients) / 8;
	case PAGE_SERVICES_ALL:
		return sizeof(struct page_services) / 8;
	default:
		return sizeof(struct page_queue) / 8;
	}
}

/* The number and two copies, in whole cache lines. */
static inline size_t page_section_bytes(enum page_section section)
{
	return (8 * (1 + 2 * page_words(section)) + 63) / 64 * 64;
}

static inline size_t page_offset(enum page_section section, uint32_t index)
{
	size_t at = 64; /* the head */

	for (int i = PAGE_DAEMON; i < (int)section; i++)
		at += page_section_bytes((enum page_section)i);
	return at + index * page_section_bytes(section);
}

static inline size_t page_bytes(void)
{
	return page_offset(PAGE_QUEUE, PAGE_QUEUES);
}

static inline uint64_t *page_section(const struct page *p, enum page_section section,
				     uint32_t index)
{
	return (uint64_t *)(void *)(p->at + page_offset(section, index));
}

#endif /* GPUQ_BROKER_PAGE_LAYOUT_H */
