/* SPDX-License-Identifier: Apache-2.0 */
#include <gpuq/processor.h>

__device__ void process_message(const MsgView &, ResultView *)
{
}
