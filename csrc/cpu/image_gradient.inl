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

// Sums in flight: enough to hide the latency of a multiply-add.
constexpr int chains(int vectors) { return vectors >= 4 ? 1 : vectors >= 2 ? 2 : 4; }

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
    for (int i = 0; i < N; ++i) {
        Vec all = acc[0][i];
        for (int k = 1; k < C; ++k) all += acc[k][i];
        store(patch + i * kLanes, all);
    }
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

// strip [phase][patch row][line_floats] from the patches of a row of cells. A template, so that
// the compiler knows the row of the most frequent patch: 3x3 under a 2x2 maximum, one channel.
template <int RowLength>
static void lay_patches(const LayerPlan& p, const float* patches, float* strip) {
    const int length = RowLength > 0 ? RowLength : p.patch_row_length, rows = p.patch_rows;
    const int columns = p.cell_columns, phases = p.phases;
    const std::int64_t line = p.line_floats, size = rows * line, step = p.cell_step_floats;
    const std::int64_t pitch = p.patch_floats;
    for (int first = 0; first < phases; ++first)
        for (int column = first; column < columns; column += phases)
            for (int y = 0; y < rows; ++y)
                copy_floats(strip + first * size + y * line + column * step,
                            patches + column * pitch + y * length, length);
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

// Only the patches of cells whose gradient changed are gathered afresh. In the others, what
// changed its place is moved. For tables of one chunk.
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
        const float *less = p.patches + (was * maps + m) * size, *more = p.patches + (is * maps + m) * size;
        const Vec value = splat(s.gradient[s.at[q] + m]);
        for (std::int64_t k = 0; k < size; k += kLanes) {
            float* at = patches + q * size + k;
            store(at, load(at) + value * (load(more + k) - load(less + k)));
        }
    });
}

// One half of the image's gradient, (lines, line_floats).
static void image_half(const Work& w, int half) {
    const LayerPlan& p = w.layer(0);
    const Source s = source_of(w, 0);
    float* lines = w.memory + w.plan.halves + half * w.plan.half_floats;
    float* strip = w.memory + w.plan.strips + half * w.plan.strip_floats;
    const Range rows = part(p.cell_rows, half, kHalves);
    if (coded(p) && p.pool != Pool::average && p.patch_floats <= kPatchVectors * kLanes)
        change_patches(w, s, rows);
    else
        gather_patches(w, s, rows);
    clear(lines, w.plan.half_floats);
    for (int row = rows.begin; row < rows.end; ++row) {
        const float* patches =
            w.memory + w.plan.patches + std::int64_t(row) * p.cell_columns * p.patch_floats;
        if (p.patch_row_length == 4)
            lay_patches<4>(p, patches, strip);
        else
            lay_patches<0>(p, patches, strip);
        add_strip(p, strip, lines + std::int64_t(row) * p.cell_step_rows * p.line_floats);
    }
}

// The sum of both halves without its border, as planes (C, H, W) that end in zeros.
static void join_halves(const Work& w, float* gradient) {
    const LayerPlan& p = w.layer(0);
    const Plan& plan = w.plan;
    const float *first = w.memory + plan.halves + p.lead, *second = first + plan.half_floats;
    const int height = p.in_height, width = p.in_width, channels = plan.channels;
    const std::int64_t line = p.line_floats;
    if (channels == 1 && width == plan.width) {  // whole vectors: what is too much, the next row covers
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; x += kLanes)
                store(gradient + y * std::int64_t(width) + x,
                      load(first + y * line + x) + load(second + y * line + x));
        const std::int64_t used = std::int64_t(height) * width;
        return clear(gradient + used, plan.pitch + kLanes - used);
    }
    clear(gradient, plan.pitch);
    for (int c = 0; c < channels; ++c)
        for (int y = 0; y < height; ++y) {
            float* to = gradient + (std::int64_t(c) * plan.height + y) * plan.width;
            const float *a = first + y * line + c, *b = second + y * line + c;
            for (int x = 0; x < width; ++x, a += channels, b += channels) to[x] = *a + *b;
        }
}

// Where nothing routes, most values are not zero: their gradients, gated, to a grid with a border
// of zeros, (grid_h, grid_w, maps_padded).
static void fill_grid(const Work& w, Range rows) {
    const LayerPlan& p = w.layer(0);
    const Source s = source_of(w, 0);
    const Vec slope = splat(p.slope);
    const std::int64_t maps = p.maps_padded;
    for (int y = rows.begin; y < rows.end; ++y) {
        float* to =
            w.memory + w.plan.grid + ((y + p.kernel_h - 1) * std::int64_t(p.grid_w) + p.kernel_w - 1) * maps;
        for (int x = 0; x < p.out_width; ++x) {
            const std::int64_t at = s.at[y * p.out_width + x];
            for (std::int64_t c = 0; c < maps; c += kLanes, to += kLanes)
                store(to,
                      load(s.gradient + at + c) * derivative(p.activation, slope, load(s.values + at + c)));
        }
    }
}

// The image's gradient as a correlation of the grid with the turned kernels.
static void correlate_grid(const Work& w, Range rows, float* gradient) {
    const LayerPlan& p = w.layer(0);
    const Plan& plan = w.plan;
    const std::int64_t maps = p.maps_padded, line = p.grid_w * maps;
    const Dots d{p.kernel_h, p.kernel_w, maps, line, p.kernel_w * maps};
    for (int c = 0; c < plan.channels; ++c)
        for (int y = rows.begin; y < rows.end; ++y)
            dot_row(d, p.turned_rows + c * p.kernel_h * d.row, 0.0f,
                    w.memory + plan.grid + (y + p.pad_top) * line + p.pad_left * maps, p.in_width,
                    gradient + (std::int64_t(c) * plan.height + y) * plan.width);
}

// From the gradient of the first layer's outputs to the image's.
static void backward_to_image(const Work& w, float* gradient) {
    if (w.layer(0).dense_image) {
        fill_grid(w, w.team.share(w.layer(0).out_height));
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
