/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chardev.c - the transport over a file whose calls the kernel brings to us: one that is mounted
 * (FUSE), or a node in /dev (CUSE); chardev_mount.c makes it. policy/chardev_wire.h says what goes
 * over it.
 *
 * A connection that has been let in has a pair of sockets. One end is the router's link, as it is
 * for the transport over a socket. The other stands for the client: what its ioctl() brings is sent
 * there, what its read() asks for is taken from there. So the kernel keeps the frames apart and
 * bounds them, and it says when there is room.
 *
 * The router's thread does all of this, and answers each request before it fetches the next. So
 * while it does something else, or hangs, requests lie in the kernel, where SIGKILL ends them; who
 * waits for a frame does so in poll(), in the kernel, too. Only flush, that is close(), would wait
 * in spite of that: there is none.
 */
#include "transport.h"

#ifdef GPUQ_HAVE_FUSE
#include "chardev_mount.h"

#include "broker/policy/chardev_wire.h"
#include "host/base/sys.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum {
	REQUESTS_A_TURN = 64,
	BACKLOG = 64, /* opened, and not yet let in */
	OPEN = 4200,  /* files of a user: some more than it may have connections */
	UNREAD = 16,  /* connections of a user that have ended, and not all of it is read */
	READ_MAX = 128 * 1024,
	ATTRIBUTES_S = 3600,
	TO_READ = POLLIN | POLLRDNORM | POLLRDBAND | POLLRDHUP,
	TO_WRITE = POLLOUT | POLLWRNORM | POLLWRBAND,
};

struct file;

/* A user who has it open. */
struct opener {
	struct opener *next;
	uid_t uid;
	uint32_t files;
};

struct device {
	struct chardev_mount mount;
	bool stopped; /* nobody comes any more */
	struct fuse_buf request;
	int epoll; /* of the session, with NULL, and of our ends */
	int come;  /* how many are in the backlog: an eventfd */
	struct opener *openers;
	struct file *files;
	struct file *backlog, **backlog_end;
	uint32_t waiting;                  /* in the backlog */
	struct file *unread, **unread_end; /* the longest there first */
	uint8_t frame[GQ_CHARDEV_FRAME_MAX];
};

/* Of an open file. It is freed once it is closed and its link has ended. */
struct file {
	struct device *device;
	struct opener *opener;
	struct file *next, **at; /* in device->files */
	struct file *later;      /* in the backlog, or among the unread */
	bool open;               /* at the client */
	bool comes;              /* neither let in nor refused, nor has it left */
	bool queued;             /* is in the backlog */
	bool linked;             /* the router has its link */
	bool is_unread;          /* is among those */
	int fd;                  /* our end; -1: none yet, or no more */
	struct link link;        /* what accept() says of it */
	uint8_t *words;          /* the one frame that a refused one is told; NULL: none */
	size_t word_bytes;
	struct fuse_pollhandle *poller; /* who waits in poll(); NULL: nobody */
	uint32_t wanted;                /* what for */
	uint8_t *half;                  /* a frame that has come in part; NULL: none */
	uint32_t half_bytes, half_have;
};

/* ---- connections ----------------------------------------------------------------------------- */

static void unlink_from(struct file **first, struct file ***end, struct file *f)
{
	for (struct file **at = first; *at != NULL; at = &(*at)->later) {
		if (*at != f)
			continue;
		*at = f->later;
		if (*end == &f->later)
			*end = at;
		return;
	}
}

static void append_to(struct file ***end, struct file *f)
{
	f->later = NULL;
	**end = f;
	*end = &f->later;
}

static void wake_poller(struct file *f)
{
	if (f->poller == NULL)
		return;
	(void)fuse_lowlevel_notify_poll(f->poller);
	fuse_pollhandle_destroy(f->poller);
	f->poller = NULL;
	f->wanted = 0;
}

static void drop_half(struct file *f)
{
	free(f->half);
	f->half = NULL;
	f->half_have = 0;
}

/* The client has nothing more to say, and there is nothing more for it. A shutdown: also where a
 * child has a copy. */
