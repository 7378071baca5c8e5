/* SPDX-License-Identifier: Apache-2.0 */
/* gate.c - one thread at a time adds bytes to a pipe; the others wait, up to their time limit. */
#include "host/pipe/pipe.h"

/* A failed swap is no sequentially consistent look, so look first. */
static bool try(Pipe *p)
{
	return gq_load_seq_cst_u64(&p->writing) == 0 && /* [sleep.look] */
	       gq_cas_seq_cst_u64(&p->writing, 0, 1);   /* [pipe.write_begin] acquire */
}

bool gq__pipe_gate_enter(Pipe *p, uint64_t deadline_ns)
{
	struct gq_wait wait;
	bool inside = false;

	if (__builtin_expect(try(p), 1))
		return true;
	gq__wait_begin(&wait, &p->gate, deadline_ns, GQ_SPIN_NS);
	while (!inside && gq__wait_next(&wait))
		inside = try(p);
	gq__wait_end(&wait);
	return inside;
}

void gq__pipe_gate_leave(Pipe *p)
{
	gq_exchange_seq_cst_u64(&p->writing, 0); /* [pipe.write_end] release */
	/* One thread can come in; if it is not one of those that sleep, it wakes the next. */
	if (gq_event_armed(&p->gate)) /* [wake.look] */
		gq__event_wake(&p->gate, 1);
}
