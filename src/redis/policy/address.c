/* SPDX-License-Identifier: Apache-2.0 */
/* address.c - reads where a Redis server is. Pure: it connects to nothing. */
#include "address.h"

#include <stdio.h>
#include <string.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* Percent escapes resolved; false: does not fit, or an escape is none or stands for a zero byte. */
static bool unescape(const char *from, size_t len, char *to, size_t room)
{
	size_t used = 0;

	for (size_t i = 0; i < len; i++) {
		int c = (unsigned char)from[i];

		if (c == '%') {
			const int high = len - i > 2 ? hex_digit(from[i + 1]) : -1;
			const int low = len - i > 2 ? hex_digit(from[i + 2]) : -1;

			c = high * 16 + low;
			if (high < 0 || low < 0 || c == 0)
				return false;
			i += 2;
		}
		if (used + 1 >= room)
			return false;
		to[used++] = (char)c;
	}
	to[used] = '\0';
	return true;
}

/* Digits only, the whole text. */
static bool number(const char *text, size_t len, uint32_t most, uint32_t *out)
{
	uint32_t value = 0;

	if (len == 0)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (uint32_t)(text[i] - '0');
		if (value > most)
			return false;
	}
	*out = value;
	return true;
}

static const char *parse_credentials(const char *text, size_t len, struct address *out)
{
	const char *colon = memchr(text, ':', len);
	const size_t user = colon ? (size_t)(colon - text) : len;

	if (!colon)
		return "has a user without a password (user:password@)";
	if (!unescape(text, user, out->user, sizeof(out->user)))
		return "has a user that is too long, or a wrong percent escape";
	if (!unescape(colon + 1, len - user - 1, out->password, sizeof(out->password)))
		return "has a password that is too long, or a wrong percent escape";
	out->has_password = true;
	return NULL;
}

static const char *parse_host(const char *text, size_t len, struct address *out)
{
	const char *host = text;
	const char *port = NULL;
	size_t host_len = len;
	uint32_t value = out->port;

	if (len > 0 && text[0] == '[') {
		const char *end = memchr(text, ']', len);

		if (!end)
			return "has a '[' without a ']'";
		host = text + 1;
		host_len = (size_t)(end - host);
		if (end + 1 < text + len) {
			if (end[1] != ':')
				return "has something other than a port behind ']'";
			port = end + 2;
		}
	} else {
		const char *colon = memchr(text, ':', len);

		if (colon) {
			host_len = (size_t)(colon - text);
			port = colon + 1;
		}
	}
	if (host_len == 0)
		return "has no host";
	if (host_len >= sizeof(out->host))
		return "has a host of more than 255 bytes";
	if (port && (!number(port, (size_t)(text + len - port), 65535, &value) || value == 0))
		return "has a port that is not 1 to 65535";
	memcpy(out->host, host, host_len);
	out->host[host_len] = '\0';
	out->port = (uint16_t)value;
	return NULL;
}

static const char *parse_unix(const char *path, struct address *out)
{
	const size_t len = strlen(path);

	if (len == 0)
		return "has no path behind unix:";
	if (len >= sizeof(out->path))
		return "has a path of more than 103 bytes";
	memcpy(out->path, path, len + 1);
	return NULL;
}

const char *address_parse(const char *text, struct address *out)
{
	static const char scheme[] = "redis://";
	const char *rest = text + sizeof(scheme) - 1;
	const char *slash;
	const char *at = NULL;
	const char *wrong;
	size_t len;

	*out = (struct address){ .port = ADDRESS_PORT };
	if (strncmp(text, "unix:", 5) == 0)
		return parse_unix(text + 5, out);
	if (strncmp(text, scheme, sizeof(scheme) - 1) != 0)
		return "begins with neither redis:// nor unix:";
	slash = strchr(rest, '/');
	len = slash ? (size_t)(slash - rest) : strlen(rest);
	for (size_t i = 0; i < len; i++) {
		if (rest[i] == '@')
			at = rest + i;
	}
	if (at) {
		wrong = parse_credentials(rest, (size_t)(at - rest), out);
		if (wrong)
			return wrong;
		len -= (size_t)(at + 1 - rest);
		rest = at + 1;
	}
	wrong = parse_host(rest, len, out);
	if (wrong)
		return wrong;
	if (slash && slash[1] != '\0' &&
	    !number(slash + 1, strlen(slash + 1), 65535, &out->database))
		return "has a database that is not a number of 0 to 65535";
	return NULL;
}

const char *address_parse_list(const char *text, uint16_t default_port, struct address *list,
			       uint32_t *out_count)
{
	uint32_t count = 0;

	for (;;) {
		const size_t len = strcspn(text, ",");
		const char *wrong;

		if (count == ADDRESS_LIST)
			return "has more than 32 servers";
		if (len == 0)
			return "has a server without a name between its commas";
		if (memchr(text, '@', len) || memchr(text, '/', len))
			return "has a server that is not HOST:PORT";
		list[count] = (struct address){ .port = default_port };
		wrong = parse_host(text, len, &list[count]);
		if (wrong)
			return wrong;
		count++;
		if (text[len] == '\0')
			break;
		text += len + 1;
	}
	*out_count = count;
	return NULL;
}

void address_show(const struct address *a, char *to)
{
	if (a->path[0] != '\0')
		snprintf(to, ADDRESS_TEXT, "unix:%s", a->path);
	else if (strchr(a->host, ':'))
		snprintf(to, ADDRESS_TEXT, "[%s]:%u", a->host, (unsigned int)a->port);
	else
		snprintf(to, ADDRESS_TEXT, "%s:%u", a->host, (unsigned int)a->port);
}
