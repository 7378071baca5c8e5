/* SPDX-License-Identifier: Apache-2.0 */
/* What gpuq_add_processor() writes, written by hand for a build without CMake. */
#include "invert.cu"
#ifdef MODULE
Q_PROCESSOR_IMAGE("invert");
#else
Q_PROCESSOR_REGISTER("invert")
#endif
