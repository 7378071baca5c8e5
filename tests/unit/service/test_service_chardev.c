/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_service_chardev.c - the character device of gpuqd's services, as a file: its ioctls, read(),
 * poll(), copies of its descriptor, who is whom, and a gpuqd that hangs. What it has in common with
 * the other transports is in test_service_transport.c.
 */
/* The tests have a send() of their own. */
#define send send_on_socket
#include <sys/socket.h>
#undef send

#include "callers.h"
#include "child.h"
#include "daemon.h"
#include "support.h"

#include "broker/policy/chardev_wire.h"
#include "broker/policy/frame.h"
#include "broker/service/service.h"

#include <gpuq/broker.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct daemon d;
static char folder[40], device[64], endpoint[80];

static void begin(const char *keys)
{
	char all[200];

	snprintf(all, sizeof(all), "chardev = %s\n%s", device, keys);
	daemon_set_up(&d, "", all);
}

static BrokerClient *client(void)
{
	return connect_to_services(endpoint);
}

/* ---- by hand --------------------------------------------------------------------------------- */

static int open_device(int flags)
{
	const int fd = open(device, O_RDWR | O_CLOEXEC | flags);

	if (fd < 0)
		fail_msg("%s: %s", device, strerror(errno));
	return fd;
}

/* @return errno, or 0 */
static int give(int fd, unsigned number, uint32_t frame_bytes, uint32_t offset, const void *data,
		size_t bytes)
{
	uint8_t argument[GQ_CHARDEV_ARGUMENT_MAX];
	const struct gq_chardev_piece head = { frame_bytes, offset };

	memcpy(argument, &head, sizeof(head));
	if (bytes != 0)
		memcpy(argument + sizeof(head), data, bytes);
	return ioctl(fd, GQ_CHARDEV_IOCTL(number, bytes), argument) == 0 ? 0 : errno;
}

/* All of a frame, once there is room. */
static int give_frame(int fd, unsigned number, const void *frame, size_t bytes)
{
	struct pollfd at = { .fd = fd, .events = POLLOUT };
	int error;

	while ((error = give(fd, number, (uint32_t)bytes, 0, frame, bytes)) == EAGAIN)
		poll(&at, 1, (int)LONG_MS);
	return error;
}

static size_t encode(struct gq_frame *f, uint8_t to[512])
{
	size_t n = 0;

	f->flags |= GQ_FLAG_CHECKSUM;
	assert_int_equal(gq__frame_encode(f, to, 512, &n), GQ_FRAME_OK);
	return n;
}

static size_t hello(uint8_t to[512], uint32_t version)
{
	const uint32_t versions[2] = { version, version };
	struct gq_frame f = { .type = GQ_MESSAGE_HELLO, .correlation = 1 };

	gq__frame_set(&f, GQ_TLV_VERSIONS, false, versions, sizeof(versions));
	return encode(&f, to);
}

static size_t question(uint8_t to[512], uint64_t correlation)
{
	struct gq_frame f = { .type = GQ_MESSAGE_STATS, .correlation = correlation };

	return encode(&f, to);
}

/* The next frame's type, by a read() that may wait. */
static uint32_t read_type(int fd, uint64_t *correlation)
{
	static uint8_t in[GQ_WIRE_FRAME_MAX + 8];
	struct pollfd at = { .fd = fd, .events = POLLIN };
	const struct gq_frame_rules rules = { .receiver = GQ_FRAME_AT_PEER,
					      .state = GQ_FRAME_AFTER_HELLO };
	const struct gq_frame_rules first = { .receiver = GQ_FRAME_AT_PEER };
	struct gq_frame f;
	ssize_t n;

	do
		n = read(fd, in, sizeof(in));
	while (n < 0 && errno == EAGAIN && poll(&at, 1, (int)LONG_MS) == 1);
	if (n <= 0)
		return 0;
	if (gq__frame_decode(in, (size_t)n, &rules, &f) != GQ_FRAME_OK)
		assert_int_equal(gq__frame_decode(in, (size_t)n, &first, &f), GQ_FRAME_OK);
	if (correlation != NULL)
		*correlation = f.correlation;
	return f.type;
}

static int greeted(int flags)
{
	const int fd = open_device(flags);
	uint8_t frame[512];

	assert_int_equal(give_frame(fd, GQ_CHARDEV_SEND, frame, hello(frame, 1)), 0);
	assert_int_equal(read_type(fd, NULL), GQ_MESSAGE_HELLO);
	return fd;
}

