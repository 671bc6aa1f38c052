// The runtime's calls: one kind of device, memory with its bounds, streams as queues of work that one
// thread each does in turn, and launches.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "block.hpp"

using cuda_host::fail;
using cuda_host::Order;

namespace {

constexpr int kReserved = 1024, kSharedUnasked = 48 << 10;  // bytes of each block's shared memory

const char* variable(const char* name) {
    return std::getenv((std::string("PYOIP_CUDA_HOST_") + name).c_str());
}

long long number(const char* name, long long otherwise, long long most) {
    const char* text = variable(name);
    if (text == nullptr) return otherwise;
    char* end;
    const long long value = std::strtoll(text, &end, 10);
    if (*text == 0 || *end != 0 || value < 0 || value > most)
        fail(std::string("PYOIP_CUDA_HOST_") + name + "=" + text + ": must be from 0 to " +
             std::to_string(most));
    return value;
}
int shared_limit() {
    constexpr int most = int(cuda_host::kSharedMemory);
    return int(number("SHARED_MEMORY", most, most));
}
std::size_t memory_limit() { return std::size_t(number("MEMORY", 2LL << 30, 1LL << 40)); }

Order chosen_order() {
    const char* set = variable("ORDER");
    const std::string text = set ? set : "forward";
    if (text == "forward") return {Order::forward};
    if (text == "backward") return {Order::backward};
    if (text.starts_with("random:")) return {Order::random, std::hash<std::string>{}(text)};
    fail("PYOIP_CUDA_HOST_ORDER=" + text + ": must be forward, backward or random:SEED");
}

// --- errors ----------------------------------------------------------------------------------

thread_local cudaError_t last_error = cudaSuccess;
std::atomic<bool> failed = false;     // by a kernel: all later calls say so
std::atomic<long long> launches = 0;  // since the variable was set

bool has_failed() {
    if (variable("FAIL_LAUNCH") == nullptr) failed = false, launches = 0;
    return failed;
}

cudaError_t record(cudaError_t error) {
    if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
    return error;
}

cudaError_t count_devices(int* count) {
    *count = 0;
    const char* set = variable("DEVICES");
    if (set != nullptr && std::string(set) == "old-driver") return cudaErrorInsufficientDriver;
    *count = int(number("DEVICES", 1, 64));
    return *count > 0 ? cudaSuccess : cudaErrorNoDevice;
}

// What every call says before it does anything, and afterwards if nothing else is wrong.
cudaError_t status() {
    int count;
    const cudaError_t error = count_devices(&count);
    return error != cudaSuccess ? error : has_failed() ? cudaErrorLaunchFailure : cudaSuccess;
}
cudaError_t status_of(int device) {
    int count;
    if (const cudaError_t error = status()) return error;
    count_devices(&count);
    return 0 <= device && device < count ? cudaSuccess : cudaErrorInvalidDevice;
}

// --- streams ---------------------------------------------------------------------------------

class Queue {
public:
    Queue() : worker_([this] { work(); }) {}
    ~Queue() {
        push(nullptr);
        worker_.join();
    }
    void push(std::function<void()> task) {
        const std::lock_guard lock(mutex_);
        tasks_.push_back(std::move(task));
        changed_.notify_all();
    }
    bool is_idle() {
        const std::lock_guard lock(mutex_);
        return tasks_.empty();
    }
    void wait() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return tasks_.empty(); });
    }

private:
    void work() {
        for (std::unique_lock lock(mutex_);;) {
            changed_.wait(lock, [this] { return !tasks_.empty(); });
            const auto task = tasks_.front();  // stays there until it is done
            if (!task) return;
            lock.unlock();
            task();
            lock.lock();
            tasks_.pop_front();
            changed_.notify_all();
        }
    }
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> tasks_;
    std::thread worker_;
};

// Streams that wait for the default stream, and it for them, are the default stream.
std::shared_ptr<Queue> default_queue() {
    static const auto queue = std::make_shared<Queue>();
    return queue;
}

}  // namespace

struct CUstream_st {
    std::shared_ptr<Queue> queue;
};
struct CUevent_st {
    std::shared_future<std::chrono::steady_clock::time_point> time;
};

