/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token.h - capability tokens: what their holder may do, signed by the daemon's key. Pure.
 *
 * A holder can make a token that may do less, without the daemon: it appends what it narrows, and
 * replaces the signature s by HMAC(s, what it appended). Nobody can take an appended part away
 * again, for that would need the signature before. What a token may do is what all of its parts
 * allow.
 *
 * Bytes: "GQT1", u8 version 1, u8 key, u16 parts, 16 bytes id; each part u16 bytes, then a fixed
 * form; 32 bytes HMAC-SHA256. Numbers are little-endian. Needs libsodium, whose sodium_init() the
 * program has called.
 */
#ifndef GPUQ_BROKER_POLICY_TOKEN_H
#define GPUQ_BROKER_POLICY_TOKEN_H

#include "admission.h"
#include "capability.h"

enum {
	GQ_TOKEN_KEY = 32,
	GQ_TOKEN_ID = 16,
	GQ_TOKEN_MOST = 4096,
	GQ_TOKEN_PARTS = 8,
	GQ_TOKEN_OPS = 8,
	GQ_TOKEN_LEEWAY_S = 60, /* by which clocks may differ */
};

enum gq_right {
	GQ_RIGHT_SUBMIT = 1 << 0,
	GQ_RIGHT_REGISTER = 1 << 1,
	GQ_RIGHT_ADMIN = 1 << 2,
	GQ_RIGHT_CUDA_IMPORT = 1 << 3,
	GQ_RIGHT_CRITICAL = 1 << 4, /* to submit in class CRITICAL */
	GQ_RIGHTS = (1 << 5) - 1,
};

/* What a token allows, or a part of one. */
struct gq_claims {
	uint32_t rights;
	bool has_uid; /* for this user only */
	uint32_t uid;
	enum gq_class best_class; /* and the classes below it */
	bool all_ops;             /* else these, of which there may be none */
	uint32_t op_count;
	struct gq_name ops[GQ_TOKEN_OPS]; /* names of queues and ops */
	uint64_t rate;                    /* requests a second; 0: no limit, here and below */
	uint64_t bytes;                   /* a second */
	uint64_t pinned;                  /* bytes */
	uint64_t not_before_s;            /* wall clock */
	uint64_t expires_s;               /* 0: never */
};

#define GQ_TOKEN_STATUS_LIST(X)                                                                    \
	X(OK, "the token is good")                                                                 \
	X(FORM, "not a token, or one that has been cut")                                           \
	X(VERSION, "another version of tokens")                                                    \
	X(KEY, "signed by a key that is not active")                                               \
	X(SIGNATURE, "the signature is wrong")                                                     \
	X(DENIED, "this token has been revoked")                                                   \
	X(SUBJECT, "the token is another user's")                                                  \
	X(EARLY, "the token is not valid yet")                                                     \
	X(EXPIRED, "the token has expired")                                                        \
	X(PARTS, "narrowed too often")                                                             \
	X(ROOM, "no room for the token")                                                           \
	X(CLAIMS, "claims that no token can have")

#define GQ_AS_TOKEN_STATUS(name, text) GQ_TOKEN_IS_##name,
enum gq_token_status { GQ_TOKEN_STATUS_LIST(GQ_AS_TOKEN_STATUS) };
#undef GQ_AS_TOKEN_STATUS

struct gq_token_key {
	uint8_t number;
	uint8_t key[GQ_TOKEN_KEY];
};

/* What a token is checked against. */
struct gq_token_check {
	const struct gq_token_key *keys; /* that are active: two while they are changed */
	uint32_t key_count;
	const uint8_t (*denied)[GQ_TOKEN_ID]; /* tokens that have been revoked */
	uint32_t denied_count;
	uint32_t uid;      /* of the peer, from the kernel */
	uint64_t now_s;    /* wall clock */
	uint64_t leeway_s; /* by which clocks may differ: GQ_TOKEN_LEEWAY_S, if 0 */
};

/** A new token. OK, ROOM, CLAIMS. */
enum gq_token_status gq__token_issue(const struct gq_token_key *key, const uint8_t id[GQ_TOKEN_ID],
				     const struct gq_claims *claims, void *out, size_t room,
				     size_t *out_bytes);

/** A token that may do what both it and these claims allow. OK, FORM, VERSION, PARTS, ROOM, CLAIMS.
 */
enum gq_token_status gq__token_narrow(const void *token, size_t bytes,
				      const struct gq_claims *claims, void *out, size_t room,
				      size_t *out_bytes);

/**
 * What a token allows. Any bytes may be given.
 * @param out  written on success
 * @return OK, FORM, VERSION, KEY, SIGNATURE, DENIED, SUBJECT, EARLY, EXPIRED. Nothing is said about
 * what is in a token whose signature is wrong
 */
enum gq_token_status gq__token_verify(const void *token, size_t bytes,
				      const struct gq_token_check *check, struct gq_claims *out);

/** Who has signed a token, and how many parts it has, whatever its signature. */
struct gq_token_head {
	uint8_t key;
	uint32_t parts;
	uint8_t id[GQ_TOKEN_ID];
};

/**
 * One part of a token, whatever its signature: to be shown, or after gq__token_verify().
 * @param index  0: as it was issued; then what each narrowing appended
 * @param head   may be NULL
 * @return OK, FORM, VERSION; PARTS: there is no such part
 */
enum gq_token_status gq__token_part(const void *token, size_t bytes, uint32_t index,
				    struct gq_token_head *head, struct gq_claims *out);

/** What both allow. */
void gq__claims_narrow(struct gq_claims *claims, const struct gq_claims *by);

/** Whether this op, or queue, is among theirs. */
bool gq__claims_name(const struct gq_claims *claims, const char *op);

/** Whether they give all of these rights. */
static inline bool gq_claims_give(const struct gq_claims *claims, uint32_t rights)
{
	return (rights & ~claims->rights) == 0;
}

/** Whether they allow a request for this op in this class: SUBMIT, and CRITICAL for that class. */
bool gq__claims_allow(const struct gq_claims *claims, const char *op, enum gq_class class);

/** What is wrong, in words. */
const char *gq__token_status_text(enum gq_token_status status);

#endif /* GPUQ_BROKER_POLICY_TOKEN_H */
