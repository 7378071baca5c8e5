/* SPDX-License-Identifier: Apache-2.0 */
/* ordered.c - each line of the input as a message, the results in the order of the lines. */
#include <gpuq/gpuq.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define WINDOW  64   /* messages on their way */
#define LONGEST 4096 /* bytes of a line; a longer one is cut into several */

/* Waits for the message, takes its result, prints it; a line for each, whatever became of it. */
static QueueStatus print_result(GpuQueue *q, uint64_t id)
{
	char result[LONGEST];
	size_t len = sizeof(result);
	QueueStatus status = q_wait(q, id, UINT32_MAX);

	if (status == Q_OK)
		status = q_try_dequeue_result(q, id, result, &len);
	if (status == Q_ERR_FAILED || status == Q_ERR_EXPIRED || status == Q_ERR_CANCELLED) {
		printf("(%s)\n", q_status_string(status)); /* this message's own end */
		return Q_OK;
	}
	if (status == Q_OK)
		printf("%.*s\n", (int)len, result);
	return status;
}

/* Sends as long as there is room, and takes the oldest when there is none: in whatever order the
 * messages finish, the window bounds how far one may be ahead of another. */
static QueueStatus in_order(GpuQueue *q, FILE *in)
{
	uint64_t ids[WINDOW], sent = 0, taken = 0;
	char line[LONGEST];
	bool have_line = false, more = true;
	QueueStatus status = Q_OK;

	while (status == Q_OK) {
		if (more && !have_line) {
			more = have_line = fgets(line, sizeof(line), in) != NULL;
			if (have_line)
				line[strcspn(line, "\n")] = '\0';
		}
		if (!have_line && taken == sent)
			return Q_OK; /* all are printed */
		if (have_line && sent - taken < WINDOW) {
			/* Others may use the queue too. With messages outstanding do not wait for
			 * room, as it may be this thread's to make; with none, wait. */
			status = q_enqueue(q, line, strlen(line), &ids[sent % WINDOW],
					   taken == sent ? UINT32_MAX : 0);
			if (status == Q_OK) {
				sent++;
				have_line = false;
				continue;
			}
			if (status != Q_ERR_FULL)
				return status;
		}
		status = print_result(q, ids[taken % WINDOW]);
		taken++;
	}
	return status;
}

int main(void)
{
	const QueueConfig cfg = {
		.capacity = 256, .slot_bytes = LONGEST, .consumers = 4, .processor = "echo"
	};
	GpuQueue *q = q_init(&cfg);

	if (q == NULL || in_order(q, stdin) != Q_OK) {
		fprintf(stderr, "ordered: %s\n", q_last_error());
		return 1;
	}
	q_shutdown(q);
	return 0;
}
