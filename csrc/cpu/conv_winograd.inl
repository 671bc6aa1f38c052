// Forward: 3x3 convolution by Winograd's minimal filtering F(M x M, 3 x 3), see winograd.hpp.
//
// Algorithm, for up to kTiles tiles of M x M outputs at a time: their inputs, (M + 2)^2
// pixels each, are transformed channel vector by channel vector (spectra); one matrix product a
// point follows (products), with weights that were transformed when the plan was made; and a
// last transformation gives the outputs. With M = 2 a tile is the window of a 2x2 maximum,
// which is then taken in registers.
// Layout: spectra [point][tile][in_padded], products [point][tile][vectors * lanes], both small
// enough for the first-level cache together; the weights stream from the second level.
// Bound: multiply-adds, 4/9 of the direct ones with M = 2 and about 1/5 with M = 5. Rounding:
// as direct with M = 2, four to ten times larger with M = 5. Windows that are equal through and
// through keep exact ties with M = 2 only where whole rows or columns are equal: their sums differ.
// Measured, 32 channels to 64 maps: the products at 93 % of the peak; the whole, with its
// transformations and the maximum, at 185 % with M = 2, direct operations counted.

constexpr int kTiles = most_tiles(kLanes);

template <int M>
constexpr int kPoints = Winograd<M>::kSide * Winograd<M>::kSide;

// to += factor * from, with the multiplication left out where it can be.
template <int Sixteenths>
PYOIP_INLINE void add_multiple(Vec& to, Vec from) {
    if constexpr (Sixteenths == 16)
        to += from;
    else if constexpr (Sixteenths == -16)
        to -= from;
    else if constexpr (Sixteenths != 0)
        to += splat(float(Sixteenths) / 16.0f) * from;
}

// All coefficients are multiples of 1/16: template arguments must be integers.
constexpr int sixteenths(double x) { return int(x * 16.0); }

// d <- B^T d B, in place: columns, then rows.
template <int M>
PYOIP_INLINE void transform_input(Vec (&d)[M + 2][M + 2]) {
    constexpr int side = M + 2;
    unrolled<2>([&](auto pass) PYOIP_INLINED {
        for (int line = 0; line < side; ++line) {
            Vec old[side];
            for (int k = 0; k < side; ++k) old[k] = decltype(pass)::value == 0 ? d[k][line] : d[line][k];
            unrolled<side>([&](auto row) PYOIP_INLINED {
                Vec sum = {};
                unrolled<side>([&](auto k) PYOIP_INLINED {
                    add_multiple<sixteenths(kWinograd<M>.bt[decltype(row)::value][decltype(k)::value])>(
                        sum, old[decltype(k)::value]);
                });
                (decltype(pass)::value == 0 ? d[decltype(row)::value][line] : d[line][decltype(row)::value]) =
                    sum;
            });
        }
    });
}

// out = A^T in.
template <int M>
PYOIP_INLINE void combine(const Vec (&in)[M + 2], Vec (&out)[M]) {
    unrolled<M>([&](auto row) PYOIP_INLINED {
        Vec sum = {};
        unrolled<M + 2>([&](auto k) PYOIP_INLINED {
            add_multiple<sixteenths(kWinograd<M>.at[decltype(row)::value][decltype(k)::value])>(
                sum, in[decltype(k)::value]);
        });
        out[decltype(row)::value] = sum;
    });
}

// y = A^T m A, with column(k, m's column k) to ask for m: columns that are done with need no
// registers any more.
template <int M, class Column>
PYOIP_INLINE void transform_output(const Column& column, Vec (&y)[M][M]) {
    Vec half[M][M + 2];
    for (int k = 0; k < M + 2; ++k) {
        Vec in[M + 2], out[M];
        column(k, in);
        combine<M>(in, out);
        for (int row = 0; row < M; ++row) half[row][k] = out[row];
    }
    for (int row = 0; row < M; ++row) combine<M>(half[row], y[row]);
}

// spectra [point][tile of `tiles`][channels] of the tiles from `first` on.
template <int M>
static void transform_tiles(const LayerPlan& p, int first, int tiles, const float* in, float* spectra) {
    constexpr int side = M + 2;
    const std::int64_t line = std::int64_t(p.padded_w) * p.in_padded, channels = p.in_padded;
    for (int i = 0; i < tiles; ++i) {
        const int y = (first + i) / p.tile_columns * M, x = (first + i) % p.tile_columns * M;
        const float* corner = in + y * line + std::int64_t(x) * p.in_padded;
        for (std::int64_t c = 0; c < channels; c += kLanes) {
            Vec d[side][side];
            for (int r = 0; r < side; ++r)
                for (int k = 0; k < side; ++k) d[r][k] = load(corner + r * line + k * p.in_padded + c);
            transform_input<M>(d);
            for (int r = 0; r < side; ++r)
                for (int k = 0; k < side; ++k)
                    store(spectra + ((r * side + k) * tiles + i) * channels + c, d[r][k]);
        }
    }
}

