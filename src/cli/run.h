/* SPDX-License-Identifier: Apache-2.0 */
/* run.h - `gpuq run` while it runs: its state, and what its parts do for one another. */
#ifndef GPUQ_CLI_RUN_H
#define GPUQ_CLI_RUN_H

#include "input.h"
#include "output.h"
#include "plan.h"
#include "progress.h"
#include "run_options.h"
#include "split.h"
#include "summary.h"
#include "tee.h"
#include "window.h"

#include <gpuq/gpuq.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BATCH 128 /* messages handed over, and results taken, by one call */

/* Where a message comes from. */
struct origin {
	uint32_t file;
	uint64_t number; /* of the line, or offset of the piece */
};

enum failure { FAILURE_NONE, FAILURE_TOO_LONG, FAILURE_UNREADABLE };

/* What went wrong with a message before it got into the queue. */
struct trouble {
	enum failure kind;
	struct origin at;
	uint64_t bytes;       /* too long: of how many, */
	bool at_least;        /* or of more */
	enum input_open open; /* unreadable: already when it was opened */
	int error;            /* unreadable: errno */
};

/* Lines and pieces: one file is open, and messages are gathered into a batch. */
struct cutter {
	struct split split;
	struct input_file file;
	/* pieces of the splitter's buffer; items before `accepted` are in the queue */
	EnqueueItem items[BATCH];
	struct origin origins[BATCH];
	size_t gathered;
	size_t accepted;
	struct trouble
		trouble; /* behind the last item of the batch; it takes its turn after them */
	bool need_input; /* the splitter can go on only with more bytes */
};

/* One file that is a message by itself; a long one goes in pieces, one after the other. */
struct stream {
	struct input_file file;
	uint64_t key;    /* of its entry in the window */
	uint8_t *buffer; /* the state of the piece before, then the data; kept for the next file */
	size_t filled;   /* bytes of data */
	bool used;       /* there is a file */
	bool begun;      /* a piece has been handed over */
	bool in_queue;   /* a piece is in the queue: its answer is the state that comes next */
	bool ended;      /* all of the file has been read */
};

struct streams {
	struct stream *streams;
	size_t count;
	size_t begun;           /* those with a piece handed over, and more to come */
	size_t resting;         /* of these, those that have no piece in the queue */
	struct stream *current; /* the one whose first piece is being read; NULL: none is */
	struct stream *waiting; /* the one that waits for input; NULL: none does */
	size_t room;            /* bytes of data that a buffer holds */
};

/*
 * One thread runs this. Messages are cut from the input and handed to the queue, which copies them;
 * what is under way is listed in the window; results are taken as they finish and written from
 * where they lie, in input order or at once. Nothing grows with the input: the window is bounded by
 * the slots, the buffers by the longest message.
 */
struct run {
	const struct run_options *options;
	struct plan plan;
	GpuQueue *queue;
	QueueInfo info;
	struct input input;
	struct cutter cutter;   /* all but --split files */
	struct streams streams; /* --split files */
	struct window window;
	struct output output;
	int created_fd;  /* of --output's file, if it was not there before; -1 */
	struct tee *tee; /* NULL: one output */
	struct progress progress;
	struct run_counts counts;
	size_t in_slots; /* messages that hold a slot: accepted and not yet released */
	uint64_t to_release[BATCH];
	size_t release_count;
	bool input_done;  /* nothing more will be read */
	bool cut_off;     /* the interruption left a gap in the output: it ends there */
	bool queue_broke; /* a call failed that cannot; it has been reported */
	bool tee_lost;    /* a file of --tee is not complete; likewise */
	bool trace_lost;  /* the trace could not be written; it has been reported */
	int interrupted;  /* the signal */
	int poll_fd;      /* q_completion_fd(), -1 when not asked for */
};

/* ---- report.c: messages on stderr ------------------------------------------------------------ */

/** "gpuq: FILE:LINE: text", "gpuq: FILE: offset N: text" or "gpuq: FILE: text". */
void report(struct run *r, const struct origin *at, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/** Say what the trouble was, and count it. */
void report_trouble(struct run *r, const struct trouble *t);

/** Once a run: a call of the library failed. */
void report_broken_queue(struct run *r, const char *call, QueueStatus status);

/* ---- cut.c: lines and pieces ----------------------------------------------------------------- */

bool cutter_init(struct run *r);
void cutter_free(struct run *r);

/** Gather and hand over what has been read. True: something has been done. */
bool cutter_step(struct run *r);

/** Nothing can be gathered before more has been read. */
bool cutter_wants_input(const struct run *r);

/** Read once, after waiting for input if there is none. */
void cutter_read(struct run *r);

/** The run was interrupted: what the queue has not accepted counts as not read. */
void cutter_stop(struct run *r);

/* ---- files.c: whole files -------------------------------------------------------------------- */

bool streams_init(struct run *r);
void streams_free(struct run *r);

/** Read and hand over, as far as that goes without waiting. True: something has been done. */
bool streams_step(struct run *r);

/** The file that waits for input, or NULL. */
const struct input_file *streams_waiting(const struct run *r);

/** A piece of an entry that has more to come has finished. */
void streams_answer(struct run *r, struct entry *e, const Completion *done);

/** A piece of an entry that has more to come has failed, and the entry with it. */
void streams_give_up(struct run *r, struct entry *e);

/** The run was interrupted: files that have not been handed over to their end are dropped. */
void streams_stop(struct run *r);

/* ---- results.c: what comes out --------------------------------------------------------------- */

/** Take every result there is. True: there was at least one. */
bool results_collect(struct run *r);

/** In input order: print everything up to the first message that has not finished. */
void results_print_in_order(struct run *r, uint64_t now_ns);

/** An entry has come to its end: print it now, or all whose turn it is. */
void results_settle(struct run *r, struct entry *e, uint64_t now_ns);

/** Give the slot of this message back, with the next batch of them. */
void results_release(struct run *r, uint64_t msg_id);

/* ---- wait.c ---------------------------------------------------------------------------------- */

/**
 * Sleep until there is input, a result, a signal, or nobody left to write to. True: there is input.
 * What has been printed so far is shown before we sleep: the user may be waiting for it.
 */
bool wait_for_input(struct run *r, const struct input_file *file);

/** Sleep until a result is there; not for ever. */
void wait_for_results(struct run *r);

/* ---- setup.c: before the first message ------------------------------------------------------- */

/** Everything a run needs. Returns CLI_OK, or an exit code: it has been said why. */
int set_up(struct run *r);
void tear_down(struct run *r);

#endif /* GPUQ_CLI_RUN_H */
