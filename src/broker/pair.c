/* SPDX-License-Identifier: Apache-2.0 */
/* pair.c - the two threads of a dispatcher: who leads, who stands by, and what it does there. */
#include "dispatch.h"

#include "host/base/clock.h"
#include "host/base/log.h"
#include "host/base/sys.h"
#include "host/shm/barrier.h"

#include <gpuq/processor.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MS UINT64_C(1000000)

enum {
	ARMED_MS = 20,    /* how long it waits for a completion before it looks at the leader */
	DOZE_TICKS = 200, /* a leader that runs nothing for so long is not watched any more */
	LOOK_MS = 500,    /* the same where nothing is run: it looks at nothing but the end */
};

/* ---- making and giving back ------------------------------------------------------------------ */

static bool make_buffers(struct pair *p)
{
	for (unsigned i = 0; i < 2; i++) {
		struct member *m = &p->member[i];

		m->payload = gq__alloc(p->q->cfg.slot_bytes, "a message");
		m->result = gq__alloc(p->q->cfg.result_bytes, "a result");
		if (m->payload == NULL || m->result == NULL)
			return false;
	}
	return true;
}

static void free_buffers(struct pair *p)
{
	for (unsigned i = 0; i < 2; i++) {
		gq__free(p->member[i].payload, p->q->cfg.slot_bytes);
		gq__free(p->member[i].result, p->q->cfg.result_bytes);
		p->member[i].payload = p->member[i].result = NULL;
	}
}

struct pair *pair_make(struct dispatcher *d, GpuQueue *q, bool runs)
{
	struct pair *p = gq__alloc(sizeof(*p), "a dispatcher's threads");

	if (p == NULL)
		return NULL;
	p->d = d;
	p->q = q;
	p->refs = 1;
	p->member[0].pair = p->member[1].pair = p;
	p->member[0].d = p->member[1].d = d;
	p->runs = runs && make_buffers(p);
	if (!p->runs)
		free_buffers(p);
	sem_init(&p->call, 0, 0);
	sem_init(&p->left, 0, 0);
	pthread_mutex_init(&p->lock, NULL);
	p->fenced = !gq__barrier_register() || !gq__barrier();
	gq_fetch_add_seq_cst_u64(&q->refs, 1);
	return p;
}

void pair_drop(struct pair *p)
{
	GpuQueue *q = p->q;

	if (gq_fetch_add_seq_cst_u64(&p->refs, 0 - UINT64_C(1)) != 1) /* [ref.drop], [ref.last] */
		return;
	free_buffers(p);
	pthread_mutex_destroy(&p->lock);
	sem_destroy(&p->left);
	sem_destroy(&p->call);
	gq__free(p, sizeof(*p));
	gq__drop_ref(q);
}

/* ---- standing by ----------------------------------------------------------------------------- */

void pair_join(struct pair *p, uint32_t me)
{
	if (pthread_getcpuclockid(pthread_self(), &p->member[me].cpu) != 0)
		p->member[me].cpu = -1; /* no clock: nothing is known */
	p->member[me].tid = (pid_t)syscall(SYS_gettid);
}

/* UINT64_MAX: there is no such clock. */
static uint64_t cpu_ns(clockid_t clock)
{
	struct timespec t;

	if (clock_gettime(clock, &t) != 0)
		return UINT64_MAX;
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

bool pair_is_runnable(pid_t tid)
{
	char path[40], text[80]; /* "TID (NAME) STATE ...", a name has 15 bytes */
	const char *name_end;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)tid);
	fd = gq_sys_open(path, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return false;
	n = gq_sys_read(fd, text, sizeof(text) - 1);
	gq_sys_close(fd);
	text[n > 0 ? n : 0] = '\0';
	name_end = strrchr(text, ')');
	return name_end != NULL && strncmp(name_end, ") R", 3) == 0;
}

/* ---- fences ---------------------------------------------------------------------------------- */

/* How long it may take a store to leave its core's buffer, in which nothing keeps it. */
#define DRAIN_NS (10 * MS)

/* The cheap half, between two of the leader's accesses: pairs with reach(). */
static inline void fence(struct pair *p)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (__builtin_expect(gq_load_relaxed_u32(&p->fenced) != 0, 0))
		gq_fetch_or_seq_cst_u64(&p->decided, 0); /* a full fence of its own */
}

/*
 * The expensive half. @return true: the leader has executed a full fence since this call began; or,
 * where the kernel refuses, it makes its own, and has been given time for the one that it had not
 * made. false: not yet; a look later it will have.
 */
