// Small kernels whose answers are known, and kernels that are wrong, for tests/test_cuda_host.py.
// `pyoip_cuda_host_test NAME` runs one: it prints the bits of what came out, or says what it missed
// and ends with 1. The wrong ones are expected not to end on their own.
#include <cuda_runtime.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "../../csrc/cuda/divisor.hpp"

namespace pyoip::cuda {
namespace {

void expect(bool holds, const std::string& what) {
    if (holds) return;
    std::printf("%s\n", what.c_str());
    std::exit(1);
}
void expect_error(cudaError_t found, cudaError_t right, const std::string& of) {
    expect(found == right, of + ": " + cudaGetErrorName(found) + " instead of " + cudaGetErrorName(right));
}
void check(cudaError_t error) { expect_error(error, cudaSuccess, "a call"); }

template <class T>
struct Device {
    T* at = nullptr;
    std::size_t count;
    explicit Device(std::size_t count_) : count(count_) { check(cudaMalloc(&at, count * sizeof(T))); }
    explicit Device(const std::vector<T>& from) : Device(from.size()) {
        check(cudaMemcpy(at, from.data(), count * sizeof(T), cudaMemcpyHostToDevice));
    }
    ~Device() { check(cudaFree(at)); }
    std::vector<T> host() const {
        std::vector<T> copy(count);
        check(cudaMemcpy(copy.data(), at, count * sizeof(T), cudaMemcpyDeviceToHost));
        return copy;
    }
};

template <class... Parameters, class... Arguments>
cudaError_t start(int blocks, int threads, std::size_t bytes, void (*kernel)(Parameters...),
                  Arguments... arguments) {
    cudaLaunchConfig_t config = {};
    config.gridDim = unsigned(blocks), config.blockDim = unsigned(threads), config.dynamicSmemBytes = bytes;
    return cudaLaunchKernelEx(&config, kernel, arguments...);
}
template <class... Parameters, class... Arguments>
void run(int blocks, int threads, std::size_t bytes, void (*kernel)(Parameters...), Arguments... arguments) {
    check(start(blocks, threads, bytes, kernel, arguments...));
    check(cudaStreamSynchronize(nullptr));
}

std::vector<float> draw(std::size_t count, int low_bits) {
    std::mt19937 generator(7);
    std::vector<float> values(count);
    for (float& value : values) {
        value = float(int(generator() >> 8)) / (1 << 23) - 1.0f;
        if (low_bits == 0) value = __uint_as_float(__float_as_uint(value) & 0xffffe000u);
    }
    return values;
}

template <class T>
void print(const std::vector<T>& values) {
    for (const T value : values) std::printf("%08x ", bits_as<unsigned>(value));
    std::printf("\n");
}

// --- kernels that are right ------------------------------------------------------------------

extern __shared__ __align__(16) unsigned char shared_memory[];

// The sum of each block's values: in warps by exchanges, then over warps in the first.
__global__ void __launch_bounds__(256) add_up(const float* values, float* sums) {
    float* parts = reinterpret_cast<float*>(shared_memory);
    float sum = __ldg(values + blockIdx.x * blockDim.x + threadIdx.x);
    for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    sum = threadIdx.x < blockDim.x / 32 ? parts[threadIdx.x] : 0.0f;
    for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(~0u, sum, lanes);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

void reduction() {
    const std::vector<float> values = draw(3 * 256, 1);
    const Device<float> given(values), sums(3);
    run(3, 256, 8 * sizeof(float), add_up, given.at, sums.at);
    const std::vector<float> found = sums.host();
    for (int block = 0; block < 3; ++block) {
        double right = 0;
        for (int i = 0; i < 256; ++i) right += values[std::size_t(block * 256 + i)];
        expect(std::abs(found[std::size_t(block)] - right) < 1e-4, "a wrong sum");
    }
    print(found);
}

// Prefix sums in each warp, and how many lanes before have an odd value by their votes.
__global__ void add_before(const int* values, int* sums, int* odd, int* facts) {
    const int lane = int(threadIdx.x % 32), value = values[threadIdx.x];
    int sum = value;
    for (unsigned delta = 1; delta < 32; delta *= 2) {
        const int before = __shfl_up_sync(~0u, sum, delta);
        if (lane >= int(delta)) sum += before;
    }
    sums[threadIdx.x] = sum;
    const unsigned votes = __ballot_sync(~0u, value % 2);
    odd[threadIdx.x] = __popc(votes & ((1u << lane) - 1));
    __syncwarp();
    if (__any_sync(~0u, value == 40)) facts[threadIdx.x / 32] = __ffs(int(votes));
    facts[2 + threadIdx.x / 32] = __shfl_sync(~0u, value, 5);
}

void scan() {
    std::vector<int> values(64);
    for (int i = 0; i < 64; ++i) values[std::size_t(i)] = i % 7 == 3 ? i : 2 * i;
    values[63] = 40;
    const Device<int> given(values), sums(64), odd(64), facts(std::vector<int>(4, -1));
    run(1, 64, 0, add_before, given.at, sums.at, odd.at, facts.at);
    const std::vector<int> found = sums.host(), counted = odd.host();
    for (std::size_t i = 0, sum = 0, count = 0; i < 64; ++i) {
        if (i == 32) sum = count = 0;
        expect(counted[i] == int(count), "a wrong count");
        sum += std::size_t(values[i]), count += std::size_t(values[i] % 2);
        expect(found[i] == int(sum), "a wrong prefix sum");
    }
    // 40 is in both warps (lanes 20 and 31); the first odd values are 3 and 45, of lane 13
    expect(facts.host() == std::vector<int>{4, 14, 10, 74}, "a wrong vote");
}

__global__ void turn(const float4* values, float4* turned, bool waits) {
    float* square = reinterpret_cast<float*>(shared_memory);  // (32, 32)
    reinterpret_cast<float4*>(square)[threadIdx.x] = __ldg(values + threadIdx.x);
    if (waits) __syncthreads();
    const float* from = square + threadIdx.x % 8 * 128 + threadIdx.x / 8;
    turned[threadIdx.x] = make_float4(from[0], from[32], from[64], from[96]);
}

void transpose(bool waits) {
    std::vector<float4> values(256);
    for (int i = 0; i < 256; ++i)
        values[std::size_t(i)] = make_float4(4.f * i, 4.f * i + 1, 4.f * i + 2, 4.f * i + 3);
    const Device<float4> given(values), turned(256);
    run(1, 256, 4096, turn, given.at, turned.at, waits);
    std::vector<float> found(1024);
    std::memcpy(found.data(), turned.host().data(), 4096);
    for (std::size_t i = 0; waits && i < 1024; ++i)
        expect(found[i] == float(i % 32 * 32 + i / 32), "a wrong place");
    print(found);
}

__global__ void multiply(const float* a, const float* b, const float* c, float* d, int times) {
    const int group = int(threadIdx.x) / 4, t = int(threadIdx.x) % 4;
    const auto bits = [](float value) { return __float_as_uint(value); };
    const unsigned rows[4] = {bits(a[group * 8 + t]), bits(a[(group + 8) * 8 + t]),
                              bits(a[group * 8 + t + 4]), bits(a[(group + 8) * 8 + t + 4])};
    const unsigned columns[2] = {bits(b[t * 8 + group]), bits(b[(t + 4) * 8 + group])};
    const int at[4] = {group * 8 + 2 * t, group * 8 + 2 * t + 1, (group + 8) * 8 + 2 * t,
                       (group + 8) * 8 + 2 * t + 1};
    float sums[4];
    for (int i = 0; i < 4; ++i) sums[i] = c[at[i]];
    for (int i = 0; i < times; ++i) mma_m16n8k8_tf32(sums, rows, columns);
    for (int i = 0; i < 4; ++i) d[at[i]] = sums[i];
}

// Of tf32 operands the product is right to a float's rounding; with low bits it is that without them.
void mma() {
    std::vector<float> found[2];
    for (int low_bits = 0; low_bits < 2; ++low_bits) {
        const std::vector<float> a = draw(128, low_bits), c = draw(128, 1);
        std::vector<float> b = draw(192, low_bits);
        b.erase(b.begin(), b.begin() + 128);
        const Device<float> left(a), right(b), start_(c), sums(128);
        run(1, 32, 0, multiply, left.at, right.at, start_.at, sums.at, 1);
        found[low_bits] = sums.host();
        for (std::size_t i = 0; low_bits == 0 && i < 128; ++i) {
            double sum = c[i];
            for (std::size_t k = 0; k < 8; ++k) sum += double(a[i / 8 * 8 + k]) * b[k * 8 + i % 8];
            expect(std::abs(sum - found[0][i]) < 2e-6, "a wrong product");
        }
    }
    expect(found[0] == found[1], "low bits were read");
    print(found[0]);
}

void speed() {  // of 8 warps, 1000 products each
    const std::vector<float> values = draw(128, 1);
    const Device<float> a(values), b(values), c(values), d(128);
    const auto begin = std::chrono::steady_clock::now();
    run(1, 32, 0, multiply, a.at, b.at, c.at, d.at, 8000);
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - begin;
    std::printf("%.3f microseconds a product\n", time.count() / 8000);
}

// Blocks that take one item after another, until there is none or they are asked to stop.
__global__ void take(unsigned* next, unsigned count, unsigned* taken, const volatile int* stop,
                     volatile unsigned* reported) {
    unsigned* item = reinterpret_cast<unsigned*>(shared_memory);
    for (;;) {
        if (threadIdx.x == 0) *item = *stop ? count : atomicAdd(next, 1);
        __syncthreads();
        const unsigned mine = *item;
        __syncthreads();
        if (mine >= count) return;
        if (threadIdx.x == 0) {
            atomicAdd(taken + mine % 1000, 1);
            __threadfence_system();
            *reported = mine;
        }
    }
}

struct Mapped {
    int* stop = nullptr;
    unsigned *reported = nullptr, *device_reported = nullptr;
    Mapped() {
        check(cudaHostAlloc(&stop, sizeof(int), cudaHostAllocMapped));
        check(cudaHostAlloc(&reported, sizeof(unsigned), cudaHostAllocMapped));
        check(cudaHostGetDevicePointer(&device_reported, reported, 0));
        *stop = 0, *reported = 0;
    }
    ~Mapped() {
        check(cudaFreeHost(stop));
        check(cudaFreeHost(reported));
    }
};

void persistent() {
    const Mapped mapped;
    const Device<unsigned> next(std::vector<unsigned>{0}), taken(std::vector<unsigned>(1000, 0));
    run(132, 64, 4, take, next.at, 1000u, taken.at, mapped.stop, mapped.device_reported);
    expect(taken.host() == std::vector<unsigned>(1000, 1), "an item was taken twice, or never");
}

void stop() {
    const Mapped mapped;
    const Device<unsigned> next(std::vector<unsigned>{0}), taken(std::vector<unsigned>(1000, 0));
    cudaEvent_t begin, end;
    check(cudaEventCreate(&begin));
    check(cudaEventCreate(&end));
    check(cudaEventRecord(begin));
    check(start(2, 64, 4, take, next.at, ~0u, taken.at, mapped.stop, mapped.device_reported));
    check(cudaEventRecord(end));
    while (*static_cast<volatile unsigned*>(mapped.reported) < 10) std::this_thread::yield();
    expect_error(cudaStreamQuery(nullptr), cudaErrorNotReady, "a launch on its way");
    float time;
    expect_error(cudaEventElapsedTime(&time, begin, end), cudaErrorNotReady, "the time of it");
    *static_cast<volatile int*>(mapped.stop) = 1;
    check(cudaStreamSynchronize(nullptr));
    check(cudaStreamQuery(nullptr));
    check(cudaEventSynchronize(end));
    check(cudaEventElapsedTime(&time, begin, end));
    expect(time > 0, "no time went by");
    check(cudaEventDestroy(begin));
    check(cudaEventDestroy(end));
}

// --- refusals --------------------------------------------------------------------------------

__global__ void touch(int at) {
    if (threadIdx.x == 0) shared_memory[at] = 1;
}

void launches() {
    const auto wrong = cudaErrorInvalidConfiguration;
    expect_error(start(1, 1025, 0, touch, 0), wrong, "1025 threads");
    expect_error(start(1, 0, 0, touch, 0), wrong, "no threads");
    expect_error(start(0, 32, 0, touch, 0), wrong, "no blocks");
    expect_error(cudaGetLastError(), wrong, "the last error");
    expect_error(cudaGetLastError(), cudaSuccess, "the last error, told before");
    expect_error(start(1, 32, 49153, touch, 0), cudaErrorInvalidValue, "shared memory not asked for");
    int blocks;
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, touch, 256, 100 << 10));
    expect(blocks == 0, "blocks that may not have their memory");
    const auto most = cudaFuncAttributeMaxDynamicSharedMemorySize;
    expect_error(cudaFuncSetAttribute(touch, most, 232449), cudaErrorInvalidValue, "more than there is");
    check(cudaFuncSetAttribute(touch, most, 232448));
    run(1, 32, 232448, touch, 232447);
    check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, touch, 256, 100 << 10));
    expect(blocks == 2, "two blocks of 100 KiB fit");
}

