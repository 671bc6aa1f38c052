// Forward: convolution, activation, pooling, one image at a time.
//
// Algorithm: direct convolution as a matrix product. kTile windows times kBlockVectors vectors
// of maps stay in registers; each weight vector is loaded once for kTile windows, each input
// value broadcast once for kBlockVectors vectors. One block's weights (all taps) stay in the
// first-level cache while the windows stream by.
// Bound: FMA throughput; kTile * kBlockVectors = 12 independent sums hide its latency.

template <int P, int V>
static void convolve_tile(const LayerPlan& p, const float* in, const float* weights, const float* bias,
                          const std::int32_t* from, const std::int32_t* to, Activation kind, float* out) {
    Vec acc[P][V];
    const float* window[P];
    for (int i = 0; i < P; ++i) {
        window[i] = in + from[i];
        for (int v = 0; v < V; ++v) acc[i][v] = load(bias + v * kLanes);
    }
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
    const Vec slope = splat(p.slope);
    for (int i = 0; i < P; ++i)
        for (int v = 0; v < V; ++v) store(out + to[i] + v * kLanes, activate(kind, slope, acc[i][v]));
}

template <int V>
static void convolve_block(const LayerPlan& p, const float* in, const float* weights, const float* bias,
                           Activation kind, float* out) {
    const std::int32_t *from = p.in_offset, *to = p.out_offset;
    int left = p.positions;
    for (; left >= kTile; left -= kTile, from += kTile, to += kTile)
        convolve_tile<kTile, V>(p, in, weights, bias, from, to, kind, out);
    static_assert(kTile == 6, "the cases below are the remainders");
    switch (left) {
        case 5: return convolve_tile<5, V>(p, in, weights, bias, from, to, kind, out);
        case 4: return convolve_tile<4, V>(p, in, weights, bias, from, to, kind, out);
        case 3: return convolve_tile<3, V>(p, in, weights, bias, from, to, kind, out);
        case 2: return convolve_tile<2, V>(p, in, weights, bias, from, to, kind, out);
        case 1: return convolve_tile<1, V>(p, in, weights, bias, from, to, kind, out);
        default: return;
    }
}

// All maps at all positions, activated by `kind`, to out + out_offset.
static void convolve(const LayerPlan& p, const float* in, Activation kind, float* out) {
    static_assert(kBlockVectors == 2, "the remainder is one vector");
    const std::int64_t taps = std::int64_t(p.runs) * p.run_length;
    int map = 0;
    for (; map + 2 * kLanes <= p.maps_padded; map += 2 * kLanes)
        convolve_block<2>(p, in, p.forward_weights + taps * map, p.bias + map, kind, out + map);
    if (map < p.maps_padded)
        convolve_block<1>(p, in, p.forward_weights + taps * map, p.bias + map, kind, out + map);
}

// The first of equal values in row-major order wins: only a strictly larger one replaces it.
static void pool_maximum(const LayerPlan& p, const float* maps, float* next, std::int32_t* argmax) {
    for (int q = 0; q < p.pooled; ++q, argmax += p.maps_padded) {
        const Window w = p.windows[q];
        const float* corner = maps + (std::int64_t(w.y0) * p.out_width + w.x0) * p.maps_padded;
        float* out = next + p.next_offset[q];
        for (int c = 0; c < p.maps_padded; c += kLanes) {
            Vec best = load(corner + c);
            IVec place = splat_int(w.place);
            for (int y = 0; y < w.y1 - w.y0; ++y)
                for (int x = 0; x < w.x1 - w.x0; ++x) {
                    const Vec v = load(corner + (std::int64_t(y) * p.out_width + x) * p.maps_padded + c);
                    const IVec more = v > best;
                    best = select(more, v, best);
                    place = select(more, splat_int(w.place + y * p.pool_w + x), place);
                }
            store(out + c, best);
            store(argmax + c, place);
        }
    }
}

static void pool_average(const LayerPlan& p, const float* maps, float* next) {
    const Vec share = splat(1.0f / float(p.places));
    for (int q = 0; q < p.pooled; ++q) {
        const Window w = p.windows[q];
        float* out = next + p.next_offset[q];
        for (int c = 0; c < p.maps_padded; c += kLanes) {
            Vec total = {};
            for (int y = w.y0; y < w.y1; ++y)
                for (int x = w.x0; x < w.x1; ++x)
                    total += load(maps + (std::int64_t(y) * p.out_width + x) * p.maps_padded + c);
            store(out + c, total * share);
        }
    }
}

// The image (C, H, W) into the first layer's padded, channels-last buffer.
static void load_image(const Plan& plan, const float* image, float* memory) {
    const LayerPlan& p = plan.layers[0];
    float* in = memory + p.input;
    for (int c = 0; c < plan.channels; ++c)
        for (int y = 0; y < p.in_height; ++y) {
            const float* row = image + (std::int64_t(c) * plan.height + y) * plan.width;
            float* to = in + (std::int64_t(y + p.pad_top) * p.padded_w + p.pad_left) * plan.channels + c;
            if (plan.channels == 1) {
                __builtin_memcpy(to, row, std::size_t(p.in_width) * sizeof(float));
                continue;
            }
            for (int x = 0; x < p.in_width; ++x) to[std::int64_t(x) * plan.channels] = row[x];
        }
}

// From the loaded image to the target's input buffer.
static void forward_below(const Plan& plan, float* memory) {
    for (int l = 0; l + 1 < plan.layer_count; ++l) {
        const LayerPlan& p = plan.layers[l];
        const bool direct = p.pool == Pool::none;
        float* next = memory + plan.layers[l + 1].input;
        float* maps = direct ? next : memory + p.output;
        convolve(p, memory + p.input, p.activation, maps);
        if (p.pool == Pool::max)
            pool_maximum(p, maps, next, reinterpret_cast<std::int32_t*>(memory + p.argmax));
        else if (p.pool == Pool::average)
            pool_average(p, maps, next);
    }
}

// The target's maps (positions, maps_padded), all of them.
static const float* forward_all(const Plan& plan, float* memory, const float* image, Activation kind) {
    const LayerPlan& t = plan.layers[plan.layer_count - 1];
    load_image(plan, image, memory);
    forward_below(plan, memory);
    convolve(t, memory + t.input, kind, memory + t.output);
    return memory + t.output;
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
