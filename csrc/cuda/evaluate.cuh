// One image, one map: the objective and its gradient.
#pragma once

#include "backward.cuh"

namespace pyoip::cuda {

// The padded planes that the first layer reads, where they are not the image itself.
__device__ __forceinline__ bool keeps_planes(const Plan& plan) { return plan.layers[0].input != plan.image; }

__device__ inline void load_planes(const Block& b) {
    if (!keeps_planes(b.plan)) return;
    const LayerPlan& p = b.layer(0);
    for (int i = b.thread; i < p.in_channels * p.in_height * p.in_width; i += kThreads) {
        const int line = i / p.in_width, x = i % p.in_width, y = line % p.in_height, c = line / p.in_height;
        b.input(0)[(c * p.padded_h + y + p.pad_top) * p.padded_w + x + p.pad_left] =
            b.image()[(c * b.plan.height + y) * b.plan.width + x];
    }
    __syncthreads();
}

// From the objective's derivatives to b.step(), (C, H, W), and a barrier.
__device__ inline void go_back(Block& b, bool changed, bool afresh) {
    if (b.target() == 0) {
        target_to_image(b);
    } else {
        bool above = changed || afresh;  // has the gradient of the layer above changed?
        if (above) {
            target_to_input(b);
            __syncthreads();
        }
        for (int l = b.target() - 1; l > 0; --l) above = route_layer(b, l, above);
        first_to_image(b);
    }
    __syncthreads();
}

// What the ascent wants to know of the gradient, summed over the pixels.
struct Moments {
    float sum, along, square;  // of the gradient; of its product with the image; of its square
    bool zero, stop;           // exactly zero everywhere; `stop` of any thread
};

__device__ inline Moments gradient_moments(Block& b, bool stop) {
    float sums[5] = {0.0f, 0.0f, 0.0f, 0.0f, stop ? 1.0f : 0.0f};
    each_pixel(b, [&](int i) {
        const float g = b.step()[i];
        sums[0] += g, sums[1] += g * b.image()[i], sums[2] += g * g, sums[3] += g != 0.0f ? 1.0f : 0.0f;
    });
    add_up(b, sums);
    return {sums[0], sums[1], sums[2], sums[3] == 0.0f, sums[4] != 0.0f};
}

// The image is in place. `refresh`: all is to be made afresh anyway. Where the gradient has shrunk,
// rounding errors that it carried along may be most of it, or all: then, too. b.past() is its square,
// summed over the pixels, when all was last made afresh; below zero where that holds no more. It is
// written only where this evaluation does not read it. At a refresh the host's stop flag is looked at.
__device__ __forceinline__ Value evaluate(Block& b, int map, Objective objective, Silent silent, bool refresh,
                                          const volatile int* stop, Moments& moments) {
    load_planes(b);
    forward_below(b);
    const float bias = __ldg(b.layer(b.target()).bias + map);
    if (b.target() == 0)
        correlate_planes(b, bias);
    else
        correlate_channels(b, bias);
    __syncthreads();
    Value value = weigh_positions(b, objective, silent);
    if (value.flat) {
        each_pixel(b, [&](int i) { b.step()[i] = 0.0f; });
        if (b.thread == 0) b.past() = -1.0f;
        __syncthreads();
        moments = gradient_moments(b, refresh && b.thread == 0 && *stop != 0);
        return value;
    }
    bool afresh = refresh || b.past() < 0.0f;
    for (;;) {
        go_back(b, value.changed, afresh);
        moments = gradient_moments(b, refresh && b.thread == 0 && *stop != 0);
        if (afresh || moments.square > kFaint * b.past()) break;
        afresh = true;
    }
    if (afresh && b.thread == 0) b.past() = moments.square;
    value.flat = moments.zero;
    return value;
}

}  // namespace pyoip::cuda
