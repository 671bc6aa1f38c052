// Backward: from the gradient of one map down to the image, through routed values only.
//
// Algorithm: a gradient that is not zero is an entry (map, value) in the bucket of the one
// window of the layer's input that it belongs to: a max-pool sends each value to one of its
// places, a ReLU that is off sends none. Adding a bucket to the input's gradient takes, per
// kernel row, one pass over kernel_w * in_padded contiguous floats held in registers while its
// entries go by: one multiply-add and one load of a weight vector each. The kernel row is
// the outermost loop, so that its weights stay in the first-level cache.
// The image's gradient is gathered the other way round: per pooling window, a patch of the
// image in registers, to which each map adds one of `places` shifted copies of its kernel.
// Bound: loads from the first-level cache, one weight vector per multiply-add.

struct Entry {
    std::int32_t map;
    float value;
};

struct Bucket {
    std::int32_t at, first, count;  // input offset of the window; its entries
};

constexpr int kRowVectors = 12;
constexpr int kPatchVectors = 8;
constexpr int kMostPlaces = 9;
constexpr int kMostMaps = 256;
constexpr int kMostPatch = 368;  // a 7x7 kernel at stride 2 under a 3x3 maximum over RGB: 11 * 11 * 3

template <int N>
static void add_chunk(const Entry* entries, int count, const float* rows, std::int64_t pitch, float* out) {
    Vec acc[N];
    for (int i = 0; i < N; ++i) acc[i] = load(out + i * kLanes);
    for (int k = 0; k < count; ++k) {
        const float* row = rows + entries[k].map * pitch;
        const Vec value = splat(entries[k].value);
        for (int i = 0; i < N; ++i) acc[i] += value * load(row + i * kLanes);
    }
    for (int i = 0; i < N; ++i) store(out + i * kLanes, acc[i]);
}

// out (row of `pitch` floats) += sum over entries of value * rows[map].
static void add_row(const Entry* entries, int count, const float* rows, std::int64_t pitch, float* out) {
    auto vectors = int(pitch / kLanes);
    for (; vectors >= kRowVectors; vectors -= kRowVectors) {
        add_chunk<kRowVectors>(entries, count, rows, pitch, out);
        rows += kRowVectors * kLanes, out += kRowVectors * kLanes;
    }
    static_assert(kRowVectors == 12, "the cases below are the remainders");
    switch (vectors) {
        case 11: return add_chunk<11>(entries, count, rows, pitch, out);
        case 10: return add_chunk<10>(entries, count, rows, pitch, out);
        case 9: return add_chunk<9>(entries, count, rows, pitch, out);
        case 8: return add_chunk<8>(entries, count, rows, pitch, out);
        case 7: return add_chunk<7>(entries, count, rows, pitch, out);
        case 6: return add_chunk<6>(entries, count, rows, pitch, out);
        case 5: return add_chunk<5>(entries, count, rows, pitch, out);
        case 4: return add_chunk<4>(entries, count, rows, pitch, out);
        case 3: return add_chunk<3>(entries, count, rows, pitch, out);
        case 2: return add_chunk<2>(entries, count, rows, pitch, out);
        case 1: return add_chunk<1>(entries, count, rows, pitch, out);
        default: return;
    }
}

static void add_buckets(const LayerPlan& p, const Bucket* buckets, int count, const Entry* entries,
                        float* gradient) {
    const std::int64_t pitch = std::int64_t(p.kernel_w) * p.in_padded;
    clear(gradient, p.in_floats);
    for (int y = 0; y < p.kernel_h; ++y) {
        const float* rows = p.rows + std::int64_t(y) * p.maps * pitch;
        float* line = gradient + std::int64_t(y) * p.padded_w * p.in_padded;
        for (int b = 0; b < count; ++b)
            add_row(entries + buckets[b].first, buckets[b].count, rows, pitch, line + buckets[b].at);
    }
}

