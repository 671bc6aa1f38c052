// From an image to the target's input, and to scores and activations of all its maps.

// Where an image's buffers lie, and whose part this thread does.
struct Work {
    const Plan& plan;
    float* memory;
    Team team;

    float* input(int l) const { return memory + plan.layers[l].input; }
    float* output(int l) const { return memory + plan.layers[l].output; }
    float* gradient(int l) const { return memory + plan.layers[l].gradient; }
    std::uint8_t* codes(int l) const { return bytes(plan.layers[l].codes); }
    std::uint8_t* old_codes(int l) const { return bytes(plan.layers[l].old_codes); }
    std::uint8_t* marks() const { return bytes(plan.marks); }
    float* scratch() const { return memory + plan.scratch + team.rank * plan.scratch_floats; }
    int target() const { return plan.layer_count - 1; }
    const LayerPlan& layer(int l) const { return plan.layers[l]; }

private:
    std::uint8_t* bytes(std::int64_t at) const { return reinterpret_cast<std::uint8_t*>(memory + at); }
};

// An image (C, H, W) as an ascent keeps it: its pixels are (raw - shift) * scale. Whoever reads
// them takes them so, which saves a pass over the pixels for every step.
struct Image {
    const float* raw;
    float shift = 0.0f, scale = 1.0f;
};

// at(offset): a vector of pixels.
PYOIP_INLINE auto pixels_of(const Image& image) {
    return [raw = image.raw, shift = splat(image.shift), scale = splat(image.scale)](std::int64_t i)
               PYOIP_INLINED { return (load(raw + i) - shift) * scale; };
}

// An image into the first layer's padded planes, zeros behind each row: what is too much in one,
// the next row covers.
static void load_image(const Plan& plan, const Image& image, float* memory) {
    const LayerPlan& p = plan.layers[0];
    const auto at = pixels_of(image);
    const int last = (p.in_width - 1) / kLanes * kLanes;
    const IVec rest = lane_numbers() < splat_int(p.in_width - last);
    for (int c = 0; c < plan.channels; ++c)
        for (int y = 0; y < p.in_height; ++y) {
            const std::int64_t from = (std::int64_t(c) * plan.height + y) * plan.width;
            float* to =
                memory + p.input + (std::int64_t(c) * p.padded_h + y + p.pad_top) * p.padded_w + p.pad_left;
            for (int x = 0; x < last; x += kLanes) store(to + x, at(from + x));
            store(to + last, select(rest, at(from + last), Vec{}));
        }
}

// All positions of a layer, activated by `kind`, to out + out_offset.
static void convolve(const Work& w, int l, Activation kind, float* out) {
    const LayerPlan& p = w.layer(l);
    switch (p.method) {
        case Method::direct: return convolve_direct(p, w.team.share(p.positions), w.input(l), kind, out);
        case Method::narrow: return convolve_narrow(p, w.team.share(p.tile_rows), w.input(l), kind, out);
        case Method::winograd2:
            return convolve_winograd<2>(p, w.team.share(p.tiles), w.input(l), kind, w.scratch(), out);
        case Method::winograd5:
            return convolve_winograd<5>(p, w.team.share(p.tiles), w.input(l), kind, w.scratch(), out);
    }
}

static void activate_maps(const LayerPlan& p, float* maps, std::int64_t floats) {
    const Vec slope = splat(p.slope);
    for (std::int64_t i = 0; i < floats; i += kLanes)
        store(maps + i, activate(p.activation, slope, load(maps + i)));
}

// What the kernels left to a pass of its own, on rows of a convolution or on the next layer's input.
static void activate_rows(const Work& w, int l, Range rows) {
    const LayerPlan& p = w.layer(l);
    const std::int64_t row = std::int64_t(p.out_width) * p.maps_padded;
    activate_maps(p, w.output(l) + rows.begin * row, (rows.end - rows.begin) * row);
}

static void activate_next(const Work& w, int l) {
    const LayerPlan& p = w.layer(l);
    if (p.early == p.activation) return;
    w.team.meet();
    const Range rows = w.team.share(p.pooled_height);
    for (int y = rows.begin; y < rows.end; ++y)
        activate_maps(p, w.input(l + 1) + p.next_offset[y * p.pooled_width],
                      std::int64_t(p.pooled_width) * p.maps_padded);
}

