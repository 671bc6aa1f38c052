// Takes the place of NVIDIA's header of this name: the CUDA core compiled by a C++ compiler and run
// on the host. Declares what pyoip's CUDA sources use and nothing more, so that a name that is not
// here is a name that no test has run.
//
// The threads of a block are fibers on one thread of the host and change at barriers and warp
// operations alone (block.cpp). What CUDA leaves undefined ends in a message and abort(): threads
// that wait at different places, a barrier that some thread never reaches, writes past the dynamic
// shared memory. Shared memory and device memory begin as NaNs. A device pointer is a host pointer.
//
// Environment variables, read at every call:
//   PYOIP_CUDA_HOST_ORDER            forward (default), backward or random:SEED: which of the threads
//                                    that may run runs next. Bits that depend on it lack a barrier.
//   PYOIP_CUDA_HOST_DEVICES          how many devices there are (1); old-driver: a driver that is too old
//   PYOIP_CUDA_HOST_MEMORY           of a device, in bytes (2 GiB)
//   PYOIP_CUDA_HOST_SHARED_MEMORY    that a block may ask for, in bytes (232448)
//   PYOIP_CUDA_HOST_MULTIPROCESSORS  132
//   PYOIP_CUDA_HOST_FAIL_LAUNCH      n: the n-th launch since the variable was set fails on its way, and
//                                    so does every call after it until the variable is unset
#pragma once

#include <math.h>  // the device's functions are global names

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __shared__ __thread  // of the host thread that runs the block

// --- device code -----------------------------------------------------------------------------

struct uint3 {
    unsigned x, y, z;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

extern __thread uint3 threadIdx, blockIdx, blockDim, gridDim;

// Waiting. All threads of a block, or all 32 of a warp, have to come to one and the same line.
using Place = std::source_location;
void __syncthreads(Place place = Place::current());
void __syncwarp(unsigned mask = ~0u, Place place = Place::current());
unsigned __ballot_sync(unsigned mask, int predicate, Place place = Place::current());
int __any_sync(unsigned mask, int predicate, Place place = Place::current());
// d += a * b, fragments as in mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32
void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                      Place place = Place::current());

template <class To, class From>
To bits_as(From value) {
    static_assert(sizeof(To) == sizeof(From));
    To same;
    std::memcpy(&same, &value, sizeof same);
    return same;
}
inline unsigned __float_as_uint(float value) { return bits_as<unsigned>(value); }
inline float __uint_as_float(unsigned value) { return bits_as<float>(value); }
inline int __float_as_int(float value) { return bits_as<int>(value); }
inline float __int_as_float(int value) { return bits_as<float>(value); }

enum class Shuffle { from, up, exchange };
unsigned shuffle(Shuffle kind, unsigned mask, unsigned value, unsigned lane, Place place);
template <class T>
T __shfl_sync(unsigned mask, T value, int lane, Place place = Place::current()) {
    return bits_as<T>(shuffle(Shuffle::from, mask, bits_as<unsigned>(value), unsigned(lane), place));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, Place place = Place::current()) {
    return bits_as<T>(shuffle(Shuffle::up, mask, bits_as<unsigned>(value), delta, place));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, Place place = Place::current()) {
    return bits_as<T>(shuffle(Shuffle::exchange, mask, bits_as<unsigned>(value), unsigned(lanes), place));
}

inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline unsigned atomicAdd(unsigned* at, unsigned value) {
    return __atomic_fetch_add(at, value, __ATOMIC_RELAXED);
}
inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline int __ldg(const int* at) { return *at; }
inline float __ldg(const float* at) { return *at; }
inline float2 __ldg(const float2* at) { return *at; }
inline float4 __ldg(const float4* at) { return *at; }

// --- the runtime; numbers as NVIDIA's --------------------------------------------------------

