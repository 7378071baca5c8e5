# SPDX-License-Identifier: Apache-2.0
#
# gpuq_use_nvtx(<target>): the target's src/host/base/nvtx.c is compiled with the headers of NVTX 3, which
# are all of it: nothing is linked, and a profiler is found at run time. Without them it is empty.

string(TOUPPER "${GPUQ_NVTX}" gpuq_nvtx_mode)
if(NOT gpuq_nvtx_mode MATCHES "^(AUTO|ON|OFF|TRUE|FALSE|1|0|YES|NO)$")
	message(FATAL_ERROR "GPUQ_NVTX is \"${GPUQ_NVTX}\"; it must be AUTO, ON or OFF")
endif()
set(gpuq_nvtx_include "")
if(gpuq_nvtx_mode STREQUAL "AUTO" OR GPUQ_NVTX)
	set(gpuq_nvtx_hints "")
	if(GPUQ_NVCC)
		cmake_path(GET GPUQ_NVCC PARENT_PATH gpuq_nvcc_folder)
		set(gpuq_nvtx_hints "${gpuq_nvcc_folder}/../include")
	endif()
	find_path(GPUQ_NVTX_INCLUDE_DIR nvtx3/nvToolsExt.h
		HINTS ${gpuq_nvtx_hints} ENV CUDA_PATH ENV CUDA_HOME
		PATHS /usr/local/cuda
		PATH_SUFFIXES include
		DOC "Folder that holds nvtx3/nvToolsExt.h, if any")
	if(GPUQ_NVTX_INCLUDE_DIR)
		set(gpuq_nvtx_include "${GPUQ_NVTX_INCLUDE_DIR}")
		message(STATUS "NVTX: ${gpuq_nvtx_include}")
	elseif(NOT gpuq_nvtx_mode STREQUAL "AUTO")
		message(FATAL_ERROR "GPUQ_NVTX is ON, but there is no nvtx3/nvToolsExt.h: "
			"set GPUQ_NVTX_INCLUDE_DIR, or set GPUQ_NVTX to AUTO or OFF")
	else()
		message(STATUS "NVTX: not found; profilers see no ranges")
	endif()
endif()

# System headers, for their warnings are not ours; those of /usr/include are such already.
set(gpuq_nvtx_options "")
if(gpuq_nvtx_include AND NOT gpuq_nvtx_include IN_LIST CMAKE_C_IMPLICIT_INCLUDE_DIRECTORIES)
	set(gpuq_nvtx_options -isystem "${gpuq_nvtx_include}")
endif()

function(gpuq_use_nvtx target)
	if(NOT gpuq_nvtx_include)
		return()
	endif()
	target_compile_definitions(${target} PRIVATE GPUQ_HAVE_NVTX)
	# The header that names streams wants cuda.h for four types: it gets ours.
	set_source_files_properties(src/host/base/nvtx.c PROPERTIES
		INCLUDE_DIRECTORIES "${PROJECT_SOURCE_DIR}/src/host/base/nvtx"
		COMPILE_OPTIONS "${gpuq_nvtx_options}")
endfunction()
