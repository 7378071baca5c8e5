/* SPDX-License-Identifier: Apache-2.0 */
/* rights.c - capability tokens for queues: what `gpuq token` makes, looked at when a client
 * connects.
 */
#include "rights.h"

#include "broker/service/token.h"

#include <stdio.h>
#include <string.h>

/* Classes of tokens count from critical, those of queues from low. CRITICAL needs a right. */
static uint32_t best_of(const struct gq_claims *may)
{
	const bool critical = gq_claims_give(may, GQ_RIGHT_CRITICAL);
	const uint32_t best = may->best_class == GQ_CLASS_CRITICAL && !critical
				      ? GQ_CLASS_HIGH
				      : (uint32_t)may->best_class;

	return GQ_CLASSES - 1 - best;
}

bool rights_check(const struct router_tokens *keys, const void *token, size_t bytes, uint32_t uid,
		  const char *queue, struct rights *out, char text[RIGHTS_TEXT])
{
	enum gq_token_status status;
	struct gq_token_head head;
	struct gq_claims may, issued;
	const char *why = NULL;

	if (bytes == 0) {
		snprintf(text, RIGHTS_TEXT, "queue '%.63s' needs a token: GPUQ_TOKEN", queue);
		return false;
	}
	status = token_verify(keys, token, bytes, uid, &may);
	if (status != GQ_TOKEN_IS_OK)
		why = gq__token_status_text(status);
	else if (!gq_claims_give(&may, GQ_RIGHT_SUBMIT))
		why = "the token has no right to submit";
	else if (!gq__claims_name(&may, queue))
		why = "the token is not for this queue";
	else if (may.rate != 0 || may.bytes != 0)
		why = "the token has a rate, which queues do not count; allowed: none";
	if (why != NULL) {
		snprintf(text, RIGHTS_TEXT, "queue '%.63s': %s", queue, why);
		return false;
	}
	(void)gq__token_part(token, bytes, 0, &head, &issued); /* it is good, so it has one */
	memcpy(out->id, head.id, sizeof(out->id));
	out->best = best_of(&may);
	out->pinned = may.pinned;
	return true;
}
