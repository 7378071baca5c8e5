/* SPDX-License-Identifier: Apache-2.0 */
/* program.c - libgpuq.a three times in one process, each copy its own, and names like internal
 * ones. */
#include <gpuq/gpuq.h>

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

int inside_echo(void);
const void *inside_address(void);

/* Names of the library's own functions. Whoever got these in place of those would end here. */
void gq__fail(void);
void gq__accepted(void);
void gq__now_ns(void);
void gq__free(void);
void gq__fail(void)
{
	abort();
}
void gq__accepted(void)
{
	abort();
}
void gq__now_ns(void)
{
	abort();
}
void gq__free(void)
{
	abort();
}

int main(int argc, char **argv)
{
	const QueueConfig cfg = { .capacity = 3 };
	void *module = argc > 1 ? dlopen(argv[1], RTLD_NOW | RTLD_LOCAL) : NULL;
	int (*module_echo)(void) = NULL;

	if (module != NULL)
		*(void **)&module_echo = dlsym(module, "inside_echo");
	if (module_echo == NULL) {
		fprintf(stderr, "%s\n", dlerror());
		return 1;
	}
	if (!inside_echo() || !module_echo()) {
		fprintf(stderr, "an inner copy did not work\n");
		return 1;
	}
	if (q_init(&cfg) != NULL || q_last_error()[0] == '\0') /* it fails, by way of gq__fail() */
		return 1;
	if (inside_address() == (const void *)(uintptr_t)&q_init) {
		fprintf(stderr, "the library uses the program's copy\n");
		return 1;
	}
	return 0;
}
