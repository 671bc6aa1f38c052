// Correlation of a channels-last input with one kernel: one output plane.
//
// Algorithm: a dot product a position. Windows that are neighbours in a row share columns: as many
// of them as a vector has lanes are summed up together, and a column is loaded once for all.
// Layout: input (rows, columns, channels in whole vectors), weights (height, width, channels).
// Bound: multiply-adds; 16 K of them take 16 + 2 K - 1 loads. Measured: 60 % of the peak (11x11
// positions, 3x3 over 32 channels, from the second-level cache).

struct Dots {
    int height, width;            // of the kernel
    std::int64_t channels, line;  // floats from a column, and from a row, of the input to the next
    std::int64_t row;             // and from a row of the weights to the next
};

// acc[i] += weight times column i of every `step` floats.
template <int P>
PYOIP_INLINE void add_columns(Vec weight, const float* from, std::int64_t step, Vec* acc) {
    unrolled<P>([&](auto i) PYOIP_INLINED {
        acc[decltype(i)::value] += weight * load(from);
        from = in_register(from + step);
    });
}

// P outputs. With the columns that they share in registers, too, where there are 32.
template <int K, int P, int Stride>
PYOIP_INLINE Vec dot_neighbours(const Dots& d, const float* weights, const float* in) {
    constexpr int N = P <= 4 ? 4 : P <= 8 ? 8 : 16;
    Vec acc[N] = {};
    for (int y = 0; y < d.height; ++y)
        for (std::int64_t c = 0; c < d.channels; c += kLanes) {
            const float *from = in + y * d.line + c, *row = weights + y * d.row + c;
            if constexpr (Stride == 1 && kLanes == 16) {
                Vec column[P + K - 1];
                unrolled<P + K - 1>([&](auto x) PYOIP_INLINED {
                    column[decltype(x)::value] = in_register(load(from));
                    from = in_register(from + d.channels);
                });
                unrolled<K>([&](auto k) PYOIP_INLINED {
                    const Vec weight = load(row + decltype(k)::value * d.channels);
                    unrolled<P>([&](auto i) PYOIP_INLINED {
                        acc[decltype(i)::value] += weight * column[decltype(i)::value + decltype(k)::value];
                    });
                });
            } else {
                for (int k = 0; k < K; ++k, from += d.channels, row += d.channels)
                    add_columns<P>(load(row), from, Stride * d.channels, acc);
            }
        }
    return sums<N>(acc);
}

// Outputs at a time: beside as many columns and a weight in 32 registers, for kernels of three.
constexpr int kMostDots = kLanes == 16 ? 14 : kLanes;

// f(Constant<P>{}) for the least P of 4, 8, 12 and kMostDots that is `used` or more.
template <class F>
PYOIP_INLINE void with_dots(int used, const F& f) {
    if (kMostDots > 12 && used > 12)
        f(Constant<kMostDots>{});
    else
        with_count<kLanes / 4 < 3 ? kLanes / 4 : 3>((used + 3) / 4,
                                                    [&](auto n) { f(Constant<4 * decltype(n)::value>{}); });
}

// A row of outputs. Some of the last may be too many, for which what follows the row is read, but
// nothing written. Each output is summed up in the same order, whatever its neighbours.
template <int Stride>
static void dot_row(const Dots& d, const float* weights, float bias, const float* in, int count, float* out) {
    with_count<7>(d.width, [&](auto width) {
        const int blocks = (count + kMostDots - 1) / kMostDots;
        for (int block = 0; block < blocks; ++block) {  // of equal size, or one less
            const Range share = part(count, block, blocks);
            with_dots(share.end - share.begin, [&](auto n) {
                const Vec all = dot_neighbours<decltype(width)::value, decltype(n)::value, Stride>(
                                    d, weights, in + share.begin * Stride * d.channels) +
                                splat(bias);
                for (int k = 0; k < share.end - share.begin; ++k) out[share.begin + k] = all[k];
            });
        }
    });
}
