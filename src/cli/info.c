/* SPDX-License-Identifier: Apache-2.0 */
/* info.c - `gpuq info`: version, build, devices, and how a queue is set up on this machine. */
#define _GNU_SOURCE
#include "cli.h"
#include "program/amounts.h"

#include <gpuq/gpuq.h>

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef GPUQ_BUILD_TYPE
#define GPUQ_BUILD_TYPE "unknown"
#endif
#ifndef GPUQ_BUILD_COMPILER
#define GPUQ_BUILD_COMPILER __VERSION__
#endif
#ifndef GPUQ_BUILD_SANITIZE
#define GPUQ_BUILD_SANITIZE ""
#endif
#ifndef GPUQ_BUILD_BAR1
#define GPUQ_BUILD_BAR1 0
#endif

const char info_help[] =
	"Usage: gpuq info\n"
	"\n"
	"Show the version, how it was built, the devices, how a queue is set up on this\n"
	"machine, and the environment variables that are set.\n"
	"\n"
	"  -h, --help  show this text\n"
	"\n"
	"Exit codes:\n"
	"  0  a queue can be created\n"
	"  2  wrong usage\n"
	"  3  the output could not be written\n"
	"  4  no queue can be created\n";

/* A queue as `gpuq run` makes it without options. */
static GpuQueue *open_queue(uint32_t device, QueueInfo *out)
{
	const QueueConfig config = {
		.capacity = 1024,
		.slot_bytes = 4096,
		.device = device,
		.processor = "echo",
	};
	GpuQueue *queue = q_init(&config);

	if (queue && q_info(queue, out) != Q_OK) {
		q_shutdown(queue);
		return NULL;
	}
	return queue;
}

static void print_device(const char *name, uint32_t device)
{
	QueueInfo info;
	GpuQueue *queue = open_queue(device, &info);

	if (!queue) {
		printf("  %-11s not available: %s\n", name, q_last_error());
		return;
	}
	printf("  %-11s available: %s\n", name, info.device_name);
	q_shutdown(queue);
}

static void print_environment(void)
{
	bool any = false;

	printf("environment\n");
	for (char *const *variable = environ; *variable; variable++) {
		const char *value = strchr(*variable, '=');

		if (strncmp(*variable, "GPUQ_", 5) != 0 || !value)
			continue;
		printf("  %s%s\n", *variable, value[1] == '\0' ? " (empty: as if not set)" : "");
		any = true;
	}
	if (!any)
		printf("  no GPUQ_* variable is set\n");
}

static void print_measured(const char *what, uint64_t ns)
{
	if (ns != 0 && ns != UINT64_MAX)
		printf("  %-21s %.1f us\n", what, (double)ns / 1000);
}

/* What q_init() has measured to choose the transport by. */
static void print_measurements(const QueueInfo *info)
{
	if (info->device != Q_DEVICE_CUDA)
		return;
	printf("measured beside the resident grid\n");
	print_measured("flag there and back", info->flag_ns);
	print_measured("read of host memory", info->read_ns);
	print_measured("release to the host", info->release_ns);
	print_measured("pull of a message", info->pull_ns);
	print_measured("copy of a message", info->copy_ns);
	print_measured("copy of 16 bytes", info->copy_small_ns);
	print_measured("another kernel", info->canary_ns);
}

static bool print_queue(void)
{
	static const char *const granularities[] = { "thread", "warp", "block" };
	char amount[16];
	QueueInfo info;
	GpuQueue *queue = open_queue(Q_DEVICE_AUTO, &info);

	printf("queue of 1024 slots of 4096 bytes\n");
	if (!queue) {
		printf("  cannot be created: %s\n", q_last_error());
		return false;
	}
	printf("  device      %s\n", info.device == Q_DEVICE_CUDA ? "cuda" : "cpu");
	printf("  because     %s\n", info.reason);
	printf("  transport   %s\n", info.transport);
	printf("  consumers   %u\n", info.consumers);
	printf("  granularity %s\n", info.granularity < 3 ? granularities[info.granularity] : "?");
	printf("  protocol    %u\n", info.protocol_version);
	printf("  memory      %s\n",
	       format_bytes(amount, sizeof(amount), (double)info.memory_bytes));
	if (info.device_bytes != 0)
		printf("  on the GPU  %s\n",
		       format_bytes(amount, sizeof(amount), (double)info.device_bytes));
	print_measurements(&info);
	q_shutdown(queue);
	return true;
}

int cmd_info(int argc, char **argv)
{
	static const struct option options[] = {
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	static const struct option_set set = {
		.command = "info", .help = info_help, .shorts = ":h", .longs = options
	};
	bool usable;
	int code;

	if (!options_read(&set, argc, argv, NULL, &code))
		return code;
	if (optind < argc)
		return usage_error("info", "no argument expected, but got '%s'", argv[optind]);

	printf("gpuq %s\n", q_version());
	printf("build\n");
	printf("  type        %s\n", GPUQ_BUILD_TYPE[0] != '\0' ? GPUQ_BUILD_TYPE : "none");
	printf("  compiler    %s\n", GPUQ_BUILD_COMPILER);
	printf("  sanitizers  %s\n", GPUQ_BUILD_SANITIZE[0] != '\0' ? GPUQ_BUILD_SANITIZE : "none");
	printf("  transports  pull, copy%s\n", GPUQ_BUILD_BAR1 ? ", bar1" : "");
	printf("devices\n");
	printf("  CPUs        %u for this process\n", cpus_available());
	print_device("cpu", Q_DEVICE_CPU);
	print_device("cuda", Q_DEVICE_CUDA);
	usable = print_queue();
	print_environment();
	return usable ? CLI_OK : CLI_NO_QUEUE;
}
