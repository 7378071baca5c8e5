/* SPDX-License-Identifier: Apache-2.0 */
/* services.h - the services of a gpuqd, inside of this process. */
#ifndef GPUQ_TEST_SERVICES_H
#define GPUQ_TEST_SERVICES_H

/*
 * Starts it, with cancellation off.
 * @return its endpoint, until services_end(); NULL: built without gpuqd
 */
const char *services_begin(void);
void services_end(void);

#endif /* GPUQ_TEST_SERVICES_H */
