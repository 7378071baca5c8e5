/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_config.c - bytes for gpuqd's configuration file: nothing is read or written beyond it, and
 * one that is refused is so in one sentence. Then it is what a running gpuqd is to take over.
 */
#include "fuzz.h"

#include "broker/broker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const char *file(const uint8_t *data, size_t size)
{
	static char path[32];
	static int fd = -1;

	if (fd < 0) {
		fd = memfd_create("config", MFD_CLOEXEC);
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	}
	if (fd < 0 || ftruncate(fd, 0) != 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
		abort();
	return path;
}

static void expect_one_sentence(const char *error)
{
	const size_t n = strnlen(error, BROKER_ERROR_ROOM);

	if (n == 0 || n == BROKER_ERROR_ROOM || memchr(error, '\n', n) != NULL)
		abort();
}

void fuzz_one(const uint8_t *data, size_t size)
{
	static struct broker_config now, cfg;
	char error[BROKER_ERROR_ROOM] = "";
	const bool good = broker_config_read(file(data, size), &cfg, error);

	/* Also of one that is refused: what is written beyond may be the reason. */
	if (cfg.queues > BROKER_MOST_QUEUES || cfg.services.ops > ROUTER_OPS)
		abort();
	if (!good) {
		expect_one_sentence(error);
		return;
	}
	if (!broker_config_check_paths("config", &cfg, error))
		expect_one_sentence(error);
	broker_config_defaults(&now);
	if (!broker_config_merge(&now, &cfg, error))
		expect_one_sentence(error);
}
