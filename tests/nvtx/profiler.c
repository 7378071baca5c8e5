/* SPDX-License-Identifier: Apache-2.0 */
/* profiler.c - a tool as NVTX loads it: keeps account of domains, ranges and names. */
#include "profiler.h"

#include "device/cuda/driver/driver_api.h"

#include <nvtx3/nvToolsExt.h>
#include <stdio.h>

__attribute__((visibility("default"))) struct nvtx_seen nvtx_seen = {
	.lock = PTHREAD_MUTEX_INITIALIZER,
};

enum { DEPTH = 16 };
static _Thread_local struct seen_name *stack[DEPTH];
static _Thread_local int depth;

static void note(char (*names)[32], unsigned *n, unsigned room, const char *text)
{
	pthread_mutex_lock(&nvtx_seen.lock);
	if (*n < room)
		snprintf(names[(*n)++], sizeof(names[0]), "%s", text);
	else
		nvtx_seen.wrong++;
	pthread_mutex_unlock(&nvtx_seen.lock);
}

static void wrong(void)
{
	pthread_mutex_lock(&nvtx_seen.lock);
	nvtx_seen.wrong++;
	pthread_mutex_unlock(&nvtx_seen.lock);
}

static nvtxDomainHandle_t domain_create(const char *name)
{
	note(nvtx_seen.domain, &nvtx_seen.domains, 4, name);
	return (nvtxDomainHandle_t)&nvtx_seen;
}

static nvtxStringHandle_t register_string(nvtxDomainHandle_t domain, const char *text)
{
	struct seen_name *name = NULL;

	pthread_mutex_lock(&nvtx_seen.lock);
	if (domain == (nvtxDomainHandle_t)&nvtx_seen && nvtx_seen.ranges < SEEN_NAMES) {
		name = &nvtx_seen.range[nvtx_seen.ranges++];
		snprintf(name->text, sizeof(name->text), "%s", text);
	} else {
		nvtx_seen.wrong++;
	}
	pthread_mutex_unlock(&nvtx_seen.lock);
	return (nvtxStringHandle_t)name;
}

static int push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *event)
{
	struct seen_name *name = (struct seen_name *)event->message.registered;

	if (domain != (nvtxDomainHandle_t)&nvtx_seen ||
	    event->messageType != NVTX_MESSAGE_TYPE_REGISTERED || name == NULL || depth == DEPTH ||
	    event->payloadType != NVTX_PAYLOAD_TYPE_UNSIGNED_INT64) {
		wrong();
		return -1;
	}
	pthread_mutex_lock(&nvtx_seen.lock);
	name->pushed++;
	name->payload = event->payload.ullValue;
	pthread_mutex_unlock(&nvtx_seen.lock);
	stack[depth] = name;
	return depth++;
}

static int pop(nvtxDomainHandle_t domain)
{
	if (domain != (nvtxDomainHandle_t)&nvtx_seen || depth == 0) {
		wrong();
		return -1;
	}
	pthread_mutex_lock(&nvtx_seen.lock);
	stack[--depth]->popped++;
	pthread_mutex_unlock(&nvtx_seen.lock);
	return depth;
}

static void name_thread(uint32_t thread, const char *name)
{
	if (thread == 0)
		wrong();
	note(nvtx_seen.thread, &nvtx_seen.threads, SEEN_NAMES, name);
}

static void name_stream(CUstream stream, const char *name)
{
	if (stream == NULL)
		wrong();
	note(nvtx_seen.stream, &nvtx_seen.streams, SEEN_NAMES, name);
}

__attribute__((visibility("default"))) int
InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table);

int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table)
{
	const NvtxExportTableCallbacks *callbacks = get_table(NVTX_ETID_CALLBACKS);
	NvtxFunctionTable core, core2, cuda;
	unsigned n;

	if (callbacks == NULL ||
	    callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE, &core, &n) == 0 ||
	    callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &core2, &n) == 0 ||
	    callbacks->GetModuleFunctionTable(NVTX_CB_MODULE_CUDA, &cuda, &n) == 0)
		return 0;
	*core[NVTX_CBID_CORE_NameOsThreadA] = (NvtxFunctionPointer)name_thread;
	*core2[NVTX_CBID_CORE2_DomainCreateA] = (NvtxFunctionPointer)domain_create;
	*core2[NVTX_CBID_CORE2_DomainRegisterStringA] = (NvtxFunctionPointer)register_string;
	*core2[NVTX_CBID_CORE2_DomainRangePushEx] = (NvtxFunctionPointer)push;
	*core2[NVTX_CBID_CORE2_DomainRangePop] = (NvtxFunctionPointer)pop;
	*cuda[NVTX_CBID_CUDA_NameCuStreamA] = (NvtxFunctionPointer)name_stream;
	return 1;
}
