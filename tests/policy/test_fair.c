/* SPDX-License-Identifier: Apache-2.0 */
/* test_fair.c - how much the clients of each user may have of a queue that several users want. */
#include "policy_test.h"

#include "broker/policy/fair.h"

enum { USERS = 3, MOST = 300, TURN = 64 };

/* Clients, by user; each has had so many messages. */
static struct gq_fair f;
static struct gq_fair_user memory[USERS];
static struct client {
	struct gq_fair_user *user;
	uint64_t had, backlog;
} client[USERS][MOST];
static unsigned clients[USERS];

static void begin(unsigned a, unsigned b, unsigned c)
{
	const unsigned n[USERS] = { a, b, c };

	f = (struct gq_fair){ 0 };
	for (unsigned u = 0; u < USERS; u++) {
		clients[u] = n[u];
		for (unsigned i = 0; i < n[u]; i++)
			client[u][i] = (struct client){
				.user = gq__fair_join(&f, &memory[u], 1000 + u),
				.backlog = UINT64_MAX,
			};
	}
}

/* One turn with so much room. */
static void turn(uint32_t room)
{
	gq__fair_turn(&f, TURN);
	for (unsigned u = 0; u < USERS; u++)
		for (unsigned i = 0; i < clients[u]; i++) {
			struct client *c = &client[u][i];
			const uint32_t may = gq__fair_take(&f, c->user, TURN);
			uint32_t n = may < room ? may : room;

			n = n < c->backlog ? n : (uint32_t)c->backlog;
			room -= n;
			c->had += n;
			c->backlog -= c->backlog != UINT64_MAX ? n : 0;
			gq_fair_give_back(c->user, may - n, c->backlog != 0);
		}
}

static uint64_t had(unsigned user)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < clients[user]; i++)
		n += client[user][i].had;
	return n;
}

static void users_have_equal_shares_however_many_clients_they_have(void **state)
{
	(void)state;
	begin(8, 1, 2);
	for (unsigned i = 0; i < 1000; i++) {
		turn(UINT32_MAX);
		for (unsigned u = 1; u < USERS; u++)
			assert_true(had(u) + 8 * TURN >= had(0) && had(0) + 8 * TURN >= had(u));
	}
	assert_true(had(1) > 900 * TURN);
	for (unsigned i = 0; i < 8; i++) /* and so have the clients of each */
		assert_in_range(client[0][i].had * 8, had(0) - 16 * TURN, had(0) + 16 * TURN);
}

/* The first in the list take what there is, until their user is ahead. */
static void users_have_equal_shares_of_little_room(void **state)
{
	(void)state;
	begin(8, 1, 1);
	for (unsigned i = 0; i < 10000; i++)
		turn(3);
	assert_true(had(1) >= 9000 && had(2) >= 9000);
	assert_int_equal(had(0) + had(1) + had(2), 30000);
}

static void very_many_clients_each_get_some_and_their_user_no_more_than_others(void **state)
{
	(void)state;
	begin(MOST, 1, 0);
	for (unsigned i = 0; i < 1000; i++)
		turn(UINT32_MAX);
	assert_true(had(0) <= had(1) + MOST + TURN);
	assert_true(had(1) > 900 * TURN);
	for (unsigned i = 0; i < MOST; i++)
		assert_true(client[0][i].had > had(0) / MOST / 2);
}

static void who_wants_nothing_saves_nothing_up_and_holds_nobody_back(void **state)
{
	uint64_t before;

	(void)state;
	begin(1, 1, 0);
	client[1][0].backlog = 0;
	for (unsigned i = 0; i < 1000; i++)
		turn(UINT32_MAX);
	assert_int_equal(had(0), 1000 * TURN);
	client[1][0].backlog = UINT64_MAX;
	before = had(0);
	for (unsigned i = 0; i < 100; i++)
		turn(TURN);
	assert_in_range(had(1), 50 * TURN - 2 * TURN, 50 * TURN + 2 * TURN);
	assert_in_range(had(0) - before, 50 * TURN - 2 * TURN, 50 * TURN + 2 * TURN);
	/* One that gets little because it wants little is served at once. */
	client[1][0].backlog = 0;
	turn(UINT32_MAX);
	for (unsigned i = 0; i < 100; i++) {
		client[1][0].backlog = 1;
		turn(UINT32_MAX);
		assert_int_equal(client[1][0].backlog, 0);
	}
}

