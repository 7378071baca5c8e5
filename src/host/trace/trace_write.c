/* SPDX-License-Identifier: Apache-2.0 */
/* trace_write.c - what has been recorded, as a file for trace viewers and as percentiles. */
#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/base/sys.h"
#include "host/queue/handle.h"
#include "host/queue/reap.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Records do not change once they are there, so all is done without a lock. */
struct view {
	GpuQueue *q;
	const struct gq_trace_record *record;
	uint64_t n, dropped, adjusted, clock_error_ns;
};

/* Both calls are allowed after the device has failed, too. */
static QueueStatus begin(GpuQueue *q, struct view *v)
{
	QueueStatus status = gq_enter_to_look(q);

	*v = (struct view){ .q = q };
	if (status != Q_OK)
		return status;
	if (q->trace == NULL)
		return gq__fail(Q_ERR_UNSUPPORTED, "the queue has no trace: it was made without "
						   "Q_TRACE in flags, and without GPUQ_TRACE");
	gq__reap_all(q);
	v->record = q->trace->record;
	pthread_mutex_lock(&q->reap_lock);
	v->n = q->trace->used;
	v->dropped = q->trace->dropped;
	pthread_mutex_unlock(&q->reap_lock);
	v->clock_error_ns = q->trace->clock_error_ns;
	if (q->device->clock_error_ns != NULL) {
		const uint64_t since_ns = q->device->clock_error_ns(q);

		if (since_ns > v->clock_error_ns)
			v->clock_error_ns = since_ns;
	}
	return Q_OK;
}

static uint64_t between(uint64_t t, uint64_t low, uint64_t high)
{
	return t < low ? low : t > high ? high : t;
}

/*
 * A message's times in order. The host's are: one clock, and one thing after the other. A device's
 * clock is off by a little, and what the host has seen is surer. But both of the device's are off
 * by the same, so the time between them is right: they move together.
 * @return whether a time had to be moved
 */
static bool put_in_order(struct gq_trace_record *r)
{
	const uint64_t claimed_ns = r->claimed_ns, done_ns = r->done_ns;
	uint64_t took_ns;

	if (claimed_ns == 0)
		return false;
	took_ns =
		between(done_ns, claimed_ns, claimed_ns + r->seen_ns - r->visible_ns) - claimed_ns;
	r->claimed_ns = between(claimed_ns, r->visible_ns, r->seen_ns - took_ns);
	r->done_ns = r->claimed_ns + took_ns;
	return r->claimed_ns != claimed_ns || r->done_ns != done_ns;
}

static uint64_t count_adjusted(const struct view *v)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < v->n; i++) {
		struct gq_trace_record r = v->record[i];

		n += put_in_order(&r);
	}
	return n;
}

static bool has_run(const struct gq_trace_record *r)
{
	return r->claimed_ns != 0 && r->outcome != GQ_OUTCOME_EXPIRED &&
	       r->outcome != GQ_OUTCOME_CANCELLED;
}

/* When the message was in a stage. @return false: never, or it is not known. */
static bool stage_of(const struct view *v, uint64_t i, unsigned stage, uint64_t *from_ns,
		     uint64_t *to_ns)
{
	struct gq_trace_record r = v->record[i];

	put_in_order(&r);
	switch (stage) {
	case Q_STAGE_ENQUEUE:
		*from_ns = r.enqueued_ns;
		*to_ns = r.visible_ns;
		return true;
	case Q_STAGE_WAIT:
		*from_ns = r.visible_ns;
		*to_ns = r.claimed_ns;
		return r.claimed_ns != 0;
	case Q_STAGE_PROCESS:
		*from_ns = r.claimed_ns;
		*to_ns = r.done_ns;
		return has_run(&r);
	case Q_STAGE_NOTICE:
		*from_ns = r.done_ns;
		*to_ns = r.seen_ns;
		return r.claimed_ns != 0;
	default:
		*from_ns = r.enqueued_ns;
		*to_ns = r.seen_ns;
		return true;
	}
}

/* ---- percentiles ----------------------------------------------------------------------------- */

