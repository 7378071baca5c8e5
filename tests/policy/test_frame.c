/* SPDX-License-Identifier: Apache-2.0 */
/* test_frame.c - frames: golden bytes, and what must not be taken for a frame. */
#include "policy_test.h"

#include "broker/policy/crc32c.h"
#include "broker/policy/frame.h"
#include "broker/policy/strikes.h"

#include <dirent.h>
#include <stdio.h>

enum { GOLDEN_MAX = 64, GOLDEN_BYTES = 1024 };

struct golden {
	char name[64];
	uint8_t bytes[GOLDEN_BYTES];
	size_t size;
};

static struct golden golden[GOLDEN_MAX];
static size_t goldens;

static int read_golden(void **state)
{
	DIR *dir = opendir(GOLDEN);
	struct dirent *entry;

	(void)state;
	if (!dir)
		return -1;
	while ((entry = readdir(dir)) != NULL && goldens < GOLDEN_MAX) {
		struct golden *g = &golden[goldens];
		char path[sizeof(GOLDEN) + 300];
		FILE *file;

		if (entry->d_name[0] == '.' || strncmp(entry->d_name, "found-", 6) == 0)
			continue;
		snprintf(path, sizeof(path), GOLDEN "/%s", entry->d_name);
		snprintf(g->name, sizeof(g->name), "%.60s", entry->d_name);
		file = fopen(path, "rb");
		if (!file) {
			closedir(dir);
			return -1;
		}
		g->size = fread(g->bytes, 1, sizeof(g->bytes), file);
		fclose(file);
		goldens++;
	}
	closedir(dir);
	return goldens > 0 ? 0 : -1;
}

static const struct golden *find_golden(const char *name)
{
	for (size_t i = 0; i < goldens; i++) {
		if (strcmp(golden[i].name, name) == 0)
			return &golden[i];
	}
	fail_msg("no golden frame %s", name);
	return NULL;
}

/* Where a frame may come: the daemon or a peer, before or after the hello. */
static const struct gq_frame_rules places[] = {
	{ .receiver = GQ_FRAME_AT_DAEMON, .state = GQ_FRAME_AFTER_HELLO },
	{ .receiver = GQ_FRAME_AT_PEER, .state = GQ_FRAME_AFTER_HELLO },
	{ .receiver = GQ_FRAME_AT_DAEMON, .state = GQ_FRAME_BEFORE_HELLO },
	{ .receiver = GQ_FRAME_AT_PEER, .state = GQ_FRAME_BEFORE_HELLO },
};
enum { PLACES = sizeof(places) / sizeof(places[0]) };

/* Decodes it where it may come. */
static enum gq_frame_status decode(const void *data, size_t bytes, struct gq_frame *out)
{
	enum gq_frame_status status = GQ_FRAME_OK;

	for (size_t i = 0; i < PLACES; i++) {
		status = gq__frame_decode(data, bytes, &places[i], out);
		if (status != GQ_FRAME_STATE)
			break;
	}
	return status;
}

static void p_1_every_type_has_golden_bytes(void **state)
{
	static const uint32_t types[] = {
#define AS_NUMBER(name, number) (number),
		GQ_MESSAGE_LIST(AS_NUMBER)
	};
	uint64_t seen = 0;

	(void)state;
	for (size_t i = 0; i < goldens; i++) {
		struct gq_frame frame;
		uint8_t again[GOLDEN_BYTES];
		size_t bytes = 0;

		assert_int_equal(decode(golden[i].bytes, golden[i].size, &frame), GQ_FRAME_OK);
		assert_non_null(gq__message_name(frame.type));
		assert_int_equal(frame.timestamp_ms, 1700000000123);
		for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++)
			seen |= (uint64_t)(types[t] == frame.type) << t;
		assert_int_equal(gq__frame_encode(&frame, again, sizeof(again), &bytes),
				 GQ_FRAME_OK);
		assert_int_equal(bytes, golden[i].size);
		assert_memory_equal(again, golden[i].bytes, bytes);
		for (size_t room = 0; room < bytes; room++)
			assert_int_equal(gq__frame_encode(&frame, again, room, &bytes),
					 GQ_FRAME_ROOM);
	}
	assert_int_equal(seen, (UINT64_C(1) << sizeof(types) / sizeof(types[0])) - 1);
}

