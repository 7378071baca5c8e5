/* SPDX-License-Identifier: Apache-2.0 */
/* standin_table.cc - the processor of test_completion.c as an image for the stand-in driver:
 * compiled with Q_GRANULARITY, STANDIN_IMAGE, its name, and process_message, that of its function;
 * with Q_RESULT_ONLY or without; and for the CPU device, where TABLE_HOST is defined. */
/* What a GPU posts publishes nothing: let ThreadSanitizer see it so. */
#define GQ_POSTED_ORDER __ATOMIC_RELAXED
#include "table.cu"

#if defined(TABLE_HOST)
extern "C" void table_process(const MsgView *in, ResultView *out);
void table_process(const MsgView *in, ResultView *out)
{
	process_message(*in, out);
}
#endif

#include "standin_image.h"