static void close_end(struct file *f)
{
	struct device *d = f->device;

	if (f->is_unread)
		unlink_from(&d->unread, &d->unread_end, f);
	f->is_unread = false;
	if (f->fd >= 0) {
		epoll_ctl(d->epoll, EPOLL_CTL_DEL, f->fd, NULL);
		shutdown(f->fd, SHUT_RDWR);
		gq_sys_close(f->fd);
	}
	f->fd = -1;
	drop_half(f);
	wake_poller(f);
}

static void take_from_backlog(struct file *f)
{
	struct device *d = f->device;
	uint64_t count;

	(void)gq_sys_read(d->come, &count, sizeof(count)); /* EFD_SEMAPHORE: one less */
	unlink_from(&d->backlog, &d->backlog_end, f);
	d->waiting--;
	f->queued = false;
}

static void close_pidfd(struct file *f)
{
	if (f->link.pidfd >= 0)
		gq_sys_close(f->link.pidfd);
	f->link.pidfd = -1;
}

/* Its connection ends at the client's side. */
static void leave(struct file *f)
{
	if (f->queued)
		take_from_backlog(f);
	if (f->comes)
		close_pidfd(f);
	f->comes = false;
	free(f->words);
	f->words = NULL;
	close_end(f);
}

static void put_opener(struct device *d, struct opener *o)
{
	struct opener **at = &d->openers;

	if (--o->files != 0)
		return;
	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	free(o);
}

static void put_file(struct file *f)
{
	if (f->open || f->linked)
		return;
	put_opener(f->device, f->opener);
	*f->at = f->next;
	if (f->next != NULL)
		f->next->at = f->at;
	free(f);
}

/* What the kernel says is a thread, and 0 if it is none of our pid namespace. @return its process;
 * 0: none */
