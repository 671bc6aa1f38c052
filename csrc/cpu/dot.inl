// Correlation of a channels-last input with one kernel: one output plane.
//
// Algorithm: a dot product a position. Windows that are neighbours in a row share columns: up to
// twelve of them are summed up together, and a column is loaded once for all.
// Layout: input (rows, columns, channels in whole vectors), weights (height, width, channels).
// Bound: multiply-adds; 12 K of them take 12 + 2 K - 1 loads. Measured: 60 % of the peak (11x11
// positions, 3x3 over 32 channels, from the second-level cache).

struct Dots {
    int height, width;            // of the kernel
    std::int64_t channels, line;  // floats from a column, and from a row, of the input to the next
    std::int64_t row;             // and from a row of the weights to the next
};

template <int K, int P>
PYOIP_INLINE Vec dot_neighbours(const Dots& d, const float* weights, const float* in) {
    constexpr int N = P <= 4 ? 4 : P <= 8 ? 8 : 16;
    Vec acc[N] = {};
    for (int y = 0; y < d.height; ++y)
        for (std::int64_t c = 0; c < d.channels; c += kLanes) {
            const float *from = in + y * d.line + c, *row = weights + y * d.row + c;
            Vec w[K];
            for (int k = 0; k < K; ++k) w[k] = load(row + k * d.channels);
            unrolled<P + K - 1>([&](auto column) PYOIP_INLINED {
                constexpr int x = decltype(column)::value;
                const Vec at = in_register(load(from + x * d.channels));
                for (int k = 0; k < K; ++k)
                    if (x >= k && x - k < P) acc[x - k] += w[k] * at;
            });
        }
    return sums<N>(acc);
}

// A row of outputs at stride 1, in fours: of the last four some may be too many, for which what
// follows the row is read, but nothing written. Each output is summed up in the same order,
// whatever its neighbours.
static void dot_row(const Dots& d, const float* weights, float bias, const float* in, int count, float* out) {
    constexpr int fours = kLanes / 4 < 3 ? kLanes / 4 : 3;  // as many as there are registers for
    with_count<7>(d.width, [&](auto width) {
        for (int x = 0; x < count; x += 4 * fours) {
            const int used = smaller_of(4 * fours, count - x);
            with_count<fours>((used + 3) / 4, [&](auto n) {
                const Vec all = dot_neighbours<decltype(width)::value, 4 * decltype(n)::value>(
                                    d, weights, in + x * d.channels) +
                                splat(bias);
                for (int k = 0; k < used; ++k) out[x + k] = all[k];
            });
        }
    });
}
