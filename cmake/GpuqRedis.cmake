# SPDX-License-Identifier: Apache-2.0
#
# gpuq_redis: the program gpuq-redis (src/redis), where hiredis and nettle are. libgpuq links none of it.

string(TOUPPER "${GPUQ_REDIS}" gpuq_redis_mode)
if(NOT gpuq_redis_mode MATCHES "^(AUTO|ON|OFF|TRUE|FALSE|1|0|YES|NO)$")
	message(FATAL_ERROR "GPUQ_REDIS is \"${GPUQ_REDIS}\"; it must be AUTO, ON or OFF")
endif()
set(gpuq_redis_found OFF)
if(gpuq_redis_mode STREQUAL "AUTO" OR GPUQ_REDIS)
	find_path(GPUQ_HIREDIS_INCLUDE_DIR hiredis/hiredis.h DOC "Folder that holds hiredis/hiredis.h, if any")
	find_library(GPUQ_HIREDIS_LIBRARY hiredis DOC "The library hiredis, if any")
	find_path(GPUQ_NETTLE_INCLUDE_DIR nettle/sha2.h DOC "Folder that holds nettle/sha2.h, if any")
	find_library(GPUQ_NETTLE_LIBRARY nettle DOC "The library nettle, if any")
	mark_as_advanced(GPUQ_HIREDIS_INCLUDE_DIR GPUQ_HIREDIS_LIBRARY GPUQ_NETTLE_INCLUDE_DIR GPUQ_NETTLE_LIBRARY)
	if(GPUQ_HIREDIS_INCLUDE_DIR AND GPUQ_HIREDIS_LIBRARY AND GPUQ_NETTLE_INCLUDE_DIR AND GPUQ_NETTLE_LIBRARY)
		set(gpuq_redis_found ON)
	elseif(NOT gpuq_redis_mode STREQUAL "AUTO")
		message(FATAL_ERROR "GPUQ_REDIS is ON, but hiredis or nettle is missing: install libhiredis-dev and "
			"nettle-dev, or set GPUQ_REDIS to AUTO or OFF")
	else()
		message(STATUS "No gpuq-redis: hiredis or nettle is missing (libhiredis-dev, nettle-dev)")
	endif()
endif()

if(gpuq_redis_found)
	file(GLOB gpuq_redis_sources CONFIGURE_DEPENDS src/redis/*.c src/redis/*/*.c)
	add_executable(gpuq_redis ${gpuq_redis_sources} ${gpuq_program_sources})
	target_include_directories(gpuq_redis PRIVATE src)
	# System headers, for their warnings are not ours; those of /usr/include are such already.
	if(NOT GPUQ_HIREDIS_INCLUDE_DIR IN_LIST CMAKE_C_IMPLICIT_INCLUDE_DIRECTORIES)
		target_include_directories(gpuq_redis SYSTEM PRIVATE "${GPUQ_HIREDIS_INCLUDE_DIR}")
	endif()
	if(NOT GPUQ_NETTLE_INCLUDE_DIR IN_LIST CMAKE_C_IMPLICIT_INCLUDE_DIRECTORIES)
		target_include_directories(gpuq_redis SYSTEM PRIVATE "${GPUQ_NETTLE_INCLUDE_DIR}")
	endif()
	target_link_libraries(gpuq_redis PRIVATE gpuq gpuq_flags "${GPUQ_HIREDIS_LIBRARY}" "${GPUQ_NETTLE_LIBRARY}"
		gpuq_metrics Threads::Threads)
	set_target_properties(gpuq_redis PROPERTIES
		OUTPUT_NAME gpuq-redis
		RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin"
		BUILD_RPATH_USE_ORIGIN ON
		INSTALL_RPATH "\$ORIGIN/${gpuq_bin_to_lib}")
endif()
