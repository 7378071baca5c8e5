/* SPDX-License-Identifier: Apache-2.0 */
/* config.c - checking a configuration and filling in its defaults. */
#include "host/queue/config.h"

#include "host/base/error.h"
#include "host/trace/trace.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static bool refuse(const char *field, uint64_t value, const char *range)
{
	gq__failf(Q_ERR_INVALID_ARG, "%s is %" PRIu64 "; allowed: %s", field, value, range);
	return false;
}

/* A number from the environment; false only when it is set and not in range. */
static bool from_environment(const char *name, uint32_t min, uint32_t max, uint32_t *value)
{
	const char *text = getenv(name);
	unsigned long long number;
	char *end;

	if (text == NULL || text[0] == '\0')
		return true;
	errno = 0;
	number = strtoull(text, &end, 10);
	if (errno != 0 || *end != '\0' || text[0] == '-' || number < min || number > max) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "environment variable %s is '%.64s'; allowed: %" PRIu32 " to %" PRIu32,
			  name, text, min, max);
		return false;
	}
	*value = (uint32_t)number;
	return true;
}

/* One of up to four names for 0, 1, ...; false only when it is set and none of them. */
static bool name_from_environment(const char *variable, const char *const names[4], uint32_t *value)
{
	const char *text = getenv(variable);

	if (text == NULL || text[0] == '\0')
		return true;
	for (uint32_t i = 0; i < 4 && names[i] != NULL; i++) {
		if (strcmp(text, names[i]) == 0) {
			*value = i;
			return true;
		}
	}
	gq__failf(Q_ERR_INVALID_ARG, "environment variable %s is '%.64s'; allowed: %s, %s, %s%s%s",
		  variable, text, names[0], names[1], names[2], names[3] != NULL ? ", " : "",
		  names[3] != NULL ? names[3] : "");
	return false;
}

/* N or N:MS. */
static bool bounded_from_environment(uint32_t *messages, uint32_t *ms)
{
	const char *text = getenv("GPUQ_BOUNDED");
	unsigned long long n, t = 0;
	char *end;

	if (text == NULL || text[0] == '\0')
		return true;
	errno = 0;
	n = strtoull(text, &end, 10);
	if (*end == ':' && end[1] != '\0')
		t = strtoull(end + 1, &end, 10);
	if (errno != 0 || *end != '\0' || strchr(text, '-') != NULL || n < 1 ||
	    n > Q_MAX_CAPACITY || t > UINT32_MAX) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "environment variable GPUQ_BOUNDED is '%.64s'; allowed: MESSAGES or "
			  "MESSAGES:MS, 1 to %u and 0 to %" PRIu32,
			  text, Q_MAX_CAPACITY, UINT32_MAX);
		return false;
	}
	*messages = (uint32_t)n;
	if (*ms == 0)
		*ms = (uint32_t)t;
	return true;
}

static bool check_ranges(const QueueConfig *cfg)
{
	if (cfg->capacity == 0 || cfg->capacity > Q_MAX_CAPACITY ||
	    (cfg->capacity & (cfg->capacity - 1)) != 0)
		return refuse("capacity", cfg->capacity, "a power of two, 1 to 1048576");
	if (cfg->slot_bytes == 0 || cfg->slot_bytes > Q_MAX_SLOT_BYTES)
		return refuse("slot_bytes", cfg->slot_bytes, "1 to 16777216");
	if (cfg->result_bytes > Q_MAX_SLOT_BYTES)
		return refuse("result_bytes", cfg->result_bytes,
			      "0 (same as slot_bytes) to 16777216");
	if (cfg->device > Q_DEVICE_REMOTE)
		return refuse("device", cfg->device, "0 (auto), 1 (cpu), 2 (cuda), 3 (remote)");
	if (cfg->endpoint != NULL && cfg->device != Q_DEVICE_REMOTE) {
		gq__failf(Q_ERR_INVALID_ARG,
			  "endpoint is '%.64s'; allowed: NULL unless device is 3 (remote)",
			  cfg->endpoint);
		return false;
	}
	if (cfg->granularity > Q_PER_BLOCK)
		return refuse("granularity", cfg->granularity, "0 (thread), 1 (warp), 2 (block)");
	if (cfg->consumers > Q_MAX_CONSUMERS)
		return refuse("consumers", cfg->consumers, "0 (device's default) to 1024");
	if (cfg->transport > Q_TRANSPORT_BAR1)
		return refuse("transport", cfg->transport,
			      "0 (auto), 1 (pull), 2 (copy), 3 (bar1)");
	if (cfg->copy_from != 0 && cfg->transport != Q_TRANSPORT_COPY)
		return refuse("copy_from", cfg->copy_from, "0 unless transport is 2 (copy)");
	if (cfg->bounded_messages > Q_MAX_CAPACITY)
		return refuse("bounded_messages", cfg->bounded_messages, "0 (off) to 1048576");
	if (cfg->bounded_ms != 0 && cfg->bounded_messages == 0)
		return refuse("bounded_ms", cfg->bounded_ms, "0 unless bounded_messages is set");
	if ((cfg->flags & ~(Q_TRACE | Q_ONE_PRODUCER)) != 0)
		return refuse("flags", cfg->flags, "0, Q_TRACE (1), Q_ONE_PRODUCER (2)");
	if (cfg->trace_records > Q_MAX_TRACE_RECORDS)
		return refuse("trace_records", cfg->trace_records, "0 (262144) to 16777216");
	if (cfg->trace_records != 0 && (cfg->flags & Q_TRACE) == 0)
		return refuse("trace_records", cfg->trace_records, "0 without Q_TRACE in flags");
	if (cfg->processor_data == NULL && cfg->processor_data_bytes != 0)
		return refuse("processor_data_bytes", cfg->processor_data_bytes,
			      "0 when processor_data is NULL");
	if (cfg->processor_data != NULL && cfg->processor_data_bytes == 0)
		return refuse("processor_data_bytes", 0, "at least 1 when processor_data is set");
	return GQ_CHECK_RESERVED(cfg, reserved) == Q_OK;
}

