/* SPDX-License-Identifier: Apache-2.0 */
/* capability.c - reads capabilities and wishes, and compares them. */
#include "capability.h"

#include <string.h>

/* A part of the text. */
struct word {
	const char *at;
	size_t bytes;
};

static bool is(struct word w, const char *text)
{
	return w.bytes == strlen(text) && memcmp(w.at, text, w.bytes) == 0;
}

/* What stands before the first `mark`; *rest is what follows it, NULL if there is no mark. */
static struct word cut(struct word w, char mark, struct word *rest)
{
	const char *found = w.bytes > 0 ? memchr(w.at, mark, w.bytes) : NULL;

	*rest = (struct word){ NULL, 0 };
	if (found) {
		const size_t before = (size_t)(found - w.at);

		*rest = (struct word){ found + 1, w.bytes - before - 1 };
		w.bytes = before;
	}
	return w;
}

static bool number(struct word w, uint64_t least, uint64_t most, uint64_t *out)
{
	uint64_t value = 0;

	if (w.bytes == 0 || w.bytes > 19)
		return false;
	for (size_t i = 0; i < w.bytes; i++) {
		if (w.at[i] < '0' || w.at[i] > '9')
			return false;
		value = value * 10 + (uint64_t)(w.at[i] - '0');
	}
	*out = value;
	return value >= least && value <= most;
}

static enum gq_capability_status take_name(struct word w, struct gq_name *out)
{
	if (!gq__name_valid(w.at, w.bytes))
		return GQ_CAPABILITY_NAME;
	memset(out->text, 0, sizeof(out->text));
	memcpy(out->text, w.at, w.bytes);
	return GQ_CAPABILITY_OK;
}

/* "128", or "128..8192" */
static enum gq_capability_status take_range(struct word w, struct gq_capability *out)
{
	struct word rest;
	const struct word first = cut(w, '.', &rest);
	uint64_t low;
	uint64_t high;

	if (out->ranges == GQ_CAPABILITY_RANGES)
		return GQ_CAPABILITY_MANY;
	if (!number(first, 1, GQ_DIMENSION_MAX, &low))
		return GQ_CAPABILITY_NUMBER;
	high = low;
	if (rest.at) {
		if (rest.bytes == 0 || rest.at[0] != '.')
			return GQ_CAPABILITY_NUMBER;
		rest = (struct word){ rest.at + 1, rest.bytes - 1 };
		if (!number(rest, 1, GQ_DIMENSION_MAX, &high))
			return GQ_CAPABILITY_NUMBER;
	}
	if (high < low)
		return GQ_CAPABILITY_RANGE;
	out->dims[out->ranges].low = (uint32_t)low;
	out->dims[out->ranges].high = (uint32_t)high;
	out->ranges++;
	return GQ_CAPABILITY_OK;
}

static enum gq_capability_status take_type(struct word w, struct gq_capability *out)
{
	static const char *const names[GQ_TYPES] = { "f32", "f16", "i8", "i16", "binary" };

	for (unsigned int i = 0; i < GQ_TYPES; i++) {
		if (is(w, names[i])) {
			if ((out->types >> i & 1) != 0)
				return GQ_CAPABILITY_TWICE;
			out->types |= 1u << i;
			return GQ_CAPABILITY_OK;
		}
	}
	return GQ_CAPABILITY_TYPE;
}

static enum gq_capability_status
take_list(struct word w, struct gq_capability *out,
	  enum gq_capability_status (*take)(struct word, struct gq_capability *))
{
	enum gq_capability_status status;

	do {
		struct word rest;

		status = take(cut(w, ',', &rest), out);
		w = rest;
	} while (status == GQ_CAPABILITY_OK && w.at);
	return status;
}

static enum gq_capability_status take_op(struct word w, struct gq_capability *out)
{
	struct word rest;
	const struct word name = cut(w, ':', &rest);
	struct gq_op *op = &out->ops[out->op_count];
	uint64_t version = 0;

	if (out->op_count == GQ_CAPABILITY_OPS)
		return GQ_CAPABILITY_MANY;
	if (rest.at && !number(rest, 1, UINT32_MAX, &version))
		return GQ_CAPABILITY_NUMBER;
	op->version = (uint32_t)version;
	out->op_count++;
	return take_name(name, &op->name);
}

static enum gq_capability_status take_tag(struct word w, struct gq_capability *out)
{
	if (out->tag_count == GQ_CAPABILITY_TAGS)
		return GQ_CAPABILITY_MANY;
	return take_name(w, &out->tags[out->tag_count++]);
}

static enum gq_capability_status take_word(struct word w, struct gq_capability *out)
{
	struct word value;
	const struct word key = cut(w, '=', &value);
	uint64_t n = 0;

