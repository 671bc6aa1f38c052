// One image, one map: the objective and its gradient.

// The target's one map before its activation function, (positions); two layers or more.
// Algorithm: one dot product a position. Where neighbouring windows of a row share columns, a
// column is loaded once for all windows that it is in.
// Bound: loads, one per multiply-add, or 1/2 for 3x3 windows.
static void dot_window(const LayerPlan& p, const float* weights, float bias, const float* in, float* value) {
    const std::int64_t pitch = std::int64_t(p.kernel_w) * p.in_padded;
    const std::int64_t line = std::int64_t(p.padded_w) * p.in_padded;
    Vec acc[2] = {};
    for (int y = 0; y < p.kernel_h; ++y)
        for (std::int64_t i = 0; i < pitch; i += kLanes)
            acc[i / kLanes % 2] += load(weights + y * p.maps * pitch + i) * load(in + y * line + i);
    *value = sum(acc[0] + acc[1]) + bias;
}

template <int P>
static void dot_neighbours(const LayerPlan& p, const float* weights, float bias, const float* in,
                           float* values) {
    constexpr int K = 3, N = P <= 4 ? 4 : 8;
    const std::int64_t step = p.in_padded, line = std::int64_t(p.padded_w) * step;
    Vec acc[N] = {};
    for (int y = 0; y < p.kernel_h; ++y)
        for (std::int64_t c = 0; c < step; c += kLanes) {
            const float *from = in + y * line + c, *row = weights + y * p.maps * K * step + c;
            Vec w[K];
            for (int k = 0; k < K; ++k) w[k] = load(row + k * step);
            unrolled<P + K - 1>([&](auto column) PYOIP_INLINED {
                constexpr int x = decltype(column)::value;
                const Vec at = in_register(load(from + x * step));
                for (int k = 0; k < K; ++k)
                    if (x >= k && x - k < P) acc[x - k] += w[k] * at;
            });
        }
    if constexpr (N <= kLanes) {
        const Vec all = sums<N>(acc) + splat(bias);
        for (int k = 0; k < P; ++k) values[k] = all[k];
    } else {
        for (int k = 0; k < P; ++k) values[k] = sum(acc[k]) + bias;
    }
}

static void correlate_target(const LayerPlan& p, Range rows, int map, const float* in, float* map_values) {
    constexpr int together = 8;
    const float* weights = p.rows + std::int64_t(map) * p.kernel_w * p.in_padded;
    const bool neighbours = p.kernel_w == 3 && p.stride_w == 1;
    for (int i = rows.begin * p.out_width; i < rows.end * p.out_width;) {
        const int left = p.out_width - i % p.out_width;
        const int count = neighbours ? smaller_of(together, left) : 1;
        if (neighbours)
            with_count<together>(count, [&](auto n) {
                dot_neighbours<decltype(n)::value>(p, weights, p.bias[map], in + p.in_offset[i],
                                                   map_values + i);
            });
        else
            dot_window(p, weights, p.bias[map], in + p.in_offset[i], map_values + i);
        i += count;
    }
}