static int compare_ns(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* The least value that per_mille of them do not exceed. */
static uint64_t nearest_rank(const uint64_t *sorted, uint64_t n, uint64_t per_mille)
{
	return sorted[(n * per_mille + 999) / 1000 - 1];
}

static TraceStage percentiles(const struct view *v, unsigned stage, uint64_t *ns)
{
	uint64_t n = 0, from_ns, to_ns;

	for (uint64_t i = 0; i < v->n; i++)
		if (stage_of(v, i, stage, &from_ns, &to_ns))
			ns[n++] = to_ns - from_ns;
	if (n == 0)
		return (TraceStage){ 0 };
	qsort(ns, n, sizeof(*ns), compare_ns);
	return (TraceStage){ .count = n,
			     .p50_ns = nearest_rank(ns, n, 500),
			     .p90_ns = nearest_rank(ns, n, 900),
			     .p99_ns = nearest_rank(ns, n, 990),
			     .p999_ns = nearest_rank(ns, n, 999),
			     .max_ns = ns[n - 1] };
}

QueueStatus q_trace_summary(GpuQueue *q, TraceSummary *out)
{
	GQ_NO_CANCEL();
	struct view v;
	QueueStatus status = begin(q, &v);
	size_t bytes;
	uint64_t *ns;

	if (status != Q_OK)
		return status;
	if (out == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "out is NULL; allowed: a TraceSummary");
	bytes = v.n * sizeof(*ns);
	ns = gq__alloc(bytes, "sorting the trace");
	if (ns == NULL)
		return Q_ERR_NO_MEMORY;
	*out = (TraceSummary){ .recorded = v.n,
			       .dropped = v.dropped,
			       .adjusted = count_adjusted(&v),
			       .clock_error_ns = v.clock_error_ns };
	for (unsigned stage = 0; stage < Q_STAGES; stage++)
		out->stage[stage] = percentiles(&v, stage, ns);
	gq__free(ns, bytes);
	return Q_OK;
}

/* ---- the file -------------------------------------------------------------------------------- */

enum { FILE_BUFFER = 1 << 16, LINE_MAX_BYTES = 1024 };

struct file {
	int fd;
	int error; /* errno of the first failure; nothing is written after it */
	size_t used;
	char *text; /* FILE_BUFFER bytes */
};

static void flush(struct file *f)
{
	if (f->error == 0)
		f->error = gq__write_quietly(f->fd, f->text, f->used);
	f->used = 0;
}

__attribute__((format(printf, 2, 3))) static void put(struct file *f, const char *format, ...)
{
	va_list args;

	if (FILE_BUFFER - f->used < LINE_MAX_BYTES)
		flush(f);
	va_start(args, format);
	f->used += (size_t)vsnprintf(f->text + f->used, LINE_MAX_BYTES, format, args);
	va_end(args);
}

/* A string of JSON. Bytes beyond ASCII become the characters of these numbers: whatever they are,
 * the file stays well-formed. */
static void put_string(struct file *f, const char *text)
{
	put(f, "\"");
	for (; *text != '\0'; text++) {
		const unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			put(f, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			put(f, "\\u%04x", c);
		else
			put(f, "%c", c);
	}
	put(f, "\"");
}

/* ---- tracks ---------------------------------------------------------------------------------- */

/* What the viewer calls processes: one a stage, with a track a consumer, or as many as are needed
 * for slices not to overlap. */
static const struct {
	const char *process, *track;
} groups[] = {
	[Q_STAGE_ENQUEUE] = { "gpuq 1: being enqueued", "call" },
	[Q_STAGE_WAIT] = { "gpuq 2: waiting for a consumer", "place in line" },
	[Q_STAGE_PROCESS] = { "gpuq 3: consumers", "consumer" },
	[Q_STAGE_NOTICE] = { "gpuq 4: done, not yet seen", "place" },
};

enum { TRACKED_STAGES = Q_STAGE_TOTAL };

/* A message in a stage, on the way to its track. */
struct slice {
	uint64_t from_ns, to_ns;
	uint32_t record, track;
};

static int compare_begin(const void *a, const void *b)
{
	const struct slice *x = a, *y = b;

	if (x->from_ns != y->from_ns)
		return x->from_ns < y->from_ns ? -1 : 1;
	return (x->record > y->record) - (x->record < y->record);
}

static int compare_track(const void *a, const void *b)
{
	const struct slice *x = a, *y = b;

	if (x->track != y->track)
		return x->track < y->track ? -1 : 1;
	return (x->record > y->record) - (x->record < y->record);
}

/* The tracks in use, as a heap with the one that is free first on top. */
struct track {
	uint64_t free_ns;
	uint32_t number;
};

static void sift_down(struct track *heap, uint32_t n)
{
	uint32_t at = 0;

	for (;;) {
		uint32_t least = at;

		for (uint32_t child = 2 * at + 1; child <= 2 * at + 2 && child < n; child++)
			if (heap[child].free_ns < heap[least].free_ns)
				least = child;
		if (least == at)
			return;
		struct track t = heap[at];

		heap[at] = heap[least];
		heap[least] = t;
		at = least;
	}
}

static void sift_up(struct track *heap, uint32_t at)
{
	while (at != 0 && heap[at].free_ns < heap[(at - 1) / 2].free_ns) {
		struct track t = heap[at];

		heap[at] = heap[(at - 1) / 2];
		heap[(at - 1) / 2] = t;
		at = (at - 1) / 2;
	}
}

/* Give each slice, by begin, a track that is free. @return how many tracks. */
static uint32_t spread(struct slice *slices, uint64_t n, struct track *heap)
{
	uint32_t tracks = 0;

	qsort(slices, n, sizeof(*slices), compare_begin);
	for (uint64_t i = 0; i < n; i++) {
		if (tracks != 0 && heap[0].free_ns <= slices[i].from_ns) {
			slices[i].track = heap[0].number;
			heap[0].free_ns = slices[i].to_ns;
			sift_down(heap, tracks);
		} else {
			slices[i].track = tracks;
			heap[tracks] = (struct track){ slices[i].to_ns, tracks };
			sift_up(heap, tracks++);
		}
	}
	return tracks;
}

/*
 * A consumer has one message at a time, and completes them in its order, which is that of the
 * records. So the slices follow each other whatever has been moved for the clocks' sake; sorted by
 * begin, one that had been moved into the next would be put behind it, however long that is.
 */
static void keep_apart(struct slice *slices, uint64_t n)
{
	qsort(slices, n, sizeof(*slices), compare_track);
	for (uint64_t i = 1; i < n; i++) {
		if (slices[i].track != slices[i - 1].track)
			continue;
		if (slices[i].from_ns < slices[i - 1].to_ns)
			slices[i].from_ns = slices[i - 1].to_ns;
		if (slices[i].to_ns < slices[i].from_ns)
			slices[i].to_ns = slices[i].from_ns;
	}
}

/* ---- events ---------------------------------------------------------------------------------- */

/* Microseconds, as the format wants them, to the nanosecond. */
#define US       "%" PRIu64 ".%03u"
#define IN_US(t) (t) / 1000, (unsigned)((t) % 1000)

static const char *outcome_name(const struct gq_trace_record *r)
{
	if (r->claimed_ns == 0)
		return "lost";
	switch (r->outcome) {
	case GQ_OUTCOME_EXPIRED:
		return "expired";
	case GQ_OUTCOME_CANCELLED:
		return "cancelled";
	default:
		return gq_outcome_is_failure(r->outcome) ? "failed" : "ok";
	}
}

static void put_details(struct file *f, const struct gq_trace_record *r)
{
	static const char *const priorities[] = { "low", "normal", "high", "urgent" };

	put(f,
	    "\"outcome\":\"%s\",\"opcode\":%" PRIu32 ",\"priority\":\"%s\",\"len\":%" PRIu32
	    ",\"result_len\":%" PRIu32 ",\"status\":%" PRIu32 ",\"discard\":%s",
	    outcome_name(r), r->opcode, priorities[r->priority % GQ_CLASSES], r->len,
	    r->outcome <= GQ_OUTCOME_MAX_LEN ? r->outcome : 0, gq_reported_status(r->outcome),
	    r->discarded != 0 ? "true" : "false");
}

/* What a slice is called: the stage, or why the message has not run. */
static const char *slice_name(const struct gq_trace_record *r, unsigned stage)
{
	static const char *const names[] = { "enqueue", "wait", "process", "notice" };

	if (stage == Q_STAGE_PROCESS ? !has_run(r) : stage == Q_STAGE_WAIT && r->claimed_ns == 0)
		return outcome_name(r);
	return names[stage];
}

/* Where a message goes from stage to stage, an arrow: begun, passed on, ended. */
static const char *flow_of(unsigned stage)
{
	switch (stage) {
	case Q_STAGE_ENQUEUE:
		return "s";
	case Q_STAGE_PROCESS:
		return "t";
	case Q_STAGE_NOTICE:
		return "f";
	default:
		return NULL;
	}
}

static void put_slice(struct file *f, const struct view *v, unsigned stage, const struct slice *s)
{
	const struct gq_trace_record *r = &v->record[s->record];
	const char *flow = r->claimed_ns != 0 ? flow_of(stage) : NULL;

	put(f,
	    ",\n{\"ph\":\"X\",\"cat\":\"gpuq\",\"name\":\"%s\",\"pid\":%u,\"tid\":%" PRIu32
	    ",\"ts\":" US ",\"dur\":" US ",\"args\":{\"msg_id\":\"%" PRIu64 "\"",
	    slice_name(r, stage), stage + 1, s->track, IN_US(s->from_ns),
	    IN_US(s->to_ns - s->from_ns), r->msg_id);
	if (stage == Q_STAGE_PROCESS || (stage == Q_STAGE_WAIT && r->claimed_ns == 0)) {
		put(f, ",");
		put_details(f, r);
	}
	put(f, "}}");
	if (flow != NULL)
		put(f,
		    ",\n{\"ph\":\"%s\"%s,\"cat\":\"gpuq\",\"name\":\"message\",\"id\":\"%" PRIu64
		    "\",\"pid\":%u,\"tid\":%" PRIu32 ",\"ts\":" US "}",
		    flow, stage == Q_STAGE_NOTICE ? ",\"bp\":\"e\"" : "", r->msg_id, stage + 1,
		    s->track, IN_US(s->from_ns));
}

static void put_track_name(struct file *f, unsigned stage, uint32_t track, uint32_t host)
{
	put(f,
	    ",\n{\"ph\":\"M\",\"name\":\"thread_name\",\"pid\":%u,\"tid\":%" PRIu32
	    ",\"args\":{\"name\":\"",
	    stage + 1, track);
	if (track == host)
		put(f, "host, cancelling\"}}");
	else
		put(f, "%s %" PRIu32 "\"}}", groups[stage].track, track);
}

/* The slices of a stage. A message that did not run has one where its consumer said so, and one
 * that was lost with the device waits to the end. */
static uint64_t gather(const struct view *v, unsigned stage, struct slice *slices, uint32_t host)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < v->n; i++) {
		struct gq_trace_record r = v->record[i];
		struct slice s = { .record = (uint32_t)i };
		bool is_there = stage_of(v, i, stage, &s.from_ns, &s.to_ns);

		put_in_order(&r);
		if (stage == Q_STAGE_WAIT && !is_there) {
			s.to_ns = r.seen_ns;
			is_there = true;
		} else if (stage == Q_STAGE_PROCESS) {
			s.track = r.consumer == GQ_NONE ? host : r.consumer;
			is_there = r.claimed_ns != 0;
		}
		if (is_there)
			slices[n++] = s;
	}
	return n;
}

