// All kernels for one instruction set. The including file defines PYOIP_LANES and
// PYOIP_ISA_NAME; everything has internal linkage, so that sets never mix.
#include "kernels.hpp"

namespace pyoip::cpu {
namespace {

#include "vector.inl"

#include "conv_forward.inl"

#include "conv_backward.inl"

#include "first_layer.inl"

#include "evaluate.inl"

#include "ascent.inl"

#include "peak.inl"

constexpr Kernels kKernels{PYOIP_ISA_NAME, PYOIP_LANES, score, activations, gradient, ascend, multiply_adds};

}  // namespace
}  // namespace pyoip::cpu
