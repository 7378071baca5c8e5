#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# produce.sh - a producer for gpuq-redis that uses nothing but redis-cli: sends its arguments, waits for each result.
#
# sh produce.sh one two; REDIS_PORT is the server's port, by default 6379.
# The workers write results to hashes: gpuq-redis worker --stream asked --results hash:answer: ...
# redis-cli makes one line of a result, and quotes the bytes that are no text: it is for looking, not for binary data.
set -eu

ask() {
	redis-cli -e -p "${REDIS_PORT:-6379}" "$@"
}

for message in "$@"; do
	id=$(ask XADD asked '*' payload "$message")
	until [ "$(ask EXISTS "answer:$id")" = 1 ]; do
		sleep 0.05
	done
	echo "$message: $(ask --no-raw HGET "answer:$id" result)"
done
