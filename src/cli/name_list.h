/* SPDX-License-Identifier: Apache-2.0 */
/* name_list.h - the names of files that --files0-from finds in a file, each ended by a NUL. */
#ifndef GPUQ_CLI_NAME_LIST_H
#define GPUQ_CLI_NAME_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct name_list {
	char *text;   /* the file */
	char **names; /* into it */
	size_t count;
};

/**
 * Read the names; the last one may lack its NUL. False: it has been said why: the file cannot be
 * read, a name is empty, or it is "-" and the list itself comes from the standard input.
 */
bool name_list_read(struct name_list *list, const char *path);

/** Also of a list that was not read, or is zeroed. */
void name_list_free(struct name_list *list);

#endif /* GPUQ_CLI_NAME_LIST_H */
