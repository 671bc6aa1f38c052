// Standard normal values by number: one definition for all processors, to the bit. Included after
// grids.hpp, in an unnamed namespace, so that every instruction set and device has a copy of its own;
// its functions are declared as PYOIP_NORMAL says. They add, multiply, divide and take roots of single
// numbers in a fixed order, and are to be compiled without contraction.

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
PYOIP_NORMAL void philox(std::uint32_t counter, const Draw& draw, std::uint32_t (&out)[kDrawn]) {
    std::uint32_t x0 = counter, x1 = (draw.stream << 8) | draw.slot;
    std::uint32_t x2 = std::uint32_t(draw.index), x3 = std::uint32_t(draw.index >> 32);
    std::uint32_t k0 = std::uint32_t(draw.seed), k1 = std::uint32_t(draw.seed >> 32);
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t p0 = std::uint64_t(0xD2511F53u) * x0;
        const std::uint64_t p1 = std::uint64_t(0xCD9E8D57u) * x2;
        const std::uint32_t y0 = std::uint32_t(p1 >> 32) ^ x1 ^ k0;
        const std::uint32_t y2 = std::uint32_t(p0 >> 32) ^ x3 ^ k1;
        x1 = std::uint32_t(p1), x3 = std::uint32_t(p0), x0 = y0, x2 = y2;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    out[0] = x0, out[1] = x1, out[2] = x2, out[3] = x3;
}

// sqrt(-2 ln u) for u = (bits / 2^8 + 1) / 2^24 in (0, 1]: mantissa brought to
// [sqrt(1/2), sqrt(2)), then ln m = 2 artanh((m - 1) / (m + 1)) as its power series.
PYOIP_NORMAL float radius(std::uint32_t bits) {
    const auto u = float(std::int32_t(bits >> 8) + 1);
    const auto raw = __builtin_bit_cast(std::int32_t, u);
    const std::int32_t above = raw - __builtin_bit_cast(std::int32_t, 0.70710678f);
    const std::int32_t exponent = above >> 23;
    const float m = __builtin_bit_cast(float, raw - exponent * (1 << 23));
    const float s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
    float series = 1.0f / 11.0f;
    series = series * s2 + 1.0f / 9.0f;
    series = series * s2 + 1.0f / 7.0f;
    series = series * s2 + 1.0f / 5.0f;
    series = series * s2 + 1.0f / 3.0f;
    const float tail = (s * s2) * series;
    const float ln = float(exponent - 24) * 0.69314718f + 2.0f * (s + tail);
    const float square = -2.0f * ln;
    return __builtin_sqrtf(square < 0.0f ? 0.0f : square);
}

// r cos(a) and r sin(a) for a = 2 pi bits / 2^32: the two top bits choose the quadrant,
// the rest is an angle in [-pi/4, pi/4) for short power series.
PYOIP_NORMAL void polar(float r, std::uint32_t bits, float& first, float& second) {
    const std::uint32_t shifted = bits + 0x20000000u;
    const std::uint32_t quadrant = shifted >> 30;
    const auto offset = std::int32_t(shifted & 0x3FFFFFFFu) - 0x20000000;
    const float a = float(offset) * (1.57079633f / 1073741824.0f), a2 = a * a;
    float sine = 1.0f / 362880.0f;
    sine = sine * a2 - 1.0f / 5040.0f;
    sine = sine * a2 + 1.0f / 120.0f;
    sine = sine * a2 - 1.0f / 6.0f;
    sine = (a * a2) * sine + a;
    float cosine = 1.0f / 40320.0f;
    cosine = cosine * a2 - 1.0f / 720.0f;
    cosine = cosine * a2 + 1.0f / 24.0f;
    cosine = cosine * a2 - 0.5f;
    cosine = cosine * a2 + 1.0f;
    const bool swap = (quadrant & 1u) != 0;
    const float x = swap ? sine : cosine, y = swap ? cosine : sine;
    const float sign_x = (quadrant == 1u || quadrant == 2u) ? -r : r;
    const float sign_y = quadrant >= 2u ? -r : r;
    first = sign_x * x, second = sign_y * y;
}

// The four values of a counter's bits (Box-Muller, twice).
PYOIP_NORMAL void normals_of(std::uint32_t b0, std::uint32_t b1, std::uint32_t b2, std::uint32_t b3,
                             float (&out)[kDrawn]) {
    polar(radius(b0), b1, out[0], out[1]);
    polar(radius(b2), b3, out[2], out[3]);
}
