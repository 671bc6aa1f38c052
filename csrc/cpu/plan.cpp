#include "plan.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>

namespace pyoip::cpu {
namespace {

int round_up(int value, int step) { return (value + step - 1) / step * step; }

void* allocate(std::size_t bytes) {
    const std::size_t size = (std::max<std::size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign;
    void* block = ::operator new(size, std::align_val_t(kAlign));
    std::memset(block, 0, size);
    return block;
}

void release(void* block) { ::operator delete(block, std::align_val_t(kAlign)); }

// Rows (or columns) that a pool or convolution with `used` outputs reads, of `available`.
int reach(int used, int stride, int kernel, int pad, int available) {
    return std::min((used - 1) * stride + kernel - pad, available);
}

}  // namespace

void OwnedPlan::Free::operator()(void* p) const { release(p); }
Memory::Memory(std::int64_t floats)
    : data_(static_cast<float*>(allocate(std::size_t(floats) * sizeof(float)))) {}
Memory::~Memory() { release(data_); }

class PlanBuilder {
public:
    PlanBuilder(OwnedPlan& owner, const Stack& stack, int lanes)
        : owner_(owner), plan_(owner.plan_), stack_(stack), lanes_(lanes) {}

    void build() {
        const int count = int(stack_.layers.size());
        owner_.layers_.resize(std::size_t(count));
        plan_.lanes = lanes_;
        plan_.channels = stack_.channels, plan_.height = stack_.height, plan_.width = stack_.width;
        plan_.pixels = stack_.pixels();
        plan_.pitch = round_up(int(plan_.pixels), lanes_);
        plan_.layer_count = count;
        plan_.layers = owner_.layers_.data();
        crop();
        for (int l = 0; l < count; ++l) {
            lay_out(l);
            if (l > 0) pack_rows(l);
            if (l == 0 && l < target()) pack_patches();
            pack_forward(l);
        }
        if (target() == 0) lay_out_planes();
        share_workspace();
    }

private:
    OwnedPlan& owner_;
    Plan& plan_;
    const Stack& stack_;
    const int lanes_;

    int target() const { return int(stack_.layers.size()) - 1; }
    LayerPlan& at(int l) { return owner_.layers_[std::size_t(l)]; }
    const ConvLayer& from(int l) const { return stack_.layers[std::size_t(l)]; }

    template <class T>
    T* keep(std::int64_t count) {
        owner_.blocks_.emplace_back(allocate(std::size_t(count) * sizeof(T)));
        return static_cast<T*>(owner_.blocks_.back().get());
    }

    // From the target down: how much of each layer its outputs can see.
    void crop() {
        int rows = from(target()).out_height, columns = from(target()).out_width;
        for (int l = target(); l >= 0; --l) {
            const ConvLayer& s = from(l);
            LayerPlan& p = at(l);
            p.pooled_height = rows, p.pooled_width = columns;
            p.out_height = s.pool == Pool::none
                               ? rows
                               : reach(rows, s.pool_stride_h, s.pool_h, s.pool_top, s.out_height);
            p.out_width = s.pool == Pool::none
                              ? columns
                              : reach(columns, s.pool_stride_w, s.pool_w, s.pool_left, s.out_width);
            rows = p.in_height = reach(p.out_height, s.stride_h, s.kernel_h, s.pad_top, s.in_height);
            columns = p.in_width = reach(p.out_width, s.stride_w, s.kernel_w, s.pad_left, s.in_width);
        }
    }

    void lay_out(int l) {
        const ConvLayer& s = from(l);
        LayerPlan& p = at(l);
        p.in_channels = s.in_channels;
        p.in_padded = l == 0 ? s.in_channels : round_up(s.in_channels, lanes_);
        p.pad_top = s.pad_top, p.pad_left = s.pad_left;
        p.kernel_h = s.kernel_h, p.kernel_w = s.kernel_w;
        p.stride_h = s.stride_h, p.stride_w = s.stride_w;
        p.padded_h = (p.out_height - 1) * s.stride_h + s.kernel_h;
        p.padded_w = (p.out_width - 1) * s.stride_w + s.kernel_w;
        p.maps = s.maps, p.maps_padded = round_up(s.maps, lanes_);
        p.positions = p.out_height * p.out_width;
        p.pooled = p.pooled_height * p.pooled_width;
        p.activation = s.activation, p.slope = s.slope;
        p.pool = s.pool, p.places = s.pool_h * s.pool_w, p.pool_w = s.pool_w;
        p.in_floats = std::int64_t(p.padded_h) * p.padded_w * p.in_padded;

        auto* in = keep<std::int32_t>(p.positions);
        for (int i = 0; i < p.positions; ++i)
            in[i] = offset(p, i / p.out_width * s.stride_h, i % p.out_width * s.stride_w);
        p.in_offset = in;

        auto* next = keep<std::int32_t>(p.pooled);
        auto* out = keep<std::int32_t>(p.positions);
        if (l < target()) fill_next(l, next);
        for (int i = 0; i < p.positions; ++i)
            out[i] = l < target() && s.pool == Pool::none ? next[i] : i * p.maps_padded;
        p.next_offset = next, p.out_offset = out;
        lay_out_windows(l);
    }

