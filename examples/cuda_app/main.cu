/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main.cu - an application of the CUDA runtime with a queue beside its own kernels.
 *
 * It trains (that is, increments) the weights with kernels in a stream of its own while the queue
 * scores messages against them; both are in the primary context. Memory is allocated before
 * q_init() and freed after q_pause(), when no kernel of the queue is resident.
 */
#include <gpuq/gpuq.h>

#include <cuda_runtime.h>
#include <stdio.h>

enum { COUNT = 256, ROUNDS = 100 };

struct Weights {
	const float *at;
	uint32_t count;
};

__global__ void add(float *at, float by)
{
	at[threadIdx.x] += by;
}

#define CUDA(call)                                                                                 \
	do {                                                                                       \
		cudaError_t error_ = (call);                                                       \
		if (error_ != cudaSuccess) {                                                       \
			fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(error_));            \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)
#define Q(call)                                                                                    \
	do {                                                                                       \
		if ((call) != Q_OK) {                                                              \
			fprintf(stderr, "%s: %s\n", #call, q_last_error());                        \
			return 1;                                                                  \
		}                                                                                  \
	} while (0)

int main(void)
{
	float message[COUNT], *weights, last = -1;
	cudaStream_t stream;
	GpuQueue *q;

	for (int i = 0; i < COUNT; i++)
		message[i] = 1;
	CUDA(cudaMalloc(&weights, sizeof(message)));
	CUDA(cudaMemset(weights, 0, sizeof(message)));
	CUDA(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
	add<<<1, COUNT, 0, stream>>>(weights, 0); /* loads it: not lazily, beside the queue */
	CUDA(cudaStreamSynchronize(stream));

	const Weights user = { weights, COUNT };
	QueueConfig cfg = {};

	cfg.capacity = 64;
	cfg.slot_bytes = sizeof(message);
	cfg.device = Q_DEVICE_CUDA; /* the weights are on the GPU */
	cfg.processor_data = &user;
	cfg.processor_data_bytes = sizeof(user);
	q = q_init(&cfg);
	if (q == NULL) {
		fprintf(stderr, "q_init: %s\n", q_last_error());
		return 1;
	}
	for (int round = 0; round < ROUNDS; round++) {
		size_t len = sizeof(last);
		uint64_t id;

		add<<<1, COUNT, 0, stream>>>(weights, 1);
		CUDA(cudaStreamSynchronize(stream)); /* of one stream: waits for no other */
		Q(q_enqueue(q, message, sizeof(message), &id, UINT32_MAX));
		Q(q_wait(q, id, UINT32_MAX));
		Q(q_try_dequeue_result(q, id, &last, &len));
	}
	Q(q_pause(q, UINT32_MAX));
	CUDA(cudaFree(weights)); /* waits for every kernel: none of the queue's is there */
	q_shutdown(q);
	printf("score after %d rounds: %g\n", ROUNDS, last);
	return last == (float)COUNT * ROUNDS ? 0 : 1;
}
