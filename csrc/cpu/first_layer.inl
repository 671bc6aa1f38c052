// The first layer as the target: one small kernel over one or three planes.
//
// Algorithm: the image and the map lie in planes; a vector runs along a row, and each tap is
// one multiply-add on an unaligned load. The gradient is the same correlation again, with the
// flipped kernel over the map's gradient, spread by the stride into a border of zeros.
// Bound: loads, one per multiply-add.

PYOIP_INLINE float* plane_row(const LayerPlan& p, float* planes, int c, int y) {
    return planes + (std::int64_t(c) * p.padded_h + y) * p.plane_width;
}

static void load_planes(const Plan& plan, const float* image, float* planes) {
    const LayerPlan& p = plan.layers[0];
    for (int c = 0; c < plan.channels; ++c)
        for (int y = 0; y < p.in_height; ++y)
            __builtin_memcpy(plane_row(p, planes, c, y + p.pad_top) + p.pad_left,
                             image + (std::int64_t(c) * plan.height + y) * plan.width,
                             std::size_t(p.in_width) * sizeof(float));
}

PYOIP_INLINE Vec load_strided(const float* p, int stride) {
    if (stride == 1) return load(p);
    float lanes[kLanes];
    for (int i = 0; i < kLanes; ++i) lanes[i] = p[i * stride];
    return load(lanes);
}

// The map before its activation function; rows of map_width, of which out_width count.
static void correlate_planes(const LayerPlan& p, const float* weights, float bias, float* planes,
                             float* map) {
    for (int y = 0; y < p.out_height; ++y)
        for (int x = 0; x < p.map_width; x += kLanes) {
            Vec acc = splat(bias);
            const float* w = weights;
            for (int c = 0; c < p.in_channels; ++c)
                for (int ky = 0; ky < p.kernel_h; ++ky) {
                    const float* row = plane_row(p, planes, c, y * p.stride_h + ky) + x * p.stride_w;
                    for (int kx = 0; kx < p.kernel_w; ++kx)
                        acc += splat(*w++) * load_strided(row + kx, p.stride_w);
                }
            store(map + std::int64_t(y) * p.map_width + x, acc);
        }
}

// Each value of the map's gradient goes where its window begins, behind a border of zeros.
static void spread_map(const LayerPlan& p, const float* map_gradient, float* spread) {
    float* inside = spread + std::int64_t(p.kernel_h - 1) * p.spread_w + p.kernel_w - 1;
    for (int y = 0; y < p.out_height; ++y) {
        const float* from = map_gradient + std::int64_t(y) * p.map_width;
        float* to = inside + std::int64_t(y) * p.stride_h * p.spread_w;
        for (int x = 0; x < p.out_width; ++x) to[std::int64_t(x) * p.stride_w] = from[x];
    }
}

static void plane_gradients(const Plan& plan, const float* weights, const float* spread, float* planes,
                            float* gradient) {
    const LayerPlan& p = plan.layers[0];
    clear(gradient, plan.pixels);
    for (int c = 0; c < p.in_channels; ++c)
        for (int y = 0; y < p.in_height; ++y) {
            float* row = plane_row(p, planes, c, y + p.pad_top);
            for (int x = 0; x < p.padded_w; x += kLanes) {
                Vec acc = {};
                const float* w = weights + std::int64_t(c) * p.kernel_h * p.kernel_w;
                for (int ky = 0; ky < p.kernel_h; ++ky) {
                    const float* from =
                        spread + std::int64_t(y + p.pad_top + p.kernel_h - 1 - ky) * p.spread_w + x;
                    for (int kx = p.kernel_w - 1; kx >= 0; --kx) acc += splat(*w++) * load(from + kx);
                }
                store(row + x, acc);
            }
            __builtin_memcpy(gradient + (std::int64_t(c) * plan.height + y) * plan.width, row + p.pad_left,
                             std::size_t(p.in_width) * sizeof(float));
        }
}
