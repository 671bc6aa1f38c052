// Bound: about 1040 normal values and 20k multiply-adds an image of 28x28, that is 10 to 15 us
// a thread. Loops run over blocks of counters so that the compiler can use vectors; nothing
// depends on how wide they are.
#include "fluctuations.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace pyoip {
namespace {

constexpr int kBlock = 64;  // Philox counters, four values each, drawn at a time

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
void philox(std::uint32_t first, std::uint32_t c1, std::uint32_t c2, std::uint32_t c3, std::uint64_t seed,
            std::uint32_t (&out)[4][kBlock]) {
    for (int i = 0; i < kBlock; ++i) {
        std::uint32_t x0 = first + std::uint32_t(i), x1 = c1, x2 = c2, x3 = c3;
        auto k0 = std::uint32_t(seed), k1 = std::uint32_t(seed >> 32);
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
    const auto raw = std::bit_cast<std::int32_t>(u);
    const std::int32_t above = raw - std::bit_cast<std::int32_t>(0.70710678f);
    const std::int32_t exponent = above >> 23;
    const float m = std::bit_cast<float>(raw - exponent * (1 << 23));
    const float s = (m - 1.0f) / (m + 1.0f), s2 = s * s;
    float series = 1.0f / 11.0f;
    series = series * s2 + 1.0f / 9.0f;
    series = series * s2 + 1.0f / 7.0f;
    series = series * s2 + 1.0f / 5.0f;
    series = series * s2 + 1.0f / 3.0f;
    const float tail = (s * s2) * series;
    const float ln = float(exponent - 24) * 0.69314718f + 2.0f * (s + tail);
    return std::sqrt(std::max(-2.0f * ln, 0.0f));
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

// How much a cell gives to a run of neighbouring pixels; to all others it gives nothing.
struct Spread {
    int first = 0;
    std::vector<float> weights;
};

// Spreads of `cells` over `size` pixels: Keys' cubic convolution (a = -1/2), pixel centres
// aligned, edges replicated.
std::vector<Spread> bicubic(int cells, int size) {
    std::vector<Spread> spreads(static_cast<std::size_t>(cells));
    for (int x = 0; x < size; ++x) {
        const double at = (x + 0.5) * cells / size - 0.5;
        const int left = int(std::floor(at));
        for (int tap = left - 1; tap <= left + 2; ++tap) {
            const double d = std::abs(at - tap);
            const double w = d < 1.0   ? (1.5 * d - 2.5) * d * d + 1.0
                             : d < 2.0 ? ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0
                                       : 0.0;
            Spread& spread = spreads[std::size_t(std::clamp(tap, 0, cells - 1))];
            if (spread.weights.empty()) spread.first = x;
            spread.weights.resize(std::size_t(x - spread.first + 1), 0.0f);
            spread.weights.back() += float(w);
        }
    }
    return spreads;
}

struct PreparedScale {
    Scale scale;
    std::vector<Spread> across, down;  // of cells_w over width, of cells_h over height
};

// out (height, width) += weight * upsampled grid (cells_h, cells_w); rows: (cells_h, width).
void add_upsampled(const PreparedScale& prepared, const float* grid, int width, float* rows, float* out) {
    const auto [cells_h, cells_w, weight] = prepared.scale;
    for (int r = 0; r < cells_h; ++r) {
        float* row = rows + r * width;
        std::fill_n(row, width, 0.0f);
        for (int c = 0; c < cells_w; ++c) {
            const float value = grid[r * cells_w + c] * weight;
            const auto& [first, weights] = prepared.across[std::size_t(c)];
            float* run = row + first;
            for (std::size_t x = 0; x < weights.size(); ++x) run[x] += value * weights[x];
        }
    }
    for (int r = 0; r < cells_h; ++r) {
        int y = prepared.down[std::size_t(r)].first;
        for (const float w : prepared.down[std::size_t(r)].weights) {
            for (int x = 0; x < width; ++x) out[y * width + x] += rows[r * width + x] * w;
            ++y;
        }
    }
}

// A sum in double over eight interleaved partial sums: quick, and the same everywhere.
template <class Term>
double lane_sum(std::int64_t count, const Term& term) {
    double lanes[8] = {};
    std::int64_t i = 0;
    for (; i + 8 <= count; i += 8)
        for (int lane = 0; lane < 8; ++lane) lanes[lane] += term(i + lane);
    for (; i < count; ++i) lanes[i & 7] += term(i);
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// Zero mean and unit standard deviation; for the box, four deviations then span it.
void constrain(const FluctuationSettings& settings, float* image, std::int64_t count) {
    const double mean = lane_sum(count, [&](std::int64_t i) { return double(image[i]); }) / double(count);
    const auto centre = float(mean);
    for (std::int64_t i = 0; i < count; ++i) image[i] -= centre;
    const double square =
        lane_sum(count, [&](std::int64_t i) { return double(image[i]) * double(image[i]); });
    const auto scale = float(1.0 / std::max(std::sqrt(square / double(count)), 1e-30));
    if (settings.constraint == Constraint::standardize) {
        for (std::int64_t i = 0; i < count; ++i) image[i] *= scale;
        return;
    }
    const float middle = 0.5f * (settings.low + settings.high);
    const float spread = 0.25f * (settings.high - settings.low) * scale;
    for (std::int64_t i = 0; i < count; ++i)
        image[i] = std::clamp(middle + spread * image[i], settings.low, settings.high);
}

}  // namespace

void normal_values(std::uint64_t seed, std::uint32_t stream, std::uint32_t slot, std::uint64_t index,
                   float* out, std::int64_t count) {
    std::uint32_t bits[4][kBlock];
    float values[kBlock][4];
    for (std::int64_t at = 0; at < count; at += 4 * kBlock) {
        philox(std::uint32_t(at / 4), (stream << 8) | slot, std::uint32_t(index), std::uint32_t(index >> 32),
               seed, bits);
        for (int i = 0; i < kBlock; ++i) {
            polar(radius(bits[0][i]), bits[1][i], values[i][0], values[i][1]);
            polar(radius(bits[2][i]), bits[3][i], values[i][2], values[i][3]);
        }
        std::copy_n(&values[0][0], std::min<std::int64_t>(4 * kBlock, count - at), out + at);
    }
}

void blur(float* image, int channels, int height, int width, float* scratch) {
    float *above = scratch, *here = scratch + width;
    for (int c = 0; c < channels; ++c) {
        float* plane = image + std::int64_t(c) * height * width;
        std::copy_n(plane, width, above);  // down the columns, rows overwritten as they are done
        for (int y = 0; y < height; ++y) {
            float* row = plane + std::int64_t(y) * width;
            const float* below = y + 1 < height ? row + width : row;
            std::copy_n(row, width, here);
            for (int x = 0; x < width; ++x) row[x] = 0.25f * (above[x] + below[x]) + 0.5f * here[x];
            std::swap(above, here);
        }
        for (int y = 0; y < height; ++y) {  // along the rows
            float* row = plane + std::int64_t(y) * width;
            float left = row[0];
            for (int x = 0; x < width; ++x) {
                const float centre = row[x], right = x + 1 < width ? row[x + 1] : centre;
                row[x] = 0.25f * (left + right) + 0.5f * centre;
                left = centre;
            }
        }
    }
}

bool start_images(const FluctuationSettings& settings, int channels, int height, int width,
                  const std::uint64_t* indices, std::int64_t count, float* images, int threads,
                  const Poll& poll) {
    threads = int(std::clamp<std::int64_t>(count, 1, threads));
    std::vector<PreparedScale> scales;
    std::int64_t cells = 0, rows = 0;
    for (const Scale& scale : settings.scales) {
        const bool same = scale.cells_h == height && scale.cells_w == width;
        scales.push_back({scale, {}, {}});
        if (!same) scales.back().across = bicubic(scale.cells_w, width);
        if (!same) scales.back().down = bicubic(scale.cells_h, height);
        cells = std::max<std::int64_t>(cells, std::int64_t(scale.cells_h) * scale.cells_w);
        rows = std::max<std::int64_t>(rows, scale.cells_h);
    }
    const std::int64_t plane = std::int64_t(height) * width, pixels = channels * plane;
    const std::int64_t scratch_size = channels * cells + rows * width + 2 * width;
    std::vector<std::vector<float>> scratch(static_cast<std::size_t>(threads),
                                            std::vector<float>(static_cast<std::size_t>(scratch_size)));

    return parallel_for(count, threads, poll, [&](int thread, std::int64_t i, const bool*) {
        float* image = images + i * pixels;
        float* grid = scratch[std::size_t(thread)].data();
        float *row_buffer = grid + channels * cells, *blur_buffer = row_buffer + rows * width;
        std::fill_n(image, pixels, 0.0f);
        for (std::uint32_t slot = 0; slot < scales.size(); ++slot) {
            const PreparedScale& prepared = scales[slot];
            const auto [cells_h, cells_w, weight] = prepared.scale;
            const std::int64_t grid_size = std::int64_t(cells_h) * cells_w;
            if (weight == 0.0f) continue;
            normal_values(settings.seed, settings.stream, slot, indices[i], grid, channels * grid_size);
            for (int c = 0; c < channels; ++c) {
                const float* cell = grid + c * grid_size;
                float* out = image + c * plane;
                if (cells_h == height && cells_w == width) {
                    for (std::int64_t p = 0; p < plane; ++p) out[p] += cell[p] * weight;
                } else {
                    add_upsampled(prepared, cell, width, row_buffer, out);
                }
            }
        }
        for (int pass = 0; pass < settings.smoothing; ++pass)
            blur(image, channels, height, width, blur_buffer);
        constrain(settings, image, pixels);
    });
}

}  // namespace pyoip
