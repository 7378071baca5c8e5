/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bar1.c - device memory that the CPU writes: the mirror of class entries and short messages.
 *
 * The CPU's stores through a mapping of the GPU's BAR1 are posted, and a unit that waits looks at
 * its own memory instead of across PCIe. All that is written here is a hint that proves itself: an
 * entry's word by its position, a slot by its seal. The queue itself is in pinned memory, where a
 * unit that misses a hint finds the message. So it does not matter in what order, or whether, the
 * stores arrive. docs/design/memory-model.md has the argument.
 *
 * The driver gives the mapping: a dma-buf of the allocation, mapped as a file. The CPU never reads
 * through it, as each word would take a round trip.
 */
#include "device/cuda/host/bar1.h"

#include "device/cuda/host/call.h"
#include "device/cuda/host/ping.h"
#include "host/base/fault.h"
#include "host/base/sys.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BAR1_PAGE   ((size_t)65536)      /* the GPU's, and a multiple of the CPU's */
#define PATIENCE_NS UINT64_C(1000000000) /* for an answer that takes microseconds */

static bool refuse(const char *why)
{
	gq__failf(Q_ERR_UNSUPPORTED,
		  "transport is 3 (bar1); allowed: 0 (auto), 1 (pull), 2 (copy): %s", why);
	return false;
}

/* ---- the mapping ----------------------------------------------------------------------------- */

/* The allocation as a file; -1 with q_last_error(). */
static int export_memory(struct gq_cuda *c, CUdeviceptr at, size_t bytes)
{
	int fd = -1;
	/* Drivers from CUDA 12.8 on know the flag. It matters where the CPU reaches the GPU by
	 * another way than PCIe, too. */
	int result = c->cu->cuMemGetHandleForAddressRange(&fd, at, bytes, GQ_CU_RANGE_DMA_BUF_FD,
							  GQ_CU_RANGE_MAPPED_BY_PCIE);

	if (result == GQ_CU_INVALID_VALUE || result == GQ_CU_NOT_SUPPORTED)
		result = c->cu->cuMemGetHandleForAddressRange(&fd, at, bytes,
							      GQ_CU_RANGE_DMA_BUF_FD, 0);
	if (result == GQ_CU_NOT_SUPPORTED)
		refuse("the driver gives no dma-buf of this GPU's memory "
		       "(cuMemGetHandleForAddressRange)");
	else
		gq__cuda_check(c->cu, "cuMemGetHandleForAddressRange", result);
	return result == GQ_CU_SUCCESS ? fd : -1;
}

static bool map_memory(struct gq_cuda *c, CUdeviceptr at, size_t bytes)
{
	const int fd = export_memory(c, at, bytes);
	void *mapped = MAP_FAILED;
	int why = ENOMEM;

	if (fd < 0)
		return false;
	if (!gq__fault()) {
		mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		why = errno;
	}
	gq_sys_close(fd); /* the mapping stays */
	if (mapped == MAP_FAILED) {
		gq__failf(Q_ERR_UNSUPPORTED,
			  "transport is 3 (bar1); allowed: 0 (auto), 1 (pull), 2 (copy): %zu bytes "
			  "of device memory cannot be mapped for the CPU (mmap of a dma-buf: %s); "
			  "drivers before CUDA 13.3 do not offer it",
			  bytes, strerror(why));
		return false;
	}
	/* A child process that inherited the mapping would keep the device's memory allocated. */
	madvise(mapped, bytes, MADV_DONTFORK);
	c->mapped = mapped;
	c->mapped_bytes = bytes;
	return true;
}

/* Write whole lines, so that the core combines the words of each into one write. */
static void write_lines(void *to, const void *from, size_t bytes)
{
	const uint64_t *word = from;
	uint64_t *to_word = to;

	for (size_t i = 0; i < bytes / sizeof(*word); i++) {
		if (i % (GQ_MIRROR_LINE / sizeof(*word)) == 0)
			GQ_WINDOW();
		/* Other threads may change `cancel` and `armed` meanwhile. */
		gq_store_relaxed_u64(&to_word[i], gq_load_relaxed_u64(&word[i]));
	}
}

/* Write the rings' entries as they are at the start: no message is there. */
static void empty_hints(const struct gq_channel *ch)
{
	for (uint32_t i = 0; i < GQ_CLASSES; i++)
		write_lines(gq_hint_at(ch, i, 0), ch->ready[i].entry,
			    gq_word_ring_size(&ch->ready[i]) * sizeof(uint64_t));
	gq_push_stores();
}

