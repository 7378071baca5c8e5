/* SPDX-License-Identifier: Apache-2.0 */
/* wrong_version.c - a processor made for another protocol version. */
#include <gpuq/processor.h>

__attribute__((visibility("default"))) const QProcessorImage gpuq_processor_image = {
	.magic = Q_PROCESSOR_MAGIC,
	.protocol_version = Q_PROTOCOL_VERSION + 41,
	.name = "future",
};
