/* SPDX-License-Identifier: Apache-2.0 */
/* second.c - a second source, for a build that puts sources together. */
int second(void);
int second(void)
{
	return 2;
}
