/* SPDX-License-Identifier: Apache-2.0 */
/* connect.c - from an endpoint's name to a connection, and to memory that gpuqd has made. */
#include "device/remote/remote.h"

#include "host/base/error.h"
#include "host/base/fault.h"
#include "host/base/sys.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum {
	ANSWER_MS = 5000, /* gpuqd's reactor answers at once */
	START_MS = 60000, /* a queue on a GPU may be made first */
};

static bool refuse_endpoint(const char *endpoint)
{
	gq__failf(Q_ERR_INVALID_ARG,
		  "endpoint is '%.200s'; allowed: unix:PATH or unix:PATH#QUEUE, PATH of 1 to 107 "
		  "bytes, QUEUE of 1 to 63",
		  endpoint);
	return false;
}

bool gq__remote_parse(const char *endpoint, struct gq_remote *r)
{
	const char *path, *mark;
	size_t length;

	memcpy(r->queue, "default", sizeof("default"));
	if (endpoint == NULL) {
		if (gq_remote_default_path(r->path, sizeof(r->path)))
			return true;
		gq__fail(Q_ERR_INVALID_ARG, "endpoint is NULL, and XDG_RUNTIME_DIR is too long");
		return false;
	}
	if (strncmp(endpoint, "unix:", 5) != 0)
		return refuse_endpoint(endpoint);
	path = endpoint + 5;
	mark = strchr(path, '#');
	length = mark != NULL ? (size_t)(mark - path) : strlen(path);
	if (length == 0 || length >= sizeof(r->path))
		return refuse_endpoint(endpoint);
	memcpy(r->path, path, length);
	r->path[length] = '\0';
	if (mark == NULL)
		return true;
	length = strlen(mark + 1);
	if (length == 0 || length >= sizeof(r->queue))
		return refuse_endpoint(endpoint);
	memcpy(r->queue, mark + 1, length + 1);
	return true;
}

/* ---- messages -------------------------------------------------------------------------------- */

/* A daemon that has refused already has closed its end: then its answer says why. */
static bool say(struct gq_remote *r, const void *message, size_t bytes)
{
	if (sendto(r->socket, message, bytes, MSG_NOSIGNAL, NULL, 0) == (ssize_t)bytes ||
	    errno == EPIPE || errno == ECONNRESET)
		return true;
	gq__failf(Q_ERR_LOST, "gpuqd at %s: %s", r->path, strerror(errno));
	return false;
}

/* Descriptors that came with a message, closed unless taken. */
struct passed {
	int fd[2], n;
	bool cut; /* this process had no room for one */
};

static void take_descriptors(struct msghdr *m, struct passed *p)
{
	p->n = 0;
	p->cut = (m->msg_flags & MSG_CTRUNC) != 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		const size_t bytes = c->cmsg_len - CMSG_LEN(0);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < bytes / sizeof(int); i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (p->n < 2)
				p->fd[p->n++] = fd;
			else
				gq_sys_close(fd);
		}
	}
}

static void drop_descriptors(struct passed *p)
{
	for (int i = 0; i < p->n; i++)
		gq_sys_close(p->fd[i]);
	p->n = 0;
}

/* @return bytes; 0: closed; -1 with q_last_error() */
static ssize_t hear(struct gq_remote *r, union gq_wire *w, struct passed *p, int timeout_ms)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(4 * sizeof(int))];
	struct iovec io = { .iov_base = w, .iov_len = sizeof(*w) };
	struct msghdr m = { .msg_iov = &io,
			    .msg_iovlen = 1,
			    .msg_control = control,
			    .msg_controllen = sizeof(control) };
	struct pollfd ready = { .fd = r->socket, .events = POLLIN };
	ssize_t n;
	int rc;

	do
		rc = poll(&ready, 1, timeout_ms);
	while (rc < 0 && errno == EINTR);
	if (rc == 0) {
		gq__failf(Q_ERR_TIMEOUT, "gpuqd at %s did not answer within %d ms", r->path,
			  timeout_ms);
		return -1;
	}
	memset(w, 0, sizeof(*w));
	n = recvmsg(r->socket, &m, MSG_CMSG_CLOEXEC);
	if (n < 0 && errno == ECONNRESET) /* told once; what had been said before comes behind */
		n = recvmsg(r->socket, &m, MSG_CMSG_CLOEXEC);
	p->n = 0;
	if (n > 0)
		take_descriptors(&m, p);
	return n < 0 ? 0 : n;
}

static bool is_whole(const union gq_wire *w, ssize_t n, uint32_t type, size_t bytes)
{
	return n == (ssize_t)bytes && w->head.magic == GQ_WIRE_MAGIC &&
	       w->head.version == GQ_WIRE_VERSION && w->head.type == type && w->head.bytes == bytes;
}

/* Wait for one kind of answer. @return false with q_last_error(), and no descriptors */
static bool await(struct gq_remote *r, union gq_wire *w, struct passed *p, uint32_t type,
		  size_t bytes, int timeout_ms)
{
	const ssize_t n = hear(r, w, p, timeout_ms);

	if (n < 0)
		return false;
	if (is_whole(w, n, type, bytes))
		return true;
	drop_descriptors(p);
	if (n == 0) {
		gq__failf(Q_ERR_LOST, "gpuqd at %s closed the connection before it answered",
			  r->path);
	} else if (is_whole(w, n, GQ_WIRE_REFUSED, sizeof(w->refused))) {
		w->refused.text[GQ_WIRE_TEXT - 1] = '\0';
		gq__failf((QueueStatus)w->refused.status, "gpuqd at %s: %s", r->path,
			  w->refused.text);
	} else if (w->head.magic == GQ_WIRE_MAGIC && w->head.version != GQ_WIRE_VERSION) {
		gq__failf(Q_ERR_UNSUPPORTED,
			  "gpuqd at %s speaks version %" PRIu32 " of the protocol, this library "
			  "version %" PRIu32,
			  r->path, w->head.version, GQ_WIRE_VERSION);
	} else {
		gq__failf(Q_ERR_UNSUPPORTED,
			  "%s is not the socket of a gpuqd's queues; its services have another one",
			  r->path);
	}
	return false;
}

