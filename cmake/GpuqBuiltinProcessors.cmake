# SPDX-License-Identifier: Apache-2.0
#
# gpuq_add_builtin_processor(<target> <source>): like gpuq_add_processor(), but the image has a name
# the library refers to (gq__processor_NAME, listed in src/host/processor/image.c) in place of a
# constructor, which a linker would drop together with an archive member nothing refers to.
# The function's prefix differs from users' so that a static link with a user's processor of the
# same name has no duplicate symbol. Where there is nvcc, images for GPUs of all three granularities
# come with it, in gq__device_images_NAME.

function(gpuq_add_builtin_processor target source)
	cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" NORMALIZE)
	cmake_path(GET source STEM LAST_ONLY name)
	set(folder "${CMAKE_CURRENT_BINARY_DIR}/gpuq_processors/builtin")
	set(head "")
	set(images "nullptr, nullptr, nullptr")
	set(fatbins "")
	if(GPUQ_NVCC)
		foreach(granularity 0 1 2)
			set(fatbin "${folder}/${name}.${granularity}.fatbin")
			_gpuq_make_fatbin(TARGET ${target} NVCC "${GPUQ_NVCC}" OUTPUT "${fatbin}"
				SOURCE "${source}" GRANULARITY ${granularity})
			_gpuq_embed(embedded "gq__fatbin_${name}_${granularity}" "${fatbin}")
			string(APPEND head "${embedded}")
			list(APPEND fatbins "${fatbin}")
		endforeach()
		set(images "gq__fatbin_${name}_0, gq__fatbin_${name}_1, gq__fatbin_${name}_2")
	endif()
	_gpuq_write_processor_wrapper(
		HEAD "${head}"
		OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/gpuq_processors/builtin/${name}.cpp"
		FUNCTION "gq__process_message_${name}"
		SOURCE "${source}"
		GRANULARITY 0
		TAIL "static void q_processor_entry(const MsgView *in, ResultView *out)
{
	Q_PROCESSOR_CALL_(in, out);
}
extern \"C\" {
extern const void *const gq__device_images_${name}[3];
const void *const gq__device_images_${name}[3] = { ${images} };
extern const QProcessorImage gq__processor_${name};
const QProcessorImage gq__processor_${name} = Q_PROCESSOR_INIT_(\"${name}\");
}
")
	_gpuq_attach_processor_wrapper(${target} "${folder}/${name}.cpp" "${source}")
	if(fatbins)
		target_sources(${target} PRIVATE ${fatbins})
		set_property(SOURCE "${folder}/${name}.cpp" TARGET_DIRECTORY ${target}
			APPEND PROPERTY OBJECT_DEPENDS "${fatbins}")
	endif()
endfunction()
