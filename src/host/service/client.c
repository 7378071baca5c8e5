/* SPDX-License-Identifier: Apache-2.0 */
/* client.c - a connection to gpuqd's services: its beginning, frames out and in, its end. */
#include "transport.h"

#include "host/base/clock.h"
#include "host/base/error.h"
#include "host/base/hex.h"
#include "host/base/sys.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { HEALTHY = 0, UNHEALTHY = 2 }; /* enum gq_service_health, as it is on the wire */
enum { DEFAULT_TIMEOUT_MS = 5000, WINDOW_MAX = 1024, WAITING_MAX = 256 };
#define AGAIN_NS UINT64_C(2000000)

QueueStatus gq__broker_lose(BrokerClient *c, const char *why)
{
	c->lost = true;
	return gq__failf(Q_ERR_LOST, "gpuqd's services: %s", why);
}

QueueStatus gq__broker_enter_to_watch(const BrokerClient *c)
{
	if (c == NULL)
		return gq__fail(Q_ERR_INVALID_ARG, "the client is NULL");
	if (c->pid != getpid())
		return gq__fail(Q_ERR_UNSUPPORTED, "the client belongs to another process");
	if (c->lost)
		return gq__fail(Q_ERR_LOST, "gpuqd has gone: connect again");
	return Q_OK;
}

QueueStatus gq__broker_enter(const BrokerClient *c)
{
	GQ_RETURN_IF_REFUSED(gq__broker_enter_to_watch(c));
	if (c->watching)
		return gq__fail(Q_ERR_POLICY, "a connection that watches does nothing else");
	return Q_OK;
}

QueueStatus gq__broker_status(uint32_t reason)
{
	static const QueueStatus statuses[GQ_WIRE_STATUS_END] = {
		[GQ_WIRE_SUCCESS] = Q_OK,
		[GQ_WIRE_ERROR] = Q_ERR_FAILED,
		[GQ_WIRE_TIMEOUT] = Q_ERR_EXPIRED,
		[GQ_WIRE_OVERLOADED] = Q_ERR_FULL,
		[GQ_WIRE_INVALID] = Q_ERR_INVALID_ARG,
		[GQ_WIRE_NOT_FOUND] = Q_ERR_NOT_FOUND,
		[GQ_WIRE_INTERNAL] = Q_ERR_FAILED,
		[GQ_WIRE_CANCELLED] = Q_ERR_CANCELLED,
		[GQ_WIRE_RATE_LIMITED] = Q_ERR_LIMIT,
		[GQ_WIRE_UNAUTHENTICATED] = Q_ERR_POLICY,
		[GQ_WIRE_DENIED] = Q_ERR_POLICY,
		[GQ_WIRE_LOST] = Q_ERR_LOST,
		[GQ_WIRE_SHUTTING_DOWN] = Q_ERR_SHUTDOWN,
		[GQ_WIRE_CHECKSUM] = Q_ERR_FAILED,
		[GQ_WIRE_UNSUPPORTED] = Q_ERR_UNSUPPORTED,
		[GQ_WIRE_BREAKER_OPEN] = Q_ERR_NOT_READY,
		[GQ_WIRE_FD_EXHAUSTED] = Q_ERR_LIMIT,
		[GQ_WIRE_REGION_REVOKED] = Q_ERR_STALE,
	};

	return reason < GQ_WIRE_STATUS_END ? statuses[reason] : Q_ERR_FAILED;
}

bool gq__broker_name(struct gq_frame *f, enum gq_tlv_type type, const char *what, const char *name)
{
	const size_t n = name != NULL ? strlen(name) : 0;

	if (!gq__name_valid(name, n)) {
		gq__failf(Q_ERR_INVALID_ARG, "%s is '%.80s'; allowed: 1 to 64 of A-Z a-z 0-9 . _ -",
			  what, name != NULL ? name : "");
		return false;
	}
	gq__frame_set(f, type, false, name, n);
	return true;
}

