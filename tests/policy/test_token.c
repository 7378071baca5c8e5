/* SPDX-License-Identifier: Apache-2.0 */
/* test_token.c - tokens: what they allow, and that nobody can make them allow more. */
#include "policy_test.h"

#include "broker/policy/token.h"

#include <sodium.h>
#include <stdio.h>

static const struct gq_token_key keys[2] = { { .number = 1, .key = { 1 } },
					     { .number = 2, .key = { 2 } } };
static const uint8_t id[GQ_TOKEN_ID] = "token";

static const struct gq_claims everything = { .rights = GQ_RIGHTS, .all_ops = true };

struct token {
	uint8_t bytes[GQ_TOKEN_MOST];
	size_t size;
};

static int start(void **state)
{
	(void)state;
	return sodium_init() == -1;
}

static struct gq_token_check check_at(uint64_t now_s)
{
	return (struct gq_token_check){ .keys = keys, .key_count = 2, .uid = 1000, .now_s = now_s };
}

static enum gq_token_status verify(const struct token *t, uint64_t now_s, struct gq_claims *out)
{
	const struct gq_token_check check = check_at(now_s);

	return gq__token_verify(t->bytes, t->size, &check, out);
}

static struct token issue(const struct gq_claims *claims)
{
	struct token t = { .size = 0 };

	assert_int_equal(gq__token_issue(&keys[0], id, claims, t.bytes, sizeof(t.bytes), &t.size),
			 GQ_TOKEN_IS_OK);
	return t;
}

static void narrow(struct token *t, const struct gq_claims *claims)
{
	assert_int_equal(
		gq__token_narrow(t->bytes, t->size, claims, t->bytes, sizeof(t->bytes), &t->size),
		GQ_TOKEN_IS_OK);
}

