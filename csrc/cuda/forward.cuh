// From the image to the target's input.
//
// First layer: a thread takes a cell and a map; 32 neighbouring threads have neighbouring maps, so
// that pixels are broadcast and weights come in one piece. Bound: instructions, about 60 for the 36
// multiply-adds of a cell under a 2x2 maximum. Other layers: matrix.cuh, with what follows the
// convolution done in the registers that hold its sums; only windows that overlap, averages among
// them, go through shared memory.
#pragma once

#include "activation.cuh"
#include "matrix.cuh"

namespace pyoip::cuda {

// Where the maps of position (y, x) behind layer l go: the inside of the next layer's input.
__device__ __forceinline__ int next_offset(const Plan& plan, int l, int y, int x) {
    const LayerPlan& next = plan.layers[l + 1];
    return ((y + next.pad_top) * next.padded_w + x + next.pad_left) * next.in_pitch;
}

// The new code in the low half of its byte; what was there moves to the high half.
__device__ __forceinline__ void set_code(const Block& b, int l, int cell, int map, int code) {
    std::uint8_t& byte = b.codes(l)[cell * b.layer(l).code_pitch + map];
    byte = std::uint8_t((byte & 15) << 4 | code);
}

// A cell's winner; where the activation function's slope varies, not yet activated.
__device__ __forceinline__ void pass_on(const Block& b, int l, int cell, int map, float z, int place) {
    const LayerPlan& p = b.layer(l);
    const float a = gated(p.activation, z);
    const int y = cell / p.cell_columns, x = cell % p.cell_columns;
    b.input(l + 1)[next_offset(b.plan, l, y, x) + map] = a;
    set_code(b, l, cell, map, lets_through(p.activation, a) ? place : p.places);
}

// --- the first layer -----------------------------------------------------------------------

// weights (C * taps, maps), from this map on.
__device__ inline float convolve_planes(const LayerPlan& p, const float* planes, const float* weights, int y,
                                        int x, float bias) {
    float sum = bias;
    for (int c = 0; c < p.in_channels; ++c) {
        const float* line = planes + (c * p.padded_h + y * p.stride_h) * p.padded_w + x * p.stride_w;
        for (int ky = 0; ky < p.kernel_h; ++ky, line += p.padded_w)
            for (int kx = 0; kx < p.kernel_w; ++kx, weights += p.maps) sum += line[kx] * __ldg(weights);
    }
    return sum;
}

// A 3x3 kernel's weights for one channel.
struct Nine {
    float w[9];

    __device__ __forceinline__ Nine(const float* weights, int maps) {
#pragma unroll
        for (int k = 0; k < 9; ++k) w[k] = __ldg(weights + k * maps);
    }
};

// 4x4 pixels of a channel serve all four places of a cell.
__device__ __forceinline__ void add_quad(const float* corner, int line, const Nine& nine, float (&sums)[4]) {
    float pixels[4][4];
#pragma unroll
    for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) pixels[i][j] = corner[i * line + j];
#pragma unroll
    for (int k = 0; k < 9; ++k)
#pragma unroll
        for (int place = 0; place < 4; ++place)
            sums[place] += pixels[place / 2 + k / 3][place % 2 + k % 3] * nine.w[k];
}

// A cell under a 2x2 maximum of a 3x3 convolution at stride 1; `first` are the first channel's weights.
__device__ __forceinline__ void quad_of_planes(const Block& b, const Nine& first, const float* weights,
                                               int cell, int map, float bias) {
    const LayerPlan& p = b.layer(0);
    const int y = cell / p.cell_columns * 2, x = cell % p.cell_columns * 2;
    const float* corner = b.input(0) + y * p.padded_w + x;
    float sums[4] = {bias, bias, bias, bias};
    add_quad(corner, p.padded_w, first, sums);
    for (int c = 1; c < p.in_channels; ++c)
        add_quad(corner + c * p.padded_h * p.padded_w, p.padded_w, Nine(weights + c * 9 * p.maps, p.maps),
                 sums);
    int place = 0;
#pragma unroll
    for (int i = 1; i < 4; ++i)
        if (sums[i] > sums[0]) sums[0] = sums[i], place = i;
    pass_on(b, 0, cell, map, sums[0], place);
}

