/* SPDX-License-Identifier: Apache-2.0 */
/*
 * subscription.c - class SubscriptionCore, of which gpuq.Subscription is made.
 *
 * A thread that waits comes back every tenth of a second, to look for signals and for a close().
 */
#include "module.h"

PyTypeObject *pq_subscription_type;

static NotifySubscription *open_subscription(PyObject *self)
{
	struct pq_subscription *s = (struct pq_subscription *)self;

	if (s->sub != NULL && !s->closing)
		return s->sub;
	pq_raise_closed("subscription");
	return NULL;
}

static void end(struct pq_subscription *s)
{
	NotifySubscription *sub = s->sub;

	s->sub = NULL;
	if (sub != NULL) {
		Py_BEGIN_ALLOW_THREADS;
		q_notify_unsubscribe(sub);
		Py_END_ALLOW_THREADS;
	}
}

static PyObject *event_object(const NotifyEvent *e)
{
	return Py_BuildValue("KKLK", (unsigned long long)e->handle, (unsigned long long)e->sequence,
			     (long long)e->arg, (unsigned long long)e->lost);
}

static PyObject *receive_waiting(struct pq_subscription *s, int64_t until)
{
	PyObject *result = NULL;
	QueueStatus status;
	NotifyEvent event;
	int on;

	s->users++;
	do {
		const uint32_t ms = pq_slice_ms(until);

		Py_BEGIN_ALLOW_THREADS;
		status = q_notify_recv(s->sub, &event, ms != 0 ? ms : 1);
		Py_END_ALLOW_THREADS;
		on = status == Q_ERR_TIMEOUT && !s->closing ? pq_goes_on(until) : 0;
	} while (on == 1);
	if (status == Q_OK)
		result = event_object(&event);
	else if (s->closing)
		pq_raise_closed("subscription");
	else if (on == 0)
		pq_raise(status);
	if (--s->users == 0 && s->closing)
		end(s);
	return result;
}

/* _recv(timeout) */
static PyObject *subscription_recv(PyObject *self, PyObject *timeout)
{
	NotifySubscription *sub = open_subscription(self);
	QueueStatus status;
	NotifyEvent event;
	int64_t until;

	if (sub == NULL || pq_until(timeout, &until) != 0)
		return NULL;
	status = q_notify_recv(sub, &event, 0);
	if (status == Q_OK)
		return event_object(&event);
	if (status != Q_ERR_EMPTY || until == 0)
		return pq_raise(status);
	return receive_waiting((struct pq_subscription *)self, until);
}

/* _take(): None if there is nothing */
static PyObject *subscription_take(PyObject *self, PyObject *unused)
{
	NotifySubscription *sub = open_subscription(self);
	QueueStatus status;
	NotifyEvent event;

	(void)unused;
	if (sub == NULL)
		return NULL;
	status = q_notify_recv(sub, &event, 0);
	if (status == Q_OK)
		return event_object(&event);
	return status == Q_ERR_EMPTY ? Py_NewRef(Py_None) : pq_raise(status);
}

static PyObject *subscription_fileno(PyObject *self, PyObject *unused)
{
	NotifySubscription *sub = open_subscription(self);
	int fd;

	(void)unused;
	if (sub == NULL)
		return NULL;
	fd = q_notify_fd(sub);
	return fd >= 0 ? PyLong_FromLong(fd) : pq_raise(Q_ERR_LIMIT);
}

static PyObject *subscription_close(PyObject *self, PyObject *unused)
{
	struct pq_subscription *s = (struct pq_subscription *)self;

	(void)unused;
	if (!s->closing) {
		s->closing = true;
		if (s->users == 0)
			end(s);
	}
	Py_RETURN_NONE;
}

static PyObject *get_closed(PyObject *self, void *unused)
{
	struct pq_subscription *s = (struct pq_subscription *)self;

	(void)unused;
	return PyBool_FromLong(s->sub == NULL || s->closing);
}

static void subscription_dealloc(PyObject *self)
{
	end((struct pq_subscription *)self);
	pq_free(self);
}

static PyMethodDef methods[] = {
	{ "_recv", subscription_recv, METH_O, NULL },
	{ "_take", subscription_take, METH_NOARGS, NULL },
	{ "_close", subscription_close, METH_NOARGS, NULL },
	{ "fileno", subscription_fileno, METH_NOARGS,
	  "fileno()\n--\n\n"
	  "A descriptor that is readable while there is an event, or the end, to receive.\n\n"
	  "For event loops. It is the subscription's: never read it or close it. Raises "
	  "gpuq.LimitError: no\ndescriptor is to be had." },
	{ NULL, NULL, 0, NULL },
};
static PyGetSetDef attributes[] = {
	{ "closed", get_closed, NULL, "Whether close() has been called.", NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};
static PyType_Slot slots[] = {
	{ Py_tp_dealloc, subscription_dealloc },
	{ Py_tp_methods, methods },
	{ Py_tp_getset, attributes },
	{ 0, NULL },
};
static PyType_Spec spec = {
	.name = "gpuq._gpuq.SubscriptionCore",
	.basicsize = sizeof(struct pq_subscription),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = slots,
};

int pq_add_subscription_type(PyObject *module)
{
	return pq_add_type(module, &spec, &pq_subscription_type);
}
