/* SPDX-License-Identifier: Apache-2.0 */
/* tune.c - settings of the grid that GPUQ_TUNE names: NAME:VALUE, with commas between them. */
#include "device/cuda/host/tune.h"

#include "host/base/error.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct setting {
	const char *name;
	size_t at;
	uint32_t value, least, greatest;
} settings[] = {
#define SETTING(name, value, least, greatest)                                                      \
	{ #name, offsetof(struct gq_tune, name), value, least, greatest },
	GQ_TUNE_LIST(SETTING)
#undef SETTING
};
enum { SETTINGS = sizeof(settings) / sizeof(settings[0]) };

static void set(struct gq_tune *t, const struct setting *s, uint32_t value)
{
	memcpy((char *)t + s->at, &value, sizeof(value));
}

/* The setting that `len` bytes of text name, or NULL. */
static const struct setting *find(const char *text, size_t len)
{
	for (int i = 0; i < SETTINGS; i++)
		if (strlen(settings[i].name) == len && memcmp(settings[i].name, text, len) == 0)
			return &settings[i];
	return NULL;
}

static bool refuse_name(const char *text, size_t len)
{
	char names[200] = "";
	size_t used = 0;

	for (int i = 0; i < SETTINGS; i++)
		used += (size_t)snprintf(names + used, sizeof(names) - used, "%s%s",
					 i == 0 ? "" : ", ", settings[i].name);
	gq__failf(Q_ERR_INVALID_ARG,
		  "environment variable GPUQ_TUNE names '%.*s'; allowed: NAME:VALUE with commas "
		  "between them, of %s",
		  (int)(len < 32 ? len : 32), text, names);
	return false;
}

/* One NAME:VALUE of `len` bytes. */
static bool read_one(const char *text, size_t len, struct gq_tune *out)
{
	const char *colon = memchr(text, ':', len);
	const size_t name_len = colon != NULL ? (size_t)(colon - text) : len;
	const struct setting *s = find(text, name_len);
	const char *end = text + len, *c = text + name_len + 1;
	uint64_t value = 0;
	bool number;

	if (s == NULL)
		return refuse_name(text, name_len);
	number = colon != NULL && c < end;
	for (; c < end && number; c++) {
		number = *c >= '0' && *c <= '9' && value <= UINT32_MAX;
		value = value * 10 + (uint64_t)(*c - '0');
	}
	if (!number || value < s->least || value > s->greatest) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "environment variable GPUQ_TUNE: %s is '%.*s'; allowed: %" PRIu32
			  " to %" PRIu32,
			  s->name, (int)(colon != NULL ? end - colon - 1 : 0),
			  colon != NULL ? colon + 1 : "", s->least, s->greatest);
		return false;
	}
	set(out, s, (uint32_t)value);
	return true;
}

bool gq__tune_read(struct gq_tune *out)
{
	const char *text = getenv("GPUQ_TUNE");

	for (int i = 0; i < SETTINGS; i++)
		set(out, &settings[i], settings[i].value);
	while (text != NULL && *text != '\0') {
		const size_t len = strcspn(text, ",");

		if (!read_one(text, len, out))
			return false;
		text += len;
		if (*text == ',' && *++text == '\0') /* nothing behind the last comma */
			return refuse_name(text, 0);
	}
	return true;
}
