/* SPDX-License-Identifier: Apache-2.0 */
/* echo_all.cu - the processor "echo", its completions publishing all that it might have written. */
#include "../../kernels/echo.cu"
#undef Q_RESULT_ONLY
