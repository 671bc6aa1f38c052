// The grids of normal values that start images are made of: which values they hold, and how one is laid
// over pixels. The same for all processors.
#pragma once

#include <cstdint>
#include <vector>

namespace pyoip {

// Which grid: `stream` < 2^24, `slot` < 2^8 (the number of the scale). Its value i is value
// i % kDrawn of counter i / kDrawn; see normal.inl.
struct Draw {
    std::uint64_t seed;
    std::uint32_t stream, slot;
    std::uint64_t index;
};

constexpr int kDrawn = 4;  // values of a counter
constexpr int kTaps = 4;   // cells that a bicubic pixel lies between

// From which cells a pixel is made, along one side, in ascending order; what is too many weighs 0.
struct Taps {
    int cells[kTaps];
    float weights[kTaps];
};

// The taps of `size` pixels over `cells` cells: Keys' cubic convolution (a = -1/2), pixel centres
// aligned, edges replicated.
std::vector<Taps> bicubic(int cells, int size);

}  // namespace pyoip
