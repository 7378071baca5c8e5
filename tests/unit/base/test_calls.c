/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_calls.c - what holds for every public call: it is no cancellation point, and when it
 * succeeds it leaves the last error alone; and what the library does to signals.
 */
#include "host/base/sanitize.h"
#include "host/base/sys.h"
#include "host/notify/state.h"
#include "services.h"
#include "support.h"

#include <errno.h>
#include <fcntl.h>
#include <gpuq/broker.h>
#include <gpuq/notify.h>
#include <gpuq/pipe.h>
#include <gpuq/ring.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the public calls, in groups --------------------------------------------------------------
 */

/* What a group works on, and what went wrong there first: threads do not assert. */
struct world {
	GpuQueue *q;
	RingQueue *r;
	RegionTable *t;
	const char *file; /* to write a trace to */
	int wrong;        /* a line of this file; 0: nothing */
	bool ended;
};

#define must(condition)                                                                            \
	do {                                                                                       \
		if (!(condition) && w->wrong == 0)                                                 \
			w->wrong = __LINE__;                                                       \
	} while (0)

/* All of these calls succeed. */

static void load_nothing(void *user)
{
	*(bool *)user = true;
}

static void a_queues_life(struct world *w)
{
	bool loaded = false;
	QueueConfig cfg = config(4, 64);
	TraceSummary summary;
	QueueStats stats;
	QueueInfo info;
	GpuQueue *q;

	if (cfg.device == Q_DEVICE_CPU)
		cfg.device = Q_DEVICE_AUTO; /* which tries CUDA first, in vain */
	cfg.flags = Q_TRACE;
	q = q_init(&cfg);
	must(q != NULL);
	if (q == NULL)
		return;
	must(q_enqueue(q, "x", 1, NULL, 0) == Q_OK);
	must(q_drain(q, LONG_MS) == Q_OK);
	must(q_pause(q, LONG_MS) == Q_OK);
	must(q_resume(q) == Q_OK);
	must(q_preload(q, load_nothing, &loaded) == Q_OK && loaded);
	must(q_info(q, &info) == Q_OK);
	must(q_stats(q, &stats) == Q_OK);
	must(q_trace_summary(q, &summary) == Q_OK);
	must(q_trace_write(q, w->file) == Q_OK);
	must(q_completion_fd(q) >= 0);
	must(q_completion_fd(q) >= 0);
	must(q_stop(q, LONG_MS) == Q_OK);
	q_shutdown(q);
	q_shutdown(NULL);
}

static void enqueueing(struct world *w)
{
	const EnqueueItem items[2] = { { "a", 1 }, { "b", 1 } };
	const EnqueueOptions discard = { .flags = Q_ENQUEUE_DISCARD };
	const EnqueueOptions urgent = { .priority = Q_PRIORITY_URGENT };
	uint64_t id[2];
	size_t n;
	void *payload;

	must(q_enqueue(w->q, "x", 1, &id[0], LONG_MS) == Q_OK);
	must(q_wait_enqueue(w->q, id[0], LONG_MS) == Q_OK);
	must(q_cancel(w->q, id[0]) == Q_OK);
	must(q_wait(w->q, id[0], LONG_MS) == Q_OK);
	must(q_release(w->q, id[0]) == Q_OK);
	must(q_enqueue_async(w->q, "x", 1, &id[0]) == Q_OK);
	must(q_wait(w->q, id[0], LONG_MS) == Q_OK);
	must(q_release(w->q, id[0]) == Q_OK);
	must(q_enqueue_ex(w->q, "x", 1, &discard, NULL, LONG_MS) == Q_OK);
	must(q_drain(w->q, LONG_MS) == Q_OK);
	must(q_enqueue_batch(w->q, items, 2, id, &n, LONG_MS) == Q_OK && n == 2);
	must(q_drain(w->q, LONG_MS) == Q_OK);
	must(q_release_batch(w->q, id, 2) == Q_OK);
	must(q_enqueue_batch_ex(w->q, items, 2, &urgent, id, &n, LONG_MS) == Q_OK && n == 2);
	must(q_drain(w->q, LONG_MS) == Q_OK);
	must(q_release_batch(w->q, id, 2) == Q_OK);
	must(q_reserve(w->q, 1, NULL, &payload, &id[0], LONG_MS) == Q_OK);
	must(q_commit(w->q, id[0]) == Q_OK);
	must(q_wait(w->q, id[0], LONG_MS) == Q_OK);
	must(q_release(w->q, id[0]) == Q_OK);
	must(q_reserve(w->q, 1, NULL, &payload, &id[0], LONG_MS) == Q_OK);
	must(q_abort(w->q, id[0]) == Q_OK);
}

static void taking(struct world *w)
{
	struct pollfd fd = { .fd = q_completion_fd(w->q), .events = POLLIN };
	Completion completion;
	QueueStatus status;
	const void *result;
	uint64_t id[2];
	char buf[64];
	size_t n, len = sizeof(buf);
	uint32_t value;
	int cancel;

	/* poll() is a cancellation point, but it is not the library's. */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	must(q_enqueue(w->q, "x", 1, &id[0], LONG_MS) == Q_OK);
	must(poll(&fd, 1, (int)LONG_MS) == 1);
	pthread_setcancelstate(cancel, NULL);
	must(q_wait_any(w->q, LONG_MS) == Q_OK);
	must(q_poll_completions(w->q, id + 1, 1, &n) == Q_OK && n == 1 && id[1] == id[0]);
	must(q_poll_completions(w->q, id + 1, 1, &n) == Q_OK && n == 0);
	must(q_peek_result(w->q, id[0], &result, &len, &status) == Q_OK && len == 1);
	must(q_processor_status(w->q, id[0], &value) == Q_OK && value == 0);
	len = sizeof(buf);
	must(q_try_dequeue_result(w->q, id[0], buf, &len) == Q_OK && len == 1);
	must(q_enqueue(w->q, "x", 1, &id[0], LONG_MS) == Q_OK);
	must(q_wait(w->q, id[0], LONG_MS) == Q_OK);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	must(poll(&fd, 1, (int)LONG_MS) == 1);
	pthread_setcancelstate(cancel, NULL);
	len = sizeof(buf); /* by id: the descriptor is emptied there, too */
	must(q_try_dequeue_result(w->q, id[0], buf, &len) == Q_OK);
	must(q_enqueue(w->q, "x", 1, &id[0], LONG_MS) == Q_OK);
	must(q_wait_any(w->q, LONG_MS) == Q_OK);
	must(q_poll_results(w->q, &completion, 1, &n) == Q_OK && n == 1);
	must(q_release(w->q, completion.msg_id) == Q_OK);
	must(q_enqueue(w->q, "x", 1, &id[0], LONG_MS) == Q_OK);
	must(q_wait_any(w->q, LONG_MS) == Q_OK);
	must(q_take_results(w->q, &completion, 1, buf, sizeof(buf), &n) == Q_OK && n == 1);
}

