// The ascent of one image, from start to end in this one function: pyoip/reference.py is its
// definition, line by line.

// Halvings of the step in a row without a gain above the tolerance that end an ascent.
constexpr int kQuietWindows = 3;

PYOIP_INLINE void end_in_zeros(const Plan& plan, float* x) {
    for (std::int64_t i = plan.pixels; i < plan.pitch; ++i) x[i] = 0.0f;
}

// m: the moments of x.
static void constrain(const Plan& plan, const AscentSettings& s, Sums m, float* x) {
    if (s.constraint == Constraint::clip) {
        for (std::int64_t i = 0; i < plan.pitch; i += kLanes)
            store(x + i, smaller(larger(load(x + i), splat(s.low)), splat(s.high)));
        return end_in_zeros(plan, x);
    }
    const auto count = double(plan.pixels);
    const double mean = m.first / count, variance = m.second / count - mean * mean;
    const Vec shift = splat(float(mean));
    const Vec scale = splat(variance > 0.0 ? 1.0f / __builtin_sqrtf(float(variance)) : 0.0f);
    for (std::int64_t i = 0; i < plan.pitch; i += kLanes) store(x + i, (load(x + i) - shift) * scale);
    end_in_zeros(plan, x);
}

// A start image's mean may be far from zero; later means are not, and the moments tell all.
static void centre(const Plan& plan, const AscentSettings& s, float* x) {
    if (s.constraint == Constraint::clip) return;
    const Vec mean = splat(float(moments(plan, x).first / double(plan.pixels)));
    for (std::int64_t i = 0; i < plan.pitch; i += kLanes) store(x + i, load(x + i) - mean);
    end_in_zeros(plan, x);
}

// Takes off the components that the constraint would take back.
static void make_tangent(const Plan& plan, const AscentSettings& s, const float* x, float* g) {
    if (s.constraint == Constraint::clip) {
        for (std::int64_t i = 0; i < plan.pitch; i += kLanes) {
            const Vec at = load(x + i), up = load(g + i);
            const IVec out = ((at >= splat(s.high)) & (up > Vec{})) | ((at <= splat(s.low)) & (up < Vec{}));
            store(g + i, select(out, Vec{}, up));
        }
        return end_in_zeros(plan, g);
    }
    const Sums parts = sum_pixels(plan, [&](std::int64_t i, Vec& sum, Vec& product) {
        const Vec up = load(g + i);
        sum += up, product += up * load(x + i);
    });
    const auto count = float(plan.pixels);
    const Vec mean = splat(parts.first / count), along = splat(parts.second / count);
    for (std::int64_t i = 0; i < plan.pitch; i += kLanes)
        store(g + i, load(g + i) - (mean + along * load(x + i)));
    end_in_zeros(plan, g);
}

// v <- momentum v + g / (rms(g) + 1e-7);  next <- x + size v. Returns the moments of next.
static Sums advance(const Plan& plan, float momentum, float size, const float* g, float* v, const float* x,
                    float* next) {
    const float rms = __builtin_sqrtf(moments(plan, g).second / float(plan.pixels));
    const Vec keep = splat(momentum), scale = splat(1.0f / (rms + 1e-7f)), step = splat(size);
    return sum_pixels(plan, [&](std::int64_t i, Vec& sum, Vec& squares) {
        const Vec velocity = keep * load(v + i) + scale * load(g + i);
        store(v + i, velocity);
        const Vec at = load(x + i) + step * velocity;
        store(next + i, at);
        sum += at, squares += at * at;
    });
}

// The 3x3 binomial blur of every channel, edges replicated; rows: (2, width).
static void blur_image(const Plan& plan, float* image, float* rows) {
    const int width = plan.width;
    const std::size_t bytes = std::size_t(width) * sizeof(float);
    float *above = rows, *here = rows + width;
    for (int c = 0; c < plan.channels; ++c) {
        float* plane = image + std::int64_t(c) * plan.height * width;
        __builtin_memcpy(above, plane, bytes);
        for (int y = 0; y < plan.height; ++y) {
            float* row = plane + std::int64_t(y) * width;
            const float* below = y + 1 < plan.height ? row + width : row;
            __builtin_memcpy(here, row, bytes);
            for (int x = 0; x < width; ++x) above[x] = 0.25f * (above[x] + below[x]) + 0.5f * here[x];
            for (int x = 0; x < width; ++x)
                row[x] =
                    0.25f * (above[x > 0 ? x - 1 : 0] + above[x + 1 < width ? x + 1 : x]) + 0.5f * above[x];
            float* old = above;
            above = here, here = old;
        }
    }
}