/* ---- frames in ------------------------------------------------------------------------------- */

static void put(struct heard_list *list, struct heard *h)
{
	h->next = NULL;
	*list->end = h;
	list->end = &h->next;
}

struct heard *gq__broker_take(struct heard_list *list, uint64_t correlation)
{
	for (struct heard **at = &list->first; *at != NULL; at = &(*at)->next) {
		struct heard *h = *at;

		if (correlation != 0 && h->frame.correlation != correlation)
			continue;
		*at = h->next;
		if (list->end == &h->next)
			list->end = at;
		return h;
	}
	return NULL;
}

void gq__broker_free(struct heard *h)
{
	if (h == NULL)
		return;
	if (h->fd >= 0)
		gq_sys_close(h->fd);
	if (h->map != NULL)
		munmap(h->map, h->mapped);
	free(h);
}

void gq__broker_drop_region(struct own_region **at)
{
	struct own_region *g = *at;

	*at = g->next;
	if (g->memory != MAP_FAILED)
		munmap(g->memory, g->bytes);
	if (g->fd >= 0)
		gq_sys_close(g->fd);
	free(g);
}

static void drop_all(struct heard_list *list)
{
	struct heard *h;

	while ((h = gq__broker_take(list, 0)) != NULL)
		gq__broker_free(h);
}

/* One of many answers, as one that came by itself. */
static struct heard *part_of(const struct gq_frame *f, uint32_t i)
{
	const struct gq_item item = gq__frame_item(f, i);
	const uint32_t words[4] = { item.status, GQ_RETRY_NEVER, 0, 1 };
	struct heard *h = malloc(sizeof(*h) + sizeof(words) + item.bytes);

	if (h == NULL)
		return NULL;
	*h = (struct heard){ .fd = -1 };
	h->frame = (struct gq_frame){ .type = GQ_MESSAGE_RESPONSE,
				      .flags = f->flags,
				      .correlation = f->correlation + i };
	memcpy(h->bytes, words, sizeof(words));
	memcpy(h->bytes + sizeof(words), f->tlv[GQ_TLV_PAYLOAD].data + item.offset, item.bytes);
	gq__frame_set(&h->frame, GQ_TLV_STATUS, false, h->bytes, sizeof(words));
	gq__frame_set(&h->frame, GQ_TLV_PAYLOAD, false, h->bytes + sizeof(words), item.bytes);
	return h;
}

static bool take_apart(BrokerClient *c, const struct gq_frame *f)
{
	for (uint32_t i = 0; i < gq__frame_items(f); i++) {
		struct heard *part = part_of(f, i);

		if (part == NULL) {
			gq__broker_lose(c, "out of memory");
			return false;
		}
		put(&c->answers, part);
	}
	return true;
}

/* A region that nobody waits for any more is there after all, or is not. */
static void note_late_region(BrokerClient *c, const struct gq_frame *f)
{
	for (struct own_region **at = &c->late; *at != NULL; at = &(*at)->next) {
		if ((*at)->asks != f->correlation)
			continue;
		(*at)->id = gq__frame_u64(f, GQ_TLV_REGION, 0);
		if (f->type != GQ_MESSAGE_ACK)
			gq__broker_drop_region(at);
		return;
	}
}

static bool is_refusal(const struct gq_frame *f)
{
	const uint32_t status = gq__frame_u32(f, GQ_TLV_STATUS, 0);

	return f->type == GQ_MESSAGE_NACK &&
	       (status == GQ_WIRE_NOT_FOUND || status == GQ_WIRE_UNAUTHENTICATED);
}

/* An answer to what was asked: kept, if somebody waits for it. A heartbeat that was not taken says
 * that the service is somebody else's now, or that the token is not good. */