static void regions(struct world *w)
{
	static GQ_ALIGNED(128) char memory[4096], words[16 << 10];
	const int fd = memfd_create("test", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	MessageDescriptor d = { .length = 16 };
	RegionTable *t, *other;
	RegionHandle region, file;
	const void *bytes;
	RegionInfo info;
	uint64_t offset, id;

	must(q_region_table_required_memory(4) <= sizeof(words));
	must(q_region_table_create_in(4, words, sizeof(words), &t) == Q_OK);
	must(q_region_table_attach(words, sizeof(words), &other) == Q_OK);
	q_region_table_destroy(other);
	must(q_region_register(t, memory, sizeof(memory), Q_REGION_APPEND_ONLY, &region) == Q_OK);
	must(q_region_append(t, region, "0123456789abcdef", 16, &offset) == Q_OK);
	must(q_region_info(t, region, &info) == Q_OK && info.cursor == 16);
	d.region = region;
	must(q_region_resolve(t, &d, &bytes) == Q_OK);
	must(q_bind_regions(w->q, t) == Q_OK);
	if (w->q->cfg.device == Q_DEVICE_CPU) {
		must(q_enqueue_descriptor(w->q, &d, NULL, &id, LONG_MS) == Q_OK);
		must(q_wait(w->q, id, LONG_MS) == Q_OK);
		must(q_release(w->q, id) == Q_OK);
	}
	must(q_bind_regions(w->q, NULL) == Q_OK);
	must(q_ring_bind_regions(w->r, t) == Q_OK);
	must(q_ring_send_descriptor(w->r, &d, Q_PRIORITY_NORMAL) == Q_OK);
	must(q_ring_discard(w->r) == Q_OK);
	must(q_ring_send_descriptor(w->r, &d, Q_PRIORITY_NORMAL) == Q_OK);
	must(q_ring_recv_typed(w->r, NULL, 0, &(RingMessage){ 0 }) == Q_OK);
	must(q_region_release(t, &d) == Q_OK);
	must(q_ring_send_descriptor_timeout(w->r, &d, Q_PRIORITY_NORMAL, LONG_MS) == Q_OK);
	must(q_ring_recv_typed_timeout(w->r, NULL, 0, &(RingMessage){ 0 }, LONG_MS) == Q_OK);
	must(q_region_release(t, &d) == Q_OK);
	must(q_ring_bind_regions(w->r, NULL) == Q_OK);
	must(q_region_retire(t, region) == Q_OK);
	must(ftruncate(fd, 4096) == 0);
	must(q_region_register_fd(t, fd, Q_REGION_IMMUTABLE, &file) == Q_OK);
	must(q_region_retire(t, file) == Q_OK);
	must(q_region_register_device(t, memory, sizeof(memory), &region) == Q_OK);
	must(q_region_retire(t, region) == Q_OK);
	q_region_table_destroy(t);
	must(q_region_table_create(4, &t) == Q_OK);
	q_region_table_destroy(t);
	gq_sys_close(fd);
}

static QueueStatus accept_all(const void *data, size_t len, void *user)
{
	(void)data;
	(void)len;
	(void)user;
	pthread_testcancel(); /* the library's caller is not cancelled in here either */
	return Q_OK;
}

static void *send_later(void *ring)
{
	nap_ms(20);
	q_ring_send(ring, "x", 1, Q_PRIORITY_NORMAL);
	return NULL;
}

static void *receive_later(void *ring)
{
	char buf[64];
	size_t len = sizeof(buf);

	nap_ms(20);
	q_ring_recv(ring, buf, &len);
	return NULL;
}

static void with_another(struct world *w, RingQueue *r, void *(*run)(void *))
{
	pthread_t thread;
	char buf[64];
	size_t len = sizeof(buf);
	int cancel;

	must(pthread_create(&thread, NULL, run, r) == 0);
	if (run == send_later)
		must(q_ring_recv_timeout(r, buf, &len, LONG_MS) == Q_OK);
	else
		must(q_ring_send_timeout(r, "y", 1, Q_PRIORITY_NORMAL, LONG_MS) == Q_OK);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_join(thread, NULL);
	pthread_setcancelstate(cancel, NULL);
}

static void rings(struct world *w)
{
	static GQ_ALIGNED(128) char memory[64 << 10];
	const RingConfig cfg = { .ring_size = 2, .max_msg_size = 64 };
	const EnqueueItem items[2] = { { "a", 1 }, { "b", 1 } };
	RingMessage message[4];
	RingCompletion completion[4];
	RingQueue *r, *other;
	RingConfig config;
	RingStats stats;
	char buf[256];
	size_t n, len = sizeof(buf);
	int fd;

	must(q_ring_required_memory(&cfg) <= sizeof(memory));
	must(q_ring_create(&cfg, memory, sizeof(memory), &r) == Q_OK);
	must(q_ring_attach(memory, sizeof(memory), &other) == Q_OK);
	q_ring_destroy(other);
	must(q_ring_set_schema(r, 0, accept_all, NULL) == Q_OK);
	must(q_ring_send(r, "x", 1, Q_PRIORITY_NORMAL) == Q_OK);
	must(q_ring_peek(r, message) == Q_OK);
	must(q_ring_recv(r, buf, &len) == Q_OK);
	must(q_ring_send_batch(r, items, 2, Q_PRIORITY_NORMAL, &n) == Q_OK && n == 2);
	with_another(w, r, receive_later); /* one that is full when the call begins */
	must(q_ring_recv_batch(r, buf, sizeof(buf), message, 4, &n) == Q_OK && n == 2);
	with_another(w, r, send_later); /* one that is empty */
	must(q_ring_sequence(r) == 5);
	must(q_ring_complete(r, 1, Q_OK, "y", 1) == Q_OK);
	must(q_ring_poll_completions(r, completion, 4, &n) == Q_OK && n == 1);
	must(q_ring_complete_batch(r, completion, 1, &n) == Q_OK && n == 1);
	must(q_ring_poll_completions(r, completion, 4, &n) == Q_OK && n == 1);
	must(q_ring_poll_completions(r, completion, 4, &n) == Q_OK && n == 0);
	must(q_ring_len(r) == 0 && q_ring_available(r) == 2);
	must(q_ring_is_empty(r) != 0 && q_ring_is_full(r) == 0);
	must(q_ring_stats(r, &stats) == Q_OK);
	must(q_ring_config(r, &config) == Q_OK);
	must(q_ring_fd(r) >= 0);
	must(q_ring_send(r, "x", 1, Q_PRIORITY_NORMAL) == Q_OK);
	must(q_ring_recv(r, buf, &len) == Q_OK);
	must(q_ring_recover(r) == Q_OK);
	must(q_ring_close(r) == Q_OK);
	q_ring_destroy(r);
	must(q_ring_create_fd(&cfg, &fd, &r) == Q_OK);
	must(q_ring_attach_fd(fd, &other) == Q_OK);
	q_ring_destroy(other);
	q_ring_destroy(r);
	gq_sys_close(fd);
}

static void pipes(struct world *w)
{
	const struct iovec piece = { .iov_base = "y", .iov_len = 1 };
	PipeReader *r, *attached;
	PipeStats stats;
	PipePool *pool;
	uint64_t offset;
	Pipe *p;
	char buf[8];
	int fd, error;
	size_t n;

	(void)w;
	must(q_pipe_pool_create(&pool) == Q_OK);
	must(q_pipe_pool_writer(pool, "name", NULL, &p) == Q_OK);
	must(q_pipe_pool_reader(pool, "name", 0, LONG_MS, &r) == Q_OK);
	must(q_pipe_pool_close(pool) == Q_OK);
	must(q_pipe_close(p) == Q_OK);
	must(q_pipe_read(r, buf, 8, &n, LONG_MS) == Q_OK && n == 0);
	q_pipe_reader_close(r);
	q_pipe_pool_destroy(pool);
	must(q_pipe_create(NULL, &p) == Q_OK);
	must(q_pipe_reader_open(p, &r) == Q_OK);
	must(q_pipe_write(p, "x", 1, &n, LONG_MS) == Q_OK && n == 1);
	must(q_pipe_reader_fd(r) >= 0);
	fd = q_pipe_share(p);
	must(fd >= 0);
	must(q_pipe_attach(fd, &attached) == Q_OK);
	must(gq_sys_close(fd) == 0);
	must(q_pipe_writev(p, &piece, 1, &n, LONG_MS) == Q_OK && n == 1);
	must(q_pipe_read(r, buf, 8, &n, LONG_MS) == Q_OK && n == 2);
	must(q_pipe_read(attached, buf, 8, &n, LONG_MS) == Q_OK && n == 2);
	must(q_pipe_reader_offset(r, &offset) == Q_OK && offset == 2);
	must(q_pipe_reader_set_error(r, 0) == Q_OK);
	must(q_pipe_set_error(p, 5) == Q_OK);
	must(q_pipe_reader_error(attached, &error) == Q_OK && error == 5);
	must(q_pipe_stats(p, &stats) == Q_OK && stats.written == 2);
	q_pipe_reader_close(attached);
	q_pipe_reader_close(r);
	q_pipe_destroy(p);
}

/* One request, and its answer. */
static void *serve_one(void *worker)
{
	BrokerRequest request = { 0 };

	if (q_service_recv(worker, &request, LONG_MS) != Q_OK ||
	    q_service_reply(worker, &request, Q_REASON_OK, "y", 1) != Q_OK)
		return worker;
	return NULL;
}

static void services(struct world *w)
{
	const BrokerConfig cfg = { .endpoint = services_begin() };
	const BrokerService service = { .name = "worker", .capability = "op=work" };
	const BrokerCall call = { .service = "work", .payload = "x", .bytes = 1 };
	const BrokerCall many = { .service = "work" };
	const BrokerItem item = { "x", 1 };
	BrokerRegion region = { 0 };
	BrokerRequest request;
	const BrokerLoad load = { .capacity = 4 };
	const BrokerOrder drain = { .kind = Q_ORDER_DRAIN, .name = "worker" };
	const BrokerOrder resume = { .kind = Q_ORDER_RESUME, .name = "worker" };
	BrokerClient *worker, *caller, *watcher;
	BrokerServiceInfo info;
	pthread_t thread;
	char buf[4096];
	void *failed;
	size_t n = 1;
	uint64_t id;
	int cancel;

	if (cfg.endpoint == NULL)
		return;
	must((worker = q_broker_connect(&cfg)) != NULL);
	must((caller = q_broker_connect(&cfg)) != NULL);
	must((watcher = q_broker_connect(&cfg)) != NULL);
	must(q_broker_fd(caller) >= 0);
	must(q_service_register(worker, &service) == Q_OK);
	must(q_service_heartbeat(worker, &load) == Q_OK);
	must(q_service_set_health(worker, true) == Q_OK);
	must(q_broker_submit(caller, &call, &id) == Q_OK);
	must(serve_one(worker) == NULL);
	must(q_broker_wait(caller, id, buf, &n, NULL, LONG_MS) == Q_OK && n == 1);
	must(q_broker_submit_batch(caller, &many, &item, 1, &id) == Q_OK);
	must(q_service_recv_batch(worker, &request, 1, &n, LONG_MS) == Q_OK && n == 1);
	must(q_service_reply(worker, &request, Q_REASON_OK, "y", 1) == Q_OK);
	must(q_broker_wait(caller, id, buf, &n, NULL, LONG_MS) == Q_OK && n == 1);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	must(pthread_create(&thread, NULL, serve_one, worker) == 0);
	pthread_setcancelstate(cancel, NULL);
	must(q_broker_call(caller, &call, buf, &n, NULL) == Q_OK && n == 1);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, NULL);
	pthread_join(thread, &failed);
	pthread_setcancelstate(cancel, NULL);
	must(failed == NULL);
	must(q_broker_region_create(caller, 1, &region) == Q_OK);
	must(q_broker_region_seal(caller, region.id) == Q_OK);
	must(q_broker_region_end(caller, region.id) == Q_OK);
	must(q_broker_discover(caller, NULL, &info, 1, &n) == Q_OK && n == 1);
	n = sizeof(buf);
	must(q_broker_stats(caller, buf, &n) == Q_OK);
	must(q_broker_order(caller, &drain) == Q_OK);
	must(q_broker_order(caller, &resume) == Q_OK);
	must(q_broker_watch(watcher, &info, LONG_MS) == Q_OK);
	must(q_broker_submit(caller, &call, &id) == Q_OK);
	must(q_broker_cancel(caller, id) == Q_OK);
	must(q_service_unregister(worker) == Q_OK);
	q_broker_close(watcher);
	q_broker_close(caller);
	q_broker_close(worker);
	services_end();
}

