/* SPDX-License-Identifier: Apache-2.0 */
/* standin_test.cc - the processor "test" of support.c as an image for the stand-in driver. */
#define process_message standin_test_process /* inline functions of one name are one function */
#define Q_GRANULARITY   1 /* a unit is a consumer: it has one message at a time */
#include <gpuq/processor.h>

#define STANDIN_IMAGE standin_test_image

extern "C" void test_processor(const MsgView *in, ResultView *out);

__device__ inline void process_message(const MsgView &in, ResultView *out)
{
	test_processor(&in, out);
}

#include "standin_image.h"
