/* SPDX-License-Identifier: Apache-2.0 */
/* hostile.c - what a client can do to gpuqd; see hostile.h. */
#include "hostile.h"

#include "device/remote/wire.h"

#include <gpuq/broker.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

const char *const hostile_name[HOSTILE_KINDS] = { "rings", "memory", "flood", "deaf", "services" };

enum { CAPACITY = 64, FLOOD = 40, PATIENCE_MS = 5000 };

/* A connection whose memory is mapped here. */
struct raw {
	struct gq_wire_hello hello;
	struct gq_remote_layout layout;
	int socket, memfd, bell;
	uint8_t *memory;
	struct gq_remote_page *page;
};

static uint64_t roll(struct hostile *h) /* xorshift (Marsaglia, 2003) */
{
	h->random ^= h->random << 13;
	h->random ^= h->random >> 7;
	h->random ^= h->random << 17;
	return h->random;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

static void say(int fd, const void *what, size_t bytes)
{
	(void)!sendto(fd, what, bytes, MSG_NOSIGNAL | MSG_DONTWAIT, NULL, 0);
}

/* @return bytes; 0 and less: nothing came */
static ssize_t hear(int fd, union gq_wire *w, int fds[2])
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))];
	struct iovec io = { .iov_base = w, .iov_len = sizeof(*w) };
	struct msghdr m = { .msg_iov = &io,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	const struct cmsghdr *c;
	ssize_t n;

	if (poll(&ready, 1, PATIENCE_MS) != 1)
		return 0;
	n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (c != NULL && c->cmsg_len == CMSG_LEN(2 * sizeof(int)))
		memcpy(fds, CMSG_DATA(c), 2 * sizeof(int));
	return n;
}

static void raw_close(struct raw *r)
{
	if (r->memory != NULL)
		munmap(r->memory, r->layout.bytes);
	if (r->memfd >= 0)
		close(r->memfd);
	if (r->bell >= 0)
		close(r->bell);
	if (r->socket >= 0)
		close(r->socket);
}