static void *post_later(void *subscription)
{
	NotifySubscription *sub = subscription;

	nap_ms(20);
	q_notify_post(sub->nq, sub->handle, 1, NULL);
	return NULL;
}

static void notifications(struct world *w)
{
	NotifySubscription *sub;
	NotifyHandleInfo info;
	pthread_t thread;
	NotifyHandle handle;
	NotifyEvent event;
	NotifyStats stats;
	NotifyQueue *nq;
	uint64_t key;
	size_t n;
	int cancel;

	must(q_notify_create(NULL, &nq) == Q_OK);
	must(q_notify_register(nq, "x", &handle) == Q_OK);
	must(q_notify_observe(nq, handle, &key) == Q_OK);
	must(q_notify_subscribe(nq, handle, 1, Q_NOTIFY_COALESCE, &sub) == Q_OK);
	must(q_notify_fd(sub) >= 0);
	must(pthread_create(&thread, NULL, post_later, sub) == 0);
	must(q_notify_wait(nq, handle, key, &event, LONG_MS) == Q_OK);
	must(q_notify_recv(sub, &event, LONG_MS) == Q_OK && event.arg == 1);
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_join(thread, NULL);
	pthread_setcancelstate(cancel, NULL);
	must(q_notify_post(nq, handle, 2, &n) == Q_OK && n == 1);
	must(q_notify_stats(nq, &stats) == Q_OK);
	must(q_notify_snapshot(nq, &info, 1, &n) == Q_OK && n == 1);
	must(q_notify_unregister(nq, handle) == Q_OK);
	must(q_notify_recv(sub, &event, LONG_MS) == Q_OK && event.arg == 2);
	q_notify_unsubscribe(sub);
	q_notify_destroy(nq);
}

