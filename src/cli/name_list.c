/* SPDX-License-Identifier: Apache-2.0 */
/* name_list.c - the names of files that --files0-from finds in a file, each ended by a NUL. */
#include "name_list.h"

#include "cli.h"
#include "program/load.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define OPTION "--files0-from"

static size_t count_names(const char *text, size_t bytes)
{
	size_t count = 0;

	for (size_t at = 0; at < bytes; at += strlen(text + at) + 1)
		count++;
	return count;
}

static bool check_name(const char *name, size_t number, const char *path)
{
	if (name[0] == '\0') {
		warn_line(OPTION " %s: name %zu is empty", path, number);
		return false;
	}
	if (strcmp(name, "-") == 0 && strcmp(path, "-") == 0) {
		warn_line(OPTION " -: name %zu is '-', but the standard input is the list", number);
		return false;
	}
	return true;
}

bool name_list_read(struct name_list *list, const char *path)
{
	size_t bytes = 0;
	size_t at = 0;

	*list = (struct name_list){ 0 };
	list->text = (char *)load_file(OPTION, path, true, &bytes);
	if (!list->text)
		return false;
	list->count = count_names(list->text, bytes);
	list->names = calloc(list->count + 1, sizeof(list->names[0]));
	if (!list->names) {
		warn_line(OPTION " %s: no memory for %zu names", path, list->count);
		return false;
	}
	for (size_t i = 0; i < list->count; i++) {
		list->names[i] = list->text + at;
		if (!check_name(list->names[i], i + 1, path))
			return false;
		at += strlen(list->names[i]) + 1;
	}
	return true;
}

void name_list_free(struct name_list *list)
{
	free(list->names);
	free(list->text);
	*list = (struct name_list){ 0 };
}
