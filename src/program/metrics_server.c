/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics_server.c - answers who asks for the page, by libmicrohttpd, on a thread of its own.
 *
 * `fresh` is the page that the program has handed over and the thread has not taken up. Whoever
 * takes a page out of it by an exchange owns that page alone: the program frees what nobody has
 * read, the thread keeps what it has taken until there is a newer one. So no lock is needed. How
 * the program is stands in two words; one says until when it is alive, so that a program that hangs
 * has nothing to do to be called dead.
 */
#define _GNU_SOURCE
#include "metrics.h"

#include "program.h"

#include <stdlib.h>
#include <string.h>

/* HOST and PORT of "HOST:PORT" or "[HOST]:PORT". */
static bool split(const char *address, char *host, size_t room, const char **out_port)
{
	const char *colon = strrchr(address, ':');
	const char *from = address;
	size_t len;

	if (!colon || colon[1] == '\0')
		return false;
	len = (size_t)(colon - address);
	if (len > 1 && from[0] == '[' && from[len - 1] == ']') {
		from++;
		len -= 2;
	} else if (memchr(address, ':', len)) {
		return false;
	}
	if (len == 0 || len >= room)
		return false;
	memcpy(host, from, len);
	host[len] = '\0';
	*out_port = colon + 1;
	return true;
}

const char *metrics_check(const char *address)
{
	char host[256];
	const char *port;
	uint64_t number;

	if (!metrics_available())
		return "cannot be served: this build has no libmicrohttpd";
	if (strncmp(address, "unix:", 5) == 0)
		return address[5] == '\0'          ? "has no path behind unix:"
		       : strlen(address + 5) > 107 ? "has a path of more than 107 bytes"
						   : NULL;
	if (!split(address, host, sizeof(host), &port))
		return "is neither HOST:PORT nor unix:PATH";
	if (strspn(port, "0123456789") != strlen(port) || !parse_size(port, &number) ||
	    number < 1 || number > 65535)
		return "has a port that is not 1 to 65535";
	return NULL;
}

#if defined(GPUQ_HAVE_MICROHTTPD)

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct metrics_server {
	struct MHD_Daemon *daemon;
	_Atomic(char *) fresh;
	char *shown;                    /* the thread's */
	_Atomic uint64_t live_until_ns; /* 0: nobody has said */
	atomic_bool ready;
	char path[108];
};

bool metrics_available(void)
{
	return true;
}

/* ---- listening ------------------------------------------------------------------------------- */

/* Whether what lies there is a socket that nobody answers at. */
static bool is_left_over(const struct sockaddr_un *to)
{
	struct stat st;
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const bool served = connect(fd, (const struct sockaddr *)to, sizeof(*to)) == 0;

	if (fd >= 0)
		close(fd);
	return !served && lstat(to->sun_path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static int listen_unix(const char *path)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool bound;

	memcpy(to.sun_path, path, strlen(path));
	bound = fd >= 0 && bind(fd, (const struct sockaddr *)&to, sizeof(to)) == 0;
	if (fd >= 0 && !bound && errno == EADDRINUSE) {
		if (is_left_over(&to))
			unlink(path);
		bound = bind(fd, (const struct sockaddr *)&to, sizeof(to)) == 0;
	}
	if (bound && listen(fd, 16) == 0)
		return fd;
	if (fd >= 0) {
		const int error = errno;

		close(fd);
		errno = error;
	}
	return -1;
}

static int listen_tcp(const char *host, const char *port, const char **why)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
	const int on = 1;
	struct addrinfo *list = NULL;
	const int code = getaddrinfo(host, port, &hints, &list);
	int fd = -1;

	if (code != 0) {
		*why = gai_strerror(code);
		return -1;
	}
	for (const struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			continue;
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, 16) != 0) {
			*why = strerror(errno);
			close(fd);
			fd = -1;
		}
	}
	freeaddrinfo(list);
	return fd;
}

/* ---- answering ------------------------------------------------------------------------------- */

struct reply {
	unsigned int code;
	const char *type;
	const char *text;
	char *made; /* to be freed */
};

/* In the one format or the other, by what the asker takes. */
static struct reply page_of(struct metrics_server *s, struct MHD_Connection *c)
{
	const char *accept = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Accept");
	struct reply r = { .code = MHD_HTTP_OK };
	char *fresh = atomic_exchange(&s->fresh, NULL);

	if (fresh) {
		free(s->shown);
		s->shown = fresh;
	}
	r.type = "text/plain; version=0.0.4; charset=utf-8";
	r.text = s->shown;
	if (!r.text) { /* an empty page would say that there are no series */
		r.code = MHD_HTTP_SERVICE_UNAVAILABLE;
		r.text = "# There are no metrics yet.\n";
		return r;
	}
	if (accept && strstr(accept, "application/openmetrics-text"))
		r.made = metrics_openmetrics(r.text);
	if (r.made) {
		r.text = r.made;
		r.type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
	}
	return r;
}