    static int offset(const LayerPlan& p, int y, int x) { return (y * p.padded_w + x) * p.in_padded; }

    void fill_next(int l, std::int32_t* next) {
        const LayerPlan& p = at(l);
        const ConvLayer& above = from(l + 1);
        LayerPlan q{};  // the next layer's geometry, which is laid out after this one
        q.in_padded = p.maps_padded;
        q.padded_w = (at(l + 1).out_width - 1) * above.stride_w + above.kernel_w;
        for (int i = 0; i < p.pooled; ++i)
            next[i] = offset(q, i / p.pooled_width + above.pad_top, i % p.pooled_width + above.pad_left);
    }

    void lay_out_windows(int l) {
        const ConvLayer& s = from(l);
        LayerPlan& p = at(l);
        auto* windows = keep<Window>(p.pooled);
        auto* first = keep<std::int32_t>(p.pooled);
        auto* step = keep<std::int32_t>(p.places);
        for (int i = 0; i < p.pooled; ++i) {
            const int y = i / p.pooled_width * s.pool_stride_h - s.pool_top;
            const int x = i % p.pooled_width * s.pool_stride_w - s.pool_left;
            const int y0 = std::max(y, 0), x0 = std::max(x, 0);
            windows[i] = {y0, std::min(y + s.pool_h, p.out_height), x0, std::min(x + s.pool_w, p.out_width),
                          (y0 - y) * s.pool_w + (x0 - x)};
            first[i] = offset(p, y * s.stride_h, x * s.stride_w);
        }
        for (int k = 0; k < p.places; ++k)
            step[k] = offset(p, k / s.pool_w * s.stride_h, k % s.pool_w * s.stride_w);
        p.windows = windows, p.pool_at = first, p.place_step = step;
    }

    static float weight(const ConvLayer& s, int map, int channel, int y, int x) {
        const auto row = (std::int64_t(map) * s.in_channels + channel) * s.kernel_h + y;
        return s.weights[std::size_t(row * s.kernel_w + x)];
    }

    // Whole kernel rows are one run where no padding channels lie between the pixels.
    void pack_forward(int l) {
        const ConvLayer& s = from(l);
        LayerPlan& p = at(l);
        const bool whole = p.in_padded == p.in_channels;
        p.runs = whole ? s.kernel_h : s.kernel_h * s.kernel_w;
        p.run_length = whole ? s.kernel_w * s.in_channels : s.in_channels;
        auto* runs = keep<std::int32_t>(p.runs);
        for (int r = 0; r < p.runs; ++r)
            runs[r] = whole ? offset(p, r, 0) : offset(p, r / s.kernel_w, r % s.kernel_w);
        p.run_offset = runs;

        const std::int64_t taps = std::int64_t(p.runs) * p.run_length;
        auto* packed = keep<float>(taps * p.maps_padded);
        auto* bias = keep<float>(p.maps_padded);
        std::copy(s.bias.begin(), s.bias.end(), bias);
        float* at_block = packed;
        for (int first = 0; first < p.maps_padded;) {
            const int block = std::min(kBlockVectors * lanes_, p.maps_padded - first);
            for (std::int64_t t = 0; t < taps; ++t) {
                const int channel = int(t % s.in_channels), tap = int(t / s.in_channels);
                for (int i = 0; i < block; ++i, ++at_block)
                    if (first + i < s.maps)
                        *at_block = weight(s, first + i, channel, tap / s.kernel_w, tap % s.kernel_w);
            }
            first += block;
        }
        p.forward_weights = packed, p.bias = bias;
    }

    void pack_rows(int l) {
        const ConvLayer& s = from(l);
        LayerPlan& p = at(l);
        const std::int64_t row = std::int64_t(s.kernel_w) * p.in_padded;
        auto* rows = keep<float>(row * s.kernel_h * s.maps);
        for (int y = 0; y < s.kernel_h; ++y)
            for (int m = 0; m < s.maps; ++m)
                for (int x = 0; x < s.kernel_w; ++x)
                    for (int c = 0; c < s.in_channels; ++c)
                        rows[(std::int64_t(y) * s.maps + m) * row + x * p.in_padded + c] =
                            weight(s, m, c, y, x);
        p.rows = rows;
    }