static bool resolve_device(QueueConfig *cfg)
{
	/* What begins with "unix:" has been taken: the last is for the message alone. */
	static const char *const devices[4] = { "auto", "cpu", "cuda", "unix:PATH[#QUEUE]" };
	static const char *const transports[4] = { "auto", "pull", "copy", "bar1" };

	const char *device = getenv("GPUQ_DEVICE");

	if (cfg->device == Q_DEVICE_AUTO && device != NULL && strncmp(device, "unix:", 5) == 0) {
		cfg->device = Q_DEVICE_REMOTE;
		cfg->endpoint = device;
	}
	if (cfg->device == Q_DEVICE_AUTO &&
	    !name_from_environment("GPUQ_DEVICE", devices, &cfg->device))
		return false;
	if (cfg->transport == Q_TRANSPORT_AUTO &&
	    !name_from_environment("GPUQ_TRANSPORT", transports, &cfg->transport))
		return false;
	if (cfg->bounded_messages == 0 &&
	    !bounded_from_environment(&cfg->bounded_messages, &cfg->bounded_ms))
		return false;
	if (cfg->transport == Q_TRANSPORT_COPY && cfg->copy_from == 0)
		cfg->copy_from = 1;
	if (cfg->bounded_messages != 0 && cfg->bounded_ms == 0)
		cfg->bounded_ms = 1000;
	return true;
}

static bool resolve_trace_records(QueueConfig *cfg)
{
	uint32_t records = 0;

	if ((cfg->flags & Q_TRACE) == 0 || cfg->trace_records != 0)
		return true;
	if (!from_environment("GPUQ_TRACE_RECORDS", 1, Q_MAX_TRACE_RECORDS, &records))
		return false;
	cfg->trace_records = records != 0 ? records : Q_DEFAULT_TRACE_RECORDS;
	return true;
}

bool gq__resolve_config(const QueueConfig *cfg, QueueConfig *out)
{
	if (cfg == NULL) {
		gq__fail(Q_ERR_INVALID_ARG, "cfg is NULL; allowed: a QueueConfig");
		return false;
	}
	*out = *cfg;
	if (!check_ranges(out) || !resolve_device(out))
		return false;
	if (out->result_bytes == 0)
		out->result_bytes = out->slot_bytes;
	if (out->consumers == 0 &&
	    !from_environment("GPUQ_CONSUMERS", 1, Q_MAX_CONSUMERS, &out->consumers))
		return false;
	if (out->idle_park_ms == 0 &&
	    !from_environment("GPUQ_IDLE_PARK_MS", 0, UINT32_MAX, &out->idle_park_ms))
		return false;
	if (gq__trace_from_environment())
		out->flags |= Q_TRACE;
	if (!resolve_trace_records(out))
		return false;
	if (out->shutdown_timeout_ms == 0)
		out->shutdown_timeout_ms = Q_DEFAULT_SHUTDOWN_TIMEOUT_MS;
	return true;
}