static void put_stage(struct file *f, const struct view *v, unsigned stage, struct slice *slices,
		      struct track *heap)
{
	const uint32_t host = GQ_NONE - 1; /* no track of a consumer has that number */
	const uint64_t n = gather(v, stage, slices, host);
	uint32_t tracks;

	put(f,
	    "%s\n{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":%u,\"args\":{\"name\":\"%s\"}}"
	    ",\n{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":%u,\"args\":{"
	    "\"sort_index\":%u}}",
	    stage == 0 ? "" : ",", stage + 1, groups[stage].process, stage + 1, stage + 1);
	if (stage == Q_STAGE_PROCESS) {
		keep_apart(slices, n);
		for (uint64_t i = 0; i < n; i++)
			if (i == 0 || slices[i].track != slices[i - 1].track)
				put_track_name(f, stage, slices[i].track, host);
	} else {
		tracks = spread(slices, n, heap);
		for (uint32_t track = 0; track < tracks; track++)
			put_track_name(f, stage, track, host);
	}
	for (uint64_t i = 0; i < n; i++)
		put_slice(f, v, stage, &slices[i]);
}

static void put_all(struct file *f, const struct view *v, struct slice *slices, struct track *heap)
{
	put(f,
	    "{\"displayTimeUnit\":\"ns\",\n\"otherData\":{\"producer\":\"libgpuq %s\","
	    "\"clock\":\"CLOCK_MONOTONIC\",\"process\":\"%ld\",\"processor\":",
	    q_version(), (long)getpid());
	put_string(f, v->q->processor.name);
	put(f, ",\"device\":");
	put_string(f, v->q->device_name);
	put(f,
	    ",\"recorded\":\"%" PRIu64 "\",\"dropped\":\"%" PRIu64 "\",\"adjusted\":\"%" PRIu64
	    "\",\"clock_error_ns\":\"%" PRIu64 "\"},\n\"traceEvents\":[",
	    v->n, v->dropped, count_adjusted(v), v->clock_error_ns);
	for (unsigned stage = 0; stage < TRACKED_STAGES; stage++)
		put_stage(f, v, stage, slices, heap);
	put(f, "\n]}\n");
	flush(f);
}

