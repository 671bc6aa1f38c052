// Start images: normal values on grids of several cell sizes, upsampled and summed.
//
// Everything here is counter-based: value i of a grid is a pure function of (seed, stream,
// image index, scale, i). The arithmetic uses IEEE additions, multiplications, divisions and
// square roots only, without contraction, so that the normal values have the same bits on
// every machine; pyoip/reference.py repeats them in NumPy.
#pragma once

#include <cstdint>
#include <vector>

#include "parallel.hpp"
#include "stack.hpp"

namespace pyoip {

// Fills out with `count` standard normal values (Philox4x32-10, Box-Muller).
// `stream` < 2^24, `slot` < 2^8 (the number of the scale).
void normal_values(std::uint64_t seed, std::uint32_t stream, std::uint32_t slot, std::uint64_t index,
                   float* out, std::int64_t count);

struct Cells {
    int height = 0, width = 0;  // of the grid of a scale
};

struct Mix {
    std::vector<float> weights;  // one of each scale
    int smoothing = 0;           // passes of the 3x3 binomial blur
};

struct FluctuationSettings {
    std::uint64_t seed = 0;
    std::uint32_t stream = 0;
    std::vector<Cells> scales;
    std::vector<Mix> mixes;
    Constraint constraint = Constraint::standardize;
    float low = 0.0f, high = 1.0f;
};

// images (mixes, count, C, H, W) of the pool's images `indices` (count): the same normal values,
// drawn once, in all mixes; those of a mix are what it makes alone. False when cancelled.
bool start_images(const FluctuationSettings& settings, int channels, int height, int width,
                  const std::uint64_t* indices, std::int64_t count, float* images, int threads,
                  const Poll& poll);

}  // namespace pyoip
