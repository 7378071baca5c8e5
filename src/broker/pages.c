/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pages.c - clients' memory: made, allocated, sealed, mapped, and given back, on two threads.
 *
 * The kernel zeroes each page that a client gets, and takes each back, which for a gigabyte takes
 * some hundred milliseconds: not on the reactor's thread, where others connect meanwhile. The maker
 * takes a step for each session that waits, in turns: a small client waits for one step of each
 * large one, not for all of it. Giving back cannot be cut into steps (the last mapping takes all
 * pages along), so another thread does that.
 *
 * A session is the reactor's, but for the time between pages_make() and NOTE_MADE, and from
 * pages_unmake() to NOTE_UNMADE: then what pages.c writes is read by nobody else. The locks of the
 * lists, here and of the notes, order both hand-overs.
 */
#include "session.h"

#include "host/base/sys.h"
#include "host/base/thread.h"
#include "memfd.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { STEP_BYTES = 4 << 20 };

/* ---- making ---------------------------------------------------------------------------------- */

static bool open_files(struct session *s)
{
	s->memfd = gq_memfd("gpuqd-client", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (s->memfd < 0)
		return false;
	s->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return s->bell >= 0 && ftruncate(s->memfd, (off_t)s->bytes) == 0;
}

/* Every page is there before a client has the file, and no one can cut it: so no access of ours can
 * fail later for want of what was there. */
static bool allocate_some(struct session *s)
{
	const uint64_t left = s->bytes - s->allocated;
	const uint64_t n = left < STEP_BYTES ? left : STEP_BYTES;
	int rc;

	do
		rc = fallocate(s->memfd, 0, (off_t)s->allocated, (off_t)n);
	while (rc != 0 && errno == EINTR);
	s->allocated += n;
	return rc == 0;
}

/* From Linux 5.1 on: nobody maps it for writing any more, and holes cannot be punched. */
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

/* What it has punched before that is missing now. Pages that are swapped out count. */
static bool is_whole(int memfd, uint64_t bytes)
{
	struct stat st;

	return fstat(memfd, &st) == 0 && (uint64_t)st.st_blocks * 512 >= bytes;
}

bool pages_seal(int memfd, uint64_t bytes)
{
	return (fcntl(memfd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0 ||
		(errno == EINVAL && fcntl(memfd, F_ADD_SEALS, F_SEAL_SEAL) == 0)) &&
	       is_whole(memfd, bytes);
}

static bool map(struct session *s)
{
	void *memory;

	if (fcntl(s->memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
		return false;
	memory = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, s->memfd, 0);
	if (memory == MAP_FAILED)
		return false;
	madvise(memory, s->bytes, MADV_DONTDUMP); /* other people's payloads */
	s->memory = memory;
	errno = ENOMEM;
	return client_open(&s->client, &s->hello, s->memory, s->window);
}

static bool make_some(struct session *s)
{
	const bool is_first = s->allocated == 0;

	if (gq_load_seq_cst_u32(&s->abandoned) != 0)
		return true;
	if ((is_first && !open_files(s)) || !allocate_some(s) ||
	    (s->allocated == s->bytes && !map(s))) {
		s->error = errno;
		return true;
	}
	return s->allocated == s->bytes;
}

/* ---- giving back ----------------------------------------------------------------------------- */

static void close_if_open(int *fd)
{
	if (*fd >= 0)
		gq_sys_close(*fd);
	*fd = -1;
}

static bool unmake(struct session *s)
{
	client_close(&s->client);
	if (s->memory != NULL)
		munmap(s->memory, s->bytes);
	s->memory = NULL;
	close_if_open(&s->memfd); /* where the client never got it, all its pages go here */
	close_if_open(&s->bell);
	return true;
}

/* ---- the threads ----------------------------------------------------------------------------- */

static void put(struct pages_thread *t, struct session *s)
{
	pthread_mutex_lock(&t->lock);
	s->next_job = NULL;
	*t->end = s;
	t->end = &s->next_job;
	pthread_cond_signal(&t->some);
	pthread_mutex_unlock(&t->lock);
}

/* @return NULL: it is to end, and nothing is left to do */
static struct session *take(struct pages_thread *t)
{
	struct session *s;

	pthread_mutex_lock(&t->lock);
	while (t->first == NULL && !t->quit)
		pthread_cond_wait(&t->some, &t->lock);
	s = t->first;
	if (s != NULL) {
		t->first = s->next_job;
		if (t->first == NULL)
			t->end = &t->first;
	}
	pthread_mutex_unlock(&t->lock);
	return s;
}

static void *work(void *arg)
{
	struct pages_thread *t = arg;
	struct session *s;

	while ((s = take(t)) != NULL) {
		if (t->step(s))
			broker_note(s->b, &s->client, t->done, "");
		else
			put(t, s); /* behind the others */
	}
	return NULL;
}

static int start(struct pages_thread *t, bool (*step)(struct session *s), enum note_kind done,
		 const char *name)
{
	int rc;

	t->end = &t->first;
	t->step = step;
	t->done = done;
	pthread_mutex_init(&t->lock, NULL);
	pthread_cond_init(&t->some, NULL);
	rc = gq__start_thread(&t->thread, work, t, name);
	t->started = rc == 0;
	return rc;
}

static void end(struct pages_thread *t)
{
	if (!t->started)
		return;
	pthread_mutex_lock(&t->lock);
	t->quit = true;
	pthread_cond_signal(&t->some);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	pthread_cond_destroy(&t->some);
	pthread_mutex_destroy(&t->lock);
}

int pages_start(struct pages *p)
{
	const int rc = start(&p->maker, make_some, NOTE_MADE, "gpuqd-maker");

	return rc != 0 ? rc : start(&p->unmaker, unmake, NOTE_UNMADE, "gpuqd-unmaker");
}

void pages_end(struct pages *p)
{
	end(&p->maker);
	end(&p->unmaker);
}

void pages_make(struct pages *p, struct session *s)
{
	put(&p->maker, s);
}

void pages_unmake(struct pages *p, struct session *s)
{
	put(&p->unmaker, s);
}
