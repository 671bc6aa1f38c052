#include "noise.inl"

namespace pyoip::cpu {
const Noise& avx512_noise() { return kNoise; }
}  // namespace pyoip::cpu
