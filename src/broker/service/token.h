/* SPDX-License-Identifier: Apache-2.0 */
/* token.h - what the queues of gpuqd need of the tokens of services. */
#ifndef GPUQ_BROKER_SERVICE_TOKEN_H
#define GPUQ_BROKER_SERVICE_TOKEN_H

#include "broker/policy/token.h"
#include "service.h"

/* Whether a token is good for this user now. @param out  what it allows, if so */
enum gq_token_status token_verify(const struct router_tokens *keys, const void *token, size_t bytes,
				  uint32_t uid, struct gq_claims *out);

#endif /* GPUQ_BROKER_SERVICE_TOKEN_H */
