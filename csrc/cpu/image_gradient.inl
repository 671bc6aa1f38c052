// Backward, the last stretch: from the first layer's routed values to the image.
//
// Algorithm: per cell a patch of the image in registers, to which each map adds one of
// `places` shifted copies of its kernel, taken from a table by its code; the code of a value
// that was not let through leads to zeros. A row of cells makes a strip of lines, one set of
// lines for each phase, so that patches which overlap lie in different sets and whole vectors
// can be added. The image is made in two halves of cell rows, summed at the end.
// Bound: loads, one patch and one broadcast per value.

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

// strip [phase][patch row][line_floats] from the patches of a row of cells.
static void lay_patches(const LayerPlan& p, const float* patches, float* strip) {
    const std::int64_t size = std::int64_t(p.patch_rows) * p.line_floats;
    for (int column = 0, phase = 0; column < p.cell_columns; ++column) {
        float* to = strip + phase * size + column * p.cell_step_floats;
        const float* patch = patches + std::int64_t(column) * p.patch_floats;
        if (p.patch_row_length == 4) {  // a 3x3 kernel under a 2x2 maximum, in one channel
            for (int y = 0; y < p.patch_rows; ++y)
                __builtin_memcpy(to + y * p.line_floats, patch + 4 * y, 16);
        } else {
            for (int y = 0; y < p.patch_rows; ++y)
                copy_floats(to + y * p.line_floats, patch + y * p.patch_row_length, p.patch_row_length);
        }
        phase = phase + 1 < p.phases ? phase + 1 : 0;
    }
}

// One half of the image's gradient, (lines, line_floats).
static void image_half(const Work& w, int half) {
    const LayerPlan p = w.layer(0);  // a copy, which no store can be thought to change
    const Source s = source_of(w, 0);
    float* lines = w.memory + w.plan.halves + half * w.plan.half_floats;
    float* strip = w.memory + w.plan.strips + half * w.plan.strip_floats;
    float* patches = w.memory + w.plan.patches + half * w.plan.patches_floats;
    float room[kMostMaps];
    clear(lines, w.plan.half_floats);
    const Range rows = part(p.cell_rows, half, kHalves);
    for (int row = rows.begin; row < rows.end; ++row) {
        for (int column = 0; column < p.cell_columns; ++column) {
            const int q = row * p.cell_columns + column;
            gather_patch(p, gated(p, s, q, room), s.codes + std::int64_t(q) * p.maps_padded,
                         patches + column * p.patch_floats);
        }
        lay_patches(p, patches, strip);
        add_strip(p, strip, lines + std::int64_t(row) * p.cell_step_rows * p.line_floats);
    }
}

// The sum of both halves without its border, as planes (C, H, W) that end in zeros.
static void join_halves(const Work& w, float* gradient) {
    const LayerPlan& p = w.layer(0);
    const Plan& plan = w.plan;
    const float *first = w.memory + plan.halves + p.lead, *second = first + plan.half_floats;
    clear(gradient, plan.pitch);
    for (int y = 0; y < p.in_height; ++y) {
        const std::int64_t line = std::int64_t(y) * p.line_floats;
        for (int c = 0; c < plan.channels; ++c) {
            float* to = gradient + (std::int64_t(c) * plan.height + y) * plan.width;
            const float *a = first + line + c, *b = second + line + c;
            for (int x = 0; x < p.in_width; ++x)
                to[x] = a[std::int64_t(x) * plan.channels] + b[std::int64_t(x) * plan.channels];
        }
    }
}

// From the gradient of the first layer's outputs to the image's.
static void backward_to_image(const Work& w, float* gradient) {
    const Range halves = w.team.share(kHalves);
    for (int half = halves.begin; half < halves.end; ++half) image_half(w, half);
    w.team.meet();
    if (w.team.rank == 0) join_halves(w, gradient);
    w.team.meet();
}