static QueueStatus write_to(const struct view *v, const char *path, struct slice *slices,
			    struct track *heap, char *buffer)
{
	struct file f = { .text = buffer };

	errno = EMFILE;
	f.fd = gq__fault() ? -1 : gq_sys_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (f.fd < 0)
		return gq__failf(Q_ERR_IO, "the trace: cannot open '%.256s': %s", path,
				 strerror(errno));
	put_all(&f, v, slices, heap);
	if (gq_sys_close(f.fd) != 0 && f.error == 0) /* where a full disk of a network shows */
		f.error = errno;
	if (f.error != 0)
		return gq__failf(Q_ERR_IO, "the trace: cannot write '%.256s': %s", path,
				 strerror(f.error));
	return Q_OK;
}

QueueStatus q_trace_write(GpuQueue *q, const char *path)
{
	GQ_NO_CANCEL();
	struct view v;
	QueueStatus status = begin(q, &v);
	struct slice *slices;
	struct track *heap = NULL;
	char *buffer = NULL;

	if (status != Q_OK)
		return status;
	if (path == NULL || path[0] == '\0')
		return gq__failf(Q_ERR_INVALID_ARG, "path is %s; allowed: where to write the trace",
				 path == NULL ? "NULL" : "empty");
	status = Q_ERR_NO_MEMORY;
	slices = gq__alloc(v.n * sizeof(*slices), "the trace's slices");
	if (slices != NULL)
		heap = gq__alloc(v.n * sizeof(*heap), "the trace's tracks");
	if (heap != NULL)
		buffer = gq__alloc(FILE_BUFFER, "writing the trace");
	if (buffer != NULL)
		status = write_to(&v, path, slices, heap, buffer);
	gq__free(buffer, FILE_BUFFER);
	gq__free(heap, v.n * sizeof(*heap));
	gq__free(slices, v.n * sizeof(*slices));
	return status;
}

void gq__trace_at_shutdown(GpuQueue *q)
{
	struct gq_trace *t = q->trace;

	if (t->path[0] == '\0')
		return;
	if (q_trace_write(q, t->path) != Q_OK)
		gq__log(Q_LOG_ERROR, "GPUQ_TRACE: %s", q_last_error());
	else
		gq__log(Q_LOG_INFO, "trace of %" PRIu64 " messages in %s, %" PRIu64 " left out",
			t->used, t->path, t->dropped);
}