static void see_nothing(const Completion *completion, void *user)
{
	(void)completion;
	(void)user;
}

static void being_told(struct world *w)
{
	NotifySubscription *sub;
	NotifyEvent event;
	uint64_t hook, id;

	must(q_subscribe(w->q, NULL, 0, Q_NOTIFY_CLOSE, &sub) == Q_OK);
	must(q_on_completion(w->q, NULL, see_nothing, NULL, &hook) == Q_OK);
	must(q_enqueue(w->q, "x", 1, &id, LONG_MS) == Q_OK);
	must(q_notify_recv(sub, &event, LONG_MS) == Q_OK && (uint64_t)event.arg == id);
	must(q_release(w->q, id) == Q_OK);
	must(q_remove_hook(w->q, hook) == Q_OK);
	q_notify_unsubscribe(sub);
}

static void words(struct world *w)
{
	static const QProcessorImage image = { .magic = Q_PROCESSOR_MAGIC, .name = "none" };

	must(q_last_error() != NULL);
	must(strcmp(q_version(), "0.1.0") == 0);
	must(strcmp(q_status_string(Q_OK), "ok") == 0);
	q_register_processor(&image);
	q_unregister_processor(&image);
	q_unregister_processor(&image);
	q_set_log(NULL, NULL);
}

/* Calls that wait in vain, find nothing or no room, or are refused. */
static void failing(struct world *w)
{
	uint64_t ids[8], id;
	char buf[64];
	size_t n, len = sizeof(buf);
	const int no_fd = -1;
	RegionHandle region;

	must(q_wait_any(w->q, 10) == Q_ERR_TIMEOUT);
	must(q_pause(w->q, LONG_MS) == Q_OK);
	for (int i = 0; i < 8; i++)
		must(q_enqueue(w->q, "x", 1, &ids[i], 0) == Q_OK);
	must(q_enqueue(w->q, "x", 1, &id, 0) == Q_ERR_FULL);
	must(q_enqueue(w->q, "x", 1, &id, 10) == Q_ERR_TIMEOUT);
	must(q_wait(w->q, ids[0], 10) == Q_ERR_TIMEOUT);
	must(q_drain(w->q, 10) == Q_ERR_TIMEOUT);
	must(q_try_dequeue_result(w->q, ids[0], buf, &len) == Q_ERR_NOT_READY);
	must(q_release(w->q, ids[0]) == Q_ERR_NOT_READY);
	must(q_resume(w->q) == Q_OK);
	must(q_drain(w->q, LONG_MS) == Q_OK);
	must(q_release_batch(w->q, ids, 8) == Q_OK);
	must(q_release(w->q, ids[0]) == Q_ERR_NOT_FOUND);
	must(q_trace_write(w->q, w->file) == Q_ERR_UNSUPPORTED);
	must(q_init(NULL) == NULL);
	must(q_init(&(QueueConfig){ .capacity = 1, .slot_bytes = 1, .processor = "./no.so" }) ==
	     NULL);
	must(q_init(&(QueueConfig){ .capacity = 1, .slot_bytes = 1, .processor = "./no.ptx" }) ==
	     NULL);
	len = sizeof(buf);
	must(q_ring_recv(w->r, buf, &len) == Q_ERR_EMPTY);
	len = sizeof(buf);
	must(q_ring_recv_timeout(w->r, buf, &len, 150) == Q_ERR_TIMEOUT);
	must(q_ring_send(w->r, "x", 1, Q_PRIORITY_NORMAL) == Q_OK);
	must(q_ring_send(w->r, "x", 1, Q_PRIORITY_NORMAL) == Q_OK);
	must(q_ring_send_timeout(w->r, "x", 1, Q_PRIORITY_NORMAL, 150) == Q_ERR_TIMEOUT);
	len = sizeof(buf);
	must(q_ring_recv(w->r, buf, &len) == Q_OK);
	len = sizeof(buf);
	must(q_ring_recv(w->r, buf, &len) == Q_OK);
	must(q_region_register_fd(w->t, no_fd, Q_REGION_IMMUTABLE, &region) == Q_ERR_INVALID_ARG);
	must(q_poll_completions(w->q, ids, 8, &n) == Q_OK);
}

/* What each group calls, for the comparison with the list of exported symbols. */
static const struct {
	void (*run)(struct world *w);
	const char *name, *calls;
} groups[] = {
	{ a_queues_life, "a queue's life",
	  " q_init q_shutdown q_stop q_pause q_resume q_preload q_drain q_info q_stats "
	  "q_trace_write"
	  " q_trace_summary q_completion_fd " },
	{ enqueueing, "enqueueing",
	  " q_enqueue q_enqueue_ex q_enqueue_async q_wait_enqueue q_enqueue_batch"
	  " q_enqueue_batch_ex q_reserve q_commit q_abort q_cancel q_release_batch " },
	{ taking, "taking",
	  " q_poll_completions q_poll_results q_take_results q_peek_result q_processor_status "
	  "q_try_dequeue_result q_release"
	  " q_wait"
	  " q_wait_any " },
	{ regions, "regions",
	  " q_region_table_create q_region_table_create_in q_region_table_attach"
	  " q_region_table_destroy q_region_table_required_memory q_region_register"
	  " q_region_register_device q_region_register_fd q_region_append q_region_resolve"
	  " q_region_release q_region_retire q_region_info q_bind_regions q_enqueue_descriptor"
	  " q_ring_bind_regions q_ring_send_descriptor q_ring_discard q_ring_recv_typed"
	  " q_ring_send_descriptor_timeout q_ring_recv_typed_timeout " },
	{ rings, "rings",
	  " q_ring_create q_ring_attach q_ring_destroy q_ring_close q_ring_required_memory"
	  " q_ring_send q_ring_send_timeout q_ring_send_batch q_ring_sequence q_ring_recv"
	  " q_ring_recv_timeout q_ring_recv_batch q_ring_peek q_ring_complete q_ring_complete_batch"
	  " q_ring_poll_completions q_ring_len q_ring_available q_ring_is_empty q_ring_is_full"
	  " q_ring_stats q_ring_config q_ring_set_schema q_ring_fd q_ring_recover"
	  " q_ring_create_fd q_ring_attach_fd " },
	{ pipes, "pipes",
	  " q_pipe_create q_pipe_destroy q_pipe_write q_pipe_writev q_pipe_set_error q_pipe_close"
	  " q_pipe_stats q_pipe_share q_pipe_attach q_pipe_reader_open q_pipe_reader_close"
	  " q_pipe_read q_pipe_reader_set_error q_pipe_reader_error q_pipe_reader_offset"
	  " q_pipe_reader_fd q_pipe_pool_create q_pipe_pool_destroy q_pipe_pool_writer"
	  " q_pipe_pool_reader q_pipe_pool_close " },
	{ services, "services",
	  " q_broker_connect q_broker_close q_broker_fd q_broker_call q_broker_submit"
	  " q_broker_submit_batch q_broker_wait"
	  " q_broker_cancel q_broker_discover q_broker_watch q_broker_stats q_broker_order"
	  " q_broker_region_create q_broker_region_seal q_broker_region_end"
	  " q_service_register q_service_unregister q_service_heartbeat q_service_set_health"
	  " q_service_recv q_service_recv_batch q_service_reply " },
	{ notifications, "notifications",
	  " q_notify_create q_notify_destroy q_notify_register q_notify_unregister q_notify_observe"
	  " q_notify_wait q_notify_post q_notify_subscribe q_notify_unsubscribe q_notify_recv"
	  " q_notify_fd q_notify_stats q_notify_snapshot " },
	{ being_told, "being told", " q_subscribe q_on_completion q_remove_hook " },
	{ words, "words",
	  " q_last_error q_version q_status_string q_set_log q_register_processor"
	  " q_unregister_processor " },
	{ failing, "failing", " " },
};
enum { GROUPS = sizeof(groups) / sizeof(groups[0]), SUCCEEDING = GROUPS - 1 };

