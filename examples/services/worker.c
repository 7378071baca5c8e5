/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c NAME - a worker: it answers requests for the op `double` with twice their number. */
#include <gpuq/broker.h>

#include <stdio.h>
#include <string.h>
#include <time.h>

int main(int argc, char **argv)
{
	const struct timespec work = { .tv_nsec = 2000000 }; /* as if it were hard */
	const BrokerService me = { .name = argc > 1 ? argv[1] : "worker",
				   .capability = "op=double" };
	BrokerClient *c = q_broker_connect(NULL);
	BrokerRequest q;

	if (c == NULL || q_service_register(c, &me) != Q_OK) {
		fprintf(stderr, "%s: %s\n", me.name, q_last_error());
		return 1;
	}
	while (q_service_recv(c, &q, UINT32_MAX) == Q_OK) {
		int n = 0;

		memcpy(&n, q.payload, q.bytes == sizeof(n) ? sizeof(n) : 0);
		nanosleep(&work, NULL);
		n *= 2;
		q_service_reply(c, &q, Q_REASON_OK, &n, sizeof(n));
	}
	q_broker_close(c);
	return 0;
}