/* Allocate and map the copy of the rings and, behind it, that of the slots. */
static bool make_mirror(struct gq_cuda *c)
{
	GpuQueue *q = c->q;
	const uint64_t capacity = q->cfg.capacity,
		       stride = gq_round_up(q->ch.ahead_bytes, GQ_MIRROR_LINE);
	const size_t slots = gq_round_up(GQ_MIRROR_HEAD + GQ_CLASSES * capacity * sizeof(uint64_t),
					 GQ_LINE),
		     bytes = gq_round_up(slots + capacity * stride, BAR1_PAGE);
	CUdeviceptr base;

	/* The driver does not promise that an allocation begins at a page. */
	if (!gq__cuda_allocate(c, &c->mirrored, bytes + BAR1_PAGE, "messages that the CPU writes"))
		return false;
	base = gq_round_up(c->mirrored, BAR1_PAGE);
	if (!CU(c, cuMemsetD8Async, base, 0, bytes, c->stream) ||
	    !CU(c, cuStreamSynchronize, c->stream) || !map_memory(c, base, bytes))
		return false;
	c->hints = base + GQ_MIRROR_HEAD;
	c->mirror = base + slots;
	q->ch.hints = (uint64_t *)(void *)((uint8_t *)c->mapped + GQ_MIRROR_HEAD);
	q->ch.mirror = (uint8_t *)c->mapped + slots;
	q->ch.mirror_stride = stride;
	empty_hints(&q->ch);
	return true;
}

bool gq__bar1_prepare(struct gq_cuda *c)
{
	int able = 0;

	if (!GQ_HAS_BAR1)
		return refuse("this libgpuq was built without GPUQ_BAR1");
	if (c->q->cfg.bounded_messages != 0)
		return refuse("with bounded_messages no grid is resident that could show that it "
			      "works");
	if (!CU(c, cuDeviceGetAttribute, &able, GQ_CU_DMA_BUF_SUPPORTED, c->device))
		return false;
	if (able == 0)
		return refuse("the GPU or its kernel driver has no dma-buf support");
	return make_mirror(c);
}

void gq__bar1_free(struct gq_cuda *c)
{
	if (c->mapped != NULL)
		munmap(c->mapped, c->mapped_bytes);
	if (c->mirrored != 0)
		c->cu->cuMemFree(c->mirrored);
}

/* ---- writing --------------------------------------------------------------------------------- */

void gq__bar1_write(const struct gq_channel *ch, uint32_t index)
{
	const struct gq_slot *slot = gq_slot_at(ch, index);

	write_lines(gq_mirror_at(ch, index), slot,
		    gq_round_up(GQ_PAYLOAD_OFFSET + slot->len, GQ_MIRROR_LINE));
}

/* ---- the test -------------------------------------------------------------------------------- */

static bool await_echo(const struct gq_cuda *c, uint64_t tag)
{
	const uint64_t deadline_ns = gq__now_ns() + PATIENCE_NS;

	for (uint32_t step = 0; gq_load_relaxed_u64(&c->link->report.scratch) != tag; step++) {
		if (gq_has_waited(gq__now_ns(), deadline_ns, step))
			return false;
		gq__await_step(step);
	}
	return true;
}

/* The grid echoes each line that has come whole, one after the other. */
bool gq__bar1_test(struct gq_cuda *c)
{
	const uint64_t key = c->q->ch.seal_key, ping = gq__ping_post(c, GQ_PING_MIRROR);
	uint64_t line[GQ_MIRROR_LINE / sizeof(uint64_t)];

	for (uint32_t n = 1; n <= GQ_MIRROR_TAGS; n++) {
		for (uint32_t i = 0; i < 7; i++)
			line[i] = (n + i) * UINT64_C(0x9e3779b97f4a7c15);
		line[7] = gq_seal_of_line(key, line);
		write_lines(c->mapped, line, sizeof(line));
		gq_push_stores();
		if (!await_echo(c, line[0])) {
			gq__ping_await(c, gq__ping_post(c, GQ_PING_CLOCK), PATIENCE_NS);
			gq__failf(
				Q_ERR_UNSUPPORTED,
				"transport is 3 (bar1); allowed: 0 (auto), 1 (pull), 2 (copy): the "
				"running grid does not see what the CPU writes into device memory "
				"(line %" PRIu32 " of %u)",
				n, GQ_MIRROR_TAGS);
			return false;
		}
	}
	return gq__ping_await(c, ping, 5 * PATIENCE_NS) ||
	       refuse("the grid does not answer after having seen all that was written");
}
