/* SPDX-License-Identifier: Apache-2.0 */
/* link.c - sending and receiving the messages of link.h, and what goes along as files. */
#include "link.h"

#include "host/base/sys.h"

#include "broker/page/page.h"
#include "memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* ---- messages -------------------------------------------------------------------------------- */

bool link_send(int socket, const struct link_message *m, const int *fds, uint32_t n, int flags)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(LINK_DESCRIPTORS * sizeof(int))] = { 0 };
	const bool texts = m->kind != LINK_CLIENT;
	struct iovec io = { .iov_base = (void *)m, /* it is only read */
			    .iov_len = texts ? offsetof(struct link_message, text) +
						       strlen(m->text) + 1
					     : sizeof(*m) };
	struct msghdr message = { .msg_iov = &io, .msg_iovlen = 1 };
	ssize_t sent;

	if (n != 0) {
		struct cmsghdr *c;

		message.msg_control = control;
		message.msg_controllen = CMSG_SPACE(n * sizeof(int));
		c = CMSG_FIRSTHDR(&message);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	}
	do
		sent = sendmsg(socket, &message, flags | MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent == (ssize_t)io.iov_len;
}

bool link_say(int socket, enum link_kind kind, const char *text, int flags)
{
	struct link_message m = { .kind = kind };

	snprintf(m.text, sizeof(m.text), "%s", text != NULL ? text : "");
	return link_send(socket, &m, NULL, 0, flags);
}

/* Alignment leaves room for one more than LINK_DESCRIPTORS: what nobody has asked for is closed. */
static void take_descriptors(struct msghdr *message, int fds[LINK_DESCRIPTORS])
{
	uint32_t taken = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
		const size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (taken < LINK_DESCRIPTORS)
				fds[taken++] = fd;
			else
				gq_sys_close(fd);
		}
	}
}

bool link_receive(int socket, struct link_message *m, int *fds, int flags)
{
	_Alignas(struct cmsghdr) char control[CMSG_SPACE(LINK_DESCRIPTORS * sizeof(int))];
	struct iovec io = { .iov_base = m, .iov_len = sizeof(*m) };
	struct msghdr message = { .msg_iov = &io,
				  .msg_iovlen = 1,
				  .msg_control = fds != NULL ? control : NULL,
				  .msg_controllen = fds != NULL ? sizeof(control) : 0 };
	ssize_t n;

	memset(m, 0, sizeof(*m));
	for (uint32_t i = 0; fds != NULL && i < LINK_DESCRIPTORS; i++)
		fds[i] = -1;
	/* ECONNRESET comes once, if the other side has ended with something unread, and before what
	 * it had said: that still lies there. */
	do
		n = recvmsg(socket, &message, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n == 0)
		errno = 0;
	if (n <= 0)
		return false;
	if (fds != NULL)
		take_descriptors(&message, fds);
	/* A process runs strangers' messages: what it says is read with care. */
	if (m->kind != LINK_CLIENT)
		m->text[sizeof(m->text) - 1] = '\0';
	return true;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int make_file(const char *name, const void *from, size_t bytes)
{
	const int fd = gq_memfd(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -1;
	/* All pages are there, and stay: neither a want of memory nor a process that cuts the file
	 * ends whoever has it mapped. */
	if ((errno = posix_fallocate(fd, 0, (off_t)bytes)) == 0 &&
	    (from == NULL || pwrite(fd, from, bytes, 0) == (ssize_t)bytes) &&
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
		return fd;
	gq_sys_close(fd);
	return -1;
}

int link_pack(const struct broker_config *cfg)
{
	struct broker_config *some = calloc(1, sizeof(*some));
	int fd;

	if (some == NULL)
		return -1;
	/* What a process uses, and no more: it runs strangers' messages, and the configuration of
	 * services has the keys of tokens. */
	some->drain_ms = cfg->drain_ms;
	memcpy(some->child_user, cfg->child_user, sizeof(some->child_user));
	some->queues = cfg->queues;
	memcpy(some->queue, cfg->queue, sizeof(some->queue));
	fd = make_file("gpuqd-config", some, sizeof(*some));
	free(some);
	return fd;
}

bool link_unpack(int fd, struct broker_config *cfg)
{
	const ssize_t n = pread(fd, cfg, sizeof(*cfg), 0);

	gq_sys_close(fd);
	if (n != (ssize_t)sizeof(*cfg)) {
		errno = n < 0 ? errno : EPROTO;
		return false;
	}
	/* gpuqd has looked at the quotas, of which it alone has the sums. */
	cfg->uid_connections = UINT32_MAX;
	cfg->uid_bytes = cfg->uid_slots = UINT64_MAX;
	return true;
}

enum { LEDGER_BYTES = BROKER_MOST_QUEUES * sizeof(struct page_queue) };

int link_make_ledger(void)
{
	return make_file("gpuqd-ledger", NULL, LEDGER_BYTES);
}

struct page_queue *link_map_ledger(int fd)
{
	struct page_queue *at;
	struct stat st;

	errno = EPROTO;
	if (fstat(fd, &st) != 0 || st.st_size != LEDGER_BYTES)
		return NULL;
	at = mmap(NULL, LEDGER_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return at != MAP_FAILED ? at : NULL;
}

void link_unmap_ledger(struct page_queue *ledger)
{
	if (ledger != NULL)
		munmap(ledger, LEDGER_BYTES);
}
