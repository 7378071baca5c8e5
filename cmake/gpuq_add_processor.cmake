# SPDX-License-Identifier: Apache-2.0
#[[
gpuq_add_processor(<target> <source> [NAME name] [GRANULARITY THREAD|WARP|BLOCK]
                   [CPU_ONLY|CUDA_ONLY] [RESULT_ONLY] [FATBIN path]
                   [OPCODES <opcode>=<source>...])

Builds a processor source (a file that defines process_message(), see gpuq/processor.h) into
<target>. The source may be C (.c), C++ (.cc, .cpp, .cxx) or CUDA C++ (.cu). For the CPU device it
is compiled by the project's C or C++ compiler, so a project needs no CUDA compiler and no CUDA
language for it. Where there is an nvcc (the variable GPUQ_NVCC, else on PATH or where CUDA_PATH
says), a .cu source is also compiled for GPUs, with the resident grid's loop around it, and the image
is embedded; sources of other extensions are for the CPU device.

  executable, static, shared or object library
      The processor is registered under its name before main() begins: cfg.processor names it, and
      a NULL cfg.processor finds it if it is the only one. The target, or the program it ends up
      in, links gpuq::gpuq or gpuq::gpuq_static.
  module library
      The module's path is what cfg.processor takes. It holds exactly one processor and links
      nothing of gpuq.

NAME         the name, 1 to 63 characters without '/'; default: the file's name without extension.
             Several sources on one target need different names, nothing else: all of them may
             define process_message().
GRANULARITY  the unit that works on one message on a GPU; default THREAD. The CPU device always uses
             one thread.
CPU_ONLY     never for a GPU.
CUDA_ONLY    never for the CPU device; needs nvcc.
RESULT_ONLY  the processor writes nothing but its result: on a GPU a completion then publishes nothing
             else, and waits for less. As Q_RESULT_ONLY, see gpuq/processor.h, of every source.
FATBIN       also write the GPU image to this file (relative to the current binary directory), for
             cfg.processor; needs nvcc.
OPCODES      a message of a listed opcode (0 to 4294967295, decimal or 0x...) goes to that source's
             process_message(), any other to <source>'s. All of them become one processor, and one
             GPU image: a generated switch includes them one after the other, so what they define at
             file scope, macros too, needs different names. All are .c, or none; all are .cu, or
             none, unless CPU_ONLY. A source may be listed for several opcodes. Q_RESULT_ONLY counts
             if every source defines it.

GPUQ_IMAGE_ARCHITECTURES lists the compute capabilities there is machine code for, default 90; PTX of
7.5 comes with them, and the driver compiles it for every other GPU.

The source is not added to <target> itself: a generated wrapper in the current binary directory
includes it. The wrapper is compiled with the target's own flags, and sees the source's directory
and gpuq's include directory.
]]

include_guard(GLOBAL)
# The functions below keep these policies, whatever the project that includes them asks for.
cmake_policy(PUSH)
cmake_policy(VERSION 3.24)
if(POLICY CMP0174)
	cmake_policy(SET CMP0174 NEW) # an empty value is one, and not a warning
endif()

# Internal: a path as a part of a string in quotes: of C's, of a shell's, of the assembler's.
function(_gpuq_quote out path)
	string(REPLACE "\\" "\\\\" path "${path}")
	string(REPLACE "\"" "\\\"" path "${path}")
	set(${out} "${path}" PARENT_SCOPE)
endfunction()

# Internal: a path for C's __asm__(), in a string of the assembler's in one of C's.
function(_gpuq_path_in_asm out path)
	_gpuq_quote(path "${path}")
	_gpuq_quote(path "${path}")
	set(${out} "${path}" PARENT_SCOPE)
endfunction()

