// What devices there are, and all of CUDA's runtime that is owned or may fail.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace pyoip::cuda {

class CudaError : public std::runtime_error {
public:
    CudaError(cudaError_t code, const std::string& what) : std::runtime_error(what), code_(code) {}
    cudaError_t code() const { return code_; }

private:
    cudaError_t code_;
};

// Throws CudaError naming the call unless all is well, and lets the runtime forget the error.
void check(cudaError_t code, const std::string& call);

struct Device {
    int index = 0;
    std::string name;
    int major = 0, minor = 0;  // compute capability
    int multiprocessors = 0;
    std::int64_t shared_per_block = 0;  // bytes, all that a block may ask for
    std::int64_t memory = 0;            // bytes
    std::string reason;                 // why it cannot be used; empty where it can
};

struct Machine {
    int driver = 0, runtime = 0;  // versions as CUDA counts them: 13000 is 13.0; driver 0: there is none
    std::vector<Device> devices;
    std::string reason;  // why no device can be used; empty where one can
};

Machine machine();
// The device of that number; throws CudaError where it is missing or too old.
Device find_device(int index);
std::string version_name(int version);

// CUDA does not survive a fork: throws where a parent process has used it.
void check_process();

// Makes a device the calling thread's while it lives.
class OnDevice {
public:
    explicit OnDevice(int device);
    ~OnDevice();
    OnDevice(const OnDevice&) = delete;
    OnDevice& operator=(const OnDevice&) = delete;

private:
    int before_ = 0;
};

// Bytes on the device that was current when they were taken.
class DeviceMemory {
public:
    DeviceMemory() = default;
    explicit DeviceMemory(std::size_t bytes);

    std::byte* data() const { return data_.get(); }
    std::size_t bytes() const { return bytes_; }

private:
    struct Free {
        void operator()(std::byte* data) const;
    };
    std::unique_ptr<std::byte, Free> data_;
    std::size_t bytes_ = 0;
};

// Two words that host and device both see.
class SharedWords {
public:
    SharedWords();

    volatile int* stop() const { return static_cast<volatile int*>(host_.get()); }
    volatile unsigned* reported() const { return reinterpret_cast<volatile unsigned*>(host_.get() + kApart); }
    volatile int* device_stop() const { return device_; }
    volatile unsigned* device_reported() const {
        return reinterpret_cast<volatile unsigned*>(device_ + kApart);
    }

private:
    static constexpr int kApart = 32;  // ints: a cache line each
    struct Free {
        void operator()(int* words) const;
    };
    std::unique_ptr<int, Free> host_;
    int* device_ = nullptr;
};

// Does not wait for the default stream, nor that for it.
class Stream {
public:
    Stream();
    ~Stream();
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    cudaStream_t get() const { return stream_; }

private:
    cudaStream_t stream_ = nullptr;
};

}  // namespace pyoip::cuda