namespace {

std::shared_ptr<Queue> queue_of(cudaStream_t stream) { return stream ? stream->queue : default_queue(); }

// --- memory ----------------------------------------------------------------------------------

struct Allocation {
    std::size_t bytes;
    cudaMemoryType type;
    int device;
};
thread_local int current_device = 0;
std::mutex memory_mutex;
std::map<const char*, Allocation> allocations;

// The allocation that an address lies in, and what of it is left from there.
Allocation find(const void* address, std::size_t* left = nullptr) {
    const std::lock_guard lock(memory_mutex);
    const auto at = static_cast<const char*>(address);
    auto found = allocations.upper_bound(at);
    if (found == allocations.begin()) return {0, cudaMemoryTypeUnregistered, -2};
    --found;
    const std::size_t offset = std::size_t(at - found->first);
    if (offset >= found->second.bytes) return {0, cudaMemoryTypeUnregistered, -2};
    if (left) *left = found->second.bytes - offset;
    return found->second;
}

std::size_t used(int device) {
    std::size_t sum = 0;
    for (const auto& [at, one] : allocations)
        if (one.type == cudaMemoryTypeDevice && one.device == device) sum += one.bytes;
    return sum;
}

cudaError_t allocate(void** at, std::size_t bytes, cudaMemoryType type) {
    *at = nullptr;
    if (const cudaError_t error = status()) return error;
    if (bytes == 0) return cudaSuccess;
    const std::lock_guard lock(memory_mutex);
    const bool fits = type == cudaMemoryTypeHost || used(current_device) + bytes <= memory_limit();
    if (!fits || posix_memalign(at, 256, bytes) != 0) return cudaErrorMemoryAllocation;
    std::memset(*at, 0xff, bytes);
    allocations[static_cast<const char*>(*at)] = {bytes, type, current_device};
    return cudaSuccess;
}

cudaError_t release(void* at, cudaMemoryType type) {
    if (at == nullptr) return status();
    const std::lock_guard lock(memory_mutex);
    const auto found = allocations.find(static_cast<const char*>(at));
    if (found == allocations.end() || found->second.type != type) return cudaErrorInvalidValue;
    allocations.erase(found);
    std::free(at);
    return status();
}

bool lies(const void* at, std::size_t bytes, bool on_device) {
    std::size_t left = 0;
    const cudaMemoryType type = find(at, &left).type;
    if (type == cudaMemoryTypeUnregistered) return !on_device;
    return on_device == (type == cudaMemoryTypeDevice) && bytes <= left;
}
bool is_pageable(const void* at) { return find(at).type == cudaMemoryTypeUnregistered; }
bool is_device(const void* at) { return find(at).type == cudaMemoryTypeDevice; }

cudaError_t check_copy(const void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    if (const cudaError_t error = status()) return error;
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
    const bool either = kind == cudaMemcpyDefault;
    const bool to_device =
        either ? is_device(to) : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
    const bool from_device =
        either ? is_device(from) : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    const bool right = lies(to, bytes, to_device) && lies(from, bytes, from_device);
    return bytes == 0 || right ? cudaSuccess : cudaErrorInvalidValue;
}

// --- launches --------------------------------------------------------------------------------

std::mutex kernels_mutex;
std::map<const void*, int> allowed;  // dynamic shared memory that a kernel may have

int allowed_of(const void* kernel) {
    const std::lock_guard lock(kernels_mutex);
    const auto found = allowed.find(kernel);
    return std::min(shared_limit(), found == allowed.end() ? kSharedUnasked : found->second);
}

void run_grid(unsigned blocks, unsigned threads, std::size_t bytes, Order order,
              const std::function<void()>& thread) {
    std::atomic<unsigned> next = 0;
    const auto work = [&] {
        for (unsigned block; (block = next++) < blocks;)
            cuda_host::run_block(block, blocks, threads, bytes, order, thread);
    };
    std::vector<std::thread> team;
    const unsigned processors = std::clamp(std::thread::hardware_concurrency(), 1u, 64u);
    for (unsigned i = 1; i < std::min(blocks, processors); ++i) team.emplace_back(work);
    work();
    for (std::thread& one : team) one.join();
}

}  // namespace

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> thread) {
    if (const cudaError_t error = status()) return record(error);
    const dim3 grid = config.gridDim, block = config.blockDim;
    if (grid.x < 1 || grid.x > 0x7fffffff || block.x < 1 || block.x > cuda_host::kMostThreads ||
        grid.y * grid.z * block.y * block.z != 1)
        return record(cudaErrorInvalidConfiguration);
    const std::size_t bytes = config.dynamicSmemBytes;
    if (bytes > std::size_t(allowed_of(kernel)) || config.numAttrs != 0) return record(cudaErrorInvalidValue);
    if (++launches == number("FAIL_LAUNCH", 0, 1 << 30)) thread = nullptr;
    queue_of(config.stream)->push([=, order = chosen_order()] {
        if (has_failed()) return;
        if (thread)
            run_grid(grid.x, block.x, bytes, order, thread);
        else
            failed = true;
    });
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
    if (const cudaError_t error = status()) return record(error);
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout)
        return record(-1 <= value && value <= 100 ? cudaSuccess : cudaErrorInvalidValue);
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 || value > shared_limit())
        return record(cudaErrorInvalidValue);
    const std::lock_guard lock(kernels_mutex);
    allowed[kernel] = value;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, const void* kernel, int threads,
                                                          std::size_t bytes) {
    if (const cudaError_t error = status()) return record(error);
    if (threads < 1 || threads > int(cuda_host::kMostThreads)) return record(cudaErrorInvalidValue);
    const std::size_t shared = std::size_t(shared_limit() + kReserved) / (bytes + kReserved);
    const bool fits = bytes <= std::size_t(allowed_of(kernel));
    *blocks = fits ? int(std::min({shared, std::size_t(2048 / threads), std::size_t(32)})) : 0;
    return cudaSuccess;
}

