// Forward: 3x3 convolution of an image of 1 or 3 channels, by Winograd's F(2x2, 3x3).
//
// Algorithm: with so few channels there is no matrix product to speak of. The transformation of
// the input runs along a row, one tile a lane; then tile by tile and vector of maps by vector
// of maps, the 16 products, their transformation and, where it follows, the 2x2 maximum stay in
// registers. With one channel the transformed weights stay there, too, where there are enough.
// Layout: the image in planes (C, padded_h, padded_w); spectra [channel][point][tile].
// Bound: 24 additions per tile and vector of maps, beside 16 multiplications on other units.
// Measured with a 2x2 maximum: 125 % of the peak, direct operations counted.

template <std::size_t... I>
PYOIP_INLINE void split_pairs(const float* from, Vec& even, Vec& odd, std::index_sequence<I...>) {
    const Vec a = load(from), b = load(from + kLanes);
    even = __builtin_shufflevector(a, b, (2 * int(I))...);
    odd = __builtin_shufflevector(a, b, (2 * int(I) + 1)...);
}

// The spectra of kLanes tiles in a row.
static void transform_row(const LayerPlan& p, const float* corner, float* spectra) {
    for (int c = 0; c < p.in_channels; ++c) {
        const float* row = corner + std::int64_t(c) * p.padded_h * p.padded_w;
        Vec d[4][4];
        for (int r = 0; r < 4; ++r, row += p.padded_w) {
            split_pairs(row, d[r][0], d[r][1], std::make_index_sequence<kLanes>{});
            split_pairs(row + 2, d[r][2], d[r][3], std::make_index_sequence<kLanes>{});
        }
        transform_input<2>(d);
        for (int point = 0; point < 16; ++point, spectra += kLanes) store(spectra, d[point / 4][point % 4]);
    }
}

// put(tile, y) for each of `tiles` tiles and one vector of maps; weights [channel][point][lanes].
template <int C, class Put>
PYOIP_INLINE void narrow_tiles(int tiles, const float* spectra, const float* weights, Vec bias,
                               const Put& put) {
    Vec w[C][16];
    for (int c = 0; c < C; ++c)
        for (int point = 0; point < 16; ++point) w[c][point] = load(weights + (c * 16 + point) * kLanes);
    for (int i = 0; i < tiles; ++i) {
        Vec y[2][2];
        transform_output<2>(
            [&](int k, Vec(&m)[4]) PYOIP_INLINED {
                for (int r = 0; r < 4; ++r) {
                    const int point = 4 * r + k;
                    m[r] = point == kBiasPoint<2> ? bias : Vec{};
                    for (int c = 0; c < C; ++c)
                        m[r] += splat(spectra[(c * 16 + point) * kLanes + i]) * w[c][point];
                }
            },
            y);
        put(i, y);
    }
}

// put(tile row, tile column, map, y) for all tiles and vectors of maps in a share of the tile rows.
template <class Put>
PYOIP_INLINE void convolve_narrow_rows(const LayerPlan& p, Range rows, const float* in, const Put& put) {
    float spectra[3 * 16 * kLanes];
    for (int row = rows.begin; row < rows.end; ++row)
        for (int x = 0; x < p.tile_columns; x += kLanes) {
            const int tiles = smaller_of(kLanes, p.tile_columns - x);
            transform_row(p, in + std::int64_t(2 * row) * p.padded_w + 2 * x, spectra);
            for (int map = 0; map < p.maps_padded; map += kLanes) {
                const float* weights = p.forward_weights + std::int64_t(map) * p.in_channels * 16;
                const auto put_tile = [&](int i, const Vec(&y)[2][2])
                                          PYOIP_INLINED { put(row, x + i, map, y); };
                if (p.in_channels == 1)
                    narrow_tiles<1>(tiles, spectra, weights, load(p.bias + map), put_tile);
                else
                    narrow_tiles<3>(tiles, spectra, weights, load(p.bias + map), put_tile);
            }
        }
}

static void convolve_narrow_and_pool(const LayerPlan& p, Range rows, const float* in, float* next,
                                     std::uint8_t* codes) {
    convolve_narrow_rows(p, rows, in, [&](int row, int column, int map, const Vec(&y)[2][2]) PYOIP_INLINED {
        const int q = row * p.tile_columns + column;
        put_quad(p, y[0][0], y[0][1], y[1][0], y[1][1], next + p.next_offset[q] + map,
                 codes + std::int64_t(q) * p.maps_padded + map);
    });
}

static void convolve_narrow(const LayerPlan& p, Range rows, const float* in, Activation kind, float* out) {
    const Vec slope = splat(p.slope);
    convolve_narrow_rows(p, rows, in, [&](int row, int column, int map, const Vec(&y)[2][2]) PYOIP_INLINED {
        const int high = smaller_of(2, p.out_height - 2 * row),
                  wide = smaller_of(2, p.out_width - 2 * column);
        for (int r = 0; r < high; ++r)
            for (int k = 0; k < wide; ++k)
                store(out + p.out_offset[(2 * row + r) * p.out_width + 2 * column + k] + map,
                      activate(kind, slope, y[r][k]));
    });
}
