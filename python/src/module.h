/* SPDX-License-Identifier: Apache-2.0 */
/*
 * module.h - what the files of the extension module share.
 *
 * The GIL is the module's one lock: whatever is not the library's is read and written with it held.
 * docs/design/python.md has the rules.
 */
#ifndef GPUQ_PYTHON_MODULE_H
#define GPUQ_PYTHON_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <gpuq/gpuq.h>
#include <gpuq/notify.h>
#include <gpuq/pipe.h>
#include <gpuq/ring.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if PY_VERSION_HEX < 0x030a0000
static inline PyObject *Py_NewRef(PyObject *object)
{
	Py_INCREF(object);
	return object;
}
#endif

/* ---- what gpuq/__init__.py hands over: module.c ------------------------------------------- */

struct pq_python {
	PyObject *errors;          /* dict: status number to exception class */
	PyObject *open_error;      /* class gpuq.OpenError */
	PyObject *future;          /* class gpuq.Future */
	PyObject *stdlib_future;   /* class concurrent.futures.Future */
	PyObject *condition;       /* class threading.Condition */
	PyObject *allocate_lock;   /* _thread.allocate_lock */
	PyObject *cancelled_error; /* concurrent.futures.CancelledError */
	PyObject *run_callback;    /* (callback, future): calls it, logs what it raises */
	PyObject *deliver;         /* (list of results): hands them to their event loops */
	PyObject *run_hook;        /* (function, id, tag, status, length): likewise */
	PyObject *main_thread;     /* threading.main_thread */
};
extern struct pq_python pq_python;

/* The module's types; NULL before they are made. */
extern PyTypeObject *pq_handle_type, *pq_queue_type, *pq_future_type, *pq_futures_type,
	*pq_view_type, *pq_reservation_type, *pq_descriptor_type, *pq_tensor_type, *pq_notify_type,
	*pq_subscription_type, *pq_pipe_type, *pq_pool_type;

/* Makes a type of `spec` and adds it to the module. @return 0, or -1 with an exception. */
int pq_add_type(PyObject *module, PyType_Spec *spec, PyTypeObject **out);
int pq_add_queue_types(PyObject *module);
int pq_add_future_types(PyObject *module);
int pq_add_region_types(PyObject *module);
int pq_add_ring_types(PyObject *module);
int pq_add_notify_types(PyObject *module);
int pq_add_pipe_types(PyObject *module);

/* For objects of the module's own types; NULL does nothing. */
static inline void pq_hold(void *object)
{
	Py_XINCREF((PyObject *)object);
}
static inline void pq_drop(void *object)
{
	Py_XDECREF((PyObject *)object);
}

/* An object of a type that has no further initialisation: zeroed, counted, tracked. */
void *pq_alloc(PyTypeObject *type);
/* The end of a tp_dealloc. */
void pq_free(PyObject *object);

/* METH_FASTCALL functions in a table of PyMethodDef. */
#define PQ_FAST(function) ((PyCFunction)(void (*)(void))(function))

/* ---- errors: errors.c ---------------------------------------------------------------------- */

/* A new exception of the class of `status`, or NULL with another exception set. */
PyObject *pq_make_error(QueueStatus status, const char *text);
/* Raises it, with q_last_error()'s sentence. @return NULL. */
PyObject *pq_raise(QueueStatus status);
PyObject *pq_raise_text(QueueStatus status, const char *text);
/* None, or raises. */
PyObject *pq_none_or_raise(QueueStatus status);
/* Raises it with an attribute more. @return NULL. */
PyObject *pq_raise_with(QueueStatus status, const char *name, long long value);
/* Likewise: what is closed cannot be used. */
PyObject *pq_raise_closed(const char *what);
/* The exception that is set, taken. */
PyObject *pq_take_exception(void);

/* ---- time: when.c --------------------------------------------------------------------------- */

#define PQ_FOR_EVER INT64_MAX
/* How long a call waits before it looks for signals. */
#define PQ_SLICE_MS 100

int64_t pq_now_ns(void);
/* A time-out, seconds or None, as a point on CLOCK_MONOTONIC; 0: do not wait. @return 0 or -1. */
int pq_until(PyObject *timeout, int64_t *out_ns);
/* Milliseconds from now to `until`, at most a slice. */
uint32_t pq_slice_ms(int64_t until);
/* Whether a wait that timed out goes on. @return 1; 0: time is over; -1: an exception, of a signal.
 */
int pq_goes_on(int64_t until);
/* For waits that another thread can end: a slice in the main thread, which looks for signals, all
 * the time that is left elsewhere. */
uint32_t pq_wait_ms(int64_t until);
/* For calls that end by themselves: milliseconds, UINT32_MAX for ever. */
int pq_timeout_ms(PyObject *timeout, uint32_t *out);

/* ---- messages: message.c ------------------------------------------------------------------- */