static void take_answer(BrokerClient *c, struct heard *h)
{
	const struct gq_frame *f = &h->frame;

	if (f->correlation == c->asked || f->correlation <= GQ_OWN_CORRELATION) {
		put(&c->others, h);
		return;
	}
	c->stale = c->stale || (f->correlation == c->beaten && is_refusal(f));
	note_late_region(c, f);
	gq__broker_free(h);
}

/* gpuqd sends the requests of a batch one behind the other. One that is cancelled leaves the list
 * of those that have come, so what counts is that the last has come. */
static void note_batch(BrokerClient *c, struct heard *h)
{
	const bool alone = !gq_frame_has(&h->frame, GQ_TLV_BATCH);
	const uint32_t place = alone ? 0 : gq__frame_u32(&h->frame, GQ_TLV_BATCH, 0);
	const uint32_t count = alone ? 1 : gq__frame_u32(&h->frame, GQ_TLV_BATCH, 1);

	if (place == 0)
		c->whole = c->batches++; /* whatever was before it */
	h->batch = c->batches;
	if (place == count - 1)
		c->whole = c->batches;
}

/* @param fd  its own from now on; -1: none. @return false: lost, or out of memory */
static bool sort(BrokerClient *c, size_t n, int fd)
{
	struct heard *h = malloc(sizeof(*h) + n);

	if (h == NULL) {
		if (fd >= 0)
			gq_sys_close(fd);
		gq__broker_lose(c, "out of memory");
		return false;
	}
	*h = (struct heard){ .fd = fd, .why = GQ_WIRE_CANCELLED };
	memcpy(h->bytes, c->in, n);
	if (gq__frame_decode(h->bytes, n, &c->rules, &h->frame) != GQ_FRAME_OK) {
		gq__broker_free(h);
		gq__broker_lose(c, "what came is no frame of the protocol");
		return false;
	}
	switch (h->frame.type) {
	case GQ_MESSAGE_RESPONSE:
		put(&c->answers, h);
		return true;
	case GQ_MESSAGE_BATCH_RESPONSE: {
		const bool taken = take_apart(c, &h->frame);

		gq__broker_free(h);
		return taken;
	}
	case GQ_MESSAGE_REQUEST:
		note_batch(c, h);
		put(&c->requests, h);
		return true;
	case GQ_MESSAGE_CANCEL: {
		/* One that nobody has taken yet. It is answered later: a frame may be half sent. */
		struct heard *unwanted =
			gq__broker_take(&c->requests, gq__frame_u64(&h->frame, GQ_TLV_TARGET, 0));

		gq__broker_free(h);
		if (unwanted != NULL)
			put(&c->dropped, unwanted);
		return true;
	}
	case GQ_MESSAGE_ACK:
	case GQ_MESSAGE_NACK:
	case GQ_MESSAGE_ERROR:
		take_answer(c, h);
		return true;
	case GQ_MESSAGE_HEALTH_CHECK:
		put(&c->checks, h);
		return true;
	default:
		put(&c->others, h);
		return true;
	}
}

/* One frame, if there is one. @return Q_OK; Q_ERR_EMPTY; Q_ERR_LOST */
static QueueStatus hear_one(BrokerClient *c)
{
	int fd = -1;
	long n;

	do
		n = c->transport->receive(c, c->in, sizeof(c->in), &fd);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return Q_ERR_EMPTY;
	if (n <= 0)
		return gq__broker_lose(c, "gpuqd has ended, or has closed the connection");
	return sort(c, (size_t)n, fd) ? Q_OK : Q_ERR_LOST;
}

/* Where nobody tells of room, also after a while. @return poll()'s, but for signals */
static int wait_for(const BrokerClient *c, short events, uint64_t deadline_ns)
{
	const bool tries = (events & POLLOUT) != 0 && !c->transport->tells_room;
	struct pollfd at = { .fd = q_broker_fd(c), .events = (short)(tries ? POLLIN : events) };
	long rc;

	if (tries && deadline_ns > gq__now_ns() + AGAIN_NS)
		deadline_ns = gq__now_ns() + AGAIN_NS;
	do {
		const uint64_t now_ns = gq__now_ns();
		const uint64_t left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
		const struct timespec left = { (time_t)(left_ns / 1000000000),
					       (long)(left_ns % 1000000000) };

		rc = syscall(SYS_ppoll, &at, 1, deadline_ns == GQ_FOR_EVER ? NULL : &left, NULL, 0);
	} while (rc < 0 && errno == EINTR);
	return (int)rc;
}

