/* SPDX-License-Identifier: Apache-2.0 */
/*
 * storage.c - a pipe's memory. It begins as private memory, which takes no descriptor. The first
 * q_pipe_share() copies it into a memfd and moves its mapping to the same addresses, so no reader
 * of this process has to be told.
 *
 * Then the memfd is sealed. F_SEAL_FUTURE_WRITE leaves the mapping that is there as the only one
 * that can write, and refuses write(), writable mappings and the punching of holes to everybody,
 * whatever descriptor of it they have or open. F_SEAL_SHRINK and F_SEAL_GROW keep its size: so no
 * reader's page can go away. F_SEAL_SEAL keeps others from adding seals.
 */
#include "host/pipe/storage.h"

#include "host/base/fault.h"
#include "host/base/memory.h"
#include "host/base/sys.h"
#include "memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define TMPFS 0x01021994 /* a memfd of ordinary pages; linux/magic.h: TMPFS_MAGIC */

uint64_t gq__pipe_bytes(uint64_t capacity)
{
	return gq_round_up(GQ_PIPE_HEAD_BYTES + capacity, (uint64_t)sysconf(_SC_PAGESIZE));
}

static void describe(struct gq_pipe_source *s, void *memory, uint64_t bytes, uint64_t capacity,
		     uint32_t policy)
{
	*s = (struct gq_pipe_source){ .head = memory,
				      .data = (uint8_t *)memory + GQ_PIPE_HEAD_BYTES,
				      .capacity = capacity,
				      .mapped = bytes,
				      .policy = policy };
}

static void *map(uint64_t bytes, int protection, int flags, int fd)
{
	errno = ENOMEM;
	if (gq__fault())
		return MAP_FAILED;
	return mmap(NULL, (size_t)bytes, protection, flags, fd, 0);
}

void gq__pipe_unmap(const struct gq_pipe_source *s)
{
	munmap(s->head, (size_t)s->mapped);
}

/* ---- private --------------------------------------------------------------------------------- */

#define HUGE_PAGE (UINT64_C(2) << 20)

/*
 * Touching new memory page by page costs more than what is written into it. So beyond the first
 * few MiB, which small streams never reach, it may come in huge pages. Where there are none nothing
 * changes.
 */
static void allow_huge_pages(uint8_t *memory, uint64_t bytes)
{
	const uint64_t before =
		HUGE_PAGE + (HUGE_PAGE - 1 - (uint64_t)(uintptr_t)(memory - 1) % HUGE_PAGE);

	if (bytes >= before + HUGE_PAGE)
		madvise(memory + before, (size_t)(bytes - before), MADV_HUGEPAGE);
}

QueueStatus gq__pipe_map_private(struct gq_pipe_source *s, uint64_t capacity, uint32_t policy)
{
	const uint64_t bytes = gq__pipe_bytes(capacity);
	void *memory =
		map(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);

	if (memory == MAP_FAILED)
		return gq__failf(Q_ERR_NO_MEMORY, "out of memory: %" PRIu64 " bytes for a pipe",
				 bytes);
	allow_huge_pages(memory, bytes);
	describe(s, memory, bytes, capacity, policy);
	return Q_OK;
}

/* ---- a memfd --------------------------------------------------------------------------------- */