static bool reach(struct pair *p)
{
	const uint64_t now_ns = gq__now_ns();

	if (gq_load_relaxed_u32(&p->fenced) == 0 && gq__barrier())
		return true;
	if (gq_load_relaxed_u32(&p->fenced) == 0) {
		gq_store_relaxed_u64(&p->fenced_since_ns, now_ns);
		gq_exchange_seq_cst_u32(&p->fenced, 1);
	}
	return now_ns - gq_load_relaxed_u64(&p->fenced_since_ns) >= DRAIN_NS;
}

/* ---- who leads ------------------------------------------------------------------------------- */

/* Both want to lead after this turn. @return whether this thread does */
static bool decide(struct pair *p, uint64_t turn)
{
	const uint64_t before = gq_load_acquire_u64(&p->decided);

	return before != turn && gq_cas_seq_cst_u64(&p->decided, before, turn);
}

/* The leader is back from the processor. @return whether it still leads */
static bool keep_lead(struct pair *p, struct member *mine, const struct member *other,
		      uint64_t turn)
{
	gq_store_release_u64(&mine->ran, turn);
	fence(p);
	GQ_WINDOW();
	if (__builtin_expect(gq_load_seq_cst_u64(&other->wants) == turn, 0) && !decide(p, turn))
		return false;
	gq_store_release_u64(&p->turn, turn + 1);
	return true;
}

/* What the other has seen of the leader. */
struct watch {
	uint64_t seen, since_ns;
	uint64_t cpu_ns; /* the leader's, if it was in a processor */
	uint32_t ticks;  /* in a row in which the leader has run nothing */
};

static struct watch first_look(const struct pair *p, uint32_t me, uint64_t turn)
{
	return (struct watch){ .seen = turn,
			       .since_ns = gq__now_ns(),
			       .cpu_ns = (turn & 1) != 0 ? cpu_ns(p->member[1 - me].cpu) : 0 };
}

/* If the turn is still the one of the first look, both times are of the same run. */
static uint64_t used_since(const struct pair *p, uint32_t me, const struct watch *w)
{
	const struct member *leader = &p->member[1 - me];
	const uint64_t now_ns = cpu_ns(leader->cpu);

	return now_ns < w->cpu_ns || now_ns == UINT64_MAX || !pair_is_runnable(leader->tid)
		       ? UINT64_MAX
		       : now_ns - w->cpu_ns;
}

/* @return whether this thread leads now */
static bool take_lead(struct pair *p, struct watch *w, uint32_t me, uint64_t *used_ns)
{
	/* [lead.take] acquire: all that the leader has written, before it may lead itself */
	const uint64_t turn = gq_load_acquire_u64(&p->turn);
	uint64_t *looks = &p->member[me].looks;

	gq_store_relaxed_u64(looks, gq_load_relaxed_u64(looks) + 1);
	if (turn != w->seen) {
		*w = first_look(p, me, turn);
		return false;
	}
	w->ticks++;
	if ((turn & 1) == 0 || gq__now_ns() < w->since_ns + PAIR_TICK_MS * MS)
		return false;
	*used_ns = used_since(p, me, w);
	gq_exchange_seq_cst_u64(&p->member[me].wants, turn);
	if (!reach(p))
		return false;
	GQ_WINDOW();
	/* It is back, and has not seen that the lead is wanted, or decides alone. */
	if (gq_pos_diff(gq_load_seq_cst_u64(&p->member[1 - me].ran), turn) >= 0 || !decide(p, turn))
		return false;
	p->leader = me;
	gq_store_release_u64(&p->turn, turn + 1);
	return true;
}

/* Until there is a call, or for one tick. */
static void tick(struct pair *p)
{
	const uint64_t until_ns = gq__now_ns() + PAIR_TICK_MS * MS;
	const struct timespec until = { .tv_sec = (time_t)(until_ns / 1000000000u),
					.tv_nsec = (long)(until_ns % 1000000000u) };

	(void)sem_clockwait(&p->call, CLOCK_MONOTONIC, &until);
}

/*
 * Until there is a call. The leader calls when it runs a message while this thread dozes; so this
 * thread never dozes while the leader is in a processor, as that has looked already.
 */
static void doze(struct pair *p, struct watch *w)
{
	gq_exchange_seq_cst_u32(&p->dozing, 1);
	/* Where nothing is run the turn stays as it is, so nobody has to be reached. */
	if ((!p->runs || reach(p)) && gq_load_seq_cst_u64(&p->turn) == w->seen) /* [sleep.look] */
		while (sem_wait(&p->call) != 0)
			;
	gq_exchange_seq_cst_u32(&p->dozing, 0);
	w->ticks = 0;
}

/* @return whether something can be polled, or never will */
static bool wait_for_completion(struct pair *p)
{
	return q_wait_any(p->q, p->runs ? ARMED_MS : LOOK_MS) != Q_ERR_TIMEOUT;
}

