/* SPDX-License-Identifier: Apache-2.0 */
/* when.c - seconds of Python as times of the library. */
#include "module.h"

#include <math.h>
#include <time.h>

int64_t pq_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Seconds, at most 10^9 of them. */
static int seconds_of(PyObject *timeout, double *out)
{
	const double seconds = PyFloat_AsDouble(timeout);

	if (seconds == -1.0 && PyErr_Occurred() != NULL)
		return -1;
	if (isnan(seconds)) {
		PyErr_SetString(PyExc_ValueError, "gpuq: timeout is not a number");
		return -1;
	}
	*out = seconds < 0 ? 0 : seconds > 1e9 ? 1e9 : seconds;
	return 0;
}

int pq_until(PyObject *timeout, int64_t *out_ns)
{
	double seconds;

	*out_ns = PQ_FOR_EVER;
	if (timeout == NULL || timeout == Py_None)
		return 0;
	if (seconds_of(timeout, &seconds) != 0)
		return -1;
	*out_ns = seconds == 0 ? 0 : pq_now_ns() + (int64_t)(seconds * 1e9);
	return 0;
}

uint32_t pq_slice_ms(int64_t until)
{
	int64_t left;

	if (until == PQ_FOR_EVER)
		return PQ_SLICE_MS;
	if (until == 0)
		return 0;
	left = until - pq_now_ns();
	if (left <= 0)
		return 0;
	left = (left + 999999) / 1000000;
	return left < PQ_SLICE_MS ? (uint32_t)left : PQ_SLICE_MS;
}

int pq_goes_on(int64_t until)
{
	if (until != PQ_FOR_EVER && pq_now_ns() >= until)
		return 0;
	return PyErr_CheckSignals() == 0 ? 1 : -1;
}

static bool in_main_thread(void)
{
	PyObject *thread = PyObject_CallFunctionObjArgs(pq_python.main_thread, NULL);
	PyObject *ident = thread != NULL ? PyObject_GetAttrString(thread, "ident") : NULL;
	const unsigned long number = ident != NULL ? PyLong_AsUnsignedLong(ident) : 0;

	Py_XDECREF(ident);
	Py_XDECREF(thread);
	if (PyErr_Occurred() != NULL) {
		PyErr_Clear();
		return true; /* to look for signals does no harm */
	}
	return number == PyThread_get_thread_ident();
}

uint32_t pq_wait_ms(int64_t until)
{
	const uint32_t ms = pq_slice_ms(until);
	int64_t left;

	if (ms < PQ_SLICE_MS || in_main_thread())
		return ms != 0 ? ms : 1;
	if (until == PQ_FOR_EVER)
		return UINT32_MAX;
	left = (until - pq_now_ns()) / 1000000 + 1;
	return left < 1 ? 1 : left < UINT32_MAX ? (uint32_t)left : UINT32_MAX - 1;
}

int pq_timeout_ms(PyObject *timeout, uint32_t *out)
{
	double seconds;

	*out = UINT32_MAX;
	if (timeout == NULL || timeout == Py_None)
		return 0;
	if (seconds_of(timeout, &seconds) != 0)
		return -1;
	*out = seconds >= 4e6 ? UINT32_MAX - 1 : (uint32_t)ceil(seconds * 1000);
	return 0;
}
