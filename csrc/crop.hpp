// How much of each layer the target's outputs can see. The rest is never computed.
#pragma once

#include <vector>

#include "stack.hpp"

namespace pyoip {

// Rows and columns of one layer: of its input, of its convolution and, behind it, of its pool.
struct Extent {
    int in_height, in_width, out_height, out_width, pooled_height, pooled_width;
};

std::vector<Extent> crop(const Stack& stack);

// A 2x2 maximum whose windows tile the cropped convolution.
bool pools_quads(const ConvLayer& layer, const Extent& extent);

}  // namespace pyoip
