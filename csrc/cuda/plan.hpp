// A stack laid out for one block of threads: what lies where in its shared memory, and its weights
// in device memory in the orders that the kernels read them in. Plain numbers and pointers: a plan
// is handed to a kernel by value.
//
// Layouts. One block has one image. The first layer reads planes (C, padded_h, padded_w); every
// other layer's input, and the gradient by it, lies channels-last, (padded_h, padded_w, in_pitch),
// with a border of zeros where the layer pads. A pitch is the number of channels rounded up to 8,
// the depth of a matrix product, and 4 more, so that 8 neighbouring positions lie in different
// banks. As on the CPU every layer is cropped to what reaches the target's outputs.
//
// Cells and codes are those of cpu/plan.hpp: a cell is a pooling window of a maximum, or a position
// where nothing pools or an average does, and its code, one for each map, says which place of the
// cell went through, or `places` where the activation function let nothing through. The low half of
// a byte is this step's code, the high half the last step's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../stack.hpp"
#include "divisor.hpp"

namespace pyoip::cuda {

constexpr int kThreads = 256;  // of a block, whatever the stack: sums keep one order
constexpr int kWarps = kThreads / 32;
constexpr int kMostLayers = 4;
constexpr int kMostSums = 8;       // of one reduction
constexpr int kKeptFloats = 16;    // of what an ascent remembers from step to step
constexpr int kDepth = 8;          // of one matrix product, m16n8k8
constexpr int kTileRows = 16;      // positions
constexpr int kTileColumns = 8;    // maps
constexpr int kBackGroup = 2;      // column tiles that a warp has at most on the way back: registers
constexpr int kSplits = 8;         // parts of a sum over positions
constexpr int kMostChanges = 256;  // decisions that may be moved one by one in a step

struct LayerPlan {
    int in_channels, in_pitch;
    Divisor in_depth;  // in_channels rounded up to kDepth
    Divisor in_height, in_width;
    int padded_h, padded_w, pad_top, pad_left;
    Divisor maps, maps_depth;  // likewise of the outputs
    int maps_pitch;
    int kernel_h, kernel_w, taps;
    Divisor stride_h, stride_w;
    int out_height, positions;  // of the convolution
    Divisor out_width;
    Activation activation;
    float slope;
    Pool pool;
    int pool_h, pool_top, pool_left;
    Divisor pool_w, pool_stride_h, pool_stride_w;
    int pooled_height;  // out_* without a pool
    Divisor pooled_width;
    bool quads;        // a 2x2 maximum that tiles the convolution
    int places;        // of a cell
    float pool_share;  // of each value in an average
    int cells;
    Divisor cell_columns, code_pitch;

    // Matrix products, from the second layer on. A warp has 2 tiles of rows by a group of column tiles:
    // of maps forward (1, 2 or 4 tiles), of the input's channels backward.
    int group, back_group;        // tiles in a group
    Divisor groups, back_groups;  // how many groups

    // The first layer's way back to the image: what one cell adds to it.
    int patch_h, patch_w, patch_pitch;  // columns (C, patch_h, patch_w) in tiles of 8
    Divisor cell_step_h, cell_step_w;   // in padded pixels: cell (y, x) begins at
    int cell_lead_h, cell_lead_w;       // (y * step_h - lead_h, x * step_w - lead_w)
    int chunk_rows;                     // rows of cells at a time

    // In device memory.
    const float* forward;   // first layer: (C * taps, maps); else fragments, see packing.cpp
    const float* backward;  // fragments of the transposed weights; first layer: of its patches
    const float* rows;      // (maps, taps, in_depth); first layer: (maps, C, taps)
    const float* bias;      // (maps_depth)

    // In shared memory, in floats from its start.
    int input, gradient;  // of this layer's input
    int output;           // (positions, maps_pitch): activated values under an average whose slope varies
    int codes;            // bytes (cells, code_pitch)
};

struct Plan {
    int channels, pixels;
    Divisor height, width, plane;  // plane: height * width
    double share;                  // 1 / pixels
    int layer_count;
    LayerPlan layers[kMostLayers];

    // In shared memory, in floats from its start.
    int image, velocity, step;                   // (C, H, W) each
    int map_row;                                 // the target map's weights, as in `rows`
    int map_values, map_gradient, old_gradient;  // (positions) of the target's one map
    int scratch;                                 // values of a convolution before an overlapping pool, a
                                                 // layer's gradient by positions, patches, partial scores
    int changes;                                 // (kMostChanges)
    int sums;                                    // of reductions
    std::int64_t shared_bytes;
};

// The plan without its pointers, and the weights that they will point at.
struct HostPlan {
    struct Weights {
        std::vector<float> forward, backward, rows, bias;
    };
    Plan plan{};
    Weights weights[kMostLayers];
};

// Any stack within the core's limits (check_stack); whether it fits is a question for the device.
HostPlan make_plan(const Stack& stack);

}  // namespace pyoip::cuda
