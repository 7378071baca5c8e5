/* SPDX-License-Identifier: Apache-2.0 */
/* processor.cc - what gpuq_add_processor() makes in CMake: the source, under a name. CPU device. */
#include "process.cu"

Q_PROCESSOR_REGISTER("process")
