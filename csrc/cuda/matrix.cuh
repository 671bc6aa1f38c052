// Matrix products of a warp: 2 tiles of 16 rows by N tiles of 8 columns, on the tensor cores.
//
// Algorithm: an implicit product. A row is a position, a step along k eight channels at one tap of
// the kernel; what a row reads lies in shared memory, `Rows` says where, and packing.cpp lays out the
// columns' weights in device memory as the lanes want them. fp32 accuracy comes from two parts:
// every operand is high + low with 11 bits each, and a product is low high' + high low' + high high',
// with an error of some 2^-22 of it. One product alone, of operands rounded to 11 bits, is
// Precision::tf32.
// Bound: the tensor cores, 3 products (or 1) of 1024 multiply-adds a step and tile. In a step of
// 2 x 4 tiles a warp issues 24 products, 8 loads of 4 bytes, 2 of 16 bytes and about 50 integer and
// float instructions. Loads of rows meet no bank twice where 8 neighbouring rows are neighbouring
// positions (plan.hpp).
#pragma once

#include "block.cuh"

namespace pyoip::cuda {

__device__ __forceinline__ unsigned high_part(float x) { return __float_as_uint(x) & 0xffffe000u; }
__device__ __forceinline__ unsigned low_part(float x, unsigned high) {
    return __float_as_uint(x - __uint_as_float(high)) & 0xffffe000u;
}
// To the nearest with 11 bits; of two equally near ones the larger.
__device__ __forceinline__ unsigned nearest_part(float x) {
    return (__float_as_uint(x) + 0x1000u) & 0xffffe000u;
}

template <int N>
struct Tiles {
    float sums[2][N][4];
};

// N tiles of columns for one step along k, 2 N floats a lane.
template <int N>
__device__ __forceinline__ void fetch(const float* weights, int lane, float (&columns)[N][2]) {
    if constexpr (N == 1) {
        const float2 both = __ldg(reinterpret_cast<const float2*>(weights) + lane);
        columns[0][0] = both.x, columns[0][1] = both.y;
    } else {
#pragma unroll
        for (int pair = 0; pair < N / 2; ++pair) {
            const float4 four = __ldg(reinterpret_cast<const float4*>(weights) + pair * 32 + lane);
            columns[2 * pair][0] = four.x, columns[2 * pair][1] = four.y;
            columns[2 * pair + 1][0] = four.z, columns[2 * pair + 1][1] = four.w;
        }
    }
}

template <bool exact, int N>
__device__ __forceinline__ void multiply_step(const float (&rows)[2][4], const float (&columns)[N][2],
                                              Tiles<N>& out) {
    unsigned b[N][2], b_low[N][2];
#pragma unroll
    for (int j = 0; j < N; ++j)
#pragma unroll
        for (int k = 0; k < 2; ++k) {
            b[j][k] = exact ? high_part(columns[j][k]) : nearest_part(columns[j][k]);
            if constexpr (exact) b_low[j][k] = low_part(columns[j][k], b[j][k]);
        }
    // Tile by tile of rows, for the registers; the small products first, and N independent ones in
    // between two to the same sums.
#pragma unroll
    for (int i = 0; i < 2; ++i) {
        unsigned a[4];
#pragma unroll
        for (int k = 0; k < 4; ++k) a[k] = exact ? high_part(rows[i][k]) : nearest_part(rows[i][k]);
        if constexpr (exact) {
            unsigned a_low[4];
#pragma unroll
            for (int k = 0; k < 4; ++k) a_low[k] = low_part(rows[i][k], a[k]);
#pragma unroll
            for (int j = 0; j < N; ++j) mma_m16n8k8_tf32(out.sums[i][j], a_low, b[j]);
#pragma unroll
            for (int j = 0; j < N; ++j) mma_m16n8k8_tf32(out.sums[i][j], a, b_low[j]);
        }
#pragma unroll
        for (int j = 0; j < N; ++j) mma_m16n8k8_tf32(out.sums[i][j], a, b[j]);
    }
}

// All taps and channels. rows.find(tap_y, tap_x, at): where this lane's four rows begin, (g, g + 8 of
// the first tile, g, g + 8 of the second), at its own channel t.
template <bool exact, int N, class Rows>
__device__ __forceinline__ void multiply_by(const Rows& rows, int kernel_h, int kernel_w, int depth,
                                            const float* weights, int lane, Tiles<N>& out) {
    float columns[N][2], ahead[N][2];
    fetch<N>(weights, lane, ahead);
    for (int y = 0; y < kernel_h; ++y)
        for (int x = 0; x < kernel_w; ++x) {
            const float* at[4];
            rows.find(y, x, at);
#pragma unroll 1
            for (int c = 0; c < depth; c += kDepth) {
                weights += N * 64;
#pragma unroll
                for (int j = 0; j < N; ++j) columns[j][0] = ahead[j][0], columns[j][1] = ahead[j][1];
                fetch<N>(weights, lane, ahead);
                const float values[2][4] = {{at[0][c], at[1][c], at[0][c + 4], at[1][c + 4]},
                                            {at[2][c], at[3][c], at[2][c + 4], at[3][c + 4]}};
                multiply_step<exact, N>(values, columns, out);
            }
        }
}

template <int N, class Rows>
__device__ __forceinline__ void multiply(const Block& b, const Rows& rows, int kernel_h, int kernel_w,
                                         int depth, const float* weights, Tiles<N>& out) {
    if (b.exact)
        multiply_by<true, N>(rows, kernel_h, kernel_w, depth, weights, b.lane, out);
    else
        multiply_by<false, N>(rows, kernel_h, kernel_w, depth, weights, b.lane, out);
}

// Starts every sum with its column's value.
template <int N>
__device__ __forceinline__ void fill(Tiles<N>& tiles, const float* bias, int group, int lane) {
#pragma unroll
    for (int j = 0; j < N; ++j) {
        const int column = (group * N + j) * kTileColumns + lane % 4 * 2;
        const float first = bias ? __ldg(bias + column) : 0.0f,
                    second = bias ? __ldg(bias + column + 1) : 0.0f;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            tiles.sums[i][j][0] = tiles.sums[i][j][2] = first;
            tiles.sums[i][j][1] = tiles.sums[i][j][3] = second;
        }
    }
}

template <int N>
struct Group {
    static constexpr int size = N;
};

// Calls f with a group of 1, 2 or 4, at most `most`, as a constant.
template <int most = 4, class F>
__device__ __forceinline__ void with_group(int group, const F& f) {
    if constexpr (most == 4)
        if (group == 4) return f(Group<4>{});
    if (group == 2) return f(Group<2>{});
    f(Group<1>{});
}

}  // namespace pyoip::cuda
