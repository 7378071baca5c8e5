# SPDX-License-Identifier: Apache-2.0
#
# cpack: Debian packages of the five components, or one archive of all. scripts/package makes a build
# that is meant for /usr and packs that; cmake/GpuqDebian.cmake does what CPack does not.

if(NOT PROJECT_IS_TOP_LEVEL)
	return() # CPack packs the whole project
endif()

set(GPUQ_PACKAGE_MAINTAINER "libgpuq <libgpuq@users.noreply.invalid>" CACHE STRING
	"Who made the packages: \"Name <address>\"")

set(CPACK_PACKAGE_NAME gpuq)
set(CPACK_PACKAGE_VERSION "${PROJECT_VERSION}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "message queue whose consumer is a GPU, or CPU threads")
set(CPACK_PACKAGE_CONTACT "${GPUQ_PACKAGE_MAINTAINER}")
set(CPACK_RESOURCE_FILE_LICENSE "${PROJECT_SOURCE_DIR}/LICENSE")
set(CPACK_GENERATOR DEB)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_STRIP_FILES ON)
set(CPACK_COMPONENTS_ALL library development command redis documentation)
if(NOT TARGET gpuq_cli)
	list(REMOVE_ITEM CPACK_COMPONENTS_ALL command)
endif()
if(NOT TARGET gpuq_redis)
	list(REMOVE_ITEM CPACK_COMPONENTS_ALL redis)
endif()
set(CPACK_PACKAGE_DIRECTORY "${PROJECT_BINARY_DIR}/packages")
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
	OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY "=")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS "${PROJECT_BINARY_DIR}/lib")
set(gpuq_deb_library "libgpuq${gpuq_soversion}")
set(gpuq_deb_what "libgpuq is a message queue whose consumer is a GPU: messages
are handed to a kernel that never exits, or, where there is no GPU, to CPU
threads that run the same function.")

set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME "${gpuq_deb_library}")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libs)
set(CPACK_DEBIAN_LIBRARY_PACKAGE_SHLIBDEPS ON)
file(WRITE "${PROJECT_BINARY_DIR}/gpuq_generated/triggers" "activate-noawait ldconfig\n")
set(CPACK_DEBIAN_LIBRARY_PACKAGE_CONTROL_EXTRA "${PROJECT_BINARY_DIR}/gpuq_generated/triggers")
set(CPACK_COMPONENT_LIBRARY_DESCRIPTION "${gpuq_deb_what}
.
This package contains the shared library.")

set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME libgpuq-dev)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_DEPENDS
	"${gpuq_deb_library} (= ${PROJECT_VERSION}), libc6-dev")
set(CPACK_COMPONENT_DEVELOPMENT_DESCRIPTION "${gpuq_deb_what}
.
This package contains the headers, the static library, and what CMake and
pkg-config need to find them.")

set(CPACK_DEBIAN_COMMAND_PACKAGE_NAME gpuq)
set(CPACK_DEBIAN_COMMAND_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_COMMAND_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_COMMAND_PACKAGE_DEPENDS "${gpuq_deb_library} (= ${PROJECT_VERSION})")
if(GPUQ_HAVE_FUSE)
	set(CPACK_DEBIAN_COMMAND_PACKAGE_SUGGESTS fuse3) # fusermount3, for a gpuqd that is not root's
endif()
set(CPACK_COMPONENT_COMMAND_DESCRIPTION "${gpuq_deb_what}
.
This package contains the command gpuq, which sends files through a queue.")

set(CPACK_DEBIAN_REDIS_PACKAGE_NAME gpuq-redis)
set(CPACK_DEBIAN_REDIS_PACKAGE_SECTION utils)
set(CPACK_DEBIAN_REDIS_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_REDIS_PACKAGE_DEPENDS "${gpuq_deb_library} (= ${PROJECT_VERSION})")
set(CPACK_COMPONENT_REDIS_DESCRIPTION "${gpuq_deb_what}
.
This package contains gpuq-redis, which takes messages from Redis streams.")

set(CPACK_DEBIAN_DOCUMENTATION_PACKAGE_NAME gpuq-doc)
set(CPACK_DEBIAN_DOCUMENTATION_PACKAGE_SECTION doc)
set(CPACK_DEBIAN_DOCUMENTATION_PACKAGE_ARCHITECTURE all)
set(CPACK_COMPONENT_DOCUMENTATION_DESCRIPTION "${gpuq_deb_what}
.
This package contains the guides and the examples.")

configure_file(cmake/GpuqDebian.cmake.in "${PROJECT_BINARY_DIR}/GpuqDebian.cmake" @ONLY)
set(CPACK_PRE_BUILD_SCRIPTS "${PROJECT_BINARY_DIR}/GpuqDebian.cmake")
include(CPack)
