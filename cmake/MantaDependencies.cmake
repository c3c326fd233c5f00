# Third-party packages as `./run setup` installs them (versions: tools/packages.txt, tools/requirements.txt). Every target made here
# is IMPORTED, so its headers are system headers, and this file is installed too: MantaConfig.cmake finds the same things with it.
#
#   core     Threads::Threads fmt::fmt-header-only spdlog::spdlog_header_only msgpack cppzmq SQLite::SQLite3 OpenSSL::Crypto
#            OpenSSL::SSL xxHash::xxhash Boost::headers ICU::uc ICU::i18n nlohmann_json::nlohmann_json CLI11::CLI11
#   tests    GTest::gtest_main GTest::gmock benchmark::benchmark
#   wheels   Arrow::arrow Arrow::compute Arrow::acero Arrow::parquet Arrow::dataset (if MANTA_HAS_ARROW), LibTorch::cpu (if
#            MANTA_HAS_TORCH)

# The folder the wheels are installed in: -DMANTA_SITE=... names another.
if(NOT DEFINED MANTA_SITE)
  get_filename_component(MANTA_SITE ${CMAKE_CURRENT_LIST_DIR}/../.venv/site ABSOLUTE)
endif()

# manta_import(target HEADER file [LIBRARY name]): an imported target for a package that brings no CMake files of its own.
function(manta_import target)
  cmake_parse_arguments(arg "" "HEADER;LIBRARY" "" ${ARGN})
  if(TARGET ${target})
    return()
  endif()
  string(MAKE_C_IDENTIFIER ${target} id)
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  find_path(MANTA_${id}_INCLUDE ${arg_HEADER} REQUIRED)
  target_include_directories(${target} INTERFACE ${MANTA_${id}_INCLUDE})
  mark_as_advanced(MANTA_${id}_INCLUDE)
  if(arg_LIBRARY)
    find_library(MANTA_${id}_LIBRARY ${arg_LIBRARY} REQUIRED)
    target_link_libraries(${target} INTERFACE ${MANTA_${id}_LIBRARY})
    mark_as_advanced(MANTA_${id}_LIBRARY)
  endif()
endfunction()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(OpenSSL 3 REQUIRED)
find_package(Boost 1.74 REQUIRED)
find_package(ICU 72 REQUIRED COMPONENTS uc i18n)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
manta_import(msgpack HEADER msgpack.hpp)
target_compile_definitions(msgpack INTERFACE MSGPACK_NO_BOOST)  # its adaptors for Boost cost each translation unit most of a second
manta_import(cppzmq HEADER zmq.hpp LIBRARY zmq)
manta_import(xxHash::xxhash HEADER xxhash.h LIBRARY xxhash)
if(MANTA_TESTS)
  find_package(GTest REQUIRED)
  find_package(benchmark REQUIRED)
endif()

# Arrow's C++ libraries, out of the pyarrow wheel.
set(MANTA_HAS_ARROW OFF)
if(EXISTS ${MANTA_SITE}/pyarrow/include/arrow/api.h)
  set(MANTA_HAS_ARROW ON)
  function(manta_import_arrow component)
    if(NOT TARGET Arrow::${component})
      set(name arrow_${component})
      if(component MATCHES "^(arrow|parquet)$")
        set(name ${component})
      endif()
      add_library(Arrow::${component} SHARED IMPORTED GLOBAL)
      set_target_properties(Arrow::${component} PROPERTIES
        IMPORTED_LOCATION ${MANTA_SITE}/pyarrow/lib${name}.so
        INTERFACE_INCLUDE_DIRECTORIES ${MANTA_SITE}/pyarrow/include)
      target_link_libraries(Arrow::${component} INTERFACE ${ARGN})
    endif()
  endfunction()
  manta_import_arrow(arrow)
  manta_import_arrow(compute Arrow::arrow)
  manta_import_arrow(acero Arrow::compute)
  manta_import_arrow(parquet Arrow::arrow)
  manta_import_arrow(dataset Arrow::acero Arrow::parquet)
endif()

# LibTorch for the CPU, out of the torch wheel. Its own CMake package and libtorch.so demand a whole CUDA installation, which a machine
# without a GPU does not have; libtorch_cpu.so asks only for the CUDA runtime and CUPTI, and libtorch_cuda.so is loaded when needed.
# Its include folder comes last, because it carries copies of other packages (fmt among them) that must not hide the real ones.
set(MANTA_HAS_TORCH OFF)
if(EXISTS ${MANTA_SITE}/torch/include/torch/csrc/api/include/torch/torch.h)
  set(MANTA_HAS_TORCH ON)
  if(NOT TARGET LibTorch::cpu)
    add_library(LibTorch::c10 SHARED IMPORTED GLOBAL)
    set_target_properties(LibTorch::c10 PROPERTIES IMPORTED_LOCATION ${MANTA_SITE}/torch/lib/libc10.so)
    add_library(LibTorch::cpu SHARED IMPORTED GLOBAL)
    set_target_properties(LibTorch::cpu PROPERTIES
      IMPORTED_LOCATION ${MANTA_SITE}/torch/lib/libtorch_cpu.so
      INTERFACE_COMPILE_OPTIONS "SHELL:-idirafter ${MANTA_SITE}/torch/include;SHELL:-idirafter ${MANTA_SITE}/torch/include/torch/csrc/api/include"
      INTERFACE_LINK_OPTIONS "LINKER:-rpath-link,${MANTA_SITE}/nvidia/cu13/lib")
    target_link_libraries(LibTorch::cpu INTERFACE LibTorch::c10)
  endif()
endif()