// products [point][tile][V * lanes] = spectra times weights [point][channel][V * lanes].
template <int T, int V>
static void multiply_spectra(const LayerPlan& p, int points, int bias_point, const float* spectra,
                             const float* weights, const float* bias, float* products) {
    const std::int64_t pitch = p.in_padded;
    for (int point = 0; point < points; ++point) {
        Vec acc[T][V];
        for (int v = 0; v < V; ++v) {
            const Vec first = point == bias_point ? load(bias + v * kLanes) : Vec{};
            for (int i = 0; i < T; ++i) acc[i][v] = first;
        }
        for (std::int64_t c = 0; c < p.in_channels; ++c) {
            Vec w[V];
            for (int v = 0; v < V; ++v) w[v] = load(weights + v * kLanes);
            weights += V * kLanes;
            for (int i = 0; i < T; ++i) {
                const Vec x = splat(spectra[i * pitch + c]);
                for (int v = 0; v < V; ++v) acc[i][v] += x * w[v];
            }
        }
        spectra += T * pitch;
        for (int i = 0; i < T; ++i)
            for (int v = 0; v < V; ++v) store(products + (i * V + v) * kLanes, acc[i][v]);
        products += T * V * kLanes;
    }
}

template <int M>
PYOIP_INLINE void gather_outputs(const float* products, std::int64_t pitch, Vec (&y)[M][M]) {
    constexpr int side = M + 2;
    transform_output<M>(
        [&](int k, Vec(&m)[side]) PYOIP_INLINED {
            for (int r = 0; r < side; ++r) m[r] = load(products + (r * side + k) * pitch);
        },
        y);
}

// Where a tile's outputs go: to positions of the convolution, or through a 2x2 maximum.
template <int M, int V>
static void put_positions(const LayerPlan& p, int first, int tiles, const float* products, Activation kind,
                          float* out) {
    const Vec slope = splat(p.slope);
    for (int i = 0; i < tiles; ++i) {
        const int y0 = (first + i) / p.tile_columns * M, x0 = (first + i) % p.tile_columns * M;
        const int high = smaller_of(M, p.out_height - y0), wide = smaller_of(M, p.out_width - x0);
        for (int v = 0; v < V; ++v) {
            Vec y[M][M];
            gather_outputs<M>(products + (i * V + v) * kLanes, tiles * V * kLanes, y);
            for (int r = 0; r < high; ++r) {
                const std::int32_t* to = p.out_offset + (y0 + r) * p.out_width + x0;
                for (int k = 0; k < wide; ++k)
                    store(out + to[k] + v * kLanes, activate(kind, slope, y[r][k]));
            }
        }
    }
}

template <int V>
static void put_quads(const LayerPlan& p, int first, int tiles, const float* products, float* next,
                      std::uint8_t* codes) {
    for (int i = 0; i < tiles; ++i)
        for (int v = 0; v < V; ++v) {
            Vec y[2][2];
            gather_outputs<2>(products + (i * V + v) * kLanes, tiles * V * kLanes, y);
            put_quad(p, y[0][0], y[0][1], y[1][0], y[1][1], next + p.next_offset[first + i] + v * kLanes,
                     codes + std::int64_t(first + i) * p.maps_padded + v * kLanes);
        }
}

// put(Constant<V>{}, first tile, tiles, first map, products) over a share of the tiles.
template <int M, class Put>
static void convolve_tiles(const LayerPlan& p, Range share, const float* in, float* scratch, const Put& put) {
    float* products = scratch + std::int64_t(kPoints<M>) * kTiles * p.in_padded;
    const std::int64_t weights = std::int64_t(kPoints<M>) * p.in_channels;
    const int groups = (share.end - share.begin + kTiles - 1) / kTiles;
    for (int g = 0; g < groups; ++g) {  // of equal size, or one less
        const int first = share.begin + (share.end - share.begin) * g / groups;
        const int tiles = share.begin + (share.end - share.begin) * (g + 1) / groups - first;
        transform_tiles<M>(p, first, tiles, in, scratch);
        each_block(p, [&](auto vectors, int map) {
            constexpr int V = decltype(vectors)::value;
            with_count<kTiles>(tiles, [&](auto count) {
                multiply_spectra<decltype(count)::value, V>(p, kPoints<M>, kBiasPoint<M>, scratch,
                                                            p.forward_weights + weights * map, p.bias + map,
                                                            products);
            });
            put(vectors, first, tiles, map, products);
        });
    }
}

template <int M>
static void convolve_winograd(const LayerPlan& p, Range share, const float* in, Activation kind,
                              float* scratch, float* out) {
    convolve_tiles<M>(
        p, share, in, scratch, [&](auto vectors, int first, int tiles, int map, const float* products) {
            put_positions<M, decltype(vectors)::value>(p, first, tiles, products, kind, out + map);
        });
}

static void convolve_winograd_and_pool(const LayerPlan& p, Range share, const float* in, float* scratch,
                                       float* next, std::uint8_t* codes) {
    convolve_tiles<2>(
        p, share, in, scratch, [&](auto vectors, int first, int tiles, int map, const float* products) {
            put_quads<decltype(vectors)::value>(p, first, tiles, products, next + map, codes + map);
        });
}
