# CUDA sources are compiled on every machine, with a GPU or not, by the nvcc of an installed toolkit or of the CUDA wheels.
find_program(MANTA_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin /usr/local/cuda/bin ${MANTA_SITE}/nvidia/cu13/bin)
set(MANTA_HAS_CUDA OFF)
if(MANTA_NVCC)
  set(MANTA_HAS_CUDA ON)
endif()

# Machine code for the data-centre GPUs of the day, and portable code (PTX) that a driver can compile for older and newer ones.
set(MANTA_CUDA_CODE
  -gencode arch=compute_75,code=compute_75
  -gencode arch=compute_80,code=sm_80
  -gencode arch=compute_90,code=[sm_90,compute_90])

# manta_cuda_library(name SOURCES a.cu ...): the shared library lib<name>.so, linked with the CUDA runtime's static library. It needs
# neither the toolkit nor a driver to be loaded: without a driver, CUDA calls in it return an error.
function(manta_cuda_library name)
  cmake_parse_arguments(arg "" "" "SOURCES" ${ARGN})
  get_filename_component(toolkit ${MANTA_NVCC} REALPATH)
  get_filename_component(toolkit ${toolkit}/../.. ABSOLUTE)
  find_library(MANTA_CUDART_STATIC cudart_static REQUIRED NO_DEFAULT_PATH
    PATHS ${toolkit}/lib ${toolkit}/lib64 ${toolkit}/targets/x86_64-linux/lib)
  set(objects)
  foreach(source ${arg_SOURCES})
    set(object ${CMAKE_CURRENT_BINARY_DIR}/${source}.o)
    add_custom_command(OUTPUT ${object}
      COMMAND ${MANTA_NVCC} -c -std=c++20 -O3 ${MANTA_CUDA_CODE} -ccbin ${CMAKE_CXX_COMPILER}
              -Xcompiler -fPIC,-Wall,-Wextra,-Wno-unused-parameter -Werror all-warnings -diag-suppress 20014
              -I${PROJECT_SOURCE_DIR}/include -I${PROJECT_SOURCE_DIR} -MD -MF ${object}.d -MT ${object}
              -o ${object} ${CMAKE_CURRENT_SOURCE_DIR}/${source}
      DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${source} ${MANTA_NVCC}
      DEPFILE ${object}.d
      COMMENT "Building CUDA object ${source}" VERBATIM)
    list(APPEND objects ${object})
  endforeach()
  add_library(${name} SHARED ${objects})
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  target_link_libraries(${name} PRIVATE ${MANTA_CUDART_STATIC} Threads::Threads ${CMAKE_DL_LIBS} rt)
endfunction()
