/* SPDX-License-Identifier: Apache-2.0 */
/*
 * token.c - capability tokens at work: whoever connects shows one, if the configuration has keys
 * for them; what it allows is looked at with every request and registration.
 *
 * A holder may narrow its token as often as it likes, without us. So rates are counted twice: each
 * connection by its own token, and all connections together by what was issued.
 */
#include "token.h"

#include "router.h"

#include "host/base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- the file -------------------------------------------------------------------------------- */

enum { LINE = 256 };

struct lines {
	const char *path;
	unsigned line;
	char *error;
};

__attribute__((format(printf, 2, 3))) static bool wrong(const struct lines *l, const char *format,
							...)
{
	char what[300];
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (l->line != 0)
		snprintf(l->error, ROUTER_ERROR_ROOM, "%.200s:%u: %s", l->path, l->line, what);
	else
		snprintf(l->error, ROUTER_ERROR_ROOM, "%.200s: %s", l->path, what);
	return false;
}

static bool from_hex(const char *text, uint8_t *out, size_t bytes)
{
	size_t n;

	return strlen(text) == 2 * bytes &&
	       sodium_hex2bin(out, bytes, text, strlen(text), NULL, &n, NULL) == 0 && n == bytes;
}

static bool read_key(const struct lines *l, char *number, char *hex, struct router_tokens *to)
{
	char *end = number;
	const unsigned long n = number != NULL ? strtoul(number, &end, 10) : 0;

	if (number == NULL || hex == NULL || number[0] < '0' || number[0] > '9' || *end != '\0' ||
	    n > 255)
		return wrong(l, "a key is: key NUMBER HEX, NUMBER 0 to 255");
	if (to->keys == ROUTER_KEYS)
		return wrong(l, "one key too many; allowed: %d", ROUTER_KEYS);
	for (uint32_t i = 0; i < to->keys; i++)
		if (to->key[i].number == n)
			return wrong(l, "key %lu is there already", n);
	to->key[to->keys].number = (uint8_t)n;
	if (!from_hex(hex, to->key[to->keys].key, GQ_TOKEN_KEY))
		return wrong(l, "key %lu is not of 64 hexadecimal digits", n);
	to->keys++;
	return true;
}

static bool read_deny(const struct lines *l, const char *hex, struct router_tokens *to)
{
	if (hex == NULL || to->denied == ROUTER_DENIED ||
	    !from_hex(hex, to->deny[to->denied], GQ_TOKEN_ID))
		return wrong(l, "deny names a token by 32 hexadecimal digits; allowed: %d of them",
			     ROUTER_DENIED);
	to->denied++;
	return true;
}

static bool read_line(const struct lines *l, char *text, struct router_tokens *to)
{
	static const char blank[] = " \t\r\n";
	char *rest = text, *word[4] = { NULL };
	int n = 0;

	while (n < 4 && (word[n] = strtok_r(n == 0 ? text : NULL, blank, &rest)) != NULL)
		n++;
	if (n == 0 || word[0][0] == '#')
		return true;
	if (strcmp(word[0], "key") == 0 && n <= 3)
		return read_key(l, word[1], word[2], to);
	if (strcmp(word[0], "deny") == 0 && n <= 2)
		return read_deny(l, word[1], to);
	return wrong(l, "'%.20s' is no line of tokens; allowed: key NUMBER HEX, deny HEX", word[0]);
}

static bool read_lines(struct lines *l, FILE *f, struct router_tokens *to)
{
	char text[LINE];
	bool good = true;

	while (good && fgets(text, sizeof(text), f) != NULL) {
		l->line++;
		good = strlen(text) + 1 < sizeof(text) ? read_line(l, text, to)
						       : wrong(l, "the line is too long");
	}
	sodium_memzero(text, sizeof(text));
	if (good && ferror(f)) {
		l->line = 0;
		return wrong(l, "cannot be read: %s", strerror(errno));
	}
	l->line = 0;
	return good && (to->keys != 0 || wrong(l, "there is no key in it"));
}

