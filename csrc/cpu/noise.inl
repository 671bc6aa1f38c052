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
    for (int r = 0; r < cells_h; ++r, cells += cells_w) {
        for (const Run* run = runs; run != runs + stride / kRun; ++run, rows += kRun) {
            float sum[kRun] = {};
            for (int c = 0; c < run->count; ++c) {  // what a cell gives nothing to gains 0
                const float value = cells[run->first + c] * weight;
                for (int lane = 0; lane < kRun; ++lane) sum[lane] += value * run->weights[c * kRun + lane];
            }
            __builtin_memcpy(rows, sum, sizeof sum);
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

constexpr int kImages = 4;  // whose sums run side by side: each alone waits for its own additions
constexpr int kLanes = 8;   // partial sums of each, interleaved

typedef float Floats __attribute__((vector_size(kLanes * sizeof(float))));
typedef double Doubles __attribute__((vector_size(kLanes * sizeof(double))));

// __builtin_convertvector would take the halves one by one.
inline Doubles wide(const Floats& values) {
    Doubles out = {};
    for (int lane = 0; lane < kLanes; ++lane) out[lane] = double(values[lane]);
    return out;
}

// Sums of term(x - centre) in double over images (count), the same everywhere.
template <int images, class Term>
inline void lane_sums(const float* first, std::int64_t apart, std::int64_t count,
                      const float (&centres)[images], double (&sums)[images], const Term& term) {
    Doubles lanes[images] = {};
    std::int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
        for (int n = 0; n < images; ++n) {
            Floats values;
            __builtin_memcpy(&values, first + n * apart + i, sizeof values);
            lanes[n] += term(wide(values - centres[n]));
        }
    for (int n = 0; n < images; ++n) {
        Floats values = centres[n] - Floats{};  // behind the last pixel: adds 0
        __builtin_memcpy(&values, first + n * apart + i, std::size_t(count - i) * sizeof(float));
        const Doubles of = lanes[n] + term(wide(values - centres[n]));
        sums[n] = ((of[0] + of[4]) + (of[2] + of[6])) + ((of[1] + of[5]) + (of[3] + of[7]));
    }
}

// Calls move(image, mean, 1 / standard deviation) for each image.
template <int images, class Move>
inline void centre(float* first, std::int64_t apart, std::int64_t count, const Move& move) {
    double sums[images];
    float means[images] = {};
    lane_sums(first, apart, count, means, sums, [](const Doubles& x) { return x; });
    for (int n = 0; n < images; ++n) means[n] = float(sums[n] / double(count));
    lane_sums(first, apart, count, means, sums, [](const Doubles& x) { return x * x; });
    for (int n = 0; n < images; ++n) {
        const double deviation = __builtin_sqrt(sums[n] / double(count));
        move(first + n * apart, means[n], float(1.0 / (deviation < 1e-30 ? 1e-30 : deviation)));
    }
}

template <class Move>
inline void centre_all(float* images, std::int64_t apart, std::int64_t number, std::int64_t count,
                       const Move& move) {
    for (; number >= kImages; number -= kImages, images += kImages * apart)
        centre<kImages>(images, apart, count, move);
    for (; number > 0; --number, images += apart) centre<1>(images, apart, count, move);
}

void standardize(float* images, std::int64_t apart, std::int64_t number, std::int64_t count) {
    centre_all(images, apart, number, count, [=](float* image, float mean, float scale) {
        for (std::int64_t i = 0; i < count; ++i) image[i] = (image[i] - mean) * scale;
    });
}

void clip(float* images, std::int64_t apart, std::int64_t number, std::int64_t count, float low, float high) {
    const float middle = 0.5f * (low + high), half = 0.25f * (high - low);
    centre_all(images, apart, number, count, [=](float* image, float mean, float scale) {
        const float spread = half * scale;
        for (std::int64_t i = 0; i < count; ++i) {
            const float value = middle + spread * (image[i] - mean);
            image[i] = value < low ? low : high < value ? high : value;
        }
    });
}

constexpr Noise kNoise{normal_values, widen, add_upsampled, add_scaled, blur, standardize, clip};

}  // namespace
}  // namespace pyoip::cpu
