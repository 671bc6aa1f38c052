// A stack laid out for one vector width: cropped, padded and packed once, then read-only.
//
// Layouts. The input of layer l is a padded, channels-last buffer (padded_h, padded_w,
// in_padded): a layer's pool (or, without one, its convolution) writes straight into the
// inside of the next layer's buffer, whose border stays zero. in_padded is the number of
// channels rounded up to whole vectors; only the first layer's input, the image, lies in planes
// (C, padded_h, padded_w), and in_padded is 1. Gradients use buffers of the same shape. Only the positions
// that reach the target's outputs exist at all: every lower layer is cropped to them.
//
// Cells and codes. What a lower layer hands on, it hands on cell by cell: a cell is a pooling
// window of a maximum, or a position of the convolution where nothing pools or an average
// does. For each cell and map a byte says which of the cell's places went through, or, with
// the value `places`, that the activation function let nothing through. Codes are all that the
// way back needs to know of the way there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "../stack.hpp"

namespace pyoip::cpu {

constexpr int kBlockVectors = 2;    // channel vectors in registers at a time
constexpr int kAlign = 64;          // bytes
constexpr int kColumnsTooMany = 3;  // that dot.inl may read behind an input
constexpr int kMostMaps = 256;
constexpr int kMostSide = 96;  // of a layer's outputs
constexpr int kMostPlaces = 9;
constexpr int kPatchVectors = 8;  // of a patch in registers at a time
constexpr int kHalves = 2;        // of an image's work, for two threads

// Positions in registers at a time: with two vectors of maps the sums fill most of the 16
// registers of narrower sets, and half of AVX-512's 32, where a vector of broadcasts is cheap.
constexpr int tile_positions(int lanes) { return lanes == 16 ? 8 : 6; }

// Winograd tiles between their transformations; a vector of sums for each, twice.
constexpr int most_tiles(int lanes) { return lanes == 16 ? 8 : 6; }

// Positions y0 <= y < y1, x0 <= x < x1 of the convolution; `place` is the number of (y0, x0) in
// the whole window, which padding may have cut.
struct Window {
    std::int32_t y0, y1, x0, x1, place;
};

// conv_direct.inl, conv_narrow.inl (the first layer), conv_winograd.inl
enum class Method : int { direct, narrow, winograd2, winograd5 };

// Plain pointers and numbers only: this is all that the per-instruction-set files see.
struct LayerPlan {
    int in_channels, in_padded, in_height, in_width;  // cropped
    bool in_planes;                                   // the image, in the first layer
    int padded_h, padded_w, pad_top, pad_left;
    int maps, maps_padded, kernel_h, kernel_w, stride_h, stride_w;
    int out_height, out_width, positions;  // of the cropped convolution
    Activation activation;
    float slope;
    Pool pool;
    bool quads;                               // a 2x2 maximum that tiles the convolution
    int places, pool_w;                       // of a maximum's window (1 without)
    float pool_share;                         // of each value in an average
    int pooled_height, pooled_width, pooled;  // cropped; equal to out_* without a pool
    int cells, cell_rows, cell_columns;       // see above
    std::uint64_t maps_reciprocal;            // i * this >> 32 is i / maps_padded, for i < 2^24

    // Forward: runs of floats that are contiguous in the input and in the packed weights.
    Method method;
    int runs, run_length;
    const std::int32_t* run_offset;  // (runs) from a window's first float
    // direct: [block of channel vectors][run][i][vectors * lanes]
    // Winograd: [block of channel vectors][point][channel][vectors * lanes]
    // narrow: [channel vector][channel][point][lanes]
    const float* forward_weights;
    const float* bias;                   // (maps_padded)
    const std::int32_t* in_offset;       // (positions) a window's first float in the input
    const std::int32_t* out_offset;      // (positions) where the maps go
    const std::int32_t* next_offset;     // (pooled) in the next layer's input; not in the target
    const std::int32_t* mark_offset;     // (cells) the same as a position, for Plan::marks
    const Window* windows;               // (pooled)
    int tiles, tile_rows, tile_columns;  // Winograd's

