#include "plan.hpp"

#include <algorithm>
#include <cstring>
#include <new>
#include <stdexcept>

#include "../crop.hpp"
#include "packing.hpp"

namespace pyoip::cpu {
namespace {

void* allocate(std::size_t bytes) {
    const std::size_t size = (std::max<std::size_t>(bytes, 1) + kAlign - 1) / kAlign * kAlign;
    void* block = ::operator new(size, std::align_val_t(kAlign));
    std::memset(block, 0, size);
    return block;
}

void release(void* block) { ::operator delete(block, std::align_val_t(kAlign)); }

// Channels from which Winograd's transformations are paid for by the products they save.
constexpr int kFewestChannels = 8;

Method choose_method(const ConvLayer& s, const LayerPlan& p, bool first, Precision precision) {
    if (s.kernel_h != 3 || s.kernel_w != 3 || s.stride_h != 1 || s.stride_w != 1) return Method::direct;
    if (first) return Method::narrow;
    if (s.in_channels < kFewestChannels || s.maps < kFewestChannels) return Method::direct;
    const auto products = [&](int m) {
        return divide_up(p.out_height, m) * divide_up(p.out_width, m) * (m + 2) * (m + 2);
    };
    if (precision == Precision::fast && products(5) < products(2)) return Method::winograd5;
    return products(2) < 9 * p.positions * 3 / 4 ? Method::winograd2 : Method::direct;
}

}  // namespace

void Blocks::Free::operator()(void* p) const { release(p); }
void* Blocks::add(std::size_t bytes) { return blocks_.emplace_back(allocate(bytes)).get(); }
Memory::Memory(std::int64_t floats)
    : data_(static_cast<float*>(allocate(std::size_t(floats) * sizeof(float)))) {}
Memory::~Memory() { release(data_); }

class PlanBuilder {
public:
    PlanBuilder(OwnedPlan& owner, const Stack& stack, int lanes, Precision precision)
        : owner_(owner), plan_(owner.plan_), stack_(stack), lanes_(lanes), precision_(precision) {}

    void build() {
        const int count = int(stack_.layers.size());
        owner_.layers_.resize(std::size_t(count));
        plan_.lanes = lanes_;
        plan_.channels = stack_.channels, plan_.height = stack_.height, plan_.width = stack_.width;
        plan_.pixels = stack_.pixels();
        plan_.pitch = round_up(int(plan_.pixels), lanes_);
        plan_.layer_count = count;
        plan_.layers = owner_.layers_.data();
        crop_layers();
        for (int l = 0; l < count; ++l) measure(l);
        Packer packer(owner_.blocks_, lanes_);
        for (int l = 0; l < count; ++l) {
            lay_out(l);
            packer.pack_weights(from(l), at(l));
            if (l > 0) packer.pack_rows(from(l), at(l));
        }
        if (target() == 0)
            packer.pack_target_planes(from(0), at(0));
        else
            packer.pack_patches(from(0), at(0)), packer.pack_grid(from(0), at(0));
        share_workspace();
    }

private:
    OwnedPlan& owner_;
    Plan& plan_;
    const Stack& stack_;
    const int lanes_;
    const Precision precision_;

    int target() const { return int(stack_.layers.size()) - 1; }
    LayerPlan& at(int l) { return owner_.layers_[std::size_t(l)]; }
    const ConvLayer& from(int l) const { return stack_.layers[std::size_t(l)]; }

    template <class T>
    T* keep(std::int64_t count) {
        return owner_.blocks_.keep<T>(count);
    }

    void crop_layers() {
        const std::vector<Extent> extents = crop(stack_);
        for (int l = 0; l <= target(); ++l) {
            const Extent& e = extents[std::size_t(l)];
            LayerPlan& p = at(l);
            p.in_height = e.in_height, p.in_width = e.in_width;
            p.out_height = e.out_height, p.out_width = e.out_width;
            p.pooled_height = e.pooled_height, p.pooled_width = e.pooled_width;
            p.quads = pools_quads(from(l), e);
        }
    }

    void measure(int l) {
        const ConvLayer& s = from(l);
        LayerPlan& p = at(l);
        p.in_channels = s.in_channels;
        p.in_padded = l == 0 ? 1 : round_up(s.in_channels, lanes_);
        p.maps = s.maps, p.maps_padded = round_up(s.maps, lanes_);
        p.in_planes = l == 0;
        p.pad_top = s.pad_top, p.pad_left = s.pad_left;
        p.kernel_h = s.kernel_h, p.kernel_w = s.kernel_w;
        p.stride_h = s.stride_h, p.stride_w = s.stride_w;
        p.positions = p.out_height * p.out_width;
        p.pooled = p.pooled_height * p.pooled_width;
        p.activation = s.activation, p.slope = s.slope;
        p.pool = s.pool, p.places = s.pool == Pool::max ? s.pool_h * s.pool_w : 1, p.pool_w = s.pool_w;
        p.pool_share = 1.0f / float(s.pool_h * s.pool_w);
        const bool pooled = s.pool != Pool::average;
        p.cell_rows = pooled ? p.pooled_height : p.out_height;
        p.cell_columns = pooled ? p.pooled_width : p.out_width;
        p.cells = p.cell_rows * p.cell_columns;
        p.maps_reciprocal = (std::uint64_t(1) << 32) / std::uint64_t(p.maps_padded) + 1;
        p.method = choose_method(s, p, l == 0, precision_);
        // Winograd's tiles may hang over the end: into zeros, for outputs that nobody keeps.
        const int side = p.method == Method::direct ? 1 : tile_side(p.method);
        p.tile_columns = divide_up(p.out_width, side);
        p.tile_rows = divide_up(p.out_height, side);
        p.tiles = p.tile_rows * p.tile_columns;
        p.padded_h = (round_up(p.out_height, side) - 1) * s.stride_h + s.kernel_h;
        p.padded_w = (round_up(p.out_width, side) - 1) * s.stride_w + s.kernel_w;
        const int planes = l == 0 ? s.in_channels : 1;
        p.in_floats = std::int64_t(planes) * p.padded_h * p.padded_w * p.in_padded;
    }

