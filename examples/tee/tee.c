/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tee.c - copies its standard input to several files at once, each at its own speed, and counts it
 * in another process.
 *
 *     tee FILE...
 *
 * The input goes into a pipe of libgpuq. Each file has a reader in a thread of its own; a child
 * that is forked before anything is written attaches by descriptor, and prints how many bytes it
 * has seen. With Q_PIPE_FAIL nothing is forgotten: MAX_BYTES is all that fits.
 */
#include <gpuq/pipe.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_BYTES = 256 << 20 };

static void must(QueueStatus status, const char *what)
{
	if (status != Q_OK) {
		fprintf(stderr, "%s: %s: %s\n", what, q_status_string(status), q_last_error());
		exit(1);
	}
}

struct file {
	const char *path;
	PipeReader *reader;
	pthread_t thread;
};

static void *copy(void *arg)
{
	struct file *f = arg;
	FILE *to = fopen(f->path, "wb");
	char buf[65536];
	size_t n = 1;

	if (to == NULL) {
		perror(f->path);
		exit(1);
	}
	while (n != 0) { /* 0: the end of the stream */
		must(q_pipe_read(f->reader, buf, sizeof(buf), &n, UINT32_MAX), "q_pipe_read");
		if (fwrite(buf, 1, n, to) != n) {
			perror(f->path);
			exit(1);
		}
	}
	if (fclose(to) != 0) {
		perror(f->path);
		exit(1);
	}
	q_pipe_reader_close(f->reader);
	return NULL;
}

/* The child's part: all it has is the descriptor. */
static void count(int fd)
{
	unsigned long long bytes = 0;
	PipeReader *reader;
	char buf[65536];
	size_t n = 1;

	must(q_pipe_attach(fd, &reader), "q_pipe_attach");
	while (n != 0) {
		must(q_pipe_read(reader, buf, sizeof(buf), &n, UINT32_MAX), "q_pipe_read");
		bytes += n;
	}
	q_pipe_reader_close(reader);
	printf("%llu bytes\n", bytes);
	exit(0);
}

int main(int argc, char **argv)
{
	const PipeConfig cfg = { .max_bytes = MAX_BYTES };
	struct file *files = calloc((size_t)argc, sizeof(*files));
	int fd, status = 0;
	char buf[65536];
	Pipe *pipe;
	pid_t child;
	size_t n;

	must(q_pipe_create(&cfg, &pipe), "q_pipe_create");
	fd = q_pipe_share(pipe);
	must(fd >= 0 ? Q_OK : Q_ERR_LIMIT, "q_pipe_share");
	child = fork();
	if (child == 0)
		count(fd);
	close(fd);
	for (int i = 1; i < argc; i++) {
		files[i].path = argv[i];
		must(q_pipe_reader_open(pipe, &files[i].reader), "q_pipe_reader_open");
		if (pthread_create(&files[i].thread, NULL, copy, &files[i]) != 0)
			return 1;
	}
	while ((n = fread(buf, 1, sizeof(buf), stdin)) != 0)
		must(q_pipe_write(pipe, buf, n, NULL, 0), "q_pipe_write");
	q_pipe_destroy(pipe); /* closes it: the readers come to the end */
	for (int i = 1; i < argc; i++)
		pthread_join(files[i].thread, NULL);
	free(files);
	return child > 0 && waitpid(child, &status, 0) == child && status == 0 ? 0 : 1;
}
