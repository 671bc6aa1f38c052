#include "batches.hpp"

#include <algorithm>
#include <chrono>
#include <limits>
#include <string>
#include <thread>

namespace pyoip::cuda {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr std::size_t kAlignment = 256;
constexpr auto kPollEvery = 100ms;
constexpr auto kAwake = 2ms;  // a short launch is not slept over
constexpr auto kNap = 200us;

std::size_t aligned(std::size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

std::size_t room_for(const std::vector<Column>& columns, std::int64_t count) {
    std::size_t bytes = 0;
    for (const Column& c : columns)
        if (c.where == Where::host) bytes += aligned(c.bytes * std::size_t(count));
    return bytes;
}

CudaError too_little(std::size_t bytes) {
    std::size_t free = 0, all = 0;
    cudaMemGetInfo(&free, &all);
    return CudaError(cudaErrorMemoryAllocation, "one image needs " + std::to_string(bytes) +
                                                    " bytes of device memory, of which " +
                                                    std::to_string(free) + " are free");
}

// Fills what no kernel may ever write, on the device itself.
void fill_device(const std::vector<Column>& columns, std::int64_t count, cudaStream_t stream) {
    for (const Column& c : columns)
        if (c.where == Where::device && c.fill >= 0 && c.bytes > 0)
            check(cudaMemsetAsync(c.to, c.fill, c.bytes * std::size_t(count), stream), "cudaMemsetAsync");
}

}  // namespace

bool Batches::run(const std::vector<Column>& columns, std::int64_t count, const Poll& poll,
                  const Launch& launch) {
    bool stopped = false;
    std::int64_t done = 0;
    if (count > 0) fill_device(columns, count, stream());
    for (std::int64_t begin = 0; begin < count && !stopped;) {
        const Batch batch = place(columns, begin, fit(columns, count - begin));
        upload(columns, batch);
        check(launch(batch), "the launch");
        done += finish(batch, count, poll, stopped);
        download(columns, batch);
        begin += batch.count;
    }
    if (poll && count > 0 && !stopped && poll(done, count)) stopped = true;  // so that all ends at 100 %
    return !stopped || done == count;
}

// Images of the next batch, with room for them; halved until memory suffices.
unsigned Batches::fit(const std::vector<Column>& columns, std::int64_t count) {
    std::int64_t size = std::min<std::int64_t>(count, std::numeric_limits<std::int32_t>::max());
    while (!reserve(room_for(columns, size), size == 1)) {
        if (size == 1) throw too_little(room_for(columns, 1));
        size = (size + 1) / 2;
        smallest_ = smallest_ == 0 ? size : std::min(smallest_, size);
    }
    return unsigned(size);
}

// Grown on demand; false where the device has no more. An eighth of what is free is left to others,
// unless `all` is asked for.
bool Batches::reserve(std::size_t bytes, bool all) {
    if (bytes <= room_.bytes()) return true;
    std::size_t free = 0, total = 0;
    check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    if (!all && bytes > (free + room_.bytes()) / 8 * 7) return false;
    room_ = DeviceMemory();
    try {
        room_ = DeviceMemory(bytes);
        return true;
    } catch (const CudaError& error) {
        if (error.code() != cudaErrorMemoryAllocation) throw;
        return false;
    }
}

Batch Batches::place(const std::vector<Column>& columns, std::int64_t begin, unsigned count) const {
    Batch batch;
    batch.begin = begin, batch.count = count;
    batch.signals.next = reinterpret_cast<unsigned*>(counters_.data());
    batch.signals.finished = reinterpret_cast<unsigned*>(counters_.data() + kApart);
    batch.signals.stop = shared_.device_stop(), batch.signals.reported = shared_.device_reported();
    std::byte* at = room_.data();
    for (const Column& c : columns) {
        if (c.where == Where::host) {
            batch.arrays.push_back(at);
            at += aligned(c.bytes * count);
        } else {
            auto* array = static_cast<std::byte*>(c.to ? c.to : const_cast<void*>(c.from));
            batch.arrays.push_back(array + c.bytes * std::size_t(begin));
        }
    }
    return batch;
}

void Batches::upload(const std::vector<Column>& columns, const Batch& batch) const {
    *shared_.stop() = 0;
    *shared_.reported() = 0;
    check(cudaMemsetAsync(counters_.data(), 0, counters_.bytes(), stream()), "cudaMemsetAsync");
    for (std::size_t i = 0; i < columns.size(); ++i) {
        const Column& c = columns[i];
        const std::size_t bytes = c.bytes * batch.count;
        if (c.where == Where::device || bytes == 0) continue;
        if (c.from)
            check(cudaMemcpyAsync(batch.arrays[i],
                                  static_cast<const std::byte*>(c.from) + c.bytes * std::size_t(batch.begin),
                                  bytes, cudaMemcpyHostToDevice, stream()),
                  "cudaMemcpyAsync to the device");
        else if (c.fill >= 0)
            check(cudaMemsetAsync(batch.arrays[i], c.fill, bytes, stream()), "cudaMemsetAsync");
    }
}

void Batches::download(const std::vector<Column>& columns, const Batch& batch) const {
    for (std::size_t i = 0; i < columns.size(); ++i) {
        const Column& c = columns[i];
        const std::size_t bytes = c.bytes * batch.count;
        if (c.where == Where::device || !c.to || bytes == 0) continue;
        check(cudaMemcpyAsync(static_cast<std::byte*>(c.to) + c.bytes * std::size_t(batch.begin),
                              batch.arrays[i], bytes, cudaMemcpyDeviceToHost, stream()),
              "cudaMemcpyAsync to the host");
    }
    check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
}

// Images done when the launch has ended.
unsigned Batches::finish(const Batch& batch, std::int64_t total, const Poll& poll, bool& stopped) {
    try {
        wait(batch, total, poll, stopped);
    } catch (...) {  // from poll: nothing may be written to arrays that are about to go
        *shared_.stop() = 1;
        cudaStreamSynchronize(stream());
        throw;
    }
    unsigned finished = 0;
    check(
        cudaMemcpyAsync(&finished, batch.signals.finished, sizeof finished, cudaMemcpyDeviceToHost, stream()),
        "cudaMemcpyAsync to the host");
    check(cudaStreamSynchronize(stream()), "cudaStreamSynchronize");
    return finished;
}

void Batches::wait(const Batch& batch, std::int64_t total, const Poll& poll, bool& stopped) const {
    const auto began = Clock::now();
    auto next = began + kPollEvery;
    for (cudaError_t status; (status = cudaStreamQuery(stream())) != cudaSuccess;) {
        if (status != cudaErrorNotReady) check(status, "the launch");
        const auto now = Clock::now();
        if (poll && !stopped && now >= next) {
            stopped = poll(batch.begin + *shared_.reported(), total);
            if (stopped) *shared_.stop() = 1;
            next = Clock::now() + kPollEvery;
        }
        if (now - began < kAwake)
            std::this_thread::yield();
        else
            std::this_thread::sleep_for(kNap);
    }
}

}  // namespace pyoip::cuda