/* The bytes of a message, held until pq_message_release(). */
struct pq_message {
	const void *data;
	size_t len;
	Py_buffer view; /* view.obj NULL: nothing to give back */
};
int pq_message_get(PyObject *object, struct pq_message *out);
void pq_message_release(struct pq_message *message);
/* Memory to write to. */
int pq_writable(PyObject *object, Py_buffer *out);
/* Copies; without the GIL if it is much. */
void pq_copy(void *to, const void *from, size_t len);
#define PQ_MUCH ((size_t)128 * 1024)

struct pq_options {
	EnqueueOptions c;
	int64_t until;  /* how long to wait for a slot */
	PyObject *into; /* borrowed; NULL: bytes */
	bool view;
};
/* Keyword arguments of submit() and its like; values[] are those behind `positional`. */
int pq_parse_options(PyObject *const *values, PyObject *names, struct pq_options *out);
int pq_parse_priority(PyObject *value, uint32_t *out);
/* 0 to `most`; the exception names it. */
int pq_parse_number(PyObject *value, const char *name, uint64_t most, uint64_t *out);
int pq_init_names(void);

/* ---- what is under way: pending.c ---------------------------------------------------------- */

enum { PQ_FUTURE = -1, PQ_LOOP = -2, PQ_LOOP_VIEW = -3 }; /* or the index in a Futures */

struct pq_pending {
	uint64_t id;
	PyObject *owner; /* counted: a Future, a Futures, or an event loop's future */
	Py_ssize_t index;
};
struct pq_table {
	struct pq_pending *entries; /* id 0: free */
	size_t mask;
	size_t count;
};
int pq_table_init(struct pq_table *table, uint32_t capacity);
void pq_table_free(struct pq_table *table);
/* Takes a reference of its own. There is room for as many as the queue has slots. */
void pq_table_add(struct pq_table *table, uint64_t id, PyObject *owner, Py_ssize_t index);
/* The reference becomes the caller's. */
bool pq_table_take(struct pq_table *table, uint64_t id, struct pq_pending *out);
/* One after the other, from *at on, which begins as 0. */
bool pq_table_take_next(struct pq_table *table, size_t *at, struct pq_pending *out);

struct pq_future;

/* ---- queues ---------------------------------------------------------------------------------- */

/* The library's queue. It lives as long as a queue, a thread, a view or a future refers to it. */
struct pq_handle {
	PyObject_HEAD GpuQueue *q;
	struct pq_table pending;
	uint32_t capacity, slot_bytes, result_bytes;
	PyObject *keep;          /* the processor, the regions: what must outlive the queue */
	struct pq_hook *hooks;   /* of on_completion() */
	struct pq_round *rounds; /* of completions, those that threads are at now */
};

struct pq_queue {
	PyObject_HEAD struct pq_handle *handle; /* NULL: closed */
	PyObject *table;                        /* the regions bound, or NULL */
	bool served;                            /* the completion thread has been started */
	bool closing;                           /* nothing more is accepted */
};

/* The queue's handle, counted; NULL with an exception once it is closed; _open: also while it is
 * being closed. _any: NULL without an exception. */
struct pq_handle *pq_handle_of(struct pq_queue *queue);
struct pq_handle *pq_handle_open(struct pq_queue *queue);
struct pq_handle *pq_handle_any(struct pq_queue *queue);

/* hook.c: completions as events, and functions called for them. */
PyObject *pq_queue_subscribe(PyObject *self, PyObject *args);
PyObject *pq_queue_add_hook(PyObject *self, PyObject *args);
PyObject *pq_queue_remove_hook(PyObject *self, PyObject *number);
/* Frees what the queue has left behind; it has been shut down. */
void pq_hooks_free(struct pq_hook *hooks);
/* Whether this thread is inside a hook of that queue. */
bool pq_in_hook_of(const GpuQueue *q);
PyObject *pq_end_hooks(PyObject *module, PyObject *unused);

/* submit.c */
PyObject *pq_queue_submit(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names);
PyObject *pq_queue_submit_many(PyObject *self, PyObject *const *args, Py_ssize_t n,
			       PyObject *names);
PyObject *pq_queue_submit_loop(PyObject *self, PyObject *const *args, Py_ssize_t n,
			       PyObject *names);
PyObject *pq_queue_reserve(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names);
/* Waits for a slot without the GIL, as q_reserve(). @return 0, or -1 with an exception. */
int pq_reserve_slot(struct pq_handle *handle, size_t len, const struct pq_options *options,
		    void **out, uint64_t *out_id);

/* raw.c: calls by id, without futures: gpuq.compat. */
PyObject *pq_raw_enqueue(PyObject *self, PyObject *args);
PyObject *pq_raw_take(PyObject *self, PyObject *id);
PyObject *pq_raw_poll(PyObject *self, PyObject *most);

/* complete.c: one round of results. `loop`: the event loop that runs in this thread, or NULL.
 * @return how many messages, or -1 with an exception: the device has failed. */