// Activates `values` (rows x pitch, `width` of each row in use) in place and leaves in
// `gradient` the objective's derivative by each preactivation. Works in whole vectors: what
// lies behind a row is overwritten, and masked where it would count.
static Value weigh_positions(const LayerPlan& p, int rows, std::int64_t pitch, int width, Objective objective,
                             Silent silent, float* values, float* gradient) {
    const Vec slope = splat(p.slope);
    const IVec lane = lane_numbers();
    double activation = 0.0, preactivation = 0.0;
    Vec highest = splat(-__builtin_inff());
    IVec where = {};
    for (int y = 0; y < rows; ++y) {
        Vec before = {}, after = {};
        for (int x = 0; x < width; x += kLanes) {
            float* at = values + y * pitch + x;
            const IVec used = lane < splat_int(width - x);
            const Vec z = load(at), a = activate(p.activation, slope, z);
            const IVec more = used & (z > highest);
            highest = select(more, z, highest);
            where = select(more, lane + splat_int(std::int32_t(y * pitch) + x), where);
            before += select(used, z, Vec{}), after += select(used, a, Vec{});
            store(at, a);
        }
        preactivation += double(sum(before)), activation += double(sum(after));
    }
    const double count = double(rows) * width;
    Value value{float(activation / count), float(preactivation / count), 0.0f, false, false};
    const std::int32_t top = first_of_highest(highest, where, &value.peak);
    value.asleep = slope_of(p.activation) == Slope::gate && !(activation > 0.0);
    if (value.asleep && silent == Silent::wake && objective == Objective::activation) {
        clear(gradient, rows * pitch);
        gradient[top] = 1.0f;
        return value;
    }
    const Vec share = splat(float(1.0 / count));
    const bool linear = objective == Objective::preactivation;
    IVec slopes = {};
    for (int y = 0; y < rows; ++y)
        for (int x = 0; x < width; x += kLanes) {
            const std::int64_t at = y * pitch + x;
            const Vec d = linear ? share : share * derivative(p.activation, slope, load(values + at));
            slopes |= (lane < splat_int(width - x)) & (d != Vec{});
            store(gradient + at, d);
        }
    value.flat = !any(slopes);
    return value;
}

static bool all_zero(const float* values, std::int64_t pitch) {
    for (std::int64_t i = 0; i < pitch; i += kLanes)
        if (any(load(values + i) != Vec{})) return false;
    return true;
}

static Question* shared_question(const Work& w) {
    return reinterpret_cast<Question*>(w.memory + w.plan.question);
}

// Every thread's part of an evaluation, from the loaded image on; two layers or more.
static Value evaluate_together(const Work& w, const Question& ask, const Past& past, float* gradient) {
    const LayerPlan& t = w.layer(w.target());
    float* values = w.memory + w.plan.map_values;
    Value value{};
    forward_below(w);
    correlate_target(t, w.team.share(t.out_height), ask.map, w.input(w.target()), values);
    w.team.meet();
    if (w.team.rank == 0) {
        value = weigh_positions(t, 1, t.positions, t.positions, ask.objective, ask.silent, values,
                                w.memory + w.plan.map_gradient);
        w.team.state->flat = value.flat;
    }
    w.team.meet();
    if (w.team.state->flat) return value;
    backward_to_first(w, ask.map, past);
    backward_to_image(w, gradient);
    return value;
}

// gradient (pitch) of the objective, or of the highest preactivation of a map that is asleep
// and to be woken: planes (C, H, W) that end in zeros.
static Value evaluate(const Work& w, const float* image, const Question& ask, Past& past, float* gradient) {
    Value value;
    if (w.plan.layer_count == 1) {
        value = evaluate_planes(w.plan, w.memory, image, ask, gradient);
    } else {
        load_image(w.plan, image, w.memory);
        *shared_question(w) = ask;
        w.team.meet();
        value = evaluate_together(w, ask, past, gradient);
        past.age = value.flat ? 0 : (past.age + 1) % kRefresh;
        if (value.flat) clear(gradient, w.plan.pitch);
    }
    value.flat = value.flat || all_zero(gradient, w.plan.pitch);
    return value;
}

static void assist(const Plan& plan, float* memory, TeamState* state) {
    const Work w{plan, memory, Team{1, 2, state}};
    const Past unused{0};  // the first thread's
    for (;;) {
        w.team.meet();
        if (state->finished) return;
        evaluate_together(w, *shared_question(w), unused, memory + plan.step);
    }
}

static void gradient(const Plan& plan, float* memory, const float* image, int map, Objective objective,
                     float* value, float* out) {
    TeamState state{};
    float* own = memory + plan.images;  // with room behind it
    __builtin_memcpy(own, image, std::size_t(plan.pixels) * sizeof(float));
    Past past{0};
    float* g = memory + plan.step;
    const Work w{plan, memory, Team{0, 1, &state}};
    const Value v = evaluate(w, own, {map, objective, Silent::report}, past, g);
    value[0] = v.activation, value[1] = v.preactivation;
    __builtin_memcpy(out, g, std::size_t(plan.pixels) * sizeof(float));
}