static void p_1_what_is_in_a_request_is_read(void **state)
{
	const struct golden *g = find_golden("request");
	struct gq_frame f;
	uint8_t payload[61];

	(void)state;
	for (size_t i = 0; i < sizeof(payload); i++)
		payload[i] = (uint8_t)i;
	assert_int_equal(decode(g->bytes, g->size, &f), GQ_FRAME_OK);
	assert_int_equal(f.type, GQ_MESSAGE_REQUEST);
	assert_int_equal(f.correlation, 5);
	assert_int_equal(f.flags, GQ_FLAG_CHECKSUM | GQ_FLAG_CACHE | GQ_FLAG_IDEMPOTENT);
	assert_int_equal(f.tlv[GQ_TLV_PAYLOAD].bytes, sizeof(payload));
	assert_memory_equal(f.tlv[GQ_TLV_PAYLOAD].data, payload, sizeof(payload));
	assert_int_equal(gq__frame_u64(&f, GQ_TLV_TIMEOUT, 0), 30000000);
	assert_int_equal(gq__frame_u64(&f, GQ_TLV_TIMEOUT, 1), 0); /* beyond it */
	assert_int_equal(gq__frame_u8(&f, GQ_TLV_PRIORITY), 128);
	assert_int_equal(gq__frame_u32(&f, GQ_TLV_OP_VERSION, 0), 3);
	assert_false(gq_frame_has(&f, GQ_TLV_REGION));
	assert_int_equal(gq__frame_u64(&f, GQ_TLV_REGION, 0), 0);
}

static void p_2_no_prefix_is_a_frame(void **state)
{
	(void)state;
	for (size_t i = 0; i < goldens; i++) {
		for (size_t bytes = 0; bytes < golden[i].size; bytes++) {
			struct gq_frame frame;
			/* Of exactly this size, so that a read past the end is seen. */
			uint8_t *copy = malloc(bytes + (bytes == 0));
			enum gq_frame_status status;

			assert_non_null(copy);
			memcpy(copy, golden[i].bytes, bytes);
			status = decode(copy, bytes, &frame);
			free(copy);
			assert_int_equal(status, bytes < 40 ? GQ_FRAME_SHORT : GQ_FRAME_LENGTH);
			assert_true(gq__frame_closes(status));
		}
	}
}

static void p_2_no_flipped_bit_is_taken(void **state)
{
	(void)state;
	for (size_t i = 0; i < goldens; i++) {
		struct golden g = golden[i];

		for (size_t bit = 0; bit < g.size * 8; bit++) {
			struct gq_frame frame;

			g.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
			if (decode(g.bytes, g.size, &frame) == GQ_FRAME_OK)
				fail_msg("%s: bit %zu", g.name, bit);
			g.bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
		}
	}
}

/*
 * A checksum of 0 is sent as all ones. That would hide a flipped bit if the flip changed the CRC
 * by all ones; no single bit of a frame of 64 KiB does.
 */
static void p_2_a_checksum_is_never_zero_and_hides_no_bit(void **state)
{
	(void)state;
	for (uint32_t bit = 0; bit < 8; bit++) {
		uint32_t change = 1u << bit;

		for (uint32_t after = 0; after <= GQ_WIRE_FRAME_MAX; after++) {
			for (int i = 0; i < 8; i++)
				change = (change >> 1) ^ (0x82F63B78u & (0u - (change & 1)));
			assert_int_not_equal(change, UINT32_MAX);
		}
	}
}

static void set32(struct golden *g, size_t at, uint32_t value)
{
	memcpy(g->bytes + at, &value, sizeof(value));
}

/* Makes a changed frame's checksum right again: the liar knows how. */
static void sign(struct golden *g)
{
	uint32_t crc;

	set32(g, GQ_WIRE_AT_CHECKSUM, 0);
	crc = gq__crc32c_table(0, g->bytes, g->size);
	set32(g, GQ_WIRE_AT_CHECKSUM, crc != 0 ? crc : UINT32_MAX);
}

