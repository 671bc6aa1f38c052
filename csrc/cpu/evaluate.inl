// One image, one map: the objective and its gradient, by one thread or by two (team.inl).
//
// The order of things: image, lower layers (forward.inl), the target's one map (dot.inl), its
// mean and derivatives, back to the first layer (conv_backward.inl) and to the image
// (image_gradient.inl). A first layer as the target goes its own way (first_layer.inl).

// The target's one map before its activation function, (positions); two layers or more.
static void correlate_target(const LayerPlan& p, Range rows, int map, const float* in, float* map_values) {
    const std::int64_t pitch = std::int64_t(p.kernel_w) * p.in_padded;
    const Dots d{p.kernel_h, p.kernel_w, p.in_padded, std::int64_t(p.padded_w) * p.in_padded, p.maps * pitch};
    const float* weights = p.rows + map * pitch;
    for (int y = rows.begin; y < rows.end; ++y) {
        const std::int32_t* at = p.in_offset + y * p.out_width;
        float* out = map_values + y * p.out_width;
        if (p.stride_w == 1)
            dot_row(d, weights, p.bias[map], in + at[0], p.out_width, out);
        else
            for (int x = 0; x < p.out_width; ++x) dot_row(d, weights, p.bias[map], in + at[x], 1, out + x);
    }
}

// Activates `values` (positions) in place and leaves in `gradient` the objective's derivative by
// each preactivation. Works in whole vectors: what lies behind is overwritten, and masked where it
// would count.
static Value weigh_positions(const LayerPlan& p, const Question& ask, float* values, float* gradient) {
    const int count = p.positions;
    const Vec slope = splat(p.slope), share = splat(float(1.0 / count));
    const bool linear = ask.objective == Objective::preactivation;
    const IVec lane = lane_numbers();
    Vec before = {}, after = {}, highest = splat(-__builtin_inff());
    IVec where = {}, slopes = {};
    for (int x = 0; x < count; x += kLanes) {
        const IVec used = lane < splat_int(count - x);
        const Vec z = load(values + x), a = activate(p.activation, slope, z);
        const Vec d = linear ? share : share * derivative(p.activation, slope, a);
        const IVec more = used & (z > highest);
        highest = select(more, z, highest), where = select(more, lane + splat_int(x), where);
        before += select(used, z, Vec{}), after += select(used, a, Vec{});
        slopes |= used & (d != Vec{});
        store(values + x, a), store(gradient + x, d);
    }
    const Vec both[2] = {after, before};
    const Vec means = sums<2>(both) * share;
    Value value{means[0], means[1], 0.0f, false, !any(slopes)};
    const std::int32_t top = first_of_highest(highest, where, &value.peak);
    value.asleep = slope_of(p.activation) == Slope::gate && !(means[0] > 0.0f);
    if (value.asleep && ask.silent == Silent::wake && !linear) {
        clear(gradient, count);
        gradient[top] = 1.0f;
        value.flat = false;
    }
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

// Whether the gradient must be made again, of all that is routed: where it has shrunk, rounding
// errors that it carried along may be most of it, or all.
static bool too_faint(const Plan& plan, const float* gradient, Past& past) {
    const float square = moments(plan, gradient).second;
    const bool again = past.age != 0 && !(square > kFaint * past.square);
    if (again) past.age = 0;
    if (past.age == 0) past.square = square;
    return again;
}

// Every thread's part of an evaluation, from the loaded image on; two layers or more.
static Value evaluate_together(const Work& w, const Question& ask, Past& past, float* gradient) {
    const LayerPlan& t = w.layer(w.target());
    float* values = w.memory + w.plan.map_values;
    Value value{};
    forward_below(w);
    correlate_target(t, w.team.share(t.out_height), ask.map, w.input(w.target()), values);
    w.team.meet();
    if (w.team.rank == 0) {
        value = weigh_positions(t, ask, values, w.memory + w.plan.map_gradient);
        w.team.state->flat = value.flat;
    }
    w.team.meet();
    if (w.team.state->flat) return value;
    do {
        backward_to_first(w, ask.map, past);
        backward_to_image(w, gradient);
        if (w.team.rank == 0) w.team.state->again = too_faint(w.plan, gradient, past);
        w.team.meet();
    } while (w.team.state->again);
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
    Past unused{};  // the first thread's counts
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
    Past past{};
    float* g = memory + plan.step;
    const Work w{plan, memory, Team{0, 1, &state}};
    const Value v = evaluate(w, own, {map, objective, Silent::report}, past, g);
    value[0] = v.activation, value[1] = v.preactivation;
    __builtin_memcpy(out, g, std::size_t(plan.pixels) * sizeof(float));
}
