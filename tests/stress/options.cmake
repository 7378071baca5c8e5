# SPDX-License-Identifier: Apache-2.0
#
# What the stress tests share. In builds with GPUQ_CHAOS they bring their own gq__chaos(): its delays
# follow the test's seed, and a thread can be made to stand still in a window.
add_library(gpuq_stress_support STATIC stress/support.c stress/traffic.c)
target_link_libraries(gpuq_stress_support PRIVATE gpuq_test_flags ${gpuq_cmocka} PUBLIC gpuq_static)
file(GLOB stress_sources CONFIGURE_DEPENDS stress/stress_*.c)
foreach(source ${stress_sources})
	cmake_path(GET source STEM LAST_ONLY target)
	target_link_libraries(${target} PRIVATE gpuq_stress_support)
	if(GPUQ_CHAOS)
		target_link_options(${target} PRIVATE LINKER:--wrap=gq__chaos)
	endif()
endforeach()
