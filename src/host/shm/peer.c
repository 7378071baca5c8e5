/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.c - judging whether the thread that an owner's word names still lives.
 *
 * The kernel reuses thread ids, in each PID namespace on its own, and /proc may show another
 * namespace's thread under an id. So:
 *
 *  - The kernel is asked about an id only in the namespace that the id is of. (The kernel may also
 *    reuse a namespace's inode number, but not before every thread of the first one is dead.)
 *  - tgkill() with signal 0 needs no /proc. If no thread of that process has the id, the thread
 *    that had it is dead.
 *  - If some thread has the id, the thread we ask about is dead all the same if its whole process
 *    has ended and waits for its parent (a pidfd tells), or if /proc shows a zombie, or a thread
 *    that began at another time or whose program's stack is elsewhere.
 *  - /proc is believed only if it is this namespace's: then it shows this process's id in that
 *    namespace and no other id. Start times are compared only within one time namespace, because
 *    time namespaces shift them.
 *
 * Each piece of evidence either speaks for death or does not speak. Missing evidence (no descriptor
 * left, no /proc, a /proc that hides other users' processes, a filter of system calls) is not
 * death.
 *
 * System calls go through syscall(), because open() and its like are cancellation points.
 */
#include "host/shm/peer.h"

#include "device/protocol/atomics.h"
#include "host/base/fault.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
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

/* The inode number of one of this process's namespaces; 0: it cannot be found out. The call needs
 * no descriptor, and its answer is right whichever namespace /proc shows. */
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
	/* The number is kept once it is known, with the process's id, because /proc may go away
	 * later. (A process never changes its PID namespace; a child may be born in another one.)
	 */
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

/* On a kernel without time namespaces all threads are in one: number 1. */
uint64_t gq__peer_time_namespace(void)
{
	uint64_t inode = inode_of("/proc/self/ns/time");

	return inode != 0 ? inode : errno == ENOENT && inode_of("/proc/self/ns/pid") != 0 ? 1 : 0;
}

/* ---- /proc ----------------------------------------------------------------------------------- */

/* Read at most `size` - 1 bytes of a file and put a 0 behind them. @return how many; 0: none. */
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

/* What a thread's stat file says; 0 for what it does not show (none of these is ever 0). */
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

static uint64_t stack_bits(const struct shown *s)
{
	return (s->stack >> 4) & NAMESPACE_MASK;
}

/*
 * Whether this /proc shows the process's own PID namespace: then it lists one id of the process,
 * which is the one that getpid() gives. An outer namespace's /proc lists two or more; any other
 * lists none.
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

bool gq__peer_process_shown(uint64_t id, uint64_t *start, uint64_t *stack)
{
	long proc = gq__fault() ? -1
				: syscall(SYS_openat, AT_FDCWD, "/proc",
					  O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct shown it = { 0 };
	char path[64];
	bool shown;

	if (proc < 0)
		return false;
	snprintf(path, sizeof(path), "%" PRIu64 "/stat", id);
	shown = shows_own_namespace((int)proc) && read_stat((int)proc, path, &it);
	syscall(SYS_close, proc);
	*start = it.start;
	*stack = stack_bits(&it);
	return shown;
}

/* ---- what a thread writes of itself
 * --------------------------------------------------------------- */

void gq__peer_describe(struct gq_peer_identity *identity, uint64_t owner)
{
	const uint64_t time = gq__peer_time_namespace();
	struct shown me;

	/* "thread-self" is the calling thread, whichever namespace /proc shows. */
	if (!read_stat(AT_FDCWD, "/proc/thread-self/stat", &me))
		me = (struct shown){ 0 };
	/* [owner.write] */
	gq_store_release_u64(&identity->began,
			     me.start << GQ_OWNER_ID_BITS | ((uint64_t)getpid() & ID_MASK));
	/* [owner.write] */
	gq_store_release_u64(&identity->place, stack_bits(&me) << 32 | time);
	gq_store_release_u64(&identity->described, owner); /* [owner.write] */
}

/*
 * `described` inverted says that the owner is dead. The caller has proof, so the owner writes no
 * more. A later binding stores its own word over the verdict, or has already made the swap fail.
 * [owner.write], [owner.read]: a thread that reads the verdict may do to what the dead thread held
 * whatever the thread with the proof may do.
 */
void gq__peer_say_dead(struct gq_peer_identity *identity, uint64_t owner)
{
	const uint64_t before = gq_load_acquire_u64(&identity->described);

	if (before != ~owner && gq_load_acquire_u64(&identity->owner) == owner)
		gq_cas_acq_rel_u64(&identity->described, before, ~owner);
}

static bool is_said_dead(const struct gq_peer_identity *identity, uint64_t owner)
{
	return identity != NULL && gq_load_acquire_u64(&identity->described) == ~owner;
}

struct described {
	pid_t process;
	uint64_t start, stack, time;
};

static bool read_described(const struct gq_peer_identity *identity, uint64_t owner,
			   struct described *out)
{
	uint64_t began, place;

	/* [owner.read] acquire, each: pairs with [owner.write]. */
	if (identity == NULL || gq_load_acquire_u64(&identity->described) != owner)
		return false;
	began = gq_load_acquire_u64(&identity->began);
	place = gq_load_acquire_u64(&identity->place);
	if (gq_load_acquire_u64(&identity->owner) != owner ||
	    gq_load_acquire_u64(&identity->described) != owner)
		return false;
	*out = (struct described){ .process = (pid_t)(began & ID_MASK),
				   .start = began >> GQ_OWNER_ID_BITS,
				   .stack = place >> 32,
				   .time = place & NAMESPACE_MASK };
	return out->process != 0;
}

/* ---- the judge ------------------------------------------------------------------------------- */

/* @param process  whose thread it would be; 0: any process's */
static bool no_thread_has(pid_t process, pid_t id)
{
	long rc = process != 0 ? syscall(SYS_tgkill, process, id, 0) : syscall(SYS_tkill, id, 0);

	return rc != 0 && errno == ESRCH;
}

/* Whether tgkill() tells the truth: some sandboxes refuse it without looking. */
static bool can_ask_tgkill(void)
{
	return syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0) == 0;
}

/* Whether a process has ended and only waits for its parent to collect it. */
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

/* Whether /proc shows a zombie under the id, or another thread that was given the id later. */
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
		time = gq__peer_time_namespace();
		if (time != 0 && time == d->time && it.start != 0 && d->start != 0)
			gone |= it.start != d->start;
		if (stack_bits(&it) != 0 && d->stack != 0)
			gone |= stack_bits(&it) != d->stack;
	}
	syscall(SYS_close, proc);
	return gone;
}