bool router_tokens_read(const char *path, struct router_tokens *to, char error[ROUTER_ERROR_ROOM])
{
	struct lines l = { .path = path, .error = error };
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	bool good;
	FILE *f;

	*to = (struct router_tokens){ 0 };
	if (fd < 0 || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
	    (f = fdopen(fd, "r")) == NULL) {
		good = wrong(&l, "%s", fd < 0 ? strerror(errno) : "is no file");
		if (fd >= 0)
			close(fd);
		return good;
	}
	setvbuf(f, NULL, _IONBF, 0); /* no copy of keys that nobody wipes */
	if ((st.st_mode & 077) != 0)
		good = wrong(&l, "others may read it (mode %03o); allowed: 0600 or 0400",
			     (unsigned)(st.st_mode & 0777));
	else if (st.st_uid != geteuid() && st.st_uid != 0)
		good = wrong(&l, "it is user %u's; allowed: this user's, %u, or root's",
			     (unsigned)st.st_uid, (unsigned)geteuid());
	else
		good = read_lines(&l, f, to);
	fclose(f);
	return good;
}

/* ---- bearers --------------------------------------------------------------------------------- */

enum { FRAME = GQ_WIRE_FRAME_MAX };
#define BURST_MOST UINT64_C(0x7fffffff)

/* What comes within a second may come at once, and one frame always may. 0: no limit. */
static void limit(struct gq_limiter *l, uint64_t rate, uint64_t least)
{
	const uint64_t burst = rate > least ? rate : least;

	(void)gq__limiter_init(l, rate < GQ_RATE_MOST ? rate : GQ_RATE_MOST,
			       burst < BURST_MOST ? burst : BURST_MOST);
}

static bool has_forgotten(const struct bearer *b, uint64_t now_ns)
{
	return gq__limiter_left(&b->requests, now_ns) >= b->requests.burst &&
	       gq__limiter_left(&b->bytes, now_ns) >= b->bytes.burst;
}

/* Those that nobody shows any more go once they would say the same as new ones. */
static void sweep(struct router *r, bool all)
{
	const uint64_t now_ns = gq__now_ns();

	for (struct bearer **at = &r->bearers; *at != NULL;) {
		struct bearer *b = *at;

		if (b->peers == 0 && (all || has_forgotten(b, now_ns))) {
			*at = b->next;
			free(b);
		} else {
			at = &b->next;
		}
	}
}

static struct bearer *bearer_of(struct router *r, const struct gq_token_head *head,
				const struct gq_claims *issued)
{
	struct bearer *b = r->bearers;

	while (b != NULL && memcmp(b->id, head->id, sizeof(b->id)) != 0)
		b = b->next;
	if (b != NULL)
		return b;
	sweep(r, false);
	b = calloc(1, sizeof(*b));
	if (b == NULL)
		return NULL;
	memcpy(b->id, head->id, sizeof(b->id));
	limit(&b->requests, issued->rate, 1);
	limit(&b->bytes, issued->bytes, FRAME);
	b->next = r->bearers;
	r->bearers = b;
	return b;
}

/* ---- checking -------------------------------------------------------------------------------- */

enum gq_token_status token_verify(const struct router_tokens *t, const void *token, size_t bytes,
				  uint32_t uid, struct gq_claims *out)
{
	struct gq_token_key keys[ROUTER_KEYS];
	const struct gq_token_check check = { .keys = keys,
					      .key_count = t->keys,
					      .denied = t->deny,
					      .denied_count = t->denied,
					      .uid = uid,
					      .now_s = (uint64_t)time(NULL) };
	enum gq_token_status status;

	for (uint32_t i = 0; i < t->keys; i++) {
		keys[i].number = t->key[i].number;
		memcpy(keys[i].key, t->key[i].key, sizeof(keys[i].key));
	}
	status = gq__token_verify(token, bytes, &check, out);
	sodium_memzero(keys, sizeof(keys));
	return status;
}

