/* SPDX-License-Identifier: Apache-2.0 */
/*
 * devices.c - q_init(): the one place that knows which devices there are, and chooses.
 *
 * It stands above the queue and the devices, so that neither a queue nor a device has to name
 * another device: the queue is handed the choice as a function, and from then on knows its device
 * by the table of functions in device/device.h alone. A new device gets its line here.
 */
#include "host/base/error.h"
#include "host/queue/queue.h"

#include <stdio.h>

/* Why the CUDA device was taken, for q_info(). */
static const char *why_cuda(const QueueConfig *cfg, uint32_t wanted)
{
	if (cfg->device == Q_DEVICE_CUDA)
		return "asked for in the configuration";
	return wanted == Q_DEVICE_CUDA ? "asked for by GPUQ_DEVICE"
				       : "driver, device and image are there";
}

static bool open_cuda(GpuQueue *q, const QueueConfig *cfg, uint32_t wanted)
{
	q->device = &gq__cuda_device;
	if (!q->device->open(q))
		return false;
	q->cfg.device = Q_DEVICE_CUDA;
	snprintf(q->reason, sizeof(q->reason), "%s", why_cuda(cfg, wanted));
	return true;
}

static bool open_cpu(GpuQueue *q, const QueueConfig *cfg, uint32_t wanted)
{
	q->device = &gq__cpu_device;
	q->cfg.device = Q_DEVICE_CPU;
	if (wanted == Q_DEVICE_AUTO)
		snprintf(q->reason, sizeof(q->reason), "the CUDA device cannot be used: %s",
			 q_last_error());
	else
		snprintf(q->reason, sizeof(q->reason), "%s",
			 cfg->device == Q_DEVICE_CPU ? "asked for in the configuration"
						     : "asked for by GPUQ_DEVICE");
	return q->device->open(q);
}

/* The processor is the daemon's, so none has been looked for here. */
static bool open_remote(GpuQueue *q, const QueueConfig *cfg)
{
	q->device = &gq__remote_device;
	snprintf(q->reason, sizeof(q->reason), "%s",
		 cfg->device == Q_DEVICE_REMOTE ? "asked for in the configuration"
						: "asked for by GPUQ_DEVICE");
	return q->device->open(q);
}

/*
 * Open the device that the configuration asks for: `cfg` as the application wrote it, q->cfg as
 * resolved. AUTO takes the CUDA device if driver, device and image are there; if not, it takes the
 * CPU device and q_info() says why.
 */
static bool choose_device(GpuQueue *q, const QueueConfig *cfg)
{
	const uint32_t wanted = q->cfg.device;

	if (wanted == Q_DEVICE_REMOTE)
		return open_remote(q, cfg);
	if (wanted == Q_DEVICE_CPU)
		return open_cpu(q, cfg, wanted);
	if (open_cuda(q, cfg, wanted))
		return true;
	if (wanted == Q_DEVICE_CUDA)
		return false;
	if (q->processor.image.cpu == NULL) { /* the CPU device could not run it either */
		gq__failf(Q_ERR_UNSUPPORTED, "processor: '%s' runs on a GPU only: %s",
			  q->processor.name, q_last_error());
		return false;
	}
	q->device->close(q);
	return open_cpu(q, cfg, wanted);
}

GpuQueue *q_init(const QueueConfig *cfg)
{
	return gq__make_queue(cfg, choose_device);
}