/* Left out, as they need a second process: q_region_map(), which makes no system call. */
static const char *const left_out = " q_region_map ";

static void make_world(struct world *w)
{
	static char path[64];
	const RingConfig cfg = { .ring_size = 2, .max_msg_size = 64 };

	snprintf(path, sizeof(path), "test_calls.%ld.json", (long)getpid());
	*w = (struct world){ .q = make_queue(8, 64), .file = path };
	assert_true(q_completion_fd(w->q) >= 0);
	assert_status(q_ring_create(&cfg, NULL, 0, &w->r), Q_OK);
	assert_status(q_region_table_create(4, &w->t), Q_OK);
}

static void end_world(struct world *w)
{
	q_region_table_destroy(w->t);
	q_ring_destroy(w->r);
	q_shutdown(w->q);
	unlink(w->file);
}

static void every_exported_call_is_in_these_tests(void **state)
{
	FILE *map = fopen(GPUQ_SYMBOLS, "r");
	char line[128], name[128];
	unsigned n = 0;

	(void)state;
	assert_non_null(map);
	while (fgets(line, sizeof(line), map) != NULL) {
		bool found;

		if (strncmp(line, "\tq_", 3) != 0)
			continue;
		n++;
		snprintf(name, sizeof(name), " %.*s ", (int)strcspn(line + 1, ";"), line + 1);
		found = strstr(left_out, name) != NULL;
		for (int i = 0; i < GROUPS; i++)
			found = found || strstr(groups[i].calls, name) != NULL;
		if (!found)
			fail_msg("no test here calls%s", name);
	}
	fclose(map);
	assert_true(n > 60);
}

/* ---- cancellation ---------------------------------------------------------------------------- */

struct cancelled {
	struct world *w;
	void (*run)(struct world *w);
};

static void *call_with_a_cancel_pending(void *arg)
{
	struct cancelled *c = arg;

	pthread_cancel(pthread_self());
	c->run(c->w);
	c->w->ended = true;
	pthread_testcancel();
	return NULL;
}

static void no_call_is_a_cancellation_point(void **state)
{
	(void)state;
	for (int i = 0; i < GROUPS; i++) {
		struct world w;
		struct cancelled c = { &w, groups[i].run };
		pthread_t thread;
		void *result;

		make_world(&w);
		assert_int_equal(pthread_create(&thread, NULL, call_with_a_cancel_pending, &c), 0);
		assert_int_equal(pthread_join(thread, &result), 0);
		if (!w.ended)
			fail_msg("%s: the thread was cancelled inside a call", groups[i].name);
		if (w.wrong != 0)
			fail_msg("%s: line %d", groups[i].name, w.wrong);
		assert_ptr_equal(result, PTHREAD_CANCELED); /* in pthread_testcancel() */
		/* Everything goes on for the others. */
		expect_echo(w.q, send(w.q, "after", 5), "after", 5);
		assert_status(q_ring_send(w.r, "x", 1, Q_PRIORITY_NORMAL), Q_OK);
		end_world(&w);
	}
}

static void sink_that_writes(int level, const char *text, void *user)
{
	(void)level;
	pthread_testcancel();
	*(unsigned *)user += text[0] != '\0';
}

static void *make_a_queue_with_a_cancel_pending(void *arg)
{
	QueueConfig cfg = config(1, 1);

	pthread_cancel(pthread_self());
	q_shutdown(q_init(&cfg));
	*(bool *)arg = true;
	return NULL;
}

static void a_log_sink_is_called_with_cancellation_off(void **state)
{
	unsigned lines = 0;
	bool ended = false;
	pthread_t thread;

	(void)state;
	q_set_log(sink_that_writes, &lines);
	assert_int_equal(pthread_create(&thread, NULL, make_a_queue_with_a_cancel_pending, &ended),
			 0);
	pthread_join(thread, NULL);
	q_set_log(NULL, NULL);
	assert_true(ended);
	assert_true(lines != 0);
}

/* ---- the last error -------------------------------------------------------------------------- */

static void a_call_that_succeeds_leaves_the_last_error_alone(void **state)
{
	(void)state;
	for (int formatted = 0; formatted < 2; formatted++) {
		for (int i = 0; i < SUCCEEDING; i++) {
			struct world w;
			const char *before;
			char text[512];

			make_world(&w);
			assert_status(formatted != 0 ? q_enqueue(w.q, "x", 1000000, NULL, 0)
						     : q_enqueue(NULL, "x", 1, NULL, 0),
				      Q_ERR_INVALID_ARG);
			before = q_last_error();
			snprintf(text, sizeof(text), "%s", before);
			groups[i].run(&w);
			if (w.wrong != 0)
				fail_msg("%s: line %d: %s", groups[i].name, w.wrong,
					 q_last_error());
			if (q_last_error() != before || strcmp(before, text) != 0)
				fail_msg("%s: the last error was '%s' and is '%s'", groups[i].name,
					 text, q_last_error());
			end_world(&w);
			assert_ptr_equal(q_last_error(), before);
			assert_string_equal(before, text);
		}
	}
}

static void *fail_formatted(void *arg)
{
	QueueConfig cfg = config(3, 1);

	assert_null(q_init(&cfg));
	snprintf(arg, 128, "%s", q_last_error());
	return NULL;
}

