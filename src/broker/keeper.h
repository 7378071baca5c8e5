/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper.h - what the main thread of gpuqd does while the others serve: it has all counts written
 * into the page, looks whether the other threads turn, serves metrics and health, keeps the service
 * manager's watchdog quiet, and reloads the configuration.
 */
#ifndef GPUQ_BROKER_KEEPER_H
#define GPUQ_BROKER_KEEPER_H

#include "broker.h"

struct keeper;

/* Reads the configuration anew, as it was read at the start. @return false: `error` says why */
typedef bool configure_fn(const void *user, struct broker_config *cfg,
			  char error[BROKER_ERROR_ROOM]);

/*
 * Makes the page, whose address it puts into `cfg`, and listens for those who ask for metrics.
 * @return NULL: `error` says why
 */
struct keeper *keeper_start(struct broker_config *cfg, const char *config_path,
			    configure_fn *configure, const void *user,
			    char error[BROKER_ERROR_ROOM]);

/* What there is to be kept; both may be NULL. When this returns all of the page is there, unless a
 * thread has hung for ten seconds, and whoever has started gpuqd has been told that it is ready. */
void keeper_begin(struct keeper *k, struct broker *broker, struct router *router);

/* Serves until a signal has come and what was accepted has ended. */
void keeper_run(struct keeper *k);

void keeper_stop(struct keeper *k);

#endif /* GPUQ_BROKER_KEEPER_H */
