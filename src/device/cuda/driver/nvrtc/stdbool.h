/* SPDX-License-Identifier: Apache-2.0 */
/* stdbool.h - for NVRTC, which has no system headers; C++ needs nothing of it. */