/* ---- connecting ------------------------------------------------------------------------------ */

static bool cannot_connect(const struct gq_remote *r, int reason)
{
	const char *why = reason == ENOENT         ? "there is no such socket: is gpuqd running?"
			  : reason == ECONNREFUSED ? "nobody listens there: has gpuqd ended?"
			  : reason == EPROTOTYPE ? "it is the socket of a program that is no gpuqd"
						 : strerror(reason);

	gq__failf(reason == EMFILE || reason == ENFILE ? Q_ERR_LIMIT : Q_ERR_LOST,
		  "gpuqd at %s: %s", r->path, why);
	return false;
}

static bool open_socket(struct gq_remote *r)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int rc;

	errno = EMFILE;
	if (!gq__fault())
		r->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (r->socket < 0)
		return cannot_connect(r, errno);
	memcpy(address.sun_path, r->path, strlen(r->path) + 1);
	do
		rc = connect(r->socket, (const struct sockaddr *)&address, sizeof(address));
	while (rc != 0 && errno == EINTR);
	return rc == 0 || cannot_connect(r, errno);
}

/* gpuqd is believed, as it has our messages; but a program that merely holds its socket must not
 * make this process read what is not there. */
static bool map(struct gq_remote *r, int memfd)
{
	void *memory = MAP_FAILED;
	struct stat st;

	if (fstat(memfd, &st) != 0 || (uint64_t)st.st_size != r->layout.bytes ||
	    (fcntl(memfd, F_GET_SEALS) & (F_SEAL_SHRINK | F_SEAL_GROW)) !=
		    (F_SEAL_SHRINK | F_SEAL_GROW)) {
		gq__failf(Q_ERR_POLICY,
			  "gpuqd at %s gave memory that is not of %" PRIu64 " bytes, or can be cut",
			  r->path, r->layout.bytes);
		return false;
	}
	errno = ENOMEM;
	if (!gq__fault())
		memory = mmap(NULL, r->layout.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (memory == MAP_FAILED) {
		gq__failf(Q_ERR_NO_MEMORY,
			  "%" PRIu64 " bytes that are shared with gpuqd could not be mapped: %s",
			  r->layout.bytes, strerror(errno));
		return false;
	}
	r->memory = memory;
	r->page = memory;
	r->taken = (uint64_t *)(void *)(r->memory + r->layout.taken);
	return true;
}

/* Whoever has a token shows it, also where none is needed. @return false with q_last_error() */
static bool show_token(struct gq_remote *r)
{
	const char *text = getenv("GPUQ_TOKEN");
	struct gq_wire_token w;
	size_t n;

	if (text == NULL || text[0] == '\0')
		return true;
	n = gq_hex_decode(text, w.token, sizeof(w.token));
	if (n == 0) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "GPUQ_TOKEN has %zu characters; allowed: an even number of hexadecimal "
			  "digits, 2 to %d",
			  strlen(text), 2 * GQ_TOKEN_BYTES);
		return false;
	}
	w.head = gq_wire_head_of(GQ_WIRE_TOKEN, sizeof(w.head) + n);
	return say(r, &w, sizeof(w.head) + n);
}

bool gq__remote_connect(struct gq_remote *r)
{
	struct passed passed;
	union gq_wire w;
	bool mapped = false;

	if (!open_socket(r) || !show_token(r) || !say(r, &r->hello, sizeof(r->hello)) ||
	    !await(r, &w, &passed, GQ_WIRE_WELCOME, sizeof(w.welcome), ANSWER_MS))
		return false;
	if (passed.cut || passed.n != 2) {
		gq__failf(Q_ERR_LIMIT, "gpuqd at %s: this process has no descriptors left",
			  r->path);
	} else {
		mapped = map(r, passed.fd[0]);
		r->bell = passed.fd[1];
		passed.n = 1; /* a mapping needs no descriptor */
	}
	drop_descriptors(&passed);
	return mapped;
}

bool gq__remote_begin(struct gq_remote *r, struct gq_wire_started *started)
{
	const struct gq_wire_start start = { gq_wire_head_of(GQ_WIRE_START, sizeof(start)) };
	struct passed passed;
	union gq_wire w;

	if (!say(r, &start, sizeof(start)) ||
	    !await(r, &w, &passed, GQ_WIRE_STARTED, sizeof(w.started), START_MS))
		return false;
	drop_descriptors(&passed);
	*started = w.started;
	started->processor[GQ_WIRE_NAME - 1] = '\0';
	started->device[GQ_WIRE_NAME - 1] = '\0';
	return true;
}

void gq__remote_disconnect(struct gq_remote *r)
{
	if (r->memory != NULL)
		munmap(r->memory, r->layout.bytes);
	if (r->bell >= 0)
		gq_sys_close(r->bell);
	if (r->socket >= 0)
		gq_sys_close(r->socket);
}