__device__ inline void maximum_of_planes(const Block& b, const float* weights, int cell, int map,
                                         float bias) {
    const LayerPlan& p = b.layer(0);
    const int y0 = cell / p.cell_columns * p.pool_stride_h - p.pool_top;
    const int x0 = cell % p.cell_columns * p.pool_stride_w - p.pool_left;
    float highest = 0.0f;
    int place = -1;
    for (int k = 0; k < p.places; ++k) {
        const int y = y0 + k / p.pool_w, x = x0 + k % p.pool_w;
        if (y < 0 || x < 0 || y >= p.out_height || x >= p.out_width) continue;
        const float z = convolve_planes(p, b.input(0), weights, y, x, bias);
        if (place < 0 || z > highest) highest = z, place = k;
    }
    pass_on(b, 0, cell, map, highest, place);
}

// A window of an average. Every position leaves its own code, and its value where that is kept: by
// the last of the windows over it, so that where they overlap no two threads write to one place.
__device__ inline void average_of_planes(const Block& b, const float* weights, int q, int map, float bias) {
    const LayerPlan& p = b.layer(0);
    const int qy = q / p.pooled_width, qx = q % p.pooled_width;
    const int y0 = qy * p.pool_stride_h, x0 = qx * p.pool_stride_w;
    const int next_y = qy + 1 < p.pooled_height ? y0 + p.pool_stride_h : y0 + p.pool_h;
    const int next_x = qx + 1 < p.pooled_width ? x0 + p.pool_stride_w : x0 + p.pool_w;
    float sum = 0.0f;
    for (int y = y0; y < y0 + p.pool_h; ++y)
        for (int x = x0; x < x0 + p.pool_w; ++x) {
            const float z = convolve_planes(p, b.input(0), weights, y, x, bias);
            const float a = activate(p.activation, p.slope, z);
            sum += a;
            if (y >= next_y || x >= next_x) continue;
            const int position = y * p.out_width + x;
            if (slope_of(p.activation) == Slope::varies) b.output(0)[position * p.maps_pitch + map] = a;
            b.codes(0)[position * p.code_pitch + map] = lets_through(p.activation, a) ? 0 : 1;
        }
    b.input(1)[next_offset(b.plan, 0, qy, qx) + map] = sum * p.pool_share;
}

// Into the second layer's input, with codes. A thread keeps its map: begin(weights, map, bias) makes
// what then makes each of `items`.
template <class Begin>
__device__ __forceinline__ void each_map_of(const Block& b, int items, const Begin& begin) {
    const LayerPlan& p = b.layer(0);
    const int rows = kThreads / p.maps, map = b.thread % p.maps, row = b.thread / p.maps;
    if (row >= rows) return;
    const auto make = begin(p.forward + map, map, __ldg(p.bias + map));
    for (int item = row; item < items; item += rows) make(item);
}

__device__ inline void forward_first(const Block& b) {
    const LayerPlan& p = b.layer(0);
    const bool square = p.kernel_h == 3 && p.kernel_w == 3 && p.stride_h == 1 && p.stride_w == 1;
    if (p.quads && square)
        each_map_of(b, p.cells, [&](const float* w, int map, float bias) {
            const Nine first(w, p.maps);
            return [=, &b](int cell) { quad_of_planes(b, first, w, cell, map, bias); };
        });
    else if (p.pool == Pool::max)
        each_map_of(b, p.cells, [&](const float* w, int map, float bias) {
            return [=, &b](int cell) { maximum_of_planes(b, w, cell, map, bias); };
        });
    else if (p.pool == Pool::average)
        each_map_of(b, p.pooled_height * p.pooled_width, [&](const float* w, int map, float bias) {
            return [=, &b](int window) { average_of_planes(b, w, window, map, bias); };
        });
    else
        each_map_of(b, p.positions, [&](const float* w, int map, float bias) {
            return [=, &b, &p](int at) {
                const float z = convolve_planes(p, b.input(0), w, at / p.out_width, at % p.out_width, bias);
                pass_on(b, 0, at, map, z, 0);
            };
        });
}

// --- layers by matrix products ---------------------------------------------------------------

// Row r of a convolution's product is position r, or, under a 2x2 maximum, place r / 4 of the cell
// r % 4 among the four of its tile: the lanes g and g ^ 4 then have a cell's four places.
struct Position {
    int cell, y, x;  // y < 0: a row beyond the last
};

