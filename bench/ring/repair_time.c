/* SPDX-License-Identifier: Apache-2.0 */
/*
 * repair_time.c - how long a ring is of no use after a peer has been killed.
 *
 * A ring of one entry; a child sends and receives without pause and is killed at a random moment,
 * so that the only cell is often in its hands. The time is from the kill to a message of ours that
 * has gone in and come out.
 *
 *     ring_repair_time [KILLS]       default 200, in each mode
 */
#include <gpuq/ring.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void must(QueueStatus status, const char *what)
{
	if (status != Q_OK) {
		fprintf(stderr, "%s: %s: %s\n", what, q_status_string(status), q_last_error());
		exit(1);
	}
}

static void be_the_victim(void *memory, size_t bytes)
{
	RingQueue *r;
	char text[64] = "";

	must(q_ring_attach(memory, bytes, &r), "attach");
	for (;;) {
		size_t len = sizeof(text);

		q_ring_send(r, text, sizeof(text), Q_PRIORITY_NORMAL);
		q_ring_recv(r, text, &len);
	}
}

static void measure(uint32_t flags, int kills)
{
	const RingConfig cfg = { .ring_size = 1, .max_msg_size = 64, .flags = flags };
	const size_t bytes = q_ring_required_memory(&cfg);
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	double *ms = calloc((size_t)kills, sizeof(*ms));
	char text[64] = "";
	RingStats stats;
	RingQueue *r;

	if (memory == MAP_FAILED || ms == NULL)
		exit(1);
	must(q_ring_create(&cfg, memory, bytes, &r), "create");
	for (int i = 0; i < kills; i++) {
		size_t len = sizeof(text);
		const pid_t pid = fork();
		double killed;

		if (pid == 0)
			be_the_victim(memory, bytes);
		usleep((useconds_t)(2000 + rand() % 3000));
		kill(pid, SIGKILL);
		killed = now_ms();
		waitpid(pid, NULL, 0);
		while (q_ring_recv(r, text, &len) == Q_OK)
			len = sizeof(text);
		must(q_ring_send_timeout(r, text, sizeof(text), Q_PRIORITY_NORMAL, 30000), "send");
		len = sizeof(text);
		must(q_ring_recv_timeout(r, text, &len, 30000), "receive");
		ms[i] = now_ms() - killed;
	}
	must(q_ring_stats(r, &stats), "stats");
	qsort(ms, (size_t)kills, sizeof(*ms), compare);
	printf("%s: %d kills, %llu inside a call; ms until a message passes: p50 %.2f, p90 %.1f, "
	       "max %.1f\n",
	       (flags & Q_RING_SINGLE) != 0 ? "single" : "many", kills,
	       (unsigned long long)stats.repairs, ms[kills / 2], ms[kills * 9 / 10], ms[kills - 1]);
	q_ring_destroy(r);
	munmap(memory, bytes);
	free(ms);
}

int main(int argc, char **argv)
{
	const int kills = argc > 1 ? atoi(argv[1]) : 200;

	if (kills < 1) {
		fprintf(stderr, "usage: ring_repair_time [KILLS]\n");
		return 2;
	}
	measure(0, kills);
	measure(Q_RING_SINGLE, kills);
	return 0;
}
