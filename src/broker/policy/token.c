/* SPDX-License-Identifier: Apache-2.0 */
/* token.c - signs, narrows and checks capability tokens (after macaroons, NDSS 2014). */
#include "token.h"

#include <sodium.h>
#include <string.h>

_Static_assert(GQ_TOKEN_KEY == crypto_auth_hmacsha256_KEYBYTES, "the key of an HMAC");

enum {
	SIGNATURE = crypto_auth_hmacsha256_BYTES,
	VERSION = 1,
	AT_VERSION = 4,
	AT_KEY = 5,
	AT_PARTS = 6,
	AT_ID = 8,
	HEAD = 24,
	PART_LENGTH = 2,
	PART_FIXED =
		52, /* u32 rights, uid; u8 has uid, class, all ops, ops; u64 each of five numbers */
};

static const uint8_t magic[4] = { 'G', 'Q', 'T', '1' };

static bool claims_are_valid(const struct gq_claims *c)
{
	if ((c->rights & ~(uint32_t)GQ_RIGHTS) != 0 || (unsigned int)c->best_class >= GQ_CLASSES ||
	    c->op_count > GQ_TOKEN_OPS || (c->all_ops && c->op_count > 0))
		return false;
	for (uint32_t i = 0; i < c->op_count; i++) {
		if (!gq__name_valid(c->ops[i].text,
				    strnlen(c->ops[i].text, sizeof(c->ops[i].text))))
			return false;
	}
	return true;
}

static size_t part_bytes(const struct gq_claims *c)
{
	return PART_FIXED + (size_t)c->op_count * GQ_WIRE_NAME_MAX;
}

/* Its length, and the part. */
static void put_part(uint8_t *at, const struct gq_claims *c)
{
	const uint16_t length = (uint16_t)part_bytes(c);
	const uint8_t small[4] = { c->has_uid, (uint8_t)c->best_class, c->all_ops,
				   (uint8_t)c->op_count };
	const uint64_t numbers[5] = { c->rate, c->bytes, c->pinned, c->not_before_s, c->expires_s };

	memcpy(at, &length, sizeof(length));
	at += PART_LENGTH;
	memcpy(at, &c->rights, sizeof(c->rights));
	memcpy(at + 4, &c->uid, sizeof(c->uid));
	memcpy(at + 8, small, sizeof(small));
	memcpy(at + 12, numbers, sizeof(numbers));
	for (uint32_t i = 0; i < c->op_count; i++) {
		uint8_t *name = at + PART_FIXED + (size_t)i * GQ_WIRE_NAME_MAX;

		memset(name, 0, GQ_WIRE_NAME_MAX);
		memcpy(name, c->ops[i].text, strlen(c->ops[i].text));
	}
}

static bool get_part(const uint8_t *at, size_t bytes, struct gq_claims *out)
{
	uint64_t numbers[5];

	memset(out, 0, sizeof(*out));
	if (bytes < PART_FIXED || at[8] > 1 || at[10] > 1 || at[11] > GQ_TOKEN_OPS)
		return false;
	memcpy(&out->rights, at, sizeof(out->rights));
	memcpy(&out->uid, at + 4, sizeof(out->uid));
	out->has_uid = at[8] != 0;
	out->best_class = (enum gq_class)at[9];
	out->all_ops = at[10] != 0;
	out->op_count = at[11];
	memcpy(numbers, at + 12, sizeof(numbers));
	out->rate = numbers[0];
	out->bytes = numbers[1];
	out->pinned = numbers[2];
	out->not_before_s = numbers[3];
	out->expires_s = numbers[4];
	if (bytes != part_bytes(out))
		return false;
	for (uint32_t i = 0; i < out->op_count; i++)
		memcpy(out->ops[i].text, at + PART_FIXED + (size_t)i * GQ_WIRE_NAME_MAX,
		       GQ_WIRE_NAME_MAX);
	return claims_are_valid(out);
}

static void sign_part(uint8_t signature[SIGNATURE], const uint8_t *key, const uint8_t *head,
		      const uint8_t *part, size_t bytes)
{
	crypto_auth_hmacsha256_state state;

	crypto_auth_hmacsha256_init(&state, key, GQ_TOKEN_KEY);
	if (head) {
		crypto_auth_hmacsha256_update(&state, head, AT_PARTS);
		crypto_auth_hmacsha256_update(&state, head + AT_ID, GQ_TOKEN_ID);
	}
	crypto_auth_hmacsha256_update(&state, part, bytes);
	crypto_auth_hmacsha256_final(&state, signature);
	sodium_memzero(&state, sizeof(state));
}

