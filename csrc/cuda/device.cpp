#include "device.hpp"

#include <unistd.h>

#include <algorithm>
#include <atomic>

namespace pyoip::cuda {
namespace {

constexpr int kLeastMajor = 8;  // matrix products of TF32 begin with compute capability 8.0

std::atomic<pid_t> user{0};  // the process in which CUDA was used first

bool forked() {
    const pid_t first = user;
    return first != 0 && first != getpid();
}

void remember_process() {
    pid_t nobody = 0;
    user.compare_exchange_strong(nobody, getpid());
}

constexpr const char* kForked =
    "CUDA was used before this process was forked from its parent, which it does not survive; "
    "start processes by 'spawn' or 'forkserver'";

std::string why_no_device(cudaError_t code, const Machine& m) {
    if (code == cudaErrorInsufficientDriver && m.driver > 0)
        return "the driver is for CUDA " + version_name(m.driver) + ", older than CUDA " +
               version_name(m.runtime) + " needs";
    if (code == cudaErrorInsufficientDriver) return "no CUDA device: no NVIDIA driver is installed";
    if (code == cudaErrorNoDevice) return "no CUDA device";
    return std::string("no CUDA device can be used: ") + cudaGetErrorString(code);
}

std::string why_unusable(const Device& d) {
    if (d.major >= kLeastMajor) return "";
    return "CUDA device " + std::to_string(d.index) + " (" + d.name + "): compute capability " +
           std::to_string(d.major) + "." + std::to_string(d.minor) + ": must be " +
           std::to_string(kLeastMajor) + ".0 or more";
}

Device describe(int index) {
    cudaDeviceProp p{};
    check(cudaGetDeviceProperties(&p, index), "cudaGetDeviceProperties");
    Device d;
    d.index = index, d.name = p.name, d.major = p.major, d.minor = p.minor;
    d.multiprocessors = p.multiProcessorCount;
    d.shared_per_block = std::int64_t(p.sharedMemPerBlockOptin), d.memory = std::int64_t(p.totalGlobalMem);
    d.reason = why_unusable(d);
    return d;
}

bool usable(const Device& d) { return d.reason.empty(); }

}  // namespace

void check(cudaError_t code, const std::string& call) {
    if (code == cudaSuccess) return;
    cudaGetLastError();
    throw CudaError(code, call + ": " + cudaGetErrorString(code));
}

void check_process() {
    if (forked()) throw CudaError(cudaErrorNoDevice, kForked);
}

std::string version_name(int version) {
    return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

Machine machine() {
    Machine m;
    cudaRuntimeGetVersion(&m.runtime);
    if (forked()) {
        m.reason = kForked;
        return m;
    }
    cudaDriverGetVersion(&m.driver);
    int count = 0;
    const cudaError_t code = cudaGetDeviceCount(&count);
    if (code != cudaSuccess || count == 0) {
        cudaGetLastError();
        m.reason = why_no_device(code == cudaSuccess ? cudaErrorNoDevice : code, m);
        return m;
    }
    remember_process();
    for (int i = 0; i < count; ++i) m.devices.push_back(describe(i));
    if (std::none_of(m.devices.begin(), m.devices.end(), usable)) m.reason = m.devices[0].reason;
    return m;
}

Device find_device(int index) {
    const Machine m = machine();
    const int count = int(m.devices.size());
    if (count == 0) throw CudaError(cudaErrorNoDevice, m.reason);
    if (index < 0 || index >= count)
        throw CudaError(cudaErrorInvalidDevice, "CUDA device " + std::to_string(index) + ": must be 0 ... " +
                                                    std::to_string(count - 1));
    const Device& found = m.devices[std::size_t(index)];
    if (!usable(found)) throw CudaError(cudaErrorInvalidDevice, found.reason);
    return found;
}

OnDevice::OnDevice(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    check(cudaSetDevice(device), "cudaSetDevice");
}

OnDevice::~OnDevice() { cudaSetDevice(before_); }

DeviceMemory::DeviceMemory(std::size_t bytes) : bytes_(bytes) {
    void* data = nullptr;
    check(cudaMalloc(&data, bytes), "cudaMalloc of " + std::to_string(bytes) + " bytes");
    data_.reset(static_cast<std::byte*>(data));
}

// What is freed in a forked child is its parent's.
void DeviceMemory::Free::operator()(std::byte* data) const {
    if (!forked()) cudaFree(data);
}

SharedWords::SharedWords() {
    void *host = nullptr, *device = nullptr;
    check(cudaHostAlloc(&host, 2 * kApart * sizeof(int), cudaHostAllocMapped), "cudaHostAlloc");
    host_.reset(static_cast<int*>(host));
    check(cudaHostGetDevicePointer(&device, host, 0), "cudaHostGetDevicePointer");
    device_ = static_cast<int*>(device);
}

void SharedWords::Free::operator()(int* words) const {
    if (!forked()) cudaFreeHost(words);
}

Stream::Stream() {
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
}

Stream::~Stream() {
    if (!forked()) cudaStreamDestroy(stream_);
}

}  // namespace pyoip::cuda
