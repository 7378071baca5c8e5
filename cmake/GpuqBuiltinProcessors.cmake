# SPDX-License-Identifier: Apache-2.0
#
# gpuq_add_builtin_processor(<target> <source>): like gpuq_add_processor(), but the image has a name
# the library refers to (gq__processor_NAME, listed in src/host/processor.c) in place of a
# constructor, which a linker would drop together with an archive member nothing refers to.
# The function's prefix differs from users' so that a static link with a user's processor of the
# same name has no duplicate symbol.

function(gpuq_add_builtin_processor target source)
	cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}" NORMALIZE)
	cmake_path(GET source STEM LAST_ONLY name)
	_gpuq_write_processor_wrapper(
		OUTPUT "${CMAKE_CURRENT_BINARY_DIR}/gpuq_processors/builtin/${name}.cpp"
		FUNCTION "gq__process_message_${name}"
		SOURCE "${source}"
		GRANULARITY 0
		TAIL "static void q_processor_entry(const MsgView *in, ResultView *out)
{
	Q_PROCESSOR_CALL_(in, out);
}
extern \"C\" {
extern const QProcessorImage gq__processor_${name};
const QProcessorImage gq__processor_${name} = Q_PROCESSOR_INIT_(\"${name}\");
}
")
	_gpuq_attach_processor_wrapper(${target} "${source}"
		"${CMAKE_CURRENT_BINARY_DIR}/gpuq_processors/builtin/${name}.cpp")
endfunction()