static pid_t process_of(pid_t thread)
{
	char path[40], line[80];
	int process = 0;
	FILE *status;

	if (thread <= 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/status", (int)thread);
	status = fopen(path, "re");
	if (status == NULL)
		return 0;
	while (fgets(line, sizeof(line), status) != NULL)
		if (sscanf(line, "Tgid: %d", &process) == 1)
			break;
	fclose(status);
	return process;
}

/* @return NULL: it has too many files open, or there is no memory */
static struct opener *opener_of(struct device *d, uid_t uid)
{
	struct opener *o = d->openers;

	while (o != NULL && o->uid != uid)
		o = o->next;
	if (o == NULL) {
		o = malloc(sizeof(*o));
		if (o == NULL)
			return NULL;
		*o = (struct opener){ .next = d->openers, .uid = uid };
		d->openers = o;
	}
	return o->files < OPEN ? o : NULL;
}

/* The thread that opens waits for us meanwhile, so its process cannot be another's by now. Where
 * nothing is known of the process, the close() of its last descriptor tells of its death. */
static struct file *make_file(struct device *d, const struct fuse_ctx *who)
{
	struct opener *o = opener_of(d, who->uid);
	struct file *f = o != NULL ? malloc(sizeof(*f)) : NULL;
	const pid_t process = process_of(who->pid);

	if (f == NULL)
		return NULL;
	*f = (struct file){ .device = d,
			    .opener = o,
			    .next = d->files,
			    .at = &d->files,
			    .open = true,
			    .fd = -1,
			    .link = { .transport = &chardev_transport,
				      .fd = -1,
				      .pidfd = process > 0 ? transport_pidfd(process) : -1,
				      .uid = who->uid,
				      .pid = process,
				      .own = f } };
	o->files++;
	if (d->files != NULL)
		d->files->at = &f->next;
	d->files = f;
	return f;
}

/* ---- what clients ask for -------------------------------------------------------------------- */

static struct device *device_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static struct file *file_of(const struct fuse_file_info *fi)
{
	/* NOLINTNEXTLINE(performance-no-int-to-ptr): what libfuse keeps for us is a number. */
	return (struct file *)(uintptr_t)fi->fh;
}

static void on_init(void *user, struct fuse_conn_info *conn)
{
	(void)user;
	conn->max_write = READ_MAX; /* libfuse makes the most pages of a read() from it */
	conn->max_readahead = 0;
}

static void on_getattr(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	const struct stat st = { .st_ino = inode,
				 .st_mode = S_IFREG | device_of(req)->mount.mode,
				 .st_nlink = 1,
				 .st_uid = geteuid(),
				 .st_gid = getegid() };

	(void)fi;
	(void)fuse_reply_attr(req, &st, ATTRIBUTES_S);
}

static void on_open(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	struct device *d = device_of(req);
	const uint64_t one = 1;
	struct file *f;

	(void)inode;
	/* The kernel has held mode and owner against what it is opened for. */
	if ((fi->flags & O_ACCMODE) != O_RDWR) {
		(void)fuse_reply_err(req, EACCES);
		return;
	}
	if (d->stopped) {
		(void)fuse_reply_err(req, ENOTCONN);
		return;
	}
	f = d->waiting < BACKLOG ? make_file(d, fuse_req_ctx(req)) : NULL;
	if (f == NULL) {
		(void)fuse_reply_err(req, EAGAIN);
		return;
	}
	fi->fh = (uintptr_t)f;
	fi->direct_io = 1;
	fi->nonseekable = 1;
	fi->noflush = 1;
	if (fuse_reply_open(req, fi) != 0) { /* a signal has ended it, and nobody closes it */
		f->open = false;
		close_pidfd(f);
		put_file(f);
		return;
	}
	f->comes = f->queued = true;
	append_to(&d->backlog_end, f);
	d->waiting++;
	(void)gq_sys_write(d->come, &one, sizeof(one));
}

static void on_release(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi)
{
	struct file *f = file_of(fi);

	(void)inode;
	f->open = false;
	leave(f);
	put_file(f);
	(void)fuse_reply_err(req, 0);
}

/* @return 0, or errno */
static int give(const struct file *f, unsigned number, const uint8_t *frame, size_t bytes)
{
	if (gq_chardev_number(frame, bytes) != number)
		return EINVAL;
	if (sendto(f->fd, frame, bytes, MSG_DONTWAIT | MSG_NOSIGNAL, NULL, 0) == (ssize_t)bytes)
		return 0;
	if (errno == EMSGSIZE) /* net.core.wmem_default is too low */
		return EMSGSIZE;
	return errno == EAGAIN || errno == EINTR || errno == ENOBUFS || errno == ENOMEM ? EAGAIN
											: EPIPE;
}

/* The next piece of a frame. @return 0, or errno: then the piece has not come */
static int give_piece(struct file *f, unsigned number, const struct gq_chardev_piece *p,
		      const uint8_t *data, uint32_t bytes)
{
	int error;

	if (p->offset == 0) {
		drop_half(f);
		f->half = malloc(p->frame_bytes);
		if (f->half == NULL)
			return EAGAIN;
		f->half_bytes = p->frame_bytes;
	}
	if (f->half == NULL || p->frame_bytes != f->half_bytes || p->offset != f->half_have)
		return EINVAL;
	memcpy(f->half + p->offset, data, bytes);
	if (p->offset + bytes < f->half_bytes) {
		f->half_have += bytes;
		return 0;
	}
	error = give(f, number, f->half, f->half_bytes);
	if (error != EAGAIN)
		drop_half(f);
	return error;
}

static int take_ioctl(struct file *f, unsigned cmd, const uint8_t *argument, size_t bytes)
{
	struct gq_chardev_piece p;

	if (_IOC_TYPE(cmd) != GQ_CHARDEV_LETTER || _IOC_DIR(cmd) != _IOC_WRITE ||
	    _IOC_NR(cmd) < GQ_CHARDEV_REGISTER || _IOC_NR(cmd) > GQ_CHARDEV_STATS)
		return ENOTTY;
	if (bytes < sizeof(p))
		return EINVAL;
	memcpy(&p, argument, sizeof(p));
	bytes -= sizeof(p);
	if (bytes == 0 && p.frame_bytes == 0) {
		leave(f);
		return 0;
	}
	if (p.frame_bytes > GQ_CHARDEV_FRAME_MAX)
		return EMSGSIZE;
	if (bytes == 0 || p.offset > p.frame_bytes || bytes > p.frame_bytes - p.offset)
		return EINVAL;
	if (f->comes)
		return EAGAIN;
	if (f->fd < 0)
		return EPIPE;
	if (bytes < p.frame_bytes)
		return give_piece(f, _IOC_NR(cmd), &p, argument + sizeof(p), (uint32_t)bytes);
	drop_half(f);
	return give(f, _IOC_NR(cmd), argument + sizeof(p), bytes);
}

static void on_ioctl(fuse_req_t req, fuse_ino_t inode, unsigned cmd, void *at,
		     struct fuse_file_info *fi, unsigned flags, const void *argument, size_t bytes,
		     size_t room)
{
	const int error = take_ioctl(file_of(fi), cmd, argument, bytes);

	(void)inode, (void)at, (void)flags, (void)room;
	if (error == 0)
		(void)fuse_reply_ioctl(req, 0, NULL, 0);
	else
		(void)fuse_reply_err(req, error);
}

/* The one that a refused connection is told. */
static ssize_t take_words(struct file *f, size_t room)
{
	const size_t n = f->word_bytes;

	if (n > room) {
		errno = EMSGSIZE;
		return -1;
	}
	memcpy(f->device->frame, f->words, n);
	free(f->words);
	f->words = NULL;
	return (ssize_t)n;
}

/* @return bytes of the next frame, in device->frame; 0: there will be none; -1 with errno */
static ssize_t next_frame(struct file *f, size_t room)
{
	struct device *d = f->device;
	/* One that does not fit stays. */
	const int peek = room < sizeof(d->frame) ? MSG_PEEK : 0;
	ssize_t n;

	if (f->comes) {
		errno = EAGAIN;
		return -1;
	}
	if (f->words != NULL)
		return take_words(f, room);
	if (f->fd < 0)
		return 0;
	/* ECONNRESET comes once, if the router has ended the link with something unread, and before
	 * what it had said. */
	do
		n = recv(f->fd, d->frame, sizeof(d->frame), MSG_DONTWAIT | peek);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n > 0 && (size_t)n > room) {
		errno = EMSGSIZE;
		return -1;
	}
	if (n > 0 && peek != 0)
		(void)recv(f->fd, d->frame, sizeof(d->frame), MSG_DONTWAIT);
	if (n > 0 || (n < 0 && errno == EAGAIN))
		return n;
	close_end(f);
	return 0;
}

