/* SPDX-License-Identifier: Apache-2.0 */
/* wrong_magic.c - a symbol of the right name that is no image. */
__attribute__((visibility("default"))) const char gpuq_processor_image[128] = "not an image";