    void pack_patches() {
        const ConvLayer& s = from(0);
        LayerPlan& p = at(0);
        // Average pooling is undone on the convolution's grid, so only a maximum has places.
        const int high = s.pool == Pool::max ? s.pool_h : 1, wide = s.pool == Pool::max ? s.pool_w : 1;
        p.patch_rows = (high - 1) * s.stride_h + s.kernel_h;
        p.patch_row_length = ((wide - 1) * s.stride_w + s.kernel_w) * s.in_channels;
        p.patch_floats = round_up(p.patch_rows * p.patch_row_length, lanes_);
        auto* patches = keep<float>(std::int64_t(p.maps_padded) * high * wide * p.patch_floats);
        for (int m = 0; m < s.maps; ++m)
            for (int place = 0; place < high * wide; ++place) {
                float* patch = patches + (std::int64_t(m) * high * wide + place) * p.patch_floats;
                const int top = place / wide * s.stride_h, left = place % wide * s.stride_w;
                for (int y = 0; y < s.kernel_h; ++y)
                    for (int x = 0; x < s.kernel_w; ++x)
                        for (int c = 0; c < s.in_channels; ++c)
                            patch[(top + y) * p.patch_row_length + (left + x) * s.in_channels + c] =
                                weight(s, m, c, y, x);
            }
        p.patches = patches;
    }

    void lay_out_planes() {
        const ConvLayer& s = from(0);
        LayerPlan& p = at(0);
        auto* raw = keep<float>(std::int64_t(s.weights.size()));
        std::copy(s.weights.begin(), s.weights.end(), raw);
        p.raw_weights = raw;
        p.map_width = round_up(p.out_width, lanes_);
        p.plane_width = round_up(p.padded_w, lanes_) + lanes_;
        p.spread_h = p.padded_h + s.kernel_h - 1;
        p.spread_w = p.plane_width + s.kernel_w - 1;
    }

    void share_workspace() {
        std::int64_t used = 0;
        const auto take = [&](std::int64_t floats) {
            const std::int64_t start = used;
            used += (floats + 2 * lanes_ + 15) / 16 * 16;  // slack for reads of whole vectors
            return start;
        };
        std::int64_t dense = 0, entries = at(target()).positions, buckets = entries;
        for (int l = 0; l <= target(); ++l) {
            LayerPlan& p = at(l);
            const bool lower = l < target();
            // Padded pooling windows hang over the image gradient's edges, with zeros only.
            const std::int64_t lead = l == 0 ? std::max(0, -p.pool_at[0]) : 0;
            const std::int64_t hang = l == 0 && lower ? overhang(p) : 0;
            p.input = take(p.in_floats);
            p.gradient = take(lead + p.in_floats + hang) + (lead + 15) / 16 * 16;
            used += (lead + 15) / 16 * 16;
            const std::int64_t grid = std::int64_t(p.positions) * p.maps_padded;
            p.output = take(!lower || p.pool != Pool::none ? grid : 0);
            p.argmax = take(lower && p.pool == Pool::max ? std::int64_t(p.pooled) * p.maps_padded : 0);
            if (lower && p.pool == Pool::average) dense = std::max(dense, grid);
            if (lower && l > 0) {
                const std::int64_t routed = p.pool == Pool::average ? p.positions : p.pooled;
                entries = std::max(entries, routed * p.maps);
                buckets = std::max(buckets, routed * (p.pool == Pool::max ? p.places : 1));
            }
        }
        plan_.dense = take(dense);
        plan_.entries = take(2 * entries);
        plan_.buckets = take(3 * buckets);
        share_target(take);
        plan_.image = take(plan_.pitch);
        plan_.velocity = take(plan_.pitch);
        plan_.step = take(plan_.pitch);
        plan_.blur = take(2 * plan_.width);
        plan_.floats = used;
        if (used > std::int64_t(1) << 31) throw std::length_error("the stack needs more than 8 GiB a thread");
    }

    template <class Take>
    void share_target(const Take& take) {
        const LayerPlan& t = at(target());
        plan_.map_values = take(t.positions);
        plan_.map_gradient = take(t.positions);
        if (target() != 0) return;
        plan_.map_values = take(std::int64_t(t.out_height) * t.map_width);
        const std::int64_t plane = std::int64_t(t.padded_h) * t.plane_width;
        plan_.planes = take(plane * t.in_channels);
        plan_.plane_gradient = take(plane * t.in_channels);
        plan_.spread = take(std::int64_t(t.spread_h) * t.spread_w);
    }

    // Floats that a patch of the last windows reaches past the end of the image buffer.
    static std::int64_t overhang(const LayerPlan& p) {
        std::int64_t last = 0;
        for (int i = 0; i < p.pooled; ++i) last = std::max<std::int64_t>(last, p.pool_at[i]);
        const std::int64_t row = std::int64_t(p.padded_w) * p.in_padded;
        return std::max<std::int64_t>(0, last + (p.patch_rows - 1) * row + p.patch_row_length - p.in_floats);
    }
};

OwnedPlan::OwnedPlan(const Stack& stack, int lanes) { PlanBuilder(*this, stack, lanes).build(); }

}  // namespace pyoip::cpu