static void expect_it_serves(int fd, uint64_t correlation)
{
	uint8_t frame[512];
	uint64_t answered = 0;

	assert_int_equal(give_frame(fd, GQ_CHARDEV_STATS, frame, question(frame, correlation)), 0);
	assert_int_equal(read_type(fd, &answered), GQ_MESSAGE_STATS);
	assert_true(answered == correlation);
}

static void expect_success(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- the ioctls ------------------------------------------------------------------------------ */

/* As programs have them in them; the header has static assertions of the same, also for 32 bit. */
static void t_5_numbers_and_layouts(void **state)
{
	(void)state;
	assert_int_equal(_IOC_NR(GQ_CHARDEV_IOCTL(GQ_CHARDEV_REGISTER, 1)), 0x20);
	assert_int_equal(_IOC_NR(GQ_CHARDEV_IOCTL(GQ_CHARDEV_STATS, 1)), 0x25);
#if defined(__x86_64__) || defined(__aarch64__)
	assert_true(GQ_CHARDEV_IOCTL(GQ_CHARDEV_SEND, 56) == 0x40405622u);
	assert_true(GQ_CHARDEV_IOCTL(GQ_CHARDEV_LIST, GQ_CHARDEV_PIECE_MAX) == 0x7ff85624u);
#endif
}

static void what_is_no_piece_is_refused(void **state)
{
	static const uint8_t none[64];
	uint8_t frame[512];
	size_t n;
	int fd;

	(void)state;
	begin("");
	fd = greeted(O_NONBLOCK);
	n = question(frame, 7);
	/* other numbers, letters, directions: as of no device */
	assert_int_equal(ioctl(fd, _IOC(_IOC_WRITE, 'V', 0x1f, 8), none), -1);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(ioctl(fd, _IOC(_IOC_WRITE, 'V', 0x26, 8), none), -1);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(ioctl(fd, _IOC(_IOC_WRITE, 'W', 0x22, 8), none), -1);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, 'V', 0x22, 8), frame), -1);
	assert_int_equal(errno, ENOTTY);
	assert_int_equal(ioctl(fd, _IOC(_IOC_NONE, 'V', 0x22, 0), none), -1);
	assert_int_equal(errno, ENOTTY);
	assert_false(isatty(fd));
	/* other sizes */
	assert_int_equal(ioctl(fd, _IOC(_IOC_WRITE, 'V', 0x22, 0), none), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(ioctl(fd, _IOC(_IOC_WRITE, 'V', 0x22, 7), none), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(ioctl(fd, GQ_CHARDEV_IOCTL(GQ_CHARDEV_SEND, 8), NULL), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(give(fd, GQ_CHARDEV_STATS, (uint32_t)n, 0, frame, 0), EINVAL);
	assert_int_equal(give(fd, GQ_CHARDEV_STATS, (uint32_t)n - 1, 0, frame, n), EINVAL);
	assert_int_equal(give(fd, GQ_CHARDEV_STATS, (uint32_t)n, 1, frame, n), EINVAL);
	assert_int_equal(give(fd, GQ_CHARDEV_STATS, (uint32_t)n, UINT32_MAX, frame, n), EINVAL);
	assert_int_equal(give(fd, GQ_CHARDEV_STATS, 0, 0, frame, 1), EINVAL);
	assert_int_equal(give(fd, GQ_CHARDEV_STATS, UINT32_MAX, UINT32_MAX, frame, 1), EMSGSIZE);
	assert_int_equal(give(fd, GQ_CHARDEV_STATS, GQ_CHARDEV_FRAME_MAX + 1, 0, frame, n),
			 EMSGSIZE);
	/* a number that is not the frame's */
	assert_int_equal(give(fd, GQ_CHARDEV_SEND, (uint32_t)n, 0, frame, n), EINVAL);
	assert_int_equal(give(fd, GQ_CHARDEV_LIST, (uint32_t)n, 0, frame, n), EINVAL);
	expect_it_serves(fd, 8);
	close(fd);
	daemon_tear_down(&d);
}

static void a_frame_may_come_in_pieces(void **state)
{
	uint64_t answered = 0;
	uint8_t frame[512];
	uint32_t n;
	int fd;

	(void)state;
	begin("");
	fd = greeted(O_NONBLOCK);
	n = (uint32_t)question(frame, 9);
	assert_int_equal(give(fd, GQ_CHARDEV_STATS, n, 8, frame + 8, 8), EINVAL); /* no beginning */
	assert_int_equal(give(fd, GQ_CHARDEV_STATS, n, 0, frame, 8), 0);
	assert_int_equal(give(fd, GQ_CHARDEV_STATS, n, 16, frame + 16, 8), EINVAL); /* a gap */
	assert_int_equal(give(fd, GQ_CHARDEV_STATS, n + 8, 8, frame + 8, 8), EINVAL);
	for (uint32_t at = 0; at < n; at++) /* from the start again */
		assert_int_equal(give(fd, GQ_CHARDEV_STATS, n, at, frame + at, 1), 0);
	assert_int_equal(read_type(fd, &answered), GQ_MESSAGE_STATS);
	assert_true(answered == 9);
	/* half of one, and then a whole one: that is what counts */
	assert_int_equal(give(fd, GQ_CHARDEV_STATS, n, 0, frame, 8), 0);
	expect_it_serves(fd, 10);
	assert_int_equal(give(fd, GQ_CHARDEV_STATS, n, 8, frame + 8, 8), EINVAL);
	/* no bytes of no frame: the end */
	assert_int_equal(give(fd, GQ_CHARDEV_SEND, 0, 0, NULL, 0), 0);
	assert_int_equal(read(fd, frame, sizeof(frame)), 0);
	assert_int_equal(give(fd, GQ_CHARDEV_STATS, n, 0, frame, n), EPIPE);
	close(fd);
	daemon_tear_down(&d);
}

/* ---- read() and poll() ----------------------------------------------------------------------- */

/* Whatever O_NONBLOCK says: who waits in poll() can be killed, though gpuqd hangs. */
static void a_read_takes_a_frame_and_never_waits(void **state)
{
	uint8_t frame[512], in[4096];
	struct pollfd at = { .events = POLLIN };
	size_t n;
	int fd;

	(void)state;
	begin("");
	at.fd = fd = greeted(0);
	assert_int_equal(read(fd, in, sizeof(in)), -1);
	assert_int_equal(errno, EAGAIN);
	n = question(frame, 5);
	assert_int_equal(give_frame(fd, GQ_CHARDEV_STATS, frame, n), 0);
	assert_int_equal(poll(&at, 1, (int)LONG_MS), 1);
	/* too little room: the frame stays */
	assert_int_equal(read(fd, in, 8), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_true(read(fd, in, sizeof(in)) > GQ_WIRE_HEADER_BYTES);
	assert_int_equal(fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK), 0);
	assert_int_equal(read(fd, in, sizeof(in)), -1);
	assert_int_equal(errno, EAGAIN);
	/* there is no write(), no place, and no other way to open it */
	assert_int_equal(write(fd, frame, n), -1);
	assert_int_equal(lseek(fd, 0, SEEK_END), -1);
	assert_int_equal(open(device, O_RDONLY), -1);
	assert_int_equal(errno, EACCES);
	close(fd);
	daemon_tear_down(&d);
}

static void poll_and_epoll_tell_of_frames(void **state)
{
	struct epoll_event on = { .events = EPOLLIN | EPOLLET }, got;
	const int e = epoll_create1(EPOLL_CLOEXEC);
	struct pollfd at = { .events = POLLIN };
	uint8_t frame[512];
	pid_t pid;
	int fd;

	(void)state;
	begin("");
	at.fd = fd = greeted(O_NONBLOCK);
	assert_int_equal(poll(&at, 1, 0), 0);
	at.events = POLLIN | POLLOUT;
	assert_int_equal(poll(&at, 1, (int)LONG_MS), 1);
	assert_int_equal(at.revents, POLLOUT);
	/* by its other names, too */
	at.events = POLLRDNORM | POLLWRNORM;
	assert_int_equal(poll(&at, 1, (int)LONG_MS), 1);
	assert_int_equal(at.revents, POLLWRNORM);
	assert_int_equal(give_frame(fd, GQ_CHARDEV_STATS, frame, question(frame, 9)), 0);
	at.events = POLLRDNORM;
	assert_int_equal(poll(&at, 1, (int)LONG_MS), 1);
	assert_int_equal(at.revents, POLLRDNORM);
	assert_int_equal(read_type(fd, NULL), GQ_MESSAGE_STATS);
	assert_int_equal(epoll_ctl(e, EPOLL_CTL_ADD, fd, &on), 0);
	/* told at each edge, also while what came before lies there */
	for (uint64_t i = 1; i <= 3; i++) {
		assert_int_equal(give_frame(fd, GQ_CHARDEV_STATS, frame, question(frame, i)), 0);
		assert_int_equal(epoll_wait(e, &got, 1, (int)LONG_MS), 1);
		assert_true((got.events & EPOLLIN) != 0);
	}
	for (uint64_t i = 1, answered; i <= 3; i++) {
		assert_int_equal(read_type(fd, &answered), GQ_MESSAGE_STATS);
		assert_true(answered == i);
	}
	/* two who wait for the same file */
	pid = fork_child();
	if (pid == 0) {
		at.events = POLLIN;
		need(poll(&at, 1, (int)LONG_MS) == 1);
		_exit(0);
	}
	assert_int_equal(give_frame(fd, GQ_CHARDEV_STATS, frame, question(frame, 4)), 0);
	at.events = POLLIN;
	assert_int_equal(poll(&at, 1, (int)LONG_MS), 1);
	expect_success(pid);
	assert_int_equal(read_type(fd, NULL), GQ_MESSAGE_STATS);
	/* the end */
	at.events = POLLRDNORM;
	(void)daemon_end(&d, SIGTERM);
	assert_int_equal(poll(&at, 1, (int)LONG_MS), 1);
	close(fd);
	close(e);
	daemon_start(&d);
	daemon_tear_down(&d);
}

/* ---- copies, users, processes ---------------------------------------------------------------- */

static void a_connection_lasts_as_long_as_a_copy_or_until_it_is_closed(void **state)
{
	struct daemon_held before;
	int fd, copy, go[2];
	BrokerClient *c;
	pid_t pid;

	(void)state;
	begin("");
	before = daemon_held(&d);
	fd = greeted(O_NONBLOCK);
	copy = dup(fd);
	close(fd);
	expect_it_serves(copy, 1);
	/* a child's copy */
	pid = fork_child();
	if (pid == 0) {
		expect_it_serves(copy, 2);
		_exit(0);
	}
	expect_success(pid);
	expect_it_serves(copy, 3);
	close(copy);
	daemon_await_held(&d, &before);
	/* q_broker_close() ends it, whoever has a copy */
	c = client();
	assert_int_equal(pipe(go), 0);
	pid = fork_child();
	if (pid == 0) {
		char byte;

		close(go[1]);
		(void)!read(go[0], &byte, 1);
		_exit(0);
	}
	close(go[0]);
	q_broker_close(c);
	daemon_await_held(&d, &before);
	close(go[1]);
	expect_success(pid);
	daemon_tear_down(&d);
}

static void *open_one(void *arg)
{
	*(int *)arg = open(device, O_RDWR | O_CLOEXEC);
	return NULL;
}

/* What the kernel says is the thread that has opened it: its process counts. */
static void a_killed_process_is_seen_though_a_child_has_a_copy(void **state)
{
	struct daemon_held before;
	int ready[2], status;
	pid_t pid, child = 0;

	(void)state;
	begin("");
	before = daemon_held(&d);
	assert_int_equal(pipe(ready), 0);
	pid = fork_child();
	if (pid == 0) {
		pthread_t thread;
		uint8_t frame[512];
		int fd = -1;

		need(pthread_create(&thread, NULL, open_one, &fd) == 0);
		need(pthread_join(thread, NULL) == 0 && fd >= 0);
		need(give_frame(fd, GQ_CHARDEV_SEND, frame, hello(frame, 1)) == 0);
		need(read_type(fd, NULL) == GQ_MESSAGE_HELLO);
		child = fork();
		if (child == 0)
			for (;;)
				pause();
		need(write(ready[1], &child, sizeof(child)) == (ssize_t)sizeof(child));
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &child, sizeof(child)), sizeof(child));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	daemon_await_held(&d, &before);
	assert_int_equal(kill(child, SIGKILL), 0); /* it was there all the time */
	close(ready[0]);
	close(ready[1]);
	daemon_tear_down(&d);
}

enum { NOBODY_S_UID = 65534 };

static void become_nobody(void)
{
	need(setgroups(0, NULL) == 0 && setgid(NOBODY_S_UID) == 0 && setuid(NOBODY_S_UID) == 0);
}

static void needs_root(void)
{
	if (geteuid() != 0) {
		print_message("left out: only root can be another user\n");
		skip();
	}
}

static void the_mode_says_who_opens_it_and_the_kernel_who_that_is(void **state)
{
	const BrokerConfig cfg = { .endpoint = endpoint, .timeout_ms = LONG_MS };
	BrokerClient *c;
	pid_t pid;

	(void)state;
	needs_root();
	begin("");
	assert_int_equal(chmod(folder, 0755), 0);
	pid = fork_child();
	if (pid == 0) {
		become_nobody();
		need(q_broker_connect(&cfg) == NULL);
		need(strstr(q_last_error(), "Permission denied") != NULL);
		_exit(0);
	}
	expect_success(pid);
	daemon_tear_down(&d);
	begin("socket_mode = 0666\nuid_connections = 1\n");
	c = client();
	assert_null(q_broker_connect(&cfg)); /* root has one */
	assert_non_null(strstr(q_last_error(), "uid_connections"));
	pid = fork_child();
	if (pid == 0) {
		become_nobody();
		need(q_broker_connect(&cfg) != NULL);
		_exit(0);
	}
	expect_success(pid);
	q_broker_close(c);
	daemon_tear_down(&d);
}

/* There the numbers of processes and users are others; the kernel translates them. */
static void a_client_of_other_namespaces_is_served_and_forgotten(void **state)
{
	const BrokerConfig cfg = { .endpoint = endpoint, .timeout_ms = LONG_MS };
	struct daemon_held before;
	int ready[2], status;
	char byte;
	pid_t pid;

	(void)state;
	needs_root();
	begin("socket_mode = 0666\n");
	assert_int_equal(chmod(folder, 0755), 0);
	before = daemon_held(&d);
	assert_int_equal(pipe(ready), 0);
	pid = fork_child();
	if (pid == 0) {
		pid_t inner;

		become_nobody();
		if (unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0)
			_exit(77);
		inner = fork();
		if (inner == 0) { /* process 1 */
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			need(getpid() == 1 && q_broker_connect(&cfg) != NULL);
			need(write(ready[1], "", 1) == 1);
			for (;;)
				pause();
		}
		close(ready[1]);
		waitpid(inner, &status, 0);
		_exit(1);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) == 1) {
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
	} else {
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_int_equal(WEXITSTATUS(status), 77);
		print_message("left out: no namespaces can be had here\n");
	}
	daemon_await_held(&d, &before);
	close(ready[0]);
	daemon_tear_down(&d);
}

