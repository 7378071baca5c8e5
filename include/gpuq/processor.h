/* SPDX-License-Identifier: Apache-2.0 */
/*
 * processor.h - what a processor source includes: message and result views, device helpers.
 *
 * A processor is one function, compiled for the CPU device always and for the GPU where a CUDA
 * compiler exists. Write it once:
 *
 *     C++, CUDA:  __device__ void process_message(const MsgView &in, ResultView *out);
 *     C:          void process_message(const MsgView *in, ResultView *out);
 *
 * and let gpuq_add_processor() build it, or end the source with Q_PROCESSOR_IMAGE(name) and make
 * a shared object of it, which q_init() loads by path.
 *
 * All threads of the unit (thread, warp or block, see QueueConfig.granularity) call the function; a
 * block is a multiple of 32 threads. After the last has returned, the unit's barrier stands between
 * what they wrote and the library's reading it. On the CPU device the unit is one thread of size 1.
 *
 * A completion publishes all that the unit's threads have written, wherever it lies (through a
 * pointer in `in.user`, say), to a thread that sees the message finished, and to every message,
 * kernel and copy that it starts then. On a GPU that takes a fence, which a processor that writes
 * nothing but its result can do without: it says so by
 *
 *     #define Q_RESULT_ONLY
 *
 * before it includes this header (or by gpuq_add_processor(... RESULT_ONLY)). What such a processor
 * writes elsewhere all the same, others may not see. On the CPU device that changes nothing.
 *
 * On the CPU device it runs on a thread of the library, with cancellation off and all signals
 * blocked but those of its own faults (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS), for which
 * the program's handlers run there, and SIGPROF as the thread had it that called q_init(). The
 * calls of this header: no call is a cancellation point, raises SIGPIPE, or may be made in a signal
 * handler. q_rank(), q_size() and q_sync() are no calls of the library.
 *
 * It must not throw, exit the thread, or keep `in.payload` or `out->out` beyond its return.
 * Functions that other functions of the source call on the GPU are marked Q_DEVICE.
 */
#ifndef GPUQ_PROCESSOR_H
#define GPUQ_PROCESSOR_H

#include <stddef.h>
#include <stdint.h>

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define Q_DEVICE __device__
#else
#define Q_DEVICE
#ifndef __device__
#define __device__ /* so that one source serves a CUDA and a host compiler */
#endif
#ifndef __host__
#define __host__
#endif
#ifndef __forceinline__
#define __forceinline__ inline
#endif
#endif

/* One message, read-only. Never qualify what points into it `const __restrict__`: nvcc then keeps
 * one load for ever. */
typedef struct MsgView {
	const uint8_t *payload; /* len bytes, 16-byte aligned; not NULL, also when len is 0 */
	uint32_t len;           /* bytes */
	uint64_t msg_id;
	uint32_t opcode;     /* from EnqueueOptions */
	uint64_t tag;        /* from EnqueueOptions */
	const void *user;    /* QueueConfig.processor_data (16-byte aligned), or NULL */
	uint64_t user_bytes; /* QueueConfig.processor_data_bytes; 0 with NULL */
} MsgView;

/* Where the result goes. Both words start at 0; one thread of the unit writes them. */
typedef struct ResultView {
	uint8_t *out;      /* room for the result, 16-byte aligned; contents undefined */
	uint32_t cap;      /* bytes of room */
	uint32_t *out_len; /* the result's length; above cap: the message ends FAILED */
	uint32_t *status;  /* 0: done; else the message ends FAILED, and q_processor_status() tells
			    * the value, up to 0xffff00 */
} ResultView;

/* The unit's thread number, its size and its barrier. */
#if defined(__CUDA_ARCH__)
#if !defined(Q_GRANULARITY) || Q_GRANULARITY == 0
static __device__ __forceinline__ uint32_t q_rank(void)
{
	return 0;
}
static __device__ __forceinline__ uint32_t q_size(void)
{
	return 1;
}
static __device__ __forceinline__ void q_sync(void)
{
}
#elif Q_GRANULARITY == 1
static __device__ __forceinline__ uint32_t q_rank(void)
{
	return threadIdx.x % 32;
}
static __device__ __forceinline__ uint32_t q_size(void)
{
	return 32;
}
static __device__ __forceinline__ void q_sync(void)
{
	__syncwarp();
}
#else
static __device__ __forceinline__ uint32_t q_rank(void)
{
	return threadIdx.x;
}
static __device__ __forceinline__ uint32_t q_size(void)
{
	return blockDim.x;
}
static __device__ __forceinline__ void q_sync(void)
{
	__syncthreads();
}
#endif
#else
static inline __host__ __device__ uint32_t q_rank(void)
{
	return 0;
}
static inline __host__ __device__ uint32_t q_size(void)
{
	return 1;
}
static inline __host__ __device__ void q_sync(void)
{
}
#endif

