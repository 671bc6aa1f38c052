#include "plan.hpp"

#include <algorithm>

#include "../crop.hpp"
#include "../rounding.hpp"
#include "packing.hpp"

namespace pyoip::cuda {
namespace {

constexpr int kPatchFloats = 4096;  // of a chunk of patches, unless the scratch is larger anyway
constexpr int kReductionFloats = 2 * kMostSums * kWarps + kWarps + kKeptFloats + 2;  // block.cuh

class PlanBuilder {
public:
    explicit PlanBuilder(const Stack& stack) : stack_(stack) {}

    HostPlan build() {
        Plan& plan = host_.plan;
        plan.channels = stack_.channels, plan.height = stack_.height, plan.width = stack_.width;
        plan.plane = stack_.height * stack_.width;
        plan.pixels = int(stack_.pixels()), plan.share = 1.0 / plan.pixels;
        plan.layer_count = int(stack_.layers.size());
        const std::vector<Extent> extents = crop(stack_);
        for (int l = 0; l <= target(); ++l) measure(l, extents[std::size_t(l)]);
        if (target() > 0) measure_patches();
        share_memory();
        for (int l = 0; l <= target(); ++l) host_.weights[l] = pack(from(l), at(l), l == 0, l == target());
        return std::move(host_);
    }

private:
    const Stack& stack_;
    HostPlan host_;
    std::int64_t used_ = 0;

    int target() const { return int(stack_.layers.size()) - 1; }
    LayerPlan& at(int l) { return host_.plan.layers[l]; }
    const ConvLayer& from(int l) const { return stack_.layers[std::size_t(l)]; }

    void measure(int l, const Extent& e) {
        const ConvLayer& s = from(l);
        LayerPlan& p = at(l);
        p.in_channels = s.in_channels, p.in_depth = round_up(s.in_channels, kDepth),
        p.in_pitch = p.in_depth + 4;
        p.maps = s.maps, p.maps_depth = round_up(s.maps, kDepth), p.maps_pitch = p.maps_depth + 4;
        p.in_height = e.in_height, p.in_width = e.in_width;
        p.out_height = e.out_height, p.out_width = e.out_width, p.positions = e.out_height * e.out_width;
        p.pooled_height = e.pooled_height, p.pooled_width = e.pooled_width;
        p.kernel_h = s.kernel_h, p.kernel_w = s.kernel_w, p.taps = s.kernel_h * s.kernel_w;
        p.stride_h = s.stride_h, p.stride_w = s.stride_w, p.pad_top = s.pad_top, p.pad_left = s.pad_left;
        p.padded_h = (p.out_height - 1) * s.stride_h + s.kernel_h;
        p.padded_w = (p.out_width - 1) * s.stride_w + s.kernel_w;
        p.activation = s.activation, p.slope = s.slope;
        p.pool = s.pool, p.pool_h = s.pool_h, p.pool_w = s.pool_w;
        p.pool_stride_h = s.pool_stride_h, p.pool_stride_w = s.pool_stride_w;
        p.pool_top = s.pool_top, p.pool_left = s.pool_left;
        p.quads = pools_quads(s, e);
        p.places = s.pool == Pool::max ? s.pool_h * s.pool_w : 1;
        p.pool_share = 1.0f / float(s.pool_h * s.pool_w);
        const bool pooled = s.pool == Pool::max;
        p.cell_columns = pooled ? p.pooled_width : p.out_width;
        p.cells = p.cell_columns * (pooled ? p.pooled_height : p.out_height);
        p.code_pitch = p.maps_depth + 4;  // not a multiple of 8 words, for the banks
        const int tiles = p.maps_depth / kTileColumns, back_tiles = p.in_depth / kTileColumns;
        p.group = choose_group(tiles), p.groups = divide_up(tiles, p.group);
        p.back_group = choose_group(back_tiles, kBackGroup),
        p.back_groups = divide_up(back_tiles, p.back_group);
    }