/* ---- frames out ------------------------------------------------------------------------------ */

/* Nothing that it calls may send: the frame lies in c->out until the socket has taken it. */
static QueueStatus send_one(BrokerClient *c, const struct gq_frame *f)
{
	const uint64_t deadline_ns = gq__deadline_ns(c->timeout_ms);
	size_t bytes = 0;
	const enum gq_frame_status status = gq__frame_encode(f, c->out, sizeof(c->out), &bytes);
	long n;

	if (status != GQ_FRAME_OK)
		return gq__failf(Q_ERR_INVALID_ARG, "it cannot be sent: %s",
				 gq__frame_status_text(status));
	for (;;) {
		n = c->transport->send(c, c->out, bytes);
		if (n == (long)bytes)
			return Q_OK;
		if (errno == EMSGSIZE)
			return gq__failf(Q_ERR_LIMIT,
					 "the kernel passes no message of %zu bytes: "
					 "net.core.wmem_default is too low",
					 bytes);
		if (errno != EAGAIN && errno != EINTR && errno != ENOBUFS && errno != ENOMEM) {
			while (hear_one(c) == Q_OK) /* why it has closed it, perhaps */
				;
			return gq__broker_lose(c, "gpuqd has ended, or has closed the connection");
		}
		if (hear_one(c) == Q_ERR_LOST)
			return Q_ERR_LOST;
		if (gq__now_ns() >= deadline_ns)
			return gq__failf(Q_ERR_TIMEOUT, "gpuqd took nothing for %u ms",
					 c->timeout_ms);
		(void)wait_for(c, POLLIN | POLLOUT, deadline_ns);
	}
}

/* Requests that nobody takes. What gpuqd does not take now stays for the next. */
static QueueStatus answer_dropped(BrokerClient *c)
{
	QueueStatus status = Q_OK;

	while (status == Q_OK && c->dropped.first != NULL) {
		const uint32_t words[4] = { c->dropped.first->why, 0, 0, 0 };
		struct gq_frame f = { .type = GQ_MESSAGE_RESPONSE,
				      .flags = GQ_FLAG_CHECKSUM,
				      .correlation = c->dropped.first->frame.correlation };

		gq__frame_set(&f, GQ_TLV_STATUS, false, words, sizeof(words));
		status = send_one(c, &f); /* it may hear of more: they are put at the end */
		if (status == Q_OK)
			gq__broker_free(gq__broker_take(&c->dropped, f.correlation));
	}
	return status;
}

static QueueStatus answer_checks(BrokerClient *c)
{
	const uint32_t health[2] = { 0, c->ill ? UNHEALTHY : HEALTHY };
	QueueStatus status = Q_OK;

	while (status == Q_OK && c->checks.first != NULL) {
		struct gq_frame f = { .type = GQ_MESSAGE_HEALTH_RESPONSE,
				      .flags = GQ_FLAG_CHECKSUM,
				      .correlation = c->checks.first->frame.correlation };

		gq__frame_set(&f, GQ_TLV_HEALTH, false, health, sizeof(health));
		status = send_one(c, &f); /* as above */
		if (status == Q_OK)
			gq__broker_free(gq__broker_take(&c->checks, f.correlation));
	}
	return status;
}

