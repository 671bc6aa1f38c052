// The CUDA engine: one block of threads has one image, for the whole loop; see plan.hpp.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <stdexcept>

#include "batches.hpp"
#include "starts.hpp"

namespace pyoip::cuda {

// A stack that needs more shared memory than the device gives a block.
class NotFitting : public std::length_error {
public:
    NotFitting(std::int64_t needed, std::int64_t available);

    const std::int64_t needed, available;
};

class Engine {
public:
    // Throws std::invalid_argument for a stack outside the fused engines' limits, NotFitting, or
    // CudaError.
    explicit Engine(const Stack& stack, int device = 0);

    const Plan& plan() const { return plan_; }
    const LayerPlan& target() const { return plan_.layers[plan_.layer_count - 1]; }
    const Device& device() const { return device_; }
    cudaStream_t stream() const { return batches_->stream(); }
    std::int64_t smallest_batch() const { return batches_->smallest(); }

    // `where` the images are, there the results go; targets and step sizes are in host memory.
    // Every call returns when its results are there, false when the poll cancelled it.
    bool score(Where where, const float* images, std::int64_t count, Objective objective, Precision precision,
               const Poll& poll, float* scores);  // (count, maps)
    bool activations(Where where, const float* images, std::int64_t count, Precision precision,
                     const Poll& poll, float* maps);  // (count, maps, h, w)
    bool gradient(Where where, const float* images, const std::int32_t* targets, std::int64_t count,
                  Objective objective, Precision precision, const Poll& poll,
                  float* values,      // (count, 2)
                  float* gradients);  // (count, C, H, W)
    // Start images of the first mix of `settings`, and all maps' scores of such, by their numbers in
    // the pool; all arrays are in host memory.
    bool start_images(const FluctuationSettings& settings, const std::uint64_t* numbers, std::int64_t count,
                      const Poll& poll, float* images);  // (count, C, H, W)
    bool score_starts(const FluctuationSettings& settings, const std::uint64_t* numbers, std::int64_t count,
                      Objective objective, Precision precision, const Poll& poll,
                      float* scores);  // (count, maps)
    // Of a cancelled call, images in flight end as Stop::interrupted with their best so far. One
    // that was not begun has NaN, 0 steps, woke -1 and Stop::interrupted, or, in host memory, what
    // its arrays held. The snapshots' steps are those of `settings`.
    bool ascend(Where where, const Ascents& arrays, std::int64_t count, const AscentSettings& settings,
                Precision precision, const Poll& poll);

private:
    Device device_;
    Plan plan_{};
    DeviceMemory weights_, taps_;
    int blocks_[2] = {};  // that the device holds at a time, by kernel
    std::unique_ptr<Batches> batches_;
    std::mutex mutex_;

    void upload(const HostPlan& host);
    void prepare_kernels();
    StartPlan start_plan(const FluctuationSettings& settings);
    bool run(const std::vector<Column>& columns, std::int64_t count, const Poll& poll, const Launch& launch);
};

}  // namespace pyoip::cuda