/* Up to the memory. @return false: gpuqd is not there, or has no room */
static bool raw_connect(const struct hostile *h, struct raw *r)
{
	int fds[2] = { -1, -1 };
	void *memory = MAP_FAILED;
	union gq_wire w;

	*r = (struct raw){ .socket = connect_to(h->socket), .memfd = -1, .bell = -1 };
	r->hello = (struct gq_wire_hello){ .head = gq_wire_head_of(GQ_WIRE_HELLO, sizeof(r->hello)),
					   .capacity = CAPACITY,
					   .slot_bytes = 64,
					   .result_bytes = 64,
					   .start_pos = CAPACITY };
	snprintf(r->hello.queue, sizeof(r->hello.queue), "%s", h->queue);
	r->layout = gq_remote_lay_out(&r->hello);
	if (r->socket < 0)
		return false;
	say(r->socket, &r->hello, sizeof(r->hello));
	if (hear(r->socket, &w, fds) > 0 && w.head.type == GQ_WIRE_WELCOME && fds[0] >= 0) {
		r->memfd = fds[0];
		r->bell = fds[1];
		memory = mmap(NULL, r->layout.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	}
	if (memory != MAP_FAILED) {
		r->memory = memory;
		r->page = memory;
		return true;
	}
	raw_close(r);
	return false;
}

/* @return false: gpuqd is not there, or has no room */
static bool raw_open(const struct hostile *h, struct raw *r)
{
	const struct gq_wire_start start = { gq_wire_head_of(GQ_WIRE_START, sizeof(start)) };
	int fds[2] = { -1, -1 };
	union gq_wire w;

	if (!raw_connect(h, r))
		return false;
	say(r->socket, &start, sizeof(start));
	if (hear(r->socket, &w, fds) > 0 && w.head.type == GQ_WIRE_STARTED)
		return true;
	raw_close(r);
	return false;
}

static bool is_closed(int fd)
{
	struct pollfd end = { .fd = fd, .events = POLLRDHUP };

	return poll(&end, 1, 0) > 0 && (end.revents & (POLLRDHUP | POLLHUP)) != 0;
}

static struct gq_word_ring class_ring(const struct raw *r, uint32_t class)
{
	const uint32_t order = gq_log2(CAPACITY);
	uint64_t *words = (uint64_t *)(void *)(r->memory + r->layout.words);

	return gq_word_ring_of(words + (1 + class) * CAPACITY, NULL, NULL, order,
			       gq_id_shift(order) + GQ_USE_BITS, order);
}

/* Whoever punches holes before it says START is not served. @return what must not have been
 * possible */
static const char *start_with_holes(const struct hostile *h)
{
	const struct gq_wire_start start = { gq_wire_head_of(GQ_WIRE_START, sizeof(start)) };
	int fds[2] = { -1, -1 };
	const char *wrong = NULL;
	union gq_wire w;
	struct raw r;

	if (!raw_connect(h, &r))
		return NULL;
	if (fallocate(r.memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0) {
		say(r.socket, &start, sizeof(start));
		if (hear(r.socket, &w, fds) > 0 && w.head.type == GQ_WIRE_STARTED)
			wrong = "memory with holes was served";
	}
	raw_close(&r);
	return wrong;
}

/* An entry that could be the next of a class, of a slot that may be there. */
static void publish_nonsense(const struct raw *r, uint64_t random)
{
	const struct gq_word_ring ring = class_ring(r, (uint32_t)(random % GQ_CLASSES));
	const uint64_t pos = r->hello.start_pos + (random >> 8) % (2 * CAPACITY);

	gq_store_release_u64(gq_word_ring_entry(&ring, pos),
			     gq_word_ring_tag(&ring, pos) | (random >> 40) % (CAPACITY + 1));
}

static void ring_bell(const struct raw *r)
{
	const uint64_t one = 1;

	(void)!write(r->bell, &one, sizeof(one));
}

static void write_rings(struct hostile *h, const struct raw *r)
{
	uint64_t *words = (uint64_t *)(void *)r->memory;

	for (int i = 0; i < 200000; i++) {
		const uint64_t random = roll(h);

		if (i % 2 == 0)
			publish_nonsense(r, random);
		else
			gq_store_relaxed_u64(
				&words[(random >> 8) % (r->layout.bytes / sizeof(*words))],
				roll(h));
		if (i % 1024 != 0)
			continue;
		ring_bell(r);
		if (is_closed(r->socket))
			return;
	}
}

/* @return what must not have been possible */
static const char *cut_memory(struct hostile *h, const struct raw *r)
{
	const off_t bytes = (off_t)r->layout.bytes;

	if (ftruncate(r->memfd, 0) == 0 || ftruncate(r->memfd, bytes - 4096) == 0)
		return "the memory could be cut";
	if (ftruncate(r->memfd, bytes + 4096) == 0)
		return "the memory could be made larger";
	if (fcntl(r->memfd, F_ADD_SEALS, F_SEAL_WRITE) == 0)
		return "the memory could be sealed";
	for (int i = 0; i < 200 && !is_closed(r->socket); i++) {
		if (fallocate(r->memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, bytes) ==
			    0 ||
		    madvise(r->memory, r->layout.bytes, MADV_REMOVE) == 0)
			return "holes could be punched";
		publish_nonsense(r, roll(h));
		ring_bell(r);
	}
	return NULL;
}

static void flood(struct hostile *h)
{
	int fd[FLOOD];

	for (int i = 0; i < FLOOD; i++) {
		const uint64_t random[4] = { roll(h), roll(h), roll(h), roll(h) };

		fd[i] = connect_to(i % 3 == 0 ? h->services : h->socket);
		if (fd[i] >= 0 && i % 2 == 0)
			say(fd[i], random, 1 + random[0] % sizeof(random));
	}
	for (int i = 0; i < FLOOD; i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

/* Message `n` of an honest client, but for what it does not read. */
static void publish(const struct raw *r, uint64_t n)
{
	const struct gq_word_ring ring = class_ring(r, 1);
	const uint64_t slot = n % CAPACITY, pos = r->hello.start_pos + n;
	struct gq_slot *s = (struct gq_slot *)(void *)(r->memory + r->layout.slots +
						       slot * r->layout.slot_stride);

	s->msg_id = slot;
	s->len = 8;
	s->flags = 0;
	gq_store_seq_cst_u64(gq_word_ring_entry(&ring, pos), gq_word_ring_tag(&ring, pos) | slot);
}

static void be_deaf(struct hostile *h, const struct raw *r)
{
	uint32_t steps = gq_load_relaxed_u32(&h->steps);
	uint64_t sent = 0;

	steps = steps != 0 ? steps : 20000;
	for (uint32_t i = 0; i < steps && !is_closed(r->socket); i++) {
		const uint64_t tail = gq_load_acquire_u64(&r->page->done_tail);
		const uint64_t done = tail != 0 ? tail - r->hello.start_pos : 0;

		gq_store_relaxed_u64(&h->served, done);
		if (gq_load_relaxed_u32(&h->steps) != 0)
			steps = gq_load_relaxed_u32(&h->steps);
		gq_store_seq_cst_u64(&r->page->asleep, 1);
		if (sent < done + CAPACITY)
			publish(r, sent++);
		if (gq_load_seq_cst_u64(&r->page->daemon_asleep) != 0)
			ring_bell(r);
	}
}

/* Requests that the window allows, whose answers it never reads. */
static void ask_and_leave(const struct hostile *h)
{
	const BrokerCall call = { .service = h->op, .payload = h, .bytes = sizeof(*h) };
	char endpoint[120];
	const BrokerConfig cfg = { .endpoint = endpoint, .timeout_ms = PATIENCE_MS };
	BrokerClient *c;
	uint64_t id;

	snprintf(endpoint, sizeof(endpoint), "unix:%s", h->services);
	c = q_broker_connect(&cfg);
	if (c == NULL)
		return;
	while (q_broker_submit(c, &call, &id) == Q_OK)
		;
	poll(NULL, 0, 5);
	q_broker_close(c);
}

/* Its first frame is refused, and it goes on. What comes is not read. */
static void send_frames(struct hostile *h)
{
	uint64_t frame[512];
	const int fd = connect_to(h->services);

	for (int i = 0; fd >= 0 && i < 2000 && !is_closed(fd); i++) {
		for (size_t k = 0; k < 8; k++)
			frame[roll(h) % 512] = roll(h);
		say(fd, frame, roll(h) % sizeof(frame));
	}
	if (fd >= 0)
		close(fd);
	ask_and_leave(h);
}

const char *hostile_round(struct hostile *h, enum hostile_kind kind)
{
	const char *wrong = NULL;
	struct raw r;

	if (kind == HOSTILE_FLOOD || kind == HOSTILE_SERVICES) {
		if (kind == HOSTILE_FLOOD)
			flood(h);
		else
			send_frames(h);
		return NULL;
	}
	if (kind == HOSTILE_MEMORY)
		wrong = start_with_holes(h);
	if (wrong != NULL || !raw_open(h, &r))
		return wrong;
	if (kind == HOSTILE_RINGS)
		write_rings(h, &r);
	else if (kind == HOSTILE_MEMORY)
		wrong = cut_memory(h, &r);
	else
		be_deaf(h, &r);
	raw_close(&r);
	return wrong;
}
