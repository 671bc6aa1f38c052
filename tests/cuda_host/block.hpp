// One block of threads, run to its end on the calling thread of the host.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <string>

namespace cuda_host {

constexpr unsigned kMostThreads = 1024;
constexpr std::size_t kSharedMemory = 232448;  // of a block, at most

struct Order {
    enum Kind { forward, backward, random } kind = forward;
    std::uint64_t seed = 0;
};

// What CUDA leaves undefined, said on stderr; the program ends.
[[noreturn]] void fail(const std::string& what);

void run_block(unsigned block, unsigned blocks, unsigned threads, std::size_t shared_bytes, Order order,
               const std::function<void()>& thread);

}  // namespace cuda_host
