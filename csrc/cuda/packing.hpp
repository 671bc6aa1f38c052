// Weights in the orders that the matrix products and the rows of the kernels read them in.
#pragma once

#include <vector>

#include "plan.hpp"

namespace pyoip::cuda {

// Column tiles that a warp takes at a time: as many as leave at most a fifth of the work unused.
int choose_group(int tiles, int most = 4);

// All weights of a layer, in the layouts that its plan says.
HostPlan::Weights pack(const ConvLayer& layer, const LayerPlan& plan, bool first, bool target);

}  // namespace pyoip::cuda
