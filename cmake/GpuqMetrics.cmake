# SPDX-License-Identifier: Apache-2.0
#
# gpuq_metrics: for programs that serve metrics (src/program/metrics.h): links libmicrohttpd where it is. Without it the
# option --metrics says that this build has no server.

string(TOUPPER "${GPUQ_METRICS}" gpuq_metrics_mode)
if(NOT gpuq_metrics_mode MATCHES "^(AUTO|ON|OFF|TRUE|FALSE|1|0|YES|NO)$")
	message(FATAL_ERROR "GPUQ_METRICS is \"${GPUQ_METRICS}\"; it must be AUTO, ON or OFF")
endif()
add_library(gpuq_metrics INTERFACE)
if(gpuq_metrics_mode STREQUAL "AUTO" OR GPUQ_METRICS)
	find_path(GPUQ_MICROHTTPD_INCLUDE_DIR microhttpd.h DOC "Folder that holds microhttpd.h, if any")
	find_library(GPUQ_MICROHTTPD_LIBRARY microhttpd DOC "The library microhttpd, if any")
	mark_as_advanced(GPUQ_MICROHTTPD_INCLUDE_DIR GPUQ_MICROHTTPD_LIBRARY)
	if(GPUQ_MICROHTTPD_INCLUDE_DIR AND GPUQ_MICROHTTPD_LIBRARY)
		target_compile_definitions(gpuq_metrics INTERFACE GPUQ_HAVE_MICROHTTPD)
		target_link_libraries(gpuq_metrics INTERFACE "${GPUQ_MICROHTTPD_LIBRARY}")
		if(NOT GPUQ_MICROHTTPD_INCLUDE_DIR IN_LIST CMAKE_C_IMPLICIT_INCLUDE_DIRECTORIES)
			target_include_directories(gpuq_metrics SYSTEM INTERFACE "${GPUQ_MICROHTTPD_INCLUDE_DIR}")
		endif()
	elseif(NOT gpuq_metrics_mode STREQUAL "AUTO")
		message(FATAL_ERROR "GPUQ_METRICS is ON, but there is no libmicrohttpd: install libmicrohttpd-dev, "
			"or set GPUQ_METRICS to AUTO or OFF")
	else()
		message(STATUS "No --metrics: there is no libmicrohttpd (libmicrohttpd-dev)")
	endif()
endif()
