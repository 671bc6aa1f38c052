#include "noise.inl"

namespace pyoip::cpu {
const Noise& baseline_noise() { return kNoise; }
}  // namespace pyoip::cpu
