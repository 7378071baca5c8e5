# SPDX-License-Identifier: Apache-2.0
#
# gpuq_fuse: for the character device of gpuqd's services (src/broker/service/chardev.c): links libfuse3 where it is.
# Without it the key `chardev` says that this gpuqd has none.

string(TOUPPER "${GPUQ_FUSE}" gpuq_fuse_mode)
if(NOT gpuq_fuse_mode MATCHES "^(AUTO|ON|OFF|TRUE|FALSE|1|0|YES|NO)$")
	message(FATAL_ERROR "GPUQ_FUSE is \"${GPUQ_FUSE}\"; it must be AUTO, ON or OFF")
endif()
add_library(gpuq_fuse INTERFACE)
set(GPUQ_HAVE_FUSE OFF)
if(gpuq_fuse_mode STREQUAL "AUTO" OR GPUQ_FUSE)
	find_path(GPUQ_FUSE_INCLUDE_DIR fuse3/fuse_lowlevel.h DOC "Folder that holds fuse3/fuse_lowlevel.h, if any")
	find_library(GPUQ_FUSE_LIBRARY fuse3 DOC "The library fuse3, if any")
	mark_as_advanced(GPUQ_FUSE_INCLUDE_DIR GPUQ_FUSE_LIBRARY)
	if(GPUQ_FUSE_INCLUDE_DIR AND GPUQ_FUSE_LIBRARY)
		set(GPUQ_HAVE_FUSE ON)
		target_link_libraries(gpuq_fuse INTERFACE "${GPUQ_FUSE_LIBRARY}")
		if(NOT GPUQ_FUSE_INCLUDE_DIR IN_LIST CMAKE_C_IMPLICIT_INCLUDE_DIRECTORIES)
			target_include_directories(gpuq_fuse SYSTEM INTERFACE "${GPUQ_FUSE_INCLUDE_DIR}")
		endif()
	elseif(NOT gpuq_fuse_mode STREQUAL "AUTO")
		message(FATAL_ERROR "GPUQ_FUSE is ON, but there is no libfuse3: install libfuse3-dev, or set GPUQ_FUSE "
			"to AUTO or OFF")
	else()
		message(STATUS "No character device of gpuqd: there is no libfuse3 (libfuse3-dev)")
	endif()
endif()