    // What a cell of the first layer adds to the image.
    void measure_patches() {
        const ConvLayer& s = from(0);
        LayerPlan& p = at(0);
        const bool pooled = s.pool == Pool::max;
        p.cell_step_h = (pooled ? s.pool_stride_h : 1) * s.stride_h;
        p.cell_step_w = (pooled ? s.pool_stride_w : 1) * s.stride_w;
        p.cell_lead_h = pooled ? s.pool_top * s.stride_h : 0;
        p.cell_lead_w = pooled ? s.pool_left * s.stride_w : 0;
        p.patch_h = (pooled ? s.pool_h - 1 : 0) * s.stride_h + s.kernel_h;
        p.patch_w = (pooled ? s.pool_w - 1 : 0) * s.stride_w + s.kernel_w;
        const int tiles = divide_up(s.in_channels * p.patch_h * p.patch_w, kTileColumns);
        p.back_group = choose_group(tiles, kBackGroup);
        p.back_groups = divide_up(tiles, p.back_group);
        const int floats = p.back_groups * p.back_group * kTileColumns;
        p.patch_pitch = floats + (floats / kTileColumns % 2 == 0 ? kTileColumns : 0);
    }

    // Offsets are multiples of 4 floats: a thread reads 16 bytes at a time.
    int take(std::int64_t floats) {
        const std::int64_t start = used_;
        used_ += (floats + 3) / 4 * 4;
        return int(std::min<std::int64_t>(start, 1 << 30));
    }

    void share_memory() {
        Plan& plan = host_.plan;
        plan.image = take(plan.pixels), plan.velocity = take(plan.pixels), plan.step = take(plan.pixels);
        share_layers();
        const LayerPlan& t = at(target());
        plan.map_row = take(target() == 0 ? t.in_channels * t.taps : t.taps * t.in_depth);
        plan.map_values = take(t.positions), plan.map_gradient = take(t.positions);
        plan.old_gradient = take(t.positions);
        plan.scratch = take(scratch_floats());
        plan.changes = take(target() > 1 ? kMostChanges : 0);
        plan.sums = take(kReductionFloats);
        plan.shared_bytes = used_ * std::int64_t(sizeof(float));
    }

    void share_layers() {
        const Plan& plan = host_.plan;
        for (int l = 0; l <= target(); ++l) {
            LayerPlan& p = at(l);
            if (l == 0) {
                const bool inside = p.pad_top == 0 && p.pad_left == 0 && p.padded_h <= plan.height &&
                                    p.padded_w <= plan.width;
                if (inside) p.padded_h = plan.height, p.padded_w = plan.width;  // read where it is
                p.input = inside ? plan.image : take(std::int64_t(p.in_channels) * p.padded_h * p.padded_w);
                p.gradient = plan.step;
            } else {
                const std::int64_t floats = std::int64_t(p.padded_h) * p.padded_w * p.in_pitch;
                p.input = take(floats), p.gradient = take(floats);
            }
            if (l == target()) continue;
            const bool kept = p.pool == Pool::average && (l > 0 || slope_of(p.activation) == Slope::varies);
            p.output = take(kept ? std::int64_t(p.positions) * p.maps_pitch : 0);
            p.codes = take((std::int64_t(p.cells) * p.code_pitch + 3) / 4);
        }
    }

    std::int64_t scratch_floats() {
        const LayerPlan& t = at(target());
        std::int64_t most = std::max<std::int64_t>(host_.plan.pixels,
                                                   std::int64_t(kSplits) * t.groups * t.group * kTileColumns);
        for (int l = 1; l < target(); ++l)  // values before a pool; the gradient, with a row of zeros
            most = std::max(most, std::int64_t(at(l).positions + 1) * at(l).maps_pitch);
        return target() > 0 ? std::max(most, patch_floats(most)) : most;
    }

    // Decides how many rows of cells make their patches at a time.
    std::int64_t patch_floats(std::int64_t room) {
        LayerPlan& p = at(0);
        const std::int64_t row = std::int64_t(p.cell_columns) * p.patch_pitch;
        const std::int64_t fitting = std::max<std::int64_t>(room, kPatchFloats) / row;
        p.chunk_rows = int(std::clamp<std::int64_t>(fitting, 1, p.cells / p.cell_columns));
        return p.chunk_rows * row;
    }
};

}  // namespace

HostPlan make_plan(const Stack& stack) { return PlanBuilder(stack).build(); }

}  // namespace pyoip::cuda
