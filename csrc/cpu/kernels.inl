// All kernels for one instruction set. The including file defines PYOIP_LANES,
// PYOIP_ISA_NAME and PYOIP_NOISE; everything has internal linkage, so that sets never mix.
#include <sched.h>

#include <utility>

#include "kernels.hpp"
#include "winograd.hpp"

namespace pyoip::cpu {
namespace {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "codes are packed and compared as words");

#include "vector.inl"

#include "activation.inl"

#include "team.inl"

#include "pool.inl"

#include "conv_direct.inl"

#include "conv_winograd.inl"

#include "conv_narrow.inl"

#include "forward.inl"

#include "dot.inl"

#include "conv_backward.inl"

#include "image_gradient.inl"

#include "pixels.inl"

#include "answer.inl"

#include "first_layer.inl"

#include "evaluate.inl"

#include "ascent.inl"

#include "peak.inl"

constexpr Kernels kKernels{PYOIP_ISA_NAME, PYOIP_LANES, PYOIP_NOISE, score,   activations,
                           gradient,       ascend,      assist,      dismiss, multiply_adds};

}  // namespace
}  // namespace pyoip::cpu
