// The activation functions of activations.def and their slopes.
#pragma once

#include "../stack.hpp"
#include "intrinsics.cuh"

namespace pyoip::cuda {

__device__ __forceinline__ float larger(float a, float b) { return a > b ? a : b; }
__device__ __forceinline__ float select(bool condition, float yes, float no) { return condition ? yes : no; }
__device__ __forceinline__ float exponential(float x) { return expf(x); }
__device__ __forceinline__ float hyperbolic_tangent(float x) { return tanhf(x); }

__device__ __forceinline__ float activate(Activation kind, float alpha, float z) {
    [[maybe_unused]] constexpr float zero = 0.0f, one = 1.0f;
#define PYOIP_ACTIVATION(name, slope, value, ...) \
    if (kind == Activation::name) return value;
#include "../activations.def"
    return z;
}

// Of a function whose slope does not vary; all others take a pass of their own, as their code is long
// and the places where a convolution ends are many.
__device__ __forceinline__ float gated(Activation kind, float z) {
    [[maybe_unused]] constexpr float zero = 0.0f, one = 1.0f, alpha = 0.0f;
#define PYOIP_ACTIVATION(name, slope, value, ...) \
    if constexpr (slope != Slope::varies)         \
        if (kind == Activation::name) return value;
#include "../activations.def"
    return z;
}

// From the activated value. At 0 a gate's is 0.
__device__ __forceinline__ float derivative(Activation kind, float alpha, float a) {
    [[maybe_unused]] constexpr float zero = 0.0f, one = 1.0f;
#define PYOIP_ACTIVATION(name, slope, value, derivative) \
    if (kind == Activation::name) return derivative;
#include "../activations.def"
    return one;
}

// What goes in a code: whether the activation function lets a value through.
__device__ __forceinline__ bool lets_through(Activation kind, float a) {
    return slope_of(kind) != Slope::gate || a > 0.0f;
}

}  // namespace pyoip::cuda
