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
# One that says Q_RESULT_ONLY and one that does not; and that of gpuq_add_processor() for one that
# does not: what cuda.result_only compiles.
gpuq_add_opcode_module(by_opcode_mixed "${gpuq_kernels}/echo.cu" GRANULARITY WARP OPCODES
	1=modules/tile.cu 2=${gpuq_kernels}/crc32c.cu)
set(gpuq_test_mixed_switch
	"${CMAKE_CURRENT_BINARY_DIR}/gpuq_processors/module_by_opcode_mixed/by_opcode_mixed.opcodes.cu"
	PARENT_SCOPE)
gpuq_add_opcode_module(result_only modules/tile.cu GRANULARITY WARP RESULT_ONLY)
set(gpuq_test_result_only
	"${CMAKE_CURRENT_BINARY_DIR}/gpuq_processors/module_result_only/result_only.fatbin.cu" PARENT_SCOPE)
gpuq_add_opcode_module(by_opcode_c unit/processor/opcodes/length.c OPCODES
	1=unit/processor/opcodes/first.c 2=unit/processor/opcodes/last.c)

# Minutes under a sanitizer: every driver call fails once.
set_tests_properties(unit.cuda unit.cuda.standin PROPERTIES LABELS "stress;standin" TIMEOUT 1200)
# What takes long begins first, or a core waits for the other at the end.
set_tests_properties(unit.cuda.standin unit.ring_stopped unit.queue.standin PROPERTIES COST 40)

target_compile_definitions(test_trace PRIVATE
	GPUQ_CHECK_TRACE="${CMAKE_CURRENT_SOURCE_DIR}/support/check_trace.py")

# test_completion's processor as the stand-in driver's images of every granularity: as it should be,
# and saying that it writes nothing but its result; and for GPUs.
foreach(granularity 0 1 2)
	foreach(image table result_only)
		set(object gpuq_standin_${image}_${granularity})
		add_library(${object} OBJECT unit/queue/completion/standin_table.cc)
		target_link_libraries(${object} PRIVATE gpuq_test_flags)
		target_compile_options(${object} PRIVATE ${gpuq_plain_cxx})
		target_compile_definitions(${object} PRIVATE
			Q_GRANULARITY=${granularity}
			STANDIN_IMAGE=standin_${image}_${granularity}
			process_message=${image}_process_${granularity}
			$<$<STREQUAL:${image},result_only>:Q_RESULT_ONLY>
			$<$<STREQUAL:${image}${granularity},table0>:TABLE_HOST>)
		target_sources(test_completion PRIVATE $<TARGET_OBJECTS:${object}>)
	endforeach()
	gpuq_embed_test_image(test_completion gpu_table_${granularity}
		unit/queue/completion/table.cu ${granularity})
	foreach(length 0 100)
		set(test unit.completion.standin.result_only.${granularity}.${length})
		add_test(NAME ${test} COMMAND test_completion result-only ${granularity} ${length})
		gpuq_test_properties(LABELS fast TESTS ${test})
		set_property(TEST ${test} APPEND PROPERTY LABELS standin)
		set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT
			"GPUQ_TEST_DEVICE=cuda" "GPUQ_LIBCUDA=$<TARGET_FILE:gpuq_standin>")
		if(GPUQ_SANITIZE STREQUAL "thread") # the race must be found
			set_tests_properties(${test} PROPERTIES
				PASS_REGULAR_EXPRESSION "data race.*check_cells.*write_cells")
		endif()
	endforeach()
endforeach()

if(TARGET gpuqd)
	add_dependencies(test_broker gpuqd)
	add_dependencies(test_service gpuqd)
	add_dependencies(test_service_batch gpuqd)
	add_dependencies(test_service_chardev gpuqd)
	add_dependencies(test_service_reuse gpuqd)
	add_dependencies(test_service_token gpuqd)
	add_dependencies(test_service_peers gpuqd)
	add_dependencies(test_service_netlink gpuqd)
	# Their cases of the device once more, over a node in /dev: skipped where the kernel has no CUSE.
	add_test(NAME unit.service_transport_cuse COMMAND test_service_transport)
	add_test(NAME unit.service_peers_cuse COMMAND test_service_peers)
	gpuq_test_properties(LABELS fast TESTS unit.service_transport_cuse unit.service_peers_cuse)
	set_property(TEST unit.service_transport_cuse unit.service_peers_cuse
		APPEND PROPERTY ENVIRONMENT "GPUQ_TEST_CUSE=1")
	target_compile_definitions(test_service_chardev PRIVATE $<$<BOOL:${GPUQ_HAVE_FUSE}>:GPUQ_HAVE_FUSE>)
endif()
target_compile_definitions(test_calls PRIVATE GPUQ_SYMBOLS="${PROJECT_SOURCE_DIR}/src/libgpuq.map")
set_tests_properties(unit.calls unit.calls.standin PROPERTIES TIMEOUT 300)
# Traces processes instruction by instruction.
set_tests_properties(unit.ring_stopped PROPERTIES TIMEOUT 600)

# The page of counts is in the tests' helpers with gpuqd, and else in nothing that the tests link.
if(NOT TARGET gpuq_broker_objects)
	target_sources(test_page PRIVATE ${gpuq_page_sources})
endif()
target_link_options(test_pipe PRIVATE LINKER:--wrap=gq__now_ns) # a test of pace.c stops the clock