static enum gq_frame_status decode_at_daemon(const struct golden *g)
{
	const struct gq_frame_rules rules = { .state = GQ_FRAME_AFTER_HELLO };
	struct gq_frame frame;

	return gq__frame_decode(g->bytes, g->size, &rules, &frame);
}

static void p_2_each_lie_has_its_name(void **state)
{
	const struct golden *request = find_golden("request");
	static const struct {
		size_t at;
		uint32_t value;
		enum gq_frame_status status;
	} lies[] = {
		{ GQ_WIRE_AT_MAGIC, 0x56455848, GQ_FRAME_MAGIC },
		{ GQ_WIRE_AT_VERSION, 2, GQ_FRAME_VERSION },
		{ GQ_WIRE_AT_LENGTH, 39, GQ_FRAME_LENGTH },
		{ GQ_WIRE_AT_LENGTH, 40, GQ_FRAME_LENGTH },
		{ GQ_WIRE_AT_LENGTH, UINT32_MAX, GQ_FRAME_LENGTH },
		{ GQ_WIRE_AT_FLAGS, GQ_FLAGS + 2, GQ_FRAME_FLAGS },
		{ GQ_WIRE_AT_FLAGS, 0, GQ_FRAME_CHECKSUM }, /* the sum is there, its flag is not */
		{ GQ_WIRE_AT_TYPE, 0x0104, GQ_FRAME_TYPE },
		{ GQ_WIRE_AT_TYPE, GQ_MESSAGE_HELLO, GQ_FRAME_STATE },
		{ 40, GQ_TLV_NAME | 2u << 16, GQ_FRAME_TLV_FLAGS },
		{ 40, 63 | 1u << 16, GQ_FRAME_TLV_UNKNOWN },
		{ 40, UINT16_MAX | 1u << 16, GQ_FRAME_TLV_UNKNOWN },
		{ 40, UINT16_MAX, GQ_FRAME_TLV_MISSING }, /* ignored, but the name is missed */
		{ 40, GQ_TLV_PAYLOAD, GQ_FRAME_TLV_TWICE },
		{ 40, GQ_TLV_REGION, GQ_FRAME_TLV_SIZE },
		{ 44, 7, GQ_FRAME_TLV_PADDING },
		{ 44, UINT32_MAX, GQ_FRAME_TLV_CUT },
		{ 44, UINT32_MAX - 7, GQ_FRAME_TLV_CUT },
		{ 48, 0x64626d20, GQ_FRAME_TLV_VALUE }, /* a name with a space */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct golden g = *request;

		sign(&g);
		assert_memory_equal(g.bytes, request->bytes, g.size);
		set32(&g, lies[i].at, lies[i].value);
		if (lies[i].status != GQ_FRAME_CHECKSUM)
			sign(&g);
		assert_string_equal(gq__frame_status_text(decode_at_daemon(&g)),
				    gq__frame_status_text(lies[i].status));
	}
}

static void p_2_a_transport_may_demand_a_checksum(void **state)
{
	struct golden g = *find_golden("cancel");
	struct gq_frame_rules rules = { .state = GQ_FRAME_AFTER_HELLO };
	struct gq_frame frame;

	(void)state;
	set32(&g, GQ_WIRE_AT_FLAGS, 0);
	set32(&g, GQ_WIRE_AT_CHECKSUM, 0);
	assert_int_equal(gq__frame_decode(g.bytes, g.size, &rules, &frame), GQ_FRAME_OK);
	rules.need_checksum = true;
	assert_int_equal(gq__frame_decode(g.bytes, g.size, &rules, &frame), GQ_FRAME_NO_CHECKSUM);
	rules.frame_bytes = 48;
	assert_int_equal(gq__frame_decode(g.bytes, g.size, &rules, &frame), GQ_FRAME_LENGTH);
}

