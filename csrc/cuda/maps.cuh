// All maps of the target: their scores, and their activations.
#pragma once

#include "forward.cuh"

namespace pyoip::cuda {

// f(position, map, preactivation) for every position and map of a first layer as the target: a
// thread has one map and every kSplits-th position, from `split` on.
template <class F>
__device__ __forceinline__ void each_map_of_planes(const Block& b, const F& f) {
    const LayerPlan& p = b.layer(0);
    for (int item = b.thread; item < p.maps * kSplits; item += kThreads) {
        const int map = item % p.maps, split = item / p.maps;
        f(map, split, [&](int at) {
            return convolve_planes(p, b.input(0), p.forward + map, at / p.out_width, at % p.out_width,
                                   __ldg(p.bias + map));
        });
    }
}

// What a position counts in a score.
__device__ __forceinline__ float counted(const LayerPlan& p, Objective objective, float z) {
    return objective == Objective::activation ? activate(p.activation, p.slope, z) : z;
}

__device__ inline void score_planes(const Block& b, Objective objective, float* parts, int pitch) {
    const LayerPlan& p = b.layer(0);
    each_map_of_planes(b, [&](int map, int split, const auto& value) {
        float sum = 0.0f;
        for (int at = split; at < p.positions; at += kSplits) sum += counted(p, objective, value(at));
        parts[split * pitch + map] = sum;
    });
}

// A warp sums a group of columns over every kSplits-th pair of row tiles.
__device__ inline void score_matrix(const Block& b, Objective objective, float* parts, int pitch) {
    const int l = b.target();
    const LayerPlan& p = b.layer(l);
    const int pairs = (p.positions + 2 * kTileRows - 1) / (2 * kTileRows);
    with_group(p.group, [&](auto size) {
        constexpr int N = decltype(size)::size;
        for (int item = b.warp; item < kSplits * p.groups; item += kWarps) {
            const int split = item / p.groups, group = item % p.groups;
            float sums[2 * N] = {};  // the two of the tile in front come first
            for (int pair = split; pair < pairs; pair += kSplits) {
                Tiles<N> tiles;
                convolve_tiles<N>(b, l, pair, group, tiles);
                each_tile<N>(tiles, [&](int, const Tiles<N>& now) {
                    float front[2] = {sums[0], sums[1]};
#pragma unroll
                    for (int k = 0; k < 8; ++k) {
                        const int i = k % 4, row = pair * 2 * kTileRows + i * 8 + b.lane / 4;
                        const float z = now.sums[i / 2][0][i % 2 * 2 + k / 4];
                        front[k / 4] += row < p.positions ? counted(p, objective, z) : 0.0f;
                    }
#pragma unroll
                    for (int k = 2; k < 2 * N; ++k) sums[k - 2] = sums[k];
                    sums[2 * N - 2] = front[0], sums[2 * N - 1] = front[1];
                });
            }
#pragma unroll
            for (int k = 0; k < 2 * N; ++k) {
#pragma unroll
                for (int distance = 16; distance >= 4; distance /= 2)
                    sums[k] += __shfl_xor_sync(kFullWarp, sums[k], distance);
                const int map = (group * N + k / 2) * kTileColumns + b.lane % 4 * 2 + k % 2;
                if (b.lane / 4 == 0) parts[split * pitch + map] = sums[k];
            }
        }
    });
}

// scores (maps), in device memory: means over positions.
__device__ inline void score_maps(const Block& b, Objective objective, float* scores) {
    const LayerPlan& p = b.layer(b.target());
    const int pitch = p.groups * p.group * kTileColumns;
    if (b.target() == 0)
        score_planes(b, objective, b.scratch(), pitch);
    else
        score_matrix(b, objective, b.scratch(), pitch);
    __syncthreads();
    for (int map = b.thread; map < p.maps; map += kThreads) {
        float sum = 0.0f;
        for (int split = 0; split < kSplits; ++split) sum += b.scratch()[split * pitch + map];
        scores[map] = sum / float(p.positions);
    }
}

// out (maps, h, w), in device memory.
__device__ inline void write_maps(const Block& b, float* out) {
    const int l = b.target();
    const LayerPlan& p = b.layer(l);
    if (l == 0)
        return each_map_of_planes(b, [&](int map, int split, const auto& value) {
            for (int at = split; at < p.positions; at += kSplits)
                out[std::int64_t(map) * p.positions + at] = activate(p.activation, p.slope, value(at));
        });
    const int pairs = (p.positions + 2 * kTileRows - 1) / (2 * kTileRows);
    with_group(p.group, [&](auto size) {
        constexpr int N = decltype(size)::size;
        for (int item = b.warp; item < pairs * p.groups; item += kWarps) {
            Tiles<N> tiles;
            const int pair = item / p.groups, group = item % p.groups;
            convolve_tiles<N>(b, l, pair, group, tiles);
            each_sum<N>(tiles, group, b.lane, [&](int i, int map, float z) {
                const int row = pair * 2 * kTileRows + i * 8 + b.lane / 4;
                if (row < p.positions && map < p.maps)
                    out[std::int64_t(map) * p.positions + row] = activate(p.activation, p.slope, z);
            });
        }
    });
}

}  // namespace pyoip::cuda
