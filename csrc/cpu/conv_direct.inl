// Forward: direct convolution, one image at a time.
//
// Algorithm: a matrix product. A tile of P windows times V vectors of maps stays in
// registers; each weight vector is loaded once for P windows, each input value broadcast once
// for V vectors. One block's weights (all taps) stay in the first-level cache while the windows
// stream by. Where a 2x2 maximum follows, the tile is one or two of its windows, and only the
// pooled values, activated, and their codes leave the registers.
// Layout: plan.hpp. Bound: multiply-adds; P * V sums hide their latency. Measured: 96 % of the
// peak (7x7 over RGB at stride 2, 64 maps; Zen 4, AVX-512, as are all shares in these files).

template <int P, int V>
PYOIP_INLINE void multiply_windows(const LayerPlan& p, const float* const (&window)[P], const float* weights,
                                   const float* bias, Vec (&acc)[P][V]) {
    for (int i = 0; i < P; ++i)
        for (int v = 0; v < V; ++v) acc[i][v] = load(bias + v * kLanes);
    for (int r = 0; r < p.runs; ++r) {
        const std::int64_t first = p.run_offset[r];
        for (std::int64_t t = first; t < first + p.run_length; ++t) {
            Vec w[V];
            for (int v = 0; v < V; ++v) w[v] = load(weights + v * kLanes);
            weights += V * kLanes;
            for (int i = 0; i < P; ++i) {
                const Vec x = splat(window[i][t]);
                for (int v = 0; v < V; ++v) acc[i][v] += x * w[v];
            }
        }
    }
}

template <int P, int V>
static void convolve_tile(const LayerPlan& p, const float* in, const float* weights, const float* bias,
                          const std::int32_t* from, const std::int32_t* to, Activation kind, float* out) {
    const float* window[P];
    for (int i = 0; i < P; ++i) window[i] = in + from[i];
    Vec acc[P][V];
    multiply_windows<P, V>(p, window, weights, bias, acc);
    const Vec slope = splat(p.slope);
    for (int i = 0; i < P; ++i)
        for (int v = 0; v < V; ++v) store(out + to[i] + v * kLanes, activate(kind, slope, acc[i][v]));
}

template <int V>
static void convolve_block(const LayerPlan& p, Range share, const float* in, const float* weights,
                           const float* bias, Activation kind, float* out) {
    constexpr int tile = tile_positions(kLanes);
    for (int i = share.begin; i < share.end; i += tile)
        with_count<tile>(smaller_of(tile, share.end - i), [&](auto count) {
            convolve_tile<decltype(count)::value, V>(p, in, weights, bias, p.in_offset + i, p.out_offset + i,
                                                     kind, out);
        });
}

// Q windows of a 2x2 maximum at a time, from cell `q` on.
template <int Q, int V>
static void convolve_quads(const LayerPlan& p, int q, const float* in, const float* weights,
                           const float* bias, float* next, std::uint8_t* codes) {
    const float* window[4 * Q];
    for (int i = 0; i < Q; ++i)
        for (int k = 0; k < 4; ++k) window[4 * i + k] = in + p.cell_offset[q + i] + p.place_step[k];
    Vec acc[4 * Q][V];
    multiply_windows<4 * Q, V>(p, window, weights, bias, acc);
    for (int i = 0; i < Q; ++i)
        for (int v = 0; v < V; ++v)
            put_quad(p, acc[4 * i][v], acc[4 * i + 1][v], acc[4 * i + 2][v], acc[4 * i + 3][v],
                     next + p.next_offset[q + i] + v * kLanes,
                     codes + std::int64_t(q + i) * p.maps_padded + v * kLanes);
}

template <int V>
static void convolve_quad_block(const LayerPlan& p, Range share, const float* in, const float* weights,
                                const float* bias, float* next, std::uint8_t* codes) {
    constexpr int together = kLanes == 16 ? 2 : 1;
    for (int q = share.begin; q < share.end; q += together)
        with_count<together>(smaller_of(together, share.end - q), [&](auto count) {
            convolve_quads<decltype(count)::value, V>(p, q, in, weights, bias, next, codes);
        });
}

// f(Constant<vectors>{}, first map) over blocks of kBlockVectors, and of one at the end.
template <class F>
PYOIP_INLINE void each_block(const LayerPlan& p, const F& f) {
    static_assert(kBlockVectors == 2, "the remainder is one vector");
    int map = 0;
    for (; map + 2 * kLanes <= p.maps_padded; map += 2 * kLanes) f(Constant<2>{}, map);
    if (map < p.maps_padded) f(Constant<1>{}, map);
}

// A share of the positions, all maps, activated by `kind`, to out + out_offset.
static void convolve_direct(const LayerPlan& p, Range positions, const float* in, Activation kind,
                            float* out) {
    const std::int64_t taps = std::int64_t(p.runs) * p.run_length;
    each_block(p, [&](auto vectors, int map) {
        convolve_block<decltype(vectors)::value>(p, positions, in, p.forward_weights + taps * map,
                                                 p.bias + map, kind, out + map);
    });
}

// A share of the cells of a 2x2 maximum.
static void convolve_and_pool(const LayerPlan& p, Range cells, const float* in, float* next,
                              std::uint8_t* codes) {
    const std::int64_t taps = std::int64_t(p.runs) * p.run_length;
    each_block(p, [&](auto vectors, int map) {
        convolve_quad_block<decltype(vectors)::value>(p, cells, in, p.forward_weights + taps * map,
                                                      p.bias + map, next + map, codes + map);
    });
}