static void without_memory_the_last_error_is_the_statuss_own_words(void **state)
{
	char text[128];
	pthread_t thread;

	(void)state;
	gq__error_refuse_room(true);
	assert_int_equal(pthread_create(&thread, NULL, fail_formatted, text), 0);
	pthread_join(thread, NULL);
	gq__error_refuse_room(false);
	assert_string_equal(text, q_status_string(Q_ERR_INVALID_ARG));
	assert_int_equal(pthread_create(&thread, NULL, fail_formatted, text), 0);
	pthread_join(thread, NULL);
	assert_non_null(strstr(text, "capacity is 3"));
}

/* ---- the log's sink -------------------------------------------------------------------------- */

/* A sink's user: gone, its memory used for something else, once q_set_log() has replaced it. */
struct user {
	uint64_t mark, lines, wrong;
};
static uint64_t mismatches, log_stop;

static void sink_for(int level, const char *text, struct user *user, uint64_t mark)
{
	(void)level;
	(void)text;
	if (gq_load_relaxed_u64(&user->mark) != mark)
		gq_fetch_add_relaxed_u64(&mismatches, 1);
	sched_yield(); /* the sink may be replaced here */
	if (gq_load_relaxed_u64(&user->mark) != mark)
		gq_fetch_add_relaxed_u64(&mismatches, 1);
	gq_fetch_add_relaxed_u64(&user->lines, 1);
}

static void sink_one(int level, const char *text, void *user)
{
	sink_for(level, text, user, 1);
}

static void sink_two(int level, const char *text, void *user)
{
	sink_for(level, text, user, 2);
}

static void *log_lines(void *arg)
{
	(void)arg;
	while (gq_load_relaxed_u64(&log_stop) == 0)
		gq__log(Q_LOG_DEBUG, "line");
	return NULL;
}

static void a_sink_meets_its_own_user_and_is_not_called_once_replaced(void **state)
{
	struct user users[2] = { { 0 } };
	pthread_t thread[2];
	uint64_t lines = 0;

	(void)state;
	gq_store_relaxed_u64(&log_stop, 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, log_lines, NULL), 0);
	for (int i = 0; i < 600 || lines < 600; i++) {
		struct user *user = &users[i % 2];

		gq_store_relaxed_u64(&user->mark, i % 2 == 0 ? 1 : 2);
		q_set_log(i % 2 == 0 ? sink_one : sink_two, user);
		lines = gq_load_relaxed_u64(&users[0].lines) + gq_load_relaxed_u64(&users[1].lines);
		if (i > 600)
			sched_yield();
		gq_store_relaxed_u64(&users[(i + 1) % 2].mark, 0); /* freed, so to speak */
		if (i % 3 == 0) {
			q_set_log(NULL, NULL);
			gq_store_relaxed_u64(&user->mark, 0);
		}
	}
	q_set_log(NULL, NULL);
	gq_store_relaxed_u64(&log_stop, 1);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(mismatches, 0);
}

static void sink_that_removes_itself(int level, const char *text, void *user)
{
	(void)level;
	(void)text;
	++*(unsigned *)user;
	q_set_log(NULL, NULL);
}

static void a_sink_may_remove_itself(void **state)
{
	unsigned lines = 0;

	(void)state;
	q_set_log(sink_that_removes_itself, &lines);
	gq__log(Q_LOG_ERROR, "one");
	gq__log(Q_LOG_ERROR, "two");
	assert_int_equal(lines, 1);
}

/* ---- signals --------------------------------------------------------------------------------- */

static char *page;
static volatile sig_atomic_t handled;

static void make_writable(int signal)
{
	(void)signal;
	handled++;
	mprotect(page, 4096, PROT_READ | PROT_WRITE);
}

static void touch_page(const MsgView *in, ResultView *out)
{
	page[0] = 1;
	*out->out_len = 0;
	(void)in;
}

static uint64_t signals_of_consumer[2]; /* a bit each, from 1; and of synchronous ones alone */

static void read_mask(const MsgView *in, ResultView *out)
{
	uint64_t blocked = 0;
	sigset_t mask;

	(void)in;
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	for (int s = 1; s < 32; s++)
		if (sigismember(&mask, s) == 1)
			blocked |= UINT64_C(1) << s;
	gq_store_relaxed_u64(&signals_of_consumer[0], blocked);
	*out->out_len = 0;
}

static GpuQueue *queue_on_cpu(QProcessorFn fn)
{
	static QProcessorImage image;
	QueueConfig cfg = {
		.capacity = 4, .slot_bytes = 16, .device = Q_DEVICE_CPU, .processor = "signals"
	};
	GpuQueue *q;

	image = (QProcessorImage){ .magic = Q_PROCESSOR_MAGIC,
				   .protocol_version = Q_PROTOCOL_VERSION,
				   .name = "signals",
				   .cpu = fn };
	q_register_processor(&image);
	q = q_init(&cfg);
	q_unregister_processor(&image);
	assert_non_null(q);
	return q;
}

enum { SANITIZED = GQ_ASAN || GQ_TSAN };

static void the_programs_handler_runs_for_a_fault_in_a_processor(void **state)
{
	struct sigaction action = { .sa_handler = make_writable }, before;
	GpuQueue *q;
	uint64_t id;

	(void)state;
	if (SANITIZED)
		skip(); /* the sanitizer has a handler of its own */
	page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(page, MAP_FAILED);
	assert_int_equal(sigaction(SIGSEGV, &action, &before), 0);
	q = queue_on_cpu(touch_page);
	id = send(q, "x", 1);
	assert_status(q_wait(q, id, LONG_MS), Q_OK);
	assert_int_equal(handled, 1);
	q_shutdown(q);
	sigaction(SIGSEGV, &before, NULL);
	munmap(page, 4096);
}

static uint64_t mask_of_a_consumer(void)
{
	GpuQueue *q = queue_on_cpu(read_mask);

	assert_status(q_wait(q, send(q, "x", 1), LONG_MS), Q_OK);
	q_shutdown(q);
	return gq_load_relaxed_u64(&signals_of_consumer[0]);
}

#define BIT(signal) (UINT64_C(1) << (signal))

static void consumers_block_all_but_synchronous_signals_and_sigprof_as_their_maker(void **state)
{
	const uint64_t synchronous =
		BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGFPE) | BIT(SIGILL) | BIT(SIGTRAP) | BIT(SIGSYS);
	const uint64_t never = BIT(SIGKILL) | BIT(SIGSTOP);
	const uint64_t all = (BIT(32) - 2) & ~never;
	sigset_t prof, before, after;

	(void)state;
	sigemptyset(&prof);
	sigaddset(&prof, SIGPROF);
	pthread_sigmask(SIG_UNBLOCK, &prof, &before);
	assert_int_equal(mask_of_a_consumer(), all & ~synchronous & ~BIT(SIGPROF));
	pthread_sigmask(SIG_BLOCK, &prof, NULL);
	assert_int_equal(mask_of_a_consumer(), all & ~synchronous);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_sigmask(SIG_SETMASK, NULL, &after);
	for (int s = 1; s < 32; s++) /* q_init() leaves the caller's mask as it was */
		assert_int_equal(sigismember(&before, s), sigismember(&after, s));
}

