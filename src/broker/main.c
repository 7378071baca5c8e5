/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the program gpuqd: its options, its signals, and what it tells a service manager. */
#include "broker.h"

#include "host/base/log.h"
#include "program/program.h"
#include "program/signals.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

const char program_name[] = "gpuqd";

static const char help[] =
	"Usage: gpuqd --config FILE [--check-config]\n"
	"       gpuqd [--socket PATH] --processor NAME\n"
	"       gpuqd --services PATH\n"
	"\n"
	"Owns queues on GPUs or CPU threads, and lets other processes use them: a program whose\n"
	"GPUQ_DEVICE is unix:PATH, or unix:PATH#QUEUE, has its messages processed here. With\n"
	"--services, or a section [services], it also passes requests to services of others.\n"
	"\n"
	"Options:\n"
	"  -c, --config FILE     read sections [gpuqd], [queue NAME], [services]: gpuqd(1)\n"
	"      --check-config    read it, say what is wrong, and end\n"
	"  -p, --processor NAME  one queue called default with this processor, in place of a file\n"
	"  -s, --socket PATH     listen there, whatever the file says\n"
	"      --services PATH   pass requests between callers and workers that connect there\n"
	"  -h, --help            show this text\n"
	"  -V, --version         show the version\n"
	"\n"
	"SIGTERM and SIGINT end it: what is being processed is waited for, up to drain_ms.\n"
	"\n"
	"Exit codes:\n"
	"  0  ended as asked to; --check-config: the file is good\n"
	"  1  it could not start\n"
	"  2  wrong usage, or a file that is not good\n";

enum { OPTION_CHECK = 256, OPTION_SERVICES };

static const struct option options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "check-config", no_argument, NULL, OPTION_CHECK },
	{ "processor", required_argument, NULL, 'p' },
	{ "socket", required_argument, NULL, 's' },
	{ "services", required_argument, NULL, OPTION_SERVICES },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

struct arguments {
	const char *config, *processor, *socket, *services;
	bool check;
};

/* @return -1: go on; else the exit code */
static int read_arguments(int argc, char **argv, struct arguments *a)
{
	int option;

	while ((option = getopt_long(argc, argv, ":c:p:s:hV", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			a->config = optarg;
			break;
		case 'p':
			a->processor = optarg;
			break;
		case 's':
			a->socket = optarg;
			break;
		case OPTION_SERVICES:
			a->services = optarg;
			break;
		case OPTION_CHECK:
			a->check = true;
			break;
		case 'h':
			fputs(help, stdout);
			return 0;
		case 'V':
			printf("gpuqd %s\n", q_version());
			return 0;
		default:
			return option_error("", option, argv);
		}
	}
	if (optind < argc)
		return usage_error("", "unexpected argument '%s'", argv[optind]);
	if (a->config != NULL && a->processor != NULL)
		return usage_error("", "give either --config or --processor");
	if (a->config == NULL && a->processor == NULL && a->services == NULL)
		return usage_error("", "give --config, --processor or --services");
	if (a->check && a->config == NULL)
		return usage_error("", "--check-config needs --config");
	return -1;
}

/* @return 0, or the exit code */
static int configure(const struct arguments *a, struct broker_config *cfg)
{
	char error[BROKER_ERROR_ROOM];

	if (a->config != NULL) {
		if (!broker_config_read(a->config, cfg, error)) {
			warn_line("%s", error);
			return PROGRAM_USAGE;
		}
	} else {
		broker_config_defaults(cfg);
	}
	if (a->processor != NULL) {
		broker_queue_defaults(&cfg->queue[0], "default");
		cfg->queues = 1;
		if (strlen(a->processor) >= sizeof(cfg->queue[0].processor))
			return usage_error("", "--processor has more than 63 bytes");
		memcpy(cfg->queue[0].processor, a->processor, strlen(a->processor) + 1);
	}
	if (a->services != NULL &&
	    (a->services[0] == '\0' || strlen(a->services) >= sizeof(cfg->services.socket)))
		return usage_error("", "--services has %zu bytes; allowed: 1 to 107",
				   strlen(a->services));
	if (a->services != NULL)
		memcpy(cfg->services.socket, a->services, strlen(a->services) + 1);
	if (a->socket == NULL)
		return 0;
	if (a->socket[0] == '\0' || strlen(a->socket) >= sizeof(cfg->socket))
		return usage_error("", "--socket has %zu bytes; allowed: 1 to 107",
				   strlen(a->socket));
	memcpy(cfg->socket, a->socket, strlen(a->socket) + 1);
	return 0;
}

/* One datagram to the service manager, if there is one: sd_notify(3) has the words. */
static void tell_manager(const char *state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	const size_t n = path != NULL ? strlen(path) : 0;
	int fd;

	if (n == 0 || n >= sizeof(address.sun_path))
		return;
	memcpy(address.sun_path, path, n);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		warn_line("the service manager could not be told: %s", strerror(errno));
	close(fd);
}

/* A client takes some descriptors, and gpuqd uses no select(): all that it may have. */
static void raise_descriptors(void)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) != 0)
		return;
	files.rlim_cur = files.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &files) != 0)
		warn_line("the limit of descriptors stays as it is: %s", strerror(errno));
}

/* What there is to serve: queues, services, or both. */
struct served {
	struct broker *broker;
	struct router *router;
};

static void stop(const struct served *s)
{
	if (s->router != NULL)
		router_stop(s->router);
	if (s->broker != NULL)
		broker_stop(s->broker);
}

static bool start(const struct broker_config *cfg, struct served *s)
{
	char error[BROKER_ERROR_ROOM];

	if (cfg->queues != 0) {
		s->broker = broker_start(cfg, error);
		if (s->broker == NULL) {
			warn_line("%s", error);
			return false;
		}
	}
	if (cfg->services.socket[0] == '\0')
		return true;
	s->router = router_start(&cfg->services, error);
	if (s->router != NULL)
		return true;
	warn_line("%s", error);
	stop(s);
	return false;
}

static int serve(const struct broker_config *cfg)
{
	struct served served = { NULL, NULL };
	struct pollfd signal;

	raise_descriptors();
	/* Its queues are its own, not those of another gpuqd, or of itself. */
	unsetenv("GPUQ_DEVICE");
	if (!signals_init()) {
		warn_line("signals: %s", strerror(errno));
		return 1;
	}
	if (!start(cfg, &served))
		return 1;
	if (served.broker != NULL)
		printf("gpuqd: listening at %s\n", cfg->socket);
	if (served.router != NULL)
		printf("gpuqd: services at %s\n", cfg->services.socket);
	fflush(stdout);
	tell_manager("READY=1");
	signal = (struct pollfd){ .fd = signals_fd(), .events = POLLIN };
	while (signals_caught() == 0)
		poll(&signal, 1, -1);
	tell_manager("STOPPING=1");
	stop(&served);
	return 0;
}

int main(int argc, char **argv)
{
	struct arguments a = { 0 };
	static struct broker_config cfg;
	int code = read_arguments(argc, argv, &a);

	if (code >= 0)
		return code;
	code = configure(&a, &cfg);
	if (code != 0)
		return code;
	if (a.check) {
		printf("%s: good: %u queue%s, socket %s\n", a.config, cfg.queues,
		       cfg.queues == 1 ? "" : "s", cfg.socket);
		return 0;
	}
	return serve(&cfg);
}
