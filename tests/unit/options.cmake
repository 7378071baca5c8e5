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

# Minutes under a sanitizer: every driver call fails once, and a hung message has to take its time.
set_tests_properties(unit.cuda unit.cuda.standin PROPERTIES LABELS "stress;standin" TIMEOUT 600)

target_compile_definitions(test_trace PRIVATE
	GPUQ_CHECK_TRACE="${CMAKE_CURRENT_SOURCE_DIR}/support/check_trace.py")
