/* SPDX-License-Identifier: Apache-2.0 */
/* sanitize.h - which sanitizer this is compiled for; gcc and clang each have words of their own. */
#ifndef GPUQ_SANITIZE_H
#define GPUQ_SANITIZE_H

#if defined(__has_feature)
#define GQ_HAS_FEATURE(name) __has_feature(name)
#else
#define GQ_HAS_FEATURE(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || GQ_HAS_FEATURE(address_sanitizer)
#define GQ_ASAN 1
#else
#define GQ_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__) || GQ_HAS_FEATURE(thread_sanitizer)
#define GQ_TSAN 1
#else
#define GQ_TSAN 0
#endif

#endif /* GPUQ_SANITIZE_H */
