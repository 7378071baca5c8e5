/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - the program gpuqd: its options, its signals, and what it tells a service manager. */
#include "broker.h"

#include "keeper.h"
#include "program/manager.h"
#include "program/metrics.h"
#include "program/program.h"
#include "program/signals.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

const char program_name[] = "gpuqd";

static const char help[] =
	"Usage: gpuqd --config FILE [--check-config]\n"
	"       gpuqd [--socket PATH] --processor NAME\n"
	"       gpuqd --services PATH [--metrics ADDRESS]\n"
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
	"      --metrics ADDRESS serve metrics and health over HTTP: HOST:PORT or unix:PATH\n"
	"      --stats PATH      keep the page of counts there: gpuq status; off: nowhere\n"
	"  -h, --help            show this text\n"
	"  -V, --version         show the version\n"
	"\n"
	"SIGTERM and SIGINT end it: what has been accepted is waited for, up to drain_ms. SIGHUP\n"
	"reads FILE anew: all of it is taken over, or nothing.\n"
	"\n"
	"Exit codes:\n"
	"  0    ended as asked to; --check-config: the file is good\n"
	"  1    it could not start\n"
	"  2    wrong usage, or a file that is not good\n"
	"  3    what was asked for could not be written\n"
	"  141  the reader of the output has gone\n";

enum { OPTION_CHECK = 256, OPTION_SERVICES, OPTION_METRICS, OPTION_STATS };

