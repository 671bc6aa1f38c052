#pragma once

namespace pyoip {

constexpr int divide_up(int value, int by) { return (value + by - 1) / by; }
constexpr int round_up(int value, int step) { return divide_up(value, step) * step; }

}  // namespace pyoip
