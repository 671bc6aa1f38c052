#include "grids.hpp"

#include <algorithm>
#include <cmath>

namespace pyoip {
namespace {

double cubic(double distance) {
    const double d = std::abs(distance);
    return d < 1.0 ? (1.5 * d - 2.5) * d * d + 1.0 : d < 2.0 ? ((-0.5 * d + 2.5) * d - 4.0) * d + 2.0 : 0.0;
}

}  // namespace

std::vector<Taps> bicubic(int cells, int size) {
    std::vector<Taps> taps(static_cast<std::size_t>(size), Taps{});
    for (int x = 0; x < size; ++x) {
        const double place = (x + 0.5) * cells / size - 0.5;
        const int left = int(std::floor(place));
        Taps& pixel = taps[static_cast<std::size_t>(x)];
        int found = 0;
        for (int tap = left - 1; tap <= left + 2; ++tap) {
            const int cell = std::clamp(tap, 0, cells - 1);
            if (found == 0 || pixel.cells[found - 1] != cell) pixel.cells[found++] = cell;
            pixel.weights[found - 1] += float(cubic(place - tap));
        }
    }
    return taps;
}

}  // namespace pyoip
