#include "crop.hpp"

#include <algorithm>

namespace pyoip {
namespace {

// Rows (or columns) that a pool or convolution with `used` outputs reads, of `available`.
int reach(int used, int stride, int kernel, int pad, int available) {
    return std::min((used - 1) * stride + kernel - pad, available);
}

}  // namespace

std::vector<Extent> crop(const Stack& stack) {
    std::vector<Extent> extents(stack.layers.size());
    int rows = stack.target().out_height, columns = stack.target().out_width;
    for (std::size_t l = stack.layers.size(); l-- > 0;) {
        const ConvLayer& s = stack.layers[l];
        Extent& e = extents[l];
        const bool pools = s.pool != Pool::none;
        e.pooled_height = rows, e.pooled_width = columns;
        e.out_height = pools ? reach(rows, s.pool_stride_h, s.pool_h, s.pool_top, s.out_height) : rows;
        e.out_width = pools ? reach(columns, s.pool_stride_w, s.pool_w, s.pool_left, s.out_width) : columns;
        rows = e.in_height = reach(e.out_height, s.stride_h, s.kernel_h, s.pad_top, s.in_height);
        columns = e.in_width = reach(e.out_width, s.stride_w, s.kernel_w, s.pad_left, s.in_width);
    }
    return extents;
}

bool pools_quads(const ConvLayer& s, const Extent& e) {
    return s.pool == Pool::max && s.pool_h == 2 && s.pool_w == 2 && s.pool_stride_h == 2 &&
           s.pool_stride_w == 2 && e.out_height == 2 * e.pooled_height && e.out_width == 2 * e.pooled_width &&
           s.pool_top == 0 && s.pool_left == 0;
}

}  // namespace pyoip
