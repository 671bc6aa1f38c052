// The yardstick of the benchmarks: multiply-adds on registers and nothing else.
//
// Twelve independent sums hide the latency of any processor met so far (4 cycles, two units);
// a and b keep the values near 1, so that no denormal slows them.

static float multiply_adds(std::int64_t rounds, float a, float b) {
    Vec acc[kPeakSums];
    for (int i = 0; i < kPeakSums; ++i) acc[i] = splat(float(i));
    const Vec factor = splat(a), addend = splat(b);
    for (std::int64_t r = 0; r < rounds; ++r)
        for (int i = 0; i < kPeakSums; ++i) acc[i] = acc[i] * factor + addend;
    Vec all = {};
    for (int i = 0; i < kPeakSums; ++i) all += acc[i];
    return sum(all);
}
