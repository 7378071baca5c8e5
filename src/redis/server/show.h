/* SPDX-License-Identifier: Apache-2.0 */
/* show.h - replies of Redis as people and programs read them. */
#ifndef GPUQ_REDIS_SHOW_H
#define GPUQ_REDIS_SHOW_H

#include <hiredis/hiredis.h>
#include <stddef.h>
#include <stdio.h>

/** The value behind a name in a flat list [name, value, ...], or NULL. */
const redisReply *named(const redisReply *list, const char *name);

/** The same as a text; "" if there is none. */
const char *named_text(const redisReply *list, const char *name);

/** The same as a number, also where it comes as a text; `otherwise` if there is none. */
long long named_number(const redisReply *list, const char *name, long long otherwise);

/** Bytes in hexadecimal. */
void show_hex(FILE *to, const void *bytes, size_t count);

/** A text as a JSON string; bytes that are not printable ASCII become \u00XX. */
void show_json(FILE *to, const char *text, size_t count);

#endif /* GPUQ_REDIS_SHOW_H */
