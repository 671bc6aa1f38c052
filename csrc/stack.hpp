// A sequential conv stack and what can be asked of it: plain structs, no Python, no torch.
//
// Shapes are written as in Python: images (C, H, W), weights (maps, in_channels, kernel_h,
// kernel_w), all row-major float32. The last layer is the target: its maps are what is
// climbed, and it has no pool.
#pragma once

#include <cstdint>
#include <vector>

namespace pyoip {

enum class Activation : int {
#define PYOIP_ACTIVATION(name, ...) name,
#include "activations.def"
};
inline constexpr const char* kActivationNames[] = {
#define PYOIP_ACTIVATION(name, ...) #name,
#include "activations.def"
};
// What an activation function's slope can be; see activations.def.
enum class Slope { one, gate, varies };

// Static: every file that is compiled for an instruction set of its own has its own.
[[maybe_unused]] static constexpr Slope slope_of(Activation kind) {
#define PYOIP_ACTIVATION(name, slope, ...) \
    if (kind == Activation::name) return slope;
#include "activations.def"
    return Slope::varies;
}

enum class Pool : int { none, max, average };
enum class Objective : int { activation, preactivation };
enum class Constraint : int { standardize, clip };
// fast: rounding errors four to ten times larger, on the CPU; tf32: some thousand times, on CUDA
enum class Precision : int { exact, fast, tf32 };
enum class Stop : std::uint8_t { steps, converged, zero_gradient, interrupted };

struct ConvLayer {
    int in_channels = 0, in_height = 0, in_width = 0;
    int maps = 0, out_height = 0, out_width = 0;  // of the convolution, before the pool
    int kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1;
    int pad_top = 0, pad_left = 0;  // bottom and right follow from the output size
    Activation activation = Activation::relu;
    float slope = 0.0f;  // below zero, >= 0, where the activation function leaves it open
    Pool pool = Pool::none;
    int pool_h = 1, pool_w = 1, pool_stride_h = 1, pool_stride_w = 1;
    int pool_top = 0, pool_left = 0;          // max pooling only: positions of value -inf
    int pooled_height = 0, pooled_width = 0;  // equal to out_* without a pool
    std::vector<float> weights;               // (maps, in_channels, kernel_h, kernel_w)
    std::vector<float> bias;                  // (maps)
};

struct Stack {
    int channels = 0, height = 0, width = 0;
    std::vector<ConvLayer> layers;

    const ConvLayer& target() const { return layers.back(); }
    std::int64_t pixels() const { return std::int64_t(channels) * height * width; }
};

// The limits of the fused engines, on which the kernels' buffers and 32-bit offsets rely; throws
// std::invalid_argument that names the layer, the value and the rule.
void check_stack(const Stack& stack);

// One ascent's numbers; pyoip/settings.py explains each.
struct AscentSettings {
    Objective objective = Objective::activation;
    Constraint constraint = Constraint::standardize;
    float low = 0.0f, high = 1.0f;  // the box of Constraint::clip
    int steps = 256;
    float momentum = 0.8f;
    int patience = 8;
    float tolerance = 1e-4f;
    int smooth = 0;        // blur every so many steps; 0 never
    bool article = false;  // constant step, no momentum, no projection, no early stop
    int snapshot_count = 0;
    const std::int32_t* snapshots = nullptr;  // (snapshot_count), increasing
};

// Where one ascent reads and writes.
struct AscentTask {
    const float* start = nullptr;  // (C, H, W)
    int map = 0;
    float step_size = 0.0f;          // the first; it halves on the way
    float* image = nullptr;          // (C, H, W): the best image
    float* history = nullptr;        // (steps + 1): the objective at each step, NaN after the end
    float* snapshots = nullptr;      // (snapshot_count, C, H, W)
    float* activation = nullptr;     // of the best image: mean over positions
    float* preactivation = nullptr;  // of the best image
    std::int32_t* steps = nullptr;   // gradient steps taken
    std::int32_t* woke = nullptr;    // step at which a silent start came alive, -1 never
    Stop* stop = nullptr;
};

}  // namespace pyoip
