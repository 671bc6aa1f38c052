# The CUDA core and its extension module _cuda: by nvcc for devices, or, with PYOIP_CUDA_HOST, from
# the same sources by the C++ compiler for the host.

# Sets `found` to nvcc: as CUDACXX, CUDA_PATH or CUDA_HOME say, on PATH, or where it is installed.
function(pyoip_find_nvcc found)
  file(GLOB installed /usr/local/cuda /usr/local/cuda-*)
  list(SORT installed COMPARE NATURAL ORDER DESCENDING)
  get_filename_component(named "$ENV{CUDACXX}" DIRECTORY)
  find_program(PYOIP_NVCC nvcc
    HINTS ${named} ENV CUDA_PATH ENV CUDA_HOME PATHS ${installed} PATH_SUFFIXES bin)
  set(${found} "${PYOIP_NVCC}" PARENT_SCOPE)
endfunction()

# The sources that a device's and the host's build share, as objects; `kernels` is the .cu files'
# language.
function(pyoip_add_cuda_core kernels)
  file(GLOB device_sources CONFIGURE_DEPENDS csrc/cuda/*.cu)
  set_source_files_properties(${device_sources} PROPERTIES LANGUAGE ${kernels})
  add_library(pyoip_cuda OBJECT
    csrc/crop.cpp
    csrc/grids.cpp
    csrc/stack.cpp
    csrc/cuda/batches.cpp
    csrc/cuda/device.cpp
    csrc/cuda/engine.cpp
    csrc/cuda/packing.cpp
    csrc/cuda/plan.cpp
    csrc/cuda/starts.cpp
    ${device_sources})
  target_link_libraries(pyoip_cuda PUBLIC Threads::Threads)
endfunction()

function(pyoip_add_cuda_module architectures)
  pybind11_add_module(_cuda
    csrc/bindings/arguments.cpp
    csrc/bindings/cuda/arrays.cpp
    csrc/bindings/cuda/engine.cpp
    csrc/bindings/cuda/info.cpp
    csrc/bindings/cuda/module.cpp)
  string(REPLACE ";" " " architectures "${architectures}")
  target_compile_definitions(_cuda PRIVATE
    PYOIP_VERSION="${SKBUILD_PROJECT_VERSION}"
    PYOIP_COMPILER="${compiler}"
    PYOIP_CUDA_ARCHITECTURES="${architectures}")
  target_link_libraries(_cuda PRIVATE pyoip_cuda)
endfunction()

if(PYOIP_CUDA_HOST)
  pyoip_add_cuda_core(CXX)
  # A language is said for all that is not C++ by its name.
  file(GLOB device_sources csrc/cuda/*.cu)
  set_source_files_properties(${device_sources} PROPERTIES COMPILE_OPTIONS "-x;c++")
  set_source_files_properties(csrc/cuda/starts.cu PROPERTIES COMPILE_OPTIONS "-x;c++;-ffp-contract=off")
  target_compile_options(pyoip_cuda PRIVATE -O2 -Wno-unknown-pragmas)  # unroll is nvcc's
  target_link_libraries(pyoip_cuda PUBLIC pyoip_cuda_host)
  list(APPEND targets pyoip_cuda)
  if(PYOIP_PYTHON)
    pyoip_add_cuda_module(host)
    target_link_libraries(_cuda PRIVATE pyoip_cuda_host)
    list(APPEND targets _cuda)
  endif()
  return()
endif()

if(NOT PYOIP_CUDA OR (PYOIP_CUDA STREQUAL "AUTO" AND NOT PYOIP_PYTHON))
  return()
endif()
if(NOT PYOIP_PYTHON)
  message(FATAL_ERROR "PYOIP_CUDA=${PYOIP_CUDA}: the CUDA core is an extension module, and PYOIP_PYTHON is OFF")
endif()
pyoip_find_nvcc(nvcc)
if(NOT nvcc)
  set(missing "nvcc was found neither by CUDACXX, CUDA_PATH or CUDA_HOME, nor on PATH or in /usr/local/cuda*")
  if(PYOIP_CUDA STREQUAL "AUTO")
    message(STATUS "No CUDA core: ${missing}")
    return()
  endif()
  message(FATAL_ERROR "PYOIP_CUDA=${PYOIP_CUDA}: ${missing}")
endif()

# Turing and older lack matrix products of TF32. The last entry is compiled by drivers of devices to come.
set(CMAKE_CUDA_ARCHITECTURES "80-real;90-real;100-real;120" CACHE STRING "Devices that the CUDA core is built for")
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
set(ENV{CUDACXX} "${nvcc}")
include(CheckLanguage)
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  set(broken "${nvcc} does not work with this C++ compiler")
  if(PYOIP_CUDA STREQUAL "AUTO")
    message(STATUS "No CUDA core: ${broken}")
    return()
  endif()
  message(FATAL_ERROR "PYOIP_CUDA=${PYOIP_CUDA}: ${broken}")
endif()
enable_language(CUDA)
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)  # an older CMake does not know that this nvcc can
  set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
  set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
endif()
find_package(CUDAToolkit REQUIRED)

pyoip_add_cuda_core(CUDA)
set_source_files_properties(csrc/cuda/starts.cu PROPERTIES COMPILE_OPTIONS "-fmad=false")
# slope_of is constexpr and called on both sides. The architectures are compiled side by side.
target_compile_options(pyoip_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;--threads=0>")
target_link_libraries(pyoip_cuda PUBLIC CUDA::cudart_static)
if(PYOIP_CUDA_REPORT)
  target_compile_options(pyoip_cuda PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v;--keep;--keep-dir=${CMAKE_BINARY_DIR}>")
endif()
pyoip_add_cuda_module("${CMAKE_CUDA_ARCHITECTURES}")
install(TARGETS _cuda LIBRARY DESTINATION pyoip)
list(APPEND targets pyoip_cuda _cuda)