Py_ssize_t pq_complete(struct pq_handle *handle, PyObject *loop);
/* Ends every message under way with `error`. In a forked child no thread waits for one, and locks
 * may be held by threads of the parent. */
void pq_fail_all(struct pq_handle *handle, PyObject *error, bool forked);
PyObject *pq_serve(PyObject *module, PyObject *handle);
/* For a wait in a callback: takes the results of this thread's queues, as no other thread may be
 * there to do it. @return whether this thread is in a callback. */
bool pq_serve_meanwhile(void);
PyObject *pq_serve_meanwhile_py(PyObject *module, PyObject *unused);
/* Whether a future that ends now leaves its callbacks to an outer round; then pq_put_off() does. */
bool pq_in_inner_round(void);
void pq_put_off(struct pq_future *future, PyObject *callbacks);
#define PQ_MEANWHILE_MS 1 /* how long such a wait waits at a time */

/* view.c: a memoryview of a result in place; its slot is freed with it. */
PyObject *pq_view_new(struct pq_handle *handle, const Completion *done);
int pq_add_view_type(PyObject *module);
int pq_add_reservation_type(PyObject *module);

/* ---- futures: future.c, futures.c ------------------------------------------------------------ */

enum pq_state { PQ_PENDING, PQ_CANCELLED, PQ_CANCELLED_NOTIFIED, PQ_FINISHED };

struct pq_future {
	PyObject_HEAD PyObject *result, *exception; /* at most one */
	PyObject *condition;                        /* made when the standard library asks for it */
	PyObject *waiters;                          /* likewise */
	PyObject *callbacks;                        /* list, or NULL */
	PyObject *locks; /* list of those of threads that wait, or NULL */
	PyObject *queue; /* counted, while the message is under way */
	Py_buffer *into;
	uint64_t id;
	uint8_t state; /* enum pq_state */
	bool view;
};

struct pq_futures_item {
	PyObject *value; /* the result or an exception; NULL: neither yet */
	uint64_t id;
	bool failed; /* value is an exception */
};
struct pq_futures {
	PyObject_HEAD PyObject *queue; /* counted, while messages are under way */
	PyObject *locks;
	struct pq_futures_item *items;
	struct pq_future **made; /* those that were asked for; NULL: none */
	Py_ssize_t count, left;
	bool view;
};

struct pq_future *pq_future_new(PyObject *queue);
/* Calls what a list has; what is raised is logged. */
void pq_call_back(struct pq_future *future, PyObject *callbacks);
/* In a forked child: forgets the threads that wait, and their locks. */
void pq_future_forget_threads(struct pq_future *future);
/* Takes over `value`. */
void pq_future_finish(struct pq_future *future, PyObject *value, bool failed);
struct pq_futures *pq_futures_new(PyObject *queue, Py_ssize_t count);
void pq_futures_finish(struct pq_futures *futures, Py_ssize_t index, PyObject *value, bool failed);
int pq_add_futures_type(PyObject *module);

/* Waits until *done. @return 1: done, 0: timed out, -1: an exception. */
int pq_wait_until(PyObject **locks, bool (*done)(const void *), const void *of, PyObject *timeout);
void pq_wake(PyObject **locks);

/* ---- regions, rings -------------------------------------------------------------------------- */

struct pq_regions {
	PyObject_HEAD RegionTable *table;
	PyObject *devices; /* set: the ids of regions in a GPU's memory */
	Py_buffer memory;  /* of a table in shared memory */
};
struct pq_descriptor {
	PyObject_HEAD PyObject *table; /* struct pq_regions */
	MessageDescriptor c;
	bool received; /* and not yet released */
	Py_ssize_t exports;
};
RegionTable *pq_regions_of(PyObject *table);
PyObject *pq_descriptor_new(PyObject *table, const MessageDescriptor *c, bool received);
PyObject *pq_dlpack(PyObject *module, PyObject *capsule);
int pq_add_tensor_type(PyObject *module);

/* ---- notifications, pipes ---------------------------------------------------------------------
 */

struct pq_subscription {
	PyObject_HEAD NotifySubscription *sub; /* NULL: closed */
	Py_ssize_t users;                      /* threads inside a call without the GIL */
	bool closing;
};
int pq_add_subscription_type(PyObject *module);

struct pq_pipe {
	PyObject_HEAD Pipe *p;   /* NULL: not made */
	PyObject *pool;          /* which has the handle; or NULL */
	PyThread_type_lock lock; /* the writing thread's, where a write may wait */
	unsigned long owner;     /* that thread's number; 0: nobody has it */
	Py_ssize_t users;        /* threads inside a call without the GIL */
	bool waits;              /* policy Q_PIPE_WAIT */
};
struct pq_pool {
	PyObject_HEAD PipePool *pool;
};
int pq_add_reader_type(PyObject *module);

#endif /* GPUQ_PYTHON_MODULE_H */
