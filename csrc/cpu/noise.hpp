// What start images are made of, on one plane (a channel of an image): functions written once in
// noise.inl and compiled per instruction set by noise_*.cpp. They add, multiply, divide and take
// roots of single numbers in a fixed order, without contraction, so that all sets give the same bits.
#pragma once

#include <cstdint>

#include "../grids.hpp"

namespace pyoip::cpu {

constexpr int kRun = 8;  // pixels that are upsampled at once

// From which cells kRun neighbouring pixels are made: `count` of them in ascending order, and how
// much each gives to each pixel (count, kRun).
struct Run {
    int first, count;
    const float* weights;
};

struct Noise {
    // out (count): standard normal values (Philox4x32-10, Box-Muller).
    void (*normal_values)(const Draw&, float* out, std::int64_t count);
    // rows (cells_h, stride) = weight * cells (cells_h, cells_w), each row upsampled by `runs`
    // (stride / kRun).
    void (*widen)(const float* cells, float weight, int cells_h, int cells_w, const Run* runs, int stride,
                  float* rows);
    // out (height, width) = before + rows (…, stride), upsampled down the columns by `taps` (height).
    void (*add_upsampled)(const float* before, const float* rows, const Taps* taps, int stride, int height,
                          int width, float* out);
    // out (count) = before + weight * cells.
    void (*add_scaled)(const float* before, const float* cells, float weight, std::int64_t count, float* out);
    // out (height, width): the 3x3 binomial blur (1 2 1)/4 x (1 2 1)/4, edges replicated. out may
    // be `plane`; scratch: (height * width + 2).
    void (*blur)(const float* plane, int height, int width, float* scratch, float* out);
    // Zero mean and unit standard deviation of each image (count); `apart` between two of them.
    void (*standardize)(float* images, std::int64_t apart, std::int64_t number, std::int64_t count);
    // The same, and then four deviations span the box, beyond which it is clipped.
    void (*clip)(float* images, std::int64_t apart, std::int64_t number, std::int64_t count, float low,
                 float high);
};

const Noise& baseline_noise();
const Noise& avx2_noise();  // where the build has them, see CMakeLists.txt
const Noise& avx512_noise();

}  // namespace pyoip::cpu