/* Regions that have come too late. */
static QueueStatus end_late_regions(BrokerClient *c)
{
	const uint32_t action = 2;
	struct own_region **at = &c->late;
	QueueStatus status = Q_OK;

	while (status == Q_OK && *at != NULL) {
		const uint64_t where[3] = { (*at)->id };
		struct gq_frame f = { .type = GQ_MESSAGE_REGION, .flags = GQ_FLAG_CHECKSUM };

		if (where[0] == 0) { /* it may come yet */
			at = &(*at)->next;
			continue;
		}
		gq__broker_drop_region(at); /* first: what is sent may hear of more, at the front */
		gq__frame_set(&f, GQ_TLV_ACTION, false, &action, sizeof(action));
		gq__frame_set(&f, GQ_TLV_REGION, false, where, sizeof(where));
		f.correlation = ++c->last;
		status = send_one(c, &f);
		at = &c->late;
	}
	return status;
}

/* What gpuqd waits for besides what it is sent. */
static QueueStatus answer_all(BrokerClient *c)
{
	QueueStatus status = answer_dropped(c);

	if (status == Q_OK)
		status = answer_checks(c);
	return status == Q_OK ? end_late_regions(c) : status;
}

void gq__broker_refuse(BrokerClient *c, struct heard *h, uint32_t why)
{
	h->why = why;
	put(&c->dropped, h);
	(void)answer_dropped(c);
}

QueueStatus gq__broker_send(BrokerClient *c, const struct gq_frame *f)
{
	const QueueStatus status = send_one(c, f);

	/* Whether the others go says nothing of this one. */
	if (status == Q_OK)
		(void)answer_all(c);
	return status;
}

QueueStatus gq__broker_hear(BrokerClient *c, uint64_t deadline_ns)
{
	QueueStatus status = hear_one(c);

	/* What has come may be nothing for us. */
	while (status == Q_ERR_EMPTY && wait_for(c, POLLIN, deadline_ns) > 0)
		status = hear_one(c);
	if (status == Q_OK && answer_all(c) == Q_ERR_LOST)
		status = Q_ERR_LOST;
	return status == Q_ERR_EMPTY ? Q_ERR_TIMEOUT : status;
}

QueueStatus gq__broker_hear_all(BrokerClient *c)
{
	QueueStatus status = Q_OK;

	for (uint32_t i = 0; i < WAITING_MAX && status == Q_OK; i++)
		status = hear_one(c);
	if (status == Q_ERR_LOST || answer_all(c) == Q_ERR_LOST)
		return Q_ERR_LOST;
	return Q_OK;
}

/* An answer other than the one that was asked for. */
static QueueStatus refused(const struct gq_frame *f)
{
	const struct gq_view *text = &f->tlv[GQ_TLV_TEXT];
	const QueueStatus status = gq__broker_status(gq__frame_u32(f, GQ_TLV_STATUS, 0));
	const bool says = gq_frame_has(f, GQ_TLV_TEXT);

	return gq__failf(status == Q_OK ? Q_ERR_FAILED : status, "gpuqd refuses: %.*s",
			 says ? (int)text->bytes : 0, says ? (const char *)text->data : "");
}

QueueStatus gq__broker_ask(BrokerClient *c, struct gq_frame *f, struct heard **out)
{
	const uint64_t deadline_ns = gq__deadline_ns(c->timeout_ms);
	QueueStatus status;

	f->correlation = c->asked = ++c->last;
	f->flags |= GQ_FLAG_CHECKSUM;
	*out = NULL;
	status = gq__broker_send(c, f);
	while (status == Q_OK) {
		*out = gq__broker_take(&c->others, f->correlation);
		if (*out != NULL)
			break;
		status = gq__broker_hear(c, deadline_ns);
	}
	c->asked = 0;
	if (status == Q_ERR_TIMEOUT)
		return gq__failf(Q_ERR_TIMEOUT, "gpuqd did not answer within %u ms", c->timeout_ms);
	if (status != Q_OK)
		return status;
	return (*out)->frame.type == GQ_MESSAGE_NACK || (*out)->frame.type == GQ_MESSAGE_ERROR
		       ? refused(&(*out)->frame)
		       : Q_OK;
}