// --- errors and devices ----------------------------------------------------------------------

#define PYOIP_CUDA_NAME(name, number, text) \
    case name: return #name;
#define PYOIP_CUDA_TEXT(name, number, text) \
    case name: return text;
const char* cudaGetErrorName(cudaError_t error) {
    switch (error) { PYOIP_CUDA_ERRORS(PYOIP_CUDA_NAME) }
    return "unrecognized error code";
}
const char* cudaGetErrorString(cudaError_t error) {
    switch (error) { PYOIP_CUDA_ERRORS(PYOIP_CUDA_TEXT) }
    return "unrecognized error code";
}
cudaError_t cudaPeekAtLastError() { return has_failed() ? cudaErrorLaunchFailure : last_error; }
cudaError_t cudaGetLastError() {
    const cudaError_t error = cudaPeekAtLastError();
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaGetDeviceCount(int* count) { return record(count_devices(count)); }
cudaError_t cudaGetDevice(int* device) {
    *device = current_device;
    return record(status());
}
cudaError_t cudaSetDevice(int device) {
    const cudaError_t error = status_of(device);
    if (error == cudaSuccess) current_device = device;
    return record(error);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
    if (const cudaError_t error = status_of(device)) return record(error);
    *properties = {"host shim",
                   memory_limit(),
                   kSharedUnasked,
                   std::size_t(shared_limit()),
                   std::size_t(shared_limit() + kReserved),
                   kReserved,
                   9,
                   0,
                   int(number("MULTIPROCESSORS", 132, 1024)),
                   32,
                   int(cuda_host::kMostThreads),
                   2048,
                   1};
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
    cudaDeviceProp is;
    if (const cudaError_t error = cudaGetDeviceProperties(&is, device)) return error;
    const std::map<cudaDeviceAttr, int> values = {
        {cudaDevAttrMaxThreadsPerBlock, is.maxThreadsPerBlock},
        {cudaDevAttrMaxSharedMemoryPerBlock, int(is.sharedMemPerBlock)},
        {cudaDevAttrWarpSize, is.warpSize},
        {cudaDevAttrMultiProcessorCount, is.multiProcessorCount},
        {cudaDevAttrCanMapHostMemory, is.canMapHostMemory},
        {cudaDevAttrComputeCapabilityMajor, is.major},
        {cudaDevAttrComputeCapabilityMinor, is.minor},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, int(is.sharedMemPerMultiprocessor)},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, int(is.sharedMemPerBlockOptin)},
        {cudaDevAttrReservedSharedMemoryPerBlock, int(is.reservedSharedMemPerBlock)}};
    const auto found = values.find(attribute);
    if (found == values.end()) return record(cudaErrorInvalidValue);
    *value = found->second;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = 13000;
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
    int count;
    *version = count_devices(&count) == cudaErrorInsufficientDriver ? 12000 : 13000;
    return cudaSuccess;
}