static void count_signal(int signal)
{
	(void)signal;
	handled++;
}

static void *interrupt(void *arg)
{
	const pthread_t thread = *(const pthread_t *)arg;

	while (gq_load_relaxed_u64(&log_stop) == 0) {
		pthread_kill(thread, SIGUSR1);
		nap_ms(1);
	}
	return NULL;
}

static void signals_make_no_call_fail(void **state)
{
	/* Without SA_RESTART: system calls end with EINTR. */
	struct sigaction action = { .sa_handler = count_signal }, before;
	const pthread_t self = pthread_self();
	pthread_t thread;

	(void)state;
	handled = 0;
	gq_store_relaxed_u64(&log_stop, 0);
	assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
	assert_int_equal(pthread_create(&thread, NULL, interrupt, (void *)&self), 0);
	for (int i = 0; i < GROUPS; i++) {
		struct world w;

		if (groups[i].run == taking)
			continue; /* polls by itself */
		make_world(&w);
		groups[i].run(&w);
		if (w.wrong != 0)
			fail_msg("%s: line %d", groups[i].name, w.wrong);
		end_world(&w);
	}
	gq_store_relaxed_u64(&log_stop, 1);
	pthread_join(thread, NULL);
	sigaction(SIGUSR1, &before, NULL);
	assert_true(handled != 0);
}

static void *open_and_close(void *path)
{
	close(open(path, O_RDONLY));
	return NULL;
}

/* Log lines go to a pipe that nobody reads, and the trace to one whose reader has gone. */
static QueueStatus write_to_nobody(char *path, bool *made)
{
	QueueConfig cfg = config(4, 16);
	QueueStatus status = Q_OK;
	GpuQueue *q;

	cfg.flags = Q_TRACE;
	q = q_init(&cfg);
	*made = q != NULL && q_enqueue(q, "x", 1, NULL, 0) == Q_OK && q_drain(q, LONG_MS) == Q_OK;
	/* A reader comes before the trace is written, or after. */
	for (int i = 0; *made && i < 1000 && status == Q_OK; i++) {
		pthread_t thread;

		*made = pthread_create(&thread, NULL, open_and_close, path) == 0;
		status = q_trace_write(q, path);
		pthread_join(thread, NULL);
	}
	q_shutdown(q);
	return status;
}

static void no_call_raises_sigpipe(void **state)
{
	struct sigaction action = { .sa_handler = count_signal }, before;
	const int saved = dup(STDERR_FILENO);
	QueueStatus status;
	char path[64];
	sigset_t set;
	int ends[2];
	bool made;

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	handled = 0;
	assert_int_equal(sigaction(SIGPIPE, &action, &before), 0);
	snprintf(path, sizeof(path), "test_calls.%ld.fifo", (long)getpid());
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(pipe(ends), 0);
	close(ends[0]);
	setenv("GPUQ_LOG", "debug", 1);
	dup2(ends[1], STDERR_FILENO);
	close(ends[1]);
	status = write_to_nobody(path, &made);
	dup2(saved, STDERR_FILENO);
	close(saved);
	unsetenv("GPUQ_LOG");
	unlink(path);
	sigaction(SIGPIPE, &before, NULL);
	assert_true(made);
	assert_status(status, Q_ERR_IO);
	assert_int_equal(handled, 0);
}