static void p_2_items_regions_and_fragments_stay_within_bounds(void **state)
{
	static const struct {
		const char *golden;
		size_t at; /* of a u32, from the frame's end */
		uint32_t value;
	} lies[] = {
		{ "batch_request", 32, 9 }, /* an item's offset */
		{ "batch_request", 32, UINT32_MAX },
		{ "batch_request", 12, 6 }, /* its bytes */
		{ "batch_request", 12, UINT32_MAX - 2 },
		{ "batch_request", 16, 0 }, /* it is not where the one before it ends */
		{ "batch_request", 8, GQ_WIRE_STATUS_END },
		{ "request.region", 4, UINT32_MAX }, /* length + offset is more than 64 bits */
		{ "request.fragment", 8, 71 },       /* of a message shorter than this part's end */
		{ "request.fragment", 8, GQ_WIRE_MESSAGE_MAX + 1 },
		{ "request.fragment", 12, 1 }, /* an offset of 4 GiB */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		struct golden g = *find_golden(lies[i].golden);

		set32(&g, g.size - lies[i].at, lies[i].value);
		if (strcmp(lies[i].golden, "request.region") == 0)
			set32(&g, g.size - 8, UINT32_MAX);
		sign(&g);
		assert_int_equal(decode_at_daemon(&g), GQ_FRAME_TLV_VALUE);
	}
}

static void p_2_at_most_32_tlvs(void **state)
{
	struct golden g = *find_golden("cancel");
	const uint16_t optional = 1000;

	(void)state;
	while (g.size < 56u + 31u * 8u) {
		memset(g.bytes + g.size, 0, 8);
		memcpy(g.bytes + g.size, &optional, sizeof(optional));
		g.size += 8;
	}
	set32(&g, GQ_WIRE_AT_LENGTH, (uint32_t)g.size);
	sign(&g);
	assert_int_equal(decode_at_daemon(&g), GQ_FRAME_OK);
	memcpy(g.bytes + g.size, g.bytes + g.size - 8, 8);
	g.size += 8;
	set32(&g, GQ_WIRE_AT_LENGTH, (uint32_t)g.size);
	sign(&g);
	assert_int_equal(decode_at_daemon(&g), GQ_FRAME_TLV_MANY);
}

static void a_stream_says_how_long_its_frame_is(void **state)
{
	const struct gq_frame_rules rules = { .frame_bytes = 100 };
	struct golden g = *find_golden("cancel");
	uint32_t length = 0;

	(void)state;
	assert_int_equal(gq__frame_length(g.bytes, 39, &rules, &length), GQ_FRAME_SHORT);
	assert_int_equal(gq__frame_length(g.bytes, 40, &rules, &length), GQ_FRAME_OK);
	assert_int_equal(length, g.size);
	set32(&g, GQ_WIRE_AT_LENGTH, 104);
	assert_int_equal(gq__frame_length(g.bytes, 40, &rules, &length), GQ_FRAME_LENGTH);
	assert_int_equal(length, g.size);
}

static void p_3_the_crc_has_its_known_values(void **state)
{
	static const uint8_t zeros[32];
	uint8_t ones[32];

	(void)state;
	memset(ones, 0xff, sizeof(ones));
	assert_int_equal(gq__crc32c(0, "123456789", 9), 0xE3069283);
	assert_int_equal(gq__crc32c_table(0, "123456789", 9), 0xE3069283);
	assert_int_equal(gq__crc32c(0, zeros, 32), 0x8A9136AA); /* RFC 3720, B.4 */
	assert_int_equal(gq__crc32c(0, ones, 32), 0x62A8AB43);
	assert_int_equal(gq__crc32c(gq__crc32c(0, "1234", 4), "56789", 5), 0xE3069283);
	assert_int_equal(gq__crc32c(0, NULL, 0), 0);
}

static void p_3_instruction_and_table_agree(void **state)
{
	static uint8_t bytes[4096];
	uint64_t random = SEED;

	(void)state;
	if (!gq__crc32c_has_instruction())
		skip();
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)gq_random(&random);
	for (int i = 0; i < 100000; i++) {
		const size_t from = (size_t)gq_random_below(&random, 4000);
		const size_t size =
			(size_t)gq_random_below(&random, i % 100 == 0 ? 4097 - from : 96);
		const uint32_t crc = (uint32_t)gq_random(&random);

		assert_int_equal(gq__crc32c(crc, bytes + from, size),
				 gq__crc32c_table(crc, bytes + from, size));
	}
}