static void se_1_no_changed_token_is_taken(void **state)
{
	const struct gq_claims claims = {
		.rights = GQ_RIGHT_SUBMIT, .op_count = 1, .ops = { { "embed" } }, .expires_s = 100
	};
	struct gq_claims out;

	(void)state;
	for (int parts = 1; parts <= 3; parts++) {
		struct token t = issue(&claims);

		for (int i = 1; i < parts; i++)
			narrow(&t, &claims);
		assert_int_equal(verify(&t, 50, &out), GQ_TOKEN_IS_OK);
		for (size_t bit = 0; bit < t.size * 8; bit++) {
			t.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
			if (verify(&t, 50, &out) == GQ_TOKEN_IS_OK)
				fail_msg("bit %zu", bit);
			t.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
		for (size_t size = t.size; size-- > 0;) {
			uint8_t *copy = malloc(size + (size == 0));
			const struct gq_token_check check = check_at(50);

			assert_non_null(copy);
			memcpy(copy, t.bytes, size);
			assert_int_equal(gq__token_verify(copy, size, &check, &out),
					 GQ_TOKEN_IS_FORM);
			free(copy);
		}
	}
}

static void se_1_what_was_appended_cannot_be_taken_away(void **state)
{
	struct token t = issue(&everything);
	const struct token whole = t;
	const struct gq_claims little = { .rights = GQ_RIGHT_SUBMIT, .all_ops = true };
	struct gq_claims out;
	uint8_t signature[32];

	(void)state;
	narrow(&t, &little);
	assert_int_equal(verify(&t, 0, &out), GQ_TOKEN_IS_OK);
	assert_int_equal(out.rights, GQ_RIGHT_SUBMIT);
	/* The holder of the narrow one cuts the part off, and has only its signature. */
	memcpy(signature, t.bytes + t.size - 32, 32);
	t = whole;
	memcpy(t.bytes + t.size - 32, signature, 32);
	assert_int_equal(verify(&t, 0, &out), GQ_TOKEN_IS_SIGNATURE);
}

static void se_2_each_right_is_a_right_of_its_own(void **state)
{
	(void)state;
	for (uint32_t right = 1; right < GQ_RIGHTS; right <<= 1) {
		struct gq_claims less = everything;
		struct gq_claims out;
		struct token t;

		less.rights &= ~right;
		t = issue(&less);
		assert_int_equal(verify(&t, 0, &out), GQ_TOKEN_IS_OK);
		for (uint32_t other = 1; other < GQ_RIGHTS; other <<= 1)
			assert_int_equal(gq_claims_give(&out, other), other != right);
		assert_int_equal(gq__claims_allow(&out, "op", GQ_CLASS_NORMAL),
				 right != GQ_RIGHT_SUBMIT);
		assert_int_equal(gq__claims_allow(&out, "op", GQ_CLASS_CRITICAL),
				 right != GQ_RIGHT_SUBMIT && right != GQ_RIGHT_CRITICAL);
	}
}

static void se_2_user_time_and_revocation(void **state)
{
	struct gq_claims claims = everything;
	struct gq_claims out;
	struct gq_token_check check = check_at(0);
	struct token t;

	(void)state;
	claims.not_before_s = 1000;
	claims.expires_s = 2000;
	claims.has_uid = true;
	claims.uid = 1000;
	t = issue(&claims);
	assert_int_equal(verify(&t, 939, &out), GQ_TOKEN_IS_EARLY);
	assert_int_equal(verify(&t, 940, &out), GQ_TOKEN_IS_OK);
	assert_int_equal(verify(&t, 2059, &out), GQ_TOKEN_IS_OK);
	assert_int_equal(verify(&t, 2060, &out), GQ_TOKEN_IS_EXPIRED);
	check.now_s = 1500;
	check.uid = 1001;
	assert_int_equal(gq__token_verify(t.bytes, t.size, &check, &out), GQ_TOKEN_IS_SUBJECT);
	check.uid = 1000;
	check.denied = &id;
	check.denied_count = 1;
	assert_int_equal(gq__token_verify(t.bytes, t.size, &check, &out), GQ_TOKEN_IS_DENIED);
	check.denied_count = 0;
	check.keys = &keys[1]; /* its key is not active any more */
	check.key_count = 1;
	assert_int_equal(gq__token_verify(t.bytes, t.size, &check, &out), GQ_TOKEN_IS_KEY);
	for (size_t i = 0; i <= GQ_TOKEN_IS_CLAIMS; i++)
		assert_non_null(gq__token_status_text((enum gq_token_status)i));
}

static struct gq_claims random_claims(uint64_t *random)
{
	struct gq_claims c = {
		.rights = (uint32_t)gq_random_below(random, GQ_RIGHTS + 1),
		.has_uid = gq_random_below(random, 3) == 0,
		.uid = 1000 + (uint32_t)gq_random_below(random, 2),
		.best_class = (enum gq_class)gq_random_below(random, GQ_CLASSES),
		.all_ops = gq_random_below(random, 2) == 0,
		.rate = gq_random_below(random, 4),
		.bytes = gq_random_below(random, 4),
		.pinned = gq_random_below(random, 4),
		.not_before_s = gq_random_below(random, 1000),
		.expires_s = gq_random_below(random, 3) * 1000,
	};

	for (uint32_t i = 0; !c.all_ops && i < 4; i++) {
		if (gq_random_below(random, 2) == 0)
			snprintf(c.ops[c.op_count++].text, sizeof(c.ops[0].text), "op%u", i);
	}
	return c;
}

static bool is_wider(uint64_t limit, uint64_t than)
{
	return than != 0 && (limit == 0 || limit > than);
}

static void se_3_narrowing_never_widens(void **state)
{
	uint64_t random = SEED;
	uint32_t good = 0;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		const struct gq_claims base = random_claims(&random);
		const struct gq_claims by = random_claims(&random);
		struct token t = issue(&base);
		const uint64_t now = gq_random_below(&random, 3000);
		struct gq_claims before;
		struct gq_claims after;
		const enum gq_token_status was = verify(&t, now, &before);

		narrow(&t, &by);
		if (verify(&t, now, &after) != GQ_TOKEN_IS_OK)
			continue;
		good++;
		assert_int_equal(was, GQ_TOKEN_IS_OK);
		assert_int_equal(after.rights & ~(before.rights & by.rights), 0);
		assert_false(is_wider(after.rate, before.rate) || is_wider(after.rate, by.rate));
		assert_false(is_wider(after.bytes, before.bytes) ||
			     is_wider(after.bytes, by.bytes));
		assert_false(is_wider(after.pinned, before.pinned) ||
			     is_wider(after.pinned, by.pinned));
		assert_false(is_wider(after.expires_s, before.expires_s) ||
			     is_wider(after.expires_s, by.expires_s));
		assert_true(after.not_before_s >= before.not_before_s &&
			    after.not_before_s >= by.not_before_s);
		for (int op = 0; op < 5; op++) {
			char name[16];

			snprintf(name, sizeof(name), "op%d", op);
			for (int class = 0; class < GQ_CLASSES; class ++)
				assert_int_equal(
					gq__claims_allow(&after, name, (enum gq_class) class),
					gq__claims_allow(&before, name, (enum gq_class) class) &&
						gq__claims_allow(&by, name, (enum gq_class) class));
		}
	}
	assert_true(good > 1000);
}

static void each_limit_has_its_error(void **state)
{
	struct gq_claims claims = { .rights = GQ_RIGHTS + 1, .all_ops = true };
	struct token t = issue(&everything);
	size_t size = 1;

	(void)state;
	assert_int_equal(gq__token_issue(&keys[0], id, &claims, t.bytes, 4096, &size),
			 GQ_TOKEN_IS_CLAIMS);
	claims = everything;
	claims.op_count = 1; /* all, and one */
	assert_int_equal(gq__token_narrow(t.bytes, t.size, &claims, t.bytes, 4096, &size),
			 GQ_TOKEN_IS_CLAIMS);
	assert_int_equal(gq__token_issue(&keys[0], id, &everything, t.bytes, t.size - 1, &size),
			 GQ_TOKEN_IS_ROOM);
	assert_int_equal(size, 1);
	for (int i = 1; i < GQ_TOKEN_PARTS; i++)
		narrow(&t, &everything);
	assert_int_equal(gq__token_narrow(t.bytes, t.size, &everything, t.bytes, 4096, &size),
			 GQ_TOKEN_IS_PARTS);
	assert_int_equal(gq__token_narrow("GQT1", 4, &everything, t.bytes, 4096, &size),
			 GQ_TOKEN_IS_FORM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(se_1_no_changed_token_is_taken),
		cmocka_unit_test(se_1_what_was_appended_cannot_be_taken_away),
		cmocka_unit_test(se_2_each_right_is_a_right_of_its_own),
		cmocka_unit_test(se_2_user_time_and_revocation),
		cmocka_unit_test(se_3_narrowing_never_widens),
		cmocka_unit_test(each_limit_has_its_error),
	};

	return cmocka_run_group_tests(tests, start, NULL);
}
