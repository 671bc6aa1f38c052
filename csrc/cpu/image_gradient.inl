// Backward, the last stretch: from the first layer's routed values to the image.
//
// Algorithm: per cell a patch of the image in registers, to which each map adds one of
// `places` shifted copies of its kernel, taken from a table by its code; the code of a value
// that was not let through leads to zeros. A row of cells makes a strip of lines, one set of
// lines for each phase, so that patches which overlap lie in different sets and whole vectors
// can be added. A cell whose values are what they were keeps its patch, but for codes that
// changed (conv_backward.inl). The image is made in two halves of cell rows, summed at the end.
// Bound: loads, one patch and one broadcast per value. Measured: 1.8 cycles a value, of 1.5, when
// all are gathered; along an ascent about 3 % are.
// Without a maximum and at stride 1 a patch would be one kernel, with most of its vector unused:
// there the image is correlated from a dense grid instead (dot.inl).

// Sums in flight: enough to hide the latency of a multiply-add, and of a late load.
constexpr int chains(int vectors) { return vectors >= 4 ? 1 : vectors >= 2 ? 2 : kLanes < 8 ? 4 : 8; }

// `kernels`: a chunk of the table, (places + 1, maps_padded, N * lanes).
template <int N>
static void gather_chunk(int maps, const float* values, const std::uint8_t* code, const float* kernels,
                         float* patch) {
    constexpr int C = chains(N);
    const std::int64_t pitch = std::int64_t(maps) * N * kLanes;
    Vec acc[C][N] = {};
    for (int m = 0; m < maps; m += C, kernels += C * N * kLanes)
        unrolled<C>([&](auto chain) {
            constexpr int k = decltype(chain)::value;
            const float* kernel = kernels + code[m + k] * pitch + k * N * kLanes;
            const Vec value = splat(values[m + k]);
            for (int i = 0; i < N; ++i) acc[k][i] += value * load(kernel + i * kLanes);
        });
    unrolled<N>([&](auto vector) {
        constexpr int i = decltype(vector)::value;
        Vec all = acc[0][i];
        unrolled<C - 1>([&](auto chain) { all += acc[decltype(chain)::value + 1][i]; });
        store(patch + i * kLanes, all);
    });
}

static void gather_patch(const LayerPlan& p, const float* values, const std::uint8_t* code, float* patch) {
    const float* kernels = p.patches;
    const std::int64_t each = std::int64_t(p.places + 1) * p.maps_padded * kLanes;
    int vectors = p.patch_floats / kLanes;
    for (; vectors >= kPatchVectors; vectors -= kPatchVectors) {
        gather_chunk<kPatchVectors>(p.maps_padded, values, code, kernels, patch);
        kernels += kPatchVectors * each, patch += kPatchVectors * kLanes;
    }
    with_count<kPatchVectors - 1>(vectors, [&](auto n) {
        gather_chunk<decltype(n)::value>(p.maps_padded, values, code, kernels, patch);
    });
}

// lines (patch_rows, line_floats) += the phases of a strip.
static void add_strip(const LayerPlan& p, const float* strip, float* lines) {
    const std::int64_t size = std::int64_t(p.patch_rows) * p.line_floats;
    for (std::int64_t i = 0; i < size; i += kLanes) {
        Vec all = load(strip + i);
        for (int phase = 1; phase < p.phases; ++phase) all += load(strip + phase * size + i);
        store(lines + i, load(lines + i) + all);
    }
}

// strip [phase][patch row][line_floats] from the patches of a row of cells, in the order of
// addresses: the zeros behind a patch's row lie where the next is to come, or nothing. A template,
// so that the compiler knows the rows of the most frequent patches.
template <int RowLength>
static void lay_patches(const LayerPlan& p, const float* patches, float* strip) {
    const int length = RowLength > 0 ? RowLength : p.patch_row_length, rows = p.patch_rows;
    const int columns = p.cell_columns, phases = p.phases;
    const std::int64_t line = p.line_floats, size = rows * line, step = p.cell_step_floats;
    const std::int64_t pitch = p.patch_floats;
    for (int first = 0; first < phases; ++first)
        for (int y = 0; y < rows; ++y)
            for (int column = first; column < columns; column += phases) {
                float* to = strip + first * size + y * line + column * step;
                const float* from = patches + column * pitch + y * length;
                if constexpr (RowLength > 0)
                    __builtin_memcpy(to, from, RowLength * sizeof(float));
                else
                    copy_floats(to, from, length);
            }
}