void memory() {
    std::size_t before, available, total;
    check(cudaMemGetInfo(&before, &total));
    const Device<float> given(100);
    check(cudaMemGetInfo(&available, &total));
    expect(before - available == 400, "memory is not counted");
    expect(std::isnan(given.host()[99]), "memory that nobody wrote is a number");
    void* more;
    expect_error(cudaMalloc(&more, total), cudaErrorMemoryAllocation, "all memory and more");
    std::vector<float> host(101);
    const auto to_device = cudaMemcpyHostToDevice;
    expect_error(cudaMemcpy(given.at, host.data(), 404, to_device), cudaErrorInvalidValue, "past the end");
    expect_error(cudaMemcpy(given.at + 1, host.data(), 400, to_device), cudaErrorInvalidValue,
                 "past it by one");
    expect_error(cudaMemcpy(host.data(), given.at, 4, to_device), cudaErrorInvalidValue, "the other way");
    expect_error(cudaMemset(given.at, 0, 401), cudaErrorInvalidValue, "a fill past the end");
    check(cudaMemset(given.at, 0, 396));
    expect(given.host()[98] == 0 && std::isnan(given.host()[99]), "a fill");
    cudaPointerAttributes is;
    check(cudaPointerGetAttributes(&is, given.at + 99));
    expect(is.type == cudaMemoryTypeDevice && is.device == 0, "a device pointer");
    check(cudaPointerGetAttributes(&is, host.data()));
    expect(is.type == cudaMemoryTypeUnregistered, "a pointer of the host");
    expect_error(cudaFree(host.data()), cudaErrorInvalidValue, "what was never allocated");
}

