// Backward: from the gradient of one map down to the first layer's outputs, through routed
// values only.
//
// Algorithm: a gradient that is not zero is an entry (map, value) in the bucket of the one
// window of the layer's input that it belongs to: a maximum sends each value to one of its
// places, a ReLU that is off sends none; the codes say which. Adding a bucket to the input's
// gradient takes, per kernel row, one pass over kernel_w * in_padded contiguous floats held in
// registers while its entries go by: one multiply-add and one load of a weight vector each.
// The kernel row is the outermost loop, so that its weights stay in the first-level cache.
// Along an ascent few decisions change from a step to the next. While the gradient above stays
// what it was, only the changed entries are moved: taken off their old place and added to the
// new one. Every kRefresh steps all is added up afresh, so that rounding errors do not pile up, and
// whenever the gradient has become faint: what is left could be nothing else.
// Bound: loads from the first-level cache, one weight vector per multiply-add. Measured: about
// 3 % of the decisions change in a step, and a tenth of an ascent through three layers goes here.

struct Entry {
    std::int32_t map;
    float value;
};

struct Bucket {
    std::int32_t at, line, first, count;  // input offset of the window, its row; its entries
};

constexpr int kRowVectors = 12;
constexpr int kRefresh = 32;     // measured: a drift of 1e-6 at most,
constexpr float kFaint = 1e-4f;  // while the gradient's square is not below this share of what it was

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
    with_count<kRowVectors - 1>(
        vectors, [&](auto n) { add_chunk<decltype(n)::value>(entries, count, rows, pitch, out); });
}

struct Routes {
    Bucket* buckets;
    Entry* entries;
    int bucket_count, entry_count;

    void open(const LayerPlan& p, std::int32_t at) {
        buckets[bucket_count++] = {at, at / (p.padded_w * p.in_padded), entry_count, 0};
    }
    void add(int map, float value) {
        entries[entry_count++] = {map, value};
        ++buckets[bucket_count - 1].count;
    }
};

// Each thread adds to its own rows of the gradient.
static void add_buckets(const LayerPlan& p, Range lines, const Routes& routes, bool afresh, float* gradient) {
    const std::int64_t pitch = std::int64_t(p.kernel_w) * p.in_padded;
    const std::int64_t line = std::int64_t(p.padded_w) * p.in_padded;
    if (afresh) clear(gradient + lines.begin * line, (lines.end - lines.begin) * line);
    for (int y = 0; y < p.kernel_h; ++y) {
        const float* rows = p.rows + std::int64_t(y) * p.maps * pitch;
        for (int b = 0; b < routes.bucket_count; ++b) {
            const Bucket& bucket = routes.buckets[b];
            if (bucket.line + y >= lines.begin && bucket.line + y < lines.end)
                add_row(routes.entries + bucket.first, bucket.count, rows, pitch,
                        gradient + y * line + bucket.at);
        }
    }
}

// Where a lower layer's gradient comes from: a pool's outputs, or the convolution's own
// positions where nothing pools or an average does.
struct Source {
    const float *gradient, *values;  // the latter activated
    const std::int32_t* at;          // (cells) offsets in both
    const std::uint8_t* codes;       // (cells, maps_padded)
};

