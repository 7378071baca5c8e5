/* SPDX-License-Identifier: Apache-2.0 */
/*
 * vectors.c - two processes exchange vectors of 768 floats without copying one.
 *
 * The client has a memfd full of vectors, seals it, and sends descriptors: which vector, 24 bytes.
 * The server reads each vector where it lies, appends it, normalised, to a region of its own, and
 * sends a descriptor of that back. Both give back what they have read, so that the regions can be
 * freed.
 */
#include <gpuq/ring.h>

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FLOATS = 768, VECTORS = 1000, RING_SIZE = 64 };
#define VECTOR_BYTES (FLOATS * sizeof(float))

static void must(QueueStatus status, const char *what)
{
	if (status != Q_OK) {
		fprintf(stderr, "%s: %s: %s\n", what, q_status_string(status), q_last_error());
		exit(1);
	}
}

static void *shared(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED) {
		perror("mmap");
		exit(1);
	}
	return memory;
}

static int make_memfd(const char *name)
{
	int fd = memfd_create(name, MFD_ALLOW_SEALING | MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)(VECTORS * VECTOR_BYTES)) != 0) {
		perror(name);
		exit(1);
	}
	return fd;
}

/* What the two share: here it is inherited; unrelated processes would pass descriptors of it. */
static struct {
	void *to_server, *to_client, *table;
	size_t ring_bytes, table_bytes;
	int questions, answers; /* memfds */
} world;

/* Receives the next message, a descriptor; waits for it. False: closed and all received. */
static bool next(RingQueue *ring, MessageDescriptor *descriptor)
{
	RingMessage message;
	QueueStatus status;

	while ((status = q_ring_recv_typed(ring, NULL, 0, &message)) == Q_ERR_EMPTY)
		usleep(50); /* a server with more to do would not: see q_ring_recv_timeout() */
	if (status == Q_ERR_SHUTDOWN)
		return false;
	must(status, "receive");
	*descriptor = message.descriptor;
	return true;
}

static void send_descriptor(RingQueue *ring, const MessageDescriptor *descriptor)
{
	QueueStatus status;

	while ((status = q_ring_send_descriptor(ring, descriptor, Q_PRIORITY_NORMAL)) == Q_ERR_FULL)
		usleep(50);
	must(status, "send");
}

/* ---- server ------------------------------------------------------------------------------- */

static int serve(void)
{
	RingQueue *in, *out;
	RegionTable *table;
	RegionHandle mine;
	MessageDescriptor question;
	float answer[FLOATS];
	bool mapped = false;

	must(q_ring_attach(world.to_server, world.ring_bytes, &in), "attach");
	must(q_ring_attach(world.to_client, world.ring_bytes, &out), "attach");
	must(q_region_table_attach(world.table, world.table_bytes, &table), "attach");
	must(q_ring_bind_regions(in, table), "bind");
	must(q_ring_bind_regions(out, table), "bind");
	must(q_region_register_fd(table, world.answers, Q_REGION_APPEND_ONLY, &mine), "register");

	while (next(in, &question)) {
		const void *bytes;
		const float *vector;
		MessageDescriptor reply = { .region = mine, .length = sizeof(answer) };
		double sum = 0;

		if (!mapped) { /* the client's region: it is sealed, so reading is all we can do */
			const void *base = mmap(NULL, VECTORS * VECTOR_BYTES, PROT_READ, MAP_SHARED,
						world.questions, 0);

			must(q_region_map(table, question.region, base, VECTORS * VECTOR_BYTES),
			     "map");
			mapped = true;
		}
		must(q_region_resolve(table, &question, &bytes), "resolve");
		vector = bytes;
		for (int i = 0; i < FLOATS; i++)
			sum += (double)vector[i] * vector[i];
		for (int i = 0; i < FLOATS; i++)
			answer[i] = (float)(vector[i] / sqrt(sum));
		must(q_region_release(table, &question), "release");
		must(q_region_append(table, mine, answer, sizeof(answer), &reply.offset), "append");
		send_descriptor(out, &reply);
	}
	must(q_ring_close(out), "close");
	must(q_region_retire(table, mine), "retire");
	q_ring_destroy(in);
	q_ring_destroy(out);
	q_region_table_destroy(table);
	return 0;
}

/* ---- client ------------------------------------------------------------------------------- */

static RegionHandle register_questions(RegionTable *table)
{
	float *vectors = mmap(NULL, VECTORS * VECTOR_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED,
			      world.questions, 0);
	RegionHandle handle;

	for (int i = 0; i < VECTORS * FLOATS; i++)
		vectors[i] = (float)(i % 1013) - 500;
	munmap(vectors, VECTORS * VECTOR_BYTES); /* nobody may have it writable when it is sealed */
	must(q_region_register_fd(table, world.questions, Q_REGION_IMMUTABLE, &handle), "register");
	return handle;
}

int main(void)
{
	const RingConfig config = { .ring_size = RING_SIZE, .max_msg_size = 64 };
	RingQueue *out, *in;
	RegionTable *table;
	RegionHandle questions;
	MessageDescriptor answer;
	int received = 0, sent = 0, status;
	bool mapped = false;
	pid_t pid;

	world.ring_bytes = q_ring_required_memory(&config);
	world.table_bytes = q_region_table_required_memory(4);
	world.to_server = shared(world.ring_bytes);
	world.to_client = shared(world.ring_bytes);
	world.table = shared(world.table_bytes);
	world.questions = make_memfd("questions");
	world.answers = make_memfd("answers");
	must(q_ring_create(&config, world.to_server, world.ring_bytes, &out), "create");
	must(q_ring_create(&config, world.to_client, world.ring_bytes, &in), "create");
	must(q_region_table_create_in(4, world.table, world.table_bytes, &table), "create");
	must(q_ring_bind_regions(out, table), "bind");
	must(q_ring_bind_regions(in, table), "bind");

	pid = fork();
	if (pid == 0)
		return serve();

	questions = register_questions(table);
	while (received < VECTORS) {
		const void *bytes;
		double sum = 0;

		while (sent < VECTORS && sent - received < RING_SIZE) {
			MessageDescriptor question = { .region = questions,
						       .offset = (uint64_t)sent * VECTOR_BYTES,
						       .length = VECTOR_BYTES };

			send_descriptor(out, &question);
			sent++;
		}
		if (!next(in, &answer)) {
			fprintf(stderr, "the server left after %d answers\n", received);
			return 1;
		}
		if (!mapped) {
			const void *base = mmap(NULL, VECTORS * VECTOR_BYTES, PROT_READ, MAP_SHARED,
						world.answers, 0);

			must(q_region_map(table, answer.region, base, VECTORS * VECTOR_BYTES),
			     "map");
			mapped = true;
		}
		must(q_region_resolve(table, &answer, &bytes), "resolve");
		for (int i = 0; i < FLOATS; i++)
			sum += (double)((const float *)bytes)[i] * ((const float *)bytes)[i];
		if (fabs(sum - 1) > 1e-4) {
			fprintf(stderr, "vector %d has length %f\n", received, sqrt(sum));
			return 1;
		}
		must(q_region_release(table, &answer), "release");
		received++;
	}
	must(q_ring_close(out), "close");
	must(q_region_retire(table, questions), "retire");
	if (waitpid(pid, &status, 0) != pid || status != 0)
		return 1;
	printf("%d vectors of %d floats there and back, none of them copied by the rings\n",
	       received, FLOATS);
	q_ring_destroy(out);
	q_ring_destroy(in);
	q_region_table_destroy(table);
	return 0;
}
