# How every target of the tree is built: language level, warnings as errors, and the two helpers the folders use.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)

option(MANTA_TESTS "Build the tests" ON)
set(MANTA_SANITIZER "" CACHE STRING "address;undefined, thread, or empty")

find_program(MANTA_CCACHE ccache)
if(MANTA_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${MANTA_CCACHE})
endif()

add_compile_options(-Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  add_compile_options(-Wthread-safety)
endif()
if(MANTA_SANITIZER)
  string(REPLACE ";" "," sanitizers "${MANTA_SANITIZER}")
  add_compile_options(-fsanitize=${sanitizers} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${sanitizers})
endif()

# The public headers, and the tree's root for everything private.
add_library(manta_headers INTERFACE)
target_include_directories(manta_headers INTERFACE
  $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:include>)

# manta_library(name SOURCES ... LINK [PUBLIC ...] [PRIVATE ...]): the static library `manta_<name>` of one layer.
function(manta_library name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_library(manta_${name} STATIC ${arg_SOURCES})
  target_include_directories(manta_${name} PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(manta_${name} ${arg_LINK})
endfunction()

# manta_tests(name [LINK ...]): every `*_test.cc` beside the sources, as one program `<name>_test` with one ctest entry a test.
function(manta_tests name)
  if(NOT MANTA_TESTS)
    return()
  endif()
  cmake_parse_arguments(arg "" "" "LINK" ${ARGN})
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cc)
  if(NOT sources)
    return()
  endif()
  add_executable(${name}_test ${sources})
  target_include_directories(${name}_test PRIVATE ${PROJECT_SOURCE_DIR})
  target_link_libraries(${name}_test PRIVATE manta_${name} ${arg_LINK} GTest::gtest_main GTest::gmock)
  add_test(NAME ${name} COMMAND ${name}_test)
  set_tests_properties(${name} PROPERTIES TIMEOUT 300)
endfunction()
enable_testing()