// An average pool gives each place an equal share.
static void spread_average(const LayerPlan& p, const float* pooled, float* dense) {
    const Vec share = splat(p.pool_share);
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

static Source source_of(const Work& w, int l) {
    const LayerPlan& p = w.layer(l);
    if (p.pool == Pool::average) return {w.memory + w.plan.dense, w.output(l), p.out_offset, w.codes(l)};
    return {w.gradient(l + 1), w.input(l + 1), p.next_offset, w.codes(l)};
}

// Where the derivative is 1 or 0 the code says all about it.
PYOIP_INLINE bool coded(const LayerPlan& p) { return slope_of(p.activation) != Slope::varies; }

// The cell's gradient before the activation function, (maps_padded): where codes say all, it is
// the gradient itself, to be ignored where the code is `places`.
PYOIP_INLINE const float* gated(const LayerPlan& p, const Source& s, int q, float* room) {
    const float *g = s.gradient + s.at[q], *a = s.values + s.at[q];
    if (coded(p)) return g;
    const Vec slope = splat(p.slope);
    for (int c = 0; c < p.maps_padded; c += kLanes)
        store(room + c, load(g + c) * derivative(p.activation, slope, load(a + c)));
    return room;
}

// All entries of the cells, sorted by place.
static void route_all(const LayerPlan& p, const Source& s, Routes& routes) {
    float room[kMostMaps];
    Entry sorted[kMostPlaces + 1][kMostMaps];
    for (int q = 0; q < p.cells; ++q) {
        const float* g = gated(p, s, q, room);
        const std::uint8_t* code = s.codes + std::int64_t(q) * p.maps_padded;
        int counts[kMostPlaces + 1] = {};
        for (int m = 0; m < p.maps; ++m) {
            sorted[code[m]][counts[code[m]]] = {m, g[m]};
            counts[code[m]] += g[m] != 0.0f;  // a zero is overwritten by the next
        }
        for (int k = 0; k < p.places; ++k) {
            if (counts[k] == 0) continue;
            routes.open(p, p.cell_offset[q] + p.place_step[k]);
            routes.buckets[routes.bucket_count - 1].count = counts[k];
            __builtin_memcpy(routes.entries + routes.entry_count, sorted[k],
                             std::size_t(counts[k]) * sizeof(Entry));
            routes.entry_count += counts[k];
        }
    }
}

// Codes are compared by words: maps_padded is a whole number of them.
#if PYOIP_LANES >= 8
typedef std::uint64_t Word;
#else
typedef std::uint32_t Word;
#endif

PYOIP_INLINE Word word_at(const std::uint8_t* codes, std::int64_t word) {
    Word value;
    __builtin_memcpy(&value, codes + word * std::int64_t(sizeof value), sizeof value);
    return value;
}

// f(index, old code, new code) for each of `count` codes that differ, and makes the old ones new.
// Words that differ are listed first, without a branch: which they are cannot be predicted.
template <class F>
PYOIP_INLINE void each_change(const std::uint8_t* now, std::uint8_t* before, std::int64_t count, const F& f) {
    constexpr int size = sizeof(Word), most = 512;
    std::uint16_t changed[most + 1];
    for (std::int64_t first = 0; first < count / size; first += most) {
        const int words = smaller_of(most, int(count / size - first));
        int changes = 0;
        for (int i = 0; i < words; ++i) {
            changed[changes] = std::uint16_t(i);
            changes += word_at(now, first + i) != word_at(before, first + i);
        }
        for (int k = 0; k < changes; ++k) {
            const std::int64_t at = (first + changed[k]) * size;
            Word difference = word_at(now + at, 0) ^ word_at(before + at, 0);
            do {
                const int byte = __builtin_ctzll(difference) / 8;  // little-endian
                difference &= ~(Word(255) << 8 * byte);
                f(at + byte, before[at + byte], now[at + byte]);
            } while (difference != 0);
            __builtin_memcpy(before + at, now + at, size);
        }
    }
}

// The entries that changed, the gradient being the same.
static void route_changes(const LayerPlan& p, const Source& s, std::uint8_t* old, Routes& routes) {
    each_change(s.codes, old, std::int64_t(p.cells) * p.maps_padded, [&](std::int64_t i, int was, int is) {
        const auto q = int(i / p.maps_padded), m = int(i % p.maps_padded);
        const float g = s.gradient[s.at[q] + m];
        if (g == 0.0f) return;
        if (was < p.places) {
            routes.open(p, p.cell_offset[q] + p.place_step[was]);
            routes.add(m, -g);
        }
        if (is < p.places) {
            routes.open(p, p.cell_offset[q] + p.place_step[is]);
            routes.add(m, g);
        }
    });
}

// Whether so many codes changed that adding up all is cheaper.
static bool many_changes(const LayerPlan& p, const std::uint8_t* now, const std::uint8_t* old) {
    const std::int64_t words = std::int64_t(p.cells) * p.maps_padded / std::int64_t(sizeof(Word));
    std::int64_t changed = 0;
    for (std::int64_t i = 0; i < words; ++i) changed += word_at(now, i) != word_at(old, i);
    return changed > words / 2;
}

// The target's map at 3x3 and stride 1, all positions: some rows of the gradient, each vector of
// channels gathered from nine positions with its nine weights in registers.
static void correlate_map_back(const LayerPlan& p, int map, Range lines, const float* values,
                               float* gradient) {
    const std::int64_t step = p.in_padded, pitch = 3 * step;
    const int width = p.out_width, height = p.out_height;
    float rows[3][kMostSide + 4] = {};  // of values, with two zeros before and behind
    for (int line = lines.begin; line < lines.end; ++line) {
        for (int y = 0; y < 3; ++y) {
            const int from = line - y;
            if (from >= 0 && from < height)
                __builtin_memcpy(rows[y] + 2, values + std::int64_t(from) * width,
                                 std::size_t(width) * sizeof(float));
            else
                clear(rows[y] + 2, width);
        }
        for (std::int64_t c = 0; c < step; c += kLanes) {
            Vec w[9];
            for (int i = 0; i < 9; ++i)
                w[i] = load(p.rows + (std::int64_t(i / 3) * p.maps + map) * pitch + i % 3 * step + c);
            float* to = gradient + std::int64_t(line) * p.padded_w * step + c;
            for (int x = 0; x < width + 2; ++x, to += step) {
                Vec acc = {};
                for (int i = 0; i < 9; ++i) acc += splat(rows[i / 3][x + 2 - i % 3]) * w[i];
                store(to, acc);
            }
            for (int x = width + 2; x < p.padded_w; ++x, to += step) store(to, Vec{});
        }
    }
}

// What the gradients in an image's workspace were made of. `age` 0: of nothing that still holds.
struct Past {
    int age;
    float square;  // of the image's gradient when all was last added up, summed over the pixels
};

// One thread decides what to add, all add it; the outcome is shared by way of the workspace.
struct Decision {
    Routes routes;
    bool afresh;   // clear the gradient first
    bool dense;    // not by routes: the target's map, by correlate_map_back
    bool changed;  // the gradient is not what it was
};

static Routes empty_routes(const Work& w) {
    return {reinterpret_cast<Bucket*>(w.memory + w.plan.buckets),
            reinterpret_cast<Entry*>(w.memory + w.plan.entries), 0, 0};
}

// The target's map as entries; from positions whose gradient changed, where they are few.
static Decision route_target(const Work& w, int map, const Past& past) {
    const LayerPlan& t = w.layer(w.target());
    const float* now = w.memory + w.plan.map_gradient;
    float* before = w.memory + w.plan.old_map_gradient;
    int changes = 0;
    for (int i = 0; i < t.positions; ++i) changes += now[i] != before[i];
    const bool afresh = past.age == 0 || changes > t.positions / 4;
    int used = 0;
    for (int i = 0; i < t.positions; ++i) used += now[i] != 0.0f;
    const bool square = t.kernel_h == 3 && t.kernel_w == 3 && t.stride_h == 1 && t.stride_w == 1;
    Decision d{empty_routes(w), afresh, afresh && square && used > t.positions / 4, afresh || changes > 0};
    if (d.dense) {
        __builtin_memcpy(before, now, std::size_t(t.positions) * sizeof(float));
        return d;
    }
    for (int i = 0; i < t.positions; ++i) {
        const float value = afresh ? now[i] : now[i] - before[i];
        before[i] = now[i];
        if (value == 0.0f) continue;
        d.routes.open(t, t.in_offset[i]);
        d.routes.add(map, value);
    }
    return d;
}

static Decision route_layer(const Work& w, int l, bool changed_above, const Past& past) {
    const LayerPlan& p = w.layer(l);
    if (p.pool == Pool::average) spread_average(p, w.gradient(l + 1), w.memory + w.plan.dense);
    const Source s = source_of(w, l);
    const bool afresh =
        past.age == 0 || changed_above || !coded(p) || many_changes(p, w.codes(l), w.old_codes(l));
    Decision d{empty_routes(w), afresh, false, true};
    if (afresh) {
        route_all(p, s, d.routes);
        __builtin_memcpy(w.old_codes(l), w.codes(l), std::size_t(p.cells) * std::size_t(p.maps_padded));
    } else {
        route_changes(p, s, w.old_codes(l), d.routes);
        d.changed = d.routes.entry_count > 0;
    }
    return d;
}

// Marks the positions of a layer's input whose gradient is about to change.
static void mark_changes(const Work& w, int l, const Decision& d) {
    const LayerPlan& p = w.layer(l);
    std::uint8_t* marks = w.marks();
    __builtin_memset(marks, d.afresh, std::size_t(p.padded_h) * std::size_t(p.padded_w));
    if (d.afresh) return;
    for (int b = 0; b < d.routes.bucket_count; ++b) {
        std::uint8_t* corner = marks + d.routes.buckets[b].at / p.in_padded;
        for (int y = 0; y < p.kernel_h; ++y)
            for (int x = 0; x < p.kernel_w; ++x) corner[y * p.padded_w + x] = 1;
    }
}

// From the target's map gradient to the gradient of the first layer's outputs.
static void backward_to_first(const Work& w, int map, const Past& past) {
    auto* shared = reinterpret_cast<Decision*>(w.memory + w.plan.decision);
    for (int l = w.target(); l > 0; --l) {
        const LayerPlan& p = w.layer(l);
        if (w.team.rank == 0)
            *shared = l == w.target() ? route_target(w, map, past) : route_layer(w, l, shared->changed, past);
        if (w.team.rank == 0 && l == 1) mark_changes(w, l, *shared);
        w.team.meet();
        if (shared->dense)
            correlate_map_back(p, map, w.team.share(p.padded_h), w.memory + w.plan.map_gradient,
                               w.gradient(l));
        else
            add_buckets(p, w.team.share(p.padded_h), shared->routes, shared->afresh, w.gradient(l));
        w.team.meet();
    }
    const LayerPlan& first = w.layer(0);
    if (first.pool == Pool::average && w.team.rank == 0)
        spread_average(first, w.gradient(1), w.memory + w.plan.dense);
    if (first.pool == Pool::average) w.team.meet();
}
