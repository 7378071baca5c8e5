# SPDX-License-Identifier: Apache-2.0
#
# GPUQ_NVCC: nvcc's path, or empty. The CUDA language is not enabled: the library is host code, and
# nvcc only checks that the protocol header and every processor compile for the GPU as well.

string(TOUPPER "${GPUQ_CUDA}" gpuq_cuda_mode)
if(NOT gpuq_cuda_mode MATCHES "^(AUTO|ON|OFF|TRUE|FALSE|1|0|YES|NO)$")
	message(FATAL_ERROR "GPUQ_CUDA is \"${GPUQ_CUDA}\"; it must be AUTO, ON or OFF")
endif()
if(gpuq_cuda_mode STREQUAL "AUTO" OR GPUQ_CUDA)
	find_program(GPUQ_NVCC nvcc
		HINTS ENV CUDACXX ENV CUDA_PATH ENV CUDA_HOME
		PATHS /usr/local/cuda
		PATH_SUFFIXES bin
		DOC "CUDA compiler that checks the sources, if any")
	if(NOT GPUQ_NVCC)
		if(NOT gpuq_cuda_mode STREQUAL "AUTO")
			message(FATAL_ERROR "GPUQ_CUDA is ON, but there is no nvcc: "
				"put it on PATH, set CUDA_PATH, or set GPUQ_CUDA to AUTO or OFF")
		endif()
		message(STATUS "nvcc: not found; the sources are not checked for the GPU")
	else()
		message(STATUS "nvcc: ${GPUQ_NVCC}")
	endif()
	_gpuq_why_no_image(gpuq_why_no_image "${PROJECT_SOURCE_DIR}" "${PROJECT_BINARY_DIR}")
	if(GPUQ_NVCC AND gpuq_why_no_image)
		if(NOT gpuq_cuda_mode STREQUAL "AUTO")
			message(FATAL_ERROR "GPUQ_CUDA is ON, but ${gpuq_why_no_image}")
		endif()
		message(WARNING "The built-in processors have no GPU images: ${gpuq_why_no_image}")
		set(GPUQ_NVCC "")
	endif()
endif()
if(NOT GPUQ_NVCC OR NOT (gpuq_cuda_mode STREQUAL "AUTO" OR GPUQ_CUDA))
	set(GPUQ_NVCC "") # hides a "-NOTFOUND" or the path of an earlier configuration
endif()
