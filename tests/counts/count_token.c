/* SPDX-License-Identifier: Apache-2.0 */
/*
 * count_token.c - SE-1: looking at a token whose signature is wrong costs the same, wherever the
 * wrong byte is. So who forges one learns nothing from how long gpuqd takes to refuse it.
 *
 * Each path is a function path_se_1_wrong_at_BYTE(), which callgrind collects in alone.
 */
#include "broker/policy/token.h"

#include "count.h"

#include <string.h>

enum { ROUNDS = 64, SIGNATURE = 32 };

static const struct gq_token_key key = { .number = 1, .key = "0123456789abcdef0123456789abcde" };
static uint8_t good[GQ_TOKEN_MOST];
static size_t bytes;

static inline void look(size_t wrong)
{
	const struct gq_token_check check = {
		.keys = &key, .key_count = 1, .uid = 1000, .now_s = 9
	};
	uint8_t token[GQ_TOKEN_MOST];
	struct gq_claims claims;

	memcpy(token, good, sizeof(token));
	token[bytes - SIGNATURE + wrong] ^= 1;
	must(gq__token_verify(token, bytes, &check, &claims) == GQ_TOKEN_IS_SIGNATURE,
	     "it was taken");
}

#define WRONG_AT(byte)                                                                             \
	PATH(se_1_wrong_at_##byte)                                                                 \
	{                                                                                          \
		look(byte);                                                                        \
	}
WRONG_AT(0)
WRONG_AT(1)
WRONG_AT(7)
WRONG_AT(8)
WRONG_AT(15)
WRONG_AT(16)
WRONG_AT(30)
WRONG_AT(31)

static const struct {
	const char *name;
	void (*path)(void);
} paths[] = {
	{ "se_1_wrong_at_0", path_se_1_wrong_at_0 },
	{ "se_1_wrong_at_1", path_se_1_wrong_at_1 },
	{ "se_1_wrong_at_7", path_se_1_wrong_at_7 },
	{ "se_1_wrong_at_8", path_se_1_wrong_at_8 },
	{ "se_1_wrong_at_15", path_se_1_wrong_at_15 },
	{ "se_1_wrong_at_16", path_se_1_wrong_at_16 },
	{ "se_1_wrong_at_30", path_se_1_wrong_at_30 },
	{ "se_1_wrong_at_31", path_se_1_wrong_at_31 },
};

int main(void)
{
	const struct gq_claims claims = { .rights = GQ_RIGHT_SUBMIT, .all_ops = true };
	const uint8_t id[GQ_TOKEN_ID] = { 1 };
	struct gq_claims out;
	const struct gq_token_check check = {
		.keys = &key, .key_count = 1, .uid = 1000, .now_s = 9
	};

	must(gq__token_issue(&key, id, &claims, good, sizeof(good), &bytes) == GQ_TOKEN_IS_OK,
	     "issue");
	must(gq__token_verify(good, bytes, &check, &out) == GQ_TOKEN_IS_OK, "the good one");
	for (size_t k = 0; k < sizeof(paths) / sizeof(paths[0]); k++) {
		for (int i = 0; i < ROUNDS; i++) {
			forget_lines();
			paths[k].path();
		}
		printf("%s %d\n", paths[k].name, ROUNDS);
	}
	return 0;
}
