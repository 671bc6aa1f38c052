// One image, one map: the objective and its gradient.

struct Value {
    float activation, preactivation;  // means over positions
    float peak;                       // the highest preactivation
    bool asleep;                      // a ReLU that is off everywhere
    bool flat;                        // the gradient is exactly zero
};

// What to do with a map that a ReLU silences everywhere.
enum class Silent { report, wake };  // wake: follow the highest preactivation

// The target's one map before its activation function, (positions); two layers or more.
// Algorithm: one dot product a position, several positions at a time, so that the weights are
// loaded once for all of them. Bound: loads, one per multiply-add.
template <int P>
static void dot_windows(const LayerPlan& p, const float* weights, float bias, const float* in,
                        const std::int32_t* from, float* map_values) {
    const std::int64_t pitch = std::int64_t(p.kernel_w) * p.in_padded;
    const std::int64_t line = std::int64_t(p.padded_w) * p.in_padded;
    const float* window[P];
    for (int k = 0; k < P; ++k) window[k] = in + from[k];
    Vec acc[P] = {};
    for (int y = 0; y < p.kernel_h; ++y)
        for (std::int64_t i = 0; i < pitch; i += kLanes) {
            const Vec w = load(weights + y * p.maps * pitch + i);
            for (int k = 0; k < P; ++k) acc[k] += w * load(window[k] + y * line + i);
        }
    const Vec all = sums<P>(acc) + splat(bias);
    for (int k = 0; k < P; ++k) map_values[k] = all[k];
}

static void correlate_target(const LayerPlan& p, Range positions, int map, const float* in,
                             float* map_values) {
    constexpr int together = kLanes < 8 ? kLanes : 8;
    const float* weights = p.rows + std::int64_t(map) * p.kernel_w * p.in_padded;
    int i = positions.begin;
    for (; i + together <= positions.end; i += together)
        dot_windows<together>(p, weights, p.bias[map], in, p.in_offset + i, map_values + i);
    for (; i < positions.end; ++i)
        dot_windows<1>(p, weights, p.bias[map], in, p.in_offset + i, map_values + i);
}

// The highest of the lanes to *value, and its place: the first of equal ones.
static std::int32_t first_of_highest(Vec highest, IVec where, float* value) {
    float heights[kLanes];
    std::int32_t places[kLanes];
    store(heights, highest);
    store(places, where);
    int best = 0;
    for (int i = 1; i < kLanes; ++i)
        if (heights[i] > heights[best] || (heights[i] == heights[best] && places[i] < places[best])) best = i;
    *value = heights[best];
    return places[best];
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
    value.asleep = p.activation == Activation::relu && !(activation > 0.0);
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
    IVec other = {};
    for (std::int64_t i = 0; i < pitch; i += kLanes) other |= load(values + i) != Vec{};
    return !any(other);
}

static Value evaluate_planes(const Plan& plan, float* memory, const float* image, int map,
                             Objective objective, Silent silent, float* gradient) {
    const LayerPlan& t = plan.layers[0];
    const std::int64_t taps = std::int64_t(t.in_channels) * t.kernel_h * t.kernel_w;
    const float* weights = t.raw_weights + map * taps;
    float *values = memory + plan.map_values, *map_gradient = memory + plan.map_gradient;
    load_planes(plan, image, memory + plan.planes);
    correlate_planes(t, weights, t.bias[map], memory + plan.planes, values);
    const Value value =
        weigh_positions(t, t.out_height, t.map_width, t.out_width, objective, silent, values, map_gradient);
    spread_map(t, map_gradient, memory + plan.spread);
    plane_gradients(plan, weights, memory + plan.spread, memory + plan.plane_gradient, gradient);
    return value;
}

// What is asked of an image.
struct Question {
    int map;
    Objective objective;
    Silent silent;
};

static Question* shared_question(const Work& w) {
    return reinterpret_cast<Question*>(w.memory + w.plan.question);
}

// Every thread's part of an evaluation, from the loaded image on; two layers or more.
static Value evaluate_together(const Work& w, const Question& ask, const Past& past, float* gradient) {
    const LayerPlan& t = w.layer(w.target());
    float* values = w.memory + w.plan.map_values;
    Value value{};
    forward_below(w);
    correlate_target(t, w.team.share(t.positions), ask.map, w.input(w.target()), values);
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
        value = evaluate_planes(w.plan, w.memory, image, ask.map, ask.objective, ask.silent, gradient);
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
    Past past{0};
    float* g = memory + plan.step;
    const Work w{plan, memory, Team{0, 1, &state}};
    const Value v = evaluate(w, image, {map, objective, Silent::report}, past, g);
    value[0] = v.activation, value[1] = v.preactivation;
    __builtin_memcpy(out, g, std::size_t(plan.pixels) * sizeof(float));
}
