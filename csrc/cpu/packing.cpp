#include "packing.hpp"

#include <algorithm>

#include "winograd.hpp"

namespace pyoip::cpu {
namespace {

float weight(const ConvLayer& s, int map, int channel, int y, int x) {
    const auto row = (std::int64_t(map) * s.in_channels + channel) * s.kernel_h + y;
    return s.weights[std::size_t(row * s.kernel_w + x)];
}

template <int M>
float transformed(const ConvLayer& s, int map, int channel, int point) {
    constexpr int side = Winograd<M>::kSide;
    double value = 0.0;
    for (int y = 0; y < 3; ++y)
        for (int x = 0; x < 3; ++x)
            value += kWinograd<M>.g[point / side][y] * kWinograd<M>.g[point % side][x] *
                     double(weight(s, map, channel, y, x));
    return float(value);
}

}  // namespace

// [block of channel vectors][item][vectors * lanes], value(map, item) for every real map.
template <class Value>
const float* Packer::pack_blocks(const LayerPlan& p, int vectors, std::int64_t items, const Value& value) {
    auto* packed = keep<float>(items * p.maps_padded);
    float* to = packed;
    for (int first = 0; first < p.maps_padded;) {
        const int block = std::min(vectors * lanes_, p.maps_padded - first);
        for (std::int64_t item = 0; item < items; ++item)
            for (int i = 0; i < block; ++i, ++to)
                if (first + i < p.maps) *to = value(first + i, item);
        first += block;
    }
    return packed;
}

void Packer::pack_weights(const ConvLayer& s, LayerPlan& p) {
    auto* bias = keep<float>(p.maps_padded);
    std::copy(s.bias.begin(), s.bias.end(), bias);
    p.bias = bias;
    switch (p.method) {
        case Method::direct: return p.in_planes ? pack_planes(s, p) : pack_direct(s, p);
        case Method::narrow:
            p.forward_weights = pack_blocks(p, 1, 16 * s.in_channels, [&](int map, std::int64_t item) {
                return transformed<2>(s, map, int(item / 16), int(item % 16));
            });
            return;
        case Method::winograd2: p.forward_weights = pack_transformed<2>(s, p); return;
        case Method::winograd5: p.forward_weights = pack_transformed<5>(s, p); return;
    }
}

// A run is a kernel row in a plane.
void Packer::pack_planes(const ConvLayer& s, LayerPlan& p) {
    p.runs = s.in_channels * s.kernel_h;
    p.run_length = s.kernel_w;
    auto* runs = keep<std::int32_t>(p.runs);
    for (int r = 0; r < p.runs; ++r) runs[r] = (r / s.kernel_h * p.padded_h + r % s.kernel_h) * p.padded_w;
    p.run_offset = runs;
    p.forward_weights =
        pack_blocks(p, kBlockVectors, std::int64_t(p.runs) * p.run_length, [&](int map, std::int64_t item) {
            const int row = int(item / s.kernel_w);
            return weight(s, map, row / s.kernel_h, row % s.kernel_h, int(item % s.kernel_w));
        });
}

// Whole kernel rows are one run where no padding channels lie between the pixels.
void Packer::pack_direct(const ConvLayer& s, LayerPlan& p) {
    const bool whole = p.in_padded == p.in_channels;
    p.runs = whole ? s.kernel_h : s.kernel_h * s.kernel_w;
    p.run_length = whole ? s.kernel_w * s.in_channels : s.in_channels;
    auto* runs = keep<std::int32_t>(p.runs);
    for (int r = 0; r < p.runs; ++r)
        runs[r] = whole ? window_offset(p, r, 0) : window_offset(p, r / s.kernel_w, r % s.kernel_w);
    p.run_offset = runs;
    p.forward_weights =
        pack_blocks(p, kBlockVectors, std::int64_t(p.runs) * p.run_length, [&](int map, std::int64_t item) {
            const int channel = int(item % s.in_channels), tap = int(item / s.in_channels);
            return weight(s, map, channel, tap / s.kernel_w, tap % s.kernel_w);
        });
}

template <int M>
const float* Packer::pack_transformed(const ConvLayer& s, const LayerPlan& p) {
    const std::int64_t items = std::int64_t(points(p.method)) * s.in_channels;
    return pack_blocks(p, kBlockVectors, items, [&](int map, std::int64_t item) {
        return transformed<M>(s, map, int(item % s.in_channels), int(item / s.in_channels));
    });
}

void Packer::pack_rows(const ConvLayer& s, LayerPlan& p) {
    const std::int64_t row = std::int64_t(s.kernel_w) * p.in_padded;
    auto* rows = keep<float>(row * s.kernel_h * s.maps);
    for (int y = 0; y < s.kernel_h; ++y)
        for (int m = 0; m < s.maps; ++m)
            for (int x = 0; x < s.kernel_w; ++x)
                for (int c = 0; c < s.in_channels; ++c)
                    rows[(std::int64_t(y) * s.maps + m) * row + x * p.in_padded + c] = weight(s, m, c, y, x);
    p.rows = rows;
}

void Packer::pack_patches(const ConvLayer& s, LayerPlan& p) {
    // Average pooling is undone on the convolution's grid, so only a maximum has places.
    const bool maximum = s.pool == Pool::max;
    const int high = maximum ? s.pool_h : 1, wide = maximum ? s.pool_w : 1;
    p.patch_rows = (high - 1) * s.stride_h + s.kernel_h;
    p.patch_row_length = ((wide - 1) * s.stride_w + s.kernel_w) * s.in_channels;
    p.patch_floats = round_up(p.patch_rows * p.patch_row_length, lanes_);
    p.cell_step_rows = s.stride_h * (maximum ? s.pool_stride_h : 1);
    p.cell_step_floats = s.stride_w * (maximum ? s.pool_stride_w : 1) * s.in_channels;
    p.phases = divide_up(p.patch_row_length, p.cell_step_floats);
    // Padded pooling windows hang over the edges, with zeros only.
    const int above = s.pool_top * s.stride_h, before = s.pool_left * s.stride_w;
    const int last_row = (p.cell_rows - 1) * p.cell_step_rows + p.patch_rows;
    const int last = (p.cell_columns - 1) * p.cell_step_floats + p.patch_row_length;
    p.lines = std::max(last_row, above + p.padded_h);
    p.line_floats = round_up(std::max(last, (before + p.padded_w) * s.in_channels), lanes_);
    p.lead = std::int64_t(above + s.pad_top) * p.line_floats + (before + s.pad_left) * s.in_channels;
    const std::int64_t chunk = kPatchVectors * lanes_;
    auto* patches = keep<float>(std::int64_t(p.maps_padded) * (p.places + 1) * p.patch_floats);
    const auto put = [&](int map, int place, std::int64_t at, float value) {
        const std::int64_t first = at / chunk * chunk;
        const std::int64_t size = std::min(chunk, p.patch_floats - first);
        const std::int64_t row = std::int64_t(place) * p.maps_padded + map;
        patches[first * (p.places + 1) * p.maps_padded + row * size + at - first] = value;
    };
    for (int m = 0; m < s.maps; ++m)
        for (int place = 0; place < p.places; ++place) {
            const int top = place / wide * s.stride_h, left = place % wide * s.stride_w;
            for (int y = 0; y < s.kernel_h; ++y)
                for (int x = 0; x < s.kernel_w; ++x)
                    for (int c = 0; c < s.in_channels; ++c)
                        put(m, place, (top + y) * p.patch_row_length + (left + x) * s.in_channels + c,
                            weight(s, m, c, y, x));
        }
    p.patches = patches;
}

void Packer::pack_grid(const ConvLayer& s, LayerPlan& p) {
    p.dense_image = s.pool != Pool::max && s.stride_h == 1 && s.stride_w == 1;
    p.grid_h = p.out_height + 2 * (s.kernel_h - 1), p.grid_w = p.out_width + 2 * (s.kernel_w - 1);
    if (!p.dense_image) return;
    auto* turned = keep<float>(std::int64_t(s.in_channels) * s.kernel_h * s.kernel_w * p.maps_padded);
    float* to = turned;
    for (int c = 0; c < s.in_channels; ++c)
        for (int y = s.kernel_h - 1; y >= 0; --y)
            for (int x = s.kernel_w - 1; x >= 0; --x, to += p.maps_padded)
                for (int m = 0; m < s.maps; ++m) to[m] = weight(s, m, c, y, x);
    p.turned_rows = turned;
}

void Packer::pack_target_planes(const ConvLayer& s, LayerPlan& p) {
    const std::size_t taps = std::size_t(s.kernel_h) * std::size_t(s.kernel_w);
    auto* raw = keep<float>(std::int64_t(s.weights.size()));
    auto* flipped = keep<float>(std::int64_t(s.weights.size()));
    std::copy(s.weights.begin(), s.weights.end(), raw);
    for (std::size_t i = 0; i < s.weights.size(); ++i)
        flipped[i] = s.weights[i / taps * taps + taps - 1 - i % taps];
    p.raw_weights = raw, p.flipped_weights = flipped;
    p.unpadded = s.pad_top == 0 && s.pad_left == 0 && p.padded_h <= s.in_height && p.padded_w <= s.in_width;
    p.map_width = round_up(p.out_width, lanes_);
    p.spread_h = p.padded_h + s.kernel_h - 1;
    p.spread_lead = round_up(s.kernel_w - 1, lanes_);
    p.spread_w = round_up(p.padded_w, lanes_) + p.spread_lead;
}

}  // namespace pyoip::cpu
