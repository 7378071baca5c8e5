/* SPDX-License-Identifier: Apache-2.0 */
/* echo_counted_thread.cu - the same, one message a thread. */
#include "echo_counted.cu"
