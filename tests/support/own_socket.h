/* SPDX-License-Identifier: Apache-2.0 */
/* own_socket.h - where a gpuqd listens that is a part of the test's own process: a folder of its
 * own, for a group of tests. */
#ifndef GPUQ_TEST_OWN_SOCKET_H
#define GPUQ_TEST_OWN_SOCKET_H

/* Between the two: the socket's path, and the same as an endpoint. */
extern char own_socket[48], own_endpoint[56];

/* A group's set-up and tear-down, or what they begin and end with. @return 0 */
int own_socket_set_up(void **state);
/* Also the lock that gpuqd has left. @return 0, or not 0 if something else is left */
int own_socket_tear_down(void **state);

#endif /* GPUQ_TEST_OWN_SOCKET_H */