static void p_5_an_unknown_type_is_unsupported_and_the_next_frame_is_served(void **state)
{
	struct golden g = *find_golden("cancel");
	enum gq_frame_status status;

	(void)state;
	for (uint32_t type = 0; type < 0x500; type++) {
		if (gq__message_name(type))
			continue;
		set32(&g, GQ_WIRE_AT_TYPE, type);
		sign(&g);
		status = decode_at_daemon(&g);
		assert_int_equal(status, GQ_FRAME_TYPE); /* not taken for an error message */
		assert_int_equal(gq__frame_answer(status), GQ_WIRE_UNSUPPORTED);
		assert_false(gq__frame_closes(status));
	}
	assert_int_equal(decode_at_daemon(find_golden("cancel")), GQ_FRAME_OK);
}

static void p_5_another_version_is_a_mismatch_of_two_numbers(void **state)
{
	struct golden g = *find_golden("hello");
	const struct gq_frame_rules rules = { 0 };
	struct gq_frame frame;
	uint32_t version = 0;

	(void)state;
	set32(&g, GQ_WIRE_AT_VERSION, 2);
	sign(&g);
	assert_int_equal(gq__frame_decode(g.bytes, g.size, &rules, &frame), GQ_FRAME_VERSION);
	assert_true(gq__frame_closes(GQ_FRAME_VERSION));
	assert_int_equal(frame.version, 2);
	assert_int_equal(frame.correlation, 12);
	assert_false(gq__wire_negotiate(2, 2, &version));
	assert_false(gq__wire_negotiate(2, 1, &version));
	assert_false(gq__wire_negotiate(0, 0, &version));
	assert_int_equal(version, 0);
	assert_true(gq__wire_negotiate(0, UINT32_MAX, &version));
	assert_int_equal(version, 1);
}

/* A peer of 1.1 knows PARAMETERS, SESSION, TRACE; one of 1.0 does not. */
static void p_6_an_older_peer_ignores_what_it_need_not_understand(void **state)
{
	const struct golden *g = find_golden("request");
	struct gq_frame_rules old = { .state = GQ_FRAME_AFTER_HELLO };
	struct gq_frame frame;
	uint8_t bytes[GOLDEN_BYTES];
	size_t size;

	(void)state;
	old.unknown_tlvs = UINT64_C(1) << GQ_TLV_PARAMETERS | UINT64_C(1) << GQ_TLV_SESSION;
	/* 1.1 to 1.0 */
	assert_int_equal(gq__frame_decode(g->bytes, g->size, &old, &frame), GQ_FRAME_OK);
	assert_false(gq_frame_has(&frame, GQ_TLV_SESSION));
	assert_true(gq_frame_has(&frame, GQ_TLV_PAYLOAD));
	/* 1.0 to 1.1: what it sends is what it knows */
	assert_int_equal(gq__frame_encode(&frame, bytes, sizeof(bytes), &size), GQ_FRAME_OK);
	assert_int_equal(decode(bytes, size, &frame), GQ_FRAME_OK);
	/* 1.1 to 1.0, and it must be understood */
	assert_int_equal(decode(g->bytes, g->size, &frame), GQ_FRAME_OK);
	frame.must |= UINT64_C(1) << GQ_TLV_SESSION;
	assert_int_equal(gq__frame_encode(&frame, bytes, sizeof(bytes), &size), GQ_FRAME_OK);
	assert_int_equal(gq__frame_decode(bytes, size, &old, &frame), GQ_FRAME_TLV_UNKNOWN);
}

static void only_a_hello_comes_first_and_only_once(void **state)
{
	(void)state;
	for (size_t i = 0; i < goldens; i++) {
		const struct golden *g = &golden[i];
		const bool hello = strncmp(g->name, "hello", 5) == 0;
		struct gq_frame frame;

		assert_int_equal(gq__frame_decode(g->bytes, g->size, &places[2], &frame),
				 hello ? GQ_FRAME_OK : GQ_FRAME_STATE);
		if (hello)
			assert_int_equal(gq__frame_decode(g->bytes, g->size, &places[0], &frame),
					 GQ_FRAME_STATE);
	}
}

