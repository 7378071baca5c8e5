/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MASK_H
#define MASK_H
#define INVERT_MASK 0xffu
#endif
