/* SPDX-License-Identifier: Apache-2.0 */
/* write.c - making a page, and writing its sections. */
#define _GNU_SOURCE
#include "layout.h"
#include "lock.h"

#include "memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

uint32_t lock_wait_ms = 2000;

/* ---- the file -------------------------------------------------------------------------------- */

enum { NAME = 300 };

/* The file under a name that nobody has, so that whoever opens the page finds it whole and locked.
 * @param made  room for the name
 */
static int make_file(const char *path, char made[NAME], uint32_t mode)
{
	int fd;

	snprintf(made, NAME, "%s.XXXXXX", path);
	fd = mkostemp(made, O_CLOEXEC);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fchmod(fd, mode) == 0)
		return fd;
	if (fd >= 0) {
		const int error = errno;

		close(fd);
		unlink(made);
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

/* @return whether a file may be replaced: it is a page that nobody keeps, or has nothing in it */
static bool is_left_behind(int fd)
{
	struct stat st;
	uint64_t magic = 0;

	errno = EEXIST;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		return false;
	if (st.st_size == 0)
		return true;
	if (pread(fd, &magic, sizeof(magic), 0) != (ssize_t)sizeof(magic) || magic != PAGE_MAGIC) {
		errno = EEXIST;
		return false;
	}
	if (lock_patiently(fd, LOCK_SH))
		return true;
	errno = errno == EWOULDBLOCK ? EBUSY : errno;
	return false;
}

/* Anything but a page that a gpuqd has left is somebody's. */
static bool is_free(const char *path)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK);
	bool is;
	int error;

	if (fd < 0)
		return errno == ENOENT;
	is = is_left_behind(fd);
	error = errno;
	close(fd);
	errno = error;
	return is;
}

/*
 * The right to put a page at a name: a lock, for as long as it takes to look what is there and to
 * replace it. Else two gpuqds of which neither has the lock of a socket, for a service manager has
 * handed them theirs, would both find an old page, and the second replace the first one's new page.
 * The file goes with the lock; whoever has got the lock of a file that has gone takes the next one.
 * @return -1 with errno
 */
static int lock_name(const char *path, char lock[NAME])
{
	const struct timespec nap = { .tv_nsec = 5000000 };

	snprintf(lock, NAME, "%s.lock", path);
	for (uint32_t ms = 0; ms <= lock_wait_ms; ms += 5) {
		const int fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		struct stat ours, there;

		if (fd < 0)
			return -1;
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &ours) == 0 &&
		    lstat(lock, &there) == 0 && ours.st_ino == there.st_ino &&
		    ours.st_dev == there.st_dev)
			return fd;
		close(fd);
		nanosleep(&nap, NULL);
	}
	errno = EBUSY;
	return -1;
}

static void unlock_name(int fd, const char *lock)
{
	const int error = errno;

	unlink(lock);
	close(fd);
	errno = error;
}

/* From the name that nobody has to this one, if what is there may be replaced. */
static bool put(const char *made, const char *path)
{
	char lock[NAME];
	const int fd = lock_name(path, lock);
	bool done;

	if (fd < 0)
		return false;
	done = is_free(path) && rename(made, path) == 0;
	unlock_name(fd, lock);
	return done;
}

/* On another file system a file cannot have a second name: then it has one. */
static bool show_also(struct page *p, const char *made, const char *suffix, const char *also)
{
	char other[NAME];

	snprintf(other, sizeof(other), "%s%s", also, suffix);
	if (link(made, other) != 0)
		return errno == EXDEV;
	if (!put(other, also)) {
		const int error = errno;

		unlink(other);
		errno = error;
		return false;
	}
	snprintf(p->path[1], sizeof(p->path[1]), "%s", also);
	return true;
}

/* Under its names from now on, the second first: then the file's own name is gone. */
static bool show(struct page *p, const char *made, const char *path, const char *also)
{
	if (also != NULL && !show_also(p, made, made + strlen(path), also))
		return false;
	if (!put(made, path))
		return false;
	snprintf(p->path[0], sizeof(p->path[0]), "%s", path);
	return true;
}

static bool make(struct page *p, const char *path, const char *also, uint32_t mode)
{
	char made[NAME];
	int error;

	if (path == NULL) { /* whoever else has it cannot cut it under us */
		p->fd = gq_memfd("gpuqd-page", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		return p->fd >= 0 && fill(p) &&
		       fcntl(p->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0;
	}
	if (strlen(path) >= sizeof(p->path[0]) ||
	    (also != NULL && strlen(also) >= sizeof(p->path[1]))) {
		errno = ENAMETOOLONG;
		return false;
	}
	p->fd = make_file(path, made, mode);
	if (p->fd < 0)
		return false;
	if (fill(p) && show(p, made, path, also))
		return true;
	error = errno;
	unlink(made);
	errno = error;
	return false;
}

static const char *why_not(int error)
{
	if (error == EEXIST)
		return "there is something that is no page of counts; allowed: a path where there "
		       "is nothing, or an old page";
	return error == EBUSY ? "it is in use by another gpuqd" : strerror(error);
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
		 path != NULL ? path : "in memory", why_not(errno));
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

/* A lock belongs to what was opened, and a mapping holds that: it would stay locked as long as the
 * other process lives. */
int page_share(const struct page *p)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", p->fd);
	return open(path, O_RDWR | O_CLOEXEC);
}

struct page *page_adopt(int fd)
{
	struct page *p = calloc(1, sizeof(*p));
	struct stat st;

	if (p == NULL || fstat(fd, &st) != 0 || st.st_size != (off_t)page_bytes()) {
		close(fd);
		free(p);
		return NULL;
	}
	p->bytes = page_bytes();
	p->at = mmap(NULL, p->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	p->fd = -1;
	if (p->at != MAP_FAILED)
		return p;
	free(p);
	return NULL;
}

bool page_has_both_names(const struct page *p)
{
	return p->path[1][0] != '\0';
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