/* One that got all it wanted, as nobody else wanted anything, owes nothing for it: neither to one
 * that was there, nor to one that comes. */
static void what_nobody_else_wanted_is_not_owed(void **state)
{
	(void)state;
	begin(1, 1, 0);
	client[0][0].backlog = 0;
	for (unsigned i = 0; i < 10000; i++) {
		client[1][0].backlog = 10;
		turn(UINT32_MAX);
		turn(UINT32_MAX);
		assert_int_equal(client[1][0].backlog, 0);
	}
	clients[2] = 1;
	client[2][0] =
		(struct client){ .user = gq__fair_join(&f, &memory[2], 7), .backlog = UINT64_MAX };
	client[0][0].backlog = UINT64_MAX;
	for (unsigned i = 0; i < 100; i++) {
		client[1][0].backlog = 1;
		turn(UINT32_MAX);
		turn(UINT32_MAX);
		assert_int_equal(client[1][0].backlog, 0);
	}
}

/* All of a user's clients want much at once, after nothing. */
static void many_that_begin_at_once_have_a_turn_and_one_message_each(void **state)
{
	(void)state;
	begin(MOST, 1, 0);
	for (unsigned i = 0; i < MOST; i++)
		client[0][i].backlog = 0;
	turn(UINT32_MAX);
	for (unsigned i = 0; i < MOST; i++)
		client[0][i].backlog = UINT64_MAX;
	for (unsigned i = 0; i < 100; i++) {
		turn(UINT32_MAX);
		assert_true(had(0) <= had(1) + TURN + MOST);
	}
	assert_true(had(1) <= had(0) + TURN + MOST);
}

static void one_that_leaves_holds_nobody_back(void **state)
{
	uint64_t before;

	(void)state;
	begin(1, 2, 0);
	for (unsigned i = 0; i < 100; i++)
		turn(3);
	assert_null(gq__fair_leave(&f, client[1][1].user));
	assert_ptr_equal(gq__fair_leave(&f, client[1][0].user), &memory[1]);
	clients[1] = 0;
	assert_false(gq_fair_matters(&f));
	before = had(0);
	for (unsigned i = 0; i < 100; i++)
		turn(TURN);
	assert_int_equal(had(0) - before, 100 * TURN);
	/* And one that comes begins where the others are. */
	clients[2] = 1;
	client[2][0] =
		(struct client){ .user = gq__fair_join(&f, &memory[2], 5), .backlog = UINT64_MAX };
	assert_ptr_equal(client[2][0].user, &memory[2]);
	assert_true(gq_fair_matters(&f));
	before = had(0);
	for (unsigned i = 0; i < 100; i++)
		turn(TURN);
	assert_in_range(had(2), 50 * TURN - 2 * TURN, 50 * TURN + 2 * TURN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(users_have_equal_shares_however_many_clients_they_have),
		cmocka_unit_test(users_have_equal_shares_of_little_room),
		cmocka_unit_test(
			very_many_clients_each_get_some_and_their_user_no_more_than_others),
		cmocka_unit_test(who_wants_nothing_saves_nothing_up_and_holds_nobody_back),
		cmocka_unit_test(what_nobody_else_wanted_is_not_owed),
		cmocka_unit_test(many_that_begin_at_once_have_a_turn_and_one_message_each),
		cmocka_unit_test(one_that_leaves_holds_nobody_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
