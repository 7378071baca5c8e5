/* SPDX-License-Identifier: Apache-2.0 */
/* standin_ledger.cc - the processor "ledger" of support.c as images for the stand-in driver, one a
 * granularity: compiled with Q_GRANULARITY and STANDIN_IMAGE, its name. */
#include <gpuq/processor.h>

extern "C" void ledger_process(const MsgView *in, ResultView *out);

__device__ inline void process_message(const MsgView &in, ResultView *out)
{
	ledger_process(&in, out);
}

#include "standin_image.h"
