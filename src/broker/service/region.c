/* SPDX-License-Identifier: Apache-2.0 */
/*
 * region.c - memory whose bytes requests name in place of carrying them. The daemon makes it, its
 * owner fills and seals it, and workers map it. The daemon itself never does: so nothing that is
 * done to it can make the daemon fault, and what calls it makes on it wait for nobody.
 *
 *   made -> in use (sealed against writing, all pages there) -> given back: no new requests
 *
 * Its owner, requests that name it, and frames that wait with its descriptor or are on their way
 * with it (away.c) each have a reference. Without any it is closed, one in a turn, because the
 * kernel may then free thousands of pages.
 */
#include "router.h"

#include "host/base/sys.h"
#include "memfd.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { PAGE = 4096, BLOCK = 512 };

#define UNRESIZABLE (F_SEAL_SHRINK | F_SEAL_GROW)

/* What it counts as: whole pages. At most 16 MiB, so nothing overflows. */
static uint64_t size_of(uint64_t bytes)
{
	return (bytes + PAGE - 1) / PAGE * PAGE;
}

/* Of this connection, and given back neither by its owner nor by its end. */
static struct region **find(struct peer *p, uint64_t id)
{
	struct region **at = &p->regions;

	while (*at != NULL && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

struct region *region_hold(struct region *g)
{
	g->refs++;
	return g;
}

void region_put(struct router *r, struct region *g)
{
	if (g == NULL || --g->refs != 0)
		return;
	g->next = r->closing;
	r->closing = g;
}

static void close_one(struct router *r)
{
	struct region *g = r->closing;

	r->closing = g->next;
	gq_sys_close(g->fd);
	r->regions--;
	r->region_bytes -= size_of(g->bytes);
	g->user->regions--;
	g->user->region_bytes -= size_of(g->bytes);
	user_put(r, g->user);
	free(g);
}

uint64_t region_tick(struct router *r, uint64_t now_ns)
{
	if (r->closing == NULL)
		return UINT64_MAX;
	close_one(r);
	return r->closing != NULL ? now_ns : UINT64_MAX;
}

void region_free(struct router *r)
{
	while (r->closing != NULL)
		close_one(r);
}

/* ---- its beginning --------------------------------------------------------------------------- */

/* It keeps its size for good. @return -1: errno */
static int make_memory(uint64_t bytes)
{
	const int fd = gq_memfd("gpuq-region", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int error;

	if (fd < 0 ||
	    (ftruncate(fd, (off_t)bytes) == 0 && fcntl(fd, F_ADD_SEALS, UNRESIZABLE) == 0))
		return fd;
	error = errno;
	gq_sys_close(fd);
	errno = error;
	return -1;
}

/* @return false, and `a`: this user may not have so much */
static bool has_share(const struct router *r, const struct user *u, uint64_t bytes,
		      struct answer *a)
{
	*a = (struct answer){ .status = GQ_WIRE_OVERLOADED, .retry_ns = UINT64_C(1000000000) };
	if (u->regions >= r->cfg.uid_regions)
		a->text = "this user has too many regions (uid_regions)";
	else if (u->region_bytes > r->cfg.uid_region_bytes ||
		 size_of(bytes) > r->cfg.uid_region_bytes - u->region_bytes)
		a->text = "this user's regions have too many bytes (uid_region_bytes)";
	return a->text == NULL;
}

static struct region *make(struct router *r, struct peer *p, const struct gq_frame *f,
			   struct answer *a)
{
	const uint64_t bytes = gq__frame_u64(f, GQ_TLV_SIZE, 0);
	struct region *g;

	if (bytes == 0 || bytes > GQ_WIRE_MESSAGE_MAX) {
		*a = (struct answer){ .status = GQ_WIRE_INVALID,
				      .text = "a region has 1 to 16777216 bytes" };
		return NULL;
	}
	if (!has_share(r, p->user, bytes, a))
		return NULL;
	g = calloc(1, sizeof(*g));
	if (g == NULL || (g->fd = make_memory(bytes)) < 0) {
		*a = (struct answer){ .status = GQ_WIRE_FD_EXHAUSTED,
				      .retry_ns = UINT64_C(1000000000),
				      .text = "gpuqd has no descriptor or memory left for it" };
		free(g);
		return NULL;
	}
	g->user = p->user;
	g->id = ++p->regions_ever;
	g->asks = f->correlation;
	g->bytes = bytes;
	g->refs = 1;
	g->next = p->regions;
	p->regions = g;
	r->regions++;
	r->region_bytes += size_of(bytes);
	p->user->regions++;
	p->user->region_bytes += size_of(bytes);
	return g;
}

static void begin(struct router *r, struct peer *p, const struct gq_frame *f)
{
	struct gq_frame out = { .type = GQ_MESSAGE_ACK,
				.flags = GQ_FLAG_CHECKSUM,
				.correlation = f->correlation };
	uint64_t words[3] = { 0 };
	struct answer a;
	struct region *g = NULL;

	if (!p->link.transport->passes_regions)
		a = (struct answer){ .status = GQ_WIRE_UNSUPPORTED,
				     .text = "regions do not pass over this transport" };
	else if (r->draining)
		a = (struct answer){ .status = GQ_WIRE_SHUTTING_DOWN, .text = "gpuqd ends" };
	else if (token_may_make_region(r, p, f->length, &a))
		g = make(r, p, f, &a);
	if (g == NULL) {
		answer_nack(r, p, f->correlation, &a);
		return;
	}
	words[0] = g->id;
	words[2] = g->bytes;
	gq__frame_set(&out, GQ_TLV_TARGET, false, &f->correlation, sizeof(f->correlation));
	gq__frame_set(&out, GQ_TLV_REGION, false, words, sizeof(words));
	(void)peer_send_region(r, p, &out, 0, g);
}

/* ---- its use --------------------------------------------------------------------------------- */

/* What its owner has left out. Seals only grow, and without them nothing else would last. The size
 * was sealed before anybody had it: so there are as many blocks as pages, or fewer. */
static const char *complaint(const struct region *g)
{
	const int seals = fcntl(g->fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0 || (seals & F_SEAL_WRITE) == 0)
		return "the region is not sealed against writing (F_SEAL_WRITE)";
	if (fstat(g->fd, &st) != 0 || (uint64_t)st.st_blocks * BLOCK < size_of(g->bytes))
		return "the region has holes: not all of its pages have been allocated";
	return NULL;
}

static struct answer unknown(const struct peer *p, uint64_t id)
{
	if (id != 0 && id <= p->regions_ever)
		return (struct answer){ .status = GQ_WIRE_REGION_REVOKED,
					.text = "the region has been given back" };
	return (struct answer){ .status = GQ_WIRE_NOT_FOUND,
				.text = "this connection has no region of this id" };
}

static bool use(struct peer *p, uint64_t id, struct answer *a)
{
	struct region *g = *find(p, id);

	if (g == NULL) {
		*a = unknown(p, id);
		return false;
	}
	*a = (struct answer){ .status = GQ_WIRE_INVALID, .text = complaint(g) };
	g->sealed = a->text == NULL;
	return g->sealed;
}

struct region *region_named(const struct peer *p, const struct gq_frame *f, struct answer *a)
{
	static _Thread_local char text[160];
	const uint64_t id = gq__frame_u64(f, GQ_TLV_REGION, 0);
	const uint64_t offset = gq__frame_u64(f, GQ_TLV_REGION, 1);
	const uint64_t length = gq__frame_u64(f, GQ_TLV_REGION, 2);
	struct region *g = p->regions;

	while (g != NULL && g->id != id)
		g = g->next;
	if (g == NULL) {
		*a = unknown(p, id);
		return NULL;
	}
	*a = (struct answer){ .status = GQ_WIRE_INVALID };
	if (gq_frame_has(f, GQ_TLV_PAYLOAD))
		a->text = "it has a payload and a region; allowed: one of them";
	else if (gq_frame_has(f, GQ_TLV_IDEMPOTENCY))
		*a = (struct answer){
			.status = GQ_WIRE_UNSUPPORTED,
			.text = "a key of idempotency needs a payload, not a region"
		};
	else if (!g->sealed)
		a->text = "the region is not in use yet: it has to be sealed";
	else if (length == 0 || offset > g->bytes || length > g->bytes - offset) {
		snprintf(text, sizeof(text),
			 "offset is %" PRIu64 ", length %" PRIu64 "; the region has %" PRIu64
			 " bytes, allowed: 1 to these",
			 offset, length, g->bytes);
		a->text = text;
		a->error = "it names bytes outside of its region";
	}
	return a->text == NULL ? g : NULL;
}

/* ---- its end --------------------------------------------------------------------------------- */

static void leave(struct router *r, struct region **at)
{
	struct region *g = *at;

	*at = g->next;
	region_put(r, g);
}

static bool end(struct router *r, struct peer *p, uint64_t id, struct answer *a)
{
	struct region **at = find(p, id);

	if (*at == NULL) {
		*a = unknown(p, id);
		return false;
	}
	leave(r, at);
	away_settle(r, p); /* it has read the descriptor, or it could not name the region */
	return true;
}

void region_unsent(struct router *r, struct peer *p, struct region *g)
{
	struct region **at = find(p, g->id);

	if (*at == NULL)
		return; /* it has given it back before it had it */
	leave(r, at);
	answer_nack(r, p, g->asks,
		    &(struct answer){ .status = GQ_WIRE_FD_EXHAUSTED,
				      .retry_ns = UINT64_C(1000000000),
				      .text = "too many descriptors are on their way" });
}

void region_peer_gone(struct router *r, struct peer *p)
{
	while (p->regions != NULL)
		leave(r, &p->regions);
}

void region_asked(struct router *r, struct peer *p, const struct gq_frame *f)
{
	const uint64_t id = gq__frame_u64(f, GQ_TLV_REGION, 0);
	const bool begins = gq__frame_u32(f, GQ_TLV_ACTION, 0) == 1;
	struct answer a = { .status = GQ_WIRE_INVALID,
			    .text = "a size for a new region, or the id of one; not both" };
	bool done = false;

	if (gq_frame_has(f, GQ_TLV_SIZE) != gq_frame_has(f, GQ_TLV_REGION)) {
		if (begins && gq_frame_has(f, GQ_TLV_SIZE)) {
			begin(r, p, f);
			return;
		}
		if (gq_frame_has(f, GQ_TLV_REGION))
			done = begins ? use(p, id, &a) : end(r, p, id, &a);
	}
	if (done)
		answer_ack(r, p, f->correlation, 0);
	else
		answer_nack(r, p, f->correlation, &a);
}