static bool refuse(struct router *r, struct answer *a, enum gq_wire_status status, const char *text)
{
	*a = (struct answer){ .status = status, .text = text };
	r->counts.denied++;
	return false;
}

bool token_greet(struct router *r, struct peer *p, const struct gq_frame *f, struct answer *a)
{
	const struct gq_view *shown = &f->tlv[GQ_TLV_TOKEN];
	struct gq_token_head head;
	enum gq_token_status status;
	struct gq_claims issued;
	struct pass *pass;

	if (r->cfg.token.keys == 0)
		return true; /* who shows one nevertheless has it for another gpuqd */
	if (!gq_frame_has(f, GQ_TLV_TOKEN))
		return refuse(r, a, GQ_WIRE_UNAUTHENTICATED, "a token is needed");
	pass = calloc(1, sizeof(*pass) + shown->bytes);
	if (pass == NULL)
		return refuse(r, a, GQ_WIRE_OVERLOADED, "out of memory");
	status = token_verify(&r->cfg.token, shown->data, shown->bytes, p->link.uid, &pass->may);
	if (status == GQ_TOKEN_IS_OK) /* so it has a first part */
		(void)gq__token_part(shown->data, shown->bytes, 0, &head, &issued);
	if (status != GQ_TOKEN_IS_OK || (pass->bearer = bearer_of(r, &head, &issued)) == NULL) {
		free(pass);
		return refuse(r, a, GQ_WIRE_UNAUTHENTICATED,
			      status != GQ_TOKEN_IS_OK ? gq__token_status_text(status)
						       : "out of memory");
	}
	limit(&pass->requests, pass->may.rate, 1);
	limit(&pass->bytes, pass->may.bytes, FRAME);
	pass->length = shown->bytes;
	memcpy(pass->token, shown->data, shown->bytes);
	pass->bearer->peers++;
	p->pass = pass;
	return true;
}

/* Its time may be over, or it has been revoked since. NULL: it is good, or none is needed */
static const char *objection(const struct peer *p)
{
	const uint64_t now_s = (uint64_t)time(NULL);
	const struct pass *pass = p->pass;

	if (pass == NULL)
		return NULL;
	if (pass->bearer == NULL)
		return "a token is needed";
	if (pass->status != GQ_TOKEN_IS_OK)
		return gq__token_status_text(pass->status);
	if (pass->may.expires_s != 0 && now_s >= pass->may.expires_s &&
	    now_s - pass->may.expires_s >= GQ_TOKEN_LEEWAY_S)
		return gq__token_status_text(GQ_TOKEN_IS_EXPIRED);
	return NULL;
}

bool token_is_good(const struct peer *p)
{
	return objection(p) == NULL;
}

bool token_may_serve(struct router *r, const struct peer *p, struct answer *a)
{
	const char *text = objection(p);

	return text == NULL || refuse(r, a, GQ_WIRE_UNAUTHENTICATED, text);
}

bool token_may_order(struct router *r, const struct peer *p, struct answer *a)
{
	if (!token_may_serve(r, p, a))
		return false;
	return p->pass == NULL || gq_claims_give(&p->pass->may, GQ_RIGHT_ADMIN) ||
	       refuse(r, a, GQ_WIRE_DENIED, "the token has no right to give orders (admin)");
}

bool token_names(const struct peer *p, const char *op)
{
	if (p->pass == NULL)
		return true;
	return op != NULL ? gq__claims_name(&p->pass->may, op) : p->pass->may.all_ops;
}

