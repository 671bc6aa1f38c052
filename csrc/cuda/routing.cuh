// What a lower layer's outputs ask of it, and how that changes from step to step.
//
// Along an ascent few decisions change in a step, so while the gradient above a layer stays what it
// was, only the entries that changed are taken off their old places and added to the new ones. Every
// kRefresh steps, and whenever the gradient has become faint, all is made afresh (backward.cuh).
// Bound: a change costs a row of the kernel's weights from the second-level cache.
#pragma once

#include "target.cuh"

namespace pyoip::cuda {

constexpr int kRefresh = 32;
constexpr float kFaint = 1e-4f;  // of what the gradient's square was when all was made afresh

// --- what a layer's outputs ask for ----------------------------------------------------------

__device__ __forceinline__ int last_code(const Block& b, int l, int cell, int map) {
    return b.codes(l)[cell * b.layer(l).code_pitch + map] & 15;
}

// The first and the last of the windows over a position, along one axis.
struct Span {
    int first, last;
};

__device__ __forceinline__ Span windows_over(int position, int size, Divisor stride, int count) {
    const int above = position - size;  // of windows that end before it
    const int last = position / stride;
    return {above < 0 ? 0 : above / stride + 1, last < count ? last : count - 1};
}

// The gradient of a position's average, summed over the windows that it counts in.
__device__ inline float averaged(const Block& b, int l, int y, int x, int map) {
    const LayerPlan& p = b.layer(l);
    const Span rows = windows_over(y, p.pool_h, p.pool_stride_h, p.pooled_height);
    const Span columns = windows_over(x, p.pool_w, p.pool_stride_w, p.pooled_width);
    float sum = 0.0f;
    for (int qy = rows.first; qy <= rows.last; ++qy)
        for (int qx = columns.first; qx <= columns.last; ++qx)
            sum += b.gradient(l + 1)[next_offset(b.plan, l, qy, qx) + map];
    return sum * p.pool_share;
}

// By a cell's preactivation, were it let through.
__device__ inline float cell_gradient(const Block& b, int l, int cell, int map) {
    const LayerPlan& p = b.layer(l);
    const bool varies = slope_of(p.activation) == Slope::varies;
    const int y = cell / p.cell_columns, x = cell % p.cell_columns;
    if (p.pool == Pool::average) {
        const float slope =
            varies ? derivative(p.activation, p.slope, b.output(l)[cell * p.maps_pitch + map]) : 1.0f;
        return averaged(b, l, y, x, map) * slope;
    }
    const int at = next_offset(b.plan, l, y, x) + map;
    const float slope = varies ? derivative(p.activation, p.slope, b.input(l + 1)[at]) : 1.0f;
    return b.gradient(l + 1)[at] * slope;
}

// By the preactivation of a position.
__device__ inline float position_gradient(const Block& b, int l, int at, int map) {
    const LayerPlan& p = b.layer(l);
    if (p.pool != Pool::max) return last_code(b, l, at, map) == 0 ? cell_gradient(b, l, at, map) : 0.0f;
    const int y = at / p.out_width + p.pool_top, x = at % p.out_width + p.pool_left;
    const Span rows = windows_over(y, p.pool_h, p.pool_stride_h, p.pooled_height);
    const Span columns = windows_over(x, p.pool_w, p.pool_stride_w, p.pooled_width);
    float sum = 0.0f;
    for (int cy = rows.first; cy <= rows.last; ++cy)
        for (int cx = columns.first; cx <= columns.last; ++cx) {
            const int place = (y - cy * p.pool_stride_h) * p.pool_w + x - cx * p.pool_stride_w;
            const int cell = cy * p.cell_columns + cx;
            if (last_code(b, l, cell, map) == place) sum += cell_gradient(b, l, cell, map);
        }
    return sum;
}

// --- change by change ----------------------------------------------------------------------------

// The bytes of a word whose halves differ, each as its lowest bit.
__device__ __forceinline__ unsigned changed_bytes(unsigned word) {
    const unsigned difference = (word ^ word >> 4) & 0x0f0f0f0fu;
    const unsigned any = (difference + 0x0f0f0f0fu) & 0x10101010u;  // no carry leaves a byte
    return any >> 4;
}

// Lists the changed codes in their order: word << 2 | byte. How many there are; past kMostChanges
// the list is cut off.
__device__ inline int list_changes(Block& b, int l) {
    const LayerPlan& p = b.layer(l);
    const int words = p.cells * p.code_pitch / 4, each = (words + kWarps - 1) / kWarps;
    const auto* codes = reinterpret_cast<const unsigned*>(b.codes(l));
    const int begin = b.warp * each, end = begin + each < words ? begin + each : words;
    int* counts = b.words();
    int* list = reinterpret_cast<int*>(b.shared + b.plan.changes);
    int mine = 0;
    for (int i = begin + b.lane; i < end; i += 32) mine += __popc(changed_bytes(codes[i]));
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) mine += __shfl_xor_sync(kFullWarp, mine, distance);
    if (b.lane == 0) counts[b.warp] = mine;
    __syncthreads();
    int at = 0, total = 0;
    for (int w = 0; w < kWarps; ++w) {
        at += w < b.warp ? counts[w] : 0;
        total += counts[w];
    }
    for (int first = begin; first < end; first += 32) {
        const int i = first + b.lane;
        unsigned changed = i < end ? changed_bytes(codes[i]) : 0;
        if (!__any_sync(kFullWarp, changed != 0)) continue;
        int before = __popc(changed);
        for (int distance = 1; distance < 32; distance *= 2) {
            const int other = __shfl_up_sync(kFullWarp, before, distance);
            before += b.lane >= distance ? other : 0;
        }
        int to = at + before - __popc(changed);
        at += __shfl_sync(kFullWarp, before, 31);
        for (; changed != 0; changed &= changed - 1, ++to)
            if (to < kMostChanges) list[to] = i << 2 | (__ffs(int(changed)) - 1) / 8;
    }
    __syncthreads();
    return total;
}

