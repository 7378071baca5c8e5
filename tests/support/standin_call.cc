/* SPDX-License-Identifier: Apache-2.0 */
/* standin_call.cc - an image for the stand-in driver that calls a function of the test's. */
/* Both images of this folder have one, and the linker would keep one of the two. */
#define process_message process_message_of_call
#define Q_GRANULARITY   1 /* as the other image's */
#include <gpuq/processor.h>

#define STANDIN_IMAGE standin_call_image

extern "C" QProcessorFn standin_called;

__device__ inline void process_message(const MsgView &in, ResultView *out)
{
	standin_called(&in, out);
}

#include "standin_image.h"