/* ---- beginning and end ----------------------------------------------------------------------- */

/* Why the door was not opened. */
static void read_away(BrokerClient *c)
{
	struct gq_frame f;

	if (gq__frame_decode(c->in, c->away, &c->rules, &f) == GQ_FRAME_OK &&
	    f.type == GQ_MESSAGE_NACK)
		(void)refused(&f);
}

static bool open_endpoint(BrokerClient *c, const char *endpoint)
{
	static const struct gq_client_transport *const all[] = {
		&gq__client_unix,
		&gq__client_handed,
		&gq__client_netlink,
		&gq__client_chardev,
	};

	for (size_t i = 0; endpoint != NULL && i < sizeof(all) / sizeof(all[0]); i++) {
		const size_t n = strlen(all[i]->prefix);

		if (strncmp(endpoint, all[i]->prefix, n) != 0)
			continue;
		c->transport = all[i];
		c->rules.need_checksum = all[i]->needs_checksum;
		if (c->transport->open(c, endpoint + n))
			return true;
		if (c->away != 0)
			read_away(c);
		return false;
	}
	if (endpoint == NULL)
		gq__fail(Q_ERR_INVALID_ARG,
			 "endpoint is NULL, and GPUQ_BROKER is not set; allowed: unix:PATH, "
			 "netlink:PORT, chardev:PATH, fd:NUMBER, in one of them");
	else
		gq__failf(Q_ERR_INVALID_ARG,
			  "endpoint is '%.200s'; allowed: unix:PATH, netlink:PORT, chardev:PATH, "
			  "fd:NUMBER, here or in GPUQ_BROKER",
			  endpoint);
	return false;
}

/* @return its bytes, in c->in, which nothing has come into yet; 0: it is none */
static size_t read_token(BrokerClient *c, const char *text)
{
	const size_t n = gq_hex_decode(text, c->in, GQ_TOKEN_BYTES);

	if (n == 0)
		gq__failf(Q_ERR_INVALID_ARG,
			  "token has %zu characters; allowed: an even number of hexadecimal "
			  "digits, 2 to %d, here or in GPUQ_TOKEN",
			  strlen(text), 2 * GQ_TOKEN_BYTES);
	return n;
}

static bool greet(BrokerClient *c, const char *name, const char *token)
{
	const uint32_t versions[2] = { GQ_WIRE_VERSION, GQ_WIRE_VERSION };
	const uint64_t features = GQ_FEATURE_REGIONS | GQ_FEATURE_CHECKS;
	struct gq_frame f = { .type = GQ_MESSAGE_HELLO };
	QueueStatus status;
	struct heard *h;
	uint64_t window;

	gq__frame_set(&f, GQ_TLV_VERSIONS, false, versions, sizeof(versions));
	gq__frame_set(&f, GQ_TLV_FEATURES, false, &features, sizeof(features));
	if (name != NULL && !gq__broker_name(&f, GQ_TLV_CLIENT, "name", name))
		return false;
	if (token != NULL) {
		const size_t n = read_token(c, token);

		if (n == 0)
			return false;
		gq__frame_set(&f, GQ_TLV_TOKEN, false, c->in, n);
	}
	status = gq__broker_ask(c, &f, &h);
	if (status != Q_OK) {
		if (h == NULL && (h = gq__broker_take(&c->others, 0)) != NULL)
			(void)refused(&h->frame); /* before the hello it names no correlation */
		else if (status == Q_ERR_LOST)
			gq__failf(Q_ERR_LOST,
				  "gpuqd's services: the connection was closed before "
				  "an answer came: is it the socket of gpuqd's queues?");
		gq__broker_free(h);
		return false;
	}
	window = gq__frame_u64(&h->frame, GQ_TLV_CREDITS, 0);
	c->window = window == 0 || window > WINDOW_MAX ? WINDOW_MAX : (uint32_t)window;
	gq__broker_free(h);
	c->rules.state = GQ_FRAME_AFTER_HELLO;
	c->open = calloc(c->window, sizeof(*c->open));
	if (c->open == NULL)
		gq__fail(Q_ERR_NO_MEMORY, "out of memory");
	return c->open != NULL;
}

