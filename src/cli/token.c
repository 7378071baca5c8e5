/* SPDX-License-Identifier: Apache-2.0 */
/* token.c - `gpuq token`: makes keys and tokens for gpuqd's services, narrows them, shows them. */
#define _GNU_SOURCE
#include "cli.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

const char token_help[] =
	"Usage: gpuq token key [NUMBER]\n"
	"       gpuq token issue --keys FILE [CLAIM...]\n"
	"       gpuq token narrow TOKEN CLAIM...\n"
	"       gpuq token show TOKEN\n"
	"\n"
	"Tokens say what a client, a caller or a worker may do at a gpuqd whose configuration\n"
	"has keys for them (tokens = FILE). Who has one can make one that may do less, without\n"
	"the key.\n"
	"\n"
	"  key     print a line for FILE, with a new key; NUMBER 0 to 255, default 1\n"
	"  issue   print a token, signed with the first key of FILE\n"
	"  narrow  print one that may do what both TOKEN and the claims allow\n"
	"  show    print what TOKEN allows, part by part; it is not checked: only gpuqd can\n"
	"TOKEN is as printed, or - for a line of the standard input, or $GPUQ_TOKEN if left out.\n"
	"Others can see the arguments of a command: prefer the latter two.\n"
	"\n"
	"Claims:\n"
	"  -r, --rights LIST    of submit, register, critical (priority 255) and admin (orders),\n"
	"                       separated by commas;\n"
	"                       issue: default submit; narrow: default all that TOKEN has\n"
	"  -o, --op NAME        of an op or a queue, may come 8 times; default: all\n"
	"  -c, --class CLASS    no better than critical, high, normal or low; default critical\n"
	"  -u, --uid NUMBER     for this user only\n"
	"      --rate NUMBER    requests a second; 0: no limit, the default\n"
	"      --bytes SIZE     a second, such as 1M; 0: no limit, the default\n"
	"      --memory SIZE    shared with clients of queues; 0: no limit, the default\n"
	"  -e, --expires TIME   from now, such as 30s, 12h or 90d; default: never\n"
	"  -k, --keys FILE      the file of keys\n"
	"  -h, --help           show this text\n"
	"\n"
	"Exit codes:\n"
	"  0  it has been printed\n"
	"  1  there is no such key or token, or it cannot do that\n"
	"  2  wrong usage\n"
	"  3  the output could not be written\n";

#if defined(GPUQ_HAVE_SODIUM)

#include "broker/policy/token.h"

#include <ctype.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <time.h>

enum { OPTION_RATE = 256, OPTION_BYTES, OPTION_MEMORY, LINE = 2 * GQ_TOKEN_MOST + 16 };

static const struct option long_options[] = {
	{ "rights", required_argument, NULL, 'r' },
	{ "op", required_argument, NULL, 'o' },
	{ "class", required_argument, NULL, 'c' },
	{ "uid", required_argument, NULL, 'u' },
	{ "rate", required_argument, NULL, OPTION_RATE },
	{ "bytes", required_argument, NULL, OPTION_BYTES },
	{ "memory", required_argument, NULL, OPTION_MEMORY },
	{ "expires", required_argument, NULL, 'e' },
	{ "keys", required_argument, NULL, 'k' },
	{ "help", no_argument, NULL, 'h' },
	{ NULL, 0, NULL, 0 },
};

static const struct {
	const char *name;
	uint32_t right;
} rights[] = {
	{ "submit", GQ_RIGHT_SUBMIT },
	{ "register", GQ_RIGHT_REGISTER },
	{ "critical", GQ_RIGHT_CRITICAL },
	{ "admin", GQ_RIGHT_ADMIN },
};

static const char *const classes[GQ_CLASSES] = { "critical", "high", "normal", "low" };

struct wanted {
	struct gq_claims claims;
	const char *keys;
	bool help, has_rights, some; /* some: a claim was given */
};

/* ---- options --------------------------------------------------------------------------------- */

