/* SPDX-License-Identifier: Apache-2.0 */
/* eater.c - a library that takes static thread-local storage. */
static _Thread_local char bytes[16] __attribute__((tls_model("initial-exec")));

char *eater_bytes(void);
char *eater_bytes(void)
{
	return bytes;
}
