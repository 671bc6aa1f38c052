// One block of threads at work on one image, and its sums.
#pragma once

#include <cstdint>

#include "intrinsics.cuh"
#include "plan.hpp"

namespace pyoip::cuda {

// A thread's view of its block.
struct Block {
    const Plan& plan;
    float* shared;
    int thread, warp, lane;
    bool exact;    // matrix products of fp32 accuracy
    int turn = 0;  // which half of the room for sums is free

    __device__ __forceinline__ Block(const Plan& p, Precision precision, unsigned char* memory)
        : plan(p),
          shared(reinterpret_cast<float*>(memory)),
          thread(int(threadIdx.x)),
          warp(int(threadIdx.x) / 32),
          lane(int(threadIdx.x) % 32),
          exact(precision != Precision::tf32) {}

    __device__ __forceinline__ int target() const { return plan.layer_count - 1; }
    __device__ __forceinline__ const LayerPlan& layer(int l) const { return plan.layers[l]; }
    __device__ __forceinline__ float* image() const { return shared + plan.image; }
    __device__ __forceinline__ float* step() const { return shared + plan.step; }
    __device__ __forceinline__ float* velocity() const { return shared + plan.velocity; }
    __device__ __forceinline__ float* scratch() const { return shared + plan.scratch; }
    __device__ __forceinline__ float* input(int l) const { return shared + plan.layers[l].input; }
    __device__ __forceinline__ float* gradient(int l) const { return shared + plan.layers[l].gradient; }
    __device__ __forceinline__ float* output(int l) const { return shared + plan.layers[l].output; }
    __device__ __forceinline__ std::uint8_t* codes(int l) const {
        return reinterpret_cast<std::uint8_t*>(shared + plan.layers[l].codes);
    }
    // Room for (kMostSums, kWarps) values; two halves in turn, so that one barrier a sum is enough.
    __device__ __forceinline__ float* next_sums() {
        turn ^= 1;
        return shared + plan.sums + turn * (kMostSums * kWarps);
    }
    __device__ __forceinline__ int* words() const {  // kWarps of them
        return reinterpret_cast<int*>(shared + plan.sums + 2 * (kMostSums * kWarps));
    }
    __device__ __forceinline__ float* kept() const {  // kKeptFloats, what an ascent remembers
        return shared + plan.sums + 2 * (kMostSums * kWarps) + kWarps;
    }
    __device__ __forceinline__ float& past() const { return kept()[kKeptFloats]; }
    __device__ __forceinline__ unsigned& image_index() const {  // read anew, not kept in a register
        return *reinterpret_cast<unsigned*>(kept() + kKeptFloats + 1);
    }
};

// Every pixel belongs to one thread, which alone reads and writes it between two barriers.
template <class F>
__device__ __forceinline__ void each_pixel(const Block& b, const F& f) {
    for (int i = b.thread; i < b.plan.pixels; i += kThreads) f(i);
}

__device__ __forceinline__ void load_image(const Block& b, const float* images, unsigned index) {
    const float* image = images + std::int64_t(index) * b.plan.pixels;
    each_pixel(b, [&](int i) { b.image()[i] = image[i]; });
    __syncthreads();
}

// The sums over the block of every thread's values: the same bits in all threads, and a barrier.
template <int N>
__device__ __forceinline__ void add_up(Block& b, float (&values)[N]) {
    static_assert(N <= kMostSums);
    float* sums = b.next_sums();
#pragma unroll
    for (int i = 0; i < N; ++i) {
#pragma unroll
        for (int distance = 16; distance > 0; distance /= 2)
            values[i] += __shfl_xor_sync(kFullWarp, values[i], distance);
        if (b.lane == 0) sums[i * kWarps + b.warp] = values[i];
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < N; ++i) {
        values[i] = 0.0f;
#pragma unroll
        for (int w = 0; w < kWarps; ++w) values[i] += sums[i * kWarps + w];
    }
}

// A value and where it was found; of equal values the first counts.
struct Highest {
    float value;
    int where;

    __device__ __forceinline__ void take(float v, int w) {
        if (v > value || (v == value && w < where)) value = v, where = w;
    }
};

__device__ __forceinline__ void find_highest(Block& b, Highest& h) {
    float* room = b.next_sums();
    int* places = reinterpret_cast<int*>(room + kWarps);
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        const float value = __shfl_xor_sync(kFullWarp, h.value, distance);
        const int where = __shfl_xor_sync(kFullWarp, h.where, distance);
        h.take(value, where);
    }
    if (b.lane == 0) room[b.warp] = h.value, places[b.warp] = h.where;
    __syncthreads();
    for (int w = 0; w < kWarps; ++w) h.take(room[w], places[w]);
}

}  // namespace pyoip::cuda