static void pipe_write_says_epipe_and_keeps_a_signal_that_was_pending(void **state)
{
	sigset_t set, before, pending;
	int ends[2];

	(void)state;
	sigemptyset(&set);
	sigaddset(&set, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	assert_int_equal(pipe(ends), 0);
	close(ends[0]);
	assert_int_equal(gq__write_quietly(ends[1], "x", 1), EPIPE);
	sigpending(&pending);
	assert_int_equal(sigismember(&pending, SIGPIPE), 0);
	raise(SIGPIPE);
	assert_int_equal(gq__write_quietly(ends[1], "x", 1), EPIPE);
	sigpending(&pending);
	assert_int_equal(sigismember(&pending, SIGPIPE), 1);
	sigwaitinfo(&set, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	close(ends[1]);
}

/* ---- in a signal handler --------------------------------------------------------------------- */

static volatile sig_atomic_t asked;

static void ask_in_a_handler(int signal)
{
	(void)signal;
	asked += strcmp(q_version(), "0.1.0") == 0 &&
		 strcmp(q_status_string(Q_ERR_FULL), "queue full") == 0 &&
		 strcmp(q_status_string((QueueStatus)99), "unknown status") == 0;
}

static void version_and_status_string_may_be_called_in_a_signal_handler(void **state)
{
	struct sigaction action = { .sa_handler = ask_in_a_handler }, before;
	GpuQueue *q = make_queue(4, 16);

	(void)state;
	assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
	for (int i = 0; i < 20; i++) {
		raise(SIGUSR1);
		expect_echo(q, send(q, "x", 1), "x", 1);
	}
	sigaction(SIGUSR1, &before, NULL);
	assert_int_equal(asked, 20);
	q_shutdown(q);
}

/* ---- bounded work ---------------------------------------------------------------------------- */

enum { MANY = 16384 };

static uint64_t finished_now(const GpuQueue *q)
{
	return gq_load_relaxed_u64(&q->reaped.finished);
}

/* A queue full of messages to discard, all completed, of which nobody has taken notice. */
static GpuQueue *queue_of_discards(void)
{
	const EnqueueOptions discard = { .flags = Q_ENQUEUE_DISCARD };
	GpuQueue *q = make_queue(MANY, 8);

	assert_status(q_pause(q, LONG_MS), Q_OK);
	for (int i = 0; i < MANY; i++)
		assert_status(q_enqueue_ex(q, "x", 1, &discard, NULL, 0), Q_OK);
	assert_status(q_resume(q), Q_OK);
	while (gq_load_seq_cst_u64(q->ch.done.tail) - gq_load_seq_cst_u64(q->ch.done.head) < MANY)
		nap_ms(1);
	return q;
}

/* Runs a call and says how many completions it took notice of. */
#define noticed(q, call)                                                                           \
	({                                                                                         \
		const uint64_t before_ = finished_now(q);                                          \
		call;                                                                              \
		finished_now(q) - before_;                                                         \
	})

static void a_call_that_does_not_wait_takes_notice_of_a_thousand_at_most(void **state)
{
	QueueStats stats;
	uint64_t ids[4], id;
	size_t n;
	GpuQueue *q;
	uint64_t seen = 0;

	(void)state;
	cpu_device_only("the grid's tail is in its own memory");
	q = queue_of_discards();
	seen = noticed(q, assert_status(q_poll_completions(q, ids, 1, &n), Q_OK));
	assert_int_equal(n, 0);
	assert_in_range(seen, 1, GQ_MOST_AT_ONCE);
	seen = noticed(q, assert_status(q_wait_any(q, 0), Q_ERR_TIMEOUT));
	assert_in_range(seen, 1, GQ_MOST_AT_ONCE);
	seen = noticed(q, assert_status(q_stats(q, &stats), Q_OK));
	assert_in_range(seen, 1, GQ_MOST_AT_ONCE);
	/* It goes on until there is a slot, which here is at once; so FULL is never said wrongly.
	 */
	while (gq_pool_free(&q->pool, gq_load_seq_cst_u64(q->pool.ring.tail),
			    gq_load_seq_cst_u64(q->pool.ring.head)) != 0)
		assert_status(q_enqueue(q, "y", 1, &id, 0), Q_OK);
	seen = noticed(q, assert_status(q_enqueue(q, "y", 1, &id, 0), Q_OK));
	assert_in_range(seen, 1, GQ_MOST_AT_ONCE);
	/* What others left undone is passed over in the end. */
	assert_status(q_wait_any(q, LONG_MS), Q_OK);
	assert_status(q_poll_completions(q, ids, 1, &n), Q_OK);
	assert_int_equal(n, 1);
	q_shutdown(q);
}

static void a_full_queue_without_discards_says_so_after_a_thousand_completions(void **state)
{
	uint64_t seen, id;
	GpuQueue *q;

	(void)state;
	cpu_device_only("the grid's tail is in its own memory");
	q = make_queue(MANY, 8);
	for (int i = 0; i < MANY; i++)
		send(q, "x", 1);
	while (gq_load_seq_cst_u64(q->ch.done.tail) - q->start_pos < MANY)
		nap_ms(1);
	seen = noticed(q, assert_status(q_enqueue(q, "x", 1, &id, 0), Q_ERR_FULL));
	assert_in_range(seen, 0, GQ_MOST_AT_ONCE);
	q_shutdown(q);
}

static void while_the_descriptor_is_readable_polling_returns_something(void **state)
{
	struct pollfd fd = { .events = POLLIN };
	uint64_t ids[4], id;
	size_t n = 0;
	GpuQueue *q;

	(void)state;
	cpu_device_only("the grid's tail is in its own memory");
	q = queue_of_discards();
	id = 0;
	while (q_enqueue(q, "y", 1, &id, 0) == Q_ERR_FULL)
		;
	fd.fd = q_completion_fd(q); /* its thread passes over all the others */
	assert_int_equal(poll(&fd, 1, (int)LONG_MS), 1);
	assert_status(q_poll_completions(q, ids, 4, &n), Q_OK);
	assert_int_equal(n, 1);
	assert_int_equal(ids[0], id);
	assert_int_equal(poll(&fd, 1, 0), 0);
	q_shutdown(q);
}

static void results_taken_by_id_leave_pollers_little_to_pass_over(void **state)
{
	static uint64_t ids[MANY];
	uint64_t got[2];
	uint32_t listed = 0;
	size_t n;
	GpuQueue *q;

	(void)state;
	cpu_device_only("many messages");
	q = make_queue(MANY, 8);
	for (int i = 0; i < MANY; i++)
		ids[i] = send(q, "x", 1);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	assert_status(q_release_batch(q, ids, MANY - 1), Q_OK);
	for (uint64_t at = q->finished_first; at != 0; at = q->finished[at - 1].next)
		listed++;
	assert_in_range(listed, 1, 256);
	assert_status(q_poll_completions(q, got, 2, &n), Q_OK);
	assert_int_equal(n, 1);
	assert_int_equal(got[0], ids[MANY - 1]);
	q_shutdown(q);
}

/* With nobody clearing the front: a poll passes over a thousand, and says nothing of the rest. */
static void a_poll_passes_over_a_thousand_taken_by_id(void **state)
{
	static uint64_t ids[4 * GQ_MOST_AT_ONCE];
	enum { N = 4 * GQ_MOST_AT_ONCE };
	unsigned polls = 0;
	uint64_t got[2];
	size_t n = 0;
	GpuQueue *q;

	(void)state;
	cpu_device_only("many messages");
	q = make_queue(N, 8);
	for (int i = 0; i < N; i++)
		ids[i] = send(q, "x", 1);
	assert_status(q_drain(q, LONG_MS), Q_OK);
	pthread_mutex_lock(&q->reap_lock); /* who takes by id finds it locked */
	assert_status(q_release_batch(q, ids, N - 1), Q_OK);
	pthread_mutex_unlock(&q->reap_lock);
	while (n == 0) {
		assert_status(q_poll_completions(q, got, 2, &n), Q_OK);
		polls++;
	}
	assert_int_equal(n, 1);
	assert_int_equal(got[0], ids[N - 1]);
	assert_int_equal(polls, 4);
	q_shutdown(q);
}

static void what_is_left_when_a_queue_has_settled_is_polled_before_shutdown_is_said(void **state)
{
	GpuQueue *q = make_queue(8, 16);
	uint64_t id, got[2];
	size_t n;

	(void)state;
	id = send(q, "x", 1);
	assert_status(q_stop(q, LONG_MS), Q_OK);
	assert_status(q_wait_any(q, LONG_MS), Q_OK);
	assert_status(q_poll_completions(q, got, 2, &n), Q_OK);
	assert_int_equal(n, 1);
	assert_int_equal(got[0], id);
	for (int i = 0; i < 3; i++)
		assert_status(q_wait_any(q, i == 0 ? 0 : LONG_MS), Q_ERR_SHUTDOWN);
	q_shutdown(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_exported_call_is_in_these_tests),
		cmocka_unit_test(no_call_is_a_cancellation_point),
		cmocka_unit_test(a_log_sink_is_called_with_cancellation_off),
		cmocka_unit_test(a_call_that_succeeds_leaves_the_last_error_alone),
		cmocka_unit_test(without_memory_the_last_error_is_the_statuss_own_words),
		cmocka_unit_test(a_sink_meets_its_own_user_and_is_not_called_once_replaced),
		cmocka_unit_test(a_sink_may_remove_itself),
		cmocka_unit_test(the_programs_handler_runs_for_a_fault_in_a_processor),
		cmocka_unit_test(
			consumers_block_all_but_synchronous_signals_and_sigprof_as_their_maker),
		cmocka_unit_test(signals_make_no_call_fail),
		cmocka_unit_test(no_call_raises_sigpipe),
		cmocka_unit_test(pipe_write_says_epipe_and_keeps_a_signal_that_was_pending),
		cmocka_unit_test(version_and_status_string_may_be_called_in_a_signal_handler),
		cmocka_unit_test(a_call_that_does_not_wait_takes_notice_of_a_thousand_at_most),
		cmocka_unit_test(
			a_full_queue_without_discards_says_so_after_a_thousand_completions),
		cmocka_unit_test(while_the_descriptor_is_readable_polling_returns_something),
		cmocka_unit_test(results_taken_by_id_leave_pollers_little_to_pass_over),
		cmocka_unit_test(a_poll_passes_over_a_thousand_taken_by_id),
		cmocka_unit_test(
			what_is_left_when_a_queue_has_settled_is_polled_before_shutdown_is_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
