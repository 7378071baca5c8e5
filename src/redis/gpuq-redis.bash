# SPDX-License-Identifier: Apache-2.0
# gpuq-redis.bash - completion of the program gpuq-redis for bash: installed as completions/gpuq-redis.

_gpuq_redis_words() {
	local word
	COMPREPLY=()
	while IFS= read -r word; do
		COMPREPLY+=("$word")
	done < <(compgen -W "$1" -- "$2")
}

_gpuq_redis_files() {
	local path
	compopt -o filenames 2>/dev/null || : # not while it is tested
	COMPREPLY=()
	while IFS= read -r path; do
		COMPREPLY+=("$path")
	done < <(compgen -f -- "$1")
}

# _gpuq_redis_value COMMAND OPTION TYPED: what may follow the option. Status 1: it takes no value.
_gpuq_redis_value() {
	case $2 in
	-p | --processor)
		_gpuq_redis_files "$3"
		local files=("${COMPREPLY[@]}")
		_gpuq_redis_words "crc32c echo sha256 vecdot" "$3"
		COMPREPLY+=("${files[@]}")
		;;
	-d | --device) _gpuq_redis_words "auto cpu cuda" "$3" ;;
	--mode)
		if [ "$1" = worker ]; then
			_gpuq_redis_words "stream list list-simple" "$3"
		else
			_gpuq_redis_words "stream list" "$3"
		fi
		;;
	--ack) _gpuq_redis_words "fenced atomic plain" "$3" ;;
	--case) _gpuq_redis_words "ack plain atomic fenced" "$3" ;;
	--split | -s) _gpuq_redis_words "lines files 4K 64K 1M" "$3" ;;
	--format | -f) _gpuq_redis_words "hex text raw json" "$3" ;;
	--data | --password-file) _gpuq_redis_files "$3" ;;
	--shard-by) _gpuq_redis_words "turn payload" "$3" ;;
	--stream | --url | --sentinel | --cluster | --shards | --group | --consumer | --field | --priority-field | --opcode-field | --results | \
		--result-ttl | --dlq | --max-deliveries | --lease-ms | --batch | --batch-delay-us | --drain-ms | \
		--metrics | --slots | --slot-bytes | --max-messages | --maxlen | --rate | --messages | --bytes | --runs | \
		--latency) COMPREPLY=() ;;
	*) return 1 ;;
	esac
}

_gpuq_redis_options() {
	local common="--stream --url --sentinel --cluster --shards --password-file --help"
	case $1 in
	worker)
		echo "$common --mode --processor --data --group --consumer --field --priority-field --opcode-field \
			--results --result-ttl --ack --dlq --max-deliveries --lease-ms --batch --batch-delay-us \
			--drain-ms --metrics --device --slots --slot-bytes --until-empty --max-messages --quiet"
		;;
	send) echo "$common --mode --field --split --maxlen --rate --shard-by --quiet" ;;
	results) echo "$common --results --follow --format" ;;
	dlq) echo "$common --dlq --mode --field --all" ;;
	bench) echo "--stream --url --password-file --help --processor --messages --bytes --batch --runs --latency --case --json --smoke" ;;
	status) echo "$common --group --dlq --json" ;;
	doctor) echo "$common --group --dlq" ;;
	esac
}

_gpuq_redis() {
	local typed=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} command
	local commands="worker send results dlq status doctor bench"
	COMPREPLY=()
	if [ "$COMP_CWORD" -eq 1 ]; then
		_gpuq_redis_words "$commands help --help --version" "$typed"
		return
	fi
	command=${COMP_WORDS[1]}
	if [ "$command" = help ]; then
		_gpuq_redis_words "$commands" "$typed"
	elif _gpuq_redis_value "$command" "$before" "$typed"; then
		:
	elif [[ $typed = -* ]]; then
		_gpuq_redis_words "$(_gpuq_redis_options "$command")" "$typed"
	elif [ "$command" = dlq ] && [ "$COMP_CWORD" -eq 2 ]; then
		_gpuq_redis_words "ls show replay purge" "$typed"
	elif [ "$command" = send ]; then
		_gpuq_redis_files "$typed"
	fi
}

complete -F _gpuq_redis gpuq-redis