	if (!value.at)
		return GQ_CAPABILITY_KEY;
	if (is(key, "dims"))
		return take_list(value, out, take_range);
	if (is(key, "types"))
		return take_list(value, out, take_type);
	if (is(key, "op"))
		return take_op(value, out);
	if (is(key, "tag"))
		return take_tag(value, out);
	if (is(key, "batch") || is(key, "load") || is(key, "priority")) {
		uint32_t *to = is(key, "batch")  ? &out->batch
			       : is(key, "load") ? &out->load_most
						 : &out->priority_least;
		const uint64_t most = is(key, "priority") ? UINT8_MAX : GQ_WIRE_BATCH_MAX;

		if (!number(value, 1, most, &n))
			return GQ_CAPABILITY_NUMBER;
		if (*to != 0)
			return GQ_CAPABILITY_TWICE;
		*to = (uint32_t)n;
		return GQ_CAPABILITY_OK;
	}
	if (is(key, "slot") || is(key, "result")) {
		uint64_t *to = is(key, "slot") ? &out->slot_bytes : &out->result_bytes;

		if (!number(value, 1, INT64_MAX, &n))
			return GQ_CAPABILITY_NUMBER;
		if (*to != 0)
			return GQ_CAPABILITY_TWICE;
		*to = n;
		return GQ_CAPABILITY_OK;
	}
	return GQ_CAPABILITY_KEY;
}

enum gq_capability_status gq__capability_parse(const char *text, size_t bytes,
					       struct gq_capability *out, size_t *at)
{
	struct word left = { text, bytes };

	memset(out, 0, sizeof(*out));
	for (uint32_t words = 0; left.at;) {
		struct word rest;

		for (; left.bytes != 0 && *left.at == ' '; left.bytes--)
			left.at++;
		const struct word w = cut(left, ' ', &rest);
		enum gq_capability_status status = GQ_CAPABILITY_OK;

		if (w.bytes > GQ_WIRE_CAPABILITY_MAX)
			status = GQ_CAPABILITY_LONG;
		else if (w.bytes > 0)
			status = ++words > GQ_CAPABILITY_WORDS ? GQ_CAPABILITY_MANY
							       : take_word(w, out);
		if (status != GQ_CAPABILITY_OK) {
			if (at)
				*at = (size_t)(w.at - text);
			return status;
		}
		left = rest;
	}
	return GQ_CAPABILITY_OK;
}

const char *gq__capability_status_text(enum gq_capability_status status)
{
	static const char *const texts[] = {
#define GQ_AS_TEXT(name, text) [GQ_CAPABILITY_##name] = (text),
		GQ_CAPABILITY_STATUS_LIST(GQ_AS_TEXT)
#undef GQ_AS_TEXT
	};

	return (unsigned int)status < sizeof(texts) / sizeof(texts[0]) ? texts[status]
								       : "no such status";
}

/* Each range of the wish lies within one of the service's. */
static bool dims_meet(const struct gq_capability *has, const struct gq_capability *want)
{
	for (uint32_t i = 0; i < want->ranges && has->ranges > 0; i++) {
		uint32_t j = 0;

		while (j < has->ranges && (has->dims[j].low > want->dims[i].low ||
					   has->dims[j].high < want->dims[i].high))
			j++;
		if (j == has->ranges)
			return false;
	}
	return true;
}

static bool ops_meet(const struct gq_capability *has, const struct gq_capability *want)
{
	for (uint32_t i = 0; i < want->op_count; i++) {
		const struct gq_op *op = &want->ops[i];
		uint32_t j = 0;

		while (j < has->op_count &&
		       (strcmp(has->ops[j].name.text, op->name.text) != 0 ||
			(op->version != 0 && has->ops[j].version != op->version)))
			j++;
		if (j == has->op_count)
			return false;
	}
	return true;
}

static bool tags_meet(const struct gq_capability *has, const struct gq_capability *want)
{
	for (uint32_t i = 0; i < want->tag_count; i++) {
		uint32_t j = 0;

		while (j < has->tag_count && strcmp(has->tags[j].text, want->tags[i].text) != 0)
			j++;
		if (j == has->tag_count)
			return false;
	}
	return true;
}

bool gq__capability_meets(const struct gq_capability *has, const struct gq_capability *want)
{
	if (has->types != 0 && (want->types & ~has->types) != 0)
		return false;
	if (has->batch != 0 && want->batch > has->batch)
		return false;
	if (has->slot_bytes != 0 && want->slot_bytes > has->slot_bytes)
		return false;
	if (has->result_bytes != 0 && want->result_bytes > has->result_bytes)
		return false;
	return dims_meet(has, want) && ops_meet(has, want) && tags_meet(has, want);
}

/* How many dimensions it takes; without ranges all of them. */
static uint64_t width(const struct gq_capability *has)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < has->ranges; i++)
		sum += has->dims[i].high - has->dims[i].low + 1;
	return has->ranges > 0 ? sum : (uint64_t)GQ_DIMENSION_MAX * GQ_CAPABILITY_RANGES;
}

uint64_t gq__capability_surplus(const struct gq_capability *has, const struct gq_capability *want)
{
	const uint64_t batch = has->batch != 0 ? has->batch : GQ_WIRE_BATCH_MAX;
	const uint64_t surplus = batch > want->batch ? batch - want->batch : 0;

	return width(has) + surplus;
}
