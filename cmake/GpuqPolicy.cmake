# SPDX-License-Identifier: Apache-2.0
#
# gpuq_policy: what decides in the broker (src/broker/policy), without I/O. Built where somebody links it. It needs libc
# and libm; the cache and the tokens need libsodium, and are left out where there is none.

find_path(GPUQ_SODIUM_INCLUDE_DIR sodium.h DOC "Folder that holds sodium.h, if any")
find_library(GPUQ_SODIUM_LIBRARY sodium DOC "The library sodium, if any")
mark_as_advanced(GPUQ_SODIUM_INCLUDE_DIR GPUQ_SODIUM_LIBRARY)
set(gpuq_sodium_found OFF)
if(GPUQ_SODIUM_INCLUDE_DIR AND GPUQ_SODIUM_LIBRARY)
	set(gpuq_sodium_found ON)
endif()

file(GLOB gpuq_policy_sources CONFIGURE_DEPENDS src/broker/policy/*.c)
if(NOT gpuq_sodium_found)
	list(FILTER gpuq_policy_sources EXCLUDE REGEX "/(cache|token)\\.c$")
endif()
add_library(gpuq_policy STATIC EXCLUDE_FROM_ALL ${gpuq_policy_sources})
target_include_directories(gpuq_policy PUBLIC "${PROJECT_SOURCE_DIR}/src")
target_link_libraries(gpuq_policy PRIVATE gpuq_flags PUBLIC m)
if(gpuq_sodium_found)
	if(NOT GPUQ_SODIUM_INCLUDE_DIR IN_LIST CMAKE_C_IMPLICIT_INCLUDE_DIRECTORIES)
		target_include_directories(gpuq_policy SYSTEM PUBLIC "${GPUQ_SODIUM_INCLUDE_DIR}")
	endif()
	target_link_libraries(gpuq_policy PUBLIC "${GPUQ_SODIUM_LIBRARY}")
endif()
# The command makes tokens.
if(TARGET gpuq_cli AND gpuq_sodium_found)
	target_link_libraries(gpuq_cli PRIVATE gpuq_policy)
	target_compile_definitions(gpuq_cli PRIVATE GPUQ_HAVE_SODIUM)
endif()
