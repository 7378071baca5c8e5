# SPDX-License-Identifier: Apache-2.0
#
# gpuq_device_headers: what code for GPUs is compiled with, relative to src/. It is installed for
# gpuq_add_processor(), and inside the library for NVRTC. The one list of these files.

set(gpuq_device_headers
	device/protocol/atomics.h
	device/protocol/channel.h
	device/protocol/claim.h
	device/protocol/complete.h
	device/protocol/event.h
	device/protocol/layout.h
	device/protocol/protocol.h
	device/protocol/pool.h
	device/protocol/publish.h
	device/protocol/seal.h
	device/protocol/slot.h
	device/protocol/word_ring.h
	device/cuda/grid/grid.cuh
	device/cuda/grid/grid.h
	device/cuda/grid/lanes.cuh
	device/cuda/grid/look.cuh
	device/cuda/grid/tally.cuh
	device/cuda/grid/message.cuh
	device/cuda/grid/run.h)

# Writes gpuq_generated/nvrtc_headers.inc for src/device/cuda/driver/nvrtc_headers.c: a line
# HEADER(symbol, name in #include, path) for each header that NVRTC is given.
function(gpuq_list_nvrtc_headers)
	# The path is in a file, and not in a definition: then no shell and no make reads it.
	_gpuq_path_in_asm(root "${PROJECT_SOURCE_DIR}")
	set(headers "include:gpuq/processor.h")
	foreach(header stddef.h stdint.h stdbool.h)
		list(APPEND headers "src/device/cuda/driver/nvrtc:${header}")
	endforeach()
	foreach(header ${gpuq_device_headers})
		list(APPEND headers "src:${header}")
	endforeach()
	set(lines "")
	set(files "")
	foreach(pair ${headers})
		string(REGEX MATCH "^([^:]*):(.*)$" pair "${pair}")
		set(folder "${CMAKE_MATCH_1}")
		set(name "${CMAKE_MATCH_2}")
		string(MAKE_C_IDENTIFIER "${name}" symbol)
		string(APPEND lines "HEADER(gq__header_${symbol}, \"${name}\", \"${root}/${folder}/${name}\")\n")
		list(APPEND files "${PROJECT_SOURCE_DIR}/${folder}/${name}")
	endforeach()
	file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/gpuq_generated/nvrtc_headers.inc" @ONLY NEWLINE_STYLE UNIX
		CONTENT "@lines@")
	set_source_files_properties(src/device/cuda/driver/nvrtc_headers.c PROPERTIES
		INCLUDE_DIRECTORIES "${PROJECT_BINARY_DIR}/gpuq_generated"
		OBJECT_DEPENDS "${files}")
endfunction()
