/* SPDX-License-Identifier: Apache-2.0 */
/* recent.c - a thread's latest bindings, and where they are. */
#include "host/ring/recent.h"

/* used: the assembly below names it, which a link-time optimiser does not see. */
__attribute__((used)) _Thread_local struct gq_ring_binding gq__ring_recent[GQ_RECENT];

#if defined(__x86_64__) && !defined(__ILP32__)
int64_t gq__ring_recent_distance;
#endif

#ifdef GPUQ_TLS_DESCRIPTORS /* x86-64; CMakeLists.txt */

/*
 * The distance in the calling thread, by a TLS descriptor: two words, a function and its argument,
 * for which the loader reserves room beside every thread if there still is some. Then the argument
 * is the distance itself, and the function only returns it.
 *
 * A function of its own, called as any other is: the function of a descriptor without that room may
 * lose vector registers (glibc before 2.40), as may a call of C. Compilers do not think of it that
 * way, so nothing else here is compiled for descriptors.
 *
 * @param descriptor  written: where it is. If the linker knew the distance, there is none, and this
 *                    is the distance as well.
 */
int64_t gq__ring_find_recent(const int64_t **descriptor);
__asm__(".pushsection .text\n"
	".type gq__ring_find_recent, @function\n"
	".hidden gq__ring_find_recent\n"
	".globl gq__ring_find_recent\n"
	"gq__ring_find_recent:\n"
	".cfi_startproc\n"
	"endbr64\n"
	"sub $8, %rsp\n"
	".cfi_adjust_cfa_offset 8\n"
	"lea gq__ring_recent@tlsdesc(%rip), %rax\n"
	"mov %rax, (%rdi)\n"
	"call *gq__ring_recent@tlscall(%rax)\n"
	"add $8, %rsp\n"
	".cfi_adjust_cfa_offset -8\n"
	"ret\n"
	".cfi_endproc\n"
	".size gq__ring_find_recent, . - gq__ring_find_recent\n"
	".popsection\n");

__attribute__((constructor)) static void find_recent(void)
{
	const int64_t *descriptor = NULL;
	const int64_t distance = gq__ring_find_recent(&descriptor);

	/* The second word is there once the function has been called: it may be found lazily. */
	if ((int64_t)(intptr_t)descriptor == distance || descriptor[1] == distance)
		gq__ring_recent_distance = distance;
}

#endif
