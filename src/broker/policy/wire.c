/* SPDX-License-Identifier: Apache-2.0 */
/* wire.c - the names of what is on the wire. */
#include "wire.h"

_Static_assert(GQ_TLV_END <= 64, "a set of TLVs is 64 bits");
_Static_assert(sizeof(struct gq_item) == 16, "as it is on the wire");

const char *gq__wire_status_text(uint32_t status)
{
	static const char *const texts[GQ_WIRE_STATUS_END] = {
#define GQ_AS_TEXT(name, number, text) [number] = (text),
		GQ_WIRE_STATUS_LIST(GQ_AS_TEXT)
#undef GQ_AS_TEXT
	};

	return status < GQ_WIRE_STATUS_END ? texts[status] : NULL;
}

const char *gq__message_name(uint32_t type)
{
	switch (type) {
#define GQ_AS_CASE(name, number)                                                                   \
	case (number):                                                                             \
		return #name;
		GQ_MESSAGE_LIST(GQ_AS_CASE)
#undef GQ_AS_CASE
	default:
		return NULL;
	}
}

const char *gq__order_text(uint32_t order)
{
	static const char *const texts[GQ_ORDER_END] = {
#define GQ_AS_TEXT(name, number, text) [number] = (text),
		GQ_ORDER_LIST(GQ_AS_TEXT)
#undef GQ_AS_TEXT
	};

	return order < GQ_ORDER_END ? texts[order] : NULL;
}

bool gq__name_valid(const void *name, size_t bytes)
{
	const unsigned char *at = name;

	if (bytes == 0 || bytes > GQ_WIRE_NAME_MAX)
		return false;
	for (size_t i = 0; i < bytes; i++) {
		const unsigned char c = at[i];
		const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');

		if (!letter && !(c >= '0' && c <= '9') && c != '.' && c != '_' && c != '-')
			return false;
	}
	return true;
}

bool gq__wire_negotiate(uint32_t low, uint32_t high, uint32_t *out)
{
	if (low > high || low > GQ_WIRE_VERSION || high < GQ_WIRE_VERSION)
		return false;
	*out = GQ_WIRE_VERSION;
	return true;
}
