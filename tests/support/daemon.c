/* SPDX-License-Identifier: Apache-2.0 */
/* daemon.c - a gpuqd for a test; see daemon.h. */
#include "daemon.h"

#include "support.h"

#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

const char *daemon_program(void)
{
	static char path[PATH_MAX];
	const char *other = getenv("GPUQ_TEST_GPUQD");
	ssize_t n;

	if (other != NULL)
		return other;
	n = readlink("/proc/self/exe", path, sizeof(path) - 32);
	assert_true(n > 0);
	path[n] = '\0';
	snprintf(strrchr(path, '/'), 32, "/../../bin/gpuqd");
	return path;
}

static void write_config(const struct daemon *d, const char *keys, const char *services)
{
	FILE *f = fopen(d->config, "w");

	assert_non_null(f);
	fprintf(f, "[gpuqd]\nsocket = %s\n%s", d->socket, keys);
	if (services != NULL)
		fprintf(f, "[services]\nsocket = %s\nuid_connect_rate = 0\n%s", d->services,
			services);
	assert_int_equal(fclose(f), 0);
}

void daemon_set_up(struct daemon *d, const char *keys, const char *services)
{
	memset(d, 0, sizeof(*d));
	snprintf(d->folder, sizeof(d->folder), "/tmp/gpuqd-XXXXXX");
	assert_non_null(mkdtemp(d->folder));
	snprintf(d->config, sizeof(d->config), "%s/c", d->folder);
	snprintf(d->socket, sizeof(d->socket), "%s/s", d->folder);
	snprintf(d->services, sizeof(d->services), "%s/v", d->folder);
	snprintf(d->endpoint, sizeof(d->endpoint), "unix:%s", d->socket);
	snprintf(d->broker, sizeof(d->broker), "unix:%s", d->services);
	write_config(d, keys, services);
	daemon_start(d);
}

void daemon_reload(struct daemon *d, const char *keys, const char *services)
{
	write_config(d, keys, services);
	assert_int_equal(kill(d->pid, SIGHUP), 0);
}

void daemon_start(struct daemon *d)
{
	char line[128];
	int out[2];

	assert_int_equal(pipe(out), 0);
	d->pid = fork();
	assert_true(d->pid >= 0);
	if (d->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out[1], STDOUT_FILENO);
		close(out[0]);
		close(out[1]);
		execl(daemon_program(), "gpuqd", "--config", d->config, (char *)NULL);
		_exit(127);
	}
	close(out[1]);
	assert_true(read(out[0], line, sizeof(line)) > 0); /* after all that it listens at */
	close(out[0]);
}

int daemon_end(struct daemon *d, int how)
{
	int status = 0;

	assert_int_equal(kill(d->pid, how), 0);
	assert_int_equal(waitpid(d->pid, &status, 0), d->pid);
	d->pid = 0;
	return status;
}

void daemon_stop(struct daemon *d)
{
	int status;

	assert_int_equal(kill(d->pid, SIGSTOP), 0);
	assert_int_equal(waitpid(d->pid, &status, WUNTRACED), d->pid);
	assert_true(WIFSTOPPED(status));
}

void daemon_tear_down(struct daemon *d)
{
	static const char *const left[] = { "c", "s", "s.lock", "v", "v.lock" };
	char path[64];

	assert_int_equal(daemon_end(d, SIGTERM), 0);
	for (unsigned i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", d->folder, left[i]);
		unlink(path);
	}
	assert_int_equal(rmdir(d->folder), 0);
}

/* Of one that has ended meanwhile: 0. */
static unsigned entries(pid_t pid, const char *what)
{
	char path[64];
	unsigned n = 0;
	DIR *at;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, what);
	at = opendir(path);
	if (at == NULL)
		return 0;
	while (readdir(at) != NULL)
		n++;
	closedir(at);
	return n > 2 ? n - 2 : 0; /* . and .. */
}

static unsigned mappings(pid_t pid)
{
	char path[64], line[512];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = fopen(path, "r");
	if (f == NULL)
		return 0;
	while (fgets(line, sizeof(line), f) != NULL)
		n += strstr(line, "gpuqd-client") != NULL;
	fclose(f);
	return n;
}

unsigned daemon_processes(const struct daemon *d, pid_t *to, unsigned most)
{
	char path[64];
	unsigned n = 0;
	const struct dirent *task;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)d->pid);
	tasks = opendir(path);
	assert_non_null(tasks);
	while ((task = readdir(tasks)) != NULL) {
		FILE *f;
		int pid;

		snprintf(path, sizeof(path), "/proc/%d/task/%.16s/children", (int)d->pid,
			 task->d_name);
		f = task->d_name[0] != '.' ? fopen(path, "r") : NULL;
		while (f != NULL && n < most && fscanf(f, "%d", &pid) == 1)
			to[n++] = pid;
		if (f != NULL)
			fclose(f);
	}
	closedir(tasks);
	return n;
}

static void add_held(struct daemon_held *to, pid_t pid)
{
	to->descriptors += entries(pid, "fd");
	to->mappings += mappings(pid);
	to->threads += entries(pid, "task");
}

struct daemon_held daemon_held(const struct daemon *d)
{
	struct daemon_held held = { 0 };
	pid_t process[16];
	const unsigned n = daemon_processes(d, process, 16);

	add_held(&held, d->pid);
	for (unsigned i = 0; i < n; i++)
		add_held(&held, process[i]);
	return held;
}

void daemon_await_held(const struct daemon *d, const struct daemon_held *what)
{
	for (unsigned i = 0;; i++) {
		const struct daemon_held now = daemon_held(d);

		if (memcmp(&now, what, sizeof(now)) == 0)
			return;
		if (i == LONG_MS)
			fail_msg("gpuqd holds %u descriptors, %u mappings and %u threads, in place "
				 "of %u, %u and %u",
				 now.descriptors, now.mappings, now.threads, what->descriptors,
				 what->mappings, what->threads);
		nap_ms(1);
	}
}
