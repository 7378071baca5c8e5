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

#include <fcntl.h>
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

/* A memfd that keeps its size: nobody can cut it under the other. */
static int make_memfd(const char *name, size_t bytes)
{
	int fd = memfd_create(name, MFD_ALLOW_SEALING | MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
		perror(name);
		exit(1);
	}
	return fd;
}

/* Maps it, if it is such a one, whichever program made it; for reading only, if it is not to be
 * written. */
static void *map(int fd, size_t bytes, bool writable)
{
	const int seals = fcntl(fd, F_GET_SEALS);
	void *memory = MAP_FAILED;

	if (seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && lseek(fd, 0, SEEK_END) >= (off_t)bytes)
		memory = mmap(NULL, bytes, PROT_READ | (writable ? PROT_WRITE : 0),
			      (seals & F_SEAL_WRITE) != 0 ? MAP_PRIVATE : MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED) {
		fprintf(stderr, "a memfd is not sealed, or cannot be mapped\n");
		exit(1);
	}
	return memory;
}

/* What the two share, by descriptors: here they are inherited; unrelated processes would pass them
 * over a socket. */
static struct {
	int to_server, to_client; /* rings */
	int table, questions, answers;
	size_t table_bytes;
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

	must(q_ring_attach_fd(world.to_server, &in), "attach");
	must(q_ring_attach_fd(world.to_client, &out), "attach");
	must(q_region_table_attach(map(world.table, world.table_bytes, true), world.table_bytes,
				   &table),
	     "attach");
	must(q_ring_bind_regions(in, table), "bind");
	must(q_ring_bind_regions(out, table), "bind");
	must(q_region_register_fd(table, world.answers, Q_REGION_APPEND_ONLY, &mine), "register");

	while (next(in, &question)) {
		const void *bytes;
		const float *vector;
		MessageDescriptor reply = { .region = mine, .length = sizeof(answer) };
		double sum = 0;

		if (!mapped) { /* the client's region: it is sealed, so reading is all we can do */
			const void *base = map(world.questions, VECTORS * VECTOR_BYTES, false);

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
	float *vectors = map(world.questions, VECTORS * VECTOR_BYTES, true);
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

	world.table_bytes = q_region_table_required_memory(4);
	world.table = make_memfd("table", world.table_bytes);
	world.questions = make_memfd("questions", VECTORS * VECTOR_BYTES);
	world.answers = make_memfd("answers", VECTORS * VECTOR_BYTES);
	must(q_ring_create_fd(&config, &world.to_server, &out), "create");
	must(q_ring_create_fd(&config, &world.to_client, &in), "create");
	must(q_region_table_create_in(4, map(world.table, world.table_bytes, true),
				      world.table_bytes, &table),
	     "create");
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
			const void *base = map(world.answers, VECTORS * VECTOR_BYTES, false);

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
