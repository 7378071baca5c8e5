/* SPDX-License-Identifier: Apache-2.0 */
/* label.c - which message a result belongs to, as --names writes it and sha256sum(1) reads it. */
#include "label.h"

#include <stdio.h>

bool label_write(char *to, const char *name, const char *suffix)
{
	const size_t most = LABEL_BYTES - 32;
	bool escaped = false;
	size_t used = 0;

	for (; *name != '\0' && used + 2 <= most; name++) {
		char letter = 0;

		if (*name == '\\')
			letter = '\\';
		else if (*name == '\n')
			letter = 'n';
		else if (*name == '\r')
			letter = 'r';
		if (letter != 0) {
			to[used++] = '\\';
			to[used++] = letter;
			escaped = true;
		} else {
			to[used++] = *name;
		}
	}
	snprintf(to + used, LABEL_BYTES - used, "%s", suffix);
	return escaped;
}
