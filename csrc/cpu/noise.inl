// Loops run over blocks that the compiler can use vectors for; nothing depends on how wide these
// are. Nothing here may call an inline function of the standard library: the linker could keep the
// copy that was compiled for the widest instruction set.
#include "noise.hpp"

namespace pyoip::cpu {
namespace {

constexpr int kBlock = 32;  // counters drawn at a time

#define PYOIP_NORMAL inline
#include "../normal.inl"
#undef PYOIP_NORMAL

void normal_values(const Draw& draw, float* out, std::int64_t count) {
    std::uint32_t bits[kDrawn][kBlock];
    float values[kBlock][kDrawn];
    for (std::int64_t at = 0; at < count; at += kDrawn * kBlock) {
        for (int i = 0; i < kBlock; ++i) {
            std::uint32_t b[kDrawn];
            philox(std::uint32_t(at / kDrawn) + std::uint32_t(i), draw, b);
            for (int word = 0; word < kDrawn; ++word) bits[word][i] = b[word];
        }
        for (int i = 0; i < kBlock; ++i)
            normals_of(bits[0][i], bits[1][i], bits[2][i], bits[3][i], values[i]);
        const std::int64_t left = count - at < kDrawn * kBlock ? count - at : kDrawn * kBlock;
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
