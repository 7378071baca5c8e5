# SPDX-License-Identifier: Apache-2.0
# gpuq.bash - completion of the command gpuq for bash: installed as completions/gpuq.

# Words that begin with what has been typed.
_gpuq_words() {
	local word
	COMPREPLY=()
	while IFS= read -r word; do
		COMPREPLY+=("$word")
	done < <(compgen -W "$1" -- "$2")
}

# Paths that begin with it; readline adds the slash of a folder.
_gpuq_files() {
	local path
	compopt -o filenames 2>/dev/null || : # not while it is tested
	COMPREPLY=()
	while IFS= read -r path; do
		COMPREPLY+=("$path")
	done < <(compgen -f -- "$1")
}

# What bash has cut at colons is one word again: _gpuq_line, of which the last is half typed; _gpuq_kept is the part
# of it that bash leaves as it is, so that no answer may have it.
_gpuq_join() {
	local i word cut=no line=${COMP_LINE-}
	line=${line:0:${COMP_POINT:-0}}
	_gpuq_line=()
	for ((i = 0; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [ "$i" -gt 0 ] && { [ $cut = yes ] || [[ $word == :* ]]; } &&
			[[ -z $line || ($line == *"${_gpuq_line[-1]}$word"* && $line$word != *[[:blank:]]) ]]; then
			_gpuq_line[-1]+=$word
		else
			_gpuq_line+=("$word")
		fi
		cut=no
		[[ $word != *: ]] || cut=yes
	done
	_gpuq_kept=${_gpuq_line[-1]}
	[[ $word != *[!:]* ]] || _gpuq_kept=${_gpuq_kept%"$word"}
}

# Without what bash has kept.
_gpuq_strip() {
	local i
	for i in "${!COMPREPLY[@]}"; do
		COMPREPLY[i]=${COMPREPLY[i]#"$_gpuq_kept"}
	done
}

# _gpuq_value OPTION TYPED: what may follow the option. Status 1: it takes no value.
_gpuq_value() {
	case $1 in
	-p | --processor)
		_gpuq_files "$2"
		local files=("${COMPREPLY[@]}")
		_gpuq_words "crc32c echo sha256 vecdot" "$2"
		COMPREPLY+=("${files[@]}")
		;;
	-s | --split) _gpuq_words "lines nul files 4K 64K 1M" "$2" ;;
	-d | --device) _gpuq_words "auto cpu cuda" "$2" ;;
	-f | --format) _gpuq_words "hex text raw" "$2" ;;
	--order) _gpuq_words "input completion" "$2" ;;
	--progress) _gpuq_words "auto always never" "$2" ;;
	--tee-policy) _gpuq_words "fail wait drop evict" "$2" ;;
	--data | --trace | --files0-from | -o | --output | --tee) _gpuq_files "$2" ;;
	-c | --consumers | --slots | --slot-bytes | --result-bytes | --tee-bytes) COMPREPLY=() ;;
	*) return 1 ;;
	esac
}

_gpuq_run() {
	local typed=$1 before=$2 word
	for word in "${_gpuq_line[@]:2:${#_gpuq_line[@]}-3}"; do
		if [ "$word" = -- ]; then # all that follows is a file
			_gpuq_files "$typed"
			return
		fi
	done
	# "--split=li" comes as three words: --split, = and li
	if [ "$typed" = "=" ]; then
		typed=''
	elif [ "$before" = "=" ]; then
		before=${_gpuq_line[-3]}
	fi
	if _gpuq_value "$before" "$typed"; then
		return
	fi
	case $typed in
	-*)
		_gpuq_words "--processor --data --split --null --files0-from --skip-empty --output
			--format --names --order --device --consumers --slots --slot-bytes
			--tee --tee-policy --tee-bytes
			--result-bytes --summary --json --progress --trace --quiet --help" "$typed"
		;;
	*) _gpuq_files "$typed" ;;
	esac
}