static int read_rights(struct wanted *w, char *list)
{
	char *word;

	w->claims.rights = 0;
	w->has_rights = true;
	while ((word = strsep(&list, ",")) != NULL) {
		size_t i = 0;

		while (i < sizeof(rights) / sizeof(rights[0]) && strcmp(word, rights[i].name) != 0)
			i++;
		if (i == sizeof(rights) / sizeof(rights[0]))
			return usage_error("token",
					   "--rights has '%s'; allowed: submit, register, "
					   "critical, admin",
					   word);
		w->claims.rights |= rights[i].right;
	}
	return CLI_OK;
}

static int read_op(struct wanted *w, const char *name)
{
	struct gq_claims *c = &w->claims;

	if (!gq__name_valid(name, strlen(name)))
		return usage_error("token", "--op is '%s'; allowed: 1 to 64 of A-Z a-z 0-9 . _ -",
				   name);
	if (c->op_count == GQ_TOKEN_OPS)
		return usage_error("token", "one --op too many; allowed: %d", GQ_TOKEN_OPS);
	c->all_ops = false;
	memcpy(c->ops[c->op_count++].text, name, strlen(name) + 1);
	return CLI_OK;
}

static int read_class(struct wanted *w, const char *name)
{
	for (uint32_t i = 0; i < GQ_CLASSES; i++) {
		if (strcmp(name, classes[i]) == 0) {
			w->claims.best_class = (enum gq_class)i;
			return CLI_OK;
		}
	}
	return usage_error("token", "--class is '%s'; allowed: critical, high, normal, low", name);
}

static int read_number(const char *option, const char *text, uint64_t most, uint64_t *out)
{
	char *end;

	errno = 0;
	*out = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || *end != '\0' || errno != 0 || *out > most)
		return usage_error("token", "%s is '%s'; allowed: 0 to %llu", option, text,
				   (unsigned long long)most);
	return CLI_OK;
}

static int read_expiry(struct wanted *w, const char *text)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} units[] = { { 's', 1 }, { 'm', 60 }, { 'h', 3600 }, { 'd', 86400 } };
	char *end;
	uint64_t n;

	errno = 0;
	n = strtoull(text, &end, 10);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (!isdigit((unsigned char)text[0]) || errno != 0 || n == 0 || n > 100000 ||
		    end[0] != units[i].unit || end[1] != '\0')
			continue;
		w->claims.expires_s = (uint64_t)time(NULL) + n * units[i].seconds;
		return CLI_OK;
	}
	return usage_error("token", "--expires is '%s'; allowed: 1 to 100000 and s, m, h or d",
			   text);
}

static int read_option(struct wanted *w, int option, char **argv)
{
	uint64_t uid;
	int code;

	w->some = w->some || (option != 'k' && option != 'h');
	switch (option) {
	case 'r':
		return read_rights(w, optarg);
	case 'o':
		return read_op(w, optarg);
	case 'c':
		return read_class(w, optarg);
	case 'u':
		code = read_number("--uid", optarg, UINT32_MAX - 1, &uid);
		w->claims.has_uid = true;
		w->claims.uid = (uint32_t)uid;
		return code;
	case OPTION_RATE:
		return read_number("--rate", optarg, UINT64_C(1000000000), &w->claims.rate);
	case OPTION_MEMORY:
		return parse_size(optarg, &w->claims.pinned)
			       ? CLI_OK
			       : usage_error("token",
					     "--memory is '%s'; allowed: a size such as 1M",
					     optarg);
	case OPTION_BYTES:
		return parse_size(optarg, &w->claims.bytes)
			       ? CLI_OK
			       : usage_error("token", "--bytes is '%s'; allowed: a size such as 1M",
					     optarg);
	case 'e':
		return read_expiry(w, optarg);
	case 'k':
		w->keys = optarg;
		return CLI_OK;
	case 'h':
		w->help = true;
		return CLI_OK;
	default:
		return option_error("token", option, argv);
	}
}

/* ---- keys and tokens as text ----------------------------------------------------------------- */

static int print_hex(const void *data, size_t bytes)
{
	char text[2 * GQ_TOKEN_MOST + 1];

	sodium_bin2hex(text, sizeof(text), data, bytes);
	puts(text);
	return CLI_OK;
}

static int print_key(const char *number)
{
	uint8_t key[GQ_TOKEN_KEY];
	uint64_t n = 1;
	int code = CLI_OK;

	if (number != NULL)
		code = read_number("NUMBER", number, 255, &n);
	if (code != CLI_OK)
		return code;
	randombytes_buf(key, sizeof(key));
	printf("key %u ", (unsigned)n);
	code = print_hex(key, sizeof(key));
	sodium_memzero(key, sizeof(key));
	return code;
}

