/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_capability.c - a text of a peer: what is read of it is within the limits, and meets itself.
 */
#include "fuzz.h"

#include "broker/policy/capability.h"

#include <stdlib.h>
#include <string.h>

static void look(const struct gq_capability *c)
{
	if (c->ranges > GQ_CAPABILITY_RANGES || c->op_count > GQ_CAPABILITY_OPS ||
	    c->tag_count > GQ_CAPABILITY_TAGS || c->types >> GQ_TYPES != 0)
		abort();
	for (uint32_t i = 0; i < c->ranges; i++) {
		if (c->dims[i].low == 0 || c->dims[i].low > c->dims[i].high ||
		    c->dims[i].high > GQ_DIMENSION_MAX)
			abort();
	}
	for (uint32_t i = 0; i < c->op_count; i++) {
		if (!gq__name_valid(c->ops[i].name.text, strlen(c->ops[i].name.text)))
			abort();
	}
	if (!gq__capability_meets(c, c))
		abort();
}

void fuzz_one(const uint8_t *data, size_t size)
{
	static struct gq_capability c;
	size_t at = 0;

	if (gq__capability_parse((const char *)data, size, &c, &at) == GQ_CAPABILITY_OK)
		look(&c);
	else if (at > size)
		abort();
}