/* ---- the image: what q_init() finds, checks and calls ------------------------------------ */

/* Changes whenever the protocol between host and consumer loop does. */
#define Q_PROTOCOL_VERSION 7u
#define Q_PROCESSOR_MAGIC  0x51505247u /* "GRPQ" */

typedef void (*QProcessorFn)(const MsgView *in, ResultView *out);

typedef struct QProcessorImage {
	uint32_t magic;            /* Q_PROCESSOR_MAGIC */
	uint32_t protocol_version; /* Q_PROTOCOL_VERSION of the header it was compiled with */
	uint32_t granularity;      /* Q_PER_* it was compiled for */
	uint32_t reserved0;
	const char *name;            /* 1 to 63 characters, no '/' */
	QProcessorFn cpu;            /* NULL: cannot run on the CPU device */
	const void *device_image;    /* fatbin; NULL: cannot run on a GPU */
	uint64_t device_image_bytes; /* 0: not known; an image says so itself */
	uint64_t reserved[4];
} QProcessorImage;

/* For generated files, which define Q_PROCESSOR_GLUE_ before the include, the header does not
 * declare process_message(), so that they can look, after the source, whether that did: the
 * compiler then says what it must be, where otherwise a linker would miss it. EXPECT stands before
 * the source, for a name has to be declared to be looked for. `tag_`: part of an identifier, of its
 * own each time. */
#ifdef __cplusplus
#define Q_PROCESSOR_EXPECT_ __device__ void process_message(struct QProcessorMissing *);
#define Q_PROCESSOR_LOOK_(tag_, text_)                                                             \
	template <typename F>                                                                      \
	__host__ __device__ static constexpr auto q_fits_##tag_(int)                               \
		->decltype(static_cast<F>(process_message), true)                                  \
	{                                                                                          \
		return true;                                                                       \
	}                                                                                          \
	template <typename F> __host__ __device__ static constexpr bool q_fits_##tag_(long)        \
	{                                                                                          \
		return false;                                                                      \
	}                                                                                          \
	static_assert(q_fits_##tag_<void (*)(const MsgView &, ResultView *)>(0), text_             \
		      "must define void process_message(const MsgView &in, ResultView *out)");
#else
#define Q_PROCESSOR_EXPECT_
#define Q_PROCESSOR_LOOK_(tag_, text_)                                                             \
	_Static_assert(_Generic(&process_message, void (*)(const MsgView *, ResultView *) : 1,     \
				default : 0),                                                      \
		       text_                                                                       \
		       "must define void process_message(const MsgView *in, ResultView *out)");
#endif

#if defined(__CUDACC_RTC__)
/* As under nvcc, below: the device's side of the source only. */
#define Q_PROCESSOR_IMAGE(name_)    static_assert(true, name_)
#define Q_PROCESSOR_REGISTER(name_) static_assert(true, name_)
#else
#ifdef __cplusplus
static_assert(sizeof(QProcessorImage) == 80, "QProcessorImage is frozen");
#if !defined(Q_PROCESSOR_GLUE_)
__device__ void process_message(const MsgView &in, ResultView *out);
#endif
#define Q_PROCESSOR_C_LINKAGE      extern "C"
#define Q_PROCESSOR_CALL_(in, out) process_message(*(in), (out))
#else
_Static_assert(sizeof(QProcessorImage) == 80, "QProcessorImage is frozen");
#if !defined(Q_PROCESSOR_GLUE_)
void process_message(const MsgView *in, ResultView *out);
#endif
#define Q_PROCESSOR_C_LINKAGE
#define Q_PROCESSOR_CALL_(in, out) process_message((in), (out))
#endif

#ifndef Q_GRANULARITY
#define Q_GRANULARITY 0
#endif

#if defined(Q_PROCESSOR_CUDA_ONLY) /* made by gpuq_add_processor(), in C++ */
#define Q_PROCESSOR_ENTRY_ static constexpr QProcessorFn q_processor_entry = nullptr;
#else
#define Q_PROCESSOR_ENTRY_                                                                         \
	static void q_processor_entry(const MsgView *in, ResultView *out)                          \
	{                                                                                          \
		Q_PROCESSOR_CALL_(in, out);                                                        \
	}
#endif

#ifndef Q_PROCESSOR_DEVICE_IMAGE
#define Q_PROCESSOR_DEVICE_IMAGE NULL
#endif

