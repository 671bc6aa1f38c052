// The launches: one for each of the engine's four calls. (starts.hpp has that of start images.) Every
// pointer is to device memory unless said otherwise; arrays are row-major and dense.
//
// Blocks are persistent: each takes the next image of the batch when it has finished one. An
// image's numbers depend on nothing but the image, so neither the batch nor the number of blocks
// can be seen in them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "../stack.hpp"
#include "plan.hpp"

namespace pyoip::cuda {

enum class Kernel : int { maps, ascend };  // maps: scores and activations; ascend: gradients as well

// How a launch and its host tell each other of their way.
struct Signals {
    unsigned* next = nullptr;               // the next image to be taken; 0 before a launch
    unsigned* finished = nullptr;           // images done; 0 before a launch
    const volatile int* stop = nullptr;     // in host memory, mapped: 1 asks all blocks to end
    volatile unsigned* reported = nullptr;  // in host memory, mapped: a recent `finished`
};

// The arrays of a batch of ascents; AscentTask (stack.hpp) says what each is.
struct Ascents {
    const float* starts = nullptr;                 // (count, C, H, W)
    const std::int32_t* targets = nullptr;         // (count)
    const float* step_sizes = nullptr;             // (count)
    float* images = nullptr;                       // (count, C, H, W)
    float* history = nullptr;                      // (count, steps + 1)
    float* snapshots = nullptr;                    // (count, snapshot_count, C, H, W)
    float* activations = nullptr;                  // (count)
    float* preactivations = nullptr;               // (count)
    std::int32_t* steps = nullptr;                 // (count)
    std::int32_t* woke = nullptr;                  // (count)
    std::uint8_t* stops = nullptr;                 // (count) Stop
    const std::int32_t* snapshot_steps = nullptr;  // (snapshot_count)

    // Instead of an ascent, where these are given: as in gradient(), which fills the rest.
    float* values = nullptr;
    float* gradients = nullptr;
};

// Allows a kernel the plan's shared memory and says how many of its blocks a multiprocessor holds.
// To be called once for each kernel and device before a plan's first launch.
cudaError_t prepare(Kernel kernel, const Plan& plan, int* blocks);

// `blocks` at most: those that the device holds at a time. All are asynchronous.
cudaError_t score(const Plan& plan, Precision precision, int blocks, cudaStream_t stream,
                  const Signals& signals, const float* images, unsigned count, Objective objective,
                  float* scores);  // (count, maps)
cudaError_t activations(const Plan& plan, Precision precision, int blocks, cudaStream_t stream,
                        const Signals& signals, const float* images, unsigned count,
                        float* maps);  // (count, maps, h, w)
cudaError_t gradient(const Plan& plan, Precision precision, int blocks, cudaStream_t stream,
                     const Signals& signals, const float* images, const std::int32_t* targets, unsigned count,
                     Objective objective,
                     float* values,      // (count, 2): mean activation, mean preactivation
                     float* gradients);  // (count, C, H, W)
// settings.snapshots is not read: the steps are in ascents.snapshot_steps. An image that is not
// begun when `stop` turns 1 keeps what its arrays held; one in flight ends as Stop::interrupted.
cudaError_t ascend(const Plan& plan, Precision precision, int blocks, cudaStream_t stream,
                   const Signals& signals, const Ascents& ascents, unsigned count,
                   const AscentSettings& settings);

}  // namespace pyoip::cuda
