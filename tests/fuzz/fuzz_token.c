/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_token.c - bytes for a token: nothing is read beyond them, and none is taken that was not
 * signed. Then the same bytes as what a holder of a token appended and signed, as everybody can: it
 * is read, and allows no more than before.
 */
#include "fuzz.h"

#include "broker/policy/token.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static const struct gq_token_key key = { .number = 1, .key = { 1 } };
static const uint8_t id[GQ_TOKEN_ID] = "fuzz";

static enum gq_token_status verify(const uint8_t *token, size_t bytes, struct gq_claims *out)
{
	const struct gq_token_check check = { .keys = &key, .key_count = 1, .uid = 1 };

	return gq__token_verify(token, bytes, &check, out);
}

/* The token, and these bytes as its second part. */
static void append(const uint8_t *data, uint16_t size)
{
	static const struct gq_claims base = { .rights = GQ_RIGHT_SUBMIT,
					       .best_class = GQ_CLASS_NORMAL,
					       .op_count = 1,
					       .ops = { { "op" } },
					       .rate = 10 };
	static uint8_t token[GQ_TOKEN_MOST + 100];
	const uint16_t parts = 2;
	uint8_t signature[32];
	struct gq_claims out;
	size_t bytes;

	if (gq__token_issue(&key, id, &base, token, sizeof(token), &bytes) != GQ_TOKEN_IS_OK)
		abort();
	memcpy(token + 6, &parts, sizeof(parts));
	bytes -= sizeof(signature);
	memcpy(signature, token + bytes, sizeof(signature));
	memcpy(token + bytes, &size, sizeof(size));
	memcpy(token + bytes + 2, data, size);
	crypto_auth_hmacsha256(token + bytes + 2 + size, token + bytes, 2u + size, signature);
	if (verify(token, bytes + 2 + size + sizeof(signature), &out) != GQ_TOKEN_IS_OK)
		return;
	if ((out.rights & ~base.rights) != 0 || out.best_class < base.best_class || out.all_ops ||
	    out.op_count > 1 || out.rate == 0 || out.rate > 10)
		abort();
}

void fuzz_one(const uint8_t *data, size_t size)
{
	static const struct gq_claims less = { .rights = GQ_RIGHT_SUBMIT, .all_ops = true };
	static uint8_t narrower[GQ_TOKEN_MOST];
	struct gq_claims out;
	size_t bytes;

	if (sodium_init() == -1)
		abort();
	/* The corpus has no token that is signed by this key, and nobody can guess one. */
	if (verify(data, size, &out) == GQ_TOKEN_IS_OK)
		abort();
	if (gq__token_narrow(data, size, &less, narrower, sizeof(narrower), &bytes) ==
		    GQ_TOKEN_IS_OK &&
	    (bytes <= size || bytes > sizeof(narrower)))
		abort();
	if (size <= 2000)
		append(data, (uint16_t)size);
}
