// The target's one map: its values, its mean, the objective's derivative by each of its positions.
#pragma once

#include "forward.cuh"

namespace pyoip::cuda {

enum class Silent { report, wake };  // a map that a ReLU silences: wake follows its highest preactivation

struct Value {
    float activation, preactivation;  // means over positions
    float peak;                       // the highest preactivation, of one that is asleep
    bool asleep;                      // a ReLU that is off everywhere
    bool flat;                        // the gradient is exactly zero
    bool changed;                     // the map's gradient is not the last evaluation's
};

// The map's weights into shared memory, once for an ascent.
__device__ inline void load_map_row(const Block& b, int map) {
    const LayerPlan& t = b.layer(b.target());
    const int floats = b.target() == 0 ? t.in_channels * t.taps : t.taps * t.in_depth;
    float* row = b.shared + b.plan.map_row;
    for (int i = b.thread; i < floats; i += kThreads) row[i] = __ldg(t.rows + std::int64_t(map) * floats + i);
}

// A first layer: a position for each thread.
__device__ inline void correlate_planes(const Block& b, float bias) {
    const LayerPlan& p = b.layer(0);
    const float* row = b.shared + b.plan.map_row;
    for (int at = b.thread; at < p.positions; at += kThreads) {
        const int y = at / p.out_width * p.stride_h, x = at % p.out_width * p.stride_w;
        float sum = bias;
        for (int c = 0, k = 0; c < p.in_channels; ++c) {
            const float* line = b.input(0) + (c * p.padded_h + y) * p.padded_w + x;
            for (int ky = 0; ky < p.kernel_h; ++ky, line += p.padded_w)
                for (int kx = 0; kx < p.kernel_w; ++kx, ++k) sum += line[kx] * row[k];
        }
        b.shared[b.plan.map_values + at] = sum;
    }
}

// Other layers: eight lanes for each position, four channels a time for each of them.
__device__ inline void correlate_channels(const Block& b, float bias) {
    constexpr int team = 8;
    const LayerPlan& p = b.layer(b.target());
    const float *row = b.shared + b.plan.map_row, *input = b.input(b.target());
    const int part = b.thread % team * 4;
    for (int first = 0; first < p.positions; first += kThreads / team) {
        const int at = first + b.thread / team;
        float sum = 0.0f;
        if (at < p.positions) {
            const float* corner =
                input +
                (at / p.out_width * p.stride_h * p.padded_w + at % p.out_width * p.stride_w) * p.in_pitch;
            const float* weights = row;
            for (int ky = 0; ky < p.kernel_h; ++ky)
                for (int kx = 0; kx < p.kernel_w; ++kx, weights += p.in_depth)
                    for (int c = part; c < p.in_depth; c += 4 * team) {
                        const float4 x = *reinterpret_cast<const float4*>(
                            corner + (ky * p.padded_w + kx) * p.in_pitch + c);
                        const float4 w = *reinterpret_cast<const float4*>(weights + c);
                        sum += (x.x * w.x + x.y * w.y) + (x.z * w.z + x.w * w.w);
                    }
        }
#pragma unroll
        for (int distance = team / 2; distance > 0; distance /= 2)
            sum += __shfl_xor_sync(kFullWarp, sum, distance);
        if (part == 0 && at < p.positions) b.shared[b.plan.map_values + at] = sum + bias;
    }
}

// From the map's values to its means and, in map_gradient, the objective's derivatives.
__device__ inline Value weigh_positions(Block& b, Objective objective, Silent silent) {
    const LayerPlan& p = b.layer(b.target());
    const float* values = b.shared + b.plan.map_values;
    float *gradient = b.shared + b.plan.map_gradient, *old = b.shared + b.plan.old_gradient;
    const bool linear = objective == Objective::preactivation;
    const float share = 1.0f / float(p.positions);
    float sums[4] = {};  // of activations, of preactivations; how many derivatives are not zero, are new
    Highest highest{-INFINITY, 0};
    for (int at = b.thread; at < p.positions; at += kThreads) {
        const float z = values[at], a = activate(p.activation, p.slope, z);
        const float d = linear ? share : share * derivative(p.activation, p.slope, a);
        gradient[at] = d;
        sums[0] += a, sums[1] += z, sums[2] += d != 0.0f ? 1.0f : 0.0f, sums[3] += d != old[at] ? 1.0f : 0.0f;
        highest.take(z, at);
    }
    add_up(b, sums);
    Value value{sums[0] * share, sums[1] * share, 0.0f, false, sums[2] == 0.0f, sums[3] > 0.0f};
    value.asleep = slope_of(p.activation) == Slope::gate && !(value.activation > 0.0f);
    if (value.asleep) find_highest(b, highest);
    value.peak = highest.value;
    if (value.asleep && silent == Silent::wake && !linear) {
        float changes[1] = {};
        for (int at = b.thread; at < p.positions; at += kThreads) {
            gradient[at] = at == highest.where ? 1.0f : 0.0f;
            changes[0] += gradient[at] != old[at] ? 1.0f : 0.0f;
        }
        add_up(b, changes);
        value.flat = false, value.changed = changes[0] > 0.0f;
    }
    for (int at = b.thread; at < p.positions; at += kThreads) old[at] = gradient[at];
    return value;
}

}  // namespace pyoip::cuda
