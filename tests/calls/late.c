/* SPDX-License-Identifier: Apache-2.0 */
/*
 * late.c - the library is opened by a program that does not link it: in a process that has no
 * static thread-local storage left, and to be closed with a live queue. With "room", in a process
 * that has some left: only the ring's words differ there (src/host/ring/recent.h). The usual way to
 * them is a call of __tls_get_addr(), which this program counts.
 * late EATER LIBRARY [room]
 */
#include <gpuq/gpuq.h>
#include <gpuq/ring.h>

#include <dlfcn.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static __typeof__(&q_init) init;
static __typeof__(&q_enqueue) enqueue;
static __typeof__(&q_wait) await;
static __typeof__(&q_shutdown) end;
static __typeof__(&q_last_error) last_error;
static __typeof__(&q_ring_create) create;
static __typeof__(&q_ring_send) send_one;
static __typeof__(&q_ring_recv) receive_one;
static __typeof__(&q_ring_stats) stats;
static GpuQueue *q;
static RingQueue *ring;
static sem_t ring_is_there;

/* Takes the place of the loader's for the library: the program's symbols come first. */
void *__tls_get_addr(void *index);
static unsigned long tls_calls; /* counted where one thread uses the library */

void *__tls_get_addr(void *index)
{
	static void *(*loaders)(void *);

	if (loaders == NULL)
		*(void **)&loaders = dlsym(RTLD_NEXT, "__tls_get_addr");
	tls_calls++;
	return loaders(index);
}

static void fail(const char *what)
{
	const char *why = dlerror();

	fprintf(stderr, "late: %s: %s\n", what, why != NULL ? why : "");
	exit(1);
}

static void copy(const char *from, const char *to)
{
	FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
	char bytes[4096];
	size_t n;

	if (in == NULL || out == NULL)
		fail("copying");
	while ((n = fread(bytes, 1, sizeof(bytes), in)) != 0)
		if (fwrite(bytes, 1, n, out) != n)
			fail("copying");
	fclose(in);
	fclose(out);
}

/* Copies of a library that wants some in every thread are opened until one is refused. */
static unsigned use_up_static_tls(const char *eater)
{
	char path[64];
	unsigned n = 0;

	for (;; n++) {
		void *handle;

		snprintf(path, sizeof(path), "./eater.%ld.%u.so", (long)getpid(), n);
		copy(eater, path);
		handle = dlopen(path, RTLD_NOW);
		unlink(path);
		if (handle == NULL)
			break;
		if (n == 4096)
			fail("the storage does not come to an end");
	}
	if (strstr(dlerror(), "static TLS") == NULL)
		fail("the eater was refused for another reason");
	return n;
}

static void *find(void *library, const char *name)
{
	void *symbol = dlsym(library, name);

	if (symbol == NULL)
		fail(name);
	return symbol;
}

static void *use(void *arg)
{
	uint64_t id;

	(void)arg;
	if (enqueue(q, "x", 1, &id, 10000) != Q_OK || await(q, id, 10000) != Q_OK)
		fail("a message");
	if (enqueue(q, "x", 1000, &id, 0) != Q_ERR_INVALID_ARG ||
	    strstr(last_error(), "len is 1000") == NULL)
		fail("a sentence");
	return NULL;
}

enum { RING_USERS = 5, RING_MESSAGES = 1000 };

/* Each thread's words are its own: else two would count in one place, and some be lost. */
static void *use_ring(void *arg)
{
	sem_wait(&ring_is_there);
	for (int i = 0; i < RING_MESSAGES; i++) {
		char byte = 'x';
		size_t len;
		QueueStatus status;

		if (send_one(ring, &byte, 1, Q_PRIORITY_NORMAL) != Q_OK)
			fail("a send");
		do { /* another thread may have taken it, and then another one is coming */
			len = 1;
			status = receive_one(ring, &byte, &len);
		} while (status == Q_ERR_EMPTY);
		if (status != Q_OK || len != 1 || byte != 'x')
			fail("a receive");
	}
	return arg;
}

