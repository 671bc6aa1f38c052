#include "noise.inl"

namespace pyoip::cpu {
const Noise& avx2_noise() { return kNoise; }
}  // namespace pyoip::cpu
