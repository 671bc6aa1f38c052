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

// The image (C, H, W) into the first layer's padded planes.
static void load_image(const Plan& plan, const float* image, float* memory) {
    const LayerPlan& p = plan.layers[0];
    for (int c = 0; c < plan.channels; ++c)
        for (int y = 0; y < p.in_height; ++y)
            __builtin_memcpy(
                memory + p.input + (std::int64_t(c) * p.padded_h + y + p.pad_top) * p.padded_w + p.pad_left,
                image + (std::int64_t(c) * plan.height + y) * plan.width,
                std::size_t(p.in_width) * sizeof(float));
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
            convolve(w, l, p.activation, next);
            w.team.meet();
            if (gates) code_positions(p, w.team.share(p.cells), next, p.out_offset, codes);
            return;
        case Pool::max:
            convolve(w, l, Activation::none, w.output(l));
            w.team.meet();
            return pool_maximum(p, w.team.share(p.cells), w.output(l), next, codes);
        case Pool::average:
            convolve(w, l, p.activation, w.output(l));
            w.team.meet();
            if (gates) code_positions(p, w.team.share(p.cells), w.output(l), p.out_offset, codes);
            return pool_average(p, w.team.share(p.pooled), w.output(l), next);
    }
}

static void forward_below(const Work& w) {
    for (int l = 0; l < w.target(); ++l) {
        forward_layer(w, l);
        w.team.meet();
    }
}

// The target's maps (positions, maps_padded), all of them, by one thread.
static const float* forward_all(const Plan& plan, float* memory, const float* image, Activation kind) {
    const Work w{plan, memory, Team{0, 1, nullptr}};
    load_image(plan, image, memory);
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
