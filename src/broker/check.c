/* SPDX-License-Identifier: Apache-2.0 */
/* check.c - what can be known of a configuration as a whole before anything is started. */
#include "broker.h"

#include "host/base/error.h"
#include "host/processor/processor.h"

#include <stdarg.h>

enum { PATH_ROOM = BROKER_STATS_ROOM + 8, MOST_PATHS = 8 };

/* What gpuqd makes at a path. */
struct made {
	const char *what;
	char path[PATH_ROOM];
	unsigned line; /* of the file; 0: of the command line, or a default */
};

__attribute__((format(printf, 4, 5))) static bool
refuse(char error[BROKER_ERROR_ROOM], const char *file, unsigned line, const char *format, ...)
{
	char what[480];
	va_list args;

	va_start(args, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): it has been started */
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	if (line != 0)
		snprintf(error, BROKER_ERROR_ROOM, "%.90s:%u: %s", file, line, what);
	else
		snprintf(error, BROKER_ERROR_ROOM, "%s", what);
	return false;
}

static void add(struct made *all, unsigned *n, const char *what, const char *path,
		const char *behind, unsigned line)
{
	if (path[0] == '\0')
		return;
	all[*n].what = what;
	all[*n].line = line;
	snprintf(all[*n].path, PATH_ROOM, "%s%s", path, behind);
	++*n;
}

static unsigned list_paths(const struct broker_config *cfg, struct made all[MOST_PATHS])
{
	const struct router_config *s = &cfg->services;
	const char *socket = cfg->queues != 0 ? cfg->socket : "";
	const bool is_default = cfg->stats[0] == '\0', off = strcmp(cfg->stats, "off") == 0;
	unsigned n = 0;

	add(all, &n, "socket of [gpuqd]", socket, "", cfg->line.socket);
	add(all, &n, "the lock of the socket of [gpuqd]", socket, ".lock", cfg->line.socket);
	if (is_default) {
		add(all, &n, "stats, which is not given,", socket, ".stats", cfg->line.socket);
		add(all, &n, "stats, which is not given,", s->socket, ".stats", cfg->line.services);
	} else if (!off) {
		add(all, &n, "stats", cfg->stats, "", cfg->line.stats);
	}
	if (strncmp(cfg->metrics, "unix:", 5) == 0)
		add(all, &n, "metrics", cfg->metrics + 5, "", cfg->line.metrics);
	add(all, &n, "socket of [services]", s->socket, "", cfg->line.services);
	add(all, &n, "the lock of the socket of [services]", s->socket, ".lock",
	    cfg->line.services);
	if (strncmp(s->chardev, "cuse:", 5) != 0)
		add(all, &n, "chardev", s->chardev, "", cfg->line.chardev);
	return n;
}

bool broker_config_check_paths(const char *file, const struct broker_config *cfg,
			       char error[BROKER_ERROR_ROOM])
{
	struct made all[MOST_PATHS];
	const unsigned n = list_paths(cfg, all);

	for (unsigned i = 0; i < n; i++)
		for (unsigned j = i + 1; j < n; j++) {
			/* The later one is the one to be changed. */
			const bool swap = all[i].line > all[j].line;
			const struct made *a = &all[swap ? j : i], *b = &all[swap ? i : j];

			if (strcmp(a->path, b->path) == 0)
				return refuse(error, file, b->line,
					      "%s is '%.200s', and so is %s; allowed: a path that "
					      "nothing else has",
					      b->what, b->path, a->what);
		}
	return true;
}

bool broker_config_check_processors(const char *file, const struct broker_config *cfg,
				    char error[BROKER_ERROR_ROOM])
{
	for (uint32_t i = 0; i < cfg->queues; i++) {
		const struct broker_queue *q = &cfg->queue[i];

		if (q->processor[0] != '\0' &&
		    !gq__check_processor(q->processor, q->device == Q_DEVICE_CPU))
			return refuse(error, file, q->processor_line, "queue '%s': %.400s", q->name,
				      q_last_error());
	}
	return true;
}