static void wake_leader(struct pair *p)
{
	const uint64_t one = 1;

	pthread_mutex_lock(&p->lock);
	if (p->d != NULL)
		(void)gq_sys_write(p->d->wake, &one, sizeof(one));
	pthread_mutex_unlock(&p->lock);
}

/* What has called before the next looks has nothing more to say: who calls has written before. */
static void forget_calls(struct pair *p)
{
	while (sem_trywait(&p->call) == 0)
		;
}

bool pair_stand_by(struct pair *p, uint32_t me, uint64_t *used_ns)
{
	/* [lead.take] acquire */
	struct watch w = first_look(p, me, gq_load_acquire_u64(&p->turn));

	for (;;) {
		forget_calls(p);
		if (gq_load_seq_cst_u32(&p->quit) != 0) {
			sem_post(&p->left);
			return false;
		}
		if (gq_load_seq_cst_u32(&p->armed) != 0) {
			if (wait_for_completion(p)) {
				gq_exchange_seq_cst_u32(&p->armed, 0);
				wake_leader(p);
			}
		} else if (p->runs && ((w.seen & 1) != 0 || w.ticks < DOZE_TICKS)) {
			tick(p);
		} else {
			doze(p, &w);
		}
		if (p->runs && take_lead(p, &w, me, used_ns))
			return true;
	}
}

/* ---- the leader ------------------------------------------------------------------------------ */

static void call(struct pair *p)
{
	sem_post(&p->call);
}

void pair_arm(struct pair *p)
{
	if (gq_exchange_seq_cst_u32(&p->armed, 1) == 0)
		call(p);
}

void pair_disarm(struct pair *p)
{
	gq_exchange_seq_cst_u32(&p->armed, 0);
}

/* The other leads. What this thread has to say it leaves to that one. */
static void come_back(struct pair *p, uint32_t outcome)
{
	p->late = outcome;
	gq_store_release_u64(&p->is_late, 1); /* [late.write] release: outcome, result */
	wake_leader(p);
}

bool pair_run(struct pair *p, const struct record *r, uint32_t *outcome)
{
	struct member *mine = &p->member[p->leader], *other = &p->member[1 - p->leader];
	const uint64_t turn = gq_load_relaxed_u64(&p->turn) + 1;
	uint32_t out_len = 0, status = 0, ended;
	const MsgView in = { .payload = mine->payload,
			     .len = r->len,
			     /* no id of the queue's has this bit */
			     .msg_id = UINT64_C(1) << 63 | p->run_ids++,
			     .opcode = r->options.opcode,
			     .tag = r->options.tag,
			     .user = p->q->ch.user,
			     .user_bytes = p->q->ch.user_bytes };
	ResultView out = { .out = mine->result,
			   .cap = p->q->ch.result_bytes,
			   .out_len = &out_len,
			   .status = &status };

	/* [lead.pass] release: all that this thread has written */
	gq_store_release_u64(&p->turn, turn);
	fence(p); /* [wake.look] */
	if (__builtin_expect(gq_load_seq_cst_u32(&p->dozing) != 0, 0) &&
	    gq_exchange_seq_cst_u32(&p->dozing, 0) != 0)
		call(p);
	p->q->processor.image.cpu(&in, &out);
	ended = gq_outcome_of(status, out_len, p->q->ch.result_bytes);
	GQ_WINDOW();
	if (!keep_lead(p, mine, other, turn)) {
		come_back(p, ended);
		return false;
	}
	*outcome = ended;
	return true;
}

bool pair_came_back(struct pair *p, uint32_t *outcome, const uint8_t **result)
{
	if (gq_load_acquire_u64(&p->is_late) == 0) /* [late.read] acquire: outcome, result */
		return false;
	gq_store_relaxed_u64(&p->is_late, 0); /* set again only after a lead has been taken again */
	*outcome = p->late;
	*result = p->member[1 - p->leader].result;
	return true;
}

/* ---- the end --------------------------------------------------------------------------------- */

bool pair_end(struct pair *p)
{
	const uint64_t until_ns = gq__deadline_ns(p->q->cfg.shutdown_timeout_ms);
	const struct timespec until = { .tv_sec = (time_t)(until_ns / 1000000000u),
					.tv_nsec = (long)(until_ns % 1000000000u) };
	int rc;

	gq_exchange_seq_cst_u32(&p->quit, 1);
	call(p);
	do
		rc = sem_clockwait(&p->left, CLOCK_MONOTONIC, &until);
	while (rc != 0 && errno == EINTR);
	pthread_mutex_lock(&p->lock);
	p->d = NULL;
	pthread_mutex_unlock(&p->lock);
	if (rc != 0)
		gq__log(Q_LOG_ERROR,
			"gpuqd: a thread of a queue has not ended after %" PRIu32
			" ms, maybe as its processor has not; it is left to itself",
			p->q->cfg.shutdown_timeout_ms);
	return rc == 0;
}
