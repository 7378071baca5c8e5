/* SPDX-License-Identifier: Apache-2.0 */
/* refusal.c - error replies of Redis, by their first word. */
#include "refusal.h"

#include <stddef.h>
#include <string.h>

static const struct {
	const char *word;
	enum refusal refusal;
} words[] = {
	{ "LOADING", REFUSAL_WAIT },       { "BUSY", REFUSAL_WAIT },
	{ "CLUSTERDOWN", REFUSAL_WAIT },   { "TRYAGAIN", REFUSAL_WAIT },
	{ "MASTERDOWN", REFUSAL_WAIT },    { "NOREPLICAS", REFUSAL_WAIT },
	{ "READONLY", REFUSAL_ELSEWHERE }, { "MOVED", REFUSAL_ELSEWHERE },
	{ "ASK", REFUSAL_ELSEWHERE },      { "UNBLOCKED", REFUSAL_WAIT },
	{ "NOGROUP", REFUSAL_NO_GROUP },   { "OOM", REFUSAL_NO_MEMORY },
	{ "NOSCRIPT", REFUSAL_NO_SCRIPT }, { "BUSYGROUP", REFUSAL_EXISTS },
	{ "NOAUTH", REFUSAL_FATAL },       { "WRONGPASS", REFUSAL_FATAL },
	{ "NOPERM", REFUSAL_FATAL },       { "WRONGTYPE", REFUSAL_FATAL },
};

static enum refusal by_word(const char *text)
{
	const size_t len = strcspn(text, " ");

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strlen(words[i].word) == len && memcmp(words[i].word, text, len) == 0)
			return words[i].refusal;
	}
	return REFUSAL_OTHER;
}

enum refusal refusal_of(const char *error)
{
	const enum refusal refusal = by_word(error);
	const char *inner;

	if (refusal != REFUSAL_OTHER)
		return refusal;
	/* Before Redis 7: "ERR Error running script (call to f_...): @user_script:1: -NOGROUP ..."
	 */
	inner = strstr(error, " -");
	if (strncmp(error, "ERR Error", 9) == 0 && inner)
		return by_word(inner + 2);
	if (strncmp(error, "ERR invalid password", 20) == 0 ||
	    strncmp(error, "ERR Client sent AUTH", 20) == 0 || strncmp(error, "ERR AUTH", 8) == 0)
		return REFUSAL_FATAL;
	return REFUSAL_OTHER;
}