static void lay_rows(const LayerPlan& p, const float* patches, float* strip) {
    switch (p.patch_row_length) {
        case 3: return lay_patches<3>(p, patches, strip);    // 3x3
        case 4: return lay_patches<4>(p, patches, strip);    // under a 2x2 maximum
        case 6: return lay_patches<6>(p, patches, strip);    // 5x5
        case 12: return lay_patches<12>(p, patches, strip);  // 3x3 over three channels
        default: return lay_patches<0>(p, patches, strip);
    }
}

// The patches of some rows of cells, all afresh.
static void gather_patches(const Work& w, const Source& s, Range rows) {
    const LayerPlan& p = w.layer(0);
    float* patches = w.memory + w.plan.patches;
    float room[kMostMaps];
    for (int q = rows.begin * p.cell_columns; q < rows.end * p.cell_columns; ++q)
        gather_patch(p, gated(p, s, q, room), s.codes + std::int64_t(q) * p.maps_padded,
                     patches + std::int64_t(q) * p.patch_floats);
}

// patch (patch_floats) += value times a map's kernel at one place less that at another.
PYOIP_INLINE void move_value(const LayerPlan& p, int map, int was, int is, Vec value, float* patch) {
    const std::int64_t maps = p.maps_padded, all = (p.places + 1) * maps;
    if (p.patch_floats == kLanes) {  // the most frequent, without loops
        const float* less = p.patches + (was * maps + map) * kLanes;
        const float* more = p.patches + (is * maps + map) * kLanes;
        return store(patch, load(patch) + value * (load(more) - load(less)));
    }
    for (std::int64_t first = 0; first < p.patch_floats; first += kPatchVectors * kLanes) {
        const std::int64_t rest = p.patch_floats - first;
        const std::int64_t size = rest < kPatchVectors * kLanes ? rest : kPatchVectors * kLanes;
        const float* kernels = p.patches + first * all;
        const float *less = kernels + (was * maps + map) * size, *more = kernels + (is * maps + map) * size;
        for (std::int64_t k = 0; k < size; k += kLanes) {
            float* at = patch + first + k;
            store(at, load(at) + value * (load(more + k) - load(less + k)));
        }
    }
}

// Only the patches of cells whose gradient changed are gathered afresh. In the others, what
// changed its place is moved.
static void change_patches(const Work& w, const Source& s, Range rows) {
    const LayerPlan& p = w.layer(0);
    float* patches = w.memory + w.plan.patches;
    const std::uint8_t* marks = w.marks();
    std::uint8_t* old = w.old_codes(0);
    const std::int64_t size = p.patch_floats, maps = p.maps_padded;
    const int first = rows.begin * p.cell_columns, end = rows.end * p.cell_columns;
    for (int q = first; q < end; ++q) {
        if (marks[p.mark_offset[q]] == 0) continue;
        const std::uint8_t* codes = s.codes + q * maps;
        gather_patch(p, s.gradient + s.at[q], codes, patches + q * size);
        __builtin_memcpy(old + q * maps, codes, std::size_t(maps));
    }
    const std::int64_t codes = first * maps;
    each_change(s.codes + codes, old + codes, (end - first) * maps, [&](std::int64_t i, int was, int is) {
        const std::int64_t q = first + std::int64_t(std::uint64_t(i) * p.maps_reciprocal >> 32);
        const std::int64_t m = codes + i - q * maps;
        move_value(p, int(m), was, is, splat(s.gradient[s.at[q] + m]), patches + q * size);
    });
}

// One half of the image's gradient, (lines, line_floats).
static void image_half(const Work& w, int half) {
    const LayerPlan& p = w.layer(0);
    const Source s = source_of(w, 0);
    float* lines = w.memory + w.plan.halves + half * w.plan.half_floats;
    float* strip = w.memory + w.plan.strips + half * w.plan.strip_floats;
    const Range rows = part(p.cell_rows, half, kHalves);
    if (coded(p) && p.pool != Pool::average)
        change_patches(w, s, rows);
    else
        gather_patches(w, s, rows);
    clear(lines, w.plan.half_floats);
    for (int row = rows.begin; row < rows.end; ++row) {
        const float* patches =
            w.memory + w.plan.patches + std::int64_t(row) * p.cell_columns * p.patch_floats;
        lay_rows(p, patches, strip);
        add_strip(p, strip, lines + std::int64_t(row) * p.cell_step_rows * p.line_floats);
    }
}