BrokerClient *gq__broker_open(const char *endpoint, uint32_t timeout_ms)
{
	BrokerClient *c = calloc(1, sizeof(*c));

	if (c == NULL) {
		gq__fail(Q_ERR_NO_MEMORY, "out of memory");
		return NULL;
	}
	c->pid = getpid();
	c->last = GQ_OWN_CORRELATION;
	c->socket = c->events = c->timer = c->probe = -1;
	c->timeout_ms = timeout_ms;
	c->answers.end = &c->answers.first;
	c->requests.end = &c->requests.first;
	c->others.end = &c->others.first;
	c->dropped.end = &c->dropped.first;
	c->checks.end = &c->checks.first;
	c->rules = (struct gq_frame_rules){ .receiver = GQ_FRAME_AT_PEER,
					    .state = GQ_FRAME_BEFORE_HELLO };
	if (open_endpoint(c, endpoint))
		return c;
	q_broker_close(c);
	return NULL;
}

static QueueStatus check_config(const BrokerConfig *cfg)
{
	if (cfg->reserved32 != 0)
		return gq__failf(Q_ERR_INVALID_ARG, "reserved32 is %u; allowed: 0",
				 cfg->reserved32);
	return GQ_CHECK_RESERVED(cfg, reserved);
}

/* What the configuration says, or the environment, where empty means unset; NULL: neither. */
static const char *said(const char *field, const char *variable)
{
	const char *text = field != NULL ? field : getenv(variable);

	return field == NULL && text != NULL && text[0] == '\0' ? NULL : text;
}

BrokerClient *q_broker_connect(const BrokerConfig *cfg)
{
	GQ_NO_CANCEL();
	const BrokerConfig none = { 0 };
	BrokerClient *c;

	cfg = cfg != NULL ? cfg : &none;
	if (check_config(cfg) != Q_OK)
		return NULL;
	c = gq__broker_open(said(cfg->endpoint, "GPUQ_BROKER"),
			    cfg->timeout_ms != 0 ? cfg->timeout_ms : DEFAULT_TIMEOUT_MS);
	if (c == NULL)
		return NULL;
	if (greet(c, cfg->name, said(cfg->token, "GPUQ_TOKEN")))
		return c;
	q_broker_close(c);
	return NULL;
}

static void close_all(BrokerClient *c)
{
	const int fds[] = { c->socket, c->events, c->timer, c->probe };

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			gq_sys_close(fds[i]);
}

void q_broker_close(BrokerClient *c)
{
	GQ_NO_CANCEL();
	if (c == NULL)
		return;
	drop_all(&c->answers);
	drop_all(&c->requests);
	drop_all(&c->others);
	drop_all(&c->dropped);
	drop_all(&c->checks);
	while (c->handed != NULL) {
		struct heard *h = c->handed;

		c->handed = h->next;
		gq__broker_free(h);
	}
	while (c->regions != NULL) {
		/* In a child there is no mapping of one that is not sealed, and perhaps another. */
		if (c->pid != getpid() && !c->regions->readable_only)
			c->regions->memory = MAP_FAILED;
		gq__broker_drop_region(&c->regions);
	}
	while (c->late != NULL)
		gq__broker_drop_region(&c->late);
	if (c->socket >= 0 && c->pid == getpid())
		c->transport->end(c);
	close_all(c);
	free(c->open);
	free(c->snapshot);
	free(c);
}

int q_broker_fd(const BrokerClient *c)
{
	if (c == NULL)
		return -1;
	return c->events >= 0 ? c->events : c->socket;
}
