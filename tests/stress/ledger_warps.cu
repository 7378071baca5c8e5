/* SPDX-License-Identifier: Apache-2.0 */
/* ledger_warps.cu - ledger.cu with several warps a block, as processors have by default. */
#define GQ_BLOCK_THREADS 128
#include "ledger.cu"
