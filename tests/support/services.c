/* SPDX-License-Identifier: Apache-2.0 */
/* services.c - the services of a gpuqd, inside of this process; see services.h. */
#include "services.h"

#include <stddef.h>

#if defined(GPUQ_TEST_BROKER)

#include "broker/service/service.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct router *router;
static struct router_config cfg = ROUTER_DEFAULTS;
static char folder[32], endpoint[sizeof(cfg.socket) + 8];

const char *services_begin(void)
{
	char error[ROUTER_ERROR_ROOM];
	int cancel;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	snprintf(folder, sizeof(folder), "/tmp/gpuq-services-XXXXXX");
	if (mkdtemp(folder) == NULL) {
		perror(folder);
		_exit(1);
	}
	snprintf(cfg.socket, sizeof(cfg.socket), "%s/s", folder);
	cfg.uid_connect_rate = 0;
	cfg.uid_regions = 64;
	router = router_start(&cfg, error);
	if (router == NULL) {
		fprintf(stderr, "gpuqd: %s\n", error);
		_exit(1);
	}
	snprintf(endpoint, sizeof(endpoint), "unix:%s", cfg.socket);
	pthread_setcancelstate(cancel, NULL);
	return endpoint;
}

void services_end(void)
{
	char lock[sizeof(cfg.socket) + 8];
	int cancel;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	router_stop(router);
	snprintf(lock, sizeof(lock), "%s.lock", cfg.socket);
	unlink(lock);
	rmdir(folder);
	pthread_setcancelstate(cancel, NULL);
}

#else

const char *services_begin(void)
{
	return NULL;
}

void services_end(void)
{
}

#endif