static int open_memfd(void)
{
	errno = ENOMEM;
	if (gq__fault())
		return -1;
	return gq_memfd("gpuq-pipe", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

/* @return 0, or the reason why not. */
static int write_at(int fd, const uint8_t *from, uint64_t at, uint64_t bytes)
{
	while (bytes != 0) {
		const ssize_t n = gq__fault() ? -1 : pwrite(fd, from, (size_t)bytes, (off_t)at);

		if (n <= 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 && errno != 0 ? errno : ENOSPC;
		from += n;
		at += (uint64_t)n;
		bytes -= (uint64_t)n;
	}
	return 0;
}

/* Bytes of the data that have been written so far. @return likewise. */
static int fill(const Pipe *p, int fd, const struct gq_pipe_head *head)
{
	const struct gq_pipe_source *s = &p->source;
	const uint64_t end = gq_pipe_offset(head->end);
	const uint64_t used = end < s->capacity ? end : s->capacity;
	struct rlimit limit;
	int error;

	/* Beyond this limit the kernel sends a signal in place of an error. */
	if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
	    limit.rlim_cur < s->mapped)
		return EFBIG;
	if (ftruncate(fd, (off_t)s->mapped) != 0)
		return errno;
	error = write_at(fd, (const uint8_t *)head, 0, sizeof(*head));
	return error != 0 ? error : write_at(fd, s->data, GQ_PIPE_HEAD_BYTES, used);
}

/* The header as other processes will find it. */
static void finish_header(struct gq_pipe_head *head, const struct gq_pipe_source *s)
{
	const struct gq_pipe_trace trace = gq__pipe_trace_own();

	*head = (struct gq_pipe_head){
		.header = { .magic = GQ_PIPE_MAGIC,
			    .ready = GQ_PIPE_MAGIC, /* see q_pipe_share() */
			    .bytes = s->mapped },
		.capacity = s->capacity,
		.policy = s->policy,
		.writer = trace.writer,
		.began = trace.began,
		.place = trace.place,
		.begin = gq_load_relaxed_u64(&s->head->begin),
		.end = gq_load_seq_cst_u64(&s->head->end),
		.error = gq_load_relaxed_u64(&s->head->error),
		.streams = gq_load_relaxed_u64(&s->head->streams),
		/* One that counts meanwhile counts in vain: those that doze look in time. */
		.beats = gq_load_relaxed_u64(&s->head->beats),
	};
}

/* Fill the memfd, map it anywhere, seal it. @return Q_OK, with the mapping. */
static QueueStatus prepare(const Pipe *p, int fd, const struct gq_pipe_head *head, void **out)
{
	const int seals = F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	const int error = fill(p, fd, head);
	void *memory;

	if (error != 0)
		return gq__failf(Q_ERR_NO_MEMORY, "out of memory: the pipe's memfd: %s",
				 strerror(error));
	memory = map(p->source.mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
	if (memory == MAP_FAILED)
		return gq__failf(Q_ERR_NO_MEMORY, "the pipe's memfd could not be mapped: %s",
				 strerror(errno));
	if (fcntl(fd, F_ADD_SEALS, seals) != 0) {
		munmap(memory, (size_t)p->source.mapped);
		return gq__failf(Q_ERR_UNSUPPORTED, "the pipe's memfd could not be sealed: %s",
				 strerror(errno));
	}
	*out = memory;
	return Q_OK;
}

static QueueStatus replace(const Pipe *p, int fd, const struct gq_pipe_head *head)
{
	const size_t bytes = (size_t)p->source.mapped;
	QueueStatus status;
	void *memory = NULL;

	status = prepare(p, fd, head, &memory);
	if (status != Q_OK)
		return status;
	/* One step for all other threads: they are at the old pages or at the new ones. */
	if (mremap(memory, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, p->source.head) !=
	    MAP_FAILED)
		return Q_OK;
	munmap(memory, bytes);
	return gq__failf(Q_ERR_NO_MEMORY, "the pipe's memfd could not be mapped: %s",
			 strerror(errno));
}

QueueStatus gq__pipe_move_to_memfd(Pipe *p)
{
	struct gq_pipe_head head;
	QueueStatus status;
	int fd;

	GQ_NO_CANCEL();
	fd = open_memfd();
	if (fd < 0)
		return gq__failf(errno == ENOSYS ? Q_ERR_UNSUPPORTED : Q_ERR_NO_MEMORY,
				 "a memfd for the pipe could not be made: %s", strerror(errno));
	finish_header(&head, &p->source);
	status = replace(p, fd, &head);
	if (status != Q_OK) {
		gq_sys_close(fd);
		return status;
	}
	p->fd = fd;
	p->allocated = gq_pipe_offset(head.end);
	return Q_OK;
}

/* ---- another process's ----------------------------------------------------------------------- */

/* That no page can go away, and that reading one that nobody has written does no harm. */
static QueueStatus check_file(int fd, struct stat *out)
{
	const int seals = fcntl(fd, F_GET_SEALS);
	struct statfs fs;

	if (seals < 0 && errno == EBADF)
		return gq__failf(Q_ERR_INVALID_ARG, "fd is %d: %s", fd, strerror(errno));
	if (seals < 0 || fstatfs(fd, &fs) != 0 || fs.f_type != TMPFS)
		return gq__failf(Q_ERR_POLICY, "fd is %d: not a memfd of ordinary pages", fd);
	if ((seals & F_SEAL_SHRINK) == 0)
		return gq__failf(Q_ERR_POLICY,
				 "fd is %d: the memfd is not sealed with F_SEAL_SHRINK, so nothing "
				 "keeps its writer from cutting it",
				 fd);
	if (fstat(fd, out) != 0 || out->st_size < GQ_PIPE_HEAD_BYTES)
		return gq__failf(Q_ERR_INVALID_ARG, "fd is %d: there is no pipe in this file", fd);
	return Q_OK;
}

/* Copy what is constant, and check the copy: a liar may write another at any time. */
static QueueStatus read_header(const void *memory, uint64_t file_bytes, struct gq_pipe_head *copy)
{
	const uint64_t *words = memory;
	uint64_t word;

	/* [setup.read] acquire: what stands behind `ready` */
	if (gq_load_acquire_u64(&((const struct gq_header *)memory)->ready) != GQ_PIPE_MAGIC)
		return gq__fail(Q_ERR_INVALID_ARG, "there is no pipe in this file");
	for (size_t i = 0; i < GQ_PIPE_CONSTANT_BYTES / sizeof(word); i++) {
		word = gq_load_relaxed_u64(&words[i]);
		memcpy((uint8_t *)copy + i * sizeof(word), &word, sizeof(word));
	}
	if (copy->header.magic != GQ_PIPE_MAGIC)
		return gq__fail(Q_ERR_INVALID_ARG, "there is no pipe in this file");
	if (copy->capacity == 0 || copy->capacity > Q_MAX_PIPE_BYTES)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the pipe says it keeps %" PRIu64 " bytes; allowed: 1 to %" PRIu64,
				 copy->capacity, Q_MAX_PIPE_BYTES);
	if (copy->policy != Q_PIPE_FAIL && copy->policy != Q_PIPE_DROP_HISTORY)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the pipe says its policy is %" PRIu64 "; allowed: %d, %d",
				 copy->policy, Q_PIPE_FAIL, Q_PIPE_DROP_HISTORY);
	if (file_bytes < GQ_PIPE_HEAD_BYTES + copy->capacity)
		return gq__failf(Q_ERR_INVALID_ARG,
				 "the file has %" PRIu64 " bytes; its pipe takes %" PRIu64,
				 file_bytes, GQ_PIPE_HEAD_BYTES + copy->capacity);
	return Q_OK;
}

QueueStatus gq__pipe_map_shared(int fd, struct gq_pipe_source *s, struct gq_pipe_trace *out)
{
	struct gq_pipe_head copy = { .capacity = 0 };
	QueueStatus status;
	struct stat st = { .st_size = 0 };
	void *memory;

	status = check_file(fd, &st);
	if (status != Q_OK)
		return status;
	memory = map((uint64_t)st.st_size, PROT_READ, MAP_SHARED, fd);
	if (memory == MAP_FAILED)
		return gq__failf(Q_ERR_NO_MEMORY, "fd is %d: %jd bytes could not be mapped: %s", fd,
				 (intmax_t)st.st_size, strerror(errno));
	status = read_header(memory, (uint64_t)st.st_size, &copy);
	if (status != Q_OK) {
		munmap(memory, (size_t)st.st_size);
		return status;
	}
	describe(s, memory, (uint64_t)st.st_size, copy.capacity, (uint32_t)copy.policy);
	*out = (struct gq_pipe_trace){ copy.writer, copy.began, copy.place };
	return Q_OK;
}
