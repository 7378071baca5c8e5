/* SPDX-License-Identifier: Apache-2.0 */
/* write.c - making a page, and writing its sections. */
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

/* ---- the file -------------------------------------------------------------------------------- */

/* The file under a name of its own, so that whoever opens the page finds it whole and locked. */
static int make_file(const char *name, uint32_t mode)
{
	int fd;

	unlink(name);
	fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0 && fchmod(fd, mode) == 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		return fd;
	if (fd >= 0) {
		const int error = errno;

		close(fd);
		unlink(name);
		errno = error;
	}
	return -1;
}

/* All of it is there before anybody writes: a full disk cannot end gpuqd later. */
static bool fill(struct page *p)
{
	struct page_head *head;
	int rc;

	p->bytes = page_bytes();
	do
		rc = posix_fallocate(p->fd, 0, (off_t)p->bytes);
	while (rc == EINTR);
	errno = rc;
	if (rc != 0)
		return false;
	p->at = mmap(NULL, p->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
	if (p->at == MAP_FAILED) {
		p->at = NULL;
		return false;
	}
	head = (struct page_head *)(void *)p->at;
	head->magic = PAGE_MAGIC;
	head->version = PAGE_VERSION;
	head->bytes = p->bytes;
	return true;
}

static bool is_free(const char *path)
{
	struct stat st;

	if (lstat(path, &st) != 0 || S_ISREG(st.st_mode))
		return true; /* rename() says what else is wrong */
	errno = EEXIST;
	return false;
}

/* Under its names from now on, the second first: then the file's own name is gone. */
static bool show(struct page *p, const char *made, const char *path, const char *also)
{
	char other[300];

	if (also != NULL) {
		snprintf(other, sizeof(other), "%s.new", also);
		unlink(other);
		if (!is_free(also) || link(made, other) != 0)
			return false;
		if (rename(other, also) != 0) {
			unlink(other);
			return false;
		}
		snprintf(p->path[1], sizeof(p->path[1]), "%s", also);
	}
	if (!is_free(path) || rename(made, path) != 0)
		return false;
	snprintf(p->path[0], sizeof(p->path[0]), "%s", path);
	return true;
}

static bool make(struct page *p, const char *path, const char *also, uint32_t mode)
{
	char made[300];

	if (path == NULL) {
		p->fd = memfd_create("gpuqd-page", MFD_CLOEXEC);
		return p->fd >= 0 && fill(p);
	}
	if (strlen(path) >= sizeof(p->path[0]) ||
	    (also != NULL && strlen(also) >= sizeof(p->path[1]))) {
		errno = ENAMETOOLONG;
		return false;
	}
	snprintf(made, sizeof(made), "%s.new", path);
	p->fd = make_file(made, mode);
	if (p->fd < 0)
		return false;
	if (fill(p) && show(p, made, path, also))
		return true;
	mode = (uint32_t)errno;
	unlink(made);
	errno = (int)mode;
	return false;
}

struct page *page_create(const char *path, const char *also, uint32_t mode, char error[PAGE_ERROR])
{
	struct page *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		snprintf(error, PAGE_ERROR, "out of memory");
		return NULL;
	}
	p->fd = -1;
	if (make(p, path, also, mode))
		return p;
	snprintf(error, PAGE_ERROR, "the page of counts, %.200s: %s",
		 path != NULL ? path : "in memory", strerror(errno));
	page_destroy(p);
	return NULL;
}

/* A name is ours as long as it is that of our file: another gpuqd may have replaced it. */
static void remove_name(const struct page *p, const char *path)
{
	struct stat ours, there;

	if (path[0] != '\0' && fstat(p->fd, &ours) == 0 && lstat(path, &there) == 0 &&
	    ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
		unlink(path);
}

void page_destroy(struct page *p)
{
	if (p == NULL)
		return;
	remove_name(p, p->path[0]);
	remove_name(p, p->path[1]);
	page_close(p);
}

/* ---- a section ------------------------------------------------------------------------------- */

void page_write(struct page *p, enum page_section section, uint32_t index, const void *from)
{
	const size_t words = page_words(section);
	uint64_t *number = p != NULL ? page_section(p, section, index) : NULL;
	uint64_t *copy;
	uint64_t next;

	if (p == NULL)
		return;
	next = gq_load_relaxed_u64(number) + 1; /* nobody else writes it */
	copy = number + 1 + next % 2 * words;
	for (size_t i = 0; i < words; i++) {
		uint64_t word;

		memcpy(&word, (const uint8_t *)from + 8 * i, sizeof(word));
		/* [page.overwrite] release: that the number has left the version before this one's
		 * place, for a reader that still copies there. */
		gq_store_release_u64(&copy[i], word);
	}
	gq_store_release_u64(number, next); /* [page.publish] */
}

uint64_t page_versions(const struct page *p, enum page_section section, uint32_t index)
{
	return gq_load_acquire_u64(page_section(p, section, index)); /* [page.look] */
}
