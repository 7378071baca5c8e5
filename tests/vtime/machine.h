/* SPDX-License-Identifier: Apache-2.0 */
/* machine.h - what fibers, costs and host of a run in virtual time share. See vtime.h. */
#ifndef GPUQ_TEST_VTIME_MACHINE_H
#define GPUQ_TEST_VTIME_MACHINE_H

#include "run.h"

#include <ucontext.h>

enum {
	VT_MAX_OPS = 48,    /* operations in one loop over lanes */
	VT_MAX_LINES = 128, /* different lines that they touch */
	VT_UNIFORM = 32,    /* the lane while no loop over lanes is under way */
};

struct fiber {
	struct vt_self self; /* first: vt_self points here */
	ucontext_t context;
	void *stack;
	uint64_t clock, number;
	uint64_t pending; /* when the last of the loads under way arrives */
	uint64_t stored;  /* when the last store has crossed PCIe */
	/* The loop over lanes under way: its operations are the warp's. */
	uint32_t lane, op, ops, lines;
	uint64_t begun[VT_MAX_OPS];
	uintptr_t line[VT_MAX_LINES];
	void (*main)(struct fiber *);
};

/* The run under way. */
struct vt_machine {
	const struct vt_scenario *s;
	struct vt_counts counts;
	struct gq_grid grid;
	char *pinned, *pinned_next, *pinned_end; /* the host's memory */
	uint64_t published, reaped;              /* messages, so far ... */
	uint64_t *sent_ns, *done_ns;             /* ... and when each was */
	uint32_t gone;                           /* units that have left ... */
	uint64_t gone_ns;                        /* ... and when the last of them has */
	const struct fiber *holder;              /* that has held a run's copies last, to claim */
	uint32_t stalls; /* units that came by where one is to stand still */
};
extern struct vt_machine vt_m;

/* ---- fibers: fiber.c */

struct fiber *vt_current(void);
void vt_yield(void);        /* the running fiber's clock has moved */
void vt_spend(uint64_t ns); /* ... moves by so much */
void vt_begin_fibers(uint32_t n);
void vt_add_fiber(void (*main)(struct fiber *), struct vt_self self);
void vt_run_fibers(void); /* until one calls vt_leave(), which leaves all where they are */
void vt_leave(void);
void vt_end_fibers(void);

/* ---- what operations take: cost.c */

void vt_begin_costs(void);
void vt_end_costs(void);

/* ---- the host: host.c */

void vt_begin_host(void);
/* What the producer, the consumer, a unit and, of the bare flag, both sides do. */
void vt_produce(struct fiber *f);
void vt_consume(struct fiber *f);
void vt_unit(struct fiber *f);
void vt_ask(struct fiber *f);
void vt_answer(struct fiber *f);
void vt_end_host(void);

#endif /* GPUQ_TEST_VTIME_MACHINE_H */