__device__ __forceinline__ Position position_of(const LayerPlan& p, int row) {
    if (p.quads) {
        const int cell = row / 16 * 4 + row % 4, place = row % 16 / 4;
        const int y = cell / p.cell_columns * 2 + place / 2, x = cell % p.cell_columns * 2 + place % 2;
        return {cell, cell < p.cells ? y : -1, x};
    }
    return {row, row < p.positions ? row / p.out_width : -1, row % p.out_width};
}

__device__ __forceinline__ int row_count(const LayerPlan& p) { return p.quads ? 4 * p.cells : p.positions; }

// The four rows that a lane reads for a pair of tiles; those beyond the last read the first.
struct WindowRows {
    const float* corner[4];
    int line, column;

    __device__ __forceinline__ WindowRows(const Block& b, const LayerPlan& p, const float* input,
                                          int first_row)
        : line(p.padded_w * p.in_pitch), column(p.in_pitch) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const Position at = position_of(p, first_row + i * 8 + b.lane / 4);
            const int y = at.y < 0 ? 0 : at.y * p.stride_h, x = at.y < 0 ? 0 : at.x * p.stride_w;
            corner[i] = input + (y * p.padded_w + x) * p.in_pitch + b.lane % 4;
        }
    }
    __device__ __forceinline__ void find(int y, int x, const float* (&at)[4]) const {
#pragma unroll
        for (int i = 0; i < 4; ++i) at[i] = corner[i] + y * line + x * column;
    }
};

// The convolution of layer l for a pair of row tiles and a group of columns.
template <int N>
__device__ __forceinline__ void convolve_tiles(const Block& b, int l, int pair, int group, Tiles<N>& tiles) {
    const LayerPlan& p = b.layer(l);
    const int steps = p.taps * p.in_depth / kDepth;
    fill<N>(tiles, p.bias, group, b.lane);
    const WindowRows rows(b, p, b.input(l), pair * 2 * kTileRows);
    multiply<N>(b, rows, p.kernel_h, p.kernel_w, p.in_depth, p.forward + std::int64_t(group) * steps * N * 64,
                tiles);
}

// f(j, tile) for each column tile of a group in turn, by a loop that stays one: what follows a product
// is long, and as many copies of it as there are sums would fill the instruction cache and take the
// compiler minutes. Every turn has its tile in front, and hands the others on.
template <int N, class F>
__device__ __forceinline__ void each_tile(Tiles<N>& tiles, const F& f) {
#pragma unroll 1
    for (int j = 0; j < N; ++j) {
        f(j, tiles);
#pragma unroll
        for (int k = 1; k < N; ++k)
#pragma unroll
            for (int i = 0; i < 8; ++i) tiles.sums[i / 4][k - 1][i % 4] = tiles.sums[i / 4][k][i % 4];
    }
}

// f(position row i of 4, map, sum) for every sum of a lane.
template <int N, class F>
__device__ __forceinline__ void each_sum(Tiles<N>& tiles, int group, int lane, const F& f) {
    each_tile<N>(tiles, [&](int j, const Tiles<N>& now) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const int map = (group * N + j) * kTileColumns + lane % 4 * 2 + half;
#pragma unroll
            for (int i = 0; i < 4; ++i) f(i, map, now.sums[i / 2][0][i % 2 * 2 + half]);
        }
    });
}

// The four places of a cell lie in two lanes; each passes on one of the two maps.
template <int N>
__device__ __forceinline__ void finish_quads(const Block& b, int l, int pair, int group, Tiles<N>& tiles) {
    const LayerPlan& p = b.layer(l);
    const int upper = b.lane / 16;  // of the lanes with places 1 and 3
    each_tile<N>(tiles, [&](int j, const Tiles<N>& now) {
        const int map = (group * N + j) * kTileColumns + b.lane % 4 * 2 + upper;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int cell = (pair * 2 + i) * 4 + b.lane / 4 % 4;
            float won[2];
            int place[2];
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                const float first = now.sums[i][0][half], second = now.sums[i][0][2 + half];
                Highest h{second > first ? second : first, upper + (second > first ? 2 : 0)};
                const float other = __shfl_xor_sync(kFullWarp, h.value, 16);
                const int where = __shfl_xor_sync(kFullWarp, h.where, 16);
                h.take(other, where);
                won[half] = h.value, place[half] = h.where;
            }
            if (cell < p.cells && map < p.maps)
                pass_on(b, l, cell, map, upper ? won[1] : won[0], upper ? place[1] : place[0]);
        }
    });
}