/* The first line "key NUMBER HEX". */
static bool first_key(FILE *f, struct gq_token_key *out)
{
	char line[256], number[4], hex[80];
	bool found = false;
	size_t n;

	while (!found && fgets(line, sizeof(line), f) != NULL) {
		if (sscanf(line, " key %3[0-9] %79s", number, hex) != 2 || atoi(number) > 255)
			continue;
		out->number = (uint8_t)atoi(number);
		found = sodium_hex2bin(out->key, sizeof(out->key), hex, strlen(hex), NULL, &n,
				       NULL) == 0 &&
			n == sizeof(out->key);
	}
	sodium_memzero(line, sizeof(line));
	sodium_memzero(hex, sizeof(hex));
	return found;
}

/* gpuqd would not take the file. */
static void warn_of_readers(FILE *f, const char *path)
{
	struct stat st;

	if (fstat(fileno(f), &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 077) != 0)
		warn_line("%s: others may read it (mode %03o), so gpuqd refuses it; allowed: 0600 "
			  "or 0400",
			  path, (unsigned)(st.st_mode & 0777));
}

/* @return its bytes; 0: it has been said what is wrong */
static size_t read_token(const char *text, uint8_t out[GQ_TOKEN_MOST])
{
	static char line[LINE];
	size_t n = 0;

	if (text == NULL)
		text = getenv("GPUQ_TOKEN");
	if (text != NULL && strcmp(text, "-") == 0) {
		if (fgets(line, sizeof(line), stdin) == NULL)
			line[0] = '\0';
		line[strcspn(line, " \r\n")] = '\0';
		text = line;
	}
	if (text == NULL)
		warn_line("there is no TOKEN, and no GPUQ_TOKEN in the environment");
	else if (text[0] == '\0' ||
		 sodium_hex2bin(out, GQ_TOKEN_MOST, text, strlen(text), NULL, &n, NULL) != 0)
		warn_line("TOKEN is not of 2 to %d hexadecimal digits", 2 * GQ_TOKEN_MOST);
	else
		return n;
	return 0;
}

/* ---- the four -------------------------------------------------------------------------------- */

static int issue(const struct wanted *w)
{
	uint8_t id[GQ_TOKEN_ID], token[GQ_TOKEN_MOST];
	struct gq_token_key key;
	enum gq_token_status status;
	size_t n = 0;
	FILE *f;
	bool found;

	if (w->keys == NULL)
		return usage_error("token", "issue needs --keys FILE");
	f = fopen(w->keys, "re");
	if (f == NULL) {
		warn_line("%s: %s", w->keys, strerror(errno));
		return CLI_MESSAGES_FAILED;
	}
	warn_of_readers(f, w->keys);
	found = first_key(f, &key);
	fclose(f);
	if (!found) {
		warn_line("%s has no line: key NUMBER HEX, of 64 hexadecimal digits", w->keys);
		return CLI_MESSAGES_FAILED;
	}
	randombytes_buf(id, sizeof(id));
	status = gq__token_issue(&key, id, &w->claims, token, sizeof(token), &n);
	sodium_memzero(&key, sizeof(key));
	if (status == GQ_TOKEN_IS_OK)
		return print_hex(token, n);
	warn_line("%s", gq__token_status_text(status));
	return CLI_MESSAGES_FAILED;
}

static int narrow(const struct wanted *w, const char *text)
{
	uint8_t token[GQ_TOKEN_MOST], out[GQ_TOKEN_MOST];
	enum gq_token_status status;
	size_t n, bytes = 0;

	if (!w->some)
		return usage_error("token", "narrow needs a claim");
	n = read_token(text, token);
	if (n == 0)
		return CLI_MESSAGES_FAILED;
	status = gq__token_narrow(token, n, &w->claims, out, sizeof(out), &bytes);
	if (status == GQ_TOKEN_IS_OK)
		return print_hex(out, bytes);
	warn_line("TOKEN: %s", gq__token_status_text(status));
	return CLI_MESSAGES_FAILED;
}