/* It does not wait, whatever O_NONBLOCK says: a process that waits for a hung gpuqd cannot be
 * killed. */
static void on_read(fuse_req_t req, fuse_ino_t inode, size_t room, off_t offset,
		    struct fuse_file_info *fi)
{
	struct file *f = file_of(fi);
	const ssize_t n = next_frame(f, room);

	(void)inode, (void)offset;
	if (n >= 0)
		(void)fuse_reply_buf(req, (const char *)f->device->frame, (size_t)n);
	else
		(void)fuse_reply_err(req, errno);
}

/* The handle is kept before it is looked at what there is: what comes after is told. */
static void on_poll(fuse_req_t req, fuse_ino_t inode, struct fuse_file_info *fi,
		    struct fuse_pollhandle *handle)
{
	struct file *f = file_of(fi);
	struct pollfd at = { .fd = f->fd, .events = TO_READ | TO_WRITE };

	(void)inode;
	if (handle != NULL) {
		if (f->poller != NULL)
			fuse_pollhandle_destroy(f->poller);
		f->poller = handle;
		f->wanted |= fi->poll_events;
	}
	if (f->fd >= 0)
		(void)poll(&at, 1, 0);
	else if (!f->comes)
		at.revents = POLLIN | POLLRDNORM | POLLRDHUP | POLLHUP;
	(void)fuse_reply_poll(req, (unsigned)at.revents);
}

static const struct fuse_lowlevel_ops operations = {
	.init = on_init,
	.getattr = on_getattr,
	.open = on_open,
	.release = on_release,
	.ioctl = on_ioctl,
	.read = on_read,
	.poll = on_poll,
};

/* ---- the same, of a node --------------------------------------------------------------------- */

static void node_open(fuse_req_t req, struct fuse_file_info *fi)
{
	on_open(req, FUSE_ROOT_ID, fi);
}

static void node_release(fuse_req_t req, struct fuse_file_info *fi)
{
	on_release(req, FUSE_ROOT_ID, fi);
}

static void node_ioctl(fuse_req_t req, int cmd, void *at, struct fuse_file_info *fi, unsigned flags,
		       const void *argument, size_t bytes, size_t room)
{
	on_ioctl(req, FUSE_ROOT_ID, (unsigned)cmd, at, fi, flags, argument, bytes, room);
}