static bool is_of_this_namespace(uint64_t owner)
{
	const uint64_t here = gq__peer_namespace();

	return here != 0 && gq_owner_namespace(owner) == here;
}

/* d->process is set to 0 if the thread has not described itself (yet, or before it died). */
static bool is_gone(const struct gq_peer_identity *identity, uint64_t owner, struct described *d)
{
	const pid_t id = (pid_t)gq_owner_id(owner);

	if (!read_described(identity, owner, d))
		*d = (struct described){ 0 };
	return id == 0 || no_thread_has(d->process, id);
}

bool gq__peer_is_gone(const struct gq_peer_identity *identity, uint64_t owner)
{
	struct described d;

	return owner == 0 || is_said_dead(identity, owner) ||
	       (is_of_this_namespace(owner) && is_gone(identity, owner, &d) && can_ask_tgkill());
}

static enum gq_life judge(const struct gq_peer_identity *identity, uint64_t owner)
{
	struct described d;

	if (!is_of_this_namespace(owner))
		return GQ_LIFE_UNKNOWN;
	if (is_gone(identity, owner, &d))
		return can_ask_tgkill() ? GQ_LIFE_DEAD : GQ_LIFE_UNKNOWN;
	if (d.process != 0 &&
	    (has_ended(d.process) || is_shown_gone(&d, (pid_t)gq_owner_id(owner))))
		return GQ_LIFE_DEAD;
	return GQ_LIFE_ALIVE;
}

enum gq_life gq__peer_life(struct gq_peer_identity *identity, uint64_t owner)
{
	enum gq_life life;

	if (owner == 0 || is_said_dead(identity, owner))
		return GQ_LIFE_DEAD;
	life = judge(identity, owner);
	if (life == GQ_LIFE_DEAD && identity != NULL)
		gq__peer_say_dead(identity, owner);
	return life;
}
