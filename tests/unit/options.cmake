# SPDX-License-Identifier: Apache-2.0
# Shared objects that are no processors, each in a way of its own; beside those of modules/.
file(GLOB broken CONFIGURE_DEPENDS broken_modules/*.c)
foreach(source ${broken})
	cmake_path(GET source STEM LAST_ONLY name)
	add_library(broken_${name} MODULE ${source})
	target_link_libraries(broken_${name} PRIVATE gpuq_flags)
	target_include_directories(broken_${name} PRIVATE "${PROJECT_SOURCE_DIR}/include")
	set_target_properties(broken_${name} PROPERTIES
		OUTPUT_NAME ${name} PREFIX "" SUFFIX .so
		LIBRARY_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/modules")
	add_dependencies(test_processors broken_${name})
endforeach()

# Processors of several sources, by opcode; in C and in CUDA C++. The latter's switch is also what
# cuda.opcodes compiles.
function(gpuq_add_opcode_module name)
	add_library(module_${name} MODULE)
	gpuq_add_processor(module_${name} ${ARGN} NAME ${name})
	target_link_libraries(module_${name} PRIVATE gpuq_flags)
	target_compile_options(module_${name} PRIVATE
		"$<$<COMPILE_LANGUAGE:CXX>:-fno-exceptions;-fno-rtti>")
	set_target_properties(module_${name} PROPERTIES
		OUTPUT_NAME ${name} PREFIX "" SUFFIX .so LINKER_LANGUAGE C
		LIBRARY_OUTPUT_DIRECTORY "${CMAKE_CURRENT_BINARY_DIR}/modules")
	add_dependencies(test_processors module_${name})
endfunction()
set(gpuq_kernels "${PROJECT_SOURCE_DIR}/kernels")
gpuq_add_opcode_module(by_opcode "${gpuq_kernels}/echo.cu" GRANULARITY WARP OPCODES
	"1=${gpuq_kernels}/crc32c.cu" "0xFFFFffff=${gpuq_kernels}/sha256.cu" "8=${gpuq_kernels}/sha256.cu")
set(gpuq_test_switch
	"${CMAKE_CURRENT_BINARY_DIR}/gpuq_processors/module_by_opcode/by_opcode.opcodes.cu" PARENT_SCOPE)
gpuq_add_opcode_module(by_opcode_c unit/opcodes/length.c OPCODES
	1=unit/opcodes/first.c 2=unit/opcodes/last.c)

# Minutes under a sanitizer: every driver call fails once.
set_tests_properties(unit.cuda unit.cuda.standin PROPERTIES LABELS "stress;standin" TIMEOUT 600)

target_compile_definitions(test_trace PRIVATE
	GPUQ_CHECK_TRACE="${CMAKE_CURRENT_SOURCE_DIR}/support/check_trace.py")