// Channel C of the sum of both halves without its border, in whole vectors: what is too much in a
// row, the next row covers, or zeros where no window sees.
template <int Channels, int C>
static void join_plane(const Work& w, float* gradient) {
    const LayerPlan& p = w.layer(0);
    const float* lines = w.memory + w.plan.halves + p.lead;
    const std::int64_t half = w.plan.half_floats, width = w.plan.width;
    const auto values = [&](const float* from) PYOIP_INLINED {
        if constexpr (Channels == 1)
            return load(from);
        else
            return every_third<C>(from, std::make_index_sequence<kLanes>{});
    };
    float* to = gradient + C * w.plan.height * width;
    for (int y = 0; y < p.in_height; ++y, lines += p.line_floats, to += width) {
        for (int x = 0; x < p.in_width; x += kLanes)
            store(to + x, values(lines + Channels * x) + values(lines + half + Channels * x));
        if (p.in_width < width) clear(to + p.in_width, width - p.in_width);
    }
    clear(to, (w.plan.height - p.in_height) * width + kLanes);
}

// Planes (C, H, W) that end in zeros.
static void join_halves(const Work& w, float* gradient) {
    if (w.plan.channels == 1) {
        join_plane<1, 0>(w, gradient);
    } else {
        join_plane<3, 0>(w, gradient);
        join_plane<3, 1>(w, gradient);
        join_plane<3, 2>(w, gradient);
    }
}

// Where nothing routes, most values are not zero: what some rows of an average's windows, or of
// positions, get from above, through the activation function, to a grid with a border of zeros,
// (grid_h, grid_w, maps_padded).
static void fill_grid(const Work& w, Range rows) {
    const LayerPlan& p = w.layer(0);
    const float *values = p.pool == Pool::average ? w.output(0) : w.input(1), *from = w.gradient(1);
    const std::int64_t maps = p.maps_padded, line = p.grid_w * maps;
    float* grid = w.memory + w.plan.grid + (p.kernel_h - 1) * line + (p.kernel_w - 1) * maps;
    const Vec slope = splat(p.slope), share = splat(p.pool_share);
    for (int q = rows.begin * p.pooled_width; q < rows.end * p.pooled_width; ++q) {
        const Window window = p.windows[q];
        for (std::int64_t c = 0; c < maps; c += kLanes) {
            const Vec up = load(from + p.next_offset[q] + c) * share;
            each_place(window, [&](int y, int x) PYOIP_INLINED {
                const Vec value = load(values + p.out_offset[y * p.out_width + x] + c);
                float* to = grid + y * line + x * maps + c;
                const Vec old = p.apart ? Vec{} : load(to);
                store(to, old + up * derivative(p.activation, slope, value));
            });
        }
    }
}

// One thread alone where windows overlap.
static void fill_whole_grid(const Work& w) {
    const LayerPlan& p = w.layer(0);
    if (p.apart) return fill_grid(w, w.team.share(p.pooled_height));
    if (w.team.rank != 0) return;
    clear(w.memory + w.plan.grid, std::int64_t(p.grid_h) * p.grid_w * p.maps_padded);
    fill_grid(w, {0, p.pooled_height});
}

// The image's gradient as a correlation of the grid with the turned kernels.
static void correlate_grid(const Work& w, Range rows, float* gradient) {
    const LayerPlan& p = w.layer(0);
    const Plan& plan = w.plan;
    const std::int64_t maps = p.maps_padded, line = p.grid_w * maps;
    const Dots d{p.kernel_h, p.kernel_w, maps, line, p.kernel_w * maps};
    for (int c = 0; c < plan.channels; ++c)
        for (int y = rows.begin; y < rows.end; ++y)
            dot_row<1>(d, p.turned_rows + c * p.kernel_h * d.row, 0.0f,
                       w.memory + plan.grid + (y + p.pad_top) * line + p.pad_left * maps, p.in_width,
                       gradient + (std::int64_t(c) * plan.height + y) * plan.width);
}

// From the gradient of the first layer's outputs to the image's.
static void backward_to_image(const Work& w, float* gradient) {
    if (w.layer(0).dense_image) {
        fill_whole_grid(w);
        if (w.team.rank == 0) clear(gradient, w.plan.pitch);
        w.team.meet();
        correlate_grid(w, w.team.share(w.layer(0).in_height), gradient);
        return w.team.meet();
    }
    const Range halves = w.team.share(kHalves);
    for (int half = halves.begin; half < halves.end; ++half) image_half(w, half);
    w.team.meet();
    if (w.team.rank == 0) join_halves(w, gradient);
    w.team.meet();
}