static void node_read(fuse_req_t req, size_t room, off_t offset, struct fuse_file_info *fi)
{
	on_read(req, FUSE_ROOT_ID, room, offset, fi);
}

static void node_poll(fuse_req_t req, struct fuse_file_info *fi, struct fuse_pollhandle *handle)
{
	on_poll(req, FUSE_ROOT_ID, fi, handle);
}

static const struct cuse_lowlevel_ops node_operations = {
	.open = node_open,
	.release = node_release,
	.ioctl = node_ioctl,
	.read = node_read,
	.poll = node_poll,
};

/* ---- what is told ---------------------------------------------------------------------------- */

/* Something has changed at our end. It is told each time, so nobody who waits is forgotten. */
static void tell(struct file *f, uint32_t events)
{
	uint32_t wanted = f->wanted | EPOLLHUP | EPOLLRDHUP | EPOLLERR;

	if ((wanted & (POLLRDNORM | POLLRDBAND)) != 0)
		wanted |= EPOLLIN;
	if ((wanted & (POLLWRNORM | POLLWRBAND)) != 0)
		wanted |= EPOLLOUT;
	if ((events & wanted) != 0)
		wake_poller(f);
}

/* ---- the door -------------------------------------------------------------------------------- */

static void turn_out_all(struct device *d)
{
	for (struct file *f = d->files, *next; f != NULL; f = next) {
		next = f->next;
		f->open = false;
		leave(f);
		put_file(f);
	}
}

static void serve(struct device *d)
{
	for (int i = 0; i < REQUESTS_A_TURN; i++) {
		struct fuse_session *session = d->mount.session;
		const int n = fuse_session_receive_buf(session, &d->request);

		if (n == -EAGAIN || n == -EINTR)
			return;
		if (n <= 0) { /* somebody has unmounted it, or has told the kernel to end it */
			d->mount.ended = true;
			epoll_ctl(d->epoll, EPOLL_CTL_DEL, fuse_session_fd(session), NULL);
			turn_out_all(d);
			return;
		}
		fuse_session_process_buf(session, &d->request);
	}
}

static void free_door(struct door *door)
{
	struct device *d = door->own;

	turn_out_all(d);
	chardev_mount_remove(&d->mount);
	free(d->request.mem);
	if (d->epoll >= 0)
		gq_sys_close(d->epoll);
	if (d->come >= 0)
		gq_sys_close(d->come);
	while (d->openers != NULL) {
		struct opener *next = d->openers->next;

		free(d->openers);
		d->openers = next;
	}
	free(d);
	door->own = NULL;
	door->pump_fd = -1;
}

static bool watch_session(struct device *d)
{
	struct epoll_event event = { .events = EPOLLIN }; /* and NULL */

	return epoll_ctl(d->epoll, EPOLL_CTL_ADD, fuse_session_fd(d->mount.session), &event) == 0;
}

static bool open_door(struct door *door, const struct router_config *cfg,
		      char error[ROUTER_ERROR_ROOM])
{
	struct device *d;

	if (cfg->chardev[0] == '\0')
		return true;
	d = door->own = calloc(1, sizeof(*d));
	if (d == NULL) {
		snprintf(error, ROUTER_ERROR_ROOM, "services: out of memory");
		return false;
	}
	d->mount.lock = -1;
	d->backlog_end = &d->backlog;
	d->unread_end = &d->unread;
	d->epoll = epoll_create1(EPOLL_CLOEXEC);
	d->come = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
	if (d->epoll < 0 || d->come < 0) {
		snprintf(error, ROUTER_ERROR_ROOM, "services: %s", strerror(errno));
		return false;
	}
	if (!chardev_mount_make(&d->mount, cfg, &operations, &node_operations, d, error))
		return false;
	if (!watch_session(d)) {
		snprintf(error, ROUTER_ERROR_ROOM, "services: %s", strerror(errno));
		return false;
	}
	door->fd = d->come;
	door->pump_fd = d->epoll;
	return true;
}

static enum transport_result accept_link(struct door *door, struct link *out)
{
	struct device *d = door->own;
	struct file *f = d->backlog;

