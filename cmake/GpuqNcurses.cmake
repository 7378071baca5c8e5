# SPDX-License-Identifier: Apache-2.0
#
# gpuq_use_ncurses(target): the screen of `gpuq top`, by ncurses where it is. Without it gpuq top prints lines.

string(TOUPPER "${GPUQ_NCURSES}" gpuq_ncurses_mode)
if(NOT gpuq_ncurses_mode MATCHES "^(AUTO|ON|OFF|TRUE|FALSE|1|0|YES|NO)$")
	message(FATAL_ERROR "GPUQ_NCURSES is \"${GPUQ_NCURSES}\"; it must be AUTO, ON or OFF")
endif()
set(gpuq_ncurses_found OFF)
if(gpuq_ncurses_mode STREQUAL "AUTO" OR GPUQ_NCURSES)
	find_path(GPUQ_NCURSES_INCLUDE_DIR curses.h DOC "Folder that holds curses.h, if any")
	find_library(GPUQ_NCURSES_LIBRARY ncurses DOC "The library ncurses, if any")
	# Where the terminals are described apart from the screen.
	find_library(GPUQ_TINFO_LIBRARY tinfo DOC "The library tinfo, if any")
	mark_as_advanced(GPUQ_NCURSES_INCLUDE_DIR GPUQ_NCURSES_LIBRARY GPUQ_TINFO_LIBRARY)
	if(GPUQ_NCURSES_INCLUDE_DIR AND GPUQ_NCURSES_LIBRARY)
		set(gpuq_ncurses_found ON)
	elseif(NOT gpuq_ncurses_mode STREQUAL "AUTO")
		message(FATAL_ERROR "GPUQ_NCURSES is ON, but there is no ncurses: install libncurses-dev, "
			"or set GPUQ_NCURSES to AUTO or OFF")
	else()
		message(STATUS "gpuq top has no screen: there is no ncurses (libncurses-dev)")
	endif()
endif()

function(gpuq_use_ncurses target)
	if(NOT gpuq_ncurses_found)
		return()
	endif()
	target_compile_definitions(${target} PRIVATE GPUQ_HAVE_NCURSES)
	target_link_libraries(${target} PRIVATE "${GPUQ_NCURSES_LIBRARY}")
	if(GPUQ_TINFO_LIBRARY)
		target_link_libraries(${target} PRIVATE "${GPUQ_TINFO_LIBRARY}")
	endif()
	if(NOT GPUQ_NCURSES_INCLUDE_DIR IN_LIST CMAKE_C_IMPLICIT_INCLUDE_DIRECTORIES)
		target_include_directories(${target} SYSTEM PRIVATE "${GPUQ_NCURSES_INCLUDE_DIR}")
	endif()
endfunction()