// The best image so far and what it is worth. While a map sleeps its highest preactivation,
// at most 0, is what counts, so that waking is always a gain.
struct Best {
    float merit, activation, preactivation;
};

// When to halve the step and when to stop, judged every `patience` steps.
struct Pace {
    float size, mark;
    int since, quiet;

    // True when converged: the merit's relative gain stayed small through kQuietWindows halvings.
    bool judge(const AscentSettings& s, int window, float merit) {
        if (++since < window) return false;
        since = 0;
        const float gain = merit - mark;
        mark = merit;
        if (gain > s.tolerance * __builtin_fabsf(merit)) {
            quiet = 0;
            return false;
        }
        size *= 0.5f;
        return ++quiet > kQuietWindows;
    }
};

static void ascend(const Plan& plan, float* memory, const AscentSettings& s, const AscentTask& task,
                   const bool* stop, TeamState* state) {
    TeamState alone{};
    Work w{plan, memory, state ? Team{0, 2, state} : Team{0, 1, &alone}};
    const std::size_t bytes = std::size_t(plan.pixels) * sizeof(float);
    // The best image is kept by writing the next one elsewhere, not by copying it.
    float *const one = memory + plan.images, *const two = one + plan.pitch, *x = one;
    const float* best_image = nullptr;
    float *v = memory + plan.velocity, *g = memory + plan.step;
    clear(one, 2 * plan.pitch), clear(v, plan.pitch), clear(g, plan.pitch);
    __builtin_memcpy(x, task.start, bytes);
    centre(plan, s, x);
    constrain(plan, s, moments(plan, x), x);

    const bool preactivation = s.objective == Objective::preactivation;
    const Question ask{task.map, s.objective, s.article ? Silent::report : Silent::wake};
    const int window = s.smooth > s.patience ? s.smooth : s.patience;
    Past past{};
    Best best{-__builtin_inff(), __builtin_nanf(""), __builtin_nanf("")};  // of no image, beyond float32
    Pace pace{task.step_size, 0.0f, 0, 0};
    Stop why = Stop::steps;
    int t = 0, snapshot = 0;
    *task.woke = -1;
    for (;; ++t) {
        const Value value = evaluate(w, x, ask, past, g);
        const float awake = preactivation ? value.preactivation : value.activation;
        task.history[t] = awake;
        if (*task.woke < 0 && !value.asleep) *task.woke = t;
        const float merit = !preactivation && value.asleep ? value.peak : awake;
        if (merit > best.merit) {
            best = {merit, value.activation, value.preactivation};
            best_image = x;
        }
        if (snapshot < s.snapshot_count && s.snapshots[snapshot] == t)
            __builtin_memcpy(task.snapshots + plan.pixels * snapshot++, x, bytes);
        if (t == 0) pace.mark = best.merit;
        if (value.flat)
            why = Stop::zero_gradient;
        else if (__atomic_load_n(stop, __ATOMIC_RELAXED))
            why = Stop::interrupted;
        else if (t > 0 && !s.article && pace.judge(s, window, best.merit))
            why = Stop::converged;
        if (why != Stop::steps || t == s.steps) break;
        if (w.team.is_slow(t)) {  // the bits are the same
            dismiss(state);
            state = nullptr;
            w.team = Team{0, 1, &alone};
        }

        if (!s.article) make_tangent(plan, s, x, g);
        float* next = x != best_image ? x : x == one ? two : one;
        Sums m = advance(plan, s.article ? 0.0f : s.momentum, pace.size, g, v, x, next);
        x = next;
        if (s.smooth > 0 && (t + 1) % s.smooth == 0) {
            blur_image(plan, x, memory + plan.blur);
            m = moments(plan, x);
        }
        constrain(plan, s, m, x);
    }
    if (state != nullptr) dismiss(state);
    if (best_image != nullptr) __builtin_memcpy(task.image, best_image, bytes);
    *task.activation = best.activation, *task.preactivation = best.preactivation;
    *task.steps = t, *task.stop = why;
    for (int i = t + 1; i <= s.steps; ++i) task.history[i] = __builtin_nanf("");
    for (; snapshot < s.snapshot_count; ++snapshot)
        __builtin_memcpy(task.snapshots + plan.pixels * snapshot, task.image, bytes);
}
