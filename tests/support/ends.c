/* SPDX-License-Identifier: Apache-2.0 */
/* ends.c - clients of a dispatcher of this process. */
/* support.h has a send() of its own. */
#define send send_on_socket
#include <sys/socket.h>
#undef send

#include "ends.h"

#ifdef GPUQ_TEST_BROKER

#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void note(void *user, struct client *c, enum note_kind kind, const char *text)
{
	struct end *e = c->session;

	(void)user;
	(void)text;
	gq_exchange_seq_cst_u32(kind == NOTE_READY    ? &e->ready
				: kind == NOTE_BROKEN ? &e->broken
						      : &e->gone,
				1);
}

void end_await(const uint32_t *word)
{
	for (unsigned i = 0; gq_load_seq_cst_u32(word) == 0; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
}

struct dispatcher *ends_start(const char *processor, uint32_t capacity, uint32_t inline_us)
{
	char error[BROKER_ERROR_ROOM];
	struct broker_queue queue;
	struct dispatcher *d;

	broker_queue_defaults(&queue, "default");
	queue.device = Q_DEVICE_CPU;
	queue.capacity = capacity;
	queue.consumers = 1;
	queue.inline_us = inline_us; /* 0: one of its threads leads always */
	memcpy(queue.processor, processor, strlen(processor) + 1);
	d = dispatcher_start(&queue, NULL, NULL, NULL, NULL, note, NULL, error);
	if (d == NULL)
		fail_msg("%s", error);
	return d;
}

void end_open(struct end *e, uint32_t uid, uint32_t capacity)
{
	uint64_t bytes;
	int pair[2];

	memset(e, 0, sizeof(*e));
	e->hello = (struct gq_wire_hello){ .capacity = capacity,
					   .slot_bytes = 64,
					   .result_bytes = 64,
					   /* so that zeros are entries of the lap before */
					   .start_pos = capacity };
	bytes = gq_remote_lay_out(&e->hello).bytes;
	e->page = aligned_alloc(4096, bytes);
	assert_non_null(e->page);
	memset(e->page, 0, bytes);
	assert_true(client_open(&e->c, &e->hello, (uint8_t *)e->page, capacity));
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	e->c.socket = pair[0];
	e->socket = pair[1];
	e->c.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	e->c.best = GQ_CLASSES - 1;
	e->c.uid = uid;
	e->c.session = e;
}

void end_close(struct end *e)
{
	client_close(&e->c);
	close(e->c.socket);
	close(e->c.bell);
	close(e->socket);
	free(e->page);
}

void end_join(struct dispatcher *d, struct end *e)
{
	dispatcher_add(d, &e->c);
	end_await(&e->ready);
}

void end_leave(struct dispatcher *d, struct end *e)
{
	dispatcher_remove(d, &e->c, 0);
	end_await(&e->gone);
	end_close(e);
}

void end_publish(struct end *e, uint64_t slot, uint64_t payload)
{
	const struct gq_word_ring *ring = &e->c.ready[0]; /* constant */
	const uint64_t pos = e->hello.start_pos + e->sent++;
	const uint64_t there = slot % e->hello.capacity;
	struct gq_slot *s = (struct gq_slot *)(void *)(e->c.memory + e->c.layout.slots +
						       there * e->c.layout.slot_stride);

	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): end_open() asserts its memory */
	s->msg_id = slot;
	s->cancel = ~slot;
	s->len = sizeof(payload);
	memcpy((uint8_t *)s + GQ_PAYLOAD_OFFSET, &payload, sizeof(payload));
	gq_store_seq_cst_u64(gq_word_ring_entry(ring, pos), gq_word_ring_tag(ring, pos) | slot);
}

void end_ring(const struct end *e)
{
	const uint64_t one = 1;

	assert_int_equal(write(e->c.bell, &one, sizeof(one)), sizeof(one));
}

#endif /* GPUQ_TEST_BROKER */
