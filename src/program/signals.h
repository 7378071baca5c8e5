/* SPDX-License-Identifier: Apache-2.0 */
/* signals.h - an interruption asks for an orderly end; a second one does not wait for it. */
#ifndef GPUQ_PROGRAM_SIGNALS_H
#define GPUQ_PROGRAM_SIGNALS_H

#include <stdbool.h>

/**
 * Ignore SIGPIPE; from now on SIGINT, SIGTERM and SIGHUP are noted, unless the parent had them
 * ignored. A second one, 0.1 s or more after the first, ends the process with 128 + its number.
 * False: errno says why.
 */
bool signals_init(void);

/**
 * After signals_init(): a SIGHUP does not end the process from now on, but asks it to read its
 * configuration anew.
 */
bool signals_hup_reloads(void);

/** Whether a SIGHUP has come since the last call. */
bool signals_take_hup(void);

/** The signal that came, or 0. */
int signals_caught(void);

/** Readable, for ever, once a signal has come; also after a SIGHUP, until signals_take_hup(). */
int signals_fd(void);

#endif /* GPUQ_PROGRAM_SIGNALS_H */