/* ---- bounds, and bad times ------------------------------------------------------------------- */

/* Who is refused, or whose connection has ended, holds its file as long as it likes. */
static void who_is_not_let_in_costs_no_descriptor(void **state)
{
	enum { FILES = 40, UNREAD = 16 };
	struct daemon_held before;
	uint8_t frame[512];
	int fds[FILES], good;

	(void)state;
	begin("uid_connections = 2\n");
	before = daemon_held(&d);
	/* ended, with a last word that nobody reads: the latest are kept */
	for (int i = 0; i < FILES; i++) {
		struct pollfd at = { .events = 0 };

		at.fd = fds[i] = open_device(O_NONBLOCK);
		assert_int_equal(give_frame(at.fd, GQ_CHARDEV_SEND, frame, hello(frame, 2)), 0);
		assert_int_equal(poll(&at, 1, (int)LONG_MS), 1);
		assert_true((at.revents & POLLHUP) != 0);
	}
	before.descriptors += UNREAD;
	daemon_await_held(&d, &before);
	before.descriptors -= UNREAD;
	assert_int_equal(read_type(fds[0], NULL), 0);
	assert_int_equal(read_type(fds[FILES - 1], NULL), GQ_MESSAGE_NACK);
	assert_int_equal(read_type(fds[FILES - 1], NULL), 0);
	for (int i = 0; i < FILES; i++)
		close(fds[i]);
	daemon_await_held(&d, &before);
	/* refused: each is told why */
	good = greeted(O_NONBLOCK);
	fds[0] = greeted(O_NONBLOCK);
	before = daemon_held(&d);
	for (int i = 1; i < FILES; i++)
		fds[i] = open_device(O_NONBLOCK);
	for (int i = 1; i < FILES; i++) {
		assert_int_equal(read_type(fds[i], NULL), GQ_MESSAGE_NACK);
		assert_int_equal(read_type(fds[i], NULL), 0);
	}
	daemon_await_held(&d, &before);
	expect_it_serves(good, 3);
	for (int i = 0; i < FILES; i++)
		close(fds[i]);
	close(good);
	daemon_tear_down(&d);
}