    void lay_out(int l) {
        const ConvLayer& s = from(l);
        LayerPlan& p = at(l);
        auto* in = keep<std::int32_t>(p.positions);
        for (int i = 0; i < p.positions; ++i)
            in[i] = window_offset(p, i / p.out_width * s.stride_h, i % p.out_width * s.stride_w);
        p.in_offset = in;

        auto* next = keep<std::int32_t>(p.pooled);
        auto* out = keep<std::int32_t>(p.positions);
        for (int i = 0; l < target() && i < p.pooled; ++i)
            next[i] = window_offset(at(l + 1), i / p.pooled_width + from(l + 1).pad_top,
                                    i % p.pooled_width + from(l + 1).pad_left);
        for (int i = 0; i < p.positions; ++i)
            out[i] = l < target() && s.pool == Pool::none ? next[i] : i * p.maps_padded;
        p.next_offset = next, p.out_offset = out;
        auto* marks = keep<std::int32_t>(p.pooled);
        for (int i = 0; l < target() && i < p.pooled; ++i) marks[i] = next[i] / at(l + 1).in_padded;
        p.mark_offset = marks;
        lay_out_windows(l);
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
            first[i] = window_offset(p, y * s.stride_h, x * s.stride_w);
        }
        for (int k = 0; k < p.places; ++k)
            step[k] = window_offset(p, k / s.pool_w * s.stride_h, k % s.pool_w * s.stride_w);
        p.windows = windows, p.place_step = step;
        p.cell_offset = s.pool == Pool::average ? p.in_offset : first;
    }

    void share_workspace() {
        std::int64_t used = 0;
        const auto take = [&](std::int64_t floats) {
            const std::int64_t start = used;
            used += (floats + 4 * lanes_ + 15) / 16 * 16;  // slack for reads of whole vectors
            return start;
        };
        std::int64_t dense = 0, entries = at(target()).positions, buckets = entries, scratch = 0;
        for (int l = 0; l <= target(); ++l) {
            LayerPlan& p = at(l);
            const bool lower = l < target();
            p.input = take(p.in_floats + kColumnsTooMany * p.in_padded);
            p.gradient = take(l > 0 ? p.in_floats : 0);
            const std::int64_t grid = std::int64_t(p.positions) * p.maps_padded;
            const std::int64_t codes = std::int64_t(p.cells) * p.maps_padded;
            p.output = take(!lower || p.pool != Pool::none ? grid : 0);
            p.codes = take(lower ? codes / 4 : 0);
            p.old_codes = take(lower ? codes / 4 : 0);
            if (lower && p.pool == Pool::average) dense = std::max(dense, grid);
            if (lower && l > 0) {
                entries = std::max(entries, 2 * std::int64_t(p.cells) * p.maps);
                buckets = std::max(buckets, 2 * std::int64_t(p.cells) * p.maps);
            }
            if (p.method == Method::winograd2 || p.method == Method::winograd5)
                scratch =
                    std::max<std::int64_t>(scratch, std::int64_t(points(p.method)) * most_tiles(lanes_) *
                                                        (p.in_padded + kBlockVectors * lanes_));
        }
        plan_.dense = take(dense);
        plan_.entries = take(2 * entries);
        plan_.buckets = take(4 * buckets);
        plan_.decision = take(16);
        plan_.question = take(16);
        plan_.marks = take(target() > 0 ? at(1).padded_h * at(1).padded_w / 4 + 1 : 0);
        share_target(take);
        plan_.images = take(2 * plan_.pitch);
        plan_.velocity = take(plan_.pitch);
        plan_.step = take(plan_.pitch);
        plan_.blur = take(2 * plan_.width);
        plan_.scratch_floats = (scratch + 15) / 16 * 16;
        plan_.scratch = take(kHalves * plan_.scratch_floats);
        plan_.floats = used;
        if (used > std::int64_t(1) << 31) throw std::length_error("the stack needs more than 8 GiB a thread");
    }

    template <class Take>
    void share_target(const Take& take) {
        const LayerPlan& t = at(target());
        plan_.map_values = take(t.positions);
        plan_.map_gradient = take(t.positions);
        plan_.old_map_gradient = take(t.positions);
        if (target() > 0) {
            const LayerPlan& first = at(0);
            plan_.half_floats = round_up(first.lines * first.line_floats, 16);
            plan_.halves = take(kHalves * plan_.half_floats);
            plan_.strip_floats = round_up(first.phases * first.patch_rows * first.line_floats, 16);
            plan_.strips = take(kHalves * plan_.strip_floats);
            plan_.patches = take(std::int64_t(first.cells) * first.patch_floats);
            plan_.grid =
                take(first.dense_image ? std::int64_t(first.grid_h) * first.grid_w * first.maps_padded : 0);
            return;
        }
        plan_.spread = take(t.spread_lead + std::int64_t(t.spread_h) * t.spread_w);
    }
};

OwnedPlan::OwnedPlan(const Stack& stack, int lanes, Precision precision) {
    PlanBuilder(*this, stack, lanes, precision).build();
}

}  // namespace pyoip::cpu