	if (f == NULL)
		return TRANSPORT_NOT_NOW;
	take_from_backlog(f);
	f->linked = true;
	*out = f->link;
	return TRANSPORT_DONE;
}

static enum transport_result begin(struct link *l)
{
	struct file *f = l->own;
	struct device *d = f->device;
	struct epoll_event event = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
				     .data.ptr = f };
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
		return TRANSPORT_SHORT;
	if (epoll_ctl(d->epoll, EPOLL_CTL_ADD, pair[0], &event) != 0) {
		gq_sys_close(pair[0]);
		gq_sys_close(pair[1]);
		return TRANSPORT_SHORT;
	}
	f->fd = pair[0];
	l->fd = pair[1];
	f->link.pidfd = -1; /* the router's */
	f->comes = false;
	wake_poller(f);
	return TRANSPORT_DONE;
}

/* It has no descriptor of ours. */
static void refuse(struct link *l, const void *frame, size_t bytes)
{
	struct file *f = l->own;

	close_pidfd(f);
	f->words = f->comes ? malloc(bytes) : NULL; /* else it has left */
	if (f->words != NULL) {
		memcpy(f->words, frame, bytes);
		f->word_bytes = bytes;
	}
	f->comes = f->linked = false;
	wake_poller(f);
	put_file(f);
}

static bool has_left(struct link *l)
{
	const struct file *f = l->own;

	return !f->comes;
}

static void stop_door(struct door *door)
{
	struct device *d = door->own;

	d->stopped = true;
	while (d->backlog != NULL)
		leave(d->backlog);
	door->fd = -1;
}

/* What is told of connections comes first: requests may free them. */
static bool pump(struct door *door)
{
	struct device *d = door->own;
	struct epoll_event events[32];
	const int n = epoll_wait(d->epoll, events, 32, 0);
	bool asked = false;

	for (int i = 0; i < n; i++) {
		if (events[i].data.ptr != NULL)
			tell(events[i].data.ptr, events[i].events);
		asked = asked || events[i].data.ptr == NULL;
	}
	if (asked)
		serve(d);
	return d->unread != NULL;
}

/* ---- a link ---------------------------------------------------------------------------------- */

static uint32_t unread_of(const struct device *d, uid_t uid)
{
	uint32_t n = 0;

	for (const struct file *f = d->unread; f != NULL; f = f->later)
		n += f->link.uid == uid;
	return n;
}

static struct file *oldest_unread(const struct device *d, uid_t uid)
{
	struct file *f = d->unread;

	while (f->link.uid != uid)
		f = f->later;
	return f;
}

/* What the client has not read yet waits for it. But who opens without end, and reads nothing, must
 * not have a descriptor of ours for each time: then only the latest can still be read. */
static void end(struct link *l)
{
	struct file *f = l->own;
	struct device *d = f->device;
	uint8_t byte;
	ssize_t n = 0;

	gq_sys_close(l->fd);
	f->linked = false;
	if (f->fd >= 0)
		do
			n = recv(f->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);
		while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n <= 0) {
		close_end(f);
	} else {
		if (unread_of(d, l->uid) == UNREAD)
			close_end(oldest_unread(d, l->uid));
		append_to(&d->unread_end, f);
		f->is_unread = true;
	}
	put_file(f);
}

#else /* no libfuse */

#include <stdio.h>

static bool open_door(struct door *door, const struct router_config *cfg,
		      char error[ROUTER_ERROR_ROOM])
{
	(void)door;
	if (cfg->chardev[0] == '\0')
		return true;
	snprintf(error, ROUTER_ERROR_ROOM,
		 "chardev is '%s', but this gpuqd was built without libfuse3", cfg->chardev);
	return false;
}

#endif

const struct transport chardev_transport = {
	.name = "chardev",
	.open = open_door,
#ifdef GPUQ_HAVE_FUSE
	.needs_checksum = true,
	.tells_room = true,
	.accept = accept_link,
	.begin = begin,
	.refuse = refuse,
	.has_left = has_left,
	.pump = pump,
	.stop = stop_door,
	.free = free_door,
	.events = socket_events,
	.receive = socket_receive,
	.send = socket_send,
	.end = end,
#endif
};
