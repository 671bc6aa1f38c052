// Whole numbers that kernels divide by: a device has no instruction for it, and makes some twenty of a
// division by a number it does not know. The quotient here is a product's upper half.
#pragma once

#include <cstdint>

namespace pyoip::cuda {

// Divides numbers in 0 ... 2^16 by one in 1 ... 2^16: with m = ceil(2^32 / d) = (2^32 + e) / d and
// e < d, a m / 2^32 is a / d + a e / (d 2^32), and the rest is less than 1 / d where a e < 2^32. That
// m does not fit 32 bits for d = 1, where there is nothing to do.
class Divisor {
public:
    Divisor() = default;
    constexpr Divisor(int by)
        : by_(by), upper_(by == 1 ? 0 : unsigned(((1ull << 32) + unsigned(by) - 1) / unsigned(by))) {}

    constexpr operator int() const { return by_; }

    friend constexpr int operator/(int a, Divisor d) {
        return d.by_ == 1 ? a : int((std::uint64_t(unsigned(a)) * d.upper_) >> 32);
    }
    friend constexpr int operator%(int a, Divisor d) { return a - a / d * d.by_; }

private:
    int by_;
    unsigned upper_;
};

}  // namespace pyoip::cuda