#define Q_PROCESSOR_INIT_(name_)                                                                   \
	{                                                                                          \
		Q_PROCESSOR_MAGIC, Q_PROTOCOL_VERSION, Q_GRANULARITY, 0, name_, q_processor_entry, \
			Q_PROCESSOR_DEVICE_IMAGE, 0,                                               \
		{                                                                                  \
			0, 0, 0, 0                                                                 \
		}                                                                                  \
	}

#if defined(__CUDACC__)
/* The image is the host compiler's: a CUDA compiler sees the device's side of the source only. */
#define Q_PROCESSOR_IMAGE(name_)    static_assert(true, name_)
#define Q_PROCESSOR_REGISTER(name_) static_assert(true, name_)
#else
/* Makes the shared object that holds this source loadable by path. */
#define Q_PROCESSOR_IMAGE(name_)                                                                   \
	Q_PROCESSOR_ENTRY_                                                                         \
	Q_PROCESSOR_C_LINKAGE __attribute__((visibility("default"), used))                         \
	const QProcessorImage gpuq_processor_image = Q_PROCESSOR_INIT_(name_)

/*
 * Makes the processor known to the program that links this source; see gpuq_add_processor(). In a
 * plug-in it is known from the plug-in's dlopen() to its dlclose(), and as long as a queue uses it.
 */
#define Q_PROCESSOR_REGISTER(name_)                                                                \
	Q_PROCESSOR_ENTRY_                                                                         \
	static const QProcessorImage *q_processor_announced(void)                                  \
	{                                                                                          \
		static const QProcessorImage image = Q_PROCESSOR_INIT_(name_);                     \
		return &image;                                                                     \
	}                                                                                          \
	__attribute__((constructor)) static void q_processor_announce(void)                        \
	{                                                                                          \
		q_register_processor(q_processor_announced());                                     \
	}                                                                                          \
	__attribute__((destructor)) static void q_processor_withdraw(void)                         \
	{                                                                                          \
		q_unregister_processor(q_processor_announced());                                   \
	}
#endif

#ifdef __cplusplus
extern "C" {
#endif
/**
 * Add a processor to those that cfg.processor can name, and that a NULL cfg.processor finds.
 *
 * @param image  static storage; checked by q_init(), not here. A queue that uses it keeps the
 *               shared object that holds it loaded. NULL: nothing. At most 256 are known at a time;
 *               q_init() warns in the log of those beyond
 * Threads: any.
 */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
void q_register_processor(const QProcessorImage *image);

/**
 * Take a processor back: q_init() does not find it any more; queues that use it go on. NULL, and
 * one that was never registered, are ignored. Needed before the code of `image` goes, which
 * Q_PROCESSOR_REGISTER() sees to by itself.
 *
 * Threads: any.
 */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
void q_unregister_processor(const QProcessorImage *image);
#ifdef __cplusplus
}
#endif
#endif /* !__CUDACC_RTC__ */

#endif /* GPUQ_PROCESSOR_H */

/*
 * q_tile(): the unit as a group of <cooperative_groups.h>, a thread_block_tile of 1 or 32 threads
 * or a thread_block, for cooperative_groups::reduce() and the like. Its thread_rank(), size() and
 * sync() are q_rank(), q_size() and q_sync().
 *
 * Only where Q_WITH_TILE is defined before this header is included, since that header takes long to
 * compile; outside the include guard, so that any include will do. Q_HAS_TILE says that it is
 * there: never for a host compiler, and with NVRTC only if that finds the header.
 */
#if defined(Q_WITH_TILE) && !defined(Q_HAS_TILE) && (defined(__CUDACC__) || defined(__CUDACC_RTC__))
#if !defined(__CUDACC_RTC__)
#define Q_HAS_TILE 1
#elif defined(__has_include)
#if __has_include(<cooperative_groups.h>)
#define Q_HAS_TILE 1
#endif
#endif
#if defined(Q_HAS_TILE)
#include <cooperative_groups.h>

#if !defined(Q_GRANULARITY) || Q_GRANULARITY == 0
typedef cooperative_groups::thread_block_tile<1> QTile;

static __device__ __forceinline__ QTile q_tile(void)
{
	return cooperative_groups::this_thread();
}
#elif Q_GRANULARITY == 1
typedef cooperative_groups::thread_block_tile<32> QTile;

static __device__ __forceinline__ QTile q_tile(void)
{
	return cooperative_groups::tiled_partition<32>(cooperative_groups::this_thread_block());
}
#else
typedef cooperative_groups::thread_block QTile;

static __device__ __forceinline__ QTile q_tile(void)
{
	return cooperative_groups::this_thread_block();
}
#endif
#endif /* Q_HAS_TILE */
#endif