void devices() {
    int count, shared;
    const cudaError_t error = cudaGetDeviceCount(&count);
    cudaDeviceProp is = {};
    if (error == cudaSuccess) check(cudaGetDeviceProperties(&is, 0));
    if (error == cudaSuccess)
        check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0));
    expect(error != cudaSuccess || std::size_t(shared) == is.sharedMemPerBlockOptin, "two answers");
    expect_error(cudaSetDevice(count), error != cudaSuccess ? error : cudaErrorInvalidDevice, "one too many");
    std::printf("%s %d %s %d.%d %d %zu %zu %zu\n", cudaGetErrorName(error), count, is.name, is.major,
                is.minor, is.multiProcessorCount, is.sharedMemPerBlockOptin, is.sharedMemPerMultiprocessor,
                is.totalGlobalMem);
}

// The second launch is told to fail: later calls say so, and it has written nothing.
void failing_launch() {
    float* sums;
    check(cudaMalloc(&sums, 4));
    const Device<float> given(draw(32, 1));
    run(1, 32, 4, add_up, given.at, sums);
    check(start(1, 32, 4, add_up, given.at, sums));
    expect_error(cudaStreamSynchronize(nullptr), cudaErrorLaunchFailure, "the wait");
    expect_error(start(1, 32, 4, add_up, given.at, sums), cudaErrorLaunchFailure, "the next launch");
    expect_error(cudaFree(sums), cudaErrorLaunchFailure, "a free");
    expect_error(cudaGetLastError(), cudaErrorLaunchFailure, "the last error");
    expect_error(cudaGetLastError(), cudaErrorLaunchFailure, "the last error, which stays");
    unsetenv("PYOIP_CUDA_HOST_FAIL_LAUNCH");
}