enum gq_token_status gq__token_issue(const struct gq_token_key *key, const uint8_t id[GQ_TOKEN_ID],
				     const struct gq_claims *claims, void *out, size_t room,
				     size_t *out_bytes)
{
	const size_t part = PART_LENGTH + part_bytes(claims);
	const uint16_t parts = 1;
	uint8_t *at = out;

	if (!claims_are_valid(claims))
		return GQ_TOKEN_IS_CLAIMS;
	if (HEAD + part + SIGNATURE > room)
		return GQ_TOKEN_IS_ROOM;
	memcpy(at, magic, sizeof(magic));
	at[AT_VERSION] = VERSION;
	at[AT_KEY] = key->number;
	memcpy(at + AT_PARTS, &parts, sizeof(parts));
	memcpy(at + AT_ID, id, GQ_TOKEN_ID);
	put_part(at + HEAD, claims);
	sign_part(at + HEAD + part, key->key, at, at + HEAD, part);
	*out_bytes = HEAD + part + SIGNATURE;
	return GQ_TOKEN_IS_OK;
}

/* Where each part begins and ends; the signature is what is left. */
struct form {
	uint32_t parts;
	const uint8_t *at[GQ_TOKEN_PARTS + 1];
};

static enum gq_token_status read_form(const uint8_t *at, size_t bytes, struct form *out)
{
	size_t left;
	uint16_t parts;

	if (bytes < HEAD + SIGNATURE || bytes > GQ_TOKEN_MOST ||
	    memcmp(at, magic, sizeof(magic)) != 0)
		return GQ_TOKEN_IS_FORM;
	if (at[AT_VERSION] != VERSION)
		return GQ_TOKEN_IS_VERSION;
	memcpy(&parts, at + AT_PARTS, sizeof(parts));
	if (parts == 0 || parts > GQ_TOKEN_PARTS)
		return GQ_TOKEN_IS_FORM;
	out->parts = parts;
	out->at[0] = at + HEAD;
	left = bytes - HEAD - SIGNATURE;
	for (uint32_t i = 0; i < parts; i++) {
		uint16_t length;

		if (left < PART_LENGTH)
			return GQ_TOKEN_IS_FORM;
		memcpy(&length, out->at[i], sizeof(length));
		left -= PART_LENGTH;
		if (length > left)
			return GQ_TOKEN_IS_FORM;
		left -= length;
		out->at[i + 1] = out->at[i] + PART_LENGTH + length;
	}
	return left == 0 ? GQ_TOKEN_IS_OK : GQ_TOKEN_IS_FORM;
}

enum gq_token_status gq__token_narrow(const void *token, size_t bytes,
				      const struct gq_claims *claims, void *out, size_t room,
				      size_t *out_bytes)
{
	struct form form;
	const enum gq_token_status status = read_form(token, bytes, &form);
	uint8_t before[SIGNATURE];
	uint8_t *at = out;
	size_t part;
	uint16_t parts;

	if (status != GQ_TOKEN_IS_OK)
		return status;
	if (!claims_are_valid(claims))
		return GQ_TOKEN_IS_CLAIMS;
	if (form.parts == GQ_TOKEN_PARTS)
		return GQ_TOKEN_IS_PARTS;
	part = PART_LENGTH + part_bytes(claims);
	if (bytes + part > room || bytes + part > GQ_TOKEN_MOST)
		return GQ_TOKEN_IS_ROOM;
	memmove(at, token, bytes);
	memcpy(before, at + bytes - SIGNATURE, SIGNATURE);
	parts = (uint16_t)(form.parts + 1);
	memcpy(at + AT_PARTS, &parts, sizeof(parts));
	put_part(at + bytes - SIGNATURE, claims);
	sign_part(at + bytes - SIGNATURE + part, before, NULL, at + bytes - SIGNATURE, part);
	sodium_memzero(before, sizeof(before));
	*out_bytes = bytes + part;
	return GQ_TOKEN_IS_OK;
}

static uint64_t smaller_limit(uint64_t a, uint64_t b)
{
	if (a == 0 || b == 0)
		return a | b;
	return a < b ? a : b;
}

bool gq__claims_name(const struct gq_claims *c, const char *op)
{
	bool found = c->all_ops;

	for (uint32_t i = 0; i < c->op_count && !found; i++)
		found = strcmp(c->ops[i].text, op) == 0;
	return found;
}

void gq__claims_narrow(struct gq_claims *claims, const struct gq_claims *by)
{
	uint32_t kept = 0;

	claims->rights &= by->rights;
	if (by->has_uid && claims->has_uid && claims->uid != by->uid)
		claims->rights = 0; /* for nobody */
	if (by->has_uid && !claims->has_uid) {
		claims->has_uid = true;
		claims->uid = by->uid;
	}
	if (by->best_class > claims->best_class)
		claims->best_class = by->best_class;
	if (claims->all_ops) {
		claims->all_ops = by->all_ops;
		claims->op_count = by->op_count;
		memcpy(claims->ops, by->ops, sizeof(claims->ops));
	} else {
		for (uint32_t i = 0; i < claims->op_count; i++) {
			if (gq__claims_name(by, claims->ops[i].text))
				claims->ops[kept++] = claims->ops[i];
		}
		claims->op_count = kept;
	}
	claims->rate = smaller_limit(claims->rate, by->rate);
	claims->bytes = smaller_limit(claims->bytes, by->bytes);
	claims->pinned = smaller_limit(claims->pinned, by->pinned);
	if (by->not_before_s > claims->not_before_s)
		claims->not_before_s = by->not_before_s;
	claims->expires_s = smaller_limit(claims->expires_s, by->expires_s);
}