// --- streams and events ----------------------------------------------------------------------

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
    if (const cudaError_t error = status()) return record(error);
    if (flags > cudaStreamNonBlocking) return record(cudaErrorInvalidValue);
    *stream = new CUstream_st{flags == cudaStreamNonBlocking ? std::make_shared<Queue>() : default_queue()};
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
    if (stream == nullptr) return record(cudaErrorInvalidResourceHandle);
    stream->queue->wait();
    delete stream;
    return record(status());
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
    return queue_of(stream)->is_idle() ? record(status()) : cudaErrorNotReady;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
    queue_of(stream)->wait();
    return record(status());
}

cudaError_t cudaEventCreate(cudaEvent_t* event) {
    *event = new CUevent_st;
    return record(status());
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
    const auto time = std::make_shared<std::promise<std::chrono::steady_clock::time_point>>();
    event->time = time->get_future().share();
    queue_of(stream)->push([time] { time->set_value(std::chrono::steady_clock::now()); });
    return record(status());
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
    if (event->time.valid()) event->time.wait();
    return record(status());
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
    for (const cudaEvent_t one : {begin, end}) {
        if (!one->time.valid()) return record(cudaErrorInvalidResourceHandle);
        if (one->time.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
            return cudaErrorNotReady;
    }
    *milliseconds = std::chrono::duration<float, std::milli>(end->time.get() - begin->time.get()).count();
    return record(status());
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
    delete event;
    return record(status());
}

// --- memory ----------------------------------------------------------------------------------

cudaError_t cudaMalloc(void** at, std::size_t bytes) {
    return record(allocate(at, bytes, cudaMemoryTypeDevice));
}
cudaError_t cudaHostAlloc(void** at, std::size_t bytes, unsigned flags) {
    if (flags != cudaHostAllocDefault && flags != cudaHostAllocMapped) return record(cudaErrorInvalidValue);
    return record(allocate(at, bytes, cudaMemoryTypeHost));
}
cudaError_t cudaFree(void* at) { return record(release(at, cudaMemoryTypeDevice)); }
cudaError_t cudaFreeHost(void* at) { return record(release(at, cudaMemoryTypeHost)); }
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned flags) {
    if (flags != 0 || find(host).type != cudaMemoryTypeHost) return record(cudaErrorInvalidValue);
    *device = host;
    return record(status());
}
cudaError_t cudaMemGetInfo(std::size_t* available, std::size_t* total) {
    if (const cudaError_t error = status()) return record(error);
    const std::lock_guard lock(memory_mutex);
    *total = memory_limit();
    *available = *total - std::min(*total, used(current_device));
    return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* attributes, const void* at) {
    const Allocation found = find(at);
    const auto pointer = const_cast<void*>(at);
    *attributes = {found.type, found.device, found.type == cudaMemoryTypeUnregistered ? nullptr : pointer,
                   found.type == cudaMemoryTypeDevice ? nullptr : pointer};
    return record(status());
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
    if (const cudaError_t error = check_copy(to, from, bytes, kind)) return record(error);
    const auto queue = queue_of(stream);
    queue->push([=] {
        if (!has_failed()) std::memmove(to, from, bytes);
    });
    if (is_pageable(to) || is_pageable(from)) queue->wait();
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
    const cudaError_t error = cudaMemcpyAsync(to, from, bytes, kind, nullptr);
    return error != cudaSuccess ? error : cudaStreamSynchronize(nullptr);
}
cudaError_t cudaMemsetAsync(void* at, int value, std::size_t bytes, cudaStream_t stream) {
    if (const cudaError_t error = status()) return record(error);
    if (bytes > 0 && !lies(at, bytes, true)) return record(cudaErrorInvalidValue);
    queue_of(stream)->push([=] {
        if (!has_failed()) std::memset(at, value, bytes);
    });
    return cudaSuccess;
}
cudaError_t cudaMemset(void* at, int value, std::size_t bytes) {
    const cudaError_t error = cudaMemsetAsync(at, value, bytes, nullptr);
    return error != cudaSuccess ? error : cudaStreamSynchronize(nullptr);
}
