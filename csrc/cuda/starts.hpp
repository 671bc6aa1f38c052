// Start images drawn on the device, to the bit those of ../fluctuations.hpp.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#include "../fluctuations.hpp"
#include "../grids.hpp"

namespace pyoip::cuda {

constexpr int kMostScales = 32;
constexpr int kLanes = 8;  // partial sums, as of the CPU's
constexpr std::int64_t kLaneBytes = kLanes * sizeof(double);

// A scale that has a weight.
struct ScalePlan {
    std::uint32_t slot;
    int cells_h, cells_w;
    float weight;
    const Taps *down, *across;  // (height), (width), in device memory; none where a cell is a pixel
};

// All start images of a mix. Handed to the kernel by value.
struct StartPlan {
    std::uint64_t seed;
    std::uint32_t stream;
    int channels, height, width;
    int scale_count;
    ScalePlan scales[kMostScales];
    int smoothing;
    Constraint constraint;
    float low, high;
    std::int64_t shared_bytes;
};

// The plan without its pointers, and what they will point at.
struct HostStartPlan {
    StartPlan plan{};
    std::vector<Taps> taps;  // of all scales, down and then across

    void point_at(const Taps* on_device);
};

// Of the first of the settings' mixes.
HostStartPlan make_start_plan(const FluctuationSettings& settings, int channels, int height, int width);

// Allows the kernel `shared` bytes of a block's memory, once for each device.
cudaError_t prepare_draw(std::int64_t shared);

// images (count, C, H, W), in device memory as `numbers` (count) and `finished`, which counts the
// images that are done, or none. Asynchronous; quick enough to need no way of stopping it.
cudaError_t draw(const StartPlan& plan, cudaStream_t stream, const std::uint64_t* numbers, unsigned count,
                 float* images, unsigned* finished);

}  // namespace pyoip::cuda