static struct reply reply_to(struct metrics_server *s, struct MHD_Connection *c, const char *url)
{
	const uint64_t until_ns = atomic_load(&s->live_until_ns);
	const bool live = clock_ns() < until_ns;
	const bool ready = live && atomic_load(&s->ready);
	struct reply r = { .code = MHD_HTTP_NOT_FOUND, .type = "text/plain; charset=utf-8" };

	if (strcmp(url, "/metrics") == 0)
		return page_of(s, c);
	r.text = "The metrics are at /metrics.\n";
	if (until_ns == 0)
		return r;
	if (strcmp(url, "/livez") == 0 || strcmp(url, "/healthz") == 0) {
		r.code = live ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
		r.text = live ? "alive\n" : "not alive\n";
	} else if (strcmp(url, "/readyz") == 0) {
		r.code = ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE;
		r.text = ready ? "ready\n" : "not ready\n";
	}
	return r;
}

static enum MHD_Result answer(struct metrics_server *s, struct MHD_Connection *c, const char *url,
			      const char *method)
{
	const bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
	const struct reply r = reply_to(s, c, url);
	/* it copies, and takes a pointer to what it could change */
	const union {
		const char *text;
		void *bytes;
	} body = { .text = r.text };
	struct MHD_Response *response =
		MHD_create_response_from_buffer(strlen(r.text), body.bytes, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result result;

	free(r.made);
	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, "Content-Type", r.type);
	result = MHD_queue_response(c, get ? r.code : MHD_HTTP_METHOD_NOT_ALLOWED, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result on_request(void *user, struct MHD_Connection *c, const char *url,
				  const char *method, const char *version, const char *upload,
				  size_t *upload_bytes, void **state)
{
	(void)version;
	(void)upload;
	(void)state;
	if (*upload_bytes > 0) { /* whatever it is, it is not read */
		*upload_bytes = 0;
		return MHD_YES;
	}
	return answer(user, c, url, method);
}

/* Signals are for the program's own thread. */
static struct MHD_Daemon *start(struct metrics_server *s, int fd)
{
	struct MHD_Daemon *daemon;
	sigset_t all;
	sigset_t before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	/* AUTO: epoll or poll. Without it it is select(), which knows no descriptor above 1023. */
	daemon = MHD_start_daemon(MHD_USE_AUTO_INTERNAL_THREAD, 0, NULL, NULL, &on_request, s,
				  MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, 32U,
				  MHD_OPTION_CONNECTION_TIMEOUT, 10U, MHD_OPTION_END);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return daemon;
}

struct metrics_server *metrics_serve(const char *address)
{
	struct metrics_server *s = calloc(1, sizeof(*s));
	const bool is_unix = strncmp(address, "unix:", 5) == 0;
	const char *why = NULL;
	const char *port = "";
	char host[256];
	int fd = -1;

	if (s && is_unix) {
		memcpy(s->path, address + 5, strlen(address + 5) + 1);
		fd = listen_unix(s->path);
		why = strerror(errno);
	} else if (s && split(address, host, sizeof(host), &port)) {
		fd = listen_tcp(host, port, &why);
	}
	if (fd >= 0)
		s->daemon = start(s, fd);
	if (s && s->daemon)
		return s;
	warn_line("--metrics %s: %s", address, fd < 0 && why ? why : "no server can be started");
	if (fd >= 0)
		close(fd);
	free(s);
	return NULL;
}

void metrics_publish(struct metrics_server *s, struct metrics_page *p)
{
	if (!p->failed && p->text)
		free(atomic_exchange(&s->fresh, p->text));
	else
		free(p->text);
	*p = (struct metrics_page){ .used = 0 };
}

void metrics_health(struct metrics_server *s, uint64_t until_ns, bool ready)
{
	atomic_store(&s->ready, ready);
	atomic_store(&s->live_until_ns, until_ns);
}

void metrics_stop(struct metrics_server *s)
{
	if (!s)
		return;
	MHD_stop_daemon(s->daemon); /* closes the socket, ends the thread */
	if (s->path[0] != '\0')
		unlink(s->path);
	free(atomic_load(&s->fresh));
	free(s->shown);
	free(s);
}

#else /* no libmicrohttpd */

bool metrics_available(void)
{
	return false;
}

struct metrics_server *metrics_serve(const char *address)
{
	warn_line("--metrics %s: %s", address, metrics_check(address));
	return NULL;
}

void metrics_publish(struct metrics_server *s, struct metrics_page *p)
{
	(void)s;
	metrics_free(p);
}

void metrics_health(struct metrics_server *s, uint64_t until_ns, bool ready)
{
	(void)s;
	(void)until_ns;
	(void)ready;
}

void metrics_stop(struct metrics_server *s)
{
	(void)s;
}

#endif