#define PYOIP_CUDA_ERRORS(error)                                                                      \
    error(cudaSuccess, 0, "no error") error(cudaErrorInvalidValue, 1, "invalid argument")             \
        error(cudaErrorMemoryAllocation, 2, "out of memory")                                          \
            error(cudaErrorInvalidConfiguration, 9, "invalid configuration argument")                 \
                error(cudaErrorInvalidMemcpyDirection, 21, "invalid copy direction for memcpy")       \
                    error(cudaErrorInsufficientDriver, 35,                                            \
                          "CUDA driver version is insufficient for CUDA runtime version")             \
                        error(cudaErrorNoDevice, 100, "no CUDA-capable device is detected")           \
                            error(cudaErrorInvalidDevice, 101, "invalid device ordinal")              \
                                error(cudaErrorInvalidResourceHandle, 400, "invalid resource handle") \
                                    error(cudaErrorNotReady, 600, "device not ready")                 \
                                        error(cudaErrorLaunchFailure, 719, "unspecified launch failure")

enum cudaError {
#define PYOIP_CUDA_ERROR(name, number, text) name = number,
    PYOIP_CUDA_ERRORS(PYOIP_CUDA_ERROR)
#undef PYOIP_CUDA_ERROR
};
using cudaError_t = cudaError;
const char* cudaGetErrorName(cudaError_t error);
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

struct cudaDeviceProp {
    char name[256];
    std::size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin, sharedMemPerMultiprocessor,
        reservedSharedMemPerBlock;
    int major, minor, multiProcessorCount, warpSize, maxThreadsPerBlock, maxThreadsPerMultiProcessor,
        canMapHostMemory;
};
enum cudaDeviceAttr {
    cudaDevAttrMaxThreadsPerBlock = 1,
    cudaDevAttrMaxSharedMemoryPerBlock = 8,
    cudaDevAttrWarpSize = 10,
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrCanMapHostMemory = 19,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
    cudaDevAttrReservedSharedMemoryPerBlock = 111,
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDriverGetVersion(int* version);

using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
constexpr unsigned cudaStreamDefault = 0, cudaStreamNonBlocking = 1;
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);
cudaError_t cudaEventDestroy(cudaEvent_t event);

enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum cudaMemoryType { cudaMemoryTypeUnregistered, cudaMemoryTypeHost, cudaMemoryTypeDevice };
struct cudaPointerAttributes {
    cudaMemoryType type;
    int device;
    void *devicePointer, *hostPointer;
};
constexpr unsigned cudaHostAllocDefault = 0, cudaHostAllocMapped = 2;
cudaError_t cudaMalloc(void** at, std::size_t bytes);
cudaError_t cudaFree(void* at);
cudaError_t cudaHostAlloc(void** at, std::size_t bytes, unsigned flags);
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned flags);
cudaError_t cudaFreeHost(void* at);
cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total);
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* at);
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void* at, int value, std::size_t bytes);
cudaError_t cudaMemsetAsync(void* at, int value, std::size_t bytes, cudaStream_t stream = nullptr);

template <class T>
cudaError_t cudaMalloc(T** at, std::size_t bytes) {
    return cudaMalloc(reinterpret_cast<void**>(at), bytes);
}
template <class T>
cudaError_t cudaHostAlloc(T** at, std::size_t bytes, unsigned flags) {
    return cudaHostAlloc(reinterpret_cast<void**>(at), bytes, flags);
}
template <class T>
cudaError_t cudaHostGetDevicePointer(T** device, void* host, unsigned flags) {
    return cudaHostGetDevicePointer(reinterpret_cast<void**>(device), host, flags);
}

// Launches.
struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct cudaLaunchAttribute;  // none is known here
struct cudaLaunchConfig_t {
    dim3 gridDim, blockDim;
    std::size_t dynamicSmemBytes;
    cudaStream_t stream;
    cudaLaunchAttribute* attrs;
    unsigned numAttrs;
};
enum cudaFuncAttribute {
    cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
    cudaFuncAttributePreferredSharedMemoryCarveout = 9
};
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int threads,
                                                          std::size_t shared_bytes);
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> thread);

template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute attribute, int value) {
    return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), attribute, value);
}
template <class... Parameters>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void (*kernel)(Parameters...),
                                                          int threads, std::size_t shared_bytes) {
    return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, reinterpret_cast<const void*>(kernel),
                                                         threads, shared_bytes);
}
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
    std::tuple<std::decay_t<Parameters>...> kept(std::forward<Arguments>(arguments)...);
    return launch(*config, reinterpret_cast<const void*>(kernel), [=] { std::apply(kernel, kept); });
}
