// Pooling, and the codes that remember its decisions (plan.hpp).
//
// All activation functions rise monotonically, so a maximum is taken before the activation
// and only the winner is activated. The first of equal values in row-major order wins: only a
// strictly larger one replaces it.
// Layout: plan.hpp. Bound: comparisons in registers where a convolution puts its tile through
// put_quad, loads and stores of the maps elsewhere.

// The code of a value that came from `place`, before its activation.
PYOIP_INLINE IVec code_of(const LayerPlan& p, Vec z, IVec place) {
    return slope_of(p.activation) == Slope::gate ? select(z > Vec{}, place, splat_int(p.places)) : place;
}

// One cell of a 2x2 maximum: the places in row-major order.
PYOIP_INLINE void put_quad(const LayerPlan& p, Vec z0, Vec z1, Vec z2, Vec z3, float* out,
                           std::uint8_t* code) {
    const Vec upper = larger(z1, z0), lower = larger(z3, z2), best = larger(lower, upper);
    const IVec upper_place = select(z1 > z0, splat_int(1), IVec{});
    const IVec lower_place = select(z3 > z2, splat_int(3), splat_int(2));
    const IVec place = select(lower > upper, lower_place, upper_place);
    store(out, activate(p.activation, splat(p.slope), best));
    store_bytes(code, code_of(p, best, place));
}

// maps (positions, maps_padded), not yet activated.
static void pool_maximum(const LayerPlan& p, Range cells, const float* maps, float* next,
                         std::uint8_t* codes) {
    const Vec slope = splat(p.slope);
    for (int q = cells.begin; q < cells.end; ++q) {
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
            store(out + c, activate(p.activation, slope, best));
            store_bytes(codes + std::int64_t(q) * p.maps_padded + c, code_of(p, best, place));
        }
    }
}

// maps (positions, maps_padded), activated.
static void pool_average(const LayerPlan& p, Range pooled, const float* maps, float* next) {
    const Vec share = splat(p.pool_share);
    for (int q = pooled.begin; q < pooled.end; ++q) {
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

// The codes of cells that nothing pools, from their activated values: a gate's slope
// shows in its value.
static void code_positions(const LayerPlan& p, Range cells, const float* values, const std::int32_t* value_at,
                           std::uint8_t* codes) {
    for (int q = cells.begin; q < cells.end; ++q)
        for (int c = 0; c < p.maps_padded; c += kLanes)
            store_bytes(codes + std::int64_t(q) * p.maps_padded + c,
                        code_of(p, load(values + value_at[q] + c), IVec{}));
}
