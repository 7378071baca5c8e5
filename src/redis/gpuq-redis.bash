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

# What bash has cut at colons is one word again: _gpuq_redis_line, of which the last is half typed; _gpuq_redis_kept is the part
# of it that bash leaves as it is, so that no answer may have it.
_gpuq_redis_join() {
	local i word cut=no line=${COMP_LINE-}
	line=${line:0:${COMP_POINT:-0}}
	_gpuq_redis_line=()
	for ((i = 0; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [ "$i" -gt 0 ] && { [ $cut = yes ] || [[ $word == :* ]]; } &&
			[[ -z $line || ($line == *"${_gpuq_redis_line[-1]}$word"* && $line$word != *[[:blank:]]) ]]; then
			_gpuq_redis_line[-1]+=$word
		else
			_gpuq_redis_line+=("$word")
		fi
		cut=no
		[[ $word != *: ]] || cut=yes
	done
	_gpuq_redis_kept=${_gpuq_redis_line[-1]}
	[[ $word != *[!:]* ]] || _gpuq_redis_kept=${_gpuq_redis_kept%"$word"}
}

# Without what bash has kept.
_gpuq_redis_strip() {
	local i
	for i in "${!COMPREPLY[@]}"; do
		COMPREPLY[i]=${COMPREPLY[i]#"$_gpuq_redis_kept"}
	done
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
	local typed before command _gpuq_redis_line _gpuq_redis_kept
	local commands="worker send results dlq status doctor bench"
	_gpuq_redis_join
	typed=${_gpuq_redis_line[-1]}
	before=${_gpuq_redis_line[-2]}
	COMPREPLY=()
	if [ ${#_gpuq_redis_line[@]} -eq 2 ]; then
		_gpuq_redis_words "$commands help --help --version" "$typed"
		return
	fi
	command=${_gpuq_redis_line[1]}
	if [ "$command" = help ]; then
		_gpuq_redis_words "$commands" "$typed"
	elif _gpuq_redis_value "$command" "$before" "$typed"; then
		:
	elif [[ $typed = -* ]]; then
		_gpuq_redis_words "$(_gpuq_redis_options "$command")" "$typed"
	elif [ "$command" = dlq ] && [ ${#_gpuq_redis_line[@]} -eq 3 ]; then
		_gpuq_redis_words "ls show replay purge" "$typed"
	elif [ "$command" = send ]; then
		_gpuq_redis_files "$typed"
	fi
	_gpuq_redis_strip
}

complete -F _gpuq_redis gpuq-redis