_gpuq_pipe() {
	local typed=$1 before=$2
	case $before in
	--policy) _gpuq_words "fail wait drop evict" "$typed" ;;
	-r | --readers | -c | --chunk | --max-bytes) COMPREPLY=() ;;
	*) _gpuq_words "--readers --chunk --policy --max-bytes --help" "$typed" ;;
	esac
}

_gpuq_bench() {
	local typed=$1
	case $2 in
	-p | --processor) _gpuq_words "crc32c echo sha256 vecdot" "$typed" ;;
	-a | --arrivals) _gpuq_words "poisson constant" "$typed" ;;
	-d | --device) _gpuq_words "auto cpu cuda" "$typed" ;;
	-f | --format) _gpuq_words "table csv json gnuplot" "$typed" ;;
	-C | --concurrency | -r | --rate | -b | --bytes | -B | --batch | -e | --endpoint | --slots | -c | --consumers | \
		-w | --window | -n | --windows) COMPREPLY=() ;;
	*) _gpuq_words "--concurrency --rate --arrivals --bytes --batch --processor --device --endpoint --slots
		--consumers --window --windows --format --help" "$typed" ;;
	esac
}

_gpuq_services() {
	local typed=$1
	case $2 in
	--payload) _gpuq_files "$typed" ;;
	breaker) _gpuq_words "open close reset" "$typed" ;;
	-e | --endpoint | -f | --filter | --sessions | --uid) COMPREPLY=() ;;
	services) _gpuq_words "drain resume breaker forget --endpoint --filter --watch --stats --help" "$typed" ;;
	*) _gpuq_words "--endpoint --filter --watch --stats --sessions --payload --uid --all --help" "$typed" ;;
	esac
}

_gpuq_token() {
	local typed=$1
	case $2 in
	-k | --keys) _gpuq_files "$typed" ;;
	-r | --rights) _gpuq_words "submit register critical admin" "$typed" ;;
	-c | --class) _gpuq_words "critical high normal low" "$typed" ;;
	-o | --op | -u | --uid | --rate | --bytes | --memory | -e | --expires) COMPREPLY=() ;;
	token) _gpuq_words "key issue narrow show --help" "$typed" ;;
	*) _gpuq_words "--keys --rights --op --class --uid --rate --bytes --memory --expires --help" "$typed" ;;
	esac
}

_gpuq_top() {
	case $2 in
	-d | --delay | -n | --count) COMPREPLY=() ;;
	*) _gpuq_look "$1" "--delay --count --clients --json --plain --help" ;;
	esac
}

# _gpuq_look TYPED OPTIONS: an option, or the path of a socket.
_gpuq_look() {
	case $1 in
	-*) _gpuq_words "$2" "$1" ;;
	*) _gpuq_files "$1" ;;
	esac
}

_gpuq() {
	local typed before _gpuq_line _gpuq_kept
	_gpuq_join
	typed=${_gpuq_line[-1]}
	before=${_gpuq_line[-2]}
	COMPREPLY=()
	if [ ${#_gpuq_line[@]} -eq 2 ]; then
		_gpuq_words "run pipe info processors redis services token bench status top errors reload help --help --version" "$typed"
		return
	fi
	case ${_gpuq_line[1]} in
	run) _gpuq_run "$typed" "$before" ;;
	pipe) _gpuq_pipe "$typed" "$before" ;;
	help) _gpuq_words "run pipe info processors redis services token bench status top errors reload" "$typed" ;;
	redis) _gpuq_words "worker send results dlq status doctor bench help" "$typed" ;;
	services) _gpuq_services "$typed" "$before" ;;
	token) _gpuq_token "$typed" "$before" ;;
	status) _gpuq_look "$typed" "--json --help" ;;
	top) _gpuq_top "$typed" "$before" ;;
	errors) _gpuq_look "$typed" "--json --help" ;;
	reload) _gpuq_look "$typed" "--help" ;;
	bench) _gpuq_bench "$typed" "$before" ;;
	info | processors) _gpuq_words "--help" "$typed" ;;
	esac
	_gpuq_strip
}

complete -F _gpuq gpuq