// Where a lower layer's gradient comes from, and where its windows begin in the layer's input:
// a pool's outputs, or the convolution's own positions where nothing pools or an average does.
struct Source {
    const float *gradient, *values;              // the latter activated
    const std::int32_t *gradient_at, *value_at;  // (count) offsets in them
    const std::int32_t* input_at;                // (count)
    const std::int32_t* argmax;                  // (count, maps_padded), or null: always place 0
    int count;
};

// An average pool gives each place an equal share.
static void spread_average(const LayerPlan& p, const float* pooled, float* dense) {
    const Vec share = splat(1.0f / float(p.places));
    clear(dense, std::int64_t(p.positions) * p.maps_padded);
    for (int q = 0; q < p.pooled; ++q) {
        const Window w = p.windows[q];
        for (int y = w.y0; y < w.y1; ++y)
            for (int x = w.x0; x < w.x1; ++x) {
                float* out = dense + (std::int64_t(y) * p.out_width + x) * p.maps_padded;
                for (int c = 0; c < p.maps_padded; c += kLanes)
                    store(out + c, load(out + c) + load(pooled + p.next_offset[q] + c) * share);
            }
    }
}

static Source source_of(const Plan& plan, int l, float* memory) {
    const LayerPlan &p = plan.layers[l], &next = plan.layers[l + 1];
    const float *above = memory + next.gradient, *values = memory + next.input;
    if (p.pool == Pool::average) {
        float* dense = memory + plan.dense;
        spread_average(p, above, dense);
        return {dense, memory + p.output, p.out_offset, p.out_offset, p.in_offset, nullptr, p.positions};
    }
    const auto* argmax =
        p.pool == Pool::max ? reinterpret_cast<const std::int32_t*>(memory + p.argmax) : nullptr;
    return {above, values, p.next_offset, p.next_offset, p.pool_at, argmax, p.pooled};
}

// gated (maps_padded): the gradient before the activation function.
PYOIP_INLINE void gate(const LayerPlan& p, const Source& s, int q, float* gated) {
    const float *g = s.gradient + s.gradient_at[q], *a = s.values + s.value_at[q];
    const Vec slope = splat(p.slope);
    for (int c = 0; c < p.maps_padded; c += kLanes)
        store(gated + c, load(g + c) * derivative(p.activation, slope, load(a + c)));
}

// Fills buckets and entries; returns the number of buckets.
static int route(const LayerPlan& p, const Source& s, Bucket* buckets, Entry* entries) {
    float gated[kMostMaps];
    Entry sorted[kMostPlaces][kMostMaps];
    const int places = s.argmax ? p.places : 1;
    int bucket_count = 0, entry_count = 0;
    for (int q = 0; q < s.count; ++q) {
        gate(p, s, q, gated);
        const std::int32_t* place = s.argmax ? s.argmax + std::int64_t(q) * p.maps_padded : nullptr;
        int counts[kMostPlaces] = {};
        for (int m = 0; m < p.maps; ++m) {
            const int k = place ? place[m] : 0;
            sorted[k][counts[k]] = {m, gated[m]};
            counts[k] += gated[m] != 0.0f;  // a zero is overwritten by the next
        }
        for (int k = 0; k < places; ++k) {
            if (counts[k] == 0) continue;
            buckets[bucket_count++] = {s.input_at[q] + p.place_step[k], entry_count, counts[k]};
            __builtin_memcpy(entries + entry_count, sorted[k], std::size_t(counts[k]) * sizeof(Entry));
            entry_count += counts[k];
        }
    }
    return bucket_count;
}

template <int N>
static void gather_patch(const LayerPlan& p, const float* gated, const std::int32_t* place,
                         const float* patches, float* patch) {
    const std::int64_t pitch = p.patch_floats, places = place ? p.places : 1;
    Vec acc[N] = {};
    for (int m = 0; m < p.maps; ++m) {
        const float* kernel = patches + (m * places + (place ? place[m] : 0)) * pitch;
        const Vec value = splat(gated[m]);
        for (int i = 0; i < N; ++i) acc[i] += value * load(kernel + i * kLanes);
    }
    for (int i = 0; i < N; ++i) store(patch + i * kLanes, acc[i]);
}

