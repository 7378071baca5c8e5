/* SPDX-License-Identifier: Apache-2.0 */
/* fiber.c - virtual time: fibers, of which the one with the smallest clock runs. See vtime.h. */
#include "machine.h"

#include <stdlib.h>
#include <sys/mman.h>

enum { STACK = 64 << 10 };

struct vt_self *vt_self;

static struct fiber *fibers, **heap; /* heap: by clock, then number; heap[0] runs or is next */
static uint32_t n_fibers;
static ucontext_t main_context;

struct fiber *vt_current(void)
{
	return (struct fiber *)(void *)vt_self;
}

static bool before(const struct fiber *a, const struct fiber *b)
{
	return a->clock != b->clock ? a->clock < b->clock : a->number < b->number;
}

static void sift(uint32_t i)
{
	for (;;) {
		uint32_t least = i;

		for (uint32_t k = 2 * i + 1; k <= 2 * i + 2 && k < n_fibers; k++)
			if (before(heap[k], heap[least]))
				least = k;
		if (least == i)
			return;
		struct fiber *moved = heap[i];

		heap[i] = heap[least];
		heap[least] = moved;
		i = least;
	}
}

/* The running fiber is heap[0], and its clock has moved. */
void vt_yield(void)
{
	struct fiber *self = vt_current();

	sift(0);
	if (heap[0] == self)
		return;
	vt_self = &heap[0]->self;
	swapcontext(&self->context, &heap[0]->context);
}

void vt_spend(uint64_t ns)
{
	vt_current()->clock += ns;
	vt_yield();
}

static void entry(unsigned int low, unsigned int high)
{
	struct fiber *f = (struct fiber *)((uintptr_t)low | (uintptr_t)high << 32);

	f->main(f);
	vt_current()->clock = UINT64_MAX; /* it has ended */
	vt_yield();
}

void vt_begin_fibers(uint32_t n)
{
	fibers = calloc(n, sizeof(*fibers));
	heap = calloc(n, sizeof(struct fiber *));
	n_fibers = 0;
}

void vt_add_fiber(void (*main)(struct fiber *), struct vt_self self)
{
	struct fiber *f = &fibers[n_fibers];
	const uintptr_t at = (uintptr_t)f;

	f->self = self;
	f->main = main;
	f->number = n_fibers;
	f->lane = VT_UNIFORM;
	f->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	getcontext(&f->context);
	f->context.uc_stack.ss_sp = f->stack;
	f->context.uc_stack.ss_size = STACK;
	makecontext(&f->context, (void (*)(void))entry, 2, (unsigned int)at,
		    (unsigned int)((uint64_t)at >> 32));
	heap[n_fibers++] = f;
}

void vt_run_fibers(void)
{
	volatile bool ran = false;

	getcontext(&main_context);
	if (ran)
		return;
	ran = true;
	vt_self = &heap[0]->self;
	setcontext(&heap[0]->context);
}

void vt_leave(void)
{
	setcontext(&main_context);
}

void vt_end_fibers(void)
{
	for (uint32_t i = 0; i < n_fibers; i++)
		munmap(fibers[i].stack, STACK);
	free(fibers);
	free(heap);
}
