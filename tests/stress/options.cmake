# SPDX-License-Identifier: Apache-2.0
#
# What the stress tests share. In builds with GPUQ_CHAOS they bring their own gq__chaos(): its delays
# follow the test's seed, and a thread can be made to stand still in a window.
add_library(gpuq_stress_support STATIC
	stress/support.c stress/traffic.c)
# Its processor as the stand-in driver's images of every granularity, and one of two warps a block.
foreach(image thread warp block warps)
	add_library(gpuq_standin_ledger_${image} OBJECT stress/standin_ledger.cc)
	target_link_libraries(gpuq_standin_ledger_${image} PRIVATE gpuq_test_flags)
	target_compile_options(gpuq_standin_ledger_${image} PRIVATE ${gpuq_plain_cxx})
	target_sources(gpuq_stress_support PRIVATE
		$<TARGET_OBJECTS:gpuq_standin_ledger_${image}>)
	target_include_directories(gpuq_standin_ledger_${image} PRIVATE stress)
	target_compile_definitions(gpuq_standin_ledger_${image} PRIVATE
		STANDIN_IMAGE=standin_ledger_${image}
		process_message=ledger_process_${image})
endforeach()
target_compile_definitions(gpuq_standin_ledger_thread PRIVATE Q_GRANULARITY=0)
target_compile_definitions(gpuq_standin_ledger_warp PRIVATE Q_GRANULARITY=1 LEDGER_HOST)
target_compile_definitions(gpuq_standin_ledger_block PRIVATE Q_GRANULARITY=2)
target_compile_definitions(gpuq_standin_ledger_warps PRIVATE Q_GRANULARITY=1 GQ_BLOCK_THREADS=96)
target_compile_options(gpuq_stress_support PRIVATE ${gpuq_plain_cxx})
target_link_libraries(gpuq_stress_support
	PRIVATE gpuq_test_flags ${gpuq_cmocka}
	PUBLIC gpuq_test_support gpuq_internal)
target_include_directories(gpuq_stress_support PUBLIC stress)
gpuq_embed_test_image(gpuq_stress_support gpu_ledger_thread stress/ledger.cu 0)
gpuq_embed_test_image(gpuq_stress_support gpu_ledger_warp stress/ledger.cu 1)
gpuq_embed_test_image(gpuq_stress_support gpu_ledger_block stress/ledger.cu 2)
gpuq_embed_test_image(gpuq_stress_support gpu_ledger_warps stress/ledger_warps.cu 1)
file(GLOB stress_sources CONFIGURE_DEPENDS stress/stress_*.c)
if(NOT TARGET gpuq_broker_objects)
	list(FILTER stress_sources EXCLUDE REGEX "/stress_kill\\.c$")
endif()
foreach(source ${stress_sources})
	cmake_path(GET source STEM LAST_ONLY target)
	target_link_libraries(${target} PRIVATE gpuq_stress_support)
	if(GPUQ_CHAOS)
		target_link_options(${target} PRIVATE LINKER:--wrap=gq__chaos)
	endif()
endforeach()

# The processes that it starts and kills.
if(TARGET stress_kill)
	target_sources(stress_kill PRIVATE stress/kill_roles.c)
	set_property(TEST stress.kill PROPERTY COST 100) # it takes long, so it begins first
endif()

# Where order and hanging messages do not matter: the other images too.
foreach(test exactly_once capacity cancel)
	if(GPUQ_SANITIZE MATCHES "address" AND test STREQUAL "capacity")
		continue() # exactly_once touches the same memory and more; tsan and release have it
	endif()
	foreach(image thread block warps)
		add_test(NAME stress.${test}.standin.${image} COMMAND stress_${test})
		gpuq_test_properties(LABELS stress PROCESSORS 2 TESTS stress.${test}.standin.${image})
		set_property(TEST stress.${test}.standin.${image} APPEND PROPERTY LABELS standin)
		set_property(TEST stress.${test}.standin.${image} APPEND PROPERTY ENVIRONMENT
			"GPUQ_TEST_DEVICE=cuda" "GPUQ_LIBCUDA=$<TARGET_FILE:gpuq_standin>"
			"GPUQ_TEST_IMAGE=${image}" "GPUQ_STRESS_SCALE=0.3")
	endforeach()
endforeach()
