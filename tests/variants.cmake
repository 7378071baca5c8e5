# SPDX-License-Identifier: Apache-2.0
#
# On which devices each test of unit/ and stress/ runs, beside the CPU device. One row a test; a test without a
# row is refused.
#
#   standin  the CUDA device through the stand-in driver
#   bar1     the same, and messages are written into device memory, of which some stores do not arrive; in builds
#            with GPUQ_BAR1
#   copy     the same by transport copy, and
#   bounded  the same with bounded launches: under the sanitizers only, as elsewhere scripts/gpu-check does it
#            (gpu.script.standin)
#   remote   the remote device: a gpuqd inside of the test's process; in builds with GPUQ_BROKER
#   gpu      a GPU, for scripts/gpu-check. Not for what breaks the driver, needs no device, or stalls CPU threads
set(gpuq_test_variants
	"unit.bad_calls         standin gpu"
	"unit.bar1              standin gpu"
	"unit.broker"
	"unit.broker_bells"
	"unit.broker_edges"
	"unit.broker_fair"
	"unit.broker_inline"
	"unit.broker_token"
	"unit.calls             standin gpu"
	"unit.client_memory"
	"unit.completion        standin bar1 gpu remote"
	"unit.control           standin bar1 copy gpu remote"
	"unit.beside            standin"
	"unit.quiet             standin"
	"unit.cuda              standin"
	"unit.descriptor_queue  standin copy gpu"
	"unit.faults            standin gpu"
	"unit.flag"
	"unit.hooks             standin remote"
	"unit.log"
	"unit.notify"
	"unit.nvrtc             standin gpu"
	"unit.page"
	"unit.peer"
	"unit.pipe"
	"unit.pipe_policy"
	"unit.pipe_pool"
	"unit.pipe_shared"
	"unit.processors        standin gpu"
	"unit.protocol          standin"
	"unit.producer          standin gpu remote"
	"unit.queue             standin bar1 copy bounded gpu remote"
	"unit.region"
	"unit.ring"
	"unit.ring_descriptor"
	"unit.ring_liar"
	"unit.ring_memory"
	"unit.ring_poll"
	"unit.ring_slip"
	"unit.ring_stopped"
	"unit.service"
	"unit.service_away"
	"unit.service_bad_calls"
	"unit.service_batch"
	"unit.service_chardev"
	"unit.service_client"
	"unit.service_gather"
	"unit.service_limit"
	"unit.service_needs"
	"unit.service_netlink"
	"unit.service_order"
	"unit.service_peers"
	"unit.service_quota"
	"unit.service_region"
	"unit.service_reuse"
	"unit.service_schedule"
	"unit.service_sessions"
	"unit.service_share"
	"unit.service_token"
	"unit.service_transport"
	"unit.subscription"
	"unit.take              standin gpu remote"
	"unit.trace             standin gpu remote"
	"unit.transport         standin gpu"
	"unit.wait              standin bar1 gpu remote"
	"unit.wake"
	"unit.watch             standin"
	"unit.yield"

	"stress.cancel          standin bar1 gpu"
	"stress.capacity        standin gpu"
	"stress.claim"
	"stress.exactly_once    standin bar1 copy gpu"
	"stress.fair"
	"stress.kill"
	"stress.notify"
	"stress.order           standin bar1 gpu"
	"stress.peers"
	"stress.pipe"
	"stress.region"
	"stress.ring"
	"stress.ring_close"
	"stress.ring_liar"
	"stress.stall           standin"
	"stress.stop            standin gpu"
	"stress.wait            standin gpu")

# The environments of the variants through the stand-in driver.
set(gpuq_variant_standin "GPUQ_LIBNVRTC=$<TARGET_FILE:gpuq_standin_nvrtc>")
if(NOT GPUQ_SANITIZE) # messages take longer there; with sanitizers there is less work in any case
	list(APPEND gpuq_variant_standin "GPUQ_STRESS_SCALE=0.5")
endif()
set(gpuq_variant_bar1 "GPUQ_TRANSPORT=bar1" "GPUQ_STRESS_SCALE=0.3")
# Several units feed here, as they may by GPUQ_TUNE.
set(gpuq_variant_copy "GPUQ_TRANSPORT=copy" "GPUQ_TUNE=feeders:4" "GPUQ_TEST_SHORT=1" "GPUQ_STRESS_SCALE=0.05")
set(gpuq_variant_bounded "GPUQ_BOUNDED=16:50" "GPUQ_TEST_SHORT=1")

# gpuq_variants_of(<test> <variable>): those that this build has.
function(gpuq_variants_of test variable)
	set(found "")
	foreach(row ${gpuq_test_variants})
		string(REGEX REPLACE " +" ";" row "${row}")
		list(POP_FRONT row name)
		if(name STREQUAL test)
			set(found yes)
			set(variants "${row}")
		endif()
	endforeach()
	if(NOT found)
		message(FATAL_ERROR "${test} has no row in tests/variants.cmake")
	endif()
	if(NOT TARGET gpuq_broker_objects)
		list(REMOVE_ITEM variants remote)
	endif()
	if(NOT GPUQ_BAR1)
		list(REMOVE_ITEM variants bar1)
	endif()
	if(NOT GPUQ_SANITIZE)
		list(REMOVE_ITEM variants copy bounded)
	endif()
	set(${variable} "${variants}" PARENT_SCOPE)
endfunction()