static const struct option options[] = {
	{ "config", required_argument, NULL, 'c' },
	{ "check-config", no_argument, NULL, OPTION_CHECK },
	{ "processor", required_argument, NULL, 'p' },
	{ "socket", required_argument, NULL, 's' },
	{ "services", required_argument, NULL, OPTION_SERVICES },
	{ "metrics", required_argument, NULL, OPTION_METRICS },
	{ "stats", required_argument, NULL, OPTION_STATS },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

struct arguments {
	const char *config, *processor, *socket, *services, *metrics, *stats;
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
		case OPTION_METRICS:
			a->metrics = optarg;
			break;
		case OPTION_STATS:
			a->stats = optarg;
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

/* A text of the command line in place of the file's. @return false: it is too long, or empty */
static bool override(const char *option, const char *text, char *to, size_t room, unsigned *line,
		     char error[BROKER_ERROR_ROOM])
{
	if (text == NULL)
		return true;
	if (text[0] == '\0' || strlen(text) >= room) {
		snprintf(error, BROKER_ERROR_ROOM, "%s has %zu bytes; allowed: 1 to %zu", option,
			 strlen(text), room - 1);
		return false;
	}
	memcpy(to, text, strlen(text) + 1);
	*line = 0;
	return true;
}

static bool check_metrics(const struct arguments *a, const struct broker_config *cfg,
			  char error[BROKER_ERROR_ROOM])
{
	const char *why = cfg->metrics[0] != '\0' ? metrics_check(cfg->metrics) : NULL;

	if (why == NULL)
		return true;
	if (a->metrics != NULL)
		snprintf(error, BROKER_ERROR_ROOM, "--metrics: '%.200s' %s", cfg->metrics, why);
	else
		snprintf(error, BROKER_ERROR_ROOM, "%.150s:%u: metrics: '%.200s' %s", a->config,
			 cfg->line.metrics, cfg->metrics, why);
	return false;
}

/* @return 0, or the exit code, and `error` */
static int configure(const struct arguments *a, struct broker_config *cfg,
		     char error[BROKER_ERROR_ROOM])
{
	if (a->config == NULL)
		broker_config_defaults(cfg);
	else if (!broker_config_read(a->config, cfg, error))
		return PROGRAM_USAGE;
	if (a->processor != NULL) {
		broker_queue_defaults(&cfg->queue[0], "default");
		cfg->queues = 1;
	}
	if (!override("--processor", a->processor, cfg->queue[0].processor,
		      sizeof(cfg->queue[0].processor), &cfg->queue[0].processor_line, error) ||
	    !override("--services", a->services, cfg->services.socket, sizeof(cfg->services.socket),
		      &cfg->line.services, error) ||
	    !override("--socket", a->socket, cfg->socket, sizeof(cfg->socket), &cfg->line.socket,
		      error) ||
	    !override("--stats", a->stats, cfg->stats, sizeof(cfg->stats), &cfg->line.stats,
		      error) ||
	    !override("--metrics", a->metrics, cfg->metrics, sizeof(cfg->metrics),
		      &cfg->line.metrics, error) ||
	    !check_metrics(a, cfg, error) || !broker_config_check_paths(a->config, cfg, error))
		return PROGRAM_USAGE;
	return 0;
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

/* Sockets that the service manager has made take the place of our own. @return false: it has made
 * some that the configuration does not name */
static bool take_listeners(struct broker_config *cfg)
{
	uint32_t taken = 0, handed_over;

	if (cfg->queues != 0)
		cfg->listener = manager_listener(cfg->socket, SOCK_SEQPACKET);
	if (cfg->services.socket[0] != '\0')
		cfg->services.listener = manager_listener(cfg->services.socket, SOCK_SEQPACKET);
	taken = (cfg->listener != 0) + (uint32_t)(cfg->services.listener != 0);
	handed_over = manager_listeners();
	if (taken == handed_over)
		return true;
	warn_line("%u sockets were handed over, of which %u are SEQPACKET sockets that listen at a "
		  "path of the configuration; allowed: no others",
		  handed_over, taken);
	return false;
}

/* Before anything else that another gpuqd at the same sockets has: its page of counts. */
static bool take_locks(struct broker_config *cfg)
{
	char error[BROKER_ERROR_ROOM];

	if (cfg->queues != 0 && cfg->listener == 0)
		cfg->lock = socket_lock(cfg->socket, error);
	if (cfg->lock >= 0 && cfg->services.socket[0] != '\0' && cfg->services.listener == 0)
		cfg->services.lock = socket_lock(cfg->services.socket, error);
	if (cfg->lock >= 0 && cfg->services.lock >= 0)
		return true;
	warn_line("%s", error);
	return false;
}

static bool configure_again(const void *user, struct broker_config *cfg,
			    char error[BROKER_ERROR_ROOM])
{
	return configure(user, cfg, error) == 0;
}

static void tell(const char *line)
{
	warn_line("%s", line);
}

static bool interrupted(void)
{
	return signals_caught() != 0;
}

static int serve(const struct arguments *a, struct broker_config *cfg)
{
	struct served served = { NULL, NULL };
	char error[BROKER_ERROR_ROOM];
	struct keeper *k;

	raise_descriptors();
	/* Its queues are its own, not those of another gpuqd, or of itself. */
	unsetenv("GPUQ_DEVICE");
	signal(SIGCHLD,
	       SIG_DFL); /* ignored, as it may be inherited, the kernel would reap children */
	if (!signals_init() || (a->config != NULL && !signals_hup_reloads())) {
		warn_line("signals: %s", strerror(errno));
		return 1;
	}
	cfg->tell = tell;
	cfg->interrupted = interrupted;
	if (!take_listeners(cfg) || !take_locks(cfg))
		return 1;
	k = keeper_start(cfg, a->config, configure_again, a, error);
	if (k == NULL) {
		warn_line("%s", error);
		return 1;
	}
	if (!start(cfg, &served)) {
		keeper_stop(k);
		return 1;
	}
	keeper_begin(k, served.broker, served.router);
	if (served.broker != NULL)
		printf("gpuqd: listening at %s\n", cfg->socket);
	if (served.router != NULL)
		printf("gpuqd: services at %s\n", cfg->services.socket);
	if (served.router != NULL && cfg->services.netlink != 0)
		printf("gpuqd: services at netlink port %u\n", cfg->services.netlink);
	if (served.router != NULL && cfg->services.chardev[0] != '\0')
		printf("gpuqd: services at the device %s\n", cfg->services.chardev);
	fflush(stdout);
	keeper_run(k);
	stop(&served);
	keeper_stop(k);
	return 0;
}

static void print_good(const char *path, const struct broker_config *cfg)
{
	printf("%s: good: %u queue%s", path, cfg->queues, cfg->queues == 1 ? "" : "s");
	if (cfg->queues != 0) /* otherwise nothing listens there */
		printf(", socket %s", cfg->socket);
	if (cfg->services.socket[0] != '\0')
		printf(", services at %s", cfg->services.socket);
	printf("\n");
}

int main(int argc, char **argv)
{
	struct arguments a = { 0 };
	static struct broker_config cfg;
	char error[BROKER_ERROR_ROOM];
	int code;

	if (!standard_descriptors())
		return 1;
	if (argc == 2 && strcmp(argv[1], "--process") == 0) /* supervise.c starts us so */
		return child_main();
	code = read_arguments(argc, argv, &a);
	if (code >= 0)
		return end_output(code);
	code = configure(&a, &cfg, error);
	/* In a reload the queues that there are have theirs, whatever has become of the file. */
	if (code == 0 && !broker_config_check_processors(a.config, &cfg, error))
		code = PROGRAM_USAGE;
	if (code != 0) {
		warn_line("%s", error);
		return code;
	}
	if (a.check) {
		print_good(a.config, &cfg);
		return end_output(0);
	}
	return serve(&a, &cfg);
}
