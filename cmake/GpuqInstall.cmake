# SPDX-License-Identifier: Apache-2.0
#
# What `cmake --install` puts into the prefix. Everything in it finds its neighbours by relative
# paths: the prefix may be moved. Five components, which become five packages
# (cmake/GpuqPackage.cmake): library, development, command, redis, documentation.

set(gpuq_package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/gpuq")

install(TARGETS gpuq gpuq_static
	EXPORT gpuqTargets
	LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
		COMPONENT library NAMELINK_COMPONENT development
	ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
		COMPONENT development)
install(DIRECTORY include/gpuq DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
	COMPONENT development FILES_MATCHING PATTERN "*.h")
install(DIRECTORY docs/man/man3 docs/man/man7 DESTINATION "${CMAKE_INSTALL_MANDIR}"
	COMPONENT development)
install(FILES kernels/vecdot.h DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/gpuq"
	COMPONENT development)
if(TARGET gpuq_cli)
	install(TARGETS gpuq_cli RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT command)
	file(GLOB gpuq_man_pages CONFIGURE_DEPENDS docs/man/man1/*.1)
	list(FILTER gpuq_man_pages EXCLUDE REGEX "/(gpuq-redis|gpuqd)\\.1$")
	install(FILES ${gpuq_man_pages} DESTINATION "${CMAKE_INSTALL_MANDIR}/man1" COMPONENT command)
	install(FILES src/cli/gpuq.bash RENAME gpuq COMPONENT command
		DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions")
endif()
if(TARGET gpuqd)
	install(TARGETS gpuqd RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT command)
	install(FILES docs/man/man1/gpuqd.1 DESTINATION "${CMAKE_INSTALL_MANDIR}/man1" COMPONENT command)
	# Their command is the installed one, so they are made when it is known where that will be.
	foreach(unit gpuqd.service gpuqd.socket gpuqd-services.socket)
		configure_file(src/broker/${unit}.in "${PROJECT_BINARY_DIR}/gpuq_generated/${unit}.in" COPYONLY)
		install(CODE "
			set(gpuq_bindir \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
			configure_file(\"${PROJECT_BINARY_DIR}/gpuq_generated/${unit}.in\"
				\"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib/systemd/system/${unit}\" @ONLY)"
			COMPONENT command)
	endforeach()
	install(FILES src/broker/gpuqd.sysusers RENAME gpuqd.conf DESTINATION lib/sysusers.d COMPONENT command)
endif()
if(TARGET gpuq_redis)
	install(TARGETS gpuq_redis RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}" COMPONENT redis)
	install(FILES docs/man/man1/gpuq-redis.1 DESTINATION "${CMAKE_INSTALL_MANDIR}/man1" COMPONENT redis)
	install(FILES src/redis/gpuq-redis.bash RENAME gpuq-redis COMPONENT redis
		DESTINATION "${CMAKE_INSTALL_DATADIR}/bash-completion/completions")
	# Its command is the installed one, so it is made when it is known where that will be.
	configure_file(src/redis/gpuq-redis@.service.in
		"${PROJECT_BINARY_DIR}/gpuq_generated/gpuq-redis@.service.in" COPYONLY)
	install(CODE "
		set(gpuq_bindir \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_BINDIR}\")
		configure_file(\"${PROJECT_BINARY_DIR}/gpuq_generated/gpuq-redis@.service.in\"
			\"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/lib/systemd/system/gpuq-redis@.service\" @ONLY)"
		COMPONENT redis)
endif()
install(FILES LICENSE README.md CHANGELOG.md DESTINATION "${CMAKE_INSTALL_DOCDIR}"
	COMPONENT documentation)
install(DIRECTORY docs DESTINATION "${CMAKE_INSTALL_DOCDIR}"
	COMPONENT documentation FILES_MATCHING PATTERN "*.md" PATTERN "*.svg"
	PATTERN man EXCLUDE)
# Not what somebody has built in there.
install(DIRECTORY examples DESTINATION "${CMAKE_INSTALL_DOCDIR}"
	COMPONENT documentation PATTERN "build*" EXCLUDE)

install(EXPORT gpuqTargets NAMESPACE gpuq:: DESTINATION "${gpuq_package_dir}"
	COMPONENT development)
configure_package_config_file(cmake/gpuqConfig.cmake.in "${PROJECT_BINARY_DIR}/gpuqConfig.cmake"
	INSTALL_DESTINATION "${gpuq_package_dir}")
configure_file(cmake/gpuqConfigVersion.cmake.in
	"${PROJECT_BINARY_DIR}/gpuqConfigVersion.cmake" @ONLY)
install(FILES
	"${PROJECT_BINARY_DIR}/gpuqConfig.cmake"
	"${PROJECT_BINARY_DIR}/gpuqConfigVersion.cmake"
	cmake/gpuq_add_processor.cmake
	DESTINATION "${gpuq_package_dir}" COMPONENT development)
# What gpuq_add_processor() compiles for GPUs: the grid's loop around the user's function.
foreach(header ${gpuq_device_headers})
	cmake_path(GET header PARENT_PATH folder)
	install(FILES src/${header}
		DESTINATION "${gpuq_package_dir}/include/${folder}" COMPONENT development)
endforeach()

# pkg-config: relative to the .pc file where it can be, so that the prefix may be moved.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
	set(gpuq_pc_prefix "${CMAKE_INSTALL_PREFIX}")
	set(gpuq_pc_libdir "${CMAKE_INSTALL_FULL_LIBDIR}")
	set(gpuq_pc_includedir "${CMAKE_INSTALL_FULL_INCLUDEDIR}")
else()
	file(RELATIVE_PATH gpuq_pc_up
		"${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
	string(REGEX REPLACE "/$" "" gpuq_pc_up "${gpuq_pc_up}")
	set(gpuq_pc_prefix "\${pcfiledir}/${gpuq_pc_up}")
	set(gpuq_pc_libdir "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
	set(gpuq_pc_includedir "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
set(gpuq_pc_private "${CMAKE_THREAD_LIBS_INIT}")
if(NOT gpuq_pc_private)
	set(gpuq_pc_private "-pthread") # glibc 2.34 and newer: empty, but older users may link it
endif()
foreach(library ${CMAKE_DL_LIBS} m)
	string(APPEND gpuq_pc_private " -l${library}")
endforeach()
configure_file(gpuq.pc.in "${PROJECT_BINARY_DIR}/gpuq.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/gpuq.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig"
	COMPONENT development)
