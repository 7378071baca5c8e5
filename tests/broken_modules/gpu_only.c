/* SPDX-License-Identifier: Apache-2.0 */
/* gpu_only.c - a processor without code for the CPU device. */
#include <gpuq/processor.h>

__attribute__((visibility("default"))) const QProcessorImage gpuq_processor_image = {
	.magic = Q_PROCESSOR_MAGIC,
	.protocol_version = Q_PROTOCOL_VERSION,
	.name = "gpu_only",
};
