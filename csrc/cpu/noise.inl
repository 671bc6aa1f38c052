// Loops run over blocks that the compiler can use vectors for; nothing depends on how wide these
// are. Nothing here may call an inline function of the standard library: the linker could keep the
// copy that was compiled for the widest instruction set.
#include "noise.hpp"

namespace pyoip::cpu {
namespace {

constexpr int kBlock = 32;  // Philox counters, four values each, drawn at a time

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
void philox(std::uint32_t first, const Draw& draw, std::uint32_t (&out)[4][kBlock]) {
    const std::uint32_t c1 = (draw.stream << 8) | draw.slot;
    const auto c2 = std::uint32_t(draw.index), c3 = std::uint32_t(draw.index >> 32);
    for (int i = 0; i < kBlock; ++i) {
        std::uint32_t x0 = first + std::uint32_t(i), x1 = c1, x2 = c2, x3 = c3;
        auto k0 = std::uint32_t(draw.seed), k1 = std::uint32_t(draw.seed >> 32);
        for (int round = 0; round < 10; ++round) {
            const std::uint64_t p0 = std::uint64_t(0xD2511F53u) * x0;
            const std::uint64_t p1 = std::uint64_t(0xCD9E8D57u) * x2;
            const std::uint32_t y0 = std::uint32_t(p1 >> 32) ^ x1 ^ k0;
            const std::uint32_t y2 = std::uint32_t(p0 >> 32) ^ x3 ^ k1;
            x1 = std::uint32_t(p1), x3 = std::uint32_t(p0), x0 = y0, x2 = y2;
            k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
        }
        out[0][i] = x0, out[1][i] = x1, out[2][i] = x2, out[3][i] = x3;
    }
}

// sqrt(-2 ln u) for u = (bits / 2^8 + 1) / 2^24 in (0, 1]: mantissa brought to
// [sqrt(1/2), sqrt(2)), then ln m = 2 artanh((m - 1) / (m + 1)) as its power series.
inline float radius(std::uint32_t bits) {
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
inline void polar(float r, std::uint32_t bits, float& first, float& second) {
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

void normal_values(const Draw& draw, float* out, std::int64_t count) {
    std::uint32_t bits[4][kBlock];
    float values[kBlock][4];
    for (std::int64_t at = 0; at < count; at += 4 * kBlock) {
        philox(std::uint32_t(at / 4), draw, bits);
        for (int i = 0; i < kBlock; ++i) {
            polar(radius(bits[0][i]), bits[1][i], values[i][0], values[i][1]);
            polar(radius(bits[2][i]), bits[3][i], values[i][2], values[i][3]);
        }
        const std::int64_t left = count - at < 4 * kBlock ? count - at : 4 * kBlock;
        __builtin_memcpy(out + at, values, std::size_t(left) * sizeof(float));
    }
}

void widen(const float* cells, float weight, int cells_h, int cells_w, const Run* runs, int stride,
           float* rows) {
    __builtin_memset(rows, 0, std::size_t(cells_h) * std::size_t(stride) * sizeof(float));
    for (int r = 0; r < cells_h; ++r) {
        float* row = rows + std::int64_t(r) * stride;
        for (int c = 0; c < cells_w; ++c) {
            const float value = cells[std::int64_t(r) * cells_w + c] * weight;
            const auto [first, length, weights] = runs[c];
            for (int x = 0; x < length; x += kRun)  // what a cell gives nothing to gains 0
                for (int lane = 0; lane < kRun; ++lane) row[first + x + lane] += value * weights[x + lane];
        }
    }
}

void add_upsampled(const float* before, const float* rows, const Taps* taps, int stride, int height,
                   int width, float* __restrict out) {
    for (int y = 0; y < height; ++y, before += width, out += width) {
        const auto& [at, w] = taps[y];
        const float* row[kTaps];
        for (int tap = 0; tap < kTaps; ++tap) row[tap] = rows + std::int64_t(at[tap]) * stride;
        for (int x = 0; x < width; ++x)
            out[x] =
                (((before[x] + row[0][x] * w[0]) + row[1][x] * w[1]) + row[2][x] * w[2]) + row[3][x] * w[3];
    }
}

void add_scaled(const float* before, const float* cells, float weight, std::int64_t count,
                float* __restrict out) {
    for (std::int64_t i = 0; i < count; ++i) out[i] = before[i] + cells[i] * weight;
}

inline float blurred(float before, float here, float after) { return 0.25f * (before + after) + 0.5f * here; }

// Both passes run over the plane as one row of numbers, which is quicker than many short rows, and
// then mend what had its neighbour in another row.
void blur(const float* plane, int height, int width, float* scratch, float* out) {
    const std::int64_t count = std::int64_t(height) * width, last = count - width;
    const std::int64_t below = height > 1 ? width : 0;
    float* __restrict columns = scratch + 1;  // so that the numbers beside the first and last are there
    for (int x = 0; x < width; ++x) {
        columns[x] = blurred(plane[x], plane[x], plane[below + x]);
        columns[last + x] = blurred(plane[last - below + x], plane[last + x], plane[last + x]);
    }
    for (std::int64_t i = width; i < last; ++i)
        columns[i] = blurred(plane[i - width], plane[i], plane[i + width]);
    columns[-1] = columns[count] = 0.0f;
    for (std::int64_t i = 0; i < count; ++i) out[i] = blurred(columns[i - 1], columns[i], columns[i + 1]);
    for (std::int64_t i = 0; i < count; i += width) {
        const float* row = columns + i;
        const int right = width - 1, second = width > 1 ? 1 : 0;
        out[i] = blurred(row[0], row[0], row[second]);
        out[i + right] = blurred(row[right - second], row[right], row[right]);
    }
}

// A sum in double over eight interleaved partial sums: quick, and the same everywhere.
template <class Term>
inline double lane_sum(std::int64_t count, const Term& term) {
    double lanes[8] = {};
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (int lane = 0; lane < 8; ++lane) lanes[lane] += term(i + lane);
    for (; i < count; ++i) lanes[i & 7] += term(i);
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

struct Moments {
    float mean, scale;  // 1 / standard deviation
};

Moments moments(const float* image, std::int64_t count) {
    const double sum = lane_sum(count, [=](std::int64_t i) { return double(image[i]); });
    const auto mean = float(sum / double(count));
    const double square = lane_sum(count, [=](std::int64_t i) {
        const auto centred = double(image[i] - mean);
        return centred * centred;
    });
    const double deviation = __builtin_sqrt(square / double(count));
    return {mean, float(1.0 / (deviation < 1e-30 ? 1e-30 : deviation))};
}

void standardize(float* image, std::int64_t count) {
    const auto [mean, scale] = moments(image, count);
    for (std::int64_t i = 0; i < count; ++i) image[i] = (image[i] - mean) * scale;
}

void clip(float* image, std::int64_t count, float low, float high) {
    const auto [mean, scale] = moments(image, count);
    const float middle = 0.5f * (low + high), spread = 0.25f * (high - low) * scale;
    for (std::int64_t i = 0; i < count; ++i) {
        const float value = middle + spread * (image[i] - mean);
        image[i] = value < low ? low : high < value ? high : value;
    }
}

constexpr Noise kNoise{normal_values, widen, add_upsampled, add_scaled, blur, standardize, clip};

}  // namespace
}  // namespace pyoip::cpu
