/* SPDX-License-Identifier: Apache-2.0 */
/* callers.h - callers and workers of a gpuqd's services. Each function fails the test if it cannot
 * do what it says. */
#ifndef GPUQ_TEST_CALLERS_H
#define GPUQ_TEST_CALLERS_H

#include <gpuq/broker.h>

#include <stdint.h>

BrokerClient *connect_to_services(const char *endpoint);
/* The same, of another user: the one that the kernel names when it connects. It takes root, and a
 * socket that everybody may write to, in a folder that everybody may enter. */
BrokerClient *connect_stranger(const char *endpoint);

/* A connection that has registered this service. */
BrokerClient *connect_worker(const char *endpoint, const BrokerService *service);
/* The same, and it is READY. */
BrokerClient *connect_ready_worker(const char *endpoint, const char *name, const char *can,
				   uint32_t capacity);
/* The service of that name, which there is; of at most four. */
BrokerServiceInfo services_look(BrokerClient *c, const char *name);

/* Waits for the end of a request, which has to be `status`; its reply is `text`, NULL: none is
 * looked at. */
BrokerReply await_end(BrokerClient *c, uint64_t id, QueueStatus status, const char *text);

/* One of the counts of q_broker_stats(); services_count(): on a connection made for it. */
uint64_t services_count_on(BrokerClient *c, const char *name);
uint64_t services_count(const char *endpoint, const char *name);
void services_await_count(const char *endpoint, const char *name, uint64_t value);
/* Waits until so many services take requests: one that has registered does after its first
 * heartbeat. */
void services_await_ready(const char *endpoint, unsigned services);

/* What was sent before on `c` has come to gpuqd, and all that could go has gone: that happens
 * between the coming of another connection and its first word. */
void services_settle(const char *endpoint, BrokerClient *c);
/* Takes just `n` requests, and no more come; room for one more in `to`. `c`: a connection on which
 * they were sent. */
void services_await_just(const char *endpoint, BrokerClient *c, BrokerClient *w, BrokerRequest *to,
			 unsigned n);

#endif /* GPUQ_TEST_CALLERS_H */