static void show_limit(const char *name, uint64_t value)
{
	if (value != 0)
		printf(", %s %llu", name, (unsigned long long)value);
}

static void show_part(uint32_t index, const struct gq_claims *c)
{
	bool first = true;

	printf("%s ", index == 0 ? "issued:  " : "narrowed:");
	for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++) {
		if ((c->rights & rights[i].right) == 0)
			continue;
		printf("%s%s", first ? "rights " : ",", rights[i].name);
		first = false;
	}
	if (first)
		printf("rights none");
	printf(", class %s, ops", classes[c->best_class]);
	for (uint32_t i = 0; i < c->op_count; i++)
		printf(" %s", c->ops[i].text);
	printf("%s", c->all_ops ? " all" : c->op_count == 0 ? " none" : "");
	if (c->has_uid)
		printf(", uid %u", c->uid);
	show_limit("rate", c->rate);
	show_limit("bytes", c->bytes);
	show_limit("memory", c->pinned);
	if (c->expires_s != 0) {
		const time_t at = (time_t)c->expires_s;
		struct tm tm;
		char date[32] = "?";

		if (gmtime_r(&at, &tm) != NULL)
			strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &tm);
		printf(", expires %s", date);
	}
	putchar('\n');
}

static int show(const char *text)
{
	uint8_t token[GQ_TOKEN_MOST];
	struct gq_token_head head = { .parts = 1 };
	char id[2 * GQ_TOKEN_ID + 1];
	const size_t n = read_token(text, token);

	if (n == 0)
		return CLI_MESSAGES_FAILED;
	for (uint32_t i = 0; i < head.parts; i++) {
		struct gq_claims claims;
		const enum gq_token_status status = gq__token_part(token, n, i, &head, &claims);

		if (status != GQ_TOKEN_IS_OK) {
			warn_line("TOKEN: %s", gq__token_status_text(status));
			return CLI_MESSAGES_FAILED;
		}
		if (i == 0)
			printf("token %s, key %u\n",
			       sodium_bin2hex(id, sizeof(id), head.id, sizeof(head.id)), head.key);
		show_part(i, &claims);
	}
	return CLI_OK;
}

int cmd_token(int argc, char **argv)
{
	struct wanted w = { .claims = { .all_ops = true } };
	const char *what, *argument;
	int option, code = CLI_OK;

	opterr = 0;
	while (code == CLI_OK && !w.help &&
	       (option = getopt_long(argc, argv, ":r:o:c:u:e:k:h", long_options, NULL)) != -1)
		code = read_option(&w, option, argv);
	if (code != CLI_OK)
		return code;
	if (w.help) {
		fputs(token_help, stdout);
		return CLI_OK;
	}
	if (sodium_init() < 0) {
		warn_line("libsodium cannot be used");
		return CLI_MESSAGES_FAILED;
	}
	what = optind < argc ? argv[optind++] : "";
	argument = optind < argc ? argv[optind++] : NULL;
	if (optind < argc)
		return usage_error("token", "'%s' is one argument too many", argv[optind]);
	if (strcmp(what, "issue") == 0) {
		w.claims.rights = w.has_rights ? w.claims.rights : GQ_RIGHT_SUBMIT;
		return argument == NULL
			       ? issue(&w)
			       : usage_error("token", "'%s' is one argument too many", argument);
	}
	if (w.keys != NULL || (w.some && strcmp(what, "narrow") != 0))
		return usage_error("token", "%s takes no such option",
				   what[0] != '\0' ? what : "nothing");
	if (strcmp(what, "narrow") == 0) {
		w.claims.rights = w.has_rights ? w.claims.rights : GQ_RIGHTS;
		return narrow(&w, argument);
	}
	if (strcmp(what, "key") == 0)
		return print_key(argument);
	if (strcmp(what, "show") == 0)
		return show(argument);
	if (what[0] == '\0')
		return usage_error("token", "what to do is missing: key, issue, narrow or show");
	return usage_error("token", "'%s' is none of key, issue, narrow, show", what);
}

#else

int cmd_token(int argc, char **argv)
{
	if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		fputs(token_help, stdout);
		return CLI_OK;
	}
	warn_line("this build has no tokens: there was no libsodium");
	return CLI_MESSAGES_FAILED;
}

#endif
