// A stack laid out for one vector width: cropped, padded and packed once, then read-only.
//
// Layouts. The input of layer l is a padded, channels-last buffer (padded_h, padded_w,
// in_padded): a layer's pool (or, without one, its convolution) writes straight into the
// inside of the next layer's buffer, whose border stays zero. in_padded is the number of
// channels rounded up to whole vectors, except in the first layer, which keeps 1 or 3.
// Gradients use buffers of the same shape. Only the positions that reach the target's
// outputs exist at all: every lower layer is cropped to them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../stack.hpp"

namespace pyoip::cpu {

constexpr int kTile = 6;          // positions in registers at a time
constexpr int kBlockVectors = 2;  // channel vectors in registers at a time
constexpr int kAlign = 64;        // bytes

// Positions y0 <= y < y1, x0 <= x < x1 of the convolution; `place` is the number of (y0, x0) in
// the whole window, which padding may have cut.
struct Window {
    std::int32_t y0, y1, x0, x1, place;
};

// Plain pointers and numbers only: this is all that the per-instruction-set files see.
struct LayerPlan {
    int in_channels, in_padded, in_height, in_width;  // cropped
    int padded_h, padded_w, pad_top, pad_left;
    int maps, maps_padded, kernel_h, kernel_w, stride_h, stride_w;
    int out_height, out_width, positions;  // of the cropped convolution
    Activation activation;
    float slope;
    Pool pool;
    int places, pool_w;                       // of a pooling window (1 without)
    int pooled_height, pooled_width, pooled;  // cropped; equal to out_* without a pool

    // Forward: runs of floats that are contiguous in the input and in the packed weights.
    int runs, run_length;
    const std::int32_t* run_offset;   // (runs) from a window's first float
    const float* forward_weights;     // [block of channel vectors][run][i][vectors * lanes]
    const float* bias;                // (maps_padded)
    const std::int32_t* in_offset;    // (positions) a window's first float in the input
    const std::int32_t* out_offset;   // (positions) where the maps go
    const std::int32_t* next_offset;  // (pooled) in the next layer's input; not in the target
    const Window* windows;            // (pooled)

    // Backward, and the target's single map: rows of kernel_w * in_padded floats.
    const float* rows;               // (kernel_h, maps, kernel_w * in_padded); not in layer 1
    const std::int32_t* pool_at;     // (pooled) input offset of the window's first place
    const std::int32_t* place_step;  // (places) input offset of a place from the first

    // Layer 1 below the target: what one routed value adds to the image.
    int patch_rows, patch_row_length, patch_floats;  // patch_floats in whole vectors
    const float* patches;                            // (maps_padded, places, patch_floats)

    // Layer 1 as the target: planes instead of channels-last.
    const float* raw_weights;  // (maps, in_channels, kernel_h, kernel_w)
    int plane_width;           // row pitch of the padded image planes and of the gradient
    int map_width;             // row pitch of the map, in whole vectors
    int spread_h, spread_w;    // of the map's gradient, spread by the stride, with its border

    // Offsets in floats into a thread's workspace.
    std::int64_t input, gradient, output, argmax;
    std::int64_t in_floats;  // of input, and of gradient
};

struct Plan {
    int lanes;
    int channels, height, width;
    std::int64_t pixels, pitch;  // of an image; pitch in whole vectors
    int layer_count;
    const LayerPlan* layers;

    // Offsets in floats into a thread's workspace, which starts as zeros.
    std::int64_t dense;                           // gradient on a convolution's grid (average pooling)
    std::int64_t entries, buckets;                // routed values, see conv_backward.inl
    std::int64_t map_values, map_gradient;        // of the target's one map
    std::int64_t planes, plane_gradient, spread;  // layer 1 as the target
    std::int64_t image, velocity, step, blur;     // of the ascent
    std::int64_t floats;                          // all together
};

// A plan and what its pointers point at.
class OwnedPlan {
public:
    OwnedPlan(const Stack& stack, int lanes);
    OwnedPlan(const OwnedPlan&) = delete;
    OwnedPlan& operator=(const OwnedPlan&) = delete;

    const Plan& plan() const { return plan_; }

private:
    friend class PlanBuilder;
    struct Free {
        void operator()(void* p) const;
    };
    using Block = std::unique_ptr<void, Free>;

    Plan plan_{};
    std::vector<LayerPlan> layers_;
    std::vector<Block> blocks_;
};

// Zeroed, aligned memory for a thread. Throws std::bad_alloc.
class Memory {
public:
    explicit Memory(std::int64_t floats);
    ~Memory();
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    float* data() const { return data_; }

private:
    float* data_;
};

}  // namespace pyoip::cpu
