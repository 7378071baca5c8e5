# SPDX-License-Identifier: Apache-2.0
#
# gpuq_warnings: the warnings. gpuq_flags: warnings, sanitizers, feature macros. Interface targets,
# so that nothing leaks into what is installed or into a project that adds this one as a folder.

add_library(gpuq_warnings INTERFACE)
# -Wundef is meant for our own macros; the C-only flags would be refused by a C++ compiler.
target_compile_options(gpuq_warnings INTERFACE
	-Wall -Wextra -Wshadow -Wconversion -Wvla -Wundef
	"$<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes;-Wmissing-prototypes>"
	"$<$<BOOL:${GPUQ_WERROR}>:-Werror>")

set(gpuq_sanitize_options "")
set(gpuq_timeout_factor 1)
if(GPUQ_SANITIZE STREQUAL "thread")
	set(gpuq_sanitize_options -fsanitize=thread)
	set(gpuq_timeout_factor 5)
elseif(GPUQ_SANITIZE MATCHES "^(address|undefined|address,undefined|undefined,address)$")
	set(gpuq_sanitize_options "-fsanitize=${GPUQ_SANITIZE}" -fno-sanitize-recover=all)
	set(gpuq_timeout_factor 3)
elseif(GPUQ_SANITIZE STREQUAL "address,undefined,fuzzer")
	# libFuzzer, of clang, or AFL++, whose compiler understands these words, but only by themselves; the driver with its
	# main() is linked to the fuzz targets only.
	set(gpuq_sanitize_options -fsanitize=address,undefined -fsanitize=fuzzer-no-link -fno-sanitize-recover=all)
	set(gpuq_timeout_factor 3)
elseif(GPUQ_SANITIZE)
	message(FATAL_ERROR "GPUQ_SANITIZE is \"${GPUQ_SANITIZE}\"; it must be empty, \"address\", "
		"\"undefined\", \"address,undefined\", \"thread\" or \"address,undefined,fuzzer\"")
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang" AND GPUQ_SANITIZE MATCHES "undefined")
	# It exists for C++ only, and its run time is in none that a program linked as C has.
	list(APPEND gpuq_sanitize_options -fno-sanitize=function)
endif()

add_library(gpuq_flags INTERFACE)
target_link_libraries(gpuq_flags INTERFACE gpuq_warnings)
# Empty, so that a file that defines the macro itself says the same and not something else.
target_compile_definitions(gpuq_flags INTERFACE "$<$<COMPILE_LANGUAGE:C>:_GNU_SOURCE=>")
if(gpuq_sanitize_options)
	target_compile_options(gpuq_flags INTERFACE ${gpuq_sanitize_options} -fno-omit-frame-pointer)
	target_link_options(gpuq_flags INTERFACE ${gpuq_sanitize_options})
endif()

# gpuq_no_undefined: the library may not use what it does not link, which is a check of our own. A
# sanitized library leaves the run-time's symbols to the executable, whoever put the sanitizer into
# the flags; so ask the linker, with the flags there are. As a part of another project, whose
# folders may add flags that this does not see, it is not checked.
set(gpuq_no_undefined "")
if(PROJECT_IS_TOP_LEVEL AND NOT GPUQ_SANITIZE)
	include(CheckCSourceCompiles)
	string(TOUPPER "${CMAKE_BUILD_TYPE}" gpuq_config)
	string(MD5 gpuq_key "${CMAKE_C_COMPILER} ${CMAKE_C_FLAGS} ${CMAKE_C_FLAGS_${gpuq_config}} ${CMAKE_EXE_LINKER_FLAGS}")
	set(gpuq_outer_configuration "${CMAKE_TRY_COMPILE_CONFIGURATION}")
	set(CMAKE_TRY_COMPILE_CONFIGURATION "${CMAKE_BUILD_TYPE}")
	set(CMAKE_REQUIRED_FLAGS -fPIC)
	set(CMAKE_REQUIRED_LINK_OPTIONS -shared LINKER:-z,defs)
	check_c_source_compiles("
int at(int *array, int i);
int at(int *array, int i)
{
	volatile int local[4] = { i };

	array[i] += i;
	return array[i] / local[i & 3];
}
" GPUQ_NO_UNDEFINED_${gpuq_key})
	unset(CMAKE_REQUIRED_FLAGS)
	unset(CMAKE_REQUIRED_LINK_OPTIONS)
	set(CMAKE_TRY_COMPILE_CONFIGURATION "${gpuq_outer_configuration}")
	if(GPUQ_NO_UNDEFINED_${gpuq_key})
		set(gpuq_no_undefined LINKER:-z,defs)
	endif()
endif()
