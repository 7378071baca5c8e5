/* SPDX-License-Identifier: Apache-2.0 */
/* nvtx.c - ranges and names for NVIDIA's profilers (NVTX 3). */
#include "host/base/nvtx.h"

#include "host/base/sys.h"

#if defined(GPUQ_HAVE_NVTX)

#include <nvtx3/nvToolsExt.h>
#include <nvtx3/nvToolsExtCuda.h>
#include <pthread.h>
#include <sys/auxv.h>

bool gq__nvtx_attached;

static nvtxDomainHandle_t domain;
static nvtxStringHandle_t names[GQ_RANGES];

static void attach(void)
{
	static const char *const texts[] = {
#define TEXT(range, name, payload) name,
		GQ_RANGE_LIST(TEXT)
#undef TEXT
	};

	/* NVTX loads a library that an environment variable names: not in a set-id program. */
	if (getauxval(AT_SECURE) != 0)
		return;
	domain = nvtxDomainCreateA(GQ_NVTX_DOMAIN); /* NULL: no tool, or none that takes domains */
	if (domain == NULL)
		return;
	for (int i = 0; i < GQ_RANGES; i++)
		names[i] = nvtxDomainRegisterStringA(domain, texts[i]);
	gq__nvtx_attached = true;
}

void gq__nvtx_begin(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	GQ_NO_CANCEL(); /* as in all of these, since a profiler runs code of its own */
	pthread_once(&once, attach);
}

void gq__range_push(enum gq_range what, uint64_t payload)
{
	nvtxEventAttributes_t event = { .version = NVTX_VERSION,
					.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE,
					.payloadType = NVTX_PAYLOAD_TYPE_UNSIGNED_INT64,
					.messageType = NVTX_MESSAGE_TYPE_REGISTERED };

	GQ_NO_CANCEL();
	event.payload.ullValue = payload;
	event.message.registered = names[what];
	nvtxDomainRangePushEx(domain, &event);
}

void gq__range_pop(void)
{
	GQ_NO_CANCEL();
	nvtxDomainRangePop(domain);
}

void gq__name_this_thread(const char *name)
{
	if (gq__nvtx_attached)
		nvtxNameOsThreadA((uint32_t)syscall(SYS_gettid), name);
}

void gq__name_stream(void *stream, const char *name)
{
	if (gq__nvtx_attached && stream != NULL)
		nvtxNameCuStreamA((CUstream)stream, name);
}

#endif /* GPUQ_HAVE_NVTX */
