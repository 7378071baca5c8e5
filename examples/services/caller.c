/* SPDX-License-Identifier: Apache-2.0 */
/* caller.c COUNT - a caller: requests for the op `double`, 32 at a time; says how each ended. */
#include <gpuq/broker.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { AT_ONCE = 32 };

int main(int argc, char **argv)
{
	const int count = argc > 1 ? atoi(argv[1]) : 100;
	int number[AT_ONCE], sent = 0, inside = 0, ok = 0, lost = 0, other = 0;
	uint64_t id[AT_ONCE];
	BrokerClient *c = q_broker_connect(NULL);

	if (c == NULL) {
		fprintf(stderr, "caller: %s\n", q_last_error());
		return 1;
	}
	while (sent < count || inside > 0) {
		int n = sent, twice = 0, at = 0;
		const BrokerCall call = { .service = "double", .payload = &n, .bytes = sizeof(n) };
		size_t bytes = sizeof(twice);
		BrokerReply r;

		if (sent < count && inside < AT_ONCE) {
			if (q_broker_submit(c, &call, &id[inside]) != Q_OK)
				break;
			number[inside++] = sent++;
			continue;
		}
		if (q_broker_wait(c, 0, &twice, &bytes, &r, UINT32_MAX) == Q_ERR_LOST && r.id == 0)
			break; /* gpuqd has gone */
		while (id[at] != r.id)
			at++;
		ok += r.status == Q_OK && twice == 2 * number[at];
		lost += r.status == Q_ERR_LOST; /* its worker died: it may have run */
		other += r.status != Q_OK && r.status != Q_ERR_LOST;
		inside--;
		id[at] = id[inside];
		number[at] = number[inside];
	}
	q_broker_close(c);
	printf("caller of user %u: sent %d = ok %d + lost %d + ended otherwise %d\n", geteuid(),
	       sent, ok, lost, other);
	return sent == ok + lost + other && sent == count ? 0 : 1;
}
