# SPDX-License-Identifier: Apache-2.0
#[[
gpuq_add_processor(<target> <source> [NAME name] [GRANULARITY THREAD|WARP|BLOCK] [CPU_ONLY])

Builds a processor source (a file that defines process_message(), see gpuq/processor.h) into
<target>. The source may be C (.c), C++ (.cc, .cpp, .cxx) or CUDA C++ (.cu). For the CPU device it
is compiled by the project's C or C++ compiler, so a project needs no CUDA compiler and no CUDA
language for it.

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

CUDA_ONLY and FATBIN are reserved for the CUDA device, which this version does not have.

The source is not added to <target> itself: a generated wrapper in the current binary directory
includes it. The wrapper is compiled with the target's own flags, and sees the source's directory
and gpuq's include directory.
]]

include_guard(GLOBAL)
# The functions below keep these policies, whatever the project that includes them asks for.
cmake_policy(PUSH)
cmake_policy(VERSION 3.24)

# Internal: a file that gives process_message() a name of its own, then includes the source.
# Written only if it changes, so that configuring again rebuilds nothing.
function(_gpuq_write_processor_wrapper)
	cmake_parse_arguments(PARSE_ARGV 0 arg "" "OUTPUT;FUNCTION;SOURCE;GRANULARITY;TAIL" "")
	file(CONFIGURE OUTPUT "${arg_OUTPUT}" @ONLY NEWLINE_STYLE UNIX CONTENT
"/* Made by gpuq_add_processor() from @arg_SOURCE@; changes are lost. */
#define Q_GRANULARITY @arg_GRANULARITY@
#define process_message @arg_FUNCTION@
#include <gpuq/processor.h>
#include \"@arg_SOURCE@\"
@arg_TAIL@")
endfunction()

# Internal: the wrapper becomes a source of the target. The target may be of another directory.
function(_gpuq_attach_processor_wrapper target source wrapper)
	cmake_path(GET source PARENT_PATH source_directory)
	set(include_directories "${source_directory}")
	if(TARGET gpuq::gpuq)
		list(APPEND include_directories
			"$<TARGET_PROPERTY:gpuq::gpuq,INTERFACE_INCLUDE_DIRECTORIES>")
	endif()
	target_sources(${target} PRIVATE "${wrapper}")
	set_property(SOURCE "${wrapper}" TARGET_DIRECTORY ${target}
		APPEND PROPERTY OBJECT_DEPENDS "${source}")
	set_property(SOURCE "${wrapper}" TARGET_DIRECTORY ${target}
		APPEND PROPERTY INCLUDE_DIRECTORIES "${include_directories}")
endfunction()

function(gpuq_add_processor)
	if(ARGC LESS 2)
		message(FATAL_ERROR "gpuq_add_processor: needs a target and a source file")
	endif()
	set(target "${ARGV0}")
	set(source "${ARGV1}")
	set(who "gpuq_add_processor(${target} ${source}):")
	cmake_parse_arguments(PARSE_ARGV 2 arg "CPU_ONLY;CUDA_ONLY" "NAME;GRANULARITY;FATBIN" "")

	if(DEFINED arg_UNPARSED_ARGUMENTS)
		message(FATAL_ERROR "${who} unknown argument: ${arg_UNPARSED_ARGUMENTS}")
	endif()
	if(arg_CUDA_ONLY OR DEFINED arg_FATBIN OR "FATBIN" IN_LIST arg_KEYWORDS_MISSING_VALUES)
		message(FATAL_ERROR "${who} this version of libgpuq has no CUDA device yet; "
			"CUDA_ONLY and FATBIN cannot be used")
	endif()
	if(DEFINED arg_KEYWORDS_MISSING_VALUES)
		message(FATAL_ERROR "${who} no value after ${arg_KEYWORDS_MISSING_VALUES}")
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

	cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" NORMALIZE)
	if(NOT EXISTS "${source}" OR IS_DIRECTORY "${source}")
		message(FATAL_ERROR "${who} there is no file ${source}")
	endif()
	if(source MATCHES "[\"\\\\\n]")
		message(FATAL_ERROR "${who} the path holds a character #include cannot take: ${source}")
	endif()
	cmake_path(GET source EXTENSION LAST_ONLY extension)
	if(extension STREQUAL ".c")
		set(language C)
		set(wrapper_extension c)
		set(linkage "")
	elseif(extension MATCHES "^\\.(cc|cpp|cxx|cu)$")
		set(language CXX)
		set(wrapper_extension cpp)
		set(linkage "extern \"C\" ")
	else()
		message(FATAL_ERROR "${who} the source's extension is \"${extension}\"; "
			"it must be .c, .cc, .cpp, .cxx or .cu")
	endif()
	get_property(languages GLOBAL PROPERTY ENABLED_LANGUAGES)
	if(NOT language IN_LIST languages)
		message(FATAL_ERROR "${who} a ${extension} source needs the language ${language}, which "
			"this project has not enabled; see project(... LANGUAGES ...)")
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

	set(wrapper "${CMAKE_CURRENT_BINARY_DIR}/gpuq_processors/${target}/${identifier}")
	string(APPEND wrapper ".${wrapper_extension}")
	_gpuq_write_processor_wrapper(
		OUTPUT "${wrapper}"
		FUNCTION "q_process_message_${identifier}"
		SOURCE "${source}"
		GRANULARITY ${granularity}
		TAIL "${tail}")
	_gpuq_attach_processor_wrapper(${target} "${source}" "${wrapper}")
endfunction()

cmake_policy(POP)
