// From the target's map to the image.
//
// The target: every position and channel gathers what reaches it. A layer in between: change by
// change (routing.cuh), or all afresh, by a product with the transposed weights on the tensor cores.
// The first layer: a product that makes of each cell the patch of the image that its maps ask for,
// one step along k for each place of the cell, with zeros where a map's value went through another
// place; then every pixel sums the patches over it.
// Bound: all afresh is as dear as the layer's forward pass without a pool, and comes once in kRefresh
// steps; the patches are a seventh of that.
#pragma once

#include "routing.cuh"

namespace pyoip::cuda {

// --- the target ------------------------------------------------------------------------------

__device__ inline void target_to_image(const Block& b) {
    const LayerPlan& p = b.layer(0);
    const float* d = b.shared + b.plan.map_gradient;
    each_pixel(b, [&](int i) {
        const int x = i % b.plan.width + p.pad_left, y = i / b.plan.width % b.plan.height + p.pad_top;
        const float* weights = b.shared + b.plan.map_row + i / b.plan.plane * p.taps;
        const Span rows = windows_over(y, p.kernel_h, p.stride_h, p.out_height);
        const Span columns = windows_over(x, p.kernel_w, p.stride_w, p.out_width);
        float sum = 0.0f;
        for (int oy = rows.last; oy >= rows.first; --oy)
            for (int ox = columns.last; ox >= columns.first; --ox)
                sum += d[oy * p.out_width + ox] *
                       weights[(y - oy * p.stride_h) * p.kernel_w + x - ox * p.stride_w];
        b.step()[i] = sum;
    });
}

__device__ inline void target_to_input(const Block& b) {
    const LayerPlan& p = b.layer(b.target());
    const float *d = b.shared + b.plan.map_gradient, *row = b.shared + b.plan.map_row;
    float* out = b.gradient(b.target());
    for (int i = b.thread; i < p.in_height * p.in_width * p.in_depth; i += kThreads) {
        const int c = i % p.in_depth, at = i / p.in_depth;
        const int y = at / p.in_width + p.pad_top, x = at % p.in_width + p.pad_left;
        const Span rows = windows_over(y, p.kernel_h, p.stride_h, p.out_height);
        const Span columns = windows_over(x, p.kernel_w, p.stride_w, p.out_width);
        float sum = 0.0f;
        for (int oy = rows.last; oy >= rows.first; --oy)
            for (int ox = columns.last; ox >= columns.first; --ox)
                sum += d[oy * p.out_width + ox] *
                       row[((y - oy * p.stride_h) * p.kernel_w + x - ox * p.stride_w) * p.in_depth + c];
        out[(y * p.padded_w + x) * p.in_pitch + c] = sum;
    }
}

// --- a layer in between --------------------------------------------------------------------------

// The gradient by its convolution's outputs, (positions + 1, maps_pitch); the last row is zeros.
__device__ inline void spread(const Block& b, int l) {
    const LayerPlan& p = b.layer(l);
    for (int i = b.thread; i < (p.positions + 1) * p.maps_depth; i += kThreads) {
        const int at = i / p.maps_depth, map = i % p.maps_depth;
        const bool used = at < p.positions && map < p.maps;
        b.scratch()[at * p.maps_pitch + map] = used ? position_gradient(b, l, at, map) : 0.0f;
    }
}

// Four of the input's positions; where a tap leads to no output, the row of zeros.
struct TransposedRows {
    const LayerPlan& p;
    const float* spread;
    int place[4];  // line << 16 | column, in the padded input