// Rows of a kernel's weights on their way to rows of the gradient, each times its value.
constexpr int kRows = 4;

struct Rows {
    int to[kRows], from[kRows];
    float value[kRows];
    int count;
};

// One after the other; a lane has every 32nd channel. The loads of all rows are on their way before the
// first is used.
__device__ __forceinline__ void add_rows(const LayerPlan& p, float* gradient, const Rows& rows, int lane) {
    constexpr int widest = 7;
    for (int c = lane; c < p.in_depth; c += 32) {
        float w[kRows][widest];
#pragma unroll
        for (int r = 0; r < kRows; ++r)
#pragma unroll
            for (int kx = 0; kx < widest; ++kx)
                w[r][kx] = r < rows.count && kx < p.kernel_w
                               ? __ldg(p.rows + rows.from[r] + kx * p.in_depth + c)
                               : 0.0f;
#pragma unroll
        for (int r = 0; r < kRows; ++r)
#pragma unroll
            for (int kx = 0; kx < widest; ++kx)
                if (r < rows.count && kx < p.kernel_w)
                    gradient[rows.to[r] + kx * p.in_pitch + c] += rows.value[r] * w[r][kx];
    }
}

// One change at one of its two places, as one warp sees it.
struct Move {
    int y, x, map;
    float value;  // 0: nothing to do
};

__device__ __forceinline__ Move move_of(const Block& b, int l, int entry, bool added) {
    const LayerPlan& p = b.layer(l);
    const int cell = entry / p.code_pitch, map = entry % p.code_pitch;
    const int byte = b.codes(l)[entry], place = added ? byte & 15 : byte >> 4;
    if (place >= p.places) return {0, 0, map, 0.0f};
    const bool pooled = p.pool == Pool::max;
    const int cy = cell / p.cell_columns, cx = cell % p.cell_columns;
    const float g = cell_gradient(b, l, cell, map);
    return {(pooled ? cy * p.pool_stride_h - p.pool_top + place / p.pool_w : cy) * p.stride_h,
            (pooled ? cx * p.pool_stride_w - p.pool_left + place % p.pool_w : cx) * p.stride_w, map,
            added ? g : -g};
}

// A warp has every kWarps-th row of the gradient, and a kernel has at most 7 rows: of a change a
// warp adds one row or none. Lanes find 32 changes' rows at a time; then all lanes add them, in order.
__device__ inline void move_changes(const Block& b, int l, int count) {
    const LayerPlan& p = b.layer(l);
    const int* list = reinterpret_cast<const int*>(b.shared + b.plan.changes);
    for (int first = 0; first < 2 * count; first += 32) {
        const int i = first + b.lane;
        Move m{0, 0, 0, 0.0f};
        int ky = p.kernel_h;
        if (i < 2 * count) {
            m = move_of(b, l, list[i / 2], i % 2 != 0);
            ky = (b.warp - m.y) & (kWarps - 1);
        }
        const bool adds = m.value != 0.0f && ky < p.kernel_h;
        const int to = ((m.y + ky) * p.padded_w + m.x) * p.in_pitch;
        const int from = (m.map * p.taps + ky * p.kernel_w) * p.in_depth;
        for (unsigned left = __ballot_sync(kFullWarp, adds); left != 0;) {
            Rows rows{};
#pragma unroll
            for (int r = 0; r < kRows; ++r, left &= left - 1) {
                const int lane = left != 0 ? __ffs(int(left)) - 1 : 0;
                rows.count += left != 0 ? 1 : 0;
                rows.to[r] = __shfl_sync(kFullWarp, to, lane);
                rows.from[r] = __shfl_sync(kFullWarp, from, lane);
                rows.value[r] = __shfl_sync(kFullWarp, m.value, lane);
            }
            add_rows(p, b.gradient(l), rows, b.lane);
        }
    }
}

}  // namespace pyoip::cuda
