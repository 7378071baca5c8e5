/* SPDX-License-Identifier: Apache-2.0 */
/* standin_test.cc - the processor "test" for the CPU device, and as an image for the stand-in
 * driver. */
#define Q_GRANULARITY   1 /* a unit is a consumer: it has one message at a time */
#define process_message test_process_message
#include "test_processor.cu"

extern "C" void test_processor(const MsgView *in, ResultView *out);
void test_processor(const MsgView *in, ResultView *out)
{
	process_message(*in, out);
}

#define STANDIN_IMAGE standin_test_image
#define Q_COUNT_GRID
#include "standin_image.h"