// The maps of a convolution to averages of them, activated; row by row where windows lie apart, while
// the row is in the first-level cache.
static void average_outputs(const Work& w, int l) {
    const LayerPlan& p = w.layer(l);
    const bool late = p.early != p.activation;
    if (late && !p.apart) {
        activate_rows(w, l, w.team.share(p.out_height));
        w.team.meet();
    }
    const Range rows = w.team.share(p.pooled_height);
    for (int y = rows.begin; y < rows.end; ++y) {
        const Range cells{y * p.pooled_width, (y + 1) * p.pooled_width};
        if (late && p.apart) activate_rows(w, l, {p.windows[cells.begin].y0, p.windows[cells.begin].y1});
        pool_average(p, cells, w.output(l), w.input(l + 1));
    }
}

// A lower layer into the next layer's input, with codes.
static void forward_layer(const Work& w, int l) {
    const LayerPlan& p = w.layer(l);
    float* next = w.input(l + 1);
    std::uint8_t* codes = w.codes(l);
    if (p.quads && p.method == Method::direct)
        return convolve_and_pool(p, w.team.share(p.cells), w.input(l), next, codes);
    if (p.quads && p.method == Method::narrow)
        return convolve_narrow_and_pool(p, w.team.share(p.tile_rows), w.input(l), next, codes);
    if (p.quads && p.method == Method::winograd2)
        return convolve_winograd_and_pool(p, w.team.share(p.tiles), w.input(l), w.scratch(), next, codes);
    // Elsewhere a position's code is always 0, as the workspace begins, or nobody asks for it.
    const bool gates = slope_of(p.activation) == Slope::gate && !(l == 0 && p.dense_image);
    switch (p.pool) {
        case Pool::none:
            if (gates && p.method == Method::direct)
                return convolve_direct(p, w.team.share(p.positions), w.input(l), p.early, next, codes);
            convolve(w, l, p.early, next);
            w.team.meet();
            if (gates) code_positions(p, w.team.share(p.cells), next, p.out_offset, codes);
            return;
        case Pool::max:
            convolve(w, l, Activation::none, w.output(l));
            w.team.meet();
            return pool_maximum(p, w.team.share(p.cells), w.output(l), next, codes);
        case Pool::average:
            convolve(w, l, p.early, w.output(l));
            w.team.meet();
            if (gates) code_positions(p, w.team.share(p.cells), w.output(l), p.out_offset, codes);
            return average_outputs(w, l);
    }
}

static void forward_below(const Work& w) {
    for (int l = 0; l < w.target(); ++l) {
        forward_layer(w, l);
        if (w.layer(l).pool != Pool::average) activate_next(w, l);
        w.team.meet();
    }
}

// The target's maps (positions, maps_padded), all of them, by one thread.
static const float* forward_all(const Plan& plan, float* memory, const float* image, Activation kind) {
    const Work w{plan, memory, Team{0, 1, nullptr}};
    load_image(plan, {image}, memory);
    forward_below(w);
    convolve(w, w.target(), kind, w.output(w.target()));
    return w.output(w.target());
}

// Mean over positions, rows first, so that the rounding error stays that of a row.
static void score(const Plan& plan, float* memory, const float* image, Objective objective, float* scores) {
    const LayerPlan& t = plan.layers[plan.layer_count - 1];
    const Activation kind = objective == Objective::activation ? t.activation : Activation::none;
    const float* maps = forward_all(plan, memory, image, kind);
    const Vec share = splat(1.0f / float(t.positions));
    for (int c = 0; c < t.maps_padded; c += kLanes) {
        Vec total = {};
        for (int y = 0; y < t.out_height; ++y) {
            Vec row = {};
            for (int x = 0; x < t.out_width; ++x)
                row += load(maps + (std::int64_t(y) * t.out_width + x) * t.maps_padded + c);
            total += row;
        }
        float lanes[kLanes];
        store(lanes, total * share);
        for (int i = 0; i < kLanes && c + i < t.maps; ++i) scores[c + i] = lanes[i];
    }
}

static void activations(const Plan& plan, float* memory, const float* image, float* out) {
    const LayerPlan& t = plan.layers[plan.layer_count - 1];
    const float* maps = forward_all(plan, memory, image, t.activation);
    for (int m = 0; m < t.maps; ++m)
        for (int i = 0; i < t.positions; ++i) *out++ = maps[std::int64_t(i) * t.maps_padded + m];
}
