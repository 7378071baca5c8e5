/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer_uring.c - io_uring: submit `batch` NOPs, reap `batch` completions, and again. There is no
 * payload but the 64 bytes of the submission entry itself: what its two rings cost.
 *
 *   enter        io_uring_submit_and_wait(): one system call a batch
 *   sqpoll       a kernel thread on CPU 1 polls for submissions; CPU 0 submits and polls
 */
#include "harness.h"

#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t ticks[BENCH_PINGS];

static void round_trip(struct io_uring *ring, unsigned batch, bool sqpoll)
{
	struct io_uring_cqe *cqe;
	unsigned seen = 0;

	for (unsigned i = 0; i < batch; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(ring);

		io_uring_prep_nop(sqe);
		sqe->user_data = i;
	}
	if (sqpoll)
		io_uring_submit(ring);
	else
		io_uring_submit_and_wait(ring, batch);
	while (seen < batch) {
		unsigned head, n = 0;

		io_uring_for_each_cqe(ring, head, cqe)
		{
			if (cqe->res != 0)
				bench_die("a NOP failed");
			n++;
		}
		io_uring_cq_advance(ring, n);
		seen += n;
		if (n == 0)
			bench_pause();
	}
}

static void run_once(unsigned flags, unsigned batch, unsigned rounds, double *rate)
{
	struct io_uring_params p;
	struct io_uring ring;
	uint64_t begin;
	int err;

	memset(&p, 0, sizeof(p));
	p.flags = flags;
	p.sq_thread_cpu = (unsigned)bench_cpu(1);
	p.sq_thread_idle = 1000;
	err = io_uring_queue_init_params(BENCH_SLOTS, &ring, &p);
	if (err != 0) {
		/* Containers often forbid it. */
		fprintf(stderr, "bench: no io_uring: %s\n", strerror(-err));
		exit(BENCH_SKIPPED);
	}
	for (unsigned i = 0; i < rounds / 10; i++)
		round_trip(&ring, batch, flags != 0);
	begin = bench_now_ns();
	for (unsigned i = 0; i < rounds; i++) {
		const uint64_t sent = bench_ticks();

		round_trip(&ring, batch, flags != 0);
		ticks[i] = (uint32_t)(bench_ticks() - sent);
	}
	*rate = (double)rounds * batch * 1e3 / (double)(bench_now_ns() - begin);
	io_uring_queue_exit(&ring);
}

static void run(const char *variant, unsigned flags, unsigned batch)
{
	const unsigned rounds = batch == 1 ? bench_pings : bench_pings / 10;
	const struct bench_case c = {
		"io_uring", variant, "submit", "spin", flags != 0 ? "0<->1" : "0", 64, batch
	};
	double rates[BENCH_RUNS];
	struct bench_latency l;

	for (int r = 0; r < bench_runs; r++) {
		BENCH_NEAR(run_once(flags, batch, rounds, &rates[r]));
		bench_note_latency(&l, r, ticks, rounds);
	}
	bench_emit_latency(&c, &l);
	bench_emit(&c, "rate", "Mmsg/s", rates);
}

int main(int argc, char **argv)
{
	bench_begin(argc, argv);
	if (!bench_wants("submit"))
		return 0;
	run("enter", 0, 1);
	run("enter", 0, 32);
	run("sqpoll", IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF, 1);
	run("sqpoll", IORING_SETUP_SQPOLL | IORING_SETUP_SQ_AFF, 32);
	return 0;
}