#ifdef GPUQ_TLS_DESCRIPTORS
/* With room for the ring's words beside each thread, no call looks for them. */
static void expect_way_to_words(bool fast)
{
	const unsigned long before = tls_calls;
	unsigned long calls;

	for (int i = 0; i < RING_MESSAGES; i++) {
		char byte = 'x';
		size_t len = 1;

		if (send_one(ring, &byte, 1, Q_PRIORITY_NORMAL) != Q_OK ||
		    receive_one(ring, &byte, &len) != Q_OK)
			fail("a message of one thread");
	}
	calls = tls_calls - before;
	printf("%lu calls of __tls_get_addr for %d messages\n", calls, RING_MESSAGES);
	/* the first call of this thread binds it to the ring */
	if (fast ? calls > 10 : calls < RING_MESSAGES)
		fail(fast ? "the fast way is not taken" : "the calls cannot be counted");
}
#endif

static volatile int go_on = 1;
static sem_t used;

static void *use_for_a_while(void *arg)
{
	use(arg);
	sem_post(&used);
	while (go_on)
		usleep(1000);
	return NULL;
}

int main(int argc, char **argv)
{
	const QueueConfig cfg = {
		.capacity = 64, .slot_bytes = 16, .device = Q_DEVICE_CPU, .processor = "echo"
	};
	const RingConfig ring_cfg = { .ring_size = 64, .max_msg_size = 64 };
	pthread_t thread[4], user[RING_USERS];
	RingStats counted;
	void *library;
	pid_t child;
	int status;

	if (argc < 3)
		return 2;
	alarm(60);
	sem_init(&ring_is_there, 0, 0);
	if (pthread_create(&user[0], NULL, use_ring, NULL) != 0) /* older than the library */
		fail("a thread");
	if (argc == 3)
		printf("%u libraries have used up the static storage\n",
		       use_up_static_tls(argv[1]));
	library = dlopen(argv[2], RTLD_NOW);
	if (library == NULL)
		fail("the library cannot be opened late");
	*(void **)&init = find(library, "q_init");
	*(void **)&enqueue = find(library, "q_enqueue");
	*(void **)&await = find(library, "q_wait");
	*(void **)&end = find(library, "q_shutdown");
	*(void **)&last_error = find(library, "q_last_error");
	*(void **)&create = find(library, "q_ring_create");
	*(void **)&send_one = find(library, "q_ring_send");
	*(void **)&receive_one = find(library, "q_ring_recv");
	*(void **)&stats = find(library, "q_ring_stats");
	if (create(&ring_cfg, NULL, 0, &ring) != Q_OK)
		fail(last_error());
	for (int i = 1; i < RING_USERS; i++)
		if (pthread_create(&user[i], NULL, use_ring, NULL) != 0)
			fail("a thread");
	for (int i = 0; i < RING_USERS; i++)
		sem_post(&ring_is_there);
	for (int i = 0; i < RING_USERS; i++)
		pthread_join(user[i], NULL);
	if (stats(ring, &counted) != Q_OK || counted.bytes_sent != RING_USERS * RING_MESSAGES ||
	    counted.bytes_received != RING_USERS * RING_MESSAGES)
		fail("what was sent and received is not what was counted");
#ifdef GPUQ_TLS_DESCRIPTORS /* else other machines have other ways */
	expect_way_to_words(argc > 3);
#endif
	q = init(&cfg);
	if (q == NULL)
		fail(last_error());
	for (int i = 0; i < 4; i++)
		if (pthread_create(&thread[i], NULL, use, NULL) != 0)
			fail("a thread");
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	sem_init(&used, 0, 0);
	if (pthread_create(&thread[0], NULL, use_for_a_while, NULL) != 0)
		fail("a thread");
	sem_wait(&used); /* the queue does not end before */
	dlclose(library);
	use(NULL);
	child = fork(); /* through the library's handlers */
	if (child == 0)
		_exit(enqueue(q, "x", 1, NULL, 0) == Q_ERR_UNSUPPORTED ? 0 : 1);
	if (waitpid(child, &status, 0) != child || status != 0)
		fail("a child");
	end(q);
	usleep(100000);
	go_on = 0; /* its end calls what frees its last error */
	pthread_join(thread[0], NULL);
	return 0;
}
