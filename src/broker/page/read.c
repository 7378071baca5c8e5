/* SPDX-License-Identifier: Apache-2.0 */
/* read.c - reading a page, of a gpuqd that lives, hangs, or has died. */
#define _GNU_SOURCE
#include "layout.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TRIES = 1000 };

bool page_path_of(const char *socket, char *to, size_t room)
{
	const int n = snprintf(to, room, "%s.stats", socket);

	return n > 0 && (size_t)n < room;
}

/* @return NULL, or what is wrong with the file */
static const char *map(struct page *p)
{
	const struct page_head *head;
	struct stat st;

	if (fstat(p->fd, &st) != 0)
		return strerror(errno);
	if (!S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof(*head))
		return "is no page of gpuqd's counts";
	p->bytes = (size_t)st.st_size;
	p->at = mmap(NULL, p->bytes, PROT_READ, MAP_SHARED, p->fd, 0);
	if (p->at == MAP_FAILED) {
		p->at = NULL;
		return strerror(errno);
	}
	head = (const struct page_head *)(const void *)p->at;
	if (head->magic != PAGE_MAGIC)
		return "is no page of gpuqd's counts";
	if (head->version != PAGE_VERSION || head->bytes != p->bytes || p->bytes != page_bytes())
		return "is the page of another version of gpuqd";
	return NULL;
}

struct page *page_open(const char *path, char error[PAGE_ERROR])
{
	struct page *p = calloc(1, sizeof(*p));
	const char *why = "out of memory";

	if (p != NULL) {
		p->fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		why = p->fd >= 0 ? map(p) : strerror(errno);
		if (why == NULL)
			return p;
		page_close(p);
	}
	snprintf(error, PAGE_ERROR, "%.300s: %s", path, why);
	return NULL;
}

void page_close(struct page *p)
{
	if (p == NULL)
		return;
	if (p->at != NULL)
		munmap(p->at, p->bytes);
	if (p->fd >= 0)
		close(p->fd);
	free(p);
}

bool page_read(const struct page *p, enum page_section section, uint32_t index, void *to)
{
	const uint64_t *number = page_section(p, section, index);
	const size_t words = page_words(section);

	for (int i = 0; i < TRIES; i++) {
		const uint64_t before = gq_load_acquire_u64(number); /* [page.look] */
		const uint64_t *copy = number + 1 + before % 2 * words;

		if (before == 0)
			return false;
		for (size_t k = 0; k < words; k++) {
			/* [page.copy] acquire: one word of a later version shows its number */
			const uint64_t word = gq_load_acquire_u64(&copy[k]);

			memcpy((uint8_t *)to + 8 * k, &word, sizeof(word));
		}
		if (gq_load_relaxed_u64(number) == before)
			return true;
	}
	return false;
}

bool page_owner(const struct page *p, uint32_t *uid)
{
	struct stat st;

	if (fstat(p->fd, &st) != 0)
		return false;
	*uid = st.st_uid;
	return true;
}

bool page_is_kept(const struct page *p)
{
	/* Its maker has the lock until its end. */
	if (flock(p->fd, LOCK_SH | LOCK_NB) != 0)
		return errno == EWOULDBLOCK;
	flock(p->fd, LOCK_UN);
	return false;
}
