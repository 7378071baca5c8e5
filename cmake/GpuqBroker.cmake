# SPDX-License-Identifier: Apache-2.0
#
# gpuqd: the daemon (src/broker). It has the library inside, for it works on a queue's shared memory
# as a device does, with the library's own steps. It needs libsodium, for keys of its cache and for tokens.

string(TOUPPER "${GPUQ_BROKER}" gpuq_broker_mode)
if(NOT gpuq_broker_mode MATCHES "^(AUTO|ON|OFF|TRUE|FALSE|1|0|YES|NO)$")
	message(FATAL_ERROR "GPUQ_BROKER is \"${GPUQ_BROKER}\"; it must be AUTO, ON or OFF")
endif()

set(gpuq_broker_sources "")
if(GPUQ_BROKER AND NOT gpuq_broker_mode STREQUAL "AUTO" AND NOT gpuq_sodium_found)
	message(FATAL_ERROR "GPUQ_BROKER is ON, but there is no libsodium: install libsodium-dev, or set GPUQ_BROKER to "
		"AUTO or OFF")
elseif(gpuq_broker_mode STREQUAL "AUTO" AND NOT gpuq_sodium_found)
	message(STATUS "No gpuqd: there is no libsodium (libsodium-dev)")
elseif(gpuq_broker_mode STREQUAL "AUTO" OR GPUQ_BROKER)
	file(GLOB gpuq_broker_sources CONFIGURE_DEPENDS src/broker/*.c src/broker/page/*.c)
	# Probes for tracers need a header, which has nothing but macros.
	string(TOUPPER "${GPUQ_USDT}" gpuq_usdt_mode)
	if(NOT gpuq_usdt_mode MATCHES "^(AUTO|ON|OFF|TRUE|FALSE|1|0|YES|NO)$")
		message(FATAL_ERROR "GPUQ_USDT is \"${GPUQ_USDT}\"; it must be AUTO, ON or OFF")
	endif()
	set(GPUQ_HAVE_SDT OFF)
	if(gpuq_usdt_mode STREQUAL "AUTO" OR GPUQ_USDT)
		find_path(GPUQ_SDT_INCLUDE_DIR sys/sdt.h DOC "Folder that holds sys/sdt.h, if any")
		mark_as_advanced(GPUQ_SDT_INCLUDE_DIR)
		if(GPUQ_SDT_INCLUDE_DIR)
			set(GPUQ_HAVE_SDT ON)
		elseif(NOT gpuq_usdt_mode STREQUAL "AUTO")
			message(FATAL_ERROR "GPUQ_USDT is ON, but there is no sys/sdt.h: install "
				"systemtap-sdt-dev, or set GPUQ_USDT to AUTO or OFF")
		endif()
	endif()
	# All but what the main thread does: the tests run a gpuqd inside of their own process.
	set(gpuq_daemon_sources src/broker/main.c src/broker/keeper.c src/broker/exposition.c
		src/broker/child.c)
	list(FILTER gpuq_broker_sources EXCLUDE REGEX "/src/broker/(main|keeper|exposition|child)\\.c$")
	add_library(gpuq_broker_objects OBJECT ${gpuq_broker_sources})
	target_include_directories(gpuq_broker_objects PRIVATE include src src/broker)
	target_link_libraries(gpuq_broker_objects PRIVATE gpuq_flags Threads::Threads)
	target_compile_definitions(gpuq_broker_objects PRIVATE
		$<$<BOOL:${GPUQ_HAVE_SDT}>:GPUQ_HAVE_SDT>
		$<$<BOOL:${GPUQ_CHAOS}>:GPUQ_CHAOS>
		$<$<BOOL:${GPUQ_BAR1}>:GPUQ_BAR1>)
	# What routes requests to services of other processes.
	file(GLOB gpuq_router_sources CONFIGURE_DEPENDS src/broker/service/*.c)
	if(NOT GPUQ_HAVE_FUSE)
		list(FILTER gpuq_router_sources EXCLUDE REGEX "/src/broker/service/chardev_mount\\.c$")
	endif()
	add_library(gpuq_router_objects OBJECT ${gpuq_router_sources})
	target_include_directories(gpuq_router_objects PRIVATE include src src/broker)
	target_link_libraries(gpuq_router_objects PRIVATE gpuq_policy gpuq_fuse gpuq_flags Threads::Threads)
	target_compile_definitions(gpuq_router_objects PRIVATE
		$<$<BOOL:${GPUQ_HAVE_SDT}>:GPUQ_HAVE_SDT>
		$<$<BOOL:${GPUQ_HAVE_FUSE}>:GPUQ_HAVE_FUSE>
		$<$<BOOL:${GPUQ_HAVE_FUSE}>:_FILE_OFFSET_BITS=64>) # libfuse asks for it
	add_executable(gpuqd ${gpuq_daemon_sources} ${gpuq_program_sources}
		$<TARGET_OBJECTS:gpuq_broker_objects> $<TARGET_OBJECTS:gpuq_router_objects>)
	target_include_directories(gpuqd PRIVATE include src src/broker)
	target_link_libraries(gpuqd PRIVATE gpuq_internal gpuq_policy gpuq_fuse gpuq_flags gpuq_metrics
		Threads::Threads)
	set_target_properties(gpuqd PROPERTIES
		RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
endif()