    __device__ __forceinline__ TransposedRows(const Block& b, const LayerPlan& plan, int first_row)
        : p(plan), spread(b.scratch() + b.lane % 4) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int row = first_row + i * 8 + b.lane / 4;
            place[i] = (row / p.in_width + p.pad_top) << 16 | (row % p.in_width + p.pad_left);
        }
    }
    __device__ __forceinline__ int offset(int i) const {
        return ((place[i] >> 16) * p.padded_w + (place[i] & 0xffff)) * p.in_pitch;
    }
    __device__ __forceinline__ void find(int ky, int kx, const float* (&at)[4]) const {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int v = (place[i] >> 16) - ky, u = (place[i] & 0xffff) - kx, oy = v / p.stride_h,
                      ox = u / p.stride_w;
            const bool inside = v >= 0 && u >= 0 && oy * p.stride_h == v && ox * p.stride_w == u &&
                                oy < p.out_height && ox < p.out_width;
            at[i] = spread + (inside ? oy * p.out_width + ox : p.positions) * p.maps_pitch;
        }
    }
};

__device__ inline void gradient_afresh(const Block& b, int l) {
    const LayerPlan& p = b.layer(l);
    const int rows = p.in_height * p.in_width, pairs = (rows + 2 * kTileRows - 1) / (2 * kTileRows);
    const int steps = p.taps * p.maps_depth / kDepth;
    spread(b, l);
    __syncthreads();
    with_group<kBackGroup>(p.back_group, [&](auto size) {
        constexpr int N = decltype(size)::size;
        for (int item = b.warp; item < pairs * p.back_groups; item += kWarps) {
            const int pair = item / p.back_groups, group = item % p.back_groups;
            Tiles<N> tiles;
            fill<N>(tiles, nullptr, group, b.lane);
            const TransposedRows at(b, p, pair * 2 * kTileRows);
            multiply<N>(b, at, p.kernel_h, p.kernel_w, p.maps_depth,
                        p.backward + std::int64_t(group) * steps * N * 64, tiles);
            each_sum<N>(tiles, group, b.lane, [&](int i, int channel, float sum) {
                const int row = pair * 2 * kTileRows + i * 8 + b.lane / 4;
                if (row < rows && channel < p.in_channels) b.gradient(l)[at.offset(i) + channel] = sum;
            });
        }
    });
    __syncthreads();
}

// Whether the gradient by layer l's input is not what it was.
__device__ inline bool route_layer(Block& b, int l, bool afresh) {
    const LayerPlan& p = b.layer(l);
    const bool coded = slope_of(p.activation) != Slope::varies && p.pool != Pool::average;
    if (coded && !afresh) {
        const int count = list_changes(b, l);
        if (count == 0) return false;
        if (count <= kMostChanges) {
            move_changes(b, l, count);
            __syncthreads();
            return true;
        }
    }
    gradient_afresh(b, l);
    return true;
}

// --- the first layer, to the image -----------------------------------------------------------

// By the preactivations of four cells, two maps each. One at a time: the code is long.
__device__ __forceinline__ void find_gradients(const Block& b, const int (&cells)[4], int map,
                                               float (&values)[2][4]) {
    const int c0 = cells[0], c1 = cells[1], c2 = cells[2], c3 = cells[3];
    float found[8] = {};
#pragma unroll 1
    for (int k = 0; k < 8; ++k) {
        const int upper = k % 2 == 0 ? c0 : c1, lower = k % 2 == 0 ? c2 : c3, from = map + k / 4 * 4;
        const float value =
            from < b.layer(0).maps ? cell_gradient(b, 0, k / 2 % 2 == 0 ? upper : lower, from) : 0.0f;
#pragma unroll
        for (int i = 0; i < 8; ++i) {  // registers have no index
            const float before = found[i];
            found[i] = i == k ? value : before;
        }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) values[i / 2 % 2][i % 2 + i / 4 * 2] = found[i];
}