# Internal: the lines that include a source and look that it has defined process_message() as it must.
# Nothing has declared that before, which is no fault of the source's. `tag`: see Q_PROCESSOR_LOOK_.
function(_gpuq_include out source tag)
	cmake_path(GET source FILENAME name)
	_gpuq_quote(name "${name}")
	set(${out} "Q_PROCESSOR_EXPECT_
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored \"-Wmissing-declarations\"
#if !defined(__cplusplus) || defined(__clang__)
#pragma GCC diagnostic ignored \"-Wmissing-prototypes\"
#endif
#include \"${source}\"
#pragma GCC diagnostic pop
Q_PROCESSOR_LOOK_(${tag}, \"${name} \")
" PARENT_SCOPE)
endfunction()

# Internal: a file that gives process_message() a name of its own, then includes the source.
# Written only if it changes, so that configuring again rebuilds nothing.
function(_gpuq_write_processor_wrapper)
	cmake_parse_arguments(PARSE_ARGV 0 arg "" "OUTPUT;FUNCTION;SOURCE;GRANULARITY;HEAD;TAIL" "")
	_gpuq_include(included "${arg_SOURCE}" own)
	file(CONFIGURE OUTPUT "${arg_OUTPUT}" @ONLY NEWLINE_STYLE UNIX CONTENT
"// Made by gpuq_add_processor() from @arg_SOURCE@; changes are lost.
#define Q_GRANULARITY @arg_GRANULARITY@
#define Q_PROCESSOR_GLUE_
#define process_message @arg_FUNCTION@
@arg_HEAD@#include <gpuq/processor.h>
#if !defined(Q_PROCESSOR_CUDA_ONLY)
@included@#endif
@arg_TAIL@")
endfunction()

# Internal: why no GPU image can be made from or in one of the paths ARGN, or "". CMake makes no file
# whose path has one of the first three characters; nvcc cuts at commas, and has a shell read the rest.
function(_gpuq_why_no_image out)
	set(why "")
	foreach(path IN LISTS ARGN)
		if(path MATCHES "[#<>,$`']")
			string(CONCAT why "CMake and nvcc cannot make a GPU image where a path has one of "
				"# < > , $ ` ' in it: ${path}")
		endif()
	endforeach()
	set(${out} "${why}" PARENT_SCOPE)
endfunction()

# Internal: nvcc's path in the named variable, or "".
function(_gpuq_find_nvcc out)
	if(NOT DEFINED GPUQ_NVCC)
		find_program(GPUQ_NVCC nvcc
			HINTS ENV CUDACXX ENV CUDA_PATH ENV CUDA_HOME
			PATHS /usr/local/cuda
			PATH_SUFFIXES bin
			DOC "CUDA compiler for gpuq_add_processor(); empty: none")
	endif()
	if(GPUQ_NVCC)
		set(${out} "${GPUQ_NVCC}" PARENT_SCOPE)
	else()
		set(${out} "" PARENT_SCOPE)
	endif()
endfunction()

# Where the grid's headers are: beside this file when installed, in src/ of the source tree.
if(EXISTS "${CMAKE_CURRENT_LIST_DIR}/include/device/cuda/grid/grid.cuh")
	set(_gpuq_device_include "${CMAKE_CURRENT_LIST_DIR}/include" CACHE INTERNAL "")
else()
	cmake_path(ABSOLUTE_PATH CMAKE_CURRENT_LIST_DIR NORMALIZE OUTPUT_VARIABLE _gpuq_here)
	cmake_path(GET _gpuq_here PARENT_PATH _gpuq_here)
	set(_gpuq_device_include "${_gpuq_here}/src" CACHE INTERNAL "")
endif()

# Internal: a rule that makes a fatbin of the source, which may include others, with the grid around
# it.
function(_gpuq_make_fatbin)
	cmake_parse_arguments(PARSE_ARGV 0 arg "RESULT_ONLY" "TARGET;NVCC;OUTPUT;SOURCE;GRANULARITY"
		"INCLUDED")
	set(result_only "")
	if(arg_RESULT_ONLY)
		set(result_only "#undef Q_RESULT_ONLY\n#define Q_RESULT_ONLY\n")
	endif()
	if(NOT DEFINED GPUQ_IMAGE_ARCHITECTURES OR GPUQ_IMAGE_ARCHITECTURES STREQUAL "")
		set(GPUQ_IMAGE_ARCHITECTURES 90)
	endif()
	set(codes "")
	foreach(architecture IN LISTS GPUQ_IMAGE_ARCHITECTURES)
		list(APPEND codes -gencode "arch=compute_${architecture},code=sm_${architecture}")
	endforeach()
	list(APPEND codes -gencode "arch=compute_75,code=compute_75")
	file(CONFIGURE OUTPUT "${arg_OUTPUT}.cu" @ONLY NEWLINE_STYLE UNIX CONTENT
"// Made by gpuq_add_processor() from @arg_SOURCE@; changes are lost.
#define Q_GRANULARITY @arg_GRANULARITY@
#define Q_PROCESSOR_GLUE_
#include <gpuq/processor.h>
Q_PROCESSOR_EXPECT_
#include \"@arg_SOURCE@\"
@result_only@#include \"device/cuda/grid/grid.cuh\"
")
	set(source_directories "")
	foreach(source IN LISTS arg_SOURCE arg_INCLUDED)
		cmake_path(GET source PARENT_PATH source_directory)
		list(APPEND source_directories "-I${source_directory}")
	endforeach()
	list(REMOVE_DUPLICATES source_directories)
	# Generator expressions among a target's properties leave empty elements behind.
	set(interface "$<FILTER:$<TARGET_PROPERTY:gpuq::gpuq,INTERFACE_INCLUDE_DIRECTORIES>,INCLUDE,.>")
	set(own "$<FILTER:$<TARGET_PROPERTY:${arg_TARGET},INCLUDE_DIRECTORIES>,INCLUDE,.>")
	set(definitions "$<FILTER:$<TARGET_PROPERTY:${arg_TARGET},COMPILE_DEFINITIONS>,INCLUDE,.>")
	add_custom_command(OUTPUT "${arg_OUTPUT}"
		COMMAND "${arg_NVCC}" -std=c++17 -fatbin ${codes}
			${source_directories} "-I${_gpuq_device_include}"
			"$<$<BOOL:${interface}>:-I$<JOIN:${interface},;-I>>"
			"$<$<BOOL:${own}>:-I$<JOIN:${own},;-I>>"
			"$<$<BOOL:${definitions}>:-D$<JOIN:${definitions},;-D>>"
			-MD -MT "${arg_OUTPUT}" -MF "${arg_OUTPUT}.d"
			-o "${arg_OUTPUT}" "${arg_OUTPUT}.cu"
		COMMAND_EXPAND_LISTS VERBATIM
		DEPENDS "${arg_SOURCE}" ${arg_INCLUDED} "${arg_OUTPUT}.cu"
			"${_gpuq_device_include}/device/cuda/grid/grid.cuh"
		DEPFILE "${arg_OUTPUT}.d"
		COMMENT "GPU image of ${arg_SOURCE}")
endfunction()

# Internal: the lines that put a file's bytes into an object and declare them as `symbol`. It is
# global, for link-time optimisation may put these lines and their user into different objects.
function(_gpuq_embed out symbol file)
	_gpuq_path_in_asm(file "${file}")
	set(${out} "
__asm__(\".pushsection .rodata.${symbol},\\\"a\\\",@progbits\\n\"
	\".balign 64\\n\"
	\".globl ${symbol}\\n\"
	\".hidden ${symbol}\\n\"
	\"${symbol}:\\n\"
	\".incbin \\\"${file}\\\"\\n\"
	\".popsection\\n\");
extern \"C\" __attribute__((visibility(\"hidden\"))) const unsigned char ${symbol}[];
" PARENT_SCOPE)
endfunction()

# Internal: the wrapper of the sources in ARGN becomes a source of the target. The target may be of
# another directory.
function(_gpuq_attach_processor_wrapper target wrapper)
	set(include_directories "")
	foreach(source IN LISTS ARGN)
		cmake_path(GET source PARENT_PATH source_directory)
		list(APPEND include_directories "${source_directory}")
	endforeach()
	list(REMOVE_DUPLICATES include_directories)
	if(TARGET gpuq::gpuq)
		list(APPEND include_directories
			"$<TARGET_PROPERTY:gpuq::gpuq,INTERFACE_INCLUDE_DIRECTORIES>")
	endif()
	target_sources(${target} PRIVATE "${wrapper}")
	set_property(SOURCE "${wrapper}" TARGET_DIRECTORY ${target}
		APPEND PROPERTY OBJECT_DEPENDS "${ARGN}")
	set_property(SOURCE "${wrapper}" TARGET_DIRECTORY ${target}
		APPEND PROPERTY INCLUDE_DIRECTORIES "${include_directories}")
	# All wrappers give the same names to different things.
	set_property(SOURCE "${wrapper}" TARGET_DIRECTORY ${target}
		PROPERTY SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

# Internal: a source's full path and extension, after looking that it can be one.
function(_gpuq_check_source who path out_path out_extension)
	cmake_path(ABSOLUTE_PATH path BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" NORMALIZE)
	if(NOT EXISTS "${path}" OR IS_DIRECTORY "${path}")
		message(FATAL_ERROR "${who} there is no file ${path}")
	endif()
	if(path MATCHES "[\"\\\\\n;]")
		message(FATAL_ERROR "${who} the path holds a character #include cannot take: ${path}")
	endif()
	cmake_path(GET path EXTENSION LAST_ONLY extension)
	if(NOT extension MATCHES "^\\.(c|cc|cpp|cxx|cu)$")
		message(FATAL_ERROR "${who} the source's extension is \"${extension}\"; "
			"it must be .c, .cc, .cpp, .cxx or .cu")
	endif()
	set(${out_path} "${path}" PARENT_SCOPE)
	set(${out_extension} "${extension}" PARENT_SCOPE)
endfunction()

# Internal: the number that an opcode is written as, decimal, or "" if it is none.
function(_gpuq_check_opcode out text)
	set(${out} "" PARENT_SCOPE)
	if(text MATCHES "^0[xX]0*([0-9a-fA-F]+)$")
		set(digits "${CMAKE_MATCH_1}")
		string(LENGTH "${digits}" length)
		if(length LESS_EQUAL 8)
			math(EXPR number "0x${digits}")
			set(${out} "${number}" PARENT_SCOPE)
		endif()
	elseif(text MATCHES "^(0|[1-9][0-9]*)$")
		string(LENGTH "${text}" length)
		if(length LESS_EQUAL 10 AND text LESS_EQUAL 4294967295)
			set(${out} "${text}" PARENT_SCOPE)
		endif()
	endif()
endfunction()

# Internal: a source whose process_message() hands each message to that of one of several. The first
# of SOURCES gets what has no opcode in `cases`, a list of <opcode>=<number of the source>.
function(_gpuq_write_switch)
	cmake_parse_arguments(PARSE_ARGV 0 arg "" "OUTPUT;LANGUAGE;IDENTIFIER" "SOURCES;CASES")
	if(arg_LANGUAGE STREQUAL "C")
		set(parameters "const MsgView *in, ResultView *out")
		set(opcode "in->opcode")
		set(qualifier "")
	else()
		set(parameters "const MsgView &in, ResultView *out")
		set(opcode "in.opcode")
		set(qualifier "__device__ ")
	endif()
	set(included "")
	set(cases "")
	set(number 0)
	foreach(source IN LISTS arg_SOURCES)
		set(function "q_process_${number}_${arg_IDENTIFIER}")
		_gpuq_include(lines "${source}" ${number})
		string(APPEND included "
#undef process_message
#define process_message ${function}
#undef Q_RESULT_ONLY
${lines}#if !defined(Q_RESULT_ONLY)
#define Q_NOT_RESULT_ONLY
#endif
")
		set(labels "")
		foreach(case IN LISTS arg_CASES)
			if(case MATCHES "^([0-9]+)=${number}$")
				string(APPEND labels "	case ${CMAKE_MATCH_1}u:\n")
			endif()
		endforeach()
		if(NOT number EQUAL 0)
			string(APPEND cases "${labels}		${function}(in, out);\n		break;\n")
		endif()
		math(EXPR number "${number} + 1")
	endforeach()
	file(CONFIGURE OUTPUT "${arg_OUTPUT}" @ONLY NEWLINE_STYLE UNIX CONTENT
"// Made by gpuq_add_processor(); changes are lost.
#include <gpuq/processor.h>

#pragma push_macro(\"process_message\")
@included@
#pragma pop_macro(\"process_message\")
#if defined(Q_NOT_RESULT_ONLY)
#undef Q_RESULT_ONLY
#endif

@qualifier@void process_message(@parameters@)
{
	switch (@opcode@) {
@cases@	default:
		q_process_0_@arg_IDENTIFIER@(in, out);
		break;
	}
}
")
endfunction()

function(gpuq_add_processor)
	if(ARGC LESS 2)
		message(FATAL_ERROR "gpuq_add_processor: needs a target and a source file")
	endif()
	set(target "${ARGV0}")
	set(source "${ARGV1}")
	set(who "gpuq_add_processor(${target} ${source}):")
	cmake_parse_arguments(PARSE_ARGV 2 arg "CPU_ONLY;CUDA_ONLY;RESULT_ONLY"
		"NAME;GRANULARITY;FATBIN" "OPCODES")

	if(DEFINED arg_UNPARSED_ARGUMENTS)
		message(FATAL_ERROR "${who} unknown argument: ${arg_UNPARSED_ARGUMENTS}")
	endif()
	if(DEFINED arg_KEYWORDS_MISSING_VALUES)
		message(FATAL_ERROR "${who} no value after ${arg_KEYWORDS_MISSING_VALUES}")
	endif()
	if("FATBIN" IN_LIST ARGN AND "${arg_FATBIN}" STREQUAL "")
		message(FATAL_ERROR "${who} the path after FATBIN is empty")
	endif()
	if(arg_CUDA_ONLY AND arg_CPU_ONLY)
		message(FATAL_ERROR "${who} CPU_ONLY and CUDA_ONLY exclude each other")
	endif()

	if(NOT TARGET ${target})
		message(FATAL_ERROR "${who} there is no target \"${target}\"; "
			"add_executable() or add_library() comes first")
	endif()
	get_target_property(aliased ${target} ALIASED_TARGET)
	get_target_property(imported ${target} IMPORTED)
	if(aliased OR imported)
		message(FATAL_ERROR "${who} \"${target}\" is an alias or imported target")
	endif()
	get_target_property(type ${target} TYPE)
	if(NOT type MATCHES "^(EXECUTABLE|(STATIC|SHARED|OBJECT|MODULE)_LIBRARY)$")
		message(FATAL_ERROR "${who} \"${target}\" is of type ${type}; it must be an executable "
			"or a static, shared, object or module library")
	endif()

	_gpuq_check_source("${who}" "${source}" source extension)
	if(extension STREQUAL ".c")
		set(language C)
		set(wrapper_extension c)
		set(linkage "")
	else()
		set(language CXX)
		set(wrapper_extension cpp)
		set(linkage "extern \"C\" ")
	endif()
	set(sources "${source}") # in the order of their numbers
	set(opcodes "")
	set(cases "")
	foreach(pair IN LISTS arg_OPCODES)
		if(NOT pair MATCHES "^([^=]*)=(.+)$")
			message(FATAL_ERROR "${who} OPCODES has \"${pair}\"; "
				"it must be an opcode, '=', and a source file")
		endif()
		set(path "${CMAKE_MATCH_2}")
		set(text "${CMAKE_MATCH_1}")
		_gpuq_check_opcode(opcode "${text}")
		if(opcode STREQUAL "")
			message(FATAL_ERROR "${who} the opcode of \"${pair}\" is \"${text}\"; it must be a "
				"number from 0 to 4294967295, decimal or 0x...")
		endif()
		if(opcode IN_LIST opcodes)
			message(FATAL_ERROR "${who} opcode ${opcode} of \"${pair}\" is in OPCODES already")
		endif()
		list(APPEND opcodes "${opcode}")
		_gpuq_check_source("${who} opcode ${opcode}:" "${path}" path other)
		if((extension STREQUAL ".c" AND NOT other STREQUAL ".c") OR
				(other STREQUAL ".c" AND NOT extension STREQUAL ".c"))
			message(FATAL_ERROR "${who} \"${pair}\" is a ${other} source and the processor's own "
				"a ${extension} one; they are compiled as one: all must be .c, or none")
		endif()
		if(NOT arg_CPU_ONLY AND NOT extension STREQUAL other AND
				(extension STREQUAL ".cu" OR other STREQUAL ".cu"))
			message(FATAL_ERROR "${who} \"${pair}\" is a ${other} source and the processor's own "
				"a ${extension} one; a GPU's image is made of .cu sources only: "
				"all must be .cu, or say CPU_ONLY")
		endif()
		list(FIND sources "${path}" number)
		if(number EQUAL -1)
			list(LENGTH sources number)
			list(APPEND sources "${path}")
		endif()
		list(APPEND cases "${opcode}=${number}")
	endforeach()
	get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
	if(NOT language IN_LIST languages)
		message(FATAL_ERROR "${who} a ${extension} source needs the language ${language}, which "
			"this project has not enabled; see project(... LANGUAGES ...)")
	endif()

	_gpuq_find_nvcc(nvcc)
	set(folders "${CMAKE_CURRENT_BINARY_DIR}" "${_gpuq_device_include}" ${sources})
	_gpuq_why_no_image(why_no_image ${folders})
	if(nvcc AND why_no_image AND extension STREQUAL ".cu" AND NOT arg_CPU_ONLY)
		if(arg_CUDA_ONLY OR DEFINED arg_FATBIN)
			message(FATAL_ERROR "${who} ${why_no_image}")
		endif()
		message(WARNING "${who} for the CPU device only: ${why_no_image}")
		set(nvcc "")
	endif()
	if(arg_CUDA_ONLY OR DEFINED arg_FATBIN)
		if(NOT extension STREQUAL ".cu" OR arg_CPU_ONLY)
			message(FATAL_ERROR "${who} CUDA_ONLY and FATBIN need a .cu source that is not CPU_ONLY")
		endif()
		if(NOT nvcc)
			message(FATAL_ERROR "${who} CUDA_ONLY and FATBIN need nvcc, and there is none: "
				"set GPUQ_NVCC or CUDA_PATH, or put it on PATH")
		endif()
	endif()

	if(NOT DEFINED arg_NAME AND NOT "NAME" IN_LIST ARGN) # CMake drops the empty value of NAME ""
		cmake_path(GET source STEM LAST_ONLY arg_NAME)
	endif()
	string(LENGTH "${arg_NAME}" length)
	if(length EQUAL 0 OR length GREATER 63)
		message(FATAL_ERROR "${who} the name \"${arg_NAME}\" has ${length} characters; "
			"1 to 63 are allowed")
	endif()
	if(arg_NAME MATCHES "/")
		message(FATAL_ERROR "${who} the name \"${arg_NAME}\" holds a '/', which marks a path")
	endif()
	if(NOT arg_NAME MATCHES "^[-A-Za-z0-9_.+:@ ]+$")
		message(FATAL_ERROR "${who} the name \"${arg_NAME}\" may hold letters, digits, spaces "
			"and any of _ - . + : @ only")
	endif()

	if(NOT DEFINED arg_GRANULARITY AND NOT "GRANULARITY" IN_LIST ARGN)
		set(arg_GRANULARITY THREAD)
	endif()
	set(granularities THREAD WARP BLOCK)
	list(FIND granularities "${arg_GRANULARITY}" granularity)
	if(granularity EQUAL -1)
		message(FATAL_ERROR "${who} GRANULARITY is \"${arg_GRANULARITY}\"; "
			"it must be THREAD, WARP or BLOCK")
	endif()

	get_target_property(names ${target} GPUQ_PROCESSORS)
	if(NOT names)
		set(names "")
	endif()
	if(arg_NAME IN_LIST names)
		message(FATAL_ERROR "${who} ${target} already has a processor named \"${arg_NAME}\"")
	endif()
	if(names AND type STREQUAL "MODULE_LIBRARY")
		message(FATAL_ERROR "${who} a module holds one processor, and ${target} already has "
			"\"${names}\"")
	endif()
	set_property(TARGET ${target} APPEND PROPERTY GPUQ_PROCESSORS "${arg_NAME}")

	# "a-b" and "a_b" are different names and must not become the same identifier.
	string(MAKE_C_IDENTIFIER "${arg_NAME}" identifier)
	if(NOT identifier STREQUAL arg_NAME)
		string(MD5 digest "${arg_NAME}")
		string(SUBSTRING "${digest}" 0 8 digest)
		string(APPEND identifier "_${digest}")
	endif()

	set(folder "${CMAKE_CURRENT_BINARY_DIR}/gpuq_processors/${target}")
	set(included "")
	if(cases)
		set(included ${sources})
		# No other generated file's name ends so: identifiers have no dots.
		set(source "${folder}/${identifier}.opcodes${extension}")
		_gpuq_write_switch(OUTPUT "${source}" LANGUAGE ${language} IDENTIFIER "${identifier}"
			SOURCES ${sources} CASES ${cases})
	endif()
	set(head "")
	set(fatbin "")
	if(nvcc AND extension STREQUAL ".cu" AND NOT arg_CPU_ONLY)
		set(fatbin "${folder}/${identifier}.fatbin")
		set(result_only "")
		if(arg_RESULT_ONLY)
			set(result_only RESULT_ONLY)
		endif()
		_gpuq_make_fatbin(TARGET ${target} NVCC "${nvcc}" OUTPUT "${fatbin}" ${result_only}
			SOURCE "${source}" INCLUDED ${included} GRANULARITY ${granularity})
		_gpuq_embed(head "gpuq_fatbin_${identifier}" "${fatbin}")
		string(APPEND head "#define Q_PROCESSOR_DEVICE_IMAGE gpuq_fatbin_${identifier}\n")
	endif()
	if(arg_CUDA_ONLY)
		string(APPEND head "#define Q_PROCESSOR_CUDA_ONLY\n")
	endif()
	if(DEFINED arg_FATBIN)
		cmake_path(ABSOLUTE_PATH arg_FATBIN BASE_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}" NORMALIZE)
		add_custom_command(OUTPUT "${arg_FATBIN}"
			COMMAND "${CMAKE_COMMAND}" -E copy "${fatbin}" "${arg_FATBIN}"
			DEPENDS "${fatbin}" VERBATIM)
		target_sources(${target} PRIVATE "${arg_FATBIN}")
	endif()

	if(type STREQUAL "MODULE_LIBRARY")
		set(tail "Q_PROCESSOR_IMAGE(\"${arg_NAME}\");\n")
	else()
		set(tail "Q_PROCESSOR_REGISTER(\"${arg_NAME}\")\n")
	endif()
	if(type STREQUAL "STATIC_LIBRARY")
		# A linker takes an archive member only for a symbol somebody wants, and nobody wants a
		# constructor: the library's users ask for this one.
		set(anchor "gpuq_processor_anchor_${identifier}")
		string(APPEND tail "${linkage}extern const char ${anchor};\n")
		if(language STREQUAL "CXX")
			string(REPLACE "extern \"C\" extern" "extern \"C\"" tail "${tail}")
		endif()
		string(APPEND tail "const char ${anchor} = 1;\n")
		target_link_options(${target} INTERFACE "LINKER:--undefined=${anchor}")
	endif()

	set(wrapper "${folder}/${identifier}")
	string(APPEND wrapper ".${wrapper_extension}")
	_gpuq_write_processor_wrapper(
		OUTPUT "${wrapper}"
		FUNCTION "q_process_message_${identifier}"
		SOURCE "${source}"
		GRANULARITY ${granularity}
		HEAD "${head}"
		TAIL "${tail}")
	_gpuq_attach_processor_wrapper(${target} "${wrapper}" "${source}" ${included})
	if(fatbin)
		set_property(SOURCE "${wrapper}" TARGET_DIRECTORY ${target}
			APPEND PROPERTY OBJECT_DEPENDS "${fatbin}")
		target_sources(${target} PRIVATE "${fatbin}")
	endif()
endfunction()

cmake_policy(POP)
