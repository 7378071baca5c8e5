/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table.cu - a processor that writes elsewhere than into its result, and one that reads it there.
 *
 * One source for the CPU device, for the stand-in driver (standin_table.cc makes both) and for a
 * GPU. What it has in common with the test but for the table is relaxed: it must order nothing.
 */
#if defined(__CUDACC__)
#define GQ_BLOCK_THREADS 32 /* a block is one unit */
#endif
#include <gpuq/processor.h>

#include "device/protocol/atomics.h"
#include "table.h"

#if !defined(__CUDACC__)
#include <sched.h>
#endif

static Q_DEVICE void write_cells(const MsgView &in, const struct table_data *data)
{
	for (uint32_t i = q_rank(); i < CELLS; i += q_size()) {
		data->device[i] = CELL(in.tag, i);
		data->pinned[i] = CELL(in.tag, i);
	}
}

/* Those of a thread that others have written, too. */
static Q_DEVICE bool check_cells(const MsgView &in, const struct table_data *data)
{
	bool good = true;

	for (uint32_t i = q_size() - 1 - q_rank(); i < CELLS; i += q_size())
		good = good && data->device[i] == CELL(in.tag, i) &&
		       data->pinned[i] == CELL(in.tag, i);
	return good;
}

static Q_DEVICE void hold(const MsgView &in, const struct table_data *data)
{
	gq_store_relaxed_u64(&data->inside[in.tag], 1);
	while (gq_load_relaxed_u64(&data->gate[in.tag]) == 0) {
#if defined(__CUDACC__)
		gq_cpu_relax();
#else
		sched_yield();
#endif
	}
}

__device__ void process_message(const MsgView &in, ResultView *out)
{
	const struct table_data *data = (const struct table_data *)in.user;

	if (in.opcode == OP_WRITE)
		write_cells(in, data);
	else if (in.opcode == OP_CHECK && !check_cells(in, data))
		*out->status = 1;
	else if (in.opcode == OP_HOLD && q_rank() == 0)
		hold(in, data);
	q_sync();
	for (uint32_t i = q_rank(); i < in.len && i < out->cap; i += q_size())
		out->out[i] = in.payload[i];
	if (q_rank() == 0)
		*out->out_len = in.len;
}
