# SPDX-License-Identifier: Apache-2.0
#
# cmake -DARCHIVE= -DAR= -DLINKER= -DOBJCOPY= -DNM= -DMAP= -P GpuqLocalize.cmake: the archive's objects
# become one, in which hidden symbols are local. What is left global is what MAP lists: so nothing
# internal can meet a name of the application's, or of another library that has its own copy.
#
# Objects of link-time optimisation have no code yet to do that with: such an archive stays as it is,
# and so does one where a tool is missing or will not. Internal names begin with gq__ in any case.
# No error, for the archive works; tests/install looks that it has been done.

cmake_policy(VERSION 3.24)

function(gpuq_keep why)
	message("libgpuq.a: its internal symbols stay global: ${why}")
endfunction()

if(NOT LINKER OR NOT OBJCOPY OR NOT NM OR NOT AR)
	gpuq_keep("there is no linker, objcopy, nm or ar")
	return()
endif()
set(whole "${ARCHIVE}.whole.o")
file(REMOVE "${whole}")
execute_process(COMMAND "${LINKER}" -r -o "${whole}" --whole-archive "${ARCHIVE}"
	RESULT_VARIABLE status OUTPUT_VARIABLE said ERROR_VARIABLE said)
if(NOT status EQUAL 0)
	gpuq_keep("${LINKER} -r: ${status}: ${said}")
	return()
endif()
# "Fat" objects have code, and their intermediate form beside it, which has the global names too.
execute_process(COMMAND "${OBJCOPY}" --localize-hidden
		--remove-section=.gnu.lto_* --remove-section=.gnu.debuglto_* "${whole}"
	RESULT_VARIABLE status OUTPUT_VARIABLE said ERROR_VARIABLE said)
if(NOT status EQUAL 0)
	gpuq_keep("${OBJCOPY}: ${status}: ${said}")
	return()
endif()
execute_process(COMMAND "${NM}" -g --defined-only "${whole}"
	RESULT_VARIABLE status OUTPUT_VARIABLE symbols ERROR_VARIABLE said)
file(STRINGS "${MAP}" listed REGEX "^\tq_[a-z0-9_]+;$")
foreach(symbol IN LISTS listed)
	string(REGEX REPLACE "^\t(.*)$" "\\1" symbol "${symbol}") # file(STRINGS) drops the ';'
	string(REGEX REPLACE ";$" "" symbol "${symbol}")
	if(NOT symbols MATCHES " T ${symbol}\n")
		gpuq_keep("the objects are for link-time optimisation")
		file(REMOVE "${whole}")
		return()
	endif()
endforeach()
file(REMOVE "${ARCHIVE}")
execute_process(COMMAND "${AR}" rcsD "${ARCHIVE}" "${whole}" COMMAND_ERROR_IS_FATAL ANY)
file(REMOVE "${whole}")
