// The ascent of one image, from start to end in this one function: pyoip/reference.py is its
// definition, line by line.

// Halvings of the step in a row without a gain above the tolerance that end an ascent.
constexpr int kQuietWindows = 3;

// Sums over whole vectors: images end in zeros up to the pitch.
PYOIP_INLINE float total(const float* a, std::int64_t pitch) {
    Vec even = {}, odd = {};
    std::int64_t i = 0;
    for (; i + 2 * kLanes <= pitch; i += 2 * kLanes) even += load(a + i), odd += load(a + i + kLanes);
    if (i < pitch) even += load(a + i);
    return sum(even + odd);
}

PYOIP_INLINE float dot(const float* a, const float* b, std::int64_t pitch) {
    Vec even = {}, odd = {};
    std::int64_t i = 0;
    for (; i + 2 * kLanes <= pitch; i += 2 * kLanes) {
        even += load(a + i) * load(b + i);
        odd += load(a + i + kLanes) * load(b + i + kLanes);
    }
    if (i < pitch) even += load(a + i) * load(b + i);
    return sum(even + odd);
}

static void constrain(const Plan& plan, const AscentSettings& s, float* x) {
    if (s.constraint == Constraint::clip) {
        for (std::int64_t i = 0; i < plan.pitch; i += kLanes)
            store(x + i, smaller(larger(load(x + i), splat(s.low)), splat(s.high)));
        clear(x + plan.pixels, plan.pitch - plan.pixels);
        return;
    }
    const auto count = float(plan.pixels);
    const Vec mean = splat(total(x, plan.pitch) / count);
    for (std::int64_t i = 0; i < plan.pitch; i += kLanes) store(x + i, load(x + i) - mean);
    clear(x + plan.pixels, plan.pitch - plan.pixels);
    const float deviation = __builtin_sqrtf(dot(x, x, plan.pitch) / count);
    const Vec scale = splat(deviation > 0.0f ? 1.0f / deviation : 0.0f);
    for (std::int64_t i = 0; i < plan.pitch; i += kLanes) store(x + i, load(x + i) * scale);
}

// Without its components that the constraint would take back.
static void make_tangent(const Plan& plan, const AscentSettings& s, const float* x, float* g) {
    if (s.constraint == Constraint::clip) {
        for (std::int64_t i = 0; i < plan.pitch; i += kLanes) {
            const Vec at = load(x + i), up = load(g + i);
            const IVec out = ((at >= splat(s.high)) & (up > Vec{})) | ((at <= splat(s.low)) & (up < Vec{}));
            store(g + i, select(out, Vec{}, up));
        }
        return;
    }
    const auto count = float(plan.pixels);
    const Vec mean = splat(total(g, plan.pitch) / count), along = splat(dot(g, x, plan.pitch) / count);
    for (std::int64_t i = 0; i < plan.pitch; i += kLanes)
        store(g + i, load(g + i) - (mean + along * load(x + i)));
    clear(g + plan.pixels, plan.pitch - plan.pixels);
}

// v <- momentum v + g / (rms(g) + 1e-7);  x <- x + size v
static void advance(const Plan& plan, float momentum, float size, const float* g, float* v, float* x) {
    const float rms = __builtin_sqrtf(dot(g, g, plan.pitch) / float(plan.pixels));
    const Vec keep = splat(momentum), scale = splat(1.0f / (rms + 1e-7f)), step = splat(size);
    for (std::int64_t i = 0; i < plan.pitch; i += kLanes) {
        const Vec velocity = keep * load(v + i) + scale * load(g + i);
        store(v + i, velocity);
        store(x + i, load(x + i) + step * velocity);
    }
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
                   const bool* stop) {
    const std::size_t bytes = std::size_t(plan.pixels) * sizeof(float);
    float *x = memory + plan.image, *v = memory + plan.velocity, *g = memory + plan.step;
    clear(x, plan.pitch), clear(v, plan.pitch), clear(g, plan.pitch);
    __builtin_memcpy(x, task.start, bytes);
    constrain(plan, s, x);

    const Silent silent = s.article ? Silent::report : Silent::wake;
    const int window = s.smooth > s.patience ? s.smooth : s.patience;
    Best best{-__builtin_inff(), 0.0f, 0.0f};
    Pace pace{task.step_size, 0.0f, 0, 0};
    Stop why = Stop::steps;
    int t = 0, snapshot = 0;
    *task.woke = -1;
    for (;; ++t) {
        const Value value = evaluate(plan, memory, x, task.map, s.objective, silent, g);
        const bool preactivation = s.objective == Objective::preactivation;
        task.history[t] = preactivation ? value.preactivation : value.activation;
        if (*task.woke < 0 && !value.asleep) *task.woke = t;
        const float awake = preactivation ? value.preactivation : value.activation;
        const float merit = !preactivation && value.asleep ? value.peak : awake;
        if (merit > best.merit) {
            best = {merit, value.activation, value.preactivation};
            __builtin_memcpy(task.image, x, bytes);
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

        if (!s.article) make_tangent(plan, s, x, g);
        advance(plan, s.article ? 0.0f : s.momentum, pace.size, g, v, x);
        if (s.smooth > 0 && (t + 1) % s.smooth == 0) blur_image(plan, x, memory + plan.blur);
        constrain(plan, s, x);
    }
    *task.activation = best.activation, *task.preactivation = best.preactivation;
    *task.steps = t, *task.stop = why;
    for (int i = t + 1; i <= s.steps; ++i) task.history[i] = __builtin_nanf("");
    for (; snapshot < s.snapshot_count; ++snapshot)
        __builtin_memcpy(task.snapshots + plan.pixels * snapshot, task.image, bytes);
}
