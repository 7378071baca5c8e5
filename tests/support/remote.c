/* SPDX-License-Identifier: Apache-2.0 */
/* remote.c - the gpuqd that the tests of the remote device run on; see remote.h. */
#include "remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool on_remote(void)
{
	const char *device = getenv("GPUQ_TEST_DEVICE");

	return device != NULL && strcmp(device, "remote") == 0;
}

#if defined(GPUQ_TEST_BROKER)

#include "broker/broker.h"

static struct broker *broker;
static char folder[] = "/tmp/gpuq-test-XXXXXX";
static struct broker_config cfg;
static pid_t owner;

static void end(void)
{
	char lock[sizeof(cfg.socket) + 8];

	if (getpid() != owner) /* a child that ends by exit() */
		return;
	broker_stop(broker);
	snprintf(lock, sizeof(lock), "%s.lock", cfg.socket);
	unlink(lock);
	rmdir(folder);
}

void remote_begin(void)
{
	char error[BROKER_ERROR_ROOM], device[sizeof(cfg.socket) + 8];

	broker_config_defaults(&cfg);
	broker_queue_defaults(&cfg.queue[0], "default");
	cfg.queues = 1;
	cfg.queue[0].device = Q_DEVICE_CPU;
	cfg.queue[0].per_client = true;
	cfg.queue[0].capacity = Q_MAX_CAPACITY;
	cfg.queue[0].window = 256;
	cfg.queue[0].slot_bytes = Q_MAX_SLOT_BYTES;
	cfg.queue[0].result_bytes = Q_MAX_SLOT_BYTES;
	cfg.uid_bytes = UINT64_C(1) << 40;
	cfg.uid_slots = UINT64_C(1) << 32;
	cfg.uid_connections = 4096;
	cfg.uid_connect_rate = 0;
	cfg.drain_ms = 0;
	owner = getpid();
	if (mkdtemp(folder) == NULL) {
		perror(folder);
		_exit(1);
	}
	snprintf(cfg.socket, sizeof(cfg.socket), "%s/gpuqd.sock", folder);
	broker = broker_start(&cfg, error);
	if (broker == NULL) {
		fprintf(stderr, "gpuqd: %s\n", error);
		_exit(1);
	}
	atexit(end);
	snprintf(device, sizeof(device), "unix:%s", cfg.socket);
	setenv("GPUQ_DEVICE", device, 1);
}

#else

void remote_begin(void)
{
	printf("skipped: built without gpuqd\n");
	fflush(stdout);
	_exit(77);
}

#endif
