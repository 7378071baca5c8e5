/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipe.h - a stream of bytes with one writer and any number of readers, each of which sees all of
 * it; between threads, and between processes. The guide is docs/guide/pipe.md.
 */
#ifndef GPUQ_PIPE_H
#define GPUQ_PIPE_H

#include <gpuq/gpuq.h>

#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Conventions: those of gpuq.h for errors, outputs and time, with these differences.
 *
 * Threads    Any number of threads may call anything on one pipe and on its readers at the same
 *            time. The bytes of one write stand together in the stream: writes of several threads
 *            come one after the other. A reader is read by one thread at a time (each may be a
 *            different one); a second one gets Q_ERR_POLICY. q_pipe_destroy(),
 *            q_pipe_reader_close() and q_pipe_pool_destroy() alone need that no other thread uses
 *            the same handle.
 * Progress   Reading never delays the writer, except one that waits for room (Q_PIPE_WAIT), and
 *            takes no lock (with q_pipe_reader_fd() one of the reader's own, when nothing is left).
 *            Writing never delays a reader. A lock is held for some instructions where a reader is
 *            opened or closed, where a pipe is closed or given an error, and where a full pipe with
 *            Q_PIPE_WAIT looks for room. q_pipe_share() holds it, and keeps writes out, while it
 *            copies what is in the pipe.
 * Ordering   What a writer wrote to memory before a write is visible to a reader that has read
 *            bytes of that write, as far as both can reach the memory.
 * Cancelling No call is a cancellation point: a thread that is cancelled inside one comes back from
 *            it first.
 * Signals    No call of this header may be made in a signal handler, or left by longjmp(). A signal
 *            that comes meanwhile makes no call fail and no wait end early. No call raises SIGPIPE
 *            or changes what a signal does; only q_pipe_reader_fd() starts a thread.
 * Forks      In a forked child the calls on a handle of the parent give Q_ERR_UNSUPPORTED, and
 *            those that give a handle back do nothing. A child attaches by the descriptor of
 *            q_pipe_share().
 * Errors     Every call may return Q_ERR_INVALID_ARG (a handle is NULL) and Q_ERR_UNSUPPORTED
 *            (called in a forked child on a handle of the parent). They are not repeated below.
 */

typedef struct Pipe Pipe;             /* the writer's side */
typedef struct PipeReader PipeReader; /* one reader */
typedef struct PipePool PipePool;     /* pipes by name */

#define Q_DEFAULT_PIPE_BYTES (UINT64_C(64) << 20)
#define Q_MAX_PIPE_BYTES     (UINT64_C(1) << 40)

/* What a write does once max_bytes are kept. */
typedef enum PipePolicy {
	Q_PIPE_FAIL = 0,         /* Q_ERR_FULL. Nothing is ever forgotten, so max_bytes is all that
				  * the pipe ever takes */
	Q_PIPE_WAIT = 1,         /* wait until the slowest reader has read further; what all readers
				  * have read is then forgotten, as far as the room is needed */
	Q_PIPE_DROP_HISTORY = 2, /* forget the oldest bytes. A reader that needed them gets
				  * Q_ERR_LAGGED once, and goes on at the oldest byte kept */
	Q_PIPE_EVICT = 3,        /* forget the oldest bytes. A reader that needed them gets
				  * Q_ERR_LAGGED from then on */
} PipePolicy;

/* In every field zero means the default. Copied by q_pipe_create(). */
typedef struct PipeConfig {
	uint64_t max_bytes;   /* kept at a time, 1 to 2^40; 0: 64 MiB. Memory is taken as it is
			       * written to, up to that and 8 KiB */
	uint32_t policy;      /* Q_PIPE_* */
	uint32_t flags;       /* none defined: 0 */
	uint64_t reserved[6]; /* zero */
} PipeConfig;
GPUQ_STATIC_ASSERT(sizeof(PipeConfig) == 64, "its size is frozen");

/* Each counter on its own is exact; together they are, while nobody writes. */
typedef struct PipeStats {
	uint64_t written;   /* bytes, since the pipe was made */
	uint64_t forgotten; /* bytes; the stream's offset of the oldest byte kept */
	uint64_t kept;      /* bytes that can still be read: written - forgotten */
	uint64_t max_bytes;
	uint64_t slowest; /* offset of this process's slowest reader; `written` without one */
	uint64_t full;    /* times a write found no room and returned or waited */
	uint64_t lagged;  /* times one of this process's readers got Q_ERR_LAGGED; each that was cut
			   * off counts once */
	uint64_t opened;  /* readers opened in this process so far */
	uint32_t readers; /* of them, those that are open */
	uint32_t evicted; /* of those, cut off (those that have noticed it) */
	uint32_t closed;  /* 1: q_pipe_close() has been called */
	int32_t error;    /* of the writer; 0: none */
	uint64_t reserved[6];
} PipeStats;
GPUQ_STATIC_ASSERT(sizeof(PipeStats) == 128, "its size is frozen");

/* ---- the writer ------------------------------------------------------------------------------ */

/**
 * Make a pipe.
 *
 * @param cfg  NULL: all defaults
 * @param out  the writer's handle; give it to q_pipe_destroy()
 * @return Q_OK; Q_ERR_INVALID_ARG: a field is out of range; Q_ERR_NO_MEMORY.
 */
Q_API QueueStatus q_pipe_create(const PipeConfig *cfg, Pipe **out);

/**
 * Close the pipe, as q_pipe_close() does, and give the writer's handle back; NULL does nothing.
 * Readers read on to the end of the stream; the memory is freed with the last of them. Of a pool's
 * pipe it closes only: the handle is the pool's.
 */
Q_API void q_pipe_destroy(Pipe *p);

/**
 * Append bytes to the stream. They have been copied when the call returns, and readers may see the
 * first of a long write before the last. What there is no room for is up to the policy.
 *
 * Checked in this order: the pipe is closed; it has an error; len is 0 (that succeeds, and wakes
 * nobody); nobody reads any more; there is no room.
 *
 * @param data         NULL is legal when len is 0
 * @param len          bytes, any number; how many fit is up to max_bytes and the policy
 * @param out_written  how many bytes are in the stream, whatever the status; may be NULL
 * @param timeout_ms   how long to wait for room: with Q_PIPE_WAIT only. 0: not at all
 * @return Q_OK: all of them; Q_ERR_INVALID_ARG: data is NULL and len is not 0; Q_ERR_FULL: no room
 *         for the rest, with Q_PIPE_FAIL, or with Q_PIPE_WAIT and timeout_ms 0; Q_ERR_TIMEOUT: no
 *         room for the rest in time; Q_ERR_SHUTDOWN: the pipe is closed; Q_ERR_FAILED: the pipe has
 *         an error of q_pipe_set_error(); Q_ERR_BROKEN: there were readers and all have been closed
 *         (a pipe that was shared may have readers that it does not know of, and never is broken);
 *         Q_ERR_NO_MEMORY: the kernel has no page for the rest (of a shared pipe).
 * Blocking: a thread that comes while another one writes waits for it: up to timeout_ms with
 *           Q_PIPE_WAIT, where the other may be waiting for room; else for as long as that copies.
 */
Q_API QueueStatus q_pipe_write(Pipe *p, const void *data, size_t len, size_t *out_written,
			       uint32_t timeout_ms);

/**
 * q_pipe_write() of several pieces, as one write.
 *
 * @param pieces  iov_base may be NULL where iov_len is 0
 * @param count   of them, 0 to 1024
 * @return as q_pipe_write(); Q_ERR_INVALID_ARG: also count out of range, or more than SIZE_MAX
 *         bytes in all.
 */
Q_API QueueStatus q_pipe_writev(Pipe *p, const struct iovec *pieces, int count, size_t *out_written,
				uint32_t timeout_ms);

/**
 * Say that the stream fails here: readers get what is in it, and then Q_ERR_FAILED with this number
 * from q_pipe_reader_error(). Writes get Q_ERR_FAILED at once. Another call sets another number; 0
 * takes the error back, and the stream goes on.
 *
 * @param error  the program's own number, such as an errno value
 * @return Q_OK; Q_ERR_SHUTDOWN: the pipe is closed, and ends as it did then.
 */
Q_API QueueStatus q_pipe_set_error(Pipe *p, int error);

/**
 * End the stream: readers get what is in it, and then the end, or the error that was set. Wakes
 * whoever waits. A write that is under way in another thread ends with Q_ERR_SHUTDOWN; what it says
 * it has written is in the stream. Idempotent.
 *
 * @return Q_OK.
 */
Q_API QueueStatus q_pipe_close(Pipe *p);

/** What the pipe holds and has done. @return Q_OK; Q_ERR_INVALID_ARG: out is NULL. */
Q_API QueueStatus q_pipe_stats(Pipe *p, PipeStats *out);

/**
 * Let other processes read: a descriptor for q_pipe_attach(). Any number of times, at any time
 * while the handle lives; the first call moves the stream into a memfd.
 *
 * No process can write, cut or grow that memfd, or map it for writing, except by the pipe's handle
 * (F_SEAL_FUTURE_WRITE and its like; Linux 5.1). So a reader can harm neither the writer nor other
 * readers, whatever it does with the descriptor: at worst it makes the kernel allocate pages, up to
 * max_bytes, and wakes readers for nothing. From then on each write makes a system call, as readers
 * cannot say that they sleep.
 *
 * @return the descriptor, the caller's to close, at any time; closed by execve(). -1 with
 *         q_last_error() set: the policy is neither Q_PIPE_FAIL nor Q_PIPE_DROP_HISTORY (others
 *         need to know their readers), no memory or descriptor is left, or the kernel has no such
 *         seals.
 */
Q_API int q_pipe_share(Pipe *p);

/* ---- readers --------------------------------------------------------------------------------- */

/**
 * Open a reader: at the first byte of the stream, whenever it joins: before, during or after the
 * writing, also after the close. If the pipe has forgotten the first bytes, its first read gives
 * Q_ERR_LAGGED, and the next ones go on at the oldest byte kept, whatever the policy.
 *
 * @param p    the writer's handle, not destroyed yet
 * @param out  give it to q_pipe_reader_close()
 * @return Q_OK; Q_ERR_INVALID_ARG: out is NULL; Q_ERR_NO_MEMORY.
 */
Q_API QueueStatus q_pipe_reader_open(Pipe *p, PipeReader **out);

/**
 * Open a reader of another process's pipe. As q_pipe_reader_open() otherwise. Legal in the writer's
 * own process, and in a forked child.
 *
 * Everything read from the memfd is checked: a writer that writes nonsense there harms its own
 * stream and nothing else of the process. (One that lets its file be read where it has not written
 * makes the kernel allocate that memory, up to the max_bytes that the file says.)
 *
 * A writer that dies is noticed within half a second by a read that waits, and by one that finds
 * nothing: data, then Q_ERR_FAILED with EOWNERDEAD from q_pipe_reader_error(). That needs that
 * reader and writer are in the same PID namespace; else a reader of a dead writer finds nothing for
 * ever.
 *
 * @param fd   of q_pipe_share(), sent or inherited; stays the caller's, who may close it at once
 * @param out  give it to q_pipe_reader_close()
 * @return Q_OK; Q_ERR_INVALID_ARG: no descriptor, or no pipe, of another version or damaged;
 *         Q_ERR_POLICY: no memfd of ordinary pages, or one that its writer could cut
 *         (F_SEAL_SHRINK); Q_ERR_NO_MEMORY.
 */
Q_API QueueStatus q_pipe_attach(int fd, PipeReader **out);

/** Close a reader; NULL does nothing. The memory goes with the last reader of a destroyed pipe. */
Q_API void q_pipe_reader_close(PipeReader *r);

/**
 * Read what is there, at least one byte, and wait if there is nothing yet.
 *
 * In this order: the reader's own error, at once; data; the writer's error; the end of the stream.
 *
 * @param cap      size of buf, at least 1
 * @param out_len  bytes read, 0 unless Q_OK
 * @return Q_OK: *out_len bytes, and with 0 the end of the stream; Q_ERR_INVALID_ARG: buf or out_len
 *         is NULL, or cap is 0; Q_ERR_EMPTY: nothing there and timeout_ms is 0; Q_ERR_TIMEOUT:
 *         nothing came in time; Q_ERR_FAILED: the reader's own error, or, after all data, the
 *         writer's: q_pipe_reader_error(); Q_ERR_LAGGED: bytes were forgotten before they were
 *         read: see PipePolicy, q_pipe_reader_open(); Q_ERR_POLICY: another thread reads from this
 *         reader.
 */
Q_API QueueStatus q_pipe_read(PipeReader *r, void *buf, size_t cap, size_t *out_len,
			      uint32_t timeout_ms);

/**
 * Make this reader fail: a read that waits, and all later ones, give Q_ERR_FAILED at once, before
 * what is there. 0 takes the error back, and reading goes on where it was. Other readers, and the
 * writer, do not notice; one that waits for room goes on waiting for this reader.
 *
 * @param error  the program's own number
 * @return Q_OK.
 */
Q_API QueueStatus q_pipe_reader_set_error(PipeReader *r, int error);

/**
 * The number behind Q_ERR_FAILED: the reader's own error; without one the writer's, also while
 * there is data before it; 0: neither. Further EOWNERDEAD: the writer's process has been found
 * dead; and EPROTO: the memfd of q_pipe_attach() holds what no pipe writes.
 *
 * @return Q_OK; Q_ERR_INVALID_ARG: out_error is NULL.
 */
Q_API QueueStatus q_pipe_reader_error(PipeReader *r, int *out_error);

/**
 * Where this reader is: the stream's offset of the byte that the next read begins with. After
 * Q_ERR_LAGGED that is the oldest byte kept; of one that was cut off, the first that it missed.
 *
 * @return Q_OK; Q_ERR_INVALID_ARG: out is NULL.
 */
Q_API QueueStatus q_pipe_reader_offset(PipeReader *r, uint64_t *out);

/**
 * A descriptor for poll() and its like: readable while q_pipe_read() would return anything but
 * Q_ERR_EMPTY. Level-triggered: it stays readable until a read has taken all there is. It becomes
 * readable a thread's wake-up after the write, by a thread of the library that the first call
 * starts. Only poll it; it is the reader's, which closes it.
 *
 * @return the same descriptor each time; -1 with q_last_error() set: no thread or descriptor is
 *         left.
 */
Q_API int q_pipe_reader_fd(PipeReader *r);

/* ---- pipes by name --------------------------------------------------------------------------- */

/* q_pipe_pool_reader(): do not wait for a writer. */
#define Q_PIPE_POOL_EXISTING UINT32_C(1)
#define Q_PIPE_POOL_NAME_MAX 255u /* bytes of a name */

/** Make a pool without pipes. @return Q_OK; Q_ERR_INVALID_ARG: out is NULL; Q_ERR_NO_MEMORY. */
Q_API QueueStatus q_pipe_pool_create(PipePool **out);

/**
 * Give a pool back, and its pipes' handles; NULL does nothing. No thread may be inside a call on
 * it: q_pipe_pool_close() sends them away. A pipe that nobody has closed gets the error ECANCELED
 * and is closed, because its stream is not complete. Readers read on.
 */
Q_API void q_pipe_pool_destroy(PipePool *pool);

/**
 * The pipe of that name, to write to; the first call makes it, and every later one gives the same.
 * Close it by q_pipe_close(); the handle stays the pool's. Its name stays, for late readers.
 *
 * @param name  1 to 255 bytes; copied
 * @param cfg   counts when the pipe is made; NULL: all defaults
 * @return Q_OK; Q_ERR_INVALID_ARG: the name or a field of cfg is out of range; Q_ERR_SHUTDOWN: the
 *         pool is closed and has no such pipe; Q_ERR_NO_MEMORY.
 */
Q_API QueueStatus q_pipe_pool_writer(PipePool *pool, const char *name, const PipeConfig *cfg,
				     Pipe **out);

/**
 * Open a reader by name, and wait until there is such a pipe.
 *
 * @param flags  0, or Q_PIPE_POOL_EXISTING: only if there is one
 * @param out    give it to q_pipe_reader_close(), which may come after the pool's end
 * @return Q_OK; Q_ERR_INVALID_ARG: the name or flags are out of range; Q_ERR_EMPTY: nobody has
 *         opened it for writing yet, and timeout_ms is 0; Q_ERR_TIMEOUT: nobody has in time;
 *         Q_ERR_NOT_FOUND: there is none (Q_PIPE_POOL_EXISTING); Q_ERR_SHUTDOWN: the pool was
 *         closed and there is none; Q_ERR_NO_MEMORY.
 */
Q_API QueueStatus q_pipe_pool_reader(PipePool *pool, const char *name, uint32_t flags,
				     uint32_t timeout_ms, PipeReader **out);

/**
 * Take no new names any more: whoever waits for a writer gets Q_ERR_SHUTDOWN. Pipes that are there
 * go on; late readers can still open them. Idempotent.
 *
 * @return Q_OK.
 */
Q_API QueueStatus q_pipe_pool_close(PipePool *pool);

#ifdef __cplusplus
}
#endif

#endif /* GPUQ_PIPE_H */