// Values of a convolution on their way to a pool whose windows overlap, or to an average:
// (positions, maps_pitch).
__device__ __forceinline__ float* before_pool(const Block& b, int l) {
    return b.layer(l).pool == Pool::average ? b.output(l) : b.scratch();
}

template <int N>
__device__ __forceinline__ void finish_positions(const Block& b, int l, int pair, int group,
                                                 Tiles<N>& tiles) {
    const LayerPlan& p = b.layer(l);
    each_sum<N>(tiles, group, b.lane, [&](int i, int map, float z) {
        const int row = pair * 2 * kTileRows + i * 8 + b.lane / 4;
        if (row >= p.positions || map >= p.maps) return;
        if (p.pool == Pool::none) return pass_on(b, l, row, map, z, 0);
        if (p.pool == Pool::average) {
            z = gated(p.activation, z);
            b.codes(l)[row * p.code_pitch + map] = lets_through(p.activation, z) ? 0 : 1;
        }
        before_pool(b, l)[row * p.maps_pitch + map] = z;
    });
}

// where(i): the maps of place i of `count`.
template <class Where>
__device__ __forceinline__ void activate_each(const Block& b, int l, int count, const Where& where) {
    const LayerPlan& p = b.layer(l);
    for (int i = b.thread; i < count * p.maps; i += kThreads) {
        float& value = where(i / p.maps)[i % p.maps];
        value = activate(p.activation, p.slope, value);
    }
}

__device__ inline void pool_cell(const Block& b, int l, int q, int map) {
    const LayerPlan& p = b.layer(l);
    const float* values = before_pool(b, l) + map;
    const int y0 = q / p.pooled_width * p.pool_stride_h - p.pool_top;
    const int x0 = q % p.pooled_width * p.pool_stride_w - p.pool_left;
    float highest = 0.0f, sum = 0.0f;
    int place = -1;
    for (int k = 0; k < p.pool_h * p.pool_w; ++k) {
        const int y = y0 + k / p.pool_w, x = x0 + k % p.pool_w;
        if (y < 0 || x < 0 || y >= p.out_height || x >= p.out_width) continue;
        const float value = values[(y * p.out_width + x) * p.maps_pitch];
        sum += value;
        if (place < 0 || value > highest) highest = value, place = k;
    }
    if (p.pool == Pool::max) return pass_on(b, l, q, map, highest, place);
    b.input(l + 1)[next_offset(b.plan, l, q / p.pooled_width, q % p.pooled_width) + map] = sum * p.pool_share;
}

__device__ inline void forward_matrix(const Block& b, int l) {
    const LayerPlan& p = b.layer(l);
    const int pairs = (row_count(p) + 2 * kTileRows - 1) / (2 * kTileRows);
    with_group(p.group, [&](auto size) {
        constexpr int N = decltype(size)::size;
        for (int item = b.warp; item < pairs * p.groups; item += kWarps) {
            Tiles<N> tiles;
            convolve_tiles<N>(b, l, item / p.groups, item % p.groups, tiles);
            if (p.quads)
                finish_quads<N>(b, l, item / p.groups, item % p.groups, tiles);
            else
                finish_positions<N>(b, l, item / p.groups, item % p.groups, tiles);
        }
    });
    if (p.quads || p.pool == Pool::none) return;
    __syncthreads();
    if (p.pool == Pool::average && slope_of(p.activation) == Slope::varies) {
        activate_each(b, l, p.positions, [&](int at) { return b.output(l) + at * p.maps_pitch; });
        __syncthreads();
    }
    for (int i = b.thread; i < p.pooled_height * p.pooled_width * p.maps; i += kThreads)
        pool_cell(b, l, i / p.maps, i % p.maps);
}

// What went through the pool, where no average has asked for it before.
__device__ inline void activate_passed(const Block& b, int l) {
    const LayerPlan& p = b.layer(l);
    if (slope_of(p.activation) != Slope::varies || p.pool == Pool::average) return;
    activate_each(b, l, p.cells, [&](int cell) {
        return b.input(l + 1) + next_offset(b.plan, l, cell / p.cell_columns, cell % p.cell_columns);
    });
    __syncthreads();
}

// Ends with a barrier, as every step on the way does.
__device__ inline void forward_below(const Block& b) {
    if (b.target() == 0) return;
    for (int l = 0; l < b.target(); ++l) {
        if (l == 0)
            forward_first(b);
        else
            forward_matrix(b, l);
        __syncthreads();
        activate_passed(b, l);
    }
}

}  // namespace pyoip::cuda