// Quotients can only be wrong beside a multiple.
void divisors() {
    constexpr int most = 1 << 16;
    for (int by = 1; by <= most; ++by) {
        const Divisor d(by);
        for (int multiple = 0; multiple <= most; multiple += by)
            for (const int a : {multiple - 1, multiple}) {
                if (a < 0) continue;
                expect(a / d == a / by && a % d == a % by, std::to_string(a) + " / " + std::to_string(by));
            }
    }
}

// --- kernels that are wrong ------------------------------------------------------------------

__global__ void diverge(int how) {
    const bool apart = threadIdx.x == 5;
    if (how == 0 && apart) return;  // and the others wait
    if (how == 1 && apart)
        __syncthreads();
    else if (how == 2 && apart)
        __syncwarp();
    else if (how == 3)
        __ballot_sync(0xffffu, 1);
    else
        __syncthreads();
}

__global__ void leave_warp() {
    if (threadIdx.x != 40) __any_sync(~0u, 1);
}

const std::map<std::string, std::function<void()>> kTests = {
    {"reduction", reduction},
    {"scan", scan},
    {"transpose", [] { transpose(true); }},
    {"mma", mma},
    {"speed", speed},
    {"persistent", persistent},
    {"stop", stop},
    {"launches", launches},
    {"memory", memory},
    {"devices", devices},
    {"divisors", divisors},
    {"failing-launch", failing_launch},
    {"no-barrier", [] { transpose(false); }},
    {"left-barrier", [] { run(1, 64, 0, diverge, 0); }},
    {"two-barriers", [] { run(1, 64, 0, diverge, 1); }},
    {"barrier-and-warp", [] { run(1, 64, 0, diverge, 2); }},
    {"part-of-a-warp", [] { run(1, 64, 0, diverge, 3); }},
    {"left-warp", [] { run(1, 64, 0, leave_warp); }},
    {"past-the-end", [] { run(1, 32, 64, touch, 64); }},
    {"past-everything",
     [] {
         check(cudaFuncSetAttribute(touch, cudaFuncAttributeMaxDynamicSharedMemorySize, 232448));
         run(1, 32, 232448, touch, 232450);
     }},
    {"outside", [] { __syncthreads(); }},
};

}  // namespace
}  // namespace pyoip::cuda

int main(int count, char** words) {
    const auto found = pyoip::cuda::kTests.find(count == 2 ? words[1] : "");
    if (found == pyoip::cuda::kTests.end()) {
        for (const auto& [name, test] : pyoip::cuda::kTests) std::printf("%s\n", name.c_str());
        return 2;
    }
    found->second();
    return 0;
}
