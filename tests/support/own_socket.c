/* SPDX-License-Identifier: Apache-2.0 */
/* own_socket.c - a folder for a gpuqd of this process; see own_socket.h. */
#include "own_socket.h"

#include "support.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char folder[32];
char own_socket[48], own_endpoint[56];

int own_socket_set_up(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/gpuq-own-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(own_socket, sizeof(own_socket), "%s/s", folder);
	snprintf(own_endpoint, sizeof(own_endpoint), "unix:%s", own_socket);
	return 0;
}

int own_socket_tear_down(void **state)
{
	char lock[64];

	(void)state;
	snprintf(lock, sizeof(lock), "%s.lock", own_socket);
	unlink(lock);
	return rmdir(folder);
}
