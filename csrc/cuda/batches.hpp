// The images of a call, in as many launches as the device's memory asks for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "../parallel.hpp"
#include "device.hpp"
#include "kernels.hpp"

namespace pyoip::cuda {

enum class Where { host, device };

// One array of a call: so many bytes for each image. Of an array on the device nothing is copied:
// kernels read and write it where it is.
struct Column {
    Where where = Where::host;
    const void* from = nullptr;  // read by the kernel
    void* to = nullptr;          // or written by it
    std::size_t bytes = 0;
    int fill = -1;  // 0 ... 255: the byte that the array of an image never begun is full of
};

// What a launch gets: images begin ... begin + count - 1 of the call.
struct Batch {
    std::int64_t begin = 0;
    unsigned count = 0;
    Signals signals{};
    std::vector<std::byte*> arrays;  // on the device, in the columns' order, of the first image

    template <class T>
    T* as(std::size_t column) const {
        return reinterpret_cast<T*>(arrays[column]);
    }
};

using Launch = std::function<cudaError_t(const Batch&)>;

// Owns the stream, the signals and the memory of batches, which is kept from call to call.
class Batches {
public:
    // Returns false when the poll cancelled it. Images done by then have their results; of the
    // others in a host array, those of launches never made are left untouched.
    bool run(const std::vector<Column>& columns, std::int64_t count, const Poll& poll, const Launch& launch);

    cudaStream_t stream() const { return stream_.get(); }
    // The fewest images at a time that memory ever forced on a call; 0: all calls fitted.
    std::int64_t smallest() const { return smallest_; }

private:
    Stream stream_;
    SharedWords shared_;
    DeviceMemory counters_{2 * kApart};  // of Signals: next, finished
    DeviceMemory room_;
    std::int64_t smallest_ = 0;

    static constexpr std::size_t kApart = 128;

    unsigned fit(const std::vector<Column>& columns, std::int64_t count);
    bool reserve(std::size_t bytes, bool all);
    Batch place(const std::vector<Column>& columns, std::int64_t begin, unsigned count) const;
    void upload(const std::vector<Column>& columns, const Batch& batch) const;
    void download(const std::vector<Column>& columns, const Batch& batch) const;
    unsigned finish(const Batch& batch, std::int64_t total, const Poll& poll, bool& stopped);
    void wait(const Batch& batch, std::int64_t total, const Poll& poll, bool& stopped) const;
};

}  // namespace pyoip::cuda