/* The call that it is in. */
static long system_call_of(pid_t pid)
{
	char path[40], text[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/syscall", (int)pid);
	f = fopen(path, "re");
	if (f == NULL)
		return -1;
	if (fgets(text, sizeof(text), f) == NULL)
		text[0] = '\0';
	fclose(f);
	return strtol(text, NULL, 10);
}

static void expect_killed(pid_t pid)
{
	int status;

	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
}

static void clients_of_a_gpuqd_that_hangs_can_be_killed(void **state)
{
	int fd, go[2], ready[2];
	pid_t asks, ends, waits;
	char byte;

	(void)state;
	begin("");
	assert_int_equal(pipe(go), 0);
	assert_int_equal(pipe(ready), 0);
	fd = greeted(O_NONBLOCK);
	ends = fork_child();
	if (ends == 0) {
		(void)client();
		need(write(ready[1], "", 1) == 1 && read(go[0], &byte, 1) == 1);
		_exit(0); /* and the kernel closes it */
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	waits = fork_child();
	if (waits == 0) {
		struct pollfd at = { .fd = greeted(0), .events = POLLIN };
		uint8_t in[64];

		need(read(at.fd, in, sizeof(in)) == -1 && errno == EAGAIN);
		(void)ppoll(&at, 1, NULL, NULL);
		_exit(1);
	}
	for (unsigned i = 0; system_call_of(waits) != SYS_ppoll; i++) {
		assert_true(i < LONG_MS);
		nap_ms(1);
	}
	expect_it_serves(fd, 1); /* behind the poll's request */
	daemon_stop(&d);
	assert_int_equal(write(go[1], "", 1), 1);
	expect_success(ends);
	expect_killed(waits);
	asks = fork_child();
	if (asks == 0) {
		uint8_t frame[512];

		(void)give_frame(fd, GQ_CHARDEV_STATS, frame, question(frame, 1));
		_exit(0);
	}
	while (system_call_of(asks) != SYS_ioctl)
		nap_ms(1);
	expect_killed(asks);
	assert_int_equal(kill(d.pid, SIGCONT), 0);
	expect_it_serves(fd, 2);
	close(fd);
	for (int i = 0; i < 2; i++) {
		close(go[i]);
		close(ready[i]);
	}
	daemon_tear_down(&d);
}

static void what_else_is_there_stays_there(void **state)
{
	struct router_config cfg = ROUTER_DEFAULTS;
	char error[ROUTER_ERROR_ROOM] = "", lock[80];
	struct stat st;
	FILE *f;

	(void)state;
	snprintf(cfg.chardev, sizeof(cfg.chardev), "%s", device);
	f = fopen(device, "w");
	assert_non_null(f);
	fputs("somebody's", f);
	fclose(f);
	assert_null(router_start(&cfg, error));
	assert_non_null(strstr(error, "chardev is '"));
	assert_int_equal(stat(device, &st), 0);
	assert_int_equal(st.st_size, 10);
	unlink(device);
	assert_int_equal(mkdir(device, 0700), 0);
	assert_null(router_start(&cfg, error));
	assert_non_null(strstr(error, "chardev is '"));
	assert_int_equal(rmdir(device), 0);
	/* two gpuqd at the same path */
	begin("");
	assert_null(router_start(&cfg, error));
	assert_non_null(strstr(error, "in use by another gpuqd"));
	daemon_tear_down(&d);
	assert_int_equal(stat(device, &st), -1);
	/* and clients of what is no device */
	f = fopen(device, "w");
	assert_non_null(f);
	fclose(f);
	assert_null(q_broker_connect(&(BrokerConfig){ .endpoint = endpoint }));
	assert_non_null(strstr(q_last_error(), "no device of gpuqd"));
	unlink(device);
	assert_null(q_broker_connect(&(BrokerConfig){ .endpoint = endpoint }));
	assert_non_null(strstr(q_last_error(), "is gpuqd running?"));
	snprintf(lock, sizeof(lock), "%s.lock", device);
	unlink(lock);
}

static void an_unmounted_device_ends_its_connections_only(void **state)
{
	const BrokerConfig cfg = { .endpoint = d.broker, .timeout_ms = LONG_MS }; /* an array */
	struct daemon_held before;
	char text[4096];
	size_t n = sizeof(text);
	BrokerClient *c, *other;

	(void)state;
	needs_root();
	begin("");
	other = q_broker_connect(&cfg);
	assert_non_null(other);
	before = daemon_held(&d);
	c = client();
	assert_int_equal(umount2(device, MNT_FORCE), -1); /* busy, but what it carries ends */
	assert_int_equal(q_broker_stats(c, text, &n), Q_ERR_LOST);
	daemon_await_held(&d, &before);
	n = sizeof(text);
	assert_int_equal(q_broker_stats(other, text, &n), Q_OK);
	q_broker_close(c);
	q_broker_close(other);
	umount2(device, MNT_DETACH);
	daemon_tear_down(&d);
	unlink(device);
}

/* Whoever has unmounted it may have mounted something else there. */
static void what_is_mounted_there_by_the_end_stays_mounted(void **state)
{
	struct router_config cfg = ROUTER_DEFAULTS;
	char error[ROUTER_ERROR_ROOM] = "", other[80], text[8] = "";
	struct router *r;
	FILE *f;

	(void)state;
	needs_root();
	snprintf(cfg.chardev, sizeof(cfg.chardev), "%s", device);
	r = router_start(&cfg, error);
	if (r == NULL)
		fail_msg("%s", error);
	assert_int_equal(umount2(device, 0), 0);
	snprintf(other, sizeof(other), "%s/other", folder);
	f = fopen(other, "w");
	assert_non_null(f);
	fputs("other", f);
	fclose(f);
	assert_int_equal(mount(other, device, NULL, MS_BIND, NULL), 0);
	router_stop(r);
	f = fopen(device, "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	assert_string_equal(text, "other");
	assert_int_equal(umount2(device, 0), 0);
	unlink(device);
	unlink(other);
}

/* ---------------------------------------------------------------------------------------------- */

static int set_up(void **state)
{
	(void)state;
	snprintf(folder, sizeof(folder), "/tmp/gpuq-chardev-XXXXXX");
	assert_non_null(mkdtemp(folder));
	snprintf(device, sizeof(device), "%s/dev", folder);
	snprintf(endpoint, sizeof(endpoint), "chardev:%s", device);
	return 0;
}

static int tear_down(void **state)
{
	char lock[80];

	(void)state;
	snprintf(lock, sizeof(lock), "%s.lock", device);
	unlink(lock);
	return rmdir(folder);
}

/* Why this machine can have no device; NULL: it can. With mounts of its own, so that none is left
 * behind, however this ends. */
static const char *objection(void)
{
#ifdef GPUQ_HAVE_FUSE
	if (access("/dev/fuse", R_OK | W_OK) != 0)
		return "/dev/fuse cannot be opened";
	if (geteuid() != 0 && access("/usr/bin/fusermount3", X_OK) != 0)
		return "there is no fusermount3";
	if (geteuid() != 0)
		return access("/etc/mtab", R_OK) == 0 ? NULL : "there is no /etc/mtab";
	return unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0
		       ? NULL
		       : "root may not mount here";
#else
	return "gpuqd was built without libfuse3";
#endif
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(t_5_numbers_and_layouts),
		cmocka_unit_test(what_is_no_piece_is_refused),
		cmocka_unit_test(a_frame_may_come_in_pieces),
		cmocka_unit_test(a_read_takes_a_frame_and_never_waits),
		cmocka_unit_test(poll_and_epoll_tell_of_frames),
		cmocka_unit_test(a_connection_lasts_as_long_as_a_copy_or_until_it_is_closed),
		cmocka_unit_test(a_killed_process_is_seen_though_a_child_has_a_copy),
		cmocka_unit_test(the_mode_says_who_opens_it_and_the_kernel_who_that_is),
		cmocka_unit_test(a_client_of_other_namespaces_is_served_and_forgotten),
		cmocka_unit_test(who_is_not_let_in_costs_no_descriptor),
		cmocka_unit_test(clients_of_a_gpuqd_that_hangs_can_be_killed),
		cmocka_unit_test(what_else_is_there_stays_there),
		cmocka_unit_test(an_unmounted_device_ends_its_connections_only),
		cmocka_unit_test(what_is_mounted_there_by_the_end_stays_mounted),
	};
	const char *why = objection();

	if (why != NULL) {
		fprintf(stderr, "left out, all of it: %s\n", why);
		return 77;
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	unsetenv("GPUQ_TOKEN");
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