// Patches (cells, patch_pitch) of the cells from `first` on, `count` of them.
template <int N>
__device__ __forceinline__ void make_patches(const Block& b, int first, int count, int pair, int group) {
    const LayerPlan& p = b.layer(0);
    const bool plain = slope_of(p.activation) != Slope::varies && p.pool != Pool::average;
    const int steps = p.maps_depth / kDepth * p.places;
    const float* weights = p.backward + std::int64_t(group) * steps * N * 64;
    const float* gradients[4];
    const std::uint8_t* codes[4];
    int cells[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int at = pair * 2 * kTileRows + i * 8 + b.lane / 4;
        cells[i] = first + (at < count ? at : 0);
        const int y = cells[i] / p.cell_columns, x = cells[i] % p.cell_columns;
        gradients[i] = b.gradient(1) + (plain ? next_offset(b.plan, 0, y, x) : 0);
        codes[i] = b.codes(0) + cells[i] * p.code_pitch;
    }
    Tiles<N> tiles;
    fill<N>(tiles, nullptr, group, b.lane);
    float columns[N][2], ahead[N][2];
    fetch<N>(weights, b.lane, ahead);
    for (int base = b.lane % 4; base < p.maps_depth; base += kDepth) {
        float values[2][4];
        int places[2][4];
#pragma unroll
        for (int i = 0; i < 4; ++i)
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                values[i / 2][i % 2 + 2 * half] = gradients[i][plain ? base + 4 * half : 0];
                places[i / 2][i % 2 + 2 * half] = codes[i][base + 4 * half] & 15;
            }
        if (!plain) find_gradients(b, cells, base, values);
        for (int place = 0; place < p.places; ++place) {
            weights += N * 64;
#pragma unroll
            for (int j = 0; j < N; ++j) columns[j][0] = ahead[j][0], columns[j][1] = ahead[j][1];
            fetch<N>(weights, b.lane, ahead);
            float rows[2][4];
#pragma unroll
            for (int i = 0; i < 2; ++i)
#pragma unroll
                for (int k = 0; k < 4; ++k) rows[i][k] = places[i][k] == place ? values[i][k] : 0.0f;
            if (b.exact)
                multiply_step<true, N>(rows, columns, tiles);
            else
                multiply_step<false, N>(rows, columns, tiles);
        }
    }
    each_sum<N>(tiles, group, b.lane, [&](int i, int pixel, float sum) {
        const int at = pair * 2 * kTileRows + i * 8 + b.lane / 4;
        if (at < count) b.scratch()[at * p.patch_pitch + pixel] = sum;
    });
}

// Every pixel sums what the patches of some rows of cells hold for it.
__device__ inline void gather_patches(const Block& b, int first_row, int rows) {
    const LayerPlan& p = b.layer(0);
    const Plan& plan = b.plan;
    for (int i = b.thread; i < plan.pixels; i += kThreads) {
        const int c = i / plan.plane;
        const int y = i / plan.width % plan.height + p.pad_top + p.cell_lead_h;
        const int x = i % plan.width + p.pad_left + p.cell_lead_w;
        const Span across = windows_over(x, p.patch_w, p.cell_step_w, p.cell_columns);
        const Span down = windows_over(y, p.patch_h, p.cell_step_h, first_row + rows);
        float sum = first_row == 0 ? 0.0f : b.step()[i];
        for (int cy = down.first < first_row ? first_row : down.first; cy <= down.last; ++cy)
            for (int cx = across.first; cx <= across.last; ++cx) {
                const int pixel =
                    (c * p.patch_h + y - cy * p.cell_step_h) * p.patch_w + x - cx * p.cell_step_w;
                sum += b.scratch()[((cy - first_row) * p.cell_columns + cx) * p.patch_pitch + pixel];
            }
        b.step()[i] = sum;
    }
}

__device__ inline void first_to_image(const Block& b) {
    const LayerPlan& p = b.layer(0);
    const int cell_rows = p.cells / p.cell_columns;
    for (int row = 0; row < cell_rows; row += p.chunk_rows) {
        const int rows = row + p.chunk_rows < cell_rows ? p.chunk_rows : cell_rows - row;
        const int count = rows * p.cell_columns, pairs = (count + 2 * kTileRows - 1) / (2 * kTileRows);
        with_group<kBackGroup>(p.back_group, [&](auto size) {
            constexpr int N = decltype(size)::size;
            for (int item = b.warp; item < pairs * p.back_groups; item += kWarps)
                make_patches<N>(b, row * p.cell_columns, count, item / p.back_groups, item % p.back_groups);
        });
        __syncthreads();
        gather_patches(b, row, rows);
        __syncthreads();
    }
}

}  // namespace pyoip::cuda
