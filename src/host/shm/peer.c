/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.c - who uses a ring, and whether it is alive.
 *
 * The kernel gives ids of threads again, in each PID namespace on its own, and what /proc shows
 * under an id may be another namespace's. So:
 *
 *  - An id is asked about only in the namespace that it is of. (A namespace's inode number may be
 *    given again as well, but not before every thread of the first one is dead.)
 *  - tgkill() with signal 0 needs no /proc: where no thread of that process has the id, the one
 *    that had it is dead.
 *  - Where some thread has the id, it is dead if its whole process has ended and waits for its
 *    parent (a pidfd tells), or if /proc shows that it is a zombie or is not the one that
 *    wrote down when it began and where its program's stack is.
 *  - /proc is believed only if it is this namespace's: then it shows this process's id in it, and
 *    none besides. Start times are compared only within one time namespace, which shifts them.
 *
 * Each piece of evidence speaks for death or does not speak: none to be had (no descriptor left, no
 * /proc, one that hides other users' processes, a filter of system calls) is not death.
 *
 * All by syscall(), as open() and its like are cancellation points.
 */
#include "host/shm/peer.h"

#include "host/base/fault.h"
#include "host/ring/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define ID_MASK        ((UINT64_C(1) << GQ_OWNER_ID_BITS) - 1)
#define NAMESPACE_MASK ((UINT64_C(1) << GQ_OWNER_NAMESPACE_BITS) - 1)

/* ---- the calling thread ---------------------------------------------------------------------- */

static uint64_t own_id(void)
{
	return (uint64_t)syscall(SYS_gettid) & ID_MASK;
}

/* The inode number of one of this process's namespaces; 0: cannot be had. Needs no descriptor, and
 * is right whichever namespace /proc shows. */
static uint64_t inode_of(const char *path)
{
	struct stat st;

	if (syscall(SYS_newfstatat, AT_FDCWD, path, &st, 0) != 0 ||
	    (uint64_t)st.st_ino > NAMESPACE_MASK)
		return 0;
	return (uint64_t)st.st_ino;
}

uint64_t gq__peer_namespace(void)
{
	/* Once known it is kept, with the process's id: /proc may go away later. (A process never
	 * changes its PID namespace; a child may be born in another one.) */
	static uint64_t known;
	const uint64_t id = (uint64_t)getpid() & ID_MASK;
	uint64_t inode = inode_of("/proc/self/ns/pid");

	if (inode != 0) {
		gq_store_relaxed_u64(&known, inode << GQ_OWNER_ID_BITS | id);
		return inode;
	}
	inode = gq_load_relaxed_u64(&known);
	return (inode & ID_MASK) == id ? inode >> GQ_OWNER_ID_BITS : 0;
}

uint64_t gq__peer_owner(uint64_t binding)
{
	return binding << (GQ_OWNER_ID_BITS + GQ_OWNER_NAMESPACE_BITS) |
	       gq__peer_namespace() << GQ_OWNER_ID_BITS | own_id();
}

/* Where there are no time namespaces all are in one. */
static uint64_t time_namespace(void)
{
	uint64_t inode = inode_of("/proc/self/ns/time");

	return inode != 0 ? inode : errno == ENOENT && inode_of("/proc/self/ns/pid") != 0 ? 1 : 0;
}

/* ---- /proc ----------------------------------------------------------------------------------- */

/* At most `size` - 1 bytes of a file, and a 0 behind them. @return how many; 0: none. */
static size_t read_file(int folder, const char *path, char *text, size_t size)
{
	long fd = gq__fault() ? -1
			      : syscall(SYS_openat, folder, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	long n;

	if (fd < 0)
		return 0;
	n = syscall(SYS_read, fd, text, size - 1);
	syscall(SYS_close, fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0 ? (size_t)n : 0;
}

/* What a thread's stat file says. Of what is not shown (and there is no 0 of): 0. */
struct shown {
	char state;
	uint64_t start; /* ticks since boot, in the reader's time namespace */
	uint64_t stack; /* where the program's stack begins: execve() makes another one */
};

enum { FIELD_STATE = 3, FIELD_START = 22, FIELD_STACK = 28 };

static bool read_stat(int folder, const char *path, struct shown *out)
{
	char text[1024];
	char *at;

	*out = (struct shown){ 0 };
	if (read_file(folder, path, text, sizeof(text)) == 0)
		return false;
	at = strrchr(text, ')'); /* ends the name, which may hold anything */
	if (at == NULL || at[1] != ' ')
		return false;
	at += 2;
	out->state = *at;
	for (int field = FIELD_STATE; field < FIELD_STACK; field++) {
		at = strchr(at, ' ');
		if (at == NULL)
			return false;
		at++;
		if (field + 1 == FIELD_START)
			out->start = strtoull(at, NULL, 10);
	}
	out->stack = strtoull(at, NULL, 10);
	return true;
}

/*
 * Whether this /proc shows the process's own PID namespace: then it knows one id of it, the one
 * that the process has. One of an outer namespace knows two or more; any other, none.
 */
static bool shows_own_namespace(int proc)
{
	static const char label[] = "\nNSpid:";
	char text[4096], *at, *end;

	if (read_file(proc, "self/status", text, sizeof(text)) == 0)
		return false;
	at = strstr(text, label); /* a line break in the process's name is shown as \n */
	if (at == NULL)
		return false;
	at += sizeof(label) - 1;
	return strtol(at, &end, 10) == (long)getpid() && *end == '\n';
}

/* ---- what a thread writes down --------------------------------------------------------------- */

/*
 * Two words of its record, and `described`, which names the binding that they are of:
 *
 *     began: the thread's start in ticks, above the id of its process
 *     place: where its program's stack begins (32 bits of it), above its time namespace's inode
 *
 * 0 in a part: it could not find out. All of it is written after `owner` was swapped and before
 * anybody else can swap it, and each word with a release; so who reads a word of a later binding
 * also finds that `owner` is another one by now, and drops what it has read.
 */
static uint64_t stack_bits(const struct shown *s)
{
	return (s->stack >> 4) & NAMESPACE_MASK;
}

void gq__peer_describe(struct gq_ring_record *record, uint64_t owner)
{
	const uint64_t time = time_namespace();
	struct shown me;

	/* Whatever namespace /proc shows, this is the calling thread. */
	if (!read_stat(AT_FDCWD, "/proc/thread-self/stat", &me))
		me = (struct shown){ 0 };
	/* [owner.write] */
	gq_store_release_u64(&record->began,
			     me.start << GQ_OWNER_ID_BITS | ((uint64_t)getpid() & ID_MASK));
	/* [owner.write] */
	gq_store_release_u64(&record->place, stack_bits(&me) << 32 | time);
	gq_store_release_u64(&record->described, owner); /* [owner.write] */
}

/*
 * `described` inverted says that the owner is dead. Who says so has proven it, so the owner writes
 * no more; and a later binding's own word goes over it, or stands there already. [owner.write],
 * [owner.read]: whoever reads it may do to what the dead thread held whatever the one who proved it
 * may.
 */
void gq__peer_say_dead(struct gq_ring_record *record, uint64_t owner)
{
	const uint64_t before = gq_load_acquire_u64(&record->described);

	if (before != ~owner && gq_load_acquire_u64(&record->owner) == owner)
		gq_cas_acq_rel_u64(&record->described, before, ~owner);
}

static bool is_said_dead(const struct gq_ring_record *record, uint64_t owner)
{
	return record != NULL && gq_load_acquire_u64(&record->described) == ~owner;
}

struct described {
	pid_t process;
	uint64_t start, stack, time;
};

static bool read_described(const struct gq_ring_record *record, uint64_t owner,
			   struct described *out)
{
	uint64_t began, place;

	/* [owner.read] acquire, each: pairs with [owner.write]. */
	if (record == NULL || gq_load_acquire_u64(&record->described) != owner)
		return false;
	began = gq_load_acquire_u64(&record->began);
	place = gq_load_acquire_u64(&record->place);
	if (gq_load_acquire_u64(&record->owner) != owner ||
	    gq_load_acquire_u64(&record->described) != owner)
		return false;
	*out = (struct described){ .process = (pid_t)(began & ID_MASK),
				   .start = began >> GQ_OWNER_ID_BITS,
				   .stack = place >> 32,
				   .time = place & NAMESPACE_MASK };
	return out->process != 0;
}

/* ---- the judge ------------------------------------------------------------------------------- */

/* Whether no thread has that id (in that process; 0: in any). */
static bool nobody_has(pid_t process, pid_t id)
{
	long rc = process != 0 ? syscall(SYS_tgkill, process, id, 0) : syscall(SYS_tkill, id, 0);

	return rc != 0 && errno == ESRCH;
}

/* Whether tgkill() can be asked at all: some sandboxes answer it without looking. */
static bool can_ask(void)
{
	return syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0) == 0;
}

/* Whether a process has ended, and is there only until its parent has heard of it. */
static bool has_ended(pid_t process)
{
	struct pollfd ready = { .events = POLLIN };
	struct timespec none = { 0 };
	long fd = gq__fault() ? -1 : syscall(SYS_pidfd_open, process, 0), n;

	if (fd < 0)
		return false;
	ready.fd = (int)fd;
	n = syscall(SYS_ppoll, &ready, 1, &none, NULL, (size_t)8);
	syscall(SYS_close, fd);
	return n == 1 && (ready.revents & POLLIN) != 0;
}

/* Whether /proc shows that the thread is a zombie, or another one that was given its id. */
static bool is_shown_gone(const struct described *d, pid_t id)
{
	long proc = gq__fault() ? -1
				: syscall(SYS_openat, AT_FDCWD, "/proc",
					  O_PATH | O_DIRECTORY | O_CLOEXEC);
	uint64_t time;
	char path[64];
	struct shown it;
	bool gone = false;

	if (proc < 0)
		return false;
	snprintf(path, sizeof(path), "%d/task/%d/stat", (int)d->process, (int)id);
	if (shows_own_namespace((int)proc) && read_stat((int)proc, path, &it)) {
		gone = it.state == 'Z' || it.state == 'X';
		time = time_namespace();
		if (time != 0 && time == d->time && it.start != 0 && d->start != 0)
			gone |= it.start != d->start;
		if (stack_bits(&it) != 0 && d->stack != 0)
			gone |= stack_bits(&it) != d->stack;
	}
	syscall(SYS_close, proc);
	return gone;
}

static bool is_here(uint64_t owner)
{
	const uint64_t here = gq__peer_namespace();

	return here != 0 && gq_owner_namespace(owner) == here;
}

/* d->process: 0 if it has not written it down (and has died meanwhile, or will). */
static bool is_gone(const struct gq_ring_record *record, uint64_t owner, struct described *d)
{
	const pid_t id = (pid_t)gq_owner_id(owner);

	if (!read_described(record, owner, d))
		*d = (struct described){ 0 };
	return id == 0 || nobody_has(d->process, id);
}

bool gq__peer_is_gone(const struct gq_ring_record *record, uint64_t owner)
{
	struct described d;

	return owner == 0 || is_said_dead(record, owner) ||
	       (is_here(owner) && is_gone(record, owner, &d) && can_ask());
}

/* A namespace is known by its number until all its threads are dead; then another may have it. */
static enum gq_life judge(const struct gq_ring_record *record, uint64_t owner)
{
	struct described d;

	if (!is_here(owner))
		return GQ_LIFE_UNKNOWN;
	if (is_gone(record, owner, &d))
		return can_ask() ? GQ_LIFE_DEAD : GQ_LIFE_UNKNOWN;
	if (d.process != 0 &&
	    (has_ended(d.process) || is_shown_gone(&d, (pid_t)gq_owner_id(owner))))
		return GQ_LIFE_DEAD;
	return GQ_LIFE_ALIVE;
}

enum gq_life gq__peer_life(struct gq_ring_record *record, uint64_t owner)
{
	enum gq_life life;

	if (owner == 0 || is_said_dead(record, owner))
		return GQ_LIFE_DEAD;
	life = judge(record, owner);
	if (life == GQ_LIFE_DEAD && record != NULL)
		gq__peer_say_dead(record, owner);
	return life;
}