static bool pass_rates(struct router *r, struct peer *p, uint32_t bytes, struct answer *a)
{
	struct pass *pass = p->pass;
	const struct gq_limit limits[] = { { &pass->requests, 1 },
					   { &pass->bytes, bytes },
					   { &pass->bearer->requests, 1 },
					   { &pass->bearer->bytes, bytes } };
	uint64_t retry_ns = 0;

	if (gq__limits_pass(limits, 4, gq__now_ns(), &retry_ns) == 4)
		return true;
	*a = (struct answer){ .status = GQ_WIRE_RATE_LIMITED,
			      .retry_ns = retry_ns,
			      .text = "the token's rate is used up" };
	r->counts.rate_limited++;
	return false;
}

bool token_may_submit(struct router *r, struct peer *p, const struct gq_frame *f, uint8_t priority,
		      struct answer *a)
{
	const struct gq_view *name = &f->tlv[GQ_TLV_NAME];
	const enum gq_class class = gq__class_of(priority);
	char op[GQ_WIRE_NAME_MAX + 1] = { 0 };
	const struct gq_claims *may;

	if (p->pass == NULL)
		return true;
	may = &p->pass->may;
	memcpy(op, name->data, name->bytes);
	if (!token_may_serve(r, p, a))
		return false;
	if (!gq_claims_give(may, GQ_RIGHT_SUBMIT))
		return refuse(r, a, GQ_WIRE_DENIED, "the token has no right to submit");
	if (!gq__claims_name(may, op))
		return refuse(r, a, GQ_WIRE_DENIED, "the token is not for this op");
	if (!gq__claims_allow(may, op, class))
		return refuse(r, a, GQ_WIRE_DENIED, "the token is for requests of less priority");
	return pass_rates(r, p, f->length, a);
}

bool token_may_make_region(struct router *r, struct peer *p, uint32_t bytes, struct answer *a)
{
	if (p->pass == NULL)
		return true;
	if (!token_may_serve(r, p, a))
		return false;
	if (!gq_claims_give(&p->pass->may, GQ_RIGHT_SUBMIT))
		return refuse(r, a, GQ_WIRE_DENIED, "the token has no right to submit");
	return pass_rates(r, p, bytes, a);
}

bool token_may_register(struct router *r, struct peer *p, const struct gq_registration *reg,
			struct answer *a)
{
	char own[GQ_WIRE_NAME_MAX + 1] = { 0 };
	const struct gq_claims *may;
	bool named = true;

	if (p->pass == NULL)
		return true;
	may = &p->pass->may;
	if (!token_may_serve(r, p, a))
		return false;
	if (!gq_claims_give(may, GQ_RIGHT_REGISTER))
		return refuse(r, a, GQ_WIRE_DENIED, "the token has no right to register");
	memcpy(own, reg->name, reg->name_bytes);
	if (reg->can.op_count == 0)
		named = gq__claims_name(may, own);
	for (uint32_t i = 0; i < reg->can.op_count; i++)
		named = named && gq__claims_name(may, reg->can.ops[i].name.text);
	if (!named)
		return refuse(r, a, GQ_WIRE_DENIED, "the token is not for all of these ops");
	return true;
}

void token_peer_gone(struct router *r, struct peer *p)
{
	if (p->pass == NULL)
		return;
	if (p->pass->bearer != NULL)
		p->pass->bearer->peers--;
	free(p->pass);
	p->pass = NULL;
	sweep(r, false);
}

/* Who had none when none was needed has a pass now that is good for nothing: what it has asked for,
 * and has been given, is finished. For more it has to connect anew. */
void token_configure(struct router *r)
{
	for (struct peer *p = r->peers; p != NULL; p = p->next) {
		struct gq_claims may;

		if (r->cfg.token.keys == 0)
			token_peer_gone(r, p);
		else if (p->pass != NULL && p->pass->bearer != NULL)
			p->pass->status = token_verify(&r->cfg.token, p->pass->token,
						       p->pass->length, p->link.uid, &may);
		else if (p->greeted && (p->pass = calloc(1, sizeof(*p->pass))) == NULL)
			p->doomed = true;
	}
}

void token_free(struct router *r)
{
	sweep(r, true);
	sodium_memzero(&r->cfg.token, sizeof(r->cfg.token));
}
