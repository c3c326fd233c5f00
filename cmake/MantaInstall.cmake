# What `cmake --install` lays down, so that an outside project needs no more than
#
#   find_package(Manta REQUIRED)
#   target_link_libraries(mine PRIVATE manta::manta)      # and manta::data, manta::torch
#
# Static libraries, public headers, the programs, and CMake files that find the same third-party packages (MantaDependencies).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# The names outside projects use; inside the tree they are aliases.
add_library(manta_manta INTERFACE)
target_link_libraries(manta_manta INTERFACE manta_headers)
if(TARGET manta_actors)
  target_link_libraries(manta_manta INTERFACE manta_actors)
  # A program starts its local node with the mantad it was built beside.
  target_compile_definitions(manta_actors INTERFACE
    $<BUILD_INTERFACE:MANTA_DAEMON_PATH="${CMAKE_RUNTIME_OUTPUT_DIRECTORY}/mantad">
    $<INSTALL_INTERFACE:MANTA_DAEMON_PATH="$<INSTALL_PREFIX>/${CMAKE_INSTALL_BINDIR}/mantad">)
endif()
add_library(manta::manta ALIAS manta_manta)

# manta_export(set targets...): the libraries of one export set, each known outside as manta::<name>.
function(manta_export set)
  foreach(target ${ARGN})
    if(TARGET ${target})
      string(REPLACE "manta_" "" name ${target})
      set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
      if(NOT TARGET manta::${name})
        add_library(manta::${name} ALIAS ${target})
      endif()
      install(TARGETS ${target} EXPORT ${set} ARCHIVE LIBRARY RUNTIME)
      set(MANTA_EXPORTED_${set} ON PARENT_SCOPE)
    endif()
  endforeach()
endfunction()

set(MANTA_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/Manta)
manta_export(MantaTargets manta_headers manta_manta manta_common manta_wire manta_gpu manta_object_store manta_actors)
manta_export(MantaDataTargets manta_data)
manta_export(MantaTorchTargets manta_torch)
foreach(set MantaTargets MantaDataTargets MantaTorchTargets)
  if(MANTA_EXPORTED_${set})
    install(EXPORT ${set} NAMESPACE manta:: DESTINATION ${MANTA_CMAKE_DIR})
  endif()
endforeach()

# Programs and what they load at run time. Nothing else is installed: no tests, examples or benchmarks.
foreach(target mantad manta manta-embed manta-search)
  if(TARGET ${target})
    install(TARGETS ${target} RUNTIME)
  endif()
endforeach()
foreach(target manta_cuda manta_torch_module)
  if(TARGET ${target})
    install(TARGETS ${target} LIBRARY)
  endif()
endforeach()

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/manta DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/MantaConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/MantaConfig.cmake
  INSTALL_DESTINATION ${MANTA_CMAKE_DIR} NO_CHECK_REQUIRED_COMPONENTS_MACRO)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/MantaConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/MantaConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/MantaConfigVersion.cmake
  ${CMAKE_CURRENT_LIST_DIR}/MantaDependencies.cmake DESTINATION ${MANTA_CMAKE_DIR})
