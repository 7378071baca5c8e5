/* SPDX-License-Identifier: Apache-2.0 */
/* standin_test.cc - the processor "test" of support.c as an image for the stand-in driver. */
/* Both images of this folder have one, and the linker would keep one of the two. */
#define process_message process_message_of_test
#define Q_GRANULARITY   1 /* a unit is a consumer: it has one message at a time */
#include <gpuq/processor.h>

#define STANDIN_IMAGE standin_test_image

extern "C" void test_processor(const MsgView *in, ResultView *out);

__device__ inline void process_message(const MsgView &in, ResultView *out)
{
	test_processor(&in, out);
}

#include "standin_image.h"
