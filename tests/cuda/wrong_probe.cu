/* SPDX-License-Identifier: Apache-2.0 */
/* wrong_probe.cu - one offence a kernel: what check_device_code.py must find, or it finds nothing.
 */
#include <stdint.h>

extern "C" __global__ void wrong_noncoherent(const uint32_t *payload, uint32_t *out)
{
	*out = __ldg(payload);
}

extern "C" __global__ void wrong_restrict(const uint32_t *__restrict__ payload,
					  uint32_t *__restrict__ out)
{
	*out = payload[threadIdx.x];
}

extern "C" __global__ void wrong_local(const uint32_t *from, uint32_t *out)
{
	uint32_t table[64];

	for (uint32_t i = 0; i < 64; i++)
		table[from[i] % 64] = i;
	*out = table[from[64] % 64];
}

extern "C" __global__ void wrong_device_release(uint64_t *word)
{
	asm volatile("st.release.gpu.u64 [%0], %1;" ::"l"(word), "l"(1ull) : "memory");
}

extern "C" __global__ void wrong_device_acquire(const uint64_t *word, uint64_t *out)
{
	uint64_t value;

	asm volatile("ld.acquire.gpu.u64 %0, [%1];" : "=l"(value) : "l"(word) : "memory");
	*out = value;
}

extern "C" __global__ void wrong_system_rmw(unsigned long long *word)
{
	atomicAdd_system(word, 1);
}

extern "C" __global__ void wrong_generic_rmw(uint64_t *word)
{
	uint64_t old;

	asm volatile("atom.relaxed.gpu.add.u64 %0, [%1], 1;" : "=l"(old) : "l"(word) : "memory");
	*word = old;
}

extern "C" __global__ void wrong_fence(uint32_t *out)
{
	*out = 1;
	__threadfence();
}

extern "C" __global__ void wrong_volatile(const volatile uint32_t *word, uint32_t *out)
{
	*out = *word;
}

static __device__ __noinline__ uint32_t not_inlined(uint32_t value)
{
	return value * value + 1;
}

extern "C" __global__ void wrong_call(uint32_t *word)
{
	*word = not_inlined(*word);
}

extern "C" __global__ void wrong_trap(void)
{
	__trap();
}