static void gather_whole_patch(const LayerPlan& p, const float* gated, const std::int32_t* place,
                               float* patch) {
    const float* patches = p.patches;
    int vectors = p.patch_floats / kLanes;
    for (; vectors >= kPatchVectors; vectors -= kPatchVectors) {
        gather_patch<kPatchVectors>(p, gated, place, patches, patch);
        patches += kPatchVectors * kLanes, patch += kPatchVectors * kLanes;
    }
    static_assert(kPatchVectors == 8, "the cases below are the remainders");
    switch (vectors) {
        case 7: return gather_patch<7>(p, gated, place, patches, patch);
        case 6: return gather_patch<6>(p, gated, place, patches, patch);
        case 5: return gather_patch<5>(p, gated, place, patches, patch);
        case 4: return gather_patch<4>(p, gated, place, patches, patch);
        case 3: return gather_patch<3>(p, gated, place, patches, patch);
        case 2: return gather_patch<2>(p, gated, place, patches, patch);
        case 1: return gather_patch<1>(p, gated, place, patches, patch);
        default: return;
    }
}

static void image_patches(const LayerPlan& p, const Source& s, float* gradient) {
    float gated[kMostMaps], patch[kMostPatch];
    const std::int64_t line = std::int64_t(p.padded_w) * p.in_padded;
    for (int q = 0; q < s.count; ++q) {
        gate(p, s, q, gated);
        gather_whole_patch(p, gated, s.argmax ? s.argmax + std::int64_t(q) * p.maps_padded : nullptr, patch);
        float* to = gradient + s.input_at[q];
        for (int y = 0; y < p.patch_rows; ++y)
            for (int x = 0; x < p.patch_row_length; ++x)
                to[y * line + x] += patch[y * p.patch_row_length + x];
    }
}

// From the first layer's padded, channels-last gradient to planes (C, H, W).
static void unload_gradient(const Plan& plan, const float* memory, float* gradient) {
    const LayerPlan& p = plan.layers[0];
    const float* from = memory + p.gradient;
    clear(gradient, plan.pixels);
    for (int c = 0; c < plan.channels; ++c)
        for (int y = 0; y < p.in_height; ++y) {
            const float* row =
                from + (std::int64_t(y + p.pad_top) * p.padded_w + p.pad_left) * plan.channels + c;
            float* to = gradient + (std::int64_t(c) * plan.height + y) * plan.width;
            for (int x = 0; x < p.in_width; ++x) to[x] = row[std::int64_t(x) * plan.channels];
        }
}

// From the target's map gradient (positions) to the image's (C, H, W); two layers or more.
static void backward(const Plan& plan, float* memory, int map, const float* map_gradient, float* gradient) {
    auto* buckets = reinterpret_cast<Bucket*>(memory + plan.buckets);
    auto* entries = reinterpret_cast<Entry*>(memory + plan.entries);
    const int target = plan.layer_count - 1;
    const LayerPlan& t = plan.layers[target];
    int count = 0;
    for (int i = 0; i < t.positions; ++i) {
        entries[count] = {map, map_gradient[i]};
        buckets[count] = {t.in_offset[i], count, 1};
        count += map_gradient[i] != 0.0f;
    }
    add_buckets(t, buckets, count, entries, memory + t.gradient);
    for (int l = target - 1; l > 0; --l) {
        const LayerPlan& p = plan.layers[l];
        count = route(p, source_of(plan, l, memory), buckets, entries);
        add_buckets(p, buckets, count, entries, memory + p.gradient);
    }
    const LayerPlan& first = plan.layers[0];
    clear(memory + first.gradient, first.in_floats);
    image_patches(first, source_of(plan, 0, memory), memory + first.gradient);
    unload_gradient(plan, memory, gradient);
}
