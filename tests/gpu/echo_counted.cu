/* SPDX-License-Identifier: Apache-2.0 */
/* echo_counted.cu - the processor "echo" in a grid that counts what it does, and a kernel that does
 * nothing but answer a word, for gpu_check tune. */
#define Q_COUNT_GRID
#include "../../kernels/echo.cu"

#if defined(__CUDACC__)
/* Answers each number in `ping` with the same in `pong`, up to `last`, or for five seconds. */
extern "C" __global__ void tune_flag(const uint64_t *ping, uint64_t *pong, uint64_t last)
{
	uint64_t begun, now, seen = 0;

	asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(begun));
	for (uint64_t i = 1; i <= last; i++) {
		for (uint32_t polls = 1; seen < i; polls++) {
			asm volatile("ld.acquire.sys.global.u64 %0, [%1];"
				     : "=l"(seen)
				     : "l"(__cvta_generic_to_global(ping))
				     : "memory");
			if (polls % 1024 != 0)
				continue;
			asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
			if (now - begun > UINT64_C(5000000000))
				return;
		}
		asm volatile(
			"st.release.sys.global.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(pong)),
			"l"(i)
			: "memory");
	}
}
#endif