static void the_encoder_makes_nothing_that_a_decoder_refuses(void **state)
{
	struct gq_frame frame = { .type = GQ_MESSAGE_CANCEL };
	uint8_t bytes[256];
	const uint64_t target = 5;
	size_t size = 99;

	(void)state;
	assert_int_equal(gq__frame_encode(&frame, bytes, 256, &size), GQ_FRAME_TLV_MISSING);
	gq__frame_set(&frame, GQ_TLV_TARGET, false, &target, 4);
	assert_int_equal(gq__frame_encode(&frame, bytes, 256, &size), GQ_FRAME_TLV_SIZE);
	gq__frame_set(&frame, GQ_TLV_TARGET, false, &target, 8);
	gq__frame_set(&frame, GQ_TLV_NAME, false, "x", 1);
	assert_int_equal(gq__frame_encode(&frame, bytes, 256, &size), GQ_FRAME_TLV_UNKNOWN);
	frame.type = 0x7777;
	assert_int_equal(gq__frame_encode(&frame, bytes, 256, &size), GQ_FRAME_TYPE);
	frame.type = GQ_MESSAGE_CANCEL;
	frame.flags = GQ_FLAGS + 1;
	assert_int_equal(gq__frame_encode(&frame, bytes, 256, &size), GQ_FRAME_FLAGS);
	assert_int_equal(size, 99);
}

static void every_status_has_a_text(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < GQ_WIRE_STATUS_END; i++)
		assert_non_null(gq__wire_status_text(i));
	assert_null(gq__wire_status_text(GQ_WIRE_STATUS_END));
	assert_int_equal(GQ_WIRE_REGION_REVOKED, 17);
	for (int i = 0; i < GQ_FRAME_STATUS_END; i++)
		assert_non_null(gq__frame_status_text((enum gq_frame_status)i));
}

static void sixteen_strikes_within_ten_seconds_close(void **state)
{
	struct gq_strikes quick = { 0 };
	struct gq_strikes slow = { 0 };

	(void)state;
	for (uint64_t i = 1; i < 16; i++)
		assert_false(gq__strikes_add(&quick, 5 * S + i));
	assert_true(gq__strikes_add(&quick, 15 * S));
	for (uint64_t i = 0; i < 1000; i++)
		assert_false(gq__strikes_add(&slow, i * 10 * S / 15));
	assert_true(gq__strikes_add(&slow, UINT64_C(999) * 10 * S / 15 + 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(p_1_every_type_has_golden_bytes),
		cmocka_unit_test(p_1_what_is_in_a_request_is_read),
		cmocka_unit_test(p_2_no_prefix_is_a_frame),
		cmocka_unit_test(p_2_no_flipped_bit_is_taken),
		cmocka_unit_test(p_2_a_checksum_is_never_zero_and_hides_no_bit),
		cmocka_unit_test(p_2_each_lie_has_its_name),
		cmocka_unit_test(p_2_a_transport_may_demand_a_checksum),
		cmocka_unit_test(p_2_items_regions_and_fragments_stay_within_bounds),
		cmocka_unit_test(p_2_at_most_32_tlvs),
		cmocka_unit_test(a_stream_says_how_long_its_frame_is),
		cmocka_unit_test(p_3_the_crc_has_its_known_values),
		cmocka_unit_test(p_3_instruction_and_table_agree),
		cmocka_unit_test(p_5_an_unknown_type_is_unsupported_and_the_next_frame_is_served),
		cmocka_unit_test(p_5_another_version_is_a_mismatch_of_two_numbers),
		cmocka_unit_test(p_6_an_older_peer_ignores_what_it_need_not_understand),
		cmocka_unit_test(only_a_hello_comes_first_and_only_once),
		cmocka_unit_test(the_encoder_makes_nothing_that_a_decoder_refuses),
		cmocka_unit_test(every_status_has_a_text),
		cmocka_unit_test(sixteen_strikes_within_ten_seconds_close),
	};

	return cmocka_run_group_tests(tests, read_golden, NULL);
}
