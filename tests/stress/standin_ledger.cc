/* SPDX-License-Identifier: Apache-2.0 */
/* standin_ledger.cc - the processor "ledger" as images for the stand-in driver, one a granularity:
 * compiled with Q_GRANULARITY, STANDIN_IMAGE, its name, and process_message, that of its function;
 * and for the CPU device, where LEDGER_HOST is defined. */
#include "ledger.cu"

#if defined(LEDGER_HOST)
extern "C" void ledger_process(const MsgView *in, ResultView *out);
void ledger_process(const MsgView *in, ResultView *out)
{
	process_message(*in, out);
}
#endif

#include "standin_image.h"