    // Backward, and the target's single map: rows of kernel_w * in_padded floats.
    const float* rows;                // (kernel_h, maps, kernel_w * in_padded); not in layer 1
    const std::int32_t* cell_offset;  // (cells) input offset of the cell's first place
    const std::int32_t* place_step;   // (places) input offset of a place from the first

    // Layer 1 below the target: what one routed value adds to the image.
    int patch_rows, patch_row_length, patch_floats;  // patch_floats in whole vectors
    // In chunks of at most kPatchVectors: (places + 1, maps_padded, chunk); the last place's
    // are zeros.
    const float* patches;
    int phases;                            // patches of cells that are this far apart in a row do not overlap
    int cell_step_rows, cell_step_floats;  // in the image, from a cell to the next
    int lines, line_floats;                // of the image's gradient with its border
    std::int64_t lead;                     // from its start to the image's first pixel

    // Layer 1 below the target, where no maximum routes: see image_gradient.inl.
    bool dense_image;
    int grid_h, grid_w;        // of its gradient with a border
    const float* turned_rows;  // (in_channels, kernel_h, kernel_w, maps_padded), turned by half a turn

    // Layer 1 as the target.
    bool unpadded;                 // the image can be read where it is
    const float* raw_weights;      // (maps, in_channels, kernel_h, kernel_w)
    const float* flipped_weights;  // the same, every kernel turned by half a turn
    int map_width;                 // a map's rows in whole vectors
    int spread_h, spread_w;        // of its gradient, spread by the stride, with its border
    int spread_lead;               // of which this much lies before the first column, in whole vectors

    // Offsets in floats into an image's workspace.
    std::int64_t input, gradient, output;
    std::int64_t codes, old_codes;  // bytes (cells, maps_padded)
    std::int64_t in_floats;         // of input, and of gradient
};

struct Plan {
    int lanes;
    int channels, height, width;
    std::int64_t pixels, pitch;  // of an image; pitch in whole vectors
    int layer_count;
    const LayerPlan* layers;

    // Offsets in floats into an image's workspace, which starts as zeros.
    std::int64_t dense;                                       // gradient on an average pool's grid
    std::int64_t entries, buckets, decision;                  // routed values, see conv_backward.inl
    std::int64_t map_values, map_gradient, old_map_gradient;  // of the target's one map
    std::int64_t marks;     // bytes (padded_h, padded_w) of layer 2: where its input's gradient changed
    std::int64_t question;  // for the second thread
    std::int64_t halves, half_floats;           // the image's gradient, in two parts,
    std::int64_t strips, strip_floats;          // and for each a row of patches
    std::int64_t patches;                       // (cells of layer 1, patch_floats)
    std::int64_t grid;                          // layer 1 without a maximum
    std::int64_t spread;                        // layer 1 as the target
    std::int64_t images, velocity, step, blur;  // of the ascent; two images
    std::int64_t scratch, scratch_floats;       // kHalves times, one for each thread
    std::int64_t floats;                        // all together
};

// Zeroed, aligned blocks that live as long as a plan.
class Blocks {
public:
    template <class T>
    T* keep(std::int64_t count) {
        return static_cast<T*>(add(std::size_t(count) * sizeof(T)));
    }

private:
    struct Free {
        void operator()(void* p) const;
    };
    std::vector<std::unique_ptr<void, Free>> blocks_;

    void* add(std::size_t bytes);
};

// A plan and what its pointers point at.
class OwnedPlan {
public:
    OwnedPlan(const Stack& stack, int lanes, Precision precision);
    OwnedPlan(const OwnedPlan&) = delete;
    OwnedPlan& operator=(const OwnedPlan&) = delete;

    const Plan& plan() const { return plan_; }

private:
    friend class PlanBuilder;

    Plan plan_{};
    std::vector<LayerPlan> layers_;
    Blocks blocks_;
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