static const uint8_t *key_of(const struct gq_token_check *check, uint8_t number)
{
	for (uint32_t i = 0; i < check->key_count; i++) {
		if (check->keys[i].number == number)
			return check->keys[i].key;
	}
	return NULL;
}

static enum gq_token_status check_claims(const struct gq_claims *c, bool other_user,
					 const struct gq_token_check *check)
{
	const uint64_t leeway = check->leeway_s != 0 ? check->leeway_s : GQ_TOKEN_LEEWAY_S;

	if (other_user)
		return GQ_TOKEN_IS_SUBJECT;
	if (c->not_before_s > check->now_s && c->not_before_s - check->now_s > leeway)
		return GQ_TOKEN_IS_EARLY;
	if (c->expires_s != 0 && check->now_s >= c->expires_s &&
	    check->now_s - c->expires_s >= leeway)
		return GQ_TOKEN_IS_EXPIRED;
	return GQ_TOKEN_IS_OK;
}

enum gq_token_status gq__token_verify(const void *token, size_t bytes,
				      const struct gq_token_check *check, struct gq_claims *out)
{
	const uint8_t *head = token;
	struct form form;
	enum gq_token_status status = read_form(head, bytes, &form);
	struct gq_claims all = { 0 };
	uint8_t signature[SIGNATURE];
	const uint8_t *key;
	bool other_user = false;

	if (status != GQ_TOKEN_IS_OK)
		return status;
	key = key_of(check, head[AT_KEY]);
	if (!key)
		return GQ_TOKEN_IS_KEY;
	for (uint32_t i = 0; i < form.parts; i++) {
		const size_t part = (size_t)(form.at[i + 1] - form.at[i]);

		sign_part(signature, i == 0 ? key : signature, i == 0 ? head : NULL, form.at[i],
			  part);
	}
	/* In a time that does not depend on where they differ. */
	if (sodium_memcmp(signature, form.at[form.parts], SIGNATURE) != 0)
		return GQ_TOKEN_IS_SIGNATURE;
	for (uint32_t i = 0; i < form.parts; i++) {
		struct gq_claims part;

		if (!get_part(form.at[i] + PART_LENGTH,
			      (size_t)(form.at[i + 1] - form.at[i]) - PART_LENGTH, &part))
			return GQ_TOKEN_IS_FORM;
		other_user = other_user || (part.has_uid && part.uid != check->uid);
		if (i == 0)
			all = part;
		else
			gq__claims_narrow(&all, &part);
	}
	for (uint32_t i = 0; i < check->denied_count; i++) {
		if (memcmp(check->denied[i], head + AT_ID, GQ_TOKEN_ID) == 0)
			return GQ_TOKEN_IS_DENIED;
	}
	status = check_claims(&all, other_user, check);
	if (status == GQ_TOKEN_IS_OK)
		*out = all;
	return status;
}

enum gq_token_status gq__token_part(const void *token, size_t bytes, uint32_t index,
				    struct gq_token_head *head, struct gq_claims *out)
{
	const uint8_t *at = token;
	struct form form;
	const enum gq_token_status status = read_form(at, bytes, &form);

	if (status != GQ_TOKEN_IS_OK)
		return status;
	if (index >= form.parts)
		return GQ_TOKEN_IS_PARTS;
	if (head != NULL) {
		head->key = at[AT_KEY];
		head->parts = form.parts;
		memcpy(head->id, at + AT_ID, GQ_TOKEN_ID);
	}
	return get_part(form.at[index] + PART_LENGTH,
			(size_t)(form.at[index + 1] - form.at[index]) - PART_LENGTH, out)
		       ? GQ_TOKEN_IS_OK
		       : GQ_TOKEN_IS_FORM;
}

bool gq__claims_allow(const struct gq_claims *claims, const char *op, enum gq_class class)
{
	const uint32_t rights =
		GQ_RIGHT_SUBMIT | (class == GQ_CLASS_CRITICAL ? (uint32_t)GQ_RIGHT_CRITICAL : 0);

	return gq_claims_give(claims, rights) && class >= claims->best_class &&
	       gq__claims_name(claims, op);
}

const char *gq__token_status_text(enum gq_token_status status)
{
	static const char *const texts[] = {
#define GQ_AS_TEXT(name, text) [GQ_TOKEN_IS_##name] = (text),
		GQ_TOKEN_STATUS_LIST(GQ_AS_TEXT)
#undef GQ_AS_TEXT
	};

	return (unsigned int)status < sizeof(texts) / sizeof(texts[0]) ? texts[status]
								       : "no such status";
}
