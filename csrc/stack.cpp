#include "stack.hpp"

#include <stdexcept>
#include <string>

namespace pyoip {
namespace {

void check(bool ok, std::size_t layer, const char* name, int value, const char* rule) {
    if (!ok)
        throw std::invalid_argument("layer " + std::to_string(layer + 1) + ": " + name + "=" +
                                    std::to_string(value) + ": must be " + rule);
}

}  // namespace

void check_stack(const Stack& stack) {
    if (stack.layers.empty() || stack.layers.size() > 4)
        throw std::invalid_argument("a stack has 1 to 4 layers");
    int channels = stack.channels, height = stack.height, width = stack.width;
    check(channels == 1 || channels == 3, 0, "channels", channels, "1 or 3");
    check(height >= 1 && height <= 64, 0, "height", height, "1 to 64");
    check(width >= 1 && width <= 64, 0, "width", width, "1 to 64");
    for (std::size_t l = 0; l < stack.layers.size(); ++l) {
        const ConvLayer& s = stack.layers[l];
        check(s.in_channels == channels, l, "in_channels", s.in_channels, "the maps of the layer below");
        check(s.in_height == height && s.in_width == width, l, "in_height", s.in_height, "the size below");
        check(s.maps >= 1 && s.maps <= 256, l, "maps", s.maps, "1 to 256");
        for (const int kernel : {s.kernel_h, s.kernel_w})
            check(kernel >= 1 && kernel <= 7, l, "kernel", kernel, "1 to 7");
        for (const int stride : {s.stride_h, s.stride_w})
            check(stride >= 1 && stride <= 2, l, "stride", stride, "1 or 2");
        for (const int pool : {s.pool_h, s.pool_w}) check(pool >= 1 && pool <= 3, l, "pool", pool, "1 to 3");
        for (const int stride : {s.pool_stride_h, s.pool_stride_w})
            check(stride >= 1 && stride <= 3, l, "pool stride", stride, "1 to 3");
        check(s.pad_top >= 0 && s.pad_top < s.kernel_h, l, "pad_top", s.pad_top, "0 to kernel - 1");
        check(s.pad_left >= 0 && s.pad_left < s.kernel_w, l, "pad_left", s.pad_left, "0 to kernel - 1");
        check(s.pool_top >= 0 && s.pool_top < s.pool_h, l, "pool_top", s.pool_top, "0 to pool - 1");
        check(s.pool_left >= 0 && s.pool_left < s.pool_w, l, "pool_left", s.pool_left, "0 to pool - 1");
        check(s.pool != Pool::average || (s.pool_top == 0 && s.pool_left == 0), l, "pool_top", s.pool_top,
              "0 for an average");
        check(s.out_height >= 1 && s.out_height <= 96, l, "out_height", s.out_height, "1 to 96");
        check(s.out_width >= 1 && s.out_width <= 96, l, "out_width", s.out_width, "1 to 96");
        // The end padding may not exceed a kernel, or whole windows would see nothing.
        check((s.out_height - 1) * s.stride_h - s.pad_top < s.in_height, l, "out_height", s.out_height,
              "reached by the input");
        check((s.out_width - 1) * s.stride_w - s.pad_left < s.in_width, l, "out_width", s.out_width,
              "reached by the input");
        check((s.pooled_height - 1) * s.pool_stride_h - s.pool_top < s.out_height && s.pooled_height >= 1, l,
              "pooled_height", s.pooled_height, "reached by the convolution");
        check((s.pooled_width - 1) * s.pool_stride_w - s.pool_left < s.out_width && s.pooled_width >= 1, l,
              "pooled_width", s.pooled_width, "reached by the convolution");
        if (!(s.slope >= 0.0f && s.slope < 1e6f))
            throw std::invalid_argument("layer " + std::to_string(l + 1) + ": slope: must be 0 to 1e6");
        check(s.weights.size() == std::size_t(s.maps) * std::size_t(s.in_channels * s.kernel_h * s.kernel_w),
              l, "weights", int(s.weights.size()), "maps * in_channels * kernel");
        check(s.bias.size() == std::size_t(s.maps), l, "bias", int(s.bias.size()), "maps long");
        check(l + 1 < stack.layers.size() || s.pool == Pool::none, l, "pool", int(s.pool),
              "none in the last layer");
        channels = s.maps, height = s.pooled_height, width = s.pooled_width;
    }
}

}  // namespace pyoip
